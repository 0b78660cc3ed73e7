"""Batches at the same time, over real HTTP: the client of `adapters/gmail` with several lanes and the fake Gmail."""

import gc
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import google.auth.exceptions
import pytest
from mailmirror.adapters.gmail import calls, transport
from mailmirror.errors import AccessRevoked, GmailUnavailable, Throttled
from mailmirror.model import Failed, FetchedThread, Gone, Message
from mailmirror.ports import Gmail

from tests.contract.gmail import ALICE, WHOLE, Fake, Script, Token, messages_of, refusal

UNITS = 1_000_000
# As many as wait for one another at most; no test comes near to it unless it fails.
SECONDS = 10


@pytest.fixture(autouse=True)
def _many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients begin with as many lanes as others come to use."""
    monkeypatch.setattr(calls, "FIRST_IN_FLIGHT", 200)


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    """No lane's thread outlives the call that started it."""
    yield
    assert [thread.name for thread in threading.enumerate() if "ThreadPool" in thread.name] == []


def gate(fake: Fake, parties: int) -> threading.Barrier:
    """Let the fake hold each request until so many are there."""
    barrier = threading.Barrier(parties)
    fake.world.latency = 1.0

    def wait(_seconds: float) -> None:
        barrier.wait(SECONDS)

    fake.world.sleep = wait
    return barrier


def test_eight_at_a_time(fake: Fake) -> None:
    """Two hundred messages come in eight batches that are all under way before one of them is answered."""
    ids = fake.deliver(200)
    barrier = gate(fake, 8)
    client = fake.open(units_per_minute=UNITS)
    assert messages_of(client.messages(ids, None), Message) == ids
    assert not barrier.broken
    assert client.spent == fake.units() == 4_000


def test_no_more_at_a_time_than_there_are_lanes(fake: Fake) -> None:
    """With two lanes there are two batches at a time, each over the connection that it was over before."""
    ids = fake.deliver(150)
    barrier = gate(fake, 2)
    client = fake.open(units_per_minute=UNITS, lanes=2)
    assert messages_of(client.messages(ids, None), Message) == ids
    assert not barrier.broken


def test_threads_come_so_too(fake: Fake) -> None:
    """Threads are fetched in lanes as messages are."""
    ids = fake.deliver(100)
    gate(fake, 8)
    found = fake.open(units_per_minute=UNITS).threads(ids, None)
    assert messages_of(found, FetchedThread) == ids


@pytest.mark.parametrize(("count", "changes"), [(3, {}), (60, {"lanes": 1}), (60, {"units_per_minute": 6_000})])
def test_one_batch_needs_no_thread(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, count: int, changes: dict[str, Any]
) -> None:
    """Where there is one batch at a time (few ids, one lane, a run with the usual quota) no thread is started."""
    monkeypatch.delattr(transport, "ThreadPoolExecutor")
    ids = fake.deliver(count)
    client = fake.open(**({"units_per_minute": UNITS} | changes))
    with client.sparing():
        assert messages_of(client.messages(ids, None), Message) == ids


