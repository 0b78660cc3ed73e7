"""Purging: everything that is kept of a mailbox goes, however often a worker dies on the way, and a receipt stays."""

import logging
import uuid
from base64 import encodebytes
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest
from mailmirror import mailboxes, purge
from mailmirror.adapters.firestore import FirestoreStore
from mailmirror.adapters.storage import StorageBlobs
from mailmirror.errors import (
    AccessRevoked,
    BeingPurged,
    GmailRejected,
    GmailUnavailable,
    LeaseLost,
    MailmirrorError,
    StoreUnavailable,
    Throttled,
    UnknownMailbox,
)
from mailmirror.keep import Kept
from mailmirror.model import Mailbox, Policy, Receipt, Watch
from mailmirror.slice import Write

from tests.contract.buckets import client_of, emulated
from tests.contract.counting import CountingFirestore
from tests.contract.worker import firestore_client
from tests.killing import Killed, When, doomed
from tests.meanwhile import Meanwhile
from tests.world import ADA, World, mail, push

BOB = "bob@example.com"
# As many calls as a worker is killed at.
DEATHS = 23
LARGE = "All work and no play. " * 20_000


def small_world() -> World:
    """A connected mailbox of three messages, two of them with large bodies, a token, and a parked message."""
    world = World()
    for number in range(2):
        world.ada.deliver(mail(f"Long {number}", text=f"{number} {LARGE}"))
    world.ada.deliver(mail("Short"))
    world.connect()
    world.accounts.secrets[ADA] = 1
    bad = world.ada.deliver(mail("Bad"))

    def fail(method: str, subject: str) -> None:
        if subject == bad:
            raise GmailUnavailable("500")

    world.accounts.before = fail
    world.notify()
    world.accounts.before = None
    assert world.state().counts.parked == 1
    assert len(world.blobs.objects) == 2
    return world


def backfilling() -> World:
    """A mailbox in the middle of its first sync, with the manifest and plan of its run still there."""
    world = World(step=timedelta(seconds=1))
    for number in range(200):
        world.ada.deliver(mail(f"Number {number}"))
    world.accounts.before = lambda method, subject: world.clock.advance(0.2)
    world.app.connect(ADA, None)
    while (run := world.state().active_run) is None or not run.done:
        world.work_once()
    return world


def paths(world: World) -> list[str]:
    """The path of every document there is."""
    rows = world.sqlite._connection.execute("SELECT collection || '/' || id FROM documents ORDER BY collection, id")
    return [path for (path,) in rows]


def by_collection(world: World) -> Counter[str]:
    """How many documents there are below the mailbox, by collection."""
    return Counter(path.split("/")[-2] for path in paths(world) if path.startswith(f"mailboxes/{ADA}/"))


def assert_gone(world: World) -> Receipt:
    """Nothing is left of the mailbox but its receipt, and that says what there was."""
    assert paths(world) == [f"receipts/{ADA}"]
    assert world.blobs.objects == {}
    assert world.accounts.secrets == {}
    receipt = world.store.receipt(ADA)
    assert receipt is not None
    assert receipt.email_address == ADA
    assert receipt.expire_at - receipt.purged_at == timedelta(days=90)
    return receipt


def deleted(world: World, wait: float = 50) -> Receipt:
    """Delete the mailbox while somebody waits for it."""
    left = world.app.delete(ADA, wait)
    assert isinstance(left, Receipt)
    return left


# All of it


def test_everything_goes_but_the_receipt(caplog: pytest.LogCaptureFixture) -> None:
    """Documents of every kind, bodies, token, watch, lease and mailbox go; the receipt has the exact counts."""
    world = small_world()
    there, now = by_collection(world), world.clock.now()
    assert {"messages", "threads", "labels", "deltas", "parked", "runs"} <= there.keys()
    with caplog.at_level(logging.INFO, "mailmirror"):
        receipt = deleted(world)
    assert receipt == assert_gone(world)
    assert receipt.documents == there
    assert (receipt.objects, receipt.secrets, receipt.watch_stopped) == (2, 1, True)
    assert receipt.started_at == receipt.purged_at == now
    assert world.ada.active_watch() is None
    (record,) = [record for record in caplog.records if record.getMessage() == "mailbox_purged"]
    fields: Any = record.__dict__["fields"]
    assert (fields["mailbox"], fields["documents"], fields["objects"]) == (ADA, sum(there.values()), 2)


