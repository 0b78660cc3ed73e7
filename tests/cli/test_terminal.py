"""The command at terminals of all kinds: narrow ones, old ones, none; Ctrl-C at a question; a disk that is full."""

import errno
import io
import json
import os
import subprocess
import sys
from typing import Any

import pytest
import typer
from flask import Response
from rich.console import Console
from typer.testing import CliRunner

from mailmirror_cli import mailboxes, runs
from mailmirror_cli.__main__ import cli
from mailmirror_cli.rows import Column, Rows
from mailmirror_cli.target import VARIABLES
from mailmirror_cli.telling import Telling
from tests.cli.conftest import Run
from tests.cli.functions import Functions
from tests.world import ADA, mail

_EVIL = "\x1b[31m \x9b2J \u202e \u061c \ud800 \u20ac"
_WIDE = 4000
_COLUMNS = (Column("id"), Column("who", long=True), Column("subject", long=True), Column("messages", right=True))


def drawn(width: int, *rows: tuple[str, ...]) -> list[str]:
    """What rows look like in a terminal of this width."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, highlight=False)
    console.print(Rows(_COLUMNS, rows))
    output = console.file
    assert isinstance(output, io.StringIO)
    return [line.rstrip() for line in output.getvalue().splitlines()]


# Nothing is hidden


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, _WIDE])
def test_no_width_hides_anything(width: int) -> None:
    """Ids stay whole, so that they can be pasted; a title has a line that it can be read in."""
    rows = [(f"1a1faf8a6cbac1f{n}", "The Weekly Digest, " * n, "Die Prüfung der Anlage " * n, "3") for n in range(1, 4)]
    lines = drawn(width, *rows)
    assert all(len(line) <= width for line in lines)
    for message_id, who, subject, _ in rows:
        assert any(message_id in line for line in lines)
        assert "…" not in "".join(lines)
        for word in (*who.split(), *subject.split()):
            assert any(word in line for line in lines)
    assert len(lines) == 4 or width < 140


def test_the_threads_of_a_narrow_terminal(ask: Run, functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    """In 60 columns each thread has its title, and its id as a whole."""
    monkeypatch.setattr("mailmirror_cli.telling._PIPED_WIDTH", 60)
    source = (
        f"From: The Society of Long Names <long@example.com>\r\nTo: {ADA}\r\nSubject: The next meeting\r\n\r\nHi.\r\n"
    )
    functions.world.ada.deliver(source.encode())
    ask("connect", ADA)
    shown = ask("threads", ADA).stdout
    for thread in json.loads(ask("threads", ADA, "--json").stdout)["threads"]:
        assert thread["subject"] in shown
        assert thread["messageIds"][-1] in shown


def test_who_is_in_a_thread_is_not_cut(ask: Run, functions: Functions) -> None:
    """What is piped has all of them, for grep."""
    name = "A very long name indeed that nobody should have"
    source = f"From: {name} <long@example.com>\r\nTo: {ADA}\r\nSubject: Hello\r\n\r\nHi.\r\n"
    functions.world.ada.deliver(source.encode())
    ask("connect", ADA)
    assert name in ask("threads", ADA).stdout


def test_progress_in_a_narrow_terminal() -> None:
    """How far a run is, and when it will be done, are there as a whole."""
    tell = Telling(as_json=False)
    tell.notes = Console(file=io.StringIO(), width=45, force_terminal=True, color_system=None)
    said = f"{ADA}: fetching 559 of 600, done in about 5 s"
    with runs._bar(tell) as (bar, task):
        bar.update(task, description=said, total=600, completed=559)
        with tell.notes.capture() as captured:
            tell.notes.print(bar.get_renderable())
    drawn = captured.get()
    assert "…" not in drawn
    assert all(word in drawn for word in said.split())


def test_a_terminal_that_becomes_narrower(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn again and again is drawn for the terminal as it is by then."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    columns = 70
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((columns, 30)))
    tell = Telling(as_json=False)
    assert tell.notes.width == 70
    columns = 45
    assert (tell.screen.width, tell.notes.width) == (45, 45)


def test_watching_without_a_terminal(ask: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is piped gets each state when it is known, not the last one at the end."""
    ask("connect", ADA)
    states: list[float] = []

    def wait(seconds: float) -> None:
        states.append(seconds)
        if len(states) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("mailmirror_cli.mailboxes.time.sleep", wait)
    result = ask("status", ADA, "--watch")
    assert result.exit_code == 130
    assert result.stdout.count(ADA) == 3


