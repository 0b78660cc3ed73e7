"""The mirror: whatever edits arrive, however often and cut however, documents, deltas and counts say the same."""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mailmirror.documents import from_document, to_document
from mailmirror.history import Step, fold
from mailmirror.mirror import Bring, Confirm, Edit, Refresh, Relabel, Remove, Sheet, Strip, message_document
from mailmirror.model import (
    Address,
    Attachment,
    AttachmentKind,
    Body,
    Change,
    Delta,
    Entry,
    Headers,
    HistoryId,
    LabelStep,
    Message,
    MessageId,
    MessageRef,
    Policy,
    Record,
    Thread,
    ThreadId,
)
from mailmirror.planner import decide, groups
from mailmirror.slice import MAX_BYTES, MAX_DOCUMENT, MAX_WRITES, MIRROR_BYTES, MIRROR_WRITES, Slice, Write, weigh
from mailmirror.threads import (
    MAX_ADDRESS,
    MAX_NAME,
    MAX_PARTICIPANTS,
    MAX_SUMMARY,
    WHOLE,
    has_room,
    thread_document,
)

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
EVERYTHING = Policy(drafts=True)
NO_SPAM_TRASH = Policy(include_spam_trash=False)
NO_BODIES = Policy(drafts=True, bodies=False)
LATE_INBOX = Policy(label_ids=("INBOX",), exclude_label_ids=("UNREAD",), since=NOW + timedelta(minutes=3))


# What a store would hold


@dataclass
class Mirror:
    """What slices leave behind once they are committed.

    Attributes:
        documents: by path.
        changes: of all deltas, one after the other.
        messages, threads: the counts, added up.
        blobs: whose objects the slices gave up.
        objects: what is in the bucket of all that was committed.
        outdated: what the sheets reported.
    """

    documents: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    messages: int = 0
    threads: int = 0
    blobs: list[MessageId] = field(default_factory=list)
    objects: set[str] = field(default_factory=set)
    outdated: list[MessageId] = field(default_factory=list)

    def sheet(self, policy: Policy = EVERYTHING, *, max_writes: int = MIRROR_WRITES) -> Sheet:
        """A sheet that knows all threads of this mirror."""
        return Sheet(self.stored(), policy=policy, origin="live", now=NOW, max_writes=max_writes)

    def stored(self) -> dict[ThreadId, Thread]:
        """All threads, read back from their documents."""
        return {path[1]: from_document(Thread, d) for path, d in self.documents.items() if path[0] == "threads"}

    def commit(self, parts: Iterable[Slice]) -> None:
        """Commit slices in their order."""
        for part in parts:
            given_up = self.named(part.deleted_blobs)
            for write in part.writes:
                self._write(write)
            named = self.named(self.collection("messages"))
            self.objects = (self.objects | named) - (given_up - named)
            self.changes += part.changes
            self.messages += part.messages
            self.threads += part.threads
            self.blobs += part.deleted_blobs

    def named(self, message_ids: Iterable[MessageId]) -> set[str]:
        """The objects that these messages name."""
        return {name for i in message_ids for name in self.documents.get(("messages", i), {}).get("objects", ())}

    def _write(self, write: Write) -> None:
        if write.data is None:
            self.documents.pop(write.path, None)
        elif write.kind == "merge":
            # A label change of a message without a document would leave half a document behind.
            self.documents[write.path].update(write.data)
        else:
            assert write.kind == "put" or write.path not in self.documents
            self.documents[write.path] = dict(write.data)

    def apply(self, edits: Iterable[Edit], policy: Policy = EVERYTHING, *, max_writes: int = MIRROR_WRITES) -> None:
        """Apply edits with a sheet of their own."""
        sheet = self.sheet(policy, max_writes=max_writes)
        self.commit(sheet.slices(edits))
        self.outdated += sheet.outdated

    def collection(self, name: str) -> dict[str, dict[str, Any]]:
        """The documents of a collection by id."""
        return {path[1]: document for path, document in self.documents.items() if path[0] == name}

    def labels(self) -> dict[MessageId, tuple[ThreadId, frozenset[str]]]:
        """Thread and labels of each message."""
        return {i: (m["threadId"], frozenset(m["labelIds"])) for i, m in self.collection("messages").items()}

    def but_for(self, forgotten: set[ThreadId]) -> dict[tuple[str, ...], dict[str, Any]]:
        """The documents, less the history ids of some threads."""
        return {
            path: {k: v for k, v in document.items() if k != "historyId" or path[1] not in forgotten}
            for path, document in self.documents.items()
        }


def copy_of(mirror: Mirror) -> Mirror:
    """A mirror to try something on."""
    return deepcopy(mirror)


def replayed(changes: Iterable[Change]) -> dict[MessageId, tuple[ThreadId, frozenset[str]]]:
    """What an application that follows the delta log knows: thread and labels of each message."""
    state: dict[MessageId, tuple[ThreadId, frozenset[str]]] = {}
    for change in changes:
        if change.type == "messageAdded":
            assert change.message_id not in state
            state[change.message_id] = (change.thread_id, frozenset(change.labels_added))
        elif change.type == "messageDeleted":
            thread_id, _ = state.pop(change.message_id)
            assert thread_id == change.thread_id
        else:
            thread_id, labels = state[change.message_id]
            added, removed = set(change.labels_added), set(change.labels_removed)
            assert thread_id == change.thread_id
            assert added or removed
            assert not added & labels
            assert removed <= labels
            state[change.message_id] = (thread_id, (labels | added) - removed)
    return state


def faults(mirror: Mirror, policy: Policy = EVERYTHING) -> list[str]:
    """What in a mirror contradicts itself."""
    messages, threads = mirror.collection("messages"), mirror.collection("threads")
    found: list[str] = []
    listed = [message_id for thread in threads.values() for message_id in thread["messages"]]
    if sorted(listed) != sorted(messages):
        found.append(f"threads list {sorted(listed)}, mirrored are {sorted(messages)}")
    for thread_id, thread in threads.items():
        found += thread_faults(thread_id, thread)
        for message_id, entry in thread["messages"].items():
            found += entry_faults(message_id, thread_id, entry, messages.get(message_id, {}))
            if not policy.wants(frozenset(entry["labelIds"]), entry["internalDate"]):
                found.append(f"{message_id} is not wanted")
            if entry["stored"] != "none" and not policy.bodies:
                found.append(f"{message_id} has a body")
    if mirror.objects != mirror.named(messages):
        found.append(f"objects {sorted(mirror.objects)}, named are {sorted(mirror.named(messages))}")
    if (mirror.messages, mirror.threads) != (len(messages), len(threads)):
        found.append(f"counts {mirror.messages}, {mirror.threads}; there are {len(messages)}, {len(threads)}")
    if replayed(mirror.changes) != mirror.labels():
        found.append("the deltas do not replay to the mirror")
    return found


def entry_faults(
    message_id: MessageId, thread_id: ThreadId, entry: Mapping[str, Any], message: Mapping[str, Any]
) -> list[str]:
    """What a thread document says of a message that the message's own document does not."""
    body, attachments = message.get("body", {}), message.get("attachments", ())
    expected = {
        "threadId": thread_id,
        **{name: entry[name] for name in ("labelIds", "historyId", "internalDate", "snippet")},
    }
    found = [
        f"{name} of {message_id} is {message.get(name)}"
        for name, value in expected.items()
        if message.get(name) != value
    ]
    if body.get("stored") != entry["stored"]:
        found.append(f"the body of {message_id} is not where its thread says")
    if len(message.get("objects", ())) != entry["objects"]:
        found.append(f"{message_id} has other objects than its thread says")
    if any(attachment["kind"] in ("file", "message") for attachment in attachments) != entry["hasAttachments"]:
        found.append(f"{message_id} has other attachments than its thread says")
    return found


