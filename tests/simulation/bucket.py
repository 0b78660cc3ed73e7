"""Objects, judged: what messages name is there and holds what its name says, and what nobody names is deleted.

Knows: which objects mirrored messages name, who wrote each, who took the last name off it, and who of them something
went wrong with. Does not know: when an object is written or deleted; nothing of `mailmirror` runs here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from tests.simulation.violation import Violation, who

Document = Mapping[str, Any]
_NOTHING: Mapping[str, Document] = {}


class Store(Protocol):
    """What is read: the documents by collection and id."""

    @property
    def collections(self) -> Mapping[tuple[str, str], Mapping[str, Document]]:
        """The documents below each mailbox."""
        ...


class Bucket:
    """Judges the objects of one mailbox."""

    def __init__(self, address: str, store: Store, objects: Mapping[str, bytes]) -> None:
        """Look at the mailbox's messages and objects; neither is ever written."""
        self._address = address
        self._messages = (address, "messages")
        self._store = store
        self._objects = objects
        # By message the objects that its document named when it was last written.
        self._held: dict[str, frozenset[str]] = {}
        # Who has to see to it that an object goes: whoever wrote it, and whoever took a name off it.
        self._duty: dict[str, set[object]] = {}
        self._unlucky: set[object] = set()

    def begin(self) -> None:
        """Forget a life of the mailbox."""
        self._held.clear()
        self._duty.clear()

    def unlucky(self, task: object) -> None:
        """Take in that a task was not answered or slept too long: what it leaves behind is not its fault."""
        self._unlucky.add(task)

    def wrote(self, task: object, name: str) -> None:
        """Take in that a task wrote an object."""
        self._duty.setdefault(name, set()).add(task)

    def deleted(self, task: object, name: str) -> None:
        """Judge that a task has just deleted an object.

        Raises:
            Violation: a mirrored message names it.
        """
        self._duty.pop(name, None)
        for message_id, document in self._documents().items():
            if name in document.get("objects", ()):
                raise self._wrong(f"{who(task)} deleted {name}, which message {message_id} names.")

    def touched(self, task: object, message_ids: Collection[str]) -> bool:
        """Judge the objects of messages that a commit touched; return whether one of them is another message's, too.

        Raises:
            Violation: one is not there, holds something else, or is not named as it should be.
        """
        documents, shared = self._documents(), False
        for message_id in message_ids:
            document = documents.get(message_id)
            names = frozenset(document.get("objects", ()) if document is not None else ())
            before = self._held.pop(message_id, frozenset())
            if document is not None:
                fault = self.fault(document)
                if fault:
                    raise self._wrong(fault)
                shared = shared or any(not names.isdisjoint(others) for others in self._held.values())
                self._held[message_id] = names
            for name in before - names:
                self._duty.setdefault(name, set()).add(task)
        return shared

    def fault(self, document: Document) -> str:
        """Return what is wrong with the objects of a message document."""
        message_id, names = document.get("id"), list(document.get("objects", ()))
        uris = [document["body"].get("uri"), *(each.get("uri") for each in document.get("attachments", ()))]
        used = sorted({str(uri).removeprefix("memory://") for uri in uris if uri})
        if names != used:
            return f"Message {message_id} names the objects {names}, but its body and attachments are in {used}."
        for name in names:
            data = self._objects.get(name)
            if data is None:
                return f"Message {message_id} names {name}, which is not there."
            if name != f"{self._address}/{hashlib.sha256(data).hexdigest()}":
                return f"Message {message_id} names {name}, which holds something else."
        return ""

    def faults(self) -> Iterator[str]:
        """Judge all objects that are named."""
        for document in self._documents().values():
            fault = self.fault(document)
            if fault:
                yield fault

    def orphans(self, there: Sequence[str]) -> list[str]:
        """Return those of some objects that no message names, though nothing went wrong with whoever left them."""
        named = {name for document in self._documents().values() for name in document.get("objects", ())}
        return [name for name in there if name not in named and not self._excused(name)]

    def _excused(self, name: str) -> bool:
        return any(task in self._unlucky or getattr(task, "killed", False) for task in self._duty.get(name, ()))

    def _documents(self) -> Mapping[str, Document]:
        return self._store.collections.get(self._messages, _NOTHING)

    def _wrong(self, sentence: str) -> Violation:
        return Violation(f"{self._address}: {sentence}")
