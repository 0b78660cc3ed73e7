"""The comparison can fail: each kind of difference, planted in a mirror that is otherwise equal, is found and named."""

import copy
import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from local.sides import Mirror, Truth, read_firestore, read_sqlite
from local.truth import Row, compare

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
LATER = datetime(2026, 11, 20, 13, tzinfo=UTC)
OBJECTS = (b'{"text": "long", "html": ""}', b"%PDF", b"\x89PNG\r")
LARGE, FILE, SHOWN = (f"a@x/{hashlib.sha256(data).hexdigest()}" for data in OBJECTS)
BUCKET = {f"gs://bodies/{name}": data for name, data in zip((LARGE, FILE, SHOWN), OBJECTS, strict=True)}
GRACE = {"name": "Grace", "address": "grace@x"}
STATE: dict[str, Any] = {
    "messages": {
        "m1": {"threadId": "t1", "labelIds": ["INBOX", "UNREAD"], "internalDate": 1795176000000},
        "m2": {"threadId": "t1", "labelIds": ["SENT"], "internalDate": 1795179600000},
        "m3": {"threadId": "t3", "labelIds": ["Label_1", "TRASH"], "internalDate": 1795179600000},
        "draft": {"threadId": "t1", "labelIds": ["DRAFT"], "internalDate": 1795179600000},
    },
    "labels": {
        "INBOX": {"id": "INBOX", "name": "INBOX", "type": "system"},
        "Label_1": {
            "id": "Label_1",
            "name": "Work",
            "type": "user",
            "labelListVisibility": "labelShow",
            "color": {"textColor": "#ffffff", "backgroundColor": "#000000"},
        },
    },
    "historyId": 700,
}
for _key, _message in STATE["messages"].items():
    _message |= {"subject": "Hello", "from": GRACE, "rendered": False, "inWords": [], "attachments": []}
    _message["body"] = {"text": "long" if _key == "m3" else f"text of {_key}", "html": ""}
# HTML alone, of which the words are known; a file, and a picture that is none to its reader.
STATE["messages"]["m2"] |= {"rendered": True, "inWords": ["text"]}
STATE["messages"]["m2"]["body"] = {"text": "one two", "html": "<p>one<p>two"}
PDF = {"partId": "1", "filename": "a.pdf", "mimeType": "application/pdf", "size": 4}
PICTURE = {"partId": "2", "filename": "", "mimeType": "image/png", "size": 5}
STATE["messages"]["m3"]["attachments"] = [{**PDF, "file": True}, {**PICTURE, "file": False}]


def _documents() -> dict[str, Any]:
    """A mirror that equals STATE."""
    return {
        "mailbox": {
            "emailAddress": "a@x",
            "cursor": 700,
            "deltaSeq": 2,
            "counts": {"messages": 3, "threads": 2},
            "policy": {},
            "content": "full",
        },
        "messages": {
            "m1": _message_document("m1", "t1", ["INBOX", "UNREAD"], AT),
            "m2": _message_document("m2", "t1", ["SENT"], LATER)
            | {"body": {"text": "one\n\ntwo\n", "html": "<p>one<p>two", "stored": "inline", "rendered": True}},
            "m3": _message_document("m3", "t3", ["Label_1", "TRASH"], LATER)
            | {
                "body": {"text": "", "html": "", "stored": "storage", "uri": f"gs://bodies/{LARGE}"},
                "attachments": [
                    {**PDF, "kind": "file", "uri": f"gs://bodies/{FILE}"},
                    {**PICTURE, "kind": "inline", "uri": f"gs://bodies/{SHOWN}"},
                ],
                "objects": sorted([LARGE, FILE, SHOWN]),
            },
        },
        "threads": {
            "t1": {
                "id": "t1",
                "messages": {"m1": {"labelIds": ["INBOX", "UNREAD"]}, "m2": {"labelIds": ["SENT"]}},
                "messageIds": ["m1", "m2"],
                "participants": [GRACE],
                "messageCount": 2,
                "unreadCount": 1,
                "unread": True,
                "starred": False,
                "hasAttachments": False,
                "labelIds": ["INBOX", "SENT", "UNREAD"],
                "firstMessageAt": AT,
                "lastMessageAt": LATER,
            },
            "t3": {
                "id": "t3",
                "messages": {"m3": {"labelIds": ["Label_1", "TRASH"]}},
                "messageIds": ["m3"],
                "participants": [GRACE],
                "messageCount": 1,
                "unreadCount": 0,
                "unread": False,
                "starred": False,
                "hasAttachments": True,
                "labelIds": ["Label_1", "TRASH"],
                "firstMessageAt": LATER,
                "lastMessageAt": LATER,
            },
        },
        "labels": copy.deepcopy(STATE["labels"]),
        "deltas": {
            f"{1:020d}": {
                "seq": 1,
                "changes": [
                    _change("messageAdded", "m1", "t1", ["INBOX", "UNREAD"]),
                    _change("messageAdded", "m2", "t9", ["SENT"]),
                    _change("messageAdded", "gone", "t1", ["INBOX"]),
                    _change("messageAdded", "m3", "t3", ["INBOX", "Label_1"]),
                ],
            },
            f"{2:020d}": {
                "seq": 2,
                "changes": [
                    _change("messageDeleted", "m2", "t9"),
                    _change("messageAdded", "m2", "t1", ["SENT"]),
                    _change("messageDeleted", "gone", "t1"),
                    _change("labelsChanged", "m3", "t3", ["TRASH"], ["INBOX"]),
                ],
            },
        },
        "parked": {},
    }


