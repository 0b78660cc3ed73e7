"""Stopping a mailbox: Gmail notifies no more, and what was mirrored stays as it is.

Knows: users.stop; a watch that cannot be stopped lapses within 7 days, its notifications acknowledged till then. Does
not know: who wanted it (`mailboxes`), or deletion (`purge`).
"""

import logging
from dataclasses import replace

from mailmirror import mailboxes
from mailmirror.errors import AccessRevoked, GmailError, GmailRejected
from mailmirror.lease import Hold
from mailmirror.log import log


def stop(hold: Hold) -> None:
    """Stop the watch, store that the mailbox is stopped, release the lease, and let it rest.

    Run, cursor and parked messages stay, to go on from. Nobody asks what is wanted meanwhile: whoever makes it live has
    to find it stopped.

    Raises:
        GmailUnavailable, Throttled: tried again, because the watch may be good for days.
    """
    if hold.mailbox.phase != "stopped":
        stop_watch(hold, AccessRevoked, GmailRejected)
    hold.commit(replace(hold.mailbox, phase="stopped", problem=None, throttled_until=None), release=True)
    log("mailbox_stopped", hold.mailbox.email_address)
    mailboxes.let_rest(hold.store, hold.mailbox)


def stop_watch(hold: Hold, *tolerated: type[GmailError]) -> str | None:
    """Store that there is no watch, then stop it: should this worker die in between, a mailbox wanted live gets a new
    one.

    Returns:
        Why Gmail did not confirm it, if by a `tolerated` failure.
    """
    address = hold.mailbox.email_address
    hold.store.set_watch(address, replace(hold.mailbox.watch, expires_at=hold.clock.now(), error=None))
    try:
        hold.gmail.stop()
    except tolerated as error:
        log("watch_not_stopped", address, level=logging.WARNING, error=type(error).__name__, reason=str(error))
        return f"{error} {error.action}"
    return None
