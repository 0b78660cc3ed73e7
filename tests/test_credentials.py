"""Consents: from the secrets in Secret Manager to a mailbox that opens, and what is said when there is no way."""

import base64
import hashlib
import io
import json
import logging
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import google_auth_httplib2
import httplib2
import pytest
from google.auth import _exponential_backoff
from google.auth.credentials import Credentials
from mailmirror.adapters import consents, credentials
from mailmirror.adapters.gmail import GmailApiAccounts
from mailmirror.adapters.sqlite import SqliteStore
from mailmirror.app import App, configure_logs
from mailmirror.config import READONLY_SCOPE, Settings
from mailmirror.errors import (
    AccessRevoked,
    ClientInvalid,
    ConsentMissing,
    CredentialsMissing,
    GmailError,
    GmailUnavailable,
)
from mailmirror.lease import Pace
from mailmirror.model import Gone, Message
from mailmirror.ports import Gmail
from mailmirror.quota import PRICES
from mailmirror.wiring import from_settings

from local.gmail.mailbox import Mailbox as GmailMailbox
from local.gmail.server import create_app as create_gmail
from local.gmail.world import World as GmailWorld
from local.google import oauth, secretmanager
from local.google.server import Served, create_app
from tests.clock import VirtualClock
from tests.world import Outbox, mail, push

ADA = "ada@example.com"
BOB = "bob@example.com"
CLIENT = "projects/p/secrets/mailmirror-oauth-client"
PREFIX = "projects/p/secrets/mailmirror-token-"
ADAS = PREFIX + hashlib.sha256(b"ada@example.com").hexdigest()[:40]


