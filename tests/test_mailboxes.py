"""Mailboxes: their ids, phases and due times follow from their state, and work is published for what is due."""

from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror import mailboxes
from mailmirror.errors import AccessRevoked, BeingPurged, GmailRejected, InvalidInput, MailmirrorError, UnknownMailbox
from mailmirror.mailboxes import at_rest, differ, mailbox_id, midnight, next_due, phase, run_due, watch_due
from mailmirror.model import (
    Counts,
    Coverage,
    Mailbox,
    Mode,
    Phase,
    Policy,
    Problem,
    Purge,
    Quota,
    Run,
    RunRequest,
    Stage,
    Unreached,
    Wanted,
    Watch,
)

from tests.killing import Killed, KillingStore
from tests.meanwhile import Meanwhile
from tests.world import ADA, World, mail

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
QUIET = timedelta(minutes=15)
SOON, LATER = NOW + timedelta(minutes=5), NOW + timedelta(hours=5)
LIVE = Mailbox("ada@example.com", NOW, Watch(NOW + timedelta(days=7)), NOW, phase="live", cursor=100)
REVOKED = Problem("AccessRevoked", "The grant is gone.", "Give it again.", NOW)


def run(mode: Mode, stage: Stage = "fetching", anchor: int = 0, paused_until: datetime | None = None) -> Run:
    """A run."""
    return Run("run", mode, "Because.", anchor, 100, NOW, stage=stage, paused_until=paused_until)


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
        ({"run": run("policy")}, "backfilling"),
        ({"run": run("first", anchor=7)}, "backfilling"),
        ({"run": run("full", anchor=7)}, "recovering"),
        ({"run": run("audit", anchor=7)}, "recovering"),
        ({"run": run("policy", anchor=7)}, "recovering"),
        ({"run": run("full", "finished", anchor=7)}, "live"),
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
        ({"wanted": "stopped", "phase": "stopped", "problem": REVOKED}, "stopped"),
        ({"wanted": "purged", "phase": "purging", "throttled_until": SOON}, "purging"),
        ({"wanted": "purged", "phase": "stopped"}, "stopped"),
        ({"wanted": "stopped", "run": run("first")}, "backfilling"),
        ({"wanted": "purged", "problem": REVOKED}, "reauth_required"),
        ({"phase": "stopped"}, "live"),
        ({"phase": "stopped", "cursor": 0}, "connecting"),
        ({"phase": "purging"}, "live"),
    ],
)
def test_phase(state: dict[str, Any], expected: Phase) -> None:
    """The phase follows from cursor, run, problem and throttling; stopped and purging, which work brings about, stay
    while they are wanted.
    """
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
        ({"problem": REVOKED}, NOW + timedelta(minutes=2)),
        ({"problem": REVOKED, "throttled_until": LATER, "cursor": 0}, NOW + timedelta(minutes=2)),
        ({"problem": replace(REVOKED, since=NOW - timedelta(minutes=30))}, NOW + timedelta(minutes=30)),
        ({"problem": replace(REVOKED, since=NOW - timedelta(days=30))}, NOW + timedelta(hours=1)),
        ({"run": run("first", paused_until=LATER)}, NOW + QUIET),
        ({"run": run("first", paused_until=SOON)}, SOON),
        ({"run": run("first", paused_until=LATER), "parked_due_at": SOON}, SOON),
        ({"run": run("first", paused_until=NOW)}, NOW + timedelta(minutes=2)),
        ({"run": run("first", paused_until=LATER), "request": RunRequest("r", "full", NOW)}, NOW + QUIET),
        ({"wanted": "stopped"}, NOW + timedelta(minutes=2)),
        ({"wanted": "purged", "problem": REVOKED, "throttled_until": LATER}, NOW + timedelta(minutes=2)),
    ],
)
def test_next_due(state: dict[str, Any], due: datetime) -> None:
    """The sweep looks when a mailbox was quiet for long, and earlier or later when its state says so."""
    assert next_due(replace(LIVE, **state), NOW, quiet=QUIET) == due


