"""A small Pub/Sub: at-least-once push over HTTP, back-off, dead letters; used where Google's emulator is not installed.

Knows: the part of Pub/Sub's REST API that Google's emulator speaks too, so that topics and subscriptions are set up the
same way for both; `Broker` adds a lock and the threads that push to the rules in `queues`, and HTTP goes around it.
Does not know: Gmail, Mailmirror, what a message says.

What it does not do: keep messages beyond its own end, order, filter, authenticate, slow down after failures, or `:pull`
from a subscription that pushes. Unlike the emulator it says `deliveryAttempt`, as Pub/Sub does with dead letters.
"""

import argparse
import base64
import binascii
import json
import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import flask
import requests
from werkzeug.serving import make_server

from local.queues import Delivery, Now, Queues, Refused, Subscription

ACKNOWLEDGED = frozenset({102, 200, 201, 202, 204})


class Broker:
    """Queues that push by themselves: one thread hands out what is due, one thread per push under way delivers it."""

    def __init__(self, now: Now = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._queues = Queues(now)
        self._changed = threading.Condition()
        self._ended = False
        self._dispatcher = threading.Thread(target=self._dispatch, name="dispatcher", daemon=True)
        self._dispatcher.start()

    def call(self, ask: Callable[[Queues], Any]) -> Any:
        """Ask the queues something, alone with them; what became due is pushed."""
        with self._changed:
            answer = ask(self._queues)
            self._changed.notify()
            return answer

    def close(self) -> None:
        """Push no more. Pushes under way end by themselves."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._dispatcher.join()

    def _dispatch(self) -> None:
        with self._changed:
            while not self._ended:
                for delivery in self._queues.take_pushes():
                    threading.Thread(target=self._push, args=(delivery,), name="push", daemon=True).start()
                self._changed.wait(self._pause())

    def _pause(self) -> float | None:
        due_at = self._queues.next_push_at()
        if due_at is None:
            return None
        # What is due and yet not handed out waits for a free hand; the push that ends wakes this thread.
        return max((due_at - self._now()).total_seconds(), 0.05)

    def _push(self, delivery: Delivery) -> None:
        acknowledged = False
        try:
            acknowledged = _post(delivery)
        finally:
            self.call(lambda queues: queues.settle(delivery, acknowledged=acknowledged))


def _post(delivery: Delivery) -> bool:
    subscription = delivery.subscription
    assert subscription.endpoint is not None
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.post(
                subscription.endpoint,
                json=delivery.envelope(),
                timeout=subscription.ack_deadline.total_seconds(),
                allow_redirects=False,
            )
        except requests.RequestException:
            return False
    return answer.status_code in ACKNOWLEDGED


def create_app(broker: Broker) -> flask.Flask:
    """The REST subset, plus `GET /` and `GET /control/account`."""
    app = flask.Flask("local.pubsub")

    @app.errorhandler(Refused)
    def refused(error: Refused) -> tuple[flask.Response, int]:
        return flask.jsonify(error={"code": error.code, "message": str(error), "status": error.status}), error.code

    @app.get("/")
    def ready() -> str:
        return "OK\n"

    @app.get("/control/account")
    def account() -> Any:
        return broker.call(lambda queues: queues.account())

    @app.put("/v1/projects/<project>/topics/<topic>")
    def create_topic(project: str, topic: str) -> dict[str, object]:
        name = f"projects/{project}/topics/{topic}"
        broker.call(lambda queues: queues.create_topic(name))
        return {"name": name}

    @app.put("/v1/projects/<project>/subscriptions/<subscription>")
    def create_subscription(project: str, subscription: str) -> dict[str, object]:
        name = f"projects/{project}/subscriptions/{subscription}"
        body = _body()
        broker.call(lambda queues: queues.create_subscription(Subscription.from_json(name, body)))
        return {**body, "name": name}

    @app.post("/v1/projects/<project>/topics/<topic>:publish")
    def publish(project: str, topic: str) -> dict[str, object]:
        messages = [
            (_data(item), item.get("attributes") or {}, str(item.get("orderingKey") or ""))
            for item in _body().get("messages", [])
        ]
        name = f"projects/{project}/topics/{topic}"
        return {"messageIds": broker.call(lambda queues: [queues.publish(name, *message) for message in messages])}

    @app.post("/v1/projects/<project>/subscriptions/<subscription>:pull")
    def pull(project: str, subscription: str) -> dict[str, object]:
        name = f"projects/{project}/subscriptions/{subscription}"
        limit = int(_body().get("maxMessages") or 1)
        taken: list[Delivery] = broker.call(lambda queues: queues.pull(name, limit))
        received = [{"ackId": f"{item.message.id}:{item.attempt}", "message": item.message.as_json()} for item in taken]
        return {"receivedMessages": received} if received else {}

    @app.post("/v1/projects/<project>/subscriptions/<subscription>:acknowledge")
    def acknowledge(project: str, subscription: str) -> dict[str, object]:
        name = f"projects/{project}/subscriptions/{subscription}"
        ack_ids = list(_body().get("ackIds", []))
        broker.call(lambda queues: queues.acknowledge(name, ack_ids))
        return {}

    return app


def _body() -> dict[str, Any]:
    body = flask.request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise Refused(400, "INVALID_ARGUMENT", "The body must be a JSON object, as in Pub/Sub's REST reference.")
    return body


def _data(message: Mapping[str, Any]) -> str:
    data = message.get("data") or ""
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise Refused(400, "INVALID_ARGUMENT", "The data of a message must be base64.") from None
    return str(data)


def serve(port: int) -> None:
    """Serve on a loopback port (0: any free one) until interrupted; say where in one line of JSON."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    broker = Broker()
    server = make_server("127.0.0.1", port, create_app(broker), threaded=True)
    url = f"http://127.0.0.1:{server.server_port}"
    print(json.dumps({"event": "pubsub_listening", "url": url}), flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        broker.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m local.pubsub", description="A small Pub/Sub with push delivery.")
    parser.add_argument("--port", type=int, default=0, help="the loopback port; 0 takes a free one")
    serve(parser.parse_args().port)


if __name__ == "__main__":
    main()
