"""Push envelopes: every shape Pub/Sub and Eventarc deliver is read, and nothing else gets in."""

import base64
import json
import string
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mailmirror.errors import InvalidInput
from mailmirror.notification import MAX_HISTORY_ID, Notification, Work, json_object, read_notification, read_work

ADA = "ada@example.com"
NOTICE = {"emailAddress": ADA, "historyId": 1710}
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
# Encoded, it has a character that base64 and base64url write differently, and needs padding.
TELLING = json.dumps({"emailAddress": ADA, "historyId": 1710, "x": "??>>~~."})
BOMB = 100_000


def brief(value: object) -> str:
    """A test's id for a value of any type and length."""
    text = repr(value)
    return text if len(text) < 40 else f"{text[:20]}... ({len(text)})"


def encode(data: bytes) -> str:
    """base64, as Pub/Sub writes it."""
    return base64.b64encode(data).decode()


def message(data: object = None, **fields: Any) -> dict[str, Any]:
    """A Pub/Sub message as a push carries it."""
    text = encode(json.dumps(NOTICE if data is None else data).encode())
    return {"data": text, "messageId": "1", "publishTime": "2026-11-20T12:00:00Z", **fields}


def body(content: dict[str, Any]) -> bytes:
    """The raw push envelope around a message."""
    return json.dumps({"message": content, "subscription": "projects/p/subscriptions/s"}).encode()


def pushed(data: bytes) -> bytes:
    """The raw push envelope around data of any kind."""
    return body({"data": encode(data)})


def notice(**fields: Any) -> bytes:
    """A notification with some fields changed; None leaves a field out."""
    data = {name: value for name, value in (NOTICE | fields).items() if value is not None}
    return body(message(data))


ENVELOPES = {
    "raw push": {"message": message(), "subscription": "projects/p/subscriptions/s", "deliveryAttempt": 3},
    "Eventarc, binary: the body is the event's data": {
        "message": message() | {"message_id": "1", "publish_time": "2026-11-20T12:00:00Z"},
        "subscription": "projects/p/subscriptions/eventarc-s",
    },
    "Eventarc, structured: the event's data is inside": {
        "specversion": "1.0",
        "type": "google.cloud.pubsub.topic.v1.messagePublished",
        "source": "//pubsub.googleapis.com/projects/p/topics/t",
        "id": "1",
        "datacontenttype": "application/json",
        "data": {"message": message(), "subscription": "projects/p/subscriptions/s"},
    },
}


@pytest.mark.parametrize("envelope", ENVELOPES.values(), ids=ENVELOPES)
def test_an_envelope(envelope: dict[str, Any]) -> None:
    """A notification is the same in whatever envelope it comes."""
    assert read_notification(json.dumps(envelope).encode()) == Notification(ADA, 1710, AT)


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "unpadded"])
@pytest.mark.parametrize("alphabet", [base64.b64encode, base64.urlsafe_b64encode], ids=["base64", "base64url"])
def test_an_alphabet(alphabet: Any, padded: bool) -> None:
    """Both base64 alphabets are read, with padding and without."""
    assert base64.b64encode(TELLING.encode()) != base64.urlsafe_b64encode(TELLING.encode())
    text = alphabet(TELLING.encode()).decode()
    assert text.endswith("=")
    data = text if padded else text.rstrip("=")
    assert read_notification(body({"data": data})) == Notification(ADA, 1710, None)


@given(st.text(string.printable), st.integers(0, 3))
def test_any_length_and_content(text: str, spaces: int) -> None:
    """No length and no content of the data is lost between the alphabets."""
    data = (json.dumps(NOTICE | {"x": text}) + " " * spaces).encode()
    for encoded in (base64.b64encode(data), base64.urlsafe_b64encode(data)):
        for content in (encoded, encoded.rstrip(b"=")):
            assert read_notification(body({"data": content.decode()})) == Notification(ADA, 1710, None)


