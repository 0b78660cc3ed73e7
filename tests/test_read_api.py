"""HTTP of threads and messages: what applications get, and what they are told when they ask for what cannot be."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from flask import Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mailmirror import read_api
from mailmirror.errors import StoreUnavailable
from werkzeug.test import Client

from tests.world import ADA, World, mail

ONE = f"/mailboxes/{ADA}"
LARGE = 'Zoë said: ", "html": "\\' * 20_000
LISTINGS = ("threads", "messages")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reader got."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        """The document."""
        return json.loads(self.body)


def read(world: World, path: str, method: str = "GET", **query: str) -> Answer:
    """Call read_mailboxes as a server does, which leaves the body out where the method has none."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return read_api.read_mailboxes(world.app, Request(environ))(environ, start_response)

    answer = Client(application).open(path, method=method, query_string=query or None)
    return Answer(answer.status_code, answer.get_data(), dict(answer.headers))


def refused(answer: Answer, code: int) -> str:
    """What is said in Google's model."""
    error = answer.json["error"]
    assert (answer.status, error["code"]) == (code, code)
    message: str = error["message"]
    return message


@pytest.fixture
def world() -> Iterator[World]:
    """A connected mailbox with two messages in two threads."""
    world = World()
    world.ada.deliver(mail("First", to="bob@example.com"))
    world.clock.advance(60)
    world.ada.deliver(mail("Second"))
    world.connect()
    yield world
    world.sqlite.close()


@pytest.fixture
def large(world: World) -> str:
    """The id of a message whose text is in the bucket."""
    return add_large(world)


def add_large(world: World) -> str:
    """Let a large message be delivered and mirrored."""
    message_id = world.ada.deliver(mail("Large", text=LARGE))
    world.notify()
    assert world.documents("messages")[message_id]["body"]["stored"] == "storage"
    return message_id


def plain(document: Any) -> Any:
    """A document of the database as an answer writes it."""
    if isinstance(document, list):
        return [plain(each) for each in document]
    if isinstance(document, dict):
        if document.keys() == {"$time"}:
            return document["$time"].replace(".000000+", "+")
        return {name: plain(each) for name, each in document.items()}
    return document


@pytest.mark.parametrize("kind", LISTINGS)
def test_a_listing(world: World, kind: str) -> None:
    """Whole documents as they are stored, the newest first, which no cache keeps; no token at the end."""
    answer = read(world, f"{ONE}/{kind}")
    stored = plain(world.documents(kind))
    order = {"threads": "lastMessageAt", "messages": "internalDate"}[kind]
    expected = sorted(stored.values(), key=lambda each: each[order], reverse=True)
    assert (answer.status, answer.json) == (200, {kind: expected})
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize("kind", LISTINGS)
def test_page_by_page(world: World, kind: str) -> None:
    """The token of a page leads to the next."""
    whole = read(world, f"{ONE}/{kind}").json[kind]
    first = read(world, f"{ONE}/{kind}", limit="1").json
    second = read(world, f"{ONE}/{kind}", limit="1", pageToken=first["nextPageToken"]).json
    assert first[kind] + second[kind] == whole


def test_addresses_in_any_case(world: World) -> None:
    """People are found however their address is written."""
    found = read(world, f"{ONE}/messages", **{"from": "GRACE@Example.com", "to": "Bob@example.COM", "fields": "id"})
    first = min(
        world.documents("messages"), key=lambda name: world.documents("messages")[name]["internalDate"]["$time"]
    )
    assert found.json == {"messages": [{"id": first}]}


def test_fields(world: World) -> None:
    """Only what was named comes, and the id."""
    found = read(world, f"{ONE}/messages", fields="headers.subject,labelIds,body.text", limit="1").json["messages"]
    assert [each.keys() for each in found] == [{"id", "labelIds", "headers", "body"}]
    assert (found[0]["headers"], found[0]["body"].keys()) == ({"subject": "Second"}, {"text"})


def test_a_thread(world: World) -> None:
    """The document, and its messages with the fields asked for."""
    [thread_id] = [name for name, each in world.documents("threads").items() if each["subject"] == "First"]
    answer = read(world, f"{ONE}/threads/{thread_id}", fields="headers.subject").json
    thread = plain(world.documents("threads")[thread_id])
    messages = [{"id": name, "headers": {"subject": "First"}} for name in thread["messageIds"]]
    assert answer == {"thread": thread, "messages": messages}


def test_a_message(world: World) -> None:
    """Its document, with its text."""
    for name, document in world.documents("messages").items():
        assert read(world, f"{ONE}/messages/{name}").json == plain(document)


