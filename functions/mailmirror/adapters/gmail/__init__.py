"""Gmail through google-api-python-client: single calls and batches, within the budget, with every failure named.

Knows: Gmail's JSON, its ways to refuse (by endpoint: one body says two things), what is worth a second try. Does not
know: what the mirror does with it. Laws 6, 7, 8.

A call refused or never answered is paid for all the same.

Each imports only what stands before it: data, wire, arrival, refusal, batch, transport, lanes, patience, calls, gets,
client; here is what all mailboxes of a deployment share.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from google.auth.credentials import Credentials

from mailmirror.adapters.gmail.client import GmailClient
from mailmirror.adapters.gmail.transport import GOOGLE
from mailmirror.model import LabelId, MailboxId, Quota
from mailmirror.ports import Clock, Gmail
from mailmirror.quota import PriceTable


def _keeps_nothing(_mailbox: MailboxId) -> int:
    return 0


@dataclass(frozen=True, slots=True, eq=False)
class GmailApiAccounts:
    """Opens mailboxes in Gmail.

    Attributes:
        credentials: a mailbox's; None where Gmail is the fake one.
        clock: every wait goes through it.
        topic: projects/…/topics/….
        units_per_minute: of a user.
        units_per_day: what runs may spend of them from midnight UTC to midnight; None: no limit.
        watch_label_ids, watch_label_filter_behavior: the watch's filter, if any.
        timeout: seconds without a byte until a call counts as unanswered.
        rng: jitter.
        lanes: the most batches of a mailbox at a time; one uses no threads.
        forgets: see `forget`.
    """

    credentials: Callable[[MailboxId], Credentials | None]
    clock: Clock = field(kw_only=True)
    topic: str = field(kw_only=True)
    api_root: str = field(default=GOOGLE, kw_only=True)
    units_per_minute: int = field(default=6000, kw_only=True)
    units_per_day: int | None = field(default=None, kw_only=True)
    prices: PriceTable = field(default="2026", kw_only=True)
    watch_label_ids: Sequence[LabelId] = field(default=(), kw_only=True)
    watch_label_filter_behavior: str | None = field(default=None, kw_only=True)
    timeout: float = field(default=30.0, kw_only=True)
    rng: random.Random = field(default_factory=random.Random, kw_only=True)
    lanes: int = field(default=8, kw_only=True)
    forgets: Callable[[MailboxId], int] = field(default=_keeps_nothing, kw_only=True)

    def open(self, mailbox: MailboxId, quota: Quota | None) -> Gmail:
        return GmailClient(mailbox, self, quota)

    def forget(self, mailbox: MailboxId) -> int:
        return self.forgets(mailbox)
