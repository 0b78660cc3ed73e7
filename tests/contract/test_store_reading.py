"""What applications have every store do: find documents newest first, read the delta log, and note what is announced.

One suite over SQLite, Google's Firestore emulator and the simulation's store in memory. What a query has to find is
worked out here by plain Python.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from mailmirror.documents import to_document
from mailmirror.errors import LeaseLost, UnknownMailbox
from mailmirror.model import Delta, Held, Mailbox, Query
from mailmirror.ports import Store
from mailmirror.slice import Document, Write

from tests.contract.conftest import Place, at_once
from tests.contract.samples import ADDRESS, DELTA, LEASE, MAX_HISTORY_ID, NOW, new_mailbox

LATER = NOW + LEASE
BOB = "bob@example.com"
START = datetime(2026, 11, 1, 12, tzinfo=UTC)
TINY = timedelta(microseconds=1)
NAMES = ["10", "9", "1", "18c0ffee", "Z", "a", "aa", "a-", "é", "\uffee", "\U0001f600", "_", "~"]


def _read(store: Store) -> Mailbox:
    state = store.mailbox(ADDRESS)
    assert state is not None
    return state


def _acquired(store: Store, owner: str = "a", now: datetime = NOW) -> Held:
    store.create_mailbox(new_mailbox())
    return store.acquire(_read(store), owner=owner, now=now, expires_at=now + LEASE)


def _write(store: Store, *writes: Write) -> None:
    held = _acquired(store)
    store.commit(held, held.mailbox, writes, expires_at=LATER, release=True)


# Queries


def _message(number: int, name: str) -> Document:
    """A message; three each are of one time, and one is a microsecond older than the next ones."""
    at = START + timedelta(days=number // 3) - (TINY if number % 9 == 5 else timedelta())
    return {
        "id": name,
        "threadId": f"t{number % 2}",
        "internalDate": at,
        "labelIds": [
            label for label, every in (("INBOX", 1), ("UNREAD", 3), ("a.b/c `'\"%", 4)) if number % every == 0
        ],
        "recipients": [f"{person}@example.com" for person in range(number % 4)] + (["*"] if number % 6 == 0 else []),
        "headers": {"from": {"name": "", "address": BOB if number % 2 else ADDRESS}, "subject": f"Number {number}"},
        "unread": number % 3 == 0,
    }


MESSAGES = [_message(number, name) for number, name in enumerate(NAMES)]
# What has no time that sorts is in no index of it.
TIMELESS = {"id": "timeless", "threadId": "t0", "labelIds": ["INBOX"]}
DAY = timedelta(days=1)
NEWEST = Query("messages", "internalDate")
QUERIES = {
    "all": NEWEST,
    "of a thread": replace(NEWEST, equal=(("threadId", "t1"),)),
    "a field in a map": replace(NEWEST, equal=(("headers.from.address", BOB),)),
    "true": replace(NEWEST, equal=(("unread", True),)),
    "false": replace(NEWEST, equal=(("unread", False),)),
    "two fields": replace(NEWEST, equal=(("headers.from.address", BOB), ("unread", True))),
    "a label": replace(NEWEST, any_of=("labelIds", ("UNREAD",))),
    "a strange label": replace(NEWEST, any_of=("labelIds", ("a.b/c `'\"%",))),
    "one of two": replace(NEWEST, any_of=("recipients", ("2@example.com", "*"))),
    "thirty": replace(NEWEST, any_of=("recipients", tuple(f"{n}@example.com" for n in range(1, 31)))),
    "label and field": replace(NEWEST, any_of=("labelIds", ("UNREAD",)), equal=(("threadId", "t0"),)),
    "since": replace(NEWEST, since=START + DAY),
    "before": replace(NEWEST, before=START + 2 * DAY),
    "between": replace(NEWEST, since=START + DAY - TINY, before=START + 2 * DAY),
    "a label between": replace(NEWEST, any_of=("labelIds", ("INBOX",)), since=START, before=START + DAY),
    "elsewhere in the world": replace(NEWEST, since=(START + DAY).astimezone(timezone(timedelta(hours=-9)))),
    "nobody's": replace(NEWEST, equal=(("threadId", "t9"),)),
    "nothing between": replace(NEWEST, since=START + DAY, before=START + DAY),
    "another collection": replace(NEWEST, collection="threads"),
    "another time": replace(NEWEST, by="lastMessageAt"),
}


def _expected(query: Query) -> list[str]:
    found = []
    for message in MESSAGES if (query.collection, query.by) == ("messages", "internalDate") else []:
        at, sender = message["internalDate"], message["headers"]["from"]["address"]
        values = {"headers.from.address": sender, **message}
        if query.any_of is not None and not set(query.any_of[1]).intersection(message[query.any_of[0]]):
            continue
        if any(values[name] != value for name, value in query.equal):
            continue
        if (query.since is None or at >= query.since) and (query.before is None or at < query.before):
            found.append((at, message["id"].encode(), message["id"]))
    return [name for _, _, name in sorted(found, reverse=True)]


def _fill(store: Store) -> None:
    _write(store, *(Write("put", ("messages", each["id"]), each) for each in [*MESSAGES, TIMELESS]))


def test_queries_find_the_newest_first(store: Store) -> None:
    """Each query finds exactly what meets its conditions, the newest first, of one time the highest id first, in
    Firestore's order; `since` is inclusive, `before` is not.
    """
    _fill(store)
    found = {name: [each["id"] for each in store.query(ADDRESS, query, limit=100)] for name, query in QUERIES.items()}
    assert found == {name: _expected(query) for name, query in QUERIES.items()}
    assert len({len(ids) for ids in found.values()}) > 6


def test_queries_give_whole_documents(store: Store) -> None:
    """Without `fields` a document comes as it was written; another mailbox has none."""
    _fill(store)
    (newest,) = store.query(ADDRESS, NEWEST, limit=1)
    assert newest == next(each for each in MESSAGES if each["id"] == _expected(NEWEST)[0])
    assert store.query(BOB, NEWEST, limit=1) == []


@pytest.mark.parametrize("name", ["all", "a label", "between", "a field in a map", "one of two"])
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_queries_go_on_behind_a_document(store: Store, name: str, limit: int) -> None:
    """Page after page finds every document once, also where documents of one time are cut apart."""
    _fill(store)
    query, found = QUERIES[name], list[str]()
    while page := store.query(ADDRESS, query, limit=limit):
        assert len(page) <= limit
        found += [each["id"] for each in page]
        query = replace(query, after=(page[-1]["internalDate"], page[-1]["id"]))
    assert found == _expected(QUERIES[name])


def test_a_place_needs_no_document(store: Store) -> None:
    """A query goes on behind a document that was deleted in between, or that never met its conditions."""
    _fill(store)
    place = START + 2 * DAY, "between"
    behind = [name for name in _expected(NEWEST) if (_at(name), name.encode()) < (place[0], place[1].encode())]
    found = store.query(ADDRESS, replace(NEWEST, after=place), limit=100)
    assert 0 < len(found) < len(MESSAGES)
    assert [each["id"] for each in found] == behind
    assert store.query(ADDRESS, replace(NEWEST, after=place, before=START), limit=100) == []


def _at(name: str) -> datetime:
    at: datetime = next(each["internalDate"] for each in MESSAGES if each["id"] == name)
    return at


def test_queries_read_the_fields_asked_for(store: Store) -> None:
    """With `fields` a document has these of its own, whole, and the order stays."""
    _fill(store)
    query = replace(NEWEST, fields=("id", "headers", "nothing"))
    found = store.query(ADDRESS, query, limit=100)
    assert [each["id"] for each in found] == _expected(NEWEST)
    by_name = {each["id"]: each for each in MESSAGES}
    assert all(each == {"id": each["id"], "headers": by_name[each["id"]]["headers"]} for each in found)


def test_threads_are_queried_too(store: Store) -> None:
    """Threads sort by their last message."""
    threads: list[dict[str, Any]] = [
        {"id": name, "lastMessageAt": START + number * DAY, "labelIds": ["X"] if number else []}
        for number, name in enumerate("abc")
    ]
    _write(store, *(Write("put", ("threads", each["id"]), each) for each in threads))
    query = Query("threads", "lastMessageAt", any_of=("labelIds", ("X",)))
    assert store.query(ADDRESS, query, limit=100) == [threads[2], threads[1]]


# The delta log


def _delta(seq: int) -> Delta:
    return replace(DELTA, seq=seq, cursor=seq)


def test_deltas_are_read_in_their_order(store: Store) -> None:
    """Deltas after a position come whole, the lowest first, a page at a time; what was deleted is left out."""
    seqs = [1, 2, 3, 5, 9, 10, 11, 99, 100, MAX_HISTORY_ID]
    deltas = [_delta(seq) for seq in seqs]
    _write(store, *(Write("put", ("deltas", f"{each.seq:020d}"), to_document(each)) for each in deltas))
    assert store.deltas(ADDRESS, after=0, limit=100) == deltas
    assert store.deltas(ADDRESS, after=2, limit=3) == deltas[2:5]
    assert store.deltas(ADDRESS, after=4, limit=1) == [_delta(5)]
    assert store.deltas(ADDRESS, after=MAX_HISTORY_ID, limit=1) == []
    assert store.deltas(BOB, after=0, limit=1) == []


# What is announced


def test_announced_is_never_lowered(store: Store) -> None:
    """The position begins at none, is raised from there, also to zero, and stays where it is said less."""
    store.create_mailbox(new_mailbox())
    assert _read(store).announced is None
    store.announced(ADDRESS, 0)
    assert _read(store) == replace(new_mailbox(), announced=0)
    for seq in (7, 3, 7):
        store.announced(ADDRESS, seq)
        assert _read(store) == replace(new_mailbox(), announced=7)
    store.announced(ADDRESS, MAX_HISTORY_ID)
    assert _read(store).announced == MAX_HISTORY_ID


def test_concurrent_announcements_keep_the_highest(place: Place) -> None:
    """Of positions stored at the same time the highest stays."""
    stores = [place.open() for _ in range(4)]
    stores[0].create_mailbox(new_mailbox())
    seqs = [12, 5, 31, 8, 30, 1, 29, 17]
    at_once([partial(stores[number % 4].announced, ADDRESS, seq) for number, seq in enumerate(seqs)])
    assert _read(stores[0]).announced == max(seqs)


@pytest.mark.parametrize("before", [None, 3])
def test_commits_leave_what_is_announced(store: Store, before: int | None) -> None:
    """A holder who read an older position commits, and the newer one stays; announcing disturbs no commit."""
    store.create_mailbox(replace(new_mailbox(), announced=before))
    held = _acquired(store)
    assert held.mailbox.announced == before
    store.announced(ADDRESS, 8)
    held = store.commit(held, replace(held.mailbox, cursor=1, delta_seq=9), expires_at=LATER)
    store.announced(ADDRESS, 9)
    store.commit(held, replace(held.mailbox, cursor=2, announced=4), expires_at=LATER, release=True)
    assert _read(store) == replace(new_mailbox(), announced=9, cursor=2, delta_seq=9, revision=2)


def test_announcing_needs_no_lease_and_takes_none(store: Store) -> None:
    """It is stored while somebody holds the lease, who goes on, and after another took it, who does too."""
    former = _acquired(store)
    holder = _acquired(store, "b", LATER)
    store.announced(ADDRESS, 1)
    with pytest.raises(LeaseLost):
        store.commit(former, replace(former.mailbox, cursor=1), expires_at=LATER)
    store.commit(holder, replace(holder.mailbox, cursor=2), expires_at=LATER + LEASE)
    assert (_read(store).announced, _read(store).cursor) == (1, 2)


def test_nothing_is_announced_of_an_unknown_mailbox(store: Store) -> None:
    """It is refused, and makes none."""
    with pytest.raises(UnknownMailbox):
        store.announced(ADDRESS, 1)
    assert store.mailbox(ADDRESS) is None
