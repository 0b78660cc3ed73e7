"""Messages by their headers: names and lists of all forms, encoded, folded, repeated, broken, very long."""

import base64

from tests.corpus.mail import HEAD, lines, mail

BODY = b"\r\nHello.\r\n"


def messages() -> dict[str, bytes]:
    """Return them by name."""
    found = {**_addresses(), **_others(), **_raw()}
    return {f"header-{name}": source for name, source in found.items()}


def _to(value: str | bytes) -> bytes:
    return b"To: " + (value.encode() if isinstance(value, str) else value) + b"\r\n" + BODY


def _addresses() -> dict[str, bytes]:
    people = [f"Person{number} <person{number}@example.com>" for number in range(5_000)]
    encoded = [f"=?utf-8?q?J=C3=B6rg_{number}?= <joerg{number}@example.com>" for number in range(500)]
    lists = {
        "name": "Bob Smith <bob@example.org>",
        "quoted": '"Smith, Bob" <bob@example.org>, carol@example.org',
        "escaped": r'"Bob \"Bobby\" Smith" <bob@example.org>',
        "capitals": "Bob.Smith@Example.ORG",
        "encoded": "=?utf-8?q?J=C3=B6rg?= =?utf-8?q?_M=C3=BCller?= <j@example.org>",
        "encoded-comma": "=?utf-8?q?M=C3=BCller=2C_J=C3=B6rg?= <j@example.org>, c@example.org",
        "encoded-in-base64": "=?utf-8?b?SsO2cmc=?= <j@example.org>",
        "encoded-and-quoted": '"=?utf-8?q?J=C3=B6rg?=" <j@example.org>',
        "encoded-in-halves": "=?utf-8?b?SsM=?= =?utf-8?b?tnJn?= <j@example.org>",
        "comment": "bob@example.org (Bob Smith)",
        "comments-everywhere": "Bob (the elder) <bob@example.org> (at work)",
        "group": "friends: bob@example.org, Carol <carol@example.org>;, dave@example.org",
        "group-empty": "undisclosed-recipients:;",
        "group-without-end": "undisclosed-recipients:",
        "route": "<@relay.example,@other.example:bob@example.org>",
        "local-quoted": '"bob smith"@example.org',
        "literal": "bob@[192.0.2.1]",
        "local-user": "root",
        "without-brackets": "Bob Smith bob@example.org",
        "bracket-open": "Bob <bob@example.org",
        "quote-open": '"Bob <bob@example.org>',
        "semicolons": "bob@example.org; carol@example.org",
        "comma-unquoted": "Smith, Bob <bob@example.org>",
        "twice-the-same": "bob@example.org, bob@example.org",
        "address-as-name": "bob@example.org <bob@example.org>",
        "dots-in-the-name": "Bob J. Smith <bob@example.org>",
        "international": "jörg@bücher.example",
        "empties": ", bob@example.org,, ,carol@example.org,",
        "folded": "Bob\r\n Smith\r\n <bob@example.org>,\r\n\tcarol@example.org",
        "5000": ",\r\n ".join(people),
        "500-encoded": ",\r\n ".join(encoded),
    }
    return {
        **{f"to-{name}": mail(_to(value), b"From: ann@example.com\r\n") for name, value in lists.items()},
        "to-twice": mail(b"To: carol@example.org\r\nCc: d@example.org\r\nCc: e@example.org\r\n" + BODY),
        "to-in-8-bit-utf-8": mail(_to("Jörg <j@example.org>"), b""),
        "to-in-8-bit-latin-1": mail(_to("Jörg <j@example.org>".encode("latin-1")), b""),
        "to-nul": mail(_to(b"B\x00b <bob@example.org>"), b""),
        "from-nobody": mail(BODY, b"To: bob@example.org\r\n"),
        "from-two": mail(b"From: a@example.com, b@example.com\r\n" + BODY, b""),
        "from-twice": mail(b"From: mallory@example.com\r\n" + BODY),
        "from-empty": mail(b"From: Mailer <>\r\n" + BODY, b""),
        "reply-to": mail(b"Reply-To: list@lists.example, Ann <ann@example.com>\r\n" + BODY),
        "bcc": mail(b"Bcc: secret@example.com\r\n" + BODY),
    }


