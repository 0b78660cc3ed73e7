"""A threaded HTTP/1.1 server for one WSGI application, on the standard library.

It knows connections that stay open and connections that are dropped on purpose. Werkzeug's server knows neither: it
closes after each answer and waits 10 ms before, and httplib2 would measure that instead of Gmail. It does not know TLS,
chunked requests or the internet: for loopback only.
"""

from __future__ import annotations

import io
import socket
import socketserver
import struct
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication, WSGIEnvironment

# In the environment of each request: a function that makes the connection break instead of answering.
DROP = "fake_gmail.drop"


class Server(socketserver.ThreadingTCPServer):
    """Listens as soon as it is made; `serve_forever`, `shutdown` and `server_close` as usual."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, app: WSGIApplication) -> None:
        self.app = app
        super().__init__((host, port), _Handler)

    @property
    def server_port(self) -> int:
        """The port it listens on, also when any free one was asked for."""
        port = self.server_address[1]
        assert isinstance(port, int)
        return port

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is nothing to report; anything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection, request after request."""

    server: Server
    protocol_version = "HTTP/1.1"
    # Headers and body leave in two writes: with Nagle's algorithm each answer on a kept connection would take 40 ms.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """One request of any method."""
        length = self.headers.get("Content-Length", "0")
        if self.headers.get("Transfer-Encoding") or not length.isdecimal():
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
            return
        body = self.rfile.read(int(length))
        started: list[tuple[str, list[tuple[str, str]]]] = []
        dropped: list[bool] = []

        def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> Any:
            started.append((status, headers))

        answer = self.server.app(self._environment(body) | {DROP: lambda: dropped.append(True)}, start_response)
        try:
            content = b"".join(answer)
        finally:
            close = getattr(answer, "close", None)
            if close:
                close()
        if dropped:
            # No byte is sent; with lingering off, closing resets the connection.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        status, headers = started[-1]
        code, _, phrase = status.partition(" ")
        self.send_response_only(int(code), phrase)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do_GET

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's own word
        """One line per call would drown what the demonstration has to say."""

    def _environment(self, body: bytes) -> WSGIEnvironment:
        path, _, query = self.path.partition("?")
        environment: WSGIEnvironment = {
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(path, "latin-1"),
            "QUERY_STRING": query,
            "RAW_URI": self.path,
            "SERVER_NAME": str(self.server.server_address[0]),
            "SERVER_PORT": str(self.server.server_port),
            "SERVER_PROTOCOL": self.request_version,
            "REMOTE_ADDR": self.client_address[0],
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in self.headers.items():
            key = "HTTP_" + name.upper().replace("-", "_")
            if key not in {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"}:
                environment[key] = f"{environment[key]},{value}" if key in environment else value
        return environment