def test_unfinished_work_is_due_no_later_than_quiet_mailboxes() -> None:
    """An operator who sweeps every minute has unfinished runs swept every minute too."""
    assert next_due(replace(LIVE, cursor=0), NOW, quiet=timedelta(minutes=1)) == NOW + timedelta(minutes=1)


# run_due, midnight, at_rest


@pytest.mark.parametrize(
    ("state", "due"),
    [
        ({}, False),
        ({"cursor": 0}, True),
        ({"run": run("audit")}, True),
        ({"run": run("audit", "finished")}, False),
        ({"request": RunRequest("r", "full", NOW)}, True),
        ({"run": run("audit", paused_until=SOON)}, False),
        ({"run": run("audit", paused_until=NOW)}, True),
        ({"run": run("audit", paused_until=SOON), "request": RunRequest("r", "full", NOW)}, False),
        ({"run": run("audit", "finished", paused_until=SOON), "request": RunRequest("r", "full", NOW)}, True),
    ],
)
def test_run_due(state: dict[str, Any], due: bool) -> None:
    """There is a run to move on if one is under way or waits, except while the one under way is paused."""
    assert run_due(replace(LIVE, **state), NOW) == due


@pytest.mark.parametrize(
    ("now", "until"),
    [
        (datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)),
        (datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        (datetime(2026, 11, 21, 1, tzinfo=timezone(timedelta(hours=2))), datetime(2026, 11, 21, tzinfo=UTC)),
    ],
)
def test_midnight(now: datetime, until: datetime) -> None:
    """A day of quota ends at midnight UTC, wherever the clock is."""
    assert midnight(now) == until


@pytest.mark.parametrize(
    ("wanted", "phase", "rests"),
    [
        ("stopped", "stopped", True),
        ("live", "stopped", False),
        ("purged", "stopped", False),
        ("stopped", "live", False),
        ("purged", "purging", False),
    ],
)
def test_at_rest(wanted: Wanted, phase: Phase, rests: bool) -> None:
    """A mailbox rests when it is stopped and nothing else is wanted."""
    assert at_rest(replace(LIVE, wanted=wanted, phase=phase)) == rests


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
    "wanted": "stopped",
    "policy": Policy(drafts=True),
    "content": "metadata",
    "aged_to": NOW,
    "cursor": 101,
    "hint": 102,
    "request": RunRequest("r", "full", NOW),
    "request_done": "r",
    "revision": 1,
    "delta_seq": 1,
    "announced": 1,
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
    "purge": Purge(NOW),
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


def connect(
    world: World, address: str = ADA, policy: Policy | None = None, asked_at: datetime | None = None
) -> tuple[Mailbox, bool]:
    """Connect a mailbox of this world."""
    return mailboxes.connect(world.store, world.accounts, world.outbox, world.clock, address, policy, asked_at=asked_at)


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
    """Another policy is stored, and a run asked for that makes the mirror follow it."""
    world = World()
    connect(world)
    world.outbox.work.clear()
    mailbox, created = connect(world, policy=Policy(include_spam_trash=False))
    assert (mailbox.policy, created) == (Policy(include_spam_trash=False), False)
    request = world.state().pending_request
    assert request is not None
    assert request.mode == "policy"
    assert world.state().policy == mailbox.policy
    assert world.outbox.work == [(ADA, "sync")]


@pytest.mark.parametrize(("number", "dies_after"), [(number, after) for number in range(6) for after in (False, True)])
def test_connect_with_another_policy_is_all_or_nothing(number: int, dies_after: bool) -> None:
    """A worker killed at any store call leaves the policy as it was, or the new one with the run that follows it."""
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


@pytest.mark.parametrize("waiting", ["policy", "audit", "full"])
def test_another_policy_joins_what_waits(waiting: Mode) -> None:
    """A run that waits already is not lost to a policy: it lists under the new one, and is no less than it was."""
    world = World()
    trashed = world.ada.deliver(mail())
    world.connect()
    state = world.state()
    assert world.store.request_run(state, RunRequest("waiting", waiting, world.clock.now()))
    world.ada.trash(trashed)
    connect(world, policy=Policy(include_spam_trash=False))
    assert world.state().request == RunRequest("waiting", waiting, world.clock.now())
    connect(world, policy=Policy(include_spam_trash=False, drafts=True))
    assert world.state().request == RunRequest("waiting", waiting, world.clock.now())
    world.work()
    run = world.state().run
    assert run is not None
    assert (run.id, run.mode, run.active) == ("waiting", waiting, False)
    assert run.policy == world.state().policy == Policy(include_spam_trash=False, drafts=True)
    assert world.differences(lambda labels: "TRASH" not in labels) == []


