"""Ageing: under a policy of the newest days the mirror is those days of the mailbox, for next to nothing a day."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from mailmirror import tidying
from mailmirror.model import Policy

from tests.killing import Killed, KillingStore, at_call, doomed
from tests.world import ADA, World, mail, push

DAY = 24 * 3600
THREE_DAYS = Policy(newest_days=3)
LARGE = "All work and no play. " * 20_000


class Counting:
    """Passes calls on to a store and counts them by name."""

    def __init__(self, store: object) -> None:
        self._store = store
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            return method(*args, **kwargs)

        return call


def connected(policy: Policy = THREE_DAYS, *, days: int = 6, each: int = 2) -> World:
    """A mailbox that got mail every day until now, the last of each day being one more in the same thread."""
    world = World()
    thread = None
    for day in range(days):
        for number in range(each):
            last = number == each - 1
            text = f"{day} {LARGE}" if number == 0 else "Hi."
            new = world.ada.deliver(mail(f"Day {day}", text=text), thread_id=thread if last else None)
            thread = thread or (new if last else None)
        if day < days - 1:
            world.clock.advance(DAY)
    world.connect(policy)
    assert world.differences(policy=policy) == []
    return world


def a_day(world: World) -> None:
    """Let a day pass, and the sweep see to what is due."""
    world.clock.advance(DAY)
    world.app.renew_watches()
    world.work()
    world.sweep()


def test_what_gets_older_leaves_the_mirror() -> None:
    """Day by day the messages that became too old are removed, as live changes, with their objects and for no call of
    Gmail's; threads that have newer ones stay with those.
    """
    world = connected()
    mirrored = len(world.documents("messages"))
    assert 0 < mirrored < 12
    seen = len(world.documents("deltas"))
    for _ in range(4):
        world.accounts.calls.clear()
        a_day(world)
        assert world.differences(policy=THREE_DAYS) == []
        assert world.orphans() == []
        assert [method for method, _ in world.accounts.calls if method.endswith("messages.get")] == []
        assert world.accounts.made("users.messages.list") == 0
    assert world.documents("messages") == world.documents("threads") == {}
    assert world.blobs.objects == {}
    deltas = [delta for _, delta in sorted(world.documents("deltas").items())][seen:]
    assert {delta["origin"] for delta in deltas} == {"live"}
    changes = [change for delta in deltas for change in delta["changes"]]
    assert {change["type"] for change in changes} == {"messageDeleted"}
    assert len(changes) == mirrored


def test_it_is_done_once_a_day() -> None:
    """Of all the turns of a day the first looks for what is too old; the others, whatever they do, do not."""
    world = connected()
    counting = Counting(world.sqlite)
    world.app.engine.store = counting
    looks = []
    for _ in range(3):
        world.clock.advance(DAY / 2)
        world.notify()
        world.ada.deliver(mail("New"))
        world.notify()
        world.sweep()
        looks.append(counting.calls.count("threads_before"))
        counting.calls.clear()
    # Noon, then past midnight: what is too old, and that there is nothing more of it.
    assert looks == [2, 0, 2]
    assert world.differences(policy=THREE_DAYS) == []


@pytest.mark.parametrize("policy", [Policy(), Policy(since=World().clock.now() - timedelta(days=30))])
def test_other_policies_are_never_looked_at(policy: Policy) -> None:
    """A mailbox that is mirrored however old, or from a fixed time on, is not looked through at all."""
    world = connected(policy)
    counting = Counting(world.sqlite)
    world.app.engine.store = counting
    a_day(world)
    assert "threads_before" not in counting.calls
    assert world.state().aged_to is None


def test_the_first_notification_of_the_day_does_it_too() -> None:
    """Nobody has to wait for the sweep: whichever turn comes first removes what is too old, and brings what is new."""
    world = connected()
    world.clock.advance(DAY)
    new = world.ada.deliver(mail("New"))
    assert world.notify() == 204
    assert new in world.documents("messages")
    assert world.differences(policy=THREE_DAYS) == []
    assert world.outbox.work == []


def test_old_mail_that_is_touched_costs_nothing() -> None:
    """Labels put on mail that is too old fetch none of it."""
    world = connected()
    a_day(world)
    world.accounts.calls.clear()
    world.ada.modify(sorted(world.ada.truth()["messages"]), ["STARRED"])
    world.notify()
    assert world.accounts.made("users.messages.get") == 0
    assert world.differences(policy=THREE_DAYS) == []


def test_days_are_changed() -> None:
    """More days bring what is missing, fewer take away, none leave it at that; and after each of it what gets older
    leaves again day by day.
    """
    world = connected(days=12)
    for days in (7, 2, 9, None, 4):
        policy = replace(THREE_DAYS, newest_days=days)
        world.app.connect(ADA, policy)
        world.work()
        assert world.differences(policy=policy) == []
        world.ada.deliver(mail("New"))
        a_day(world)
        assert world.differences(policy=policy) == []
        assert world.orphans() == []


def test_a_new_policy_is_followed_by_its_run_alone() -> None:
    """What fewer days leave out is removed as backfill, by the run that follows the policy, and counted there; only
    what gets older later is a live change. A policy that is changed while a run is under way is followed by that run.
    """
    world = connected(Policy(), days=8)
    deltas = len(world.documents("deltas"))
    world.app.connect(ADA, THREE_DAYS)
    world.notify()
    world.work()
    new = [delta for _, delta in sorted(world.documents("deltas").items())][deltas:]
    assert {delta["origin"] for delta in new} == {"backfill"}
    run = world.state().run
    assert run is not None
    assert run.removed == sum(len(delta["changes"]) for delta in new) == 8
    a_day(world)
    latest = [delta for _, delta in sorted(world.documents("deltas").items())][deltas + len(new) :]
    assert {delta["origin"] for delta in latest} == {"live"}
    world.app.trigger_sync(ADA, "full", 0)
    world.app.connect(ADA, replace(THREE_DAYS, newest_days=1))
    world.work()
    a_day(world)
    assert world.differences(policy=replace(THREE_DAYS, newest_days=1)) == []


def test_days_and_a_date() -> None:
    """Of a date and the newest days the later one counts, today and once it is overtaken."""
    world = World()
    for _ in range(4):
        world.ada.deliver(mail("Old"))
        world.clock.advance(DAY)
    policy = Policy(since=world.clock.now() - timedelta(days=1.5), newest_days=3)
    world.connect(policy)
    counts = [len(world.documents("messages"))]
    for _ in range(4):
        a_day(world)
        assert world.differences(policy=policy) == []
        counts.append(len(world.documents("messages")))
    assert counts == [1, 1, 1, 0, 0]


def test_a_run_goes_on_over_midnight() -> None:
    """A run that lists on one day and fetches on the next mirrors what is wanted then, and finds nothing to mend."""
    world = World(units_per_minute=6000, step=timedelta(seconds=30))
    for number in range(400):
        world.ada.deliver(mail(f"Number {number}"))
        world.clock.advance(DAY / 100)
    # One minute to midnight.
    world.clock.advance(DAY / 2 - 60)
    assert world.clock.now().strftime("%H:%M") == "23:59"
    world.app.connect(ADA, THREE_DAYS)
    since = None
    while world.outbox.work:
        world.work_once()
        run = world.state().run
        assert run is not None
        since = since or run.since
        assert run.since == since
    assert world.clock.now().hour == 0
    coverage = world.state().coverage
    assert coverage is not None
    # Of 350 that were listed, those that had become too old when they were fetched count for nothing.
    assert (coverage.missing, coverage.parked, coverage.mirrored) == (0, 0, 250)
    assert 250 < coverage.listed < 350
    world.sweep()
    assert world.differences(policy=THREE_DAYS) == []
    world.app.trigger_sync(ADA, "audit", 50)
    world.work()
    coverage = world.state().coverage
    assert coverage is not None
    assert (coverage.missing, coverage.extra, coverage.listed) == (0, 0, coverage.mirrored)


def test_a_listing_that_starts_again_is_of_the_day_on_which_it_does() -> None:
    """A listing whose page token is refused after midnight leaves out what has become too old by then."""
    world = World()
    for _ in range(2):
        for number in range(600):
            world.ada.deliver(mail(f"Number {number}"))
        world.clock.advance(DAY)

    def expire(method: str, subject: str) -> None:
        if method == "users.messages.list" and world.accounts.made(method) == 1:
            world.clock.advance(2 * DAY)
        if method == "users.messages.list" and world.accounts.made(method) == 2:
            world.ada.expire_page_tokens()

    world.accounts.before = expire
    world.connect(THREE_DAYS)
    assert world.accounts.made("users.messages.get") == 600
    assert world.differences(policy=THREE_DAYS) == []


def test_each_turn_does_what_it_has_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that is over before it begins removes the oldest threads' messages all the same, and the next goes on."""
    monkeypatch.setattr(tidying, "THREADS", 4)
    world = connected(days=2, each=30)
    hasty = world.worker("hasty", step=timedelta(0))
    world.clock.advance(6 * DAY)
    world.app.sweep_mailboxes()
    left = [len(world.documents("messages"))]
    while world.outbox.work:
        mailbox, task = world.outbox.work.pop(0)
        assert hasty.push(hasty.run_work, push({"mailbox": mailbox, "task": task})) == 204
        left.append(len(world.documents("messages")))
    assert left[:2] == [60, 56]
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    assert len(left) > 60 / 5
    assert world.state().aged_to == THREE_DAYS.at(world.clock.now()).since


