"""Google's REST APIs as `mailmirror doctor` asks them: a project as data, served over HTTP.

Knows: resources and policies by their address, listings in pages, Firestore's documents with the queries that are asked
of them, the token endpoint, and Google's error model. Who may ask what is not worked out: an address is in `denied` or
open to the operator. Nothing can be changed here: what is not a question is refused.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import flask

OPERATOR = "ops@example.com"
OPERATOR_TOKEN = "ya29.token-of-the-operator"
REFRESH_TOKEN = "1//refresh-token-of-the-operator"
# The client of `gcloud auth application-default login`.
GCLOUD = "764086051850-6qr4p6gpi6hn506pt8ejuq83di341hur.apps.googleusercontent.com"
SIGN_IN = "sts.googleapis.com/v1/oauthtoken"

Binding = dict[str, Any]


class Refused(Exception):
    """An answer in Google's error model."""

    def __init__(self, code: int, status: str, message: str, **info: Any) -> None:
        super().__init__(message)
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", **info}] if info else []
        self.code = code
        self.body = {"error": {"code": code, "message": message, "status": status, "details": details}}


@dataclass(frozen=True)
class Asked:
    """One request: `address` is the host and the path, `query` the names of its parameters."""

    method: str
    address: str
    body: bytes
    query: tuple[str, ...] = ()


