"""What tests of the command share: an operator with credentials, and Google as a project in data."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from local.gmail.server import serve
from mailmirror_cli import runs
from mailmirror_cli.__main__ import cli
from mailmirror_cli.google import ROOT_VARIABLE
from tests.cli.functions import Functions, local, served
from tests.cli.googleapis import REFRESH_TOKEN, SIGN_IN, Cloud, create_app
from tests.world import World, mail

Run = Callable[..., Result]
SignIn = Callable[..., None]
Serve = Callable[[Cloud], str]


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nobody is signed in, and that is not one of Google's."""
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def operator(nobody: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SignIn:
    """`operator(root)`: a person is signed in, whose tokens come from there.

    Of all kinds of credentials this one goes nowhere but to the address it names.
    """
    monkeypatch.delenv("GOOGLE_CLOUD_QUOTA_PROJECT", raising=False)
    # What is on this machine is not behind its proxy.
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def sign_in(root: str, refresh_token: str = REFRESH_TOKEN) -> None:
        credentials = {
            "type": "external_account_authorized_user",
            "audience": "//iam.googleapis.com/nowhere",
            "client_id": "gcloud",
            "client_secret": "not-a-secret",
            "refresh_token": refresh_token,
            "token_url": f"{root}/{SIGN_IN}",
        }
        file = tmp_path / "credentials.json"
        file.write_text(json.dumps(credentials))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))

    return sign_in


@pytest.fixture
def serving() -> Iterator[Serve]:
    """`serving(cloud)`: Google is `cloud`, at the address that is returned."""
    servers = []

    def serving(cloud: Cloud) -> str:
        server = serve(create_app(cloud))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield serving
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def run(serving: Serve, operator: SignIn, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run(cloud, *arguments)`: the operator runs `mailmirror` with these arguments, and Google is `cloud`."""

    def run(cloud: Cloud, *arguments: str) -> Result:
        root = serving(cloud)
        operator(root)
        monkeypatch.setenv(ROOT_VARIABLE, root)
        return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)

    return run


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> Iterator[Functions]:
    """The functions on this machine, where the command is told to find them; a mailbox of three mails at Gmail."""
    monkeypatch.setattr(runs, "POLL_SECONDS", 0.001)
    world = World()
    for number in range(3):
        world.ada.deliver(mail(f"Old {number}"))
    functions = Functions(world)
    with served(functions) as address:
        local(address, monkeypatch)
        yield functions


@pytest.fixture
def ask(functions: Functions) -> Run:
    """`ask(*arguments)`: somebody runs `mailmirror` with these arguments, and the functions are on this machine."""

    def ask(*arguments: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(cli, list(arguments), input=typed, catch_exceptions=False)

    return ask
