"""What messages say, over real HTTP: how it is kept, and what Gmail keeps back of it."""

import base64
import gc
import json
from collections.abc import Callable
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
from mailmirror.adapters.gmail import transport
from mailmirror.errors import AccessRevoked, GmailError, GmailUnavailable, StoreUnavailable, Throttled
from mailmirror.model import Failed, FetchedThread, Message
from mailmirror.ports import Gmail

from local.gmail.batch import BOUNDARY, InnerAnswer, write_batch
from tests.contract.gmail import WHOLE, Contents, Fake, Keeping, Script, Token, mail, messages_of, whole
from tests.corpus import headers, structures, texts

GET, ATTACHMENT = "users.messages.get", "users.messages.attachments.get"
MANY_UNITS = 1_000_000


def with_files(text: str = "Hello", *files: bytes) -> bytes:
    """The source of a message with files."""
    message = EmailMessage()
    message["From"] = "Bob <bob@example.org>"
    message["Subject"] = "Files"
    message.set_content(text)
    for number, data in enumerate(files):
        message.add_attachment(data, maintype="application", subtype="pdf", filename=f"{number}.pdf")
    return message.as_bytes()


# --- How it is kept.


@pytest.mark.parametrize("lanes_", [1, 8])
def test_each_message_is_kept_once(fake: Fake, lanes_: int) -> None:
    """Of all messages that come, alone, in waves or in threads, each is given once to whoever keeps them."""
    ids = fake.deliver(30)
    thread = fake.alice.deliver(mail("Plan"))
    answer = fake.alice.deliver(mail("Re: Plan", reply_to="<Plan@example.org>"))
    fake.faults(GET, "429", "500", {"id": ids[7], "status": 404, "times": -1})
    keep = Keeping()
    messages, threads = fake.open(units_per_minute=MANY_UNITS, lanes=lanes_).gets(ids, [thread], keep)
    assert sorted(keep.kept) == sorted({*ids, thread, answer} - {ids[7]})
    assert sorted(messages_of(messages, Message)) == sorted(set(ids) - {ids[7]})
    kept = threads[thread]
    assert isinstance(kept, FetchedThread)
    texts = {i: message.body.text.strip() for i, message in kept.messages.items() if isinstance(message, Message)}
    assert texts == {thread: "Hello", answer: "Hello"}


def test_kept_before_the_next_wave(fake: Fake) -> None:
    """What a wave brought is kept before the next one is sent."""
    ids = fake.deliver(12)
    client_ = fake.open(lanes=1)
    asked: list[int] = []
    keep = Keeping(before=lambda: asked.append(fake.calls(GET)))
    assert messages_of(client_.messages(ids, keep), Message) == ids
    # What the budget gives at once are five gets.
    assert asked == [5] * 5 + [10] * 5 + [12] * 2


@pytest.mark.parametrize("by_thread", [False, True])
def test_one_content_at_a_time(fake: Fake, by_thread: bool) -> None:
    """While one message is kept nothing holds what one says that was kept before, and afterwards nothing is held."""
    ids = [fake.alice.deliver(mail("Plan"))]
    ids += [fake.alice.deliver(mail("Re: Plan", reply_to="<Plan@example.org>")) for _ in range(7)]
    held: list[int] = []
    contents = Contents()
    keep = Keeping(before=lambda: held.append(contents.held()))
    opened = fake.open(units_per_minute=MANY_UNITS)
    if by_thread:
        opened.threads(ids[:1], keep)
        # A thread is read as a whole, and taken apart as it is kept.
        assert held == [8, 7, 6, 5, 4, 3, 2, 1]
    else:
        opened.messages(ids, keep)
        assert held == [1] * 8
    assert contents.held() == 0


def answers_held() -> int:
    """How many messages as Gmail answered them are held by anybody."""
    maps = [item for item in gc.get_objects() if isinstance(item, dict) and {*WHOLE} <= item.keys()]
    return sum(isinstance(item["id"], str) for item in maps)


