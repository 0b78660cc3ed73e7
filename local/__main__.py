"""`python -m local`: the demonstration, the same stack kept running, or a user's consent for a real mailbox.

Knows: the command line. Does not know: what the commands do.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "consent":
            from local import consent

            return consent.run(options)
        if options.mbox is not None and not options.mbox.is_file():
            print(
                f"There is no file {options.mbox}: name an mbox file, a Google Takeout export for instance.",
                file=sys.stderr,
            )
            return 2
        if options.command == "demo":
            from local import demo

            return demo.run(options)
        from local import dev

        return dev.run(options)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description="Mailmirror on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--backend", choices=("sqlite", "emulators"), default="sqlite", help="where the mirror is kept")
    common.add_argument("--mbox", type=Path, metavar="FILE", help="fill the mailbox from an mbox file")
    common.add_argument("--seed", type=int, default=1, help="the same seed gives the same mail, changes and losses")
    demo = commands.add_parser("demo", parents=[common], help="the mirror put to the test, told step by step")
    demo.add_argument("--messages", type=_count, default=2000, help="how many messages the mailbox begins with")
    demo.add_argument("--changes", type=_count, default=300, help="how many changes happen during the first sync")
    demo.add_argument("--json", action="store_true", help="print one JSON object at the end and nothing else")
    demo.add_argument("--keep", action="store_true", help="keep the logs and the SQLite file")
    dev = commands.add_parser("dev", parents=[common], help="the same stack, kept running with a small mailbox")
    dev.add_argument("--messages", type=_count, default=50, help="how many messages the mailbox begins with")
    consent = commands.add_parser(
        "consent", help="ask a user for consent and keep the refresh token for GMAIL_AUTH=oauth"
    )
    consent.add_argument("--project", required=True, help="the project the functions are deployed in")
    consent.add_argument("--mailbox", required=True, help="the address of the user who is asked")
    consent.add_argument("--client", type=Path, required=True, metavar="FILE", help="the OAuth client's JSON download")
    consent.add_argument("--scopes", help="as GMAIL_SCOPES, separated by spaces or commas; read-only access without it")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1_000_000:
        raise argparse.ArgumentTypeError("must be from 1 to 1,000,000")
    return number


if __name__ == "__main__":
    sys.exit(main())
