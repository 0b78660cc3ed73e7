"""What a mailbox's mirror answers: threads, messages, and the delta log, as values.

Knows: the routes of read_mailboxes, page tokens, and how an event stream is followed over broken connections. Does not
know: what anybody does with it (`cache`). A follower gets each delta after its cursor, once and in order, or an error.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal
from urllib.parse import quote

import requests

from mailmirror_client.service import Params, Service, ServiceError

Document = dict[str, Any]
# What a filter may be: `fields` are names.
Filter = str | int | bool | date | Iterable[str] | None

_LONGEST_WAIT = 50
# The server sends something every 15 s.
_SILENCE_SECONDS = 45.0
_LASTING_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0


class CursorExpired(ServiceError):
    """The delta log does not go on from a cursor: what was built from it is to be built anew."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a delta says of one message: `messageAdded`, also where it moved to, `messageDeleted` or `labelsChanged`."""

    type: str
    message_id: str
    thread_id: str
    labels_added: tuple[str, ...] = ()
    labels_removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What one commit changed. `cursor`: to go on after it; `origin`: `live`, `backfill` or `repair`."""

    cursor: str
    seq: int
    at: datetime
    origin: str
    history_id: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Some deltas. `cursor`: to go on after all of them and what was left out; `more`: at once."""

    deltas: tuple[Delta, ...]
    cursor: str
    more: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of a listing. `token`: of the next, None for the last."""

    documents: tuple[Document, ...]
    token: str | None


class Reader:
    """One mailbox's mirror, over HTTP; for one thread at a time, as its service.

    Example:
        reader = Reader(Service("http://127.0.0.1:8080"), "ada@example.com")
        for thread in reader.threads(label="INBOX", unread=True):
            print(thread["subject"])
    """

    def __init__(self, service: Service, mailbox: str) -> None:
        """Say where `read_mailboxes` is, and whose mail."""
        self.service = service
        self.mailbox = mailbox.strip().lower()
        self._root = f"/mailboxes/{quote(self.mailbox, safe='')}"

    def threads(self, **filters: Filter) -> Iterator[Document]:
        """Yield threads, the newest first: `label`, `unread`, `from_`, `to`, `after`, `before`, `fields`.

        A thread that gets new mail meanwhile is the newest from then on: it may be left out, and is in the delta log.
        """
        return self._all("threads", filters)

    def messages(self, **filters: Filter) -> Iterator[Document]:
        """Yield messages, the newest first; also `thread`."""
        return self._all("messages", filters)

    def pages(
        self, what: Literal["threads", "messages"], filters: Mapping[str, Filter], token: str | None = None
    ) -> Iterator[Listed]:
        """Yield the pages of a listing, from a token on. A page may be empty, and not be the last."""
        path = f"{self._root}/{what}"
        while True:
            answer = self._get(path, {**_query(filters), "pageToken": token})
            token = answer.get("nextPageToken")
            yield Listed(tuple(answer[what]), token)
            if token is None:
                return

    def thread(self, thread_id: str, *, fields: Iterable[str] | None = None) -> Document:
        """Return a thread's document with its `messages`, the oldest first. `fields` are of messages."""
        path = f"{self._root}/threads/{quote(thread_id, safe='')}"
        query = _query({"fields": fields, "limit": 100})
        answer = self._get(path, query)
        messages = list(answer["messages"])
        thread: Document = {**answer["thread"]}
        while (token := answer.get("nextPageToken")) is not None:
            answer = self._get(path, {**query, "pageToken": token})
            messages += answer["messages"]
        return {**thread, "messages": messages}

    def message(self, message_id: str, *, fields: Iterable[str] | None = None) -> Document:
        """Return a message."""
        return self._get(f"{self._root}/messages/{quote(message_id, safe='')}", _query({"fields": fields}))

    def latest_cursor(self) -> str:
        """Return the cursor behind the newest delta."""
        return str(self._get(f"{self._root}/deltas/latest-cursor", {})["cursor"])

    def deltas(
        self,
        cursor: str | None = None,
        *,
        limit: int | None = None,
        types: Iterable[str] | None = None,
        origin: Iterable[str] | None = None,
        wait: float = 0,
    ) -> Page:
        """Return the deltas after a cursor; None: from the beginning.

        Args:
            cursor: a delta's, a page's, or the latest.
            limit: the most of them.
            types: only changes of these, such as `messageAdded`.
            origin: only these, such as `live`.
            wait: seconds, 60 at the most, to wait for the next where there is none.

        Raises:
            CursorExpired: the log does not go on from there.
            ServiceError: it was refused, or not answered in time.
        """
        query = _query({"cursor": cursor, "limit": limit, "types": types, "origin": origin})
        with _expiring():
            path, given = f"{self._root}/deltas", {**query, "wait": wait or None}
            answer = self.service.ask("GET", path, params=given, seconds=wait + 60).content
        return Page(tuple(map(_delta, answer["deltas"])), str(answer["cursor"]), bool(answer["more"]))

    def follow(
        self,
        cursor: str,
        *,
        types: Iterable[str] | None = None,
        origin: Iterable[str] | None = None,
        stream: bool = True,
    ) -> Iterator[Delta]:
        """Yield each delta after a cursor, for ever; over server-sent events, or by pages that wait.

        Raises:
            CursorExpired: the log does not go on from where it was.
            ServiceError: it was refused, or not reached for longer than the service's patience.
        """
        if stream:
            yield from self._stream(cursor, _query({"types": types, "origin": origin}))
        while True:
            page = self.deltas(cursor, types=types, origin=origin, wait=_LONGEST_WAIT)
            yield from page.deltas
            cursor = page.cursor

    def _stream(self, cursor: str, query: Params) -> Iterator[Delta]:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            with _expiring(), self._opened(cursor, query) as response:
                for event in events(_pieces(response)):
                    if event.name == "delta" and event.data:
                        yield _delta(json.loads(event.data))
                    cursor = event.id or cursor
            # It ends by itself every few minutes; what ends at once, again and again, is not asked faster and faster.
            lasted = time.monotonic() - began > _LASTING_SECONDS
            pause = _FIRST_PAUSE_SECONDS if lasted else min(2 * pause, _LONGEST_PAUSE_SECONDS)
            time.sleep(pause)

    @contextmanager
    def _opened(self, cursor: str, query: Params) -> Iterator[requests.Response]:
        path, given = f"{self._root}/deltas", {**query, "cursor": cursor}
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", "Last-Event-ID": cursor}
        with self.service.open("GET", path, params=given, headers=headers, seconds=_SILENCE_SECONDS) as response:
            kind = response.headers.get("Content-Type", "nothing")
            if not kind.startswith("text/event-stream"):
                told = f"{self.service.address}{path} answered with {kind}, not with an event stream."
                raise ServiceError(response.status_code, "UNKNOWN", told)
            yield response

    def _all(self, what: Literal["threads", "messages"], filters: Mapping[str, Filter]) -> Iterator[Document]:
        for page in self.pages(what, filters):
            yield from page.documents

    def _get(self, path: str, query: Params) -> Document:
        return self.service.ask("GET", path, params=query).content


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a stream; `id` is empty where it has none."""

    name: str
    id: str
    data: str


def events(pieces: Iterable[bytes]) -> Iterator[Event]:
    """Yield the whole events of a stream that comes in pieces; one that breaks off is none."""
    fields: dict[str, str] = {}
    for line in _lines(pieces):
        if not line:
            if fields:
                yield Event(fields.get("event", "message"), fields.get("id", ""), fields.get("data", ""))
            fields = {}
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name:  # else a comment, which keeps the connection open
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    begun: list[bytes] = []
    for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for end in ended:
            yield b"".join([*begun, end]).removesuffix(b"\r").decode()
            begun.clear()
        begun.append(rest)


def _pieces(response: requests.Response) -> Iterator[bytes]:
    # A connection that breaks, or is silent for too long, ends the stream: it goes on over another.
    with suppress(requests.RequestException):
        yield from response.iter_content(None)


@contextmanager
def _expiring() -> Iterator[None]:
    try:
        yield
    except ServiceError as error:
        if error.code == 410:
            raise CursorExpired(error.code, error.status, error.message) from error
        raise


def _delta(given: Mapping[str, Any]) -> Delta:
    changes = tuple(
        Change(
            change["type"],
            change["messageId"],
            change["threadId"],
            tuple(change["labelsAdded"]),
            tuple(change["labelsRemoved"]),
        )
        for change in given["changes"]
    )
    at = datetime.fromisoformat(given["at"])
    return Delta(given["cursor"], given["seq"], at, given["origin"], given["historyId"], changes)


def _query(filters: Mapping[str, Filter]) -> dict[str, str | int | bool | None]:
    # `from` is a word of Python's.
    return {name.removesuffix("_"): _text(value) for name, value in filters.items()}


def _text(value: Filter) -> str | int | bool | None:
    if value is None or isinstance(value, str | int):
        return value
    return value.isoformat() if isinstance(value, date) else ",".join(value)