def with_attachment(text: str, data: bytes) -> bytes:
    """The source of a message with an attachment."""
    head = f'To: {ADA}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n'
    head += f"Content-Type: text/plain\r\n\r\n{text}\r\n--b\r\nContent-Type: application/x-tar\r\n"
    head += "Content-Disposition: attachment; filename=a.tar\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return head.encode() + encodebytes(data) + b"--b--\r\n"


def test_nothing_is_left_in_firestore_and_cloud_storage(
    firestore_emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Firestore and Cloud Storage as applications see them, through Google's own clients, no document and no object
    of a mailbox is left, large bodies and stored attachments included; another mailbox has all of its own.
    """
    monkeypatch.setattr(purge, "OBJECTS", 3)
    project = f"purge-{uuid.uuid4().hex[:12]}"
    with (
        firestore_client(firestore_emulator, project) as documents,
        emulated() as url,
        client_of(url) as client,
    ):
        world = World(store=FirestoreStore(documents), kept=Kept(attachments="store"))
        blobs: Any = StorageBlobs(client, "bodies")
        world.blobs = blobs
        world.app = world.worker("worker-1")
        for number in range(5):
            world.ada.deliver(with_attachment(f"{number // 2} {LARGE}", bytes([number % 2]) * 5_000_000))
        world.connect()
        blobs.put(f"{BOB}/0123", [b"1"], "text/plain")
        objects = client.bucket("bodies")
        assert len(list(objects.list_blobs())) == 3 + 2 + 1
        receipt = deleted(world)
        assert receipt.objects == 5
        assert [blob.name for blob in objects.list_blobs()] == [f"{BOB}/0123"]
        assert list(documents.collections()) == [documents.collection("receipts")]


def test_another_mailbox_is_not_touched() -> None:
    """What belongs to a mailbox whose address begins alike stays, in the store and in Cloud Storage."""
    world = small_world()
    other = f"{ADA}.au"
    now = world.clock.now()
    world.store.create_mailbox(Mailbox(other, now, Watch(now), now))
    held = world.store.acquire(Mailbox(other, now, Watch(now), now), owner="o", now=now, expires_at=now)
    world.store.commit(held, held.mailbox, [Write("put", ("messages", "m"), {"id": "m"})], expires_at=now)
    world.blobs.put(f"{other}/0123", [b"1"], "application/json")
    world.accounts.secrets[other] = 1
    deleted(world)
    assert paths(world) == [f"leases/{other}", "mailboxes/" + other, f"mailboxes/{other}/messages/m", f"receipts/{ADA}"]
    assert world.blobs.objects.keys() == {f"{other}/0123"}
    assert world.accounts.secrets == {other: 1}


def test_a_run_under_way_goes_with_its_manifest_and_plan() -> None:
    """What a run keeps below its document is deleted too."""
    world = backfilling()
    there = by_collection(world)
    assert {"pages", "plan", "runs"} <= there.keys()
    deleted(world)
    assert assert_gone(world).documents == there


def test_without_a_bucket() -> None:
    """Where no bucket is configured there is nothing to delete in one."""
    world = World()
    world.blobs = None  # type: ignore[assignment]
    world.ada.deliver(mail("Long", text=LARGE))
    app = world.worker("worker-2")
    app.connect(ADA, None)
    world.work(app)
    assert isinstance(app.delete(ADA, 50), Receipt)
    assert paths(world) == [f"receipts/{ADA}"]


def test_a_stopped_mailbox_is_purged() -> None:
    """A mailbox that is stopped, and due never, is deleted like any other."""
    world = small_world()
    world.app.stop(ADA, 0)
    world.app.delete(ADA, 0)
    world.work()
    assert_gone(world)


def test_what_comes_afterwards_is_acknowledged() -> None:
    """Notifications and work for a mailbox that is gone are acknowledged, and bring nothing back."""
    world = small_world()
    deleted(world)
    world.ada.deliver(mail("Too late"))
    calls = len(world.accounts.calls)
    assert world.notify() == 204
    for task in ("sync", "renew", "purge"):
        assert world.app.push(world.app.run_work, push({"mailbox": ADA, "task": task})) == 204
    world.work()
    assert_gone(world)
    assert len(world.accounts.calls) == calls


# Part by part


def in_small_slices(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Let each call of the store take a minute, a quarter of what a step may take, and a slice be small."""
    monkeypatch.setattr(purge, "DOCUMENTS", 2)
    monkeypatch.setattr(purge, "OBJECTS", 1)
    below = world.sqlite.below

    def slowly(mailbox: str, *, limit: int) -> list[tuple[str, ...]]:
        world.clock.advance(60)
        return below(mailbox, limit=limit)

    world.sqlite.below = slowly  # type: ignore[method-assign]


def test_a_long_purge_goes_on_from_message_to_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A purge that takes longer than a step is continued by a message of its own, and counts what every step did."""
    world = small_world()
    there = by_collection(world)
    in_small_slices(monkeypatch, world)
    state = world.app.delete(ADA, 0)
    assert isinstance(state, Mailbox)
    assert (state.wanted, state.phase) == ("purged", "purging")
    assert state.purge is not None
    assert sum(state.purge.documents.values()) == 2
    assert set(world.outbox.work) == {(ADA, "purge")}
    steps = 0
    while world.store.mailbox(ADA) is not None:
        steps += 1
        mailbox, task = world.outbox.work.pop(0)
        assert task == "purge"
        world.app.push(world.app.run_work, push({"mailbox": mailbox, "task": task}))
    assert steps > 1
    receipt = assert_gone(world)
    assert receipt.documents == there
    assert (receipt.objects, receipt.secrets) == (2, 1)


def test_a_purge_whose_messages_are_lost_is_swept() -> None:
    """A purge is due until it is done, whatever becomes of its messages."""
    world = small_world()

    def die(name: str, *, after: bool) -> bool:
        return name == "commit" and after

    with pytest.raises(Killed):
        doomed(world, die).delete(ADA, 50)
    world.outbox.work.clear()
    world.clock.advance(121)
    assert world.app.sweep_mailboxes() == 1
    world.work()
    assert_gone(world)


def test_a_notification_does_not_take_part_in_a_purge() -> None:
    """Who brings a notification is not kept for long: it is acknowledged, and the purge left to those sent for it."""
    world = small_world()
    assert world.store.want(world.state(), "purged", due_at=world.clock.now())
    before = world.state()
    world.ada.deliver(mail("Late"))
    assert world.notify() == 204
    assert world.state() == before


@pytest.mark.parametrize("number", range(12))
def test_who_is_not_sent_for_a_purge_does_not_purge(number: int) -> None:
    """A notification or a triggered sync in whose middle the mailbox is to be deleted deletes nothing: their functions
    may not delete tokens. It is left to the message that was published.
    """
    for work in ("notify", "trigger"):
        world, calls = small_world(), count()
        world.ada.deliver(mail("New"))

        def when(name: str, *, after: bool, world: World = world, calls: Iterator[int] = calls) -> bool:
            if not after and next(calls) == number:
                # Another one writes the mailbox, if it can: what was read of it before is read again.
                world.notify()
                mailboxes.purge(world.store, world.outbox, world.clock, ADA)
            return False

        worker = doomed(world, when)
        if work == "notify":
            assert world.notify(None, worker) == 204
        else:
            with suppress(BeingPurged):
                worker.trigger_sync(ADA, "audit", 50)
        assert world.accounts.secrets == {ADA: 1}
        assert len(world.blobs.objects) == 2
        if next(calls) > number:
            assert world.state().wanted == "purged"
            world.work()
            assert_gone(world)


@pytest.mark.parametrize(
    "error",
    [AccessRevoked("Gone."), GmailRejected("No."), GmailUnavailable("500"), Throttled("429")],
    ids=lambda error: type(error).__name__,
)
def test_gmail_cannot_block_a_purge(error: MailmirrorError, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever Gmail says to the end of the watch, everything is deleted, and log and receipt tell of the watch."""
    world = small_world()

    def refuse(method: str, subject: str) -> None:
        if method != "forget":
            raise error

    world.accounts.before = refuse
    assert deleted(world).watch_stopped is False
    assert_gone(world)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "watch_not_stopped"
    ]


