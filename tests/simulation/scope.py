"""Scope: what of a mailbox a policy wants, by the judge's own reading of its fields.

Knows: the words of README on policies. Does not know: how the engine decides; nothing of `mailmirror` runs here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailmirror.model import Policy

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(milliseconds: int) -> datetime:
    """Return the time that Gmail's internalDate names."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def belongs(policy: Policy, labels: Collection[str], milliseconds: int, now: datetime) -> bool:
    """Whether a policy wants a message with these labels that Gmail accepted then, now being what it is."""
    if not policy.include_spam_trash and ("SPAM" in labels or "TRASH" in labels):
        return False
    if not policy.drafts and "DRAFT" in labels:
        return False
    if any(label in labels for label in policy.exclude_label_ids):
        return False
    if policy.label_ids and not any(label in labels for label in policy.label_ids):
        return False
    if policy.newest_days is not None:
        midnight = datetime(now.year, now.month, now.day, tzinfo=UTC)
        if moment(milliseconds) < midnight - timedelta(days=policy.newest_days):
            return False
    return policy.since is None or moment(milliseconds) >= policy.since


def bare_fault(document: Mapping[str, Any]) -> str:
    """Return what is wrong with a message document without a body: what it has of one all the same."""
    body = document["body"]
    left = [name for name in ("text", "html", "uri") if body.get(name)]
    left += [name for name in ("attachments", "objects") if document.get(name)]
    return f"Message {document.get('id')} is mirrored without its body, but with {', '.join(left)}." if left else ""
