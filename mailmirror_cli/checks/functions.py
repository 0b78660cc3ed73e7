"""The functions: deployed from one bundle, under their own accounts, with an environment that they accept."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from functools import partial

from mailmirror.config import BadSetting, Settings

from mailmirror_cli import commands
from mailmirror_cli.expected import (
    DELTA_TOPIC,
    ENTRY_POINTS,
    GMAIL_TOPIC,
    PUSH_ACCOUNT,
    SCHEDULER_ACCOUNT,
    STEPPING,
    WORK_TOPIC,
    EntryPoint,
)
from mailmirror_cli.report import Finding, ok, warning, wrong
from mailmirror_cli.site import Check, Site, named

SUBJECT = "Functions"


def checks() -> Iterable[Check]:
    """Return the checks of this subject."""
    for entry_point in ENTRY_POINTS:
        yield Check(f"functions.{entry_point.name}", entry_point.name, partial(_function, entry_point))
    yield Check("functions.bundle", "bundle", _bundle)
    yield Check("functions.environment", "environment", _environment)
    yield Check("functions.time", "time", _time)
    yield Check("functions.accounts", "accounts", _accounts)


def _function(entry_point: EntryPoint, site: Site) -> Finding | None:
    name = entry_point.function
    if name not in site.functions:
        if entry_point.callers == "browsers" and entry_point not in site.entry_points:
            return None
        return wrong(f"{name} is not deployed.", site.deploy)
    function = site.functions[name]
    if function.state == "DEPLOYING":
        return warning(f"{name} is being deployed: look again when that is done.")
    if function.state != "ACTIVE":
        return wrong(f"{name} is in state {function.state}: {function.trouble or 'no reason is given'}", site.deploy)
    if function.entry_point != entry_point.name:
        return wrong(f"{name} runs the entry point {function.entry_point}.", site.deploy)
    if function.account != site.account(name):
        return wrong(f"{name} runs as {function.account} and not as {site.account(name)}.", site.deploy)
    return ok(f"{name} is active.")


def _bundle(site: Site) -> Finding:
    bundles = Counter(function.bundle for function in site.functions.values())
    if len(bundles) > 1:
        (usual, _), *_ = bundles.most_common()
        others = sorted(function.name for function in site.functions.values() if function.bundle != usual)
        return wrong(f"Built from another bundle than the rest: {', '.join(others)}.", site.deploy)
    return ok(f"All were built from {next(iter(bundles))}.")


def _environment(site: Site) -> Finding:
    faults = []
    for function in site.functions.values():
        try:
            settings = Settings.from_env(function.environment)
        except BadSetting as error:
            faults.append(f"{function.name}: {error}")
            continue
        names = [field.name for field in fields(settings)]
        differ = [name for name in names if getattr(settings, name) != getattr(site.settings, name)]
        if differ:
            faults.append(f"{function.name} differs from the others in {', '.join(map(str.upper, differ))}.")
    if not faults:
        faults = list(_unfit(site.settings, site))
    if faults:
        return wrong(" ".join(faults), site.deploy)
    return ok(f"All accept theirs; mailboxes are opened by {site.settings.gmail_auth}.")


def _unfit(settings: Settings, site: Site) -> Iterable[str]:
    """What a function would accept, and a deployment cannot mean."""
    topics = f"projects/{site.project}/topics/"
    for name, value, meant in (
        ("GOOGLE_CLOUD_PROJECT", settings.google_cloud_project, site.project),
        ("GMAIL_TOPIC", settings.gmail_topic, topics + GMAIL_TOPIC),
        ("WORK_TOPIC", settings.work_topic, topics + WORK_TOPIC),
        # Nobody need hear of deltas.
        ("DELTA_TOPIC", settings.delta_topic, settings.delta_topic and topics + DELTA_TOPIC),
        ("GMAIL_API_ROOT", settings.gmail_api_root, "https://gmail.googleapis.com/"),
        ("DIRECTORY_API_ROOT", settings.directory_api_root, "https://admin.googleapis.com/"),
        ("MAILMIRROR_STORE", settings.store, "firestore"),
        ("PUBSUB_EMULATOR_HOST", settings.pubsub_emulator_host, ""),
        ("SECRET_MANAGER_EMULATOR_HOST", settings.secret_manager_emulator_host, ""),
    ):
        if value != meant:
            yield f"{name} is {value} and not {meant or 'empty'}."
    if settings.gmail_auth == "none":
        yield "GMAIL_AUTH is none, which opens no mailbox of Gmail."


def _time(site: Site) -> Finding:
    step = site.settings.step
    short = [
        function
        for name in STEPPING
        if (function := site.functions.get(named(name).function)) is not None and function.timeout <= step
    ]
    if short:
        told = ", ".join(f"{function.name} {function.timeout.total_seconds():.0f} s" for function in short)
        return wrong(
            f"A step takes {step.total_seconds():.0f} s, and functions are cut off before: {told}.", site.deploy
        )
    return ok(f"Every function that syncs may run for longer than a step, {step.total_seconds():.0f} s.")


def _accounts(site: Site) -> Finding:
    path = f"v1/projects/{site.project}/serviceAccounts"
    rows = site.google.listing("iam", path, "accounts", role="roles/iam.serviceAccountViewer")
    disabled = {row["email"]: bool(row.get("disabled")) for row in rows}
    names = [*(entry_point.function for entry_point in site.entry_points), PUSH_ACCOUNT, SCHEDULER_ACCOUNT]
    missing = [name for name in names if site.account(name) not in disabled]
    if missing:
        return wrong(f"There is no account {', '.join(missing)}.", site.deploy)
    off = [site.account(name) for name in names if disabled[site.account(name)]]
    if off:
        words = "gcloud", "iam", "service-accounts", "enable"
        lines = [commands.line(*words, account, f"--project={site.project}") for account in off]
        return wrong(f"Disabled: {', '.join(off)}.", *lines)
    return ok(f"All {len(names)} are there.")
