"""How the demonstration is told: what can be seen from outside, the step under way, the steps that are done.

Knows: where to look (the functions by HTTP, the fake Gmail, the processes), and the terminal. Does not know: what the
steps do, nor whether mailbox and mirror are equal; it shows the rows that `truth` found.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from local import truth
from local.owner import MAILBOX
from local.process import ProcessFailed
from local.stack import Stack, call

SHOWN_DIFFERENCES = 5


@dataclass(frozen=True, slots=True)
class Status:
    """What can be seen from outside at one moment."""

    mailbox: Mapping[str, Any]
    head: int
    watched: bool
    account: Mapping[str, Any]
    notifications: Mapping[str, Any]
    alive: int
    processes: int

    @classmethod
    def of(cls, stack: Stack) -> "Status":
        """Look now. A function that is being started again shows as a mailbox without fields."""
        [mailbox] = call("GET", f"{stack.gmail}/control/mailboxes")["mailboxes"]
        try:
            document = call("GET", f"{stack.url('manage_mailboxes')}/mailboxes/{MAILBOX}")
        except ProcessFailed:
            document = {}
        return cls(
            mailbox=document,
            head=int(mailbox["historyId"]),
            watched=mailbox["watch"] is not None,
            account=call("GET", f"{stack.gmail}/control/account"),
            notifications=call("GET", f"{stack.gmail}/control/notifications"),
            alive=sum(process.alive for process in stack.processes.values()),
            processes=len(stack.processes),
        )

    @property
    def run(self) -> Mapping[str, Any]:
        """The run under way, else the last one."""
        return self.mailbox.get("run") or {}

    @property
    def settled(self) -> bool:
        """Whether the mirror says that it is complete, as of now."""
        under_way = self.run.get("stage", "finished") != "finished"
        complete = int(self.mailbox.get("cursor", 0)) >= self.head
        return complete and self.mailbox.get("phase") == "live" and not under_way

    @property
    def units(self) -> int:
        """The quota units spent so far."""
        return int(self.account["units"])

    def lines(self) -> list[str]:
        """The same in words."""
        box, run, sent = self.mailbox, self.run, self.notifications
        counts = box.get("counts", {})
        stage = f"{run['stage']} {run.get('done', 0):,}/{run.get('total', 0):,}" if run.get("stage") else "no run"
        mirrored = f"{counts.get('messages', 0):,} messages in {counts.get('threads', 0):,} threads"
        told = ", ".join(f"{sent[name]} {name}" for name in ("sent", "lost", "duplicated"))
        spent = f"{self.units:,} units, {self.account['rejected']} calls refused"
        return [
            f"phase {box.get('phase', '–')} · {stage} · cursor {box.get('cursor', 0)} of {self.head} · {mirrored}",
            f"notifications {told} · {spent} · {self.alive} of {self.processes} processes",
        ]


@dataclass(slots=True)
class Step:
    """One step of the story as it is shown while it goes on."""

    title: str
    began: float = field(default_factory=time.monotonic)
    done: float = 0
    total: float | None = None
    status: Status | None = None
    result: str = ""
    seconds: float = 0
    _spinner: Spinner = field(default_factory=lambda: Spinner("dots", style="cyan"))

    def __rich__(self) -> Group:
        """A line with a bar, and what can be seen below it."""
        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=self.total, completed=self.done, width=30, pulse=self.total is None)
        line.add_row(self._spinner, self.title, bar, f"{time.monotonic() - self.began:.0f} s")
        return Group(line, *(Text(f"  {text}", style="dim") for text in (self.status.lines() if self.status else ())))


class Story:
    """Tells the demonstration: live at a terminal, in plain lines elsewhere, not at all for programs."""

    def __init__(self, *, silent: bool) -> None:
        self.console = Console(quiet=silent, highlight=False)
        if not self.console.is_terminal:
            self.console.width = 160
        self.steps: list[Step] = []

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Tell one step: what goes on while the block lasts, its `result` when it ends."""
        step = Step(title)
        show = self.console.is_terminal and not self.console.quiet
        live = Live(step, console=self.console, transient=True, refresh_per_second=8) if show else nullcontext()
        with live:
            yield step
        step.seconds = time.monotonic() - step.began
        self.steps.append(step)
        self.say(f"[green]✓[/] [bold]{title}[/]: {escape(step.result)} [dim]{step.seconds:.1f} s[/]")

    def say(self, text: str = "") -> None:
        """A line of text, never broken."""
        self.console.print(text, soft_wrap=True)

    def table(self, rows: Sequence[truth.Row]) -> None:
        """The comparison, with the first few differences in words."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column()
        for name in ("mailbox", "mirror", "differences"):
            table.add_column(name, justify="right")
        for row in rows:
            count = f"[red]{len(row.differences)}[/]" if row.differences else "[green]0[/]"
            table.add_row(row.name, row.mailbox, row.mirror, count)
        self.console.print(table)
        for row in rows:
            for difference in row.differences[:SHOWN_DIFFERENCES]:
                self.say(f"  [red]{row.name}[/] {escape(difference)}")
