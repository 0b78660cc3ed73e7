"""Patience: what is worth a second try, and how long.

Knows: which failures may pass, and the times between tries. Does not know: what is tried.
"""

import random
from datetime import timedelta

from mailmirror.errors import GmailError, GmailUnavailable, NoSubject, Throttled
from mailmirror.ports import Clock

# What was refused or not answered is tried again after these times, more or less a quarter.
BACK_OFF = (1.0, 2.0, 4.0)
# A lease is waiting: no call of the port tries anything again that failed so long ago, and none goes on for twice that.
PATIENCE_SECONDS = 40.0


def worth_another_try(error: GmailError) -> bool:
    """Whether the same call may be answered a little later."""
    passing = isinstance(error, GmailUnavailable | NoSubject)
    return passing or (isinstance(error, Throttled) and error.until is None)


class Patience:
    """How long one call of the port goes on trying what fails. Time in which nothing failed does not count."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._lost = timedelta(0)
        self.begin()

    def begin(self) -> None:
        """Something begins that may fail: waits are short again, and what was lost before still counts."""
        self._since = self._clock.now() - self._lost
        self._step = 0

    def end(self) -> None:
        """It had failed and is settled: the time since `begin` was lost."""
        self._lost = self._clock.now() - self._since

    def progress(self) -> None:
        """Something was answered: waits are short again."""
        self._step = 0

    def wait(self) -> bool:
        """Wait for the next try; False at once when it is enough."""
        if self._step == len(BACK_OFF):
            return False
        delay = BACK_OFF[self._step] * self._rng.uniform(0.75, 1.25)
        if self._elapsed() + delay > PATIENCE_SECONDS:
            return False
        self._clock.sleep(delay)
        self._step += 1
        return True

    def late(self) -> bool:
        """Whether the time that is left is for a last try."""
        return self._elapsed() > PATIENCE_SECONDS

    def over(self) -> bool:
        """Whether even a last try would take too long."""
        return self._elapsed() > 2 * PATIENCE_SECONDS

    def _elapsed(self) -> float:
        return (self._clock.now() - self._since).total_seconds()
