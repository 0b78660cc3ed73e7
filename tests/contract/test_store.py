"""What every store promises, whichever it is: one suite over SQLite, Google's Firestore emulator and the simulation's
store in memory.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from mailmirror.adapters import firestore as firestore_adapter
from mailmirror.adapters import sqlite as sqlite_adapter
from mailmirror.documents import from_document, to_document
from mailmirror.errors import DocumentExists, LeaseHeld, LeaseLost, UnknownMailbox
from mailmirror.model import Due, Held, Mailbox, Parked, Policy, RunRequest, Thread, Wanted, Watch
from mailmirror.ports import Store
from mailmirror.slice import Write

from tests.contract.conftest import Place, at_once
from tests.contract.samples import (
    ADDRESS,
    LEASE,
    MAILBOX,
    MAX_HISTORY_ID,
    NOW,
    PARKED,
    RECEIPT,
    STORED,
    THREAD,
    new_mailbox,
)

LATER = NOW + LEASE


def _acquired(store: Store, owner: str = "a", now: datetime = NOW) -> Held:
    """Connect the mailbox if need be and take its lease."""
    store.create_mailbox(new_mailbox())
    return store.acquire(_read(store), owner=owner, now=now, expires_at=now + LEASE)


def _read(store: Store, address: str = ADDRESS) -> Mailbox:
    state = store.mailbox(address)
    assert state is not None
    return state


def _put(name: str, **data: Any) -> Write:
    return Write("put", ("messages", name), {"id": name, **data})


def _write(store: Store, *writes: Write) -> None:
    held = _acquired(store)
    store.commit(held, held.mailbox, writes, expires_at=LATER, release=True)


# State


def test_mailbox_round_trip(store: Store) -> None:
    """A mailbox comes back equal in every field, times to the microsecond and history ids to 63 bits."""
    assert store.create_mailbox(MAILBOX)
    assert store.mailbox(ADDRESS) == MAILBOX


def test_times_come_back_as_plain_utc(store: Store) -> None:
    """A time stored in another zone comes back as the same instant, as a plain datetime in UTC."""
    there = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    store.create_mailbox(replace(new_mailbox(), next_due_at=there))
    due_at = _read(store).next_due_at
    assert due_at == there
    assert (type(due_at), due_at.tzinfo) == (datetime, UTC)


def test_absent_mailbox_is_none(store: Store) -> None:
    """A mailbox that nobody connected is None and has no lease."""
    assert store.mailbox(ADDRESS) is None
    assert store.lease(ADDRESS) is None


def test_create_mailbox_only_once(store: Store) -> None:
    """Creating an existing mailbox says so and changes nothing."""
    assert store.create_mailbox(MAILBOX)
    assert not store.create_mailbox(new_mailbox())
    assert store.mailbox(ADDRESS) == MAILBOX


def test_mailboxes_are_paged_by_address(store: Store) -> None:
    """Mailboxes come in the order of their addresses, a page at a time, none twice and none left out."""
    addresses = ["b@x.example", "a@x.example", "ä@x.example", "a+b@x.example", "z@x.example"]
    for address in addresses:
        store.create_mailbox(new_mailbox(address))
    found: list[str] = []
    while page := store.mailboxes(after=found[-1] if found else "", limit=2):
        assert len(page) <= 2
        found += [mailbox.email_address for mailbox in page]
    assert found == sorted(addresses)


def test_due_mailboxes_longest_due_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly the mailboxes due by now are found, and since when: the longest due first, in any number of pages."""
    _small_pages(monkeypatch)
    minutes = {"a": -1, "b": 0, "c": -3, "d": 1, "e": -3, "f": -2, "g": -3}
    for name, offset in minutes.items():
        due_at = NOW + timedelta(minutes=offset)
        store.create_mailbox(replace(new_mailbox(name), next_due_at=due_at))
    due = [Due(name, NOW + timedelta(minutes=minutes[name])) for name in ["c", "e", "g", "f", "a", "b"]]
    assert list(store.due_mailboxes(NOW)) == due
    assert list(store.due_mailboxes(NOW - timedelta(days=1))) == []


