"""What a deployment consists of: the names that terraform/ gives, and what it sets.

Knows: APIs, entry points, topics, accounts, roles, indexes and TTL policies. Does not know: what is there. The command
may be installed without the repository, so it cannot read terraform/ itself; tests/cli/test_expected.py compares
every name here with terraform/*.tf and functions/main.py.
"""

from dataclasses import dataclass
from typing import Literal

APIS = (
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudfunctions.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "cloudscheduler.googleapis.com",
    "firestore.googleapis.com",
    "gmail.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com",
)
# Besides, where the members of groups are listed.
DIRECTORY_API = "admin.googleapis.com"


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """One function: a row of terraform/functions.tf.

    Attributes:
        name: the entry point in main.py.
        callers: who may call it. For `browsers`, which are everybody's, a function is deployed only where users consent
            in their own.
        mirror: what it may do in Firestore.
        gmail: whether it opens mailboxes.
        bodies: whether it stores or deletes large bodies.
        keeps: whether it keeps what users' consents leave behind.
        forgets: whether it deletes that.
    """

    name: str
    callers: Literal["push", "scheduler", "admins", "browsers"]
    mirror: Literal["write", "connect", "read"]
    gmail: bool
    bodies: bool
    keeps: bool
    forgets: bool

    @property
    def function(self) -> str:
        """The function's name, which its account and its scheduler job have too."""
        return f"mailmirror-{self.name.replace('_', '-')}"


ENTRY_POINTS = (
    EntryPoint("sync_history", "push", "write", gmail=True, bodies=True, keeps=False, forgets=False),
    EntryPoint("run_work", "push", "write", gmail=True, bodies=True, keeps=False, forgets=True),
    EntryPoint("renew_watches", "scheduler", "read", gmail=False, bodies=False, keeps=False, forgets=False),
    EntryPoint("sweep_mailboxes", "scheduler", "read", gmail=False, bodies=False, keeps=False, forgets=False),
    EntryPoint("trigger_sync", "admins", "write", gmail=True, bodies=True, keeps=False, forgets=False),
    EntryPoint("manage_mailboxes", "admins", "write", gmail=True, bodies=True, keeps=True, forgets=True),
    EntryPoint("oauth_callback", "browsers", "connect", gmail=True, bodies=False, keeps=True, forgets=True),
)
# Those whose calls take up to STEP_SECONDS.
STEPPING = ("sync_history", "run_work", "trigger_sync")

GMAIL_TOPIC = "gmail-notifications"
WORK_TOPIC = "mailbox-work"
# Each topic with the entry point that its messages are pushed to.
PUSHES = {GMAIL_TOPIC: "sync_history", WORK_TOPIC: "run_work"}
ACK_DEADLINE_SECONDS = 600
MAX_DELIVERY_ATTEMPTS = 20
# As whom Gmail publishes notifications. https://developers.google.com/gmail/api/guides/push
GMAIL_PUBLISHER = "serviceAccount:gmail-api-push@system.gserviceaccount.com"

PUSH_ACCOUNT = "mailmirror-push"
SCHEDULER_ACCOUNT = "mailmirror-scheduler"
# Custom roles of the project, with the permissions that they are there for.
ROLES = {
    "mailmirrorMirrorWriter": (
        "datastore.databases.get",
        "datastore.entities.create",
        "datastore.entities.delete",
        "datastore.entities.get",
        "datastore.entities.list",
        "datastore.entities.update",
    ),
    "mailmirrorMirrorConnector": (
        "datastore.databases.get",
        "datastore.entities.create",
        "datastore.entities.get",
        "datastore.entities.list",
        "datastore.entities.update",
    ),
    "mailmirrorMirrorReader": (
        "datastore.databases.get",
        "datastore.entities.get",
        "datastore.entities.list",
    ),
    "mailmirrorBodyWriter": (
        "storage.objects.create",
        "storage.objects.delete",
        "storage.objects.list",
    ),
    "mailmirrorJwtSigner": ("iam.serviceAccounts.signJwt",),
    "mailmirrorTokenKeeper": (
        "secretmanager.secrets.create",
        "secretmanager.versions.add",
    ),
    "mailmirrorTokenRemover": ("secretmanager.secrets.delete",),
}
MIRROR_ROLES = {
    "write": "mailmirrorMirrorWriter",
    "connect": "mailmirrorMirrorConnector",
    "read": "mailmirrorMirrorReader",
}
DATABASE_CONDITION = "mailmirror-database"
TOKENS_CONDITION = "mailmirror-tokens"


@dataclass(frozen=True, slots=True)
class Index:
    """A composite index: documents where a field equals, or an array contains, a value, sorted by another field."""

    collection: str
    where: str
    array: bool
    by: str
    order: Literal["ASCENDING", "DESCENDING"]


INDEXES = (
    Index("messages", "labelIds", True, "internalDate", "DESCENDING"),  # noqa: FBT003 -- a row of a table
    Index("messages", "headers.from", False, "internalDate", "DESCENDING"),  # noqa: FBT003
    Index("messages", "threadId", False, "internalDate", "ASCENDING"),  # noqa: FBT003
    Index("threads", "labelIds", True, "lastMessageAt", "DESCENDING"),  # noqa: FBT003
)
# Collections and the field whose time, once passed, lets Firestore delete a document.
TTLS = (("deltas", "expireAt"), ("receipts", "expireAt"))
