"""The Directory API through google-api-python-client: who is in a group or an organisational unit.

Knows: how people are listed, how that is refused, and what is worth a second try. Does not know: what becomes of
people. Law 8: a name for every failure; no message carries a token or an address.

Sources: the discovery document `admin.directory_v1`;
https://developers.google.com/workspace/admin/directory/v1/guides/search-users (a unit matches those below it; a
backslash escapes a quotation mark); https://developers.google.com/admin-sdk/directory/v1/limits (which 403 and 429 to
back off from). `includeDerivedMembership` lists members of groups beside these, and everybody beside an entry for all
users (type CUSTOMER, no address); some were left out (https://github.com/GAM-team/GAM/issues/1210). Outside the account
nobody has a status (https://github.com/hlavki/g-suite-identity-sync/issues/21).
"""

import http.client
import json
import logging
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import google_auth_httplib2
import httplib2
from google.auth.credentials import Credentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from googleapiclient.discovery import build_from_document
from googleapiclient.errors import HttpError

from mailmirror.errors import DirectoryRejected, DirectoryUnavailable, InvalidInput, MailmirrorError
from mailmirror.model import PeoplePage, Person, Standing
from mailmirror.ports import Clock

GOOGLE = "https://admin.googleapis.com/"
SCOPES = (
    "https://www.googleapis.com/auth/admin.directory.group.member.readonly",
    "https://www.googleapis.com/auth/admin.directory.user.readonly",
)
# The largest pages.
MEMBERS, USERS = 200, 500
# Seconds between tries, more or less a quarter.
BACK_OFF = (1.0, 2.0, 4.0)

_UNANSWERED = (OSError, http.client.HTTPException, httplib2.HttpLib2Error, ValueError)
_QUOTA = frozenset({"userRateLimitExceeded", "rateLimitExceeded", "quotaExceeded", "dailyLimitExceeded"})
_REASON = re.compile(r"[A-Za-z]{1,40}")
_NO_GRANT = re.compile(r"invalid_grant|unauthorized_client|access_denied|invalid_client|deleted_client|invalid_scope")
_STANDING: Mapping[str, Standing] = {"ACTIVE": "active", "SUSPENDED": "suspended", "ARCHIVED": "archived"}


@dataclass(frozen=True, slots=True, eq=False)
class DirectoryApi:
    """`ports.Directory`, asked as one administrator; without `credentials` a fake API is."""

    credentials: Callable[[str], Credentials | None]
    admin: str
    _: KW_ONLY
    clock: Clock
    api_root: str = GOOGLE
    timeout: float = 20.0
    rng: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        # It warns of every 403, sometimes with all content.
        logging.getLogger("googleapiclient.http").setLevel(logging.ERROR)

    def members(self, group: str, page_token: str | None) -> PeoplePage:
        return self._page(
            lambda service: service.members().list(
                groupKey=group,
                includeDerivedMembership=True,
                maxResults=MEMBERS,
                pageToken=page_token,
                fields="nextPageToken,members(email,type,status)",
            ),
            lambda answer: [_member(item) for item in answer.get("members", ()) if item.get("email")],
            "The group is not known, or the page token is not of its members.",
        )

    def users(self, org_unit: str, page_token: str | None) -> PeoplePage:
        path = org_unit.replace("\\", "\\\\").replace("'", "\\'")
        return self._page(
            lambda service: service.users().list(
                customer="my_customer",
                query=f"orgUnitPath='{path}'",
                maxResults=USERS,
                projection="basic",
                # A page listed again, after somebody left, has nobody new before those listed.
                orderBy="email",
                pageToken=page_token,
                fields="nextPageToken,users(primaryEmail,suspended,archived,isMailboxSetup)",
            ),
            lambda answer: [_user(item) for item in answer.get("users", ()) if item.get("primaryEmail")],
            "The organisational unit is not known, or the page token is not of its users.",
        )

    def _page(
        self, request: Callable[[Any], Any], people: Callable[[Mapping[str, Any]], list[Person]], unknown: str
    ) -> PeoplePage:
        answer: Any = None
        for delay in (*BACK_OFF, None):
            try:
                answer = self._ask(request, unknown)
                break
            except DirectoryUnavailable:
                if delay is None:
                    raise
                self.clock.sleep(delay * self.rng.uniform(0.75, 1.25))
        try:
            return PeoplePage(tuple(people(answer)), answer.get("nextPageToken") or None)
        except (AttributeError, TypeError):
            raise DirectoryUnavailable("The Directory API's answer cannot be read.") from None

    def _ask(self, request: Callable[[Any], Any], unknown: str) -> Any:
        """One call on its own connection: httplib2 is not safe for threads, and pages are few."""
        plain = httplib2.Http(timeout=self.timeout)
        # A token follows no redirection; this machine is not behind its proxy.
        plain.follow_redirects = False
        if urlsplit(self.api_root).hostname in {"127.0.0.1", "localhost", "::1"}:
            plain.proxy_info = None
        try:
            credentials = self.credentials(self.admin)
            sender = plain if credentials is None else google_auth_httplib2.AuthorizedHttp(credentials, http=plain)
            call = request(build_from_document(_document(self.api_root), http=sender))
            if credentials is None:
                # The fake believes everybody.
                call.headers["authorization"] = f"Bearer {self.admin}"
            return call.execute()
        except HttpError as error:
            raise _refusal(error, unknown) from None
        except GoogleAuthError as error:
            raise _no_token(error) from None
        except _UNANSWERED as error:
            raise DirectoryUnavailable(f"The Directory API did not answer ({type(error).__name__}).") from None
        finally:
            plain.close()


