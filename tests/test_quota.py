"""The budget: never more than Gmail allows in any minute, and hardly less."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mailmirror.errors import Throttled
from mailmirror.model import Quota
from mailmirror.quota import DEAREST, MAX_WAIT_SECONDS, PRICES, Budget, bucket

from tests.clock import VirtualClock

UNITS_PER_MINUTE = st.sampled_from([500, 1_000, 6_000, 15_000, 1_000_000])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "pause", "resume", "drain"]),
        st.integers(0, 10_000),
    ),
    max_size=200,
)


@given(UNITS_PER_MINUTE, STEPS)
@settings(max_examples=300)
def test_any_60_seconds(units_per_minute: int, steps: list[tuple[str, int]]) -> None:
    """Whatever is asked for and whenever, no 60 seconds see more than 97 % of a minute's units."""
    clock = VirtualClock()
    size = bucket(units_per_minute)
    budget = Budget(size, clock, None)
    spent: list[tuple[float, int]] = []
    began = clock.now()
    for step, amount in steps:
        if step == "pause":
            clock.advance(amount / 100)
        elif step == "drain":
            budget.drain()
        elif step == "resume":
            budget = Budget(size, clock, budget.level())
        else:
            units = 1 + amount % budget.at_once
            try:
                budget.take(units)
            except Throttled:
                clock.advance(MAX_WAIT_SECONDS)
                continue
            spent.append(((clock.now() - began).total_seconds(), units))
    for start, (since, _) in enumerate(spent):
        within = sum(units for at, units in spent[start:] if at < since + 60)
        assert within <= 0.97 * units_per_minute + 1


@pytest.mark.parametrize("units", [20, 120])
@pytest.mark.parametrize("units_per_minute", [6_000, 15_000])
def test_sustained_spending(units_per_minute: int, units: int) -> None:
    """Whoever spends all the time spends at least 95 % of what Gmail allows, minute after minute."""
    clock = VirtualClock()
    budget = Budget(bucket(units_per_minute), clock, None)
    began = clock.now()
    while clock.now() - began < timedelta(minutes=10):
        budget.take(units)
    minutes = (clock.now() - began).total_seconds() / 60
    assert 0.95 <= budget.spent / units_per_minute / minutes <= 0.97


def test_take_waits() -> None:
    """What is not there yet is waited for when it does not take long, through the clock."""
    clock = VirtualClock()
    size = bucket(6_000)
    budget = Budget(size, clock, None)
    budget.take(budget.at_once)
    assert clock.slept == []
    budget.take(95)
    assert clock.slept == [pytest.approx(95 / size.rate)]
    assert budget.spent == budget.at_once + 95


def test_take_raises() -> None:
    """A wait too long for a lease is no wait but Throttled, which says when to come back, and nothing is spent."""
    clock = VirtualClock()
    size = bucket(6_000)
    budget = Budget(size, clock, Quota(-2_000, clock.now()))
    with pytest.raises(Throttled) as caught:
        budget.take(20)
    until = caught.value.until
    assert until is not None
    assert (clock.slept, budget.spent) == ([], 0)
    clock.advance((until - clock.now()).total_seconds())
    budget.take(20)
    assert sum(clock.slept) == pytest.approx(0, abs=0.001)
    assert MAX_WAIT_SECONDS < 120 / 3, "a third of the lease"


def test_the_level_resumes() -> None:
    """A stored level grows with the time since, up to the bucket's size, also when the stored time is still to come."""
    clock = VirtualClock()
    size = bucket(6_000)
    stored = Quota(10.0, clock.now() - timedelta(seconds=1))
    assert Budget(size, clock, stored).level().units == pytest.approx(10 + size.rate)
    assert Budget(size, clock, Quota(10.0, clock.now() - timedelta(days=1))).level().units == size.capacity
    assert Budget(size, clock, Quota(1e9, clock.now())).level().units == size.capacity
    ahead = Quota(10.0, clock.now() + timedelta(seconds=30))
    assert Budget(size, clock, ahead).level() == ahead


def test_affordable() -> None:
    """What is affordable within a time can be taken within that time, in pieces."""
    clock = VirtualClock()
    budget = Budget(bucket(6_000), clock, None)
    units = budget.affordable(5)
    began = clock.now()
    for _ in range(units // 20):
        budget.take(20)
    assert clock.now() - began <= timedelta(seconds=5)
    assert budget.affordable(0) < 20


def test_drain() -> None:
    """After a refusal nothing is left to spend at once, and a debt stays a debt."""
    clock = VirtualClock()
    budget = Budget(bucket(6_000), clock, None)
    budget.drain()
    assert budget.level().units == 0
    indebted = Budget(bucket(6_000), clock, Quota(-50.0, clock.now()))
    indebted.drain()
    assert indebted.level().units == -50


def test_no_call_is_impossible() -> None:
    """The dearest call fits into the smallest bucket; a smaller quota than that is refused with a sentence."""
    assert bucket(500).capacity >= DEAREST == PRICES["2026"]["users.watch"]
    with pytest.raises(ValueError, match="too few"):
        bucket(199)


def test_more_than_the_bucket_holds() -> None:
    """A sum above the bucket's size is paid from a full bucket and leaves a debt."""
    clock = VirtualClock()
    size = bucket(6_000)
    budget = Budget(size, clock, None)
    budget.take(500)
    assert budget.level().units == pytest.approx(size.capacity - 500)
