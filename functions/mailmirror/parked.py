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
# A message that history announced and messages.get does not find may only be late; after this time it is gone.
GONE_AFTER = timedelta(minutes=10)
# How many parked messages one step tries again.
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

    Args:
        before: as it was parked before, None the first time.
        message_id, thread_id: the message.
        reason: one sentence, without mail content.
        now: the time of the failure; the next attempt follows after 1, 4, 16 ... minutes, at most 6 hours. A failure
            before the next attempt is due leaves that time as it is.
        origin: what brought the message; kept from the first failure.
        deadly: whether workers died with it in hand.
    """
    if before is None:
        return Parked(message_id, thread_id, reason, 1, now, now + FIRST_RETRY, origin, deadly)
    if now < before.next_attempt_at:
        # History named it again before its time: that a message is busy must not make it wait longer.
        return replace(before, thread_id=thread_id, reason=reason, deadly=deadly or before.deadly)
    attempts = before.attempts + 1
    wait = min(FIRST_RETRY * 4 ** min(attempts - 1, 10), LAST_RETRY)
    return Parked(message_id, thread_id, reason, attempts, before.first_at, now + wait, before.origin, deadly)


def put(parked: Parked) -> Write:
    """Return the write that stores a parked message."""
    return Write("put", ("parked", parked.id), to_document(parked))


def drop(message_id: MessageId) -> Write:
    """Return the write that takes a message out of the parked ones."""
    return Write("delete", ("parked", message_id))


def due_at(parked: Iterable[Parked]) -> datetime | None:
    """Return when the next parked message is to be tried, None when there is none."""
    return min((item.next_attempt_at for item in parked), default=None)
