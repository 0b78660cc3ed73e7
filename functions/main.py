"""The entry points of Mailmirror's functions: translate, call, answer.

Each is one function of its name. All are plain HTTP: the CloudEvent decorator would cut a push's envelope.
"""

import os
import sys

import functions_framework
from flask import Request, Response
from mailmirror import api, app, read_api, wiring
from mailmirror.config import BadSetting, Settings

try:
    _settings = Settings.from_env(os.environ)
    app.configure_logs(_settings.log_level)
    _app = wiring.from_settings(_settings)
except BadSetting as error:
    sys.exit(f"Mailmirror cannot start: {error}")


@functions_framework.http
def sync_history(request: Request) -> Response:
    """Push from `gmail-notifications`."""
    return api.pushed(_app, _app.sync_history, request)


@functions_framework.http
def run_work(request: Request) -> Response:
    """Push from `mailbox-work`."""
    return api.pushed(_app, _app.run_work, request)


@functions_framework.http
def renew_watches(request: Request) -> Response:
    """Cloud Scheduler, daily."""
    return api.scheduled(_app.renew_watches, request)


@functions_framework.http
def sweep_mailboxes(request: Request) -> Response:
    """Cloud Scheduler, every few minutes."""
    return api.scheduled(_app.sweep_mailboxes, request)


@functions_framework.http
def trigger_sync(request: Request) -> Response:
    """Administrators: `POST /mailboxes/{m}/sync`."""
    return api.trigger_sync(_app, request)


@functions_framework.http
def oauth_callback(request: Request) -> Response:
    """Browsers of users: `GET /oauth/callback`, which carries no identity token."""
    return api.oauth_callback(_app, request)


@functions_framework.http
def manage_mailboxes(request: Request) -> Response:
    """Administrators: connect, plan, list, show, stop and delete mailboxes."""
    return api.manage_mailboxes(_app, request)


@functions_framework.http
def read_mailboxes(request: Request) -> Response:
    """Applications: threads, messages, attachments, deltas."""
    return read_api.read_mailboxes(_app, request)
