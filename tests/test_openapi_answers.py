"""What the functions really answer is what the OpenAPI documents say, over a mailbox's whole life."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

import pytest
from mailmirror import api
from mailmirror.adapters.directory import DirectoryApi
from mailmirror.errors import AccessRevoked, GmailRejected, GmailUnavailable, StoreUnavailable, Throttled
from mailmirror.model import Policy

from local.google.directory import User, WorkspaceAccount, blueprint
from local.google.server import Served, create_app
from tests.openapi import DOCUMENTS
from tests.test_openapi import ask
from tests.test_web_consent import Answer as WebAnswer
from tests.test_web_consent import Web, web  # noqa: F401 -- a fixture
from tests.world import ADA, World, mail

ONE = f"/mailboxes/{ADA}"
MANAGE, TRIGGER, READ = "manage_mailboxes", "trigger_sync", "read_mailboxes"
READABLE = (
    *("threads", "threads/1", "messages", "messages/1", "messages/1/attachments", "messages/1/attachments/1"),
    *("deltas", "deltas/latest-cursor"),
)
NOTHING: Mapping[str, str] = {}
# More than a document holds.
LARGE = "Ünïcode. " * 40_000


def enclosed(text: str = "Enclosed.", filename: str = "plans.pdf") -> bytes:
    """The source of a message with a file, which is part 1."""
    message = EmailMessage()
    message["From"], message["To"], message["Cc"] = "Grace <grace@example.com>", ADA, "bob@example.com, cai@example.com"
    message["Subject"], message["Message-ID"] = "Plans", "<plans@example.com>"
    message["Date"] = "Fri, 20 Nov 2026 09:00:00 +0100"
    message.set_content(text)
    message.add_attachment(b"%PDF-1.7", maintype="application", subtype="pdf", filename=filename)
    return message.as_bytes()


class Caller:
    """Asks functions and holds each answer against its document."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __call__(
        self,
        function: str,
        method: str,
        path: str,
        status: int,
        body: object = None,
        *,
        headers: Mapping[str, str] = NOTHING,
        **query: Any,
    ) -> Any:
        """Return the body of an answer, which has this status and no fault."""
        data = b"" if body is None else json.dumps(body).encode()
        answer = ask(self.world, function, method, path, data, headers, **query)
        text = answer.get_data()
        is_json = answer.content_type == "application/json"
        value = json.loads(text) if is_json else text.decode(errors="replace")
        assert answer.status_code == status, text[:500]
        document = DOCUMENTS[function]
        operation = document.operation(method, path)
        # What was understood is what the document lets through.
        assert status >= 400 or document.query_faults(operation, query) == []
        assert document.answer_faults(operation, status, answer.content_type or "", dict(answer.headers), value) == []
        return value


@pytest.fixture
def world() -> Iterator[World]:
    """A mailbox in Gmail that is not connected: small and large mail, a file, a thread."""
    world = World()
    world.ada.deliver(mail("First"))
    first = world.ada.deliver(enclosed())
    world.ada.deliver(enclosed(LARGE))
    world.ada.modify([first], add=["STARRED"])
    yield world
    world.sqlite.close()


@pytest.fixture
def call(world: World) -> Caller:
    """Asks the world's functions."""
    return Caller(world)


def test_a_life(world: World, call: Caller) -> None:
    """Planned, connected, filled, live, another policy, stopped, deleted: each answer of manage_mailboxes is right."""
    call(MANAGE, "GET", f"{ONE}/plan", 200)
    call(MANAGE, "GET", ONE, 404)
    assert (
        call(MANAGE, "PUT", ONE, 201, {"policy": {"since": "2020-01-31", "newestDays": 9000}})["phase"] == "connecting"
    )
    world.accounts.before = lambda method, subject: world.clock.advance(2)
    assert call(TRIGGER, "POST", f"{ONE}/sync", 202, wait=9)["status"] == "running"
    assert call(MANAGE, "GET", ONE, 200)["run"] is not None
    world.accounts.before = None
    world.work()
    assert call(MANAGE, "GET", ONE, 200)["phase"] == "live"
    call(MANAGE, "PUT", ONE, 200, {"policy": {"drafts": True, "labelIds": ["INBOX"]}})
    call(MANAGE, "GET", ONE, 200)
    world.work()
    call(MANAGE, "GET", "/mailboxes", 200)
    call(MANAGE, "GET", f"{ONE}/plan", 200)
    assert call(MANAGE, "POST", f"{ONE}/stop", 200)["phase"] == "stopped"
    call(TRIGGER, "POST", f"{ONE}/sync", 409)
    call(READ, "GET", f"{ONE}/messages", 200)
    call(MANAGE, "PUT", ONE, 200)
    world.work()
    now = world.clock.now()
    world.store.acquire(world.state(), owner="other", now=now, expires_at=now + timedelta(seconds=100))
    call(MANAGE, "POST", f"{ONE}/stop", 202, wait=0)
    assert call(MANAGE, "DELETE", ONE, 202, wait=0)["status"] == "purging"
    for method, path in (("PUT", ONE), ("POST", f"{ONE}/stop")):
        call(MANAGE, method, path, 409)
    call(READ, "GET", f"{ONE}/threads", 409)
    world.clock.advance(200)
    world.work()
    assert call(MANAGE, "DELETE", ONE, 200)["objects"] > 0
    call(MANAGE, "GET", ONE, 404)


