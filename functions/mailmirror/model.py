"""Mailmirror's values, frozen.

Knows: what a mailbox, lease, run, message, thread and delta are. Does not know: where they are stored or how they
change. Times are aware, ids Gmail's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MailboxId = str
MessageId = str
ThreadId = str
LabelId = str
HistoryId = int

Phase = Literal["connecting", "backfilling", "live", "recovering", "throttled", "reauth_required", "stopped", "purging"]
Origin = Literal["live", "backfill", "repair"]
# The phase says how far that is.
Wanted = Literal["live", "stopped", "purged"]
Mode = Literal["first", "repair", "full", "audit", "policy"]
# `none`: left out.
Stored = Literal["inline", "storage", "none"]
# By a deployment; `metadata`: no bodies, nothing of attachments.
ContentKept = Literal["full", "metadata"]
# `mixed`: workers of two deployments brought messages.
ContentMirrored = Literal["full", "metadata", "mixed"]
# Their bytes, in Cloud Storage.
AttachmentsKept = Literal["none", "store"]
# Of the whole message.
Protection = Literal["none", "signed", "encrypted"]
# `inline`: a picture in the HTML, or another form of the text; `encrypted`: an encrypted message's content.
AttachmentKind = Literal["file", "inline", "message", "calendar", "signature", "encrypted"]
Stage = Literal["listing", "planning", "fetching", "deleting", "closing", "finished"]
Listing = Literal["messages", "excluded", "threads"]
# `external`: no active user of this Workspace account.
Standing = Literal["active", "suspended", "archived", "no_mailbox", "external", "group"]
ChangeType = Literal["messageAdded", "messageDeleted", "labelsChanged"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Which messages of a mailbox are mirrored, and how much of each.

    Attributes:
        include_spam_trash: else SPAM and TRASH leave the mirror.
        drafts: every automatic save of one is a new message.
        label_ids: one of these; empty: any.
        newest_days: so many whole days in UTC: what gets older leaves.
        bodies: else headers, labels and snippet alone.
    """

    include_spam_trash: bool = True
    drafts: bool = False
    label_ids: tuple[LabelId, ...] = ()
    exclude_label_ids: tuple[LabelId, ...] = ()
    since: datetime | None = None
    newest_days: int | None = None
    bodies: bool = True

    def at(self, now: datetime) -> "Policy":
        """Return this policy with `since` for `newest_days`."""
        if self.newest_days is None:
            return self
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        # The calendar begins in the year 1.
        newest = midnight - min(timedelta(days=self.newest_days), midnight - EPOCH)
        return replace(self, since=newest if self.since is None else max(self.since, newest), newest_days=None)

    def excluded_labels(self) -> frozenset[LabelId]:
        """Return the labels that keep a message out."""
        excluded = frozenset(self.exclude_label_ids)
        if not self.include_spam_trash:
            excluded |= {"SPAM", "TRASH"}
        return excluded if self.drafts else excluded | {"DRAFT"}

    def wants(self, label_ids: frozenset[LabelId], internal_date: datetime | None = None) -> bool:
        """Return whether such a message is mirrored; None: date unknown."""
        if label_ids & self.excluded_labels() or (self.label_ids and not label_ids.intersection(self.label_ids)):
            return False
        return self.since is None or internal_date is None or internal_date >= self.since

    def enters(self, added: frozenset[LabelId], removed: frozenset[LabelId]) -> bool:
        """Return whether a change of labels may bring a message in."""
        return bool(removed & self.excluded_labels() or added.intersection(self.label_ids))


