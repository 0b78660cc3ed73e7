"""The client of one function, against a server that answers what it is told to, hangs up, or is not there."""

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from mailmirror_client import service
from mailmirror_client.service import Params, Service, ServiceError


@dataclass(frozen=True)
class Say:
    """An answer, in chunks.

    Attributes:
        body: JSON, or pieces of anything.
        breaks: whether the connection breaks before the end.
    """

    body: object = field(default_factory=dict)
    status: int = 200
    kind: str = "application/json"
    breaks: bool = False

    def pieces(self) -> Sequence[bytes]:
        """The body as it is sent."""
        if isinstance(self.body, list) and all(isinstance(piece, bytes) for piece in self.body):
            return self.body
        return [self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()]


@dataclass
class Scripted:
    """A server: what it says to one request after the other, the last for ever, and what it was asked."""

    answers: list[Say]
    address: str = ""
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def scripted(*answers: Say, port: int = 0) -> Iterator[Scripted]:
    """Run such a server."""
    script = Scripted(list(answers))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.asked.append((f"{self.command} {self.path}", dict(self.headers.items()), sent))
            say = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            self.send_response(say.status)
            self.send_header("Content-Type", say.kind)
            self.send_header("Transfer-Encoding", "chunked")
            if 300 <= say.status < 400:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            for piece in say.pieces():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
            if say.breaks:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self.wfile.write(b"0\r\n\r\n")

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    script.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses made, which last nothing; time passes by them alone."""
    pauses: list[float] = []
    monkeypatch.setattr(service, "time", SimpleNamespace(sleep=pauses.append, monotonic=lambda: sum(pauses)))
    return pauses


def said(code: int, status: str, message: str = "Do this.") -> Say:
    """Return an error in Google's model."""
    return Say({"error": {"code": code, "status": status, "message": message}}, code)


def refusal(address: str, **changes: Any) -> ServiceError:
    """Return what a request comes to that fails."""
    with Service(address, **changes) as client, pytest.raises(ServiceError) as caught:
        client.ask("GET", "/mailboxes")
    return caught.value


def test_a_request_and_its_answer() -> None:
    """Path, query, body and token go out as they are; status and JSON come back."""
    with scripted(Say({"ok": True}, 202)) as server, Service(f"{server.address}/", token=lambda: "secret") as client:
        params: Params = {"mode": "full", "wait": 2.5, "retryParked": True, "pageToken": None}
        answer = client.ask("POST", "/mailboxes/a%40b/sync", params=params, body={"policy": {}})
    assert (answer.code, answer.content) == (202, {"ok": True})
    ((line, headers, body),) = server.asked
    assert line == "POST /mailboxes/a%40b/sync?mode=full&wait=2.5&retryParked=true"
    assert headers["Authorization"] == "Bearer secret"
    assert json.loads(body) == {"policy": {}}


def test_without_a_token_there_is_no_header() -> None:
    """Nobody asks for one on a local stack."""
    with scripted(Say()) as server, Service(server.address) as client:
        client.ask("GET", "/mailboxes")
    assert "Authorization" not in server.asked[0][1]


def test_each_try_has_a_token_that_is_good_now() -> None:
    """One that ran out while the service was asked again is not sent again."""
    tokens = iter(["old", "new"])
    answers = said(503, "UNAVAILABLE"), Say()
    with scripted(*answers) as server, Service(server.address, token=lambda: next(tokens)) as client:
        client.ask("GET", "/mailboxes")
    assert [headers["Authorization"] for _, headers, _ in server.asked] == ["Bearer old", "Bearer new"]


def test_a_netrc_does_not_replace_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on this machine its settings are heeded, and a default entry there is none for Mailmirror."""
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("NO_PROXY", "*")
    with scripted(Say()) as server, Service("https://mailmirror.example.com", token=lambda: "secret") as client:
        client.address = server.address
        client.ask("GET", "/mailboxes")
    assert server.asked[0][1]["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_what_passes_is_tried_again(code: int, no_pauses: list[float]) -> None:
    """A throttled function, or one that starts, answers a moment later; the pauses grow."""
    with scripted(*[said(code, "UNAVAILABLE")] * 3, Say({"ok": 1})) as server, Service(server.address) as client:
        assert client.ask("GET", "/mailboxes").content == {"ok": 1}
    assert len(server.asked) == 4
    assert no_pauses == [0.2, 0.4, 0.8]


def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    """A function that is killed in the middle of its answer has not answered."""
    broken = Say([b'{"messages": ['], breaks=True)
    with scripted(broken, Say({"ok": 1})) as server, Service(server.address) as client:
        assert client.ask("GET", "/mailboxes").content == {"ok": 1}
    assert len(server.asked) == 2


def test_a_connection_refused_is_tried_again(no_pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that is not there yet is there a moment later."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with ExitStack() as end:

        def sleep(seconds: float) -> None:
            no_pauses.append(seconds)
            if len(no_pauses) == 3:
                end.enter_context(scripted(Say({"ok": 1}), port=port))

        monkeypatch.setattr(service, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: sum(no_pauses)))
        with Service(f"http://127.0.0.1:{port}") as client:
            assert client.ask("GET", "/mailboxes").content == {"ok": 1}
    assert len(no_pauses) == 3


def test_patience_ends(no_pauses: list[float]) -> None:
    """Who is never answered is told so in words, after the time that was to be waited."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    error = refusal(address, patience=10)
    assert (error.code, error.status) == (0, "UNAVAILABLE")
    assert error.message == f"{address} cannot be reached: ConnectionError."
    assert 5 < sum(no_pauses) <= 10


