"""The local Pub/Sub: its rules with a clock in hand, its HTTP against the same suite as Google's emulator."""

import base64
import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from local.queues import PUSHES_AT_ONCE, Delivery, Queues, Refused, Subscription

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
TOPIC = "projects/p/topics/work"
DEAD = "projects/p/topics/dead"
PUSH = "projects/p/subscriptions/push"


class HandClock:
    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        return self.time

    def after(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def _subscription(**changes: Any) -> Subscription:
    settings: dict[str, Any] = {
        "name": PUSH,
        "topic": TOPIC,
        "endpoint": "http://127.0.0.1:1/",
        "ack_deadline": timedelta(seconds=60),
        "minimum_backoff": timedelta(seconds=1),
        "maximum_backoff": timedelta(seconds=5),
    }
    return Subscription(**(settings | changes))


@pytest.fixture
def clock() -> HandClock:
    """A clock that only the test moves."""
    return HandClock()


@pytest.fixture
def queues(clock: HandClock) -> Queues:
    """Two topics, no subscription yet."""
    queues = Queues(clock)
    queues.create_topic(TOPIC)
    queues.create_topic(DEAD)
    return queues


def _fail(queues: Queues) -> Delivery:
    [delivery] = queues.take_pushes()
    queues.settle(delivery, acknowledged=False)
    return delivery


def test_a_message_is_pushed_once_and_forgotten_when_acknowledged(queues: Queues) -> None:
    """What was acknowledged never comes again."""
    queues.create_subscription(_subscription())
    message_id = queues.publish(TOPIC, "e30=", {})
    [delivery] = queues.take_pushes()
    assert delivery.message.id == message_id
    assert queues.take_pushes() == []
    queues.settle(delivery, acknowledged=True)
    assert queues.account()[PUSH] == {
        "published": 1,
        "delivered": 1,
        "retried": 0,
        "deadLettered": 0,
        "outstanding": 0,
    }


def test_a_refused_message_comes_again_after_a_back_off_that_doubles_up_to_its_maximum(
    queues: Queues, clock: HandClock
) -> None:
    """1, 2, 4, then 5 and 5 seconds: never earlier, never lost."""
    queues.create_subscription(_subscription())
    queues.publish(TOPIC, "e30=", {})
    waits = []
    for attempt in range(1, 6):
        assert _fail(queues).attempt == attempt
        due_at = queues.next_push_at()
        assert due_at is not None
        waits.append((due_at - clock()).total_seconds())
        clock.after(waits[-1] - 0.001)
        assert queues.take_pushes() == []
        clock.after(0.001)
    assert waits == [1, 2, 4, 5, 5]


def test_after_the_last_attempt_a_message_is_a_dead_letter_that_says_where_it_comes_from(
    queues: Queues, clock: HandClock
) -> None:
    """A poison message leaves the queue, with its data, and can be looked at."""
    dead = "projects/p/subscriptions/dead"
    queues.create_subscription(_subscription(dead_letter_topic=DEAD, max_delivery_attempts=2))
    queues.create_subscription(Subscription(name=dead, topic=DEAD))
    queues.publish(TOPIC, "e30=", {"kind": "odd"})
    _fail(queues)
    clock.after(1)
    assert _fail(queues).envelope()["deliveryAttempt"] == 2
    assert queues.account()[PUSH]["deadLettered"] == 1
    assert queues.account()[PUSH]["outstanding"] == 0
    [letter] = queues.pull(dead, 10)
    assert letter.message.data == "e30="
    assert letter.message.attributes == {
        "kind": "odd",
        "CloudPubSubDeadLetterSourceDeliveryCount": "2",
        "CloudPubSubDeadLetterSourceSubscription": "push",
        "CloudPubSubDeadLetterSourceSubscriptionProject": "p",
    }


def test_without_a_dead_letter_policy_the_envelope_has_no_attempt(queues: Queues) -> None:
    """As in Pub/Sub, deliveryAttempt belongs to the policy."""
    queues.create_subscription(_subscription())
    queues.publish(TOPIC, "e30=", {})
    [delivery] = queues.take_pushes()
    assert delivery.envelope() == {"message": delivery.message.as_json(), "subscription": PUSH}


def test_a_late_refusal_of_an_earlier_attempt_changes_nothing(queues: Queues, clock: HandClock) -> None:
    """Only the attempt in hand can send a message back."""
    queues.create_subscription(_subscription())
    queues.publish(TOPIC, "e30=", {})
    first = _fail(queues)
    clock.after(1)
    [second] = queues.take_pushes()
    queues.settle(first, acknowledged=False)
    assert queues.take_pushes() == []
    queues.settle(second, acknowledged=True)
    assert queues.account()[PUSH]["retried"] == 1


def test_each_subscription_of_a_topic_gets_its_own_copy(queues: Queues) -> None:
    """One subscriber's acknowledgement takes nothing from another."""
    for name in ("one", "two"):
        queues.create_subscription(_subscription(name=f"projects/p/subscriptions/{name}"))
    queues.publish(TOPIC, "e30=", {})
    one, two = queues.take_pushes()
    queues.settle(one, acknowledged=True)
    assert queues.account()[one.subscription.name]["outstanding"] == 0
    assert queues.account()[two.subscription.name]["outstanding"] == 1


def test_only_so_many_pushes_are_under_way_at_once(queues: Queues) -> None:
    """A slow subscriber is not buried; a free hand takes the next, the longest waiting first."""
    queues.create_subscription(_subscription())
    ids = [queues.publish(TOPIC, "e30=", {}) for _ in range(PUSHES_AT_ONCE + 2)]
    taken = queues.take_pushes()
    assert [delivery.message.id for delivery in taken] == ids[:PUSHES_AT_ONCE]
    queues.settle(taken[0], acknowledged=True)
    assert [delivery.message.id for delivery in queues.take_pushes()] == [ids[PUSHES_AT_ONCE]]


def test_a_pulled_message_comes_again_when_its_deadline_passes(queues: Queues, clock: HandClock) -> None:
    """Looking into a subscription does not lose what is in it."""
    queues.create_subscription(_subscription(endpoint=None, ack_deadline=timedelta(seconds=10)))
    queues.publish(TOPIC, "e30=", {})
    assert len(queues.pull(PUSH, 1)) == 1
    clock.after(9)
    assert queues.pull(PUSH, 1) == []
    clock.after(1)
    [again] = queues.pull(PUSH, 1)
    queues.acknowledge(PUSH, [f"{again.message.id}:{again.attempt}"])
    clock.after(60)
    assert queues.pull(PUSH, 1) == []


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        pytest.param(lambda queues: queues.publish("projects/p/topics/none", "e30=", {}), "NOT_FOUND", id="no-topic"),
        pytest.param(lambda queues: queues.pull("projects/p/subscriptions/none", 1), "NOT_FOUND", id="no-subscription"),
        pytest.param(lambda queues: queues.publish(TOPIC, "", {}), "INVALID_ARGUMENT", id="empty-message"),
        pytest.param(lambda queues: queues.create_topic(TOPIC), "ALREADY_EXISTS", id="topic-twice"),
        pytest.param(
            lambda queues: queues.create_subscription(_subscription(topic="projects/p/topics/none")),
            "NOT_FOUND",
            id="subscription-to-nothing",
        ),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_googles_status(
    queues: Queues, ask: Callable[[Queues], object], status: str
) -> None:
    """A mistake in the set-up shows at once, not as silence."""
    with pytest.raises(Refused) as refused:
        ask(queues)
    assert refused.value.status == status


# The HTTP suite: what the stack relies on, the same for the broker and for Google's emulator.


class Receiver:
    """A push endpoint that answers as told and remembers what came."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.bodies: list[dict[str, Any]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.bodies.append(json.loads(body))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class's name
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        give_up = time.monotonic() + 60
        while len(self.bodies) < count and time.monotonic() < give_up:
            time.sleep(0.02)
        return self.bodies

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A push endpoint for one test."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def broker_host() -> Iterator[str]:
    """The broker as a process of its own."""
    command = [sys.executable, "-m", "local.pubsub", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        yield url.removeprefix("http://")
        process.terminate()


@pytest.fixture(params=["broker", "emulator"])
def root(request: pytest.FixtureRequest) -> str:
    """The REST API of the broker, then of Google's emulator."""
    host = request.getfixturevalue("broker_host" if request.param == "broker" else "pubsub_emulator")
    return f"http://{host}/v1/"


def _call(method: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = requests.request(method, url, json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def _publish(root: str, topic: str, text: str) -> None:
    data = base64.b64encode(text.encode()).decode()
    assert _call("POST", f"{root}{topic}:publish", {"messages": [{"data": data}]})["messageIds"]


def test_a_push_carries_googles_envelope(root: str, receiver: Receiver) -> None:
    """The functions see the same body from the broker and from Google's emulator."""
    topic, name = "projects/push-envelope/topics/work", "projects/push-envelope/subscriptions/work"
    _call("PUT", root + topic, {})
    _call("PUT", root + name, {"topic": topic, "pushConfig": {"pushEndpoint": receiver.url}})
    _publish(root, topic, "hello")
    [body] = receiver.wait_for(1)
    assert body["subscription"] == name
    message = body["message"]
    assert base64.b64decode(message["data"]) == b"hello"
    assert message["messageId"] == message["message_id"]
    assert message["publishTime"] == message["publish_time"]
    assert datetime.fromisoformat(message["publishTime"]).tzinfo is not None


def test_a_push_answered_503_comes_again(root: str, receiver: Receiver) -> None:
    """A function that could not do its work sees the same message once more."""
    topic, name = "projects/push-again/topics/work", "projects/push-again/subscriptions/work"
    receiver.answers = [503, 500]
    _call("PUT", root + topic, {})
    _call(
        "PUT",
        root + name,
        {
            "topic": topic,
            "pushConfig": {"pushEndpoint": receiver.url},
            "retryPolicy": {"minimumBackoff": "0.1s", "maximumBackoff": "0.2s"},
        },
    )
    _publish(root, topic, "hello")
    bodies = receiver.wait_for(3)
    assert len({body["message"]["messageId"] for body in bodies}) == 1


def test_a_poison_message_ends_in_the_dead_letter_subscription(root: str, receiver: Receiver) -> None:
    """Five refusals later it can be pulled, looked at and acknowledged."""
    topic, dead = "projects/push-dead/topics/work", "projects/push-dead/topics/dead"
    name, letters = "projects/push-dead/subscriptions/work", "projects/push-dead/subscriptions/dead"
    receiver.answers = [400] * 100
    _call("PUT", root + topic, {})
    _call("PUT", root + dead, {})
    _call("PUT", root + letters, {"topic": dead})
    _call(
        "PUT",
        root + name,
        {
            "topic": topic,
            "pushConfig": {"pushEndpoint": receiver.url},
            "retryPolicy": {"minimumBackoff": "0.1s", "maximumBackoff": "0.2s"},
            "deadLetterPolicy": {"deadLetterTopic": dead, "maxDeliveryAttempts": 5},
        },
    )
    _publish(root, topic, "poison")
    give_up = time.monotonic() + 60
    received: list[dict[str, Any]] = []
    while not received and time.monotonic() < give_up:
        answer = _call("POST", f"{root}{letters}:pull", {"maxMessages": 10, "returnImmediately": True})
        received = answer.get("receivedMessages", [])
        time.sleep(0.1)
    [letter] = received
    assert base64.b64decode(letter["message"]["data"]) == b"poison"
    assert letter["message"]["attributes"]["CloudPubSubDeadLetterSourceSubscription"] == "work"
    _call("POST", f"{root}{letters}:acknowledge", {"ackIds": [letter["ackId"]]})
