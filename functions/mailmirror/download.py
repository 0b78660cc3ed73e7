"""How an attachment is answered: headers that let no browser run it or believe its name, and its bytes.

Knows: which types no browser takes for a program, how a name is put into a header (RFC 6266, RFC 8187), how much Cloud
Run sends at once. Does not know: where the bytes are from. A sender chose type and name: neither is trusted.
"""

import re
from collections.abc import Iterator
from itertools import chain
from urllib.parse import quote

from mailmirror.model import Attachment

# Cloud Run sends at most 32 MiB if the length is told before (https://cloud.google.com/run/quotas). Below this it is,
# and a failure has an answer of its own.
WHOLE_BYTES = 30 * 2**20
NAME_LETTERS = 150
_EXTENSION_LETTERS = 20

_UNTOLD = "application/octet-stream"
_HARMLESS = re.compile(
    r"application/(gzip|json|msword|pdf|rtf|zip|vnd\.ms-(excel|outlook|powerpoint))"
    r"|application/vnd\.(oasis\.opendocument|openxmlformats-officedocument)\.[a-z0-9.-]{1,80}"
    r"|(audio|video)/[a-z0-9.-]{1,80}"
    r"|image/(avif|bmp|gif|heic|heif|jpeg|png|tiff|webp)"
    r"|text/(calendar|csv|plain)"
)
# Stand for themselves in an extended parameter.
_ATTR_CHAR = "!#$&+^`|"
# Names in some scripts, and some pictures, need them.
_JOINERS = "\u200c\u200d"


def download(attachment: Attachment, pieces: Iterator[bytes]) -> tuple[dict[str, str], Iterator[bytes]]:
    """Return an answer's headers and body by pieces; up to `WHOLE_BYTES` are read at once, and may fail."""
    headers = {
        "Content-Type": attachment.mime_type if _HARMLESS.fullmatch(attachment.mime_type) else _UNTOLD,
        "Content-Disposition": _disposition(attachment.filename),
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private",
    }
    first: list[bytes] = []
    length = 0
    for piece in pieces:
        first.append(piece)
        length += len(piece)
        if length > WHOLE_BYTES:
            break
    else:
        headers["Content-Length"] = str(length)
    return headers, chain(first, pieces)


def _disposition(filename: str) -> str:
    """Return what makes a browser save it, under its name if that is one."""
    name = _name(filename)
    plain = re.sub(r'[^ -~]|["\\%]', "_", name)
    told = f'attachment; filename="{plain}"'
    return told if plain == name else f"{told}; filename*=UTF-8''{quote(name, safe=_ATTR_CHAR)}"


def _name(filename: str) -> str:
    """Return a name of one folder and one line that reads as it is and is not too long."""
    letters = (letter if letter.isprintable() or letter in _JOINERS else "_" for letter in filename)
    name = re.sub(r"[/\\]", "_", "".join(letters)).strip(" .") or "attachment"
    if len(name) <= NAME_LETTERS:
        return name
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension) > _EXTENSION_LETTERS:
        return name[:NAME_LETTERS]
    return stem[: NAME_LETTERS - len(extension) - 1] + dot + extension
