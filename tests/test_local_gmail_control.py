"""The control API plays the user and turns the knobs; bad input is 400 with a sentence."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from flask.testing import FlaskClient

from local.gmail.clock import SystemClock
from local.gmail.notifications import Notifier
from local.gmail.server import create_app
from local.gmail.world import World

ADA = "/control/mailboxes/ada@example.com"
RAW = base64.urlsafe_b64encode(b"Subject: Hi\nMessage-ID: <1@x>\n\nhello\n").decode().rstrip("=")
REPLY = base64.b64encode(b"Subject: Re: Hi\nIn-Reply-To: <1@x>\n\nsch\xc3\xb6n\n").decode()


@pytest.fixture
def world() -> World:
    """A world without mailboxes."""
    return World(clock=SystemClock())


@pytest.fixture
def client(world: World) -> Iterator[FlaskClient]:
    """The control API with one mailbox and a notifier that publishes nowhere."""
    with Notifier(None) as notifier:
        client = create_app(world, notifier).test_client()
        post(client, "/control/mailboxes", {"emailAddress": "Ada@example.com"})
        yield client


def post(client: FlaskClient, path: str, body: Any = None, status: int = 200) -> Any:
    """POST JSON, expect a status, return the JSON answered."""
    response = client.post(path, json=body if body is not None else {})
    assert response.status_code == status, response.text
    return response.json


def state(client: FlaskClient) -> Any:
    """The truth about the mailbox."""
    return client.get(f"{ADA}/state").json


def test_the_whole_life_of_mail(client: FlaskClient, world: World) -> None:
    """Deliver, label, trash, draft, send, merge, delete: each act shows in the state that is the mailbox's truth."""
    delivery = [{"raw": RAW, "labelIds": ["INBOX"], "internalDate": "1700000000000"}, {"raw": REPLY}]
    first, second = post(client, f"{ADA}/deliver", {"messages": delivery})["ids"]
    label = post(client, f"{ADA}/labels", {"name": "Work"})["id"]
    assert post(client, f"{ADA}/labels", {"name": "work"})["id"] == label
    post(client, f"{ADA}/rename-label", {"id": label, "name": "Job"})
    color = {"textColor": "#000000", "backgroundColor": "#ffffff"}
    assert post(client, f"{ADA}/labels", {"name": "job", "color": color})["id"] == label
    assert state(client)["labels"][label]["color"] == color
    post(client, f"{ADA}/recolor-label", {"id": label, "color": color | {"textColor": "#cc3a21"}})
    assert state(client)["labels"][label]["color"]["textColor"] == "#cc3a21"
    post(client, f"{ADA}/recolor-label", {"id": label, "color": None})
    assert "color" not in state(client)["labels"][label]
    post(client, f"{ADA}/modify", {"ids": [first, second], "add": [label], "remove": ["UNREAD"]})
    post(client, f"{ADA}/trash", {"ids": [first, second]})
    post(client, f"{ADA}/untrash", {"ids": [second]})
    messages = state(client)["messages"]
    assert messages[first]["labelIds"] == [label, "TRASH"]
    assert messages[first]["internalDate"] == 1700000000000
    expected = {
        "threadId": first,
        "labelIds": [label],
        "subject": "Re: Hi",
        "body": {"text": "schön\n", "html": ""},
    }
    assert messages[second] | expected == messages[second]
    draft = post(client, f"{ADA}/draft", {"raw": RAW})["id"]
    newer = post(client, f"{ADA}/draft", {"raw": RAW, "id": draft})["id"]
    sent = post(client, f"{ADA}/send", {"id": newer})["id"]
    assert state(client)["messages"][sent]["labelIds"] == ["SENT"]
    post(client, f"{ADA}/merge", {"into": first, "other": draft})
    assert state(client)["messages"][sent]["threadId"] == first
    post(client, f"{ADA}/delete-label", {"id": label})
    post(client, f"{ADA}/delete", {"ids": [first, second, sent]})
    end = state(client)
    assert end["messages"] == {}
    assert label not in end["labels"]
    mailbox = world.find("ada@EXAMPLE.com")
    assert mailbox is not None
    assert end == json.loads(json.dumps(mailbox.truth()))


