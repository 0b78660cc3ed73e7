"""schemathesis asks each function what its OpenAPI document allows, and what it does not, of the local stack.

Knows: how a made-up request gets to what is really there, and how long one may wait. Does not know: what the answers
are; the documents say that. Each document has a mailbox of its own, because requests stop and delete it.
"""

import base64
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from itertools import islice
from random import Random
from typing import Any
from urllib.parse import quote, unquote
from zlib import crc32

import pytest
import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from local import mail
from local.owner import Owner
from local.stack import Settings, Stack, call
from tests.openapi import DOCUMENTS, FOLDER

pytestmark = pytest.mark.timeout(300)

Case = schemathesis.Case[Any]
# A document's own mailbox.
MAILBOXES = {
    "trigger_sync": "trigger@example.com",
    "manage_mailboxes": "manage@example.com",
    "read_mailboxes": "read@example.com",
}
MESSAGES = 30
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
LIMIT = 120.0
SENDER, RECEIVER = "grace@example.com", "ada@example.com"
# A message that is nothing but a file.
FILE = f"From: {SENDER}\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\n%PDF-1.7\r\n".encode()
# What a request waits at the most, in seconds.
WAIT = 0.1
CHECKED = [
    *(not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance),
    *(response_schema_conformance, unsupported_method, negative_data_rejection),
]
CONFIG = {
    "seed": 7,
    "generation": {
        "with-security-parameters": False,
        "deterministic": True,
        "max-examples": 40,
        "database": "none",
    },
    "phases": {"stateful": {"enabled": False}},
}
# The longest wait that may be asked for, by the label of the operation.
LONGEST: dict[str, float] = {
    f"{operation.method} {operation.path}": document.resolve(parameter["schema"])["maximum"]
    for document in DOCUMENTS.values()
    for operation in document.operations()
    for parameter in operation.parameters
    if parameter["name"] == "wait"
}
SCHEMAS = {
    name: schemathesis.openapi.from_path(FOLDER / f"{name}.yaml", config=schemathesis.Config.from_dict(CONFIG))
    for name in MAILBOXES
}