def test_one_answer_after_the_other_is_let_go() -> None:
    """While one message is kept, of the answers of its wave only those are held that are still to come."""
    parts = [InnerAnswer(f"<{number}@mailmirror>", 200, whole(str(number), b"Text")) for number in range(5)]
    content = write_batch(parts)
    del parts
    gc.collect()
    before = answers_held()
    held: list[int] = []
    with Script((200, {"Content-Type": f"multipart/mixed; boundary={BOUNDARY}"}, content)) as script:
        found = script.open(lanes=1).messages(
            list("01234"), Keeping(before=lambda: held.append(answers_held() - before))
        )
    assert messages_of(found, Message) == list("01234")
    assert held == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("error", [StoreUnavailable("no bucket"), ValueError("a bug"), LookupError("a bug")])
@pytest.mark.parametrize(
    "call",
    [
        lambda client, ids, keep: client.messages(ids[:1], keep),
        lambda client, ids, keep: client.messages(ids, keep),
        lambda client, ids, keep: client.threads(ids[:1], keep),
        lambda client, ids, keep: client.gets(ids[2:], ids[:2], keep),
    ],
    ids=["one", "several", "thread", "both"],
)
def test_what_cannot_be_kept(fake: Fake, call: Callable[[Gmail, list[str], Any], object], error: Exception) -> None:
    """What goes wrong in keeping a message is never taken for a message that cannot be read."""
    ids = fake.deliver(5)

    def bucket() -> None:
        raise error

    contents = Contents()
    with pytest.raises(type(error)) as caught:
        call(fake.open(), ids, Keeping(before=bucket))
    assert caught.value is error
    if isinstance(error, StoreUnavailable):
        # It is expected, and told on; meanwhile nothing is held.
        assert contents.held() == 0


def test_what_is_not_kept(fake: Fake) -> None:
    """A message that was not asked for is not kept, nor one that cannot be read; one of which text lacks has failed."""
    broken = {"id": "3", "threadId": "1"}
    thread = {"id": "1", "historyId": "5", "messages": [whole("1", b"one"), broken, whole("4", b"four")]}
    keep = Keeping()
    with Script((200, {}, json.dumps(WHOLE | {"id": "2"}).encode()), (200, {}, json.dumps(thread).encode())) as script:
        opened = script.open()
        assert isinstance(opened.messages(["1"], keep)["1"], Failed)
        found = opened.threads(["1"], keep)["1"]
    assert keep.kept == ["1", "4"]
    assert isinstance(found, FetchedThread)
    assert [type(message) for message in found.messages.values()] == [Message, Failed, Message]
    fake.alice.inline_bytes = 0
    (message_id,) = fake.deliver()
    fake.faults(ATTACHMENT, "404")
    assert fake.open().messages([message_id], keep) == {message_id: Failed("Gmail has no such text.")}


def test_nothing_is_kept_when_the_mailbox_is_at_fault(fake: Fake) -> None:
    """When one answer of a wave says that the mailbox cannot be read, nothing that came beside it is kept in vain."""
    ids = fake.deliver(5)
    fake.faults(GET, {"id": ids[3], "status": "403:insufficientPermissions"})
    keep = Keeping()
    with pytest.raises(GmailError):
        fake.open().messages(ids, keep)
    assert keep.kept == []


def test_time_for_keeping_is_not_time_lost(fake: Fake) -> None:
    """However long keeping takes, what fails beside it is tried as often as ever."""
    ids = fake.deliver(5)
    fake.faults(GET, {"id": ids[4], "status": 503, "times": 2})
    keep = Keeping(before=lambda: fake.clock.advance(60))
    assert messages_of(fake.open().messages(ids, keep), Message) == ids


# --- What Gmail keeps back.


def test_a_text_that_is_kept_back(fake: Fake) -> None:
    """A text that Gmail keeps back is fetched when it is kept, for the price of an attachment."""
    fake.alice.inline_bytes = 20
    long, short = fake.alice.deliver(mail("Long", "Long text. " * 10)), fake.alice.deliver(mail("Short", "Short text."))
    client_ = fake.open(units_per_minute=MANY_UNITS)
    found = client_.messages([long, short], Keeping())
    texts = {i: message.body.text.strip() for i, message in found.items() if isinstance(message, Message)}
    assert texts == {long: ("Long text. " * 10).strip(), short: "Short text."}
    assert (fake.calls(ATTACHMENT), client_.spent) == (1, 3 * 20)
    assert client_.spent == fake.units()
    thread = client_.threads([long], Keeping())[long]
    assert isinstance(thread, FetchedThread)
    assert thread.messages == {long: found[long]}


