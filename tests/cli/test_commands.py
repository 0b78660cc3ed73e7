"""What the doctor gives to paste can be pasted: one line, quoted for a shell, and known to gcloud and make."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from mailmirror_cli import commands
from tests import source
from tests.cli.diseases import ALL
from tests.conftest import Require

GRANTS = (
    commands.grant("my-project", "user:o'brien@example.com", "roles/pubsub.viewer"),
    commands.grant("my-project", None, "roles/pubsub.viewer"),
)
PROPOSED = sorted({command for disease in ALL for command in disease.commands} | set(GRANTS))


def test_a_command_is_one_line() -> None:
    """Each is a line that a shell can take apart."""
    for command in PROPOSED:
        assert "\n" not in command
        assert shlex.split(command)


def test_a_grant_is_quoted() -> None:
    """An address with an apostrophe stays one word; nobody in particular is whoever is signed in to gcloud."""
    known, nobody = (shlex.split(grant) for grant in GRANTS)
    assert "--member=user:o'brien@example.com" in known
    assert "--member=user:$(gcloud config get-value account)" in nobody


def test_make_knows_its_targets() -> None:
    """Targets and variables are the Makefile's."""
    makefile = (Path(__file__).resolve().parents[2] / "Makefile").read_text()
    asked = [shlex.split(command) for command in PROPOSED if command.startswith("make ")]
    assert {words[1] for words in asked} == {"deploy", "consent"}
    assert {words[1] for words in asked} <= source.make_targets()
    for words in asked:
        for variable in re.findall(r"([A-Z]+)=", " ".join(words)):
            assert f"$({variable})" in makefile


def test_a_deployment_without_a_region_is_asked_for_one() -> None:
    """Where the region is not known no other is made up: `make deploy` says itself what is missing."""
    assert commands.deploy("my-project", None) == "make deploy PROJECT=my-project REGION="


def test_gcloud_knows_the_commands(tmp_path: Path, require: Require, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser of gcloud accepts each command with its flags."""
    require(shutil.which("gcloud"), "gcloud is not on the PATH: install the Google Cloud SDK.")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    asked = [command for command in PROPOSED if command.startswith("gcloud ")]
    # One for each way to ask: which topic or account is meant is all the same to the parser.
    asked = list(
        {re.sub(r"=\S+|\b(?:gmail|mailbox|mailmirror|my)-\S+", "", command): command for command in asked}.values()
    )
    asked += [match[1] for command in PROPOSED for match in re.finditer(r"\$\((gcloud [^)]*)\)", command)]
    file = tmp_path / "commands.json"
    # What a shell would put in its place.
    lines = [{"command_string": re.sub(r"\$\([^)]*\)", "ops@example.com", command)} for command in asked]
    file.write_text(json.dumps(lines))
    lint = ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"]
    done = subprocess.run(lint, capture_output=True, text=True, check=True)
    verdicts = json.loads(done.stdout)
    assert len(verdicts) == len(asked)
    assert {each["command_string"]: each["error_message"] for each in verdicts if not each["success"]} == {}
