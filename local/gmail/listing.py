"""One page of a listing that is newest first.

It knows keyset paging: a page begins after the last key of the page before, so that what comes and goes shifts nothing.
It knows which messages a filter lets through, and the one search that is faked. It does not know how a message or a
thread is shown.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from local.gmail.errors import ApiError
from local.gmail.message import StoredMessage
from local.gmail.pages import page_size, read_token, write_token

_HIDDEN_BY_DEFAULT = ("SPAM", "TRASH")


_AFTER = re.compile(r"after:([0-9]{1,11})")


class Filter:
    """All of the labels; nothing from spam and trash unless it is asked for, by flag or by label; nothing that is not
    newer than a time.
    """

    def __init__(self, label_ids: Sequence[str], include_spam_trash: bool, after: int | None = None) -> None:
        self._wanted = tuple(label_ids)
        self._hidden = () if include_spam_trash else tuple(name for name in _HIDDEN_BY_DEFAULT if name not in label_ids)
        self._after = after

    def passes(self, message: StoredMessage) -> bool:
        """Whether a listing shows this message."""
        # Google does not say whether the second that is named belongs to it; a client that relies on that loses mail.
        if self._after is not None and message.internal_date // 1000 <= self._after:
            return False
        carried = message.label_ids
        return all(label in carried for label in self._wanted) and not any(label in carried for label in self._hidden)


def parse_search(q: str | None) -> int | None:
    """The epoch seconds after which messages are asked for, None for all.

    A date would be midnight in California, and a word a search of all text: both are refused rather than done wrongly.
    """
    if not q:
        return None
    match = _AFTER.fullmatch(q.strip())
    if match is None:
        raise ApiError(
            501, "notImplemented", "The fake Gmail does not fake this q: it knows after:EPOCH_SECONDS alone."
        )
    return int(match[1])


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
