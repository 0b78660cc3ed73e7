"""terraform/delivery: what Cloud Build may do, judged by its plan and by what terraform/ gives to whom.

Real Terraform plans it, with the providers of its registry or with stand-ins; nothing is asked of Google Cloud.
"""

import re
from typing import Any

import pytest

from tests.terraform.configuration import Configuration, TerraformFailed
from tests.terraform.conftest import Initialise
from tests.terraform.test_cloudbuild import APPLY, PLAN, parsed, used_substitutions
from tests.test_repository import ROOT

DELIVERY = ROOT / "terraform" / "delivery"
REPOSITORY = "projects/my-project-123/locations/europe-west4/connections/github/repositories/mailmirror"
VALUES = {"project": "my-project-123", "region": "europe-west1", "repository": REPOSITORY}

# What reads mail, a secret's value or a message, and what makes an account's tokens or keys.
DATA = re.compile(
    r"datastore\.(entities\.\w+|databases\.(get|export|clone|bulkDelete))|datastore\.(backups|userCreds)\..*"
    r"|storage\.objects\..*|secretmanager\.versions\..*|pubsub\.(topics\.publish|subscriptions\.consume|snapshots\..*)"
    r"|logging\.(logEntries|privateLogEntries|views)\..*|artifactregistry\.repositories\.(upload|download)Artifacts"
    r"|cloudfunctions\.functions\.(call|invoke|sourceCodeGet)|run\.(routes|jobs)\..*"
    r"|iam\.(serviceAccountKeys\..*|serviceAccounts\.(getAccessToken|getOpenIdToken|implicitDelegation|sign\w+))"
)
READS = re.compile(r"[\w.]+\.(get|list|getIamPolicy|getMetadata|fullView)")

Resource = dict[str, Any]
Plan = dict[str, Resource]

# What manages each type of resource of terraform/: the permission that goes before .create, .update and the like.
MANAGES = {
    "google_artifact_registry_repository": "artifactregistry.repositories",
    "google_cloud_run_service": "run.services",
    "google_cloud_scheduler_job": "cloudscheduler.jobs",
    "google_cloudfunctions2_function": "cloudfunctions.functions",
    "google_firestore_backup_schedule": "datastore.backupSchedules",
    "google_firestore_database": "datastore.databases",
    "google_firestore_field": "datastore.schemas",
    "google_firestore_index": "datastore.schemas",
    "google_logging_metric": "logging.logMetrics",
    "google_logging_project_exclusion": "logging.exclusions",
    "google_monitoring_alert_policy": "monitoring.alertPolicies",
    "google_monitoring_dashboard": "monitoring.dashboards",
    "google_project_iam_custom_role": "iam.roles",
    "google_pubsub_subscription": "pubsub.subscriptions",
    "google_pubsub_topic": "pubsub.topics",
    "google_secret_manager_secret": "secretmanager.secrets",
    "google_service_account": "iam.serviceAccounts",
    "google_storage_bucket": "storage.buckets",
}
# Given otherwise: rights in the project by .grants, objects by .bundles (in accounts.tf), an API by a verb of its own.
OTHERWISE = {"google_project", "google_project_service", "google_storage_bucket_object"}


@pytest.fixture(scope="session")
def delivery(initialise: Initialise) -> Configuration:
    """The configuration, initialised."""
    return initialise("terraform/delivery")


@pytest.fixture(scope="session")
def plan(delivery: Configuration) -> Plan:
    """The planned values of each resource, by address."""
    resources = delivery.plan(**VALUES)["planned_values"]["root_module"]["resources"]
    return {each["address"]: each["values"] for each in resources}


def of_type(plan: Plan, kind: str) -> Plan:
    """Return the resources of a type."""
    return {address: values for address, values in plan.items() if address.partition(".")[0] == kind}


def grants(plan: Plan) -> Plan:
    """Return the resources that give somebody a role."""
    return {address: values for address, values in plan.items() if re.search(r"_iam_(member|binding)\.", address)}


def permissions(plan: Plan, role: str) -> set[str]:
    """Return what a custom role permits."""
    return set(plan[f"google_project_iam_custom_role.{role}"]["permissions"])


def condition(values: Resource) -> str:
    """Return the expression of a grant's condition, empty where it has none."""
    return "".join(each["expression"] for each in values.get("condition") or [])


