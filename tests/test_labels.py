"""Labels: the mirrored label list follows Gmail's, and nothing is written that did not change."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror.documents import to_document
from mailmirror.labels import (
    ABSENT,
    GONE,
    LEAVING,
    UNLISTED,
    UNREAD,
    colored,
    is_listed,
    missing,
    never_listed,
    refresh,
    unknown,
)
from mailmirror.model import Color, Label
from mailmirror.slice import Write

INBOX = Label("INBOX", "INBOX", "system")
WORK = Label("Label_1", "Work")
HOME = Label("Label_2", "Home", message_list_visibility="hide", label_list_visibility="labelShow")

VISIBILITY = st.sampled_from([None, "show", "hide"])
LISTINGS = st.lists(
    st.builds(Label, st.sampled_from(["A", "B", "C"]), st.sampled_from(["x", "y"]), st.just("user"), VISIBILITY),
    unique_by=lambda label: label.id,
)


def put(label: Label) -> Write:
    """The write of a label document."""
    return Write("put", ("labels", label.id), to_document(label))


def after(*labels: Label) -> Mapping[str, str]:
    """The fingerprints after these labels were listed."""
    return refresh(labels, {})[1]


def test_first_listing() -> None:
    """Every label is written when none is known."""
    writes, known = refresh([INBOX, WORK, HOME], {})
    assert writes == [put(INBOX), put(WORK), put(HOME)]
    assert known.keys() == {"INBOX", "Label_1", "Label_2"}
    assert all(known.values())


def test_unchanged_listing() -> None:
    """Nothing is written when nothing changed, in whatever order the labels are listed."""
    known = after(INBOX, WORK, HOME)
    assert refresh([HOME, WORK, INBOX], known) == ([], known)


def test_changed_labels() -> None:
    """A label that was renamed, recoloured or is shown otherwise is written again, and only that one."""
    known = after(INBOX, WORK, HOME)
    for changed in (
        replace(WORK, name="Office"),
        replace(WORK, type="system"),
        replace(WORK, message_list_visibility="hide"),
        replace(WORK, label_list_visibility="labelHide"),
        replace(WORK, color=Color("#ffffff", "#000000")),
    ):
        writes, now = refresh([INBOX, changed, HOME], known)
        assert writes == [put(changed)]
        assert now["Label_1"] != known["Label_1"]
        assert (now["INBOX"], now["Label_2"]) == (known["INBOX"], known["Label_2"])


def test_a_colour_that_was_not_read() -> None:
    """It stays as it is mirrored; what is mirrored of a label's other fields does not matter, nor another colour."""
    red, unread = Color("#ffffff", "#cc3a21"), replace(WORK, color=UNREAD)
    assert colored(unread, to_document(replace(WORK, name="Old", color=red))) == replace(WORK, color=red)
    assert colored(unread, to_document(WORK)) == WORK
    assert colored(unread, None) == WORK
    assert colored(WORK, to_document(replace(WORK, color=red))) == WORK
    assert colored(replace(WORK, color=red), to_document(WORK)) == replace(WORK, color=red)


def test_deleted_label() -> None:
    """A label that its user seems to have deleted loses its document, once, and a message is to be asked for."""
    writes, known = refresh([INBOX], after(INBOX, WORK), deleted={"Label_1"})
    assert writes == [Write("delete", ("labels", "Label_1"))]
    assert known == {**after(INBOX), "Label_1": ABSENT}
    assert refresh([INBOX], known) == ([], known)
    sure = {**known, "Label_1": LEAVING}
    assert refresh([INBOX], sure) == ([], sure)
    done = {**known, "Label_1": GONE}
    assert refresh([INBOX], done) == ([], done)


def test_a_label_of_gmails_own_that_is_not_listed() -> None:
    """It loses its document and is not taken off anything."""
    writes, known = refresh([], after(INBOX))
    assert writes == [Write("delete", ("labels", "INBOX"))]
    assert known == {"INBOX": UNLISTED}


@pytest.mark.parametrize("became", [ABSENT, LEAVING, GONE])
def test_label_that_comes_back(became: str) -> None:
    """A label that Gmail lists again is written again, and is not taken off any more."""
    known = {**after(INBOX), "Label_1": became}
    assert refresh([INBOX, WORK], known) == ([put(WORK)], after(INBOX, WORK))


def test_label_that_is_gone_and_carried() -> None:
    """A message that is brought with a label that is gone makes Gmail be asked, for the list and for a message."""
    known = {**after(INBOX), "Label_1": GONE}
    assert unknown(known, ["INBOX", "Label_1"])
    assert refresh([INBOX], known, ["Label_1"]) == ([], {**known, "Label_1": ABSENT})


def test_label_that_gmail_does_not_list() -> None:
    """A label that messages carry and Gmail does not list is remembered without a document, and not asked for again."""
    writes, known = refresh([INBOX], {}, ["INBOX", "Label_9"])
    assert writes == [put(INBOX)]
    assert known == {**after(INBOX), "Label_9": UNLISTED}
    assert refresh([INBOX], known, ["Label_9"]) == ([], known)
    assert unknown({}, ["Label_9"])
    assert not unknown(known, ["INBOX", "Label_9"])


def test_what_is_missing() -> None:
    """Missing is what had a document; never listed is what looks like a user's own label and had none."""
    known = {**after(INBOX, WORK, HOME), "Label_3": UNLISTED, "CHAT": UNLISTED, "Label_4": LEAVING, "Label_5": GONE}
    assert missing([INBOX, HOME], known) == {"Label_1"}
    assert never_listed([INBOX, HOME], known) == {"Label_3"}
    assert never_listed([replace(WORK, id="Label_3")], known) == set()
    listed = [label_id for label_id in known if is_listed(known, label_id)]
    assert listed == ["INBOX", "Label_1", "Label_2"]


@given(st.lists(st.tuples(LISTINGS, st.lists(st.sampled_from(["A", "B", "C", "D"]))), min_size=1, max_size=5))
def test_documents_are_the_last_listing(listings: list[tuple[list[Label], list[str]]]) -> None:
    """After any listings the documents are those of the last one, and every label ever seen is known."""
    known: Mapping[str, str] = {}
    documents: dict[str, Any] = {}
    seen: set[str] = set()
    for listed, used in listings:
        writes, known = refresh(listed, known, used)
        for write in writes:
            if write.kind == "delete":
                del documents[write.path[1]]
            else:
                assert documents.get(write.path[1]) != write.data
                documents[write.path[1]] = write.data
        seen |= {label.id for label in listed} | set(used)
        assert documents == {label.id: to_document(label) for label in listed}
        assert known.keys() == seen
