"""A whole Mailmirror in one process: fake Gmail, SQLite in memory, virtual clock, the real application.

Knows: how to wire it, how to read the mirror straight from the database, and how it must compare with the mailbox. The
comparison shares nothing with the engine.
"""

import base64
import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from random import Random
from typing import Any

from mailmirror.adapters.sqlite import SqliteStore
from mailmirror.announce import Announcer
from mailmirror.app import App
from mailmirror.errors import StoreUnavailable, UnknownMailbox
from mailmirror.keep import Kept
from mailmirror.lease import Pace
from mailmirror.model import Mailbox, MailboxId, Policy
from mailmirror.ports import Store, Task, Topic
from mailmirror.quota import PRICES

from local.gmail.mailbox import Mailbox as GmailMailbox
from tests.blobs import MemoryBlobs
from tests.clock import VirtualClock
from tests.inprocess import InProcessAccounts

ADA = "ada@example.com"


def mail(subject: str = "Hello", *, to: str = ADA, text: str = "Hi.", reply_to: str | None = None) -> bytes:
    """Return the source of a small message."""
    reply = f"In-Reply-To: <{reply_to}>\r\n" if reply_to else ""
    head = f"From: Grace <grace@example.com>\r\nTo: {to}\r\nSubject: {subject}\r\n{reply}"
    return f"{head}Content-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n".encode()


@dataclass
class Outbox:
    """Work messages published and not yet pushed."""

    work: list[tuple[MailboxId, Task]] = field(default_factory=list)

    def publish(self, mailbox: MailboxId, task: Task) -> None:
        """Take a work message."""
        self.work.append((mailbox, task))


@dataclass(frozen=True)
class Told:
    """A message on the topic for applications."""

    data: dict[str, Any]
    attributes: dict[str, str]
    ordering_key: str


@dataclass
class Deltas:
    """The topic for applications: what it accepted; while it is `down`, nothing."""

    told: list[Told] = field(default_factory=list)
    down: bool = False
    asked: int = 0

    def publish(self, data: bytes, attributes: Mapping[str, str], ordering_key: str) -> None:
        """Take an event."""
        self.asked += 1
        if self.down:
            raise StoreUnavailable("The topic is down.")
        self.told.append(Told(json.loads(data), dict(attributes), ordering_key))


