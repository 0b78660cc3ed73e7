"""Gmail as workers reach it: the real adapter, its HTTP replaced by one lane that asks the fake mailbox.

Knows: the calls that the adapter makes of the client library, one by one and in batches, and what may become of each.
There is one lane, because several would be threads, whose turns no seed decides.
Does not know: mailbox semantics (the fake has them), prices, retries or budgets (the adapter has them).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any, Literal

import httplib2
from googleapiclient.errors import HttpError
from mailmirror.adapters.gmail import GmailApiAccounts
from mailmirror.adapters.gmail.client import GmailClient
from mailmirror.adapters.gmail.transport import Api, Outcome
from mailmirror.errors import GmailUnavailable
from mailmirror.model import Mailbox as MailboxState
from mailmirror.model import MailboxId, Quota
from mailmirror.ports import Gmail

from local.gmail.errors import ApiError, invalid_argument, not_found, of_status, retry_after
from local.gmail.mailbox import Mailbox
from tests.simulation.checker import Checker
from tests.simulation.faults import BATCH, GMAIL
from tests.simulation.hub import Hub, Task
from tests.simulation.meter import Meter
from tests.simulation.violation import Violation
from tests.simulation.way import Way

TOPIC = "projects/test/topics/gmail-notifications"
KINDS_OF_CHANGE = frozenset({"messagesAdded", "messagesDeleted", "labelsAdded", "labelsRemoved"})
Telling = Literal["then", "now", "never"]
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
        telling: which labels a history record tells of its message: those of its time, those of now, or none. Google
            does not say.
        page: the most entries on a page of a listing.
    """

    def __init__(
        self,
        way: Way,
        gmail: Mailbox,
        checker: Checker,
        meter: Meter,
        page: int,
        states: Mapping[MailboxId, MailboxState],
    ) -> None:
        self.way = way
        self.states = states
        self.gmail = gmail
        self.checker = checker
        self.meter = meter
        self.page = page
        self.revoked = False
        self.down = False
        self.moody = False
        self.telling: Telling = "then"
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
        for request in requests:
            if request.form == "full":
                self.checker.bodied(task, request.subject)
        if task.slicing:
            for request in requests:
                if request.form not in ("", "minimal"):
                    state = self.states.get(self.gmail.address)
                    run = None if state is None else state.run
                    whole = request.method == "users.threads.get"
                    self.checker.fetched(task, request.subject, whole=whole, run=run)
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
        if self.telling != "then" and "history" in answer:
            answer = {**answer, "history": [self._retold(record) for record in answer["history"]]}
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

    def _retold(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a record that tells its message's labels as this Gmail does."""
        retold = dict(record)
        for kind in [kind for kind in record if kind in KINDS_OF_CHANGE]:
            retold[kind] = [{**change, "message": self._labelled(change["message"])} for change in record[kind]]
        return retold

    def _labelled(self, message: Mapping[str, Any]) -> dict[str, Any]:
        present = self.gmail._state.messages.get(message["id"])
        told = {name: value for name, value in message.items() if name != "labelIds"}
        if self.telling == "now" and present is not None and present.label_ids:
            told["labelIds"] = list(present.label_ids)
        return told


def _unreadable(message: Mapping[str, Any]) -> dict[str, Any]:
    return {**message, "historyId": "none"}


@dataclass(slots=True)
class Request:
    """A call that is executed later, alone or in a batch.

    Attributes:
        method: its name in the discovery document.
        subject: the id it is about, if it is about one.
        paged: whether it carries a page token.
        form: how much of a message or thread it asks for, if it asks for one.
        searched: what it lists, if it is a search: Gmail's index may miss a little.
    """

    post: Post
    method: str
    ask: Callable[[Mailbox], Any]
    subject: str = ""
    paged: bool = False
    form: str = ""
    searched: str = ""

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
            if self.searched:
                answer = self._missed(answer, task)
            post.way.back(task)
            return answer
        post.way.story.tell(task, f"{self.method} {self.subject}: {error}")
        raise refused(error)

    def _missed(self, answer: Any, task: Task) -> Any:
        """Return what a search shows that misses what it may miss: no mail that nobody has brought yet."""
        post, rows = self.post, answer.get(self.searched, [])
        if self.searched == "messages":
            rows = [row for row in rows if post.checker.has(row["id"])]
        if not rows or not post.way.faults.strikes("search misses"):
            return answer
        missed = post.way.faults.rng.choice(rows)
        post.way.story.tell(task, f"the search misses {missed['id']}")
        return {**answer, self.searched: [row for row in answer[self.searched] if row is not missed]}


class Lane:
    """The only way to one mailbox: `Lanes` of the adapter, without HTTP and without threads.

    Attributes:
        api: what requests are made of.
    """

    def __init__(self, post: Post) -> None:
        self.api = Api(Service(post))
        self._post = post

    def one(self, request: Request) -> Any:
        """Make a call by itself."""
        return request.execute()

    def renew(self) -> bool:
        """There is no token."""
        return False

    def wave(self, batches: list[list[Request]]) -> list[Outcome]:
        """Make the calls of a batch; each is answered by itself, or not at all."""
        (requests,) = batches
        outcome = Outcome()
        try:
            self._batch(requests, outcome.answers)
        except HttpError as error:
            outcome.failure = error
        return [outcome]

    def close(self) -> None:
        """There is no connection."""

    def _batch(self, requests: list[Request], answers: dict[int, Any]) -> None:
        post, faults = self._post, self._post.way.faults
        task = post.turn("batch", requests)
        if faults.strikes("batch refused"):
            post.way.story.tell(task, "batch: refused as a whole")
            raise refused(of_status(503))
        for number, request in enumerate(requests):
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
                    answers[number] = refused(of_status(429 if fault == "batch part 429" else 500))
                    continue
            try:
                answers[number] = post.answer(request, task)
            except HttpError as error:
                answers[number] = error
        post.way.back(task)


class Service:
    """What the client library builds from the discovery document: the calls that the adapter makes."""

    def __init__(self, post: Post) -> None:
        self._post = post

    def users(self) -> "Service":
        return self

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
        q: str | None,
        maxResults: int,  # noqa: N803
    ) -> Request:
        size = min(self.post.page, maxResults)
        return Request(
            self.post,
            "users.messages.list",
            lambda gmail: gmail.list_messages(pageToken, size, labelIds or (), includeSpamTrash, q),
            paged=pageToken is not None,
            searched="messages" if q else "",
        )

    def get(self, userId: str, id: str, format: str) -> Request:  # noqa: A002, N803
        return Request(self.post, "users.messages.get", lambda gmail: gmail.get_message(id, format), id, form=format)

    def attachments(self) -> "Attachments":
        return Attachments(self.post)


