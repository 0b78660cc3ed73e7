"""The estimate: what it says beside what a real first sync then takes, and formulas that come to their figures."""

import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror import planner
from mailmirror.adapters.firestore import FirestoreStore
from mailmirror.errors import InvalidInput
from mailmirror.estimate import Estimate, Figure, Survey, Terms, first_sync, survey
from mailmirror.model import Policy, Run
from mailmirror.quota import PRICES

from tests.clock import VirtualClock
from tests.contract.counting import CountingFirestore
from tests.contract.worker import firestore_client
from tests.world import ADA, World, mail

# How many messages the threads of a mailbox have.
SINGLE = (1,)
PAIRS = (2,)
MIXED = (1, 1, 1, 1, 1, 1, 2, 2, 4, 10)
LONG = (10,)
ENORMOUS = (1, 150)


def threads(pattern: Sequence[int], messages: int) -> list[int]:
    """Repeat a pattern of thread sizes until there are so many messages."""
    sizes: list[int] = []
    while sum(sizes) < messages:
        sizes.append(pattern[len(sizes) % len(pattern)])
    return sizes


def fill(world: World, sizes: Sequence[int]) -> None:
    """Deliver threads of these sizes."""
    for number, size in enumerate(sizes):
        world.clock.advance(60)
        first = world.ada.deliver(mail(f"Thread {number}"))
        for _ in range(size - 1):
            world.ada.deliver(mail(f"Thread {number}"), thread_id=first)


def terms(units_per_minute: int = 6_000, **changes: object) -> Terms:
    """Settings as they are by default."""
    return replace(Terms(PRICES["2026"], units_per_minute, 480.0), **changes)  # type: ignore[arg-type]


def look(world: World) -> Survey:
    """Survey the world's mailbox, at nobody's expense."""
    seen = survey(world.accounts.open(ADA, None), ADA)
    world.accounts.calls.clear()
    world.accounts.spent = 0
    return seen


@pytest.mark.parametrize(
    ("pattern", "messages", "units_per_minute"),
    [
        (SINGLE, 0, 6_000),
        (SINGLE, 1, 6_000),
        (SINGLE, 700, 6_000),
        (SINGLE, 150, 500),
        (PAIRS, 600, 15_000),
        (MIXED, 1_000, 6_000),
        (MIXED, 500, 1_000),
        (LONG, 2_000, 6_000),
        (ENORMOUS, 600, 6_000),
    ],
)
def test_units_and_minutes_are_those_of_a_first_sync(
    pattern: Sequence[int], messages: int, units_per_minute: int
) -> None:
    """Units agree within 2 %, and minutes, on a clock that only waits for quota, within 5 % or half a minute."""
    world = World(units_per_minute=units_per_minute)
    fill(world, threads(pattern, messages))
    said = first_sync(look(world), terms(units_per_minute))
    start = world.clock.now()
    world.connect()
    minutes = (world.clock.now() - start) / timedelta(minutes=1)
    assert said.units.value == pytest.approx(world.accounts.spent, rel=0.02)
    assert said.minutes.value == pytest.approx(minutes, rel=0.05, abs=0.5)
    counts = world.state().counts
    assert (said.messages.value, said.threads.value) == (counts.messages, counts.threads)
    assert said.complete


@pytest.mark.parametrize(
    ("pattern", "messages", "units_per_minute"),
    [
        (SINGLE, 600, 6_000_000),
        (SINGLE, 300, 6_000),
        (MIXED, 600, 6_000),
        (LONG, 600, 6_000),
        (PAIRS, 400, 1_000),
        (SINGLE, 100, 500),
    ],
)
def test_documents_are_those_of_a_first_sync(
    firestore_emulator: str, pattern: Sequence[int], messages: int, units_per_minute: int
) -> None:
    """Firestore's reads and writes agree within 5 %; deletions are those of the run and one for each delta."""
    with firestore_client(firestore_emulator, f"plan-{uuid.uuid4().hex[:12]}") as client:
        world = World(store=FirestoreStore(client), units_per_minute=units_per_minute)
        fill(world, threads(pattern, messages))
        said = first_sync(look(world), terms(units_per_minute))
        counted = CountingFirestore(client)
        world.connect()
        assert said.reads.value == pytest.approx(counted.reads, rel=0.05)
        assert said.writes.value == pytest.approx(counted.writes - counted.deletes, rel=0.05)
        assert said.deletes.value == pytest.approx(counted.deletes + world.state().delta_seq, rel=0.05, abs=4)


