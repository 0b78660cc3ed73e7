"""Gmail through google-api-python-client: single calls and batches, within the budget, with every failure named.

Knows: Gmail's JSON, its ways to refuse (by endpoint: one body says two things), what is worth a second try. Does not
know: what the mirror does with it. Laws 6, 7, 8.

A call refused or never answered is paid for all the same.

Each imports only what stands before it: wire, arrival, refusal, transport, calls, gets, client; here is
what all mailboxes of a deployment share.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field

from google.auth.credentials import Credentials

from mailmirror.adapters.gmail.client import GmailClient
from mailmirror.adapters.gmail.transport import GOOGLE
from mailmirror.model import LabelId, MailboxId, Quota
from mailmirror.ports import Clock, Gmail
from mailmirror.quota import PriceTable


@dataclass(frozen=True, slots=True, eq=False)
class GmailApiAccounts:
    """Opens mailboxes in Gmail.

    Attributes:
        credentials: a mailbox's; None where Gmail is the fake one.
        units_per_day: what runs may spend of them from midnight UTC to midnight; None: no limit.
        timeout: seconds without a byte until a call counts as unanswered.
        lanes: the most batches of a mailbox at a time; one uses no threads.
    """

    credentials: Callable[[MailboxId], Credentials | None]
    _: KW_ONLY
    clock: Clock
    topic: str
    api_root: str = GOOGLE
    units_per_minute: int = 6000
    units_per_day: int | None = None
    prices: PriceTable = "2026"
    watch_label_ids: Sequence[LabelId] = ()
    watch_label_filter_behavior: str | None = None
    timeout: float = 30.0
    rng: random.Random = field(default_factory=random.Random)
    lanes: int = 8
    forgets: Callable[[MailboxId], int] = lambda _: 0

    def open(self, mailbox: MailboxId, quota: Quota | None) -> Gmail:
        return GmailClient(mailbox, self, quota)

    def forget(self, mailbox: MailboxId) -> int:
        return self.forgets(mailbox)