def test_new_mail_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mail that is announced while old mail is removed waits for one slice of that and no more."""
    monkeypatch.setattr(tidying, "THREADS", 4)
    world = connected(days=2, each=30)
    other, arrived, seen = world.worker("other"), list[str](), list[bool]()

    def arrive(name: str, *, after: bool) -> bool:
        if name == "threads_before" and not after:
            seen.append(bool(arrived) and arrived[0] in world.documents("messages"))
            if not arrived:
                arrived.append(world.ada.deliver(mail("New")))
                assert world.notify(app=other) == 204
        return False

    world.app.engine.store = KillingStore(world.sqlite, arrive)
    world.clock.advance(6 * DAY)
    world.app.sweep_mailboxes()
    world.work()
    assert seen == [False, *[True] * (len(seen) - 1)]
    assert len(seen) > 10
    assert world.differences(policy=THREE_DAYS) == []


def dies_at_call(number: int) -> bool:
    """Let the first worker of a day die at its `number`th call of anything, and others end what it began; return
    whether it came that far.
    """
    world = connected(days=4)
    dying = doomed(world, at_call(number))
    world.clock.advance(DAY)
    world.app.sweep_mailboxes()
    try:
        world.work(dying)
    except Killed:
        world.clock.advance(121)
        world.outbox.publish(ADA, "sync")
        world.work()
        assert world.differences(policy=THREE_DAYS) == []
        assert world.state().aged_to == THREE_DAYS.at(world.clock.now()).since
        return True
    return False


def test_a_death_between_any_two_calls_is_harmless() -> None:
    """Wherever the first worker of a day dies, what is too old leaves that day."""
    number = 1
    while dies_at_call(number):
        number += 1
    assert number > 20
