"""The fake over HTTP: Google's schemas, Google's own client, batches, and connections that break."""

from __future__ import annotations

import base64
import http.client
import json
import random
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any

import httplib2
import pytest
from googleapiclient import discovery
from googleapiclient.errors import HttpError

from local.gmail.clock import SystemClock
from local.gmail.mailbox import Mailbox
from local.gmail.server import create_app, serve
from local.gmail.world import METHODS, World
from local.mail import made_up

ADA = "Ada.Lovelace@example.com"
TOPIC = "projects/p/topics/t"
DISCOVERY: dict[str, Any] = json.loads(
    resources.files("googleapiclient").joinpath("discovery_cache/documents/gmail.v1.json").read_text()
)


def violations(value: Any, schema: dict[str, Any], path: str = "$") -> list[str]:
    """Where a JSON value differs from a schema of the discovery document; unknown keys differ too."""
    if "$ref" in schema:
        schema = DISCOVERY["schemas"][schema["$ref"]]
    kind, form = schema["type"], schema.get("format")
    if kind == "object":
        if not isinstance(value, dict):
            return [f"{path}: {value!r} is no object"]
        found = [f"{path}: unknown key {key}" for key in value if key not in schema["properties"]]
        for key in value.keys() & schema["properties"].keys():
            found += violations(value[key], schema["properties"][key], f"{path}.{key}")
        return found
    if kind == "array":
        if not isinstance(value, list):
            return [f"{path}: {value!r} is no array"]
        return [text for i, item in enumerate(value) for text in violations(item, schema["items"], f"{path}[{i}]")]
    good = {
        ("string", None): isinstance(value, str) and value in schema.get("enum", [value]),
        ("string", "uint64"): isinstance(value, str) and value.isdecimal(),
        ("string", "int64"): isinstance(value, str) and re.fullmatch(r"-?\d+", value),
        ("string", "byte"): isinstance(value, str) and re.fullmatch(r"[\w-]*=*", value, re.ASCII),
        ("integer", "int32"): type(value) is int and -(2**31) <= value < 2**31,
        ("integer", "uint32"): type(value) is int and 0 <= value < 2**32,
    }[kind, form]
    return [] if good else [f"{path}: {value!r} is no {kind} {form}"]


def response_schema(method: str) -> dict[str, Any]:
    """The schema of a method's answer; empty for stop."""
    *path, name = method.split(".")
    node = DISCOVERY
    for resource in path:
        node = node["resources"][resource]
    return dict(node["methods"][name].get("response", {"type": "object", "properties": {}}))


@pytest.fixture
def world() -> World:
    """A world on the machine's clock."""
    return World(clock=SystemClock(), seed=5)


@pytest.fixture
def mailbox(world: World) -> Mailbox:
    """A mailbox with made-up mail, user labels, drafts and every kind of history."""
    mailbox = world.add(ADA)
    end = datetime(2026, 1, 1, tzinfo=UTC)
    for mail in made_up(random.Random(1), 120, 50, start=end - timedelta(days=300), end=end):
        mailbox.deliver(mail.raw, label_ids=mail.labels, internal_date=mail.internal_date)
    mailbox.recolor_label(mailbox.create_label("Work"), {"textColor": "#000000", "backgroundColor": "#ffffff"})
    ids = list(mailbox.truth()["messages"])
    mailbox.modify(ids[:20], ["STARRED", "Label_1"], ["UNREAD"])
    mailbox.trash(ids[20])
    mailbox.delete(ids[21:25])
    mailbox.save_draft(b"Subject: plan\n\nto do\n")
    return mailbox


@pytest.fixture
def port(world: World, mailbox: Mailbox) -> Iterator[int]:
    """The port of a real server with the mailbox behind it."""
    server = serve(create_app(world))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def gmail(port: int) -> Iterator[Any]:
    """Google's own client, told by the discovery document's rootUrl that Gmail is here."""
    connection = httplib2.Http(timeout=5, proxy_info=None)
    document = DISCOVERY | {"rootUrl": f"http://127.0.0.1:{port}/"}
    document.pop("mtlsRootUrl", None)
    client = discovery.build_from_document(document, http=connection)
    yield client
    client.close()


