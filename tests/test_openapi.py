"""The OpenAPI documents say what the functions do, no more and no less: routes, parameters, values, failures."""

import dataclasses
import json
import tomllib
import types
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from flask import Request, Response
from mailmirror import api, deltas, finding, model, policy, read_api
from mailmirror.discovery import Missed, Skipped
from mailmirror.documents import field_name, to_document
from mailmirror.errors import MailmirrorError
from mailmirror.estimate import Estimate, Figure
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR
from werkzeug.datastructures import Headers, ImmutableMultiDict
from werkzeug.test import EnvironBuilder

from tests.openapi import DOCUMENTS, FUNCTIONS, Document, Operation
from tests.world import ADA, World

HANDLES: dict[str, Callable[[Any, Request], Response]] = {
    "trigger_sync": api.trigger_sync,
    "manage_mailboxes": api.manage_mailboxes,
    "read_mailboxes": read_api.read_mailboxes,
}
OPERATIONS = [(document, operation) for document in DOCUMENTS.values() for operation in document.operations()]
each_document = pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
each_operation = pytest.mark.parametrize(
    ("document", "operation"), OPERATIONS, ids=[operation.id for _, operation in OPERATIONS]
)
PLACES = {"mailbox": ADA, "id": "19c0ffee", "partId": "1"}
Shape = Mapping[str, Any]


@pytest.fixture
def world() -> Iterator[World]:
    """A connected mailbox without messages."""
    world = World()
    world.connect()
    yield world
    world.sqlite.close()


# The documents themselves


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


@each_document
def test_a_document_is_openapi(document: Document) -> None:
    """It is valid OpenAPI 3.1, each reference leads to a component, and each component is used."""
    assert [error.message for error in OPENAPI_31_VALIDATOR.iter_errors(document.root)] == []
    used = set(_references(document.root))
    assert [reference for reference in used if not document.resolve({"$ref": reference})] == []
    kinds = {kind: names for kind, names in document.root["components"].items() if kind != "securitySchemes"}
    assert used == {f"#/components/{kind}/{name}" for kind, names in kinds.items() for name in names}
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert document.root["info"]["version"] == project["version"]


@each_document
def test_whatever_a_document_names_it_describes(document: Document) -> None:
    """Each operation, parameter, answer, header and schema has a sentence, or a phrase with a full stop."""
    for operation in document.operations():
        assert operation.definition["summary"].endswith(".")
        for told in (*operation.parameters, *operation.responses.values()):
            assert told["description"].endswith(".")
            assert all(document.resolve(each)["description"].endswith(".") for each in told.get("headers", {}).values())
    assert [name for name, schema in document.schemas.items() if not schema["description"].endswith(".")] == []


def test_an_operation_has_one_name() -> None:
    """No two operations share an id, over all documents."""
    assert [name for name, count in Counter(operation.id for _, operation in OPERATIONS).items() if count > 1] == []


@each_document
def test_what_several_documents_say_is_the_same(document: Document) -> None:
    """A component of the same name is the same everywhere, but for the words of an answer."""
    for other in DOCUMENTS.values():
        for kind in ("schemas", "securitySchemes"):
            ours, theirs = document.root["components"][kind], other.root["components"][kind]
            assert [name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]] == []


# Routes and parameters


def ask(
    world: World,
    function: str,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    **query: object,
) -> Response:
    """Let a function answer a request."""
    texts = {name: str(value) for name, value in query.items()}
    builder = EnvironBuilder(path=path, method=method, data=body, query_string=texts, headers=Headers(headers))
    return HANDLES[function](world.app, Request(builder.get_environ()))


def place(operation: Operation) -> str:
    """A path of an operation."""
    return operation.path.format_map(PLACES)


@each_document
def test_the_routes(world: World, document: Document) -> None:
    """What a function answers at all is what its document has."""
    answer = ask(world, document.function, "GET", "/nowhere/at/all/there/is/none")
    _, _, told = answer.get_json()["error"]["message"].partition("Routes: ")
    assert sorted(told.removesuffix(".").split("; ")) == sorted(
        f"{each.method} {each.path}" for each in document.operations()
    )