class World:
    """One mailbox, `ada`, and the application that mirrors it."""

    def __init__(
        self,
        seed: int = 1,
        *,
        store: Store | None = None,
        step: timedelta = timedelta(seconds=480),
        units_per_minute: int = 6_000_000,
        kept: Kept | None = None,
        topic: Topic | None = None,
    ) -> None:
        self.kept = kept or Kept()
        self.topic = topic
        self.rng = Random(seed)
        self.clock = VirtualClock()
        self.sqlite = SqliteStore(":memory:")
        weakref.finalize(self, self.sqlite.close)
        self.store: Store = store or self.sqlite
        self.ada = GmailMailbox(ADA, clock=self.clock, rng=Random(seed))
        self.accounts = InProcessAccounts(self.clock, {ADA: self.ada}, units_per_minute)
        self.blobs = MemoryBlobs()
        self.outbox = Outbox()
        self.runs = 0
        self._turns = count(1)
        self.app = self.worker("worker-1", step)

    def worker(self, owner: str, step: timedelta = timedelta(seconds=480)) -> App:
        """Return another instance of the application on the same store."""
        return App(
            accounts=self.accounts,
            store=self.store,
            blobs=self.blobs,
            publisher=self.outbox,
            clock=self.clock,
            prices=PRICES["2026"],
            new_owner=lambda: f"{owner}/{next(self._turns)}",
            pace=Pace(),
            step=step,
            new_run_id=self._run_id,
            kept=self.kept,
            announcer=Announcer(self.store, self.topic, self.clock, "//mailmirror/projects/p") if self.topic else None,
        )

    def _run_id(self) -> str:
        self.runs += 1
        return f"requested-{self.runs}"

    def connect(self, policy: Policy | None = None) -> None:
        """Connect the mailbox and sync it for the first time."""
        self.app.connect(ADA, policy)
        self.work()

    def state(self) -> Mailbox:
        """The mailbox document."""
        found = self.store.mailbox(ADA)
        if found is None:
            raise UnknownMailbox(ADA)
        return found

    def notify(self, history_id: int | None = None, app: App | None = None) -> int:
        """Push a notification and return the answer."""
        worker = app or self.app
        return worker.push(worker.sync_history, push({"emailAddress": ADA, "historyId": history_id or self.head()}))

    def head(self) -> int:
        """The mailbox's newest history id."""
        return int(self.ada.get_profile()["historyId"])

    def work(self, app: App | None = None, limit: int = 100) -> None:
        """Push work messages until none is left."""
        worker = app or self.app
        for _ in range(limit):
            if not self.outbox.work:
                return
            mailbox, task = self.outbox.work.pop(0)
            if worker.push(worker.run_work, push({"mailbox": mailbox, "task": task})) == 503:
                self.outbox.publish(mailbox, task)
                self.clock.advance(10)
        raise AssertionError("The work does not end.")

    def work_once(self) -> None:
        """Push the oldest work message."""
        mailbox, task = self.outbox.work.pop(0)
        self.app.push(self.app.run_work, push({"mailbox": mailbox, "task": task}))

    def sweep(self) -> None:
        """Let time pass until everything is due, sweep, and do the work."""
        self.clock.advance(20 * 60)
        self.app.sweep_mailboxes()
        self.work()

    def documents(self, collection: str) -> dict[str, Any]:
        """The mirror's documents below the mailbox, read straight from the database."""
        rows = self.sqlite._connection.execute(
            "SELECT id, data FROM documents WHERE collection = ?", (f"mailboxes/{ADA}/{collection}",)
        )
        return {row[0]: json.loads(row[1]) for row in rows}

    def differences(
        self,
        wanted: Callable[[list[str]], bool] = lambda labels: "DRAFT" not in labels,
        *,
        policy: Policy | None = None,
    ) -> list[str]:
        """Compare mailbox and mirror; empty when they are equal. A policy tells what is wanted, instead of `wanted`."""
        truth = self.ada.truth()
        expected = {i: m for i, m in truth["messages"].items() if wanted(m["labelIds"])}
        if policy is not None:
            policy = policy.at(self.clock.now())
            expected = {i: m for i, m in truth["messages"].items() if kept(m, policy)}
            if not policy.bodies:
                expected = {i: {**m, "body": {"text": "", "html": ""}} for i, m in expected.items()}
        messages, threads = self.documents("messages"), self.documents("threads")
        found = [f"missing {i}" for i in expected.keys() - messages.keys()]
        found += [f"extra {i}" for i in messages.keys() - expected.keys()]
        listed = {i: (t, e) for t, document in threads.items() for i, e in document["messages"].items()}
        found += [f"thread document without {i}" for i in expected.keys() - listed.keys()]
        found += [f"thread document with {i}" for i in listed.keys() - expected.keys()]
        for i, message in expected.items():
            if i in messages and i in listed:
                mirrored = messages[i]
                for what, want, have in (
                    ("labels", message["labelIds"], mirrored["labelIds"]),
                    ("labels in thread", message["labelIds"], listed[i][1]["labelIds"]),
                    ("thread", message["threadId"], mirrored["threadId"]),
                    ("thread document", message["threadId"], listed[i][0]),
                    ("body", message["body"], self.body(mirrored)),
                    ("body in thread", mirrored["body"]["stored"], listed[i][1]["stored"]),
                    ("objects in thread", len(mirrored["objects"]), listed[i][1]["objects"]),
                ):
                    if want != have:
                        found.append(f"{what} of {i}: {want!r:.80} != {have!r:.80}")
        found += [fault for t, document in threads.items() for fault in thread_faults(t, document)]
        counts = self.state().counts
        if (counts.messages, counts.threads) != (len(expected), len({m["threadId"] for m in expected.values()})):
            found.append(f"counts {counts}")
        return found + self.delta_faults(messages)

    def body(self, document: Any) -> dict[str, str]:
        """The text and html of a message document, wherever they are."""
        body = document["body"]
        if body["stored"] == "storage":
            stored: dict[str, str] = json.loads(self.blobs.objects[body["uri"].removeprefix("memory://")])
            return stored
        return {"text": body["text"], "html": body["html"]}

    def orphans(self) -> list[str]:
        """The objects that no mirrored message names."""
        named = {name for message in self.documents("messages").values() for name in message["objects"]}
        return sorted(self.blobs.objects.keys() - named)

    def delta_faults(self, messages: dict[str, Any]) -> list[str]:
        """Replay the delta log from zero and compare it with the mirror."""
        deltas = self.documents("deltas")
        found = []
        if sorted(deltas) != [f"{seq:020d}" for seq in range(1, len(deltas) + 1)]:
            found.append("the delta sequence has a gap")
        if self.state().delta_seq != len(deltas):
            found.append("deltaSeq is not the last delta")
        replayed: dict[str, tuple[str, set[str]]] = {}
        cursor = 0
        for seq in sorted(deltas):
            if deltas[seq]["cursor"] < cursor:
                found.append(f"delta {seq} has a lower cursor")
            cursor = deltas[seq]["cursor"]
            for change in deltas[seq]["changes"]:
                message_id = change["messageId"]
                if change["type"] == "messageAdded":
                    if message_id in replayed:
                        found.append(f"{message_id} added twice")
                    replayed[message_id] = (change["threadId"], set(change["labelsAdded"]))
                elif change["type"] == "messageDeleted":
                    if replayed.pop(message_id, None) is None:
                        found.append(f"{message_id} deleted though absent")
                else:
                    labels = replayed[message_id][1]
                    if labels & set(change["labelsAdded"]) or set(change["labelsRemoved"]) - labels:
                        found.append(f"labels of {message_id} changed to what they were")
                    labels |= set(change["labelsAdded"])
                    labels -= set(change["labelsRemoved"])
        mirrored = {i: (m["threadId"], set(m["labelIds"])) for i, m in messages.items()}
        if replayed != mirrored:
            found.append("the deltas do not add up to the mirror")
        return found


