"""The end of a mailbox, judged: what a purge deletes, what it says of that, and what may be left.

Knows: which documents were there when the purge began, which objects were written by whom, and that one may be left:
an object written by a worker that had lost its lease, because nothing leads to it. Does not know: how a purge goes
about it; nothing of `mailmirror` runs here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tests.simulation.violation import Violation, who

if TYPE_CHECKING:
    from mailmirror.model import Mailbox, Receipt
    from mailmirror.slice import Write


class Store(Protocol):
    """What is read: the documents by collection and id."""

    @property
    def collections(self) -> Mapping[tuple[str, str], Mapping[str, Mapping[str, Any]]]:
        """The documents below each mailbox."""
        ...


class Ending:
    """Judges the purge of one mailbox."""

    def __init__(self, address: str, store: Store, objects: Mapping[str, bytes]) -> None:
        """Look at the mailbox's documents and objects; neither is ever written."""
        self._address = address
        self._store = store
        self._objects = objects
        # Objects written without the lease: nobody can know of them.
        self._late: set[str] = set()
        self._there: Counter[str] | None = None
        # Objects deleted since the purge began, and of those written without the lease how many there were.
        self._deleted = self._strayed = 0
        self.disturbed = False

    def wrote(self, name: str, *, late: bool) -> None:
        """Take in that an object was written, late when by a worker that does not have the lease."""
        if late:
            self._late.add(name)
            self._strayed += 1
        else:
            self._late.discard(name)

    def deleted(self) -> None:
        """Take in that an object was deleted."""
        self._deleted += 1

    def purged(self, task: object, before: Mailbox, after: Mailbox, writes: Sequence[Write]) -> bool:
        """Judge a commit of a purge; False when it is none.

        Raises:
            Violation: it does something else than to delete, or counts wrongly.
        """
        if after.phase != "purging":
            if before.phase == "purging":
                raise self._wrong(f"{who(task)} ended the purge with phase {after.phase}.")
            return False
        if before.purge is None or self._there is None:
            self._there = self.documents() + Counter(write.path[-2] for write in writes)
            self._deleted = self._strayed = 0
        kept = [write for write in writes if write.kind != "delete"]
        if kept or after.cursor != before.cursor or after.delta_seq != before.delta_seq or after.run != before.run:
            raise self._wrong(f"{who(task)} wrote {kept or 'state'} to a mailbox that is being purged.")
        if after.wanted != "purged" or after.purge is None:
            raise self._wrong(f"A mailbox is being purged that is wanted {after.wanted}, with {after.purge}.")
        gone = self._there - self.documents()
        if gone != Counter(after.purge.documents):
            raise self._wrong(
                f"The purge says that {dict(after.purge.documents)} are gone, but those are {dict(gone)}."
            )
        return True

    def removed(self, task: object, before: Mailbox, receipt: Receipt) -> None:
        """Judge that a mailbox was removed, and the receipt that is left.

        Raises:
            Violation: something else is left, or the receipt does not tell what there was.
        """
        if before.wanted != "purged" or before.phase != "purging":
            raise self._wrong(f"{who(task)} removed a mailbox in phase {before.phase} that is wanted {before.wanted}.")
        self.nothing_left()
        there = self._there or Counter[str]()
        if Counter(receipt.documents) != there:
            raise self._wrong(f"The receipt says {dict(receipt.documents)}, but there were {dict(there)}.")
        if not receipt.objects <= self._deleted + self._strayed:
            raise self._wrong(f"The receipt says {receipt.objects} objects, but {self._deleted} were deleted.")
        if receipt.objects < self._deleted and not self.disturbed:
            raise self._wrong(f"Nothing went wrong, and the receipt says {receipt.objects} of {self._deleted} objects.")
        if receipt.started_at > receipt.purged_at or receipt.expire_at <= receipt.purged_at:
            raise self._wrong(f"The receipt's times do not fit: {receipt}.")
        self._there = None

    def nothing_left(self) -> None:
        """Judge that nothing is left of a mailbox that was removed.

        Raises:
            Violation: a document is, or an object that somebody could have known of.
        """
        documents = self.documents()
        objects = self.objects()
        if documents or objects:
            raise self._wrong(f"The mailbox was removed, and left are {dict(documents)} and {objects[:5]}.")

    def objects(self) -> list[str]:
        """Return the objects of the mailbox, without those that nobody could know of."""
        return [name for name in self._objects if name.startswith(f"{self._address}/") and name not in self._late]

    def documents(self) -> Counter[str]:
        """Return how many documents there are below the mailbox, by the collection that they are in."""
        found: Counter[str] = Counter()
        for (address, collection), documents in self._store.collections.items():
            if address == self._address and documents:
                found[collection.rpartition("/")[2]] += len(documents)
        return found

    def _wrong(self, sentence: str) -> Violation:
        return Violation(f"{self._address}: {sentence}")
