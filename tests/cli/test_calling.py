"""What the command calls and as whom: addresses, identity tokens, and what is said when there are none."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import google.auth.iam
import google.oauth2.credentials
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt
from typer.testing import CliRunner, Result

from mailmirror_cli.__main__ import cli
from mailmirror_cli.google import ROOT_VARIABLE
from mailmirror_cli.identity import Identity
from mailmirror_cli.target import VARIABLES
from mailmirror_client.service import Service
from tests.cli import healthy as h
from tests.cli.conftest import Serve
from tests.cli.functions import Functions, served
from tests.cli.googleapis import GCLOUD, OPERATOR, REFRESH_TOKEN, Cloud, identity
from tests.world import World

HERE = "list", "--project=my-project", "--json"
ROBOT = "robot@my-project.iam.gserviceaccount.com"
Credentials = Callable[[dict[str, Any]], None]
Deployed = tuple[Cloud, Functions, str, str]


def run(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)


def error(result: Result) -> dict[str, Any]:
    """The error that a program is told, and nothing but that."""
    assert result.exit_code == 1
    assert result.stderr == ""
    told: dict[str, Any] = json.loads(result.stdout)["error"]
    return told


@pytest.fixture
def credentials(tmp_path: Path, nobody: None, monkeypatch: pytest.MonkeyPatch) -> Credentials:
    """`credentials(content)`: Application Default Credentials are that file."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def save(content: dict[str, Any]) -> None:
        (tmp_path / "adc.json").write_text(json.dumps(content))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "adc.json"))

    return save


@pytest.fixture
def deployed(serving: Serve, nobody: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    """A deployment whose functions are asked for by Google's API, the address of its manage_mailboxes, and Google's."""
    functions = Functions(World())
    with served(functions) as address:
        cloud = h.healthy()
        for function in cloud.resources[h.FUNCTIONS]["functions"]:
            name = function["buildConfig"]["entryPoint"]
            function["serviceConfig"]["uri"] = f"{address}/{name}"
        root = serving(cloud)
        monkeypatch.setenv(ROOT_VARIABLE, root)
        monkeypatch.setattr(
            google.oauth2.credentials, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{root}/oauth2.googleapis.com/token"
        )
        yield cloud, functions, f"{address}/manage_mailboxes", root


def person(**more: Any) -> dict[str, Any]:
    """What `gcloud auth application-default login` leaves."""
    login = {"type": "authorized_user", "client_id": GCLOUD, "client_secret": "none", "refresh_token": REFRESH_TOKEN}
    return login | more


def key(root: str) -> dict[str, Any]:
    """A service account's key."""
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private = rsa.generate_private_key(public_exponent=65_537, key_size=2_048).private_bytes(*kinds).decode()
    token_uri = f"{root}/oauth2.googleapis.com/token"
    return {"type": "service_account", "client_email": ROBOT, "private_key": private, "token_uri": token_uri}


def claims(functions: Functions, expected: str, email: str) -> None:
    """Let the functions demand a token, whatever its times, that is for that audience and of that caller."""

    def check(request: Any) -> Any:
        sent = request.headers.get("Authorization", "")
        found = jwt.decode(sent.removeprefix("Bearer "), verify=False) if sent else {}
        assert (found.get("aud"), found.get("email")) == (expected, email)
        return None

    functions.take = check


def test_a_person(deployed: Deployed, credentials: Credentials) -> None:
    """A person signed in by gcloud is known to the functions by the token that comes with the access token."""
    _, functions, _, _ = deployed
    credentials(person())
    claims(functions, GCLOUD, OPERATOR)
    result = run(*HERE)
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"mailboxes": []})


def test_a_service_account(deployed: Deployed, credentials: Credentials) -> None:
    """A service account's key makes a token for the function's own address."""
    _, functions, address, root = deployed
    credentials(key(root))
    claims(functions, address, ROBOT)
    assert run(*HERE).exit_code == 0