def test_a_large_message(world: World, large: str) -> None:
    """Its text comes out of the bucket into the document, without a length; a listing has none of it."""
    answer = read(world, f"{ONE}/messages/{large}")
    document = plain(world.documents("messages")[large])
    assert answer.json == {**document, "body": {**document["body"], **world.body(document)}}
    assert LARGE in answer.json["body"]["text"]
    assert "Content-Length" not in answer.headers
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert document in read(world, f"{ONE}/messages").json["messages"]


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ("body.text", {"text"}),
        ("body.html", {"html"}),
        ("body.html,body.text", {"text", "html"}),
        ("body.stored,body.text", {"text", "stored"}),
        ("body.html,snippet,body.rendered", {"html", "rendered"}),
        ("body,body.text", {"text", "html", "stored", "uri", "rendered", "truncated"}),
        ("body.stored", {"stored"}),
    ],
)
def test_a_part_of_a_large_message(world: World, large: str, fields: str, names: set[str]) -> None:
    """What was not asked for is not sent, and what was is whole."""
    body = read(world, f"{ONE}/messages/{large}", fields=fields).json["body"]
    assert body.keys() == names
    whole = plain(world.documents("messages")[large])
    assert body.items() <= {**whole["body"], **world.body(whole)}.items()


_TEXTS = st.text(st.sampled_from('", html:\\xé\x00'), max_size=30)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_TEXTS, _TEXTS, st.integers(1, 12))
def test_any_text_in_any_pieces(world: World, text: str, html: str, size: int) -> None:
    """Text and HTML of any letters are taken apart right, wherever the bucket's pieces end."""
    if not world.documents("messages").keys() & {"large"}:
        [document] = list(world.documents("messages").values())[:1]
        document = {**document, "id": "large", "body": {**document["body"], "stored": "storage", "uri": "memory://x/y"}}
        world.sqlite._connection.execute(
            "INSERT INTO documents (collection, id, data) VALUES (?, 'large', ?)",
            (f"mailboxes/{ADA}/messages", json.dumps(document)),
        )
    data = json.dumps({"text": text, "html": html}, ensure_ascii=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.blobs, "read", lambda name: (data[at : at + size] for at in range(0, len(data), size)))
        for fields, expected in (
            ("body.text", {"text": text}),
            ("body.html", {"html": html}),
            ("body.text,body.html", {"text": text, "html": html}),
        ):
            answer = read(world, f"{ONE}/messages/large", fields=fields)
            assert answer.json == {"id": "large", "body": expected}


def test_the_text_is_gone(world: World, large: str) -> None:
    """What is not in the bucket is named, with what to do; all else of the message can be had."""
    world.blobs.objects.clear()
    message = refused(read(world, f"{ONE}/messages/{large}"), 409)
    assert "BODY_BUCKET" in message
    assert "mode=full" in message
    assert read(world, f"{ONE}/messages/{large}", fields="headers.subject").status == 200


def test_no_bucket_any_more(world: World, large: str) -> None:
    """Without a bucket it is the same."""
    world.app.messages._blobs = None
    assert "BODY_BUCKET" in refused(read(world, f"{ONE}/messages/{large}"), 409)


