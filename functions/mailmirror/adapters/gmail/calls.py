"""Calls of one mailbox: each paid for before it is made, made once, and named when it fails; alone or in a wave.

Knows: the budget, how many calls a batch may hold, and how many may be under way at a time. Does not know: what is
asked, or whether to ask again. Laws 7 and 8: a price paid before every call, a name for every failure.
"""

import random
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from googleapiclient.errors import HttpError

from mailmirror.adapters.gmail.lanes import Lanes
from mailmirror.adapters.gmail.patience import Patience
from mailmirror.adapters.gmail.refusal import BATCH, refusal
from mailmirror.adapters.gmail.transport import UNANSWERED, Api, Outcome, kept
from mailmirror.errors import GmailError, GmailUnavailable, Throttled
from mailmirror.model import MailboxId
from mailmirror.ports import Clock
from mailmirror.quota import Budget

Value = TypeVar("Value")

# A method, and the id that it is called with.
Get = tuple[str, str]

# Google allows 100 calls a batch and advises 50; 25 is what users of new projects get through without 429s.
MAX_BATCH = 25
# Gmail answers the calls of a batch one after the other, so a wave is spread over all lanes; but fewer calls than these
# are answered in less time than a request takes on its way.
FEW = 2
# A wave takes no more calls than the budget pays for in this time, so that the units are there when it is sent.
BATCH_SECONDS = 5.0
# Calls under way at a time. How many Gmail lets a user have it does not say, and other applications have some of them:
# begin with few, become more by ten with each wave, and half as many when Gmail refuses. From then on they become more
# so slowly that a lasting limit is met once in 35 waves: who runs into it again and again is shut out for a quarter of
# an hour.
FIRST_IN_FLIGHT = 50
MORE_IN_FLIGHT = 10
MORE_AFTER_REFUSAL = 1 / 50


class Calls:
    """Single calls and waves of batches, for one thread.

    Attributes:
        mailbox: whose calls these are.
        rejected: how many of them Gmail refused for quota.
        in_flight: the most that may be under way at a time, rounded down.
    """

    def __init__(
        self,
        mailbox: MailboxId,
        connect: Callable[[], Lanes],
        budget: Budget,
        prices: Mapping[str, int],
        clock: Clock,
        rng: random.Random,
        *,
        lanes: int,
    ) -> None:
        """Connect nothing yet; `connect` is called before the first call, and its failure is that call's."""
        self.mailbox = mailbox
        self.rejected = 0
        self._connect = connect
        self._budget = budget
        self._prices = prices
        self._clock = clock
        self._rng = rng
        self._lanes = lanes
        self._most = lanes * MAX_BATCH
        self.in_flight: float = min(FIRST_IN_FLIGHT, self._most)
        self._refused_before = False
        self._way: Lanes | None = None

    def once(self, method: str, request: Callable[[Api], Any], *, paged: bool = False) -> Any:
        """Pay for one call and make it. The answer is None when it is no JSON."""
        answer = self._pay_and_send(method, request)
        if isinstance(answer, HttpError) and answer.resp.status == 401:
            # A token may have been revoked before its time: there is one more, and one more try.
            renewed = _caught(self._open().renew)
            if isinstance(renewed, Exception):
                answer = renewed
            elif renewed:
                answer = self._pay_and_send(method, request)
        if not isinstance(answer, Exception):
            self._filled(1)
            return answer
        refused = self._name(answer, method, paged=paged)
        if isinstance(refused, Throttled):
            self._slow_down(1, int(self.in_flight))
        raise refused

    def together(self, gets: Sequence[Get], request: Callable[[Api, Get], Any]) -> dict[Get, Any | GmailError]:
        """Pay for these calls and make them in one wave: what was answered to each, or why nothing was."""
        self._budget.take(sum(self._prices[method] for method, _ in gets))
        batches = self._spread(gets)
        answers: dict[Get, Any | GmailError] = {}
        refused = 0
        for batch, outcome in zip(batches, self._send(batches, request), strict=True):
            unanswered: GmailError = GmailUnavailable("Gmail's answer to a batch cannot be read.")
            if outcome.failure is not None:
                unanswered = self._name(outcome.failure, BATCH)
                refused += isinstance(unanswered, Throttled)
            for number, get in enumerate(batch):
                answer = outcome.answers.get(number, unanswered)
                if isinstance(answer, HttpError):
                    answer = self._name(answer, get[0])
                    refused += isinstance(answer, Throttled)
                answers[get] = answer
        if refused:
            self._slow_down(refused, len(gets))
        elif not any(isinstance(answer, GmailUnavailable) for answer in answers.values()):
            self._filled(len(gets))
        return {get: answers[get] for get in gets}

    def room(self, gets: Sequence[Get]) -> int:
        """How many of these calls, from the first on, the next wave may hold: at least one."""
        units = min(self._budget.affordable(BATCH_SECONDS), self._budget.at_once)
        most = max(1, min(int(self.in_flight), len(gets)))
        for count, (method, _) in enumerate(gets[:most]):
            units -= self._prices[method]
            if units < 0:
                return max(1, count)
        return most

    def patience(self) -> Patience:
        """Begin to wait for what fails."""
        return Patience(self._clock, self._rng)

    def _spread(self, gets: Sequence[Get]) -> list[Sequence[Get]]:
        """Deal calls out to batches, none of them much longer than another, each with its share of whole threads."""
        count = min(self._lanes, max(-(-len(gets) // MAX_BATCH), len(gets) // FEW))
        return [gets[number::count] for number in range(count)]

    def _pay_and_send(self, method: str, request: Callable[[Api], Any]) -> Any:
        self._budget.take(self._prices[method])

        def send() -> Any:
            way = self._open()
            return way.one(request(way.api))

        return _caught(send)

    def _send(self, batches: Sequence[Sequence[Get]], request: Callable[[Api, Get], Any]) -> list[Outcome]:
        def send() -> list[Outcome]:
            way = self._open()
            return way.wave([[request(way.api, get) for get in batch] for batch in batches])

        outcomes = _caught(send)
        return outcomes if isinstance(outcomes, list) else [Outcome(failure=outcomes) for _ in batches]

    def _open(self) -> Lanes:
        if self._way is None:
            self._way = self._connect()
            weakref.finalize(self, self._way.close)
        return self._way

    def _name(self, error: Exception, method: str, *, paged: bool = False) -> GmailError:
        return refusal(error, method, self.mailbox, self._clock.now(), paged=paged)

    def _filled(self, answered: int) -> None:
        """So many calls at a time were answered: that is news only if there may not be more."""
        if answered >= int(self.in_flight):
            more = MORE_AFTER_REFUSAL * self.in_flight if self._refused_before else MORE_IN_FLIGHT
            self.in_flight = min(self.in_flight + more, self._most)

    def _slow_down(self, refused: int, under_way: int) -> None:
        """Somebody else spends from the same quota, or too many calls came at a time."""
        self.rejected += refused
        self.in_flight = max(1, min(int(self.in_flight), under_way) // 2)
        self._refused_before = True
        self._budget.drain()


def _caught(send: Callable[[], Value]) -> Value | Exception:
    """What is answered, or why nothing is. What the budget refuses was not sent and does not come through here."""
    try:
        return send()
    except UNANSWERED as error:
        return kept(error)
