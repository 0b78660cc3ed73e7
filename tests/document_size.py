"""What a document takes in Firestore, by the rules it publishes (https://cloud.google.com/firestore/docs/storage-size)."""

from collections.abc import Mapping, Sequence
from datetime import datetime

LIMIT = 1_048_576
# The path of a message: `mailboxes/{address}/messages/{id}` with the longest address there is, below a database's root.
PATH = 16 + len("mailboxes") + 1 + 254 + 1 + len("messages") + 1 + 16 + 1


def stored_size(document: Mapping[str, object]) -> int:
    """Return the bytes of a message's document."""
    return PATH + 32 + _size(document)


def _size(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode()) + 1
    if isinstance(value, Mapping):
        return sum(len(str(name).encode()) + 1 + _size(item) for name, item in value.items())
    if isinstance(value, Sequence):
        return sum(map(_size, value))
    if value is None or isinstance(value, bool):
        return 1
    assert isinstance(value, int | float | datetime), value
    return 8
