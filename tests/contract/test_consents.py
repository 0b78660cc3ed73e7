"""Consents over real HTTP: the secrets they are kept in, and what Google's endpoints are told of them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urljoin

import pytest
from mailmirror.adapters.consents import SecretConsents, oauth_client, token_secret
from mailmirror.adapters.oauth import GoogleOAuth
from mailmirror.consent import OAuthClient
from mailmirror.errors import ConsentMissing, CredentialsMissing, GmailError, GmailRejected, GmailUnavailable

from local.google import oauth, secretmanager
from local.google.server import Served, create_app

ADA = "ada@example.com"
BOB = "bob@example.com"
CLIENT = "projects/p/secrets/mailmirror-oauth-client"
PREFIX = "projects/p/secrets/mailmirror-token-"
ADAS = token_secret(PREFIX, ADA)


@dataclass
class Google:
    """Secret Manager and OAuth on one port, and the consents in it."""

    manager: secretmanager.SecretManager
    oauth: oauth.OAuth
    root: str
    consents: SecretConsents
    waited: list[float]

    def elsewhere(self) -> SecretConsents:
        """The consents as another process has them."""
        return SecretConsents(CLIENT, PREFIX, self.root.removeprefix("http://"), self.waited.append)

    def client(self) -> OAuthClient:
        """The client, registered."""
        client = oauth_client(self.oauth.client(self.root))
        assert client is not None
        return client


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """Nobody has consented to anything."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    manager, tokens = secretmanager.SecretManager(), oauth.OAuth()
    with Served(create_app(secretmanager.blueprint(manager), oauth.blueprint(tokens))) as served:
        waited: list[float] = []
        consents = SecretConsents(CLIENT, PREFIX, served.host, waited.append)
        yield Google(manager, tokens, f"http://{served.host}", consents, waited)


def test_what_is_kept_is_read(google: Google) -> None:
    """The first consent makes the secret, later ones add to it, the last one counts, and each mailbox has its own."""
    for token in ("1//first", "1//second"):
        google.consents.keep(ADA, token)
        assert google.consents.refresh_token(ADA) == token
    google.consents.keep(BOB, "1//bobs")
    assert google.consents.refresh_token(ADA) == "1//second"
    assert {name: len(versions) for name, versions in google.manager.secrets.items()} == {
        ADAS: 2,
        token_secret(PREFIX, BOB): 1,
    }


