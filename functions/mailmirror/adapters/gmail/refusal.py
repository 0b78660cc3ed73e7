"""Refusals to errors: what a call that failed is called.

Knows: Gmail's refusals by endpoint, and those on the way to a token. Does not know: whether a call is made again. No
message carries a token, mail or an address but the mailbox's own.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from googleapiclient.errors import BatchError, HttpError

from mailmirror.adapters.gmail.arrival import TooLarge
from mailmirror.adapters.gmail.wire import UNREADABLE
from mailmirror.charset import clean
from mailmirror.errors import (
    AccessRevoked,
    ApiDisabled,
    BlockedByDomain,
    ClientInvalid,
    ConsentMissing,
    CredentialsMissing,
    DelegationMissing,
    GmailError,
    GmailRejected,
    GmailUnavailable,
    HistoryExpired,
    MailServiceOff,
    NoSubject,
    NoSuchUser,
    PageTokenExpired,
    PublishDenied,
    ScopeMissing,
    SessionEnded,
    SigningDenied,
    Throttled,
    TopicElsewhere,
    WatchTaken,
    WrongUser,
)
from mailmirror.model import MailboxId

# Gmail's word for when to come back can be wrong.
LONGEST_THROTTLE = timedelta(days=1)
DAILY_LIMIT_THROTTLE = timedelta(hours=1)

# A batch as a whole.
BATCH = "batch"
_GET = frozenset({"users.messages.get", "users.threads.get", "users.messages.attachments.get", "users.labels.get"})
_QUOTA_REASONS = frozenset(
    {"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded", "RATE_LIMIT_EXCEEDED"}
)
_QUOTA_WORDS = re.compile(r"rate limit exceeded|quota exceeded|too many concurrent", re.IGNORECASE)
_BAD_ARGUMENT_REASONS = frozenset({"badRequest", "invalid", "invalidArgument", "required"})
_PAGE_TOKEN = re.compile(r"page\s*_?token", re.IGNORECASE)
_START = re.compile(r"start_?history_?id", re.IGNORECASE)
_RETRY_AFTER = re.compile(r"retry after\s+(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d))", re.IGNORECASE)
# Refusals for good, by words of message or reason; the first that fits. `status` and `details` do not tell them apart
# in the field.
_REFUSALS: tuple[tuple[str, type[GmailError]], ...] = (
    (r"domainPolicy", BlockedByDomain),
    (r"delegation denied", WrongUser),
    (r"mail service not enabled", MailServiceOff),
    (r"only one user push notification client", WatchTaken),
    (r"invalid topicName", TopicElsewhere),
    (r"sending test message to cloud pubsub", PublishDenied),
    (r"insufficientPermissions|access_token_scope_insufficient|metadata scope does", ScopeMissing),
    (r"accessNotConfigured|service_disabled", ApiDisabled),
    # May pass; not where a service account calls as itself.
    (r"failedPrecondition", NoSubject),
)
# The same for the token endpoint, in google-auth's words: `error: description`. Any other may pass.
_NO_TOKEN: tuple[tuple[str, type[GmailError]], ...] = (
    (r"client is unauthorized to retrieve|client not authorized", DelegationMissing),
    (r"invalid email or user id|not a valid email|account has been deleted", NoSuchUser),
    (r"invalid_rapt|reauthentication is needed", SessionEnded),
    (r"access_denied|admin_policy_enforced|org_internal", BlockedByDomain),
    (r"invalid_client|deleted_client|disabled_client", ClientInvalid),
    (r"expired or revoked|invalid_scope|unauthorized_client", ConsentMissing),
    (r"invalid_grant", AccessRevoked),
)
_ADDRESS = re.compile(r"[^\s<>\"'(),:;]+@[^\s<>\"'(),:;]+")
_SECRET = re.compile(r"\bya29\.\S+|\beyJ\S{20,}|\b1//\S+|\bGOCSPX-\S+")
_SENTENCE = 300


class NotFound(GmailError):
    """404 on a get: becomes `Gone`."""


class BadRequest(GmailRejected):
    """Gmail refuses this one id: becomes `Failed`."""


class Oversized(GmailUnavailable):
    """No room for an answer: a batch's ids are asked for one by one, another get is `Failed`."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    message: str
    reasons: frozenset[str]
    canonical: str
    retry_after: str

    @classmethod
    def of(cls, error: HttpError) -> "_Answer":
        try:
            body = json.loads(error.content)["error"]
            details = [*body.get("errors", ()), *body.get("details", ())]
            reasons = frozenset(str(item["reason"]) for item in details if "reason" in item)
            message, canonical = str(body.get("message", "")), str(body.get("status", ""))
        except UNREADABLE:
            reasons, message, canonical = frozenset(), str(error.resp.reason or ""), ""
        return cls(int(error.resp.status), message, reasons, canonical, str(error.resp.get("retry-after", "")))

    @property
    def throttles(self) -> bool:
        """429 and 403 for quota are the same."""
        about_quota = bool(self.reasons & _QUOTA_REASONS or _QUOTA_WORDS.search(self.message))
        return self.status == 429 or (self.status == 403 and about_quota) or self.canonical == "RESOURCE_EXHAUSTED"

    def until(self, now: datetime) -> datetime | None:
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
            return min(moment, now + LONGEST_THROTTLE) if moment > now else None
        except UNREADABLE:
            return None


