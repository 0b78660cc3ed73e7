"""The labels of a mailbox.

It knows system labels and the user's own, and how labels.list and labels.get show them. It does not know which message
carries which label.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from local.gmail.errors import invalid_argument, not_found

_SHOWN = ("INBOX", "SENT", "DRAFT", "IMPORTANT", "STARRED", "UNREAD")
_HIDDEN = ("CHAT", "TRASH", "SPAM")
_CATEGORIES = ("CATEGORY_PERSONAL", "CATEGORY_SOCIAL", "CATEGORY_UPDATES", "CATEGORY_FORUMS", "CATEGORY_PROMOTIONS")

SYSTEM_LABELS = _SHOWN + _HIDDEN + _CATEGORIES

# Gmail puts these itself; a user can neither add nor remove them.
IMMUTABLE_LABELS = frozenset({"SENT", "DRAFT", "CHAT"})

_SHADE = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True, slots=True)
class Color:
    """The colours of a label. Gmail has a palette of about a hundred; the fake takes any."""

    text: str
    background: str

    @classmethod
    def parse(cls, color: Mapping[str, Any]) -> Color:
        """Read colours as the API writes them."""
        shades = [color.get(name) for name in ("textColor", "backgroundColor")]
        if set(color) != {"textColor", "backgroundColor"} or not all(_SHADE.fullmatch(str(shade)) for shade in shades):
            raise ValueError("A colour has a textColor and a backgroundColor, written as #rrggbb.")
        return cls(*map(str, shades))

    def to_api(self) -> dict[str, str]:
        """As the API writes them."""
        return {"textColor": self.text, "backgroundColor": self.background}


@dataclass(frozen=True, slots=True)
class Label:
    """One label; the id never changes, the name may."""

    id: str
    name: str
    type: str
    hidden: bool = False
    color: Color | None = None

    def to_api(self, *, colors: bool = False) -> dict[str, Any]:
        """As labels.list shows it: visibility only where it is not the default, and no counts; colours if told to."""
        shown: dict[str, Any] = {"id": self.id, "name": self.name, "type": self.type}
        if self.hidden:
            shown |= {"messageListVisibility": "hide", "labelListVisibility": "labelHide"}
        elif self.type == "user":
            shown |= {"messageListVisibility": "show", "labelListVisibility": "labelShow"}
        if colors and self.color is not None:
            shown["color"] = self.color.to_api()
        return shown


class Labels:
    """All labels of one mailbox, in the order they came."""

    def __init__(self) -> None:
        self._labels = {name: Label(name, name, "system", name in _HIDDEN + _CATEGORIES) for name in SYSTEM_LABELS}
        self._created = 0

    def __contains__(self, label_id: object) -> bool:
        return label_id in self._labels

    def to_api(self, *, colors: bool = False) -> list[dict[str, Any]]:
        """All labels as labels.list shows them."""
        return [label.to_api(colors=colors) for label in self._labels.values()]

    def one(self, label_id: str) -> Label:
        """A label, or the API's refusal."""
        if label_id not in self._labels:
            raise not_found()
        return self._labels[label_id]

    def create(self, name: str) -> str:
        """A new label of the user; Gmail never uses an id again."""
        self._check_name(name)
        self._created += 1
        label = Label(f"Label_{self._created}", name, "user")
        self._labels[label.id] = label
        return label.id

    def ensure(self, name: str) -> str:
        """The label of this name or id, created if there is none."""
        if name in self._labels:
            return name
        for label in self._labels.values():
            if label.name.casefold() == name.casefold():
                return label.id
        return self.create(name)

    def rename(self, label_id: str, name: str) -> None:
        """Another name for a label of the user."""
        label = self._own(label_id)
        if name != label.name:
            self._check_name(name)
            self._labels[label_id] = replace(label, name=name)

    def recolor(self, label_id: str, color: Color | None) -> None:
        """Other colours for a label of the user, or none."""
        self._labels[label_id] = replace(self._own(label_id), color=color)

    def remove(self, label_id: str) -> None:
        """Forget a label of the user."""
        self._own(label_id)
        del self._labels[label_id]

    def require(self, label_ids: Iterable[str]) -> None:
        """Refuse, as the API does, a label id that this mailbox does not have."""
        for label_id in label_ids:
            if label_id not in self._labels:
                raise invalid_argument(f"Invalid label: {label_id}")

    def _own(self, label_id: str) -> Label:
        label = self._labels.get(label_id)
        if label is None:
            raise ValueError(f"There is no label {label_id}.")
        if label.type == "system":
            raise ValueError(f"{label_id} is a system label, it cannot be changed.")
        return label

    def _check_name(self, name: str) -> None:
        if not name.strip():
            raise ValueError("A label needs a name.")
        if any(label.name.casefold() == name.casefold() for label in self._labels.values()):
            raise ValueError(f"There is a label named {name} already.")
