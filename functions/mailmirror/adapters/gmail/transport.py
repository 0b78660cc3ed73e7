"""HTTP: how a request to Gmail is sent, once, and what comes when it is not answered.

Knows: the client library, its discovery document, connections, credentials; lanes, which are connections with batches
under way at the same time, and threads, none outliving its call: Cloud Run gives no processor time after an answer;
batches (https://developers.google.com/gmail/api/guides/batch), of which what cannot be read is left out: the sender
asks again. The client library's cost twice the processor time of all the rest, and ask again after 401: a call nobody
paid for. Does not know: prices, what a failure means, or how many requests go together.
"""

import http.client
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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

from mailmirror.adapters.gmail.arrival import (
    LARGEST_ANSWER,
    LARGEST_REFUSAL,
    LARGEST_THREAD,
    LARGEST_WAVE,
    PIECE_BYTES,
    Arriving,
    Room,
    TooLarge,
    read_json,
)
from mailmirror.errors import GmailError
from mailmirror.model import MailboxId

GOOGLE = "https://gmail.googleapis.com/"

_BOUNDARY = "mailmirror"
BATCH_TYPE = f"multipart/mixed; boundary={_BOUNDARY}"

_BOUNDARY_OF = re.compile(r'^\s*multipart/[^;]+;.*?\bboundary="?([^";\s]+)', re.IGNORECASE)
_NUMBER = re.compile(rb"^content-id:[^\n]*\bresponse-(\d{1,4})@", re.IGNORECASE | re.MULTILINE)
_STATUS = re.compile(rb"\s*HTTP/[\d.]+ +(\d{3})[ \t]*([^\r\n]*)")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")

# What a call raises besides HttpError. An answer without room counts as none. On the way to a token credentials raise
# GmailError, and httplib2 unpacks.
UNANSWERED = (
    ApiClientError,
    GmailError,
    GoogleAuthError,
    OSError,
    TooLarge,
    http.client.HTTPException,
    httplib2.HttpLib2Error,
    httplib2.decode.DecodeLimitError,
    httplib2.decode.DecodeRatioError,
    zlib.error,
)


class Api:
    """Gmail's methods, to make requests of, for every mailbox and thread.

    Each resource is made once: the client library makes it anew when named.
    """

    def __init__(self, users: Any) -> None:
        self.users = users
        self.messages = users.messages()
        self.attachments = self.messages.attachments()
        self.threads = users.threads()
        self.history = users.history()
        self.labels = users.labels()


@dataclass(slots=True)
class Outcome:
    """What came of one batch: answers and refusals by number of the request, if any came, or why not."""

    answers: dict[int, Any] = field(default_factory=dict)
    failure: Exception | None = None


