"""Publishing each delta to applications, in order and at least once.

Knows: how far that is done, which moves only after Pub/Sub accepted, and a delta as a CloudEvent. Does not know: who
syncs. Nobody needs the lease: each goes through the log from a stored position without a gap, so what comes for the
first time comes in order. Law 5: if a worker dies, the next turn goes on. What fails here holds up no mail.
"""

import json
import logging
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from urllib.parse import quote

from mailmirror.deltas import delta_json, life_of
from mailmirror.errors import MailmirrorError
from mailmirror.log import log
from mailmirror.model import EPOCH, Delta, Mailbox, MailboxId
from mailmirror.ports import Clock, Store, Topic

# A delta may have nearly 1 MB.
CHUNK = 10
# Whatever the deadline; less while live mail may wait.
AT_LEAST = timedelta(seconds=20)
BETWEEN = timedelta(seconds=5)
# After a failure this worker rests, and the mailbox is due again.
REST = timedelta(minutes=1)
AGAIN = timedelta(minutes=2)


@dataclass(eq=False)
class Announcer:
    """Publishes deltas to one topic; many may. `source` begins each event's."""

    store: Store
    topic: Topic
    clock: Clock
    source: str
    rests_until: datetime = field(default=EPOCH, init=False)

    def begin(self, mailbox: Mailbox) -> None:
        """Begin at the end of the log, if not begun: old mail is no news."""
        if announced(mailbox) is None:
            self.store.announced(mailbox.email_address, life_of(mailbox) + mailbox.delta_seq)

    def announce(self, mailbox: MailboxId, deadline: datetime | None) -> bool:
        """Publish what is left, or make the mailbox due; return whether nothing is. No `deadline`: under the lease."""
        now = self.clock.now()
        until = now + BETWEEN if deadline is None else max(deadline, now + AT_LEAST)
        try:
            state = self.store.mailbox(mailbox)
            while state is not None and _left(state):
                now = self.clock.now()
                if until <= now or now < self.rests_until:
                    return self._again(state)
                state, failure = self._chunk(state, until)
                if failure is not None:
                    _failed(mailbox, failure)
                    self.rests_until = self.clock.now() + REST
                    return state is None or self._again(state)
        except MailmirrorError as error:
            _failed(mailbox, error)
            return False
        return True

    def _chunk(self, state: Mailbox, until: datetime) -> tuple[Mailbox | None, MailmirrorError | None]:
        """Publish some; return the state after, and what failed."""
        mailbox, begun = state.email_address, announced(state) or 0
        deltas = self.store.deltas(mailbox, after=begun, limit=CHUNK)
        # Read after them: are they of this life, and all?
        fresh = self.store.mailbox(mailbox)
        if (
            fresh is None
            or not _left(fresh)
            or (fresh.created_at, fresh.announced) != (state.created_at, state.announced)
        ):
            return fresh, None
        done, failure = begun, None
        for delta in deltas:
            done = self._lost(mailbox, done, delta.seq - 1)
            try:
                self._publish(fresh, delta)
            except MailmirrorError as error:
                failure = error
                break
            done = delta.seq
            if self.clock.now() >= until:
                break
        if not deltas:
            done = self._lost(mailbox, done, state.delta_seq)
        if done > begun:
            self.store.announced(mailbox, life_of(state) + done)
        return replace(fresh, announced=life_of(state) + done), failure

    def _publish(self, mailbox: Mailbox, delta: Delta) -> None:
        """A CloudEvent in binary mode: github.com/googleapis/google-cloudevents, docs/spec/pubsub.md."""
        data, address = delta_json(mailbox, delta), mailbox.email_address
        attributes = {
            "ce-specversion": "1.0",
            "ce-type": "com.mailmirror.delta",
            "ce-source": f"{self.source}/mailboxes/{quote(address, safe='@')}",
            "ce-id": str(data["cursor"]),
            "ce-time": str(data["at"]),
            "content-type": "application/json",
            "mailbox": address,
            "origin": delta.origin,
        }
        self.topic.publish(json.dumps(data, separators=(",", ":")).encode(), attributes, address)

    def _lost(self, mailbox: MailboxId, done: int, last: int) -> int:
        """Pass deltas that are deleted, after 30 days; return the new position."""
        if last > done:
            log("announcements_lost", mailbox, level=logging.WARNING, first=done + 1, last=last)
        return last

    def _again(self, mailbox: Mailbox) -> bool:
        due_at = self.clock.now() + AGAIN
        if mailbox.next_due_at > due_at:
            self.store.raise_hint(mailbox.email_address, 0, due_at)
        return False


def announced(mailbox: Mailbox) -> int | None:
    """Return the `seq` up to which a mailbox is announced, None if not begun.

    It is stored above the life's beginning: what an earlier life's worker writes late changes nothing.
    """
    position = mailbox.announced
    return None if position is None or position < life_of(mailbox) else position - life_of(mailbox)


def _left(mailbox: Mailbox) -> bool:
    begun = announced(mailbox)
    return begun is not None and begun < mailbox.delta_seq and mailbox.wanted != "purged"


def _failed(mailbox: MailboxId, error: MailmirrorError) -> None:
    log("announce_failed", mailbox, level=logging.ERROR, error=type(error).__name__, reason=str(error))
