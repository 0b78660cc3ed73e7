"""The store as workers reach it: each call takes its turn, may be refused, or answered in vain.

Knows: what a call to Firestore may come to, and what the checker has to be told. Does not know: how documents are kept
(`store`) or what is right (`checker`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from mailmirror.errors import StoreUnavailable
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

from tests.simulation.checker import Checker
from tests.simulation.hub import Task
from tests.simulation.meter import Meter
from tests.simulation.store import MemoryStore
from tests.simulation.way import Way


class Database:
    """`ports.Store` over a `MemoryStore`, with everything that happens on the way."""

    def __init__(self, way: Way, store: MemoryStore, checkers: Mapping[MailboxId, Checker], meter: Meter) -> None:
        self._way = way
        self._faults = way.faults
        self._store = store
        self._checkers = checkers
        self._meter = meter
        # A hint that never came true may have hidden true ones; what history shows of them only later is the sweep's.
        self.on_drop: Callable[[MailboxId], object] = _unheard

    def _there(self, call: str) -> Task:
        task = self._way.there(call)
        if self._faults.rates and self._faults.strikes("store refused"):
            self._way.story.tell(task, f"{call}: refused")
            raise StoreUnavailable("The store was unavailable.")
        return task

    def _back(self, task: Task, call: str) -> None:
        if self._faults.rates:
            self._way.back(task)
            if self._faults.strikes("store answer lost"):
                self._way.story.tell(task, f"{call}: the answer is lost")
                raise StoreUnavailable("The store did not answer.")

    # State

    def mailbox(self, mailbox: MailboxId) -> Mailbox | None:
        task = self._there("mailbox")
        found = self._store.mailbox(mailbox)
        if found is not None:
            self._checkers[mailbox].read(task, found)
        if self._way.story.on:
            seen = f"cursor {found.cursor} hint {found.hint} {found.phase}" if found else "unknown"
            self._way.story.tell(task, f"reads the mailbox: {seen}")
        return found

    def create_mailbox(self, mailbox: Mailbox) -> bool:
        task = self._there("create_mailbox")
        created = self._store.create_mailbox(mailbox)
        if created:
            self._checkers[mailbox.email_address].policy(mailbox.policy)
        self._way.story.tell(task, "creates the mailbox" if created else "finds the mailbox created")
        self._back(task, "create_mailbox")
        return created

    def mailboxes(self, *, after: MailboxId = "", limit: int = 100) -> list[Mailbox]:
        self._there("mailboxes")
        return self._store.mailboxes(after=after, limit=limit)

    def due_mailboxes(self, now: datetime) -> Iterator[Due]:
        self._there("due_mailboxes")
        yield from self._store.due_mailboxes(now)

    def watches_expiring(self, before: datetime) -> Iterator[Due]:
        self._there("watches_expiring")
        yield from self._store.watches_expiring(before)

    def raise_hint(self, mailbox: MailboxId, history_id: HistoryId, due_at: datetime | None = None) -> None:
        task = self._there("raise_hint")
        self._store.raise_hint(mailbox, history_id, due_at)
        self._way.story.tell(task, f"raises the hint to {history_id}")
        self._back(task, "raise_hint")

    def drop_hint(self, mailbox: MailboxId) -> None:
        task = self._there("drop_hint")
        self.on_drop(mailbox)
        self._store.drop_hint(mailbox)
        self._way.story.tell(task, "drops the hint")
        self._back(task, "drop_hint")

    def set_watch(self, mailbox: MailboxId, watch: Watch) -> None:
        task = self._there("set_watch")
        self._store.set_watch(mailbox, watch)
        self._way.story.tell(task, f"stores the watch: {watch.error or watch.expires_at}")
        self._back(task, "set_watch")

    def want(self, mailbox: Mailbox, wanted: Wanted, *, due_at: datetime) -> bool:
        task = self._there("want")
        before = self._store.states.get(mailbox.email_address)
        stored = self._store.want(mailbox, wanted, due_at=due_at)
        if stored and before is not None:
            self._checkers[mailbox.email_address].wished(before, wanted)
        self._way.story.tell(task, f"wants it {wanted}, due {due_at:%Y-%m-%d %H:%M:%S}: {stored}")
        self._back(task, "want")
        return stored

    def request_run(self, mailbox: Mailbox, request: RunRequest, *, policy: Policy | None = None) -> bool:
        task = self._there("request_run")
        stored = self._store.request_run(mailbox, request, policy=policy)
        if stored and policy is not None:
            self._checkers[mailbox.email_address].policy(policy)
        self._way.story.tell(task, f"asks for {request.mode} run {request.run_id} {policy or ''}: {stored}")
        self._back(task, "request_run")
        return stored

    # Lease and commit

    def lease(self, mailbox: MailboxId) -> Lease | None:
        self._there("lease")
        return self._store.lease(mailbox)

    def acquire(self, mailbox: Mailbox, *, owner: str, now: datetime, expires_at: datetime) -> Held:
        task = self._there("acquire")
        held = self._store.acquire(mailbox, owner=owner, now=now, expires_at=expires_at)
        task.rests_until = held.mailbox.throttled_until if held.mailbox.wanted == "live" else None
        self._checkers[mailbox.email_address].acquired(task, self._way.hub.now(), expires_at, held.mailbox)
        if self._way.story.on:
            self._way.story.tell(task, "takes over the lease" if held.taken_over else "takes the lease")
        self._back(task, "acquire")
        return held

    def commit(
        self,
        held: Held,
        mailbox: Mailbox,
        writes: Sequence[Write] = (),
        *,
        expires_at: datetime,
        release: bool = False,
    ) -> Held:
        task = self._there("commit")
        address = held.mailbox.email_address
        before = self._store.states.get(address)
        stored = self._store.commit(held, mailbox, writes, expires_at=expires_at, release=release)
        after = self._store.states[address]
        assert before is not None
        if self._way.story.on:
            self._way.story.tell(task, _told(before, after, writes, release=release))
        if after is not before:
            self._meter.saved(task)
            self._note(before, after)
        self._checkers[address].committed(
            task, before, after, writes, at=self._way.hub.now(), expires_at=expires_at, release=release
        )
        if self._faults.rates and self._faults.strikes("commit sent twice"):
            # As the client library does when the answer is lost: the commit finds that it is there already.
            self._way.story.tell(task, "commits the same once more")
            stored = self._store.commit(held, mailbox, writes, expires_at=expires_at, release=release)
        self._back(task, "commit")
        return stored

    def _note(self, before: Mailbox, after: Mailbox) -> None:
        run, old = after.run, before.run
        for event, happened in (
            ("mailbox stopped", before.phase != after.phase == "stopped"),
            ("mailbox live again", before.phase == "stopped" != after.phase != "purging"),
            ("purge begun", before.purge is None is not after.purge),
            ("run paused", run is not None and run.paused_until is not None is not (old and old.paused_until)),
            ("policy run", run is not None and run.mode == "policy" and (old is None or old.id != run.id)),
            (
                "policy followed within a run",
                run is not None and old is not None and run.id == old.id and run.policy != old.policy,
            ),
        ):
            if happened:
                self._faults.note(event)

    # Mirror

    def threads(self, mailbox: MailboxId, ids: Iterable[ThreadId]) -> dict[ThreadId, Thread]:
        self._there("threads")
        return self._store.threads(mailbox, ids)

    def scan_threads(self, mailbox: MailboxId, *, after: ThreadId, limit: int) -> list[Thread]:
        self._there("scan_threads")
        return self._store.scan_threads(mailbox, after=after, limit=limit)

    def threads_labelled(self, mailbox: MailboxId, label_id: LabelId, *, limit: int) -> list[Thread]:
        self._there("threads_labelled")
        return self._store.threads_labelled(mailbox, label_id, limit=limit)

    def threads_before(self, mailbox: MailboxId, before: datetime, *, limit: int) -> list[Thread]:
        self._there("threads_before")
        return self._store.threads_before(mailbox, before, limit=limit)

    def named_objects(self, mailbox: MailboxId, names: Iterable[str]) -> set[str]:
        wanted = sorted(names)
        if not wanted:
            return set()
        self._there("named_objects")
        return self._store.named_objects(mailbox, wanted)

    def documents(self, mailbox: MailboxId, paths: Sequence[Path]) -> dict[Path, Document]:
        if not paths:
            return {}
        self._there("documents")
        return self._store.documents(mailbox, paths)

    def parked(self, mailbox: MailboxId) -> list[Parked]:
        self._there("parked")
        return self._store.parked(mailbox)

    # For applications

    def query(self, mailbox: MailboxId, query: Query, *, limit: int) -> list[Document]:
        self._there("query")
        return self._store.query(mailbox, query, limit=limit)

    def deltas(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Delta]:
        self._there("deltas")
        return self._store.deltas(mailbox, after=after, limit=limit)

    def announced(self, mailbox: MailboxId, seq: int) -> None:
        task = self._there("announced")
        self._store.announced(mailbox, seq)
        self._way.story.tell(task, f"has announced deltas up to {seq}")
        self._back(task, "announced")

    # The end of a mailbox

    def below(self, mailbox: MailboxId, *, limit: int) -> list[Path]:
        task = self._there("below")
        found = self._store.below(mailbox, limit=limit)
        self._way.story.tell(task, f"finds {len(found)} documents left")
        return found

    def remove(self, held: Held, receipt: Receipt) -> None:
        task = self._there("remove")
        address = held.mailbox.email_address
        before = self._store.states.get(address)
        self._store.remove(held, receipt)
        if before is not None and address not in self._store.states:
            self._way.story.tell(task, f"removes the mailbox: {receipt}")
            self._meter.forget(address)
            self._faults.note("mailbox purged")
            self._checkers[address].removed(task, before, receipt)
        self._back(task, "remove")

    def receipt(self, mailbox: MailboxId) -> Receipt | None:
        self._there("receipt")
        return self._store.receipt(mailbox)


def _told(before: Mailbox, after: Mailbox, writes: Sequence[Write], *, release: bool) -> str:
    parts = ["commits"]
    if after.cursor != before.cursor:
        parts.append(f"cursor {before.cursor} → {after.cursor}")
    if after.run != before.run and after.run is not None:
        parts.append(f"run {after.run.id} {after.run.stage} at {after.run.at}/{after.run.offset}")
    for write in writes:
        if write.path[0] == "deltas" and write.data is not None:
            for change in write.data["changes"]:
                labels = " ".join([f"+{x}" for x in change["labelsAdded"]] + [f"-{x}" for x in change["labelsRemoved"]])
                parts.append(f"{change['type']} {change['messageId']} in {change['threadId']} {labels}".rstrip())
        elif write.path[0] == "runs" and len(write.path) > 2:
            parts.append(f"{write.kind} {write.path[2]}/{write.path[3]}")
        elif write.path[0] == "parked":
            parts.append(f"{'unparks' if write.kind == 'delete' else 'parks'} {write.path[1]}")
    return ", ".join([*parts, *_changed(before, after), *(["releases"] if release else [])])


def _changed(before: Mailbox, after: Mailbox) -> Iterator[str]:
    """What a commit changed of the state, besides cursor and run."""
    if after.phase != before.phase:
        yield f"phase {after.phase}"
    if after.purge is not None and after.purge != before.purge:
        yield f"purged {dict(after.purge.documents)} and {after.purge.objects} objects"
    if after.run is not None and after.run.paused_until != (before.run.paused_until if before.run else None):
        yield f"paused until {after.run.paused_until}"
    if after.problem != before.problem:
        yield f"problem {after.problem.code if after.problem else 'none'}"
    if after.suspect != before.suspect:
        yield f"suspect {' '.join(after.suspect) or 'none'}"


def _unheard(mailbox: MailboxId) -> None:
    """Nobody listens."""
