"""What the domain needs of the world: Gmail, a store, blobs, a publisher and a clock.

Knows: the calls, what they return and what they may raise. Does not know: any technology. Each Protocol has an adapter
in `adapters/` and a behavioural fake or second adapter that passes the same contract suite.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Literal, Protocol

from mailmirror.model import (
    Due,
    Failed,
    FetchedThread,
    Gone,
    Held,
    HistoryId,
    HistoryPage,
    Label,
    LabelId,
    Lease,
    Mailbox,
    MailboxId,
    Message,
    MessageId,
    MessagePage,
    Parked,
    PeoplePage,
    Policy,
    Profile,
    Quota,
    Receipt,
    RunRequest,
    Thread,
    ThreadId,
    ThreadPage,
    Wanted,
    Watch,
)
from mailmirror.slice import Document, Path, Write

Task = Literal["sync", "renew", "purge"]


class Clock(Protocol):
    """Time, so that tests and the simulation own it."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        ...


class Gmail(Protocol):
    """One mailbox in Gmail.

    Every call asks the mailbox's budget first and raises a `GmailError` when it cannot answer.
    """

    @property
    def spent(self) -> int:
        """Quota units spent since this object was made."""
        ...

    @property
    def rejected(self) -> int:
        """Calls Gmail refused for quota since this object was made."""
        ...

    @property
    def quota(self) -> Quota:
        """The level of the budget now, to be stored with the next commit."""
        ...

    @property
    def day_left(self) -> int | None:
        """The quota units that runs may still spend today; None when the day has no limit."""
        ...

    def affordable(self, seconds: float) -> int:
        """Return the quota units that can be spent within `seconds`, waiting included."""
        ...

    def sparing(self) -> AbstractContextManager[None]:
        """Return a context in which calls leave the reserve of the budget to live mail: a run's slices."""
        ...

    def profile(self) -> Profile:
        """users.getProfile."""
        ...

    def history(self, start: HistoryId, page_token: str | None = None) -> HistoryPage:
        """users.history.list after `start`, unfiltered, 500 records a page.

        Raises:
            HistoryExpired: 404, `start` is older than what Gmail keeps.
            PageTokenExpired: the page token was refused.
        """
        ...

    def list_messages(
        self,
        page_token: str | None,
        *,
        include_spam_trash: bool,
        label_ids: Sequence[LabelId] = (),
        since: datetime | None = None,
    ) -> MessagePage:
        """users.messages.list, 500 a page; `label_ids` narrows to messages with all of them, `since` to newer ones.

        Raises:
            PageTokenExpired: the page token was refused.
        """
        ...

    def list_threads(
        self,
        page_token: str | None,
        *,
        include_spam_trash: bool,
        label_ids: Sequence[LabelId] = (),
        since: datetime | None = None,
    ) -> ThreadPage:
        """users.threads.list, 500 a page, narrowed as messages are: to threads that have such a message.

        Raises:
            PageTokenExpired: the page token was refused.
        """
        ...

    def messages(self, ids: Sequence[MessageId], *, bodies: bool = True) -> Mapping[MessageId, Message | Gone | Failed]:
        """users.messages.get for each id, in full or without bodies: a result for every id, none dropped."""
        ...

    def threads(
        self, ids: Sequence[ThreadId], *, minimal: bool = False, bodies: bool = True
    ) -> Mapping[ThreadId, FetchedThread | Gone | Failed]:
        """users.threads.get for each id, in full, without bodies, or only ids and labels: a result for every id, none
        dropped.
        """
        ...

    def gets(
        self, messages: Sequence[MessageId], threads: Sequence[ThreadId], *, bodies: bool = True
    ) -> tuple[Mapping[MessageId, Message | Gone | Failed], Mapping[ThreadId, FetchedThread | Gone | Failed]]:
        """Both of the above at the same time, threads in full or without bodies."""
        ...

    def labels(self) -> tuple[Label, ...]:
        """users.labels.list."""
        ...

    def watch(self) -> Watch:
        """users.watch: create or renew the watch on the notification topic."""
        ...

    def stop(self) -> None:
        """users.stop: Gmail publishes nothing about this mailbox any more."""
        ...


