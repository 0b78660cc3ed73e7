"""`python -m local.google`: OAuth and Secret Manager as a process, for the stack.

It serves until it is told to stop. `/control` is what a test does in Google's place:

    POST /control/clients    {"name", "kind", "redirect_uris"}: register an OAuth client; answers what the console would
    POST /control/browser    {"user"}: who sits at the browser; null: who is expected there; "": somebody who says no
    POST /control/withdraw   {"user"}: this user takes every consent back
    GET  /control/secrets    tokens, codes, states: everything that nobody may find in a log

It does not know the rules: `oauth` and `secretmanager` do.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import flask

from local.gmail.server import serve
from local.google import oauth, secretmanager
from local.google.server import create_app


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted or terminated."""
    parser = argparse.ArgumentParser(prog="python -m local.google", description="Fakes of OAuth and Secret Manager.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes any free one")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)
    consents, manager = oauth.OAuth(), secretmanager.SecretManager()
    app = create_app(oauth.blueprint(consents), secretmanager.blueprint(manager), _control(consents))
    server = serve(app, options.host, options.port)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return 0


def _control(consents: oauth.OAuth) -> flask.Blueprint:
    http = flask.Blueprint("control", __name__, url_prefix="/control")

    @http.post("/clients")
    def clients() -> dict[str, Any]:
        wish = flask.request.get_json(force=True)
        root = flask.request.host_url.rstrip("/")
        with consents.lock:
            return consents.client(root, wish["name"], wish["kind"], redirect_uris=wish["redirect_uris"])

    @http.post("/browser")
    def browser() -> dict[str, Any]:
        with consents.lock:
            consents.user = flask.request.get_json(force=True)["user"]
        return {}

    @http.post("/withdraw")
    def withdraw() -> dict[str, Any]:
        with consents.lock:
            consents.withdraw(flask.request.get_json(force=True)["user"])
        return {}

    @http.get("/secrets")
    def secrets() -> dict[str, Any]:
        with consents.lock:
            return {"secrets": sorted(consents.secrets() | consents.states())}

    return http


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
