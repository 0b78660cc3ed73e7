"""The Directory port over real HTTP: the adapter against the fake Directory API on loopback."""

import json
import logging
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google.auth.credentials
import pytest
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError, TransportError
from mailmirror.adapters.directory import BACK_OFF, SCOPES, DirectoryApi
from mailmirror.app import App
from mailmirror.config import Settings
from mailmirror.discovery import Crowd, Place
from mailmirror.errors import DirectoryRejected, DirectoryUnavailable, InvalidInput, MailmirrorError
from mailmirror.model import PeoplePage, Person
from mailmirror.ports import Directory
from mailmirror.wiring import from_settings

from local.google.directory import User, WorkspaceAccount, blueprint
from local.google.server import Served, create_app
from tests.clock import VirtualClock

ADMIN = "root@example.com"
SALES = "sales@example.com"


class Api:
    """An account whose Directory API listens on loopback, and the adapter that asks it."""

    def __init__(self, account: WorkspaceAccount, host: str) -> None:
        self.account = account
        self.clock = VirtualClock()
        self.root = f"http://{host}"

    def open(self, admin: str = ADMIN, **changes: Any) -> Directory:
        """The port, as an administrator."""
        settings: dict[str, Any] = {"clock": self.clock, "api_root": self.root, "rng": random.Random(0)}
        return DirectoryApi(changes.pop("credentials", _nobody), admin, **(settings | changes))


def _nobody(_address: str) -> None:
    """The fake believes everybody."""


@pytest.fixture
def api() -> Iterator[Api]:
    """An account with one administrator."""
    account = WorkspaceAccount()
    account.add(User(ADMIN, admin=True))
    with Served(create_app(blueprint(account))) as served:
        yield Api(account, served.host)


def everyone(listing: Any, name: str) -> list[Person]:
    """Follow the page tokens to the end."""
    people: list[Person] = []
    token: str | None = None
    for _ in range(100):
        page: PeoplePage = listing(name, token)
        people += page.people
        token = page.next_page_token
        if token is None:
            return people
    raise AssertionError("The listing does not end.")


def test_the_members_of_a_group_and_of_the_groups_in_it(api: Api) -> None:
    """Everybody in a group is listed, however deep, and everybody's standing tells whether there is a mailbox."""
    api.account.add(
        User("ada@example.com"),
        User("bob@example.com", suspended=True),
        User("cai@example.com", archived=True),
        User("dee@example.com"),
    )
    api.account.groups = {
        SALES: ["ada@example.com", "eu@example.com", "Guest@elsewhere.com"],
        "eu@example.com": ["bob@example.com", "cai@example.com", "asia@example.com"],
        "asia@example.com": ["dee@example.com", SALES],
    }
    assert {person.address: person.standing for person in everyone(api.open().members, SALES)} == {
        "ada@example.com": "active",
        "bob@example.com": "suspended",
        "cai@example.com": "archived",
        "dee@example.com": "active",
        "guest@elsewhere.com": "external",
        "eu@example.com": "group",
        "asia@example.com": "group",
        SALES: "group",
    }


def test_a_group_of_everybody(api: Api) -> None:
    """The entry for all users has no address: it is left out, and everybody is listed beside it."""
    api.account.add(User("ada@example.com"))
    api.account.groups[SALES] = ["*"]
    assert everyone(api.open().members, SALES) == [Person(ADMIN), Person("ada@example.com")]


def test_an_empty_group(api: Api) -> None:
    """A group without members is no failure."""
    api.account.groups[SALES] = []
    assert everyone(api.open().members, SALES) == []


def test_the_users_of_a_unit_and_of_those_below_it(api: Api) -> None:
    """A unit includes those below it and no unit that only begins alike."""
    api.account.add(
        User("ada@example.com", "/Sales"),
        User("bob@example.com", "/Sales/EU", suspended=True),
        User("cai@example.com", "/Sales/EU", mailbox=False),
        User("dee@example.com", "/Salesforce"),
        User("eve@example.com", "/Sales", archived=True),
    )
    assert {person.address: person.standing for person in everyone(api.open().users, "/Sales")} == {
        "ada@example.com": "active",
        "bob@example.com": "suspended",
        "cai@example.com": "no_mailbox",
        "eve@example.com": "archived",
    }
    assert len(everyone(api.open().users, "/")) == 6


def test_users_come_in_the_order_of_their_addresses(api: Api) -> None:
    """Whatever their order in the account: who leaves moves nobody to before those listed already."""
    names = [f"{letter}@example.com" for letter in "mZab"]
    api.account.add(*(User(name, "/Sales") for name in names))
    assert [person.address[0] for person in everyone(api.open().users, "/Sales")] == ["a", "b", "m", "z"]


