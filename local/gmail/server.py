"""The Gmail API over HTTP, single calls and batches, and the control API beside it.

It knows Flask: who calls, how long it takes, how an error looks. It does not know how connections break
(`wsgi` does) nor Gmail's semantics (`world` does).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from local.gmail.batch import BOUNDARY, InnerAnswer, parse_batch, write_batch
from local.gmail.calls import Call, parse_call
from local.gmail.control import control_blueprint
from local.gmail.errors import ApiError, ConnectionDropped, Silence, of_status
from local.gmail.notifications import Notifier
from local.gmail.world import World
from local.gmail.wsgi import DROP, Server

# Whom an access token is good for; None if it is not good.
Whose = Callable[[str], str | None]


class UnderWay:
    """The calls of unanswered batches that have been made: they are under way until their batch is answered."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()
        self._lock = Lock()

    @contextmanager
    def batch(self) -> Iterator[Callable[[str], AbstractContextManager[int]]]:
        """Within this context a batch is under way. What it gives is a context for each of its calls, by user, and says
        how many others were made before.
        """
        mine: Counter[str] = Counter()

        @contextmanager
        def call(user_id: str) -> Iterator[int]:
            try:
                yield self._calls[user_id]
            finally:
                with self._lock:
                    mine[user_id] += 1
                    self._calls[user_id] += 1

        try:
            yield call
        finally:
            with self._lock:
                self._calls -= mine


def create_app(world: World, notifier: Notifier | None = None, whose: Whose | None = None) -> Flask:
    """The fake Gmail as a WSGI application; without a notifier its knobs answer that there is none.

    With `whose` it believes access tokens alone, as Gmail does; without it whatever its callers say of themselves.
    """
    app = Flask("fake_gmail")
    under_way = UnderWay()
    app.register_blueprint(control_blueprint(world, notifier))

    @app.get("/")
    def health() -> str:
        return "OK"

    @app.route("/gmail/v1/users/<path:_rest>", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def single(_rest: str) -> Response:
        world.sleep(world.latency)
        # Flask has decoded the path already; an address in it may hold a percent-encoded slash.
        path = urlsplit(request.environ.get("RAW_URI", request.path)).path
        query = request.query_string.decode("latin-1")
        call = parse_call(request.method, path, query, request.get_data())
        answer = _answer(world, call, request.headers.get("Authorization"), whose)
        return Response(status=204) if answer is None else _json(answer, 200)

    @app.post("/batch")
    @app.post("/batch/gmail/v1")
    def batch() -> Response:
        world.sleep(world.latency)
        answers: list[InnerAnswer] = []
        known = None if whose is None else cache(whose)
        inners = parse_batch(request.headers.get("Content-Type", ""), request.get_data())
        with under_way.batch() as making:
            for inner in inners:
                try:
                    call = parse_call(inner.verb, inner.path, inner.query, inner.body)
                    caller = inner.authorization or request.headers.get("Authorization")
                    with making(call.user_id) as before:
                        body = _answer(world, call, caller, known, before)
                    answers.append(InnerAnswer(inner.content_id, 204 if body is None else 200, body))
                except ApiError as error:
                    answers.append(InnerAnswer(inner.content_id, error.status, error.body()))
        return Response(write_batch(answers), content_type=f"multipart/mixed; boundary={BOUNDARY}")

    @app.errorhandler(ApiError)
    def refused(error: ApiError) -> Response:
        return _json(error.body(), error.status)

    @app.errorhandler(ConnectionDropped)
    @app.errorhandler(Silence)
    def dropped(_error: Exception) -> Response:
        drop = request.environ.get(DROP)
        if drop is None:
            raise TypeError("Only a real server has a connection to drop: start one with `serve`.")
        drop()
        return Response(status=500)

    @app.errorhandler(HTTPException)
    def unknown(error: HTTPException) -> Response:
        status = error.code or 500
        message = error.description or "Not Found"
        return _json(ApiError(status, of_status(status).reason, message).body(), status)

    return app


def serve(app: Flask, host: str = "127.0.0.1", port: int = 0) -> Server:
    """A server that listens already; the caller runs `serve_forever`. Port 0: any free one, see `server_port`."""
    return Server(host, port, app)


def _answer(
    world: World, call: Call, authorization: str | None, whose: Whose | None, crowd: int = 0
) -> dict[str, Any] | None:
    """The answer's body, or None where Gmail answers 204."""
    token = (authorization or "").removeprefix("Bearer ").strip()
    address = _said(world, call.user_id, token) if whose is None else _proven(call.user_id, whose(token))
    answer = world.call(address, call.method, call.params, crowd=crowd)
    return None if call.method == "users.stop" else answer


def _said(world: World, user_id: str, token: str) -> str:
    """`me` is whom the bearer token names; a token that names nobody is good if there is only one mailbox."""
    if user_id != "me":
        return user_id
    if "@" in token:
        return token
    only = world.only()
    if only is None:
        raise of_status(401)
    return only.address


def _proven(user_id: str, owner: str | None) -> str:
    """A token is good for its owner's mailbox and no other."""
    if owner is None:
        raise of_status(401)
    if owner.endswith(".gserviceaccount.com"):
        raise of_status(400, "failedPrecondition")
    if user_id.lower() not in ("me", owner.lower()):
        raise ApiError(403, "forbidden", f"Delegation denied for {owner}")
    return owner


def _json(body: dict[str, Any], status: int) -> Response:
    return Response(json.dumps(body), status, content_type="application/json; charset=UTF-8")
