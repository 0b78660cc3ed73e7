"""Findings: what a check saw, what it means for the exit code, and the whole as JSON.

Knows: the four outcomes and how they add up. Does not know: what is checked, or how a finding looks on a terminal.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

Key = TypeVar("Key", bound=Hashable)
Outcome = Literal["ok", "warning", "wrong", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw.

    Attributes:
        outcome: `warning` is worth a look and no failure; `unknown` could not be looked at.
        message: what is so, or what is wrong.
        commands: lines to paste into a shell, in this order, that mend it.
        paste: what is to be entered on a web page, by the name of the field there.
    """

    outcome: Outcome
    message: str
    commands: tuple[str, ...] = ()
    paste: Mapping[str, str] = field(default_factory=dict)


def ok(message: str, *, paste: Mapping[str, str] | None = None) -> Finding:
    """It is as it should be."""
    return Finding("ok", message, paste=paste or {})


def warning(message: str, *commands: str) -> Finding:
    """It works, and somebody should look."""
    return Finding("warning", message, commands)


def wrong(message: str, *commands: str, paste: Mapping[str, str] | None = None) -> Finding:
    """It does not work."""
    return Finding("wrong", message, commands, paste or {})


def unknown(message: str, *commands: str) -> Finding:
    """It could not be looked at."""
    return Finding("unknown", message, commands)


@dataclass(frozen=True, slots=True)
class Checked:
    """A check that was made: what it is called and what it saw."""

    subject: str
    id: str
    title: str
    finding: Finding


def count(results: Sequence[Checked]) -> dict[Outcome, int]:
    """Return how many checks came to each outcome."""
    outcomes: tuple[Outcome, ...] = get_args(Outcome)
    return {outcome: sum(each.finding.outcome == outcome for each in results) for outcome in outcomes}


def exit_code(results: Sequence[Checked]) -> int:
    """Return 0 when nothing is wrong, 1 when something is, 2 when nothing is but something could not be checked."""
    counts = count(results)
    if counts["wrong"]:
        return 1
    return 2 if counts["unknown"] else 0


def commands(results: Sequence[Checked]) -> list[tuple[str, list[Checked]]]:
    """Return each line to paste once, in order, with the checks that ask for it."""
    return _by((command, each) for each in results for command in each.finding.commands)


def entries(results: Sequence[Checked]) -> list[tuple[tuple[tuple[str, str], ...], list[Checked]]]:
    """Return what is to be entered together on a web page once, in order, with the checks that ask for it."""
    return _by((tuple(each.finding.paste.items()), each) for each in results if each.finding.paste)


def _by(pairs: Iterable[tuple[Key, Checked]]) -> list[tuple[Key, list[Checked]]]:
    found: dict[Key, list[Checked]] = {}
    for key, each in pairs:
        found.setdefault(key, []).append(each)
    return list(found.items())


def as_json(results: Sequence[Checked], **about: Any) -> dict[str, Any]:
    """Return everything as one JSON object; `about` says what was looked at."""
    return {
        **about,
        "exitCode": exit_code(results),
        "counts": count(results),
        "checks": [
            {
                "subject": each.subject,
                "id": each.id,
                "title": each.title,
                "outcome": each.finding.outcome,
                "message": each.finding.message,
                "commands": list(each.finding.commands),
                "paste": dict(each.finding.paste),
            }
            for each in results
        ],
    }