def test_history_and_page_tokens_expire_on_demand(client: FlaskClient) -> None:
    """After expire-history an old start is 404 at the API, after expire-page-tokens an old token 400."""
    start = client.get("/gmail/v1/users/me/profile").json["historyId"]  # type: ignore[index]
    post(client, f"{ADA}/deliver", {"messages": [{"raw": RAW}, {"raw": RAW}]})
    token = client.get("/gmail/v1/users/me/messages?maxResults=1").json["nextPageToken"]  # type: ignore[index]
    history = f"/gmail/v1/users/me/history?startHistoryId={start}"
    assert client.get(history).status_code == 200
    post(client, f"{ADA}/expire-history")
    assert client.get(history).status_code == 404
    post(client, f"{ADA}/expire-page-tokens")
    assert client.get(f"/gmail/v1/users/me/messages?pageToken={token}").status_code == 400


def test_knobs_turn(client: FlaskClient, world: World) -> None:
    """Quota, prices, latency, lag, faults, quirks, notifications and access do what they are told."""
    post(client, "/control/quota", {"unitsPerMinute": 2, "prices": "legacy", "shape": "exhausted", "concurrent": 3})
    assert [client.get("/gmail/v1/users/me/profile").status_code for _ in range(3)] == [200, 200, 429]
    assert client.get("/control/account").json["rejected"] == 1  # type: ignore[index]
    post(client, "/control/quota", {"unitsPerMinute": None})
    assert world.quota.shape == "exhausted"
    post(client, "/control/latency", {"seconds": 0.001})
    assert world.latency == 0.001
    post(client, "/control/lag", {"history": 3, "get": 1.5})
    assert world.add("later@example.com").history_lag == timedelta(seconds=3)
    assert world.add("ada@example.com").get_lag == timedelta(seconds=1.5)
    post(client, f"{ADA}/quirks", {"emptyPageChance": 0.5})
    ada_ = world.add("ada@example.com")
    assert (ada_.empty_page_chance, ada_.inline_bytes, ada_.lists_colors) == (0.5, 2**20, False)
    post(client, f"{ADA}/quirks", {"inlineBytes": 500, "listsColors": True})
    assert (ada_.empty_page_chance, ada_.inline_bytes, ada_.lists_colors) == (0.5, 500, True)
    quirks = post(client, f"{ADA}/quirks", {"inlineBytes": None})
    assert quirks == {"emptyPageChance": 0.5, "splitChance": 0.25, "inlineBytes": None, "listsColors": True}
    post(client, "/control/faults", {"users.labels.list": [503]})
    ada = "/gmail/v1/users/ada@example.com"
    assert client.get(f"{ada}/labels").status_code == 503
    assert client.get("/control/faults").json["users.labels.list"]["consumed"] == ["503"]  # type: ignore[index]
    assert client.delete("/control/faults").status_code == 200
    assert client.get("/control/faults").json == {}
    post(client, f"{ADA}/revoke")
    assert client.get(f"{ada}/labels").status_code == 401
    assert client.get("/control/mailboxes").json["mailboxes"][0]["revoked"] is True  # type: ignore[index]
    post(client, f"{ADA}/restore")
    assert client.get(f"{ada}/labels").status_code == 200
    knobs = post(client, "/control/notifications", {"lose": 0.5, "duplicate": 0.1, "shuffle": 2, "coalesceSeconds": 1})
    assert knobs["knobs"] == {"lose": 0.5, "duplicate": 0.1, "shuffle": 2, "coalesceSeconds": 1, "off": True}


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/control/mailboxes", {}, "emailAddress"),
        ("/control/mailboxes", {"emailAddress": "nobody"}, "no mail address"),
        ("/control/mailboxes", [], "JSON object"),
        (f"{ADA}/deliver", {"messages": RAW}, "messages must be a list"),
        (f"{ADA}/deliver", {"messages": [{"raw": "ä!"}]}, "base64url"),
        (f"{ADA}/deliver", {"messages": [{"raw": RAW}, {}]}, "raw"),
        (f"{ADA}/deliver", {"messages": [{"raw": RAW}, {"raw": RAW, "labelIds": ["Label_9"]}]}, "Label_9"),
        (f"{ADA}/deliver", {"messages": [{"raw": RAW}, {"raw": RAW, "threadId": "nope"}]}, "There is no thread nope"),
        (f"{ADA}/deliver", {"messages": [{"raw": RAW, "internalDate": "soon"}]}, "epoch milliseconds"),
        (f"{ADA}/modify", {"ids": ["x"]}, "There is no message x"),
        (f"{ADA}/modify", {"ids": "x"}, "list of strings"),
        (f"{ADA}/trash", {"id": "x"}, "There is no field id"),
        (f"{ADA}/send", {"id": 5}, "id must be a string"),
        (f"{ADA}/quirks", {"inlineBytes": -1}, "inlineBytes"),
        (f"{ADA}/quirks", {"listsColors": 1}, "listsColors"),
        (f"{ADA}/labels", {"name": "Work", "color": "red"}, "color must be an object"),
        (f"{ADA}/labels", {"name": "Work", "color": {"textColor": "red"}}, "#rrggbb"),
        (f"{ADA}/recolor-label", {"id": "INBOX", "color": None}, "system label"),
        ("/control/quota", {"unitsPerMinute": -1}, "unitsPerMinute"),
        ("/control/quota", {"prices": "2027"}, "2027"),
        ("/control/quota", {"shape": "round"}, "shape"),
        ("/control/latency", {}, "seconds"),
        ("/control/lag", {"history": True}, "history"),
        ("/control/faults", {"users.nothing": [404]}, "users.nothing"),
        ("/control/notifications", {"lose": 2}, "lose"),
        ("/control/notifications", {"off": "yes"}, "off"),
    ],
    ids=lambda value: str(value)[-60:],
)
def test_bad_input_is_400_and_changes_nothing(client: FlaskClient, path: str, body: Any, said: str) -> None:
    """The sentence names what is wrong, and the mailbox is as before."""
    before = state(client)
    answer = post(client, path, body, status=400)
    assert said in answer["error"]["message"]
    assert state(client) == before