@dataclass(frozen=True, slots=True)
class Watch:
    """Gmail publishes changes until `expires_at`."""

    expires_at: datetime
    history_id: HistoryId = 0
    renewed_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One reconciliation over many steps; the checkpoint to resume from.

    Attributes:
        anchor: up to it the mirror was complete when the run began; threads changed later are stale.
        signpost: the mailbox's history id before the listing.
        policy: another one makes it list again.
        since: no older messages are compared; fixed by the listing, because days pass.
        scope: which of the labels that narrow the listing.
        first_page, pages: manifest documents `first_page` to `pages` - 1 are this listing's.
        plan_after: threads up to it are compared.
        first_plan, plans: plan documents, likewise.
        at, offset: the plan document in hand (deleting: the next), its items done.
        listed: messages that the policy wants.
        done, total: messages fetched and to be fetched.
        found: messages brought into the mirror.
        extra, removed: mirrored messages not listed, and those deleted.
        units, rejected: as in `ports.Gmail`.
        paused_until: the day's quota is used up.
    """

    id: str
    mode: Mode
    reason: str
    anchor: HistoryId
    signpost: HistoryId
    started_at: datetime
    policy: Policy = Policy()
    since: datetime | None = None
    stage: Stage = "listing"
    listing: Listing = "messages"
    scope: int = 0
    page_token: str | None = None
    first_page: int = 0
    pages: int = 0
    listed_at: datetime | None = None
    plan_after: ThreadId = ""
    first_plan: int = 0
    plans: int = 0
    at: int = 0
    offset: int = 0
    listed: int = 0
    done: int = 0
    total: int = 0
    found: int = 0
    extra: int = 0
    removed: int = 0
    parked: int = 0
    threads_processed: int = 0
    messages_processed: int = 0
    units: int = 0
    rejected: int = 0
    planned_units: int = 0
    eta_at: datetime | None = None
    paused_until: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None

    @property
    def rule(self) -> Policy:
        """To list and compare by."""
        return replace(self.policy, since=self.since, newest_days=None)

    @property
    def active(self) -> bool:
        """Whether there is work left."""
        return self.stage != "finished"


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the last completed run found; an audit mended `missing` and `extra`, else `missing` are the parked."""

    listed: int
    mirrored: int
    missing: int
    extra: int
    parked: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Counts:
    """In the mirror, and parked messages."""

    messages: int = 0
    threads: int = 0
    parked: int = 0


@dataclass(frozen=True, slots=True)
class Quota:
    """A token bucket; `today`: spent since midnight UTC."""

    units: float
    at: datetime
    today: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a mailbox is not up to date: last `at`, in a row `since`."""

    code: str
    message: str
    action: str
    at: datetime
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run to start when no other is under way."""

    run_id: str
    mode: Mode
    at: datetime


@dataclass(frozen=True, slots=True)
class Unreached:
    """A hint above all of Gmail's history, and since when."""

    history_id: HistoryId
    since: datetime


@dataclass(frozen=True, slots=True)
class Purge:
    """A deletion under way: what is gone so far, documents by collection."""

    started_at: datetime
    documents: Mapping[str, int] = field(default_factory=dict)
    objects: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a deletion came to: document `receipts/{mailbox}`, all that is left until `expire_at` (TTL).

    Attributes:
        documents: by collection, without the mailbox's own and the lease.
        secrets: refresh tokens.
        watch_stopped: confirmed by Gmail, or never notified; else the watch lapses within 7 days.
    """

    email_address: MailboxId
    documents: Mapping[str, int]
    objects: int
    secrets: int
    watch_stopped: bool
    started_at: datetime
    purged_at: datetime
    expire_at: datetime


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The state of one mailbox: document `mailboxes/{id}`.

    Workers without a lease write `next_due_at` and what `fence` names, too; all else only commits under it. `revision`
    counts those, from a number that no earlier life reached. `suspect`: how often a message was in hand when workers
    died. `content`: as the worker before found it. What is older than `aged_to` has left.
    """

    email_address: MailboxId
    created_at: datetime
    watch: Watch
    next_due_at: datetime
    phase: Phase = "connecting"
    wanted: Wanted = "live"
    policy: Policy = Policy()
    content: ContentMirrored = "full"
    aged_to: datetime | None = None
    cursor: HistoryId = 0
    hint: HistoryId = 0
    request: RunRequest | None = None
    request_done: str = ""
    revision: int = 0
    delta_seq: int = 0
    announced: int | None = None
    run: Run | None = None
    coverage: Coverage | None = None
    counts: Counts = Counts()
    labels: Mapping[LabelId, str] = field(default_factory=dict)
    lag: float | None = None
    last_notification_at: datetime | None = None
    last_sync_at: datetime | None = None
    throttled_until: datetime | None = None
    parked_due_at: datetime | None = None
    takeovers: int = 0
    suspect: Mapping[MessageId, int] = field(default_factory=dict)
    unreached: tuple[Unreached, ...] = ()
    quota: Quota | None = None
    problem: Problem | None = None
    purge: Purge | None = None

    @property
    def active_run(self) -> Run | None:
        """The run under way."""
        return self.run if self.run is not None and self.run.active else None

    @property
    def pending_request(self) -> RunRequest | None:
        """The requested run not started."""
        return self.request if self.request is not None and self.request.run_id != self.request_done else None

    @property
    def unfinished(self) -> bool:
        """Whether never synced, or a run is left."""
        return self.cursor == 0 or self.active_run is not None or self.pending_request is not None