def _others() -> dict[str, bytes]:
    word = "=?utf-8?b?" + base64.b64encode("Grüße und ".encode()).decode() + "?="
    subjects: dict[str, str | bytes] = {
        "encoded": "=?utf-8?q?Gr=C3=BC=C3=9Fe?= an =?iso-8859-1?q?J=FCrgen?=",
        "encoded-in-two-charsets": "=?utf-8?q?Gr=C3=BC?= =?iso-8859-1?q?=DFe?=",
        "encoded-in-iso-2022-jp": "=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=",
        "encoded-with-language": "=?utf-8*de?q?Gr=C3=BC=C3=9Fe?=",
        "encoded-unknown": "=?x-klingon?q?Gr=C3=BC=C3=9Fe?=",
        "encoded-broken": "=?utf-8?b?AAAAA?= =?utf-8?q?open",
        "encoded-line-break": "=?utf-8?q?one=0D=0ABcc:_x=40y?=",
        "folded": "one\r\n two\r\n\tthree",
        "in-8-bit": "Grüße",
        "in-8-bit-latin-1": "Grüße".encode("latin-1"),
        "nul": b"one\x00two",
        "spaces": "  two  spaces  ",
        "empty": "",
        "40-kb": "A long story " * 3_077 + "ends",
        "40-kb-encoded": "\r\n ".join([word] * 3_300 + ["=?utf-8?q?Schlu=C3=9F?="]),
        "40-kb-folded": "\r\n ".join(["A long story"] * 3_077),
    }
    dates = {
        "zone": "Fri, 20 Nov 2026 12:00:00 +0530",
        "zone-named": "Fri, 20 Nov 2026 12:00:00 EST",
        "zone-unknown": "Fri, 20 Nov 2026 12:00:00 -0000",
        "comment": "Fri, 20 Nov 2026 12:00:00 +0100 (CET)",
        "two-digits": "Fri, 20 Nov 26 12:00:00 +0000",
        "no-seconds": "20 Nov 2026 12:00 +0000",
        "no-date": "yesterday",
        "impossible": "Fri, 31 Feb 2026 25:61:00 +0000",
        "empty": "",
    }
    ids = "\r\n\t".join(f"<{number}@example.com>" for number in range(100))
    return {
        **{
            f"subject-{name}": mail(
                b"Subject: " + (value if isinstance(value, bytes) else value.encode()) + b"\r\n" + BODY
            )
            for name, value in subjects.items()
        },
        **{
            f"date-{name}": mail(f"Date: {value}\r\n".encode() + BODY, b"From: ann@example.com\r\n")
            for name, value in dates.items()
        },
        "ids": mail(
            f"Message-ID: <new@example.com>\r\nIn-Reply-To: <99@example.com>\r\nReferences: {ids}\r\n".encode() + BODY
        ),
        "ids-old": mail(b'In-Reply-To: Your message of "Mon, 1 Jan" <a@b>\r\nMessage-Id:\r\n <c@d>\r\n' + BODY),
        "ids-bare": mail(b"Message-ID: a@b\r\nReferences: c@d, e@f\r\n" + BODY),
    }


def _raw() -> dict[str, bytes]:
    return {
        "twice": mail(b"Subject: one\r\nSubject: two\r\nDate: Thu, 19 Nov 2026 12:00:00 +0000\r\n" + BODY),
        "none": BODY,
        "only": HEAD,
        "nothing": b"",
        "mbox": b"From ann@example.com Fri Nov 20 12:00:00 2026\r\n" + mail(BODY),
        "lines-of-unix": mail(lines("Subject: x\n\nHello.\n")).replace(b"\r\n", b"\n"),
        "lines-of-old-macs": mail(lines("Subject: x\n\nHello.\n")).replace(b"\r\n", b"\r"),
        "name-of-spaces": mail(b" : x\r\nSubject: x\r\n" + BODY),
        "colon-missing": mail(b"Subject x\r\nSubject: y\r\n" + BODY),
        "one-megabyte": mail(b"X-Long: " + b"x" * 1_000_000 + b"\r\nSubject: x\r\n" + BODY),
        "ten-thousand": mail(b"X-Many: x\r\n" * 10_000 + b"Subject: x\r\n" + BODY),
    }
