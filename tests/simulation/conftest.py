"""What the tests of the simulation have to say at the end of the test run, whether they passed or failed, and the bench
of the judge's tests.

Knows: where a test leaves its lines, `config.stash[LINES]`. Does not know: what they say.
"""

import pytest

from tests.simulation.bench import Bench

LINES: pytest.StashKey[list[str]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Begin without lines."""
    config.stash[LINES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the lines, after the results and before the counts."""
    lines = config.stash.get(LINES, [])
    if lines:
        terminalreporter.section("simulation")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def bench() -> Bench:
    """A mailbox that is connected and has no mail yet; the worker still holds the lease."""
    connected = Bench()
    connected.connect()
    return connected