def test_an_impersonated_service_account(
    deployed: Deployed, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who impersonates a service account has IAM make a token of its for the function's own address."""
    _, functions, address, root = deployed
    iam = f"{root}/iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{{}}:generateIdToken"
    monkeypatch.setattr(google.auth.iam, "_IAM_IDTOKEN_ENDPOINT", iam)
    url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{ROBOT}:generateAccessToken"
    credentials(
        {
            "type": "impersonated_service_account",
            "service_account_impersonation_url": url,
            "source_credentials": person(),
            "delegates": [],
        }
    )
    claims(functions, address, ROBOT)
    with Service(address, token=Identity(address)) as service:
        assert service.ask("GET", "/mailboxes").code == 200


def test_a_token_is_renewed_before_it_ends(deployed: Deployed, credentials: Credentials) -> None:
    """One that is good for a while is used again; one that is about to end is not."""
    cloud, _, address, _ = deployed
    credentials(person())

    def asked(lasting: timedelta) -> int:
        cloud.lasting = lasting
        before, who = len(cloud.asked), Identity(address)
        for _ in range(2):
            assert who()
        return len(cloud.asked) - before

    assert asked(timedelta(hours=1)) == 1
    assert asked(timedelta(minutes=4)) == 2


def test_a_login_without_openid(deployed: Deployed, credentials: Credentials) -> None:
    """Credentials that give no identity token are refused with the next step, and no token is shown."""
    cloud, functions, _, _ = deployed
    cloud.openid = False
    credentials(person())
    told = error(run(*HERE))
    assert told["status"] == "UNAUTHENTICATED"
    assert "gcloud auth application-default login" in told["message"]
    assert "ya29" not in told["message"]
    assert functions.asked == []


def test_nobody_is_signed_in(deployed: Deployed) -> None:
    """Without credentials the sentence says how to sign in."""
    told = error(run(*HERE))
    assert told["status"] == "UNAUTHENTICATED"
    assert "gcloud auth application-default login" in told["message"]


def test_who_may_not_look_up_the_functions(deployed: Deployed, credentials: Credentials) -> None:
    """Who lacks the role to list functions is told the variable that makes it unneeded."""
    cloud, _, _, _ = deployed
    cloud.denied.add(h.FUNCTIONS)
    credentials(person())
    told = error(run(*HERE))
    assert told["status"] == "PERMISSION_DENIED"
    assert "roles/cloudfunctions.viewer" in told["message"]
    assert "MAILMIRROR_MANAGE_URL" in told["message"]
    assert "terraform output -raw manage_mailboxes_uri" in told["message"].replace(" -chdir=terraform", "")


def test_a_region_without_a_deployment(deployed: Deployed, credentials: Credentials) -> None:
    """A region that has none is not taken for another."""
    credentials(person())
    told = error(run(*HERE, "--region=us-east1"))
    assert "not deployed in us-east1" in told["message"]


def test_who_may_not_call(deployed: Deployed, credentials: Credentials) -> None:
    """Cloud Run's own refusals, which are no JSON, become sentences with a next step."""
    _, functions, _, _ = deployed
    credentials(person())
    functions.token = "another"
    told = error(run(*HERE))
    assert (told["code"], told["status"]) == (401, "UNAUTHENTICATED")
    assert "sign in again" in told["message"]


def test_nothing_says_where(nobody: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without project and address it is wrong usage, and says both ways."""
    for variable in (*VARIABLES.values(), "MAILMIRROR_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    result = run("list", "--json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)["error"]
    assert told["status"] == "INVALID_ARGUMENT"
    assert "--project" in told["message"]
    assert "MAILMIRROR_MANAGE_URL" in told["message"]
    result = run("list")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--project" in result.stderr


@pytest.mark.parametrize("address", ["http://mailmirror.example.com", "ftp://127.0.0.1", "mailmirror", "https://"])
def test_no_token_goes_over_plain_http(address: str, nobody: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that is neither https nor on this machine is refused before anything is sent."""
    monkeypatch.setenv(VARIABLES["manage_mailboxes"], address)
    result = run("list")
    assert result.exit_code == 2
    assert "https address" in " ".join(result.stderr.split())


def test_a_local_stack_gets_no_token(deployed: Deployed, credentials: Credentials, ask: Any) -> None:
    """What is on this machine is asked as nobody, though somebody is signed in; a project that is typed counts more."""
    _, functions, _, _ = deployed
    credentials(person())
    assert run("list", "--json").exit_code == 0
    assert functions.asked == []
    assert run(*HERE).exit_code == 0
    assert [each[:3] for each in functions.asked] == [("GET", "manage_mailboxes", "/mailboxes")]


def test_the_project_in_the_environment(
    deployed: Deployed, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MAILMIRROR_PROJECT and MAILMIRROR_REGION do what the options do."""
    credentials(person())
    monkeypatch.setenv("MAILMIRROR_PROJECT", "my-project")
    assert run("list").exit_code == 0
    monkeypatch.setenv("MAILMIRROR_REGION", "us-east1")
    assert run("list").exit_code == 1


def test_a_token_is_a_token() -> None:
    """The stand-in's tokens are such as the command reads."""
    assert jwt.decode(identity("a", Cloud().now, OPERATOR), verify=False)["aud"] == "a"
