"""A workbench for the tests of the judge: a mirror filled by hand, and commits made up.

Knows: how right documents look, written out by hand from what the fake Gmail has. Does not know: the engine.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from mailmirror.model import Counts, Mailbox, Policy, Run, Watch
from mailmirror.slice import Document, Write

from local.gmail.history import Record
from local.gmail.mailbox import Mailbox as GmailMailbox
from tests.clock import VirtualClock
from tests.simulation.checker import Checker
from tests.simulation.violation import Violation
from tests.world import ADA, mail

LEASE = timedelta(seconds=120)
Documents = dict[str, Document]


@dataclass
class Shelf:
    """States and documents, as the checker reads them."""

    states: dict[str, Mailbox] = field(default_factory=dict)
    collections: dict[tuple[str, str], Documents] = field(default_factory=dict)


class Bench:
    """A fake Gmail, a mirror filled by hand, and the checker that watches."""

    def __init__(self, policy: Policy | None = None, units_per_day: int | None = None, *, stores: bool = False) -> None:
        self.clock = VirtualClock()
        self.gmail = GmailMailbox(ADA, clock=self.clock, rng=Random(1))
        self.shelf = Shelf()
        self.objects: dict[str, bytes] = {}
        self.checker = Checker(ADA, self.gmail, self.shelf, self.objects, units_per_day, stores=stores)
        append = self.gmail._state.log.append

        def recorded(record: Record) -> None:
            append(record)
            self.checker.recorded(record)

        self.gmail._state.log.append = recorded  # type: ignore[method-assign]
        now = self.clock.now()
        self.state = Mailbox(ADA, now, Watch(now), now, policy=policy or Policy())
        self.checker.policy(self.state.policy)

    # The mailbox and its documents

    @property
    def state(self) -> Mailbox:
        return self.shelf.states[ADA]

    @state.setter
    def state(self, state: Mailbox) -> None:
        self.shelf.states[ADA] = state

    @property
    def head(self) -> int:
        return self.gmail._state.log.head

    def documents(self, collection: str) -> Documents:
        return self.shelf.collections.setdefault((ADA, collection), {})

    def receive(self, subject: str = "Hello", **how: Any) -> str:
        return self.gmail.deliver(mail(subject), **how)

    def message(self, message_id: str, **changed: Any) -> Write:
        """A message document as Gmail has it now."""
        original = self.gmail._state.messages[message_id]
        truth = original.truth()
        document = {
            "id": message_id,
            "threadId": original.thread_id,
            "labelIds": sorted(original.label_ids),
            "historyId": original.history_id,
            "internalDate": datetime.fromtimestamp(original.internal_date // 1000, UTC),
            "sizeEstimate": len(original.raw),
            "snippet": original.snippet(),
            "headers": {"from": truth["from"], "subject": truth["subject"], "messageId": "", "references": []},
            "body": {**truth["body"], "stored": "inline", "uri": None, "truncated": False},
            "attachments": [{**each, "kind": "file", "uri": None} for each in truth["attachments"]],
            "objects": [],
            "truncated": [],
        }
        return Write("put", ("messages", message_id), document | changed)

    def thread(self, thread_id: str, *messages: Write, **changed: Any) -> Write:
        """A thread document made of message documents, oldest first."""
        documents = [message.data for message in messages if message.data]
        labels = {label for message in documents for label in message["labelIds"]}
        unread = sum("UNREAD" in message["labelIds"] for message in documents)
        document = {
            "id": thread_id,
            "historyId": max(message["historyId"] for message in documents),
            "subject": documents[0]["headers"]["subject"],
            "participants": [{"name": "Grace", "address": "grace@example.com"}],
            "messageIds": [message["id"] for message in documents],
            "messageCount": len(documents),
            "unreadCount": unread,
            "unread": unread > 0,
            "starred": "STARRED" in labels,
            "hasAttachments": any(message["attachments"] for message in documents),
            "labelIds": sorted(labels),
            "firstMessageAt": documents[0]["internalDate"],
            "lastMessageAt": documents[-1]["internalDate"],
            "snippet": documents[-1]["snippet"],
            "messages": {
                message["id"]: {
                    **{name: message[name] for name in ("labelIds", "internalDate", "historyId", "snippet")},
                    **{name: message["headers"][name] for name in ("from", "subject")},
                    "hasAttachments": bool(message["attachments"]),
                    "stored": message["body"].get("stored"),
                    "objects": len(message["objects"]),
                }
                for message in documents
            },
        }
        return Write("put", ("threads", thread_id), document | changed)

    def delta(self, *changes: Document, **changed: Any) -> Write:
        """The next delta."""
        now, seq = self.clock.now(), self.state.delta_seq + 1
        document = {"seq": seq, "at": now, "origin": "live", "cursor": self.head, "changes": list(changes)}
        document |= {"expireAt": now + timedelta(days=30)} | changed
        return Write("put", ("deltas", f"{seq:020d}"), document)

    def parked(self, message_id: str, **changed: Any) -> Write:
        """A parked message."""
        now = self.clock.now()
        document = {"id": message_id, "threadId": message_id, "reason": "It is not found.", "attempts": 1}
        document |= {"firstAt": now, "nextAttemptAt": now + timedelta(minutes=1)} | changed
        return Write("put", ("parked", message_id), document)

    # What workers do

    def acquire(self, task: object = "worker") -> None:
        self.checker.acquired(task, self.clock.now(), self.clock.now() + LEASE)

    def commit(self, *writes: Write, task: object = "worker", release: bool = False, **fields: Any) -> None:
        """Store what a commit stores, with counts and deltaSeq that fit unless they are given, and have it judged."""
        for write in writes:
            documents = self.documents("/".join(write.path[:-1]))
            if write.kind == "delete":
                documents.pop(write.path[-1], None)
            else:
                old = documents.get(write.path[-1], {}) if write.kind == "merge" else {}
                documents[write.path[-1]] = {**old, **(write.data or {})}
        before = self.state
        stored: dict[str, Any] = {
            "counts": Counts(*(len(self.documents(name)) for name in ("messages", "threads", "parked"))),
            "delta_seq": before.delta_seq + any(write.path[0] == "deltas" for write in writes),
        }
        self.state = replace(before, **(stored | fields))
        now = self.clock.now()
        self.checker.committed(task, before, self.state, writes, at=now, expires_at=now + LEASE, release=release)

    def connect(self) -> None:
        """The first sync of a mailbox without mail."""
        self.acquire()
        run = self.run("first")
        self.commit(cursor=self.head, run=run)
        self.commit(run=replace(run, stage="finished"), phase="live")

    def run(self, mode: Any = "audit", *, stage: Any = "listing", anchor: int = 0, name: str = "run-1") -> Run:
        return Run(name, mode, "It was asked for.", anchor, self.head, self.clock.now(), stage=stage)

    def bring(self, message_id: str, cursor: int | None = None, **fields: Any) -> None:
        """Mirror a message that is alone in its thread, as live sync does; up to the head of history."""
        message = self.message(message_id)
        self._tell(added(message), message, self.thread(thread_of(message), message), cursor=cursor, **fields)

    def relabel(self, message_id: str) -> None:
        """Mirror the labels of a message that is alone in its thread."""
        old = set(self.documents("messages")[message_id]["labelIds"])
        message = self.message(message_id)
        new = set((message.data or {})["labelIds"])
        change = changed(message, "labelsChanged", sorted(new - old), sorted(old - new))
        self._tell(change, message, self.thread(thread_of(message), message))

    def remove(self, message_id: str, cursor: int | None = None) -> None:
        """Take a message that is alone in its thread out of the mirror."""
        old = Write("put", ("messages", message_id), self.documents("messages")[message_id])
        gone = changed(old, "messageDeleted")
        self._tell(gone, Write("delete", old.path), Write("delete", ("threads", thread_of(old))), cursor=cursor)

    def _tell(self, change: Document, *writes: Write, cursor: int | None = None, **fields: Any) -> None:
        cursor = self.head if cursor is None else cursor
        self.commit(*writes, self.delta(change, cursor=cursor), cursor=cursor, **fields)

    def edit(self, collection: str, document_id: str, **changes: Any) -> None:
        """Change a document behind everybody's back."""
        documents = self.documents(collection)
        documents[document_id] = {**documents[document_id], **changes}


