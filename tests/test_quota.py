"""The budget: never more than Gmail allows in any minute, and hardly less."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mailmirror.errors import Throttled
from mailmirror.model import Quota
from mailmirror.quota import BURST, DEAREST, DEAREST_GET, MAX_WAIT_SECONDS, MOST, PRICES, Budget, bucket

from tests.clock import VirtualClock

QUOTAS = [500, 600, 1_000, 4_999, 6_000, 15_000, 1_000_000]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "pause", "resume", "drain", "spare"]),
        st.integers(0, 10_000),
    ),
    max_size=200,
)


@given(st.sampled_from(QUOTAS), STEPS)
@settings(max_examples=300)
def test_any_60_seconds(units_per_minute: int, steps: list[tuple[str, int]]) -> None:
    """Whatever is asked for and whenever, live or by a run, no 60 seconds see more than 99 % of a minute's units."""
    clock = VirtualClock()
    size = bucket(units_per_minute)
    budget = Budget(size, clock, None)
    spent: list[tuple[float, int]] = []
    began = clock.now()

    def take(amount: int) -> None:
        units = 1 + amount % budget.at_once
        try:
            budget.take(units)
        except Throttled:
            clock.advance(MAX_WAIT_SECONDS)
        else:
            spent.append(((clock.now() - began).total_seconds(), units))

    for step, amount in steps:
        if step == "pause":
            clock.advance(amount / 100)
        elif step == "drain":
            budget.drain()
        elif step == "resume":
            budget = Budget(size, clock, budget.level())
        elif step == "spare":
            with budget.sparing():
                take(amount)
        else:
            take(amount)
    for start, (since, _) in enumerate(spent):
        within = sum(units for at, units in spent[start:] if at < since + 60)
        assert within <= 0.99 * units_per_minute + 1
    assert budget.level().today == sum(units for _, units in spent)


@pytest.mark.parametrize("sparing", [False, True])
@pytest.mark.parametrize("units", [20, 40, 80])
@pytest.mark.parametrize("units_per_minute", [5_000, 6_000, 15_000])
def test_sustained_spending(units_per_minute: int, units: int, sparing: bool) -> None:
    """Whoever spends all the time spends 97 % or more of what Gmail allows, minute after minute, reserve or not."""
    clock = VirtualClock()
    budget = Budget(bucket(units_per_minute), clock, None)
    began = clock.now()
    while clock.now() - began < timedelta(minutes=10):
        if sparing:
            with budget.sparing():
                budget.take(units)
        else:
            budget.take(units)
    minutes = (clock.now() - began).total_seconds() / 60
    steady = bucket(units_per_minute).rate * 60 / units_per_minute
    assert 0.97 <= steady <= MOST - BURST
    # What the bucket held at the beginning comes on top, once.
    assert steady <= budget.spent / units_per_minute / minutes <= steady + 0.02 / 10 + 0.001


