"""Several mailboxes as Google runs them: behind quota, access control and things that go wrong.

It knows the methods of the API by their names in the discovery document and calls them on a mailbox, one at a time for
each mailbox. It does not know HTTP: `server` translates. A simulation may use it as it is, with a clock and a sleep of
its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from random import Random
from threading import RLock
from typing import Any

from local.gmail.clock import Clock
from local.gmail.errors import ConnectionDropped, Silence, mail_service_not_enabled, of_status
from local.gmail.faults import Fault, Faults
from local.gmail.mailbox import Mailbox
from local.gmail.quota import Quota
from local.gmail.user import unheard
from local.gmail.watch import Notification

METHODS: dict[str, Callable[..., dict[str, Any]]] = {
    "users.getProfile": Mailbox.get_profile,
    "users.watch": Mailbox.watch,
    "users.stop": Mailbox.stop,
    "users.history.list": Mailbox.list_history,
    "users.messages.list": Mailbox.list_messages,
    "users.messages.get": Mailbox.get_message,
    "users.messages.attachments.get": Mailbox.get_attachment,
    "users.threads.list": Mailbox.list_threads,
    "users.threads.get": Mailbox.get_thread,
    "users.labels.list": Mailbox.list_labels,
    "users.labels.get": Mailbox.get_label,
}

# What a call is about, if it is about one thing.
_SUBJECTS = ("message_id", "thread_id", "label_id")


class World:
    """All mailboxes, by lower-cased address.

    Attributes:
        latency: seconds that every HTTP request takes before anything happens.
        quota: what calls cost.
        faults: what goes wrong.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        seed: int = 0,
        units_per_minute: int | None = None,
        prices: str = "2026",
        publish: Callable[[Notification], None] = unheard,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.clock = clock
        self.quota = Quota(clock, units_per_minute, prices)
        self.faults = Faults(tuple(METHODS))
        self.latency = 0.0
        self.sleep = sleep
        self._seed = seed
        self._publish = publish
        self._mailboxes: dict[str, Mailbox] = {}
        self._locks: dict[str, RLock] = {}
        self._revoked: set[str] = set()
        self._history_lag = timedelta(0)
        self._get_lag = timedelta(0)

    def add(self, address: str) -> Mailbox:
        """The mailbox of that address, new and empty unless it is there already."""
        key = address.lower()
        if key not in self._mailboxes:
            # Seeded by its own name: what one mailbox draws does not depend on the order in which others are made.
            mailbox = Mailbox(address, clock=self.clock, rng=Random(f"{self._seed}:{key}"))
            mailbox.on_notification = self._publish
            mailbox.history_lag, mailbox.get_lag = self._history_lag, self._get_lag
            self._locks[key] = RLock()
            self._mailboxes[key] = mailbox
        return self._mailboxes[key]

    def find(self, address: str) -> Mailbox | None:
        """The mailbox of that address, in any case of letters."""
        return self._mailboxes.get(address.lower())

    def only(self) -> Mailbox | None:
        """The mailbox, if there is exactly one."""
        return next(iter(self._mailboxes.values())) if len(self._mailboxes) == 1 else None

    def mailboxes(self) -> list[Mailbox]:
        """All mailboxes in the order they were added."""
        return list(self._mailboxes.values())

    def lock(self, mailbox: Mailbox) -> RLock:
        """To be held by whoever touches this mailbox while others may."""
        return self._locks[mailbox.address.lower()]

    def set_lag(self, history: timedelta, get: timedelta) -> None:
        """How far history and messages.get lag behind, in every mailbox and in those to come."""
        self._history_lag, self._get_lag = history, get
        for mailbox in self._mailboxes.values():
            mailbox.history_lag, mailbox.get_lag = history, get

    def revoke(self, mailbox: Mailbox) -> None:
        """The user takes access back: every call answers 401. Watches survive; what Gmail does is not documented."""
        self._revoked.add(mailbox.address.lower())

    def restore(self, mailbox: Mailbox) -> None:
        """The user grants access again."""
        self._revoked.discard(mailbox.address.lower())

    def is_revoked(self, mailbox: Mailbox) -> bool:
        """Whether access was taken back."""
        return mailbox.address.lower() in self._revoked

    def call(self, address: str, method: str, params: Mapping[str, Any], *, crowd: int = 0) -> dict[str, Any]:
        """One call of the API: access, quota, faults, then the mailbox. `crowd`: calls of unanswered batches before it.

        Raises ApiError, ConnectionDropped or Silence.
        """
        mailbox = self.find(address)
        if mailbox is None:
            raise mail_service_not_enabled()
        if self.is_revoked(mailbox):
            raise of_status(401)
        with self.quota.charged(mailbox.address.lower(), method, crowd):
            fault = self.faults.take(method, next((params[name] for name in _SUBJECTS if name in params), None))
            if fault:
                self._suffer(fault)
            with self.lock(mailbox):
                answer = METHODS[method](mailbox, **params)
            if fault and fault.kind == "reset-after":
                raise ConnectionDropped(done=True)
            return answer

    def _suffer(self, fault: Fault) -> None:
        """What a fault does before the work; it sleeps, if at all, without the mailbox's lock."""
        error = fault.error(self.clock.now())
        if error:
            raise error
        if fault.kind == "reset":
            raise ConnectionDropped(done=False)
        if fault.kind == "timeout":
            self.sleep(fault.seconds)
            raise Silence(fault.seconds)
        if fault.kind == "slow":
            self.sleep(fault.seconds)