def thread_faults(thread_id: ThreadId, thread: Mapping[str, Any]) -> list[str]:
    """What a thread document says that does not follow from its messages."""
    entries = list(thread["messages"].values())
    dates = [entry["internalDate"] for entry in entries]
    expected = {
        "id": thread_id,
        "historyId": max([thread["historyId"], *(entry["historyId"] for entry in entries)]),
        "messageIds": sorted(thread["messages"], key=lambda i: (thread["messages"][i]["internalDate"], i)),
        "messageCount": max(1, len(entries)),
        "unreadCount": sum("UNREAD" in entry["labelIds"] for entry in entries),
        "unread": any("UNREAD" in entry["labelIds"] for entry in entries),
        "starred": any("STARRED" in entry["labelIds"] for entry in entries),
        "hasAttachments": any(entry["hasAttachments"] for entry in entries),
        "labelIds": sorted({label for entry in entries for label in entry["labelIds"]}),
        "firstMessageAt": min(dates),
        "lastMessageAt": max(dates),
    }
    return [f"{name} of {thread_id} is {thread[name]}" for name, value in expected.items() if thread[name] != value]


# Messages and edits


def message(
    message_id: MessageId, *labels: str, thread: ThreadId = "t1", at: HistoryId = 10, stored: bool = False
) -> Message:
    """A message as fetched; all but labels, thread, history id and where its body is follow from its id."""
    number = int(message_id.strip("m")) % 1_000
    return Message(
        message_id,
        thread,
        frozenset(labels),
        at,
        # Not in the order of the ids: mail is imported, too.
        NOW + timedelta(minutes=number * 7 % 10),
        size_estimate=1000 + number,
        snippet=f"Snippet {number}",
        headers=Headers(from_=sender(number), subject=f"Subject {number}"),
        body=Body(stored="storage", uri="memory://x") if stored else Body(text=f"Text {number}"),
        # One object of its own, and one that others have as well.
        objects=(f"ada/body-{number}", "ada/shared") if stored else (),
    )


def sender(number: int) -> Address:
    """Who wrote a message: one of three people."""
    return Address(f"Sender {number % 3}", f"sender-{number % 3}@example.com")


def attached(before: Message, *kinds: AttachmentKind) -> Message:
    """A message with attachments."""
    files = tuple(Attachment(f"{n}", f"{n}.txt", "text/plain", 3, kind) for n, kind in enumerate(kinds))
    return replace(before, attachments=files)


def step(at: HistoryId, added: str = "", removed: str = "") -> Step:
    """A label change; labels separated by spaces."""
    return Step(at, frozenset(added.split()), frozenset(removed.split()))


def mirror_of(*messages: Message) -> Mirror:
    """A mirror of these messages."""
    mirror = Mirror()
    mirror.apply(map(Bring, messages))
    mirror.changes = []
    return mirror


def entry(
    *labels: str, at: HistoryId = 1, minute: int = 0, sender: str = "", subject: str = "", snippet: str = ""
) -> Entry:
    """A message as its thread lists it."""
    address = Address(sender, f"{sender.lower()}@example.com") if sender else Address()
    return Entry(frozenset(labels), NOW + timedelta(minutes=minute), at, address, subject, snippet)


# bring


def test_bring_a_new_message() -> None:
    """A new message becomes a message document, a thread document and a delta entry."""
    new = message("m1", "UNREAD", "INBOX")
    sheet = Sheet({}, policy=EVERYTHING, origin="backfill", now=NOW)
    (part,) = sheet.slices([Bring(new)])
    thread = Thread("t1", 10, {"m1": Entry(new.label_ids, new.internal_date, 10, sender(1), "Subject 1", "Snippet 1")})
    assert part == Slice(
        writes=(
            Write("create", ("messages", "m1"), message_document(new) | {"origin": "backfill", "syncedAt": NOW}),
            Write("put", ("threads", "t1"), thread_document(thread)),
        ),
        changes=(Change("messageAdded", "m1", "t1", ("INBOX", "UNREAD")),),
        messages=1,
        threads=1,
    )


def test_a_whole_document_names_recipients() -> None:
    """Whoever writes a message whole, for the first time or again, writes its recipients; a new label does not."""
    to_bob = replace(message("m1", "INBOX"), headers=Headers(to=(Address("Bob", "bob@example.com"),)))
    mirror = mirror_of(to_bob)
    assert mirror.collection("messages")["m1"]["recipients"] == ["bob@example.com"]
    truncated = replace(to_bob, truncated=("headers.cc",), history_id=12)
    mirror.apply([Bring(truncated)])
    assert mirror.collection("messages")["m1"]["recipients"] == ["bob@example.com"]
    mirror.apply([Bring(truncated, rewrite=True)])
    assert mirror.collection("messages")["m1"]["recipients"] == ["bob@example.com", "*"]


def test_bring_into_a_mirrored_thread() -> None:
    """A reply joins its thread, and the thread is not counted again."""
    mirror = mirror_of(message("m1", "INBOX"))
    mirror.apply([Bring(message("m2", "INBOX", at=12))])
    thread = mirror.collection("threads")["t1"]
    assert thread["messages"].keys() == {"m1", "m2"}
    assert thread["historyId"] == 12
    assert (mirror.messages, mirror.threads) == (2, 1)


def test_bring_with_later_label_changes() -> None:
    """Label changes after the copy are applied to it, those that it contains are not."""
    mirror = Mirror()
    steps = (step(9, removed="UNREAD"), step(10, added="OLD"), step(11, "STARRED"), step(12, removed="INBOX"))
    mirror.apply([Bring(message("m1", "INBOX", "UNREAD", at=10), steps)])
    document = mirror.collection("messages")["m1"]
    assert (document["labelIds"], document["historyId"]) == (["STARRED", "UNREAD"], 12)
    assert mirror.changes == [Change("messageAdded", "m1", "t1", ("STARRED", "UNREAD"))]
    assert faults(mirror) == []


def test_bring_a_known_message() -> None:
    """A newer copy of a mirrored message changes its labels; its content, which cannot change, is not written again."""
    mirror = mirror_of(message("m1", "INBOX", "UNREAD", at=10))
    sheet = mirror.sheet()
    (part,) = sheet.slices([Bring(message("m1", "INBOX", "STARRED", at=12))])
    fields = {"labelIds": ["INBOX", "STARRED"], "historyId": 12, "syncedAt": NOW}
    assert part.writes[0] == Write("merge", ("messages", "m1"), fields)
    assert part.changes == (Change("labelsChanged", "m1", "t1", ("STARRED",), ("UNREAD",)),)
    assert (part.messages, part.threads) == (0, 0)


def test_rewrite_a_known_message() -> None:
    """A full sync writes the whole document again, and the delta tells only what is different about its labels."""
    mirror = mirror_of(message("m1", "INBOX"))
    mirror.documents["messages", "m1"]["snippet"] = "Damaged"
    mirror.apply([Bring(message("m1", "INBOX"), rewrite=True)])
    assert mirror.collection("messages")["m1"]["snippet"] == "Snippet 1"
    assert mirror.changes == []
    mirror.apply([Bring(message("m1", "STARRED", at=11), rewrite=True)])
    assert mirror.changes == [Change("labelsChanged", "m1", "t1", ("STARRED",), ("INBOX",))]
    assert (mirror.messages, mirror.threads) == (1, 1)


def test_summaries_are_short() -> None:
    """Sender, subject and snippet are cut in the thread document, and whole in the message document."""
    long = "ä" * 1_000
    new = replace(message("m1"), snippet=long, headers=Headers(from_=Address(long, long), subject=long))
    mirror = mirror_of(new)
    summary = mirror.collection("threads")["t1"]["messages"]["m1"]
    assert summary["from"] == {"name": long[:MAX_NAME], "address": long[:MAX_ADDRESS]}
    assert [summary["subject"], summary["snippet"]] == [long[:MAX_SUMMARY]] * 2
    document = mirror.collection("messages")["m1"]
    assert [document["snippet"], document["headers"]["subject"]] == [long] * 2
    assert document["headers"]["from"] == {"name": long, "address": long}


