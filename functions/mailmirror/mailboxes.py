"""Mailboxes: connecting one, keeping its watch, stopping and purging it, and what is due when.

Knows: the rules of its life and due time. A wish is stored before anything is done for it, and the work published,
whatever becomes of the request. Does not know: how mail is synced or a wish carried out (`engine`). It loops over
mailboxes only to publish work.
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

# A watch lapses after 7 days. Any sync renews it with this little left.
WATCH_RESERVE = timedelta(hours=48)
# The daily schedule renews what is 12 hours old.
WATCH_RENEWAL = timedelta(days=6, hours=12)
# Lost access is tried again after this, then after as long as it has lasted: just given it takes minutes to be known
# everywhere, and most stays lost.
REAUTH_FIRST = timedelta(minutes=2)
REAUTH_RETRY = timedelta(hours=1)

# When a mailbox at rest is due.
NEVER = datetime(9999, 12, 31, tzinfo=UTC)

# A Firestore id: no slash, lone surrogate or `__x__`.
_ADDRESS = re.compile(r"(?!__.*__$)[^\s/@\ud800-\udfff]+@[^\s/@\ud800-\udfff]+")


def mailbox_id(address: object) -> MailboxId:
    """Return an address in lower case: Gmail's notifications vary. Raises `InvalidInput`."""
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address) or len(address) > 320:
        raise InvalidInput("An e-mail address such as ada@example.com is needed.")
    return address.lower()


def phase(mailbox: Mailbox, now: datetime) -> Phase:
    """Return the phase."""
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
    if run.mode != "first" and (run.mode == "repair" or run.anchor > 0):
        return "recovering"
    return "backfilling" if run.mode in ("first", "policy") else "live"


def at_rest(mailbox: Mailbox) -> bool:
    """Return whether it is stopped and to stay so."""
    return mailbox.wanted == mailbox.phase == "stopped"


def run_due(mailbox: Mailbox, now: datetime) -> bool:
    """Return whether a run is first, asked for or under way, and not paused."""
    run = mailbox.active_run
    paused = run is not None and run.paused_until is not None and run.paused_until > now
    return mailbox.unfinished and not paused


