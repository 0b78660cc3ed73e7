"""Mailboxes: their ids, phases and due times follow from their state, and work is published for what is due."""

from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror import mailboxes
from mailmirror.errors import InvalidInput, UnknownMailbox
from mailmirror.mailboxes import differ, mailbox_id, next_due, phase, watch_due
from mailmirror.model import (
    Counts,
    Coverage,
    Mailbox,
    Mode,
    Phase,
    Policy,
    Problem,
    Quota,
    Run,
    RunRequest,
    Stage,
    Unreached,
    Watch,
)

from tests.killing import Killed, KillingStore
from tests.world import ADA, World, mail

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
QUIET = timedelta(minutes=15)
SOON, LATER = NOW + timedelta(minutes=5), NOW + timedelta(hours=5)
LIVE = Mailbox("ada@example.com", NOW, Watch(NOW + timedelta(days=7)), NOW, phase="live", cursor=100)
REVOKED = Problem("AccessRevoked", "The grant is gone.", "Give it again.", NOW)


def run(mode: Mode, stage: Stage = "fetching") -> Run:
    """A run."""
    return Run("run", mode, "Because.", 0, 100, NOW, stage)


# mailbox_id


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("ada@example.com", "ada@example.com"),
        ("Ada.Lovelace+Notes@Example.COM", "ada.lovelace+notes@example.com"),
        ("ÄDA@exämple.com", "äda@exämple.com"),
        ("a" * 308 + "@example.com", "a" * 308 + "@example.com"),
    ],
)
def test_mailbox_id(address: str, name: str) -> None:
    """The id of a mailbox is its address in lower case."""
    assert mailbox_id(address) == name


@given(st.emails())
def test_mailbox_id_of_an_id(address: str) -> None:
    """An id is its own id, however the address was written."""
    if "/" not in address:
        assert mailbox_id(mailbox_id(address)) == mailbox_id(address.upper()) == mailbox_id(address)


@pytest.mark.parametrize(
    "address",
    [
        None,
        7,
        b"ada@example.com",
        ["ada@example.com"],
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@example@com",
        "ada lovelace@example.com",
        "ada@example.com\n",
        "ada/lovelace@example.com",
        "../ada@example.com",
        "a" * 309 + "@example.com",
    ],
)
def test_no_mailbox_id(address: object) -> None:
    """What is no address, or cannot be the id of a document, is refused in words."""
    with pytest.raises(InvalidInput, match="An e-mail address such as"):
        mailbox_id(address)


@pytest.mark.parametrize("address", ["\ud800@example.com", "ada@example.com\udfff", "__ada@example.com__"])
def test_what_no_document_can_be_called(address: str) -> None:
    """Half a character, which JSON can name, and Firestore's reserved names are refused too."""
    with pytest.raises(InvalidInput):
        mailbox_id(address)


# phase


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, "live"),
        ({"cursor": 0}, "connecting"),
        ({"run": run("first")}, "backfilling"),
        ({"run": run("repair")}, "recovering"),
        ({"run": run("full")}, "live"),
        ({"run": run("audit")}, "live"),
        ({"run": run("first", "finished")}, "live"),
        ({"run": run("repair", "finished")}, "live"),
        ({"throttled_until": SOON}, "throttled"),
        ({"throttled_until": SOON, "cursor": 0}, "throttled"),
        ({"throttled_until": SOON, "run": run("first")}, "throttled"),
        ({"throttled_until": NOW}, "live"),
        ({"problem": REVOKED}, "reauth_required"),
        ({"problem": replace(REVOKED, code="GmailRejected")}, "reauth_required"),
        ({"problem": replace(REVOKED, code="GmailUnavailable")}, "live"),
        ({"problem": REVOKED, "throttled_until": SOON, "cursor": 0}, "reauth_required"),
        ({"phase": "stopped", "problem": REVOKED}, "stopped"),
        ({"phase": "purging", "throttled_until": SOON}, "purging"),
    ],
)
def test_phase(state: dict[str, Any], expected: Phase) -> None:
    """The phase follows from cursor, run, problem and throttling; only stopped and purging are kept as they are."""
    assert phase(replace(LIVE, **state), NOW) == expected


@pytest.mark.parametrize("before", ["connecting", "backfilling", "recovering", "throttled", "reauth_required"])
def test_phase_does_not_depend_on_the_one_before(before: Phase) -> None:
    """A phase that is over leaves no trace."""
    assert phase(replace(LIVE, phase=before), NOW) == "live"


# next_due