@dataclass
class Google:
    """Secret Manager, the token endpoint and Gmail, with Ada's consent given and kept.

    Attributes:
        secrets_host: where Secret Manager is, as `host:port`; None for Google's.
        tokens: where OAuth is.
        gmail: where Gmail is.
        ada: her mailbox.
        text: what any library logs, from DEBUG on.
    """

    manager: secretmanager.SecretManager
    oauth: oauth.OAuth
    world: GmailWorld
    clock: VirtualClock
    secrets_host: str | None
    tokens: str
    gmail: str
    ada: GmailMailbox
    text: io.StringIO = field(default_factory=io.StringIO)

    def credentials(self, scopes: str = READONLY_SCOPE) -> Callable[[str], Credentials | None]:
        """What a new process makes credentials with."""
        return credentials.for_mailbox(
            "oauth", "", scopes.split(), consents.SecretConsents(CLIENT, PREFIX, self.secrets_host)
        )

    def accounts(self, scopes: str = READONLY_SCOPE) -> GmailApiAccounts:
        """The Gmail port on these credentials."""
        return GmailApiAccounts(
            self.credentials(scopes),
            clock=self.clock,
            topic="projects/p/topics/t",
            api_root=self.gmail,
            rng=random.Random(0),
            timeout=5,
        )

    def open(self, scopes: str = READONLY_SCOPE) -> Gmail:
        """Ada's mailbox."""
        return self.accounts(scopes).open(ADA, None)

    def refreshed_with(self) -> list[tuple[str, str, str]]:
        """Client, its secret and refresh token of each request for a token."""
        return [(form["client_id"], form["client_secret"], form["refresh_token"]) for form in self.oauth.asked]


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """Google with Ada's consent. At the end no library has logged anything secret."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    manager, tokens, clock = secretmanager.SecretManager(), oauth.OAuth(), VirtualClock()
    world = GmailWorld(clock=clock, sleep=clock.sleep)
    with (
        Served(create_app(secretmanager.blueprint(manager), oauth.blueprint(tokens))) as served,
        Served(create_gmail(world, whose=tokens.whose)) as gmail,
    ):
        addresses = (served.host, f"http://{served.host}", f"http://{gmail.host}")
        google = Google(manager, tokens, world, clock, *addresses, ada=world.add(ADA))
        manager.put(CLIENT, json.dumps(tokens.client(google.tokens)).encode())
        manager.put(ADAS, tokens.grant(ADA, READONLY_SCOPE))
        with logged(google.text):
            yield google
        assert [secret for secret in tokens.secrets() if secret in google.text.getvalue()] == []


@contextmanager
def logged(text: io.StringIO) -> Iterator[None]:
    """Write down what is logged, whoever keeps it from the root logger, with what Google's libraries attach."""
    handler = logging.StreamHandler(text)
    attached = {"fields": "", "httpRequest": "", "httpResponse": ""}
    handler.setFormatter(
        logging.Formatter("%(message)s %(fields)s %(httpRequest)s %(httpResponse)s", defaults=attached)
    )
    loggers = [logging.getLogger(name) for name in (None, "google")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


def refused(google: Google, error: type[GmailError]) -> str:
    """How a single call and a batch fail, each in a process of its own; that they say the same, without secrets."""
    said = set()
    calls: list[Callable[[Gmail], object]] = [
        lambda gmail: gmail.profile(),
        lambda gmail: gmail.messages(["1", "2"], None),
    ]
    for call in calls:
        with pytest.raises(error) as caught:
            call(google.open())
        assert type(caught.value) is error
        said.add(str(caught.value))
    (sentence,) = said
    assert not [secret for secret in google.oauth.secrets() if secret in sentence]
    assert sentence.endswith(".")
    return sentence


def test_a_mailbox_opens_with_its_users_consent(google: Google) -> None:
    """Client and refresh token are read from their secrets, and the access token they are worth is used for an hour."""
    ids = [google.ada.deliver(mail(f"{number}")) for number in range(3)]
    gmail = google.open()
    assert gmail.profile().email_address == ADA
    assert all(isinstance(found, Message) for found in gmail.messages(ids, None).values())
    assert google.manager.read == [CLIENT, ADAS]
    (asked,) = google.oauth.asked
    assert asked == {
        "grant_type": "refresh_token",
        "client_id": "client-1",
        "client_secret": google.oauth.clients["client-1"],
        "refresh_token": next(iter(google.oauth.grants)),
        "scope": READONLY_SCOPE,
    }


def test_a_process_asks_once_an_hour_for_each_mailbox(google: Google) -> None:
    """Mailboxes are opened again and again with the access token they have, each with its own."""
    google.world.add(BOB)
    google.manager.put(consents.token_secret(PREFIX, BOB), google.oauth.grant(BOB, READONLY_SCOPE))
    accounts = google.accounts()
    for _ in range(3):
        assert accounts.open(ADA, None).profile().email_address == ADA
        assert accounts.open(BOB, None).profile().email_address == BOB
    assert len(google.oauth.asked) == 2


def test_threads_that_refresh_at_once_keep_to_their_mailboxes(google: Google) -> None:
    """Eight threads, two at a mailbox, in a process that has no token yet: each gets that of its own mailbox."""
    mailboxes = [f"user-{number}@example.com" for number in range(4)]
    for mailbox in mailboxes:
        google.manager.put(consents.token_secret(PREFIX, mailbox), google.oauth.grant(mailbox, READONLY_SCOPE))
    made: Any = google.credentials()

    def owner(mailbox: str) -> str | None:
        headers: dict[str, str] = {}
        mine = made(mailbox)
        with closing(httplib2.Http()) as http:
            mine.refresh(google_auth_httplib2.Request(http))
        mine.apply(headers)
        return google.oauth.whose(headers["authorization"].removeprefix("Bearer "))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(owner, mailboxes * 12)) == mailboxes * 12


@pytest.mark.parametrize("kind", ["web", "installed"])
def test_either_kind_of_client(google: Google, kind: str) -> None:
    """The client may be of the kind for web servers or for desktops."""
    google.manager.put(CLIENT, json.dumps(google.oauth.client(google.tokens, kind=kind)).encode())
    assert google.open().profile().email_address == ADA


def test_a_new_version_counts_from_the_next_access_token_on(google: Google) -> None:
    """A consent given again, and a client's new secret, are used without a new process."""
    google.oauth.seconds = 240  # a little more than google-auth takes for over
    accounts = google.accounts()
    accounts.open(ADA, None).profile()
    first = google.refreshed_with()[-1]
    google.manager.put(ADAS, google.oauth.grant(ADA, READONLY_SCOPE))
    held: Any = accounts.credentials(ADA)
    held.expiry -= timedelta(seconds=60)
    accounts.open(ADA, None).profile()
    second = google.refreshed_with()[-1]
    google.manager.put(CLIENT, json.dumps(google.oauth.client(google.tokens)).encode())
    held.expiry -= timedelta(seconds=60)
    accounts.open(ADA, None).profile()
    third = google.refreshed_with()[-1]
    assert len(google.oauth.asked) == 3
    assert (first[2] != second[2], second[2]) == (True, third[2])
    assert (first[1], third[1]) == (second[1], google.oauth.clients["client-1"])
    assert first[1] != third[1]


