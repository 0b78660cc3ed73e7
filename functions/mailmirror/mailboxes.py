"""Mailboxes: connecting one, keeping its watch, and what is due when.

Knows: the rules of a mailbox's life and of its next due time. Does not know: how mail is synced (`engine`). It loops
over mailboxes only to publish one work message for each.
"""

import logging
import re
from dataclasses import fields, replace
from datetime import datetime, timedelta
from operator import attrgetter

from mailmirror.errors import InvalidInput, UnknownMailbox
from mailmirror.log import log
from mailmirror.model import Mailbox, MailboxId, Mode, Phase, Policy, RunRequest, Watch
from mailmirror.ports import Clock, GmailAccounts, Publisher, Store

# A watch lapses after 7 days; it is renewed daily by schedule, and by any sync once this little of it is left.
WATCH_RESERVE = timedelta(hours=48)
# renew_watches renews what would expire within this time: every watch not renewed in the last 12 hours.
WATCH_RENEWAL = timedelta(days=6, hours=12)
# How often a mailbox whose access was revoked is tried again.
REAUTH_RETRY = timedelta(hours=1)

# What can be the id of a Firestore document: no slash, no lone surrogate, not between two double underscores.
_ADDRESS = re.compile(r"(?!__.*__$)[^\s/@\ud800-\udfff]+@[^\s/@\ud800-\udfff]+")


def mailbox_id(address: object) -> MailboxId:
    """Return the id of an address: itself in lower case, as Gmail's own notifications vary in case.

    Raises:
        InvalidInput: not an address, or one that cannot be a document id.
    """
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address) or len(address) > 320:
        raise InvalidInput("An e-mail address such as ada@example.com is needed.")
    return address.lower()


def phase(mailbox: Mailbox, now: datetime) -> Phase:
    """Return the phase that follows from the rest of the state."""
    if mailbox.phase in ("stopped", "purging"):
        return mailbox.phase
    if mailbox.problem is not None and mailbox.problem.code in ("AccessRevoked", "GmailRejected"):
        return "reauth_required"
    if mailbox.throttled_until is not None and mailbox.throttled_until > now:
        return "throttled"
    if mailbox.cursor == 0:
        return "connecting"
    run = mailbox.active_run
    if run is not None and run.mode == "first":
        return "backfilling"
    return "recovering" if run is not None and run.mode == "repair" else "live"


def next_due(mailbox: Mailbox, now: datetime, *, quiet: timedelta) -> datetime:
    """Return when the sweep is to look at a mailbox that nobody is working on."""
    if phase(mailbox, now) == "reauth_required":
        return now + REAUTH_RETRY
    if mailbox.throttled_until is not None and mailbox.throttled_until > now:
        return mailbox.throttled_until
    if mailbox.unfinished:
        # Its continuation is published; the sweep is there in case that message is lost.
        return now + min(quiet, timedelta(minutes=2))
    due = now + quiet
    return due if mailbox.parked_due_at is None else min(due, mailbox.parked_due_at)


_BOOKKEEPING = ("quota", "last_sync_at", "lag", "last_notification_at", "next_due_at")
_substance = attrgetter(*(field.name for field in fields(Mailbox) if field.name not in _BOOKKEEPING))


def differ(before: Mailbox, after: Mailbox) -> bool:
    """Return whether a state is worth a write: anything but bookkeeping and the due time changed."""
    return bool(_substance(before) != _substance(after))


def watch_due(mailbox: Mailbox, now: datetime) -> bool:
    """Return whether the watch lapses soon or never was."""
    return mailbox.watch.expires_at - now < WATCH_RESERVE


def connect(
    store: Store, accounts: GmailAccounts, publisher: Publisher, clock: Clock, address: str, policy: Policy | None
) -> tuple[Mailbox, bool]:
    """Connect a mailbox: prove access, create its document, and publish the work that watches and syncs it.

    Connecting a connected mailbox changes nothing, except that another policy is stored and an audit makes the mirror
    follow it.

    Args:
        address: the mailbox's primary address.
        policy: which messages to mirror; None keeps the stored one, or takes the default.

    Returns:
        The mailbox, and whether it was created.

    Raises:
        AccessRevoked, GmailRejected: Gmail does not let Mailmirror read this mailbox; nothing was written.
        InvalidInput: the address belongs to another mailbox.
    """
    name = mailbox_id(address)
    existing = store.mailbox(name)
    if existing is not None:
        if policy is None or policy == existing.policy:
            return existing, False
        while True:
            # A run under way may have listed under the policy before; one that still waits will list under this one.
            # Policy and request are one write: a policy that nobody follows would stay without effect for ever.
            audit = RunRequest(f"policy-{existing.revision}", "audit", clock.now())
            if store.request_run(existing, existing.pending_request or audit, policy=policy):
                break
            fresh = store.mailbox(name)
            if fresh is None:
                raise UnknownMailbox(f"Mailbox {name} was removed.")
            existing = fresh
        publisher.publish(name, "sync")
        return replace(existing, policy=policy), False
    profile = accounts.open(name, None).profile()
    if profile.email_address.lower() != name:
        raise InvalidInput("This address is an alias; connect the mailbox by its primary address.")
    now = clock.now()
    mailbox = Mailbox(
        email_address=name, created_at=now, watch=Watch(expires_at=now), next_due_at=now, policy=policy or Policy()
    )
    if not store.create_mailbox(mailbox):
        # Somebody else connected it in the meantime, and perhaps with another policy.
        return connect(store, accounts, publisher, clock, address, policy)
    publisher.publish(name, "renew")
    return mailbox, True


def request_run(store: Store, clock: Clock, mailbox: MailboxId, mode: Mode, run_id: str) -> str:
    """Ask for a run and return the id under which it will be found.

    A run under way that does the same, as a first sync does, is joined. Only one request waits at a time: a second one
    joins it, and makes it a full one if either asked for that. What is decided is stored only over the state that it
    was decided on, so that of two requests made at once neither is lost.

    Args:
        mailbox: the mailbox.
        mode: `full` or `audit`.
        run_id: the id of the run if it is a new one.

    Raises:
        UnknownMailbox: not connected.
    """
    while True:
        state = store.mailbox(mailbox)
        if state is None:
            raise UnknownMailbox(f"Mailbox {mailbox} is not connected.")
        run = state.active_run
        if run is not None and run.mode in (mode, "first"):
            return run.id
        waiting = state.pending_request
        if waiting is not None and waiting.mode in (mode, "full"):
            return waiting.run_id
        wanted = RunRequest(run_id if waiting is None else waiting.run_id, mode, clock.now())
        if store.request_run(state, wanted):
            return wanted.run_id


def sweep(store: Store, publisher: Publisher, now: datetime) -> tuple[int, float]:
    """Publish `sync` for each mailbox that is due: what makes lost notifications and crashes harmless.

    Returns:
        How many, and by how many seconds the most overdue of them is late, 0.0 if none is.
    """
    count, overdue = 0, 0.0
    for due in store.due_mailboxes(now):
        publisher.publish(due.mailbox, "sync")
        count, overdue = count + 1, max(overdue, (now - due.at).total_seconds())
    return count, overdue


def renew(store: Store, publisher: Publisher, now: datetime) -> int:
    """Publish `renew` for each watch that was not renewed today and return how many; name those that lapse soon, which
    the renewals of the days before did not reach.
    """
    count = 0
    for due in store.watches_expiring(now + WATCH_RENEWAL):
        publisher.publish(due.mailbox, "renew")
        if due.at - now < WATCH_RESERVE:
            log("watch_expiring", due.mailbox, level=logging.WARNING)
        count += 1
    return count
