"""Credentials for mailboxes, without keys.

Knows: domain-wide delegation, in which the functions' service account signs as the delegated one and the delegated one
acts as a user; and users' own consent, whose refresh tokens are kept in Secret Manager. Does not know: Gmail. Nothing
is read from the machine before the first mailbox is opened, and a client or a refresh token is never kept: the secrets
are read for each access token, once an hour, so that a new version counts from the next one on.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any

import google.auth
import requests
from google.api_core.exceptions import BadRequest, Forbidden, GoogleAPICallError, NotFound
from google.auth import impersonated_credentials
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.exceptions import GoogleAuthError
from google.oauth2.credentials import Credentials as UserCredentials
from google.protobuf import json_format

from mailmirror.config import GmailAuth
from mailmirror.errors import AccessRevoked, GmailRejected, GmailUnavailable
from mailmirror.model import MailboxId

if TYPE_CHECKING:
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient

_TRY_SECONDS = 5.0
_KEPT = 1_000
_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
# Google answers 400 FAILED_PRECONDITION where the latest version is disabled or destroyed, and does not go back to an
# earlier one (https://github.com/google-github-actions/get-secretmanager-secrets/issues/268).
_UNREADABLE = (BadRequest, Forbidden, NotFound)


def for_mailbox(
    auth: GmailAuth,
    delegate: str,
    scopes: Sequence[str],
    *,
    oauth_client: str = "",
    token_prefix: str = "",
    secrets_host: str | None = None,
) -> Callable[[MailboxId], Credentials | None]:
    """Return what makes credentials for a mailbox.

    Args:
        auth: `delegation`; `oauth`; or `none` for a Gmail that asks for no credentials, the fake one.
        delegate: the service account that an administrator of the domain granted `scopes` to act as its users.
        scopes: what the mailbox is opened for.
        oauth_client: projects/…/secrets/…, the secret with the client that users gave their consent to.
        token_prefix: projects/…/secrets/…, what the names of the secrets with their refresh tokens begin with.
        secrets_host: `host:port` of a stand-in for Secret Manager; None for Google's.

    Raises:
        ValueError: delegation to nobody, consents kept nowhere, or either for nothing.
    """
    if auth == "none":
        return _nothing
    if not scopes:
        raise ValueError(f"GMAIL_AUTH={auth} needs GMAIL_SCOPES: what was granted.")
    if auth == "delegation":
        if not delegate:
            raise ValueError("GMAIL_AUTH=delegation needs GMAIL_DELEGATE: the service account to impersonate.")
        return _delegated(delegate, scopes)
    if not (oauth_client and token_prefix):
        raise ValueError("GMAIL_AUTH=oauth needs GMAIL_OAUTH_CLIENT and GMAIL_TOKEN_PREFIX: where the secrets are.")
    return _consented(oauth_client, token_prefix, scopes, secrets_host)


def token_secret(prefix: str, mailbox: MailboxId) -> str:
    """Return the full name of the secret that holds a mailbox's refresh token.

    An address may be longer than a secret's id and hold what an id cannot; part of its hash does neither.

    Args:
        prefix: projects/…/secrets/… and the beginning of the id.
        mailbox: the mailbox's id, its address in lower case.
    """
    return prefix + hashlib.sha256(mailbox.encode()).hexdigest()[:40]


def secret_manager(host: str | None = None) -> "SecretManagerServiceClient":
    """Return a client for Secret Manager over REST, with the machine's own credentials.

    Args:
        host: `host:port` of a stand-in on this machine; None for Google's.

    Raises:
        DefaultCredentialsError: the machine has no credentials.
    """
    # Imported here, because it takes time that only `oauth` has to pay.
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient  # noqa: PLC0415
    from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (  # noqa: PLC0415
        SecretManagerServiceRestTransport,
    )

    # At DEBUG it logs requests and answers with all they hold.
    logging.getLogger("google.cloud.secretmanager_v1").setLevel(logging.INFO)
    if host is None:
        return SecretManagerServiceClient(transport="rest")
    transport = SecretManagerServiceRestTransport(host=host, url_scheme="http", credentials=AnonymousCredentials())
    # What is on this machine is not behind its proxy.
    transport._session.trust_env = False  # noqa: SLF001 -- the transport offers no other way
    return SecretManagerServiceClient(transport=transport)


def _nothing(_mailbox: MailboxId) -> None:
    """No credentials: the fake Gmail knows its callers by their address."""


def _delegated(delegate: str, scopes: Sequence[str]) -> Callable[[MailboxId], Credentials]:
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


def _application_default() -> Any:
    """The functions' own credentials; each mailbox works with a copy of them."""
    credentials, _ = google.auth.default(scopes=[_CLOUD_PLATFORM])
    return credentials


