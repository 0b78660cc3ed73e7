"""Errands and turns: what a worker is sent to do, and how that ended.

Knows: what each end means for whoever sent it. Does not know: how the work is done (`engine`).
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
# Published after such an end.
CONTINUATION: Mapping[Status, Task] = {"unfinished": "sync", "purging": "purge"}


@dataclass(frozen=True, slots=True)
class Errand:
    """What a worker is sent to do.

    Attributes:
        deadline: no slice begins after it.
        hint, noticed_at: a notification's.
        runs: move a run on, too, not only start it.
        purges: move a purge on, which takes long and the right to delete tokens.
        renew: watch and label list, even if still good.
        insist: even though access was revoked.
        retry_since: each parked message not tried since is, whatever its time; None leaves them to it.
    """

    mailbox: MailboxId
    deadline: datetime
    hint: HistoryId = 0
    noticed_at: datetime | None = None
    runs: bool = True
    purges: bool = False
    renew: bool = False
    insist: bool = False
    retry_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """How a turn ended.

    Attributes:
        status: `done`; `unfinished` or `purging`, a continuation is to be published; `held`, another worker has the
            lease and will see the hint; `stopped` or `purged`, as was wanted; or why nothing was done.
        rejected: calls refused for quota.
        lag: seconds from the notification to the commit that answered it.
        parked: None if the lease was not taken.
    """

    status: Status
    messages: int = 0
    threads: int = 0
    units: int = 0
    rejected: int = 0
    lag: float | None = None
    parked: int | None = None

    def and_then(self, hold: Hold, errand: Errand) -> "Turn":
        """Return this turn with that under one more lease."""
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
