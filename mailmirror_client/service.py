"""One of Mailmirror's functions, called over HTTP.

Knows: identity tokens, Google's error model, and which failures pass by themselves: they are tried again for a while,
because every call may be repeated. Does not know: routes.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from requests.auth import AuthBase

Params = Mapping[str, str | int | float | bool | None]

# Pass by themselves: throttled, an instance that starts or ends, what is not reached for a moment.
_PASSING = frozenset({429, 500, 502, 503, 504})
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


class ServiceError(Exception):
    """A function refused, or could not be reached.

    Attributes:
        code: HTTP status; 0 when there was no answer at all.
        status: Google's canonical code, such as `NOT_FOUND`.
        message: what happened and what to do.
    """

    def __init__(self, code: int, status: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no error: `code` 200, 201 or 202, and its JSON object."""

    code: int
    content: dict[str, Any]


class Service:
    """A function at an address; may be used by one thread at a time.

    Example:
        with Service("http://127.0.0.1:8080") as manage:
            manage.ask("GET", "/mailboxes").content["mailboxes"]
    """

    def __init__(self, address: str, *, token: Callable[[], str] | None = None, patience: float = 30.0) -> None:
        """Say where it is.

        Args:
            address: without a path, such as `https://mailmirror-read-mailboxes-….run.app`.
            token: returns an identity token that is good now; None where nobody asks for one.
            patience: seconds for which what passes by itself is tried again.
        """
        self.address = address.rstrip("/")
        self._token = token
        self._patience = patience
        self._session = requests.Session()
        # Nothing on this machine is behind its proxy.
        self._session.trust_env = not self.address.startswith(("http://127.0.0.1", "http://localhost"))

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Mapping[str, Any] | None = None,
        seconds: float = 60.0,
    ) -> Answer:
        """Return what a request answers, read to its end.

        Args:
            method: such as `GET`.
            path: quoted where needed, such as `/mailboxes/ada%40example.com`.
            params: the query; None values are left out.
            body: sent as JSON.
            seconds: to wait for the answer.

        Raises:
            ServiceError: it was refused, or not answered in time.
        """
        # Read within: a connection that breaks in the middle of the answer is tried again, too.
        with self._answered(method, path, params, body, {}, seconds, whole=True) as response:
            try:
                content = response.json()
            except ValueError:
                content = None
            if not isinstance(content, dict):
                told = f"{self.address}{path} answered {response.status_code} without a JSON object: is it Mailmirror?"
                raise ServiceError(response.status_code, "UNKNOWN", told)
            return Answer(response.status_code, content)

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = 60.0,
    ) -> Iterator[requests.Response]:
        """Yield an answer that is no error, its body still to be read: what breaks there is the caller's; as `ask`."""
        with self._answered(method, path, params, body, headers or {}, seconds, whole=False) as response:
            yield response

    @contextmanager
    def _answered(
        self,
        method: str,
        path: str,
        params: Params | None,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        seconds: float,
        *,
        whole: bool,
    ) -> Iterator[requests.Response]:
        given = {name: _text(value) for name, value in (params or {}).items() if value is not None}
        until = time.monotonic() + self._patience
        pause = _FIRST_PAUSE_SECONDS
        while True:
            failure: ServiceError
            signature = None if self._token is None else _Bearer(self._token())
            try:
                response = self._session.request(
                    method,
                    self.address + path,
                    params=given,
                    json=body,
                    headers={**headers},
                    auth=signature,
                    timeout=(10, seconds),
                    stream=not whole,
                    allow_redirects=False,
                )
            except requests.exceptions.InvalidJSONError as error:
                raise ServiceError(0, "INVALID_ARGUMENT", "What is to be sent is no JSON.") from error
            except requests.RequestException as error:
                if isinstance(error, ValueError):
                    told = f"{self.address} is no address: {type(error).__name__}."
                    raise ServiceError(0, "INVALID_ARGUMENT", told) from error
                failure = ServiceError(0, "UNAVAILABLE", f"{self.address} cannot be reached: {type(error).__name__}.")
                failure.__cause__ = error
            else:
                with response:
                    if response.status_code < 400:
                        yield response
                        return
                    failure = _refusal(response)
            if (failure.code and failure.code not in _PASSING) or time.monotonic() + pause > until:
                raise failure
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


class _Bearer(AuthBase):
    """An identity token as a signature: what is only a header gives way to an entry of .netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refusal(response: requests.Response) -> ServiceError:
    try:
        error = response.json()["error"]
        return ServiceError(response.status_code, str(error["status"]), str(error["message"]))
    except (ValueError, TypeError, KeyError, requests.RequestException):
        # Not the function's own answer: Cloud Run's, to whoever may not call it.
        told = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}.get(response.status_code, "UNKNOWN")
        return ServiceError(
            response.status_code, told, f"{response.url.split('?')[0]} answered {response.status_code}."
        )
