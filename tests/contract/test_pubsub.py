"""The ports Publisher and Topic over HTTP: on the local broker, Google's emulator, and a server that misbehaves."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from mailmirror.adapters.pubsub import PubSubPublisher, PubSubTopic
from mailmirror.errors import StoreUnavailable
from mailmirror.ports import Publisher, Topic
from werkzeug.serving import make_server

from local.pubsub import Broker, create_app

TOPIC = "projects/publisher-contract/topics/mailbox-work"
SUBSCRIPTION = "projects/publisher-contract/subscriptions/pull"
ALICE = "alice@example.com"


@pytest.fixture
def broker() -> Iterator[str]:
    """The local broker as `host:port`."""
    broker = Broker()
    server = make_server("127.0.0.1", 0, create_app(broker), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    broker.close()


@pytest.fixture(params=["broker", pytest.param("pubsub_emulator", id="emulator")])
def pubsub(request: pytest.FixtureRequest) -> str:
    """A Pub/Sub with the topic and a subscription to pull from."""
    host = str(request.getfixturevalue(request.param))
    for path, body in ((TOPIC, {}), (SUBSCRIPTION, {"topic": TOPIC, "enableMessageOrdering": True})):
        answer = requests.put(f"http://{host}/v1/{path}", json=body, timeout=10)
        assert answer.status_code in {200, 409}, answer.text
    return host


def test_published_when_it_returns(pubsub: str) -> None:
    """When `publish` returns, the message waits in the subscription, and says mailbox and task in JSON."""
    publisher: Publisher = PubSubPublisher(TOPIC, emulator_host=pubsub)
    publisher.publish(ALICE, "sync")
    publisher.publish(ALICE, "renew")
    received = _pull(pubsub, 2)
    assert sorted(item["task"] for item in received) == ["renew", "sync"]
    assert {item["mailbox"] for item in received} == {ALICE}


def test_a_delta_arrives_with_its_attributes(pubsub: str) -> None:
    """What a topic is given arrives as it is: data, attributes and the ordering key."""
    topic: Topic = PubSubTopic(TOPIC, emulator_host=pubsub)
    topic.publish(b'{"seq": 7}', {"origin": "live", "ce-id": "Ab-_9"}, ALICE)
    message = _messages(pubsub, 1)[0]
    assert base64.b64decode(message["data"]) == b'{"seq": 7}'
    assert message["attributes"] == {"origin": "live", "ce-id": "Ab-_9"}
    assert message["orderingKey"] == ALICE


def test_the_largest_delta_arrives(pubsub: str) -> None:
    """A delta may fill a document of 1 MiB, and has some more in JSON."""
    data = b"x" * 2_000_000
    PubSubTopic(TOPIC, emulator_host=pubsub).publish(data, {}, ALICE)
    assert base64.b64decode(_messages(pubsub, 1)[0]["data"]) == data


def test_deltas_of_a_mailbox_keep_their_order(pubsub: str) -> None:
    """A subscription that asks for it gets the messages of one ordering key in the order of `publish`."""
    topic = PubSubTopic(TOPIC, emulator_host=pubsub)
    for number in range(30):
        topic.publish(str(number).encode(), {}, f"{number % 2}@example.com")
    received = _messages(pubsub, 30)
    for key in ("0@example.com", "1@example.com"):
        numbers = [int(base64.b64decode(item["data"])) for item in received if item["orderingKey"] == key]
        assert numbers == sorted(numbers)
        assert len(numbers) == 15


def test_no_such_topic(pubsub: str) -> None:
    """A topic that does not exist takes no message, and that is said at once."""
    with pytest.raises(StoreUnavailable, match="NotFound"):
        PubSubPublisher(f"{TOPIC}-2", emulator_host=pubsub).publish(ALICE, "sync")


def _pull(host: str, count: int) -> list[dict[str, Any]]:
    return [json.loads(base64.b64decode(message["data"])) for message in _messages(host, count)]


def _messages(host: str, count: int) -> list[dict[str, Any]]:
    received: list[dict[str, Any]] = []
    while len(received) < count:
        url = f"http://{host}/v1/{SUBSCRIPTION}"
        answer = requests.post(f"{url}:pull", json={"maxMessages": 10}, timeout=10).json()
        items = answer.get("receivedMessages", [])
        requests.post(f"{url}:acknowledge", json={"ackIds": [item["ackId"] for item in items]}, timeout=10)
        received += [item["message"] for item in items]
    return received


class Misbehaving:
    """A server that answers one status after another; 0 closes the connection without an answer."""

    def __init__(self, *statuses: int) -> None:
        self.bodies: list[bytes] = []
        bodies, waiting = self.bodies, list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                status = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                if not status:
                    self.close_connection = True
                    return
                answer = b'{"messageIds":["1"]}' if status == 200 else b"{}"
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's word
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "Misbehaving":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_what_passes_is_tried_again() -> None:
    """Pub/Sub that is unavailable for a moment, or drops the connection, is asked again."""
    with Misbehaving(503, 0, 200) as server:
        PubSubPublisher(TOPIC, emulator_host=server.host).publish(ALICE, "renew")
        assert len(server.bodies) == 3
        assert len(set(server.bodies)) == 1


@pytest.mark.parametrize("status", [400, 403, 404])
def test_what_does_not_pass_is_said_at_once(status: int) -> None:
    """A refusal is StoreUnavailable, without another try, and says nothing of the mailbox."""
    with Misbehaving(status) as server:
        with pytest.raises(StoreUnavailable) as caught:
            PubSubPublisher(TOPIC, emulator_host=server.host).publish(ALICE, "sync")
        assert len(server.bodies) == 1
    assert ALICE not in str(caught.value)


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody listens, `publish` gives up in a time that a lease survives, whatever proxy the machine has."""
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:3128")
    with Misbehaving(200) as server:
        host = server.host
    with pytest.raises(StoreUnavailable):
        PubSubPublisher(TOPIC, emulator_host=host, patience=0.2).publish(ALICE, "sync")


def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an emulator the machine's credentials are looked for, at the first message; none is an error."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    publisher = PubSubPublisher(TOPIC)
    with pytest.raises(StoreUnavailable, match="DefaultCredentialsError"):
        publisher.publish(ALICE, "sync")
