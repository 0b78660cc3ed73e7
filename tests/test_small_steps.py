"""After trouble: a turn that Gmail ended is followed by one of small steps, and no message stands in another's way.

The real client speaks to the fake Gmail over HTTP, unless the store alone is in question.
"""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from mailmirror import mailboxes, planner
from mailmirror.errors import GmailUnavailable

from tests.contract.gmail import Fake
from tests.test_known_failures import OverHttp
from tests.world import ADA, World, mail, push


@pytest.fixture
def fake() -> Iterator[Fake]:
    """Gmail as a server."""
    running = Fake()
    yield running
    running.stop()


def live_on(world: World, minutes: int) -> None:
    """Let sweeps and work go on for a while; who fails is not called again before the next sweep."""
    for _ in range(minutes // 5):
        world.clock.advance(300)
        world.app.sweep_mailboxes()
        for mailbox, task in list(world.outbox.work):
            world.outbox.work.remove((mailbox, task))
            world.app.push(world.app.run_work, push({"mailbox": mailbox, "task": task}))


def never_answered(fake: Fake, ids: list[str], status: object) -> None:
    """Let Gmail refuse these messages for ever."""
    fake.faults("users.messages.get", *({"id": message_id, "status": status, "times": -1} for message_id in ids))


@pytest.mark.parametrize("status", [500, "429", "403", 401, "403:domainPolicy", "400:failedPrecondition"])
def test_messages_that_are_always_refused_are_parked(fake: Fake, status: object) -> None:
    """However Gmail refuses some messages for ever, and only them: they are parked, and new mail comes all the same."""
    world = OverHttp(fake)
    world.connect()
    ids = [world.ada.deliver(mail(f"Number {number}")) for number in range(10)]
    never_answered(fake, ids[2:6], status)
    world.notify()
    live_on(world, 180)
    assert world.documents("parked").keys() == set(ids[2:6])
    new = world.ada.deliver(mail("New"))
    assert world.notify() == 204
    assert world.documents("messages").keys() == {*ids, new} - set(ids[2:6])
    assert world.state().problem is None


def test_parked_messages_stop_no_run(fake: Fake) -> None:
    """Parked messages that Gmail never answers wait longer and longer; a run that was asked for ends."""
    world = OverHttp(fake)
    ids = [world.ada.deliver(mail(f"Number {number}")) for number in range(30)]
    never_answered(fake, ids[:4], 500)
    world.connect()
    assert world.documents("parked").keys() == set(ids[:4])
    mailboxes.request_run(world.store, world.clock, ADA, "audit", "asked")
    live_on(world, 60)
    state = world.state()
    assert state.run is not None
    assert (state.run.id, state.run.active, state.problem) == ("asked", False, None)
    assert min(parked["attempts"] for parked in world.documents("parked").values()) > 2
    fake.world.faults.clear()
    live_on(world, 120)
    assert world.differences() == []


def test_a_quota_smaller_than_was_said(fake: Fake) -> None:
    """Where Gmail grants less than a slice takes, because others spend it, what it grants is made use of."""
    world = OverHttp(fake, units_per_minute=6_000)
    world.connect()
    for number in range(60):
        world.ada.deliver(mail(f"Number {number}"))
    fake.world.quota.units_per_minute = 500
    world.notify()
    live_on(world, 60)
    assert len(world.documents("messages")) == 60


def parked_after_an_outage(messages: int) -> tuple[World, list[str]]:
    """A mailbox most of whose messages failed, and are parked."""
    world = World()
    world.connect()
    ids = [world.ada.deliver(mail(f"Number {number}")) for number in range(messages)]
    dark = set(ids[2:])

    def fail(method: str, subject: str) -> None:
        if subject in dark:
            raise GmailUnavailable("503")

    world.accounts.before = fail
    world.notify()
    world.accounts.before = None
    assert world.state().counts.parked == messages - 2
    return world, ids


@pytest.mark.parametrize("how", ["full", "labels"])
def test_what_was_parked_by_the_hundred_comes_back(how: str) -> None:
    """A slice whose messages were all parked has more to write than a commit holds: it takes several."""
    world, ids = parked_after_an_outage(planner.GROUP_FETCHES)
    if how == "full":
        assert world.app.trigger_sync(ADA, "full", 50).status == "done"
    else:
        for message_id in ids:
            world.ada.modify([message_id], remove=["UNREAD"])
        assert world.notify() == 204
    assert world.state().counts.parked == 0
    assert world.documents("parked") == {}
    assert world.differences() == []


def test_what_was_parked_by_the_hundred_and_deleted(fake: Fake) -> None:
    """Deletions of parked messages in one page with label changes of mirrored ones are more than one commit, too."""
    world = World()
    mirrored = [world.ada.deliver(mail(f"Old {number}")) for number in range(172)]
    world.connect()
    ids = [world.ada.deliver(mail(f"Number {number}")) for number in range(170)]
    dark = set(ids)

    def fail(method: str, subject: str) -> None:
        if subject in dark:
            raise GmailUnavailable("503")

    world.accounts.before = fail
    world.notify()
    world.accounts.before = None
    for message_id in mirrored:
        world.ada.modify([message_id], remove=["UNREAD"])
    world.ada.delete(ids)
    assert world.notify() == 204
    assert world.state().counts.parked == 0
    assert world.differences() == []


def test_no_call_under_an_expired_lease() -> None:
    """With the least quota a long thread that has to be read message by message takes minutes: the lease is renewed."""
    world = World(units_per_minute=500, step=timedelta(seconds=60))
    first = world.ada.deliver(mail("Thread"))
    for number in range(40):
        world.ada.deliver(mail(f"Number {number}"), thread_id=first)
    late: list[str] = []

    def look(method: str, subject: str) -> None:
        lease = world.store.lease(ADA)
        if lease is not None and lease.owner and lease.expires_at <= world.clock.now():
            late.append(method)
        if method == "users.threads.get":
            raise GmailUnavailable("500")

    world.accounts.before = look
    world.connect()
    assert late == []
    assert len(world.documents("messages")) == 41