@pytest.mark.parametrize(
    ("given_as", "history_id"),
    [
        (1710, 1710),
        ("1710", 1710),
        ("0001710", 1710),
        (1, 1),
        (MAX_HISTORY_ID, MAX_HISTORY_ID),
        (str(MAX_HISTORY_ID), MAX_HISTORY_ID),
    ],
    ids=brief,
)
def test_a_history_id(given_as: object, history_id: int) -> None:
    """A history id is a number in practice and a string in Gmail's guide; up to 64 bits it is kept to the digit."""
    assert read_notification(notice(historyId=given_as)).history_id == history_id


HISTORY_IDS: list[object] = [
    *(0, -1, -1710, "0", "-1710", "+1710", 1710.0, 1710.5, 1e300, float("nan"), float("inf"), "1710.0", "1e3"),
    *(MAX_HISTORY_ID + 1, str(MAX_HISTORY_ID + 1), 10**100, 10**4_000, "9" * 5_000, "0" * 20 + "1"),
    *(True, False, "", " 1710", "1710\n", "0x10", "1_710", "١٧", "²", [1710], {"value": 1710}),  # noqa: RUF001
]


@pytest.mark.parametrize("history_id", HISTORY_IDS, ids=brief)
def test_what_is_no_history_id(history_id: object) -> None:
    """Anything but a positive 64-bit integer is refused, however close it comes."""
    with pytest.raises(InvalidInput, match="historyId"):
        read_notification(notice(historyId=history_id))


@pytest.mark.parametrize("digits", ["9" * 5_000, "-" + "9" * 5_000, "9" * 1_000_000, "1e999999999"], ids=brief)
def test_a_number_too_long_to_read(digits: str) -> None:
    """A number of thousands of digits is refused at once, not converted."""
    with pytest.raises(InvalidInput):
        read_notification(pushed(f'{{"emailAddress": "{ADA}", "historyId": {digits}}}'.encode()))


@pytest.mark.parametrize("name", ["historyId", "emailAddress"])
@pytest.mark.parametrize("null", [True, False], ids=["null", "absent"])
def test_a_missing_field(name: str, null: bool) -> None:
    """Both fields of a notification are needed."""
    data: dict[str, object] = {key: value for key, value in NOTICE.items() if key != name}
    if null:
        data[name] = None
    with pytest.raises(InvalidInput):
        read_notification(body(message(data)))


@pytest.mark.parametrize("address", [ADA, "Ada@Example.COM", "ADA@EXAMPLE.COM"])
def test_the_case_of_an_address(address: str) -> None:
    """Gmail varies the case of the address; the mailbox is the same."""
    assert read_notification(notice(emailAddress=address)).mailbox == ADA
    assert read_work(body(message({"mailbox": address, "task": "sync"}))).mailbox == ADA


ADDRESSES: list[object] = [
    *(
        "",
        "ada",
        "ada@",
        "@example.com",
        "ada@@example.com",
        "ada@example@com",
        "ada/b@example.com",
        "ada@example.com/",
    ),
    *("../ada@example.com", "mailboxes/ada@example.com", " ada@example.com", "ada @example.com", "ada@example.com\n"),
    *("a" * 400 + "@example.com", 5, 5.5, True, [ADA], {"address": ADA}),
]


@pytest.mark.parametrize("address", ADDRESSES, ids=brief)
def test_what_is_no_address(address: object) -> None:
    """What cannot be a mailbox's address, or would lead to another document, is refused."""
    with pytest.raises(InvalidInput, match="address"):
        read_notification(notice(emailAddress=address))
    with pytest.raises(InvalidInput, match="address"):
        read_work(body(message({"mailbox": address, "task": "sync"})))


