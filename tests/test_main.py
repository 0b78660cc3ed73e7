"""The entry points as they are deployed: main.py under functions-framework, asked over HTTP what nobody should ask."""

import base64
import http.server
import itertools
import json
import logging
import re
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import functions_framework
import pytest
from mailmirror.adapters.sqlite import SqliteStore
from mailmirror.model import Mailbox, Watch
from werkzeug.test import Client, TestResponse

from local.stack import FUNCTIONS
from tests import source
from tests.world import push

SOURCE = Path(__file__).resolve().parent.parent / "functions" / "main.py"
ADA = "ada@example.com"
SYNC = f"/mailboxes/{ADA}/sync"
ATTACHMENTS = f"/mailboxes/{ADA}/messages/1/attachments"
CURSOR = 1_000
# A bearer token as Google's front end leaves it in the request: it must not get into the log.
TOKEN = "ya29.xyzzy"
CODES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    405: "INVALID_ARGUMENT",
    409: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
}


PUSHES = ["sync_history", "run_work"]
SCHEDULES = ["renew_watches", "sweep_mailboxes"]
PEOPLE = ["trigger_sync", "manage_mailboxes", "read_mailboxes"]
BROWSERS = ["oauth_callback"]
CALLBACKS = ["manage_mailboxes", "oauth_callback"]