def test_writing_a_secret_does_not_log_it(google: Google) -> None:
    """Google's client, which logs its requests with all they hold at DEBUG, keeps what becomes a secret to itself."""
    manager = consents.secret_manager(google.secrets_host)
    manager.add_secret_version(request={"parent": ADAS, "payload": {"data": b"1//refresh-9"}})
    assert google.manager.latest(ADAS) == b"1//refresh-9"
    told = google.text.getvalue()
    assert "addVersion" in told
    assert "1//refresh-9" not in told
    assert base64.b64encode(b"1//refresh-9").decode() not in told


def test_the_name_of_a_token() -> None:
    """A token's secret is named by a hash of the address: always a valid name, another one for each mailbox."""
    names = {consents.token_secret(PREFIX, mailbox) for mailbox in (ADA, BOB, "ü" * 300 + "@example.com")}
    assert len(names) == 3
    assert ADAS in names
    assert {len(name) for name in names} == {len(PREFIX) + 40}


# --- When there is no way.


def disable(google: Google) -> None:
    """The latest version is disabled; there is an older one."""
    google.manager.put(ADAS, b"{}")
    google.manager.secrets[ADAS][-1].state = "DISABLED"


def destroy(google: Google) -> None:
    """The latest version is destroyed."""
    google.manager.secrets[ADAS][-1].state = "DESTROYED"


@pytest.mark.parametrize(
    ("happen", "code"),
    [
        (lambda google: google.manager.secrets.pop(ADAS), "404"),
        (lambda google: google.manager.secrets[ADAS].clear(), "404"),
        (disable, "400"),
        (destroy, "400"),
        (lambda google: google.manager.denied.add(ADAS), "403"),
    ],
    ids=["missing", "empty", "disabled", "destroyed", "denied"],
)
def test_no_consent(google: Google, happen: Callable[[Google], object], code: str) -> None:
    """Where no refresh token can be read, somebody has to give consent: which for, and how, is said."""
    happen(google)
    sentence = refused(google, ConsentMissing)
    assert sentence.startswith(f"No consent has been given for {ADA}, or it cannot be read")
    assert f"answered {code} for the latest version of {ADAS}" in sentence
    assert "`make consent`" in sentence
    assert google.oauth.asked == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"1//refresh-9",
        b"[]",
        b"{}",
        b'{"refresh_token": ""}',
        b'{"refresh_token": ["1//refresh-9"]}',
        b"[" * 10_000,
    ],
)
def test_a_consent_that_makes_no_sense(google: Google, content: bytes) -> None:
    """A secret without a refresh token in it is no consent, and is not repeated."""
    google.manager.put(ADAS, content)
    sentence = refused(google, ConsentMissing)
    assert "`make consent`" in sentence
    assert "1//" not in sentence
    assert "1//refresh-9" not in google.text.getvalue()


def test_a_consent_taken_back(google: Google) -> None:
    """What the token endpoint calls an invalid grant is access that is gone; the token it repeats is not told."""
    google.oauth.withdraw()
    assert "invalid_grant" in refused(google, ConsentMissing)


def test_a_consent_for_less(google: Google) -> None:
    """A consent that does not cover the scopes is none, before any call of Gmail."""
    with pytest.raises(AccessRevoked, match="invalid_scope"):
        google.open("https://mail.google.com/").profile()


def test_a_consent_to_another_client(google: Google) -> None:
    """Refresh tokens are worth nothing with another client than they were given to."""
    google.manager.put(CLIENT, json.dumps(google.oauth.client(google.tokens, "client-2")).encode())
    assert "invalid_grant" in refused(google, ConsentMissing)


