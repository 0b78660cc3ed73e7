"""Announcing: each delta comes to the topic, in order and at least once, whatever dies or fails on the way."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, cast

import pytest
from mailmirror import mailboxes
from mailmirror.adapters.sqlite import SqliteStore
from mailmirror.announce import CHUNK, announced
from mailmirror.app import App
from mailmirror.config import Settings
from mailmirror.deltas import delta_json
from mailmirror.errors import StoreUnavailable
from mailmirror.wiring import from_settings

from tests.killing import Killed, KillingStore, When, at_call, doomed
from tests.meanwhile import Meanwhile
from tests.world import ADA, Deltas, World, mail

Logged = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    """`logged(event)`: the fields of each entry."""
    caplog.set_level(logging.INFO, "mailmirror")
    return lambda event: [vars(record)["fields"] for record in caplog.records if record.getMessage() == event]


def connected(topic: Deltas, messages: int = 3) -> World:
    """A world with a mailbox of some messages, mirrored and announced."""
    world = World(topic=topic)
    for number in range(messages):
        world.ada.deliver(mail(f"Number {number}"))
    world.connect()
    return world


def arrives(world: World, count: int = 1, app: App | None = None) -> None:
    """Let messages come one by one, each with a notification."""
    for _ in range(count):
        world.ada.deliver(mail("News"))
        world.notify(app=app)


def seqs(topic: Deltas) -> list[int]:
    """The deltas in the order in which an application sees each for the first time."""
    return list(dict.fromkeys(told.data["seq"] for told in topic.told))


def assert_all_announced(world: World, topic: Deltas, *, begun: int = 0) -> None:
    """Every delta after `begun` came, as it was committed, none before the one before it, and the position says so."""
    state = world.state()
    assert seqs(topic) == list(range(begun + 1, state.delta_seq + 1))
    assert announced(state) == state.delta_seq
    log = {delta.seq: delta for delta in world.sqlite.deltas(ADA, after=0, limit=10_000)}
    for told in topic.told:
        assert told.data == delta_json(state, log[told.data["seq"]])


def test_a_delta_is_a_cloud_event() -> None:
    """A message says what CloudEvents asks for, whose it is, and whether it is news: backfills can be skipped."""
    topic = Deltas()
    world = connected(topic, 1)
    arrives(world)
    old, new = topic.told
    assert (old.attributes["origin"], new.attributes["origin"]) == ("backfill", "live")
    assert new.ordering_key == ADA
    assert new.attributes == {
        "ce-specversion": "1.0",
        "ce-type": "com.mailmirror.delta",
        "ce-source": f"//mailmirror/projects/p/mailboxes/{ADA}",
        "ce-id": new.data["cursor"],
        "ce-time": new.data["at"],
        "content-type": "application/json",
        "mailbox": ADA,
        "origin": "live",
    }
    assert old.attributes["ce-id"] != new.attributes["ce-id"]
    assert_all_announced(world, topic)


def calls_of(world: World, act: Callable[[App], object]) -> Counter[str]:
    """What a worker asks of store and topic while it does something."""
    calls: Counter[str] = Counter()

    def count(name: str, *, after: bool) -> bool:
        calls[name] += not after
        return False

    act(dying(world, count))
    return calls


def dying(world: World, when: When) -> App:
    """A worker that may die at any call, those of the topic among them."""
    kept = world.topic
    ports: Any = world
    ports.topic = None if kept is None else KillingStore(kept, when)
    try:
        return doomed(world, when)
    finally:
        ports.topic = kept


def test_without_a_topic_nothing_is_asked() -> None:
    """Where nothing is to be published, it costs neither a read nor a write."""
    world = World()
    world.connect()
    world.ada.deliver(mail())
    calls = calls_of(world, lambda app: world.notify(app=app))
    assert calls["deltas"] == calls["announced"] == 0
    assert calls["mailbox"] == 2
    assert world.state().announced is None


def test_what_announcing_costs() -> None:
    """A turn with a delta takes two more reads of the mailbox, one of the delta and one write; without, one read."""
    without, topic = World(), Deltas()
    without.connect()
    world = connected(topic, 0)
    for each in (without, world):
        each.ada.deliver(mail())
    usual, more = (calls_of(each, lambda app, each=each: each.notify(app=app)) for each in (without, world))  # type: ignore[misc]
    assert more - usual == Counter(mailbox=2, deltas=1, announced=1, publish=1)
    usual, more = (calls_of(each, lambda app, each=each: each.notify(app=app)) for each in (without, world))  # type: ignore[misc]
    assert more - usual == Counter(mailbox=1)


def dies_at_call(number: int) -> bool:
    """Let a worker die at its `number`th call of anything, from the connection on, through new mail and a run, and
    others end what it began; return whether it came that far.
    """
    topic = Deltas()
    world = World(topic=topic, step=timedelta(seconds=0))
    for each in range(3):
        world.ada.deliver(mail(f"Number {each}"))
    dead = False
    try:
        app = dying(world, at_call(number))
        app.connect(ADA, None)
        world.work(app)
        arrives(world, 2, app)
        app.trigger_sync(ADA, "full", 0)
        world.work(app)
    except Killed:
        dead = True
        world.clock.advance(121)
        world.app.connect(ADA, None)
        world.work()
    # Whoever died, died before the sweep.
    world.sweep()
    arrives(world)
    assert world.differences() == []
    assert_all_announced(world, topic)
    return dead


def test_a_death_between_any_two_calls_loses_no_delta() -> None:
    """Wherever a worker dies, all deltas come, in order and without a gap, and the position is the last one's."""
    number = 1
    while dies_at_call(number):
        number += 1
    assert number > 100


