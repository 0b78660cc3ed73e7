"""Gmail through google-api-python-client: single calls and batches, within the budget, with every failure named.

Knows: Gmail's JSON, its ways to refuse (by endpoint, because one body says two things), what is worth a second try, and
that a batch may fail in parts. Does not know: what the mirror does with what it gets. Laws 6, 7, 8: a result for every
id asked, a price paid before every call, a name for every failure.

A call that was refused or never answered has been paid for all the same. No message of an error carries a token, mail
or an address other than the mailbox's own.
"""

import http.client
import json
import logging
import random
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from importlib import resources
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import google_auth_httplib2
import httplib2
import httplib2.decode
from google.auth.credentials import Credentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from googleapiclient.discovery import build_from_document
from googleapiclient.errors import BatchError, HttpError
from googleapiclient.errors import Error as ApiClientError
from googleapiclient.model import JsonModel

from mailmirror.content import SNIPPET_BYTES, clean, clip, read_content
from mailmirror.errors import (
    AccessRevoked,
    GmailError,
    GmailRejected,
    GmailUnavailable,
    HistoryExpired,
    PageTokenExpired,
    Throttled,
)
from mailmirror.model import (
    Failed,
    FetchedThread,
    Gone,
    HistoryId,
    HistoryPage,
    Label,
    LabelId,
    LabelState,
    LabelStep,
    MailboxId,
    Message,
    MessageId,
    MessagePage,
    MessageRef,
    Profile,
    Quota,
    Record,
    ThreadId,
    ThreadPage,
    Watch,
)
from mailmirror.ports import Clock, Gmail
from mailmirror.quota import PRICES, Budget, PriceTable, bucket

Json = Mapping[str, Any]
Value = TypeVar("Value")

GOOGLE = "https://gmail.googleapis.com/"
PAGE_SIZE = 500
# Google allows 100 calls a batch and advises 50; 25 is what users of new projects get through without 429s.
MAX_BATCH = 25
# A batch takes no more calls than the budget pays for in this time, so that the units are there when it is sent.
BATCH_SECONDS = 5.0
# What was refused or not answered is tried again after these times, more or less a quarter.
BACK_OFF = (1.0, 2.0, 4.0)
# A lease is waiting: no call of the port tries anything again that failed so long ago, and none goes on for twice that.
PATIENCE_SECONDS = 40.0
# Gmail's word for when to come back can be wrong; it is not believed beyond a day.
LONGEST_THROTTLE = timedelta(days=1)
DAILY_LIMIT_THROTTLE = timedelta(hours=1)

