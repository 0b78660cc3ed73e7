"""Who is asking, and where: credentials, project, region and the APIs that have to be enabled."""

from collections.abc import Iterable
from contextlib import suppress

from mailmirror_cli import commands
from mailmirror_cli.expected import APIS, DIRECTORY_API
from mailmirror_cli.report import Finding, ok, wrong
from mailmirror_cli.site import Check, NotKnown, Site

SUBJECT = "Project"
VIEWER = "roles/serviceusage.serviceUsageViewer"


def checks() -> Iterable[Check]:
    """Return the checks of this subject."""
    yield Check("credentials", "credentials", _credentials)
    yield Check("project", "project", _project)
    yield Check("apis", "APIs", _apis)
    yield Check("region", "region", _region)


def _credentials(site: Site) -> Finding:
    who = site.google.operator
    return ok(f"Asking as {who.partition(':')[2]}." if who else "There are credentials; they do not say whose.")


def _project(site: Site) -> Finding:
    number = site.ask_number()
    state = site.google.get("cloudresourcemanager", f"v3/projects/{site.project}", role="roles/browser")["state"]
    if state != "ACTIVE":
        command = commands.line("gcloud", "projects", "undelete", site.project)
        return wrong(f"The project {site.project} is about to be deleted.", command)
    return ok(f"{site.project} is there, number {number}.")


def _apis(site: Site) -> Finding:
    apis = [*APIS]
    with suppress(NotKnown):
        apis += [DIRECTORY_API] if site.settings.directory_admin else []
    names = [f"projects/{site.project}/services/{api}" for api in apis]
    path = f"v1/projects/{site.project}/services:batchGet"
    rows = site.google.get("serviceusage", path, role=VIEWER, params={"names": names})["services"]
    enabled = {row["name"].rpartition("/")[2] for row in rows if row.get("state") == "ENABLED"}
    missing = [api for api in apis if api not in enabled]
    if missing:
        command = commands.line("gcloud", "services", "enable", *missing, f"--project={site.project}")
        return wrong(f"Not enabled: {', '.join(missing)}.", command)
    return ok(f"All {len(apis)} are enabled.")


def _region(site: Site) -> Finding:
    found = site.ask_functions()
    if not found:
        return wrong(f"No function of Mailmirror is deployed in {site.project}.", site.deploy)
    regions = sorted(found)
    if site.asked_region is not None and site.asked_region not in found:
        words = ["mailmirror", "doctor", f"--project={site.project}", f"--region={regions[0]}"]
        return wrong(f"Mailmirror is not in {site.asked_region} but in {' and '.join(regions)}.", commands.line(*words))
    try:
        region = site.region
    except NotKnown as reason:
        return wrong(f"{reason}.", site.deploy)
    others = [other for other in regions if other != region]
    if others:
        lines = [
            commands.line("gcloud", "functions", "delete", name, f"--region={other}", f"--project={site.project}")
            for other in others
            for name in sorted(found[other])
        ]
        return wrong(f"Mailmirror is in {region}, and functions of it are left in {' and '.join(others)}.", *lines)
    return ok(f"{region}.")
