"""A policy as people write it: what is understood, and the sentence for what is not."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror.documents import to_document
from mailmirror.errors import InvalidInput
from mailmirror.model import Policy
from mailmirror.policy import read_policy

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)

FULL = Policy(
    include_spam_trash=False,
    drafts=True,
    label_ids=("INBOX", "Label_17"),
    exclude_label_ids=("CATEGORY_PROMOTIONS",),
    since=NEW_YEAR,
    newest_days=90,
    bodies=False,
)


def test_no_policy() -> None:
    """Nothing given is no policy; an empty one is the default."""
    assert read_policy(None) is None
    assert read_policy({}) == Policy()


def test_every_field() -> None:
    """Every field is read, and what is absent takes its default."""
    given = {
        "includeSpamTrash": False,
        "drafts": True,
        "labelIds": ["INBOX", "Label_17"],
        "excludeLabelIds": ["CATEGORY_PROMOTIONS"],
        "since": "2026-01-01",
        "newestDays": 90,
        "bodies": False,
    }
    assert read_policy(given) == FULL
    for name in given:
        assert read_policy({other: value for other, value in given.items() if other != name}) not in (FULL, Policy())


def test_a_policy_is_read_as_it_is_shown() -> None:
    """What a mailbox document shows of its policy can be given again, and is the same policy."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    for shown in (FULL, replace(FULL, since=moment), Policy()):
        document = json.loads(json.dumps(to_document(shown), default=datetime.isoformat))
        assert read_policy(document) == shown


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("2026-01-01", NEW_YEAR),
        ("2026-01-01T00:00:00Z", NEW_YEAR),
        ("2026-01-01t01:30:00+01:30", NEW_YEAR),
        ("2026-01-01t00:00:00z", NEW_YEAR),
        (
            "2025-12-31T23:59:59.999999Z",
            NEW_YEAR.replace(year=2025, month=12, day=31, hour=23, minute=59, second=59, microsecond=999_999),
        ),
        ("2025-12-31T16:00:00-08:00", NEW_YEAR),
        ("1970-01-01", datetime(1970, 1, 1, tzinfo=UTC)),
        ("9999-12-31", datetime(9999, 12, 31, tzinfo=UTC)),
    ],
)
def test_since(text: str, since: datetime) -> None:
    """A date is its midnight in UTC; a time is of the zone that it names; both may be in the future."""
    policy = read_policy({"since": text})
    assert policy is not None
    assert policy.since == since
    assert policy.since.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    ["", "yesterday", "2026-1-1", "20260101", "2026-02-30", "2026-01-01T00:00:00", "2026-01-01T00:00Z", "2026-W01-1",
     "1969-12-31", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "2026-01-01T25:00:00Z", "٢٠٢٦-01-01",
     "2026-01-01\n", 1767225600, True, ["2026-01-01"], {}],
)  # fmt: skip
def test_no_since(value: object) -> None:
    """What is no date, or a time that could be anywhere's, is refused with an example."""
    with pytest.raises(InvalidInput, match=r'since must be a date from 1970 on, "2026-01-31"'):
        read_policy({"since": value})


def test_newest_days() -> None:
    """A whole number of days, from one to a hundred years."""
    for days in (1, 90, 36_500):
        assert read_policy({"newestDays": days}) == Policy(newest_days=days)
    assert read_policy({"newestDays": None}) == Policy()


@pytest.mark.parametrize("value", [0, -1, 36_501, 10**30, 1.0, 90.5, "90", "", True, False, [90], {}])
def test_no_newest_days(value: object) -> None:
    """What is no such number is refused, with the numbers that are."""
    with pytest.raises(InvalidInput, match="newestDays must be a whole number from 1 to 36500"):
        read_policy({"newestDays": value})


