"""Mail as commands: threads by what is in them, and one message.

Knows: the routes about them and how a person reads mail. Does not know: how it is found. What a program gets is the
documents as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.text import Text

from mailmirror_cli.mailboxes import path
from mailmirror_cli.rows import Column, Rows
from mailmirror_cli.runs import working
from mailmirror_cli.target import Target
from mailmirror_cli.telling import DONE, Refused, Telling, clean
from mailmirror_cli.words import line, number, person, when

# The most documents an answer may have.
_PAGE = 100
_THREADS = (
    Column("last"),
    Column("who", long=True),
    Column("subject", long=True),
    Column("messages", right=True),
    Column("newest message"),
)
_HEADERS = {"from": "From", "to": "To", "cc": "Cc", "bcc": "Bcc", "replyTo": "Reply-To", "subject": "Subject"}


def threads(
    target: Target, tell: Telling, mailbox: str, *, conditions: Mapping[str, str | bool | None], limit: int
) -> int:
    """List threads that meet all conditions, the newest first."""
    found: list[dict[str, Any]] = []
    token: str | None = None
    with working(tell, f"{mailbox}: looking"):
        while True:
            params = {**conditions, "limit": min(_PAGE, limit - len(found)), "pageToken": token}
            page = target.read.ask("GET", f"{path(mailbox)}/threads", params=params).content
            found += page["threads"]
            token = page.get("nextPageToken")
            # A page may be empty though there are more.
            if not token or len(found) >= limit:
                break
    more = {"nextPageToken": token} if token else {}
    tell.answer({"threads": found} | more, lambda screen: _show_threads(screen, found))
    if token:
        tell.note(f"There may be more: say --limit={2 * limit}, or --before.")
    return DONE


def message(target: Target, tell: Telling, mailbox: str, message_id: str, *, html: bool) -> int:
    """Print one message: its headers and text, or its HTML as it is."""
    where = f"{path(mailbox)}/messages/{quote(message_id, safe='')}"
    content = target.read.ask("GET", where, seconds=120).content
    body = content.get("body") or {}
    if html and not tell.as_json:
        if not body.get("html"):
            raise Refused("This message has no HTML. Without --html its text is printed.", "NOT_FOUND", 404)
        typer.echo(_body(tell, body["html"]))
        return DONE

    def show(screen: Console) -> None:
        _show_headers(screen, content)
        if "body.text" in content.get("truncated", ()):
            tell.note("The mirror has not all of the text.")
        screen.print()
        typer.echo(_body(tell, body.get("text") or ""))

    tell.answer(content, show)
    return DONE


def _show_threads(screen: Console, found: Sequence[Mapping[str, Any]]) -> None:
    if not found:
        screen.print("No thread is like that.")
        return
    rows = [
        (
            when(each["lastMessageAt"]),
            ", ".join(person(who, short=True) for who in each.get("participants", ())),
            Text(line(each.get("subject") or ""), style="bold" if each.get("unread") else ""),
            number(each.get("messageCount")),
            line((each.get("messageIds") or [""])[-1]),
        )
        for each in found
    ]
    screen.print(Rows(_THREADS, rows))


def _show_headers(screen: Console, document: Mapping[str, Any]) -> None:
    headers = document.get("headers") or {}
    rows = [(title, _header(headers.get(name))) for name, title in _HEADERS.items()]
    rows.append(("Date", when(headers.get("date") or document.get("internalDate"))))
    rows.append(("Labels", ", ".join(line(each) for each in document.get("labelIds", ()))))
    for each in document.get("attachments", ()):
        name = line(each.get("filename") or "unnamed")
        told = f"{name} ({line(each['mimeType'])}, {number(each['size'])} bytes, part {line(each['partId']) or 'none'})"
        rows.append(("Attachment", told))
    for title, value in rows:
        if value:
            screen.print(Text.assemble((f"{title}: ", "bold"), value), soft_wrap=True)


def _header(value: object) -> str:
    if isinstance(value, Mapping):
        return person(value)
    if isinstance(value, list):
        return ", ".join(person(each) for each in value)
    return line(value or "")


def _body(tell: Telling, text: str) -> str:
    """Mail is somebody else's: a terminal does not get what it would obey; a file gets it as it is."""
    return clean(text) if tell.screen.is_terminal else text
