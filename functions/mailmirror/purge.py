"""Purging a mailbox: its watch, its documents, its objects and its token go, and a receipt stays.

Knows: the order, and what is counted. Does not know: who wanted it (`mailboxes`). Law 5: each slice of documents is
deleted in the commit that counts it, so that a worker may die between any two calls and the next goes on, and nothing
is kept in memory but the slice in hand. Of the objects and secrets that a worker deleted right before it died, the
receipt may lack the last slice; all of them are gone.

What no purge can see is an object that a worker writes after its lease has expired, its own commit refused: it is
written under a name that nothing leads to.
"""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

from mailmirror.errors import GmailError
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.model import Purge, Receipt
from mailmirror.ports import GmailAccounts
from mailmirror.slice import Write
from mailmirror.stop import stop_watch

# Documents, and objects, deleted between two commits.
DOCUMENTS = 400
OBJECTS = 100
RECEIPT_KEPT = timedelta(days=90)


def purge(hold: Hold, accounts: GmailAccounts, deadline: datetime) -> bool:
    """Go on with the deletion of everything that is kept of a mailbox.

    Args:
        hold: the lease. It is released when this returns.
        accounts: forgets the mailbox's token.
        deadline: no further slice begins after it.

    Returns:
        Whether nothing is left but the receipt.

    Raises:
        GmailUnavailable, GmailRejected: the token could not be deleted; all else is gone, and it is tried again.
    """
    if hold.mailbox.purge is None:
        _begin(hold)
    while _documents(hold) or _objects(hold):
        if hold.clock.now() >= deadline:
            hold.commit(hold.mailbox, release=True)
            return False
    _end(hold, accounts)
    return True


def _begin(hold: Hold) -> None:
    """Stop the watch, whatever Gmail says to that, and store that the purge has begun."""
    refused = stop_watch(hold, GmailError)
    hold.refresh()
    if refused is not None:
        # For the receipt, which another worker may write.
        hold.store.set_watch(hold.mailbox.email_address, replace(hold.mailbox.watch, error=refused))
        hold.refresh()
    begun = Purge(started_at=hold.clock.now())
    hold.commit(replace(hold.mailbox, phase="purging", purge=begun, problem=None, throttled_until=None))


def _going(hold: Hold) -> Purge:
    """Return how far the purge is."""
    if hold.mailbox.purge is None:
        raise LookupError("There is no purge under way.")
    return hold.mailbox.purge


def _documents(hold: Hold) -> bool:
    """Delete a slice of the documents below the mailbox; return whether there were any."""
    paths = hold.store.below(hold.mailbox.email_address, limit=DOCUMENTS)
    if not paths:
        return False
    going = _going(hold)
    documents = Counter(going.documents) + Counter(path[-2] for path in paths)
    after = replace(hold.mailbox, purge=replace(going, documents=dict(documents)))
    hold.commit(after, writes=[Write("delete", path) for path in paths])
    return True


def _objects(hold: Hold) -> bool:
    """Delete a slice of the mailbox's objects; return whether there were any."""
    if hold.blobs is None:
        return False
    found = hold.blobs.versions(f"{hold.mailbox.email_address}/", limit=OBJECTS)
    if not found:
        return False
    for name, version in found.items():
        hold.blobs.delete(name, version)
        hold.keep()
    going = _going(hold)
    hold.commit(replace(hold.mailbox, purge=replace(going, objects=going.objects + len(found))))
    return True


def _end(hold: Hold, accounts: GmailAccounts) -> None:
    """Delete the token, then the mailbox itself, and leave the receipt."""
    address, going = hold.mailbox.email_address, _going(hold)
    hold.keep()
    secrets = accounts.forget(address)
    now = hold.clock.now()
    receipt = Receipt(
        email_address=address,
        documents=going.documents,
        objects=going.objects,
        secrets=secrets,
        watch_stopped=hold.mailbox.watch.error is None,
        started_at=going.started_at,
        purged_at=now,
        expire_at=now + RECEIPT_KEPT,
    )
    hold.remove(receipt)
    log(
        "mailbox_purged",
        address,
        documents=sum(receipt.documents.values()),
        objects=receipt.objects,
        secrets=secrets,
        watch_stopped=receipt.watch_stopped,
    )
