"""The work of each entry point over ports, and JSON logs.

Knows: a failure's `acknowledge` decides Pub/Sub's answer (law 8). Does not know: adapters, routes, how mail is synced.
"""

import json
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from mailmirror import mailboxes
from mailmirror.announce import Announcer
from mailmirror.deltas import Deltas
from mailmirror.discovery import Crowd, Discovery, Found, Place
from mailmirror.documents import from_document
from mailmirror.engine import SyncEngine
from mailmirror.errand import CONTINUATION, Errand, Turn
from mailmirror.errors import DirectoryRejected, InvalidInput, MailmirrorError, Throttled, UnknownMailbox
from mailmirror.estimate import Estimate, Terms, first_sync, survey
from mailmirror.finding import Finding
from mailmirror.keep import Kept
from mailmirror.lease import Pace
from mailmirror.log import log
from mailmirror.model import Mailbox, MailboxId, Policy, Receipt, Run, Wanted
from mailmirror.notification import read_notification, read_work
from mailmirror.ports import Blobs, Clock, Directory, GmailAccounts, Publisher, Store, Task
from mailmirror.reading import Attachments, Messages
from mailmirror.reconcile import Recovery
from mailmirror.web_consent import WebConsent

# Between looks at another worker's lease.
POLL_SECONDS = 0.5

TriggerMode = Literal["incremental", "full", "audit"]


@dataclass(frozen=True, slots=True)
class Triggered:
    """What a sync came to; `running` goes on by itself."""

    mode: TriggerMode
    status: Literal["done", "running"]
    run_id: str | None
    threads_processed: int
    messages_processed: int


