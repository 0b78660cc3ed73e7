"""history.list of the fake behaves as Gmail's, traps included."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from local.gmail.clock import ManualClock
from local.gmail.errors import ApiError
from local.gmail.history import HISTORY_TYPES
from local.gmail.mailbox import Mailbox

RAW = b"Subject: x\n\ny\n"


@pytest.fixture
def clock() -> ManualClock:
    """A clock the test moves."""
    return ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.fixture
def mailbox(clock: ManualClock) -> Mailbox:
    """An empty mailbox."""
    return Mailbox("ada@example.com", clock=clock, rng=random.Random(7))


def head(mailbox: Mailbox) -> int:
    """The newest history id getProfile admits to."""
    return int(mailbox.get_profile()["historyId"])


def drain(mailbox: Mailbox, start: int, **params: Any) -> list[dict[str, Any]]:
    """All records after a start, following nextPageToken only."""
    records: list[dict[str, Any]] = []
    token = None
    for _ in range(10_000):
        page = mailbox.list_history(start, page_token=token, **params)
        records += page.get("history", [])
        token = page.get("nextPageToken")
        if token is None:
            return records
    raise AssertionError("history never ended")


def test_ids_are_sparse_strings_that_only_grow(mailbox: Mailbox) -> None:
    """Record ids increase as numbers with gaps nobody can count on; the last is the head."""
    start = head(mailbox)
    mailbox.modify([mailbox.deliver(RAW) for _ in range(40)], ["STARRED"])
    ids = [int(record["id"]) for record in drain(mailbox, start)]
    gaps = {later - earlier for earlier, later in pairwise(ids)}
    assert len(ids) == 80
    assert min(gaps) > 0
    assert len(gaps) > 5
    assert ids[-1] == head(mailbox)


def test_an_empty_delta_has_no_history_key(mailbox: Mailbox) -> None:
    """Nothing new: the body is the historyId alone, also for a start in the future."""
    now = head(mailbox)
    assert mailbox.list_history(now) == {"historyId": str(now)}
    assert mailbox.list_history(now + 10**9) == {"historyId": str(now)}


def test_records_have_gmails_shape(mailbox: Mailbox) -> None:
    """Added, label change, deletion: each with messages, its own list, and the labels at that moment."""
    mailbox.split_chance = 0
    start = head(mailbox)
    message_id = mailbox.deliver(RAW)
    mailbox.modify([message_id], ["STARRED"], ["UNREAD"])
    mailbox.delete([message_id])
    message = {"id": message_id, "threadId": message_id}
    added, labels, deleted = drain(mailbox, start)
    assert added["messages"] == [message]
    assert added["messagesAdded"] == [{"message": {**message, "labelIds": ["INBOX", "UNREAD"]}}]
    changed = {**message, "labelIds": ["INBOX", "STARRED"]}
    assert labels["labelsAdded"] == [{"message": changed, "labelIds": ["STARRED"]}]
    assert labels["labelsRemoved"] == [{"message": changed, "labelIds": ["UNREAD"]}]
    assert deleted["messagesDeleted"] == [{"message": changed}]
    assert set(deleted) == {"id", "messages", "messagesDeleted"}


def test_a_bulk_change_is_one_record_per_message_that_changes(mailbox: Mailbox) -> None:
    """Messages that had the label already get no record; each record's id becomes the message's historyId."""
    ids = [mailbox.deliver(RAW) for _ in range(5)]
    mailbox.modify(ids[:2], ["STARRED"])
    start = head(mailbox)
    mailbox.modify(ids, ["STARRED"])
    records = drain(mailbox, start)
    assert [record["messages"][0]["id"] for record in records] == ids[2:]
    assert [record["id"] for record in records] == [mailbox.get_message(item)["historyId"] for item in ids[2:]]
    mailbox.modify(ids, ["STARRED"])
    assert head(mailbox) == int(records[-1]["id"])


def test_a_change_of_both_kinds_is_one_record_or_two(mailbox: Mailbox) -> None:
    """split_chance decides whether labels added and removed share a record; the sum is the same."""
    for chance, expected in ((0.0, 1), (1.0, 2)):
        mailbox.split_chance = chance
        message_id = mailbox.deliver(RAW)
        start = head(mailbox)
        mailbox.trash(message_id)
        records = drain(mailbox, start)
        assert len(records) == expected
        assert [r["labelsAdded"][0]["labelIds"] for r in records if "labelsAdded" in r] == [["TRASH"]]
        assert [r["labelsRemoved"][0]["labelIds"] for r in records if "labelsRemoved" in r] == [["INBOX"]]
        assert not any("messagesDeleted" in record for record in records)


def test_types_and_label_filter_the_records(mailbox: Mailbox) -> None:
    """The types keep the kinds asked for, labelId the records of messages that carry or just lost the label."""
    mailbox.split_chance = 0
    start = head(mailbox)
    first = mailbox.deliver(RAW)
    second = mailbox.deliver(RAW, label_ids=["SPAM"])
    mailbox.trash(first)
    only = drain(mailbox, start, history_types=["labelRemoved"])
    assert [sorted(record) for record in only] == [["id", "labelsRemoved", "messages"]]
    assert [record["messages"][0]["id"] for record in drain(mailbox, start, label_id="INBOX")] == [first, first]
    assert [record["messages"][0]["id"] for record in drain(mailbox, start, label_id="SPAM")] == [second]
    assert len(drain(mailbox, start, history_types=HISTORY_TYPES)) == 3
    with pytest.raises(ApiError) as raised:
        mailbox.list_history(start, history_types=["messagesAdded"])
    assert raised.value.status == 400


def test_pages_show_the_window_of_the_first_but_each_its_own_head(mailbox: Mailbox) -> None:
    """What arrives while paging is in no page of this drain, although the last page's historyId is beyond it."""
    start = head(mailbox)
    for _ in range(5):
        mailbox.deliver(RAW)
    first = mailbox.list_history(start, max_results=3)
    late = mailbox.deliver(RAW)
    last = mailbox.list_history(start, page_token=first["nextPageToken"], max_results=3)
    shown = {record["messages"][0]["id"] for page in (first, last) for record in page["history"]}
    assert "nextPageToken" not in last
    assert late not in shown
    assert int(first["historyId"]) < int(last["historyId"]) == head(mailbox)
    assert [r["messages"][0]["id"] for r in drain(mailbox, int(first["historyId"]))] == [late]


