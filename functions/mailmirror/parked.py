"""Parked messages: those that failed and wait for a retry, so that one bad message neither blocks nor loses another.

Knows: when to try again and when a message counts as gone. Does not know: why fetching failed beyond a sentence. Law 6.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from mailmirror.documents import to_document
from mailmirror.model import MessageId, Origin, Parked, ThreadId
from mailmirror.slice import Write

DEADLY = "Its worker died each time it was in hand."
FIRST_RETRY = timedelta(minutes=1)
LAST_RETRY = timedelta(hours=6)
# What history announced and messages.get does not find may be late; after this it is gone.
GONE_AFTER = timedelta(minutes=10)
# In one step.
RETRIES = 25


def park(
    before: Parked | None,
    message_id: MessageId,
    thread_id: ThreadId,
    reason: str,
    now: datetime,
    origin: Origin,
    *,
    deadly: bool = False,
) -> Parked:
    """Return the parked message after one more failure.

    The next attempt is 1, 4, 16 ... minutes later, at most 6 hours; a failure before it leaves its time. `reason`: one
    sentence, without mail content.
    """
    if before is None:
        return Parked(message_id, thread_id, reason, 1, now, now + FIRST_RETRY, origin, deadly)
    if now < before.next_attempt_at:
        # A busy message waits no longer.
        return replace(before, thread_id=thread_id, reason=reason, deadly=deadly or before.deadly)
    attempts = before.attempts + 1
    due = now + _wait(attempts)
    return Parked(message_id, thread_id, reason, attempts, before.first_at, due, before.origin, deadly)


def _wait(attempts: int) -> timedelta:
    wait: timedelta = FIRST_RETRY * 4 ** min(attempts - 1, 10)
    return min(wait, LAST_RETRY)


def tried_at(item: Parked) -> datetime:
    """Return the time of the last attempt."""
    return item.next_attempt_at - _wait(item.attempts)


def put(parked: Parked) -> Write:
    """Return the write that stores it."""
    return Write("put", ("parked", parked.id), to_document(parked))


def drop(message_id: MessageId) -> Write:
    """Return the write that deletes it."""
    return Write("delete", ("parked", message_id))


def due_at(parked: Iterable[Parked]) -> datetime | None:
    """Return the time of the next attempt, None without any."""
    return min((item.next_attempt_at for item in parked), default=None)
