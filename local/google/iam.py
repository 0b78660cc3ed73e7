"""A fake of the IAM Credentials API, as far as a service account signs as another one and what that is worth.

Knows: `:signJwt` and `:generateAccessToken` by the discovery document `iamcredentials.v1`, who may act as whom, and
what the token endpoint says to a signed assertion
(https://developers.google.com/identity/protocols/oauth2/service-account): scopes that an administrator of the domain
delegated, for a user of the domain; without `sub` a token of the service account itself. It does not know keys: a
signature is a hash that nobody else can make.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import flask

from local.google import oauth

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_KEY = b"the system-managed key of every service account"
_HEADER = {"alg": "RS256", "kid": "1", "typ": "JWT"}


class Refused(Exception):
    """An answer in Google's error model."""

    def __init__(self, code: int, status: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass
class Iam:
    """Service accounts of one project, and what a domain's administrator delegated to them.

    Attributes:
        whose: whom an access token is good for.
        audience: the token endpoint's own address, which an assertion must name.
        token_creators: who may sign as a service account.
        delegated: scopes of the domain-wide delegation, by service account.
        users: the domain's.
        signed: the claims of each assertion that was signed, with who asked for it.
        failing: a status that everything is answered with; 0 when it works.
    """

    whose: Callable[[str], str | None]
    audience: str = ""
    token_creators: dict[str, set[str]] = field(default_factory=dict)
    delegated: dict[str, set[str]] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)
    signed: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    failing: int = 0

    def caller(self, account: str, access_token: str) -> str:
        """Who calls, if that is somebody who may act as a service account."""
        if self.failing:
            raise Refused(self.failing, "UNAVAILABLE", "The service is currently unavailable.")
        caller = self.whose(access_token)
        if caller is None:
            raise Refused(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if caller not in self.token_creators.get(account, ()):
            raise Refused(403, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.signJwt' denied on resource.")
        return caller

    def sign_jwt(self, account: str, access_token: str, payload: str) -> str:
        """Sign as a service account."""
        caller = self.caller(account, access_token)
        claims = json.loads(payload)
        self.signed.append((caller, claims))
        content = ".".join(_text(json.dumps(part).encode()) for part in (_HEADER, claims))
        return f"{content}.{_text(_signature(content))}"

    def grant(self, form: dict[str, str]) -> oauth.Grant:
        """What an assertion is worth at the token endpoint."""
        content, _, signature = form["assertion"].rpartition(".")
        if not hmac.compare_digest(signature, _text(_signature(content))):
            raise oauth.Refused("invalid_grant", "Invalid JWT Signature.")
        claims = json.loads(_bytes(content.partition(".")[2]))
        if claims["aud"] != self.audience or not 0 < claims["exp"] - claims["iat"] <= 3_600:
            raise oauth.Refused("invalid_grant", "Invalid JWT: it must be a short-lived token for this audience.")
        account, scopes = claims["iss"], frozenset(claims["scope"].split())
        user = claims.get("sub", account)
        if user == account:
            return oauth.Grant(account, account, scopes)
        if not scopes or not self.delegated.get(account, set()) >= scopes:
            message = (
                "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any "
                "of the scopes requested."
            )
            raise oauth.Refused("unauthorized_client", message, 401)
        if user not in self.users:
            raise oauth.Refused("invalid_grant", "Invalid email or User ID")
        return oauth.Grant(account, user, scopes)


def blueprint(iam: Iam, tokens: oauth.OAuth) -> flask.Blueprint:
    """`projects.serviceAccounts.signJwt` and `.generateAccessToken`; `tokens` gives out what an assertion is worth."""
    tokens.others[GRANT_TYPE] = iam.grant
    http = flask.Blueprint("iam", __name__)

    @http.errorhandler(Refused)
    def refused(error: Refused) -> tuple[flask.Response, int]:
        return flask.jsonify(error={"code": error.code, "message": str(error), "status": error.status}), error.code

    @http.post("/v1/projects/-/serviceAccounts/<account>:signJwt")
    def sign_jwt(account: str) -> dict[str, object]:
        signed = iam.sign_jwt(account, _token(), flask.request.get_json(force=True)["payload"])
        return {"keyId": _HEADER["kid"], "signedJwt": signed}

    @http.post("/v1/projects/-/serviceAccounts/<account>:generateAccessToken")
    def generate_access_token(account: str) -> dict[str, object]:
        iam.caller(account, _token())
        scopes = frozenset(flask.request.get_json(force=True)["scope"])
        with tokens.lock:
            token = tokens.give(oauth.Grant(account, account, scopes))
        return {"accessToken": token, "expireTime": "2099-01-01T00:00:00Z"}

    return http


def _token() -> str:
    return flask.request.headers.get("Authorization", "").removeprefix("Bearer ")


def _signature(content: str) -> bytes:
    return hmac.digest(_KEY, content.encode(), hashlib.sha256)


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
