"""A watch, and the notification it makes Gmail publish.

It knows for how long, to which topic and for which labels. It does not know how a notification travels: `notifications`
does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from local.gmail.errors import invalid_argument
from local.gmail.history import Record

LIFETIME = timedelta(days=7)
BEHAVIORS = ("include", "exclude")

_TOPIC = re.compile(r"projects/[^/\s]+/topics/[^/\s]+")


@dataclass(frozen=True, slots=True)
class Notification:
    """A mailbox has moved: the only thing Gmail ever says of its own accord."""

    topic: str
    email_address: str
    history_id: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Watch:
    """Gmail's promise to publish changes, until it lapses."""

    topic: str
    label_ids: tuple[str, ...]
    behavior: str
    expires_at: datetime

    def wants(self, records: Iterable[Record]) -> bool:
        """Whether one of these changes passes the label filter."""
        if not self.label_ids:
            return True
        included = self.behavior == "include"
        return any(any(record.touches(label) for label in self.label_ids) == included for record in records)


def parse_topic(topic: str | None) -> str:
    """A full topic name, or Google's refusal."""
    if not topic:
        raise invalid_argument("Missing/invalid parameter: topicName")
    if not _TOPIC.fullmatch(topic):
        raise invalid_argument("Invalid topicName does not match projects/*/topics/*")
    return topic


def parse_behavior(behavior: str | None) -> str:
    """Which way the filter works; the guide writes it in capitals, the discovery document does not."""
    value = (behavior or "include").lower()
    if value not in BEHAVIORS:
        raise invalid_argument(f"Invalid value at 'label_filter_behavior': \"{behavior}\"")
    return value
