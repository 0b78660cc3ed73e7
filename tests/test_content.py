"""Content: which parts of a message are its text, which are attachments, and what each of them is."""

import base64
import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mailmirror import text
from mailmirror.charset import clip
from mailmirror.content import INLINE_BYTES, PARTS, Content, Part, TextPart, read_content
from mailmirror.mirror import message_document
from mailmirror.model import Address, Body, Message
from mailmirror.slice import weigh

from tests.document_size import LIMIT, stored_size


def _data(text: str | bytes) -> str:
    return base64.urlsafe_b64encode(text.encode() if isinstance(text, str) else text).decode()


def _part(mime: str, text: str | bytes = b"x", headers: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    listed = [{"name": name, "value": value} for name, value in (headers or {}).items()]
    size = len(text.encode() if isinstance(text, str) else text)
    return {"mimeType": mime, "filename": "", "headers": listed, "body": {"size": size, "data": _data(text)}} | more


def _multi(kind: str, *parts: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
    return _part(f"multipart/{kind}", headers=headers, body={"size": 0}, parts=list(parts))


def _plain(text: str = "plain", **headers: str) -> dict[str, Any]:
    return _part("text/plain", text, headers)


def _html(text: str = "<p>html</p>", **headers: str) -> dict[str, Any]:
    return _part("text/html", text, headers)


def _file(mime: str, name: str = "", disposition: str = "", cid: str = "", **more: Any) -> dict[str, Any]:
    headers = {"Content-Disposition": disposition, "Content-ID": cid and f"<{cid}>"}
    return _part(mime, "", headers, filename=name, body={"size": 3, "attachmentId": "A"}) | more


def _texts(payload: object) -> tuple[str, str]:
    content = read_content(payload)
    return "".join(text.plain(content)), "".join(text.html(content))


def _kinds(payload: object) -> list[tuple[str, str]]:
    return [(file.attachment.mime_type, file.attachment.kind) for file in read_content(payload).files]


# --- Which parts are the text.


@pytest.mark.parametrize(
    ("payload", "plain", "html"),
    [
        (_plain("one"), "one", ""),
        (_html("<p>one"), "one", "<p>one"),
        (_multi("alternative", _plain("one"), _html("<p>two")), "one", "<p>two"),
        (_multi("alternative", _html("<p>two"), _plain("one")), "one", "<p>two"),
        (_multi("alternative", _plain("one")), "one", ""),
        (_multi("alternative", _html("<p>two")), "two", "<p>two"),
        (_multi("mixed", _plain("one"), _plain("footer")), "one\nfooter", ""),
        (_multi("mixed", _html("<p>one"), _plain("<footer>")), "one\n<footer>", "<p>one\n<pre>&lt;footer&gt;</pre>"),
        (
            _multi("mixed", _multi("alternative", _plain("one"), _html("<p>two")), _plain("footer")),
            "one\nfooter",
            "<p>two\n<pre>footer</pre>",
        ),
        # Apple Mail: text, picture, text.
        (_multi("mixed", _plain("one"), _file("image/png", "p.png", "inline"), _plain("two")), "one\ntwo", ""),
        (
            _multi(
                "alternative",
                _plain("both"),
                _multi("mixed", _html("<p>one"), _file("application/pdf", "f.pdf", "inline"), _html("<p>two")),
            ),
            "both",
            "<p>one\n<p>two",
        ),
        (
            _multi("related", _multi("alternative", _plain("one"), _html("<p>two")), _file("image/png")),
            "one",
            "<p>two",
        ),
        (_multi("alternative", _plain("one"), _multi("related", _html("<p>two"), _plain("no"))), "one", "<p>two"),
        (_multi("related", _html("<p>one"), _plain("no")), "one", "<p>one"),
        # The root of a related one may be named.
        (
            _multi(
                "related",
                _file("image/png", cid="p"),
                _html("<p>two", **{"Content-Id": "<root@x>"}),
                headers={"Content-Type": 'multipart/related; start="<root@x>"; boundary=b'},
            ),
            "two",
            "<p>two",
        ),
        # A blank alternative to HTML is none; HTML that cannot be had is no reason to do without the text.
        (_multi("alternative", _plain(" \r\n"), _html("<p>two")), "two", "<p>two"),
        (_multi("alternative", _plain(""), _html("<p>two")), "two", "<p>two"),
        (_multi("alternative", _plain("\xa0\r\n"), _html("<p>two")), "two", "<p>two"),
        (_multi("alternative", _plain(" \r\n"), _file("text/calendar")), " \r\n", ""),
        # An alternative within another is a form of that.
        (_multi("alternative", _plain("one"), _multi("alternative", _html("<p>two"))), "one", "<p>two"),
        (
            _multi("alternative", _multi("alternative", _plain("one")), _multi("mixed", _html("<p>two"))),
            "one",
            "<p>two",
        ),
        (_multi("alternative", _multi("related", _multi("alternative", _html("<p>two")))), "two", "<p>two"),
        # A signed one, and one within a report.
        (_multi("signed", _plain("one"), _file("application/pgp-signature")), "one", ""),
        (_multi("report", _plain("one"), _file("message/delivery-status"), _file("message/rfc822")), "one", ""),
        # What is no text of this message.
        (_multi("mixed", _file("text/plain", "notes.txt"), _plain("one")), "one", ""),
        (_multi("mixed", _plain("one"), _html("two", **{"Content-Disposition": "ATTACHMENT; x=y"})), "one", ""),
        (_multi("mixed", _plain("one"), _part("message/rfc822", parts=[_plain("inner")])), "one", ""),
        (_multi("mixed", _part("text/csv", "a,b"), _plain("one")), "one", ""),
        (_file("application/pdf", "f.pdf"), "", ""),
        ({}, "", ""),
        (_multi("mixed"), "", ""),
        # Kinds that are not as they should be.
        (_part("TEXT/Plain ", "one"), "one", ""),
        (_part("", "one"), "one", ""),
        (_part("text", "one"), "one", ""),
        (_part("x", "", parts=[_plain("one")], body=None), "one", ""),
        (_multi("unheard-of", _plain("one"), _plain("two")), "one\ntwo", ""),
    ],
)
def test_text_and_html(payload: object, plain: str, html: str) -> None:
    """Text and HTML are what RFC 8621 says, but that named texts are files and blank alternatives none."""
    assert _texts(payload) == (plain, html)


def test_every_other_form_is_listed() -> None:
    """A form of the text that fits nowhere is an attachment, so that it is not lost."""
    inner = _multi("alternative", _plain("a plain form of this"), _html("<p>and this"))
    payload = _multi("alternative", _plain("one"), _multi("mixed", _html("<p>two"), inner))
    assert _texts(payload) == ("one", "<p>two\n<p>and this")
    assert _kinds(payload) == [("text/plain", "inline")]


def test_how_a_part_is_read() -> None:
    """Charset and format are those of the part's own header."""
    kinds = {
        'text/plain; charset="ISO-8859-1"; format=flowed; DelSp=yes': ("ISO-8859-1", True, True),
        "text/plain; CHARSET = utf-8 ; Format=Flowed": ("utf-8", True, False),
        "text/plain; format=fixed; charset='koi8-r'": ("koi8-r", False, False),
        "text/plain; charset*=us-ascii'en'utf-7; x=y": ("utf-7", False, False),
        'text/plain; name="charset=x"': ("", False, False),
        'text/plain; charset="never closed': ("never closed", False, False),
        "text/plain; charset=utf-8; charset=big5": ("utf-8", False, False),
        "text/plain;\r\n\tcharset=big5": ("big5", False, False),
        "text/plain": ("", False, False),
    }
    for header, (charset, flowed, del_sp) in kinds.items():
        (part,) = read_content(_part("text/plain", "x", {"content-TYPE": header})).text
        assert part == TextPart(Part(b"x", size=1), charset=charset, flowed=flowed, del_sp=del_sp), header


def test_text_that_gmail_keeps_back() -> None:
    """A text behind an attachment id is a part of the text; how it is fetched is told."""
    body = {"size": 5, "attachmentId": "A"}
    content = read_content(_multi("alternative", _part("text/plain", body=body), _part("text/html", body=body)))
    assert content.text == (TextPart(Part(attachment_id="A", size=5)),)
    assert content.html == (TextPart(Part(attachment_id="A", size=5), html=True),)
    assert content.truncated == ()


@pytest.mark.parametrize(
    ("mime", "truncated"), [("text/plain", ("body.text",)), ("text/html", ("body.text", "body.html"))]
)
def test_text_that_cannot_be_had(mime: str, truncated: tuple[str, ...]) -> None:
    """A text of which there should be bytes, but is no way to them, is named."""
    assert read_content(_part(mime, body={"size": 5})).truncated == truncated


def test_bytes_that_are_decoded_already() -> None:
    """The bytes of a part may come as bytes, text and attachments alike."""
    parts = [_part("text/plain", body={"size": 3, "data": b"ab+"}), _part("x/y", body={"size": 2, "data": b"\0\xff"})]
    content = read_content(_multi("mixed", *parts))
    assert content.text[0].part == Part(b"ab+", size=3)
    assert content.files[0].part == Part(b"\0\xff", size=2)


@pytest.mark.parametrize(
    "data", ["8J-YgA==", "8J-YgA", "8J+YgA==", "8J+Y\r\ngA=", " 8J-YgA=\n", "8J-YgAé", "8J-YgAA", "8J-YgAAAA"]
)
def test_base64_of_all_kinds(data: str) -> None:
    """Both alphabets of base64 are read, with padding and without, and broken ones as far as they go."""
    plain, _ = _texts(_part("text/plain", body={"size": 4, "data": data}))
    assert plain.rstrip("\0") == "\U0001f600"


# --- What the others are.


def test_attachments() -> None:
    """An attachment is told with its name, type and size, and with a way to its bytes."""
    payload = _multi(
        "mixed",
        _file("Application/PDF", "=?utf-8?q?Gr=C3=B6=C3=9Fe.pdf?=", "attachment", "cid@x", partId="0"),
        _part("application/x", "abc", partId="1"),
    )
    first, second = read_content(payload).files
    told = first.attachment
    assert (told.part_id, told.filename, told.mime_type, told.size) == ("0", "Größe.pdf", "application/pdf", 3)
    assert (told.kind, told.content_id, told.uri) == ("file", "cid@x", None)
    assert first.part == Part(attachment_id="A", size=3)
    assert second.part == Part(b"abc", size=3)
    assert read_content(payload).truncated == ()


@pytest.mark.parametrize(
    ("payload", "kinds"),
    [
        (_file("application/pdf", "f.pdf"), [("application/pdf", "file")]),
        (_multi("mixed", _plain(), _file("image/png", "p.png", "inline")), [("image/png", "file")]),
        # Pictures that the HTML shows.
        (_multi("related", _html("<img src='cid:p'>"), _file("image/png", cid="p")), [("image/png", "inline")]),
        (
            _multi("related", _html(), _part("image/gif", headers={"Content-Location": "images/a.gif"})),
            [("image/gif", "inline")],
        ),
        (_multi("related", _html(), _file("image/png", "p.png", "attachment")), [("image/png", "file")]),
        # What a reader does not see in the text is a file, whatever it says of itself; so are photos from a telephone.
        (_multi("related", _html(), _file("image/png", cid="p")), [("image/png", "file")]),
        (_multi("related", _html(), _file("image/png", "p.png", "inline")), [("image/png", "file")]),
        (_multi("mixed", _html(), _file("image/png", "p.png", "inline", "p")), [("image/png", "file")]),
        (_multi("mixed", _plain(), _file("image/jpeg", "p.jpeg", "inline", "p")), [("image/jpeg", "file")]),
        # Nobody has seen the HTML yet that may show them.
        (_multi("related", _file("text/html"), _file("image/png", cid="p")), [("image/png", "inline")]),
        (_multi("mixed", _file("text/html"), _file("image/png", "p.png", "inline", "p")), [("image/png", "inline")]),
        (_multi("mixed", _file("text/html"), _file("image/png", "p.png", cid="p")), [("image/png", "file")]),
        (_multi("mixed", _html(), _file("image/png", "p.png", "attachment", "p")), [("image/png", "file")]),
        (
            _multi("mixed", _html("<img src='cid:p@x'>"), _file("image/png", "p.png", "attachment", "p@x")),
            [("image/png", "inline")],
        ),
        (
            _multi("mixed", _html("<img src=CID:p%40x>"), _file("application/octet-stream", "p", cid="p@x")),
            [("application/octet-stream", "inline")],
        ),
        (
            _multi("related", _html("<object data='cid:p'>"), _file("application/pdf", "f.pdf", "inline", "p")),
            [("application/pdf", "file")],
        ),
        # Messages.
        (_multi("mixed", _plain(), _file("message/rfc822")), [("message/rfc822", "message")]),
        (_multi("mixed", _plain(), _file("message/global", "m.eml")), [("message/global", "message")]),
        (
            _multi("digest", _part("message/rfc822", body={"size": 0}, parts=[_file("image/png", "p.png")])),
            [("message/rfc822", "message")],
        ),
        (_file("message/rfc822", parts=[_plain()]), [("message/rfc822", "message")]),
        (_multi("report", _plain(), _file("message/delivery-status")), [("message/delivery-status", "file")]),
        # Invitations, and what else is another form of the text.
        (_multi("alternative", _plain(), _html(), _file("text/calendar")), [("text/calendar", "calendar")]),
        (_multi("alternative", _plain(), _file("text/calendar", "i.ics")), [("text/calendar", "calendar")]),
        (_multi("mixed", _plain(), _file("text/calendar")), [("text/calendar", "calendar")]),
        (_multi("mixed", _plain(), _file("text/calendar", "i.ics", "attachment")), [("text/calendar", "file")]),
        (_multi("alternative", _plain(), _part("text/x-amp-html"), _html()), [("text/x-amp-html", "inline")]),
        (_multi("mixed", _plain(), _part("text/csv")), [("text/csv", "file")]),
        # Nothing that is none.
        (_multi("mixed", _multi("alternative"), _multi("related")), []),
        (_multi("mixed", {}, {"partId": "1"}), []),
        # A multipart that nobody can take apart.
        (_part("multipart/mixed", "--b"), [("multipart/mixed", "file")]),
    ],
)
def test_kinds(payload: object, kinds: list[tuple[str, str]]) -> None:
    """What an attachment is to its message follows from what it is and where it stands."""
    assert _kinds(payload) == kinds


SIGNED = "application/pkcs7-mime; smime-type=signed-data; name=smime.p7m"


@pytest.mark.parametrize(
    ("payload", "protection", "kinds"),
    [
        (_plain(), "none", []),
        (_multi("signed", _plain(), _file("application/pgp-signature", "s.asc")), "signed", ["signature"]),
        (_multi("signed", _plain(), _file("application/x-pkcs7-signature", "smime.p7s")), "signed", ["signature"]),
        (_multi("signed", _multi("mixed", _plain(), _file("x/y")), _file("a/b")), "signed", ["file", "signature"]),
        # A mailing list puts its footer below.
        (_multi("mixed", _multi("signed", _plain(), _file("a/b")), _plain()), "signed", ["signature"]),
        # Something signed is forwarded, or stands beside what is not.
        (_multi("mixed", _plain(), _multi("signed", _plain(), _file("a/b"))), "none", ["signature"]),
        (_multi("mixed", _plain(), _part("message/rfc822", parts=[_multi("signed")])), "none", ["message"]),
        (_multi("encrypted", _file("application/pgp-encrypted"), _file("x/y")), "encrypted", ["encrypted"] * 2),
        (_multi("encrypted", _multi("mixed", _file("x/y"))), "encrypted", ["encrypted"]),
        (_multi("mixed", _plain(), _file("application/pgp-encrypted")), "none", ["encrypted"]),
        (_multi("alternative", _multi("signed", _plain(), _file("a/b")), _html()), "none", ["signature"]),
        (_file("application/pkcs7-mime", "smime.p7m"), "encrypted", ["encrypted"]),
        (_file("application/x-pkcs7-mime", "smime.p7m"), "encrypted", ["encrypted"]),
        (_part("application/pkcs7-mime", "", {"Content-Type": SIGNED}, filename="smime.p7m"), "signed", ["signature"]),
        (
            _part("application/pkcs7-mime", "x", {"Content-Type": SIGNED.replace("signed-data", "certs-only")}),
            "none",
            ["file"],
        ),
        (_multi("mixed", _plain(), _file("application/pkcs7-mime", "smime.p7m")), "none", ["file"]),
        (_multi("signed", _file("application/pkcs7-mime"), _file("a/b")), "encrypted", ["encrypted", "signature"]),
    ],
)
def test_protection(payload: object, protection: str, kinds: list[str]) -> None:
    """A message that is signed or encrypted as a whole says so, and so do the parts that make it so."""
    content = read_content(payload)
    assert content.protection == protection
    assert [file.attachment.kind for file in content.files] == kinds


# --- What is left out.


def test_too_many_attachments() -> None:
    """At most 1,000 attachments are listed, and it is said that there are more."""
    files = [_file("image/png", f"{number}.png", partId=str(number)) for number in range(1_001)]
    assert len(read_content(_multi("mixed", *files[:1_000])).files) == 1_000
    assert read_content(_multi("mixed", *files[:1_000])).truncated == ()
    assert len(read_content(_multi("mixed", *files)).files) == 1_000
    assert read_content(_multi("mixed", *files)).truncated == ("attachments",)


def test_long_names() -> None:
    """Fewer attachments are listed when their names are long; a name of more than 1,000 bytes is cut."""
    content = read_content(_multi("mixed", *[_file("image/png", "ü" * 600)] * 300))
    assert content.files[0].attachment.filename == "ü" * 500
    assert 100 < len(content.files) < 300
    assert content.truncated == ("attachments.filename", "attachments")


def test_too_many_parts() -> None:
    """Of a message of more parts than any has, the first are read, and it is said that there is more of everything."""
    content = read_content(_multi("mixed", *[_plain("x")] * (PARTS + 1)))
    assert len(content.text) == PARTS - 1
    assert content.truncated == ("body.text", "body.html", "attachments")
    assert read_content(_multi("mixed", *[_plain("x")] * 5_000)).truncated == ()


def _deep(levels: int) -> dict[str, Any]:
    part = _plain("at the bottom")
    for _ in range(levels):
        part = _multi("mixed", part, _file("x/y"))
    return part


def test_nested_deep() -> None:
    """What is nested 50 deep is found; what is nested deeper than anything is left out, and that is said."""
    content = read_content(_deep(50))
    assert _texts(_deep(50))[0] == "at the bottom"
    assert len(content.files) == 50
    assert content.truncated == ()
    assert "body.text" in read_content(_deep(5_000)).truncated


def test_headers_are_read() -> None:
    """The headers are those of the message itself, not of its parts."""
    payload = _multi("mixed", _plain(Subject="inner", To="x@y"), headers={"Subject": "outer", "From": "A <a@b>, c@d"})
    content = read_content(payload)
    assert (content.headers.subject, content.headers.from_) == ("outer", Address("A", "a@b"))
    assert content.headers.to == ()
    assert content.truncated == ("headers.from",)


# --- What must not happen.

NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.text(st.characters(codec=None), max_size=20),
    st.binary(max_size=50),
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
NAMES = st.sampled_from(["Subject", "From", "Date", "Content-Type", "Content-Disposition", "Content-ID", "TO", ""])
PARTS_OF_ALL_KINDS = st.recursive(
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


@given(st.one_of(TREES, PARTS_OF_ALL_KINDS))
@settings(max_examples=1_000)
def test_nothing_makes_it_raise(payload: object) -> None:
    """Whatever tree comes, something comes out of it that fits into a document, and the tree is as it was."""
    before = copy.deepcopy(payload)
    content = read_content(payload)
    assert repr(payload) == repr(before)
    assert stored_size(_document(content)) < LIMIT
    assert all(0 <= file.attachment.size < 2**63 for file in content.files)


TYPES = st.sampled_from(["text/plain", "text/html", "text/calendar", "image/png", "message/rfc822", "x/y", "text/csv"])
CONTAINERS = st.sampled_from(["mixed", "alternative", "related", "signed", "encrypted", "report", "digest"])
MESSAGES = st.recursive(
    st.builds(
        _file,
        TYPES,
        st.sampled_from(["", "", "a.txt"]),
        st.sampled_from(["", "inline", "attachment"]),
    ),
    lambda inner: st.builds(lambda kind, parts: _multi(kind, *parts), CONTAINERS, st.lists(inner, max_size=4)),
    max_leaves=12,
)


def _numbered(part: dict[str, Any], part_id: str = "") -> list[str]:
    """Give each part its id and its bytes, and return those of the leaves."""
    part["partId"] = part_id
    if "parts" in part:
        children = [copy.deepcopy(child) for child in part["parts"]]
        part["parts"] = children
        return [leaf for number, child in enumerate(children) for leaf in _numbered(child, f"{part_id}.{number}")]
    part["body"] = {"size": len(part_id) + 1, "data": _data(f"={part_id}")}
    return [part_id] if not part["mimeType"].startswith("multipart/") else []


@given(MESSAGES)
@settings(max_examples=500)
def test_nothing_is_lost(payload: dict[str, Any]) -> None:
    """Each leaf of a message is in its text, in its HTML or among its attachments, and nothing is said to be cut."""
    payload = copy.deepcopy(payload)
    leaves = _numbered(payload)
    content = read_content(payload)
    found = {part.part.data.decode()[1:] for part in (*content.text, *content.html)}
    listed = [file.attachment.part_id for file in content.files]
    assert content.truncated == ()
    assert sorted({*found, *listed}) == sorted(leaves)
    assert len(listed) == len(set(listed))
    assert not found & set(listed)


@pytest.mark.parametrize(
    "payload",
    [
        _deep(900),
        _multi("mixed", *[_plain("x")] * 50_000),
        _multi("mixed", *[_part("application/pdf", filename="ü" * 5_000, partId="1" * 5_000)] * 5_000),
        _part("text/plain", "", {"Subject": "=?a?q?" * 20_000, "To": "=?utf-8?q?x?= " * 9_000, "Cc": " \r\n" * 50_000}),
        _part("text/plain", b"\xff" * 3_000_000, {"Content-Type": "text/plain; charset=" + "utf-7" * 10_000}),
        _part("text/plain", "+2AA-" * 100_000, {"Content-Type": "text/plain; charset=utf-7"}),
        _multi("mixed", *[_plain("x", **{"Content-Type": "; a=" + '"' * 10_000})] * 500),
        _multi("mixed", _html("cid:" * 1_000_000), _file("image/png", cid="p")),
        _part("text/html", "ü" * 5_000_000),
        None,
        [],
        "payload",
    ],
    ids=range(12),
)
@pytest.mark.timeout(20)
def test_nasty(payload: object) -> None:
    """Trees too deep, too wide and texts too long are read in time, and end up in a document Firestore takes."""
    assert stored_size(_document(read_content(payload))) < LIMIT


@pytest.mark.parametrize(
    "people",
    [
        f"{'ü' * 400} <{'x' * 400}@example.com>, " * 1_000,
        ", ".join(f"{'ü' * 400} <{number:04}{'x' * 304}@example.com>" for number in range(1_000)),
    ],
    ids=["addresses too long to be found by", "addresses as long as they may be to be found by"],
)
def test_the_largest_document(people: str) -> None:
    """A message with everything as large as it gets, and all the labels a mailbox can have, is below 1 MiB."""
    names = ["From", "To", "Cc", "Bcc", "Subject", "Date", "Message-ID", "In-Reply-To", "References"]
    headers = dict.fromkeys(names, people) | {"Subject": "ü" * 100_000}
    files = [
        _part("application/" + "x" * 500, filename="\U0001f600" * 10_000, partId=f"{number}.{'1' * 500}")
        for number in range(3_000)
    ]
    payload = _multi("mixed", *files, headers=headers)
    document = _document(read_content(payload), labels=10_000, body=Body(text="ü" * (INLINE_BYTES // 2)))
    assert len(document["recipients"]) == (1 if "x" * 400 in people else 101)
    assert 0.95 * LIMIT < stored_size(document) < LIMIT
    assert weigh(document) < 1.2 * LIMIT


def test_the_largest_document_of_short_strings() -> None:
    """A commit takes not much more for very many short addresses and file names than for few long ones."""
    headers = {"To": "a@b, " * 100_000}
    files = [_file("x/y", "f") for _ in range(3_000)]
    document = _document(read_content(_multi("mixed", *files, headers=headers)), body=Body(text="x" * INLINE_BYTES))
    assert weigh(document) < 1.4 * LIMIT


def _document(content: Content, labels: int = 100, body: Body | None = None) -> dict[str, Any]:
    return message_document(
        Message(
            id="1" * 16,
            thread_id="1" * 16,
            label_ids=frozenset(f"Label_{number:019}" for number in range(labels)),
            history_id=2**62,
            internal_date=datetime(2026, 11, 20, tzinfo=UTC),
            size_estimate=2**40,
            snippet=clip("\U0001f600" * 5_000, 2_000),
            headers=content.headers,
            body=body or Body(),
            attachments=tuple(file.attachment for file in content.files),
            protection=content.protection,
            truncated=content.truncated,
        )
    ) | {"origin": "backfill", "syncedAt": datetime(2026, 11, 20, tzinfo=UTC)}
