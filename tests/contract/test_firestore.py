"""What the Firestore store promises besides the contract: its price, its patience, and what it makes of errors."""

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import firestore
from mailmirror.adapters.firestore import FirestoreStore
from mailmirror.documents import to_document
from mailmirror.errors import LeaseHeld, LeaseLost, StoreUnavailable
from mailmirror.model import Held, Policy, Query, RunRequest, Thread, Watch
from mailmirror.slice import Write

from tests.contract.counting import CountingFirestore
from tests.contract.samples import ADDRESS, DELTA, LEASE, NOW, PARKED, RECEIPT, new_mailbox
from tests.contract.worker import firestore_client

LATER = NOW + LEASE


class _Faults:
    """Stands between a client and its gRPC methods; answers are lost or refused as they are planned, one call each."""

    def __init__(self, client: firestore.Client) -> None:
        self._api: Any = client._firestore_api
        self.lose: list[Exception] = []
        self.refuse: list[Exception] = []
        self.between: list[Callable[[], object]] = []
        self.timeouts: list[float] = []
        client._firestore_api_internal = self

    def commit(self, *args: Any, **kwargs: Any) -> Any:
        self.timeouts.append(kwargs["timeout"])
        if self.refuse:
            raise self.refuse.pop(0)
        response = self._api.commit(*args, **kwargs)
        if self.lose:
            for call in self.between:
                call()
            raise self.lose.pop(0)
        return response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)


def _held(store: FirestoreStore, owner: str = "a") -> Held:
    store.create_mailbox(new_mailbox())
    state = store.mailbox(ADDRESS)
    assert state is not None
    return store.acquire(state, owner=owner, now=NOW, expires_at=LATER)


def _put(name: str, **data: Any) -> Write:
    return Write("put", ("messages", name), {"id": name, **data})


# Price


def test_price_of_the_state(client: firestore.Client) -> None:
    """The state is one read; what workers say without a lease is one write each, a request one read more."""
    counting, store = CountingFirestore(client), FirestoreStore(client)
    assert _price(counting, lambda: store.create_mailbox(new_mailbox())) == (0, 1)
    assert _price(counting, lambda: store.mailbox(ADDRESS)) == (1, 0)
    assert _price(counting, lambda: store.lease(ADDRESS)) == (1, 0)
    assert _price(counting, lambda: store.raise_hint(ADDRESS, 1, NOW)) == (0, 1)
    assert _price(counting, lambda: store.raise_hint(ADDRESS, 2)) == (0, 1)
    assert _price(counting, lambda: store.drop_hint(ADDRESS)) == (0, 1)
    assert _price(counting, lambda: store.set_watch(ADDRESS, Watch(NOW))) == (0, 1)
    request = RunRequest("r", "full", NOW)
    assert _price(counting, lambda: store.request_run(new_mailbox(), request, policy=Policy())) == (1, 1)
    assert _price(counting, lambda: store.want(new_mailbox(), "stopped", due_at=NOW)) == (1, 1)
    assert _price(counting, lambda: store.want(new_mailbox(), "purged", due_at=NOW)) == (1, 0)
    assert _price(counting, lambda: store.receipt(ADDRESS)) == (1, 0)


def test_price_of_a_lease(client: firestore.Client) -> None:
    """Acquiring is one read and one write, at first or with an outdated state two reads; a refusal is one read."""
    counting, store = CountingFirestore(client), FirestoreStore(client)
    store.create_mailbox(new_mailbox())
    outdated = store.mailbox(ADDRESS)
    assert outdated is not None
    first = _bought(counting, (2, 1), lambda: store.acquire(outdated, owner="0", now=NOW, expires_at=LATER))
    store.commit(first, first.mailbox, expires_at=LATER, release=True)
    held = _bought(counting, (1, 1), lambda: store.acquire(outdated, owner="a", now=NOW, expires_at=LATER))
    with pytest.raises(LeaseHeld):
        _bought(counting, (0, 0), lambda: store.acquire(outdated, owner="b", now=NOW, expires_at=LATER))
    assert (counting.reads, counting.writes) == (1, 0)
    store.commit(held, replace(held.mailbox, cursor=1), expires_at=LATER, release=True)
    _bought(counting, (2, 1), lambda: store.acquire(outdated, owner="b", now=NOW, expires_at=LATER))


