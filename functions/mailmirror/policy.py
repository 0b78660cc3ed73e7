"""A policy as people write it: JSON read into `model.Policy`, each mistake answered in a sentence.

Knows: the names and what may stand behind them. Does not know: HTTP, or what a policy does. A policy is given as a
whole: what is absent takes its default, whatever the mailbox had before.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from mailmirror.errors import InvalidInput
from mailmirror.model import LabelId, Policy

_NAMES = ("includeSpamTrash", "drafts", "labelIds", "excludeLabelIds", "since", "bodies")
# As RFC 3339 has it: a time without a zone would be anybody's guess.
_TIME = re.compile(r"\d{4}-\d\d-\d\d([Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d))?", re.ASCII)
# Gmail's own ids have letters, digits, _ and -; it is Gmail that says whether there is such a label.
_LABEL = re.compile(r"[^\s/\x00-\x1f\ud800-\udfff]{1,255}")
_MOST_LABELS = 100
# Before that there is no mail, and no number of seconds to ask Gmail by.
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


def read_policy(given: object) -> Policy | None:
    """Return a policy given as JSON, None if none was given.

    `{"includeSpamTrash": true, "drafts": false, "labelIds": ["INBOX"], "excludeLabelIds": [], "since": "2026-01-31",
    "bodies": true}`. A time to come is a policy too: nothing is mirrored before it.

    Raises:
        InvalidInput: it is not that, or leaves out every message it asks for.
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
        since=_since(given.get("since")),
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


def _since(value: object) -> datetime | None:
    if value is None:
        return None
    since = None
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            # A date is its midnight, and that in UTC.
            time = datetime.fromisoformat(value.upper())
            since = (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            since = None
    if since is None or since < _FIRST:
        raise InvalidInput('since must be a date from 1970 on, "2026-01-31" (UTC), or a time, "2026-01-31T09:00:00Z".')
    return since


def _shown(text: str) -> str:
    """Return a part of somebody's text to repeat to them."""
    return ascii(text[:50])
