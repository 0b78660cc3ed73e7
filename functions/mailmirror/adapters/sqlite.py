"""The store in one SQLite file: `ports.Store` for one machine, its threads and its processes.

Knows: one table of documents as in Firestore, and how to keep writers apart. Does not know: what documents mean. Law 2:
a commit is one transaction that first compares the lease's version.

`collection` and `id` are a document's Firestore path cut at the last slash (`mailboxes/ann@example.com/threads`,
`18c0ffee`); `data` is JSON, times `{"$time": "2026-01-31T23:59:59.000000+00:00"}`; `version` counts writes.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path as FilePath
from threading import RLock
from types import TracebackType
from typing import Any, Self

from mailmirror import fence
from mailmirror.documents import from_document, to_document
from mailmirror.errors import DocumentExists, LeaseLost, StoreUnavailable, UnknownMailbox
from mailmirror.model import (
    Delta,
    Due,
    Held,
    HistoryId,
    LabelId,
    Lease,
    Mailbox,
    MailboxId,
    Parked,
    Policy,
    Query,
    Receipt,
    RunRequest,
    Thread,
    ThreadId,
    Wanted,
    Watch,
)
from mailmirror.slice import Document, Path, Write

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_PAGE = 300
_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    collection TEXT NOT NULL,
    id TEXT NOT NULL,
    data TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (collection, id)
)
"""
_DUE = """
SELECT json_extract(data, '$.nextDueAt.$time') AS time, id FROM documents
WHERE collection = 'mailboxes' AND time <= ? AND (time, id) > (?, ?) ORDER BY time, id LIMIT ?
"""
_WATCHES_EXPIRING = """
SELECT json_extract(data, '$.watch.expiresAt.$time') AS time, id FROM documents
WHERE collection = 'mailboxes' AND time < ? AND coalesce(json_extract(data, '$.wanted'), 'live') = 'live'
AND (time, id) > (?, ?) ORDER BY time, id LIMIT ?
"""
_PARKED = """
SELECT data FROM documents WHERE collection = ? ORDER BY json_extract(data, '$.nextAttemptAt.$time'), id
"""
_LABELLED = """
SELECT data FROM documents
WHERE collection = ? AND ? IN (SELECT value FROM json_each(data, '$.labelIds')) ORDER BY id LIMIT ?
"""
_BEFORE = """
SELECT data FROM documents WHERE collection = ? AND json_extract(data, '$.firstMessageAt.$time') < ?
ORDER BY json_extract(data, '$.firstMessageAt.$time'), id LIMIT ?
"""
_NAMED = """
SELECT DISTINCT named.value FROM documents, json_each(data, '$.objects') AS named
WHERE collection = ? AND named.value IN (SELECT value FROM json_each(?))
"""
_QUERY = """
SELECT data FROM (SELECT json_extract(data, ?) AS time, id, data FROM documents WHERE collection = ?)
WHERE time >= ? AND time < ? AND (time, id) < (?, ?)
"""
_EQUAL = "AND json_extract(data, ?) = ?\n"
_ANY_OF = "AND EXISTS (SELECT 1 FROM json_each(data, ?) WHERE value IN (SELECT value FROM json_each(?)))\n"
_NEWEST_FIRST = "ORDER BY time DESC, id DESC LIMIT ?"
# After all times.
_LATEST = "~"
# Below a mailbox's path and a slash: 0 comes after it. LIKE and GLOB see wildcards in addresses.
_BELOW = """
SELECT collection, id FROM documents WHERE collection > ? || '/' AND collection < ? || '0'
ORDER BY collection, id LIMIT ?
"""
_PUT = """
INSERT INTO documents (collection, id, data) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET data = excluded.data, version = version + 1 RETURNING version
"""


