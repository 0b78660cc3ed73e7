"""One mailbox: `ports.Gmail`, one method of Gmail's API for each of the port's.

Knows: parameters, that a call may be made again, and which values take several. Does not know: how a call is paid for,
sent or named, or how many gets are made at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from mailmirror.adapters.gmail.calls import Calls, Get, Patience, worth_another_try
from mailmirror.adapters.gmail.gets import Gets, Kind
from mailmirror.adapters.gmail.refusal import BadRequest, NotFound, Oversized
from mailmirror.adapters.gmail.transport import Api, Lanes, Line, api, kept
from mailmirror.adapters.gmail.wire import (
    UNREADABLE,
    Json,
    finish_message,
    finish_thread,
    parse_data,
    parse_history_page,
    parse_label,
    parse_labels,
    parse_message,
    parse_message_page,
    parse_part,
    parse_profile,
    parse_thread,
    parse_thread_page,
    parse_thread_state,
    parse_watch,
)
from mailmirror.errors import GmailError, GmailUnavailable, StoreUnavailable, WatchTaken
from mailmirror.labels import UNREAD
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
from mailmirror.ports import Keep
from mailmirror.quota import PRICES, Budget, bucket

if TYPE_CHECKING:
    from mailmirror.adapters.gmail import GmailApiAccounts

Value = TypeVar("Value")

PAGE_SIZE = 500
MESSAGE, THREAD, LABEL = "users.messages.get", "users.threads.get", "users.labels.get"
ATTACHMENT = "users.messages.attachments.get"
# Colours are asked for one by one, under the lease: of more labels none are. Ten seconds of the usual quota.
COLORED = 1_000


def newer(since: datetime | None) -> str | None:
    """Return the search for messages that Gmail accepted at `since` or later; None for all.

    Gmail's guide: a date is midnight in California, epoch seconds are exact; not whether `after:` includes its second.
    So the one before is named, and the policy decides.
    """
    seconds = 0 if since is None else math.floor(since.timestamp()) - 1
    return f"after:{seconds}" if seconds > 0 else None


class GmailClient:
    """One mailbox in Gmail, for one thread."""

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

    def messages(self, ids: Sequence[MessageId], keep: Keep | None) -> Mapping[MessageId, Message | Gone | Failed]:
        return self.gets(ids, (), keep)[0]

    def threads(self, ids: Sequence[ThreadId], keep: Keep | None) -> Mapping[ThreadId, FetchedThread | Gone | Failed]:
        return self.gets((), ids, keep)[1]

    def thread_states(self, ids: Sequence[ThreadId]) -> Mapping[ThreadId, FetchedThread | Gone | Failed]:
        return self._all(THREAD, Kind(self._thread("minimal"), parse_thread_state), ids)

    def gets(
        self, messages: Sequence[MessageId], threads: Sequence[ThreadId], keep: Keep | None
    ) -> tuple[Mapping[MessageId, Message | Gone | Failed], Mapping[ThreadId, FetchedThread | Gone | Failed]]:
        form = "metadata" if keep is None else "full"
        patience = self._calls.patience()

        def fetch(message_id: MessageId, attachment_id: str) -> bytes | None:
            return self._attachment(message_id, attachment_id, patience)

        kinds = {
            MESSAGE: Kind(self._message(form), parse_message, lambda read: finish_message(read, keep, fetch)),
            THREAD: Kind(self._thread(form), parse_thread, lambda read: finish_thread(read, keep, fetch)),
        }
        found = self._found(kinds, [*((THREAD, i) for i in threads), *((MESSAGE, i) for i in messages)])
        return {i: found[MESSAGE, i] for i in messages}, {i: found[THREAD, i] for i in threads}

    def part(self, message_id: MessageId, part_id: str) -> bytes | None:
        request = self._message("full")
        try:
            part = self._call(MESSAGE, lambda answer: parse_part(answer, part_id), lambda api: request(api, message_id))
        except (NotFound, BadRequest):
            return None
        if part is None or not part.attachment_id:
            return None if part is None else part.data
        return self._attachment(message_id, part.attachment_id)

    def labels(self) -> tuple[Label, ...]:
        labels = self._call("users.labels.list", parse_labels, lambda api: api.labels.list(userId=self.mailbox))
        own = [label.id for label in labels if label.type == "user"]
        # By Google's reference a list has no colours; with one it has all.
        if len(own) > COLORED or any(label.color for label in labels):
            return labels
        kind = Kind(lambda api, label_id: api.labels.get(userId=self.mailbox, id=label_id), parse_label)
        found = self._all(LABEL, kind, own)
        colors = {i: label.color if isinstance(label, Label) else UNREAD for i, label in found.items()}
        return tuple(replace(label, color=colors.get(label.id)) for label in labels)

    def watch(self) -> Watch:
        try:
            return self._watch()
        except WatchTaken:
            # A project has one watch; another topic holds it.
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

    def _message(self, form: str) -> Callable[[Api, str], Any]:
        return lambda api, message_id: api.messages.get(userId=self.mailbox, id=message_id, format=form)

    def _thread(self, form: str) -> Callable[[Api, str], Any]:
        return lambda api, thread_id: api.threads.get(userId=self.mailbox, id=thread_id, format=form)

    def _attachment(self, message_id: MessageId, attachment_id: str, patience: Patience | None = None) -> bytes | None:
        try:
            return self._call(
                ATTACHMENT,
                parse_data,
                lambda api: api.attachments.get(userId=self.mailbox, messageId=message_id, id=attachment_id),
                patience=patience,
            )
        except (NotFound, BadRequest, Oversized) as error:
            kept(error)
            return None

    def _all(self, method: str, kind: Kind, ids: Sequence[str]) -> dict[str, Any]:
        found = self._found({method: kind}, [(method, i) for i in ids])
        return {i: found[method, i] for i in ids}

    def _found(self, kinds: Mapping[str, Kind], gets: Sequence[Get]) -> dict[Get, Any]:
        try:
            return Gets(self._calls, kinds).all(gets)
        except (GmailError, StoreUnavailable) as error:
            # Its frames hold what was found.
            raise kept(error)  # noqa: B904 -- it is the same error

    def _call(
        self,
        method: str,
        parse: Callable[[Json], Value],
        request: Callable[[Api], Any],
        *,
        paged: bool = False,
        patience: Patience | None = None,
    ) -> Value:
        """Calls may share a patience: what one lost the next does not have."""
        patience = patience or self._calls.patience()
        patience.begin()
        failed = False
        while True:
            try:
                answer = self._calls.once(method, request, paged=paged)
                break
            except GmailError as error:
                failed = True
                # Mail that is too large does not become smaller.
                too_large = isinstance(error, Oversized) and method in {MESSAGE, ATTACHMENT}
                if too_large or not (worth_another_try(error) and patience.wait()):
                    raise
                # A large message may be in hand.
                kept(error)
        if failed:
            patience.end()
        try:
            return parse(answer)
        except UNREADABLE:
            raise GmailUnavailable(f"Gmail's answer to {method} cannot be read.") from None
