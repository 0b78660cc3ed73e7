"""`make plan` and `make deploy`: what is asked of Terraform, and what is refused before it is asked.

The Makefile is the real one, in a folder of its own; Terraform is a script that writes down how it was called. In the
last test it is Terraform itself, with stand-ins for the providers.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Require
from tests.terraform.configuration import ROOT
from tests.terraform.conftest import Initialise

TERRAFORM = """\
#!/bin/sh
printf '%s|' "$@" >> "$CALLS"
echo >> "$CALLS"
case "$*" in
*"output -raw deployment")
    # Without outputs Terraform warns, where the value would be, and ends as if all were well.
    if [ -n "$DEPLOYED" ]; then printf %s "$DEPLOYED"; else printf '╷\n│ Warning: No outputs found\n│ \n╵\n'; fi ;;
esac
"""
WHERE = ("PROJECT=my-project", "REGION=europe-west1")


@dataclass(frozen=True)
class Made:
    """How a make target ended: its exit code, what it said, and the calls of Terraform, each argument before a `|`."""

    code: int
    said: str
    calls: list[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clone of which only the Makefile counts."""
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    (tmp_path / "terraform").mkdir()
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "terraform"
    script.write_text(TERRAFORM)
    script.chmod(0o755)
    return tmp_path


def make(folder: Path, *arguments: str, deployed: str = "") -> Made:
    """Run make where Terraform's state is of a deployment, or of none."""
    calls = folder / "calls"
    env = os.environ | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "DEPLOYED": deployed,
        "MAKEFLAGS": "",
    }
    done = subprocess.run(["make", *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False)
    return Made(done.returncode, done.stdout + done.stderr, calls.read_text().splitlines() if calls.exists() else [])


def test_a_plan_is_saved(folder: Path) -> None:
    """`make plan` asks for a plan of this project and region and saves it; nothing is applied."""
    made = make(folder, "plan", *WHERE)
    assert made.code == 0, made.said
    assert made.calls[-1].startswith(
        "-chdir=terraform|plan|-var|project=my-project|-var|region=europe-west1|-out=tfplan|"
    )
    assert not any("|apply|" in call for call in made.calls)


@pytest.mark.parametrize("target", ["plan", "deploy"])
@pytest.mark.parametrize("said", [(), WHERE[:1], WHERE[1:]])
def test_where_to_has_to_be_said(folder: Path, target: str, said: tuple[str, ...]) -> None:
    """Without project and region nothing is asked of Terraform, and the sentence gives an example."""
    made = make(folder, target, *said)
    assert made.code != 0
    assert f"Say where to: make {target} PROJECT=" in made.said
    assert made.calls == []


def test_the_state_is_where_it_was_said_to_be(folder: Path) -> None:
    """STATE is remembered: who is not told it again keeps the state in the bucket."""
    for state in (["STATE=my-bucket"], []):
        assert make(folder, "deploy", *WHERE, *state).code == 0
        assert 'bucket = "my-bucket"' in (folder / "terraform" / "backend.tf").read_text()


@pytest.mark.parametrize("state", ["gs://my-bucket", 'my"bucket', "My Bucket", "$(HOME)/state"])
def test_a_state_that_is_no_bucket_is_refused(folder: Path, state: str) -> None:
    """What cannot be a bucket's name is refused, and nothing remembers it."""
    made = make(folder, "deploy", *WHERE, f"STATE={state}")
    assert made.code != 0
    assert "STATE is the name of a bucket" in made.said
    assert not (folder / "terraform" / "backend.tf").exists()


@pytest.mark.parametrize("deployed", ["other-project in europe-west1", "my-project in us-central1"])
def test_another_deployment_is_not_torn_down(folder: Path, deployed: str) -> None:
    """Where the state is of a deployment elsewhere, neither a plan nor an apply is asked for."""
    for target in ("plan", "deploy"):
        made = make(folder, target, *WHERE, deployed=deployed)
        assert made.code != 0
        assert f"The state here is that of {deployed}" in made.said
        assert not any("|plan|" in call or "|apply|" in call for call in made.calls)
    assert make(folder, "deploy", *WHERE, deployed="my-project in europe-west1").code == 0


def test_a_value_is_one_word(folder: Path) -> None:
    """Whatever is in a value, it reaches Terraform as it was said, and the shell does nothing with it."""
    made = make(folder, "plan", "PROJECT=o'brien; touch planted", "REGION=europe-west1")
    assert made.calls[-1].startswith("-chdir=terraform|plan|-var|project=o'brien; touch planted|-var|")
    assert not (folder / "planted").exists()


@pytest.mark.applies
@pytest.mark.timeout(600)
def test_a_deployment_from_nothing(initialise: Initialise, require: Require, tmp_path: Path) -> None:
    """With Terraform itself: the first deployment is made, a plan after it is empty, one for elsewhere is refused."""
    require("TF_REATTACH_PROVIDERS" in os.environ, "Stand-ins for the providers are needed: the real ones call Google.")
    copy = initialise("terraform").copy("made")
    shutil.copytree(copy.folder, tmp_path / "terraform")
    shutil.copytree(ROOT / "functions", tmp_path / "functions")
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")

    def run(target: str, *where: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"CHECKPOINT_DISABLE": "1", "MAKEFLAGS": "", "TF_CLI_ARGS": "-no-color"}
        command = ["make", target, *where]
        return subprocess.run(
            command, cwd=tmp_path, env=env, input="yes\n", capture_output=True, text=True, check=False
        )

    assert "Apply complete!" in run("deploy", *WHERE).stdout
    assert "No changes." in run("plan", *WHERE).stdout
    elsewhere = run("deploy", "PROJECT=other-project", WHERE[1])
    assert elsewhere.returncode != 0
    assert "The state here is that of my-project in europe-west1" in elsewhere.stderr
