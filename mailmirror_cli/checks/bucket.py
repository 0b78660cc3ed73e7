"""The bucket of large bodies and attachments, and what the functions may do in it."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from mailmirror_cli import commands, rights
from mailmirror_cli.expected import BODY_ROLES, ROLES
from mailmirror_cli.google import Absent
from mailmirror_cli.report import Finding, ok, warning, wrong
from mailmirror_cli.site import Check, NotKnown, Site

SUBJECT = "Bucket"
VIEWER = "roles/storage.bucketViewer"


def checks() -> Iterable[Check]:
    """Return the checks of this subject."""
    yield Check("bucket.bucket", "bucket", _bucket)
    yield Check("bucket.rights", "functions' rights", _rights)


def _ask(site: Site) -> dict[str, Any] | None:
    name = quote(site.settings.body_bucket, safe="")
    try:
        found: dict[str, Any] = site.google.get("storage", f"storage/v1/b/{name}", role=VIEWER)
    except Absent:
        return None
    return found


def _bucket(site: Site) -> Finding:
    name = site.settings.body_bucket
    if not name:
        return warning("BODY_BUCKET is empty: bodies over 200 kB are cut.", site.deploy)
    found = _ask(site)
    if found is None:
        return wrong(f"There is no bucket {name}.", site.deploy)
    update = "gcloud", "storage", "buckets", "update", f"gs://{name}"
    access = found.get("iamConfiguration", {})
    if not access.get("uniformBucketLevelAccess", {}).get("enabled"):
        return wrong(f"{name} has no uniform access.", commands.line(*update, "--uniform-bucket-level-access"))
    if access.get("publicAccessPrevention") != "enforced":
        return warning(f"{name} could be made public.", commands.line(*update, "--public-access-prevention"))
    return ok(f"{name} in {found.get('location')}.")


def _rights(site: Site) -> Finding | None:
    name = site.settings.body_bucket
    if not name:
        return None
    if _ask(site) is None:
        raise NotKnown(f"there is no bucket {name}")
    resource = rights.bucket(quote(name, safe=""))
    everybody = rights.public(site, resource)
    if everybody:
        remove = "gcloud", "storage", "buckets", "remove-iam-policy-binding", f"gs://{name}"
        lines = [commands.line(*remove, f"--member={member}", f"--role={role}") for member, role in everybody]
        return wrong(f"Anybody may use {name}.", *lines)
    add = "gcloud", "storage", "buckets", "add-iam-policy-binding", f"gs://{name}"
    lacking, lines = [], []
    for right, role in BODY_ROLES.items():
        names = [each.function for each in site.entry_points if each.bodies == right]
        without = [each for each in names if rights.lacking(site, site.member(each), ROLES[role], resource)]
        if without:
            lacking.append(f"May not {right}: {', '.join(without)}.")
            mend, full = rights.custom_role(site, role), f"projects/{site.project}/roles/{role}"
            grants = [commands.line(*add, f"--member={site.member(each)}", f"--role={full}") for each in without]
            lines += [mend] if mend else grants
    if lacking:
        return wrong(f"In {name}: {' '.join(lacking)}", *dict.fromkeys(lines))
    return ok("The functions that sync may write and delete, and what applications call may read.")