def test_an_old_problem_with_the_watch_is_not_that_of_its_end() -> None:
    """A watch that could not be renewed once, and whose end Gmail confirms, is one that was stopped."""
    world = small_world()
    world.store.set_watch(ADA, replace(world.state().watch, error="The topic is gone."))
    assert deleted(world).watch_stopped is True


def test_what_gmail_said_is_remembered_over_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receipt tells of a watch that could not be stopped, however many workers later it is written."""
    world = small_world()
    in_small_slices(monkeypatch, world)

    def refuse(method: str, subject: str) -> None:
        if method == "users.stop":
            raise AccessRevoked("Gone.")

    world.accounts.before = refuse
    world.app.delete(ADA, 0)
    world.accounts.before = None
    world.work()
    assert assert_gone(world).watch_stopped is False
    assert world.accounts.made("users.stop") == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [(GmailUnavailable("503"), False), (GmailRejected("No."), True)],
    ids=["GmailUnavailable", "GmailRejected"],
)
def test_a_token_that_cannot_be_deleted_is_tried_again(
    error: MailmirrorError, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """No receipt says that a token is gone which is not: the mailbox stays, empty, until it can be deleted; where that
    takes somebody, an event for the alert says so.
    """
    world = small_world()

    def refuse(method: str, subject: str) -> None:
        if method == "forget":
            raise error

    world.accounts.before = refuse
    with pytest.raises(type(error)):
        world.app.delete(ADA, 50)
    state = world.state()
    assert (state.phase, by_collection(world), world.store.receipt(ADA)) == ("purging", Counter(), None)
    assert state.problem is not None
    assert state.problem.code == type(error).__name__
    assert ("purge_failed" in [record.getMessage() for record in caplog.records]) == told
    world.accounts.before = None
    world.outbox.work.clear()
    world.clock.advance(121)
    assert world.app.sweep_mailboxes() == 1
    world.work()
    assert assert_gone(world).secrets == 1


# Again


def test_price_of_a_purge(firestore_emulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Firestore a purge reads every document once and deletes it once, and little else, whatever their number."""
    monkeypatch.setattr(purge, "DOCUMENTS", 30)
    with firestore_client(firestore_emulator, f"purge-{uuid.uuid4().hex[:12]}") as client:
        world = World(store=FirestoreStore(client))
        for number in range(40):
            world.ada.deliver(mail(f"Number {number}"))
        world.connect()
        counting = CountingFirestore(client)
        receipt = deleted(world)
        assert list(client.collections()) == [client.collection("receipts")]
    documents = sum(receipt.documents.values())
    assert documents > 90
    slices = documents // purge.DOCUMENTS + 1
    # Beside them: what it costs to ask, to take the lease, to list once more, and the mailbox with its lease each time.
    assert counting.deletes == documents + 2
    assert counting.reads <= documents + slices + 10
    assert counting.writes <= documents + 2 * slices + 10


