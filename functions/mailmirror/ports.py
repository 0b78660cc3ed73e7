"""What the domain needs of the world.

Knows: the calls, what they return and may raise. Does not know: any technology. Each Protocol has an adapter in
`adapters/` and a fake or another; both pass one contract suite.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Literal, Protocol

from mailmirror.content import Content
from mailmirror.model import (
    Delta,
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
    Query,
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
    """Time."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        ...


class Keep(Protocol):
    """Takes in a message's content as soon as it is read: memory holds no more than its document."""

    def __call__(self, message: Message, content: Content, fetch: Callable[[str], bytes | None]) -> Message | Failed:
        """Return the message as it is to be mirrored, or why it cannot be. Raises `StoreUnavailable`, `GmailError`.

        Args:
            message: without body and attachments.
            fetch: users.messages.attachments.get; None if Gmail has none.
        """
        ...


class Gmail(Protocol):
    """One mailbox in Gmail. Every call asks its budget first and may raise a `GmailError`."""

    @property
    def spent(self) -> int:
        """Quota units spent here."""
        ...

    @property
    def rejected(self) -> int:
        """Calls refused for quota."""
        ...

    @property
    def quota(self) -> Quota:
        """The budget's level now."""
        ...

    @property
    def day_left(self) -> int | None:
        """Quota units that runs may spend today; None: no limit."""
        ...

    def affordable(self, seconds: float) -> int:
        """Return the quota units to be had within `seconds`."""
        ...

    def sparing(self) -> AbstractContextManager[None]:
        """Return a context whose calls leave the budget's reserve to live mail."""
        ...

    def profile(self) -> Profile:
        """users.getProfile."""
        ...

    def history(self, start: HistoryId, page_token: str | None = None) -> HistoryPage:
        """users.history.list after `start`, unfiltered, 500 records a page.

        Raises:
            HistoryExpired: 404.
            PageTokenExpired: it was refused.
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
        """users.messages.list, 500 a page, of messages with all of `label_ids`, not older than `since`.

        Raises:
            PageTokenExpired: it was refused.
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
        """users.threads.list, likewise, of threads with such a message."""
        ...

    def messages(self, ids: Sequence[MessageId], keep: "Keep | None") -> Mapping[MessageId, Message | Gone | Failed]:
        """users.messages.get, without bodies if `keep` is None: a result for every id."""
        ...

    def threads(self, ids: Sequence[ThreadId], keep: "Keep | None") -> Mapping[ThreadId, FetchedThread | Gone | Failed]:
        """users.threads.get, likewise."""
        ...

    def thread_states(self, ids: Sequence[ThreadId]) -> Mapping[ThreadId, FetchedThread | Gone | Failed]:
        """users.threads.get, likewise, ids and labels only."""
        ...

    def gets(
        self, messages: Sequence[MessageId], threads: Sequence[ThreadId], keep: "Keep | None"
    ) -> tuple[Mapping[MessageId, Message | Gone | Failed], Mapping[ThreadId, FetchedThread | Gone | Failed]]:
        """`messages` and `threads` at the same time."""
        ...

    def part(self, message_id: MessageId, part_id: str) -> bytes | None:
        """Return the bytes of one part: users.messages.get, users.messages.attachments.get where needed."""
        ...

    def labels(self) -> tuple[Label, ...]:
        """users.labels.list, and users.labels.get for missing colours."""
        ...

    def watch(self) -> Watch:
        """users.watch, also to renew it."""
        ...

    def stop(self) -> None:
        """users.stop."""
        ...


class GmailAccounts(Protocol):
    """Opens mailboxes in Gmail."""

    def open(self, mailbox: MailboxId, quota: Quota | None) -> Gmail:
        """Return the mailbox; `quota`: its budget as last stored."""
        ...

    def forget(self, mailbox: MailboxId) -> int:
        """Delete its secrets and return how many. Raises `GmailUnavailable`, `GmailRejected`."""
        ...


