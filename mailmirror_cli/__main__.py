"""The command line: `mailmirror`, one function for each command.

Knows: names, options, help and exit codes. Does not know: what a command does; each family has a module of its own.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Annotated, Any, cast

import typer
from mailmirror.errors import InvalidInput
from mailmirror.mailboxes import mailbox_id
from rich.console import Console
from typer.core import TyperGroup

from mailmirror_cli import deltas as deltas_command
from mailmirror_cli import doctor as doctor_command
from mailmirror_cli import estimate, mail, mailboxes, options, report, runs, table
from mailmirror_cli import parked as parked_command
from mailmirror_cli.google import ROOT_VARIABLE, Google
from mailmirror_cli.site import Site
from mailmirror_cli.target import Target
from mailmirror_cli.telling import EXIT_CODES, Telling, misused, telling

# What every wrong use is; typer gives only the kind its own name.
UsageError = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])


class Commands(TyperGroup):
    """The commands; a program that calls one wrongly is told so as it is told everything."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        as_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except UsageError as error:
            if not as_json:
                raise
            misused(error)
            raise typer.Exit(2) from None


# What fails unforeseen shows no variables: a token may be among them.
cli = typer.Typer(
    name="mailmirror", cls=Commands, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_show_locals=False
)
command = cli.command


@contextmanager
def calling(project: str | None, region: str | None, *, as_json: bool) -> Iterator[tuple[Target, Telling]]:
    """Yield the functions and how to speak, for one command."""
    with telling(as_json=as_json) as tell:
        yield Target(project, region), tell


@cli.callback()
def mailmirror() -> None:
    """Mailmirror's operators: look after mailboxes and a deployment.

    Where to: --project (and --region); else MAILMIRROR_MANAGE_URL, MAILMIRROR_TRIGGER_URL and MAILMIRROR_READ_URL,
    the addresses of the functions, as `make dev` prints them for a local stack; else MAILMIRROR_PROJECT (and
    MAILMIRROR_REGION).

    Exit codes, the same everywhere: 0 done, 1 refused or failed (the sentence says why), 2 wrong usage, or (doctor)
    something could not be checked, 3 not finished yet (it goes on by itself), 130 left with Ctrl-C.
    """


@command(epilog=EXIT_CODES)
def connect(
    mailbox: options.Address,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|JSON", help='Which messages to mirror, such as {"newestDays": 90}.', show_default=False
        ),
    ] = None,
    no_wait: options.NoWait = False,
    project: options.To = None,
    region: options.In = None,
    as_json: options.Json = False,
) -> None:
    """Connect a mailbox and wait for its first run.

    A connected one follows another policy, if one is said.
    """
    with calling(project, region, as_json=as_json) as (target, tell):
        raise typer.Exit(mailboxes.connect(target, tell, mailbox, policy=policy, wait=not no_wait))


@command(epilog=EXIT_CODES)
def plan(
    mailbox: options.Address,
    project: options.To = None,
    region: options.In = None,
    as_json: options.Json = False,
) -> None:
    """Say what a first sync takes: time, quota, money.

    Nothing is written.
    """
    with calling(project, region, as_json=as_json) as (target, tell):
        raise typer.Exit(estimate.plan(target, tell, mailbox))


@command(name="list", epilog=EXIT_CODES)
def listing(project: options.To = None, region: options.In = None, as_json: options.Json = False) -> None:
    """List all mailboxes."""
    with calling(project, region, as_json=as_json) as (target, tell):
        raise typer.Exit(mailboxes.listing(target, tell))


@command(epilog=f"{EXIT_CODES} Here 1 is also a mailbox that has a problem.")
def status(
    mailbox: Annotated[
        str | None,
        typer.Argument(
            metavar="MAILBOX",
            callback=lambda address: None if address is None else options.mailbox(address),
            autocompletion=options.mailboxes,
            help="Its address; all mailboxes, if not said.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Draw it again every 2 seconds until Ctrl-C.")] = False,
    project: options.To = None,
    region: options.In = None,
    as_json: options.Json = False,
) -> None:
    """Say how mailboxes are, and what stops them."""
    with calling(project, region, as_json=as_json) as (target, tell):
        raise typer.Exit(mailboxes.status(target, tell, mailbox, watch=watch))


@command(epilog=EXIT_CODES)
def sync(
    mailbox: options.Address,
    full: Annotated[bool, typer.Option("--full", help="Fetch everything again.")] = False,
    no_wait: options.NoWait = False,
    project: options.To = None,
    region: options.In = None,
    as_json: options.Json = False,
) -> None:
    """Bring a mailbox up to date now."""
    with calling(project, region, as_json=as_json) as (target, tell):
        raise typer.Exit(runs.sync(target, tell, mailbox, "full" if full else "incremental", wait=not no_wait))


@command(epilog=EXIT_CODES)
def audit(
    mailbox: options.Address,
    no_wait: options.NoWait = False,
    project: options.To = None,
    region: options.In = None,
    as_json: options.Json = False,
) -> None:
    """Compare mirror and mailbox, and mend the mirror.

    What was found is said: messages listed, mirrored, missing and extra.
    """
    with calling(project, region, as_json=as_json) as (target, tell):
        raise typer.Exit(runs.sync(target, tell, mailbox, "audit", wait=not no_wait))


