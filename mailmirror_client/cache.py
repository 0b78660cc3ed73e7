"""A cache of one mailbox in a SQLite file that stays equal to its mirror, whatever happens to whoever keeps it.

Knows: how a copy is built (the cursor first, then a listing, then the deltas after the cursor), what a delta needs, and
when to begin anew. Does not know: HTTP (`reader`), tables (`copies`).

Promise: after `catch_up` the messages, the thread and the labels of each, and its headers, snippet, time and size are
the mirror's. A copy that is being built is seen by nobody before it is complete. Each delta is applied with the cursor
behind it in one transaction: who dies at any moment goes on there, and no delta is left out or applied twice.

Why it converges: what is listed or fetched is never older than the deltas applied before, and may be newer. Replayed on
it, a label ends as its last change left it; an addition fetches again; a deletion names the thread it was deleted from.
Messages are listed, not threads: a message keeps its place in the listing, a thread that gets mail does not.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from mailmirror_client.copies import NEEDED, Applied, Copies, Copy, Overtaken
from mailmirror_client.reader import CursorExpired, Delta, Document, Reader
from mailmirror_client.service import ServiceError

# Kept unless others are asked for; they do not change as long as the message is mirrored.
FIELDS = ("headers", "snippet", "sizeEstimate")

# Fetched messages are safe after so many: who is killed again and again gets on all the same.
_FETCHED_AT_ONCE = 25
# Of one thread: from then on it is read as a whole.
_WORTH_A_THREAD = 3
_MOST_TRIES = 3


class Cache:
    """A mailbox's messages in a file; for one thread. Others, in any process, open the file by a `Cache` of their own.

    Example:
        with Cache("ada.sqlite", reader) as cache:
            cache.catch_up()
            for message in cache.labelled("INBOX"):
                print(message["headers"]["subject"])
    """

    def __init__(
        self, path: str | Path, reader: Reader, *, fields: Iterable[str] = FIELDS, applied: Applied | None = None
    ) -> None:
        """Open a file, or make it.

        Args:
            path: of the file.
            reader: of the mailbox.
            fields: of messages, to keep; others than before make the cache anew. What is not in `FIELDS`, a body for
                instance, is as it was when it came.
            applied: called with each delta within the transaction that applies it: what it writes into this database
                is written exactly once.

        Raises:
            ValueError: the file is another mailbox's, or of another version.
        """
        self._reader = reader
        self._fields = tuple(dict.fromkeys([*NEEDED, *fields]))
        self._applied = applied
        self._copies = Copies(path, reader.mailbox, self._fields)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._copies.close()

    # Keep it equal

    def catch_up(self) -> None:
        """Make it equal to the mirror as of now, from nothing where it has to be.

        Raises:
            ServiceError: the mailbox is unknown (404) or being deleted (409), or not reached; what the cache has stays.
            DeltaMissing: the log has a hole.
        """
        for _ in self._catch_up():
            pass

    def follow(self, *, stream: bool = True) -> Iterator[Delta]:
        """Keep on, for ever: yield each delta after it was applied; over server-sent events or by pages that wait.

        Raises as `catch_up`.
        """
        while True:
            yield from self._catch_up()
            copy = self._copies.newest()
            # Another process may have begun anew.
            if copy is None or copy.stage != "complete":
                continue
            try:
                for delta in self._reader.follow(copy.cursor, stream=stream):
                    if self._apply(copy, delta):
                        yield delta
            except (CursorExpired, Overtaken):
                continue

    def rebuild(self) -> None:
        """Begin a new copy; the next `catch_up` builds it, and until then the old one is what is seen."""
        self._copies.begin(self._reader.latest_cursor())

    # What an application asks

    def messages(self) -> Iterator[Document]:
        """Yield all messages, the newest first, with their fields, `id`, `threadId`, `labelIds` and `internalDate`."""
        return self._copies.found("")

    def labelled(self, label_id: str) -> Iterator[Document]:
        """Yield those with a label."""
        return self._copies.found("WHERE EXISTS (SELECT 1 FROM json_each(labels) WHERE value = ?)", label_id)

    def thread(self, thread_id: str) -> list[Document]:
        """Return the messages of a thread, the oldest first; none where there is no such one."""
        return list(self._copies.found("WHERE thread = ?", thread_id))[::-1]

    def threads(self) -> dict[str, list[str]]:
        """Return the threads, the one with the newest message first, and the ids of their messages, oldest first."""
        return self._copies.threads()

    def message(self, message_id: str) -> Document | None:
        """Return a message, None where there is no such one."""
        return next(self._copies.found("WHERE id = ?", message_id), None)

    # How

    def _catch_up(self) -> Iterator[Delta]:
        tries = 0
        while True:
            copy = self._copies.newest()
            try:
                if copy is None:
                    self.rebuild()
                elif copy.stage == "listing":
                    self._list(copy)
                else:
                    page = self._reader.deltas(copy.cursor)
                    for delta in page.deltas:
                        if self._apply(copy, delta):
                            yield delta
                    if not page.more:
                        if copy.stage == "following":
                            self._copies.complete(copy)
                        return
            except Overtaken:
                continue
            except ServiceError as error:
                # Or a cursor or page token that is of another time: it would be refused for ever.
                if error.status != "INVALID_ARGUMENT" and not isinstance(error, CursorExpired):
                    raise
                # Twice in one go: the mailbox was connected anew meanwhile. More often: there is no log to follow.
                tries += 1
                if tries == _MOST_TRIES:
                    raise
                self.rebuild()

    def _list(self, copy: Copy) -> None:
        token = copy.page
        for page in self._reader.pages("messages", {"limit": 100, "fields": self._fields}, token):
            self._copies.take(copy, token, page)
            token = page.token

    def _apply(self, copy: Copy, delta: Delta) -> bool:
        """Apply a delta and return whether it had an effect: none has one twice."""
        if not self._copies.is_next(copy, delta):
            return False
        self._fetch(copy, delta)
        return self._copies.apply(copy, delta, self._applied)

    def _fetch(self, copy: Copy, delta: Delta) -> None:
        """Lay by what a delta adds, some at a time."""
        there = self._copies.fetched(copy, delta)
        threads: dict[str, dict[str, None]] = {}
        for change in delta.changes:
            if change.type == "messageAdded" and change.message_id not in there:
                threads.setdefault(change.thread_id, {})[change.message_id] = None
        some: dict[str, Document | None] = {}
        for thread_id, message_ids in threads.items():
            found = self._thread(thread_id) if len(message_ids) >= _WORTH_A_THREAD else {}
            for message_id in message_ids:
                some[message_id] = found[message_id] if message_id in found else self._message(message_id)
                if len(some) == _FETCHED_AT_ONCE:
                    self._copies.fetch(copy, delta, some)
                    some = {}
        if some:
            self._copies.fetch(copy, delta, some)

    def _thread(self, thread_id: str) -> dict[str, Document]:
        try:
            thread = self._reader.thread(thread_id, fields=self._fields)
        except ServiceError as error:
            if error.status == "NOT_FOUND":
                return {}
            raise
        return {document["id"]: document for document in thread["messages"]}

    def _message(self, message_id: str) -> Document | None:
        try:
            return self._reader.message(message_id, fields=self._fields)
        except ServiceError as error:
            # Said by the function itself: a 404 of anybody else on the way does not mean that mail is gone.
            if error.status == "NOT_FOUND":
                return None
            raise
