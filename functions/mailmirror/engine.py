"""One worker's turn at one mailbox.

Knows: its order (`_work`), what is wanted, what a failure leaves behind. Does not know: any technology. Laws 2, 3, 5:
all work is under the lease, a notification says only that it is worth looking, a turn may be cut off between any two
calls. Only where a turn ends or a named failure is handled is the lease released: a killed worker leaves it to expire.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from mailmirror import hints, mailboxes, reconcile, retry, tidying
from mailmirror.announce import Announcer
from mailmirror.catch_up import CatchUp
from mailmirror.errand import Errand, Status, Turn
from mailmirror.errors import (
    NEEDS_SOMEBODY,
    GmailRejected,
    GmailUnavailable,
    LeaseHeld,
    LeaseLost,
    MailmirrorError,
    Throttled,
)
from mailmirror.fetch import bring_labels
from mailmirror.keep import Kept
from mailmirror.lease import Hold, Pace
from mailmirror.log import log
from mailmirror.model import HistoryId, Mailbox, MailboxId, Problem
from mailmirror.ports import Blobs, Clock, GmailAccounts, Store
from mailmirror.purge import purge, stop

# When Gmail names no time.
THROTTLED_REST = timedelta(minutes=1)
# Another worker announces, or nobody.
_UNANNOUNCED = frozenset({"held", "unknown", "purging", "purged"})


@dataclass(eq=False)
class SyncEngine:
    """Brings mailboxes up to date: a call of `sync` is a turn; many may run at once.

    Attributes:
        blobs: where large bodies go; None cuts them.
        prices: quota units by Gmail method.
        new_owner: names a lease, readable and unique.
        recovery: after history has expired.
    """

    accounts: GmailAccounts
    store: Store
    blobs: Blobs | None
    clock: Clock
    pace: Pace
    kept: Kept
    prices: Mapping[str, int]
    new_owner: Callable[[], str]
    recovery: reconcile.Recovery
    announcer: Announcer | None

    def sync(self, errand: Errand) -> Turn:
        """Take the lease and work until nothing is left or the deadline has come.

        Raises:
            MailmirrorError: what stopped it; the mailbox document tells, too.
        """
        try:
            turn = self._sync(errand)
        except MailmirrorError:
            self._announce(errand.mailbox, errand.deadline)
            raise
        if turn.status not in _UNANNOUNCED:
            self._announce(errand.mailbox, errand.deadline)
        return turn

    def _announce(self, mailbox: MailboxId, deadline: datetime | None) -> bool:
        """Publish what is not, a dead worker's too; return whether none is left."""
        return self.announcer is None or self.announcer.announce(mailbox, deadline)

    def _sync(self, errand: Errand) -> Turn:
        mailbox = self.store.mailbox(errand.mailbox)
        if mailbox is None:
            return Turn("unknown")
        refusal = _refusal(mailbox, errand, self.clock.now())
        # What rests is not looked at again.
        if refusal == "stopped" and self._announce(errand.mailbox, errand.deadline):
            mailboxes.let_rest(self.store, mailbox)
        if refusal in ("throttled", "reauth") and errand.hint:
            # For who is at work, not who just ended.
            self.store.raise_hint(errand.mailbox, errand.hint)
            mailbox = self.store.mailbox(errand.mailbox)
            if mailbox is None:
                return Turn("unknown")
            refusal = _refusal(mailbox, errand, self.clock.now())
        if refusal is not None:
            return Turn(refusal)
        turn = Turn("done")
        while True:
            hold = self._take(mailbox, errand)
            if hold is None:
                return replace(turn, status="held")
            if self._rests(hold, errand):
                return replace(turn.and_then(hold, errand), status="throttled")
            purging = hold.mailbox.wanted == "purged"
            complete = self._turn(hold, errand)
            turn = turn.and_then(hold, errand)
            if purging:
                return replace(turn, status="purged" if complete else "purging")
            # Only now: who found the lease taken raised the hint.
            fresh = self.store.mailbox(errand.mailbox)
            if fresh is None:
                return replace(turn, status="unknown")
            ended = _ended(fresh, errand, self.clock.now(), complete=complete)
            if ended is not None:
                return replace(turn, status=ended)
            mailbox, errand = fresh, replace(errand, hint=0, noticed_at=None, renew=False)

    def _take(self, mailbox: Mailbox, errand: Errand) -> Hold | None:
        """Take the lease, or leave the hint to its holder, and look once more."""
        try:
            return self._hold(mailbox)
        except LeaseHeld:
            self.store.raise_hint(errand.mailbox, errand.hint, self.clock.now() + self.pace.lease)
        lease = self.store.lease(errand.mailbox)
        if lease is not None and not lease.free(self.clock.now()):
            return None
        try:
            return self._hold(mailbox)
        except LeaseHeld:
            # Its holder reads the hint after releasing.
            return None

    def _rests(self, hold: Hold, errand: Errand) -> bool:
        """Release the lease if its last holder was told to wait meanwhile."""
        until = hold.mailbox.throttled_until
        if hold.mailbox.wanted != "live" or until is None or until <= self.clock.now():
            return False
        if errand.hint:
            self.store.raise_hint(errand.mailbox, errand.hint, until)
        hold.commit(hold.mailbox, release=True)
        return True

    def _hold(self, mailbox: Mailbox) -> Hold:
        owner = self.new_owner()
        return Hold(self.store, self.accounts, self.blobs, self.clock, self.pace, self.kept, mailbox, owner)

    def _turn(self, hold: Hold, errand: Errand) -> bool:
        """Work and release; return whether nothing is left."""
        try:
            if self.announcer is not None:
                self.announcer.begin(hold.mailbox)
            return self._work(hold, errand)
        except MailmirrorError as error:
            self._give_up(hold, error)
            raise

    def _work(self, hold: Hold, errand: Errand) -> bool:
        if hold.mailbox.wanted == "purged":
            if errand.purges:
                return purge(hold, self.accounts, errand.deadline)
            hold.commit(hold.mailbox, release=True)
            return False
        if hold.mailbox.wanted == "stopped":
            stop(hold, rests=self._announce(errand.mailbox, None))
            return True
        if hold.mailbox.phase == "stopped":
            # Before the watch: it may be stopped meanwhile.
            hold.commit(hold.mailbox)
        if errand.renew or mailboxes.watch_due(hold.mailbox, self.clock.now()):
            self._renew_watch(hold, errand)
        state = hold.mailbox
        if state.wanted != "live":
            # While the watch was renewed.
            hold.commit(state, release=True)
            return False
        if state.cursor == 0:
            reconcile.start(hold, "first", "The mailbox was connected.")
        self._paused(hold)
        catch_up = partial(self._catch_up, hold, errand)
        more = mailboxes.run_due(hold.mailbox, self.clock.now()) or (errand.runs and reconcile.content_changed(hold))
        release = not (more or errand.renew or retry.due(hold, errand.retry_since) or tidying.due(hold))
        complete = hints.reach(hold, errand.hint, catch_up, release=release)
        if hold.released:
            return complete
        if errand.renew:
            bring_labels(hold)
        if retry.due(hold, errand.retry_since):
            complete = retry.parked(hold, errand, catch_up) and complete
        complete = complete and tidying.tidy(hold, errand.deadline, catch_up)
        if complete and errand.runs:
            # A run may find labels gone.
            complete = self._run(hold, errand, catch_up) and tidying.tidy(hold, errand.deadline, catch_up)
        hold.commit(replace(hold.mailbox, problem=None, throttled_until=None), release=True)
        return complete

    def _catch_up(self, hold: Hold, errand: Errand, *, target: HistoryId = 0, release: bool = False) -> bool:
        return CatchUp(hold, self.prices, errand.deadline, target, errand.noticed_at, release, self.recovery).run()

    def _run(self, hold: Hold, errand: Errand, catch_up: hints.Pass) -> bool:
        """Move the run on, catching up for hints; return whether none is left."""
        work = reconcile.Reconcile(hold, self.prices)
        moved = False
        while True:
            run, request = hold.mailbox.active_run, hold.mailbox.pending_request
            if run is None and request is None and not reconcile.content_changed(hold):
                return True
            if self._paused(hold):
                return True
            # One slice in any case.
            if moved and self.clock.now() >= errand.deadline:
                return False
            moved = True
            if run is None and request is not None:
                reconcile.start(hold, request.mode, "It was asked for.", run_id=request.run_id)
            elif run is None:
                reconcile.start(hold, "policy", reconcile.CONTENT_CHANGED)
            elif not hints.between_slices(hold, catch_up):
                return False
            else:
                with hold.gmail.sparing():
                    work.step()
                hold.ran = True
                self._announce(errand.mailbox, None)
            hold.refresh()
            if hold.mailbox.wanted != "live":
                return False

    def _paused(self, hold: Hold) -> bool:
        """Let a run rest until midnight if the day's quota is used up; return whether so."""
        run, now = hold.mailbox.active_run, self.clock.now()
        if run is None:
            return False
        until = mailboxes.midnight(now) if hold.gmail.day_left == 0 else None
        if until != run.paused_until:
            hold.commit(replace(hold.mailbox, run=replace(run, paused_until=until)))
            if until is not None:
                log("run_paused", hold.mailbox.email_address, run=run.id, until=until)
        return until is not None

    def _renew_watch(self, hold: Hold, errand: Errand) -> None:
        address = hold.mailbox.email_address
        try:
            watch = hold.gmail.watch()
        except (GmailRejected, GmailUnavailable) as error:
            if errand.renew and not error.acknowledge:
                # A renewal comes again; mail must not wait.
                raise
            # The sweep needs no watch.
            watch = replace(hold.mailbox.watch, error=f"{error} {error.action}")
            log("watch_failed", address, level=logging.ERROR, error=str(error))
        else:
            log("watch_renewed", address, expires_at=watch.expires_at)
        self.store.set_watch(address, watch)
        hold.refresh()

    def _give_up(self, hold: Hold, error: MailmirrorError) -> None:
        """Say what stopped the turn, and release the lease."""
        mailbox = hold.mailbox
        log(
            "turn_failed",
            mailbox.email_address,
            level=logging.WARNING,
            error=type(error).__name__,
            reason=str(error),
            retry=not error.acknowledge,
            units=hold.gmail.spent,
            rejected=hold.gmail.rejected,
        )
        if isinstance(error, LeaseLost) or hold.released:
            return
        now = self.clock.now()
        if isinstance(error, Throttled):
            mailbox = replace(mailbox, throttled_until=error.until or now + THROTTLED_REST)
        name, before = type(error).__name__, mailbox.problem
        # After progress it is met for the first time.
        again = before is not None and before.code == name and not hold.messages_processed
        since = before.since if again and before is not None else now
        mailbox = replace(mailbox, problem=Problem(name, str(error), error.action, now, since or now))
        phase = mailboxes.phase(mailbox, now)
        if phase == "reauth_required":
            log("reauth_required", mailbox.email_address, level=logging.ERROR, error=name, reason=str(error))
        if phase == "purging" and name in NEEDS_SOMEBODY:
            log("purge_failed", mailbox.email_address, level=logging.ERROR, error=name, reason=str(error))
        try:
            # Access given meanwhile made the mailbox due: it stays so.
            fresh = self.store.mailbox(mailbox.email_address) if phase == "reauth_required" else None
            hold.commit(mailbox, release=True)
            if fresh is not None and fresh.next_due_at != mailbox.next_due_at:
                self.store.raise_hint(mailbox.email_address, 0, fresh.next_due_at)
        except MailmirrorError as second:
            log("release_failed", mailbox.email_address, level=logging.WARNING, error=str(second))


