"""All of Mailmirror on this machine: each function in a process of its own, with stand-ins for Google around them.

Knows: which processes there are, what each is told, what waits for what, and when all of them have to go. Does not
know: how a process is started and ended (`process` does), nor what the functions do; it reaches them by HTTP alone, as
Pub/Sub, Cloud Scheduler and an administrator would.

What is shorter here than in the cloud, so that one can watch it: pushes are tried again after 1 to 10 s (cloud: 10 to
600 s), sweeps come every few seconds (5 min), and the caller says how long a mailbox may be quiet (15 min).
"""

import base64
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Literal, Self

import requests

from local.emulators import FirestoreEmulator, PubSubEmulator, find
from local.process import REPOSITORY, Process, ProcessFailed, free_ports

Backend = Literal["sqlite", "emulators"]
Attachments = Literal["none", "store"]
Auth = Literal["none", "oauth"]

PROJECT = "mailmirror-local"
BUCKET = "mailmirror-bodies"
FUNCTIONS = (
    "sync_history",
    "run_work",
    "renew_watches",
    "sweep_mailboxes",
    "trigger_sync",
    "manage_mailboxes",
    "read_mailboxes",
    "oauth_callback",
)
# Started only where users are asked for consent.
FOR_CONSENT = frozenset({"oauth_callback"})
# topic -> the function its subscription pushes to
TOPICS = {"gmail-notifications": "sync_history", "mailbox-work": "run_work"}

