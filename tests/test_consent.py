"""A question and the answer to it: nothing is stored between them, and nobody else can make either."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror.consent import QUESTION_LIFE, Granted, OAuthClient, Question, ask, asked, forget
from mailmirror.errors import ClientInvalid, ConsentMissing, ConsentNotGiven, GmailUnavailable
from mailmirror.mailboxes import mailbox_id

ADA = "ada@example.com"
BOB = "bob@example.com"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BACK = "https://mail.example.com/oauth/callback"
CLIENT = OAuthClient("web", "c", "GOCSPX-secret", "https://a/auth", "https://a/token", (BACK,))


@dataclass
class Kept:
    """Consents in memory.

    Attributes:
        tokens: by mailbox.
        broken: what reading a token raises.
        client_broken: what reading the client raises.
        read: how often the client was read.
    """

    the_client: OAuthClient = CLIENT
    tokens: dict[str, str] = field(default_factory=dict)
    broken: Exception | None = None
    client_broken: Exception | None = None
    read: int = 0

    def client(self) -> OAuthClient:
        """The client."""
        self.read += 1
        if self.client_broken is not None:
            raise self.client_broken
        return self.the_client

    def refresh_token(self, mailbox: str) -> str:
        """The token."""
        if self.broken is not None:
            raise self.broken
        if mailbox not in self.tokens:
            raise ConsentMissing("There is none.")
        return self.tokens[mailbox]

    def keep(self, mailbox: str, refresh_token: str) -> None:
        """Keep a token."""
        self.tokens[mailbox] = refresh_token

    def forget(self, mailbox: str) -> int:
        """Drop a token, readable or not."""
        return int(self.tokens.pop(mailbox, None) is not None)


@dataclass
class Google:
    """An authorization server that only revokes.

    Attributes:
        reachable: whether it confirms.
        revoked: what it was to revoke.
    """

    reachable: bool = True
    revoked: list[str] = field(default_factory=list)

    def address(self, client: OAuthClient, question: Question, scopes: Sequence[str]) -> str:
        """Nobody is sent here."""
        raise AssertionError

    def exchange(self, client: OAuthClient, question: Question, code: str) -> Granted:
        """Nothing is exchanged here."""
        raise AssertionError

    def revoke(self, client: OAuthClient, token: str) -> bool:
        """Revoke a token."""
        self.revoked.append(token)
        return self.reachable


def question(mailbox: str = ADA, nonce: str = "nonce-1", client: OAuthClient = CLIENT) -> Question:
    """A question of now."""
    return ask(client, mailbox, BACK, NOW, nonce)


def changed(state: str, **parts: object) -> str:
    """A state with other content under the old signature."""
    content, _, signature = state.partition(".")
    names = ("mailbox", "redirect_uri", "expires", "nonce")
    values = dict(zip(names, json.loads(base64.urlsafe_b64decode(content + "==")), strict=True)) | parts
    text = json.dumps([values[name] for name in names], separators=(",", ":")).encode()
    return f"{base64.urlsafe_b64encode(text).rstrip(b'=').decode()}.{signature}"


def test_an_answer_finds_its_question() -> None:
    """Whose consent was asked for, where the answer comes to and what shows who asked: all of it from the state."""
    told = question("Zoë+mail@example.com")
    assert asked(Kept(), told.state, NOW) == (CLIENT, told)


@given(mailbox=st.text(min_size=1, max_size=320), seconds=st.integers(0, 86_399), nonce=st.text(max_size=40))
def test_any_question_comes_back(mailbox: str, seconds: int, nonce: str) -> None:
    """Whatever letters there are in it, at any time of its life."""
    told = ask(CLIENT, mailbox, BACK, NOW, nonce)
    assert asked(Kept(), told.state, NOW + timedelta(seconds=seconds)) == (CLIENT, told)


@pytest.mark.parametrize("letter", ["a", "é", "\U0001f600", '"', "\x01"])
def test_a_question_about_a_long_address(letter: str) -> None:
    """The longest address comes back too, whatever its letters, and wherever answers come to."""
    mailbox = mailbox_id(letter * 308 + "@example.com")
    back = f"https://mail.example.com/{'x' * 2_000}/oauth/callback"
    told = ask(CLIENT, mailbox, back, NOW, "n" * 22)
    assert asked(Kept(), told.state, NOW) == (CLIENT, told)


def test_a_question_about_a_usual_address_is_short() -> None:
    """Many a server takes no address of more than 4,000 characters: letters beyond ASCII are not blown up."""
    assert len(question("\U0001f600" * 308 + "@example.com").state) < 2_000


@given(st.integers(0, 70 * 365 * 86_400), st.integers(0, 999_999))
def test_when_a_question_was_made(seconds: int, microseconds: int) -> None:
    """It comes back with the question, to the microsecond: what happened right before comes before it."""
    now = NOW + timedelta(seconds=seconds, microseconds=microseconds)
    told = ask(CLIENT, ADA, BACK, now, "nonce-1")
    assert told.asked_at == now
    assert asked(Kept(), told.state, now)[1].asked_at == now


def test_what_is_in_a_question_tells_nothing() -> None:
    """Neither the client's secret nor the verifier is in the state; another question has another verifier."""
    told = question()
    content = base64.urlsafe_b64decode(told.state.partition(".")[0] + "==").decode()
    assert CLIENT.client_secret not in content
    assert told.verifier not in content + told.state
    assert question(nonce="nonce-2").verifier != told.verifier
    # RFC 7636, 4.1
    assert 43 <= len(told.verifier) <= 128
    assert told.verifier.replace("-", "").replace("_", "").isalnum()
    assert "GOCSPX" not in repr(CLIENT)
    assert told.state not in repr(told)
    assert told.verifier not in repr(told)