NOON = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("policy", "since"),
    [
        (Policy(), None),
        (Policy(since=NEW_YEAR), NEW_YEAR),
        (Policy(newest_days=1), datetime(2026, 11, 19, tzinfo=UTC)),
        (Policy(newest_days=30), datetime(2026, 10, 21, tzinfo=UTC)),
        (Policy(newest_days=36_500), datetime(1970, 1, 1, tzinfo=UTC)),
        (Policy(newest_days=30, since=NEW_YEAR), datetime(2026, 10, 21, tzinfo=UTC)),
        (Policy(newest_days=3_000, since=NEW_YEAR), NEW_YEAR),
    ],
)
def test_a_policy_today(policy: Policy, since: datetime | None) -> None:
    """The newest days are those from so many midnights ago on, in UTC, all day long; of two times the later counts."""
    for moment in (NOON, NOON.replace(hour=0, minute=0), NOON.replace(hour=23, minute=59)):
        assert policy.at(moment) == replace(policy, since=since, newest_days=None)
    assert policy.at(NOON.astimezone(timezone(timedelta(hours=-11)))) == policy.at(NOON)


@pytest.mark.parametrize("name", ["labelIds", "excludeLabelIds"])
@pytest.mark.parametrize(
    "value", ["INBOX", None, 1, {}, [""], [" "], ["IN BOX"], [1], [None], [["INBOX"]], ["\ud800"], ["a/b"], ["x" * 256]]
)
def test_no_labels(name: str, value: object) -> None:
    """Label ids are a list of non-empty text without blanks, and what no document can hold is not taken."""
    with pytest.raises(InvalidInput, match=f"{name} must be a list of label ids"):
        read_policy({name: value})


def test_labels() -> None:
    """A label named twice counts once; there is a most of them."""
    policy = read_policy({"labelIds": ["B", "A", "B"]})
    assert policy is not None
    assert policy.label_ids == ("B", "A")
    ids = [f"Label_{number}" for number in range(101)]
    assert read_policy({"labelIds": ids[:100]}) is not None
    with pytest.raises(InvalidInput, match="labelIds must have at most 100"):
        read_policy({"labelIds": ids})


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ({"labelIds": ["INBOX", "Label_1"], "excludeLabelIds": ["Label_1"]}, "Label_1"),
        ({"labelIds": ["DRAFT"]}, "DRAFT"),
        ({"labelIds": ["SPAM"], "includeSpamTrash": False}, "SPAM"),
    ],
)
def test_a_policy_that_leaves_out_what_it_asks_for(given: dict[str, Any], label: str) -> None:
    """A policy under which a label that is asked for can never come is a mistake, not an empty mirror."""
    with pytest.raises(InvalidInput, match=f"labelIds has '{label}', which this very policy leaves out"):
        read_policy(given)


@pytest.mark.parametrize("name", ["includeSpamTrash", "drafts", "bodies"])
@pytest.mark.parametrize("value", ["true", 1, 0, None, [], {}])
def test_no_flag(name: str, value: object) -> None:
    """A flag is true or false, and nothing that resembles it."""
    with pytest.raises(InvalidInput, match=f"{name} must be true or false"):
        read_policy({name: value})


@pytest.mark.parametrize("given", [[], "all", 1, True])
def test_no_object(given: object) -> None:
    """A policy is an object."""
    with pytest.raises(InvalidInput, match="A policy is an object"):
        read_policy(given)


def test_an_unknown_field() -> None:
    """A name that no policy has is refused with those it may have, not left out in silence."""
    with pytest.raises(InvalidInput, match="no 'label_ids'; it may have includeSpamTrash, drafts, labelIds"):
        read_policy({"label_ids": ["INBOX"]})
    with pytest.raises(InvalidInput) as refused:
        read_policy({"\ud800" * 1000: 1})
    assert len(str(refused.value).encode()) < 1000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(["includeSpamTrash", "drafts", "labelIds", "excludeLabelIds", "since", "newestDays", "bodies"]),
        json_values,
    )
)
def test_whatever_json_it_is(given: dict[str, Any]) -> None:
    """Whatever is given, it is a policy or a mistake that is told in a sentence."""
    try:
        policy = read_policy(given)
    except InvalidInput as refused:
        assert str(refused).endswith(".")  # noqa: PT017 -- whichever of the two it is
    else:
        assert isinstance(policy, Policy)
