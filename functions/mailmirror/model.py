"""The values Mailmirror speaks in: frozen, without behaviour beyond questions about themselves.

Knows: what a mailbox, lease, run, message, thread and delta are. Does not know: where they are stored (`documents` and
the adapters) or how they change (`history`, `mirror`, `engine`). History ids are integers, times are aware, ids are
Gmail's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

MailboxId = str
MessageId = str
ThreadId = str
LabelId = str
HistoryId = int

Phase = Literal["connecting", "backfilling", "live", "recovering", "throttled", "reauth_required", "stopped", "purging"]
Origin = Literal["live", "backfill", "repair"]
# What somebody wants of a mailbox; the phase says how far that is.
Wanted = Literal["live", "stopped", "purged"]
Mode = Literal["first", "repair", "full", "audit", "policy"]
# Where the body of a mirrored message is; `none` where the policy leaves bodies out.
Stored = Literal["inline", "storage", "none"]
Stage = Literal["listing", "planning", "fetching", "deleting", "closing", "finished"]
Listing = Literal["messages", "excluded", "threads"]
# What the Directory API says of somebody; `external` is whoever is no active user of this Workspace account.
Standing = Literal["active", "suspended", "archived", "no_mailbox", "external", "group"]
ChangeType = Literal["messageAdded", "messageDeleted", "labelsChanged"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Which messages of a mailbox are mirrored, and how much of each.

    Attributes:
        include_spam_trash: mirror messages in SPAM and TRASH; without it they leave the mirror as if deleted.
        drafts: mirror drafts; every automatic save of a draft is a new message in Gmail.
        label_ids: mirror only messages with one of these labels; empty: whatever the labels.
        exclude_label_ids: mirror no message with one of these labels.
        since: mirror only messages that Gmail accepted at this time or later; None: however old.
        bodies: mirror text, html and attachment names; without it headers, labels and snippet alone.
    """

    include_spam_trash: bool = True
    drafts: bool = False
    label_ids: tuple[LabelId, ...] = ()
    exclude_label_ids: tuple[LabelId, ...] = ()
    since: datetime | None = None
    bodies: bool = True

    def excluded_labels(self) -> frozenset[LabelId]:
        """Return the labels that keep a message out of the mirror."""
        excluded = frozenset(self.exclude_label_ids)
        if not self.include_spam_trash:
            excluded |= {"SPAM", "TRASH"}
        return excluded if self.drafts else excluded | {"DRAFT"}

    def wants(self, label_ids: frozenset[LabelId], internal_date: datetime | None = None) -> bool:
        """Return whether a message with these labels and this date belongs in the mirror; None: the date is unknown."""
        if label_ids & self.excluded_labels() or (self.label_ids and not label_ids.intersection(self.label_ids)):
            return False
        return self.since is None or internal_date is None or internal_date >= self.since

    def enters(self, added: frozenset[LabelId], removed: frozenset[LabelId]) -> bool:
        """Return whether a change of labels may bring a message into the policy that was outside of it."""
        return bool(removed & self.excluded_labels() or added.intersection(self.label_ids))


@dataclass(frozen=True, slots=True)
class Watch:
    """Gmail's promise to publish changes; `expires_at` in the past means there is none."""

    expires_at: datetime
    history_id: HistoryId = 0
    renewed_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One reconciliation, from start to finish, over many steps. Its fields are the checkpoint to resume from.

    Attributes:
        anchor: the mirror was complete up to this history id when the run began; threads changed after it are stale.
        signpost: the mailbox's history id read before the listing.
        policy: which messages the run lists and compares by; another one on the mailbox makes it list again.
        listing: which listing is being read; `page_token` is its checkpoint.
        scope: which of the labels that narrow this listing is being read.
        first_page, pages: manifest documents `first_page` to `pages` - 1 belong to the current listing; earlier ones to
            a listing that had to be started again.
        plan_after: planning has compared all threads up to this id.
        listed_at: when the listing was complete.
        first_plan, plans: plan documents `first_plan` to `plans` - 1 belong to the current listing.
        at, offset: fetching: the plan document in hand and the items of it that are done. Deleting: the next plan
            document.
        listed: messages in the listing that the policy wants.
        done, total: messages fetched and to be fetched.
        found: messages that existed, were wanted and were not in the mirror until this run brought them.
        extra, removed: mirrored messages that the complete listing does not have, and those of them deleted.
        units, rejected: quota units spent by the run and calls refused for quota.
        paused_until: the day's quota is used up, and live mail alone goes on until then.
    """

    id: str
    mode: Mode
    reason: str
    anchor: HistoryId
    signpost: HistoryId
    started_at: datetime
    policy: Policy = Policy()
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
    def active(self) -> bool:
        """Whether there is work left in this run."""
        return self.stage != "finished"


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the last completed run found.

    `missing` and `extra` are, after an audit, what the mirror lacked or had too much before the audit mended it; after
    any other run what is still missing, which is what was parked.
    """

    listed: int
    mirrored: int
    missing: int
    extra: int
    parked: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Counts:
    """How many messages and threads the mirror has, and how many messages are parked."""

    messages: int = 0
    threads: int = 0
    parked: int = 0


