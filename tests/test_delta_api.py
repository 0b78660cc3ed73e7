"""The delta log over HTTP: pages, waits and event streams, and what is refused."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Request
from mailmirror import read_api
from mailmirror.errors import StoreUnavailable
from mailmirror.model import MailboxId
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, TestResponse, run_wsgi_app

from tests.test_api import ask
from tests.world import ADA, World, mail

DELTAS = f"/mailboxes/{ADA}/deltas"


@pytest.fixture
def world() -> Iterator[World]:
    """A mailbox with three deltas."""
    world = World()
    world.ada.deliver(mail("Old"))
    world.connect()
    for subject in ("One", "Two"):
        world.ada.deliver(mail(subject))
        world.notify()
    yield world
    world.sqlite.close()


def read(world: World, path: str = DELTAS, **query: object) -> Any:
    """Call read_mailboxes and return its JSON."""
    answer = ask(lambda request: read_api.read_mailboxes(world.app, request), "GET", path, b"", **query)
    return answer.body if answer.status == 200 else answer.body["error"]


def stream(world: World, headers: dict[str, str] | None = None, method: str = "GET", **query: object) -> TestResponse:
    """Call read_mailboxes as a browser's EventSource does, its answer still to be read."""
    texts = {name: str(value) for name, value in query.items()}
    given = {"Accept": "text/event-stream", **(headers or {})}
    environ = EnvironBuilder(path=DELTAS, method=method, query_string=texts, headers=Headers(given)).get_environ()
    response = read_api.read_mailboxes(world.app, Request(environ))
    return TestResponse(*run_wsgi_app(response, environ), request=Request(environ))


def events(text: str) -> tuple[list[dict[str, Any]], str]:
    """Read a stream as browsers do: the events, and the last event id."""
    found, last = [], ""
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        last = fields.get("id", last)
        if "data" in fields:
            assert fields["event"] == "delta"
            found.append(json.loads(fields["data"]))
            assert found[-1]["cursor"] == last
    return found, last


def test_pages(world: World) -> None:
    """A log is read page by page to its latest cursor."""
    first = read(world, limit=2)
    assert [delta["seq"] for delta in first["deltas"]] == [1, 2]
    assert first["more"] is True
    rest = read(world, cursor=first["cursor"])
    assert ([delta["seq"] for delta in rest["deltas"]], rest["more"]) == ([3], False)
    assert read(world, f"{DELTAS}/latest-cursor") == {"cursor": rest["cursor"]}
    assert read(world, cursor=rest["cursor"], wait=2) == {"deltas": [], "cursor": rest["cursor"], "more": False}


def test_filters(world: World) -> None:
    """Types and origins are given with commas between them."""
    assert [delta["seq"] for delta in read(world, origin="live,repair")["deltas"]] == [2, 3]
    assert read(world, types="messageDeleted,labelsChanged")["deltas"] == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 501}, "limit"),
        ({"limit": "²"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"wait": 61}, "wait"),
        ({"wait": -1}, "wait"),
        ({"wait": "nan"}, "wait"),
        ({"wait": "1e1"}, "wait"),
        ({"types": "messageadded"}, "types"),
        ({"types": ""}, "types"),
        ({"origin": "live,"}, "origin"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": "7"}, "cursor"),
        ({"mode": "full"}, "There is no parameter"),
    ],
)
def test_bad_parameters_are_named(world: World, query: dict[str, object], said: str) -> None:
    """What is not understood is refused with the name and what it may be."""
    error = read(world, DELTAS, **query)
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert said in error["message"]


def test_the_latest_cursor_takes_no_parameters(world: World) -> None:
    """A parameter that would be ignored is refused."""
    assert read(world, f"{DELTAS}/latest-cursor", wait=3)["code"] == 400


