"""What a first sync takes of the quota, and how near it comes to the time that quota allows at best.

Knows: the planner's optimum, a get for each message or one for its thread. Does not know: how it is reached; the engine
and the client that are deployed run against the fake Gmail and its sliding minute, on a clock that both share.
"""

from collections.abc import Callable

from mailmirror.quota import PRICES

from bench.mailbox import fill, optimum
from bench.report import Figure, at_most
from bench.worker import UNITS_PER_MINUTE, at_work

MESSAGES = 3000


def measure(say: Callable[[str], None], messages: int = MESSAGES) -> list[Figure]:
    """Mirror a mailbox with threads of one, two, four and ten messages."""
    prices = PRICES["2026"]
    best = optimum(messages, message=prices["users.messages.get"], thread=prices["users.threads.get"])
    with at_work(units_per_minute=UNITS_PER_MINUTE) as worker:
        say(f"{messages} messages arrive")
        fill(worker.gmail, messages)
        say(f"first sync of {messages} messages at {UNITS_PER_MINUTE} units a minute")
        began = worker.clock.now()
        spent = worker.sync()
        seconds = (worker.clock.now() - began).total_seconds()
        missing = worker.differences()
        floor = spent.units / (UNITS_PER_MINUTE / 60)
        return [
            Figure("first_sync", "units a message", spent.units / messages, "units"),
            Figure("first_sync", "at the planner's optimum", best / messages, "units"),
            Figure("first_sync", "units, of the optimum", spent.units / best, "×", at_most(1.02)),
            Figure("first_sync", "time on the quota's clock", seconds, "s"),
            Figure("first_sync", "time, of what the units take at least", seconds / floor, "×", at_most(1.03)),
            Figure("first_sync", "calls rejected", spent.rejected, bound=at_most(0)),
            Figure("first_sync", "messages that differ afterwards", len(missing), bound=at_most(0)),
        ]
