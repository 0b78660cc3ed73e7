"""A store whose worker dies: before or after a chosen call, the way a killed process does.

The exception is a BaseException and no engine code catches it; what the call did stays done.
"""

from collections.abc import Callable
from typing import Any

from mailmirror.ports import Store


class Killed(BaseException):
    """The worker is dead."""


class KillingStore:
    """Passes every call on to a store, and kills when `when` says so.

    `when(name, after)` is asked before and after each call.
    """

    def __init__(self, store: Store, when: Callable[[str, bool], bool]) -> None:
        self._store = store
        self._when = when

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._when(name, False):
                raise Killed
            result = method(*args, **kwargs)
            if self._when(name, True):
                raise Killed
            return result

        return call