def _refusal(mailbox: Mailbox, errand: Errand, now: datetime) -> Status | None:
    """Return why nothing is to be done."""
    if mailboxes.at_rest(mailbox):
        return "stopped"
    if mailbox.wanted != "live":
        # A purge is for those sent for it.
        return "stopped" if mailbox.wanted == "purged" and not errand.purges else None
    if errand.hint and errand.hint < mailbox.cursor and mailbox.hint <= mailbox.cursor:
        return "stale"
    if mailbox.phase == "reauth_required" and mailbox.next_due_at > now and not errand.insist:
        return "reauth"
    if mailbox.throttled_until is not None and mailbox.throttled_until > now:
        return "throttled"
    return None


def _ended(mailbox: Mailbox, errand: Errand, now: datetime, *, complete: bool) -> Status | None:
    """Return how the turn ends, None if it goes on."""
    if mailboxes.at_rest(mailbox):
        return "stopped"
    if mailbox.wanted == "live":
        due = mailboxes.run_due(mailbox, now)
        if not complete or (due and not errand.runs):
            return "unfinished"
        # One that was stopped needs a watch.
        if mailbox.hint <= mailbox.cursor and not due and mailbox.phase != "stopped":
            return "done"
    elif mailbox.wanted == "purged" and not errand.purges:
        return "purging"
    return "unfinished" if now >= errand.deadline else None
