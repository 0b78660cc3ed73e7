"""Parked messages: each failure waits longer, none is forgotten, and what was known of the first stays known."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from mailmirror.documents import from_document
from mailmirror.model import Parked
from mailmirror.parked import FIRST_RETRY, LAST_RETRY, drop, due_at, park, put

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def failed(times: int) -> list[Parked]:
    """A message after each of its failures, each of them when the next attempt was due."""
    found: list[Parked] = []
    for number in range(times):
        before = found[-1] if found else None
        now = before.next_attempt_at if before else NOW
        found.append(park(before, "m", "t", f"Failure {number + 1}.", now, "live"))
    return found


def test_first_failure() -> None:
    """A message that fails for the first time is tried again after a minute."""
    assert park(None, "m", "t", "It failed.", NOW, "backfill") == Parked(
        id="m",
        thread_id="t",
        reason="It failed.",
        attempts=1,
        first_at=NOW,
        next_attempt_at=NOW + timedelta(minutes=1),
        origin="backfill",
    )


def test_back_off() -> None:
    """The waits grow fourfold, from a minute to six hours at the most."""
    due = [NOW, *(item.next_attempt_at for item in failed(8))]
    waits = [after - before for before, after in pairwise(due)]
    assert [wait / timedelta(minutes=1) for wait in waits] == [1, 4, 16, 64, 256, 360, 360, 360]


def test_a_failure_before_its_time() -> None:
    """A message that fails again before its next attempt is due does not wait longer for it, only the reason is new."""
    before = failed(3)[-1]
    early = before.next_attempt_at - timedelta(seconds=1)
    assert park(before, "m", "t2", "Again.", early, "live") == replace(before, thread_id="t2", reason="Again.")
    assert park(before, "m", "t", "It killed.", early, "live", deadly=True).deadly


@given(st.integers(1, 10_000))
def test_back_off_never_ends(attempts: int) -> None:
    """However often a message has failed, it is tried again within six hours."""
    before = Parked("m", "t", "It failed.", attempts, NOW, NOW)
    item = park(before, "m", "t", "It failed.", NOW, "live")
    assert item.attempts == attempts + 1
    assert FIRST_RETRY < item.next_attempt_at - NOW <= LAST_RETRY


def test_what_stays_from_the_first_failure() -> None:
    """Time and origin are those of the first failure, reason and thread those of the last."""
    before = park(None, "m", "t1", "First.", NOW, "backfill", deadly=True)
    item = park(before, "m", "t2", "Second.", NOW + timedelta(hours=1), "live")
    assert (item.first_at, item.origin) == (NOW, "backfill")
    assert (item.reason, item.thread_id, item.attempts, item.deadly) == ("Second.", "t2", 2, False)


def test_deadly() -> None:
    """A message that kills its workers is marked."""
    assert park(None, "m", "t", "It killed.", NOW, "live", deadly=True).deadly
    assert not park(None, "m", "t", "It failed.", NOW, "live").deadly


def test_deadly_until_its_retry() -> None:
    """A message that kills its workers and that history names before its retry stays marked, though it only failed."""
    before = park(None, "m", "t", "It killed.", NOW, "live", deadly=True)
    assert park(before, "m", "t", "It failed.", before.next_attempt_at - timedelta(seconds=1), "live").deadly


def test_documents() -> None:
    """A parked message has one document, which tells all of it, and which goes when it is settled."""
    item = failed(3)[-1]
    write = put(item)
    assert (write.kind, write.path) == ("put", ("parked", "m"))
    assert from_document(Parked, write.data or {}) == item
    assert (drop("m").kind, drop("m").path) == ("delete", write.path)


def test_due_at() -> None:
    """The mailbox is due when the first of its parked messages is, and never for that reason when there is none."""
    items = failed(4)
    assert due_at([items[3], items[0], items[2]]) == NOW + timedelta(minutes=1)
    assert due_at(iter(items[1:])) == NOW + timedelta(minutes=5)
    assert due_at([]) is None