@dataclass(slots=True)
class Site:
    """The stack, and what is in its mailboxes.

    Attributes:
        threads: those of the mailbox to read.
        attachments: message ids and part ids there.
        files: ids of messages there that are nothing but a file.
        known: what there is to ask for, by parameter; cursors and page tokens as they are answered.
    """

    stack: Stack
    session: requests.Session
    threads: list[str] = field(default_factory=list)
    attachments: list[tuple[str, str]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    known: dict[str, list[str]] = field(default_factory=dict)

    def call(self, function: str, case: Case) -> None:
        """Send a request, brought to what is there, and check the answer."""
        if "\n" in unquote(case.formatted_path):
            # functions-framework itself answers a path with a line feed: 404 in HTML.
            return
        self._lead(MAILBOXES[function], case)
        self._hasten(case)
        headers = {}
        if case.operation.path.endswith("/deltas") and _number(case) % 2:
            headers["Accept"] = "text/event-stream"
        answer = case.call_and_validate(
            base_url=self.stack.url(function),
            session=self.session,
            headers=headers,
            checks=CHECKED,
            timeout=30,
            allow_redirects=False,
        )
        if answer.status_code == 200 and answer.headers.get("content-type") == ["application/json"]:
            self._note(answer.json())
        if case.method == "DELETE" and answer.status_code < 300:
            self.connect(MAILBOXES[function])

    def connect(self, mailbox: str) -> None:
        """Connect a mailbox, as soon as it can be."""
        give_up = time.monotonic() + LIMIT
        url = f"{self.stack.url('manage_mailboxes')}/mailboxes/{mailbox}"
        while not self.session.put(url, timeout=30).ok:
            assert time.monotonic() < give_up
            time.sleep(0.1)

    def _lead(self, mailbox: str, case: Case) -> None:
        """Mostly ask for what is there, unless the path is what is wrong."""
        number = _number(case)
        places = case.path_parameters
        wrong = case.meta is not None and case.meta.is_negative_at(ParameterLocation.PATH)
        if places and not wrong and number % 8:
            message, part = self.attachments[number % len(self.attachments)]
            if "/threads/" in case.operation.path:
                message = self.threads[number % len(self.threads)]
            elif case.operation.path.endswith("/attachments"):
                message = self.files[0]
            real = {"mailbox": mailbox, "id": message, "partId": part}
            case.path_parameters = {name: real[name] for name in places}
        for name in list(case.query):
            if number % 3 and isinstance(case.query[name], str) and (known := self.known.get(name)):
                case.query[name] = known[number % len(known)]
        if case.headers.get("Last-Event-ID") and number % 3 and (known := self.known.get("cursor")):
            case.headers["Last-Event-ID"] = known[number % len(known)]

    def _hasten(self, case: Case) -> None:
        """Wait shortly, where the wait is one that may be, or the default is long."""
        most, wait = LONGEST.get(case.operation.label), case.query.get("wait", WAIT)
        if most is None or isinstance(wait, bool):
            return
        with suppress(TypeError, ValueError):
            case.query["wait"] = WAIT if WAIT <= float(wait) <= most else wait

    def _note(self, answer: Any) -> None:
        """Keep what leads on."""
        for name, parameter in (("nextPageToken", "pageToken"), ("cursor", "cursor")):
            if isinstance(answer, dict) and isinstance(answer.get(name), str):
                self.known.setdefault(parameter, []).append(answer[name])


def _number(case: Case) -> int:
    """A number of the request, the same each time."""
    return crc32(repr((case.method, case.path_parameters, case.query, case.body)).encode(errors="replace"))


def _enclosed() -> bytes:
    """The source of a message with a file and a text that is too large for a document."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = f"Grace <{SENDER}>", RECEIVER, "Plans"
    message.set_content("Ünïcode and more. " * 30_000)
    message.add_attachment(b"%PDF-1.7", maintype="application", subtype="pdf", filename="plans.pdf")
    return message.as_bytes()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A stack with three mailboxes that are mirrored: threads, an attachment, a large text."""
    with requests.Session() as session, Stack(Settings(tmp_path_factory.mktemp("stack"), seed=3)) as stack:
        session.trust_env = False
        site = Site(stack, session)
        for mailbox in MAILBOXES.values():
            call("POST", f"{stack.gmail}/control/mailboxes", {"emailAddress": mailbox})
            made_up = mail.made_up(Random(3), MESSAGES, MESSAGES // 2, start=START, end=END)
            Owner(stack.gmail, Random(3), iter(()), mailbox=mailbox).receive(list(islice(made_up, MESSAGES)))
            raws = [base64.urlsafe_b64encode(source).decode() for source in (_enclosed(), FILE)]
            messages = [{"raw": raw, "labelIds": ["INBOX", "UNREAD"]} for raw in raws]
            call("POST", f"{stack.gmail}/control/mailboxes/{quote(mailbox)}/deliver", {"messages": messages})
            site.connect(mailbox)
        _until_live(stack)
        one = f"{stack.url('read_mailboxes')}/mailboxes/{MAILBOXES['read_mailboxes']}"
        for message in call("GET", f"{one}/messages?limit=100&fields=threadId,attachments")["messages"]:
            site.threads.append(message["threadId"])
            for part in (each["partId"] for each in message["attachments"]):
                site.attachments += [(message["id"], part)] if part else []
                site.files += [] if part else [message["id"]]
        assert len(site.threads) == MESSAGES + 2
        assert site.attachments
        assert site.files
        site.known |= {"label": ["INBOX", "UNREAD"], "thread": site.threads, "from": [SENDER], "to": [RECEIVER]}
        yield site


def _until_live(stack: Stack) -> None:
    give_up = time.monotonic() + LIMIT
    for mailbox in MAILBOXES.values():
        while call("GET", f"{stack.url('manage_mailboxes')}/mailboxes/{mailbox}")["phase"] != "live":
            assert time.monotonic() < give_up
            time.sleep(0.2)


@SCHEMAS["read_mailboxes"].parametrize()
def test_read_mailboxes(case: Case, site: Site) -> None:
    """No request makes read_mailboxes fail or answer what its document does not say."""
    site.call("read_mailboxes", case)


@SCHEMAS["trigger_sync"].parametrize()
def test_trigger_sync(case: Case, site: Site) -> None:
    """No request makes trigger_sync fail or answer what its document does not say."""
    site.call("trigger_sync", case)


@SCHEMAS["manage_mailboxes"].parametrize()
def test_manage_mailboxes(case: Case, site: Site) -> None:
    """No request makes manage_mailboxes fail or answer what its document does not say."""
    site.call("manage_mailboxes", case)
