"""The fake mailbox behaves as Gmail's: messages, listings, threads, labels, drafts."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.gmail.clock import ManualClock, milliseconds
from local.gmail.errors import ApiError
from local.gmail.mailbox import Mailbox

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    """A clock the test moves."""
    return ManualClock(START)


@pytest.fixture
def mailbox(clock: ManualClock) -> Mailbox:
    """An empty mailbox."""
    return Mailbox("Ada@example.com", clock=clock, rng=random.Random(7))


def mail(number: int, subject: str = "Hello", **headers: str) -> bytes:
    """A small message with a Message-ID made of its number."""
    extra = "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in headers.items())
    return f"From: a@b.example\nSubject: {subject}\nMessage-ID: <{number}@x>\n{extra}\nText {number} & more\n".encode()


def pages(mailbox: Mailbox, kind: str, **params: Any) -> Iterator[dict[str, Any]]:
    """All items of a listing, page by page."""
    token = None
    while True:
        page = getattr(mailbox, f"list_{kind}")(page_token=token, **params)
        yield from page.get(kind, [])
        token = page.get("nextPageToken")
        if token is None:
            return


def listed(mailbox: Mailbox, **params: Any) -> list[str]:
    """The ids messages.list shows, over all pages."""
    return [item["id"] for item in pages(mailbox, "messages", **params)]


def test_the_same_clock_and_seed_give_the_same_mailbox() -> None:
    """Two mailboxes with the same clock, seed and acts are equal to the last id."""

    def run() -> list[Any]:
        clock = ManualClock(START)
        mailbox = Mailbox("a@x", clock=clock, rng=random.Random(3))
        start = mailbox.get_profile()["historyId"]
        ids = [mailbox.deliver(mail(number)) for number in range(20)]
        mailbox.modify(ids, ["STARRED"], ["UNREAD"])
        mailbox.delete(ids[::3])
        return [mailbox.truth(), mailbox.list_history(start), mailbox.list_messages(), mailbox.list_threads()]

    assert run() == run()


def test_reading_does_not_change_what_happens_later() -> None:
    """Reads, however many, shift neither ids nor history ids of later changes."""

    def run(*, reads: int) -> dict[str, Any]:
        mailbox = Mailbox("a@x", clock=ManualClock(START), rng=random.Random(3))
        first = mailbox.deliver(b"Content-Type: image/png\n\nx")
        for _ in range(reads):
            mailbox.get_message(first)
        mailbox.deliver(mail(2))
        return mailbox.truth()

    assert run(reads=0) == run(reads=9)


def test_message_ids_are_sixteen_hex_digits_that_grow_with_time(clock: ManualClock, mailbox: Mailbox) -> None:
    """Ids look like Gmail's, never repeat, and sort by arrival; the first message's id is the thread's id."""
    ids = []
    for number in range(50):
        clock.advance(timedelta(milliseconds=1))
        ids.append(mailbox.deliver(mail(number)))
    assert ids == sorted(set(ids))
    assert all(len(message_id) == 16 and int(message_id, 16) for message_id in ids)
    assert mailbox.get_message(ids[0])["threadId"] == ids[0]


def test_numbers_are_strings_on_the_wire(mailbox: Mailbox) -> None:
    """HistoryId and internalDate arrive as strings, sizeEstimate and totals as numbers."""
    message = mailbox.get_message(mailbox.deliver(mail(1), internal_date=START - timedelta(days=3)))
    assert message["internalDate"] == str(milliseconds(START - timedelta(days=3)))
    assert message["historyId"] == mailbox.get_profile()["historyId"]
    assert message["sizeEstimate"] == len(mail(1))
    assert mailbox.get_profile()["messagesTotal"] == 1


def test_a_message_without_labels_has_no_label_list(mailbox: Mailbox) -> None:
    """Archived and read: the labelIds key is absent, in messages and in history."""
    start = mailbox.get_profile()["historyId"]
    message_id = mailbox.deliver(mail(1), label_ids=[])
    assert "labelIds" not in mailbox.get_message(message_id)
    record = mailbox.list_history(start)["history"][0]
    assert record["messagesAdded"] == [{"message": {"id": message_id, "threadId": message_id}}]