def test_message_that_is_mirrored_after_all() -> None:
    """A message that seems to be new is created, which is refused if it exists; a wary sheet, and one that knows it,
    replace it.
    """
    new, old = message("m1", "INBOX", thread="t2", at=11), mirror_of(message("m1", "INBOX")).stored()

    def write(known: Mapping[ThreadId, Thread], *, wary: bool) -> str:
        (part,) = Sheet(known, policy=EVERYTHING, origin="live", now=NOW, wary=wary).slices([Bring(new)])
        return part.writes[0].kind

    assert [write({}, wary=False), write({}, wary=True), write(old, wary=False)] == ["create", "put", "put"]


def test_unwanted_message_is_not_brought() -> None:
    """A fetched message that the policy does not want leaves no trace."""
    for labels in (("SPAM",), ("TRASH", "INBOX"), ("DRAFT",)):
        assert Mirror().sheet(NO_SPAM_TRASH).slices([Bring(message("m1", *labels))]) == []


def test_unwanted_by_label_or_date() -> None:
    """Whether a message is mirrored follows from its labels and its date, when it is brought and when it changes."""
    policy = Policy(label_ids=("INBOX",), exclude_label_ids=("STARRED",), since=NOW + timedelta(minutes=5))
    # Their minutes are 7, 4 and 1.
    newer, old, older = (message(f"m{number}", "INBOX") for number in (1, 2, 3))
    mirror = Mirror()
    mirror.apply(
        [*map(Bring, (newer, old, older)), Bring(message("m4", "SENT")), Bring(message("m5", "STARRED"))], policy
    )
    assert mirror.labels().keys() == {"m1"}
    for gone in (step(11, removed="INBOX"), step(11, "STARRED")):
        left = copy_of(mirror)
        left.apply([Relabel("m1", (gone,))], policy)
        assert left.labels() == {}
    # Mirrored under another policy, and touched under this one.
    mirror = mirror_of(newer, old)
    mirror.apply([Relabel("m1", (step(11, "UNREAD"),)), Relabel("m2", (step(11, "UNREAD"),))], policy)
    assert mirror.labels().keys() == {"m1"}


def test_a_copy_that_was_not_wanted_when_it_was_read() -> None:
    """A copy of which something was not stored because it was not wanted is fetched again if it is wanted by now: a
    large body, one that Gmail kept back, the bytes of attachments. Where bodies are left out nothing is missing.
    """
    untrashed = (step(11, removed="TRASH"),)
    unread = attached(message("m1", "TRASH"), "file")
    for lacking in (
        replace(unread, body=Body("x", truncated=True), truncated=("body.text",)),
        replace(unread, truncated=("attachments.uri",)),
    ):
        mirror = Mirror()
        mirror.apply([Bring(lacking, untrashed)], NO_SPAM_TRASH)
        assert (mirror.messages, mirror.outdated) == (0, ["m1"])
        mirror.apply([Bring(replace(lacking, label_ids=frozenset(), history_id=11), untrashed)], NO_SPAM_TRASH)
        assert (mirror.messages, mirror.outdated) == (1, ["m1"])
        bare = Mirror()
        bare.apply([Bring(lacking, untrashed)], replace(NO_SPAM_TRASH, bodies=False))
        assert (bare.messages, bare.outdated) == (1, [])


def test_a_copy_that_lacks_nothing_though_it_was_not_wanted() -> None:
    """What fits into the document is all there, wanted or not, and so are attachments whose bytes nobody keeps."""
    mirror = Mirror()
    unread = replace(attached(message("m1", "TRASH"), "file"), truncated=("headers.to",))
    mirror.apply([Bring(unread, (step(11, removed="TRASH"),))], NO_SPAM_TRASH)
    assert (mirror.messages, mirror.outdated) == (1, [])


# bodies


def test_strip() -> None:
    """A body is taken away with its objects and what it says of attachments; no delta tells, nothing else changes."""
    signed = replace(attached(message("m1", "INBOX"), "file"), protection="signed")
    mirror = mirror_of(signed, message("m2", "INBOX", stored=True), message("m3", "INBOX"))
    sheet = mirror.sheet(NO_BODIES)
    (part,) = sheet.slices([Strip("m1"), Strip("m2"), Strip("m9")])
    assert (part.changes, part.messages, part.threads, part.deleted_blobs) == ((), 0, 0, ("m2",))
    mirror.commit([part])
    documents = mirror.collection("messages")
    assert documents["m1"]["attachments"] == []
    assert (documents["m2"]["objects"], mirror.objects) == ([], set())
    assert not mirror.collection("threads")["t1"]["hasAttachments"]
    assert [documents[i]["body"] == to_document(Body(stored="none")) for i in ("m1", "m2", "m3")] == [True, True, False]
    assert documents["m1"]["protection"] == "signed"
    assert documents["m1"] | {"body": 0, "attachments": 0} == message_document(signed) | {
        "body": 0,
        "attachments": 0,
        "origin": "live",
        "syncedAt": NOW,
    }
    assert sheet.slices([Strip("m1"), Strip("m2")]) == []


def test_a_body_that_comes_back() -> None:
    """A copy with a body completes a message without one, and the delta tells only what else is different about it."""
    mirror = Mirror()
    mirror.apply([Bring(message("m1", "INBOX"))], NO_BODIES)
    assert mirror.collection("messages")["m1"]["body"]["stored"] == "none"
    (added,) = mirror.changes
    mirror.apply([Bring(message("m1", "INBOX", stored=True))])
    assert mirror.collection("messages")["m1"]["body"]["stored"] == "storage"
    assert (mirror.changes, mirror.blobs) == ([added], [])
    # And the other way round, where a policy without bodies meets a message that has one.
    mirror.apply([Bring(message("m1", "STARRED", at=11))], NO_BODIES)
    assert mirror.collection("messages")["m1"]["body"]["stored"] == "none"
    assert mirror.changes == [added, Change("labelsChanged", "m1", "t1", ("STARRED",), ("INBOX",))]
    assert mirror.blobs == ["m1"]
    assert faults(mirror, NO_BODIES) == []


def test_later_changes_decide_whether_a_message_is_wanted() -> None:
    """Whether a fetched message is wanted is seen after the label changes that are newer than the copy."""
    untrashed, trashed = Mirror(), Mirror()
    untrashed.apply([Bring(message("m1", "TRASH"), (step(11, removed="TRASH"),))], NO_SPAM_TRASH)
    trashed.apply([Bring(message("m1", "INBOX"), (step(11, "TRASH"),))], NO_SPAM_TRASH)
    assert (untrashed.messages, trashed.messages) == (1, 0)


# move


def test_move_to_another_thread() -> None:
    """A message that Gmail moved leaves its old thread in the commit that brings it to the new one."""
    mirror = mirror_of(message("m1", "INBOX"), message("m2", "INBOX"))
    (part,) = mirror.sheet().slices([Bring(message("m2", "INBOX", thread="t2", at=11))])
    assert part.changes == (
        Change("messageDeleted", "m2", "t1"),
        Change("messageAdded", "m2", "t2", ("INBOX",)),
    )
    assert (part.messages, part.threads) == (0, 1)
    mirror.commit([part])
    assert {i: list(t["messages"]) for i, t in mirror.collection("threads").items()} == {"t1": ["m1"], "t2": ["m2"]}
    assert mirror.collection("messages")["m2"]["threadId"] == "t2"


def test_move_of_the_last_message() -> None:
    """A thread whose last message moved away is deleted."""
    mirror = mirror_of(message("m1", "INBOX"))
    mirror.apply([Bring(message("m1", "INBOX", thread="t2", at=11))])
    assert list(mirror.collection("threads")) == ["t2"]
    assert (mirror.messages, mirror.threads) == (1, 1)