def wrong_grants(plan: Plan) -> list[str]:
    """Grants of a primitive role, to the public or a default account, and of project rights that should be narrowed."""
    wrong = []
    for address, values in grants(plan).items():
        role, members = values.get("role") or "", [values.get("member"), *(values.get("members") or [])]
        if role in {"roles/owner", "roles/editor", "roles/viewer", "roles/iam.securityAdmin"}:
            wrong.append(f"{address}: {role}")
        if any(re.search(r"^all(Authenticated)?Users$|-compute@|@cloudbuild\.", member or "") for member in members):
            wrong.append(f"{address}: {members}")
        broad = role.startswith(
            ("roles/storage.", "roles/datastore.", "roles/secretmanager.", "roles/resourcemanager.")
        )
        if broad and "google_project_iam_" in address and not condition(values):
            wrong.append(f"{address}: {role} without a condition")
    return wrong


def wrong_roles(plan: Plan) -> list[str]:
    """Permissions that reach data, and those of the planner that change something."""
    planner, deployer = permissions(plan, "planner"), permissions(plan, "deployer")
    return sorted(filter(DATA.fullmatch, planner | deployer)) + sorted(
        permission for permission in planner if not READS.fullmatch(permission)
    )


def wrong_triggers(plan: Plan) -> list[str]:
    """Triggers that apply without an approval."""
    triggers = of_type(plan, "google_cloudbuild_trigger")
    approved = {
        address
        for address, values in triggers.items()
        if any(each.get("approval_required") for each in values.get("approval_config") or [])
    }
    applying = {address for address, values in triggers.items() if values["filename"] == APPLY}
    return sorted(f"{address} needs no approval" for address in applying - approved)


def test_nobody_is_given_too_much(plan: Plan) -> None:
    """No primitive role, no public member, no default account; what is given in the project is narrowed."""
    assert grants(plan)
    assert wrong_grants(plan) == []


@pytest.mark.parametrize(
    ("address", "change"),
    [
        ("google_project_iam_member.stage", {"role": "roles/editor"}),
        ("google_storage_bucket_iam_member.viewer", {"member": "allUsers"}),
        ("google_project_iam_member.logs", {"member": "serviceAccount:1-compute@developer.gserviceaccount.com"}),
        ("google_project_iam_member.bundles", {"condition": []}),
        ("google_project_iam_member.grants", {"condition": []}),
    ],
)
def test_too_much_is_found(address: str, change: Resource, plan: Plan) -> None:
    """A role, a member or a missing condition that gives too much is found, wherever it is planted."""
    planted = {each: {**values, **(change if each.startswith(address) else {})} for each, values in plan.items()}
    found = {mistake.partition(":")[0].partition("[")[0] for mistake in wrong_grants(planted)}
    assert found == {address}


def test_no_build_reads_data(plan: Plan) -> None:
    """What plans only reads settings; neither that nor what deploys reads mail, secrets, messages or tokens."""
    assert wrong_roles(plan) == []


@pytest.mark.parametrize(
    "permission",
    [
        "datastore.entities.get",
        "datastore.databases.get",
        "storage.objects.get",
        "secretmanager.versions.access",
        "pubsub.subscriptions.consume",
        "iam.serviceAccounts.getAccessToken",
        "storage.buckets.update",
    ],
)
def test_a_permission_too_many_is_found(permission: str, plan: Plan) -> None:
    """A permission on data, or to change what is only to be planned, is found in the planner's role."""
    address = "google_project_iam_custom_role.planner"
    role = {**plan[address], "permissions": [*plan[address]["permissions"], permission]}
    assert permission in wrong_roles({**plan, address: role})


def test_mail_outlives_a_deployment(plan: Plan) -> None:
    """What deploys cannot delete the database, a bucket or a secret."""
    kept = {"datastore.databases.delete", "storage.buckets.delete", "secretmanager.secrets.delete"}
    assert not kept & permissions(plan, "deployer")


