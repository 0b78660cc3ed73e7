"""What several commands are told: each option once, with the same name, meaning and help everywhere.

Knows: names, help, and which mailboxes a shell offers. Does not know: what a command does with them.
"""

from typing import Annotated

import typer
from mailmirror.errors import InvalidInput
from mailmirror.mailboxes import mailbox_id

from mailmirror_cli.target import PROJECT_VARIABLE, REGION_VARIABLE, Target

# Whoever presses Tab waits no longer for the mailboxes' names.
_COMPLETION_SECONDS = 3.0


def mailbox(address: str) -> str:
    """Return a mailbox's id."""
    try:
        return mailbox_id(address)
    except InvalidInput as error:
        raise typer.BadParameter(str(error)) from None


def mailboxes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the mailboxes that begin so; none where they cannot be had, because a shell has no place for a reason."""
    try:
        target = Target(ctx.params.get("project"), ctx.params.get("region"), patience=0)
        if not target.known:
            return []
        answer = target.manage.ask("GET", "/mailboxes", seconds=_COMPLETION_SECONDS)
        names = (str(each["emailAddress"]) for each in answer.content["mailboxes"])
        return [name for name in names if name.startswith(incomplete.lower())]
    except Exception:  # noqa: BLE001 -- as said: whatever it is, no names
        return []


Project = Annotated[
    str, typer.Option(envvar=PROJECT_VARIABLE, help="The project Mailmirror is deployed in.", show_default=False)
]
Region = Annotated[str | None, typer.Option(help="Its region; where its functions are, if not said.")]
Mailbox = Annotated[str | None, typer.Option(help="A mailbox to look at besides, such as ada@example.com.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

# Of the commands that call functions.
To = Annotated[
    str | None,
    typer.Option(
        "--project",
        help=f"The project Mailmirror is deployed in. [else: MAILMIRROR_…_URL, then {PROJECT_VARIABLE}]",
        show_default=False,
    ),
]
In = Annotated[
    str | None,
    typer.Option(
        "--region",
        help=f"Its region; where its functions are, if not said. [env var: {REGION_VARIABLE}]",
        show_default=False,
    ),
]
Address = Annotated[
    str,
    typer.Argument(
        metavar="MAILBOX", callback=mailbox, autocompletion=mailboxes, help="Its address, such as ada@example.com."
    ),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the end of the run.")]
Label = Annotated[str | None, typer.Option(help="Only with this label, by its id, such as INBOX.", show_default=False)]
Unread = Annotated[bool, typer.Option("--unread", help="Only unread ones.")]
Sender = Annotated[str | None, typer.Option("--from", help="Only by this address.", show_default=False)]
Recipient = Annotated[
    str | None, typer.Option("--to", help="Only to this address (to, cc or bcc).", show_default=False)
]
After = Annotated[
    str | None,
    typer.Option(help="Only then or later: 2026-01-31, midnight UTC, or an RFC 3339 time.", show_default=False),
]
Before = Annotated[str | None, typer.Option(help="Only before that, likewise.", show_default=False)]
