"""Mailmirror's three HTTP functions for tests of the command: the real routes over a whole Mailmirror in one process.

Knows: how they are served below one address, and that work goes on between two requests, as it does in the cloud. Does
not know: routes. A test may take a request itself, to be something that the real ones are not at will.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from flask import Request, Response
from mailmirror import api, read_api
from werkzeug.serving import make_server

from mailmirror_cli.target import VARIABLES
from tests.world import World

# Answers a request instead of the function, or leaves it to it.
Take = Callable[[Request], Response | None]


class Functions:
    """The functions over a world.

    Attributes:
        world: what they work on.
        take: sees every request first.
        token: the bearer token that is demanded, if any.
        asked: method, function, path and query of every request.
        working: whether a piece of work is done after each request.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.take: Take = lambda request: None
        self.token: str | None = None
        self.asked: list[tuple[str, str, str, str]] = []
        self.working = True

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer `/{function}/…`."""
        name, _, rest = environ["PATH_INFO"].lstrip("/").partition("/")
        request = Request({**environ, "PATH_INFO": f"/{rest}"})
        self.asked.append((request.method, name, request.path, request.query_string.decode()))
        response = self._answer(name, request)
        if self.working and self.world.outbox.work:
            self.world.work_once()
        return response(environ, start_response)

    def _answer(self, name: str, request: Request) -> Response:
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return Response("<h1>Error: Unauthorized</h1>", 401)
        taken = self.take(request)
        if taken is not None:
            return taken
        handle: dict[str, Callable[[Any, Request], Response]] = {
            "manage_mailboxes": api.manage_mailboxes,
            "trigger_sync": api.trigger_sync,
            "read_mailboxes": read_api.read_mailboxes,
        }
        return handle[name](self.world.app, request)


@contextmanager
def served(functions: Functions) -> Iterator[str]:
    """Yield the address below which the functions answer, one request at a time."""
    server = make_server("127.0.0.1", 0, functions)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def local(address: str, environment: pytest.MonkeyPatch) -> None:
    """Set what `make dev` prints."""
    for name, variable in VARIABLES.items():
        environment.setenv(variable, f"{address}/{name}")