def test_trouble_in_several_lanes(fake: Fake) -> None:
    """Of 200 ids in eight batches some are refused, fail, or are gone: each has its result and is paid for once."""
    ids = fake.deliver(200)
    for number in range(0, 200, 20):
        fault = ("429", "500", "403", "503", "429:concurrent")[number // 20 % 5]
        fake.faults("users.messages.get", {"id": ids[number], "status": fault})
    fake.faults("users.messages.get", {"id": ids[7], "status": 404, "times": -1})
    fake.faults("users.messages.get", {"id": ids[77], "status": 500, "times": -1})
    client = fake.open(units_per_minute=UNITS)
    found = client.messages([*ids, "dead"], None)
    assert list(found) == [*ids, "dead"]
    assert messages_of(found, Gone) == [ids[7], "dead"]
    assert messages_of(found, Failed) == [ids[77]]
    assert len(messages_of(found, Message)) == 198
    assert client.spent == fake.units()
    assert client.rejected == fake.account()["totalRejected"] + 6


@pytest.mark.parametrize("fault", ["reset", "reset-after"])
def test_a_connection_that_breaks(fake: Fake, fault: str) -> None:
    """When the connection of one lane breaks, its ids alone are asked for again; the other lanes' are not."""
    ids = fake.deliver(100)
    fake.faults("users.messages.get", {"id": ids[60], "status": fault})
    client = fake.open(units_per_minute=UNITS)
    assert messages_of(client.messages(ids, None), Message) == ids
    # The fifth lane had every eighth from 4 on, twelve of them; it broke at the eighth.
    assert fake.calls("users.messages.get") == 88 + 8 + 12
    assert client.spent == 20 * 112
    assert messages_of(client.messages(ids, None), Message) == ids


def test_all_connections_break(fake: Fake) -> None:
    """When every lane breaks, the ids are asked for one by one, and nothing is lost."""
    ids = fake.deliver(60)
    for number in range(8):
        fake.faults("users.messages.get", {"id": ids[number], "status": "reset"})
    client = fake.open(units_per_minute=UNITS)
    assert messages_of(client.messages(ids, None), Message) == ids
    assert client.spent == 20 * 120


def test_gmail_is_not_there(fake: Fake) -> None:
    """When no lane gets an answer that is found out soon, as with one lane."""
    ids = fake.deliver(200)
    fake.faults("users.messages.get", *["503"] * 1_000)
    began = fake.clock.now()
    with pytest.raises(GmailUnavailable):
        fake.open(units_per_minute=UNITS).messages(ids, None)
    assert fake.clock.now() - began < timedelta(minutes=1)


def test_gmail_names_a_time_in_one_lane(fake: Fake) -> None:
    """A time that one lane is told is heeded at once, without another call."""
    ids = fake.deliver(100)
    fake.faults("users.messages.get", {"id": ids[60], "status": "retry-after:900"})
    client = fake.open(units_per_minute=UNITS)
    with pytest.raises(Throttled) as caught:
        client.messages(ids, None)
    assert caught.value.until is not None
    assert (fake.calls("users.messages.get"), client.rejected) == (100, 1)


# --- Credentials.


class Source(Token):
    """Credentials that know from which threads they were refreshed."""

    def __init__(self, *outcomes: str | Exception) -> None:
        super().__init__(*outcomes)
        self.threads: list[int] = []

    def refresh(self, request: object) -> None:
        """Note who asks."""
        self.threads.append(threading.get_ident())
        super().refresh(request)


def test_one_token_for_all_lanes(fake: Fake) -> None:
    """Eight lanes that begin without a token fetch one, in the thread that calls, before any of them starts."""
    ids = fake.deliver(200)
    source = Source("token")
    client = fake.open(credentials=lambda _: source, units_per_minute=UNITS)
    assert messages_of(client.messages(ids, None), Message) == ids
    assert source.threads == [threading.get_ident()]


def test_no_token_for_any_lane(fake: Fake) -> None:
    """Without a token no lane starts, and that is found out twice: for the wave and for one call alone."""
    ids = fake.deliver(200)
    source = Source(google.auth.exceptions.RefreshError("invalid_grant: Token has been expired or revoked.", {}))
    client = fake.open(credentials=lambda _: source, units_per_minute=UNITS)
    with pytest.raises(AccessRevoked):
        client.messages(ids, None)
    assert source.threads == [threading.get_ident()] * 2
    assert fake.calls("users.messages.get") == 0


def test_a_token_that_no_lane_may_use() -> None:
    """A token that Gmail refuses to a whole batch is renewed once, by the first call alone, in the calling thread."""
    ids = [str(number) for number in range(30)]
    answers: list[tuple[int, Mapping[str, str], bytes]] = [
        (200, {}, json.dumps(WHOLE | {"id": number}).encode()) for number in ids
    ]
    with Script(refusal(401, "Invalid Credentials"), refusal(401, "x"), refusal(401, "x"), *answers) as script:
        source = Source("old", "new")
        client = script.open(lambda _: source, units_per_minute=UNITS, lanes=2)
        assert messages_of(client.messages(ids, None), Message) == ids
    # Two batches and the first call alone went out with the old token.
    assert [headers["authorization"] for _, _, headers in script.asked] == ["Bearer old"] * 3 + ["Bearer new"] * 30
    assert source.threads == [threading.get_ident()] * 2
    assert client.spent == 20 * (30 + 31)


# --- What it takes.


def test_connections_are_closed_with_the_client(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is let go leaves no connection of any lane open."""
    opened: list[socket.socket] = []
    connect = socket.socket.connect

    class Watched(socket.socket):
        def connect(self, address: Any) -> None:
            opened.append(self)
            connect(self, address)

    monkeypatch.setattr(socket, "socket", Watched)
    ids = fake.deliver(200)
    client: Gmail | None = fake.open(units_per_minute=UNITS)
    assert client is not None
    client.messages(ids, None)
    client.messages(ids, None)
    assert len(opened) == 8
    del client
    gc.collect()
    assert [connection.fileno() for connection in opened] == [-1] * 8


def test_gmails_description_is_read_once(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients and lanes share what the discovery document says; to open a mailbox again costs none of it."""
    fake.open().profile()
    monkeypatch.delattr(transport, "build_from_document")
    ids = fake.deliver(60)
    assert messages_of(fake.open(units_per_minute=UNITS).messages(ids, None), Message) == ids


@pytest.mark.parametrize(
    "call",
    [lambda client: client.messages(["1", "2"], None), lambda client: client.profile()],
    ids=["batch", "single"],
)
def test_credentials_that_cannot_be_made(fake: Fake, call: Callable[[Gmail], object]) -> None:
    """What goes wrong before there are credentials is the failure of the call that needed them, and of the next one."""
    asked: list[str] = []

    def none(mailbox: str) -> None:
        asked.append(mailbox)
        raise GmailUnavailable("Not now.")

    client = fake.open(credentials=none)
    with pytest.raises(GmailUnavailable):
        call(client)
    assert set(asked) == {ALICE}
    assert fake.units() == 0
