"""Messages by what they consist of: forms of a text, pictures, files, invitations, signatures, other messages."""

from tests.corpus.mail import file, html, lines, mail, multi, part, plain

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
FOOTER = plain("_______________\nTo leave this list, write to leave@lists.example.\n")
EVENT = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nSUMMARY:Lunch\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
BOTH = multi("alternative", plain(), html())
PGP = file("application/pgp-signature", "signature.asc", b"-----BEGIN PGP SIGNATURE-----\r\n")
P7S = file("application/pkcs7-signature", "smime.p7s")
INNER = lines("""
    From: Carol <carol@example.net>
    Subject: inner
    Date: Thu, 19 Nov 2026 12:00:00 +0000
    Content-Type: text/plain

    This is another message.
    """)


def messages() -> dict[str, bytes]:
    """Return them by name."""
    found = {**_texts(), **_pictures(), **_files(), **_invitations(), **_protected(), **_forwarded(), **_broken()}
    return {f"structure-{name}": mail(source) for name, source in found.items()}


def _texts() -> dict[str, bytes]:
    return {
        "plain": plain(),
        "html": html(),
        "alternative": BOTH,
        "alternative-reversed": multi("alternative", html(), plain()),
        "alternative-plain-only": multi("alternative", plain()),
        "alternative-html-only": multi("alternative", html()),
        "alternative-blank-plain": multi("alternative", plain("\n"), html()),
        "alternative-with-amp": multi("alternative", plain(), part("text/x-amp-html", "<html amp></html>"), html()),
        "alternative-in-alternative": multi("alternative", plain(), multi("alternative", html())),
        "mixed-of-one": multi("mixed", plain()),
        "mixed-of-three-texts": multi("mixed", plain("one\n"), plain("two\n"), plain("three\n")),
        "mixed-html-and-text": multi("mixed", html(), FOOTER),
        "mixed-with-an-empty-text": multi("mixed", plain(""), plain()),
        "list-footer": multi("mixed", plain(), FOOTER),
        "list-footer-below-alternative": multi("mixed", BOTH, FOOTER),
        "list-header-and-footer": multi("mixed", FOOTER, BOTH, FOOTER),
        "enriched": part("text/enriched", "<bold>Hello</bold>"),
        "parallel": multi("parallel", plain("one\n"), plain("two\n")),
        "no-content-type": b"Subject: plain\r\n\r\nHello Bob.\r\n",
        "no-body": b"Subject: nothing\r\n\r\n",
    }


def _pictures() -> dict[str, bytes]:
    shown = html('<p>See <img src="cid:lake@example.com"></p>\n')
    lake = file("image/png", "lake.png", PNG, "inline", "lake@example.com")
    return {
        "apple-text-picture-text": multi(
            "mixed", plain("one\n"), file("image/png", "p.png", PNG, "inline"), plain("two\n")
        ),
        "apple-html-picture-html": multi(
            "alternative", plain(), multi("mixed", html("<p>1</p>\n"), file("x/pdf", "f.pdf"), html("<p>2</p>\n"))
        ),
        "related": multi("related", shown, lake),
        "related-alternative": multi("related", multi("alternative", plain(), shown), lake),
        "alternative-related": multi("alternative", plain(), multi("related", shown, lake)),
        "related-with-a-file": multi("mixed", multi("related", shown, lake), file("application/pdf", "report.pdf")),
        "related-start": multi(
            "related",
            lake,
            shown.replace(b"\r\n\r\n", b"\r\nContent-ID: <root@x>\r\n\r\n", 1),
            parameters='; start="<root@x>"',
        ),
        "referenced-outside-related": multi("mixed", shown, file("image/png", "l.png", PNG, cid="lake@example.com")),
        "picture-alone": file("image/png", "lake.png", PNG),
    }


def _files() -> dict[str, bytes]:
    named = 'text/plain; charset=utf-8; name="notes.txt"'
    continued = (
        "Content-Disposition: attachment;\r\n filename*0*=UTF-8''Gr%C3%B6%C3%9Fen%20und;\r\n"
        " filename*1*=%20Ma%C3%9F;\r\n filename*2=e.pdf\r\n"
    )
    return {
        "file": multi("mixed", plain(), file("application/pdf", "report.pdf")),
        "files": multi("mixed", BOTH, *[file("application/pdf", f"{number}.pdf") for number in range(20)]),
        "file-alone": file("application/pdf", "report.pdf"),
        "file-before-the-text": multi("mixed", file("text/plain", "notes.txt", b"notes"), plain()),
        "text-file": multi("mixed", plain(), file("text/plain", "notes.txt", b"notes")),
        "text-file-named-only": multi("mixed", plain(), part(named, "notes")),
        "text-file-without-name": multi(
            "mixed", plain(), part("text/plain", "n", "Content-Disposition: attachment\r\n")
        ),
        "html-file": multi("mixed", plain(), file("text/html", "page.html", b"<p>page</p>")),
        "csv": multi("mixed", plain(), part("text/csv", "a,b\r\n")),
        "vcard": multi("mixed", plain(), file("text/vcard", "ann.vcf", b"BEGIN:VCARD\r\nEND:VCARD\r\n")),
        "tnef": multi("mixed", plain(), file("application/ms-tnef", "winmail.dat")),
        "file-name-in-rfc-2231": multi("mixed", plain(), part("application/pdf", b"x", continued)),
        "file-name-in-encoded-words": multi(
            "mixed", plain(), file("application/pdf", "=?utf-8?q?Gr=C3=B6=C3=9Fen?= =?utf-8?q?_und_Ma=C3=9Fe=2Epdf?=")
        ),
        "file-name-in-8-bit": multi("mixed", plain(), file("application/pdf", "Größe.pdf")),
        "file-of-no-bytes": multi("mixed", plain(), file("application/octet-stream", "empty.bin", b"")),
        "apple-double": multi("mixed", plain(), multi("appledouble", part("application/applefile"), file("x/y", "f"))),
    }


