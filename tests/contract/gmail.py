"""What the tests of the Gmail client talk to: the fake Gmail on loopback, a server that follows a script, a token.

Knows: HTTP. Does not know: the client under test, beyond how it is made.
"""

import base64
import gc
import json
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import google.auth.credentials
from mailmirror.adapters.gmail import GmailApiAccounts
from mailmirror.content import Content, Part, TextPart
from mailmirror.model import Body, Failed, Message, Quota
from mailmirror.ports import Gmail, GmailAccounts

from local.gmail.mailbox import Mailbox as FakeMailbox
from local.gmail.server import create_app, serve
from local.gmail.world import World
from tests.clock import VirtualClock

ALICE = "alice@example.com"
TOPIC = "projects/mirror/topics/gmail-notifications"


class Fake:
    """A fake Gmail that listens, and ways to talk to it."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.world = World(clock=self.clock, sleep=self.clock.sleep)
        self.alice: FakeMailbox = self.world.add(ALICE)
        self._server = serve(create_app(self.world))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.root = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def accounts(self, **changes: Any) -> GmailApiAccounts:
        settings: dict[str, Any] = {
            "clock": self.clock,
            "topic": TOPIC,
            "api_root": self.root,
            "rng": random.Random(0),
        }
        return GmailApiAccounts(changes.pop("credentials", nobody), **(settings | changes))

    def open(self, quota: Quota | None = None, **changes: Any) -> Gmail:
        accounts: GmailAccounts = self.accounts(**changes)
        return accounts.open(ALICE, quota)

    def deliver(self, count: int = 1, **kwargs: Any) -> list[str]:
        return [self.alice.deliver(mail(f"Subject {number}"), **kwargs) for number in range(count)]

    def faults(self, method: str, *faults: object) -> None:
        self.world.faults.add({method: list(faults)})

    def account(self) -> Mapping[str, Any]:
        account: Mapping[str, Any] = self.world.quota.account()["mailboxes"].get(ALICE, {})
        return account

    def units(self) -> int:
        return int(self.account().get("totalUnits", 0))

    def calls(self, method: str) -> int:
        return int(self.account().get("calls", {}).get(method, 0))


class Keeping:
    """`ports.Keep` as simple as can be: texts are UTF-8, and what Gmail keeps back of them is fetched.

    Attributes:
        kept: the messages it was given, in their order.
        files: the bytes of each file by its part, where they are to be fetched.
    """

    def __init__(self, *, files: bool = False, before: Callable[[], object] = lambda: None) -> None:
        self.kept: list[str] = []
        self.files: dict[str, bytes | None] = {}
        self._fetches_files = files
        self._before = before

    def __call__(self, message: Message, content: Content, fetch: Callable[[str], bytes | None]) -> Message | Failed:
        """Keep a message."""
        self.kept.append(message.id)
        self._before()

        def text_of(parts: Iterable[TextPart]) -> str | None:
            found = [bytes_of(text.part) for text in parts]
            known = [data for data in found if data is not None]
            return b"".join(known).decode("utf-8", "replace") if len(known) == len(found) else None

        def bytes_of(part: Part) -> bytes | None:
            return fetch(part.attachment_id) if part.attachment_id else part.data

        text, html = text_of(content.text), text_of(content.html)
        if text is None or html is None:
            return Failed("Gmail has no such text.")
        if self._fetches_files:
            self.files |= {file.attachment.part_id: bytes_of(file.part) for file in content.files}
        return replace(message, body=Body(text, html), attachments=tuple(file.attachment for file in content.files))


def nobody(_mailbox: str) -> None:
    """No credentials: the fake believes everybody."""


def mail(subject: str, body: str = "Hello", reply_to: str | None = None) -> bytes:
    """The source of a small message."""
    message = EmailMessage()
    message["From"] = "Bob <bob@example.org>"
    message["To"] = ALICE
    message["Subject"] = subject
    message["Message-ID"] = f"<{subject.replace(' ', '-')}@example.org>"
    if reply_to:
        message["In-Reply-To"] = reply_to
    message.set_content(body)
    return message.as_bytes()


class Contents:
    """Counts the messages whose content is held by anybody; those held by somebody else before do not count."""

    def __init__(self) -> None:
        gc.collect()
        # Kept, so that no other object comes to be where one of them was.
        self._before = self._all()

    def held(self) -> int:
        """How many there are."""
        before = set(map(id, self._before))
        return sum(id(item) not in before for item in self._all())

    @staticmethod
    def _all() -> list[Content]:
        return [item for item in gc.get_objects() if isinstance(item, Content)]


def messages_of(found: Mapping[str, object], kind: type) -> list[str]:
    """The ids whose result is of a kind."""
    return [item_id for item_id, result in found.items() if isinstance(result, kind)]


class Scripted(BaseHTTPRequestHandler):
    """Answers what the test says, in order, and keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    script: list[tuple[int, Mapping[str, str], bytes]]
    asked: list[tuple[str, str, Mapping[str, str]]]

    def do_GET(self) -> None:
        """Answer the next in the script; the last one again and again."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append((self.command, self.path, dict(self.headers.items())))
        status, headers, body = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        self.send_response(status)
        chunked = "Transfer-Encoding" in headers
        length = {} if chunked else {"Content-Length": str(len(body))}
        for name, value in ({"Content-Type": "application/json"} | dict(headers) | length).items():
            self.send_header(name, value)
        self.end_headers()
        pieces = [body[start : start + 1000] for start in range(0, len(body), 1000)] if chunked else [body]
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's word
        """Keep quiet."""


class Script:
    """A server with a script."""

    def __init__(self, *script: tuple[int, Mapping[str, str], bytes]) -> None:
        self.asked: list[tuple[str, str, Mapping[str, str]]] = []
        handler = type("Handler", (Scripted,), {"script": list(script), "asked": self.asked})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.clock = VirtualClock()

    def __enter__(self) -> "Script":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def open(self, found: Callable[[str], Any] = nobody, **changes: Any) -> Gmail:
        """Alice's mailbox behind the script."""
        root = f"http://127.0.0.1:{self._server.server_address[1]}"
        changes |= {"clock": self.clock, "topic": TOPIC, "api_root": root, "rng": random.Random(0), "timeout": 5}
        accounts = GmailApiAccounts(found, **changes)
        return accounts.open(ALICE, None)


def refusal(code: int, message: str, reason: str = "forbidden") -> tuple[int, Mapping[str, str], bytes]:
    """An answer in Google's error model."""
    body = {"error": {"code": code, "message": message, "errors": [{"reason": reason, "message": message}]}}
    return code, {}, json.dumps(body).encode()


PROFILE: tuple[int, Mapping[str, str], bytes] = (
    200,
    {},
    json.dumps({"emailAddress": ALICE, "historyId": "7", "messagesTotal": 1, "threadsTotal": 1}).encode(),
)
WHOLE = {"id": "1", "threadId": "1", "historyId": "5", "internalDate": "0", "payload": {}}


def whole(message_id: str, text: bytes) -> dict[str, Any]:
    """A message of one text as messages.get answers it."""
    body = {"size": len(text), "data": base64.urlsafe_b64encode(text).decode()}
    return {**WHOLE, "id": message_id, "payload": {"mimeType": "text/plain", "body": body}}


class Token(google.auth.credentials.Credentials):
    """Credentials that do what the test says on each refresh."""

    def __init__(self, *outcomes: str | Exception) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.outcomes = list(outcomes)

    def refresh(self, request: object) -> None:
        """Give the next token or raise the next error."""
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        self.token = outcome