class Line:
    """One connection to Gmail, for one thread at a time."""

    def __init__(self, api_root: str, timeout: float) -> None:
        self._batch_uri = api_root.rstrip("/") + "/batch"
        self._http, self._tokens = httplib2.Http(timeout=timeout), httplib2.Http(timeout=timeout)
        for way in (self._http, self._tokens):
            # A token follows no redirection; this machine is not behind its proxy.
            way.follow_redirects = False
            if urlsplit(api_root).hostname in {"127.0.0.1", "localhost", "::1"}:
                way.proxy_info = None
        # Tokens come beside this line: httplib2 reads those answers itself.
        self.token_request: Any = google_auth_httplib2.Request(self._tokens)

    def one(self, request: Any, headers: Mapping[str, str]) -> Any:
        """Send a request once and return the JSON answered, None if none. Raises `HttpError`, *`UNANSWERED`."""
        most = LARGEST_THREAD if request.methodId == "gmail.users.threads.get" else LARGEST_ANSWER
        with self._sent(request.uri, request.method, request.body, {**request.headers, **headers}) as (answer, content):
            if answer.status < 300:
                value = read_json(content.pieces(most))
                return {} if answer.status == 204 else value
            refusal = _refusal(answer, content.beginning(LARGEST_REFUSAL), request.uri)
        raise refusal

    def together(self, requests: Sequence[Any], headers: Mapping[str, str], room: Room) -> Outcome:
        """Send requests in one batch; what goes wrong is part of the outcome."""
        outcome = Outcome()
        try:
            headers = {**headers, "content-type": BATCH_TYPE}
            with self._sent(self._batch_uri, "POST", write_batch(requests), headers) as (answer, content):
                if answer.status >= 300:
                    return Outcome(failure=_refusal(answer, content.beginning(LARGEST_REFUSAL), self._batch_uri))
                whole = content.whole(room)
            for number, part, inner in read_batch(answer.get("content-type", ""), whole):
                if number < len(requests):
                    outcome.answers[number] = _read(requests[number], part, inner)
        except UNANSWERED as error:
            outcome.failure = kept(error)
        return outcome

    def close(self) -> None:
        self._http.close()
        self._tokens.close()

    @contextmanager
    def _sent(self, uri: str, method: str, body: Any, headers: Mapping[str, str]) -> Iterator[tuple[Any, Arriving]]:
        """A connection that failed or was not read to the end is not used again."""
        connection_type = _SecureConnection if urlsplit(uri).scheme == "https" else _PlainConnection
        arrived = False
        try:
            answer, content = self._http.request(
                uri,
                method,
                body=body,
                headers={**headers, "accept-encoding": "gzip"},
                connection_type=connection_type,
            )
            yield answer, content
            arrived = content.isclosed()
        finally:
            if not arrived:
                self._http.close()


class Lanes:
    """The way to one mailbox, for one calling thread; requests are made of `api`.

    A lane's thread sends and takes the answer apart; whoever calls makes requests, fetches the token, pays and judges.
    """

    def __init__(
        self, api: Api, mailbox: MailboxId, credentials: Credentials | None, open_line: Callable[[], Line]
    ) -> None:
        """Open the first lane, for single calls and a lone batch; others when needed."""
        self.api = api
        self._open_line = open_line
        self._lines = [open_line()]
        self._mailbox = mailbox
        self._source: Any = credentials

    def one(self, request: Any) -> Any:
        """Send one request and return the answer. Raises as `Line.one`."""
        return self._lines[0].one(request, self._headers(request.uri, request.method))

    def renew(self) -> bool:
        """Fetch another token as Gmail refuses this one; False if none."""
        if self._source is None:
            return False
        self._source.refresh(self._lines[0].token_request)
        return True

    def wave(self, batches: Sequence[Sequence[Any]]) -> list[Outcome]:
        """Send batches at the same time and return what came of each. Raises *`UNANSWERED`: no token, nothing sent."""
        # Not in the lanes: credentials are not for several threads.
        headers = self._headers(batches[0][0].uri, "POST")
        room = Room(LARGEST_WAVE)
        while len(self._lines) < len(batches):
            self._lines.append(self._open_line())
        if len(batches) == 1:
            return [self._lines[0].together(batches[0], headers, room)]
        with ThreadPoolExecutor(len(batches)) as pool:
            return list(pool.map(lambda line, requests: line.together(requests, headers, room), self._lines, batches))

    def close(self) -> None:
        """Close all."""
        for line in self._lines:
            line.close()

    def _headers(self, uri: str, method: str) -> dict[str, str]:
        """What authorizes a request; an expired token is renewed."""
        if self._source is None:
            # The fake Gmail believes everybody. A header has no letters but Latin.
            return {"authorization": f"Bearer {self._mailbox.encode('ascii', 'replace').decode()}"}
        headers: dict[str, str] = {}
        self._source.before_request(self._lines[0].token_request, method, uri, headers)
        return headers


