"""The lease in a worker's hands: the one place that commits.

Knows: that each commit joins the mirror's documents, the delta, the mailbox state and the lease (laws 1 and 2), how
counts, delta sequence, quota level and next due time follow from it, and that a release is part of a commit. Does not
know: what is being synced.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from mailmirror import bodies, mailboxes, parked, planner
from mailmirror.documents import to_document
from mailmirror.errors import NEEDS_SOMEBODY, DocumentExists, LeaseLost, UnknownMailbox
from mailmirror.model import Counts, Delta, Mailbox, MessageId, Origin, Parked, Receipt, ThreadId
from mailmirror.ports import Blobs, Clock, GmailAccounts, Store
from mailmirror.slice import MAX_WRITES, Document, Path, Slice, Write

# From this many takeovers on, a worker takes one message at a time and says which before it touches it.
CAREFUL_AFTER = 3
# A message that was in hand this often when its worker died is parked.
SUSPECT_ATTEMPTS = 2
# What a commit has besides the mirror and the parked messages: delta, mailbox and lease.
OWN_WRITES = 3
# So many units, a look at history or two, may be forgotten to save a write.
FORGETTABLE_UNITS = 10
# After one of these the next turn begins with one message at a time: what was answered is lost with what was not.
SMALL_STEPS_AFTER = NEEDS_SOMEBODY | {"Throttled", "GmailUnavailable"}
# After this time without progress the message is to blame, if Gmail answers at all.
STALLED_AFTER = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Pace:
    """The times a worker keeps.

    Attributes:
        lease: how long a lease holds without a commit.
        quiet: how long a mailbox may go without being looked at.
        delta: how long deltas are kept.
    """

    lease: timedelta = timedelta(seconds=120)
    quiet: timedelta = timedelta(minutes=15)
    delta: timedelta = timedelta(days=30)


class Hold:
    """A held lease, the mailbox as of the last commit, and what this worker did under it."""

    def __init__(
        self,
        store: Store,
        accounts: GmailAccounts,
        blobs: Blobs | None,
        clock: Clock,
        pace: Pace,
        mailbox: Mailbox,
        owner: str,
    ) -> None:
        """Take the lease, then open the mailbox in Gmail: its budget goes on from where the worker before left it.

        Raises:
            LeaseHeld: another worker has it.
        """
        now = clock.now()
        self.store = store
        self.blobs = blobs
        self.clock = clock
        self.pace = pace
        self._held = store.acquire(mailbox, owner=owner, now=now, expires_at=now + pace.lease)
        self.gmail = accounts.open(mailbox.email_address, self._held.mailbox.quota)
        # Of the units spent, those that the stored level of the budget knows of.
        self._told = 0
        self._renewed_at = now
        self._parked: dict[MessageId, Parked] | None = None
        self.released = False
        self.messages_processed = 0
        self.threads_processed = 0
        takeovers = self.mailbox.takeovers + self._held.taken_over
        self.careful = takeovers >= CAREFUL_AFTER
        # Whether a run was moved on under this lease.
        self.ran = False
        self._in_hand: MessageId = ""
        # Whether to look up where fetched messages are mirrored instead of trusting that they are new.
        self.wary = False
        problem = self.mailbox.problem
        troubled = problem is not None and problem.code in SMALL_STEPS_AFTER
        # The most messages to fetch before they are committed.
        self.most_fetches = 1 if troubled else planner.GROUP_FETCHES
        # Whether nothing has come of it for a while.
        self.stalled = troubled and problem is not None and now - (problem.since or problem.at) >= STALLED_AFTER
        if self._held.taken_over:
            self._write(replace(self.mailbox, takeovers=takeovers))

    @property
    def mailbox(self) -> Mailbox:
        """The mailbox as of the last commit; hint, policy, watch, request and what is wanted as last read."""
        return self._held.mailbox

    @property
    def parked(self) -> dict[MessageId, Parked]:
        """The parked messages by id, read at the first use."""
        if self._parked is None:
            address = self.mailbox.email_address
            items = self.store.parked(address) if self.mailbox.counts.parked else []
            self._parked = {item.id: item for item in items}
        return self._parked

    def refresh(self) -> None:
        """Read again what workers without the lease write: hint, policy, watch, request and what is wanted."""
        address = self.mailbox.email_address
        fresh = self.store.mailbox(address)
        if fresh is None:
            raise UnknownMailbox(f"Mailbox {address} was removed.")
        self._held = replace(
            self._held,
            mailbox=replace(
                self.mailbox,
                hint=fresh.hint,
                policy=fresh.policy,
                watch=fresh.watch,
                request=fresh.request,
                wanted=fresh.wanted,
            ),
        )

    def documents(self, paths: Sequence[Path]) -> dict[Path, Document]:
        """Return documents that the run under way has left: one read a path.

        Raises:
            LeaseLost: one is absent, because another worker has gone on with the run and cleared it away.
        """
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
        """Write everything that belongs together in one atomic, fenced batch.

        The bodies in Cloud Storage of messages that leave the mirror are deleted after it, and of each only the version
        that was there before it. So the body of a mirrored message is never deleted, however late this worker is: to
        mirror the message again takes another commit, under this lease or the next, and its worker writes the body anew
        after this commit; that is another version.

        The object of a message that is not mirrored can stay behind: this worker dies between commit and delete, the
        store or Cloud Storage does not answer, or a worker writes a body and does not get to mirror the message, its
        lease being lost, say. Nothing looks for such an object; it goes when the message is mirrored and removed again.

        Args:
            mailbox: the state to store; its cursor must not be lower than the stored one, except with a new signpost.
            part: the mirror's documents and what the delta says of them.
            origin: the delta's origin.
            writes: other documents.
            park, unpark: messages that failed, and messages that need not be tried again.
            release: give the lease back.

        Raises:
            LeaseLost: another worker took the lease; nothing was written, nothing deleted.
            DocumentExists: a message that was to be new is mirrored already; nothing was written or deleted, and from
                now on this worker is wary.
            StoreUnavailable: the store did not answer, or Cloud Storage, before the commit or after it.
        """
        part = part or Slice()
        unpark = [message_id for message_id in unpark if message_id in self.parked]
        if len(part.writes) + len(writes) + len(park) + len(unpark) > MAX_WRITES - OWN_WRITES:
            mailbox, part, unpark = self._ahead(
                mailbox, part, unpark, origin, MAX_WRITES - OWN_WRITES - len(writes) - len(park)
            )
        leaving = self._versions(part.deleted_blobs)
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
        if release and (self.ran or mailbox.active_run is None):
            # Only a turn that ends shows that its worker survives, and where a run is under way only one that moved it;
            # a commit on the way to the message that kills it does not.
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
        if self.blobs is not None:
            for name, version in leaving.items():
                self.blobs.delete(name, version)

    def remove(self, receipt: Receipt) -> None:
        """Delete the mailbox and the lease with it, and leave the receipt.

        Raises:
            LeaseLost: another worker took the lease; nothing was deleted.
        """
        self.store.remove(self._held, receipt)
        self.released = True

    def _ahead(
        self, mailbox: Mailbox, part: Slice, unpark: Sequence[MessageId], origin: Origin, most: int
    ) -> tuple[Mailbox, Slice, Sequence[MessageId]]:
        """Commit what does not fit into one commit with the checkpoint and return the rest; a message that is mirrored
        and still parked is only fetched once more.
        """
        self.commit(self.mailbox, part, origin=origin)
        while len(unpark) > most:
            self.commit(self.mailbox, unpark=unpark[:most])
            unpark = unpark[most:]
        stored = self.mailbox
        rest = replace(mailbox, delta_seq=stored.delta_seq, counts=stored.counts, suspect=stored.suspect)
        return rest, Slice(), unpark

    def suspect(self, message_id: MessageId) -> bool:
        """Say, before a message is touched, that it is in hand; True when it must be parked instead.

        Only while workers keep dying. The count survives this worker's death, whatever its successors take in hand
        before they come to this message; the next commit, which settles it or passes it over, clears it.
        """
        if message_id == self._in_hand:
            return False
        attempts = self.mailbox.suspect.get(message_id, 0)
        if attempts >= SUSPECT_ATTEMPTS:
            return True
        # The one in hand before did no harm.
        others = {i: n for i, n in self.mailbox.suspect.items() if i != self._in_hand}
        self._write(replace(self.mailbox, suspect={**others, message_id: attempts + 1}))
        self._in_hand = message_id
        return False

    def park(
        self, message_id: MessageId, thread_id: ThreadId, reason: str, origin: Origin, *, deadly: bool = False
    ) -> Parked:
        """Return the message as it will be parked by the commit that is given it."""
        before = self.parked.get(message_id)
        return parked.park(before, message_id, thread_id, reason, self.clock.now(), origin, deadly=deadly)

    def _versions(self, message_ids: Sequence[MessageId]) -> dict[str, int]:
        """Return the objects of messages' bodies that there are now, by name with their versions."""
        versions: dict[str, int] = {}
        if self.blobs is None:
            return versions
        for message_id in message_ids:
            name = bodies.name(self.mailbox.email_address, message_id)
            version = self.blobs.version(name)
            if version is not None:
                versions[name] = version
            # There may be hundreds, and the commit is still to come.
            self.keep()
        return versions

    def _write(self, mailbox: Mailbox, writes: Sequence[Write] = (), *, release: bool = False) -> None:
        """Commit with the bookkeeping every commit has: due time, quota level and time of sync."""
        now = self.clock.now()
        phase = mailboxes.phase(mailbox, now)
        if phase != mailbox.phase:
            mailbox = replace(mailbox, phase=phase)
        stored = self._held.mailbox
        # A due time in the past, or the crash net of an earlier commit, must not stay behind.
        due_soon = now < stored.next_due_at <= now + self.pace.quiet
        costly = self.gmail.spent - self._told > FORGETTABLE_UNITS
        if writes or mailboxes.differ(stored, mailbox) or (release and (costly or not due_soon)):
            # Should this worker die before it releases, the sweep looks as soon as the lease has expired.
            due_at = mailboxes.next_due(mailbox, now, quiet=self.pace.quiet) if release else now + self.pace.lease
            mailbox = replace(mailbox, next_due_at=due_at, quota=self.gmail.quota, last_sync_at=now)
            self._told = self.gmail.spent
        else:
            mailbox = stored
        self._held = self.store.commit(self._held, mailbox, writes, expires_at=now + self.pace.lease, release=release)
        self._renewed_at = now
        self.released = release
