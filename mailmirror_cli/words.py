"""Values of documents as a person reads them: times, numbers, addresses, one line each.

Knows: how the documents write them. Does not know: which document it is.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mailmirror_cli.telling import clean


def line(text: object) -> str:
    """Return a text as one line."""
    return " ".join(clean(text).split())


def moment(value: object) -> datetime | None:
    """Return a time that a document has, aware, or None."""
    return datetime.fromisoformat(str(value)) if value else None


def when(value: object) -> str:
    """Return a time in this machine's zone, to the minute; today's without the date."""
    at = moment(value)
    if at is None:
        return ""
    local = at.astimezone()
    today = local.date() == datetime.now(UTC).astimezone().date()
    return local.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")


def until(value: object) -> str:
    """Return how long it is until a time, roughly."""
    at = moment(value)
    return "" if at is None else length((at - datetime.now(UTC)).total_seconds())


def length(seconds: object) -> str:
    """Return a length of time, roughly; nothing for none."""
    if not isinstance(seconds, int | float):
        return ""
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    if whole < 100 * 60:
        return f"{round(whole / 60)} min"
    return f"{whole / 3600:.1f} h" if whole < 48 * 3600 else f"{round(whole / 86400)} days"


def number(value: object) -> str:
    """Return a number with its thousands apart."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.2f}" if abs(value) >= 0.01 else f"{value:.2g}"
    return f"{int(value):,}" if isinstance(value, int | float) else ""


def many(value: object, singular: str) -> str:
    """Return so many of something."""
    return f"{number(value)} {singular}{'' if value == 1 else 's'}"


def trouble(problem: Mapping[str, Any]) -> str:
    """Return what is the matter, and what to do: two sentences, also where Google's ends without a full stop."""
    return f"{str(problem['message']).rstrip('.')}. {problem['action']}"


def person(value: Mapping[str, Any] | None, *, short: bool = False) -> str:
    """Return who somebody is: name and address, or one of them."""
    name, address = line((value or {}).get("name") or ""), line((value or {}).get("address") or "")
    if short:
        return name or address
    return f"{name} <{address}>" if name and address else name or address