@dataclass(frozen=True, slots=True)
class Due:
    """When to look at a mailbox, or a watch lapses."""

    mailbox: MailboxId
    at: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write one mailbox for a while: document `leases/{mailbox}`.

    Attributes:
        owner: empty when released.
        token: counts acquisitions.
        revision: the mailbox's as of the last commit.
        version: the store's, opaque.
    """

    owner: str
    token: int
    expires_at: datetime
    revision: int = 0
    version: Any = None

    def free(self, now: datetime) -> bool:
        """Return whether anybody may take it."""
        return self.owner == "" or self.expires_at <= now


@dataclass(frozen=True, slots=True)
class Held:
    """`mailbox`: as of the last commit. `taken_over`: the holder before died or was too slow."""

    lease: Lease
    mailbox: Mailbox
    taken_over: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """Somebody a header names; the address in lower case."""

    name: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Headers:
    """The headers, decoded, in order; empty when absent.

    Attributes:
        from_: the first author.
        to, cc, bcc, reply_to: with the members of groups.
        subject: on one line.
        date: None when the sender's is none.
        message_id, in_reply_to, references: with angle brackets.
    """

    from_: Address = Address()
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    subject: str = ""
    date: datetime | None = None
    message_id: str = ""
    in_reply_to: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Body:
    """The text, at `uri` in Cloud Storage when too large for a document. `rendered`: made of the HTML."""

    text: str = ""
    html: str = ""
    stored: Stored = "inline"
    uri: str | None = None
    rendered: bool = False
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """Without Gmail's attachmentId: it changes with each messages.get.

    Attributes:
        mime_type: in lower case.
        content_id: in the HTML (`cid:…`), without angle brackets.
        uri: in Cloud Storage, if kept.
    """

    part_id: str
    filename: str
    mime_type: str
    size: int
    kind: AttachmentKind = "file"
    content_id: str = ""
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it is mirrored.

    Attributes:
        objects: names in the bucket, each once; messages may share them.
        truncated: fields that do not hold all, such as `headers.to`.
    """

    id: MessageId
    thread_id: ThreadId
    label_ids: frozenset[LabelId]
    history_id: HistoryId
    internal_date: datetime
    size_estimate: int = 0
    snippet: str = ""
    headers: Headers = Headers()
    body: Body = Body()
    attachments: tuple[Attachment, ...] = ()
    protection: Protection = "none"
    objects: tuple[str, ...] = ()
    truncated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gone:
    """Instead of a message: 404."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Likewise: not to be read."""

    reason: str


@dataclass(frozen=True, slots=True)
class LabelState:
    """A message's labels at a history id (format minimal)."""

    id: MessageId
    label_ids: frozenset[LabelId]
    history_id: HistoryId


