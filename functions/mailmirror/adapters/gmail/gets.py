"""Many gets: in waves of batches, and what fails in them again one by one. Law 6: a result for every id asked.

Knows: that a wave may fail in parts, and when a failure is of one id and when of the mailbox. Does not know: prices,
or HTTP.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mailmirror.adapters.gmail.calls import Calls, Get
from mailmirror.adapters.gmail.patience import BACK_OFF, Patience, worth_another_try
from mailmirror.adapters.gmail.refusal import BadRequest, NotFound
from mailmirror.adapters.gmail.transport import Api, kept
from mailmirror.adapters.gmail.wire import UNREADABLE, Json
from mailmirror.errors import AccessRevoked, GmailError, GmailUnavailable, Throttled
from mailmirror.model import Failed, Gone


@dataclass(frozen=True, slots=True)
class Kind:
    """What is got by one method: how an id is asked for, and how an answer is read."""

    request: Callable[[Api, str], Any]
    parse: Callable[[Json], Any]


@dataclass(slots=True)
class Gets:
    """Many gets, of one or several methods: in waves of batches, and what fails in them again one by one.

    Attributes:
        kinds: by method.
        found: what became of each get of the wave under way; one leaves the queue only by entering here.
        alone: gets of that wave that were tried in a call of their own.
        given_up: how many gets were given up since Gmail last answered one.
    """

    calls: Calls
    kinds: Mapping[str, Kind]
    found: dict[Get, Any] = field(default_factory=dict)
    alone: set[Get] = field(default_factory=set)
    given_up: int = 0

    def all(self, gets: Sequence[Get]) -> dict[Get, Any]:
        """Return what became of every get."""
        patience = self.calls.patience()
        results: dict[Get, Any] = {}
        waiting = list(dict.fromkeys(gets))
        while waiting:
            size = self.calls.room(waiting)
            chunk, waiting = waiting[:size], waiting[size:]
            # What was answered before this wave does not say that Gmail still answers.
            self.found, self.alone = {}, set()
            patience.begin()
            failing = self._try(chunk)
            if failing:
                self._mend(failing, patience)
                patience.end()
            else:
                self.given_up = 0
            results |= self.found
        return {get: results[get] for get in gets}

    def _try(self, gets: Sequence[Get]) -> dict[Get, GmailError]:
        """Make gets; what is worth another try is returned.

        Raises:
            GmailError: what is wrong concerns the mailbox and not one id.
        """
        if len(gets) > 1:
            answers = self.calls.together(gets, self._request)
        else:
            self.alone.add(gets[0])
            try:
                answers = {gets[0]: self.calls.once(gets[0][0], lambda api: self._request(api, gets[0]))}
            except GmailError as error:
                answers = {gets[0]: kept(error)}
        failing: dict[Get, GmailError] = {}
        for get, answer in answers.items():
            if not isinstance(answer, GmailError):
                self.found[get] = self._read(get, answer)
            elif isinstance(answer, NotFound):
                self.found[get] = Gone()
            elif isinstance(answer, BadRequest):
                self.found[get] = Failed(str(answer))
            elif worth_another_try(answer) or (isinstance(answer, AccessRevoked) and get not in self.alone):
                # A batch does not renew a token that Gmail refuses; a single call does.
                failing[get] = answer
            else:
                raise answer
        return failing

    def _request(self, api: Api, get: Get) -> Any:
        method, item_id = get
        return self.kinds[method].request(api, item_id)

    def _read(self, get: Get, answer: Any) -> Any:
        method, item_id = get
        try:
            value = self.kinds[method].parse(answer)
        except UNREADABLE as error:
            return Failed(f"Gmail's answer cannot be read ({type(error).__name__}).")
        return value if value.id == item_id else Failed("Gmail answered with something else than was asked for.")

    def _mend(self, failing: dict[Get, GmailError], patience: Patience) -> None:
        """Try again one by one what failed, until nothing is left or it is of no use."""
        while failing and patience.wait():
            before = len(failing)
            failing = self._round(failing, patience)
            if len(failing) < before:
                patience.progress()
        if failing:
            self._give_up(failing, patience)

    def _round(self, failing: dict[Get, GmailError], patience: Patience) -> dict[Get, GmailError]:
        """Try each once, in vain no longer than there is reason to think that Gmail answers at all."""
        left = dict(failing)
        for get in failing:
            # What fails goes to the end, so that the next round begins with another one.
            del left[get]
            failed = self._try([get])
            left |= failed
            if any(isinstance(error, Throttled) for error in failed.values()) or (failed and not self.found):
                break
            if patience.late():
                break
        return left

    def _give_up(self, failing: dict[Get, GmailError], patience: Patience) -> None:
        """Decide whether Gmail is not there, or only does not answer for these ids; then those are `Failed`.

        Raises:
            Throttled: there is no quota; nothing of what was found is lost, because nothing is committed yet.
            GmailUnavailable: Gmail answers nothing, or none of these methods.
        """
        self._despair(failing, hope=not patience.over())
        # The call that any mailbox answers: if it raises, so does this one.
        self.calls.once("users.getProfile", lambda api: api.users.getProfile(userId=self.calls.mailbox))
        # From the end, because the rounds began at the beginning: what takes long may stand side by side.
        for get in [get for get in reversed(failing) if get not in self.alone]:
            if patience.over() or (not self.found and len(self.alone) > len(BACK_OFF)):
                break
            del failing[get]
            failing |= self._try([get])
        self.given_up = 0 if self.found else self.given_up + len(failing)
        self._despair(failing, hope=self.given_up <= len(BACK_OFF))
        for get, error in failing.items():
            self.found[get] = Failed(f"{error} Gmail answers other calls.")

    def _despair(self, failing: dict[Get, GmailError], *, hope: bool) -> None:
        """Raise what is wrong if it is the quota, or if nothing of this wave was answered and there is no hope."""
        for error in failing.values():
            if isinstance(error, Throttled):
                raise error
            if not (self.found or hope):
                # A token that was refused to a batch was not tried alone yet: that is no verdict.
                raise GmailUnavailable(str(error)) if isinstance(error, AccessRevoked) else error
