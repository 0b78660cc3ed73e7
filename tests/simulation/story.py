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
            self._listen(f"{_moment(self._hub.seconds):>14}  {name:<28} {what}")


def _moment(seconds: float) -> str:
    """Virtual time as people write it: `0:02:05.250`, or `2d 0:02:05.250`."""
    milliseconds = round(seconds * 1000)
    days, rest = divmod(milliseconds, 86_400_000)
    text = f"{timedelta(seconds=rest // 1000)}.{rest % 1000:03d}"
    return f"{days}d {text}" if days else text
