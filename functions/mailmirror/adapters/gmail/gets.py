"""Many gets: in waves of batches, and what fails in them again one by one. Law 6: a result for every id asked.

Knows: which failures are an id's, which the mailbox's. Does not know: prices, HTTP.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mailmirror.adapters.gmail.calls import BACK_OFF, Calls, Get, Patience, worth_another_try
from mailmirror.adapters.gmail.refusal import BadRequest, NotFound, Oversized
from mailmirror.adapters.gmail.transport import Api, kept
from mailmirror.adapters.gmail.wire import UNREADABLE, Json
from mailmirror.errors import AccessRevoked, GmailError, GmailUnavailable, Throttled
from mailmirror.model import Failed, Gone


@dataclass(frozen=True, slots=True)
class Kind:
    """Got by one method. What `parse` raises of `UNREADABLE` makes a get fail; what `finish` raises is raised."""

    request: Callable[[Api, str], Any]
    parse: Callable[[Json], Any]
    finish: Callable[[Any], Any] = lambda read: read


@dataclass(slots=True)
class Gets:
    """Gets of one or several methods.

    Attributes:
        found: what became of the wave's gets; one leaves the queue only by entering here.
        alone: those tried in a call of their own.
        given_up: how many since Gmail last answered.
    """

    calls: Calls
    kinds: Mapping[str, Kind]
    found: dict[Get, Any] = field(default_factory=dict)
    alone: set[Get] = field(default_factory=set)
    given_up: int = 0
    patience: Patience = field(init=False)

    def __post_init__(self) -> None:
        self.patience = self.calls.patience()

    def all(self, gets: Sequence[Get]) -> dict[Get, Any]:
        results: dict[Get, Any] = {}
        waiting = list(dict.fromkeys(gets))
        while waiting:
            size = self.calls.room(waiting)
            chunk, waiting = waiting[:size], waiting[size:]
            # Earlier answers do not say that Gmail still does.
            self.found, self.alone = {}, set()
            self.patience.begin()
            failing = self._apart(self._try(chunk))
            if failing:
                self._mend(failing)
                self.patience.end()
            else:
                self.given_up = 0
            results |= self.found
        return {get: results[get] for get in gets}

    def _try(self, gets: Sequence[Get]) -> dict[Get, GmailError]:
        """Return what is worth another try; what is the mailbox's, not an id's, is raised."""
        if len(gets) > 1:
            answers = self.calls.together(gets, self._request)
        else:
            self.alone.add(gets[0])
            try:
                answers = {gets[0]: self.calls.once(gets[0][0], lambda api: self._request(api, gets[0]))}
            except GmailError as error:
                answers = {gets[0]: kept(error)}
        failing: dict[Get, GmailError] = {}
        for get, refused in [(get, answer) for get, answer in answers.items() if isinstance(answer, GmailError)]:
            del answers[get]
            if isinstance(refused, NotFound):
                self.found[get] = Gone()
            elif isinstance(refused, BadRequest) or (isinstance(refused, Oversized) and get in self.alone):
                self.found[get] = Failed(str(refused))
            elif worth_another_try(refused) or (isinstance(refused, AccessRevoked) and get not in self.alone):
                # Only a single call renews a refused token.
                failing[get] = refused
            else:
                raise refused
        with self.patience.unstrained():
            for get in list(answers):
                self.found[get] = self._taken(get, answers)
        return failing

    def _apart(self, failing: dict[Get, GmailError]) -> dict[Get, GmailError]:
        """What had no room together is no failure, nothing to wait for."""
        oversized = {get: error for get, error in failing.items() if isinstance(error, Oversized)}
        if not oversized:
            return failing
        self.patience.begin()
        return {get: error for get, error in failing.items() if get not in oversized} | self._round(oversized)

    def _request(self, api: Api, get: Get) -> Any:
        method, item_id = get
        return self.kinds[method].request(api, item_id)

    def _taken(self, get: Get, answers: dict[Get, Any]) -> Any:
        """Nothing holds the answer when what was read is finished."""
        method, item_id = get
        kind = self.kinds[method]
        try:
            if answers[get]["id"] != item_id:
                return Failed("Gmail answered with something else than was asked for.")
            read = kind.parse(answers.pop(get))
        except UNREADABLE as error:
            return Failed(f"Gmail's answer cannot be read ({type(error).__name__}).")
        return kind.finish(read)

    def _mend(self, failing: dict[Get, GmailError]) -> None:
        while failing and self.patience.wait():
            before = len(failing)
            failing = self._round(failing)
            if len(failing) < before:
                self.patience.progress()
        if failing:
            self._give_up(failing)

    def _round(self, failing: Mapping[Get, GmailError]) -> dict[Get, GmailError]:
        """Try each once, while Gmail seems to answer at all."""
        left = dict(failing)
        for get in failing:
            # The next round begins with another.
            del left[get]
            failed = self._try([get])
            left |= failed
            if any(isinstance(error, Throttled) for error in failed.values()) or (failed and not self.found):
                break
            if self.patience.late():
                break
        return left

    def _give_up(self, failing: dict[Get, GmailError]) -> None:
        """Make these `Failed`, if Gmail answers at all, and these methods."""
        self._despair(failing, hope=not self.patience.over())
        # Any mailbox answers this.
        self.calls.once("users.getProfile", lambda api: api.users.getProfile(userId=self.calls.mailbox))
        # The rounds began at the beginning, and slow ones may stand side by side.
        for get in [get for get in reversed(failing) if get not in self.alone]:
            if self.patience.over() or (not self.found and len(self.alone) > len(BACK_OFF)):
                break
            del failing[get]
            failing |= self._try([get])
        self.given_up = 0 if self.found else self.given_up + len(failing)
        self._despair(failing, hope=self.given_up <= len(BACK_OFF))
        for get, error in failing.items():
            self.found[get] = Failed(f"{error} Gmail answers other calls.")

    def _despair(self, failing: dict[Get, GmailError], *, hope: bool) -> None:
        """Raise for quota, or if nothing of the wave was answered and there is no hope."""
        for error in failing.values():
            if isinstance(error, Throttled):
                raise error
            if not (self.found or hope):
                # A token not tried alone is no verdict.
                raise GmailUnavailable(str(error)) if isinstance(error, AccessRevoked) else error
