"""A policy as people write it: JSON read into `model.Policy`, each mistake answered in a sentence.

Knows: names and values. Does not know: HTTP, or what a policy does. What is absent takes its default, whatever the
mailbox had.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

from mailmirror.errors import InvalidInput
from mailmirror.model import EPOCH, LabelId, Policy

_NAMES = ("includeSpamTrash", "drafts", "labelIds", "excludeLabelIds", "since", "newestDays", "bodies")
# RFC 3339: a time needs a zone.
_TIME = re.compile(r"\d{4}-\d\d-\d\d([Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d))?", re.ASCII)
# Gmail's have letters, digits, _ and -; Gmail says which exist.
_LABEL = re.compile(r"[^\s/\x00-\x1f\ud800-\udfff]{1,255}")
_MOST_LABELS = 100
# A hundred years.
_MOST_DAYS = 36_500


def read_policy(given: object) -> Policy | None:
    """Return a policy given as JSON, None if none was given.

    Of `since`, which may be to come, and `newestDays` the later counts.

    Raises:
        InvalidInput: it is none, or leaves out what it asks for.
    """
    if given is None:
        return None
    if not isinstance(given, dict):
        raise InvalidInput("A policy is an object: {…}.")
    unknown = given.keys() - set(_NAMES)
    if unknown:
        raise InvalidInput(f"A policy has no {_shown(min(unknown))}; it may have {', '.join(_NAMES)}.")
    default = Policy()
    policy = Policy(
        include_spam_trash=_flag(given, "includeSpamTrash", default.include_spam_trash),
        drafts=_flag(given, "drafts", default.drafts),
        label_ids=_labels(given, "labelIds"),
        exclude_label_ids=_labels(given, "excludeLabelIds"),
        since=None if given.get("since") is None else read_time("since", given["since"]),
        newest_days=_days(given.get("newestDays")),
        bodies=_flag(given, "bodies", default.bodies),
    )
    left_out = policy.excluded_labels().intersection(policy.label_ids)
    if left_out:
        raise InvalidInput(f"labelIds has {_shown(min(left_out))}, which this very policy leaves out.")
    return policy


def _flag(given: Mapping[str, object], name: str, default: bool) -> bool:
    value = given.get(name, default)
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} must be true or false.")
    return value


def _labels(given: Mapping[str, object], name: str) -> tuple[LabelId, ...]:
    value = given.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and _LABEL.fullmatch(item) for item in value):
        raise InvalidInput(f'{name} must be a list of label ids, such as ["INBOX", "Label_17"].')
    if len(value) > _MOST_LABELS:
        raise InvalidInput(f"{name} must have at most {_MOST_LABELS} label ids.")
    return tuple(dict.fromkeys(value))


def read_time(name: str, value: object) -> datetime:
    """Return a time in UTC; a date is its midnight there. Raises `InvalidInput`."""
    found = None
    if isinstance(value, str) and _TIME.fullmatch(value):
        with suppress(ValueError, OverflowError):
            time = datetime.fromisoformat(value.upper())
            found = (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    # No mail is older, and no seconds to ask Gmail by.
    if found is None or found < EPOCH:
        raise InvalidInput(
            f'{name} must be a date from 1970 on, "2026-01-31" (UTC), or a time, "2026-01-31T09:00:00Z".'
        )
    return found


def _days(value: object) -> int | None:
    if value is None:
        return None
    # True is an int.
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST_DAYS:
        raise InvalidInput(f"newestDays must be a whole number from 1 to {_MOST_DAYS}.")
    return value


def _shown(text: str) -> str:
    return ascii(text[:50])
