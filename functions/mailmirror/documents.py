"""Values to Firestore documents and back: the field names of the contract, in one place.

Knows: that a document's field is the value's attribute in camelCase (`email_address` is `emailAddress`, `from_` is
`from`), that sets become sorted lists and that unknown fields are ignored, so that an older version can read a newer
one's documents. Does not
know: any database. Times stay aware datetimes; stores keep them as timestamps.
"""

import dataclasses
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, cast, get_origin

from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from mailmirror.slice import Document

Value = TypeVar("Value")


def field_name(name: str) -> str:
    """Return the document field of an attribute: `email_address` is `emailAddress`, `from_` is `from`."""
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
    """Return a dataclass instance as the document that holds it."""
    return cast("dict[str, Any]", _converter.unstructure(value))


def changes(before: Value, after: Value) -> dict[str, Any]:
    """Return the fields of `after`'s document that are not the same in `before`'s.

    The values are compared, not the documents: a commit changes few of a mailbox's many fields, and only those are
    turned into documents.
    """
    return {
        field: _converter.unstructure(value, unstructure_as=kind)
        for name, field, kind in _fields(cast("Any", type(after)))
        if (value := getattr(after, name)) is not (old := getattr(before, name)) and value != old
    }


@cache
def _fields(cls: Any) -> list[tuple[str, str, Any]]:
    """Return the attributes of a dataclass, the document fields that hold them, and their types."""
    return [(field.name, field_name(field.name), field.type) for field in dataclasses.fields(cls)]


def from_document(cls: type[Value], document: Document) -> Value:
    """Return the value a document holds.

    Args:
        cls: the dataclass.
        document: a mapping with the contract's field names; fields that are absent or null take their defaults.

    Raises:
        KeyError: a field without a default is absent; the document was not written by Mailmirror.
    """
    return _converter.structure({name: field for name, field in document.items() if field is not None}, cls)
