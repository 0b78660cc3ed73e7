"""A store whose callers are disturbed: right after a chosen call, once, something else happens.

What two threads may do in one unlucky order out of many is so done in exactly that order.
"""

from collections.abc import Callable
from typing import Any

from mailmirror.ports import Store


class Meanwhile:
    """Passes every call on to a store; `act` happens before the first call of `name`, or the `number`th, returns."""

    def __init__(self, store: Store, name: str, act: Callable[[], object], *, number: int = 1) -> None:
        self._store = store
        self._name = name
        self._act = act
        self._to_come = number

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if name == self._name:
                self._to_come -= 1
                if self._to_come == 0:
                    self._act()
            return result

        return call
