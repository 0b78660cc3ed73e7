"""How much a commit may hold, and that the estimate never says less than the truth."""

from datetime import UTC, datetime

from google.cloud.firestore_v1 import _helpers
from google.cloud.firestore_v1.types import Document as DocumentMessage
from hypothesis import given
from hypothesis import strategies as st
from mailmirror.slice import MAX_BYTES, MAX_WRITES, MIRROR_BYTES, MIRROR_WRITES, weigh

KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(st.characters(codec="utf-8"))
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
)


def _size(document: dict[str, object]) -> int:
    fields = {key: _helpers.encode_value(value) for key, value in document.items()}
    return int(DocumentMessage.pb(DocumentMessage(fields=fields)).ByteSize())


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_weight_is_never_too_little(document: dict[str, object]) -> None:
    """No document is larger in a request than its weight."""
    assert weigh(document) >= _size(document)


def test_weight_of_long_text_is_close() -> None:
    """Text, which is what makes documents large, weighs its UTF-8 bytes and little more."""
    for text in ("x" * 100_000, "ä€" * 20_000):
        size = len(text.encode())
        assert size <= weigh({"text": text}) < size + 100


def test_weight_of_the_other_values() -> None:
    """Sets weigh like lists, times and numbers a fixed amount."""
    assert weigh(frozenset({"ab"})) == weigh(["ab"]) == weigh(("ab",)) == 34
    assert weigh(datetime(2026, 1, 1, tzinfo=UTC)) == 32
    assert weigh(None) == weigh(2**63 - 1) == weigh(1.5) == weigh(b"") == 16


def test_limits_leave_a_reserve() -> None:
    """The mirror's share leaves room for the other documents of a commit, and all of it for what Firestore takes."""
    assert MIRROR_WRITES < MAX_WRITES <= 500
    assert MIRROR_BYTES < MAX_BYTES < 4_000_000
