"""The OpenAPI documents, as a test reads them: operations, schemas, and what is wrong with an answer.

Knows: where the documents are, references within one, and which operation answers a path. Does not know: the functions.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from jsonschema_rs import Draft202012Validator

FOLDER = Path(__file__).parent.parent / "openapi"
FUNCTIONS = ("trigger_sync", "manage_mailboxes", "read_mailboxes")


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a path; its responses and parameters without references."""

    method: str
    path: str
    id: str
    parameters: tuple[Mapping[str, Any], ...]
    responses: Mapping[str, Mapping[str, Any]]
    definition: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Document:
    """The document of one function."""

    function: str
    root: Mapping[str, Any]

    @classmethod
    def load(cls, function: str) -> Self:
        """Read the document of a function."""
        return cls(function, yaml.safe_load((FOLDER / f"{function}.yaml").read_text()))

    @property
    def schemas(self) -> Mapping[str, Any]:
        """The schemas by name."""
        found: Mapping[str, Any] = self.root["components"]["schemas"]
        return found

    def resolve(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a reference stands for; a value that is none as it is."""
        if "$ref" not in value:
            return value
        found: Any = self.root
        for step in value["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return self.resolve(found)

    def operations(self) -> Iterator[Operation]:
        """Yield the operations."""
        for path, methods in self.root["paths"].items():
            for method, definition in methods.items():
                yield Operation(
                    method.upper(),
                    path,
                    definition["operationId"],
                    tuple(self.resolve(each) for each in definition.get("parameters", ())),
                    {code: self.resolve(each) for code, each in definition["responses"].items()},
                    definition,
                )

    def operation(self, method: str, path: str) -> Operation:
        """Return the operation that answers a path."""
        for operation in self.operations():
            pattern = re.sub(r"\{\w+\}", "[^/]+", operation.path)
            if operation.method == method and re.fullmatch(pattern, path):
                return operation
        raise LookupError(f"No {method} {path}.")

    def faults(self, schema: Mapping[str, Any], value: object) -> list[str]:
        """Return what is wrong with a value, formats included."""
        # References begin at the root.
        whole = {"components": self.root["components"], "allOf": [schema]}
        validator = Draft202012Validator(whole, validate_formats=True)
        return [f"{'/'.join(map(str, each.instance_path))}: {each.message}" for each in validator.iter_errors(value)]

    def query_faults(self, operation: Operation, query: Mapping[str, object]) -> list[str]:
        """Return what is wrong with parameters, given as they are written in a query."""
        schemas = {each["name"]: each["schema"] for each in operation.parameters if each["in"] == "query"}
        found = []
        for name, value in query.items():
            if name not in schemas:
                found.append(f"no parameter {name}")
                continue
            schema, text = self.resolve(schemas[name]), str(value)
            try:
                found += self.faults(schema, _read(schema["type"], text))
            except ValueError:
                found.append(f"{name} is no {schema['type']}")
        return found

    def answer_faults(
        self, operation: Operation, status: int, content_type: str, headers: Mapping[str, str], body: object
    ) -> list[str]:
        """Return what an answer has that the document does not say, or the other way round."""
        response = operation.responses.get(str(status))
        if response is None:
            return [f"{operation.id} answers {status}"]
        content = content_type.partition(";")[0]
        kinds = response.get("content", {})
        kind = next((name for name in (content, f"{content.partition('/')[0]}/*") if name in kinds), None)
        if kind is None:
            return [f"{operation.id} answers {status} as {content_type!r}"]
        schema = kinds[kind].get("schema", {})
        found: list[str] = []
        if kind == "text/event-stream":
            data = self.resolve(schema)["properties"]["data"]["contentSchema"]
            for event in _events(str(body)):
                found += self.faults(schema, event) + self.faults(data, json.loads(event["data"]))
        else:
            found += self.faults(schema, body)
        for name, header in response.get("headers", {}).items():
            told = self.resolve(header)
            if name in headers:
                found += self.faults(told["schema"], headers[name])
            elif told.get("required"):
                found.append(f"no header {name}")
        return found


def _read(kind: str, text: str) -> object:
    """Return the value that a text in a query stands for. Raises ValueError: none of this type."""
    if kind == "array":
        return text.split(",")
    return text if kind == "string" else json.loads(text)


def _events(stream: str) -> Iterator[dict[str, str]]:
    """Yield the events of a stream as a browser does: without data it is none."""
    for block in stream.split("\n\n"):
        pairs = (line.partition(": ") for line in block.split("\n") if not line.startswith(":"))
        event = {name: value for name, _, value in pairs if name}
        if "data" in event:
            yield event


DOCUMENTS = {function: Document.load(function) for function in FUNCTIONS}
