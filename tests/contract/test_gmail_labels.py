"""Labels and their colours, over real HTTP."""

import json

import pytest
from mailmirror.adapters.gmail import client
from mailmirror.labels import UNREAD
from mailmirror.model import Color

from tests.contract.gmail import Fake, Script

GET = "users.labels.get"


def test_colours(fake: Fake) -> None:
    """The user's own labels come with their colours, for one unit each beside the list; Gmail's own have none."""
    red = {"textColor": "#ffffff", "backgroundColor": "#cc3a21"}
    work, home = fake.alice.create_label("Work"), fake.alice.create_label("Home")
    fake.alice.recolor_label(work, red)
    client_ = fake.open()
    labels = {label.id: label for label in client_.labels()}
    assert labels[work].color == Color("#ffffff", "#cc3a21")
    assert labels[home].color is None
    assert labels["INBOX"].color is None
    assert client_.spent == fake.units() == 1 + 2
    fake.alice.recolor_label(work, None)
    assert {label.color for label in fake.open().labels()} == {None}


def test_colours_that_the_list_tells(fake: Fake) -> None:
    """Where the list tells colours nothing else is asked."""
    work, _ = fake.alice.create_label("Work"), fake.alice.create_label("Home")
    fake.alice.recolor_label(work, {"textColor": "#000000", "backgroundColor": "#ffffff"})
    fake.alice.lists_colors = True
    client_ = fake.open()
    assert {label.id: label.color for label in client_.labels()}[work] == Color("#000000", "#ffffff")
    assert client_.spent == fake.units() == 1


def test_labels_that_cannot_be_asked_for(fake: Fake) -> None:
    """A label that is deleted meanwhile, or that Gmail does not tell, is there, and said to be without its colour."""
    gone, poor, fine = (fake.alice.create_label(name) for name in ("Gone", "Poor", "Fine"))
    fake.alice.recolor_label(fine, {"textColor": "#000000", "backgroundColor": "#ffffff"})
    fake.faults(GET, {"id": gone, "status": 404, "times": -1}, {"id": poor, "status": 500, "times": -1})
    labels = {label.id: label for label in fake.open().labels()}
    assert [labels[i].name for i in (gone, poor, fine)] == ["Gone", "Poor", "Fine"]
    assert [labels[i].color for i in (gone, poor)] == [UNREAD, UNREAD]
    assert labels[fine].color not in (None, UNREAD)


def test_very_many_labels(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more labels than are asked for in ten seconds the colours are left out, and nothing else is."""
    for number in range(6):
        fake.alice.create_label(f"Label {number}")
    client_ = fake.open()
    monkeypatch.setattr(client, "COLORED", 6)
    client_.labels()
    assert client_.spent == 1 + 6
    monkeypatch.setattr(client, "COLORED", 5)
    assert len([label for label in client_.labels() if label.type == "user"]) == 6
    assert client_.spent == 1 + 6 + 1


@pytest.mark.parametrize(
    "color",
    [
        "red",
        5,
        [],
        {},
        {"textColor": "#000000"},
        {"textColor": "#00000", "backgroundColor": "#ffffff"},
        {"textColor": None, "backgroundColor": "#ffffff"},
        {"textColor": "#000000", "backgroundColor": "#gggggg"},
    ],
)
def test_colours_that_are_none(color: object) -> None:
    """What is no colour is none."""
    label = {"id": "Label_1", "name": "Work", "type": "user", "color": color}
    with Script((200, {}, json.dumps({"labels": [label]}).encode()), (200, {}, json.dumps(label).encode())) as script:
        (found,) = script.open().labels()
    assert (found.name, found.color) == ("Work", None)