def closed_port() -> int:
    """A port of the loopback interface on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class Deployment:
    """The functions on one SQLite file.

    Attributes:
        file: the store.
        published: what the Pub/Sub stand-in was given, as (topic, data).
        instances: each main.py that was loaded.
    """

    file: Path
    published: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    instances: list[ModuleType] = field(default_factory=list)

    def function(self, target: str) -> Client:
        """Load main.py for a function, as a new instance does, and return a client of it."""
        client: Client = functions_framework.create_app(target, str(SOURCE)).test_client()
        self.instances.append(sys.modules["main"])
        return client

    def close(self) -> None:
        """Let go what the instances opened."""
        for main in self.instances:
            main._app.store.close()
            if main._app.publisher._topic._client is not None:
                main._app.publisher._topic._client.transport.close()

    def documents(self) -> list[tuple[str, str, str, int]]:
        """Everything in the store, with the number of writes."""
        with closing(sqlite3.connect(self.file)) as connection:
            return list(connection.execute("SELECT collection, id, data, version FROM documents"))

    def add(self, mailbox: Mailbox) -> None:
        """Put a mailbox document there."""
        with SqliteStore(self.file) as store:
            store.create_mailbox(mailbox)


def up_to_date(now: datetime) -> Mailbox:
    """A mailbox for which there is nothing to do for a long time."""
    return Mailbox(
        email_address=ADA,
        created_at=now,
        watch=Watch(expires_at=now + timedelta(days=7)),
        next_due_at=now + timedelta(days=1),
        phase="live",
        cursor=CURSOR,
    )


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """The functions with one mailbox that is up to date; Gmail and Pub/Sub cannot be reached."""
    deployment = Deployment(tmp_path / "mirror.db")
    deployment.add(up_to_date(datetime.now(UTC)))
    nobody = f"127.0.0.1:{closed_port()}"
    environment = {
        "GOOGLE_CLOUD_PROJECT": "p",
        "GMAIL_TOPIC": "projects/p/topics/gmail-notifications",
        "WORK_TOPIC": "projects/p/topics/mailbox-work",
        "GMAIL_AUTH": "none",
        "GMAIL_API_ROOT": f"http://{nobody}/",
        "PUBSUB_EMULATOR_HOST": nobody,
        "MAILMIRROR_STORE": f"sqlite:{deployment.file}",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    logger = logging.getLogger("mailmirror")
    before = logger.handlers[:], logger.level, logger.propagate, sys.path[:]
    yield deployment
    deployment.close()
    sys.modules.pop("main", None)
    logger.handlers[:], logger.level, logger.propagate, sys.path[:] = before


@pytest.fixture
def pubsub(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Pub/Sub that accepts what is published."""

    class Topic(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Accept."""
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            topic = self.path.split("?")[0].removeprefix("/v1/").removesuffix(":publish")
            for message in request["messages"]:
                deployment.published.append((topic, json.loads(base64.b64decode(message["data"]))))
            answer = json.dumps({"messageIds": ["1"]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Topic) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{server.server_address[1]}")
        yield
        server.shutdown()
        thread.join()


def check(response: TestResponse, code: int, *, head: bool = False) -> None:
    """Check an answer: the code, and an error's body in Google's model, without a trace of Python."""
    text = response.get_data(as_text=True)
    assert response.status_code == code, text
    assert not re.search(r"Traceback|File \"|\.py\b|line \d|Exception", text)
    if head or code == 204:
        assert text == ""
    elif code >= 400:
        error = json.loads(text)["error"]
        assert json.loads(text).keys() == {"error"}
        assert error.keys() == {"code", "status", "message"}
        assert (error["code"], error["status"]) == (code, CODES[code])
        assert error["message"].endswith(".")


# Starting


def test_every_entry_point_is_tested_here() -> None:
    """A function that is added to main.py gets its requests in the tables below."""
    assert sorted(source.entry_points()) == sorted(PUSHES + SCHEDULES + PEOPLE + BROWSERS)


def test_entry_points_are_what_is_deployed_locally() -> None:
    """The local stack starts every function there is."""
    assert sorted(FUNCTIONS) == sorted(source.entry_points())


@pytest.mark.parametrize("name", ["GOOGLE_CLOUD_PROJECT", "GMAIL_TOPIC", "WORK_TOPIC", "GMAIL_AUTH"])
@pytest.mark.parametrize("target", source.entry_points())
@pytest.mark.usefixtures("deployment")
def test_a_missing_setting(target: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No function starts without what it needs; it ends with a sentence instead."""
    monkeypatch.delenv(name)
    with pytest.raises(SystemExit) as stopped:
        functions_framework.create_app(target, str(SOURCE))
    assert stopped.value.code == f"Mailmirror cannot start: {name} is not set."


@pytest.mark.parametrize("target", source.entry_points())
def test_starting_asks_nobody(deployment: Deployment, target: str) -> None:
    """An instance starts without a call of Gmail or Pub/Sub, and writes nothing."""
    before = deployment.documents()
    deployment.function(target)
    assert deployment.documents() == before


# Pushes

MANY_DIGITS = "9" * 5_000
BODIES = {
    "nothing": b"",
    "no JSON": b"hello",
    "not UTF-8": b"\xff\xfe\xfa",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1",
    "a huge number": MANY_DIGITS.encode(),
    "an empty object": b"{}",
    "no message": b'{"subscription": "s"}',
    "message null": b'{"message": null}',
    "no data": b'{"message": {"messageId": "1"}}',
    "data no base64": b'{"message": {"data": "%%%"}}',
    "data cut off": b'{"message": {"data": "e"}}',
    "data no JSON": b'{"message": {"data": "aGVsbG8="}}',
    "data null": b'{"message": {"data": "bnVsbA=="}}',
    "no field": push({}),
    "nested": b"[" * 100_000,
    "form": b"message=hello",
}
NOTIFICATIONS = {
    "no history id": push({"emailAddress": ADA}),
    "no address": push({"historyId": CURSOR + 1}),
    "history id zero": push({"emailAddress": ADA, "historyId": 0}),
    "history id negative": push({"emailAddress": ADA, "historyId": -5}),
    "history id a boolean": push({"emailAddress": ADA, "historyId": True}),
    "history id a fraction": push({"emailAddress": ADA, "historyId": 1000.5}),
    "history id above 64 bits": push({"emailAddress": ADA, "historyId": 2**63}),
    "history id of 5,000 digits": push({"emailAddress": ADA, "historyId": MANY_DIGITS}),
    "history id a list": push({"emailAddress": ADA, "historyId": [1]}),
    "address with a slash": push({"emailAddress": "a/b@example.com", "historyId": 1}),
    "address without @": push({"emailAddress": "ada", "historyId": 1}),
    "address with a lone surrogate": push({"emailAddress": "\ud800@example.com", "historyId": 1}),
}
TASKS = {
    "no task": push({"mailbox": ADA}),
    "no mailbox": push({"task": "sync"}),
    "an unknown task": push({"mailbox": ADA, "task": "explode"}),
    "task a list": push({"mailbox": ADA, "task": ["sync"]}),
    "mailbox a number": push({"mailbox": 5, "task": "sync"}),
    "mailbox with a slash": push({"mailbox": "a/b@example.com", "task": "sync"}),
    "mailbox with a lone surrogate": push({"mailbox": "\udfff@example.com", "task": "sync"}),
}
MALFORMED = [
    *(("sync_history", name, body) for name, body in (BODIES | NOTIFICATIONS).items()),
    *(("run_work", name, body) for name, body in (BODIES | TASKS).items()),
]


@pytest.mark.parametrize(
    ("target", "body"), [(t, body) for t, _, body in MALFORMED], ids=[f"{t}: {n}" for t, n, _ in MALFORMED]
)
def test_a_malformed_push(deployment: Deployment, target: str, body: bytes) -> None:
    """400, so that the message reaches the dead-letter topic; nothing is written."""
    before = deployment.documents()
    check(deployment.function(target).post("/", data=body), 400)
    assert deployment.documents() == before


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("sync_history", push({"emailAddress": "nobody@example.com", "historyId": 5})),
        ("sync_history", push({"emailAddress": "nobody@example.com", "historyId": 2**63 - 1})),
        ("sync_history", push({"emailAddress": ADA.upper(), "historyId": CURSOR - 1})),
        ("sync_history", push({"emailAddress": ADA, "historyId": str(CURSOR - 1)})),
        ("run_work", push({"mailbox": "nobody@example.com", "task": "sync"})),
        ("run_work", push({"mailbox": "nobody@example.com", "task": "renew"})),
    ],
    ids=["unknown", "unknown, huge", "stale, upper case", "stale, string", "unknown: sync", "unknown: renew"],
)
@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize("path", ["/", "/any/path"])
def test_a_push_with_nothing_to_do(
    deployment: Deployment, target: str, body: bytes, content_type: str, path: str
) -> None:
    """204 for an unknown mailbox and for what is past, whatever the content type and path; nothing is written."""
    before = deployment.documents()
    check(deployment.function(target).post(path, data=body, content_type=content_type), 204)
    assert deployment.documents() == before


