"""How a made-up message is written down: headers, a blank line, parts between boundaries; lines end as in mail."""

import base64
import textwrap

# Headers that every message of the corpus has, unless it is about them.
HEAD = b"From: Ann <ann@example.com>\r\nTo: bob@example.org\r\nDate: Fri, 20 Nov 2026 12:00:00 +0000\r\n"


def mail(source: str | bytes, head: bytes = HEAD) -> bytes:
    """Return a message.

    Args:
        source: the rest of it, from the next header on; text is dedented and gets the line ends of mail.
        head: its first headers.
    """
    return head + (source if isinstance(source, bytes) else lines(source))


def lines(source: str) -> bytes:
    """Return text as it is on the wire."""
    return textwrap.dedent(source).lstrip("\n").replace("\n", "\r\n").encode()


def part(kind: str, data: str | bytes = b"x", headers: str = "") -> bytes:
    """Return a part with its bytes in base64."""
    encoded = base64.encodebytes(data.encode() if isinstance(data, str) else data).replace(b"\n", b"\r\n")
    head = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\n{headers}\r\n"
    return head.encode() + encoded


def file(kind: str, name: str, data: bytes = b"\x00\x01\xff", disposition: str = "attachment", cid: str = "") -> bytes:
    """Return a part with a file name."""
    content_id = f"Content-ID: <{cid}>\r\n" if cid else ""
    return part(kind, data, f'Content-Disposition: {disposition}; filename="{name}"\r\n{content_id}')


def multi(kind: str, *parts: bytes, parameters: str = "") -> bytes:
    """Return a multipart."""
    boundary = f"=_{kind.replace('/', '_')}_{sum(map(len, parts))}"
    head = f'Content-Type: multipart/{kind}; boundary="{boundary}"{parameters}\r\n\r\n'.encode()
    delimiter = f"--{boundary}".encode()
    return head + b"".join(delimiter + b"\r\n" + each + b"\r\n" for each in parts) + delimiter + b"--\r\n"


def plain(text: str = "Hello Bob,\nthis is plain.\n", more: str = "") -> bytes:
    """Return a plain text."""
    return lines(f"Content-Type: text/plain; charset=utf-8{more}\nContent-Transfer-Encoding: 8bit\n\n") + lines(text)


def html(text: str = "<p>Hello <b>Bob</b>,</p>\n<p>this is HTML.</p>\n") -> bytes:
    """Return an HTML text."""
    return lines("Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n") + lines(text)
