"""Push envelopes: what Pub/Sub and Eventarc deliver, read as a notification or as work.

Knows: the raw envelope, CloudEvents in binary and structured mode, both base64 alphabets, padded or not, the data of
Gmail (`historyId` is a number in practice, a string in the guide) and of `mailbox-work`. Does not know: HTTP
frameworks, or what is done. Law 3: nothing is trusted beyond its shape.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mailmirror.errors import InvalidInput
from mailmirror.mailboxes import mailbox_id
from mailmirror.model import HistoryId, MailboxId
from mailmirror.ports import Task

# Firestore's integers.
MAX_HISTORY_ID = 2**63 - 1
_DIGITS = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Notification:
    """Gmail says that a mailbox moved."""

    mailbox: MailboxId
    history_id: HistoryId
    published_at: datetime | None


@dataclass(frozen=True, slots=True)
class Work:
    """One of our own messages."""

    mailbox: MailboxId
    task: Task


def read_notification(body: bytes) -> Notification:
    """Read the body of a push of `gmail-notifications`. Raises `InvalidInput`: malformed."""
    message = _message(body)
    data = _data(message)
    return Notification(mailbox_id(data.get("emailAddress")), _history_id(data.get("historyId")), _published(message))


def read_work(body: bytes) -> Work:
    """Read the body of a push of `mailbox-work`. Raises `InvalidInput`: malformed."""
    data = _data(_message(body))
    tasks: dict[str, Task] = {"sync": "sync", "renew": "renew", "purge": "purge"}
    task = tasks.get(str(data.get("task")))
    if task is None:
        raise InvalidInput(f"The task must be one of {', '.join(tasks)}.")
    return Work(mailbox_id(data.get("mailbox")), task)


def json_object(body: bytes, what: str) -> Mapping[str, Any]:
    """Return the JSON object of a body, `what` in an error. Raises `InvalidInput`: none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput(f"{what} is not JSON.") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} is not a JSON object.")
    return value


def _message(body: bytes) -> Mapping[str, Any]:
    envelope = json_object(body, "The push envelope")
    event = envelope.get("data")
    if "message" not in envelope and isinstance(event, dict):
        envelope = event
    message = envelope.get("message")
    if not isinstance(message, dict):
        raise InvalidInput("The push envelope has no message.")
    return message


def _data(message: Mapping[str, Any]) -> Mapping[str, Any]:
    text = message.get("data")
    if not isinstance(text, str) or not text:
        raise InvalidInput("The message has no data.")
    plain = text.strip().rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        decoded = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("The message's data is not base64.") from None
    return json_object(decoded, "The message's data")


def _history_id(value: object) -> HistoryId:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _DIGITS.fullmatch(text) or not 0 < int(text) <= MAX_HISTORY_ID:
        raise InvalidInput("historyId must be a positive 64-bit integer.")
    return int(text)


def _published(message: Mapping[str, Any]) -> datetime | None:
    text = message.get("publishTime", message.get("publish_time"))
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
