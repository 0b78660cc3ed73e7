"""Configuration: every environment variable, once.

Knows: names, defaults and what a value may be. Does not know: what they are for. A missing or bad value is a
`BadSetting` that names the variable; `main.py` lets it stop the start.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar, cast, get_args

from mailmirror.model import AttachmentsKept, ContentKept
from mailmirror.quota import PriceTable
from mailmirror.reconcile import Recovery

Value = TypeVar("Value")
GmailAuth = Literal["delegation", "oauth", "none"]

READONLY_SCOPE = "https://www.googleapis.com/auth/gmail.readonly"
_ADDRESS = re.compile(r"[^\s/@]+@[^\s/@]+")
_TOPIC = re.compile(r"projects/[^/]+/topics/[^/]+")
# A secret's id has at most 255 characters; a hash of 40 is added to the prefix.
_SECRET = re.compile(r"projects/[^/\s]+/secrets/[A-Za-z0-9_-]{1,255}")
_SECRET_PREFIX = re.compile(r"projects/[^/\s]+/secrets/[A-Za-z0-9_-]{1,215}")
# No more of a bad value is repeated: not an OAuth client's secret pasted where its name belongs.
_SHOWN = 100


class BadSetting(ValueError):
    """An environment variable is missing or cannot be used."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration of one process: each attribute the variable of its name in capitals, as README's Configuration
    says.

    Others are SWEEP_QUIET_MINUTES, STEP_SECONDS, LEASE_SECONDS and MAILMIRROR_STORE.

    Attributes:
        body_bucket: for large bodies and attachments.
        gmail_content: `metadata` asks Gmail for no body.
        attachments: whether their bytes are in the bucket.
        delta_topic: empty: deltas are not published.
        gmail_scopes, watch_label_ids: separated by spaces or commas.
    """

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
        """Read variables by name; an empty value counts as absent.

        Raises:
            BadSetting: a value is missing or bad.
        """

        def read(name: str, parse: Callable[[str], Value], default: str | None = None) -> Value:
            text = environ.get(name, "").strip() or default
            if text is None:
                raise BadSetting(f"{name} is not set.")
            try:
                return parse(text)
            except ValueError as error:
                shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
                raise BadSetting(f"{name}={shown!r} cannot be used: {error}.") from None

        auth = read("GMAIL_AUTH", _auth)
        bucket = read("BODY_BUCKET", _name, "")
        content = read("GMAIL_CONTENT", _content, "full")
        return cls(
            google_cloud_project=read("GOOGLE_CLOUD_PROJECT", _name),
            firestore_database=read("FIRESTORE_DATABASE", _name, "(default)"),
            gmail_topic=read("GMAIL_TOPIC", _topic),
            work_topic=read("WORK_TOPIC", _topic),
            delta_topic=read("DELTA_TOPIC", _topic_or_none, ""),
            body_bucket=bucket,
            gmail_content=content,
            attachments=read("ATTACHMENTS", partial(_attachments, bucket=bucket, content=content), "none"),
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
            gmail_prices=read("GMAIL_PRICES", _prices, "2026"),
            recovery=read("RECOVERY", _recovery, "thread-history"),
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


def _one_of(text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise ValueError(f"it must be one of {', '.join(choices)}")
    return text


def _name(text: str) -> str:
    if re.search(r"[\s/]", text):
        raise ValueError("it must be a name without spaces and slashes")
    return text


def _account(text: str) -> str:
    if text and not _ADDRESS.fullmatch(text):
        raise ValueError("it must be a service account's e-mail address")
    return text


def _administrator(text: str) -> str:
    if text and not _ADDRESS.fullmatch(text):
        raise ValueError("it must be an administrator's e-mail address")
    return text


def _secret(text: str) -> str:
    if text and not _SECRET.fullmatch(text):
        raise ValueError("it must be a full name such as projects/my-project/secrets/my-client")
    return text


def _secret_prefix(text: str) -> str:
    if text and not _SECRET_PREFIX.fullmatch(text):
        raise ValueError("it must be the beginning of full names such as projects/my-project/secrets/my-token-")
    return text


def _redirect(text: str) -> str:
    # Google sends browsers nowhere else over http.
    if text and not re.fullmatch(
        r"(https://[^/\s?#]+|http://(localhost|127\.0\.0\.1)(:[0-9]+)?)(/[^\s?#]*)?/oauth/callback", text
    ):
        raise ValueError("it must be an https address that ends with /oauth/callback")
    return text


def _host(text: str) -> str:
    if text and not re.fullmatch(r"[^\s/]+:[0-9]+", text):
        raise ValueError("it must be host:port")
    return text


def _auth(text: str) -> GmailAuth:
    return cast("GmailAuth", _one_of(text, get_args(GmailAuth)))


def _content(text: str) -> ContentKept:
    return cast("ContentKept", _one_of(text, get_args(ContentKept)))


def _attachments(text: str, *, bucket: str, content: ContentKept) -> AttachmentsKept:
    _one_of(text, get_args(AttachmentsKept))
    if text == "none":
        return "none"
    if not bucket:
        raise ValueError("it must have a bucket to store them in: BODY_BUCKET is not set")
    if content == "metadata":
        raise ValueError("it must be none where GMAIL_CONTENT=metadata leaves attachments out")
    return "store"


def _prices(text: str) -> PriceTable:
    _one_of(text, get_args(PriceTable))
    return "2026" if text == "2026" else "legacy"


def _recovery(text: str) -> Recovery:
    _one_of(text, get_args(Recovery))
    return "full" if text == "full" else "thread-history"


def _behavior(text: str) -> str:
    return _one_of(text.lower(), ("include", "exclude"))


def _level(text: str) -> str:
    return _one_of(text.upper(), ("DEBUG", "INFO", "WARNING", "ERROR"))


def _topic(text: str) -> str:
    if not _TOPIC.fullmatch(text):
        raise ValueError("it must be a full name such as projects/my-project/topics/my-topic")
    return text


def _topic_or_none(text: str) -> str:
    return _topic(text) if text else ""


def _root(text: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+/?", text):
        raise ValueError("it must be an address such as https://gmail.googleapis.com/")
    return text if text.endswith("/") else text + "/"


def _store(text: str) -> str:
    if text != "firestore" and not re.fullmatch(r"sqlite:.+", text):
        raise ValueError("it must be firestore or sqlite:PATH")
    if text != "firestore" and not Path(text.removeprefix("sqlite:")).parent.is_dir():
        raise ValueError("it must be in a folder that exists")
    return text


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _scopes(text: str) -> tuple[str, ...]:
    scopes = _words(text)
    if not scopes:
        raise ValueError("it must name at least one scope")
    return scopes


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1_000_000:
        raise ValueError("it must be a number above 0 and below 1,000,000")
    return value


def _units(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 500:
        raise ValueError("it must be a whole number from 500 to 999999999")
    return int(text)


def _day(text: str) -> int | None:
    if not text:
        return None
    # Less would not bring a hundred threads a day, whatever live mail takes of it.
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) < 10_000:
        raise ValueError("it must be a whole number from 10000")
    return int(text)