def test_a_corpus_that_is_kept_back(fake: Fake) -> None:
    """Every message of the corpus is brought, and says the same whether Gmail sends its texts or keeps them back."""
    sources = {**structures.messages(), **texts.messages(), **headers.messages()}
    names = {fake.alice.deliver(raw): name for name, raw in sources.items()}
    opened = fake.open(units_per_minute=MANY_UNITS)
    found = opened.messages(list(names), Keeping())
    assert [names[message_id] for message_id in messages_of(found, Failed)] == []
    fake.alice.inline_bytes = 0
    again = opened.messages(list(names), Keeping())
    assert fake.calls(ATTACHMENT) > 0
    assert {names[i]: said(again[i]) for i in names} == {names[i]: said(found[i]) for i in names}


def said(message: object) -> object:
    """What a message says. What a picture is to it shows in its HTML, which is not there when it is kept back."""
    assert isinstance(message, Message)
    return message.headers, message.body, [file.part_id for file in message.attachments]


def test_files(fake: Fake) -> None:
    """The bytes of files are fetched where they are wanted, as they were sent; otherwise they cost nothing."""
    files = (bytes(range(256)), b"", b"%PDF" * 1000)
    message_id = fake.alice.deliver(with_files("Hello", *files))
    client_ = fake.open(prices="legacy")
    client_.messages([message_id], Keeping())
    assert (fake.calls(ATTACHMENT), client_.spent) == (0, 5)
    keep = Keeping(files=True)
    client_.messages([message_id], keep)
    assert keep.files == {"1": files[0], "2": files[1], "3": files[2]}
    assert (fake.calls(ATTACHMENT), client_.spent) == (3, 5 + 5 + 3 * 5)


@pytest.mark.parametrize("fault", ["404", "400:invalidArgument"])
def test_bytes_that_gmail_does_not_have(fake: Fake, fault: str) -> None:
    """What Gmail names and does not have is nothing, and no failure of the mailbox."""
    message_id = fake.alice.deliver(with_files("Hello", b"12345"))
    fake.faults(ATTACHMENT, fault)
    keep = Keeping(files=True)
    assert isinstance(fake.open().messages([message_id], keep)[message_id], Message)
    assert keep.files == {"1": None}