def _message_document(message_id: str, thread_id: str, labels: list[str], at: datetime) -> dict[str, Any]:
    body = {"text": f"text of {message_id}", "html": "", "stored": "inline", "uri": None, "rendered": False}
    headers = {"from": GRACE, "subject": "Hello"}
    document = {"id": message_id, "threadId": thread_id, "labelIds": labels, "internalDate": at}
    return {**document, "headers": headers, "body": body, "attachments": [], "objects": []}


def _change(
    kind: str, message_id: str, thread_id: str, added: list[str] | None = None, removed: list[str] | None = None
) -> dict[str, Any]:
    return {
        "type": kind,
        "messageId": message_id,
        "threadId": thread_id,
        "labelsAdded": added or [],
        "labelsRemoved": removed or [],
    }


def _compared(documents: dict[str, Any], at: datetime = AT) -> dict[str, Row]:
    rows = compare(Truth.from_state(STATE), Mirror(**documents, read=BUCKET.get), at, stores=True)
    return {row.name: row for row in rows}


def test_an_equal_mirror_has_no_difference() -> None:
    """No false alarm: drafts are not expected, a body in storage counts, a moved message is one message."""
    assert {name: row.differences for name, row in _compared(_documents()).items() if row.differences} == {}


@pytest.mark.parametrize(
    ("policy", "differs"),
    [
        ({}, set()),
        ({"drafts": True}, {"draft"}),
        ({"includeSpamTrash": False}, {"m3"}),
        ({"labelIds": ["SENT", "TRASH"]}, {"m1"}),
        ({"excludeLabelIds": ["UNREAD"]}, {"m1"}),
        ({"since": LATER}, {"m1"}),
        ({"since": AT}, set()),
    ],
)
def test_only_what_the_policy_wants_is_expected(policy: dict[str, Any], differs: set[str]) -> None:
    """What the mailbox document says is wanted has to be in the mirror, and nothing else may be there."""
    documents = _documents()
    documents["mailbox"]["policy"] = policy
    assert {difference.split(":")[0] for difference in _compared(documents)["messages"].differences} == differs


@pytest.mark.parametrize(("day", "differs"), [(20, set()), (21, set()), (22, {"m1", "m2", "m3"})])
def test_what_is_older_than_the_newest_days_is_not_expected(day: int, differs: set[str]) -> None:
    """Whole days count: yesterday's mail is one of the newest day's until midnight."""
    documents = _documents()
    documents["mailbox"]["policy"] = {"newestDays": 1}
    rows = _compared(documents, AT.replace(day=day, hour=23))
    assert {difference.split(":")[0] for difference in rows["messages"].differences} == differs


