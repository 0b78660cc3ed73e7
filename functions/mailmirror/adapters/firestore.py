"""`ports.Store` in Firestore.

Knows: paths, retries, lost answers. Does not know: what documents mean. Law 2: a commit is one atomic batch, its
precondition that nobody wrote the lease since. Not retried: ids like `__x__`, documents above 1 MiB (InvalidArgument),
lone surrogates, empty keys (ValueError).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar, cast

from google.api_core import exceptions
from google.api_core.retry import Retry, if_exception_type
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.field_path import FieldPath

from mailmirror import fence
from mailmirror.documents import from_document, to_document
from mailmirror.errors import DocumentExists, LeaseHeld, LeaseLost, StoreUnavailable, UnknownMailbox
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

Value = TypeVar("Value")
Reference = firestore.DocumentReference
Snapshot = firestore.DocumentSnapshot[firestore.DocumentReference]

# The client's own retry takes up to 5 minutes, and resumes a query with the full limit.
_PASSING = (
    exceptions.Aborted,
    exceptions.InternalServerError,
    exceptions.ResourceExhausted,
    exceptions.ServiceUnavailable,
)
_ONCE = Retry(predicate=if_exception_type())
_ATTEMPT_SECONDS = 20.0
_NO_ANSWER = (
    *_PASSING,
    exceptions.Cancelled,
    exceptions.DeadlineExceeded,
    exceptions.RetryError,
    exceptions.Unknown,
)
# The emulator's limit; Firestore's is 10 MiB.
_MAX_COMMIT_BYTES = 4_000_000
_PAGE = 300
_THREAD_FIELDS = ("id", "historyId", "messages")


class FirestoreStore:
    """All in one database; the caller closes the client."""

    def __init__(self, client: firestore.Client, *, patience: float = 10.0) -> None:
        """`patience`: seconds of retries; with an attempt's 20 s a quarter of a lease."""
        self._client = client
        self._again = Retry(if_exception_type(*_PASSING), initial=0.1, multiplier=2.0, maximum=2.0, timeout=patience)

    # State

    def mailbox(self, mailbox: MailboxId) -> Mailbox | None:
        return _value(Mailbox, self._get(self._at(mailbox)))

    def create_mailbox(self, mailbox: Mailbox) -> bool:
        try:
            reference, document = self._at(mailbox.email_address), to_document(mailbox)
            self._ask(lambda: reference.create(document, retry=_ONCE, timeout=_ATTEMPT_SECONDS))
        except exceptions.AlreadyExists:
            return False
        return True

    def mailboxes(self, *, after: MailboxId = "", limit: int = 100) -> list[Mailbox]:
        query = _after(self._client.collection("mailboxes").order_by("__name__").limit(limit), after)
        return self._all(Mailbox, query)

    def due_mailboxes(self, now: datetime) -> Iterator[Due]:
        return self._mailboxes_by("nextDueAt", "<=", now)

    def watches_expiring(self, before: datetime) -> Iterator[Due]:
        return self._mailboxes_by("watch.expiresAt", "<", before, live=True)

    def raise_hint(self, mailbox: MailboxId, history_id: HistoryId, due_at: datetime | None = None) -> None:
        due = {} if due_at is None else {"nextDueAt": due_at}
        self._set(mailbox, {"hint": firestore.Maximum(history_id), **due})

    def drop_hint(self, mailbox: MailboxId) -> None:
        self._set(mailbox, {"hint": 0})

    def set_watch(self, mailbox: MailboxId, watch: Watch) -> None:
        self._set(mailbox, {"watch": to_document(watch)})

    def want(self, mailbox: Mailbox, wanted: Wanted, *, due_at: datetime) -> bool:
        address = mailbox.email_address
        fields: dict[str, Any] = {"wanted": wanted, "nextDueAt": due_at}
        while True:
            snapshot, state = self._known(address)
            if state.wanted != mailbox.wanted:
                return False
            # Again: a hint does not change what is wanted.
            with suppress(exceptions.FailedPrecondition):
                self._set(address, fields, snapshot)
                return True

    def request_run(self, mailbox: Mailbox, request: RunRequest, *, policy: Policy | None = None) -> bool:
        address = mailbox.email_address
        snapshot, state = self._known(address)
        if not fence.may_request(mailbox, state):
            return False
        fields = {"request": to_document(request)} | ({} if policy is None else {"policy": to_document(policy)})
        try:
            self._set(address, fields, snapshot)
        except exceptions.FailedPrecondition:
            # The first attempt may have been applied.
            _, stored = self._known(address)
            return stored.request == request and policy in (None, stored.policy)
        return True

    # Lease and commit

    def lease(self, mailbox: MailboxId) -> Lease | None:
        snapshot = self._get(self._lease_at(mailbox))
        lease = _value(Lease, snapshot)
        return lease and replace(lease, version=snapshot.update_time)

    def acquire(self, mailbox: Mailbox, *, owner: str, now: datetime, expires_at: datetime) -> Held:
        address = mailbox.email_address
        current = self.lease(address)
        wanted = fence.take(current, owner=owner, now=now, expires_at=expires_at)
        if current is None or current.revision != mailbox.revision:
            # Before the lease: a commit in between fails its precondition.
            _, mailbox = self._known(address)
        batch = _Batch(self._client)
        if current is None:
            batch.create(self._lease_at(address), dict(fence.lease_document(wanted)))
        else:
            batch.replace_lease(self._lease_at(address), current, wanted)
        try:
            version = self._send(batch)
        except (exceptions.AlreadyExists, exceptions.FailedPrecondition, exceptions.NotFound) as refused:
            lease = self.lease(address)
            if lease is None or not fence.stored(lease, wanted):
                raise LeaseHeld("Another worker took the lease in the same moment.") from refused
            version = lease.version
        return Held(replace(wanted, version=version), mailbox, current is not None and current.owner != "")

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
        batch = _Batch(self._client)
        if commit.fields:
            batch.update(self._at(address), dict(commit.fields))
        for write in writes:
            batch.add(self._at(address, *write.path), write)
        batch.replace_lease(self._lease_at(address), held.lease, commit.held.lease)
        try:
            version = self._send(batch)
        except exceptions.NotFound as missing:
            raise UnknownMailbox(f"The mailbox document of {address} is gone.") from missing
        except (exceptions.AlreadyExists, exceptions.FailedPrecondition) as refused:
            # Likewise.
            lease = self.lease(address)
            if lease is None or not fence.stored(lease, commit.held.lease):
                if lease is not None and lease.version == held.lease.version:
                    raise DocumentExists(f"A message that was to be new in {address} is mirrored already.") from refused
                raise LeaseLost("Another worker took the lease; this commit wrote nothing.") from refused
            version = lease.version
        return replace(commit.held, lease=replace(commit.held.lease, version=version))

    # Mirror

    def threads(self, mailbox: MailboxId, ids: Iterable[ThreadId]) -> dict[ThreadId, Thread]:
        paths = [("threads", thread_id) for thread_id in ids]
        found = self._read_all(mailbox, paths, fields=_THREAD_FIELDS)
        return {path[1]: from_document(Thread, document) for path, document in found.items()}

    def scan_threads(self, mailbox: MailboxId, *, after: ThreadId, limit: int) -> list[Thread]:
        collection = self._client.collection("mailboxes", mailbox, "threads")
        query = _after(collection.order_by("__name__").select(_THREAD_FIELDS).limit(limit), after)
        return self._all(Thread, query)

    def threads_labelled(self, mailbox: MailboxId, label_id: LabelId, *, limit: int) -> list[Thread]:
        return self._threads_by(mailbox, FieldFilter("labelIds", "array_contains", label_id), limit)

    def threads_before(self, mailbox: MailboxId, before: datetime, *, limit: int) -> list[Thread]:
        return self._threads_by(mailbox, FieldFilter("firstMessageAt", "<", before), limit)

    def named_objects(self, mailbox: MailboxId, names: Iterable[str]) -> set[str]:
        messages = self._client.collection("mailboxes", mailbox, "messages").select(["__name__"]).limit(1)
        return {
            name
            for name in names
            if self._results(messages.where(filter=FieldFilter("objects", "array_contains", name)))
        }

    def documents(self, mailbox: MailboxId, paths: Sequence[Path]) -> dict[Path, Document]:
        return self._read_all(mailbox, paths)

    def parked(self, mailbox: MailboxId) -> list[Parked]:
        query = self._client.collection("mailboxes", mailbox, "parked").order_by("nextAttemptAt").order_by("__name__")
        return self._all(Parked, query)

    # For applications

    def query(self, mailbox: MailboxId, query: Query, *, limit: int) -> list[Document]:
        conditions: list[tuple[str, str, Any]] = [(name, "==", value) for name, value in query.equal]
        if query.any_of is not None:
            name, values = query.any_of
            one = len(values) == 1
            conditions.append((name, "array_contains" if one else "array_contains_any", values[0] if one else values))
        for operator, bound in ((">=", query.since), ("<", query.before)):
            if bound is not None:
                conditions.append((query.by, operator, bound))
        asked: firestore.Query = self._client.collection("mailboxes", mailbox, query.collection).limit(limit)
        for condition in conditions:
            asked = asked.where(filter=FieldFilter(*condition))
        for field in (query.by, "__name__"):
            asked = asked.order_by(field, direction=firestore.Query.DESCENDING)
        if query.after is not None:
            asked = asked.start_after(dict(zip((query.by, "__name__"), query.after, strict=True)))
        if query.fields:
            asked = asked.select(query.fields)
        return [_document(snapshot) for snapshot in self._results(asked)]

    def deltas(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Delta]:
        collection = self._client.collection("mailboxes", mailbox, "deltas")
        query = _after(collection.order_by("__name__").limit(limit), f"{after:020d}")
        return self._all(Delta, query)

    def announced(self, mailbox: MailboxId, seq: int) -> None:
        self._set(mailbox, {"announced": firestore.Maximum(seq)})

    # The end of a mailbox

    def below(self, mailbox: MailboxId, *, limit: int) -> list[Path]:
        root = self._at(mailbox)
        found: list[Path] = []
        for collection in self._ask(lambda: list(root.collections(retry=_ONCE, timeout=_ATTEMPT_SECONDS))):
            if len(found) < limit:
                query = collection.recursive().select(["__name__"]).limit(limit - len(found))
                found += [_below(root, snapshot.reference) for snapshot in self._results(query)]
        return found

    def remove(self, held: Held, receipt: Receipt) -> None:
        address = held.mailbox.email_address
        batch = _Batch(self._client)
        batch.set(self._receipt_at(address), to_document(receipt))
        batch.delete(self._at(address))
        batch.delete(self._lease_at(address), option=_unwritten_since(held.lease.version))
        try:
            self._send(batch)
        except (exceptions.FailedPrecondition, exceptions.NotFound) as refused:
            # Likewise; nothing else writes this receipt.
            if self.receipt(address) != receipt:
                raise LeaseLost("Another worker took the lease; nothing was removed.") from refused

    def receipt(self, mailbox: MailboxId) -> Receipt | None:
        return _value(Receipt, self._get(self._receipt_at(mailbox)))

    # Inside

    def _at(self, mailbox: MailboxId, *path: str) -> Reference:
        return self._client.document("mailboxes", mailbox, *path)

    def _lease_at(self, mailbox: MailboxId) -> Reference:
        return self._client.document("leases", mailbox)

    def _receipt_at(self, mailbox: MailboxId) -> Reference:
        return self._client.document("receipts", mailbox)

    def _threads_by(self, mailbox: MailboxId, wanted: FieldFilter, limit: int) -> list[Thread]:
        collection = self._client.collection("mailboxes", mailbox, "threads")
        query = collection.where(filter=wanted).select(_THREAD_FIELDS).limit(limit)
        return self._all(Thread, query)

    def _all(self, kind: type[Value], query: firestore.Query) -> list[Value]:
        return [from_document(kind, _document(snapshot)) for snapshot in self._results(query)]

    def _get(self, reference: Reference) -> Snapshot:
        return self._ask(lambda: reference.get(retry=_ONCE, timeout=_ATTEMPT_SECONDS))

    def _read_all(
        self, mailbox: MailboxId, paths: Iterable[Path], fields: Sequence[str] | None = None
    ) -> dict[Path, Document]:
        references = {path: self._at(mailbox, *path) for path in paths}
        found: dict[str, Document] = {}
        remaining = list(references.values())
        while remaining:
            part, remaining = remaining[:_PAGE], remaining[_PAGE:]
            found |= {snapshot.reference.path: _document(snapshot) for snapshot in self._get_all(part, fields)}
        return {path: found[at.path] for path, at in references.items() if at.path in found}

    def _get_all(self, references: list[Reference], fields: Sequence[str] | None) -> list[Snapshot]:
        return self._ask(
            lambda: [
                snapshot
                for snapshot in self._client.get_all(references, fields, retry=_ONCE, timeout=_ATTEMPT_SECONDS)
                if snapshot.exists
            ]
        )

    def _known(self, mailbox: MailboxId) -> tuple[Snapshot, Mailbox]:
        snapshot = self._get(self._at(mailbox))
        state = _value(Mailbox, snapshot)
        if state is None:
            raise UnknownMailbox(f"There is no mailbox {mailbox}.")
        return snapshot, state

    def _set(self, mailbox: MailboxId, fields: dict[str, Any], unwritten: Snapshot | None = None) -> None:
        option = _unwritten_since(unwritten.update_time) if unwritten else None
        try:
            self._ask(lambda: self._at(mailbox).update(fields, option, retry=_ONCE, timeout=_ATTEMPT_SECONDS))
        except exceptions.NotFound as missing:
            raise UnknownMailbox(f"There is no mailbox {mailbox}.") from missing

    def _mailboxes_by(self, field: str, operator: str, bound: datetime, *, live: bool = False) -> Iterator[Due]:
        """By page: there may be thousands. A filter for `live` would take an index, and leave out older documents."""
        query = (
            self._client.collection("mailboxes")
            .where(filter=FieldFilter(field, operator, bound))
            .order_by(field)
            .order_by("__name__")
            .select([field, "wanted"])
            .limit(_PAGE)
        )
        page = self._results(query)
        while page:
            for snapshot in page:
                if not live or (snapshot.to_dict() or {}).get("wanted", "live") == "live":
                    yield Due(snapshot.id, _plain(snapshot.get(field)))
            page = self._results(query.start_after(page[-1])) if len(page) == _PAGE else []

    def _send(self, batch: "_Batch") -> object:
        """`ValueError` if too large: the emulator's 429 is retried."""
        size = batch.size()
        if size >= _MAX_COMMIT_BYTES:
            raise ValueError(f"A commit has less than {_MAX_COMMIT_BYTES} bytes; this one has {size}.")
        results = self._ask(lambda: batch.commit(retry=_ONCE, timeout=_ATTEMPT_SECONDS))
        return results[-1].update_time

    def _results(self, query: firestore.Query) -> list[Snapshot]:
        return self._ask(lambda: list(query.stream(retry=_ONCE, timeout=_ATTEMPT_SECONDS)))

    def _ask(self, call: Callable[[], Value]) -> Value:
        try:
            return self._again(call)()
        except _NO_ANSWER as error:
            raise StoreUnavailable(f"Firestore did not do what it was asked: {error}") from error


