"""The port: `ports.GmailAccounts` and `ports.Gmail`, one method of Gmail's API for each of the port's.

Knows: the methods' parameters, and that a single call is made again if that is worth it. Does not know: how a call is
paid for, sent or named, or how many gets are made at a time.
"""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.auth.credentials import Credentials

from mailmirror.adapters.gmail.calls import Calls
from mailmirror.adapters.gmail.gets import Gets
from mailmirror.adapters.gmail.patience import worth_another_try
from mailmirror.adapters.gmail.transport import GOOGLE, connect
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
from mailmirror.errors import GmailRejected, GmailUnavailable, Throttled
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


@dataclass(frozen=True, slots=True, eq=False)
class GmailApiAccounts:
    """Opens mailboxes in Gmail.

    Attributes:
        credentials: the credentials for a mailbox; None where Gmail is the fake one.
        clock: time; every wait goes through it.
        topic: where Gmail publishes notifications, projects/…/topics/….
        api_root: where Gmail is.
        units_per_minute: the quota of a user.
        prices: what calls cost.
        watch_label_ids, watch_label_filter_behavior: the filter of the watch; without them everything is notified.
        timeout: seconds without a byte after which a call counts as unanswered.
        rng: jitter.
    """

    credentials: Callable[[MailboxId], Credentials | None]
    clock: Clock = field(kw_only=True)
    topic: str = field(kw_only=True)
    api_root: str = field(default=GOOGLE, kw_only=True)
    units_per_minute: int = field(default=6000, kw_only=True)
    prices: PriceTable = field(default="2026", kw_only=True)
    watch_label_ids: Sequence[LabelId] = field(default=(), kw_only=True)
    watch_label_filter_behavior: str | None = field(default=None, kw_only=True)
    timeout: float = field(default=30.0, kw_only=True)
    rng: random.Random = field(default_factory=random.Random, kw_only=True)

    def __post_init__(self) -> None:
        # It warns of every 403, sometimes with the answer's whole content; all that is to be said is in our errors.
        logging.getLogger("googleapiclient.http").setLevel(logging.ERROR)

    def open(self, mailbox: MailboxId, quota: Quota | None) -> Gmail:
        return GmailClient(mailbox, self, quota)


class GmailClient:
    """One mailbox in Gmail, for one thread: httplib2 is not safe for more."""

    def __init__(self, mailbox: MailboxId, accounts: GmailApiAccounts, quota: Quota | None) -> None:
        self.mailbox = mailbox
        self._accounts = accounts
        self._clock = accounts.clock
        self._budget = Budget(bucket(accounts.units_per_minute), accounts.clock, quota)
        self._calls = Calls(
            mailbox,
            lambda: connect(mailbox, accounts.credentials(mailbox), accounts.api_root, accounts.timeout),
            self._budget,
            PRICES[accounts.prices],
            accounts.clock,
            accounts.rng,
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

    def affordable(self, seconds: float) -> int:
        return self._budget.affordable(seconds)

    def profile(self) -> Profile:
        return self._call("users.getProfile", parse_profile, lambda users: users.getProfile(userId=self.mailbox))

    def history(self, start: HistoryId, page_token: str | None = None) -> HistoryPage:
        return self._call(
            "users.history.list",
            parse_history_page,
            lambda users: users.history().list(
                userId=self.mailbox, startHistoryId=str(start), pageToken=page_token, maxResults=PAGE_SIZE
            ),
            paged=page_token is not None,
        )

    def list_messages(
        self, page_token: str | None, *, include_spam_trash: bool, label_ids: Sequence[LabelId] = ()
    ) -> MessagePage:
        return self._call(
            "users.messages.list",
            parse_message_page,
            lambda users: users.messages().list(
                userId=self.mailbox,
                pageToken=page_token,
                includeSpamTrash=include_spam_trash,
                labelIds=list(label_ids) or None,
                maxResults=PAGE_SIZE,
            ),
            paged=page_token is not None,
        )

    def list_threads(self, page_token: str | None, *, include_spam_trash: bool) -> ThreadPage:
        return self._call(
            "users.threads.list",
            parse_thread_page,
            lambda users: users.threads().list(
                userId=self.mailbox,
                pageToken=page_token,
                includeSpamTrash=include_spam_trash,
                maxResults=PAGE_SIZE,
            ),
            paged=page_token is not None,
        )

    def messages(self, ids: Sequence[MessageId]) -> Mapping[MessageId, Message | Gone | Failed]:
        gets = Gets(
            self._calls,
            "users.messages.get",
            lambda users, message_id: users.messages().get(userId=self.mailbox, id=message_id, format="full"),
            parse_message,
        )
        return gets.all(ids)

    def threads(
        self, ids: Sequence[ThreadId], *, minimal: bool = False
    ) -> Mapping[ThreadId, FetchedThread | Gone | Failed]:
        form = "minimal" if minimal else "full"
        gets = Gets(
            self._calls,
            "users.threads.get",
            lambda users, thread_id: users.threads().get(userId=self.mailbox, id=thread_id, format=form),
            lambda answer: parse_thread(answer, minimal=minimal),
        )
        return gets.all(ids)

    def labels(self) -> tuple[Label, ...]:
        return self._call("users.labels.list", parse_labels, lambda users: users.labels().list(userId=self.mailbox))

    def watch(self) -> Watch:
        try:
            return self._watch()
        except GmailRejected as error:
            # Another topic holds the one watch a project may have on a mailbox.
            if "only one user push notification client" not in str(error).lower():
                raise
        self._call("users.stop", lambda _: None, lambda users: users.stop(userId=self.mailbox))
        return self._watch()

    def _watch(self) -> Watch:
        body: dict[str, object] = {"topicName": self._accounts.topic}
        if self._accounts.watch_label_ids:
            body["labelIds"] = list(self._accounts.watch_label_ids)
            body["labelFilterBehavior"] = (self._accounts.watch_label_filter_behavior or "include").lower()
        return self._call(
            "users.watch",
            lambda answer: parse_watch(answer, self._clock.now()),
            lambda users: users.watch(userId=self.mailbox, body=body),
        )

    def _call(
        self, method: str, parse: Callable[[Json], Value], request: Callable[[Any], Any], *, paged: bool = False
    ) -> Value:
        """Make one call, again if that is worth it, and parse its answer."""
        patience = self._calls.patience()
        while True:
            try:
                answer = self._calls.once(method, request, paged=paged)
                break
            except (Throttled, GmailUnavailable) as error:
                if not (worth_another_try(error) and patience.wait()):
                    raise
        try:
            return parse(answer)
        except UNREADABLE:
            raise GmailUnavailable(f"Gmail's answer to {method} cannot be read.") from None
