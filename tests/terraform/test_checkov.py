"""The configuration under checkov: what does not pass is explained beside the resource, and what is explained is true.

checkov leaves out a resource with a `count` whose condition it cannot work out, without a word. What is scanned here is
therefore a copy of the committed files in which no resource has one.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.terraform.environment import CannotInstall, environment
from tests.test_repository import ROOT, SCANNER, repository_files

TERRAFORM = ROOT / "terraform"
SKIP = re.compile(r"#\s*checkov:skip=(\w+):(.*)")

# The environment is built within the first test, from the network.
pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Finding:
    """A check of one resource, such as CKV_GCP_29 of google_storage_bucket.bodies."""

    check: str
    resource: str

    @property
    def block(self) -> tuple[str, str]:
        """The check and the resource as it is written, whichever of its instances this is."""
        return self.check, self.resource.partition("[")[0]


@dataclass(frozen=True)
class Report:
    """What a scan found.

    Attributes:
        passed, failed: the checks that were made.
        skipped: those that were not, with the reason the file gives.
        unread: files that could not be parsed.
    """

    passed: set[Finding]
    failed: set[Finding]
    skipped: dict[Finding, str]
    unread: list[str]


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Report]:
    """`scan(folder)`: what checkov, as it is pinned, says about a folder; it knows no settings of this machine's."""
    try:
        python = environment("checkov", SCANNER)
    except CannotInstall as error:
        pytest.skip(str(error))
    home = tmp_path_factory.mktemp("home")

    def scan(folder: Path) -> Report:
        command = [str(python), "-I", "-m", "checkov.main", "--directory", str(folder), "--output", "json"]
        environ = {"HOME": str(home), "PATH": os.environ["PATH"]}
        done = subprocess.run(command, cwd=home, env=environ, capture_output=True, text=True, check=False)
        # 1 says that a check failed; everything else is checkov's own trouble.
        assert done.returncode in {0, 1}, done.stderr
        results = json.loads(done.stdout)["results"]
        findings = {
            kind: {
                Finding(each["check_id"], each["resource"]): each["check_result"] for each in results[f"{kind}_checks"]
            }
            for kind in ("passed", "failed", "skipped")
        }
        return Report(
            passed=set(findings["passed"]),
            failed=set(findings["failed"]),
            skipped={finding: result["suppress_comment"] for finding, result in findings["skipped"].items()},
            unread=results["parsing_errors"],
        )

    return scan


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """A copy of the committed files of terraform/, with every resource in it once, whatever its condition."""
    for file in repository_files():
        if file.is_relative_to(TERRAFORM):
            copy = tmp_path / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    copied = tmp_path / TERRAFORM.name
    rewrite(copied, re.compile(r"^  count +=.*\n", re.MULTILINE), "")
    return copied


def rewrite(folder: Path, pattern: re.Pattern[str], replacement: str) -> int:
    """Replace a pattern in every .tf file of a folder; return how often it was there."""
    count = 0
    for file in folder.rglob("*.tf"):
        text, found = pattern.subn(replacement, file.read_text())
        file.write_text(text)
        count += found
    return count


def test_every_failed_check_is_explained(scan: Callable[[Path], Report], configuration: Path) -> None:
    """Every check passes, but for those that a comment beside the resource skips with a reason."""
    report = scan(configuration)
    assert report.unread == []
    assert report.failed == set()
    assert report.passed
    assert [finding for finding, reason in report.skipped.items() if len(reason.strip()) < 20] == []


def test_every_explanation_is_needed(scan: Callable[[Path], Report], configuration: Path) -> None:
    """Without its comment each skipped check fails for its resource: no comment is left over, none hides a pass."""
    comments = [check for file in configuration.rglob("*.tf") for check, _ in SKIP.findall(file.read_text())]
    skipped = {finding.block for finding in scan(configuration).skipped}
    assert sorted(comments) == sorted(check for check, _ in skipped)
    rewrite(configuration, SKIP, "")
    bare = scan(configuration)
    assert bare.skipped == {}
    assert skipped == {finding.block for finding in bare.failed}


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        (
            "uniform_bucket_level_access = true",
            "uniform_bucket_level_access = false",
            Finding("CKV_GCP_29", "google_storage_bucket.source"),
        ),
        (
            'resource "google_storage_bucket" "bodies" {',
            """resource "google_storage_bucket_iam_member" "anybody" {
              bucket = google_storage_bucket.bodies[0].name
              role   = "roles/storage.objectViewer"
              member = "allUsers"
            }
            resource "google_storage_bucket" "bodies" {""",
            Finding("CKV_GCP_28", "google_storage_bucket_iam_member.anybody"),
        ),
    ],
    ids=["rights-of-an-object", "public"],
)
def test_a_mistake_is_found(
    before: str, after: str, finding: Finding, scan: Callable[[Path], Report], configuration: Path
) -> None:
    """A bucket whose objects have rights of their own, or that anybody may read, fails the scan."""
    assert rewrite(configuration, re.compile(re.escape(before)), after)
    assert finding in scan(configuration).failed
