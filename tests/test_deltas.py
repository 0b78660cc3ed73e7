"""The delta log as an application follows it: nothing missed, nothing twice, and told when it does not go on."""

import base64
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from mailmirror import deltas
from mailmirror.adapters.sqlite import SqliteStore
from mailmirror.deltas import Ask, Deltas, Page
from mailmirror.documents import to_document
from mailmirror.errors import BeingPurged, CursorExpired, InvalidInput, StoreUnavailable, UnknownMailbox
from mailmirror.model import Change, Delta, Mailbox, MailboxId, Origin, Watch
from mailmirror.slice import Write

from tests.clock import VirtualClock

ADA = "ada@example.com"


class CountedStore(SqliteStore):
    """A store that counts looks at the mailbox, and lets a test act in their midst."""

    looks = 0

    def mailbox(self, mailbox: MailboxId) -> Mailbox | None:
        self.looks += 1
        return super().mailbox(mailbox)


class Log:
    """A mailbox with a delta log, and what follows it."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = CountedStore(":memory:")
        self.connect()
        self.deltas = Deltas(self.store, self.clock)

    def connect(self) -> None:
        """Connect the mailbox."""
        now = self.clock.now()
        self.store.create_mailbox(Mailbox(ADA, created_at=now, watch=Watch(now), next_due_at=now, phase="live"))

    def commit(self, *changes: Change, origin: Origin = "live", **fields: Any) -> None:
        """Commit a delta, or only fields."""
        now = self.clock.now()
        until = now + timedelta(seconds=120)
        state = SqliteStore.mailbox(self.store, ADA)
        assert state is not None
        held = self.store.acquire(state, owner="worker", now=now, expires_at=until)
        seq = held.mailbox.delta_seq + bool(changes)
        delta = Delta(seq, now, origin, 100 + seq, changes, now + timedelta(days=30))
        writes = [Write("put", ("deltas", f"{seq:020d}"), to_document(delta))] if changes else []
        changed = replace(held.mailbox, **{"delta_seq": seq, **fields})
        self.store.commit(held, changed, writes, expires_at=until, release=True)

    def add(self, count: int = 1, origin: Origin = "live") -> None:
        """Commit deltas with a message each."""
        for number in range(count):
            self.commit(Change("messageAdded", f"m{number}", f"t{number}", ("INBOX",)), origin=origin)

    def forget(self, *seqs: int) -> None:
        """Delete deltas, as Firestore's TTL policy does."""
        for seq in seqs:
            self.store._connection.execute("DELETE FROM documents WHERE id = ?", (f"{seq:020d}",))

    def purge(self) -> None:
        """Delete the mailbox and all that is below it."""
        self.store._connection.execute("DELETE FROM documents")

    def page(self, cursor: str | None = None, **more: Any) -> Page:
        """Return a page."""
        return self.deltas.page(ADA, Ask(cursor, **more))


@pytest.fixture
def log() -> Iterator[Log]:
    """A mailbox without deltas."""
    log = Log()
    yield log
    log.store.close()


def seqs(page: Page) -> list[int]:
    """The deltas of a page."""
    return [delta["seq"] for delta in page.deltas]


def test_a_delta_says_what_the_commit_changed(log: Log) -> None:
    """An application gets all that the log has of a delta, in the names of the contract."""
    log.commit(Change("labelsChanged", "m", "t", ("A",), ("B",)), origin="repair")
    page = log.page()
    assert page.deltas == (
        {
            "cursor": page.cursor,
            "seq": 1,
            "at": log.clock.now().isoformat(),
            "origin": "repair",
            "historyId": 101,
            "changes": [
                {
                    "type": "labelsChanged",
                    "messageId": "m",
                    "threadId": "t",
                    "labelsAdded": ["A"],
                    "labelsRemoved": ["B"],
                }
            ],
        },
    )


