"""The soak: function processes are killed and paused while a mailbox lives, and the mirror stays equal to it.

Knows: signals, whose lease it is, and what trouble the fake Gmail can make. Does not know: how the functions work. That
a worker was at work it tells by the lease, that one was refused by its log, and the verdict it leaves to `local.truth`.
Laws 2 and 5, with processes: whoever is killed leaves no trace, and whoever wakes up after its lease was taken writes
nothing.

    python -m tests.e2e.soak --rounds 100 --seed 7

In every other block of rounds runs are under way all the time: they compare whole mailboxes. In the blocks between
there is none, so that what live sync loses is not mended before it is looked for.

The seed decides what befalls the functions and for how long, and what the mail is. Who is at work when a signal is
aimed at whoever is, and with which call, is up to the machine: the same seed twice is not the same twice.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from local import mail, sides
from local.demo import FIRST_DAY, LAST_DAY, compare, read_mirror
from local.emulators import EmulatorsMissing
from local.owner import MAILBOX, Owner
from local.process import ProcessFailed
from local.stack import FOR_CONSENT, FUNCTIONS, PROJECT, Settings, Stack, call
from local.story import Status, Story

# Those that write the mirror are hit most often.
WRITERS = ("run_work", "sync_history", "trigger_sync")
# Nobody calls these here.
UNASKED = FOR_CONSENT | {"read_mailboxes"}
MESSAGES = 300
LEASE_SECONDS = 2
# Turns are short, so that a mailbox whose workers die is soon shown to be in good health again.
STEP_SECONDS = 5
# Gmail answers slowly, so that a signal finds somebody at work: a run takes seconds, live sync three calls.
LATENCY = {False: 0.15, True: 0.3}
ROUNDS_PER_CHECK = 5
# Long enough for a parked message, which is tried again after a minute, and for a machine with other things to do.
SETTLE_SECONDS = 300.0
# A message that history names and that is deleted before it is read is parked, because it may only be late. If history
# expires before it has told of the deletion, only time can tell: ten minutes, and then the next try, 21 minutes after
# the first. Such a ghost is no difference until then.
GHOST_MINUTES = 30

_AIM_SECONDS = 4.0
_NAP_SECONDS = (0.3, 5.0)
_ACT_SECONDS = 0.5
_BURST = 5
# In this time whatever a stopped or killed worker had sent has reached Firestore.
_ARRIVAL_SECONDS = 0.1
_REFUSAL_SECONDS = 5.0
_SHOWN = 20
# So many takeovers in a row are left alone. After one more the engine takes one message at a time and parks the one in
# hand if workers go on dying: that is right, has tests of its own, and makes everybody wait for a minute.
_MERCY = 2

# The row of the comparison that knows no ghosts.
PARKED = "parked messages"

Fate = Literal["kill", "pause", "pause, then kill"]
Sync = Literal["incremental", "full", "audit"]

# What may go wrong at Gmail: the control routes and what is posted there.
TROUBLES: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "history expired": (f"mailboxes/{MAILBOX}/expire-history", {}),
    "page tokens expired": (f"mailboxes/{MAILBOX}/expire-page-tokens", {}),
    "access withdrawn": (f"mailboxes/{MAILBOX}/revoke", {}),
    "notifications lost": ("notifications", {"lose": 0.5, "duplicate": 0.3, "shuffle": 1.0}),
    "quota refused": ("faults", {"users.history.list": "retry-after:2", "users.messages.get": "429"}),
    "calls failed": (
        "faults",
        {
            "users.getProfile": "500",
            "users.history.list": ["503", "reset-after"],
            "users.messages.list": "500",
            "users.messages.get": ["503", "reset"],
            "users.threads.get": ["500", "reset-after"],
        },
    ),
}
NO_TROUBLE = ""
# A run follows.
EXPIRY = "history expired"


@dataclass(frozen=True, slots=True)
class Strike:
    """What is to happen to one process.

    Attributes:
        fate: what.
        aimed: to whoever is at work; otherwise, or if nobody is, to the first of `order` that is there.
        order: the functions in any order.
        delay: seconds to wait once the victim is found.
    """

    fate: Fate
    aimed: bool
    order: Sequence[str]
    delay: float

    @classmethod
    def drawn(cls, rng: random.Random, fate: Fate) -> "Strike":
        """Draw one with this fate."""
        killed = [name for name in FUNCTIONS if name not in UNASKED]
        order = rng.sample(killed, len(killed))
        if rng.random() < 0.6:
            order.sort(key=lambda name: name not in WRITERS)
        return cls(fate, rng.random() < 0.75, order, rng.choice((0.0, rng.uniform(0, 0.5))))


@dataclass(frozen=True, slots=True)
class Round:
    """What is to happen in one round.

    Attributes:
        live: whether live sync is to be met at work, and no run.
        acts: how often the owner does something before the first strike.
        mode, wait: otherwise, the run that is asked for if none is under way, and for how long its caller waits.
        strikes: one after the other; victims of a pause stand still until the end of the round.
        trouble: what goes wrong at Gmail after them, a key of `TROUBLES`; empty if nothing does.
        nap: seconds from there to the end of the round, in which the owner goes on.
    """

    live: bool
    acts: int
    mode: Sync
    wait: int
    strikes: tuple[Strike, ...]
    trouble: str
    nap: float

    @classmethod
    def drawn(cls, rng: random.Random, *, live: bool) -> "Round":
        """Draw one: two kills on average, and a pause or two, in any order."""
        fates: list[Fate] = ["kill"] * rng.choice((1, 2, 2, 3))
        fates += ["pause, then kill" if rng.random() < 0.2 else "pause" for _ in range(rng.choice((1, 1, 1, 2)))]
        rng.shuffle(fates)
        troubles = [name for name in TROUBLES if not (live and name == EXPIRY)]
        return cls(
            live=live,
            acts=rng.randrange(1, 6),
            mode="full" if rng.random() < 0.8 else "audit",
            wait=rng.choice((0, 0, 4)),
            strikes=tuple(Strike.drawn(rng, fate) for fate in fates),
            trouble=rng.choice((*troubles, *[NO_TROUBLE] * len(troubles))),
            nap=rng.uniform(*_NAP_SECONDS),
        )


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease of the mailbox as it is stored; its owner begins with the name of the function."""

    owner: str = ""
    token: int = 0

    @property
    def holder(self) -> str:
        """The function whose worker holds it, empty if nobody does."""
        return self.owner.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Sleeper:
    """A process that stands still.

    Attributes:
        since: when it was stopped.
        lease: what it held then, None if it was not at work.
        log: how long its log was.
    """

    name: str
    fate: Fate
    since: float
    lease: Lease | None
    log: int