def _invitations() -> dict[str, bytes]:
    form = part("text/calendar; charset=utf-8; method=REQUEST", EVENT)
    return {
        "invitation": multi(
            "mixed", multi("alternative", plain(), html(), form), file("application/ics", "invite.ics")
        ),
        "invitation-of-outlook": multi(
            "alternative", plain(), part('text/calendar; charset=utf-8; method=REQUEST; name="meeting.ics"', EVENT)
        ),
        "invitation-alone": form,
        "calendar-file": multi("mixed", plain(), file("text/calendar", "holidays.ics", EVENT.encode())),
    }


def _protected() -> dict[str, bytes]:
    def smime(how: str) -> bytes:
        return file(f'application/pkcs7-mime; smime-type={how}; name="smime.p7m"', "smime.p7m")

    return {
        "pgp-signed": multi(
            "signed", plain(), PGP, parameters='; protocol="application/pgp-signature"; micalg=pgp-sha256'
        ),
        "pgp-signed-on-a-list": multi("mixed", multi("signed", plain(), PGP), FOOTER),
        "pgp-signed-with-a-file": multi("signed", multi("mixed", BOTH, file("x/y", "f")), PGP),
        "pgp-encrypted": multi(
            "encrypted", part("application/pgp-encrypted", "Version: 1"), file("application/octet-stream", "e.asc")
        ),
        "pgp-inline": plain("-----BEGIN PGP SIGNED MESSAGE-----\n\nHello\n-----BEGIN PGP SIGNATURE-----\n"),
        "smime-signed": multi(
            "signed", BOTH, P7S, parameters='; protocol="application/pkcs7-signature"; micalg=sha-256'
        ),
        "smime-opaque": smime("signed-data"),
        "smime-encrypted": smime("enveloped-data"),
        "smime-certificates": smime("certs-only"),
        "smime-file": multi("mixed", plain(), smime("enveloped-data")),
    }


def _forwarded() -> dict[str, bytes]:
    deeper = INNER.replace(b"text/plain", b"message/rfc822").split(b"\r\n\r\n")[0] + b"\r\n\r\n" + INNER
    with_file = b"Subject: inner\r\n" + multi("mixed", plain("inner\n"), file("application/pdf", "inner.pdf"))
    failed = lines("Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx\n\nFinal-Recipient: rfc822; a@b\n")
    seen = lines("Content-Type: message/disposition-notification\n\nFinal-Recipient: rfc822; a@b\n")
    message = b"Content-Type: message/rfc822\r\n"
    return {
        "forwarded": multi("mixed", plain(), message + b"\r\n" + INNER),
        "forwarded-named": multi(
            "mixed", plain(), message + b'Content-Disposition: attachment; filename="i.eml"\r\n\r\n' + INNER
        ),
        "forwarded-alone": message + b"\r\n" + INNER,
        "forwarded-twice": multi("mixed", plain(), message + b"\r\n" + deeper),
        "forwarded-with-a-file": multi("mixed", plain(), message + b"\r\n" + with_file),
        "digest": multi("digest", b"\r\n" + INNER, b"\r\n" + INNER),
        "bounce": multi(
            "report", plain(), failed, message + b"\r\n" + INNER, parameters="; report-type=delivery-status"
        ),
        "bounce-headers": multi("report", plain(), failed, part("text/rfc822-headers", "Subject: x\r\n")),
        "read-receipt": multi("report", plain(), seen, parameters="; report-type=disposition-notification"),
        "partial": b"Content-Type: message/partial; id=x; number=1; total=2\r\n\r\nSubject: x\r\n\r\ntext\r\n",
        "external": b"Content-Type: message/external-body; access-type=x\r\n\r\nContent-Type: x/y\r\n\r\n",
    }


def _broken() -> dict[str, bytes]:
    whole = multi("mixed", plain(), file("application/pdf", "report.pdf"))
    unmarked = lines("Content-Type: multipart/mixed\n\n--b\nContent-Type: text/plain\n\nHello.\n--b--\n")
    return {
        "boundary-never-ends": whole[: -len(b"--\r\n")],
        "boundary-cut": whole.rpartition(b"--=_")[0],
        "boundary-missing": unmarked,
        "boundary-never-comes": lines('Content-Type: multipart/mixed; boundary="never"\n\nHello.\n'),
        "boundary-at-once": lines('Content-Type: multipart/mixed; boundary="b"\n\n--b--\n'),
        "boundary-of-the-outer": multi("mixed", multi("alternative", plain(), html())[:-60], FOOTER),
        "boundary-in-the-preamble": whole.replace(b"\r\n\r\n", b"\r\n\r\nThis is a message in MIME format.\r\n\r\n", 1)
        + b"\r\nepilogue\r\n",
        "no-blank-line": b"Subject: x\r\nContent-Type: text/plain\r\nHello, there is no blank line.\r\n",
        "no-blank-line-in-a-part": multi("mixed", b"Content-Type: text/plain\r\nHello.\r\n", FOOTER),
        "kind-without-subtype": b"Content-Type: text\r\n\r\nHello.\r\n",
        "kind-of-nothing": b"Content-Type: ; charset=utf-8\r\n\r\nHello.\r\n",
        "kind-twice": b"Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\nHello.\r\n",
        "kind-unknown": part("x-new/format", "data"),
    }
