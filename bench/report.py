"""Figures: what was measured, the bound it is held to, and how both are shown.

Knows: a table for people and JSON for programs. Does not know: what a figure means or how it was measured.
"""

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich import box
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Bound:
    """What a figure is held to."""

    kind: Literal["at most", "at least"]
    value: float

    def holds(self, value: float) -> bool:
        """Whether a figure keeps it."""
        return value <= self.value if self.kind == "at most" else value >= self.value

    def __str__(self) -> str:
        """As the table shows it."""
        return f"{'≤' if self.kind == 'at most' else '≥'} {shown(self.value)}"


def at_most(value: float) -> Bound:
    """Return an upper bound."""
    return Bound("at most", value)


def at_least(value: float) -> Bound:
    """Return a lower bound."""
    return Bound("at least", value)


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured.

    Attributes:
        subject: what it belongs to.
        name: what it is, in words.
        value: None when it could not be measured; then `note` says why, and its bound is missed.
        unit: what `value` counts.
        bound: None for a figure that is only told.
        note: what a reader has to know beside it.
    """

    subject: str
    name: str
    value: float | None
    unit: str = ""
    bound: Bound | None = None
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the bound is kept, if there is one."""
        if self.value is None:
            return False
        return self.bound is None or self.bound.holds(self.value)

    def to_json(self) -> dict[str, Any]:
        """As a program reads it."""
        told: dict[str, Any] = {"subject": self.subject, "name": self.name, "value": self.value, "unit": self.unit}
        if self.bound is not None:
            told["bound"] = {self.bound.kind: self.bound.value}
        if self.note:
            told["note"] = self.note
        return told | {"ok": self.ok}


def shown(value: float) -> str:
    """Return a number as people read it: whole ones with separators, others with three digits that matter."""
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 1 else f"{value:.3g}"


def table(figures: Sequence[Figure]) -> Table:
    """Return the figures as a table."""
    made = Table(box=box.SIMPLE_HEAD, title="Mailmirror's figures", title_justify="left")
    made.add_column("subject", style="bold", no_wrap=True)
    made.add_column("figure")
    made.add_column("measured", justify="right", no_wrap=True)
    made.add_column("bound", justify="right", no_wrap=True)
    made.add_column("", justify="center")
    made.add_column("note", style="dim")
    before = ""
    for figure in figures:
        if before and figure.subject != before:
            made.add_section()
        value = "not measured" if figure.value is None else f"{shown(figure.value)} {figure.unit}".strip()
        verdict = "" if figure.ok and figure.bound is None else "[green]ok" if figure.ok else "[red]✗"
        made.add_row(
            figure.subject if figure.subject != before else "",
            figure.name,
            value,
            str(figure.bound) if figure.bound else "",
            verdict,
            figure.note,
        )
        before = figure.subject
    return made


def to_json(figures: Sequence[Figure]) -> str:
    """Return the figures, and what they were measured with, as JSON."""
    about = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    told = {"ok": all(figure.ok for figure in figures), **about, "figures": [figure.to_json() for figure in figures]}
    return json.dumps(told, indent=2, ensure_ascii=False)
