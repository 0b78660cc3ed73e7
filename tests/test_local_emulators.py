"""Google's emulators: found or named as missing, and gone in every case, also with a parent that was killed."""

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from local.emulators import EmulatorsMissing, EmulatorTools, FirestoreEmulator, PubSubEmulator, find
from local.process import REPOSITORY, ProcessFailed

SCRIPTS = {
    "cloud-firestore-emulator": "platform/cloud-firestore-emulator/cloud_firestore_emulator",
    "pubsub-emulator": "platform/pubsub-emulator/bin/cloud-pubsub-emulator",
}
BOTH = pytest.mark.parametrize("name", ["FirestoreEmulator", "PubSubEmulator"])


def _answers(host: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{host}/", timeout=5):
            return True
    except OSError:
        return False


def _gone(host: str) -> bool:
    """Whether it stops answering within a few seconds: its Java process is killed, not waited for."""
    give_up = time.monotonic() + 10
    while (answers := _answers(host)) and time.monotonic() < give_up:
        time.sleep(0.05)
    return not answers


def _emulator(name: str, tools: EmulatorTools) -> FirestoreEmulator | PubSubEmulator:
    return FirestoreEmulator(tools.firestore) if name == "FirestoreEmulator" else PubSubEmulator(tools.pubsub)


def test_without_gcloud_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `gcloud` on the PATH is no stack trace."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmulatorsMissing) as missing:
        find()
    assert str(missing.value) == "gcloud is not on the PATH: install the Google Cloud SDK to use Google's emulators."


@pytest.mark.parametrize("component", SCRIPTS)
def test_a_missing_script_is_named_with_the_command_that_installs_it(
    component: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An SDK without one of the emulators: the message says which one, where it was looked for, and what to type."""
    gcloud = tmp_path / "bin" / "gcloud"
    gcloud.parent.mkdir()
    gcloud.write_text(f"#!/bin/sh\necho '{tmp_path}'\n")
    gcloud.chmod(0o755)
    for other, script in SCRIPTS.items():
        if other != component:
            (tmp_path / script).parent.mkdir(parents=True)
            (tmp_path / script).touch()
    monkeypatch.setenv("PATH", str(gcloud.parent))
    with pytest.raises(EmulatorsMissing) as missing:
        find()
    assert str(missing.value) == (
        f"The Cloud SDK in {tmp_path} has no {component}: run `gcloud components install {component}`."
    )


def test_a_script_that_ends_at_once_shows_its_last_output(tmp_path: Path) -> None:
    """Whoever starts an emulator that cannot start reads why."""
    script = tmp_path / "emulator"
    script.write_text("#!/bin/sh\necho This Java is too old.\nexit 1\n")
    script.chmod(0o755)
    with pytest.raises(
        ProcessFailed, match=r"(?s)The Firestore emulator ended while it started\..*This Java is too old\."
    ):
        FirestoreEmulator(script).__enter__()


@BOTH
def test_an_emulator_answers_inside_its_block_and_is_gone_after_it(name: str, emulator_tools: EmulatorTools) -> None:
    """The end of the `with` block ends the Java process too."""
    with _emulator(name, emulator_tools) as emulator:
        assert _answers(emulator.host)
    assert _gone(emulator.host)


@BOTH
def test_an_emulator_dies_with_its_killed_parent(name: str, emulator_tools: EmulatorTools) -> None:
    """`kill -9` leaves the starting process no time to clean up, and yet nothing stays behind."""
    script = (
        "import sys, time; from pathlib import Path; from local import emulators\n"
        "with getattr(emulators, sys.argv[1])(Path(sys.argv[2])) as emulator:\n"
        "    print(emulator.host, flush=True)\n"
        "    time.sleep(600)"
    )
    path = emulator_tools.firestore if name == "FirestoreEmulator" else emulator_tools.pubsub
    command = [sys.executable, "-c", script, name, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as parent:
        assert parent.stdout is not None
        host = parent.stdout.readline().strip()
        answered = _answers(host)
        parent.kill()
    assert answered
    assert _gone(host)