@dataclass(slots=True)
class Tally:
    """What happened, and what was wrong: a sentence for each difference, hopefully none."""

    rounds: int = 0
    acts: int = 0
    kills: int = 0
    kills_at_work: int = 0
    pauses: int = 0
    pauses_at_work: int = 0
    overtaken: int = 0
    refused: int = 0
    lost_leases: int = 0
    syncs: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    parked: int = 0
    ghosts: set[str] = field(default_factory=set)
    checks: int = 0
    live_checks: int = 0
    messages: int = 0
    deltas: int = 0
    problems: list[str] = field(default_factory=list)

    def rows(self) -> list[tuple[str, str]]:
        """The report for a person."""
        counts = [
            ("rounds", self.rounds),
            ("things the owner did", self.acts),
            ("SIGKILL", self.kills),
            ("  to a worker at work: its lease was left behind", self.kills_at_work),
            ("SIGSTOP", self.pauses),
            ("  to a worker at work", self.pauses_at_work),
            ("  SIGCONT after another had taken its lease: a zombie", self.overtaken),
            ("    refused when it wrote", self.refused),
            ("turns that ended with a lost lease, in all logs", self.lost_leases),
            ("messages parked, in all logs", self.parked),
            ("  of these deleted, and history of it expired", len(self.ghosts)),
            *((f"syncs asked for: {mode}", count) for mode, count in sorted(self.syncs.items())),
            *((f"trouble at Gmail: {name}", count) for name, count in sorted(self.troubles.items())),
            ("calls that met a fault", self.faults),
            ("messages in the mailbox at the end", self.messages),
            ("deltas in the log at the end", self.deltas),
            ("settled and compared", self.checks),
            ("  after live sync alone: no run since the last time", self.live_checks),
            ("differences", len(self.problems)),
        ]
        return [(name, f"{count:,}") for name, count in counts]


