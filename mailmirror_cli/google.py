"""Google's REST APIs as the command asks them: with the operator's own credentials, and without changing anything.

Knows: where each API is, what an answer that is none means (no right, the API is off, there is nothing), whose
credentials these are, and by how much this machine's clock differs from Google's. Does not know: what the answers are
for. A question is asked once, however many checks need its answer. No token is shown, logged or kept.
"""

import json
import logging
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

import google.auth
import requests
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.external_account_authorized_user import Credentials as WorkforceCredentials
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2.credentials import Credentials as UserCredentials
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

# Moves every API to one address, each beneath its own host's name: for a stand-in.
ROOT_VARIABLE = "MAILMIRROR_GOOGLE_API_ROOT"

Params = Mapping[str, str | list[str]]

_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
_TIMEOUT_SECONDS = 30
_DISABLED = frozenset({"SERVICE_DISABLED", "accessNotConfigured"})
_QUOTA_PROJECT = "roles/serviceusage.serviceUsageConsumer"


class NoAnswer(Exception):
    """Google did not answer what was asked.

    Attributes:
        status: the HTTP status; 0 when there was no answer at all.
        reason: Google's word for it, such as `notFound` or `SERVICE_DISABLED`.
        text: its sentence.
    """

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.text = text


class NoCredentials(NoAnswer):
    """There are no Application Default Credentials, or they are no longer good."""


class Absent(NoAnswer):
    """What was asked about does not exist."""


class Denied(NoAnswer):
    """The operator may not ask this; `role` would allow it."""

    def __init__(self, status: int, reason: str, text: str, role: str) -> None:
        super().__init__(status, reason, text)
        self.role = role


class ApiDisabled(NoAnswer):
    """The API is not enabled in `project`, which is empty where Google does not name one."""

    def __init__(self, status: int, reason: str, text: str, service: str, project: str) -> None:
        super().__init__(status, reason, text)
        self.service = service
        self.project = project


class Google:
    """The APIs, signed in at the first question.

    Attributes:
        project: whose quota is used where the credentials name no project of their own.
        skew: by how much this machine's clock is ahead of Google's; None before the first answer.
    """

    def __init__(self, project: str, root: str = "") -> None:
        self.project = project
        self.skew: timedelta | None = None
        self._root = root.rstrip("/")
        self._answers: dict[str, Any] = {}
        self._quickest = timedelta.max
        self._signed_in: AuthorizedSession | NoAnswer | None = None

    def get(self, service: str, path: str, *, role: str, params: Params | None = None) -> Any:
        """Return what a GET answers.

        Args:
            service: such as `pubsub`.
            path: with the API's version, such as `v1/projects/p/topics/t`.
            role: a role that lets the operator ask this.
            params: the query.

        Raises:
            NoAnswer: or one of its kinds.
        """
        return self._once("GET", service, path, role, params=dict(params or {}))

    def post(self, service: str, path: str, body: Mapping[str, Any], *, role: str) -> Any:
        """Return what a POST answers that changes nothing, such as `:getIamPolicy` or `:runQuery`; as `get`."""
        return self._once("POST", service, path, role, json=body)

    def listing(self, service: str, path: str, name: str, *, role: str) -> list[dict[str, Any]]:
        """Return a whole listing, page by page; `name` is the field that holds the items."""
        found: list[dict[str, Any]] = []
        params: dict[str, str] = {}
        while True:
            page = self.get(service, path, role=role, params=params)
            found += page.get(name, ())
            if not page.get("nextPageToken"):
                return found
            params = {"pageToken": page["nextPageToken"]}

    def sign(self, account: str, statement: Mapping[str, Any], *, role: str) -> str:
        """Return a statement signed as a service account, a JSON Web Token.

        Raises:
            NoAnswer: or one of its kinds.
        """
        path = f"v1/projects/-/serviceAccounts/{account}:signJwt"
        answer = self._ask(self._session, "POST", "iamcredentials", path, json={"payload": json.dumps(statement)})
        return str(_content(answer, "iamcredentials", role)["signedJwt"])

    def exchange(self, assertion: str) -> str:
        """Return the access token that a signed assertion is worth.

        Raises:
            NoAnswer: it is worth none; `reason` is OAuth's error, such as `unauthorized_client`.
        """
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
        with requests.Session() as session:
            answer = self._ask(session, "POST", "oauth2", "token", data=form)
        said = _json(answer)
        if answer.status_code == 200 and isinstance(said, dict) and said.get("access_token"):
            return str(said["access_token"])
        fields = said if isinstance(said, dict) else {}
        raise NoAnswer(answer.status_code, str(fields.get("error", "")), str(fields.get("error_description", "")))

    def get_as(self, token: str, service: str, path: str) -> Any:
        """Return what a GET answers whoever the access token stands for.

        Raises:
            NoAnswer: or one of its kinds.
        """
        headers = {"Authorization": f"Bearer {token}"}
        with requests.Session() as session:
            answer = self._ask(session, "GET", service, path, headers=headers)
        return _content(answer, service, "")

    @property
    def now(self) -> datetime:
        """The time as Google has it, as well as this machine can tell."""
        return datetime.now(UTC) - (self.skew or timedelta())

    @cached_property
    def operator(self) -> str | None:
        """Whose credentials these are, as IAM writes it, such as `user:ada@example.com`; None when they do not say.

        Raises:
            NoAnswer: they are not there, or not good.
        """
        email = getattr(self._session.credentials, "service_account_email", None)
        if email and email != "default":
            return f"serviceAccount:{email}"
        try:
            who = self.get("openidconnect", "v1/userinfo", role="")
        except NoCredentials:
            raise
        except NoAnswer:
            return None
        return f"user:{who['email']}" if isinstance(who, dict) and who.get("email") else None

    @property
    def _session(self) -> AuthorizedSession:
        if self._signed_in is None:
            try:
                self._signed_in = _sign_in(self.project)
            except NoAnswer as none:
                # Not tried again for the next question: to find out takes seconds.
                self._signed_in = none
        if isinstance(self._signed_in, NoAnswer):
            raise self._signed_in
        return self._signed_in

    def _once(self, method: str, service: str, path: str, role: str, **more: Any) -> Any:
        key = f"{method} {service} {path} {more}"
        if key not in self._answers:
            try:
                answer = self._ask(self._session, method, service, path, **more)
                self._answers[key] = _content(answer, service, role)
            except NoAnswer as none:
                self._answers[key] = none
        known = self._answers[key]
        if isinstance(known, NoAnswer):
            raise known
        return known

    def _ask(self, session: requests.Session, method: str, service: str, path: str, **more: Any) -> requests.Response:
        """The answer, whatever it is."""
        host = f"{service}.googleapis.com"
        address = f"{self._root}/{host}/{path}" if self._root else f"https://{host}/{path}"
        asked = datetime.now(UTC)
        try:
            answer = session.request(method, address, timeout=_TIMEOUT_SECONDS, **more)
        except TransportError:
            raise NoAnswer(0, "TransportError", f"{host} cannot be reached") from None
        except GoogleAuthError as error:
            raise NoCredentials(0, "", _first_line(error)) from None
        except requests.RequestException as error:
            raise NoAnswer(0, type(error).__name__, f"{host} cannot be reached") from None
        self._compare_clocks(asked, datetime.now(UTC), answer.headers.get("Date"))
        return answer

    def _compare_clocks(self, asked: datetime, answered: datetime, date: str | None) -> None:
        """Google's time was that of the header, which has no fractions, in between; the quickest answer tells best."""
        took = answered - asked
        if date is None or took >= self._quickest:
            return
        try:
            told = parsedate_to_datetime(date)
        except ValueError:
            return
        if told.tzinfo is None:
            return
        self._quickest = took
        self.skew = asked + took / 2 - (told + timedelta(seconds=0.5))