@dataclass(frozen=True, slots=True)
class Quota:
    """The level of the mailbox's token bucket, in quota units, at a time.

    `today` are the units spent since midnight UTC before `at`.
    """

    units: float
    at: datetime
    today: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the mailbox is not up to date, in words.

    `at` is when it was last met, `since` when it was first met in a row.
    """

    code: str
    message: str
    action: str
    at: datetime
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run somebody asked for; it starts when no other run is under way."""

    run_id: str
    mode: Mode
    at: datetime


@dataclass(frozen=True, slots=True)
class Unreached:
    """A hint above anything Gmail's history shows, and since when."""

    history_id: HistoryId
    since: datetime


@dataclass(frozen=True, slots=True)
class Purge:
    """A mailbox's deletion under way: what is gone so far, by the collection it was in.

    Attributes:
        documents: deleted documents by collection: `messages`, `threads`, `deltas` …
        objects: deleted objects of large bodies.
        started_at: when the first of it was deleted.
    """

    started_at: datetime
    documents: Mapping[str, int] = field(default_factory=dict)
    objects: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a deletion came to: document `receipts/{mailbox}`, all that is left of a purged mailbox until `expire_at`.

    Attributes:
        email_address: the mailbox.
        documents: deleted documents by collection, the mailbox's own document and lease not counted.
        objects: deleted objects of large bodies.
        secrets: deleted secrets: the refresh token, where there was one.
        watch_stopped: whether Gmail confirmed that it stops notifying, or never notified; otherwise the watch lapses
            within 7 days.
        started_at, purged_at: when.
        expire_at: for a TTL policy.
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

    `hint`, `policy`, `watch`, `request`, `wanted` and `next_due_at` are also written by workers that hold no lease; all
    other fields are written only by a commit under the lease, and `revision` counts those commits, from a number on
    that no earlier life of the mailbox has reached. `suspect` are the messages that were in hand when workers died, and
    how often each was taken in hand.
    """

    email_address: MailboxId
    created_at: datetime
    watch: Watch
    next_due_at: datetime
    phase: Phase = "connecting"
    wanted: Wanted = "live"
    policy: Policy = Policy()
    cursor: HistoryId = 0
    hint: HistoryId = 0
    request: RunRequest | None = None
    request_done: str = ""
    revision: int = 0
    delta_seq: int = 0
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
        """The run under way, if there is one."""
        return self.run if self.run is not None and self.run.active else None

    @property
    def pending_request(self) -> RunRequest | None:
        """The requested run that has not been started yet, if there is one."""
        return self.request if self.request is not None and self.request.run_id != self.request_done else None

    @property
    def unfinished(self) -> bool:
        """Whether reconciliation is under way or due: never synced, a run open, or one requested."""
        return self.cursor == 0 or self.active_run is not None or self.pending_request is not None


@dataclass(frozen=True, slots=True)
class Due:
    """A mailbox for which something is due, and when: it is to be looked at, or its watch lapses."""

    mailbox: MailboxId
    at: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write one mailbox, for a while: document `leases/{mailbox}`.

    Attributes:
        owner: the worker, empty when released.
        token: grows by one with each acquisition.
        expires_at: others may take the lease from then on.
        revision: the mailbox's `revision` as of the last commit, so that a state read earlier is known to be current.
        version: what the store compares to fence a commit; opaque.
    """

    owner: str
    token: int
    expires_at: datetime
    revision: int = 0
    version: Any = None

    def free(self, now: datetime) -> bool:
        """Return whether anybody may take the lease at `now`."""
        return self.owner == "" or self.expires_at <= now


@dataclass(frozen=True, slots=True)
class Held:
    """A lease in hand with the mailbox as of the last commit under it.

    `taken_over` tells that the holder before never released: it died or was too slow.
    """

    lease: Lease
    mailbox: Mailbox
    taken_over: bool = False


