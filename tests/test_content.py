"""Content: what an application reads of a message, whatever the mail is."""

import base64
import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mailmirror.content import INLINE_BYTES, clean, clip, inline, read_content, too_large
from mailmirror.documents import to_document
from mailmirror.model import Attachment, Body, Headers, Message
from mailmirror.slice import weigh

MIB = 2**20


def _data(text: str | bytes) -> str:
    return base64.urlsafe_b64encode(text.encode() if isinstance(text, str) else text).decode()


def _part(mime: str, text: str | bytes = b"", headers: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    listed = [{"name": name, "value": value} for name, value in (headers or {}).items()]
    return {"mimeType": mime, "filename": "", "headers": listed, "body": {"size": 1, "data": _data(text)}} | more


def _multi(kind: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"mimeType": f"multipart/{kind}", "filename": "", "headers": [], "body": {"size": 0}, "parts": list(parts)}


def _headers(**values: str) -> dict[str, Any]:
    return _part("text/plain", "", {name.replace("_", "-"): value for name, value in values.items()})


# --- What is read.


def test_headers() -> None:
    """The headers an application asks for are read, whatever the case of their names; the first of a name counts."""
    payload = _headers(
        FROM="Bob <bob@example.org>",
        To="alice@example.com",
        Cc="c@example.org",
        Bcc="d@example.org",
        Reply_To="r@example.org",
        Subject="Plan",
        Date="Fri, 20 Nov 2026 12:00:00 +0000",
        Message_Id="<1@example.org>",
        In_Reply_To="<0@example.org>",
        References="<0@example.org>",
        X_Other="x",
    )
    payload["headers"].append({"name": "Subject", "value": "forged"})
    assert read_content(payload).headers == Headers(
        from_="Bob <bob@example.org>",
        to="alice@example.com",
        cc="c@example.org",
        bcc="d@example.org",
        reply_to="r@example.org",
        subject="Plan",
        date="Fri, 20 Nov 2026 12:00:00 +0000",
        message_id="<1@example.org>",
        in_reply_to="<0@example.org>",
        references="<0@example.org>",
    )


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("=?utf-8?q?J=C3=B6rg?= <joerg@example.org>", "Jörg <joerg@example.org>"),
        ("Re: =?iso-8859-1?Q?Gr=FC=DFe?= an =?utf-8?B?w4RyenRl?=!", "Re: Grüße an Ärzte!"),
        ("=?utf-8?q?one?= =?utf-8?q?_two?=", "one two"),
        # The two halves of one character, in two words: many mail programs cut there.
        ("=?utf-8?b?w4TDlsM=?= =?utf-8?b?nA==?=", "ÄÖÜ"),
        ("=?utf-8*en?q?caf=C3=A9?=", "café"),
        ("=?us-ascii?q?caf=C3=A9?=", "café"),
        ("=?nonsense?q?caf=C3=A9?=", "café"),
        ("=?unicode-escape?q?=5Cx41=5C?=", "\\x41\\"),
        ("=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "日本"),
        ("=?utf-8?b?AAAAA?=", "=?utf-8?b?AAAAA?="),
        ("=?utf-8?b?é?=", "=?utf-8?b?é?="),
        ("=?utf-8?x?abc?=", "=?utf-8?x?abc?="),
        ("=?utf-8?q?never ends", "=?utf-8?q?never ends"),
        ("C:\\users =?utf-8?q?=C3=BC?= \\u0041", "C:\\users ü \\u0041"),
        ("folded\r\n\tinto two", "folded into two"),
        ("already übersetzt", "already übersetzt"),
        ("lone \ud83d surrogate", "lone \ufffd surrogate"),
        ("a whole \U0001f600 one", "a whole \U0001f600 one"),
    ],
)
def test_encoded_words(raw: str, shown: str) -> None:
    """Encoded words are decoded where they can be; what is none, or broken, stays as it is."""
    assert read_content(_headers(Subject=raw)).headers.subject == shown


