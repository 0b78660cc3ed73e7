"""The application: what Pub/Sub is answered for whatever becomes of a push, and what the schedules publish."""

import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mailmirror import errors
from mailmirror.adapters.firestore import FirestoreStore
from mailmirror.adapters.sqlite import SqliteStore
from mailmirror.app import App
from mailmirror.config import Settings
from mailmirror.errors import (
    AccessRevoked,
    GmailRejected,
    GmailUnavailable,
    HistoryLag,
    InvalidInput,
    LeaseLost,
    MailmirrorError,
    StoreUnavailable,
    Throttled,
)
from mailmirror.keep import Kept
from mailmirror.lease import Pace
from mailmirror.model import MailboxId
from mailmirror.ports import Task
from mailmirror.wiring import SystemClock, from_settings

from tests.clock import VirtualClock
from tests.killing import KillingStore
from tests.world import ADA, World, mail, push

FAILURES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, MailmirrorError)]
SETTINGS = {
    "GOOGLE_CLOUD_PROJECT": "p",
    "GMAIL_TOPIC": "projects/p/topics/g",
    "WORK_TOPIC": "projects/p/topics/w",
    "GMAIL_AUTH": "none",
}


@pytest.fixture
def world() -> Iterator[World]:
    """A connected mailbox of three messages, up to date."""
    world = World()
    for number in range(3):
        world.ada.deliver(mail(f"Old {number}"))
    world.connect()
    world.accounts.calls.clear()
    yield world
    world.sqlite.close()


def rows(world: World, *, leases: bool = True) -> dict[tuple[str, str], tuple[str, int]]:
    """Everything in the store, document by document, with the number of writes."""
    found = world.sqlite._connection.execute("SELECT collection, id, data, version FROM documents")
    return {
        (collection, name): (data, version)
        for collection, name, data, version in found
        if leases or collection != "leases"
    }


def set_fields(world: World, **fields: object) -> None:
    """Change the mailbox document by hand."""
    world.sqlite._connection.execute(
        "UPDATE documents SET data = json_patch(data, ?) WHERE collection = 'mailboxes'", (json.dumps(fields),)
    )


def failing(error: MailmirrorError, method: str = "") -> Callable[[str, str], None]:
    """A fault: each call of a method fails, or each call of any."""

    def fail(called: str, subject: str) -> None:
        if method in ("", called):
            raise error

    return fail


def work(world: World, task: str = "sync") -> int:
    """Push a work message and return the answer."""
    return world.app.push(world.app.run_work, push({"mailbox": ADA, "task": task}))


# The acknowledgement rule


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_decides_its_own_answer(world: World, failure: type[MailmirrorError]) -> None:
    """Malformed is 400, what nobody has to deliver again is 204, everything else is 503."""

    def handle(body: bytes) -> None:
        raise failure("It happened.")

    expected = 400 if failure is InvalidInput else 204 if failure.acknowledge else 503
    assert world.app.push(handle, b"") == expected


def test_a_change_is_mirrored_before_it_is_acknowledged(world: World) -> None:
    """204 means that the change is in the mirror, the cursor with it and the lease given back."""
    world.ada.deliver(mail("New"))
    assert world.notify() == 204
    assert world.differences() == []
    assert world.state().cursor == world.head()
    lease = world.store.lease(ADA)
    assert lease is not None
    assert lease.free(world.clock.now())


def test_a_duplicate(world: World) -> None:
    """The same notification again is acknowledged, fetches nothing and writes nothing but the lease."""
    world.ada.deliver(mail("New"))
    head = world.head()
    world.notify(head)
    before = rows(world, leases=False)
    world.accounts.calls.clear()
    assert world.notify(head) == 204
    assert world.accounts.made("users.messages.get") == 0
    assert rows(world, leases=False) == before


def test_a_stale_notification(world: World) -> None:
    """What the mirror is already past is acknowledged without a call of Gmail and without a write."""
    before = rows(world)
    assert world.notify(world.state().cursor - 1) == 204
    assert world.accounts.calls == []
    assert rows(world) == before


