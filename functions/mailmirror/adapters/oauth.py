"""Google's OAuth for web servers: the address a user's browser is sent to, and what the answer is worth.

Knows: the authorization code flow with PKCE as google-auth-oauthlib goes it, the token and the revocation endpoint and
their refusals (https://developers.google.com/identity/protocols/oauth2/web-server). Does not know: whose consent is
asked for or where it is kept. No message holds a code, a token or a client's secret.
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
# RFC 6749, 5.2, and what Google adds: the client is wrong, not the user's answer.
_CLIENT_REFUSED = frozenset(
    {"invalid_client", "unauthorized_client", "deleted_client", "disabled_client", "redirect_uri_mismatch"}
    | {"org_internal", "unsupported_grant_type", "insecure_transport"}
)
_CODE = re.compile(r"[a-z_]{1,60}")


class GoogleOAuth:
    """Google's authorization server, wherever the OAuth client says it is."""

    def address(self, client: OAuthClient, question: Question, scopes: Sequence[str]) -> str:
        """Ask for lasting access, always for consent, and for the account that is meant."""
        flow = _flow(client, question, scopes)
        with closing(flow.oauth2session):
            # `prompt`: without it Google gives a refresh token at the first consent only.
            url, _ = flow.authorization_url(
                state=question.state, access_type="offline", prompt="consent", login_hint=question.mailbox
            )
        return str(url)

    def exchange(self, client: OAuthClient, question: Question, code: str) -> Granted:
        """Ask the token endpoint, once: a code is good for one try."""
        # No scopes: whether what was granted is enough is not for the library to say, which does it with a warning.
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
        """Ask the revocation endpoint, which is beside the token endpoint; a token that is worth nothing is revoked."""
        try:
            answer = requests.post(urljoin(client.token_uri, "revoke"), data={"token": token}, timeout=_TRY_SECONDS)
        except requests.RequestException:
            return False
        # 400: expired or revoked already.
        return answer.status_code in (200, 400)


def _flow(client: OAuthClient, question: Question, scopes: Sequence[str] | None) -> Any:
    # At DEBUG they log what they send and get with all it holds.
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
    """What the library is given to read: it does not look at the status."""
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
