"""The comparison "mailbox against mirror": what Gmail has, beside what the database has, field by field.

Knows: what the fake Gmail says of itself (`/state`), how the mirror's documents are stored, and what they must contain.
Does not know: how they came about. Law: nothing here is shared with the engine, not even a client library, so that a
mistake made there cannot hide itself here.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import requests

Document = Mapping[str, Any]
Documents = Mapping[str, Document]
Labels = frozenset[str]
Left = TypeVar("Left")
Right = TypeVar("Right")

COLLECTIONS = ("messages", "threads", "labels", "deltas", "parked")


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


@dataclass(frozen=True, slots=True)
class Mirror:
    """The documents of one mailbox as stored; times are aware datetimes.

    Attributes:
        mailbox: the mailbox document itself.
        body: reads an object of the body bucket by its URI, None when there is none.
    """

    mailbox: Document
    messages: Documents
    threads: Documents
    labels: Documents
    deltas: Documents
    parked: Documents
    body: Callable[[str], Document | None]


@dataclass(frozen=True, slots=True)
class Truth:
    """A mailbox, and the part of it that a policy mirrors.

    Attributes:
        everything: all messages there are.
        policy: as the mailbox document has it; without one, everything but drafts.
        messages: those that the policy wants, as it wants them.
        threads: which of them make a thread.
    """

    everything: Documents
    labels: Documents
    history_id: int
    policy: Document = field(default_factory=dict)
    messages: Documents = field(init=False)
    threads: Mapping[str, frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        """Derive what the policy wants."""
        messages = {key: self._wanted(value) for key, value in self.everything.items() if self._wants(value)}
        threads: dict[str, set[str]] = {}
        for message_id, message in messages.items():
            threads.setdefault(message["threadId"], set()).add(message_id)
        object.__setattr__(self, "messages", messages)
        object.__setattr__(self, "threads", {thread_id: frozenset(ids) for thread_id, ids in threads.items()})

    @classmethod
    def from_state(cls, state: Document) -> "Truth":
        """Read the answer of the fake's `/state`."""
        return cls(state["messages"], state["labels"], int(state["historyId"]))

    def _wants(self, message: Document) -> bool:
        labels, since = set(message["labelIds"]), self.policy.get("since")
        unwanted = {*self.policy.get("excludeLabelIds", ()), *(() if self.policy.get("drafts") else ("DRAFT",))}
        if not self.policy.get("includeSpamTrash", True):
            unwanted |= {"SPAM", "TRASH"}
        wanted = set(self.policy.get("labelIds", ())) or labels
        old = since is not None and message["internalDate"] < since.timestamp() * 1000
        return not old and not labels & unwanted and (not wanted or bool(labels & wanted))

    def _wanted(self, message: Document) -> Document:
        return message if self.policy.get("bodies", True) else {**message, "body": {"text": "", "html": ""}}


def compare(truth: Truth, mirror: Mirror) -> list[Row]:
    """Compare everything that the mailbox's policy wants; both sides must be at rest."""
    truth = Truth(truth.everything, truth.labels, truth.history_id, mirror.mailbox.get("policy") or {})
    parts = (_messages, _threads, _message_labels, _labels, _bodies, _delta_log, _counts, _parked, _cursor)
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
        messages = [truth.messages[each] for each in message_ids]
        expected = {
            "id": thread_id,
            "messages": sorted(message_ids),
            "messageCount": len(messages),
            "unreadCount": sum("UNREAD" in message["labelIds"] for message in messages),
            "labelIds": sorted({label for message in messages for label in message["labelIds"]}),
            "firstMessageAt": min(message["internalDate"] for message in messages),
            "lastMessageAt": max(message["internalDate"] for message in messages),
        }
        stored = {
            **{name: document.get(name) for name in ("id", "messageCount", "unreadCount")},
            "messages": sorted(document.get("messages", {})),
            "labelIds": sorted(document.get("labelIds", ())),
            "firstMessageAt": _milliseconds(document.get("firstMessageAt")),
            "lastMessageAt": _milliseconds(document.get("lastMessageAt")),
        }
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


