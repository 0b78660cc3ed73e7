"""The port: `ports.GmailAccounts` and `ports.Gmail`, one method of Gmail's API for each of the port's.

Knows: the methods' parameters, and that a single call is made again if that is worth it. Does not know: how a call is
paid for, sent or named, or how many gets are made at a time.
"""

import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from google.auth.credentials import Credentials

from mailmirror.adapters.gmail.calls import Calls
from mailmirror.adapters.gmail.gets import Gets, Kind
from mailmirror.adapters.gmail.lanes import Lanes
from mailmirror.adapters.gmail.patience import worth_another_try
from mailmirror.adapters.gmail.transport import GOOGLE, Api, Line, api, kept
from mailmirror.adapters.gmail.wire import (
    UNREADABLE,
    Json,
    parse_history_page,
    parse_labels,
    parse_message,
    parse_message_page,
    parse_profile,
    parse_thread,
    parse_thread_page,
    parse_watch,
)
from mailmirror.errors import GmailError, GmailUnavailable, WatchTaken
from mailmirror.model import (
    Failed,
    FetchedThread,
    Gone,
    HistoryId,
    HistoryPage,
    Label,
    LabelId,
    MailboxId,
    Message,
    MessageId,
    MessagePage,
    Profile,
    Quota,
    ThreadId,
    ThreadPage,
    Watch,
)
from mailmirror.ports import Clock, Gmail
from mailmirror.quota import PRICES, Budget, PriceTable, bucket

Value = TypeVar("Value")

PAGE_SIZE = 500
MESSAGE, THREAD = "users.messages.get", "users.threads.get"


def newer(since: datetime | None) -> str | None:
    """Return the search for messages that Gmail accepted at `since` or later; None for all.

    Gmail's guide: a date in a search is midnight in California, epoch seconds are exact. What it does not say is
    whether `after:` includes the second that it names, so the second before is named, and the policy decides.
    """
    seconds = 0 if since is None else math.floor(since.timestamp()) - 1
    return f"after:{seconds}" if seconds > 0 else None


def _keeps_nothing(_mailbox: MailboxId) -> int:
    """Nothing is kept for each mailbox that lets it be opened."""
    return 0


@dataclass(frozen=True, slots=True, eq=False)
class GmailApiAccounts:
    """Opens mailboxes in Gmail.

    Attributes:
        credentials: the credentials for a mailbox; None where Gmail is the fake one.
        clock: time; every wait goes through it.
        topic: where Gmail publishes notifications, projects/…/topics/….
        api_root: where Gmail is.
        units_per_minute: the quota of a user.
        units_per_day: what runs may spend of a user's quota from one midnight UTC to the next; None: no limit.
        prices: what calls cost.
        watch_label_ids, watch_label_filter_behavior: the filter of the watch; without them everything is notified.
        timeout: seconds without a byte after which a call counts as unanswered.
        rng: jitter.
        lanes: the most batches under way at a time for one mailbox; one lane uses no threads.
        forgets: deletes what is kept for a mailbox that lets it be opened, and returns how many secrets that was.
    """

    credentials: Callable[[MailboxId], Credentials | None]
    clock: Clock = field(kw_only=True)
    topic: str = field(kw_only=True)
    api_root: str = field(default=GOOGLE, kw_only=True)
    units_per_minute: int = field(default=6000, kw_only=True)
    units_per_day: int | None = field(default=None, kw_only=True)
    prices: PriceTable = field(default="2026", kw_only=True)
    watch_label_ids: Sequence[LabelId] = field(default=(), kw_only=True)
    watch_label_filter_behavior: str | None = field(default=None, kw_only=True)
    timeout: float = field(default=30.0, kw_only=True)
    rng: random.Random = field(default_factory=random.Random, kw_only=True)
    lanes: int = field(default=8, kw_only=True)
    forgets: Callable[[MailboxId], int] = field(default=_keeps_nothing, kw_only=True)

    def __post_init__(self) -> None:
        # It warns of every 403, sometimes with the answer's whole content; all that is to be said is in our errors.
        logging.getLogger("googleapiclient.http").setLevel(logging.ERROR)

    def open(self, mailbox: MailboxId, quota: Quota | None) -> Gmail:
        return GmailClient(mailbox, self, quota)

    def forget(self, mailbox: MailboxId) -> int:
        return self.forgets(mailbox)