class GmailAccounts(Protocol):
    """Opens mailboxes in Gmail."""

    def open(self, mailbox: MailboxId, quota: Quota | None) -> Gmail:
        """Return the mailbox, its budget at the level last stored (None: never used)."""
        ...

    def forget(self, mailbox: MailboxId) -> int:
        """Delete for good what lets this mailbox be opened, where that is kept for each mailbox, and return how many
        secrets that was. Raises `GmailUnavailable`, `GmailRejected`.
        """
        ...


class Store(Protocol):
    """The mirror, the state of the mailboxes and their leases.

    Law 2: `commit` is atomic and fenced; when the lease is no longer the one in `held` it writes nothing and raises
    `LeaseLost`. Any call raises `StoreUnavailable` when the store did not answer.
    """

    def mailbox(self, mailbox: MailboxId) -> Mailbox | None:
        """Return the state of a mailbox: one read."""
        ...

    def create_mailbox(self, mailbox: Mailbox) -> bool:
        """Create the mailbox document; False, and nothing written, when it exists."""
        ...

    def mailboxes(self, *, after: MailboxId = "", limit: int = 100) -> list[Mailbox]:
        """Return mailboxes in the order of their addresses, those after `after`."""
        ...

    def due_mailboxes(self, now: datetime) -> Iterator[Due]:
        """Yield the mailboxes whose `nextDueAt` is not after `now`, the longest due first."""
        ...

    def watches_expiring(self, before: datetime) -> Iterator[Due]:
        """Yield the mailboxes wanted live whose watch expires before a time, and when: the first to lapse first."""
        ...

    def raise_hint(self, mailbox: MailboxId, history_id: HistoryId, due_at: datetime | None = None) -> None:
        """Raise the hint to at least `history_id` and set `nextDueAt`, unless it is None, without a lease. Never lowers
        the hint.
        """
        ...

    def drop_hint(self, mailbox: MailboxId) -> None:
        """Set the hint to zero, without a lease: it stayed unreachable."""
        ...

    def set_watch(self, mailbox: MailboxId, watch: Watch) -> None:
        """Store the watch, without a lease."""
        ...

    def want(self, mailbox: Mailbox, wanted: Wanted, *, due_at: datetime) -> bool:
        """Store what is wanted of a mailbox, and when it is due for that, without a lease.

        Returns:
            False when what is wanted now is not what `mailbox` says: somebody else was faster and nothing was written,
            or this very wish was stored and its answer lost.
        """
        ...

    def request_run(self, mailbox: Mailbox, request: RunRequest, *, policy: Policy | None = None) -> bool:
        """Store the request for a run in the place of the one in `mailbox`, without a lease.

        Args:
            mailbox: the state that the request was decided on.
            request: the run.
            policy: a policy to store with it; the run makes the mirror follow it.

        Returns:
            False, and nothing written, when `mailbox` is outdated: somebody else's request came, or a commit that may
            have started or ended a run.
        """
        ...

    def lease(self, mailbox: MailboxId) -> Lease | None:
        """Return the lease as it is now: one read."""
        ...

    def acquire(self, mailbox: Mailbox, *, owner: str, now: datetime, expires_at: datetime) -> Held:
        """Take the lease: one read, one write, and one more read only when `mailbox` turns out to be outdated, or there
        is no lease yet: then the mailbox may be gone, purged with its lease.

        Args:
            mailbox: the state as read before.
            owner: a name that this worker alone has, and for this lease alone: its own lease is recognised by it.
            now: decides whether another's lease has expired.
            expires_at: until when the lease holds.

        Raises:
            LeaseHeld: another worker holds it, or took it in the same moment.
        """
        ...

    def commit(
        self,
        held: Held,
        mailbox: Mailbox,
        writes: Sequence[Write] = (),
        *,
        expires_at: datetime,
        release: bool = False,
    ) -> Held:
        """Write documents, the mailbox's changed fields and the lease in one atomic batch.

        The fields that workers without a lease write too (`hint`, `policy`, `watch`, `request`, `wanted`) are not
        written here.
        When the state did not change and there are no writes, only the lease is written.

        Args:
            held: the lease and the state as of the last commit.
            mailbox: the state to store.
            writes: documents below the mailbox.
            expires_at: until when the lease holds from now on.
            release: give the lease back in the same batch.

        Returns:
            The lease with its new version and the state as stored, its `revision` counted up when it was written.

        Raises:
            LeaseLost: somebody else took the lease; nothing was written.
            DocumentExists: the document of a `create` exists; nothing was written.
        """
        ...

    def threads(self, mailbox: MailboxId, ids: Iterable[ThreadId]) -> dict[ThreadId, Thread]:
        """Return the mirrored threads among `ids`: one read an id."""
        ...

    def scan_threads(self, mailbox: MailboxId, *, after: ThreadId, limit: int) -> list[Thread]:
        """Return mirrored threads in the order of their ids, those after `after`."""
        ...

    def documents(self, mailbox: MailboxId, paths: Sequence[Path]) -> dict[Path, Document]:
        """Return the existing documents among `paths` (below the mailbox): one read a path."""
        ...

    def parked(self, mailbox: MailboxId) -> list[Parked]:
        """Return all parked messages, the next to be tried first."""
        ...

    # The end of a mailbox

    def below(self, mailbox: MailboxId, *, limit: int) -> list[Path]:
        """Return the paths of at most `limit` documents below the mailbox, whatever collection they are in and however
        deep; empty only if there is none. One read a path, and one more.
        """
        ...

    def remove(self, held: Held, receipt: Receipt) -> None:
        """Delete the mailbox document and its lease, and store the receipt, in one atomic batch.

        Raises:
            LeaseLost: somebody else took the lease; nothing was written.
        """
        ...

    def receipt(self, mailbox: MailboxId) -> Receipt | None:
        """Return the receipt of a mailbox that was purged."""
        ...


