"""How notifications travel from a mailbox to Pub/Sub, and what happens to them on the way.

It knows Pub/Sub's REST API for publishing, and how to lose, repeat, delay and shuffle. It does not know why a
notification was made. One background thread publishes: a mailbox never waits for it.

Chance is drawn when a notification is handed over, not when it is sent: the same seed and the same mail give the same
losses.
"""

from __future__ import annotations

import base64
import heapq
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http.client import HTTPConnection, HTTPException
from random import Random
from threading import Condition, Thread
from typing import Any

from local.gmail.watch import Notification

_ATTEMPTS = 5
_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Knobs:
    """What happens on the way.

    Attributes:
        lose: how often a notification is lost, 0 to 1.
        duplicate: how often it is published twice, 0 to 1.
        shuffle: it is delayed by a random time up to so many seconds.
        coalesce_seconds: Gmail drops what comes sooner than a second after the last one of the same mailbox; 0:
            nothing. off: none is published at all.
    """

    lose: float = 0.0
    duplicate: float = 0.0
    shuffle: float = 0.0
    coalesce_seconds: float = 0.0
    off: bool = False


@dataclass(order=True, slots=True)
class _Letter:
    """A notification on its way: when it is due, and how often it was tried."""

    due: float
    number: int
    notification: Notification = field(compare=False)
    attempts: int = field(default=0, compare=False)


class Notifier:
    """Publishes notifications in the background; a context manager that stops its thread.

    Without a host nothing is published: every notification counts as off.
    """

    def __init__(self, pubsub_host: str | None, *, seed: int = 0) -> None:
        self._host = pubsub_host
        self._rng = Random(seed)
        self._knobs = Knobs(off=pubsub_host is None)
        self._changed = Condition()
        self._waiting: list[_Letter] = []
        self._handed_over = 0
        self._in_hand = 0
        self._closed = False
        self._counts: Counter[str] = Counter()
        self._last: dict[str, datetime] = {}
        self._thread = Thread(target=self._run, name="gmail-notifications", daemon=True)
        self._thread.start()

    def __enter__(self) -> Notifier:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def publish(self, notification: Notification) -> None:
        """Hand a notification over; returns at once."""
        with self._changed:
            knobs = self._knobs
            # Always drawn, in the same number: a knob that is turned does not shift the chances of those that are not.
            lost, twice = self._rng.random() < knobs.lose, self._rng.random() < knobs.duplicate
            delays = [self._rng.random() * knobs.shuffle, self._rng.random() * knobs.shuffle]
            if knobs.off:
                self._counts["off"] += 1
            elif self._too_soon(notification):
                self._counts["coalesced"] += 1
            elif lost:
                self._counts["lost"] += 1
            else:
                self._counts["duplicated"] += twice
                for delay in delays[: 2 if twice else 1]:
                    self._handed_over += 1
                    heapq.heappush(self._waiting, _Letter(time.monotonic() + delay, self._handed_over, notification))
                self._changed.notify_all()

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Turn some knobs, by the names of `Knobs`."""
        with self._changed:
            self._knobs = replace(self._knobs, **changes)

    def account(self) -> dict[str, Any]:
        """What became of the notifications so far, and how the knobs stand."""
        with self._changed:
            counts = {name: self._counts[name] for name in ("sent", "lost", "duplicated", "coalesced", "off", "failed")}
            knobs = self._knobs
            return counts | {
                "waiting": len(self._waiting) + self._in_hand,
                "knobs": {
                    "lose": knobs.lose,
                    "duplicate": knobs.duplicate,
                    "shuffle": knobs.shuffle,
                    "coalesceSeconds": knobs.coalesce_seconds,
                    "off": knobs.off,
                },
            }

    def wait_until_idle(self, timeout: float = 10.0) -> bool:
        """Wait until nothing is on its way; False when that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._in_hand, timeout)

    def close(self) -> None:
        """Stop the thread; what still waits is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _too_soon(self, notification: Notification) -> bool:
        gap = timedelta(seconds=self._knobs.coalesce_seconds)
        last = self._last.get(notification.email_address)
        if gap and last and notification.at < last + gap:
            return True
        self._last[notification.email_address] = notification.at
        return False

    def _run(self) -> None:
        while True:
            with self._changed:
                letter = self._next_letter()
                if letter is None:
                    return
                self._in_hand = 1
            published = self._post(letter.notification)
            with self._changed:
                self._in_hand = 0
                letter.attempts += 1
                if published:
                    self._counts["sent"] += 1
                elif letter.attempts == _ATTEMPTS:
                    self._counts["failed"] += 1
                else:
                    letter.due = time.monotonic() + _RETRY_SECONDS
                    heapq.heappush(self._waiting, letter)
                self._changed.notify_all()

    def _next_letter(self) -> _Letter | None:
        """Wait for the next one that is due; None when closed. Called with the condition held."""
        while not self._closed:
            now = time.monotonic()
            if self._waiting and self._waiting[0].due <= now:
                return heapq.heappop(self._waiting)
            self._changed.wait(self._waiting[0].due - now if self._waiting else None)
        return None

    def _post(self, notification: Notification) -> bool:
        connection = HTTPConnection(self._host or "", timeout=10)
        try:
            connection.request(
                "POST",
                f"/v1/{notification.topic}:publish",
                json.dumps({"messages": [{"data": data_of(notification)}]}),
                {"Content-Type": "application/json"},
            )
            return 200 <= connection.getresponse().status < 300
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def data_of(notification: Notification) -> str:
    """The data of the Pub/Sub message: the historyId is a JSON number, whatever Google's guide shows."""
    text = json.dumps({"emailAddress": notification.email_address, "historyId": notification.history_id})
    return base64.b64encode(text.encode()).decode("ascii")
