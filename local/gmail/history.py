"""The history log of one mailbox.

It knows ids that only grow and leave gaps, records with one or several kinds of change, a horizon below which
everything is forgotten, and a lag after which a change becomes visible. It does not know messages: a record keeps what
it needs of one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

MESSAGE_ADDED, MESSAGE_DELETED, LABEL_ADDED, LABEL_REMOVED = HISTORY_TYPES = (
    "messageAdded",
    "messageDeleted",
    "labelAdded",
    "labelRemoved",
)

# Gmail's ids jump; the number of changes can never be told from two ids.
_LARGEST_GAP = 60


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the log; `label_ids` are the message's labels just after the change."""

    id: int
    at: datetime
    message_id: str
    thread_id: str
    label_ids: tuple[str, ...]
    added: bool = False
    deleted: bool = False
    labels_added: tuple[str, ...] = ()
    labels_removed: tuple[str, ...] = ()

    def touches(self, label_id: str) -> bool:
        """Whether the message carries the label, or just lost it."""
        return label_id in self.label_ids or label_id in self.labels_removed

    def is_one_of(self, kinds: Collection[str]) -> bool:
        """Whether anything of the record would be shown."""
        return (
            (self.added and MESSAGE_ADDED in kinds)
            or (self.deleted and MESSAGE_DELETED in kinds)
            or (bool(self.labels_added) and LABEL_ADDED in kinds)
            or (bool(self.labels_removed) and LABEL_REMOVED in kinds)
        )

    def to_api(self, kinds: Collection[str]) -> dict[str, Any]:
        """As history.list shows it, limited to the kinds asked for."""
        shown: dict[str, Any] = {
            "id": str(self.id),
            "messages": [{"id": self.message_id, "threadId": self.thread_id}],
        }
        if self.added and MESSAGE_ADDED in kinds:
            shown["messagesAdded"] = [{"message": self._message()}]
        if self.deleted and MESSAGE_DELETED in kinds:
            shown["messagesDeleted"] = [{"message": self._message()}]
        if self.labels_added and LABEL_ADDED in kinds:
            shown["labelsAdded"] = [{"message": self._message(), "labelIds": list(self.labels_added)}]
        if self.labels_removed and LABEL_REMOVED in kinds:
            shown["labelsRemoved"] = [{"message": self._message(), "labelIds": list(self.labels_removed)}]
        return shown

    def _message(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": self.message_id, "threadId": self.thread_id}
        if self.label_ids:
            shown["labelIds"] = list(self.label_ids)
        return shown


class HistoryLog:
    """Records in order. `head` is the newest id given out, `floor` the oldest that is still a valid start."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._records: list[Record] = []
        # A mailbox has a past: neither 0 nor 1 is ever a valid start.
        self.head = rng.randrange(10_000, 1_000_000)
        self.floor = self.head

    def next_id(self) -> int:
        """Move the head on, by a gap nobody can foresee."""
        self.head += self._rng.randint(1, _LARGEST_GAP)
        return self.head

    def append(self, record: Record) -> None:
        """Add the record made with the last `next_id`."""
        self._records.append(record)

    def visible_head(self, until: datetime) -> int:
        """The newest id that history admits to when changes after `until` have not arrived yet."""
        shown = bisect_right(self._records, until, key=_at)
        if shown == len(self._records):
            return self.head
        return max(self._records[shown - 1].id if shown else 0, self.floor)

    def between(self, start: int, end: int) -> Sequence[Record]:
        """Records with start < id ≤ end."""
        return self._records[bisect_right(self._records, start, key=_id) : bisect_right(self._records, end, key=_id)]

    def expire(self, before: int | None) -> None:
        """Forget all starts below `before`; without it, all that were ever given out."""
        floor = self.next_id() if before is None else min(before, self.head)
        self.floor = max(self.floor, floor)
        del self._records[: bisect_right(self._records, self.floor, key=_id)]


def _id(record: Record) -> int:
    return record.id


def _at(record: Record) -> datetime:
    return record.at