def test_a_deployment_can_be_compared_before_it_is_changed(plan: Plan) -> None:
    """Whatever is changed can be read too, by what plans as well, or plans would not show what an apply does."""
    planner, deployer = permissions(plan, "planner"), permissions(plan, "deployer")
    assert planner < deployer
    # What a job calls is shown to those alone who may have a full view of it.
    assert "cloudscheduler.jobs.fullView" in planner
    changed = {p.rpartition(".")[0] for p in deployer if p.endswith((".create", ".update", ".enable"))}
    read = {p.rpartition(".")[0] for p in planner if p.endswith((".get", ".getMetadata"))}
    assert changed <= read
    policies = {p.removesuffix(".setIamPolicy") for p in deployer if p.endswith(".setIamPolicy")}
    assert policies <= {p.removesuffix(".getIamPolicy") for p in planner if p.endswith(".getIamPolicy")}


def test_only_what_is_approved_is_applied(plan: Plan) -> None:
    """The trigger that applies waits for an approval and runs for main alone, as nobody else's account."""
    assert wrong_triggers(plan) == []
    triggers = of_type(plan, "google_cloudbuild_trigger")
    assert {address.partition(".")[2]: values["filename"] for address, values in triggers.items()} == {
        "review": PLAN,
        "plan": PLAN,
        "deploy": APPLY,
    }
    for name, event in (("review", "pull_request"), ("plan", "push"), ("deploy", "push")):
        (events,) = triggers[f"google_cloudbuild_trigger.{name}"]["repository_event_config"]
        assert [each["branch"] for each in events[event]] == ["^main$"]


def test_an_apply_without_approval_is_found(plan: Plan) -> None:
    """Without its approval the trigger of the apply is found."""
    address = "google_cloudbuild_trigger.deploy"
    for approval in ([], [{"approval_required": False}]):
        planted = {**plan, address: {**plan[address], "approval_config": approval}}
        assert wrong_triggers(planted) == [f"{address} needs no approval"]


def test_each_trigger_has_an_account_of_its_own(plan: Plan) -> None:
    """Three triggers, three accounts, and the builds' files name two of them."""
    accounts = {values["account_id"] for values in of_type(plan, "google_service_account").values()}
    assert accounts == {"mailmirror-review", "mailmirror-plan", "mailmirror-deploy"}
    text = (DELIVERY / "triggers.tf").read_text()
    for stage in ("review", "plan", "deploy"):
        block = re.search(rf'"google_cloudbuild_trigger" "{stage}".*?\n}}', text, re.DOTALL)
        assert block is not None
        assert re.findall(r"google_service_account\.stage\[\"(\w+)\"\]", block[0]) == [stage]
    for file in (PLAN, APPLY):
        named = re.search(r"/serviceAccounts/([a-z-]+)@", parsed(file)["serviceAccount"])
        assert named is not None
        assert named[1] in accounts


def test_triggers_say_what_builds_ask(plan: Plan) -> None:
    """A trigger's substitutions are those that its build uses, and the state is where the file's default says."""
    for values in of_type(plan, "google_cloudbuild_trigger").values():
        build = parsed(values["filename"])
        asked = used_substitutions(build) & set(build["substitutions"])
        assert set(values["substitutions"]) == asked
        default = build["substitutions"]["_STATE_BUCKET"].replace("${PROJECT_ID}", VALUES["project"])
        assert values["substitutions"]["_STATE_BUCKET"] == default
        assert values["location"] == "europe-west4"


def test_a_pull_request_writes_no_plan_that_is_applied(plan: Plan) -> None:
    """A pull request's build writes its folder and the lock; main's its own, and no state that is already there."""
    given = {
        address.partition(".")[2]: (values["role"].removeprefix("roles/storage."), condition(values))
        for address, values in of_type(plan, "google_storage_bucket_iam_member").items()
    }
    lock = ("objectUser", 'resource.name.endsWith(".tflock")')
    folder = 'resource.name.startsWith("projects/_/buckets/my-project-123-mailmirror-state/objects/{}/")'.format
    assert given == {
        'viewer["review"]': ("objectViewer", ""),
        'viewer["plan"]': ("objectViewer", ""),
        'lock["review"]': lock,
        'lock["plan"]': lock,
        'plans["review"]': ("objectUser", folder("reviews")),
        'plans["plan"]': ("objectUser", folder("plans")),
        "first_state": ("objectCreator", 'resource.name.endsWith(".tfstate")'),
        "deploy": ("objectUser", ""),
    }
    substitutions = {name: plan[f"google_cloudbuild_trigger.{name}"]["substitutions"] for name in ("review", "plan")}
    assert {name: values["_PLANS"] for name, values in substitutions.items()} == {"review": "reviews", "plan": "plans"}


