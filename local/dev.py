"""The stack kept running: a small mailbox, its mirror, and the addresses to play with both.

Knows: what one types to deliver mail and to look at the mirror. Does not know: how the stack works.
"""

import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from threading import Event

from rich.console import Console
from rich.markup import escape

from local import demo, mail
from local.emulators import EmulatorsMissing
from local.owner import MAILBOX, Mail, Owner
from local.process import ProcessFailed
from local.stack import PROJECT, Settings, Stack, call
from mailmirror_cli.target import VARIABLES


def run(options: Namespace) -> int:
    """Start everything, connect a mailbox, say what can be done, and stay until interrupted."""
    console = Console(highlight=False)
    directory = Path(tempfile.mkdtemp(prefix="mailmirror-dev-"))
    settings = Settings(directory, options.backend, seed=options.seed, sweep_seconds=5, quiet_minutes=1)
    try:
        with Stack(settings) as stack:
            _fill(stack, options)
            call("PUT", f"{stack.url('manage_mailboxes')}/mailboxes/{MAILBOX}", {})
            console.print(_explain(stack, directory), soft_wrap=True)
            Event().wait()
    except (ProcessFailed, EmulatorsMissing) as failed:
        console.print(f"[red]✗[/] {escape(str(failed))}\nThe logs are in {directory}.", soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print(f"\nStopped. The logs are in {directory}.", soft_wrap=True)
    return 0


def _fill(stack: Stack, options: Namespace) -> None:
    call("POST", f"{stack.gmail}/control/mailboxes", {"emailAddress": MAILBOX})
    rng = Random(options.seed)
    threads = max(1, int(options.messages * demo.THREAD_SHARE))
    made_up = mail.made_up(rng, options.messages, threads, start=demo.FIRST_DAY, end=demo.LAST_DAY)
    items: Iterator[Mail] = mail.read_labelled_mbox(options.mbox) if options.mbox else made_up
    owner = Owner(stack.gmail, rng, iter(()))
    while chunk := list(islice(items, demo.DELIVERED_AT_ONCE)):
        owner.receive(chunk)


def _explain(stack: Stack, directory: Path) -> str:
    box = MAILBOX
    functions = {name: stack.url(name) for name in VARIABLES}
    mail_source = r"printf 'From: bob@example.com\r\nSubject: Hello\r\n\r\nHi Ada\r\n' | base64 | tr -d '\n'"
    where = f"SQLite file      {stack.sqlite}" if stack.sqlite else f"Firestore        {stack.firestore} ({PROJECT})"
    commands = {
        "Deliver a mail": f"""curl -s {stack.gmail}/control/mailboxes/{box}/deliver \\
    -d '{{"messages":[{{"raw":"'$({mail_source})'"}}]}}'""",
        "How is the mailbox": f"mailmirror status {box}",
        "Its newest mail": f"mailmirror threads {box}",
        "What changes": f"mailmirror deltas {box} --follow",
        "Full sync": f"mailmirror sync {box} --full",
        "Mailbox and mirror compared": f"mailmirror audit {box}",
        "Lose every notification": f"curl -s {stack.gmail}/control/notifications -d '{{\"off\":true}}'",
        "Expire Gmail's history": f"curl -s -X POST {stack.gmail}/control/mailboxes/{box}/expire-history",
    }
    shown = "\n".join(f"[bold]{title}[/]\n  {escape(command)}" for title, command in commands.items())
    exports = "\n".join(f"export {VARIABLES[name]}={url}" for name, url in functions.items())
    started = f"{len(stack.processes)} processes started in {stack.started_in:.1f} s"
    return (
        f"[green]✓[/] {started}; {box} is being mirrored.\n\n"
        f"fake Gmail       {stack.gmail}\nPub/Sub          {stack.pubsub}\n{where}\nlogs             {directory}\n\n"
        f"[bold]First, in another shell, so that mailmirror finds the functions[/]\n{exports}\n"
        f"export PATH={escape(str(Path(sys.executable).parent))}:$PATH\n\n"
        f"{shown}\n\nCtrl-C stops everything."
    )