@pytest.mark.parametrize("field", [{"policy": {"bodies": False}}, {"content": "metadata"}], ids=["policy", "content"])
def test_a_body_is_not_expected_where_bodies_are_left_out(field: dict[str, Any]) -> None:
    """By the policy or by the deployment: each text that is mirrored against it is a difference, and each file."""
    documents = _documents()
    documents["mailbox"] |= field
    rows = _compared(documents)
    # Of a rendered one the text, the HTML, and that it says so.
    assert len(rows["characters of bodies"].differences) == 5
    assert len(rows["attachments"].differences) == 1
    for message in documents["messages"].values():
        message["body"] = {"text": "", "html": "", "stored": "none", "uri": None, "rendered": False}
        message |= {"attachments": [], "objects": []}
    documents["threads"]["t3"]["hasAttachments"] = False
    assert [row.differences for row in _compared(documents).values() if row.differences] == []


def test_a_sender_that_nobody_vouches_for_is_not_compared() -> None:
    """Where the header is broken, what the mirror makes of it is no difference, in messages and in threads."""
    documents, state = _documents(), copy.deepcopy(STATE)
    state["messages"]["m1"]["from"] = None
    documents["messages"]["m1"]["headers"]["from"] = {"name": "", "address": "nobody knows"}
    documents["threads"]["t1"]["participants"] = [{"name": "", "address": "nobody knows"}, GRACE]
    rows = compare(Truth.from_state(state), Mirror(**documents, read=BUCKET.get), AT, stores=True)
    assert [row.differences for row in rows if row.differences] == []


