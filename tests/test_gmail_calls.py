"""How many calls are under way at a time: few at first, slowly more, half as many when Gmail refuses; never unpaid.

Gmail is a doorman here, who lets so many in at a time and refuses the others: no HTTP, no threads, exact counts.
"""

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import httplib2
import pytest
from googleapiclient.errors import HttpError
from mailmirror.adapters.gmail.calls import MAX_BATCH, Calls, Get
from mailmirror.adapters.gmail.gets import Gets, Kind
from mailmirror.adapters.gmail.transport import Lanes, Outcome
from mailmirror.errors import GmailUnavailable, Throttled
from mailmirror.model import Failed
from mailmirror.quota import PRICES, Budget, bucket

from tests.clock import VirtualClock

GET = "users.messages.get"
THREAD = "users.threads.get"
IDS = [str(number) for number in range(3_000)]


class Doorman:
    """`Lanes`, to somebody who keeps count.

    Attributes:
        most: how many calls at a time are let in.
        waves: the sizes of the batches of each wave.
        calls: how many calls came at a time, one by one or in waves.
        trouble: what becomes of a call instead, by id.
        whole: what becomes of the first batch of a wave as a whole.
        refuses: whether every call alone is refused.
        alone: what becomes of a call that is made alone, by id.
    """

    def __init__(self, most: int = 1_000) -> None:
        self.api = SimpleNamespace()
        self.most = most
        self.waves: list[list[int]] = []
        self.calls: list[int] = []
        self.singles: list[str] = []
        self.trouble: dict[str, int] = {}
        self.whole: Exception | None = None
        self.refuses = False
        self.alone: dict[str, int] = {}

    def one(self, request: str) -> Any:
        """One call alone."""
        self.singles.append(request)
        self.calls.append(1)
        status = 429 if self.refuses else self.alone.get(request)
        if status:
            raise refusal(status)
        return {"id": request}

    def wave(self, batches: Sequence[Sequence[str]]) -> list[Outcome]:
        """Batches at the same time."""
        self.waves.append([len(batch) for batch in batches])
        self.calls.append(sum(self.waves[-1]))
        inside = 0
        outcomes = []
        for batch in batches:
            outcome = Outcome()
            outcomes.append(outcome)
            if self.whole is not None and batch is batches[0]:
                outcome.failure = self.whole
                continue
            for number, request in enumerate(batch):
                status = self.trouble.get(request) or (429 if inside >= self.most else 200)
                inside += status == 200
                outcome.answers[number] = {"id": request} if status == 200 else refusal(status)
        return outcomes

    def close(self) -> None:
        """There is no connection."""


def gets(ids: Sequence[str]) -> list[Get]:
    """Ids with the method they are asked by."""
    return [(GET, item_id) for item_id in ids]


def refusal(status: int) -> HttpError:
    """A refusal as the client library raises it."""
    return HttpError(httplib2.Response({"status": str(status)}), b"{}")


class Client:
    """Calls to a doorman, and a way to ask him for many ids."""

    def __init__(self, doorman: Doorman, *, units_per_minute: int = 60_000_000, lanes: int = 8) -> None:
        clock = VirtualClock()
        self.budget = Budget(bucket(units_per_minute), clock, None)
        connect = cast("Callable[[], Lanes]", lambda: doorman)
        self.calls = Calls("a@b.c", connect, self.budget, PRICES["2026"], clock, random.Random(0), lanes=lanes)

    def get(self, ids: Sequence[str]) -> dict[str, Any]:
        """Get many."""
        kinds = {GET: Kind(lambda _, item_id: item_id, lambda answer: answer)}
        return {item_id: value for (_, item_id), value in Gets(self.calls, kinds).all(gets(ids)).items()}


def test_growth() -> None:
    """It begins with 50 calls at a time, and each wave that is answered in full makes it ten more, up to 200."""
    doorman = Doorman()
    client = Client(doorman)
    assert list(client.get(IDS)) == IDS
    sizes = [sum(wave) for wave in doorman.waves]
    assert sizes[:17] == [*range(50, 201, 10), 200]
    assert doorman.waves[15] == [MAX_BATCH] * 8
    assert doorman.calls == sizes
    assert client.budget.spent == 20 * len(IDS)


