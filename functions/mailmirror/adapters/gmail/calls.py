"""Calls of one mailbox: each paid for before it is made, made once, and named when it fails; alone or in a wave.

Knows: the budget, how many calls go together, which failures may pass, and how long to try. Does not know: what is
asked, or who tries again. Laws 7, 8.
"""

import random
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from googleapiclient.errors import HttpError

from mailmirror.adapters.gmail.refusal import BATCH, refusal
from mailmirror.adapters.gmail.transport import UNANSWERED, Api, Lanes, Outcome, kept
from mailmirror.errors import GmailError, GmailUnavailable, NoSubject, Throttled
from mailmirror.model import MailboxId
from mailmirror.ports import Clock
from mailmirror.quota import Budget

Value = TypeVar("Value")

# Method and id.
Get = tuple[str, str]

# Google allows 100 a batch and advises 50; users of new projects get 25 through without 429s.
MAX_BATCH = 25
# Gmail answers a batch one by one, so a wave is spread over all lanes; but fewer take less time than a request's way.
FEW = 2
# A wave holds what the budget pays for in this time: units are there when it is sent.
BATCH_SECONDS = 5.0
# Gmail does not tell a user's limit, and others share it: few at first, more with each wave, half when it refuses;
# then so slowly more that a lasting limit is met once in 35 waves: who often meets it is shut out for 15 minutes.
FIRST_IN_FLIGHT = 50
MORE_IN_FLIGHT = 10
MORE_AFTER_REFUSAL = 1 / 50
# Seconds between tries, more or less a quarter.
BACK_OFF = (1.0, 2.0, 4.0)
# A lease waits: no call of the port tries again after so long, or goes on for twice that.
PATIENCE_SECONDS = 40.0


def worth_another_try(error: GmailError) -> bool:
    """Whether it may pass soon."""
    passing = isinstance(error, GmailUnavailable | NoSubject)
    return passing or (isinstance(error, Throttled) and error.until is None)


class Patience:
    """How long one call of the port tries what fails. Only time of failures counts."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._lost = timedelta(0)
        self.begin()

    def begin(self) -> None:
        """Begin what may fail: waits are short again, lost time still counts."""
        self._since = self._clock.now() - self._lost
        self._step = 0

    def end(self) -> None:
        """A failure is settled: the time since `begin` was lost."""
        self._lost = self._clock.now() - self._since

    @contextmanager
    def unstrained(self) -> Iterator[None]:
        """Time in which nothing fails."""
        began = self._clock.now()
        try:
            yield
        finally:
            self._since += self._clock.now() - began

    def progress(self) -> None:
        """Something was answered."""
        self._step = 0

    def wait(self) -> bool:
        """Wait for the next try; False when it is enough."""
        if self._step == len(BACK_OFF):
            return False
        delay = BACK_OFF[self._step] * self._rng.uniform(0.75, 1.25)
        if self._elapsed() + delay > PATIENCE_SECONDS:
            return False
        self._clock.sleep(delay)
        self._step += 1
        return True

    def late(self) -> bool:
        """Whether a last try is left."""
        return self._elapsed() > PATIENCE_SECONDS

    def over(self) -> bool:
        """Whether even a last try is too late."""
        return self._elapsed() > 2 * PATIENCE_SECONDS

    def _elapsed(self) -> float:
        return (self._clock.now() - self._since).total_seconds()


class Calls:
    """Single calls and waves of batches, for one thread; `in_flight`, rounded down, may be under way at a time."""

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
        """The first call calls `connect`, and fails with it."""
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
        """Pay for a call and make it; None: the answer is no JSON."""
        answer = self._pay_and_send(method, request)
        if isinstance(answer, HttpError) and answer.resp.status == 401:
            # Revoked before its time: there is one more token and try.
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
        """Likewise many, in one wave; return answers and failures."""
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
        """How many of these the next wave may hold: at least one."""
        units = min(self._budget.affordable(BATCH_SECONDS), self._budget.at_once)
        most = max(1, min(int(self.in_flight), len(gets)))
        for count, (method, _) in enumerate(gets[:most]):
            units -= self._prices[method]
            if units < 0:
                return max(1, count)
        return most

    def patience(self) -> Patience:
        return Patience(self._clock, self._rng)

    def _spread(self, gets: Sequence[Get]) -> list[Sequence[Get]]:
        """To each batch its share of whole threads."""
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
        """News only if no more may be under way."""
        if answered >= int(self.in_flight):
            more = MORE_AFTER_REFUSAL * self.in_flight if self._refused_before else MORE_IN_FLIGHT
            self.in_flight = min(self.in_flight + more, self._most)

    def _slow_down(self, refused: int, under_way: int) -> None:
        """Somebody else spends this quota, or too many came at a time."""
        self.rejected += refused
        self.in_flight = max(1, min(int(self.in_flight), under_way) // 2)
        self._refused_before = True
        self._budget.drain()


def _caught(send: Callable[[], Value]) -> Value | Exception:
    """Not for what the budget refuses: that was not sent."""
    try:
        return send()
    except UNANSWERED as error:
        return kept(error)
