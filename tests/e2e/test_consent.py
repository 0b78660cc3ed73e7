"""A mailbox whose user consents in a browser, withdraws and consents again; the functions are what is deployed.

Gmail believes access tokens alone, OAuth and Secret Manager are a process of their own, and every function logs all it
ever says. At the end nothing in the logs is a secret, or of a mail, or somebody else's address.
"""

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
import requests
from mailmirror.adapters.consents import token_secret

from local import mail
from local.demo import FIRST_DAY, LAST_DAY, compare, read_mirror
from local.owner import Owner
from local.stack import PROJECT, TOPICS, Settings, Stack, call
from tests.world import push

SEED = 8
ADA = "ada@example.com"
BOB = "bob@example.com"
SECRETS = f"projects/{PROJECT}/secrets/mailmirror-token-"
MESSAGES = 60
CHANGES = 12
LIMIT = 60.0
# What is shorter may stand in a log by accident.
TELLING = 10
ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")


@dataclass
class Case:
    """The stack, Ada with her mailbox and her browser, and the administrator."""

    stack: Stack
    owner: Owner

    @property
    def manage(self) -> str:
        """Where the administrator asks."""
        return self.stack.url("manage_mailboxes")

    def link(self) -> str:
        """The administrator asks for the link for Ada."""
        answer = requests.get(f"{self.manage}/connect", {"mailbox": ADA}, allow_redirects=False, timeout=30)
        assert answer.status_code == 302
        assert answer.headers["Location"] == answer.json()["url"]
        return str(answer.json()["url"])

    def browse(self, user: str | None = None) -> requests.Response:
        """Somebody opens the link in a browser, and goes wherever it leads; None: Ada."""
        call("POST", f"{self.stack.google}/control/browser", {"user": user})
        page = requests.get(self.link(), timeout=60)
        assert page.url.startswith(f"{self.stack.url('oauth_callback')}/oauth/callback?")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        return page

    def token(self, mailbox: str) -> str | None:
        """The refresh token that is kept for a mailbox, if there is one."""
        secret = token_secret(SECRETS, mailbox)
        answer = requests.get(f"{self.stack.google}/v1/{secret}/versions/latest:access", timeout=30)
        if answer.status_code == 404:
            return None
        token: str = json.loads(base64.b64decode(answer.json()["payload"]["data"]))["refresh_token"]
        return token

    def state(self) -> dict[str, Any]:
        """The mailbox document."""
        return call("GET", f"{self.manage}/mailboxes/{ADA}")

    def head(self) -> int:
        """The mailbox's newest history id, as Gmail knows it."""
        boxes = call("GET", f"{self.stack.gmail}/control/mailboxes")["mailboxes"]
        return int(next(box["historyId"] for box in boxes if box["emailAddress"] == ADA))

    def settled(self) -> bool:
        """Whether the mirror says that it is complete, as of now."""
        state = self.state()
        finished = (state["run"] or {}).get("stage") == "finished"
        return finished and state["phase"] == "live" and state["cursor"] >= self.head()

    def change(self) -> None:
        """Things happen in the mailbox."""
        for _ in range(CHANGES):
            self.owner.act()

    def notified(self) -> int:
        """Push a notification of the mailbox's newest state, and return the answer."""
        body = push({"emailAddress": ADA, "historyId": self.head()})
        headers = {"Content-Type": "application/json"}
        return requests.post(self.stack.url("sync_history"), body, headers=headers, timeout=60).status_code

    def differences(self) -> list[str]:
        """In what the mirror is not the mailbox."""
        return [difference for row in compare(self.stack, ADA) for difference in row.differences]

    def logs(self) -> dict[str, str]:
        """What each function wrote."""
        return {name: self.stack.processes[name].log.read_text() for name in self.stack.functions}


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    """Ada and Bob have mailboxes at Gmail, and nobody has consented to anything."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    settings = Settings(tmp_path, auth="oauth", seed=SEED, sweep_seconds=1, log_level="DEBUG")
    stream = mail.made_up(Random(SEED), MESSAGES + 3 * CHANGES, MESSAGES // 2, start=FIRST_DAY, end=LAST_DAY, owner=ADA)
    items = list(stream)
    with Stack(settings) as stack:
        for address in (ADA, BOB):
            call("POST", f"{stack.gmail}/control/mailboxes", {"emailAddress": address})
        owner = Owner(stack.gmail, Random(SEED), iter(items[MESSAGES:]), mailbox=ADA)
        owner.receive(items[:MESSAGES])
        yield Case(stack, owner)


def until(done: Callable[[], bool]) -> None:
    """Wait for it; what is not done in time shows in what is asserted next."""
    give_up = time.monotonic() + LIMIT
    while not done() and time.monotonic() < give_up:
        time.sleep(0.2)


@pytest.mark.timeout(300)
def test_consent_from_beginning_to_end(case: Case) -> None:
    """Connected and mirrored by consent; withdrawn, the mailbox waits in words with its cursor where it was; somebody
    else's consent changes nothing; given again it goes on from there, and nothing that came meanwhile is missing.
    """
    page = case.browse()
    assert page.status_code == 200, page.text
    assert f"Mailmirror reads {ADA} from now on." in page.text
    until(case.settled)
    assert case.differences() == []
    connected = case.state()

    call("POST", f"{case.stack.google}/control/withdraw", {"user": ADA})
    case.change()
    until(lambda: case.state()["phase"] == "reauth_required")
    waiting = case.state()
    assert (waiting["phase"], waiting["cursor"]) == ("reauth_required", connected["cursor"])
    assert waiting["problem"]["code"] == "ConsentMissing"
    assert "GET /connect?mailbox=" in waiting["problem"]["action"]
    assert case.notified() == 204

    before = case.token(ADA)
    page = case.browse(BOB)
    assert page.status_code == 400
    assert f"The account that was chosen in the browser is not {ADA}" in page.text
    page = case.browse("")
    assert page.status_code == 400
    assert f"Access to {ADA} was not allowed." in page.text
    assert (case.token(ADA), case.token(BOB)) == (before, None)
    assert case.state()["phase"] == "reauth_required"
    assert case.state()["cursor"] == connected["cursor"]

    case.change()
    page = case.browse()
    assert page.status_code == 200, page.text
    assert case.token(ADA) not in (before, None)
    until(case.settled)
    mended = case.state()
    assert mended["problem"] is None
    # It went on from its cursor: there was no other run than the first.
    assert mended["run"]["id"] == connected["run"]["id"]
    assert case.differences() == []
    case.change()
    until(case.settled)
    assert case.differences() == []
    assert case.stack.dead_letters() == {topic: [] for topic in TOPICS}
    content = _content(case)
    _delete(case)
    _check_logs(case, content)


def _delete(case: Case) -> None:
    """With the mailbox goes what was kept of the consent, and Google is told."""
    token = case.token(ADA)
    address = f"{case.manage}/mailboxes/{ADA}"
    requests.delete(address, timeout=30)
    until(lambda: requests.get(address, timeout=30).status_code == 404)
    assert requests.delete(address, timeout=30).json()["secrets"] == 1
    assert case.token(ADA) is None
    assert requests.post(f"{case.stack.google}/revoke", {"token": token}, timeout=30).status_code == 400


def _content(case: Case) -> set[str]:
    """What there is to read in the mirror."""
    content = set()
    for message in read_mirror(case.stack, ADA).messages.values():
        headers, body = message["headers"], message["body"]
        content |= {headers["subject"], message["snippet"], *body["text"].splitlines(), *body["html"].splitlines()}
        content |= {attachment["filename"] for attachment in message["attachments"]}
    return {text.strip() for text in content if len(text.strip()) >= TELLING}


def _check_logs(case: Case, content: set[str]) -> None:
    """No log of a function holds a secret, a state, anything of a mail, or an address other than the mailbox."""
    logs = case.logs()
    assert all(logs[name] for name in ("sync_history", "run_work", "manage_mailboxes", "oauth_callback"))
    assert "consent_given" in logs["oauth_callback"]
    secrets = call("GET", f"{case.stack.google}/control/secrets")["secrets"]
    kinds = ("GOCSPX-", "4/0A", "1//0", "ya29.")
    assert all(any(secret.startswith(kind) for secret in secrets) for kind in kinds)
    assert len(content) > MESSAGES
    told = {
        (name, text)
        for name, log in logs.items()
        for text in {*secrets, *content}
        # As it is, and as it would be in a line of JSON.
        if text in log or json.dumps(text)[1:-1] in log
    }
    assert told == set()
    assert {address.lower() for log in logs.values() for address in ADDRESS.findall(log)} == {ADA}
