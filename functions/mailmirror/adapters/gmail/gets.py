"""Many gets: in waves of batches, and what fails in them again one by one. Law 6: a result for every id asked.

Knows: that a wave may fail in parts, and when a failure is of one id and when of the mailbox. Does not know: prices,
or HTTP.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mailmirror.adapters.gmail.calls import Calls
from mailmirror.adapters.gmail.patience import BACK_OFF, Patience, worth_another_try
from mailmirror.adapters.gmail.refusal import BadRequest, NotFound
from mailmirror.adapters.gmail.transport import Api
from mailmirror.adapters.gmail.wire import UNREADABLE, Json
from mailmirror.errors import AccessRevoked, GmailError, Throttled
from mailmirror.model import Failed, Gone


@dataclass(slots=True)
class Gets:
    """One get for each of many ids: in waves of batches, and what fails in them again one by one.

    Attributes:
        found: what became of each id so far; an id leaves the queue only by entering here.
        alone: ids that were tried in a call of their own.
    """

    calls: Calls
    method: str
    request: Callable[[Api, str], Any]
    parse: Callable[[Json], Any]
    found: dict[str, Any] = field(default_factory=dict)
    alone: set[str] = field(default_factory=set)

    def all(self, ids: Sequence[str]) -> dict[str, Any]:
        """Return what became of every id."""
        patience = self.calls.patience()
        waiting = list(dict.fromkeys(ids))
        while waiting:
            size = self.calls.room(self.method)
            chunk, waiting = waiting[:size], waiting[size:]
            patience.begin()
            failing = self._try(chunk)
            if failing:
                self._mend(failing, patience)
                patience.end()
        return {item_id: self.found[item_id] for item_id in ids}

    def _try(self, ids: Sequence[str]) -> dict[str, GmailError]:
        """Ask for ids; what is worth another try is returned.

        Raises:
            GmailError: what is wrong concerns the mailbox and not one id.
        """
        if len(ids) > 1:
            answers = self.calls.together(self.method, ids, self.request)
        else:
            self.alone.add(ids[0])
            try:
                answers = {ids[0]: self.calls.once(self.method, lambda api: self.request(api, ids[0]))}
            except GmailError as error:
                answers = {ids[0]: error}
        failing: dict[str, GmailError] = {}
        for item_id, answer in answers.items():
            if not isinstance(answer, GmailError):
                self.found[item_id] = self._read(item_id, answer)
            elif isinstance(answer, NotFound):
                self.found[item_id] = Gone()
            elif isinstance(answer, BadRequest):
                self.found[item_id] = Failed(str(answer))
            elif worth_another_try(answer) or (isinstance(answer, AccessRevoked) and item_id not in self.alone):
                # A batch does not renew a token that Gmail refuses; a single call does.
                failing[item_id] = answer
            else:
                raise answer
        return failing

    def _read(self, item_id: str, answer: Any) -> Any:
        try:
            value = self.parse(answer)
        except UNREADABLE as error:
            return Failed(f"Gmail's answer cannot be read ({type(error).__name__}).")
        return value if value.id == item_id else Failed("Gmail answered with something else than was asked for.")

    def _mend(self, failing: dict[str, GmailError], patience: Patience) -> None:
        """Try again one by one what failed, until nothing is left or it is of no use."""
        while failing and patience.wait():
            before = len(failing)
            failing = self._round(failing)
            if len(failing) < before:
                patience.progress()
        if failing:
            self._give_up(failing, patience)

    def _round(self, failing: dict[str, GmailError]) -> dict[str, GmailError]:
        """Try each once, in vain no longer than there is reason to think that Gmail answers at all."""
        left = dict(failing)
        for item_id in failing:
            # What fails goes to the end, so that the next round begins with another one.
            del left[item_id]
            failed = self._try([item_id])
            left |= failed
            if any(isinstance(error, Throttled) for error in failed.values()) or (failed and not self.found):
                break
        return left

    def _give_up(self, failing: dict[str, GmailError], patience: Patience) -> None:
        """Decide whether Gmail is not there, or only does not answer for these ids; then those are `Failed`.

        Raises:
            Throttled: there is no quota; nothing of what was found is lost, because nothing is committed yet.
            GmailUnavailable: Gmail answers nothing.
        """
        for error in failing.values():
            if isinstance(error, Throttled):
                raise error
        if not self.found:
            # The call that any mailbox answers: if it raises, so does this one.
            self.calls.once("users.getProfile", lambda api: api.users.getProfile(userId=self.calls.mailbox))
        # From the end, because the rounds began at the beginning: what takes long may stand side by side.
        for item_id in [item_id for item_id in reversed(failing) if item_id not in self.alone]:
            if patience.over() or (not self.found and len(self.alone) > len(BACK_OFF)):
                break
            del failing[item_id]
            failing |= self._try([item_id])
        for error in failing.values():
            if isinstance(error, Throttled) or (not self.found and len(failing) > len(BACK_OFF)):
                raise error
        for item_id, error in failing.items():
            self.found[item_id] = Failed(f"{error} Gmail answers other calls.")
