"""A world: everything Mailmirror is and everything that can happen to it, in one thread, decided by one seed.

    user ──► fake Gmail ──notification──► Pub/Sub ──push──► App ──► SyncEngine ──► real Gmail adapter ──► fake Gmail
                                             ▲               │
                     Scheduler, administrators, adversary    └────────────────────► Database ──► MemoryStore
                                                                                       └──► Checker, at each commit

Knows: how the parts are wired, how a storm goes, and who calls. Does not know: what must be so at the end (`calm`),
what is right at a commit (`checker`) or how calls take turns (`hub`).

A seed is a storm of seconds or hours with faults of its own choice; then perhaps a lasting trouble, of which the
mailbox must tell in words; then calm, in which what is wanted of each mailbox must come true by sweeps alone: the
mirror equals the mailbox under the last policy, or it rests, or nothing is left of it. What rests is left alone for a
while, and connected again. Then comes one more message, which must cost what one message costs.
"""

import hashlib
import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from random import Random
from typing import TypeVar

from mailmirror.announce import Announcer
from mailmirror.app import App
from mailmirror.errors import MailmirrorError
from mailmirror.keep import Kept
from mailmirror.lease import Pace
from mailmirror.model import ContentKept, Policy
from mailmirror.quota import PRICES
from mailmirror.reconcile import Recovery

from local.gmail.history import Record
from local.gmail.mailbox import Mailbox as GmailMailbox
from local.gmail.watch import Notification
from tests.simulation import sizes
from tests.simulation.administrators import Administrators, Answer
from tests.simulation.calm import SWEEP_SECONDS, Calm, paused
from tests.simulation.checker import Checker
from tests.simulation.database import Database
from tests.simulation.faults import BLOBS, DEATH, NOTIFICATION, PUBSUB, STORE, Faults
from tests.simulation.gmail import Accounts, Post
from tests.simulation.hub import START, Circles, Hub, Task
from tests.simulation.meter import Meter
from tests.simulation.outside import Deltas, Objects, Outbox, TopicDown
from tests.simulation.pubsub import Letter, PubSub, envelope
from tests.simulation.store import MemoryStore
from tests.simulation.story import Story
from tests.simulation.user import User
from tests.simulation.violation import Violation
from tests.simulation.way import Way

Subject = TypeVar("Subject")
Result = TypeVar("Result")

