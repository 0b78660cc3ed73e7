"""The fence: what taking a lease and committing under it store, so that one worker at a time writes a mailbox.

Knows: how lease and revision go on from commit to commit, which fields of the state a commit may write, and how to
recognise one whose answer was lost. Does not know: how a store compares versions or keeps a batch atomic. Law 2: every
commit is fenced by the lease; a worker that lost it writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mailmirror.documents import changes, to_document
from mailmirror.errors import LeaseHeld
from mailmirror.model import Held, Lease, Mailbox
from mailmirror.slice import MAX_WRITES, Document, Write

# Workers without a lease write these at any time: a commit would undo it.
UNLEASED = frozenset({"hint", "policy", "watch", "request", "wanted", "announced"})


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit stores besides its writes: the lease, without its new version, and fields of the mailbox."""

    held: Held
    fields: Document


def take(current: Lease | None, *, owner: str, now: datetime, expires_at: datetime) -> Lease:
    """Return the lease as an acquisition stores it. Raises `LeaseHeld`."""
    if current is None:
        return Lease(owner=owner, token=1, expires_at=expires_at)
    if not current.free(now):
        raise LeaseHeld(f"Worker {current.owner} holds the lease until {current.expires_at.isoformat()}.")
    return replace(current, owner=owner, token=current.token + 1, expires_at=expires_at, version=None)


def prepare(held: Held, mailbox: Mailbox, writes: Sequence[Write], *, expires_at: datetime, release: bool) -> Commit:
    """Work out what a commit stores. Raises `ValueError`: more writes than it can have, by mistake."""
    changed = {
        name: value
        for name, value in changes(held.mailbox, mailbox).items()
        if name not in UNLEASED and name != "revision"
    }
    revision = held.mailbox.revision + bool(changed)
    fields = {**changed, "revision": revision} if changed else {}
    count = len(writes) + bool(fields) + 1
    if count > MAX_WRITES:
        raise ValueError(f"A commit has at most {MAX_WRITES} writes, lease and mailbox included; this one has {count}.")
    owner = "" if release else held.lease.owner
    lease = Lease(owner, held.lease.token, expires_at, revision)
    return Commit(Held(lease, replace(mailbox, revision=revision), held.taken_over), fields)


def stored(lease: Lease | None, wanted: Lease) -> bool:
    """Return whether a lease read after a refusal is the very one to be stored: only the answer was lost.

    Its owner is one worker's name for this lease alone; token, revision and expiry are what exactly this write leaves.
    """
    return lease is not None and replace(lease, version=None) == replace(wanted, version=None)


def may_request(before: Mailbox, now: Mailbox) -> bool:
    """Return whether a request for a run, decided on the state before, may be stored now."""
    return (now.revision, now.request) == (before.revision, before.request)


def lease_document(lease: Lease) -> Document:
    """Return a lease's document, without the version, the store's own."""
    return {name: value for name, value in to_document(lease).items() if name != "version"}
