"""What several commands are told: each option once, with the same name, meaning and help everywhere.

Knows: names and help. Does not know: what a command does with them.
"""

from typing import Annotated

import typer

Project = Annotated[str, typer.Option(help="The project Mailmirror is deployed in.", show_default=False)]
Region = Annotated[str | None, typer.Option(help="Its region; where its functions are, if not said.")]
Mailbox = Annotated[str | None, typer.Option(help="A mailbox to look at besides, such as ada@example.com.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