def thread_of(message: Write) -> str:
    """Return the thread that a message document names."""
    assert message.data is not None
    return str(message.data["threadId"])


def changed(message: Write, kind: str, add: list[str] | None = None, remove: list[str] | None = None) -> Document:
    """Return a delta's change of a message."""
    change = {"type": kind, "messageId": message.path[-1], "threadId": thread_of(message)}
    return change | {"labelsAdded": add or [], "labelsRemoved": remove or []}


def added(message: Write) -> Document:
    """Return a delta's change for a message that is new."""
    assert message.data is not None
    return changed(message, "messageAdded", list(message.data["labelIds"]))


def refused(match: str) -> Any:
    """Expect a violation whose sentence matches."""
    return pytest.raises(Violation, match=match)


def mirrored(bench: Bench) -> tuple[str, str]:
    """Mirror two messages of one thread, with their labels; return them."""
    first = bench.receive("One")
    bench.clock.advance(1)
    second = bench.receive("Two", thread_id=first)
    messages = [bench.message(first), bench.message(second)]
    labels = [
        Write("put", ("labels", name), {"id": name, "name": name, "type": "system"} | VISIBILITIES)
        for name in ("INBOX", "UNREAD")
    ]
    bench.commit(
        *messages, bench.thread(first, *messages), bench.delta(*map(added, messages)), *labels, cursor=bench.head
    )
    return first, second


VISIBILITIES = {"messageListVisibility": None, "labelListVisibility": None}


def said(bench: Bench, match: str) -> bool:
    """Whether one of the differences matches."""
    return any(re.search(match, sentence) for sentence in bench.checker.differences())


def store_large(bench: Bench, text: str = "Hi.") -> tuple[str, str]:
    """Mirror a message whose body is an object; return both."""
    message_id = bench.gmail.deliver(mail(text=text))
    message, name = large(bench, message_id)
    bench.commit(message, bench.thread(message_id, message), bench.delta(added(message)), cursor=bench.head)
    return message_id, name


def large(bench: Bench, message_id: str) -> tuple[Write, str]:
    """Write the body of a message into the bucket; return its document and the object."""
    name = put(bench, json.dumps(bench.gmail._state.messages[message_id].truth()["body"]).encode())
    body = {"text": "", "html": "", "stored": "storage", "uri": f"memory://{name}"}
    return bench.message(message_id, body=body, objects=[name]), name


def put(bench: Bench, data: bytes, task: object = "worker") -> str:
    """Write an object under the name that it has to have; return that."""
    name = f"{ADA}/{hashlib.sha256(data).hexdigest()}"
    bench.objects[name] = data
    bench.checker.wrote(task, name)
    return name