@command(epilog=EXIT_CODES)
def parked(
    mailbox: options.Address,
    retry: Annotated[bool, typer.Option("--retry", help="Try all of them now, whatever their time.")] = False,
    project: options.To = None,
    region: options.In = None,
    as_json: options.Json = False,
) -> None:
    """List messages that could not be mirrored, and why."""
    with calling(project, region, as_json=as_json) as (target, tell):
        raise typer.Exit(parked_command.parked(target, tell, mailbox, retry=retry))


@command(epilog=f"{EXIT_CODES} With --follow --json prints an object a line.")
def deltas(
    mailbox: options.Address,
    cursor: Annotated[
        str | None,
        typer.Option(help="Go on after it; else the log's beginning, or with --follow its end.", show_default=False),
    ] = None,
    types: Annotated[
        str | None,
        typer.Option(help="Only messageAdded, messageDeleted or labelsChanged, with commas.", show_default=False),
    ] = None,
    origin: Annotated[
        str | None, typer.Option(help="Only live, backfill or repair, with commas.", show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.", show_default=False)] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Print each as it comes, until Ctrl-C.")] = False,
    project: options.To = None,
    region: options.In = None,
    as_json: options.Json = False,
) -> None:
    """Show what changed in a mailbox, from its delta log."""
    with calling(project, region, as_json=as_json) as (target, tell):
        wish = {"cursor": cursor, "types": types, "origin": origin}
        raise typer.Exit(deltas_command.deltas(target, tell, mailbox, **wish, limit=limit, follow=follow))


@command(epilog=EXIT_CODES)
def threads(
    mailbox: options.Address,
    label: options.Label = None,
    unread: options.Unread = False,
    sender: options.Sender = None,
    recipient: options.Recipient = None,
    after: options.After = None,
    before: options.Before = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    project: options.To = None,
    region: options.In = None,
    as_json: options.Json = False,
) -> None:
    """List threads, the newest first.

    Those that meet all conditions.
    """
    conditions = {
        "label": label,
        "unread": True if unread else None,
        "from": sender,
        "to": recipient,
        "after": after,
        "before": before,
    }
    with calling(project, region, as_json=as_json) as (target, tell):
        raise typer.Exit(mail.threads(target, tell, mailbox, conditions=conditions, limit=limit))


@command(epilog=EXIT_CODES)
def message(
    mailbox: options.Address,
    message_id: Annotated[str, typer.Argument(metavar="ID", help="The message's id, as `threads` shows it.")],
    html: Annotated[bool, typer.Option("--html", help="Print its HTML alone, as it is.")] = False,
    project: options.To = None,
    region: options.In = None,
    as_json: options.Json = False,
) -> None:
    """Print a message: headers, attachments by name, and text."""
    with calling(project, region, as_json=as_json) as (target, tell):
        raise typer.Exit(mail.message(target, tell, mailbox, message_id, html=html))


@command(epilog=EXIT_CODES)
def stop(
    mailbox: options.Address,
    project: options.To = None,
    region: options.In = None,
    as_json: options.Json = False,
) -> None:
    """Stop mirroring a mailbox.

    What was mirrored is kept, and `connect` goes on from there.
    """
    with calling(project, region, as_json=as_json) as (target, tell):
        raise typer.Exit(mailboxes.stop(target, tell, mailbox))


@command(epilog=EXIT_CODES)
def delete(
    mailbox: options.Address,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where there is no terminal.")] = False,
    project: options.To = None,
    region: options.In = None,
    as_json: options.Json = False,
) -> None:
    """Delete everything that was mirrored of a mailbox. Gmail keeps its mail."""
    with calling(project, region, as_json=as_json) as (target, tell):
        raise typer.Exit(mailboxes.delete(target, tell, mailbox, agreed=yes))


@cli.command()
def doctor(
    project: options.Project,
    region: options.Region = None,
    mailbox: options.Mailbox = None,
    as_json: options.Json = False,
) -> None:
    """Check everything a deployment needs, and print what is wrong with the command that mends it.

    Nothing is changed, and no token or secret is shown. Needed are Application Default Credentials, as `gcloud auth
    application-default login` makes them; roles/viewer and roles/iam.securityReviewer let you ask nearly everything.

    Exit code: 0 nothing is wrong, 1 something is, 2 something could not be checked.
    """
    google = Google(project, os.environ.get(ROOT_VARIABLE, ""))
    site = Site(google, project, region, _mailbox(mailbox))
    terminal = Console(stderr=True)
    results = []
    with terminal.status("Asking Google …") as status:
        for result in doctor_command.examine(site):
            results.append(result)
            status.update(f"{result.subject}: {result.title}")
    if as_json:
        about = {"project": project, "region": region, "mailbox": site.mailbox, "checkedAt": google.now.isoformat()}
        typer.echo(json.dumps(report.as_json(results, **about), indent=2, ensure_ascii=False))
    else:
        table.show(Console(), results)
    raise typer.Exit(report.exit_code(results))


def _mailbox(address: str | None) -> str | None:
    try:
        return None if address is None else mailbox_id(address)
    except InvalidInput as error:
        raise typer.BadParameter(str(error), param_hint="--mailbox") from None


def main() -> None:
    """Run the command that the command line names."""
    for stream in (sys.stdout, sys.stderr):
        # Mail has letters that not every terminal can show.
        cast(TextIOWrapper, stream).reconfigure(errors="replace")
    cli()


if __name__ == "__main__":
    main()
