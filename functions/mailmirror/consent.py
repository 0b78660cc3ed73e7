"""A user's consent: the question, the answer that belongs to it, and the end of what was given.

Knows: what a question carries, and which answer is one to it. Does not know: HTTP, Google's endpoints, or where
consents are kept. Between question and answer nothing is stored: the state that Google hands back says whose consent it
is. Its signature and what only who asked can show (PKCE) come from the client's secret: a renewed client ends every
open question.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from mailmirror.errors import ConsentMissing, ConsentNotGiven, GmailError
from mailmirror.log import log
from mailmirror.model import MailboxId

# The mailed user may be asleep.
QUESTION_LIFE = timedelta(hours=24)

_KEY = b"mailmirror web consent, version 1"
# However long: whoever serves this bounds addresses.
_STATE = re.compile(r"(?P<content>[A-Za-z0-9_-]+)\.(?P<signature>[A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """The application as Google knows it; `kind` is `web` or `installed`, as in the Cloud console."""

    kind: str
    client_id: str
    client_secret: str = field(repr=False)
    auth_uri: str
    token_uri: str
    redirect_uris: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """One question to a mailbox's user; `verifier` shows that who asked takes the answer: Google has its hash."""

    mailbox: MailboxId
    redirect_uri: str
    state: str = field(repr=False)
    verifier: str = field(repr=False)
    expires_at: datetime

    @property
    def asked_at(self) -> datetime:
        """When the question was made."""
        return self.expires_at - QUESTION_LIFE


@dataclass(frozen=True, slots=True)
class Granted:
    """What an answer is worth; `refresh_token` may be empty."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    scopes: frozenset[str]


class Consents(Protocol):
    """Where the OAuth client and the users' refresh tokens are kept."""

    def client(self) -> OAuthClient:
        """Raises `ClientInvalid`, `CredentialsMissing`, `GmailUnavailable`."""
        ...

    def refresh_token(self, mailbox: MailboxId) -> str:
        """Return the last. Raises `ConsentMissing`, `CredentialsMissing`, `GmailUnavailable`."""
        ...

    def keep(self, mailbox: MailboxId, refresh_token: str) -> None:
        """Keep what a user gave. Raises `GmailRejected`, `GmailUnavailable`."""
        ...

    def forget(self, mailbox: MailboxId) -> int:
        """Delete all a user gave, return the number of secrets, 0 or 1. Raises `GmailRejected`, `GmailUnavailable`."""
        ...


class AuthorizationServer(Protocol):
    """Google's OAuth, as an application sees it."""

    def address(self, client: OAuthClient, question: Question, scopes: Sequence[str]) -> str:
        """Return where a user's browser is sent to answer."""
        ...

    def exchange(self, client: OAuthClient, question: Question, code: str) -> Granted:
        """Return what a code is worth. Raises `ConsentNotGiven`, `ClientInvalid`, `GmailUnavailable`."""
        ...

    def revoke(self, client: OAuthClient, token: str) -> bool:
        """Take back all that its user allowed this client; whether Google confirmed it."""
        ...


def ask(client: OAuthClient, mailbox: MailboxId, redirect_uri: str, now: datetime, nonce: str) -> Question:
    """Return a question, good for `QUESTION_LIFE`. `nonce` is new and not to be guessed."""
    expires = (now + QUESTION_LIFE).timestamp()
    # Escaped letters make a state too long for many a server.
    content = json.dumps([mailbox, redirect_uri, expires, nonce], separators=(",", ":"), ensure_ascii=False)
    content = _text(content.encode())
    return Question(
        mailbox=mailbox,
        redirect_uri=redirect_uri,
        state=f"{content}.{_signed(client, f'state {content}')}",
        verifier=_signed(client, f"pkce {nonce}"),
        expires_at=datetime.fromtimestamp(expires, UTC),
    )


def asked(consents: Consents, state: str, now: datetime) -> tuple[OAuthClient, Question]:
    """Return the client and question of the `state` handed back; what cannot be one reads no client.

    Raises `ConsentNotGiven`: nobody asked that, or too long ago; and as `Consents.client`.
    """
    given = _STATE.fullmatch(state)
    if given is None:
        raise ConsentNotGiven("This is no answer of Google's to a link that was made here.")
    client = consents.client()
    if not hmac.compare_digest(_signed(client, f"state {given['content']}"), given["signature"]):
        raise ConsentNotGiven(
            "This answer does not belong to a link that was made here: the link was changed on its way, or the OAuth "
            "client has been renewed since."
        )
    mailbox, redirect_uri, expires, nonce = json.loads(base64.urlsafe_b64decode(given["content"] + "=="))
    expires_at = datetime.fromtimestamp(expires, UTC)
    if now >= expires_at:
        raise ConsentNotGiven(f"The link for {mailbox} was good until {expires_at:%Y-%m-%d %H:%M} UTC.")
    return client, Question(mailbox, redirect_uri, state, _signed(client, f"pkce {nonce}"), expires_at)


def forget(consents: Consents, google: AuthorizationServer, mailbox: MailboxId) -> int:
    """Take back a consent at Google, if it can be reached, and delete it; returns and raises as `Consents.forget`."""
    revoked = False
    # One that cannot be read may be deleted.
    with suppress(ConsentMissing):
        token = consents.refresh_token(mailbox)
        with suppress(GmailError):
            revoked = google.revoke(consents.client(), token)
    forgotten = consents.forget(mailbox)
    if forgotten and not revoked:
        log("consent_not_revoked", mailbox)
    return forgotten


def _signed(client: OAuthClient, content: str) -> str:
    """43 characters, RFC 7636's least, by a key of our own: what it signs is worth nothing elsewhere."""
    key = hmac.digest(client.client_secret.encode(), _KEY, hashlib.sha256)
    return _text(hmac.digest(key, content.encode(), hashlib.sha256))


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