def test_delete_twice() -> None:
    """A mailbox deleted again is the same receipt, and nothing is done for it."""
    world = small_world()
    receipt = deleted(world)
    world.work()
    assert world.app.delete("Ada@Example.com", 50) == receipt
    assert world.outbox.work == []


def test_delete_of_an_unknown_mailbox() -> None:
    """Where nothing is connected and nothing ever was, there is nothing to delete."""
    world = small_world()
    with pytest.raises(UnknownMailbox):
        world.app.delete(BOB, 50)


@pytest.mark.parametrize("policy", [None, Policy(drafts=True)])
def test_what_is_being_purged_is_not_connected(policy: Policy | None) -> None:
    """Deletion is not taken back: whoever connects the mailbox meanwhile is told to wait."""
    world = small_world()
    assert world.store.want(world.state(), "purged", due_at=world.clock.now())
    before = world.state()
    world.accounts.calls.clear()
    with pytest.raises(BeingPurged):
        world.app.connect(ADA, policy)
    with pytest.raises(BeingPurged):
        world.app.trigger_sync(ADA, "full", 50)
    assert world.state() == before
    assert (world.outbox.work, world.accounts.calls) == ([], [])


def test_a_mailbox_connected_anew_begins_anew() -> None:
    """After a purge the mailbox can be connected like one that never was; its receipt stays until the next purge."""
    world = small_world()
    first = deleted(world)
    world.work()
    world.clock.advance(60)
    mailbox, created = world.app.connect(ADA, None)
    assert (created, mailbox.cursor, mailbox.delta_seq) == (True, 0, 0)
    world.work()
    assert world.state().phase == "live"
    assert world.differences() == []
    assert world.store.receipt(ADA) == first
    second = deleted(world)
    assert second.started_at > first.started_at
    assert_gone(world)


# Death and others