def test_a_page_token_is_bound_to_its_start(mailbox: Mailbox) -> None:
    """The same pageToken with another startHistoryId answers 400."""
    start = head(mailbox)
    ids = [mailbox.deliver(RAW) for _ in range(3)]
    token = mailbox.list_history(start, max_results=1)["nextPageToken"]
    with pytest.raises(ApiError, match="startHistoryId"):
        mailbox.list_history(mailbox.get_message(ids[0])["historyId"], page_token=token)


@pytest.mark.parametrize("chance", [0.5, 1.0])
def test_empty_pages_with_a_next_token_lose_nothing(mailbox: Mailbox, chance: float) -> None:
    """Pages without history turn up in the middle and at the end; who follows nextPageToken sees every record once."""
    start = head(mailbox)
    ids = [mailbox.deliver(RAW) for _ in range(30)]
    mailbox.empty_page_chance = chance
    token, seen, empty = None, [], 0
    while True:
        page = mailbox.list_history(start, page_token=token, max_results=4)
        seen += [record["messages"][0]["id"] for record in page.get("history", [])]
        empty += "history" not in page
        token = page.get("nextPageToken")
        if token is None:
            break
    assert seen == ids
    assert empty > 0


@pytest.mark.parametrize("start", ["0", "abc", "", None, "-5"])
def test_a_bad_start_is_400(mailbox: Mailbox, start: str | None) -> None:
    """Missing, zero or garbage: Missing/invalid parameter."""
    with pytest.raises(ApiError, match="Missing/invalid parameter: startHistoryId") as raised:
        mailbox.list_history(start)
    assert raised.value.status == 400


def test_a_start_below_the_floor_is_404(mailbox: Mailbox) -> None:
    """Too old answers 404 notFound, for a new mailbox and after some of its history expired; the floor works."""
    with pytest.raises(ApiError, match="404 notFound"):
        mailbox.list_history(1)
    start = head(mailbox)
    ids = [mailbox.deliver(RAW) for _ in range(3)]
    floor = int(mailbox.get_message(ids[1])["historyId"])
    mailbox.expire_history(floor)
    with pytest.raises(ApiError, match="404 notFound"):
        mailbox.list_history(start)
    assert [record["messages"][0]["id"] for record in drain(mailbox, floor)] == [ids[2]]


def test_history_can_expire_altogether(mailbox: Mailbox) -> None:
    """Every id ever given out is 404 then, the head's included; a newer profile gives one that works."""
    before = [head(mailbox)]
    message_id = mailbox.deliver(RAW)
    before += [head(mailbox), int(mailbox.get_message(message_id)["historyId"])]
    mailbox.expire_history()
    for start in before:
        with pytest.raises(ApiError, match="404 notFound"):
            mailbox.list_history(start)
    signpost = head(mailbox)
    later = mailbox.deliver(RAW)
    assert [record["messages"][0]["id"] for record in drain(mailbox, signpost)] == [later]