@pytest.mark.parametrize("ahead", [0, 5])
def test_the_lease_is_held(world: World, ahead: int) -> None:
    """Who finds another worker at the mailbox leaves it the hint and acknowledges; the hint is not lost."""
    now = world.clock.now()
    held = world.store.acquire(world.state(), owner="other", now=now, expires_at=now + timedelta(seconds=120))
    for _ in range(ahead):
        world.ada.deliver(mail("New"))
    head = world.head()
    assert world.notify() == 204
    assert world.accounts.calls == []
    assert world.state() == replace(held.mailbox, hint=head, next_due_at=held.lease.expires_at)
    world.store.commit(held, held.mailbox, expires_at=now, release=True)
    world.sweep()
    assert world.differences() == []


def test_an_unknown_mailbox(world: World) -> None:
    """A notification for a mailbox that is not connected is acknowledged and leaves nothing behind."""
    before = rows(world)
    for handle, data in (
        (world.app.sync_history, {"emailAddress": "nobody@example.com", "historyId": 2**63 - 1}),
        (world.app.run_work, {"mailbox": "nobody@example.com", "task": "sync"}),
        (world.app.run_work, {"mailbox": "nobody@example.com", "task": "renew"}),
    ):
        assert world.app.push(handle, push(data)) == 204
    assert world.accounts.calls == []
    assert rows(world) == before


def test_a_stopped_mailbox(world: World) -> None:
    """Pushes for a mailbox that was stopped are acknowledged; nothing is read and nothing written."""
    world.app.stop(ADA, 50)
    world.outbox.work.clear()
    world.accounts.calls.clear()
    before = rows(world)
    world.ada.deliver(mail("New"))
    assert world.notify() == 204
    assert work(world) == 204
    assert work(world, "renew") == 204
    assert world.accounts.calls == []
    assert rows(world) == before


def test_a_mailbox_being_deleted(world: World) -> None:
    """A notification of a mailbox that is being deleted is acknowledged and brings nothing of it back."""
    set_fields(world, phase="purging", wanted="purged")
    before = rows(world)
    world.ada.deliver(mail("New"))
    assert world.notify() == 204
    assert {method for method, _ in world.accounts.calls} <= {"users.stop"}
    assert {path for path in rows(world) if path not in before} <= {("receipts", ADA)}


@pytest.mark.parametrize("body", [b"", b"{}", push({}), push({"emailAddress": ADA, "historyId": -1})])
def test_a_malformed_push(world: World, body: bytes) -> None:
    """A malformed push is refused, so that it reaches the dead-letter topic, and writes nothing."""
    before = rows(world)
    assert world.app.push(world.app.sync_history, body) == 400
    assert world.app.push(world.app.run_work, body) == 400
    assert rows(world) == before


# Failures that somebody has to mend


@pytest.mark.parametrize(
    "method", ["users.history.list", "users.messages.get", "users.labels.list", "users.getProfile"]
)
@pytest.mark.parametrize("failure", [AccessRevoked, GmailRejected])
def test_access_is_gone(world: World, failure: type[MailmirrorError], method: str) -> None:
    """Lost access is acknowledged and said in words on the mailbox; the cursor stays and nothing is lost."""
    if method == "users.getProfile":
        world.ada.expire_history()
    world.ada.modify([world.ada.deliver(mail("New"))], [world.ada.create_label("Fresh")])
    cursor = world.state().cursor
    world.accounts.before = failing(failure("The user withdrew access."), method)
    assert world.notify() == 204
    state = world.state()
    assert (state.phase, state.cursor) == ("reauth_required", cursor)
    assert state.problem is not None
    assert (state.problem.code, state.problem.message) == (failure.__name__, "The user withdrew access.")
    assert state.problem.action == failure.action
    lease = world.store.lease(ADA)
    assert lease is not None
    assert lease.free(world.clock.now())
    world.accounts.before = None
    world.app.trigger_sync(ADA, "incremental", 50)
    world.work()
    assert (world.state().phase, world.state().problem) == ("live", None)
    assert world.differences() == []