@pytest.mark.parametrize(("topic", "announces"), [("", False), ("projects/p/topics/mailbox-deltas", True)])
def test_the_topic_is_a_setting(topic: str, announces: bool) -> None:
    """Deltas are published where DELTA_TOPIC names a topic, and nobody looks for credentials before there is one."""
    environment = {
        "GOOGLE_CLOUD_PROJECT": "p",
        "GMAIL_TOPIC": "projects/p/topics/gmail-notifications",
        "WORK_TOPIC": "projects/p/topics/mailbox-work",
        "GMAIL_AUTH": "none",
        "MAILMIRROR_STORE": "sqlite::memory:",
    }
    app = from_settings(Settings.from_env(environment | {"DELTA_TOPIC": topic}))
    assert (app.engine.announcer is not None) == announces
    cast("SqliteStore", app.store).close()


def test_old_mail_is_no_news() -> None:
    """A topic that is switched on late gets what changes from then on, though a mailbox was mirrored long before."""
    topic = Deltas()
    world = World()
    world.ada.deliver(mail())
    world.connect()
    arrives(world)
    world.topic = topic
    world.app = world.worker("worker-2")
    before = world.state().delta_seq
    world.sweep()
    assert topic.told == []
    arrives(world)
    assert_all_announced(world, topic, begun=before)
    assert before == 2


def test_the_first_change_with_a_topic_is_announced() -> None:
    """What the very first turn with a topic brings is news already."""
    topic = Deltas()
    world = World()
    world.connect()
    world.topic = topic
    world.app = world.worker("worker-2")
    arrives(world)
    assert seqs(topic) == [1]


def test_a_topic_that_fails_holds_no_mail_up(logged: Logged) -> None:
    """While the topic is down mail is mirrored as ever, one failure is told, and the mailbox is due for another try."""
    topic = Deltas()
    world = connected(topic)
    topic.down = True
    asked = topic.asked
    world.ada.deliver(mail("News"))
    assert world.notify() == 204
    assert world.differences() == []
    assert topic.asked == asked + 1
    assert logged("announce_failed") == [{"mailbox": ADA, "error": "StoreUnavailable", "reason": "The topic is down."}]
    assert world.state().next_due_at - world.clock.now() <= timedelta(minutes=2)
    assert world.state().problem is None
    # Whoever has just failed does not try at every turn.
    arrives(world, 5)
    assert topic.asked == asked + 1
    topic.down = False
    world.clock.advance(300)
    world.app.sweep_mailboxes()
    world.work()
    assert_all_announced(world, topic)


def test_a_topic_that_is_down_all_the_time_is_no_loop() -> None:
    """However long it is down, a sweep tries once."""
    topic = Deltas()
    world = connected(topic)
    topic.down = True
    arrives(world)
    asked = topic.asked
    for _ in range(10):
        world.clock.advance(300)
        world.app.sweep_mailboxes()
        world.work()
    assert topic.asked == asked + 10


def test_a_turn_that_fails_announces_what_it_committed() -> None:
    """Deltas committed before a turn fails come at once, and not only when another turn ends well."""
    topic = Deltas()
    world = connected(topic)
    world.ada.deliver(mail("News"))
    world.notify()
    world.store = Meanwhile(world.sqlite, "commit", fail)
    world.ada.deliver(mail("More"))
    assert world.notify(app=world.worker("worker-2")) == 503
    assert_all_announced(world, topic)


