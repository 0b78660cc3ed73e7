"""A slice: what one commit writes, and how large it may be.

Knows: Firestore's limits: 500 writes and 3.5 MB a commit (the emulator refuses 4 MB), a document below 1 MiB
(https://cloud.google.com/firestore/quotas). Does not know: what documents mean. The reserve is for lease, mailbox,
delta, run and parked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from mailmirror.model import Change, MessageId

Path = tuple[str, ...]
Document = Mapping[str, Any]

MAX_WRITES = 500
MAX_BYTES = 3_500_000
MAX_DOCUMENT = 1_048_576
MIRROR_WRITES = MAX_WRITES - 150
MIRROR_BYTES = MAX_BYTES - 500_000


@dataclass(frozen=True, slots=True)
class Write:
    """One write below a mailbox; `path` alternates collection and id.

    `create` makes a document and refuses the whole commit when there is one, `put` replaces it, `merge` sets top-level
    fields, `delete` removes it.
    """

    kind: Literal["create", "put", "merge", "delete"]
    path: Path
    data: Document | None = None

    @property
    def brings(self) -> MessageId | None:
        """The message whose whole document it writes."""
        whole = self.path[0] == "messages" and self.kind in ("create", "put")
        return self.path[1] if whole else None


@dataclass(frozen=True, slots=True)
class Slice:
    """The mirror's part of one commit.

    Attributes:
        changes: the delta's; empty when no application could see a difference.
        messages, threads: how the counts change.
        deleted_blobs: messages that are removed, stripped or written anew: their objects may be of no use after it.
    """

    writes: tuple[Write, ...] = ()
    changes: tuple[Change, ...] = ()
    messages: int = 0
    threads: int = 0
    deleted_blobs: tuple[MessageId, ...] = ()


def weigh(value: object) -> int:
    """Return the most bytes a document value takes in a commit; 16 frame each, more than protocol buffers need."""
    if isinstance(value, str):
        return 16 + (len(value) if value.isascii() else len(value.encode()))
    if isinstance(value, Mapping):
        return 16 + sum(16 + len(str(key).encode()) + weigh(item) for key, item in value.items())
    if isinstance(value, Sequence | frozenset | set):
        return 16 + sum(weigh(item) for item in value)
    if isinstance(value, datetime):
        return 32
    return 16