def test_price_of_a_commit(client: firestore.Client) -> None:
    """A commit costs a write for each document, one for the lease, and one for the mailbox only when it changed."""
    counting, store = CountingFirestore(client), FirestoreStore(client)
    held = _held(store)
    after = replace(held.mailbox, cursor=1)
    writes = [_put("m1"), _put("m2"), Write("delete", ("messages", "m0"))]
    held = _bought(counting, (0, 5), lambda: store.commit(held, after, writes, expires_at=LATER))
    assert counting.deletes == 1
    held = _bought(counting, (0, 2), lambda: store.commit(held, held.mailbox, writes[:1], expires_at=LATER))
    held = _bought(counting, (0, 1), lambda: store.commit(held, held.mailbox, expires_at=LATER + LEASE))
    _bought(counting, (0, 1), lambda: store.commit(held, held.mailbox, expires_at=LATER, release=True))


def test_price_of_a_lost_lease(client: firestore.Client) -> None:
    """Finding the lease lost costs one read, and no write is billed."""
    counting, store = CountingFirestore(client), FirestoreStore(client)
    held = _held(store)
    store.acquire(held.mailbox, owner="b", now=LATER, expires_at=LATER + LEASE)
    counting.reset()
    with pytest.raises(LeaseLost):
        store.commit(held, replace(held.mailbox, cursor=1), [_put("m1")], expires_at=LATER)
    assert (counting.reads, counting.writes) == (1, 0)


def test_price_of_reading_the_mirror(client: firestore.Client) -> None:
    """Documents cost a read for each id, absent or not, but none twice; scans cost what they find, at least one."""
    counting, store = CountingFirestore(client), FirestoreStore(client)
    held = _held(store)
    threads = [Write("put", ("threads", name), to_document(Thread(name))) for name in "abc"]
    parked = Write("put", ("parked", PARKED.id), to_document(PARKED))
    store.commit(held, held.mailbox, [*threads, parked], expires_at=LATER)
    assert _price(counting, lambda: store.threads(ADDRESS, ["a", "b", "b", "none"])) == (3, 0)
    assert _price(counting, lambda: store.threads(ADDRESS, [])) == (0, 0)
    assert _price(counting, lambda: store.documents(ADDRESS, [("threads", "a"), ("messages", "x")])) == (2, 0)
    assert _price(counting, lambda: store.scan_threads(ADDRESS, after="", limit=2)) == (2, 0)
    assert _price(counting, lambda: store.scan_threads(ADDRESS, after="c", limit=2)) == (1, 0)
    assert _price(counting, lambda: store.parked(ADDRESS)) == (1, 0)
    assert _price(counting, lambda: store.threads_labelled(ADDRESS, "X", limit=5)) == (1, 0)
    assert _price(counting, lambda: store.threads_before(ADDRESS, NOW, limit=5)) == (1, 0)
    assert _price(counting, lambda: list(store.due_mailboxes(NOW))) == (1, 0)
    assert _price(counting, lambda: list(store.watches_expiring(NOW))) == (1, 0)


def test_price_of_threads_by_what_they_have(client: firestore.Client) -> None:
    """Threads found by label or age cost a read each."""
    counting, store = CountingFirestore(client), FirestoreStore(client)
    held = _held(store)
    said = {"labelIds": ["X"], "firstMessageAt": NOW}
    threads = [Write("put", ("threads", name), to_document(Thread(name)) | said) for name in "abc"]
    store.commit(held, held.mailbox, threads, expires_at=LATER)
    assert _price(counting, lambda: store.threads_labelled(ADDRESS, "X", limit=5)) == (3, 0)
    assert _price(counting, lambda: store.threads_labelled(ADDRESS, "X", limit=2)) == (2, 0)
    assert _price(counting, lambda: store.threads_before(ADDRESS, LATER, limit=5)) == (3, 0)
    assert _price(counting, lambda: store.threads_before(ADDRESS, LATER, limit=2)) == (2, 0)


