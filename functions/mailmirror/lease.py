"""The lease in a worker's hands: the one place that commits.

Knows: that each commit joins mirror, delta, mailbox and lease, even its release (laws 1 and 2); how counts, delta
sequence, quota level and due time follow. Does not know: what is synced.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from mailmirror import mailboxes, parked, planner
from mailmirror.documents import to_document
from mailmirror.errors import NEEDS_SOMEBODY, DocumentExists, LeaseLost, UnknownMailbox
from mailmirror.fence import UNLEASED
from mailmirror.keep import Keeper, Kept
from mailmirror.model import Counts, Delta, Mailbox, MessageId, Origin, Parked, Receipt, ThreadId
from mailmirror.objects import Objects
from mailmirror.ports import Blobs, Clock, GmailAccounts, Store
from mailmirror.slice import MAX_WRITES, Document, Path, Slice, Write

# After so many takeovers a worker takes one message at a time and says which first.
CAREFUL_AFTER = 3
# In hand so often when workers died, a message is parked.
SUSPECT_ATTEMPTS = 2
# Besides mirror and parked messages: delta, mailbox and lease.
OWN_WRITES = 3
# May be forgotten to save a write: a look at history or two.
FORGETTABLE_UNITS = 10
# The next turn begins with one message at a time: what was answered is lost with what was not.
SMALL_STEPS_AFTER = NEEDS_SOMEBODY | {"Throttled", "GmailUnavailable"}
# Without progress so long, the message is to blame, if Gmail answers at all.
STALLED_AFTER = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a lease lasts, a mailbox goes without a look, a delta is kept."""

    lease: timedelta = timedelta(seconds=120)
    quiet: timedelta = timedelta(minutes=15)
    delta: timedelta = timedelta(days=30)


