"""HTTP of read_mailboxes: what applications read.

Knows: its routes and parameters; how an event stream is written
(https://html.spec.whatwg.org/multipage/server-sent-events.html); of attachments, which types no browser takes for a
program, how a name is put into a header (RFC 6266, RFC 8187), how much Cloud Run sends at once: a sender chose type and
name, neither is trusted. Does not know: what the calls do, where bytes are from, or the error model (`api`).
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import Literal, cast, get_args
from urllib.parse import quote

from flask import Request, Response

from mailmirror import deltas
from mailmirror.api import Route, as_json, routed
from mailmirror.app import App
from mailmirror.errors import InvalidInput, MailmirrorError
from mailmirror.finding import Ask, Kind, Page, limit, once, read_ask
from mailmirror.log import log
from mailmirror.model import Attachment, ChangeType, Origin
from mailmirror.slice import Document

# Other than the bytes of attachments it may change at any time.
_HEADERS = {"Cache-Control": "private, no-store"}
# Seconds: of an answer that waits, of a stream, and of silence in one.
MAX_WAIT = 60.0
MAX_STREAM = 180.0
HEARTBEAT = 10.0
_STREAM = "text/event-stream"

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
        answer = _fresh(as_json(document))
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

    def latest(address: str) -> Response:
        once(dict(request.args.lists()), ())
        return _fresh(as_json({"cursor": app.deltas.latest(address)}))

    def changes(address: str) -> Response:
        streams = any(kind.split(";")[0].strip().lower() == _STREAM and q > 0 for kind, q in request.accept_mimetypes)
        given = once(dict(request.args.lists()), ("cursor", "limit", "types", "origin", "wait"))
        ask = deltas.Ask(
            cursor=given.get("cursor"),
            limit=limit(given, "100", deltas.MAX_LIMIT),
            types=frozenset(cast("list[ChangeType]", _some_of(given, "types", get_args(ChangeType)))),
            origins=frozenset(cast("list[Origin]", _some_of(given, "origin", get_args(Origin)))),
        )
        wait = _wait(given, MAX_STREAM if streams else 0.0, MAX_STREAM if streams else MAX_WAIT)
        if not streams:
            page = app.deltas.follow(address, ask, 0.0 if request.method == "HEAD" else wait)
            return _fresh(as_json({"deltas": page.deltas, "cursor": page.cursor, "more": page.more}))
        if last := request.headers.get("Last-Event-ID"):
            ask = replace(ask, cursor=last)
        page = app.deltas.page(address, ask)
        events = () if request.method == "HEAD" else _events(app, address, ask, page, wait)
        headers = {"X-Accel-Buffering": "no"}
        return _fresh(Response(events, headers=headers, content_type=f"{_STREAM}; charset=utf-8"))

    return routed(
        request,
        Route("GET", "/mailboxes/{m}/threads", partial(listing, "threads")),
        Route("GET", "/mailboxes/{m}/threads/{id}", thread),
        Route("GET", "/mailboxes/{m}/messages", partial(listing, "messages")),
        Route("GET", "/mailboxes/{m}/messages/{id}", message),
        Route("GET", "/mailboxes/{m}/messages/{id}/attachments/{partId}", attachment),
        # Of a message that is nothing but a file the part id is empty.
        Route("GET", "/mailboxes/{m}/messages/{id}/attachments", attachment),
        Route("GET", "/mailboxes/{m}/deltas", changes),
        Route("GET", "/mailboxes/{m}/deltas/latest-cursor", latest),
    )


def _page(page: Page, name: str, answer: Document | None = None) -> Response:
    token = {} if page.next is None else {"nextPageToken": page.next}
    return _fresh(as_json({**(answer or {}), name: page.documents, **token}))


def _fresh(answer: Response) -> Response:
    answer.headers.update(_HEADERS)
    return answer


def _told(pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from pieces
    except MailmirrorError as error:
        _failed(error)
        raise


def _failed(error: MailmirrorError) -> None:
    log("request_failed", level=logging.INFO, error=type(error).__name__, reason=str(error))


def _events(app: App, address: str, ask: deltas.Ask, page: deltas.Page, wait: float) -> Iterator[str]:
    """Yield a stream that begins with a page; the client comes back after it."""
    until = app.clock.now() + timedelta(seconds=wait)
    yield "retry: 1000\n\n"
    try:
        while True:
            for delta in page.deltas:
                yield f"id: {delta['cursor']}\nevent: delta\ndata: {json.dumps(delta)}\n\n"
            # Without data it is no event: it moves on behind what was left out, and keeps the stream open.
            yield f"id: {page.cursor}\n\n" if page.cursor != ask.cursor else ":\n\n"
            left = (until - app.clock.now()).total_seconds()
            if left <= 0:
                return
            ask = replace(ask, cursor=page.cursor)
            page = app.deltas.follow(address, ask, min(HEARTBEAT, left), page)
    except MailmirrorError as error:
        _failed(error)


def _wait(given: Mapping[str, str], default: float, most: float) -> float:
    text = given.get("wait", str(default))
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", text) or float(text) > most:
        raise InvalidInput(f"wait must be a number of seconds from 0 to {most:.0f}.")
    return float(text)


def _some_of(given: Mapping[str, str], name: str, known: Sequence[str]) -> list[str]:
    names = given[name].split(",") if name in given else []
    if not set(known).issuperset(names):
        raise InvalidInput(f"{name} must be some of {', '.join(known)}, with commas between them.")
    return names


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