class Told(ImmutableMultiDict[str, str]):
    """Parameters that note which are asked for."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.asked: set[str] = set()

    def get(self, key: str, *more: Any, **most: Any) -> Any:
        """Note a name."""
        self.asked.add(key)
        return super().get(key, *more, **most)


def _names(operation: Operation, where: str = "query") -> set[str]:
    return {each["name"] for each in operation.parameters if each["in"] == where}


@pytest.mark.parametrize(
    ("document", "operation"),
    [each for each in OPERATIONS if each[0].function != "read_mailboxes"],
    ids=[operation.id for document, operation in OPERATIONS if document.function != "read_mailboxes"],
)
def test_the_parameters_of_administrators(world: World, document: Document, operation: Operation) -> None:
    """The parameters of an operation are those that the function asks for."""
    body = b'{"orgUnit": "/"}' if operation.id == "discoverMailboxes" else b""
    request = Request(EnvironBuilder(path=place(operation), method=operation.method, data=body).get_environ())
    told = request.args = Told()
    if operation.id in ("askConsent", "keepConsent"):
        world.app.asks = lambda: _Asks(told)  # type: ignore[assignment,method-assign,return-value]
    HANDLES[document.function](world.app, request)
    assert told.asked == _names(operation)


class _Asks:
    """Asks nobody for consent."""

    def __init__(self, told: Told) -> None:
        self.told = told

    def link(self, address: object, here: str) -> object:
        raise MailmirrorError("Nobody is asked.")

    def answered(self, connect: object, **given: str) -> object:
        raise MailmirrorError("Nobody has answered.")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("listThreads", "threads"), ("getThread", "thread"), ("listMessages", "messages"), ("getMessage", "message")],
)
def test_the_parameters_of_applications(world: World, name: str, kind: finding.Kind) -> None:
    """The parameters of what applications read are those that are not refused, with the same bounds."""
    document, operation = _operation(name)
    assert _names(operation) == set(finding.NAMES[kind])
    told = ask(world, document.function, "GET", place(operation), nothing=1)
    assert told.status_code == 400
    schemas = _schemas(document, operation)
    fields = document.resolve(schemas["fields"]["items"])["enum"]
    assert fields == list(finding.THREAD_FIELDS if kind == "threads" else finding.MESSAGE_FIELDS)
    if "limit" in schemas:
        assert (schemas["limit"]["minimum"], schemas["limit"]["maximum"]) == (1, finding.MAX_LIMIT)
        assert schemas["limit"]["default"] == finding.Ask().limit


def _operation(name: str) -> tuple[Document, Operation]:
    (found,) = (each for each in OPERATIONS if each[1].id == name)
    return found


def _schemas(document: Document, operation: Operation) -> dict[str, Mapping[str, Any]]:
    return {each["name"]: document.resolve(each["schema"]) for each in operation.parameters}


def test_the_parameters_of_deltas() -> None:
    """The bounds, defaults and values are the code's; the longest wait is a stream's."""
    schemas = _schemas(*_operation("listDeltas"))
    assert (schemas["limit"]["maximum"], schemas["limit"]["default"]) == (deltas.MAX_LIMIT, deltas.Ask().limit)
    assert schemas["wait"]["maximum"] == read_api.MAX_STREAM >= read_api.MAX_WAIT
    assert schemas["types"]["items"]["enum"] == list(typing.get_args(model.ChangeType))
    assert schemas["origin"]["items"]["enum"] == list(typing.get_args(model.Origin))


WAITS = {
    "syncMailbox": api.MAX_WAIT,
    "stopMailbox": api.MAX_WISH_WAIT,
    "deleteMailbox": api.MAX_WISH_WAIT,
    "discoverMailboxes": api.MAX_DISCOVERY_WAIT,
}


@pytest.mark.parametrize("name", WAITS)
def test_how_long_one_may_wait(name: str) -> None:
    """The bounds of `wait` are the code's."""
    schema = _schemas(*_operation(name))["wait"]
    assert (schema["minimum"], schema["maximum"], schema["default"]) == (0, WAITS[name], api.DEFAULT_WAIT)


def test_the_modes() -> None:
    """The modes of a sync are the code's, incremental by default."""
    mode = _schemas(*_operation("syncMailbox"))["mode"]
    assert (mode["enum"], mode["default"]) == (list(api.MODES), "incremental")


def test_a_policy_as_it_is_given() -> None:
    """Names, defaults and bounds of a policy in a request are the code's."""
    wish = DOCUMENTS["manage_mailboxes"].schemas["PolicyWish"]["properties"]
    assert tuple(wish) == policy._NAMES
    assert {name: each["default"] for name, each in wish.items()} == to_document(model.Policy())
    assert (wish["newestDays"]["minimum"], wish["newestDays"]["maximum"]) == (1, policy._MOST_DAYS)
    assert wish["labelIds"]["maxItems"] == wish["excludeLabelIds"]["maxItems"] == policy._MOST_LABELS


@pytest.mark.parametrize(("name", "schema"), [("connectMailbox", "ConnectWish"), ("discoverMailboxes", "DiscoverWish")])
def test_what_a_body_may_have(world: World, name: str, schema: str) -> None:
    """Each name that the document has for a body is named by the refusal of another."""
    document, operation = _operation(name)
    answer = ask(world, document.function, operation.method, place(operation), b'{"nothing": 1}')
    assert answer.status_code == 400
    quoted = answer.get_json()["error"]["message"].split('"')[1::2]
    assert sorted(quoted) == sorted(document.schemas[schema]["properties"])


# Failures


def _leaves(kind: type[MailmirrorError] = MailmirrorError) -> Iterator[type[MailmirrorError]]:
    for each in kind.__subclasses__():
        if each.__module__ == "mailmirror.errors":
            yield each
            yield from _leaves(each)


def _pairs(document: Document) -> set[tuple[int, str]]:
    found = set()
    for operation in document.operations():
        for code, response in operation.responses.items():
            schema = response.get("content", {}).get("application/json", {}).get("schema", {})
            if schema.get("$ref") == "#/components/schemas/Error":
                told = schema["properties"]["error"]["properties"]
                assert told["code"]["const"] == int(code)
                found |= {(int(code), status) for status in told["status"].get("enum", [told["status"].get("const")])}
    return found


