"""Hints: catching up until the cursor reaches what a notification promised, and hints that never come true.

Knows: that history follows its notification within seconds; that a hint above history is remembered with its time,
dropped after ten minutes, and may hide true ones. Does not know: leases, or how history is applied (`catch_up`). Law 3:
order, duplicates, loss and lies in notifications are harmless.
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

# Then Pub/Sub comes back; after ten minutes the hint was wrong.
LAG_WAITS = (1.0, 2.0, 4.0)
UNREACHABLE_AFTER = timedelta(minutes=10)
# All deliveries of the hint are over then.
FORGOTTEN_AFTER = timedelta(hours=3)


class Pass(Protocol):
    """One pass over history."""

    def __call__(self, *, target: HistoryId = 0, release: bool = False) -> bool:
        """Apply the history after the cursor; return whether it is complete.

        `release`: give the lease back in the last commit, if the cursor reaches the hint `target`.
        """
        ...


def reach(hold: Hold, hint: HistoryId, catch_up: Pass, *, release: bool) -> bool:
    """Catch up until the cursor reaches a hint; return whether the last pass is complete.

    `release`: then give the lease back. Raises `HistoryLag`: history does not show it yet.
    """
    target = max(hint, hold.mailbox.hint)
    for wait in (0.0, *LAG_WAITS):
        if wait:
            hold.clock.sleep(wait)
        complete = catch_up(target=target, release=release)
        if hold.released or hold.mailbox.cursor >= target:
            return complete
        if not complete or _run_due(hold):
            # A run does not wait; it looks again after each slice.
            break
    if complete and _dropped(hold, target):
        # It may have hidden one that is true and ahead of history.
        target = hint if hint < target else 0
        complete = catch_up(target=target, release=release)
        if hold.released or hold.mailbox.cursor >= target:
            return complete
    if not complete or _run_due(hold):
        if target > hold.mailbox.hint:
            # It will be acknowledged: whoever goes on has to know it.
            hold.store.raise_hint(hold.mailbox.email_address, target, hold.clock.now() + hold.pace.lease)
            hold.refresh()
        return complete
    raise HistoryLag(f"Gmail's history does not show {target} yet.")


def between_slices(hold: Hold, catch_up: Pass) -> bool:
    """Catch up for a hint or the run's next slice; return whether that is complete."""
    run, hint = hold.mailbox.active_run, hold.mailbox.hint
    # A listing is compared with a mirror at least as new.
    comparing = run is not None and run.stage == "planning" and not run.plan_after
    complete = catch_up() if hint > hold.mailbox.cursor or comparing else True
    if complete and hint > hold.mailbox.cursor and _dropped(hold, hint):
        complete = catch_up()
    return complete


def _run_due(hold: Hold) -> bool:
    return mailboxes.run_due(hold.mailbox, hold.clock.now())


def _dropped(hold: Hold, target: HistoryId) -> bool:
    """Remember since when a hint is above history; after ten minutes drop it and return True."""
    now = hold.clock.now()
    unreached = {hint.history_id: hint for hint in hold.mailbox.unreached if now - hint.since < FORGOTTEN_AFTER}
    if target not in unreached:
        hold.commit(replace(hold.mailbox, unreached=(*unreached.values(), Unreached(target, now))))
        return False
    if now - unreached[target].since < UNREACHABLE_AFTER:
        return False
    log("hint_dropped", hold.mailbox.email_address, level=logging.WARNING, hint=target)
    if hold.mailbox.hint >= target:
        # Before the last listing, which covers a hint raised in between.
        hold.store.drop_hint(hold.mailbox.email_address)
        # It hides true ones below it, which history may show only after the usual lag.
        hold.clock.sleep(LAG_WAITS[-1])
    del unreached[target]
    hold.commit(replace(hold.mailbox, unreached=tuple(unreached.values())))
    hold.refresh()
    return True
