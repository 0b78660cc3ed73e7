"""What a large mirror costs to keep: a thousand changed labels, an audit that finds nothing, and a lost history.

Knows: what changes in the mailbox, and which threads have to be read again for it. Does not know: how the engine finds
them. Units are those that the fake Gmail charged; whose content was fetched is what it was asked for.
"""

from collections.abc import Callable, Iterator

from mailmirror.model import RunRequest

from bench.mailbox import PAIRS, Filled, fill
from bench.report import Figure, at_most
from bench.worker import Worker, at_work

MESSAGES = 50_000
TOGGLES = 1_000
CHANGED = 40
# So quickly that building the mirror, which is not measured, takes few slices.
_HURRY = 100_000_000


def measure(
    say: Callable[[str], None], messages: int = MESSAGES, toggles: int = TOGGLES, changed: int = CHANGED
) -> Iterator[Figure]:
    """Mirror a mailbox in threads of two, then let things happen to it."""
    with at_work(units_per_minute=None) as worker:
        say(f"{messages} messages arrive")
        filled = fill(worker.gmail, messages, PAIRS)
        say(f"{messages} messages are mirrored, which is not measured")
        worker.sync(units_per_minute=_HURRY)
        say(f"{toggles} labels change")
        yield from _toggles(worker, filled, toggles)
        say("an audit")
        yield from _audit(worker)
        say(f"history is lost with {changed} changes in it")
        yield from _lost_history(worker, filled, changed)


def _toggles(worker: Worker, filled: Filled, toggles: int) -> Iterator[Figure]:
    for message_id in filled.ids[:toggles]:
        worker.gmail.modify([message_id], add=["STARRED"])
    spent = worker.sync(hint=_head(worker))
    yield Figure("recovery", f"{toggles:,} label toggles", spent.units, "units", at_most(10))
    yield _difference(worker, "after the toggles")


def _audit(worker: Worker) -> Iterator[Figure]:
    worker.world.fetched.clear()
    worker.store.request_run(worker.mailbox, RunRequest("audit", "audit", worker.clock.now()))
    spent = worker.sync()
    found = worker.mailbox.coverage
    assert found is not None
    threads = len(worker.world.fetched)
    yield Figure("recovery", f"audit of {found.listed:,} messages, unchanged", spent.units, "units", at_most(1010))
    yield Figure("recovery", "threads the audit fetched", threads, bound=at_most(0))
    yield Figure("recovery", "wrong findings of the audit", found.missing + found.extra, bound=at_most(0))


def _lost_history(worker: Worker, filled: Filled, changed: int) -> Iterator[Figure]:
    """Half of the changes are labels, a quarter new replies, a quarter deletions; each is in a thread of its own."""
    gmail = worker.gmail
    threads = [ids for index, ids in enumerate(filled.threads) if index % (len(filled.threads) // changed) == 0]
    touched = threads[:changed]
    for number, (first, second) in enumerate(touched):
        match number % 4:
            case 0 | 1:
                gmail.modify([second], add=["IMPORTANT"])
            case 2:
                gmail.deliver(_REPLY, thread_id=first)
            case _:
                gmail.delete([second])
    gmail.expire_history()
    worker.world.fetched.clear()
    spent = worker.sync(hint=_head(worker))
    run = worker.mailbox.run
    assert run is not None
    unchanged = set(worker.world.fetched) - {ids[0] for ids in touched}
    name = f"history 404, {changed} of {len(filled.threads):,} threads changed"
    yield Figure("recovery", name, spent.units, "units", at_most(2700), note=f"run: {run.mode}")
    yield Figure("recovery", "unchanged threads fetched", len(unchanged), bound=at_most(0))
    yield _difference(worker, "after the 404")


def _difference(worker: Worker, when: str) -> Figure:
    return Figure("recovery", f"messages that differ {when}", len(worker.differences()), bound=at_most(0))


def _head(worker: Worker) -> int:
    return int(worker.gmail.get_profile()["historyId"])


_REPLY = b"From: Grace <grace@mail.example>\r\nSubject: Re: that\r\n\r\nAgreed.\r\n"
