"""Every way in which Gmail and Google's token endpoint are known to refuse, from the wire to the mailbox document.

Knows: the answers as practitioners recorded them and as Google's guide shows them, what each is called, what Pub/Sub
and a person are answered, the phase the mailbox is in, and the next step its document names. Each goes through the real
client over HTTP and through the engine; when the refusal ends, the mailbox goes on by itself and nothing is lost.
"""

import json
import logging
import random
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import google.auth.credentials
import google.oauth2.credentials
import pytest
from google.auth.exceptions import DefaultCredentialsError, RefreshError
from mailmirror.adapters.gmail import GmailApiAccounts
from mailmirror.adapters.gmail.refusal import refusal
from mailmirror.config import READONLY_SCOPE
from mailmirror.errors import (
    NEEDS_SOMEBODY,
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
    MailmirrorError,
    MailServiceOff,
    NoSubject,
    NoSuchUser,
    PublishDenied,
    ScopeMissing,
    SessionEnded,
    SigningDenied,
    Throttled,
    TopicElsewhere,
    WatchTaken,
    WrongUser,
)
from mailmirror.model import Phase

from local.gmail.server import create_app
from local.gmail.world import World as Gmail
from local.gmail.wsgi import Server
from tests.world import ADA, World, mail, push

TOPIC = "projects/p/topics/gmail-notifications"
TOKEN = "token"
HISTORY, LIST, GET = "users.history.list", "users.messages.list", "users.messages.get"
PROFILE, WATCH = "users.getProfile", "users.watch"
PATHS = {
    HISTORY: "/history",
    LIST: "/messages",
    GET: "/messages/[^/]+",
    PROFILE: "/profile",
    WATCH: "/watch",
    TOKEN: "/token",
}


@dataclass(frozen=True, slots=True)
class Wire:
    """An answer as it comes over HTTP."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


def said(status: int, reason: str, message: str, domain: str = "global", **headers: str) -> Wire:
    """An answer in Google's error model, with the `errors` list that Gmail still fills."""
    detail = {"message": message, "domain": domain, "reason": reason}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Wire(status, {"error": {"code": status, "message": message, "errors": [detail]}}, named)


def token(error: str, description: str, **more: str) -> Wire:
    """A refusal of the token endpoint, in OAuth's error model."""
    return Wire(400, {"error": error, "error_description": description} | more)


QUERIES = (
    "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute per user' of service "
    "'gmail.googleapis.com' for consumer 'project_number:1'."
)
DISABLED = (
    "Gmail API has not been used in project 1 before or it is disabled. Enable it by visiting "
    "https://console.developers.google.com/apis/api/gmail.googleapis.com/overview?project=1 then retry."
)
UNDELEGATED = (
    "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of the "
    "scopes requested."
)
IAM = "Unable to acquire impersonated credentials"
NOT_FOUND = said(404, "notFound", "Requested entity was not found.")


@dataclass(frozen=True, slots=True)
class Case:
    """A refusal and what comes of it.

    Attributes:
        name: the row of the fact page.
        call: the method that is refused, or the token endpoint.
        answer: what is answered to it; an exception is what google-auth raises where no answer comes over HTTP.
        leaf: its name in errors.py.
        push: what Pub/Sub is answered.
        people: what somebody who asks for a sync is answered.
        phase: the mailbox's afterwards.
        says: words of the sentence on the mailbox document.
        do: words of the next step beside it.
    """

    name: str
    call: str
    answer: Wire | Exception
    leaf: type[MailmirrorError]
    push: int
    people: int
    phase: Phase
    says: str
    do: str


def throttled(name: str, answer: Wire, says: str) -> Case:
    """Quota: Pub/Sub comes back, the mailbox rests meanwhile."""
    return Case(name, HISTORY, answer, Throttled, 503, 429, "throttled", says, "goes on when quota is back")


def down(name: str, answer: Wire, says: str) -> Case:
    """An outage: Pub/Sub comes back, the mailbox is what it was."""
    return Case(name, HISTORY, answer, GmailUnavailable, 503, 503, "live", says, "tried again by itself")


def closed(name: str, answer: Wire | Exception, leaf: type[GmailError], says: str, do: str, call: str = TOKEN) -> Case:
    """Somebody has to do something: nothing is delivered again, and the mailbox says what."""
    return Case(name, call, answer, leaf, 204, 409, "reauth_required", says, do)