def test_a_cloud_event(deployment: Deployment) -> None:
    """Eventarc's headers change nothing: the envelope is read from the body."""
    headers = {
        "ce-id": "1",
        "ce-specversion": "1.0",
        "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
        "ce-source": "//pubsub.googleapis.com/projects/p/topics/t",
    }
    client = deployment.function("sync_history")
    notice = push({"emailAddress": ADA, "historyId": 1})
    check(client.post("/", data=notice, headers=headers, content_type="application/json"), 204)
    event = json.dumps({"specversion": "1.0", "type": "t", "source": "s", "id": "1", "data": json.loads(notice)})
    check(client.post("/", data=event, content_type="application/cloudevents+json"), 204)


# Methods and paths

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]


@pytest.mark.parametrize("method", [method for method in METHODS if method != "POST"])
@pytest.mark.parametrize("target", PUSHES + SCHEDULES)
def test_a_method_nobody_uses(deployment: Deployment, target: str, method: str) -> None:
    """405 with the method to use, on each path, and nothing is done."""
    client = deployment.function(target)
    before = deployment.documents()
    for path in ("/", "/mailboxes"):
        response = client.open(path, method=method, data=push({"emailAddress": ADA, "historyId": 5}))
        check(response, 405, head=method == "HEAD")
        assert response.headers["Allow"] == "POST"
    assert deployment.documents() == before


