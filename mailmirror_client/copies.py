"""The SQLite file of a cache: copies of a mailbox, of which the complete one is seen.

Knows: tables and transactions, and what a listing's page and a delta do to a copy. Does not know: where they come from,
or which comes next (`cache`).

Promise: a page with the token behind it, a delta with the cursor behind it, and the change from one copy to the next
are one transaction each. Any number of processes may write: who comes late with what another did is `Overtaken`.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mailmirror_client.reader import Change, Delta, Document, Listed

# Of a message, in columns of their own; Gmail never changes internalDate.
NEEDED = ("threadId", "labelIds", "internalDate")

_VERSION = 1
_SCHEMA = (
    # AUTOINCREMENT: a number never is another copy's later. `page`: where the listing goes on.
    """CREATE TABLE IF NOT EXISTS copies (
        number INTEGER PRIMARY KEY AUTOINCREMENT, mailbox TEXT NOT NULL, fields TEXT NOT NULL,
        stage TEXT NOT NULL CHECK (stage IN ('listing', 'following', 'complete')),
        page TEXT, cursor TEXT NOT NULL, seq INTEGER)""",
    """CREATE TABLE IF NOT EXISTS kept (
        copy INTEGER NOT NULL, id TEXT NOT NULL, thread TEXT NOT NULL, at TEXT NOT NULL, labels TEXT NOT NULL,
        document TEXT NOT NULL, PRIMARY KEY (copy, id)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS kept_threads ON kept (copy, thread)",
    "CREATE INDEX IF NOT EXISTS kept_times ON kept (copy, at, id)",
    # What a delta adds, fetched and not yet applied; NULL: it was gone.
    """CREATE TABLE IF NOT EXISTS fetched (
        copy INTEGER NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL, document TEXT,
        PRIMARY KEY (copy, seq, id)) WITHOUT ROWID""",
    """CREATE VIEW IF NOT EXISTS messages AS
        SELECT kept.id, kept.thread, kept.at, kept.labels, kept.document
        FROM kept JOIN copies ON copies.number = kept.copy WHERE copies.stage = 'complete'""",
)
_PATIENCE_SECONDS = 60.0

Applied = Callable[[sqlite3.Connection, Delta], object]
Stage = Literal["listing", "following", "complete"]


class DeltaMissing(Exception):
    """The delta log left out a delta, which it never does; nothing behind it was applied. `Cache.rebuild` helps."""


class Overtaken(Exception):
    """Another process went on with this file meanwhile."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of the mailbox.

    Attributes:
        page: the token of the listing's next page; None: its first.
        cursor: deltas up to it are applied.
        seq: of the last one; None before the first.
    """

    number: int
    stage: Stage
    page: str | None
    cursor: str
    seq: int | None


