"""README's queries: each finds what it says, on Google's Firestore emulator, and has the index that it needs.

Knows: the code as README shows it, documents as a sync wrote them, what plain Python finds in the same documents, and
terraform/firestore.tf. The emulator answers a query without its index too, so what each one needs is derived from what
was asked as Firestore's documentation has it: each field has an index of its own unless it is exempt, and a query of
several fields needs a composite one, but for one that compares all of them for equality
(https://cloud.google.com/firestore/docs/query-data/index-overview).
"""

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import prod
from pathlib import Path
from typing import Any

import hcl2
import pytest
from google.api_core.exceptions import InvalidArgument
from google.cloud import firestore
from google.cloud.firestore import FieldFilter, Or
from google.cloud.firestore_v1.types import StructuredQuery
from mailmirror.adapters.firestore import FirestoreStore
from mailmirror.content import read_content
from mailmirror.mirror import message_document
from mailmirror.model import Message, Query, Thread
from mailmirror.threads import entry_of, thread_document

from tests.contract.worker import firestore_client
from tests.test_readme import section, table
from tests.world import ADA, World

TERRAFORM = Path(__file__).resolve().parents[2] / "terraform" / "firestore.tf"
START = datetime(2026, 11, 1, tzinfo=UTC)
GRACE, BOB, CAROL = "grace@navy.example", "bob@parc.example", "carol@x.example"
FAR_TOO_MANY = [f"{number}@crowd.example" for number in range(150)]
FORTY = range(40)

# What one document may have of them.
MOST_ENTRIES = 40_000

Document = Mapping[str, Any]
# A field and how an index has it: CONTAINS, ASCENDING or DESCENDING.
Indexed = tuple[str, str]


@dataclass(frozen=True)
class Mirror:
    """A mailbox as a sync wrote it, and all of its documents.

    Attributes:
        store: what wrote it.
        box: the mailbox document.
        asked: the queries sent since it was emptied last.
    """

    store: FirestoreStore
    box: firestore.DocumentReference
    messages: list[Document]
    threads: list[Document]
    deltas: list[Document]
    asked: list[StructuredQuery]


@dataclass(frozen=True, slots=True)
class Index:
    """A composite index: the fields that hold a value, in any order, and the one that sorts."""

    collection: str
    fields: frozenset[Indexed]
    by: Indexed


