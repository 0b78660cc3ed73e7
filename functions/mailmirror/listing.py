"""The listing of a run: pages of Gmail's complete listing under a policy, kept as documents until the run is closed.

Knows: what is listed, how a page becomes a document, and how to read pages in the order of thread ids, beside their
text in memory that does not grow with it. Does not know: what it is compared with. Law 5: the page token is in the run
committed with the page.

Listed are messages, once for each of the policy's labels, as Gmail asks for all of them at once (users.messages.list);
then those that a label excludes, drafts too, as a listing does not tell labels; then threads with history ids, if
labels are compared.

A row is `thread mMessage`, `thread xMessage` for a message that the policy excludes by a label, or `thread hHistory`,
the newest history id. No id has a blank; a page has rows of one kind. The texts stay, 36 bytes a row; a part of the
rows at a time is sorted. Rows may come twice: Gmail's pages shift while they are read.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import replace

from mailmirror import labels, planner, tidying
from mailmirror.errors import PageTokenExpired
from mailmirror.fetch import bring_labels
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.model import HistoryId, LabelId, MessageId, Run, ThreadId
from mailmirror.planner import Manifest, manifest
from mailmirror.slice import Path, Write

# Documents in one call.
READ = 100
# Sorted at a time, besides the rest of the last thread; at the most twice as many are gathered.
PART_ROWS = 8_000


def message_row(thread_id: ThreadId, message_id: MessageId) -> str:
    """Return the row of a listed message."""
    return f"{thread_id} m{message_id}"


def excluded_row(thread_id: ThreadId, message_id: MessageId) -> str:
    """Return the row of a message excluded by a label."""
    return f"{thread_id} x{message_id}"


def history_row(thread_id: ThreadId, history_id: HistoryId) -> str:
    """Return the row of a listed thread."""
    return f"{thread_id} h{history_id}"


def _end(thread_id: ThreadId) -> str:
    return f"{thread_id} \U0010ffff"


def _span(text: str) -> tuple[str, MessageId, MessageId] | None:
    tagged = [row.partition(" ")[2] for row in text.split("\n")]
    return (text, min(tagged)[1:], max(tagged)[1:]) if tagged[0][:1] in ("m", "x") else None


class Pages:
    """A complete listing, in pages of rows divided by line ends."""

    def __init__(self, texts: Sequence[str], *, part_rows: int = PART_ROWS) -> None:
        self._texts = texts
        self._part_rows = part_rows
        # The rows of the threads after `_after` up to `_upto`, None: the last.
        self._rows: list[str] = []
        self._after: ThreadId | None = None
        self._upto: ThreadId | None = None
        self._spans: list[tuple[str, MessageId, MessageId]] = []

    def ahead(self, after: ThreadId, limit: int) -> tuple[list[ThreadId], ThreadId | None]:
        """Return up to `limit` listed threads after one, by id, and the id up to which these are all; None: the end."""
        if self._after is None or after < self._after or (self._upto is not None and after >= self._upto):
            self._load(after)
        found: list[ThreadId] = []
        position = bisect_right(self._rows, _end(after))
        while position < len(self._rows):
            if len(found) == limit:
                return found, found[-1]
            found.append(self._rows[position].partition(" ")[0])
            position = bisect_right(self._rows, _end(found[-1]), position)
        return found, self._upto

    def between(self, after: ThreadId, upto: ThreadId, mirrored: Mapping[ThreadId, Collection[MessageId]]) -> Manifest:
        """Return what the listing says of the threads with after < id <= upto, which `ahead` has told.

        `mirrored`: those of them in the mirror, with their messages.
        """
        listed: list[tuple[MessageId, ThreadId]] = []
        excluded: set[MessageId] = set()
        history_ids: dict[ThreadId, HistoryId] = {}
        for index in range(bisect_right(self._rows, _end(after)), bisect_right(self._rows, _end(upto))):
            thread_id, _, tagged = self._rows[index].partition(" ")
            match tagged[0]:
                case "m":
                    listed.append((tagged[1:], thread_id))
                case "x":
                    excluded.add(tagged[1:])
                case _:
                    history_ids[thread_id] = max(history_ids.get(thread_id, 0), int(tagged[1:]))
        # Moved while it was listed, a message is in two threads: the mirror's counts.
        here = [(i, thread_id) for i, thread_id in listed if i in mirrored.get(thread_id, ())]
        found = manifest([*listed, *here], excluded, history_ids)
        absent = {i for ids in mirrored.values() for i in ids} - {i for i, _ in here}
        if not absent:
            return found
        return Manifest(found.threads, {**self._places(absent), **found.place}, history_ids)

    def _places(self, wanted: Set[MessageId]) -> dict[MessageId, ThreadId]:
        if not self._spans:
            self._spans = [span for text in self._texts if (span := _span(text)) is not None]
        places: dict[MessageId, ThreadId] = {}
        excluded: set[MessageId] = set()
        order = sorted(wanted)
        for text, first, last in self._spans:
            # Ids mostly grow with time: few pages can have these messages.
            if bisect_left(order, first) == bisect_right(order, last):
                continue
            for row in text.split("\n"):
                thread_id, _, tagged = row.partition(" ")
                message_id = tagged[1:]
                if message_id in wanted:
                    if tagged[0] == "m":
                        places[message_id] = thread_id
                    else:
                        excluded.add(message_id)
        return {i: thread_id for i, thread_id in places.items() if i not in excluded}

    def _load(self, after: ThreadId) -> None:
        low, high = _end(after), None
        rows: list[str] = []
        most = 2 * self._part_rows
        # The oldest first: ids grow with time, so little is dropped again.
        for text in reversed(self._texts):
            page = text.split("\n")
            rows += [row for row in page if low < row] if high is None else [row for row in page if low < row < high]
            if len(rows) > most:
                rows, high = self._smallest(rows, high)
                # For a thread longer than a part.
                most = max(most, 2 * len(rows))
        rows, high = self._smallest(rows, high)
        self._rows, self._after = rows, after
        self._upto = None if high is None else high.partition(" ")[0]

    def _smallest(self, rows: list[str], high: str | None) -> tuple[list[str], str | None]:
        rows = sorted(set(rows))
        if len(rows) > self._part_rows:
            high = _end(rows[self._part_rows - 1].partition(" ")[0])
            del rows[bisect_left(rows, high) :]
        return rows, high


def page_path(run: Run, number: int) -> Path:
    """Return a page's path."""
    return ("runs", run.id, "pages", f"{number:06d}")


