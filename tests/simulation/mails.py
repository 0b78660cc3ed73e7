"""The mail of the simulation: a few dozen messages, made and read once for all worlds.

Knows: that some answer others and belong to their threads, that some are large enough for Cloud Storage, that some have
files, of which several have the same, that some are HTML alone, and that what the fake works out of a source can be
worked out beforehand. Does not know: who gets them.
"""

from datetime import UTC, datetime
from functools import cache

from local.gmail.message import StoredMessage

# What is large in the simulation, see `sizes`.
LARGE = 400
COUNT = 24
# Of these messages the large text comes as HTML, too.
BOTH = 4


def source(number: int) -> bytes:
    """Return one of the messages; of three, the second and the third answer the first."""
    first = number - number % 3
    answers = f"In-Reply-To: <{first}@example.com>\r\nReferences: <{first}@example.com>\r\n" if number % 3 else ""
    head = (
        f"From: Grace {number} <Grace{number}@example.com>\r\nTo: ada@example.com\r\nSubject: Subject {first}\r\n"
        f"Message-ID: <{number}@example.com>\r\n{answers}"
    )
    return (head + _content(number)).encode()


def _content(number: int) -> str:
    text = f"Message {number}." + (" More." * LARGE if number % 3 == 1 else "")
    plain = f"Content-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n"
    html = f"Content-Type: text/html; charset=utf-8\r\n\r\n<p>{text}</p>\r\n"
    if number % 6 == 5:
        return html
    if number % 6 == BOTH:
        plain = _multipart("alternative", plain, html)
    # There are two files, of which one comes alone and one twice.
    times = 1 + number // 4 % 2
    files = [_file(f"%PDF {times}")] * times if number % 4 == 0 else []
    return _multipart("mixed", plain, *files) if files else plain


def _file(data: str) -> str:
    return f"Content-Type: application/pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\n{data}"


def _multipart(subtype: str, *parts: str) -> str:
    inner = "".join(f"--{subtype}\r\n{part}\r\n" for part in parts)
    return f"Content-Type: multipart/{subtype}; boundary={subtype}\r\n\r\n{inner}--{subtype}--\r\n"


SOURCES = tuple(source(number) for number in range(COUNT))
LARGE_SOURCES = tuple(raw for raw in SOURCES if len(raw) > 4 * LARGE)


@cache
def _read(raw: bytes) -> StoredMessage:
    message = StoredMessage("", "", [], 0, raw, datetime(2026, 1, 1, tzinfo=UTC), "", "")
    message.to_api("full", (), lambda _message_id, _part_id: "")
    message.truth()
    return message


def prepare(message: StoredMessage) -> None:
    """Give a message what has been read of its source before: each world has the same few dozen."""
    known = _read(message.raw)
    message._tree, message._snippet, message._truth = known._tree, known._snippet, known._truth