def _bodies(truth: Truth, mirror: Mirror) -> Row:
    found = []
    in_storage = in_mirror = 0
    for message_id, document, message in _both(mirror.messages, truth.messages):
        body: Document | None = document.get("body", {})
        if body and body.get("stored") == "storage":
            in_storage += 1
            body = mirror.body(str(body.get("uri")))
            if body is None:
                found.append(f"{message_id}: there is no object {document['body'].get('uri')}")
                continue
        stored = {name: (body or {}).get(name) or "" for name in ("text", "html")}
        in_mirror += sum(map(len, stored.values()))
        found += [
            f"{message_id}: {name} {_excerpt(stored[name])}, not {_excerpt(message['body'][name])}"
            for name in _unequal(stored, message["body"])
        ]
    in_mailbox = sum(len(text) for message in truth.messages.values() for text in message["body"].values())
    large = f", {in_storage} in storage" if in_storage else ""
    return Row("characters of bodies", f"{in_mailbox:,}", f"{in_mirror:,}{large}", tuple(found))


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


# Reading either side.


def read_truth(gmail: str, mailbox: str) -> Truth:
    """Ask the fake Gmail for the true state of a mailbox."""
    return Truth.from_state(_get(f"{gmail}/control/mailboxes/{quote(mailbox)}/state"))


def read_sqlite(file: Path, mailbox: str, storage: str) -> Mirror:
    """Read the mirror from SQLite: a table of JSON documents, a time written as `{"$time": …}`."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, isolation_level=None)) as database:
        database.execute("BEGIN")  # one moment for all collections
        collections = {name: _read_documents(database, f"mailboxes/{mailbox}/{name}") for name in COLLECTIONS}
        document = _read_documents(database, "mailboxes").get(mailbox, {})
    return Mirror(mailbox=document, **collections, body=_bucket_reader(storage))


def read_firestore(host: str, project: str, mailbox: str, storage: str) -> Mirror:
    """Read the mirror from the Firestore emulator, by its REST API."""
    root = f"http://{host}/v1/projects/{project}/databases/(default)/documents/mailboxes/{quote(mailbox)}"
    collections = {name: dict(_list_documents(f"{root}/{name}")) for name in COLLECTIONS}
    return Mirror(mailbox=_fields(_get(root)), **collections, body=_bucket_reader(storage))


def _read_documents(database: sqlite3.Connection, collection: str) -> Documents:
    rows = database.execute("SELECT id, data FROM documents WHERE collection = ?", (collection,))
    return {key: json.loads(data, object_hook=_with_time) for key, data in rows}


def _with_time(value: dict[str, Any]) -> Any:
    return datetime.fromisoformat(value["$time"]) if value.keys() == {"$time"} else value


def _list_documents(url: str) -> Iterator[tuple[str, Document]]:
    token = ""
    while True:
        page = _get(f"{url}?pageSize=300&pageToken={quote(token)}")
        for document in page.get("documents", ()):
            yield document["name"].rpartition("/")[2], _fields(document)
        token = page.get("nextPageToken", "")
        if not token:
            return


def _fields(document: Document) -> dict[str, Any]:
    return {name: _value(value) for name, value in document.get("fields", {}).items()}


def _value(value: Document) -> Any:
    """A Firestore REST value, which names its type, as the plain value."""
    [(kind, content)] = value.items()
    match kind:
        case "mapValue":
            return _fields(content)
        case "arrayValue":
            return [_value(item) for item in content.get("values", ())]
        case "integerValue":
            return int(content)
        case "timestampValue":
            return datetime.fromisoformat(content)
        case _:
            return content


def _bucket_reader(storage: str) -> Callable[[str], Document | None]:
    def read(uri: str) -> Document | None:
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        with _session() as session:
            answer = session.get(f"{storage}/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media", timeout=30)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        body: Document = json.loads(answer.content)
        return body

    return read


def _get(url: str) -> dict[str, Any]:
    with _session() as session:
        answer = session.get(url, headers={"Authorization": "Bearer owner"}, timeout=60)
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


# Words for people, and the small comparisons.


def _only(these: Iterable[str], not_those: Iterable[str]) -> list[str]:
    return sorted(set(these) - set(not_those))


def _both(these: Mapping[str, Left], those: Mapping[str, Right]) -> Iterator[tuple[str, Left, Right]]:
    for key in sorted(these.keys() & those.keys()):
        yield key, these[key], those[key]


def _unequal(one: Document, other: Document) -> list[str]:
    return [name for name in one if one[name] != other[name]]


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
