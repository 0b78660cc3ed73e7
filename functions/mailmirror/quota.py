"""Quota: what each Gmail call costs, and the budget that is asked before it.

Knows: prices, the token bucket of one mailbox with its reserve for live mail, and the units of a day. Does not know:
Gmail, where the level is stored, or what a run does when its day is used up. Law 7: every call has a price, and a
budget is asked before the call.

Prices: https://developers.google.com/gmail/api/reference/quota ("2026" for projects created from 2026-05-01, "legacy"
for older ones).
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
# Of the units a minute allows, this share may be sent in any 60 seconds, and only in those that begin with a full
# bucket. Gmail counts calls not when they are sent but when it comes to them: those that were long on their way are
# closer together there, and an answer that takes longer than a second can put more than this share into Gmail's minute.
# The rest absorbs what moves calls together by less; when it is not enough Gmail refuses, and the bucket is drained.
# What a worker spent after it last stored the level is not in here either. Whoever takes over does so when the lease
# has expired, 120 s after the level was stored, and most of it has left the minute by then. But a worker looks after
# its lease between groups of gets and not within one: if it died over a group that took long, the last calls of it may
# count twice.
MOST = 0.99
# What may be spent at once comes off what may be spent steadily, because burst and refill share the 60 seconds. So the
# burst is small, though never less than the dearest call; the rest is the share that can be spent steadily. At 6,000 a
# minute that is 105 units at once and 97.25 a second: what a run spends at once flows in again within 0.7 s, and
# nothing runs over while an answer takes less than that.
BURST = 0.0175
# This part of the burst a run leaves to live mail.
RESERVE = 1 / 3
DEAREST = max(max(table.values()) for table in PRICES.values())
DEAREST_GET = max(table["users.threads.get"] for table in PRICES.values())
# Below this, waiting for one call after another would take longer than a lease holder may wait.
MIN_UNITS_PER_MINUTE = 500
# No wait longer than this while a lease is held; it is a fraction of the lease's time.
MAX_WAIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """The size of a token bucket: `capacity` units at once, `rate` units a second after that.

    Of what may be spent at once, runs leave `reserve` units to live mail.
    """

    capacity: float
    rate: float
    reserve: float


def bucket(units_per_minute: int) -> Bucket:
    """Return the bucket that never lets more than 99 % of `units_per_minute` be sent in any 60 seconds.

    Raises:
        ValueError: fewer units a minute than the calls need.
    """
    if units_per_minute < MIN_UNITS_PER_MINUTE:
        raise ValueError(f"A mailbox needs {MIN_UNITS_PER_MINUTE} quota units a minute; {units_per_minute} is too few.")
    capacity = max(BURST * units_per_minute, DEAREST)
    rate = (MOST * units_per_minute - capacity) / 60
    # Where little flows in, a run's dearest get has to be payable from an empty bucket all the same, reserve included,
    # and half of what is left of the longest wait stays for a debt.
    payable = (MAX_WAIT_SECONDS * rate - DEAREST_GET) / 2
    return Bucket(capacity, rate, min(RESERVE * capacity, payable))


class Budget:
    """The token bucket of one mailbox, for one worker at a time (the lease sees to that), and the units of its day."""

    def __init__(self, size: Bucket, clock: Clock, stored: Quota | None, *, units_per_day: int | None = None) -> None:
        """Take up the level last stored; without one the bucket is full.

        Args:
            size: of the bucket.
            clock: time.
            stored: the level, when it was that, and the units of its day.
            units_per_day: what runs may spend from one midnight UTC to the next, live mail included; None: no limit.
        """
        self._size = size
        self._clock = clock
        start = stored or Quota(size.capacity, clock.now())
        self._level, self._at, self._today = start.units, start.at, start.today
        self._units_per_day = units_per_day
        self._spares = False
        self.spent = 0

    def level(self) -> Quota:
        """Return the units that can be spent now without waiting, and those spent today."""
        now = max(self._clock.now(), self._at)
        gained = (now - self._at).total_seconds() * self._size.rate
        if now.astimezone(UTC).date() != self._at.astimezone(UTC).date():
            self._today = 0
        self._level, self._at = min(self._size.capacity, self._level + gained), now
        return Quota(self._level, self._at, self._today)

    @property
    def day_left(self) -> int | None:
        """The units that runs may still spend today; None when the day has no limit."""
        return None if self._units_per_day is None else max(0, self._units_per_day - self.level().today)

    @property
    def at_once(self) -> int:
        """The most units one `take` should ask for: more than the bucket holds would break its promise."""
        return int(self._size.capacity - self._kept)

    def affordable(self, seconds: float) -> int:
        """Return the units that can be spent within `seconds`; while sparing, no more than are left of the day."""
        units = max(0, int(self.level().units - self._kept + seconds * self._size.rate))
        return min(units, self.day_left) if self._spares and self.day_left is not None else units

    @contextmanager
    def sparing(self) -> Iterator[None]:
        """Within this context the reserve is left to live mail: it is waited for, and not spent.

        It is part of the burst, not of what flows in: a run that spends all the time spends as much as ever.
        """
        before, self._spares = self._spares, True
        try:
            yield
        finally:
            self._spares = before

    def take(self, units: int) -> None:
        """Spend `units`, waiting for them when it does not take long.

        A sum above `at_once` is paid from a full bucket and leaves it in debt, so that no call is impossible. The day's
        limit refuses nothing here, because live mail is never refused for it: whoever runs asks for `day_left` before.

        Raises:
            Throttled: the wait would be longer than a lease holder may wait; `until` is when to come back.
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
        """Empty the bucket: Gmail refused a call, so somebody else spends from the same quota."""
        self._level = min(0.0, self.level().units)

    @property
    def _kept(self) -> float:
        return self._size.reserve if self._spares else 0.0