def test_formats_show_what_they_promise(mailbox: Mailbox) -> None:
    """Minimal has no payload, metadata only headers, raw the source, full the tree; other formats are refused."""
    message_id = mailbox.deliver(mail(1))
    minimal = mailbox.get_message(message_id, "minimal")
    assert set(minimal) == {"id", "threadId", "labelIds", "snippet", "sizeEstimate", "historyId", "internalDate"}
    assert minimal["snippet"] == "Text 1 &amp; more"
    metadata = mailbox.get_message(message_id, "METADATA", ["subject"])
    assert metadata["payload"]["headers"] == [{"name": "Subject", "value": "Hello"}]
    assert "body" not in metadata["payload"]
    raw = mailbox.get_message(message_id, "raw")
    assert base64.urlsafe_b64decode(raw["raw"]) == mail(1)
    assert "payload" not in raw
    assert base64.urlsafe_b64decode(mailbox.get_message(message_id)["payload"]["body"]["data"]) == b"Text 1 & more\n"
    with pytest.raises(ApiError, match="format"):
        mailbox.get_message(message_id, "xml")


def test_a_gone_message_is_404(mailbox: Mailbox) -> None:
    """Get after delete answers with Google's not-found body."""
    message_id = mailbox.deliver(mail(1))
    mailbox.delete([message_id])
    with pytest.raises(ApiError) as raised:
        mailbox.get_message(message_id)
    assert raised.value.body() == {
        "error": {
            "code": 404,
            "message": "Requested entity was not found.",
            "errors": [{"message": "Requested entity was not found.", "domain": "global", "reason": "notFound"}],
            "status": "NOT_FOUND",
        }
    }


def test_listing_is_newest_first_and_has_ids_only(mailbox: Mailbox) -> None:
    """messages.list orders by internalDate whatever the order of arrival, and shows id and threadId only."""
    old = mailbox.deliver(mail(1), internal_date=START - timedelta(days=9))
    new = mailbox.deliver(mail(2), internal_date=START)
    middle = mailbox.deliver(mail(3), internal_date=START - timedelta(days=5))
    page = mailbox.list_messages()
    assert page["messages"] == [{"id": message_id, "threadId": message_id} for message_id in (new, middle, old)]
    assert "nextPageToken" not in page


def test_an_empty_listing_has_no_items_key(mailbox: Mailbox) -> None:
    """Nothing to list: only resultSizeEstimate 0."""
    assert mailbox.list_messages() == {"resultSizeEstimate": 0}
    assert mailbox.list_threads() == {"resultSizeEstimate": 0}


def test_spam_and_trash_are_hidden_unless_asked_for(mailbox: Mailbox) -> None:
    """The flag or the label itself brings them back; labelIds are combined with AND."""
    plain = mailbox.deliver(mail(1))
    spam = mailbox.deliver(mail(2), label_ids=["SPAM"])
    trashed = mailbox.deliver(mail(3), label_ids=["INBOX", "STARRED"])
    mailbox.trash(trashed)
    assert listed(mailbox) == [plain]
    assert set(listed(mailbox, include_spam_trash=True)) == {plain, spam, trashed}
    assert listed(mailbox, label_ids=["TRASH", "STARRED"]) == [trashed]
    assert listed(mailbox, label_ids=["TRASH", "UNREAD"]) == []
    with pytest.raises(ApiError, match="Invalid label: Label_9"):
        mailbox.list_messages(label_ids=["Label_9"])


def test_paging_misses_and_repeats_nothing_while_mail_comes_and_goes(clock: ManualClock, mailbox: Mailbox) -> None:
    """What was there from beginning to end is listed exactly once, though others arrive and vanish between pages."""
    staying: list[str] = []
    leaving: list[str] = []
    for number in range(60):
        clock.advance(timedelta(seconds=1))
        (leaving if number % 3 == 0 else staying).append(mailbox.deliver(mail(number)))
    seen: list[str] = []
    token: str | None = None
    while True:
        page = mailbox.list_messages(token, 7)
        seen += [item["id"] for item in page.get("messages", [])]
        token = page.get("nextPageToken")
        if token is None:
            break
        mailbox.delete([leaving.pop(0)])
        clock.advance(timedelta(seconds=1))
        mailbox.deliver(mail(1000 + len(seen)))
    assert len(seen) == len(set(seen))
    assert set(staying) <= set(seen)


