"""The checker: an independent judge of what the workers of a simulation do to one mailbox's mirror.

Knows: all that ever happened in the fake Gmail, what the delta log says, and from both of them what the documents must
be. Does not know: how mail is synced; nothing of `mailmirror` runs here. It keeps the promise that nothing false stays
unseen: every commit is judged in the moment it takes effect, by what it touches alone, and the whole mirror at the end.

The judge's own books are the shadow (the mirror as the deltas tell it), all history records, the lease as it saw it
change hands, the policies that its holder may go by, what deployments keep of a message, labels that were deleted or
changed without a record, and where the cursor was. Purges are judged by `ending`, objects by `bucket`, what is to
rest by `resting`, and what applications are told by `announcing`.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from local.gmail import mime
from local.gmail import truth as yardstick
from tests.simulation.announcing import Announcing
from tests.simulation.bucket import Bucket
from tests.simulation.ending import Ending
from tests.simulation.resting import Resting
from tests.simulation.scope import bare_fault, belongs, moment
from tests.simulation.violation import Violation, who

if TYPE_CHECKING:
    from mailmirror.model import Mailbox, Policy, Receipt, Run
    from mailmirror.slice import Write

    from local.gmail.history import Record
    from local.gmail.mailbox import Mailbox as GmailMailbox
    from local.gmail.message import StoredMessage

Document = Mapping[str, Any]
Documents = Mapping[str, Document]

# Sender, subject and snippet as a thread document repeats them, in characters; senders that it names.
SUMMARY = 500
PARTICIPANTS = 100
# In these stages a run still has to bring what its listing names.
BRINGING = ("listing", "planning", "fetching")
ORIGINS = ("live", "backfill", "repair")
# What a reader calls an attachment.
FILES = ("file", "message")
# What became too old less than so long ago may still be mirrored: until the mailbox is due, swept and worked on.
SOON = timedelta(minutes=30)
DAY = timedelta(days=1)
# These runs fetch what is missing; the others may look at everything.
SPARING = ("first", "policy")

_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
_WORD = re.compile(r"\w+")
_NOTHING: Documents = {}
_NOBODY: Collection[str] = frozenset()


class Store(Protocol):
    """What the checker reads: the state of mailboxes, and their documents by collection and id."""

    @property
    def states(self) -> Mapping[str, Mailbox]:
        """The mailboxes."""
        ...

    @property
    def collections(self) -> Mapping[tuple[str, str], Documents]:
        """The documents below each mailbox."""
        ...


class Mirrored:
    """A message as the deltas tell it, and the history id of its document when it was last seen."""

    __slots__ = ("history_id", "labels", "thread")

    def __init__(self, thread: str, labels: list[str]) -> None:
        self.thread = thread
        self.labels = labels
        self.history_id = 0


class Shadow:
    """The mirror as the delta log alone tells it: what an application that follows the deltas has."""

    def __init__(self) -> None:
        self.messages: dict[str, Mirrored] = {}
        self.threads: dict[str, set[str]] = {}

    def apply(self, change: Document) -> str:
        """Apply a change; return what is wrong with it, nothing when it has an effect."""
        kind, message_id, thread = change["type"], change["messageId"], change["threadId"]
        held = self.messages.get(message_id)
        if kind == "messageAdded":
            if held is not None:
                return f"adds message {message_id} to thread {thread}, but thread {held.thread} has it already"
            if change["labelsRemoved"]:
                return f"adds message {message_id} and takes labels off it in one change"
            self.messages[message_id] = Mirrored(thread, sorted(change["labelsAdded"]))
            members = self.threads.get(thread)
            if members is None:
                self.threads[thread] = {message_id}
            else:
                members.add(message_id)
            return ""
        if held is None:
            return f"says {kind} of message {message_id}, which is not mirrored"
        if held.thread != thread:
            return f"says {kind} of message {message_id} in thread {thread}, but it is in thread {held.thread}"
        if kind == "messageDeleted":
            del self.messages[message_id]
            members = self.threads[thread]
            members.discard(message_id)
            if not members:
                del self.threads[thread]
            return ""
        return _relabel(held, change) if kind == "labelsChanged" else f"has a change of the unknown type {kind!r}"


def _relabel(held: Mirrored, change: Document) -> str:
    labels, added, removed = set(held.labels), change["labelsAdded"], change["labelsRemoved"]
    if not added and not removed:
        return f"says labelsChanged of message {change['messageId']} and names no label"
    if not labels.isdisjoint(added):
        return f"adds {_said(labels.intersection(added))} to message {change['messageId']}, which has it"
    if not labels.issuperset(removed):
        return f"takes {_said(set(removed) - labels)} off message {change['messageId']}, which does not have it"
    labels.update(added)
    labels.difference_update(removed)
    held.labels = sorted(labels)
    return ""


class Checker:
    """Judges one mailbox: `Violation` at the call that goes wrong, `differences` in the end.

    Example:
        checker = Checker("ada@example.com", gmail, store, blobs.objects)
        checker.acquired(task, clock.now(), expires_at)
        checker.committed(task, before, after, writes, at=clock.now(), expires_at=later, release=False)
    """

    def __init__(
        self,
        address: str,
        gmail: GmailMailbox,
        store: Store,
        objects: Mapping[str, bytes],
        units_per_day: int | None = None,
        *,
        stores: bool = False,
    ) -> None:
        """Begin with an empty mirror, and with what history the fake has.

        Args:
            address: the mailbox.
            gmail: the fake; it is looked into, never called.
            store: where the mirror is.
            objects: large bodies and attachments by name; `memory://NAME` is the uri of one.
            units_per_day: what runs may spend of a day; None when that has no limit.
            stores: whether the bytes of attachments are kept.
        """
        self.stores = stores
        # Told of what is no fault, and has to happen for a seed to prove anything of it.
        self.on_event: Callable[[str], object] = _unheard
        self._address = address
        self._gmail = gmail
        self._store = store
        self._objects = objects
        self._of_messages = (address, "messages")
        self._of_threads = (address, "threads")
        self._of_parked = (address, "parked")
        self._of_deltas = (address, "deltas")
        # What the holder of the lease may go by: the policy that it was given, and those that came since.
        self._policies: list[Policy] = []
        self._policy: Policy | None = None
        self._records: list[Record] = []
        self._ids: list[int] = []
        self._of: dict[str, list[Record]] = {}
        self._originals: dict[str, StoredMessage] = {}
        self.ending = Ending(address, store, objects)
        self.bucket = Bucket(address, store, objects)
        self.announcing = Announcing(address)
        self._resting = Resting(units_per_day)
        # What deployments keep of a message, as long as workers of each are about; the last one is the present one.
        self._contents: list[str] = ["full"]
        # Labels that their user deleted; labels deleted or changed since the list was due, without a word in history.
        self._vanished: set[str] = set()
        self._untold: set[str] = set()
        self._today = True
        self._begin()
        for record in gmail._state.log.between(0, gmail._state.log.head):
            self.recorded(record)

    def _begin(self) -> None:
        """Begin with an empty mirror: nothing of a life before counts."""
        self._shadow = Shadow()
        self.bucket.begin()
        self._parked: dict[str, Document] = {}
        self._cursor = 0
        self._seq = 0
        self._connected_at = 0
        self._holder: object | None = None
        self._acquired_at = self._expires_at = _LONG_AGO
        self._expired: dict[int, object] = {}

    @property
    def holder(self) -> object | None:
        """The task that took the lease last and has not released it, None if there is none."""
        return self._holder

    # What happens around the mirror

    def recorded(self, record: Record) -> None:
        """Take in a history record at the moment it is made; it is never forgotten, whatever Gmail does."""
        if self._ids and record.id <= self._ids[-1]:
            return
        self._records.append(record)
        self._ids.append(record.id)
        message_id = record.message_id
        records = self._of.get(message_id)
        if records is not None:
            records.append(record)
            return
        self._of[message_id] = [record]
        # Kept because a message that is deleted in Gmail may be on its way into the mirror.
        original = self._gmail._state.messages.get(message_id)
        if original is not None:
            self._originals[message_id] = original

    def policy(self, policy: Policy) -> None:
        """Take in a policy that the mailbox has from now on; the holder of the lease may not know it yet."""
        self._policy = policy
        self._policies.append(policy)

    def wished(self, before: Mailbox, wanted: str) -> None:
        """Judge that somebody's wish was stored over the state before.

        Raises:
            Violation: it takes back a purge.
        """
        if before.wanted == "purged" and wanted != "purged":
            raise self._wrong(f"It was to be purged, and is wanted {wanted} again.")

    def wrote(self, task: object, name: str) -> None:
        """Take in that a task wrote an object of this mailbox."""
        self.ending.wrote(name, late=task is not self._holder)
        self.bucket.wrote(task, name)

    def deleted(self, task: object, name: str) -> None:
        """Judge that a task has just deleted an object of this mailbox.

        Raises:
            Violation: a mirrored message names it.
        """
        self.ending.deleted()
        self.bucket.deleted(task, name)

    def deployed(self, content: str) -> None:
        """Take in that another deployment keeps this much of each message from now on; old workers may be about."""
        self._contents.append(content)

    def settled(self) -> None:
        """Take in that nobody of an old deployment is about any more."""
        self._contents = self._contents[-1:]

    def untold(self, label_id: str) -> None:
        """Take in that a label was changed, or deleted, without a word in history."""
        self._untold.add(label_id)

    def vanished(self, label_id: str) -> None:
        """Take in that a label was deleted: from now on it may be taken off messages, whatever history says."""
        self._vanished.add(label_id)

    def has_untold_labels(self) -> bool:
        """Whether there are labels that only the label list tells of."""
        return bool(self._untold)

    def bodied(self, task: object, subject: str) -> None:
        """Judge that a task asks for a message with its body.

        Raises:
            Violation: it has the lease, and no policy that it may go by wants bodies.
        """
        if task is self._holder and not self._may_have_body():
            raise self._wrong(f"{who(task)} asks for {subject} with its body, which is left out.")

    def _may_have_body(self) -> bool:
        return "full" in self._contents and any(policy.bodies for policy in self._policies)

    def _must_have_body(self, policies: Collection[Policy]) -> bool:
        return "metadata" not in self._contents and all(policy.bodies for policy in policies)

    def has(self, message_id: str) -> bool:
        """Whether a message is mirrored as the present policy wants it."""
        state, message = self._store.states.get(self._address), self._gmail._state.messages.get(message_id)
        document = self._store.collections.get(self._of_messages, _NOTHING).get(message_id)
        if state is None or message is None or document is None:
            return False
        bare = self._must_have_body([state.policy]) and document["body"]["stored"] == "none"
        return not bare and self._wants(state.policy, message.label_ids, message.internal_date)

    def orphans(self) -> list[str]:
        """Return the objects that no mirrored message names, without those that somebody may leave behind."""
        return self.bucket.orphans(self.ending.objects())

    def _wants(self, policy: Policy, labels: Collection[str], milliseconds: int) -> bool:
        return belongs(policy, labels, milliseconds, self._gmail._clock.now())

    def fetched(self, task: object, subject: str, *, whole: bool, run: Run | None) -> None:
        """Judge that a slice of a run asks for a message, or for a whole thread with all its messages.

        Raises:
            Violation: the mirror has all of it, and the run is not one that looks at everything.
        """
        if run is None or run.stage != "fetching" or run.mode not in SPARING or run.anchor or task is not self._holder:
            return
        documents = self._store.collections.get(self._of_messages, _NOTHING)
        asked = [subject]
        if whole:
            asked = [i for i, told in self._of.items() if any(record.thread_id == subject for record in told)]
        for message_id in asked:
            document = documents.get(message_id)
            # What Gmail moved to another thread is looked at, wherever that one is found in the mirror.
            if document is None or len({record.thread_id for record in self._of[message_id]}) > 1:
                return
            if document["body"]["stored"] == "none" and self._may_have_body():
                return
        raise self._wrong(f"{who(task)} asks for {subject} in run {run.id}, and the mirror has it with what is wanted.")

    def expired(self, task: object) -> None:
        """Take in that history.list answered a task 404."""
        self._expired[id(task)] = task

    def acquired(self, task: object, at: datetime, expires_at: datetime, given: Mailbox | None = None) -> None:
        """Judge that a task took the lease.

        Args:
            task: who took it.
            at: when.
            expires_at: until when it holds.
            given: the mailbox that the task was given with it; its policy may be outdated.

        Raises:
            Violation: somebody else has it.
        """
        holder = self._holder
        if holder is not None and holder is not task and self._expires_at > at:
            raise self._wrong(
                f"{who(task)} took the lease at {at.time()}, but {who(holder)} holds it until "
                f"{self._expires_at.time()} and has not released it."
            )
        self._holder, self._acquired_at, self._expires_at = task, at, expires_at
        self._expired.pop(id(task), None)
        outdated = None if given is None else given.policy
        self._policies = [policy for policy in (self._policy, outdated) if policy is not None]
        self._resting.acquired(*((None, "live") if given is None else (given.quota, given.wanted)))

    def read(self, task: object, state: Mailbox) -> None:
        """Take in that a task has read the state: while it holds the lease, it goes by that from now on."""
        if task is self._holder:
            self._policies = [state.policy]
            self._resting.told(state.wanted)

    # A commit

    def committed(
        self,
        task: object,
        before: Mailbox,
        after: Mailbox,
        writes: Sequence[Write],
        *,
        at: datetime,
        expires_at: datetime,
        release: bool,
    ) -> None:
        """Judge a commit that has just taken effect.

        Args:
            task: who committed.
            before, after: the mailbox as it was stored just before, and as it is now.
            writes: the documents written; they are in the store.
            at: now.
            expires_at: until when the lease holds.
            release: whether the lease was given back.

        Raises:
            Violation: it breaks a promise.
        """
        self._fenced(task, before, after)
        self._expires_at = expires_at
        if release:
            self._holder = None
        if self.ending.purged(task, before, after, writes):
            return
        fault = self._resting.fault(before, after, writes, at)
        if fault:
            raise self._wrong(fault)
        unparked: list[str] = []
        if writes or after.delta_seq != self._seq:
            unparked = self._written(task, before, after, writes, at)
        self._counted(after)
        if after.cursor != self._cursor:
            self._moved(task, before, after)
            self._cursor = after.cursor
        run = after.run
        for message_id in unparked:
            self._settled(message_id, f"message {message_id} was taken out of the parked ones", run)
        if _pending(after):
            # The policy changed under the run, which may have trusted its listing for what was not listed. The next
            # run is due.
            return
        if run is not None and run.stage == "finished" and before.run is not None and before.run.stage != "finished":
            for message_id in self._of:
                self._settled(message_id, f"run {run.id} is finished", run)

    def removed(self, task: object, before: Mailbox, receipt: Receipt) -> None:
        """Judge that a task has removed the mailbox, and forget this life of it.

        Raises:
            Violation: it did not have the lease, or something is left.
        """
        self._held_by(task)
        self.ending.removed(task, before, receipt)
        if receipt.watch_stopped and self._gmail.active_watch() is not None and not self.ending.disturbed:
            raise self._wrong("The receipt says that Gmail watches no more, and it does.")
        self._begin()
        self.announcing.begin()

    def _held_by(self, task: object) -> None:
        if task is not self._holder:
            holder = "nobody has it" if self._holder is None else f"{who(self._holder)} took it last"
            raise self._wrong(f"{who(task)} committed without the lease: {holder}.")

    def _fenced(self, task: object, before: Mailbox, after: Mailbox) -> None:
        """Law 2, and what follows from it: nothing but commits moves the cursor, and a commit moves nothing else."""
        self._held_by(task)
        if before.cursor != self._cursor or before.delta_seq != self._seq:
            raise self._wrong(
                f"Outside of any commit the cursor went from {self._cursor} to {before.cursor} and deltaSeq from "
                f"{self._seq} to {before.delta_seq}."
            )
        if not self._policies or before.policy not in self._policies:
            self.policy(before.policy)
        if (
            before.hint != after.hint
            or (before.policy is not after.policy and before.policy != after.policy)
            or (before.watch is not after.watch and before.watch != after.watch)
            or (before.request is not after.request and before.request != after.request)
            or before.wanted != after.wanted
            or before.announced != after.announced
        ):
            raise self._wrong(
                f"{who(task)} wrote over what others write without a lease: hint, policy, watch, request, what is "
                "wanted or announced."
            )

    def _written(
        self, task: object, before: Mailbox, after: Mailbox, writes: Sequence[Write], at: datetime
    ) -> list[str]:
        """Judge the documents of a commit; return the messages that are not parked any more."""
        messages: dict[str, bool] = {}
        threads = dict.fromkeys(write.path[1] for write in writes if write.path[0] == "threads")
        deltas = [write.path[1] for write in writes if write.path[0] == "deltas"]
        retried = set(self._parked) if self._parked else _NOBODY
        parked = [write.path[1] for write in writes if write.path[0] == "parked"]
        unparked = [message_id for message_id in parked if not self._is_parked(message_id, at)]
        for write in writes:
            if write.path[0] == "messages":
                # Whether the document is new, and not only some of its fields.
                messages[write.path[1]] = messages.get(write.path[1], False) or write.kind in {"create", "put"}
        removed: dict[str, Mirrored] = {}
        if deltas or after.delta_seq != self._seq:
            self._told(deltas, after, messages, threads, removed, retried)
        if messages:
            self._mirrored(messages, threads, calm=not (_active(before.run) or _active(after.run)))
            if self.bucket.touched(task, messages):
                self.on_event("object shared")
        for message_id, old in removed.items():
            if message_id not in self._shadow.messages:
                self._removed(message_id, old)
        for thread_id in threads:
            fault = self._thread_fault(thread_id)
            if fault:
                raise self._wrong(fault)
        return unparked

    def _mirrored(self, messages: Mapping[str, bool], threads: dict[str, None], *, calm: bool) -> None:
        """Judge the message documents that a commit touched; note their threads. It is calm when no run is active."""
        documents = self._store.collections.get(self._of_messages, _NOTHING)
        for message_id, new in messages.items():
            document = documents.get(message_id)
            held = self._as_told(message_id, document)
            if held is not None and document is not None:
                threads[held.thread] = None
                # A run may still have to repair what was lost with expired history.
                if calm and message_id not in self._parked:
                    self._as_of(message_id, document)
                bare = not new and document["body"]["stored"] == "none" and bare_fault(document)
                fault = self._body_fault(message_id, document, self._policies) if new else bare
                if fault:
                    raise self._wrong(fault)

    def _told(
        self,
        names: Sequence[str],
        after: Mailbox,
        messages: dict[str, bool],
        threads: dict[str, None],
        removed: dict[str, Mirrored],
        retried: Collection[str],
    ) -> None:
        """Judge the delta of a commit and apply it to the shadow; note which messages and threads it names."""
        seq = self._seq + 1
        if list(names) != [f"{seq:020d}"] or after.delta_seq != seq:
            raise self._wrong(
                f"After delta {self._seq} a commit wrote the deltas {', '.join(names) or 'none'} and deltaSeq "
                f"{after.delta_seq}; it takes the one document {seq:020d} and deltaSeq {seq}."
            )
        delta = self._store.collections.get(self._of_deltas, _NOTHING)[names[0]]
        fault = _delta_fault(delta, seq, after.cursor)
        if fault:
            raise self._wrong(f"Delta {seq} {fault}.")
        self._seq = seq
        self.announcing.committed(delta)
        shadow = self._shadow
        for change in delta["changes"]:
            message_id = change["messageId"]
            old = shadow.messages.get(message_id)
            fault = shadow.apply(change)
            if fault:
                raise self._wrong(f"Delta {seq} {fault}.")
            messages.setdefault(message_id, False)
            threads[change["threadId"]] = None
            if not self._vanished.isdisjoint(change["labelsRemoved"]):
                self.on_event("label taken off")
            if old is None and message_id not in retried:
                self._news(message_id, delta)
            elif old is not None and change["type"] == "messageDeleted":
                removed.setdefault(message_id, old)

    def _news(self, message_id: str, delta: Document) -> None:
        """What was there before is no news, as what was there before the mailbox was connected and what another policy
        lets in: a delta that says live sets automations off.
        """
        if delta["origin"] != "live":
            return
        records = self._of.get(message_id)
        if records is not None and records[-1].id <= self._cursor:
            raise self._wrong(
                f"Delta {delta['seq']} says that message {message_id} came live, but nothing happened to it since "
                f"record {records[-1].id}, and the cursor was {self._cursor}; the mailbox was connected at "
                f"{self._connected_at}."
            )

    def _as_told(self, message_id: str, document: Document | None) -> Mirrored | None:
        """Judge a message document by the deltas."""
        held = self._shadow.messages.get(message_id)
        if document is None:
            if held is not None:
                raise self._wrong(f"Message {message_id} is not mirrored any more, and no delta says so.")
            return None
        if held is None:
            raise self._wrong(f"Message {message_id} is mirrored, but by the deltas it is not.")
        if document.get("labelIds") != held.labels or document.get("threadId") != held.thread:
            raise self._wrong(
                f"Message {message_id} is in thread {document.get('threadId')} with "
                f"{_labels(document.get('labelIds'))}, but by the deltas it is in thread {held.thread} with "
                f"{_labels(held.labels)}."
            )
        history_id = document.get("historyId", 0)
        if history_id < held.history_id:
            raise self._wrong(
                f"The copy of message {message_id} went back from history id {held.history_id} to {history_id}."
            )
        held.history_id = history_id
        return held

    def _as_of(self, message_id: str, document: Document) -> None:
        """Judge a message document by what Gmail had at its history id."""
        history_id = document["historyId"]
        record = self._last(message_id, history_id)
        if record is None:
            raise self._wrong(f"Message {message_id} has history id {history_id}, but nothing had happened to it then.")
        if record.deleted:
            raise self._wrong(f"Message {message_id} has history id {history_id}, but record {record.id} deleted it.")
        labels = sorted(record.label_ids)
        if not self._alike(document["labelIds"], labels) or document["threadId"] != record.thread_id:
            raise self._wrong(
                f"Message {message_id} is in thread {document['threadId']} with {_labels(document['labelIds'])} as of "
                f"history id {history_id}, but by record {record.id} it was in thread {record.thread_id} with "
                f"{_labels(labels)}."
            )

    def _alike(self, some: Collection[str], others: Collection[str]) -> bool:
        """Whether two messages have the same labels, but for those that vanished: nobody knows when."""
        return set(some) - self._vanished == set(others) - self._vanished

    def _lost(self, message_id: str) -> set[str]:
        """The labels that a message carried once and that vanished."""
        return {label for record in self._of.get(message_id, ()) for label in record.label_ids} & self._vanished

    def _removed(self, message_id: str, old: Mirrored) -> None:
        """Judge that a message left the mirror."""
        present = self._gmail._state.messages.get(message_id)
        if present is None:
            return
        if self._unwanted(message_id, old.labels):
            now, date = self._gmail._clock.now(), present.internal_date
            if any(belongs(each, old.labels, date, now - DAY) for each in self._policies):
                self.on_event("messages aged")
            return
        for record in reversed(self._of.get(message_id, ())):
            if record.id < old.history_id:
                break
            if record.deleted or self._unwanted(message_id, record.label_ids):
                return
        raise self._wrong(
            f"Message {message_id} was deleted from the mirror, which had it as of history id {old.history_id}; Gmail "
            f"has it in thread {present.thread_id} with {_labels(present.label_ids)}, and no policy excluded that "
            "meanwhile."
        )

    def _unwanted(self, message_id: str, labels: Collection[str]) -> bool:
        """Whether a policy that the holder of the lease may go by leaves a message with these labels out, be it with
        or without those of them that vanished.
        """
        original = self._originals.get(message_id)
        date = 0 if original is None else original.internal_date
        left = set(labels) - self._vanished
        return any(
            not (self._wants(policy, labels, date) and self._wants(policy, left, date)) for policy in self._policies
        )

    def _thread_fault(self, thread_id: str) -> str:
        """Return what is wrong with a thread document, by the shadow and the message documents."""
        document = self._store.collections.get(self._of_threads, _NOTHING).get(thread_id)
        members = self._shadow.threads.get(thread_id, _NOBODY)
        if document is None or not members:
            if document is None and not members:
                return ""
            return f"Thread {thread_id} has {_said(members)} and {'no' if document is None else 'still a'} document."
        entries = document["messages"]
        if entries.keys() != members:
            return f"Thread document {thread_id} lists {_said(entries)}, but the thread has {_said(members)}."
        messages = self._store.collections.get(self._of_messages, _NOTHING)
        mirrored = self._shadow.messages
        labels: set[str] = set()
        unread = newest = 0
        for message_id, entry in entries.items():
            carried, history_id = entry["labelIds"], entry["historyId"]
            if carried != mirrored[message_id].labels:
                return (
                    f"Thread document {thread_id} says {_said(carried)} of message {message_id}, which has "
                    f"{_said(mirrored[message_id].labels)}."
                )
            message = messages.get(message_id)
            if message is None or history_id != message["historyId"]:
                return (
                    f"Thread document {thread_id} has message {message_id} as of history id {history_id}, its own "
                    f"document as of {None if message is None else message['historyId']}."
                )
            if entry["objects"] != len(message["objects"]):
                return f"Thread document {thread_id} counts {entry['objects']} objects of message {message_id}."
            newest = max(newest, history_id)
            labels.update(carried)
            unread += "UNREAD" in carried
        flags = [document["unread"], document["starred"], document["hasAttachments"]]
        if (
            document["messageCount"] == len(entries)
            and document["unreadCount"] == unread
            and document["labelIds"] == sorted(labels)
            and document["historyId"] >= newest
            and flags == [unread > 0, "STARRED" in labels, any(entry["hasAttachments"] for entry in entries.values())]
            and document["messageIds"] == sorted(entries, key=lambda each: (entries[each]["internalDate"], each))
        ):
            return ""
        return (
            f"Thread document {thread_id} has messageCount {document['messageCount']}, unreadCount "
            f"{document['unreadCount']}, labelIds {_said(document['labelIds'])}, historyId {document['historyId']}, "
            f"unread, starred and hasAttachments {flags} and messageIds {document['messageIds']}; its messages make "
            f"{len(entries)}, {unread}, {_said(labels)} and at least {newest}."
        )

    def _is_parked(self, message_id: str, at: datetime) -> bool:
        """Judge the parked document of a message, as it is now; False when it was taken out of the parked ones."""
        document = self._store.collections.get(self._of_parked, _NOTHING).get(message_id)
        before = self._parked.get(message_id)
        if document is None:
            return self._parked.pop(message_id, None) is None
        if document is before:
            return True
        self._parked[message_id] = document
        again, due = document["attempts"], document["nextAttemptAt"]
        if not str(document["reason"]).strip():
            raise self._wrong(f"Message {message_id} is parked without a reason.")
        # A failure before the next attempt is due is none of the attempts.
        least = 1 if before is None else before["attempts"] + (due > _due(before))
        if again < least:
            raise self._wrong(f"Message {message_id} is parked after {again} attempts; it should be {least}.")
        if before is not None and document["firstAt"] != before["firstAt"]:
            raise self._wrong(
                f"Message {message_id} was parked first at {before['firstAt']}, and now at {document['firstAt']}."
            )
        # Not the time of the commit: the worker may have slept over a minute between the failure and its commit.
        if due <= self._acquired_at or due <= document["firstAt"] or (before is not None and due < _due(before)):
            raise self._wrong(f"Message {message_id} was parked at {at}, and is due again in the past, at {due}.")
        return True

    def _counted(self, after: Mailbox) -> None:
        """Judge the counts."""
        counts, collections = after.counts, self._store.collections
        messages = len(collections.get(self._of_messages, _NOTHING))
        threads = len(collections.get(self._of_threads, _NOTHING))
        parked = len(collections.get(self._of_parked, _NOTHING))
        if counts.messages != messages or counts.threads != threads or counts.parked != parked:
            raise self._wrong(
                f"The counts say {counts.messages} messages, {counts.threads} threads, {counts.parked} parked; there "
                f"are {messages}, {threads} and {parked}."
            )

    # The cursor

    def _moved(self, task: object, before: Mailbox, after: Mailbox) -> None:
        """Law 1: judge that the cursor moved."""
        start, end, run = self._cursor, after.cursor, after.run
        if end < start:
            raise self._wrong(f"The cursor went back from {start} to {end}.")
        if end > self._gmail._state.log.head:
            raise self._wrong(
                f"The cursor went from {start} to {end}, which Gmail's history has not reached: it is at "
                f"{self._gmail._state.log.head}."
            )
        if start == 0:
            if run is None or (run.stage, run.mode, run.signpost) != ("listing", "first", end):
                raise self._wrong(f"The cursor went from 0 to {end} without a first run that has it as its signpost.")
            self._connected_at = end
            return
        if run is not None and run.stage == "listing" and run.signpost == end and self._jumped(task, before.run, run):
            return
        self._passed(start, end, before, after)

    def _jumped(self, task: object, before: Run | None, run: Run) -> bool:
        """Judge a cursor that went to the signpost of a run that lists; False when it may have walked there."""
        if before == run:
            return False
        start, end = self._cursor, run.signpost
        open_gap = before.anchor if before is not None and before.stage != "finished" else 0
        if id(task) not in self._expired:
            raise self._wrong(
                f"The cursor jumped from {start} to the signpost {end} of run {run.id}, though history after {start} "
                "had not expired."
            )
        if 0 < run.anchor <= (min(start, open_gap) or start):
            del self._expired[id(task)]
            return True
        raise self._wrong(
            f"The cursor jumped from {start} to the signpost {end} of run {run.id}, whose anchor is {run.anchor}: what "
            f"happened after {min(start, open_gap) or start} is not compared."
        )

    def _passed(self, start: int, end: int, before: Mailbox, after: Mailbox) -> None:
        """Judge that the cursor passed records: what each of them says must be in the mirror."""
        first = bisect_right(self._ids, start)
        last = bisect_right(self._ids, end, first)
        if first == last:
            return
        newest: dict[str, Record] = {}
        came: set[str] = set()
        for record in self._records[first:last]:
            newest[record.message_id] = record
            if record.added:
                came.add(record.message_id)
        # A policy that has just been changed, too, is followed by a run.
        pending = _pending(before) or _pending(after)
        bringing = pending or _bringing(before.run) or _bringing(after.run)
        following = pending or _active(before.run) or _active(after.run)
        for message_id, record in newest.items():
            # A run excuses changes of what it will bring anyway, not mail that is new.
            excused = bringing and message_id not in came
            # What the run will take away need not be moved before.
            leaving = following and self._unwanted(message_id, record.label_ids)
            fault = self._unapplied(message_id, record, excused=excused, leaving=leaving)
            if fault:
                raise self._wrong(f"The cursor passed record {record.id} on its way from {start} to {end}, but {fault}")

    def _settled(self, message_id: str, when: str, run: Run | None) -> None:
        """Judge that a message is as the cursor says, now that nothing excuses it any more."""
        record = self._last(message_id, self._cursor)
        if record is not None:
            fault = self._unapplied(message_id, record, excused=_bringing(run))
            if fault:
                raise self._wrong(f"Now that {when}, with the cursor at {self._cursor}: {fault}")

    def _unapplied(self, message_id: str, record: Record, *, excused: bool, leaving: bool = False) -> str:
        """Return how the mirror falls behind a record of a message; nothing when it does not, or may."""
        if message_id in self._parked:
            return ""
        document = self._store.collections.get(self._of_messages, _NOTHING).get(message_id)
        if document is not None:
            if record.deleted:
                return f"message {message_id}, which record {record.id} deleted, is still mirrored."
            if document["historyId"] >= record.id:
                return ""
            labels = sorted(record.label_ids)
            if self._alike(document["labelIds"], labels) and document["threadId"] == record.thread_id:
                return ""
            since = self._of[message_id][self._of[message_id].index(record) :] if leaving else [record]
            if (excused or leaving) and any(later.thread_id != document["threadId"] for later in since):
                # It was moved in a gap: history names a thread in which the mirror does not have it, and the run looks
                # at it.
                return ""
            return (
                f"message {message_id} is mirrored in thread {document['threadId']} with "
                f"{_labels(document['labelIds'])} as of history id {document['historyId']}; by record {record.id} it "
                f"is in thread {record.thread_id} with {_labels(labels)}."
            )
        if excused or record.deleted:
            return ""
        for later in reversed(self._of[message_id]):
            if later.deleted or self._unwanted(message_id, later.label_ids):
                return ""
            if later is record:
                break
        if self._unwanted(message_id, {*record.label_ids, *self._lost(message_id)}):
            # What keeps it out is a label that vanished; the label list will tell.
            return ""
        return (
            f"message {message_id} is neither mirrored nor parked; by record {record.id} it is in thread "
            f"{record.thread_id} with {_labels(record.label_ids)}, and no policy excludes that."
        )

    def _last(self, message_id: str, until: int) -> Record | None:
        """Return the last record of a message up to a history id."""
        records = self._of.get(message_id)
        if records is None:
            return None
        if records[-1].id <= until:
            return records[-1]
        position = bisect_right(records, until, key=_record_id)
        return records[position - 1] if position else None

    # The content of messages

    def _body_fault(self, message_id: str, document: Document, policies: Collection[Policy]) -> str:
        """Return what is wrong with the body of a message, by policies of which any may have been gone by."""
        original = self._originals.get(message_id)
        if original is None:
            return f"Message {message_id} is mirrored, but Gmail never had it."
        if document.get("body", {}).get("stored") == "none":
            if self._must_have_body(policies):
                return f"The body of message {message_id} is not mirrored, and the policy wants it."
            return bare_fault(document)
        if not any(policy.bodies for policy in policies) or self._contents == ["metadata"]:
            return f"The body of message {message_id} is mirrored, and the policy leaves it out."
        try:
            said = self._body(document)
        except (KeyError, TypeError, ValueError) as error:
            return f"The body of message {message_id} cannot be read: {error!r}."
        truth = _content(original.raw)
        for name in ("text", "html"):
            have, want = said[name], truth["body"][name]
            if name in truth["inWords"]:
                have, want = (" ".join(_WORD.findall(text)) for text in (have, want))
            if have != want:
                return f"The {name} of message {message_id} is {have!r:.80}, but Gmail has {want!r:.80}."
        return self._attachments_fault(message_id, document, truth["attachments"])

    def _attachments_fault(self, message_id: str, document: Document, truth: Sequence[Document]) -> str:
        """Return what is wrong with what a message document says of attachments."""
        names = ("partId", "filename", "mimeType", "size")
        have, want = (
            [[each.get(name) for name in names] for each in some] for some in (document["attachments"], truth)
        )
        if have != want:
            return f"The attachments of message {message_id} are {have}, but Gmail has {want}."
        # Whoever asked for the bytes may have come too late.
        cut = document["truncated"]
        kept = [each["uri"] is not None for each in document["attachments"]]
        if cut not in ([], ["attachments.uri"]) or (not cut and kept != [self.stores] * len(kept)):
            return f"The attachments of message {message_id} are kept or not: {kept}, and truncated are {cut}."
        return ""

    def _body(self, document: Document) -> Document:
        body: Document = document["body"]
        if body["stored"] == "storage":
            body = json.loads(self._objects[body["uri"].removeprefix("memory://")])
        return body

    # The whole mirror, at the end

    def differences(self, ignoring: Collection[str] = ()) -> list[str]:
        """Compare the whole mirror with the mailbox under its present policy; empty when they are equal.

        Args:
            ignoring: messages that are not compared, because they cannot be read. They may be mirrored or not, but
                what is mirrored must fit together all the same.
        """
        state = self._store.states.get(self._address)
        if state is None:
            return ["There is no mailbox document."]
        messages = self._gmail._state.messages
        ignoring = {*ignoring, *(i for i, message in messages.items() if self._is_open(i, message, state.policy))}
        wanted = {
            message_id: message
            for message_id, message in messages.items()
            if message_id not in ignoring and self._wants(state.policy, message.label_ids, message.internal_date)
        }
        mirrored = self._store.collections.get(self._of_messages, _NOTHING)
        found = [
            f"Message {message_id} is missing: Gmail has it in thread {message.thread_id} with "
            f"{_labels(message.label_ids)}, as of history id {message.history_id}."
            for message_id, message in wanted.items()
            if message_id not in mirrored
        ]
        for message_id, document in mirrored.items():
            if message_id in wanted:
                found += self._message_faults(message_id, wanted[message_id], document, state.policy)
            elif message_id not in ignoring:
                why = "the policy excludes it" if message_id in messages else "Gmail does not have it"
                found.append(f"Message {message_id} is mirrored, but {why}.")
        found += self._thread_differences(mirrored)
        found += self._label_differences(wanted.values())
        found += self._state_differences(state)
        found += self.bucket.faults()
        return found + self.deltas()

    def _is_open(self, message_id: str, message: StoredMessage, policy: Policy) -> bool:
        """Whether a message may be mirrored or not: it became too old a moment ago, or lost a label that vanished today
        and that the policy names.
        """
        date, labels, now = message.internal_date, set(message.label_ids), self._gmail._clock.now()
        before = labels | self._lost(message_id) if self._today else labels
        return len({self._wants(policy, some, date) for some in (labels, before)}) > 1 or (
            belongs(policy, labels, date, now - SOON) and not belongs(policy, labels, date, now)
        )

    def tomorrow(self) -> None:
        """Take in that the label list has been due since the last label was changed."""
        self._today = False
        self._untold.clear()

    def _message_faults(
        self, message_id: str, original: StoredMessage, document: Document, policy: Policy
    ) -> Iterator[str]:
        """Compare a message document with Gmail."""
        truth, headers = _content(original.raw), document.get("headers", {})
        labels = sorted(original.label_ids)
        if self._today and self._alike(document.get("labelIds", ()), labels):
            labels = document["labelIds"]
        for what, have, want in (
            ("id", document.get("id"), message_id),
            ("thread", document.get("threadId"), original.thread_id),
            ("labels", document.get("labelIds"), labels),
            ("internalDate", document.get("internalDate"), moment(original.internal_date)),
            ("sizeEstimate", document.get("sizeEstimate"), len(original.raw)),
            ("snippet", document.get("snippet"), original.snippet()),
            ("subject", headers.get("subject"), truth["subject"]),
            ("sender", headers.get("from"), truth["from"]),
            ("Message-ID", headers.get("messageId"), truth["messageId"]),
            ("References", headers.get("references"), truth["references"]),
        ):
            if have != want:
                yield f"The {what} of message {message_id}: mirrored {have!r:.120}, in Gmail {want!r:.120}."
        if document.get("historyId", 0) > original.history_id:
            yield (
                f"Message {message_id} is mirrored as of history id {document.get('historyId')}, but the last record "
                f"of it is {original.history_id}."
            )
        fault = self._body_fault(message_id, document, [policy])
        if fault:
            yield fault

    def _thread_differences(self, mirrored: Documents) -> Iterator[str]:
        """Compare all thread documents with the message documents."""
        threads = self._store.collections.get(self._of_threads, _NOTHING)
        members: dict[str, list[Document]] = {}
        for document in mirrored.values():
            members.setdefault(document["threadId"], []).append(document)
        for thread_id in members.keys() - threads.keys():
            yield f"Thread {thread_id} has no document."
        for thread_id, thread in threads.items():
            messages = sorted(members.get(thread_id, ()), key=lambda message: (message["internalDate"], message["id"]))
            if not messages or thread["messages"].keys() != {message["id"] for message in messages}:
                listed = [message["id"] for message in messages]
                have = _said(thread["messages"])
                yield f"Thread document {thread_id} lists {have}, but the thread has {_said(listed)}."
                continue
            for field, want in _derived(thread_id, messages).items():
                if thread.get(field) != want:
                    yield f"{field} of thread {thread_id} is {thread.get(field)!r:.120} and should be {want!r:.120}."
            for message in messages:
                for field, want in _entry(message).items():
                    have = thread["messages"][message["id"]].get(field)
                    if have != want:
                        yield (
                            f"Thread document {thread_id} says {field} {have!r:.120} of message {message['id']}, whose "
                            f"own document says {want!r:.120}."
                        )

    def _label_differences(self, wanted: Iterable[StoredMessage]) -> Iterator[str]:
        """Compare the labels that messages carry with Gmail's list; from tomorrow on the whole list."""
        documents = self._store.collections.get((self._address, "labels"), _NOTHING)
        listed = {label["id"]: label for label in self._gmail._state.labels.to_api(colors=True)}
        if self._today:
            compared = {label_id for message in wanted for label_id in message.label_ids} & listed.keys() - self._untold
        else:
            compared = listed.keys() | documents.keys()
        names = ("id", "name", "type", *_VISIBILITIES, *(() if self._today else ("color",)))
        for label_id in sorted(compared):
            label, document = listed.get(label_id), documents.get(label_id)
            have, want = ({name: each.get(name) for name in names} if each else None for each in (document, label))
            if have != want:
                yield f"Label {label_id}: mirrored {have!r:.200}, in Gmail {want!r:.200}."

    def _state_differences(self, state: Mailbox) -> Iterator[str]:
        """Compare the mailbox document with the documents below it, and look for work that was left behind."""
        collections = self._store.collections
        counts = state.counts
        for what, count in (("messages", counts.messages), ("threads", counts.threads), ("parked", counts.parked)):
            there = len(collections.get((self._address, what), _NOTHING))
            if count != there:
                yield f"The counts say {count} {what}, but there are {there}."
        if state.cursor != self._cursor:
            yield f"The cursor is {state.cursor}, but the last commit left it at {self._cursor}."
        if state.run is not None and state.run.stage != "finished":
            yield f"Run {state.run.id} is still in stage {state.run.stage}."
        if state.request is not None and _pending(state):
            yield f"Run {state.request.run_id} was asked for and never begun."
        for name, document in collections.get((self._address, "runs"), _NOTHING).items():
            if document.get("stage") != "finished":
                yield f"The report of run {name} says stage {document.get('stage')}."
        for (address, collection), documents in collections.items():
            if address == self._address and collection.startswith("runs/") and documents:
                yield f"{collection} was left behind with {_said(documents)}."

    def deltas(self) -> list[str]:
        """Replay the whole delta log from zero and compare it with the message documents; empty when they agree."""
        found: list[str] = []
        documents = self._store.collections.get(self._of_deltas, _NOTHING)
        state = self._store.states.get(self._address)
        last = state.delta_seq if state is not None else 0
        names = sorted(documents)
        if names != [f"{seq:020d}" for seq in range(1, last + 1)]:
            found.append(f"deltaSeq is {last}, and the delta log has {_said(names)}.")
        shadow = Shadow()
        cursor = 0
        for name in names:
            delta = documents[name]
            fault = _delta_fault(delta, int(name), max(cursor, delta["cursor"]))
            cursor = max(cursor, delta["cursor"])
            faults = [fault] if fault else []
            faults += filter(None, map(shadow.apply, delta["changes"]))
            found += [f"Delta {int(name)} {fault}." for fault in faults]
        mirrored = self._store.collections.get(self._of_messages, _NOTHING)
        for message_id in sorted(mirrored.keys() | shadow.messages.keys()):
            held, document = shadow.messages.get(message_id), mirrored.get(message_id)
            told = (held.thread, held.labels) if held is not None else None
            have = (document["threadId"], document["labelIds"]) if document is not None else None
            if told != have:
                found.append(f"By the deltas message {message_id} is {_place(told)}, but it is {_place(have)}.")
        return found

    def explained(self, now: datetime) -> bool:
        """Whether the mailbox document says in words why the mirror may not equal the mailbox."""
        state = self._store.states.get(self._address)
        if state is None:
            return False
        throttled = state.throttled_until is not None and state.throttled_until > now
        said = state.problem is not None and bool(state.problem.message.strip())
        if said or throttled or _pending(state) or state.phase != "live" or _active(state.run) or state.watch.error:
            return True
        parked = self._store.collections.get(self._of_parked, _NOTHING)
        return 0 < state.counts.parked == len(parked) and all(document["reason"] for document in parked.values())

    def _wrong(self, sentence: str) -> Violation:
        return Violation(f"{self._address}: {sentence}")


