"""The listing of a run: pages of Gmail's complete listing under a policy, kept as documents until the run is closed.

Knows: what is listed, and how a page becomes a document. Does not know: what it is compared with. Law 5: the page token
is in the run committed with the page.

Listed are messages, once for each of the policy's labels, as Gmail asks for all of them at once (users.messages.list);
then those that a label excludes, drafts too, as a listing does not tell labels; then threads with history ids, if
labels are compared.
"""

from dataclasses import replace

from mailmirror import ghosts, labels, pages, planner
from mailmirror.errors import PageTokenExpired
from mailmirror.fetch import bring_labels
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.model import LabelId, Run
from mailmirror.pages import Pages
from mailmirror.slice import Path, Write

# Documents in one call.
READ = 100


def page_path(run: Run, number: int) -> Path:
    """Return a page's path."""
    return ("runs", run.id, "pages", f"{number:06d}")


def next_page(hold: Hold, run: Run) -> tuple[Run, list[Write]]:
    """List one more page.

    Returns:
        The run after it, and its document. A refused page token starts again; older documents stay, before
        `first_page`, until the run is closed.
    """
    label_ids = _scopes(run)[run.scope]
    if run.page_token is None and not _lists(hold, run, label_ids):
        return _next_scope(hold, run), []
    try:
        rows, token = _rows(hold, run, label_ids)
    except PageTokenExpired:
        log("listing_restarted", hold.mailbox.email_address, run=run.id)
        again = replace(run, listing="messages", scope=0, page_token=None, first_page=run.pages, listed=0)
        return replace(again, since=hold.policy.since), []
    # One text: arrays cost index entries.
    page = Write("put", page_path(run, run.pages), {"lines": "\n".join(rows)})
    counted = len(rows) if run.listing == "messages" else 0
    after = replace(run, pages=run.pages + 1, page_token=token, listed=run.listed + counted)
    return (after if token is not None else _next_scope(hold, after)), [page]


def _scopes(run: Run) -> list[tuple[LabelId, ...]]:
    """Return the labels of each listing."""
    policy = run.rule
    if run.listing != "excluded":
        return [(label,) for label in sorted(policy.label_ids)] or [()]
    left_out = policy.excluded_labels() - (frozenset() if policy.include_spam_trash else {"SPAM", "TRASH"})
    within = policy.label_ids if len(policy.label_ids) == 1 else ()
    return [(*within, label) for label in sorted(left_out)]


def _lists(hold: Hold, run: Run, label_ids: tuple[LabelId, ...]) -> bool:
    """Return whether to list by labels: Gmail refuses a deleted one, and shows trash by TRASH."""
    if run.listing != "excluded" and run.policy.excluded_labels().intersection(label_ids):
        return False
    named = {*run.policy.label_ids, *run.policy.exclude_label_ids}.intersection(label_ids)
    if named:
        bring_labels(hold)
    return all(_is_there(hold, label) for label in sorted(named))


def _is_there(hold: Hold, label_id: LabelId) -> bool:
    """Return whether there is such a label: what its messages are not listed by would leave the mirror."""
    known = hold.mailbox.labels
    return labels.is_listed(known, label_id) or (known.get(label_id) == labels.ABSENT and ghosts.late(hold, label_id))


def _rows(hold: Hold, run: Run, label_ids: tuple[LabelId, ...]) -> tuple[list[str], str | None]:
    spam_trash, since = run.rule.include_spam_trash, run.rule.since
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
    """Return the listing from its documents: one read for 500 messages.

    Raises:
        PageTokenExpired: an older version wrote some, which prove nothing.
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
