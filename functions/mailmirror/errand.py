"""Errands and turns: what a worker is sent to do, and how that ended.

Knows: what each end means for whoever sent the worker. Does not know: how the work is done (`engine`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mailmirror.lease import Hold
from mailmirror.model import HistoryId, MailboxId
from mailmirror.ports import Task

Status = Literal[
    "done", "unfinished", "held", "stale", "unknown", "stopped", "purging", "purged", "throttled", "reauth"
]
# What is published when a turn ended like this, so that somebody goes on.
CONTINUATION: Mapping[Status, Task] = {"unfinished": "sync", "purging": "purge"}


@dataclass(frozen=True, slots=True)
class Errand:
    """What a worker is sent to do.

    Attributes:
        mailbox: where.
        deadline: no further slice begins after it.
        hint: the history id a notification named, 0 when there was none.
        noticed_at: when that notification was published.
        runs: whether to move a run on; without it a run is at most started.
        purges: whether to move a purge on, which takes long and the right to delete tokens.
        renew: whether to renew the watch and the label list even if they are good for a while.
        insist: whether to try even though access was found revoked.
    """

    mailbox: MailboxId
    deadline: datetime
    hint: HistoryId = 0
    noticed_at: datetime | None = None
    runs: bool = True
    purges: bool = False
    renew: bool = False
    insist: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """How a turn ended.

    Attributes:
        status: `done`; `unfinished` or `purging`, work is left and its continuation is to be published; `held`, another
            worker has the lease and will see the hint; `stopped` or `purged`, that was what was wanted; or why nothing
            was done.
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
