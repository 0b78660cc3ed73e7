"""What a command says, and how it ends: tables for a person or one JSON object for a program, and the exit code.

Knows: the exit codes, Google's error model, where what is said goes (answers to stdout, everything else to stderr),
that a program's answer is never cut to the width of a terminal, and that no control character of somebody's mail
reaches a terminal. Does not know: what is answered.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from mailmirror_client.service import ServiceError

DONE, REFUSED, MISUSED, UNFINISHED, LEFT = 0, 1, 2, 3, 130
EXIT_CODES = (
    "Exit code: 0 done, 1 refused or failed (the sentence says why), 2 wrong usage, 3 not finished yet (it goes on by "
    "itself), 130 left with Ctrl-C."
)
# Wider than any line: what is piped is for grep and less, which have a width of their own.
_PIPED_WIDTH = 4000
# https://cloud.google.com/apis/design/errors#handling_errors
_CANCELLED = 499
# Cloud Run's own answers, before a function is asked.
_BEFORE_THE_FUNCTION = {
    401: "The identity token was not accepted: sign in again, gcloud auth application-default login.",
    403: "You may not call it: be among `admins` (or, to read, `readers`) of the deployment, and deploy.",
}
# But for line feed and tab: what moves a cursor, changes colours, or turns the direction of what follows; and halves of
# characters, which cannot be written.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Refused(Exception):
    """What was asked for is not done; `message` is a sentence that says why and what to do."""

    def __init__(self, message: str, status: str = "FAILED_PRECONDITION", code: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message


class Left(Exception):
    """Somebody pressed Ctrl-C; the message says what becomes of the work."""


class Telling:
    """How one command speaks.

    Attributes:
        as_json: to a program.
        screen: answers for people.
        notes: what is said besides, on stderr.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.screen = _console(stderr=False)
        self.notes = _console(stderr=True)

    def answer(self, content: Mapping[str, Any], show: Callable[[Console], None]) -> None:
        """Give the answer: the object itself to a program, `show` to a person."""
        if self.as_json:
            typer.echo(_written(content, indent=2))
        else:
            show(self.screen)

    def line(self, content: Mapping[str, Any], show: Callable[[Console], None]) -> None:
        """Give one of many answers, an object a line."""
        if self.as_json:
            typer.echo(_written(content))
        else:
            show(self.screen)

    def note(self, text: str) -> None:
        """Tell a person something besides."""
        if not self.as_json:
            self.notes.print(Text(clean(text)), soft_wrap=True)

    def fail(self, code: int, status: str, message: str, *, style: str = "red") -> None:
        """Say why not."""
        if self.as_json:
            typer.echo(_written({"error": {"code": code, "status": status, "message": message}}))
        else:
            self.notes.print(Text(clean(message), style=style), soft_wrap=True)


@contextmanager
def telling(*, as_json: bool) -> Iterator[Telling]:
    """Yield how to speak; whatever stops the command is said and becomes its exit code."""
    tell = Telling(as_json=as_json)
    try:
        yield tell
    except ServiceError as error:
        told = f"{error.message} {_BEFORE_THE_FUNCTION.get(error.code, '')}".strip()
        tell.fail(error.code if error.code >= 400 else 503, error.status, told)
        raise typer.Exit(REFUSED) from None
    except Refused as error:
        tell.fail(error.code, error.status, error.message)
        raise typer.Exit(REFUSED) from None
    except (Left, KeyboardInterrupt) as left:
        tell.fail(_CANCELLED, "CANCELLED", str(left) or "Left.", style="")
        raise typer.Exit(LEFT) from None
    except BrokenPipeError:
        # Whoever read has enough.
        raise
    except OSError as error:
        typer.echo(f"This machine did not go along: {error.strerror or error}.", err=True)
        raise typer.Exit(REFUSED) from None


def misused(error: typer.BadParameter) -> None:
    """Tell a program that it was called wrongly."""
    Telling(as_json=True).fail(400, "INVALID_ARGUMENT", error.format_message())


def clean(text: object) -> str:
    """Return a text without what a terminal would obey."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", str(text).replace("\r\n", "\n"))


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console


def _written(content: Mapping[str, Any], indent: int | None = None) -> str:
    unicode = "utf" in (getattr(sys.stdout, "encoding", None) or "").lower()
    text = json.dumps(content, indent=indent, ensure_ascii=not unicode)
    return _CONTROLS.sub(lambda control: f"\\u{ord(control[0]):04x}", text)
