"""HTTP: what administrators, Pub/Sub and Cloud Scheduler are answered, route by route and failure by failure."""

import base64
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from random import Random
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from flask import Request, Response
from mailmirror import api, read_api
from mailmirror.adapters import directory
from mailmirror.adapters.directory import DirectoryApi
from mailmirror.errors import (
    AccessRevoked,
    GmailRejected,
    GmailUnavailable,
    MailmirrorError,
    StoreUnavailable,
    Throttled,
)
from mailmirror.keep import Kept
from mailmirror.model import Mailbox, MailboxId, MessagePage, Policy, Watch
from mailmirror.ports import Task
from werkzeug.test import Client, EnvironBuilder, TestResponse

from local.gmail.mailbox import Mailbox as GmailMailbox
from local.google.directory import User, WorkspaceAccount, blueprint
from local.google.server import Served, create_app
from tests import source
from tests.inprocess import InProcessGmail
from tests.world import ADA, World, mail, push

MESSAGES = 6
SYNC = f"/mailboxes/{ADA}/sync"
ONE = f"/mailboxes/{ADA}"
STOP = f"{ONE}/stop"
# What a policy is if nobody says anything else.
POLICY = {
    "includeSpamTrash": True,
    "drafts": False,
    "labelIds": [],
    "excludeLabelIds": [],
    "since": None,
    "newestDays": None,
    "bodies": True,
}
# What a person is told when something unexpected happened must not hold it.
MARKER = "xyzzy"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as its caller sees it."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


def ask(
    handle: Callable[[Request], Response], method: str, path: str = "/", body: bytes = b"", **query: object
) -> Answer:
    """Let a handler answer a request."""
    texts = {name: str(value) for name, value in query.items()}
    builder = EnvironBuilder(path=path, method=method, data=body, query_string=texts)
    response = handle(Request(builder.get_environ()))
    text = response.get_data(as_text=True)
    if text:
        assert response.content_type == "application/json"
    return Answer(response.status_code, json.loads(text or "{}"), dict(response.headers))


@pytest.fixture
def world() -> Iterator[World]:
    """A connected mailbox, up to date."""
    world = World()
    for number in range(MESSAGES):
        world.ada.deliver(mail(f"Old {number}"))
    world.connect()
    world.accounts.calls.clear()
    yield world
    world.sqlite.close()


def trigger(world: World, path: str = SYNC, method: str = "POST", **query: object) -> Answer:
    """Call trigger_sync."""
    return ask(lambda request: api.trigger_sync(world.app, request), method, path, b"", **query)


def manage(world: World, method: str, path: str, body: bytes = b"", **query: object) -> Answer:
    """Call manage_mailboxes."""
    return ask(lambda request: api.manage_mailboxes(world.app, request), method, path, body, **query)


def pushed(world: World, body: bytes, method: str = "POST") -> Answer:
    """Call sync_history."""
    return ask(lambda request: api.pushed(world.app, world.app.sync_history, request), method, "/", body)


def stored(world: World) -> list[tuple[str, str, str, int]]:
    """Everything in the store."""
    return list(world.sqlite._connection.execute("SELECT collection, id, data, version FROM documents"))


def fail_with(world: World, error: Exception) -> None:
    """Let every call of Gmail fail."""

    def fail(method: str, subject: str) -> None:
        raise error

    world.accounts.before = fail


def check_error(answer: Answer, code: int, status: str) -> str:
    """Check that an answer is Google's error model and nothing else, and return its message: a sentence or more."""
    assert answer.status == code
    assert answer.body.keys() == {"error"}
    error = answer.body["error"]
    assert error.keys() == {"code", "status", "message"}
    assert (error["code"], error["status"]) == (code, status)
    message = error["message"]
    assert isinstance(message, str)
    assert message.endswith(".")
    assert "Traceback" not in message
    return message


# trigger_sync


def test_an_incremental_sync(world: World) -> None:
    """Without parameters the mailbox is caught up, and 200 says how much that was."""
    world.ada.deliver(mail("New"))
    answer = trigger(world)
    assert answer.status == 200
    assert answer.body == {
        "ok": True,
        "mode": "incremental",
        "status": "done",
        "runId": None,
        "threadsProcessed": 1,
        "messagesProcessed": 1,
        "parked": 0,
    }
    assert world.differences() == []
    assert world.outbox.work == []


@pytest.mark.parametrize("mode", ["incremental", "full", "audit"])
def test_a_mode(world: World, mode: str) -> None:
    """Every mode ends with the mirror equal to the mailbox; a run is named by its id."""
    world.ada.deliver(mail("New"))
    answer = trigger(world, mode=mode)
    assert (answer.status, answer.body["ok"], answer.body["mode"], answer.body["status"]) == (200, True, mode, "done")
    assert world.differences() == []
    assert world.outbox.work == []
    run = world.state().run
    assert run is not None
    assert answer.body["runId"] == (None if mode == "incremental" else run.id)


def test_a_full_sync_fetches_everything_again(world: World) -> None:
    """`full` processes each message and each thread, and tells how many."""
    answer = trigger(world, mode="full")
    assert (answer.body["threadsProcessed"], answer.body["messagesProcessed"]) == (MESSAGES, MESSAGES)
    assert world.accounts.made("users.messages.get") + world.accounts.made("users.threads.get") == MESSAGES


def test_an_audit_of_a_mirror_that_is_right_fetches_nothing(world: World) -> None:
    """`audit` compares and proves; it costs listings, not messages."""
    answer = trigger(world, mode="audit")
    assert answer.body["messagesProcessed"] == 0
    assert world.accounts.made("users.messages.get") + world.accounts.made("users.threads.get") == 0
    coverage = world.state().coverage
    assert coverage is not None
    assert (coverage.listed, coverage.mirrored, coverage.missing, coverage.extra) == (MESSAGES, MESSAGES, 0, 0)


@pytest.mark.parametrize("mode", ["full", "audit"])
def test_a_run_that_nobody_waits_for(world: World, mode: str) -> None:
    """202 at once, with the run's id and its continuation published; the run ends by itself."""
    answer = trigger(world, mode=mode, wait=0)
    assert (answer.status, answer.body["status"]) == (202, "running")
    assert answer.body["ok"] is True
    assert world.outbox.work == [(ADA, "sync")]
    world.work()
    run = world.state().run
    assert run is not None
    assert (run.id, run.mode, run.active) == (answer.body["runId"], mode, False)
    assert world.differences() == []


def test_a_run_that_takes_longer_than_the_wait(world: World) -> None:
    """202 when the time is up, with what is done so far; the continuation does the rest of the same run."""
    world.accounts.before = lambda method, subject: world.clock.advance(2)
    began = world.clock.now()
    answer = trigger(world, mode="full", wait=15)
    assert (answer.status, answer.body["status"]) == (202, "running")
    assert world.clock.now() - began < timedelta(seconds=60)
    assert world.outbox.work == [(ADA, "sync")]
    world.accounts.before = None
    world.work()
    run = world.state().run
    assert run is not None
    assert (run.id, run.active, run.messages_processed) == (answer.body["runId"], False, MESSAGES)


