"""Each message that is read otherwise than Python's `email` reads it, and why. A line that is not needed is an error.

There are three kinds of lines: `Leaves` tells of which parts the text or the HTML is made where Python takes one part
alone, and Python still tells what they say; `Lower` is an address in lower case; `Instead` is what the message says
where Python is wrong, or where we differ on purpose.
"""

from dataclasses import dataclass
from typing import Any

from tests.corpus.oracle import digest
from tests.corpus.texts import BOMB


@dataclass(frozen=True)
class Leaves:
    """The text or the HTML is made of these leaves."""

    why: str
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Lower:
    """The addresses are those that Python finds, in lower case."""

    why: str = "addresses are compared in lower case by everybody"


@dataclass(frozen=True)
class Instead:
    """This is what the message says.

    Attributes:
        why: what Python makes of it.
        value: what is right.
        newer: whether newer Pythons find the same, so that the line is not needed everywhere.
    """

    why: str
    value: Any
    newer: bool = False


_ALL = "all texts of a message are its text, not the first alone"
_BOTH = "what stands beside an alternative belongs to both of its forms"
_FILE = "a text with a file name is a file"
_COMMENT = "an address without a name has that in the comment behind it"
_NAMES = "Python takes the characters of no name for an address, `<>`"
_BYTES = "Python leaves bytes that are no ASCII as they are"
_FLOWED = "Python does not know format=flowed"
_FEW = "bytes of which nothing is known are read as browsers read them, so that none is lost"
_UTF8 = "bytes that are UTF-8 are that, whatever is said of them: Gmail decodes texts and keeps their headers"
_LARGER = "senders name a charset and use the larger one that holds it, as browsers know"
_LOCAL = "the local Gmail shows it so"
_LOST = "what cannot be had as a whole is named"

JOHN = [("John X. Doe", "bbb@ddd.com")]
BARRY = [("Barry A. Warsaw", "barry@python.org")]
CAROL = ("", "carol@example.org")


def _read_by_browsers(data: bytes) -> str:
    """Bytes as windows-1252, those that it has no character for as what they are."""
    return "".join(
        bytes([byte]).decode("cp1252" if byte not in b"\x81\x8d\x8f\x90\x9d" else "latin-1") for byte in data
    )


