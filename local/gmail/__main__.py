"""`python -m local.gmail`: the fake Gmail as a process.

It prints its address as one line of JSON on standard output and serves until it is told to stop.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from local.gmail.clock import SystemClock
from local.gmail.notifications import Notifier
from local.gmail.quota import PRICES
from local.gmail.server import create_app, serve
from local.gmail.world import World
from local.google.tokens import told_by


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted or terminated."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)
    with Notifier(options.pubsub, seed=options.seed) as notifier:
        world = World(
            clock=SystemClock(),
            seed=options.seed,
            units_per_minute=options.units_per_minute,
            prices=options.prices,
            publish=notifier.publish,
        )
        for address in options.mailbox:
            world.add(address)
        whose = told_by(options.tokens) if options.tokens else None
        server = serve(create_app(world, notifier, whose), options.host, options.port)
        url = f"http://{options.host}:{server.server_port}/"
        print(json.dumps({"event": "fake_gmail_listening", "url": url}), flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            server.server_close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local.gmail", description="A fake Gmail over HTTP.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes any free one")
    parser.add_argument("--pubsub", metavar="HOST:PORT", help="where to publish notifications; without it none are")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same mailboxes and losses")
    parser.add_argument("--units-per-minute", type=int, help="quota of each mailbox; without it there is none")
    parser.add_argument("--prices", choices=sorted(PRICES), default="2026", help="what calls cost")
    parser.add_argument("--tokens", metavar="URL", help="who knows access tokens; without it callers are believed")
    parser.add_argument("--mailbox", action="append", default=[], metavar="ADDRESS", help="a mailbox to begin with")
    return parser


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
