"""How much memory it takes to read a large message: its bytes, once. `python -m bench` measures it at full size."""

from collections.abc import Iterator

import pytest
from mailmirror.adapters.gmail.arrival import LARGEST_WAVE

from bench.large_mail import large_gmail, read_alone
from bench.processes import folder, measurable
from tests.conftest import Require

# No more than a batch may hold, so that two of them together are more.
SIZE = 20_000_000
# A heap is not to the byte what is in it.
MOST = 1.25


@pytest.fixture(scope="module")
def root() -> Iterator[str]:
    """Where a Gmail with large messages is."""
    with folder() as home, large_gmail(home, SIZE) as root:
        yield root


@pytest.mark.parametrize("case", ["text", "emoji", "file"])
def test_a_large_message_is_held_once(require: Require, root: str, case: str) -> None:
    """A process that reads a large message has no more of it at any time than its bytes, whatever characters it has."""
    require(measurable(), "what a process took is read from /proc")
    read = read_alone(root, case)
    assert read.size >= 0.99 * SIZE
    assert read.peak - read.before <= MOST * read.size / 1_000_000


def test_large_messages_are_held_one_by_one(require: Require, root: str) -> None:
    """Of large messages that are asked for together no more is held than one of them and the room of a batch."""
    require(measurable(), "what a process took is read from /proc")
    read = read_alone(root, "both")
    assert read.size >= 0.99 * SIZE
    assert read.peak - read.before <= MOST * (SIZE + LARGEST_WAVE) / 1_000_000
