"""Rows for a person: a table where the terminal is wide enough, else what is long on lines of its own.

Knows: that a cut id cannot be pasted, and a word on five lines cannot be read. Does not know: what the rows are about.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

# With less than this, a long column is not worth being one.
_LEAST = 24
_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """What the values below a title are: `long` ones may be folded, numbers are to the `right`."""

    title: str
    long: bool = False
    right: bool = False


class Rows:
    """Rows as they fit; nothing is cut, however narrow it is."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[str | Text]]) -> None:
        self._columns = columns
        self._rows = [[each if isinstance(each, Text) else Text(each) for each in row] for row in rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw them."""
        widths = [
            max(len(column.title), *(row[at].cell_len for row in self._rows)) for at, column in enumerate(self._columns)
        ]
        least = [min(width, _LEAST) if each.long else width for each, width in zip(self._columns, widths, strict=True)]
        fits = sum(least) + _GAP * (len(least) - 1) <= options.max_width
        yield from [self._table()] if fits else self._lines(widths)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for each in self._columns:
            justify = "right" if each.right else "left"
            table.add_column(each.title, justify=justify, no_wrap=not each.long, overflow="fold")  # type: ignore[arg-type]
        for row in self._rows:
            table.add_row(*row)
        return table

    def _lines(self, widths: Sequence[int]) -> Iterator[RenderableType]:
        short = [at for at, column in enumerate(self._columns) if not column.long]
        header = [Text(column.title, "bold") for column in self._columns]
        for row in [header, *self._rows]:
            line = Text(overflow="fold")
            for at in short:
                space = " " * (widths[at] - row[at].cell_len)
                line.append_text(Text.assemble(space, row[at]) if self._columns[at].right else row[at])
                line.append(" " * _GAP if self._columns[at].right else f"{space}{' ' * _GAP}")
            line.rstrip()
            yield line
            for at, column in enumerate(self._columns):
                if column.long and row[at].plain and row is not header:
                    folded = row[at].copy()
                    folded.overflow = "fold"
                    yield Padding(folded, (0, 0, 0, _GAP), expand=False)