def test_every_method_answers_in_googles_schema(gmail: Any, world: World, mailbox: Mailbox) -> None:
    """Each answer of each method, in each format, validates against the discovery document without an unknown key."""
    users = gmail.users()
    start = mailbox._state.log.floor
    answers: list[tuple[str, Any]] = [
        ("users.getProfile", users.getProfile(userId="me").execute()),
        ("users.labels.list", users.labels().list(userId="me").execute()),
        ("users.watch", users.watch(userId="me", body={"topicName": TOPIC, "labelIds": ["INBOX"]}).execute()),
        ("users.history.list", users.history().list(userId="me", startHistoryId=start, maxResults=500).execute()),
        ("users.history.list", users.history().list(userId="me", startHistoryId=10**9).execute()),
        ("users.messages.list", users.messages().list(userId="me", includeSpamTrash=True, maxResults=50).execute()),
        ("users.threads.list", users.threads().list(userId="me", labelIds=["STARRED", "Label_1"]).execute()),
    ]
    assert users.stop(userId="me").execute() in ("", b"")
    for message_id in mailbox.truth()["messages"]:
        answers += [
            ("users.messages.get", users.messages().get(userId="me", id=message_id, format=form).execute())
            for form in ("full", "minimal", "raw", "metadata")
        ]
    for item in users.threads().list(userId="me").execute()["threads"]:
        answers += [
            ("users.threads.get", users.threads().get(userId="me", id=item["id"], format=form).execute())
            for form in ("full", "minimal", "metadata")
        ]
    answers += [
        ("users.labels.get", users.labels().get(userId="me", id=label["id"]).execute())
        for label in answers[1][1]["labels"]
    ]
    files = [
        (message_id, part["body"]["attachmentId"])
        for method, answer in answers
        if method == "users.messages.get" and "parts" in answer.get("payload", {})
        for message_id, part in ((answer["id"], part) for part in answer["payload"]["parts"])
        if "attachmentId" in part["body"]
    ]
    attachments = users.messages().attachments()
    answers += [
        ("users.messages.attachments.get", attachments.get(userId="me", messageId=message_id, id=item_id).execute())
        for message_id, item_id in files
    ]
    assert {method for method, _ in answers} == set(METHODS) - {"users.stop"}
    for method, answer in answers:
        assert answer
        assert violations(answer, response_schema(method)) == []


def test_the_schema_check_can_fail() -> None:
    """Unknown keys, numbers for strings and strings for numbers are violations."""
    message = {"$ref": "Message"}
    assert violations({"id": "a", "historyId": "1", "payload": {"parts": [{"body": {"size": 1}}]}}, message) == []
    wrong = {"historyId": 1, "sizeEstimate": "1", "raw": "a+b", "payload": {"parts": [{"bdy": {}}]}}
    assert len(violations(wrong, message)) == 4


def test_the_user_is_named_by_address_or_me(gmail: Any, world: World) -> None:
    """Addresses work in any case; `me` is the only mailbox, or whom the token names; others have no mail service."""
    users = gmail.users()
    assert users.getProfile(userId=ADA.lower()).execute()["emailAddress"] == ADA
    assert users.getProfile(userId="me").execute()["emailAddress"] == ADA
    world.add("grace@example.com")
    request = users.getProfile(userId="me")
    request.headers["Authorization"] = "Bearer grace@example.com"
    assert request.execute()["emailAddress"] == "grace@example.com"
    with pytest.raises(HttpError, match="Invalid Credentials"):
        users.getProfile(userId="me").execute()
    with pytest.raises(HttpError) as raised:
        users.getProfile(userId="nobody@example.com").execute()
    error = json.loads(raised.value.content)["error"]
    assert (error["code"], error["message"], error["status"]) == (
        400,
        "Mail service not enabled",
        "FAILED_PRECONDITION",
    )


def test_a_batch_of_25_carries_its_failures_inside(gmail: Any, world: World, mailbox: Mailbox) -> None:
    """The batch succeeds; a missing message, a 429 and a 500 are errors of their own calls, the rest is mail."""
    ids = sorted(mailbox.truth()["messages"])[:24]
    world.faults.add({"users.messages.get": ["429", {"id": ids[5], "status": 500, "times": -1}]})
    answers: dict[str, Any] = {}
    failures: dict[str, int] = {}

    def keep(request_id: str, response: Any, error: HttpError | None) -> None:
        if error is None:
            answers[request_id] = response
        else:
            failures[request_id] = error.status_code

    batch = gmail.new_batch_http_request(callback=keep)
    for message_id in [*ids, "gone"]:
        batch.add(gmail.users().messages().get(userId=ADA, id=message_id), request_id=message_id)
    batch.execute()
    assert failures == {ids[0]: 429, ids[5]: 500, "gone": 404}
    assert {key: answer["id"] for key, answer in answers.items()} == {i: i for i in ids if i not in failures}
    assert world.quota.account()["calls"]["users.messages.get"] == 25
    assert world.faults.account()["users.messages.get"]["consumed"] == ["429", f"500 for {ids[5]}"]


