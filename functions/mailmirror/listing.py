"""The listing of a run: pages of Gmail's complete listing under a policy, kept as documents until the run is closed.

Knows: what is listed and in which order, and how a page becomes a document. Does not know: what the listing is compared
with. Law 5: the page token is in the run that is committed together with the page.

Listed are all messages that labels and date let through: once for each of the policy's labels, because Gmail's own
parameter asks for all labels at once (users.messages.list). Then the messages that a label excludes, drafts among them,
because a listing does not tell labels. Then threads with their history ids, if labels are to be compared.
"""

from dataclasses import replace

from mailmirror import pages, planner
from mailmirror.errors import PageTokenExpired
from mailmirror.fetch import bring_labels
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.model import LabelId, Run
from mailmirror.pages import Pages
from mailmirror.slice import Path, Write

# Page documents read in one call.
READ = 100


def page_path(run: Run, number: int) -> Path:
    """Return the path of a page's document."""
    return ("runs", run.id, "pages", f"{number:06d}")


def next_page(hold: Hold, run: Run) -> tuple[Run, list[Write]]:
    """List one more page.

    Returns:
        The run as it is after this page, and the page's document. A page token that Gmail refuses starts the listing
        again; the documents of the one before stay until the run is closed, outside `first_page` to `pages`.
    """
    label_ids = _scopes(run)[run.scope]
    if run.page_token is None and not _lists(hold, run, label_ids):
        return _next_scope(hold, run), []
    try:
        rows, token = _rows(hold, run, label_ids)
    except PageTokenExpired:
        log("listing_restarted", hold.mailbox.email_address, run=run.id)
        return replace(run, listing="messages", scope=0, page_token=None, first_page=run.pages, listed=0), []
    # One text field instead of an array: an indexed array costs an index entry for each element.
    page = Write("put", page_path(run, run.pages), {"lines": "\n".join(rows)})
    counted = len(rows) if run.listing == "messages" else 0
    after = replace(run, pages=run.pages + 1, page_token=token, listed=run.listed + counted)
    return (after if token is not None else _next_scope(hold, after)), [page]


def _scopes(run: Run) -> list[tuple[LabelId, ...]]:
    """Return the labels that narrow the listing in hand, for each of the times it is read."""
    policy = run.policy
    if run.listing != "excluded":
        return [(label,) for label in sorted(policy.label_ids)] or [()]
    left_out = policy.excluded_labels() - (frozenset() if policy.include_spam_trash else {"SPAM", "TRASH"})
    within = policy.label_ids if len(policy.label_ids) == 1 else ()
    return [(*within, label) for label in sorted(left_out)]


def _lists(hold: Hold, run: Run, label_ids: tuple[LabelId, ...]) -> bool:
    """Return whether there is anything to list by these labels.

    Gmail refuses to list by a label that somebody has deleted, and shows trash to who lists by that label.
    """
    if run.listing != "excluded" and run.policy.excluded_labels().intersection(label_ids):
        return False
    named = {*run.policy.label_ids, *run.policy.exclude_label_ids}.intersection(label_ids)
    if named:
        bring_labels(hold)
    return all(hold.mailbox.labels.get(label) for label in named)


def _rows(hold: Hold, run: Run, label_ids: tuple[LabelId, ...]) -> tuple[list[str], str | None]:
    spam_trash, since = run.policy.include_spam_trash, run.policy.since
    if run.listing == "threads":
        threads = hold.gmail.list_threads(
            run.page_token, include_spam_trash=spam_trash, label_ids=label_ids, since=since
        )
        return [pages.history_row(thread, history) for thread, history in threads.refs], threads.next_page_token
    messages = hold.gmail.list_messages(run.page_token, include_spam_trash=spam_trash, label_ids=label_ids, since=since)
    row = pages.message_row if run.listing == "messages" else pages.excluded_row
    return [row(thread, message) for message, thread in messages.refs], messages.next_page_token


def _next_scope(hold: Hold, run: Run) -> Run:
    after = replace(run, scope=run.scope + 1, page_token=None)
    if after.scope < len(_scopes(after)):
        return after
    after = replace(after, scope=0)
    if after.listing == "messages":
        after = replace(after, listing="excluded")
        if _scopes(after):
            return after
    if after.listing == "excluded" and planner.compares(after):
        return replace(after, listing="threads")
    return replace(after, stage="planning", listed_at=hold.clock.now(), listed=0, total=0, done=0, planned_units=0)


def read(hold: Hold, run: Run) -> Pages:
    """Return the complete listing, read back from its documents: one read for 500 messages.

    Raises:
        PageTokenExpired: an older version of Mailmirror wrote some of them, and nothing can be concluded from those.
    """
    texts: list[str] = []
    for first in range(run.first_page, run.pages, READ):
        hold.keep()
        paths = [page_path(run, number) for number in range(first, min(first + READ, run.pages))]
        found = hold.documents(paths)
        if any("lines" not in found[path] for path in paths):
            raise PageTokenExpired("The listing was begun by an older version.")
        texts += [found[path]["lines"] for path in paths]
    return Pages(texts)