def test_a_message_written_anew_meanwhile(world: World, large: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object that a document named was deleted a moment ago: the document is read once more."""
    calls: list[str] = []

    def gone(name: str) -> None:
        calls.append(name)
        document = world.documents("messages")[large]
        document["body"] = {**document["body"], "stored": "inline", "text": "Short.", "uri": None}
        update = (json.dumps(document), f"mailboxes/{ADA}/messages", large)
        world.sqlite._connection.execute("UPDATE documents SET data = ? WHERE collection = ? AND id = ?", update)

    monkeypatch.setattr(world.blobs, "read", gone)
    assert read(world, f"{ONE}/messages/{large}").json["body"]["text"] == "Short."
    assert len(calls) == 1


def test_the_bucket_does_not_answer(world: World, large: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 at once, be it at the first piece."""

    def fail(name: str) -> bytes:
        raise StoreUnavailable(f"Cloud Storage does not answer: {name}")

    monkeypatch.setattr(world.blobs, "read", lambda name: map(fail, [name]))
    refused(read(world, f"{ONE}/messages/{large}"), 503)


def test_the_bucket_fails_on_the_way(
    world: World, large: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure while text is being sent ends the answer too early, and is logged by name."""

    def failing(name: str) -> Iterator[bytes]:
        yield b'{"text": "some'
        raise StoreUnavailable(f"Cloud Storage does not answer: {name}")

    monkeypatch.setattr(world.blobs, "read", failing)
    caplog.set_level(logging.INFO)
    with pytest.raises(StoreUnavailable):
        read(world, f"{ONE}/messages/{large}")
    failed = [record for record in caplog.records if record.getMessage() == "request_failed"]
    assert [vars(record)["fields"]["error"] for record in failed] == ["StoreUnavailable"]


@pytest.mark.parametrize("path", ["threads", "threads/{thread}", "messages", "messages/{message}", "messages/{large}"])
def test_head(world: World, large: str, path: str) -> None:
    """HEAD answers like GET, without the body."""
    document = next(iter(world.documents("messages").values()))
    path = path.format(thread=document["threadId"], message=document["id"], large=large)
    get, head = read(world, f"{ONE}/{path}"), read(world, f"{ONE}/{path}", "HEAD")
    assert (head.status, head.body, head.headers) == (get.status, b"", get.headers)


@pytest.mark.parametrize(
    ("path", "query", "names"),
    [
        ("threads", "limit=0", "limit"),
        ("threads", "limit=101", "limit"),
        ("threads", "limit=٣", "limit"),
        ("threads", "limit=1e1", "limit"),
        ("threads", f"limit={'9' * 5_000}", "limit"),
        ("threads", "limit=", "limit"),
        ("threads", "unread=1", "unread"),
        ("threads", "unread=", "unread"),
        ("threads", "label=", "label"),
        ("threads", "label=%00", "label"),
        ("threads", "from=", "from"),
        ("threads", f"from={'a' * 321}", "from"),
        ("messages", "to=a%0Ab", "to"),
        ("messages", "thread=a%2Fb", "thread"),
        ("messages", "thread=", "thread"),
        ("threads", "thread=1", "label, unread, from"),
        ("messages", "after=yesterday", "after"),
        ("messages", "after=1969-12-31", "after"),
        ("messages", "before=9999-12-31T23:59:59-23:59", "before"),
        ("messages", "before=2026-02-30", "before"),
        ("messages", "before=", "before"),
        ("messages", "fields=", "headers.subject"),
        ("messages", "fields=subject", "headers.subject"),
        ("messages", "fields=headers.from.address", "headers.from"),
        ("threads", "fields=headers", "lastMessageAt"),
        ("threads", "fields=id,,subject", "lastMessageAt"),
        ("threads", "labels=INBOX", "label, unread, from"),
        ("threads", "%ff%00=1", "label, unread, from"),
        ("threads", "label=INBOX&label=SENT", "label must be given once"),
        ("threads", "limit=1&limit=1", "limit must be given once"),
        ("threads/1", "label=INBOX", "limit, pageToken, fields"),
        ("messages/1", "limit=1", "fields"),
        *(("messages", f"pageToken={quote(token)}", "pageToken") for token in ("", "x", "e30=", "é", "bnVsbA==")),
    ],
)
def test_what_cannot_be_asked(world: World, path: str, query: str, names: str) -> None:
    """400 names the parameter, and what it may be."""
    assert names in refused(read(world, f"{ONE}/{path}?{query}"), 400)


@pytest.mark.parametrize(
    "query", ["after=9999-12-31T23:59:59.999999Z", "before=1970-01-01", "to=*", "label=🦄", "to=İ"]
)
@pytest.mark.parametrize("kind", LISTINGS)
def test_what_nothing_fits(world: World, kind: str, query: str) -> None:
    """What may be asked but is not there gives an empty page, the last."""
    assert read(world, f"{ONE}/{kind}?{query}").json == {kind: []}


@pytest.mark.parametrize("kind", LISTINGS)
@pytest.mark.parametrize("name", ["ffff", ".", "__x__", "%00", "%ff", "a%20b", "é", "%ED%A0%80", "f" * 2_000])
def test_an_id_that_is_not_there(world: World, kind: str, name: str) -> None:
    """404, whatever stands in its place."""
    refused(read(world, f"{ONE}/{kind}/{name}"), 404)


@pytest.mark.parametrize("path", ["threads", "threads/1", "messages", "messages/1"])
def test_mailboxes(world: World, path: str) -> None:
    """An unknown mailbox is 404, what is none 400, a stopped one is readable, one being deleted is 409."""
    refused(read(world, f"/mailboxes/nobody@example.com/{path}"), 404)
    refused(read(world, f"/mailboxes/nobody/{path}"), 400)
    before = read(world, f"{ONE}/{path}")
    world.app.stop(ADA, 0)
    assert read(world, f"{ONE}/{path}").body == before.body
    assert world.store.want(world.state(), "purged", due_at=world.clock.now())
    refused(read(world, f"{ONE}/{path}"), 409)


_PARAMETERS = ("label", "unread", "from", "to", "after", "before", "limit", "pageToken", "fields", "thread", "x")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["threads", "threads/1", "messages", "messages/1"]),
    st.dictionaries(
        st.sampled_from(_PARAMETERS), st.text(max_size=12) | st.from_regex(r"[0-9TZ:+-]{1,20}"), max_size=3
    ),
)
def test_whatever_is_asked(world: World, path: str, query: dict[str, str]) -> None:
    """No input makes a 5xx."""
    query_string = "&".join(f"{name}={quote(value, errors='surrogatepass')}" for name, value in query.items())
    assert read(world, f"{ONE}/{path}?{query_string}").status in (200, 400, 404)
