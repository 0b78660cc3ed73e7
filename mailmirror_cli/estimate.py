"""The estimate of a first sync as a command: `plan`.

Knows: which figures there are and how they are read. Does not know: how they are worked out; each says so itself.
"""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from mailmirror_cli.mailboxes import path
from mailmirror_cli.target import Target
from mailmirror_cli.telling import DONE, Telling
from mailmirror_cli.words import length, line, number

# In the order they are read in, with what a person calls them.
_FIGURES = {
    "messages": "messages",
    "threads": "threads",
    "units": "Gmail units",
    "minutes": "takes",
    "reads": "documents read",
    "writes": "documents written",
    "deletes": "documents deleted",
    "storageBytes": "MB stored",
    "priceUsd": "USD, once",
    "storageUsdPerMonth": "USD a month",
}


def plan(target: Target, tell: Telling, mailbox: str) -> int:
    """Say what a first sync will take."""
    content = target.manage.ask("GET", f"{path(mailbox)}/plan", seconds=120).content
    tell.answer(content, lambda screen: _show(screen, content))
    return DONE


def _show(screen: Console, content: Mapping[str, Any]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", overflow="fold", ratio=1)
    for name, title in _FIGURES.items():
        figure = content.get(name)
        if figure:
            table.add_row(title, _value(name, figure["value"]), line(figure["formula"]))
    screen.print(table)
    for sentence in content.get("assumptions", ()):
        screen.print(line(sentence), style="dim")
    if not content.get("complete", True):
        screen.print("Only the newest messages were listed; the rest is extrapolated.", style="dim")


def _value(name: str, value: float) -> str:
    if name == "minutes":
        return length(value * 60)
    return number(value / 1e6 if name == "storageBytes" else value)
