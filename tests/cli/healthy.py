"""A deployment in which nothing is wrong, as Google's APIs tell it.

Knows: what terraform/ makes, in the words of the APIs, and two mailboxes that are synced. Breaking one thing in it is
what the tests do.
"""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from mailmirror.adapters.consents import token_secret
from mailmirror.documents import to_document
from mailmirror.fence import lease_document
from mailmirror.model import Lease, Mailbox, Watch

from mailmirror_cli.expected import APIS, BODY_ROLES, ENTRY_POINTS, INDEXES, PUSHES, ROLES, TTLS, EntryPoint
from tests.cli.googleapis import Binding, Cloud

PROJECT = "my-project"
NUMBER = "123456789012"
REGION = "europe-west1"
ADA, BOB = "ada@example.com", "bob@example.com"
APP = "serviceAccount:app@my-project.iam.gserviceaccount.com"
CLIENT_ID = "104857600000000000001"
SCOPE = "https://www.googleapis.com/auth/gmail.readonly"
CLIENT_SECRET = "GOCSPX-never-to-be-shown"
DATABASE = f"projects/{PROJECT}/databases/(default)"
BUCKET = f"{PROJECT}-mailmirror-bodies"

PUBSUB = f"pubsub.googleapis.com/v1/projects/{PROJECT}"
FUNCTIONS = f"cloudfunctions.googleapis.com/v2/projects/{PROJECT}/locations/-/functions"
RUN = f"run.googleapis.com/v2/projects/{PROJECT}/locations/{REGION}/services"
SCHEDULER = f"cloudscheduler.googleapis.com/v1/projects/{PROJECT}/locations"
IAM = "iam.googleapis.com/v1"
ACCOUNTS = f"{IAM}/projects/{PROJECT}/serviceAccounts"
RESOURCES = f"cloudresourcemanager.googleapis.com/v3/projects/{PROJECT}"
FIRESTORE = f"firestore.googleapis.com/v1/{DATABASE}"
STORAGE = f"storage.googleapis.com/storage/v1/b/{BUCKET}"
SECRETS = "secretmanager.googleapis.com/v1"
CLIENT = f"projects/{PROJECT}/secrets/mailmirror-oauth-client"
TOKENS = f"projects/{PROJECT}/secrets/mailmirror-token-"
REDIRECT = f"https://mailmirror-oauth-callback-{NUMBER}.{REGION}.run.app/oauth/callback"
METRICS = f"monitoring.googleapis.com/v3/projects/{PROJECT}/timeSeries"

# What the roles of Google that are given here have, as far as it matters.
PREDEFINED = {
    "roles/pubsub.publisher": ["pubsub.topics.publish"],
    "roles/pubsub.subscriber": ["pubsub.snapshots.seek", "pubsub.subscriptions.consume"],
    "roles/run.invoker": ["run.jobs.run", "run.routes.invoke"],
    "roles/secretmanager.secretAccessor": ["resourcemanager.projects.get", "secretmanager.versions.access"],
    "roles/storage.objectViewer": ["storage.objects.get", "storage.objects.list"],
}


def account(name: str) -> str:
    """Return the address of a service account."""
    return f"{name}@{PROJECT}.iam.gserviceaccount.com"


def member(name: str) -> str:
    """Return a service account as IAM writes it."""
    return f"serviceAccount:{account(name)}"


def address(function: str) -> str:
    """Return a function's run.app URL."""
    return f"https://{function}-abcdefghij-ew.a.run.app"


def binding(role: str, *members: str, condition: str | None = None) -> Binding:
    """Return a binding of a policy."""
    limited = {"condition": {"title": "mailmirror", "expression": condition}} if condition else {}
    return {"role": role, "members": list(members), **limited}


def own(role: str) -> str:
    """Return the full name of one of the project's roles."""
    return f"projects/{PROJECT}/roles/{role}"


def healthy(auth: str = "delegation") -> Cloud:
    """Return a deployment, with mailboxes opened in one of the two ways."""
    cloud = Cloud(services=dict.fromkeys(APIS, "ENABLED"))
    deployed = _entry_points(auth)
    names = [each.function for each in deployed]
    cloud.resources[RESOURCES] = {"name": f"projects/{NUMBER}", "projectId": PROJECT, "state": "ACTIVE"}
    cloud.resources[FUNCTIONS] = {"functions": [function(each.name, each.function, auth) for each in deployed]}
    accounts = [*names, "mailmirror-push", "mailmirror-scheduler", "mailmirror-build", "mailmirror-delegate"]
    cloud.resources[ACCOUNTS] = {
        "accounts": [
            {
                "name": f"projects/{PROJECT}/serviceAccounts/{account(name)}",
                "email": account(name),
                "uniqueId": CLIENT_ID,
            }
            for name in accounts
        ]
    }
    for role, permissions in PREDEFINED.items():
        cloud.resources[f"{IAM}/{role}"] = {"name": role, "includedPermissions": permissions}
    for role, needed in ROLES.items():
        cloud.resources[f"{IAM}/{own(role)}"] = {"name": own(role), "includedPermissions": list(needed)}
    _calls(cloud, names)
    _pubsub(cloud, [each.function for each in deployed if each.publishes])
    _firestore(cloud)
    _storage(cloud)
    _project_policy(cloud, auth)
    if auth == "delegation":
        _delegation(cloud)
    else:
        _consent(cloud)
    return cloud


