"""The labels of a mailbox.

It knows system labels and the user's own, and how labels.list shows them. It does not know which message carries which
label.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from local.gmail.errors import invalid_argument

_SHOWN = ("INBOX", "SENT", "DRAFT", "IMPORTANT", "STARRED", "UNREAD")
_HIDDEN = ("CHAT", "TRASH", "SPAM")
_CATEGORIES = ("CATEGORY_PERSONAL", "CATEGORY_SOCIAL", "CATEGORY_UPDATES", "CATEGORY_FORUMS", "CATEGORY_PROMOTIONS")

SYSTEM_LABELS = _SHOWN + _HIDDEN + _CATEGORIES

# Gmail puts these itself; a user can neither add nor remove them.
IMMUTABLE_LABELS = frozenset({"SENT", "DRAFT", "CHAT"})


@dataclass(frozen=True, slots=True)
class Label:
    """One label; the id never changes, the name may."""

    id: str
    name: str
    type: str
    hidden: bool = False

    def to_api(self) -> dict[str, Any]:
        """As labels.list shows it: visibility only where it is not the default, and no counts."""
        shown: dict[str, Any] = {"id": self.id, "name": self.name, "type": self.type}
        if self.hidden:
            shown |= {"messageListVisibility": "hide", "labelListVisibility": "labelHide"}
        elif self.type == "user":
            shown |= {"messageListVisibility": "show", "labelListVisibility": "labelShow"}
        return shown


class Labels:
    """All labels of one mailbox, in the order they came."""

    def __init__(self) -> None:
        self._labels = {name: Label(name, name, "system", name in _HIDDEN + _CATEGORIES) for name in SYSTEM_LABELS}
        self._created = 0

    def __contains__(self, label_id: object) -> bool:
        return label_id in self._labels

    def to_api(self) -> list[dict[str, Any]]:
        """All labels as labels.list shows them."""
        return [label.to_api() for label in self._labels.values()]

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
