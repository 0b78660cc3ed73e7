"""Calls: who may call each function, and whether Cloud Scheduler does."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from mailmirror_cli import commands, documents, rights
from mailmirror_cli.expected import ENTRY_POINTS, PUSH_ACCOUNT, SCHEDULER_ACCOUNT, EntryPoint
from mailmirror_cli.google import Absent
from mailmirror_cli.report import Finding, ok, warning, wrong
from mailmirror_cli.site import Check, Site

SUBJECT = "Calls"
VIEWER = "roles/cloudscheduler.viewer"
INVOKER = "roles/run.invoker"

# What Cloud Scheduler makes of a function's answer. https://github.com/googleapis/googleapis: google/rpc/code.proto
_CODES = {
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    16: "UNAUTHENTICATED",
}


def checks() -> Iterable[Check]:
    """Return the checks of this subject."""
    for entry_point in ENTRY_POINTS:
        yield Check(f"calls.{entry_point.name}", f"who may call {entry_point.name}", partial(_invoker, entry_point))
    for entry_point in ENTRY_POINTS:
        if entry_point.callers == "scheduler":
            yield Check(f"calls.{entry_point.name}-job", f"schedule of {entry_point.name}", partial(_job, entry_point))


def _invoker(entry_point: EntryPoint, site: Site) -> Finding | None:
    if entry_point.callers == "browsers" and entry_point not in site.entry_points:
        return None
    name = site.function(entry_point).name
    resource = rights.service(site, name)
    words = f"--region={site.region}", f"--project={site.project}"
    everybody = rights.public(site, resource)
    if entry_point.callers == "browsers":
        if everybody:
            return ok("Everybody: a user's browser has no identity token.")
        add = "gcloud", "run", "services", "add-iam-policy-binding", name, *words
        command = commands.line(*add, "--member=allUsers", f"--role={INVOKER}")
        told = "If the command is refused, the organization restricts sharing to its domains."
        return wrong(f"Users' browsers may not call {name}: no consent arrives. {told}", command)
    if everybody:
        remove = "gcloud", "run", "services", "remove-iam-policy-binding", name, *words
        lines = [commands.line(*remove, f"--member={member}", f"--role={role}") for member, role in everybody]
        return wrong(f"Anybody may call {name}.", *lines)
    if entry_point.callers in ("admins", "readers"):
        callers = (each for each in resource.bindings(site) if each["role"] == INVOKER)
        members = [member for each in callers for member in each.get("members", ())]
        if not members and entry_point.callers == "readers":
            # Applications may do with Firestore alone.
            return ok("Nobody: readers in terraform/terraform.tfvars names none.")
        if not members:
            return warning(f"Nobody may call {name}: name admins in terraform/terraform.tfvars.", site.deploy)
        return ok(f"{', '.join(sorted(members))}.")
    account = PUSH_ACCOUNT if entry_point.callers == "push" else SCHEDULER_ACCOUNT
    if rights.lacking(site, site.member(account), ["run.routes.invoke"], resource):
        add = "gcloud", "run", "services", "add-iam-policy-binding", name, *words
        command = commands.line(*add, f"--member={site.member(account)}", f"--role={INVOKER}")
        return wrong(f"{account} may not call {name}.", command)
    return ok(f"{account}.")


def _job(entry_point: EntryPoint, site: Site) -> Finding:
    name, address, account = entry_point.function, site.function(entry_point).address, site.account(SCHEDULER_ACCOUNT)
    found = _find(site, name)
    if found is None:
        return wrong(f"There is no Cloud Scheduler job {name}.", site.deploy)
    where = f"--location={found['name'].split('/')[3]}", f"--project={site.project}"
    if found.get("state") != "ENABLED":
        command = commands.line("gcloud", "scheduler", "jobs", "resume", name, *where)
        return wrong(f"The job {name} is {str(found.get('state', 'nowhere')).lower()}.", command)
    target = found.get("httpTarget", {})
    token = target.get("oidcToken", {})
    audience = str(token.get("audience") or target.get("uri", ""))
    called = str(target.get("uri", "")).rstrip("/"), token.get("serviceAccountEmail"), audience.rstrip("/")
    if called != (address, account, address):
        command = commands.line(
            *("gcloud", "scheduler", "jobs", "update", "http", name, *where, f"--uri={address}"),
            *(f"--oidc-service-account-email={account}", f"--oidc-token-audience={address}"),
        )
        return wrong(f"The job {name} does not call {address} as {SCHEDULER_ACCOUNT}.", command)
    code = found.get("status", {}).get("code", 0)
    if code:
        about = f'resource.type="cloud_run_revision" AND resource.labels.service_name="{name}" AND severity>=WARNING'
        return wrong(
            f"The last call by the job {name} failed: {_CODES.get(code, code)}.",
            commands.line("gcloud", "logging", "read", about, where[1], "--freshness=1d", "--limit=20"),
            commands.line("gcloud", "scheduler", "jobs", "run", name, *where),
        )
    if "lastAttemptTime" not in found:
        return ok(f"{found['schedule']}, not called yet.")
    return ok(f"{found['schedule']}, last called {documents.time(found['lastAttemptTime']):%Y-%m-%d %H:%M} UTC.")


def _find(site: Site, name: str) -> dict[str, Any] | None:
    """The job, which is in another region where the functions' own has no Cloud Scheduler."""
    places = f"v1/projects/{site.project}/locations"

    def ask(region: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = site.google.get("cloudscheduler", f"{places}/{region}/jobs/{name}", role=VIEWER)
        except Absent:
            return None
        return found

    found = ask(site.region)
    if found is not None:
        return found
    others = site.google.listing("cloudscheduler", places, "locations", role=VIEWER)
    jobs = (ask(place["locationId"]) for place in others if place["locationId"] != site.region)
    return next((job for job in jobs if job is not None), None)
