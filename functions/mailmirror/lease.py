"""The lease in a worker's hands: the one place that commits.

Knows: that each commit joins the mirror's documents, the delta, the mailbox state and the lease (laws 1 and 2), how
counts, delta sequence, quota level and next due time follow from it, and that a release is part of a commit. Does not
know: what is being synced.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from mailmirror import bodies, mailboxes, parked
from mailmirror.documents import to_document
from mailmirror.errors import DocumentExists, UnknownMailbox
from mailmirror.model import Counts, Delta, Mailbox, MessageId, Origin, Parked, Suspect, ThreadId
from mailmirror.ports import Blobs, Clock, GmailAccounts, Store
from mailmirror.slice import Slice, Write

# From this many takeovers on, a worker takes one message at a time and says which before it touches it.
CAREFUL_AFTER = 3
# A message that was in hand this often when its worker died is parked.
SUSPECT_ATTEMPTS = 2


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
        self._renewed_at = now
        self._parked: dict[MessageId, Parked] | None = None
        self.released = False
        self.messages_processed = 0
        self.threads_processed = 0
        self.careful = False
        # Whether to look up where fetched messages are mirrored instead of trusting that they are new.
        self.wary = False
        if self._held.taken_over:
            takeovers = self.mailbox.takeovers + 1
            self.careful = takeovers >= CAREFUL_AFTER
            self._write(replace(self.mailbox, takeovers=takeovers))

    @property
    def mailbox(self) -> Mailbox:
        """The mailbox as of the last commit; hint, policy, watch and request as last read."""
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
        """Read again what workers without the lease write: hint, policy, watch and request."""
        address = self.mailbox.email_address
        fresh = self.store.mailbox(address)
        if fresh is None:
            raise UnknownMailbox(f"Mailbox {address} was removed.")
        self._held = replace(
            self._held,
            mailbox=replace(
                self.mailbox, hint=fresh.hint, policy=fresh.policy, watch=fresh.watch, request=fresh.request
            ),
        )

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

        Args:
            mailbox: the state to store; its cursor must not be lower than the stored one, except with a new signpost.
            part: the mirror's documents and what the delta says of them.
            origin: the delta's origin.
            writes: other documents.
            park, unpark: messages that failed, and messages that need not be tried again.
            release: give the lease back.

        Raises:
            LeaseLost: another worker took the lease; nothing was written.
            DocumentExists: a message that was to be new is mirrored already; nothing was written, and from now on this
                worker is wary.
        """
        part = part or Slice()
        now = self.clock.now()
        documents = [*part.writes, *writes]
        if part.changes:
            mailbox = replace(mailbox, delta_seq=mailbox.delta_seq + 1)
            delta = Delta(mailbox.delta_seq, now, origin, mailbox.cursor, part.changes, now + self.pace.delta)
            documents.append(Write("put", ("deltas", f"{delta.seq:020d}"), to_document(delta)))
        waiting = self.parked if park or unpark else None
        if waiting is not None:
            dropped = [message_id for message_id in unpark if message_id in waiting]
            waiting = {i: p for i, p in waiting.items() if i not in dropped} | {item.id: item for item in park}
            documents += [*map(parked.put, park), *map(parked.drop, dropped)]
            mailbox = replace(mailbox, parked_due_at=parked.due_at(waiting.values()))
        counts = Counts(
            mailbox.counts.messages + part.messages,
            mailbox.counts.threads + part.threads,
            mailbox.counts.parked if waiting is None else len(waiting),
        )
        mailbox = replace(mailbox, counts=counts)
        settled = {change.message_id for change in part.changes} | {item.id for item in park}
        if mailbox.suspect is not None and (release or mailbox.suspect.message_id in settled):
            mailbox = replace(mailbox, suspect=None)
        if release:
            # Only a turn that ends shows that its worker survives; a commit on the way to the message that kills it
            # does not.
            mailbox = replace(mailbox, takeovers=0)
        try:
            self._write(mailbox, documents, release=release)
        except DocumentExists:
            self.wary = True
            raise
        if waiting is not None:
            self._parked = waiting
        self.messages_processed += len({change.message_id for change in part.changes})
        self.threads_processed += len({change.thread_id for change in part.changes})
        if self.blobs is not None:
            for message_id in part.deleted_blobs:
                self.blobs.delete(bodies.name(mailbox.email_address, message_id))

    def suspect(self, message_id: MessageId) -> bool:
        """Say, before a message is touched, that it is in hand; True when it must be parked instead.

        Only while workers keep dying. The count survives this worker's death; the commit that settles the message, or
        the release, clears it.
        """
        before = self.mailbox.suspect
        attempts = before.attempts if before is not None and before.message_id == message_id else 0
        if attempts >= SUSPECT_ATTEMPTS:
            return True
        self._write(replace(self.mailbox, suspect=Suspect(message_id, attempts + 1)))
        return False

    def park(
        self, message_id: MessageId, thread_id: ThreadId, reason: str, origin: Origin, *, deadly: bool = False
    ) -> Parked:
        """Return the message as it will be parked by the commit that is given it."""
        before = self.parked.get(message_id)
        return parked.park(before, message_id, thread_id, reason, self.clock.now(), origin, deadly=deadly)

    def _write(self, mailbox: Mailbox, writes: Sequence[Write] = (), *, release: bool = False) -> None:
        """Commit with the bookkeeping every commit has: due time, quota level and time of sync."""
        now = self.clock.now()
        mailbox = replace(mailbox, phase=mailboxes.phase(mailbox, now))
        stored = self._held.mailbox
        # A due time in the past, or the crash net of an earlier commit, must not stay behind.
        due_soon = now < stored.next_due_at <= now + self.pace.quiet
        if writes or mailboxes.differ(stored, mailbox) or (release and not due_soon):
            # Should this worker die before it releases, the sweep looks as soon as the lease has expired.
            due_at = mailboxes.next_due(mailbox, now, quiet=self.pace.quiet) if release else now + self.pace.lease
            mailbox = replace(mailbox, next_due_at=due_at, quota=self.gmail.quota, last_sync_at=now)
        else:
            mailbox = stored
        self._held = self.store.commit(self._held, mailbox, writes, expires_at=now + self.pace.lease, release=release)
        self._renewed_at = now
        self.released = release