_VISIBILITIES = ("messageListVisibility", "labelListVisibility")


@lru_cache(maxsize=4096)
def _content(raw: bytes) -> Document:
    """Return what a mail says, by the fake's own yardstick; many worlds send the same mail."""
    message = mime.parse(raw)
    references = mime.header(message, "References").split()
    return yardstick.of(message) | {"messageId": mime.header(message, "Message-ID"), "references": references}


def _delta_fault(delta: Document, seq: int, cursor: int) -> str:
    """Return what is wrong with a delta itself, whatever its changes do."""
    if delta["seq"] != seq or delta["cursor"] != cursor:
        return f"says seq {delta['seq']} and cursor {delta['cursor']}; it should be {seq} and {cursor}"
    if not delta["changes"]:
        return "has no changes"
    if delta["origin"] not in ORIGINS:
        return f"has the unknown origin {delta['origin']!r}"
    return "" if delta["expireAt"] > delta["at"] else f"of {delta['at']} expires at {delta['expireAt']}"


def _derived(thread_id: str, messages: Sequence[Document]) -> dict[str, Any]:
    """Return what a thread document says that follows from its messages, oldest first."""
    senders = {message["headers"]["from"]["address"]: message["headers"]["from"] for message in reversed(messages)}
    first = dict.fromkeys(message["headers"]["from"]["address"] for message in messages)
    labels = {label for message in messages for label in message["labelIds"]}
    unread = sum("UNREAD" in message["labelIds"] for message in messages)
    return {
        "id": thread_id,
        "subject": messages[0]["headers"]["subject"][:SUMMARY],
        "snippet": messages[-1]["snippet"][:SUMMARY],
        "participants": [senders[address] for address in first if address][:PARTICIPANTS],
        "messageIds": [message["id"] for message in messages],
        "messageCount": len(messages),
        "unreadCount": unread,
        "unread": unread > 0,
        "starred": "STARRED" in labels,
        "hasAttachments": any(_has_files(message) for message in messages),
        "labelIds": sorted(labels),
        "firstMessageAt": messages[0]["internalDate"],
        "lastMessageAt": messages[-1]["internalDate"],
    }