def _consented(
    oauth_client: str, token_prefix: str, scopes: Sequence[str], host: str | None
) -> Callable[[MailboxId], Credentials]:
    manager = cache(partial(secret_manager, host))

    # As above: the access token is kept, and nothing but it.
    @lru_cache(maxsize=_KEPT)
    def consented(mailbox: MailboxId) -> Credentials:
        def token(request: Any, scopes: Sequence[str]) -> tuple[str, datetime]:
            """An access token and when it ends, without a time zone, as google-auth keeps it."""
            client = _client(manager(), oauth_client)
            refresh_token = _refresh_token(manager(), token_secret(token_prefix, mailbox), mailbox)
            fresh: Any = UserCredentials(None, refresh_token=refresh_token, scopes=scopes, **client)
            fresh.refresh(request)
            return fresh.token, fresh.expiry

        credentials: Any = UserCredentials(None, scopes=list(scopes), refresh_handler=token)
        return credentials  # type: ignore[no-any-return]

    return consented


def _client(manager: "SecretManagerServiceClient", secret: str) -> dict[str, str]:
    """The OAuth client: its id, its secret and where its tokens are refreshed.

    Raises:
        GmailRejected: there is none that can be read; somebody has to correct that.
        GmailUnavailable: not at the moment.
    """
    try:
        content = _latest(manager, secret)
    except _UNREADABLE as error:
        raise GmailRejected(
            f"The OAuth client cannot be read: Secret Manager answered {error.code} for the latest version of "
            f"{secret}. GMAIL_OAUTH_CLIENT must name the secret that holds it, and the functions need "
            "roles/secretmanager.secretAccessor on it."
        ) from None
    client = _strings(content, "web", "installed", names=("client_id", "client_secret", "token_uri"))
    if client is None:
        raise GmailRejected(
            f"The latest version of {secret} is not an OAuth client as the Cloud console downloads it, JSON with "
            'client_id, client_secret and token_uri in "web" or "installed". Add a version that is.'
        )
    return client


def _refresh_token(manager: "SecretManagerServiceClient", secret: str, mailbox: MailboxId) -> str:
    """The refresh token of a mailbox's user.

    Raises:
        AccessRevoked: there is none that can be read; consent has to be given.
        GmailUnavailable: not at the moment.
    """
    try:
        content = _latest(manager, secret)
    except _UNREADABLE as error:
        raise AccessRevoked(
            f"No consent has been given for {mailbox}, or it cannot be read: Secret Manager answered {error.code} for "
            f"the latest version of {secret}. Give it with `make consent`; the functions need "
            "roles/secretmanager.secretAccessor on that secret."
        ) from None
    token = _strings(content, names=("refresh_token",))
    if token is None:
        raise AccessRevoked(
            f"The consent for {mailbox} cannot be used: the latest version of {secret} holds no refresh token. Give it "
            "again with `make consent`."
        )
    return token["refresh_token"]


def _latest(manager: "SecretManagerServiceClient", secret: str) -> bytes:
    """The latest version of a secret. Who calls Gmail decides whether to try again, so nothing is tried again here.

    Raises:
        BadRequest, Forbidden, NotFound: there is none, or none for us.
        GmailUnavailable: anything else.
    """
    try:
        version = manager.access_secret_version(name=f"{secret}/versions/latest", retry=None, timeout=_TRY_SECONDS)
    except _UNREADABLE:
        raise
    except (GoogleAPICallError, GoogleAuthError, requests.RequestException, json_format.Error) as error:
        raise GmailUnavailable(f"Secret Manager did not answer for {secret} ({type(error).__name__}).") from None
    return version.payload.data


def _strings(content: bytes, *kinds: str, names: Sequence[str]) -> dict[str, str] | None:
    """The strings of these names in a JSON object, or in the one it holds under a kind; None if one is missing.

    What cannot be parsed is no exception: that would carry the content.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if kinds and isinstance(value, dict):
        value = next((value[kind] for kind in kinds if kind in value), None)
    if not isinstance(value, dict):
        return None
    found = {name: value.get(name) for name in names}
    strings = {name: text for name, text in found.items() if isinstance(text, str) and text}
    return strings if strings.keys() == found.keys() else None
