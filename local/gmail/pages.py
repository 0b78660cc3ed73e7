"""Page tokens.

It knows how to put a position into an opaque string and how to read it back. It does not know what the positions mean.
A token lives until the generation it belongs to is over.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from local.gmail.errors import invalid_argument

Position = list[int | str]

MAX_PAGE = 500
DEFAULT_PAGE = 100


def page_size(max_results: int | None) -> int:
    """Gmail's rule: 100 unless told, at most 500 whatever is asked."""
    if max_results is not None and max_results < 0:
        raise invalid_argument("Invalid maxResults: it must not be negative.")
    return min(max_results or DEFAULT_PAGE, MAX_PAGE)


def write_token(kind: str, generation: int, position: Sequence[int | str]) -> str:
    """A token of one kind of listing, opaque to the caller."""
    text = json.dumps([kind, generation, *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_token(token: str, kind: str, generation: int, length: int) -> Position:
    """The position in a token; garbage, a token of another listing and one that expired are refused alike."""
    try:
        fields = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except ValueError:
        fields = None
    if not isinstance(fields, list) or fields[:2] != [kind, generation] or len(fields) != 2 + length:
        raise invalid_argument("Invalid pageToken")
    return fields[2:]
