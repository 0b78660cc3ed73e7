"""Notifications reach Pub/Sub as Gmail sends them, or are lost, repeated and delayed as told."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from local.gmail.notifications import Notifier
from local.gmail.watch import Notification

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Topic(ThreadingHTTPServer):
    """Pub/Sub's publishing end: keeps what it gets, and may be out of order for a while."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Publish)
        self.got: list[tuple[str, Any]] = []
        self.broken = 0

    @property
    def host(self) -> str:
        """Where to publish."""
        return f"127.0.0.1:{self.server_port}"


class _Publish(BaseHTTPRequestHandler):
    server: Topic

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.broken:
            self.server.broken -= 1
            self.send_response_only(503)
        else:
            self.server.got += [(self.path, json.loads(base64.b64decode(m["data"]))) for m in body["messages"]]
            self.send_response_only(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def topic() -> Iterator[Topic]:
    """A topic that listens."""
    server = Topic()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def note(number: int, mailbox: str = "ada@example.com") -> Notification:
    """The notification of one change, half a second after the one before."""
    return Notification("projects/p/topics/t", mailbox, number, START + timedelta(seconds=number / 2))


@contextmanager
def published(topic: Topic, count: int, seed: int = 1, **knobs: Any) -> Iterator[Notifier]:
    """A notifier that was handed so many notifications and has sent them."""
    with Notifier(topic.host, seed=seed) as notifier:
        notifier.configure(knobs)
        for number in range(count):
            notifier.publish(note(number))
        assert notifier.wait_until_idle()
        yield notifier


def test_a_notification_is_published_by_pubsubs_rest_api(topic: Topic) -> None:
    """POST /v1/<topic>:publish with base64 data; historyId is a JSON number."""
    with published(topic, 1) as notifier:
        assert topic.got == [("/v1/projects/p/topics/t:publish", {"emailAddress": "ada@example.com", "historyId": 0})]
        assert notifier.account()["sent"] == 1


def test_losses_and_duplicates_are_the_same_for_the_same_seed(topic: Topic) -> None:
    """Counts and victims repeat with the seed, differ with another, and add up."""

    def run(seed: int) -> tuple[Any, list[int]]:
        topic.got.clear()
        with published(topic, 200, seed, lose=0.2, duplicate=0.3) as notifier:
            return notifier.account(), sorted(data["historyId"] for _, data in topic.got)

    account, got = run(seed=1)
    assert (account, got) == run(seed=1)
    assert got != run(seed=2)[1]
    assert 20 <= account["lost"] <= 60
    assert 25 <= account["duplicated"] <= 75
    assert account["sent"] == len(got) == 200 - account["lost"] + account["duplicated"]
    assert len(set(got)) == 200 - account["lost"]


def test_all_or_nothing_is_exact(topic: Topic) -> None:
    """Lose 1 loses all, duplicate 1 doubles all, off publishes none and says so."""
    with published(topic, 10, lose=1.0) as notifier:
        assert (notifier.account()["lost"], topic.got) == (10, [])
        notifier.configure({"lose": 0.0, "duplicate": 1.0})
        notifier.publish(note(11))
        assert notifier.wait_until_idle()
        assert [data["historyId"] for _, data in topic.got] == [11, 11]
        notifier.configure({"off": True})
        notifier.publish(note(12))
        assert notifier.wait_until_idle()
        assert len(topic.got) == 2
        assert notifier.account()["off"] == 1


def test_a_shuffle_changes_the_order_but_not_the_notifications(topic: Topic) -> None:
    """Delayed at random, all arrive, not in the order in which they were sent."""
    with published(topic, 30, shuffle=0.3):
        got = [data["historyId"] for _, data in topic.got]
    assert sorted(got) == list(range(30))
    assert got != sorted(got)


def test_more_than_one_a_second_is_dropped_when_coalescing(topic: Topic) -> None:
    """With coalesce_seconds 1 every other of half-second notifications is dropped; each mailbox has its own second."""
    with published(topic, 6, coalesce_seconds=1.0) as notifier:
        assert [data["historyId"] for _, data in topic.got] == [0, 2, 4]
        notifier.publish(note(5, "grace@example.com"))
        assert notifier.wait_until_idle()
        assert notifier.account()["coalesced"] == 3
        assert topic.got[-1][1]["emailAddress"] == "grace@example.com"


def test_a_mailbox_never_waits_and_a_topic_that_recovers_loses_nothing(topic: Topic) -> None:
    """Publishing to a broken Pub/Sub returns at once; it is tried again until it works."""
    topic.broken = 1
    with Notifier(topic.host) as notifier:
        began = time.monotonic()
        notifier.publish(note(1))
        assert time.monotonic() - began < 0.2
        assert notifier.wait_until_idle()
        assert [data["historyId"] for _, data in topic.got] == [1]


def test_without_pubsub_notifications_are_off() -> None:
    """No host: nothing is published, everything is counted."""
    with Notifier(None) as notifier:
        notifier.publish(note(1))
        assert notifier.account()["off"] == 1
