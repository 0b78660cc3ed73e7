"""Pages: a listing read part by part says what it says as a whole, and takes no more memory for a larger mailbox."""

import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from mailmirror.listing import Pages, excluded_row, history_row, message_row
from mailmirror.model import HistoryId, MessageId, ThreadId
from mailmirror.planner import Manifest, manifest

THREADS = st.sampled_from(["1", "10", "1f", "2", "a", "ab", "b0", "b1", "ff"])
MESSAGES = st.sampled_from([f"m{number}" for number in range(12)])


@dataclass
class Told:
    """All that pages told of, put together again."""

    threads: dict[ThreadId, frozenset[MessageId]] = field(default_factory=dict)
    place: dict[MessageId, ThreadId] = field(default_factory=dict)
    history_ids: dict[ThreadId, HistoryId] = field(default_factory=dict)

    def add(self, found: Manifest) -> None:
        """Take in what was told of some threads."""
        self.threads |= found.threads
        self.place |= found.place
        self.history_ids |= found.history_ids


def walk(
    pages: Pages, mirrored: Mapping[ThreadId, Sequence[MessageId]] | None = None, *, limit: int = 500
) -> tuple[Told, list[ThreadId]]:
    """Read pages to the end as planning does, and return what they told and the threads in their order."""
    told, order, after = Told(), list[ThreadId](), ""
    while True:
        threads, upto = pages.ahead(after, limit)
        assert all(after < thread_id for thread_id in threads)
        assert upto is None or after < upto
        last = upto or max([*threads, *(mirrored or {}), after])
        here = {t: ids for t, ids in (mirrored or {}).items() if after < t <= last}
        told.add(pages.between(after, last, here))
        order += threads
        if upto is None:
            return told, order
        after = upto


def texts(rows: Sequence[str], size: int) -> list[str]:
    """Rows as pages."""
    return ["\n".join(rows[start : start + size]) for start in range(0, len(rows), size)]


@given(
    st.dictionaries(MESSAGES, THREADS),
    st.sets(MESSAGES),
    st.dictionaries(THREADS, st.integers(1, 120), max_size=4),
    st.dictionaries(THREADS, st.lists(MESSAGES, min_size=1, max_size=3), max_size=4),
    st.integers(1, 6),
    st.integers(1, 8),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
@settings(max_examples=500)
def test_parts_tell_what_the_whole_tells(
    place: dict[MessageId, ThreadId],
    left_out: set[MessageId],
    history_ids: dict[ThreadId, HistoryId],
    mirrored: dict[ThreadId, list[MessageId]],
    page: int,
    part: int,
    limit: int,
    random: Random,
) -> None:
    """However small parts and pages are, in whatever order rows come and however often, each thread is told of once,
    with its messages, and each mirrored message with its place, or with none if it is not listed.
    """
    kinds = (
        [message_row(thread_id, message_id) for message_id, thread_id in place.items()],
        [excluded_row(place[message_id], message_id) for message_id in sorted(left_out & place.keys())],
        [history_row(thread_id, history_id) for thread_id, history_id in history_ids.items()],
    )
    listed: list[str] = []
    for kind in kinds:
        rows = kind + kind[::3]
        random.shuffle(rows)
        listed += texts(rows, page)
    expected = manifest(place.items(), left_out, history_ids)
    told, order = walk(Pages(listed, part_rows=part), mirrored, limit=limit)
    assert order == sorted({*place.values(), *history_ids})
    assert told.threads == expected.threads
    assert told.history_ids == expected.history_ids
    assert {i: told.place.get(i) for i in [*place, *(i for ids in mirrored.values() for i in ids)]} == {
        i: expected.place.get(i) for i in [*place, *(i for ids in mirrored.values() for i in ids)]
    }


def test_nothing_listed() -> None:
    """An empty listing has no threads, with or without a page."""
    for pages in (Pages([]), Pages([""])):
        assert pages.ahead("", 500) == ([], None)
        assert pages.between("", "t", {"t": ["m"]}) == Manifest({}, {}, {})


def test_one_thread_longer_than_a_part() -> None:
    """A thread is never told of in pieces, however many messages it has."""
    rows = [message_row("t", f"{number:04d}") for number in range(1_000)] + [
        message_row("u", "x"),
        message_row("s", "y"),
    ]
    told, order = walk(Pages(texts(rows, 10), part_rows=5))
    assert order == ["s", "t", "u"]
    assert [len(ids) for ids in told.threads.values()] == [1, 1_000, 1]


def test_a_message_that_moved_while_it_was_listed() -> None:
    """A message that is listed in two threads is where it is mirrored, and otherwise in one of them."""
    pages = Pages([f"{message_row('t', 'm')}\n{message_row('u', 'm')}"])
    assert pages.ahead("", 500) == (["t", "u"], None)
    assert pages.between("", "u", {"t": ["m"]}).place == {"m": "t"}
    assert pages.between("", "u", {"u": ["m"]}).place == {"m": "u"}
    assert pages.between("", "u", {}).place["m"] in {"t", "u"}
    # One that is mirrored in a third thread has moved, wherever to.
    assert pages.between("u", "v", {"v": ["m"]}).place["m"] in {"t", "u"}


def test_a_thread_listed_twice_counts_as_it_is_now() -> None:
    """A thread that changed while threads were listed has the newer of its history ids, compared as numbers."""
    pages = Pages([history_row("t", 99), history_row("t", 100)])
    pages.ahead("", 500)
    assert pages.between("", "t", {}).history_ids == {"t": 100}


def peak(messages: int) -> int:
    """The most memory that reading a listing of so many messages in half as many threads takes beside its text."""
    first = 0x18C3F2A1B2C3D4E5
    rows = [message_row(f"{first + number // 2:016x}", f"{first + number:016x}") for number in range(messages)]
    rows += [history_row(f"{first + number:016x}", number) for number in range(messages // 2)]
    listed = texts(rows[::-1], 500)
    del rows
    tracemalloc.start()
    try:
        pages, after, count = Pages(listed, part_rows=2_000), "", 0
        while True:
            _, upto = pages.ahead(after, 500)
            count += sum(len(ids) for ids in pages.between(after, upto or "g", {}).threads.values())
            if upto is None:
                break
            after = upto
        assert count == messages
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_flat() -> None:
    """Four times as many messages take no more memory beside the text of the listing."""
    assert peak(20_000) < 1.1 * peak(5_000)
