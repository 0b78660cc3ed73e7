"""Google's OAuth for web servers: the address a user's browser is sent to, and what the answer is worth.

Knows: the authorization code flow with PKCE, the token and revocation endpoints and their refusals
(https://developers.google.com/identity/protocols/oauth2/web-server). Does not know: whose consent it is or where it is
kept. No message holds a code, a token or a secret.
"""

import logging
import re
from collections.abc import Sequence
from contextlib import closing
from typing import Any
from urllib.parse import urljoin

import requests
from google_auth_oauthlib.flow import Flow
from oauthlib.oauth2 import OAuth2Error

from mailmirror.consent import Granted, OAuthClient, Question
from mailmirror.errors import ClientInvalid, ConsentNotGiven, GmailUnavailable

_TRY_SECONDS = 10.0
# RFC 6749, 5.2, and Google's: the client is wrong.
_CLIENT_REFUSED = frozenset(
    {"invalid_client", "unauthorized_client", "deleted_client", "disabled_client", "redirect_uri_mismatch"}
    | {"org_internal", "unsupported_grant_type", "insecure_transport"}
)
_CODE = re.compile(r"[a-z_]{1,60}")


class GoogleOAuth:
    """The server that the OAuth client names."""

    def address(self, client: OAuthClient, question: Question, scopes: Sequence[str]) -> str:
        """Ask for lasting access, always for consent, and for this account."""
        flow = _flow(client, question, scopes)
        with closing(flow.oauth2session):
            # Without `prompt` only the first consent gives a refresh token.
            url, _ = flow.authorization_url(
                state=question.state, access_type="offline", prompt="consent", login_hint=question.mailbox
            )
        return str(url)

    def exchange(self, client: OAuthClient, question: Question, code: str) -> Granted:
        """Ask once: a code is good for one try."""
        # No scopes: the library would judge what was granted, with a warning.
        flow = _flow(client, question, None)
        with closing(flow.oauth2session):
            flow.oauth2session.register_compliance_hook("access_token_response", _answered)
            try:
                token = flow.fetch_token(code=code, timeout=_TRY_SECONDS)
            except OAuth2Error as error:
                raise _refused(str(error.error)) from None
            except (requests.RequestException, ValueError, TypeError, AttributeError, LookupError) as error:
                raise GmailUnavailable(f"Google's token endpoint did not answer ({type(error).__name__}).") from None
        return Granted(
            access_token=str(token["access_token"]),
            refresh_token=str(token.get("refresh_token") or ""),
            scopes=frozenset(token.get("scope") or ()),
        )

    def revoke(self, client: OAuthClient, token: str) -> bool:
        """Ask beside the token endpoint; a worthless token counts as revoked."""
        try:
            answer = requests.post(urljoin(client.token_uri, "revoke"), data={"token": token}, timeout=_TRY_SECONDS)
        except requests.RequestException:
            return False
        # 400: expired or revoked.
        return answer.status_code in (200, 400)


def _flow(client: OAuthClient, question: Question, scopes: Sequence[str] | None) -> Any:
    # DEBUG logs all that is sent and got.
    for name in ("google_auth_oauthlib", "oauthlib", "requests_oauthlib"):
        logging.getLogger(name).setLevel(logging.INFO)
    fields = {
        "client_id": client.client_id,
        "client_secret": client.client_secret,
        "auth_uri": client.auth_uri,
        "token_uri": client.token_uri,
    }
    return Flow.from_client_config(
        {client.kind: fields}, scopes, redirect_uri=question.redirect_uri, code_verifier=question.verifier
    )


def _answered(answer: requests.Response) -> requests.Response:
    """The library does not look at the status."""
    if answer.status_code >= 500 or answer.status_code == 429:
        raise GmailUnavailable(f"Google's token endpoint answered {answer.status_code}.")
    return answer


def _refused(error: str) -> Exception:
    if error == "invalid_grant":
        return ConsentNotGiven(
            "Google does not accept this answer any more: the answer to a link counts once, or it came too late. If "
            "this page was only loaded again, the consent may have been kept the first time."
        )
    if error in _CLIENT_REFUSED:
        return ClientInvalid(f"Google refuses the OAuth client ({error}).")
    said = error if _CODE.fullmatch(error) else "no reason given"
    return GmailUnavailable(f"Google's token endpoint gave no token ({said}).")