def _member(item: Mapping[str, Any]) -> Person:
    """People of the account have a status; groups are listed beside their members."""
    standing: Standing = "group" if item.get("type") == "GROUP" else _STANDING.get(str(item.get("status")), "external")
    return Person(str(item["email"]).lower(), standing)


def _user(item: Mapping[str, Any]) -> Person:
    standing: Standing = "active"
    if item.get("suspended"):
        standing = "suspended"
    elif item.get("archived"):
        standing = "archived"
    elif item.get("isMailboxSetup") is False:
        standing = "no_mailbox"
    return Person(str(item["primaryEmail"]).lower(), standing)


def _refusal(error: HttpError, unknown: str) -> MailmirrorError:
    status, reason = int(error.resp.status), _reason(error)
    words = f"The Directory API answered {status}{f' ({reason})' if reason else ''}"
    if status == 429 or status >= 500 or status == 408 or reason in _QUOTA:
        return DirectoryUnavailable(f"{words}.")
    if status in (400, 404):
        return InvalidInput(f"{words}. {unknown}")
    if reason == "accessNotConfigured":
        return DirectoryRejected(f"{words}: enable admin.googleapis.com in the project.")
    return DirectoryRejected(
        f"{words}: DIRECTORY_ADMIN must be an administrator who may read users and groups, of the account that the"
        f" group is in, and the delegated service account needs the scopes {' and '.join(SCOPES)}."
    )


def _reason(error: HttpError) -> str:
    try:
        reason = str(json.loads(error.content)["error"]["errors"][0]["reason"])
    except (KeyError, IndexError, TypeError, ValueError):
        return ""
    return reason if _REASON.fullmatch(reason) else ""


def _no_token(error: GoogleAuthError) -> MailmirrorError:
    """From the metadata server, IAM's signJwt or the token endpoint."""
    if isinstance(error, DefaultCredentialsError):
        return DirectoryRejected("There are no Application Default Credentials to ask the Directory API with.")
    said = [argument for argument in error.args if isinstance(argument, str)]
    iam = next((status for status in map(_iam_status, said) if status), 0)
    if iam and iam < 500 and iam != 429:
        return DirectoryRejected(
            f"IAM answered {iam} when the delegated service account had to sign for DIRECTORY_ADMIN: it takes"
            " roles/iam.serviceAccountTokenCreator on that account, and iamcredentials.googleapis.com enabled."
        )
    refused = _NO_GRANT.search(" ".join(said))
    if refused and not (iam or error.retryable or isinstance(error, TransportError)):
        return DirectoryRejected(
            f"Google gives no token for DIRECTORY_ADMIN ({refused[0]}): it must be the primary address of an"
            f" administrator, and the Admin console must delegate {' and '.join(SCOPES)} to the service account."
        )
    return DirectoryUnavailable(f"There is no token for DIRECTORY_ADMIN at the moment ({type(error).__name__}).")


def _iam_status(body: str) -> int:
    try:
        return int(json.loads(body)["error"]["code"])
    except (KeyError, TypeError, ValueError):
        return 0


@cache
def _document(api_root: str) -> str:
    folder = resources.files("googleapiclient.discovery_cache") / "documents"
    document = json.loads((folder / "admin.directory_v1.json").read_text("utf-8"))
    return json.dumps(document | {"rootUrl": api_root.rstrip("/") + "/", "servicePath": ""})
