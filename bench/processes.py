"""The processes that are measured: a function as it is deployed, the fake Gmail beside it, and what each of them took.

Knows: how a function is started and asked, on SQLite; and what Linux tells about a process. Does not know: what is
measured. Both end with this process, however it ends.
"""

import base64
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from mailmirror.adapters.sqlite import SqliteStore
from mailmirror.model import Mailbox, MailboxId, Watch

from bench.gmail import address
from local.process import REPOSITORY, Process, free_ports
from local.stack import call

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
# Longer than anything here takes.
_PATIENCE_SECONDS = 1800


@contextmanager
def folder() -> Iterator[Path]:
    """Give an empty folder: in memory where the machine offers that, because no disk is to be measured."""
    shared = Path("/dev/shm")  # noqa: S108 -- a folder of its own is made in it
    made = Path(tempfile.mkdtemp(prefix="mailmirror-bench-", dir=shared if shared.is_dir() else None))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def fake_gmail(
    home: Path, messages: Sequence[int], *, cold: bool = False, request: float = 0.0, message: float = 0.0
) -> Iterator[str]:
    """Give the root of a Gmail with so many messages in each mailbox, and with these latencies in seconds."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "bench.gmail", "--port", str(port)]
    command += [word for count in messages for word in ("--mailbox", str(count))]
    command += ["--request-latency", str(request), "--message-latency", str(message), *(["--cold"] if cold else [])]
    root = f"http://127.0.0.1:{port}/"
    with _running(Process("gmail", command, env=environment(), log=home / "gmail.log", ready_url=root)):
        yield root


@contextmanager
def broker(home: Path, topic: str) -> Iterator[str]:
    """Give the host of a Pub/Sub that has a topic of project `bench`, to which nobody has subscribed."""
    (port,) = free_ports(1)
    host = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "local.pubsub", "--port", str(port)]
    with _running(Process("pubsub", command, env=environment(), log=home / "pubsub.log", ready_url=f"http://{host}/")):
        call("PUT", f"http://{host}/v1/projects/bench/topics/{topic}", {})
        yield host


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process took so far: seconds of CPU, and the most memory it ever had, in MB."""

    cpu: float
    peak: float


class Function:
    """`run_work` as it is deployed, in a process of its own, with one SQLite file."""

    def __init__(self, port: int, path: Path) -> None:
        """Remember where it listens and where it writes."""
        self.path = path
        self._port = port

    def connect(self, mailboxes: int) -> list[MailboxId]:
        """Connect so many mailboxes of the fake Gmail, and leave everything else to the work."""
        names = [address(number) for number in range(mailboxes)]
        now = datetime.now(UTC)
        with SqliteStore(self.path) as store:
            for name in names:
                store.create_mailbox(Mailbox(name, created_at=now, watch=Watch(now), next_due_at=now))
        return names

    def sync(self, mailbox: MailboxId) -> Mailbox:
        """Push one work message, wait until it is acknowledged, and return the mailbox as it is then."""
        body = push({"mailbox": mailbox, "task": "sync"})
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(f"http://127.0.0.1:{self._port}/", data=body, timeout=_PATIENCE_SECONDS)
        answer.raise_for_status()
        with SqliteStore(self.path) as store:
            found = store.mailbox(mailbox)
        assert found is not None
        return found

    def usage(self) -> Usage:
        """Return what the process took that answers requests."""
        found = _listening_with(self._port)
        # The server's master is a process too; it only starts the worker.
        (worker,) = (each for each in found if _parent(each) in found)
        return _usage(worker)


@contextmanager
def function(home: Path, gmail: str) -> Iterator[Function]:
    """Give `run_work`, started and ready."""
    (port,) = free_ports(1)
    path = home / f"mirror-{port}.sqlite"
    command = [sys.executable, "-m", "functions_framework", "--target", "run_work"]
    command += ["--source", str(REPOSITORY / "functions" / "main.py"), "--host", "127.0.0.1", "--port", str(port)]
    env = environment() | settings(path, gmail) | {"WORKERS": "1", "THREADS": "4", "STEP_SECONDS": "100000"}
    ready = f"http://127.0.0.1:{port}/robots.txt"
    with _running(Process("run_work", command, env=env, log=home / f"run_work-{port}.log", ready_url=ready)):
        yield Function(port, path)
    path.unlink(missing_ok=True)


def settings(path: Path, gmail: str) -> dict[str, str]:
    """Return the configuration of a function that reads a fake Gmail without quota into a SQLite file."""
    return {
        "GOOGLE_CLOUD_PROJECT": "bench",
        "GMAIL_AUTH": "none",
        "GMAIL_API_ROOT": gmail,
        "GMAIL_TOPIC": "projects/bench/topics/gmail-notifications",
        "WORK_TOPIC": "projects/bench/topics/mailbox-work",
        "GMAIL_UNITS_PER_MINUTE": "999999999",
        "MAILMIRROR_STORE": f"sqlite:{path}",
    }


def push(data: Mapping[str, Any]) -> bytes:
    """Return the body of a push."""
    encoded = base64.b64encode(json.dumps(data).encode()).decode()
    return json.dumps({"message": {"data": encoded, "messageId": "1"}, "subscription": "bench"}).encode()


def measurable() -> bool:
    """Whether this machine tells what another process took."""
    return (_PROC / "self" / "status").exists()


@contextmanager
def _running(process: Process) -> Iterator[None]:
    process.start()
    try:
        process.wait_until_ready()
        yield
    finally:
        process.kill()


def environment() -> dict[str, str]:
    """Return nothing of the shell that starts this but what Python needs: no project, no credentials, no proxy."""
    paths = os.pathsep.join((str(REPOSITORY / "functions"), str(REPOSITORY)))
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"PYTHONPATH": paths, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}


def _listening_with(port: int) -> list[int]:
    """The Python processes whose command names this port: the server's master and its worker."""
    found = []
    for each in _PROC.iterdir():
        if each.name.isdecimal():
            try:
                words = (each / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"functions_framework" in words and str(port).encode() in words and words[0] != b"/bin/sh":
                found.append(int(each.name))
    return found


def _usage(pid: int) -> Usage:
    fields = _fields(pid)
    peak = re.search(r"VmHWM:\s+(\d+) kB", (_PROC / str(pid) / "status").read_text())
    return Usage((int(fields[13]) + int(fields[14])) / _TICKS, int(peak[1]) / 1000 if peak else 0.0)


def _parent(pid: int) -> int:
    return int(_fields(pid)[3])


def _fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat, counted from 0; the second is a name that may hold anything, and left out."""
    return ["", "", *(_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()]
