"""The two stores, empty, for each test of the contract."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from google.cloud import firestore
from mailmirror.ports import Store

from tests.contract.worker import firestore_client, opened


class Place:
    """One empty database that may be opened any number of times, each time as another worker would."""

    def __init__(self, text: str, stack: ExitStack) -> None:
        self.text = text
        self._stack = stack

    def open(self) -> Store:
        """Open it once more; it is closed with the test."""
        return self._stack.enter_context(opened(self.text))


@pytest.fixture(params=["sqlite", "firestore"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty database: a new file, or a project of the emulator that nobody used before."""
    if request.param == "sqlite":
        text = f"sqlite {tmp_path / 'mirror.db'}"
    else:
        text = f"firestore {request.getfixturevalue('firestore_emulator')} test-{uuid.uuid4().hex[:12]}"
    with ExitStack() as stack:
        yield Place(text, stack)


@pytest.fixture
def store(place: Place) -> Store:
    """The database, opened."""
    return place.open()


@pytest.fixture
def client(firestore_emulator: str) -> Iterator[firestore.Client]:
    """A client of the emulator with a project of its own."""
    with firestore_client(firestore_emulator, f"test-{uuid.uuid4().hex[:12]}") as client:
        yield client