@pytest.mark.parametrize(
    ("number", "dies_after"), [(number, after) for number in range(DEATHS) for after in (False, True)]
)
def test_a_worker_killed_at_any_call_of_a_purge(number: int, dies_after: bool) -> None:
    """Killed before or after any call, the mailbox is gone by the sweep alone if that was said at all, and not touched
    else. The counts of documents are exact; those of objects and secrets may lack what was in hand.
    """
    world = small_world()
    there, calls = by_collection(world), count()

    def when(name: str, *, after: bool) -> bool:
        return after == dies_after and next(calls) == number

    with suppress(Killed):
        doomed(world, when).delete(ADA, 50)
    state = world.store.mailbox(ADA)
    if state is not None and state.wanted == "live":
        assert by_collection(world) == there
        return
    world.outbox.work.clear()
    world.clock.advance(121)
    world.sweep()
    receipt = assert_gone(world)
    assert receipt.documents == there
    assert receipt.objects in (0, 1, 2)
    assert receipt.secrets in (0, 1)
    # Whoever asked sees no answer and asks again.
    assert world.app.delete(ADA, 50) == receipt


@pytest.mark.parametrize("number", range(40))
def test_a_mailbox_purged_at_any_call_of_a_sync_is_gone(number: int) -> None:
    """Whoever deletes a mailbox while another worker syncs it, at whichever call, has it deleted without the sweep, and
    nothing that worker does afterwards brings any of it back.
    """
    world = backfilling()
    world.clock.advance(121)
    other, calls = world.worker("worker-2"), count()
    asked: list[Receipt | Mailbox] = []

    def when(name: str, *, after: bool) -> bool:
        if not after and next(calls) == number:
            asked.append(other.delete(ADA, 0))
        return False

    syncing = doomed(world, when)
    syncing.push(syncing.run_work, push({"mailbox": ADA, "task": "sync"}))
    if not asked:
        other.delete(ADA, 0)
    world.work()
    assert_gone(world)


@pytest.mark.parametrize("number", range(40))
def test_a_late_worker_brings_nothing_back(number: int) -> None:
    """A worker that oversleeps its lease at any call, while another deletes the mailbox to the end, writes no document
    afterwards, and no lease.
    """
    world = backfilling()
    world.clock.advance(121)
    other, calls = world.worker("worker-2"), count()

    def when(name: str, *, after: bool) -> bool:
        if not after and next(calls) == number:
            world.clock.advance(121)
            assert isinstance(other.delete(ADA, 50), Receipt)
        return False

    late = doomed(world, when)
    late.push(late.run_work, push({"mailbox": ADA, "task": "sync"}))
    if next(calls) > number:
        assert paths(world) == [f"receipts/{ADA}"]
    world.work()


def send(put: Any, when: When, name: str, pieces: Iterable[bytes], kind: str, *, gzip: bool = False) -> str:
    """Write an object, and let something happen when all of it is sent and nothing of it is there."""
    sent = list(pieces)
    when("sending", after=False)
    uri: str = put(name, sent, kind, gzip=gzip)
    return uri


@pytest.mark.parametrize("later", ["nobody", "connected anew"])
def test_a_late_worker_leaves_no_object(later: str) -> None:
    """A worker that oversleeps its lease at any call, and in the middle of any upload, while another deletes the
    mailbox to the end, takes back the objects that it writes afterwards, and leaves those of the mailbox's next life.
    """
    for number in count():
        world = World(kept=Kept(attachments="store"))
        world.connect()
        for letter in "aab":
            world.ada.deliver(mail(letter, text=f"{letter} {LARGE}"))
        calls = count()

        def when(name: str, *, after: bool, number: int = number, calls: Any = calls, world: World = world) -> bool:
            if not after and next(calls) == number:
                world.clock.advance(121)
                assert isinstance(world.worker("purger").delete(ADA, 50), Receipt)
                assert world.blobs.objects == {}
                if later == "connected anew":
                    world.app.connect(ADA, None)
                    world.work()
            return False

        world.blobs.put = partial(send, world.blobs.put, when)  # type: ignore[method-assign]
        world.notify(app=doomed(world, when))
        if next(calls) <= number:
            assert world.blobs.writes == 3
            break
        if later == "nobody":
            assert paths(world) == [f"receipts/{ADA}"]
            assert world.blobs.objects == {}
        else:
            assert world.differences() == []
            assert world.orphans() == []


