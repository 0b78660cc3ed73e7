"""Finding: the threads and messages of a mailbox that an application asks for, page by page.

Knows: what may be asked, and how: the store is asked by one condition, thread, `to`, `from` or a label, the rest is
looked up in the documents read, of which one answer looks at a bounded number and goes on behind them with the next.
Does not know: HTTP, or how a store keeps its order.

Threads by whom they are from or to are found by their messages, each at the newest one that fits.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from mailmirror import mailboxes
from mailmirror.documents import from_document, to_document
from mailmirror.errors import InvalidInput, NotMirrored, UnknownMailbox
from mailmirror.model import EPOCH, Entry, Headers, Mailbox, MailboxId, Message, Query, Thread, ThreadId
from mailmirror.policy import read_time
from mailmirror.ports import Store
from mailmirror.slice import Document, Path, weigh
from mailmirror.threads import thread_document

# Of one answer.
MAX_LIMIT = 100
MAX_LOOKED_AT = 500
MAX_BYTES = 8_000_000
# Read at once: a document may have 1 MiB.
CHUNK = 25

Kind = Literal["threads", "messages", "thread", "message"]
Place = tuple[datetime, str]

# Of a message or thread, and its document.
ID = re.compile(r"[0-9A-Za-z]{1,128}")
_TEXT = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,320}")
_HEADERS = ("id", "threadId", "internalDate", "headers")
_PAGES = ("limit", "pageToken", "fields")
_CONDITIONS = ("label", "unread", "from", "to", "after", "before")
NAMES: Mapping[Kind, tuple[str, ...]] = {
    "threads": (*_CONDITIONS, *_PAGES),
    "messages": (*_CONDITIONS, "thread", *_PAGES),
    "thread": _PAGES,
    "message": ("fields",),
}
_MESSAGE = to_document(Message("", "", frozenset(), 0, EPOCH)) | dict.fromkeys(("origin", "syncedAt", "recipients"))
MESSAGE_FIELDS = (
    *_MESSAGE,
    *(f"{name}.{each}" for name in ("headers", "body") for each in _MESSAGE[name]),
)
THREAD_FIELDS = tuple(thread_document(Thread("", messages={"": Entry(frozenset(), EPOCH, 0)})))


@dataclass(frozen=True, slots=True)
class Ask:
    """What somebody asks for.

    Attributes:
        labels, without: those it has all of, and none of.
        after: the page token's document.
        fields: empty: all.
    """

    labels: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    sender: str | None = None
    to: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    thread: ThreadId | None = None
    limit: int = 50
    after: Place | None = None
    fields: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether one condition says all."""
        return not self.without and len([*self.labels, *filter(None, (self.thread, self.to, self.sender))]) < 2


@dataclass(frozen=True, slots=True)
class Page:
    """Documents, and the token that goes on behind what was looked at; None: the end."""

    documents: list[Document]
    next: str | None


def once(given: Mapping[str, Sequence[str]], names: Sequence[str]) -> dict[str, str]:
    """Return parameters. Raises `InvalidInput`: there is no such, or it is given twice."""
    for name, values in given.items():
        if name not in names:
            raise InvalidInput(f"There is no parameter {name[:50]!a} here; there may be {', '.join(names) or 'none'}.")
        if len(values) != 1:
            raise InvalidInput(f"{name} must be given once.")
    return {name: values[0] for name, values in given.items()}


def limit(given: Mapping[str, str], default: str, most: int) -> int:
    """Return the parameter of this name. Raises `InvalidInput`."""
    text = given.get("limit", default)
    if not re.fullmatch("[1-9][0-9]{0,2}", text) or int(text) > most:
        raise InvalidInput(f"limit must be a number from 1 to {most}.")
    return int(text)


def read_ask(kind: Kind, given: Mapping[str, Sequence[str]]) -> Ask:
    """Return what parameters ask for. Raises `InvalidInput`: not understood, or given twice."""
    one = once(given, NAMES[kind])
    unread, thread = one.get("unread"), one.get("thread")
    if unread not in (None, "true", "false"):
        raise InvalidInput("unread must be true or false.")
    if thread is not None and not ID.fullmatch(thread):
        raise InvalidInput("thread must be a thread id.")
    for name in ("label", "from", "to"):
        if name in one and not _TEXT.fullmatch(one[name]):
            raise InvalidInput(f"{name} must be {'a label id' if name == 'label' else 'an e-mail address'}.")
    fields = tuple(one["fields"].split(",")) if "fields" in one else ()
    known = THREAD_FIELDS if kind == "threads" else MESSAGE_FIELDS
    if not set(known).issuperset(fields):
        raise InvalidInput(f"fields must be names from this list, with commas between them: {', '.join(known)}.")
    return Ask(
        labels=(*([one["label"]] if "label" in one else ()), *(("UNREAD",) if unread == "true" else ())),
        without=("UNREAD",) if unread == "false" else (),
        sender=one["from"].lower() if "from" in one else None,
        to=one["to"].lower() if "to" in one else None,
        since=read_time("after", one["after"]) if "after" in one else None,
        before=read_time("before", one["before"]) if "before" in one else None,
        thread=thread,
        limit=limit(one, "50", MAX_LIMIT),
        after=_place(one["pageToken"]) if "pageToken" in one else None,
        fields=fields,
    )


