"""The store in dictionaries: `ports.Store` for one simulated world, as fast as Python allows.

Knows: the documents by collection, the states and the leases as the values they are, and that what a commit writes is
worked out in full before anything changes. Does not know: what the documents mean, or when a worker is interrupted:
each call is one moment. Law 2 is judged where the other stores have it judged, by the real `fence`.

What is given out is what is stored. States and leases are frozen; a stored document is never changed in place, and
whoever reads one must not either. Nothing here depends on the order in which a set is iterated.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from itertools import islice
from operator import attrgetter
from threading import RLock
from typing import Any

from mailmirror import fence
from mailmirror.documents import field_name, from_document
from mailmirror.errors import DocumentExists, LeaseLost, UnknownMailbox
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

Documents = dict[str, Document]

# The attribute behind each field of the mailbox document.
_ATTRIBUTES = {field_name(field.name): field.name for field in fields(Mailbox)}
_unleased = attrgetter(*(_ATTRIBUTES[field] for field in sorted(fence.UNLEASED)))
_SCALARS = frozenset({int, float, bool, datetime, type(None)})
_NOTHING: Documents = {}


class MemoryStore:
    """The mirror, the state and the leases of one world. Threads take turns.

    Attributes:
        states: the mailboxes.
        leases: their leases. The version of a lease is the number of the write that stored it, among all writes.
        receipts: what is left of the mailboxes that were purged.
        collections: the documents by id, for each mailbox and collection below it: `threads`, or `runs/r1/pages`.

    Example:
        store = MemoryStore()
        store.create_mailbox(mailbox)
        store.collections["ann@example.com", "threads"]
    """

    def __init__(self) -> None:
        self.states: dict[MailboxId, Mailbox] = {}
        self.leases: dict[MailboxId, Lease] = {}
        self.receipts: dict[MailboxId, Receipt] = {}
        self.collections: dict[tuple[MailboxId, str], Documents] = {}
        self._writes = 0
        self._turn = RLock()
        # Each thread as last read, with the document it was read from: good for as long as that one is stored.
        self._read: dict[tuple[MailboxId, ThreadId], tuple[Document, Thread]] = {}

    # State

    def mailbox(self, mailbox: MailboxId) -> Mailbox | None:
        return self.states.get(mailbox)

    def create_mailbox(self, mailbox: Mailbox) -> bool:
        created_at, next_due_at = _plain(mailbox.created_at), _plain(mailbox.next_due_at)
        with self._turn:
            if mailbox.email_address in self.states:
                return False
            self._store(replace(mailbox, created_at=created_at, next_due_at=next_due_at))
        return True

    def mailboxes(self, *, after: MailboxId = "", limit: int = 100) -> list[Mailbox]:
        with self._turn:
            return [self.states[address] for address in _page(self.states, after, limit)]

    def due_mailboxes(self, now: datetime) -> Iterator[Due]:
        with self._turn:
            times = [(state.next_due_at, address) for address, state in self.states.items()]
        return _in_order((at, address) for at, address in times if at <= now)

    def watches_expiring(self, before: datetime) -> Iterator[Due]:
        with self._turn:
            live = [(address, state) for address, state in self.states.items() if state.wanted == "live"]
            times = [(state.watch.expires_at, address) for address, state in live]
        return _in_order((at, address) for at, address in times if at < before)

    def raise_hint(self, mailbox: MailboxId, history_id: HistoryId, due_at: datetime | None = None) -> None:
        with self._turn:
            state = self._known(mailbox)
            due_at = state.next_due_at if due_at is None else _plain(due_at)
            self._store(replace(state, hint=max(state.hint, history_id), next_due_at=due_at))

    def drop_hint(self, mailbox: MailboxId) -> None:
        with self._turn:
            self._store(replace(self._known(mailbox), hint=0))

    def set_watch(self, mailbox: MailboxId, watch: Watch) -> None:
        with self._turn:
            self._store(replace(self._known(mailbox), watch=watch))

    def want(self, mailbox: Mailbox, wanted: Wanted, *, due_at: datetime) -> bool:
        with self._turn:
            state = self._known(mailbox.email_address)
            if state.wanted != mailbox.wanted:
                return False
            self._store(replace(state, wanted=wanted, next_due_at=_plain(due_at)))
        return True

    def request_run(self, mailbox: Mailbox, request: RunRequest, *, policy: Policy | None = None) -> bool:
        with self._turn:
            state = self._known(mailbox.email_address)
            if not fence.may_request(mailbox, state):
                return False
            self._store(replace(state, request=request, policy=policy or state.policy))
        return True

    # Lease and commit

    def lease(self, mailbox: MailboxId) -> Lease | None:
        return self.leases.get(mailbox)

    def acquire(self, mailbox: Mailbox, *, owner: str, now: datetime, expires_at: datetime) -> Held:
        address = mailbox.email_address
        with self._turn:
            current = self.leases.get(address)
            wanted = fence.take(current, owner=owner, now=now, expires_at=expires_at)
            if current is None or current.revision != mailbox.revision:
                mailbox = self._known(address)
            lease = self._store_lease(address, wanted)
        return Held(lease=lease, mailbox=mailbox, taken_over=current is not None and current.owner != "")

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
        with self._turn:
            current = self.leases.get(address)
            if current is None or current.version != held.lease.version:
                if current is not None and fence.stored(current, commit.held.lease):
                    return replace(commit.held, lease=current)
                raise LeaseLost("Another worker took the lease; this commit wrote nothing.")
            state = self._after(held.mailbox, commit) if commit.fields else None
            documents = self._outcome(address, writes)
            # Whatever can be refused has been: from here on all of it is stored.
            if state is not None:
                self._store(state)
            for path, document in documents.items():
                self._put(address, path, document)
            lease = self._store_lease(address, commit.held.lease)
        return replace(commit.held, lease=lease)

    # Mirror

    def threads(self, mailbox: MailboxId, ids: Iterable[ThreadId]) -> dict[ThreadId, Thread]:
        wanted = sorted(ids) if isinstance(ids, set | frozenset) else ids
        with self._turn:
            stored = self.collections.get((mailbox, "threads"), _NOTHING)
            return {name: self._thread(mailbox, name, stored[name]) for name in wanted if name in stored}

    def scan_threads(self, mailbox: MailboxId, *, after: ThreadId, limit: int) -> list[Thread]:
        with self._turn:
            stored = self.collections.get((mailbox, "threads"), _NOTHING)
            return [self._thread(mailbox, name, stored[name]) for name in _page(stored, after, limit)]

    def threads_labelled(self, mailbox: MailboxId, label_id: LabelId, *, limit: int) -> list[Thread]:
        with self._turn:
            stored = self.collections.get((mailbox, "threads"), _NOTHING)
            names = sorted(name for name, document in stored.items() if label_id in document["labelIds"])
            return [self._thread(mailbox, name, stored[name]) for name in names[:limit]]

    def threads_before(self, mailbox: MailboxId, before: datetime, *, limit: int) -> list[Thread]:
        with self._turn:
            stored = self.collections.get((mailbox, "threads"), _NOTHING)
            first = [(document["firstMessageAt"], name) for name, document in stored.items()]
            names = [name for at, name in sorted(first) if at < before]
            return [self._thread(mailbox, name, stored[name]) for name in names[:limit]]

    def named_objects(self, mailbox: MailboxId, names: Iterable[str]) -> set[str]:
        wanted = frozenset(names)
        with self._turn:
            messages = list(self.collections.get((mailbox, "messages"), _NOTHING).values())
        return {name for document in messages for name in document.get("objects", ()) if name in wanted}

    def documents(self, mailbox: MailboxId, paths: Sequence[Path]) -> dict[Path, Document]:
        found = {path: self._document(mailbox, path) for path in paths}
        return {path: document for path, document in found.items() if document is not None}

    def parked(self, mailbox: MailboxId) -> list[Parked]:
        with self._turn:
            stored = list(self.collections.get((mailbox, "parked"), _NOTHING).items())
        in_order = sorted(stored, key=lambda item: (item[1]["nextAttemptAt"], item[0]))
        return [from_document(Parked, document) for _, document in in_order]

    # For applications

    def query(self, mailbox: MailboxId, query: Query, *, limit: int) -> list[Document]:
        with self._turn:
            stored = list(self.collections.get((mailbox, query.collection), _NOTHING).items())
        places = ((document.get(query.by), name, document) for name, document in stored)
        found = [(at, name, document) for at, name, document in places if at is not None and _meets(document, query)]
        found.sort(key=lambda place: place[:2], reverse=True)
        after = query.after
        rest = (document for at, name, document in found if after is None or (at, name) < after)
        page = list(islice(rest, limit))
        names = query.fields
        return [{field: each[field] for field in names if field in each} for each in page] if names else page

    def deltas(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Delta]:
        with self._turn:
            stored = self.collections.get((mailbox, "deltas"), _NOTHING)
            return [from_document(Delta, stored[name]) for name in _page(stored, f"{after:020d}", limit)]

    def announced(self, mailbox: MailboxId, seq: int) -> None:
        with self._turn:
            state = self._known(mailbox)
            self._store(replace(state, announced=max(state.announced or 0, seq)))

    # The end of a mailbox

    def below(self, mailbox: MailboxId, *, limit: int) -> list[Path]:
        with self._turn:
            places = sorted(place for address, place in self.collections if address == mailbox)
            paths = ((*place.split("/"), name) for place in places for name in sorted(self.collections[mailbox, place]))
            return list(islice(paths, limit))

    def remove(self, held: Held, receipt: Receipt) -> None:
        address = held.mailbox.email_address
        with self._turn:
            current = self.leases.get(address)
            if current is None or current.version != held.lease.version:
                if self.receipts.get(address) == receipt:
                    return
                raise LeaseLost("Another worker took the lease; nothing was removed.")
            self._writes += 1
            self.states.pop(address, None)
            del self.leases[address]
            self.receipts[address] = receipt

    def receipt(self, mailbox: MailboxId) -> Receipt | None:
        return self.receipts.get(mailbox)

    # Inside

    def _known(self, mailbox: MailboxId) -> Mailbox:
        state = self.states.get(mailbox)
        if state is None:
            raise UnknownMailbox(f"There is no mailbox {mailbox}.")
        return state

    def _store(self, state: Mailbox) -> None:
        self._writes += 1
        self.states[state.email_address] = state

    def _store_lease(self, mailbox: MailboxId, wanted: Lease) -> Lease:
        self._writes += 1
        lease = self.leases[mailbox] = replace(wanted, version=self._writes)
        return lease

    def _after(self, before: Mailbox, commit: fence.Commit) -> Mailbox:
        """Return the state as it is after a commit to the state before: only the fields it may write are its own."""
        _check(commit.fields.values())
        stored, after = self._known(before.email_address), commit.held.mailbox
        if stored == before and _unleased(before) == _unleased(after):
            # Nothing but these fields tells them apart, and nobody wrote in between: the usual case, and the cheap one.
            return after
        names = [_ATTRIBUTES[field] for field in commit.fields]
        return replace(stored, **{name: getattr(after, name) for name in names})

    def _outcome(self, mailbox: MailboxId, writes: Sequence[Write]) -> dict[Path, Document | None]:
        """Return the documents as they are after some writes, None for those that are gone.

        Raises:
            DocumentExists: the document of a `create` exists.
        """
        outcome: dict[Path, Document | None] = {}
        for write in writes:
            path = write.path
            document = None
            if write.kind != "delete":
                before = outcome[path] if path in outcome else self._document(mailbox, path)
                if write.kind == "create" and before is not None:
                    raise DocumentExists(f"{'/'.join(path)} exists.")
                data = write.data or {}
                _check(data.values())
                document = {**before, **data} if write.kind == "merge" and before is not None else dict(data)
            outcome[path] = document
        return outcome

    def _document(self, mailbox: MailboxId, path: Path) -> Document | None:
        return self.collections.get((mailbox, _collection(path)), _NOTHING).get(path[-1])

    def _put(self, mailbox: MailboxId, path: Path, document: Document | None) -> None:
        self._writes += 1
        if document is None:
            self.collections.get((mailbox, _collection(path)), {}).pop(path[-1], None)
        else:
            self.collections.setdefault((mailbox, _collection(path)), {})[path[-1]] = document

    def _thread(self, mailbox: MailboxId, name: ThreadId, document: Document) -> Thread:
        read = self._read.get((mailbox, name))
        if read is None or read[0] is not document:
            read = self._read[mailbox, name] = document, from_document(Thread, document)
        return read[1]


def _collection(path: Path) -> str:
    return path[0] if len(path) == 2 else "/".join(path[:-1])


def _page(names: Iterable[str], after: str, limit: int) -> list[str]:
    return sorted(name for name in names if name > after)[:limit]


def _meets(document: Document, query: Query) -> bool:
    """Return whether a document, which has the time that sorts, is one that a query asks for."""
    if any(_field(document, name) != value for name, value in query.equal):
        return False
    if query.any_of is not None:
        name, values = query.any_of
        if not set(values).intersection(_field(document, name) or ()):
            return False
    at = document[query.by]
    return not (query.since is not None and at < query.since) and not (query.before is not None and at >= query.before)


def _field(document: Document, path: str) -> Any:
    """Return a field of a document, by its name with dots, None if there is none."""
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _in_order(times: Iterable[tuple[datetime, MailboxId]]) -> Iterator[Due]:
    return iter([Due(mailbox, at) for at, mailbox in sorted(times)])


def _plain(time: datetime) -> datetime:
    """Return a time in UTC, as a database gives it back."""
    return time if time.tzinfo is UTC else time.astimezone(UTC)


def _check(values: Iterable[Any]) -> None:
    """Refuse what no store can hold, as the others do.

    Raises:
        ValueError: text that is no Unicode.
        TypeError: anything but text, numbers, times, lists and maps by text.
    """
    for value in values:
        kind = type(value)
        if kind is str:
            if not value.isascii():
                value.encode()
        elif kind is dict:
            _check(value)
            _check(value.values())
        elif kind is list:
            _check(value)
        elif kind not in _SCALARS:
            raise TypeError(f"A document cannot hold {value!r}.")