@pytest.mark.parametrize("mode", ["audit", "full"])
def test_a_run_asked_for_joins_a_policy_that_waits(mode: Mode) -> None:
    """Who asks for more than a policy that waits needs gets it in the same run."""
    world = World()
    world.connect()
    connect(world, policy=Policy(drafts=True))
    request = world.state().request
    assert request is not None
    assert mailboxes.request_run(world.store, world.clock, ADA, mode, "r") == request.run_id
    assert world.state().request == replace(request, mode=mode)


def test_another_policy_during_a_run_gets_a_run_of_its_own() -> None:
    """A run under way may be past noticing that the policy changed: another one comes after it."""
    world = World(step=timedelta(seconds=1))
    for number in range(60):
        world.ada.deliver(mail(f"Number {number}"))
    world.accounts.before = lambda method, subject: world.clock.advance(1)
    world.app.connect(ADA, None)
    world.work_once()
    assert world.state().active_run is not None
    connect(world, policy=Policy(drafts=True))
    request = world.state().pending_request
    assert request is not None
    assert request.mode == "policy"
    world.work()
    run = world.state().run
    assert run is not None
    assert (run.id, run.active) == (request.run_id, False)
    assert world.differences(lambda labels: True) == []


def closed(world: World) -> Mailbox:
    """Let a mailbox find its access revoked, and return it."""

    def refuse(method: str, subject: str) -> None:
        raise AccessRevoked("Gmail refuses the token of this mailbox.")

    world.accounts.before = refuse
    world.ada.deliver(mail("Locked out"))
    world.notify()
    state = world.state()
    assert state.phase == "reauth_required"
    return state


def test_connect_after_access_was_lost() -> None:
    """Connected again, a mailbox that lost its access goes on from its cursor at once, without waiting for the hour."""
    world = World()
    world.ada.deliver(mail())
    world.connect()
    cursor = closed(world).cursor
    world.accounts.before = None
    world.accounts.calls.clear()
    assert connect(world)[1] is False
    assert world.state().next_due_at <= world.clock.now()
    assert world.outbox.work == [(ADA, "renew")]
    world.work()
    assert world.state().phase == "live"
    assert world.differences() == []
    assert ("users.history.list", str(cursor)) in world.accounts.calls
    assert world.accounts.made("users.messages.list") == 0


@pytest.mark.parametrize("policy", [None, Policy(drafts=True)])
@pytest.mark.parametrize("error", [AccessRevoked("Gone."), GmailRejected("No scope.")], ids=lambda e: type(e).__name__)
def test_connect_while_access_is_lost(policy: Policy | None, error: MailmirrorError) -> None:
    """Who connects such a mailbox while there is no access is told so, and nothing is stored."""
    world = World()
    world.connect()
    before = closed(world)

    def refuse(method: str, subject: str) -> None:
        raise error

    world.accounts.before = refuse
    with pytest.raises(type(error)):
        connect(world, policy=policy)
    assert world.state() == before
    assert world.outbox.work == []


def test_access_is_proven_once() -> None:
    """However often somebody else is faster, Gmail is asked once."""
    world = World()
    world.connect()
    world.app.stop(ADA, 0)
    world.work()
    world.accounts.calls.clear()

    def ask() -> None:
        assert world.sqlite.request_run(world.state(), RunRequest("theirs", "audit", world.clock.now()))

    world.store = Meanwhile(world.sqlite, "mailbox", ask)
    assert connect(world, policy=Policy(drafts=True))[0].wanted == "live"
    assert [method for method, _ in world.accounts.calls] == ["users.getProfile"]
    world.store = world.sqlite
    assert (world.state().policy, world.state().wanted) == (Policy(drafts=True), "live")
    assert world.state().request == RunRequest("theirs", "audit", world.clock.now())


