"""The comparison "mailbox against mirror": what Gmail has, beside what the database and the bucket have, by field.

Knows: what the mirror's documents and objects must contain. Does not know: how they are read (`sides`), or how they
came about. Law: nothing here is shared with the engine, not even a client library, so that a mistake made there cannot
hide itself here.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from local.gmail.truth import seen
from local.sides import Document, Mirror, Truth

Labels = frozenset[str]
Left = TypeVar("Left")
Right = TypeVar("Right")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the comparison.

    Attributes:
        name: what is compared.
        mailbox, mirror: how much of it there is on either side, for people.
        differences: one sentence each, beginning with the id it is about; empty when both are equal.
    """

    name: str
    mailbox: str
    mirror: str
    differences: tuple[str, ...] = ()


def compare(truth: Truth, mirror: Mirror, at: datetime | None = None, *, stores: bool = False) -> list[Row]:
    """Compare everything that the mailbox's policy wants; both sides must be at rest.

    Args:
        truth: the mailbox.
        mirror: its mirror.
        at: which day it is; None: today.
        stores: whether the deployment keeps the bytes of attachments.
    """
    truth = Truth(
        truth.everything,
        truth.labels,
        truth.history_id,
        mirror.mailbox.get("policy") or {},
        bare=mirror.mailbox.get("content") == "metadata",
        stores=stores,
        at=at or truth.at,
    )
    parts = (
        *(_messages, _threads, _message_labels, _labels, _headers, _bodies, _attachments, _objects),
        *(_delta_log, _counts, _parked, _cursor),
    )
    return [part(truth, mirror) for part in parts]


def _messages(truth: Truth, mirror: Mirror) -> Row:
    found = [f"{each}: not in the mirror" for each in _only(truth.messages, mirror.messages)]
    found += [f"{each}: not in the mailbox" for each in _only(mirror.messages, truth.messages)]
    for message_id, document, message in _both(mirror.messages, truth.messages):
        if document.get("id") != message_id:
            found.append(f"{message_id}: its document says it is {document.get('id')}")
        if _milliseconds(document.get("internalDate")) != message["internalDate"]:
            found.append(f"{message_id}: internalDate {document.get('internalDate')}, not {message['internalDate']}")
    return Row("messages", _number(truth.messages), _number(mirror.messages), tuple(found))


def _threads(truth: Truth, mirror: Mirror) -> Row:
    found = [f"{each}: no such thread in the mirror" for each in _only(truth.threads, mirror.threads)]
    found += [f"{each}: no such thread in the mailbox" for each in _only(mirror.threads, truth.threads)]
    for message_id, document, message in _both(mirror.messages, truth.messages):
        if document.get("threadId") != message["threadId"]:
            found.append(f"{message_id}: in thread {document.get('threadId')}, not {message['threadId']}")
    for thread_id, document, message_ids in _both(mirror.threads, truth.threads):
        messages = [truth.messages[each] for each in _by_age(truth, message_ids)]
        labels = {label for message in messages for label in message["labelIds"]}
        unread = sum("UNREAD" in message["labelIds"] for message in messages)
        expected = {
            "id": thread_id,
            "messages": sorted(message_ids),
            "messageIds": _by_age(truth, message_ids),
            "messageCount": len(messages),
            "unreadCount": unread,
            "unread": unread > 0,
            "starred": "STARRED" in labels,
            "hasAttachments": any(each["file"] for message in messages for each in message["attachments"]),
            "labelIds": sorted(labels),
            "participants": _senders(messages),
            "firstMessageAt": messages[0]["internalDate"],
            "lastMessageAt": messages[-1]["internalDate"],
        }
        stored = {
            **{name: document.get(name) for name in ("id", "messageIds", "messageCount", "unreadCount", "unread")},
            **{name: document.get(name) for name in ("starred", "hasAttachments")},
            "messages": sorted(document.get("messages", {})),
            "labelIds": sorted(document.get("labelIds", ())),
            "participants": [each["address"] for each in document.get("participants", ())],
            "firstMessageAt": _milliseconds(document.get("firstMessageAt")),
            "lastMessageAt": _milliseconds(document.get("lastMessageAt")),
        }
        if expected["participants"] is None:
            del expected["participants"], stored["participants"]
        found += [f"{thread_id}: {name} {stored[name]}, not {expected[name]}" for name in _unequal(stored, expected)]
    return Row("threads", _number(truth.threads), _number(mirror.threads), tuple(found))