@pytest.mark.parametrize("unit", ["/Valentine's Day", "/back\\slash", "/a b/c", "/' OR isAdmin=true '"])
def test_a_unit_of_any_name(api: Api, unit: str) -> None:
    """Whatever is in a unit's name, that unit is searched and nothing else."""
    api.account.add(User("ada@example.com", unit), User("bob@example.com", "/other"))
    assert everyone(api.open().users, unit) == [Person("ada@example.com")]


@pytest.mark.parametrize(("kind", "calls"), [("members", 3), ("users", 2)])
def test_more_people_than_a_page_has(api: Api, kind: str, calls: int) -> None:
    """Every page is asked for, as large as the method allows, and nobody is lost between them."""
    names = [f"p{number:03d}@example.com" for number in range(550)]
    api.account.add(*(User(name, "/Sales") for name in names))
    api.account.groups[SALES] = names
    listing, name = (api.open().members, SALES) if kind == "members" else (api.open().users, "/Sales")
    assert [person.address for person in everyone(listing, name)] == names
    assert len(api.account.asked) == calls


def test_only_what_is_needed_is_asked_for(api: Api) -> None:
    """No name, telephone number or picture of anybody comes over the wire."""
    api.account.groups[SALES] = []
    api.open().members(SALES, None)
    api.open().users("/", None)
    members, users = api.account.asked
    assert members["fields"] == "nextPageToken,members(email,type,status)"
    assert users["fields"] == "nextPageToken,users(primaryEmail,suspended,archived,isMailboxSetup)"
    assert users["projection"] == "basic"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (429, "rateLimitExceeded"),
        (403, "userRateLimitExceeded"),
        (403, "quotaExceeded"),
        (500, "backendError"),
        (503, "backendError"),
    ],
)
def test_what_passes_is_tried_again(api: Api, status: int, reason: str) -> None:
    """Quota and 5xx are waited out, longer each time; what lasts is said with its status, after four calls."""
    api.account.refusals = [(status, reason)] * len(BACK_OFF)
    assert everyone(api.open().users, "/") == [Person(ADMIN)]
    assert api.clock.slept == sorted(api.clock.slept)
    assert len(api.clock.slept) == len(BACK_OFF)
    api.account.refusals = [(status, reason)] * 10
    with pytest.raises(DirectoryUnavailable, match=f"{status}.*{reason}"):
        api.open().users("/", None)
    assert len(api.account.refusals) == 10 - 1 - len(BACK_OFF)


@pytest.mark.parametrize(
    ("status", "reason", "failure", "words"),
    [
        (401, "authError", DirectoryRejected, "DIRECTORY_ADMIN"),
        (403, "forbidden", DirectoryRejected, "DIRECTORY_ADMIN"),
        (403, "insufficientPermissions", DirectoryRejected, SCOPES[0]),
        (403, "accessNotConfigured", DirectoryRejected, "admin.googleapis.com"),
        (404, "notFound", InvalidInput, "not known"),
        (400, "invalid", InvalidInput, "page token"),
        (403, "x y ya29.secret", DirectoryRejected, "answered 403:"),
    ],
)
def test_what_is_refused_for_good(
    api: Api, status: int, reason: str, failure: type[MailmirrorError], words: str
) -> None:
    """A refusal is called by its name at once, and says what has to be corrected; Google's own text is not repeated."""
    api.account.refusals = [(status, reason)]
    with pytest.raises(failure) as raised:
        api.open().members(SALES, None)
    assert words in str(raised.value)
    assert "Refused as told" not in str(raised.value)
    assert "ya29" not in str(raised.value)
    assert SALES not in str(raised.value)


def test_somebody_who_is_no_administrator(api: Api) -> None:
    """The API refuses who may not list people, and the failure names the setting."""
    api.account.add(User("ada@example.com"))
    with pytest.raises(DirectoryRejected, match="DIRECTORY_ADMIN"):
        api.open("ada@example.com").users("/", None)


@pytest.mark.parametrize(("kind", "name"), [("members", "no@example.com"), ("users", "/None")])
def test_what_does_not_exist(api: Api, kind: str, name: str) -> None:
    """A group or unit that is not known is the caller's mistake."""
    with pytest.raises(InvalidInput, match="not known"):
        getattr(api.open(), kind)(name, None)


def test_a_page_token_of_another_listing(api: Api) -> None:
    """A token that does not belong to the listing is the caller's mistake."""
    api.account.groups[SALES] = []
    with pytest.raises(InvalidInput, match="page token"):
        api.open().members(SALES, "users-500")


def test_an_answer_that_cannot_be_read(api: Api) -> None:
    """What is no JSON counts as no answer."""
    api.account.garbled = True
    with pytest.raises(DirectoryUnavailable):
        api.open().users("/", None)