@pytest.mark.parametrize("limit", [1, 3, 49, 50, 51, 500])
def test_page_by_page_the_log_is_whole(log: Log, limit: int) -> None:
    """Whatever the page, each delta comes once and in order, `more` until there is none."""
    log.add(120)
    found, cursor, more = [], None, True
    while more:
        page = log.page(cursor, limit=limit)
        assert len(page.deltas) <= limit
        found += seqs(page)
        cursor, more = page.cursor, page.more
    assert found == list(range(1, 121))
    assert cursor == log.deltas.latest(ADA)
    assert log.page(cursor) == Page((), cursor, more=False)


def test_each_delta_has_the_cursor_behind_it(log: Log) -> None:
    """Who stores the cursor of the delta just applied goes on with the next."""
    log.add(5)
    for delta in log.page().deltas:
        assert seqs(log.page(delta["cursor"])) == list(range(delta["seq"] + 1, 6))


def test_what_is_left_out_moves_the_cursor(log: Log) -> None:
    """Types and origins leave deltas and changes out, and are looked at only once."""
    log.add(3, origin="backfill")
    log.commit(Change("messageDeleted", "m", "t"), Change("labelsChanged", "n", "t", ("A",)))
    log.add(2, origin="repair")
    live = log.page(origins=frozenset({"live"}))
    assert (seqs(live), live.cursor, live.more) == ([4], log.deltas.latest(ADA), False)
    deleted = log.page(types=frozenset({"messageDeleted"}))
    assert [[change["messageId"] for change in delta["changes"]] for delta in deleted.deltas] == [["m"]]
    assert seqs(log.page(types=frozenset({"messageAdded"}), origins=frozenset({"backfill", "repair"}))) == [
        1,
        2,
        3,
        5,
        6,
    ]
    nothing = log.page(origins=frozenset({"live"}), types=frozenset({"messageAdded"}))
    assert nothing == Page((), log.deltas.latest(ADA), more=False)


