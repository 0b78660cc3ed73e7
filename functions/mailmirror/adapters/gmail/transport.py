"""HTTP: how a request to Gmail is sent, once, and what comes when it is not answered.

Knows: the client library, its discovery document and its connections. Does not know: prices, or what a failure means.
"""

import http.client
import json
from collections.abc import Mapping
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
from googleapiclient.model import JsonModel

from mailmirror.errors import GmailError
from mailmirror.model import MailboxId

GOOGLE = "https://gmail.googleapis.com/"

# What a call raises besides HttpError. An answer that unpacks to a thousand times its size counts as none. A GmailError
# is what the credentials found on the way to a token.
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
# What googleapiclient's batches raise besides these when the answer is not the multipart document it should be.
MANGLED = (LookupError, ValueError, TypeError, AttributeError)


def connect(mailbox: MailboxId, credentials: Credentials | None, api_root: str, timeout: float) -> Any:
    """Return the service for a mailbox; to close it is to close its connections."""
    plain = httplib2.Http(timeout=timeout)
    # A token must not follow a redirection, and what is on this machine is not behind its proxy.
    plain.follow_redirects = False
    if urlsplit(api_root).hostname in {"127.0.0.1", "localhost", "::1"}:
        plain.proxy_info = None
    return _build(api_root, _Transport(plain, credentials, mailbox))


class _NothingTwice:
    """httplib2 repeats a request by itself when the connection drops; here whoever pays for a call decides that."""

    def getresponse(self) -> http.client.HTTPResponse:
        """Answer, or raise an error that httplib2 passes on."""
        try:
            return cast("http.client.HTTPResponse", super().getresponse())  # type: ignore[misc]
        except http.client.BadStatusLine:
            raise ConnectionResetError("The connection was closed before the answer.") from None


class _PlainConnection(_NothingTwice, httplib2.HTTPConnectionWithTimeout):
    pass


class _SecureConnection(_NothingTwice, httplib2.HTTPSConnectionWithTimeout):
    pass


class _Transport:
    """What googleapiclient sends through. It shows no credentials: the library's batches would refresh them untimed."""

    def __init__(self, plain: httplib2.Http, credentials: Credentials | None, mailbox: MailboxId) -> None:
        self._plain = plain
        self._sender: Any = plain
        self._headers: Mapping[str, str] = {}
        if credentials is not None:
            self._sender = google_auth_httplib2.AuthorizedHttp(credentials, http=plain)
        else:
            # The fake Gmail believes everybody.
            self._headers = {"authorization": f"Bearer {mailbox}"}

    def request(
        self, uri: str, method: str = "GET", body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[Any, bytes]:
        """One request, sent once."""
        secure = urlsplit(uri).scheme == "https"
        answer = self._sender.request(
            uri,
            method,
            body=body,
            headers={**(headers or {}), **self._headers},
            connection_type=_SecureConnection if secure else _PlainConnection,
        )
        return cast("tuple[Any, bytes]", answer)

    def close(self) -> None:
        """Close the connections."""
        self._plain.close()


class _Tolerant(JsonModel):  # type: ignore[misc]
    """Answers None to what is no JSON: one unreadable answer must not spoil the others of its batch."""

    def deserialize(self, content: bytes) -> Any:
        """Read an answer."""
        try:
            return super().deserialize(content)
        except (ValueError, RecursionError):
            return None


@cache
def _discovery_document() -> str:
    """The description of the Gmail API that comes with the client library."""
    folder = resources.files("googleapiclient.discovery_cache") / "documents"
    return (folder / "gmail.v1.json").read_text("utf-8")


def _build(api_root: str, transport: _Transport) -> Any:
    """The service, for single calls and batches at `api_root`: `client_options.api_endpoint` would not move batches."""
    document = json.loads(_discovery_document()) | {"rootUrl": api_root.rstrip("/") + "/", "servicePath": ""}
    return build_from_document(document, http=transport, model=_Tolerant())