def test_a_mailbox_without_access_is_left_alone(world: World) -> None:
    """Notifications of a mailbox whose access is gone cost no call of Gmail, until the sweep tries again hourly."""
    world.accounts.before = failing(AccessRevoked("Gone."))
    world.ada.deliver(mail("New"))
    world.notify()
    world.accounts.calls.clear()
    world.accounts.before = None
    world.ada.deliver(mail("Newer"))
    assert world.notify() == 204
    assert work(world) == 204
    assert world.app.sweep_mailboxes() == 0
    assert world.accounts.calls == []
    world.clock.advance(3_601)
    assert world.app.sweep_mailboxes() == 1
    world.work()
    assert world.state().phase == "live"
    assert world.differences() == []


def test_a_watch_that_gmail_refuses(world: World) -> None:
    """A topic that is not set up is said on the mailbox, and the mirror goes on without the watch."""
    world.accounts.before = failing(GmailRejected("User not authorized to perform this action."), "users.watch")
    world.ada.deliver(mail("New"))
    assert work(world, "renew") == 204
    assert world.state().watch.error == f"User not authorized to perform this action. {GmailRejected.action}"
    assert world.state().phase == "live"
    assert world.differences() == []
    world.accounts.before = None
    assert work(world, "renew") == 204
    assert world.state().watch.error is None


def test_a_watch_that_gmail_does_not_answer_for(world: World) -> None:
    """Gmail answers 500 as long as a topic is not set up: the renewal comes back, and mail does not wait for it."""
    world.clock.advance(6 * 86_400)
    world.accounts.before = failing(GmailUnavailable("Gmail answered 500 to users.watch."), "users.watch")
    world.ada.deliver(mail("New"))
    assert work(world, "renew") == 503
    assert work(world) == 204
    assert world.differences() == []
    assert (world.state().phase, world.state().problem) == ("live", None)
    assert "500" in (world.state().watch.error or "")
    world.accounts.before = None
    assert work(world, "renew") == 204
    assert world.state().watch.error is None


# Failures that pass


@pytest.mark.parametrize("method", ["users.history.list", "users.messages.get"])
@pytest.mark.parametrize("wait", [None, 30 * 60])
def test_throttled(world: World, wait: int | None, method: str) -> None:
    """Quota refused is 503, and the mailbox rests until the time Gmail named, or for a minute."""
    until = None if wait is None else world.clock.now() + timedelta(seconds=wait)
    world.accounts.before = failing(Throttled("User-rate limit exceeded.", until), method)
    world.ada.deliver(mail("New"))
    assert world.notify() == 503
    state = world.state()
    assert state.phase == "throttled"
    assert state.throttled_until == (until or world.clock.now() + timedelta(minutes=1))
    assert state.next_due_at == state.throttled_until
    assert state.problem is not None
    assert state.problem.code == "Throttled"


def test_a_throttled_mailbox_rests(world: World) -> None:
    """Until its time has come nothing is asked of Gmail; notifications wait as a hint and are done by the sweep."""
    world.accounts.before = failing(Throttled("Not now.", world.clock.now() + timedelta(minutes=30)))
    world.ada.deliver(mail("New"))
    assert world.notify() == 503
    world.accounts.before = None
    world.accounts.calls.clear()
    world.ada.deliver(mail("Newer"))
    head = world.head()
    assert world.notify() == 204
    assert work(world) == 204
    assert world.accounts.calls == []
    assert world.state().hint == head
    world.clock.advance(29 * 60)
    assert world.app.sweep_mailboxes() == 0
    world.clock.advance(61)
    assert world.app.sweep_mailboxes() == 1
    world.work()
    state = world.state()
    assert (state.phase, state.throttled_until, state.problem) == ("live", None, None)
    assert world.differences() == []


