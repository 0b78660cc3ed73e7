"""Cold start: an instance imports what its first request uses, and nothing of what it does not.

What is imported is counted, no time is measured. Each case is a process of its own: main.py under functions-framework
with everything configured, asked once.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import requests
from mailmirror.adapters.sqlite import SqliteStore
from mailmirror.documents import to_document
from mailmirror.model import Attachment, Mailbox, Watch
from mailmirror.slice import Write

from local import pubsub
from local.gmail import server
from local.gmail.clock import SystemClock
from local.gmail.world import World
from local.gmail.wsgi import Server
from tests import source
from tests.world import ADA, mail, push

FUNCTIONS = Path(__file__).resolve().parent.parent / "functions"
GRACE = "grace@example.com"
WORK_TOPIC = "projects/p/topics/mailbox-work"

# What a port is made of, by the module that only that port imports.
GMAIL, PUBSUB, SECRETS = "googleapiclient", "google.pubsub_v1", "google.cloud.secretmanager_v1"
STORAGE, FIRESTORE, SQLITE = "google.cloud.storage", "google.cloud.firestore_v1", "mailmirror.adapters.sqlite"
PORTS = frozenset({GMAIL, PUBSUB, SECRETS, STORAGE, FIRESTORE, SQLITE})
# What these are made of in turn. Nothing of it belongs to an instance whose request asks nobody but SQLite.
FOUNDATIONS = frozenset(
    {"cryptography", "google.api_core", "google.auth", "google.oauth2", "grpc", "httplib2", "proto", "requests"}
)

FIRST_REQUEST = """
import json, sys
import functions_framework
target, method, path, body = sys.argv[1:]
client = functions_framework.create_app(target, "main.py").test_client()
status = client.open(path, method=method, data=body.encode()).status_code
print(json.dumps({"status": status, "imported": sorted(sys.modules)}))
"""


@dataclass(frozen=True, slots=True)
class Start:
    """What a new instance answered to its first request, and what is imported since."""

    status: int
    imported: frozenset[str]

    def ports(self) -> frozenset[str]:
        """The technologies of ports among what is imported."""
        return self.imported & PORTS


@dataclass(frozen=True, slots=True)
class Deployment:
    """A complete configuration, and how it differs from case to case."""

    environment: dict[str, str]

    def start(self, target: str, method: str = "POST", path: str = "/", body: bytes = b"", **other: str) -> Start:
        """Start an instance of a function and ask it once."""
        done = subprocess.run(
            [sys.executable, "-c", FIRST_REQUEST, target, method, path, body.decode()],
            cwd=FUNCTIONS,
            env=self.environment | other,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
        return Start(told["status"], frozenset(told["imported"]))


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """Every port configured, and one mailbox in the store for which there is nothing to do."""
    now = datetime.now(UTC)
    at_rest = Mailbox(
        email_address=ADA,
        created_at=now,
        watch=Watch(expires_at=now + timedelta(days=7)),
        next_due_at=now + timedelta(days=1),
        phase="live",
        cursor=1_000,
    )
    with SqliteStore(tmp_path / "mirror.db") as store:
        store.create_mailbox(at_rest)
    return Deployment(
        {
            "PATH": os.environ["PATH"],
            # Nobody looks for credentials on the network.
            "NO_GCE_CHECK": "true",
            "GOOGLE_CLOUD_PROJECT": "p",
            "GMAIL_TOPIC": "projects/p/topics/gmail-notifications",
            "WORK_TOPIC": WORK_TOPIC,
            "GMAIL_AUTH": "oauth",
            "GMAIL_OAUTH_CLIENT": "projects/p/secrets/client",
            "GMAIL_TOKEN_PREFIX": "projects/p/secrets/token-",
            "BODY_BUCKET": "bodies",
            "MAILMIRROR_STORE": f"sqlite:{tmp_path}/mirror.db",
        }
    )


def served(app: Any) -> Iterator[str]:
    """Serve a WSGI application as long as a test takes; yields host:port."""
    listening = Server("127.0.0.1", 0, app)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"127.0.0.1:{listening.server_port}"
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def gmail() -> World:
    """A Gmail in which ada has one message."""
    world = World(clock=SystemClock())
    world.add(ADA).deliver(mail("Old"))
    world.add(GRACE)
    return world


@pytest.fixture
def gmail_root(gmail: World) -> Iterator[str]:
    """Where that Gmail is."""
    yield from (f"http://{host}/" for host in served(server.create_app(gmail)))


@pytest.fixture
def broker() -> Iterator[str]:
    """A Pub/Sub that has the topic of work messages."""
    queues = pubsub.Broker()
    for host in served(pubsub.create_app(queues)):
        requests.put(f"http://{host}/v1/{WORK_TOPIC}", json={}, timeout=10).raise_for_status()
        yield host
    queues.close()


IDLE: dict[str, tuple[str, str, bytes, int]] = {
    "sync_history": ("POST", "/", b"malformed", 400),
    "run_work": ("POST", "/", push({"mailbox": "nobody@example.com", "task": "sync"}), 204),
    "renew_watches": ("POST", "/", b"", 200),
    "sweep_mailboxes": ("POST", "/", b"", 200),
    "trigger_sync": ("POST", "/mailboxes/nobody@example.com/sync", b"", 404),
    "manage_mailboxes": ("GET", f"/mailboxes/{ADA}", b"", 200),
    "oauth_callback": ("GET", "/oauth/callback", b"", 400),
    "read_mailboxes": ("GET", f"/mailboxes/{ADA}/messages/1/attachments/1", b"", 404),
}


@pytest.mark.parametrize("target", source.entry_points())
def test_an_entry_point_with_nothing_to_do(deployment: Deployment, target: str) -> None:
    """Whatever is configured, who only looks into the store imports the store: no Gmail, no Pub/Sub, no credentials."""
    method, path, body, status = IDLE[target]
    started = deployment.start(target, method, path, body)
    assert started.status == status
    assert started.ports() == {SQLITE}
    assert started.imported & FOUNDATIONS == frozenset()


def test_the_store_in_firestore(deployment: Deployment) -> None:
    """With Firestore the store is opened at the start, which takes its client and no other port's."""
    environment = {"MAILMIRROR_STORE": "firestore", "FIRESTORE_EMULATOR_HOST": "127.0.0.1:9"}
    started = deployment.start("sync_history", body=b"malformed", **environment)
    assert started.status == 400
    assert started.ports() == {FIRESTORE}
    assert "sqlite3" not in started.imported