class Copies:
    """The file; for one thread."""

    def __init__(self, path: str | Path, mailbox: str, fields: Sequence[str]) -> None:
        """Open it, or make it.

        Raises:
            ValueError: it is another mailbox's, or of another version.
        """
        self._mailbox = mailbox
        self._fields = ",".join(fields)
        # Transactions begin and end where this says so.
        self._database = sqlite3.connect(path, timeout=_PATIENCE_SECONDS, isolation_level=None)
        try:
            self._prepare()
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close it."""
        self._database.close()

    def newest(self) -> Copy | None:
        """Return the copy to go on with: the one being built, or else the complete one."""
        row = self._database.execute(
            "SELECT number, stage, page, cursor, seq FROM copies WHERE fields = ? ORDER BY number DESC LIMIT 1",
            (self._fields,),
        ).fetchone()
        return None if row is None else Copy(*row)

    def begin(self, cursor: str) -> None:
        """Begin a copy, from a cursor taken before anything is listed; another one begun is dropped."""
        with self._transaction():
            self._drop("stage != 'complete'")
            self._database.execute(
                "INSERT INTO copies (mailbox, fields, stage, cursor) VALUES (?, ?, 'listing', ?)",
                (self._mailbox, self._fields, cursor),
            )

    def take(self, copy: Copy, token: str | None, page: Listed) -> None:
        """Take in the page of the listing that is behind a token."""
        stage = "listing" if page.token is not None else "following"
        with self._transaction():
            # Whoever else lists this copy may have applied deltas to it already: these documents are older.
            mine = self._database.execute(
                "UPDATE copies SET page = ?, stage = ? WHERE number = ? AND stage = 'listing' AND page IS ?",
                (page.token, stage, copy.number, token),
            )
            if mine.rowcount == 0:
                raise Overtaken
            for document in page.documents:
                self._put(copy.number, document)

    def complete(self, copy: Copy) -> None:
        """Let a copy be the one that is seen, and drop those before."""
        with self._transaction():
            done = self._database.execute("UPDATE copies SET stage = 'complete' WHERE number = ?", (copy.number,))
            if done.rowcount == 0:
                # Another one was begun: what is seen stays until that is complete.
                raise Overtaken
            self._drop("number < ?", copy.number)

    def is_next(self, copy: Copy, delta: Delta) -> bool:
        """Return whether a delta is the next; else it was applied.

        Raises:
            DeltaMissing: one before it is not.
        """
        row = self._database.execute("SELECT seq FROM copies WHERE number = ?", (copy.number,)).fetchone()
        if row is None:
            raise Overtaken
        (seq,) = row
        if seq is not None and delta.seq > seq + 1:
            raise DeltaMissing(f"After delta {seq} came {delta.seq}; call rebuild() and catch_up().")
        return seq is None or delta.seq > seq

    def fetched(self, copy: Copy, delta: Delta) -> Collection[str]:
        """Return which messages are fetched for a delta."""
        query = "SELECT id FROM fetched WHERE copy = ? AND seq = ?"
        return {message_id for (message_id,) in self._database.execute(query, (copy.number, delta.seq)).fetchall()}

    def fetch(self, copy: Copy, delta: Delta, documents: Mapping[str, Document | None]) -> None:
        """Lay messages by for a delta; None: gone."""
        rows = [
            (copy.number, delta.seq, message_id, None if document is None else json.dumps(document))
            for message_id, document in documents.items()
        ]
        with self._transaction():
            if self.is_next(copy, delta):
                self._database.executemany("INSERT OR REPLACE INTO fetched VALUES (?, ?, ?, ?)", rows)

    def apply(self, copy: Copy, delta: Delta, applied: Applied | None) -> bool:
        """Apply a delta whose messages are fetched; return False where it has no effect, being applied."""
        with self._transaction():
            if not self.is_next(copy, delta):
                return False
            for change in delta.changes:
                self._change(copy.number, delta.seq, change)
            self._database.execute("DELETE FROM fetched WHERE copy = ? AND seq <= ?", (copy.number, delta.seq))
            there = "UPDATE copies SET cursor = ?, seq = ? WHERE number = ?"
            self._database.execute(there, (delta.cursor, delta.seq, copy.number))
            if applied is not None:
                applied(self._database, delta)
        return True

    def found(self, where: str, *values: str) -> Iterator[Document]:
        """Yield messages that are seen, the newest first."""
        query = f"SELECT id, thread, at, labels, document FROM messages {where} ORDER BY at DESC, id DESC"  # noqa: S608
        # All at once: the cache may change while somebody looks at them.
        for message_id, thread_id, at, labels, document in self._database.execute(query, values).fetchall():
            known = {"id": message_id, "threadId": thread_id, "labelIds": json.loads(labels), "internalDate": at}
            yield known | json.loads(document)

    def threads(self) -> dict[str, list[str]]:
        """Return the messages of each thread that is seen."""
        threads: dict[str, list[str]] = {}
        for thread_id, message_id in self._database.execute(
            "SELECT thread, id FROM messages ORDER BY at DESC, id DESC"
        ):
            threads.setdefault(thread_id, []).append(message_id)
        return {thread_id: message_ids[::-1] for thread_id, message_ids in threads.items()}

    def _prepare(self) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise ValueError(f"The file was written by another version, {version}: use a new one.")
        # Readers see the last commit while the next is written.
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        with self._transaction():
            for statement in _SCHEMA:
                self._database.execute(statement)
            self._database.execute(f"PRAGMA user_version = {_VERSION}")
            row = self._database.execute("SELECT mailbox FROM copies").fetchone()
        if row is not None and row[0] != self._mailbox:
            raise ValueError(f"The file is the cache of {row[0]}.")

    def _change(self, number: int, seq: int, change: Change) -> None:
        message = (number, change.message_id)
        match change.type:
            case "messageAdded":
                query = "SELECT document FROM fetched WHERE copy = ? AND seq = ? AND id = ?"
                (document,) = self._database.execute(query, (number, seq, change.message_id)).fetchone()
                if document is None:
                    # Gone by now, from wherever it was; should it come back, a later delta says so.
                    self._database.execute("DELETE FROM kept WHERE copy = ? AND id = ?", message)
                else:
                    self._put(number, json.loads(document))
            case "messageDeleted":
                # Of one that moved, only the old thread's is deleted.
                query = "DELETE FROM kept WHERE copy = ? AND id = ? AND thread = ?"
                self._database.execute(query, (*message, change.thread_id))
            case "labelsChanged":
                row = self._database.execute("SELECT labels FROM kept WHERE copy = ? AND id = ?", message).fetchone()
                if row is not None:
                    labels = (set(json.loads(row[0])) | set(change.labels_added)) - set(change.labels_removed)
                    query = "UPDATE kept SET labels = ? WHERE copy = ? AND id = ?"
                    self._database.execute(query, (json.dumps(sorted(labels)), *message))

    def _put(self, number: int, document: Document) -> None:
        rest = {name: value for name, value in document.items() if name not in (*NEEDED, "id")}
        labels = json.dumps(sorted(document["labelIds"]))
        row = (number, document["id"], document["threadId"], document["internalDate"], labels, json.dumps(rest))
        self._database.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?, ?)", row)

    def _drop(self, which: str, *values: int) -> None:
        numbers = f"SELECT number FROM copies WHERE {which}"  # noqa: S608
        for table in ("kept", "fetched"):
            self._database.execute(f"DELETE FROM {table} WHERE copy IN ({numbers})", values)  # noqa: S608
        self._database.execute(f"DELETE FROM copies WHERE {which}", values)  # noqa: S608

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
