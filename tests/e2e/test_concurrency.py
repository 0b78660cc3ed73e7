"""Many mailboxes, and many pushes of each, in the threads of one process per function, as Cloud Run sends them.

The processes are what is deployed: functions-framework starts gunicorn with one worker of `Settings.threads` threads.
The scheduler does not help: it would come when the test is over.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
import requests

from local import mail
from local.demo import FIRST_DAY, LAST_DAY, compare, read_mirror
from local.owner import Owner
from local.stack import TOPICS, Backend, Settings, Stack, call
from tests.world import push

SEED = 31
MAILBOXES = tuple(f"owner-{number}@example.com" for number in range(8))
MESSAGES = 100
CHANGES = 4
PUSHES = 3
LIMIT = 60.0
WORKERS = ("sync_history", "run_work", "trigger_sync", "manage_mailboxes")


@dataclass
class Crowd:
    """Eight owners at once, and whoever pushes for them.

    Attributes:
        answers: the status of each push that was made by hand.
    """

    stack: Stack
    owners: dict[str, Owner]
    pool: ThreadPoolExecutor
    pushes: ThreadPoolExecutor
    answers: list[int] = field(default_factory=list)

    def all(self, *acts: Callable[[str], object]) -> None:
        """Let it happen to every mailbox at the same time."""
        for act in [self.pool.submit(act, mailbox) for mailbox in MAILBOXES for act in acts]:
            act.result()

    def fill(self, mailbox: str, items: Sequence[mail.MadeUpMail]) -> None:
        """Make the mailbox, with mail in it."""
        call("POST", f"{self.stack.gmail}/control/mailboxes", {"emailAddress": mailbox})
        self.owners[mailbox].receive(items)

    def connect(self, mailbox: str) -> None:
        """Connect the mailbox, and push its work at once: Google's emulator pushes two messages at a time, no more."""
        call("PUT", f"{self.stack.url('manage_mailboxes')}/mailboxes/{mailbox}", {})
        self.push("run_work", {"mailbox": mailbox, "task": "renew"})

    def live(self, mailbox: str) -> None:
        """Change the mailbox again and again, and have each change notified several times in the same moment."""
        until(lambda: self.account(mailbox)["watch"] is not None)
        for _ in range(CHANGES):
            self.owners[mailbox].act()
            self.push("sync_history", {"emailAddress": mailbox, "historyId": int(self.account(mailbox)["historyId"])})

    def trigger(self, mailbox: str) -> None:
        """Ask for a full sync."""
        call("POST", f"{self.stack.url('trigger_sync')}/mailboxes/{mailbox}/sync?mode=full&wait=30", seconds=60)

    def account(self, mailbox: str) -> dict[str, Any]:
        """What Gmail says of a mailbox."""
        boxes = call("GET", f"{self.stack.gmail}/control/mailboxes")["mailboxes"]
        return next(box for box in boxes if box["emailAddress"] == mailbox)

    def wait(self, mailbox: str) -> None:
        """Wait until the mirror of a mailbox says that it is complete."""
        until(lambda: self.settled(mailbox))

    def settled(self, mailbox: str) -> bool:
        """Whether the mirror says that it is complete, as of now."""
        document = call("GET", f"{self.stack.url('manage_mailboxes')}/mailboxes/{mailbox}")
        finished = (document["run"] or {}).get("stage") == "finished" and document["phase"] == "live"
        return finished and document["cursor"] >= int(self.account(mailbox)["historyId"])

    def events(self) -> Iterator[dict[str, Any]]:
        """What the functions logged; a line that is no event is one with its text."""
        for name in WORKERS:
            for line in self.stack.processes[name].log.read_text().splitlines():
                try:
                    yield json.loads(line) | {"function": name}
                except ValueError:
                    yield {"function": name, "severity": "ERROR", "text": line}

    def push(self, function: str, data: dict[str, Any]) -> None:
        """Push the same several times at once, as often as Pub/Sub would if it is not acknowledged."""
        answers = self.pushes.map(self._push, [function] * PUSHES, [push(data)] * PUSHES)
        self.answers += answers

    def _push(self, function: str, body: bytes) -> int:
        headers = {"Content-Type": "application/json"}
        return requests.post(self.stack.url(function), body, headers=headers, timeout=60).status_code


