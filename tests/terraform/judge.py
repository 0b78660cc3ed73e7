"""What is wrong with a planned deployment, in sentences.

Knows: what must hold of every deployment of Mailmirror, whatever its options: who may do what, that nothing is lost on
the way, and that it agrees with the source of the functions. Does not know: how the configuration is written, nor
whether Google would accept it. The law: a mistake is told by the address of the resource that makes it.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from mailmirror.adapters.gmail.calls import PATIENCE_SECONDS
from mailmirror.api import MAX_DISCOVERY_WAIT, MAX_WAIT, MAX_WISH_WAIT
from mailmirror.config import BadSetting, Settings
from mailmirror.quota import MAX_WAIT_SECONDS

from tests import source
from tests.terraform.plan import Later, Plan, Resource

Mistakes = Iterator[str]

NOTIFICATIONS = "gmail-notifications"
DEAD_LETTERS = "-dead-letters"
GMAIL = "serviceAccount:gmail-api-push@system.gserviceaccount.com"
EVERYBODY = "allUsers"
PUBLIC = {EVERYBODY, "allAuthenticatedUsers"}
PRIMITIVE = {"roles/owner", "roles/editor", "roles/viewer"}
DEFAULT_ACCOUNT = re.compile(r"-compute@developer\.gserviceaccount\.com|@appspot\.gserviceaccount\.com")
PUBSUB_AGENT = re.compile(r"serviceAccount:service-\d+@gcp-sa-pubsub\.iam\.gserviceaccount\.com")
# What lets somebody become somebody else, or give rights away.
ESCALATION = re.compile(r"setIamPolicy|actAs|getAccessToken|serviceAccountKeys|signBlob|\*")
# A right that no condition can narrow and that reads nothing.
UNCONDITIONED = {"roles/logging.logWriter"}

# Variables that Settings reads and a deployment leaves at their defaults.
LEFT_OUT = {
    "DIRECTORY_API_ROOT": "The Directory API is where it is; only the fake is elsewhere.",
    "GMAIL_API_ROOT": "Gmail is where it is; only the fake is elsewhere.",
    "LEASE_SECONDS": "The lease is part of how workers exclude one another, not of a deployment.",
    "MAILMIRROR_STORE": "Only the local stack has another store.",
    "PUBSUB_EMULATOR_HOST": "Only the local stack has another Pub/Sub.",
    "SECRET_MANAGER_EMULATOR_HOST": "Only the local stack has another Secret Manager.",
}
OF_THE_OTHER_AUTH = {
    "delegation": {"GMAIL_OAUTH_CLIENT", "GMAIL_TOKEN_PREFIX", "OAUTH_REDIRECT_URI"},
    "oauth": {"DIRECTORY_ADMIN", "GMAIL_DELEGATE"},
}
# Variables that others read: the functions framework, and Cloud Storage's client.
READ_BY_OTHERS = {"DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "LOG_EXECUTION_ID", "THREADS"}

# Instances of a function that everybody may call: what strangers can make it cost.
MOST_IN_PUBLIC = 5
# How long a function may take for what is asked of it, in seconds; the Gmail that it asks last may not answer.
WAITS = {
    "trigger_sync": MAX_WAIT,
    "manage_mailboxes": max(MAX_WISH_WAIT, MAX_DISCOVERY_WAIT),
    # Of two calls of Gmail, each waits for its quota.
    "read_mailboxes": 2 * MAX_WAIT_SECONDS,
    # Gmail has said before whose consent it is.
    "oauth_callback": 2 * PATIENCE_SECONDS,
}
UNANSWERED = 2 * PATIENCE_SECONDS

# Which API a resource is made with, by the longest beginning of its type.
APIS = {
    "google_artifact_registry_": {"artifactregistry"},
    "google_cloud_run_service_": {"run"},
    "google_cloud_scheduler_": {"cloudscheduler"},
    "google_cloudfunctions2_function": {"cloudfunctions", "cloudbuild", "run"},
    "google_firestore_": {"firestore"},
    "google_logging_": {"logging"},
    "google_monitoring_": {"monitoring"},
    "google_project_iam_": {"cloudresourcemanager"},
    "google_project_iam_custom_role": {"iam"},
    "google_project_service": set[str](),  # by Service Usage, the one API that every project has
    "google_pubsub_": {"pubsub"},
    "google_secret_manager_": {"secretmanager"},
    "google_service_account": {"iam"},
    "google_storage_": {"storage"},
}
# What the functions call: mailboxes, and with delegation signatures.
CALLED = {"gmail", "iamcredentials"}


def mistakes(plan: Plan) -> list[str]:
    """Return what is wrong with a plan for an empty project: nothing, when it is as it should be."""
    return [mistake for rule in RULES for mistake in rule(plan)]


def _strangers(plan: Plan) -> Mistakes:
    doors = [grant for function in _public(plan) for grant in _bindings(plan, function)]
    for resource in plan.resources:
        for text in resource.strings():
            if text in PUBLIC and not (text == EVERYBODY and resource in doors):
                yield f"{resource.address} is open to everybody: {text}."
            if text in PRIMITIVE:
                yield f"{resource.address} gives a primitive role: {text}."
            if DEFAULT_ACCOUNT.search(text):
                yield f"{resource.address} relies on a default service account: {text}."


def _grants(plan: Plan) -> Mistakes:
    for grant in plan.resources:
        if re.fullmatch(r"google_project_iam_(policy|binding)", grant.type):
            yield f"{grant.address} takes its rights from everybody else in the project."
        if grant.type == "google_project_iam_member" and grant["role"] not in UNCONDITIONED and not grant["condition"]:
            yield f"{grant.address} is for the whole project: it has no condition."
        if grant.type == "google_project_iam_custom_role":
            for permission in grant["permissions"]:
                if ESCALATION.search(permission):
                    yield f"{grant.address} allows more than it seems to: {permission}."


def _exposed(plan: Plan) -> Mistakes:
    for function in _public(plan):
        account = plan.meant(function["service_config.service_account_email"], "google_service_account")
        for grant in plan.resources:
            if account is None or plan.meant(grant["member"], account.type) != account:
                continue
            if grant.type == "google_storage_bucket_iam_member":
                yield f"{grant.address} is for a function that everybody may call: it has no business with bodies."
            # Of a role that comes from a local a plan does not tell which it is: terraform/tests looks at those.
            role = plan.meant(grant["role"], "google_project_iam_custom_role")
            for permission in role["permissions"] if role is not None else ():
                # What it has just kept it takes back when the mailbox is gone by then.
                if permission.endswith(".delete") and permission != "secretmanager.secrets.delete":
                    yield f"{grant.address} lets a function delete that everybody may call: {permission}."
        if not 0 < (function["service_config.max_instance_count"] or 0) <= MOST_IN_PUBLIC:
            yield f"{function.address} costs whatever everybody likes: {MOST_IN_PUBLIC} instances are enough."


def _functions(plan: Plan) -> Mistakes:
    known = source.entry_points()
    asked = {name for name, entry in known.items() if entry.caller != "browsers" or _consents_in_public(plan)}
    deployed = {function["build_config.entry_point"] for function in plan.of_type("google_cloudfunctions2_function")}
    for name in sorted(deployed - known.keys()):
        yield f"main.py has no entry point {name}."
    for name in sorted(asked - deployed):
        yield f"Entry point {name} of main.py is not deployed."
    for name in sorted((deployed & known.keys()) - asked):
        yield f"Entry point {name} is for everybody, and nobody asked for that."
    accounts: dict[str, str] = {}
    for function in plan.of_type("google_cloudfunctions2_function"):
        account = plan.meant(function["service_config.service_account_email"], "google_service_account")
        if account is None:
            yield f"{function.address} does not say as which of the planned accounts it runs."
        elif account.address in accounts:
            yield f"{function.address} runs as the same account as {accounts[account.address]}: {account.address}."
        else:
            accounts[account.address] = function.address
        if plan.meant(function["build_config.service_account"], "google_service_account") is None:
            yield f"{function.address} does not say as which of the planned accounts it is built."


def _environment(plan: Plan) -> Mistakes:
    auth = plan.variables["gmail_auth"]
    wanted = source.variables().keys() - LEFT_OUT.keys() - OF_THE_OTHER_AUTH[auth]
    for function in plan.of_type("google_cloudfunctions2_function"):
        passed: dict[str, Any] = function["service_config.environment_variables"]
        for name in sorted(wanted - passed.keys()):
            yield f"{function.address} is not passed {name}."
        for name in sorted(passed.keys() - source.variables().keys() - READ_BY_OTHERS):
            yield f"{function.address} is passed {name}, which nobody reads."
        if bool(passed.get("OAUTH_REDIRECT_URI")) != _consents_in_public(plan):
            yield f"{function.address} sends users' answers to where nothing takes them, or to administrators only."
        passed = passed | {name: value for name, value in _later(plan).items() if isinstance(passed.get(name), Later)}
        for name, value in passed.items():
            if isinstance(value, Later):
                yield f"{function.address} is passed {name} with a value that no plan shows."
        try:
            Settings.from_env({name: value for name, value in passed.items() if isinstance(value, str)})
        except BadSetting as bad:
            yield f"{function.address} would not start: {bad}"


def _callers(plan: Plan) -> Mistakes:
    grants = plan.of_type("google_cloud_run_service_iam_binding")
    for other in plan.resources:
        if re.match(r"google_(cloud_run|cloudfunctions).*_iam_", other.type) and other not in grants:
            yield f"{other.address} lets others call a function than its binding does."
    for entry in source.entry_points().values():
        for function in _with_entry_point(plan, entry.name):
            bindings = _bindings(plan, function)
            if entry.caller in ("admins", "readers"):
                yield from _called_by_people(plan, function, bindings, entry.caller)
            elif entry.caller == "browsers":
                yield from _called_by_everybody(function, bindings)
            else:
                yield from _called_by_google(plan, function, bindings)
    for name, wait in WAITS.items():
        for function in _with_entry_point(plan, name):
            if function["service_config.timeout_seconds"] <= wait + UNANSWERED:
                yield f"{function.address} is stopped before the {wait + UNANSWERED:.0f} s are over that it may take."


def _called_by_people(plan: Plan, function: Resource, bindings: list[Resource], who: str) -> Mistakes:
    named = sorted(plan.variables[who])
    if [sorted(map(str, binding["members"])) for binding in bindings] != ([named] if named else []):
        yield f"{function.address} can be called by others than the {who}, or not by them."


def _called_by_everybody(function: Resource, bindings: list[Resource]) -> Mistakes:
    if function["service_config.ingress_settings"] != "ALLOW_ALL":
        yield f"{function.address} cannot be reached by browsers."
    if [binding["members"] for binding in bindings] != [[EVERYBODY]]:
        yield f"{function.address} cannot be called by every browser, or can be by others than it is for."


def _called_by_google(plan: Plan, function: Resource, bindings: list[Resource]) -> Mistakes:
    if function["service_config.ingress_settings"] != "ALLOW_INTERNAL_ONLY":
        yield f"{function.address} can be reached from outside."
    if len(bindings) != 1 or not bindings[0]["members"]:
        yield f"{function.address} can be called by nobody, or in more than one binding."
    for binding in bindings:
        for member in binding["members"]:
            if not _own_account(plan, member):
                yield f"{binding.address} lets {member} call {function.address}."


def _subscriptions(plan: Plan) -> Mistakes:
    subscriptions = plan.of_type("google_pubsub_subscription")
    kept = [plan.meant(subscription["topic"], "google_pubsub_topic") for subscription in subscriptions]
    pushed = set()
    for subscription in subscriptions:
        if subscription["expiration_policy.ttl"] != "":
            yield f"{subscription.address} expires when no message comes for a while."
        if not subscription["push_config"]:
            continue
        topic = plan.meant(subscription["topic"], "google_pubsub_topic")
        pushed |= {topic["name"]} if topic else set()
        if plan.meant(subscription["push_config.oidc_token.service_account_email"], "google_service_account") is None:
            yield f"{subscription.address} pushes without a token of a planned account."
        if subscription["push_config.oidc_token.audience"] != subscription["push_config.push_endpoint"]:
            yield f"{subscription.address} pushes to another address than its token is made for."
        if not _comes_from(subscription["push_config.push_endpoint"], "google_cloudfunctions2_function"):
            yield f"{subscription.address} pushes to something that is not a planned function."
        dead_letters = plan.meant(subscription["dead_letter_policy.dead_letter_topic"], "google_pubsub_topic")
        if dead_letters is None:
            yield f"{subscription.address} has no dead letters: what fails is repeated until it is lost."
        elif dead_letters not in kept:
            yield f"{dead_letters.address} has no subscription: dead letters are lost."
        if any(
            function["service_config.timeout_seconds"] > subscription["ack_deadline_seconds"]
            for entry in source.entry_points().values()
            if topic is not None and entry.topic == topic["name"]
            for function in _with_entry_point(plan, entry.name)
        ):
            yield f"{subscription.address} pushes again while the function still works."
    for entry in source.entry_points().values():
        if entry.topic and entry.topic not in pushed:
            yield f"Nothing pushes {entry.topic} to {entry.name}."


def _publishers(plan: Plan) -> Mistakes:
    grants = [resource for resource in plan.resources if resource.type.startswith("google_pubsub_topic_iam_")]
    for topic in plan.of_type("google_pubsub_topic"):
        own = [grant for grant in grants if plan.meant(grant["topic"], "google_pubsub_topic") == topic]
        if [grant.type for grant in own] != ["google_pubsub_topic_iam_binding"]:
            yield f"{topic.address} does not have exactly one binding that says who publishes."
        for grant in own:
            members = grant["members"] if isinstance(grant["members"], list) else [grant["member"]]
            for member in members:
                if not _may_publish(plan, member, topic["name"]):
                    yield f"{grant.address} lets {member} publish to {topic['name']}."
            if grant["role"] != "roles/pubsub.publisher":
                yield f"{grant.address} gives another role than to publish: {grant['role']}."


def _schedules(plan: Plan) -> Mistakes:
    jobs = plan.of_type("google_cloud_scheduler_job")
    for entry in source.entry_points().values():
        for function in _with_entry_point(plan, entry.name) if entry.caller == "scheduler" else []:
            called = [job for job in jobs if plan.meant(job["http_target.uri"], function.type) == function]
            if len(called) != 1:
                yield f"{function.address} is not called by exactly one job."
            if any(_seconds(job["attempt_deadline"]) < function["service_config.timeout_seconds"] for job in called):
                yield f"{function.address} may take longer than its job waits."
    for job in jobs:
        if plan.meant(job["http_target.oidc_token.service_account_email"], "google_service_account") is None:
            yield f"{job.address} calls without a token of a planned account."
        if job["http_target.oidc_token.audience"] != job["http_target.uri"]:
            yield f"{job.address} calls another address than its token is made for."
        if not (job["retry_config.retry_count"] or 0) > 0:
            yield f"{job.address} is not repeated when it fails."


def _storage(plan: Plan) -> Mistakes:
    for bucket in plan.of_type("google_storage_bucket"):
        if bucket["uniform_bucket_level_access"] is not True:
            yield f"{bucket.address} has rights beside IAM's."
        if bucket["public_access_prevention"] != "enforced":
            yield f"{bucket.address} could be made public."
    for database in plan.of_type("google_firestore_database"):
        if (
            database["delete_protection_state"] != "DELETE_PROTECTION_ENABLED"
            or database["deletion_policy"] != "ABANDON"
        ):
            yield f"{database.address} can be deleted, and all mail with it."
        if database["point_in_time_recovery_enablement"] != "POINT_IN_TIME_RECOVERY_ENABLED":
            yield f"{database.address} cannot be read as of an earlier minute."
    if not plan.of_type("google_firestore_backup_schedule"):
        yield "The database is not backed up."


def _documents(plan: Plan) -> Mistakes:
    known, configured = source.fields(), plan.of_type("google_firestore_field")
    queries = source.queries()
    expiring = {(collection, "expireAt") for collection, names in known.items() if "expireAt" in names}
    deleted = {(field["collection"], field["field"]) for field in configured if field["ttl_config"]}
    for collection, name in sorted(expiring - deleted):
        yield f"{collection.capitalize()} are kept for ever: {collection}.{name} has no TTL policy."
    for collection, name in sorted(deleted - expiring):
        yield f"Firestore deletes documents once {collection}.{name} has passed, which is not meant to end them."
    for field in configured:
        collection, name = field["collection"], field["field"]
        if name != "*" and name not in known.get(collection, set()):
            yield f"{field.address} is about a field that no document has: {collection}.{name}."
        for asked, by in queries:
            if (
                asked == collection
                and (name in {"*", by} or by.startswith(f"{name}."))
                and not field["index_config.indexes"]
            ):
                yield f"{field.address} takes the index from a field that is queried: {asked}.{by}."
    for index in plan.of_type("google_firestore_index"):
        collection = index["collection"]
        for name in (part["field_path"] for part in index["fields"]):
            if name not in known.get(collection, set()):
                yield f"{index.address} is about a field that no document has: {collection}.{name}."


def _apis(plan: Plan) -> Mistakes:
    enabled = {service["service"] for service in plan.of_type("google_project_service")}
    needed = dict.fromkeys(CALLED, "what the functions call")
    if plan.variables["directory_admin"]:
        needed["admin"] = "whom administrators discover"
    for resource in plan.resources:
        beginnings = [beginning for beginning in APIS if resource.type.startswith(beginning)]
        if not beginnings:
            yield f"{resource.address} is of a type that the judge knows no API for."
        else:
            needed |= dict.fromkeys(APIS[max(beginnings, key=len)], resource.address)
    for api, why in needed.items():
        if f"{api}.googleapis.com" not in enabled:
            yield f"{api}.googleapis.com is not enabled, but needed for {why}."
    for service in plan.of_type("google_project_service"):
        if service["disable_on_destroy"] is not False:
            yield f"{service.address} takes the API from the rest of the project when it is destroyed."


def _order(plan: Plan) -> Mistakes:
    for resource in plan.resources:
        # The name of a role that is made with the deployment is not known before.
        of_a_new_role = "_iam_" in resource.type and isinstance(resource["role"], Later)
        built = resource.type == "google_cloudfunctions2_function"
        if (of_a_new_role or built) and "google_firestore_index.query" not in resource.after:
            yield f"{resource.address} does not wait until Google knows everywhere what was just made and given."


def _secrets(plan: Plan) -> Mistakes:
    for resource in plan.resources:
        if resource.type in {
            "google_secret_manager_secret_version",
            "google_service_account_key",
            "google_storage_hmac_key",
        }:
            yield f"{resource.address} puts a secret into the state."


def _consents_in_public(plan: Plan) -> bool:
    """Whether users are to consent in their own browsers."""
    return plan.variables["gmail_auth"] == "oauth" and plan.variables["public_consent"] is True


def _public(plan: Plan) -> list[Resource]:
    """Return the functions that everybody may call."""
    names = [name for name, entry in source.entry_points().items() if entry.caller == "browsers"]
    return [function for name in names for function in _with_entry_point(plan, name)]


def _bindings(plan: Plan, function: Resource) -> list[Resource]:
    grants = plan.of_type("google_cloud_run_service_iam_binding")
    return [grant for grant in grants if grant["service"] == function["name"]]


def _later(plan: Plan) -> dict[str, str]:
    """Return what variables will be that are known only after apply."""
    project, region = plan.variables["project"], plan.variables["region"]
    return {
        "GMAIL_DELEGATE": f"mailmirror-delegate@{project}.iam.gserviceaccount.com",
        "OAUTH_REDIRECT_URI": f"https://mailmirror-oauth-callback-123456789012.{region}.run.app/oauth/callback",
    }


def _with_entry_point(plan: Plan, name: str) -> list[Resource]:
    functions = plan.of_type("google_cloudfunctions2_function")
    return [function for function in functions if function["build_config.entry_point"] == name]


def _own_account(plan: Plan, member: object) -> bool:
    """Whether a member is an account of the deployment's own, as far as the plan can tell."""
    return _comes_from(member, "google_service_account") or plan.meant(member, "google_service_account") is not None


def _may_publish(plan: Plan, member: object, topic: str) -> bool:
    if topic == NOTIFICATIONS:
        return member == GMAIL
    if isinstance(member, str) and PUBSUB_AGENT.fullmatch(member):
        return topic.endswith(DEAD_LETTERS)
    return _own_account(plan, member)


def _comes_from(value: object, type_: str) -> bool:
    """Whether a value not known yet is made of resources of a type, or of locals, which a plan does not explain."""
    return isinstance(value, Later) and any(each.startswith((f"{type_}.", "local.")) for each in value.sources)


def _seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


RULES: tuple[Callable[[Plan], Mistakes], ...] = (
    _strangers,
    _grants,
    _exposed,
    _functions,
    _environment,
    _callers,
    _subscriptions,
    _publishers,
    _schedules,
    _storage,
    _documents,
    _apis,
    _order,
    _secrets,
)
