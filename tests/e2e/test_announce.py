"""Events downstream on the whole stack: an application subscribes and gets each delta, in order.

Google's emulator filters nothing; here the application looks at `origin` itself.
"""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from local.stack import PROJECT, Settings, Stack, call

ADA = "ada@example.com"
TOPIC = f"projects/{PROJECT}/topics/mailbox-deltas"
OLD = 5
NEWS = 8
LIMIT = 60.0


@pytest.mark.usefixtures("emulator_tools")
def test_an_application_gets_what_is_new(tmp_path: Path) -> None:
    """All deltas of a mailbox come, in order, although workers are killed meanwhile; by their attribute `origin` those
    that are news are told from a backfill's.
    """
    with Stack(Settings(tmp_path, backend="emulators", deltas=True, lease_seconds=2)) as stack:
        subscription = f"{stack.pubsub}/v1/projects/{PROJECT}/subscriptions/my-app"
        call("PUT", subscription, {"topic": TOPIC, "enableMessageOrdering": True})
        call("POST", f"{stack.gmail}/control/mailboxes", {"emailAddress": ADA})
        for number in range(OLD):
            deliver(stack, f"Old {number}")
        mailbox = f"{stack.url('manage_mailboxes')}/mailboxes/{ADA}"
        call("PUT", mailbox, {})
        until(lambda: call("GET", mailbox)["phase"] == "live")
        for number in range(NEWS):
            deliver(stack, f"New {number}")
            if number % 4 == 3:
                for name in ("sync_history", "run_work"):
                    stack.restart(name)
        messages: list[dict[str, Any]] = []
        until(lambda: added(pulled(subscription, messages)) >= OLD + NEWS)
    told = [json.loads(base64.b64decode(message["data"])) for message in messages]
    first = list(dict.fromkeys(delta["seq"] for delta in told))
    assert first == list(range(1, 1 + len(first)))
    assert added([message for message in messages if message["attributes"]["origin"] == "live"]) == NEWS
    for message, delta in zip(messages, told, strict=True):
        assert message["orderingKey"] == ADA
        assert message["attributes"]["ce-id"] == delta["cursor"]
        assert message["attributes"]["ce-source"] == f"//mailmirror/projects/{PROJECT}/mailboxes/{ADA}"


def deliver(stack: Stack, subject: str) -> None:
    """Let a message come."""
    source = f"From: grace@example.com\r\nTo: {ADA}\r\nSubject: {subject}\r\n\r\nHi.\r\n".encode()
    call(
        "POST",
        f"{stack.gmail}/control/mailboxes/{ADA}/deliver",
        {"messages": [{"raw": base64.urlsafe_b64encode(source).decode()}]},
    )


def pulled(subscription: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Take what is there, and acknowledge it; return all."""
    items = call("POST", f"{subscription}:pull", {"maxMessages": 10, "returnImmediately": True}).get(
        "receivedMessages", []
    )
    if items:
        call("POST", f"{subscription}:acknowledge", {"ackIds": [item["ackId"] for item in items]})
    messages += [item["message"] for item in items]
    return messages


def added(messages: list[dict[str, Any]]) -> int:
    """How many messages were told to be new, each once."""
    changes = [change for message in messages for change in json.loads(base64.b64decode(message["data"]))["changes"]]
    return len({change["messageId"] for change in changes if change["type"] == "messageAdded"})


def until(so: Any) -> None:
    """Wait until something is so."""
    give_up = time.monotonic() + LIMIT
    while not so():
        assert time.monotonic() < give_up
        time.sleep(0.1)