def thread_faults(name: str, document: Any) -> Iterator[str]:
    """What a thread document says otherwise than its messages."""
    entries = document["messages"].values()
    if document["messageCount"] != len(entries):
        yield f"messageCount of {name}"
    if document["unreadCount"] != sum("UNREAD" in entry["labelIds"] for entry in entries):
        yield f"unreadCount of {name}"
    if document["labelIds"] != sorted({label for entry in entries for label in entry["labelIds"]}):
        yield f"labelIds of {name}"
    for flag, label in (("unread", "UNREAD"), ("starred", "STARRED")):
        if document[flag] != any(label in entry["labelIds"] for entry in entries):
            yield f"{flag} of {name}"


def kept(message: dict[str, Any], policy: Policy) -> bool:
    """Whether a policy wants a message of the mailbox, read off the policy's words and nothing else."""
    labels = set(message["labelIds"])
    out = set(policy.exclude_label_ids) | (set() if policy.include_spam_trash else {"SPAM", "TRASH"})
    out |= set() if policy.drafts else {"DRAFT"}
    narrowed = policy.label_ids and not labels & set(policy.label_ids)
    old = policy.since is not None and message["internalDate"] < policy.since.timestamp() * 1000
    return not (labels & out or narrowed or old)


def push(data: dict[str, Any]) -> bytes:
    """Return a Pub/Sub push body."""
    encoded = base64.b64encode(json.dumps(data).encode()).decode()
    message = {"data": encoded, "messageId": "1", "publishTime": "2026-11-20T12:00:00Z"}
    return json.dumps({"message": message, "subscription": "projects/test/subscriptions/s"}).encode()
