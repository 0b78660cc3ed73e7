"""The mailboxes as the mirror knows them: watches, access, what is due, and the one that the operator named."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from mailmirror.mailboxes import WATCH_RESERVE

from mailmirror_cli import commands, documents
from mailmirror_cli.checks.firestore import find_database
from mailmirror_cli.google import Absent
from mailmirror_cli.report import Finding, ok, warning, wrong
from mailmirror_cli.site import Check, Site

SUBJECT = "Mailboxes"
# So many documents at most are read for a question; each is billed.
LIMIT = 300
# The sweep comes every 5 minutes.
OVERDUE = timedelta(minutes=15)
_SHOWN = 5
# Nobody keeps the watch of these.
_WITHOUT_WATCH = frozenset({"stopped", "purging", "reauth_required"})


def checks() -> Iterable[Check]:
    """Return the checks of this subject."""
    yield Check("mailboxes.watches", "watches", _watches)
    yield Check("mailboxes.access", "access", _access)
    yield Check("mailboxes.due", "sweep", _due)
    yield Check("mailboxes.mailbox", "mailbox", _mailbox)


def _watches(site: Site) -> Finding:
    find_database(site)
    count = documents.count(site.google, site.database, "mailboxes")
    if count == 0:
        return ok("No mailbox is connected yet.")
    now = site.google.now
    rows = _query(site, ("phase", "watch.expiresAt"), ("watch.expiresAt", "LESS_THAN", now + WATCH_RESERVE))
    kept = [row for row in rows if row.get("phase") not in _WITHOUT_WATCH]
    lapsed = [row["id"] for row in kept if row["watch"]["expiresAt"] <= now]
    if lapsed:
        return wrong(
            f"Lapsed, so that mail comes with the sweep alone: {_told(lapsed)}.",
            _run_job(site, "mailmirror-renew-watches"),
        )
    if kept:
        told = _told([row["id"] for row in kept])
        return warning(f"Lapses within two days: {told}.", _run_job(site, "mailmirror-renew-watches"))
    return ok(f"{count:,} connected; no watch lapses within two days.")


def _access(site: Site) -> Finding:
    find_database(site)
    rows = _query(site, ("phase",), ("phase", "EQUAL", "reauth_required"))
    if not rows:
        return ok("No mailbox is closed to Mailmirror.")
    first = rows[0]["id"]
    words = "mailmirror", "doctor", f"--project={site.project}", f"--region={site.region}", f"--mailbox={first}"
    return wrong(f"Access is gone: {_told([row['id'] for row in rows])}.", commands.line(*words))


def _due(site: Site) -> Finding:
    find_database(site)
    now = site.google.now
    late = _query(site, ("nextDueAt",), ("nextDueAt", "LESS_THAN", now - OVERDUE))
    if late:
        oldest = _ago(min(row["nextDueAt"] for row in late), site)
        told = _told([row["id"] for row in late])
        return wrong(f"Due for {oldest} and not looked at: {told}.", _run_job(site, "mailmirror-sweep-mailboxes"))
    synced = [row["lastSyncAt"] for row in _query(site, ("phase", "lastSyncAt"), by="lastSyncAt") if _active(row)]
    return ok(
        f"Nothing is overdue; the oldest sync was {_ago(min(synced), site)} ago." if synced else "Nothing is overdue."
    )


def _mailbox(site: Site) -> Finding | None:
    if site.mailbox is None:
        return None
    find_database(site)
    try:
        found = documents.values(documents.get(site.google, site.database, "mailboxes", site.mailbox))
    except Absent:
        connect = f'"{site.function("manage_mailboxes").address}/mailboxes/{site.mailbox}"'
        caller = '-H "Authorization: Bearer $(gcloud auth print-identity-token)"'
        return wrong(f"{site.mailbox} is not connected.", f"curl -X PUT -d '' {caller} {connect}")
    phase, problem, watch = found.get("phase"), found.get("problem"), found.get("watch") or {}
    if problem:
        return wrong(f"{site.mailbox} is {phase}: {problem['message']} {problem['action']}")
    if watch.get("error"):
        return wrong(
            f"Gmail does not watch {site.mailbox}: {watch['error']}", _run_job(site, "mailmirror-renew-watches")
        )
    synced = found.get("lastSyncAt")
    until = found.get("throttledUntil")
    if until and until > site.google.now:
        return warning(f"{site.mailbox} is throttled until {until.isoformat(timespec='seconds')}.")
    return ok(
        f"{site.mailbox} is {phase}, synced {_ago(synced, site)} ago." if synced else f"{site.mailbox} is {phase}."
    )


def _query(
    site: Site, fields: Sequence[str], where: tuple[str, str, Any] | None = None, by: str | None = None
) -> list[dict[str, Any]]:
    """Mailboxes with some of their fields, and their id."""
    found = documents.query(site.google, site.database, "mailboxes", fields, where=where, by=by, limit=LIMIT)
    return [documents.values(each) | {"id": each["name"].rpartition("/")[2]} for each in found]


def _active(row: dict[str, Any]) -> bool:
    return row.get("phase") not in _WITHOUT_WATCH and row.get("lastSyncAt") is not None


def _told(mailboxes: Sequence[str]) -> str:
    """How many mailboxes, and the first of them."""
    shown = ", ".join(mailboxes[:_SHOWN])
    if len(mailboxes) <= _SHOWN:
        return shown
    least = "at least " if len(mailboxes) == LIMIT else ""
    return f"{least}{len(mailboxes)} mailboxes, such as {shown}"


def _ago(time: Any, site: Site) -> str:
    minutes = max(0, int((site.google.now - time).total_seconds() // 60))
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 2_880 else f"{minutes // 1_440} days"


def _run_job(site: Site, job: str) -> str:
    words = "gcloud", "scheduler", "jobs", "run", job, f"--location={site.region}", f"--project={site.project}"
    return commands.line(*words)
