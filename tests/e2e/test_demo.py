"""The demonstration as a person runs it: a process of its own, its exit code, what it prints."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from local.mail import write_mbox
from local.process import REPOSITORY


def _demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local", "demo", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def _report(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert ended.stdout, ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout)
    assert ended.returncode == 0, json.dumps(report, indent=1)
    return report


def _check(report: dict[str, Any]) -> None:
    assert report["equal"]
    assert [row["name"] for row in report["rows"] if row["differences"]] == []
    assert report["unitsRefused"] == 0
    assert report["mailbox"]["run"]["mode"] == "audit"
    assert {name: report["mailbox"]["coverage"][name] for name in ("missing", "extra", "parked")} == {
        "missing": 0,
        "extra": 0,
        "parked": 0,
    }


@pytest.mark.timeout(300)
def test_the_whole_demonstration_ends_with_mailbox_and_mirror_equal() -> None:
    """2,000 messages, 300 changes during the first sync, lost notifications, expired history: no difference."""
    ended = _demo("--seed", "7")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Equal." in ended.stdout.splitlines()[-1]


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("emulator_tools")
def test_a_small_demonstration_on_googles_emulators() -> None:
    """Firestore and Pub/Sub as Google emulates them end with the same result, reported for programs."""
    arguments = ("--backend", "emulators", "--messages", "300", "--changes", "60", "--seed", "3", "--json")
    report = _report(_demo(*arguments))
    _check(report)
    assert report["notifications"]["lost"] > 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", ["sqlite", "emulators"])
def test_a_mailbox_filled_from_an_mbox_of_malformed_mail(
    backend: str, tmp_path: Path, require: Callable[[object, str], None], request: pytest.FixtureRequest
) -> None:
    """CPython's own collection of broken messages is mirrored to the last character, in either database."""
    if backend == "emulators":
        request.getfixturevalue("emulator_tools")
    spec = find_spec("test.test_email")
    require(spec, "This Python comes without its test suite, whose e-mail samples fill the mailbox.")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    samples = sorted((Path(spec.submodule_search_locations[0]) / "data").glob("msg_*.txt"))
    require(samples, "This Python's test suite comes without its e-mail samples.")
    mbox = tmp_path / "samples.mbox"
    write_mbox(mbox, [sample.read_bytes() for sample in samples])
    report = _report(_demo("--backend", backend, "--mbox", str(mbox), "--changes", "40", "--json"))
    _check(report)
    assert len(samples) >= 40


def test_a_file_that_is_not_there_is_said_in_a_sentence() -> None:
    """No stack trace for a mistyped name."""
    ended = _demo("--mbox", "no-such-file.mbox")
    assert ended.returncode == 2
    assert ended.stderr.startswith("There is no file no-such-file.mbox")