def _message_labels(truth: Truth, mirror: Mirror) -> Row:
    found = []
    for message_id, document, message in _both(mirror.messages, truth.messages):
        expected = sorted(message["labelIds"])
        if sorted(document.get("labelIds", ())) != expected:
            found.append(f"{message_id}: labels {sorted(document.get('labelIds', ()))}, not {expected}")
        entry = mirror.threads.get(message["threadId"], {}).get("messages", {}).get(message_id)
        if entry is not None and sorted(entry.get("labelIds", ())) != expected:
            found.append(f"{message_id}: labels {sorted(entry.get('labelIds', ()))} in its thread, not {expected}")
    in_mailbox = sum(len(message["labelIds"]) for message in truth.messages.values())
    in_mirror = sum(len(document.get("labelIds", ())) for document in mirror.messages.values())
    return Row("labels of messages", f"{in_mailbox:,}", f"{in_mirror:,}", tuple(found))


def _labels(truth: Truth, mirror: Mirror) -> Row:
    found = [f"{each}: not in the mirror" for each in _only(truth.labels, mirror.labels)]
    found += [f"{each}: not in the mailbox" for each in _only(mirror.labels, truth.labels)]
    for label_id, document, label in _both(mirror.labels, truth.labels):
        found += [f"{label_id}: {name} {document.get(name)!r}" for name in label if document.get(name) != label[name]]
    return Row("label list", _number(truth.labels), _number(mirror.labels), tuple(found))


def _headers(truth: Truth, mirror: Mirror) -> Row:
    """Subjects, and senders where the mailbox vouches for them."""
    found = []
    for message_id, document, message in _both(mirror.messages, truth.messages):
        headers = document.get("headers", {})
        stored = {"subject": headers.get("subject"), "from": headers.get("from")}
        expected = {"subject": message["subject"], "from": message["from"] or stored["from"]}
        found += [
            f"{message_id}: {name} {stored[name]!r:.80}, not {expected[name]!r:.80}"
            for name in _unequal(stored, expected)
        ]
    in_mailbox = len(_addresses(truth.messages.values()))
    in_mirror = len(_addresses(document.get("headers", {}) for document in mirror.messages.values()))
    return Row("subjects and senders", f"{in_mailbox:,} senders", f"{in_mirror:,} senders", tuple(found))


def _bodies(truth: Truth, mirror: Mirror) -> Row:
    found = []
    in_storage = in_mirror = in_mailbox = 0
    for message_id, document, message in _both(mirror.messages, truth.messages):
        body: Document | None = document.get("body", {})
        if body and body.get("stored") == "storage":
            in_storage += 1
            data = mirror.read(str(body.get("uri")))
            if data is None:
                found.append(f"{message_id}: there is no object {document['body'].get('uri')}")
                continue
            body = json.loads(data)
        stored = {name: (body or {}).get(name) or "" for name in ("text", "html")}
        expected = dict(message["body"])
        for name in message["inWords"]:
            there = seen(stored[name]) if name == "html" else stored[name]
            stored[name], expected[name] = (" ".join(re.findall(r"\w+", each)) for each in (there, expected[name]))
        in_mailbox += sum(map(len, expected.values()))
        in_mirror += sum(map(len, stored.values()))
        found += [
            f"{message_id}: {name} {_excerpt(stored[name])}, not {_excerpt(expected[name])}"
            for name in _unequal(stored, expected)
        ]
        if document.get("body", {}).get("rendered", False) != message["rendered"]:
            found.append(f"{message_id}: rendered is {document['body'].get('rendered')}")
    large = f", {in_storage} in storage" if in_storage else ""
    return Row("characters of bodies", f"{in_mailbox:,}", f"{in_mirror:,}{large}", tuple(found))