@pytest.mark.parametrize("target", ["sweep_mailboxes", "renew_watches"])
def test_a_schedule_that_publishes(deployment: Deployment, broker: str, target: str) -> None:
    """Who publishes work imports Pub/Sub, and leaves Gmail to who does the work."""
    long_ago = datetime.now(UTC) - timedelta(days=1)
    with SqliteStore(deployment.environment["MAILMIRROR_STORE"].removeprefix("sqlite:")) as store:
        ada = store.mailbox(ADA)
        assert ada is not None
        store.create_mailbox(
            replace(ada, email_address=GRACE, watch=Watch(expires_at=long_ago), next_due_at=long_ago),
        )
    started = deployment.start(target, PUBSUB_EMULATOR_HOST=broker)
    assert started.status == 200
    assert started.ports() == {SQLITE, PUBSUB}
    assert "httplib2" not in started.imported


@pytest.mark.parametrize("target", ["sync_history", "run_work"])
def test_a_sync(deployment: Deployment, gmail: World, gmail_root: str, broker: str, target: str) -> None:
    """Who mirrors mail of ordinary size imports Gmail's client, and neither Cloud Storage nor Secret Manager; only the
    one who hands work on imports Pub/Sub.
    """
    notification = {"emailAddress": GRACE, "historyId": int(gmail.add(GRACE).get_profile()["historyId"])}
    body = push(notification if target == "sync_history" else {"mailbox": GRACE, "task": "sync"})
    now = datetime.now(UTC)
    gmail.add(GRACE).deliver(mail("New", to=GRACE))
    path = deployment.environment["MAILMIRROR_STORE"].removeprefix("sqlite:")
    with SqliteStore(path) as store:
        store.create_mailbox(Mailbox(email_address=GRACE, created_at=now, watch=Watch(expires_at=now), next_due_at=now))
    environment = {"GMAIL_AUTH": "none", "GMAIL_API_ROOT": gmail_root, "PUBSUB_EMULATOR_HOST": broker}
    started = deployment.start(target, body=body, **environment)
    assert started.status == 204
    handed_on = {PUBSUB} if target == "sync_history" else set()
    assert started.ports() == {SQLITE, GMAIL} | handed_on
    with SqliteStore(path) as store:
        mirrored = store.mailbox(GRACE)
        assert mirrored is not None
        # sync_history starts the first sync and leaves it to run_work.
        assert mirrored.counts.messages == (0 if target == "sync_history" else 1)


