"""Discovery: the people of a group or an organisational unit, each connected by itself.

Knows: who can be connected, that nobody's failure is another's, and where to go on when the time is over. Does not
know: the Directory API, or how a mailbox is connected (`mailboxes`). Nobody listed is left out: each is connected,
confirmed, skipped or failed, with a reason, or after the place to go on from.

It may be repeated and cut off at any time: who is connected is confirmed, who was stopped stays stopped. A unit is in
the order of addresses: only who joins meanwhile may be passed over. A group has no promised order: if it changes,
discover it once more.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from mailmirror import mailboxes
from mailmirror.errors import MailmirrorError
from mailmirror.log import log
from mailmirror.model import MailboxId, PeoplePage, Person, Policy, Standing
from mailmirror.ports import Clock, Directory, GmailAccounts, Publisher, Store

REASONS: Mapping[Standing, str] = {
    "suspended": "The account is suspended.",
    "archived": "The account is archived.",
    "no_mailbox": "The account has no Gmail mailbox.",
    "external": "This is no active user of the Workspace account.",
    "group": "This is a group; its members are listed beside it.",
}
STOPPED = "Somebody stopped this mailbox; connect it by itself to make it live again."
PURGED = "This mailbox is being deleted."


@dataclass(frozen=True, slots=True)
class Crowd:
    """The members of a group, or the users of an organisational unit (`/` is everybody)."""

    kind: Literal["group", "org_unit"]
    name: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where to go on: on this page, after this address in the order of addresses."""

    page_token: str | None = None
    after: MailboxId = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """No mailbox to connect, and why."""

    address: MailboxId
    reason: str


@dataclass(frozen=True, slots=True)
class Missed:
    """A mailbox that could not be connected, and why."""

    address: MailboxId
    code: str
    message: str


@dataclass(slots=True)
class Found:
    """What became of the people listed; `next`: where to go on, if anywhere; `problem`: why it broke off there."""

    connected: list[MailboxId] = field(default_factory=list)
    confirmed: list[MailboxId] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    failed: list[Missed] = field(default_factory=list)
    next: Place | None = None
    problem: str | None = None

    @property
    def people(self) -> int:
        """How many were listed."""
        return len(self.connected) + len(self.confirmed) + len(self.skipped) + len(self.failed)


@dataclass(frozen=True, slots=True)
class Discovery:
    """Connects the people of a crowd.

    Attributes:
        policy: None keeps a mailbox's, or takes the default.
        dry_run: say who would be connected; no write, message or call to Gmail.
    """

    store: Store
    accounts: GmailAccounts
    publisher: Publisher
    clock: Clock
    directory: Directory
    policy: Policy | None = None
    dry_run: bool = False

    def run(self, crowd: Crowd, place: Place, deadline: datetime) -> Found:
        """Work through the listing from `place`; after `deadline` begin with nobody but the first.

        Raises `MailmirrorError`: the first page could not be listed; a later one makes a `problem`.
        """
        found = Found()
        while True:
            try:
                list_page = self.directory.members if crowd.kind == "group" else self.directory.users
                page = list_page(crowd.name, place.page_token)
            except MailmirrorError as error:
                if not found.people:
                    raise
                found.next, found.problem = place, f"{error} {error.action}"
                return found
            # In our own order: the place holds when the page is listed again in another.
            for person in sorted(_once(page).values(), key=lambda person: person.address):
                if person.address <= place.after:
                    continue
                if found.people and self.clock.now() >= deadline:
                    found.next = place
                    return found
                self._take(person, found)
                place = Place(place.page_token, person.address)
            if page.next_page_token is None:
                return found
            place = Place(page.next_page_token)
            if self.clock.now() >= deadline:
                found.next = place
                return found

    def _take(self, person: Person, found: Found) -> None:
        if person.standing != "active":
            found.skipped.append(Skipped(person.address, REASONS[person.standing]))
            return
        try:
            address = mailboxes.mailbox_id(person.address)
            stored = self.store.mailbox(address)
            if stored is not None and stored.wanted != "live":
                found.skipped.append(Skipped(address, STOPPED if stored.wanted == "stopped" else PURGED))
                return
            created = stored is None if self.dry_run else self._connect(address)
        except MailmirrorError as error:
            found.failed.append(Missed(person.address, type(error).__name__, f"{error} {error.action}"))
            log(
                "mailbox_not_connected",
                person.address,
                level=logging.WARNING,
                error=type(error).__name__,
                reason=str(error),
            )
            return
        (found.connected if created else found.confirmed).append(address)

    def _connect(self, address: MailboxId) -> bool:
        _, created = mailboxes.connect(self.store, self.accounts, self.publisher, self.clock, address, self.policy)
        if created:
            log("mailbox_connected", address)
        return created


def _once(page: PeoplePage) -> dict[MailboxId, Person]:
    people: dict[MailboxId, Person] = {}
    for person in page.people:
        if person.standing == "active" or person.address not in people:
            people[person.address] = person
    return people
