"""README says what is so: its commands, its tree, its variables and its routes are compared with the code."""

import ast
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from mailmirror import config, documents, model

from tests.world import World, mail

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """Return the text below a heading, up to the next one."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found.group(1)


def table(title: str) -> list[list[str]]:
    """Return the cells of a section's table, without its head."""
    rows = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def test_the_quick_start_is_two_commands() -> None:
    """A newcomer is asked for `make demo` and `make test`, and nothing else."""
    first = re.search(r"```sh\n(.*?)```", README, re.DOTALL)
    assert first is not None
    assert first.group(1).split("\n")[:-1] == ["make demo", "make test"]


def test_every_make_target_named_exists() -> None:
    """Each `make` command is a target of the Makefile, and each target is named."""
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)", README)) | set(re.findall(r"^make ([a-z]+)", README, re.MULTILINE))
    assert named <= targets
    assert targets - named <= {"clean"}


def test_every_make_variable_named_exists() -> None:
    """The variables passed to make are those its recipes read."""
    makefile = (ROOT / "Makefile").read_text()
    for variable in re.findall(r"make (?:demo|test|dev) ([A-Z]+)=", README):
        assert f"$({variable})" in makefile or f"$({variable}" in makefile, variable


def tree() -> list[str]:
    """Return the paths of the project structure."""
    block = re.search(r"```text\n(.*?)```", section("Project structure"), re.DOTALL)
    assert block is not None
    paths, parents = [], [""]
    for line in block.group(1).splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        del parents[depth + 1 :]
        paths.append(parents[depth] + name)
        if name.endswith("/"):
            parents.append(parents[depth] + name)
    return paths


def test_the_tree_is_the_tree() -> None:
    """Each path of the structure exists, and each module of the functions and of local is in it."""
    named = tree()
    for path in named:
        assert (ROOT / path).exists(), path
    for folder in ("functions/mailmirror", "local"):
        modules = {f"{folder}/{file.name}" for file in (ROOT / folder).glob("*.py") if not file.name.startswith("__")}
        assert modules - set(named) == set()


def test_every_variable_is_documented() -> None:
    """The configuration table has exactly the variables that the code reads, with the code's defaults."""
    source = ast.parse((ROOT / "functions/mailmirror/config.py").read_text())
    read = {
        call.args[0].value: call.args[2] if len(call.args) > 2 else None
        for call in ast.walk(source)
        if isinstance(call, ast.Call)
        and getattr(call.func, "id", "") == "read"
        and isinstance(call.args[0], ast.Constant)
    }
    rows = {row[0].strip("`"): row[1].strip("`") for row in table("Configuration")}
    assert rows.keys() == read.keys()
    for name, default in read.items():
        if isinstance(default, ast.Constant) and isinstance(default.value, str):
            assert rows[str(name)] in (default.value, "none" if default.value == "" else default.value), name
    assert rows["GMAIL_SCOPES"] == config.READONLY_SCOPE


@pytest.mark.parametrize("collection", ["messages", "threads", "labels", "deltas"])
def test_every_field_an_application_reads_is_documented(collection: str) -> None:
    """The fields README lists for a collection are those of a document that a sync wrote."""
    world = World()
    world.ada.deliver(mail())
    world.connect()
    document = next(iter(world.documents(collection).values()))
    (row,) = [row for row in table("What an application reads in Firestore") if f"/{collection}/" in row[0]]
    for field in document:
        assert re.search(rf"\b{field}\b", row[1]), field


@pytest.mark.parametrize(("collection", "value"), [("parked", model.Parked), ("mailboxes/{m}/runs", model.Run)])
def test_the_fields_named_for_parked_and_runs_exist(collection: str, value: Any) -> None:
    """What README names in these rows is a field of the value that is stored."""
    (row,) = [row for row in table("What an application reads in Firestore") if f"{collection}/" in row[0]]
    listed = re.findall(r"`([^`]*)`", row[1])[-1].split()
    assert set(listed) <= {documents.field_name(field.name) for field in dataclasses.fields(value)}


def test_the_phases_named_are_phases() -> None:
    """Each phase README lists for a mailbox is one of the model's."""
    (row,) = [row for row in table("What an application reads in Firestore") if row[0] == "`mailboxes/{m}`"]
    named = set(re.findall(r"`([a-z_]+)`", row[1].split("(")[1].split(")")[0]))
    assert named <= set(model.Phase.__args__)  # type: ignore[attr-defined]


def test_the_routes_are_the_routes() -> None:
    """Each route of the HTTP table is in the code, and the other way round."""
    source = (ROOT / "functions/mailmirror/api.py").read_text()
    coded = {
        (method, path.replace("([^/]+)", "{m}"))
        for method, path in re.findall(r'Route\("([A-Z]+)", r"([^"]+)"', source)
    }
    named = set()
    for row in table("HTTP"):
        method, path = row[0].strip("`").split(" ")
        named.add((method, path.split("?")[0]))
    assert named == coded
