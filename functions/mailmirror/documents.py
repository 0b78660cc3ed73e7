"""Values to Firestore documents and back: the field names of the contract, in one place.

Knows: fields are in camelCase, sets become sorted lists, unknown fields are ignored: an older version reads a newer
one's documents. Does not know: any database. Times stay aware datetimes, in stores timestamps.
"""

import dataclasses
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, cast, get_origin

from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from mailmirror.model import Address
from mailmirror.slice import Document

Value = TypeVar("Value")


def field_name(name: str) -> str:
    """Return the field of an attribute: `email_address` is `emailAddress`, `from_` is `from`."""
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(word.capitalize() for word in rest)


def _renamed(cls: Any) -> dict[str, Any]:
    return {field.name: override(rename=field_name(field.name)) for field in dataclasses.fields(cls)}


def _make_converter() -> Converter:
    converter = Converter(detailed_validation=False)
    converter.register_unstructure_hook_factory(
        dataclasses.is_dataclass, lambda cls: make_dict_unstructure_fn(cls, converter, **_renamed(cls))
    )
    converter.register_structure_hook_factory(
        dataclasses.is_dataclass, lambda cls: make_dict_structure_fn(cls, converter, **_renamed(cls))
    )
    whole = make_dict_structure_fn(Address, converter, **_renamed(Address))
    # An older version stored a text.
    converter.register_structure_hook(
        Address, lambda value, cls: Address(name=value) if isinstance(value, str) else whole(value, cls)
    )
    converter.register_structure_hook(datetime, lambda value, _: value)
    converter.register_structure_hook_func(lambda cls: cls is object, lambda value, _: value)
    converter.register_unstructure_hook_func(lambda cls: cast("object", get_origin(cls)) is frozenset, sorted)
    converter.register_unstructure_hook_factory(
        lambda cls: cast("object", get_origin(cls)) is tuple,
        lambda _: lambda items: [converter.unstructure(item) for item in items],
    )
    return converter


_converter = _make_converter()


def to_document(value: object) -> dict[str, Any]:
    """Return a dataclass instance as a document."""
    return cast("dict[str, Any]", _converter.unstructure(value))


def changes(before: Value, after: Value) -> dict[str, Any]:
    """Return the fields of `after`'s document that differ; only those are turned into documents."""
    return {
        field: _converter.unstructure(value, unstructure_as=kind)
        for name, field, kind in _fields(cast("Any", type(after)))
        if (value := getattr(after, name)) is not (old := getattr(before, name)) and value != old
    }


@cache
def _fields(cls: Any) -> list[tuple[str, str, Any]]:
    return [(field.name, field_name(field.name), field.type) for field in dataclasses.fields(cls)]


def from_document(cls: type[Value], document: Document) -> Value:
    """Return the value of a document; fields absent or null take their defaults. Raises `KeyError`: one has none."""
    return _converter.structure({name: field for name, field in document.items() if field is not None}, cls)
