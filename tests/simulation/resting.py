"""Rest, judged: nothing moves in a mailbox that is stopped, nor in a run whose day is used up.

Knows: what a commit may write then, and the units of a day. Does not know: why somebody stopped it, or what a run
costs; nothing of `mailmirror` runs here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailmirror.model import Mailbox, Quota, Run
    from mailmirror.slice import Write


class Resting:
    """Judges the commits of one mailbox by whether anything was to be done at all."""

    def __init__(self, units_per_day: int | None) -> None:
        """Take what runs may spend of a day; None when that has no limit."""
        self._units_per_day = units_per_day
        # The level of the budget when the next slice of a run may begin.
        self._level: Quota | None = None
        # What the worker with the lease knows to be wanted, and whether a run has moved since.
        self._wanted = "live"
        self._moved_since = False

    def acquired(self, level: Quota | None, wanted: str) -> None:
        """Take in the level of the budget that a worker was given with the lease, and what was wanted."""
        self._level = level
        self._wanted, self._moved_since = wanted, True

    def told(self, wanted: str) -> None:
        """Take in what the worker with the lease knows to be wanted of the mailbox."""
        if self._wanted == "live":
            # A slice that is begun is ended.
            self._moved_since = False
        self._wanted = wanted

    def fault(self, before: Mailbox, after: Mailbox, writes: Sequence[Write], at: datetime) -> str:
        """Return what moved that was to rest; nothing when that is right."""
        if before.wanted == before.phase == "stopped":
            fields = ("cursor", "delta_seq", "counts", "run", "labels", "coverage", "request_done", "parked_due_at")
            moved = [name for name in fields if getattr(before, name) != getattr(after, name)]
            if writes or moved:
                return f"The mailbox is stopped, and a commit wrote {[write.path for write in writes[:3]]} and {moved}."
        if not _moved(before.run, after.run):
            return ""
        late, self._moved_since = self._moved_since, True
        if self._wanted != "live" and late:
            return f"Run {before.run and before.run.id} moved, though its worker knew that it is wanted {self._wanted}."
        level, self._level = self._level, after.quota
        until = before.run.paused_until if before.run is not None else None
        if until is not None and until > at:
            return f"Run {before.run and before.run.id} is paused until {until}, and moved."
        most = self._units_per_day
        if most is not None and level is not None and level.today >= most and level.at.date() == at.date():
            return (
                f"A slice of run {before.run and before.run.id} began after {level.today} units of a day with {most}."
            )
        return ""


def _moved(before: Run | None, after: Run | None) -> bool:
    """Whether a run came nearer to its end; one that starts again does not."""
    if before is None or after is None or before.id != after.id or before.signpost != after.signpost:
        return False
    again = after.stage == "listing" and after.first_page == after.pages == before.pages
    return _place(before) != _place(after) and not again


def _place(run: Run) -> tuple[object, ...]:
    return run.stage, run.listing, run.scope, run.page_token, run.pages, run.plans, run.plan_after, run.at, run.offset
