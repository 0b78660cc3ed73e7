"""Consent in a browser, from the link to the mailbox that is mirrored: the real application over Google's fakes."""

import base64
import hashlib
import io
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from flask import Request, Response
from mailmirror import api, wiring
from mailmirror.adapters.consents import token_secret
from mailmirror.adapters.sqlite import SqliteStore
from mailmirror.app import App
from mailmirror.config import READONLY_SCOPE, Settings
from mailmirror.consent import QUESTION_LIFE
from mailmirror.errors import StoreUnavailable
from mailmirror.model import Mailbox, Watch
from mailmirror.web_consent import page
from mailmirror.wiring import from_settings
from werkzeug.test import EnvironBuilder

from local.gmail.server import create_app as create_gmail
from local.gmail.world import World as GmailWorld
from local.google import oauth, secretmanager
from local.google.server import Served, create_app
from tests.clock import VirtualClock
from tests.test_credentials import logged
from tests.world import Outbox, mail, push

ADA = "ada@example.com"
BOB = "bob@example.com"
CLIENT = "projects/p/secrets/mailmirror-oauth-client"
PREFIX = "projects/p/secrets/mailmirror-token-"
ADAS = token_secret(PREFIX, ADA)
HERE = "https://manage-1.run.app"
BACK = f"{HERE}/oauth/callback"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as a browser sees it."""

    status: int
    text: str
    headers: Mapping[str, str]


@dataclass
class Web:
    """A deployment without mailboxes, the Google around it, and a person with a browser.

    Attributes:
        root: where OAuth is.
        host: where Secret Manager is.
        gmail: where Gmail is.
        text: what any library logs, from DEBUG on, and what Mailmirror does.
        pages: every answer to a browser.
    """

    manager: secretmanager.SecretManager
    oauth: oauth.OAuth
    world: GmailWorld
    clock: VirtualClock
    host: str
    root: str
    gmail: str
    file: Path
    text: io.StringIO = field(default_factory=io.StringIO)
    outbox: Outbox = field(default_factory=Outbox)
    pages: list[str] = field(default_factory=list)
    app: App = field(init=False)

    def __post_init__(self) -> None:
        """Register the client and start."""
        self.register()
        self.app = self.start()

    def start(self, **more: str) -> App:
        """A new instance of the functions."""
        environment = {
            "GOOGLE_CLOUD_PROJECT": "p",
            "GMAIL_TOPIC": "projects/p/topics/t",
            "WORK_TOPIC": "projects/p/topics/w",
            "GMAIL_AUTH": "oauth",
            "GMAIL_OAUTH_CLIENT": CLIENT,
            "GMAIL_TOKEN_PREFIX": PREFIX,
            "GMAIL_API_ROOT": self.gmail,
            "SECRET_MANAGER_EMULATOR_HOST": self.host,
            "MAILMIRROR_STORE": f"sqlite:{self.file}",
        }
        app = from_settings(Settings.from_env(environment | more))
        app.publisher = self.outbox
        return app

    def register(self, kind: str = "web", redirect_uris: tuple[str, ...] = (BACK,)) -> None:
        """Register the client anew, with another secret, and store it."""
        client = self.oauth.client(self.root, kind=kind, redirect_uris=list(redirect_uris))
        self.manager.put(CLIENT, json.dumps(client).encode())

    def ask(self, handle: Callable[[App, Request], Response], address: str, method: str = "GET") -> Answer:
        """Open an address."""
        parts = urlsplit(address)
        builder = EnvironBuilder(
            method=method, path=parts.path, query_string=parts.query, base_url=f"http://{parts.netloc}"
        )
        response = handle(self.app, Request(builder.get_environ()))
        self.pages.append(response.get_data(as_text=True))
        return Answer(response.status_code, self.pages[-1], dict(response.headers))

    def connect(self, mailbox: str = ADA, here: str = HERE) -> Answer:
        """An administrator asks for the link for a mailbox."""
        return self.ask(api.manage_mailboxes, f"{here}/connect?{urlencode({'mailbox': mailbox})}")

    def link(self, mailbox: str = ADA) -> str:
        """The link."""
        answer = self.connect(mailbox)
        assert answer.status == 302, answer.text
        return answer.headers["Location"]

    def answer(self, link: str) -> str:
        """The user opens a link and answers; the address that Google sends the browser back to."""
        # Not through a library that logs: what the browser asks is none of Mailmirror's.
        return self.oauth.authorize(dict(parse_qsl(urlsplit(link).query)))

    def back(self, address: str) -> Answer:
        """The browser goes where it was sent."""
        return self.ask(api.oauth_callback, address)

    def consent(self, mailbox: str = ADA) -> Answer:
        """All of it."""
        return self.back(self.answer(self.link(mailbox)))

    def delete(self, mailbox: str = ADA) -> Answer:
        """An administrator deletes a mailbox."""
        return self.ask(api.manage_mailboxes, f"{HERE}/mailboxes/{mailbox}", "DELETE")

    def told(self, event: str) -> int:
        """How often an event was logged."""
        return sum(line.split(" ", 1)[0] == event for line in self.text.getvalue().splitlines())

    def kept(self) -> dict[str, list[str]]:
        """The refresh tokens in Secret Manager, by secret."""
        secrets = {name: versions for name, versions in self.manager.secrets.items() if name != CLIENT}
        return {
            name: [json.loads(version.data)["refresh_token"] for version in versions]
            for name, versions in secrets.items()
        }

    def sync(self, mailbox: str = ADA) -> int:
        """Push a work message."""
        return self.app.push(self.app.run_work, push({"mailbox": mailbox, "task": "sync"}))


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Web]:
    """Ada and Bob have mailboxes. At the end no page and no log has told a secret, and no log a state."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    # The stand-in for the token endpoint speaks plain HTTP.
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    manager, consents, clock = secretmanager.SecretManager(), oauth.OAuth(), VirtualClock()
    monkeypatch.setattr(wiring, "SystemClock", lambda: clock)
    world = GmailWorld(clock=clock, sleep=clock.sleep)
    # Gmail may write an address in another case than the mailbox's id.
    for address in ("Ada@Example.com", BOB):
        world.add(address)
    with (
        Served(create_app(secretmanager.blueprint(manager), oauth.blueprint(consents))) as served,
        Served(create_gmail(world, whose=consents.whose)) as gmail,
    ):
        root, api_root = f"http://{served.host}", f"http://{gmail.host}/"
        web = Web(manager, consents, world, clock, served.host, root, api_root, tmp_path / "mirror.db")
        own = logging.getLogger("mailmirror")
        before = own.handlers[:], own.level, own.propagate
        own.handlers[:], own.propagate = [], True
        own.setLevel("DEBUG")
        with logged(web.text):
            yield web
        own.handlers[:], own.level, own.propagate = before
        store = web.app.store
        assert isinstance(store, SqliteStore)
        store.close()
        told = web.text.getvalue()
        assert [secret for secret in consents.secrets() | consents.states() if secret in told] == []
        # The state is in the link, which is for the user.
        assert [secret for secret in consents.secrets() if any(secret in page for page in web.pages)] == []