def test_price_of_objects(client: firestore.Client) -> None:
    """Whether messages name an object costs a read for each object, however many messages do."""
    counting, store = CountingFirestore(client), FirestoreStore(client)
    held = _held(store)
    writes = [_put(f"m{number}", objects=["a", "b"]) for number in range(5)]
    store.commit(held, held.mailbox, writes, expires_at=LATER)
    assert _price(counting, lambda: store.named_objects(ADDRESS, ["a", "b", "none"])) == (3, 0)
    assert _price(counting, lambda: store.named_objects(ADDRESS, [])) == (0, 0)


def test_price_of_what_applications_ask(client: firestore.Client) -> None:
    """A query and the log cost a read for each document found, at least one, whatever is asked for behind which
    document; noting what is announced is one write.
    """
    counting, store = CountingFirestore(client), FirestoreStore(client)
    held = _held(store)
    messages = [_put(f"m{number}", internalDate=NOW, labelIds=["X", "Y"]) for number in range(9)]
    log = [Write("put", ("deltas", f"{seq:020d}"), to_document(replace(DELTA, seq=seq))) for seq in range(1, 6)]
    store.commit(held, held.mailbox, [*messages, *log], expires_at=LATER)
    query = Query("messages", "internalDate", any_of=("labelIds", ("X", "Y")), fields=("id",))
    assert _price(counting, lambda: store.query(ADDRESS, query, limit=4)) == (4, 0)
    assert _price(counting, lambda: store.query(ADDRESS, replace(query, after=(NOW, "m2")), limit=4)) == (2, 0)
    assert _price(counting, lambda: store.query(ADDRESS, replace(query, before=NOW), limit=4)) == (1, 0)
    assert _price(counting, lambda: store.deltas(ADDRESS, after=1, limit=3)) == (3, 0)
    assert _price(counting, lambda: store.deltas(ADDRESS, after=5, limit=3)) == (1, 0)
    assert _price(counting, lambda: store.announced(ADDRESS, 5)) == (0, 1)


def test_announced_begins_on_a_document_without_the_field(client: firestore.Client) -> None:
    """A mailbox that an older version connected has no such field."""
    older = {name: value for name, value in to_document(new_mailbox()).items() if name != "announced"}
    client.document("mailboxes", ADDRESS).set(older)
    store = FirestoreStore(client)
    assert store.mailbox(ADDRESS) == new_mailbox()
    store.announced(ADDRESS, 5)
    assert store.mailbox(ADDRESS) == replace(new_mailbox(), announced=5)


def test_price_of_a_purge(client: firestore.Client) -> None:
    """What is below a mailbox costs a read for each document found, whatever its size and depth, and one for the names
    of the collections; the end is three writes.
    """
    counting, store = CountingFirestore(client), FirestoreStore(client)
    held = _held(store)
    names = [f"m{number}" for number in range(5)]
    paths = [("messages", name) for name in names] + [("runs", "r1", "pages", name) for name in names]
    held = store.commit(
        held, held.mailbox, [Write("put", path, {"text": "x" * 500}) for path in paths], expires_at=LATER
    )
    assert _price(counting, lambda: store.below(ADDRESS, limit=3)) == (1 + 3, 0)
    assert _price(counting, lambda: store.below(ADDRESS, limit=100)) == (1 + 10, 0)
    held = store.commit(held, held.mailbox, [Write("delete", path) for path in paths], expires_at=LATER)
    assert _price(counting, lambda: store.below(ADDRESS, limit=100)) == (1, 0)
    assert _price(counting, lambda: store.remove(held, RECEIPT)) == (0, 3)
    assert counting.deletes == 2