EXCEPTIONS: dict[str, dict[str, Leaves | Lower | Instead]] = {
    # CPython's own.
    "msg_01": {"from": Instead(_COMMENT, JOHN)},
    "msg_02": {"text": Leaves(_ALL, (0, 1, 7))},
    "msg_03": {"from": Instead(_COMMENT, JOHN)},
    "msg_04": {"from": Instead(_COMMENT, BARRY), "text": Leaves(_FILE, ())},
    "msg_05": {"text": Leaves(_ALL, (0, 1))},
    "msg_06": {"from": Instead(_COMMENT, BARRY)},
    "msg_10": {"text": Leaves(_ALL, (0, 1, 2, 3, 4)), "html": Leaves(_ALL, (0, 1, 2, 3, 4))},
    "msg_13": {"text": Leaves(_ALL, (0, 1))},
    "msg_14": {"from": Instead(_COMMENT, JOHN)},
    "msg_15": {
        "to": Lower(),
        "text": Leaves(_ALL, (1, 2)),
        "html": Leaves(_ALL, (1, 2)),
    },
    "msg_20": {"from": Instead(_COMMENT, JOHN)},
    "msg_21": {"text": Leaves(_ALL, (0, 1))},
    "msg_22": {"text": Leaves(_ALL, (0, 3))},
    "msg_25": {"from": Lower()},
    "msg_27": {
        "from": Instead(_COMMENT, [("Anne P. Erson", "aperson@dom.ain")]),
        "to": Instead(_COMMENT, [("Barney P. Erson", "bperson@dom.ain")]),
    },
    "msg_29": {"from": Instead(_COMMENT, JOHN)},
    "msg_33": {"text": Leaves(_ALL, (0, 1))},
    "msg_36": {"from": Lower()},
    "msg_38": {"text": Leaves(_ALL, (0, 1, 2, 3))},
    "msg_43": {"from": Instead(_NAMES, [("MAILER DAEMON", "")], newer=True)},
    "msg_44": {"from": Instead(_COMMENT, BARRY), "text": Leaves(_FILE, ())},
    "msg_47": {"text": Leaves(_ALL, (0, 1)), "html": Leaves(_ALL, (0, 1))},
    # Several texts.
    "structure-alternative-blank-plain": {"text": Leaves("a blank text beside HTML is no form of it", (0,))},
    "structure-mixed-of-three-texts": {"text": Leaves(_ALL, (0, 1, 2))},
    "structure-mixed-html-and-text": {"text": Leaves(_ALL, (0, 1)), "html": Leaves(_ALL, (0, 1))},
    "structure-mixed-with-an-empty-text": {"text": Leaves(_ALL, (0,))},
    "structure-list-footer": {"text": Leaves(_ALL, (0, 1))},
    "structure-list-footer-below-alternative": {"text": Leaves(_BOTH, (0, 2)), "html": Leaves(_BOTH, (1, 2))},
    "structure-list-header-and-footer": {"text": Leaves(_BOTH, (0, 1, 3)), "html": Leaves(_BOTH, (0, 2, 3))},
    "structure-parallel": {"text": Leaves(_ALL, (0, 1))},
    "structure-apple-text-picture-text": {"text": Leaves(_ALL, (0, 2))},
    "structure-apple-html-picture-html": {"html": Leaves(_ALL, (1, 3))},
    "structure-pgp-signed-on-a-list": {"text": Leaves(_ALL, (0, 2))},
    "structure-boundary-of-the-outer": {"text": Leaves(_BOTH, (0, 2)), "html": Leaves(_BOTH, (1, 2))},
    "structure-no-blank-line-in-a-part": {"text": Leaves(_ALL, (0, 1))},
    "large-texts-500": {"text": Leaves(_ALL, tuple(range(500)))},
    # Charsets.
    "text-8-bit-undeclared": {"text": Instead(_FEW, "Grüße an alle\r\n")},
    "text-8-bit-utf-8-undeclared": {"text": Instead(_UTF8, "Grüße\r\n")},
    "text-8-bit-called-ascii": {"text": Instead(_LARGER, "Grüße an alle\r\n")},
    "text-utf-8-called-latin-1": {"text": Instead(_UTF8, "Grüße\r\n")},
    "text-windows-1252-called-latin-1": {"text": Instead(_LARGER, "“quoted” € 100\r\n")},
    "text-gb18030-called-gb2312": {"text": Instead(_LARGER, "镕€ 中文\r\n")},
    "text-cp932-called-shift-jis": {"text": Instead(_LARGER, "①髙 日本\r\n")},
    "text-charset-unknown": {"text": Instead(_UTF8, "Grüße\r\n")},
    "text-charset-in-html-alone": {
        "text": Instead("HTML says itself what it is in", "<p>Привет</p>"),
        "html": Instead("HTML says itself what it is in", '<meta charset="koi8-r"><p>Привет</p>\r\n'),
    },
    "text-byte-order-mark": {"text": Instead("a byte order mark is no text", "Grüße\r\n")},
    "text-bomb-in-a-transfer-encoding": {"text": Instead(_FEW, _read_by_browsers(BOMB))},
    "text-bomb-in-a-content-encoding": {"text": Instead(_FEW, _read_by_browsers(BOMB))},
    "text-bomb-called-zlib": {"text": Instead(_FEW, _read_by_browsers(BOMB))},
    # Flowed texts.
    "text-flowed": {"text": Instead(_FLOWED, "one two three\r\n\r\nfour\r\n")},
    "text-flowed-del-sp": {"text": Instead(_FLOWED, "onetwothree\r\n")},
    "text-flowed-quotes": {"text": Instead(_FLOWED, "> one two\r\n>> deeper still\r\nanswer\r\n")},
    "text-flowed-stuffed": {"text": Instead(_FLOWED, "Hello,\r\nFrom me\r\n>not quoted\r\n indented\r\n")},
    "text-flowed-signature": {"text": Instead(_FLOWED, "text\r\n-- \r\nAnn Smith\r\n")},
    # People.
    "header-to-capitals": {"to": Lower()},
    "header-to-encoded": {
        "to": Instead("Python adds a space between encoded words", [("Jörg Müller", "j@example.org")], newer=True),
    },
    "header-to-encoded-in-halves": {"to": Instead(_LOCAL, [("J\ufffd\ufffdrg", "j@example.org")])},
    "header-to-comment": {"to": Instead(_COMMENT, [("Bob Smith", "bob@example.org")])},
    "header-to-without-brackets": {
        "to": Instead("Python takes the name for a part of the address", [("Bob Smith", "bob@example.org")]),
    },
    "header-to-quote-open": {
        "to": Instead("Python takes everything after the quote for a name", [('"Bob', "bob@example.org")]),
    },
    "header-to-semicolons": {
        "to": Instead("Python does not know lists as Outlook writes them", [("", "bob@example.org"), CAROL]),
    },
    "header-to-comma-unquoted": {
        "to": Instead("a name may hold a comma where Gmail shows it decoded", [("Smith, Bob", "bob@example.org")]),
    },
    "header-to-address-as-name": {
        "to": Instead("Python takes the name for the address", [("bob@example.org", "bob@example.org")]),
    },
    "header-to-international": {"to": Instead(_BYTES, [("", "jörg@bücher.example")])},
    "header-to-in-8-bit-utf-8": {"to": Instead(_BYTES, [("Jörg", "j@example.org")])},
    "header-to-in-8-bit-latin-1": {"to": Instead(_BYTES, [("J\ufffdrg", "j@example.org")])},
    "header-from-two": {
        "from": Instead("the first author is the sender", [("", "a@example.com")]),
        "truncated": Instead(_LOST, ("headers.from",)),
    },
    "header-from-empty": {"from": Instead(_NAMES, [("Mailer", "")], newer=True)},
    # Other headers.
    "header-subject-encoded-broken": {
        "subject": Instead("what is no base64 stays as it is", "=?utf-8?b?AAAAA?==?utf-8?q?open"),
    },
    "header-subject-encoded-line-break": {"subject": Instead("a subject is one line", "one Bcc: x@y")},
    "header-subject-spaces": {"subject": Instead("spaces around a subject are none of it", "two  spaces")},
    "header-date-no-date": {"truncated": Instead(_LOST, ("headers.date",))},
    "header-date-impossible": {"truncated": Instead(_LOST, ("headers.date",))},
    "header-ids-old": {"in-reply-to": Instead("of what is not all ids the ids are found", ["<a@b>"])},
    "header-ids-bare": {
        "message-id": Instead("an id has its brackets, also where they were forgotten", "<a@b>"),
        "references": Instead("an id has its brackets, also where they were forgotten", ["<c@d>", "<e@f>"]),
    },
    # Files.
    "structure-file-name-in-8-bit": {
        "attachments": Instead(
            _LOCAL, [("Gr\ufffd\ufffd\ufffd\ufffde.pdf", "application/pdf", digest(b"\x00\x01\xff"))]
        ),
    },
    "large-files-1100": {
        "attachments": Instead(
            "a document names 1,000 attachments at most",
            [(f"{number}.bin", "x/y", digest(b"\x00\x01\xff")) for number in range(1_000)],
        ),
        "truncated": Instead(_LOST, ("attachments",)),
    },
}
