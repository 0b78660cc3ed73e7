"""The application: ports wired to adapters, the work of each entry point, the acknowledgement rule and JSON logs.

Knows: which adapter serves which port, and that a failure's own `acknowledge` decides what Pub/Sub is answered. Does
not know: HTTP routes (`api`) or how mail is synced (`engine`). Law 8.
"""

import json
import logging
import os
import socket
import sqlite3
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from mailmirror import mailboxes
from mailmirror.config import BadSetting, Settings
from mailmirror.documents import from_document
from mailmirror.engine import Errand, SyncEngine, Turn
from mailmirror.errors import InvalidInput, MailmirrorError, Throttled, UnknownMailbox
from mailmirror.lease import Pace
from mailmirror.log import log
from mailmirror.model import Mailbox, MailboxId, Policy, Run
from mailmirror.notification import read_notification, read_work
from mailmirror.ports import Blobs, Clock, GmailAccounts, Publisher, Store
from mailmirror.quota import PRICES

# How often trigger_sync looks again while another worker has the lease.
POLL_SECONDS = 0.5

TriggerMode = Literal["incremental", "full", "audit"]


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current time."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Triggered:
    """What a triggered sync came to: `done`, or `running` by itself from here on."""

    mode: TriggerMode
    status: Literal["done", "running"]
    run_id: str | None
    threads_processed: int
    messages_processed: int


class App:
    """The work of the entry points, over ports."""

    def __init__(
        self,
        *,
        accounts: GmailAccounts,
        store: Store,
        blobs: Blobs | None,
        publisher: Publisher,
        clock: Clock,
        prices: Mapping[str, int],
        new_owner: Callable[[], str],
        pace: Pace,
        step: timedelta,
        new_run_id: Callable[[], str],
    ) -> None:
        """Wire the application; see `SyncEngine` for the ports. `step` bounds one invocation's work."""
        self.accounts = accounts
        self.store = store
        self.publisher = publisher
        self.clock = clock
        self.step = step
        self.new_run_id = new_run_id
        self.engine = SyncEngine(accounts, store, blobs, clock, prices=prices, new_owner=new_owner, pace=pace)

    # Pushes

    def push(self, handle: Callable[[bytes], None], body: bytes) -> int:
        """Handle a push and return the HTTP status it is answered with.

        Args:
            handle: `sync_history` or `run_work`.
            body: the HTTP body.

        Returns:
            204: acknowledged. 400: malformed, for the dead-letter topic. 503: Pub/Sub is to come back.
        """
        try:
            handle(body)
        except InvalidInput as error:
            log("push_malformed", level=logging.WARNING, error=str(error))
            return 400
        except MailmirrorError as error:
            level = logging.WARNING if error.acknowledge else logging.INFO
            log("push_failed", level=level, error=type(error).__name__, reason=str(error), retry=not error.acknowledge)
            return 204 if error.acknowledge else 503
        return 204

    def sync_history(self, body: bytes) -> None:
        """Handle a notification: catch up, and start a run if there has to be one."""
        notice = read_notification(body)
        self._sync(
            Errand(
                notice.mailbox,
                self.clock.now() + self.step,
                hint=notice.history_id,
                noticed_at=notice.published_at,
                runs=False,
            )
        )

    def run_work(self, body: bytes) -> None:
        """Handle a work message: one step of whatever the mailbox needs."""
        work = read_work(body)
        self._sync(Errand(work.mailbox, self.clock.now() + self.step, renew=work.task == "renew"))

    def _sync(self, errand: Errand) -> Turn:
        turn = self.engine.sync(errand)
        _log_turn(errand, turn)
        if turn.status == "unfinished":
            # After the release, so that whoever gets it finds the lease free.
            self.publisher.publish(errand.mailbox, "sync")
        return turn

    # Schedules

    def sweep_mailboxes(self) -> int:
        """Publish work for each mailbox that is due and return how many."""
        count, overdue = mailboxes.sweep(self.store, self.publisher, self.clock.now())
        log("swept", mailboxes=count, overdue=overdue)
        return count

    def renew_watches(self) -> int:
        """Publish work for each watch to renew and return how many."""
        count = mailboxes.renew(self.store, self.publisher, self.clock.now())
        log("renewals_published", mailboxes=count)
        return count

    # People

    def connect(self, address: str, policy: Policy | None) -> tuple[Mailbox, bool]:
        """Connect a mailbox; see `mailboxes.connect`."""
        mailbox, created = mailboxes.connect(self.store, self.accounts, self.publisher, self.clock, address, policy)
        log("mailbox_connected" if created else "mailbox_confirmed", mailbox.email_address)
        return mailbox, created

    def mailbox(self, address: str) -> Mailbox:
        """Return a connected mailbox.

        Raises:
            UnknownMailbox: not connected.
        """
        name = mailboxes.mailbox_id(address)
        mailbox = self.store.mailbox(name)
        if mailbox is None:
            raise UnknownMailbox(f"Mailbox {name} is not connected.")
        return mailbox

    def trigger_sync(self, address: str, mode: TriggerMode, wait: float) -> Triggered:
        """Sync a mailbox now, and let it go on by itself if that takes longer than `wait` seconds.

        Args:
            address: the mailbox.
            mode: `incremental` catches up; `full` fetches everything again; `audit` compares everything and mends it.
            wait: seconds.

        Raises:
            UnknownMailbox, AccessRevoked, GmailRejected, Throttled, GmailUnavailable, StoreUnavailable: as named.
        """
        name = self.mailbox(address).email_address
        deadline = self.clock.now() + timedelta(seconds=wait)
        run_id = None
        if mode != "incremental":
            run_id = mailboxes.request_run(self.store, self.clock, name, mode, self.new_run_id())
        messages = threads = 0
        while True:
            errand = Errand(name, deadline, runs=run_id is not None, insist=True)
            try:
                turn = self.engine.sync(errand)
            except MailmirrorError as error:
                if not error.acknowledge:
                    # Nobody pushes this again, as Pub/Sub would.
                    self.publisher.publish(name, "sync")
                raise
            if turn.status != "held":
                # Who waits for another worker looks twice a second: nothing is told of that.
                _log_turn(errand, turn)
            messages, threads = messages + turn.messages, threads + turn.threads
            if turn.status == "throttled":
                raise Throttled(f"Gmail's quota for {name} is used up.")
            run = self._run_of(name, run_id)
            if run is not None and not run.active:
                if turn.status == "unfinished":
                    # Something else is left: a notification that came during the run.
                    self.publisher.publish(name, "sync")
                return Triggered(mode, "done", run.id, run.threads_processed, run.messages_processed)
            if run_id is None and turn.status == "done":
                return Triggered(mode, "done", None, threads, messages)
            if self.clock.now() >= deadline or (run_id is None and turn.status == "unfinished"):
                break
            self.clock.sleep(POLL_SECONDS)
        self.publisher.publish(name, "sync")
        if run is not None:
            messages, threads = run.messages_processed, run.threads_processed
        # What an incremental sync leaves running is a run that was under way.
        under_way = self.mailbox(name).active_run
        return Triggered(mode, "running", run_id or (under_way.id if under_way else None), threads, messages)

    def _run_of(self, mailbox: MailboxId, run_id: str | None) -> Run | None:
        if run_id is None:
            return None
        run = self.mailbox(mailbox).run
        if run is not None and run.id == run_id:
            return run
        path = ("runs", run_id)
        stored = self.store.documents(mailbox, [path]).get(path)
        return None if stored is None else from_document(Run, stored)