def test_a_large_mailbox_is_sampled() -> None:
    """Beyond 2,000 messages four pages are looked at, for 21 units in all, and what they show is extrapolated."""
    world = World()
    fill(world, threads(MIXED, 2_600))
    seen = survey(world.accounts.open(ADA, None), ADA)
    assert world.accounts.spent == 21
    assert (seen.complete, sum(seen.sizes)) == (False, 2_000)
    assert (seen.messages, seen.threads) == (2_600, len(threads(MIXED, 2_600)))
    said = first_sync(seen, terms())
    assert not said.complete
    world.accounts.spent = 0
    world.connect()
    assert said.units.value == pytest.approx(world.accounts.spent, rel=0.02)


def test_a_sample_that_cuts_threads_says_too_much_rather_than_too_little() -> None:
    """Where old messages of the newest threads are beyond the sample, the units said are enough, and no third more."""
    world = World()
    # All at one time: the listing mixes the threads.
    firsts = [world.ada.deliver(mail(f"Thread {number}")) for number in range(1_300)]
    for first in firsts:
        world.ada.deliver(mail("More"), thread_id=first)
    said = first_sync(look(world), terms())
    whole = first_sync(Survey(2_600, 1_300, (2,) * 1_300, complete=True), terms())
    assert (said.complete, said.messages.value, said.threads.value) == (False, 2_600, 1_300)
    assert whole.units.value <= said.units.value <= whole.units.value * 1.33


def test_an_alias() -> None:
    """An address that is not the mailbox's own is refused, as it is when connecting."""
    world = World()
    with pytest.raises(InvalidInput, match="alias"):
        survey(world.accounts.open(ADA, None), "ada.lovelace@example.com")


def test_mail_that_came_between_profile_and_listing() -> None:
    """There are never fewer messages than were listed."""
    world = World()
    fill(world, threads(SINGLE, 2_100))
    gmail = world.accounts.open(ADA, None)
    profile = gmail.profile()
    gmail.profile = lambda: replace(profile, messages_total=5, threads_total=5)  # type: ignore[method-assign]
    seen = survey(gmail, ADA)
    assert (seen.messages, seen.threads) == (2_000, 2_000)


def test_no_sample_says_more_than_the_profile_allows() -> None:
    """Threads that look short in the sample cost no more than one threads.get for each thread there is."""
    said = first_sync(Survey(100_000, 10_000, (1,) * 2_000, complete=False), terms())
    listing = 201 * 5
    assert 400_000 <= said.units.value <= 400_000 + listing + 500