def test_a_link_is_good_for_a_day() -> None:
    """An answer of the last second counts, one of the next does not, and which mailbox it was is said."""
    told = question()
    assert told.expires_at == NOW + QUESTION_LIFE
    last = NOW + QUESTION_LIFE - timedelta(seconds=1)
    assert asked(Kept(), told.state, last) == (CLIENT, told)
    with pytest.raises(ConsentNotGiven, match=rf"The link for {ADA} was good until 2026-11-21 12:00 UTC\."):
        asked(Kept(), told.state, NOW + QUESTION_LIFE)


@pytest.mark.parametrize(
    "change",
    [
        {"mailbox": BOB},
        {"redirect_uri": "https://evil.example/oauth/callback"},
        {"expires": 9_999_999_999},
        {"nonce": "nonce-2"},
    ],
    ids=str,
)
def test_nothing_in_a_question_can_be_changed(change: dict[str, object]) -> None:
    """Another mailbox, another address, a longer life, another verifier: no question of ours."""
    with pytest.raises(ConsentNotGiven, match="the link was changed on its way"):
        asked(Kept(), changed(question().state, **change), NOW)


@given(st.integers(0, 1_000), st.characters(codec="utf-8"))
def test_no_letter_of_a_state_can_be_changed(at: int, letter: str) -> None:
    """One letter is enough."""
    state = question().state
    at %= len(state)
    if letter != state[at]:
        with pytest.raises(ConsentNotGiven):
            asked(Kept(), state[:at] + letter + state[at + 1 :], NOW)


@pytest.mark.parametrize("state", ["", ".", "a.b", "…", "a" * 5_000, "\ud800." + "a" * 43, "A." + "a" * 42])
def test_what_is_no_state(state: str) -> None:
    """What cannot be a state is refused before the client is read: everybody may send it."""
    kept = Kept()
    with pytest.raises(ConsentNotGiven):
        asked(kept, state, NOW)
    assert kept.read == 0


def test_a_renewed_client_ends_open_links() -> None:
    """With another secret there is another key, and old questions are not ours any more."""
    kept = Kept(replace(CLIENT, client_secret="GOCSPX-other"))
    with pytest.raises(ConsentNotGiven, match="renewed"):
        asked(kept, question().state, NOW)


def test_forgetting() -> None:
    """A consent is taken back at Google and deleted here; the second time there is nothing to do."""
    kept, google = Kept(tokens={ADA: "1//a", BOB: "1//b"}), Google()
    assert forget(kept, google, ADA) == 1
    assert forget(kept, google, ADA) == 0
    assert google.revoked == ["1//a"]
    assert kept.tokens == {BOB: "1//b"}


@pytest.mark.parametrize("broken", [ClientInvalid("It makes no sense."), GmailUnavailable("Not now."), None])
def test_forgetting_without_google(broken: Exception | None, caplog: pytest.LogCaptureFixture) -> None:
    """That Google cannot be told keeps nobody from deleting what is here; it is told in the log."""
    caplog.set_level("INFO", "mailmirror")
    kept = Kept(tokens={ADA: "1//a"}, client_broken=broken)
    assert forget(kept, Google(reachable=False), ADA) == 1
    assert kept.tokens == {}
    assert [record.message for record in caplog.records] == ["consent_not_revoked"]


def test_forgetting_what_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    """A secret whose token cannot be read is deleted too; that nothing was revoked is told, if there was a secret."""
    caplog.set_level("INFO", "mailmirror")
    kept = Kept(tokens={ADA: "1//a"}, broken=ConsentMissing("It cannot be read."))
    google = Google()
    assert forget(kept, google, ADA) == 1
    assert google.revoked == []
    assert [record.message for record in caplog.records] == ["consent_not_revoked"]
    assert forget(kept, google, ADA) == 0
    assert len(caplog.records) == 1


def test_forgetting_later() -> None:
    """While the secrets cannot be reached nothing is done: whoever asked comes again."""
    kept = Kept(tokens={ADA: "1//a"}, broken=GmailUnavailable("Secret Manager did not answer."))
    with pytest.raises(GmailUnavailable):
        forget(kept, Google(), ADA)
    assert kept.tokens == {ADA: "1//a"}