def test_move_keeps_the_body() -> None:
    """A large body stays in Cloud Storage when its message moves: the message names it still."""
    mirror = mirror_of(message("m1", "INBOX", stored=True))
    mirror.apply([Bring(message("m1", "INBOX", thread="t2", at=11, stored=True))])
    assert mirror.objects == {"ada/body-1", "ada/shared"}


def listed_twice() -> Mirror:
    """A mirror that brought a moved message without knowing that another thread lists it."""
    mirror = mirror_of(message("m1", "INBOX"), message("m2", "INBOX"))
    sheet = Sheet({}, policy=EVERYTHING, origin="live", now=NOW, wary=True)
    mirror.commit(sheet.slices([Bring(message("m2", "INBOX", thread="t2", at=11))]))
    return mirror


@pytest.mark.parametrize("thread", ["t1", "t2", "t3"])
def test_message_in_two_threads(thread: ThreadId) -> None:
    """A message that two threads list is left in the one that Gmail says, counted once."""
    mirror = listed_twice()
    mirror.apply([Bring(message("m2", "INBOX", thread=thread, at=12))])
    mirror.changes = [Change("messageAdded", i, t, tuple(sorted(labels))) for i, (t, labels) in mirror.labels().items()]
    assert mirror.labels()["m2"][0] == thread
    assert faults(mirror) == []


@pytest.mark.parametrize(
    "edit", [Remove("m2", 12), Relabel("m2", (step(12, "TRASH"),)), Bring(message("m2", "TRASH", at=12))]
)
def test_removal_from_two_threads(edit: Edit) -> None:
    """A message that two threads list leaves both of them."""
    mirror = listed_twice()
    mirror.apply([edit], NO_SPAM_TRASH)
    mirror.changes = [Change("messageAdded", "m1", "t1", ("INBOX",))]
    assert faults(mirror) == []


@pytest.mark.parametrize("edit", [Relabel("m2", (step(12, "STARRED"),)), Refresh("m2", frozenset({"X"}), 12)])
def test_labels_in_two_threads(edit: Edit) -> None:
    """A message that two threads list has the same labels in both."""
    mirror = listed_twice()
    mirror.apply([edit])
    entries = [thread["messages"]["m2"] for thread in mirror.collection("threads").values()]
    assert entries[0]["labelIds"] == entries[1]["labelIds"] == mirror.collection("messages")["m2"]["labelIds"]
    assert entries[0]["historyId"] == entries[1]["historyId"] == 12


# relabel, refresh, confirm


def test_relabel() -> None:
    """Label changes reach message and thread document, and the delta says what came of them."""
    mirror = mirror_of(message("m1", "INBOX", "UNREAD"))
    mirror.apply([Relabel("m1", (step(11, "STARRED", "UNREAD"), step(12, "X"), step(13, removed="X")))])
    document, thread = mirror.collection("messages")["m1"], mirror.collection("threads")["t1"]
    assert (document["labelIds"], document["historyId"]) == (["INBOX", "STARRED"], 13)
    assert (thread["labelIds"], thread["unreadCount"], thread["historyId"]) == (["INBOX", "STARRED"], 0, 13)
    assert mirror.changes == [Change("labelsChanged", "m1", "t1", ("STARRED",), ("UNREAD",))]


def test_relabel_skips_what_the_mirror_contains() -> None:
    """Label changes up to the history id of the mirrored copy are in it already."""
    mirror = mirror_of(message("m1", "INBOX", at=10))
    assert mirror.sheet().slices([Relabel("m1", (step(9, "A"), step(10, removed="INBOX")))]) == []


def test_relabel_to_the_same_labels() -> None:
    """A label change that comes to nothing says that the message was there, but is no change for an application."""
    mirror = mirror_of(message("m1", "INBOX"))
    mirror.apply([Relabel("m1", (step(11, "X"), step(12, removed="X")))])
    assert mirror.collection("messages")["m1"]["historyId"] == 12
    assert mirror.changes == []


def test_edits_of_unknown_messages() -> None:
    """What is not mirrored cannot be relabelled, refreshed, removed or confirmed, and nothing is written."""
    edits: list[Edit] = [
        Relabel("m1", (step(11, "X"),)),
        Refresh("m1", frozenset(), 12),
        Remove("m1", 12),
        Confirm("t1", 12),
    ]
    assert Mirror().sheet().slices(edits) == []


def test_refresh() -> None:
    """Labels as Gmail says them now replace those of the mirror."""
    mirror = mirror_of(message("m1", "INBOX", "UNREAD"))
    mirror.apply([Refresh("m1", frozenset({"INBOX", "X"}), 12)])
    assert mirror.collection("messages")["m1"]["labelIds"] == ["INBOX", "X"]
    assert mirror.changes == [Change("labelsChanged", "m1", "t1", ("X",), ("UNREAD",))]


def test_confirm() -> None:
    """A thread that was compared knows up to when, and never less than before."""
    mirror = mirror_of(message("m1", "INBOX", at=10))
    mirror.apply([Confirm("t1", 20)])
    assert mirror.collection("threads")["t1"]["historyId"] == 20
    assert mirror.collection("messages")["m1"]["historyId"] == 10
    assert mirror.changes == []
    assert mirror.sheet().slices([Confirm("t1", 20), Confirm("t1", 19)]) == []


# policy


@pytest.mark.parametrize(
    "edit",
    [
        Relabel("m1", (step(11, "TRASH"),)),
        Refresh("m1", frozenset({"SPAM"}), 11),
        Bring(message("m1", "TRASH", at=11)),
        Bring(message("m1", "INBOX", at=11), (step(12, "TRASH"),)),
    ],
)
def test_message_leaves_the_policy(edit: Edit) -> None:
    """A message whose labels the policy does not want leaves the mirror as if deleted, and a policy that wants it keeps
    it.
    """
    leaving, staying = mirror_of(message("m1", "INBOX")), mirror_of(message("m1", "INBOX"))
    leaving.apply([edit], NO_SPAM_TRASH)
    staying.apply([edit], EVERYTHING)
    assert leaving.changes == [Change("messageDeleted", "m1", "t1")]
    assert (leaving.documents, leaving.messages, leaving.threads) == ({}, 0, 0)
    assert [change.type for change in staying.changes] == ["labelsChanged"]


def test_message_enters_the_policy() -> None:
    """A message that comes back from the trash is a new one to the mirror."""
    mirror = mirror_of(message("m1", "INBOX"))
    mirror.apply([Relabel("m1", (step(11, "TRASH"),))], NO_SPAM_TRASH)
    mirror.apply([Bring(message("m1", "INBOX", at=12), (step(12, removed="TRASH"),))], NO_SPAM_TRASH)
    assert mirror.changes == [
        Change("messageDeleted", "m1", "t1"),
        Change("messageAdded", "m1", "t1", ("INBOX",)),
    ]
    assert (mirror.messages, mirror.threads) == (1, 1)


# remove


def test_remove() -> None:
    """A removed message leaves its thread, which says when, and the counts."""
    mirror = mirror_of(message("m1", "INBOX"), message("m2", "UNREAD"))
    mirror.apply([Remove("m2", 15)])
    thread = mirror.collection("threads")["t1"]
    assert (thread["messageCount"], thread["unreadCount"], thread["historyId"]) == (1, 0, 15)
    assert mirror.changes == [Change("messageDeleted", "m2", "t1")]
    assert (mirror.messages, mirror.threads) == (1, 1)


def test_remove_the_last_message() -> None:
    """A thread without messages is deleted."""
    mirror = mirror_of(message("m1", "INBOX"))
    mirror.apply([Remove("m1", 15)])
    assert (mirror.documents, mirror.messages, mirror.threads) == ({}, 0, 0)


