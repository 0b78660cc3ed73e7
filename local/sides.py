"""The two sides of the comparison: a mailbox as Gmail has it, and its mirror as the database and the bucket have it.

Knows: what the fake Gmail says of itself (`/state`), what of it a policy mirrors, and how documents and objects are
stored. Does not know: when both are equal (`truth`). Like `truth` it shares nothing with the engine, not even a client
library.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

Document = Mapping[str, Any]
Documents = Mapping[str, Document]

COLLECTIONS = ("messages", "threads", "labels", "deltas", "parked")


@dataclass(frozen=True, slots=True)
class Mirror:
    """The documents of one mailbox as stored; times are aware datetimes.

    Attributes:
        mailbox: the mailbox document itself.
        read: reads an object of the bucket by its URI as any reader does, None when there is none.
    """

    mailbox: Document
    messages: Documents
    threads: Documents
    labels: Documents
    deltas: Documents
    parked: Documents
    read: Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class Truth:
    """A mailbox, and the part of it that a policy mirrors.

    Attributes:
        everything: all messages there are.
        policy: as the mailbox document has it; without one, everything but drafts.
        bare: whether the deployment mirrors no content, whatever the policy says.
        stores: whether it keeps the bytes of attachments.
        at: which day it is, where the policy wants the newest days.
        messages: those that the policy wants, as it wants them.
        threads: which of them make a thread.
    """

    everything: Documents
    labels: Documents
    history_id: int
    policy: Document = field(default_factory=dict)
    bare: bool = False
    stores: bool = False
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    messages: Documents = field(init=False)
    threads: Mapping[str, frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        """Derive what the policy wants."""
        messages = {key: self._wanted(value) for key, value in self.everything.items() if self._wants(value)}
        threads: dict[str, set[str]] = {}
        for message_id, message in messages.items():
            threads.setdefault(message["threadId"], set()).add(message_id)
        object.__setattr__(self, "messages", messages)
        object.__setattr__(self, "threads", {thread_id: frozenset(ids) for thread_id, ids in threads.items()})

    @classmethod
    def from_state(cls, state: Document) -> "Truth":
        """Read the answer of the fake's `/state`."""
        return cls(state["messages"], state["labels"], int(state["historyId"]))

    def _wants(self, message: Document) -> bool:
        labels = set(message["labelIds"])
        unwanted = {*self.policy.get("excludeLabelIds", ()), *(() if self.policy.get("drafts") else ("DRAFT",))}
        if not self.policy.get("includeSpamTrash", True):
            unwanted |= {"SPAM", "TRASH"}
        wanted = set(self.policy.get("labelIds", ())) or labels
        old = any(message["internalDate"] < first.timestamp() * 1000 for first in self._firsts())
        return not old and not labels & unwanted and (not wanted or bool(labels & wanted))

    def _firsts(self) -> Iterator[datetime]:
        """The times before which the policy wants nothing."""
        if self.policy.get("since") is not None:
            yield self.policy["since"]
        if self.policy.get("newestDays") is not None:
            midnight = self.at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            yield midnight - timedelta(days=self.policy["newestDays"])

    def _wanted(self, message: Document) -> Document:
        if not self.bare and self.policy.get("bodies", True):
            return message
        return {**message, "body": {"text": "", "html": ""}, "rendered": False, "inWords": [], "attachments": []}


def read_truth(gmail: str, mailbox: str) -> Truth:
    """Ask the fake Gmail for the true state of a mailbox."""
    return Truth.from_state(_get(f"{gmail}/control/mailboxes/{quote(mailbox)}/state"))


def read_sqlite(file: Path, mailbox: str, storage: str) -> Mirror:
    """Read the mirror from SQLite: a table of JSON documents, a time written as `{"$time": …}`."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, isolation_level=None)) as database:
        database.execute("BEGIN")  # one moment for all collections
        collections = {name: _read_documents(database, f"mailboxes/{mailbox}/{name}") for name in COLLECTIONS}
        document = _read_documents(database, "mailboxes").get(mailbox, {})
    return Mirror(mailbox=document, **collections, read=_bucket_reader(storage))


def read_firestore(host: str, project: str, mailbox: str, storage: str) -> Mirror:
    """Read the mirror from the Firestore emulator, by its REST API."""
    root = f"http://{host}/v1/projects/{project}/databases/(default)/documents/mailboxes/{quote(mailbox)}"
    collections = {name: dict(_list_documents(f"{root}/{name}")) for name in COLLECTIONS}
    return Mirror(mailbox=_fields(_get(root)), **collections, read=_bucket_reader(storage))


def _read_documents(database: sqlite3.Connection, collection: str) -> Documents:
    rows = database.execute("SELECT id, data FROM documents WHERE collection = ?", (collection,))
    return {key: json.loads(data, object_hook=_with_time) for key, data in rows}


def _with_time(value: dict[str, Any]) -> Any:
    return datetime.fromisoformat(value["$time"]) if value.keys() == {"$time"} else value


def _list_documents(url: str) -> Iterator[tuple[str, Document]]:
    token = ""
    while True:
        page = _get(f"{url}?pageSize=300&pageToken={quote(token)}")
        for document in page.get("documents", ()):
            yield document["name"].rpartition("/")[2], _fields(document)
        token = page.get("nextPageToken", "")
        if not token:
            return


def _fields(document: Document) -> dict[str, Any]:
    return {name: _value(value) for name, value in document.get("fields", {}).items()}


def _value(value: Document) -> Any:
    """A Firestore REST value, which names its type, as the plain value."""
    [(kind, content)] = value.items()
    match kind:
        case "mapValue":
            return _fields(content)
        case "arrayValue":
            return [_value(item) for item in content.get("values", ())]
        case "integerValue":
            return int(content)
        case "timestampValue":
            return datetime.fromisoformat(content)
        case _:
            return content


def _bucket_reader(storage: str) -> Callable[[str], bytes | None]:
    def read(uri: str) -> bytes | None:
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        with _session() as session:
            answer = session.get(f"{storage}/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media", timeout=30)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        # What is stored gzip'ed arrives unpacked, by the bucket or by the library.
        return answer.content

    return read


def _get(url: str) -> dict[str, Any]:
    with _session() as session:
        answer = session.get(url, headers={"Authorization": "Bearer owner"}, timeout=60)
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session
