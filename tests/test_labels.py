"""Labels: the mirrored label list follows Gmail's, and nothing is written that did not change."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from mailmirror.documents import to_document
from mailmirror.labels import refresh
from mailmirror.model import Label
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
    """A label that was renamed, or is shown otherwise, is written again, and only that one."""
    known = after(INBOX, WORK, HOME)
    for changed in (
        replace(WORK, name="Office"),
        replace(WORK, type="system"),
        replace(WORK, message_list_visibility="hide"),
        replace(WORK, label_list_visibility="labelHide"),
    ):
        writes, now = refresh([INBOX, changed, HOME], known)
        assert writes == [put(changed)]
        assert now["Label_1"] != known["Label_1"]
        assert (now["INBOX"], now["Label_2"]) == (known["INBOX"], known["Label_2"])


def test_deleted_label() -> None:
    """A label that Gmail does not list any more is deleted, once, and remembered as asked for."""
    writes, known = refresh([INBOX], after(INBOX, WORK))
    assert writes == [Write("delete", ("labels", "Label_1"))]
    assert known == {**after(INBOX), "Label_1": ""}
    assert refresh([INBOX], known) == ([], known)


def test_label_that_comes_back() -> None:
    """A label that Gmail lists again is written again."""
    _, gone = refresh([INBOX], after(INBOX, WORK))
    assert refresh([INBOX, WORK], gone) == ([put(WORK)], after(INBOX, WORK))


def test_label_that_gmail_does_not_list() -> None:
    """A label that messages carry and Gmail does not list is remembered without a document."""
    writes, known = refresh([INBOX], {}, ["INBOX", "Label_9"])
    assert writes == [put(INBOX)]
    assert known == {**after(INBOX), "Label_9": ""}
    assert refresh([INBOX], known, ["Label_9"]) == ([], known)


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
