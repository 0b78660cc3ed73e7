"""Time as tests own it."""

from datetime import UTC, datetime, timedelta


class VirtualClock:
    """A clock whose `sleep` takes no time at all and moves `now` on; it keeps an account of what was slept."""

    def __init__(self, now: datetime = datetime(2026, 11, 20, 12, tzinfo=UTC)) -> None:
        self._now = now
        self.slept: list[float] = []

    def now(self) -> datetime:
        """The virtual time."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let time pass because somebody waits."""
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=max(0.0, seconds))