@pytest.mark.parametrize("begun", [False, True], ids=["asked for", "begun"])
@pytest.mark.parametrize("mode", ["full", "audit"])
def test_joining_a_run(world: World, mode: str, begun: bool) -> None:
    """Who asks for a run while one of the same mode is asked for or under way gets that one's id, and its end."""
    first = trigger(world, mode=mode, wait=0)
    if begun:
        # The time is up when the request has become a run.
        world.accounts.before = lambda method, subject: world.clock.advance(20)
        trigger(world, mode=mode, wait=30)
        world.accounts.before = None
        run = world.state().active_run
        assert run is not None
        assert run.id == first.body["runId"]
    second = trigger(world, mode=mode)
    assert (second.status, second.body["runId"]) == (200, first.body["runId"])
    assert world.runs > 1
    (connected,) = (run for run, report in world.documents("runs").items() if report["mode"] == "first")
    assert set(world.documents("runs")) == {connected, first.body["runId"]}


def test_another_worker_has_the_mailbox(world: World) -> None:
    """Who finds the lease taken waits as long as he said, then leaves the work to the continuation."""
    now = world.clock.now()
    world.store.acquire(world.state(), owner="other", now=now, expires_at=now + timedelta(seconds=100))
    answer = trigger(world, wait=7)
    assert (answer.status, answer.body["status"]) == (202, "running")
    assert timedelta(seconds=7) <= world.clock.now() - now < timedelta(seconds=9)
    assert world.outbox.work == [(ADA, "sync")]


def test_the_wait_by_default(world: World) -> None:
    """Without `wait` the answer comes within fifty seconds or so."""
    now = world.clock.now()
    world.store.acquire(world.state(), owner="other", now=now, expires_at=now + timedelta(seconds=100))
    assert trigger(world).status == 202
    assert timedelta(seconds=50) <= world.clock.now() - now < timedelta(seconds=52)


def test_an_incremental_sync_of_a_mailbox_that_is_being_filled() -> None:
    """During the first sync 202 tells that the mailbox is not complete yet; the first sync goes on."""
    world = World()
    world.ada.deliver(mail("Old"))
    world.app.connect(ADA, None)
    answer = trigger(world)
    assert (answer.status, answer.body["status"]) == (202, "running")
    world.work()
    assert world.differences() == []
    world.sqlite.close()


@pytest.mark.parametrize("mode", ["incremental", "full", "audit"])
@pytest.mark.parametrize("address", ["nobody@example.com", "NOBODY@example.com", "ada@example.org"])
def test_a_sync_of_an_unknown_mailbox(world: World, address: str, mode: str) -> None:
    """404 says how to connect it, and nothing is written."""
    before = stored(world)
    message = check_error(trigger(world, f"/mailboxes/{address}/sync", mode=mode), 404, "NOT_FOUND")
    assert address.lower() in message
    assert "PUT /mailboxes" in message
    assert stored(world) == before
    assert world.outbox.work == []


@pytest.mark.parametrize("failure", [AccessRevoked, GmailRejected])
def test_a_sync_without_access(world: World, failure: type[MailmirrorError]) -> None:
    """409 says what happened and what to do; once access is back the next call does it, at any time."""
    world.ada.deliver(mail("New"))
    fail_with(world, failure("The grant is gone."))
    for _ in range(2):
        message = check_error(trigger(world), 409, "FAILED_PRECONDITION")
        assert message == f"The grant is gone. {failure.action}"
        assert world.state().phase == "reauth_required"
    world.accounts.before = None
    assert trigger(world).status == 200
    assert world.state().phase == "live"
    assert world.differences() == []


@pytest.mark.parametrize("mode", ["incremental", "full", "audit"])
def test_a_throttled_sync(world: World, mode: str) -> None:
    """429 when quota is refused, and again without asking Gmail until the time that Gmail named."""
    until = world.clock.now() + timedelta(minutes=30)
    fail_with(world, Throttled("Quota exceeded.", until))
    check_error(trigger(world, mode=mode), 429, "RESOURCE_EXHAUSTED")
    assert world.state().throttled_until == until
    world.accounts.before = None
    world.accounts.calls.clear()
    check_error(trigger(world, mode=mode), 429, "RESOURCE_EXHAUSTED")
    assert world.accounts.calls == []
    world.clock.advance(30 * 60 + 1)
    assert trigger(world, mode=mode).status == 200
    assert world.state().phase == "live"


def test_a_sync_while_gmail_is_down(world: World) -> None:
    """503 when Gmail does not answer; the mailbox says so too."""
    fail_with(world, GmailUnavailable("Gmail answered 502."))
    message = check_error(trigger(world), 503, "UNAVAILABLE")
    assert message.startswith("Gmail answered 502. ")
    problem = world.state().problem
    assert problem is not None
    assert problem.code == "GmailUnavailable"


@pytest.mark.parametrize("mode", ["", "FULL", "first", "repair", "everything", "full ", "\x00", "full,audit"], ids=repr)
def test_a_mode_nobody_knows(world: World, mode: str) -> None:
    """400 names the modes there are."""
    before = stored(world)
    message = check_error(trigger(world, mode=mode), 400, "INVALID_ARGUMENT")
    assert "incremental, full, audit" in message
    assert stored(world) == before


@pytest.mark.parametrize("wait", ["", "-1", "300.1", "1e9", "nan", "inf", "-inf", "soon", "0x10", "5s", "9" * 400])
def test_a_wait_that_cannot_be(world: World, wait: str) -> None:
    """400 names the times there may be."""
    before = stored(world)
    message = check_error(trigger(world, wait=wait), 400, "INVALID_ARGUMENT")
    assert "from 0 to 300" in message
    assert stored(world) == before


@pytest.mark.parametrize("wait", ["0", "0.5", "300", "1e1"])
def test_a_wait_that_can_be(world: World, wait: str) -> None:
    """Seconds, whole or not, up to five minutes."""
    assert trigger(world, wait=wait).status == 200


@pytest.mark.parametrize(
    "name", ["ada", "@", "ada@", "ada @example.com", "a" * 400 + "@example.com", "%00", "ada%0a@x"]
)
def test_what_is_no_address(world: World, name: str) -> None:
    """400 for what can be no mailbox, on each route that has one."""
    before = stored(world)
    for answer in (
        trigger(world, f"/mailboxes/{name}/sync"),
        manage(world, "GET", f"/mailboxes/{name}"),
        manage(world, "PUT", f"/mailboxes/{name}"),
    ):
        check_error(answer, 400, "INVALID_ARGUMENT")
    assert stored(world) == before
    assert world.outbox.work == []


@pytest.mark.parametrize("path", [f"/mailboxes/{ADA.upper()}/sync", "/mailboxes/ada%40example.com/sync", SYNC + "/"])
def test_another_way_to_write_the_address(world: World, path: str) -> None:
    """Case, escapes and a slash at the end make no other mailbox."""
    assert trigger(world, path).status == 200


# manage_mailboxes


@pytest.fixture
def fresh() -> Iterator[World]:
    """A mailbox in Gmail that is not connected."""
    world = World()
    world.ada.deliver(mail("Old"))
    world.ada.save_draft(mail("Draft"))
    yield world
    world.sqlite.close()


@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b'{"policy": null}', b'{"policy": {}}'])
def test_connecting(fresh: World, body: bytes) -> None:
    """PUT creates the mailbox with the default policy, and its first sync comes by itself."""
    answer = manage(fresh, "PUT", ONE, body)
    assert answer.status == 201
    assert (answer.body["emailAddress"], answer.body["phase"]) == (ADA, "connecting")
    assert answer.body["policy"] == POLICY
    assert fresh.outbox.work == [(ADA, "renew")]
    fresh.work()
    assert fresh.state().phase == "live"
    assert fresh.differences() == []


