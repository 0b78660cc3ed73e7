"""What the source says that README, a build and a deployment have to agree with, read from the files themselves.

Knows: which targets make has, and where in functions/ it is written which entry points and routes there are and who
calls them, which variables are read, which events are logged, what is asked of Firestore and which fields its documents
have. Does not know: README or Terraform.
"""

import ast
import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from mailmirror import documents, model

from tests.world import World, mail

ROOT = Path(__file__).resolve().parents[1]
FUNCTIONS = ROOT / "functions"

Caller = Literal["push", "scheduler", "admins", "readers", "browsers"]
_CALLERS: dict[str, Caller] = {
    "Push from": "push",
    "Cloud Scheduler": "scheduler",
    "Administrators": "admins",
    "Applications": "readers",
    "Browsers": "browsers",
}


@cache
def make_targets() -> frozenset[str]:
    """Return the targets of the Makefile that somebody may ask for by name."""
    return frozenset(re.findall(r"^([a-z][\w-]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """A function of main.py that the functions framework serves; the first words of its docstring say who calls it.

    Attributes:
        topic: what is pushed to it; empty when nothing is.
    """

    name: str
    caller: Caller
    topic: str


@cache
def entry_points() -> dict[str, EntryPoint]:
    """Return what main.py decorates with `functions_framework.http`."""
    found = {}
    for node in _parsed("main.py").body:
        if isinstance(node, ast.FunctionDef) and "functions_framework.http" in map(ast.unparse, node.decorator_list):
            told = ast.get_docstring(node) or ""
            (caller,) = (caller for words, caller in _CALLERS.items() if told.startswith(words))
            topic = re.search(r"`([a-z-]+)`", told) if caller == "push" else None
            found[node.name] = EntryPoint(node.name, caller, topic.group(1) if topic else "")
    return found


@dataclass(frozen=True, slots=True)
class Route:
    """A route of an entry point; `{names}` in the path stand for any text without a slash."""

    entry_point: str
    method: str
    path: str


@cache
def routes() -> tuple[Route, ...]:
    """Return the HTTP routes, of api.py and read_api.py."""
    return tuple(
        Route(function.name, *(ast.literal_eval(argument) for argument in call.args[:2]))
        for module in ("api", "read_api")
        for function in _parsed(f"mailmirror/{module}.py").body
        if isinstance(function, ast.FunctionDef)
        for call in _calls_of("Route", function)
    )


@cache
def variables() -> dict[str, str | None]:
    """Return the environment variables that `Settings.from_env` reads, with the default where it is written out."""
    found: dict[str, str | None] = {}
    for call in _calls_of("read", _parsed("mailmirror/config.py")):
        default = call.args[2] if len(call.args) > 2 else None
        written = isinstance(default, ast.Constant) and isinstance(default.value, str)
        found[ast.literal_eval(call.args[0])] = ast.literal_eval(default) if default and written else None
    return found


@dataclass(frozen=True, slots=True)
class Event:
    """A call of `log`.

    Attributes:
        level: such as `INFO`; None where it depends.
        fields: what an entry has besides severity, time and event.
    """

    name: str
    level: str | None
    fields: frozenset[str]


@cache
def events() -> tuple[Event, ...]:
    """Return each event that a call of `log` may be, in the order of the files."""
    return tuple(event for file in sorted(FUNCTIONS.rglob("*.py")) for event in _events(ast.parse(file.read_text())))


def _events(tree: ast.AST) -> Iterator[Event]:
    for call in _calls_of("log", tree):
        given = {keyword.arg or "": keyword.value for keyword in call.keywords}
        said = given.pop("level", None)
        level = "INFO" if said is None else said.attr if isinstance(said, ast.Attribute) else None
        fields = frozenset(given) | ({"mailbox"} if len(call.args) > 1 else set())
        for name in _literals(call.args[0]):
            yield Event(name, level, fields)


def _literals(node: ast.expr) -> Iterator[str]:
    """Yield what an expression may be that is a literal, or one of two."""
    if isinstance(node, ast.IfExp):
        yield from _literals(node.body)
        yield from _literals(node.orelse)
    else:
        yield str(ast.literal_eval(node))


@cache
def queries() -> set[tuple[str, str]]:
    """Return (collection, field) of each field that a query of the Firestore adapter sorts or filters by."""
    found = set()
    for call in _calls(_parsed("mailmirror/adapters/firestore.py")):
        if not (isinstance(call.func, ast.Attribute) and call.args and isinstance(call.args[0], ast.Constant)):
            continue
        field = str(call.args[0].value)
        if call.func.attr == "_mailboxes_by":
            found.add(("mailboxes", field))
        elif call.func.attr == "order_by" and field != "__name__":
            found.add((_collection(call), field))
    return found


@cache
def fields() -> dict[str, set[str]]:
    """Return for each collection the paths of the fields that its documents can have, such as `headers.from`."""
    world = World()
    world.ada.deliver(mail())
    world.connect()
    stored = {
        name: set().union(*(_paths(document) for document in world.documents(name).values()))
        for name in ("messages", "threads", "labels", "deltas")
    }
    values = {
        "mailboxes": model.Mailbox,
        "leases": model.Lease,
        "receipts": model.Receipt,
        "parked": model.Parked,
        "runs": model.Run,
    }
    # Manifests of a run: see listing.py and reconcile.py.
    manifests = {"pages": {"lines"}, "plan": {"items"}}
    return stored | {name: set(_fields(value)) for name, value in values.items()} | manifests


def _parsed(file: str) -> ast.Module:
    return ast.parse((FUNCTIONS / file).read_text())


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _calls_of(name: str, tree: ast.AST) -> Iterator[ast.Call]:
    return (call for call in _calls(tree) if isinstance(call.func, ast.Name) and call.func.id == name)


def _collection(query: ast.Call) -> str:
    """Return the collection that a chain such as `client.collection("a", b, "c").order_by("d")` starts from."""
    node: ast.expr = query
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr == "collection":
            return str(ast.literal_eval(node.args[-1]))
        node = node.func.value
    raise AssertionError(f"Which collection is asked here? {ast.unparse(query)}")


def _paths(document: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in document.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{name}.")


def _fields(value: Any, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(value):
        name = prefix + documents.field_name(field.name)
        yield name
        for part in (field.type, *get_args(field.type)):
            if dataclasses.is_dataclass(part):
                yield from _fields(part, f"{name}.")