def test_brought_and_removed_at_once() -> None:
    """A message that comes and goes within one slice leaves no document."""
    mirror = Mirror()
    mirror.apply([Bring(message("m1", "INBOX")), Remove("m1", 15)])
    assert (mirror.documents, mirror.messages, mirror.threads) == ({}, 0, 0)


def test_objects_that_were_written_just_now_are_named() -> None:
    """A known message that is read again is written again if there are objects for it now, so that none is left without
    a message; an object that another message names stays.
    """
    mirror = mirror_of(message("m1", "INBOX"), message("m2", "INBOX", stored=True))
    assert mirror.objects == {"ada/body-2", "ada/shared"}
    mirror.apply([Bring(message("m1", "INBOX", stored=True))])
    assert mirror.collection("messages")["m1"]["objects"] == ["ada/body-1", "ada/shared"]
    assert mirror.changes == []
    fewer = replace(message("m1", "INBOX", stored=True), objects=("ada/body-1",))
    mirror.apply([Bring(fewer), Remove("m2", 12)])
    assert mirror.objects == {"ada/body-1"}
    mirror.changes = [Change("messageAdded", "m1", "t1", ("INBOX",))]
    assert faults(mirror) == []


@pytest.mark.parametrize("edit", [Remove("m1", 15), Relabel("m1", (step(15, "TRASH"),))])
def test_removed_bodies(edit: Edit) -> None:
    """A message with objects that leaves the mirror is reported with the slice that removes it, others are not."""
    for stored in (True, False):
        mirror = mirror_of(message("m1", "INBOX", stored=stored), message("m2", "INBOX", stored=True))
        (part,) = mirror.sheet(NO_SPAM_TRASH).slices([edit, Relabel("m2", (step(15, "X"),))])
        assert part.deleted_blobs == (("m1",) if stored else ())


# outdated copies


@pytest.mark.parametrize(
    "edit",
    [
        Bring(message("m1", "INBOX", "UNREAD", at=9)),
        Bring(message("m1", "INBOX", "UNREAD", at=9), rewrite=True),
        Bring(message("m1", at=9), (step(8, "X"),)),
        Refresh("m1", frozenset({"INBOX", "UNREAD"}), 9),
    ],
)
def test_outdated_copy(edit: Edit) -> None:
    """A copy older than the mirror's writes nothing and is reported, to be fetched again."""
    mirror = mirror_of(message("m1", "INBOX", at=10))
    sheet = mirror.sheet()
    assert sheet.slices([edit]) == []
    assert sheet.outdated == ["m1"]


def test_outdated_copy_from_another_thread() -> None:
    """A copy from before a message moved does not move it back."""
    mirror = mirror_of(message("m1", "INBOX", thread="t2", at=10))
    sheet = mirror.sheet()
    assert sheet.slices([Bring(message("m1", "INBOX", "UNREAD", thread="t1", at=9))]) == []
    assert sheet.outdated == ["m1"]


def test_outdated_copy_from_the_trash() -> None:
    """A copy from before a message came back from the trash does not remove it."""
    mirror = mirror_of(message("m1", "INBOX", at=10))
    sheet = mirror.sheet(NO_SPAM_TRASH)
    assert sheet.slices([Bring(message("m1", "TRASH", at=9))]) == []
    assert sheet.outdated == ["m1"]


def test_copy_as_old_as_the_mirror() -> None:
    """A copy of the same history id is not outdated: Gmail's word replaces labels that were wrong."""
    for edit in (Bring(message("m1", "X", at=10)), Refresh("m1", frozenset({"X"}), 10)):
        mirror = mirror_of(message("m1", "INBOX", at=10))
        mirror.apply([edit])
        assert mirror.labels() == {"m1": ("t1", frozenset({"X"}))}
        assert mirror.outdated == []


# the sheet


def test_add_keeps_what_is_on_the_sheet() -> None:
    """Threads read later join the sheet; those on it keep the edits made to them."""
    mirror = mirror_of(message("m1", "INBOX"), message("m2", "INBOX", thread="t2"))
    stored = mirror.stored()
    sheet = Sheet({"t1": stored["t1"]}, policy=EVERYTHING, origin="live", now=NOW)
    mirror.commit(sheet.slices([Relabel("m1", (step(11, "X"),))]))
    assert sheet.entry("m2") is None
    sheet.add(stored)
    mirror.commit(sheet.slices([Relabel("m2", (step(12, "Y"),)), Relabel("m1", (step(13, "Z"),))]))
    assert mirror.labels() == {"m1": ("t1", frozenset({"INBOX", "X", "Z"})), "m2": ("t2", frozenset({"INBOX", "Y"}))}
    assert (mirror.messages, mirror.threads) == (2, 2)


def test_entry_as_edited() -> None:
    """A sheet knows each message as it will be after the edits so far."""
    sheet = mirror_of(message("m1", "INBOX")).sheet()
    assert sheet.entry("m1") == mirror_of(message("m1", "INBOX")).stored()["t1"].messages["m1"]
    sheet.slices([Relabel("m1", (step(11, "X"),)), Bring(message("m2"))])
    first, second = sheet.entry("m1"), sheet.entry("m2")
    assert first is not None
    assert (first.label_ids, first.history_id) == (frozenset({"INBOX", "X"}), 11)
    assert second is not None
    sheet.slices([Remove("m1", 12)])
    assert sheet.entry("m1") is None
    assert sheet.found("m2") == [("t1", second)]


# thread documents


def test_thread_document() -> None:
    """Everything a thread document says follows from its messages, oldest first by their dates."""
    thread = Thread(
        "t1",
        9,
        {
            "m2": entry("INBOX", "UNREAD", minute=30, sender="Ada", subject="Re: Re: Hello", snippet="Third"),
            "m3": entry("SENT", minute=10, sender="Grace", subject="Hello", snippet="First"),
            "m1": replace(
                entry("INBOX", "UNREAD", "STARRED", minute=20, sender="Ada", subject="Re: Hello", snippet="Second"),
                has_attachments=True,
            ),
        },
    )
    document = thread_document(thread)
    assert document == to_document(thread) | {
        "subject": "Hello",
        "participants": [
            {"name": "Grace", "address": "grace@example.com"},
            {"name": "Ada", "address": "ada@example.com"},
        ],
        "messageIds": ["m3", "m1", "m2"],
        "messageCount": 3,
        "unreadCount": 2,
        "unread": True,
        "starred": True,
        "hasAttachments": True,
        "labelIds": ["INBOX", "SENT", "STARRED", "UNREAD"],
        "firstMessageAt": NOW + timedelta(minutes=10),
        "lastMessageAt": NOW + timedelta(minutes=30),
        "snippet": "Third",
    }
    assert document["id"] == "t1"
    assert document["historyId"] == 9
    assert document["messages"]["m3"]["labelIds"] == ["SENT"]


def test_each_address_is_one_participant() -> None:
    """A sender counts once, under the first name that comes with the address; those without any address by name."""
    senders = [
        Address("", "ada@example.com"),
        Address("Ada", "ada@example.com"),
        Address("A. L.", "ada@example.com"),
        Address("Ada", "ada@example.org"),
        Address("Nobody"),
        Address("Nobody"),
        Address(),
    ]
    entries = {f"m{n}": replace(entry(minute=n), from_=sender) for n, sender in enumerate(senders)}
    assert thread_document(Thread("t1", 1, entries))["participants"] == [
        {"name": "Ada", "address": "ada@example.com"},
        {"name": "Ada", "address": "ada@example.org"},
        {"name": "Nobody", "address": ""},
    ]


