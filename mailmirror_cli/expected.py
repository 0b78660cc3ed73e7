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
        bodies: what it may do in the bucket.
        publishes: whether it publishes work.
        keeps: whether it keeps what users' consents leave behind.
        forgets: whether it deletes that.
    """

    name: str
    callers: Literal["push", "scheduler", "admins", "readers", "browsers"]
    mirror: Literal["write", "connect", "read"]
    gmail: bool
    bodies: Literal["write", "read", "none"]
    publishes: bool = True
    keeps: bool = False
    forgets: bool = False

    @property
    def function(self) -> str:
        """The function's name, which its account and its scheduler job have too."""
        return f"mailmirror-{self.name.replace('_', '-')}"


ENTRY_POINTS = (
    EntryPoint("sync_history", "push", "write", gmail=True, bodies="write"),
    EntryPoint("run_work", "push", "write", gmail=True, bodies="write", forgets=True),
    EntryPoint("renew_watches", "scheduler", "read", gmail=False, bodies="none"),
    EntryPoint("sweep_mailboxes", "scheduler", "read", gmail=False, bodies="none"),
    EntryPoint("trigger_sync", "admins", "write", gmail=True, bodies="write"),
    EntryPoint("manage_mailboxes", "admins", "write", gmail=True, bodies="write", keeps=True, forgets=True),
    EntryPoint("read_mailboxes", "readers", "read", gmail=True, bodies="read", publishes=False),
    EntryPoint("oauth_callback", "browsers", "connect", gmail=True, bodies="none", keeps=True, forgets=True),
)
# Those whose calls take up to STEP_SECONDS.
STEPPING = ("sync_history", "run_work", "trigger_sync")

GMAIL_TOPIC = "gmail-notifications"
WORK_TOPIC = "mailbox-work"
# Only where DELTA_TOPIC is set; those that write the mirror publish to it.
DELTA_TOPIC = "mailbox-deltas"
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
    "mailmirrorBodyReader": (
        "storage.objects.get",
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
BODY_ROLES = {
    "write": "mailmirrorBodyWriter",
    "read": "mailmirrorBodyReader",
}
DATABASE_CONDITION = "mailmirror-database"
TOKENS_CONDITION = "mailmirror-tokens"


@dataclass(frozen=True, slots=True)
class Index:
    """A composite index.

    Attributes:
        collection: what it is for.
        fields: each field with how it is indexed: CONTAINS, ASCENDING or DESCENDING.
    """

    collection: str
    fields: tuple[tuple[str, str], ...]

    @property
    def told(self) -> str:
        """The index in words."""
        *others, last = (field for field, _ in self.fields)
        return f"{self.collection} by {', '.join(others)} and {last}"


INDEXES = (
    Index("messages", (("labelIds", "CONTAINS"), ("internalDate", "DESCENDING"))),
    Index("messages", (("headers.from.address", "ASCENDING"), ("internalDate", "DESCENDING"))),
    Index("messages", (("threadId", "ASCENDING"), ("internalDate", "ASCENDING"))),
    Index("threads", (("labelIds", "CONTAINS"), ("lastMessageAt", "DESCENDING"))),
    Index("threads", (("starred", "ASCENDING"), ("lastMessageAt", "DESCENDING"))),
    Index("threads", (("labelIds", "CONTAINS"), ("unread", "ASCENDING"), ("lastMessageAt", "DESCENDING"))),
    Index("threads", (("hasAttachments", "ASCENDING"), ("lastMessageAt", "DESCENDING"))),
    Index("messages", (("recipients", "CONTAINS"), ("internalDate", "DESCENDING"))),
    Index("messages", (("threadId", "ASCENDING"), ("internalDate", "DESCENDING"))),
)
# Collections and the field whose time, once passed, lets Firestore delete a document.
TTLS = (("deltas", "expireAt"), ("receipts", "expireAt"))
