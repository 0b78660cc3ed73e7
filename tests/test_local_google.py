"""The fakes around Gmail: whom Gmail believes once there are tokens, and what OAuth refuses to a browser."""

from collections.abc import Iterator

import pytest
import requests

from local.gmail.server import create_app as create_gmail
from local.gmail.world import World
from local.google import oauth
from local.google.server import Served, create_app
from local.google.tokens import told_by
from tests.clock import VirtualClock

ADA = "ada@example.com"
BOB = "bob@example.com"
ROBOT = "robot@p.iam.gserviceaccount.com"
BOUNDARY = "parts"


@pytest.fixture
def tokens() -> oauth.OAuth:
    """OAuth without clients."""
    return oauth.OAuth()


@pytest.fixture
def google(tokens: oauth.OAuth) -> Iterator[str]:
    """Where OAuth is."""
    with Served(create_app(oauth.blueprint(tokens))) as served:
        yield f"http://{served.host}"


@pytest.fixture
def gmail(google: str) -> Iterator[str]:
    """A Gmail with Ada's and Bob's mailboxes, which asks OAuth about tokens over HTTP."""
    clock = VirtualClock()
    world = World(clock=clock, sleep=clock.sleep)
    for user in (ADA, BOB):
        world.add(user)
    with Served(create_gmail(world, whose=told_by(google))) as served:
        yield f"http://{served.host}"


def profile(gmail: str, token: str, user_id: str) -> requests.Response:
    """Ask for a profile."""
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{gmail}/gmail/v1/users/{user_id}/profile", headers=headers, timeout=10)


@pytest.mark.parametrize("user_id", ["me", ADA, "Ada@Example.com"])
def test_a_token_opens_its_owners_mailbox(tokens: oauth.OAuth, gmail: str, user_id: str) -> None:
    """By its address or by Gmail's word for whoever calls."""
    token = tokens.give(oauth.Grant("c", ADA, frozenset()))
    answer = profile(gmail, token, user_id)
    assert (answer.status_code, answer.json()["emailAddress"]) == (200, ADA)


@pytest.mark.parametrize(
    ("owner", "status", "words"),
    [
        (BOB, 403, f"Delegation denied for {BOB}"),
        (ROBOT, 400, "Precondition check failed."),
        (None, 401, "Invalid Credentials"),
    ],
)
def test_a_token_opens_nothing_else(
    tokens: oauth.OAuth, gmail: str, owner: str | None, status: int, words: str
) -> None:
    """Neither another mailbox nor, to a service account, any; what is no token is worth nothing, an address neither."""
    token = ADA if owner is None else tokens.give(oauth.Grant("c", owner, frozenset()))
    answer = profile(gmail, token, ADA)
    assert (answer.status_code, answer.json()["error"]["message"]) == (status, words)


def test_a_batch_is_as_good_as_its_token(tokens: oauth.OAuth, gmail: str) -> None:
    """Each part is answered by whom the token of the batch names."""
    part = "Content-Type: application/http\r\nContent-ID: <1>\r\n\r\nGET /gmail/v1/users/{}/profile HTTP/1.1\r\n\r\n"
    body = "".join(f"--{BOUNDARY}\r\n{part.format(user)}\r\n" for user in (ADA, BOB)) + f"--{BOUNDARY}--"
    headers = {
        "Authorization": f"Bearer {tokens.give(oauth.Grant('c', ADA, frozenset()))}",
        "Content-Type": f"multipart/mixed; boundary={BOUNDARY}",
    }
    text = requests.post(f"{gmail}/batch", body, headers=headers, timeout=10).text
    assert [line.split()[1] for line in text.splitlines() if line.startswith("HTTP/1.1")] == ["200", "403"]


def test_a_token_that_was_taken_back(tokens: oauth.OAuth, gmail: str) -> None:
    """Access ends with the consent, at once."""
    token = tokens.give(oauth.Grant("c", ADA, frozenset()))
    tokens.withdraw(BOB)
    assert profile(gmail, token, ADA).status_code == 200
    tokens.withdraw(ADA)
    assert profile(gmail, token, ADA).status_code == 401


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"redirect_uri": "https://a/oauth/callback/"}, "redirect_uri_mismatch"),
        ({"redirect_uri": "http://localhost:1/oauth/callback"}, "redirect_uri_mismatch"),
        ({"client_id": "c-2"}, "invalid_client"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
    ],
    ids=str,
)
def test_what_oauth_asks_nobody(tokens: oauth.OAuth, google: str, change: dict[str, str], error: str) -> None:
    """A browser is sent back only where the client is registered to be, and nobody is asked for a client unknown."""
    tokens.client(google, "c", kind="web", redirect_uris=["https://a/oauth/callback"])
    query = {
        "client_id": "c",
        "redirect_uri": "https://a/oauth/callback",
        "response_type": "code",
        "code_challenge": "x",
        "code_challenge_method": "S256",
        "login_hint": ADA,
        "scope": "s",
        "state": "t",
    }
    asked = requests.get(f"{google}/auth", query, allow_redirects=False, timeout=10)
    assert asked.headers["Location"].startswith("https://a/oauth/callback?code=")
    refused = requests.get(f"{google}/auth", query | change, allow_redirects=False, timeout=10)
    assert (refused.status_code >= 400, refused.json()["error"]) == (True, error)
