"""The pages of a listing, read in the order of thread ids; beside their text in memory that does not grow with it.

Knows: rows, and how to find those of the next threads in pages in another order. Does not know: Gmail, the store, or
what a listing is compared with.

A row is `thread mMessage`, `thread xMessage` for a message that the policy excludes by a label, or `thread hHistory`,
the newest history id. No id has a blank; a page has rows of one kind. The texts stay, 36 bytes a row; a part of the
rows at a time is sorted. Rows may come twice: Gmail's pages shift while they are read.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence, Set

from mailmirror.model import HistoryId, MessageId, ThreadId
from mailmirror.planner import Manifest, manifest

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
    """What comes after a thread's rows and before the next one's."""
    return f"{thread_id} \U0010ffff"


def _span(text: str) -> tuple[str, MessageId, MessageId] | None:
    tagged = [row.partition(" ")[2] for row in text.split("\n")]
    return (text, min(tagged)[1:], max(tagged)[1:]) if tagged[0][:1] in ("m", "x") else None


class Pages:
    """A complete listing."""

    def __init__(self, texts: Sequence[str], *, part_rows: int = PART_ROWS) -> None:
        """Take the pages as listed, rows divided by line ends."""
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