def test_gmail_does_not_answer(world: World) -> None:
    """Gmail being down is 503 with a problem in words, and the notification's second delivery mends it."""
    world.accounts.before = failing(GmailUnavailable("Gmail answered 502."))
    world.ada.deliver(mail("New"))
    assert world.notify() == 503
    problem = world.state().problem
    assert problem is not None
    assert (problem.code, problem.message) == ("GmailUnavailable", "Gmail answered 502.")
    world.accounts.before = None
    assert world.notify() == 204
    assert world.state().problem is None
    assert world.differences() == []


def test_gmail_is_behind_its_own_notification(world: World) -> None:
    """A history that does not show the announced change yet is 503, and the document says so until it is there."""
    ahead = world.head() + 7
    assert world.notify(ahead) == 503
    problem = world.state().problem
    assert problem is not None
    assert problem.code == "HistoryLag"
    assert world.state().cursor < ahead
    world.ada.deliver(mail("New"))
    world.clock.advance(60)
    while world.head() < ahead:
        world.ada.deliver(mail("More"))
    assert world.notify(ahead) == 204
    assert world.state().problem is None
    assert world.differences() == []


@pytest.mark.parametrize("hint", [2**63 - 1, 10**18])
def test_a_lying_notification_ends(world: World, hint: int) -> None:
    """A history id that never comes is delivered again for ten minutes, then dropped; the mailbox stays well."""
    minutes = 0
    while world.notify(hint) == 503:
        minutes += 1
        world.clock.advance(60)
    assert 0 < minutes <= 11
    world.ada.deliver(mail("New"))
    assert world.notify() == 204
    assert world.differences() == []
    assert world.state().hint < hint


@pytest.mark.parametrize("failure", [StoreUnavailable, LeaseLost])
@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
@pytest.mark.parametrize("call", ["mailbox", "acquire", "threads", "commit"])
def test_the_store_fails(call: str, after: bool, failure: type[MailmirrorError]) -> None:
    """Any call of the store that fails, done or not, is 503, and the next delivery leaves no difference."""
    armed: list[bool] = []

    def fail(name: str, **moment: bool) -> bool:
        if armed and (name, moment["after"]) == (call, after):
            armed.clear()
            raise failure("Not now.")
        return False

    world = World()
    world.app = world.worker("worker-1")
    world.ada.deliver(mail("Old"))
    world.connect()
    store: Any = KillingStore(world.sqlite, fail)
    world.app.store = world.app.engine.store = store
    world.ada.deliver(mail("New"))
    armed.append(True)
    assert world.notify() == 503
    assert not armed
    world.clock.advance(121)
    assert world.notify() == 204
    assert world.differences() == []
    world.sqlite.close()


# Steps, continuations, schedules


def test_a_step_that_is_over_is_continued(world: World) -> None:
    """Work left at the end of a step is published, once and after the lease was given back."""
    small = world.worker("worker-2", step=timedelta(0))
    world.app.trigger_sync(ADA, "full", 0)
    world.outbox.work.clear()
    free: list[bool] = []

    class Watching:
        def publish(self, mailbox: MailboxId, task: Task) -> None:
            lease = world.store.lease(mailbox)
            free.append(lease is None or lease.free(world.clock.now()))
            world.outbox.publish(mailbox, task)

    small.publisher = Watching()
    assert small.push(small.run_work, push({"mailbox": ADA, "task": "sync"})) == 204
    assert world.outbox.work == [(ADA, "sync")]
    assert free == [True]
    world.work()
    assert world.state().active_run is None
    assert world.differences() == []


def test_a_continuation_that_cannot_be_published(world: World) -> None:
    """If Pub/Sub takes no continuation the push is not acknowledged, so that its delivery is the continuation."""

    class Broken:
        def publish(self, mailbox: MailboxId, task: Task) -> None:
            raise StoreUnavailable("Pub/Sub did not accept a message.")

    world.app.trigger_sync(ADA, "full", 0)
    small = world.worker("worker-2", step=timedelta(0))
    small.publisher = Broken()
    assert small.push(small.run_work, push({"mailbox": ADA, "task": "sync"})) == 503
    world.clock.advance(20 * 60)
    assert world.app.sweep_mailboxes() == 1


