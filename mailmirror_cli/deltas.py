"""The delta log as a command: what changed, page by page or as it comes.

Knows: the routes of the log, and that its cursor is where one goes on. Does not know: what a cursor says.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from rich.console import Console

from mailmirror_cli.mailboxes import path
from mailmirror_cli.target import Target
from mailmirror_cli.telling import DONE, Left, Telling
from mailmirror_cli.words import line, when
from mailmirror_client.service import Params, ServiceError

# How long one answer may be waited for, and how many deltas it may have.
_WAIT_SECONDS = 30
_PAGE = 100

_WORDS = {"messageAdded": "added", "messageDeleted": "deleted", "labelsChanged": "labels"}


def deltas(
    target: Target,
    tell: Telling,
    mailbox: str,
    *,
    cursor: str | None,
    types: str | None,
    origin: str | None,
    limit: int | None,
    follow: bool,
) -> int:
    """List deltas after a cursor, or follow the log from there, from now on if no cursor is said."""
    wanted = {"types": types, "origin": origin}
    if follow:
        return _follow(target, tell, mailbox, cursor, wanted, limit)
    params: Params = {"cursor": cursor, "limit": limit, "wait": 0, **wanted}
    content = target.read.ask("GET", f"{path(mailbox)}/deltas", params=params).content

    def show(screen: Console) -> None:
        for each in content["deltas"]:
            _show(screen, each)
        if not content["deltas"]:
            screen.print("No delta is like that." if cursor is None else "Nothing after this cursor.")
        tell.note(f"{'There are more' if content['more'] else 'That is all'}: go on with --cursor={content['cursor']}")

    tell.answer(content, show)
    return DONE


def _follow(
    target: Target,
    tell: Telling,
    mailbox: str,
    cursor: str | None,
    wanted: dict[str, str | None],
    limit: int | None,
) -> int:
    """Give each delta as it comes, until Ctrl-C or so many."""
    where = cursor
    try:
        if where is None:
            where = str(target.read.ask("GET", f"{path(mailbox)}/deltas/latest-cursor").content["cursor"])
            tell.note(f"From now on; Ctrl-C ends it. To go on from here: --cursor={where}")
        left = limit
        while left is None or left > 0:
            params: Params = {"cursor": where, "limit": min(_PAGE, left or _PAGE), "wait": _WAIT_SECONDS, **wanted}
            page = target.read.ask("GET", f"{path(mailbox)}/deltas", params=params, seconds=_WAIT_SECONDS + 60).content
            for each in page["deltas"]:
                tell.line(each, partial(_show, delta=each))
                where = str(each["cursor"])
            where = str(page["cursor"])
            left = None if left is None else left - len(page["deltas"])
    except KeyboardInterrupt:
        raise Left("" if where is None else f"To go on from here: --cursor={where}") from None
    except ServiceError:
        if where is not None:
            tell.note(f"To go on from here: --cursor={where}")
        raise
    return DONE


def _show(screen: Console, delta: Mapping[str, Any]) -> None:
    for text in _lines(delta):
        screen.print(text, soft_wrap=True)


def _lines(delta: Mapping[str, Any]) -> Iterator[str]:
    for change in delta["changes"]:
        labels = " ".join(
            [*(f"+{each}" for each in change["labelsAdded"]), *(f"-{each}" for each in change["labelsRemoved"])]
        )
        what = _WORDS.get(change["type"], change["type"])
        yield line(
            f"{when(delta['at'])} {delta['seq']} {delta['origin']} {what} {change['messageId']} "
            f"in {change['threadId']} {labels}"
        )
