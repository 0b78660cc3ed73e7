"""Google's Firestore and Pub/Sub emulators: where they are, how to start them, how to be rid of them.

Knows the Cloud SDK's folders and the emulators' command lines. Sets no environment variable: whoever starts an emulator
hands its `host` to whom it concerns. An emulator never outlives the process that started it, even if that is killed.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_START_SECONDS = 60

# The shell holds the read end of a pipe whose other end only the starting process has. When that process ends, in
# whatever way, `read` returns and the whole process group goes; when the emulator ends by itself, so does the shell.
_TIED_TO_ITS_STARTER = '("$@"; kill 0) & read _; kill 0'


class EmulatorsMissing(Exception):
    """The emulators cannot be started on this machine; the message says what to install."""


class EmulatorFailed(Exception):
    """An emulator did not start; the message ends with its last output."""


@dataclass(frozen=True, slots=True)
class EmulatorTools:
    """The start scripts of the two emulators."""

    firestore: Path
    pubsub: Path


def find() -> EmulatorTools:
    """Find the emulators in the Cloud SDK that `gcloud` on the PATH belongs to.

    Raises:
        EmulatorsMissing: with a sentence that names what to install.
    """
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        raise EmulatorsMissing("gcloud is not on the PATH: install the Google Cloud SDK to use Google's emulators.")
    asked = subprocess.run(
        [gcloud, "info", "--format=value(installation.sdk_root)"],
        capture_output=True,
        text=True,
        check=False,
        timeout=_START_SECONDS,
    )
    root = asked.stdout.strip()
    if asked.returncode != 0 or not root:
        raise EmulatorsMissing(f"gcloud does not say where its SDK is: {asked.stderr.strip() or 'no answer'}")
    platform = Path(root) / "platform"
    tools = EmulatorTools(
        firestore=platform / "cloud-firestore-emulator" / "cloud_firestore_emulator",
        pubsub=platform / "pubsub-emulator" / "bin" / "cloud-pubsub-emulator",
    )
    for component, script in (("cloud-firestore-emulator", tools.firestore), ("pubsub-emulator", tools.pubsub)):
        if not script.is_file():
            raise EmulatorsMissing(
                f"The Cloud SDK in {root} has no {component}: run `gcloud components install {component}`."
            )
    if shutil.which("java") is None:
        raise EmulatorsMissing("java is not on the PATH: Google's emulators need a Java runtime.")
    return tools


class _Emulator:
    """One emulator process, on a port of its own, for as long as the `with` block lasts."""

    name: str

    def __init__(self, script: Path) -> None:
        self._script = script
        self._host = ""
        self._stack = ExitStack()

    def _arguments(self, port: int) -> Sequence[str]:
        """What the script is told so that it serves on this port."""
        raise NotImplementedError

    @property
    def host(self) -> str:
        """Where it listens, as `host:port`: the value of the client libraries' `…_EMULATOR_HOST`."""
        return self._host

    def __enter__(self) -> Self:
        port = _free_port()
        self._host = f"127.0.0.1:{port}"
        with ExitStack() as stack:
            log = stack.enter_context(tempfile.TemporaryFile())
            process = stack.enter_context(
                subprocess.Popen(
                    ["/bin/sh", "-c", _TIED_TO_ITS_STARTER, self.name, str(self._script), *self._arguments(port)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
            stack.callback(_kill_group, process)
            if not _ready(process, f"http://{self._host}/"):
                how = "ended at once" if process.poll() is not None else "did not answer in time"
                log.seek(0)
                output = log.read().decode(errors="replace").strip()
                raise EmulatorFailed(f"The {self.name} emulator {how}. Its last output: {output[-2000:] or 'none'}")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class FirestoreEmulator(_Emulator):
    """Google's Firestore emulator; each project id is a world of its own.

    Example:
        with FirestoreEmulator(find().firestore) as emulator:
            print(emulator.host)  # 127.0.0.1:40123
    """

    name = "Firestore"

    def _arguments(self, port: int) -> Sequence[str]:
        return ("start", "--host=127.0.0.1", f"--port={port}")


class PubSubEmulator(_Emulator):
    """Google's Pub/Sub emulator, with push subscriptions; it sends no OIDC header and no `deliveryAttempt`."""

    name = "Pub/Sub"

    def _arguments(self, port: int) -> Sequence[str]:
        return ("--host=127.0.0.1", f"--port={port}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ready(process: subprocess.Popen[bytes], url: str) -> bool:
    give_up = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < give_up:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except OSError:  # refused, or not answering yet; urllib's errors are of this kind
            time.sleep(0.1)
    return False


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # An emulator has nothing to save, and the shell would not wait for the Java process below it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