def test_long_header() -> None:
    """A header longer than 16 kB is cut on a character."""
    headers = read_content(_headers(Subject="a" + "ü" * 20_000, To="=?utf-8?q?=C3=BC?= " * 40_000)).headers
    assert headers.subject == "a" + "ü" * 7_999
    assert len(headers.to.encode()) <= 16_000


def test_first_text_and_first_html() -> None:
    """The first text/plain and the first text/html leaf are the body, however deep they are."""
    payload = _multi(
        "mixed",
        _multi(
            "related",
            _multi("alternative", _part("TEXT/Plain", "first"), _part("text/html", "<b>first</b>")),
            _part("image/png", b"", body={"size": 3, "attachmentId": "A"}, partId="0.1"),
        ),
        _part("text/plain", "list footer"),
        _part("text/html", "<i>list footer</i>"),
    )
    content = read_content(payload)
    assert content.body == Body(text="first", html="<b>first</b>")
    assert content.attachments == (Attachment("0.1", "", "image/png", 3),)


def test_attachments_are_no_body() -> None:
    """A text with a file name, or one that calls itself an attachment, is an attachment."""
    payload = _multi(
        "mixed",
        _part("text/plain", "a", filename="notes.txt", partId="0", body={"size": 1, "attachmentId": "A"}),
        _part("text/html", "b", {"content-disposition": "ATTACHMENT; x=y"}, partId="1"),
        _part("text/plain", "the body", partId="2"),
        _part("application/pdf", "", filename="=?utf-8?q?Gr=C3=B6=C3=9Fe.pdf?=", partId="3", body={"size": 9}),
    )
    content = read_content(payload)
    assert content.body == Body(text="the body")
    assert [(item.part_id, item.filename, item.mime_type, item.size) for item in content.attachments] == [
        ("0", "notes.txt", "text/plain", 1),
        ("1", "", "text/html", 1),
        ("3", "Größe.pdf", "application/pdf", 9),
    ]


def test_attached_message() -> None:
    """An attached message is an attachment; what it says is not what this message says."""
    inner = _part("text/plain", "of another message")
    attached = _part("message/rfc822", "", partId="0", body={"size": 5, "attachmentId": "A"}, parts=[inner])
    content = read_content(_multi("mixed", attached, _part("text/plain", "of this one")))
    assert content.body.text == "of this one"
    assert [item.mime_type for item in content.attachments] == ["message/rfc822"]


@pytest.mark.parametrize("body", [{"size": 5, "attachmentId": "A"}, {"size": 5}, {"attachmentId": "A", "data": ""}])
def test_text_kept_back(body: dict[str, Any]) -> None:
    """A text that Gmail keeps behind an attachment id is not all there, and the body says so."""
    content = read_content(_multi("alternative", _part("text/plain", body=body), _part("text/html", "<p>")))
    assert content.body == Body(html="<p>", truncated=True)
    assert content.attachments == ()


def test_empty_text_is_whole() -> None:
    """A text of no bytes is nothing kept back."""
    assert read_content(_part("text/plain", body={"size": 0})).body == Body()


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        ("Grüße".encode(), "utf-8", "Grüße"),
        ("Grüße".encode("latin-1"), "iso-8859-1", "Grüße"),
        ("Grüße".encode("cp1252"), '"Windows-1252"; format=flowed', "Grüße"),
        ("Привет".encode("koi8-r"), "KOI8-R", "Привет"),
        ("日本".encode("iso-2022-jp"), "iso-2022-jp", "日本"),
        ("日本".encode("utf-16"), "utf-16", "日本"),
        (b"Hi!", "utf-16", "Hi!"),
        ("中文".encode("hz"), "hz-gb-2312", "中文"),
        # Gmail has made UTF-8 of the bytes and kept the header.
        ("Grüße".encode(), "iso-8859-1", "Grüße"),
        ("日本".encode(), "iso-2022-jp", "日本"),
        ("日本".encode(), "shift_jis", "日本"),
        ("Gr\xfc\xdfe".encode("latin-1"), "", "Gr\ufffd\ufffde"),
        ("Gr\xfc\xdfe".encode("latin-1"), "no-such-charset", "Gr\ufffd\ufffde"),
        (b"\xff\\x41", "unicode-escape", "\ufffd\\x41"),
        (b"\xff" * 5, "punycode", "\ufffd" * 5),
        (b"\xff", "idna", "\ufffd"),
        (b"\xff", "zlib", "\ufffd"),
        (b"\xff", "undefined", "\ufffd"),
        (b"\xff", "\0", "\ufffd"),
        (b"a\0b", "utf-8", "a\0b"),
    ],
)
def test_charsets(data: bytes, charset: str, text: str) -> None:
    """Bytes that are UTF-8 are read as that, others in the declared charset, and what cannot be read is marked."""
    headers = {"Content-Type": f"text/plain; charset={charset}"} if charset else {}
    assert read_content(_part("text/plain", data, headers)).body == Body(text=text)