def refusal(error: Exception, method: str, mailbox: MailboxId, now: datetime, *, paged: bool) -> GmailError:
    """Return the name of a failure of the client library or the credentials, perhaps named already.

    `method` may be `BATCH`; `mailbox` is the only address shown; `paged`: a page token was sent.
    """
    if isinstance(error, GmailError):
        return error
    # BatchError is an HTTP error too: an answer that is no batch.
    if isinstance(error, HttpError) and not isinstance(error, BatchError):
        return _http_refusal(_Answer.of(error), method, mailbox, now, paged=paged)
    if isinstance(error, GoogleAuthError):
        return _auth_refusal(error, mailbox)
    if isinstance(error, TooLarge):
        return Oversized(f"{error} It was the answer to {method}.")
    return GmailUnavailable(f"Gmail did not answer {method} ({type(error).__name__}).")


def _http_refusal(answer: _Answer, method: str, mailbox: MailboxId, now: datetime, *, paged: bool) -> GmailError:
    said = _sentence(answer.message, mailbox)
    words = f"Gmail answered {answer.status} to {method}: {said}"
    if answer.throttles:
        return Throttled(words, answer.until(now))
    # A refused batch is not the mailbox's verdict: its ids are asked one by one, and named.
    if answer.status >= 500 or answer.status == 408 or method == BATCH:
        return GmailUnavailable(words)
    known = _named(f"{answer.message} {' '.join(answer.reasons)}", _REFUSALS)
    if known is not None:
        return known(words)
    if answer.status == 401:
        return AccessRevoked(words)
    if answer.status == 404 and method in _GET:
        return NotFound(words)
    if answer.status == 404 and method == "users.history.list":
        return HistoryExpired(words)
    if answer.status == 400 and paged and _PAGE_TOKEN.search(answer.message):
        return PageTokenExpired(words)
    bad_argument = _START.search(answer.message) or (answer.reasons & _BAD_ARGUMENT_REASONS and not paged)
    if answer.status == 400 and method == "users.history.list" and bad_argument:
        return HistoryExpired(words)
    if method in _GET and answer.status != 403:
        return BadRequest(words)
    return GmailRejected(words)


def _auth_refusal(error: GoogleAuthError, mailbox: MailboxId) -> GmailError:
    """From the metadata server, IAM's signJwt or the token endpoint."""
    arguments = [argument for argument in error.args if isinstance(argument, str)]
    said = _sentence(" ".join(arguments[:1]), mailbox)
    iam_status = next((status for status in map(_iam_status, arguments) if status), 0)
    if iam_status and iam_status < 500 and iam_status != 429:
        return SigningDenied(
            f"IAM answered {iam_status} when the delegated service account had to sign for {mailbox}: it takes "
            "roles/iam.serviceAccountTokenCreator on that account, and iamcredentials.googleapis.com enabled."
        )
    if isinstance(error, DefaultCredentialsError):
        return CredentialsMissing(f"There are no Application Default Credentials: {said}")
    known = _named(said, _NO_TOKEN)
    if error.retryable or iam_status or isinstance(error, TransportError) or known is None:
        return GmailUnavailable(f"No token for {mailbox} at the moment: {said}")
    return known(f"Google gives no token for {mailbox}: {said}")


def _named(text: str, names: Iterable[tuple[str, type[GmailError]]]) -> type[GmailError] | None:
    return next((name for words, name in names if re.search(words, text, re.IGNORECASE)), None)


def _iam_status(body: str) -> int:
    try:
        return int(json.loads(body)["error"]["code"])
    except UNREADABLE:
        return 0


def _sentence(text: str, mailbox: MailboxId) -> str:
    """One line, without tokens and addresses but the mailbox's."""

    def shown(match: re.Match[str]) -> str:
        return match[0] if match[0].lower().rstrip(".") == mailbox else "…"

    line = " ".join(clean(text[: 4 * _SENTENCE]).split()) or "no reason given"
    line = _ADDRESS.sub(shown, _SECRET.sub("…", line))
    return line if len(line) <= _SENTENCE else line[:_SENTENCE] + "…"
