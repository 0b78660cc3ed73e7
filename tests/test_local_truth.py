"""The comparison can fail: each kind of difference, planted in a mirror that is otherwise equal, is found and named."""

import copy
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from local.truth import Mirror, Row, Truth, compare, read_firestore, read_sqlite

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
LATER = datetime(2026, 11, 20, 13, tzinfo=UTC)
BUCKET = {"gs://bodies/m3": {"text": "long", "html": ""}}
STATE: dict[str, Any] = {
    "messages": {
        "m1": {"threadId": "t1", "labelIds": ["INBOX", "UNREAD"], "internalDate": 1795176000000},
        "m2": {"threadId": "t1", "labelIds": ["SENT"], "internalDate": 1795179600000},
        "m3": {"threadId": "t3", "labelIds": ["Label_1", "TRASH"], "internalDate": 1795179600000},
        "draft": {"threadId": "t1", "labelIds": ["DRAFT"], "internalDate": 1795179600000},
    },
    "labels": {
        "INBOX": {"id": "INBOX", "name": "INBOX", "type": "system"},
        "Label_1": {"id": "Label_1", "name": "Work", "type": "user", "labelListVisibility": "labelShow"},
    },
    "historyId": 700,
}
for _key, _message in STATE["messages"].items():
    _message["body"] = {"text": "long" if _key == "m3" else f"text of {_key}", "html": ""}


def _documents() -> dict[str, Any]:
    """A mirror that equals STATE."""
    return {
        "mailbox": {"cursor": 700, "deltaSeq": 2, "counts": {"messages": 3, "threads": 2}},
        "messages": {
            "m1": _message_document("m1", "t1", ["INBOX", "UNREAD"], AT),
            "m2": _message_document("m2", "t1", ["SENT"], LATER),
            "m3": _message_document("m3", "t3", ["Label_1", "TRASH"], LATER)
            | {"body": {"text": "", "html": "", "stored": "storage", "uri": "gs://bodies/m3"}},
        },
        "threads": {
            "t1": {
                "id": "t1",
                "messages": {"m1": {"labelIds": ["INBOX", "UNREAD"]}, "m2": {"labelIds": ["SENT"]}},
                "messageCount": 2,
                "unreadCount": 1,
                "labelIds": ["INBOX", "SENT", "UNREAD"],
                "firstMessageAt": AT,
                "lastMessageAt": LATER,
            },
            "t3": {
                "id": "t3",
                "messages": {"m3": {"labelIds": ["Label_1", "TRASH"]}},
                "messageCount": 1,
                "unreadCount": 0,
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
    body = {"text": f"text of {message_id}", "html": "", "stored": "inline", "uri": None}
    return {"id": message_id, "threadId": thread_id, "labelIds": labels, "internalDate": at, "body": body}


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


def _compared(documents: dict[str, Any]) -> dict[str, Row]:
    rows = compare(Truth.from_state(STATE), Mirror(**documents, body=BUCKET.get))
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


def test_a_body_is_not_expected_where_the_policy_leaves_bodies_out() -> None:
    """Each text that is mirrored against the policy is a difference; without it there is none."""
    documents = _documents()
    documents["mailbox"]["policy"] = {"bodies": False}
    assert len(_compared(documents)["characters of bodies"].differences) == 3
    for message in documents["messages"].values():
        message["body"] = {"text": "", "html": "", "stored": "none", "uri": None}
    assert _compared(documents)["characters of bodies"].differences == ()


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
