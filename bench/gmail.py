"""The fake Gmail to measure with: it remembers whose content was asked for, and takes as long as it is told.

Knows: mailboxes filled without HTTP, a server in this process or in one of its own (`python -m bench.gmail`), and how
long a message takes beside a request. Does not know: what is measured. What calls cost, and how they are answered, is
the fake's own.
"""

import argparse
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from bench.mailbox import ADDRESS, fill, warm
from local.gmail.clock import SystemClock
from local.gmail.server import create_app, serve
from local.gmail.world import World


class Watched(World):
    """Mailboxes, and what was fetched of them.

    Attributes:
        message_latency: seconds that each message takes of which content is asked for, beside the time of its request.
        fetched: how often content of each thread was asked for, whole or message by message.
    """

    def __init__(self, **options: Any) -> None:
        """Take what `World` takes."""
        super().__init__(**options)
        self.message_latency = 0.0
        self.fetched: Counter[str] = Counter()

    def call(self, address: str, method: str, params: Mapping[str, Any], *, crowd: int = 0) -> dict[str, Any]:
        """One call, and the time its messages take."""
        answer = super().call(address, method, params, crowd=crowd)
        if method in ("users.messages.get", "users.threads.get"):
            self.fetched[answer.get("threadId") or answer["id"]] += 1
            if self.message_latency:
                self.sleep(self.message_latency * len(answer.get("messages", (answer,))))
        return answer


@contextmanager
def serving(world: World) -> Iterator[str]:
    """Serve in a thread of this process, so that both sides share a virtual clock; gives the API's root."""
    server = serve(create_app(world))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill mailboxes and serve them until killed."""
    parser = argparse.ArgumentParser(prog="python -m bench.gmail")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mailbox", action="append", required=True, metavar="MESSAGES", type=int)
    parser.add_argument("--cold", action="store_true", help="parse each message when it is first asked for")
    parser.add_argument("--request-latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--message-latency", type=float, default=0.0, metavar="SECONDS")
    options = parser.parse_args(arguments)
    world = Watched(clock=SystemClock())
    world.latency, world.message_latency = options.request_latency, options.message_latency
    for number, messages in enumerate(options.mailbox):
        mailbox = world.add(address(number))
        filled = fill(mailbox, messages, seed=number)
        if not options.cold:
            warm(mailbox, filled)
    serve(create_app(world), port=options.port).serve_forever()
    return 0


def address(number: int) -> str:
    """Return the address of the mailbox that was named there, counted from 0."""
    name, _, domain = ADDRESS.partition("@")
    return f"{name}{number or ''}@{domain}"


if __name__ == "__main__":
    sys.exit(main())
