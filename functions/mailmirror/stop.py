"""Stopping a mailbox: Gmail notifies no more, and what was mirrored stays as it is.

Knows: users.stop, and that a watch which cannot be stopped lapses by itself within 7 days; until then its notifications
are acknowledged. Does not know: who wanted it (`mailboxes`), or deletion (`purge`).
"""

import logging
from dataclasses import replace

from mailmirror import mailboxes
from mailmirror.errors import AccessRevoked, GmailError, GmailRejected
from mailmirror.lease import Hold
from mailmirror.log import log


def stop(hold: Hold) -> None:
    """Stop the watch, store that the mailbox is stopped, release the lease, and let the mailbox rest.

    Run, cursor and parked messages stay: a mailbox that is wanted live again goes on from there. What is wanted is not
    looked at in between: that it was stopped has to be stored, so that whoever makes it live again knows.

    Raises:
        GmailUnavailable, Throttled: Gmail did not answer; the watch may be good for days, so this is tried again.
    """
    if hold.mailbox.phase != "stopped":
        stop_watch(hold, AccessRevoked, GmailRejected)
    hold.commit(replace(hold.mailbox, phase="stopped", problem=None, throttled_until=None), release=True)
    log("mailbox_stopped", hold.mailbox.email_address)
    mailboxes.let_rest(hold.store, hold.mailbox)


def stop_watch(hold: Hold, *tolerated: type[GmailError]) -> str | None:
    """Store that there is no watch, and stop it.

    In this order: whoever wants the mailbox live again after this worker died in between gets it a new watch.

    Args:
        hold: the lease.
        tolerated: the failures that are left as they are.

    Returns:
        Why Gmail did not confirm it, None if it did.
    """
    address = hold.mailbox.email_address
    hold.store.set_watch(address, replace(hold.mailbox.watch, expires_at=hold.clock.now(), error=None))
    try:
        hold.gmail.stop()
    except tolerated as error:
        log("watch_not_stopped", address, level=logging.WARNING, error=type(error).__name__, reason=str(error))
        return f"{error} {error.action}"
    return None
