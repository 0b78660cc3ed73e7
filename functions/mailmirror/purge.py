"""Ends of a mailbox. Stopping: Gmail notifies no more, what was mirrored stays. Purging: its watch, its documents, its
objects and its token go, and a receipt stays.

Knows: the order, and what is counted; a watch that cannot be stopped lapses within 7 days, its notifications
acknowledged till then. Does not know: who wanted it (`mailboxes`). Law 5: each slice of documents is
deleted in the commit that counts it: a worker may die between any two calls and the next goes on. The receipt may then
lack the last slice of objects and secrets; all are gone.

A worker renews its lease around each write of an object, and no call to Cloud Storage outlasts it. One that slept in a
call, and writes after the purge, finds its lease lost and deletes that (`objects`). If it dies before it looks, the
object stays, under a name that nothing leads to.
"""

import logging
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

from mailmirror import mailboxes
from mailmirror.errors import AccessRevoked, GmailError, GmailRejected
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.model import Purge, Receipt
from mailmirror.ports import GmailAccounts
from mailmirror.slice import Write

# Deleted between two commits.
DOCUMENTS = 400
OBJECTS = 100
RECEIPT_KEPT = timedelta(days=90)


def stop(hold: Hold, *, rests: bool) -> None:
    """Stop the watch, store that the mailbox is stopped, release the lease, and let it rest if nothing is left.

    Run, cursor and parked messages stay, to go on from. Nobody asks what is wanted meanwhile: whoever makes it live has
    to find it stopped. Raises `GmailUnavailable`, `Throttled`: tried again, as the watch may be good for days.
    """
    if hold.mailbox.phase != "stopped":
        _stop_watch(hold, AccessRevoked, GmailRejected)
    hold.commit(replace(hold.mailbox, phase="stopped", problem=None, throttled_until=None), release=True)
    log("mailbox_stopped", hold.mailbox.email_address)
    if rests:
        mailboxes.let_rest(hold.store, hold.mailbox)


def _stop_watch(hold: Hold, *tolerated: type[GmailError]) -> str | None:
    """Store that there is no watch, then stop it: if this worker dies in between, a mailbox wanted live gets another.

    Returns why Gmail did not confirm it, if by a `tolerated` failure.
    """
    address = hold.mailbox.email_address
    hold.store.set_watch(address, replace(hold.mailbox.watch, expires_at=hold.clock.now(), error=None))
    try:
        hold.gmail.stop()
    except tolerated as error:
        log("watch_not_stopped", address, level=logging.WARNING, error=type(error).__name__, reason=str(error))
        return f"{error} {error.action}"
    return None


def purge(hold: Hold, accounts: GmailAccounts, deadline: datetime) -> bool:
    """Go on deleting all that is kept of a mailbox; return whether only the receipt is left.

    `hold` is released after this. Raises `GmailUnavailable`, `GmailRejected`: only the token was not deleted; it is
    tried again.
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
    refused = _stop_watch(hold, GmailError)
    hold.refresh()
    if refused is not None:
        # Another worker may write the receipt.
        hold.store.set_watch(hold.mailbox.email_address, replace(hold.mailbox.watch, error=refused))
        hold.refresh()
    begun = Purge(started_at=hold.clock.now())
    hold.commit(replace(hold.mailbox, phase="purging", purge=begun, problem=None, throttled_until=None))


def _going(hold: Hold) -> Purge:
    if hold.mailbox.purge is None:
        raise LookupError("There is no purge under way.")
    return hold.mailbox.purge


def _documents(hold: Hold) -> bool:
    paths = hold.store.below(hold.mailbox.email_address, limit=DOCUMENTS)
    if not paths:
        return False
    going = _going(hold)
    documents = Counter(going.documents) + Counter(path[-2] for path in paths)
    after = replace(hold.mailbox, purge=replace(going, documents=dict(documents)))
    hold.commit(after, writes=[Write("delete", path) for path in paths])
    return True


def _objects(hold: Hold) -> bool:
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
