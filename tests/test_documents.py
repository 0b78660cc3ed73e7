"""Values and documents: the round trip, and the field names that applications depend on."""

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mailmirror.documents import changes, from_document, to_document
from mailmirror.model import (
    Address,
    Attachment,
    Delta,
    Entry,
    Headers,
    Label,
    Lease,
    Mailbox,
    Message,
    Parked,
    Policy,
    Run,
    Thread,
    Watch,
)

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)

st.register_type_strategy(datetime, st.datetimes(timezones=st.just(UTC)))
st.register_type_strategy(float, st.floats(allow_nan=False))


@pytest.mark.parametrize("cls", [Mailbox, Message, Thread, Label, Delta, Parked, Run])
@settings(max_examples=50)
@given(data=st.data())
def test_round_trip(cls: type[Any], data: st.DataObject) -> None:
    """Any value comes back equal from its document."""
    value = data.draw(st.from_type(cls))
    assert from_document(cls, to_document(value)) == value


@pytest.mark.parametrize("cls", [Mailbox, Message, Thread, Label, Delta, Parked, Run])
@settings(max_examples=50)
@given(data=st.data())
def test_only_what_firestore_holds(cls: type[Any], data: st.DataObject) -> None:
    """A document holds nothing but strings, numbers, booleans, None, times, lists and maps by string."""
    _check(to_document(data.draw(st.from_type(cls))))


def _check(value: object) -> None:
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value)
        for item in value.values():
            _check(item)
    elif isinstance(value, list):
        for item in value:
            _check(item)
    else:
        assert value is None or type(value) in {str, int, float, bool, datetime}


@pytest.mark.parametrize("cls", [Mailbox, Message, Thread, Label, Delta, Parked, Run])
@settings(max_examples=50)
@given(data=st.data())
def test_changes_are_what_differs_between_whole_documents(cls: type[Any], data: st.DataObject) -> None:
    """The changed fields, found without whole documents, are those in which the whole documents differ."""
    before, other = data.draw(st.from_type(cls)), data.draw(st.from_type(cls))
    names = data.draw(st.sets(st.sampled_from([field.name for field in fields(cls)])))
    after = replace(before, **{name: getattr(other, name) for name in names})
    old, new = to_document(before), to_document(after)
    assert changes(before, after) == {name: value for name, value in new.items() if value != old[name]}
    assert changes(before, from_document(cls, old)) == {}


def test_lease_with_its_version() -> None:
    """A lease keeps its opaque version as it is."""
    version = object()
    lease = Lease("a", 1, NOW, 2, version)
    assert from_document(Lease, to_document(lease)) == lease


def _names(document: Mapping[str, Any]) -> set[str]:
    """The fields of a document, those of the maps in it as `map.field`."""
    found = set()
    for name, value in document.items():
        found |= {f"{name}.{inner}" for inner in _names(value)} if isinstance(value, dict) and value else {name}
    return found


def test_names_in_a_message() -> None:
    """The fields of a message document are the ones applications read."""
    message = Message("m", "t", frozenset(), 1, NOW)
    assert _names(to_document(message)) == {
        *("id", "threadId", "labelIds", "historyId", "internalDate", "sizeEstimate", "snippet", "attachments"),
        *("protection", "objects", "truncated", "headers.from.name", "headers.from.address"),
        *(f"headers.{name}" for name in ("to", "cc", "bcc", "replyTo", "subject", "date", "messageId")),
        *("headers.inReplyTo", "headers.references"),
        *(f"body.{name}" for name in ("text", "html", "stored", "uri", "rendered", "truncated")),
    }
    assert to_document(Attachment("1", "a.txt", "text/plain", 3)) == {
        "partId": "1",
        "filename": "a.txt",
        "mimeType": "text/plain",
        "size": 3,
        "kind": "file",
        "contentId": "",
        "uri": None,
    }


