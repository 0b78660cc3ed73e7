"""Messages that are large, deep or many: 150 MB, 50 levels, 2,000 parts, a thread of 100."""

import base64

from tests.corpus.mail import file, html, lines, mail, multi, part, plain

LARGE_BYTES = 150_000_000
# The parts that are text in the largest.
TEXTS = (0, 2)
FILES = 1_100


def messages() -> dict[str, bytes]:
    """Return them by name, the largest aside."""
    return {
        "large-nested-50": mail(_nested(50)),
        "large-nested-50-messages": mail(_nested_messages(50)),
        "large-files-500": mail(multi("mixed", plain(), *[file("x/y", f"{number}.bin") for number in range(500)])),
        "large-texts-500": mail(multi("mixed", *[plain(f"text {number}\n") for number in range(500)])),
        "large-html": mail(multi("alternative", plain(), html("<p>one paragraph</p>\n" * 12_000))),
        "large-html-alone": mail(html("<p>one paragraph</p>\n" * 12_000)),
        **thread(),
    }


def too_many() -> bytes:
    """Return a message of more files than a document names."""
    return mail(multi("mixed", plain(), *[file("x/y", f"{number}.bin") for number in range(FILES)]))


def largest() -> bytes:
    """Return a message of 150 MB, the most that Gmail stores: a text, a file on one line of base64, and a footer."""
    encoded = base64.b64encode(bytes(300)) * ((LARGE_BYTES - 10_000) // 400)
    data = b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded
    return mail(multi("mixed", plain(), data, plain("footer\n")))


def thread(length: int = 100) -> dict[str, bytes]:
    """Return the messages of one thread, each an answer to the one before."""
    return {f"thread-{number:03}": _answer(number) for number in range(length)}


def _answer(number: int) -> bytes:
    people = ("Ann <ann@example.com>", '"Bob Smith" <bob@example.org>', "=?utf-8?q?J=C3=B6rg?= <j@example.net>")
    references = "".join(f"\n <{earlier}@example.com>" for earlier in range(number))
    head = lines(f"""
        From: {people[number % 3]}
        To: {people[(number + 1) % 3]}
        Cc: {people[(number + 2) % 3]}
        Subject: {"Re: " if number else ""}Plans
        Date: Fri, 20 Nov 2026 {number // 60:02}:{number % 60:02}:00 +0000
        Message-ID: <{number}@example.com>
        """)
    if number:
        head += lines(f"In-Reply-To: <{number - 1}@example.com>\nReferences:{references}\n")
    said = f"Answer {number}.\n\nOn Friday, somebody wrote:\n> Answer {number - 1}.\n"
    if number % 3 == 0:
        return head + plain(said)
    both = multi(
        "alternative", plain(said), html(f"<p>Answer {number}.</p><blockquote>Answer {number - 1}.</blockquote>")
    )
    return head + (both if number % 3 == 1 else multi("mixed", both, file("application/pdf", f"{number}.pdf")))


def _nested(levels: int) -> bytes:
    nested = plain("at the bottom\n")
    for level in range(levels):
        nested = multi("mixed", nested, file("x/y", f"{level}.bin"), parameters=f"; level={level}")
    return nested


def _nested_messages(levels: int) -> bytes:
    nested = b"Subject: bottom\r\n" + part("text/plain", "at the bottom")
    for _ in range(levels):
        nested = b"Content-Type: message/rfc822\r\n\r\n" + nested
    return multi("mixed", plain(), nested)