def next_page(hold: Hold, run: Run) -> tuple[Run, list[Write]]:
    """List one more page; return the run after it, and its document.

    A refused page token starts again; older documents stay, before `first_page`, until the run is closed.
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
    return labels.is_listed(known, label_id) or (known.get(label_id) == labels.ABSENT and tidying.late(hold, label_id))


def _rows(hold: Hold, run: Run, label_ids: tuple[LabelId, ...]) -> tuple[list[str], str | None]:
    spam_trash, since = run.rule.include_spam_trash, run.rule.since
    if run.listing == "threads":
        threads = hold.gmail.list_threads(
            run.page_token, include_spam_trash=spam_trash, label_ids=label_ids, since=since
        )
        return [history_row(thread, history) for thread, history in threads.refs], threads.next_page_token
    messages = hold.gmail.list_messages(run.page_token, include_spam_trash=spam_trash, label_ids=label_ids, since=since)
    row = message_row if run.listing == "messages" else excluded_row
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
    """Return the listing from its documents. Raises `PageTokenExpired`: an older version's prove nothing."""
    texts: list[str] = []
    for first in range(run.first_page, run.pages, READ):
        hold.keep()
        paths = [page_path(run, number) for number in range(first, min(first + READ, run.pages))]
        found = hold.documents(paths)
        if any("lines" not in found[path] for path in paths):
            raise PageTokenExpired("The listing was begun by an older version.")
        texts += [found[path]["lines"] for path in paths]
    return Pages(texts)
