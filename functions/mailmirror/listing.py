"""The listing of a run: pages of Gmail's complete listing, kept as manifest documents and read back as one manifest.

Knows: what is listed and in which order, and how a page becomes a document. Does not know: what the listing is compared
with. Law 5: the page token is in the run that is committed together with the page.

Listed are all messages; then drafts, if the policy leaves them out, because a listing does not tell labels; then
threads with their history ids, if labels are to be compared.
"""

from collections.abc import Iterator
from dataclasses import replace

from mailmirror import planner
from mailmirror.errors import PageTokenExpired
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.model import HistoryId, MessageId, Run, ThreadId
from mailmirror.planner import Manifest
from mailmirror.slice import Path, Write

# Manifest documents read in one call.
READ = 100


def page_path(run: Run, number: int) -> Path:
    """Return the path of a manifest document."""
    return ("runs", run.id, "pages", f"{number:06d}")


def next_page(hold: Hold, run: Run) -> tuple[Run, list[Write]]:
    """List one more page.

    Returns:
        The run as it is after this page, and the manifest document. A page token that Gmail refuses starts the listing
        again; the documents of the one before stay until the run is closed, outside `first_page` to `pages`.
    """
    spam_trash = hold.mailbox.policy.include_spam_trash
    try:
        if run.listing == "threads":
            threads = hold.gmail.list_threads(run.page_token, include_spam_trash=spam_trash)
            rows, token = [f"{thread} {history}" for thread, history in threads.refs], threads.next_page_token
        else:
            only = ("DRAFT",) if run.listing == "drafts" else ()
            messages = hold.gmail.list_messages(run.page_token, include_spam_trash=spam_trash, label_ids=only)
            rows, token = [f"{message} {thread}" for message, thread in messages.refs], messages.next_page_token
    except PageTokenExpired:
        log("listing_restarted", hold.mailbox.email_address, run=run.id)
        return replace(run, listing="messages", page_token=None, first_page=run.pages, listed=0), []
    # One text field instead of arrays: an indexed array costs an index entry for each element.
    page = Write("put", page_path(run, run.pages), {"listing": run.listing, "rows": "\n".join(rows)})
    counted = {"messages": len(rows), "drafts": -len(rows), "threads": 0}[run.listing]
    after = replace(run, pages=run.pages + 1, page_token=token, listed=run.listed + counted)
    return (after if token is not None else _next_listing(hold, after)), [page]


def _next_listing(hold: Hold, run: Run) -> Run:
    if run.listing == "messages" and not hold.mailbox.policy.drafts:
        return replace(run, listing="drafts")
    if run.listing != "threads" and planner.compares(run):
        return replace(run, listing="threads")
    return replace(run, stage="planning", listed_at=hold.clock.now(), total=0, done=0, planned_units=0)


def read_manifest(hold: Hold, run: Run) -> Manifest:
    """Return the complete listing, read back from its documents: one read for 500 messages."""
    messages: list[tuple[MessageId, ThreadId]] = []
    drafts: set[MessageId] = set()
    history_ids: dict[ThreadId, HistoryId] = {}
    for listing, rows in _pages(hold, run):
        pairs = [row.split(" ") for row in rows.split("\n") if row]
        if listing == "messages":
            messages += [(message, thread) for message, thread in pairs]
        elif listing == "drafts":
            drafts.update(message for message, _ in pairs)
        else:
            history_ids.update((thread, int(history)) for thread, history in pairs)
    return planner.manifest(messages, drafts, history_ids)


def _pages(hold: Hold, run: Run) -> Iterator[tuple[str, str]]:
    for first in range(run.first_page, run.pages, READ):
        hold.keep()
        paths = [page_path(run, number) for number in range(first, min(first + READ, run.pages))]
        found = hold.documents(paths)
        for path in paths:
            yield found[path]["listing"], found[path]["rows"]