def test_a_page_holds_500_at_most_and_100_by_default(mailbox: Mailbox) -> None:
    """A page is capped at 500, defaults to 100, and must not be negative."""
    for number in range(501):
        mailbox.deliver(mail(number))
    assert len(mailbox.list_messages()["messages"]) == 100
    assert len(mailbox.list_messages(max_results=9999)["messages"]) == 500
    assert len(mailbox.list_threads(max_results=9999)["threads"]) == 500
    with pytest.raises(ApiError):
        mailbox.list_messages(max_results=-1)


@pytest.mark.parametrize("token", ["garbage", "", "e30", "AAAA\u00e9"])
def test_page_tokens_that_expired_or_never_were_are_400(mailbox: Mailbox, token: str) -> None:
    """Garbage, tokens of another listing and expired tokens answer 400; an empty one is none."""
    for number in range(3):
        mailbox.deliver(mail(number))
    good = mailbox.list_messages(max_results=1)["nextPageToken"]
    if token:
        with pytest.raises(ApiError, match="pageToken"):
            mailbox.list_messages(token)
    with pytest.raises(ApiError, match="pageToken"):
        mailbox.list_threads(good)
    mailbox.expire_page_tokens()
    with pytest.raises(ApiError, match="pageToken") as raised:
        mailbox.list_messages(good)
    assert raised.value.status == 400


def test_replies_join_the_thread_their_headers_name(mailbox: Mailbox) -> None:
    """In-Reply-To or References and the same subject make one thread; another subject or unknown parent a new one."""
    first = mailbox.deliver(mail(1, "Lunch?"))
    reply = mailbox.deliver(mail(2, "Re: lunch?", In_Reply_To="<1@x>"))
    again = mailbox.deliver(mail(3, "AW: RE: Lunch?", References="<other@x> <2@x>"))
    renamed = mailbox.deliver(mail(4, "Dinner?", In_Reply_To="<1@x>"))
    orphan = mailbox.deliver(mail(5, "Re: Lunch?", In_Reply_To="<nobody@x>"))
    threads = {message_id: mailbox.get_message(message_id)["threadId"] for message_id in (first, reply, again)}
    assert set(threads.values()) == {first}
    assert mailbox.get_message(renamed)["threadId"] == renamed
    assert mailbox.get_message(orphan)["threadId"] == orphan
    assert [message["id"] for message in mailbox.get_thread(first)["messages"]] == sorted(threads)


def test_a_thread_knows_its_last_record(mailbox: Mailbox) -> None:
    """Thread historyId rises with every record of its messages, deletions included; it vanishes with the last one."""
    first = mailbox.deliver(mail(1, "A"))
    second = mailbox.deliver(mail(2, "Re: A", In_Reply_To="<1@x>"))
    other = mailbox.deliver(mail(3, "B"))
    before = int(mailbox.get_thread(first, "minimal")["historyId"])
    assert before == int(mailbox.get_message(second)["historyId"])
    mailbox.delete([second])
    after = int(mailbox.get_thread(first, "minimal")["historyId"])
    assert after == int(mailbox.get_profile()["historyId"]) > before
    assert int(mailbox.get_message(first)["historyId"]) < before
    mailbox.delete([first])
    with pytest.raises(ApiError, match="notFound"):
        mailbox.get_thread(first)
    assert [thread["id"] for thread in mailbox.list_threads()["threads"]] == [other]
    assert mailbox.get_profile()["threadsTotal"] == 1


def test_threads_are_listed_without_messages_and_never_raw(mailbox: Mailbox) -> None:
    """threads.list shows id, snippet and historyId, newest message first; threads.get refuses format raw."""
    first = mailbox.deliver(mail(1, "A"), internal_date=START - timedelta(days=2))
    other = mailbox.deliver(mail(2, "B"), internal_date=START - timedelta(days=1))
    mailbox.deliver(mail(3, "Re: A", In_Reply_To="<1@x>"))
    threads = mailbox.list_threads()["threads"]
    assert [thread["id"] for thread in threads] == [first, other]
    assert threads[0] == {
        "id": first,
        "snippet": "Text 3 &amp; more",
        "historyId": mailbox.get_thread(first)["historyId"],
    }
    with pytest.raises(ApiError):
        mailbox.get_thread(first, "raw")


