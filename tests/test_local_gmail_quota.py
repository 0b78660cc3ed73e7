"""The fake charges Google's prices and refuses in Google's words."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from local.gmail.clock import ManualClock
from local.gmail.errors import ApiError
from local.gmail.quota import PRICES, Quota
from local.gmail.world import METHODS, World

ADA = "ada@example.com"


@pytest.fixture
def clock() -> ManualClock:
    """A clock the test moves."""
    return ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))


def test_every_method_has_a_price_in_both_tables() -> None:
    """The tables price exactly the methods that are faked, as the facts have them."""
    assert PRICES["2026"].keys() == PRICES["legacy"].keys() == METHODS.keys()
    assert (PRICES["2026"]["users.messages.get"], PRICES["legacy"]["users.messages.get"]) == (20, 5)
    assert (PRICES["2026"]["users.threads.get"], PRICES["legacy"]["users.threads.get"]) == (40, 10)
    attachments = "users.messages.attachments.get"
    assert (PRICES["2026"][attachments], PRICES["legacy"][attachments]) == (20, 5)
    with pytest.raises(ValueError, match="2027"):
        Quota(ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), prices="2027")


def test_the_minute_slides(clock: ManualClock) -> None:
    """Units come back sixty seconds after they were spent, not at the full minute; other mailboxes are not touched."""
    world = World(clock=clock, units_per_minute=60)
    world.add(ADA)
    world.add("grace@example.com")
    for _ in range(3):
        with pytest.raises(ApiError, match="404"):
            world.call(ADA, "users.messages.get", {"message_id": "gone"})
        clock.advance(timedelta(seconds=10))
    with pytest.raises(ApiError, match="Quota exceeded"):
        world.call(ADA, "users.getProfile", {})
    world.call("grace@example.com", "users.getProfile", {})
    clock.advance(timedelta(seconds=29))
    with pytest.raises(ApiError, match="Quota exceeded"):
        world.call(ADA, "users.getProfile", {})
    clock.advance(timedelta(seconds=1))
    world.call(ADA, "users.getProfile", {})
    with pytest.raises(ApiError, match="Quota exceeded"):
        world.call(ADA, "users.messages.get", {"message_id": "gone"})


def test_refusals_have_googles_shapes(clock: ManualClock) -> None:
    """403 rateLimitExceeded of usageLimits is the usual one, 429 RESOURCE_EXHAUSTED on demand."""
    world = World(clock=clock, units_per_minute=0)
    world.add(ADA)
    with pytest.raises(ApiError) as raised:
        world.call(ADA, "users.getProfile", {})
    error = raised.value.body()["error"]
    assert error["code"] == 403
    assert error["message"].startswith(
        "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute per user'"
    )
    assert (error["errors"][0]["domain"], error["errors"][0]["reason"]) == ("usageLimits", "rateLimitExceeded")
    world.quota.shape = "exhausted"
    with pytest.raises(ApiError) as raised:
        world.call(ADA, "users.getProfile", {})
    assert (raised.value.status, raised.value.status_text) == (429, "RESOURCE_EXHAUSTED")


def test_too_many_at_a_time_are_refused(clock: ManualClock) -> None:
    """Calls beyond the limit of concurrency get their 429, and so does the rear of a large batch."""
    world = World(clock=clock)
    world.add(ADA)
    world.quota.concurrent = 2
    inside, leave = threading.Semaphore(0), threading.Event()

    def stay(_seconds: float) -> None:
        inside.release()
        leave.wait(5)

    world.sleep = stay
    world.faults.add({"users.getProfile": ["slow:1", "slow:1"]})
    threads = [threading.Thread(target=world.call, args=(ADA, "users.getProfile", {})) for _ in range(2)]
    for thread in threads:
        thread.start()
        assert inside.acquire(timeout=5)
    with pytest.raises(ApiError, match="Too many concurrent requests for user") as raised:
        world.call(ADA, "users.getProfile", {})
    assert raised.value.status == 429
    leave.set()
    for thread in threads:
        thread.join()
    world.call(ADA, "users.getProfile", {}, crowd=1)
    with pytest.raises(ApiError, match="Too many concurrent"):
        world.call(ADA, "users.getProfile", {}, crowd=2)


def test_who_keeps_hammering_is_told_to_come_back_later(clock: ManualClock) -> None:
    """After enough refusals every call is 429 with a time in its text, until that time."""
    world = World(clock=clock, units_per_minute=0)
    world.add(ADA)
    world.quota.punish_after = 3
    for expected in ("Quota exceeded", "Quota exceeded", "Retry after 2026-03-01T12:15:00.000Z"):
        with pytest.raises(ApiError, match=expected):
            world.call(ADA, "users.getProfile", {})
    world.quota.units_per_minute = None
    clock.advance(timedelta(minutes=14))
    with pytest.raises(ApiError, match=r"User-rate limit exceeded\.  Retry after 2026-03-01T12:15:00\.000Z"):
        world.call(ADA, "users.getProfile", {})
    clock.advance(timedelta(minutes=1))
    world.call(ADA, "users.getProfile", {})


def test_the_account_is_exact(clock: ManualClock) -> None:
    """Units, calls and refusals are counted by mailbox and method; failed calls cost, refused ones do not."""
    world = World(clock=clock, units_per_minute=45)
    world.add(ADA)
    world.call(ADA, "users.messages.list", {})
    for _ in range(3):
        with pytest.raises(ApiError):
            world.call(ADA, "users.messages.get", {"message_id": "gone"})
    assert world.quota.account() == {
        "mailboxes": {
            ADA: {
                "units": {"users.messages.list": 5, "users.messages.get": 40},
                "calls": {"users.messages.list": 1, "users.messages.get": 3},
                "rejected": {"users.messages.get": 1},
                "totalUnits": 45,
                "totalRejected": 1,
            }
        },
        "units": 45,
        "calls": {"users.messages.list": 1, "users.messages.get": 3},
        "rejected": 1,
    }