def _sign_in(project: str) -> AuthorizedSession:
    """The operator's session, with a token that is good.

    Raises:
        NoCredentials: there are none, or they are no longer good.
        NoAnswer: that cannot be found out.
    """
    # It complains of credentials that name no project: the one that is looked at is given to them below.
    logging.getLogger("google.auth._default").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            credentials, _ = google.auth.default(scopes=_SCOPES)
        if isinstance(credentials, UserCredentials | WorkforceCredentials) and not credentials.quota_project_id:
            credentials = credentials.with_quota_project(project)
        credentials.refresh(Request())
    except TransportError:
        raise NoAnswer(0, "TransportError", "Google cannot be reached to sign in") from None
    except GoogleAuthError as error:
        raise NoCredentials(0, "", _first_line(error)) from None
    session = AuthorizedSession(credentials)
    again = Retry(total=2, backoff_factor=0.2, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)
    session.mount("https://", HTTPAdapter(max_retries=again))
    session.mount("http://", HTTPAdapter(max_retries=again))
    return session


def _content(answer: requests.Response, service: str, role: str) -> Any:
    """What an answer says.

    Raises:
        NoAnswer: or one of its kinds.
    """
    said = _json(answer)
    if answer.status_code == 200 and said is not None:
        return said
    # A stream, which a query answers with, is an array even when it is an error.
    first = said[0] if isinstance(said, list) and said else said
    error = first.get("error") if isinstance(first, dict) else None
    fields = error if isinstance(error, dict) else {}
    told = [each for each in (*fields.get("details", ()), *fields.get("errors", ())) if each.get("reason")]
    reason = str(told[0]["reason"]) if told else str(fields.get("status", ""))
    text = str(fields.get("message", "")) or f"{service}.googleapis.com answered {answer.status_code}"
    if answer.status_code == 404:
        raise Absent(404, reason, text)
    if answer.status_code == 403 and any(each["reason"] in _DISABLED for each in told):
        consumer = next((each["metadata"].get("consumer", "") for each in told if "metadata" in each), "")
        raise ApiDisabled(403, reason, text, f"{service}.googleapis.com", consumer.removeprefix("projects/"))
    if answer.status_code == 403:
        raise Denied(403, reason, text, _QUOTA_PROJECT if reason == "USER_PROJECT_DENIED" else role)
    raise NoAnswer(answer.status_code, reason, text)


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _first_line(error: Exception) -> str:
    """The sentence alone: what google-auth adds to it is the answer itself."""
    return next(iter(str(error.args[0] if error.args else "").splitlines()), type(error).__name__)
