"""What a mailbox's mirror answers, as values: pages, deltas and event streams of a server that says what it is told."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmirror_client import reader as module
from mailmirror_client.reader import Change, CursorExpired, Delta, Event, Page, Reader, events
from mailmirror_client.service import Service, ServiceError
from tests.test_client_service import Say, said, scripted

AT = "2026-11-20T12:00:00+00:00"


def delta(seq: int) -> dict[str, Any]:
    """Return a delta as it is answered."""
    change = {"type": "labelsChanged", "messageId": "m", "threadId": "t", "labelsAdded": ["A"], "labelsRemoved": []}
    return {"cursor": f"c{seq}", "seq": seq, "at": AT, "origin": "live", "historyId": 100 + seq, "changes": [change]}


def value(seq: int) -> Delta:
    """Return the same as a value."""
    change = Change("labelsChanged", "m", "t", ("A",), ())
    return Delta(f"c{seq}", seq, datetime(2026, 11, 20, 12, tzinfo=UTC), "live", 100 + seq, (change,))


def event(seq: int) -> bytes:
    """Return the same as an event."""
    return f"id: c{seq}\nevent: delta\ndata: {json.dumps(delta(seq))}\n\n".encode()


def stream(*pieces: bytes, breaks: bool = False) -> Say:
    """Return an event stream."""
    return Say(list(pieces), kind="text/event-stream; charset=utf-8", breaks=breaks)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses made, which last nothing."""
    pauses: list[float] = []
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=pauses.append, monotonic=lambda: 0.0))
    return pauses


def asked(server: Any) -> list[str]:
    """Return what was asked for, without the mailbox."""
    return [line.removeprefix("GET /mailboxes/ada%40example.com") for line, _, _ in server.asked]


def reader(server: Any) -> Reader:
    """Return Ada's."""
    return Reader(Service(server.address, patience=0), " Ada@Example.com")


def test_a_listing_goes_over_all_its_pages() -> None:
    """Also where a page is empty and not the last; the filters go with each."""
    pages = [{"threads": [{"id": "a"}], "nextPageToken": "+1"}, {"threads": [], "nextPageToken": "2"}]
    with scripted(*map(Say, pages), Say({"threads": [{"id": "b"}]})) as server:
        given = reader(server).threads(
            from_="bob@example.com", unread=False, after=date(2026, 1, 31), fields=("id", "subject"), label=None
        )
        assert [thread["id"] for thread in given] == ["a", "b"]
    query = "/threads?from=bob%40example.com&unread=false&after=2026-01-31&fields=id%2Csubject"
    assert asked(server) == [query, f"{query}&pageToken=%2B1", f"{query}&pageToken=2"]


def test_messages_before_a_time_in_a_thread() -> None:
    """A time goes out with its zone."""
    with scripted(Say({"messages": []})) as server:
        assert list(reader(server).messages(thread="t", before=datetime(2026, 1, 31, 9, tzinfo=UTC))) == []
    assert asked(server) == ["/messages?thread=t&before=2026-01-31T09%3A00%3A00%2B00%3A00"]


def test_a_thread_with_all_its_messages() -> None:
    """However many pages they take."""
    first = {"thread": {"id": "t", "subject": "S"}, "messages": [{"id": "a"}], "nextPageToken": "2"}
    with scripted(Say(first), Say({"thread": {"id": "t"}, "messages": [{"id": "b"}]})) as server:
        thread = reader(server).thread("t/x", fields=["snippet"])
    assert thread == {"id": "t", "subject": "S", "messages": [{"id": "a"}, {"id": "b"}]}
    query = "/threads/t%2Fx?fields=snippet&limit=100"
    assert asked(server) == [query, f"{query}&pageToken=2"]


def test_a_message_and_the_latest_cursor() -> None:
    """One document, one cursor."""
    with scripted(Say({"id": "m"}), Say({"cursor": "c7"})) as server:
        given = reader(server)
        assert given.message("m", fields=["body.text"]) == {"id": "m"}
        assert given.latest_cursor() == "c7"
    assert asked(server) == ["/messages/m?fields=body.text", "/deltas/latest-cursor"]


def test_a_page_of_deltas() -> None:
    """Values, and where to go on."""
    with scripted(Say({"deltas": [delta(7)], "cursor": "c9", "more": True})) as server:
        page = reader(server).deltas("c6", limit=5, types=["messageAdded", "labelsChanged"], origin=["live"], wait=20)
    assert page == Page((value(7),), "c9", more=True)
    assert asked(server) == ["/deltas?cursor=c6&limit=5&types=messageAdded%2ClabelsChanged&origin=live&wait=20"]


