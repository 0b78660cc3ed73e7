"""The command line: `mailmirror`, one function for each command.

Knows: names, options, help and exit codes. Does not know: what a command does; each has a module of its own.
"""

import json
import os

import typer
from mailmirror.errors import InvalidInput
from mailmirror.mailboxes import mailbox_id
from rich.console import Console

from mailmirror_cli import doctor as doctor_command
from mailmirror_cli import options, report, table
from mailmirror_cli.google import ROOT_VARIABLE, Google
from mailmirror_cli.site import Site

cli = typer.Typer(name="mailmirror", no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@cli.callback()
def mailmirror() -> None:
    """Mailmirror's operators: look after a deployment."""


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
    cli()


if __name__ == "__main__":
    main()
