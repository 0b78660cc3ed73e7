"""Virtual time: one clock for the client, for the fake Gmail and for its quota, on which hours pass in seconds.

Knows: that whoever waits moves it on. Does not know: who waits. Waits of several threads follow one another, though in
life they would pass together: what is measured on this clock is at least as long as it would be.
"""

from datetime import UTC, datetime, timedelta
from threading import Lock


class VirtualClock:
    """`ports.Clock`, and the fake Gmail's clock, at once."""

    def __init__(self, now: datetime = datetime(2026, 11, 20, 12, tzinfo=UTC)) -> None:
        """Start at some time; none of the figures depends on it."""
        self._now = now
        self._lock = Lock()

    def now(self) -> datetime:
        """Return the virtual time."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let time pass, at once."""
        with self._lock:
            self._now += timedelta(seconds=max(0.0, seconds))
