"""Parked messages as a command: what could not be mirrored, why, and trying again.

Knows: the routes about them. Does not know: when one is parked.
"""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from mailmirror_cli.mailboxes import path
from mailmirror_cli.rows import Column, Rows
from mailmirror_cli.runs import left, working
from mailmirror_cli.target import Target
from mailmirror_cli.telling import DONE, UNFINISHED, Telling
from mailmirror_cli.words import line, many, number, when
from mailmirror_client.service import Params

_WAIT_SECONDS = 50
_COLUMNS = (
    Column("message"),
    Column("attempts", right=True),
    Column("first"),
    Column("next try"),
    Column("reason", long=True),
)


def parked(target: Target, tell: Telling, mailbox: str, *, retry: bool) -> int:
    """List a mailbox's parked messages, after one more try of all of them if that is asked for."""
    tried: dict[str, Any] = {}
    if retry:
        params: Params = {"mode": "incremental", "retryParked": True, "wait": _WAIT_SECONDS}
        with left(mailbox), working(tell, f"{mailbox}: trying again"):
            answer = target.trigger.ask("POST", f"{path(mailbox)}/sync", params=params, seconds=120)
        tried = {"status": answer.content["status"]}
    content = tried | target.manage.ask("GET", f"{path(mailbox)}/parked").content
    tell.answer(content, lambda screen: _show(screen, mailbox, content))
    return UNFINISHED if content.get("status") == "running" else DONE


def _show(screen: Console, mailbox: str, content: Mapping[str, Any]) -> None:
    documents, total = content["parked"], content["total"]
    if content.get("status") == "running":
        screen.print("Not all were tried yet; it goes on by itself.")
    if not documents:
        screen.print(f"No message of {mailbox} is parked.")
        return
    rows = [
        (
            line(each["id"]),
            number(each["attempts"]),
            when(each["firstAt"]),
            when(each["nextAttemptAt"]),
            line(each["reason"]),
        )
        for each in documents
    ]
    screen.print(Rows(_COLUMNS, rows))
    if total > len(documents):
        screen.print(f"{many(total, 'message')} are parked; these are tried first.")
