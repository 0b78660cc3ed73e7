"""The consent command: a person at a browser, a token that is kept where the functions look, or a reason why not."""

import io
import json
import re
import socket
import threading
from argparse import Namespace
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from mailmirror.adapters.consents import token_secret
from mailmirror.config import READONLY_SCOPE

from local import consent
from local.__main__ import main
from local.gmail.server import create_app as create_gmail
from local.gmail.world import World as GmailWorld
from local.google import oauth, secretmanager
from local.google.server import Served, create_app
from tests import source
from tests.clock import VirtualClock

ADA = "ada@example.com"
BOB = "bob@example.com"
CLIENT_SECRET = "projects/p/secrets/mailmirror-oauth-client"
ADAS = token_secret("projects/p/secrets/mailmirror-token-", ADA)


class Browser(io.StringIO):
    """A terminal whose reader opens each address it shows, and follows wherever it leads."""

    def __init__(self) -> None:
        super().__init__()
        self.visits: list[threading.Thread] = []
        self.pages: list[str] = []

    def write(self, text: str) -> int:
        """Show text."""
        for word in text.split():
            if word.startswith("http"):
                visit = threading.Thread(target=self._open, args=(word,), daemon=True)
                visit.start()
                self.visits.append(visit)
        return super().write(text)

    def _open(self, address: str) -> None:
        self.pages.append(requests.get(address, timeout=10).text)


@dataclass
class Desk:
    """A terminal with a browser, and Google: Secret Manager, OAuth and a Gmail with Ada's and Bob's mailboxes.

    Attributes:
        host: Secret Manager's.
        root: OAuth's.
        gmail: Gmail's.
        shown: what the terminal showed.
    """

    manager: secretmanager.SecretManager
    oauth: oauth.OAuth
    host: str
    root: str
    gmail: str
    shown: str = ""

    def give(self, client: dict[str, Any] | None = None, scopes: str = READONLY_SCOPE) -> str:
        """Ask for Ada's consent, and return the name of the secret it is kept in."""
        browser = Browser()
        try:
            with redirect_stdout(browser):
                return consent.give(
                    client or self.oauth.client(self.root),
                    "p",
                    ADA,
                    scopes.split(),
                    gmail=self.gmail,
                    secrets_host=self.host,
                )
        finally:
            for visit in browser.visits:
                visit.join()
            self.shown = browser.getvalue()

    def refused(self, client: dict[str, Any] | None = None) -> str:
        """Ask for Ada's consent in vain: nothing is kept, and nothing secret told. Return what is said."""
        before = {name: list(versions) for name, versions in self.manager.secrets.items()}
        with pytest.raises(consent.NotGiven) as caught:
            self.give(client)
        assert self.manager.secrets == before
        self.nothing_told(str(caught.value))
        return str(caught.value)

    def nothing_told(self, sentence: str = "") -> None:
        """Neither the terminal nor a sentence showed a token, a code or a client's secret."""
        assert [secret for secret in self.oauth.secrets() if secret in self.shown + sentence] == []


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A desk, with Ada at the browser."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    # The stand-in for the token endpoint speaks plain HTTP.
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    manager, consents, clock = secretmanager.SecretManager(), oauth.OAuth(), VirtualClock()
    world = GmailWorld(clock=clock, sleep=clock.sleep)
    # Gmail may write an address in another case than the mailbox's id.
    for address in ("Ada@Example.com", BOB):
        world.add(address)
    with (
        Served(create_app(secretmanager.blueprint(manager), oauth.blueprint(consents))) as served,
        Served(create_gmail(world, whose=consents.whose)) as gmail,
    ):
        yield Desk(manager, consents, served.host, f"http://{served.host}", f"http://{gmail.host}/")


def test_a_consent_is_asked_for_and_kept(desk: Desk) -> None:
    """The browser is sent to Google for lasting access, with PKCE; the refresh token is kept, and it is Ada's."""
    assert desk.give() == ADAS
    (visit,) = desk.oauth.shown
    asked = ("access_type", "prompt", "login_hint", "scope")
    assert [visit[name] for name in asked] == ["offline", "consent", ADA, READONLY_SCOPE]
    (version,) = desk.manager.secrets[ADAS]
    ((token, grant),) = desk.oauth.grants.items()
    assert json.loads(version.data) == {"refresh_token": token}
    assert grant.user == ADA
    desk.nothing_told()


