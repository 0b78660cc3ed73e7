"""The application on the adapters that the settings name, each made and imported at its first use.

Knows: which adapter serves which port, and what it needs of the settings. Does not know: what `app` does with them. No
request pays for what it does not need.
"""

import os
import secrets
import socket
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, NoReturn, TypeVar, cast

from mailmirror.announce import Announcer
from mailmirror.app import App
from mailmirror.config import BadSetting, Settings
from mailmirror.consent import AuthorizationServer, Consents, forget
from mailmirror.errors import ConsentNotGiven, StoreUnavailable
from mailmirror.keep import Kept
from mailmirror.lease import Pace
from mailmirror.model import MailboxId
from mailmirror.ports import Blobs, Clock, Directory, GmailAccounts, Publisher, Store, Topic
from mailmirror.quota import PRICES
from mailmirror.web_consent import WebConsent

Port = TypeVar("Port")


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """See `ports.Clock`."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """See `ports.Clock`."""
        time.sleep(seconds)


class _AtFirstUse:
    def __init__(self, make: Callable[[], object]) -> None:
        self._made = cache(make)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made(), name)


def at_first_use(make: Callable[[], Port]) -> Port:
    """Return a port that is made at its first use; if that fails, the next tries again."""
    return cast("Port", _AtFirstUse(make))


def from_settings(settings: Settings) -> App:
    """Return the application, its store opened. Raises `BadSetting`: that failed."""
    clock = SystemClock()
    store = _store(settings)
    consents = at_first_use(lambda: _consents(settings)) if settings.gmail_auth == "oauth" else None
    return App(
        accounts=at_first_use(lambda: _accounts(settings, clock, consents)),
        store=store,
        blobs=at_first_use(lambda: _blobs(settings)) if settings.body_bucket else None,
        publisher=at_first_use(lambda: _publisher(settings)),
        clock=clock,
        prices=PRICES[settings.gmail_prices],
        new_owner=lambda: f"{os.environ.get('K_REVISION', socket.gethostname())}/{uuid.uuid4()}",
        pace=Pace(lease=settings.lease, quiet=settings.sweep_quiet),
        step=settings.step,
        new_run_id=lambda: str(uuid.uuid4()),
        consent=_consent(settings, store, clock, consents) if consents is not None else None,
        directory=at_first_use(lambda: _directory(settings, clock)) if _lists_people(settings) else None,
        units_per_minute=settings.gmail_units_per_minute,
        units_per_day=settings.gmail_units_per_day,
        recovery=settings.recovery,
        kept=Kept(settings.gmail_content, settings.attachments),
        announcer=_announcer(settings, store, clock) if settings.delta_topic else None,
    )


def _accounts(settings: Settings, clock: Clock, consents: Consents | None) -> GmailAccounts:
    from mailmirror.adapters.credentials import for_mailbox
    from mailmirror.adapters.gmail import GmailApiAccounts

    return GmailApiAccounts(
        for_mailbox(settings.gmail_auth, settings.gmail_delegate, settings.gmail_scopes, consents),
        api_root=settings.gmail_api_root,
        clock=clock,
        units_per_minute=settings.gmail_units_per_minute,
        units_per_day=settings.gmail_units_per_day,
        prices=settings.gmail_prices,
        topic=settings.gmail_topic,
        watch_label_ids=settings.watch_label_ids,
        watch_label_filter_behavior=settings.watch_label_filter_behavior,
        forgets=partial(_forget, consents),
    )


def _consents(settings: Settings) -> Consents:
    from mailmirror.adapters.consents import SecretConsents

    host = settings.secret_manager_emulator_host or None
    return SecretConsents(settings.gmail_oauth_client, settings.gmail_token_prefix, host)


def _google() -> AuthorizationServer:
    from mailmirror.adapters.oauth import GoogleOAuth

    return GoogleOAuth()


def _forget(consents: Consents | None, mailbox: MailboxId) -> int:
    return 0 if consents is None else forget(consents, _google(), mailbox)


def _owner(settings: Settings, clock: Clock, access_token: str) -> str:
    from google.oauth2.credentials import Credentials

    from mailmirror.adapters.gmail import GmailApiAccounts

    root, topic = settings.gmail_api_root, settings.gmail_topic
    # After Gmail's 401.
    given = Credentials(access_token, refresh_handler=_refused)
    whoever = GmailApiAccounts(lambda _: given, clock=clock, topic=topic, api_root=root)
    return whoever.open("me", None).profile().email_address


def _refused(*_: Any, **__: Any) -> NoReturn:
    raise ConsentNotGiven(
        "Gmail does not accept the access that was just given: it was taken back at once, or is not known everywhere "
        "yet. Nothing was kept."
    )


def _consent(settings: Settings, store: Store, clock: Clock, consents: Consents) -> WebConsent:
    return WebConsent(
        consents,
        at_first_use(_google),
        partial(_owner, settings, clock),
        store,
        clock,
        scopes=settings.gmail_scopes,
        new_nonce=lambda: secrets.token_urlsafe(16),
        redirect_uri=settings.oauth_redirect_uri,
    )


def _lists_people(settings: Settings) -> bool:
    # Consent says nothing of others.
    return bool(settings.directory_admin) and settings.gmail_auth != "oauth"


def _directory(settings: Settings, clock: Clock) -> Directory:
    from mailmirror.adapters.credentials import for_mailbox
    from mailmirror.adapters.directory import SCOPES, DirectoryApi

    return DirectoryApi(
        for_mailbox(settings.gmail_auth, settings.gmail_delegate, SCOPES),
        settings.directory_admin,
        clock=clock,
        api_root=settings.directory_api_root,
    )


def _publisher(settings: Settings) -> Publisher:
    from mailmirror.adapters.pubsub import PubSubPublisher

    return PubSubPublisher(settings.work_topic, emulator_host=settings.pubsub_emulator_host or None)


def _announcer(settings: Settings, store: Store, clock: Clock) -> Announcer:
    topic = at_first_use(lambda: _delta_topic(settings))
    return Announcer(store, topic, clock, f"//mailmirror/projects/{settings.google_cloud_project}")


def _delta_topic(settings: Settings) -> Topic:
    from mailmirror.adapters.pubsub import PubSubTopic

    # Live mail may wait for it.
    return PubSubTopic(settings.delta_topic, emulator_host=settings.pubsub_emulator_host or None, patience=3.0)


def _store(settings: Settings) -> Store:
    if settings.store.startswith("sqlite:"):
        import sqlite3

        try:
            from mailmirror.adapters.sqlite import SqliteStore
        except ImportError as error:
            raise BadSetting(
                f"MAILMIRROR_STORE={settings.store!r} is for one machine, and not deployed: set 'firestore'."
            ) from error
        try:
            return SqliteStore(settings.store.removeprefix("sqlite:"))
        except sqlite3.OperationalError as error:
            raise BadSetting(f"MAILMIRROR_STORE={settings.store!r} cannot be opened: {error}.") from error
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import firestore

    from mailmirror.adapters.firestore import FirestoreStore

    try:
        client = firestore.Client(project=settings.google_cloud_project, database=settings.firestore_database)
    except DefaultCredentialsError as error:
        raise BadSetting(f"MAILMIRROR_STORE='firestore' needs Google's credentials: {error}") from error
    return FirestoreStore(client)


def _blobs(settings: Settings) -> Blobs:
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import storage

    from mailmirror.adapters.storage import StorageBlobs

    try:
        client = storage.Client(project=settings.google_cloud_project)
    except DefaultCredentialsError as error:
        raise StoreUnavailable(f"Cloud Storage needs Google's credentials: {error}") from error
    return StorageBlobs(client, settings.body_bucket)
