"""How much of what Gmail answers is held at a time, over real HTTP."""

import gzip
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta

import pytest
from mailmirror.adapters.gmail import calls, transport
from mailmirror.adapters.gmail.arrival import LARGEST_THREAD, LARGEST_WAVE
from mailmirror.errors import GmailError, GmailUnavailable
from mailmirror.model import Failed, FetchedThread, Gone, Message

from tests.contract.gmail import Contents, Fake, Keeping, Script, mail, messages_of, whole

GET, THREAD = "users.messages.get", "users.threads.get"
ATTACHMENT = "users.messages.attachments.get"
MANY_UNITS = 1_000_000


@contextmanager
def nobody_waits(fake: Fake) -> Iterator[None]:
    """Nobody waits within this context."""
    before = len(fake.clock.slept)
    yield
    assert [seconds for seconds in fake.clock.slept[before:] if seconds] == []


@pytest.mark.parametrize("lanes_", [1, 8])
def test_a_batch_without_room(fake: Fake, monkeypatch: pytest.MonkeyPatch, lanes_: int) -> None:
    """The ids of a batch whose answer has no room are asked one by one, at once, and each is kept once and paid for."""
    ids = [fake.alice.deliver(mail(f"Subject {number}", "Text. " * 1_000)) for number in range(20)]
    monkeypatch.setattr(transport, "LARGEST_WAVE", 20_000)
    keep = Keeping()
    client_ = fake.open(units_per_minute=MANY_UNITS, lanes=lanes_)
    with nobody_waits(fake):
        found = client_.messages(ids, keep)
    assert messages_of(found, Message) == ids
    assert sorted(keep.kept) == sorted(ids)
    asked_alone = fake.calls(GET) - 20
    # With eight lanes a batch has two or three of them, and two of eight have room.
    assert asked_alone == 20 if lanes_ == 1 else 10 <= asked_alone < 20
    assert client_.spent == fake.units() == 20 * fake.calls(GET)
    assert (client_.rejected, fake.calls("users.getProfile")) == (0, 0)


