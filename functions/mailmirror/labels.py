"""Labels: the mailbox's label list, mirrored when it may have changed.

Knows: how a list differs from the mirrored one, and what is known of labels not listed. Does not know: Gmail or the
store. History has no record of labels made, renamed or deleted: the list is read when a change names an unknown one,
daily, and at a run's end.

A label is known by the fingerprint of its document, or as
    unlisted: messages carry it, Gmail does not list it: too new, or Gmail's own
    absent: Gmail lists it no more; a message tells whether it is gone
    leaving: its user deleted it: it is taken off the mirror (`tidying`)
    gone: that is done
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from mailmirror.documents import from_document, to_document
from mailmirror.model import Color, Label, LabelId
from mailmirror.slice import Document, Write

# Of a label that Gmail lists and whose colour could not be read.
UNREAD = Color("", "")
UNLISTED = ""
ABSENT = "absent"
LEAVING = "leaving"
GONE = "gone"
_NOT_LISTED = (ABSENT, LEAVING, GONE)
# Users' labels; not INBOX and the like (guide "Manage labels").
_MADE = "Label_"


def is_listed(known: Mapping[LabelId, str], label_id: LabelId) -> bool:
    """Return whether Gmail listed a label when last asked."""
    return known.get(label_id, UNLISTED) not in (UNLISTED, *_NOT_LISTED)


def unknown(known: Mapping[LabelId, str], used: Iterable[LabelId]) -> bool:
    """Return whether messages carry a label not known, or deleted."""
    return any(label_id not in known or known[label_id] in _NOT_LISTED for label_id in used)


def missing(listed: Iterable[Label], known: Mapping[LabelId, str]) -> set[LabelId]:
    """Return the labels that Gmail does not list any more."""
    ids = {label.id for label in listed}
    return {label_id for label_id in known if label_id not in ids and is_listed(known, label_id)}


def never_listed(listed: Iterable[Label], known: Mapping[LabelId, str]) -> set[LabelId]:
    """Return the user's labels that Gmail never listed."""
    ids = {label.id for label in listed}
    return {i for i, known_as in known.items() if i not in ids and known_as == UNLISTED and i.startswith(_MADE)}


def colored(label: Label, mirrored: Document | None) -> Label:
    """Return a label with a colour: one that could not be read stays as it was."""
    if label.color != UNREAD:
        return label
    return replace(label, color=from_document(Label, mirrored).color if mirrored else None)


def refresh(
    listed: Iterable[Label],
    known: Mapping[LabelId, str],
    used: Iterable[LabelId] = (),
    *,
    deleted: Iterable[LabelId] = (),
) -> tuple[list[Write], dict[LabelId, str]]:
    """Compare a label list with the mirrored one.

    Args:
        used: labels that messages carry; one not listed is remembered, and asked for once; one taken off is doubted.
        deleted: those that their user seems to have deleted.

    Returns what has to be written, and what is known from now on.
    """
    documents = {label.id: to_document(label) for label in listed}
    prints = {label_id: _fingerprint(document) for label_id, document in documents.items()}
    writes = [
        Write("put", ("labels", label_id), document)
        for label_id, document in documents.items()
        if known.get(label_id) != prints[label_id]
    ]
    absent = [label_id for label_id in {**known, **dict.fromkeys(used)} if label_id not in prints]
    writes += [Write("delete", ("labels", label_id)) for label_id in absent if is_listed(known, label_id)]
    # Gone, and carried: so it may not be.
    again = [i for i in used if known.get(i) == GONE and i not in prints]
    became = {i: known[i] if known.get(i) in _NOT_LISTED else UNLISTED for i in absent}
    return writes, prints | became | dict.fromkeys([*again, *deleted], ABSENT)


def _fingerprint(document: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:8]