def _price(counting: CountingFirestore, call: Callable[[], object]) -> tuple[int, int]:
    counting.reset()
    call()
    return counting.reads, counting.writes


def _bought(counting: CountingFirestore, price: tuple[int, int], call: Callable[[], Held]) -> Held:
    counting.reset()
    held = call()
    assert (counting.reads, counting.writes) == price
    return held


# Lost answers

LOST = exceptions.ServiceUnavailable("The connection broke.")


@pytest.mark.parametrize("release", [False, True])
@pytest.mark.parametrize("changes", [False, True])
def test_commit_whose_answer_was_lost(client: firestore.Client, release: bool, changes: bool) -> None:
    """A commit that was applied while its answer was lost is a success, and the next commit goes on from it."""
    store = FirestoreStore(client)
    held = _held(store)
    faults = _Faults(client)
    faults.lose = [LOST]
    after = replace(held.mailbox, cursor=1) if changes else held.mailbox
    writes = [_put("m1"), Write("create", ("messages", "m2"), {"id": "m2"})]
    committed = store.commit(held, after, writes, expires_at=LATER + LEASE, release=release)
    assert committed.lease == store.lease(ADDRESS)
    assert committed.mailbox == store.mailbox(ADDRESS) == replace(after, revision=int(changes))
    if not release:
        store.commit(committed, replace(after, cursor=2), expires_at=LATER + LEASE)


def test_lost_answer_and_a_taker_in_between(client: firestore.Client, firestore_emulator: str) -> None:
    """When another took the lease before the second attempt, the answer is LeaseLost: safe, if not the whole truth."""
    store = FirestoreStore(client)
    held = _held(store)
    faults = _Faults(client)
    with firestore_client(firestore_emulator, client.project) as other_client:
        other = FirestoreStore(other_client)
        faults.lose = [LOST]
        faults.between = [lambda: other.acquire(held.mailbox, owner="b", now=LATER, expires_at=LATER + LEASE)]
        with pytest.raises(LeaseLost):
            store.commit(held, replace(held.mailbox, cursor=1), expires_at=LATER)
    lease = store.lease(ADDRESS)
    assert lease is not None
    assert lease.owner == "b"


def test_outdated_commit_is_not_taken_for_a_lost_answer(client: firestore.Client) -> None:
    """A commit refused in its own right is LeaseLost even when the lease still names its worker."""
    store = FirestoreStore(client)
    held = _held(store)
    store.commit(held, replace(held.mailbox, cursor=1), expires_at=LATER + LEASE)
    with pytest.raises(LeaseLost):
        store.commit(held, replace(held.mailbox, cursor=9), expires_at=LATER + 2 * LEASE)


@pytest.mark.parametrize("released", [False, True])
def test_acquire_whose_answer_was_lost(client: firestore.Client, released: bool) -> None:
    """A lease that was taken while the answer was lost is held, not left to expire: created or taken again."""
    store = FirestoreStore(client)
    store.create_mailbox(new_mailbox())
    if released:
        held = _held(store)
        store.commit(held, held.mailbox, expires_at=LATER, release=True)
    _Faults(client).lose = [LOST]
    held = store.acquire(new_mailbox(), owner="z", now=NOW, expires_at=LATER)
    assert held.lease == store.lease(ADDRESS)
    store.commit(held, replace(held.mailbox, cursor=1), expires_at=LATER)


def test_request_whose_answer_was_lost(client: firestore.Client) -> None:
    """A request that was stored while its answer was lost counts as stored."""
    store = FirestoreStore(client)
    store.create_mailbox(new_mailbox())
    _Faults(client).lose = [LOST]
    assert store.request_run(new_mailbox(), RunRequest("r", "full", NOW))
    assert store.mailbox(ADDRESS) == replace(new_mailbox(), request=RunRequest("r", "full", NOW))