def test_connecting_with_a_policy(fresh: World) -> None:
    """The policy in the body decides what the first sync mirrors."""
    answer = manage(fresh, "PUT", ONE, b'{"policy": {"drafts": true}}')
    assert answer.status == 201
    assert answer.body["policy"] == POLICY | {"drafts": True}
    fresh.work()
    assert fresh.differences(lambda labels: True) == []


@pytest.mark.parametrize("body", [b"", b"{}", b'{"policy": null}', b'{"policy": {"drafts": false}}'])
def test_connecting_again(world: World, body: bytes) -> None:
    """PUT of a connected mailbox changes nothing and says 200: it may be repeated."""
    before = stored(world)
    answer = manage(world, "PUT", f"/mailboxes/{ADA.upper()}", body)
    assert answer.status == 200
    assert answer.body == manage(world, "GET", ONE).body
    assert stored(world) == before
    assert world.outbox.work == []


@pytest.mark.parametrize("body", [b"", b'{"policy": null}'])
def test_connecting_again_keeps_the_policy(fresh: World, body: bytes) -> None:
    """A body without a policy leaves the one there is."""
    manage(fresh, "PUT", ONE, b'{"policy": {"includeSpamTrash": false, "drafts": true}}')
    answer = manage(fresh, "PUT", ONE, body)
    assert answer.body["policy"] == POLICY | {"includeSpamTrash": False, "drafts": True}
    assert fresh.state().policy == Policy(include_spam_trash=False, drafts=True)


def test_another_policy(fresh: World) -> None:
    """Another policy is stored at once, as a whole, and a run makes the mirror follow it, both ways."""
    fresh.ada.trash(fresh.ada.deliver(mail("Trash")))
    fresh.connect()
    answer = manage(fresh, "PUT", ONE, b'{"policy": {"includeSpamTrash": false, "drafts": true}}')
    assert answer.status == 200
    assert answer.body["policy"] == POLICY | {"includeSpamTrash": False, "drafts": True}
    assert fresh.outbox.work == [(ADA, "sync")]
    fresh.work()
    assert fresh.differences(lambda labels: "TRASH" not in labels) == []
    assert len(fresh.documents("messages")) == 2
    assert manage(fresh, "PUT", ONE, b'{"policy": {}}').status == 200
    fresh.work()
    assert fresh.differences() == []
    assert len(fresh.documents("messages")) == 2


def test_a_policy_of_labels_dates_and_headers(fresh: World) -> None:
    """Every field of a policy is given in the body, shown in the answer, and can be given again as it is shown."""
    wish = {
        "includeSpamTrash": False,
        "drafts": True,
        "labelIds": ["INBOX", "STARRED"],
        "excludeLabelIds": ["CATEGORY_PROMOTIONS"],
        "since": "2026-01-31",
        "newestDays": 90,
        "bodies": False,
    }
    answer = manage(fresh, "PUT", ONE, json.dumps({"policy": wish}).encode())
    assert answer.status == 201
    assert answer.body["policy"] == wish | {"since": "2026-01-31T00:00:00+00:00"}
    again = manage(fresh, "PUT", ONE, json.dumps({"policy": answer.body["policy"]}).encode())
    assert (again.status, again.body["policy"]) == (200, answer.body["policy"])
    assert fresh.state().pending_request is None


