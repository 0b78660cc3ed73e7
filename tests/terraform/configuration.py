"""Terraform's command line on a copy of a configuration.

Knows: what a copy must not bring along, and how to keep the developer's machine out of it: no state, no variables, no
credentials, no lock file. Does not know: what the configuration says. Providers are whatever `terraform init` finds;
the token given to them instead of credentials is none, so that nothing here can change anything at Google.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OLDEST = (1, 11)
# What every deployment must say.
WHERE = {"project": "my-project", "region": "europe-west1"}

_LEFT_BEHIND = shutil.ignore_patterns(
    *(".terraform", ".terraform.lock.hcl", "*.tfstate*", "*tfplan", "*.tfvars", "*.tfvars.json", "backend.tf", "build"),
    *("__pycache__", "*_cache"),
)
_FOREIGN = ("CLOUDSDK_", "GCLOUD_", "GOOGLE_", "TF_CLI_ARGS", "TF_DATA_DIR", "TF_LOG", "TF_VAR_", "TF_WORKSPACE")


class TerraformMissing(Exception):
    """Terraform or its providers are not to be had on this machine; the message says what to do."""


class TerraformFailed(Exception):
    """Terraform refused what it was asked; the message is its own."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Another text in a file: `new` where `old` stands, once."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """An initialised copy of terraform/ or of a configuration in it, with a copy of functions/ beside terraform/.

    Attributes:
        folder: where the .tf files are.
    """

    folder: Path

    def run(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
        """Run `terraform` in the folder.

        Args:
            arguments: its command line.
            accept: exit codes that are not a failure.

        Raises:
            TerraformFailed: it ended with another exit code.
        """
        done = subprocess.run(
            ["terraform", *arguments],
            cwd=self.folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in accept:
            raise TerraformFailed(f"terraform {' '.join(arguments)}\n{done.stdout}\n{done.stderr}")
        return done

    def variables(self, **values: object) -> str:
        """Write variables, on top of `WHERE`, and return the argument that passes them."""
        (self.folder / "values.json").write_text(json.dumps(WHERE | values))
        return "-var-file=values.json"

    def plan(self, **values: object) -> dict[str, Any]:
        """Return the plan of a first deployment with these variables, as `terraform show -json` tells it."""
        self.run("plan", "-input=false", "-lock=false", "-out=tfplan", "-no-color", self.variables(**values))
        document: dict[str, Any] = json.loads(self.run("show", "-json", "tfplan").stdout)
        return document

    def copy(self, name: str, edits: Iterable[Edit] = ()) -> "Configuration":
        """Copy the configuration, to be run without another `init`.

        Args:
            name: folder of the copy, beside this one.
            edits: what is different in the copy.
        """
        folder = self.folder.with_name(name)
        shutil.copytree(self.folder, folder, ignore=_LEFT_BEHIND)
        for part in (".terraform", ".terraform.lock.hcl"):
            if (self.folder / part).exists():
                (folder / part).symlink_to(self.folder / part)
        for edit in edits:
            text = (folder / edit.file).read_text()
            assert text.count(edit.old) == 1, f"{edit.old!r} occurs {text.count(edit.old)} times in {edit.file}"
            (folder / edit.file).write_text(text.replace(edit.old, edit.new))
        return Configuration(folder)


def initialised(folder: Path, which: str = "terraform") -> Configuration:
    """Copy terraform/ and functions/ into a folder and run `terraform init` there.

    Args:
        folder: where to.
        which: the configuration that is initialised, `terraform` or a folder in it.

    Raises:
        TerraformMissing: Terraform is not on the PATH or too old, or the providers cannot be had.
    """
    wanted = f"Terraform {OLDEST[0]}.{OLDEST[1]} or newer is needed: put terraform on the PATH."
    if shutil.which("terraform") is None:
        raise TerraformMissing(wanted)
    for part in ("terraform", "functions"):
        shutil.copytree(ROOT / part, folder / part, ignore=_LEFT_BEHIND)
    configuration = Configuration(folder / which)
    version: str = json.loads(configuration.run("version", "-json").stdout)["terraform_version"]
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise TerraformMissing(f"{wanted} This one is {version}.")
    done = configuration.run("init", "-backend=false", "-input=false", "-no-color", accept=(0, 1))
    if done.returncode != 0:
        said = " ".join(done.stderr.rpartition("Error:")[2].split())
        raise TerraformMissing(f"terraform init needs its registry, or providers that are installed already. {said}")
    return configuration


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return kept | {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "GOOGLE_OAUTH_ACCESS_TOKEN": "none"}
