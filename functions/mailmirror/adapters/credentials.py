"""Credentials for mailboxes, without keys.

Knows: domain-wide delegation, in which the functions' service account signs as the delegated one and the delegated one
acts as a user; and users' own consent, in which a refresh token is worth an access token. Does not know: Gmail, or
where consents are kept. Nothing is read from the machine before the first mailbox is opened, and a client or a refresh
token is never kept: they are read for each access token, once an hour or when Gmail refuses the one there is, so that
what was given last counts from the next one on.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

import google.auth
from google.auth import impersonated_credentials
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError
from google.oauth2.credentials import Credentials as UserCredentials

from mailmirror.config import GmailAuth
from mailmirror.consent import Consents
from mailmirror.errors import GmailUnavailable
from mailmirror.model import MailboxId

_KEPT = 1_000
_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


def for_mailbox(
    auth: GmailAuth, delegate: str, scopes: Sequence[str], consents: Consents | None = None
) -> Callable[[MailboxId], Credentials | None]:
    """Return what makes credentials for a mailbox.

    Args:
        auth: `delegation`; `oauth`; or `none` for a Gmail that asks for no credentials, the fake one.
        delegate: the service account that an administrator of the domain granted `scopes` to act as its users.
        scopes: what the mailbox is opened for.
        consents: what users gave.

    Raises:
        ValueError: delegation to nobody, consents from nowhere, or either for nothing.
    """
    if auth == "none":
        return _nothing
    if not scopes:
        raise ValueError(f"GMAIL_AUTH={auth} needs GMAIL_SCOPES: what was granted.")
    if auth == "delegation":
        if not delegate:
            raise ValueError("GMAIL_AUTH=delegation needs GMAIL_DELEGATE: the service account to impersonate.")
        return _delegated(delegate, scopes)
    if consents is None:
        raise ValueError("GMAIL_AUTH=oauth needs what users consented to.")
    return _consented(consents, scopes)


def _nothing(_mailbox: MailboxId) -> None:
    """No credentials: the fake Gmail knows its callers by their address."""


class _Delegated(impersonated_credentials.Credentials):
    def refresh(self, request: Any) -> None:
        with _readable(self._subject):
            super().refresh(request)  # type: ignore[no-untyped-call]


@contextmanager
def _readable(mailbox: MailboxId) -> Iterator[None]:
    """Name what google-auth stumbles over: it reads an answer without looking whether it is one.

    Raises:
        GmailUnavailable: it was none.
    """
    try:
        yield
    except GoogleAuthError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise GmailUnavailable(f"No token for {mailbox} at the moment ({type(error).__name__}).") from None


def _delegated(delegate: str, scopes: Sequence[str]) -> Callable[[MailboxId], Credentials]:
    own = cache(_application_default)

    # A token lasts an hour: kept, so that an invocation costs no signJwt and no token of its own.
    @lru_cache(maxsize=_KEPT)
    def delegated(mailbox: MailboxId) -> Credentials:
        # Scopes are final here: `with_scopes` returns a copy that has lost its subject, and acts as the service account
        # (https://github.com/googleapis/google-cloud-python/issues/18428).
        credentials: Any = _Delegated(  # type: ignore[no-untyped-call]
            source_credentials=own(), target_principal=delegate, target_scopes=list(scopes), subject=mailbox
        )
        return credentials  # type: ignore[no-any-return]

    return delegated


def _application_default() -> Any:
    """The functions' own credentials; each mailbox works with a copy of them."""
    credentials, _ = google.auth.default(scopes=[_CLOUD_PLATFORM])
    return credentials


def _consented(consents: Consents, scopes: Sequence[str]) -> Callable[[MailboxId], Credentials]:
    # As above: the access token is kept, and nothing but it.
    @lru_cache(maxsize=_KEPT)
    def consented(mailbox: MailboxId) -> Credentials:
        def token(request: Any, scopes: Sequence[str]) -> tuple[str, datetime]:
            """An access token and when it ends, without a time zone, as google-auth keeps it."""
            client = consents.client()
            fresh: Any = UserCredentials(
                None,
                refresh_token=consents.refresh_token(mailbox),
                token_uri=client.token_uri,
                client_id=client.client_id,
                client_secret=client.client_secret,
                scopes=scopes,
            )
            with _readable(mailbox):
                fresh.refresh(request)
            return fresh.token, fresh.expiry

        credentials: Any = UserCredentials(None, scopes=list(scopes), refresh_handler=token)
        return credentials  # type: ignore[no-any-return]

    return consented