def test_who_read_the_mailbox_in_its_life_before_is_told_of_the_new_one() -> None:
    """A worker that slept through a purge and a new connect goes by what is wanted now, and by no other state."""
    world = World()
    world.connect()
    for number in range(10):
        world.ada.deliver(mail(f"Busy {number}"))
        world.notify()
    assert world.store.want(world.state(), "purged", due_at=world.clock.now())
    slept = world.state()
    world.app.delete(ADA, 50)
    world.work()
    world.clock.advance(1)
    world.connect()
    for _ in range(20):
        world.ada.deliver(mail("New life"))
        world.notify()
        assert world.state().revision != slept.revision
        now = world.clock.now()
        held = world.store.acquire(slept, owner="slept", now=now, expires_at=now)
        assert held.mailbox == world.state()


def test_a_late_worker_leaves_the_next_life_alone() -> None:
    """A worker that oversleeps a purge and the mailbox's connection anew does not write into that."""
    world = small_world()
    other = world.worker("worker-2")
    world.ada.deliver(mail("New"))
    lives: list[str] = []

    def oversleep() -> None:
        world.clock.advance(121)
        assert isinstance(other.delete(ADA, 50), Receipt)
        other.connect(ADA, None)
        world.work(other)
        lives.append("next")

    world.store = Meanwhile(world.sqlite, "threads", oversleep)
    assert world.notify(app=world.worker("late")) == 503
    assert lives
    assert world.differences() == []


def test_two_workers_do_not_purge_at_once() -> None:
    """A purger that oversleeps its lease while another goes on deletes nothing more, and writes no receipt itself."""
    world = small_world()
    there = by_collection(world)
    other = world.worker("worker-2")

    def oversleep() -> None:
        world.clock.advance(121)
        assert isinstance(other.delete(ADA, 50), Receipt)

    world.store = Meanwhile(world.sqlite, "below", oversleep)
    with pytest.raises(LeaseLost):
        world.worker("late").delete(ADA, 50)
    assert assert_gone(world).documents == there


def test_who_waits_for_another_worker_gets_the_receipt() -> None:
    """A deletion that finds another worker at it waits for its receipt."""
    world = small_world()
    now = world.clock.now()
    assert world.store.want(world.state(), "purged", due_at=now)
    other, pause = world.worker("worker-2"), world.clock.sleep
    held = world.store.acquire(world.state(), owner="other", now=now, expires_at=now + timedelta(seconds=120))

    def sleep(seconds: float) -> None:
        pause(seconds)
        world.clock.sleep = pause  # type: ignore[method-assign]
        world.store.commit(held, held.mailbox, expires_at=now, release=True)
        other.push(other.run_work, push({"mailbox": ADA, "task": "purge"}))

    world.clock.sleep = sleep  # type: ignore[method-assign]
    assert deleted(world) == assert_gone(world)


def test_a_receipt_is_not_that_of_an_earlier_life() -> None:
    """A deletion that is not done yet is not answered with the receipt of the one before."""
    world = small_world()
    deleted(world)
    world.work()
    world.connect()
    now = world.clock.now()
    world.store.acquire(world.state(), owner="other", now=now, expires_at=now + timedelta(seconds=120))
    assert isinstance(world.app.delete(ADA, 1), Mailbox)


def test_an_outage_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cloud Storage that does not answer stops the purge where it is; it goes on, and each object is counted once."""
    world = small_world()
    in_small_slices(monkeypatch, world)
    delete, calls = world.blobs.delete, count()

    def fail(name: str, version: int) -> None:
        if next(calls) == 1:
            raise StoreUnavailable("Cloud Storage was unavailable.")
        delete(name, version)

    world.blobs.delete = fail  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        world.app.delete(ADA, 3_600)
    assert world.state().phase == "purging"
    world.work()
    assert assert_gone(world).objects == 2


def test_the_lease_is_kept_however_long_objects_take() -> None:
    """Nobody can take the lease while object after object is deleted."""
    world = small_world()
    delete = world.blobs.delete

    def slowly(name: str, version: int) -> None:
        world.clock.advance(70)
        lease = world.sqlite.lease(ADA)
        assert lease is not None
        assert not lease.free(world.clock.now())
        delete(name, version)

    world.blobs.delete = slowly  # type: ignore[method-assign]
    deleted(world, 3_600)
    assert_gone(world)


def test_the_deaths_reach_the_last_call() -> None:
    """The worker that is killed at any call of a purge has no more calls than it is killed at."""
    names: list[str] = []

    def when(name: str, *, after: bool) -> bool:
        if not after:
            names.append(name)
        return False

    doomed(small_world(), when).delete(ADA, 50)
    assert {"want", "publish", "stop", "below", "versions", "delete", "forget", "remove", "receipt"} <= set(names)
    assert len(names) <= DEATHS
