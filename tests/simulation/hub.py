"""The hub: one virtual clock, one source of chance, and the tasks that take turns.

Knows: what is due when, and that a task hands over at each port call. Does not know: what a task does. A task that is
killed is never resumed: no exception is raised in it and none of its `finally` blocks run, as with SIGKILL.

The clock stands still while a task computes and moves on between two port calls: who is next is decided by the seed's
latencies alone.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from random import Random

from greenlet import GreenletExit, greenlet

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
# After so many port calls a world goes in circles; a usual one has a few hundred.
MOST_TURNS = 20_000


class Circles(Exception):
    """The world does not end."""


class Task:
    """One invocation of a function, on one instance.

    Attributes:
        name: what it is, for people.
        number: the how many-th task of the world it is.
        instance: the instance that it lives and dies with.
        ended: called with what the invocation returned; a killed one has no end.
        died: called when it is killed.
        killed: whether it was killed, and did not end.
        rests_until: until when the mailbox is not to be asked, as it was told when it took the lease.
        slicing: whether it works on a slice of a run.
    """

    __slots__ = (
        "alive",
        "died",
        "ended",
        "greenlet",
        "instance",
        "killed",
        "mailbox",
        "name",
        "number",
        "rests_until",
        "slicing",
    )

    def __init__(self, number: int, name: str, mailbox: str, instance: int, ended: "Ended", died: "Died") -> None:
        self.number = number
        self.name = name
        self.mailbox = mailbox
        self.instance = instance
        self.ended = ended
        self.died = died
        self.alive = True
        self.killed = False
        self.rests_until: datetime | None = None
        self.slicing = False
        self.greenlet: greenlet | None = None


Ended = Callable[[object], None]
Died = Callable[[], None]


class Hub:
    """Time, chance and turns. It is the `Clock` of everything in the world.

    Attributes:
        rng: the one source of chance.
        seconds: virtual time since the start.
        pace: the longest usual latency of a port call, in seconds.
        tasks: those alive, in the order of their start.
        turns: port calls made.
        trail: what happened, in numbers and words; two worlds of one seed have the same.
    """

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.seconds = 0.0
        self.pace = 0.1
        self.tasks: dict[int, Task] = {}
        self.turns = 0
        self.trail: list[object] = []
        self.current: Task | None = None
        self._now = START
        self._now_at = 0.0
        self._queue: list[tuple[float, float, Task | Callable[[], None]]] = []
        self._main = greenlet.getcurrent()
        # A greenlet that is let go runs its `finally` blocks: the dead stay until the world ends.
        self._graves: list[Task] = []
        self._started = 0

    # The Clock port

    def now(self) -> datetime:
        """The virtual time."""
        if self._now_at != self.seconds:
            self._now = START + timedelta(seconds=self.seconds)
            self._now_at = self.seconds
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let the task that calls wait."""
        self._mine()
        self.turns += 1
        self._wait(seconds)

    # Turns

    def pause(self, call: str) -> Task:
        """Hand over before a port call takes effect, and return the task whose call it is."""
        task = self._mine()
        self.turns += 1
        if self.turns > MOST_TURNS:
            raise Circles(f"{self.turns} port calls and no end: something goes in circles.")
        self.trail.append(task.number)
        self.trail.append(call)
        self._wait(self.rng.random() * self.pace)
        return task

    def _mine(self) -> Task:
        """Return the task whose turn it is, which is the one that asks."""
        task = self.current
        if task is None or greenlet.getcurrent() is not task.greenlet:
            # A world that has ended lets go of its dead; what they do then is of no effect.
            raise GreenletExit
        return task

    def _wait(self, seconds: float) -> None:
        task = self.current
        assert task is not None
        until = self.seconds + max(0.0, seconds)
        if not self._queue or self._queue[0][0] > until:
            # Nobody else is due before: the turn stays here.
            self.seconds = until
            return
        heappush(self._queue, (until, self.rng.random(), task))
        self._main.switch()

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        """Let `act` happen after so many seconds."""
        heappush(self._queue, (self.seconds + seconds, self.rng.random(), act))

    def spawn(
        self, name: str, mailbox: str, instance: int, work: Callable[[], object], ended: Ended, died: Died
    ) -> Task:
        """Start a task; it begins when its turn comes."""
        self._started += 1
        task = Task(self._started, name, mailbox, instance, ended, died)
        task.greenlet = greenlet(lambda: self._live(task, work), self._main)
        self.tasks[task.number] = task
        heappush(self._queue, (self.seconds, self.rng.random(), task))
        return task

    def kill(self, task: Task) -> None:
        """Never resume a task. If it is the one whose turn it is, this does not return."""
        task.alive, task.killed = False, True
        del self.tasks[task.number]
        self._graves.append(task)
        self.trail.append("killed")
        task.died()
        if task is self.current:
            self._main.switch()

    def run(self, until: float = float("inf")) -> None:
        """Let everything happen that is due up to a time; without one, until nothing is left to happen."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            due, _, what = heappop(queue)
            self.seconds = max(self.seconds, due)
            if not isinstance(what, Task):
                what()
            elif what.alive and what.greenlet is not None:
                self.current = what
                what.greenlet.switch()
                self.current = None
        if until != float("inf"):
            self.seconds = max(self.seconds, until)

    def end(self) -> None:
        """Let go of the dead and of whoever is still at work, so that nothing of this world stays in memory."""
        for task in (*self._graves, *self.tasks.values()):
            if task.greenlet is not None:
                task.greenlet.throw()
        self._graves.clear()
        self.tasks.clear()
        self._queue.clear()

    @property
    def idle(self) -> bool:
        """Whether nothing is left to happen."""
        return not self._queue

    def _live(self, task: Task, work: Callable[[], object]) -> None:
        result = work()
        task.alive = False
        del self.tasks[task.number]
        self.current = None
        self.trail.append(str(result))
        task.ended(result)
