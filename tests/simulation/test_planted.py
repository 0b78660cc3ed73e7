"""Each planted bug is found: a simulation that cannot fail would prove nothing.

The searches run beside one another, two processes at a time, and the tests wait for what they find.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.simulation.conftest import LINES
from tests.simulation.planted import MOST_SECONDS, MOST_SEEDS, PLANTED, Found, Patch, Planted, seek_all, table

pytestmark = pytest.mark.timeout(MOST_SECONDS)

Search = Callable[[Planted], Found]


@pytest.fixture(scope="session")
def search(request: pytest.FixtureRequest) -> Iterator[Search]:
    """Seek the bugs whose tests were chosen, in the order of the tests; at the end there is a table."""
    chosen = {item.name for item in request.session.items}
    bugs = [bug for bug in PLANTED if f"test_planted_bug_is_found[{bug.name}]" in chosen]
    found: list[Found] = []
    with ThreadPoolExecutor(2) as pool:
        searches = seek_all(pool, bugs)

        def wait(bug: Planted) -> Found:
            found.append(searches[bug.name].result())
            return found[-1]

        yield wait
        pool.shutdown(cancel_futures=True)
    request.config.stash[LINES] += table(found)


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name)
def test_planted_bug_is_found(bug: Planted, search: Search) -> None:
    """The simulation finds the bug within the number of seeds that is stated for it."""
    found = search(bug)
    assert found.violation is not None, (
        f"{bug.name!r} was planted and {bug.within} seeds did not find it: either they cannot see it any more, or the "
        "code is not harmed by it and the plant has to go."
    )


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name)
def test_plant_fits_the_code(bug: Planted) -> None:
    """There is exactly one place for each change of a plant, and what it makes of the source is Python."""
    sources = {patch.path: patch.path.read_text(encoding="utf-8") for patch in bug.patches}
    for patch in bug.patches:
        sources[patch.path] = patch.applied(sources[patch.path])
    for path, source in sources.items():
        compile(source, path, "exec", dont_inherit=True)


def test_plant_without_a_place_is_refused() -> None:
    """A plant whose code is gone, or is there twice, says so instead of changing nothing."""
    patch = Patch("history", "before", "after")
    assert patch.applied("x = before") == "x = after"
    for source in ("x = 1", "before before"):
        with pytest.raises(LookupError, match=r"the code has changed and the plant has to follow"):
            patch.applied(source)


def test_bugs_are_told_apart() -> None:
    """There are at least the 15 bugs asked for, each under a name of its own, and none may need too many seeds."""
    names = [bug.name for bug in PLANTED]
    assert len(set(names)) == len(names) >= 15
    assert all(0 < bug.within <= MOST_SEEDS for bug in PLANTED)
