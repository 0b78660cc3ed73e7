"""What made-up mail consists of, as it looks on the wire.

It knows ordinary mail: text, HTML, both, with pictures in it, with files, an invitation, a footer that a mailing list
puts below, old charsets, the occasional monster. It does not know who writes to whom (`mail` does).
"""

from __future__ import annotations

import base64
import quopri
from collections.abc import Iterator, Sequence
from random import Random

_LARGE_BYTES = 310_000
_SENTENCES = (
    "Thanks for the quick answer.",
    "I had a look at the numbers and they add up, apart from March.",
    "Could you send me the slides before noon?",
    "The train leaves at 8:42 from platform 7, so let us meet at half past.",
    "Nothing urgent, but I would like to settle this before the holidays.",
    "The tests are green again; it was the clock after all.",
    "I agree with the first two points & disagree with the third.",
    "If x < y then the loop ends; otherwise we are here until Tuesday.",
    "Please find the signed copy attached.",
    "See you there!",
    "From what I remember, the old archive was never moved.",
    "We should write this down somewhere.",
)
_WESTERN = ("Grüße aus Köln, und schöne Ferien.", "Ça marche très bien, à bientôt.", "Mañana será otro día.")
_UNICODE = ("Всё готово, спасибо.", "了解しました。よろしくお願いします。", "Works for me 👍 — let’s ship it.")
_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_FOOTER = "_______________\r\nTo leave this list, write to leave@lists.example.\r\n"


def body(rng: Random, name: str, *, large: bool = False) -> bytes:
    """Return the content of a message, from its Content-Type on; `name` signs it."""
    text = _text(rng, name, large=large)
    shape = rng.random()
    if large:
        # The largest come alone; some have their HTML beside them, and a file behind it all.
        plain = _text_part(rng, "plain", text)
        both = _multipart(rng, "alternative", [plain, _text_part(rng, "html", _html(text))])
        return plain if shape < 0.5 else _multipart(rng, "mixed", [both, *_files(rng)])
    if shape < 0.45:
        return _text_part(rng, "plain", text)
    html = _text_part(rng, "html", _html(text))
    if shape < 0.48:
        return html
    both = _multipart(rng, "alternative", [_text_part(rng, "plain", text), html])
    if shape < 0.8:
        return both
    if shape < 0.95:
        return _multipart(rng, "mixed", [both, *_files(rng)])
    if shape < 0.97:
        return _with_picture(rng, text)
    if shape < 0.985:
        parts = [_text_part(rng, "plain", text), _picture("inline"), _text_part(rng, "plain", _FOOTER)]
        return _multipart(rng, "mixed", parts)
    return _invitation(rng, text)


def encoded_words(text: str) -> str:
    """Return text as a header may hold it."""
    if text.isascii():
        return text
    # An encoded word may hold 75 characters; twelve characters of any script fit into one.
    chunks = [text[start : start + 12] for start in range(0, len(text), 12)]
    return "\r\n ".join(f"=?utf-8?B?{base64.b64encode(chunk.encode()).decode()}?=" for chunk in chunks)


def _text(rng: Random, name: str, *, large: bool) -> str:
    sentences: tuple[str, ...] = _SENTENCES
    foreign = rng.random()
    if foreign < 0.2:
        sentences = _SENTENCES[:4] + _WESTERN
    elif foreign < 0.35:
        sentences = _SENTENCES[:4] + _UNICODE
    paragraphs = [
        " ".join(rng.choices(sentences, k=rng.randint(1, 4))) for _ in range(rng.randint(1, 5) if not large else 40)
    ]
    text = "\r\n\r\n".join([*paragraphs, name]) + "\r\n"
    return text * (_LARGE_BYTES // len(text) + 1) if large else text


def _html(text: str, end: str = "") -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    paragraphs = "".join(f"<p>{paragraph}</p>\r\n" for paragraph in escaped.strip().split("\r\n\r\n"))
    return f"<html><head><style>p {{ margin: 1em }}</style></head><body>\r\n{paragraphs}{end}</body></html>\r\n"


def _text_part(rng: Random, subtype: str, text: str) -> bytes:
    if text.isascii():
        return f"Content-Type: text/{subtype}; charset=us-ascii\r\n\r\n{text}".encode()
    charset = "utf-8"
    if all(ord(char) < 256 for char in text) and rng.random() < 0.6:
        charset = "iso-8859-1"
    data = text.encode(charset)
    if rng.random() < 0.5:
        encoding, data = "quoted-printable", quopri.encodestring(data).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    else:
        encoding, data = "base64", _base64(data)
    head = f"Content-Type: text/{subtype}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + data


def _files(rng: Random) -> Iterator[bytes]:
    report = b"%PDF-1.4\n" + rng.randbytes(rng.randrange(500, 20_000))
    kinds = (
        ("application/pdf", f"report-{rng.randrange(100)}.pdf", report),
        ("image/png", "lake.png", _PIXEL),
        ("text/plain", "notes.txt", "Notizen: schön aufräumen.\n".encode()),
        ("text/csv", "Zahlen März.csv", b"month,sum\nMarch,41\n"),
    )
    for kind, name, data in rng.sample(kinds, rng.randint(1, 2)):
        yield _part(kind, "attachment", name, data)


def _with_picture(rng: Random, text: str) -> bytes:
    """HTML that shows a picture which comes with it."""
    content_id = f"{rng.getrandbits(64):016x}@mail.example"
    html = _text_part(rng, "html", _html(text, f'<img src="cid:{content_id}">\r\n'))
    related = _multipart(rng, "related", [html, _picture("inline", f"Content-ID: <{content_id}>\r\n")])
    return _multipart(rng, "alternative", [_text_part(rng, "plain", text), related])


def _invitation(rng: Random, text: str) -> bytes:
    """An invitation as calendars send it: another form of the text, and a file besides."""
    hour = rng.randrange(8, 18)
    event = (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\n"
        f"UID:{rng.getrandbits(64):016x}@mail.example\r\nDTSTART:20261201T{hour:02}0000Z\r\nSUMMARY:Lunch\r\n"
        "END:VEVENT\r\nEND:VCALENDAR\r\n"
    ).encode()
    form = b"Content-Type: text/calendar; charset=utf-8; method=REQUEST\r\n\r\n" + event
    forms = [_text_part(rng, "plain", text), _text_part(rng, "html", _html(text)), form]
    file = _part("application/ics", "attachment", "invite.ics", event)
    return _multipart(rng, "mixed", [_multipart(rng, "alternative", forms), file])


def _picture(disposition: str, headers: str = "") -> bytes:
    return _part("image/png", disposition, "lake.png", _PIXEL, headers)


def _part(kind: str, disposition: str, name: str, data: bytes, headers: str = "") -> bytes:
    head = (
        f'Content-Type: {kind}\r\nContent-Disposition: {disposition}; filename="{encoded_words(name)}"\r\n{headers}'
        "Content-Transfer-Encoding: base64\r\n\r\n"
    )
    return head.encode() + _base64(data)


def _base64(data: bytes) -> bytes:
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def _multipart(rng: Random, subtype: str, parts: Sequence[bytes]) -> bytes:
    boundary = f"=_{rng.getrandbits(64):016x}"
    head = f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n'.encode()
    delimiter = f"--{boundary}\r\n".encode()
    return head + b"".join(delimiter + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
