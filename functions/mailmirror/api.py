"""HTTP: requests translated to the application's calls, results and failures to answers.

Knows: routes, parameters and Google's error model. Does not know: what the calls do. Never a trace, or a 5xx for input.
"""

import base64
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from flask import Request, Response

from mailmirror.app import App, TriggerMode, log_unexpected
from mailmirror.discovery import Crowd, Place
from mailmirror.documents import to_document
from mailmirror.errors import ConsentNotGiven, InvalidInput, MailmirrorError
from mailmirror.log import log
from mailmirror.mailboxes import at_rest, mailbox_id
from mailmirror.model import Mailbox, Policy, Receipt
from mailmirror.notification import json_object
from mailmirror.policy import read_policy
from mailmirror.web_consent import HEADERS, page

Handler = Callable[..., Response]

# Seconds, of trigger_sync.
DEFAULT_WAIT = 50.0
MAX_WAIT = 300.0
# Then it goes on by itself.
MAX_WISH_WAIT = 100.0
# Plus one mailbox, at the most.
MAX_DISCOVERY_WAIT = 100.0
PAGE_SIZE = 100
MAX_PARKED = 500
# For users asked for consent.
_LATER = "Open the link again in a few minutes."
_OPERATOR = "Tell whoever sent you the link; Mailmirror's log has the reason. Then open the link again."
_THANKS = "You may close this window. You can take this back at any time at https://myaccount.google.com/connections."
_HOST = re.compile(r"(?P<name>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?")
MODES: dict[str, TriggerMode] = {"incremental": "incremental", "full": "full", "audit": "audit"}


@dataclass(frozen=True, slots=True)
class Route:
    """What answers a method and a path; `{names}` are arguments."""

    method: str
    path: str
    handle: Handler

    def match(self, path: str) -> re.Match[str] | None:
        """Match the arguments."""
        return re.fullmatch(re.sub(r"\{\w+\}", "([^/]+)", self.path), path)


def pushed(app: App, handle: Callable[[bytes], None], request: Request) -> Response:
    """Answer Pub/Sub: 204, 400 or 503."""
    return _answer(lambda: _pushed(app, handle, request))


def _pushed(app: App, handle: Callable[[bytes], None], request: Request) -> Response:
    if request.method != "POST":
        return _not_allowed("POST")
    status = app.push(handle, request.get_data())
    if status == 400:
        return _error(400, InvalidInput.status, f"The push is malformed. {InvalidInput.action}")
    return Response(status=status)


def scheduled(work: Callable[[], int], request: Request) -> Response:
    """Answer Cloud Scheduler."""

    def handle() -> Response:
        if request.method != "POST":
            return _not_allowed("POST")
        return as_json({"published": work()})

    return _answer(handle)


def trigger_sync(app: App, request: Request) -> Response:
    """`POST /mailboxes/{m}/sync?mode=incremental|full|audit&wait=50&retryParked=false`."""

    def sync(address: str) -> Response:
        mode = MODES.get(request.args.get("mode", "incremental"))
        if mode is None:
            raise InvalidInput(f"mode must be one of {', '.join(MODES)}.")
        retry = request.args.get("retryParked", "false")
        if retry not in ("true", "false") or (retry == "true" and mode != "incremental"):
            raise InvalidInput("retryParked must be false, or true with mode=incremental.")
        done = app.trigger_sync(address, mode, wait_seconds(request), retry_parked=retry == "true")
        answer = {
            "ok": True,
            "mode": done.mode,
            "status": done.status,
            "runId": done.run_id,
            "threadsProcessed": done.threads_processed,
            "messagesProcessed": done.messages_processed,
            "parked": app.mailbox(address).counts.parked,
        }
        return as_json(answer, 200 if done.status == "done" else 202)

    return routed(request, Route("POST", "/mailboxes/{m}/sync", sync))


