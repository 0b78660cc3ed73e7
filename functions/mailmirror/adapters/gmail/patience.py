"""Patience: what is worth a second try, and how long.

Knows: which failures may pass, and the times between tries. Does not know: what is tried.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from mailmirror.errors import GmailError, GmailUnavailable, NoSubject, Throttled
from mailmirror.ports import Clock

# Seconds between tries, more or less a quarter.
BACK_OFF = (1.0, 2.0, 4.0)
# A lease waits: no call of the port tries again after so long, or goes on for twice that.
PATIENCE_SECONDS = 40.0


def worth_another_try(error: GmailError) -> bool:
    """Whether it may pass soon."""
    passing = isinstance(error, GmailUnavailable | NoSubject)
    return passing or (isinstance(error, Throttled) and error.until is None)


class Patience:
    """How long one call of the port tries what fails. Only time of failures counts."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._lost = timedelta(0)
        self.begin()

    def begin(self) -> None:
        """Begin what may fail: waits are short again, lost time still counts."""
        self._since = self._clock.now() - self._lost
        self._step = 0

    def end(self) -> None:
        """A failure is settled: the time since `begin` was lost."""
        self._lost = self._clock.now() - self._since

    @contextmanager
    def unstrained(self) -> Iterator[None]:
        """Time in which nothing fails."""
        began = self._clock.now()
        try:
            yield
        finally:
            self._since += self._clock.now() - began

    def progress(self) -> None:
        """Something was answered: waits are short again."""
        self._step = 0

    def wait(self) -> bool:
        """Wait for the next try; False when it is enough."""
        if self._step == len(BACK_OFF):
            return False
        delay = BACK_OFF[self._step] * self._rng.uniform(0.75, 1.25)
        if self._elapsed() + delay > PATIENCE_SECONDS:
            return False
        self._clock.sleep(delay)
        self._step += 1
        return True

    def late(self) -> bool:
        """Whether a last try is left."""
        return self._elapsed() > PATIENCE_SECONDS

    def over(self) -> bool:
        """Whether even a last try is too late."""
        return self._elapsed() > 2 * PATIENCE_SECONDS

    def _elapsed(self) -> float:
        return (self._clock.now() - self._since).total_seconds()