@pytest.mark.parametrize("streams", [False, True])
def test_a_cursor_that_expired(streams: bool) -> None:
    """410 has a name of its own, on a page and before a stream."""
    with scripted(said(410, "OUT_OF_RANGE", "Build it anew.")) as server:
        with pytest.raises(CursorExpired, match=r"Build it anew\."):
            next(reader(server).follow("c1", stream=streams))
        with pytest.raises(CursorExpired):
            reader(server).deltas("c1")


@pytest.mark.parametrize("streams", [False, True])
def test_another_refusal_is_what_it_is(streams: bool) -> None:
    """A mailbox being deleted, for instance."""
    with scripted(said(409, "FAILED_PRECONDITION")) as server, pytest.raises(ServiceError) as caught:
        next(reader(server).follow("c1", stream=streams))
    assert type(caught.value) is ServiceError


def test_long_polling() -> None:
    """Page after page, each from the cursor of the one before, also of an empty one."""
    pages = [([1, 2], "c2"), ([], "c5"), ([6], "c6")]
    answers = [Say({"deltas": [delta(seq) for seq in seqs], "cursor": to, "more": False}) for seqs, to in pages]
    with scripted(*answers) as server:
        found = list(islice(reader(server).follow("c0", stream=False, origin=["live"]), 3))
    assert found == [value(1), value(2), value(6)]
    assert asked(server) == [f"/deltas?cursor={cursor}&origin=live&wait=50" for cursor in ("c0", "c2", "c5")]


def last_ids(server: Any) -> Sequence[str]:
    """Return from where each stream was asked for."""
    return [headers["Last-Event-ID"] for _, headers, _ in server.asked]


def test_a_stream_goes_on_over_the_next_connection() -> None:
    """Each delta once, whether a stream ends, breaks off in the middle of an event, or was silent about some."""
    half = event(3)[:-20]
    quiet = b": still here\n\nid: c5\n\nid: c6\nevent: delta\n\n"
    answers = [stream(event(1), event(2)), stream(half, breaks=True), stream(event(3), quiet), stream(event(7))]
    with scripted(*answers) as server:
        found = list(islice(reader(server).follow("c0", types=["labelsChanged"]), 4))
    assert found == [value(1), value(2), value(3), value(7)]
    assert last_ids(server) == ["c0", "c2", "c2", "c6"]
    assert asked(server)[3] == "/deltas?types=labelsChanged&cursor=c6"
    assert {headers["Accept"] for _, headers, _ in server.asked} == {"text/event-stream"}


def test_a_stream_from_which_nothing_comes_is_not_asked_for_faster_and_faster(pauses: list[float]) -> None:
    """A server that ends streams at once is asked with growing pauses."""
    with scripted(*[stream()] * 9, stream(event(1))) as server:
        assert next(reader(server).follow("c0")) == value(1)
    assert pauses == sorted(pauses)
    assert pauses[-1] == 10


def test_events_of_another_kind_are_left_out() -> None:
    """What a later server may tell, too, moves the cursor and nothing else."""
    with scripted(stream(b"id: c1\nevent: news\ndata: {}\n\n", event(2))) as server:
        assert next(reader(server).follow("c0")) == value(2)


def test_what_is_no_stream_is_told() -> None:
    """An answer of another kind is not waited on for ever."""
    with scripted(Say({"deltas": []})) as server, pytest.raises(ServiceError, match="not with an event stream"):
        next(reader(server).follow("c0"))


TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1)


@given(
    st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(st.integers(1, 30)),
)
def test_however_a_stream_is_cut_its_events_are_the_same(
    told: list[tuple[str, list[str]]], end: str, cuts: list[int]
) -> None:
    """Pieces end anywhere, in the middle of a letter, too; lines of data are one text."""
    lines = [line for id_, data in told for line in (f"id: {id_}", *(f"data: {text}" for text in data), "")]
    whole = "".join(f"{line}{end}" for line in [": hello", "", *lines]).encode()
    pieces = []
    for cut in cuts:
        pieces.append(whole[:cut])
        whole = whole[cut:]
    assert list(events([*pieces, whole])) == [Event("message", id_, "\n".join(data)) for id_, data in told]