def test_watches_expiring_first_to_lapse_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly the watches that expire before the time are found, and when they do, the first to lapse first."""
    _small_pages(monkeypatch)
    hours = {"a": 3, "b": 48, "c": -1, "d": 47, "e": 100}
    for name, offset in hours.items():
        store.create_mailbox(replace(new_mailbox(name), watch=Watch(NOW + timedelta(hours=offset))))
    expiring = [Due(name, NOW + timedelta(hours=hours[name])) for name in ["c", "a", "d"]]
    assert list(store.watches_expiring(NOW + timedelta(hours=48))) == expiring


def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firestore_adapter, "_PAGE", 2)
    monkeypatch.setattr(sqlite_adapter, "_PAGE", 2)


# What workers without a lease write


def test_hint_is_never_lowered(store: Store) -> None:
    """Raising the hint to less than it is leaves it, and still makes the mailbox due."""
    store.create_mailbox(new_mailbox())
    store.raise_hint(ADDRESS, MAX_HISTORY_ID, NOW)
    store.raise_hint(ADDRESS, 7, LATER)
    assert _read(store) == replace(new_mailbox(), hint=MAX_HISTORY_ID, next_due_at=LATER)


def test_hint_without_a_due_time(store: Store) -> None:
    """A hint raised without a due time leaves the one that is stored."""
    store.create_mailbox(replace(new_mailbox(), next_due_at=LATER))
    store.raise_hint(ADDRESS, 7)
    assert _read(store) == replace(new_mailbox(), hint=7, next_due_at=LATER)


def test_concurrent_hints_keep_the_highest(place: Place) -> None:
    """Of hints raised at the same time the highest stays."""
    stores = [place.open() for _ in range(4)]
    stores[0].create_mailbox(new_mailbox())
    hints = [12, 5, 31, 8, 30, 1, 29, 17]
    at_once([partial(stores[n % 4].raise_hint, ADDRESS, hint, NOW) for n, hint in enumerate(hints)])
    assert _read(stores[0]).hint == max(hints)


def test_hint_dropped(store: Store) -> None:
    """A dropped hint is zero, and can be raised again from there."""
    store.create_mailbox(replace(new_mailbox(), hint=9))
    store.drop_hint(ADDRESS)
    assert _read(store).hint == 0
    store.raise_hint(ADDRESS, 3, NOW)
    assert _read(store).hint == 3


def test_watch_policy_and_request_are_stored(store: Store) -> None:
    """Watch, policy and request are stored without a lease and change nothing else."""
    store.create_mailbox(new_mailbox())
    store.set_watch(ADDRESS, MAILBOX.watch)
    assert store.request_run(_read(store), RunRequest("r1", "full", NOW), policy=MAILBOX.policy)
    assert store.request_run(_read(store), RunRequest("r2", "audit", LATER))
    assert _read(store) == replace(
        new_mailbox(), watch=MAILBOX.watch, policy=MAILBOX.policy, request=RunRequest("r2", "audit", LATER)
    )


def test_a_request_decided_on_an_outdated_state_is_not_stored(store: Store) -> None:
    """A request replaces what its asker has seen: not another's request, and nothing once a commit changed the state.
    What workers without a lease write besides is no hindrance.
    """
    store.create_mailbox(new_mailbox())
    before = _read(store)
    store.raise_hint(ADDRESS, 3, NOW)
    assert store.request_run(before, RunRequest("r1", "full", NOW))
    assert not store.request_run(before, RunRequest("r2", "audit", LATER))
    before = _read(store)
    held = store.acquire(before, owner="a", now=NOW, expires_at=LATER)
    store.commit(held, replace(held.mailbox, request_done="r1"), expires_at=LATER)
    assert not store.request_run(before, RunRequest("r3", "audit", LATER))
    assert _read(store).request == RunRequest("r1", "full", NOW)


def test_a_policy_is_stored_with_its_request_or_not_at_all(store: Store) -> None:
    """A policy goes the way of the request it comes with: refused with it, stored with it, under a lease as well, and
    left as it is by a request without one.
    """
    store.create_mailbox(new_mailbox())
    before, request = _read(store), RunRequest("r1", "audit", NOW)
    assert store.request_run(before, request, policy=Policy(drafts=True))
    assert not store.request_run(before, RunRequest("r2", "audit", NOW), policy=MAILBOX.policy)
    assert _read(store) == replace(new_mailbox(), request=request, policy=Policy(drafts=True))
    _acquired(store)
    assert store.request_run(_read(store), request, policy=MAILBOX.policy)
    assert _read(store) == replace(new_mailbox(), request=request, policy=MAILBOX.policy)
    assert store.request_run(_read(store), RunRequest("r3", "full", NOW))
    assert _read(store).policy == MAILBOX.policy


def test_of_many_requests_at_once_one_is_stored(place: Place) -> None:
    """Requests decided on the same state by many at once: exactly one says that it was stored, and it was."""
    stores = [place.open() for _ in range(4)]
    stores[0].create_mailbox(new_mailbox())
    state = _read(stores[0])
    with ThreadPoolExecutor() as pool:
        answers = list(
            pool.map(
                lambda number: stores[number % 4].request_run(state, RunRequest(f"r{number}", "full", NOW)), range(16)
            )
        )
    request = _read(stores[0]).request
    assert request is not None
    assert [f"r{number}" for number, stored in enumerate(answers) if stored] == [request.run_id]


def test_what_is_wanted_is_stored(store: Store) -> None:
    """What is wanted of a mailbox is stored with the time it is due for that, and changes nothing else."""
    store.create_mailbox(MAILBOX)
    wishes: list[Wanted] = ["stopped", "live", "purged"]
    for number, wanted in enumerate(wishes):
        due_at = NOW + timedelta(seconds=number)
        assert store.want(_read(store), wanted, due_at=due_at)
        assert _read(store) == replace(MAILBOX, wanted=wanted, next_due_at=due_at)


def test_a_wish_decided_on_another_wish_is_not_stored(store: Store) -> None:
    """A wish replaces the one that its asker has seen, not another's; whatever else was written is no hindrance."""
    store.create_mailbox(new_mailbox())
    before = _read(store)
    held = _acquired(store)
    store.commit(held, replace(held.mailbox, cursor=1), expires_at=LATER)
    store.raise_hint(ADDRESS, 3, NOW)
    assert store.want(before, "stopped", due_at=LATER)
    assert not store.want(before, "purged", due_at=NOW)
    assert _read(store) == replace(before, cursor=1, revision=1, hint=3, wanted="stopped", next_due_at=LATER)
    assert store.want(_read(store), "stopped", due_at=NOW)
    assert _read(store).next_due_at == NOW