def test_a_batch_without_room_beside_other_trouble(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of a batch without room may be gone, fail or never come: each has its result as ever."""
    ids = [fake.alice.deliver(mail(f"Subject {number}", "Text. " * 1_000)) for number in range(12)]
    monkeypatch.setattr(transport, "LARGEST_WAVE", 20_000)
    fake.faults(GET, {"id": ids[2], "status": 404, "times": -1}, {"id": ids[5], "status": 500, "times": -1})
    fake.faults(GET, {"id": ids[7], "status": 503, "times": 3})
    found = fake.open(units_per_minute=MANY_UNITS).messages([*ids, "dead"], Keeping())
    assert messages_of(found, Gone) == [ids[2], "dead"]
    assert messages_of(found, Failed) == [ids[5]]
    assert len(messages_of(found, Message)) == 10


def test_gmail_falls_silent_after_a_batch_without_room(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing comes after such a batch that is Gmail's trouble, found out before a lease has run out."""
    ids = [fake.alice.deliver(mail(f"Subject {number}", "Text. " * 1_000)) for number in range(20)]
    monkeypatch.setattr(transport, "LARGEST_WAVE", 20_000)
    fake.faults(GET, *["slow:0"] * 20, *["timeout:30"] * 100)
    fake.faults("users.getProfile", *["timeout:30"] * 10)
    began = fake.clock.now()
    with pytest.raises(GmailUnavailable):
        fake.open(units_per_minute=MANY_UNITS, lanes=1).messages(ids, Keeping())
    assert fake.clock.now() - began < timedelta(seconds=120)


@pytest.mark.parametrize("headers", [{}, {"Transfer-Encoding": "chunked"}])
@pytest.mark.parametrize("packed", [False, True])
def test_a_batch_without_room_however_it_comes(headers: Mapping[str, str], packed: bool) -> None:
    """Room is counted in what an answer unpacks to, whether or not it says how long it is; alone it may be larger."""
    large = json.dumps(whole("2", b"Text. " * (LARGEST_WAVE // 6))).encode()
    head = (
        b"--b\r\nContent-Type: application/http\r\nContent-ID: <response-1@mailmirror>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
    )
    batch = head + large + b"\r\n--b--\r\n"

    def sent(body: bytes, **more: str) -> tuple[int, Mapping[str, str], bytes]:
        said = {**headers, **more, **({"Content-Encoding": "gzip"} if packed else {})}
        return 200, said, gzip.compress(body, 1) if packed else body

    small = json.dumps(whole("1", b"Text. ")).encode()
    multipart = sent(batch, **{"Content-Type": "multipart/mixed; boundary=b"})
    with Script(multipart, sent(small), sent(large)) as script:
        opened = script.open()
        found = opened.messages(["1", "2"], Keeping())
        assert script.clock.slept == []
    sizes = [len(message.body.text) for message in found.values() if isinstance(message, Message)]
    assert sizes == [6, LARGEST_WAVE // 6 * 6]
    assert opened.spent == 4 * 20
    assert [path.split("?")[0].rpartition("/")[2] for _, path, _ in script.asked] == ["batch", "1", "2"]


def test_a_thread_that_is_too_large(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread beyond what is held at a time fails at once, so that its messages are asked for; those may be larger."""
    monkeypatch.setattr(transport, "LARGEST_THREAD", 10_000)
    large = fake.alice.deliver(mail("Large", "Text. " * 2_000))
    small = fake.alice.deliver(mail("Small"))
    client_ = fake.open()
    with nobody_waits(fake):
        found = client_.threads([large], Keeping())
    assert isinstance(found[large], Failed)
    assert (fake.calls(THREAD), fake.calls("users.getProfile"), client_.spent) == (1, 0, 40)
    assert isinstance(client_.threads([small], Keeping())[small], FetchedThread)
    assert isinstance(client_.messages([large], Keeping())[large], Message)
    # With what else a function holds there is room for it within 256 MB.
    assert LARGEST_THREAD <= 64 * 2**20


def test_a_message_that_is_too_large(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than any message can be fails at once, and spoils nothing beside it."""
    monkeypatch.setattr(transport, "LARGEST_ANSWER", 10_000)
    monkeypatch.setattr(transport, "LARGEST_WAVE", 10_000)
    ids = [fake.alice.deliver(mail("Bomb", "Text. " * 2_000)), *fake.deliver(3)]
    client_ = fake.open(units_per_minute=MANY_UNITS, lanes=1)
    with nobody_waits(fake):
        found = client_.messages(ids, Keeping())
    assert messages_of(found, Failed) == ids[:1]
    assert messages_of(found, Message) == ids[1:]
    assert client_.spent == fake.units() == 20 * (4 + 4)


def test_waves_do_not_share_their_room(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wave has the room that the one before had: what was kept is not held any more."""
    monkeypatch.setattr(calls, "FIRST_IN_FLIGHT", 2)
    monkeypatch.setattr(calls, "MORE_IN_FLIGHT", 0)
    monkeypatch.setattr(transport, "LARGEST_WAVE", 30_000)
    ids = [fake.alice.deliver(mail(f"Subject {number}", "Text. " * 1_000)) for number in range(10)]
    client_ = fake.open(units_per_minute=MANY_UNITS)
    assert messages_of(client_.messages(ids, Keeping()), Message) == ids
    assert fake.calls(GET) == 10


@pytest.mark.parametrize("fault", ["503", "retry-after:900", "404"])
def test_nothing_is_held_after_a_failure(fake: Fake, fault: str) -> None:
    """What was read before something fails is let go with it."""
    fake.alice.inline_bytes = 20
    ids = [fake.alice.deliver(mail(f"Subject {number}", "Long text. " * 10)) for number in range(6)]
    fake.faults(ATTACHMENT, "slow:0", "slow:0", *[fault] * 4)
    contents = Contents()
    with suppress(GmailError):
        fake.open().messages(ids, Keeping())
    assert contents.held() == 0
