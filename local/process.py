"""A child process of the stack: started, waited for, and gone in every case, even if the one that started it is killed.

Knows: process groups, signals, the log file. Does not know: what the process does; that it answers HTTP is all it asks.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import requests

REPOSITORY = Path(__file__).resolve().parents[1]

_START_SECONDS = 90

# The shell holds the read end of a pipe whose other end only this process has. When this process ends, in whatever way,
# `read` returns and the whole process group goes; what is paused is woken for that, because it would not hear of it.
_TIED_TO_ITS_STARTER = '("$@"; kill 0) & read _; kill -CONT 0; kill 0'


class ProcessFailed(Exception):
    """A process of the stack did not start or died; the message ends with the last lines of its log."""


class Process:
    """A child process in a group of its own, with its log in a file."""

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path, ready_url: str | None = None
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._env = dict(env)
        self._ready_url = ready_url
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and return at once; the log goes on where it was."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _TIED_TO_ITS_STARTER, self.name, *self._command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env=self._env,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL to the whole group, as the machine itself would: no process gets to say goodbye."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def pause(self) -> None:
        """SIGSTOP to the whole group: it stands still with all it holds, connections included, until `resume`."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGSTOP)
                # The shell at its head goes on: it has to see when this process ends.
                os.kill(self._process.pid, signal.SIGCONT)

    def resume(self) -> None:
        """SIGCONT: it goes on as if no time had passed."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGCONT)

    def wait_until_ready(self) -> None:
        """Return when it answers HTTP.

        Raises:
            ProcessFailed: it died, or does not answer in time; the message ends with its last log lines.
        """
        give_up = time.monotonic() + _START_SECONDS
        while self.alive and time.monotonic() < give_up:
            if self._ready_url is None or _answers(self._ready_url):
                return
            time.sleep(0.05)
        how = "does not answer" if self.alive else "ended while it started"
        raise ProcessFailed(f"{self.name} {how}. The end of {self.log}:\n{self.last_lines()}")

    def last_lines(self, count: int = 20) -> str:
        """The end of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-count:]) or "(the log is empty)"


def _answers(url: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False
        try:
            session.get(url, timeout=2)
        except requests.RequestException:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Return as many ports of this machine that nobody listens on."""
    with ExitStack() as together:
        probes = [together.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