def _attachments(truth: Truth, mirror: Mirror) -> Row:
    """What there is besides text: where, how it is called, of which type and size."""
    found = []
    in_mailbox = in_mirror = kept = 0
    for message_id, document, message in _both(mirror.messages, truth.messages):
        names = ("partId", "filename", "mimeType", "size")
        expected = sorted([each[name] for name in names] for each in message["attachments"])
        stored = sorted([each.get(name) for name in names] for each in document.get("attachments", ()))
        if stored != expected:
            found.append(f"{message_id}: {stored}, not {expected}")
        with_bytes = sum(each.get("uri") is not None for each in document.get("attachments", ()))
        if with_bytes != (len(stored) if truth.stores else 0):
            found.append(f"{message_id}: of {len(stored)} attachments {with_bytes} are kept with their bytes")
        in_mailbox += len(expected)
        in_mirror += len(stored)
        kept += with_bytes
    bytes_kept = f", {kept:,} with their bytes" if kept else ""
    return Row("attachments", f"{in_mailbox:,}", f"{in_mirror:,}{bytes_kept}", tuple(found))


def _objects(_truth: Truth, mirror: Mirror) -> Row:
    """Each object that a message names is there and holds what its name says, and no message lacks a name."""
    found = []
    prefix = f"{mirror.mailbox.get('emailAddress')}/"
    named: set[str] = set()
    for message_id, document in sorted(mirror.messages.items()):
        uris = [document.get("body", {}).get("uri"), *(each.get("uri") for each in document.get("attachments", ()))]
        used = {str(uri).removeprefix("gs://").partition("/")[2]: str(uri) for uri in uris if uri}
        if sorted(used) != list(document.get("objects", ())):
            found.append(f"{message_id}: names the objects {document.get('objects')}, and has {sorted(used)}")
        for name in sorted(used.keys() - named):
            data = mirror.read(used[name])
            if data is None or name != f"{prefix}{hashlib.sha256(data).hexdigest()}":
                found.append(f"{message_id}: {name} {'is not there' if data is None else 'holds something else'}")
        named |= used.keys()
    return Row("objects in the bucket", "", f"{len(named):,}", tuple(found))


def _delta_log(truth: Truth, mirror: Mirror) -> Row:
    """Whoever starts from nothing and applies every delta in order must end with exactly the mirror."""
    count = len(mirror.deltas)
    found = [
        f"{each}: a gap, this delta does not exist" for each in _only(map(_seq, range(1, count + 1)), mirror.deltas)
    ]
    if mirror.mailbox.get("deltaSeq") != count:
        found.append(f"deltaSeq: {mirror.mailbox.get('deltaSeq')}, but there are {count} deltas")
    replayed: dict[str, tuple[str, Labels]] = {}
    for name, delta in sorted(mirror.deltas.items()):
        if _seq(delta.get("seq", 0)) != name:
            found.append(f"{name}: its document says it is {delta.get('seq')}")
        for change in delta.get("changes", ()):
            complaint = _apply(change, replayed)
            if complaint:
                found.append(f"{change['messageId']}: delta {name.lstrip('0')} {complaint}")
    stored = {key: (each.get("threadId"), frozenset(each.get("labelIds", ()))) for key, each in mirror.messages.items()}
    found += [
        f"{message_id}: {_state(replayed.get(message_id))}; mirror: {_state(stored.get(message_id))}"
        for message_id in sorted(replayed.keys() | stored.keys())
        if replayed.get(message_id) != stored.get(message_id)
    ]
    return Row("delta log, replayed", _number(truth.messages), f"{len(replayed):,} by {count:,} deltas", tuple(found))