def test_two_consents_at_once(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds that somebody else has just made the secret adds to it."""
    create = google.manager.create

    def create_too_late(name: str, secret: dict[str, object]) -> None:
        create(name, secret)
        google.manager.put(name, b'{"refresh_token": "1//faster"}')
        raise secretmanager.Refused(409, "ALREADY_EXISTS", "It exists.")

    monkeypatch.setattr(google.manager, "create", create_too_late)
    google.consents.keep(ADA, "1//slower")
    assert google.consents.refresh_token(ADA) == "1//slower"
    assert len(google.manager.secrets[ADAS]) == 2


def test_what_is_not_the_latest_version_yet(google: Google) -> None:
    """Who kept a consent reads it at once, by its number; another process reads it when Secret Manager shows it."""
    google.manager.behind[ADAS] = 1
    google.consents.keep(ADA, "1//a")
    assert google.consents.refresh_token(ADA) == "1//a"
    with pytest.raises(ConsentMissing):
        google.elsewhere().refresh_token(ADA)
    google.consents.keep(ADA, "1//b")
    assert google.consents.refresh_token(ADA) == "1//b"
    assert google.elsewhere().refresh_token(ADA) == "1//a"
    del google.manager.behind[ADAS]
    assert google.elsewhere().refresh_token(ADA) == "1//b"


def test_what_was_kept_elsewhere(google: Google) -> None:
    """A consent that another process kept later counts, and so does one in a secret that was made anew since."""
    google.consents.keep(ADA, "1//a")
    google.consents.keep(ADA, "1//b")
    google.elsewhere().keep(ADA, "1//c")
    assert google.consents.refresh_token(ADA) == "1//c"
    google.elsewhere().forget(ADA)
    with pytest.raises(ConsentMissing):
        google.consents.refresh_token(ADA)
    google.elsewhere().keep(ADA, "1//d")
    assert google.consents.refresh_token(ADA) == "1//d"


def test_a_secret_that_is_not_known_yet(google: Google) -> None:
    """Right after it was made a secret may be said not to be there: it is tried again, for a little while."""
    google.manager.unknown = 3
    google.consents.keep(ADA, "1//a")
    assert google.consents.refresh_token(ADA) == "1//a"
    assert len(google.waited) == 3
    google.manager._unknown[ADAS] = 2
    google.manager.failing = 503
    with pytest.raises(GmailUnavailable):
        google.consents.forget(ADA)
    google.manager.failing = 0
    assert google.consents.forget(ADA) == 1
    assert google.manager.secrets == {}


def test_a_secret_that_is_not_known_for_long(google: Google) -> None:
    """That passes: nothing is wrong with anybody's rights, and the next try finds it."""
    google.manager.unknown = 99
    with pytest.raises(GmailUnavailable, match=f"does not know {ADAS} yet") as caught:
        google.consents.keep(ADA, "1//a")
    assert type(caught.value) is GmailUnavailable
    assert 0 < sum(google.waited) < 20
    google.manager._unknown.clear()
    google.consents.keep(ADA, "1//b")
    assert google.consents.refresh_token(ADA) == "1//b"


def refuse_to_create(google: Google, monkeypatch: pytest.MonkeyPatch, code: int, status: str) -> None:
    """Let Secret Manager make no secret."""

    def create(name: str, secret: dict[str, object]) -> None:
        raise secretmanager.Refused(code, status, "No 1//secret.")

    monkeypatch.setattr(google.manager, "create", create)


def test_two_changes_at_once(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conflict that is not that the secret exists passes too."""
    refuse_to_create(google, monkeypatch, 409, "ABORTED")
    with pytest.raises(GmailUnavailable, match="did not answer"):
        google.consents.keep(ADA, "1//a")


def test_an_organization_policy(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where secrets may not be everywhere, or not without a key, which policies say so and the way out is told."""
    refuse_to_create(google, monkeypatch, 400, "FAILED_PRECONDITION")
    with pytest.raises(GmailRejected) as caught:
        google.consents.keep(ADA, "1//a")
    sentence = str(caught.value)
    assert "organization policy" in sentence
    assert "constraints/gcp.resourceLocations" in sentence
    assert "constraints/gcp.restrictNonCmekServices" in sentence
    assert f"gcloud secrets create {ADAS.removeprefix('projects/p/secrets/')} --project=p --replication" in sentence
    assert "1//" not in sentence
    # The way out: a secret made by hand gets its versions.
    google.manager.secrets[ADAS] = []
    google.consents.keep(ADA, "1//a")
    assert google.consents.refresh_token(ADA) == "1//a"


def test_what_is_forgotten(google: Google) -> None:
    """The secret goes with all its versions, once; the others stay."""
    google.consents.keep(ADA, "1//a")
    google.consents.keep(ADA, "1//b")
    google.consents.keep(BOB, "1//c")
    assert google.consents.forget(ADA) == 1
    assert google.consents.forget(ADA) == 0
    assert list(google.manager.secrets) == [token_secret(PREFIX, BOB)]
    with pytest.raises(ConsentMissing):
        google.consents.refresh_token(ADA)


def test_a_consent_after_the_end(google: Google) -> None:
    """A mailbox that was deleted may be connected anew."""
    google.consents.keep(ADA, "1//a")
    google.consents.forget(ADA)
    google.consents.keep(ADA, "1//b")
    assert google.consents.refresh_token(ADA) == "1//b"


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (403, GmailRejected, "answered 403"),
        (400, GmailRejected, "answered 400"),
        (429, GmailUnavailable, "did not answer"),
        (500, GmailUnavailable, "did not answer"),
        (503, GmailUnavailable, "did not answer"),
    ],
)
def test_what_cannot_be_changed(google: Google, status: int, error: type[GmailError], words: str) -> None:
    """Who may not keep or delete is told what it takes; what passes is for another try. No token is told."""
    google.consents.keep(ADA, "1//a")
    google.manager.failing = status
    changes: list[tuple[str, str, Callable[[], object]]] = [
        ("was given but could not be kept", "versions.add", lambda: google.consents.keep(ADA, "1//b")),
        ("could not be deleted", "secrets.delete", lambda: google.consents.forget(ADA)),
    ]
    for failed, permission, change in changes:
        with pytest.raises(error) as caught:
            change()
        assert type(caught.value) is error
        assert str(caught.value).startswith(f"The consent of {ADA} {failed}: ")
        assert words in str(caught.value)
        assert (f"secretmanager.{permission}" in str(caught.value)) == (error is GmailRejected)
        assert "1//" not in str(caught.value)
    google.manager.failing = 0
    assert google.consents.refresh_token(ADA) == "1//a"


