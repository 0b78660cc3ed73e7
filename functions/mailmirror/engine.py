"""The engine: one worker's turn at one mailbox.

    errand ──► lease ──► watch ──► catch up ──► parked ──► run, slice by slice ──► release ──► hint?

Knows: the order of a turn, hints, and what a failure leaves behind. Does not know: HTTP, Pub/Sub, Firestore or Gmail's
wire format. Laws 2, 3 and 5 meet here: all work is done under the lease, a notification only says that it is worth
looking, and a turn may be cut off between any two calls. A lease is given back where the turn ends or where a named
failure is handled, never by clean-up code: a worker that is killed leaves it to expire.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from mailmirror import mailboxes, reconcile, retry
from mailmirror.catch_up import CatchUp
from mailmirror.errors import GmailRejected, HistoryLag, LeaseHeld, LeaseLost, MailmirrorError, Throttled
from mailmirror.fetch import bring_labels
from mailmirror.lease import Hold, Pace
from mailmirror.log import log
from mailmirror.model import HistoryId, Mailbox, MailboxId, Problem, Unreached
from mailmirror.ports import Blobs, Clock, GmailAccounts, Store

# Gmail's history follows its own notification within seconds; then Pub/Sub comes back, and after ten minutes the hint
# was wrong.
LAG_WAITS = (1.0, 2.0, 4.0)
UNREACHABLE_AFTER = timedelta(minutes=10)
# What is known of an unreachable hint is forgotten when all its deliveries are over.
FORGOTTEN_AFTER = timedelta(hours=3)
# How long a mailbox rests when Gmail refuses for quota without naming a time.
THROTTLED_REST = timedelta(minutes=1)

Status = Literal["done", "unfinished", "held", "stale", "unknown", "stopped", "throttled", "reauth"]


@dataclass(frozen=True, slots=True)
class Errand:
    """What a worker is sent to do.

    Attributes:
        mailbox: where.
        deadline: no further slice begins after it.
        hint: the history id a notification named, 0 when there was none.
        noticed_at: when that notification was published.
        runs: whether to move a run on; without it a run is at most started.
        renew: whether to renew the watch and the label list even if they are good for a while.
        insist: whether to try even though access was found revoked.
    """

    mailbox: MailboxId
    deadline: datetime
    hint: HistoryId = 0
    noticed_at: datetime | None = None
    runs: bool = True
    renew: bool = False
    insist: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """How a turn ended.

    Attributes:
        status: `done`; `unfinished`, work is left and its continuation is to be published; `held`, another worker has
            the lease and will see the hint; or why nothing was done.
        messages, threads: how many were changed.
        units: quota units spent.
        rejected: calls that Gmail refused for quota.
        lag: seconds from the errand's notification to the commit that answered it, None if there was neither.
        parked: how many messages of the mailbox are parked, None if the lease was not taken.
    """

    status: Status
    messages: int = 0
    threads: int = 0
    units: int = 0
    rejected: int = 0
    lag: float | None = None
    parked: int | None = None

    def and_then(self, hold: Hold, errand: Errand) -> "Turn":
        """Return this turn with what was done under one more lease."""
        state = hold.mailbox
        answered = errand.noticed_at is not None and state.last_notification_at == errand.noticed_at
        return Turn(
            self.status,
            messages=self.messages + hold.messages_processed,
            threads=self.threads + hold.threads_processed,
            units=self.units + hold.gmail.spent,
            rejected=self.rejected + hold.gmail.rejected,
            lag=state.lag if answered else self.lag,
            parked=state.counts.parked,
        )


class SyncEngine:
    """Brings mailboxes up to date: each call of `sync` one turn at one mailbox, any number of calls at a time."""

    def __init__(
        self,
        accounts: GmailAccounts,
        store: Store,
        blobs: Blobs | None,
        clock: Clock,
        *,
        prices: Mapping[str, int],
        new_owner: Callable[[], str],
        pace: Pace | None = None,
    ) -> None:
        """Wire the engine.

        Args:
            accounts: opens mailboxes in Gmail.
            store: the mirror.
            blobs: where large bodies go; None cuts them.
            clock: time.
            prices: quota units by Gmail method.
            new_owner: makes a name for each lease that is taken: for people to read, and nobody else's, because many
                threads of many instances take leases in the same moment.
            pace: lease and due times.
        """
        self.accounts = accounts
        self.store = store
        self.blobs = blobs
        self.clock = clock
        self.prices = prices
        self.new_owner = new_owner
        self.pace = pace or Pace()

    def sync(self, errand: Errand) -> Turn:
        """Take the lease and work until nothing is left or the deadline has come.

        Args:
            errand: what to do.

        Returns:
            How the turn ended.

        Raises:
            MailmirrorError: what stopped it, after the lease was released and the mailbox document was told why.
        """
        mailbox = self.store.mailbox(errand.mailbox)
        if mailbox is None:
            return Turn("unknown")
        refusal = _refusal(mailbox, errand, self.clock.now())
        if refusal in ("throttled", "reauth") and errand.hint:
            # Somebody may be at work all the same, and is told by the hint; or may just have ended, and is not.
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
            complete = self._turn(hold, errand)
            turn = turn.and_then(hold, errand)
            # Read only now: whoever found the lease taken raised the hint first and looked at the lease afterwards.
            fresh = self.store.mailbox(errand.mailbox)
            if fresh is None:
                return turn
            if not complete or (fresh.unfinished and not errand.runs):
                return replace(turn, status="unfinished")
            if fresh.hint <= fresh.cursor and not fresh.unfinished:
                return turn
            if self.clock.now() >= errand.deadline:
                return replace(turn, status="unfinished")
            mailbox, errand = fresh, replace(errand, hint=0, noticed_at=None, renew=False)

    def _take(self, mailbox: Mailbox, errand: Errand) -> Hold | None:
        """Take the lease, or leave the hint to its holder: write the hint, then look at the lease once more."""
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
            # Whoever took it in this moment reads the hint after releasing.
            return None

    def _rests(self, hold: Hold, errand: Errand) -> bool:
        """Give the lease back if whoever had it was told to wait after this worker looked; return whether it was so."""
        until = hold.mailbox.throttled_until
        if until is None or until <= self.clock.now():
            return False
        if errand.hint:
            self.store.raise_hint(errand.mailbox, errand.hint, until)
        hold.commit(hold.mailbox, release=True)
        return True

    def _hold(self, mailbox: Mailbox) -> Hold:
        return Hold(self.store, self.accounts, self.blobs, self.clock, self.pace, mailbox, self.new_owner())

    def _turn(self, hold: Hold, errand: Errand) -> bool:
        """Work under the lease and release it; return whether nothing that was meant to be done is left."""
        try:
            return self._work(hold, errand)
        except MailmirrorError as error:
            self._give_up(hold, error)
            raise

    def _work(self, hold: Hold, errand: Errand) -> bool:
        if errand.renew or mailboxes.watch_due(hold.mailbox, self.clock.now()):
            self._renew_watch(hold)
        if hold.mailbox.cursor == 0:
            reconcile.start(hold, "first", "The mailbox was connected.")
        complete = self._reach(hold, errand)
        if hold.released:
            return complete
        if errand.renew:
            bring_labels(hold)
        if self._parked_due(hold):
            retry.parked(hold)
        if complete and errand.runs:
            complete = self._run(hold, errand)
        hold.commit(replace(hold.mailbox, problem=None, throttled_until=None), release=True)
        return complete

    def _catch_up(self, hold: Hold, errand: Errand, *, target: HistoryId = 0, release: bool = False) -> bool:
        return CatchUp(hold, self.prices, errand.deadline, target, errand.noticed_at, release).run()

    def _reach(self, hold: Hold, errand: Errand) -> bool:
        """Catch up until the cursor reaches what a notification promised; return whether the pass is complete.

        Raises:
            HistoryLag: Gmail's history does not show it yet.
        """
        target = max(errand.hint, hold.mailbox.hint)
        release = not (hold.mailbox.unfinished or errand.renew or self._parked_due(hold))
        for wait in (0.0, *LAG_WAITS):
            if wait:
                self.clock.sleep(wait)
            complete = self._catch_up(hold, errand, target=target, release=release)
            if hold.released or hold.mailbox.cursor >= target:
                return complete
            if not complete or hold.mailbox.unfinished:
                # A run has better things to do than to wait; it looks again after each slice.
                break
        if complete and self._dropped(hold, target):
            # What was dropped may have hidden a notification that is true and only ahead of history.
            target = errand.hint if errand.hint < target else 0
            complete = self._catch_up(hold, errand, target=target, release=release)
            if hold.released or hold.mailbox.cursor >= target:
                return complete
        if not complete or hold.mailbox.unfinished:
            if target > hold.mailbox.hint:
                # This notification will be acknowledged: whoever goes on has to know what it promised.
                self.store.raise_hint(errand.mailbox, target, self.clock.now() + self.pace.lease)
                hold.refresh()
            return complete
        raise HistoryLag(f"Gmail's history does not show {target} yet.")

    def _dropped(self, hold: Hold, target: HistoryId) -> bool:
        """Remember since when a hint is above all history; after ten minutes drop it. Return whether it was dropped."""
        now = self.clock.now()
        unreached = {hint.history_id: hint for hint in hold.mailbox.unreached if now - hint.since < FORGOTTEN_AFTER}
        if target not in unreached:
            hold.commit(replace(hold.mailbox, unreached=(*unreached.values(), Unreached(target, now))))
            return False
        if now - unreached[target].since < UNREACHABLE_AFTER:
            return False
        log("hint_dropped", hold.mailbox.email_address, level=logging.WARNING, hint=target)
        if hold.mailbox.hint >= target:
            # Before the last listing, not after: a hint raised in between is covered by that listing.
            self.store.drop_hint(hold.mailbox.email_address)
            # Such a hint hides the true ones below it, which history may show only after the usual lag.
            self.clock.sleep(LAG_WAITS[-1])
        del unreached[target]
        hold.commit(replace(hold.mailbox, unreached=tuple(unreached.values())))
        hold.refresh()
        return True

    def _run(self, hold: Hold, errand: Errand) -> bool:
        """Move the run on, catching up between slices when a hint is waiting; return whether no run is left."""
        work = reconcile.Reconcile(hold, self.prices)
        moved = False
        while True:
            run, request = hold.mailbox.active_run, hold.mailbox.pending_request
            if run is None and request is None:
                return True
            # One slice in any case: a step that its own catch-up uses up must not keep a run where it is for ever.
            if moved and self.clock.now() >= errand.deadline:
                return False
            moved = True
            if run is None and request is not None:
                reconcile.start(hold, request.mode, "It was asked for.", run_id=request.run_id)
            elif not self._between_slices(hold, errand):
                return False
            else:
                work.step()
                hold.ran = True
            hold.refresh()

    def _between_slices(self, hold: Hold, errand: Errand) -> bool:
        """Catch up if a hint is waiting or the next slice needs it; return whether that is complete."""
        run, hint = hold.mailbox.active_run, hold.mailbox.hint
        # Before a listing is compared with the mirror, the mirror must be at least as new as the listing.
        comparing = run is not None and run.stage == "planning" and not run.plan_after
        complete = True
        if hint > hold.mailbox.cursor or comparing:
            complete = self._catch_up(hold, errand)
        if complete and hint > hold.mailbox.cursor and self._dropped(hold, hint):
            complete = self._catch_up(hold, errand)
        return complete

    def _renew_watch(self, hold: Hold) -> None:
        address = hold.mailbox.email_address
        try:
            watch = hold.gmail.watch()
        except GmailRejected as error:
            # The mirror does not depend on the watch: the sweep keeps it up to date, and the document says what is
            # wrong.
            watch = replace(hold.mailbox.watch, error=str(error))
            log("watch_failed", address, level=logging.ERROR, error=str(error))
        else:
            log("watch_renewed", address, expires_at=watch.expires_at)
        self.store.set_watch(address, watch)
        hold.refresh()

    def _parked_due(self, hold: Hold) -> bool:
        due = hold.mailbox.parked_due_at
        return due is not None and due <= self.clock.now()

    def _give_up(self, hold: Hold, error: MailmirrorError) -> None:
        """Release the lease and say on the mailbox document what stopped the turn, unless the lease is lost."""
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
        mailbox = replace(mailbox, problem=Problem(type(error).__name__, str(error), error.action, now))
        if mailboxes.phase(mailbox, now) == "reauth_required":
            log(
                "reauth_required",
                mailbox.email_address,
                level=logging.ERROR,
                error=type(error).__name__,
                reason=str(error),
            )
        try:
            hold.commit(mailbox, release=True)
        except MailmirrorError as second:
            log("release_failed", mailbox.email_address, level=logging.WARNING, error=str(second))


def _refusal(mailbox: Mailbox, errand: Errand, now: datetime) -> Status | None:
    """Return why nothing is to be done now, None if there is no reason."""
    if mailbox.phase in ("stopped", "purging"):
        return "stopped"
    if errand.hint and errand.hint < mailbox.cursor and mailbox.hint <= mailbox.cursor:
        return "stale"
    if mailbox.phase == "reauth_required" and mailbox.next_due_at > now and not errand.insist:
        return "reauth"
    if mailbox.throttled_until is not None and mailbox.throttled_until > now:
        return "throttled"
    return None