def fail() -> None:
    """The answer is lost."""
    raise StoreUnavailable("The store did not answer.")


def test_a_failing_store_fails_no_turn(logged: Logged) -> None:
    """A position that cannot be stored is told, fails nothing, and what was published comes again at the most."""
    topic = Deltas()
    world = connected(topic)
    world.store = Meanwhile(world.sqlite, "deltas", fail)
    world.ada.deliver(mail("News"))
    assert world.notify(app=world.worker("worker-2")) == 204
    assert [fields["reason"] for fields in logged("announce_failed")] == ["The store did not answer."]
    world.sweep()
    assert_all_announced(world, topic)


def test_after_an_outage_all_comes_in_chunks() -> None:
    """What has gathered is read and its position stored in chunks, and published in order."""
    topic = Deltas()
    world = connected(topic)
    topic.down = True
    arrives(world, 3 * CHUNK)
    topic.down = False
    world.clock.advance(300)
    world.app.sweep_mailboxes()
    calls = calls_of(world, world.work)
    assert calls["announced"] == 3
    assert calls["deltas"] == 3
    assert_all_announced(world, topic)


class Slow(Deltas):
    """A topic that takes its time."""

    def __init__(self, world_clock: Callable[[float], object]) -> None:
        super().__init__()
        self.let_pass = world_clock

    def publish(self, data: bytes, attributes: Mapping[str, str], ordering_key: str) -> None:
        """Take an event, late."""
        self.let_pass(3)
        super().publish(data, attributes, ordering_key)


def test_a_slow_topic_outlasts_no_deadline() -> None:
    """A turn whose time is up publishes for some seconds, and leaves the rest to the next, which is due soon."""
    down = Deltas()
    world = connected(down)
    down.down = True
    arrives(world, 16)
    slow = Slow(world.clock.advance)
    slow.told = down.told
    world.topic = slow
    world.app = world.worker("worker-2", timedelta(seconds=0))
    before = len(slow.told)
    arrives(world)
    assert before < len(slow.told) < before + 16
    assert world.state().next_due_at - world.clock.now() <= timedelta(minutes=2)
    for _ in range(5):
        world.clock.advance(300)
        world.app.sweep_mailboxes()
        world.work()
    assert_all_announced(world, slow)


def forget(world: World, *gone: int) -> None:
    """Delete deltas of the log, as Firestore does after 30 days."""
    world.sqlite._connection.executemany(
        "DELETE FROM documents WHERE collection = ? AND id = ?",
        [(f"mailboxes/{ADA}/deltas", f"{seq:020d}") for seq in gone],
    )


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ((2, 3), [(2, 3)]),
        ((4,), [(4, 4)]),
        ((2, 5), [(2, 2), (5, 5)]),
        ((6,), [(6, 6)]),
        ((2, 3, 4, 5, 6), [(2, 6)]),
    ],
)
def test_deltas_that_are_gone_are_told_and_passed(
    gone: tuple[int, ...], told: list[tuple[int, int]], logged: Logged
) -> None:
    """Deltas that were deleted before the topic took them are named in the log, and the others come."""
    topic = Deltas()
    world = connected(topic, 1)
    topic.down = True
    arrives(world, 5)
    forget(world, *gone)
    topic.down = False
    world.sweep()
    assert [(fields["first"], fields["last"]) for fields in logged("announcements_lost")] == told
    assert seqs(topic) == [seq for seq in range(1, 7) if seq not in gone]
    state = world.state()
    assert announced(state) == state.delta_seq == 6


@pytest.mark.parametrize("call", ["mailbox", "deltas", "announced"])
@pytest.mark.parametrize("number", range(1, 5))
def test_two_at_a_time_keep_the_order(call: str, number: int) -> None:
    """Two workers that announce at the same time, one overtaking the other anywhere, publish no delta too early."""
    topic = Deltas()
    world = connected(topic)
    topic.down = True
    arrives(world, 2 * CHUNK)
    topic.down = False
    world.clock.advance(300)
    other = world.worker("worker-2")
    world.store = Meanwhile(world.sqlite, call, lambda: arrives(world, app=other), number=number)
    arrives(world, app=world.worker("worker-3"))
    assert_all_announced(world, topic)


