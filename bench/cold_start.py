"""A cold start: what an entry point imports and takes, from the start of its process to its first answer.

Knows: an ordinary first request for each entry point, and which technologies that request is answered with. Does not
know: how the functions put off their imports. Everything is configured, so that nothing is left out for want of a
setting; what is imported all the same, and not used, is needless.
"""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from urllib.parse import quote

from mailmirror.adapters.sqlite import SqliteStore
from mailmirror.model import Mailbox, Watch

from bench.mailbox import ADDRESS
from bench.processes import broker, environment, fake_gmail, folder, push, settings
from bench.report import Figure, at_most
from local.process import REPOSITORY, ProcessFailed
from local.stack import call

REPETITIONS = 5
FUNCTIONS = REPOSITORY / "functions"

# Technologies by the modules that tell that they were imported.
GMAIL, PUBSUB, FIRESTORE = "Gmail's client", "Pub/Sub", "Firestore"
SECRETS, STORAGE, SQLITE, CONSENT = "Secret Manager", "Cloud Storage", "SQLite", "OAuth"
SIGN_IN = "Google's sign-in"
MODULES: dict[str, tuple[str, ...]] = {
    GMAIL: ("googleapiclient", "httplib2", "google_auth_httplib2"),
    PUBSUB: ("google.cloud.pubsub_v1", "google.pubsub_v1"),
    FIRESTORE: ("google.cloud.firestore", "google.cloud.firestore_v1"),
    SECRETS: ("google.cloud.secretmanager", "google.cloud.secretmanager_v1"),
    STORAGE: ("google.cloud.storage",),
    SQLITE: ("sqlite3",),
    CONSENT: ("google_auth_oauthlib", "oauthlib"),
    SIGN_IN: ("google.auth", "cryptography"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """An entry point's first request.

    Attributes:
        uses: the technologies it is answered with, besides the store.
        due: whether the mailbox's watch is to be renewed and the sweep finds it due.
        news: whether a message has come that the mirror does not have.
        refused: the status of the answer where an ordinary one takes more of Google than there is here; 0: a good one.
    """

    method: str
    path: str
    uses: frozenset[str]
    due: bool = False
    news: bool = False
    refused: int = 0


_READS, _PUBLISHES = frozenset({GMAIL, SIGN_IN}), frozenset({PUBSUB, SIGN_IN})
REQUESTS = {
    "sync_history": Asked("POST", "/", _READS, news=True),
    "run_work": Asked("POST", "/", _READS, news=True),
    "renew_watches": Asked("POST", "/", _PUBLISHES, due=True),
    "sweep_mailboxes": Asked("POST", "/", _PUBLISHES, due=True),
    "trigger_sync": Asked("POST", f"/mailboxes/{ADDRESS}/sync", _READS, news=True),
    "manage_mailboxes": Asked("GET", f"/mailboxes/{ADDRESS}", frozenset()),
    # Nobody has asked for the consent that is brought.
    "oauth_callback": Asked("GET", "/oauth/callback?state=unknown&code=unknown", frozenset(), refused=400),
    # None is mirrored.
    "read_mailboxes": Asked("GET", f"/mailboxes/{ADDRESS}/messages/1/attachments/1", frozenset(), refused=404),
}


@dataclass(frozen=True, slots=True)
class Started:
    """What one cold start took, in seconds of CPU, and what was imported in the end."""

    loaded: float
    request: float
    modules: frozenset[str]

    def technologies(self) -> set[str]:
        """What was imported, in words."""
        return {name for name, modules in MODULES.items() if not self.modules.isdisjoint(modules)}


def measure(say: Callable[[str], None], repetitions: int = REPETITIONS) -> Iterator[Figure]:
    """Start each entry point anew, again and again."""
    with folder() as home, fake_gmail(home, (10,)) as gmail, broker(home, "mailbox-work") as pubsub:
        for target in entry_points():
            if target not in REQUESTS:
                yield Figure("cold_start", target, None, note="Nobody knows an ordinary request for it.")
                continue
            starts = []
            for number in range(repetitions):
                say(f"{target}, {number + 1} of {repetitions}")
                starts.append(_start(home, gmail, pubsub, target))
            yield from _figures(target, starts, REQUESTS[target].uses | {SQLITE})
        say("the store in Firestore")
        loaded = [_start_on_firestore(home, gmail, pubsub).loaded for _ in range(repetitions)]
        yield Figure("cold_start", "any, loaded with Firestore as the store", median(loaded), "s CPU")


def entry_points() -> list[str]:
    """Return what main.py offers."""
    source = (FUNCTIONS / "main.py").read_text("utf-8")
    return re.findall(r"^@functions_framework\.http\ndef (\w+)", source, re.MULTILINE)


def _figures(target: str, starts: list[Started], used: frozenset[str]) -> Iterator[Figure]:
    imported = starts[0].technologies()
    needless = imported - used
    loaded, request = median(start.loaded for start in starts), median(start.request for start in starts)
    yield Figure("cold_start", f"{target}, loaded", loaded, "s CPU")
    yield Figure("cold_start", f"{target}, first request", request, "s CPU", note=", ".join(sorted(imported)))
    note = ", ".join(sorted(needless))
    yield Figure("cold_start", f"{target}, imported and not used", len(needless), bound=at_most(0), note=note)


def _start(home: Path, gmail: str, pubsub: str, target: str) -> Started:
    asked = REQUESTS[target]
    path = home / "cold.sqlite"
    now = datetime.now(UTC)
    user = f"{gmail}gmail/v1/users/{quote(ADDRESS)}/profile"
    cursor = int(call("GET", user)["historyId"])
    then = now + timedelta(seconds=-60 if asked.due else 7 * 86_400)
    at_rest = Mailbox(ADDRESS, created_at=now, watch=Watch(then), next_due_at=then, phase="live", cursor=cursor)
    with SqliteStore(path) as store:
        store.create_mailbox(at_rest)
    if asked.news:
        message = {"raw": base64.urlsafe_b64encode(b"Subject: News\r\n\r\nNews.\r\n").decode()}
        call("POST", f"{gmail}control/mailboxes/{quote(ADDRESS)}/deliver", {"messages": [message]})
    body = b""
    if target == "sync_history":
        body = push({"emailAddress": ADDRESS, "historyId": int(call("GET", user)["historyId"])})
    elif target == "run_work":
        body = push({"mailbox": ADDRESS, "task": "sync"})
    env = environment() | _settings(path, gmail, pubsub)
    started = _run(target, asked.method, asked.path, body, env, asked.refused)
    for each in home.glob("cold.sqlite*"):
        each.unlink()
    return started


def _start_on_firestore(home: Path, gmail: str, pubsub: str) -> Started:
    """Nobody listens there: what is asked has no need of the store."""
    env = _settings(home, gmail, pubsub) | {"MAILMIRROR_STORE": "firestore", "FIRESTORE_EMULATOR_HOST": "127.0.0.1:9"}
    return _run("sync_history", "POST", "/", b"malformed", environment() | env, 400)


def _settings(path: Path, gmail: str, pubsub: str) -> dict[str, str]:
    return settings(path, gmail) | {
        "PUBSUB_EMULATOR_HOST": pubsub,
        "BODY_BUCKET": "bodies",
        "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9",
        # Nobody looks for credentials on the network.
        "NO_GCE_CHECK": "true",
    }


def _run(target: str, method: str, path: str, body: bytes, env: dict[str, str], refused: int) -> Started:
    command = [sys.executable, str(REPOSITORY / "bench" / "first_request.py"), target, method, path, body.decode()]
    done = subprocess.run(command, cwd=FUNCTIONS, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProcessFailed(f"{target} did not start:\n{done.stderr}")
    told = json.loads(done.stdout.splitlines()[-1])
    if told["status"] != refused if refused else told["status"] >= 300:
        raise ProcessFailed(f"{target} answered {told['status']}:\n{done.stdout}")
    return Started(told["loaded"], told["request"], frozenset(told["modules"]))
