"""Messages by how their text is written: every charset, every transfer encoding, flowed or not, broken or not."""

import base64
import encodings.aliases
import gzip
import quopri

from tests.corpus.mail import html, lines, mail, multi, part, plain

# What is no charset of text, or none that Python has everywhere.
NO_CHARSETS = {"base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec", "mbcs"}
# The first that a charset has characters for is written in it.
SAMPLES = (
    "Grüße, Jürgen — 100 €\r\n",
    "Grüße an alle\r\n",
    "Привет, мир\r\n",
    "日本語のテスト\r\n",
    "中文測試\r\n",
    "한국어\r\n",
    "Ελληνικά\r\n",
    "שלום עולם, 1.\r\n",
    "مرحبا بالعالم\r\n",
    "สวัสดี\r\n",
    "Žluťoučký kůň\r\n",
    "Plain text, 1+1=2\r\n",
)
# 20 MB once unpacked, and nothing here unpacks it.
BOMB = gzip.compress(bytes(20_000_000), mtime=0)
CHARSETS = sorted(set(encodings.aliases.aliases.values()) - NO_CHARSETS)


def messages() -> dict[str, bytes]:
    """Return them by name."""
    found = {**_encodings(), **_flowed(), **_hostile()}
    texts = {f"text-{name}": mail(source) for name, source in found.items()}
    return {**texts, **{f"charset-{charset}": mail(_in_charset(charset)) for charset in CHARSETS}}


def _in_charset(charset: str) -> bytes:
    for sample in SAMPLES:
        try:
            data = sample.encode(charset)
        except UnicodeError:
            continue
        return part(f"text/plain; charset={charset}", data)
    raise ValueError(charset)


def _encodings() -> dict[str, bytes]:
    latin = "Grüße an alle\r\n".encode("latin-1")
    quoted = quopri.encodestring("Grüße an alle, mit € und =.\r\n".encode())
    as_quoted = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    as_base64 = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    uuencoded = b"begin 644 notes.txt\r\n+:&5L;&\\@=V]R;&0 \r\n`\r\nend\r\n"
    return {
        "quoted-printable": as_quoted + quoted,
        "quoted-printable-soft-breaks": as_quoted + b"one =\r\nline, and = \r\n\tanother\r\n",
        "quoted-printable-broken": as_quoted + b"100=% =XY =\r\n=C3=BC =c3=bc =\r\nend=",
        "quoted-printable-in-capitals": as_quoted.replace(b"quoted-printable", b"QUOTED-Printable") + quoted,
        "base64": as_base64 + base64.encodebytes("Grüße\r\n".encode()),
        "base64-on-one-line": as_base64 + base64.b64encode("Grüße\r\n".encode() * 500),
        "base64-without-padding": as_base64 + base64.b64encode(b"Hello Bob").rstrip(b"="),
        "base64-with-spaces": as_base64 + b" SGVs bG8g\r\n\r\n\tQm9i \r\n",
        "base64-with-a-footer": as_base64 + base64.encodebytes(b"Hello Bob\r\n") + b"\r\n-- \r\nfooter!\r\n",
        "8-bit-undeclared": b"Content-Type: text/plain\r\n\r\n" + latin,
        "8-bit-utf-8-undeclared": b"Content-Type: text/plain\r\n\r\n" + "Grüße\r\n".encode(),
        "8-bit-called-ascii": b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" + latin,
        "utf-8-called-latin-1": b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\n" + "Grüße\r\n".encode(),
        "latin-1-called-utf-8": b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + latin,
        "windows-1252-called-latin-1": part("text/plain; charset=iso-8859-1", b"\x93quoted\x94 \x80 100\r\n"),
        "gb18030-called-gb2312": part("text/plain; charset=gb2312", "镕€ 中文\r\n".encode("gb18030")),
        "cp932-called-shift-jis": part("text/plain; charset=shift_jis", "①髙 日本\r\n".encode("cp932")),
        "charset-unknown": part("text/plain; charset=x-klingon", "Grüße\r\n"),
        "charset-quoted": part('text/plain; charset="ISO-8859-1"', latin),
        "charset-in-rfc-2231": part("text/plain; charset*=us-ascii'en'iso-8859-1", latin),
        "charset-in-html-alone": part(
            "text/html", '<meta charset="koi8-r"><p>Привет</p>\r\n'.encode("koi8-r", "xmlcharrefreplace")
        ),
        "byte-order-mark": part("text/plain; charset=utf-8", "\ufeffGrüße\r\n"),
        "utf-16-without-mark": part("text/plain; charset=utf-16le", "Grüße\r\n".encode("utf-16-le")),
        "nul": b"Content-Type: text/plain; charset=utf-8\r\n\r\none\x00two\x00\r\n",
        "control-characters": part("text/plain; charset=utf-8", "a\x01\x07\x1b[31m\x7f\x85b\r\n"),
        "lone-cr": part("text/plain; charset=utf-8", "one\rtwo\rthree"),
        "mixed-line-ends": part("text/plain; charset=utf-8", "one\ntwo\r\nthree\r"),
        "one-long-line": plain("x" * 1_000_000),
        "uuencode-in-the-text": lines("Content-Type: text/plain\n\nSee below.\n\n") + uuencoded,
        "uuencode-as-encoding": lines("Content-Type: text/plain\nContent-Transfer-Encoding: x-uuencode\n\n")
        + uuencoded,
        "encoding-unknown": lines("Content-Type: text/plain\nContent-Transfer-Encoding: x-new\n\nHello.\n"),
        "html-in-latin-1": part("text/html; charset=iso-8859-1", "<p>Grüße &amp; mehr</p>\r\n".encode("latin-1")),
        "html-broken": html("<p>one<div>two</b></p><table><tr>three"),
        "html-nested": html("<div>" * 500 + "deep" + "</div>" * 500),
        "html-hidden": html("<head><title>no</title></head><style>p {}</style><p>seen</p><script>no()</script>"),
    }


def _flowed() -> dict[str, bytes]:
    return {
        "flowed": plain("one \ntwo \nthree\n\nfour\n", "; format=flowed"),
        "flowed-del-sp": plain("one \ntwo \nthree\n", "; format=flowed; delsp=yes"),
        "flowed-quotes": plain("> one \n> two\n>> deeper \n>> still\nanswer\n", "; format=flowed"),
        "flowed-stuffed": plain("Hello,\n From me\n >not quoted\n  indented\n", "; format=flowed"),
        "flowed-signature": plain("text\n-- \nAnn \nSmith\n", "; format=flowed"),
        "fixed": plain("one \ntwo \n", "; format=fixed"),
    }


def _hostile() -> dict[str, bytes]:
    compressed = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: gzip\r\n\r\n" + BOMB
    encoded = b"Content-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    as_quoted = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    return {
        "bomb-as-a-file": multi("mixed", plain(), part("application/gzip; name=bomb.gz", BOMB)),
        "bomb-in-a-transfer-encoding": compressed,
        "bomb-in-a-content-encoding": encoded + base64.encodebytes(BOMB),
        "bomb-called-zlib": part("text/plain; charset=zlib", BOMB),
        "quoted-printable-of-breaks": as_quoted + b"=\r\n" * 200_000 + b"end",
        "quoted-printable-of-nul": as_quoted + b"=00" * 200_000,
        "base64-of-base64": part("text/plain", base64.encodebytes(base64.encodebytes(b"x" * 100_000))),
        "html-of-entities": html(
            "<!DOCTYPE x [" + "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12)) + "]><p>&e11;</p>"
        ),
    }