def test_a_batch_beyond_100_is_refused_as_a_whole(gmail: Any, world: World) -> None:
    """101 inner calls: 400 with Google's sentence, and none of them is made."""
    batch = gmail.new_batch_http_request()
    for _ in range(101):
        batch.add(gmail.users().getProfile(userId="me"))
    with pytest.raises(HttpError, match=r"Inner request count exceeds the limit\. Received: 101, Limit: 100") as raised:
        batch.execute()
    assert raised.value.status_code == 400
    assert world.quota.account()["calls"] == {}


def test_a_batch_may_write_and_may_stop(gmail: Any, mailbox: Mailbox) -> None:
    """Inner bodies are read (watch) and empty answers understood (stop); /batch/gmail/v1 is the same place."""
    answers: list[Any] = []
    batch = gmail.new_batch_http_request(callback=lambda _id, answer, error: answers.append(error or answer))
    batch._batch_uri += "/gmail/v1"
    batch.add(gmail.users().watch(userId="me", body={"topicName": TOPIC}))
    batch.add(gmail.users().stop(userId="me"))
    batch.execute()
    assert answers[0]["historyId"] == mailbox.get_profile()["historyId"]
    assert answers[1] in ("", b"")
    assert mailbox.active_watch() is None


def test_all_calls_of_a_batch_are_under_way_until_it_is_answered(port: int, world: World) -> None:
    """While one batch of 20 waits for its last call, another of 20 gets in with 10 where 30 are allowed; later all."""
    world.quota.concurrent = 30
    inside, leave = threading.Event(), threading.Event()

    def stay(seconds: float) -> None:
        if seconds:
            inside.set()
            leave.wait(5)

    world.sleep = stay
    part = b"--x\r\nContent-Type: application/http\r\n\r\nGET /gmail/v1/users/me/profile\r\n\r\n"
    answers: list[int] = []

    def twenty() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/batch", 20 * part + b"--x--", {"Content-Type": "multipart/mixed; boundary=x"})
        content = connection.getresponse().read()
        connection.close()
        return content.count(b"HTTP/1.1 200")

    world.faults.add({"users.getProfile": [*["slow:0"] * 19, "slow:9"]})
    first = threading.Thread(target=lambda: answers.append(twenty()))
    first.start()
    assert inside.wait(5)
    assert twenty() == 10
    leave.set()
    first.join()
    assert answers == [20]
    assert twenty() == 20


def test_a_batch_looks_like_googles(port: int) -> None:
    """Each part of the answer is application/http and names its call by <response-…>."""
    part = b"Content-Type: application/http\r\nContent-ID: <a + 1>\r\n\r\nGET /gmail/v1/users/me/labels\r\n"
    body = b"--x\r\n" + part + b"\r\n--x--"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", "/batch", body, {"Content-Type": "multipart/mixed; boundary=x"})
    response = connection.getresponse()
    lines = response.read().decode().split("\r\n")
    connection.close()
    boundary = str(response.headers.get_param("boundary"))
    assert response.headers.get_content_type() == "multipart/mixed"
    assert lines[:5] == [
        f"--{boundary}",
        "Content-Type: application/http",
        "Content-ID: <response-a + 1>",
        "",
        "HTTP/1.1 200 OK",
    ]
    assert json.loads(lines[8])["labels"]
    assert lines[9:] == [f"--{boundary}--", ""]


@pytest.mark.parametrize("body", [b"", b"--x\r\n\r\n\r\n--x--", b"\xff\xfe"])
def test_a_batch_that_is_none_is_400(port: int, body: bytes) -> None:
    """Garbage sent to /batch answers 400 in Google's error model."""
    status, answer = request(port, "POST", "/batch", body, {"Content-Type": 'multipart/mixed; boundary="x"'})
    assert status == 400
    assert "Failed to parse batch request" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("verb", "path", "status", "said"),
    [
        ("GET", "/gmail/v1/users/me/messages?maxResult=5", 400, 'Unknown name "maxResult"'),
        ("GET", "/gmail/v1/users/me/messages?maxResults=many", 400, "maxResults"),
        ("GET", "/gmail/v1/users/me/messages?includeSpamTrash=maybe", 400, "includeSpamTrash"),
        ("GET", "/gmail/v1/users/me/history", 400, "Missing/invalid parameter: startHistoryId"),
        ("GET", "/gmail/v1/users/me/history?startHistoryId=1", 404, "Requested entity was not found."),
        ("GET", "/gmail/v1/users/me/messages/nope?alt=json&prettyPrint=true", 404, "Requested entity was not found."),
        ("GET", "/gmail/v1/users/me/messages/a/attachments/b", 404, "Requested entity was not found."),
        ("GET", "/gmail/v1/users/me/labels/Label_99", 404, "Requested entity was not found."),
        ("POST", "/gmail/v1/users/me/messages/send", 501, "does not fake"),
        ("GET", "/gmail/v1/users/me/threads?q=is%3Aunread", 501, "does not fake this q"),
        ("POST", "/gmail/v1/users/me/watch", 400, "topicName"),
        ("GET", "/gmail/v2/users/me/profile", 404, ""),
        ("DELETE", "/batch", 405, ""),
    ],
)
def test_what_google_refuses_is_refused(port: int, verb: str, path: str, status: int, said: str) -> None:
    """Unknown names, garbage and unknown methods answer with the right status in Google's error model."""
    got, answer = request(port, verb, path)
    assert got == status
    assert answer["error"]["code"] == status
    assert said in answer["error"]["message"]
    assert set(answer["error"]["errors"][0]) >= {"message", "domain", "reason"}


