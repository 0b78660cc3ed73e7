"""The fakes of this package behind one port.

Knows: Flask, and how a test serves an application for as long as it needs it. Does not know: what is served.
"""

from __future__ import annotations

import threading
from types import TracebackType

import flask

from local.gmail.server import serve


def create_app(*blueprints: flask.Blueprint) -> flask.Flask:
    """The fakes as one WSGI application; `/` answers when it is there."""
    app = flask.Flask("fake_google")
    for blueprint in blueprints:
        app.register_blueprint(blueprint)

    @app.get("/")
    def health() -> str:
        return "OK"

    return app


class Served:
    """An application on a loopback port, as a context.

    Attributes:
        host: `127.0.0.1:PORT`.
    """

    def __init__(self, app: flask.Flask) -> None:
        self._server = serve(app)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.host = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