@dataclass
class Cloud:
    """A project at Google.

    Attributes:
        resources: what a GET answers, by address; a list is a listing of several pages.
        services: the state of each API.
        policies: the bindings of each resource, by address.
        documents: Firestore's, by `collection/id`, and when each was written.
        denied: beginnings of addresses that the operator may not ask.
        disabled: hosts of APIs that are not enabled.
        failing: a status for each address that is answered with nothing but that.
        delegated: scopes by client id.
        clients: the client id of each service account.
        users: whose mailbox an address of the domain opens.
        gmail: what Gmail refuses instead of telling the profile.
        token: what the token endpoint refuses, as (error, description).
        openid: whether the operator's login was for `openid` too.
        lasting: how long the operator's identity token is good.
        ahead: by how much the machine that asks is ahead of this one.
        asked: every request.
        charged: whose quota the operator's requests were for.
    """

    resources: dict[str, Any] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    policies: dict[str, list[Binding]] = field(default_factory=dict)
    documents: dict[str, tuple[dict[str, Any], datetime]] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    disabled: set[str] = field(default_factory=set)
    failing: dict[str, int] = field(default_factory=dict)
    delegated: dict[str, set[str]] = field(default_factory=dict)
    clients: dict[str, str] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    gmail: Refused | None = None
    token: tuple[str, str] | None = None
    openid: bool = True
    lasting: timedelta = timedelta(hours=1)
    ahead: timedelta = timedelta()
    asked: list[Asked] = field(default_factory=list)
    charged: set[str | None] = field(default_factory=set)

    def answer(self, asked: Asked) -> Any:
        """What a request that carries the operator's token is answered."""
        host, _, path = asked.address.partition("/")
        if host in self.disabled:
            raise Refused(
                *(403, "PERMISSION_DENIED", f"{host} has not been used in project 123456789012 before."),
                reason="SERVICE_DISABLED",
                metadata={"service": host, "consumer": "projects/123456789012"},
            )
        if any(asked.address.startswith(beginning) for beginning in self.denied):
            raise Refused(403, "PERMISSION_DENIED", f"Permission denied on resource {path}.")
        if asked.address in self.failing:
            raise Refused(self.failing[asked.address], "INTERNAL", "Internal error encountered.")
        resource, _, verb = asked.address.partition(":")
        if asked.address.endswith("/iam") or verb == "getIamPolicy":
            return self._policy(resource.removesuffix("/iam"))
        if verb == "batchGet":
            names = flask.request.args.getlist("names")
            return {"services": [_service(name, self.services) for name in names]}
        if verb in ("generateIdToken", "signJwt"):
            return self._sign(verb, resource.rpartition("/")[2], json.loads(asked.body))
        if verb == "runQuery":
            return self._query(json.loads(asked.body)["structuredQuery"])
        if verb == "runAggregationQuery":
            query = json.loads(asked.body)["structuredAggregationQuery"]
            return self._aggregate(query)
        if "/documents/" in path:
            return self._document(path.partition("/documents/")[2])
        if asked.method != "GET" or asked.address not in self.resources:
            raise Refused(404, "NOT_FOUND", f"Resource not found: {path}.")
        found = self.resources[asked.address]
        if not isinstance(found, list):
            return found
        number = int(flask.request.args.get("pageToken", "0"))
        more = {"nextPageToken": str(number + 1)} if number + 1 < len(found) else {}
        return found[number] | more

    def refresh(self, token: str) -> tuple[dict[str, Any], int]:
        """What the operator's own token endpoint answers."""
        if token != REFRESH_TOKEN:
            return {"error": "invalid_grant", "error_description": "Bad Request"}, 400
        answer = {"access_token": OPERATOR_TOKEN, "expires_in": 3599, "token_type": "Bearer"}
        if self.openid:
            answer["id_token"] = identity(GCLOUD, self.now, OPERATOR, self.lasting)
        return answer, 200

    def exchange(self, assertion: str) -> tuple[dict[str, Any], int]:
        """What the token endpoint answers for a signed assertion."""
        claims = json.loads(base64.urlsafe_b64decode(assertion.split(".")[1] + "=="))
        if "target_audience" in claims:
            return {"id_token": identity(claims["target_audience"], self.now, claims["iss"])}, 200
        if "sub" not in claims:
            return {"access_token": OPERATOR_TOKEN, "expires_in": 3599, "token_type": "Bearer"}, 200
        if self.token is not None:
            return {"error": self.token[0], "error_description": self.token[1]}, 400
        if abs(claims["iat"] - self.now.timestamp()) > 60:
            said = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
            return {"error": "invalid_grant", "error_description": said}, 400
        if not set(claims["scope"].split()) <= self.delegated.get(self.clients[claims["iss"]], set()):
            said = (
                "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any "
                "of the scopes requested."
            )
            return {"error": "unauthorized_client", "error_description": said}, 401
        if claims["sub"] not in self.users:
            return {"error": "invalid_grant", "error_description": "Invalid email or User ID"}, 400
        return {"access_token": f"ya29.of-{claims['sub']}", "expires_in": 3599, "token_type": "Bearer"}, 200

    def profile(self, user: str) -> dict[str, Any]:
        """What Gmail says of a mailbox."""
        if self.gmail is not None:
            raise self.gmail
        return {"emailAddress": self.users[user], "messagesTotal": 3, "threadsTotal": 2, "historyId": "77"}

    @property
    def now(self) -> datetime:
        """The time here."""
        return datetime.now(UTC) - self.ahead

    def _sign(self, verb: str, account: str, wish: dict[str, Any]) -> dict[str, Any]:
        if verb == "signJwt":
            return {"keyId": "1", "signedJwt": f"e30.{_text(wish['payload'])}.c2lnbmVk"}
        return {"token": identity(wish["audience"], self.now, account if wish["includeEmail"] else "")}

    def _policy(self, resource: str) -> dict[str, Any]:
        if resource not in self.policies:
            raise Refused(404, "NOT_FOUND", f"Resource not found: {resource}.")
        return {"etag": "BwX", "version": 3, "bindings": self.policies[resource]}

    def _document(self, path: str) -> dict[str, Any]:
        if path not in self.documents:
            raise Refused(404, "NOT_FOUND", f'Document "{path}" not found.')
        values, written = self.documents[path]
        return _written(path, values, written)

    def _query(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        ((collection,),) = ((each["collectionId"] for each in query["from"]),)
        paths = [path for path in sorted(self.documents) if path.partition("/")[0] == collection]
        if "where" in query:
            condition = query["where"]["fieldFilter"]
            field = condition["field"]["fieldPath"]
            paths = [path for path in paths if _meets(condition, _at(self.documents[path][0], field))]
        for order in query.get("orderBy", ()):
            field = order["field"]["fieldPath"]
            # Null comes before every time.
            keys = {path: _at(self.documents[path][0], field) or datetime.min.replace(tzinfo=UTC) for path in paths}
            paths.sort(key=keys.__getitem__)
        fields = [each["fieldPath"] for each in query["select"]["fields"]]
        rows = [
            _written(path, _only(self.documents[path][0], fields), self.documents[path][1])
            for path in paths[: query["limit"]]
        ]
        # Without a result there is one entry all the same, which says only when it was read.
        return [{"document": row, "readTime": _time(self.now)} for row in rows] or [{"readTime": _time(self.now)}]

    def _aggregate(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        collection = query["structuredQuery"]["from"][0]["collectionId"]
        count = sum(path.partition("/")[0] == collection for path in self.documents)
        (aggregation,) = query["aggregations"]
        fields = {aggregation["alias"]: {"integerValue": str(count)}}
        return [{"result": {"aggregateFields": fields}, "readTime": _time(self.now)}]


def identity(audience: str, now: datetime, email: str, lasting: timedelta = timedelta(hours=1)) -> str:
    """An identity token; nobody here looks at its signature."""
    claims = {"aud": audience, "email": email, "iat": now.timestamp(), "exp": (now + lasting).timestamp()}
    return f"{_text(json.dumps({'alg': 'RS256'}))}.{_text(json.dumps(claims))}.c2lnbmVk"


def create_app(cloud: Cloud) -> flask.Flask:
    """All the APIs, each beneath its host's name."""
    app = flask.Flask("tests.cli.googleapis")

    @app.errorhandler(Refused)
    def refused(error: Refused) -> tuple[flask.Response, int]:
        return flask.jsonify(error.body), error.code

    @app.after_request
    def date(response: flask.Response) -> flask.Response:
        response.headers["Date"] = format_datetime(cloud.now, usegmt=True)
        return response

    @app.route("/<path:address>", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def ask(address: str) -> Any:
        request = flask.request
        asked = Asked(request.method, address, request.get_data(), tuple(request.args))
        cloud.asked.append(asked)
        if address == SIGN_IN:
            said, status = cloud.refresh(request.form["refresh_token"])
            return flask.jsonify(said), status
        if address == "oauth2.googleapis.com/token":
            form = request.form
            given = form["grant_type"] == "refresh_token"
            said, status = cloud.refresh(form["refresh_token"]) if given else cloud.exchange(form["assertion"])
            return flask.jsonify(said), status
        caller = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if address == "gmail.googleapis.com/gmail/v1/users/me/profile":
            return cloud.profile(caller.removeprefix("ya29.of-"))
        if caller != OPERATOR_TOKEN:
            raise Refused(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        cloud.charged.add(request.headers.get("X-Goog-User-Project"))
        if address == "openidconnect.googleapis.com/v1/userinfo":
            return {"sub": "1", "email": OPERATOR}
        return flask.jsonify(cloud.answer(asked))

    return app


def _service(name: str, services: Mapping[str, str]) -> dict[str, Any]:
    api = name.rpartition("/")[2]
    return {"name": f"projects/123456789012/services/{api}", "state": services.get(api, "DISABLED")}


def _text(content: str) -> str:
    return base64.urlsafe_b64encode(content.encode()).rstrip(b"=").decode()


def _time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _written(path: str, values: Mapping[str, Any], written: datetime) -> dict[str, Any]:
    name = f"projects/my-project/databases/(default)/documents/{path}"
    fields = {field: _value(value) for field, value in values.items()}
    return {"name": name, "fields": fields, "createTime": _time(written), "updateTime": _time(written)}


def _value(value: Any) -> dict[str, Any]:
    match value:
        case None:
            return {"nullValue": None}
        case bool():
            return {"booleanValue": value}
        case int():
            return {"integerValue": str(value)}
        case float():
            return {"doubleValue": value}
        case datetime():
            return {"timestampValue": _time(value)}
        case Mapping():
            return {"mapValue": {"fields": {name: _value(each) for name, each in value.items()}}}
        case list() | tuple():
            return {"arrayValue": {"values": [_value(each) for each in value]}}
    return {"stringValue": str(value)}


def _read(value: Mapping[str, Any]) -> Any:
    ((kind, written),) = value.items()
    return datetime.fromisoformat(written) if kind == "timestampValue" else written


def _meets(condition: Mapping[str, Any], value: Any) -> bool:
    """Whether a value passes a filter; one of another type does not, as null is none of the times before now."""
    sought = _read(condition["value"])
    if not isinstance(value, type(sought)):
        return False
    return bool({"EQUAL": value == sought, "LESS_THAN": value < sought}[condition["op"]])


def _at(values: Any, path: str) -> Any:
    for name in path.split("."):
        values = values.get(name) if isinstance(values, Mapping) else None
    return values


def _only(values: Mapping[str, Any], paths: list[str]) -> dict[str, Any]:
    """A document with these fields alone, nested as they were."""
    found: dict[str, Any] = {}
    for path in paths:
        *outer, last = path.split(".")
        place = found
        for name in outer:
            place = place.setdefault(name, {})
        place[last] = _at(values, path)
    return found