Plant = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("row", "names", "plant"),
    [
        pytest.param("messages", "m2", lambda d: d["messages"].pop("m2"), id="message-missing"),
        pytest.param(
            "messages",
            "draft",
            lambda d: d["messages"].update(draft=_message_document("draft", "t1", ["DRAFT"], LATER)),
            id="draft-mirrored",
        ),
        pytest.param("messages", "m1", lambda d: d["messages"]["m1"].update(internalDate=LATER), id="wrong-date"),
        pytest.param("messages", "m1", lambda d: d["messages"]["m1"].update(id="m2"), id="wrong-id"),
        pytest.param("threads", "t3", lambda d: d["threads"].pop("t3"), id="thread-missing"),
        pytest.param("threads", "t9", lambda d: d["threads"].update(t9=d["threads"]["t3"]), id="thread-too-many"),
        pytest.param(
            "threads", "m2", lambda d: d["messages"]["m2"].update(threadId="t3"), id="message-in-wrong-thread"
        ),
        pytest.param("threads", "t1", lambda d: d["threads"]["t1"]["messages"].pop("m2"), id="not-in-thread-document"),
        pytest.param("threads", "t1", lambda d: d["threads"]["t1"].update(messageCount=3), id="message-count"),
        pytest.param("threads", "t1", lambda d: d["threads"]["t1"].update(unreadCount=0), id="unread-count"),
        pytest.param("threads", "t1", lambda d: d["threads"]["t1"].update(unread=False), id="unread"),
        pytest.param("threads", "t1", lambda d: d["threads"]["t1"].update(starred=True), id="starred"),
        pytest.param("threads", "t3", lambda d: d["threads"]["t3"].update(hasAttachments=False), id="has-attachments"),
        pytest.param("threads", "t1", lambda d: d["threads"]["t1"]["messageIds"].reverse(), id="order-of-messages"),
        pytest.param("threads", "t1", lambda d: d["threads"]["t1"].update(participants=[]), id="participants"),
        pytest.param("threads", "t1", lambda d: d["threads"]["t1"]["labelIds"].remove("SENT"), id="thread-labels"),
        pytest.param("threads", "t1", lambda d: d["threads"]["t1"].update(lastMessageAt=AT), id="last-message"),
        pytest.param(
            "labels of messages", "m1", lambda d: d["messages"]["m1"]["labelIds"].remove("UNREAD"), id="message-labels"
        ),
        pytest.param(
            "labels of messages",
            "m1",
            lambda d: d["threads"]["t1"]["messages"]["m1"].update(labelIds=["INBOX"]),
            id="labels-in-thread-document",
        ),
        pytest.param("label list", "Label_1", lambda d: d["labels"].pop("Label_1"), id="label-missing"),
        pytest.param("label list", "Label_1", lambda d: d["labels"]["Label_1"].update(name="Old"), id="label-renamed"),
        pytest.param(
            "label list", "Label_1", lambda d: d["labels"]["Label_1"].update(color=None), id="label-colourless"
        ),
        pytest.param(
            "subjects and senders", "m1", lambda d: d["messages"]["m1"]["headers"].update(subject="Hi"), id="subject"
        ),
        pytest.param(
            "subjects and senders",
            "m1",
            lambda d: d["messages"]["m1"]["headers"].update({"from": {"name": "", "address": "grace@x"}}),
            id="sender",
        ),
        pytest.param(
            "characters of bodies", "m1", lambda d: d["messages"]["m1"]["body"].update(text=""), id="body-lost"
        ),
        pytest.param(
            "characters of bodies",
            "m3",
            lambda d: d["messages"]["m3"]["body"].update(uri="gs://bodies/none"),
            id="object-missing",
        ),
        pytest.param(
            "characters of bodies", "m3", lambda d: d["messages"]["m3"].update(body={"text": "lo"}), id="body-truncated"
        ),
        pytest.param(
            "characters of bodies", "m2", lambda d: d["messages"]["m2"]["body"].update(text="two one"), id="words-moved"
        ),
        pytest.param(
            "characters of bodies",
            "m2",
            lambda d: d["messages"]["m2"]["body"].update(rendered=False),
            id="not-rendered",
        ),
        pytest.param(
            "attachments", "m3", lambda d: d["messages"]["m3"]["attachments"][0].update(partId="2"), id="part-id"
        ),
        pytest.param(
            "attachments", "m3", lambda d: d["messages"]["m3"]["attachments"][0].update(filename="b"), id="file-name"
        ),
        pytest.param("attachments", "m3", lambda d: d["messages"]["m3"]["attachments"].pop(), id="attachment-missing"),
        pytest.param(
            "attachments", "m3", lambda d: d["messages"]["m3"]["attachments"][0].update(uri=None), id="bytes-not-kept"
        ),
        pytest.param(
            "objects in the bucket", "m3", lambda d: d["messages"]["m3"]["objects"].pop(), id="object-not-named"
        ),
        pytest.param(
            "objects in the bucket",
            "m3",
            lambda d: d["messages"]["m3"]["attachments"][0].update(uri=f"gs://bodies/{LARGE}x"),
            id="object-of-attachment-missing",
        ),
        pytest.param("delta log, replayed", f"{1:020d}", lambda d: d["deltas"].pop(f"{1:020d}"), id="gap"),
        pytest.param("delta log, replayed", "deltaSeq", lambda d: d["mailbox"].update(deltaSeq=3), id="seq-ahead"),
        pytest.param(
            "delta log, replayed", f"{2:020d}", lambda d: d["deltas"][f"{2:020d}"].update(seq=1), id="seq-in-document"
        ),
        pytest.param(
            "delta log, replayed", "m3", lambda d: d["deltas"][f"{2:020d}"]["changes"].pop(), id="change-not-logged"
        ),
        pytest.param(
            "delta log, replayed",
            "m2",
            lambda d: d["deltas"][f"{2:020d}"]["changes"].pop(1),
            id="message-not-added-again",
        ),
        pytest.param(
            "delta log, replayed",
            "m9",
            lambda d: d["deltas"][f"{2:020d}"]["changes"].append(_change("messageDeleted", "m9", "t9")),
            id="deleted-but-never-added",
        ),
        pytest.param(
            "delta log, replayed",
            "m1",
            lambda d: d["deltas"][f"{2:020d}"]["changes"].append(_change("labelsChanged", "m1", "t1", ["INBOX"])),
            id="label-added-twice",
        ),
        pytest.param(
            "counts as reported", "messages", lambda d: d["mailbox"]["counts"].update(messages=4), id="counts"
        ),
        pytest.param("parked messages", "m7", lambda d: d["parked"].update(m7={"reason": "odd"}), id="parked"),
        pytest.param("cursor", "cursor", lambda d: d["mailbox"].update(cursor=699), id="cursor-behind"),
    ],
)
def test_a_planted_difference_is_reported_with_its_id(row: str, names: str, plant: Plant) -> None:
    """Whatever is wrong in the mirror shows in its own row, by the id of what is wrong."""
    documents = _documents()
    plant(documents)
    differences = _compared(documents)[row].differences
    assert any(difference.startswith(f"{names}:") for difference in differences), differences