@contextmanager
def crowd(directory: Path, backend: Backend) -> Iterator[Crowd]:
    """A stack with filled mailboxes that are not connected yet."""
    settings = Settings(directory, backend, seed=SEED, sweep_seconds=600, quiet_minutes=15)
    with Stack(settings) as stack, ThreadPoolExecutor(20) as pool, ThreadPoolExecutor(30) as pushes:
        streams = {mailbox: list(_mail(number, mailbox)) for number, mailbox in enumerate(MAILBOXES)}
        owners = {
            mailbox: Owner(stack.gmail, Random(mailbox), iter(stream[MESSAGES:]), mailbox=mailbox)
            for mailbox, stream in streams.items()
        }
        crowd = Crowd(stack, owners, pool, pushes)
        crowd.all(lambda mailbox: crowd.fill(mailbox, streams[mailbox][:MESSAGES]))
        yield crowd


def _mail(number: int, mailbox: str) -> Iterator[mail.MadeUpMail]:
    rng = Random(SEED + number)
    return mail.made_up(rng, MESSAGES + 3 * CHANGES, MESSAGES // 2, start=FIRST_DAY, end=LAST_DAY, owner=mailbox)


def until(done: Callable[[], bool]) -> None:
    """Wait for it; what is not done in time shows in what is asserted next."""
    give_up = time.monotonic() + LIMIT
    while not done() and time.monotonic() < give_up:
        time.sleep(0.2)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", ["sqlite", "emulators"])
def test_eight_mailboxes_in_the_threads_of_one_process(
    backend: Backend, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Connected, changed, notified again and again and synced in full at once: each mirror is its own mailbox's."""
    if backend == "emulators":
        request.getfixturevalue("emulator_tools")
    with crowd(tmp_path, backend) as some:
        stack = some.stack
        assert requests.get(f"{stack.url('run_work')}/robots.txt", timeout=30).headers["Server"] == "gunicorn"
        call("POST", f"{stack.gmail}/control/notifications", {"duplicate": 0.5, "shuffle": 0.3})
        # So that a sync waits for Gmail, as it does in life, and leaves the processor to the others.
        call("POST", f"{stack.gmail}/control/latency", {"seconds": 0.02})
        some.all(some.connect, some.live)
        some.all(some.wait)
        some.all(some.live)
        if stack.sqlite is not None:
            _check_units(some)
        some.all(some.trigger, some.live)
        some.all(some.wait)
        found = {mailbox: [row for row in compare(stack, mailbox) if row.differences] for mailbox in MAILBOXES}
        assert found == {mailbox: [] for mailbox in MAILBOXES}
        for mailbox in MAILBOXES:
            _check_owner(stack, mailbox)
        assert set(some.answers) <= {204, 503}
        events = list(some.events())
        assert [event for event in events if event["severity"] == "ERROR"] == []
        assert stack.dead_letters() == {topic: [] for topic in TOPICS}
        assert call("GET", f"{stack.gmail}/control/account")["rejected"] == 0
    assert _at_once(events) >= 4, "Hardly two mailboxes were in hand at a time: this proves too little."


def _check_units(some: Crowd) -> None:
    """Once all pushes are answered, each mailbox is said to have spent what Gmail charged to it."""
    until(lambda: call("GET", f"{some.stack.gmail}/control/notifications")["waiting"] == 0)
    until(
        lambda: not any(queue["outstanding"] for queue in call("GET", f"{some.stack.pubsub}/control/account").values())
    )
    # To connect took a call of getProfile.
    logged = Counter(dict.fromkeys(MAILBOXES, 1))
    for event in some.events():
        if event.get("event") in ("synced", "turn_failed"):
            logged[event["mailbox"]] += event["units"]
    charged = call("GET", f"{some.stack.gmail}/control/account")["mailboxes"]
    assert logged == {mailbox: account["totalUnits"] for mailbox, account in charged.items()}


def _check_owner(stack: Stack, mailbox: str) -> None:
    """Every document below a mailbox is about its owner, and says so."""
    mirror = read_mirror(stack, mailbox)
    assert mirror.mailbox["emailAddress"] == mailbox
    for message_id, document in mirror.messages.items():
        named = {address for address in MAILBOXES if address in str(document["headers"])}
        assert named == {mailbox}, message_id
        uri = document["body"].get("uri")
        assert uri is None or mailbox in uri


def _at_once(events: Sequence[dict[str, Any]]) -> int:
    """In how many mailboxes at most `run_work` had a run under way at one moment."""
    ends = {"run_started": 1, "run_finished": -1}
    steps = [
        (datetime.fromisoformat(event["time"]), ends[event["event"]])
        for event in events
        if event["function"] == "run_work" and event.get("event") in ends
    ]
    most = now = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most
