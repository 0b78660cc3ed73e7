"""Gmail as workers reach it: the real adapter, its HTTP replaced by a service that asks the fake mailbox.

Knows: the calls that the adapter makes of the client library, one by one and in batches, and what may become of each.
Does not know: mailbox semantics (the fake has them), prices, retries or budgets (the adapter has them).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

import httplib2
from googleapiclient.errors import HttpError
from mailmirror.adapters.gmail import GmailApiAccounts
from mailmirror.adapters.gmail.client import GmailClient
from mailmirror.model import MailboxId, Quota
from mailmirror.ports import Gmail

from local.gmail.errors import ApiError, invalid_argument, not_found, of_status, retry_after
from local.gmail.mailbox import Mailbox
from tests.simulation.checker import Checker, Violation
from tests.simulation.faults import BATCH, GMAIL
from tests.simulation.hub import Hub, Task
from tests.simulation.meter import Meter
from tests.simulation.way import Way

TOPIC = "projects/test/topics/gmail-notifications"
# Seconds after which Gmail lets a punished user in again.
PUNISHMENTS = (20, 900)


class Post:
    """One mailbox in Gmail, with what is wrong with it.

    Attributes:
        gmail: the fake.
        revoked, down: whether all calls are refused.
        poison: messages that cannot be read, and how that shows.
        deadly: messages that kill the worker that reads them.
        moody: whether poison arrives.
        page: the most entries on a page of a listing.
    """

    def __init__(self, way: Way, gmail: Mailbox, checker: Checker, meter: Meter, page: int) -> None:
        self.way = way
        self.gmail = gmail
        self.checker = checker
        self.meter = meter
        self.page = page
        self.revoked = False
        self.down = False
        self.moody = False
        self.poison: dict[str, str] = {}
        self.deadly: set[str] = set()

    def turn(self, call: str, requests: list["Request"]) -> Task:
        """Pay for calls and send them together."""
        hub = self.way.hub
        assert hub.current is not None
        rest = hub.current.rests_until
        if rest is not None and rest > hub.now():
            raise Violation(
                f"{hub.current.name} #{hub.current.number} calls Gmail, but {self.gmail.address}, which it holds, "
                f"rests until {rest}."
            )
        for request in requests:
            self.meter.spend(self.gmail.address, request.method, hub.current, hub.seconds)
        task = self.way.there(call)
        if self.revoked:
            self.way.faults.strike("access revoked")
            raise refused(of_status(401))
        if self.down:
            self.way.faults.strike("gmail down")
            raise refused(of_status(503))
        return task

    def answer(self, request: "Request", task: Task) -> Any:
        """Return what the fake answers; history that has expired is told to the checker."""
        faults = self.way.faults
        subject = request.subject
        if subject in self.deadly:
            faults.strike("message killed its worker")
            self.way.kill_instance(task)
        how = self.poison.get(subject)
        if how == "500":
            faults.strike("message answered 500")
            raise refused(of_status(500))
        try:
            answer = request.ask(self.gmail)
        except ApiError as error:
            if error.status == 404 and request.method == "users.history.list":
                self.checker.expired(task)
            self.way.story.tell(task, f"{request.method} {request.subject}: {error}")
            raise refused(error) from None
        if self.poison or self.deadly:
            answer = self._spoiled(request, answer, task)
        if self.way.story.on:
            self.way.story.tell(task, f"{request.method} {request.subject}: {_told(answer)}")
        return answer

    def _spoiled(self, request: "Request", answer: Any, task: Task) -> Any:
        """Return an answer with the poison in it."""
        faults = self.way.faults
        if request.method == "users.threads.get" and "payload" in answer["messages"][0]:
            ids = [message["id"] for message in answer["messages"]]
            if any(message_id in self.deadly for message_id in ids):
                faults.strike("message killed its worker")
                self.way.kill_instance(task)
            if any(self.poison.get(message_id) == "500" for message_id in ids):
                faults.strike("message answered 500")
                raise refused(of_status(500))
            spoiled = [_unreadable(m) if m["id"] in self.poison else m for m in answer["messages"]]
            return {**answer, "messages": spoiled}
        if request.method == "users.messages.get" and request.subject in self.poison:
            faults.strike("message unreadable")
            return _unreadable(answer)
        return answer


def _unreadable(message: Mapping[str, Any]) -> dict[str, Any]:
    return {**message, "historyId": "none"}


@dataclass(slots=True)
class Request:
    """A call that is executed later, alone or in a batch.

    Attributes:
        method: its name in the discovery document.
        subject: the id it is about, if it is about one.
        paged: whether it carries a page token.
    """

    post: Post
    method: str
    ask: Callable[[Mailbox], Any]
    subject: str = ""
    paged: bool = False

    def execute(self) -> Any:
        """Make the call."""
        post, faults = self.post, self.post.way.faults
        task = post.turn(self.method, [self])
        if not faults.rates:
            return post.answer(self, task)
        fault = faults.one_of(GMAIL)
        if fault == "gmail timed out after the effect":
            post.answer(self, task)
            post.way.story.tell(task, f"{self.method} {self.subject}: no answer")
            raise TimeoutError("timed out")
        if fault == "gmail answer garbled":
            post.way.story.tell(task, f"{self.method} {self.subject}: a garbled answer")
            return None
        if fault is None and self.method == "users.history.list" and faults.strikes("history 404"):
            post.checker.expired(task)
            error = not_found()
        elif fault is None and self.paged and faults.strikes("page token expired"):
            error = invalid_argument("Invalid pageToken")
        elif fault is not None:
            error = _error(fault, post.way.hub)
        else:
            answer = post.answer(self, task)
            post.way.back(task)
            return answer
        post.way.story.tell(task, f"{self.method} {self.subject}: {error}")
        raise refused(error)


class Batch:
    """Several calls in one HTTP request."""

    def __init__(self, post: Post, callback: Callable[[str, Any, Exception | None], None]) -> None:
        self._post = post
        self._callback = callback
        self._requests: list[tuple[str, Request]] = []

    def add(self, request: Request, request_id: str) -> None:
        """Put a call in."""
        self._requests.append((request_id, request))

    def execute(self) -> None:
        """Make the calls; each is answered by itself, or not at all."""
        post, faults = self._post, self._post.way.faults
        task = post.turn("batch", [request for _, request in self._requests])
        if faults.strikes("batch refused"):
            post.way.story.tell(task, "batch: refused as a whole")
            raise refused(of_status(503))
        for request_id, request in self._requests:
            if faults.rates:
                # Gmail answers one after the other: mail may happen in between.
                if faults.rng.random() < 0.1:
                    post.way.hub.sleep(faults.rng.random())
                fault = faults.one_of(BATCH)
                if fault == "batch part not answered":
                    post.way.story.tell(task, f"batch: {request.subject} is not answered")
                    continue
                if fault is not None:
                    post.way.story.tell(task, f"batch: {request.subject} {fault}")
                    status = of_status(429 if fault == "batch part 429" else 500)
                    self._callback(request_id, None, refused(status))
                    continue
            try:
                answer = post.answer(request, task)
            except HttpError as error:
                self._callback(request_id, None, error)
            else:
                self._callback(request_id, answer, None)
        post.way.back(task)


class Service:
    """What the client library builds from the discovery document: the calls that the adapter makes."""

    def __init__(self, post: Post) -> None:
        self._post = post

    def users(self) -> "Service":
        return self

    def close(self) -> None:
        """There is no connection."""

    def new_batch_http_request(self, callback: Callable[[str, Any, Exception | None], None]) -> Batch:
        return Batch(self._post, callback)

    def getProfile(self, userId: str) -> Request:  # noqa: N802, N803 -- the API's own words
        return Request(self._post, "users.getProfile", lambda gmail: gmail.get_profile())

    def watch(self, userId: str, body: Mapping[str, Any]) -> Request:  # noqa: N803
        return Request(self._post, "users.watch", lambda gmail: gmail.watch(body["topicName"]))

    def stop(self, userId: str) -> Request:  # noqa: N803
        return Request(self._post, "users.stop", lambda gmail: gmail.stop())

    def history(self) -> "Histories":
        return Histories(self._post)

    def messages(self) -> "Messages":
        return Messages(self._post)

    def threads(self) -> "Threads":
        return Threads(self._post)

    def labels(self) -> "Labels":
        return Labels(self._post)


@dataclass(slots=True)
class Histories:
    """users.history."""

    post: Post

    def list(self, userId: str, startHistoryId: str, pageToken: str | None, maxResults: int) -> Request:  # noqa: N803
        size = min(self.post.page, maxResults)
        return Request(
            self.post,
            "users.history.list",
            lambda gmail: gmail.list_history(startHistoryId, pageToken, size),
            startHistoryId,
            paged=pageToken is not None,
        )


@dataclass(slots=True)
class Messages:
    """users.messages."""

    post: Post

    def list(
        self,
        userId: str,  # noqa: N803
        pageToken: str | None,  # noqa: N803
        includeSpamTrash: bool,  # noqa: N803
        labelIds: list[str] | None,  # noqa: N803
        maxResults: int,  # noqa: N803
    ) -> Request:
        size = min(self.post.page, maxResults)
        return Request(
            self.post,
            "users.messages.list",
            lambda gmail: gmail.list_messages(pageToken, size, labelIds or (), includeSpamTrash),
            paged=pageToken is not None,
        )

    def get(self, userId: str, id: str, format: str) -> Request:  # noqa: A002, N803
        return Request(self.post, "users.messages.get", lambda gmail: gmail.get_message(id, format), id)


@dataclass(slots=True)
class Threads:
    """users.threads."""

    post: Post

    def list(self, userId: str, pageToken: str | None, includeSpamTrash: bool, maxResults: int) -> Request:  # noqa: N803
        size = min(self.post.page, maxResults)
        return Request(
            self.post,
            "users.threads.list",
            lambda gmail: gmail.list_threads(pageToken, size, (), includeSpamTrash),
            paged=pageToken is not None,
        )

    def get(self, userId: str, id: str, format: str) -> Request:  # noqa: A002, N803
        return Request(self.post, "users.threads.get", lambda gmail: gmail.get_thread(id, format), id)


@dataclass(slots=True)
class Labels:
    """users.labels."""

    post: Post

    def list(self, userId: str) -> Request:  # noqa: N803
        return Request(self.post, "users.labels.list", lambda gmail: gmail.list_labels())


class Accounts:
    """`ports.GmailAccounts`: the real adapter for each mailbox."""

    def __init__(self, hub: Hub, posts: Mapping[MailboxId, Post], units_per_minute: int) -> None:
        self._hub = hub
        self._posts = posts
        self._api = GmailApiAccounts(
            lambda mailbox: None,
            clock=hub,
            topic=TOPIC,
            units_per_minute=units_per_minute,
            rng=Random(hub.rng.random()),
        )

    def open(self, mailbox: MailboxId, quota: Quota | None) -> Gmail:
        """Return the mailbox."""
        client = GmailClient(mailbox, self._api, quota)
        client._calls._connect = lambda: Service(self._posts[mailbox])
        return client


def refused(error: ApiError) -> HttpError:
    """The refusal as the client library raises it."""
    return HttpError(httplib2.Response({"status": error.status}), json.dumps(error.body()).encode())


def _error(fault: str, hub: Hub) -> ApiError:
    match fault:
        case "gmail 429 retry after":
            until = hub.rng.choice(PUNISHMENTS)
            return retry_after(hub.now() + timedelta(seconds=until))
        case "gmail 403 quota":
            return of_status(403)
        case _:
            return of_status(int(fault.split()[1]))


def _told(answer: Mapping[str, Any]) -> str:
    """An answer in a few words: ids, history id, and whether there is more."""
    listed = [item["id"] for name in ("history", "messages", "threads") for item in answer.get(name, ())]
    words = [" ".join(listed), f"historyId {answer['historyId']}" if "historyId" in answer else ""]
    return ", ".join(filter(None, [*words, "and more" if "nextPageToken" in answer else ""])) or "done"