def test_threads_are_filtered_by_their_messages(mailbox: Mailbox) -> None:
    """A thread is listed when one message passes all labels, and hidden when all are in the trash."""
    first = mailbox.deliver(mail(1, "A"), label_ids=["INBOX"])
    mailbox.deliver(mail(2, "Re: A", In_Reply_To="<1@x>"), label_ids=["STARRED"])
    other = mailbox.deliver(mail(3, "B"), label_ids=["INBOX", "STARRED"])
    assert [thread["id"] for thread in pages(mailbox, "threads", label_ids=["INBOX", "STARRED"])] == [other]
    mailbox.trash(other)
    assert [thread["id"] for thread in pages(mailbox, "threads", max_results=1)] == [first]


def test_merging_threads_moves_messages_and_ends_the_other(mailbox: Mailbox) -> None:
    """Messages keep their ids, get the new threadId and a messagesAdded record; the other thread is 404."""
    first, second = mailbox.deliver(mail(1, "A")), mailbox.deliver(mail(2, "B"))
    start = mailbox.get_profile()["historyId"]
    mailbox.merge_threads(first, second)
    assert mailbox.get_message(second)["threadId"] == first
    with pytest.raises(ApiError):
        mailbox.get_thread(second)
    (record,) = mailbox.list_history(start)["history"]
    assert record["messagesAdded"][0]["message"]["threadId"] == first
    assert "messagesDeleted" not in record


def test_each_autosave_of_a_draft_is_a_new_message(mailbox: Mailbox) -> None:
    """A saved draft gets a new id in the same thread and the old one is gone; it carries DRAFT and nothing else."""
    first = mailbox.save_draft(mail(1, "Plan"))
    second = mailbox.save_draft(mail(1, "Plan B"), first)
    assert second != first
    message = mailbox.get_message(second)
    assert message["labelIds"] == ["DRAFT"]
    assert message["threadId"] == first
    with pytest.raises(ApiError):
        mailbox.get_message(first)
    sent = mailbox.send_draft(second)
    assert mailbox.get_message(sent)["labelIds"] == ["SENT"]
    assert listed(mailbox) == [sent]
    with pytest.raises(ValueError, match="no draft"):
        mailbox.send_draft(sent)


def test_labels_of_the_user_come_and_go(mailbox: Mailbox) -> None:
    """Creating and renaming leave no history; deleting a label takes it off its messages; ids are never used again."""
    start = mailbox.get_profile()["historyId"]
    label = mailbox.create_label("Work")
    mailbox.rename_label(label, "Job")
    assert mailbox.ensure_label("job") == label
    assert mailbox.list_history(start) == {"historyId": start}
    shown = {item["id"]: item for item in mailbox.list_labels()["labels"]}
    assert shown[label]["name"] == "Job"
    assert shown[label]["type"] == "user"
    assert shown["INBOX"] == {"id": "INBOX", "name": "INBOX", "type": "system"}
    message_id = mailbox.deliver(mail(1), label_ids=["INBOX", label])
    before = mailbox.get_profile()["historyId"]
    mailbox.delete_label(label)
    assert mailbox.get_message(message_id)["labelIds"] == ["INBOX"]
    (record,) = mailbox.list_history(before)["history"]
    assert record["labelsRemoved"][0]["labelIds"] == [label]
    assert mailbox.create_label("Job") != label


def test_labels_one_by_one(mailbox: Mailbox) -> None:
    """labels.get tells colours and counts, labels.list neither, unless it is told to; history never says a word."""
    color = {"textColor": "#ffffff", "backgroundColor": "#cc3a21"}
    label = mailbox.create_label("Work")
    start = mailbox.get_profile()["historyId"]
    mailbox.recolor_label(label, color)
    assert mailbox.list_history(start) == {"historyId": start}
    first = mailbox.deliver(mail(1), label_ids=["INBOX", "UNREAD", label])
    mailbox.deliver(mail(2, "Re: Hello", In_Reply_To="<1@x>"), label_ids=[label])
    mailbox.deliver(mail(3), label_ids=["INBOX"])
    counts = {"messagesTotal": 2, "messagesUnread": 1, "threadsTotal": 1, "threadsUnread": 1}
    shown = {item["id"]: item for item in mailbox.list_labels()["labels"]}[label]
    assert mailbox.get_label(label) == shown | counts | {"color": color}
    assert "color" not in shown
    mailbox.lists_colors = True
    assert {item["id"]: item for item in mailbox.list_labels()["labels"]}[label] == shown | {"color": color}
    assert "color" not in mailbox.get_label("INBOX")
    assert mailbox.get_label("INBOX")["messagesTotal"] == 2
    mailbox.recolor_label(label, None)
    mailbox.delete([first])
    assert mailbox.get_label(label) == shown | dict.fromkeys(counts, 0) | {"messagesTotal": 1, "threadsTotal": 1}
    mailbox.delete_label(label)
    with pytest.raises(ApiError, match="404"):
        mailbox.get_label(label)