def _entry_points(auth: str) -> list[EntryPoint]:
    """With consent, users give it in their own browsers."""
    return [each for each in ENTRY_POINTS if each.callers != "browsers" or auth == "oauth"]


def function(entry_point: str, name: str, auth: str = "delegation") -> dict[str, Any]:
    """Return a function as the API tells it."""
    more = (
        {"GMAIL_DELEGATE": account("mailmirror-delegate")}
        if auth == "delegation"
        else {"GMAIL_OAUTH_CLIENT": CLIENT, "GMAIL_TOKEN_PREFIX": TOKENS, "OAUTH_REDIRECT_URI": REDIRECT}
    )
    return {
        "name": f"projects/{PROJECT}/locations/{REGION}/functions/{name}",
        "state": "ACTIVE",
        "environment": "GEN_2",
        "buildConfig": {
            "entryPoint": entry_point,
            "runtime": "python313",
            "source": {"storageSource": {"bucket": f"{PROJECT}-mailmirror-source", "object": "functions-1a2b3c.zip"}},
        },
        "serviceConfig": {
            "service": f"projects/{PROJECT}/locations/{REGION}/services/{name}",
            "serviceAccountEmail": account(name),
            "timeoutSeconds": 120 if entry_point in ("manage_mailboxes", "oauth_callback") else 540,
            "uri": address(name),
            "environmentVariables": {
                "GOOGLE_CLOUD_PROJECT": PROJECT,
                "FIRESTORE_DATABASE": "(default)",
                "GMAIL_TOPIC": f"projects/{PROJECT}/topics/gmail-notifications",
                "WORK_TOPIC": f"projects/{PROJECT}/topics/mailbox-work",
                "DELTA_TOPIC": f"projects/{PROJECT}/topics/mailbox-deltas",
                "BODY_BUCKET": BUCKET,
                "GMAIL_AUTH": auth,
                "GMAIL_SCOPES": SCOPE,
                "STEP_SECONDS": "480",
                "THREADS": "4" if entry_point == "run_work" else "1",
                **more,
            },
        },
    }


def deployed(cloud: Cloud, name: str) -> dict[str, Any]:
    """Return one function of a deployment, to be changed."""
    found: dict[str, Any] = next(
        each for each in cloud.resources[FUNCTIONS]["functions"] if each["name"].endswith(f"/{name}")
    )
    return found


def mailbox(cloud: Cloud, name: str, **changes: Any) -> None:
    """Put a mailbox there, synced a minute ago, or change the fields of one."""
    now = datetime.now(UTC)
    value = Mailbox(
        email_address=name,
        created_at=now - timedelta(days=30),
        watch=Watch(expires_at=now + timedelta(days=6)),
        next_due_at=now + timedelta(minutes=14),
        phase="live",
        cursor=77,
        last_sync_at=now - timedelta(minutes=1),
    )
    cloud.documents[f"mailboxes/{name}"] = to_document(value) | changes, now


def lease(cloud: Cloud, name: str, ahead: timedelta = timedelta()) -> None:
    """Put a lease there, written a minute ago by a worker whose clock was ahead by so much."""
    written = datetime.now(UTC) - timedelta(minutes=1)
    value = Lease(owner="", token=3, expires_at=written + ahead + timedelta(seconds=120))
    cloud.documents[f"leases/{name}"] = dict(lease_document(value)), written


