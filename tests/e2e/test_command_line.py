"""README's section "Command line", every line of it as a person types it, with the functions as processes."""

import base64
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from random import Random
from sqlite3 import connect
from typing import Any

import pytest

from local import mail
from local.demo import FIRST_DAY, LAST_DAY
from local.owner import MAILBOX, Owner
from local.stack import Settings, Stack, call
from mailmirror_cli.target import VARIABLES
from tests.test_readme import section

COMMAND = str(Path(sys.executable).parent / "mailmirror")
README_MAILBOX, README_MESSAGE = "ada@example.com", "18f2c5d0a1b2c3d4"
MESSAGES = 40
LIMIT = 60.0
BLOCKS = re.findall(r"```sh\n(.*?)```", section("Command line"), re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines() if line.startswith("mailmirror ")]
# Not about this machine, or not ending by themselves; each has a test of its own.
ELSEWHERE = [line for line in LINES if "--project=" in line]
ENDLESS = [line for line in LINES if line.endswith(("--watch", "--follow"))]
ENDING = [line for line in LINES if line not in (*ELSEWHERE, *ENDLESS)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a mailbox that is mirrored."""
    with Stack(Settings(tmp_path_factory.mktemp("cli"), seed=5, sweep_seconds=0.5)) as stack:
        call("POST", f"{stack.gmail}/control/mailboxes", {"emailAddress": MAILBOX})
        made_up = mail.made_up(Random(5), MESSAGES, MESSAGES // 2, start=FIRST_DAY, end=LAST_DAY)
        Owner(stack.gmail, Random(5), iter(())).receive(list(islice(made_up, MESSAGES)))
        done = command(stack, "connect", MAILBOX, "--json")
        assert (done.returncode, json.loads(done.stdout)["phase"]) == (0, "live")
        yield stack


def environment(stack: Stack) -> dict[str, str]:
    """What `make dev` prints, and nothing else of the command's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAILMIRROR_", "GOOGLE_"))}
    return kept | {variable: stack.url(name) for name, variable in VARIABLES.items()}


def start(stack: Stack, *words: str, **more: Any) -> "subprocess.Popen[str]":
    """Start the command beside the stack's files, where there is a policy.json."""
    folder = stack.settings.directory
    (folder / "policy.json").write_text('{"policy": {"drafts": false}}')
    return subprocess.Popen([COMMAND, *words], text=True, cwd=folder, env=environment(stack), **more)


def command(stack: Stack, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    streams: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE) | {"stdin": subprocess.DEVNULL}
    with start(stack, *words, **streams) as process:
        out, err = process.communicate(timeout=LIMIT)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def words(stack: Stack, line: str) -> list[str]:
    """A line of README as words, with this stack's mailbox and the id of a message that has HTML."""
    assert stack.sqlite is not None
    with closing(connect(stack.sqlite)) as database:
        query = "SELECT id, data FROM documents WHERE collection = ?"
        rows = database.execute(query, (f"mailboxes/{MAILBOX}/messages",)).fetchall()
    html = next((name for name, data in rows if json.loads(data)["body"]["html"]), README_MESSAGE)
    return shlex.split(line.replace(README_MAILBOX, MAILBOX).replace(README_MESSAGE, html))[1:]


@pytest.mark.parametrize("line", ENDING)
def test_a_line_of_readme(stack: Stack, line: str) -> None:
    """It ends well and says something; with `--json` it prints one object and nothing else."""
    typed = words(stack, line)
    done = command(stack, *typed)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert done.stdout.strip()
    assert "\x1b" not in done.stdout
    told = command(stack, *typed, "--json")
    assert (told.returncode, told.stderr) == (0, "")
    assert isinstance(json.loads(told.stdout), dict)


@pytest.mark.parametrize("line", ELSEWHERE)
def test_a_line_about_a_deployment(stack: Stack, line: str) -> None:
    """Its command and options exist; what they do is tested with a stand-in for Google."""
    done = command(stack, *shlex.split(line)[1:], "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--project" in done.stdout


def test_there_are_endless_lines_of_two_kinds() -> None:
    """The tests below are about all lines that do not end by themselves."""
    assert len(ENDLESS) == 2
    assert LINES.index(ENDLESS[1]) < LINES.index(next(line for line in LINES if " stop " in line))


def _reconnect(stack: Stack) -> None:
    done = command(stack, "connect", MAILBOX, "--json")
    assert done.returncode == 0, done.stdout


def test_following_deltas(stack: Stack) -> None:
    """New mail comes as a line, which is an object with `--json`; Ctrl-C ends it with the place to go on from."""
    _reconnect(stack)
    (line,) = (line for line in ENDLESS if "--follow" in line)
    with start(stack, *words(stack, line), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "From now on" in process.stderr.readline()
        _deliver(stack, "Followed")
        assert " live added " in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    cursor = re.search(r"--cursor=(\S+)", err)
    assert cursor is not None
    _deliver(stack, "Later")
    following = *words(stack, line), f"--cursor={cursor[1]}", "--limit=1", "--json"
    done = command(stack, *following)
    assert done.returncode == 0
    (delta,) = map(json.loads, done.stdout.splitlines())
    assert [change["type"] for change in delta["changes"]] == ["messageAdded"]


def test_watching_a_mailbox(stack: Stack) -> None:
    """At a terminal it is drawn again until Ctrl-C."""
    _reconnect(stack)
    (line,) = (line for line in ENDLESS if "--watch" in line)
    master, slave = pty.openpty()
    with start(stack, *words(stack, line), stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        seen = ""
        give_up = time.monotonic() + LIMIT
        while seen.count("phase") < 2 and time.monotonic() < give_up:
            seen += os.read(master, 4096).decode()
        process.send_signal(signal.SIGINT)
        process.wait(timeout=LIMIT)
    os.close(master)
    assert seen.count("phase") == 2
    assert process.returncode == 130


def test_leaving_a_run_does_not_end_it(stack: Stack) -> None:
    """A full sync that nobody waits for is not finished, and goes on by itself."""
    _reconnect(stack)
    done = command(stack, "sync", MAILBOX, "--full", "--no-wait", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["status"]) == (3, "running")
    give_up = time.monotonic() + LIMIT
    while time.monotonic() < give_up:
        run = json.loads(command(stack, "status", MAILBOX, "--json").stdout)["run"]
        if run["id"] == told["runId"] and run["finishedAt"]:
            break
    assert run["id"] == told["runId"]
    assert run["messagesProcessed"] >= MESSAGES


def _deliver(stack: Stack, subject: str) -> None:
    source = f"From: bob@example.com\r\nTo: {MAILBOX}\r\nSubject: {subject}\r\n\r\nHi\r\n".encode()
    raw = base64.urlsafe_b64encode(source).decode()
    call("POST", f"{stack.gmail}/control/mailboxes/{MAILBOX}/deliver", {"messages": [{"raw": raw}]})