@pytest.mark.parametrize("address", ["\ud800@example.com", "ada@\udfff.com", "__ada@example.com__"], ids=brief)
def test_an_address_that_cannot_be_a_document_id(address: str) -> None:
    """An address that Firestore refuses as an id is malformed input, not a failure to be delivered again and again."""
    with pytest.raises(InvalidInput, match="address"):
        read_notification(notice(emailAddress=address))


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-20T12:00:00Z", AT),
        ("2026-11-20T12:00:00.000Z", AT),
        ("2026-11-20T12:00:00.123456789Z", AT.replace(microsecond=123456)),
        ("2026-11-20T12:00:00+00:00", AT),
        ("2026-11-20T13:30:00+01:30", AT),
        ("2026-11-20T12:00:00", AT),
    ],
)
@pytest.mark.parametrize("name", ["publishTime", "publish_time"])
def test_a_publish_time(name: str, text: str, time: datetime) -> None:
    """The time of publication is read to the microsecond, and is UTC unless it says otherwise."""
    published = read_notification(body({"data": message()["data"], name: text})).published_at
    assert published == time
    assert published is not None
    assert published.utcoffset() is not None


TIMES: list[object] = [
    *("", "yesterday", "2026-13-40T12:00:00Z", "2026-11-20T25:00:00Z", "12:00", "\ud800", "9" * 5_000),
    *(0, 1_795_176_000, 1.5, True, None, [], {"seconds": 1}),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "10000-01-01T00:00:00Z"),
]


@pytest.mark.parametrize("time", TIMES, ids=brief)
def test_nonsense_for_a_publish_time(time: object) -> None:
    """A time that makes no sense, or is no time in UTC, is as good as none: the notification counts all the same."""
    assert read_notification(body(message(publishTime=time))) == Notification(ADA, 1710, None)


@pytest.mark.parametrize("task", ["sync", "renew", "purge"])
def test_work(task: str) -> None:
    """A work message says which mailbox and what to do."""
    work = read_work(body(message({"mailbox": ADA, "task": task})))
    assert (work.mailbox, work.task) == (ADA, task)
    assert isinstance(work, Work)


@pytest.mark.parametrize("task", ["", "Sync", "drop", None, 1, True, ["sync"], {"sync": True}], ids=brief)
def test_what_is_no_task(task: object) -> None:
    """Work nobody knows is refused."""
    with pytest.raises(InvalidInput, match="task"):
        read_work(body(message({"mailbox": ADA, "task": task})))
    with pytest.raises(InvalidInput):
        read_work(body(message({"mailbox": ADA})))


NEITHER = {
    "nothing": b"",
    "blanks": b" \n",
    "no JSON": b"hello",
    "half of it": body(message())[:-1],
    "twice": body(message()) * 2,
    "not UTF-8": b'{"message": {"data": "\xff\xfe"}}',
    "Latin-1": '{"message": {"data": "é"}}'.encode("latin-1"),
    "null": b"null",
    "a string": b'"message"',
    "a number": b"1",
    "a list": b"[]",
    "an empty object": b"{}",
    "a huge number": b"9" * 1_000_000,
    "message null": b'{"message": null}',
    "message a list": b'{"message": []}',
    "message a string": b'{"message": "data"}',
    "no data": body({}),
    "data null": body({"data": None}),
    "data empty": body({"data": ""}),
    "data a number": body({"data": 5}),
    "data an object": body({"data": NOTICE}),
    "data not encoded": body({"data": json.dumps(NOTICE)}),
    "data wrong characters": body({"data": "e30*"}),
    "data with a foreign character": body({"data": "*" + encode(json.dumps(NOTICE).encode())}),
    "data in lines": body({"data": encode(json.dumps(NOTICE).encode()).replace("i", "i\n", 1)}),
    "data other characters": body({"data": "ｅ３０"}),  # noqa: RUF001
    "data surrogates": body({"data": "\ud800"}),
    "data of impossible length": body({"data": encode(json.dumps(NOTICE).encode()).rstrip("=")[:-1] + "="}),
    "data padded inside": body({"data": "e30=e30="}),
    "data padding only": body({"data": "===="}),
    "data one character": body({"data": "e"}),
    "data no JSON": pushed(b"hello"),
    "data not UTF-8": pushed(b'{"emailAddress": "\xff\xfe@example.com", "historyId": 1}'),
    "data a list": pushed(b"[]"),
    "data a number in JSON": pushed(b"1710"),
    "data a string in JSON": pushed(json.dumps(json.dumps(NOTICE)).encode()),
    "data null in JSON": pushed(b"null"),
    "data an empty object": pushed(b"{}"),
    "data encoded twice": pushed(encode(json.dumps(NOTICE).encode()).encode()),
    "nested arrays": b"[" * BOMB,
    "nested arrays, closed": b"[" * BOMB + b"]" * BOMB,
    "nested objects": b'{"message":' * BOMB + b"{}" + b"}" * BOMB,
    "nested events": b'{"data":' * BOMB + b"{}" + b"}" * BOMB,
    "nested data": pushed(b"[" * BOMB),
    "nested history id": pushed(
        b'{"emailAddress": "ada@example.com", "historyId": ' + b"[" * BOMB + b"]" * BOMB + b"}"
    ),
    "an event in an event": json.dumps({"data": {"data": {"message": message()}}}).encode(),
}


