"""One value of every kind that is stored, each field set to something that is not its default."""

from datetime import UTC, datetime, timedelta

from mailmirror.model import (
    Address,
    Attachment,
    Body,
    Change,
    Color,
    Counts,
    Coverage,
    Delta,
    Entry,
    Headers,
    Label,
    Mailbox,
    Message,
    Parked,
    Policy,
    Problem,
    Purge,
    Quota,
    Receipt,
    Run,
    RunRequest,
    Thread,
    Unreached,
    Watch,
)

NOW = datetime(2026, 11, 20, 12, 34, 56, 789123, tzinfo=UTC)
LEASE = timedelta(seconds=120)
MAX_HISTORY_ID = 2**63 - 1
ADDRESS = "ann@example.com"

POLICY = Policy(
    include_spam_trash=False,
    drafts=True,
    label_ids=("INBOX", "Label_1"),
    exclude_label_ids=("CATEGORY_PROMOTIONS",),
    since=NOW - timedelta(days=365),
    newest_days=30,
    bodies=False,
)
RUN = Run(
    id="r1",
    mode="repair",
    reason="history expired",
    anchor=MAX_HISTORY_ID - 2,
    signpost=MAX_HISTORY_ID - 1,
    started_at=NOW,
    policy=POLICY,
    since=NOW - timedelta(days=30),
    stage="fetching",
    listing="threads",
    scope=1,
    page_token="p",
    first_page=1,
    pages=2,
    listed_at=NOW + timedelta(minutes=1),
    plan_after="t0",
    first_plan=3,
    plans=4,
    at=5,
    offset=6,
    listed=7,
    done=8,
    total=9,
    found=10,
    extra=11,
    removed=12,
    parked=13,
    threads_processed=14,
    messages_processed=15,
    units=16,
    rejected=17,
    planned_units=18,
    eta_at=NOW + timedelta(hours=1),
    paused_until=NOW + timedelta(hours=12),
    finished_at=NOW + timedelta(hours=2),
    error="none",
)
MAILBOX = Mailbox(
    email_address=ADDRESS,
    created_at=NOW - timedelta(days=1, microseconds=1),
    watch=Watch(NOW + timedelta(days=7), MAX_HISTORY_ID, NOW, "once"),
    next_due_at=NOW + timedelta(minutes=15),
    phase="recovering",
    wanted="purged",
    policy=POLICY,
    content="metadata",
    aged_to=NOW - timedelta(days=29),
    cursor=MAX_HISTORY_ID - 1,
    hint=MAX_HISTORY_ID,
    request=RunRequest("r2", "audit", NOW),
    request_done="r1",
    revision=3,
    delta_seq=2**53 + 1,
    announced=2**53,
    run=RUN,
    coverage=Coverage(6, 5, 4, 3, 2, NOW),
    counts=Counts(5, 4, 2),
    labels={"Label_1": "a.b/c `d`", "INBOX": "INBOX"},
    lag=1.5,
    last_notification_at=NOW,
    last_sync_at=NOW,
    throttled_until=NOW,
    parked_due_at=NOW,
    takeovers=1,
    suspect={"m1": 1},
    unreached=(Unreached(MAX_HISTORY_ID, NOW),),
    quota=Quota(12.25, NOW, 345),
    problem=Problem("Throttled", "Too much.", "Wait.", NOW),
    purge=Purge(NOW, {"messages": 3, "runs": 1}, 2),
)
RECEIPT = Receipt(
    email_address=ADDRESS,
    documents={"messages": 3, "threads": 2, "runs": 1},
    objects=2,
    secrets=1,
    watch_stopped=True,
    started_at=NOW - timedelta(minutes=1),
    purged_at=NOW,
    expire_at=NOW + timedelta(days=90),
)
MESSAGE = Message(
    id="18c0ffee",
    thread_id="18c0ffe0",
    label_ids=frozenset({"INBOX", "UNREAD"}),
    history_id=MAX_HISTORY_ID,
    internal_date=NOW.replace(year=1970),
    size_estimate=1234,
    snippet="Grüße \U0001f600 \x00",
    headers=Headers(
        from_=Address("Bo \U0001f600", "bo@example.com"),
        to=(Address("", "ann@example.com"), Address("Carl", "carl@example.com")),
        cc=(Address("d", "d@example.com"),),
        bcc=(Address("e", "e@example.com"),),
        reply_to=(Address("f", "f@example.com"),),
        subject="g",
        date=NOW - timedelta(days=1),
        message_id="<h@example.com>",
        in_reply_to=("<i@example.com>",),
        references=("<j@example.com>", "<k@example.com>"),
    ),
    body=Body("text", "<b>html</b>", "storage", "gs://b/o", rendered=True, truncated=True),
    attachments=(Attachment("1", "ä.pdf", "application/pdf", 1, "inline", "c@d", "gs://b/p"),),
    protection="signed",
    objects=("ann@example.com/o", "ann@example.com/p"),
    truncated=("body.text",),
)
THREAD = Thread(
    id="18c0ffe0",
    history_id=MAX_HISTORY_ID,
    messages={
        "18c0ffee": Entry(
            label_ids=frozenset({"INBOX"}),
            internal_date=NOW,
            history_id=MAX_HISTORY_ID,
            from_=Address("Bo", "bo@example.com"),
            subject="Hello",
            snippet="Hel",
            has_attachments=True,
            stored="storage",
            objects=2,
        )
    },
)
LABEL = Label("Label_1", "Work", "user", "show", "labelHide", Color("#ffffff", "#16a766"))
DELTA = Delta(
    seq=1,
    at=NOW,
    origin="backfill",
    cursor=MAX_HISTORY_ID,
    changes=(Change("labelsChanged", "18c0ffee", "18c0ffe0", ("INBOX",), ("UNREAD",)),),
    expire_at=NOW + timedelta(days=30),
)
PARKED = Parked("18c0ffee", "18c0ffe0", "too deep", 3, NOW, NOW + timedelta(hours=1))

# Where each of them is stored below a mailbox.
STORED = {
    ("messages", MESSAGE.id): MESSAGE,
    ("threads", THREAD.id): THREAD,
    ("labels", LABEL.id): LABEL,
    ("deltas", f"{DELTA.seq:020d}"): DELTA,
    ("parked", PARKED.id): PARKED,
    ("runs", RUN.id): RUN,
}


def new_mailbox(address: str = ADDRESS) -> Mailbox:
    """Return a mailbox as it is when it has just been connected."""
    return Mailbox(address, created_at=NOW, watch=Watch(NOW), next_due_at=NOW)
