"""Law 5, with processes: whatever is killed, whenever, the mirror ends equal to the mailbox."""

import random
import time
from pathlib import Path

import pytest
import requests

from local import mail
from local.demo import FIRST_DAY, LAST_DAY, compare
from local.owner import MAILBOX, Owner
from local.process import ProcessFailed
from local.stack import PROJECT, Settings, Stack, call
from local.story import Status

SEED = 20
KILLS = 20
MESSAGES = 300
# Those that write the mirror are hit most often.
WRITERS = ("run_work", "sync_history", "trigger_sync")
VICTIMS = (*["run_work"] * 6, *["sync_history"] * 2, "trigger_sync", "sweep_mailboxes", "manage_mailboxes")


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("emulator_tools")
def test_functions_killed_at_random_moments_leave_no_trace_in_the_mirror(tmp_path: Path) -> None:
    """Twenty kills -9, most of them of workers in the middle of a sync, mail arriving all the while: no difference."""
    rng = random.Random(SEED)
    stream = list(mail.made_up(rng, MESSAGES + 400, 400, start=FIRST_DAY, end=LAST_DAY))
    settings = Settings(tmp_path, "emulators", seed=SEED, lease_seconds=2, sweep_seconds=0.5)
    with Stack(settings) as stack:
        owner = Owner(stack.gmail, rng, iter(stream[MESSAGES:]))
        call("POST", f"{stack.gmail}/control/mailboxes", {"emailAddress": MAILBOX})
        owner.receive(stream[:MESSAGES])
        # Gmail answers slowly, so that a sync takes seconds and a kill finds somebody at work.
        call("POST", f"{stack.gmail}/control/latency", {"seconds": 0.07})
        call("PUT", f"{stack.url('manage_mailboxes')}/mailboxes/{MAILBOX}", {})
        hit = _kill_again_and_again(stack, owner, rng)
        call("POST", f"{stack.gmail}/control/latency", {"seconds": 0})
        status = _settled(stack)
        seen = [*status.lines(), f"problem: {status.mailbox.get('problem')}", stack.processes["run_work"].last_lines()]
        assert status.settled, "\n".join(seen)
        assert {row.name: row.differences for row in compare(stack) if row.differences} == {}
        assert stack.dead_letters() == {"gmail-notifications": [], "mailbox-work": []}
    assert hit >= KILLS / 4, f"Only {hit} of {KILLS} kills found a worker at work: this proves too little."


def _kill_again_and_again(stack: Stack, owner: Owner, rng: random.Random) -> int:
    """Let mail happen, kill a function, start it again; return how many kills left a lease that nobody released."""
    hit, orphan = 0, None
    for _ in range(KILLS):
        for _ in range(rng.randrange(1, 6)):
            owner.act()
        if Status.of(stack).run.get("stage") == "finished":
            _ask_for_a_full_sync(stack)
        victim = rng.choice(VICTIMS)
        if victim in WRITERS and rng.random() < 0.6:
            _wait_for_somebody_at_work(stack, orphan)
        time.sleep(rng.uniform(0, 0.6))
        stack.kill(victim)
        left = _lease(stack)
        hit += left is not None and left != orphan and victim in WRITERS
        orphan = left
        stack.restart(victim)
    return hit


def _ask_for_a_full_sync(stack: Stack) -> None:
    url = f"{stack.url('trigger_sync')}/mailboxes/{MAILBOX}/sync?mode=full&wait=0"
    try:
        call("POST", url)
    except ProcessFailed:
        # The mailbox may be throttled or its worker dead: then there is work already.
        return


def _wait_for_somebody_at_work(stack: Stack, orphan: str | None) -> None:
    """Wait for a lease that was written after the last kill.

    Two kills in a row may hit the same turn. After the third the engine would take one message at a time and park the
    one in hand: that is right, and has tests of its own.
    """
    give_up = time.monotonic() + 15
    while time.monotonic() < give_up:
        if _lease(stack) not in {None, orphan} and Status.of(stack).mailbox.get("takeovers", 0) < 2:
            return
        time.sleep(0.05)


def _lease(stack: Stack) -> str | None:
    """When the lease was last written, None if nobody holds it."""
    path = f"projects/{PROJECT}/databases/(default)/documents/leases/{MAILBOX}"
    lease = requests.get(f"http://{stack.firestore}/v1/{path}", timeout=30).json()
    held = lease.get("fields", {}).get("owner", {}).get("stringValue")
    return str(lease["updateTime"]) if held else None


def _settled(stack: Stack) -> Status:
    give_up = time.monotonic() + 120
    while True:
        status = Status.of(stack)
        if (status.settled and not status.mailbox["counts"]["parked"]) or time.monotonic() > give_up:
            return status
        time.sleep(0.3)