class GmailClient:
    """One mailbox in Gmail, for one thread: its budget and what fails are kept track of in that thread alone."""

    def __init__(self, mailbox: MailboxId, accounts: GmailApiAccounts, quota: Quota | None) -> None:
        self.mailbox = mailbox
        self._accounts = accounts
        self._clock = accounts.clock
        size = bucket(accounts.units_per_minute)
        self._budget = Budget(size, accounts.clock, quota, units_per_day=accounts.units_per_day)
        self._calls = Calls(
            mailbox,
            lambda: Lanes(
                api(accounts.api_root),
                mailbox,
                accounts.credentials(mailbox),
                lambda: Line(accounts.api_root, accounts.timeout),
            ),
            self._budget,
            PRICES[accounts.prices],
            accounts.clock,
            accounts.rng,
            lanes=accounts.lanes,
        )

    @property
    def spent(self) -> int:
        return self._budget.spent

    @property
    def rejected(self) -> int:
        return self._calls.rejected

    @property
    def quota(self) -> Quota:
        return self._budget.level()

    @property
    def day_left(self) -> int | None:
        return self._budget.day_left

    def affordable(self, seconds: float) -> int:
        return self._budget.affordable(seconds)

    def sparing(self) -> AbstractContextManager[None]:
        return self._budget.sparing()

    def profile(self) -> Profile:
        return self._call("users.getProfile", parse_profile, lambda api: api.users.getProfile(userId=self.mailbox))

    def history(self, start: HistoryId, page_token: str | None = None) -> HistoryPage:
        return self._call(
            "users.history.list",
            parse_history_page,
            lambda api: api.history.list(
                userId=self.mailbox, startHistoryId=str(start), pageToken=page_token, maxResults=PAGE_SIZE
            ),
            paged=page_token is not None,
        )

    def list_messages(
        self,
        page_token: str | None,
        *,
        include_spam_trash: bool,
        label_ids: Sequence[LabelId] = (),
        since: datetime | None = None,
    ) -> MessagePage:
        return self._call(
            "users.messages.list",
            parse_message_page,
            lambda api: api.messages.list(
                userId=self.mailbox,
                pageToken=page_token,
                includeSpamTrash=include_spam_trash,
                labelIds=list(label_ids) or None,
                q=newer(since),
                maxResults=PAGE_SIZE,
            ),
            paged=page_token is not None,
        )

    def list_threads(
        self,
        page_token: str | None,
        *,
        include_spam_trash: bool,
        label_ids: Sequence[LabelId] = (),
        since: datetime | None = None,
    ) -> ThreadPage:
        return self._call(
            "users.threads.list",
            parse_thread_page,
            lambda api: api.threads.list(
                userId=self.mailbox,
                pageToken=page_token,
                includeSpamTrash=include_spam_trash,
                labelIds=list(label_ids) or None,
                q=newer(since),
                maxResults=PAGE_SIZE,
            ),
            paged=page_token is not None,
        )

    def messages(self, ids: Sequence[MessageId], *, bodies: bool = True) -> Mapping[MessageId, Message | Gone | Failed]:
        return self.gets(ids, (), bodies=bodies)[0]

    def threads(
        self, ids: Sequence[ThreadId], *, minimal: bool = False, bodies: bool = True
    ) -> Mapping[ThreadId, FetchedThread | Gone | Failed]:
        return self._gets((), ids, minimal=minimal, bodies=bodies)[1]

    def gets(
        self, messages: Sequence[MessageId], threads: Sequence[ThreadId], *, bodies: bool = True
    ) -> tuple[Mapping[MessageId, Message | Gone | Failed], Mapping[ThreadId, FetchedThread | Gone | Failed]]:
        return self._gets(messages, threads, minimal=False, bodies=bodies)

    def _gets(
        self, messages: Sequence[MessageId], threads: Sequence[ThreadId], *, minimal: bool, bodies: bool
    ) -> tuple[dict[MessageId, Any], dict[ThreadId, Any]]:
        form = "full" if bodies else "metadata"
        kinds = {
            MESSAGE: Kind(
                lambda api, message_id: api.messages.get(userId=self.mailbox, id=message_id, format=form),
                lambda answer: parse_message(answer, bodies=bodies),
            ),
            THREAD: Kind(
                lambda api, thread_id: api.threads.get(
                    userId=self.mailbox, id=thread_id, format="minimal" if minimal else form
                ),
                lambda answer: parse_thread(answer, minimal=minimal, bodies=bodies),
            ),
        }
        wanted = [*((THREAD, i) for i in threads), *((MESSAGE, i) for i in messages)]
        try:
            found = Gets(self._calls, kinds).all(wanted)
        except GmailError as error:
            # What was found until then is in the frames that it came through.
            raise kept(error)  # noqa: B904 -- it is the same error
        return {i: found[MESSAGE, i] for i in messages}, {i: found[THREAD, i] for i in threads}

    def labels(self) -> tuple[Label, ...]:
        return self._call("users.labels.list", parse_labels, lambda api: api.labels.list(userId=self.mailbox))

    def watch(self) -> Watch:
        try:
            return self._watch()
        except WatchTaken:
            # Another topic holds the one watch a project may have on a mailbox.
            self.stop()
        return self._watch()

    def stop(self) -> None:
        self._call("users.stop", lambda _: None, lambda api: api.users.stop(userId=self.mailbox))

    def _watch(self) -> Watch:
        body: dict[str, object] = {"topicName": self._accounts.topic}
        if self._accounts.watch_label_ids:
            body["labelIds"] = list(self._accounts.watch_label_ids)
            body["labelFilterBehavior"] = (self._accounts.watch_label_filter_behavior or "include").lower()
        return self._call(
            "users.watch",
            lambda answer: parse_watch(answer, self._clock.now()),
            lambda api: api.users.watch(userId=self.mailbox, body=body),
        )

    def _call(
        self, method: str, parse: Callable[[Json], Value], request: Callable[[Api], Any], *, paged: bool = False
    ) -> Value:
        """Make one call, again if that is worth it, and parse its answer."""
        patience = self._calls.patience()
        while True:
            try:
                answer = self._calls.once(method, request, paged=paged)
                break
            except GmailError as error:
                if not (worth_another_try(error) and patience.wait()):
                    raise
        try:
            return parse(answer)
        except UNREADABLE:
            raise GmailUnavailable(f"Gmail's answer to {method} cannot be read.") from None