@pytest.mark.parametrize(
    "happen",
    [
        lambda google: google.manager.secrets.pop(CLIENT),
        lambda google: google.manager.denied.add(CLIENT),
        lambda google: setattr(google.manager.secrets[CLIENT][-1], "state", "DISABLED"),
    ],
    ids=["missing", "denied", "disabled"],
)
def test_no_client(google: Google, happen: Callable[[Google], object]) -> None:
    """A client that cannot be read is a matter of configuration, and which secret is meant is said."""
    happen(google)
    sentence = refused(google, ClientInvalid)
    assert CLIENT in sentence
    assert "GMAIL_OAUTH_CLIENT" in sentence


CLIENT_FIELDS = {"client_id": "client-1", "client_secret": "GOCSPX-not-told", "token_uri": "http://127.0.0.1:9/token"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GOCSPX-not-told",
        b"[]",
        json.dumps(CLIENT_FIELDS).encode(),
        json.dumps({"installed": "GOCSPX-not-told"}).encode(),
        *(
            json.dumps({"web": {key: value for key, value in CLIENT_FIELDS.items() if key != name}}).encode()
            for name in CLIENT_FIELDS
        ),
        json.dumps({"web": CLIENT_FIELDS | {"token_uri": 1}}).encode(),
    ],
)
def test_a_client_that_makes_no_sense(google: Google, content: bytes) -> None:
    """What is no OAuth client is a matter of configuration: which secret and what it has to hold, not what it holds."""
    google.manager.put(CLIENT, content)
    sentence = refused(google, ClientInvalid)
    assert CLIENT in sentence
    assert "client_id, client_secret and token_uri" in sentence
    assert "not-told" not in sentence + google.text.getvalue()


