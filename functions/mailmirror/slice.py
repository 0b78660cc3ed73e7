"""A slice: what one commit writes, and how large it may be.

Knows: the writes of a commit and Firestore's limits for it. Does not know: what the documents mean.
Limits: at most 500 writes and 3.5 MB a commit (the emulator refuses 4 MB), a document below 1 MiB
(https://cloud.google.com/firestore/quotas). The reserve covers lease, mailbox, delta, run and parked documents.
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
    """One write below a mailbox.

    `create` makes a new document and refuses the whole commit when there is one, `put` replaces the document, `merge`
    sets the given top-level fields of it, `delete` removes it. `path` alternates
    collection and id, relative to the mailbox.
    """

    kind: Literal["create", "put", "merge", "delete"]
    path: Path
    data: Document | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """The mirror's part of one commit.

    Attributes:
        writes: message and thread documents.
        changes: what the delta says; empty when no application could see a difference.
        messages, threads: how the counts change.
        deleted_blobs: messages whose body in Cloud Storage is of no use after the commit.
    """

    writes: tuple[Write, ...] = ()
    changes: tuple[Change, ...] = ()
    messages: int = 0
    threads: int = 0
    deleted_blobs: tuple[MessageId, ...] = ()


def weigh(value: object) -> int:
    """Return the bytes a document value takes in a commit request, rounded up.

    Args:
        value: anything a document may hold; nested maps and sequences included.

    Returns:
        UTF-8 bytes of strings and map keys plus 16 for each value's own framing, more than protocol buffers need.
    """
    if isinstance(value, str):
        return 16 + (len(value) if value.isascii() else len(value.encode()))
    if isinstance(value, Mapping):
        return 16 + sum(16 + len(str(key).encode()) + weigh(item) for key, item in value.items())
    if isinstance(value, Sequence | frozenset | set):
        return 16 + sum(weigh(item) for item in value)
    if isinstance(value, datetime):
        return 32
    return 16
