"""The three stores, empty, for each test of the contract."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from google.cloud import firestore
from mailmirror.ports import Store

from tests.contract.gmail import Fake
from tests.contract.worker import firestore_client, opened
from tests.simulation.store import MemoryStore


@dataclass(frozen=True)
class Place:
    """One empty database that may be opened any number of times, each time as another worker would.

    Attributes:
        text: what a worker in another process opens, which those in memory cannot be.
        open: opens it once more; it is closed with the test.
    """

    text: str
    open: Callable[[], Store]


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Make calls in threads that start together."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@pytest.fixture(params=["memory", "sqlite", "firestore"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty database: in memory, a new file, or a project of the emulator that nobody used before."""
    if request.param == "memory":
        memory = MemoryStore()
        yield Place("memory", lambda: memory)
        return
    if request.param == "sqlite":
        text = f"sqlite {tmp_path / 'mirror.db'}"
    else:
        text = f"firestore {request.getfixturevalue('firestore_emulator')} test-{uuid.uuid4().hex[:12]}"
    with ExitStack() as stack:
        yield Place(text, lambda: stack.enter_context(opened(text)))


@pytest.fixture
def store(place: Place) -> Store:
    """The database, opened."""
    return place.open()


@pytest.fixture
def client(firestore_emulator: str) -> Iterator[firestore.Client]:
    """A client of the emulator with a project of its own."""
    with firestore_client(firestore_emulator, f"test-{uuid.uuid4().hex[:12]}") as client:
        yield client


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A fake Gmail with Alice's empty mailbox."""
    running = Fake()
    yield running
    running.stop()
