"""Faults hit the call they were meant for, once, and the account says so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from local.gmail.clock import ManualClock
from local.gmail.errors import ApiError, ConnectionDropped, Silence
from local.gmail.world import World

ADA = "ada@example.com"


@pytest.fixture
def slept() -> list[float]:
    """How long the world slept."""
    return []


@pytest.fixture
def world(slept: list[float]) -> World:
    """A world with one mailbox that sleeps without waiting."""
    world = World(clock=ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC)), sleep=slept.append)
    world.add(ADA)
    return world


def test_each_call_consumes_one_fault_of_its_method(world: World) -> None:
    """Faults come in order, other methods are untouched, and what was met and what waits is on account."""
    world.faults.add({"users.getProfile": [503, "404"], "users.labels.list": ["500"]})
    for status in (503, 404):
        with pytest.raises(ApiError) as raised:
            world.call(ADA, "users.getProfile", {})
        assert raised.value.status == status
    assert world.call(ADA, "users.getProfile", {})["emailAddress"] == ADA
    assert world.faults.account() == {
        "users.getProfile": {"consumed": ["503", "404"], "waiting": [], "pinned": []},
        "users.labels.list": {"consumed": [], "waiting": ["500"], "pinned": []},
    }
    world.faults.clear()
    assert world.faults.account() == {}
    assert world.call(ADA, "users.labels.list", {})["labels"]


def test_a_pinned_fault_waits_for_its_id(world: World) -> None:
    """Poison: one message fails each time or so many times, the others do not; a thread can be poison too."""
    good, bad = (world.add(ADA).deliver(b"Subject: x\n\ny") for _ in range(2))
    world.faults.add({"users.messages.get": {"id": bad, "status": 500, "times": -1}})
    world.faults.add({"users.threads.get": [{"id": bad, "status": "reset", "times": 2}]})
    for _ in range(3):
        assert world.call(ADA, "users.messages.get", {"message_id": good})["id"] == good
        with pytest.raises(ApiError, match="500 backendError"):
            world.call(ADA, "users.messages.get", {"message_id": bad})
    for _ in range(2):
        with pytest.raises(ConnectionDropped):
            world.call(ADA, "users.threads.get", {"thread_id": bad})
    assert world.call(ADA, "users.threads.get", {"thread_id": bad})["id"] == bad
    account = world.faults.account()
    assert account["users.messages.get"]["pinned"] == [{"id": bad, "status": "500", "times": -1}]
    assert account["users.threads.get"] == {"consumed": [f"reset for {bad}"] * 2, "waiting": [], "pinned": []}


@pytest.mark.parametrize(
    ("fault", "status", "domain", "reason", "said", "text"),
    [
        ("400", 400, "global", "badRequest", "Bad Request", "INVALID_ARGUMENT"),
        ("400:failedPrecondition", 400, "global", "failedPrecondition", "Precondition check", "FAILED_PRECONDITION"),
        ("401", 401, "global", "authError", "Invalid Credentials", "UNAUTHENTICATED"),
        ("403", 403, "usageLimits", "rateLimitExceeded", "Quota exceeded for quota metric", "PERMISSION_DENIED"),
        ("403:domainPolicy", 403, "global", "domainPolicy", "administrators have disabled", "PERMISSION_DENIED"),
        ("403:userRateLimitExceeded", 403, "usageLimits", "userRateLimitExceeded", "User Rate", "PERMISSION_DENIED"),
        ("404", 404, "global", "notFound", "Requested entity was not found.", "NOT_FOUND"),
        ("429", 429, "global", "rateLimitExceeded", "Resource has been exhausted", "RESOURCE_EXHAUSTED"),
        ("429:concurrent", 429, "global", "rateLimitExceeded", "Too many concurrent requests", "RESOURCE_EXHAUSTED"),
        ("retry-after:900", 429, "usageLimits", "rateLimitExceeded", "12:15:00.000Z", "RESOURCE_EXHAUSTED"),
        ("500", 500, "global", "backendError", "Internal error", "INTERNAL"),
        ("502", 502, "global", "backendError", "Bad Gateway", "UNKNOWN"),
        ("503", 503, "global", "backendError", "unavailable", "UNAVAILABLE"),
        ("504", 504, "global", "backendError", "timed out", "DEADLINE_EXCEEDED"),
    ],
)
def test_each_status_has_googles_body(
    world: World, fault: str, status: int, domain: str, reason: str, said: str, text: str
) -> None:
    """Status, domain, reason, message and status text are those Google sends."""
    world.faults.add({"users.getProfile": fault})
    with pytest.raises(ApiError) as raised:
        world.call(ADA, "users.getProfile", {})
    error = raised.value.body()["error"]
    (detail,) = error["errors"]
    assert (error["code"], detail["domain"], detail["reason"], error["status"]) == (status, domain, reason, text)
    assert said in error["message"] == detail["message"]


def test_resets_and_silence_do_or_do_not_do_the_work(world: World, slept: list[float]) -> None:
    """Only `reset-after` and `slow` do the work; `timeout` and `slow` take their time first."""
    mailbox = world.add(ADA)
    topic = {"topic": "projects/p/topics/t"}
    world.faults.add({"users.watch": ["reset", "timeout:90", "reset-after"], "users.stop": "slow:2.5"})
    with pytest.raises(ConnectionDropped, match="before"):
        world.call(ADA, "users.watch", topic)
    with pytest.raises(Silence):
        world.call(ADA, "users.watch", topic)
    assert mailbox.active_watch() is None
    with pytest.raises(ConnectionDropped, match="after"):
        world.call(ADA, "users.watch", topic)
    assert mailbox.active_watch() is not None
    world.call(ADA, "users.stop", {})
    assert mailbox.active_watch() is None
    assert slept == [90, 2.5]


@pytest.mark.parametrize(
    "plan",
    [
        {"users.nothing": [404]},
        {"users.watch": [200]},
        {"users.watch": ["slow:fast"]},
        {"users.watch": ["retry-after:-1"]},
        {"users.watch": [None]},
        {"users.watch": ["503"], "users.stop": [{"status": 500}]},
        {"users.watch": [{"id": "a", "status": 500, "times": 0}]},
    ],
    ids=str,
)
def test_a_wrong_plan_is_refused_as_a_whole(world: World, plan: dict[str, Any]) -> None:
    """Nothing of a plan with a mistake is queued."""
    with pytest.raises(ValueError, match=r"\w"):
        world.faults.add(plan)
    assert world.faults.account() == {}


def test_a_revoked_mailbox_answers_401_until_restored(world: World) -> None:
    """Revoked: every call is authError, costs nothing and consumes no fault; restored: as before."""
    mailbox = world.add(ADA)
    world.faults.add({"users.getProfile": 503})
    world.revoke(mailbox)
    with pytest.raises(ApiError, match="401 authError: Invalid Credentials"):
        world.call(ADA, "users.getProfile", {})
    assert world.quota.account()["units"] == 0
    world.restore(mailbox)
    with pytest.raises(ApiError, match="503"):
        world.call(ADA, "users.getProfile", {})
