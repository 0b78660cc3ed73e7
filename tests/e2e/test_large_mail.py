"""A message of 50 MB in a function of 256 MB: the deployed `run_work` in a process of its own, fake Gmail and Cloud
Storage over HTTP, SQLite and Google's Firestore emulator.

What counts is the memory of the instance: the most that the process ever had which answers requests, and what its
server's master has for itself. Messages come one after the other, so that what one leaves behind counts for the next.
"""

import gzip
import json
import re
import sys
import uuid
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests
from google.cloud import storage
from mailmirror.adapters.sqlite import SqliteStore
from mailmirror.model import Mailbox, Watch
from mailmirror.ports import Store

from bench.processes import environment
from local.process import REPOSITORY, Process, free_ports
from local.stack import call
from tests.contract.buckets import client_of, in_a_process
from tests.contract.worker import opened
from tests.world import push

ADA = "ada@example.com"
BUCKET = "mailmirror-bodies"
SIZE = 50_000_000
LIMIT_MB = 256
PROC = Path("/proc")

pytestmark = [
    pytest.mark.skipif(not (PROC / "self" / "clear_refs").exists(), reason="This machine has no /proc."),
    # Fifty megabytes a message, many times.
    pytest.mark.timeout(900),
]


def text(line: str, kind: str = "plain") -> bytes:
    """The source of a message that is nothing but text."""
    line += "\r\n"
    count = SIZE // len(line.encode())
    head = f"From: bo@example.com\r\nTo: {ADA}\r\nSubject: Large\r\nMIME-Version: 1.0\r\n"
    head += f"Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    return head.encode() + (line * count).encode()