def test_policy_whose_answer_was_lost(client: firestore.Client) -> None:
    """A policy that was stored with its request while the answer was lost counts as stored."""
    store = FirestoreStore(client)
    store.create_mailbox(new_mailbox())
    _Faults(client).lose = [LOST]
    request, policy = RunRequest("r", "audit", NOW), Policy(drafts=True)
    assert store.request_run(new_mailbox(), request, policy=policy)
    assert store.mailbox(ADDRESS) == replace(new_mailbox(), request=request, policy=policy)


def test_refused_policy_is_not_taken_for_a_lost_answer(client: firestore.Client) -> None:
    """A policy refused for what was written in between is not stored, though the request it came with waits already."""

    class Disturbed(FirestoreStore):
        def _get(self, reference: Any) -> Any:
            snapshot = super()._get(reference)
            if hints:
                self.raise_hint(ADDRESS, hints.pop(), NOW)
            return snapshot

    hints: list[int] = []
    store = Disturbed(client)
    waiting = replace(new_mailbox(), request=RunRequest("r", "audit", NOW))
    store.create_mailbox(waiting)
    hints.append(1)
    assert not store.request_run(waiting, RunRequest("r", "audit", NOW), policy=Policy(drafts=True))
    assert store.mailbox(ADDRESS) == replace(waiting, hint=1)
    assert store.request_run(waiting, RunRequest("r", "audit", NOW), policy=Policy(drafts=True))
    assert store.mailbox(ADDRESS) == replace(waiting, hint=1, policy=Policy(drafts=True))


def test_wish_whose_answer_was_lost(client: firestore.Client) -> None:
    """A wish that was stored while its answer was lost is stored once, and whoever looks again finds it."""
    store = FirestoreStore(client)
    store.create_mailbox(new_mailbox())
    _Faults(client).lose = [LOST]
    assert not store.want(new_mailbox(), "stopped", due_at=LATER)
    assert store.mailbox(ADDRESS) == replace(new_mailbox(), wanted="stopped", next_due_at=LATER)


def test_a_wish_finds_its_way_between_hints(client: firestore.Client) -> None:
    """Hints that come in between are no wishes: the wish is stored all the same."""

    class Disturbed(FirestoreStore):
        def _get(self, reference: Any) -> Any:
            snapshot = super()._get(reference)
            if hints:
                self.raise_hint(ADDRESS, hints.pop(), NOW)
            return snapshot

    hints = [3, 2, 1]
    store = Disturbed(client)
    store.create_mailbox(new_mailbox())
    assert store.want(new_mailbox(), "stopped", due_at=LATER)
    assert store.mailbox(ADDRESS) == replace(new_mailbox(), wanted="stopped", hint=3, next_due_at=LATER)


@pytest.mark.parametrize("reconnected", [False, True])
def test_removal_whose_answer_was_lost(client: firestore.Client, firestore_emulator: str, reconnected: bool) -> None:
    """A removal that was applied while its answer was lost is a success, also if the mailbox is there again by then."""
    store = FirestoreStore(client)
    held = _held(store)
    faults = _Faults(client)
    with firestore_client(firestore_emulator, client.project) as other_client:
        other = FirestoreStore(other_client)
        faults.lose = [LOST]
        if reconnected:
            faults.between = [lambda: _held(other, "b")]
        store.remove(held, RECEIPT)
        assert store.receipt(ADDRESS) == RECEIPT
        assert (other.mailbox(ADDRESS) is not None) == reconnected


# Errors