def test_a_link(web: Web) -> None:
    """Whoever asks is sent on to Google, and is told the same address and until when it is good."""
    answer = web.connect("Ada@example.com")
    assert answer.status == 302
    told = json.loads(answer.text)
    assert told == {
        "url": answer.headers["Location"],
        "expiresAt": (web.clock.now() + QUESTION_LIFE).isoformat(),
    }
    assert (answer.headers["Cache-Control"], answer.headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    assert told["url"].startswith(f"{web.root}/auth?")
    asked = dict(parse_qsl(urlsplit(told["url"]).query))
    state, challenge = asked.pop("state"), asked.pop("code_challenge")
    assert asked == {
        "response_type": "code",
        "client_id": "client-1",
        "redirect_uri": BACK,
        "scope": READONLY_SCOPE,
        "access_type": "offline",
        "prompt": "consent",
        "login_hint": ADA,
        "code_challenge_method": "S256",
    }
    assert len(challenge) == 43
    assert state
    # Two links for one mailbox have nothing in common that could be used twice.
    again = dict(parse_qsl(urlsplit(web.link()).query))
    assert (again["state"], again["code_challenge"]) != (state, challenge)
    assert web.kept() == {}


def test_a_consent_connects_a_mailbox(web: Web) -> None:
    """The user allows it: the refresh token is kept, the mailbox is connected and mirrored, and a page says so."""
    answer = web.consent()
    assert answer.status == 200
    assert f"Mailmirror reads {ADA} from now on." in answer.text
    ((token, grant),) = web.oauth.grants.items()
    assert web.kept() == {ADAS: [token]}
    assert grant.user == ADA
    assert web.outbox.work == [(ADA, "renew")]
    web.world.add(ADA).deliver(mail())
    assert web.sync() == 204
    assert web.app.mailbox(ADA).counts.messages == 1
    # Whose answer it is was shown by what no one but who made the link knows.
    exchanged = web.oauth.asked[0]
    hashed = base64.urlsafe_b64encode(hashlib.sha256(exchanged["code_verifier"].encode()).digest()).rstrip(b"=")
    assert web.oauth.shown[0]["code_challenge"] == hashed.decode()


def test_the_page(web: Web) -> None:
    """It needs nothing but itself, nobody keeps it or frames it, and its address goes nowhere."""
    for answer in (web.consent(), web.back(BACK)):
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        styles = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in styles]
        assert policy == {
            "default-src": "'none'",
            "style-src": " ".join(f"'sha256-{each}'" for each in hashes),
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        assert not re.search(r"<script|<img|<link|<iframe|<form|https?://(?!myaccount\.google\.com)", answer.text)


def test_a_page_is_escaped(web: Web) -> None:
    """Letters that mean something in HTML mean nothing in a page."""
    evil = "\"'<script>&@example.com"
    assert "<script>" not in page(evil, evil)
    web.oauth.user = ""
    answer = web.consent(evil)
    assert "&lt;script&gt;&amp;@example.com" in answer.text
    assert "<script>" not in answer.text


@pytest.mark.parametrize(
    ("host", "back"),
    [
        ("manage-2.run.app", "https://manage-2.run.app/oauth/callback"),
        ("mail.example.com:8443", "https://mail.example.com:8443/oauth/callback"),
        ("localhost:8765", "http://localhost:8765/oauth/callback"),
        ("127.0.0.1:8765", "http://127.0.0.1:8765/oauth/callback"),
        ("[::1]:8765", "http://[::1]:8765/oauth/callback"),
    ],
)
def test_where_answers_come_to(web: Web, host: str, back: str) -> None:
    """Without OAUTH_REDIRECT_URI they come to the server that was asked for the link, which the client has to know."""
    answer = web.connect(here=f"https://{host}")
    assert answer.status == 409
    assert f"has no redirect URI {back}: " in json.loads(answer.text)["error"]["message"]
    web.register(redirect_uris=(BACK, back))
    assert (
        dict(parse_qsl(urlsplit(web.connect(here=f"https://{host}").headers["Location"]).query))["redirect_uri"] == back
    )


def test_one_function_for_both(web: Web) -> None:
    """Who may call manage_mailboxes with a browser needs no other function for the answer."""
    assert web.ask(api.manage_mailboxes, web.answer(web.link())).status == 200
    assert list(web.kept()) == [ADAS]


def test_answers_come_to_a_function_of_their_own(web: Web) -> None:
    """OAUTH_REDIRECT_URI names it, whatever server is asked for the link; the answer is taken wherever it arrives."""
    back = "https://callback-1.run.app/oauth/callback"
    web.register(redirect_uris=(back,))
    web.app = web.start(OAUTH_REDIRECT_URI=back)
    address = web.answer(web.link())
    assert address.startswith(f"{back}?")
    # Behind a proxy a server may be called by another name.
    assert web.back(address.replace(back, "http://10.0.0.1/oauth/callback")).status == 200
    assert list(web.kept()) == [ADAS]


@pytest.mark.parametrize("host", ["a b", "evil.example/x", "evil.example?", "ü.example", "user@evil.example", ""])
def test_a_host_that_is_none(web: Web, host: str) -> None:
    """Nothing is made of a Host header that is no host."""
    builder = EnvironBuilder(path="/connect", query_string={"mailbox": ADA}, environ_overrides={"HTTP_HOST": host})
    response = api.manage_mailboxes(web.app, Request(builder.get_environ()))
    assert response.status_code in (400, 409)
    assert "Location" not in response.headers
    assert host == "" or host not in response.get_data(as_text=True)


@pytest.mark.parametrize("address", ["", "ada", "ada@", "a/b@example.com", "a" * 400 + "@example.com"])
def test_a_link_for_nobody(web: Web, address: str) -> None:
    """What is no address is refused before anything is read."""
    read = len(web.manager.read)
    assert web.connect(address).status == 400
    assert len(web.manager.read) == read


def test_a_client_for_desktops(web: Web) -> None:
    """Google does not send browsers from a desktop client to a server: what kind it has to be is said."""
    web.register("installed")
    answer = web.connect()
    assert answer.status == 409
    message = json.loads(answer.text)["error"]["message"]
    assert "Desktop app" in message
    assert f"type Web application, with the authorized redirect URI {BACK}" in message
    assert "`make consent`" in message


def test_nobody_is_asked_where_nobody_has_to_be(web: Web) -> None:
    """With another GMAIL_AUTH there are no links and no answers."""
    web.app = web.start(GMAIL_AUTH="none")
    assert web.connect().status == 400
    assert web.back(f"{BACK}?state=a.b&code=c").status == 400


# --- Answers that are none.


def changed(address: str, **parameters: str | None) -> str:
    """An address with other parameters; None takes one away."""
    query = dict(parse_qsl(urlsplit(address).query)) | parameters
    return f"{BACK}?{urlencode({name: value for name, value in query.items() if value is not None})}"


def nothing_kept(web: Web, answer: Answer, status: int = 400) -> str:
    """The answer is a page that says why, nothing was kept and nothing connected; return what the page says."""
    assert answer.status == status
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert not re.search(r"Traceback|\.py\b|projects/", answer.text)
    assert web.kept() == {}
    assert web.app.store.mailbox(ADA) is None
    assert web.outbox.work == []
    return answer.text


def test_the_user_says_no(web: Web) -> None:
    """That is said, and how to change one's mind; Google is not asked for anything."""
    web.oauth.user = ""
    text = nothing_kept(web, web.consent())
    assert f"Access to {ADA} was not allowed." in text
    assert "Open the link again" in text
    assert web.oauth.asked == []


def test_the_administrators_say_no(web: Web) -> None:
    """Where the application is not trusted in a domain, what to do there is said."""
    web.oauth.user, web.oauth.refusal = "", "admin_policy_enforced"
    assert "API controls" in nothing_kept(web, web.consent())


@pytest.mark.parametrize("error", ["something_new", "<b>hello</b>", "Ünsinn " * 100])
def test_google_says_no_in_other_words(web: Web, error: str) -> None:
    """A code is repeated, anything else is not."""
    web.oauth.user, web.oauth.refusal = "", error
    text = nothing_kept(web, web.consent())
    assert ("something_new" in text) == (error == "something_new")
    assert "hello" not in text
    assert "nsinn" not in text


def test_no_code(web: Web) -> None:
    """An answer without a code and without an error is none."""
    nothing_kept(web, web.back(changed(web.answer(web.link()), code=None)))
    assert web.oauth.asked == []


def test_a_state_of_another_mailbox(web: Web) -> None:
    """The mailbox in a state cannot be replaced: the signature is that of the old one."""
    address = web.answer(web.link())
    adas, bobs = (dict(parse_qsl(urlsplit(link).query))["state"] for link in (address, web.link(BOB)))
    mixed = f"{bobs.partition('.')[0]}.{adas.partition('.')[2]}"
    assert "does not belong to a link" in nothing_kept(web, web.back(changed(address, state=mixed)))
    assert web.oauth.asked == []


def test_an_answer_to_another_link(web: Web) -> None:
    """A code is worth something only with the link that it answers: somebody else's cannot be slipped in."""
    web.oauth.user = BOB
    stolen = dict(parse_qsl(urlsplit(web.answer(web.link(BOB))).query))["code"]
    web.oauth.user = None
    assert "Google does not accept" in nothing_kept(web, web.back(changed(web.answer(web.link()), code=stolen)))


def test_too_late(web: Web) -> None:
    """A link is good for a day."""
    address = web.answer(web.link())
    web.clock.advance(QUESTION_LIFE.total_seconds())
    assert f"The link for {ADA} was good until" in nothing_kept(web, web.back(address))
    assert web.oauth.asked == []


def test_the_client_was_renewed(web: Web) -> None:
    """Open links end with the secret of the client they were made with."""
    address = web.answer(web.link())
    web.register()
    assert "renewed" in nothing_kept(web, web.back(address))


def test_an_answer_counts_once(web: Web) -> None:
    """Who goes back to the page is told; what was kept the first time stays."""
    address = web.answer(web.link())
    assert web.back(address).status == 200
    kept = web.kept()
    answer = web.back(address)
    assert answer.status == 400
    assert "the answer to a link counts once" in answer.text
    assert "If this page was only loaded again, the consent may have been kept the first time." in answer.text
    assert web.kept() == kept


def test_only_a_part_is_allowed(web: Web) -> None:
    """Who unticks some of the access has not consented; whose it is cannot be known, so that nothing is taken back."""
    web.oauth.scopes = "https://www.googleapis.com/auth/gmail.labels"
    assert "every box has to be ticked" in nothing_kept(web, web.consent())
    assert web.oauth.revoked == []


def test_no_refresh_token(web: Web) -> None:
    """Access that ends in an hour is of no use; how to get another is said."""
    web.oauth.gives_refresh_tokens = False
    assert "myaccount.google.com/connections" in nothing_kept(web, web.consent())


def test_the_wrong_account(web: Web) -> None:
    """Who chooses another account in the browser connects neither that one nor the asked one, and all is taken back."""
    web.oauth.user = BOB
    text = nothing_kept(web, web.consent())
    assert f"The account that was chosen in the browser is not {ADA}" in text
    assert BOB not in text + web.text.getvalue()
    assert web.oauth.grants == web.oauth.access == {}
    assert len(web.oauth.revoked) == 1


def test_the_wrong_account_that_is_mirrored_too(web: Web) -> None:
    """To take back what Bob gave by mistake would take back what he gave before: his own mailbox stays open."""
    assert web.consent(BOB).status == 200
    kept = web.kept()
    web.oauth.user = BOB
    assert web.consent(ADA).status == 400
    assert web.oauth.revoked == []
    assert web.kept() == kept
    web.app = web.start()
    assert web.app.accounts.open(BOB, None).profile().email_address == BOB


def test_a_mailbox_that_is_being_deleted(web: Web) -> None:
    """Nothing is asked of Google for a mailbox that is going."""
    now = web.clock.now()
    going = Mailbox(ADA, created_at=now, watch=Watch(now), next_due_at=now, wanted="purged", phase="purging")
    web.app.store.create_mailbox(going)
    answer = web.consent()
    assert answer.status == 400
    assert f"Mailbox {ADA} is being deleted." in answer.text
    assert web.oauth.asked == []
    assert web.kept() == {}


def test_a_link_from_before_the_end(web: Web) -> None:
    """Who deletes a mailbox ends its open links: only one that is made afterwards connects it anew."""
    link = web.link()
    assert web.back(web.answer(link)).status == 200
    web.clock.advance(1)
    assert web.delete().status == 200
    asked = len(web.oauth.asked)
    answer = web.back(web.answer(link))
    assert answer.status == 400
    assert f"Mailbox {ADA} was deleted after it had been asked for." in answer.text
    assert len(web.oauth.asked) == asked
    assert (web.kept(), web.app.store.mailbox(ADA)) == ({}, None)
    assert web.consent().status == 200
    assert web.app.mailbox(ADA).wanted == "live"


def meanwhile(web: Web, happen: Callable[[], object]) -> None:
    """Let something happen while Gmail is asked whose the access is, right before a consent is kept."""
    assert web.app.consent is not None
    real = web.app.consent.owner

    def owner(token: str) -> str:
        answer = real(token)
        happen()
        return answer

    web.app.consent = replace(web.app.consent, owner=owner)


def test_a_mailbox_that_is_deleted_meanwhile(web: Web) -> None:
    """A deletion that begins and ends while Google is asked leaves no consent behind and no mailbox."""
    web.consent()
    web.sync()
    link = web.link()
    web.clock.advance(1)
    meanwhile(web, web.delete)
    answer = web.back(web.answer(link))
    assert answer.status == 400
    assert f"Mailbox {ADA} was deleted after it had been asked for." in answer.text
    assert (web.kept(), web.app.store.mailbox(ADA)) == ({}, None)
    assert web.oauth.grants == {}
    assert web.told("consent_forgotten") == 1
    assert web.app.store.receipt(ADA) is not None


def test_a_consent_between_the_last_steps_of_a_deletion(web: Web) -> None:
    """A deletion that has deleted the consent of before, and nothing else since, does not leave the new one behind."""
    web.consent()
    web.sync()
    web.clock.advance(1)
    other = web.start()
    last: list[Any] = []

    class Killed(BaseException):
        """The worker's process is killed."""

    def remove(*step: Any) -> None:
        last.append(step)
        raise Killed

    def delete() -> None:
        with pytest.raises(Killed):
            other.delete(ADA, 10)

    other_store: Any = other.store
    real, other_store.remove = other_store.remove, remove
    meanwhile(web, delete)
    answer = web.consent()
    assert answer.status == 400
    assert f"Mailbox {ADA} is being deleted." in answer.text
    assert web.kept() == {}
    real(*last[0])
    assert web.app.store.mailbox(ADA) is None
    other_store.close()


# --- What an administrator has decided.


def test_a_stopped_mailbox(web: Web) -> None:
    """A link does not start what an administrator has stopped: the consent is kept, and who can start it is said."""
    link = web.link()
    web.back(web.answer(link))
    web.sync()
    web.app.stop(ADA, 10)
    web.outbox.work.clear()
    for again in (link, web.link()):
        answer = web.back(web.answer(again))
        assert answer.status == 200
        assert "Consent kept" in answer.text
        assert f"PUT /mailboxes/{ADA} on manage_mailboxes" in answer.text
    assert len(web.kept()[ADAS]) == 3
    assert (web.app.mailbox(ADA).wanted, web.app.mailbox(ADA).phase) == ("stopped", "stopped")
    assert web.outbox.work == []
    web.app.connect(ADA, None)
    assert web.sync() == 204
    assert web.app.mailbox(ADA).phase == "live"


# --- What is nobody's answer.


@pytest.mark.parametrize("status", [429, 500, 503])
def test_google_does_not_answer(web: Web, status: int) -> None:
    """A failure that passes is for another try, and says nothing of how things are set up here."""
    web.oauth.failing = status
    assert "in a few minutes" in nothing_kept(web, web.consent(), 503)
    assert f"token endpoint answered {status}" in web.text.getvalue()


@pytest.mark.parametrize("garbled", [b"", b"<html>", b"[]", b"{}", b'{"error": {}}', b'{"error": "what \\u00fcber"}'])
def test_google_answers_nonsense(web: Web, garbled: bytes) -> None:
    """So is an answer that is none."""
    web.oauth.garbled = garbled
    nothing_kept(web, web.consent(), 503)


def test_google_cannot_be_reached(web: Web) -> None:
    """So is no answer at all."""
    client = web.oauth.client(web.root, kind="web", redirect_uris=[BACK])
    client["web"]["token_uri"] = "http://127.0.0.1:9/token"
    web.manager.put(CLIENT, json.dumps(client).encode())
    nothing_kept(web, web.consent(), 503)


def test_google_does_not_know_the_client(web: Web) -> None:
    """What the user can do nothing about is for whoever sent the link; the log has the reason."""
    address = web.answer(web.link())
    web.oauth.clients["client-1"] = "GOCSPX-another"
    text = nothing_kept(web, web.back(address), 409)
    assert "Tell whoever sent you the link" in text
    assert "invalid_client" in web.text.getvalue()


@pytest.mark.parametrize("failing", [0, 503])
def test_the_consent_cannot_be_kept(web: Web, failing: int) -> None:
    """Neither is a mailbox connected whose token is not kept, nor is a browser told about secrets and roles."""
    address = web.answer(web.link())
    assert web.app.consent is not None

    def owner(_token: str) -> str:
        web.manager.failing = failing
        return ADA

    web.app.consent = replace(web.app.consent, owner=owner)
    web.manager.denied.add(ADAS)
    nothing_kept(web, web.back(address), failing or 409)
    assert ("secretmanager.versions.add" in web.text.getvalue()) == (failing == 0)


def test_nobody_says_whose_it_is(web: Web) -> None:
    """Without knowing whose consent it is, nothing is kept; nor is anything taken back."""
    web.world.faults.add({"users.getProfile": ["403:insufficientPermissions"]})
    nothing_kept(web, web.consent(), 409)
    assert web.oauth.revoked == []


def test_gmail_refuses_the_access_that_was_just_given(web: Web) -> None:
    """A 401 is for another try of the user: there is no other token to ask for, and nobody else has to do anything."""
    web.world.faults.add({"users.getProfile": ["401"] * 9})
    text = nothing_kept(web, web.consent())
    assert "Gmail does not accept the access that was just given" in text
    assert "Open the link again" in text


def test_something_unexpected(web: Web) -> None:
    """A failure without a name is told to a browser without a trace."""
    assert web.app.consent is not None

    def owner(token: str) -> str:
        raise RuntimeError(token)

    web.app.consent = replace(web.app.consent, owner=owner)
    assert "Something unexpected happened." in nothing_kept(web, web.consent(), 503)
    assert "unexpected_failure" in web.text.getvalue()


# --- Again.


def test_consent_given_again(web: Web) -> None:
    """A mailbox whose consent was taken back says so and keeps its cursor; given again it goes on from there, in the
    same process, with the token that was given last.
    """
    ada = web.world.add(ADA)
    ada.deliver(mail("Old"))
    web.consent()
    assert web.sync() == 204
    cursor = web.app.mailbox(ADA).cursor
    runs = web.app.mailbox(ADA).run

    web.oauth.withdraw(ADA)
    ada.deliver(mail("While nobody may look"))
    # A push is acknowledged: nobody but the user can mend it.
    assert web.sync() == 204
    waiting = web.app.mailbox(ADA)
    assert (waiting.phase, waiting.cursor) == ("reauth_required", cursor)
    assert waiting.problem is not None
    assert waiting.problem.code == "ConsentMissing"
    assert "GET /connect?mailbox=" in waiting.problem.action

    web.outbox.work.clear()
    assert web.consent().status == 200
    first, second = web.kept()[ADAS]
    assert list(web.oauth.grants) == [second]
    assert first != second
    assert [mailbox for mailbox, _ in web.outbox.work] == [ADA]
    assert web.sync() == 204
    mended = web.app.mailbox(ADA)
    assert (mended.phase, mended.problem, mended.counts.messages) == ("live", None, 2)
    assert mended.run == runs


def test_consent_given_again_elsewhere(web: Web) -> None:
    """Another process that still has an access token of the old consent goes on with the new one."""
    web.consent()
    elsewhere: Any = web.start()
    gmail = elsewhere.accounts.open(ADA, None)
    gmail.profile()
    web.oauth.withdraw(ADA)
    assert web.consent().status == 200
    ids = [web.world.add(ADA).deliver(mail(f"{number}")) for number in range(2)]
    assert gmail.profile().email_address.lower() == ADA
    assert elsewhere.accounts.open(ADA, None).messages(ids, None).keys() == set(ids)
    elsewhere.store.close()


def test_secret_manager_does_not_show_it_yet(web: Web) -> None:
    """What was just written may take minutes to be read as the latest version: the mailbox is connected without that,
    and synced in the process that wrote it.
    """
    web.manager.behind[ADAS] = 1
    address = web.answer(web.link())
    web.manager.read.clear()
    assert web.back(address).status == 200
    assert web.manager.read == [CLIENT]
    web.world.add(ADA).deliver(mail())
    assert web.sync() == 204
    assert web.app.mailbox(ADA).counts.messages == 1

    web.oauth.withdraw(ADA)
    assert web.sync() == 204
    assert web.app.mailbox(ADA).phase == "reauth_required"
    assert web.consent().status == 200
    assert web.sync() == 204
    assert web.app.mailbox(ADA).phase == "live"


def test_the_wrong_account_that_was_connected_just_now(web: Web) -> None:
    """What Bob gave a moment ago, and cannot be read yet, is not taken back with what he gives by mistake."""
    assert web.consent(BOB).status == 200
    web.app = web.start()
    web.manager.behind[token_secret(PREFIX, BOB)] = 1
    web.oauth.user = BOB
    assert web.consent(ADA).status == 400
    assert web.oauth.revoked == []


def test_a_consent_that_is_kept_and_not_connected(web: Web) -> None:
    """Whoever opens the link again connects the mailbox."""
    link = web.link()
    create: Any = web.app.store.create_mailbox
    store: Any = web.app.store

    def fail(mailbox: Mailbox) -> bool:
        store.create_mailbox = create
        raise StoreUnavailable("Firestore did not answer.")

    store.create_mailbox = fail
    answer = web.back(web.answer(link))
    assert (answer.status, "Open the link again" in answer.text) == (503, True)
    assert len(web.kept()[ADAS]) == 1
    assert web.app.store.mailbox(ADA) is None
    assert web.back(web.answer(link)).status == 200
    assert web.sync() == 204
    assert web.app.mailbox(ADA).phase == "live"


def test_deleting_a_consent_without_a_mailbox(web: Web) -> None:
    """DELETE takes a consent back that has no mailbox, once, and says so; then there is nothing to delete."""
    web.manager.put(ADAS, web.oauth.grant(ADA, READONLY_SCOPE))
    answer = web.delete()
    assert answer.status == 200
    told = json.loads(answer.text)
    assert (told["emailAddress"], told["documents"], told["objects"], told["secrets"]) == (ADA, {}, 0, 1)
    assert (web.kept(), web.oauth.grants) == ({}, {})
    assert web.told("consent_forgotten") == 1
    assert web.delete().status == 404


def test_deleting_a_consent_behind_a_receipt(web: Web) -> None:
    """What was deleted before does not hide a consent that is there now: it is deleted and counted too."""
    web.consent()
    web.sync()
    receipt = json.loads(web.delete().text)
    web.clock.advance(60)
    web.manager.put(ADAS, web.oauth.grant(ADA, READONLY_SCOPE))
    told = json.loads(web.delete().text)
    assert told == receipt | {"secrets": 2, "purgedAt": web.clock.now().isoformat()}
    assert web.kept() == {}
    assert json.loads(web.delete().text) == receipt


def test_a_consent_without_a_mailbox_that_cannot_be_deleted(web: Web) -> None:
    """No receipt of before is shown while nobody knows whether there is a consent."""
    web.consent()
    assert web.delete().status == 200
    web.manager.failing = 503
    assert web.delete().status == 503


def test_a_link_may_be_used_twice(web: Web) -> None:
    """Who says no at first opens the link again; within its day it is the same link."""
    link = web.link()
    web.oauth.user = ""
    assert web.back(web.answer(link)).status == 400
    web.oauth.user = None
    web.clock.advance(timedelta(hours=23).total_seconds())
    assert web.back(web.answer(link)).status == 200