@each_document
def test_failures(document: Document) -> None:
    """Each failure of a document is one of `errors`, or a method that is not allowed."""
    named = {(leaf.http_status, leaf.status) for leaf in _leaves()}
    assert _pairs(document) - {(405, "INVALID_ARGUMENT")} <= named


def test_no_failure_is_forgotten() -> None:
    """Each kind of failure in `errors` is in a document."""
    named = {(leaf.http_status, leaf.status) for leaf in _leaves()}
    assert named <= set().union(*map(_pairs, DOCUMENTS.values()))


@each_operation
def test_another_method(world: World, document: Document, operation: Operation) -> None:
    """Each path answers another method as its document says, with the methods that the document has."""
    answer = ask(world, document.function, "PATCH", place(operation))
    assert _faults(document, operation, answer) == []
    methods = {each.method for _, each in OPERATIONS if each.path == operation.path}
    assert set(answer.headers["Allow"].split(", ")) == methods


def _faults(document: Document, operation: Operation, answer: Response) -> list[str]:
    text = answer.get_data(as_text=True)
    body = json.loads(text) if answer.content_type == "application/json" else text
    return document.answer_faults(operation, answer.status_code, answer.content_type or "", dict(answer.headers), body)


# Values

VALUES: dict[str, dict[str, type]] = {
    "manage_mailboxes": {
        kind.__name__: kind
        for kind in (
            *(model.Mailbox, model.Policy, model.Watch, model.RunRequest, model.Run, model.Coverage, model.Counts),
            *(model.Quota, model.Problem, model.Unreached, model.Purge, model.Receipt, model.Parked),
            *(Estimate, Figure, Skipped, Missed),
        )
    },
    "read_mailboxes": {
        kind.__name__: kind
        for kind in (
            *(model.Message, model.Headers, model.Address, model.Body, model.Attachment, model.Thread, model.Entry),
            *(model.Change,),
        )
    },
}
# Not shown, or added to what the value has.
LEFT_OUT = {"Mailbox": {"labels"}}
ADDED = {
    "Estimate": {"mailbox"},
    "Message": {"origin", "syncedAt", "recipients"},
    "Thread": set(finding.THREAD_FIELDS) - {"id", "historyId", "messages"},
}
PLAIN: dict[object, Shape] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"},
}


def shape(kind: Any) -> Shape:
    """Return the schema of a type, without words."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        (whole,) = (shape(each) for each in arguments if each is not types.NoneType)
        return {"anyOf": [whole, {"type": "null"}]} if "$ref" in whole else {**whole, "type": [whole["type"], "null"]}
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin in (tuple, frozenset):
        return {"type": "array", "items": shape(arguments[0])}
    if origin is not None:
        return {"type": "object", "additionalProperties": shape(arguments[1])}
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        return {"$ref": f"#/components/schemas/{kind.__name__}"}
    return PLAIN[kind]


def told(schema: Shape) -> Shape:
    """Return a schema of the document without words and bounds."""
    kept = {name: each for name, each in schema.items() if name in ("type", "enum", "format", "anyOf", "$ref")}
    for name in ("items", "additionalProperties"):
        if name in schema:
            kept[name] = told(schema[name])
    return kept


@pytest.mark.parametrize(("function", "name"), [(function, name) for function in VALUES for name in VALUES[function]])
def test_a_value(function: str, name: str) -> None:
    """A schema has the fields of its value, all required, with their types; nothing else is let through."""
    schema = DOCUMENTS[function].schemas[name]
    whole = DOCUMENTS[function].resolve({"$ref": schema["$ref"]}) if "$ref" in schema else schema
    properties = whole["properties"] | schema.get("properties", {})
    assert whole["additionalProperties"] is False
    assert sorted(schema["required"]) == sorted(properties)
    kind = VALUES[function][name]
    hints = typing.get_type_hints(kind)
    fields = {field_name(each.name): shape(hints[each.name]) for each in dataclasses.fields(kind)}
    fields = {field: each for field, each in fields.items() if field not in LEFT_OUT.get(name, ())}
    assert properties.keys() - ADDED.get(name, set()) == fields.keys()
    assert {field: _whole(told(each)) for field, each in properties.items() if field in fields} == fields


def _whole(schema: Shape) -> Shape:
    """A part of a value stands for the value where `fields` may have cut it."""
    return {**schema, "$ref": schema["$ref"].replace("SomeOf", "")} if "$ref" in schema else schema


@each_document
def test_every_object_is_closed(document: Document) -> None:
    """No schema of an object lets through what it does not name."""
    for name, schema in document.schemas.items():
        if schema.get("type") == "object":
            assert schema["additionalProperties"] is False, name


@each_document
def test_the_functions_have_documents(document: Document) -> None:
    """There is a document for each function that people call, and it says which."""
    assert document.function in FUNCTIONS
    assert document.root["info"]["title"] == f"Mailmirror {document.function}"
