"""Consents in Secret Manager: the OAuth client, and for each mailbox what its user's consent is worth, a refresh token.

Knows: which secret holds what, and what each refusal means. Does not know: where a refresh token comes from (`oauth`)
or what it gives (`credentials`). Nothing read is kept or told.

That a secret exists, or what is `latest`, takes minutes and rarely hours to be known everywhere; only a version's
number is read at once (https://docs.cloud.google.com/secret-manager/regional-secrets/reference/consistency). So numbers
of versions added here are kept, and nothing older is read; other processes try again (`mailboxes`).
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import requests
from google.api_core.exceptions import BadRequest, Conflict, Forbidden, GoogleAPICallError, NotFound, RetryError
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.protobuf import json_format

from mailmirror.consent import OAuthClient
from mailmirror.errors import ClientInvalid, ConsentMissing, CredentialsMissing, GmailRejected, GmailUnavailable
from mailmirror.model import MailboxId

if TYPE_CHECKING:
    from google.cloud.secretmanager_v1 import AccessSecretVersionResponse, SecretManagerServiceClient

Value = TypeVar("Value")

_TRY_SECONDS = 5.0
# Seconds after which what was just made is asked for again.
_SETTLING = (0.5, 1.0, 2.0, 4.0)
# 400 FAILED_PRECONDITION: the latest version is disabled or destroyed; no earlier one is given
# (https://github.com/google-github-actions/get-secretmanager-secrets/issues/268).
_UNREADABLE = (BadRequest, Forbidden, NotFound)
_UNANSWERED = (GoogleAPICallError, RetryError, GoogleAuthError, requests.RequestException, json_format.Error)
_ADDRESS = "https://accounts.google.com/o/oauth2/auth"


class SecretConsents:
    """The consents of a deployment."""

    def __init__(
        self,
        oauth_client: str,
        token_prefix: str,
        host: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Ask nothing yet; `oauth_client` is projects/…/secrets/…. Raises `ValueError`: a name is missing."""
        if not (oauth_client and token_prefix):
            raise ValueError("GMAIL_AUTH=oauth needs GMAIL_OAUTH_CLIENT and GMAIL_TOKEN_PREFIX: where the secrets are.")
        self._oauth_client = oauth_client
        self._token_prefix = token_prefix
        self._host = host
        self._sleep = sleep
        self._made = cache(secret_manager)
        self._added: dict[str, int] = {}

    def client(self) -> OAuthClient:
        """Return the latest version: a renewed client counts at once."""
        secret = self._oauth_client
        try:
            content = self._version(secret).payload.data
        except _UNREADABLE as error:
            raise ClientInvalid(
                f"The OAuth client cannot be read: Secret Manager answered {error.code} for the latest version of "
                f"{secret}. GMAIL_OAUTH_CLIENT must name the secret that holds it, and the functions need "
                "roles/secretmanager.secretAccessor on it."
            ) from None
        client = oauth_client(_json(content))
        if client is None:
            raise ClientInvalid(
                f"The latest version of {secret} is not an OAuth client as the Cloud console downloads it, JSON with "
                'client_id, client_secret and token_uri in "web" or "installed". Add a version that is.'
            )
        return client

    def refresh_token(self, mailbox: MailboxId) -> str:
        """Return that of the latest version: a renewed consent counts at once."""
        secret = token_secret(self._token_prefix, mailbox)
        try:
            content = self._newest(secret)
        except _UNREADABLE as error:
            raise ConsentMissing(
                f"No consent has been given for {mailbox}, or it cannot be read: Secret Manager answered {error.code} "
                f"for the latest version of {secret}. The functions need roles/secretmanager.secretAccessor on it; "
                "`make consent` asks for consent at a terminal."
            ) from None
        value = _json(content)
        token = value.get("refresh_token") if isinstance(value, dict) else None
        if not (isinstance(token, str) and token):
            raise ConsentMissing(
                f"The consent for {mailbox} cannot be used: the latest version of {secret} holds no refresh token. "
                "`make consent` asks for it at a terminal."
            )
        return token

    def keep(self, mailbox: MailboxId, refresh_token: str) -> None:
        """Add a version, to a new secret if there is none."""
        secret = token_secret(self._token_prefix, mailbox)
        project, _, secret_id = secret.partition("/secrets/")
        version = {"parent": secret, "payload": {"data": json.dumps({"refresh_token": refresh_token}).encode()}}
        failed = f"The consent of {mailbox} was given but could not be kept"

        def write(manager: "SecretManagerServiceClient") -> None:
            def add() -> int:
                return _number(manager.add_secret_version(request=version, timeout=_TRY_SECONDS).name)

            try:
                self._added[secret] = add()
            except NotFound:
                create(manager)
                try:
                    self._added[secret] = self._settled(add)
                except NotFound:
                    raise GmailUnavailable(f"{failed}: Secret Manager does not know {secret} yet.") from None

        def create(manager: "SecretManagerServiceClient") -> None:
            new = {"parent": project, "secret_id": secret_id, "secret": {"replication": {"automatic": {}}}}
            try:
                manager.create_secret(request=new, timeout=_TRY_SECONDS)
            except Conflict as error:
                if _status(error) != "ALREADY_EXISTS":
                    raise
            except BadRequest as error:
                # Automatic replication needs resource locations with `global`, and takes no customer's key here
                # (https://cloud.google.com/secret-manager/docs/choosing-replication).
                raise GmailRejected(
                    f"{failed}: Secret Manager answered 400 when {secret} was to be made. Most likely an organization "
                    f"policy does not let {project} have secrets with automatic replication "
                    "(constraints/gcp.resourceLocations without global locations) or without a key of your own "
                    "(constraints/gcp.restrictNonCmekServices): let an administrator of the organization exempt the "
                    f"project, or make that secret by hand, without a version: gcloud secrets create {secret_id} "
                    f"--project={project.removeprefix('projects/')} --replication-policy=user-managed "
                    f"--locations=LOCATION. ({_status(error) or 'no reason given'}.)"
                ) from None

        self._change(
            write,
            failed,
            f"{secret}. To keep consents takes secretmanager.secrets.create in {project} and "
            "secretmanager.versions.add on that secret, with secretmanager.googleapis.com enabled.",
        )

    def forget(self, mailbox: MailboxId) -> int:
        """Delete the secret with all its versions."""
        secret = token_secret(self._token_prefix, mailbox)

        def delete(manager: "SecretManagerServiceClient") -> int:
            def once() -> int:
                manager.delete_secret(name=secret, timeout=_TRY_SECONDS)
                return 1

            try:
                # What was added here is there.
                gone = self._settled(once) if secret in self._added else once()
            except NotFound:
                gone = 0
            self._added.pop(secret, None)
            return gone

        return self._change(
            delete,
            f"The consent of {mailbox} could not be deleted",
            f"{secret}. It takes secretmanager.secrets.delete on that secret.",
        )

    def _newest(self, secret: str) -> bytes:
        """The newest content, also while Secret Manager shows an older version, or none."""
        added = self._added.get(secret, 0)
        try:
            latest = self._version(secret)
        except _UNREADABLE:
            if not added:
                raise
            return self._version(secret, str(added)).payload.data
        if _number(latest.name) >= added:
            return latest.payload.data
        try:
            return self._version(secret, str(added)).payload.data
        except NotFound:
            # Deleted by somebody since, and made anew.
            return latest.payload.data

    def _version(self, secret: str, version: str = "latest") -> "AccessSecretVersionResponse":
        """Asked once: who calls Gmail tries again."""
        manager = self._manager()
        name = f"{secret}/versions/{version}"
        try:
            return manager.access_secret_version(name=name, retry=None, timeout=_TRY_SECONDS)
        except _UNREADABLE:
            raise
        except _UNANSWERED as error:
            raise GmailUnavailable(f"Secret Manager did not answer for {secret} ({type(error).__name__}).") from None

    def _settled(self, change: Callable[[], Value]) -> Value:
        """Change a secret just made."""
        for delay in _SETTLING:
            try:
                return change()
            except NotFound:
                self._sleep(delay)
        return change()

    def _change(self, change: Callable[["SecretManagerServiceClient"], Value], failed: str, needed: str) -> Value:
        try:
            return change(self._manager())
        except _UNREADABLE as error:
            raise GmailRejected(f"{failed}: Secret Manager answered {error.code} for {needed}") from None
        except _UNANSWERED as error:
            raise GmailUnavailable(f"{failed}: Secret Manager did not answer ({type(error).__name__}).") from None

    def _manager(self) -> "SecretManagerServiceClient":
        try:
            return self._made(self._host)
        except DefaultCredentialsError as error:
            raise CredentialsMissing(f"There are no Application Default Credentials: {error}") from None


