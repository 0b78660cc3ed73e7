"""Watches of the fake: when they notify, lapse, filter and refuse."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from local.gmail.clock import ManualClock, milliseconds
from local.gmail.errors import ApiError
from local.gmail.mailbox import Mailbox
from local.gmail.watch import Notification

TOPIC = "projects/p/topics/t"
RAW = b"Subject: x\n\ny\n"


@pytest.fixture
def clock() -> ManualClock:
    """A clock the test moves."""
    return ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.fixture
def mailbox(clock: ManualClock) -> Mailbox:
    """An empty mailbox."""
    return Mailbox("ada@example.com", clock=clock, rng=random.Random(7))


@pytest.fixture
def heard(mailbox: Mailbox) -> list[Notification]:
    """The notifications the mailbox sent."""
    notifications: list[Notification] = []
    mailbox.on_notification = notifications.append
    return notifications


def test_a_watch_answers_with_head_and_expiration_and_notifies_at_once(
    clock: ManualClock, mailbox: Mailbox, heard: list[Notification]
) -> None:
    """Watch gives the current historyId and an expiration in seven days, both as strings, and one notification."""
    answer = mailbox.watch(TOPIC)
    assert answer == {
        "historyId": mailbox.get_profile()["historyId"],
        "expiration": str(milliseconds(clock.now() + timedelta(days=7))),
    }
    assert heard == [Notification(TOPIC, "ada@example.com", int(answer["historyId"]), clock.now())]


def test_each_act_notifies_once_with_the_head(mailbox: Mailbox, heard: list[Notification]) -> None:
    """A bulk change is one notification; an act that changes nothing is none; without a watch nobody hears."""
    first = mailbox.deliver(RAW)
    assert heard == []
    mailbox.watch(TOPIC)
    second = mailbox.deliver(RAW)
    mailbox.modify([first, second], ["STARRED"])
    mailbox.modify([first, second], ["STARRED"])
    assert len(heard) == 3
    assert heard[-1].history_id == int(mailbox.get_profile()["historyId"])


def test_an_expired_or_stopped_watch_is_silent(clock: ManualClock, mailbox: Mailbox, heard: list[Notification]) -> None:
    """After seven days, or after stop, changes are not published any more; renewing starts the week anew."""
    mailbox.watch(TOPIC)
    clock.advance(timedelta(days=6))
    mailbox.watch(TOPIC)
    clock.advance(timedelta(days=6))
    mailbox.deliver(RAW)
    assert len(heard) == 3
    clock.advance(timedelta(days=1))
    mailbox.deliver(RAW)
    assert len(heard) == 3
    mailbox.watch(TOPIC)
    mailbox.stop()
    mailbox.deliver(RAW)
    assert len(heard) == 4


def test_a_second_topic_is_refused_until_stop(clock: ManualClock, mailbox: Mailbox) -> None:
    """One push client per developer: another topic is 400 while a watch is active, and fine after stop or expiry."""
    mailbox.watch(TOPIC)
    with pytest.raises(ApiError, match="Only one user push notification client allowed per developer") as raised:
        mailbox.watch("projects/p/topics/other")
    assert (raised.value.status, raised.value.status_text) == (400, "INVALID_ARGUMENT")
    mailbox.stop()
    mailbox.watch("projects/p/topics/other")
    clock.advance(timedelta(days=7))
    mailbox.watch(TOPIC)


@pytest.mark.parametrize(("behavior", "expected"), [("include", 1), ("INCLUDE", 1), (None, 1), ("exclude", 1)])
def test_a_filtered_watch_filters(
    mailbox: Mailbox, heard: list[Notification], behavior: str | None, expected: int
) -> None:
    """Include hears of messages with the label only, exclude of the others only."""
    mailbox.watch(TOPIC, ["INBOX"], behavior)
    heard.clear()
    inbox = mailbox.deliver(RAW, label_ids=["INBOX"])
    spam = mailbox.deliver(RAW, label_ids=["SPAM"])
    wanted = spam if behavior == "exclude" else inbox
    assert [n.history_id for n in heard] == [int(mailbox.get_message(wanted)["historyId"])] * expected


def test_a_filter_hears_of_a_label_that_was_just_lost(mailbox: Mailbox, heard: list[Notification]) -> None:
    """Archiving a message concerns a watch on INBOX, though the message is not in it any more."""
    message_id = mailbox.deliver(RAW)
    mailbox.watch(TOPIC, ["INBOX"])
    heard.clear()
    mailbox.modify([message_id], [], ["INBOX"])
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("topic", "labels", "behavior", "message"),
    [
        (None, [], None, "topicName"),
        ("t", [], None, r"Invalid topicName does not match projects/\*/topics/\*"),
        (TOPIC, ["NOPE"], None, "Invalid label: NOPE"),
        (TOPIC, [], "sometimes", "label_filter_behavior"),
    ],
)
def test_a_wrong_watch_is_400(
    mailbox: Mailbox, topic: str | None, labels: list[str], behavior: str | None, message: str
) -> None:
    """Topic, labels and behavior are checked, and a refused watch watches nothing."""
    with pytest.raises(ApiError, match=message) as raised:
        mailbox.watch(topic, labels, behavior)
    assert raised.value.status == 400
    assert mailbox.active_watch() is None