def test_what_came_during_a_run_that_was_waited_for_is_continued(world: World) -> None:
    """Who waits for a run is told that it is done, and a notification that came in its last slice goes on by itself."""
    other = world.worker("worker-2")
    arrived: list[str] = []

    def arrive(method: str, subject: str) -> None:
        if method == "users.labels.list" and not arrived:
            arrived.append(world.ada.deliver(mail("In the last slice")))
            assert world.notify(app=other) == 204
            world.clock.advance(60)

    world.accounts.before = arrive
    assert world.app.trigger_sync(ADA, "full", 50).status == "done"
    assert world.state().active_run is None
    assert world.outbox.work == [(ADA, "sync")]
    world.work()
    assert arrived[0] in world.documents("messages")
    assert world.differences() == []


@pytest.mark.parametrize("failure", [HistoryLag, GmailUnavailable])
def test_what_a_person_asked_for_and_failed_for_now_is_continued(world: World, failure: type[MailmirrorError]) -> None:
    """Who asked gets the failure; what is left goes on by itself, as it would if Pub/Sub had pushed it."""

    def fail(method: str, subject: str) -> None:
        if method == "users.history.list":
            raise GmailUnavailable("Not now.")

    if failure is GmailUnavailable:
        world.accounts.before = fail
    world.ada.history_lag = timedelta(minutes=1)
    world.ada.deliver(mail("New"))
    world.store.raise_hint(ADA, world.ada.truth()["historyId"], world.clock.now())
    with pytest.raises(failure):
        world.app.trigger_sync(ADA, "incremental", 50)
    assert world.outbox.work == [(ADA, "sync")]
    world.accounts.before = None
    world.work()
    assert world.differences() == []


def test_what_a_person_asked_for_without_access_is_not_continued(world: World) -> None:
    """A failure that a person has to mend publishes nothing: trying again at once would only fail again."""

    def refuse(method: str, subject: str) -> None:
        raise AccessRevoked("Not any more.")

    world.accounts.before = refuse
    with pytest.raises(AccessRevoked):
        world.app.trigger_sync(ADA, "incremental", 50)
    assert world.outbox.work == []


def test_finished_work_publishes_nothing(world: World) -> None:
    """A mailbox that is up to date keeps nobody busy."""
    world.ada.deliver(mail("New"))
    world.notify()
    assert work(world) == 204
    assert world.outbox.work == []


def test_a_renewal(world: World) -> None:
    """A renewal prolongs the watch and catches up from the stored cursor: the watch's own history id jumps nothing."""
    expires = world.state().watch.expires_at
    world.clock.advance(24 * 3600)
    world.ada.deliver(mail("Missed"))
    assert world.app.renew_watches() == 1
    assert world.outbox.work == [(ADA, "renew")]
    world.work()
    assert world.state().watch.expires_at == expires + timedelta(days=1)
    assert world.state().watch.error is None
    assert world.differences() == []


def test_a_watch_is_renewed_once_a_day(world: World) -> None:
    """A watch renewed today is not renewed again."""
    assert world.app.renew_watches() == 0
    world.clock.advance(13 * 3600)
    assert world.app.renew_watches() == 1
    world.work()
    assert world.app.renew_watches() == 0


def test_the_sweep_publishes_what_is_due(world: World) -> None:
    """A quiet mailbox is looked at every quarter of an hour, and its lost notification does no harm."""
    assert world.app.sweep_mailboxes() == 0
    world.ada.deliver(mail("Lost notification"))
    world.clock.advance(16 * 60)
    assert world.app.sweep_mailboxes() == 1
    assert world.outbox.work == [(ADA, "sync")]
    world.work()
    assert world.differences() == []
    assert world.app.sweep_mailboxes() == 0


