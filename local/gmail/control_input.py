"""What may be said to the control API.

It knows how to read one JSON object field by field, and says in a sentence what is wrong with it. It does not know what
the fields do.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flask import Request

_MESSAGE_FIELDS = ("raw", "threadId", "labelIds", "internalDate")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/_=-]")


class BadInput(ValueError):
    """The caller can mend this; the message says how."""


class Unknown(Exception):
    """The path names something that is not there; the message says what is."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to deliver."""

    raw: bytes
    thread_id: str | None
    label_ids: tuple[str, ...]
    internal_date: datetime | None


@dataclass(frozen=True, slots=True)
class Input:
    """The fields of one JSON object; every reader raises BadInput."""

    fields: Mapping[str, Any]

    @classmethod
    def of_request(cls, request: Request, *known: str) -> Input:
        """The body of a request; with names given, no other field may be in it."""
        try:
            body = json.loads(request.get_data() or b"{}")
        except ValueError:
            raise BadInput("The body is no JSON.") from None
        return cls.of(body, *known)

    @classmethod
    def of(cls, body: object, *known: str) -> Input:
        """A JSON value that must be an object."""
        if not isinstance(body, dict):
            raise BadInput("The body must be a JSON object.")
        for name in body:
            if known and name not in known:
                raise BadInput(f"There is no field {name}; there are {', '.join(known)}.")
        return cls(body)

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        return name in self.fields

    def text(self, name: str, default: str | None = None) -> str:
        """A string that is not empty."""
        value = self.fields.get(name, default)
        if not isinstance(value, str) or not value:
            raise BadInput(f"{name} must be a string that is not empty.")
        return value

    def optional_text(self, name: str) -> str | None:
        """A string that is not empty, or nothing."""
        return None if self.fields.get(name) is None else self.text(name)

    def texts(self, name: str, default: Sequence[str] | None = None) -> list[str]:
        """A list of strings."""
        value = self.fields.get(name, default)
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise BadInput(f"{name} must be a list of strings.")
        return list(value)

    def objects(self, name: str) -> list[Any]:
        """A list of whatever, read later."""
        value = self.fields.get(name)
        if not isinstance(value, list):
            raise BadInput(f"{name} must be a list.")
        return value

    def object(self, name: str) -> dict[str, Any] | None:
        """An object, or nothing."""
        value = self.fields.get(name)
        if value is not None and not isinstance(value, dict):
            raise BadInput(f"{name} must be an object or null.")
        return value

    def number(self, name: str, default: float | None, low: float, high: float) -> float:
        """A number between two bounds, both included."""
        value = self.fields.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise BadInput(f"{name} must be a number from {low:g} to {high:g}.")
        return float(value)

    def whole(self, name: str, default: int | None, low: int, high: int) -> int | None:
        """A whole number between two bounds, or null for none."""
        value = self.fields.get(name, default)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise BadInput(f"{name} must be a whole number from {low} to {high}, or null.")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.fields.get(name)
        if not isinstance(value, bool):
            raise BadInput(f"{name} must be true or false.")
        return value

    def raw(self, name: str) -> bytes:
        """The source of a message in either alphabet of base64, padded or not."""
        text = self.text(name)
        try:
            if _NOT_BASE64.search(text):
                raise binascii.Error
            return base64.urlsafe_b64decode(text.replace("+", "-").replace("/", "_") + "=" * (-len(text) % 4))
        except binascii.Error:
            raise BadInput(f"{name} must be the message's source in base64url.") from None


def read_delivery(item: object) -> Delivery:
    """One message of `deliver`: `{raw, threadId?, labelIds?, internalDate?}`; internalDate as Gmail writes it."""
    fields = Input.of(item, *_MESSAGE_FIELDS)
    return Delivery(
        raw=fields.raw("raw"),
        thread_id=fields.optional_text("threadId"),
        label_ids=tuple(fields.texts("labelIds", ("INBOX", "UNREAD"))),
        internal_date=_moment(fields.fields.get("internalDate")),
    )


def _moment(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        # Gmail writes int64 as a string; people write a number.
        return datetime.fromtimestamp(int(str(value)) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        raise BadInput("internalDate must be epoch milliseconds.") from None