def midnight(now: datetime) -> datetime:
    """Return the next midnight in UTC."""
    return (now.astimezone(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)


def next_due(mailbox: Mailbox, now: datetime, *, quiet: timedelta) -> datetime:
    """Return when the sweep looks at a mailbox."""
    soon = now + min(quiet, timedelta(minutes=2))
    if mailbox.wanted != "live":
        # A purge that cannot delete the token waits.
        stuck = mailbox.purge is not None and mailbox.problem is not None and mailbox.problem.code in NEEDS_SOMEBODY
        return _retry(mailbox, now) if stuck else soon
    if phase(mailbox, now) == "reauth_required":
        return _retry(mailbox, now)
    if mailbox.throttled_until is not None and mailbox.throttled_until > now:
        return mailbox.throttled_until
    if run_due(mailbox, now):
        # In case its message is lost.
        return soon
    due = now + quiet
    run = mailbox.active_run
    times = (due, mailbox.parked_due_at, run.paused_until if run is not None else None)
    return min(time for time in times if time is not None)


def _retry(mailbox: Mailbox, now: datetime) -> datetime:
    since = mailbox.problem.since if mailbox.problem is not None else None
    return now + min(max(now - (since or now), REAUTH_FIRST), REAUTH_RETRY)


_BOOKKEEPING = ("quota", "last_sync_at", "lag", "last_notification_at", "next_due_at")
_substance = attrgetter(*(field.name for field in fields(Mailbox) if field.name not in _BOOKKEEPING))


def differ(before: Mailbox, after: Mailbox) -> bool:
    """Return whether more than bookkeeping changed."""
    return bool(_substance(before) != _substance(after))


def watch_due(mailbox: Mailbox, now: datetime) -> bool:
    """Return whether the watch lapses soon."""
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

    One that was stopped or lost access goes on from its cursor; a run follows another policy. Returns whether it was
    created, too.

    Args:
        policy: None keeps the stored one.
        asked_at: when the consent just given was asked for: access is proven, what is stopped stays so.

    Raises:
        AccessRevoked, GmailRejected: no access; nothing was written.
        InvalidInput: not the primary address.
        BeingPurged: it is being deleted, or was after `asked_at`.
    """
    name = mailbox_id(address)
    task: Task | None = None
    proven = asked_at is not None
    while True:
        # All is stored over the state it was decided on; what was refused, or its answer lost, is read again.
        existing = not_purged(store, name, asked_at)
        if existing is not None and existing.wanted == "stopped" and asked_at is not None:
            return existing, False
        closed = existing is None or existing.wanted == "stopped" or existing.phase == "reauth_required"
        if closed and not proven:
            _prove_access(accounts, name, existing)
            proven = True
        if existing is None:
            now = clock.now()
            # After those of a life before: a commit takes over a microsecond.
            revision = int(now.timestamp() * 1_000_000)
            created = Mailbox(
                name, created_at=now, watch=Watch(now), next_due_at=now, policy=policy or Policy(), revision=revision
            )
            if store.create_mailbox(created):
                publisher.publish(name, "renew")
                return created, True
            continue
        if policy is not None and policy != existing.policy:
            # A run under way may have listed under the policy before; one that waits will under this.
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
            # It is tried again only when due.
            store.raise_hint(name, 0, clock.now())
            task = "renew"
        if task is not None:
            publisher.publish(name, task)
        return replace(existing, wanted="live"), False


def not_purged(store: Store, name: MailboxId, asked_at: datetime | None = None) -> Mailbox | None:
    """Return a mailbox, if any. Raises `BeingPurged`."""
    existing = store.mailbox(name)
    if existing is not None and existing.wanted == "purged":
        raise BeingPurged(f"Mailbox {name} is being deleted.")
    if existing is None and asked_at is not None:
        receipt = store.receipt(name)
        if receipt is not None and receipt.purged_at > asked_at:
            raise BeingPurged(f"Mailbox {name} was deleted after it had been asked for.")
    return existing


def _prove_access(accounts: GmailAccounts, name: MailboxId, known: Mailbox | None) -> None:
    profile = accounts.open(name, known.quota if known is not None else None).profile()
    if profile.email_address.lower() != name:
        raise InvalidInput("This address is an alias; connect the mailbox by its primary address.")


def stop(store: Store, publisher: Publisher, clock: Clock, mailbox: MailboxId) -> None:
    """Store that a mailbox is to be stopped, and publish the work. Raises `UnknownMailbox`, `BeingPurged`."""
    while True:
        state = known(store, mailbox)
        if state.wanted == "purged":
            raise BeingPurged(f"Mailbox {mailbox} is being deleted.")
        if at_rest(state):
            return
        if store.want(state, "stopped", due_at=clock.now()):
            publisher.publish(mailbox, "sync")
            return


def let_rest(store: Store, mailbox: Mailbox) -> None:
    """Let nothing make a stopped mailbox due; not by commit, which would undo a new wish."""
    if at_rest(mailbox) and mailbox.next_due_at != NEVER:
        store.want(mailbox, "stopped", due_at=NEVER)


def purge(store: Store, publisher: Publisher, clock: Clock, mailbox: MailboxId) -> None:
    """Store that a mailbox is to be deleted with its mirror for good, and publish that. Raises `UnknownMailbox`."""
    while True:
        state = known(store, mailbox)
        if store.want(state, "purged", due_at=clock.now()):
            publisher.publish(mailbox, "purge")
            return


def wanted_live(mailbox: Mailbox) -> Mailbox:
    """Return the mailbox. Raises `MailboxStopped`, `BeingPurged`: nobody wants it synced."""
    if mailbox.wanted == "purged":
        raise BeingPurged(f"Mailbox {mailbox.email_address} is being deleted.")
    if mailbox.wanted == "stopped":
        raise MailboxStopped(f"Mailbox {mailbox.email_address} is stopped.")
    return mailbox


def known(store: Store, mailbox: MailboxId) -> Mailbox:
    """Return a mailbox. Raises `UnknownMailbox`: not connected."""
    state = store.mailbox(mailbox)
    if state is None:
        raise UnknownMailbox(f"Mailbox {mailbox} is not connected.")
    return state


def request_run(store: Store, clock: Clock, mailbox: MailboxId, mode: Mode, run_id: str) -> str:
    """Ask for a run and return its id.

    A run under way that does the same, as a first sync does, is joined. Only one request waits: a second joins it, full
    if either is. It is stored over the state it was decided on: none is lost.

    `run_id`: of a new one. Raises `UnknownMailbox` and as `wanted_live`.
    """
    while True:
        state = wanted_live(known(store, mailbox))
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
    """Publish `sync` for each mailbox that is due; return how many, and the seconds by which one is late at most."""
    count, overdue = 0, 0.0
    for due in store.due_mailboxes(now):
        publisher.publish(due.mailbox, "sync")
        count, overdue = count + 1, max(overdue, (now - due.at).total_seconds())
    return count, overdue


def renew(store: Store, publisher: Publisher, now: datetime) -> int:
    """Publish `renew` for each watch to be renewed and return how many; log those that lapse soon."""
    count = 0
    for due in store.watches_expiring(now + WATCH_RENEWAL):
        publisher.publish(due.mailbox, "renew")
        if due.at - now < WATCH_RESERVE:
            log("watch_expiring", due.mailbox, level=logging.WARNING)
        count += 1
    return count
