"""`python -m bench`: measure, and say of each bound whether it holds.

The exit code is 0 when every bound holds, 1 when one is missed or could not be measured.
"""

import argparse
import importlib
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import cast

from rich.console import Console

from bench.report import Figure, table, to_json

# In the order in which they are measured: what is short and exact comes first.
SUBJECTS = ("first_sync", "recovery", "followers", "lieer", "large_mail", "memory", "cold_start")

# Where nobody says how wide the screen is, the table gets the room it takes.
_WIDTH = 150

Measure = Callable[[Callable[[str], None]], Iterable[Figure]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for, show it and judge it."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", choices=SUBJECTS, metavar="SUBJECT", help=", ".join(SUBJECTS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there; - prints them")
    options = parser.parse_args(arguments)
    # What the engine has to say belongs into a function's log, not between the figures.
    logging.getLogger("mailmirror").addHandler(logging.NullHandler())
    progress = Console(stderr=True)
    figures: list[Figure] = []
    with progress.status("") as status:
        for name in options.only or SUBJECTS:

            def say(what: str, subject: str = name) -> None:
                status.update(f"[bold]{subject}[/bold]: {what}")

            say("begins")
            figures += measure(name, say)
    if str(options.json) == "-":
        print(to_json(figures))
    else:
        Console(width=None if sys.stdout.isatty() else _WIDTH).print(table(figures))
        if options.json:
            options.json.write_text(to_json(figures) + "\n", encoding="utf-8")
    return 0 if all(figure.ok for figure in figures) else 1


def measure(name: str, say: Callable[[str], None]) -> list[Figure]:
    """Measure one subject; its modules are imported only now, so that they do not weigh on the others."""
    subject = importlib.import_module(f"bench.{name}")
    return list(cast("Measure", subject.measure)(say))


if __name__ == "__main__":
    sys.exit(main())