@pytest.mark.parametrize("fault", ["reset", "reset-after"])
def test_a_reset_drops_the_connection(port: int, world: World, mailbox: Mailbox, fault: str) -> None:
    """The caller gets no answer; the work is done with reset-after and not done with reset."""
    world.faults.add({"users.watch": fault})
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        request(port, "POST", "/gmail/v1/users/me/watch", json.dumps({"topicName": TOPIC}).encode())
    assert (mailbox.active_watch() is not None) == (fault == "reset-after")
    assert request(port, "GET", "/gmail/v1/users/me/profile")[0] == 200


def test_googles_client_repeats_a_dropped_call_once(gmail: Any, world: World) -> None:
    """httplib2 hides one reset from its caller; two in a row come through."""
    world.faults.add({"users.getProfile": ["reset", "reset", "reset"]})
    with pytest.raises((httplib2.error.HttpLib2Error, http.client.HTTPException, ConnectionError)):
        gmail.users().getProfile(userId="me").execute()
    gmail.users().getProfile(userId="me").execute()
    assert world.faults.account()["users.getProfile"]["waiting"] == []


def test_slow_and_silent_calls_take_their_time(port: int, world: World) -> None:
    """`slow` answers late, `timeout` never; a quick caller gives up before."""
    world.faults.add({"users.getProfile": ["slow:0.15", "timeout:0.15", "timeout:0.6"]})
    began = time.monotonic()
    assert request(port, "GET", "/gmail/v1/users/me/profile")[0] == 200
    assert time.monotonic() - began >= 0.15
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        request(port, "GET", "/gmail/v1/users/me/profile")
    with pytest.raises(TimeoutError):
        request(port, "GET", "/gmail/v1/users/me/profile", timeout=0.1)


def test_latency_delays_each_request(port: int, world: World) -> None:
    """Every HTTP request waits for the latency, and others run meanwhile."""
    world.latency = 0.2
    began = time.monotonic()
    threads = [threading.Thread(target=request, args=(port, "GET", "/gmail/v1/users/me/profile")) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.2 <= time.monotonic() - began < 0.9


def test_a_connection_is_kept_and_quick(port: int) -> None:
    """Fifty calls on one connection: it stays open, and none waits for a delayed acknowledgement."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.connect()
    address = connection.sock.getsockname()
    began = time.monotonic()
    for _ in range(50):
        connection.request("GET", "/gmail/v1/users/me/profile")
        connection.getresponse().read()
        assert connection.sock.getsockname() == address
    connection.close()
    assert time.monotonic() - began < 1.5


def test_health_and_attachments(port: int, mailbox: Mailbox) -> None:
    """GET / answers OK; an attachment's id is another one on every get, its size and bytes are not."""
    raw = b"Content-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64\n\n" + base64.b64encode(
        b"12345"
    )
    message_id = mailbox.deliver(raw)
    bodies = [request(port, "GET", f"/gmail/v1/users/me/messages/{message_id}")[1]["payload"]["body"] for _ in range(2)]
    assert [body["size"] for body in bodies] == [5, 5]
    assert bodies[0]["attachmentId"] != bodies[1]["attachmentId"]
    for body in bodies:
        path = f"/gmail/v1/users/me/messages/{message_id}/attachments/{body['attachmentId']}"
        assert request(port, "GET", path) == (200, {"size": 5, "data": base64.urlsafe_b64encode(b"12345").decode()})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"OK"
    connection.close()


def request(
    port: int,
    verb: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = 5,
) -> tuple[int, Any]:
    """One request on a connection of its own: status and JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(verb, path, body, headers or {})
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")
    finally:
        connection.close()