BAD_BODIES = {
    "no JSON": b"drafts",
    "half": b'{"policy": {"drafts": true}',
    "not UTF-8": b'{"policy": {"drafts\xff": true}}',
    "a list": b"[]",
    "null": b"null",
    "a policy outside": b'{"drafts": true}',
    "something beside the policy": b'{"policy": {"drafts": true}, "phase": "live"}',
    "a policy in words": b'{"policy": "drafts"}',
    "a list as policy": b'{"policy": ["drafts"]}',
    "false as policy": b'{"policy": false}',
    "an unknown wish": b'{"policy": {"attachments": true}}',
    "a field name of ours": b'{"policy": {"include_spam_trash": true}}',
    "a string": b'{"policy": {"drafts": "true"}}',
    "a number": b'{"policy": {"drafts": 1}}',
    "null as wish": b'{"policy": {"drafts": null}}',
    "a surrogate": b'{"policy": {"\\ud800": true}}',
    "a label in words": b'{"policy": {"labelIds": "INBOX"}}',
    "a label of half a character": b'{"policy": {"labelIds": ["\\ud800"]}}',
    "a label without a name": b'{"policy": {"excludeLabelIds": [""]}}',
    "a date that never was": b'{"policy": {"since": "2026-02-30"}}',
    "a time of nowhere": b'{"policy": {"since": "2026-01-31T00:00:00"}}',
    "a date as a number": b'{"policy": {"since": 1769817600}}',
    "no days": b'{"policy": {"newestDays": 0}}',
    "half a day": b'{"policy": {"newestDays": 0.5}}',
    "days in words": b'{"policy": {"newestDays": "90"}}',
    "nothing that can be": b'{"policy": {"labelIds": ["INBOX"], "excludeLabelIds": ["INBOX"]}}',
    "a huge number": b'{"policy": ' + b"9" * 5_000 + b"}",
    "a nesting bomb": b'{"policy":' * 100_000,
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_policy_that_cannot_be(world: World, fresh: World, body: bytes) -> None:
    """400 says what a policy looks like; neither a new nor a connected mailbox is touched, and Gmail is not asked."""
    for each in (world, fresh):
        before = stored(each)
        check_error(manage(each, "PUT", ONE, body), 400, "INVALID_ARGUMENT")
        assert stored(each) == before
        assert each.accounts.calls == []
        assert each.outbox.work == []


# Stop and delete


def held(world: World) -> None:
    """Let another worker have the mailbox, for two minutes."""
    now = world.clock.now()
    world.store.acquire(world.state(), owner="other", now=now, expires_at=now + timedelta(seconds=120))


def test_stopping(world: World) -> None:
    """POST stop is answered with the stopped mailbox, as often as it is said, and PUT makes it live again."""
    for _ in range(2):
        answer = manage(world, "POST", STOP)
        assert answer.status == 200
        assert (answer.body["wanted"], answer.body["phase"]) == ("stopped", "stopped")
        assert answer.body == manage(world, "GET", ONE).body
    assert world.ada.active_watch() is None
    assert manage(world, "PUT", ONE).status == 200
    world.work()
    assert world.state().phase == "live"
    assert world.differences() == []


def test_stopping_while_another_worker_ends(world: World) -> None:
    """202 says that it is wanted and not done, with the mailbox as it is; it goes on by itself."""
    held(world)
    answer = manage(world, "POST", STOP, wait=2)
    assert answer.status == 202
    assert (answer.body["wanted"], answer.body["phase"]) == ("stopped", "live")
    world.clock.advance(121)
    world.work()
    assert world.state().phase == "stopped"


def test_a_sync_of_a_stopped_mailbox(world: World) -> None:
    """409 says that the mailbox is stopped and what makes it live again."""
    manage(world, "POST", STOP)
    assert "Connect it again" in check_error(trigger(world), 409, "FAILED_PRECONDITION")


def test_deleting(world: World) -> None:
    """DELETE is answered with the receipt, as often as it is said; then nothing is there any more."""
    there = len(stored(world)) - 2
    answer = manage(world, "DELETE", ONE)
    assert answer.status == 200
    assert (answer.body["emailAddress"], sum(answer.body["documents"].values())) == (ADA, there)
    assert answer.body.keys() == {
        *("emailAddress", "documents", "objects", "secrets", "watchStopped", "startedAt", "purgedAt", "expireAt")
    }
    assert manage(world, "DELETE", ONE).body == answer.body
    check_error(manage(world, "GET", ONE), 404, "NOT_FOUND")
    check_error(trigger(world), 404, "NOT_FOUND")
    assert manage(world, "GET", "/mailboxes").body == {"mailboxes": []}
    assert manage(world, "PUT", ONE).status == 201


def test_deleting_while_another_worker_ends(world: World) -> None:
    """202 says that it is going on, from the beginning and in the middle, with what is gone so far."""
    held(world)
    assert manage(world, "DELETE", ONE, wait=2).body == {"status": "purging", "purge": None}
    world.clock.advance(121)
    below = world.sqlite.below

    def slowly(mailbox: str, *, limit: int) -> list[tuple[str, ...]]:
        world.clock.advance(10)
        return below(mailbox, limit=min(limit, 3))

    world.sqlite.below = slowly  # type: ignore[method-assign]
    answer = manage(world, "DELETE", ONE, wait=0)
    assert answer.status == 202
    assert answer.body["status"] == "purging"
    assert sum(answer.body["purge"]["documents"].values()) == 3
    shown = manage(world, "GET", ONE)
    assert (shown.body["wanted"], shown.body["phase"], shown.body["purge"]) == (
        *("purged", "purging"),
        answer.body["purge"],
    )
    for refused in (manage(world, "PUT", ONE), manage(world, "POST", STOP), trigger(world)):
        assert "being deleted" in check_error(refused, 409, "FAILED_PRECONDITION")
    world.work()
    assert manage(world, "DELETE", ONE).status == 200


@pytest.mark.parametrize(("method", "path"), [("POST", STOP), ("DELETE", ONE)])
def test_a_wish_for_what_is_not_connected(fresh: World, method: str, path: str) -> None:
    """404 for a mailbox that is not connected, and 400 for what is no address; nothing is stored."""
    before = stored(fresh)
    check_error(manage(fresh, method, path), 404, "NOT_FOUND")
    check_error(manage(fresh, method, path.replace(ADA, "nobody")), 400, "INVALID_ARGUMENT")
    assert stored(fresh) == before


@pytest.mark.parametrize(("method", "path"), [("POST", STOP), ("DELETE", ONE)])
@pytest.mark.parametrize("wait", ["", "-1", "100.5", "nan", "inf", "soon"])
def test_a_wish_with_a_wait_that_cannot_be(world: World, method: str, path: str, wait: str) -> None:
    """A wait that is no number of seconds from 0 to 100 is refused before anything is wanted of the mailbox."""
    before = stored(world)
    assert "from 0 to 100" in check_error(manage(world, method, path, wait=wait), 400, "INVALID_ARGUMENT")
    assert stored(world) == before
    assert world.outbox.work == []


def test_stopping_while_gmail_is_down(world: World) -> None:
    """503 says that Gmail does not answer; the wish is stored, and carried out when it does."""
    fail_with(world, GmailUnavailable("Gmail does not answer."))
    check_error(manage(world, "POST", STOP), 503, "UNAVAILABLE")
    world.accounts.before = None
    world.work()
    assert world.state().phase == "stopped"


def test_an_alias(fresh: World) -> None:
    """An alias is refused: the mailbox would be mirrored twice, and its notifications name the primary address."""
    fresh.accounts.mailboxes["lovelace@example.com"] = fresh.ada
    message = check_error(manage(fresh, "PUT", "/mailboxes/lovelace@example.com"), 400, "INVALID_ARGUMENT")
    assert "primary address" in message
    assert stored(fresh) == []
    assert fresh.outbox.work == []


@pytest.mark.parametrize(
    ("failure", "code", "status"),
    [
        (AccessRevoked("Delegation is not set up."), 409, "FAILED_PRECONDITION"),
        (GmailRejected("The Gmail API is not enabled."), 409, "FAILED_PRECONDITION"),
        (Throttled("Quota exceeded."), 429, "RESOURCE_EXHAUSTED"),
        (GmailUnavailable("Gmail answered 502."), 503, "UNAVAILABLE"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_connecting_what_cannot_be_read(fresh: World, failure: MailmirrorError, code: int, status: str) -> None:
    """A mailbox that Gmail does not show is not connected: the caller hears why, and nothing is written."""
    fail_with(fresh, failure)
    message = check_error(manage(fresh, "PUT", ONE), code, status)
    assert message == f"{failure} {failure.action}"
    assert stored(fresh) == []
    assert fresh.outbox.work == []


class Deaf:
    """A Pub/Sub that takes nothing."""

    def publish(self, mailbox: MailboxId, task: Task) -> None:
        """Refuse."""
        raise StoreUnavailable("Pub/Sub did not accept a message.")


def test_connecting_while_pubsub_is_down(fresh: World) -> None:
    """503; the mailbox exists all the same, and the sweep does what the message would have done."""
    publisher, fresh.app.publisher = fresh.app.publisher, Deaf()
    check_error(manage(fresh, "PUT", ONE), 503, "UNAVAILABLE")
    fresh.app.publisher = publisher
    assert manage(fresh, "PUT", ONE).status == 200
    fresh.app.sweep_mailboxes()
    fresh.work()
    assert fresh.differences() == []
    assert fresh.state().watch.expires_at > fresh.clock.now()


def test_showing_a_mailbox(world: World) -> None:
    """GET shows the documented fields of the mailbox document, times in words, and nothing of its bookkeeping."""
    answer = manage(world, "GET", ONE)
    assert answer.status == 200
    shown = answer.body
    documented = (
        "emailAddress phase cursor hint deltaSeq policy watch run coverage counts lag lastNotificationAt lastSyncAt "
        "throttledUntil takeovers suspect quota problem nextDueAt createdAt wanted purge"
    )
    assert set(documented.split()) <= shown.keys()
    assert shown["watch"].keys() >= {"expiresAt", "historyId", "renewedAt", "error"}
    assert shown["run"].keys() >= {"id", "mode", "reason", "stage", "done", "total", "etaAt"}
    assert shown["coverage"].keys() >= {"listed", "mirrored", "missing", "extra", "parked", "at"}
    assert shown["counts"]["messages"] == MESSAGES
    assert shown["cursor"] == world.head()
    assert shown["createdAt"] == "2026-11-20T12:00:00+00:00"
    assert "labels" not in shown


def test_showing_a_problem(world: World) -> None:
    """What keeps a mailbox from being up to date is there in words, with the next step."""
    fail_with(world, AccessRevoked("The grant is gone."))
    trigger(world)
    shown = manage(world, "GET", ONE).body
    assert shown["phase"] == "reauth_required"
    assert shown["problem"] == {
        "code": "AccessRevoked",
        "message": "The grant is gone.",
        "action": AccessRevoked.action,
        "at": world.clock.now().isoformat(),
        "since": world.clock.now().isoformat(),
    }


def test_showing_an_unknown_mailbox(world: World) -> None:
    """404 says how to connect it."""
    message = check_error(manage(world, "GET", "/mailboxes/nobody@example.com"), 404, "NOT_FOUND")
    assert message.startswith("Mailbox nobody@example.com is not connected. Connect it first: PUT /mailboxes/")


def add_mailboxes(world: World, count: int) -> list[MailboxId]:
    """Create mailbox documents and return their ids in order."""
    now = world.clock.now()
    names = [f"user{number:03d}@example.com" for number in range(count)]
    for name in names:
        world.store.create_mailbox(
            Mailbox(email_address=name, created_at=now, watch=Watch(expires_at=now), next_due_at=now)
        )
    return names


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_listing(fresh: World, count: int) -> None:
    """GET lists every mailbox once, in pages of a hundred; the token leads from one to the next."""
    names = add_mailboxes(fresh, count)
    found: list[str] = []
    token = ""
    while True:
        answer = manage(fresh, "GET", "/mailboxes", pageToken=token)
        assert answer.status == 200
        page = answer.body["mailboxes"]
        assert len(page) <= 100
        found += [mailbox["emailAddress"] for mailbox in page]
        if "nextPageToken" not in answer.body:
            break
        token = answer.body["nextPageToken"]
    assert found == names


def test_a_listing_shows_what_get_shows(world: World) -> None:
    """A mailbox looks the same in the list and alone."""
    assert manage(world, "GET", "/mailboxes").body == {"mailboxes": [manage(world, "GET", ONE).body]}
    assert manage(world, "GET", "/mailboxes/") == manage(world, "GET", "/mailboxes")


@pytest.mark.parametrize("token", ["x", "a/b", "../leases/x@y", "\x00", "a b@example.com"], ids=repr)
def test_a_page_token_that_cannot_be(world: World, token: str) -> None:
    """A page token that no page gave is refused: as a document id it could lead anywhere."""
    check_error(manage(world, "GET", "/mailboxes", pageToken=token), 400, "INVALID_ARGUMENT")


# GET /mailboxes/{m}/plan

FIGURES = {
    "messages",
    "threads",
    "units",
    "minutes",
    "reads",
    "writes",
    "deletes",
    "storageBytes",
    "priceUsd",
    "storageUsdPerMonth",
}


@pytest.mark.parametrize("connected", [False, True])
def test_a_plan(*, connected: bool) -> None:
    """Connected or not, a mailbox has figures, each with its formula, and nothing is written or published."""
    world = World()
    for number in range(MESSAGES):
        world.ada.deliver(mail(f"Old {number}"))
    if connected:
        world.connect()
    before = stored(world)
    answer = manage(world, "GET", f"{ONE}/plan")
    assert answer.status == 200
    assert answer.body.keys() == FIGURES | {"mailbox", "complete", "assumptions"}
    assert (answer.body["mailbox"], answer.body["complete"]) == (ADA, True)
    assert all(answer.body[name].keys() == {"value", "formula"} for name in FIGURES)
    assert answer.body["messages"] == {"value": MESSAGES, "formula": "listed"}
    assert answer.body["units"]["value"] >= 20 * MESSAGES
    assert all(sentence.endswith(".") for sentence in answer.body["assumptions"])
    assert stored(world) == before
    assert world.outbox.work == []
    world.sqlite.close()


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (AccessRevoked("Nobody may read it."), 409, "FAILED_PRECONDITION"),
        (GmailUnavailable("Gmail answered 502."), 503, "UNAVAILABLE"),
        (Throttled("Later."), 429, "RESOURCE_EXHAUSTED"),
    ],
)
def test_a_plan_of_a_mailbox_that_cannot_be_read(world: World, error: Exception, code: int, status: str) -> None:
    """The failure is that of connecting it."""
    fail_with(world, error)
    assert str(error) in check_error(manage(world, "GET", f"{ONE}/plan"), code, status)


def test_a_plan_of_pages_without_messages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gmail may list pages that are empty and not the last."""
    monkeypatch.setattr(InProcessGmail, "list_messages", lambda *_, **__: MessagePage((), "more"))
    answer = manage(world, "GET", f"{ONE}/plan")
    assert (answer.status, answer.body["messages"]["value"]) == (200, MESSAGES)


def test_a_plan_without_bodies() -> None:
    """What a connected mailbox leaves out is not counted as stored."""
    sizes = []
    for bodies in (True, False):
        world = World()
        world.ada.deliver(mail())
        world.connect(Policy(bodies=bodies))
        sizes.append(manage(world, "GET", f"{ONE}/plan").body["storageBytes"]["value"])
        world.sqlite.close()
    assert sizes[1] < sizes[0]


def test_a_plan_where_no_bodies_are_kept() -> None:
    """What the deployment leaves out is not counted as stored, connected or not."""
    sizes = []
    for kept in (Kept(), Kept(content="metadata")):
        world = World(kept=kept)
        world.ada.deliver(mail())
        sizes.append(manage(world, "GET", f"{ONE}/plan").body["storageBytes"]["value"])
        world.connect()
        sizes.append(manage(world, "GET", f"{ONE}/plan").body["storageBytes"]["value"])
        world.sqlite.close()
    assert sizes[0] == sizes[1] > sizes[2] == sizes[3]


def test_a_plan_of_no_address(world: World) -> None:
    """What is no address is refused."""
    check_error(manage(world, "GET", "/mailboxes/ada/plan"), 400, "INVALID_ARGUMENT")


# POST /mailboxes:discover

DISCOVER = "/mailboxes:discover"
ADMIN = "root@example.com"


class Workspace:
    """An account whose group `sales@example.com` and unit `/Sales` have Ada, who is connected, and others."""

    def __init__(self, world: World, root: str, account: WorkspaceAccount) -> None:
        self.world = world
        self.account = account
        people = ("bob@example.com", "cai@example.com", "dee@example.com")
        for name in people:
            world.accounts.mailboxes[name] = GmailMailbox(name, clock=world.clock, rng=Random(1))
        account.add(User(ADMIN, admin=True), User(ADA, "/Sales"), *(User(name, "/Sales") for name in people))
        account.users["dee@example.com"].suspended = True
        account.groups["sales@example.com"] = [ADA, *people, "guest@elsewhere.com"]
        world.app.directory = DirectoryApi(lambda _: None, ADMIN, clock=world.clock, api_root=root)

    def discover(self, wish: object, **query: object) -> Answer:
        """Ask for a discovery."""
        return manage(self.world, "POST", DISCOVER, json.dumps(wish).encode(), **query)


@pytest.fixture
def workspace(world: World) -> Iterator[Workspace]:
    """The account, its Directory API listening on loopback."""
    account = WorkspaceAccount()
    with Served(create_app(blueprint(account))) as served:
        yield Workspace(world, f"http://{served.host}", account)


def test_a_group_is_discovered(workspace: Workspace) -> None:
    """Each member is connected, confirmed, or skipped with the reason."""
    answer = workspace.discover({"group": "Sales@example.com"})
    assert answer.status == 200
    skipped = answer.body.pop("skipped")
    assert answer.body == {
        "connected": ["bob@example.com", "cai@example.com"],
        "confirmed": [ADA],
        "failed": [],
        "problem": None,
        "dryRun": False,
    }
    assert [(item["address"], item["reason"].endswith(".")) for item in skipped] == [
        ("dee@example.com", True),
        ("guest@elsewhere.com", True),
    ]
    assert workspace.world.outbox.work == [("bob@example.com", "renew"), ("cai@example.com", "renew")]


def test_a_dry_run_of_a_unit(workspace: Workspace) -> None:
    """A dry run says the same and changes nothing."""
    before = stored(workspace.world)
    answer = workspace.discover({"orgUnit": "/Sales", "dryRun": True})
    assert (answer.status, answer.body["dryRun"]) == (200, True)
    assert (answer.body["connected"], answer.body["confirmed"]) == (["bob@example.com", "cai@example.com"], [ADA])
    assert stored(workspace.world) == before
    assert workspace.world.outbox.work == []


def test_everybody_is_discovered_under_a_policy(workspace: Workspace) -> None:
    """`/` is the whole account, and the policy is that of everybody who is new."""
    workspace.world.accounts.mailboxes[ADMIN] = GmailMailbox(ADMIN, clock=workspace.world.clock, rng=Random(1))
    workspace.discover({"orgUnit": "/", "policy": {"includeSpamTrash": False}})
    state = workspace.world.store.mailbox(ADMIN)
    assert state is not None
    assert state.policy == Policy(include_spam_trash=False)


def test_a_failure_is_named(workspace: Workspace) -> None:
    """Who cannot be connected is named with code and sentence; the answer is 200 all the same."""
    fail_with(workspace.world, AccessRevoked("Nobody may read it."))
    answer = workspace.discover({"orgUnit": "/Sales"})
    assert answer.status == 200
    assert [(item["address"], item["code"]) for item in answer.body["failed"]] == [
        ("bob@example.com", "AccessRevoked"),
        ("cai@example.com", "AccessRevoked"),
    ]
    assert answer.body["failed"][0]["message"] == f"Nobody may read it. {AccessRevoked.action}"


def test_a_discovery_goes_on_where_it_ended(workspace: Workspace) -> None:
    """With no time one person is done in each call, and the page token leads to the end."""
    wish: dict[str, object] = {"group": "sales@example.com"}
    done: list[str] = []
    for _ in range(5):
        answer = workspace.discover(wish, wait=0)
        done += [*answer.body["connected"], *answer.body["confirmed"]]
        done += [item["address"] for item in answer.body["skipped"]]
        wish["pageToken"] = answer.body.get("nextPageToken")
    assert done == [ADA, "bob@example.com", "cai@example.com", "dee@example.com", "guest@elsewhere.com"]
    assert wish["pageToken"] is None


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"group": "sales@example.com", "orgUnit": "/Sales"},
        {"group": "sales"},
        {"group": 7},
        {"orgUnit": "Sales"},
        {"orgUnit": ["/Sales"]},
        {"orgUnit": "/None"},
        {"group": "none@example.com"},
        {"domain": "example.com"},
        {"orgUnit": "/", "dryRun": "yes"},
        {"orgUnit": "/", "policy": []},
        {"orgUnit": "/", "policy": {"all": True}},
        {"orgUnit": "/", "pageToken": "xyz"},
        {"orgUnit": "/", "pageToken": 5},
        {"orgUnit": "/", "pageToken": "é"},
        {"orgUnit": "/", "pageToken": base64.b64encode(b"[1, 2]").decode()},
        {"orgUnit": "/", "pageToken": base64.b64encode(b'["members-5", ""]').decode()},
        {"orgUnit": "/Sales\ud800"},
        {"group": "sales\udfff@example.com"},
        {"orgUnit": "/", "pageToken": "\ud800"},
        {"orgUnit": "/", "pageToken": base64.b64encode(b'["\\ud800", ""]').decode()},
        {"orgUnit": "/", "pageToken": base64.b64encode(b'[null, "\\udfff"]').decode()},
        [],
    ],
)
def test_a_wish_that_makes_no_sense(workspace: Workspace, wish: object) -> None:
    """What was asked for wrongly is refused, and nothing is done."""
    before = stored(workspace.world)
    check_error(workspace.discover(wish), 400, "INVALID_ARGUMENT")
    assert stored(workspace.world) == before


@pytest.mark.parametrize("place", ["/Sales\ud800", "/Sales"])
def test_half_a_character(workspace: Workspace, place: str) -> None:
    """What can be sent nowhere is refused before anybody is asked."""
    token = base64.b64encode(b'["\\ud800", ""]').decode()
    check_error(workspace.discover({"orgUnit": place, "pageToken": token}), 400, "INVALID_ARGUMENT")
    assert workspace.account.asked == []


def test_somebody_leaves_while_a_unit_is_discovered(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users come in the order of their addresses: when others leave, nobody is behind the place to go on from."""
    monkeypatch.setattr(directory, "USERS", 2)
    names = [f"{letter}@example.com" for letter in "mzab"]
    workspace.account.add(*(User(name, "/Ops", archived=True) for name in names))
    wish: dict[str, object] = {"orgUnit": "/Ops"}
    told: list[str] = []
    while len(told) < 9:
        answer = workspace.discover(wish, wait=0)
        told += [item["address"] for item in answer.body["skipped"]]
        workspace.account.users.pop("z@example.com", None)
        if "nextPageToken" not in answer.body:
            break
        wish["pageToken"] = answer.body["nextPageToken"]
    assert [name for name in told if name != "z@example.com"] == [f"{letter}@example.com" for letter in "abm"]


@pytest.mark.parametrize("wait", ["-1", "101", "nan", "soon"])
def test_a_wait_that_is_too_long_for_a_discovery(workspace: Workspace, wait: str) -> None:
    """The function would be cut off before it could answer."""
    check_error(workspace.discover({"orgUnit": "/"}, wait=wait), 400, "INVALID_ARGUMENT")


def test_a_discovery_as_nobody(world: World) -> None:
    """Without an administrator the answer says which setting is missing."""
    answer = manage(world, "POST", DISCOVER, b'{"orgUnit": "/"}')
    assert "DIRECTORY_ADMIN" in check_error(answer, 409, "FAILED_PRECONDITION")


def test_a_directory_that_does_not_answer(workspace: Workspace) -> None:
    """503 says that it may be asked again."""
    workspace.account.refusals = [(503, "backendError")] * 10
    assert "again" in check_error(workspace.discover({"orgUnit": "/"}), 503, "UNAVAILABLE")


# GET /mailboxes/{m}/messages/{id}/attachments/{partId}

PDF = bytes(range(256)) * 40


@dataclass(frozen=True, slots=True)
class Download:
    """An answer that is bytes."""

    status: int
    body: bytes
    headers: Mapping[str, str]


def read(world: World, path: str, method: str = "GET") -> Answer:
    """Call read_mailboxes for what is an error."""
    return ask(lambda request: read_api.read_mailboxes(world.app, request), method, path)


def download(world: World, path: str, method: str = "GET") -> Download:
    """Call read_mailboxes for bytes."""
    response = serve(world, path, method)
    return Download(response.status_code, response.get_data(), dict(response.headers))


def serve(world: World, path: str, method: str = "GET") -> TestResponse:
    """Call read_mailboxes as a server does, which leaves the body out where the method has none."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return read_api.read_mailboxes(world.app, Request(environ))(environ, start_response)

    return Client(application).open(path, method=method)


def enclosed(filename: str = "plans.pdf", mime_type: str = "application/pdf", data: bytes = PDF) -> bytes:
    """The source of a message with a file, which is part 1."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "grace@example.com", ADA, "Plans"
    message.set_content("Enclosed.")
    kind, _, subtype = mime_type.partition("/")
    message.add_attachment(data, maintype=kind, subtype=subtype, filename=filename)
    return message.as_bytes()


def add(world: World, source: bytes) -> str:
    """Let a message be delivered and mirrored; return the path of its attachments."""
    message_id = world.ada.deliver(source)
    world.notify()
    world.accounts.calls.clear()
    return f"{ONE}/messages/{message_id}/attachments"


def add_quietly(world: World) -> str:
    """The same where every call of Gmail fails."""
    fail, world.accounts.before = world.accounts.before, None
    path = add(world, enclosed())
    world.accounts.before = fail
    return path


def test_an_attachment_from_gmail(world: World) -> None:
    """The bytes are answered under the name and type that the message gives them, to be saved and not to be shown."""
    found = download(world, f"{add(world, enclosed())}/1")
    assert (found.status, found.body) == (200, PDF)
    assert found.headers == {
        "Content-Type": "application/pdf",
        "Content-Length": str(len(PDF)),
        "Content-Disposition": 'attachment; filename="plans.pdf"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private",
    }


def test_an_attachment_that_is_kept() -> None:
    """With ATTACHMENTS=store the same is answered from the bucket, and Gmail is not asked."""
    world = World(kept=Kept(attachments="store"))
    world.connect()
    path = f"{add(world, enclosed())}/1"
    found = download(world, path)
    assert (found.status, found.body, found.headers["Content-Length"]) == (200, PDF, str(len(PDF)))
    assert world.accounts.calls == []
    manage(world, "POST", STOP)
    assert download(world, path) == found
    world.sqlite.close()


def test_a_message_that_is_nothing_but_a_file(world: World) -> None:
    """Its part id is empty: with or without the slash before it, the path leads to the file."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "noreply@example.com", ADA, "Report"
    message.set_content(PDF, maintype="application", subtype="zip", filename="report.zip")
    path = add(world, message.as_bytes())
    assert download(world, f"{path}/").body == download(world, path).body == PDF


@pytest.mark.parametrize("mime_type", ["text/html", "image/svg+xml", "application/javascript"])
def test_a_page_is_not_a_page_here(world: World, mime_type: str) -> None:
    """What a browser would run arrives as bytes."""
    script = b"<script>alert(1)</script>"
    found = download(world, f"{add(world, enclosed('page.html', mime_type, script))}/1")
    assert found.body == script
    assert found.headers["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize("filename", ["Größe.pdf", "a\r\nSet-Cookie: b=c", "見" * 300 + ".pdf", '"; filename="b.exe'])
def test_a_name_of_any_kind(world: World, filename: str) -> None:
    """No file name makes a header of its own."""
    path = add(world, enclosed("plans.pdf"))
    rename(world, path, filename)
    found = download(world, f"{path}/1")
    assert (found.status, found.body) == (200, PDF)
    assert len(found.headers) == 6
    assert re.fullmatch(r"attachment; filename=\"[ !#-~]*\"(; filename\*=UTF-8''[!-~]*)?", disposition(found))
    assert '"; filename=' not in disposition(found)


def disposition(found: Download) -> str:
    """How an answer is to be saved."""
    return found.headers["Content-Disposition"]


def rename(world: World, path: str, filename: str) -> None:
    """Let the mirror have another name of the attachment, whatever Gmail makes of such names."""
    message_id = path.split("/")[4]
    where = "collection = ? AND id = ?", (f"mailboxes/{ADA}/messages", message_id)
    ((data,),) = world.sqlite._connection.execute(f"SELECT data FROM documents WHERE {where[0]}", where[1])
    document = json.loads(data)
    document["attachments"][0]["filename"] = filename
    update = json.dumps(document), *where[1]
    world.sqlite._connection.execute(f"UPDATE documents SET data = ? WHERE {where[0]}", update)


def test_what_is_too_large_for_one_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large attachment is sent while it is read, without a length."""
    monkeypatch.setattr(read_api, "WHOLE_BYTES", 100)
    found = download(world, f"{add(world, enclosed())}/1")
    assert (found.status, found.body) == (200, PDF)
    assert "Content-Length" not in found.headers


def test_the_bucket_fails_on_the_way(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A failure while bytes are being sent ends the answer too early, which its reader sees, and is logged by name."""
    world = World(kept=Kept(attachments="store"))
    world.connect()
    path = f"{add(world, enclosed())}/1"

    def failing(name: str) -> Iterator[bytes]:
        yield b"some"
        raise StoreUnavailable("Cloud Storage does not answer.")

    monkeypatch.setattr(world.blobs, "read", failing)
    check_error(read(world, path), 503, "UNAVAILABLE")
    monkeypatch.setattr(read_api, "WHOLE_BYTES", 1)
    caplog.clear()
    caplog.set_level(logging.INFO)
    with pytest.raises(StoreUnavailable):
        download(world, path)
    failed = [record for record in caplog.records if record.getMessage() == "request_failed"]
    assert [vars(record)["fields"]["error"] for record in failed] == ["StoreUnavailable"]
    world.sqlite.close()


def test_an_attachment_is_not_there(world: World) -> None:
    """An unknown mailbox, message or part, and bytes that Gmail has no more, are 404 with what to do."""
    path = add(world, enclosed())
    message = check_error(read(world, "/mailboxes/nobody@example.com/messages/1/attachments/1"), 404, "NOT_FOUND")
    assert "Connect it first" in message
    assert "has no message" in check_error(read(world, f"{ONE}/messages/ffff/attachments/1"), 404, "NOT_FOUND")
    assert "no attachment" in check_error(read(world, f"{path}/0"), 404, "NOT_FOUND")
    assert world.accounts.calls == []
    world.ada.delete([path.split("/")[4]])
    assert "the mirror is about to follow" in check_error(read(world, f"{path}/1"), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (AccessRevoked("Nobody may read it."), 409, "FAILED_PRECONDITION"),
        (GmailUnavailable("Gmail answered 502."), 503, "UNAVAILABLE"),
        (Throttled("Later."), 429, "RESOURCE_EXHAUSTED"),
    ],
)
def test_an_attachment_that_gmail_refuses(world: World, error: Exception, code: int, status: str) -> None:
    """Why Gmail does not give the bytes is told in Google's model."""
    path = add(world, enclosed())
    fail_with(world, error)
    assert str(error) in check_error(read(world, f"{path}/1"), code, status)


def test_an_attachment_of_a_stopped_mailbox(world: World) -> None:
    """Where nobody wants Gmail asked, 409 says how that is changed; being deleted, that nothing is to be had."""
    path = add(world, enclosed())
    manage(world, "POST", STOP)
    assert "Connect it again" in check_error(read(world, f"{path}/1"), 409, "FAILED_PRECONDITION")
    stored_mailbox = world.state()
    assert world.store.want(stored_mailbox, "purged", due_at=world.clock.now())
    assert "being deleted" in check_error(read(world, f"{path}/1"), 409, "FAILED_PRECONDITION")


def test_reading_is_not_writing(world: World) -> None:
    """Nothing is stored or published for an attachment, had or refused."""
    path = add(world, enclosed())
    before = stored(world), list(world.outbox.work)
    download(world, f"{path}/1")
    read(world, f"{path}/2")
    assert (stored(world), world.outbox.work) == before


def test_the_head_of_an_attachment(world: World) -> None:
    """HEAD has the status and the headers that GET has, and no bytes."""
    path = f"{add(world, enclosed())}/1"
    got, head = download(world, path), download(world, path, "HEAD")
    assert (head.status, head.headers, head.body) == (got.status, got.headers, b"")


# What all have in common


@pytest.mark.parametrize("path", ["/mailboxes", ONE, "/mailboxes/nobody@example.com", "/mailboxes/ada", "/elsewhere"])
def test_head(world: World, path: str) -> None:
    """HEAD has the status that GET has."""
    assert manage(world, "HEAD", path).status == manage(world, "GET", path).status


@pytest.mark.parametrize(
    ("handle", "method", "path", "allowed"),
    [
        *(("pushed", method, "/", "POST") for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW")),
        *(("scheduled", method, "/", "POST") for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")),
        *(("trigger_sync", method, SYNC, "POST") for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH")),
        *(("manage", method, ONE, "PUT, GET, DELETE") for method in ("POST", "PATCH", "OPTIONS", "BREW")),
        *(("manage", method, STOP, "POST") for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")),
        *(("manage", method, "/mailboxes", "GET") for method in ("POST", "PUT", "DELETE", "OPTIONS")),
        *(("manage", method, f"{ONE}/plan", "GET") for method in ("POST", "PUT", "DELETE", "OPTIONS")),
        *(("manage", method, f"{ONE}/parked", "GET") for method in ("POST", "PUT", "DELETE", "OPTIONS")),
        *(
            ("read", method, f"{ONE}/messages/1/attachments{part}", "GET")
            for part in ("", "/1")
            for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH")
        ),
        *(("manage", method, "/mailboxes:discover", "POST") for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")),
    ],
)
def test_a_method_that_is_not_allowed(world: World, handle: str, method: str, path: str, allowed: str) -> None:
    """405 names the methods there are, to people and in the Allow header, and nothing is done."""
    handlers: dict[str, Callable[[Request], Response]] = {
        "pushed": lambda request: api.pushed(world.app, world.app.sync_history, request),
        "scheduled": lambda request: api.scheduled(world.app.sweep_mailboxes, request),
        "trigger_sync": lambda request: api.trigger_sync(world.app, request),
        "manage": lambda request: api.manage_mailboxes(world.app, request),
        "read": lambda request: read_api.read_mailboxes(world.app, request),
    }
    world.clock.advance(3_600)
    before = stored(world)
    answer = ask(handlers[handle], method, path, push({"emailAddress": ADA, "historyId": world.head()}))
    message = check_error(answer, 405, "INVALID_ARGUMENT")
    assert answer.headers["Allow"] == allowed
    assert all(method in message for method in allowed.split(", "))
    assert stored(world) == before
    assert world.outbox.work == []


@pytest.mark.parametrize(
    "path", ["/", "/elsewhere", "/mailboxes/a/b/c", "/mailboxes//sync", SYNC + "/now", "/mailboxes2"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "HEAD", "OPTIONS"])
def test_a_path_that_is_not_there(world: World, method: str, path: str) -> None:
    """404 lists the routes there are."""
    assert "Routes: POST /mailboxes/{mailbox}/sync." in check_error(trigger(world, path, method), 404, "NOT_FOUND")
    message = check_error(manage(world, method, path), 404, "NOT_FOUND")
    shown = message.removesuffix(".").partition("Routes: ")[2].split("; ")
    coded = [route for route in source.routes() if route.entry_point == "manage_mailboxes"]
    assert shown == [f"{route.method} {route.path.replace('{m}', '{mailbox}')}" for route in coded]
    message = check_error(read(world, path, method), 404, "NOT_FOUND")
    assert "GET /mailboxes/{mailbox}/messages/{id}/attachments/{partId}; GET " in message


def test_a_push_that_is_done(world: World) -> None:
    """204 has no body."""
    world.ada.deliver(mail("New"))
    answer = pushed(world, push({"emailAddress": ADA, "historyId": world.head()}))
    assert (answer.status, answer.body) == (204, {})
    assert world.differences() == []


def test_a_push_that_is_malformed(world: World) -> None:
    """400 says where the message will be found."""
    assert "dead-letter" in check_error(pushed(world, b"{}"), 400, "INVALID_ARGUMENT")


def test_a_push_that_is_to_come_back(world: World) -> None:
    """503 has no body: Pub/Sub reads none."""
    fail_with(world, GmailUnavailable("Gmail answered 502."))
    answer = pushed(world, push({"emailAddress": ADA, "historyId": world.head() + 1}))
    assert (answer.status, answer.body) == (503, {})


def test_a_schedule(world: World) -> None:
    """Cloud Scheduler is told how many mailboxes were published, whatever it sends."""
    world.clock.advance(3_600)
    for body in (b"", b"{}", b"\xff"):
        answer = ask(lambda request: api.scheduled(world.app.sweep_mailboxes, request), "POST", "/", body)
        assert (answer.status, answer.body) == (200, {"published": 1})
    assert world.outbox.work == [(ADA, "sync")] * 3


def test_a_schedule_while_pubsub_is_down(world: World) -> None:
    """503 lets Cloud Scheduler try again."""
    world.clock.advance(3_600)
    world.app.publisher = Deaf()
    answer = ask(lambda request: api.scheduled(world.app.sweep_mailboxes, request), "POST")
    check_error(answer, 503, "UNAVAILABLE")


@pytest.mark.parametrize(
    "call",
    [
        trigger,
        lambda world: pushed(world, push({"emailAddress": ADA, "historyId": world.head() + 1})),
        lambda world: ask(lambda request: api.scheduled(lambda: int(MARKER), request), "POST"),
        lambda world: manage(world, "PUT", "/mailboxes/grace@example.com"),
        lambda world: read(world, f"{add_quietly(world)}/1"),
    ],
    ids=["trigger_sync", "sync_history", "a schedule", "manage_mailboxes", "read_mailboxes"],
)
def test_something_unexpected(world: World, call: Callable[[World], Answer], caplog: pytest.LogCaptureFixture) -> None:
    """A failure without a name is told in Google's model and logged by type and place; its text stays inside."""
    world.accounts.mailboxes["grace@example.com"] = world.ada
    fail_with(world, ValueError(MARKER))
    caplog.set_level(logging.INFO)
    assert MARKER not in check_error(call(world), 503, "UNAVAILABLE")
    [record] = [record for record in caplog.records if record.getMessage() == "unexpected_failure"]
    assert vars(record)["fields"]["error"] == "ValueError"
    assert MARKER not in str(vars(record))


def test_after_something_unexpected(world: World) -> None:
    """Whatever broke, the lease runs out and the next delivery goes on: nothing is lost."""
    world.ada.deliver(mail("New"))
    fail_with(world, ValueError(MARKER))
    assert pushed(world, push({"emailAddress": ADA, "historyId": world.head()})).status == 503
    world.accounts.before = None
    world.clock.advance(121)
    assert pushed(world, push({"emailAddress": ADA, "historyId": world.head()})).status == 204
    assert world.differences() == []
