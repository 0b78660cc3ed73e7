"""A fake of Google's OAuth 2.0: the address a browser is sent to, and the endpoints that know tokens.

Knows: clients and where they may send browsers back to, the authorization code flow with PKCE, refresh tokens bound to
the client they were given to, the ways to refuse, and that to revoke one token takes back all that its user allowed the
client (https://github.com/Significant-Gravitas/AutoGPT/pull/10493). Tokens look like Google's and say nothing; `whose`
is for the fake Gmail, and `/tokeninfo` is that over HTTP (Google tells the address only to who asked for that scope).
It does not know: time (codes and tokens do not lapse by themselves), sign-in, and pages to click on: who sits at the
browser answers at once.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import urlencode, urlsplit

import flask

Answer = dict[str, object]


class Refused(Exception):
    """An answer in OAuth's error model."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.status = status


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
        redirects: where a client of the kind for web servers may send browsers back to; the other kind: this machine.
        grants: by refresh token.
        access: by access token.
        user: who sits at the browser; None: who is expected there; an empty one says no.
        refusal: what saying no is called.
        scopes: what that user allows; None allows what is asked.
        gives_refresh_tokens: Google gives none when the user had consented before and is not asked again.
        failing: a status that the token endpoints answer everything with; 0 when they work.
        garbled: what the token endpoint answers with instead of a token; None when it works.
        shown: the parameters of each visit of the browser.
        asked: the parameters of each request for a token.
        revoked: each token that was to be revoked.
        seconds: how long an access token is said to last.
        others: answers to other ways of asking for a token, by `grant_type`.
    """

    clients: dict[str, str] = field(default_factory=dict)
    redirects: dict[str, list[str]] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    access: dict[str, Grant] = field(default_factory=dict)
    user: str | None = None
    refusal: str = "access_denied"
    scopes: str | None = None
    gives_refresh_tokens: bool = True
    failing: int = 0
    garbled: bytes | None = None
    shown: list[dict[str, str]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    seconds: int = 3_599
    others: dict[str, Callable[[dict[str, str]], Grant]] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _codes: dict[str, tuple[Grant, dict[str, str]]] = field(default_factory=dict)
    _rng: Random = field(default_factory=lambda: Random(8))
    _number: Any = field(default_factory=itertools.count)
    lock: Any = field(default_factory=threading.RLock)

    def client(self, root: str, name: str = "client-1", kind: str = "installed", **more: Any) -> dict[str, Any]:
        """Register a client, or give it another secret, and return it as the Cloud console downloads it."""
        self.clients[name] = self._secret("GOCSPX-")
        if kind == "web":
            self.redirects[name] = more.get("redirect_uris", [])
        fields = {
            "client_id": name,
            "client_secret": self.clients[name],
            "auth_uri": f"{root}/auth",
            "token_uri": f"{root}/token",
        }
        return {kind: fields | more}

    def grant(self, user: str, scopes: str, client: str = "client-1") -> bytes:
        """Let a user allow something, and return what Mailmirror keeps of it."""
        return json.dumps(
            {"refresh_token": self._refresh_token(Grant(client, user, frozenset(scopes.split())))}
        ).encode()

    def withdraw(self, user: str | None = None) -> None:
        """A user takes everything back, on the page of the own account; None: all users do."""
        self._drop(lambda grant: user in (None, grant.user))

    def secrets(self) -> set[str]:
        """Everything that must not be told: clients' secrets, codes, verifiers and tokens, past and present."""
        names = ("client_secret", "code", "code_verifier", "refresh_token")
        asked = {form[name] for form in self.asked for name in names if name in form}
        return self._told | asked

    def states(self) -> set[str]:
        """What was handed back with answers, which is in the addresses that users see."""
        return {query["state"] for query in self.shown}

    def whose(self, access_token: str) -> str | None:
        """Whom an access token is good for; None if it is not good."""
        grant = self.access.get(access_token)
        return None if grant is None else grant.user

    def authorize(self, query: dict[str, str]) -> str:
        """What the user answers, as the address the browser is sent back to."""
        self.shown.append(query)
        back, client = query["redirect_uri"], query["client_id"]
        if client not in self.clients:
            raise Refused("invalid_client", "The OAuth client was not found.", 401)
        at_home = urlsplit(back).hostname in {"127.0.0.1", "localhost"}
        if back not in self.redirects[client] if client in self.redirects else not at_home:
            raise Refused("redirect_uri_mismatch", f"The redirect URI {back} is not one of the client's.")
        if (query.get("response_type"), query.get("code_challenge_method")) != ("code", "S256"):
            raise Refused("invalid_request", "The fake knows codes with a challenge alone.")
        user = query.get("login_hint", "") if self.user is None else self.user
        if not user:
            return f"{back}?{urlencode({'error': self.refusal, 'state': query['state']})}"
        scopes = query["scope"] if self.scopes is None else self.scopes
        code = self._secret("4/0A")
        self._codes[code] = (Grant(client, user, frozenset(scopes.split())), query)
        return f"{back}?{urlencode({'code': code, 'state': query['state'], 'scope': scopes})}"

    def token(self, form: dict[str, str]) -> Answer:
        """What the token endpoint answers."""
        self.asked.append(form)
        kind, more = form["grant_type"], {}
        if kind in self.others:
            return self._answer(self.others[kind](form), {})
        if self.clients.get(form["client_id"]) != form["client_secret"]:
            raise Refused("invalid_client", "The provided client secret is invalid.", 401)
        if kind == "authorization_code":
            grant = self._redeem(form)
            if self.gives_refresh_tokens:
                more = {"refresh_token": self._refresh_token(grant)}
        else:
            known = self.grants.get(form["refresh_token"])
            if known is None or known.client != form["client_id"]:
                raise Refused("invalid_grant", f"Token {form['refresh_token']} has been expired or revoked.")
            grant = known
        if not grant.scopes >= set(form.get("scope", "").split()):
            raise Refused("invalid_scope", "Some requested scopes cannot be granted.")
        return self._answer(grant, more)

    def revoke(self, token: str) -> None:
        """Take back all that the token's user allowed its client."""
        self.revoked.append(token)
        known = self.grants.get(token) or self.access.get(token)
        if known is None:
            raise Refused("invalid_token", "Token expired or revoked")
        self._drop(lambda grant: (grant.client, grant.user) == (known.client, known.user))

    def give(self, grant: Grant) -> str:
        """An access token."""
        token = self._secret("ya29.a0")
        self.access[token] = grant
        return token

    def _answer(self, grant: Grant, more: dict[str, str]) -> Answer:
        kind = {"access_token": self.give(grant), "expires_in": self.seconds, "token_type": "Bearer"}
        return kind | more | {"scope": " ".join(sorted(grant.scopes))}

    def _redeem(self, form: dict[str, str]) -> Grant:
        grant, query = self._codes.pop(form["code"], (None, {}))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        if (
            grant is None
            or grant.client != form["client_id"]
            or form["redirect_uri"] != query["redirect_uri"]
            or challenge.decode() != query["code_challenge"]
        ):
            raise Refused("invalid_grant", "Malformed auth code.")
        return grant

    def _refresh_token(self, grant: Grant) -> str:
        token = self._secret("1//0")
        self.grants[token] = grant
        return token

    def _drop(self, gone: Callable[[Grant], bool]) -> None:
        for tokens in (self.grants, self.access):
            for token in [token for token, grant in tokens.items() if gone(grant)]:
                del tokens[token]

    def _secret(self, prefix: str) -> str:
        """Never given twice, and long enough to be found by accident nowhere."""
        digits = f"{self._rng.getrandbits(160):040x}"
        secret = f"{prefix}{next(self._number)}-{digits}"
        self._told.add(secret)
        return secret


