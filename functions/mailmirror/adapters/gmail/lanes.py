"""Lanes: batches of one mailbox that are under way at the same time, each over a connection of its own.

Knows: threads, and that none of them outlives the call that started it: Cloud Run gives no processor time after an
answer. Does not know: prices, or how many lanes are good for a mailbox.

What a lane does in its thread is to send and to take an answer apart. Whoever calls has made the requests, fetched the
token and paid before, and judges what came of it afterwards.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from google.auth.credentials import Credentials

from mailmirror.adapters.gmail.transport import Access, Api, Line, Outcome
from mailmirror.model import MailboxId


class Lanes:
    """The way to one mailbox, for one calling thread.

    Attributes:
        api: what requests are made of.
    """

    def __init__(
        self, api: Api, mailbox: MailboxId, credentials: Credentials | None, open_line: Callable[[], Line]
    ) -> None:
        """Open the first lane, for single calls and for a batch that is alone; the others when they are needed."""
        self.api = api
        self._open_line = open_line
        self._lines = [open_line()]
        self._access = Access(mailbox, credentials, self._lines[0])

    def one(self, request: Any) -> Any:
        """Send a request by itself and return the answer.

        Raises:
            HttpError, *UNANSWERED: it was refused, or not answered.
        """
        return request.execute(http=self._access)

    def renew(self) -> bool:
        """Fetch another token because Gmail refuses the one there is; False when there is none to fetch."""
        return self._access.renew()

    def wave(self, batches: Sequence[Sequence[Any]]) -> list[Outcome]:
        """Send batches of requests at the same time and return what came of each.

        Raises:
            *UNANSWERED: there is no token; nothing was sent.
        """
        # Here and not in the lanes: credentials are not made for several threads, and one token is enough for all.
        headers = self._access.headers(batches[0][0].uri, "POST")
        while len(self._lines) < len(batches):
            self._lines.append(self._open_line())
        if len(batches) == 1:
            return [self._lines[0].together(batches[0], headers)]
        with ThreadPoolExecutor(len(batches)) as pool:
            return list(pool.map(lambda line, requests: line.together(requests, headers), self._lines, batches))

    def close(self) -> None:
        """Close all connections."""
        for line in self._lines:
            line.close()
