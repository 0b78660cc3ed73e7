"""A store whose worker dies: before or after a chosen call, the way a killed process does.

The exception is a BaseException and no engine code catches it; what the call did stays done.
"""

from typing import Any, Protocol

from mailmirror.app import App
from mailmirror.model import MailboxId, Quota
from mailmirror.ports import GmailAccounts

from tests.world import World


class Killed(BaseException):
    """The worker is dead."""


class When(Protocol):
    """Decides whether the worker dies at a call."""

    def __call__(self, name: str, *, after: bool) -> bool:
        """Return whether it dies, before the call or after its effect."""
        ...


def at_call(number: int) -> When:
    """Return when a worker dies: at its `number`th call, before and after counted alike."""
    calls = 0

    def when(name: str, *, after: bool) -> bool:
        nonlocal calls
        calls += 1
        return calls == number

    return when


class KillingStore:
    """Passes every call on to a store, or another port, and kills when `when` says so.

    `when(name, after=…)` is asked before and after each call.
    """

    def __init__(self, store: object, when: When) -> None:
        self._store = store
        self._when = when

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not callable(method):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._when(name, after=False):
                raise Killed
            result = method(*args, **kwargs)
            if self._when(name, after=True):
                raise Killed
            return result

        return call


class KillingAccounts:
    """Opens mailboxes whose every call may kill."""

    def __init__(self, accounts: GmailAccounts, when: When) -> None:
        self._accounts = accounts
        self._when = when

    def open(self, mailbox: MailboxId, quota: Quota | None) -> Any:
        """Return the mailbox."""
        return KillingStore(self._accounts.open(mailbox, quota), self._when)

    def forget(self, mailbox: MailboxId) -> int:
        """Forget the mailbox, and kill before or after."""
        forgotten: int = KillingStore(self._accounts, self._when).forget(mailbox)
        return forgotten


def doomed(world: World, when: When) -> App:
    """Return a worker of a world that may die at any call to the store, Gmail, Cloud Storage or Pub/Sub."""
    ports: Any = world
    kept = ports.store, ports.accounts, ports.blobs, ports.outbox
    ports.store, ports.blobs, ports.outbox = (KillingStore(port, when) for port in (kept[0], kept[2], kept[3]))
    ports.accounts = KillingAccounts(kept[1], when)
    try:
        return world.worker("doomed")
    finally:
        ports.store, ports.accounts, ports.blobs, ports.outbox = kept
