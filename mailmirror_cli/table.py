"""Findings for a person at a terminal: a table by subject, what to enter on web pages, and the commands to paste.

Knows: marks, colours and that a command must stay on one line to be pasted. Does not know: what was checked.
"""

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mailmirror_cli import report
from mailmirror_cli.report import Checked, Outcome

MARKS: dict[Outcome, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "wrong": ("✗", "bold red"),
    "unknown": ("?", "cyan"),
}


def show(console: Console, results: Sequence[Checked]) -> None:
    """Print everything."""
    console.print(_table(results))
    for entries, asked_by in report.entries(results):
        console.print(Text(f"To enter, for {_names(asked_by)}:", style="bold"))
        for name, value in entries:
            _line(console, f"  {name}: {value}")
        console.print()
    mending = report.commands(results)
    if mending:
        console.print(Text("To paste:", style="bold"))
        for command, asked_by in mending:
            _line(console, f"# {_names(asked_by)}", "dim")
            _line(console, command)
        console.print()
    console.print(_summary(results))


def _table(results: Sequence[Checked]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(style="dim", max_width=30)
    table.add_column(ratio=1, overflow="fold")
    for subject, of_subject in groupby(results, key=lambda each: each.subject):
        table.add_row("", Text(subject, style="bold not dim"), "")
        # What is not known for one reason is told once.
        for (outcome, message), same in groupby(
            of_subject, key=lambda each: (each.finding.outcome, each.finding.message)
        ):
            mark, style = MARKS[outcome]
            table.add_row(Text(mark, style=style), Text(", ".join(each.title for each in same)), Text(message))
    return table


def _summary(results: Sequence[Checked]) -> Text:
    words: dict[Outcome, str] = {"ok": "right", "warning": "to look at", "wrong": "wrong", "unknown": "not known"}
    counts = report.count(results)
    return Text(", ".join(f"{counts[outcome]} {word}" for outcome, word in words.items() if counts[outcome]) + ".")


def _names(checks: Sequence[Checked]) -> str:
    return ", ".join(f"{each.subject.lower()}: {each.title}" for each in checks)


def _line(console: Console, text: str, style: str = "") -> None:
    """One line, however long: what is pasted must not be broken."""
    console.print(Text(text, style=style), soft_wrap=True)
