"""Clocks: this machine's and the workers' against Google's.

A token signed with a time that is not is refused, and a lease that a slow or fast clock wrote holds too long or too
short. A worker's clock shows in the leases: a lease ends LEASE_SECONDS after its worker's now, and Firestore notes when
it was written.
"""

from collections.abc import Iterable
from datetime import timedelta

from mailmirror_cli import documents
from mailmirror_cli.checks.firestore import find_database
from mailmirror_cli.report import Finding, ok, wrong
from mailmirror_cli.site import Check, NotKnown, Site

SUBJECT = "Clocks"
TOLERANCE = timedelta(seconds=60)
LEASES = 20


def checks() -> Iterable[Check]:
    """Return the checks of this subject."""
    yield Check("clocks.machine", "this machine", _machine)
    yield Check("clocks.workers", "workers", _workers)


def _machine(site: Site) -> Finding:
    skew = site.google.skew
    if skew is None:
        raise NotKnown("Google has not answered")
    if abs(skew) > TOLERANCE:
        return wrong(f"This machine's clock is {_told(skew)} Google's.", "sudo timedatectl set-ntp true")
    return ok(
        "This machine's clock is right to within a few seconds." if abs(skew) > timedelta(seconds=2) else "Right."
    )


def _workers(site: Site) -> Finding:
    find_database(site)
    rows = documents.query(site.google, site.database, "leases", ("owner", "expiresAt"), limit=LEASES)
    skews = [
        documents.values(row)["expiresAt"] - site.settings.lease - documents.time(row["updateTime"]) for row in rows
    ]
    if not skews:
        return ok("No mailbox has been worked on yet.")
    worst = max(skews, key=abs)
    if abs(worst) > TOLERANCE:
        return wrong(
            f"A worker's clock was {_told(worst)} Google's when it wrote a lease, or LEASE_SECONDS was another then."
        )
    return ok(f"Right in the last {len(skews)} leases looked at.")


def _told(skew: timedelta) -> str:
    return f"{abs(skew).total_seconds():.0f} s {'ahead of' if skew > timedelta() else 'behind'}"