ADDRESSES = ("ada@example.com", "bob@example.com")
INSTANCES = 3
MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)
NAPS = ("napped", "bucket slow")
# Whom one of these befalls may leave objects behind that no message names.
TROUBLES = frozenset({*STORE, *BLOBS, *DEATH})


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
        # Worlds without a topic do not depend on what there is of it.
        own = Random()
        own.setstate(rng.getstate())
        self._own = Random(own.getrandbits(64))
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
        self.objects.checkers = self.checkers
        self.posts: dict[str, Post] = {}
        self.users: dict[str, User] = {}
        self.units_per_minute = rng.choice([500, 1_000, 6_000, 6_000_000])
        self.units_per_day = rng.choice([300, 1000]) if rng.random() < 0.04 else None
        self.kept = Kept("metadata" if rng.random() < 0.04 else "full", "store" if rng.random() < 0.3 else "none")
        for address in ADDRESSES[: rng.choice([1, 1, 1, 2])]:
            self._move_in(address, way)
        self.way = way
        self._turns = count(1)
        self._runs = count(1)
        self.disturbances = 0
        self.owed: Counter[str] = Counter()
        self.deltas = Deltas(way, self.checkers) if self._own.random() < 0.3 else None
        store = Database(way, self.memory, self.checkers, self.meter)
        store.on_drop = self._hint_dropped
        accounts = Accounts(self.hub, self.posts, self.units_per_minute, self.units_per_day)
        step = timedelta(seconds=rng.choice([1, 20, 480, 480]))
        recovery: Recovery = "full" if rng.random() < 0.1 else "thread-history"
        # Those at work for a deployment that was replaced.
        self.outgoing: list[Task] = []
        self._deploy = partial(self._app, store, accounts, step, recovery)
        self.apps = [self._deploy() for _ in range(INSTANCES)]
        for checker in self.checkers.values():
            checker.deployed(self.kept.content)
            checker.settled()
            checker.on_event = self.faults.note
        self.administrators = Administrators(self.hub, self.users, self.memory.states, self._call, self.faults.note)

    def _app(self, store: Database, accounts: Accounts, step: timedelta, recovery: Recovery) -> App:
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
            units_per_minute=self.units_per_minute,
            units_per_day=self.units_per_day,
            recovery=recovery,
            kept=self.kept,
            announcer=Announcer(store, self.deltas, self.hub, "//mailmirror/projects/p") if self.deltas else None,
        )

    def _move_in(self, address: str, way: Way) -> None:
        rng = self.rng
        gmail = GmailMailbox(address, clock=self.hub, rng=Random(rng.random()))
        if rng.random() < 0.1:
            # The next ids have one digit more.
            gmail._state.log.head = gmail._state.log.floor = 10 ** rng.choice([5, 6]) - rng.randrange(1, 300)
        stores = self.kept.attachments == "store"
        checker = Checker(address, gmail, self.memory, self.objects.data, self.units_per_day, stores=stores)
        append = gmail._state.log.append

        def recorded(record: Record) -> None:
            append(record)
            checker.recorded(record)

        gmail._state.log.append = recorded  # type: ignore[method-assign]
        gmail.on_notification = self._notified
        self.checkers[address] = checker
        page = rng.choice([1, 1, 3, 500])
        self.posts[address] = Post(way, gmail, checker, self.meter, page, self.memory.states)
        self.users[address] = User(rng, self.posts[address], self.story)

    # What happens

    def live(self) -> None:
        """Storm, and then calm.

        Raises:
            Violation: something is wrong.
        """
        self._storm()
        self.faults.end()
        Calm(self).comes()

    def _storm(self) -> None:
        rng, hub = self.rng, self.hub
        for user in self.users.values():
            for _ in range(40 if rng.random() < 0.03 else rng.choice([0, 1, 2, 6])):
                user.receives()
            user.moods()
            if rng.random() < 0.5:
                user.tidies()
        if rng.random() < 0.15:
            # Midnight comes during the storm, or soon after.
            hub.run((MIDNIGHT - START).total_seconds() - rng.choice([10.0, 60.0, 900.0]) * rng.random())
        self.faults.draw()
        if rng.random() < 0.5 and any(user.shifting for user in self.users.values()):
            self.faults.rates["bucket slow"] = 0.3
        hub.pace = rng.choice([0.05, 0.5, 3.0])
        length = rng.choice([20.0, 120.0, 900.0, 2400.0])
        self._people(length)
        moment = SWEEP_SECONDS * rng.random()
        while moment < length:
            hub.at(moment, self.sweep)
            moment += SWEEP_SECONDS
        if rng.random() < 0.1:
            hub.at(length * rng.random(), self.renew)
        if rng.random() < 0.1:
            self._revokes(length)
        if rng.random() < 0.05:
            hub.at(length * rng.random(), self._redeploys)
        self._topic_fails(length)
        hub.run(hub.seconds + length)
        if rng.random() < 0.03:
            self._nobody_sweeps()

    def _people(self, length: float) -> None:
        """Let users, administrators and an adversary do things in the time of the storm."""
        rng, hub = self.rng, self.hub
        for address in self.posts:
            policy = Policy(include_spam_trash=rng.random() < 0.6, drafts=rng.random() < 0.3)
            if rng.random() < 0.3:
                policy = self.administrators.policy(address)
            hub.at(rng.random(), partial(self.administrators.connects, address, policy))
        # Some users do everything at once.
        span = rng.choice([length, length, 10.0])
        first = (length - span) * rng.random()
        for user in self.users.values():
            for _ in range(12 if user.shifting else rng.choice([1, 3, 5, 12])):
                hub.at(first + span * rng.random(), user.act)
        for _ in range(rng.choice([0, 0, 1, 3])):
            hub.at(length * rng.random(), self._adversary)
        for _ in range(rng.choice([0, 1, 1, 3])):
            hub.at(length * rng.random(), self._administrator)
        if rng.random() < 0.25:
            self._administrators_meet(first, span)

    def _administrators_meet(self, first: float, span: float) -> None:
        """Several of them have a mind of their own about the same mailbox, and want what another has just undone."""
        rng, people = self.rng, self.administrators
        address = rng.choice(list(self.posts))
        policies, life = (
            [people.changes_policy],
            [people.stops, people.stops, people.connects, people.deletes, people.deletes],
        )
        acts = rng.choice([policies, life, [*policies, *life]])
        for _ in range(rng.choice([1, 2, 2, 4])):
            self.hub.at(first + span * rng.random(), partial(rng.choice(acts), address))

    def _nobody_sweeps(self) -> None:
        """For more than a week: the watch lapses, and mail goes on."""
        self.faults.strike("watch lapsed")
        self.hub.run(self.hub.seconds + 8 * 86_400)
        for user in self.users.values():
            user.act()

    def _redeploys(self) -> None:
        """Another deployment keeps more or less of each message; workers of the old one end what they began."""
        content: ContentKept = "metadata" if self.kept.content == "full" else "full"
        self.kept = replace(self.kept, content=content)
        self.outgoing = list(self.hub.tasks.values())
        self.apps[:] = [self._deploy() for _ in range(INSTANCES)]
        for checker in self.checkers.values():
            checker.deployed(content)
        self.story.tell("operator", f"deploys GMAIL_CONTENT={content}")
        self.faults.note("content redeployed")

    def _topic_fails(self, length: float) -> None:
        """Now and then the topic is down for a while, perhaps beyond the end of the storm."""
        own = self._own
        if self.deltas is None or own.random() < 0.6:
            return

        def set_down(*, down: bool) -> None:
            assert self.deltas is not None
            self.deltas.down = down
            self.story.tell("topic", "is down" if down else "is there again")

        self.hub.at(length * own.random(), lambda: set_down(down=True))
        self.hub.at(length * (1 + own.random()), lambda: set_down(down=False))

    def _revokes(self, length: float) -> None:
        """Take access away, and give it back within the storm."""
        post = self.rng.choice(list(self.posts.values()))
        away, back = sorted((length * self.rng.random(), length * self.rng.random()))

        def set_revoked(*, revoked: bool) -> None:
            post.revoked = revoked
            self.story.tell("user", "revokes access" if revoked else "gives access again")

        self.hub.at(away, lambda: set_revoked(revoked=True))
        self.hub.at(back, lambda: set_revoked(revoked=False))

    # What is so

    def explained(self, address: str) -> bool:
        """Whether a mailbox says why it may not be equal."""
        return self.checkers[address].explained(self.hub.now())

    def _disturbed(self, kind: str) -> None:
        self.hub.trail.append(kind)
        if kind in TROUBLES and self.hub.current is not None:
            for checker in self.checkers.values():
                checker.bucket.unlucky(self.hub.current)
        # Who naps wakes up: that is no reason to lose anything.
        if kind not in PUBSUB and kind not in NOTIFICATION and kind not in NAPS:
            self.disturbances += 1
            self.owed.clear()
        for checker in self.checkers.values():
            checker.ending.disturbed = True

    def orphaned(self, address: str) -> bool:
        """Whether the lease was left behind by a dead worker: whoever sweeps after its end comes to what is due."""
        holder = self.checkers[address].holder if address in self.checkers else None
        return isinstance(holder, Task) and not holder.alive

    def _hint_dropped(self, address: str) -> None:
        """A hint that never came true may have hidden true ones; one that is true is not dropped."""
        state = self.memory.states.get(address)
        if state is not None and state.hint > self.posts[address].gmail._visible_head():
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
        if state.wanted != "live":
            del self.owed[address]
            return
        if self.pubsub.underway[address]:
            return
        # A run that waits for the next day is no reason to let mail wait.
        excused = self.explained(address) and not (paused(state, self.hub.now()) and state.problem is None)
        if state.cursor < owed and not excused:
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
            if letter.history_id and before == self.disturbances and not self.orphaned(letter.mailbox):
                self.owed[letter.mailbox] = max(self.owed[letter.mailbox], letter.history_id)
            self._check_owed(letter.mailbox)

        self.hub.spawn(
            f"{letter.topic} {letter.history_id or ''}".strip(),
            letter.mailbox,
            self.apps.index(app),
            lambda: app.push(partial(_unbothered, handle), letter.body),
            ended,
            lambda: self.pubsub.refused(letter),
        )

    def _call(self, name: str, mailbox: str, work: Callable[[App], object], heard: Callable[[Answer], None]) -> None:
        """Somebody calls a function over HTTP."""
        app = self.rng.choice(self.apps)
        answers: list[object] = []

        def answered() -> object:
            try:
                answers.append(_unbothered(work, app))
            except MailmirrorError as error:
                answers.append(error)
                return type(error).__name__
            return "done"

        def ended(status: object) -> None:
            self.story.tell(name, f"is answered: {status}")
            heard(answers[0])
            self._check_owed(mailbox)

        self.hub.spawn(name, mailbox, self.apps.index(app), answered, ended, lambda: heard(None))

    def sweep(self) -> None:
        """The Scheduler lets what is due be looked at."""
        self._call("sweep", "", lambda app: app.sweep_mailboxes(), _never_mind)

    def renew(self) -> None:
        """The Scheduler lets watches be renewed."""
        self._call("renew", "", lambda app: app.renew_watches(), _never_mind)

    def _administrator(self) -> None:
        people = self.administrators
        act = people.changes_policy if self.rng.random() < 0.5 else people.triggers
        act(self.rng.choice(list(self.posts)))

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


def _unbothered(work: Callable[[Subject], Result], subject: Subject) -> Result:
    """Do something; a topic that fails is no reason to fail."""
    try:
        return work(subject)
    except TopicDown as error:
        raise Violation(f"A topic that fails holds mail up: {error}") from error


def _never_mind(_answer: Answer) -> None:
    """Whoever called gives up."""
