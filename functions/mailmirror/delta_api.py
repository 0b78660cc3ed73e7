"""HTTP of the delta log: pages, long polling and server-sent events.

Knows: parameters, and how an event stream is written (https://html.spec.whatwg.org/multipage/server-sent-events.html).
Does not know: what a delta is.
"""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import cast, get_args

from flask import Request, Response

from mailmirror.api import Route, as_json
from mailmirror.app import App
from mailmirror.deltas import MAX_LIMIT, Ask, Page
from mailmirror.errors import InvalidInput, MailmirrorError
from mailmirror.finding import once
from mailmirror.log import log
from mailmirror.model import ChangeType, Origin

# Seconds: of an answer, of a stream, and of silence in one.
MAX_WAIT = 60.0
MAX_STREAM = 180.0
HEARTBEAT = 10.0
_STREAM = "text/event-stream"
_HEADERS = {"Cache-Control": "private, no-store", "X-Accel-Buffering": "no"}


def delta_routes(app: App, request: Request) -> tuple[Route, ...]:
    """Return the routes below `/mailboxes/{m}/deltas`."""

    def latest(address: str) -> Response:
        once(dict(request.args.lists()), ())
        return _told(as_json({"cursor": app.deltas.latest(address)}))

    def deltas(address: str) -> Response:
        streams = any(kind.split(";")[0].strip().lower() == _STREAM and q > 0 for kind, q in request.accept_mimetypes)
        given = once(dict(request.args.lists()), ("cursor", "limit", "types", "origin", "wait"))
        ask = Ask(
            cursor=given.get("cursor"),
            limit=_limit(given.get("limit", "100")),
            types=frozenset(cast("list[ChangeType]", _some_of(given, "types", get_args(ChangeType)))),
            origins=frozenset(cast("list[Origin]", _some_of(given, "origin", get_args(Origin)))),
        )
        wait = _wait(given, MAX_STREAM if streams else 0.0, MAX_STREAM if streams else MAX_WAIT)
        if not streams:
            page = app.deltas.follow(address, ask, 0.0 if request.method == "HEAD" else wait)
            return _told(as_json({"deltas": page.deltas, "cursor": page.cursor, "more": page.more}))
        if last := request.headers.get("Last-Event-ID"):
            ask = replace(ask, cursor=last)
        page = app.deltas.page(address, ask)
        events = () if request.method == "HEAD" else _events(app, address, ask, page, wait)
        return _told(Response(events, content_type=f"{_STREAM}; charset=utf-8"))

    return (
        Route("GET", "/mailboxes/{m}/deltas", deltas),
        Route("GET", "/mailboxes/{m}/deltas/latest-cursor", latest),
    )


def _events(app: App, address: str, ask: Ask, page: Page, wait: float) -> Iterator[str]:
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
        log("request_failed", level=logging.INFO, error=type(error).__name__, reason=str(error))


def _limit(text: str) -> int:
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidInput(f"limit must be a number from 1 to {MAX_LIMIT}.")
    return int(text)


def _wait(given: dict[str, str], default: float, most: float) -> float:
    text = given.get("wait", str(default))
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", text) or float(text) > most:
        raise InvalidInput(f"wait must be a number of seconds from 0 to {most:.0f}.")
    return float(text)


def _some_of(given: dict[str, str], name: str, known: Sequence[str]) -> list[str]:
    names = given[name].split(",") if name in given else []
    if not set(known).issuperset(names):
        raise InvalidInput(f"{name} must be some of {', '.join(known)}, with commas between them.")
    return names


def _told(answer: Response) -> Response:
    answer.headers.update(_HEADERS)
    return answer
