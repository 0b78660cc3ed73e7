"""HTTP: how a request to Gmail is sent, once, and what comes when it is not answered.

Knows: the client library and its discovery document, connections, credentials, and that a connection is for one thread
at a time. Does not know: prices, what a failure means, or how many requests go together.
"""

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, cast
from urllib.parse import urlsplit

import google_auth_httplib2
import httplib2
import httplib2.decode
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError
from googleapiclient.discovery import build_from_document
from googleapiclient.errors import Error as ApiClientError
from googleapiclient.errors import HttpError
from googleapiclient.model import JsonModel

from mailmirror.adapters.gmail import batch
from mailmirror.errors import GmailError
from mailmirror.model import MailboxId

GOOGLE = "https://gmail.googleapis.com/"

# gzip packs 1,032 bytes into one at most, and a mail may well be thousands of equal lines: by what it unpacks to for
# each byte no answer is told from a bomb, so no ratio that gzip can reach is refused.
HIGHEST_RATIO = 1_100
# What an answer may unpack to. The largest message that Gmail stores has 150 MiB, which are 200 MiB in base64; the rest
# is for headers. More is a bomb or a batch, whose ids are then asked one by one.
LARGEST_ANSWER = 210 * 2**20

# What a call raises besides HttpError. An answer that unpacks to more than the largest counts as none. A GmailError is
# what the credentials found on the way to a token.
UNANSWERED = (
    ApiClientError,
    GmailError,
    GoogleAuthError,
    OSError,
    http.client.HTTPException,
    httplib2.HttpLib2Error,
    httplib2.decode.DecodeLimitError,
    httplib2.decode.DecodeRatioError,
)


class Api:
    """Gmail's methods, of which requests are made. It sends nothing: one serves every mailbox and thread.

    The client library makes a resource anew, method by method, each time it is named; here each is made once.
    """

    def __init__(self, users: Any) -> None:
        self.users = users
        self.messages = users.messages()
        self.threads = users.threads()
        self.history = users.history()
        self.labels = users.labels()


@dataclass(slots=True)
class Outcome:
    """What came of one batch.

    Attributes:
        answers: what was answered, or the refusal, by the request's number; a request that is not here got no answer.
        failure: why nothing was answered.
    """

    answers: dict[int, Any] = field(default_factory=dict)
    failure: Exception | None = None


class Line:
    """One connection to Gmail, for one thread at a time."""

    def __init__(self, api_root: str, timeout: float) -> None:
        """Connect nothing yet."""
        self._batch_uri = api_root.rstrip("/") + "/batch"
        self._http = httplib2.Http(timeout=timeout, decode_limit_ratio=HIGHEST_RATIO, decode_limit_hard=LARGEST_ANSWER)
        # A token must not follow a redirection, and what is on this machine is not behind its proxy.
        self._http.follow_redirects = False
        if urlsplit(api_root).hostname in {"127.0.0.1", "localhost", "::1"}:
            self._http.proxy_info = None
        # How credentials fetch a token through this line.
        self.token_request: Any = google_auth_httplib2.Request(self._http)

    def send(self, uri: str, method: str, body: Any, headers: Mapping[str, str]) -> tuple[Any, bytes]:
        """Send one request, once. A connection over which something went wrong is not used again."""
        secure = urlsplit(uri).scheme == "https"
        connection_type = _SecureConnection if secure else _PlainConnection
        try:
            answer = self._http.request(uri, method, body=body, headers=dict(headers), connection_type=connection_type)
        except BaseException:
            self._http.close()
            raise
        return cast("tuple[Any, bytes]", answer)

    def together(self, requests: Sequence[Any], headers: Mapping[str, str]) -> Outcome:
        """Send requests in one batch and take its answer apart; what goes wrong is part of the outcome."""
        outcome = Outcome()
        try:
            headers = {**headers, "content-type": batch.CONTENT_TYPE}
            answer, content = self.send(self._batch_uri, "POST", batch.write(requests), headers)
            if answer.status >= 300:
                return Outcome(failure=_refusal(answer, content, self._batch_uri))
            for number, part, inner in batch.read(answer.get("content-type", ""), content):
                if number < len(requests):
                    outcome.answers[number] = _postprocessed(requests[number], part, inner)
        except UNANSWERED as error:
            outcome.failure = kept(error)
        return outcome

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