def test_of_many_wishes_at_once_one_is_stored(place: Place) -> None:
    """Wishes decided on the same state by many at once, between commits: exactly one says it was stored, and it was."""
    stores = [place.open() for _ in range(4)]
    stores[0].create_mailbox(new_mailbox())
    state = _read(stores[0])
    wishes: list[Wanted] = ["stopped", "purged"] * 4

    def wish(number: int) -> bool:
        stores[number % 4].raise_hint(ADDRESS, number, NOW)
        return stores[number % 4].want(state, wishes[number], due_at=NOW + timedelta(seconds=number))

    answers = at_once([partial(wish, number) for number in range(8)])
    (winner,) = [number for number, stored in enumerate(answers) if stored]
    after = _read(stores[0])
    assert (after.wanted, after.hint) == (wishes[winner], 7)


def test_watches_of_mailboxes_that_nobody_wants_live(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch is looked after while its mailbox is wanted live, and a mailbox that says nothing of it is."""
    _small_pages(monkeypatch)
    wishes: list[Wanted] = ["stopped", "live", "purged", "stopped", "stopped", "live", "purged"]
    for number, wanted in enumerate(wishes):
        store.create_mailbox(replace(new_mailbox(f"{number}"), watch=Watch(NOW), wanted=wanted))
    assert [due.mailbox for due in store.watches_expiring(LATER)] == ["1", "5"]


def test_unknown_mailbox_is_refused(store: Store) -> None:
    """What is said about a mailbox that is not connected is refused by name, and does not create it."""
    calls: list[Callable[[], object]] = [
        lambda: store.raise_hint(ADDRESS, 1, NOW),
        lambda: store.drop_hint(ADDRESS),
        lambda: store.set_watch(ADDRESS, Watch(NOW)),
        lambda: store.request_run(new_mailbox(), RunRequest("r1", "full", NOW), policy=Policy()),
        lambda: store.want(new_mailbox(), "stopped", due_at=NOW),
    ]
    for call in calls:
        with pytest.raises(UnknownMailbox):
            call()
    assert store.mailbox(ADDRESS) is None


# The lease


def test_acquire_creates_the_lease(store: Store) -> None:
    """The first to come gets the lease with token 1 and the state as it is."""
    held = _acquired(store)
    assert (held.lease.owner, held.lease.token, held.lease.expires_at) == ("a", 1, LATER)
    assert held.mailbox == new_mailbox()
    assert not held.taken_over
    assert store.lease(ADDRESS) == held.lease


def test_held_lease_is_refused(store: Store) -> None:
    """A held lease stays with its owner until the very moment it expires."""
    held = _acquired(store)
    with pytest.raises(LeaseHeld, match="Worker a"):
        store.acquire(held.mailbox, owner="b", now=LATER - timedelta(microseconds=1), expires_at=LATER + LEASE)
    assert store.lease(ADDRESS) == held.lease
    assert store.acquire(held.mailbox, owner="b", now=LATER, expires_at=LATER + LEASE).lease.owner == "b"


def test_expired_lease_is_taken_over(store: Store) -> None:
    """An expired, unreleased lease can be taken, with a higher token and the mark that its holder never released."""
    _acquired(store)
    held = _acquired(store, "b", LATER)
    assert (held.lease.owner, held.lease.token, held.taken_over) == ("b", 2, True)


def test_released_lease_is_freeat_once(store: Store) -> None:
    """A released lease can be taken at once, with a higher token, and that is no takeover."""
    held = _acquired(store)
    released = store.commit(held, held.mailbox, expires_at=LATER, release=True)
    assert released.lease.owner == ""
    again = _acquired(store, "b")
    assert (again.lease.owner, again.lease.token, again.taken_over) == ("b", 2, False)


def test_two_acquire_at_once_one_wins(place: Place) -> None:
    """Of workers that ask for a lease at the same time exactly one gets it, free or expired."""
    stores = [place.open() for _ in range(4)]
    stores[0].create_mailbox(new_mailbox())
    for turn in range(5):
        now = NOW + turn * LEASE
        results = at_once([partial(_try_acquire, store, f"{turn}-{n}", now) for n, store in enumerate(stores)])
        winners = [held for held in results if held is not None]
        assert [held.lease.token for held in winners] == [turn + 1]
        assert stores[0].lease(ADDRESS) == winners[0].lease


def _try_acquire(store: Store, owner: str, now: datetime) -> Held | None:
    try:
        return store.acquire(_read(store), owner=owner, now=now, expires_at=now + LEASE)
    except LeaseHeld:
        return None


def test_outdated_state_is_read_again(store: Store) -> None:
    """Who acquires with a state read before another's commit gets the state after it."""
    store.create_mailbox(new_mailbox())
    outdated = _read(store)
    held = _acquired(store)
    held = store.commit(held, replace(held.mailbox, cursor=42), expires_at=LATER, release=True)
    again = store.acquire(outdated, owner="b", now=NOW, expires_at=LATER)
    assert again.mailbox == held.mailbox == replace(new_mailbox(), cursor=42, revision=1)


# Commit


def test_every_model_round_trips_through_a_commit(store: Store) -> None:
    """Whatever a commit puts below a mailbox comes back equal."""
    _write(store, *(Write("put", path, to_document(value)) for path, value in STORED.items()))
    found = store.documents(ADDRESS, list(STORED))
    assert list(found) == list(STORED)
    for path, value in STORED.items():
        assert from_document(type(value), found[path]) == value
        assert found[path] == to_document(value)
    assert store.threads(ADDRESS, [THREAD.id]) == {THREAD.id: THREAD}
    assert store.scan_threads(ADDRESS, after="", limit=10) == [THREAD]
    assert store.parked(ADDRESS) == [PARKED]


def test_commit_stores_all_of_the_state(store: Store) -> None:
    """A commit stores every field that belongs to the lease's holder and counts the revision up by one."""
    held = _acquired(store)
    committed = store.commit(held, MAILBOX, expires_at=LATER)
    assert committed.mailbox == replace(MAILBOX, revision=1)
    others = ("hint", "policy", "watch", "request", "wanted", "announced")
    kept = {name: getattr(new_mailbox(), name) for name in others}
    assert _read(store) == replace(MAILBOX, revision=1, **kept)
    back = store.commit(committed, new_mailbox(), expires_at=LATER)
    assert _read(store) == replace(new_mailbox(), revision=2) == back.mailbox


def test_commits_go_on_from_one_another(store: Store) -> None:
    """Each commit gives what the next one needs; token and owner stay, the expiry moves."""
    held = _acquired(store)
    for cursor in range(1, 4):
        expires_at = LATER + timedelta(seconds=cursor)
        held = store.commit(held, replace(held.mailbox, cursor=cursor), expires_at=expires_at)
        assert held.lease == store.lease(ADDRESS)
        assert (held.lease.owner, held.lease.token, held.lease.expires_at) == ("a", 1, expires_at)
    assert _read(store) == held.mailbox == replace(new_mailbox(), cursor=3, revision=3)


def test_commit_without_change_keeps_the_revision(store: Store) -> None:
    """Renewing the lease is not a commit of the state: its revision stays, others' states stay current."""
    held = _acquired(store)
    renewed = store.commit(held, held.mailbox, expires_at=LATER + LEASE)
    assert renewed.mailbox == held.mailbox
    assert renewed.lease.expires_at == LATER + LEASE
    same = store.commit(renewed, renewed.mailbox, expires_at=LATER + LEASE)
    assert store.commit(same, replace(same.mailbox, cursor=1), expires_at=LATER).mailbox.revision == 1


def test_commit_leaves_what_others_write(store: Store) -> None:
    """What others write during a lease, hint, watch, policy, request, wish, due time, survives and disturbs no
    commit.
    """
    held = _acquired(store)
    store.raise_hint(ADDRESS, 99, LATER)
    store.set_watch(ADDRESS, MAILBOX.watch)
    assert store.request_run(_read(store), RunRequest("r1", "full", NOW), policy=MAILBOX.policy)
    held = store.commit(held, replace(held.mailbox, cursor=1), expires_at=LATER)
    assert store.want(_read(store), "stopped", due_at=LATER)
    store.raise_hint(ADDRESS, 100, LATER + LEASE)
    store.commit(held, replace(held.mailbox, cursor=2), expires_at=LATER, release=True)
    assert _read(store) == replace(
        new_mailbox(),
        hint=100,
        wanted="stopped",
        next_due_at=LATER + LEASE,
        watch=MAILBOX.watch,
        policy=MAILBOX.policy,
        request=RunRequest("r1", "full", NOW),
        cursor=2,
        revision=2,
    )


def test_commit_sets_the_due_time_when_it_changed_it(store: Store) -> None:
    """The due time is the holder's too: when the state has another one, it is stored."""
    held = _acquired(store)
    store.commit(held, replace(held.mailbox, next_due_at=LATER), expires_at=LATER)
    assert _read(store).next_due_at == LATER


def test_put_merge_and_delete(store: Store) -> None:
    """`put` replaces, `merge` sets top-level fields and leaves the others, `delete` removes, also what is absent."""
    _write(store, _put("m1", a=1, b={"x": 1, "y": 2}), _put("m2"), _put("m3", a=1, b=1))
    _write(
        store,
        Write("merge", ("messages", "m1"), {"b": {"z": 3}, "c": {}}),
        Write("delete", ("messages", "m2")),
        Write("delete", ("messages", "none")),
        _put("m3", a=2),
        Write("merge", ("messages", "m4"), {"a": 1}),
    )
    paths = [("messages", name) for name in ("m1", "m2", "m3", "m4", "none")]
    assert store.documents(ADDRESS, paths) == {
        ("messages", "m1"): {"id": "m1", "a": 1, "b": {"z": 3}, "c": {}},
        ("messages", "m3"): {"id": "m3", "a": 2},
        ("messages", "m4"): {"a": 1},
    }


def test_create_refuses_a_document_that_exists(store: Store) -> None:
    """A commit that creates what exists is refused as a whole, the lease stays good, and the next commit goes on."""
    _write(store, _put("m1", subject="first"))
    held = _acquired(store)
    again = Write("create", ("messages", "m1"), {"id": "m1", "subject": "second"})
    with pytest.raises(DocumentExists):
        store.commit(held, replace(held.mailbox, cursor=5), [_put("m2"), again], expires_at=LATER)
    assert store.documents(ADDRESS, [("messages", "m1"), ("messages", "m2")]) == {
        ("messages", "m1"): {"id": "m1", "subject": "first"}
    }
    assert _read(store).cursor == 0
    new = Write("create", ("messages", "m3"), {"id": "m3"})
    store.commit(held, replace(held.mailbox, cursor=5), [new], expires_at=LATER)
    assert store.documents(ADDRESS, [("messages", "m3")]) == {("messages", "m3"): {"id": "m3"}}


def test_create_under_a_lost_lease_is_a_lost_lease(store: Store) -> None:
    """A worker that lost its lease is told so, whether or not what it creates exists."""
    _write(store, _put("m1"))
    held = _acquired(store)
    store.acquire(held.mailbox, owner="b", now=LATER, expires_at=LATER + LEASE)
    with pytest.raises(LeaseLost):
        store.commit(held, held.mailbox, [Write("create", ("messages", "m1"), {"id": "m1"})], expires_at=LATER)


def test_nested_documents(store: Store) -> None:
    """A document below a document is stored by its whole path and apart from its namesakes."""
    paths = [("runs", "r1", "pages", "1"), ("runs", "r1", "plan", "1"), ("runs", "r2", "pages", "1")]
    _write(store, *(Write("put", path, {"n": number}) for number, path in enumerate(paths)))
    assert store.documents(ADDRESS, paths) == {path: {"n": number} for number, path in enumerate(paths)}
    assert store.documents("bob@example.com", paths) == {}


def test_lost_lease_writes_nothing(store: Store) -> None:
    """A worker whose lease was taken writes nothing at all: no document, no delta, no state, no lease."""
    _write(store, _put("old", a=1), Write("put", ("threads", "gone"), {"id": "gone"}))
    late = _acquired(store, "late")
    taker = _acquired(store, "taker", LATER)
    writes = [
        _put("new"),
        Write("put", ("deltas", "1"), {"seq": 1}),
        Write("merge", ("messages", "old"), {"a": 2}),
        Write("delete", ("threads", "gone")),
    ]
    for release in (False, True):
        with pytest.raises(LeaseLost):
            store.commit(late, replace(late.mailbox, cursor=7), writes, expires_at=LATER + LEASE, release=release)
    with pytest.raises(LeaseLost):
        store.commit(late, late.mailbox, expires_at=LATER + LEASE)
    assert _read(store) == new_mailbox()
    assert store.lease(ADDRESS) == taker.lease
    assert store.documents(ADDRESS, [write.path for write in writes]) == {
        ("messages", "old"): {"id": "old", "a": 1},
        ("threads", "gone"): {"id": "gone"},
    }


def test_taker_that_released_is_noticed_too(store: Store) -> None:
    """A worker that slept through another's whole lease is refused even though the lease is free again."""
    late = _acquired(store, "late")
    taker = _acquired(store, "taker", LATER)
    store.commit(taker, replace(taker.mailbox, cursor=5), expires_at=LATER + LEASE, release=True)
    with pytest.raises(LeaseLost):
        store.commit(late, replace(late.mailbox, cursor=7), expires_at=LATER + LEASE)
    assert _read(store).cursor == 5


def test_repeated_commit_is_recognised(store: Store) -> None:
    """The same commit sent twice is applied once; another one from an outdated lease is refused, not taken for it."""
    held = _acquired(store)
    after = replace(held.mailbox, cursor=1)
    first = store.commit(held, after, [_put("m1")], expires_at=LATER + LEASE)
    assert store.commit(held, after, [_put("m1")], expires_at=LATER + LEASE) == first
    with pytest.raises(LeaseLost):
        store.commit(held, after, [_put("m2")], expires_at=LATER + 2 * LEASE)
    assert _read(store) == first.mailbox


def test_namesake_is_not_taken_for_the_same_worker(store: Store) -> None:
    """A worker with the owner name and the times of the present holder, but an older token, has lost the lease."""
    former = _acquired(store)
    present = _acquired(store, now=LATER)
    with pytest.raises(LeaseLost):
        store.commit(former, former.mailbox, [_put("m1")], expires_at=present.lease.expires_at)
    assert store.documents(ADDRESS, [("messages", "m1")]) == {}


def test_commit_of_500_writes(store: Store) -> None:
    """500 writes go into one commit, lease and state included; one more is a mistake that is named and not sent."""
    held = _acquired(store)
    after = replace(held.mailbox, cursor=1)
    writes = [_put(f"m{number}") for number in range(499)]
    with pytest.raises(ValueError, match=r"at most 500 writes.* has 501"):
        store.commit(held, after, writes, expires_at=LATER)
    assert _read(store) == new_mailbox()
    store.commit(held, after, writes[:498], expires_at=LATER)
    paths = [write.path for write in writes]
    assert list(store.documents(ADDRESS, paths)) == paths[:498]


def test_commit_of_3_5_megabytes(store: Store) -> None:
    """A commit of 3.5 MB is stored."""
    text = "ä" * 3500
    _write(store, *(_put(f"m{number}", text=text) for number in range(480)))
    found = store.documents(ADDRESS, [("messages", f"m{number}") for number in (0, 479)])
    assert [document["text"] for document in found.values()] == [text, text]


def test_lone_surrogates_are_refused(store: Store) -> None:
    """Text that is no Unicode is refused as a mistake, with nothing written."""
    held = _acquired(store)
    with pytest.raises(ValueError, match="surrogates"):
        store.commit(held, held.mailbox, [_put("m1"), _put("m2", text="\ud800")], expires_at=LATER)
    assert store.documents(ADDRESS, [("messages", "m1")]) == {}


# Two processes


@pytest.mark.parametrize("place", ["sqlite", "firestore"], indirect=True)
def test_a_stopped_process_cannot_write_later(place: Place, store: Store) -> None:
    """A process that was stopped until another took its lease and committed finds LeaseLost and writes nothing."""
    store.create_mailbox(new_mailbox())
    with _worker(place, "sleeper", NOW) as sleeper, _worker(place, "taker", LATER) as taker:
        _tell(sleeper)
        assert _heard(sleeper) == {"token": 1}
        os.kill(sleeper.pid, signal.SIGSTOP)
        _tell(sleeper)
        _tell(taker)
        assert _heard(taker) == {"token": 2}
        _tell(taker)
        assert _heard(taker) == {"result": "committed"}
        os.kill(sleeper.pid, signal.SIGCONT)
        assert _heard(sleeper) == {"result": "LeaseLost"}
    assert _read(store) == replace(new_mailbox(), cursor=2, delta_seq=1, revision=1)
    deltas = [("deltas", f"{seq:020d}") for seq in (1, 2)]
    found = store.documents(ADDRESS, [("messages", "sleeper"), ("messages", "taker"), *deltas])
    assert list(found) == [("messages", "taker"), deltas[0]]
    assert found[deltas[0]]["changes"][0]["messageId"] == "taker"


@contextmanager
def _worker(place: Place, owner: str, now: datetime) -> Iterator[subprocess.Popen[str]]:
    """Start a process that takes the lease as soon as it is told to, and commits when it is told again."""
    command = [sys.executable, "-m", "tests.contract.worker", place.text, ADDRESS, owner, now.isoformat()]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env) as worker:
        try:
            yield worker
        finally:
            worker.kill()