def readable(store: Store, address: str) -> Mailbox:
    """Return a mailbox to read. Raises `InvalidInput`, `UnknownMailbox`, `BeingPurged`."""
    name = mailboxes.mailbox_id(address)
    mailbox = mailboxes.not_purged(store, name)
    if mailbox is None:
        raise UnknownMailbox(f"Mailbox {name} is not connected.")
    return mailbox


def mirrored(store: Store, mailbox: MailboxId, path: Path) -> Document:
    """Return a thread or a message. Raises `NotMirrored`."""
    found = store.documents(mailbox, [path]) if ID.fullmatch(path[1]) else {}
    if path not in found:
        raise NotMirrored(f"The mirror of {mailbox} has no {path[0][:-1]} of this id.")
    return found[path]


def picked(document: Document, fields: tuple[str, ...]) -> Document:
    """Return its id and these fields of a document."""
    if not fields:
        return document
    found = {name: document[name] for name in ("id", *fields) if name in document}
    for name, _, inner in (each.partition(".") for each in fields):
        if inner and name not in fields and inner in (document.get(name) or {}):
            found[name] = {**found.get(name, {}), inner: document[name][inner]}
    return found


class Finding:
    """Threads and messages by conditions. Each raises what `readable` does."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def messages(self, address: str, ask: Ask) -> Page:
        """Return messages, the newest first."""
        search = _Search(self._store, readable(self._store, address).email_address, ask)
        query = replace(_led(ask), since=ask.since, before=ask.before, fields=_read(ask, "internalDate"))
        return search.page(query, search.messages, exact=ask.exact)

    def threads(self, address: str, ask: Ask) -> Page:
        """Return threads, the newest first: by their last message, or by the newest one `to` or else `from` somebody.

        Each condition is about the thread: not all have to be true of one message.
        """
        search = _Search(self._store, readable(self._store, address).email_address, ask)
        if ask.to is None and ask.sender is None:
            led = ("labelIds", ask.labels[:1]) if ask.labels else None
            query = Query("threads", "lastMessageAt", (), led, ask.since, ask.before, None, _read(ask, "lastMessageAt"))
            return search.page(query, search.labelled, exact=ask.exact)
        # No message of a thread that ends before is later.
        return search.page(replace(_led(ask), before=ask.before, fields=_HEADERS), search.threads)

    def thread(self, address: str, thread_id: ThreadId, ask: Ask) -> tuple[Document, Page]:
        """Return a thread, and its messages, the oldest first. Raises `NotMirrored`."""
        name = readable(self._store, address).email_address
        found = mirrored(self._store, name, ("threads", thread_id))
        return found, _Search(self._store, name, ask).within(found)


@dataclass(slots=True)
class _Search:
    """One answer, and the documents and bytes looked at for it."""

    store: Store
    mailbox: MailboxId
    ask: Ask
    documents: int = 0
    bytes: int = 0
    seen: set[ThreadId] = field(default_factory=set)

    def page(
        self, query: Query, given: Callable[[list[Document]], Iterator[Document | None]], *, exact: bool = False
    ) -> Page:
        """What `given` makes of each document, without None, which is rare if the query is `exact`."""
        ask, found = self.ask, list[Document]()
        query = replace(query, after=ask.after)
        while True:
            room = min(CHUNK, ask.limit - len(found)) if exact else CHUNK
            chunk = self.store.query(self.mailbox, query, limit=room)
            for number, (document, wanted) in enumerate(zip(chunk, given(chunk), strict=True), 1):
                self.look(document)
                place = document[query.by], document["id"]
                found += [] if wanted is None else [wanted]
                if self.enough(found):
                    return Page(found, None if number == len(chunk) < room else _token(place))
            if len(chunk) < room:
                return Page(found, None)
            query = replace(query, after=place)

    def within(self, thread: Document) -> Page:
        ask, found = self.ask, list[Document]()
        places = sorted((entry["internalDate"], name) for name, entry in thread["messages"].items())
        left = [place for place in places if ask.after is None or place > ask.after]
        while left:
            chunk = left[: min(CHUNK, ask.limit - len(found))]
            documents = self.store.documents(self.mailbox, [("messages", name) for _, name in chunk])
            for place in chunk:
                del left[0]
                message = documents.get(("messages", place[1]))
                # It may have moved since.
                if message is not None and message["threadId"] == thread["id"]:
                    self.look(message)
                    found.append(picked(message, ask.fields))
                    if self.enough(found):
                        return Page(found, _token(place) if left else None)
        return Page(found, None)

    def look(self, document: Document) -> None:
        self.documents += 1
        self.bytes += weigh(document)

    def enough(self, found: list[Document]) -> bool:
        return len(found) == self.ask.limit or self.documents >= MAX_LOOKED_AT or self.bytes >= MAX_BYTES

    def messages(self, chunk: list[Document]) -> Iterator[Document | None]:
        ask = self.ask
        for message, given in zip(chunk, self.labelled(chunk), strict=True):
            to = ask.to is None or _went_to(ask.to, message)
            yield given if to and (ask.sender is None or _wrote(ask.sender, message)) else None

    def labelled(self, chunk: list[Document]) -> Iterator[Document | None]:
        for document in chunk:
            labels = set(document["labelIds"])
            fits = labels.issuperset(self.ask.labels) and labels.isdisjoint(self.ask.without)
            yield picked(document, self.ask.fields) if fits else None

    def threads(self, chunk: list[Document]) -> Iterator[Document | None]:
        """Yield threads that fit at the newest of their messages that does."""
        led = [message["threadId"] if self.leads(message) else None for message in chunk]
        new = [("threads", name) for name in dict.fromkeys(led) if name is not None and name not in self.seen]
        threads = self.store.documents(self.mailbox, new)
        for name in led:
            thread = threads.get(("threads", name)) if name is not None and name not in self.seen else None
            if name is not None:
                self.seen.add(name)
            yield None if thread is None else self.fitting(thread)

    def fitting(self, thread: Document) -> Document | None:
        """Return a thread, not seen here before, if it fits and no answer before gave it."""
        ask, last = self.ask, (thread["lastMessageAt"], thread["messageIds"][-1])
        self.look(thread)
        (given,) = self.labelled([thread])
        if given is None or (ask.since and last[0] < ask.since) or (ask.before and last[0] >= ask.before):
            return None
        if ask.after is not None and last >= ask.after and self.some(thread, self.leads, ask.after):
            return None
        return given if ask.to is None or ask.sender is None or self.wrote_in(thread) else None

    def leads(self, message: Document) -> bool:
        return _wrote(self.ask.sender, message) if self.ask.to is None else _went_to(self.ask.to, message)

    def wrote_in(self, thread: Document) -> bool:
        """Return whether the sender wrote in a thread, which may not repeat all senders."""
        senders = {entry.from_.address for entry in from_document(Thread, thread).messages.values()}
        return self.ask.sender in senders or ("" in senders and self.some(thread, partial(_wrote, self.ask.sender)))

    def some(self, thread: Document, fits: Callable[[Document], bool], down_to: Place | None = None) -> bool:
        """Return whether a message fits of those not behind a place."""
        since = down_to and down_to[0]
        query = Query("messages", "internalDate", (("threadId", thread["id"]),), since=since, fields=_HEADERS)
        while chunk := self.store.query(self.mailbox, query, limit=CHUNK):
            for message in chunk:
                self.look(message)
                place = message["internalDate"], message["id"]
                if down_to is not None and place < down_to:
                    return False
                if fits(message):
                    return True
            query = replace(query, after=place)
        return False


def _led(ask: Ask) -> Query:
    query = Query("messages", "internalDate")
    if ask.thread is not None:
        return replace(query, equal=(("threadId", ask.thread),))
    if ask.to is not None:
        return replace(query, any_of=("recipients", (ask.to, "*")))
    if ask.sender is not None:
        return replace(query, equal=(("headers.from.address", ask.sender),))
    return replace(query, any_of=("labelIds", ask.labels[:1])) if ask.labels else query


def _read(ask: Ask, by: str) -> tuple[str, ...]:
    """Return the fields to read, those to sort and to check by included; empty: all."""
    checked = () if ask.to is None and ask.sender is None else ("headers",)
    given = (name.partition(".")[0] for name in ask.fields)
    return tuple(dict.fromkeys(("id", by, "labelIds", *checked, *given))) if ask.fields else ()


def _wrote(sender: str | None, message: Document) -> bool:
    return from_document(Headers, message["headers"]).from_.address == sender


def _went_to(address: str, message: Document) -> bool:
    headers = from_document(Headers, message["headers"])
    return any(each.address == address for each in (*headers.to, *headers.cc, *headers.bcc))


def _place(token: str) -> Place:
    try:
        time, name = json.loads(base64.urlsafe_b64decode(token))
        if type(time) is int and isinstance(name, str) and ID.fullmatch(name):
            return EPOCH + timedelta(microseconds=time), name
    except (ValueError, TypeError, RecursionError, OverflowError):
        pass
    raise InvalidInput("pageToken must be the nextPageToken of the answer before.")


def _token(place: Place) -> str:
    text = json.dumps([(place[0] - EPOCH) // timedelta(microseconds=1), place[1]])
    return base64.urlsafe_b64encode(text.encode()).decode()