def blueprint(oauth: OAuth) -> flask.Blueprint:
    """`/auth` for browsers, `/token` and `/revoke` for applications, `/tokeninfo` for who serves them."""
    http = flask.Blueprint("oauth", __name__)

    @http.errorhandler(Refused)
    def refused(error: Refused) -> tuple[flask.Response, int]:
        return flask.jsonify(error=error.error, error_description=str(error)), error.status

    @http.get("/auth")
    def authorize() -> Any:
        with oauth.lock:
            return flask.redirect(oauth.authorize(dict(flask.request.args)))

    @http.post("/token")
    def token() -> Any:
        form = dict(flask.request.form)
        # A client may show itself in the header or in the form (RFC 6749, 2.3.1).
        shown = flask.request.authorization
        if shown is not None and shown.type == "basic":
            form |= {"client_id": shown.username or "", "client_secret": shown.password or ""}
        with oauth.lock:
            _fail(oauth)
            return oauth.token(form) if oauth.garbled is None else oauth.garbled

    @http.post("/revoke")
    def revoke() -> Answer:
        with oauth.lock:
            _fail(oauth)
            oauth.revoke(flask.request.form["token"])
        return {}

    @http.get("/tokeninfo")
    def tokeninfo() -> Answer:
        with oauth.lock:
            user = oauth.whose(flask.request.args["access_token"])
        if user is None:
            raise Refused("invalid_token", "Invalid Value")
        return {"email": user}

    return http


def _fail(oauth: OAuth) -> None:
    if oauth.failing:
        raise Refused("internal_failure", "The service is currently unavailable.", oauth.failing)
