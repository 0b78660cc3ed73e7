"""Lanes: batches of one mailbox that are under way at the same time, each over a connection of its own.

Knows: threads, none outliving its call: Cloud Run gives no processor time after an answer. Does not know: prices, or
how many lanes are good for a mailbox.

A lane's thread sends and takes the answer apart; whoever calls makes requests, fetches the token, pays and judges.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from google.auth.credentials import Credentials

from mailmirror.adapters.gmail.arrival import LARGEST_WAVE, Room
from mailmirror.adapters.gmail.transport import Access, Api, Line, Outcome
from mailmirror.model import MailboxId


class Lanes:
    """The way to one mailbox, for one calling thread; requests are made of `api`."""

    def __init__(
        self, api: Api, mailbox: MailboxId, credentials: Credentials | None, open_line: Callable[[], Line]
    ) -> None:
        """Open the first lane, for single calls and a lone batch; others when needed."""
        self.api = api
        self._open_line = open_line
        self._lines = [open_line()]
        self._access = Access(mailbox, credentials, self._lines[0])

    def one(self, request: Any) -> Any:
        """Send one request and return the answer.

        Raises:
            HttpError, *UNANSWERED: refused, or not answered.
        """
        return self._lines[0].one(request, self._access.headers(request.uri, request.method))

    def renew(self) -> bool:
        """Fetch another token as Gmail refuses this one; False if none."""
        return self._access.renew()

    def wave(self, batches: Sequence[Sequence[Any]]) -> list[Outcome]:
        """Send batches at the same time and return what came of each.

        Raises:
            *UNANSWERED: no token; nothing was sent.
        """
        # Not in the lanes: credentials are not for several threads.
        headers = self._access.headers(batches[0][0].uri, "POST")
        room = Room(LARGEST_WAVE)
        while len(self._lines) < len(batches):
            self._lines.append(self._open_line())
        if len(batches) == 1:
            return [self._lines[0].together(batches[0], headers, room)]
        with ThreadPoolExecutor(len(batches)) as pool:
            return list(pool.map(lambda line, requests: line.together(requests, headers, room), self._lines, batches))

    def close(self) -> None:
        """Close all."""
        for line in self._lines:
            line.close()
