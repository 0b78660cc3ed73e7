"""The demonstration: a mailbox lives, its notifications get lost, its history expires, and the mirror stays equal.

Knows: the script. Does not know: how the mirror works; it connects, looks and triggers by HTTP as an administrator
would, leaves what happens in the mailbox to `owner`, the telling to `story` and the verdict to `truth`. With the same
seed the mail, the changes and the losses are the same.
"""

import json
import math
import shutil
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from rich.markup import escape

from local import mail, sides, truth
from local.emulators import EmulatorsMissing
from local.owner import MAILBOX, Mail, Owner
from local.process import ProcessFailed
from local.stack import PROJECT, Settings, Stack, call
from local.story import Status, Step, Story

FIRST_DAY, LAST_DAY = datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
UNITS_PER_MINUTE = 600_000
THREAD_SHARE = 0.45
# What a new Cloud project may spend on one mailbox in a minute, and the 97 % of it that Mailmirror does spend.
NEW_PROJECT_UNITS = 6_000
SPENT_UNITS = 5_820
CHANGES_PER_SECOND = 80
QUIET_CHANGES = 20
DELIVERED_AT_ONCE = 100
STEP_LIMIT = 120.0
TRIGGER_WAIT = 50


class NotConverged(Exception):
    """A step did not come to its end within its limit; the message says what the mailbox says of itself."""


class Demo:
    """The script. Each method is one step."""

    def __init__(self, stack: Stack, story: Story, options: Namespace) -> None:
        self.stack = stack
        self.story = story
        self.options = options
        self.pool = ThreadPoolExecutor()
        rng = Random(options.seed)
        count, more = options.messages, options.changes + 2 * QUIET_CHANGES
        # One stream of mail: what is there before the mirror connects, then what arrives live, often in old threads.
        total, threads = count + more, math.ceil((count + more) * THREAD_SHARE)
        stream = list(mail.made_up(rng, total, threads, start=FIRST_DAY, end=LAST_DAY))
        self.before: Sequence[Mail] = stream[:count]
        if options.mbox:
            self.before = list(mail.read_labelled_mbox(options.mbox))
        self.owner = Owner(stack.gmail, rng, iter(stream[count:]))

    def play(self) -> list[truth.Row]:
        """Everything, up to the comparison."""
        try:
            self.fill()
            self.first_sync()
            self.quiet_spell()
            self.history_expires()
            self.trigger("full", "Full sync on demand")
            self.trigger("audit", "Audit")
            return self.compare()
        finally:
            self.pool.shutdown(wait=False, cancel_futures=True)

    def fill(self) -> None:
        """Mail that is there before the mirror is connected."""
        with self.story.step("Mailbox") as step:
            call("POST", f"{self.stack.gmail}/control/mailboxes", {"emailAddress": MAILBOX})
            step.total = len(self.before) or None
            for first in range(0, len(self.before), DELIVERED_AT_ONCE):
                self.owner.receive(self.before[first : first + DELIVERED_AT_ONCE])
                step.done = first
            [box] = call("GET", f"{self.stack.gmail}/control/mailboxes")["mailboxes"]
            where = f"from {self.options.mbox}" if self.options.mbox else "made up"
            step.result = f"{box['messagesTotal']:,} messages in {box['threadsTotal']:,} threads, {where}"

    def first_sync(self) -> None:
        """Connect, and change the mailbox while the first sync runs, with notifications lost, repeated and shuffled."""
        changes = self.options.changes
        with self.story.step(f"First sync during {changes} changes") as step:
            self._notifications(lose=0.1, duplicate=0.1, shuffle=1.0)
            call("PUT", f"{self.stack.url('manage_mailboxes')}/mailboxes/{MAILBOX}", {})
            # From here on every change is announced or lost by the seed; before, there is nobody to tell.
            self._wait(step, lambda status: status.watched)
            traffic = self.pool.submit(self._live, changes)
            last = self._wait(step, lambda status: traffic.done() and _delivered(status) and status.settled)
            traffic.result()
            sent, run = last.notifications, last.run
            step.result = (
                f"{run.get('messagesProcessed', 0):,} messages fetched; of {sent['sent'] + sent['lost']} notifications "
                f"{sent['lost']} lost, {sent['duplicated']} sent twice, all shuffled; {last.units:,} units"
            )

    def quiet_spell(self) -> None:
        """Gmail announces nothing at all: the sweep alone must bring what changes."""
        with self.story.step(f"{QUIET_CHANGES} changes that Gmail does not announce") as step:
            self._notifications(off=True)
            before = Status.of(self.stack).notifications
            for _ in range(QUIET_CHANGES):
                self.owner.act()
            last = self._wait(step, lambda status: status.settled)
            silent = last.notifications["sent"] == before["sent"]
            step.result = "the sweep brought them" if silent else "mirrored, but a notification was on its way"

    def history_expires(self) -> None:
        """Changes are missed, and Gmail forgets its history before anybody asked: the mirror must recover by itself."""
        with self.story.step(f"{QUIET_CHANGES} changes missed, then history expires") as step:
            before = Status.of(self.stack)
            for _ in range(QUIET_CHANGES):
                self.owner.act()
            call("POST", f"{self.stack.gmail}/control/mailboxes/{quote(MAILBOX)}/expire-history", {})
            old = before.run.get("id")
            last = self._wait(step, lambda status: status.settled and status.run.get("id") != old)
            run = last.run
            why, fetched = run.get("reason", "").rstrip("."), run.get("messagesProcessed", 0)
            step.result = (
                f"recovered by a {run.get('mode')} run ({why}): {fetched:,} of {len(self.owner.messages):,} "
                f"messages fetched, {last.units - before.units:,} units"
            )
            self._notifications(off=False)

    def trigger(self, mode: str, title: str) -> None:
        """What an administrator does by hand."""
        url = f"{self.stack.url('trigger_sync')}/mailboxes/{MAILBOX}/sync?mode={mode}&wait={TRIGGER_WAIT}"
        with self.story.step(title) as step:
            answer = self.pool.submit(call, "POST", url, None, seconds=TRIGGER_WAIT + 30)
            self._wait(step, lambda status: answer.done() and status.settled)
            step.result = f"POST …/sync?mode={mode}&wait={TRIGGER_WAIT} → {json.dumps(answer.result())}"

    def compare(self) -> list[truth.Row]:
        """The mailbox against the mirror, past the functions."""
        with self.story.step("Comparison") as step:
            rows = compare(self.stack)
            step.result = f"{sum(len(row.differences) for row in rows)} differences in {len(rows)} respects"
        return rows

    def _live(self, changes: int) -> None:
        began = time.monotonic()
        for number in range(changes):
            time.sleep(max(0.0, began + number / CHANGES_PER_SECOND - time.monotonic()))
            self.owner.act()

    def _notifications(self, **knobs: float | bool) -> None:
        call("POST", f"{self.stack.gmail}/control/notifications", knobs)

    def _wait(self, step: Step, done: Callable[[Status], bool]) -> Status:
        give_up = time.monotonic() + STEP_LIMIT
        while True:
            step.status = status = Status.of(self.stack)
            step.done, step.total = status.run.get("done", 0), status.run.get("total") or None
            if done(status):
                return status
            if time.monotonic() > give_up:
                raise NotConverged(_complaint(step.title, status, self.stack))
            time.sleep(0.2)