def test_bytes_that_are_too_large(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file larger than any can be is asked for once, is nothing, and spoils neither its message nor another file."""
    monkeypatch.setattr(transport, "LARGEST_ANSWER", 10_000)
    message_id = fake.alice.deliver(with_files("Hello", b"x" * 20_000, b"12345"))
    client_, keep = fake.open(), Keeping(files=True)
    assert isinstance(client_.messages([message_id], keep)[message_id], Message)
    assert keep.files == {"1": None, "2": b"12345"}
    assert client_.part(message_id, "1") is None
    assert client_.spent == fake.units() == 20 * (3 + 2)


def test_what_is_kept_back_is_asked_for_again(fake: Fake) -> None:
    """What meets quota, 5xx and a lost connection in turn is fetched all the same, and each call is paid for."""
    message_id = fake.alice.deliver(with_files("Hello", b"12345"))
    fake.faults(ATTACHMENT, "429", "503", "reset")
    keep = Keeping(files=True)
    client_ = fake.open()
    client_.messages([message_id], keep)
    assert keep.files == {"1": b"12345"}
    assert client_.spent == fake.units() == 20 + 4 * 20
    assert client_.rejected == 1


@pytest.mark.parametrize(
    ("faults", "name"),
    [
        (["503"] * 4, GmailUnavailable),
        (["429"] * 4, Throttled),
        (["retry-after:900"], Throttled),
        (["401"] * 2, AccessRevoked),
    ],
)
def test_what_cannot_be_fetched_now(fake: Fake, faults: list[str], name: type[GmailError]) -> None:
    """What Gmail keeps back and does not give now is no verdict on the message: the call fails by its name."""
    ids = [fake.alice.deliver(with_files("Hello", b"12345")) for _ in range(3)]
    fake.faults(ATTACHMENT, *faults)
    contents = Contents()
    with pytest.raises(name):
        fake.open(credentials=lambda _: Token("one", "two")).messages(ids, Keeping(files=True))
    assert fake.calls(ATTACHMENT) == len(faults)
    assert contents.held() == 0


def test_time_for_fetching_is_not_time_lost(fake: Fake) -> None:
    """However long it takes to fetch what comes at the first try, what fails after it is tried as often as ever."""
    message_id = fake.alice.deliver(with_files("Hello", *[b"12345"] * 10))
    fake.faults(ATTACHMENT, *["slow:6"] * 9, "503", "503")
    keep = Keeping(files=True)
    assert isinstance(fake.open().messages([message_id], keep)[message_id], Message)
    assert list(keep.files.values()) == [b"12345"] * 10


def test_bytes_that_never_come(fake: Fake) -> None:
    """Many parts that come only at the second try, or never, do not cost the lease: it lasts 120 seconds."""
    message_id = fake.alice.deliver(with_files("Hello", *[b"12345"] * 10))
    fake.faults(ATTACHMENT, *["timeout:30", "slow:1"] * 10)
    began = fake.clock.now()
    with pytest.raises(GmailUnavailable):
        fake.open().messages([message_id], Keeping(files=True))
    assert fake.clock.now() - began < timedelta(seconds=120)


# --- One part alone.


def test_one_part(fake: Fake) -> None:
    """The bytes of a part are had for 20 units, or 40 where Gmail keeps them back; what is not there is nothing."""
    inner = EmailMessage()
    inner["Subject"] = "Inner"
    inner.set_content("Inner text")
    outer = EmailMessage()
    outer["Subject"] = "Outer"
    outer.set_content("Outer text")
    outer.add_attachment(b"12345", maintype="application", subtype="pdf", filename="a.pdf")
    outer.add_attachment(b"", maintype="application", subtype="pdf", filename="empty.pdf")
    outer.add_attachment(inner)
    message_id = fake.alice.deliver(outer.as_bytes())
    client_ = fake.open()
    parts = {part: client_.part(message_id, part) for part in ("0", "1", "2", "3.0")}
    assert parts == {"0": b"Outer text\n", "1": b"12345", "2": b"", "3.0": b"Inner text\n"}
    assert client_.part(message_id, "3") == inner.as_bytes()
    assert client_.spent == fake.units() == 20 + 40 + 40 + 20 + 40
    assert [client_.part(message_id, part) for part in ("", "4", "0.0", "x")] == [None] * 4
    assert client_.part("dead", "0") is None


def test_a_message_that_is_a_file(fake: Fake) -> None:
    """A message that consists of one part is that part, and has no id."""
    source = b"Subject: x\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    message_id = fake.alice.deliver(source + base64.b64encode(b"\x89PNG"))
    assert fake.open().part(message_id, "") == b"\x89PNG"
    empty = fake.alice.deliver(b"Subject: nothing\r\n\r\n")
    assert fake.open().part(empty, "") == b""


def test_a_part_that_cannot_be_had_now(fake: Fake) -> None:
    """A part meets the same failures as any call, and is asked for again as any call is."""
    message_id = fake.alice.deliver(with_files("Hello", b"12345"))
    fake.faults(ATTACHMENT, "503", "429")
    assert fake.open().part(message_id, "1") == b"12345"
    fake.faults(ATTACHMENT, "404")
    assert fake.open().part(message_id, "1") is None
    fake.faults(GET, *["503"] * 4)
    with pytest.raises(GmailUnavailable):
        fake.open().part(message_id, "1")


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([{"payload": {"body": {"size": 5}}}], None),
        ([{"payload": {"mimeType": "message/rfc822", "body": {"size": 0}}}], None),
        ([{"payload": {"mimeType": "multipart/mixed", "body": {"size": 0}}}], None),
        ([{"payload": {"body": {"attachmentId": "x", "size": 5}}}, {"size": 5}], GmailUnavailable),
        ([{"payload": {"body": {"attachmentId": "x", "size": 5}}}, {"size": 0}], b""),
        ([{"payload": {"body": {"attachmentId": "x", "size": 5}}}, None], GmailUnavailable),
        ([{"payload": 5}], GmailUnavailable),
        ([{}], GmailUnavailable),
    ],
)
def test_a_part_that_makes_no_sense(answers: list[Any], found: bytes | type[GmailError] | None) -> None:
    """Bytes that Gmail says there are and does not give are nothing or a failure by name, never no bytes."""
    with Script(*((200, {}, json.dumps(answer).encode()) for answer in answers)) as script:
        opened = script.open()
        if isinstance(found, type):
            with pytest.raises(found, match="cannot be read"):
                opened.part("1", "")
        else:
            assert opened.part("1", "") == found