CASES = [
    # Quota, in whatever clothes.
    throttled("user rate", said(403, "userRateLimitExceeded", "User Rate Limit Exceeded", "usageLimits"), "User Rate"),
    throttled("project rate", said(403, "rateLimitExceeded", "Rate Limit Exceeded", "usageLimits"), "Rate Limit"),
    throttled("really seen", said(403, "rateLimitExceeded", QUERIES, "usageLimits"), "Queries per minute per user"),
    throttled("really seen, as 429", said(429, "rateLimitExceeded", QUERIES, "usageLimits"), "Queries per minute"),
    throttled("burst", said(429, "rateLimitExceeded", "Resource has been exhausted (e.g. check quota)."), "exhausted"),
    throttled("concurrency", said(429, "rateLimitExceeded", "Too many concurrent requests for user"), "concurrent"),
    throttled("concurrency, 403", said(403, "forbidden", "Too many concurrent requests for user"), "concurrent"),
    throttled("daily cap", said(403, "dailyLimitExceeded", "Daily Limit Exceeded", "usageLimits"), "Daily Limit"),
    throttled("quotaExceeded", said(403, "quotaExceeded", "The request cannot be completed."), "cannot be completed"),
    throttled("429 of a proxy", Wire(429, {}), "429"),
    throttled("bandwidth", said(429, "rateLimitExceeded", "User-rate limit exceeded", Retry_After="600"), "User-rate"),
    throttled(
        "punished user",
        said(
            429, "rateLimitExceeded", "User-rate limit exceeded.  Retry after 2026-11-20T12:15:00.763Z", "usageLimits"
        ),
        "Retry after 2026-11-20T12:15",
    ),
    throttled(
        "punished user, 403",
        said(403, "userRateLimitExceeded", "User-rate limit exceeded.  Retry after 2026-11-20T12:15:00.763Z"),
        "Retry after 2026-11-20T12:15",
    ),
    # What passes.
    *(down(f"{code}", said(code, "backendError", "Backend Error"), f"{code}") for code in (500, 502, 503, 504)),
    down("5xx of a proxy", Wire(502, {}), "502"),
    # Access to the mailbox.
    closed("401", said(401, "authError", "Invalid Credentials"), AccessRevoked, "401", "Give access again", HISTORY),
    closed(
        "domain policy",
        said(403, "domainPolicy", "The domain administrators have disabled Gmail apps."),
        BlockedByDomain,
        "administrators have disabled",
        "Manage app access",
        HISTORY,
    ),
    closed(
        "wrong userId",
        said(403, "forbidden", f"Delegation denied for {ADA}"),
        WrongUser,
        f"Delegation denied for {ADA}",
        "mailbox's own user",
        HISTORY,
    ),
    closed(
        "no mailbox",
        said(400, "failedPrecondition", "Mail service not enabled"),
        MailServiceOff,
        "Mail service not enabled",
        "Gmail, Service status",
        HISTORY,
    ),
    # Configuration of the project.
    closed(
        "missing scope",
        said(403, "insufficientPermissions", "Request had insufficient authentication scopes."),
        ScopeMissing,
        "insufficient authentication scopes",
        "auth/gmail.readonly",
        HISTORY,
    ),
    *(
        closed(
            f"metadata scope, {what}",
            said(403, "forbidden", text),
            ScopeMissing,
            "Metadata scope",
            "GMAIL_SCOPES",
            call,
        )
        for what, call, text in (
            ("full", GET, "Metadata scope doesn't allow format FULL"),
            ("raw", GET, "Metadata scope doesn't allow format RAW"),
            ("q", HISTORY, "Metadata scope does not support 'q' parameter"),
        )
    ),
    closed(
        "API not enabled",
        said(403, "accessNotConfigured", DISABLED, "usageLimits"),
        ApiDisabled,
        "has not been used in project",
        "gcloud services enable gmail.googleapis.com",
        HISTORY,
    ),
    closed(
        "service account without subject",
        said(400, "failedPrecondition", "Precondition check failed."),
        NoSubject,
        "Precondition check failed",
        "GMAIL_DELEGATE",
        HISTORY,
    ),
    closed(
        "a 403 like no other", said(403, "forbidden", "No."), GmailRejected, "403", "that the message names", HISTORY
    ),
    # The way to a token.
    closed(
        "expired or revoked",
        token("invalid_grant", "Token has been expired or revoked."),
        ConsentMissing,
        "expired or revoked",
        "GET /connect",
    ),
    closed("scope never given", token("invalid_scope", "Bad Request"), ConsentMissing, "invalid_scope", "GET /connect"),
    closed("grant like no other", token("invalid_grant", "Bad Request"), AccessRevoked, "invalid_grant", "Give access"),
    closed(
        "not delegated", token("unauthorized_client", UNDELEGATED), DelegationMissing, "unauthorized", "wide delegation"
    ),
    *(
        closed(text, token("invalid_grant", text), NoSuchUser, text, "primary address")
        for text in ("Invalid email or User ID", "Not a valid email", "The account has been deleted")
    ),
    closed(
        "access denied",
        token("access_denied", "Account restricted"),
        BlockedByDomain,
        "restricted",
        "Manage app access",
    ),
    closed(
        "by policy", token("admin_policy_enforced", "Access blocked"), BlockedByDomain, "blocked", "Manage app access"
    ),
    closed(
        "session over",
        token("invalid_grant", "reauth related error (invalid_rapt)", error_subtype="invalid_rapt"),
        SessionEnded,
        "Reauthentication is needed",
        "session control",
    ),
    closed("session over, raw", RefreshError("invalid_rapt: x", {}), SessionEnded, "invalid_rapt", "session control"),
    closed(
        "client deleted",
        token("deleted_client", "The OAuth client was deleted."),
        ClientInvalid,
        "deleted",
        "client.json",
    ),
    closed("client changed", token("invalid_client", "Unauthorized"), ClientInvalid, "invalid_client", "client.json"),
    closed(
        "may not sign",
        RefreshError(IAM, json.dumps({"error": {"code": 403, "message": "x", "status": "PERMISSION_DENIED"}})),
        SigningDenied,
        "IAM answered 403",
        "serviceAccountTokenCreator",
    ),
    closed("no credentials", DefaultCredentialsError("none"), CredentialsMissing, "Default Credentials", "gcloud auth"),
    Case(
        "IAM is down",
        TOKEN,
        RefreshError(IAM, json.dumps({"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}})),
        GmailUnavailable,
        503,
        503,
        "live",
        "at the moment",
        "tried again by itself",
    ),
]


class Failing(google.auth.credentials.Credentials):
    """Credentials that end in an exception, where that does not come of an answer over HTTP."""

    def __init__(self, error: Exception) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._error = error

    def refresh(self, request: object) -> None:
        """Raise it."""
        raise self._error


class Refusing:
    """Gmail with its token endpoint: refuses what it is told to, as often as it is told, and answers everything else.

    Attributes:
        call: what is refused.
        answers: the refusals to come; the last one for ever if `lasting`.
    """

    def __init__(self, gmail: Gmail) -> None:
        self._gmail = create_app(gmail)
        self.call = ""
        self.answers: list[Wire | Exception] = []
        self.lasting = False

    def refuse(self, call: str, *answers: Wire | Exception, lasting: bool = True) -> None:
        """Refuse a call from now on."""
        self.call, self.answers, self.lasting = call, list(answers), lasting

    def relent(self) -> None:
        """Refuse nothing any more."""
        self.answers = []

    def credentials(self, root: str) -> Any:
        """A user's credentials whose token endpoint is here."""
        if self.call == TOKEN and self.answers and isinstance(self.answers[0], Exception):
            return Failing(self.answers[0])
        return google.oauth2.credentials.Credentials(
            None,
            refresh_token="refresh-0",
            client_id="client-0",
            client_secret="secret-0",
            token_uri=f"{root}token",
            scopes=[READONLY_SCOPE],
        )

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """WSGI."""
        path = environ["PATH_INFO"]
        answer: Wire | Exception | None = None
        if self.answers and re.search(f"{PATHS[self.call]}$", path):
            answer = self.answers[0] if self.lasting else self.answers.pop(0)
        elif path == "/token":
            answer = Wire(200, {"access_token": ADA, "expires_in": 3600, "token_type": "Bearer"})
        if not isinstance(answer, Wire):
            return self._gmail(environ, start_response)
        body = json.dumps(answer.body).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))} | dict(answer.headers)
        start_response(f"{answer.status} Refused", list(headers.items()))
        return [body]