def compare(stack: Stack, mailbox: str = MAILBOX) -> list[truth.Row]:
    """Compare a mailbox, the demonstration's if no other is named, with its mirror, wherever that is stored."""
    stores = stack.settings.attachments == "store"
    return truth.compare(sides.read_truth(stack.gmail, mailbox), read_mirror(stack, mailbox), stores=stores)


def read_mirror(stack: Stack, mailbox: str) -> sides.Mirror:
    """The documents of a mailbox, past the functions."""
    if stack.sqlite is not None:
        return sides.read_sqlite(stack.sqlite, mailbox, stack.storage)
    assert stack.firestore is not None
    return sides.read_firestore(stack.firestore, PROJECT, mailbox, stack.storage)


def run(options: Namespace) -> int:
    """Run the demonstration; the exit code is 0 when mailbox and mirror are equal, 1 when not, 2 when it got stuck."""
    began = time.monotonic()
    story = Story(silent=options.json)
    directory = Path(tempfile.mkdtemp(prefix="mailmirror-demo-"))
    settings = Settings(directory, options.backend, seed=options.seed, units_per_minute=UNITS_PER_MINUTE)
    try:
        with ExitStack() as end:
            with story.step("Start") as step:
                stack = end.enter_context(Stack(settings))
                stores = (
                    "SQLite and a broker of its own" if stack.sqlite else "Google's Firestore and Pub/Sub emulators"
                )
                step.result = f"{len(stack.processes)} processes, {stores}"
            rows = Demo(stack, story, options).play()
            last = Status.of(stack)
    except (NotConverged, ProcessFailed, EmulatorsMissing) as stuck:
        story.say(f"[red]✗[/] {escape(str(stuck))}\nThe logs are in {directory}.")
        if options.json:
            print(json.dumps({"equal": False, "problem": str(stuck), "logs": str(directory)}))
        return 2
    equal = not any(row.differences for row in rows)
    seconds = time.monotonic() - began
    story.table(rows)
    minutes = last.units / SPENT_UNITS
    story.say(
        f"Quota: {last.units:,} units at {UNITS_PER_MINUTE:,} a minute, {last.account['rejected']} calls refused. "
        f"A new Cloud project has {NEW_PROJECT_UNITS:,} a minute and mailbox: there it takes {minutes:.0f} min."
    )
    if options.keep or not equal:
        story.say(f"Logs{' and SQLite file' if stack.sqlite else ''}: {directory}")
    else:
        shutil.rmtree(directory)
    verdict = "[green]Equal.[/]" if equal else "[red]Not equal.[/]"
    story.say(f"{verdict} The demonstration (seed {options.seed}) took {seconds:.0f} s.")
    if options.json:
        print(json.dumps(_report(story, rows, last, equal=equal, seconds=seconds)))
    return 0 if equal else 1


def _report(story: Story, rows: Sequence[truth.Row], last: Status, *, equal: bool, seconds: float) -> dict[str, Any]:
    return {
        "equal": equal,
        "rows": [asdict(row) for row in rows],
        "steps": [
            {"title": step.title, "result": step.result, "seconds": round(step.seconds, 1)} for step in story.steps
        ],
        "units": last.units,
        "unitsRefused": last.account["rejected"],
        "notifications": {name: count for name, count in last.notifications.items() if name != "knobs"},
        "mailbox": last.mailbox,
        "seconds": round(seconds, 1),
    }


def _complaint(title: str, status: Status, stack: Stack) -> str:
    problem = status.mailbox.get("problem") or "none that it knows of"
    logs = "\n".join(
        f"{name}: {stack.processes[name].last_lines(5)}" for name in ("sync_history", "run_work", "trigger_sync")
    )
    seen = "\n".join(status.lines())
    return (
        f"{title} did not come to its end within {STEP_LIMIT:.0f} s.\n{seen}\nThe mailbox's problem: {problem}\n{logs}"
    )


def _delivered(status: Status) -> bool:
    return int(status.notifications["waiting"]) == 0
