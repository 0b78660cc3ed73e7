"""Quota: what each Gmail call costs, and the budget that is asked before it.

Knows: prices and the token bucket of one mailbox. Does not know: Gmail, or where the level is stored. Law 7: every call
has a price, and a budget is asked before the call.

Prices: https://developers.google.com/gmail/api/reference/quota ("2026" for projects created from 2026-05-01, "legacy"
for older ones).
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from mailmirror.errors import Throttled
from mailmirror.model import Quota
from mailmirror.ports import Clock

PriceTable = Literal["2026", "legacy"]

_COMMON = {
    "users.getProfile": 1,
    "users.labels.list": 1,
    "users.history.list": 2,
    "users.messages.list": 5,
    "users.threads.list": 10,
    "users.watch": 100,
    "users.stop": 50,
}
PRICES: dict[PriceTable, dict[str, int]] = {
    "2026": _COMMON | {"users.messages.get": 20, "users.threads.get": 40},
    "legacy": _COMMON | {"users.messages.get": 5, "users.threads.get": 10},
}
# Of the units a minute allows, this share may pass in any 60 seconds; the rest absorbs what moves calls closer together
# on their way to Gmail, and what a worker spent after it last stored the level.
SHARE = 0.97
# What may be spent at once comes off what may be spent steadily, because burst and refill share the 60 seconds. So the
# burst is small, though never less than the dearest call, and 95 % of a minute's units can be spent steadily.
BURST = 0.02
DEAREST = max(max(table.values()) for table in PRICES.values())
# Below this, waiting for one call after another would take longer than a lease holder may wait.
MIN_UNITS_PER_MINUTE = 500
# No wait longer than this while a lease is held; it is a fraction of the lease's time.
MAX_WAIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """The size of a token bucket: `capacity` units at once, `rate` units a second after that."""

    capacity: float
    rate: float


def bucket(units_per_minute: int) -> Bucket:
    """Return the bucket that never lets more than 97 % of `units_per_minute` pass in any 60 seconds.

    Raises:
        ValueError: fewer units a minute than the calls need.
    """
    if units_per_minute < MIN_UNITS_PER_MINUTE:
        raise ValueError(f"A mailbox needs {MIN_UNITS_PER_MINUTE} quota units a minute; {units_per_minute} is too few.")
    capacity = max(BURST * units_per_minute, DEAREST)
    return Bucket(capacity, (SHARE * units_per_minute - capacity) / 60)


class Budget:
    """The token bucket of one mailbox, for one worker at a time (the lease sees to that)."""

    def __init__(self, size: Bucket, clock: Clock, stored: Quota | None) -> None:
        """Take up the level last stored; without one the bucket is full."""
        self._size = size
        self._clock = clock
        self._level, self._at = (stored.units, stored.at) if stored else (size.capacity, clock.now())
        self.spent = 0

    def level(self) -> Quota:
        """Return the units that can be spent now without waiting."""
        now = self._clock.now()
        gained = max(0.0, (now - self._at).total_seconds()) * self._size.rate
        self._level, self._at = min(self._size.capacity, self._level + gained), max(now, self._at)
        return Quota(self._level, self._at)

    @property
    def at_once(self) -> int:
        """The most units one `take` should ask for: more than the bucket holds would break its promise."""
        return int(self._size.capacity)

    def affordable(self, seconds: float) -> int:
        """Return the units that can be spent within `seconds`."""
        return max(0, int(self.level().units + seconds * self._size.rate))

    def take(self, units: int) -> None:
        """Spend `units`, waiting for them when it does not take long.

        A sum above `at_once` is paid from a full bucket and leaves it in debt, so that no call is impossible.

        Raises:
            Throttled: the wait would be longer than a lease holder may wait; `until` is when to come back.
        """
        needed = min(float(units), self._size.capacity) - self.level().units
        wait = needed / self._size.rate
        if wait > MAX_WAIT_SECONDS:
            raise Throttled(
                f"The quota budget is short of {needed:.0f} units.", self._clock.now() + timedelta(seconds=wait)
            )
        if wait > 0:
            self._clock.sleep(wait)
        self._level = self.level().units - units
        self.spent += units

    def drain(self) -> None:
        """Empty the bucket: Gmail refused a call, so somebody else spends from the same quota."""
        self._level, self._at = min(0.0, self.level().units), self._at