def test_an_object_holds_what_its_name_says() -> None:
    """Bytes that are not those of the name are a difference, be they ever so readable."""
    wrong = BUCKET | {f"gs://bodies/{LARGE}": b'{"text": "long", "html":""}'}
    rows = {
        row.name: row
        for row in compare(Truth.from_state(STATE), Mirror(**_documents(), read=wrong.get), AT, stores=True)
    }
    assert rows["objects in the bucket"].differences == (f"m3: {LARGE} holds something else",)
    assert rows["characters of bodies"].differences == ()


def _encode(value: object) -> object:
    if isinstance(value, datetime):
        return {"$time": value.astimezone(UTC).isoformat(timespec="microseconds")}
    raise TypeError(value)


def test_sqlite_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The documents of the mailbox asked for, and no other's, with times that can be compared."""
    documents = _documents()
    documents["parked"] = {"m7": {"reason": "odd"}}
    file = tmp_path / "mirror.sqlite"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE documents (collection TEXT, id TEXT, data TEXT)")
        rows = [("mailboxes", "a@x", documents["mailbox"]), ("mailboxes/b@x/messages", "other", {})]
        rows += [
            (f"mailboxes/a@x/{name}", key, document)
            for name, collection in documents.items()
            if name != "mailbox"
            for key, document in collection.items()
        ]
        database.executemany(
            "INSERT INTO documents VALUES (?, ?, ?)", [(*row[:2], json.dumps(row[2], default=_encode)) for row in rows]
        )
    mirror = read_sqlite(file, "a@x", "http://127.0.0.1:1")
    assert {name: getattr(mirror, name) for name in documents} == documents


def test_firestore_is_read_as_it_was_written(firestore_emulator: str) -> None:
    """Every kind of value comes back as itself, and a collection longer than a page is read to its end."""
    root = f"http://{firestore_emulator}/v1/projects/truth-reader/databases/(default)/documents/mailboxes"
    fields: dict[str, Any] = {
        "cursor": {"integerValue": "700"},
        "lag": {"doubleValue": 1.5},
        "phase": {"stringValue": "live"},
        "problem": {"nullValue": None},
        "policy": {"mapValue": {"fields": {"drafts": {"booleanValue": False}}}},
        "labels": {"mapValue": {}},
        "createdAt": {"timestampValue": "2026-11-20T12:00:00.5Z"},
        "names": {"arrayValue": {"values": [{"stringValue": "INBOX"}]}},
        "none": {"arrayValue": {}},
    }
    with requests.Session() as session:
        session.post(f"{root}?documentId=a@x", json={"fields": fields}, timeout=30).raise_for_status()
        for number in range(301):
            one = {"fields": {"number": {"integerValue": str(number)}}}
            session.post(f"{root}/a@x/messages?documentId=m{number}", json=one, timeout=30).raise_for_status()
    mirror = read_firestore(firestore_emulator, "truth-reader", "a@x", "http://127.0.0.1:1")
    assert mirror.mailbox == {
        "cursor": 700,
        "lag": 1.5,
        "phase": "live",
        "problem": None,
        "policy": {"drafts": False},
        "labels": {},
        "createdAt": datetime(2026, 11, 20, 12, 0, 0, 500_000, tzinfo=UTC),
        "names": ["INBOX"],
        "none": [],
    }
    assert {key: document["number"] for key, document in mirror.messages.items()} == {f"m{n}": n for n in range(301)}
    assert mirror.threads == {}