def _counts(truth: Truth, mirror: Mirror) -> Row:
    counts = mirror.mailbox.get("counts", {})
    expected = {"messages": len(truth.messages), "threads": len(truth.threads)}
    found = [
        f"{name}: {counts.get(name)}, not {expected[name]}" for name in expected if counts.get(name) != expected[name]
    ]
    shown = f"{counts.get('messages', 0):,} in {counts.get('threads', 0):,}"
    return Row("counts as reported", f"{expected['messages']:,} in {expected['threads']:,}", shown, tuple(found))


def _parked(_truth: Truth, mirror: Mirror) -> Row:
    found = tuple(f"{each}: parked: {document.get('reason')}" for each, document in mirror.parked.items())
    return Row("parked messages", "0", _number(mirror.parked), found)


def _cursor(truth: Truth, mirror: Mirror) -> Row:
    cursor = mirror.mailbox.get("cursor")
    found = () if cursor == truth.history_id else (f"cursor: {cursor}, not {truth.history_id}",)
    return Row("cursor", str(truth.history_id), str(cursor), found)


def _apply(change: Document, state: dict[str, tuple[str, Labels]]) -> str | None:
    """Apply one entry of a delta; return what is wrong with it, if anything."""
    message_id, thread_id = change["messageId"], change["threadId"]
    added, removed = frozenset(change.get("labelsAdded", ())), frozenset(change.get("labelsRemoved", ()))
    known = state.get(message_id)
    match change["type"]:
        case "messageAdded":
            state[message_id] = (thread_id, added)
            return None
        case "messageDeleted":
            # Of a message that has moved, only the old thread's copy is deleted.
            if known is None:
                return "deletes a message that was never added"
            if known[0] == thread_id:
                del state[message_id]
            return None
        case "labelsChanged":
            if known is None:
                return "changes the labels of a message that was never added"
            if (added & known[1]) or (removed - known[1]):
                return f"adds {sorted(added)} and removes {sorted(removed)} where there were {sorted(known[1])}"
            state[message_id] = (known[0], (known[1] | added) - removed)
            return None
        case other:
            return f"has the unknown type {other}"


# Words for people, and the small comparisons.


def _only(these: Iterable[str], not_those: Iterable[str]) -> list[str]:
    return sorted(set(these) - set(not_those))


def _both(these: Mapping[str, Left], those: Mapping[str, Right]) -> Iterator[tuple[str, Left, Right]]:
    for key in sorted(these.keys() & those.keys()):
        yield key, these[key], those[key]


def _unequal(one: Document, other: Document) -> list[str]:
    return [name for name in one if one[name] != other[name]]


def _by_age(truth: Truth, message_ids: Iterable[str]) -> list[str]:
    return sorted(message_ids, key=lambda each: (truth.messages[each]["internalDate"], each))


def _senders(messages: Sequence[Document]) -> list[str] | None:
    """Who wrote, the first first; None where the mailbox does not vouch for all of them."""
    if not all(message["from"] for message in messages):
        return None
    return list(dict.fromkeys(message["from"]["address"] for message in messages))


def _addresses(messages: Iterable[Document]) -> set[str]:
    return {(message.get("from") or {}).get("address", "") for message in messages}


def _milliseconds(at: object) -> int | None:
    return round(at.astimezone(UTC).timestamp() * 1000) if isinstance(at, datetime) else None


def _seq(number: int) -> str:
    return f"{number:020d}"


def _number(things: Mapping[str, object]) -> str:
    return f"{len(things):,}"


def _excerpt(text: str) -> str:
    return f"of {len(text)} characters {text[:30]!r}"


def _state(state: tuple[str | None, Labels] | None) -> str:
    return f"in {state[0]} with {sorted(state[1])}" if state else "absent"
