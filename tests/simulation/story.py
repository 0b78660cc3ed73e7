"""The story of one seed: what happened, in lines a person can read, told only when somebody listens.

Knows: the virtual time and how a line looks. Does not know: what is told.
"""

from collections.abc import Callable
from datetime import timedelta

from tests.simulation.hub import Hub, Task


class Story:
    """Lines, one for each thing that happened.

    Attributes:
        on: whether anybody listens; what is costly to tell is only told then.
    """

    def __init__(self, hub: Hub, listen: Callable[[str], None] | None) -> None:
        self._hub = hub
        self._listen = listen
        self.on = listen is not None

    def tell(self, who: Task | str, what: str) -> None:
        """Tell one thing."""
        if self._listen is not None:
            name = who if isinstance(who, str) else f"{who.mailbox[:3]} {who.name} #{who.number}".lstrip()
            moment = timedelta(milliseconds=round(self._hub.seconds * 1000))
            self._listen(f"{str(moment)[:-3] if moment.microseconds else moment!s:>12}  {name:<24} {what}")