class _Batch(firestore.WriteBatch):
    """One atomic commit, the lease last."""

    def add(self, reference: Reference, write: Write) -> None:
        data = dict(write.data or {})
        if write.kind == "delete":
            self.delete(reference)
        elif write.kind == "create":
            self.create(reference, data)
        elif write.kind == "merge":
            # Not `merge=True`: a map is replaced as a whole.
            self.set(reference, data, merge=[FieldPath(name) for name in data])
        else:
            self.set(reference, data)

    def replace_lease(self, reference: Reference, current: Lease, wanted: Lease) -> None:
        self.update(reference, dict(fence.lease_document(wanted)), option=_unwritten_since(current.version))

    def size(self) -> int:
        return sum(type(write).pb(write).ByteSize() for write in self._write_pbs)


def _below(root: Reference, reference: Reference) -> Path:
    return tuple(reference.path.removeprefix(f"{root.path}/").split("/"))


def _unwritten_since(update_time: object) -> Any:
    return firestore.Client.write_option(last_update_time=update_time)


def _after(query: firestore.Query, document_id: str) -> firestore.Query:
    return query.start_after({"__name__": document_id}) if document_id else query


def _document(snapshot: Snapshot) -> dict[str, Any]:
    return cast("dict[str, Any]", _plain(snapshot.to_dict()))


def _value(kind: type[Value], snapshot: Snapshot) -> Value | None:
    return from_document(kind, _document(snapshot)) if snapshot.exists else None


def _plain(value: Any) -> Any:
    """Replace the client's own time by `datetime`."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return datetime.combine(value.date(), value.timetz())
    return value
