"""Calls of one mailbox: each paid for before it is made, made once, and named when it fails; alone or in a batch.

Knows: the budget, and how many calls a batch may hold. Does not know: what is asked, or whether to ask again. Laws 7
and 8: a price paid before every call, a name for every failure.
"""

import random
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mailmirror.adapters.gmail.patience import Patience
from mailmirror.adapters.gmail.refusal import refusal
from mailmirror.adapters.gmail.transport import MANGLED, UNANSWERED
from mailmirror.errors import GmailError, GmailUnavailable, Throttled
from mailmirror.model import MailboxId
from mailmirror.ports import Clock
from mailmirror.quota import Budget

# Google allows 100 calls a batch and advises 50; 25 is what users of new projects get through without 429s.
MAX_BATCH = 25
# A batch takes no more calls than the budget pays for in this time, so that the units are there when it is sent.
BATCH_SECONDS = 5.0


class Calls:
    """Single calls and batches, for one thread: httplib2 is not safe for more.

    Attributes:
        mailbox: whose calls these are.
        rejected: how many of them Gmail refused for quota.
    """

    def __init__(
        self,
        mailbox: MailboxId,
        connect: Callable[[], Any],
        budget: Budget,
        prices: Mapping[str, int],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """Connect nothing yet; `connect` is called before the first call, and its failure is that call's."""
        self.mailbox = mailbox
        self.rejected = 0
        self._connect = connect
        self._budget = budget
        self._prices = prices
        self._clock = clock
        self._rng = rng
        self._max_batch = MAX_BATCH
        self._service: Any = None
        self._users: Any = None

    def once(self, method: str, request: Callable[[Any], Any], *, paged: bool = False) -> Any:
        """Pay for one call and make it. The answer is None when it is no JSON."""
        self._budget.take(self._prices[method])
        try:
            return request(self._open()).execute()
        except UNANSWERED as error:
            refused = self._name(error, method, paged=paged)
        if isinstance(refused, Throttled):
            self._slow_down(1)
        raise refused

    def together(
        self, method: str, ids: Sequence[str], request: Callable[[Any, str], Any]
    ) -> dict[str, Any | GmailError]:
        """Pay for one call for each id and make them in one batch: what was answered to each, or why nothing was."""
        self._budget.take(self._prices[method] * len(ids))
        answers: dict[str, Any | GmailError] = {}

        def collect(number: str, answer: Any, error: Exception | None) -> None:
            answers[ids[int(number)]] = answer if error is None else self._name(error, method)

        unanswered: GmailError = GmailUnavailable(f"Gmail's answer to a batch of {method} cannot be read.")
        try:
            users = self._open()
            batch = self._service.new_batch_http_request(callback=collect)
            for number, item_id in enumerate(ids):
                batch.add(request(users, item_id), request_id=str(number))
            batch.execute()
        except UNANSWERED as error:
            unanswered = self._name(error, "batch")
        except MANGLED:
            pass
        refused = sum(isinstance(answer, Throttled) for answer in answers.values())
        refused += not answers and isinstance(unanswered, Throttled)
        if refused:
            self._slow_down(refused)
        elif len(answers) == len(ids):
            self._max_batch = min(MAX_BATCH, self._max_batch + 1)
        return {item_id: answers.get(item_id, unanswered) for item_id in ids}

    def batch_size(self, method: str) -> int:
        """How many calls the next batch may hold."""
        units = min(self._budget.affordable(BATCH_SECONDS), self._budget.at_once)
        return max(1, min(self._max_batch, units // self._prices[method]))

    def patience(self) -> Patience:
        """Begin to wait for what fails."""
        return Patience(self._clock, self._rng)

    def _open(self) -> Any:
        if self._users is None:
            self._service = self._connect()
            weakref.finalize(self, self._service.close)
            self._users = self._service.users()
        return self._users

    def _name(self, error: Exception, method: str, *, paged: bool = False) -> GmailError:
        return refusal(error, method, self.mailbox, self._clock.now(), paged=paged)

    def _slow_down(self, refused: int) -> None:
        """Somebody else spends from the same quota, or too many calls came at a time."""
        self.rejected += refused
        self._max_batch = max(1, self._max_batch // 2)
        self._budget.drain()