@dataclass(slots=True)
class Attachments:
    """users.messages.attachments."""

    post: Post

    def get(self, userId: str, messageId: str, id: str) -> Request:  # noqa: A002, N803
        return Request(
            self.post,
            "users.messages.attachments.get",
            lambda gmail: gmail.get_attachment(messageId, id),
            messageId,
        )


@dataclass(slots=True)
class Threads:
    """users.threads."""

    post: Post

    def list(
        self,
        userId: str,  # noqa: N803
        pageToken: str | None,  # noqa: N803
        includeSpamTrash: bool,  # noqa: N803
        labelIds: list[str] | None,  # noqa: N803
        q: str | None,
        maxResults: int,  # noqa: N803
    ) -> Request:
        size = min(self.post.page, maxResults)
        return Request(
            self.post,
            "users.threads.list",
            lambda gmail: gmail.list_threads(pageToken, size, labelIds or (), includeSpamTrash, q),
            paged=pageToken is not None,
            searched="threads" if q else "",
        )

    def get(self, userId: str, id: str, format: str) -> Request:  # noqa: A002, N803
        return Request(self.post, "users.threads.get", lambda gmail: gmail.get_thread(id, format), id, form=format)


@dataclass(slots=True)
class Labels:
    """users.labels."""

    post: Post

    def list(self, userId: str) -> Request:  # noqa: N803
        return Request(self.post, "users.labels.list", lambda gmail: gmail.list_labels())

    def get(self, userId: str, id: str) -> Request:  # noqa: A002, N803
        return Request(self.post, "users.labels.get", lambda gmail: gmail.get_label(id), id)


class Client(GmailClient):
    """The adapter, and whether its calls are those of a run's slice."""

    def __init__(self, mailbox: MailboxId, accounts: GmailApiAccounts, quota: Quota | None, hub: Hub) -> None:
        super().__init__(mailbox, accounts, quota)
        self._hub = hub

    @contextmanager
    def sparing(self) -> Iterator[None]:
        task = self._hub.current
        assert task is not None
        task.slicing = True
        try:
            with super().sparing():
                yield
        finally:
            task.slicing = False


class Accounts:
    """`ports.GmailAccounts`: the real adapter for each mailbox."""

    def __init__(
        self, hub: Hub, posts: Mapping[MailboxId, Post], units_per_minute: int, units_per_day: int | None
    ) -> None:
        self._hub = hub
        self._posts = posts
        self._api = GmailApiAccounts(
            lambda mailbox: None,
            clock=hub,
            topic=TOPIC,
            units_per_minute=units_per_minute,
            units_per_day=units_per_day,
            rng=Random(hub.rng.random()),
            lanes=1,
        )

    def open(self, mailbox: MailboxId, quota: Quota | None) -> Gmail:
        """Return the mailbox."""
        client = Client(mailbox, self._api, quota, self._hub)
        client._calls._connect = lambda: Lane(self._posts[mailbox])  # type: ignore[assignment,return-value]
        return client

    def forget(self, mailbox: MailboxId) -> int:
        """Nothing is kept that lets a mailbox be opened, but Secret Manager has to say so."""
        way = self._posts[mailbox].way
        task = way.there("forget")
        if way.faults.strikes("secret refused"):
            way.story.tell(task, "forget: refused")
            raise GmailUnavailable("Secret Manager was unavailable.")
        way.back(task)
        return 0


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
