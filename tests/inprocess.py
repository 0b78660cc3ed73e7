"""The fake Gmail without HTTP: `ports.GmailAccounts` straight over its mailboxes, with budget, faults by hand and an
account.

Knows: the fake's mailboxes and the adapter's own parsing. Does not know: transport; `tests/contract/test_gmail.py`
covers that.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from mailmirror.adapters.gmail.client import newer
from mailmirror.adapters.gmail.wire import (
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
from mailmirror.errors import GmailUnavailable, HistoryExpired, PageTokenExpired, UnknownMailbox
from mailmirror.labels import UNREAD
from mailmirror.model import (
    Failed,
    FetchedThread,
    Gone,
    HistoryPage,
    Label,
    MailboxId,
    Message,
    MessagePage,
    Profile,
    Quota,
    ThreadPage,
    Watch,
)
from mailmirror.ports import Clock, Gmail, Keep
from mailmirror.quota import PRICES, Budget, bucket

from local.gmail.errors import ApiError
from local.gmail.mailbox import Mailbox as GmailMailbox

TOPIC = "projects/test/topics/gmail-notifications"


@dataclass
class InProcessAccounts:
    """Opens the fake's mailboxes.

    Attributes:
        mailboxes: by address.
        calls: (method, detail) of every call made.
        spent: quota units of all of them.
        before: called with each method and its subject before the call; raise there to inject a fault.
        units_per_minute, units_per_day: the quota.
        secrets: how many secrets are kept that let a mailbox be opened, by address.
    """

    clock: Clock
    mailboxes: dict[MailboxId, GmailMailbox] = field(default_factory=dict)
    units_per_minute: int = 6_000_000
    calls: list[tuple[str, str]] = field(default_factory=list)
    spent: int = 0
    before: Callable[[str, str], None] | None = None
    units_per_day: int | None = None
    secrets: dict[MailboxId, int] = field(default_factory=dict)

    def open(self, mailbox: MailboxId, quota: Quota | None) -> Gmail:
        """Return the mailbox."""
        if mailbox not in self.mailboxes:
            raise UnknownMailbox(mailbox)
        return InProcessGmail(self, mailbox, quota)

    def forget(self, mailbox: MailboxId) -> int:
        """Delete the secrets kept for a mailbox."""
        if self.before is not None:
            self.before("forget", mailbox)
        return self.secrets.pop(mailbox, 0)

    def made(self, method: str) -> int:
        """Return how many calls of a method were made."""
        return sum(name == method for name, _ in self.calls)


class InProcessGmail:
    """One mailbox of the fake."""

    def __init__(self, accounts: InProcessAccounts, mailbox: MailboxId, quota: Quota | None) -> None:
        self._accounts = accounts
        self._mailbox = accounts.mailboxes[mailbox]
        size = bucket(accounts.units_per_minute)
        self._budget = Budget(size, accounts.clock, quota, units_per_day=accounts.units_per_day)
        self.rejected = 0

    @property
    def spent(self) -> int:
        return self._budget.spent

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

    def _ask(self, method: str, subject: str = "") -> None:
        price = PRICES["2026"][method]
        self._budget.take(price)
        self._accounts.spent += price
        self._accounts.calls.append((method, subject))
        if self._accounts.before is not None:
            self._accounts.before(method, subject)

    def profile(self) -> Profile:
        self._ask("users.getProfile")
        return parse_profile(self._mailbox.get_profile())

    def history(self, start: int, page_token: str | None = None) -> HistoryPage:
        self._ask("users.history.list", str(start))
        try:
            return parse_history_page(self._mailbox.list_history(start, page_token, 500))
        except ApiError as error:
            if error.status == 404:
                raise HistoryExpired(str(error)) from error
            raise PageTokenExpired(str(error)) from error

    def list_messages(
        self,
        page_token: str | None,
        *,
        include_spam_trash: bool,
        label_ids: Sequence[str] = (),
        since: datetime | None = None,
    ) -> MessagePage:
        self._ask("users.messages.list")
        listed = self._listed(self._mailbox.list_messages, page_token, label_ids, include_spam_trash, since)
        return parse_message_page(listed)

    def list_threads(
        self,
        page_token: str | None,
        *,
        include_spam_trash: bool,
        label_ids: Sequence[str] = (),
        since: datetime | None = None,
    ) -> ThreadPage:
        self._ask("users.threads.list")
        listed = self._listed(self._mailbox.list_threads, page_token, label_ids, include_spam_trash, since)
        return parse_thread_page(listed)

    def _listed(
        self, call: Any, token: str | None, label_ids: Sequence[str], include_spam_trash: bool, since: datetime | None
    ) -> Any:
        try:
            return call(token, 500, label_ids, include_spam_trash, newer(since))
        except ApiError as error:
            raise PageTokenExpired(str(error)) from error

    def messages(self, ids: Sequence[str], keep: Keep | None) -> Mapping[str, Message | Gone | Failed]:
        form = "metadata" if keep is None else "full"
        found: dict[str, Message | Gone | Failed] = {}
        for message_id in ids:
            answer = self._get("users.messages.get", self._mailbox.get_message, message_id, form)
            if isinstance(answer, Gone | Failed):
                found[message_id] = answer
            else:
                found[message_id] = finish_message(parse_message(answer), keep, self._fetch)
        return found

    def threads(self, ids: Sequence[str], keep: Keep | None) -> Mapping[str, FetchedThread | Gone | Failed]:
        form = "metadata" if keep is None else "full"
        found: dict[str, FetchedThread | Gone | Failed] = {}
        for thread_id in ids:
            answer = self._get("users.threads.get", self._mailbox.get_thread, thread_id, form)
            if isinstance(answer, Gone | Failed):
                found[thread_id] = answer
            else:
                found[thread_id] = finish_thread(parse_thread(answer), keep, self._fetch)
        return found

    def thread_states(self, ids: Sequence[str]) -> Mapping[str, FetchedThread | Gone | Failed]:
        found: dict[str, FetchedThread | Gone | Failed] = {}
        for thread_id in ids:
            answer = self._get("users.threads.get", self._mailbox.get_thread, thread_id, "minimal")
            found[thread_id] = answer if isinstance(answer, Gone | Failed) else parse_thread_state(answer)
        return found

    def gets(
        self, messages: Sequence[str], threads: Sequence[str], keep: Keep | None
    ) -> tuple[Mapping[str, Message | Gone | Failed], Mapping[str, FetchedThread | Gone | Failed]]:
        whole = self.threads(threads, keep)
        return self.messages(messages, keep), whole

    def part(self, message_id: str, part_id: str) -> bytes | None:
        self._ask("users.messages.get", message_id)
        try:
            part = parse_part(self._mailbox.get_message(message_id), part_id)
        except ApiError:
            return None
        if part is None or not part.attachment_id:
            return None if part is None else part.data
        return self._fetch(message_id, part.attachment_id)

    def labels(self) -> tuple[Label, ...]:
        self._ask("users.labels.list")
        labels = parse_labels(self._mailbox.list_labels())
        if any(label.color for label in labels):
            return labels
        return tuple(self._colored(label) if label.type == "user" else label for label in labels)

    def _colored(self, label: Label) -> Label:
        answer = self._get("users.labels.get", lambda label_id, _: self._mailbox.get_label(label_id), label.id, "")
        return replace(label, color=UNREAD if isinstance(answer, Gone | Failed) else parse_label(answer).color)

    def _get(self, method: str, get: Callable[[str, str], Any], item_id: str, form: str) -> Any | Gone | Failed:
        """What is answered, or what became of it instead."""
        try:
            self._ask(method, item_id)
            return get(item_id, form)
        except ApiError:
            return Gone()
        except GmailUnavailable as error:
            return Failed(str(error))

    def _fetch(self, message_id: str, attachment_id: str) -> bytes | None:
        self._ask("users.messages.attachments.get", message_id)
        try:
            return parse_data(self._mailbox.get_attachment(message_id, attachment_id))
        except ApiError:
            return None

    def watch(self) -> Watch:
        self._ask("users.watch")
        return parse_watch(self._mailbox.watch(TOPIC, (), None), self._accounts.clock.now())

    def stop(self) -> None:
        self._ask("users.stop")
        self._mailbox.stop()