@pytest.mark.parametrize(
    "error",
    [
        exceptions.Aborted,
        exceptions.Cancelled,
        exceptions.DeadlineExceeded,
        exceptions.InternalServerError,
        exceptions.ResourceExhausted,
        exceptions.ServiceUnavailable,
        exceptions.Unknown,
    ],
)
def test_no_answer_is_store_unavailable(client: firestore.Client, error: type[exceptions.GoogleAPICallError]) -> None:
    """Whatever Firestore says when it cannot answer now is StoreUnavailable, with its own words in the message."""
    store = FirestoreStore(client, patience=0)
    held = _held(store)
    faults = _Faults(client)
    calls: list[Callable[[], object]] = [
        lambda: store.commit(held, held.mailbox, expires_at=LATER),
        lambda: store.raise_hint(ADDRESS, 1, NOW),
        lambda: store.create_mailbox(new_mailbox()),
        lambda: store.acquire(held.mailbox, owner="b", now=LATER, expires_at=LATER + LEASE),
    ]
    for call in calls:
        faults.refuse = [error("try later")]
        with pytest.raises(StoreUnavailable, match="try later"):
            call()


@pytest.mark.parametrize(
    "error",
    [
        exceptions.Aborted,
        exceptions.InternalServerError,
        exceptions.ResourceExhausted,
        exceptions.ServiceUnavailable,
    ],
)
def test_passing_errors_are_tried_again(client: firestore.Client, error: type[exceptions.GoogleAPICallError]) -> None:
    """An error that passes is not noticed; every attempt has a time limit of its own."""
    store = FirestoreStore(client)
    held = _held(store)
    faults = _Faults(client)
    faults.refuse = [error("try later"), error("try later")]
    store.commit(held, replace(held.mailbox, cursor=1), [_put("m1")], expires_at=LATER)
    assert faults.timeouts == [20.0, 20.0, 20.0]


def test_nobody_listens() -> None:
    """Without a server every call of the port says StoreUnavailable."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with firestore_client(f"127.0.0.1:{unused.getsockname()[1]}", "nobody") as client:
            store = FirestoreStore(client, patience=0)
            calls: list[Callable[[], object]] = [
                lambda: store.mailbox(ADDRESS),
                lambda: store.lease(ADDRESS),
                store.mailboxes,
                lambda: list(store.due_mailboxes(NOW)),
                lambda: list(store.watches_expiring(NOW)),
                lambda: store.threads(ADDRESS, ["t"]),
                lambda: store.scan_threads(ADDRESS, after="t", limit=1),
                lambda: store.documents(ADDRESS, [("messages", "m")]),
                lambda: store.parked(ADDRESS),
                lambda: store.raise_hint(ADDRESS, 1, NOW),
                lambda: store.create_mailbox(new_mailbox()),
                lambda: store.want(new_mailbox(), "stopped", due_at=NOW),
                lambda: store.below(ADDRESS, limit=1),
                lambda: store.receipt(ADDRESS),
                lambda: store.acquire(new_mailbox(), owner="a", now=NOW, expires_at=LATER),
            ]
            for call in calls:
                with pytest.raises(StoreUnavailable):
                    call()


def test_too_large_a_commit_is_a_mistake(client: firestore.Client) -> None:
    """A commit of 4 MB is named as a mistake and not sent; just below it is stored."""
    store = FirestoreStore(client)
    held = _held(store)
    faults = _Faults(client)
    writes = [_put(f"m{number}", text="x" * 998_000) for number in range(4)]
    with pytest.raises(ValueError, match="less than 4000000 bytes; this one has 4"):
        store.commit(held, held.mailbox, [*writes, _put("m5", text="x" * 8_000)], expires_at=LATER)
    assert faults.timeouts == []
    store.commit(held, held.mailbox, [*writes, _put("m5", text="x" * 6_000)], expires_at=LATER)


@pytest.mark.parametrize("name", ["__x__", ".", ".."])
def test_forbidden_ids_are_a_mistake(client: firestore.Client, name: str) -> None:
    """An id that Firestore forbids is its InvalidArgument, at once, with nothing written."""
    store = FirestoreStore(client)
    held = _held(store)
    with pytest.raises(exceptions.InvalidArgument):
        store.commit(held, held.mailbox, [_put("m1"), _put(name)], expires_at=LATER)
    assert store.documents(ADDRESS, [("messages", "m1")]) == {}
