"""Configuration: every environment variable, once.

Knows: names, defaults and what a value may be. Does not know: what they are for. A missing or bad value stops the start
by a `BadSetting` that names the variable.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from mailmirror.model import AttachmentsKept, ContentKept
from mailmirror.quota import PriceTable
from mailmirror.reconcile import Recovery

Value = TypeVar("Value")
GmailAuth = Literal["delegation", "oauth", "none"]

READONLY_SCOPE = "https://www.googleapis.com/auth/gmail.readonly"
_ADDRESS = r"[^\s/@]+@[^\s/@]+"


class BadSetting(ValueError):
    """A variable is missing or cannot be used."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration of one process, as README's Configuration explains it."""

    google_cloud_project: str
    firestore_database: str
    gmail_topic: str
    work_topic: str
    delta_topic: str
    body_bucket: str
    gmail_content: ContentKept
    attachments: AttachmentsKept
    gmail_auth: GmailAuth
    gmail_delegate: str
    gmail_oauth_client: str
    gmail_token_prefix: str
    oauth_redirect_uri: str
    gmail_scopes: tuple[str, ...]
    gmail_api_root: str
    directory_admin: str
    directory_api_root: str
    gmail_units_per_minute: int
    gmail_units_per_day: int | None
    gmail_prices: PriceTable
    recovery: Recovery
    watch_label_ids: tuple[str, ...]
    watch_label_filter_behavior: str
    sweep_quiet: timedelta
    step: timedelta
    lease: timedelta
    store: str
    log_level: str
    pubsub_emulator_host: str
    secret_manager_emulator_host: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read variables; an empty value counts as absent. Raises `BadSetting`."""

        def read(name: str, parse: Callable[[str], Value], default: str | None = None) -> Value:
            text = environ.get(name, "").strip() or default
            if text is None:
                raise BadSetting(f"{name} is not set.")
            try:
                return parse(text)
            except ValueError as error:
                # No more is repeated: not an OAuth client's secret pasted where its name belongs.
                shown = text if len(text) <= 100 else text[:100] + "…"
                raise BadSetting(f"{name}={shown!r} cannot be used: {error}.") from None

        auth: GmailAuth = read("GMAIL_AUTH", _among(*get_args(GmailAuth)))
        bucket = read("BODY_BUCKET", _name, "")
        content: ContentKept = read("GMAIL_CONTENT", _among(*get_args(ContentKept)), "full")
        return cls(
            google_cloud_project=read("GOOGLE_CLOUD_PROJECT", _name),
            firestore_database=read("FIRESTORE_DATABASE", _name, "(default)"),
            gmail_topic=read("GMAIL_TOPIC", _topic),
            work_topic=read("WORK_TOPIC", _topic),
            delta_topic=read("DELTA_TOPIC", _topic, ""),
            body_bucket=bucket,
            gmail_content=content,
            attachments=read("ATTACHMENTS", lambda text: _attachments(text, bucket, content), "none"),
            gmail_auth=auth,
            gmail_delegate=read("GMAIL_DELEGATE", _account, None if auth == "delegation" else ""),
            gmail_oauth_client=read("GMAIL_OAUTH_CLIENT", _secret, None if auth == "oauth" else ""),
            gmail_token_prefix=read("GMAIL_TOKEN_PREFIX", _secret_prefix, None if auth == "oauth" else ""),
            oauth_redirect_uri=read("OAUTH_REDIRECT_URI", _redirect, ""),
            gmail_scopes=read("GMAIL_SCOPES", _scopes, READONLY_SCOPE),
            gmail_api_root=read("GMAIL_API_ROOT", _root, "https://gmail.googleapis.com/"),
            directory_admin=read("DIRECTORY_ADMIN", _administrator, ""),
            directory_api_root=read("DIRECTORY_API_ROOT", _root, "https://admin.googleapis.com/"),
            gmail_units_per_minute=read("GMAIL_UNITS_PER_MINUTE", _units, "6000"),
            gmail_units_per_day=read("GMAIL_UNITS_PER_DAY", _day, ""),
            gmail_prices=read("GMAIL_PRICES", _among(*get_args(PriceTable)), "2026"),
            recovery=read("RECOVERY", _among(*get_args(Recovery)), "thread-history"),
            watch_label_ids=read("WATCH_LABEL_IDS", _words, ""),
            watch_label_filter_behavior=read("WATCH_LABEL_FILTER_BEHAVIOR", _behavior, "include"),
            sweep_quiet=timedelta(minutes=read("SWEEP_QUIET_MINUTES", _positive, "15")),
            step=timedelta(seconds=read("STEP_SECONDS", _positive, "480")),
            lease=timedelta(seconds=read("LEASE_SECONDS", _positive, "120")),
            store=read("MAILMIRROR_STORE", _store, "firestore"),
            log_level=read("LOG_LEVEL", _level, "INFO"),
            pubsub_emulator_host=read("PUBSUB_EMULATOR_HOST", _host, ""),
            secret_manager_emulator_host=read("SECRET_MANAGER_EMULATOR_HOST", _host, ""),
        )


def _like(pattern: str, what: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text and not re.fullmatch(pattern, text):
            raise ValueError(f"it must be {what}")
        return text

    return parse


_name = _like(r"[^\s/]+", "a name without spaces and slashes")
_account = _like(_ADDRESS, "a service account's e-mail address")
_administrator = _like(_ADDRESS, "an administrator's e-mail address")
_topic = _like(r"projects/[^/]+/topics/[^/]+", "a full name such as projects/my-project/topics/my-topic")
# At most 255 characters; a hash of 40 is added to the prefix.
_secret = _like(
    r"projects/[^/\s]+/secrets/[A-Za-z0-9_-]{1,255}", "a full name such as projects/my-project/secrets/my-client"
)
_secret_prefix = _like(
    r"projects/[^/\s]+/secrets/[A-Za-z0-9_-]{1,215}",
    "the beginning of full names such as projects/my-project/secrets/my-token-",
)
# Google sends browsers nowhere else over http.
_redirect = _like(
    r"(https://[^/\s?#]+|http://(localhost|127\.0\.0\.1)(:[0-9]+)?)(/[^\s?#]*)?/oauth/callback",
    "an https address that ends with /oauth/callback",
)
_host = _like(r"[^\s/]+:[0-9]+", "host:port")


def _among(*choices: str) -> Callable[[str], Any]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"it must be one of {', '.join(choices)}")
        return text

    return parse


def _attachments(text: str, bucket: str, content: ContentKept) -> AttachmentsKept:
    kept: AttachmentsKept = _among(*get_args(AttachmentsKept))(text)
    if kept == "store" and not bucket:
        raise ValueError("it must have a bucket to store them in: BODY_BUCKET is not set")
    if kept == "store" and content == "metadata":
        raise ValueError("it must be none where GMAIL_CONTENT=metadata leaves attachments out")
    return kept


def _behavior(text: str) -> str:
    return str(_among("include", "exclude")(text.lower()))


def _level(text: str) -> str:
    return str(_among("DEBUG", "INFO", "WARNING", "ERROR")(text.upper()))


def _root(text: str) -> str:
    _like(r"https?://[^/\s]+/?", "an address such as https://gmail.googleapis.com/")(text)
    return text.removesuffix("/") + "/"


def _store(text: str) -> str:
    _like("firestore|sqlite:.+", "firestore or sqlite:PATH")(text)
    if not Path(text.removeprefix("sqlite:")).parent.is_dir():
        raise ValueError("it must be in a folder that exists")
    return text


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _scopes(text: str) -> tuple[str, ...]:
    if scopes := _words(text):
        return scopes
    raise ValueError("it must name at least one scope")


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1_000_000:
        raise ValueError("it must be a number above 0 and below 1,000,000")
    return value


def _units(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 500:
        raise ValueError("it must be a whole number from 500 to 999999999")
    return int(text)


def _day(text: str) -> int | None:
    if not text:
        return None
    # For a hundred threads a day.
    if not re.fullmatch("[0-9]{1,12}", text) or int(text) < 10_000:
        raise ValueError("it must be a whole number from 10000")
    return int(text)