@pytest.mark.parametrize(("call", "number"), [("mailbox", 1), ("deltas", 1), ("mailbox", 2)])
def test_an_earlier_life_changes_nothing(call: str, number: int) -> None:
    """A worker that sleeps while its mailbox is deleted and connected anew neither publishes another life's deltas nor
    moves its position.
    """
    topic = Deltas()
    world = connected(topic)
    arrives(world, 5)

    earlier: list[dict[str, Any]] = []

    def another_life() -> None:
        awake = world.worker("worker-2")
        earlier.extend(delta_json(world.state(), delta) for delta in world.sqlite.deltas(ADA, after=0, limit=CHUNK))
        awake.delete(ADA, 60)
        world.clock.advance(3)
        awake.connect(ADA, None)
        world.outbox.work[:] = [work for work in world.outbox.work if work[1] != "purge"]
        world.work(awake)
        topic.down = True
        arrives(world, 2 * CHUNK, awake)
        topic.down = False

    topic.down = True
    world.ada.deliver(mail("News"))
    world.notify()
    topic.down = False
    world.clock.advance(300)
    sleeper = world.worker("sleeper")
    announcer = sleeper.engine.announcer
    assert announcer is not None
    announcer.store = Meanwhile(world.sqlite, call, another_life, number=number)
    announcer.announce(ADA, world.clock.now())
    arrives(world, 2)
    assert len(earlier) == 7
    topic.told[:] = [told for told in topic.told if told.data not in earlier]
    assert_all_announced(world, topic)


def test_what_is_being_deleted_is_announced_no_more(logged: Logged) -> None:
    """From the moment in which a mailbox is to be deleted its deltas may be gone, and nobody is told of that."""
    topic = Deltas()
    world = connected(topic)
    topic.down = True
    arrives(world, 2)
    topic.down = False
    world.clock.advance(300)
    mailboxes.purge(world.store, world.outbox, world.clock, ADA)
    forget(world, 2)
    arrives(world)
    world.work()
    assert world.store.mailbox(ADA) is None
    assert seqs(topic) == [1]
    assert logged("announcements_lost") == []


def test_the_position_of_an_earlier_life_counts_for_nothing() -> None:
    """What is stored late by a worker of an earlier life is below any position of this one."""
    topic = Deltas()
    world = connected(topic)
    arrives(world, 5)
    late = world.state().announced
    assert late is not None
    topic.told.clear()
    world.app.delete(ADA, 60)
    world.clock.advance(1)
    world.app.connect(ADA, None)
    world.store.announced(ADA, late + 1000)
    world.work()
    world.store.announced(ADA, late + 1000)
    arrives(world)
    assert_all_announced(world, topic)


def test_who_is_stopped_has_announced_all() -> None:
    """A mailbox whose worker died before publishing is announced when it is stopped, and only then left alone."""
    topic = Deltas()
    world = connected(topic)

    def before_publishing(name: str, *, after: bool) -> bool:
        return name == "publish" and not after

    with pytest.raises(Killed):
        arrives(world, app=dying(world, before_publishing))
    assert announced(world.state()) == 1
    topic.down = True
    world.app.stop(ADA, 60)
    assert world.state().phase == "stopped"
    assert world.state().next_due_at < mailboxes.NEVER
    topic.down = False
    world.sweep()
    assert_all_announced(world, topic)
    assert world.state().next_due_at == mailboxes.NEVER


def test_who_stops_with_deltas_left_leaves_the_mailbox_due() -> None:
    """While the topic is down a worker dies right after it stopped a mailbox: a sweep announces the rest."""
    topic = Deltas()
    world = connected(topic)
    topic.down = True
    arrives(world)

    def once_stopped(name: str, *, after: bool) -> bool:
        return name == "mailbox" and not after and world.state().phase == "stopped"

    with pytest.raises(Killed):
        dying(world, once_stopped).stop(ADA, 60)
    # What was published met the lease.
    world.outbox.work.clear()
    topic.down = False
    world.sweep()
    assert_all_announced(world, topic)
    world.sweep()
    assert world.state().next_due_at == mailboxes.NEVER


def test_a_run_is_announced_while_it_goes_on() -> None:
    """Between the slices of a run deltas come, not only when the turn is over."""
    during: list[str] = []

    class Looking(Deltas):
        def publish(self, data: bytes, attributes: Mapping[str, str], ordering_key: str) -> None:
            run = world.state().active_run
            during.append("" if run is None else run.stage)
            super().publish(data, attributes, ordering_key)

    topic = Looking()
    world = World(topic=topic)
    for number in range(60):
        world.ada.deliver(mail(f"Number {number}"))
    world.connect()
    assert "fetching" in during
    assert_all_announced(world, topic)
