"""Addresses: everybody a header names, however it is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror.addresses import read_addresses
from mailmirror.model import Address


def _read(value: str) -> list[tuple[str, str]]:
    return [(person.name, person.address) for person in read_addresses(value)]


@pytest.mark.parametrize(
    ("value", "people"),
    [
        ("alice@example.com", [("", "alice@example.com")]),
        ("<alice@example.com>", [("", "alice@example.com")]),
        ("Alice <Alice@EXAMPLE.com>", [("Alice", "alice@example.com")]),
        ('"Alice" <a@b>, Bob <c@d>', [("Alice", "a@b"), ("Bob", "c@d")]),
        ('"Doe, John" <a@b>, c@d', [("Doe, John", "a@b"), ("", "c@d")]),
        (r'"A \"quoted\" \\ one" <a@b>', [('A "quoted" \\ one', "a@b")]),
        ("Alice A. Smith <a@b>", [("Alice A. Smith", "a@b")]),
        ("folded\r\n\t<a@b>,\r\n <c@d>", [("folded", "a@b"), ("", "c@d")]),
        ("a@b (Alice)", [("Alice", "a@b")]),
        ("a@b (Alice (of two))", [("Alice (of two)", "a@b")]),
        ("Alice (who else) <a@b> (her again)", [("Alice", "a@b")]),
        ("<@one.example,@two.example:a@b>", [("", "a@b")]),
        ('"joe bloggs"@example.com', [("", '"joe bloggs"@example.com')]),
        ("a@[192.0.2.1], b@[IPv6:2001:db8::1]", [("", "a@[192.0.2.1]"), ("", "b@[ipv6:2001:db8::1]")]),
        ("jörg@bücher.example", [("", "jörg@bücher.example")]),
        # Groups are their members.
        ("team: a@b, Bob <c@d>;", [("", "a@b"), ("Bob", "c@d")]),
        ('one: a@b;, "two": c@d;, e@f', [("", "a@b"), ("", "c@d"), ("", "e@f")]),
        ("undisclosed-recipients:;", []),
        # A bracket alone, or an encoded word that says nothing, is nobody.
        (">", []),
        ("a@b, >, c@d", [("", "a@b"), ("", "c@d")]),
        ("=?utf-8?q??=; a@b", [("", "a@b")]),
        ("Undisclosed recipients:;", []),
        # Encoded words are decoded after the list has been taken apart.
        ("=?utf-8?q?Doe=2C_J=C3=B6rg?= <a@b>, c@d", [("Doe, Jörg", "a@b"), ("", "c@d")]),
        ("=?utf-8?q?J=C3=B6?= =?utf-8?q?rg?= <a@b>", [("Jörg", "a@b")]),
        ('"=?utf-8?q?J=C3=B6rg?=" <a@b>', [("Jörg", "a@b")]),
        ("=?utf-8?Q?Sales_(North),_<EU>:_one?= <a@b>", [("Sales (North), <EU>: one", "a@b")]),
        ("=?utf-8?q?two=0Alines?= <a@b>", [("two lines", "a@b")]),
        ("=?utf-8?b?!?= <a@b>", [("=?utf-8?b?!?=", "a@b")]),
        ("a@b (=?utf-8?q?J=C3=B6rg?=)", [("Jörg", "a@b")]),
        # Gmail shows encoded words decoded, without the quotes that a comma would need.
        ("Doe, Jörg <a@b>, Roe, R., PhD <c@d>", [("Doe, Jörg", "a@b"), ("Roe, R., PhD", "c@d")]),
        # What is no address list is read as well as it can be.
        ("Alice alice@example.com", [("Alice", "alice@example.com")]),
        ("a@b c@d", [("", "a@b"), ("", "c@d")]),
        ("a@b; c@d", [("", "a@b"), ("", "c@d")]),
        ("a @ b", [("", "a@b")]),
        ("Alice <a@b", [("Alice", "a@b")]),
        ("Alice <a@b, Bob <c@d>", [("Alice", "a@b"), ("Bob", "c@d")]),
        ("Alice <a@b, c@d>", [("Alice", "a@b"), ("", "c@d")]),
        ("Alice <<a@b>>, <c@d>>", [("Alice", "a@b"), ("", "c@d")]),
        ("Alice <a@b> <c@d>", [("Alice", "a@b"), ("", "c@d")]),
        ("<mailto:a@b>, MAILTO:c@d", [("", "a@b"), ("", "c@d")]),
        ("a@b <A@b>", [("a@b", "a@b")]),
        ('"Alice <a@b>', [('"Alice', "a@b")]),
        ('"Bob O"Neil" <a@b>, Al <c@d>', [('Bob ONeil"', "a@b"), ("Al", "c@d")]),
        ("Alice :-( <a@b>", [("Alice :-(", "a@b")]),
        ("Re: Alice <a@b>", [("Re: Alice", "a@b")]),
        ("undisclosed-recipients:", []),
        ("team: a@b, c@d", [("team:", "a@b"), ("", "c@d")]),
        ("Alice (never closed <a@b>", [("Alice (never closed", "a@b")]),
        ("root", [("", "root")]),
        ('root, "Ann" <a@b>', [("", "root"), ("Ann", "a@b")]),
        ("root, daemon", [("", "root"), ("", "daemon")]),
        ("no address at all", [("no address at all", "")]),
        ('"Alice" <>', [("Alice", "")]),
        ("< a @ b >", [("", "a@b")]),
        ("Alice \\( <a@b>", [("Alice (", "a@b")]),
        ("lone \ud83d <a@b>", [("lone \ufffd", "a@b")]),
        ("", []),
        ("<>", []),
        (" , ;,, ", []),
        (":::", []),
    ],
)
def test_people(value: str, people: list[tuple[str, str]]) -> None:
    """Whoever a header names is found, with the name as shown and the address in lower case."""
    assert _read(value) == people


def test_many_pieces_are_no_name() -> None:
    """Bare words in a row are names of local users, not the beginning of a long name."""
    assert _read("a, b, c, d, E <e@f>") == [("", "a"), ("", "b"), ("", "c"), ("", "d"), ("E", "e@f")]


def test_five_thousand() -> None:
    """A list of 5,000 recipients is read whole."""
    value = ",\r\n ".join(f'"Person, Number {number}" <Person.{number}@Example.com>' for number in range(5_000))
    people = list(read_addresses(value))
    assert people[0] == Address("Person, Number 0", "person.0@example.com")
    assert people[-1] == Address("Person, Number 4999", "person.4999@example.com")
    assert len(people) == 5_000


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)
PLACES = st.from_regex(r"[a-z0-9.+_-]{1,20}@[a-z0-9.-]{1,20}", fullmatch=True)


@given(st.lists(st.tuples(NAMES, PLACES), max_size=5))
def test_quoted_names_come_back(people: list[tuple[str, str]]) -> None:
    """What is written as a list of quoted names and addresses is read as it was, whatever the names hold."""
    people = [(name, place) for name, place in people if "=?" not in name]
    escaped = [(name.replace("\\", "\\\\").replace('"', '\\"'), place) for name, place in people]
    assert _read(", ".join(f'"{name}" <{place}>' for name, place in escaped)) == people


@given(st.text(st.sampled_from('a@b.,;:<>()[]"\\=?utf-8q \r\n\t\ud800ü')))
def test_anything_is_read(value: str) -> None:
    """Whatever stands in a header, each name and address can be stored, is on one line and stands for something."""
    for person in read_addresses(value):
        assert person.name or person.address
        assert "\n" not in f"{person.name}{person.address}".encode().decode()
        assert person.address == person.address.lower()


@pytest.mark.parametrize(
    "piece",
    [
        '"',
        ' "',
        ' "\\',
        "(",
        ")",
        "<",
        ">",
        "\\",
        "@",
        ",",
        ";",
        ":",
        "[",
        "=",
        "=?",
        '"\\',
        "(\\",
        "a@b ",
        '"a',
        '"a" ',
        "<a",
        "a:",
        "<@",
        "\r\n",
        " ",
        '""@',
        "<a,",
        "(()",
        "@[",
        "=?u?q?",
        "=?u?q?x?= ",
        '"," ',
        "(a)(",
        "<a>",
    ],
)
@pytest.mark.timeout(20)
def test_one_pass(piece: str) -> None:
    """The time grows with the length of the header: a quarter of a megabyte of anything is read."""
    assert len(list(read_addresses("a@b, " + piece * (250_000 // len(piece)) + ";"))) <= 125_001