def test_nobody_listens(api: Api) -> None:
    """A refused connection is a failure with a name, after as many tries as any other."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        root = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(DirectoryUnavailable, match="ConnectionRefusedError"):
            api.open(api_root=root).users("/", None)


class Token(google.auth.credentials.Credentials):
    """Credentials that give the administrator's address as token, or fail."""

    def __init__(self, failure: GoogleAuthError | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.failure = failure

    def refresh(self, request: Any) -> None:
        """Give the token."""
        if self.failure is not None:
            raise self.failure
        self.token = ADMIN


def test_credentials_are_the_administrators(api: Api) -> None:
    """Credentials are asked for the administrator, and their token is what the API sees."""
    asked: list[str] = []

    def credentials(address: str) -> Token:
        asked.append(address)
        return Token()

    assert everyone(api.open(credentials=credentials).users, "/") == [Person(ADMIN)]
    assert asked == [ADMIN]


IAM_DENIED = '{"error": {"code": 403, "message": "Permission iam.serviceAccounts.signJwt denied", "status": "X"}}'
IAM_DOWN = '{"error": {"code": 503, "message": "The service is currently unavailable.", "status": "UNAVAILABLE"}}'


@pytest.mark.parametrize(
    ("failure", "named", "words"),
    [
        (RefreshError("unauthorized_client: Client is unauthorized"), DirectoryRejected, SCOPES[1]),
        (RefreshError("invalid_grant: Invalid email or User ID"), DirectoryRejected, "primary address"),
        (RefreshError("Unable to acquire", IAM_DENIED), DirectoryRejected, "serviceAccountTokenCreator"),
        (RefreshError("Unable to acquire", IAM_DOWN), DirectoryUnavailable, "at the moment"),
        (RefreshError("internal_failure", retryable=True), DirectoryUnavailable, "at the moment"),
        (TransportError("no route to root@example.com"), DirectoryUnavailable, "at the moment"),
        (DefaultCredentialsError("none"), DirectoryRejected, "Application Default Credentials"),
    ],
)
def test_no_token(api: Api, failure: GoogleAuthError, named: type[MailmirrorError], words: str) -> None:
    """What fails on the way to a token is called by its name: what passes, and what somebody has to set up."""
    with pytest.raises(named) as raised:
        api.open(credentials=lambda _: Token(failure)).users("/", None)
    assert words in str(raised.value)
    assert ADMIN not in str(raised.value)


def test_the_library_logs_nothing_of_its_own(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """The client library would warn of a refusal with its whole content."""
    api.account.refusals = [(403, "forbidden")]
    with caplog.at_level(logging.INFO), pytest.raises(DirectoryRejected):
        api.open().users("/", None)
    assert "Refused as told" not in caplog.text


# The wiring: which settings make a directory, and as whom it is asked.

SETTINGS = {
    "GOOGLE_CLOUD_PROJECT": "my-project",
    "GMAIL_TOPIC": "projects/my-project/topics/gmail-notifications",
    "WORK_TOPIC": "projects/my-project/topics/mailbox-work",
    "MAILMIRROR_STORE": "sqlite::memory:",
    "GMAIL_AUTH": "none",
    "DIRECTORY_ADMIN": ADMIN,
}
DELEGATE = "mirror@my-project.iam.gserviceaccount.com"


def wired(**changes: str) -> App:
    """The application on these settings."""
    return from_settings(Settings.from_env(SETTINGS | changes))


def test_settings_name_the_administrator_and_the_api(api: Api) -> None:
    """DIRECTORY_ADMIN and DIRECTORY_API_ROOT are all a discovery on this machine needs."""
    api.account.add(User("ada@example.com", "/Sales"))
    app = wired(DIRECTORY_API_ROOT=api.root)
    found = app.discover(Crowd("org_unit", "/Sales"), Place(), policy=None, dry_run=True, wait=0)
    assert found.connected == ["ada@example.com"]


def test_delegation_acts_as_the_administrator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key the delegated account signs for the administrator, and for the two scopes of the API alone."""
    own = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    (tmp_path / "adc.json").write_text(json.dumps(own))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "adc.json"))
    directory: Any = wired(GMAIL_AUTH="delegation", GMAIL_DELEGATE=DELEGATE).directory
    assert directory.admin == ADMIN
    credentials = directory.credentials(directory.admin)
    assert (credentials._subject, credentials._target_scopes) == (ADMIN, list(SCOPES))
    assert credentials.service_account_email == DELEGATE


@pytest.mark.parametrize(
    "changes",
    [
        {"DIRECTORY_ADMIN": ""},
        {
            "GMAIL_AUTH": "oauth",
            "GMAIL_OAUTH_CLIENT": "projects/p/secrets/client",
            "GMAIL_TOKEN_PREFIX": "projects/p/secrets/token-",
        },
    ],
)
def test_settings_under_which_nobody_may_list_people(changes: dict[str, str]) -> None:
    """Without an administrator, and with users' own consent, the failure says what to set."""
    with pytest.raises(DirectoryRejected, match=r"DIRECTORY_ADMIN.*GMAIL_AUTH=delegation"):
        wired(**changes).discover(Crowd("org_unit", "/"), Place(), policy=None, dry_run=True, wait=0)
