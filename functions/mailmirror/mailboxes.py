"""Mailboxes: connecting one, keeping its watch, stopping and purging it, and what is due when.

Knows: the rules of a mailbox's life and of its next due time. What somebody wants of a mailbox is stored before
anything is done for it, and the work published: it goes on by itself, whatever becomes of the request. Does not know:
how mail is synced, or how a wish is carried out (`engine`). It loops over mailboxes only to publish one work message
for each.
"""

import logging
import re
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter

from mailmirror.errors import NEEDS_SOMEBODY, BeingPurged, InvalidInput, MailboxStopped, UnknownMailbox
from mailmirror.log import log
from mailmirror.model import Mailbox, MailboxId, Mode, Phase, Policy, RunRequest, Watch
from mailmirror.ports import Clock, GmailAccounts, Publisher, Store, Task

# A watch lapses after 7 days; it is renewed daily by schedule, and by any sync once this little of it is left.
WATCH_RESERVE = timedelta(hours=48)
# renew_watches renews what would expire within this time: every watch not renewed in the last 12 hours.
WATCH_RENEWAL = timedelta(days=6, hours=12)
# A mailbox whose access was revoked is tried again after this time, then after as long as that has lasted, at last
# every hour. Access that was just given may take minutes until it is known everywhere, and most of what is gone stays
# gone.
REAUTH_FIRST = timedelta(minutes=2)
REAUTH_RETRY = timedelta(hours=1)

# The due time of a mailbox that is at rest.
NEVER = datetime(9999, 12, 31, tzinfo=UTC)

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
    if (mailbox.wanted, mailbox.phase) in (("stopped", "stopped"), ("purged", "stopped"), ("purged", "purging")):
        return mailbox.phase
    if mailbox.problem is not None and mailbox.problem.code in NEEDS_SOMEBODY:
        return "reauth_required"
    if mailbox.throttled_until is not None and mailbox.throttled_until > now:
        return "throttled"
    if mailbox.cursor == 0:
        return "connecting"
    run = mailbox.active_run
    if run is None:
        return "live"
    if run.mode == "first":
        return "backfilling"
    if run.mode == "repair" or run.anchor > 0:
        return "recovering"
    return "backfilling" if run.mode == "policy" else "live"


def at_rest(mailbox: Mailbox) -> bool:
    """Return whether a mailbox is stopped and is to stay so."""
    return mailbox.wanted == mailbox.phase == "stopped"


def run_due(mailbox: Mailbox, now: datetime) -> bool:
    """Return whether a run is to be moved on: the first, one somebody asked for, or one under way and not paused."""
    run = mailbox.active_run
    paused = run is not None and run.paused_until is not None and run.paused_until > now
    return mailbox.unfinished and not paused


