"""HTTP requests as calls of the API.

It knows paths, query parameters and the body of watch, and refuses what Google refuses: garbage and unknown names.
It does not know Flask: the parts of a batch are requests too, and come through here as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from local.gmail.errors import ApiError, invalid_argument, not_found

# Google accepts these on every method; none of them changes what the fake answers.
_SYSTEM_PARAMETERS = frozenset(
    {"access_token", "alt", "callback", "fields", "key", "oauth_token", "prettyPrint", "quotaUser", "userIp"}
    | {"uploadType", "upload_protocol", "$.xgafv"}
)
_ROOT = re.compile(r"/gmail/v1/users/(?P<user>[^/]+)(?P<rest>/.*)")


@dataclass(frozen=True, slots=True)
class Call:
    """One call: for whom, which method of the discovery document, with which arguments of `Mailbox`."""

    user_id: str
    method: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Route:
    verb: str
    path: re.Pattern[str]
    method: str
    query: Mapping[str, tuple[str, Callable[[str, list[str]], Any]]]


def parse_call(verb: str, path: str, query: str, body: bytes) -> Call:
    """The call a request makes; `path` is still percent-encoded."""
    root = _ROOT.fullmatch(path)
    if root is None:
        raise not_found()
    for route in _ROUTES:
        match = route.path.fullmatch(root["rest"])
        if match and route.verb == verb:
            params: dict[str, Any] = {name: unquote(value) for name, value in match.groupdict().items()}
            params |= _query(route, query)
            if route.method == "users.watch":
                params |= _watch_request(body)
            return Call(unquote(root["user"]), route.method, params)
    raise ApiError(501, "notImplemented", f"The fake Gmail does not fake {verb} {root['rest']}.")


def _query(route: _Route, query: str) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for name, values in parse_qs(query, keep_blank_values=True).items():
        if name in route.query:
            argument, read = route.query[name]
            params[argument] = read(name, values)
        elif name not in _SYSTEM_PARAMETERS:
            message = f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.'
            raise invalid_argument(f"{message} Field '{name}' could not be found in request message.")
    return params


def _watch_request(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body or b"{}")
    except ValueError:
        request = None
    if not isinstance(request, dict):
        raise invalid_argument("Invalid JSON payload received.")
    label_ids = request.get("labelIds") or []
    if not isinstance(label_ids, list) or not all(isinstance(label, str) for label in label_ids):
        raise invalid_argument("Invalid value at 'label_ids'")
    known = {"topicName", "labelIds", "labelFilterBehavior", "labelFilterAction"}
    for name in request:
        if name not in known:
            raise invalid_argument(f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')
    behavior = request.get("labelFilterBehavior") or request.get("labelFilterAction")
    return {"topic": request.get("topicName"), "label_ids": label_ids, "behavior": behavior}


def _text(name: str, values: list[str]) -> str:
    if len(values) > 1:
        raise invalid_argument(f"Invalid value at '{name}': it may be given once.")
    return values[0]


def _number(name: str, values: list[str]) -> int:
    try:
        return int(_text(name, values))
    except ValueError:
        raise invalid_argument(f"Invalid value at '{name}' (TYPE_UINT32), \"{values[0]}\"") from None


def _flag(name: str, values: list[str]) -> bool:
    value = _text(name, values).lower()
    if value not in {"true", "false"}:
        raise invalid_argument(f"Invalid value at '{name}' (TYPE_BOOL), \"{values[0]}\"")
    return value == "true"


def _texts(_name: str, values: list[str]) -> list[str]:
    return values


_PAGE = {"pageToken": ("page_token", _text), "maxResults": ("max_results", _number)}
_LISTING = _PAGE | {
    "labelIds": ("label_ids", _texts),
    "includeSpamTrash": ("include_spam_trash", _flag),
    "q": ("q", _text),
}
_GET = {"format": ("format", _text), "metadataHeaders": ("metadata_headers", _texts)}
_HISTORY = _PAGE | {
    "startHistoryId": ("start_history_id", _text),
    "labelId": ("label_id", _text),
    "historyTypes": ("history_types", _texts),
}

_ROUTES = (
    _Route("GET", re.compile(r"/profile"), "users.getProfile", {}),
    _Route("POST", re.compile(r"/watch"), "users.watch", {}),
    _Route("POST", re.compile(r"/stop"), "users.stop", {}),
    _Route("GET", re.compile(r"/history"), "users.history.list", _HISTORY),
    _Route("GET", re.compile(r"/messages"), "users.messages.list", _LISTING),
    _Route("GET", re.compile(r"/messages/(?P<message_id>[^/]+)"), "users.messages.get", _GET),
    _Route(
        "GET",
        re.compile(r"/messages/(?P<message_id>[^/]+)/attachments/(?P<attachment_id>[^/]+)"),
        "users.messages.attachments.get",
        {},
    ),
    _Route("GET", re.compile(r"/threads"), "users.threads.list", _LISTING),
    _Route("GET", re.compile(r"/threads/(?P<thread_id>[^/]+)"), "users.threads.get", _GET),
    _Route("GET", re.compile(r"/labels"), "users.labels.list", {}),
    _Route("GET", re.compile(r"/labels/(?P<label_id>[^/]+)"), "users.labels.get", {}),
)