_GET = frozenset({"users.messages.get", "users.threads.get"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


# --- Gmail's JSON to values. Unknown fields are ignored; what a value cannot do without raises KeyError, TypeError or
# --- ValueError.

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


def parse_profile(answer: Json) -> Profile:
    """users.getProfile."""
    return Profile(
        email_address=clean(str(answer["emailAddress"])),
        history_id=_history_id(answer["historyId"]),
        messages_total=int(answer.get("messagesTotal", 0)),
        threads_total=int(answer.get("threadsTotal", 0)),
    )


def parse_history_page(answer: Json) -> HistoryPage:
    """users.history.list. `history` is absent when there is nothing to tell, even on a page before the last."""
    return HistoryPage(
        records=tuple(_parse_record(record) for record in answer.get("history", ())),
        history_id=_history_id(answer["historyId"]),
        next_page_token=answer.get("nextPageToken"),
    )


def parse_message_page(answer: Json) -> MessagePage:
    """users.messages.list."""
    refs = tuple((_id(item["id"]), _id(item["threadId"])) for item in answer.get("messages", ()))
    return MessagePage(refs, answer.get("nextPageToken"))


def parse_thread_page(answer: Json) -> ThreadPage:
    """users.threads.list."""
    refs = tuple((_id(item["id"]), _history_id(item["historyId"])) for item in answer.get("threads", ()))
    return ThreadPage(refs, answer.get("nextPageToken"))


def parse_message(answer: Json) -> Message:
    """users.messages.get in format full."""
    content = read_content(answer.get("payload"))
    return Message(
        id=_id(answer["id"]),
        thread_id=_id(answer["threadId"]),
        label_ids=_label_ids(answer),
        history_id=_history_id(answer["historyId"]),
        internal_date=_moment(answer.get("internalDate", 0)),
        size_estimate=max(0, min(int(answer.get("sizeEstimate", 0)), 2**53)),
        snippet=clip(str(answer.get("snippet", "")), SNIPPET_BYTES),
        headers=content.headers,
        body=content.body,
        attachments=content.attachments,
    )


def parse_label_state(answer: Json) -> LabelState:
    """users.messages.get, or one message of a thread, in format minimal."""
    return LabelState(_id(answer["id"]), _label_ids(answer), _history_id(answer["historyId"]))


def parse_thread(answer: Json, *, minimal: bool = False) -> FetchedThread:
    """users.threads.get in format full, or minimal; a message of it that cannot be read is `Failed`."""
    thread_id, history_id = _id(answer["id"]), _history_id(answer["historyId"])
    items = answer.get("messages", ())
    if minimal:
        return FetchedThread(thread_id, history_id, states=tuple(parse_label_state(item) for item in items))
    return FetchedThread(thread_id, history_id, {_id(item["id"]): read_message(item) for item in items})


def read_message(answer: Json) -> Message | Failed:
    """A message of an answer, or why it cannot be read."""
    try:
        return parse_message(answer)
    except _UNREADABLE as error:
        return Failed(f"Gmail's answer for this message cannot be read ({type(error).__name__}).")


def parse_labels(answer: Json) -> tuple[Label, ...]:
    """users.labels.list."""
    return tuple(
        Label(
            id=_id(item["id"]),
            name=clean(str(item.get("name", item["id"]))),
            type=str(item.get("type", "user")),
            message_list_visibility=item.get("messageListVisibility"),
            label_list_visibility=item.get("labelListVisibility"),
        )
        for item in answer.get("labels", ())
    )


def parse_watch(answer: Json, now: datetime) -> Watch:
    """users.watch."""
    return Watch(_moment(answer["expiration"]), _history_id(answer.get("historyId", 0)), renewed_at=now)


def _parse_record(record: Json) -> Record:
    # `messages` repeats what the four kinds say; one record may hold several kinds.
    return Record(
        id=_history_id(record["id"]),
        messages_added=tuple(_parse_ref(item["message"]) for item in record.get("messagesAdded", ())),
        messages_deleted=tuple(_parse_ref(item["message"]) for item in record.get("messagesDeleted", ())),
        labels_added=tuple(_parse_step(item) for item in record.get("labelsAdded", ())),
        labels_removed=tuple(_parse_step(item) for item in record.get("labelsRemoved", ())),
    )


def _parse_ref(message: Json) -> MessageRef:
    told = _label_ids(message) if "labelIds" in message else None
    return MessageRef(_id(message["id"]), _id(message["threadId"]), told)


def _parse_step(item: Json) -> LabelStep:
    return LabelStep(_parse_ref(item["message"]), _label_ids(item))


def _id(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("An id is a string that is not empty.")
    return clean(value)


def _label_ids(item: Json) -> frozenset[LabelId]:
    return frozenset(_id(label_id) for label_id in item.get("labelIds", ()))


def _history_id(value: object) -> HistoryId:
    """uint64 comes as a string; what a store's signed integers cannot hold is no history id Gmail ever gave."""
    number = int(cast("str", value))
    if not 0 <= number < 2**63:
        raise ValueError("A history id is a 64-bit number.")
    return number


def _moment(value: object) -> datetime:
    """Epoch milliseconds; a date no calendar has becomes the nearest one that exists."""
    milliseconds = int(cast("str", value))
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return _LATEST if milliseconds > 0 else _EARLIEST


# --- Refusals to errors.


class _NotFound(GmailError):
    """404 on a get: becomes `Gone`."""


class _BadRequest(GmailRejected):
    """Gmail refuses this one id: becomes `Failed`."""


_QUOTA_REASONS = frozenset(
    {"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded", "RATE_LIMIT_EXCEEDED"}
)
_QUOTA_WORDS = re.compile(r"rate limit exceeded|quota exceeded|too many concurrent", re.IGNORECASE)
_BAD_ARGUMENT_REASONS = frozenset({"badRequest", "invalid", "invalidArgument", "required"})
_PAGE_TOKEN = re.compile(r"page\s*_?token", re.IGNORECASE)
_START = re.compile(r"start_?history_?id", re.IGNORECASE)
_RETRY_AFTER = re.compile(r"retry after\s+(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d))", re.IGNORECASE)
_REVOKED = re.compile(r"domainPolicy|delegation denied|mail service not enabled", re.IGNORECASE)
_NO_GRANT = re.compile(
    r"invalid_grant|unauthorized_client|access_denied|invalid_rapt|admin_policy_enforced|invalid_client|deleted_client"
    r"|disabled_client|org_internal|invalid_scope"
)
_ADDRESS = re.compile(r"[^\s<>\"'(),:;]+@[^\s<>\"'(),:;]+")
_SECRET = re.compile(r"\bya29\.\S+|\beyJ\S{20,}|\b1//\S+")
_SENTENCE = 300


@dataclass(frozen=True, slots=True)
class _Answer:
    """Gmail's refusal as it came."""

    status: int
    message: str
    reasons: frozenset[str]
    canonical: str
    retry_after: str

    @classmethod
    def of(cls, error: HttpError) -> "_Answer":
        """Read an error body; one that is not Google's error model has a status only."""
        try:
            body = json.loads(error.content)["error"]
            details = [*body.get("errors", ()), *body.get("details", ())]
            reasons = frozenset(str(item["reason"]) for item in details if "reason" in item)
            message, canonical = str(body.get("message", "")), str(body.get("status", ""))
        except _UNREADABLE:
            reasons, message, canonical = frozenset(), str(error.resp.reason or ""), ""
        return cls(int(error.resp.status), message, reasons, canonical, str(error.resp.get("retry-after", "")))

    @property
    def throttles(self) -> bool:
        """429 and 403 with a quota reason are the same thing."""
        about_quota = bool(self.reasons & _QUOTA_REASONS or _QUOTA_WORDS.search(self.message))
        return self.status == 429 or (self.status == 403 and about_quota) or self.canonical == "RESOURCE_EXHAUSTED"

    def until(self, now: datetime) -> datetime | None:
        """When to come back, if the text or a header says so."""
        named = _RETRY_AFTER.search(self.message)
        try:
            if "dailyLimitExceeded" in self.reasons:
                return now + DAILY_LIMIT_THROTTLE
            if named:
                moment = datetime.fromisoformat(named[1])
            elif self.retry_after.isdecimal():
                moment = now + timedelta(seconds=min(int(self.retry_after), 10**6))
            elif self.retry_after:
                moment = parsedate_to_datetime(self.retry_after).replace(tzinfo=UTC)
            else:
                return None
        except ValueError:
            return None
        return min(moment, now + LONGEST_THROTTLE) if moment > now else None


def _refusal(error: Exception, method: str, mailbox: MailboxId, now: datetime, *, paged: bool) -> GmailError:
    """Return the name of a failure.

    Args:
        error: what the client library raised.
        method: the method of the discovery document, or `batch`.
        mailbox: the only address that may appear in the message.
        now: decides whether a time Gmail names is still to come.
        paged: a page token was sent.
    """
    # An answer to a batch that is no batch calls itself an HTTP error too.
    if isinstance(error, HttpError) and not isinstance(error, BatchError):
        return _http_refusal(_Answer.of(error), method, mailbox, now, paged=paged)
    if isinstance(error, GoogleAuthError):
        return _auth_refusal(error, mailbox)
    return GmailUnavailable(f"Gmail did not answer {method} ({type(error).__name__}).")


def _http_refusal(answer: _Answer, method: str, mailbox: MailboxId, now: datetime, *, paged: bool) -> GmailError:
    said = _sentence(answer.message, mailbox)
    words = f"Gmail answered {answer.status} to {method}: {said}"
    if answer.throttles:
        return Throttled(words, answer.until(now))
    if answer.status >= 500 or answer.status == 408:
        return GmailUnavailable(words)
    if answer.status == 401 or _REVOKED.search(f"{answer.message} {' '.join(answer.reasons)}"):
        return AccessRevoked(words)
    if answer.status == 404 and method in _GET:
        return _NotFound(words)
    if answer.status == 404 and method == "users.history.list":
        return HistoryExpired(words)
    if answer.status == 400 and "failedPrecondition" in answer.reasons:
        # Seen in passing, and for ever where a service account calls as itself and not as the user.
        return GmailUnavailable(f"{words} If this lasts, the credentials do not act as the mailbox's user.")
    if answer.status == 400 and paged and _PAGE_TOKEN.search(answer.message):
        return PageTokenExpired(words)
    bad_argument = _START.search(answer.message) or (answer.reasons & _BAD_ARGUMENT_REASONS and not paged)
    if answer.status == 400 and method == "users.history.list" and bad_argument:
        return HistoryExpired(words)
    if method in _GET and answer.status != 403:
        return _BadRequest(words)
    return GmailRejected(words)


def _auth_refusal(error: GoogleAuthError, mailbox: MailboxId) -> GmailError:
    """What the way to a token said: the metadata server, IAM's signJwt or the token endpoint."""
    arguments = [argument for argument in error.args if isinstance(argument, str)]
    said = _sentence(" ".join(arguments[:1]), mailbox)
    iam_status = next((status for status in map(_iam_status, arguments) if status), 0)
    if iam_status and iam_status < 500 and iam_status != 429:
        return GmailRejected(
            f"IAM answered {iam_status} when the delegated service account had to sign for {mailbox}: it takes "
            "roles/iam.serviceAccountTokenCreator on that account, and iamcredentials.googleapis.com enabled."
        )
    if isinstance(error, DefaultCredentialsError):
        return GmailRejected(f"There are no Application Default Credentials: {said}")
    if error.retryable or iam_status or isinstance(error, TransportError) or not _NO_GRANT.search(said):
        return GmailUnavailable(f"No token for {mailbox} at the moment: {said}")
    return AccessRevoked(f"Google gives no token for {mailbox}: {said}")


def _iam_status(body: str) -> int:
    try:
        return int(json.loads(body)["error"]["code"])
    except _UNREADABLE:
        return 0


def _sentence(text: str, mailbox: MailboxId) -> str:
    """What Google said on one line, without tokens and without addresses other than the mailbox's."""

    def shown(match: re.Match[str]) -> str:
        return match[0] if match[0].lower().rstrip(".") == mailbox else "…"

    line = " ".join(clean(text[: 4 * _SENTENCE]).split()) or "no reason given"
    line = _ADDRESS.sub(shown, _SECRET.sub("…", line))
    return line if len(line) <= _SENTENCE else line[:_SENTENCE] + "…"


# --- HTTP.


class _NothingTwice:
    """httplib2 repeats a request by itself when the connection drops; here whoever pays for a call decides that."""

    def getresponse(self) -> http.client.HTTPResponse:
        """Answer, or raise an error that httplib2 passes on."""
        try:
            return cast("http.client.HTTPResponse", super().getresponse())  # type: ignore[misc]
        except http.client.BadStatusLine:
            raise ConnectionResetError("The connection was closed before the answer.") from None


class _PlainConnection(_NothingTwice, httplib2.HTTPConnectionWithTimeout):
    pass


class _SecureConnection(_NothingTwice, httplib2.HTTPSConnectionWithTimeout):
    pass


class _Transport:
    """What googleapiclient sends through. It shows no credentials: the library's batches would refresh them untimed."""

    def __init__(self, plain: httplib2.Http, credentials: Credentials | None, mailbox: MailboxId) -> None:
        self._plain = plain
        self._sender: Any = plain
        self._headers: Mapping[str, str] = {}
        if credentials is not None:
            self._sender = google_auth_httplib2.AuthorizedHttp(credentials, http=plain)
        else:
            # The fake Gmail believes everybody.
            self._headers = {"authorization": f"Bearer {mailbox}"}

    def request(
        self, uri: str, method: str = "GET", body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[Any, bytes]:
        """One request, sent once."""
        secure = urlsplit(uri).scheme == "https"
        answer = self._sender.request(
            uri,
            method,
            body=body,
            headers={**(headers or {}), **self._headers},
            connection_type=_SecureConnection if secure else _PlainConnection,
        )
        return cast("tuple[Any, bytes]", answer)

    def close(self) -> None:
        """Close the connections."""
        self._plain.close()


class _Tolerant(JsonModel):  # type: ignore[misc]
    """Answers None to what is no JSON: one unreadable answer must not spoil the others of its batch."""

    def deserialize(self, content: bytes) -> Any:
        """Read an answer."""
        try:
            return super().deserialize(content)
        except (ValueError, RecursionError):
            return None


@cache
def _discovery_document() -> str:
    """The description of the Gmail API that comes with the client library."""
    folder = resources.files("googleapiclient.discovery_cache") / "documents"
    return (folder / "gmail.v1.json").read_text("utf-8")


def _build(api_root: str, transport: _Transport) -> Any:
    """The service, for single calls and batches at `api_root`: `client_options.api_endpoint` would not move batches."""
    document = json.loads(_discovery_document()) | {"rootUrl": api_root.rstrip("/") + "/", "servicePath": ""}
    return build_from_document(document, http=transport, model=_Tolerant())


# What a call raises besides HttpError. An answer that unpacks to a thousand times its size counts as none.
_UNANSWERED = (
    ApiClientError,
    GoogleAuthError,
    OSError,
    http.client.HTTPException,
    httplib2.HttpLib2Error,
    httplib2.decode.DecodeLimitError,
    httplib2.decode.DecodeRatioError,
)
# What googleapiclient's batches raise besides these when the answer is not the multipart document it should be.
_MANGLED = (LookupError, ValueError, TypeError, AttributeError)


# --- The port.


@dataclass(frozen=True, slots=True, eq=False)
class GmailApiAccounts:
    """Opens mailboxes in Gmail.

    Attributes:
        credentials: the credentials for a mailbox; None where Gmail is the fake one.
        clock: time; every wait goes through it.
        topic: where Gmail publishes notifications, projects/…/topics/….
        api_root: where Gmail is.
        units_per_minute: the quota of a user.
        prices: what calls cost.
        watch_label_ids, watch_label_filter_behavior: the filter of the watch; without them everything is notified.
        timeout: seconds without a byte after which a call counts as unanswered.
        rng: jitter.
    """

    credentials: Callable[[MailboxId], Credentials | None]
    clock: Clock = field(kw_only=True)
    topic: str = field(kw_only=True)
    api_root: str = field(default=GOOGLE, kw_only=True)
    units_per_minute: int = field(default=6000, kw_only=True)
    prices: PriceTable = field(default="2026", kw_only=True)
    watch_label_ids: Sequence[LabelId] = field(default=(), kw_only=True)
    watch_label_filter_behavior: str | None = field(default=None, kw_only=True)
    timeout: float = field(default=30.0, kw_only=True)
    rng: random.Random = field(default_factory=random.Random, kw_only=True)

    def __post_init__(self) -> None:
        # It warns of every 403, sometimes with the answer's whole content; all that is to be said is in our errors.
        logging.getLogger("googleapiclient.http").setLevel(logging.ERROR)

    def open(self, mailbox: MailboxId, quota: Quota | None) -> Gmail:
        return GmailClient(mailbox, self, quota)


class GmailClient:
    """One mailbox in Gmail, for one thread: httplib2 is not safe for more."""

    def __init__(self, mailbox: MailboxId, accounts: GmailApiAccounts, quota: Quota | None) -> None:
        self.mailbox = mailbox
        self._accounts = accounts
        self._clock = accounts.clock
        self._prices = PRICES[accounts.prices]
        self._budget = Budget(bucket(accounts.units_per_minute), accounts.clock, quota)
        self._rejected = 0
        self._max_batch = MAX_BATCH
        self._service: Any = None
        self._users: Any = None

    @property
    def spent(self) -> int:
        return self._budget.spent

    @property
    def rejected(self) -> int:
        return self._rejected

    @property
    def quota(self) -> Quota:
        return self._budget.level()

    def affordable(self, seconds: float) -> int:
        return self._budget.affordable(seconds)

    def profile(self) -> Profile:
        return self._call("users.getProfile", parse_profile, lambda users: users.getProfile(userId=self.mailbox))

    def history(self, start: HistoryId, page_token: str | None = None) -> HistoryPage:
        return self._call(
            "users.history.list",
            parse_history_page,
            lambda users: users.history().list(
                userId=self.mailbox, startHistoryId=str(start), pageToken=page_token, maxResults=PAGE_SIZE
            ),
            paged=page_token is not None,
        )

    def list_messages(
        self, page_token: str | None, *, include_spam_trash: bool, label_ids: Sequence[LabelId] = ()
    ) -> MessagePage:
        return self._call(
            "users.messages.list",
            parse_message_page,
            lambda users: users.messages().list(
                userId=self.mailbox,
                pageToken=page_token,
                includeSpamTrash=include_spam_trash,
                labelIds=list(label_ids) or None,
                maxResults=PAGE_SIZE,
            ),
            paged=page_token is not None,
        )

    def list_threads(self, page_token: str | None, *, include_spam_trash: bool) -> ThreadPage:
        return self._call(
            "users.threads.list",
            parse_thread_page,
            lambda users: users.threads().list(
                userId=self.mailbox,
                pageToken=page_token,
                includeSpamTrash=include_spam_trash,
                maxResults=PAGE_SIZE,
            ),
            paged=page_token is not None,
        )

    def messages(self, ids: Sequence[MessageId]) -> Mapping[MessageId, Message | Gone | Failed]:
        fetch = _Fetch(
            self,
            "users.messages.get",
            lambda users, message_id: users.messages().get(userId=self.mailbox, id=message_id, format="full"),
            parse_message,
        )
        return fetch.all(ids)

    def threads(
        self, ids: Sequence[ThreadId], *, minimal: bool = False
    ) -> Mapping[ThreadId, FetchedThread | Gone | Failed]:
        form = "minimal" if minimal else "full"
        fetch = _Fetch(
            self,
            "users.threads.get",
            lambda users, thread_id: users.threads().get(userId=self.mailbox, id=thread_id, format=form),
            lambda answer: parse_thread(answer, minimal=minimal),
        )
        return fetch.all(ids)

    def labels(self) -> tuple[Label, ...]:
        return self._call("users.labels.list", parse_labels, lambda users: users.labels().list(userId=self.mailbox))

    def watch(self) -> Watch:
        try:
            return self._watch()
        except GmailRejected as error:
            # Another topic holds the one watch a project may have on a mailbox.
            if "only one user push notification client" not in str(error).lower():
                raise
        self._call("users.stop", lambda _: None, lambda users: users.stop(userId=self.mailbox))
        return self._watch()

    def _watch(self) -> Watch:
        body: dict[str, object] = {"topicName": self._accounts.topic}
        if self._accounts.watch_label_ids:
            body["labelIds"] = list(self._accounts.watch_label_ids)
            body["labelFilterBehavior"] = (self._accounts.watch_label_filter_behavior or "include").lower()
        return self._call(
            "users.watch",
            lambda answer: parse_watch(answer, self._clock.now()),
            lambda users: users.watch(userId=self.mailbox, body=body),
        )

    def _call(
        self, method: str, parse: Callable[[Json], Value], request: Callable[[Any], Any], *, paged: bool = False
    ) -> Value:
        """Make one call, again if that is worth it, and parse its answer."""
        patience = Patience(self._clock, self._accounts.rng)
        while True:
            try:
                answer = self.once(method, request, paged=paged)
                break
            except (Throttled, GmailUnavailable) as error:
                if not (worth_another_try(error) and patience.wait()):
                    raise
        try:
            return parse(answer)
        except _UNREADABLE:
            raise GmailUnavailable(f"Gmail's answer to {method} cannot be read.") from None

    def once(self, method: str, request: Callable[[Any], Any], *, paged: bool = False) -> Any:
        """Pay for one call and make it. The answer is None when it is no JSON."""
        self._budget.take(self._prices[method])
        try:
            return request(self._open()).execute()
        except _UNANSWERED as error:
            refused = self._name(error, method, paged=paged)
        if isinstance(refused, Throttled):
            self._slow_down(1)
        raise refused

    def together(
        self, method: str, ids: Sequence[str], request: Callable[[Any, str], Any]
    ) -> dict[str, Any | GmailError]:
        """Pay for one call for each id and make them in one batch: what was answered to each, or why nothing was."""
        self._budget.take(self._prices[method] * len(ids))
        answers: dict[str, Any | GmailError] = {}

        def collect(number: str, answer: Any, error: Exception | None) -> None:
            answers[ids[int(number)]] = answer if error is None else self._name(error, method)

        unanswered: GmailError = GmailUnavailable(f"Gmail's answer to a batch of {method} cannot be read.")
        try:
            users = self._open()
            batch = self._service.new_batch_http_request(callback=collect)
            for number, item_id in enumerate(ids):
                batch.add(request(users, item_id), request_id=str(number))
            batch.execute()
        except _UNANSWERED as error:
            unanswered = self._name(error, "batch")
        except _MANGLED:
            pass
        refused = sum(isinstance(answer, Throttled) for answer in answers.values())
        refused += not answers and isinstance(unanswered, Throttled)
        if refused:
            self._slow_down(refused)
        elif len(answers) == len(ids):
            self._max_batch = min(MAX_BATCH, self._max_batch + 1)
        return {item_id: answers.get(item_id, unanswered) for item_id in ids}

    def batch_size(self, method: str) -> int:
        """How many calls the next batch may hold."""
        units = min(self._budget.affordable(BATCH_SECONDS), self._budget.at_once)
        return max(1, min(self._max_batch, units // self._prices[method]))

    def patience(self) -> "Patience":
        """Begin to wait for what fails."""
        return Patience(self._clock, self._accounts.rng)

    def _open(self) -> Any:
        if self._users is None:
            accounts = self._accounts
            plain = httplib2.Http(timeout=accounts.timeout)
            # A token must not follow a redirection, and what is on this machine is not behind its proxy.
            plain.follow_redirects = False
            if urlsplit(accounts.api_root).hostname in {"127.0.0.1", "localhost", "::1"}:
                plain.proxy_info = None
            weakref.finalize(self, plain.close)
            credentials = accounts.credentials(self.mailbox)
            self._service = _build(accounts.api_root, _Transport(plain, credentials, self.mailbox))
            self._users = self._service.users()
        return self._users

    def _name(self, error: Exception, method: str, *, paged: bool = False) -> GmailError:
        return _refusal(error, method, self.mailbox, self._clock.now(), paged=paged)

    def _slow_down(self, refused: int) -> None:
        """Somebody else spends from the same quota, or too many calls came at a time."""
        self._rejected += refused
        self._max_batch = max(1, self._max_batch // 2)
        self._budget.drain()


def worth_another_try(error: GmailError) -> bool:
    """Whether the same call may be answered a little later."""
    return isinstance(error, GmailUnavailable) or (isinstance(error, Throttled) and error.until is None)


class Patience:
    """How long one call of the port goes on trying what fails. Time in which nothing failed does not count."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._lost = timedelta(0)
        self.begin()

    def begin(self) -> None:
        """Something begins that may fail: waits are short again, and what was lost before still counts."""
        self._since = self._clock.now() - self._lost
        self._step = 0

    def end(self) -> None:
        """It had failed and is settled: the time since `begin` was lost."""
        self._lost = self._clock.now() - self._since

    def progress(self) -> None:
        """Something was answered: waits are short again."""
        self._step = 0

    def wait(self) -> bool:
        """Wait for the next try; False at once when it is enough."""
        if self._step == len(BACK_OFF):
            return False
        delay = BACK_OFF[self._step] * self._rng.uniform(0.75, 1.25)
        if self._elapsed() + delay > PATIENCE_SECONDS:
            return False
        self._clock.sleep(delay)
        self._step += 1
        return True

    def over(self) -> bool:
        """Whether even a last try would take too long."""
        return self._elapsed() > 2 * PATIENCE_SECONDS

    def _elapsed(self) -> float:
        return (self._clock.now() - self._since).total_seconds()


@dataclass(slots=True)
class _Fetch:
    """One get for each of many ids: in batches, and what fails in them again one by one.

    Attributes:
        found: what became of each id so far; an id leaves the queue only by entering here.
        alone: ids that were tried in a call of their own.
    """

    client: GmailClient
    method: str
    request: Callable[[Any, str], Any]
    parse: Callable[[Json], Any]
    found: dict[str, Any] = field(default_factory=dict)
    alone: set[str] = field(default_factory=set)

    def all(self, ids: Sequence[str]) -> dict[str, Any]:
        """Return what became of every id."""
        patience = self.client.patience()
        waiting = list(dict.fromkeys(ids))
        while waiting:
            size = self.client.batch_size(self.method)
            chunk, waiting = waiting[:size], waiting[size:]
            patience.begin()
            failing = self._try(chunk)
            if failing:
                self._mend(failing, patience)
                patience.end()
        return {item_id: self.found[item_id] for item_id in ids}

    def _try(self, ids: Sequence[str]) -> dict[str, GmailError]:
        """Ask for ids; what is worth another try is returned.

        Raises:
            GmailError: what is wrong concerns the mailbox and not one id.
        """
        if len(ids) > 1:
            answers = self.client.together(self.method, ids, self.request)
        else:
            self.alone.add(ids[0])
            try:
                answers = {ids[0]: self.client.once(self.method, lambda users: self.request(users, ids[0]))}
            except GmailError as error:
                answers = {ids[0]: error}
        failing: dict[str, GmailError] = {}
        for item_id, answer in answers.items():
            if not isinstance(answer, GmailError):
                self.found[item_id] = self._read(item_id, answer)
            elif isinstance(answer, _NotFound):
                self.found[item_id] = Gone()
            elif isinstance(answer, _BadRequest):
                self.found[item_id] = Failed(str(answer))
            elif worth_another_try(answer) or (isinstance(answer, AccessRevoked) and item_id not in self.alone):
                # A batch does not refresh a token that Gmail refuses; a single call does.
                failing[item_id] = answer
            else:
                raise answer
        return failing

    def _read(self, item_id: str, answer: Any) -> Any:
        try:
            value = self.parse(answer)
        except _UNREADABLE as error:
            return Failed(f"Gmail's answer cannot be read ({type(error).__name__}).")
        return value if value.id == item_id else Failed("Gmail answered with something else than was asked for.")

    def _mend(self, failing: dict[str, GmailError], patience: Patience) -> None:
        """Try again one by one what failed, until nothing is left or it is of no use."""
        while failing and patience.wait():
            before = len(failing)
            failing = self._round(failing)
            if len(failing) < before:
                patience.progress()
        if failing:
            self._give_up(failing, patience)

    def _round(self, failing: dict[str, GmailError]) -> dict[str, GmailError]:
        """Try each once, in vain no longer than there is reason to think that Gmail answers at all."""
        left = dict(failing)
        for item_id in failing:
            # What fails goes to the end, so that the next round begins with another one.
            del left[item_id]
            failed = self._try([item_id])
            left |= failed
            if any(isinstance(error, Throttled) for error in failed.values()) or (failed and not self.found):
                break
        return left

    def _give_up(self, failing: dict[str, GmailError], patience: Patience) -> None:
        """Decide whether Gmail is not there, or only does not answer for these ids; then those are `Failed`.

        Raises:
            Throttled: there is no quota; nothing of what was found is lost, because nothing is committed yet.
            GmailUnavailable: Gmail answers nothing.
        """
        for error in failing.values():
            if isinstance(error, Throttled):
                raise error
        if not self.found:
            # The call that any mailbox answers: if it raises, so does this one.
            self.client.once("users.getProfile", lambda users: users.getProfile(userId=self.client.mailbox))
        # From the end, because the rounds began at the beginning: what takes long may stand side by side.
        for item_id in [item_id for item_id in reversed(failing) if item_id not in self.alone]:
            if patience.over() or (not self.found and len(self.alone) > len(BACK_OFF)):
                break
            del failing[item_id]
            failing |= self._try([item_id])
        for error in failing.values():
            if isinstance(error, Throttled) or (not self.found and len(failing) > len(BACK_OFF)):
                raise error
        for item_id, error in failing.items():
            self.found[item_id] = Failed(f"{error} Gmail answers other calls.")