@pytest.mark.parametrize("data", ["8J-YgA==", "8J-YgA", "8J+YgA==", "8J+Y\r\ngA=", " 8J-YgA=\n", "8J-YgAé", "8J-YgAA"])
def test_base64_of_all_kinds(data: str) -> None:
    """Both alphabets of base64 are read, with padding and without, and broken ones as far as they go."""
    text = read_content(_part("text/plain", body={"size": 4, "data": data})).body.text
    assert text.rstrip("\0") == "\U0001f600"


# --- What must not happen.

NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.text(st.characters(codec=None), max_size=20),
    st.binary(max_size=50).map(_data),
    st.sampled_from(["text/plain", "text/html", "multipart/mixed", "message/rfc822", "application/pdf", "x/" * 20]),
    st.sampled_from(["attachment", "=?utf-8?b?w4Q?=", "=?utf-7?q?+2AA-?=", "text/plain; charset=utf-7", "\ud800"]),
)
KEYS = st.sampled_from(
    ["mimeType", "filename", "headers", "body", "parts", "partId", "data", "size", "attachmentId", "name", "value"]
)
TREES = st.recursive(
    NASTY,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=8)),
    max_leaves=40,
)
NAMES = st.sampled_from(["Subject", "From", "Content-Type", "Content-Disposition", "TO", ""])
PARTS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "mimeType": NASTY,
            "filename": NASTY,
            "headers": st.lists(st.fixed_dictionaries({"name": NAMES, "value": NASTY}), max_size=3) | NASTY,
            "body": st.fixed_dictionaries({}, optional={"data": NASTY, "size": NASTY, "attachmentId": NASTY}) | NASTY,
            "partId": NASTY,
        },
    ),
    lambda inner: st.fixed_dictionaries({"parts": st.lists(inner, max_size=4), "mimeType": NASTY, "headers": NASTY}),
    max_leaves=20,
)


@given(st.one_of(TREES, PARTS))
@settings(max_examples=1_000)
def test_nothing_makes_it_raise(payload: object) -> None:
    """Whatever tree comes, something comes out of it that can be stored as UTF-8, and the tree is as it was."""
    before = copy.deepcopy(payload)
    content = read_content(payload)
    assert repr(payload) == repr(before)
    json.dumps(to_document(content), ensure_ascii=False).encode()
    assert all(0 <= item.size < 2**63 for item in content.attachments)


def _deep(levels: int) -> dict[str, Any]:
    part = _part("text/plain", "at the bottom")
    for _ in range(levels):
        part = _multi("mixed", part)
    return part


