"""Mail of 50 MB: how much memory it takes to read it from Gmail.

Knows: a fake Gmail in one process, and the real client in another that reads one message and does nothing with it; what
that process had at the most before and after. Does not know: what a function does with a message, and what that takes.

A text in which every character takes a byte is one case, one with emoji another: as Python's text it would take four
bytes a character. A file is the third, both texts asked for in one batch the fourth, a text that Gmail keeps back the
fifth.
"""

import argparse
import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from mailmirror.adapters.gmail import GmailApiAccounts
from mailmirror.adapters.gmail.arrival import LARGEST_WAVE
from mailmirror.content import Content
from mailmirror.model import Message
from mailmirror.ports import Gmail
from mailmirror.wiring import SystemClock

from bench.processes import environment, folder, measurable
from bench.report import Figure, at_most
from local.gmail.clock import SystemClock as GmailClock
from local.gmail.mailbox import Mailbox
from local.gmail.server import create_app, serve
from local.gmail.world import World
from local.process import REPOSITORY, Process, free_ports

SIZE = 50_000_000
CASES = ("text", "emoji", "file", "both")
# Of its bytes: they are held once, and what else there is of an answer is held a piece at a time.
MOST = 1.1

_OWNER = "ada@example.com"
_HEAD = b"From: bob@example.org\r\nSubject: Large\r\nMIME-Version: 1.0\r\n"
_PLAIN = b"The quick brown fox jumps over the lazy dog, and over it again, and so on.\r\n"
_EMOJI = "Der schnelle braune Fuchs 🦊 springt über den faulen Hund, und so weiter.\r\n".encode()
_MB = 1_000_000
# The fake Gmail takes its time: it parses a large message again each time it is asked.
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Read:
    """What reading a message took: MB that the process had at the most before and after, and the bytes there were."""

    before: float
    peak: float
    size: int


def measure(say: Callable[[str], None], size: int = SIZE) -> Iterator[Figure]:
    """Read each case in a process of its own."""
    if not measurable():
        yield Figure("large mail", "peak memory", None, note="This machine has no /proc.")
        return
    for kept_back, cases in ((False, CASES), (True, ("emoji",))):
        with folder() as home, large_gmail(home, size, kept_back=kept_back) as root:
            for case in cases:
                name = f"{size / _MB:.0f} MB, {case}{', kept back' if kept_back else ''}"
                say(name)
                read = read_alone(root, case)
                assert read.size >= 0.99 * size, read
                yield Figure("large mail", f"memory beside {read.before:.0f} MB, {name}", read.peak - read.before, "MB")
                # The room of a batch that turns out to be too small may be with the process still.
                expected = (read.size + LARGEST_WAVE * (case == "both")) / _MB
                taken = (read.peak - read.before) / expected
                yield Figure("large mail", f"memory of what has to be held, {name}", taken, "×", at_most(MOST))


@contextmanager
def large_gmail(home: Path, size: int, *, kept_back: bool = False) -> Iterator[str]:
    """Give the root of a Gmail that has one message of so many bytes for each case."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "bench.large_mail", "serve", str(port), str(size), *["--kept-back"][:kept_back]]
    root = f"http://127.0.0.1:{port}/"
    process = Process("gmail", command, env=environment(), log=home / "gmail.log", ready_url=root)
    process.start()
    try:
        process.wait_until_ready()
        yield root
    finally:
        process.kill()


def read_alone(root: str, case: str) -> Read:
    """Read the message of a case in a process of its own."""
    command = [sys.executable, "-m", "bench.large_mail", "read", root, case]
    told = subprocess.run(command, env=environment(), cwd=REPOSITORY, check=True, capture_output=True).stdout
    return Read(**json.loads(told))


def main(arguments: Sequence[str] | None = None) -> int:
    """Be one of the two processes."""
    parser = argparse.ArgumentParser(prog="python -m bench.large_mail")
    parts = parser.add_subparsers(dest="part", required=True)
    server = parts.add_parser("serve")
    server.add_argument("port", type=int)
    server.add_argument("size", type=int)
    server.add_argument("--kept-back", action="store_true")
    reader = parts.add_parser("read")
    reader.add_argument("root")
    reader.add_argument("case", choices=CASES)
    options = parser.parse_args(arguments)
    if options.part == "serve":
        _serve(options.port, options.size, kept_back=options.kept_back)
    else:
        print(json.dumps(_taken(options.root, options.case)))
    return 0


def _serve(port: int, size: int, *, kept_back: bool) -> None:
    world = World(clock=GmailClock())
    mailbox = world.add(_OWNER)
    if not kept_back:
        mailbox.inline_bytes = None
    fill(mailbox, size)
    serve(create_app(world), port=port).serve_forever()


def fill(mailbox: Mailbox, size: int) -> dict[str, str]:
    """Deliver a small message and a large one of each case, and return their ids."""
    file = base64.encodebytes(Random(0).randbytes(size))
    sources = {
        "small": _text(b"Hello.\r\n"),
        "text": _text(_PLAIN * (size // len(_PLAIN))),
        "emoji": _text(_EMOJI * (size // len(_EMOJI))),
        "file": _HEAD + b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + file,
    }
    now = datetime.now(UTC)
    return {
        case: mailbox.deliver(source, internal_date=now - timedelta(minutes=number))
        for number, (case, source) in enumerate(sources.items())
    }


def _text(body: bytes) -> bytes:
    return _HEAD + b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + body


def _taken(root: str, case: str) -> dict[str, float]:
    """Read a message and say what that took; a small one first, so that all is imported and connected."""
    accounts = GmailApiAccounts(
        lambda _: None,
        clock=SystemClock(),
        topic="projects/bench/topics/gmail-notifications",
        api_root=root,
        units_per_minute=10**9,
        timeout=_PATIENCE_SECONDS,
    )
    gmail = accounts.open(_OWNER, None)
    ids = [message_id for message_id, _ in gmail.list_messages(None, include_spam_trash=True).refs]
    small, text, emoji, file = ids
    _bytes(gmail, small)
    before = _peak()
    wanted = {"text": (text,), "emoji": (emoji,), "both": (text, emoji)}
    size = len(gmail.part(file, "") or b"") if case == "file" else _bytes(gmail, *wanted[case])
    return {"before": before, "peak": _peak(), "size": size}


def _bytes(gmail: Gmail, *ids: str) -> int:
    """Read messages, do nothing with them, and return how many bytes the largest text has."""
    sizes: list[int] = []

    def keep(message: Message, content: Content, fetch: Callable[[str], bytes | None]) -> Message:
        for text in content.text:
            kept_back = fetch(text.part.attachment_id) if text.part.attachment_id else None
            sizes.append(len(text.part.data if kept_back is None else kept_back))
        return message

    gmail.messages(ids, keep)
    return max(sizes)


def _peak() -> float:
    """The most memory this process ever had, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1000 if found else 0.0


if __name__ == "__main__":
    sys.exit(main())
