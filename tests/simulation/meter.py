"""The meter at Gmail's door: what each call cost, and whether a mailbox ever had more than a minute allows.

Knows: Google's prices (https://developers.google.com/gmail/api/reference/quota) on its own account. Does not know: the
budget that the workers keep. What a worker spent and could not save, because it died or lost its lease before its next
commit, is known to nobody and cannot count against those who come after it.
"""

from collections import deque

from tests.simulation.hub import Task

PRICES = {
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


class Meter:
    """What one world spent, mailbox by mailbox."""

    def __init__(self) -> None:
        self._spent: dict[str, list[tuple[float, int]]] = {}
        self._unsaved: dict[int, list[tuple[str, int]]] = {}
        self._forgotten: set[tuple[str, int]] = set()

    def spend(self, mailbox: str, method: str, task: Task, seconds: float) -> None:
        """Note a call as it is sent."""
        spent = self._spent.setdefault(mailbox, [])
        self._unsaved.setdefault(task.number, []).append((mailbox, len(spent)))
        spent.append((seconds, PRICES[method]))

    def saved(self, task: Task) -> None:
        """The task has stored the level of its budget."""
        self._unsaved.pop(task.number, None)

    def forget(self, mailbox: str) -> None:
        """The mailbox was removed, and the level of its budget with it: what it spent is known to nobody."""
        self._forgotten.add((mailbox, len(self._spent.get(mailbox, ()))))

    def total(self, mailbox: str) -> int:
        """Return the units spent by a mailbox."""
        return sum(units for _, units in self._spent.get(mailbox, ()))

    def most_in_a_minute(self, mailbox: str) -> int:
        """Return the most units that a mailbox was charged within any 60 seconds, without what could not be saved."""
        lost = {index for calls in self._unsaved.values() for name, index in calls if name == mailbox}
        window: deque[tuple[float, int]] = deque()
        units = most = 0
        for index, (seconds, price) in enumerate(self._spent.get(mailbox, ())):
            if (mailbox, index) in self._forgotten:
                window.clear()
                units = 0
            if index not in lost:
                window.append((seconds, price))
                units += price
                while window[0][0] <= seconds - 60:
                    units -= window.popleft()[1]
                most = max(most, units)
        return most