def _calls(cloud: Cloud, names: list[str]) -> None:
    callers = {
        "mailmirror-renew-watches": member("mailmirror-scheduler"),
        "mailmirror-sweep-mailboxes": member("mailmirror-scheduler"),
        "mailmirror-trigger-sync": "group:mail-admins@example.com",
        "mailmirror-manage-mailboxes": "group:mail-admins@example.com",
        "mailmirror-read-mailboxes": APP,
        "mailmirror-oauth-callback": "allUsers",
    }
    for name in names:
        who = callers.get(name, member("mailmirror-push"))
        cloud.policies[f"{RUN}/{name}"] = [binding("roles/run.invoker", who)]
    for name, schedule in (("mailmirror-renew-watches", "17 3 * * *"), ("mailmirror-sweep-mailboxes", "*/5 * * * *")):
        cloud.resources[f"{SCHEDULER}/{REGION}/jobs/{name}"] = {
            "name": f"projects/{PROJECT}/locations/{REGION}/jobs/{name}",
            "state": "ENABLED",
            "schedule": schedule,
            "timeZone": "Etc/UTC",
            "status": {},
            "lastAttemptTime": "2026-11-20T03:17:00.123456789Z",
            "httpTarget": {
                "uri": f"{address(name)}/",
                "httpMethod": "POST",
                "oidcToken": {"serviceAccountEmail": account("mailmirror-scheduler"), "audience": address(name)},
            },
        }
    places = [{"locationId": place} for place in ("europe-west1", "europe-west3", "us-central1")]
    cloud.resources[SCHEDULER] = [{"locations": places[:2]}, {"locations": places[2:]}]


def _pubsub(cloud: Cloud, names: list[str]) -> None:
    agent = f"serviceAccount:service-{NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com"
    publisher, subscriber = "roles/pubsub.publisher", "roles/pubsub.subscriber"
    for topic, entry_point in PUSHES.items():
        target = address(f"mailmirror-{entry_point.replace('_', '-')}")
        full, letters = f"projects/{PROJECT}/topics/{topic}", f"{topic}-dead-letters"
        cloud.resources[f"{PUBSUB}/topics/{topic}"] = {"name": full}
        cloud.resources[f"{PUBSUB}/topics/{letters}"] = {"name": f"{full}-dead-letters"}
        cloud.resources[f"{PUBSUB}/subscriptions/{topic}-push"] = {
            "name": f"projects/{PROJECT}/subscriptions/{topic}-push",
            "topic": full,
            "ackDeadlineSeconds": 600,
            "messageRetentionDuration": "604800s",
            "expirationPolicy": {},
            "deadLetterPolicy": {"deadLetterTopic": f"{full}-dead-letters", "maxDeliveryAttempts": 20},
            "pushConfig": {
                "pushEndpoint": target,
                "oidcToken": {"serviceAccountEmail": account("mailmirror-push"), "audience": target},
            },
            "state": "ACTIVE",
        }
        cloud.resources[f"{PUBSUB}/subscriptions/{letters}"] = {
            "name": f"projects/{PROJECT}/subscriptions/{letters}",
            "topic": f"{full}-dead-letters",
            "ackDeadlineSeconds": 60,
            "expirationPolicy": {},
            "state": "ACTIVE",
        }
        cloud.policies[f"{PUBSUB}/topics/{letters}"] = [binding(publisher, agent)]
        cloud.policies[f"{PUBSUB}/subscriptions/{topic}-push"] = [binding(subscriber, agent)]
    gmail = "serviceAccount:gmail-api-push@system.gserviceaccount.com"
    cloud.policies[f"{PUBSUB}/topics/gmail-notifications"] = [binding(publisher, gmail)]
    cloud.policies[f"{PUBSUB}/topics/mailbox-work"] = [binding(publisher, *map(member, names))]
    cloud.resources[f"{PUBSUB}/topics/mailbox-deltas"] = {"name": f"projects/{PROJECT}/topics/mailbox-deltas"}
    writing = [member(each.function) for each in ENTRY_POINTS if each.mirror == "write"]
    cloud.policies[f"{PUBSUB}/topics/mailbox-deltas"] = [binding(publisher, *writing)]
    cloud.resources[METRICS] = {"timeSeries": [waiting(f"{topic}-dead-letters", 0) for topic in PUSHES]}


def waiting(subscription: str, messages: int) -> dict[str, Any]:
    """Return the metric of a subscription in which so many messages wait: none did a minute before."""
    points = [
        {
            "interval": {"startTime": f"2026-11-20T10:0{minute}:00Z", "endTime": f"2026-11-20T10:0{minute}:00Z"},
            "value": {"int64Value": str(number)},
        }
        for minute, number in ((1, messages), (0, 0))
    ]
    return {
        "metric": {"type": "pubsub.googleapis.com/subscription/num_undelivered_messages"},
        "resource": {"type": "pubsub_subscription", "labels": {"subscription_id": subscription}},
        "metricKind": "GAUGE",
        "valueType": "INT64",
        "points": points,
    }