class Access:
    """What a mailbox's requests are authorized with, for one thread; tokens are fetched through a line of that thread.

    It is also what googleapiclient sends single requests through. It shows it no credentials, which it would use to
    send again, by itself, what was refused.
    """

    def __init__(self, mailbox: MailboxId, credentials: Credentials | None, line: Line) -> None:
        """Fetch nothing yet."""
        self._mailbox = mailbox
        self._source: Any = credentials
        self._line = line

    def headers(self, uri: str, method: str) -> dict[str, str]:
        """Return the headers that authorize a request; a token that has expired is renewed first."""
        if self._source is None:
            # The fake Gmail believes everybody.
            return {"authorization": f"Bearer {self._mailbox}"}
        headers: dict[str, str] = {}
        self._source.before_request(self._line.token_request, method, uri, headers)
        return headers

    def renew(self) -> bool:
        """Fetch another token because Gmail refuses the one there is; False when there is none to fetch."""
        if self._source is None:
            return False
        self._source.refresh(self._line.token_request)
        return True

    def request(
        self, uri: str, method: str = "GET", body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[Any, bytes]:
        """Send one request, once.

        Raises:
            HttpError: it was refused. The client library would read the refusal first, and fail with some.
        """
        answer, content = self._line.send(uri, method, body, {**(headers or {}), **self.headers(uri, method)})
        if answer.status >= 300:
            raise _refusal(answer, content, uri)
        return answer, content


def kept(error: Exception) -> Exception:
    """Return an error that is kept without the frames that it came through: they hold what was answered to others."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = link.__context__ = None
        link = link.__cause__
    return error


def _postprocessed(request: Any, answer: Any, content: bytes) -> Any:
    """What the client library makes of an answer, or the refusal, which is kept and therefore not raised."""
    if answer.status >= 300:
        return _refusal(answer, content, request.uri)
    return request.postproc(answer, content)


def _refusal(answer: Any, content: bytes, uri: str) -> HttpError:
    """The refusal as an error; of one whose content makes no sense the status is all that is read."""
    try:
        return HttpError(answer, content, uri=uri)
    except (AttributeError, RecursionError):
        return HttpError(answer, b"", uri=uri)


class _NothingTwice:
    """httplib2 repeats a request by itself when the connection drops; here whoever pays for a call decides that.

    Nor is it shown how it might authorize itself better: it has nothing to do that with, and trips over what it reads.
    """

    def getresponse(self) -> http.client.HTTPResponse:
        """Answer, or raise an error that httplib2 passes on."""
        try:
            answer = cast("http.client.HTTPResponse", super().getresponse())  # type: ignore[misc]
        except http.client.BadStatusLine:
            raise ConnectionResetError("The connection was closed before the answer.") from None
        del answer.headers["www-authenticate"]
        return answer


class _PlainConnection(_NothingTwice, httplib2.HTTPConnectionWithTimeout):
    pass


class _SecureConnection(_NothingTwice, httplib2.HTTPSConnectionWithTimeout):
    pass


class _Tolerant(JsonModel):  # type: ignore[misc]
    """Answers None to what is no JSON: one unreadable answer must not spoil the others of its batch."""

    def deserialize(self, content: bytes) -> Any:
        """Read an answer."""
        try:
            return super().deserialize(content)
        except (ValueError, RecursionError):
            return None


@cache
def api(api_root: str) -> Api:
    """Return the methods of the Gmail at `api_root`, as the description that comes with the client library has them."""
    folder = resources.files("googleapiclient.discovery_cache") / "documents"
    document = json.loads((folder / "gmail.v1.json").read_text("utf-8"))
    document |= {"rootUrl": api_root.rstrip("/") + "/", "servicePath": ""}
    # Requests are executed with a connection of their own: this one is never asked.
    service = build_from_document(document, http=object(), model=_Tolerant())
    return Api(service.users())