@pytest.mark.parametrize(
    ("state", "due"),
    [
        ({}, NOW + QUIET),
        ({"parked_due_at": SOON}, SOON),
        ({"parked_due_at": LATER}, NOW + QUIET),
        ({"cursor": 0}, NOW + timedelta(minutes=2)),
        ({"run": run("repair")}, NOW + timedelta(minutes=2)),
        ({"run": run("repair", "finished")}, NOW + QUIET),
        ({"request": RunRequest("r", "full", NOW)}, NOW + timedelta(minutes=2)),
        ({"request": RunRequest("r", "full", NOW), "request_done": "r"}, NOW + QUIET),
        ({"throttled_until": LATER}, LATER),
        ({"throttled_until": LATER, "parked_due_at": SOON, "run": run("first")}, LATER),
        ({"throttled_until": NOW}, NOW + QUIET),
        ({"problem": REVOKED}, NOW + timedelta(hours=1)),
        ({"problem": REVOKED, "throttled_until": LATER, "cursor": 0}, NOW + timedelta(hours=1)),
    ],
)
def test_next_due(state: dict[str, Any], due: datetime) -> None:
    """The sweep looks when a mailbox was quiet for long, and earlier or later when its state says so."""
    assert next_due(replace(LIVE, **state), NOW, quiet=QUIET) == due


def test_unfinished_work_is_due_no_later_than_quiet_mailboxes() -> None:
    """An operator who sweeps every minute has unfinished runs swept every minute too."""
    assert next_due(replace(LIVE, cursor=0), NOW, quiet=timedelta(minutes=1)) == NOW + timedelta(minutes=1)


# differ

BOOKKEEPING: dict[str, object] = {
    "quota": Quota(5.0, NOW),
    "last_sync_at": NOW,
    "lag": 1.5,
    "last_notification_at": NOW,
    "next_due_at": LATER,
}
CHANGED: dict[str, object] = {
    "email_address": "bob@example.com",
    "created_at": LATER,
    "watch": Watch(LATER),
    "phase": "throttled",
    "policy": Policy(drafts=True),
    "cursor": 101,
    "hint": 102,
    "request": RunRequest("r", "full", NOW),
    "request_done": "r",
    "revision": 1,
    "delta_seq": 1,
    "run": run("audit"),
    "coverage": Coverage(1, 1, 0, 0, 0, NOW),
    "counts": Counts(1, 1, 0),
    "labels": {"INBOX": "f"},
    "throttled_until": LATER,
    "parked_due_at": LATER,
    "takeovers": 1,
    "suspect": {"m": 1},
    "unreached": (Unreached(103, NOW),),
    "problem": REVOKED,
}


def test_every_field_is_bookkeeping_or_not() -> None:
    """These tests know each field of a mailbox, so that a new one is decided on."""
    assert BOOKKEEPING.keys() | CHANGED.keys() >= {each.name for each in fields(Mailbox)}
    assert not BOOKKEEPING.keys() & CHANGED.keys()


@pytest.mark.parametrize("name", CHANGED)
def test_changes_worth_a_write(name: str) -> None:
    """A change of any field but bookkeeping is worth a write, whatever bookkeeping goes with it."""
    changed: Any = {name: CHANGED[name]}
    bookkeeping: Any = BOOKKEEPING
    assert differ(LIVE, replace(LIVE, **changed))
    assert differ(LIVE, replace(LIVE, **changed, **bookkeeping))


@pytest.mark.parametrize("name", BOOKKEEPING)
def test_changes_not_worth_a_write(name: str) -> None:
    """Bookkeeping alone is not worth a write."""
    changed: Any = {name: BOOKKEEPING[name]}
    assert not differ(LIVE, replace(LIVE, **changed))
    assert not differ(replace(LIVE, **changed), LIVE)


# watch_due


@pytest.mark.parametrize(
    ("left", "due"),
    [
        (timedelta(days=-1), True),
        (timedelta(0), True),
        (timedelta(hours=48) - timedelta(seconds=1), True),
        (timedelta(hours=48), False),
        (timedelta(days=7), False),
    ],
)
def test_watch_due(left: timedelta, due: bool) -> None:
    """A watch is renewed when less than 48 hours of it are left, or none of it."""
    assert watch_due(replace(LIVE, watch=Watch(NOW + left)), NOW) == due


# connect, request_run, sweep, renew


def connect(world: World, address: str = ADA, policy: Policy | None = None) -> tuple[Mailbox, bool]:
    """Connect a mailbox of this world."""
    return mailboxes.connect(world.store, world.accounts, world.outbox, world.clock, address, policy)


def test_connect() -> None:
    """A new mailbox is stored with its policy, due at once and without a watch, and the work that watches and syncs it
    is published.
    """
    world = World()
    mailbox, created = connect(world, "Ada@Example.com", Policy(drafts=True))
    assert created
    assert mailbox == world.state()
    assert (mailbox.email_address, mailbox.policy, mailbox.phase) == (ADA, Policy(drafts=True), "connecting")
    assert mailbox.next_due_at <= world.clock.now()
    assert watch_due(mailbox, world.clock.now())
    assert world.outbox.work == [(ADA, "renew")]


@pytest.mark.parametrize("policy", [None, Policy()])
def test_connect_again(policy: Policy | None) -> None:
    """Connecting a connected mailbox changes nothing."""
    world = World()
    before, _ = connect(world)
    world.outbox.work.clear()
    assert connect(world, policy=policy) == (before, False)
    assert world.state() == before
    assert world.outbox.work == []


