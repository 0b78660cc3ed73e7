"""HTTP of read_mailboxes: what applications read.

Knows: its routes and parameters. Does not know: what the calls do, or the error model (`api`).
"""

import logging
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Literal

from flask import Request, Response

from mailmirror.api import Route, as_json, routed
from mailmirror.app import App
from mailmirror.delta_api import delta_routes
from mailmirror.download import download
from mailmirror.errors import MailmirrorError
from mailmirror.finding import Ask, Kind, Page, read_ask
from mailmirror.log import log
from mailmirror.slice import Document

# Other than the bytes of attachments it may change at any time.
_HEADERS = {"Cache-Control": "private, no-store"}


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
