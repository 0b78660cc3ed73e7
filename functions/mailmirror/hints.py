"""Hints: catching up until the cursor reaches what a notification promised, and hints that never come true.

Knows: that Gmail's history follows its own notification within seconds, that a hint which history does not show is
remembered with its time and dropped after ten minutes, and that a dropped one may have hidden true ones. Does not know:
leases, or how history is applied (`catch_up`). Law 3: order, duplicates, loss and lies in notifications are harmless.
"""

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from mailmirror import mailboxes
from mailmirror.errors import HistoryLag
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.model import HistoryId, Unreached

# Gmail's history follows its own notification within seconds; then Pub/Sub comes back, and after ten minutes the hint
# was wrong.
LAG_WAITS = (1.0, 2.0, 4.0)
UNREACHABLE_AFTER = timedelta(minutes=10)
# What is known of an unreachable hint is forgotten when all its deliveries are over.
FORGOTTEN_AFTER = timedelta(hours=3)


class Pass(Protocol):
    """One pass over history."""

    def __call__(self, *, target: HistoryId = 0, release: bool = False) -> bool:
        """Apply the history after the cursor; return whether the pass is complete.

        Args:
            target: what a notification promised.
            release: give the lease back in the last commit, if the cursor reaches the target with it.
        """
        ...


def reach(hold: Hold, hint: HistoryId, catch_up: Pass, *, release: bool) -> bool:
    """Catch up until the cursor reaches what a notification promised.

    Args:
        hold: the lease.
        hint: what the notification promised, 0 if there is none; the mailbox may have a higher one.
        catch_up: one pass over history.
        release: whether the lease is given back when that is done.

    Returns:
        Whether the last pass is complete.

    Raises:
        HistoryLag: Gmail's history does not show it yet.
    """
    target = max(hint, hold.mailbox.hint)
    for wait in (0.0, *LAG_WAITS):
        if wait:
            hold.clock.sleep(wait)
        complete = catch_up(target=target, release=release)
        if hold.released or hold.mailbox.cursor >= target:
            return complete
        if not complete or _run_due(hold):
            # A run has better things to do than to wait; it looks again after each slice.
            break
    if complete and _dropped(hold, target):
        # What was dropped may have hidden a notification that is true and only ahead of history.
        target = hint if hint < target else 0
        complete = catch_up(target=target, release=release)
        if hold.released or hold.mailbox.cursor >= target:
            return complete
    if not complete or _run_due(hold):
        if target > hold.mailbox.hint:
            # This notification will be acknowledged: whoever goes on has to know what it promised.
            address = hold.mailbox.email_address
            hold.store.raise_hint(address, target, hold.clock.now() + hold.pace.lease)
            hold.refresh()
        return complete
    raise HistoryLag(f"Gmail's history does not show {target} yet.")


def between_slices(hold: Hold, catch_up: Pass) -> bool:
    """Catch up if a hint is waiting or the next slice of the run needs it; return whether that is complete."""
    run, hint = hold.mailbox.active_run, hold.mailbox.hint
    # Before a listing is compared with the mirror, the mirror must be at least as new as the listing.
    comparing = run is not None and run.stage == "planning" and not run.plan_after
    complete = True
    if hint > hold.mailbox.cursor or comparing:
        complete = catch_up()
    if complete and hint > hold.mailbox.cursor and _dropped(hold, hint):
        complete = catch_up()
    return complete


def _run_due(hold: Hold) -> bool:
    return mailboxes.run_due(hold.mailbox, hold.clock.now())


def _dropped(hold: Hold, target: HistoryId) -> bool:
    """Remember since when a hint is above all history; after ten minutes drop it. Return whether it was dropped."""
    now = hold.clock.now()
    unreached = {hint.history_id: hint for hint in hold.mailbox.unreached if now - hint.since < FORGOTTEN_AFTER}
    if target not in unreached:
        hold.commit(replace(hold.mailbox, unreached=(*unreached.values(), Unreached(target, now))))
        return False
    if now - unreached[target].since < UNREACHABLE_AFTER:
        return False
    log("hint_dropped", hold.mailbox.email_address, level=logging.WARNING, hint=target)
    if hold.mailbox.hint >= target:
        # Before the last listing, not after: a hint raised in between is covered by that listing.
        hold.store.drop_hint(hold.mailbox.email_address)
        # Such a hint hides the true ones below it, which history may show only after the usual lag.
        hold.clock.sleep(LAG_WAITS[-1])
    del unreached[target]
    hold.commit(replace(hold.mailbox, unreached=tuple(unreached.values())))
    hold.refresh()
    return True