def _tell(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()


def _heard(worker: subprocess.Popen[str]) -> dict[str, Any]:
    assert worker.stdout is not None
    said: dict[str, Any] = json.loads(worker.stdout.readline())
    return said


def test_delta_sequence_has_no_gap(place: Place) -> None:
    """Workers that contend for one mailbox number its deltas 1 to n without a gap, none twice."""
    stores = [place.open() for _ in range(4)]
    stores[0].create_mailbox(new_mailbox())

    def work(number: int) -> None:
        done = 0
        while done < 5:
            held = _try_acquire(stores[number], f"{number}-{done}", NOW)
            if held is None:
                continue
            seq = held.mailbox.delta_seq + 1
            after = replace(held.mailbox, delta_seq=seq)
            delta = Write("put", ("deltas", f"{seq:020d}"), {"by": f"{number}-{done}"})
            stores[number].commit(held, after, [delta], expires_at=LATER, release=True)
            done += 1

    at_once([partial(work, number) for number in range(4)])
    assert _read(stores[0]).delta_seq == 20
    found = stores[0].documents(ADDRESS, [("deltas", f"{seq:020d}") for seq in range(1, 22)])
    assert sorted(document["by"] for document in found.values()) == sorted(
        f"{n}-{d}" for n in range(4) for d in range(5)
    )


# The mirror


def test_threads_are_read_by_id(store: Store) -> None:
    """The threads that exist come back in the order asked for, each once; their documents may say more."""
    threads = [Thread(name, number, {"m": THREAD.messages["18c0ffee"]}) for number, name in enumerate("abc")]
    documents = [{**to_document(thread), "subject": "s", "unreadCount": 1} for thread in threads]
    _write(store, *(Write("put", ("threads", document["id"]), document) for document in documents))
    found = store.threads(ADDRESS, iter(["c", "none", "a", "c"]))
    assert list(found.items()) == [("c", threads[2]), ("a", threads[0])]
    assert store.threads(ADDRESS, []) == {}


def test_many_documents_are_read_in_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many documents are asked for at once, all that exist come back."""
    _small_pages(monkeypatch)
    paths = [("messages", f"m{number}") for number in range(5)]
    _write(store, *(Write("put", path, {"n": 1}) for path in paths))
    assert list(store.documents(ADDRESS, [*paths, ("messages", "none"), paths[0]])) == paths
    assert store.documents(ADDRESS, []) == {}


def test_scan_is_in_bytewise_order(store: Store) -> None:
    """Threads are scanned a page at a time in the bytewise order of their ids, as Firestore sorts them."""
    ids = ["10", "9", "1", "18c0ffee", "Z", "a", "aa", "a-", "é", "\uffee", "\U0001f600", "_", "~"]
    _write(store, *(Write("put", ("threads", name), to_document(Thread(name, 1))) for name in ids))
    found: list[str] = []
    while page := store.scan_threads(ADDRESS, after=found[-1] if found else "", limit=5):
        assert len(page) <= 5
        found += [thread.id for thread in page]
    assert found == sorted(ids, key=str.encode)


def _thread(name: str, *labels: str, first: datetime = NOW) -> Write:
    """A thread whose document says what its messages come to."""
    thread = Thread(name, 7, {f"m{name}": replace(THREAD.messages["18c0ffee"], label_ids=frozenset(labels))})
    document = to_document(thread) | {"labelIds": sorted(labels), "firstMessageAt": first, "lastMessageAt": LATER}
    return Write("put", ("threads", name), document)


def test_threads_by_label(store: Store) -> None:
    """Threads are found by a label that one of their messages has, as many as asked for, until none has it."""
    labelled = {"a": ("X", "INBOX"), "b": ("XX", "Y"), "c": ("INBOX", "X"), "d": (), "e": ("X",)}
    _write(store, *(_thread(name, *labels) for name, labels in labelled.items()))
    assert store.threads_labelled(ADDRESS, "none", limit=10) == []
    assert store.threads_labelled("bob@example.com", "X", limit=10) == []
    assert [thread.id for thread in store.threads_labelled(ADDRESS, "XX", limit=10)] == ["b"]
    found: list[Thread] = []
    while some := store.threads_labelled(ADDRESS, "X", limit=2):
        assert len(some) <= 2
        found += some
        _write(store, *(_thread(thread.id, "INBOX") for thread in some))
    assert sorted(thread.id for thread in found) == ["a", "c", "e"]
    for thread in found:
        assert thread.messages[f"m{thread.id}"].label_ids == frozenset(labelled[thread.id])


@pytest.mark.parametrize("label_id", ["Label_1'\"", "a.b/c `d`", "ä\U0001f600", "%", "*", "null", "1"])
def test_threads_by_strange_labels(store: Store, label_id: str) -> None:
    """Whatever a label is called, the threads that have it are found, and no others."""
    _write(store, _thread("a", label_id), _thread("b", f"{label_id}x"), _thread("c"))
    assert [thread.id for thread in store.threads_labelled(ADDRESS, label_id, limit=10)] == ["a"]


def test_threads_before_a_time(store: Store) -> None:
    """Threads with a message older than a time are found, the oldest first, as many as asked for, to a microsecond."""
    offsets = {"a": -3, "b": 0, "c": -1, "d": 5, "e": -2_000_000_000, "f": -2}
    _write(store, *(_thread(name, first=NOW + timedelta(microseconds=offset)) for name, offset in offsets.items()))
    assert [thread.id for thread in store.threads_before(ADDRESS, NOW, limit=10)] == ["e", "a", "f", "c"]
    assert [thread.id for thread in store.threads_before(ADDRESS, NOW, limit=2)] == ["e", "a"]
    there = NOW.astimezone(timezone(timedelta(hours=-8)))
    assert [thread.id for thread in store.threads_before(ADDRESS, there, limit=1)] == ["e"]
    assert store.threads_before(ADDRESS, NOW - timedelta(days=1), limit=10) == []
    assert store.threads_before("bob@example.com", NOW, limit=10) == []


def test_objects_that_messages_name(store: Store) -> None:
    """Of some objects those are told that a mirrored message names, alone or among others, and no longer when none
    does.
    """
    _write(
        store,
        _put("m1", objects=["ann@example.com/a", "ann@example.com/b"]),
        _put("m2", objects=["ann@example.com/b"]),
        _put("m3", objects=[]),
        _put("m4"),
    )
    asked = [f"ann@example.com/{name}" for name in ("a", "b", "aa", "", "c")]
    assert store.named_objects(ADDRESS, iter(asked)) == set(asked[:2])
    assert store.named_objects(ADDRESS, asked[2:]) == set()
    assert store.named_objects(ADDRESS, []) == set()
    assert store.named_objects("bob@example.com", asked) == set()
    _write(store, Write("delete", ("messages", "m1")))
    assert store.named_objects(ADDRESS, asked) == {asked[1]}
    _write(store, Write("merge", ("messages", "m2"), {"objects": []}))
    assert store.named_objects(ADDRESS, asked) == set()


def test_parked_next_to_be_tried_first(store: Store) -> None:
    """Parked messages come in the order in which they are due."""
    minutes = {"m1": 3, "m2": 1, "m3": 2, "m0": 3}
    parked = [Parked(name, "t", "r", 1, NOW, NOW + timedelta(minutes=offset)) for name, offset in minutes.items()]
    _write(store, *(Write("put", ("parked", item.id), to_document(item)) for item in parked))
    assert [item.id for item in store.parked(ADDRESS)] == ["m2", "m3", "m0", "m1"]
    assert store.parked("bob@example.com") == []


# The end of a mailbox


def _place_of_every_kind() -> list[Write]:
    paths = [*STORED, ("runs", "r1", "pages", "1"), ("runs", "r1", "plan", "000001"), ("runs", "gone", "pages", "1")]
    return [Write("put", path, {"n": number}) for number, path in enumerate(paths)]


def test_below_finds_everything_below_a_mailbox(store: Store) -> None:
    """Every document is found whatever collection it is in, also below one that is gone; the mailbox itself is not."""
    writes = _place_of_every_kind()
    _write(store, *writes)
    found = store.below(ADDRESS, limit=100)
    assert len(found) == len(set(found))
    assert set(found) == {write.path for write in writes}


@pytest.mark.parametrize("address", ["a_n@example.com", "a%@example.com", "a*[^]?@example.com", "ä'\"@example.com"])
def test_below_finds_nothing_of_another_mailbox(store: Store, address: str) -> None:
    """Addresses that begin alike, stand next to this one in any order, or fit it as a pattern keep their documents."""
    others = [f"{address}{more}" for more in ("0", "!", "-", ".", "\U0001f600", "m")]
    others += [address[:-1], f"z{address}", "abn@example.com", "aan@example.com"]
    for name in others:
        state = new_mailbox(name)
        store.create_mailbox(state)
        held = store.acquire(state, owner=name, now=NOW, expires_at=LATER)
        store.commit(held, held.mailbox, [_put("m1")], expires_at=LATER)
    assert store.below(address, limit=10) == []
    state = new_mailbox(address)
    store.create_mailbox(state)
    held = store.acquire(state, owner="a", now=NOW, expires_at=LATER)
    store.commit(held, held.mailbox, [_put("m2")], expires_at=LATER)
    assert store.below(address, limit=10) == [("messages", "m2")]


def test_below_is_emptied_part_by_part(store: Store) -> None:
    """Deleting what is found, a few at a time, ends with nothing, however deep it was; each is found once."""
    writes = _place_of_every_kind()
    _write(store, *writes)
    gone: list[tuple[str, ...]] = []
    while paths := store.below(ADDRESS, limit=2):
        assert len(paths) <= 2
        gone += paths
        _write(store, *(Write("delete", path) for path in paths))
    assert sorted(gone) == sorted(write.path for write in writes)
    assert store.documents(ADDRESS, gone) == {}


def test_a_removed_mailbox_leaves_its_receipt(store: Store) -> None:
    """Mailbox and lease go and the receipt comes; another mailbox is not touched."""
    store.create_mailbox(new_mailbox("bob@example.com"))
    held = _acquired(store)
    assert store.receipt(ADDRESS) is None
    store.remove(held, RECEIPT)
    assert (store.mailbox(ADDRESS), store.lease(ADDRESS)) == (None, None)
    assert store.receipt(ADDRESS) == RECEIPT
    assert [mailbox.email_address for mailbox in store.mailboxes()] == ["bob@example.com"]
    assert list(store.due_mailboxes(NOW)) == [Due("bob@example.com", NOW)]


def test_who_lost_the_lease_removes_nothing(store: Store) -> None:
    """Without the lease nothing is removed and no receipt written: taken over, released by the taker, or committed."""
    late = _acquired(store, "late")
    taker = _acquired(store, "taker", LATER)
    with pytest.raises(LeaseLost):
        store.remove(late, RECEIPT)
    store.commit(taker, replace(taker.mailbox, cursor=5), expires_at=LATER + LEASE, release=True)
    for outdated in (late, taker):
        with pytest.raises(LeaseLost):
            store.remove(outdated, RECEIPT)
    assert _read(store).cursor == 5
    assert store.receipt(ADDRESS) is None


def test_a_removal_said_twice_is_recognised(store: Store) -> None:
    """The same removal again is no error; one with another receipt is, for somebody else's stands."""
    held = _acquired(store)
    store.remove(held, RECEIPT)
    store.remove(held, RECEIPT)
    with pytest.raises(LeaseLost):
        store.remove(held, replace(RECEIPT, objects=7))
    assert store.receipt(ADDRESS) == RECEIPT


@pytest.mark.parametrize("revision", [0, 1])
def test_acquire_of_a_removed_mailbox(store: Store, revision: int) -> None:
    """Whoever still knows a mailbox that was purged, from before its first commit too, is told so and leaves no lease
    behind.
    """
    held = _acquired(store)
    if revision:
        held = store.commit(held, replace(held.mailbox, phase="purging"), expires_at=LATER)
    store.remove(held, RECEIPT)
    for known in (held.mailbox, new_mailbox()):
        with pytest.raises(UnknownMailbox):
            store.acquire(known, owner="b", now=NOW, expires_at=LATER)
    assert store.lease(ADDRESS) is None


def test_a_former_life_cannot_write(store: Store) -> None:
    """A mailbox connected again after a purge starts anew, and a worker of its former life commits and removes
    nothing.
    """
    former = _acquired(store)
    purger = _acquired(store, "b", LATER)
    store.remove(purger, RECEIPT)
    held = _acquired(store, "c", LATER)
    assert (held.mailbox, held.taken_over) == (new_mailbox(), False)
    with pytest.raises(LeaseLost):
        store.commit(former, replace(former.mailbox, cursor=1), [_put("m1")], expires_at=LATER)
    with pytest.raises(LeaseLost):
        store.remove(former, replace(RECEIPT, objects=0))
    assert _read(store) == new_mailbox()
    assert store.documents(ADDRESS, [("messages", "m1")]) == {}
    store.commit(held, replace(held.mailbox, cursor=1), expires_at=LATER)


def test_a_removed_mailbox_stops_a_commit(store: Store) -> None:
    """A commit to a mailbox that was purged meanwhile is refused and writes nothing."""
    former = _acquired(store)
    store.remove(_acquired(store, "b", LATER), RECEIPT)
    for after in (former.mailbox, replace(former.mailbox, cursor=1)):
        with pytest.raises((LeaseLost, UnknownMailbox)):
            store.commit(former, after, [_put("m1")], expires_at=LATER)
    assert (store.mailbox(ADDRESS), store.lease(ADDRESS)) == (None, None)
    assert store.documents(ADDRESS, [("messages", "m1")]) == {}


def test_samples_leave_no_default() -> None:
    """The mailbox these tests store has every field set, so that no field can be forgotten by a store."""
    untouched = {"email_address", "created_at", "next_due_at"}
    for field in fields(Mailbox):
        if field.name not in untouched:
            assert getattr(MAILBOX, field.name) != getattr(new_mailbox(), field.name), field.name