def test_one_lane() -> None:
    """With one lane there is never more than one batch at a time, and never more than 25 calls in it."""
    doorman = Doorman()
    client = Client(doorman, lanes=1)
    client.get(IDS[:300])
    assert doorman.waves == [[25]] * 12


@pytest.mark.parametrize(
    ("count", "batches"), [(2, 1), (3, 1), (4, 2), (15, 7), (16, 8), (50, 8), (60, 8), (199, 8), (200, 8)]
)
def test_a_wave_is_spread_over_the_lanes(count: int, batches: int) -> None:
    """The calls of a wave are in as many batches as there are lanes, but two in each or more; all are as long."""
    doorman = Doorman()
    client = Client(doorman)
    found = client.calls.together(gets(IDS[:count]), lambda _, get: get[1])
    assert list(found) == gets(IDS[:count])
    ((*sizes,),) = doorman.waves
    assert (len(sizes), sum(sizes)) == (batches, count)
    assert max(sizes) <= MAX_BATCH
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("most", [1, 2, 8, 30, 60, 199])
def test_a_lasting_limit(most: int) -> None:
    """Whatever Gmail takes at a time, every id is brought, and the limit is met once in 30 waves when it is known."""
    doorman = Doorman(most)
    client = Client(doorman)
    for _ in range(10):
        for start in range(0, len(IDS), 100):
            ids = IDS[start : start + 100]
            assert list(client.get(ids)) == ids
    calls = doorman.calls
    refused = [index for index, size in enumerate(calls) if size > most]
    assert sum(calls[index] - most for index in refused) == client.calls.rejected
    assert client.budget.spent == 20 * (10 * len(IDS) + client.calls.rejected)
    # From 50 it is halved a few times; later it is one call too many, now and then.
    late = [index for index in refused if index > 100]
    assert all(calls[index] == most + 1 for index in late)
    assert all(second - first >= 30 for first, second in pairwise(late))
    assert max(calls[100:], default=most) >= most / 2


def test_the_limit_is_lifted() -> None:
    """Who was halved to a single call at a time comes back to many."""
    doorman = Doorman(0)
    client = Client(doorman)
    for _ in range(10):
        client.calls.together(gets(IDS[: client.calls.room(gets(IDS))]), lambda _, get: get[1])
    assert (client.calls.in_flight, client.calls.room(gets(IDS))) == (1, 1)
    doorman.most = 1_000
    client.get(IDS)
    assert client.calls.room(gets(IDS)) > 20
    assert doorman.calls[-1] <= 2 * doorman.calls[-30]


def test_halving() -> None:
    """A refusal halves the calls that were under way, not a limit that they did not come near to."""
    doorman = Doorman()
    client = Client(doorman)
    client.get(IDS)
    assert client.calls.in_flight == 200
    doorman.trouble = {"3": 429}
    client.get(IDS[:30])
    assert client.calls.room(gets(IDS)) == 15
    doorman.trouble = {}
    client.calls.together(gets(IDS[:15]), lambda _, get: get[1])
    assert client.calls.in_flight == pytest.approx(15 * 1.02)


def test_a_single_call_that_is_refused_halves_too() -> None:
    """Whatever call Gmail refuses for quota, there are fewer from then on."""
    doorman = Doorman()
    client = Client(doorman)
    doorman.refuses = True
    with pytest.raises(Throttled):
        client.calls.once("users.getProfile", lambda _: "profile")
    assert (client.calls.in_flight, client.calls.rejected, client.budget.level().units) == (25, 1, 0)


def test_403_is_no_better_than_429() -> None:
    """A quota refusal halves under whatever status it comes, of a whole batch too; another refusal does not."""
    quota = HttpError(
        httplib2.Response({"status": "403"}), b'{"error": {"errors": [{"reason": "userRateLimitExceeded"}]}}'
    )
    doorman = Doorman()
    client = Client(doorman)
    doorman.whole = refusal(404)
    client.calls.together(gets(IDS[:50]), lambda _, get: get[1])
    assert (client.calls.in_flight, client.calls.rejected) == (50, 0)
    doorman.whole = quota
    assert len(client.calls.together(gets(IDS[:50]), lambda _, get: get[1])) == 50
    assert (client.calls.in_flight, client.calls.rejected, client.budget.level().units) == (25, 1, 0)