def _log_turn(errand: Errand, turn: Turn) -> None:
    log(
        "synced",
        errand.mailbox,
        status=turn.status,
        hint=errand.hint,
        messages=turn.messages,
        threads=turn.threads,
        units=turn.units,
        rejected=turn.rejected,
        lag=turn.lag,
        parked=turn.parked,
    )


def from_settings(settings: Settings) -> App:
    """Return the application on the adapters that the settings name; each is imported here, and only when it is used.

    Raises:
        BadSetting: what a setting names cannot be opened.
    """
    from mailmirror.adapters.credentials import for_mailbox
    from mailmirror.adapters.gmail import GmailApiAccounts
    from mailmirror.adapters.pubsub import PubSubPublisher

    clock = SystemClock()
    accounts = GmailApiAccounts(
        for_mailbox(
            settings.gmail_auth,
            settings.gmail_delegate,
            settings.gmail_scopes,
            oauth_client=settings.gmail_oauth_client,
            token_prefix=settings.gmail_token_prefix,
        ),
        api_root=settings.gmail_api_root,
        clock=clock,
        units_per_minute=settings.gmail_units_per_minute,
        prices=settings.gmail_prices,
        topic=settings.gmail_topic,
        watch_label_ids=settings.watch_label_ids,
        watch_label_filter_behavior=settings.watch_label_filter_behavior,
    )
    return App(
        accounts=accounts,
        store=_store(settings),
        blobs=_blobs(settings),
        publisher=PubSubPublisher(settings.work_topic, emulator_host=settings.pubsub_emulator_host or None),
        clock=clock,
        prices=PRICES[settings.gmail_prices],
        new_owner=lambda: f"{os.environ.get('K_REVISION', socket.gethostname())}/{uuid.uuid4()}",
        pace=Pace(lease=settings.lease, quiet=settings.sweep_quiet),
        step=settings.step,
        new_run_id=lambda: str(uuid.uuid4()),
    )


def _store(settings: Settings) -> Store:
    if settings.store.startswith("sqlite:"):
        from mailmirror.adapters.sqlite import SqliteStore

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


def _blobs(settings: Settings) -> Blobs | None:
    if not settings.body_bucket:
        return None
    from google.cloud import storage

    from mailmirror.adapters.storage import StorageBlobs

    return StorageBlobs(storage.Client(project=settings.google_cloud_project), settings.body_bucket)


class JsonLines(logging.Formatter):
    """One JSON object a line, as Cloud Logging reads it from standard output."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record: severity, time, event and fields."""
        fields: dict[str, Any] = getattr(record, "fields", {})
        line = {
            "severity": record.levelname,
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "event": record.getMessage(),
            **fields,
        }
        return json.dumps(line, default=_plain)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def configure_logs(level: str) -> None:
    """Send Mailmirror's events to standard output as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("mailmirror")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level)


def log_unexpected(error: Exception) -> None:
    """Log a failure that has no name: its type and where it was, not its text, which may hold mail."""
    frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-5:]]
    log("unexpected_failure", level=logging.ERROR, error=type(error).__name__, at=frames)
