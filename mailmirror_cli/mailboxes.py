"""Mailboxes: connect, list, status, stop and delete, as commands.

Knows: the routes of manage_mailboxes, and what of a mailbox's document says that it is well. Does not know: how a run
is followed (`runs`).
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mailmirror_cli import runs
from mailmirror_cli.rows import Column, Rows
from mailmirror_cli.target import Target
from mailmirror_cli.telling import DONE, REFUSED, UNFINISHED, Left, Refused, Telling
from mailmirror_cli.words import length, line, many, number, trouble, until, when

REDRAW_SECONDS = 2.0
_COLUMNS = (
    Column("mailbox"),
    Column("phase"),
    Column("messages", right=True),
    Column("parked", right=True),
    Column("lag", right=True),
    Column("problem", long=True),
)
# As long as stop and delete may wait for another worker.
_WAIT_SECONDS = 50
_STYLES = {"live": "green", "backfilling": "cyan", "connecting": "cyan", "recovering": "cyan", "throttled": "yellow"}


def connect(target: Target, tell: Telling, mailbox: str, *, policy: str | None, wait: bool) -> int:
    """Connect a mailbox, and wait for what that begins."""
    body = None if policy is None else {"policy": read_policy(policy)}
    answer = target.manage.ask("PUT", path(mailbox), body=body)
    document, code = answer.content, DONE
    if wait:
        tell.note(f"{mailbox} is {'connected' if answer.code == 201 else 'connected already'}.")
        document, code = runs.until_synced(target, tell, mailbox)
    tell.answer(document, lambda screen: screen.print(_details(document)))
    return code


def listing(target: Target, tell: Telling) -> int:
    """List all mailboxes."""
    documents = everyone(target)

    def show(screen: Console) -> None:
        for each in documents:
            screen.print(f"{line(each['emailAddress'])}  {each['phase']}", soft_wrap=True)

    tell.answer({"mailboxes": documents}, show)
    return DONE


def status(target: Target, tell: Telling, mailbox: str | None, *, watch: bool) -> int:
    """Say how one mailbox is, or all; again and again until Ctrl-C if watched."""
    if watch and tell.as_json:
        raise typer.BadParameter("--watch is for people: a program asks again.")
    if not watch:
        documents = _documents(target, mailbox)
        content = {"mailboxes": documents} if mailbox is None else documents[0]
        tell.answer(content, lambda screen: screen.print(_shown(documents, mailbox)))
        return REFUSED if any(each.get("problem") for each in documents) else DONE
    try:
        with _drawing(tell.screen) as draw:
            while True:
                draw(_shown(_documents(target, mailbox), mailbox))
                time.sleep(REDRAW_SECONDS)
    except KeyboardInterrupt:
        raise Left("The mailboxes go on by themselves.") from None


def stop(target: Target, tell: Telling, mailbox: str) -> int:
    """Stop a mailbox."""
    answer = target.manage.ask("POST", f"{path(mailbox)}/stop", params={"wait": _WAIT_SECONDS}, seconds=120)
    said = (
        f"{mailbox} is stopped; what was mirrored is kept. `mailmirror connect {mailbox}` goes on."
        if answer.code == 200
        else f"{mailbox} stops as soon as the worker that has it ends."
    )
    tell.answer(answer.content, lambda screen: screen.print(said, soft_wrap=True))
    return DONE if answer.code == 200 else UNFINISHED


def delete(target: Target, tell: Telling, mailbox: str, *, agreed: bool) -> int:
    """Delete the mirror of a mailbox, if that is agreed or somebody at a terminal agrees."""
    if not agreed:
        _agree(target, mailbox)
    answer = target.manage.ask("DELETE", path(mailbox), params={"wait": _WAIT_SECONDS}, seconds=120)
    content = answer.content
    counted = content if answer.code == 200 else content.get("purge") or {}
    deleted = f"{many(counted.get('documents') or 0, 'document')} and {many(counted.get('objects') or 0, 'object')}"
    said = (
        f"The mirror of {mailbox} is deleted: {deleted}. Gmail keeps its mail."
        if answer.code == 200
        else f"The mirror of {mailbox} is being deleted, so far {deleted}. It goes on by itself."
    )
    tell.answer(content, lambda screen: screen.print(said, soft_wrap=True))
    return DONE if answer.code == 200 else UNFINISHED


def path(mailbox: str) -> str:
    """Return where a mailbox is on any of the functions."""
    return f"/mailboxes/{quote(mailbox, safe='@')}"


def everyone(target: Target) -> list[dict[str, Any]]:
    """Return the documents of all mailboxes, page by page."""
    found: list[dict[str, Any]] = []
    token = None
    while True:
        page = target.manage.ask("GET", "/mailboxes", params={"pageToken": token}).content
        found += page["mailboxes"]
        token = page.get("nextPageToken")
        if not token:
            return found


def at_terminal() -> bool:
    """Return whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def read_policy(text: str) -> Mapping[str, Any]:
    """Return the policy that is in a file, or is written out.

    Raises:
        typer.BadParameter: it is no JSON object.
    """
    try:
        written = text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8")
        wish = json.loads(written, parse_constant=_no_number)
    except OSError as error:
        raise typer.BadParameter(f"--policy: {text} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise typer.BadParameter("--policy must be a JSON object, or a file with one.") from None
    inner = wish.get("policy", wish) if isinstance(wish, dict) and wish.keys() == {"policy"} else wish
    if not isinstance(inner, dict):
        raise typer.BadParameter('--policy must be a JSON object, such as {"newestDays": 90}.')
    return inner


def _no_number(word: str) -> None:
    """NaN and Infinity, which Python reads and JSON has not."""
    raise ValueError(word)


def _documents(target: Target, mailbox: str | None) -> list[dict[str, Any]]:
    return everyone(target) if mailbox is None else [target.manage.ask("GET", path(mailbox)).content]


@contextmanager
def _drawing(screen: Console) -> Iterator[Callable[[RenderableType], object]]:
    """Draw over what was drawn before, or, where nothing can be drawn over, below it."""
    if not screen.is_terminal:
        yield screen.print
        return
    with Live(console=screen, auto_refresh=False) as live:
        yield lambda shown: live.update(shown, refresh=True)


def _agree(target: Target, mailbox: str) -> None:
    if not at_terminal():
        raise Refused("Nothing was deleted: there is no terminal to ask at. Say --yes if that is what you want.")
    counts = target.manage.ask("GET", path(mailbox)).content.get("counts") or {}
    what = f"the mirror of {mailbox} at {target.manage.address}, {many(counts.get('messages', 0), 'message')}"
    try:
        agreed = typer.confirm(f"Delete {what}? Gmail keeps its mail.", err=True)
    except typer.Abort:
        raise Left("Nothing was deleted.") from None
    if not agreed:
        raise Refused("Nothing was deleted.", "CANCELLED", 499)


def _shown(documents: Sequence[Mapping[str, Any]], mailbox: str | None) -> RenderableType:
    return _table(documents) if mailbox is None else _details(documents[0])


def _table(documents: Sequence[Mapping[str, Any]]) -> RenderableType:
    if not documents:
        return Text("No mailbox is connected.")
    rows = []
    for each in documents:
        counts, problem, run = each.get("counts") or {}, each.get("problem"), each.get("run")
        told = trouble(problem) if problem else runs.stage(run) if runs.active(run) else ""
        row = (
            line(each["emailAddress"]),
            _phase(each),
            number(counts.get("messages")),
            number(counts.get("parked")),
            _lag(each),
            Text(line(told), style="red" if problem else ""),
        )
        rows.append(row)
    return Rows(_COLUMNS, rows)


def _details(document: Mapping[str, Any]) -> RenderableType:
    counts, run, coverage = (document.get(name) or {} for name in ("counts", "run", "coverage"))
    watch, problem = document.get("watch") or {}, document.get("problem")
    rows: list[tuple[str, str | Text]] = [
        ("mailbox", line(document["emailAddress"])),
        ("phase", _phase(document)),
        ("messages", f"{number(counts.get('messages'))} in {many(counts.get('threads', 0), 'thread')}"),
        ("parked", number(counts.get("parked"))),
        ("lag", _lag(document)),
        ("last sync", when(document.get("lastSyncAt"))),
    ]
    if runs.active(run):
        rows.append(("run", f"{run['mode']}, {runs.stage(run)}, {runs.eta(run)}".removesuffix(", ")))
    if document.get("phase") == "throttled":
        rows.append(("throttled", f"for {until(document.get('throttledUntil'))} more"))
    if coverage:
        told = " ".join(f"{number(coverage[name])} {name}," for name in ("listed", "mirrored", "missing", "extra"))
        rows.append(("last run", f"{told} at {when(coverage['at'])}"))
    if watch.get("error"):
        rows.append(("watch", Text(line(watch["error"]), style="yellow")))
    if problem:
        since = f" (since {when(problem['since'])})" if problem.get("since") else ""
        rows.append(("problem", Text(line(problem["message"]) + since, style="red")))
        rows.append(("to do", Text(line(problem["action"]))))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for name, value in rows:
        table.add_row(name, value)
    return Group(table)


def _phase(document: Mapping[str, Any]) -> Text:
    phase = str(document.get("phase"))
    return Text(phase, style="red" if document.get("problem") else _STYLES.get(phase, ""))


def _lag(document: Mapping[str, Any]) -> str:
    return length(document.get("lag"))
