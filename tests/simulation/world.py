"""A world: everything Mailmirror is and everything that can happen to it, in one thread, decided by one seed.

    user ──► fake Gmail ──notification──► Pub/Sub ──push──► App ──► SyncEngine ──► real Gmail adapter ──► fake Gmail
                                             ▲               │
                     Scheduler, administrators, adversary    └────────────────────► Database ──► MemoryStore
                                                                                       └──► Checker, at each commit

Knows: how the parts are wired, how a storm and the calm after it go, and what must be so at the end. Does not know:
what is right at a commit (`checker`) or how calls take turns (`hub`).

A seed is a storm of seconds or hours with faults of its own choice; then perhaps a lasting trouble, of which the
mailbox must tell in words; then calm, in which the mirror must come to equal the mailbox; then one more message, which
must cost what one message costs.
"""

import hashlib
import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import count
from random import Random

from mailmirror.app import App, TriggerMode
from mailmirror.errors import MailmirrorError
from mailmirror.lease import Pace
from mailmirror.model import Mailbox, Policy
from mailmirror.quota import PRICES

from local.gmail.history import Record
from local.gmail.mailbox import Mailbox as GmailMailbox
from local.gmail.watch import Notification
from tests.simulation import sizes
from tests.simulation.checker import Checker, Violation
from tests.simulation.database import Database
from tests.simulation.faults import NOTIFICATION, PUBSUB, Faults
from tests.simulation.gmail import Accounts, Post
from tests.simulation.hub import Circles, Hub, Task
from tests.simulation.meter import Meter
from tests.simulation.outside import Objects, Outbox
from tests.simulation.pubsub import Letter, PubSub, envelope
from tests.simulation.store import MemoryStore
from tests.simulation.story import Story
from tests.simulation.user import User
from tests.simulation.way import Way