_DELTAS = "mailbox-deltas"
_ACK_DEADLINE_SECONDS = 60
_RENEW_SECONDS = 30
_FOLLOWERS = 40
# What must not reach the processes from the shell that starts them: another project, other credentials.
_SECRETS = f"projects/{PROJECT}/secrets/"
_OAUTH_CLIENT = "mailmirror-oauth-client"
_FOREIGN = (
    *(
        "ATTACHMENTS",
        "BODY_",
        "CLOUDSDK_",
        "DEBUG",
        "DELTA_",
        "FIRESTORE_",
        "FUNCTION_",
        "GCLOUD_",
        "GMAIL_",
        "GOOGLE_",
        "GUNICORN_",
        "LEASE_",
    ),
    *("MAILMIRROR_", "OAUTH", "PUBSUB_", "SECRET_", "STORAGE_", "WATCH_"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """How the stack runs.

    Attributes:
        directory: where the logs, the SQLite file and the bucket go.
        backend: `sqlite`: SQLite and the broker of `local.pubsub`; `emulators`: Google's, for Firestore and Pub/Sub.
        attachments: whether their bytes are kept.
        deltas: whether they are published to the topic `mailbox-deltas`; who wants them subscribes.
        auth: `none`: Gmail believes everybody; `oauth`: users are asked for consent, and Gmail believes tokens alone.
        seed: makes the fake Gmail repeatable.
        units_per_minute: the quota of a mailbox, of the fake Gmail and of the functions alike.
        sweep_seconds: between two sweeps.
        quiet_minutes: a mailbox not heard of for this long is due.
        step_seconds: the longest step of `run_work`.
        lease_seconds: how long a lease lasts without a commit; None leaves it to the functions.
        threads: requests one process serves at once.
        log_level: of the functions.
        source: the file with the entry points.
    """

    directory: Path
    backend: Backend = "sqlite"
    attachments: Attachments = "none"
    deltas: bool = False
    auth: Auth = "none"
    seed: int = 1
    units_per_minute: int = 600_000
    sweep_seconds: float = 2
    quiet_minutes: float = 0.05
    step_seconds: float = 20
    lease_seconds: float | None = None
    threads: int = 8
    log_level: str = "INFO"
    source: Path = REPOSITORY / "functions" / "main.py"


class Stack:
    """Everything, for as long as the `with` block lasts.

    Example:
        with Stack(Settings(Path("/tmp/run"))) as stack:
            requests.get(stack.url("manage_mailboxes") + "/mailboxes", timeout=10)

    Attributes:
        functions: the names of those that run.
        processes: by name: `pubsub`, `gmail`, `storage`, `scheduler`, with consents `google`, and the functions.
        gmail, storage, pubsub, google: base URLs of the stand-ins.
        firestore: `host:port` of the Firestore emulator, None with SQLite.
        sqlite: the SQLite file, None with the emulators.
        started_in: seconds it took until everything answered.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.processes: dict[str, Process] = {}
        self.sqlite = settings.directory / "mirror.sqlite" if settings.backend == "sqlite" else None
        self.firestore: str | None = None
        self.started_in = 0.0
        consents = settings.auth == "oauth"
        self.functions = tuple(name for name in FUNCTIONS if consents or name not in FOR_CONSENT)
        names = ("pubsub", "gmail", "storage", "google", *self.functions)
        self._urls = {
            name: f"http://127.0.0.1:{port}" for name, port in zip(names, free_ports(len(names)), strict=True)
        }
        self._homes = ""
        self._exit = ExitStack()

    @property
    def gmail(self) -> str:
        return self._urls["gmail"]

    @property
    def storage(self) -> str:
        return self._urls["storage"]

    @property
    def pubsub(self) -> str:
        return self._urls["pubsub"]

    @property
    def google(self) -> str:
        return self._urls["google"]

    def url(self, name: str) -> str:
        """Where a process listens, without a slash at the end."""
        return self._urls[name]

    def __enter__(self) -> Self:
        began = time.monotonic()
        self.settings.directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            undo.enter_context(_terminated_means_interrupted())
            # Not in the directory of the logs: a socket's path has to be short.
            self._homes = undo.enter_context(TemporaryDirectory(ignore_cleanup_errors=True))
            undo.callback(self._kill_all)
            if self.settings.backend == "emulators":
                self._start_emulators(undo)
            self._start_processes()
            self._exit = undo.pop_all()
        self.started_in = time.monotonic() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def kill(self, name: str) -> None:
        """SIGKILL a process, with all its threads at work."""
        self.processes[name].kill()

    def pause(self, name: str) -> None:
        """SIGSTOP a process, with all its threads at work; who calls it waits."""
        self.processes[name].pause()

    def resume(self, name: str) -> None:
        """Let a paused process go on."""
        self.processes[name].resume()

    def restart(self, name: str) -> None:
        """Start a killed process again, at the same address; returns when it answers."""
        process = self.processes[name]
        process.kill()
        process.start()
        process.wait_until_ready()

    def dead_letters(self) -> dict[str, list[dict[str, Any]]]:
        """The messages in each dead-letter subscription; looking does not take them away for long."""
        found = {}
        for topic in TOPICS:
            url = f"{self.pubsub}/v1/projects/{PROJECT}/subscriptions/{topic}-dead:pull"
            answer = call("POST", url, {"maxMessages": 100, "returnImmediately": True})
            found[topic] = [item["message"] for item in answer.get("receivedMessages", [])]
        return found

    def _start_emulators(self, undo: ExitStack) -> None:
        tools = find()
        emulators = (FirestoreEmulator(tools.firestore), PubSubEmulator(tools.pubsub))
        with ThreadPoolExecutor() as pool:
            started = [pool.submit(undo.enter_context, emulator) for emulator in emulators]
        for future in started:
            future.result()
        self.firestore = emulators[0].host
        self._urls["pubsub"] = f"http://{emulators[1].host}"

    def _start_processes(self) -> None:
        python = sys.executable
        stand_ins = {
            "gmail": [
                *("local.gmail", "--pubsub", self._host("pubsub"), "--seed", str(self.settings.seed)),
                *("--units-per-minute", str(self.settings.units_per_minute)),
            ],
            "storage": ["local.storage", "--folder", str(self.settings.directory / "bucket")],
        }
        if self.settings.auth == "oauth":
            stand_ins["google"] = ["local.google"]
            stand_ins["gmail"] += ["--tokens", self.google]
        if self.settings.backend == "sqlite":
            stand_ins["pubsub"] = ["local.pubsub"]
        for name, arguments in stand_ins.items():
            self._add(name, [python, "-m", *arguments, "--port", self._port(name)], ready="/")
        for name in self.functions:
            command = [python, "-m", "functions_framework", "--target", name, "--source", str(self.settings.source)]
            # Any path reaches the function but this one, which functions-framework answers with 404 by itself.
            self._add(name, [*command, "--host", "127.0.0.1", "--port", self._port(name)], ready="/robots.txt")
        _wait_for_all(self.processes.values())
        self._create_topics()
        if self.settings.auth == "oauth":
            self._create_client()
        sweep, renew = self.settings.sweep_seconds, _RENEW_SECONDS
        command = [python, "-m", "local.scheduler", "--every", str(sweep), self.url("sweep_mailboxes")]
        self._add("scheduler", [*command, "--every", str(renew), self.url("renew_watches")])

    def _add(self, name: str, command: Sequence[str], *, ready: str | None = None) -> None:
        # Its server keeps a socket there, which the processes would otherwise take from one another.
        home = Path(self._homes) / name
        home.mkdir()
        process = Process(
            name,
            command,
            # As on Cloud Run: a lease says which function's worker holds it.
            env=self._environment() | {"K_REVISION": name, "HOME": str(home), "THREADS": str(self._threads(name))},
            log=self.settings.directory / f"{name}.log",
            ready_url=self._urls[name] + ready if ready is not None else None,
        )
        self.processes[name] = process
        process.start()

    def _threads(self, name: str) -> int:
        # Whoever waits for a delta takes one.
        return max(_FOLLOWERS, self.settings.threads) if name == "read_mailboxes" else self.settings.threads

    def _environment(self) -> dict[str, str]:
        settings = self.settings
        env = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
        env |= {
            "PYTHONPATH": f"{REPOSITORY / 'functions'}{os.pathsep}{REPOSITORY}",
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "GMAIL_AUTH": settings.auth,
            "GMAIL_API_ROOT": f"{self.gmail}/",
            "GMAIL_TOPIC": _topic("gmail-notifications"),
            "WORK_TOPIC": _topic("mailbox-work"),
            "GMAIL_UNITS_PER_MINUTE": str(settings.units_per_minute),
            "BODY_BUCKET": BUCKET,
            "ATTACHMENTS": settings.attachments,
            "STORAGE_EMULATOR_HOST": self.storage,
            "PUBSUB_EMULATOR_HOST": self._host("pubsub"),
            "SWEEP_QUIET_MINUTES": str(settings.quiet_minutes),
            "STEP_SECONDS": f"{settings.step_seconds:g}",
            "MAILMIRROR_STORE": f"sqlite:{self.sqlite}" if self.sqlite else "firestore",
            "WORKERS": "1",
            "LOG_LEVEL": settings.log_level,
        }
        if settings.auth == "oauth":
            env |= {
                "GMAIL_OAUTH_CLIENT": _SECRETS + _OAUTH_CLIENT,
                "GMAIL_TOKEN_PREFIX": f"{_SECRETS}mailmirror-token-",
                "OAUTH_REDIRECT_URI": self._redirect_uri,
                "SECRET_MANAGER_EMULATOR_HOST": self._host("google"),
                # The stand-in for the token endpoint speaks plain HTTP.
                "OAUTHLIB_INSECURE_TRANSPORT": "1",
            }
        if settings.deltas:
            env["DELTA_TOPIC"] = _topic(_DELTAS)
        if self.firestore:
            env["FIRESTORE_EMULATOR_HOST"] = self.firestore
        if settings.lease_seconds is not None:
            env["LEASE_SECONDS"] = f"{settings.lease_seconds:g}"
        return env

    def _create_topics(self) -> None:
        root = f"{self.pubsub}/v1/"
        if self.settings.deltas:
            call("PUT", root + _topic(_DELTAS), {})
        for name, function in TOPICS.items():
            dead = f"{name}-dead"
            call("PUT", root + _topic(name), {})
            call("PUT", root + _topic(dead), {})
            call("PUT", root + _subscription(dead), {"topic": _topic(dead)})
            call(
                "PUT",
                root + _subscription(name),
                {
                    "topic": _topic(name),
                    "pushConfig": {"pushEndpoint": f"{self.url(function)}/"},
                    "ackDeadlineSeconds": _ACK_DEADLINE_SECONDS,
                    "retryPolicy": {"minimumBackoff": "1s", "maximumBackoff": "10s"},
                    "deadLetterPolicy": {"deadLetterTopic": _topic(dead), "maxDeliveryAttempts": 20},
                },
            )

    def _create_client(self) -> None:
        """Register an OAuth client and store it, as an operator would."""
        wish = {"name": "mailmirror", "kind": "web", "redirect_uris": [self._redirect_uri]}
        client = call("POST", f"{self.google}/control/clients", wish)
        secrets = f"{self.google}/v1/{_SECRETS.rstrip('/')}"
        call("POST", f"{secrets}?secretId={_OAUTH_CLIENT}", {"replication": {"automatic": {}}})
        data = base64.b64encode(json.dumps(client).encode()).decode()
        call("POST", f"{secrets}/{_OAUTH_CLIENT}:addVersion", {"payload": {"data": data}})

    @property
    def _redirect_uri(self) -> str:
        return f"{self.url('oauth_callback')}/oauth/callback"

    def _kill_all(self) -> None:
        for process in self.processes.values():
            process.kill()

    def _host(self, name: str) -> str:
        return self._urls[name].removeprefix("http://")

    def _port(self, name: str) -> str:
        return self._urls[name].rpartition(":")[2]


def _topic(name: str) -> str:
    return f"projects/{PROJECT}/topics/{name}"


def _subscription(name: str) -> str:
    return f"projects/{PROJECT}/subscriptions/{name}"


def call(method: str, url: str, body: Mapping[str, Any] | None = None, *, seconds: float = 30) -> dict[str, Any]:
    """Ask a process of the stack and return its JSON.

    Raises:
        ProcessFailed: it did not answer, or not with success; the message holds what it said.
    """
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.request(method, url, json=body, timeout=seconds)
        except requests.RequestException as error:
            raise ProcessFailed(f"{method} {url} was not answered: {error}") from error
    if not answer.ok:
        raise ProcessFailed(f"{method} {url} answered {answer.status_code}: {answer.text[:500]}")
    result: dict[str, Any] = answer.json()
    return result


def _wait_for_all(processes: Iterable[Process]) -> None:
    with ThreadPoolExecutor(max_workers=16) as pool:
        for future in [pool.submit(process.wait_until_ready) for process in processes]:
            future.result()


@contextmanager
def _terminated_means_interrupted() -> Iterator[None]:
    """SIGTERM ends the `with` block as Ctrl-C does, so that nothing stays behind."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread: whoever is there handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