@pytest.mark.parametrize("seconds", [0.0, 0.25])
@pytest.mark.parametrize("units", [35_100, 351_000])
def test_a_first_sync_is_hardly_slower_than_the_quota(units: int, seconds: float) -> None:
    """A run of 35,100 units, what 3,000 messages take, lasts at most 1.03 times as long as Gmail would let it.

    So does one ten times as long, and one in which every answer takes a quarter of a second.
    """
    clock = VirtualClock()
    budget = Budget(bucket(6_000), clock, None)
    began = clock.now()
    with budget.sparing():
        while budget.spent < units:
            budget.take(min(budget.at_once // 20 * 20, units - budget.spent))
            clock.advance(seconds)
    assert (clock.now() - began).total_seconds() <= 1.03 * units / 100


@pytest.mark.parametrize("units_per_minute", QUOTAS)
def test_a_run_leaves_the_reserve_to_live_mail(units_per_minute: int) -> None:
    """However hungry a run is, live mail finds the reserve, which pays for the news of one message or more at once."""
    clock = VirtualClock()
    size = bucket(units_per_minute)
    budget = Budget(size, clock, None)
    for _ in range(50):
        with budget.sparing():
            budget.take(max(DEAREST_GET, min(budget.at_once, budget.affordable(5))))
        clock.slept.clear()
        assert budget.level().units >= 0.999 * size.reserve
        budget.take(int(0.999 * size.reserve))
        assert clock.slept == []
    if units_per_minute >= 1_000:
        assert size.reserve > PRICES["2026"]["users.history.list"] + PRICES["2026"]["users.messages.get"]


@pytest.mark.parametrize("units_per_minute", QUOTAS)
def test_a_run_can_always_go_on(units_per_minute: int) -> None:
    """With the least quota, an empty bucket and the reserve, a run's dearest get is waited for, not given up."""
    clock = VirtualClock()
    budget = Budget(bucket(units_per_minute), clock, Quota(0.0, clock.now()))
    with budget.sparing():
        assert budget.at_once >= DEAREST_GET == 40
        budget.take(DEAREST_GET)
    assert budget.spent == DEAREST_GET
    # A debt that refusals and waits may leave is paid off as well.
    indebted = Budget(bucket(units_per_minute), clock, Quota(-10.0, clock.now()))
    with indebted.sparing():
        indebted.take(DEAREST_GET)


def test_sparing_ends() -> None:
    """The reserve is kept within the context alone, one context within another is one, and a failure ends it too."""
    clock = VirtualClock()
    budget = Budget(bucket(6_000), clock, None)
    assert (budget.at_once, budget.affordable(0)) == (105, 105)
    with budget.sparing():
        with budget.sparing():
            assert (budget.at_once, budget.affordable(0)) == (70, 70)
        assert budget.at_once == 70
    with pytest.raises(KeyError), budget.sparing():
        raise KeyError
    assert (budget.at_once, budget.affordable(0)) == (105, 105)


def test_more_than_there_is_beside_the_reserve() -> None:
    """While sparing, a sum that reserve and burst do not hold together is paid from a full bucket."""
    clock = VirtualClock()
    size = bucket(6_000)
    budget = Budget(size, clock, Quota(0.0, clock.now()))
    with budget.sparing():
        budget.take(100)
    assert sum(clock.slept) == pytest.approx(size.capacity / size.rate, abs=0.001)
    assert budget.level().units == pytest.approx(5, abs=0.01)


# --- The day.

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_the_day_is_counted() -> None:
    """What is spent counts for the day, what was stored today is carried over, and midnight UTC begins anew."""
    clock = VirtualClock(NOON)
    budget = Budget(bucket(6_000), clock, None, units_per_day=10_000)
    assert budget.day_left == 10_000
    budget.take(100)
    assert (budget.level().today, budget.day_left) == (100, 9_900)
    resumed = Budget(bucket(6_000), clock, budget.level(), units_per_day=10_000)
    resumed.take(40)
    assert (resumed.level().today, resumed.day_left, resumed.spent) == (140, 9_860, 40)
    clock.advance(12 * 3600 - 1)
    assert resumed.day_left == 9_860
    clock.advance(1)
    assert (resumed.level().today, resumed.day_left) == (0, 10_000)
    assert Budget(bucket(6_000), clock, Quota(0.0, NOON, 7_000), units_per_day=10_000).day_left == 10_000


def test_a_stored_day_in_another_time_zone() -> None:
    """The day is that of UTC, whatever time zone a stored time has."""
    clock = VirtualClock(NOON)
    tokyo = timezone(timedelta(hours=9))
    today = Quota(0.0, datetime(2026, 11, 20, 20, tzinfo=tokyo), 500)
    yesterday = Quota(0.0, datetime(2026, 11, 20, 8, tzinfo=tokyo), 500)
    assert Budget(bucket(6_000), clock, today).level().today == 500
    assert Budget(bucket(6_000), clock, yesterday).level().today == 0


def test_what_is_paid_after_midnight_counts_then() -> None:
    """Units that are waited for over midnight are spent on the new day."""
    clock = VirtualClock(datetime(2026, 11, 20, 23, 59, 59, 900_000, tzinfo=UTC))
    budget = Budget(bucket(6_000), clock, Quota(0.0, clock.now(), 9_990), units_per_day=10_000)
    budget.take(40)
    assert (clock.now().day, budget.level().today, budget.day_left) == (21, 40, 9_960)


def test_the_day_stops_runs_and_never_live_mail() -> None:
    """Of a day that is used up a run can afford nothing; live mail goes on, and no less than nothing is left."""
    clock = VirtualClock(NOON)
    budget = Budget(bucket(6_000), clock, Quota(105.0, clock.now(), 9_970), units_per_day=10_000)
    with budget.sparing():
        assert (budget.day_left, budget.affordable(5)) == (30, 30)
    assert budget.affordable(5) == int(105 + 5 * 97.25)
    budget.take(100)
    assert budget.day_left == 0
    with budget.sparing():
        assert budget.affordable(5) == 0
    budget.take(40)
    assert (budget.day_left, budget.level().today) == (0, 10_110)
    assert budget.affordable(5) > 0


def test_no_limit_for_the_day() -> None:
    """Without a limit the day is counted all the same, and nothing ends with it."""
    clock = VirtualClock(NOON)
    budget = Budget(bucket(6_000), clock, Quota(105.0, clock.now(), 10**9))
    with budget.sparing():
        assert budget.affordable(5) == int(70 + 5 * 97.25)
    assert budget.day_left is None
    assert budget.level().today == 10**9


# --- Waiting.


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
    stored = Quota(10.0, clock.now() - timedelta(seconds=0.5))
    assert Budget(size, clock, stored).level().units == pytest.approx(10 + size.rate / 2)
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
    assert all(bucket(units).reserve > 0 for units in QUOTAS)
    with pytest.raises(ValueError, match="too few"):
        bucket(199)


def test_more_than_the_bucket_holds() -> None:
    """A sum above the bucket's size is paid from a full bucket and leaves a debt."""
    clock = VirtualClock()
    size = bucket(6_000)
    budget = Budget(size, clock, None)
    budget.take(500)
    assert budget.level().units == pytest.approx(size.capacity - 500)
