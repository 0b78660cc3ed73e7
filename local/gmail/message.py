"""Messages and threads as the mailbox keeps them.

It knows how one message is shown in each format. It does not know the mailbox around it: labels are changed and history
ids are set by `state`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from local.gmail import mime, payload, truth
from local.gmail.errors import invalid_argument

FORMATS = ("minimal", "full", "raw", "metadata")

# Above this size the parsed tree is built anew for each get: a mailbox of large mail would otherwise be held in memory
# twice.
_LARGEST_CACHED = 100_000


@dataclass(slots=True)
class StoredThread:
    """Which messages make a thread, in the order they came, and the last record that touched any of them."""

    id: str
    history_id: int = 0
    message_ids: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class StoredMessage:
    """One message: its source, which never changes, and its state, which does."""

    id: str
    thread_id: str
    label_ids: list[str]
    internal_date: int
    raw: bytes
    arrived_at: datetime
    rfc822_id: str
    bare_subject: str
    history_id: int = 0
    _tree: dict[str, Any] | None = None
    _snippet: str | None = None
    _truth: dict[str, Any] | None = None

    @property
    def key(self) -> tuple[int, str]:
        """Where it stands in a listing."""
        return self.internal_date, self.id

    def snippet(self) -> str:
        """The beginning of the text."""
        if self._snippet is None:
            self._snippet = payload.snippet(mime.parse(self.raw))
        return self._snippet

    def to_api(
        self,
        form: str,
        metadata_headers: Iterable[str],
        new_id: Callable[[str, str], str],
        inline_bytes: int | None = None,
    ) -> dict[str, Any]:
        """As messages.get shows it; the parts of the answer are shared, the caller must not change them.

        Args:
            form: the format.
            metadata_headers: the headers that format=metadata shows; all without any.
            new_id: makes an attachment id of this message's id and a part's.
            inline_bytes: larger texts come as an attachment id; None: none does.
        """
        form = form.lower()
        if form not in FORMATS:
            raise invalid_argument(f"Invalid value at 'format': \"{form}\"")
        shown: dict[str, Any] = {"id": self.id, "threadId": self.thread_id}
        if self.label_ids:
            # A message that is archived and read has no labels, and then Gmail sends no list at all.
            shown["labelIds"] = list(self.label_ids)
        shown["snippet"] = self.snippet()
        if form == "full":
            shown["payload"] = payload.with_fresh_attachments(
                self._payload(), lambda part_id: new_id(self.id, part_id), inline_bytes
            )
        elif form == "metadata":
            shown["payload"] = payload.top_only(self._payload(), metadata_headers)
        elif form == "raw":
            shown["raw"] = payload.encoded(self.raw)
        shown["sizeEstimate"] = len(self.raw)
        shown["historyId"] = str(self.history_id)
        shown["internalDate"] = str(self.internal_date)
        return shown

    def bytes_of(self, part_id: str) -> bytes:
        """The bytes of one part."""
        return payload.bytes_of(mime.parse(self.raw), part_id)

    def truth(self) -> dict[str, Any]:
        """What a perfect mirror would know of it."""
        if self._truth is None:
            self._truth = truth.of(mime.parse(self.raw))
        return {
            "threadId": self.thread_id,
            "labelIds": sorted(self.label_ids),
            "historyId": self.history_id,
            "internalDate": self.internal_date,
            **self._truth,
        }

    def _payload(self) -> dict[str, Any]:
        if self._tree is not None:
            return self._tree
        tree = payload.part_tree(mime.parse(self.raw))
        if len(self.raw) <= _LARGEST_CACHED:
            self._tree = tree
        return tree
