"""A user's consent: the question, the answer that belongs to it, and the end of what was given.

Knows: what a question carries, and which answer is one to it. Does not know: HTTP, Google's endpoints, or where
consents are kept. Between question and answer nothing is stored: the state that Google hands back says whose consent
was asked for and is signed, and its signature as well as what only who asked can show (PKCE) come from the OAuth
client's secret. A renewed client therefore makes every open question worthless.
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

# A question is mailed to the user, who may be asleep.
QUESTION_LIFE = timedelta(hours=24)

_KEY = b"mailmirror web consent, version 1"
# However long: whoever serves this bounds addresses, and a question about a long address has a long state.
_STATE = re.compile(r"(?P<content>[A-Za-z0-9_-]+)\.(?P<signature>[A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """The application as Google knows it.

    Attributes:
        kind: `web` or `installed`, as in the file that the Cloud console gives to download.
        redirect_uris: where Google may send a browser back to.
    """

    kind: str
    client_id: str
    client_secret: str = field(repr=False)
    auth_uri: str
    token_uri: str
    redirect_uris: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """One question to a user.

    Attributes:
        mailbox: whose consent is asked for.
        redirect_uri: where the answer comes to.
        state: what Google hands back with the answer.
        verifier: what shows that the answer is taken by who asked; Google is told its hash before.
        expires_at: no answer counts from then on.
    """

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
    """What an answer was worth; `refresh_token` is empty if Google gave none."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    scopes: frozenset[str]


class Consents(Protocol):
    """Where the OAuth client and the users' refresh tokens are kept."""

    def client(self) -> OAuthClient:
        """Return the client. Raises `ClientInvalid`, `CredentialsMissing`, `GmailUnavailable`."""
        ...

    def refresh_token(self, mailbox: MailboxId) -> str:
        """Return what a user gave last. Raises `ConsentMissing` when there is nothing, `CredentialsMissing`,
        `GmailUnavailable`.
        """
        ...

    def keep(self, mailbox: MailboxId, refresh_token: str) -> None:
        """Keep what a user gave, for the next access token. Raises `GmailRejected`, `GmailUnavailable`."""
        ...

    def forget(self, mailbox: MailboxId) -> int:
        """Delete everything a user ever gave, and return how many secrets that was: 0 or 1. Raises `GmailRejected`,
        `GmailUnavailable`.
        """
        ...


class AuthorizationServer(Protocol):
    """Google's OAuth, as an application sees it."""

    def address(self, client: OAuthClient, question: Question, scopes: Sequence[str]) -> str:
        """Return where a user's browser is sent to answer."""
        ...

    def exchange(self, client: OAuthClient, question: Question, code: str) -> Granted:
        """Return what the code of an answer is worth. Raises `ConsentNotGiven`, `ClientInvalid`, `GmailUnavailable`."""
        ...

    def revoke(self, client: OAuthClient, token: str) -> bool:
        """Take back all that the token's user allowed this client, and return whether Google confirmed it."""
        ...


def ask(client: OAuthClient, mailbox: MailboxId, redirect_uri: str, now: datetime, nonce: str) -> Question:
    """Return a question to a mailbox's user.

    Args:
        client: whom the user is to allow access.
        mailbox: whose consent is asked for.
        redirect_uri: where the answer comes to.
        now: the question is good for `QUESTION_LIFE` from then on.
        nonce: never used before, and not to be guessed.
    """
    expires = (now + QUESTION_LIFE).timestamp()
    # Letters as they are: as escapes they make a state that many a server finds too long.
    content = json.dumps([mailbox, redirect_uri, expires, nonce], separators=(",", ":"), ensure_ascii=False)
    content = _text(content.encode())
    return Question(
        mailbox=mailbox,
        redirect_uri=redirect_uri,
        state=f"{content}.{_text(_signature(client, content))}",
        verifier=_verifier(client, nonce),
        expires_at=datetime.fromtimestamp(expires, UTC),
    )


def asked(consents: Consents, state: str, now: datetime) -> tuple[OAuthClient, Question]:
    """Return the question that an answer belongs to, and the client that asked it.

    Args:
        consents: where the client is; it is not read for what cannot be an answer.
        state: as Google handed it back.
        now: decides whether the answer comes in time.

    Raises:
        ConsentNotGiven: nobody asked that, or too long ago.
        ClientInvalid, CredentialsMissing, GmailUnavailable: as named.
    """
    given = _STATE.fullmatch(state)
    if given is None:
        raise ConsentNotGiven("This is no answer of Google's to a link that was made here.")
    client = consents.client()
    if not hmac.compare_digest(_text(_signature(client, given["content"])), given["signature"]):
        raise ConsentNotGiven(
            "This answer does not belong to a link that was made here: the link was changed on its way, or the OAuth "
            "client has been renewed since."
        )
    mailbox, redirect_uri, expires, nonce = json.loads(_bytes(given["content"]))
    expires_at = datetime.fromtimestamp(expires, UTC)
    if now >= expires_at:
        raise ConsentNotGiven(f"The link for {mailbox} was good until {expires_at:%Y-%m-%d %H:%M} UTC.")
    return client, Question(mailbox, redirect_uri, state, _verifier(client, nonce), expires_at)


def forget(consents: Consents, google: AuthorizationServer, mailbox: MailboxId) -> int:
    """Take back a user's consent at Google, if Google can be reached, and delete what was kept of it.

    Returns:
        How many secrets were deleted: 0 or 1.

    Raises:
        GmailRejected, GmailUnavailable: what was kept could not be deleted.
    """
    revoked = False
    # There may be none that can be read, and one that can be deleted.
    with suppress(ConsentMissing):
        token = consents.refresh_token(mailbox)
        with suppress(GmailError):
            revoked = google.revoke(consents.client(), token)
    forgotten = consents.forget(mailbox)
    if forgotten and not revoked:
        log("consent_not_revoked", mailbox)
    return forgotten


def _key(client: OAuthClient) -> bytes:
    """A key of our own: nothing signed with it is worth anything where the client's secret is used in another way."""
    return hmac.digest(client.client_secret.encode(), _KEY, hashlib.sha256)


def _signature(client: OAuthClient, content: str) -> bytes:
    return hmac.digest(_key(client), b"state " + content.encode(), hashlib.sha256)


def _verifier(client: OAuthClient, nonce: str) -> str:
    """43 characters, as RFC 7636 wants at least."""
    return _text(hmac.digest(_key(client), b"pkce " + nonce.encode(), hashlib.sha256))


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