@pytest.mark.parametrize(
    ("kinds", "has"),
    [
        ((), False),
        (("file",), True),
        (("message",), True),
        (("inline", "calendar", "signature", "encrypted"), False),
        (("inline", "file"), True),
    ],
)
def test_what_a_reader_calls_an_attachment(kinds: tuple[AttachmentKind, ...], has: bool) -> None:
    """Files and attached messages count as attachments of a thread; pictures of the text, invitations and what a signed
    or encrypted message is made of do not.
    """
    mirror = mirror_of(attached(message("m1", "INBOX"), *kinds), message("m2", "INBOX"))
    assert mirror.collection("threads")["t1"]["hasAttachments"] == has


def test_unread_starred_and_attachments_follow_every_change() -> None:
    """What a thread says of its messages is right after each add, delete, change of labels and move."""

    def seen(mirror: Mirror, thread: ThreadId = "t1") -> tuple[bool, bool, bool]:
        document = mirror.collection("threads")[thread]
        return document["unread"], document["starred"], document["hasAttachments"]

    mirror = Mirror()
    new = attached(message("m2", "INBOX", "UNREAD", "STARRED"), "file")
    mirror.apply([Bring(message("m1", "INBOX")), Bring(new)])
    assert seen(mirror) == (True, True, True)
    mirror.apply([Relabel("m2", (step(11, removed="UNREAD"),))])
    assert seen(mirror) == (False, True, True)
    mirror.apply([Relabel("m2", (step(12, removed="STARRED"), step(12, "TRASH")))])
    assert seen(mirror) == (False, False, True)
    mirror.apply([Bring(attached(message("m2", "INBOX", "UNREAD", thread="t2", at=13), "file"))])
    assert (seen(mirror), seen(mirror, "t2")) == ((False, False, False), (True, False, True))
    mirror.apply([Bring(message("m3", "STARRED", thread="t2", at=14)), Remove("m2", 15)])
    assert seen(mirror, "t2") == (False, True, False)
    assert faults(mirror) == []


def test_thread_document_of_one_message() -> None:
    """A message without sender, subject, snippet and labels makes a thread document all the same."""
    document = thread_document(Thread("t1", 1, {"m1": entry()}))
    assert (document["participants"], document["labelIds"], document["subject"], document["snippet"]) == (
        [],
        [],
        "",
        "",
    )
    assert document["firstMessageAt"] == document["lastMessageAt"] == NOW


def test_messages_of_the_same_moment() -> None:
    """Messages of the same moment are in the order of their ids, so that equal threads make equal documents."""
    entries = {"m2": entry(subject="B", snippet="b"), "m1": entry(subject="A", snippet="a")}
    document = thread_document(Thread("t1", 1, entries))
    assert (document["subject"], document["snippet"]) == ("A", "b")


def test_participants_are_limited() -> None:
    """A mailing list with thousands of senders does not make a thread document too large."""
    entries = {f"m{n:03d}": entry(minute=n, sender=f"Sender {n}") for n in range(MAX_PARTICIPANTS + 5)}
    participants = thread_document(Thread("t1", 1, entries))["participants"]
    assert [participant["name"] for participant in participants] == [f"Sender {n}" for n in range(MAX_PARTICIPANTS)]


# Any edits at all

IDS = ["m1", "m2", "m3", "m4"]
THREADS = st.sampled_from(["t1", "t2"])
LABELS = st.frozensets(st.sampled_from(["INBOX", "UNREAD", "TRASH"]))
HISTORY = st.integers(1, 20)
POLICIES = st.sampled_from([EVERYTHING, NO_SPAM_TRASH, NO_BODIES, LATE_INBOX])
STEPS = st.lists(st.builds(Step, HISTORY, added=LABELS, removed=LABELS), max_size=3).map(
    lambda steps: tuple(sorted(steps, key=lambda each: each.record_id))
)
COPIES = st.builds(
    lambda i, thread, labels, at: attached(
        message(i, *labels, thread=thread, at=at, stored=i in ("m1", "m2")), *(("file",) if i == "m3" else ())
    ),
    st.sampled_from(IDS),
    THREADS,
    LABELS,
    HISTORY,
)
MESSAGE_EDITS: st.SearchStrategy[Edit] = st.one_of(
    st.builds(Bring, COPIES, STEPS, st.booleans()),
    st.builds(Relabel, st.sampled_from(IDS), STEPS),
    st.builds(Refresh, st.sampled_from(IDS), LABELS, HISTORY),
    st.builds(Remove, st.sampled_from(IDS), HISTORY),
    st.builds(Strip, st.sampled_from(IDS)),
)
EDITS = st.lists(MESSAGE_EDITS | st.builds(Confirm, THREADS, HISTORY), max_size=12)


def subject(edit: Edit) -> str:
    """The message, or thread, that an edit is about."""
    match edit:
        case Bring(brought):
            return brought.id
        case Confirm(thread_id):
            return thread_id
        case _:
            return edit.message_id


@given(EDITS, POLICIES)
@settings(max_examples=500)
def test_any_edits_leave_a_mirror_that_agrees_with_itself(edits: list[Edit], policy: Policy) -> None:
    """After any edits, threads list exactly the messages there are, deltas replay to them, and counts add up."""
    mirror = Mirror()
    mirror.apply(edits, policy)
    assert faults(mirror, policy) == []


@given(EDITS, MESSAGE_EDITS, POLICIES)
@settings(max_examples=500)
def test_any_edit_twice(before: list[Edit], edit: Edit, policy: Policy) -> None:
    """An edit applied once more, by the same worker or another one, changes no document and no delta."""
    once = Mirror()
    once.apply(before, policy)
    same = copy_of(once)
    once.apply([edit], policy)
    other = copy_of(once)
    other.apply([edit], policy)
    same.apply([edit, edit], policy)
    for twice in (other, same):
        assert twice.documents == once.documents
        assert twice.changes == once.changes
        assert (twice.messages, twice.threads) == (once.messages, once.threads)


@given(EDITS, POLICIES, st.integers(1, 4), st.integers(6, 12))
@settings(max_examples=500)
def test_any_split(edits: list[Edit], policy: Policy, size: int, max_writes: int) -> None:
    """Edits split over slices, calls or workers leave the same documents, deltas and counts as all of them at once."""
    whole, slices, calls, workers = Mirror(), Mirror(), Mirror(), Mirror()
    # What was known of a thread goes with its document; only the sheet that deleted it remembers.
    forgotten: set[ThreadId] = set()
    whole.apply(edits, policy)
    slices.apply(edits, policy, max_writes=max_writes)
    sheet = calls.sheet(policy)
    for start in range(0, len(edits), size):
        calls.commit(sheet.slices(edits[start : start + size]))
        workers.apply(edits[start : start + size], policy)
        forgotten |= sheet.history_ids.keys() - workers.collection("threads").keys()
    calls.outdated = sheet.outdated
    for split in (slices, calls, workers):
        assert split.changes == whole.changes
        assert (split.messages, split.threads) == (whole.messages, whole.threads)
        assert (split.blobs, split.outdated) == (whole.blobs, whole.outdated)
    assert slices.documents == calls.documents == whole.documents
    assert workers.but_for(forgotten) == whole.but_for(forgotten)


@given(EDITS, st.lists(MESSAGE_EDITS, max_size=12), st.permutations(IDS), POLICIES)
@settings(max_examples=500)
def test_edits_of_different_messages_commute(
    before: list[Edit], edits: list[Edit], order: list[MessageId], policy: Policy
) -> None:
    """Only the order of edits of the same message matters."""
    mixed = Mirror()
    mixed.apply(before, policy)
    sorted_ = copy_of(mixed)
    mixed.apply(edits, policy)
    sorted_.apply(sorted(edits, key=lambda edit: order.index(subject(edit))), policy)
    assert sorted_.documents == mixed.documents
    assert (sorted_.messages, sorted_.threads) == (mixed.messages, mixed.threads)
    assert replayed(sorted_.changes) == replayed(mixed.changes)