def test_expiry_between_two_pages_is_404(mailbox: Mailbox) -> None:
    """A drain that was begun in time is not saved by its page token."""
    start = head(mailbox)
    for _ in range(3):
        mailbox.deliver(RAW)
    token = mailbox.list_history(start, max_results=1)["nextPageToken"]
    mailbox.expire_history()
    with pytest.raises(ApiError, match="404 notFound"):
        mailbox.list_history(start, page_token=token)


def test_history_lags_behind_its_own_notification(clock: ManualClock, mailbox: Mailbox) -> None:
    """With history_lag neither records nor the head of history and profile show what was notified already."""
    notified: list[int] = []
    mailbox.on_notification = lambda notification: notified.append(notification.history_id)
    mailbox.watch("projects/p/topics/t")
    start = head(mailbox)
    mailbox.history_lag = timedelta(seconds=3)
    first = mailbox.deliver(RAW)
    clock.advance(timedelta(seconds=2))
    second = mailbox.deliver(RAW)
    assert notified[-1] > start
    assert mailbox.list_history(start) == {"historyId": str(start)}
    assert head(mailbox) == start
    clock.advance(timedelta(seconds=1))
    page = mailbox.list_history(start)
    assert [record["messages"][0]["id"] for record in page["history"]] == [first]
    assert page["historyId"] == page["history"][0]["id"] == str(head(mailbox))
    clock.advance(timedelta(seconds=2))
    assert [record["messages"][0]["id"] for record in drain(mailbox, start)] == [first, second]
    assert head(mailbox) == notified[-1]


@pytest.mark.parametrize("seed", range(20))
def test_replaying_history_gives_the_truth(clock: ManualClock, seed: int) -> None:
    """Whatever the user did, the records applied in order end in the messages, threads and labels there are."""
    rng = random.Random(seed)
    mailbox = Mailbox("ada@example.com", clock=clock, rng=random.Random(seed))
    mailbox.empty_page_chance = 0.3
    mailbox.create_label("Work")
    start = head(mailbox)
    for number in range(150):
        clock.advance(timedelta(seconds=rng.randrange(3)))
        act_at_random(mailbox, rng, number)

    mirror: dict[str, tuple[str, list[str]]] = {}
    for record in drain(mailbox, start, max_results=rng.randint(1, 40)):
        for kind in ("messagesAdded", "labelsAdded", "labelsRemoved"):
            for message in (change["message"] for change in record.get(kind, [])):
                mirror[message["id"]] = message["threadId"], sorted(message.get("labelIds", []))
        for change in record.get("messagesDeleted", []):
            del mirror[change["message"]["id"]]
    truth = mailbox.truth()["messages"]
    assert mirror == {key: (message["threadId"], message["labelIds"]) for key, message in truth.items()}
    assert {item["id"] for item in mailbox.list_messages(include_spam_trash=True, max_results=500)["messages"]} == set(
        truth
    )
    threads = mailbox.list_threads(include_spam_trash=True, max_results=500)["threads"]
    assert {item["id"] for item in threads} == {message["threadId"] for message in truth.values()}
    for item in threads:
        newest = max(int(message["historyId"]) for message in mailbox.get_thread(item["id"], "minimal")["messages"])
        assert int(item["historyId"]) >= newest


def act_at_random(mailbox: Mailbox, rng: random.Random, number: int) -> None:
    """One thing a user may do."""
    truth = mailbox.truth()
    messages = truth["messages"]
    drafts = [key for key, message in messages.items() if "DRAFT" in message["labelIds"]]
    raw = f"Subject: s\nMessage-ID: <{number}@x>\nIn-Reply-To: <{rng.randrange(number + 1)}@x>\n\nx".encode()
    act = rng.randrange(9) if messages else 0
    some = rng.sample(sorted(messages), min(len(messages), rng.randint(1, 4)))
    if act in {0, 1, 2}:
        mailbox.deliver(raw, label_ids=rng.choice([["INBOX", "UNREAD"], ["SENT"], []]))
    elif act == 3:
        labels = rng.sample(["INBOX", "UNREAD", "STARRED", *(key for key in truth["labels"] if "Label" in key)], 2)
        mailbox.modify(some, labels[:1], labels[1:])
    elif act == 4:
        mailbox.trash(some[0])
    elif act == 5:
        mailbox.delete(some[:2])
    elif act == 6:
        mailbox.save_draft(raw, rng.choice([None, *drafts]))
    elif act == 7 and drafts:
        mailbox.send_draft(drafts[0])
    elif act == 8:
        threads = sorted({message["threadId"] for message in messages.values()})
        if len(threads) > 1 and rng.random() < 0.3:
            mailbox.merge_threads(*rng.sample(threads, 2))
        elif "Label_1" in truth["labels"] and rng.random() < 0.1:
            mailbox.delete_label("Label_1")
