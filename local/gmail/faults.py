"""Faults on demand, addressed by API method, with an account of which were met.

It knows a queue for each method, of which each call consumes one, and faults pinned to one message or thread.
It does not know what a fault does to a connection or a mailbox: `world` applies it.

A fault is written as

    404  "404"               an HTTP status with Google's body for it
    "403:domainPolicy"       a status with one of its reasons
    "429:concurrent"         429 "Too many concurrent requests for user"
    "retry-after:900"        429 "User-rate limit exceeded.  Retry after …", so many seconds from now
    "slow:2.5"               the answer comes after so many seconds
    "timeout"  "timeout:90"  no answer within so many seconds (60), nothing is done, then the connection drops
    "reset"                  the connection drops before the work is done
    "reset-after"            the work is done, then the connection drops
    {"id": "18c…", "status": 500, "times": -1}   any of these, for one message or thread only, so often; -1: for ever

httplib2 repeats a call once by itself when a connection drops: one `reset` alone may go unnoticed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

from local.gmail.errors import ApiError, of_status, retry_after, too_many_concurrent

_SECONDS_BY_DEFAULT = {"retry-after": 900.0, "slow": 1.0, "timeout": 60.0}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, once."""

    text: str
    kind: str
    seconds: float = 0.0
    status: int = 0
    reason: str | None = None

    @classmethod
    def parse(cls, text: object) -> Fault:
        """A fault as it is written in a request."""
        word, _, detail = str(text).partition(":")
        try:
            if word in _SECONDS_BY_DEFAULT:
                seconds = float(detail) if detail else _SECONDS_BY_DEFAULT[word]
                if not 0 <= seconds < 1e6:
                    raise ValueError
                return cls(str(text), word, seconds=seconds)
            if word in {"reset", "reset-after"} and not detail:
                return cls(word, word)
            if 400 <= int(word) <= 599:
                return cls(str(text), "status", status=int(word), reason=detail or None)
        except ValueError:
            pass
        raise ValueError(
            f"{text!r} is no fault: write a status from 400 to 599, status:reason, "
            "retry-after:SECONDS, slow:SECONDS, timeout:SECONDS, reset or reset-after."
        )

    def error(self, now: datetime) -> ApiError | None:
        """The error it answers with, if it answers."""
        if self.kind == "retry-after":
            return retry_after(now + timedelta(seconds=self.seconds))
        if self.kind != "status":
            return None
        return too_many_concurrent() if self.reason == "concurrent" else of_status(self.status, self.reason)


@dataclass(slots=True)
class _Pinned:
    """A fault that waits for one id; `left` below zero: it never leaves."""

    id: str
    fault: Fault
    left: int


@dataclass(slots=True)
class _Queue:
    """What waits for one method, and what was met."""

    waiting: list[Fault] = field(default_factory=list)
    pinned: list[_Pinned] = field(default_factory=list)
    consumed: list[str] = field(default_factory=list)


class Faults:
    """The faults of all methods; the same for every mailbox."""

    def __init__(self, methods: Sequence[str]) -> None:
        self._lock = Lock()
        self._queues = {method: _Queue() for method in methods}

    def add(self, plan: Mapping[str, Any]) -> None:
        """Queue faults, `{method: fault or list of faults}`; all of them or, when one is wrong, none."""
        parsed = [(self._queue(method), _parse_all(given)) for method, given in plan.items()]
        with self._lock:
            for queue, faults in parsed:
                for fault in faults:
                    if isinstance(fault, _Pinned):
                        queue.pinned.append(fault)
                    else:
                        queue.waiting.append(fault)

    def take(self, method: str, subject: str | None) -> Fault | None:
        """The fault this call meets: one pinned to its id first, then the next in the method's queue."""
        queue = self._queues[method]
        if not queue.pinned and not queue.waiting:
            return None
        with self._lock:
            for pinned in queue.pinned:
                if pinned.id == subject:
                    pinned.left -= 1
                    if pinned.left == 0:
                        queue.pinned.remove(pinned)
                    queue.consumed.append(f"{pinned.fault.text} for {pinned.id}")
                    return pinned.fault
            if not queue.waiting:
                return None
            fault = queue.waiting.pop(0)
            queue.consumed.append(fault.text)
            return fault

    def clear(self) -> None:
        """Forget what waits and what was met."""
        with self._lock:
            for method in self._queues:
                self._queues[method] = _Queue()

    def account(self) -> dict[str, Any]:
        """By method: which faults were consumed, in order, and which still wait."""
        with self._lock:
            return {
                method: {
                    "consumed": list(queue.consumed),
                    "waiting": [fault.text for fault in queue.waiting],
                    "pinned": [
                        {"id": pinned.id, "status": pinned.fault.text, "times": max(pinned.left, -1)}
                        for pinned in queue.pinned
                    ],
                }
                for method, queue in self._queues.items()
                if queue.consumed or queue.waiting or queue.pinned
            }

    def _queue(self, method: str) -> _Queue:
        if method not in self._queues:
            raise ValueError(f"There is no method {method}; there are {', '.join(self._queues)}.")
        return self._queues[method]


def _parse_all(given: object) -> list[Fault | _Pinned]:
    faults: list[Fault | _Pinned] = []
    for item in given if isinstance(given, list) else [given]:
        if not isinstance(item, Mapping):
            faults.append(Fault.parse(item))
            continue
        times = item.get("times", 1)
        if not isinstance(item.get("id"), str) or not isinstance(times, int) or times == 0:
            raise ValueError('A pinned fault needs an "id" and "times" above 0, or -1 for ever.')
        faults.append(_Pinned(item["id"], Fault.parse(item.get("status")), times))
    return faults