def manage_mailboxes(app: App, request: Request) -> Response:
    """Mailboxes, consents and discovery: see its routes."""

    def connect(address: str) -> Response:
        mailbox, created = app.connect(address, _policy(request.get_data()))
        return as_json(mailbox_json(mailbox), 201 if created else 200)

    def listing() -> Response:
        token = request.args.get("pageToken")
        page = app.store.mailboxes(after=mailbox_id(token) if token else "", limit=PAGE_SIZE)
        answer: dict[str, object] = {"mailboxes": [mailbox_json(mailbox) for mailbox in page]}
        if len(page) == PAGE_SIZE:
            answer["nextPageToken"] = page[-1].email_address
        return as_json(answer)

    def status(address: str) -> Response:
        return as_json(mailbox_json(app.mailbox(address)))

    def stop(address: str) -> Response:
        mailbox = app.stop(address, wait_seconds(request, MAX_WISH_WAIT))
        return as_json(mailbox_json(mailbox), 200 if at_rest(mailbox) else 202)

    def delete(address: str) -> Response:
        left = app.delete(address, wait_seconds(request, MAX_WISH_WAIT))
        if isinstance(left, Receipt):
            return as_json(to_document(left))
        purge = None if left.purge is None else to_document(left.purge)
        return as_json({"status": "purging", "purge": purge}, 202)

    def parked(address: str) -> Response:
        waiting = app.store.parked(app.mailbox(address).email_address)
        return as_json({"parked": [to_document(item) for item in waiting[:MAX_PARKED]], "total": len(waiting)})

    def plan(address: str) -> Response:
        return as_json({"mailbox": mailbox_id(address)} | to_document(app.plan(address)))

    def discover() -> Response:
        crowd, place, policy, dry_run = _wish(request.get_data())
        wait = wait_seconds(request, MAX_DISCOVERY_WAIT)
        found = app.discover(crowd, place, policy=policy, dry_run=dry_run, wait=wait)
        answer = to_document(found) | {"dryRun": dry_run}
        del answer["next"]
        return as_json(answer if found.next is None else answer | {"nextPageToken": _page_token(found.next)})

    return routed(
        request,
        Route("PUT", "/mailboxes/{m}", connect),
        Route("GET", "/mailboxes", listing),
        Route("GET", "/mailboxes/{m}", status),
        Route("DELETE", "/mailboxes/{m}", delete),
        Route("POST", "/mailboxes/{m}/stop", stop),
        Route("GET", "/mailboxes/{m}/plan", plan),
        Route("GET", "/mailboxes/{m}/parked", parked),
        Route("POST", "/mailboxes:discover", discover),
        Route("GET", "/connect", partial(_connect_link, app, request)),
        Route("GET", "/oauth/callback", partial(_consent_answered, app, request)),
    )


def oauth_callback(app: App, request: Request) -> Response:
    """For every browser."""
    return routed(request, Route("GET", "/oauth/callback", partial(_consent_answered, app, request)))