@dataclass(eq=False, kw_only=True)
class App:
    """The work of the entry points; see `SyncEngine`, too.

    Attributes:
        step: of one invocation.
        directory: None: nobody said as whom to list people.
        units_per_minute, units_per_day: for `plan`.
    """

    accounts: GmailAccounts
    store: Store
    blobs: Blobs | None
    publisher: Publisher
    clock: Clock
    prices: Mapping[str, int]
    new_owner: Callable[[], str]
    pace: Pace
    step: timedelta
    new_run_id: Callable[[], str]
    consent: WebConsent | None = None
    directory: Directory | None = None
    units_per_minute: int = 6_000
    units_per_day: int | None = None
    recovery: Recovery = "thread-history"
    kept: Kept = field(default_factory=Kept)
    announcer: Announcer | None = None

    def __post_init__(self) -> None:
        accounts, store, blobs, clock = self.accounts, self.store, self.blobs, self.clock
        self.finding = Finding(store)
        self.messages = Messages(store, blobs)
        self.attachments = Attachments(store, accounts, blobs, clock)
        self.deltas = Deltas(store, clock)
        self.terms = Terms(self.prices, self.units_per_minute, self.step.total_seconds(), self.units_per_day)
        self.engine = SyncEngine(
            accounts,
            store,
            blobs,
            clock,
            self.pace,
            self.kept,
            self.prices,
            self.new_owner,
            self.recovery,
            self.announcer,
        )

    # Pushes

    def push(self, handle: Callable[[bytes], None], body: bytes) -> int:
        """Handle a push: 204 acknowledges, 400 is for the dead-letter topic, 503 to come again."""
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
        """Handle a notification."""
        notice = read_notification(body)
        until, at = self.clock.now() + self.step, notice.published_at
        self._sync(Errand(notice.mailbox, until, hint=notice.history_id, noticed_at=at, runs=False))

    def run_work(self, body: bytes) -> None:
        """Handle a work message: one step."""
        work = read_work(body)
        self._sync(Errand(work.mailbox, self.clock.now() + self.step, renew=work.task == "renew", purges=True))

    def _sync(self, errand: Errand) -> Turn:
        turn = self.engine.sync(errand)
        _log_turn(errand, turn)
        task = CONTINUATION.get(turn.status)
        if task is not None:
            # The lease is free.
            self.publisher.publish(errand.mailbox, task)
        return turn

    # Schedules

    def sweep_mailboxes(self) -> int:
        """Publish work for due mailboxes; return how many."""
        count, overdue = mailboxes.sweep(self.store, self.publisher, self.clock.now())
        log("swept", mailboxes=count, overdue=overdue)
        return count

    def renew_watches(self) -> int:
        """Publish work for watches to renew; return how many."""
        count = mailboxes.renew(self.store, self.publisher, self.clock.now())
        log("renewals_published", mailboxes=count)
        return count

    # People

    def connect(self, address: str, policy: Policy | None, *, asked_at: datetime | None = None) -> tuple[Mailbox, bool]:
        """See `mailboxes.connect`."""
        mailbox, created = mailboxes.connect(
            self.store, self.accounts, self.publisher, self.clock, address, policy, asked_at=asked_at
        )
        log("mailbox_connected" if created else "mailbox_confirmed", mailbox.email_address)
        return mailbox, created

    def asks(self) -> WebConsent:
        """Return what asks users for consent. Raises `InvalidInput`."""
        if self.consent is None:
            raise InvalidInput("Nobody is asked for consent here, because GMAIL_AUTH is not oauth.")
        return self.consent

    def consented(self, *, state: str, code: str, error: str) -> Mailbox:
        """Connect the mailbox of `WebConsent.answered` under the default policy."""
        return self.asks().answered(
            lambda mailbox, asked_at: self.connect(mailbox, None, asked_at=asked_at)[0],
            state=state,
            code=code,
            error=error,
        )

    def mailbox(self, address: str) -> Mailbox:
        """Return a mailbox. Raises `UnknownMailbox`: not connected."""
        return mailboxes.known(self.store, mailboxes.mailbox_id(address))

    def plan(self, address: str) -> Estimate:
        """Return what a first sync takes, connected or not."""
        name = mailboxes.mailbox_id(address)
        stored = self.store.mailbox(name)
        seen = survey(self.accounts.open(name, stored.quota if stored is not None else None), name)
        policy = stored.policy if stored is not None else Policy()
        bodies = policy.bodies and self.kept.content == "full"
        estimate = first_sync(seen, replace(self.terms, bodies=bodies))
        log("mailbox_estimated", name, messages=seen.messages, units=estimate.units.value)
        return estimate

    def discover(self, crowd: Crowd, place: Place, *, policy: Policy | None, dry_run: bool, wait: float) -> Found:
        """Connect people for `wait` seconds, or with `dry_run` say whom, from `place` on; see `Discovery`."""
        if self.directory is None:
            raise DirectoryRejected(
                "Nobody may list people yet: set DIRECTORY_ADMIN to the address of an administrator of the Workspace"
                " account, with GMAIL_AUTH=delegation."
            )
        discovery = Discovery(
            self.store, self.accounts, self.publisher, self.clock, self.directory, policy=policy, dry_run=dry_run
        )
        found = discovery.run(crowd, place, self.clock.now() + timedelta(seconds=wait))
        log(
            "discovered",
            connected=len(found.connected),
            confirmed=len(found.confirmed),
            skipped=len(found.skipped),
            failed=len(found.failed),
            complete=found.next is None,
            dry_run=dry_run,
        )
        return found

    def trigger_sync(self, address: str, mode: TriggerMode, wait: float, *, retry_parked: bool = False) -> Triggered:
        """Sync a mailbox now; after `wait` seconds it goes on by itself.

        Args:
            mode: `incremental` catches up; `full` fetches all again; `audit` compares and mends.
            retry_parked: `incremental` tries each parked message once.
        """
        name = mailboxes.wanted_live(self.mailbox(address)).email_address
        asked_at = self.clock.now()
        deadline = asked_at + timedelta(seconds=wait)
        since = asked_at if retry_parked else None
        run_id = None
        if mode != "incremental":
            run_id = mailboxes.request_run(self.store, self.clock, name, mode, self.new_run_id())
        messages = threads = 0
        while True:
            turn = self._turn(Errand(name, deadline, runs=run_id is not None, insist=True, retry_since=since), "sync")
            messages, threads = messages + turn.messages, threads + turn.threads
            if turn.status == "throttled":
                raise Throttled(f"Gmail's quota for {name} is used up.")
            if turn.status in ("stopped", "purging", "purged", "unknown"):
                mailboxes.wanted_live(self.mailbox(name))
            run = self._run_of(name, run_id)
            if run is not None and not run.active:
                if turn.status == "unfinished":
                    # A notification came during the run.
                    self.publisher.publish(name, "sync")
                return Triggered(mode, "done", run.id, run.threads_processed, run.messages_processed)
            if run_id is None and turn.status == "done":
                return Triggered(mode, "done", None, threads, messages)
            # A run may rest until tomorrow.
            over = turn.status == ("unfinished" if run_id is None else "done")
            if over or self.clock.now() >= deadline:
                break
            self.clock.sleep(POLL_SECONDS)
        self.publisher.publish(name, "sync")
        if run is not None:
            messages, threads = run.messages_processed, run.threads_processed
        # An incremental sync may leave a run.
        under_way = self.mailbox(name).active_run
        return Triggered(mode, "running", run_id or (under_way.id if under_way else None), threads, messages)

    def stop(self, address: str, wait: float) -> Mailbox:
        """Stop a mailbox until it is connected again; return it after `wait` seconds, at rest or not yet."""
        name = mailboxes.mailbox_id(address)
        mailboxes.stop(self.store, self.publisher, self.clock, name)
        state = self._carried_out(name, "stopped", wait)
        if state is None:
            raise UnknownMailbox(f"Mailbox {name} is not connected.")
        return state

    def delete(self, address: str, wait: float) -> Receipt | Mailbox:
        """Delete a mailbox and all that was mirrored; return the receipt, also an earlier one, or after `wait` seconds
        the mailbox: it goes on by itself.
        """
        name = mailboxes.mailbox_id(address)
        try:
            mailboxes.purge(self.store, self.publisher, self.clock, name)
        except UnknownMailbox:
            receipt = self._left_behind(name) or self.store.receipt(name)
            if receipt is None:
                raise
            return receipt
        state = self._carried_out(name, "purged", wait)
        if state is not None and state.wanted == "purged":
            return state
        receipt = self.store.receipt(name)
        if receipt is None:
            raise UnknownMailbox(f"Mailbox {name} is not connected.")
        return receipt

    def _left_behind(self, mailbox: MailboxId) -> Receipt | None:
        """Forget the consent of a mailbox that is not connected; return what went now and before, None if nothing."""
        secrets = self.accounts.forget(mailbox)
        if not secrets:
            return None
        log("consent_forgotten", mailbox)
        now = self.clock.now()
        nothing = Receipt(mailbox, {}, 0, 0, watch_stopped=True, started_at=now, purged_at=now, expire_at=now)
        before = self.store.receipt(mailbox) or nothing
        return replace(before, secrets=before.secrets + secrets, purged_at=now)

    def _carried_out(self, mailbox: MailboxId, wanted: Wanted, wait: float) -> Mailbox | None:
        """Work for `wait` seconds; return the mailbox, None if it is gone.

        What was published may have met this worker's lease: again.
        """
        deadline = self.clock.now() + timedelta(seconds=wait)
        task: Task = "purge" if wanted == "purged" else "sync"
        turn: Turn | None = None
        while True:
            state = self.store.mailbox(mailbox)
            settled = state is None or state.wanted != wanted or mailboxes.at_rest(state)
            if settled or (turn is not None and self.clock.now() >= deadline):
                # If something else is wanted, it may be left.
                left = None if turn is None else CONTINUATION.get(turn.status) if settled else task
                if left is not None:
                    self.publisher.publish(mailbox, left)
                return state
            turn = self._turn(Errand(mailbox, deadline, purges=wanted == "purged"), task)
            if turn.status == "held":
                self.clock.sleep(POLL_SECONDS)

    def _turn(self, errand: Errand, task: Task) -> Turn:
        try:
            turn = self.engine.sync(errand)
        except MailmirrorError as error:
            if not error.acknowledge:
                # Nobody pushes this again.
                self.publisher.publish(errand.mailbox, task)
            raise
        if turn.status != "held":
            # Twice a second.
            _log_turn(errand, turn)
        return turn

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


class JsonLines(logging.Formatter):
    """For Cloud Logging."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "severity": record.levelname,
            "time": datetime.fromtimestamp(record.created, UTC),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return json.dumps(line, default=_plain)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def configure_logs(level: str) -> None:
    """Send events to standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("mailmirror")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level)


def log_unexpected(error: Exception) -> None:
    """Log a failure without a name, not its text, which may hold mail."""
    frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-5:]]
    log("unexpected_failure", level=logging.ERROR, error=type(error).__name__, at=frames)