def token_secret(prefix: str, mailbox: MailboxId) -> str:
    """Return the full name of a mailbox's secret. With a hash: an address may not fit an id.

    `prefix`: projects/…/secrets/… and the beginning of the id.
    """
    return prefix + hashlib.sha256(mailbox.encode()).hexdigest()[:40]


def oauth_client(value: object) -> OAuthClient | None:
    """Return the client in the Cloud console's download, read as JSON; None if it is none."""
    for kind in ("web", "installed"):
        given = value.get(kind) if isinstance(value, Mapping) else None
        if isinstance(given, Mapping):
            fields = {"auth_uri": _ADDRESS, "redirect_uris": [], **given}
            texts = [fields.get(name) for name in ("client_id", "client_secret", "auth_uri", "token_uri")]
            addresses = fields["redirect_uris"]
            if not all(isinstance(text, str) and text for text in texts) or not isinstance(addresses, list):
                return None
            client_id, secret, auth_uri, token_uri = map(str, texts)
            return OAuthClient(kind, client_id, secret, auth_uri, token_uri, tuple(map(str, addresses)))
    return None


def secret_manager(host: str | None = None) -> "SecretManagerServiceClient":
    """Return a client over REST, with the machine's own credentials. Raises `DefaultCredentialsError`.

    `host`: `host:port` of a stand-in on this machine; None for Google's.
    """
    # Here: only a process that reads a secret pays the time.
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient  # noqa: PLC0415
    from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (  # noqa: PLC0415
        SecretManagerServiceRestTransport,
    )

    # DEBUG logs all that requests and answers hold.
    logging.getLogger("google.cloud.secretmanager_v1").setLevel(logging.INFO)
    if host is None:
        return SecretManagerServiceClient(transport="rest")
    transport = SecretManagerServiceRestTransport(host=host, url_scheme="http", credentials=AnonymousCredentials())
    # Not through the machine's proxy.
    transport._session.trust_env = False  # noqa: SLF001 -- the transport offers no other way
    return SecretManagerServiceClient(transport=transport)


def _number(name: str) -> int:
    number = name.rpartition("/")[2]
    return int(number) if number.isdecimal() else 0


def _status(error: GoogleAPICallError) -> str:
    """Google's canonical code, or empty: over REST a class has several."""
    try:
        return str(error.response.json()["error"]["status"])
    except (AttributeError, LookupError, TypeError, ValueError):
        return ""


def _json(content: bytes) -> Any:
    """JSON, or None: an exception would carry the content."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
