"""Identity tokens: who calls a function, as IAM is told.

Knows: which of Google's credentials have one, whom it is for, and when it ends. Does not know: which function is
called. A token is never shown, logged or kept.

- A service account's key, and the account of a machine at Google: a token for the function's own address
  (https://cloud.google.com/run/docs/authenticating/service-to-service).
- A person, by `gcloud auth application-default login`: the token that comes with each refreshed access token. It is for
  gcloud's own client, which Cloud Run accepts (https://cloud.google.com/run/docs/authenticating/developers), if the
  login was for `openid` too, as it is unless somebody says otherwise. Asked for with narrower scopes, there is none.
- A service account that is impersonated: by IAM's generateIdToken, with `email`, which IAM decides by.
"""

import logging
import time
import warnings
from typing import Any

import google.auth
from google.auth import impersonated_credentials, jwt
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import Request
from google.oauth2 import id_token
from google.oauth2.credentials import Credentials as UserCredentials

from mailmirror_cli.telling import Refused

# Renewed while it is still good: a clock may be wrong, and a request takes its time.
_RESERVE_SECONDS = 300
_LOGIN = "gcloud auth application-default login"
_NONE = (
    "These credentials give no identity token, and Mailmirror's functions ask for one. Sign in with "
    f"{_LOGIN} (without --scopes), or as a service account that may call them: {_LOGIN} "
    "--impersonate-service-account=ACCOUNT."
)


class Identity:
    """The operator's identity towards one function: `identity()` is a token that is good now."""

    def __init__(self, audience: str) -> None:
        self._audience = audience
        self._token = ""
        self._until = 0.0

    def __call__(self) -> str:
        """Return the token.

        Raises:
            Refused: there is none; the sentence says the next step.
        """
        if time.time() >= self._until:
            try:
                token = _fetch(self._audience)
            except TransportError:
                raise Refused("Google cannot be reached to sign in. Try again.", "UNAVAILABLE", 503) from None
            except GoogleAuthError as error:
                raise Refused(f"{_sentence(error)} Sign in: {_LOGIN}.", "UNAUTHENTICATED", 401) from None
            self._until = _end(token) - _RESERVE_SECONDS
            self._token = token
        return self._token


def _end(token: str) -> float:
    try:
        return float(jwt.decode(token, verify=False)["exp"])
    except (GoogleAuthError, ValueError, KeyError, TypeError):
        # Nothing of the error is repeated: it may hold the token.
        raise Refused(_NONE, "UNAUTHENTICATED", 401) from None


def _fetch(audience: str) -> str:
    # It complains of credentials that name no project: none is needed here.
    logging.getLogger("google.auth._default").setLevel(logging.ERROR)
    request = Request()
    with warnings.catch_warnings(action="ignore"):
        credentials, _ = google.auth.default()
        if isinstance(credentials, UserCredentials):
            credentials.refresh(request)
            return str(credentials.id_token or "")
        signer: Any
        if isinstance(credentials, impersonated_credentials.Credentials):
            signer = impersonated_credentials.IDTokenCredentials(credentials, audience, include_email=True)
        elif getattr(credentials, "service_account_email", None):
            signer = id_token.fetch_id_token_credentials(audience, request)
        else:
            return ""
        signer.refresh(request)
    return str(signer.token or "")


def _sentence(error: Exception) -> str:
    """Google's words alone: what google-auth adds to them is the answer itself."""
    said = next(iter(str(error.args[0] if error.args else "").splitlines()), type(error).__name__)
    return f"There are no usable credentials: {said.rstrip('.')}."
