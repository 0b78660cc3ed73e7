"""The mail of the simulation: a few dozen messages, made and read once for all worlds.

Knows: that some answer others and belong to their threads, that some are large enough for Cloud Storage, and that what
the fake works out of a source can be worked out beforehand. Does not know: who gets them.
"""

from datetime import UTC, datetime
from functools import cache

from local.gmail.message import StoredMessage

# What is large in the simulation, see `sizes`.
LARGE = 400
COUNT = 24


def source(number: int) -> bytes:
    """Return one of the messages; of three, the second and the third answer the first."""
    first = number - number % 3
    answers = f"In-Reply-To: <{first}@example.com>\r\n" if number % 3 else ""
    text = f"Message {number}." + (" More." * LARGE if number % 3 == 1 else "")
    return (
        f"From: Grace {number} <grace{number}@example.com>\r\nTo: ada@example.com\r\nSubject: Subject {first}\r\n"
        f"Message-ID: <{number}@example.com>\r\n{answers}Content-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n"
    ).encode()


SOURCES = tuple(source(number) for number in range(COUNT))


@cache
def _read(raw: bytes) -> StoredMessage:
    message = StoredMessage("", "", [], 0, raw, datetime(2026, 1, 1, tzinfo=UTC), "", "")
    message.to_api("full", (), str)
    message.truth()
    return message


def prepare(message: StoredMessage) -> None:
    """Give a message what has been read of its source before: each world has the same few dozen."""
    known = _read(message.raw)
    message._tree, message._snippet, message._truth = known._tree, known._snippet, known._truth
