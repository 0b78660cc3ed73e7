"""Text in format=flowed (RFC 3676) as its author wrote it: a paragraph is a line.

Knows: which lines go on in the next, quotes, stuffed spaces, the separator before a signature. Does not know:
charsets. Promises: only breaks and spaces that the format added go; of a line, however long, a piece is in memory.
"""

from collections.abc import Iterable, Iterator

_LINE = 65_536
_END = len(" \r")
_SIGNATURE = "-- "


def unflow(pieces: Iterable[str], *, del_sp: bool) -> Iterator[str]:
    """Yield a text in pieces, lines that go on joined with the next.

    Args:
        pieces: cut anywhere.
        del_sp: the space at a joined line's end goes.
    """
    gathered: list[str] = []
    size = 0
    for text in _joined(pieces, del_sp=del_sp):
        gathered.append(text)
        size += len(text)
        if size > _LINE:
            yield "".join(gathered)
            gathered, size = [], 0
    yield "".join(gathered)


def _joined(pieces: Iterable[str], *, del_sp: bool) -> Iterator[str]:
    held, quoted, whole = "", 0, True
    for line in _lines(pieces):
        text = line.removesuffix("\n")
        text = text.removesuffix("\r") if len(text) < len(line) else text
        end = line[len(text) :]
        if whole:
            unquoted = text.lstrip(">")
            quotes = len(text) - len(unquoted)
            text = unquoted.removeprefix(" ")
            if not (held and quotes == quoted and text != _SIGNATURE):
                yield held
                yield ">" * quotes + " " if quotes and text else ">" * quotes
            held, quoted = "", quotes
        goes_on = bool(end) and text.endswith(" ") and not (whole and text == _SIGNATURE)
        if goes_on:
            cut = len(text) - del_sp
            held, text = text[cut:] + end, text[:cut]
            yield text
        else:
            yield text
            yield end
        whole = bool(end)
    yield held


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    """With their ends; a very long one in parts, only the last with an end."""
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        yield from (line + "\n" for line in lines)
        if len(rest) > _LINE:
            # Its last characters together tell how the line ends.
            yield rest[:-_END]
            rest = rest[-_END:]
    if rest:
        yield rest