def test_an_answer_looks_at_so_much_and_no_more(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that finds nothing in a long log answers with the cursor to go on from, and so do large deltas."""
    monkeypatch.setattr(deltas, "MAX_LOOKED_AT", 70)
    log.add(100, origin="backfill")
    page = log.page(origins=frozenset({"live"}))
    assert (page.deltas, page.more) == ((), True)
    assert seqs(log.page(page.cursor)) == list(range(71, 101))
    monkeypatch.setattr(deltas, "MAX_BYTES", 1)
    assert seqs(log.page()) == [1]


@pytest.mark.parametrize("gone", [[1], [1, 2, 3], [1, 2, 3, 4, 5]])
def test_a_cursor_whose_next_delta_is_deleted_has_expired(log: Log, gone: list[int]) -> None:
    """What is missed is told, never jumped; the same for the beginning of the log."""
    begin = log.deltas.latest(ADA)
    log.add(5)
    log.forget(*gone)
    for cursor in (begin, None):
        with pytest.raises(CursorExpired, match="deleted"):
            log.page(cursor)
    assert log.page(log.deltas.latest(ADA)).deltas == ()


def test_a_gap_ends_the_page_before_it(log: Log) -> None:
    """Deltas deleted in any order are not jumped in the middle of a page either."""
    log.add(5)
    log.forget(3)
    page = log.page()
    assert (seqs(page), page.more) == ([1, 2], True)
    with pytest.raises(CursorExpired):
        log.page(page.cursor)


def test_a_cursor_of_an_earlier_life_has_expired(log: Log) -> None:
    """A mailbox that was deleted and connected anew begins a log of its own, whatever its length."""
    log.add(3)
    old = log.deltas.latest(ADA)
    log.purge()
    with pytest.raises(UnknownMailbox):
        log.page(old)
    log.clock.advance(1)
    log.connect()
    log.add(5)
    with pytest.raises(CursorExpired, match="anew"):
        log.page(old)


def test_a_life_that_ends_while_its_log_is_read_gives_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next life's deltas are never given behind a cursor of the one before."""
    log.add(2)
    old = log.page(limit=1).cursor
    read = log.store.deltas

    def meanwhile(mailbox: MailboxId, *, after: int, limit: int) -> list[Delta]:
        log.purge()
        log.clock.advance(1)
        log.connect()
        log.add(4)
        return read(mailbox, after=after, limit=limit)

    monkeypatch.setattr(log.store, "deltas", meanwhile)
    with pytest.raises(CursorExpired):
        log.page(old)


def test_a_cursor_ahead_of_the_log_has_expired(log: Log) -> None:
    """A database restored from a backup is behind what an application saw: it has to list again."""
    log.add(3)
    seen = log.deltas.latest(ADA)
    log.forget(3)
    log.commit(delta_seq=2)
    with pytest.raises(CursorExpired):
        log.page(seen)


def test_a_cursor_of_a_log_that_was_restored_has_expired(log: Log) -> None:
    """A log restored from a backup that has grown beyond a cursor since has other deltas: the cursor's is another."""
    log.add(3)
    seen = [*(delta["cursor"] for delta in log.page().deltas), log.deltas.latest(ADA)]
    log.forget(2, 3)
    log.commit(delta_seq=1)
    log.clock.advance(60)
    log.add(4)
    assert seqs(log.page(seen[0])) == [2, 3, 4, 5]
    for cursor in seen[1:]:
        with pytest.raises(CursorExpired, match="restored"):
            log.page(cursor)


def test_a_cursor_at_the_end_of_a_restored_log_has_expired(log: Log) -> None:
    """A restored log that has grown just as long as a cursor is another already: nobody is told all is well."""
    log.add(2)
    seen = log.page().cursor
    log.forget(2)
    log.commit(delta_seq=1)
    log.clock.advance(60)
    log.add()
    with pytest.raises(CursorExpired, match="restored"):
        log.page(seen)
    assert log.page(log.deltas.latest(ADA)).deltas == ()


def test_a_cursor_whose_own_delta_is_deleted_goes_on(log: Log) -> None:
    """A delta that was read may go, as long as the next is there."""
    log.add(3)
    first = log.page(limit=1).cursor
    log.forget(1)
    assert seqs(log.page(first)) == [2, 3]


def test_no_more_is_read_than_given(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page costs a read a delta, and one for the delta its cursor is behind."""
    log.add(100)
    read, given = log.store.deltas, []

    def counted(mailbox: MailboxId, *, after: int, limit: int) -> list[Delta]:
        found = read(mailbox, after=after, limit=limit)
        given.append(len(found))
        return found

    monkeypatch.setattr(log.store, "deltas", counted)
    page = log.page(limit=7)
    assert given == [7]
    log.page(page.cursor, limit=70)
    assert sum(given) == 7 + 70 + 1
    cursor = log.deltas.latest(ADA)
    given.clear()
    log.page(cursor)
    assert given == [1]


@pytest.mark.parametrize(
    "cursor",
    ["", "0", "é", "\ud800", "AAAA", "a" * 10_000, "MS4x=", "\x00", " MS4x"]
    + [
        base64.urlsafe_b64encode(text.encode()).decode()
        for text in ("1", "1.", "1.1", "1.-1.1", "1.1.1 ", "\u0661.1.1", "1.1.1.1")
    ],
)
def test_a_malformed_cursor_is_refused(log: Log, cursor: str) -> None:
    """What no answer gave is bad input."""
    with pytest.raises(InvalidInput, match="cursor"):
        log.page(cursor)


def test_of_what_cannot_be_read(log: Log) -> None:
    """An address that is none, a mailbox that is not there and one that is being deleted have their failures."""
    with pytest.raises(InvalidInput):
        log.deltas.latest("nobody")
    with pytest.raises(UnknownMailbox):
        log.deltas.latest("bob@example.com")
    state = log.store.mailbox(ADA)
    assert state is not None
    log.store.want(state, "purged", due_at=log.clock.now())
    with pytest.raises(BeingPurged):
        log.page()


def test_who_waits_is_answered_when_something_comes(log: Log) -> None:
    """A wait ends with the delta that comes during it, at the next look."""
    begin = log.deltas.latest(ADA)
    slept = log.clock.sleep

    def sleep(seconds: float) -> None:
        slept(seconds)
        if len(log.clock.slept) == 3:
            log.add()

    log.clock.sleep = sleep  # type: ignore[method-assign]
    assert seqs(log.deltas.follow(ADA, Ask(begin), 60)) == [1]
    assert len(log.clock.slept) == 3


def test_a_wait_for_nothing_ends(log: Log) -> None:
    """After `wait` seconds the answer is empty; a look costs one read."""
    begin = log.deltas.latest(ADA)
    log.store.looks = 0
    assert log.deltas.follow(ADA, Ask(begin), 10) == Page((), begin, more=False)
    assert sum(log.clock.slept) == 10
    assert log.store.looks == 1 + 10 / deltas.LOOK_SECONDS


def test_no_wait_where_there_is_something(log: Log) -> None:
    """What is there already is answered at once."""
    log.add(2)
    assert seqs(log.deltas.follow(ADA, Ask(limit=1), 60)) == [1]
    assert log.clock.slept == []


def test_what_is_left_out_does_not_end_a_wait(log: Log) -> None:
    """A wait for live mail lasts through a backfill, and has moved on behind it."""
    begin = log.deltas.latest(ADA)
    slept = log.clock.sleep

    def sleep(seconds: float) -> None:
        slept(seconds)
        log.add(1, origin="live" if len(log.clock.slept) == 4 else "backfill")

    log.clock.sleep = sleep  # type: ignore[method-assign]
    page = log.deltas.follow(ADA, Ask(begin, origins=frozenset({"live"})), 60)
    assert (seqs(page), page.cursor) == ([4], log.deltas.latest(ADA))


def test_a_wait_ends_with_its_mailbox(log: Log) -> None:
    """Who waits for a mailbox that is deleted is told."""
    begin = log.deltas.latest(ADA)
    slept = log.clock.sleep

    def sleep(seconds: float) -> None:
        slept(seconds)
        log.purge()

    log.clock.sleep = sleep  # type: ignore[method-assign]
    with pytest.raises(UnknownMailbox):
        log.deltas.follow(ADA, Ask(begin), 60)
    assert log.deltas._looks == {}


class Metronome(VirtualClock):
    """Time that goes on when all who wait sleep."""

    def __init__(self, sleepers: int) -> None:
        super().__init__()
        self.barrier = threading.Barrier(sleepers, action=lambda: self.advance(deltas.LOOK_SECONDS))

    def sleep(self, seconds: float) -> None:
        self.barrier.wait(timeout=60)

    def now(self) -> datetime:
        return self._now


def twenty(log: Log, behind: Page) -> list[Page | str]:
    """What twenty get who wait for ten seconds, all at the same time; in place of a page, how it was refused."""
    log.deltas = Deltas(log.store, Metronome(20))
    log.store.looks = 0
    found: list[Page | str] = []

    def follow() -> None:
        try:
            found.append(log.deltas.follow(ADA, Ask(behind.cursor), 10, behind))
        except StoreUnavailable as error:
            found.append(str(error))

    waiting = [threading.Thread(target=follow) for _ in range(20)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(timeout=60)
    assert log.deltas._looks == {}
    return found


def test_all_who_wait_for_a_mailbox_share_its_looks(log: Log) -> None:
    """Twenty who wait for ten seconds cost exactly the looks of one who does."""
    log.add()
    behind = log.page()
    assert twenty(log, behind) == [Page((), behind.cursor, more=False)] * 20
    assert log.store.looks == 10 / deltas.LOOK_SECONDS


def test_all_who_wait_for_a_mailbox_share_a_failed_look(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is down takes the time of one look from those who wait, not that of one after the other."""
    log.add()
    behind = log.page()
    looks = []

    def fails(mailbox: MailboxId) -> None:
        looks.append(mailbox)
        raise StoreUnavailable("It does not answer.")

    monkeypatch.setattr(log.store, "mailbox", fails)
    assert twenty(log, behind) == ["It does not answer."] * 20
    assert len(looks) == 1


def test_a_delta_during_a_wait_costs_few_reads(log: Log) -> None:
    """The look that tells of it is the mailbox as the page needs it: read once more behind the log, and that is all."""
    log.add()
    behind = log.page()
    slept = log.clock.sleep

    def sleep(seconds: float) -> None:
        slept(seconds)
        log.add()

    log.clock.sleep = sleep  # type: ignore[method-assign]
    log.store.looks = 0
    assert seqs(log.deltas.follow(ADA, Ask(behind.cursor), 60, behind)) == [2]
    assert log.store.looks == 2


def test_a_wait_goes_on_behind_a_page_that_was_not_all(log: Log) -> None:
    """What is there already is not waited for, whatever was given before."""
    log.add(3)
    behind = log.page(limit=1)
    assert seqs(log.deltas.follow(ADA, Ask(behind.cursor), 60, behind)) == [2, 3]
    assert log.clock.slept == []


def test_a_delta_that_came_before_the_wait_is_found_at_the_next_look(log: Log) -> None:
    """What was committed between a page and the wait behind it is not missed."""
    log.add()
    behind = log.page()
    log.add()
    assert seqs(log.deltas.follow(ADA, Ask(behind.cursor), 60, behind)) == [2]
    assert sum(log.clock.slept) == deltas.LOOK_SECONDS


def test_a_clock_that_is_set_back_delays_nobody(log: Log) -> None:
    """A wait looks on, though the next look seems to be an hour away."""
    log.add()
    behind = log.page()
    slept = log.clock.sleep

    def sleep(seconds: float) -> None:
        slept(seconds)
        if len(log.clock.slept) == 2:
            log.clock._now -= timedelta(hours=1)
        if len(log.clock.slept) == 4:
            log.add()

    log.clock.sleep = sleep  # type: ignore[method-assign]
    assert seqs(log.deltas.follow(ADA, Ask(behind.cursor), 60, behind)) == [2]
    assert len(log.clock.slept) == 4


def test_a_wait_ends_when_its_mailbox_is_being_purged(log: Log) -> None:
    """Who waits is told, and so is who waits for a life that has ended; one who is stopped just waits."""
    log.add()
    behind = log.page()
    slept = log.clock.sleep

    def sleep(seconds: float) -> None:
        slept(seconds)
        wish = {2: "stopped", 4: "purged"}.get(len(log.clock.slept))
        state = log.store.mailbox(ADA)
        if wish is not None and state is not None:
            log.store.want(state, "stopped" if wish == "stopped" else "purged", due_at=log.clock.now())

    log.clock.sleep = sleep  # type: ignore[method-assign]
    with pytest.raises(BeingPurged):
        log.deltas.follow(ADA, Ask(behind.cursor), 60, behind)
    assert len(log.clock.slept) == 4
    log.purge()
    log.clock.sleep = slept  # type: ignore[method-assign]
    log.clock.advance(1)
    log.connect()
    log.add()
    with pytest.raises(CursorExpired, match="anew"):
        log.deltas.follow(ADA, Ask(behind.cursor), 60, behind)


def test_a_wait_shorter_than_a_look_ends_in_time(log: Log) -> None:
    """Nobody waits longer than asked for."""
    log.add()
    behind = log.page()
    assert log.deltas.follow(ADA, Ask(behind.cursor), 0.2, behind) == Page((), behind.cursor, more=False)
    assert sum(log.clock.slept) == 0.2