def test_a_problem_is_two_sentences(ask: Run, functions: Functions) -> None:
    """Gmail's words end without a full stop; what to do begins with a capital."""
    ask("connect", ADA)
    document = json.loads(ask("status", ADA, "--json").stdout)
    document["problem"] = {"code": "X", "message": "Invalid Credentials", "action": "Give access.", "since": None}
    functions.take = lambda request: Response(json.dumps({"mailboxes": [document]}))
    assert "Invalid Credentials. Give access." in ask("status").stdout


# What a terminal would obey, and what it cannot show


def test_json_has_nothing_that_a_terminal_would_obey(ask: Run, functions: Functions) -> None:
    """It is the same JSON, with these characters in their escaped form."""
    answer = json.dumps({"threads": [{"subject": _EVIL}]})
    functions.take = lambda request: Response(answer)
    told = ask("threads", ADA, "--json").stdout
    assert json.loads(told)["threads"] == [{"subject": _EVIL}]
    assert not set(_EVIL) - {"€", " ", "[", "3", "1", "m", "2", "J"} & set(told)
    assert "€" in told


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_letters_that_cannot_be_shown(ask: Run, functions: Functions, encoding: str) -> None:
    """In an old terminal they are question marks, and the rest is there."""
    functions.world.ada.deliver(mail("予約 Hello"))
    ask("connect", ADA)
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "mailmirror_cli", "threads", ADA]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert ("予約 Hello" if encoding == "utf-8" else "?? Hello") in done.stdout.decode(encoding)


# What stops it


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_ctrl_c_at_the_question(ask: Run, functions: Functions, monkeypatch: pytest.MonkeyPatch, words: Any) -> None:
    """Whoever leaves at the question has deleted nothing, is told so, and 130 says it."""
    ask("connect", ADA)
    monkeypatch.setattr(mailboxes, "at_terminal", lambda: True)
    questions = []

    def press(question: str, **_: Any) -> bool:
        questions.append(question)
        raise typer.Abort

    monkeypatch.setattr(typer, "confirm", press)
    result = ask("delete", ADA, *words)
    assert result.exit_code == 130
    assert "Nothing was deleted." in (result.stdout if words else result.stderr)
    assert functions.world.store.mailbox(ADA) is not None
    # It says which deployment it is about.
    assert os.environ[VARIABLES["manage_mailboxes"]] in questions[0]


def test_a_policy_without_numbers(ask: Run, functions: Functions) -> None:
    """NaN is no JSON: wrong usage, at once."""
    result = ask("connect", ADA, '--policy={"newestDays": NaN}')
    assert result.exit_code == 2
    assert functions.asked == []


def test_an_address_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an address is wrong usage, in a sentence that names the variable."""
    monkeypatch.setenv(VARIABLES["manage_mailboxes"], "https://[::1")
    result = CliRunner().invoke(cli, ["list"], catch_exceptions=False)
    assert result.exit_code == 2
    assert VARIABLES["manage_mailboxes"] in result.stderr


def test_a_region_means_a_deployment(ask: Run, functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said on the command line it counts more than addresses in the environment: those are not asked instead."""
    monkeypatch.delenv("MAILMIRROR_PROJECT", raising=False)
    result = ask("delete", ADA, "--yes", "--region=europe-west1")
    assert result.exit_code == 2
    assert "--project" in result.stderr
    assert functions.asked == []


def test_a_full_disk(ask: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that cannot be written is told in a sentence."""
    echo = typer.echo

    def full(message: str, *, err: bool = False) -> None:
        if not err:
            raise OSError(errno.ENOSPC, "No space left on device")
        echo(message, err=True)

    monkeypatch.setattr(typer, "echo", full)
    result = ask("list", "--json")
    assert (result.exit_code, result.stderr) == (1, "This machine did not go along: No space left on device.\n")
