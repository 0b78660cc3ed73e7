"""What a mailbox has in the bucket, with functions as processes: kept, read by HTTP, and gone with the mailbox."""

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path
from random import Random
from sqlite3 import connect
from typing import Any

import pytest
import requests

from local import mail
from local.demo import compare, read_mirror
from local.gmail import mime
from local.owner import MAILBOX, Owner
from local.sides import read_truth
from local.stack import BUCKET, Attachments, Settings, Stack, call

MESSAGES = 200
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
LIMIT = 120.0


@pytest.fixture(params=["none", "store"])
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    """A stack that keeps the bytes of attachments, or not, with a mailbox that is mirrored."""
    with Stack(Settings(tmp_path, attachments=request.param, seed=3)) as stack:
        call("POST", f"{stack.gmail}/control/mailboxes", {"emailAddress": MAILBOX})
        made_up = mail.made_up(Random(3), MESSAGES, MESSAGES // 2, start=START, end=END)
        owner = Owner(stack.gmail, Random(3), iter(()))
        owner.receive(list(islice(made_up, MESSAGES)))
        call("PUT", f"{stack.url('manage_mailboxes')}/mailboxes/{MAILBOX}", {})
        _until(lambda: _state(stack).get("phase") == "live")
        yield stack


def _until(done: Callable[[], bool]) -> None:
    give_up = time.monotonic() + LIMIT
    while not done():
        assert time.monotonic() < give_up
        time.sleep(0.2)


def _state(stack: Stack) -> dict[str, Any]:
    return call("GET", f"{stack.url('manage_mailboxes')}/mailboxes/{MAILBOX}")


def _objects(stack: Stack) -> list[str]:
    """The names of all objects in the bucket."""
    answer = call("GET", f"{stack.storage}/storage/v1/b/{BUCKET}/o")
    assert "nextPageToken" not in answer
    return [item["name"] for item in answer.get("items", [])]


@pytest.mark.timeout(300)
def test_attachments_are_read_from_gmail_or_from_the_bucket_and_leave_nothing_behind(stack: Stack) -> None:
    """Each is what was sent, byte by byte; a deleted mailbox leaves 0 documents and 0 objects."""
    stores: Attachments = stack.settings.attachments
    assert [row for row in compare(stack) if row.differences] == []
    mirror, truth = read_mirror(stack, MAILBOX), read_truth(stack.gmail, MAILBOX)
    named = {name for message in mirror.messages.values() for name in message["objects"]}
    assert sorted(named) == _objects(stack)
    units = int(call("GET", f"{stack.gmail}/control/account")["units"])
    received: dict[tuple[str, str], bytes] = {}
    for message_id, message in mirror.messages.items():
        for attachment in message["attachments"][:1]:
            data = _read(stack, message_id, attachment["partId"])
            assert len(data) == attachment["size"]
            received[message_id, attachment["partId"]] = data
            if attachment["uri"] is not None:
                assert attachment["uri"] == f"gs://{BUCKET}/{MAILBOX}/{sha256(data).hexdigest()}"
    spent = int(call("GET", f"{stack.gmail}/control/account")["units"]) - units
    # A sweep costs two units now and then; what is text comes with its message and costs one call.
    assert spent < 100 if stores == "store" else 20 * len(received) <= spent <= 40 * len(received) + 100
    assert {place: _sent(stack, *place) for place in received} == received
    assert len(received) == sum(bool(message["attachments"]) for message in truth.messages.values()) >= 20
    assert len(named) >= (5 if stores == "store" else 1)
    receipt = call("DELETE", f"{stack.url('manage_mailboxes')}/mailboxes/{MAILBOX}?wait=50", seconds=60)
    assert receipt["objects"] == len(named)
    assert _objects(stack) == []
    assert stack.sqlite is not None
    with closing(connect(f"file:{stack.sqlite}?mode=ro", uri=True)) as database:
        left = database.execute("SELECT collection, id FROM documents WHERE collection <> 'receipts'").fetchall()
    assert left == []


def _read(stack: Stack, message_id: str, part_id: str) -> bytes:
    """What an application is answered."""
    url = f"{stack.url('read_mailboxes')}/mailboxes/{MAILBOX}/messages/{message_id}/attachments/{part_id}"
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(url, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.content


def _sent(stack: Stack, message_id: str, part_id: str) -> bytes:
    """The bytes of a part, straight from its source."""
    url = f"{stack.gmail}/gmail/v1/users/{MAILBOX}/messages/{message_id}?format=raw"
    part = mime.parse(base64.urlsafe_b64decode(call("GET", url)["raw"]))
    for number in filter(None, part_id.split(".")):
        part = part.get_payload()[int(number)]  # type: ignore[index,assignment]
    return mime.content(part)
