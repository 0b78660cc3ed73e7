"""What the functions' source says that a deployment has to agree with, read from the files themselves.

Knows: where in functions/ it is written which entry points there are and who calls them, which variables are read, what
is asked of Firestore and which fields its documents have. Does not know: Terraform.
"""

import ast
import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from mailmirror import documents, model

from tests.terraform.configuration import ROOT
from tests.world import World, mail

FUNCTIONS = ROOT / "functions"

Caller = Literal["push", "scheduler", "admins"]
_CALLERS: dict[str, Caller] = {"Push from": "push", "Cloud Scheduler": "scheduler", "Administrators": "admins"}


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
    for node in ast.parse((FUNCTIONS / "main.py").read_text()).body:
        if isinstance(node, ast.FunctionDef) and "functions_framework.http" in map(ast.unparse, node.decorator_list):
            told = ast.get_docstring(node) or ""
            (caller,) = (caller for words, caller in _CALLERS.items() if told.startswith(words))
            topic = re.search(r"`([a-z-]+)`", told) if caller == "push" else None
            found[node.name] = EntryPoint(node.name, caller, topic.group(1) if topic else "")
    return found


@cache
def variables() -> set[str]:
    """Return the environment variables that `Settings.from_env` reads."""
    return {
        call.args[0].value
        for call in _calls(ast.parse((FUNCTIONS / "mailmirror" / "config.py").read_text()))
        if isinstance(call.func, ast.Name)
        and call.func.id == "read"
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    }


@cache
def queries() -> set[tuple[str, str]]:
    """Return (collection, field) of each field that a query of the Firestore adapter sorts or filters by."""
    found = set()
    for call in _calls(ast.parse((FUNCTIONS / "mailmirror" / "adapters" / "firestore.py").read_text())):
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
    values = {"mailboxes": model.Mailbox, "leases": model.Lease, "parked": model.Parked, "runs": model.Run}
    # Manifests of a run: see listing.py and reconcile.py.
    manifests = {"pages": {"listing", "rows"}, "plan": {"items"}}
    return stored | {name: set(_fields(value)) for name, value in values.items()} | manifests


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


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