class SqliteStore:
    """The mirror, the state and the leases. Threads take turns on one connection; each process opens the file."""

    def __init__(self, path: str | FilePath, *, patience: float = 10.0) -> None:
        """Open the file, or make it.

        Args:
            path: or `:memory:`, for a store that ends with this object.
            patience: seconds to wait for another writer.
        """
        self._turn = RLock()
        self._connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
        try:
            with self._transaction() as write:
                write.execute(_SCHEMA)
            # Readers and a writer do not wait for each other. The mode stays in the file.
            if self._connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                self._use_write_ahead_log()
            self._connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file, for good."""
        with self._turn:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # State

    def mailbox(self, mailbox: MailboxId) -> Mailbox | None:
        row = self._row("mailboxes", mailbox)
        return None if row is None else from_document(Mailbox, row[0])

    def create_mailbox(self, mailbox: Mailbox) -> bool:
        with self._transaction() as write:
            created = write.execute(
                "INSERT INTO documents (collection, id, data) VALUES ('mailboxes', ?, ?) ON CONFLICT DO NOTHING",
                (mailbox.email_address, _dump(to_document(mailbox))),
            )
            return created.rowcount == 1

    def mailboxes(self, *, after: MailboxId = "", limit: int = 100) -> list[Mailbox]:
        return [from_document(Mailbox, document) for document in self._scan("mailboxes", after, limit)]

    def due_mailboxes(self, now: datetime) -> Iterator[Due]:
        return self._mailboxes_by(_DUE, now)

    def watches_expiring(self, before: datetime) -> Iterator[Due]:
        return self._mailboxes_by(_WATCHES_EXPIRING, before)

    def raise_hint(self, mailbox: MailboxId, history_id: HistoryId, due_at: datetime | None = None) -> None:
        with self._transaction() as write:
            hint = self._known(mailbox)["hint"]
            due = {} if due_at is None else {"nextDueAt": due_at}
            _merge(write, "mailboxes", mailbox, {"hint": max(hint, history_id), **due})

    def drop_hint(self, mailbox: MailboxId) -> None:
        self._set(mailbox, {"hint": 0})

    def set_watch(self, mailbox: MailboxId, watch: Watch) -> None:
        self._set(mailbox, {"watch": to_document(watch)})

    def want(self, mailbox: Mailbox, wanted: Wanted, *, due_at: datetime) -> bool:
        address = mailbox.email_address
        with self._transaction() as write:
            if from_document(Mailbox, self._known(address)).wanted != mailbox.wanted:
                return False
            _merge(write, "mailboxes", address, {"wanted": wanted, "nextDueAt": due_at})
        return True

    def request_run(self, mailbox: Mailbox, request: RunRequest, *, policy: Policy | None = None) -> bool:
        address = mailbox.email_address
        with self._transaction() as write:
            if not fence.may_request(mailbox, from_document(Mailbox, self._known(address))):
                return False
            _merge(write, "mailboxes", address, {"request": to_document(request)})
            if policy is not None:
                _merge(write, "mailboxes", address, {"policy": to_document(policy)})
        return True

    # Lease and commit

    def lease(self, mailbox: MailboxId) -> Lease | None:
        row = self._row("leases", mailbox)
        return None if row is None else replace(from_document(Lease, row[0]), version=row[1])

    def acquire(self, mailbox: Mailbox, *, owner: str, now: datetime, expires_at: datetime) -> Held:
        address = mailbox.email_address
        with self._transaction() as write:
            current = self.lease(address)
            wanted = fence.take(current, owner=owner, now=now, expires_at=expires_at)
            if current is None or current.revision != mailbox.revision:
                mailbox = from_document(Mailbox, self._known(address))
            version = _put(write, "leases", address, fence.lease_document(wanted))
        return Held(
            lease=replace(wanted, version=version),
            mailbox=mailbox,
            taken_over=current is not None and current.owner != "",
        )

    def commit(
        self,
        held: Held,
        mailbox: Mailbox,
        writes: Sequence[Write] = (),
        *,
        expires_at: datetime,
        release: bool = False,
    ) -> Held:
        address = held.mailbox.email_address
        commit = fence.prepare(held, mailbox, writes, expires_at=expires_at, release=release)
        with self._transaction() as transaction:
            current = self.lease(address)
            if current is None or not _same(current, held.lease):
                if current is not None and fence.stored(current, commit.held.lease):
                    return replace(commit.held, lease=current)
                raise LeaseLost("Another worker took the lease; this commit wrote nothing.")
            if commit.fields:
                self._known(address)
                _merge(transaction, "mailboxes", address, commit.fields)
            for write in writes:
                _apply(transaction, *_place(address, write.path), write)
            version = _put(transaction, "leases", address, fence.lease_document(commit.held.lease))
        return replace(commit.held, lease=replace(commit.held.lease, version=version))

    # Mirror

    def threads(self, mailbox: MailboxId, ids: Iterable[ThreadId]) -> dict[ThreadId, Thread]:
        wanted = list(dict.fromkeys(ids))
        rows = self._rows(
            "SELECT id, data FROM documents WHERE collection = ? AND id IN (SELECT value FROM json_each(?))",
            (f"mailboxes/{mailbox}/threads", json.dumps(wanted)),
        )
        found = {thread_id: from_document(Thread, _load(data)) for thread_id, data in rows}
        return {thread_id: found[thread_id] for thread_id in wanted if thread_id in found}

    def scan_threads(self, mailbox: MailboxId, *, after: ThreadId, limit: int) -> list[Thread]:
        documents = self._scan(f"mailboxes/{mailbox}/threads", after, limit)
        return [from_document(Thread, document) for document in documents]

    def threads_labelled(self, mailbox: MailboxId, label_id: LabelId, *, limit: int) -> list[Thread]:
        rows = self._rows(_LABELLED, (f"mailboxes/{mailbox}/threads", label_id, limit))
        return [from_document(Thread, _load(data)) for (data,) in rows]

    def threads_before(self, mailbox: MailboxId, before: datetime, *, limit: int) -> list[Thread]:
        rows = self._rows(_BEFORE, (f"mailboxes/{mailbox}/threads", _text(before), limit))
        return [from_document(Thread, _load(data)) for (data,) in rows]

    def named_objects(self, mailbox: MailboxId, names: Iterable[str]) -> set[str]:
        rows = self._rows(_NAMED, (f"mailboxes/{mailbox}/messages", json.dumps(list(names))))
        return {name for (name,) in rows}

    def documents(self, mailbox: MailboxId, paths: Sequence[Path]) -> dict[Path, Document]:
        rows = {path: self._row(*_place(mailbox, path)) for path in paths}
        return {path: row[0] for path, row in rows.items() if row is not None}

    def parked(self, mailbox: MailboxId) -> list[Parked]:
        rows = self._rows(_PARKED, (f"mailboxes/{mailbox}/parked",))
        return [from_document(Parked, _load(data)) for (data,) in rows]

    # For applications

    def query(self, mailbox: MailboxId, query: Query, *, limit: int) -> list[Document]:
        since = "" if query.since is None else _text(query.since)
        before = _LATEST if query.before is None else _text(query.before)
        time, name = (_LATEST, "") if query.after is None else (_text(query.after[0]), query.after[1])
        asked = _QUERY + _EQUAL * len(query.equal)
        given: list[object] = [
            f"$.{query.by}.$time",
            f"mailboxes/{mailbox}/{query.collection}",
            since,
            before,
            time,
            name,
        ]
        given += [each for field, value in query.equal for each in (f"$.{field}", value)]
        if query.any_of is not None:
            asked += _ANY_OF
            given += [f"$.{query.any_of[0]}", json.dumps(query.any_of[1])]
        found: list[Document] = [_load(data) for (data,) in self._rows(asked + _NEWEST_FIRST, (*given, limit))]
        names = query.fields
        return [{field: each[field] for field in names if field in each} for each in found] if names else found

    def deltas(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Delta]:
        documents = self._scan(f"mailboxes/{mailbox}/deltas", f"{after:020d}", limit)
        return [from_document(Delta, document) for document in documents]

    def announced(self, mailbox: MailboxId, seq: int) -> None:
        with self._transaction() as write:
            before = self._known(mailbox).get("announced") or 0
            _merge(write, "mailboxes", mailbox, {"announced": max(before, seq)})

    # The end of a mailbox

    def below(self, mailbox: MailboxId, *, limit: int) -> list[Path]:
        place = f"mailboxes/{mailbox}"
        rows = self._rows(_BELOW, (place, place, limit))
        return [(*collection.removeprefix(f"{place}/").split("/"), name) for collection, name in rows]

    def remove(self, held: Held, receipt: Receipt) -> None:
        address = held.mailbox.email_address
        with self._transaction() as write:
            current = self.lease(address)
            if current is None or not _same(current, held.lease):
                if self.receipt(address) == receipt:
                    return
                raise LeaseLost("Another worker took the lease; nothing was removed.")
            for collection in ("mailboxes", "leases"):
                write.execute("DELETE FROM documents WHERE collection = ? AND id = ?", (collection, address))
            _put(write, "receipts", address, to_document(receipt))

    def receipt(self, mailbox: MailboxId) -> Receipt | None:
        row = self._row("receipts", mailbox)
        return None if row is None else from_document(Receipt, row[0])

    # Inside

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._turn, _unavailable_when_busy():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _use_write_ahead_log(self) -> None:
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as busy:
            # SQLite does not wait here: another process has set it.
            if _code(busy) not in _BUSY:
                raise

    def _rows(self, query: str, parameters: Sequence[object]) -> list[Any]:
        with self._turn, _unavailable_when_busy(), closing(self._connection.execute(query, parameters)) as cursor:
            return cursor.fetchall()

    def _row(self, collection: str, document_id: str) -> tuple[dict[str, Any], int] | None:
        rows = self._rows(
            "SELECT data, version FROM documents WHERE collection = ? AND id = ?", (collection, document_id)
        )
        return (_load(rows[0][0]), rows[0][1]) if rows else None

    def _scan(self, collection: str, after: str, limit: int) -> list[dict[str, Any]]:
        rows = self._rows(
            "SELECT data FROM documents WHERE collection = ? AND id > ? ORDER BY id LIMIT ?", (collection, after, limit)
        )
        return [_load(data) for (data,) in rows]

    def _known(self, mailbox: MailboxId) -> dict[str, Any]:
        row = self._row("mailboxes", mailbox)
        if row is None:
            raise UnknownMailbox(f"There is no mailbox {mailbox}.")
        return row[0]

    def _set(self, mailbox: MailboxId, fields: Document) -> None:
        with self._transaction() as write:
            self._known(mailbox)
            _merge(write, "mailboxes", mailbox, fields)

    def _mailboxes_by(self, query: str, bound: datetime) -> Iterator[Due]:
        """Yield page by page: there may be thousands, and a slow consumer."""
        page = self._rows(query, (_text(bound), "", "", _PAGE))
        while page:
            yield from (Due(mailbox, datetime.fromisoformat(at)) for at, mailbox in page)
            page = self._rows(query, (_text(bound), *page[-1], _PAGE)) if len(page) == _PAGE else []


def _same(current: Lease, held: Lease) -> bool:
    """Whether nobody wrote since. After a purge versions begin anew; owners differ."""
    return (current.version, current.owner) == (held.version, held.owner)


def _place(mailbox: MailboxId, path: Path) -> tuple[str, str]:
    parts = ("mailboxes", mailbox, *path)
    return "/".join(parts[:-1]), parts[-1]


def _apply(connection: sqlite3.Connection, collection: str, document_id: str, write: Write) -> None:
    if write.kind == "delete":
        connection.execute("DELETE FROM documents WHERE collection = ? AND id = ?", (collection, document_id))
    elif write.kind == "create" and _exists(connection, collection, document_id):
        raise DocumentExists(f"{collection}/{document_id} exists.")
    elif write.kind == "merge":
        _merge(connection, collection, document_id, write.data or {})
    else:
        _put(connection, collection, document_id, write.data or {})


def _exists(connection: sqlite3.Connection, collection: str, document_id: str) -> bool:
    query = "SELECT 1 FROM documents WHERE collection = ? AND id = ?"
    return connection.execute(query, (collection, document_id)).fetchone() is not None


def _put(connection: sqlite3.Connection, collection: str, document_id: str, document: Document) -> int:
    (version,) = connection.execute(_PUT, (collection, document_id, _dump(document))).fetchone()
    return int(version)


def _merge(connection: sqlite3.Connection, collection: str, document_id: str, fields: Document) -> None:
    row = connection.execute(
        "SELECT data FROM documents WHERE collection = ? AND id = ?", (collection, document_id)
    ).fetchone()
    _put(connection, collection, document_id, {**(_load(row[0]) if row else {}), **fields})


def _dump(document: Document) -> str:
    # Not ASCII: SQLite refuses a lone surrogate as Firestore does.
    return json.dumps(document, default=_encode, ensure_ascii=False, separators=(",", ":"))


def _encode(value: object) -> object:
    if isinstance(value, datetime):
        return {"$time": _text(value)}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"A document cannot hold {value!r}.")


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def _load(data: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(data, object_hook=_decode)
    return document


def _decode(value: dict[str, Any]) -> object:
    return datetime.fromisoformat(value["$time"]) if value.keys() == {"$time"} else value


@contextmanager
def _unavailable_when_busy() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if _code(error) in _BUSY:
            raise StoreUnavailable("Another process has been writing to the store for too long.") from error
        raise


def _code(error: sqlite3.OperationalError) -> int:
    return error.sqlite_errorcode & 0xFF