def midnight(now: datetime) -> datetime:
    """Return when the next day begins in UTC."""
    return (now.astimezone(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)


def next_due(mailbox: Mailbox, now: datetime, *, quiet: timedelta) -> datetime:
    """Return when the sweep is to look at a mailbox that nobody is working on."""
    soon = now + min(quiet, timedelta(minutes=2))
    if mailbox.wanted != "live":
        # A purge whose token cannot be deleted waits for somebody too.
        stuck = mailbox.purge is not None and mailbox.problem is not None and mailbox.problem.code in NEEDS_SOMEBODY
        return _retry(mailbox, now) if stuck else soon
    if phase(mailbox, now) == "reauth_required":
        return _retry(mailbox, now)
    if mailbox.throttled_until is not None and mailbox.throttled_until > now:
        return mailbox.throttled_until
    if run_due(mailbox, now):
        # Its continuation is published; the sweep is there in case that message is lost.
        return soon
    due = now + quiet
    run = mailbox.active_run
    times = (due, mailbox.parked_due_at, run.paused_until if run is not None else None)
    return min(time for time in times if time is not None)


def _retry(mailbox: Mailbox, now: datetime) -> datetime:
    """Return when a mailbox that waits for somebody is tried again."""
    since = mailbox.problem.since if mailbox.problem is not None else None
    return now + min(max(now - (since or now), REAUTH_FIRST), REAUTH_RETRY)


_BOOKKEEPING = ("quota", "last_sync_at", "lag", "last_notification_at", "next_due_at")
_substance = attrgetter(*(field.name for field in fields(Mailbox) if field.name not in _BOOKKEEPING))


def differ(before: Mailbox, after: Mailbox) -> bool:
    """Return whether a state is worth a write: anything but bookkeeping and the due time changed."""
    return bool(_substance(before) != _substance(after))


def watch_due(mailbox: Mailbox, now: datetime) -> bool:
    """Return whether the watch lapses soon or never was."""
    return mailbox.watch.expires_at - now < WATCH_RESERVE


def connect(
    store: Store,
    accounts: GmailAccounts,
    publisher: Publisher,
    clock: Clock,
    address: str,
    policy: Policy | None,
    *,
    asked_at: datetime | None = None,
) -> tuple[Mailbox, bool]:
    """Connect a mailbox: prove access, create its document, and publish the work that watches and syncs it.

    Connecting a connected mailbox changes nothing, except that a stopped one, and one whose access was lost, goes on
    from its cursor at once if there is access, and that another policy is stored and a run makes the mirror follow it.

    Args:
        address: the mailbox's primary address.
        policy: which messages to mirror; None keeps the stored one, or takes the default.
        asked_at: the mailbox's user has just given the consent that was asked for then. That proves access, which Gmail
            is not asked for again, and takes back nothing that somebody has decided: a stopped mailbox stays stopped.

    Returns:
        The mailbox, and whether it was created.

    Raises:
        AccessRevoked, GmailRejected: Gmail does not let Mailmirror read this mailbox; nothing was written.
        InvalidInput: the address belongs to another mailbox.
        BeingPurged: it is being deleted, or was after `asked_at`.
    """
    name = mailbox_id(address)
    task: Task | None = None
    proven = asked_at is not None
    while True:
        # Whatever is stored is stored over the state that it was decided on. What is refused for somebody else's wish,
        # or was stored and its answer lost, shows when it is read again.
        existing = not_purged(store, name, asked_at)
        if existing is not None and existing.wanted == "stopped" and asked_at is not None:
            return existing, False
        closed = existing is None or existing.wanted == "stopped" or existing.phase == "reauth_required"
        if closed and not proven:
            _prove_access(accounts, name, existing)
            proven = True
        if existing is None:
            now = clock.now()
            created = Mailbox(
                name, created_at=now, watch=Watch(now), next_due_at=now, policy=policy or Policy(), revision=_born(now)
            )
            if store.create_mailbox(created):
                publisher.publish(name, "renew")
                return created, True
            continue
        if policy is not None and policy != existing.policy:
            # A run under way may have listed under the policy before; one that still waits will list under this one,
            # and does all that a run of its own would. Policy and request are one write: a policy that nobody follows
            # would stay without effect for ever.
            request = RunRequest(f"policy-{existing.revision}", "policy", clock.now())
            if not store.request_run(existing, existing.pending_request or request, policy=policy):
                continue
            task = "sync"
            existing = replace(existing, policy=policy)
        if existing.wanted == "stopped":
            if not store.want(existing, "live", due_at=clock.now()):
                continue
            task = "renew"
        elif existing.phase in ("stopped", "reauth_required"):
            # Not before it is due is it tried again.
            store.raise_hint(name, 0, clock.now())
            task = "renew"
        if task is not None:
            publisher.publish(name, task)
        return replace(existing, wanted="live"), False


def not_purged(store: Store, name: MailboxId, asked_at: datetime | None = None) -> Mailbox | None:
    """Return a mailbox, None if there is none.

    Args:
        asked_at: when it was asked for.

    Raises:
        BeingPurged: it is being deleted, or was after `asked_at`.
    """
    existing = store.mailbox(name)
    if existing is not None and existing.wanted == "purged":
        raise BeingPurged(f"Mailbox {name} is being deleted.")
    if existing is None and asked_at is not None:
        receipt = store.receipt(name)
        if receipt is not None and receipt.purged_at > asked_at:
            raise BeingPurged(f"Mailbox {name} was deleted after it had been asked for.")
    return existing


def _born(now: datetime) -> int:
    """Return the revision that a mailbox begins with: no revision of a life before, each commit taking more than a
    microsecond, so that nobody takes what was read in that life for the state of this one.
    """
    return int(now.timestamp() * 1_000_000)


def _prove_access(accounts: GmailAccounts, name: MailboxId, known: Mailbox | None) -> None:
    profile = accounts.open(name, known.quota if known is not None else None).profile()
    if profile.email_address.lower() != name:
        raise InvalidInput("This address is an alias; connect the mailbox by its primary address.")


def stop(store: Store, publisher: Publisher, clock: Clock, mailbox: MailboxId) -> None:
    """Store that a mailbox is to be stopped, and publish the work; nothing is done for one that is stopped.

    Raises:
        UnknownMailbox: not connected.
        BeingPurged: it is being deleted.
    """
    while True:
        state = _known(store, mailbox)
        if state.wanted == "purged":
            raise BeingPurged(f"Mailbox {mailbox} is being deleted.")
        if at_rest(state):
            return
        if store.want(state, "stopped", due_at=clock.now()):
            publisher.publish(mailbox, "sync")
            return


def let_rest(store: Store, mailbox: Mailbox) -> None:
    """Let nothing make a mailbox due that is stopped, unless somebody wants something else by now.

    This is no part of a commit under the lease: that would undo the due time of the very one who wants it.
    """
    if at_rest(mailbox) and mailbox.next_due_at != NEVER:
        store.want(mailbox, "stopped", due_at=NEVER)


def purge(store: Store, publisher: Publisher, clock: Clock, mailbox: MailboxId) -> None:
    """Store that a mailbox is to be deleted with everything that was mirrored, and publish the work. Nothing takes it
    back.

    Raises:
        UnknownMailbox: not connected, or deleted already.
    """
    while True:
        state = _known(store, mailbox)
        if store.want(state, "purged", due_at=clock.now()):
            publisher.publish(mailbox, "purge")
            return


def wanted_live(mailbox: Mailbox) -> Mailbox:
    """Return the mailbox.

    Raises:
        MailboxStopped, BeingPurged: nobody wants it synced.
    """
    if mailbox.wanted == "purged":
        raise BeingPurged(f"Mailbox {mailbox.email_address} is being deleted.")
    if mailbox.wanted == "stopped":
        raise MailboxStopped(f"Mailbox {mailbox.email_address} is stopped.")
    return mailbox


def _known(store: Store, mailbox: MailboxId) -> Mailbox:
    state = store.mailbox(mailbox)
    if state is None:
        raise UnknownMailbox(f"Mailbox {mailbox} is not connected.")
    return state


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
        MailboxStopped, BeingPurged: nobody wants it synced.
    """
    while True:
        state = wanted_live(_known(store, mailbox))
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
