"""The stack itself, with functions so small that only the stack can be at fault."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from local.process import REPOSITORY, ProcessFailed
from local.stack import FOR_CONSENT, FUNCTIONS, Settings, Stack, call

SOURCE = """
import json, os, functions_framework

def answer(request):
    if request.path == "/environment":
        return dict(os.environ)
    with open(os.environ["RECEIVED"], "a") as file:
        file.write(json.dumps([os.environ["FUNCTION_TARGET"], request.get_json(silent=True)]) + "\\n")
    return "", 204

""" + "\n".join(f"{name} = functions_framework.http(answer)" for name in FUNCTIONS)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the stack of this module keeps its files."""
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="module")
def stack(directory: Path) -> Iterator[Stack]:
    """One stack for the module."""
    source = directory / "main.py"
    source.write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECEIVED", str(directory / "received"))
        patch.setenv("GOOGLE_CLOUD_PROJECT", "a-real-project")
        patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/a/real/key.json")
        with Stack(Settings(directory, source=source, sweep_seconds=0.2)) as stack:
            yield stack


def _received(directory: Path, function: str) -> list[object]:
    file = directory / "received"
    lines = file.read_text().splitlines() if file.exists() else []
    return [body for name, body in map(json.loads, lines) if name == function]


def _until_received(directory: Path, function: str) -> object:
    give_up = time.monotonic() + 60
    while not (bodies := _received(directory, function)) and time.monotonic() < give_up:
        time.sleep(0.05)
    return bodies[0] if bodies else None


def test_each_function_runs_in_a_process_of_its_own_and_the_scheduler_calls_two(stack: Stack, directory: Path) -> None:
    """What Cloud Scheduler would call is called."""
    assert {*FUNCTIONS, "pubsub", "gmail", "storage", "scheduler"} - FOR_CONSENT == stack.processes.keys()
    assert all(process.alive for process in stack.processes.values())
    assert _until_received(directory, "sweep_mailboxes") == {}


def test_what_is_published_is_pushed_to_its_function(stack: Stack, directory: Path) -> None:
    """A work message reaches run_work in Pub/Sub's envelope."""
    topic = f"{stack.pubsub}/v1/projects/mailmirror-local/topics/mailbox-work"
    call("POST", f"{topic}:publish", {"messages": [{"data": "e30="}]})
    envelope = _until_received(directory, "run_work")
    assert isinstance(envelope, dict)
    assert envelope["message"]["data"] == "e30="


def test_the_developers_own_project_stays_out(stack: Stack) -> None:
    """No process of the stack can reach a real project, whatever the shell it was started from says."""
    environment = requests.get(f"{stack.url('run_work')}/environment", timeout=10).json()
    assert environment["GOOGLE_CLOUD_PROJECT"] == "mailmirror-local"
    assert environment["GMAIL_API_ROOT"].startswith("http://127.0.0.1:")
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in environment


def test_a_killed_function_comes_back_at_the_same_address(stack: Stack) -> None:
    """SIGKILL takes the whole process group; restart returns when it answers again."""
    url = stack.url("trigger_sync")
    stack.kill("trigger_sync")
    with pytest.raises(requests.ConnectionError):
        requests.post(url, timeout=10)
    stack.restart("trigger_sync")
    assert requests.post(url, json={}, timeout=10).status_code == 204


def test_a_function_that_cannot_start_shows_why(tmp_path: Path) -> None:
    """The end of its log is in the message, and nothing stays behind."""
    source = tmp_path / "main.py"
    source.write_text("raise RuntimeError('GMAIL_TOPIC is missing')")
    stack = Stack(Settings(tmp_path, source=source))
    with pytest.raises(ProcessFailed, match="GMAIL_TOPIC is missing"):
        stack.__enter__()
    assert not any(process.alive for process in stack.processes.values())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_stays_behind_however_the_stack_ends(tmp_path: Path, how: signal.Signals) -> None:
    """Ctrl-C, a polite end and kill -9 of the starting process all end every process of the stack."""
    source = tmp_path / "main.py"
    source.write_text(SOURCE)
    script = (
        "import json, sys, time; from pathlib import Path; from local.stack import Settings, Stack\n"
        "with Stack(Settings(Path(sys.argv[1]), source=Path(sys.argv[1]) / 'main.py')) as stack:\n"
        "    print(json.dumps([stack.url(n) for n in stack.processes if n != 'scheduler']), flush=True)\n"
        "    time.sleep(600)"
    )
    environment = os.environ | {"RECEIVED": str(tmp_path / "received"), "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        urls = json.loads(process.stdout.readline())
        assert all(_answers(url) for url in urls)
        process.send_signal(how)
        process.wait()
    give_up = time.monotonic() + 60
    while (left := [url for url in urls if _answers(url)]) and time.monotonic() < give_up:
        time.sleep(0.1)
    assert left == []


def _answers(url: str) -> bool:
    try:
        requests.get(f"{url}/robots.txt", timeout=5)
    except requests.RequestException:
        return False
    return True
