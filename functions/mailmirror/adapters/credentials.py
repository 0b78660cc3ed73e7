"""Credentials for mailboxes, without keys.

Knows: domain-wide delegation (the functions' service account signs as the delegated one, which acts as a user), and
users' consent (a refresh token is worth an access token). Does not know: Gmail, or where consents are kept. Nothing is
read before a mailbox is opened. Client and refresh token are never kept, but read for each access token, hourly or when
Gmail refuses one: what was given last counts.
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
    """Return what makes credentials for a mailbox. Raises `ValueError`: what `auth` needs is missing.

    `auth`: `none` is for the fake Gmail. `delegate`: the service account that the administrator granted `scopes`.
    """
    if auth == "none":
        # It knows callers by their address.
        return lambda _: None
    if not scopes:
        raise ValueError(f"GMAIL_AUTH={auth} needs GMAIL_SCOPES: what was granted.")
    if auth == "delegation":
        if not delegate:
            raise ValueError("GMAIL_AUTH=delegation needs GMAIL_DELEGATE: the service account to impersonate.")
        return _delegated(delegate, scopes)
    if consents is None:
        raise ValueError("GMAIL_AUTH=oauth needs what users consented to.")
    return _consented(consents, scopes)


class _Delegated(impersonated_credentials.Credentials):
    def refresh(self, request: Any) -> None:
        with _readable(self._subject):
            super().refresh(request)  # type: ignore[no-untyped-call]


@contextmanager
def _readable(mailbox: MailboxId) -> Iterator[None]:
    """Raise `GmailUnavailable` for an answer that is none: google-auth does not look."""
    try:
        yield
    except GoogleAuthError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise GmailUnavailable(f"No token for {mailbox} at the moment ({type(error).__name__}).") from None


def _delegated(delegate: str, scopes: Sequence[str]) -> Callable[[MailboxId], Credentials]:
    # The functions' own; each mailbox has a copy.
    own = cache(lambda: google.auth.default(scopes=[_CLOUD_PLATFORM])[0])

    # A token lasts an hour: an invocation costs no signJwt and no token of its own.
    @lru_cache(maxsize=_KEPT)
    def delegated(mailbox: MailboxId) -> Credentials:
        # Scopes are final: `with_scopes` loses the subject, and acts as the service account
        # (https://github.com/googleapis/google-cloud-python/issues/18428).
        credentials: Any = _Delegated(  # type: ignore[no-untyped-call]
            source_credentials=own(), target_principal=delegate, target_scopes=list(scopes), subject=mailbox
        )
        return credentials  # type: ignore[no-any-return]

    return delegated


def _consented(consents: Consents, scopes: Sequence[str]) -> Callable[[MailboxId], Credentials]:
    # Only the access token is kept.
    @lru_cache(maxsize=_KEPT)
    def consented(mailbox: MailboxId) -> Credentials:
        def token(request: Any, scopes: Sequence[str]) -> tuple[str, datetime]:
            """An access token and its end, without a time zone as google-auth has it."""
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
