"""Ageing: under a policy of the newest days, what has become older leaves the mirror, once a day.

Knows: when that is due (the mailbox document tells), and how it is done, slice by slice, without Gmail. Does not know:
what a policy wants (`model.Policy`), or how a changed one is followed (`reconcile`). Law 5: what is left follows from
the mirror.
"""

from dataclasses import replace

from mailmirror.fetch import open_sheet
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.mirror import Remove

# Threads of a slice.
THREADS = 100


def due(hold: Hold) -> bool:
    """Return whether that is due."""
    mailbox = hold.mailbox
    if mailbox.policy.newest_days is None or mailbox.run is None or mailbox.run.policy != mailbox.policy:
        # A run to come removes it.
        return False
    return mailbox.aged_to != hold.policy.since


def step(hold: Hold) -> None:
    """Remove what is too old from some threads, oldest first."""
    since = hold.policy.since
    if since is None:
        raise LookupError("No policy says how old is too old.")
    address = hold.mailbox.email_address
    limit = 1 if hold.careful else THREADS
    threads = {thread.id: thread for thread in hold.store.threads_before(address, since, limit=limit)}
    sheet = open_sheet(hold, threads, threads, "live")
    parts = sheet.slices(
        Remove(message_id)
        for thread in threads.values()
        for message_id, entry in thread.messages.items()
        if entry.internal_date < since
    )
    for part in parts:
        hold.commit(hold.mailbox, part)
    if parts:
        log("messages_aged", address, messages=sum(-part.messages for part in parts))
    else:
        hold.commit(replace(hold.mailbox, aged_to=since))
