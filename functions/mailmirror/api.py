"""HTTP: requests translated to the application's calls, results and failures to answers.

Knows: routes, methods, parameters and Google's error model. Does not know: what the calls do. Never a stack trace, and
never a 5xx for input.
"""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from flask import Request, Response

from mailmirror.app import App, TriggerMode, log_unexpected
from mailmirror.documents import to_document
from mailmirror.errors import InvalidInput, MailmirrorError
from mailmirror.log import log
from mailmirror.mailboxes import mailbox_id
from mailmirror.model import Mailbox, Policy
from mailmirror.notification import json_object

Handler = Callable[..., Response]

# trigger_sync answers within this time, in seconds.
DEFAULT_WAIT = 50.0
MAX_WAIT = 300.0
PAGE_SIZE = 100
MODES: dict[str, TriggerMode] = {"incremental": "incremental", "full": "full", "audit": "audit"}


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path pattern with what answers it."""

    method: str
    path: str
    handle: Handler


def pushed(app: App, handle: Callable[[bytes], None], request: Request) -> Response:
    """Answer a push from Pub/Sub: 204, 400 or 503."""
    return _answer(lambda: _pushed(app, handle, request))


def _pushed(app: App, handle: Callable[[bytes], None], request: Request) -> Response:
    if request.method != "POST":
        return _not_allowed("POST")
    status = app.push(handle, request.get_data())
    if status == 400:
        return _error(400, InvalidInput.status, f"The push is malformed. {InvalidInput.action}")
    return Response(status=status)


def scheduled(work: Callable[[], int], request: Request) -> Response:
    """Answer a call of Cloud Scheduler with how many mailboxes were published."""

    def handle() -> Response:
        if request.method != "POST":
            return _not_allowed("POST")
        return _json({"published": work()})

    return _answer(handle)


def trigger_sync(app: App, request: Request) -> Response:
    """`POST /mailboxes/{m}/sync?mode=incremental|full|audit&wait=50`."""

    def sync(address: str) -> Response:
        mode = MODES.get(request.args.get("mode", "incremental"))
        if mode is None:
            raise InvalidInput(f"mode must be one of {', '.join(MODES)}.")
        done = app.trigger_sync(address, mode, _wait(request))
        answer = {
            "ok": True,
            "mode": done.mode,
            "status": done.status,
            "runId": done.run_id,
            "threadsProcessed": done.threads_processed,
            "messagesProcessed": done.messages_processed,
        }
        return _json(answer, 200 if done.status == "done" else 202)

    return _route(request, Route("POST", r"/mailboxes/([^/]+)/sync", sync))


def manage_mailboxes(app: App, request: Request) -> Response:
    """`PUT /mailboxes/{m}`, `GET /mailboxes`, `GET /mailboxes/{m}`."""

    def connect(address: str) -> Response:
        mailbox, created = app.connect(address, _policy(request.get_data()))
        return _json(mailbox_json(mailbox), 201 if created else 200)

    def listing() -> Response:
        token = request.args.get("pageToken")
        page = app.store.mailboxes(after=mailbox_id(token) if token else "", limit=PAGE_SIZE)
        answer: dict[str, object] = {"mailboxes": [mailbox_json(mailbox) for mailbox in page]}
        if len(page) == PAGE_SIZE:
            answer["nextPageToken"] = page[-1].email_address
        return _json(answer)

    def status(address: str) -> Response:
        return _json(mailbox_json(app.mailbox(address)))

    return _route(
        request,
        Route("PUT", r"/mailboxes/([^/]+)", connect),
        Route("GET", r"/mailboxes", listing),
        Route("GET", r"/mailboxes/([^/]+)", status),
    )


def mailbox_json(mailbox: Mailbox) -> dict[str, object]:
    """Return a mailbox document for people: without the bookkeeping of labels."""
    document = to_document(mailbox)
    del document["labels"]
    return document


def _policy(body: bytes) -> Policy | None:
    """Read `{"policy": {"includeSpamTrash": true, "drafts": false}}`; no body or no policy keeps what there is."""
    if not body.strip():
        return None
    wish = json_object(body, "The body")
    given = wish.get("policy")
    if wish.keys() - {"policy"} or (given is not None and not isinstance(given, dict)):
        raise InvalidInput('The body must be {"policy": {…}}.')
    if given is None:
        return None
    if given.keys() - {"includeSpamTrash", "drafts"} or not all(isinstance(value, bool) for value in given.values()):
        raise InvalidInput("A policy has includeSpamTrash and drafts, each true or false.")
    default = Policy()
    return Policy(
        include_spam_trash=given.get("includeSpamTrash", default.include_spam_trash),
        drafts=given.get("drafts", default.drafts),
    )


def _wait(request: Request) -> float:
    try:
        wait = float(request.args.get("wait", DEFAULT_WAIT))
    except ValueError:
        wait = -1.0
    if not 0 <= wait <= MAX_WAIT:
        raise InvalidInput(f"wait must be a number of seconds from 0 to {MAX_WAIT:.0f}.")
    return wait


def _route(request: Request, *routes: Route) -> Response:
    """Answer with the route that fits path and method."""

    def handle() -> Response:
        path = request.path.rstrip("/") or "/"
        # The answer to HEAD is that to GET; the server leaves its body out.
        method = "GET" if request.method == "HEAD" else request.method
        fitting = [(route, match) for route in routes if (match := re.fullmatch(route.path, path))]
        for route, match in fitting:
            if route.method == method:
                return route.handle(*match.groups())
        if fitting:
            return _not_allowed(*(route.method for route, _ in fitting))
        return _error(404, "NOT_FOUND", f"There is no {path} here. Routes: {'; '.join(_shown(r) for r in routes)}.")

    return _answer(handle)


def _shown(route: Route) -> str:
    return f"{route.method} {route.path.replace('([^/]+)', '{mailbox}')}"


def _answer(handle: Callable[[], Response]) -> Response:
    """Return what `handle` answers, or its failure in Google's error model."""
    try:
        return handle()
    except MailmirrorError as error:
        log("request_failed", level=logging.INFO, error=type(error).__name__, reason=str(error))
        return _error(error.http_status, error.status, f"{error} {error.action}")
    except Exception as error:  # noqa: BLE001 -- the outermost frame: a caller gets Google's error model, no trace
        log_unexpected(error)
        return _error(503, "UNAVAILABLE", "Something unexpected happened; the log has it as unexpected_failure.")


def _not_allowed(*methods: str) -> Response:
    answer = _error(405, InvalidInput.status, f"Use {' or '.join(methods)} here.")
    answer.headers["Allow"] = ", ".join(methods)
    return answer


def _error(code: int, status: str, message: str) -> Response:
    return _json({"error": {"code": code, "status": status, "message": message}}, code)


def _json(value: object, status: int = 200) -> Response:
    text = json.dumps(value, default=_plain) + "\n"
    return Response(text, status=status, content_type="application/json")


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)
