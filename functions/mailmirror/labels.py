"""Labels: the mailbox's label list, mirrored when it may have changed.

Knows: how a label list differs from the one mirrored. Does not know: Gmail or the store. History has no record for a
created, renamed or deleted label, so the list is read again when a change names an unknown label, daily, and at the end
of each run.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping

from mailmirror.documents import to_document
from mailmirror.model import Label, LabelId
from mailmirror.slice import Write


def refresh(
    listed: Iterable[Label], known: Mapping[LabelId, str], used: Iterable[LabelId] = ()
) -> tuple[list[Write], dict[LabelId, str]]:
    """Compare a label list with the labels mirrored.

    Args:
        listed: the labels as Gmail lists them.
        known: fingerprints of the labels mirrored, by id.
        used: labels that messages carry; one that Gmail does not list is remembered, so that it is asked for only once.

    Returns:
        The label documents to write or delete, and the fingerprints from now on.
    """
    documents = {label.id: to_document(label) for label in listed}
    prints = {label_id: _fingerprint(document) for label_id, document in documents.items()}
    writes = [
        Write("put", ("labels", label_id), document)
        for label_id, document in documents.items()
        if known.get(label_id) != prints[label_id]
    ]
    writes += [
        Write("delete", ("labels", label_id)) for label_id, old in known.items() if old and label_id not in prints
    ]
    seen = {label_id: "" for label_id in used if label_id not in prints}
    return writes, prints | {label_id: "" for label_id in known if label_id not in prints} | seen


def _fingerprint(document: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:8]