def _connect_link(app: App, request: Request) -> Response:
    """Send on to Google; the address is to pass on."""
    link = app.asks().link(request.args.get("mailbox"), f"{_here(request)}/oauth/callback")
    answer = as_json({"url": link.url, "expiresAt": link.expires_at}, 302)
    answer.headers.update({"Location": link.url, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
    return answer


def _consent_answered(app: App, request: Request) -> Response:
    if request.method != "GET":
        # An answer is good for one time.
        return _not_allowed("GET")
    given = {name: request.args.get(name, "") for name in ("state", "code", "error")}
    try:
        mailbox = app.consented(**given)
    except MailmirrorError as error:
        log("request_failed", level=logging.INFO, error=type(error).__name__, reason=str(error))
        if isinstance(error, ConsentNotGiven):
            return _page(error.http_status, "Not connected this time", str(error), error.action)
        # The rest is for the log.
        if error.http_status in (429, 503):
            return _page(error.http_status, "Not at the moment", "This could not be finished.", _LATER)
        return _page(error.http_status, "Not connected", "Mailmirror is not set up for this.", _OPERATOR)
    except Exception as error:  # noqa: BLE001 -- as in _answer: no trace for anybody
        log_unexpected(error)
        return _page(503, "Not at the moment", "Something unexpected happened.", _OPERATOR)
    address = mailbox.email_address
    if mailbox.wanted == "stopped":
        start = f"An administrator has to start it: PUT /mailboxes/{address} on manage_mailboxes."
        return _page(
            200, "Consent kept", f"Mailmirror does not read {address} yet, which was stopped. {start}", _THANKS
        )
    return _page(200, "Connected", f"Mailmirror reads {address} from now on.", _THANKS)


def _page(status: int, title: str, *paragraphs: str) -> Response:
    return Response(page(title, *paragraphs), status=status, headers=dict(HEADERS))


def _here(request: Request) -> str:
    """The server by its caller: behind TLS, unless local."""
    host = _HOST.fullmatch(request.host)
    if host is None:
        raise InvalidInput("The Host header must be a host name, with or without a port.")
    local = host["name"] in ("localhost", "127.0.0.1", "[::1]")
    return f"{'http' if local else 'https'}://{request.host}"


def mailbox_json(mailbox: Mailbox) -> dict[str, object]:
    """Return a mailbox document without labels."""
    document = to_document(mailbox)
    del document["labels"]
    return document


def _policy(body: bytes) -> Policy | None:
    """None keeps what there is, or takes the default."""
    if not body.strip():
        return None
    wish = json_object(body, "The body")
    if wish.keys() - {"policy"}:
        raise InvalidInput('The body must be {"policy": {…}}.')
    return read_policy(wish.get("policy"))


def wait_seconds(request: Request, most: float = MAX_WAIT) -> float:
    """Return the parameter `wait`. Raises `InvalidInput`."""
    try:
        wait = float(request.args.get("wait", DEFAULT_WAIT))
    except ValueError:
        wait = -1.0
    if not 0 <= wait <= most:
        raise InvalidInput(f"wait must be a number of seconds from 0 to {most:.0f}.")
    return wait


def _wish(body: bytes) -> tuple[Crowd, Place, Policy | None, bool]:
    wish = json_object(body, "The body")
    group, unit, dry_run = wish.get("group"), wish.get("orgUnit"), wish.get("dryRun", False)
    if wish.keys() - {"group", "orgUnit", "policy", "dryRun", "pageToken"} or (group is None) == (unit is None):
        raise InvalidInput(
            'The body must have either "group" or "orgUnit", and may have "policy", "dryRun" and "pageToken".'
        )
    if not isinstance(dry_run, bool):
        raise InvalidInput("dryRun must be true or false.")
    if unit is not None and not (isinstance(unit, str) and unit.startswith("/") and _encodable(unit)):
        raise InvalidInput("orgUnit must be the full path of an organisational unit, such as /Sales; / is everybody.")
    crowd = Crowd("group", mailbox_id(group)) if unit is None else Crowd("org_unit", unit)
    return crowd, _place(wish.get("pageToken")), read_policy(wish.get("policy")), dry_run


def _page_token(place: Place) -> str:
    text = json.dumps([place.page_token, place.after])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _place(token: object) -> Place:
    if token is None:
        return Place()
    try:
        page_token, after = json.loads(base64.urlsafe_b64decode(str(token)))
    except (ValueError, TypeError, RecursionError):
        page_token, after = None, None
    if not isinstance(page_token, str | None) or not isinstance(after, str) or not _encodable(f"{page_token}{after}"):
        raise InvalidInput("pageToken must be the nextPageToken of the answer before.")
    return Place(page_token, after)


def _encodable(text: str) -> bool:
    """JSON can name half a character."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def routed(request: Request, *routes: Route) -> Response:
    """Answer by the route that fits, or say which there are."""

    def handle() -> Response:
        path = request.path.rstrip("/") or "/"
        # For HEAD the server leaves the body out.
        method = "GET" if request.method == "HEAD" else request.method
        fitting = [(route, match) for route in routes if (match := route.match(path))]
        for route, match in fitting:
            if route.method == method:
                return route.handle(*match.groups())
        if fitting:
            return _not_allowed(*(route.method for route, _ in fitting))
        return _error(404, "NOT_FOUND", f"There is no {path} here. Routes: {'; '.join(_shown(r) for r in routes)}.")

    return _answer(handle)


def _shown(route: Route) -> str:
    return f"{route.method} {route.path.replace('{m}', '{mailbox}')}"


def _answer(handle: Callable[[], Response]) -> Response:
    try:
        return handle()
    except MailmirrorError as error:
        # It may repeat what somebody sent: to nobody else.
        reason = None if isinstance(error, InvalidInput) else str(error)
        log("request_failed", level=logging.INFO, error=type(error).__name__, reason=reason)
        return _error(error.http_status, error.status, f"{error} {error.action}")
    except Exception as error:  # noqa: BLE001 -- the outermost frame: a caller gets Google's error model, no trace
        log_unexpected(error)
        return _error(503, "UNAVAILABLE", "Something unexpected happened; the log has it as unexpected_failure.")


def _not_allowed(*methods: str) -> Response:
    answer = _error(405, InvalidInput.status, f"Use {' or '.join(methods)} here.")
    answer.headers["Allow"] = ", ".join(methods)
    return answer


def _error(code: int, status: str, message: str) -> Response:
    return as_json({"error": {"code": code, "status": status, "message": message}}, code)


def as_json(value: object, status: int = 200) -> Response:
    """Return a document as an answer, times in RFC 3339."""
    text = json.dumps(value, default=_plain) + "\n"
    return Response(text, status=status, content_type="application/json")


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)
