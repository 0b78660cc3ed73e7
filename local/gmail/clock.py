"""Time as the fake Gmail asks for it.

It knows one question, `now()`. It does not know whether the answer is the machine's time or a simulation's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Anything that tells the time; it must never go backwards."""

    def now(self) -> datetime:
        """The time, aware of its zone."""
        ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """The time in UTC."""
        return datetime.now(UTC)


class ManualClock:
    """A time that stands still until somebody moves it."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        """The time it was moved to."""
        return self._now

    def advance(self, step: timedelta) -> None:
        """Let time pass."""
        if step < timedelta(0):
            raise ValueError("A clock never goes backwards.")
        self._now += step


def milliseconds(moment: datetime) -> int:
    """Epoch milliseconds, the unit of internalDate and of a watch's expiration."""
    return int(moment.timestamp() * 1000)
