"""One page of a listing that is newest first.

It knows keyset paging: a page begins after the last key of the page before, so that what comes and goes shifts nothing.
It knows which messages a filter lets through. It does not know how a message or a thread is shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from local.gmail.message import StoredMessage
from local.gmail.pages import page_size, read_token, write_token

_HIDDEN_BY_DEFAULT = ("SPAM", "TRASH")


class LabelFilter:
    """All of the labels; nothing from spam and trash unless it is asked for, by flag or by label."""

    def __init__(self, label_ids: Sequence[str], include_spam_trash: bool) -> None:
        self._wanted = tuple(label_ids)
        self._hidden = () if include_spam_trash else tuple(name for name in _HIDDEN_BY_DEFAULT if name not in label_ids)

    def passes(self, message: StoredMessage) -> bool:
        """Whether a listing shows this message."""
        carried = message.label_ids
        return all(label in carried for label in self._wanted) and not any(label in carried for label in self._hidden)


def page(
    kind: str,
    order: Sequence[tuple[int, str]],
    shown: Callable[[str], dict[str, Any] | None],
    *,
    token: str | None,
    generation: int,
    max_results: int | None,
) -> dict[str, Any]:
    """The page of `order`, oldest first, that the token asks for; `shown` gives None for what does not belong."""
    size = page_size(max_results)
    end = len(order)
    if token:
        date, last_id = read_token(token, kind, generation, 2)
        end = bisect_left(order, (int(date), str(last_id)))
    items: list[dict[str, Any]] = []
    answer: dict[str, Any] = {}
    last_key: tuple[int, str] | None = None
    for index in range(end - 1, -1, -1):
        item = shown(order[index][1])
        if item is None:
            continue
        if len(items) == size and last_key:
            answer["nextPageToken"] = write_token(kind, generation, last_key)
            break
        items.append(item)
        last_key = order[index]
    if items:
        answer[kind] = items
    # An estimate, as Gmail's is: nobody may rely on it, so it does not count what the filter would let through.
    answer["resultSizeEstimate"] = max(len(order), len(items)) if "nextPageToken" in answer else len(items)
    return answer