# Wiring


def test_the_machines_clock() -> None:
    """The clock of a deployment tells aware times, and waits."""
    clock = SystemClock()
    before = clock.now()
    clock.sleep(0)
    assert before.utcoffset() == timedelta(0)
    assert clock.now() >= before


def wired(**environment: str) -> App:
    """The application as a deployment with these settings has it."""
    return from_settings(Settings.from_env(SETTINGS | environment))


def test_a_deployment_on_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With SQLite nothing of Google's is asked for, and the settings reach those they are meant for."""
    monkeypatch.setenv("K_REVISION", "run-work-00007")
    app = wired(
        MAILMIRROR_STORE=f"sqlite:{tmp_path}/mirror.db", STEP_SECONDS="20", LEASE_SECONDS="30", SWEEP_QUIET_MINUTES="5"
    )
    assert isinstance(app.store, SqliteStore)
    assert app.engine.blobs is None
    assert app.step == timedelta(seconds=20)
    assert app.engine.pace == Pace(lease=timedelta(seconds=30), quiet=timedelta(minutes=5))
    owners = {app.engine.new_owner() for _ in range(100)}
    assert len(owners) == 100
    assert all(owner.startswith("run-work-00007/") for owner in owners)
    app.store.close()


def test_a_deployment_in_the_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Firestore and a bucket the clients are of the project and database that are set, and ask nobody yet."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:9")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    app = wired(FIRESTORE_DATABASE="mail", BODY_BUCKET="bodies")
    assert isinstance(app.store, FirestoreStore)
    assert app.store._client._database_string == "projects/p/databases/mail"
    assert app.engine.blobs is not None


def test_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """GMAIL_CONTENT and ATTACHMENTS reach the engine, which keeps what they say."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:9")
    assert wired().engine.kept == Kept("full", "none")
    assert wired(GMAIL_CONTENT="metadata").engine.kept == Kept("metadata", "none")
    assert wired(BODY_BUCKET="bodies", ATTACHMENTS="store").engine.kept == Kept("full", "store")


@pytest.mark.parametrize("prices", ["2026", "legacy"])
def test_the_price_table(prices: str, tmp_path: Path) -> None:
    """GMAIL_PRICES decides what the planner reckons with."""
    app = wired(MAILMIRROR_STORE=f"sqlite:{tmp_path}/mirror.db", GMAIL_PRICES=prices)
    assert app.engine.prices["users.messages.get"] == {"2026": 20, "legacy": 5}[prices]
    assert isinstance(app.store, SqliteStore)
    app.store.close()


def test_every_run_has_an_id_of_its_own(tmp_path: Path) -> None:
    """Two runs asked for at the same time are not the same run."""
    app = wired(MAILMIRROR_STORE=f"sqlite:{tmp_path}/mirror.db")
    assert len({app.new_run_id() for _ in range(100)}) == 100
    assert isinstance(app.store, SqliteStore)
    app.store.close()


@pytest.mark.parametrize(
    ("published", "lag"), [("2026-11-20T12:00:00Z", 3.0), ("2026-11-20T11:59:03.5Z", 59.5), (None, None), ("x", None)]
)
def test_the_lag_of_a_notification(world: World, published: str | None, lag: float | None) -> None:
    """How long a change took to arrive is kept with the mailbox, if the notification says when it was published."""
    world.clock = VirtualClock(datetime.fromisoformat("2026-11-20T12:00:03+00:00"))
    app = world.worker("worker-3")
    world.accounts.clock = world.clock
    world.ada.deliver(mail("New"))
    envelope = json.loads(push({"emailAddress": ADA, "historyId": world.head()}))
    envelope["message"]["publishTime"] = published
    assert app.push(app.sync_history, json.dumps(envelope).encode()) == 204
    assert world.state().lag == lag
    assert (world.state().last_notification_at is None) is (lag is None)
