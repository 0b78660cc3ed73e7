"""A store whose worker dies: before or after a chosen call, the way a killed process does.

The exception is a BaseException and no engine code catches it; what the call did stays done.
"""

from typing import Any, Protocol

from mailmirror.ports import Store


class Killed(BaseException):
    """The worker is dead."""


class When(Protocol):
    """Decides whether the worker dies at a call."""

    def __call__(self, name: str, *, after: bool) -> bool:
        """Return whether it dies, before the call or after its effect."""
        ...


class KillingStore:
    """Passes every call on to a store, and kills when `when` says so.

    `when(name, after=…)` is asked before and after each call.
    """

    def __init__(self, store: Store, when: When) -> None:
        self._store = store
        self._when = when

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._when(name, after=False):
                raise Killed
            result = method(*args, **kwargs)
            if self._when(name, after=True):
                raise Killed
            return result

        return call
