"""Google's Firestore and Pub/Sub emulators: where they are, how to start them, how to be rid of them.

Knows the Cloud SDK's folders and the emulators' command lines. Sets no environment variable: whoever starts an emulator
hands its `host` to whom it concerns. An emulator never outlives the process that started it, even if that is killed.
"""

import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from local.process import Process, free_ports

_ASK_SECONDS = 60


class EmulatorsMissing(Exception):
    """The emulators cannot be started on this machine; the message says what to install."""


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
        timeout=_ASK_SECONDS,
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

    def __init__(self, name: str, script: Path, *arguments: str) -> None:
        (self._port,) = free_ports(1)
        self._name = name
        self._command = [str(script), *arguments, "--host=127.0.0.1", f"--port={self._port}"]
        self._stack = ExitStack()

    @property
    def host(self) -> str:
        """Where it listens, as `host:port`: the value of the client libraries' `…_EMULATOR_HOST`."""
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            ProcessFailed: it did not start; the message ends with its last output.
        """
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            log = directory / "emulator.log"
            process = Process(self._name, self._command, env=os.environ, log=log, ready_url=f"http://{self.host}/")
            stack.callback(process.kill)
            process.start()
            process.wait_until_ready()
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

    def __init__(self, script: Path) -> None:
        super().__init__("The Firestore emulator", script, "start")


class PubSubEmulator(_Emulator):
    """Google's Pub/Sub emulator, with push subscriptions; it sends no OIDC header and no `deliveryAttempt`."""

    def __init__(self, script: Path) -> None:
        super().__init__("The Pub/Sub emulator", script)