@pytest.mark.parametrize(
    ("label", "color"),
    [
        ("INBOX", {"textColor": "#000000", "backgroundColor": "#ffffff"}),
        ("Label_9", None),
        ("Label_1", {}),
        ("Label_1", {"textColor": "#000000"}),
        ("Label_1", {"textColor": "black", "backgroundColor": "#ffffff"}),
        ("Label_1", {"textColor": "#000000", "backgroundColor": "#ffffff", "border": "#ffffff"}),
    ],
)
def test_colours_that_make_no_sense(mailbox: Mailbox, label: str, color: dict[str, str] | None) -> None:
    """Only labels of the user have colours, and only such as the API writes."""
    mailbox.create_label("Work")
    before = mailbox.truth()
    with pytest.raises(ValueError, match=r"label|colour"):
        mailbox.recolor_label(label, color)
    assert mailbox.truth() == before


def test_attachments(mailbox: Mailbox) -> None:
    """An attachment id is another one on each get, and all of them are good, for their message alone."""
    raw = b"Content-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64\n\n" + base64.b64encode(
        b"12345"
    )
    first, second = mailbox.deliver(raw), mailbox.deliver(raw)
    ids = [mailbox.get_message(first)["payload"]["body"]["attachmentId"] for _ in range(2)]
    assert ids[0] != ids[1]
    answer = {"size": 5, "data": base64.urlsafe_b64encode(b"12345").decode()}
    assert [mailbox.get_attachment(first, attachment_id) for attachment_id in ids] == [answer] * 2
    for message_id, attachment_id in ((second, ids[0]), (first, "x"), (first, ids[0][:-9]), (first, "\u00e4")):
        with pytest.raises(ApiError, match=r"400.*Invalid attachment token"):
            mailbox.get_attachment(message_id, attachment_id)
    mailbox.delete([first])
    with pytest.raises(ApiError, match="404"):
        mailbox.get_attachment(first, ids[0])


def test_large_texts_are_kept_back(mailbox: Mailbox) -> None:
    """A text larger than `inline_bytes` comes as an attachment id, in messages and threads; its bytes are the same."""
    message_id = mailbox.deliver(b"Content-Type: text/html\n\n" + b"<p>text</p>" * 100_000)
    body = mailbox.get_message(message_id)["payload"]["body"]
    assert body.keys() == {"attachmentId", "size"}
    assert mailbox.get_thread(message_id)["messages"][0]["payload"]["body"].keys() == body.keys()
    data = mailbox.get_attachment(message_id, body["attachmentId"])["data"]
    mailbox.inline_bytes = None
    assert mailbox.get_message(message_id)["payload"]["body"] == {"size": body["size"], "data": data}
    mailbox.inline_bytes = body["size"]
    assert "data" in mailbox.get_message(message_id)["payload"]["body"]
    mailbox.inline_bytes = body["size"] - 1
    assert "data" not in mailbox.get_message(message_id)["payload"]["body"]
    empty = mailbox.deliver(b"Content-Type: text/plain\n\n")
    mailbox.inline_bytes = 0
    assert mailbox.get_message(empty)["payload"]["body"] == {"size": 0}