@pytest.mark.parametrize("malformed", NEITHER.values(), ids=NEITHER)
def test_what_is_neither(malformed: bytes) -> None:
    """A body that is no envelope with a message in it is refused with a sentence, never with another exception."""
    for read in (read_notification, read_work):
        with pytest.raises(InvalidInput) as refused:
            read(malformed)
        assert str(refused.value).endswith(".")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
DATA = st.fixed_dictionaries({}, optional={"emailAddress": JSON, "historyId": JSON, "mailbox": JSON, "task": JSON})


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
@example(b'{"message": {"data": "\\ud800"}}')
def test_any_body(content: bytes) -> None:
    """Whatever is posted is read or refused as malformed; there is no third way."""
    for read in (read_notification, read_work):
        with pytest.raises(InvalidInput):
            read(content)


@given(DATA, JSON, st.sampled_from([encode, str]))
def test_any_data(data: dict[str, Any], time: object, write: Any) -> None:
    """Whatever a well-formed envelope carries is read or refused as malformed; what is read is what was sent."""
    content = body({"data": write(json.dumps(data).encode()), "publishTime": time})
    try:
        found = read_notification(content)
    except InvalidInput:
        pass
    else:
        assert found.mailbox == data["emailAddress"].lower()
        assert found.history_id == int(data["historyId"])
    try:
        work = read_work(content)
    except InvalidInput:
        pass
    else:
        assert (work.mailbox, work.task) == (data["mailbox"].lower(), data["task"])


def test_a_refusal_repeats_nothing() -> None:
    """The sentence of a refusal goes to the log, so it holds nothing of what was sent."""
    secret = "hunter2!"
    for content in (
        secret.encode(),
        body({"data": secret}),
        pushed(json.dumps({"emailAddress": secret, "historyId": secret}).encode()),
        pushed(json.dumps({"emailAddress": ADA, "historyId": secret}).encode()),
        pushed(json.dumps({"mailbox": secret, "task": secret}).encode()),
        pushed(json.dumps({"mailbox": secret, "task": "sync"}).encode()),
    ):
        for read in (read_notification, read_work):
            with pytest.raises(InvalidInput) as refused:
                read(content)
            assert secret not in str(refused.value)


@pytest.mark.parametrize("content", [b'{"a": 1}', b'\xef\xbb\xbf{"a": 1}', b' {"a": 1}\n'])
def test_an_object(content: bytes) -> None:
    """A JSON object is read, byte order mark and white space around it or not."""
    assert json_object(content, "The body") == {"a": 1}


def test_an_object_is_called_by_its_name() -> None:
    """The refusal says which part of a request is meant."""
    with pytest.raises(InvalidInput, match=r"^The body is not JSON\.$"):
        json_object(b"{", "The body")
    with pytest.raises(InvalidInput, match=r"^The body is not a JSON object\.$"):
        json_object(b"[]", "The body")
