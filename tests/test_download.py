"""How an attachment is answered: nothing that its sender chose does any harm, and an honest name arrives as it is."""

import re
from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror import read_api as module
from mailmirror.errors import StoreUnavailable
from mailmirror.model import Attachment
from mailmirror.read_api import NAME_LETTERS, download
from werkzeug.http import parse_options_header

DISPOSITION = re.compile(
    r"""attachment; filename="([ !#$&-\[\]-~]*)"(?:; filename\*=UTF-8''([A-Za-z0-9!#$&+.^_`|~%-]*))?"""
)


def headers(filename: str = "a.pdf", mime_type: str = "application/pdf") -> dict[str, str]:
    """The headers of an attachment of that name and type."""
    return download(Attachment("1", filename, mime_type, 3), iter([b"abc"]))[0]


def told(filename: str) -> str:
    """The name that a browser saves an attachment under."""
    disposition = headers(filename)["Content-Disposition"]
    match = DISPOSITION.fullmatch(disposition)
    assert match is not None, disposition
    name = match[1] if match[2] is None else unquote(match[2], errors="strict")
    # Another reader of the header understands the same.
    kind, options = parse_options_header(disposition)
    assert (kind, options) == ("attachment", {"filename": name})
    return name


@pytest.mark.parametrize(
    "mime_type",
    [
        "application/pdf",
        "application/zip",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/vnd.oasis.opendocument.text",
        "application/vnd.ms-excel",
        "image/png",
        "audio/x-wav",
        "video/mp4",
        "text/plain",
        "text/csv",
        "text/calendar",
    ],
)
def test_a_harmless_type_is_told(mime_type: str) -> None:
    """What no browser runs is called what the message calls it."""
    assert headers(mime_type=mime_type)["Content-Type"] == mime_type


@pytest.mark.parametrize(
    "mime_type",
    [
        "text/html",
        "TEXT/HTML",
        "text/html; charset=utf-8",
        "application/xhtml+xml",
        "image/svg+xml",
        "text/xml",
        "application/xml",
        "application/vnd.oasis.opendocument.text-flat-xml+xml",
        "application/javascript",
        "text/javascript",
        "application/ecmascript",
        "application/x-shockwave-flash",
        "application/octet-stream",
        "multipart/x-mixed-replace",
        "multipart/related",
        "message/rfc822",
        "text/css",
        "text/vbscript",
        "application/pdf\r\nSet-Cookie: a=b",
        "application/pdf\n",
        "image/png, text/html",
        "",
        "pdf",
        "\u0131mage/png",
    ],
)
def test_any_other_type_is_not_told(mime_type: str) -> None:
    """What a browser might run or show as a page of this server, and what is no type, is bytes and no more."""
    assert headers(mime_type=mime_type)["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize("filename", ["a.pdf", "Größe.html", "見積書.pdf", "\r\n.html", "", "x" * 5_000])
def test_it_is_saved_and_not_shown(filename: str) -> None:
    """Whatever its name, no browser shows it, guesses what it is, runs anything in it or keeps it for others."""
    found = headers(filename)
    assert found["Content-Disposition"].startswith("attachment; ")
    assert found["X-Content-Type-Options"] == "nosniff"
    assert found["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert found["Cache-Control"] == "private"


@pytest.mark.parametrize(
    "filename",
    [
        "report.pdf",
        "Quarterly report (final), v2 – 100 %.pdf",
        "Größe.pdf",
        "見積書.xlsx",
        "отчёт.docx",
        'He said "no".txt',
        "it's; a=b.txt",
        "100%41.txt",
        "👩\u200d🚀.png",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.pdf",
    ],
)
def test_an_honest_name_arrives(filename: str) -> None:
    """A name in any script is what a browser saves."""
    assert told(filename) == filename


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("a\r\nSet-Cookie: b=c.pdf", "a__Set-Cookie: b=c.pdf"),
        ("a\x00b.pdf", "a_b.pdf"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\Users\\ada\\a.pdf", "C:_Users_ada_a.pdf"),
        ("invoice\u202efdp.exe", "invoice_fdp.exe"),
        ("two\u2028lines.txt", "two_lines.txt"),
        ("half \ud800 a letter.txt", "half _ a letter.txt"),
        ("", "attachment"),
        ("...", "attachment"),
        (" . ", "attachment"),
        ("trailing.txt. ", "trailing.txt"),
    ],
    ids=repr,
)
def test_a_name_that_lies_or_leads_elsewhere(filename: str, name: str) -> None:
    """No name ends a header, names a folder, or is read in another order than it is written."""
    assert told(filename) == name


@pytest.mark.parametrize(
    ("filename", "end"),
    [("n" * 1_000 + ".pdf", ".pdf"), ("見" * 1_000 + ".xlsx", ".xlsx"), ("n" * 1_000, "n"), ("a." + "n" * 1_000, "n")],
    ids=["long", "long in Chinese", "no extension", "no real extension"],
)
def test_a_name_that_is_too_long(filename: str, end: str) -> None:
    """A long name is cut before its extension, so that the header stays short."""
    name = told(filename)
    assert len(name) == NAME_LETTERS
    assert name.endswith(end)
    assert filename.startswith(name.removesuffix(end))
    assert len(headers(filename)["Content-Disposition"]) < 4_096


@given(filename=st.text(), mime_type=st.text())
def test_no_header_can_be_broken_out_of(filename: str, mime_type: str) -> None:
    """Whatever name and type a sender gives, each header is one line of printable ASCII, and has one file name."""
    found = headers(filename, mime_type)
    for value in found.values():
        assert re.fullmatch(r"[ -~]+", value)
    assert told(filename)


def test_a_length_is_told_when_it_is_known() -> None:
    """What can be sent in one answer is read first, and its length is that of the bytes, whatever the mirror says."""
    attachment = Attachment("1", "a.pdf", "application/pdf", 9_999)
    found, pieces = download(attachment, iter([b"abc", b"", b"defg"]))
    assert found["Content-Length"] == "7"
    assert b"".join(pieces) == b"abcdefg"


def test_nothing_has_a_length_too() -> None:
    """An empty file is an answer of no bytes."""
    found, pieces = download(Attachment("1", "a.pdf", "application/pdf", 0), iter([]))
    assert found["Content-Length"] == "0"
    assert list(pieces) == []


def test_what_is_large_is_sent_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what fits into one answer there is no length, and no more is read than is asked for."""
    monkeypatch.setattr(module, "WHOLE_BYTES", 10)
    read = []

    def pieces() -> Iterator[bytes]:
        for number in range(6):
            read.append(number)
            yield b"four"

    found, body = download(Attachment("1", "a.pdf", "application/pdf", 24), pieces())
    assert "Content-Length" not in found
    assert read == [0, 1, 2]
    assert b"".join(body) == b"four" * 6
    assert read == [0, 1, 2, 3, 4, 5]


def test_a_failure_before_the_answer_is_the_answer() -> None:
    """Bytes that cannot be read to their end are not begun to be sent, as long as they fit into one answer."""

    def pieces() -> Iterator[bytes]:
        yield b"abc"
        raise StoreUnavailable("Cloud Storage does not answer.")

    with pytest.raises(StoreUnavailable):
        download(Attachment("1", "a.pdf", "application/pdf", 9), pieces())