class Blobs(Protocol):
    """Large bodies, outside the store.

    Writing an object, even with the data that it has or after it was deleted, gives it a version that it never had.
    """

    def put(self, name: str, data: bytes, content_type: str) -> str:
        """Write an object, replacing an older one, and return its URI. Raises `StoreUnavailable`."""
        ...

    def version(self, name: str) -> int | None:
        """Return which version of an object is there now, None if there is none. Raises `StoreUnavailable`."""
        ...

    def versions(self, prefix: str, *, limit: int) -> dict[str, int]:
        """Return at most `limit` objects whose name begins with `prefix`, with their versions; empty only if there is
        none. Raises `StoreUnavailable`.
        """
        ...

    def delete(self, name: str, version: int) -> None:
        """Delete an object if it still has this version; absent or replaced is no error. Raises `StoreUnavailable`."""
        ...


class Publisher(Protocol):
    """Publishes work to `mailbox-work`."""

    def publish(self, mailbox: MailboxId, task: Task) -> None:
        """Return when the message is accepted. Raises `StoreUnavailable` when Pub/Sub did not take it."""
        ...


class Directory(Protocol):
    """The people of a Google Workspace account, as its administrator sees them.

    Each call raises `DirectoryUnavailable`, or `DirectoryRejected` when the configuration is wrong.
    """

    def members(self, group: str, page_token: str | None) -> PeoplePage:
        """Return members of a group, those of the groups in it included.

        Raises:
            InvalidInput: there is no such group, or the page token was refused.
        """
        ...

    def users(self, org_unit: str, page_token: str | None) -> PeoplePage:
        """Return users of an organisational unit and of those below it; `/` is the whole account.

        Raises:
            InvalidInput: there is no such unit, or the page token was refused.
        """
        ...