def attachment() -> bytes:
    """The source of a message with an attachment."""
    head = f"From: bo@example.com\r\nTo: {ADA}\r\nSubject: Large\r\nMIME-Version: 1.0\r\n"
    head += 'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nHi.\r\n--b\r\n'
    head += 'Content-Type: application/x-tar; name="a.tar"\r\nContent-Disposition: attachment; filename="a.tar"\r\n'
    head += "Content-Transfer-Encoding: base64\r\n\r\n"
    data = b"".join(sha256(str(number).encode()).digest() for number in range(SIZE // 32))
    return head.encode() + b64encode(data) + b"\r\n--b--\r\n"


# What comes, and from which size on Gmail keeps text back behind an attachment id; None: never.
CASES: dict[str, tuple[Callable[[], bytes], int | None]] = {
    "text in the answer": (partial(text, "All work and no play makes Jack a dull boy."), None),
    "emoji in the answer": (partial(text, "\N{GRINNING FACE}" * 30), None),
    "one emoji in the answer": (partial(text, "All work and no play." + "\N{GRINNING FACE}"), None),
    "HTML in the answer": (partial(text, "<p>All work and <b>no</b> play.</p>", "html"), None),
    "text behind an id": (partial(text, "All work and no play makes Jack a dull boy."), 2**20),
    "emoji behind an id": (partial(text, "\N{GRINNING FACE}" * 30), 2**20),
    "an attachment": (attachment, 2**20),
}
# Those that take the most memory.
DEAREST = ("HTML in the answer", "text behind an id", "an attachment")


@dataclass
class Function:
    """`run_work` and what it works with.

    Attributes:
        url: where it listens.
        gmail: the fake Gmail's root.
        store: its store.
        bucket: its bucket.
    """

    url: str
    gmail: str
    store: Store
    bucket: storage.Bucket

    def sync(self) -> Mailbox:
        """Push one work message."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(self.url, data=push({"mailbox": ADA, "task": "sync"}), timeout=600)
        assert answer.status_code == 204
        found = self.store.mailbox(ADA)
        assert found is not None
        return found

    def processes(self) -> list[int]:
        """The master and its worker, in this order."""
        port = self.url.rpartition(":")[2].strip("/").encode()
        found = {}
        for each in PROC.iterdir():
            if each.name.isdecimal():
                words = (each / "cmdline").read_bytes().split(b"\0")
                if b"functions_framework" in words and port in words and words[0] != b"/bin/sh":
                    found[int(each.name)] = int((each / "stat").read_text().rpartition(")")[2].split()[1])
        (worker,) = [pid for pid, parent in found.items() if parent in found]
        return [found[worker], worker]

    def forget_peak(self) -> None:
        """Let the most memory that the worker ever had be what it has now."""
        (PROC / str(self.processes()[1]) / "clear_refs").write_text("5")

    def peak(self) -> float:
        """The most memory it had since, in MB of a million bytes: the worker's, and what the master has for itself."""
        master, worker = self.processes()
        own = sum(_lines(master, "smaps_rollup", "Private_Clean", "Private_Dirty"))
        return (sum(_lines(worker, "status", "VmHWM")) + own) * 1024 / 1_000_000


def _lines(pid: int, name: str, *fields: str) -> Iterator[int]:
    """Lines of a file of /proc that say how many kB something has."""
    for field, size in re.findall(r"(\w+):\s+(\d+) kB", (PROC / str(pid) / name).read_text()):
        if field in fields:
            yield int(size)


@pytest.fixture(params=["sqlite", "firestore"])
def function(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Function]:
    """The function, started and ready, with a mailbox that is connected and empty."""
    project = f"large-{uuid.uuid4().hex[:12]}"
    more: dict[str, str] = {}
    if request.param == "sqlite":
        place, more["MAILMIRROR_STORE"] = f"sqlite {tmp_path / 'm.db'}", f"sqlite:{tmp_path / 'm.db'}"
    else:
        emulator = request.getfixturevalue("firestore_emulator")
        place, more["MAILMIRROR_STORE"] = f"firestore {emulator} {project}", "firestore"
        more["FIRESTORE_EMULATOR_HOST"] = emulator
    with ExitStack() as stack:
        bucket = stack.enter_context(in_a_process(tmp_path / "bucket"))
        gmail = stack.enter_context(_process(tmp_path, "gmail", ["local.gmail", "--mailbox", ADA], "/"))
        more |= {
            "GOOGLE_CLOUD_PROJECT": project,
            "GMAIL_AUTH": "none",
            "GMAIL_API_ROOT": f"{gmail}/",
            "GMAIL_TOPIC": "projects/large/topics/gmail-notifications",
            "WORK_TOPIC": "projects/large/topics/mailbox-work",
            "GMAIL_UNITS_PER_MINUTE": "999999999",
            "BODY_BUCKET": BUCKET,
            "ATTACHMENTS": "store",
            "STORAGE_EMULATOR_HOST": bucket,
            "STEP_SECONDS": "600",
            "WORKERS": "1",
            "THREADS": "4",
        }
        command = ["functions_framework", "--target", "run_work", "--host", "127.0.0.1"]
        command += ["--source", str(REPOSITORY / "functions" / "main.py")]
        url = stack.enter_context(_process(tmp_path, "run_work", command, "/robots.txt", more))
        store = stack.enter_context(opened(place))
        client = stack.enter_context(client_of(bucket))
        now = datetime.now(UTC)
        store.create_mailbox(Mailbox(ADA, created_at=now, watch=Watch(now), next_due_at=now))
        yield Function(f"{url}/", gmail, store, client.bucket(BUCKET))


@contextmanager
def _process(
    home: Path, name: str, command: list[str], ready: str, more: dict[str, str] | None = None
) -> Iterator[str]:
    """Run a Python module that listens, and give its address."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    process = Process(
        name,
        [sys.executable, "-m", *command, "--port", str(port)],
        env=environment() | (more or {}),
        log=home / f"{name}.log",
        ready_url=url + ready,
    )
    process.start()
    try:
        process.wait_until_ready()
        yield url
    finally:
        process.kill()


def test_a_message_of_50_megabytes(function: Function) -> None:
    """Whatever a message of 50 MB consists of, and however Gmail gives it, it is mirrored with all its bytes, and the
    instance never has more than 256 MB.
    """
    assert function.sync().phase == "live"
    peaks = {"no mail": function.peak()}
    # Where it is written to makes no difference to most of them, only to what is there before.
    cases = CASES if isinstance(function.store, SqliteStore) else {case: CASES[case] for case in DEAREST}
    for case, (make, inline_bytes) in cases.items():
        mailbox = f"{function.gmail}/control/mailboxes/{ADA}"
        call("POST", f"{mailbox}/quirks", {"inlineBytes": inline_bytes})
        source = make()
        raw = urlsafe_b64encode(source).decode()
        message_id = call("POST", f"{mailbox}/deliver", {"messages": [{"raw": raw}]})["ids"][0]
        del raw
        function.forget_peak()
        state = function.sync()
        peaks[case] = function.peak()
        assert (state.counts.parked, state.problem) == (0, None), case
        (message,) = function.store.documents(ADA, [("messages", message_id)]).values()
        _assert_whole(message, source, function.bucket)
        call("POST", f"{mailbox}/delete", {"ids": [message_id]})
        function.sync()
        assert list(function.bucket.list_blobs()) == []
    assert max(peaks.values()) <= LIMIT_MB, peaks


def _assert_whole(message: Any, source: bytes, bucket: storage.Bucket) -> None:
    """The mirror has everything that the source says."""
    head, _, body = source.partition(b"\r\n\r\n")
    named = {name: bucket.blob(name).download_as_bytes(raw_download=True) for name in message["objects"]}
    if b"multipart" in head:
        (attachment,) = message["attachments"]
        (data,) = named.values()
        assert attachment["uri"] == f"gs://{BUCKET}/{message['objects'][0]}"
        assert b64encode(data) in body
        assert attachment["size"] == len(data) > SIZE - 100
        return
    (name,) = named
    stored = json.loads(gzip.decompress(named[name]))
    form = "html" if b"text/html" in head else "text"
    assert stored[form].encode() == body
    assert message["body"]["uri"] == f"gs://{BUCKET}/{name}"
    assert message["body"]["truncated"] == (form == "html")