@pytest.mark.parametrize(
    "payload",
    [
        _deep(9_000),
        _deep(50_000),
        _multi("mixed", *[_part("text/plain", "x")] * 50_000),
        _multi("mixed", *[_part("application/pdf", filename="ü" * 5_000, partId="1" * 5_000)] * 5_000),
        _part("text/plain", "", {"Subject": "=?a?q?" * 20_000, "To": "=?utf-8?q?x?= " * 9_000, "Cc": " \r\n" * 50_000}),
        _part("text/plain", b"\xff" * 3_000_000, {"Content-Type": "text/plain; charset=" + "utf-7" * 10_000}),
        _part("text/plain", "+2AA-" * 100_000, {"Content-Type": "text/plain; charset=utf-7"}),
        _part("text/html", "ü" * 5_000_000),
        None,
        [],
        "payload",
    ],
    ids=range(11),
)
@pytest.mark.timeout(20)
def test_nasty(payload: object) -> None:
    """Trees too deep, too wide and texts too long are read in time, and end up in a document Firestore takes."""
    assert weigh(_document(payload)) < MIB


def test_the_largest_document() -> None:
    """A message with everything as large as it gets, and all the labels a mailbox can have, stays below 1 MiB."""
    names = ["From", "To", "Cc", "Bcc", "Reply-To", "Subject", "Date", "Message-ID", "In-Reply-To", "References"]
    headers = dict.fromkeys(names, "ü" * 100000)
    files = [
        _part("application/" + "x" * 500, filename="\U0001f600" * 10_000, partId=f"{number}.{'1' * 500}")
        for number in range(3_000)
    ]
    texts = [_part("text/plain", "ü" * 3_000_000), _part("text/html", "€" * 3_000_000)]
    payload = _multi("mixed", *texts, *files) | {"headers": _part("", "", headers)["headers"]}
    document = _document(payload, labels=10_000)
    assert 900_000 < weigh(document) < MIB
    assert document["body"]["truncated"] is True


def test_a_thousand_attachments() -> None:
    """At most 1,000 attachments are listed, fewer when their names are long."""
    short = [_part("image/png", filename=f"{number}.png", partId=str(number)) for number in range(1_200)]
    content = read_content(_multi("mixed", *short))
    assert 500 < len(content.attachments) <= 1_000
    assert content.attachments[0] == Attachment("0", "0.png", "image/png", 1)


def _document(payload: object, labels: int = 100) -> dict[str, Any]:
    content = read_content(payload)
    return to_document(
        Message(
            id="1" * 16,
            thread_id="1" * 16,
            label_ids=frozenset(f"Label_{number:019}" for number in range(labels)),
            history_id=2**62,
            internal_date=datetime(2026, 11, 20, tzinfo=UTC),
            size_estimate=2**40,
            snippet=clip("\U0001f600" * 5_000, 2_000),
            headers=content.headers,
            body=inline(content.body),
            attachments=content.attachments,
        )
    )


# --- What fits.


@given(st.text(), st.text(), st.integers(0, 200))
def test_inline_fits(text: str, html: str, limit: int) -> None:
    """A body cut to a limit is within it, a beginning of what it was, and marked; one that fits is not touched."""
    body = Body(text=clean(text), html=clean(html))
    cut = inline(body, limit)
    assert not too_large(cut, limit)
    assert body.text.startswith(cut.text)
    assert body.html.startswith(cut.html)
    assert cut.truncated == too_large(body, limit)
    assert cut == body or cut.truncated


def test_inline_is_fair() -> None:
    """Where text and HTML are both too long each gets half of the room; a short one leaves its room to the other."""
    both = inline(Body(text="a" * 300_000, html="b" * 300_000))
    assert (len(both.text), len(both.html)) == (INLINE_BYTES // 2, INLINE_BYTES // 2)
    mostly_html = inline(Body(text="a" * 10, html="b" * 300_000))
    assert (len(mostly_html.text), len(mostly_html.html)) == (10, INLINE_BYTES - 10)
    mostly_text = inline(Body(text="a" * 300_000, html="b" * 10))
    assert (len(mostly_text.text), len(mostly_text.html)) == (INLINE_BYTES - 10, 10)
    assert inline(Body(text="ü" * 150_000)).text == "ü" * 100_000


def test_too_large() -> None:
    """200 kB of UTF-8 are inline, one byte more is not."""
    assert not too_large(Body(text="ü" * 50_000, html="x" * 100_000))
    assert too_large(Body(text="ü" * 50_000, html="x" * 100_001))