class Store(Protocol):
    """The mirror, the state of the mailboxes and their leases.

    Law 2: `commit` is atomic and fenced by the lease in `held`. Any call may raise `StoreUnavailable`.
    """

    def mailbox(self, mailbox: MailboxId) -> Mailbox | None:
        """Return the state of a mailbox: one read."""
        ...

    def create_mailbox(self, mailbox: Mailbox) -> bool:
        """Create the document; False, and nothing written, if it exists."""
        ...

    def mailboxes(self, *, after: MailboxId = "", limit: int = 100) -> list[Mailbox]:
        """Return mailboxes after an address, in their order."""
        ...

    def due_mailboxes(self, now: datetime) -> Iterator[Due]:
        """Yield those whose `nextDueAt` is not after `now`, the longest due first."""
        ...

    def watches_expiring(self, before: datetime) -> Iterator[Due]:
        """Yield those wanted live whose watch expires before a time, the first to lapse first."""
        ...

    def raise_hint(self, mailbox: MailboxId, history_id: HistoryId, due_at: datetime | None = None) -> None:
        """Raise the hint to at least `history_id`, and set `nextDueAt`, unless None; without a lease."""
        ...

    def drop_hint(self, mailbox: MailboxId) -> None:
        """Set the hint to zero, without a lease."""
        ...

    def set_watch(self, mailbox: MailboxId, watch: Watch) -> None:
        """Store the watch, without a lease."""
        ...

    def want(self, mailbox: Mailbox, wanted: Wanted, *, due_at: datetime) -> bool:
        """Store what is wanted of a mailbox and when that is due, without a lease.

        Returns:
            False when `mailbox` is outdated: nothing was written, or this very wish before.
        """
        ...

    def request_run(self, mailbox: Mailbox, request: RunRequest, *, policy: Policy | None = None) -> bool:
        """Store a request for a run in the place of that in `mailbox`, and a policy, without a lease.

        Returns:
            False, and nothing written, when `mailbox` is outdated: another request, or a commit.
        """
        ...

    def lease(self, mailbox: MailboxId) -> Lease | None:
        """Return the lease: one read."""
        ...

    def acquire(self, mailbox: Mailbox, *, owner: str, now: datetime, expires_at: datetime) -> Held:
        """Take the lease: one read, one write, and one more read when `mailbox` is outdated, or has no lease and may be
        purged.

        Args:
            mailbox: as read before.
            owner: a name for this lease alone.
            now: decides whether another's has expired.

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
        """Write documents below the mailbox, its changed fields (not `fence.UNLEASED`) and the lease in one atomic
        batch; only the lease if there is nothing else.

        Args:
            held: as of the last commit.
            mailbox: the state to store.
            release: give the lease back in the same batch.

        Returns:
            Lease and state as stored, `revision` counted up if it changed.

        Raises:
            LeaseLost: somebody else took it; nothing was written.
            DocumentExists: that of a `create`; nothing was written.
        """
        ...

    def threads(self, mailbox: MailboxId, ids: Iterable[ThreadId]) -> dict[ThreadId, Thread]:
        """Return the mirrored ones among `ids`: one read an id."""
        ...

    def scan_threads(self, mailbox: MailboxId, *, after: ThreadId, limit: int) -> list[Thread]:
        """Return mirrored threads after an id, in their order."""
        ...

    def threads_labelled(self, mailbox: MailboxId, label_id: LabelId, *, limit: int) -> list[Thread]:
        """Return mirrored threads with a message of that label; empty only if there is none."""
        ...

    def threads_before(self, mailbox: MailboxId, before: datetime, *, limit: int) -> list[Thread]:
        """Likewise, with a message that Gmail accepted before a time, the oldest first."""
        ...

    def named_objects(self, mailbox: MailboxId, names: Iterable[str]) -> set[str]:
        """Return those of these objects that a mirrored message names: one read an object."""
        ...

    def documents(self, mailbox: MailboxId, paths: Sequence[Path]) -> dict[Path, Document]:
        """Return the existing ones among `paths` below the mailbox: one read a path."""
        ...

    def parked(self, mailbox: MailboxId) -> list[Parked]:
        """Return all, the next to be tried first."""
        ...

    # For applications

    def query(self, mailbox: MailboxId, query: Query, *, limit: int) -> list[Document]:
        """Return documents in the order of the query: one read a document."""
        ...

    def deltas(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Delta]:
        """Return the first deltas of a higher `seq`, in its order: one read a delta."""
        ...

    def announced(self, mailbox: MailboxId, seq: int) -> None:
        """Raise `announced` to at least `seq`, without a lease."""
        ...

    # The end of a mailbox

    def below(self, mailbox: MailboxId, *, limit: int) -> list[Path]:
        """Return paths of documents below the mailbox, however deep; empty only if there is none. One read a path, and
        one more.
        """
        ...

    def remove(self, held: Held, receipt: Receipt) -> None:
        """Delete the mailbox document and its lease and store the receipt, in one atomic batch.

        Raises:
            LeaseLost: somebody else took it; nothing was written.
        """
        ...

    def receipt(self, mailbox: MailboxId) -> Receipt | None:
        """Return what a purged mailbox left."""
        ...


class Blobs(Protocol):
    """Large bodies and attachments: objects named `{mailbox}/{SHA-256 of what they hold}`.

    Each write gives one a version it never had, even after a deletion. All raise `StoreUnavailable`.
    """

    def put(self, name: str, pieces: Iterable[bytes], content_type: str, *, gzip: bool = False) -> str:
        """Write an object, its pieces not gathered in memory, and return its URI; `gzip`: they are its output."""
        ...

    def read(self, name: str) -> Iterator[bytes] | None:
        """Return what an object holds, gzip undone, None if there is none."""
        ...

    def version(self, name: str) -> int | None:
        """Return the version that is there now, None if there is none."""
        ...

    def versions(self, prefix: str, *, limit: int) -> dict[str, int]:
        """Return objects by `prefix`, with their versions; empty only if there is none."""
        ...

    def delete(self, name: str, version: int) -> None:
        """Delete an object if it still has this version."""
        ...


class Publisher(Protocol):
    """Publishes work to `mailbox-work`."""

    def publish(self, mailbox: MailboxId, task: Task) -> None:
        """Return when it is accepted. Raises `StoreUnavailable`."""
        ...


class Topic(Protocol):
    """Publishes to `mailbox-deltas`."""

    def publish(self, data: bytes, attributes: Mapping[str, str], ordering_key: str) -> None:
        """Return when it is accepted, behind all before of the same key. Raises `StoreUnavailable`."""
        ...


class Directory(Protocol):
    """The people of a Workspace account. All raise `DirectoryUnavailable` or, by wrong configuration,
    `DirectoryRejected`.
    """

    def members(self, group: str, page_token: str | None) -> PeoplePage:
        """Return members of a group and of the groups in it.

        Raises:
            InvalidInput: no such group, or the page token was refused.
        """
        ...

    def users(self, org_unit: str, page_token: str | None) -> PeoplePage:
        """Return users of an organisational unit and those below it; `/` is the whole account. Raises likewise."""
        ...
