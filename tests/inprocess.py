"""The fake Gmail without HTTP: `ports.GmailAccounts` straight over its mailboxes, with budget, faults by hand and an
account.

Knows: the fake's mailboxes and the adapter's own parsing. Does not know: transport; `tests/contract/test_gmail.py`
covers that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mailmirror.adapters.gmail import (
    parse_history_page,
    parse_labels,
    parse_message,
    parse_message_page,
    parse_profile,
    parse_thread,
    parse_thread_page,
    parse_watch,
)
from mailmirror.errors import GmailUnavailable, HistoryExpired, PageTokenExpired, UnknownMailbox
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
from mailmirror.ports import Clock, Gmail
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
    """

    clock: Clock
    mailboxes: dict[MailboxId, GmailMailbox] = field(default_factory=dict)
    units_per_minute: int = 6_000_000
    calls: list[tuple[str, str]] = field(default_factory=list)
    spent: int = 0
    before: Callable[[str, str], None] | None = None

    def open(self, mailbox: MailboxId, quota: Quota | None) -> Gmail:
        """Return the mailbox."""
        if mailbox not in self.mailboxes:
            raise UnknownMailbox(mailbox)
        return InProcessGmail(self, mailbox, quota)

    def made(self, method: str) -> int:
        """Return how many calls of a method were made."""
        return sum(name == method for name, _ in self.calls)


class InProcessGmail:
    """One mailbox of the fake."""

    def __init__(self, accounts: InProcessAccounts, mailbox: MailboxId, quota: Quota | None) -> None:
        self._accounts = accounts
        self._mailbox = accounts.mailboxes[mailbox]
        self._budget = Budget(bucket(accounts.units_per_minute), accounts.clock, quota)
        self.rejected = 0

    @property
    def spent(self) -> int:
        return self._budget.spent

    @property
    def quota(self) -> Quota:
        return self._budget.level()

    def affordable(self, seconds: float) -> int:
        return self._budget.affordable(seconds)

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
        self, page_token: str | None, *, include_spam_trash: bool, label_ids: Sequence[str] = ()
    ) -> MessagePage:
        self._ask("users.messages.list")
        return parse_message_page(self._listed(self._mailbox.list_messages, page_token, label_ids, include_spam_trash))

    def list_threads(self, page_token: str | None, *, include_spam_trash: bool) -> ThreadPage:
        self._ask("users.threads.list")
        return parse_thread_page(self._listed(self._mailbox.list_threads, page_token, (), include_spam_trash))

    def _listed(self, call: Any, token: str | None, label_ids: Sequence[str], include_spam_trash: bool) -> Any:
        try:
            return call(token, 500, label_ids, include_spam_trash)
        except ApiError as error:
            raise PageTokenExpired(str(error)) from error

    def messages(self, ids: Sequence[str]) -> Mapping[str, Message | Gone | Failed]:
        found: dict[str, Message | Gone | Failed] = {}
        for message_id in ids:
            try:
                self._ask("users.messages.get", message_id)
                found[message_id] = parse_message(self._mailbox.get_message(message_id))
            except ApiError:
                found[message_id] = Gone()
            except GmailUnavailable as error:
                found[message_id] = Failed(str(error))
        return found

    def threads(self, ids: Sequence[str], *, minimal: bool = False) -> Mapping[str, FetchedThread | Gone | Failed]:
        found: dict[str, FetchedThread | Gone | Failed] = {}
        for thread_id in ids:
            try:
                self._ask("users.threads.get", thread_id)
                answer = self._mailbox.get_thread(thread_id, "minimal" if minimal else "full")
                found[thread_id] = parse_thread(answer, minimal=minimal)
            except ApiError:
                found[thread_id] = Gone()
            except GmailUnavailable as error:
                found[thread_id] = Failed(str(error))
        return found

    def labels(self) -> tuple[Label, ...]:
        self._ask("users.labels.list")
        return parse_labels(self._mailbox.list_labels())

    def watch(self) -> Watch:
        self._ask("users.watch")
        return parse_watch(self._mailbox.watch(TOPIC, (), None), self._accounts.clock.now())
