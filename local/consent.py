"""A user's consent, asked for at a terminal: what `GMAIL_AUTH=oauth` needs once for each mailbox.

Knows: the authorization flow of an installed application (loopback redirection, PKCE,
https://developers.google.com/identity/protocols/oauth2/native-app), whose mailbox a token opens, and where the
functions look for it. Does not know: the functions' settings. The refresh token of another address than the asked one,
or of another OAuth client than the functions', is not kept: they could do nothing with it, and what it replaces may
work. None is ever shown.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
from google.auth.exceptions import DefaultCredentialsError
from google_auth_oauthlib.flow import InstalledAppFlow, WSGITimeoutError
from mailmirror.adapters.consents import SecretConsents, oauth_client, secret_manager, token_secret
from mailmirror.config import READONLY_SCOPE
from mailmirror.errors import GmailError, InvalidInput
from mailmirror.mailboxes import mailbox_id
from oauthlib.oauth2 import OAuth2Error

# As in terraform/: the id of the secret with the client, and what the ids of those with tokens begin with.
OAUTH_CLIENT = "mailmirror-oauth-client"
TOKEN_PREFIX = "mailmirror-token-"  # noqa: S105 -- the beginning of a name
GMAIL = "https://gmail.googleapis.com/"
PATIENCE_SECONDS = 600
_LOOPBACK = re.compile(r"http://(?P<host>localhost|127\.0\.0\.1):(?P<port>[0-9]+)(?P<slash>/?)")


class NotGiven(Exception):
    """There is no consent, or it was not kept; the message says what to do."""


def run(options: argparse.Namespace) -> int:
    """Ask for the consent the options name, keep it, and return the exit code."""
    try:
        # `make consent` passes what was not said as an empty value.
        if not options.mailbox:
            raise NotGiven("Say whose consent: MAILBOX=ada@example.com.")
        if options.client == Path():
            raise NotGiven("Say where the OAuth client is, as the Cloud console downloads it: CLIENT=client.json.")
        mailbox = mailbox_id(options.mailbox)
        scopes = (options.scopes or READONLY_SCOPE).replace(",", " ").split()
        if not re.fullmatch(r"[^\s/]+", options.project):
            raise NotGiven("Say in which project the functions are deployed: PROJECT=my-project.")
        secret = give(read_client(options.client), options.project, mailbox, scopes)
    except (NotGiven, InvalidInput) as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{mailbox} has given consent; the refresh token is the latest version of {secret}.\n"
        f"Next: connect the mailbox with PUT /mailboxes/{mailbox} on manage_mailboxes. If it is, it goes on by "
        f"itself within the hour, and at once with POST /mailboxes/{mailbox}/sync on trigger_sync."
    )
    return 0


def read_client(file: Path) -> dict[str, Any]:
    """Return the OAuth client in a file as the Cloud console downloads it.

    Raises:
        NotGiven: it is not one.
    """
    try:
        client = json.loads(file.read_text())
    except OSError as error:
        raise NotGiven(f"{file} cannot be read ({error.strerror}): name the JSON file of the OAuth client.") from None
    except ValueError:
        client = None
    if isinstance(client, dict) and oauth_client(client) is not None:
        return client
    raise NotGiven(f"{file} is not an OAuth client: download it as JSON from the Cloud console's credentials page.")


def give(
    client: Mapping[str, Any],
    project: str,
    mailbox: str,
    scopes: Sequence[str],
    *,
    gmail: str = GMAIL,
    secrets_host: str | None = None,
) -> str:
    """Ask the user for consent, see that it is for the mailbox, and keep the refresh token.

    Args:
        client: the OAuth client, as the Cloud console downloads it.
        project: where the token is kept.
        mailbox: the id of the mailbox.
        scopes: what the user is asked for.
        gmail: where Gmail is.
        secrets_host: `host:port` of a stand-in for Secret Manager; None for Google's.

    Returns:
        The full name of the secret whose latest version is the refresh token.

    Raises:
        NotGiven: nothing was kept.
    """
    try:
        secret_manager(secrets_host)
    except DefaultCredentialsError:
        raise NotGiven(
            "Nobody is logged in who could keep the consent: run `gcloud auth application-default login` first."
        ) from None
    secrets = f"projects/{project}/secrets/"
    consents = SecretConsents(secrets + OAUTH_CLIENT, secrets + TOKEN_PREFIX, secrets_host)
    _same_client(client, consents)
    credentials = _ask(client, mailbox, scopes)
    if not credentials.refresh_token:
        raise NotGiven(
            "Google gave no refresh token. Remove the application's access at https://myaccount.google.com/connections "
            "and try again."
        )
    owner = _owner(credentials.token, gmail)
    if owner.lower() != mailbox:
        raise NotGiven(
            f"The consent came from {owner} and not from {mailbox}; nothing was kept. Try again and choose the account "
            f"{mailbox} in the browser."
        )
    try:
        consents.keep(mailbox, credentials.refresh_token)
    except GmailError as error:
        raise NotGiven(f"{error} You have all that with roles/secretmanager.admin; then try again.") from None
    return token_secret(secrets + TOKEN_PREFIX, mailbox)


def _same_client(client: Mapping[str, Any], consents: SecretConsents) -> None:
    """See that the functions use this OAuth client: a refresh token is worth something to its own client alone.

    Raises:
        NotGiven: they use another one. That nobody here can say which is told and no more: whoever may add consents
            need not be allowed to read the client's secret.
    """
    given = oauth_client(client)
    try:
        stored = consents.client()
    except GmailError as error:
        print(
            f"Whether the functions use this OAuth client is not known: {error} With another one they cannot use the "
            "consent, and one given before is lost to them.",
            file=sys.stderr,
        )
        return
    if given is None or given.client_id != stored.client_id:
        raise NotGiven(
            f"The functions use another OAuth client, {stored.client_id}, the latest version of the secret "
            f"{OAUTH_CLIENT}: they could not use this consent, and would lose the one that they may have. Download "
            "that client from the Cloud console; or, if all users are to consent anew, store this one first: gcloud "
            f"secrets versions add {OAUTH_CLIENT} --data-file=client.json."
        )


def _ask(client: Mapping[str, Any], mailbox: str, scopes: Sequence[str]) -> Any:
    """The credentials that the user's consent is worth."""
    flow = InstalledAppFlow.from_client_config(client, list(scopes))
    try:
        return flow.run_local_server(
            **_redirection(client),
            open_browser=False,
            authorization_prompt_message=f"Open this address in a browser on this machine, as {mailbox}:\n\n{{url}}\n",
            success_message="Mailmirror has the consent. You may close this window and go back to the terminal.",
            timeout_seconds=PATIENCE_SECONDS,
            access_type="offline",
            prompt="consent",
            login_hint=mailbox,
        )
    except WSGITimeoutError:
        raise NotGiven(f"Nobody answered in {PATIENCE_SECONDS // 60} minutes. Try again.") from None
    except OAuth2Error as error:
        raise NotGiven(f"Google did not give consent ({error.error}). Try again and allow the access.") from None
    except Warning:
        # oauthlib's way to say that the user ticked off part of it.
        raise NotGiven("Other access was given than was asked for. Try again and allow all of it.") from None
    except (requests.RequestException, OSError) as error:
        raise NotGiven(f"The consent could not be fetched ({type(error).__name__}). Try again.") from None