@pytest.mark.parametrize(
    ("target", "method", "path", "code"),
    [
        *(("trigger_sync", method, SYNC, 405) for method in METHODS if method != "POST"),
        *(("trigger_sync", method, "/", 404) for method in METHODS),
        ("trigger_sync", "POST", "/mailboxes", 404),
        ("trigger_sync", "POST", f"/mailboxes/{ADA}", 404),
        ("trigger_sync", "POST", "/mailboxes/nobody@example.com/sync", 404),
        ("trigger_sync", "POST", "/mailboxes/nobody/sync", 400),
        ("trigger_sync", "POST", "/mailboxes/%00%ff/sync", 400),
        ("trigger_sync", "POST", "/mailboxes/a%2Fb@example.com/sync", 404),
        ("trigger_sync", "POST", "/mailboxes/../sync", 400),
        ("trigger_sync", "POST", f"{SYNC}?mode=half", 400),
        ("trigger_sync", "POST", f"{SYNC}?mode=", 400),
        ("trigger_sync", "POST", f"{SYNC}?mode=%ff", 400),
        ("trigger_sync", "POST", f"{SYNC}?wait=-1", 400),
        ("trigger_sync", "POST", f"{SYNC}?wait=nan", 400),
        ("trigger_sync", "POST", f"{SYNC}?wait={MANY_DIGITS}", 400),
        ("trigger_sync", "POST", f"{SYNC}?wait=soon", 400),
        *(("manage_mailboxes", method, "/mailboxes", 405) for method in METHODS if method not in ("GET", "HEAD")),
        *(
            ("manage_mailboxes", method, f"/mailboxes/{ADA}", 405)
            for method in METHODS
            if method not in ("GET", "HEAD", "PUT", "DELETE")
        ),
        *(
            ("manage_mailboxes", method, f"/mailboxes/{ADA}/{task}", 405)
            for task, allowed in (("stop", ("POST",)), ("plan", ("GET", "HEAD")))
            for method in METHODS
            if method not in allowed
        ),
        ("manage_mailboxes", "DELETE", "/mailboxes/nobody@example.com", 404),
        ("manage_mailboxes", "DELETE", "/mailboxes/nobody", 400),
        ("manage_mailboxes", "DELETE", f"/mailboxes/{ADA}?wait=-1", 400),
        ("manage_mailboxes", "POST", "/mailboxes/nobody@example.com/stop", 404),
        ("manage_mailboxes", "POST", "/mailboxes/nobody/stop", 400),
        ("manage_mailboxes", "POST", f"/mailboxes/{ADA}/stop?wait=soon", 400),
        ("manage_mailboxes", "GET", "/mailboxes/nobody/plan", 400),
        *(("manage_mailboxes", method, "/mailboxes:discover", 405) for method in METHODS if method != "POST"),
        ("manage_mailboxes", "POST", "/mailboxes:discover", 400),
        *(("manage_mailboxes", method, "/nowhere", 404) for method in METHODS),
        ("manage_mailboxes", "GET", "/mailboxes", 200),
        ("manage_mailboxes", "HEAD", "/mailboxes", 200),
        ("manage_mailboxes", "GET", f"/mailboxes/{ADA}", 200),
        ("manage_mailboxes", "HEAD", f"/mailboxes/{ADA}", 200),
        ("manage_mailboxes", "GET", "/mailboxes/ADA%40example.com", 200),
        ("manage_mailboxes", "GET", "/mailboxes/nobody@example.com", 404),
        ("manage_mailboxes", "HEAD", "/mailboxes/nobody@example.com", 404),
        ("manage_mailboxes", "GET", "/mailboxes/nobody", 400),
        ("manage_mailboxes", "GET", "/mailboxes/%F0%9F%92%A9", 400),
        ("manage_mailboxes", "GET", "/mailboxes/__ada@example.com__", 400),
        ("manage_mailboxes", "GET", f"/mailboxes/{'a' * 5_000}@example.com", 400),
        ("manage_mailboxes", "GET", "/mailboxes?pageToken=a/b", 400),
        ("manage_mailboxes", "GET", f"/mailboxes?pageToken={ADA}", 200),
        ("manage_mailboxes", "PUT", "/mailboxes/nobody", 400),
        ("manage_mailboxes", "PUT", f"/mailboxes/{ADA}", 200),
        ("manage_mailboxes", "GET", f"/mailboxes/{ADA}/plan/x", 404),
        *(
            ("read_mailboxes", method, path, 405)
            for path in (ATTACHMENTS, f"{ATTACHMENTS}/0.1")
            for method in METHODS
            if method not in ("GET", "HEAD")
        ),
        *(("read_mailboxes", method, f"{ATTACHMENTS}/0.1", 404) for method in ("GET", "HEAD")),
        ("read_mailboxes", "GET", ATTACHMENTS, 404),
        ("read_mailboxes", "GET", f"{ATTACHMENTS}/", 404),
        ("read_mailboxes", "GET", f"{ATTACHMENTS}/%22%0d", 404),
        ("read_mailboxes", "GET", f"{ATTACHMENTS}/0/1", 404),
        ("read_mailboxes", "GET", f"/mailboxes/{ADA}/messages/%00%ff/attachments/1", 404),
        ("read_mailboxes", "GET", f"/mailboxes/{ADA}/messages/{'a' * 5_000}/attachments/1", 404),
        ("read_mailboxes", "GET", f"/mailboxes/{ADA}/messages/__x__/attachments/1", 404),
        ("read_mailboxes", "GET", "/mailboxes/nobody@example.com/messages/1/attachments/1", 404),
        ("read_mailboxes", "GET", "/mailboxes/nobody/messages/1/attachments/1", 400),
        *(("read_mailboxes", method, f"/mailboxes/{ADA}", 404) for method in METHODS),
        # Where nobody is asked for consent.
        ("manage_mailboxes", "GET", f"/connect?mailbox={ADA}", 400),
        *(("manage_mailboxes", method, "/connect", 405) for method in METHODS if method not in ("GET", "HEAD")),
        *((target, method, "/oauth/callback", 405) for target in CALLBACKS for method in METHODS if method != "GET"),
        *(("oauth_callback", "GET", path, 404) for path in ("/", "/mailboxes", f"/mailboxes/{ADA}", "/connect")),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 60 else str(value)[:60],
)
def test_a_request_of_a_person(deployment: Deployment, target: str, method: str, path: str, code: int) -> None:
    """Each wrong method, path, address or parameter has its answer; reading and being wrong write nothing."""
    before = deployment.documents()
    check(deployment.function(target).open(path, method=method), code, head=method == "HEAD")
    assert deployment.documents() == before


@pytest.mark.parametrize("query", ["", "?state=a.b&code=c", "?state=%ff&state=&code=%00", f"?error={MANY_DIGITS}"])
@pytest.mark.parametrize("target", CALLBACKS)
def test_an_answer_that_nobody_asked_for(deployment: Deployment, target: str, query: str) -> None:
    """A browser gets a page that repeats nothing; nothing is written."""
    before = deployment.documents()
    response = deployment.function(target).get(f"/oauth/callback{query}")
    assert (response.status_code, response.content_type) == (400, "text/html; charset=utf-8")
    assert "Not connected" in response.text
    assert len(response.text) < 2_000
    assert deployment.documents() == before


@pytest.mark.parametrize("body", [body for name, body in BODIES.items() if name not in ("nothing", "an empty object")])
@pytest.mark.parametrize("address", [ADA, "new@example.com"])
def test_a_policy_that_is_none(deployment: Deployment, address: str, body: bytes) -> None:
    """PUT with a body that is no policy is 400 for a known and for a new mailbox; Gmail is not asked."""
    before = deployment.documents()
    check(deployment.function("manage_mailboxes").put(f"/mailboxes/{address}", data=body), 400)
    assert deployment.documents() == before


@pytest.mark.parametrize("path", ["/robots.txt", "/favicon.ico"])
@pytest.mark.parametrize("target", source.entry_points())
def test_what_browsers_ask_for(deployment: Deployment, target: str, path: str) -> None:
    """functions-framework itself says 404."""
    response = deployment.function(target).get(path)
    assert response.status_code == 404
    assert "Traceback" not in response.get_data(as_text=True)


PATHS = ["/", "/mailboxes", "//mailboxes", "/mailboxes/", "/mailboxes/x/sync", "/mailboxes/%00@x/sync", "/%ff", "/*"]
PATHS += ["/connect", "/oauth/callback", ATTACHMENTS, f"{ATTACHMENTS}/%00"]


@pytest.mark.parametrize("target", source.entry_points())
def test_no_input_is_a_failure_of_the_server(deployment: Deployment, target: str) -> None:
    """Whatever method, path, body and header come together, no answer is 5xx, and nothing is written."""
    client = deployment.function(target)
    before = deployment.documents()
    headers = {"Content-Type": "multipart/form-data", "X-Cloud-Trace-Context": "\xff/;", "Cookie": "a=b", "Range": "x"}
    for method, path, body in itertools.product(METHODS, PATHS, (*BODIES.values(), push({"emailAddress": 5}))):
        response = client.open(path, method=method, data=body, headers=headers)
        assert response.status_code < 500, (method, path, body[:50])
        assert "Traceback" not in response.get_data(as_text=True)
    assert deployment.documents() == before


# Schedules


@pytest.mark.parametrize("body", [b"", b"{}", b"hello", b"\xff"])
@pytest.mark.parametrize("target", SCHEDULES)
def test_a_schedule_with_nothing_due(deployment: Deployment, target: str, body: bytes) -> None:
    """200, none published, nothing written, whatever Cloud Scheduler sends."""
    before = deployment.documents()
    response = deployment.function(target).post("/", data=body)
    check(response, 200)
    assert response.get_json() == {"published": 0}
    assert deployment.documents() == before


@pytest.mark.parametrize(("target", "task"), [("renew_watches", "renew"), ("sweep_mailboxes", "sync")])
@pytest.mark.usefixtures("pubsub")
def test_a_schedule_with_work_due(deployment: Deployment, target: str, task: str) -> None:
    """One work message for each mailbox that is due, on the work topic, and no other."""
    now = datetime.now(UTC)
    for number in range(3):
        name = f"user{number}@example.com"
        due = replace(up_to_date(now), email_address=name, next_due_at=now, watch=Watch(expires_at=now))
        deployment.add(due)
    response = deployment.function(target).post("/")
    check(response, 200)
    assert response.get_json() == {"published": 3}
    assert sorted(deployment.published, key=str) == [
        ("projects/p/topics/mailbox-work", {"mailbox": f"user{number}@example.com", "task": task})
        for number in range(3)
    ]


# The log


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What the functions wrote: JSON lines and nothing else."""
    written = capsys.readouterr()
    assert written.err == ""
    return [json.loads(line) for line in written.out.splitlines()]


@pytest.mark.parametrize("target", source.entry_points())
def test_the_log(deployment: Deployment, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line is one JSON object with severity and event, and none holds the caller's token or what was sent."""
    client = deployment.function(target)
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Serverless-Authorization": f"Bearer {TOKEN}"}
    requests: list[Callable[[], TestResponse]] = [
        lambda: client.post("/", data=TOKEN, headers=headers),
        lambda: client.post("/", data=push({"emailAddress": TOKEN, "historyId": TOKEN}), headers=headers),
        lambda: client.post("/", data=push({"mailbox": ADA, "task": TOKEN}), headers=headers),
        lambda: client.post("/mailboxes/nobody@example.com/sync", query_string={"token": TOKEN}, headers=headers),
        lambda: client.put(f"/mailboxes/{ADA}", data=json.dumps({"policy": {TOKEN: True}}), headers=headers),
        lambda: client.get(f"/mailboxes/{ADA}", query_string={"access_token": TOKEN}, headers=headers),
        lambda: client.get(f"/mailboxes/{ADA}/messages/1/attachments/{TOKEN}", headers=headers),
        lambda: client.get("/oauth/callback", query_string=dict.fromkeys(("state", "code", "error"), TOKEN)),
    ]
    for request in requests:
        request()
    events = lines(capsys)
    assert events
    for event in events:
        assert event.keys() >= {"severity", "time", "event"}
        assert TOKEN not in json.dumps(event)


# What is not input


@pytest.mark.timeout(60)
def test_gmail_cannot_be_reached(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    """A notification that cannot be followed is 503 for Pub/Sub to come back, and the mailbox says why."""
    body = push({"emailAddress": ADA, "historyId": CURSOR + 1})
    response = deployment.function("sync_history").post("/", data=body)
    assert (response.status_code, response.get_data()) == (503, b"")
    shown = deployment.function("manage_mailboxes").get(f"/mailboxes/{ADA}").get_json()
    assert shown["problem"]["code"] == "GmailUnavailable"
    assert shown["cursor"] == CURSOR
    assert "turn_failed" in [event["event"] for event in lines(capsys)]
