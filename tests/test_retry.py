"""Parked messages that somebody asks for: each is tried once, now, and told honestly."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from mailmirror import api
from mailmirror.errors import GmailUnavailable
from mailmirror.parked import RETRIES

from tests.killing import Killed
from tests.test_api import Answer, check_error, manage, trigger
from tests.world import ADA, World, mail

PARKED = f"/mailboxes/{ADA}/parked"
MANY = 2 * RETRIES + 3
GET = "users.messages.get"


@pytest.fixture
def world() -> Iterator[World]:
    """A connected mailbox, up to date."""
    world = World()
    world.ada.deliver(mail("Old"))
    world.connect()
    yield world
    world.sqlite.close()


def failing(world: World, *messages: str, error: BaseException | None = None) -> None:
    """Let Gmail fail for these messages; none is none."""

    def fail(method: str, subject: str) -> None:
        if method == GET and subject in messages:
            raise error or GmailUnavailable("500")

    world.accounts.before = fail


def parked(world: World, count: int) -> list[str]:
    """Park new messages; none of them is due for a minute, unless somebody asks."""
    messages = [world.ada.deliver(mail(f"Bad {number}")) for number in range(count)]
    failing(world, *messages)
    assert world.notify() == 204
    assert world.state().counts.parked == count
    world.clock.advance(1)
    world.accounts.calls.clear()
    return messages


def attempts(world: World) -> set[int]:
    """How often the parked messages were tried."""
    return {item["attempts"] for item in world.documents("parked").values()}


def retry(world: World, mode: str = "incremental", wait: int = 50) -> Answer:
    """Ask for the parked messages."""
    return trigger(world, mode=mode, wait=wait, retryParked="true")


def tried(world: World) -> list[str]:
    """The messages asked for, in order."""
    return [subject for method, subject in world.accounts.calls if method == GET]


def test_all_that_is_parked(world: World) -> None:
    """However many wait, and however long they would: all are there when the answer says done."""
    parked(world, MANY)
    failing(world)
    answer = retry(world)
    assert (answer.status, answer.body["status"], answer.body["messagesProcessed"]) == (200, "done", MANY)
    assert answer.body["parked"] == world.state().counts.parked == 0
    assert world.documents("parked") == {}
    assert world.differences() == []
    assert world.outbox.work == []


def test_what_fails_again(world: World) -> None:
    """What fails again was tried once, is parked with that attempt counted, and is next tried when that says."""
    messages = parked(world, MANY)
    (before,) = attempts(world)
    due_at = world.state().parked_due_at
    now = world.clock.now()
    answer = retry(world)
    assert (answer.status, answer.body["parked"]) == (200, MANY)
    assert sorted(tried(world)) == sorted(messages)
    assert attempts(world) == {before + 1}
    after = world.state()
    assert due_at is not None
    assert after.parked_due_at is not None
    assert after.parked_due_at > due_at
    assert after.next_due_at > now
    # Asked for again, tried again.
    world.clock.advance(1)
    assert retry(world).status == 200
    assert attempts(world) == {before + 2}


def test_nothing_is_parked(world: World) -> None:
    """Where nothing is parked it is an ordinary sync."""
    world.ada.deliver(mail("New"))
    answer = retry(world, mode="incremental")
    assert (answer.status, answer.body["messagesProcessed"], answer.body["parked"]) == (200, 1, 0)


def test_nobody_asks(world: World) -> None:
    """A sync that does not ask leaves parked messages to their time, and says how many they are."""
    parked(world, 3)
    failing(world)
    answer = trigger(world, retryParked="false")
    assert (answer.status, answer.body["parked"]) == (200, 3)
    assert tried(world) == []


def test_time_runs_out(world: World) -> None:
    """202 says that some were not tried: they keep their time, and whoever asks again gets them tried."""
    messages = parked(world, MANY)
    stored = world.documents("parked")
    answer = retry(world, wait=0)
    assert (answer.status, answer.body["status"], answer.body["parked"]) == (202, "running", MANY)
    first = tried(world)
    assert len(first) == RETRIES
    now = world.documents("parked")
    assert {i for i in messages if now[i] == stored[i]} == set(messages) - set(first)
    # The sync that goes on by itself leaves them to it.
    world.accounts.calls.clear()
    world.work()
    assert tried(world) == []
    failing(world)
    world.clock.advance(1)
    assert retry(world).body["parked"] == 0


def test_another_worker_has_the_mailbox(world: World) -> None:
    """While another worker holds the lease nothing is tried, and 202 says so."""
    parked(world, 2)
    stored = world.documents("parked")
    now = world.clock.now()
    world.store.acquire(world.state(), owner="other", now=now, expires_at=now + timedelta(seconds=100))
    answer = retry(world, wait=3)
    assert (answer.status, answer.body["parked"]) == (202, 2)
    assert (tried(world), world.documents("parked")) == ([], stored)


def test_new_mail_in_between(world: World) -> None:
    """Mail that comes while many are tried does not wait until all of them were."""
    parked(world, MANY)
    failing(world)
    order: list[str] = []

    def watch(method: str, subject: str) -> None:
        if method == GET:
            if not order:
                new.append(world.ada.deliver(mail("New")))
                world.store.raise_hint(ADA, world.head())
            order.append(subject)

    new: list[str] = []
    world.accounts.before = watch
    assert retry(world).status == 200
    assert order.index(new[0]) <= 2 * RETRIES
    assert world.differences() == []


def test_a_mailbox_is_stopped_in_between(world: World) -> None:
    """Who stops the mailbox does not wait until all were tried."""
    parked(world, MANY)

    def stop(method: str, subject: str) -> None:
        if method == GET and world.state().wanted == "live":
            world.app.stop(ADA, 0)

    world.accounts.before = stop
    check_error(retry(world), 409, "FAILED_PRECONDITION")
    assert len(tried(world)) <= 2 * RETRIES
    assert world.state().wanted == "stopped"


def deadly(world: World, count: int) -> list[str]:
    """Park messages that kill whoever reads them."""
    messages = []
    for _ in range(count):
        messages.append(world.ada.deliver(mail("Deadly")))
        failing(world, *messages, error=Killed())
        for _ in range(5):
            with pytest.raises(Killed):
                world.notify()
            world.clock.advance(121)
            # Those parked before wait for their own time.
            failing(world, messages[-1], error=Killed())
        assert world.notify() == 204
    assert {item["deadly"] for item in world.documents("parked").values()} == {True}
    return messages


def test_deadly_messages(world: World) -> None:
    """What workers died with is tried too: alone, named before, and it costs one request at the most each."""
    (bad,) = deadly(world, 1)
    fine = world.ada.deliver(mail("Fine"))
    failing(world, bad, fine)
    world.notify()
    world.clock.advance(1)
    world.accounts.calls.clear()
    failing(world, bad, error=Killed())
    with pytest.raises(Killed):
        retry(world)
    # It comes last, and everybody can see which it was.
    assert tried(world) == [fine, bad]
    assert fine in world.documents("messages")
    assert world.state().suspect == {bad: 1}
    world.clock.advance(121)
    world.accounts.calls.clear()
    before = world.documents("parked")[bad]["attempts"]
    answer = retry(world)
    assert (answer.status, answer.body["parked"]) == (200, 1)
    assert tried(world) == []
    assert world.documents("parked")[bad]["attempts"] == before + 1


def test_deadly_messages_that_are_harmless_now(world: World) -> None:
    """When what killed is mended all of them arrive by one request."""
    parked_now = deadly(world, 1)
    failing(world)
    world.clock.advance(1)
    answer = retry(world)
    assert (answer.status, answer.body["parked"]) == (200, 0)
    assert world.documents("messages").keys() >= set(parked_now)
    assert world.differences() == []


@pytest.mark.parametrize(
    "query",
    [
        {"retryParked": "yes"},
        {"retryParked": ""},
        {"retryParked": "True"},
        {"retryParked": "true", "mode": "full"},
        {"retryParked": "true", "mode": "audit"},
        {"retryParked": "no", "mode": "full"},
    ],
)
def test_a_wish_that_cannot_be(world: World, query: dict[str, str]) -> None:
    """It is true or false, and only an incremental sync does it; otherwise nothing is done."""
    world.ada.deliver(mail("New"))
    answer = trigger(world, **query)
    assert "retryParked" in check_error(answer, 400, "INVALID_ARGUMENT")
    assert len(world.documents("messages")) == 1


def test_not_wanted_with_another_mode(world: World) -> None:
    """Whoever says false may say so with every mode."""
    answer = trigger(world, retryParked="false", mode="audit")
    assert (answer.status, answer.body["parked"]) == (200, 0)


# GET /mailboxes/{m}/parked


def test_what_is_parked_is_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parked documents as stored come with the next to be tried first, as many as an answer holds, and counted."""
    first = parked(world, 2)
    second = world.ada.deliver(mail("Later"))
    failing(world, *first, second)
    world.notify()
    answer = manage(world, "GET", PARKED)
    assert (answer.status, answer.body["total"]) == (200, 3)
    assert {item["id"] for item in answer.body["parked"]} == {*first, second}
    shown = answer.body["parked"][-1]
    assert shown["id"] == second
    assert shown.keys() == {
        "id",
        "threadId",
        "reason",
        "attempts",
        "firstAt",
        "nextAttemptAt",
        "origin",
        "deadly",
    }
    assert shown.keys() == world.documents("parked")[second].keys()
    times = [item["nextAttemptAt"] for item in answer.body["parked"]]
    assert times == sorted(times)
    monkeypatch.setattr(api, "MAX_PARKED", 2)
    fewer = manage(world, "GET", PARKED)
    assert (fewer.body["parked"], fewer.body["total"]) == (answer.body["parked"][:2], 3)


def test_nothing_parked_is_shown(world: World) -> None:
    """Where nothing is parked the list is empty."""
    assert manage(world, "GET", PARKED).body == {"parked": [], "total": 0}


def test_what_is_parked_in_an_unknown_mailbox(world: World) -> None:
    """A mailbox that is not connected has no list."""
    check_error(manage(world, "GET", "/mailboxes/eve@example.com/parked"), 404, "NOT_FOUND")