class Hold:
    """A held lease and what was done under it; `policy` is within what the deployment keeps, as last read."""

    def __init__(
        self,
        store: Store,
        accounts: GmailAccounts,
        blobs: Blobs | None,
        clock: Clock,
        pace: Pace,
        kept: Kept,
        mailbox: Mailbox,
        owner: str,
    ) -> None:
        """Take the lease. Raises `LeaseHeld`."""
        now = clock.now()
        self.store = store
        self.blobs = blobs
        self.clock = clock
        self.pace = pace
        self.kept = kept
        self._held = store.acquire(mailbox, owner=owner, now=now, expires_at=now + pace.lease)
        self.gmail = accounts.open(mailbox.email_address, self._held.mailbox.quota)
        # Of the units spent, those in the stored level.
        self._told = 0
        self._renewed_at = now
        self._objects = None if blobs is None else Objects(mailbox.email_address, store, blobs, self.keep)
        self._parked: dict[MessageId, Parked] | None = None
        self.released = False
        self.messages_processed = 0
        self.threads_processed = 0
        takeovers = self.mailbox.takeovers + self._held.taken_over
        self.careful = takeovers >= CAREFUL_AFTER
        self.ran = False
        self._in_hand: MessageId = ""
        # Whether fetched messages are looked up instead of taken for new.
        self.wary = False
        problem = self.mailbox.problem
        troubled = problem is not None and problem.code in SMALL_STEPS_AFTER
        # To be fetched before a commit, at the most.
        self.most_fetches = 1 if troubled else planner.GROUP_FETCHES
        self.stalled = troubled and problem is not None and now - (problem.since or problem.at) >= STALLED_AFTER
        self._go_by_policy()
        if self._held.taken_over:
            self._write(replace(self.mailbox, takeovers=takeovers))

    @property
    def mailbox(self) -> Mailbox:
        """As of the last commit; what is `UNLEASED` as last read."""
        return self._held.mailbox

    @property
    def parked(self) -> dict[MessageId, Parked]:
        """Read at first use."""
        if self._parked is None:
            items = self.store.parked(self.mailbox.email_address) if self.mailbox.counts.parked else []
            self._parked = {item.id: item for item in items}
        return self._parked

    def refresh(self) -> None:
        """Read what workers without the lease write."""
        address = self.mailbox.email_address
        fresh = self.store.mailbox(address)
        if fresh is None:
            raise UnknownMailbox(f"Mailbox {address} was removed.")
        unleased: dict[str, Any] = {name: getattr(fresh, name) for name in UNLEASED}
        self._held = replace(self._held, mailbox=replace(self.mailbox, **unleased))
        self._go_by_policy()

    def documents(self, paths: Sequence[Path]) -> dict[Path, Document]:
        """Return documents of the run: one read a path. Raises `LeaseLost` if another worker went on."""
        found = self.store.documents(self.mailbox.email_address, paths)
        if len(found) < len(paths):
            raise LeaseLost("Another worker went on with the run.")
        return found

    def keep(self) -> None:
        """Renew the lease if a third of its time is over."""
        if self.clock.now() - self._renewed_at > self.pace.lease / 3:
            self._write(self.mailbox)

    def commit(
        self,
        mailbox: Mailbox,
        part: Slice | None = None,
        *,
        origin: Origin = "live",
        writes: Sequence[Write] = (),
        park: Sequence[Parked] = (),
        unpark: Sequence[MessageId] = (),
        release: bool = False,
    ) -> None:
        """Write what belongs together in one atomic, fenced batch, then delete objects that no message names any more.

        Args:
            mailbox: its cursor is not lower than the stored one, except with a new signpost.
            unpark: what need not be tried again.

        Raises:
            LeaseLost: another worker took the lease; nothing was written or deleted.
            DocumentExists: likewise; a new message is mirrored already, this worker is wary.
            StoreUnavailable: no answer, before the commit or after it.
        """
        part = part or Slice()
        unpark = [message_id for message_id in unpark if message_id in self.parked]
        room = MAX_WRITES - OWN_WRITES - len(writes) - len(park)
        if len(part.writes) + len(unpark) > room:
            mailbox, part, unpark = self._ahead(mailbox, part, unpark, origin, room)
        objects = self._objects
        leaving = {} if objects is None else objects.leaving(part.deleted_blobs, release=release)
        now = self.clock.now()
        documents = [*part.writes, *writes]
        changed: dict[str, Any] = {}
        if part.changes:
            changed["delta_seq"] = seq = mailbox.delta_seq + 1
            delta = Delta(seq, now, origin, mailbox.cursor, part.changes, now + self.pace.delta)
            documents.append(Write("put", ("deltas", f"{seq:020d}"), to_document(delta)))
        waiting = self.parked if park or unpark else None
        if waiting is not None:
            waiting = {i: p for i, p in waiting.items() if i not in unpark} | {item.id: item for item in park}
            documents += [*map(parked.put, park), *map(parked.drop, unpark)]
            changed["parked_due_at"] = parked.due_at(waiting.values())
        if part.writes or waiting is not None:
            changed["counts"] = Counts(
                mailbox.counts.messages + part.messages,
                mailbox.counts.threads + part.threads,
                mailbox.counts.parked if waiting is None else len(waiting),
            )
        settled = {change.message_id for change in part.changes} | {item.id for item in park} | {self._in_hand}
        if not settled.isdisjoint(mailbox.suspect):
            changed["suspect"] = {i: n for i, n in mailbox.suspect.items() if i not in settled}
        brought = any(write.brings is not None for write in part.writes)
        if brought and mailbox.policy.bodies and mailbox.content != self.kept.content:
            # Which deployment is later nobody knows: a run follows.
            changed["content"] = "mixed"
        if release and (self.ran or mailbox.active_run is None):
            # Its worker survives; not so a commit before a deadly message.
            changed |= {"takeovers": 0, "suspect": {}}
        if changed:
            mailbox = replace(mailbox, **changed)
        try:
            self._write(mailbox, documents, release=release)
        except DocumentExists:
            self.wary = True
            raise
        self._in_hand = ""
        if waiting is not None:
            self._parked = waiting
        self.most_fetches = min(self.most_fetches * (1 + bool(part.changes)), planner.GROUP_FETCHES)
        self.messages_processed += len({change.message_id for change in part.changes})
        self.threads_processed += len({change.thread_id for change in part.changes})
        if objects is not None:
            objects.committed(part.writes, leaving, release=release)

    def remove(self, receipt: Receipt) -> None:
        """Delete the mailbox with its lease, and leave the receipt. Raises `LeaseLost`: nothing was deleted."""
        self.store.remove(self._held, receipt)
        self.released = True

    def _ahead(
        self, mailbox: Mailbox, part: Slice, unpark: Sequence[MessageId], origin: Origin, most: int
    ) -> tuple[Mailbox, Slice, Sequence[MessageId]]:
        """Commit what does not fit, return the rest; what is mirrored and still parked is fetched again."""
        self.commit(self.mailbox, part, origin=origin)
        while len(unpark) > most:
            self.commit(self.mailbox, unpark=unpark[:most])
            unpark = unpark[most:]
        stored = self.mailbox
        rest = replace(mailbox, delta_seq=stored.delta_seq, counts=stored.counts, suspect=stored.suspect)
        return rest, Slice(), unpark

    def suspect(self, message_id: MessageId) -> bool:
        """Say, while workers keep dying, that a message will be in hand; True when it must be parked instead.

        The count lasts, whatever successors take first, until a commit settles the message or passes it over.
        """
        if message_id == self._in_hand:
            return False
        attempts = self.mailbox.suspect.get(message_id, 0)
        if attempts >= SUSPECT_ATTEMPTS:
            return True
        others = {i: n for i, n in self.mailbox.suspect.items() if i != self._in_hand}
        self._write(replace(self.mailbox, suspect={**others, message_id: attempts + 1}))
        self._in_hand = message_id
        return False

    def park(
        self, message_id: MessageId, thread_id: ThreadId, reason: str, origin: Origin, *, deadly: bool = False
    ) -> Parked:
        """Return the message as a commit parks it."""
        before = self.parked.get(message_id)
        return parked.park(before, message_id, thread_id, reason, self.clock.now(), origin, deadly=deadly)

    def _go_by_policy(self) -> None:
        policy = self.mailbox.policy.at(self.clock.now())
        self.policy = replace(policy, bodies=policy.bodies and self.kept.content == "full")
        self.keeper = self._keeper() if self.policy.bodies else None

    def _keeper(self) -> Keeper:
        return Keeper(self.mailbox.email_address, self.policy, self.blobs, self.kept, self.keep, self._writing)

    def _writing(self, message_id: MessageId, name: str) -> None:
        if self._objects is not None:
            self._objects.writing(message_id, name)

    def _write(self, mailbox: Mailbox, writes: Sequence[Write] = (), *, release: bool = False) -> None:
        now = self.clock.now()
        mailbox = replace(mailbox, phase=mailboxes.phase(mailbox, now))
        stored = self._held.mailbox
        # A past due time, or the crash net of an earlier commit, must not stay.
        due_soon = now < stored.next_due_at <= now + self.pace.quiet
        costly = self.gmail.spent - self._told > FORGETTABLE_UNITS
        if writes or mailboxes.differ(stored, mailbox) or (release and (costly or not due_soon)):
            # Should this worker die, the sweep looks when the lease has expired.
            due_at = mailboxes.next_due(mailbox, now, quiet=self.pace.quiet) if release else now + self.pace.lease
            mailbox = replace(mailbox, next_due_at=due_at, quota=self.gmail.quota, last_sync_at=now)
            self._told = self.gmail.spent
        else:
            mailbox = stored
        expires_at = now + self.pace.lease
        try:
            self._held = self.store.commit(self._held, mailbox, writes, expires_at=expires_at, release=release)
        except (LeaseLost, UnknownMailbox):
            if self._objects is not None:
                self._objects.withdraw()
            raise
        self._renewed_at = now
        self.released = release
