"""The corpus: of every message, what is mirrored is what an independent reader finds in its source."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.message import Message as Source
from typing import Any

import pytest
from mailmirror import text
from mailmirror.charset import clip
from mailmirror.content import INLINE_BYTES, Content, read_content
from mailmirror.mirror import message_document
from mailmirror.model import Address, Attachment, Body, Message

from local.gmail import mime, payload
from tests.conftest import Require
from tests.corpus import cpython, headers, large, oracle, structures, texts
from tests.corpus.exceptions import EXCEPTIONS, Instead, Leaves, Lower
from tests.document_size import LIMIT, stored_size

PYTHONS = cpython.messages()
MADE = {**structures.messages(), **texts.messages(), **headers.messages(), **large.messages()}
CORPUS = {**PYTHONS, **MADE}
# The labels of a mailbox, all of them on one message.
ALL_LABELS = 10_000 * (len("Label_") + 19 + 1)
Found = dict[str, Any]
Exceptions = Mapping[str, Leaves | Lower | Instead]


def test_pythons_own_messages_are_there(require: Require) -> None:
    """The messages that CPython tests its own parser with are part of the corpus."""
    require(PYTHONS, "this Python comes without its tests, which have the messages: `test.test_email` is not there")
    assert len(PYTHONS) > 40


@pytest.mark.parametrize("name", CORPUS)
def test_as_the_oracle_reads_it(name: str) -> None:
    """Headers, text, HTML and attachments are those that Python's `email` finds, but for the exceptions listed."""
    _compare(name, CORPUS[name])


def test_exceptions_are_of_the_corpus() -> None:
    """No exception is listed for a message that there is not."""
    listed = {name for name in EXCEPTIONS if PYTHONS or not name.startswith("msg_")}
    assert listed <= CORPUS.keys() | {"large-files-1100"}


def test_the_largest_message() -> None:
    """A message of 150 MB, the most that Gmail stores, is read like any other."""
    message = oracle.parse(large.largest())
    content = read_content(payload.part_tree(message))
    expected = oracle.body(message, {"text": large.TEXTS})
    assert "".join(text.plain(content)) == expected["text"]
    ((_, kind, digest),) = expected["attachments"]
    (file,) = content.files
    assert (file.attachment.mime_type, _digest(file.attachment, message)) == (kind, digest)
    assert file.attachment.size > large.LARGE_BYTES * 0.74
    assert content.truncated == ()


# The local Gmail decodes each encoded word by itself, and leaves out the space between two of which one is broken.
SHOWN_OTHERWISE = {"header-to-encoded-in-halves", "header-subject-encoded-broken"}


@pytest.mark.parametrize("name", [name for name, raw in CORPUS.items() if b"=?" in raw.partition(b"\r\n\r\n")[0]])
def test_headers_as_they_were_sent(name: str) -> None:
    """Headers are read alike, whether they come as they were sent or as Gmail shows them, decoded and without folds."""
    source = mime.parse(CORPUS[name])
    tree = payload.part_tree(source)
    sent = [
        (key, str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        for key, value in source.raw_items()
    ]
    as_sent = read_content({**tree, "headers": [{"name": key, "value": value} for key, value in sent]})
    assert (as_sent.headers == read_content(tree).headers) == (name not in SHOWN_OTHERWISE)


def test_more_files_than_a_document_names() -> None:
    """Of more files than a document has room for the first are listed, and it is said that there are more."""
    _compare("large-files-1100", large.too_many())


def _compare(name: str, raw: bytes) -> None:
    source, message, exceptions = mime.parse(raw), oracle.parse(raw), EXCEPTIONS.get(name, {})
    content = read_content(payload.part_tree(source))
    read, expected = _read(content, source), _expected(message, exceptions)
    if expected.pop("in words"):
        read["text"], expected["text"] = "".join(read["text"].split()), oracle.words(expected["text"])
    assert read == expected
    assert stored_size(_document(content)) + ALL_LABELS < LIMIT
    for field, line in exceptions.items():
        newer = isinstance(line, Instead) and line.newer
        assert newer or not _would_do_without(message, field, exceptions, read), f"not needed: {line}"


def _would_do_without(message: EmailMessage, field: str, exceptions: Exceptions, read: Found) -> bool:
    """Whether an exception changes nothing."""
    try:
        expected = _expected(message, {other: line for other, line in exceptions.items() if other != field})
    except LookupError:
        # Python does not read the message at all.
        return False
    said = oracle.words(expected[field]) if expected["in words"] and field == "text" else expected[field]
    return bool(read[field] == said)


def _expected(message: EmailMessage, exceptions: Exceptions) -> Found:
    leaves_of = {field: line.numbers for field, line in exceptions.items() if isinstance(line, Leaves)}
    found: Found = {"truncated": ()} | oracle.headers(message)
    try:
        found |= oracle.body(message, leaves_of)
    except LookupError:
        if not isinstance(exceptions.get("text"), Instead):
            raise
        found |= {"html": "", "in words": False, "rendered": False, "attachments": []}
    for field, line in exceptions.items():
        if isinstance(line, Lower):
            found[field] = [(person, address.lower()) for person, address in found[field]]
        elif isinstance(line, Instead):
            found[field] = line.value
    return found


def _read(content: Content, source: Source) -> Found:
    said = content.headers
    return {
        "subject": said.subject,
        "date": said.date,
        "from": _people((said.from_,) if said.from_ != Address() else ()),
        "to": _people(said.to),
        "cc": _people(said.cc),
        "bcc": _people(said.bcc),
        "reply-to": _people(said.reply_to),
        "message-id": said.message_id,
        "in-reply-to": list(said.in_reply_to),
        "references": list(said.references),
        "text": "".join(text.plain(content)),
        "html": "".join(text.html(content)),
        "rendered": text.rendered(content),
        "attachments": [
            (told.filename, told.mime_type, _digest(told, source))
            for told in (file.attachment for file in content.files)
        ],
        "truncated": content.truncated,
    }


def _digest(told: Attachment, source: Source) -> str:
    return oracle.digest(None if told.mime_type.startswith("message/") else payload.bytes_of(source, told.part_id))


def _people(people: tuple[Address, ...]) -> list[tuple[str, str]]:
    return [(person.name, person.address) for person in people]


def _document(content: Content) -> dict[str, Any]:
    plain, html = "".join(text.plain(content)), "".join(text.html(content))
    fits = len(plain.encode()) + len(html.encode()) <= INLINE_BYTES
    return message_document(
        Message(
            id="1" * 16,
            thread_id="1" * 16,
            label_ids=frozenset(),
            history_id=2**62,
            internal_date=datetime(2026, 11, 20, tzinfo=UTC),
            size_estimate=2**40,
            snippet=clip(plain, 2_000),
            headers=content.headers,
            body=Body(plain, html) if fits else Body(stored="storage", uri="gs://bucket/" + "x" * 330),
            attachments=tuple(file.attachment for file in content.files),
            protection=content.protection,
            truncated=content.truncated,
        )
    )