@given(sizes=st.lists(st.integers(1, 60), max_size=60), table=st.sampled_from(["2026", "legacy"]))
def test_threads_are_priced_as_the_planner_prices_them(sizes: list[int], table: str) -> None:
    """For each thread the estimate takes the way that a run's plan takes."""
    prices = PRICES[table]  # type: ignore[index]
    refs = [(f"{number}-{message}", str(number)) for number, size in enumerate(sizes) for message in range(size)]
    listed = planner.manifest(refs, frozenset(), {})
    run = Run("r", "first", "", 0, 1, VirtualClock().now())
    items = [planner.compare(listed, thread_id, None, run, prices) for thread_id in listed.threads]
    planned = sum(planner.item_units(item, prices) for item in items if item is not None)
    said = first_sync(Survey(sum(sizes), len(sizes), tuple(sizes), complete=True), terms(prices=prices))
    nothing = first_sync(Survey(0, 0, (), complete=True), terms(prices=prices))
    pages = max(1, -(-sum(sizes) // 500)) - 1
    more_turns = (said.units.value - nothing.units.value - planned - 5 * pages) / 2
    assert 0 <= more_turns <= planned / (terms().rate * 480)


def test_a_day_that_has_a_limit() -> None:
    """What does not fit into a day's units goes on the next day, and the formula says how many days that makes."""
    seen = Survey(10_000, 10_000, (1,) * 2_000, complete=False)
    free, limited = first_sync(seen, terms()), first_sync(seen, terms(units_per_day=30_000))
    assert limited.units == free.units
    days = free.units.value // 30_000
    assert days * 1440 < limited.minutes.value < days * 1440 + 60
    assert f"{days:.0f} full days" in limited.minutes.formula
    assert first_sync(seen, terms(units_per_day=10**9)).minutes == free.minutes


def test_without_bodies_less_is_stored() -> None:
    """A policy without bodies takes the same units and less room."""
    seen = Survey(1_000, 1_000, (1,) * 1_000, complete=True)
    whole, lean = first_sync(seen, terms()), first_sync(seen, terms(bodies=not Policy().bodies))
    assert lean.units == whole.units
    assert lean.storage_bytes.value <= whole.storage_bytes.value / 2


@pytest.mark.parametrize("messages", [0, 1, 3_000, 90_000])
def test_nothing_of_a_large_mailbox_is_listed(messages: int) -> None:
    """Pages may be empty and not the last: then each message is taken to be got by itself, and that is said."""
    said = first_sync(Survey(messages, messages, (), complete=False), terms())
    alone = first_sync(Survey(messages, messages, (1,) * messages, complete=True), terms())
    assert (said.units.value, said.minutes) == (alone.units.value, replace(alone.minutes, formula=said.minutes.formula))
    assert said.deletes.value == pytest.approx(alone.deletes.value, rel=0.02, abs=2)
    assert "each by itself as the listing shows none" in said.units.formula


SURVEYS = [
    Survey(90_000, 5_000, (), complete=False),
    Survey(0, 0, (), complete=True),
    Survey(1_000, 400, (*((1,) * 300), *((7,) * 100)), complete=True),
    Survey(90_000, 50_000, (1, 2, 3) * 300, complete=False),
    Survey(90_000, 5_000, (1,) * 2_000, complete=False),
]


@pytest.mark.parametrize("seen", SURVEYS)
@pytest.mark.parametrize("units_per_day", [None, 30_000])
def test_each_formula_comes_to_its_figure(seen: Survey, units_per_day: int | None) -> None:
    """Whoever works a formula out by hand arrives at the figure beside it."""
    said = first_sync(seen, terms(units_per_day=units_per_day))
    for name, figure in figures(said):
        if name in ("messages", "threads"):
            assert figure.formula in ("listed", "users.getProfile")
        else:
            assert worked_out(figure.formula) == pytest.approx(figure.value, rel=1e-4, abs=0.06)


def figures(said: Estimate) -> Iterator[tuple[str, Figure]]:
    """All figures with their names."""
    for attribute in fields(said):
        value = getattr(said, attribute.name)
        if isinstance(value, Figure):
            yield attribute.name, value


def worked_out(formula: str) -> float:
    """Calculate a formula: sums, products and `min`, whatever the words between them, which may stand in brackets."""
    text = re.sub(r"\(Σ min\([^()]*\)[^()]*\)", "", formula).split(", because")[0]
    text = text.replace("min(", "⌊").replace("^", "**").replace("×", "*")
    text = re.sub(r"[A-Za-z][\w.']*|;", " ", text)
    if "⌊" in text:
        head, _, rest = text.partition("⌊")
        inside, _, tail = rest.partition(")")
        text = f"{head}{min(float(eval(part)) for part in inside.split(','))}{tail}"
    return float(eval(text.replace(",", " ")))
