"""The way a port call takes: its turn, and the deaths and naps that wait on it.

Knows: that a worker may die before a call takes effect or after it, alone or with all that runs on its instance, and
may sleep so long that its lease expires; and that it is worst before something is deleted for good. Does not know: what
else is called.
"""

from tests.simulation.faults import Faults
from tests.simulation.hub import Hub, Task
from tests.simulation.story import Story

# What a worker asks of the bucket before it deletes something, and that.
SLOW = frozenset({"version", "delete"})


class Way:
    """There and back, for every port call of every worker."""

    def __init__(self, hub: Hub, faults: Faults, story: Story) -> None:
        self.hub = hub
        self.faults = faults
        self.story = story

    def there(self, call: str) -> Task:
        """Take a turn, and live to see the call take effect; return the task that calls."""
        task = self.hub.pause(call)
        faults = self.faults
        if faults.rates:
            if call in SLOW and faults.strikes("bucket slow"):
                self.hub.sleep(20 + 400 * self.hub.rng.random())
            if faults.strikes("napped"):
                self.hub.sleep(20 + 400 * self.hub.rng.random())
            if faults.strikes("killed before"):
                self.kill(task)
            if faults.strikes("instance killed"):
                self.kill_instance(task)
        return task

    def back(self, task: Task) -> None:
        """Live to hear the answer."""
        if self.faults.rates and self.faults.strikes("killed after"):
            self.kill(task)

    def kill(self, task: Task) -> None:
        """The worker is dead; this does not return."""
        self.story.tell(task, "is killed")
        self.hub.kill(task)

    def kill_instance(self, task: Task) -> None:
        """The instance is dead and whatever runs on it; this does not return."""
        for other in [other for other in self.hub.tasks.values() if other.instance == task.instance]:
            if other is not task:
                self.story.tell(other, "is killed with its instance")
                self.hub.kill(other)
        self.kill(task)
