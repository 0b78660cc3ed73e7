"""Laws 2 and 5, with processes: whatever is killed or paused, whenever, the mirror ends equal to the mailbox."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from local.process import REPOSITORY, Process, free_ports
from local.stack import Stack
from tests.e2e.soak import Soak, settings

SEED = 20
ROUNDS = 10
KILLS = 20


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("emulator_tools")
def test_functions_killed_and_paused_at_random_moments_leave_no_trace_in_the_mirror(tmp_path: Path) -> None:
    """Twenty kills -9 and more, and pauses beyond the lease, most of workers in the middle of a sync: no difference."""
    with Stack(settings(tmp_path, SEED)) as stack:
        tally = Soak(stack, ROUNDS, SEED, print).play()
    assert tally.problems == []
    assert tally.rounds == ROUNDS
    assert (tally.checks, tally.live_checks) == (2, 1)
    assert tally.kills >= KILLS
    proof = f"{tally.rows()}: this proves too little."
    assert tally.kills_at_work >= KILLS / 4, f"Too few kills found a worker at work. {proof}"
    assert tally.pauses_at_work >= 3, f"Too few pauses found a worker at work. {proof}"
    assert tally.refused >= 2, f"Too few woke up after another had taken the lease. {proof}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Process, str]]:
    """A process that answers HTTP, and its address."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    process = Process("server", command, env=os.environ, log=tmp_path / "log", ready_url=url)
    process.start()
    try:
        process.wait_until_ready()
        yield process, url
    finally:
        process.kill()


def test_a_paused_process_lets_its_callers_wait_and_goes_on_when_it_is_resumed(server: tuple[Process, str]) -> None:
    """Paused is neither dead nor alive: connections are taken, nobody answers; resumed, it is the same process."""
    process, url = server
    process.pause()
    assert process.alive
    with pytest.raises(requests.ReadTimeout):
        requests.get(url, timeout=1)
    process.resume()
    assert requests.get(url, timeout=30).ok


def test_a_paused_process_can_be_killed(server: tuple[Process, str]) -> None:
    """SIGKILL does not wait for SIGCONT."""
    process, url = server
    process.pause()
    process.kill()
    assert not process.alive
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=30)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_behind_even_if_it_is_paused(tmp_path: Path, how: signal.Signals) -> None:
    """When the process that started it ends, in whatever way, a paused one goes too."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    script = (
        "import os, sys, time; from pathlib import Path; from local.process import Process\n"
        "command = [sys.executable, '-m', 'http.server', '--bind', '127.0.0.1', sys.argv[1]]\n"
        "server = Process('server', command, env=os.environ, log=Path(sys.argv[2]), ready_url=sys.argv[3])\n"
        "server.start(); server.wait_until_ready(); server.pause(); print('paused', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(port), str(tmp_path / "log"), url],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "paused\n"
        assert _listens(url)
        starter.send_signal(how)
        starter.wait()
    give_up = time.monotonic() + 60
    while _listens(url) and time.monotonic() < give_up:
        time.sleep(0.1)
    assert not _listens(url)


def _listens(url: str) -> bool:
    """Whether somebody has the port, be it a process that does not answer or no longer takes connections."""
    try:
        requests.get(url, timeout=1)
    except requests.Timeout:
        return True
    except requests.ConnectionError:
        return False
    return True