class Soak:
    """Rounds of kills and pauses on one stack that was just started, with Google's emulators."""

    def __init__(self, stack: Stack, rounds: int, seed: int, say: Callable[[str], None]) -> None:
        """Fill a mailbox; `say` is called with a line for each round and each comparison."""
        self.tally = Tally()
        self._stack = stack
        self._say = say
        self._pool = ThreadPoolExecutor(max_workers=16)
        rng = random.Random(f"{seed} rounds")
        self._rounds = [Round.drawn(rng, live=number // ROUNDS_PER_CHECK % 2 == 1) for number in range(rounds)]
        arriving = _mail(random.Random(f"{seed} mail"))
        self._owner = Owner(stack.gmail, random.Random(f"{seed} owner"), arriving)
        self._struck: set[str] = set()
        self._asked: list[Future[None]] = []
        self._last_run = ""
        self._control("mailboxes", {"emailAddress": MAILBOX})
        self._owner.receive(list(islice(arriving, MESSAGES)))

    def play(self) -> Tally:
        """Connect the mailbox and play all rounds, or up to the first difference; return what happened."""
        call("PUT", f"{self._stack.url('manage_mailboxes')}/mailboxes/{MAILBOX}", {})
        with self._pool:
            for number, each in enumerate(self._rounds, start=1):
                began = time.monotonic()
                told = self._round(each)
                self.tally.rounds = number
                self._say(f"{number:>4}/{len(self._rounds)}  {'; '.join(told)}  ({time.monotonic() - began:.1f} s)")
                if (number % ROUNDS_PER_CHECK == 0 or number == len(self._rounds)) and not self._check():
                    break
        return self.tally

    # A round

    def _round(self, plan: Round) -> list[str]:
        self._control("latency", {"seconds": LATENCY[plan.live]})
        self._act(plan.acts)
        self._keep_busy(plan)
        down: dict[str, Future[None]] = {}
        asleep: list[Sleeper] = []
        told = []
        for strike in plan.strikes:
            victim = self._victim(strike, {*down, *(sleeper.name for sleeper in asleep)}, plan)
            time.sleep(strike.delay)
            if strike.fate == "kill":
                told.append(self._kill(victim))
                down[victim] = self._pool.submit(self._stack.restart, victim)
            else:
                asleep.append(self._pause(victim, strike.fate))
                # Whoever waits for the lease takes it as soon as it has expired.
                self._ask("incremental", wait=4)
        if plan.trouble:
            self._control(*TROUBLES[plan.trouble])
            self.tally.troubles[plan.trouble] += 1
            told.append(plan.trouble)
        for _ in range(int(plan.nap / _ACT_SECONDS)):
            time.sleep(_ACT_SECONDS)
            self._act(1)
        time.sleep(plan.nap % _ACT_SECONDS)
        for sleeper in asleep:
            told.append(self._wake(sleeper))
            if sleeper.fate == "pause, then kill":
                down[sleeper.name] = self._pool.submit(self._stack.restart, sleeper.name)
        for start in down.values():
            start.result()
        self._make_up()
        return told

    def _act(self, times: int) -> None:
        for _ in range(times):
            self._owner.act()
        self.tally.acts += times

    def _keep_busy(self, plan: Round) -> None:
        """See to it that there is work for the strikes to meet."""
        box = self._fields(f"mailboxes/{MAILBOX}")
        if box.get("phase") == "reauth_required":
            # What the runbook says: once access is given again, somebody triggers a sync.
            self._ask("incremental", wait=0)
        if plan.live:
            self._act(_BURST)
            return
        run, request = box.get("run") or {}, box.get("request") or {}
        if run.get("stage") == "finished" and request.get("runId", "") in {"", box.get("requestDone")}:
            self._ask(plan.mode, wait=plan.wait)

    def _victim(self, strike: Strike, out_of_play: set[str], plan: Round) -> str:
        """Wait for somebody at work if the strike is aimed; a lease that was met before is no sign of work."""
        free = [name for name in strike.order if name not in out_of_play]
        aims = strike.aimed and not out_of_play.issuperset(WRITERS)
        began = time.monotonic()
        bored = began + _ACT_SECONDS
        while aims and time.monotonic() < began + _AIM_SECONDS:
            lease = self._lease()
            if lease.holder in free and lease.owner not in self._struck and self._takeovers() < _MERCY:
                return lease.holder
            if time.monotonic() > bored:
                self._act(1)
                self._keep_busy(plan)
                bored = time.monotonic() + _ACT_SECONDS
            time.sleep(0.05)
        return free[0]

    def _kill(self, name: str) -> str:
        self._stack.kill(name)
        self.tally.kills += 1
        at_work = self._was_at_work(name) is not None
        self.tally.kills_at_work += at_work
        return f"killed {name}{' at work' if at_work else ''}"

    def _pause(self, name: str, fate: Fate) -> Sleeper:
        log = self._log_size(name)
        since = time.monotonic()
        self._stack.pause(name)
        self.tally.pauses += 1
        lease = self._was_at_work(name)
        self.tally.pauses_at_work += lease is not None
        return Sleeper(name, fate, since, lease, log)

    def _was_at_work(self, name: str) -> Lease | None:
        """The lease that the function's worker left behind when it was struck, None if it had none."""
        time.sleep(_ARRIVAL_SECONDS)
        lease = self._lease()
        if lease.holder != name or lease.owner in self._struck:
            return None
        self._struck.add(lease.owner)
        return lease

    def _wake(self, sleeper: Sleeper) -> str:
        """End a pause by SIGCONT or SIGKILL; return what there is to tell."""
        held = sleeper.lease
        told = f"paused {sleeper.name} {'at work ' if held else ''}for {time.monotonic() - sleeper.since:.1f} s"
        taken = held is not None and self._lease().token > held.token
        if taken:
            told += ", another took its lease"
        if sleeper.fate == "pause, then kill":
            self._stack.kill(sleeper.name)
            self.tally.kills += 1
            self.tally.kills_at_work += held is not None and not taken
            return f"{told}, then killed"
        self._stack.resume(sleeper.name)
        if taken:
            self.tally.overtaken += 1
            refused = self._is_refused(sleeper)
            self.tally.refused += refused
            told += ", refused when it wrote" if refused else ", not refused"
        return told

    def _is_refused(self, sleeper: Sleeper) -> bool:
        give_up = time.monotonic() + _REFUSAL_SECONDS
        while time.monotonic() < give_up:
            if any(map(_is_lost_lease, self._events(sleeper.name, sleeper.log))):
                return True
            time.sleep(0.05)
        return False

    def _make_up(self) -> None:
        """End what trouble goes on by itself."""
        self._control("notifications", {"lose": 0, "duplicate": 0, "shuffle": 0})
        self._control(f"mailboxes/{MAILBOX}/restore", {})

    # A comparison

    def _check(self) -> bool:
        """Let everything come to rest and compare; return whether nothing was wrong."""
        self._control("latency", {"seconds": 0})
        wait_for(self._asked)
        account = call("GET", f"{self._stack.gmail}/control/faults")
        self.tally.faults += sum(len(queue["consumed"]) for queue in account.values())
        call("DELETE", f"{self._stack.gmail}/control/faults")
        began = time.monotonic()
        status = self._settled()
        events = [event for name in self._stack.functions for event in self._events(name)]
        self.tally.lost_leases = sum(map(_is_lost_lease, events))
        self.tally.parked = sum(event.get("event") == "message_parked" for event in events)
        self.tally.messages = len(self._owner.messages)
        self.tally.deltas = int(status.mailbox.get("deltaSeq", 0))
        self.tally.problems += self._problems(status)
        self.tally.checks += 1
        self.tally.live_checks += status.run.get("id") == self._last_run
        self._last_run = status.run.get("id", "")
        self._say(
            f"      settled after {time.monotonic() - began:.1f} s: {self.tally.messages:,} messages, "
            f"{self.tally.deltas:,} deltas, {len(self.tally.problems)} differences"
        )
        return not self.tally.problems

    def _settled(self) -> Status:
        give_up, ask_again = time.monotonic() + SETTLE_SECONDS, time.monotonic()
        while True:
            status = Status.of(self._stack)
            if (_is_at_rest(status) and not self._parked()) or time.monotonic() > give_up:
                return status
            if status.mailbox.get("phase") == "reauth_required" and time.monotonic() > ask_again:
                self._ask("incremental", wait=0)
                ask_again = time.monotonic() + 5
            time.sleep(0.3)

    def _problems(self, status: Status) -> list[str]:
        """What is wrong, in sentences."""
        found = [
            f"{name}: the process died by itself"
            for name in self._stack.functions
            if not self._stack.processes[name].alive
        ]
        if not _is_at_rest(status):
            found.append(f"not settled after {SETTLE_SECONDS:.0f} s: {' | '.join(status.lines())}")
            found.append(f"its document says: {json.dumps(status.mailbox.get('problem'))}")
        found += [f"{message_id}: parked: {reason}" for message_id, reason in self._parked().items()]
        rows = (row for row in compare(self._stack) if row.name != PARKED)
        found += [f"{row.name}: {difference}" for row in rows for difference in row.differences]
        for topic, messages in self._stack.dead_letters().items():
            found += [f"dead letter of {topic}: {json.dumps(message)}" for message in messages]
        for name in self._stack.functions:
            unexpected = [each for each in self._events(name) if each.get("event") == "unexpected_failure"]
            found += [f"{name}: {json.dumps(event)}" for event in unexpected]
        return found

    def _parked(self) -> dict[str, str]:
        """The parked messages with the reason of each, without ghosts; those are counted."""
        parked = read_mirror(self._stack, MAILBOX).parked
        if not parked:
            return {}
        alive = sides.read_truth(self._stack.gmail, MAILBOX).messages
        oldest = datetime.now(UTC) - timedelta(minutes=GHOST_MINUTES)
        ghosts = {each for each in parked if each not in alive and parked[each]["firstAt"] > oldest}
        self.tally.ghosts |= ghosts
        return {each: parked[each]["reason"] for each in parked if each not in ghosts}

    # What can be seen and done from outside

    def _ask(self, mode: Sync, *, wait: int) -> None:
        """Ask for a sync as an administrator would, and do not wait: the function may be dead, asleep or throttled."""
        url = f"{self._stack.url('trigger_sync')}/mailboxes/{MAILBOX}/sync?mode={mode}&wait={wait}"

        def post() -> None:
            with suppress(ProcessFailed):
                call("POST", url, seconds=wait + 3)

        self.tally.syncs[mode] += 1
        self._asked.append(self._pool.submit(post))

    def _control(self, path: str, body: Mapping[str, object]) -> None:
        call("POST", f"{self._stack.gmail}/control/{path}", body)

    def _lease(self) -> Lease:
        lease = self._fields(f"leases/{MAILBOX}")
        return Lease(lease.get("owner", ""), int(lease.get("token", 0)))

    def _takeovers(self) -> int:
        return int(self._fields(f"mailboxes/{MAILBOX}").get("takeovers", 0))

    def _fields(self, path: str) -> dict[str, Any]:
        """The fields of a document, past the functions, which may be asleep; none if it does not exist."""
        root = f"http://{self._stack.firestore}/v1/projects/{PROJECT}/databases/(default)/documents"
        try:
            return _plain(call("GET", f"{root}/{path}"))
        except ProcessFailed:
            return {}

    def _log_size(self, name: str) -> int:
        return self._stack.processes[name].log.stat().st_size

    def _events(self, name: str, offset: int = 0) -> list[dict[str, Any]]:
        """What a function has logged from there on."""
        text = self._stack.processes[name].log.read_bytes()[offset:].decode(errors="replace")
        found = []
        for line in text.splitlines():
            # A line may be cut off where its process was killed, or be none of ours.
            with suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    found.append(event)
        return found


def _mail(rng: random.Random) -> Iterator[mail.MadeUpMail]:
    """Mail without end."""
    while True:
        yield from mail.made_up(rng, 400, 200, start=FIRST_DAY, end=LAST_DAY)


def settings(directory: Path, seed: int) -> Settings:
    """How the stack of a soak runs."""
    return Settings(
        directory,
        "emulators",
        attachments="store",
        seed=seed,
        lease_seconds=LEASE_SECONDS,
        step_seconds=STEP_SECONDS,
        sweep_seconds=0.5,
    )


def _is_at_rest(status: Status) -> bool:
    box = status.mailbox
    request = box.get("request") or {}
    return (
        status.settled
        and int(box["hint"]) <= int(box["cursor"])
        and request.get("runId", "") in {"", box["requestDone"]}
        and int(status.notifications["waiting"]) == 0
    )


def _is_lost_lease(event: Mapping[str, Any]) -> bool:
    """Whether a turn says that its lease was lost: as what stopped it, or when it tried to say what else had."""
    if event.get("event") == "release_failed":
        return "took the lease" in str(event.get("error"))
    return event.get("event") == "turn_failed" and event.get("error") == "LeaseLost"


def _plain(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a document of Firestore's REST API, maps included, without the names of their types."""
    return {
        name: _plain(content) if kind == "mapValue" else content
        for name, value in document.get("fields", {}).items()
        for kind, content in value.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak; the exit code is 0 when mailbox and mirror were equal each time, 1 when not, 2 when it got stuck."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.soak", description="Kills and pauses on real processes.")
    parser.add_argument("--rounds", type=int, default=100, help="how many rounds (100)")
    parser.add_argument("--seed", type=int, help="what happens; without it something else each time")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1, 1_000_000)
    began = time.monotonic()
    story = Story(silent=False)
    directory = Path(tempfile.mkdtemp(prefix="mailmirror-soak-"))
    try:
        with Stack(settings(directory, seed)) as stack:
            story.say(f"Seed {seed}: {len(stack.processes)} processes and Google's emulators, logs in {directory}")
            tally = Soak(stack, options.rounds, seed, lambda line: story.say(escape(line))).play()
    except KeyboardInterrupt:
        return 130
    except (ProcessFailed, EmulatorsMissing) as stuck:
        story.say(f"[red]✗[/] {escape(str(stuck))}\nSeed {seed}. The logs are in {directory}.")
        return 2
    _report(story, tally)
    minutes = (time.monotonic() - began) / 60
    if tally.problems:
        story.say(f"[red]Not equal.[/] Seed {seed}, {minutes:.1f} min. The logs are in {directory}.")
        return 1
    shutil.rmtree(directory)
    story.say(f"[green]Equal.[/] Seed {seed}, {minutes:.1f} min.")
    return 0


def _report(story: Story, tally: Tally) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for name, value in tally.rows():
        table.add_row(name, value)
    story.console.print(table)
    for problem in tally.problems[:_SHOWN]:
        story.say(f"  [red]✗[/] {escape(problem)}")
    if tally.problems[_SHOWN:]:
        story.say(f"  … and {len(tally.problems) - _SHOWN} more")


if __name__ == "__main__":
    sys.exit(main())