def _firestore(cloud: Cloud) -> None:
    cloud.resources[FIRESTORE] = {"name": DATABASE, "type": "FIRESTORE_NATIVE", "locationId": REGION}
    for number, index in enumerate(INDEXES):
        address = f"{FIRESTORE}/collectionGroups/{index.collection}/indexes"
        cloud.resources.setdefault(address, {"indexes": []})["indexes"].append(
            {
                "name": f"{DATABASE}/collectionGroups/{index.collection}/indexes/CICAgO{number}",
                "queryScope": "COLLECTION",
                "fields": [
                    *(
                        {"fieldPath": field, "arrayConfig" if kind == "CONTAINS" else "order": kind}
                        for field, kind in index.fields
                    ),
                    {"fieldPath": "__name__", "order": index.fields[-1][1]},
                ],
                "state": "READY",
            }
        )
    for collection, field in TTLS:
        path = f"collectionGroups/{collection}/fields/{field}"
        cloud.resources[f"{FIRESTORE}/{path}"] = {
            "name": f"{DATABASE}/{path}",
            "indexConfig": {},
            "ttlConfig": {"state": "ACTIVE"},
        }
    for name in (ADA, BOB):
        mailbox(cloud, name)
        lease(cloud, name)


def _storage(cloud: Cloud) -> None:
    cloud.resources[STORAGE] = {
        "name": BUCKET,
        "location": "EUROPE-WEST1",
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"},
    }
    cloud.policies[STORAGE] = [
        binding(own(role), *(member(each.function) for each in ENTRY_POINTS if each.bodies == right))
        for right, role in BODY_ROLES.items()
    ]
    cloud.policies[STORAGE].append(binding("roles/storage.objectViewer", APP))


def _project_policy(cloud: Cloud, auth: str) -> None:
    database = f'resource.name == "{DATABASE}"'
    writers = [member(each.function) for each in _entry_points(auth) if each.mirror == "write"]
    connectors = [member(each.function) for each in _entry_points(auth) if each.mirror == "connect"]
    readers = [member(each.function) for each in _entry_points(auth) if each.mirror == "read"]
    cloud.policies[RESOURCES] = [
        binding(own("mailmirrorMirrorWriter"), *writers, condition=database),
        binding(own("mailmirrorMirrorReader"), *readers, condition=database),
    ]
    if connectors:
        cloud.policies[RESOURCES].append(binding(own("mailmirrorMirrorConnector"), *connectors, condition=database))


def _delegation(cloud: Cloud) -> None:
    delegate = account("mailmirror-delegate")
    signers = [member(each.function) for each in _entry_points("delegation") if each.gmail]
    cloud.policies[f"{ACCOUNTS}/{delegate}"] = [binding(own("mailmirrorJwtSigner"), *signers)]
    cloud.clients[delegate] = CLIENT_ID
    cloud.delegated[CLIENT_ID] = {SCOPE}
    cloud.users = {ADA: ADA, BOB: BOB}


def _consent(cloud: Cloud) -> None:
    readers = [member(each.function) for each in ENTRY_POINTS if each.gmail]
    accessor = "roles/secretmanager.secretAccessor"
    cloud.policies[f"{SECRETS}/{CLIENT}"] = [binding(accessor, *readers)]
    tokens = f'resource.name.startsWith("projects/{NUMBER}/secrets/mailmirror-token-")'
    cloud.policies[RESOURCES].append(binding(accessor, *readers, condition=tokens))
    keepers = [member(each.function) for each in ENTRY_POINTS if each.keeps]
    either = f'resource.type == "cloudresourcemanager.googleapis.com/Project" || {tokens}'
    cloud.policies[RESOURCES].append(binding(own("mailmirrorTokenKeeper"), *keepers, condition=either))
    removers = [member(each.function) for each in ENTRY_POINTS if each.forgets]
    cloud.policies[RESOURCES].append(binding(own("mailmirrorTokenRemover"), *removers, condition=tokens))
    oauth_client(cloud, {"web": {"client_id": f"{NUMBER}-abc.apps.googleusercontent.com", "redirect_uris": [REDIRECT]}})
    secret(cloud, token_secret(TOKENS, ADA), 4)


def oauth_client(cloud: Cloud, content: dict[str, Any]) -> None:
    """Keep an OAuth client, with what every one has besides."""
    for fields in content.values():
        fields |= {"client_secret": CLIENT_SECRET, "token_uri": "https://oauth2.googleapis.com/token"}
    name = secret(cloud, CLIENT, 2)
    data = base64.b64encode(json.dumps(content).encode()).decode()
    cloud.resources[f"{SECRETS}/{name}:access"] = {"name": name, "payload": {"data": data}}


def secret(cloud: Cloud, name: str, number: int) -> str:
    """Keep a secret whose latest version has this number, and return that version's name."""
    full = name.replace(f"projects/{PROJECT}/", f"projects/{NUMBER}/")
    version = f"{full}/versions/{number}"
    cloud.resources[f"{SECRETS}/{name}"] = {"name": full}
    cloud.resources[f"{SECRETS}/{name}/versions/latest"] = {"name": version, "state": "ENABLED"}
    return f"{name}/versions/{number}"
