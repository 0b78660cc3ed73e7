"""Credentials for mailboxes, without keys.

Knows: domain-wide delegation, in which the functions' service account signs as the delegated one and the delegated one
acts as a user. Does not know: Gmail. Nothing is read from the machine before the first mailbox is opened.
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, Literal

import google.auth
from google.auth import impersonated_credentials
from google.auth.credentials import Credentials

from mailmirror.model import MailboxId

Auth = Literal["delegation", "oauth", "none"]

_KEPT = 1_000
_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


def for_mailbox(auth: Auth, delegate: str, scopes: Sequence[str]) -> Callable[[MailboxId], Credentials | None]:
    """Return what makes credentials for a mailbox.

    Args:
        auth: `delegation`; or `none` for a Gmail that asks for no credentials, the fake one.
        delegate: the service account that an administrator of the domain granted `scopes` to act as its users.
        scopes: what the mailbox is opened for.

    Raises:
        ValueError: a way of authorization that does not exist, or delegation to nobody or for nothing.
    """
    if auth == "none":
        return _nothing
    if auth != "delegation":
        raise ValueError(f"GMAIL_AUTH={auth} is not available in this version; use delegation.")
    if not delegate:
        raise ValueError("GMAIL_AUTH=delegation needs GMAIL_DELEGATE: the service account to impersonate.")
    if not scopes:
        raise ValueError("GMAIL_AUTH=delegation needs GMAIL_SCOPES: what the administrator granted.")

    own = cache(_application_default)

    # A token lasts an hour: kept, so that an invocation costs no signJwt and no token of its own.
    @lru_cache(maxsize=_KEPT)
    def delegated(mailbox: MailboxId) -> Credentials:
        # Scopes are final here: `with_scopes` returns a copy that has lost its subject, and acts as the service account
        # (https://github.com/googleapis/google-cloud-python/issues/18428).
        credentials: Any = impersonated_credentials.Credentials(
            source_credentials=own(), target_principal=delegate, target_scopes=list(scopes), subject=mailbox
        )
        return credentials  # type: ignore[no-any-return]

    return delegated


def _nothing(_mailbox: MailboxId) -> None:
    """No credentials: the fake Gmail knows its callers by their address."""


def _application_default() -> Any:
    """The functions' own credentials; each mailbox works with a copy of them."""
    credentials, _ = google.auth.default(scopes=[_CLOUD_PLATFORM])
    return credentials