def _entry(message: Document) -> dict[str, Any]:
    """Return what a thread document says of one of its messages."""
    return {
        "labelIds": message["labelIds"],
        "internalDate": message["internalDate"],
        "historyId": message["historyId"],
        "from": message["headers"]["from"],
        "subject": message["headers"]["subject"][:SUMMARY],
        "snippet": message["snippet"][:SUMMARY],
        "hasAttachments": _has_files(message),
        "stored": message["body"]["stored"],
        "objects": len(message["objects"]),
    }


def _has_files(message: Document) -> bool:
    return any(each["kind"] in FILES for each in message["attachments"])


def _pending(state: Mailbox) -> bool:
    """Whether a run was asked for that has not begun."""
    return state.request is not None and state.request.run_id != state.request_done


def _active(run: Run | None) -> bool:
    return run is not None and run.stage != "finished"


def _bringing(run: Run | None) -> bool:
    return run is not None and run.stage in BRINGING


def _due(parked: Document) -> datetime:
    due: datetime = parked["nextAttemptAt"]
    return due


def _unheard(_event: str) -> None:
    """Nobody listens."""


def _record_id(record: Record) -> int:
    return record.id


def _place(place: tuple[str, list[str]] | None) -> str:
    return "absent" if place is None else f"in thread {place[0]} with {_labels(place[1])}"


def _labels(names: Collection[str] | None) -> str:
    return _said(names) if names else "no labels"


def _said(names: Iterable[str] | None) -> str:
    """Return ids as words."""
    return ", ".join(sorted(names or ())) or "nothing"