def test_connect_with_another_policy() -> None:
    """Another policy is stored, and an audit asked for that makes the mirror follow it."""
    world = World()
    connect(world)
    world.outbox.work.clear()
    mailbox, created = connect(world, policy=Policy(include_spam_trash=False))
    assert (mailbox.policy, created) == (Policy(include_spam_trash=False), False)
    request = world.state().pending_request
    assert request is not None
    assert request.mode == "audit"
    assert world.state().policy == mailbox.policy
    assert world.outbox.work == [(ADA, "sync")]


@pytest.mark.parametrize(("number", "dies_after"), [(number, after) for number in range(6) for after in (False, True)])
def test_connect_with_another_policy_is_all_or_nothing(number: int, dies_after: bool) -> None:
    """A worker killed at any store call leaves the policy as it was, or the new one with the audit that follows it."""
    world = World()
    world.ada.trash(world.ada.deliver(mail()))
    world.connect()
    calls = count()

    def when(name: str, *, after: bool) -> bool:
        return after == dies_after and next(calls) == number

    wish, sqlite = Policy(include_spam_trash=False), world.store
    world.store = KillingStore(sqlite, when)
    with suppress(Killed):
        connect(world, policy=wish)
    world.store = sqlite
    state = world.state()
    assert (state.policy, state.pending_request is not None) in [(Policy(), False), (wish, True)]
    # Whoever asked sees no answer and asks again.
    connect(world, policy=wish)
    world.sweep()
    assert world.differences(lambda labels: "TRASH" not in labels) == []


def test_connect_by_an_alias() -> None:
    """An address under which Gmail opens another mailbox is refused, and nothing is stored."""
    world = World()
    world.accounts.mailboxes["alias@example.com"] = world.ada
    with pytest.raises(InvalidInput, match="alias"):
        connect(world, "alias@example.com")
    assert world.store.mailbox("alias@example.com") is None
    assert world.outbox.work == []


def test_request_run() -> None:
    """A run that is asked for again while it waits is one run, a full one if any of the requests was."""
    world = World()
    connect(world)

    def request(mode: Mode, run_id: str) -> str:
        return mailboxes.request_run(world.store, world.clock, ADA, mode, run_id)

    assert [request("audit", "r1"), request("audit", "r2"), request("full", "r3")] == ["r1", "r1", "r1"]
    assert world.state().request == RunRequest("r1", "full", world.clock.now())
    assert request("audit", "r4") == "r1"
    assert world.state().request == RunRequest("r1", "full", world.clock.now())


def test_request_run_during_the_first_sync() -> None:
    """A full sync asked for while the first one is under way is that one: nothing is fetched twice."""
    world = World(step=timedelta(seconds=1))
    for number in range(60):
        world.ada.deliver(mail(f"Number {number}"))
    world.accounts.before = lambda method, subject: world.clock.advance(1)
    world.app.connect(ADA, None)
    world.work_once()
    assert mailboxes.request_run(world.store, world.clock, ADA, "full", "r1") == "first-0"
    assert world.state().request is None


def test_request_run_of_an_unknown_mailbox() -> None:
    """A run of a mailbox that is not connected is refused."""
    world = World()
    with pytest.raises(UnknownMailbox, match="not connected"):
        mailboxes.request_run(world.store, world.clock, ADA, "full", "r1")


def test_sweep_and_renew() -> None:
    """Each mailbox that is due gets one work message, each whose watch was not renewed today another one."""
    world = World()
    now = world.clock.now()
    watches = {"bob": timedelta(days=7), "eve": timedelta(days=6), "zoe": timedelta(days=6, hours=12)}
    for name, left in watches.items():
        address = f"{name}@example.com"
        due = now if name != "eve" else now + timedelta(seconds=1)
        world.store.create_mailbox(Mailbox(address, now, Watch(now + left), due))
    assert mailboxes.sweep(world.store, world.outbox, now) == (2, 0.0)
    assert mailboxes.renew(world.store, world.outbox, now) == 1
    assert sorted(world.outbox.work) == [
        ("bob@example.com", "sync"),
        ("eve@example.com", "renew"),
        ("zoe@example.com", "sync"),
    ]


def test_sweep_tells_how_late_it_is() -> None:
    """The sweep says by how many seconds the most overdue mailbox is late: nobody came to it when it was due."""
    world = World()
    now = world.clock.now()
    for name, late in {"bob": 60, "eve": 4_000, "zoe": -60}.items():
        due = now - timedelta(seconds=late)
        world.store.create_mailbox(Mailbox(f"{name}@example.com", now, Watch(now + timedelta(days=7)), due))
    assert mailboxes.sweep(world.store, world.outbox, now) == (2, 4_000.0)
    assert mailboxes.sweep(world.store, world.outbox, now - timedelta(days=1)) == (0, 0.0)
