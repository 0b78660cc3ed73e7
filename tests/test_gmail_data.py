"""JSON that arrives in pieces: the same value as `json` reads, with the bytes of what is named `data`."""

import base64
import json
import string
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mailmirror.adapters.gmail.arrival import read_json

DIGITS = string.ascii_letters + string.digits + "+/-_"
# What a reader might take for the name that it looks for, or for the end of a string.
NEAR = ["data", "data ", 'x"data', '{"data', ', "data": "', '": "', "\\", '\\"data', "da\u0074a", "body"]
TEXTS = (
    st.text(st.sampled_from(DIGITS + "= "), max_size=12)
    | st.text(st.sampled_from('"\\{}[],: /-_AZaz09dt\n\u00e9\u20ac\U0001f600\ud800'), max_size=12)
    | st.sampled_from(NEAR)
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
SPACES = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: "), (", ", ":" + " " * 40)])

# Some write a slash with a backslash before it.
SLASHES = st.sampled_from(["/", "\\/"])


def decoded(text: str) -> bytes:
    """What a string in base64 says, of whatever alphabet; what is not in either says nothing."""
    digits = "".join(digit for digit in text if digit in DIGITS).replace("-", "+").replace("_", "/")
    whole = len(digits) - (len(digits) % 4 == 1)
    return base64.b64decode(digits[:whole] + "=" * (-whole % 4))


def expected(value: Any) -> Any:
    """The value, with bytes for each string that is named `data`."""
    if isinstance(value, dict):
        return {
            name: decoded(item) if name == "data" and isinstance(item, str) else expected(item)
            for name, item in value.items()
        }
    return [expected(item) for item in value] if isinstance(value, list) else value


def same(read: Any, value: Any) -> bool:
    """Whether they are equal; a string that was left as it is means the same as its bytes."""
    if isinstance(read, dict) and isinstance(value, dict):
        return read.keys() == value.keys() and all(same(read[name], value[name]) for name in read)
    if isinstance(read, list) and isinstance(value, list):
        return len(read) == len(value) and all(map(same, read, value))
    return bool((decoded(read) if isinstance(read, str) and isinstance(value, bytes) else read) == value)


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    """The content, so many bytes at a time."""
    return (content[start : start + size] for start in range(0, len(content), size))


@given(VALUES, SPACES, st.sampled_from([1, 2, 3, 7, 40, 10_000]), st.sampled_from(["ascii", "utf-8"]), SLASHES)
@example({"data": "QQ=="}, (",", ":"), 1, "ascii", "/")
@example([{'x"data': "QQ"}, {"data": '\\"QQ'}], (",", ":"), 1, "ascii", "\\/")
@example({"a": "{", "data": "+/-_"}, (" , ", " : "), 2, "utf-8", "\\/")
def test_any_json_however_it_comes(value: Any, spaces: tuple[str, str], size: int, charset: str, slash: str) -> None:
    """Any JSON is read as `json` reads it, in pieces of any size, and base64 under `data` is bytes."""
    text = json.dumps(value, ensure_ascii=charset == "ascii", separators=spaces)
    content = text.replace("/", slash).encode("utf-8", "replace")
    assert same(read_json(pieces(content, size)), expected(json.loads(content)))


@pytest.mark.parametrize(("length", "size"), [(1, 1), (10, 1), (10, 13), (10, 1_000), (1_000, 4_096)])
def test_what_is_bytes(length: int, size: int) -> None:
    """A string that is named `data` is bytes, however long and whatever escapes are in it; others are strings."""
    raw = bytes(range(256)) * length
    text = base64.urlsafe_b64encode(raw).decode()
    content = json.dumps({"data": text, "parts": [{"data": "QUJD"}, {"dat": "QUJD"}, {"data": {"data": ""}}]})
    escaped = content.replace("=", "\\u003d").replace("-", "\\u002d")
    for written in (content, escaped):
        read = read_json(pieces(written.encode(), size))
        assert read == {"data": raw, "parts": [{"data": b"ABC"}, {"dat": "QUJD"}, {"data": {"data": b""}}]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no json",
        b"\xff\xfe",
        b'{"data": "QUJD',
        b'{"data": "QUJD"',
        b'{"data": "QUJD"}}',
        b'{"data": "QU\\xJD"}',
        b'{"data": "QU\\u00"}',
        b'{"data": "QUJD", "other": NaN}',
        b'{"other": NaN, "data": "QUJD"}',
        b'{"other": -Infinity, "data": "QUJD"}',
        b'["data": "QUJD"]',
        b'{"x" {"data": "QUJD"}',
        b"[" * 100_000,
        b'{"n": ' + b"9" * 5_000 + b"}",
        b'{"data": "\xff", "x": "\xff"}',
    ],
    ids=range(16),
)
@pytest.mark.parametrize("size", [1, 9, 1_000_000])
def test_what_is_no_json(content: bytes, size: int) -> None:
    """What is no JSON is nothing: cut off, garbled, nested too deep, or with what Python alone calls a number."""
    assert read_json(pieces(content, size)) is None