def test_names_in_a_mailbox() -> None:
    """The fields of a mailbox document that applications and queries depend on are there, by these names."""
    document = to_document(Mailbox("a@b", NOW, Watch(NOW), NOW))
    assert document.keys() >= {
        *("emailAddress", "phase", "cursor", "hint", "deltaSeq", "policy", "watch", "run", "coverage", "counts", "lag"),
        *(
            "lastNotificationAt",
            "lastSyncAt",
            "throttledUntil",
            "takeovers",
            "suspect",
            "quota",
            "problem",
            "wanted",
            "purge",
            "content",
            "agedTo",
        ),
        *("nextDueAt", "createdAt", "revision", "request", "requestDone"),
    }
    assert document["policy"] == {
        "includeSpamTrash": True,
        "drafts": False,
        "labelIds": [],
        "excludeLabelIds": [],
        "since": None,
        "newestDays": None,
        "bodies": True,
    }
    assert document["watch"] == {"expiresAt": NOW, "historyId": 0, "renewedAt": None, "error": None}


def test_names_in_a_delta_and_a_thread() -> None:
    """The fields of deltas, and of what a thread says of its messages, are the ones applications read."""
    assert to_document(Delta(1, NOW, "live", 2, (), NOW)).keys() == {
        *("seq", "at", "origin", "cursor", "changes", "expireAt")
    }
    entry = Entry(frozenset({"B", "A"}), NOW, 3, Address("Ada", "ada@example.com"))
    assert to_document(Thread("t", 4, {"m": entry}))["messages"]["m"] == {
        "labelIds": ["A", "B"],
        "internalDate": NOW,
        "historyId": 3,
        "from": {"name": "Ada", "address": "ada@example.com"},
        "subject": "",
        "snippet": "",
        "hasAttachments": False,
        "stored": "inline",
        "objects": 0,
    }


def test_sets_become_sorted_lists() -> None:
    """Equal sets make equal documents."""
    message = Message("m", "t", frozenset({"UNREAD", "INBOX", "Label_1"}), 1, NOW)
    assert to_document(message)["labelIds"] == ["INBOX", "Label_1", "UNREAD"]


def test_unknown_fields_are_ignored() -> None:
    """A document that a newer version wrote can be read."""
    document = {"from": {"name": "a", "address": "b", "future": 1}, "future": {"x": 1}}
    assert from_document(Headers, document) == Headers(from_=Address("a", "b"))


def test_a_sender_as_an_older_version_stored_it() -> None:
    """A thread whose messages have their senders as one text can be read."""
    entry = {"labelIds": [], "internalDate": NOW, "historyId": 1, "from": "Ada <ada@example.com>"}
    thread = from_document(Thread, {"id": "t", "historyId": 1, "messages": {"m": entry}})
    assert thread.messages["m"].from_ == Address("Ada <ada@example.com>")


def test_absent_fields_take_their_defaults() -> None:
    """A document that an older version wrote can be read."""
    document = {"emailAddress": "a@b", "createdAt": NOW, "watch": {"expiresAt": NOW}, "nextDueAt": NOW, "policy": {}}
    assert from_document(Mailbox, document) == Mailbox("a@b", NOW, Watch(NOW), NOW, policy=Policy())


def test_null_fields_take_their_defaults() -> None:
    """A field that an older version stored as null has its default, whatever its type is now."""
    document = {"emailAddress": "a@b", "createdAt": NOW, "watch": {"expiresAt": NOW}, "nextDueAt": NOW}
    nulls = dict.fromkeys(to_document(Mailbox("a@b", NOW, Watch(NOW), NOW)).keys() - document.keys())
    assert from_document(Mailbox, document | nulls) == Mailbox("a@b", NOW, Watch(NOW), NOW)


def test_absent_field_without_default() -> None:
    """A document that Mailmirror did not write is a KeyError that names the field."""
    with pytest.raises(KeyError, match="name"):
        from_document(Label, {"id": "x"})
