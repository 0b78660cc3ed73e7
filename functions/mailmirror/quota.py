"""Quota: what each Gmail call costs, and the budget that is asked before it.

Knows: prices, a mailbox's token bucket with its reserve for live mail, and the units of a day. Does not know: Gmail,
where the level is stored, or what a run does when its day is used up. Law 7: a budget is asked before each call.

https://developers.google.com/gmail/api/reference/quota: "2026" for projects created from 2026-05-01, else "legacy".
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Literal

from mailmirror.errors import Throttled
from mailmirror.model import Quota
from mailmirror.ports import Clock

PriceTable = Literal["2026", "legacy"]

_COMMON = {
    "users.getProfile": 1,
    "users.labels.list": 1,
    "users.labels.get": 1,
    "users.history.list": 2,
    "users.messages.list": 5,
    "users.threads.list": 10,
    "users.watch": 100,
    "users.stop": 50,
}
PRICES: dict[PriceTable, dict[str, int]] = {
    "2026": _COMMON | {"users.messages.get": 20, "users.messages.attachments.get": 20, "users.threads.get": 40},
    "legacy": _COMMON | {"users.messages.get": 5, "users.messages.attachments.get": 5, "users.threads.get": 10},
}
# The share of a minute's units sent in 60 seconds that begin with a full bucket. Gmail counts a call when it comes to
# it: the rest absorbs a second's delay; beyond it Gmail refuses, and the bucket is drained. Not in here: what a worker
# spent after it last stored the level; when it died over a long group of gets, whoever takes over may count that twice.
MOST = 0.99
# Burst and refill share the 60 seconds: so it is small, but never less than the dearest call. At 6,000 a minute: 105
# units at once and 97.25 a second; nothing runs over while answers take less than 0.7 s.
BURST = 0.0175
# Of the burst, for live mail.
RESERVE = 1 / 3
DEAREST = max(max(table.values()) for table in PRICES.values())
DEAREST_GET = max(table["users.threads.get"] for table in PRICES.values())
# With less, calls would wait longer than a lease holder may.
MIN_UNITS_PER_MINUTE = 500
# The longest wait, a fraction of a lease.
MAX_WAIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """`capacity` units at once, `reserve` of them for live mail, then `rate` units a second."""

    capacity: float
    rate: float
    reserve: float


def bucket(units_per_minute: int) -> Bucket:
    """Return the bucket that lets at most `MOST` be sent in any 60 seconds. Raises `ValueError`: too few units."""
    if units_per_minute < MIN_UNITS_PER_MINUTE:
        raise ValueError(f"A mailbox needs {MIN_UNITS_PER_MINUTE} quota units a minute; {units_per_minute} is too few.")
    capacity = max(BURST * units_per_minute, DEAREST)
    rate = (MOST * units_per_minute - capacity) / 60
    # A run's dearest get must be payable from an empty bucket, reserve included; half of what is left of the longest
    # wait is for a debt.
    payable = (MAX_WAIT_SECONDS * rate - DEAREST_GET) / 2
    return Bucket(capacity, rate, min(RESERVE * capacity, payable))


class Budget:
    """A mailbox's token bucket and the units of its day, for one worker at a time: who has the lease."""

    def __init__(self, size: Bucket, clock: Clock, stored: Quota | None, *, units_per_day: int | None = None) -> None:
        """Begin at the level last stored; `units_per_day` is for runs, live mail included."""
        self._size = size
        self._clock = clock
        start = stored or Quota(size.capacity, clock.now())
        self._level, self._at, self._today = start.units, start.at, start.today
        self._units_per_day = units_per_day
        self._spares = False
        self.spent = 0

    def level(self) -> Quota:
        """Return the units to be had without waiting, and those spent today."""
        now = max(self._clock.now(), self._at)
        gained = (now - self._at).total_seconds() * self._size.rate
        if now.astimezone(UTC).date() != self._at.astimezone(UTC).date():
            self._today = 0
        self._level, self._at = min(self._size.capacity, self._level + gained), now
        return Quota(self._level, self._at, self._today)

    @property
    def day_left(self) -> int | None:
        """The units that runs may still spend today."""
        return None if self._units_per_day is None else max(0, self._units_per_day - self.level().today)

    @property
    def at_once(self) -> int:
        """The most units that keep the bucket's promise in one `take`."""
        return int(self._size.capacity - self._kept)

    def affordable(self, seconds: float) -> int:
        """Return the units to be had within `seconds`; while sparing, at most `day_left`."""
        units = max(0, int(self.level().units - self._kept + seconds * self._size.rate))
        return min(units, self.day_left) if self._spares and self.day_left is not None else units

    @contextmanager
    def sparing(self) -> Iterator[None]:
        """Leave the reserve to live mail here."""
        before, self._spares = self._spares, True
        try:
            yield
        finally:
            self._spares = before

    def take(self, units: int) -> None:
        """Spend `units`, after a short wait if need be.

        A sum above `at_once` is paid from a full bucket and leaves it in debt: no call is impossible. The day's limit
        never refuses live mail, so nothing here: runs ask for `day_left` before.

        Raises:
            Throttled: the wait is too long for a lease holder; `until` is when to come back.
        """
        needed = min(units + self._kept, self._size.capacity) - self.level().units
        wait = needed / self._size.rate
        if wait > MAX_WAIT_SECONDS:
            raise Throttled(
                f"The quota budget is short of {needed:.0f} units.", self._clock.now() + timedelta(seconds=wait)
            )
        if wait > 0:
            self._clock.sleep(wait)
        self._level = self.level().units - units
        self._today += units
        self.spent += units

    def drain(self) -> None:
        """Empty the bucket: Gmail refused, so somebody else spends too."""
        self._level = min(0.0, self.level().units)

    @property
    def _kept(self) -> float:
        return self._size.reserve if self._spares else 0.0