@given(EDITS, COPIES, POLICIES)
@settings(max_examples=500)
def test_newest_copy_always_wins(before: list[Edit], copy: Message, policy: Policy) -> None:
    """Whatever happened before, a copy newer than all of it leaves the message as Gmail says, or not at all."""
    mirror = Mirror()
    mirror.apply(before, policy)
    copy = replace(copy, history_id=30)
    mirror.apply([Bring(copy)], policy)
    expected = (copy.thread_id, copy.label_ids) if policy.wants(copy.label_ids, copy.internal_date) else None
    assert mirror.labels().get(copy.id) == expected
    assert faults(mirror, policy) == []


@given(
    EDITS, st.builds(Bring, COPIES, rewrite=st.booleans()) | st.builds(Refresh, st.sampled_from(IDS), LABELS, HISTORY)
)
@settings(max_examples=500)
def test_older_copy_never_wins(before: list[Edit], edit: Bring | Refresh) -> None:
    """Whatever happened before, a copy older than the mirror's is reported and overwrites nothing."""
    mirror = Mirror()
    mirror.apply(before)
    known = mirror.sheet(NO_SPAM_TRASH).entry(subject(edit))
    at = edit.message.history_id if isinstance(edit, Bring) else edit.history_id
    sheet = mirror.sheet(NO_SPAM_TRASH)
    parts = sheet.slices([edit])
    if known is not None and at < known.history_id:
        assert parts == []
        assert sheet.outdated == [subject(edit)]
    else:
        assert sheet.outdated == []


# A mailbox, and the log of it that is read in windows, again and again

Kind = Literal["add", "label", "delete"]


@dataclass
class Life:
    """A mailbox as it was after each of its records.

    Attributes:
        records: its whole history.
        states: the messages there were before the first record, after it, and so on.
    """

    records: list[Record] = field(default_factory=list)
    states: list[dict[MessageId, Message]] = field(default_factory=lambda: [{}])

    def live(
        self, kind: Kind, message_id: MessageId, labels: frozenset[str], other: frozenset[str], *, told: bool
    ) -> None:
        """Let something happen; what cannot happen to this message makes a record without changes."""
        at, state = 10 * len(self.states), dict(self.states[-1])
        record = Record(at)
        found = state.get(message_id)
        ever = any(message_id in past for past in self.states)
        if kind == "add" and not ever:
            state[message_id] = message(message_id, *labels, thread="t1" if message_id in IDS[:2] else "t2", at=at)
        elif kind == "label" and found is not None:
            state[message_id] = replace(found, label_ids=(found.label_ids | labels) - other, history_id=at)
        elif kind == "delete" and found is not None:
            del state[message_id]
        known = state.get(message_id) or found
        if known is not None and state != self.states[-1]:
            ref = MessageRef(message_id, known.thread_id, known.label_ids if told else None)
            if found is None:
                record = Record(at, messages_added=(ref,))
            elif message_id not in state:
                record = Record(at, messages_deleted=(ref,))
            else:
                added, removed = LabelStep(ref, labels), LabelStep(ref, other)
                record = Record(at, labels_added=(added,), labels_removed=(removed,))
        self.records.append(record)
        self.states.append(state)


@dataclass(frozen=True)
class Window:
    """One worker's turn: what it sees, and where it dies.

    Attributes:
        later: records that happen before it fetches.
        unseen: the newest records, which history does not show yet.
        again: records that it reads although they are applied.
        fetches: the most fetches in a group.
        whole, part: it dies after `whole` groups and `part` slices of the next one.
    """

    later: int
    unseen: int
    again: int
    fetches: int = 50
    whole: int = 50
    part: int = 0


def turn(mirror: Mirror, life: Life, policy: Policy, applied: int, now: int, window: Window) -> int:
    """Apply a window of history to the mirror and return how many records are applied for good, by the cursor alone."""
    records = life.records[max(0, applied - window.again) : max(applied, now - window.unseen)]
    changes = fold(records)
    sheet = mirror.sheet(policy, max_writes=6)
    decided = {change.message_id: decide(change, sheet.entry(change.message_id), policy, None) for change in changes}
    for number, group in enumerate(groups(changes, records, decided, max_fetches=window.fetches, max_changes=3)):
        edits: list[Edit] = []
        for change in group.changes:
            copy = life.states[now].get(change.message_id)
            if decided[change.message_id] == "fetch" and copy is not None:
                edits.append(Bring(copy, change.steps))
            elif decided[change.message_id] == "relabel":
                edits.append(Relabel(change.message_id, change.steps))
            elif decided[change.message_id] == "remove":
                edits.append(Remove(change.message_id, change.last))
        parts = sheet.slices(edits)
        if number == window.whole:
            mirror.commit(parts[: window.part])
            return applied
        mirror.commit(parts)
        applied = max(applied, sum(record.id <= group.cursor for record in life.records))
    return max(applied, len(records) and sum(record.id <= records[-1].id for record in life.records))


EVENTS = st.tuples(st.sampled_from(["add", "add", "label", "label", "delete"]), st.sampled_from(IDS), LABELS, LABELS)
WINDOWS = st.builds(
    Window,
    later=st.integers(0, 5),
    unseen=st.integers(0, 3),
    again=st.integers(0, 8),
    fetches=st.integers(1, 3),
    whole=st.sampled_from([0, 1, 2, 50]),
    part=st.integers(0, 2),
)


@given(st.lists(EVENTS, max_size=20), st.booleans(), st.lists(WINDOWS, max_size=8), POLICIES)
@settings(max_examples=1_000)
def test_history_read_anyhow_ends_in_the_mailbox_as_it_is(
    events: Sequence[tuple[Kind, MessageId, frozenset[str], frozenset[str]]],
    told: bool,
    windows: list[Window],
    policy: Policy,
) -> None:
    """Windows of history that overlap, come again and stop half-way, with copies newer than the log, end in the mailbox
    as it is.
    """
    life, mirror = Life(), Mirror()
    for kind, message_id, labels, other in events:
        life.live(kind, message_id, labels, other, told=told)
    applied = now = 0
    end = len(life.records)
    for window in [*windows, Window(later=end, unseen=0, again=3)]:
        now = min(end, now + window.later)
        applied = turn(mirror, life, policy, applied, now, window)
    assert applied == end
    truth = life.states[-1].items()
    expected = {
        i: (m.thread_id, m.label_ids, m.history_id) for i, m in truth if policy.wants(m.label_ids, m.internal_date)
    }
    documents = mirror.collection("messages").items()
    assert {i: (m["threadId"], frozenset(m["labelIds"]), m["historyId"]) for i, m in documents} == expected
    assert mirror.outdated == []
    assert faults(mirror, policy) == []


# Slices


def sizes(parts: Iterable[Slice]) -> list[int]:
    """The bytes of each slice's commit: its documents and its delta."""
    return [
        sum(weigh(write.data) for write in part.writes)
        + weigh(to_document(Delta(1, NOW, "backfill", 1, part.changes, NOW)))
        for part in parts
    ]


def check(parts: Sequence[Slice], most: int) -> None:
    """Every slice is within Firestore's limits, and there are not more of them than it takes."""
    assert max(len(part.writes) for part in parts) <= MIRROR_WRITES < MAX_WRITES
    assert max(sizes(parts)) <= MAX_BYTES
    assert max(weigh(write.data) for part in parts for write in part.writes) < MAX_DOCUMENT
    assert len(parts) <= most


def long_id(number: int) -> str:
    """An id as long as Gmail's."""
    return f"m{0x18C3F2A1B2C3D4E5 + number}"


def fresh() -> Sheet:
    """A sheet on an empty mirror."""
    return Sheet({}, policy=EVERYTHING, origin="backfill", now=NOW)