def test_a_project_in_which_nothing_can_be_made(google: Google) -> None:
    """Who may not make secrets is told so at the first consent of a mailbox."""
    google.manager.closed = True
    with pytest.raises(GmailRejected, match=r"secretmanager\.secrets\.create in projects/p "):
        google.consents.keep(ADA, "1//a")
    assert google.manager.secrets == {}


def test_a_machine_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secret Manager is looked for at the first use, and that nobody is logged in has a name."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    consents = SecretConsents(CLIENT, PREFIX)
    for use in (consents.client, lambda: consents.keep(ADA, "1//a"), lambda: consents.forget(ADA)):
        with pytest.raises(CredentialsMissing, match="Application Default Credentials"):
            use()


@pytest.mark.parametrize("kind", ["web", "installed"])
def test_a_client_as_it_is_downloaded(google: Google, kind: str) -> None:
    """Either kind is read with all that a question needs."""
    client = google.oauth.client(google.root, kind=kind, redirect_uris=["https://a/oauth/callback"])
    google.manager.put(CLIENT, json.dumps(client).encode())
    assert google.consents.client() == OAuthClient(
        kind,
        "client-1",
        google.oauth.clients["client-1"],
        f"{google.root}/auth",
        f"{google.root}/token",
        ("https://a/oauth/callback",),
    )


@pytest.mark.parametrize(
    "token_uri", ["https://oauth2.googleapis.com/token", "https://accounts.google.com/o/oauth2/token"]
)
def test_where_tokens_are_revoked(token_uri: str) -> None:
    """Google documents one endpoint, and clients downloaded long ago name another one's neighbour."""
    assert urljoin(token_uri, "revoke") == token_uri.removesuffix("token") + "revoke"


@pytest.mark.parametrize("which", ["refresh", "access"])
def test_revoking(google: Google, which: str) -> None:
    """To revoke one token takes back all that its user allowed the client, and nothing of others."""
    client = google.client()
    adas, bobs = (json.loads(google.oauth.grant(user, "s"))["refresh_token"] for user in (ADA, BOB))
    google.oauth.grant(ADA, "s")
    token = adas if which == "refresh" else google.oauth.give(google.oauth.grants[adas])
    assert GoogleOAuth().revoke(client, token)
    assert list(google.oauth.grants) == [bobs]
    # What is revoked already is no failure.
    assert GoogleOAuth().revoke(client, token)


@pytest.mark.parametrize("status", [500, 503])
def test_revoking_in_vain(google: Google, status: int) -> None:
    """That Google did not confirm is said, and nothing raised."""
    client = google.client()
    google.oauth.failing = status
    assert not GoogleOAuth().revoke(client, "1//a")
    gone = OAuthClient("web", "c", "s", "http://127.0.0.1:9/auth", "http://127.0.0.1:9/token")
    assert not GoogleOAuth().revoke(gone, "1//a")
