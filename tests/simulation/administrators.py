"""Administrators: they connect mailboxes, change policies, ask for runs, stop and delete, at any moment.

Knows: what may be asked for, and what an answer promises: whoever was told that a wish is stored, and whom nobody
contradicted meanwhile, finds it stored. Does not know: how a wish is carried out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from mailmirror.app import App, TriggerMode
from mailmirror.errors import BeingPurged, MailmirrorError
from mailmirror.model import Mailbox, Policy

from tests.simulation.hub import START, Hub
from tests.simulation.scope import moment
from tests.simulation.user import DAYS, User
from tests.simulation.violation import Violation

Kind = Literal["connect", "stop", "delete"]
Answer = object
# Calls a function over HTTP: name, mailbox, work, and who hears the answer; None when nobody answers.
Call = Callable[[str, str, Callable[[App], object], Callable[[Answer], None]], None]

# An administrator whose connect fails tries again after so many seconds.
AGAIN_SECONDS = 20.0
# Labels that most mail has; and of those that are not the user's own, Gmail's, and one that never was.
COMMON = ["INBOX", "UNREAD"]
OTHER_LABELS = ("SPAM", "TRASH", "DRAFT", "SENT", "Label_404")


@dataclass(eq=False, slots=True)
class Wish:
    """What somebody asks for.

    Attributes:
        alone: whether nobody else asked for anything meanwhile.
    """

    kind: Kind
    policy: Policy | None = None
    alone: bool = True


class Administrators:
    """Whoever calls `manage_mailboxes` and `trigger_sync`."""

    def __init__(
        self,
        hub: Hub,
        users: Mapping[str, User],
        states: Mapping[str, Mailbox],
        call: Call,
        note: Callable[[str], None],
    ) -> None:
        self._rng = hub.rng
        self._hub = hub
        self._users = users
        self._states = states
        self._call = call
        self._note = note
        self._waiting = 0
        # Those that each mailbox had before: somebody may want one back.
        self._policies: dict[str, list[Policy]] = {address: [] for address in users}
        self._wishes: dict[str, list[Wish]] = {address: [] for address in users}

    @property
    def idle(self) -> bool:
        """Whether nobody is still asking for anything."""
        return not self._waiting and not any(self._wishes.values())

    # What they do

    def connects(self, address: str, policy: Policy | None = None) -> None:
        """Connect a mailbox, and if that fails and it is not there, again and again until it is."""

        def again() -> None:
            self._waiting -= 1
            if address not in self._states:
                self.connects(address)

        def heard(answer: Answer) -> None:
            if not isinstance(answer, tuple):
                self._waiting += 1
                self._hub.at(AGAIN_SECONDS, again)

        self._wish(address, Wish("connect", policy), lambda app: app.connect(address, policy), heard)

    def changes_policy(self, address: str) -> None:
        """Put another policy, or the same, or none."""
        policy = self.policy(address) if self._rng.random() < 0.9 else None
        self._wish(address, Wish("connect", policy), lambda app: app.connect(address, policy))

    def stops(self, address: str) -> None:
        """Stop a mailbox."""
        wait = self._wait()
        self._wish(address, Wish("stop"), lambda app: app.stop(address, wait))

    def deletes(self, address: str) -> None:
        """Delete a mailbox."""
        wait = self._wait()
        self._wish(address, Wish("delete"), lambda app: app.delete(address, wait))

    def triggers(self, address: str) -> None:
        """Ask for a sync."""
        modes: list[TriggerMode] = ["full", "audit", "incremental"]
        mode, wait = self._rng.choice(modes), self._wait()
        self._call(f"trigger {mode}", address, lambda app: app.trigger_sync(address, mode, wait), _never_mind)

    def policy(self, address: str) -> Policy:
        """Draw a policy: most leave most things as they are, and some are of before."""
        before = self._policies[address]
        if before and self._rng.random() < 0.5:
            return self._rng.choice(before)
        return self._another(address)

    def _another(self, address: str) -> Policy:
        rng, user = self._rng, self._users[address]
        labels = [*user.labels, *user.labels, *(4 * user.own_labels), *OTHER_LABELS]
        excluded = rng.sample(labels, rng.choice([0, 0, 1, 2]))
        policy = Policy(
            include_spam_trash=rng.random() < 0.6,
            drafts=rng.random() < 0.3,
            exclude_label_ids=tuple(dict.fromkeys(excluded)),
            since=self._since(user) if rng.random() < 0.35 else None,
            newest_days=rng.choice(DAYS) if rng.random() < 0.25 else None,
            bodies=rng.random() < 0.8,
        )
        only = rng.choice([COMMON, rng.sample(labels, rng.choice([0, 1, 2, 2]))]) if rng.random() < 0.5 else []
        # No policy asks for what it leaves out: that is bad input.
        kept = [label for label in dict.fromkeys(only) if label not in policy.excluded_labels()]
        return replace(policy, label_ids=tuple(kept))

    def _since(self, user: User) -> datetime:
        rng = self._rng
        dates = user.dates
        if dates and rng.random() < 0.5:
            # On the dot, or just after.
            return moment(rng.choice(dates)) + timedelta(milliseconds=rng.choice([0, 1, 400]))
        ago = rng.choice([-60.0, 0.0, 30.0, 600.0, 86_400.0, 86_400 * 30.0])
        return rng.choice([START, self._hub.now()]) - timedelta(seconds=ago)

    def _wait(self) -> float:
        return self._rng.choice([0.0, 5.0, 50.0])

    # What they are promised

    def _wish(
        self, address: str, wish: Wish, work: Callable[[App], object], heard: Callable[[Answer], None] | None = None
    ) -> None:
        others = self._wishes[address]
        if wish.policy is not None:
            self._policies[address].append(wish.policy)
        for other in others:
            other.alone = wish.alone = False
        others.append(wish)

        def ended(answer: Answer) -> None:
            others.remove(wish)
            if isinstance(answer, BeingPurged):
                self._note("connect or stop refused: being purged")
            if wish.alone and not isinstance(answer, MailmirrorError | None):
                self._judge(address, wish)
            if heard is not None:
                heard(answer)

        self._call(wish.kind, address, work, ended)

    def _judge(self, address: str, wish: Wish) -> None:
        state = self._states.get(address)
        match wish.kind:
            case "connect":
                kept = state is not None and state.wanted == "live" and wish.policy in (None, state.policy)
            case "stop":
                kept = state is not None and state.wanted == "stopped"
            case "delete":
                kept = state is None or state.wanted == "purged"
        if not kept:
            found = "not there" if state is None else f"wanted {state.wanted} under {state.policy}"
            raise Violation(f"{address}: {wish} was promised, and it is {found}.")


def _never_mind(_answer: Answer) -> None:
    """Whoever called gives up."""