def test_connect_after_consent() -> None:
    """Who has just consented has proved access: Gmail is not asked again, which may not know it everywhere yet."""
    world = World()

    def refuse(method: str, subject: str) -> None:
        raise AccessRevoked("It cannot be read yet.")

    world.accounts.before = refuse
    assert connect(world, asked_at=world.clock.now())[1] is True
    assert world.outbox.work == [(ADA, "renew")]
    assert world.accounts.calls == []


def test_consent_opens_what_lost_its_access() -> None:
    """A mailbox that waits for consent goes on at once, whenever that was asked for."""
    world = World()
    world.connect()
    asked_at = world.clock.now()
    world.clock.advance(3_600)
    closed(world)
    world.accounts.calls.clear()
    assert connect(world, asked_at=asked_at)[1] is False
    assert world.outbox.work == [(ADA, "renew")]
    assert world.accounts.calls == []
    assert world.state().next_due_at <= world.clock.now()


def test_consent_starts_nothing_that_was_stopped() -> None:
    """What an administrator has stopped an administrator starts."""
    world = World()
    world.connect()
    world.app.stop(ADA, 0)
    world.work()
    before = world.state()
    assert connect(world, asked_at=world.clock.now()) == (before, False)
    assert world.state() == before
    assert world.outbox.work == []


def test_consent_that_was_asked_for_before_the_end() -> None:
    """What an administrator has deleted is connected only by what is asked for afterwards."""
    world = World()
    world.connect()
    asked_at = world.clock.now()
    world.clock.advance(0.001)
    world.app.delete(ADA, 10)
    world.outbox.work.clear()
    with pytest.raises(BeingPurged, match="was deleted after"):
        connect(world, asked_at=asked_at)
    assert world.store.mailbox(ADA) is None
    assert world.outbox.work == []
    assert connect(world, asked_at=world.clock.now())[1] is True


def test_connect_what_is_being_purged() -> None:
    """A mailbox that is being deleted is not connected, whatever for, and Gmail is not asked."""
    world = World()
    world.connect()
    assert world.store.want(world.state(), "purged", due_at=world.clock.now())
    before = world.state()
    world.accounts.calls.clear()
    with pytest.raises(BeingPurged, match="being deleted"):
        connect(world)
    assert world.state() == before
    assert world.accounts.calls == []


@pytest.mark.parametrize("policy", [None, Policy(drafts=True)])
def test_who_deletes_is_faster(policy: Policy | None) -> None:
    """A mailbox that somebody deletes in the moment in which another wants it live again is deleted."""
    world = World()
    world.connect()
    world.app.stop(ADA, 0)
    world.work()

    def delete() -> None:
        mailboxes.purge(world.sqlite, world.outbox, world.clock, ADA)

    world.store = Meanwhile(world.sqlite, "mailbox", delete)
    with pytest.raises(BeingPurged):
        connect(world, policy=policy)
    world.store = world.sqlite
    assert world.state().wanted == "purged"
    assert world.outbox.work == [(ADA, "purge")]


def test_a_renewal_does_not_touch_the_cursor() -> None:
    """What a watch says of the mailbox's history is no cursor: mail between the cursor and it is brought."""
    world = World()
    world.connect()
    cursor = world.state().cursor
    for _ in range(3):
        world.ada.deliver(mail("Not announced"))
        seen: list[int] = []

        def look(method: str, subject: str, seen: list[int] = seen) -> None:
            if method == "users.history.list":
                seen.append(int(subject))

        world.accounts.before = look
        world.clock.advance(86_400)
        world.app.renew_watches()
        world.work()
        assert world.state().watch.renewed_at == world.clock.now()
        assert world.state().watch.history_id > cursor
        assert seen[0] == cursor
        cursor = world.state().cursor
        assert world.differences() == []


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
    run = world.state().active_run
    assert run is not None
    assert mailboxes.request_run(world.store, world.clock, ADA, "full", "r1") == run.id
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
