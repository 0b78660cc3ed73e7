"""Google's OAuth 2.0 as an application sees it: the address a browser is sent to, and the token endpoint.

Knows: clients, the authorization code flow with PKCE over a loopback redirection, refresh tokens bound to the client
they were given to, and the ways to refuse. An access token is the address of its user, which is how the fake Gmail
knows its callers.
"""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import flask


class Refused(Exception):
    """An answer in OAuth's error model."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error


@dataclass(frozen=True)
class Grant:
    """What a user allowed an application."""

    client: str
    user: str
    scopes: frozenset[str]


@dataclass
class OAuth:
    """Clients and what users allowed them.

    Attributes:
        clients: the secret of each client.
        grants: by refresh token.
        user: who sits at the browser; an empty one says no.
        scopes: what that user allows; None allows what is asked.
        gives_refresh_tokens: Google gives none when the user had consented before and is not asked again.
        shown: the parameters of each visit of the browser.
        asked: the parameters of each request for a token.
        seconds: how long an access token lasts.
    """

    clients: dict[str, str] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    user: str = ""
    scopes: str | None = None
    gives_refresh_tokens: bool = True
    shown: list[dict[str, str]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    seconds: int = 3_599
    _codes: dict[str, tuple[Grant, dict[str, str]]] = field(default_factory=dict)

    def client(self, root: str, name: str = "client-1", kind: str = "installed", **more: Any) -> dict[str, Any]:
        """Register a client, or give it another secret, and return it as the Cloud console downloads it."""
        self.clients[name] = f"GOCSPX-secret-{len(self.clients)}-of-{name}"
        fields = {
            "client_id": name,
            "client_secret": self.clients[name],
            "auth_uri": f"{root}/auth",
            "token_uri": f"{root}/token",
        }
        return {kind: fields | more}

    def grant(self, user: str, scopes: str, client: str = "client-1") -> bytes:
        """Let a user allow something, and return what Mailmirror keeps of it."""
        token = self._grant(Grant(client, user, frozenset(scopes.split())))
        return json.dumps({"refresh_token": token}).encode()

    def revoke(self) -> None:
        """All users take everything back."""
        self.grants.clear()

    def secrets(self) -> set[str]:
        """Everything that must not be told: the secrets of clients, codes, and refresh tokens."""
        told = {
            asked[name] for asked in self.asked for name in ("refresh_token", "client_secret", "code") if name in asked
        }
        return told | set(self.clients.values()) | set(self.grants)

    def authorize(self, query: dict[str, str]) -> str:
        """What the user answers, as the address the browser is sent back to."""
        self.shown.append(query)
        back = query["redirect_uri"]
        assert urlsplit(back).hostname in {"127.0.0.1", "localhost"}
        assert query["client_id"] in self.clients
        assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
        if not self.user:
            return f"{back}?{urlencode({'error': 'access_denied', 'state': query['state']})}"
        scopes = query["scope"] if self.scopes is None else self.scopes
        code = f"4/code-{len(self._codes)}"
        self._codes[code] = (Grant(query["client_id"], self.user, frozenset(scopes.split())), query)
        return f"{back}?{urlencode({'code': code, 'state': query['state'], 'scope': scopes})}"

    def token(self, form: dict[str, str]) -> dict[str, object]:
        """What the token endpoint answers."""
        self.asked.append(form)
        if self.clients.get(form["client_id"]) != form["client_secret"]:
            raise Refused("invalid_client", "The provided client secret is invalid.")
        if form["grant_type"] == "authorization_code":
            grant = self._redeem(form)
            more = {"refresh_token": self._grant(grant)} if self.gives_refresh_tokens else {}
        else:
            known = self.grants.get(form["refresh_token"])
            if known is None or known.client != form["client_id"]:
                raise Refused("invalid_grant", f"Token {form['refresh_token']} has been expired or revoked.")
            grant, more = known, {}
        if not grant.scopes >= set(form.get("scope", "").split()):
            raise Refused("invalid_scope", "Some requested scopes cannot be granted.")
        return more | {
            "access_token": grant.user,
            "expires_in": self.seconds,
            "token_type": "Bearer",
            "scope": " ".join(sorted(grant.scopes)),
        }

    def _redeem(self, form: dict[str, str]) -> Grant:
        grant, query = self._codes.pop(form["code"], (None, {}))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        if (
            grant is None
            or form["redirect_uri"] != query["redirect_uri"]
            or challenge.decode() != query["code_challenge"]
        ):
            raise Refused("invalid_grant", "Malformed auth code.")
        return grant

    def _grant(self, grant: Grant) -> str:
        token = f"1//refresh-{len(self.grants)}-of-{grant.user.partition('@')[0]}"
        self.grants[token] = grant
        return token


def create_app(oauth: OAuth) -> flask.Flask:
    """The two addresses: `/auth` for browsers, `/token` for applications."""
    app = flask.Flask("tests.oauth")

    @app.errorhandler(Refused)
    def refused(error: Refused) -> tuple[flask.Response, int]:
        return flask.jsonify(error=error.error, error_description=str(error)), 400

    @app.get("/auth")
    def authorize() -> Any:
        return flask.redirect(oauth.authorize(dict(flask.request.args)))

    @app.post("/token")
    def token() -> dict[str, object]:
        form = dict(flask.request.form)
        # A client may show itself in the header or in the form (RFC 6749, 2.3.1).
        shown = flask.request.authorization
        if shown is not None and shown.type == "basic":
            form |= {"client_id": shown.username or "", "client_secret": shown.password or ""}
        return oauth.token(form)

    return app