@pytest.mark.parametrize("threads", [1, 60])
@pytest.mark.parametrize("character", ["x", "ä", "漢"])
def test_slices_of_large_bodies(threads: int, character: str) -> None:
    """60 bodies of 200 kB go into a few commits, none of them too large."""
    body = Body(text=character * (200_000 // len(character.encode())))
    messages = [replace(message(f"m{n}", "INBOX", thread=f"t{n % threads}"), body=body) for n in range(60)]
    parts = fresh().slices(map(Bring, messages))
    check(parts, most=8)
    assert sum(part.messages for part in parts) == 60
    assert sum(part.threads for part in parts) == threads


def test_slices_of_label_changes_all_over() -> None:
    """500 label changes in 500 threads go into three commits."""
    mirror = mirror_of(*(message(long_id(n), "INBOX", thread=f"t{n}") for n in range(500)))
    parts = mirror.sheet().slices(Relabel(long_id(n), (step(11, "STARRED"),)) for n in range(500))
    check(parts, most=3)
    assert [change.message_id for part in parts for change in part.changes] == [long_id(n) for n in range(500)]


def test_slices_of_one_long_thread() -> None:
    """100 messages of one thread go into one commit, with one thread document."""
    parts = fresh().slices(Bring(message(long_id(n), "INBOX", "UNREAD")) for n in range(100))
    check(parts, most=1)
    assert [write.path for write in parts[0].writes if write.path[0] == "threads"] == [("threads", "t1")]


WIDE = "\N{GRINNING FACE}" * 4_000


def wide(number: int, thread: ThreadId) -> Message:
    """A message whose summary takes as many bytes as one can, with 20 labels."""
    labels = (f"Label_{label:019d}" for label in range(20))
    return replace(
        message(long_id(number), *labels, thread=thread),
        snippet=WIDE[:MAX_SUMMARY],
        headers=Headers(from_=Address(f"{number:04d}{WIDE}", f"{number:04d}{WIDE}"), subject=WIDE),
        body=Body(),
    )


def test_slices_of_the_longest_thread() -> None:
    """A thread of 100 messages with the widest summaries is a document that can be stored, however it is changed."""
    mirror = Mirror()
    parts = mirror.sheet().slices(Bring(wide(n, "t1")) for n in range(100))
    check(parts, most=4)
    mirror.commit(parts)
    check(mirror.sheet().slices(Relabel(long_id(n), (step(11, "X"),)) for n in range(100)), most=2)


def test_a_thread_far_longer_than_any_of_gmail() -> None:
    """A thread of hundreds of messages is a document that can be stored, however wide they are and however it is
    changed: what the messages in the middle repeat of themselves gives way, and what the thread itself says stays. A
    message that is too many is refused and told, and changes nothing.
    """
    mirror, crowded = Mirror(), 0
    while not crowded:
        start = mirror.messages
        sheet = mirror.sheet()
        parts = sheet.slices(Bring(wide(n, "t1")) for n in range(start, start + 100))
        check(parts, most=5)
        mirror.commit(parts)
        crowded = len(sheet.crowded)
    count = mirror.messages
    assert count > 500
    parts = mirror.sheet().slices(Relabel(long_id(n), (step(11, "X"),)) for n in range(count))
    check(parts, most=6)
    mirror.commit(parts)
    thread = mirror.collection("threads")["t1"]
    assert len(thread["messages"]) == len(thread["messageIds"]) == thread["messageCount"] == count
    assert thread["subject"] == thread["snippet"] == WIDE[:MAX_SUMMARY]
    shown = [thread["messages"][message_id]["subject"] for message_id in thread["messageIds"]]
    assert {len(text) for text in shown[:WHOLE] + shown[-WHOLE:]} == {MAX_SUMMARY}
    assert max(len(text) for text in shown[WHOLE:-WHOLE]) < MAX_SUMMARY
    sheet = mirror.sheet()
    assert sheet.slices([Bring(wide(count, "t1"))]) == []
    assert sheet.crowded == {long_id(count): "t1"}
    sheet.slices([*(Remove(long_id(n), 12) for n in range(100)), Bring(wide(count, "t1"))])
    assert sheet.place(long_id(count)) == "t1"


def test_a_long_thread_of_short_messages_is_kept_whole() -> None:
    """What fits is not cut: 500 messages with ordinary summaries are all there, and there is room for as many more."""
    entries = {
        long_id(n): entry("INBOX", "UNREAD", minute=n, sender=f"Sender {n}", subject="Re: " * 10, snippet="x" * 200)
        for n in range(500)
    }
    document = thread_document(Thread("t1", 1, entries))
    assert weigh(document) < MAX_DOCUMENT
    assert document["messages"] == to_document(Thread("t1", 1, entries))["messages"]
    assert has_room((*entries.values(), *entries.values()), entry("INBOX", "UNREAD"))


def test_slices_of_many_wide_threads() -> None:
    """The summaries of many threads do not make a commit too large, in whatever script they are written."""
    mirror = Mirror()
    parts = mirror.sheet().slices(Bring(wide(n, f"t{n}")) for n in range(500))
    check(parts, most=20)
    mirror.commit(parts)
    check(mirror.sheet().slices(Relabel(long_id(n), (step(11, "X"),)) for n in range(500)), most=20)


def test_slices_of_wide_threads_and_a_large_message() -> None:
    """The largest message in the longest thread is not too much after label changes in many wide threads."""
    mirror = Mirror()
    mirror.apply(Bring(wide(n, "t0")) for n in range(100))
    mirror.apply(Bring(wide(n, f"t{n}")) for n in range(100, 340))
    attachments = tuple(Attachment("1", "x" * 1_000, "text/plain", 1) for _ in range(160))
    headers = Headers(to=(Address(WIDE, WIDE),) * 6, subject=WIDE, references=("x" * 40_000,))
    large = replace(wide(340, "t0"), headers=headers, attachments=attachments, body=Body("x" * 200_000))
    for others in range(100, 240, 10):
        changes = [Relabel(long_id(n), (step(11, "X"),)) for n in range(100, 100 + others)]
        check(mirror.sheet().slices([*changes, Bring(large)]), most=5)


@given(EDITS, st.lists(MESSAGE_EDITS, max_size=30), st.integers(6, 12))
def test_slices_keep_their_limit(before: list[Edit], edits: list[Edit], max_writes: int) -> None:
    """No slice has more writes than it may, whatever the edits; and none is empty."""
    mirror = Mirror()
    mirror.apply(before)
    parts = mirror.sheet(max_writes=max_writes).slices(edits)
    assert all(1 <= len(part.writes) <= max_writes for part in parts)


def test_slices_keep_their_limit_with_messages_in_two_threads() -> None:
    """A message that two threads list may take one write more, and there is room for it."""
    threads = {f"t{n}": Thread(f"t{n}", 1, {f"m{n // 2}": entry("INBOX")}) for n in range(40)}
    for max_writes in range(6, 12):
        sheet = Sheet(threads, policy=EVERYTHING, origin="live", now=NOW, max_writes=max_writes)
        parts = sheet.slices([Relabel(f"m{n}", (step(11, "X"),)) for n in range(20)])
        assert max(len(part.writes) for part in parts) <= max_writes


def test_slices_keep_their_bytes() -> None:
    """The bytes that a sheet is given are kept even when threads are long and label changes far between."""
    long: Mapping[ThreadId, Thread] = {
        f"t{t}": Thread(
            f"t{t}", 1, {f"m{t * 100 + n}": entry("INBOX", minute=n, subject="x" * 500) for n in range(100)}
        )
        for t in range(60)
    }
    sheet = Sheet(long, policy=EVERYTHING, origin="live", now=NOW)
    parts = sheet.slices([Relabel(f"m{t * 100}", (step(11, "X"),)) for t in range(60)])
    check(parts, most=12)
    assert max(sizes(parts)) <= MIRROR_BYTES


def test_no_edits_no_slices() -> None:
    """Nothing is written when there is nothing to do."""
    assert mirror_of(message("m1")).sheet().slices([]) == []
