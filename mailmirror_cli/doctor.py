"""`mailmirror doctor`: everything a deployment needs, looked at one after the other, whatever was found before.

Knows: which subjects there are, in which order, and what becomes of a question that Google did not answer: the check
is `unknown`, and says which right is missing or what it depends on. Does not know: what is right or wrong (`checks`),
or how it is shown (`table`, `report`).
"""

from collections.abc import Callable, Iterable, Iterator

from mailmirror_cli import commands
from mailmirror_cli.checks import (
    bucket,
    calls,
    clocks,
    consent,
    delegation,
    firestore,
    functions,
    mailboxes,
    project,
    pubsub,
)
from mailmirror_cli.google import ApiDisabled, Denied, NoAnswer, NoCredentials
from mailmirror_cli.report import Checked, Finding, unknown
from mailmirror_cli.site import Check, NotKnown, Site

LOGIN = "gcloud auth application-default login"

SUBJECTS: tuple[tuple[str, Callable[[], Iterable[Check]]], ...] = tuple(
    (each.SUBJECT, each.checks)
    for each in (project, functions, pubsub, calls, delegation, consent, mailboxes, firestore, bucket, clocks)
)


def examine(site: Site) -> Iterator[Checked]:
    """Look at everything and yield each finding as it comes."""
    for subject, checks in SUBJECTS:
        for check in checks():
            finding = _look(check, site)
            if finding is not None:
                yield Checked(subject, check.id, check.title, finding)


def _look(check: Check, site: Site) -> Finding | None:
    try:
        return check.look(site)
    except NotKnown as reason:
        return unknown(f"Not looked at, because {reason}.")
    except NoCredentials as none:
        return unknown(f"Not looked at, because there are no usable credentials. {none.text}".strip(), LOGIN)
    except ApiDisabled as disabled:
        enable = "gcloud", "services", "enable", disabled.service, f"--project={disabled.project or site.project}"
        return unknown(f"Not looked at, because {disabled.service} is not enabled.", commands.line(*enable))
    except Denied as denied:
        return _denied(denied, site)
    except NoAnswer as none:
        told = f"{none.status} {none.text}" if none.status else none.text
        return unknown(f"Not known: {told.rstrip('.')}.")
    except (LookupError, TypeError, ValueError) as error:
        # An answer in another shape than Google documents is no reason to leave out all that comes after.
        return unknown(f"Not known: Google's answer cannot be understood ({type(error).__name__}: {error}).")


def _denied(denied: Denied, site: Site) -> Finding:
    text = denied.text.rstrip(".")
    if not denied.role:
        return unknown(f"Not known: {text}.")
    return unknown(
        f"Not known, because you lack {denied.role}: {text}.",
        commands.grant(site.project, site.google.operator, denied.role),
    )