class Listening:
    """Stands between a client and its gRPC methods and notes each query."""

    def __init__(self, client: firestore.Client) -> None:
        self._api: Any = client._firestore_api
        self.asked: list[StructuredQuery] = []
        client._firestore_api_internal = self

    def run_query(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(kwargs["request"]["structured_query"])
        return self._api.run_query(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)


def source(number: int) -> bytes:
    """Return a message: of four in a row, three answer the first; some have a file."""
    first = number - number % 4
    sender = "Grace <Grace@Navy.EXAMPLE>" if number % 3 else f"Bob <{BOB}>"
    parents = " ".join(f"<{each}@x.example>" for each in range(first, number))
    answers = f"References: {parents}\r\n" if parents else ""
    # What went to more people than are indexed is found by whoever is looked for.
    people = f"{ADA}, " + ", ".join([f"Carol <{CAROL.upper()}>"] * (number % 9 == 7) + FAR_TOO_MANY * (number == 11))
    head = f"From: {sender}\r\nTo: {people}\r\nSubject: Number {first}\r\nMessage-ID: <{number}@x.example>\r\n{answers}"
    if number % 8 != 5:
        return f"{head}\r\nText {number}\r\n".encode()
    file = "Content-Type: application/pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\n%PDF"
    parts = f"--b\r\n\r\nText\r\n--b\r\n{file}\r\n--b--\r\n"
    return f"{head}Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}".encode()


def labels(number: int) -> list[str]:
    """Return the labels that a message arrives with."""
    found = [] if number % 8 == 6 or number // 4 in {3, 7} else ["INBOX"]
    found += ["UNREAD"] if number % 5 == 0 else []
    return found + (["STARRED"] if number in {9, 10, 22} else [])


@pytest.fixture(scope="module")
def mirror(firestore_emulator: str) -> Iterator[Mirror]:
    """Forty messages in ten threads, one a day, synced; and then two notifications, each with a delta."""
    with firestore_client(firestore_emulator, f"queries-{uuid.uuid4().hex[:12]}") as client:
        world = World(store=FirestoreStore(client))
        ids: list[str] = []
        for number in FORTY:
            thread = ids[number - number % 4] if number % 4 else None
            date = START + timedelta(days=number)
            world.ada.deliver(source(number), label_ids=labels(number), internal_date=date, thread_id=thread)
            ids = sorted(world.ada.truth()["messages"], key=lambda each: _date(world, each))
        world.connect()
        for number in (3, 17):
            world.ada.modify([ids[number]], ["IMPORTANT"])
            world.notify()
        box = client.document("mailboxes", ADA)
        found = {name: _documents(box, name) for name in ("messages", "threads", "deltas")}
        listening = Listening(client)
        yield Mirror(FirestoreStore(client), box, **found, asked=listening.asked)


def _date(world: World, message_id: str) -> int:
    return int(world.ada.truth()["messages"][message_id]["internalDate"])


def _documents(box: firestore.DocumentReference, collection: str) -> list[Document]:
    return [snapshot.to_dict() or {} for snapshot in box.collection(collection).stream()]


def code() -> str:
    """Return README's queries."""
    (found,) = re.findall(r"```python\n(.*?)```", section("Queries"), re.DOTALL)
    return str(found)


def queries() -> dict[str, Callable[..., Any]]:
    """Return the functions of README's code, by name."""
    names: dict[str, Any] = {}
    exec(code(), names)
    return {name: names[name] for name in re.findall(r"^def (\w+)\(mailbox", code(), re.MULTILINE)}


def newest(documents: Iterable[Document], by: str) -> list[str]:
    """Return the ids of documents, the newest first."""
    return [each["id"] for each in sorted(documents, key=lambda each: each[by], reverse=True)]


def oldest(documents: Iterable[Document], by: str) -> list[str]:
    """Return the ids of documents, the oldest first."""
    return newest(documents, by)[::-1]


def addresses(message: Document) -> list[str]:
    """Return to whom a message went."""
    return [person["address"] for name in ("to", "cc", "bcc") for person in message["headers"][name]]


@dataclass(frozen=True, slots=True)
class Case:
    """A query of README.

    Attributes:
        asks: the collection whose documents it finds.
        given: its arguments besides the mailbox.
        finds: the ids it has to find, by plain Python.
    """

    asks: str
    given: Callable[[Mirror], tuple[Any, ...]]
    finds: Callable[[Mirror], list[str]]


WEEK = START + timedelta(days=7), START + timedelta(days=14)
CASES: dict[str, Case] = {
    "inbox": Case(
        "threads", lambda m: (), lambda m: newest((t for t in m.threads if "INBOX" in t["labelIds"]), "lastMessageAt")
    ),
    "unread_in_inbox": Case(
        "threads",
        lambda m: (),
        lambda m: newest((t for t in m.threads if {"INBOX", "UNREAD"} <= set(t["labelIds"])), "lastMessageAt"),
    ),
    "starred": Case(
        "threads", lambda m: (), lambda m: newest((t for t in m.threads if "STARRED" in t["labelIds"]), "lastMessageAt")
    ),
    "with_attachments": Case(
        "threads",
        lambda m: (),
        lambda m: newest(
            (t for t in m.threads if any(n["threadId"] == t["id"] and n["attachments"] for n in m.messages)),
            "lastMessageAt",
        ),
    ),
    "from_sender": Case(
        "messages",
        lambda m: ("Grace@navy.example",),
        lambda m: newest((n for n in m.messages if n["headers"]["from"]["address"] == GRACE), "internalDate"),
    ),
    "to_recipient": Case(
        "messages",
        lambda m: ("Carol@X.example",),
        lambda m: newest(
            (n for n in m.messages if CAROL in addresses(n) or len(addresses(n)) > 100),
            "internalDate",
        ),
    ),
    "labelled_between": Case(
        "messages",
        lambda m: ("INBOX", *WEEK),
        lambda m: newest(
            (n for n in m.messages if "INBOX" in n["labelIds"] and WEEK[0] <= n["internalDate"] < WEEK[1]),
            "internalDate",
        ),
    ),
    "of_thread": Case(
        "messages",
        lambda m: (m.threads[0]["id"],),
        lambda m: oldest((n for n in m.messages if n["threadId"] == m.threads[0]["id"]), "internalDate"),
    ),
    "newest_of_thread": Case(
        "messages",
        lambda m: (m.threads[0]["id"],),
        lambda m: newest((n for n in m.messages if n["threadId"] == m.threads[0]["id"]), "internalDate"),
    ),
    "replies_to": Case(
        "messages",
        lambda m: ("<4@x.example>",),
        lambda m: sorted(n["id"] for n in m.messages if "<4@x.example>" in n["headers"]["references"]),
    ),
    "thread_by_message_id": Case(
        "threads",
        lambda m: ("<7@x.example>",),
        lambda m: [n["threadId"] for n in m.messages if n["headers"]["messageId"] == "<7@x.example>"],
    ),
    "changes_after": Case(
        "deltas", lambda m: (len(m.deltas) - 2,), lambda m: sorted(f"{each['seq']:020d}" for each in m.deltas)[-2:]
    ),
}


def asked(mirror: Mirror, name: str) -> list[str]:
    """Run a query of README and return the ids it finds; `mirror.asked` has what was sent for it."""
    mirror.asked.clear()
    found = queries()[name](mirror.box, *CASES[name].given(mirror))
    return [each.id for each in (found.stream() if isinstance(found, firestore.Query) else [found])]


@pytest.mark.parametrize("name", CASES)
def test_a_query_finds_what_it_says(mirror: Mirror, name: str) -> None:
    """README's code finds exactly the documents that plain Python finds among all, in the order promised."""
    ids = asked(mirror, name)
    assert ids == CASES[name].finds(mirror)
    assert 0 < len(ids) < len(getattr(mirror, CASES[name].asks))


def test_every_query_of_readme_is_tried() -> None:
    """Each function that README shows is run here, and each has its row in the table of indexes."""
    assert list(queries()) == list(CASES) == [row[0].strip("`") for row in table("Queries")]


def test_a_message_that_nobody_has_has_no_thread(mirror: Mirror) -> None:
    """A Message-ID that is not mirrored is no failure."""
    assert queries()["thread_by_message_id"](mirror.box, "<nobody@x.example>") is None


@pytest.mark.parametrize(
    "filters",
    [
        [FieldFilter("labelIds", "array_contains", label) for label in ("INBOX", "STARRED")],
        [FieldFilter("labelIds", "array_contains_any", [f"Label_{number}" for number in range(31)])],
        [Or([FieldFilter("labelIds", "array_contains", f"Label_{number}") for number in range(31)])],
    ],
    ids=["two labels at once", "one of 31 labels", "31 alternatives"],
)
def test_what_firestore_cannot_do_it_refuses(mirror: Mirror, filters: list[Any]) -> None:
    """README says so, that nobody builds on it: two values in one array, and more than 30 alternatives."""
    query = mirror.box.collection("threads")
    for each in filters:
        query = query.where(filter=each)
    with pytest.raises(InvalidArgument, match=r"1 'ARRAY_CONTAINS' filter|up to 30|maximum of 30"):
        query.get()


def test_one_label_or_another_is_a_query(mirror: Mirror) -> None:
    """Thirty alternatives are, in the order of one index."""
    wanted = ["STARRED", "IMPORTANT", *(f"Label_{number}" for number in range(28))]
    query = mirror.box.collection("threads").where(filter=FieldFilter("labelIds", "array_contains_any", wanted))
    found = query.order_by("lastMessageAt", direction=firestore.Query.DESCENDING).get()
    assert [each.id for each in found] == newest(
        (t for t in mirror.threads if {"STARRED", "IMPORTANT"}.intersection(t["labelIds"])), "lastMessageAt"
    )


# Indexes


def needed(query: StructuredQuery) -> Index | None:
    """Return the composite index that a query needs, None if those of single fields are enough."""
    held, compared = set(), set()
    for each in _filters(query):
        path, operator = each.field_filter.field.field_path, each.field_filter.op.name
        if operator in ("EQUAL", "ARRAY_CONTAINS", "ARRAY_CONTAINS_ANY"):
            held.add((path, "ASCENDING" if operator == "EQUAL" else "CONTAINS"))
        else:
            compared.add(path)
    orders = [(each.field.field_path, each.direction.name) for each in query.order_by]
    # What is compared sorts, and the name of the document ends every index.
    orders = [order for order in orders if order[0] != "__name__"] or [(path, "ASCENDING") for path in compared]
    assert compared <= {path for path, _ in orders}
    assert len(orders) <= 1, "The table of indexes has room for one field that sorts."
    if not orders or not held:
        return None
    return Index(query.from_[0].collection_id, frozenset(held), orders[0])


def _filters(query: StructuredQuery) -> list[Any]:
    where: Any = query.where
    if "composite_filter" in where:
        return list(where.composite_filter.filters)
    return [where] if "field_filter" in where else []


def touched(query: StructuredQuery) -> set[tuple[str, str]]:
    """Return (collection, field) of each field that a query filters or sorts by."""
    paths = [each.field_filter.field.field_path for each in _filters(query)]
    paths += [each.field.field_path for each in query.order_by]
    return {(query.from_[0].collection_id, path) for path in paths if path != "__name__"}


def local(name: str) -> dict[str, Any]:
    """Return a local value of firestore.tf."""
    options = hcl2.SerializationOptions(with_comments=False, explicit_blocks=False, strip_string_quotes=True)
    with TERRAFORM.open() as file:
        (found,) = [block[name] for block in hcl2.load(file, serialization_options=options)["locals"] if name in block]
    assert isinstance(found, dict)
    return found


def declared() -> dict[str, Index]:
    """Return Terraform's composite indexes, by name."""
    found = {}
    for name, index in local("indexes").items():
        fields = [(path, kind) for path, kind in index["fields"]]
        found[name] = Index(index["collection"], frozenset(fields[:-1]), fields[-1])
    return found


def exempt(collection: str, field: str) -> bool:
    """Whether Firestore keeps no index of a field."""
    names = local("unindexed").get(collection, [])
    return any(name in {"*", field} or field.startswith(f"{name}.") for name in names)


@pytest.mark.parametrize("row", table("Queries"), ids=lambda row: row[0])
def test_a_query_has_its_index(mirror: Mirror, row: list[str]) -> None:
    """The index that a query needs is the one README names, Terraform makes it, and its fields are indexed."""
    asked(mirror, row[0].strip("`"))
    (query,) = mirror.asked
    index, name = needed(query), row[1].strip("`")
    assert index == declared().get(name)
    assert (name == "none") is (index is None)
    if index is not None:
        told = [
            (path, kind.upper())
            for path, kind in re.findall(r"`([\w.]+)` (\w+)", row[2].replace("contains", "CONTAINS"))
        ]
        assert (frozenset(told[:-1]), told[-1]) == (index.fields, index.by)
    assert [each for each in touched(query) if exempt(*each)] == []


def test_no_index_is_there_for_nothing() -> None:
    """Each index that Terraform makes is one that a query of README needs: it costs with every write."""
    assert sorted(declared()) == sorted(row[1].strip("`") for row in table("Queries") if row[1] != "none")


def test_the_functions_own_queries_need_no_composite_index(mirror: Mirror) -> None:
    """Whatever the store asks is answered by indexes of single fields, and by none that Terraform takes away."""
    mirror.asked.clear()
    store, soon = mirror.store, START + timedelta(days=300)
    list(store.due_mailboxes(soon))
    list(store.watches_expiring(soon))
    assert store.mailboxes(after="a")
    assert store.scan_threads(ADA, after="0", limit=1)
    assert store.threads_labelled(ADA, "INBOX", limit=1)
    assert store.threads_before(ADA, soon, limit=1)
    assert store.below(ADA, limit=1)
    assert store.parked(ADA) == []
    assert store.named_objects(ADA, ["nobody/has-this"]) == set()
    assert store.deltas(ADA, after=0, limit=1)
    assert len(mirror.asked) >= 10
    assert [query for query in mirror.asked if needed(query) is not None] == []
    fields = {each for query in mirror.asked for each in touched(query)}
    assert fields >= {("mailboxes", "nextDueAt"), ("messages", "objects"), ("threads", "firstMessageAt")}
    assert [each for each in fields if exempt(*each)] == []


ASKED_OVER_HTTP = {
    "messages": Query("messages", "internalDate"),
    "messages of a thread": Query("messages", "internalDate", equal=(("threadId", "t"),)),
    "messages to somebody": Query("messages", "internalDate", any_of=("recipients", (ADA, "*"))),
    "messages by somebody": Query("messages", "internalDate", equal=(("headers.from.address", GRACE),)),
    "messages by label": Query("messages", "internalDate", any_of=("labelIds", ("INBOX",))),
    "threads": Query("threads", "lastMessageAt"),
    "threads by label": Query("threads", "lastMessageAt", any_of=("labelIds", ("INBOX",))),
}


@pytest.mark.parametrize("name", ASKED_OVER_HTTP)
def test_what_is_asked_over_http_has_its_index(mirror: Mirror, name: str) -> None:
    """Whatever leads a listing, with a range of time, behind a document, of some fields: Terraform makes its index."""
    mirror.asked.clear()
    query = replace(
        ASKED_OVER_HTTP[name], since=START, before=START + timedelta(days=99), after=(START, "1"), fields=("id",)
    )
    mirror.store.query(ADA, ASKED_OVER_HTTP[name], limit=1)
    mirror.store.query(ADA, query, limit=1)
    assert len(mirror.asked) == 2
    for each in mirror.asked:
        assert needed(each) in {None, *declared().values()}
        assert (needed(each) is None) is (name in {"messages", "threads"})
        assert {order.direction.name for order in each.order_by} == {"DESCENDING"}
        assert [field for field in touched(each) if exempt(*field)] == []


def test_readme_says_what_is_not_indexed() -> None:
    """Nobody looks for what cannot be found: README names each field without an index that an application reads."""
    told = section("Queries").replace("\n", " ")
    for collection in ("messages", "threads"):
        (named,) = re.findall(rf"of `{collection}` ((?:`[\w.]+`(?:, | and )?)+)[;.]", told)
        assert re.findall(r"`([\w.]+)`", named) == local("unindexed")[collection]


def entries(collection: str, document: Document) -> int:
    """Return how many index entries a document has: two of each field, one of each value of an array in each index."""
    number = dict(_leaves(document, ""))
    single = sum(2 if count is None else count for path, count in number.items() if not exempt(collection, path))
    composite = [index for index in declared().values() if index.collection == collection]
    return single + sum(
        prod(number[path] or 1 for path, _ in (*index.fields, index.by) if path in number) for index in composite
    )


def _leaves(value: Document, prefix: str) -> Iterator[tuple[str, int | None]]:
    """The fields that are no maps, and how many values those have that are arrays."""
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _leaves(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", len(item) if isinstance(item, list) else None


def test_no_document_needs_more_index_entries_than_firestore_allows() -> None:
    """With all the labels that a mailbox can have, and a sender who fills headers with the shortest ids there are.

    https://cloud.google.com/firestore/quotas#indexes
    """
    labels = frozenset(f"Label_{number}" for number in range(10_000))
    ids = "".join(f"<{number:x}>" for number in range(50_000))
    headers = [{"name": name, "value": ids} for name in ("References", "In-Reply-To")]
    people = ", ".join(f"{number:x}@x" for number in range(50_000))
    headers += [{"name": name, "value": people} for name in ("To", "Cc", "Bcc", "Reply-To")]
    content = read_content({"mimeType": "text/plain", "headers": headers, "body": {"size": 0}})
    objects = tuple(f"{ADA}/{number}" for number in range(1_001))
    message = Message("m1", "t1", labels, 1, START, headers=content.headers, objects=objects)
    thread = Thread("t1", 1, {f"m{number}": entry_of(message) for number in range(3)})
    found = [entries("messages", message_document(message)), entries("threads", thread_document(thread))]
    assert min(found) > 25_000
    assert max(found) <= MOST_ENTRIES
