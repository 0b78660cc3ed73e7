"""README's tables of inputs and outputs are those of the configuration."""

import pytest

from tests.terraform import tables
from tests.terraform.tables import README, NoPlace


def test_readme_has_the_tables() -> None:
    """README tells every input and output as it is declared; `make docs` writes them."""
    document = README.read_text()
    assert tables.between(document, "inputs") == tables.inputs()
    assert tables.between(document, "outputs") == tables.outputs()


def test_inputs_are_told_as_they_are_declared() -> None:
    """A row has the name, the type, the default as it is written or that there is none, and the description."""
    rows = {line.split(" | ")[0]: line.split(" | ")[1:3] for line in tables.inputs().splitlines()}
    assert rows["| `project`"] == ["`string`", "required"]
    assert rows["| `readers`"] == ["`set(string)`", "`[]`"]
    assert rows["| `gmail_auth`"] == ["`string`", '`"delegation"`']
    assert rows["| `gmail_scopes`"] == ["`list(string)`", '`["https://www.googleapis.com/auth/gmail.readonly"]`']
    assert rows["| `labels`"] == ["`map(string)`", "`{}`"]
    assert rows["| `vpc`"] == [
        '`object({connector = string, egress = optional(string, "PRIVATE_RANGES_ONLY")})`',
        "`null`",
    ]
    assert rows["| `delete_protection`"] == ["`bool`", "`true`"]


def test_only_what_is_between_the_markers_is_written() -> None:
    """Writing the tables changes nothing before, between and after them, and changes nothing the second time."""
    document = "before\n<!-- inputs -->\nold\n<!-- /inputs -->\nbetween\n<!-- outputs -->\n<!-- /outputs -->\nafter\n"
    written = tables.with_tables(document)
    assert written == (
        f"before\n<!-- inputs -->\n{tables.inputs()}<!-- /inputs -->\n"
        f"between\n<!-- outputs -->\n{tables.outputs()}<!-- /outputs -->\nafter\n"
    )
    assert tables.with_tables(written) == written


@pytest.mark.parametrize("document", ["", "<!-- inputs -->\n", "<!-- inputs -->\n<!-- /inputs -->\n" * 2])
def test_a_missing_place_is_told(document: str) -> None:
    """Without exactly one place for a table nothing is written, and the message says how to mark one."""
    with pytest.raises(NoPlace, match="<!-- inputs -->"):
        tables.with_tables(document)