def test_a_second_consent_is_a_new_version(desk: Desk) -> None:
    """Consent given again is added to the secret that is there, and is its latest version."""
    client = desk.oauth.client(desk.root)
    desk.give(client)
    desk.give(client)
    first, second = (json.loads(version.data)["refresh_token"] for version in desk.manager.secrets[ADAS])
    assert first != second
    assert list(desk.oauth.grants) == [first, second]


@pytest.mark.parametrize("name", ["client-1", "client-2"])
def test_the_client_that_the_functions_use(desk: Desk, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the stored client a consent is kept; with another one nobody is asked, and the consent of before stays."""
    stored = desk.oauth.client(desk.root)
    desk.manager.put(CLIENT_SECRET, json.dumps(stored).encode())
    desk.manager.put(ADAS, desk.oauth.grant(ADA, READONLY_SCOPE))
    given = desk.oauth.client(desk.root, name) if name == "client-2" else stored
    if name == "client-1":
        assert desk.give(given) == ADAS
        assert len(desk.manager.secrets[ADAS]) == 2
    else:
        sentence = desk.refused(given)
        assert "The functions use another OAuth client, client-1" in sentence
        assert desk.oauth.shown == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("readable", ["missing", "denied", "garbled"])
def test_the_functions_client_is_not_known(desk: Desk, readable: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever may add consents need not be allowed to read the client: that it was not compared is said."""
    if readable != "missing":
        desk.manager.put(CLIENT_SECRET, b"GOCSPX-not-told")
    if readable == "denied":
        desk.manager.denied.add(CLIENT_SECRET)
    assert desk.give() == ADAS
    warned = capsys.readouterr().err
    assert "Whether the functions use this OAuth client is not known: " in warned
    assert "GOCSPX" not in warned


def test_the_wrong_account(desk: Desk) -> None:
    """Consent of somebody else is not kept: it would open another mailbox than is asked for."""
    desk.oauth.user = BOB
    sentence = desk.refused()
    assert f"came from {BOB} and not from {ADA}" in sentence
    assert desk.manager.secrets == {}


def test_the_user_says_no(desk: Desk) -> None:
    """A refusal in the browser ends the command with a sentence."""
    desk.oauth.user = ""
    assert "access_denied" in desk.refused()


def test_nobody_is_at_the_browser(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not answer is not waited for without end."""
    monkeypatch.setattr(consent, "PATIENCE_SECONDS", 0.1)
    with redirect_stdout(io.StringIO()), pytest.raises(consent.NotGiven, match="Nobody answered"):
        consent.give(desk.oauth.client(desk.root), "p", ADA, [READONLY_SCOPE], secrets_host=desk.host)


def test_only_a_part_is_allowed(desk: Desk) -> None:
    """Who ticks off some of the access has not given consent to what the functions ask for."""
    desk.oauth.scopes = "https://www.googleapis.com/auth/gmail.labels"
    assert "Other access was given" in desk.refused()


def test_no_refresh_token(desk: Desk) -> None:
    """Access that ends in an hour is of no use."""
    desk.oauth.gives_refresh_tokens = False
    assert "no refresh token" in desk.refused()


def test_a_client_whose_secret_was_changed(desk: Desk) -> None:
    """A file that is older than the client's secret is refused by Google, and that is said."""
    old = desk.oauth.client(desk.root)
    desk.oauth.client(desk.root)
    assert "invalid_client" in desk.refused(old)


def test_gmail_does_not_answer(desk: Desk) -> None:
    """Whose consent it is has to be known before it is kept."""
    desk.gmail = f"{desk.root}/"
    assert "nothing was kept" in desk.refused()


def test_secret_manager_does_not_keep_it(desk: Desk) -> None:
    """Who may not write secrets is told which role it takes."""
    desk.manager.denied.add(ADAS)
    sentence = desk.refused()
    assert f"answered 403 for {ADAS}" in sentence
    assert "roles/secretmanager.admin" in sentence


def test_nobody_is_logged_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials to keep it with, the user is not even asked."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    desk.host = ""
    with pytest.raises(consent.NotGiven, match="gcloud auth application-default login"):
        consent.give(desk.oauth.client(desk.root), "p", ADA, [READONLY_SCOPE])
    assert desk.oauth.shown == []


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_web_client(desk: Desk, slash: str) -> None:
    """A client of the kind for web servers redirects to the loopback address it is registered with, to the letter."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        back = f"http://localhost:{free.getsockname()[1]}{slash}"
    registered = ["https://example.com/oauth", back]
    assert desk.give(desk.oauth.client(desk.root, kind="web", redirect_uris=registered)) == ADAS
    assert desk.oauth.shown[0]["redirect_uri"] == back


@pytest.mark.parametrize("registered", [[], ["https://example.com/oauth", "http://localhost", "http://localhost:1/x"]])
def test_a_web_client_that_cannot_come_back(desk: Desk, registered: list[str]) -> None:
    """A web client without a loopback address is refused with what to register, before the browser is opened."""
    client = desk.oauth.client(desk.root, kind="web", redirect_uris=registered)
    assert "http://localhost:8765/" in desk.refused(client)
    assert desk.oauth.shown == []


def test_the_command(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command reads the client from its file, asks for read-only access, and says what comes next."""
    file = tmp_path / "client.json"
    file.write_text(json.dumps(desk.oauth.client(desk.root)))
    real = consent.give

    def give(*args: Any) -> str:
        return real(*args, gmail=desk.gmail, secrets_host=desk.host)

    monkeypatch.setattr(consent, "give", give)
    browser = Browser()
    with redirect_stdout(browser):
        code = main(["consent", "--project", "p", "--mailbox", "Ada@example.com", "--client", str(file)])
    assert code == 0
    assert desk.oauth.shown[0]["scope"] == READONLY_SCOPE
    assert list(desk.manager.secrets) == [ADAS]
    assert ADAS in browser.getvalue()
    assert f"PUT /mailboxes/{ADA}" in browser.getvalue()
    desk.shown = browser.getvalue() + capsys.readouterr().err
    desk.nothing_told()


CLIENT = {"client_id": "c", "client_secret": "GOCSPX-s", "auth_uri": "https://a", "token_uri": "https://t"}


@pytest.mark.parametrize(
    ("change", "content", "words"),
    [
        ({"project": ""}, {"installed": CLIENT}, "PROJECT=my-project"),
        ({"project": "projects/p"}, {"installed": CLIENT}, "PROJECT=my-project"),
        ({"mailbox": ""}, {"installed": CLIENT}, "MAILBOX=ada@example.com"),
        ({"mailbox": "ada"}, {"installed": CLIENT}, "such as ada@example.com"),
        ({"client": Path()}, {}, "CLIENT=client.json"),
        ({"client": Path("/nowhere/client.json")}, {}, "/nowhere/client.json cannot be read"),
        ({}, [], "is not an OAuth client"),
        ({}, CLIENT, "is not an OAuth client"),
        ({}, {"installed": {**CLIENT, "client_secret": None}}, "is not an OAuth client"),
        ({}, {"type": "service_account"}, "is not an OAuth client"),
    ],
)
def test_what_cannot_be_used(
    change: dict[str, Any], content: object, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A project, an address or a file that cannot be used is refused with a sentence, and nobody is asked."""
    file = tmp_path / "client.json"
    file.write_text(json.dumps(content))
    options = {"project": "p", "mailbox": ADA, "client": file, "scopes": None} | change
    assert consent.run(Namespace(**options)) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert words in shown.err
    assert "GOCSPX" not in shown.err


def test_a_consent_is_kept_where_a_deployment_looks() -> None:
    """The ids of the secrets begin as terraform/ tells the functions, and lets them read."""
    told = re.search(r'^  token_prefix += "(.+)"$', (source.ROOT / "terraform/functions.tf").read_text(), re.MULTILINE)
    assert told is not None
    assert told[1] == consent.TOKEN_PREFIX