def kept(error: Exception) -> Exception:
    """Return the error without its frames, which hold other answers."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = link.__context__ = None
        link = link.__cause__
    return error


def _read(request: Any, answer: Any, content: memoryview) -> Any:
    """A refusal is kept, not raised."""
    if answer.status >= 300:
        return _refusal(answer, bytes(content), request.uri)
    if answer.status == 204:
        return {}
    return read_json(bytes(content[start : start + PIECE_BYTES]) for start in range(0, len(content), PIECE_BYTES))


def _refusal(answer: Any, content: bytes, uri: str) -> HttpError:
    """If the content makes no sense, the status alone."""
    try:
        return HttpError(answer, content, uri=uri)
    except (AttributeError, RecursionError):
        return HttpError(answer, b"", uri=uri)


class _NothingTwice:
    """httplib2 repeats a request when the connection drops, but passes this error on: whoever pays decides."""

    def getresponse(self) -> http.client.HTTPResponse:
        try:
            return cast("http.client.HTTPResponse", super().getresponse())  # type: ignore[misc]
        except http.client.BadStatusLine:
            raise ConnectionResetError("The connection was closed before the answer.") from None


class _PlainConnection(_NothingTwice, httplib2.HTTPConnectionWithTimeout):
    response_class = Arriving


class _SecureConnection(_NothingTwice, httplib2.HTTPSConnectionWithTimeout):
    response_class = Arriving


@cache
def api(api_root: str) -> Api:
    """Return the Gmail at `api_root`, by the client library's document."""
    folder = resources.files("googleapiclient.discovery_cache") / "documents"
    document = json.loads((folder / "gmail.v1.json").read_text("utf-8"))
    document |= {"rootUrl": api_root.rstrip("/") + "/", "servicePath": ""}
    # Never asked: a `Line` sends.
    service = build_from_document(document, http=object())
    return Api(service.users())


def write_batch(requests: Sequence[Any]) -> bytes:
    """Return the body for googleapiclient's requests without a body, numbered from 0."""
    lines = []
    for number, request in enumerate(requests):
        url = urlsplit(request.uri)
        lines += [
            f"--{_BOUNDARY}",
            "Content-Type: application/http",
            f"Content-ID: <{number}@mailmirror>",
            "",
            f"{request.method} {url.path}?{url.query} HTTP/1.1",
            f"Host: {url.netloc}",
            "Accept: application/json",
            "",
            "",
        ]
    lines += [f"--{_BOUNDARY}--", ""]
    return "\r\n".join(lines).encode("ascii")


def read_batch(content_type: str, body: bytes) -> Iterator[tuple[int, httplib2.Response, memoryview]]:
    """Yield each whole part's number, status and headers, and content, which is not copied."""
    boundary = _BOUNDARY_OF.search(content_type)
    if boundary is None:
        return
    delimiter = b"--" + boundary[1].encode("latin-1", "replace")
    start = 0 if body.startswith(delimiter) else body.find(b"\n" + delimiter) + 1
    # A part without a delimiter after it was cut off.
    while (end := body.find(b"\n" + delimiter, start)) >= 0:
        part = _part(body, start + len(delimiter), end - body.startswith(b"\r", end - 1))
        if part is not None:
            yield part
        start = end + 1


def _part(body: bytes, start: int, end: int) -> tuple[int, httplib2.Response, memoryview] | None:
    # By positions: content may be megabytes.
    head = _BLANK_LINE.search(body, start, end)
    number = head and _NUMBER.search(body, start, head.start())
    status = head and _STATUS.match(body, head.end(), end)
    if not (number and status):
        return None
    # Without content there may be no blank line.
    blank = _BLANK_LINE.search(body, status.end(), end)
    headers_end, content = (blank.start(), blank.end()) if blank else (end, end)
    headers = {}
    for line in body[status.end() : headers_end].decode("latin-1").splitlines():
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > end - content:
        return None
    answer = httplib2.Response(headers | {"status": status[1].decode()})
    answer.reason = status[2].decode("latin-1")
    return int(number[1]), answer, memoryview(body)[content:end]