def test_every_state_on_the_way(world: World, call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a commit leaves behind is right, whoever asks in between: filling, another policy, audit, repair, stop."""
    commit: Callable[..., object] = world.sqlite.commit
    states: list[str] = []

    def checked(*args: object, **more: object) -> object:
        done = commit(*args, **more)
        states.append(str(call(MANAGE, "GET", ONE, 200)["phase"]))
        return done

    monkeypatch.setattr(world.sqlite, "commit", checked)
    world.connect(Policy(drafts=True))
    for mode in api.MODES:
        world.ada.deliver(mail("More"))
        call(TRIGGER, "POST", f"{ONE}/sync", 200, mode=mode)
    call(MANAGE, "PUT", ONE, 200, {"policy": {"labelIds": ["STARRED"]}})
    world.work()
    world.ada.expire_history()
    world.ada.deliver(enclosed())
    world.notify()
    world.work()
    call(MANAGE, "POST", f"{ONE}/stop", 200)
    assert {"backfilling", "live", "recovering", "stopped"} <= set(states)


def test_pages_of_mailboxes(world: World, call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is not the last has a token."""
    world.connect()
    monkeypatch.setattr(api, "PAGE_SIZE", 1)
    token = call(MANAGE, "GET", "/mailboxes", 200)["nextPageToken"]
    assert call(MANAGE, "GET", "/mailboxes", 200, pageToken=token)["mailboxes"] == []
    call(MANAGE, "GET", "/mailboxes", 400, pageToken="nobody")


@pytest.mark.parametrize("mode", api.MODES)
def test_a_sync(world: World, call: Caller, mode: str) -> None:
    """A sync of each mode, done and going on by itself."""
    world.connect()
    assert call(TRIGGER, "POST", f"{ONE}/sync", 200, mode=mode)["status"] == "done"
    now = world.clock.now()
    world.store.acquire(world.state(), owner="other", now=now, expires_at=now + timedelta(seconds=100))
    assert call(TRIGGER, "POST", f"{ONE}/sync", 202, mode=mode, wait=0)["status"] == "running"


FAILURES = [
    (AccessRevoked("The grant is gone."), 409),
    (GmailRejected("Not this way."), 409),
    (Throttled("Quota exceeded."), 429),
    (GmailUnavailable("Gmail answered 502."), 503),
]


@pytest.mark.parametrize(("error", "status"), FAILURES, ids=lambda each: type(each).__name__)
def test_a_failure_of_gmail(world: World, call: Caller, error: Exception, status: int) -> None:
    """Where Gmail fails the answer says so, and the mailbox does."""

    def fail(method: str, subject: str) -> None:
        raise error

    world.accounts.before = fail
    call(MANAGE, "PUT", ONE, status)
    call(MANAGE, "GET", f"{ONE}/plan", status)
    world.accounts.before = None
    world.connect()
    message = world.ada.deliver(enclosed())
    world.notify()
    world.accounts.before = fail
    call(READ, "GET", f"{ONE}/messages/{message}/attachments/1", status)
    call(TRIGGER, "POST", f"{ONE}/sync", status)
    assert call(MANAGE, "GET", ONE, 200)["problem"] is not None
    call(MANAGE, "GET", "/mailboxes", 200)


def test_what_is_asked_wrongly(world: World, call: Caller) -> None:
    """Each refusal of a request is right, on each operation that can refuse."""
    world.connect()
    call(TRIGGER, "POST", "/mailboxes/ada/sync", 400)
    call(TRIGGER, "POST", "/mailboxes/bob@example.com/sync", 404)
    call(TRIGGER, "POST", f"{ONE}/sync", 400, mode="everything")
    call(TRIGGER, "POST", f"{ONE}/sync", 400, mode="full", retryParked="true")
    for method, path in (
        *(("GET", "/mailboxes/ada"), ("PUT", "/mailboxes/ada"), ("DELETE", "/mailboxes/ada")),
        *(("POST", "/mailboxes/ada/stop"), ("GET", "/mailboxes/ada/plan"), ("GET", "/mailboxes/ada/parked")),
        *(("POST", "/mailboxes:discover"), ("GET", "/connect"), ("GET", "/oauth/callback")),
    ):
        call(MANAGE, method, path, 400)
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/parked"), ("POST", "/stop")):
        call(MANAGE, method, f"/mailboxes/bob@example.com{path}", 404)
    for path in READABLE:
        call(READ, "GET", f"/mailboxes/ada/{path}", 400)
        call(READ, "GET", f"/mailboxes/bob@example.com/{path}", 404)
    call(READ, "GET", f"{ONE}/threads", 400, after="yesterday")
    call(READ, "GET", f"{ONE}/messages", 400, colour="red")


BAD_THREADS = ("unread=yes", "limit=0", "limit=101", "after=yesterday", "before=2026-02-30", "label=", "fields=body")
REFUSED = {
    f"{ONE}/threads": (*BAD_THREADS, "from=\n", f"to={'a' * 321}", "fields=id,", "thread=1"),
    f"{ONE}/messages": ("thread=../1", "thread=", "fields=subject", "fields=headers.x"),
    f"{ONE}/deltas": ("limit=0", "limit=501", "types=messageSent", "origin=live,dead", "wait=181", "wait=-1"),
    f"{ONE}/sync": ("mode=first", "wait=301", "wait=-1", "wait=soon", "retryParked=yes"),
    f"{ONE}/stop": ("wait=101", "wait=soon"),
}


@pytest.mark.parametrize(("path", "query"), [(path, query) for path in REFUSED for query in REFUSED[path]])
def test_a_parameter_that_cannot_be(world: World, call: Caller, path: str, query: str) -> None:
    """What is refused is what the document does not let through."""
    world.connect()
    name, _, value = query.partition("=")
    given: dict[str, Any] = {name: value}
    function = {"sync": TRIGGER, "stop": MANAGE}.get(path.rpartition("/")[2], READ)
    method = "GET" if function == READ else "POST"
    call(function, method, path, 400, **given)
    assert DOCUMENTS[function].query_faults(DOCUMENTS[function].operation(method, path), given) != []


def test_parked_messages(world: World, call: Caller) -> None:
    """A message that cannot be read is listed, and tried again when asked for."""
    world.connect()
    bad = world.ada.deliver(mail("Bad"))

    def fail(method: str, subject: str) -> None:
        if subject == bad:
            raise GmailUnavailable("Gmail answered 500 again and again.")

    world.accounts.before = fail
    world.notify()
    page = call(MANAGE, "GET", f"{ONE}/parked", 200)
    assert [(each["id"], page["total"]) for each in page["parked"]] == [(bad, 1)]
    assert call(TRIGGER, "POST", f"{ONE}/sync", 200)["parked"] == 1
    world.accounts.before = None
    world.clock.advance(1)
    assert call(TRIGGER, "POST", f"{ONE}/sync", 200, retryParked="true")["parked"] == 0


def test_discovery(world: World, call: Caller) -> None:
    """Everybody of a unit: connected, confirmed, skipped and failed, by pages."""
    call(MANAGE, "POST", "/mailboxes:discover", 409, {"orgUnit": "/"})
    account = WorkspaceAccount()
    people = (User(ADA, "/Sales"), User("gone@example.com", "/Sales"), User("idle@example.com", "/Sales"))
    account.add(User("root@example.com", admin=True), *people)
    account.users["idle@example.com"].suspended = True
    with Served(create_app(blueprint(account))) as served:
        world.app.directory = DirectoryApi(
            lambda _: None, "root@example.com", clock=world.clock, api_root=f"http://{served.host}"
        )
        call(MANAGE, "POST", "/mailboxes:discover", 200, {"orgUnit": "/Sales", "dryRun": True, "policy": {}})
        answer = call(MANAGE, "POST", "/mailboxes:discover", 200, {"orgUnit": "/Sales"}, wait=0)
        assert answer["nextPageToken"]
        wish = {"orgUnit": "/Sales", "pageToken": answer["nextPageToken"]}
        rest = call(MANAGE, "POST", "/mailboxes:discover", 200, wish)
        assert (len(rest["skipped"]), len(rest["failed"])) == (1, 1)
    call(MANAGE, "POST", "/mailboxes:discover", 503, {"orgUnit": "/"})


def test_threads_and_messages(world: World, call: Caller) -> None:
    """Listings, a thread, a message with its text from the bucket, and parts of each."""
    world.connect()
    page = call(READ, "GET", f"{ONE}/threads", 200, limit=1)
    document = DOCUMENTS[READ]
    whole = {"$ref": "#/components/schemas/Thread"}
    assert document.faults(whole, page["threads"][0]) == []
    rest = call(READ, "GET", f"{ONE}/threads", 200, pageToken=page["nextPageToken"], fields="subject,labelIds")
    assert rest["threads"]
    for thread in [*page["threads"], *rest["threads"]]:
        assert call(READ, "GET", f"{ONE}/threads/{thread['id']}", 200, limit=1)["thread"]["id"] == thread["id"]
    messages = call(READ, "GET", f"{ONE}/messages", 200, label="INBOX", to=ADA, unread="true")["messages"]
    whole = {"$ref": "#/components/schemas/Message"}
    stored = set()
    for message in messages:
        path = f"{ONE}/messages/{message['id']}"
        full = call(READ, "GET", path, 200)
        assert document.faults(whole, message) + document.faults(whole, full) == []
        stored.add(full["body"]["stored"])
        part = call(READ, "GET", path, 200, fields="headers.subject,body.text")
        assert (part.keys(), part["body"].keys()) == ({"id", "headers", "body"}, {"text"})
        for attachment in full["attachments"]:
            call(READ, "GET", f"{path}/attachments/{attachment['partId']}", 200)
    assert stored == {"inline", "storage"}
    call(READ, "GET", f"{ONE}/messages/1234", 404)
    call(READ, "GET", f"{ONE}/threads/1234", 404)


def test_deltas(world: World, call: Caller) -> None:
    """Pages, a page of nothing, streams, and cursors that cannot be or are another life's."""
    latest, log = f"{ONE}/deltas/latest-cursor", f"{ONE}/deltas"
    world.connect()
    page = call(READ, "GET", log, 200, limit=1)
    assert page["deltas"]
    assert call(READ, "GET", log, 200, types="messageAdded,labelsChanged", origin="backfill")["more"] is False
    cursor = call(READ, "GET", latest, 200)["cursor"]
    assert call(READ, "GET", log, 200, cursor=cursor, wait=1) == {"deltas": [], "cursor": cursor, "more": False}
    stream = call(READ, "GET", log, 200, headers={"Accept": "text/event-stream"}, wait=0)
    assert "event: delta" in stream
    assert call(READ, "GET", log, 200, headers={"Accept": "text/event-stream", "Last-Event-ID": cursor}, wait=0)
    call(READ, "GET", log, 400, cursor="nowhere")
    call(READ, "GET", log, 400, wait=61)
    call(READ, "GET", latest, 400, wait=1)
    call(MANAGE, "DELETE", ONE, 200)
    for path in (latest, log):
        call(READ, "GET", path, 404)
    world.clock.advance(1)
    world.connect()
    call(READ, "GET", log, 410, cursor=cursor)


def test_a_message_that_is_nothing_but_a_file(world: World, call: Caller) -> None:
    """Its bytes are read without a part id."""
    head = f"From: grace@example.com\r\nTo: {ADA}\r\nContent-Type: text/calendar; name=a.ics"
    message = world.ada.deliver(f"{head}\r\nContent-Disposition: attachment\r\n\r\nBEGIN:VCALENDAR\r\n".encode())
    world.connect(Policy())
    call(READ, "GET", f"{ONE}/messages/{message}/attachments", 200)


def test_a_store_that_does_not_answer(world: World, call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 on whatever needs it."""
    world.connect()

    def fail(*_: object, **__: object) -> object:
        raise StoreUnavailable("Firestore does not answer.")

    for name in ("mailbox", "mailboxes"):
        monkeypatch.setattr(world.store, name, fail)
    call(MANAGE, "GET", "/mailboxes", 503)
    call(TRIGGER, "POST", f"{ONE}/sync", 503)
    for path in ("", "/parked", "/plan"):
        call(MANAGE, "GET", f"{ONE}{path}", 503)
    for path in READABLE:
        call(READ, "GET", f"{ONE}/{path}", 503)


def test_consent(web: Web) -> None:  # noqa: F811 -- the fixture
    """The link for a user, and the page for the user who went there, or comes with nothing."""

    def check(path: str, answer: WebAnswer, status: int) -> None:
        kind = answer.headers["Content-Type"]
        body = json.loads(answer.text) if kind == "application/json" else answer.text
        document = DOCUMENTS[MANAGE]
        assert answer.status == status
        assert document.answer_faults(document.operation("GET", path), status, kind, answer.headers, body) == []

    link = web.connect()
    check("/connect", link, 302)
    back = web.answer(link.headers["Location"])
    assert urlsplit(back).path == "/oauth/callback"
    check("/oauth/callback", web.ask(api.manage_mailboxes, back), 200)
    check("/oauth/callback", web.ask(api.manage_mailboxes, f"{back.partition('?')[0]}?error=access_denied"), 400)
    web.register(kind="installed")
    check("/connect", web.connect(), 409)