@dataclass(frozen=True, slots=True)
class Headers:
    """The headers an application asks for, decoded; empty when absent."""

    from_: str = ""
    to: str = ""
    cc: str = ""
    bcc: str = ""
    reply_to: str = ""
    subject: str = ""
    date: str = ""
    message_id: str = ""
    in_reply_to: str = ""
    references: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """The text of a message: inline, at `uri` in Cloud Storage when it is too large for a document, or not mirrored.

    `truncated` tells that `text` and `html` together with `uri` do not hold everything.
    """

    text: str = ""
    html: str = ""
    stored: Stored = "inline"
    uri: str | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """An attachment by name; Gmail's attachmentId is not kept because it changes with each messages.get."""

    part_id: str
    filename: str
    mime_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Message:
    """One message as fetched in full."""

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


@dataclass(frozen=True, slots=True)
class Gone:
    """What a fetch found instead of a message: 404."""


@dataclass(frozen=True, slots=True)
class Failed:
    """What a fetch found instead of a message: it could not be read, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class LabelState:
    """The labels of one message at a history id, without its content (format minimal)."""

    id: MessageId
    label_ids: frozenset[LabelId]
    history_id: HistoryId


@dataclass(frozen=True, slots=True)
class FetchedThread:
    """A thread as fetched: `messages` in full, or `states` only when asked minimal."""

    id: ThreadId
    history_id: HistoryId
    messages: Mapping[MessageId, Message | Failed] = field(default_factory=dict)
    states: tuple[LabelState, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One message as its thread document lists it."""

    label_ids: frozenset[LabelId]
    internal_date: datetime
    history_id: HistoryId
    from_: str = ""
    subject: str = ""
    snippet: str = ""
    stored: Stored = "inline"


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread as mirrored. `history_id` is the newest history id known to have touched it."""

    id: ThreadId
    history_id: HistoryId = 0
    messages: Mapping[MessageId, Entry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Label:
    """A label as labels.list gives it."""

    id: LabelId
    name: str
    type: str = "user"
    message_list_visibility: str | None = None
    label_list_visibility: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a delta. `messageAdded` of a message already known moves it to its thread."""

    type: ChangeType
    message_id: MessageId
    thread_id: ThreadId
    labels_added: tuple[LabelId, ...] = ()
    labels_removed: tuple[LabelId, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What one commit changed in the mirror: document `deltas/{seq}`. `cursor` is the cursor after the commit."""

    seq: int
    at: datetime
    origin: Origin
    cursor: HistoryId
    changes: tuple[Change, ...]
    expire_at: datetime


@dataclass(frozen=True, slots=True)
class Parked:
    """A message that failed and waits for a retry: document `parked/{id}`.

    `origin` is what its delta will say; `deadly` tells that workers died with it in hand.
    """

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
    """A message as a history record names it; `label_ids` is None when the record does not tell."""

    id: MessageId
    thread_id: ThreadId
    label_ids: frozenset[LabelId] | None = None


@dataclass(frozen=True, slots=True)
class LabelStep:
    """A history record's change of one message's labels."""

    message: MessageRef
    label_ids: frozenset[LabelId]


@dataclass(frozen=True, slots=True)
class Record:
    """One history record. It can hold several kinds of change at once."""

    id: HistoryId
    messages_added: tuple[MessageRef, ...] = ()
    messages_deleted: tuple[MessageRef, ...] = ()
    labels_added: tuple[LabelStep, ...] = ()
    labels_removed: tuple[LabelStep, ...] = ()


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """One page of history.list. `history_id` is the head of the mailbox when this page was made."""

    records: tuple[Record, ...]
    history_id: HistoryId
    next_page_token: str | None


@dataclass(frozen=True, slots=True)
class MessagePage:
    """One page of messages.list: (message id, thread id) pairs."""

    refs: tuple[tuple[MessageId, ThreadId], ...]
    next_page_token: str | None


@dataclass(frozen=True, slots=True)
class ThreadPage:
    """One page of threads.list: (thread id, history id) pairs."""

    refs: tuple[tuple[ThreadId, HistoryId], ...]
    next_page_token: str | None


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody the Directory API names, and whether there can be a mailbox of theirs."""

    address: MailboxId
    standing: Standing = "active"


@dataclass(frozen=True, slots=True)
class PeoplePage:
    """One page of a group's members or of an organisational unit's users."""

    people: tuple[Person, ...]
    next_page_token: str | None