@pytest.mark.parametrize("status", [500, 503])
def test_trouble_neither_grows_nor_halves(status: int) -> None:
    """A wave in which something was not answered says nothing about how many Gmail takes."""
    doorman = Doorman()
    doorman.trouble = {"7": status}
    client = Client(doorman)
    assert len(client.get(IDS[:50])) == 50
    assert client.calls.in_flight == 50
    assert doorman.singles == ["7"]


def test_what_is_gone_is_an_answer() -> None:
    """404 for a message is an answer like any other."""
    doorman = Doorman()
    doorman.trouble = {"7": 404, "8": 400}
    client = Client(doorman)
    found = client.get(IDS[:50])
    assert isinstance(found["8"], Failed)
    assert (client.calls.in_flight, doorman.singles) == (60, [])


def test_a_wave_that_does_not_fill_it_proves_nothing() -> None:
    """Calls under way grow only by waves that had as many as there may be."""
    doorman = Doorman()
    client = Client(doorman)
    for _ in range(20):
        client.get(IDS[:49])
    assert client.calls.in_flight == 50


@pytest.mark.parametrize(("units_per_minute", "live", "run"), [(6_000, 5, 3), (500, 5, 4), (60_000, 50, 35)])
def test_the_budget_bounds_a_wave(units_per_minute: int, live: int, run: int) -> None:
    """No wave has more calls than the bucket pays for at once, and a run's leave the reserve."""
    doorman = Doorman()
    client = Client(doorman, units_per_minute=units_per_minute)
    assert client.calls.room(gets(IDS)) == live
    with client.budget.sparing():
        assert client.calls.room(gets(IDS)) == run
        client.get(IDS[:50])
        assert client.budget.level().units >= 0
    assert max(sum(wave) for wave in doorman.waves) <= run


def test_a_batch_that_fails_as_a_whole_spoils_no_other() -> None:
    """What one batch of a wave got is kept when another got nothing; its ids alone are asked for again."""
    doorman = Doorman()
    doorman.whole = ConnectionResetError()
    client = Client(doorman)
    assert list(client.get(IDS[:50])) == IDS[:50]
    assert doorman.waves == [[7, 7, 6, 6, 6, 6, 6, 6]]
    assert doorman.singles == IDS[:50:8]
    assert client.budget.spent == 20 * 57


def test_threads_and_messages_in_one_wave() -> None:
    """Gets of two methods go out together, each batch with its share of both, and each is paid for at its own price."""
    doorman = Doorman()
    client = Client(doorman)
    kinds = {method: Kind(lambda _, item_id: item_id, lambda answer: answer) for method in (THREAD, GET)}
    wanted = [*((THREAD, item_id) for item_id in IDS[:16]), *gets(IDS[:24])]
    assert list(Gets(client.calls, kinds).all(wanted)) == wanted
    assert doorman.waves == [[5] * 8]
    assert client.budget.spent == 16 * 40 + 24 * 20


def test_a_wave_holds_what_the_budget_pays() -> None:
    """How many gets a wave may hold is counted by their prices, from the first on, and is never less than one."""
    client = Client(Doorman(), units_per_minute=6_000)
    threads = [(THREAD, item_id) for item_id in IDS]
    assert (client.calls.room(threads), client.calls.room(gets(IDS))) == (2, 5)
    assert client.calls.room([*threads[:1], *gets(IDS)]) == 1 + (105 - 40) // 20
    client.budget.take(105)
    client.budget.drain()
    assert client.calls.room(threads[:1]) == 1


def test_the_given_up_are_counted_until_gmail_answers() -> None:
    """Where waves are so small that few fail in each, a method that is not answered is found out all the same."""
    doorman = Doorman()
    doorman.api = SimpleNamespace(users=SimpleNamespace(getProfile=lambda userId: "profile"))  # noqa: N803
    doorman.trouble = doorman.alone = dict.fromkeys(IDS, 503)
    client = Client(doorman, units_per_minute=6_000)
    with client.budget.sparing(), pytest.raises(GmailUnavailable):
        client.get(IDS[:30])
    assert max(doorman.calls) == 3
    assert len(doorman.waves) == 2
