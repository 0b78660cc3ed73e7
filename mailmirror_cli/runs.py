"""Syncs and audits as commands, and runs as a person sees them: stage, progress, when it will be done.

Knows: the route of trigger_sync, and what of a mailbox's document says how far its run is. Does not know: how a mailbox
is shown (`mailboxes`). A run belongs to nobody who waits for it: whoever leaves does not end it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from mailmirror_cli.target import Target
from mailmirror_cli.telling import DONE, UNFINISHED, Left, Refused, Telling
from mailmirror_cli.words import line, many, moment, number, trouble, until, when

POLL_SECONDS = 1.0
# For a sync that only catches up: longer than nearly all take.
_WAIT_SECONDS = 50
# What is said beside it matters more.
_BAR_WIDTH = 20


class _Rests(Exception):
    """The run goes on when there is quota again."""


def sync(
    target: Target, tell: Telling, mailbox: str, mode: Literal["incremental", "full", "audit"], *, wait: bool
) -> int:
    """Sync a mailbox now, and wait for the end of the run, if that takes one."""
    waiting = _WAIT_SECONDS if mode == "incremental" and wait else 0
    with left(mailbox), working(tell, f"{mailbox}: asking"):
        answer = target.trigger.ask("POST", _path(mailbox), params={"mode": mode, "wait": waiting}, seconds=120)
    return followed(target, tell, mailbox, answer.content, wait=wait)


def followed(target: Target, tell: Telling, mailbox: str, answer: Mapping[str, Any], *, wait: bool) -> int:
    """Tell what trigger_sync answered, when the run that it names has ended."""
    content = dict(answer)
    rests = ""
    if content["status"] == "running" and content.get("runId") and wait:
        run_id = str(content["runId"])
        try:
            document = _follow(target, tell, mailbox, lambda each: _over(each, run_id))
        except _Rests as reason:
            rests = f" {reason}"
        else:
            run = document["run"] if (document.get("run") or {}).get("id") == run_id else {}
            content |= {"status": "done"} | {name: run[name] for name in _COUNTED if name in run}
            if content["mode"] == "audit":
                content["coverage"] = document.get("coverage")
    done = content["status"] == "done"
    said = f"{mailbox}: {_report(content)}" if done else f"{mailbox} is not finished yet; it goes on by itself.{rests}"
    tell.answer(content, lambda screen: screen.print(line(said), soft_wrap=True))
    return DONE if done else UNFINISHED


def until_synced(target: Target, tell: Telling, mailbox: str) -> tuple[dict[str, Any], int]:
    """Return a mailbox's document, and the exit code, when there is nothing left to do for it, or its run rests."""
    try:
        return _follow(target, tell, mailbox, _at_ease), DONE
    except _Rests as reason:
        tell.note(f"It goes on by itself. {reason}")
        return _document(target, mailbox), UNFINISHED


def active(run: Mapping[str, Any] | None) -> bool:
    """Return whether a run is under way."""
    return bool(run) and not (run or {}).get("finishedAt")


def stage(run: Mapping[str, Any] | None) -> str:
    """Return what a run does just now."""
    if not run:
        return "waiting for a worker"
    if _resting(run):
        return f"rests until {when(run['pausedUntil'])}"
    if run["stage"] == "listing":
        return f"listing, {number(run.get('listed', 0))} so far"
    if run["stage"] == "fetching":
        return f"fetching {number(run.get('done'))} of {number(run.get('total'))}"
    return str(run["stage"])


def eta(run: Mapping[str, Any]) -> str:
    """Return when a run will be done, or nothing."""
    if not run.get("etaAt") or _resting(run):
        return ""
    return f"done in about {until(run['etaAt'])}"


@contextmanager
def left(mailbox: str) -> Iterator[None]:
    """Say what becomes of the work that somebody leaves with Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        raise Left(f"Left; {mailbox} goes on by itself. `mailmirror status {mailbox}` says how far it is.") from None


@contextmanager
def working(tell: Telling, words: str) -> Iterator[None]:
    """Show a person that something is under way."""
    with tell.notes.status(line(words)):
        yield


_COUNTED = ("threadsProcessed", "messagesProcessed")


def _follow(target: Target, tell: Telling, mailbox: str, over: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
    """Show a run until it is over, and return the mailbox's document then."""
    with left(mailbox), _bar(tell) as (bar, task):
        while True:
            document = _document(target, mailbox)
            run = document.get("run") if active(document.get("run")) else None
            told = f"{mailbox}: {stage(run)}, {eta(run) if run else ''}".removesuffix(", ")
            bar.update(
                task,
                description=line(told),
                total=(run or {}).get("total") or None,
                completed=(run or {}).get("done", 0),
            )
            if over(document):
                return document
            _check(document)
            if run and _resting(run):
                raise _Rests(f"The day's Gmail quota is used up: the run {stage(run)}.")
            time.sleep(POLL_SECONDS)


def _document(target: Target, mailbox: str) -> dict[str, Any]:
    return target.manage.ask("GET", f"/mailboxes/{quote(mailbox, safe='@')}").content


def _check(document: Mapping[str, Any]) -> None:
    """Refuse to wait for what does not come by itself."""
    problem = document.get("problem")
    if document["phase"] == "reauth_required" and problem:
        raise Refused(trouble(problem))
    if document["wanted"] != "live":
        raise Refused(f"{document['emailAddress']} was stopped or deleted meanwhile.")


def _over(document: Mapping[str, Any], run_id: str) -> bool:
    run = document.get("run")
    # Another one may have taken its place since: then it is over with that one.
    begun = (run or {}).get("id") == run_id or document.get("requestDone") == run_id
    return begun and not active(run)


def _at_ease(document: Mapping[str, Any]) -> bool:
    request = document.get("request")
    asked = request is not None and request.get("runId") != document.get("requestDone")
    return bool(document.get("cursor")) and not asked and not active(document.get("run"))


def _resting(run: Mapping[str, Any]) -> bool:
    paused = moment(run.get("pausedUntil"))
    return paused is not None and paused > datetime.now(UTC)


def _report(content: Mapping[str, Any]) -> str:
    messages = f"{many(content['messagesProcessed'], 'message')} in {many(content['threadsProcessed'], 'thread')}"
    found = content.get("coverage")
    if not found:
        waiting = f", {number(content['parked'])} parked" if content.get("parked") else ""
        return f"in sync; {messages} fetched{waiting}."
    told = ", ".join(f"{number(found[name])} {name}" for name in ("listed", "mirrored", "missing", "extra", "parked"))
    return f"audited: {told}; {messages} fetched."


@contextmanager
def _bar(tell: Telling) -> Iterator[tuple[Progress, TaskID]]:
    columns = (_Plain("{task.description}"), BarColumn(_BAR_WIDTH, table_column=Column(no_wrap=True)))
    shown = tell.notes.is_terminal
    with Progress(*columns, console=tell.notes, transient=True, disable=not shown) as bar:
        yield bar, bar.add_task("", total=None)


class _Plain(TextColumn):
    """A column without markup, which a mailbox's address is not, and over several lines before it is cut."""

    def __init__(self, text_format: str) -> None:
        super().__init__(text_format, markup=False, table_column=Column(overflow="fold"))


def _path(mailbox: str) -> str:
    return f"/mailboxes/{quote(mailbox, safe='@')}/sync"