def test_a_sync_by_delegation(deployment: Deployment) -> None:
    """Who acts for a domain's users needs no Secret Manager, and says so where there is nobody to act as."""
    environment = {"GMAIL_AUTH": "delegation", "GMAIL_DELEGATE": "reader@p.iam.gserviceaccount.com"}
    started = deployment.start("run_work", body=push({"mailbox": ADA, "task": "sync"}), **environment)
    assert started.status == 204
    assert started.ports() == {SQLITE, GMAIL}
    with SqliteStore(deployment.environment["MAILMIRROR_STORE"].removeprefix("sqlite:")) as store:
        ada = store.mailbox(ADA)
        assert ada is not None
        assert ada.problem is not None
        assert ada.problem.code == "CredentialsMissing"


@pytest.mark.parametrize(("uri", "port", "status"), [(None, GMAIL, 200), ("gs://bodies/x/y", STORAGE, 503)])
def test_an_attachment(
    deployment: Deployment, gmail: World, gmail_root: str, uri: str | None, port: str, status: int
) -> None:
    """Who gives an attachment imports what its bytes are read from, and not what others are."""
    message = EmailMessage()
    message["From"] = message["To"] = ADA
    message.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename="a.pdf")
    message_id = gmail.add(ADA).deliver(message.as_bytes())
    attachment = Attachment("0", "a.pdf", "application/pdf", 5, uri=uri)
    document = {"attachments": [to_document(attachment)]}
    with SqliteStore(deployment.environment["MAILMIRROR_STORE"].removeprefix("sqlite:")) as store:
        ada = store.mailbox(ADA)
        assert ada is not None
        now = datetime.now(UTC)
        held = store.acquire(ada, owner="worker", now=now, expires_at=now)
        store.commit(held, ada, [Write("put", ("messages", message_id), document)], expires_at=now, release=True)
    path = f"/mailboxes/{ADA}/messages/{message_id}/attachments/0"
    started = deployment.start("read_mailboxes", "GET", path, GMAIL_AUTH="none", GMAIL_API_ROOT=gmail_root)
    assert started.status == status
    assert started.ports() == {SQLITE, port}


def test_a_large_body(deployment: Deployment, gmail: World, gmail_root: str) -> None:
    """A body that is too large for a document is what takes Cloud Storage, and what fails without it has a name."""
    gmail.add(GRACE).deliver(mail("Large", to=GRACE, text="large " * 50_000))
    now = datetime.now(UTC)
    path = deployment.environment["MAILMIRROR_STORE"].removeprefix("sqlite:")
    with SqliteStore(path) as store:
        store.create_mailbox(Mailbox(email_address=GRACE, created_at=now, watch=Watch(expires_at=now), next_due_at=now))
    environment = {"GMAIL_AUTH": "none", "GMAIL_API_ROOT": gmail_root}
    started = deployment.start("run_work", body=push({"mailbox": GRACE, "task": "sync"}), **environment)
    assert started.ports() == {SQLITE, GMAIL, STORAGE}
    assert started.status == 503
    with SqliteStore(path) as store:
        mirrored = store.mailbox(GRACE)
        assert mirrored is not None
        assert mirrored.problem is not None
        assert mirrored.problem.code == "StoreUnavailable"
        assert "credentials" in mirrored.problem.message