def test_the_user_cannot_do_what_makes_no_sense(mailbox: Mailbox) -> None:
    """Unknown messages, threads and labels, and labels only Gmail may put, are refused and change nothing."""
    message_id = mailbox.deliver(mail(1))
    before = mailbox.truth()
    acts: list[Callable[[], object]] = [
        lambda: mailbox.modify([message_id, "nobody"], ["STARRED"]),
        lambda: mailbox.modify([message_id], ["Label_1"]),
        lambda: mailbox.modify([message_id], ["SENT"]),
        lambda: mailbox.modify([message_id], ["STARRED"], ["STARRED"]),
        lambda: mailbox.delete([message_id, "nobody"]),
        lambda: mailbox.deliver(mail(2), thread_id="nobody"),
        lambda: mailbox.deliver(mail(2), label_ids=["Label_1"]),
        lambda: mailbox.merge_threads(message_id, message_id),
        lambda: mailbox.rename_label("INBOX", "Inbox"),
        lambda: mailbox.create_label(" "),
    ]
    for act in acts:
        with pytest.raises(ValueError, match=r"\w"):
            act()
    assert mailbox.truth() == before


@pytest.mark.parametrize(
    "q", ["from:grace", "after:2026/11/20", "after:1 from:grace", "after:-1", "before:1", "after:"]
)
def test_search_is_refused_rather_than_faked(mailbox: Mailbox, q: str) -> None:
    """A q that the fake does not know answers 501, for messages and threads: a wrong answer would be worse."""
    for call in (mailbox.list_messages, mailbox.list_threads):
        with pytest.raises(ApiError) as raised:
            call(q=q)
        assert (raised.value.status, raised.value.reason) == (501, "notImplemented")


def test_listings_after_a_time(mailbox: Mailbox) -> None:
    """`after:` lists what is newer than the second that it names, with all other filters; a thread for its messages."""
    second = timedelta(seconds=1)
    old = mailbox.deliver(mail(1), internal_date=START)
    same = mailbox.deliver(mail(2), internal_date=START + second + timedelta(milliseconds=999))
    new = mailbox.deliver(mail(3), internal_date=START + 2 * second, thread_id=old)
    spam = mailbox.deliver(mail(4), internal_date=START + 3 * second, label_ids=["SPAM"])
    after = f"after:{int(START.timestamp()) + 1}"
    assert listed(mailbox, q=after, include_spam_trash=True) == [spam, new]
    assert listed(mailbox, q=after, include_spam_trash=True, max_results=1) == [spam, new]
    assert listed(mailbox, q=after) == [new]
    assert listed(mailbox, q=after, label_ids=["STARRED"]) == []
    assert [item["id"] for item in pages(mailbox, "threads", q=after)] == [old]
    before = f"after:{int(START.timestamp())}"
    assert [item["id"] for item in pages(mailbox, "threads", q=before)] == [old, same]
    assert listed(mailbox, q="") == [new, same, old]


def test_a_young_message_is_404_until_the_get_lag_is_over(clock: ManualClock, mailbox: Mailbox) -> None:
    """With get_lag, a message that listings show already is not found for that long."""
    mailbox.get_lag = timedelta(seconds=3)
    message_id = mailbox.deliver(mail(1))
    assert listed(mailbox) == [message_id]
    with pytest.raises(ApiError):
        mailbox.get_message(message_id)
    clock.advance(timedelta(seconds=3))
    assert mailbox.get_message(message_id)["id"] == message_id


def test_truth_is_plain_and_complete(mailbox: Mailbox) -> None:
    """truth() holds every message, trash included, with sorted labels, numbers as numbers, and the decoded text."""
    raw = (
        b"From: =?iso-8859-1?Q?J=FCrgen?= <j@x>\nSubject: =?utf-8?B?R3LDvMOfZQ==?=\n"
        b"Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nsch=F6n\n"
    )
    message_id = mailbox.deliver(raw, label_ids=["UNREAD", "INBOX"])
    mailbox.trash(message_id)
    truth = mailbox.truth()
    expected = {
        "threadId": message_id,
        "labelIds": ["TRASH", "UNREAD"],
        "historyId": truth["historyId"],
        "internalDate": milliseconds(START),
        "subject": "Grüße",
        "from": {"name": "Jürgen", "address": "j@x"},
        "body": {"text": "schön\n", "html": ""},
    }
    assert truth["messages"].keys() == {message_id}
    assert truth["messages"][message_id] | expected == truth["messages"][message_id]
    assert truth["labels"]["INBOX"]["type"] == "system"
