"""What Gmail calls cost, and when a user has spent too much.

It knows prices, a sliding minute per mailbox, a limit of calls at a time, and which error says so. It does not know
what a call does, nor whether it succeeded: a call that is let through has cost its price.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

from local.gmail.clock import Clock
from local.gmail.errors import ApiError, queries_exceeded, resource_exhausted, retry_after, too_many_concurrent

_CURRENT = {
    "users.getProfile": 1,
    "users.labels.list": 1,
    "users.labels.get": 1,
    "users.history.list": 2,
    "users.messages.list": 5,
    "users.messages.get": 20,
    "users.messages.attachments.get": 20,
    "users.threads.list": 10,
    "users.threads.get": 40,
    "users.watch": 100,
    "users.stop": 50,
}

# Before May 2026. What watch and stop cost then is in no copy of the table at hand: they are assumed unchanged.
_LEGACY = _CURRENT | {"users.messages.get": 5, "users.messages.attachments.get": 5, "users.threads.get": 10}

PRICES = {"2026": _CURRENT, "legacy": _LEGACY}
SHAPES = ("queries", "exhausted")

_WINDOW = timedelta(minutes=1)


@dataclass(slots=True)
class _Meter:
    """One mailbox: what it spent within the window, and ever."""

    recent: deque[tuple[datetime, int]] = field(default_factory=deque)
    recent_units: int = 0
    in_flight: int = 0
    refusals: deque[datetime] = field(default_factory=deque)
    punished_until: datetime | None = None
    units: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)


class Quota:
    """The quota of every mailbox.

    Attributes:
        units_per_minute: the limit per mailbox; None: no limit, but everything is counted.
        shape: how a refusal looks: `queries` (403, the usual) or `exhausted` (429, a burst).
        concurrent: how many calls of one mailbox may run at a time; None: any number.
        punish_after: so many refusals within a minute close the mailbox for `punish_seconds`; None: never.
    """

    def __init__(self, clock: Clock, units_per_minute: int | None = None, prices: str = "2026") -> None:
        self._clock = clock
        self._lock = Lock()
        self._meters: dict[str, _Meter] = {}
        self.units_per_minute = units_per_minute
        self.shape = "queries"
        self.concurrent: int | None = None
        self.punish_after: int | None = None
        self.punish_seconds = 900.0
        self.set_prices(prices)

    def set_prices(self, table: str) -> None:
        """Charge by another price table."""
        if table not in PRICES:
            raise ValueError(f"There is no price table {table}; there are {', '.join(PRICES)}.")
        self.prices = PRICES[table]

    @contextmanager
    def charged(self, mailbox: str, method: str, crowd: int = 0) -> Iterator[None]:
        """Let one call through and charge it, or refuse it; `crowd` counts the calls of batches that it joins."""
        with self._lock:
            meter = self._meters.setdefault(mailbox, _Meter())
            refusal = self._refusal(meter, method, crowd)
            meter.calls[method] += 1
            if refusal:
                meter.rejected[method] += 1
                raise refusal
            price = self.prices[method]
            meter.units[method] += price
            meter.recent.append((self._clock.now(), price))
            meter.recent_units += price
            meter.in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                meter.in_flight -= 1

    def account(self) -> dict[str, Any]:
        """Units, calls and refusals, for each mailbox by method and in all."""
        with self._lock:
            mailboxes = {
                mailbox: {
                    "units": dict(meter.units),
                    "calls": dict(meter.calls),
                    "rejected": dict(meter.rejected),
                    "totalUnits": meter.units.total(),
                    "totalRejected": meter.rejected.total(),
                }
                for mailbox, meter in self._meters.items()
            }
            meters = self._meters.values()
            return {
                "mailboxes": mailboxes,
                "units": sum(meter.units.total() for meter in meters),
                "calls": dict(sum((meter.calls for meter in meters), Counter())),
                "rejected": sum(meter.rejected.total() for meter in meters),
            }

    def _refusal(self, meter: _Meter, method: str, crowd: int) -> ApiError | None:
        now = self._clock.now()
        if meter.punished_until and now < meter.punished_until:
            return retry_after(meter.punished_until)
        if self.concurrent is not None and meter.in_flight + crowd >= self.concurrent:
            return too_many_concurrent()
        if self.units_per_minute is None:
            return None
        while meter.recent and meter.recent[0][0] <= now - _WINDOW:
            meter.recent_units -= meter.recent.popleft()[1]
        if meter.recent_units + self.prices[method] <= self.units_per_minute:
            return None
        return self._punishment(meter, now) or (queries_exceeded() if self.shape == "queries" else resource_exhausted())

    def _punishment(self, meter: _Meter, now: datetime) -> ApiError | None:
        """Gmail closes the door on a client that keeps hammering, for about a quarter of an hour."""
        if self.punish_after is None:
            return None
        meter.refusals.append(now)
        while meter.refusals[0] <= now - _WINDOW:
            meter.refusals.popleft()
        if len(meter.refusals) < self.punish_after:
            return None
        meter.refusals.clear()
        meter.punished_until = now + timedelta(seconds=self.punish_seconds)
        return retry_after(meter.punished_until)