def test_what_is_not_there_is_404(client: FlaskClient, world: World) -> None:
    """Unknown mailboxes and acts, and notifications without a notifier, are 404 with what to do."""
    assert "POST /control/mailboxes" in post(client, "/control/mailboxes/x@y/trash", status=404)["error"]["message"]
    assert "There is no act dance" in post(client, f"{ADA}/dance", status=404)["error"]["message"]
    alone = create_app(world).test_client()
    assert "without a notifier" in post(alone, "/control/notifications", status=404)["error"]["message"]


def test_it_runs_as_a_process() -> None:
    """`python -m local.gmail` prints its address as one line of JSON, serves, and ends quietly when terminated."""
    command = [sys.executable, "-m", "local.gmail", "--seed", "3", "--units-per-minute", "100", "--mailbox", "a@x.y"]
    root = Path(__file__).parent.parent
    environment = os.environ | {"PYTHONPATH": str(root)}
    with subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        assert line["event"] == "fake_gmail_listening"
        opener = build_opener(ProxyHandler({}))
        with opener.open(Request(line["url"] + "gmail/v1/users/me/profile"), timeout=5) as response:
            assert json.load(response)["emailAddress"] == "a@x.y"
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=10)
    assert (process.returncode, output, errors) == (0, "", "")
