"""HTTP of read_mailboxes: what applications read.

Knows: its routes and parameters; of attachments, which types no browser takes for a program, how a name is put into a
header (RFC 6266, RFC 8187), how much Cloud Run sends at once: a sender chose type and name, neither is trusted. Does not
know: what the calls do, where bytes are from, or the error model (`api`).
"""

import logging
import re
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Literal
from urllib.parse import quote

from flask import Request, Response

from mailmirror.api import Route, as_json, routed
from mailmirror.app import App
from mailmirror.delta_api import delta_routes
from mailmirror.errors import MailmirrorError
from mailmirror.finding import Ask, Kind, Page, read_ask
from mailmirror.log import log
from mailmirror.model import Attachment
from mailmirror.slice import Document

# Other than the bytes of attachments it may change at any time.
_HEADERS = {"Cache-Control": "private, no-store"}

# Cloud Run sends at most 32 MiB if the length is told before (https://cloud.google.com/run/quotas). Below this it is,
# and a failure has an answer of its own.
WHOLE_BYTES = 30 * 2**20
NAME_LETTERS = 150
_EXTENSION_LETTERS = 20

_UNTOLD = "application/octet-stream"
_HARMLESS = re.compile(
    r"application/(gzip|json|msword|pdf|rtf|zip|vnd\.ms-(excel|outlook|powerpoint))"
    r"|application/vnd\.(oasis\.opendocument|openxmlformats-officedocument)\.[a-z0-9.-]{1,80}"
    r"|(audio|video)/[a-z0-9.-]{1,80}"
    r"|image/(avif|bmp|gif|heic|heif|jpeg|png|tiff|webp)"
    r"|text/(calendar|csv|plain)"
)
# Stand for themselves in an extended parameter.
_ATTR_CHAR = "!#$&+^`|"
# Names in some scripts, and some pictures, need them.
_JOINERS = "\u200c\u200d"


def read_mailboxes(app: App, request: Request) -> Response:
    """Threads, messages, attachments, deltas: see its routes."""

    def asked(kind: Kind) -> Ask:
        return read_ask(kind, dict(request.args.lists()))

    def listing(kind: Literal["threads", "messages"], address: str) -> Response:
        search = app.finding.threads if kind == "threads" else app.finding.messages
        return _page(search(address, asked(kind)), kind)

    def thread(address: str, thread_id: str) -> Response:
        document, page = app.finding.thread(address, thread_id, asked("thread"))
        return _page(page, "messages", {"thread": document})

    def message(address: str, message_id: str) -> Response:
        document, texts = app.messages.open(address, message_id, asked("message"))
        answer = as_json(document)
        answer.headers.update(_HEADERS)
        if texts is not None:
            # They end `body`, which is last in a document that ends in `}}` and a line feed.
            begun = answer.get_data()[:-3] + (b", " if document["body"] else b"")
            answer.response = _told(chain((begun,), texts, (b"}\n",)))
            del answer.headers["Content-Length"]
        return answer

    def attachment(address: str, message_id: str, part_id: str = "") -> Response:
        opened = app.attachments.open(address, message_id, part_id)
        headers, pieces = download(opened.attachment, opened.pieces)
        return Response(_told(pieces), headers=headers)

    return routed(
        request,
        Route("GET", "/mailboxes/{m}/threads", partial(listing, "threads")),
        Route("GET", "/mailboxes/{m}/threads/{id}", thread),
        Route("GET", "/mailboxes/{m}/messages", partial(listing, "messages")),
        Route("GET", "/mailboxes/{m}/messages/{id}", message),
        Route("GET", "/mailboxes/{m}/messages/{id}/attachments/{partId}", attachment),
        # Of a message that is nothing but a file the part id is empty.
        Route("GET", "/mailboxes/{m}/messages/{id}/attachments", attachment),
        *delta_routes(app, request),
    )


def _page(page: Page, name: str, answer: Document | None = None) -> Response:
    token = {} if page.next is None else {"nextPageToken": page.next}
    given = as_json({**(answer or {}), name: page.documents, **token})
    given.headers.update(_HEADERS)
    return given


def _told(pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from pieces
    except MailmirrorError as error:
        log("request_failed", level=logging.INFO, error=type(error).__name__, reason=str(error))
        raise


def download(attachment: Attachment, pieces: Iterator[bytes]) -> tuple[dict[str, str], Iterator[bytes]]:
    """Return an answer's headers and body by pieces; up to `WHOLE_BYTES` are read at once, and may fail."""
    headers = {
        "Content-Type": attachment.mime_type if _HARMLESS.fullmatch(attachment.mime_type) else _UNTOLD,
        "Content-Disposition": _disposition(attachment.filename),
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private",
    }
    first: list[bytes] = []
    length = 0
    for piece in pieces:
        first.append(piece)
        length += len(piece)
        if length > WHOLE_BYTES:
            break
    else:
        headers["Content-Length"] = str(length)
    return headers, chain(first, pieces)


def _disposition(filename: str) -> str:
    """Return what makes a browser save it, under its name if that is one."""
    name = _name(filename)
    plain = re.sub(r'[^ -~]|["\\%]', "_", name)
    told = f'attachment; filename="{plain}"'
    return told if plain == name else f"{told}; filename*=UTF-8''{quote(name, safe=_ATTR_CHAR)}"


def _name(filename: str) -> str:
    """Return a name of one folder and one line that reads as it is and is not too long."""
    letters = (letter if letter.isprintable() or letter in _JOINERS else "_" for letter in filename)
    name = re.sub(r"[/\\]", "_", "".join(letters)).strip(" .") or "attachment"
    if len(name) <= NAME_LETTERS:
        return name
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension) > _EXTENSION_LETTERS:
        return name[:NAME_LETTERS]
    return stem[: NAME_LETTERS - len(extension) - 1] + dot + extension