def _redirection(client: Mapping[str, Any]) -> dict[str, Any]:
    """Where Google sends the browser: to any free port for a desktop client, to a registered one for a web client."""
    if "web" not in client:
        return {"host": "127.0.0.1", "port": 0}
    for address in client["web"].get("redirect_uris", ()):
        if match := _LOOPBACK.fullmatch(address):
            return {
                "host": match["host"],
                "port": int(match["port"]),
                "redirect_uri_trailing_slash": bool(match["slash"]),
            }
    raise NotGiven(
        "A web client can be used here when http://localhost:8765/ is one of its authorized redirect URIs: add it in "
        "the Cloud console and download the client again, or use a client of type Desktop app."
    )


def _owner(token: str, gmail: str) -> str:
    """The address of the mailbox that an access token opens."""
    try:
        answer = requests.get(
            f"{gmail}gmail/v1/users/me/profile", headers={"Authorization": f"Bearer {token}"}, timeout=30
        )
        if answer.status_code == 200:
            return str(answer.json()["emailAddress"])
        said = str(answer.status_code)
    except (requests.RequestException, LookupError, TypeError) as error:
        said = type(error).__name__
    raise NotGiven(
        f"Gmail does not say whose consent this is ({said}); nothing was kept. See that the Gmail API is enabled in "
        "the client's project and that the scopes give access to Gmail, then try again."
    )