@pytest.fixture
def impatient(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    """google-auth asks the token endpoint again by itself; it waits on the virtual clock."""
    monkeypatch.setattr(_exponential_backoff, "time", SimpleNamespace(sleep=google.clock.sleep))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("status", [429, 500, 503])
def test_the_token_endpoint_is_away(google: Google, status: int) -> None:
    """That Google's tokens are not to be had passes: it is for another try, and no consent is gone."""
    google.oauth.failing = status
    assert "No token for ada@example.com at the moment" in refused(google, GmailUnavailable)
    google.oauth.failing = 0
    assert google.open().profile().email_address == ADA


@pytest.mark.parametrize("garbled", [b"", b"<html>", b"[]", b"{}"])
def test_the_token_endpoint_answers_nonsense(google: Google, garbled: bytes) -> None:
    """So is an answer that is none."""
    google.oauth.garbled = garbled
    refused(google, GmailUnavailable)


def test_the_token_endpoint_cannot_be_reached(google: Google) -> None:
    """So is no answer at all."""
    client = google.oauth.client(google.tokens)
    client["installed"]["token_uri"] = "http://127.0.0.1:9/token"
    google.manager.put(CLIENT, json.dumps(client).encode())
    refused(google, GmailUnavailable)


@pytest.mark.parametrize("status", [429, 500, 503, 401])
def test_secret_manager_is_away(google: Google, status: int) -> None:
    """A failure that passes is tried again: at once for a little while, and by Pub/Sub after that."""
    google.manager.failing = status
    assert "Secret Manager did not answer" in refused(google, GmailUnavailable)
    assert not GmailUnavailable.acknowledge
    assert google.clock.slept


def test_secret_manager_comes_back(google: Google) -> None:
    """A call waits for Secret Manager and is answered then."""
    google.manager.failing = 503
    sleep = google.clock.sleep

    def wait(seconds: float) -> None:
        google.manager.failing = 0
        sleep(seconds)

    google.clock.sleep = wait  # type: ignore[method-assign]
    assert isinstance(google.open().messages(["1", "2"], None)["1"], Gone)
    assert google.open().profile().email_address == ADA


def test_secret_manager_answers_nonsense(google: Google) -> None:
    """An answer that cannot be read is a failure that passes, and is not told."""
    google.manager.garbled = True
    assert "ParseError" in refused(google, GmailUnavailable)
    assert "refresh" not in google.text.getvalue().replace("Refreshing", "")


def test_a_machine_without_credentials(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secret Manager is looked for when a mailbox is opened, not before; without own credentials that is said."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    google.secrets_host = None
    assert "Application Default Credentials" in refused(google, CredentialsMissing)


def test_half_a_configuration() -> None:
    """Consents that are kept nowhere, or for nothing, are refused in a sentence."""
    with pytest.raises(ValueError, match="GMAIL_TOKEN_PREFIX"):
        consents.SecretConsents(CLIENT, "")
    with pytest.raises(ValueError, match="GMAIL_OAUTH_CLIENT"):
        consents.SecretConsents("", PREFIX)
    with pytest.raises(ValueError, match="GMAIL_SCOPES"):
        credentials.for_mailbox("oauth", "", [], consents.SecretConsents(CLIENT, PREFIX))
    with pytest.raises(ValueError, match="GMAIL_AUTH=oauth"):
        credentials.for_mailbox("oauth", "", ["scope"])


def test_the_settings_lead_to_the_secrets(google: Google, tmp_path: Path) -> None:
    """GMAIL_AUTH=oauth opens mailboxes by the secrets that the environment names, and forgets them there."""
    assert google.secrets_host is not None
    environment = {
        "GOOGLE_CLOUD_PROJECT": "p",
        "GMAIL_TOPIC": "projects/p/topics/t",
        "WORK_TOPIC": "projects/p/topics/w",
        "GMAIL_AUTH": "oauth",
        "GMAIL_OAUTH_CLIENT": CLIENT,
        "GMAIL_TOKEN_PREFIX": PREFIX,
        "GMAIL_API_ROOT": google.gmail,
        "SECRET_MANAGER_EMULATOR_HOST": google.secrets_host,
        "MAILMIRROR_STORE": f"sqlite:{tmp_path}/mirror.db",
    }
    app = from_settings(Settings.from_env(environment))
    assert google.manager.read == []
    assert app.accounts.open(ADA, None).profile().email_address == ADA
    assert google.manager.read == [CLIENT, ADAS]
    assert app.accounts.forget(ADA) == 1
    assert ADAS not in google.manager.secrets
    assert google.oauth.grants == {}
    assert isinstance(app.store, SqliteStore)
    app.store.close()


def test_only_consents_import_secret_manager() -> None:
    """Its client takes a while to import, which a function that delegates does not spend."""
    script = (
        "import sys; from mailmirror.adapters import consents, credentials;"
        "credentials.for_mailbox('delegation', 'a@p.iam.gserviceaccount.com', ['scope']);"
        "sys.exit('google.cloud.secretmanager_v1' in sys.modules)"
    )
    functions = Path(credentials.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", script], cwd=functions, check=False, timeout=60).returncode == 0


def test_a_mailbox_waits_for_consent_and_goes_on(google: Google, capsys: pytest.CaptureFixture[str]) -> None:
    """A mailbox whose consent is gone says so and keeps its cursor; with a new consent it catches up in the same
    process. Nothing secret is logged meanwhile.
    """
    configure_logs("DEBUG")
    store = SqliteStore(":memory:")
    accounts = google.accounts()
    app = App(
        accounts=accounts,
        store=store,
        blobs=None,
        publisher=Outbox(),
        clock=google.clock,
        prices=PRICES["2026"],
        new_owner=lambda: "worker",
        pace=Pace(),
        step=timedelta(seconds=480),
        new_run_id=lambda: "run",
    )
    kept = google.manager.secrets.pop(ADAS)
    with pytest.raises(AccessRevoked):
        app.connect(ADA, None)
    google.manager.secrets[ADAS] = kept
    app.connect(ADA, None)
    work = push({"mailbox": ADA, "task": "sync"})
    assert app.push(app.run_work, work) == 204
    cursor = app.mailbox(ADA).cursor

    google.ada.deliver(mail("New"))
    held: Any = accounts.credentials(ADA)
    held.token = None
    destroy(google)
    google.clock.advance(4_000)
    assert app.push(app.run_work, work) == 204
    waiting = app.mailbox(ADA)
    assert (waiting.phase, waiting.cursor) == ("reauth_required", cursor)
    assert waiting.problem is not None
    assert waiting.problem.code == "ConsentMissing"
    assert "`make consent`" in waiting.problem.message

    google.manager.put(ADAS, google.oauth.grant(ADA, READONLY_SCOPE))
    app.trigger_sync(ADA, "incremental", 50)
    mended = app.mailbox(ADA)
    assert (mended.phase, mended.problem) == ("live", None)
    assert mended.cursor > cursor
    told = capsys.readouterr().out
    assert ADA in told
    assert not [secret for secret in google.oauth.secrets() if secret in told]
    store.close()