@dataclass(frozen=True, slots=True)
class FetchedThread:
    """A thread as fetched: `messages`, or `states` (format minimal)."""

    id: ThreadId
    history_id: HistoryId
    messages: Mapping[MessageId, Message | Failed] = field(default_factory=dict)
    states: tuple[LabelState, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A message in its thread document."""

    label_ids: frozenset[LabelId]
    internal_date: datetime
    history_id: HistoryId
    from_: Address = Address()
    subject: str = ""
    snippet: str = ""
    has_attachments: bool = False
    stored: Stored = "inline"
    objects: int = 0


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread as mirrored. `history_id`: the newest that touched it."""

    id: ThreadId
    history_id: HistoryId = 0
    messages: Mapping[MessageId, Entry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Color:
    """A label's, as #rrggbb."""

    text_color: str
    background_color: str


@dataclass(frozen=True, slots=True)
class Label:
    """A label; only a user's own may have a colour."""

    id: LabelId
    name: str
    type: str = "user"
    message_list_visibility: str | None = None
    label_list_visibility: str | None = None
    color: Color | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """`messageAdded` of a known message moves it."""

    type: ChangeType
    message_id: MessageId
    thread_id: ThreadId
    labels_added: tuple[LabelId, ...] = ()
    labels_removed: tuple[LabelId, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What a commit changed: document `deltas/{seq}`. `cursor`: after it."""

    seq: int
    at: datetime
    origin: Origin
    cursor: HistoryId
    changes: tuple[Change, ...]
    expire_at: datetime


@dataclass(frozen=True, slots=True)
class Query:
    """Which documents an application asks for: the newest first, of the same time the highest id.

    Attributes:
        by: the time that sorts.
        equal: fields, with dots, and what each has to be.
        any_of: an array, and values of which it has one.
        since, before: inclusive, exclusive.
        after: time and id of the document to go on behind.
        fields: at least these at the top; empty: all.
    """

    collection: Literal["threads", "messages"]
    by: Literal["lastMessageAt", "internalDate"]
    equal: tuple[tuple[str, str | bool], ...] = ()
    any_of: tuple[str, tuple[str, ...]] | None = None
    since: datetime | None = None
    before: datetime | None = None
    after: tuple[datetime, str] | None = None
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parked:
    """A message to be tried again: document `parked/{id}`. `deadly`: workers died with it."""

    id: MessageId
    thread_id: ThreadId
    reason: str
    attempts: int
    first_at: datetime
    next_attempt_at: datetime
    origin: Origin = "live"
    deadly: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """users.getProfile."""

    email_address: str
    history_id: HistoryId
    messages_total: int
    threads_total: int


@dataclass(frozen=True, slots=True)
class MessageRef:
    """A message in a history record; None: that does not tell."""

    id: MessageId
    thread_id: ThreadId
    label_ids: frozenset[LabelId] | None = None


@dataclass(frozen=True, slots=True)
class LabelStep:
    """A message's labels."""

    message: MessageRef
    label_ids: frozenset[LabelId]


@dataclass(frozen=True, slots=True)
class Record:
    """Several kinds of change at once."""

    id: HistoryId
    messages_added: tuple[MessageRef, ...] = ()
    messages_deleted: tuple[MessageRef, ...] = ()
    labels_added: tuple[LabelStep, ...] = ()
    labels_removed: tuple[LabelStep, ...] = ()


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A page of history.list; `history_id`: the mailbox's."""

    records: tuple[Record, ...]
    history_id: HistoryId
    next_page_token: str | None


@dataclass(frozen=True, slots=True)
class MessagePage:
    """A page of messages.list."""

    refs: tuple[tuple[MessageId, ThreadId], ...]
    next_page_token: str | None


@dataclass(frozen=True, slots=True)
class ThreadPage:
    """A page of threads.list."""

    refs: tuple[tuple[ThreadId, HistoryId], ...]
    next_page_token: str | None


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody the Directory API names."""

    address: MailboxId
    standing: Standing = "active"


@dataclass(frozen=True, slots=True)
class PeoplePage:
    """A page of a group's members or a unit's users."""

    people: tuple[Person, ...]
    next_page_token: str | None
