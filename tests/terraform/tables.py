"""README's tables of Terraform's inputs and outputs, made from variables.tf and outputs.tf.

`python -m tests.terraform.tables` (that is `make docs`) writes them between the markers `<!-- inputs -->` and
`<!-- /inputs -->`, `<!-- outputs -->` and `<!-- /outputs -->`. Knows: how a declaration is read and told in a row. Does
not know: anything else in README.
"""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hcl2

from tests.terraform.configuration import ROOT

README = ROOT / "README.md"

Block = dict[str, Any]


class NoPlace(Exception):
    """The text lacks the markers between which a table belongs."""


def blocks(file: Path, kind: str) -> dict[str, Block]:
    """Return the blocks of a kind, such as `variable`, in a file: by their label, in the order of the file."""
    with file.open() as source:
        found: list[dict[str, Block]] = hcl2.load(source).get(kind, [])
    return {text(label): block for each in found for label, block in each.items()}


def text(quoted: str) -> str:
    """Return what a quoted string of the configuration says."""
    return str(json.loads(quoted))


def inputs() -> str:
    """Return the table of variables: name, type, default or `required`, and description."""
    rows = (
        (f"`{name}`", f"`{_expression(variable['type'])}`", _default(variable), text(variable["description"]))
        for name, variable in blocks(ROOT / "terraform" / "variables.tf", "variable").items()
    )
    return _table(("input", "type", "default", "what it is"), rows)


def outputs() -> str:
    """Return the table of outputs: name and description."""
    rows = (
        (f"`{name}`", text(output["description"]))
        for name, output in blocks(ROOT / "terraform" / "outputs.tf", "output").items()
    )
    return _table(("output", "what it is"), rows)


def between(document: str, name: str) -> str:
    """Return what stands between the markers of a name.

    Raises:
        NoPlace: they are not there, each once.
    """
    found = re.findall(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", document, re.DOTALL)
    if len(found) != 1:
        raise NoPlace(f"Mark one place for the table: <!-- {name} --> and, on a later line, <!-- /{name} -->.")
    return str(found[0])


def with_tables(document: str) -> str:
    """Return the document with both tables between their markers.

    Raises:
        NoPlace: one of them has none.
    """
    for name, table in (("inputs", inputs()), ("outputs", outputs())):
        old = between(document, name)
        document = document.replace(f"<!-- {name} -->\n{old}<!--", f"<!-- {name} -->\n{table}<!--")
    return document


def _expression(value: Any) -> str:
    """Return a value of the parser's as it is written: an expression comes in `${}`, a string in quotes."""
    if isinstance(value, str):
        return value[2:-1] if value.startswith("${") else value
    if isinstance(value, list):
        return f"[{', '.join(map(_expression, value))}]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{name} = {_expression(item)}" for name, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return json.dumps(value)


def _default(variable: Block) -> str:
    return f"`{_expression(variable['default'])}`" if "default" in variable else "required"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *(tuple(cell.replace("|", r"\|") for cell in row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Write the tables of README anew."""
    try:
        README.write_text(with_tables(README.read_text()))
    except NoPlace as missing:
        sys.exit(f"README has no tables of inputs and outputs: {missing}")


if __name__ == "__main__":
    main()