def test_every_role_that_is_given_in_the_project_may_be_given(plan: Plan) -> None:
    """The deploying account may give what terraform/ gives in the project: by name, and not more than IAM takes."""
    expression = condition(plan["google_project_iam_member.grants"])
    allowed = set(re.findall(r"'((?:projects|roles)/[^']+)'", expression))
    assert expression.startswith("api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly([")
    assert len(allowed) <= 10
    text = "".join(file.read_text() for file in (ROOT / "terraform").glob("*.tf"))
    blocks = re.findall(r'^resource "google_project_iam_member" "\w+" \{$.*?^\}$', text, re.DOTALL | re.MULTILINE)
    given = {role for block in blocks for role in re.findall(r'role\s*= "(roles/[^"]+)"', block)}
    # A role on documents can only be given in the project, as a database has no policy of its own, and one on secrets
    # that do not exist yet neither.
    custom = re.findall(r'^  role_id\s*= "(\w+)"$(.*?)^\}$', text, re.DOTALL | re.MULTILINE)
    in_the_project = [role for role, body in custom if re.search(r'"(datastore\.entities|secretmanager)\.', body)]
    assert len(in_the_project) == 5
    given |= {f"projects/my-project-123/roles/{role}" for role in in_the_project}
    assert allowed == given


def test_the_bundles_bucket_is_the_deployment_s(plan: Plan) -> None:
    """The one bucket whose objects builds may read beside the state is the one that bundles are uploaded to."""
    found = re.search(
        r'"google_storage_bucket" "source" \{.*?^  name\s*= "\$\{var\.project\}([^"]+)"',
        (ROOT / "terraform" / "storage.tf").read_text(),
        re.DOTALL | re.MULTILINE,
    )
    assert found is not None
    expressions = {condition(plan[f'google_project_iam_member.bundles["{s}"]']) for s in ("review", "plan", "deploy")}
    assert expressions == {f'resource.name.startsWith("projects/_/buckets/my-project-123{found[1]}/")'}


def test_the_state_is_kept(plan: Plan) -> None:
    """The state's bucket keeps earlier versions, is closed to the public, and deletes only plans by their age."""
    bucket = plan["google_storage_bucket.state"]
    assert bucket["versioning"][0]["enabled"] is True
    assert bucket["uniform_bucket_level_access"] is True
    assert bucket["public_access_prevention"] == "enforced"
    for rule in bucket["lifecycle_rule"]:
        (when,) = rule["condition"]
        assert when.get("matches_prefix") == ["plans/", "reviews/"] or (
            when["num_newer_versions"] >= 10 and when["with_state"] == "ARCHIVED"
        )


def test_what_deploys_manages_every_resource(plan: Plan) -> None:
    """For each type of resource in terraform/ the deploying account may make, change and read it, or set its policy."""
    text = "".join(file.read_text() for file in (ROOT / "terraform").glob("*.tf"))
    types = set(re.findall(r'^resource "(\w+)"', text, re.MULTILINE))
    assert types
    needed = set()
    for kind in types:
        resource = re.sub(r"_iam_(member|binding)$", "", kind)
        if resource not in OTHERWISE:
            verbs = ("create", "update", "get") if resource == kind else ("getIamPolicy", "setIamPolicy")
            needed |= {f"{MANAGES[resource]}.{verb}" for verb in verbs}
    # A database's settings are read under another name.
    needed = {permission.replace("datastore.databases.get", "datastore.databases.getMetadata") for permission in needed}
    # https://docs.cloud.google.com/firestore/native/docs/security/iam
    needed |= {"datastore.locations.get", "datastore.locations.list"}
    assert needed - permissions(plan, "deployer") == set()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("project", "My Project"),
        ("region", "europe-west1-b"),
        ("repository", "projects/p/locations/europe-west1/connections/github"),
    ],
)
def test_a_wrong_value_is_refused(variable: str, value: str, delivery: Configuration) -> None:
    """A value that cannot be one is refused with a sentence that names the variable."""
    with pytest.raises(TerraformFailed, match=f"{variable} must be "):
        delivery.plan(**{**VALUES, variable: value})