ADDRESSES = ("ada@example.com", "bob@example.com")
INSTANCES = 3
SWEEP_SECONDS = 300.0
# A mailbox that says nothing is equal so long after the last fault: the time until a quiet mailbox is due, the sweep,
# and the work. One that says why it is not may take until the last retry of a parked message.
SILENT_HOURS = 1.0
MOST_HOURS = 14.0
# What a trouble that lasts may take until the mailbox says so.
TROUBLE_HOURS = 4.0
# history.list for notification and watch, each with an empty page; messages.get, labels.list, and a watch that was due.
ONE_MESSAGE = 4 * 2 + 20 + 1 + 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a seed.

    Attributes:
        violation: what was wrong, None if nothing was.
        turns: port calls.
        struck: by kind, the faults that happened.
        trail: a hash of all that happened; the same seed gives the same.
        hours: virtual time.
    """

    seed: int
    violation: str | None
    turns: int
    struck: Counter[str]
    trail: str
    hours: float


def simulate(seed: int, listen: Callable[[str], None] | None = None) -> Outcome:
    """Let the world of a seed happen.

    Args:
        seed: decides everything.
        listen: is told the story, line by line.
    """
    rng = Random(seed)
    with sizes.drawn(rng), _silence():
        world = World(rng, listen)
        violation = None
        try:
            world.live()
        except (Violation, Circles) as wrong:
            violation = str(wrong)
        except Exception as error:  # noqa: BLE001 -- a failure without a name is one more way to be wrong
            violation = f"{type(error).__name__}: {error}\n{''.join(traceback.format_tb(error.__traceback__)[-6:])}"
        if violation is not None:
            world.story.tell("checker", violation)
    hub = world.hub
    hub.end()
    trail = hashlib.blake2b(repr(hub.trail).encode(), digest_size=8).hexdigest()
    return Outcome(seed, violation, hub.turns, world.faults.struck, trail, hub.seconds / 3600)


@contextmanager
def _silence() -> Iterator[None]:
    """Let nothing be logged: what there is to know of a seed is in its story."""
    logger = logging.getLogger("mailmirror")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


class World:
    """One seed's world."""

    def __init__(self, rng: Random, listen: Callable[[str], None] | None = None) -> None:
        self.rng = rng
        self.hub = Hub(rng)
        self.story = Story(self.hub, listen)
        self.faults = Faults(rng)
        self.faults.on_strike = self._disturbed
        way = Way(self.hub, self.faults, self.story)
        self.pubsub = PubSub(self.hub, self.faults)
        self.pubsub.push = self._push
        self.meter = Meter()
        self.memory = MemoryStore()
        self.objects = Objects(way)
        self.checkers: dict[str, Checker] = {}
        self.posts: dict[str, Post] = {}
        self.users: list[User] = []
        self.units_per_minute = rng.choice([500, 1_000, 6_000, 6_000_000])
        for address in ADDRESSES[: rng.choice([1, 1, 1, 2])]:
            self._move_in(address, way)
        self.way = way
        self._turns = count(1)
        self._runs = count(1)
        self.disturbances = 0
        self.owed: Counter[str] = Counter()
        store = Database(way, self.memory, self.checkers, self.meter)
        store.on_drop = self._hint_dropped
        accounts = Accounts(self.hub, self.posts, self.units_per_minute)
        step = timedelta(seconds=rng.choice([1, 20, 480, 480]))
        self.apps = [self._app(store, accounts, step) for _ in range(INSTANCES)]

    def _app(self, store: Database, accounts: Accounts, step: timedelta) -> App:
        return App(
            accounts=accounts,
            store=store,
            blobs=self.objects,
            publisher=Outbox(self.way, self.pubsub),
            clock=self.hub,
            prices=PRICES["2026"],
            new_owner=lambda: f"worker/{next(self._turns)}",
            pace=Pace(),
            step=step,
            new_run_id=lambda: f"requested-{next(self._runs)}",
        )

    def _move_in(self, address: str, way: Way) -> None:
        rng = self.rng
        gmail = GmailMailbox(address, clock=self.hub, rng=Random(rng.random()))
        if rng.random() < 0.1:
            # The next ids have one digit more.
            gmail._state.log.head = gmail._state.log.floor = 10 ** rng.choice([5, 6]) - rng.randrange(1, 300)
        checker = Checker(address, gmail, self.memory, self.objects.data)
        append = gmail._state.log.append

        def recorded(record: Record) -> None:
            append(record)
            checker.recorded(record)

        gmail._state.log.append = recorded  # type: ignore[method-assign]
        gmail.on_notification = self._notified
        self.checkers[address] = checker
        self.posts[address] = Post(way, gmail, checker, self.meter, rng.choice([1, 3, 3, 500]))
        self.users.append(User(rng, self.posts[address], self.story))

    # What happens

    def live(self) -> None:
        """Storm, trouble, calm, and one more message.

        Raises:
            Violation: something is wrong.
        """
        self._storm()
        self.faults.end()
        for user in self.users:
            user.quiets()
        self._trouble()
        for user in self.users:
            user.calms_down()
        self._settle(MOST_HOURS, self._all_equal, "The mirror does not come to equal the mailbox.")
        # What still comes of old pushes must not change that, and is not counted as the cost of what comes next.
        while not self.hub.idle:
            self.hub.run(self.hub.seconds + 60)
        self._settle(SILENT_HOURS, self._all_equal, "An old push undid the mirror.")
        self._one_more()
        for address in self.posts:
            most = self.meter.most_in_a_minute(address)
            if most > self.units_per_minute:
                raise Violation(f"{address} spent {most} units in a minute that allows {self.units_per_minute}.")

    def _storm(self) -> None:
        rng, hub = self.rng, self.hub
        for user in self.users:
            for _ in range(40 if rng.random() < 0.03 else rng.choice([0, 1, 2, 6])):
                user.receives()
            user.moods()
        self.faults.draw()
        hub.pace = rng.choice([0.05, 0.5, 3.0])
        length = rng.choice([20.0, 120.0, 900.0, 2400.0])
        for address in self.posts:
            hub.at(rng.random(), partial(self._connects, address))
        # Some users do everything at once.
        span = rng.choice([length, length, 10.0])
        first = (length - span) * rng.random()
        for user in self.users:
            for _ in range(rng.choice([1, 3, 5, 12])):
                hub.at(first + span * rng.random(), user.act)
        for _ in range(rng.choice([0, 0, 1, 3])):
            hub.at(length * rng.random(), self._adversary)
        for _ in range(rng.choice([0, 0, 1, 2])):
            hub.at(length * rng.random(), self._administrator)
        moment = SWEEP_SECONDS * rng.random()
        while moment < length:
            hub.at(moment, self._sweep)
            moment += SWEEP_SECONDS
        if rng.random() < 0.1:
            hub.at(length * rng.random(), self._renew)
        if rng.random() < 0.1:
            self._revokes(length)
        hub.run(length)
        if rng.random() < 0.03:
            self._nobody_sweeps()

    def _nobody_sweeps(self) -> None:
        """For more than a week: the watch lapses, and mail goes on."""
        self.faults.strike("watch lapsed")
        self.hub.run(self.hub.seconds + 8 * 86_400)
        for user in self.users:
            user.act()

    def _revokes(self, length: float) -> None:
        """Take access away, and give it back within the storm."""
        post = self.rng.choice(list(self.posts.values()))
        away, back = sorted((length * self.rng.random(), length * self.rng.random()))

        def set_revoked(*, revoked: bool) -> None:
            post.revoked = revoked
            self.story.tell("user", "revokes access" if revoked else "gives access again")

        self.hub.at(away, lambda: set_revoked(revoked=True))
        self.hub.at(back, lambda: set_revoked(revoked=False))

    def _trouble(self) -> None:
        """Let something be wrong for hours, and see that the mailbox document says so."""
        rng = self.rng
        trouble = rng.choice(["none"] * 6 + ["revoked", "down"])
        posts = self.posts.values()
        poisoned = {message_id for post in posts for message_id in (*post.poison, *post.deadly)}
        if trouble == "none" and not poisoned:
            return
        for post in posts:
            post.revoked, post.down = trouble == "revoked", trouble == "down"
        self.story.tell("trouble", f"{trouble}, poison: {' '.join(sorted(poisoned)) or 'none'}")

        def told() -> bool:
            return all(self._equal(a, poisoned) or self._explained(a) for a in self.posts if a in self.memory.states)

        def rest_equal() -> bool:
            return told() and all(not self.checkers[a].differences(poisoned) for a in self.posts)

        if trouble == "none":
            self._settle(TROUBLE_HOURS, rest_equal, "A message that cannot be read keeps others from the mirror.")
        else:
            self._settle(TROUBLE_HOURS, told, f"Gmail is {trouble}, and the mailbox does not say so.")

    def _settle(self, hours: float, settled: Callable[[], bool], otherwise: str) -> None:
        """Sweep whenever something is due, until all is settled."""
        hub = self.hub
        began = hub.seconds
        while True:
            if settled():
                return
            if hub.seconds > began + hours * 3600:
                raise Violation(f"{otherwise} {self._what_is_wrong()}")
            if hub.seconds > began + SILENT_HOURS * 3600:
                self._nobody_is_silent()
            for address in self.posts:
                if address not in self.memory.states:
                    self._connects(address)
            self.hub.run(hub.seconds + 60)
            if settled():
                return
            self.hub.run(self._next_sweep())
            self._sweep()

    def _next_sweep(self) -> float:
        """The next of the Scheduler's times: in five minutes, or when something is due if nothing happens before."""
        now = self.hub.now()
        due = [state.next_due_at - now for state in self.memory.states.values()]
        wait = max(0.0, min(due, default=timedelta(0)).total_seconds()) if self.hub.idle else 0.0
        return (self.hub.seconds + wait) // SWEEP_SECONDS * SWEEP_SECONDS + SWEEP_SECONDS

    def _nobody_is_silent(self) -> None:
        for address in self.posts:
            if not self._equal(address) and not self._explained(address):
                raise Violation(f"An hour later {address} differs and does not say why: {self._what_is_wrong()}")

    def _one_more(self) -> None:
        """One more message: it comes, and it costs what a message costs."""
        for user, address in zip(self.users, self.posts, strict=True):
            spent = self.meter.total(address)
            # What is not noticed yet, lost history for instance, is to be paid for too; a hint that lies is waited for.
            state = self.memory.states[address]
            usual = state.hint <= state.cursor == self.posts[address].gmail._state.log.head
            user.receives()
            self._settle(SILENT_HOURS, self._all_equal, "One more message does not come.")
            cost = self.meter.total(address) - spent
            if usual and cost > ONE_MESSAGE:
                raise Violation(f"One more message cost {cost} units.")

    # What is so

    def _equal(self, address: str, ignoring: set[str] | frozenset[str] = frozenset()) -> bool:
        """Whether a mailbox is mirrored, and says so."""
        state = self.memory.states.get(address)
        if state is None or (state.counts.parked and not ignoring) or not _at_rest(state):
            return False
        return not self.checkers[address].differences(ignoring)

    def _all_equal(self) -> bool:
        return all(self._equal(address) for address in self.posts)

    def _explained(self, address: str) -> bool:
        return self.checkers[address].explained(self.hub.now())

    def _what_is_wrong(self) -> str:
        lines = []
        for address, checker in self.checkers.items():
            state = self.memory.states.get(address)
            if state is None:
                lines.append(f"{address} is not connected")
            elif not self._equal(address):
                run, problem = state.active_run, state.problem
                lines.append(
                    f"{address}: {checker.differences()[:5]} phase {state.phase}, cursor {state.cursor}, "
                    f"hint {state.hint}, run {f'{run.id} {run.stage}' if run else 'none'}, "
                    f"request {state.pending_request}, parked {state.counts.parked}, "
                    f"problem {problem.code if problem else 'none'}"
                )
        return "; ".join(lines)

    def _disturbed(self, kind: str) -> None:
        self.hub.trail.append(kind)
        # Who naps wakes up: that is no reason to lose anything.
        if kind not in PUBSUB and kind not in NOTIFICATION and kind != "napped":
            self.disturbances += 1
            self.owed.clear()

    def _orphaned(self, address: str) -> bool:
        """Whether the lease was left behind by a dead worker: whoever sweeps after its end comes to what is due."""
        holder = self.checkers[address].holder if address in self.checkers else None
        return isinstance(holder, Task) and not holder.alive

    def _hint_dropped(self, address: str) -> None:
        """A hint that never came true may have hidden true ones; one that is true is not dropped."""
        if self.memory.states[address].hint > self.posts[address].gmail._visible_head():
            self._disturbed("hint dropped")

    def _check_owed(self, address: str) -> None:
        """Once all is done, what an acknowledged notification announced is mirrored, or the mailbox says why not."""
        owed = self.owed.get(address, 0)
        state = self.memory.states.get(address)
        if not owed or state is None or any(task.mailbox == address for task in self.hub.tasks.values()):
            return
        lease = self.memory.leases.get(address)
        if lease is not None and not lease.free(self.hub.now()):
            # Whoever had it is gone without giving it back: the sweep after its end comes to what is due.
            del self.owed[address]
            return
        if self.pubsub.underway[address]:
            return
        if state.cursor < owed and not self._explained(address):
            raise Violation(
                f"A notification of {owed} was acknowledged, nobody is at work, and the cursor of {address} is "
                f"{state.cursor}."
            )
        del self.owed[address]

    # Who calls

    def _notified(self, notification: Notification) -> None:
        if self.faults.strikes("notification lost"):
            self.story.tell("gmail", f"notification of {notification.history_id} is lost")
            return
        data = {"emailAddress": notification.email_address, "historyId": notification.history_id}
        self.pubsub.publish("notification", notification.email_address, data, history_id=notification.history_id)

    def _push(self, letter: Letter) -> None:
        app = self.rng.choice(self.apps)
        handle = app.sync_history if letter.topic == "notification" else app.run_work
        before = self.disturbances

        def ended(status: object) -> None:
            self.story.tell(f"push of {letter.topic}", f"{letter.history_id or ''} is answered {status}")
            if status == 503:
                self.pubsub.refused(letter)
                return
            self.pubsub.acknowledged(letter)
            if status == 400 and letter.mailbox:
                raise Violation(f"A sound push was answered 400: {letter.body!r}")
            if letter.history_id and before == self.disturbances and not self._orphaned(letter.mailbox):
                self.owed[letter.mailbox] = max(self.owed[letter.mailbox], letter.history_id)
            self._check_owed(letter.mailbox)

        self.hub.spawn(
            f"{letter.topic} {letter.history_id or ''}".strip(),
            letter.mailbox,
            self.apps.index(app),
            lambda: app.push(handle, letter.body),
            ended,
            lambda: self.pubsub.refused(letter),
        )

    def _call(self, name: str, mailbox: str, work: Callable[[App], object], failed: Callable[[], None]) -> None:
        """Somebody calls a function over HTTP."""
        app = self.rng.choice(self.apps)

        def answered() -> object:
            try:
                return work(app) and "done"
            except MailmirrorError as error:
                return type(error).__name__

        def ended(status: object) -> None:
            self.story.tell(name, f"is answered: {status}")
            if status != "done":
                failed()
            self._check_owed(mailbox)

        self.hub.spawn(name, mailbox, self.apps.index(app), answered, ended, failed)

    def _sweep(self) -> None:
        self._call("sweep", "", lambda app: (app.sweep_mailboxes(), "swept"), _never_mind)

    def _renew(self) -> None:
        self._call("renew", "", lambda app: (app.renew_watches(), "renewed"), _never_mind)

    def _connects(self, address: str) -> None:
        """Connect a mailbox, again and again until it is."""
        policy = Policy(include_spam_trash=self.rng.random() < 0.6, drafts=self.rng.random() < 0.3)

        def again() -> None:
            self.hub.at(20, lambda: self._call("connect", address, lambda app: app.connect(address, None), again))

        self._call("connect", address, lambda app: app.connect(address, policy), again)

    def _administrator(self) -> None:
        rng = self.rng
        address = rng.choice(list(self.posts))
        if rng.random() < 0.3:
            policy = Policy(include_spam_trash=rng.random() < 0.5, drafts=rng.random() < 0.5)
            self._call("policy", address, lambda app: app.connect(address, policy), _never_mind)
            return
        modes: list[TriggerMode] = ["full", "audit", "incremental"]
        mode, wait = rng.choice(modes), rng.choice([0.0, 5.0, 50.0])
        self._call(f"trigger {mode}", address, lambda app: app.trigger_sync(address, mode, wait), _never_mind)

    def _adversary(self) -> None:
        """Notifications that lie."""
        rng = self.rng
        address = rng.choice(list(self.posts))
        head = self.posts[address].gmail._state.log.head
        kind = rng.choice(NOTIFICATION[1:])
        self.faults.strike(kind)
        self.story.tell("adversary", kind)
        if kind == "notification unknown":
            self.pubsub.publish(
                "notification", "eve@example.com", {"emailAddress": "eve@example.com", "historyId": head}
            )
        elif kind == "push malformed":
            body = rng.choice([b"{}", b"not JSON", envelope(b'{"emailAddress": 7}', self.hub)])
            self.pubsub.send(Letter("notification", "", 0, body))
        else:
            ahead = rng.choice([head + rng.randrange(1, 10**4), 2**62])
            lie = ahead if kind == "notification ahead" else rng.randrange(1, head)
            self.pubsub.publish("notification", address, {"emailAddress": address, "historyId": lie})


def _at_rest(state: Mailbox) -> bool:
    return state.phase == "live" and not state.unfinished and state.problem is None


def _never_mind() -> None:
    """Whoever called gives up."""