@dataclass
class Setting:
    """A mirrored mailbox behind real HTTP.

    Attributes:
        world: the application on a virtual clock; its `ada` is the mailbox in Gmail.
        gmail: what refuses.
    """

    world: Any
    gmail: Refusing

    def renew(self) -> int:
        """Push a renewal and return the answer."""
        app = self.world.app
        return int(app.push(app.run_work, push({"mailbox": ADA, "task": "renew"})))

    def recover(self) -> None:
        """Refuse nothing any more, let an hour pass, and see that sweep and sync bring everything."""
        self.gmail.relent()
        self.world.clock.advance(3_700)
        self.world.app.sweep_mailboxes()
        self.world.work()
        state = self.world.state()
        assert (state.phase, state.problem) == ("live", None)
        assert self.world.differences() == []


@pytest.fixture
def setting() -> Iterator[Setting]:
    """One mailbox with one message, mirrored and live."""
    world: Any = World()
    gmail = Gmail(clock=world.clock)
    world.ada = gmail.add(ADA)
    refusing = Refusing(gmail)
    server = Server("127.0.0.1", 0, refusing)
    root = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    world.accounts = GmailApiAccounts(
        lambda _: refusing.credentials(root), clock=world.clock, topic=TOPIC, api_root=root, rng=random.Random(0)
    )
    world.app = world.worker("worker-1")
    world.ada.deliver(mail("Old"))
    world.connect()
    yield Setting(world, refusing)
    server.shutdown()
    thread.join()
    server.server_close()
    world.sqlite.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_refusal(setting: Setting, case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """Each refusal has its name, its answers to Pub/Sub and to people, its phase, its sentence and its next step; the
    cursor stays, and when the refusal ends the mailbox goes on where it was.
    """
    caplog.set_level(logging.INFO, "mailmirror")
    world = setting.world
    world.ada.deliver(mail("New"))
    cursor = world.state().cursor
    setting.gmail.refuse(case.call, case.answer)
    assert world.notify() == case.push
    assert case.leaf.acknowledge is (case.push == 204)

    state = world.state()
    assert (state.phase, state.cursor) == (case.phase, cursor)
    assert state.problem.code == case.leaf.__name__
    assert case.says in state.problem.message
    assert case.do in state.problem.action
    alarmed = [record for record in caplog.records if record.getMessage() == "reauth_required"]
    assert [record.levelname for record in alarmed] == (["ERROR"] if case.phase == "reauth_required" else [])

    with pytest.raises(case.leaf) as told:
        world.app.trigger_sync(ADA, "incremental", 0)
    assert type(told.value) is case.leaf
    assert told.value.http_status == case.people
    setting.recover()


@pytest.mark.parametrize("name", ["punished user", "punished user, 403", "bandwidth", "daily cap"])
def test_when_a_throttled_mailbox_goes_on(setting: Setting, name: str) -> None:
    """The time in the text or the header is when the mailbox is due again; a daily cap is looked at again hourly."""
    world = setting.world
    world.ada.deliver(mail("New"))
    start = world.clock.now()
    setting.gmail.refuse(HISTORY, next(case.answer for case in CASES if case.name == name))
    world.notify()
    expected = {"bandwidth": timedelta(minutes=10), "daily cap": timedelta(hours=1)}
    until = world.state().throttled_until
    assert abs(until - start - expected.get(name, timedelta(minutes=15))) < timedelta(seconds=10)


def test_what_google_says_is_repeated_without_secrets(setting: Setting, caplog: pytest.LogCaptureFixture) -> None:
    """Tokens, a client's secret and other people's addresses in an answer get neither into the log nor into a
    document.
    """
    caplog.set_level(logging.DEBUG, "mailmirror")
    world = setting.world
    secrets = (
        "1//refresh-0",
        "ya29.access",
        "GOCSPX-client",
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln",
        "bob@example.org",
    )
    world.ada.deliver(mail("New"))
    setting.gmail.refuse(
        TOKEN, token("invalid_grant", f"Token {' '.join(secrets)} of {ADA} has been expired or revoked.")
    )
    assert world.notify() == 204
    state = world.state()
    assert state.problem.code == "ConsentMissing"
    assert f"of {ADA} has been expired or revoked" in state.problem.message
    told = "".join(str(vars(record)) for record in caplog.records) + str(state)
    assert ADA in told
    assert [secret for secret in secrets if secret in told] == []


# The watch: refused, and the mirror goes on without it.


@dataclass(frozen=True, slots=True)
class WatchCase:
    """A refusal of users.watch.

    Attributes:
        says, do: words of what the mailbox document says of the watch: what happened, and the next step.
    """

    answer: Wire
    leaf: type[GmailRejected]
    says: str
    do: str


ONLY_ONE = said(
    400, "invalidArgument", "Only one user push notification client allowed per developer (call /stop then try again)"
)
WATCHES = {
    "taken": WatchCase(ONLY_ONE, WatchTaken, "Only one user push notification client", "another deployment"),
    "topic elsewhere": WatchCase(
        said(400, "invalidArgument", "Invalid topicName does not match projects/owner/topics/*"),
        TopicElsewhere,
        "projects/owner/topics",
        "GMAIL_TOPIC",
    ),
    "may not publish": WatchCase(
        said(
            403,
            "forbidden",
            f"Error sending test message to Cloud PubSub {TOPIC} : User not authorized to perform this action.",
        ),
        PublishDenied,
        "not authorized to perform this action",
        "--member=serviceAccount:gmail-api-push@system.gserviceaccount.com --role=roles/pubsub.publisher",
    ),
}


@pytest.mark.parametrize("case", WATCHES.values(), ids=WATCHES)
def test_a_watch_refused(setting: Setting, case: WatchCase, caplog: pytest.LogCaptureFixture) -> None:
    """The mailbox says what is wrong with its watch and what to do, an error is logged, and mail is mirrored all the
    same.
    """
    caplog.set_level(logging.INFO, "mailmirror")
    world = setting.world
    world.ada.deliver(mail("New"))
    setting.gmail.refuse(WATCH, case.answer)
    assert setting.renew() == 204
    state = world.state()
    assert (state.phase, state.problem) == ("live", None)
    assert case.says in state.watch.error
    assert case.do in state.watch.error
    assert case.do in case.leaf.action
    assert world.differences() == []
    told = [record for record in caplog.records if record.getMessage() == "watch_failed"]
    assert [record.levelname for record in told] == ["ERROR"]
    setting.gmail.relent()
    assert setting.renew() == 204
    assert world.state().watch.error is None


# What is no problem of the mailbox.


@pytest.mark.parametrize(
    "answer",
    [
        NOT_FOUND,
        said(400, "invalidArgument", "Missing/invalid parameter: startHistoryId"),
        said(400, "badRequest", "Bad Request"),
    ],
    ids=["stale cursor", "bad cursor", "bad cursor, in other words"],
)
def test_a_cursor_that_gmail_refuses(setting: Setting, answer: Wire) -> None:
    """The mailbox is compared as a whole, without a problem and without a gap."""
    world = setting.world
    world.ada.deliver(mail("New"))
    setting.gmail.refuse(HISTORY, answer, lasting=False)
    assert world.notify() == 204
    state = world.state()
    assert (state.phase, state.problem, state.active_run.mode) == ("recovering", None, "repair")
    setting.recover()


def test_a_message_that_is_gone(setting: Setting) -> None:
    """The same body as a stale cursor's, and yet the message is gone and nothing else."""
    world = setting.world
    gone = world.ada.deliver(mail("Gone"))
    setting.gmail.refuse(GET, NOT_FOUND)
    assert world.notify() == 204
    state = world.state()
    assert (state.phase, state.problem, state.run.active) == ("live", None, False)
    assert gone not in world.documents("messages")


def test_a_precondition_that_fails_in_passing(setting: Setting) -> None:
    """What is for ever where a service account has no subject also passes: it is tried again before it is believed."""
    world = setting.world
    world.ada.deliver(mail("New"))
    setting.gmail.refuse(HISTORY, *[said(400, "failedPrecondition", "Precondition check failed.")] * 3, lasting=False)
    assert world.notify() == 204
    assert (world.state().phase, world.state().problem) == ("live", None)
    assert world.differences() == []
    assert 5 < sum(world.clock.slept) < 9


def test_a_precondition_that_fails_for_one_message(setting: Setting) -> None:
    """Where Gmail answers other calls, it is not the credentials: the message is parked and the mailbox is live."""
    world = setting.world
    parked = world.ada.deliver(mail("Odd"))
    setting.gmail.refuse(GET, said(400, "failedPrecondition", "Precondition check failed."))
    assert world.notify() == 204
    assert world.state().phase == "live"
    assert list(world.documents("parked")) == [parked]


# Names for what no answer says.


def test_what_is_no_answer_at_all() -> None:
    """A broken connection and an answer that is not Google's are outages, whatever the method."""
    now = World().clock.now()
    named = refusal(ConnectionResetError("x"), HISTORY, ADA, now, paged=False)
    assert type(named) is GmailUnavailable
    assert type(refusal(HistoryExpired("x"), GET, ADA, now, paged=False)) is HistoryExpired


def test_every_failure_that_needs_somebody_is_in_the_tables() -> None:
    """A name that is added to the tree comes with the answer it is for."""
    shown = {case.leaf.__name__ for case in CASES} | {case.leaf.__name__ for case in WATCHES.values()}
    assert shown >= NEEDS_SOMEBODY