def test_an_expired_cursor_tells_the_way_back(world: World) -> None:
    """410 says what to do: a cursor, a list, and on."""
    begin = read(world, limit=1)["cursor"]
    world.sqlite._connection.execute("DELETE FROM documents WHERE collection LIKE '%/deltas'")
    error = read(world, cursor=begin)
    assert (error["code"], error["status"]) == (410, "OUT_OF_RANGE")
    assert "latest-cursor" in error["message"]
    answer = stream(world, cursor=begin)
    assert (answer.status_code, answer.content_type) == (410, "application/json")


def test_a_stream_is_the_log(world: World) -> None:
    """A stream gives what is there and what comes, until its time is over."""
    slept = world.clock.sleep

    def sleep(seconds: float) -> None:
        slept(seconds)
        if len(world.clock.slept) in (5, 6):
            world.ada.deliver(mail("Later"))
            world.clock.sleep = slept  # type: ignore[method-assign]
            world.notify()
            world.clock.sleep = sleep  # type: ignore[method-assign]

    world.clock.sleep = sleep  # type: ignore[method-assign]
    answer = stream(world, wait=60)
    found, last = events(answer.get_data(as_text=True))
    assert answer.content_type == "text/event-stream; charset=utf-8"
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert [delta["seq"] for delta in found] == [1, 2, 3, 4, 5]
    assert last == read(world, f"{DELTAS}/latest-cursor")["cursor"]
    assert sum(world.clock.slept) == pytest.approx(60, abs=1)


def test_a_stream_goes_on_where_the_last_one_ended(world: World) -> None:
    """`Last-Event-ID`, which browsers send on coming back, wins over the address's cursor."""
    first, second, third = read(world)["deltas"]
    answer = stream(world, {"Last-Event-ID": second["cursor"]}, cursor=first["cursor"], wait=0)
    assert events(answer.get_data(as_text=True)) == ([third], third["cursor"])


def test_what_is_left_out_of_a_stream_is_not_read_again(world: World) -> None:
    """The last event id moves on behind deltas that a filter leaves out."""
    found, last = events(stream(world, types="messageDeleted", wait=0).get_data(as_text=True))
    assert (found, last) == ([], read(world, f"{DELTAS}/latest-cursor")["cursor"])


def test_a_silent_stream_is_kept_open(world: World) -> None:
    """At least every 15 seconds something is sent."""
    text = stream(world, cursor=read(world, f"{DELTAS}/latest-cursor")["cursor"]).get_data(as_text=True)
    assert text.startswith("retry: 1000\n\n")
    assert read_api.HEARTBEAT < 15
    assert text.count("\n\n:") >= read_api.MAX_STREAM / read_api.HEARTBEAT
    assert sum(world.clock.slept) == read_api.MAX_STREAM


def test_a_failure_ends_a_stream(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client comes back, and meets the failure as an answer."""
    answer = stream(world, wait=60)

    def fails(mailbox: MailboxId) -> None:
        raise StoreUnavailable("It does not answer.")

    monkeypatch.setattr(world.sqlite, "mailbox", fails)
    found, _ = events(answer.get_data(as_text=True))
    assert [delta["seq"] for delta in found] == [1, 2, 3]
    assert stream(world, wait=60).status_code == 503


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("text/event-stream", True),
        ("text/event-stream, */*;q=0.1", True),
        ("text/event-stream; charset=utf-8", True),
        ("application/json;q=0.5, Text/Event-Stream", True),
        ("application/json", False),
        ("*/*", False),
        ("text/*", False),
        ("text/event-stream;q=0", False),
    ],
)
def test_who_asks_for_a_stream_gets_one(world: World, accept: str, streams: bool) -> None:
    """Only a client that names the type is given a stream."""
    answer = stream(world, {"Accept": accept}, wait=0)
    assert answer.content_type.startswith("text/event-stream") is streams


def test_a_head_request_does_not_wait(world: World) -> None:
    """HEAD is answered at once, for a stream and for a page."""
    latest = read(world, f"{DELTAS}/latest-cursor")["cursor"]
    assert stream(world, method="HEAD", cursor=latest).get_data() == b""
    stream(world, {"Accept": "*/*"}, method="HEAD", cursor=latest, wait=60)
    assert world.clock.slept == []