def test_a_function_that_stays_throttled_says_so_itself(no_pauses: list[float]) -> None:
    """After the patience the function's own words come through."""
    with scripted(said(429, "RESOURCE_EXHAUSTED", "Ask later.")) as server:
        error = refusal(server.address, patience=1)
    assert (error.code, error.status, str(error)) == (429, "RESOURCE_EXHAUSTED", "Ask later.")
    assert len(server.asked) == len(no_pauses) + 1 > 2


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 409, 410])
def test_a_refusal_is_not_tried_again(code: int, no_pauses: list[float]) -> None:
    """What the function refuses it refuses again."""
    with scripted(said(code, "SOMETHING", "Do that.")) as server:
        error = refusal(server.address)
    assert (error.code, error.status, error.message) == (code, "SOMETHING", "Do that.")
    assert len(server.asked) == 1
    assert no_pauses == []


@pytest.mark.parametrize(
    ("code", "status"), [(401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED"), (404, "UNKNOWN"), (418, "UNKNOWN")]
)
@pytest.mark.parametrize(
    "page", [b"<html><title>Error</title></html>", b"[]", b'{"error": "no"}', b"", b'{"error": {}}']
)
def test_cloud_runs_own_pages(code: int, status: str, page: bytes) -> None:
    """Who may not call a function is answered by Cloud Run, without the error model; a 404 there is no NOT_FOUND."""
    with scripted(Say([page] if page else [], code, "text/html")) as server:
        error = refusal(server.address)
    assert (error.code, error.status) == (code, status)
    assert error.message == f"{server.address}/mailboxes answered {code}."


@pytest.mark.parametrize(
    "page", [Say([b"<html>"], kind="text/html"), Say([b"[]"]), Say([b"<html>"], 302), Say([b"\xff"])]
)
def test_what_is_no_mailmirror(page: Say, no_pauses: list[float]) -> None:
    """A login page or a redirect is told, and is not asked again; nobody's token is sent elsewhere."""
    with scripted(page) as server:
        error = refusal(server.address, token=lambda: "secret")
    assert (error.code, error.status) == (page.status, "UNKNOWN")
    assert "without a JSON object" in error.message
    assert [line for line, _, _ in server.asked] == ["GET /mailboxes"]


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "mailmirror.example.com", "ftp://example.com", "http://"])
def test_what_is_no_address_is_told_at_once(address: str, no_pauses: list[float]) -> None:
    """A mistake in the address does not take the patience."""
    error = refusal(address)
    assert (error.code, error.status) == (0, "INVALID_ARGUMENT")
    assert no_pauses == []


def test_what_is_no_json_is_told_at_once(no_pauses: list[float]) -> None:
    """JSON has no word for a number that is none: it is not sent, and not said to be out of reach."""
    with pytest.raises(ServiceError) as caught, Service("http://127.0.0.1:1") as service:
        service.ask("PUT", "/mailboxes", body={"newestDays": float("nan")})
    assert (caught.value.code, caught.value.status) == (0, "INVALID_ARGUMENT")
    assert no_pauses == []


def test_an_open_answer_comes_as_it_is_sent() -> None:
    """A body is read piece by piece, under the caller's headers."""
    with (
        scripted(Say([b"one", b"two"], kind="text/plain")) as server,
        Service(server.address) as client,
        client.open("GET", "/x", headers={"Accept": "text/plain"}) as response,
    ):
        assert list(response.iter_content(None)) == [b"one", b"two"]
    assert server.asked[0][1]["Accept"] == "text/plain"


def test_what_the_caller_does_with_an_open_answer_is_not_repeated() -> None:
    """A failure of the reader's own is no failure of the service."""
    with scripted(Say()) as server, Service(server.address) as client:
        read: Callable[[], object] = lambda: 1 // 0  # noqa: E731 -- fails
        with pytest.raises(ZeroDivisionError), client.open("GET", "/x"):
            read()
    assert len(server.asked) == 1
