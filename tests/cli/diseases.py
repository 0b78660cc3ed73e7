"""What can be wrong with a deployment: one thing at a time, the check that sees it, and the commands that mend it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from mailmirror_cli.expected import TTLS
from tests.cli import healthy as h
from tests.cli.diseases_of_access import consent, delegation, mailboxes
from tests.cli.googleapis import Cloud
from tests.cli.harms import (
    DEPLOY,
    Disease,
    Harm,
    account,
    ahead,
    built,
    change,
    environment,
    function,
    lose,
    publish,
    service,
    strip,
    undeploy,
)

SYNC, WORK, SWEEP = "mailmirror-sync-history", "mailmirror-run-work", "mailmirror-sweep-mailboxes"
WHERE = "--region=europe-west1 --project=my-project"


def project() -> Iterator[Disease]:
    """Project, APIs and region."""
    undelete = ("gcloud projects undelete my-project",)
    yield Disease("project deleted", "project", change(h.RESOURCES, state="DELETE_REQUESTED"), undelete)
    yield Disease(
        "APIs off",
        "apis",
        lambda cloud: [cloud.services.pop(f"{name}.googleapis.com") for name in ("gmail", "pubsub")],
        ("gcloud services enable gmail.googleapis.com pubsub.googleapis.com --project=my-project",),
        "Not enabled: gmail.googleapis.com, pubsub.googleapis.com.",
    )
    enable = ("gcloud services enable admin.googleapis.com --project=my-project",)
    yield Disease("directory's API off", "apis", environment(DIRECTORY_ADMIN="root@example.com"), enable)

    def left_behind(cloud: Cloud) -> None:
        elsewhere = h.function("run_work", WORK)
        elsewhere["name"] = f"projects/{h.PROJECT}/locations/europe-north1/functions/{WORK}"
        cloud.resources[h.FUNCTIONS]["functions"].insert(0, elsewhere)

    delete = f"gcloud functions delete {WORK} --region=europe-north1 --project=my-project"
    yield Disease("a function left in another region", "region", left_behind, (delete,), "left in europe-north1")


def functions() -> Iterator[Disease]:
    """The functions."""
    hidden = frozenset({"calls.run_work", "pubsub.mailbox-work-push"})
    yield Disease("function gone", "functions.run_work", undeploy(WORK), hides=hidden)
    trouble = [{"severity": "ERROR", "type": "BuildError", "message": "Build failed: no such file."}]
    broken = function(WORK, state="FAILED", stateMessages=trouble)
    yield Disease("function broken", "functions.run_work", broken, says="no such file")
    deploying = function(WORK, state="DEPLOYING")
    yield Disease("function being deployed", "functions.run_work", deploying, (), outcome="warning")
    other = built(WORK, "sync_history", "functions-1a2b3c.zip")
    yield Disease("another entry point", "functions.run_work", other, says="runs the entry point sync_history")
    compute = f"{h.NUMBER}-compute@developer.gserviceaccount.com"
    yield Disease("another account", "functions.run_work", service(WORK, serviceAccountEmail=compute), says=compute)
    yield Disease("old code", "functions.bundle", built(WORK, "run_work", "functions-0000.zip"), says=WORK)

    def unfit(name: str, harm: Harm, says: str) -> Disease:
        return Disease(name, "functions.environment", harm, says=says)

    yield unfit("variable missing", environment(WORK, GMAIL_TOPIC=""), f"{WORK}: GMAIL_TOPIC is not set.")
    yield unfit("variable bad", environment(WORK, GMAIL_UNITS_PER_MINUTE="some"), "GMAIL_UNITS_PER_MINUTE='some'")
    yield unfit("variable differs", environment(WORK, LOG_LEVEL="DEBUG"), "differs from the others in LOG_LEVEL")
    topic = "projects/other/topics/gmail-notifications"
    yield unfit("another topic", environment(GMAIL_TOPIC=topic), f"GMAIL_TOPIC is {topic} and not projects/my-project")
    topic = "projects/my-project/topics/deltas"
    yield unfit(
        "another delta topic", environment(DELTA_TOPIC=topic), f"DELTA_TOPIC is {topic} and not projects/my-pro"
    )
    yield unfit("another Gmail", environment(GMAIL_API_ROOT="http://localhost:1/"), "GMAIL_API_ROOT")
    yield unfit("another project", environment(GOOGLE_CLOUD_PROJECT="other"), "GOOGLE_CLOUD_PROJECT is other")
    yield unfit("emulator", environment(PUBSUB_EMULATOR_HOST="localhost:1"), "localhost:1 and not empty")
    yield Disease("too little time", "functions.time", service(SYNC, timeoutSeconds=60), says=f"{SYNC} 60 s")
    pusher = account("mailmirror-push")
    yield Disease("account gone", "functions.accounts", pusher, says="no account mailmirror-push")
    enable = f"gcloud iam service-accounts enable {h.account(SWEEP)} --project=my-project"
    yield Disease("account disabled", "functions.accounts", account(SWEEP, disabled=True), (enable,))


def topics() -> Iterator[Disease]:
    """Topics, who may publish, and dead letters."""
    letters, agent = "gmail-notifications-dead-letters", f"service-{h.NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com"
    topic, dead = f"{h.PUBSUB}/topics/gmail-notifications", f"{h.PUBSUB}/topics/{letters}"
    push, kept = f"{h.PUBSUB}/subscriptions/gmail-notifications-push", f"{h.PUBSUB}/subscriptions/{letters}"

    def grant(kind: str, name: str, who: str, role: str) -> tuple[str, ...]:
        words = f"gcloud pubsub {kind} add-iam-policy-binding {name} --project=my-project"
        return (f"{words} --member=serviceAccount:{who} --role=roles/pubsub.{role}",)

    hidden = frozenset({"pubsub.gmail-publisher"})
    yield Disease("topic gone", "pubsub.gmail-notifications", lose(topic), hides=hidden)
    gmail = "gmail-api-push@system.gserviceaccount.com"
    yield Disease(
        "Gmail may not publish",
        "pubsub.gmail-publisher",
        strip(topic, f"serviceAccount:{gmail}"),
        grant("topics", "gmail-notifications", gmail, "publisher"),
        "terraform/examples/org-policy-exception",
    )
    silent = strip(f"{h.PUBSUB}/topics/mailbox-work", h.member(SWEEP))
    publisher = grant("topics", "mailbox-work", h.account(SWEEP), "publisher")
    yield Disease("a function may not publish", "pubsub.work-publishers", silent, publisher, SWEEP)
    deltas, hidden = f"{h.PUBSUB}/topics/mailbox-deltas", frozenset({"pubsub.delta-publishers"})
    yield Disease("delta topic gone", "pubsub.mailbox-deltas", lose(deltas), hides=hidden)
    publisher = grant("topics", "mailbox-deltas", h.account(WORK), "publisher")
    yield Disease(
        "a function may not publish deltas", "pubsub.delta-publishers", strip(deltas, h.member(WORK)), publisher, WORK
    )
    check, hidden = f"pubsub.{letters}", frozenset({"pubsub.agent"})
    yield Disease("dead-letter topic gone", check, lose(dead), hides=hidden)
    yield Disease("dead-letter subscription gone", check, lose(kept), says="dead letters are lost")
    delete = f"gcloud pubsub subscriptions delete {letters} --project=my-project", DEPLOY
    yield Disease("dead letters of another topic", check, change(kept, topic="_deleted-topic_"), delete)
    never = f"gcloud pubsub subscriptions update {letters} --project=my-project --expiration-period=never"
    yield Disease("dead letters expire", check, change(kept, expirationPolicy={"ttl": "86400s"}), (never,))
    member = f"serviceAccount:{agent}"
    publisher = grant("topics", letters, agent, "publisher")
    yield Disease("agent may not publish", "pubsub.agent", strip(dead, member), publisher)
    subscriber = grant("subscriptions", "gmail-notifications-push", agent, "subscriber")
    yield Disease("agent may not take", "pubsub.agent", strip(push, member), subscriber)
    pull = f"gcloud pubsub subscriptions pull {letters} --project=my-project --limit=20 --format=json"
    some = change(h.METRICS, timeSeries=[h.waiting(letters, 3)])
    yield Disease("dead letters wait", "pubsub.waiting", some, (pull,), f"3 in {letters}", outcome="warning")


def pushes() -> Iterator[Disease]:
    """Push subscriptions."""
    name, check = "gmail-notifications-push", "pubsub.gmail-notifications-push"
    push = f"{h.PUBSUB}/subscriptions/{name}"
    yield Disease("push gone", check, lose(push), hides=frozenset({"pubsub.agent"}))
    delete = f"gcloud pubsub subscriptions delete {name} --project=my-project", DEPLOY
    yield Disease("push of a deleted topic", check, change(push, topic="_deleted-topic_"), delete)
    yield Disease("push detached", check, change(push, detached=True), delete)
    address, pusher = h.address(SYNC), h.account("mailmirror-push")
    modify = (
        f"gcloud pubsub subscriptions modify-push-config {name} --project=my-project --push-endpoint={address} "
        f"--push-auth-service-account={pusher} --push-auth-token-audience={address}"
    )
    token = {"serviceAccountEmail": pusher, "audience": address}
    stranger, others = {**token, "serviceAccountEmail": "x@y"}, {**token, "audience": "https://z"}
    wrong: dict[str, tuple[dict[str, Any], str]] = {
        "pull": ({}, "pushes to nobody"),
        "push to another address": ({"pushEndpoint": "https://old", "oidcToken": token}, "pushes to https://old"),
        "push without a token": ({"pushEndpoint": address}, "calls as nobody"),
        "push as somebody else": ({"pushEndpoint": address, "oidcToken": stranger}, "calls as x@y"),
        "push for somebody else": ({"pushEndpoint": address, "oidcToken": others}, "tokens are for https://z"),
    }
    for what, (config, says) in wrong.items():
        yield Disease(what, check, change(push, pushConfig=config), (modify,), says)
    update = f"gcloud pubsub subscriptions update {name} --project=my-project"
    deadline = (f"{update} --ack-deadline=600",)
    yield Disease("push waits too short", check, change(push, ackDeadlineSeconds=10), deadline, "waits 10 s")
    never = (f"{update} --expiration-period=never",)
    yield Disease("push expires", check, change(push, expirationPolicy={"ttl": "2678400s"}), never)
    yield Disease("push expires by default", check, change(push, expirationPolicy=None), never)
    letters = "projects/my-project/topics/gmail-notifications-dead-letters"
    policy = (f"{update} --dead-letter-topic={letters} --max-delivery-attempts=20",)
    yield Disease("push without dead letters", check, change(push, deadLetterPolicy=None), policy)


def calls() -> Iterator[Disease]:
    """Who may call."""
    role = "--role=roles/run.invoker"
    add, remove = (f"gcloud run services {verb}-iam-policy-binding" for verb in ("add", "remove"))
    for name, entry_point, caller in ((SYNC, "sync_history", "push"), (SWEEP, "sweep_mailboxes", "scheduler")):
        who = h.member(f"mailmirror-{caller}")
        command = f"{add} {name} {WHERE} --member={who} {role}"
        yield Disease(f"{caller} may not call", f"calls.{entry_point}", strip(f"{h.RUN}/{name}", who), (command,))
    everybody = publish(f"{h.RUN}/{SYNC}", "roles/run.invoker")
    command = f"{remove} {SYNC} {WHERE} --member=allUsers {role}"
    yield Disease("anybody may call", "calls.sync_history", everybody, (command,), "Anybody may call")
    nobody = strip(f"{h.RUN}/mailmirror-manage-mailboxes", "group:mail-admins@example.com")
    yield Disease("no admins", "calls.manage_mailboxes", nobody, says="name admins", outcome="warning")
    callback = "mailmirror-oauth-callback"
    command = f"{add} {callback} {WHERE} --member=allUsers {role}"
    closed = strip(f"{h.RUN}/{callback}", "allUsers")
    yield Disease("browsers may not call", "calls.oauth_callback", closed, (command,), auth="oauth")


def schedule() -> Iterator[Disease]:
    """Cloud Scheduler's jobs."""
    check, job = "calls.sweep_mailboxes-job", f"{h.SCHEDULER}/europe-west1/jobs/{SWEEP}"
    jobs, where = "gcloud scheduler jobs", f"{SWEEP} --location=europe-west1 --project=my-project"
    yield Disease("job gone", check, lose(job))
    yield Disease("job paused", check, change(job, state="PAUSED"), (f"{jobs} resume {where}",), "is paused")
    address, caller = h.address(SWEEP), h.account("mailmirror-scheduler")
    target = {"uri": "https://old", "oidcToken": {"serviceAccountEmail": caller, "audience": "https://old"}}
    update = (
        f"{jobs} update http {where} --uri={address} --oidc-service-account-email={caller} "
        f"--oidc-token-audience={address}"
    )
    yield Disease("job calls another address", check, change(job, httpTarget=target), (update,))
    logs = (
        f'gcloud logging read \'resource.type="cloud_run_revision" AND resource.labels.service_name="{SWEEP}" AND '
        "severity>=WARNING' --project=my-project --freshness=1d --limit=20"
    )
    failed = change(job, status={"code": 7})
    yield Disease("job fails", check, failed, (logs, f"{jobs} run {where}"), "failed: PERMISSION_DENIED")


def firestore() -> Iterator[Disease]:
    """The database."""
    others = {"mailboxes.watches", "mailboxes.access", "mailboxes.due", "clocks.workers", "firestore.rights"}
    hidden = frozenset(others | {"firestore.indexes"} | {f"firestore.{name}-ttl" for name, _ in TTLS})
    yield Disease("database gone", "firestore.database", lose(h.FIRESTORE), hides=hidden)
    where = "--database='(default)' --project=my-project"
    update = f"gcloud firestore databases update {where} --type=firestore-native"
    datastore = change(h.FIRESTORE, type="DATASTORE_MODE")
    yield Disease("database in Datastore mode", "firestore.database", datastore, (update,), hides=hidden)
    check, indexes = "firestore.indexes", f"{h.FIRESTORE}/collectionGroups/threads/indexes"
    index = {"fields": [{"fieldPath": "x", "order": "ASCENDING"}], "queryScope": "COLLECTION", "state": "READY"}
    yield Disease(
        "index missing", check, change(indexes, indexes=[index]), says="threads by labelIds and lastMessageAt"
    )

    def state(value: str) -> Harm:
        return lambda cloud: cloud.resources[indexes]["indexes"][0].update(state=value)

    delete = f"gcloud firestore indexes composite delete CICAgO3 {where}"
    yield Disease("index broken", check, state("NEEDS_REPAIR"), (delete, DEPLOY))
    yield Disease("index being built", check, state("CREATING"), (), outcome="warning")
    check, ttl = "firestore.deltas-ttl", f"{h.FIRESTORE}/collectionGroups/deltas/fields/expireAt"
    enable = f"gcloud firestore fields ttls update expireAt --collection-group=deltas --enable-ttl {where}"
    yield Disease("TTL missing", check, change(ttl, ttlConfig=None), (enable,))
    yield Disease("TTL being made", check, change(ttl, ttlConfig={"state": "CREATING"}), (), outcome="warning")
    check, role = "firestore.rights", h.own("mailmirrorMirrorWriter")
    grant = (
        f"gcloud projects add-iam-policy-binding my-project --member={h.member(WORK)} --role={role} "
        f"--condition='expression=resource.name == \"{h.DATABASE}\",title=mailmirror-database'"
    )
    yield Disease("a function may not write", check, strip(h.RESOURCES, h.member(WORK)), (grant,), WORK)
    undelete = "gcloud iam roles undelete mailmirrorMirrorConnector --project=my-project"
    deleted = change(f"{h.IAM}/{h.own('mailmirrorMirrorConnector')}", deleted=True)
    yield Disease("public function's role deleted", check, deleted, (undelete,), auth="oauth")
    undelete = "gcloud iam roles undelete mailmirrorMirrorReader --project=my-project"
    deleted = change(f"{h.IAM}/{h.own('mailmirrorMirrorReader')}", deleted=True)
    yield Disease("role deleted", check, deleted, (undelete,))

    def elsewhere(cloud: Cloud) -> None:
        binding = next(each for each in cloud.policies[h.RESOURCES] if h.member(WORK) in each["members"])
        binding["members"].remove(h.member(WORK))
        other = h.binding(role, h.member(WORK), condition=f'resource.name == "{h.DATABASE}-2"')
        cloud.policies[h.RESOURCES].append(other)

    yield Disease("rights in another database", check, elsewhere, (grant,), WORK)


def bucket() -> Iterator[Disease]:
    """The bucket."""
    check, update = "bucket.bucket", f"gcloud storage buckets update gs://{h.BUCKET}"
    yield Disease("no bucket", check, environment(BODY_BUCKET=""), says="BODY_BUCKET is empty", outcome="warning")
    yield Disease("bucket gone", check, lose(h.STORAGE), hides=frozenset({"bucket.rights"}))
    lists = change(h.STORAGE, iamConfiguration={"uniformBucketLevelAccess": {"enabled": False}})
    yield Disease("bucket with lists", check, lists, (f"{update} --uniform-bucket-level-access",))
    uniform = {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "inherited"}
    prevent = (f"{update} --public-access-prevention",)
    yield Disease(
        "bucket may be public", check, change(h.STORAGE, iamConfiguration=uniform), prevent, outcome="warning"
    )
    check, role, viewer = "bucket.rights", h.own("mailmirrorBodyWriter"), "roles/storage.objectViewer"
    add, remove = (f"gcloud storage buckets {verb}-iam-policy-binding gs://{h.BUCKET}" for verb in ("add", "remove"))
    unable = strip(h.STORAGE, h.member(WORK))
    yield Disease("may not store", check, unable, (f"{add} --member={h.member(WORK)} --role={role}",), WORK)
    reader, role = h.member("mailmirror-read-mailboxes"), h.own("mailmirrorBodyReader")
    blind = strip(h.STORAGE, reader)
    yield Disease("may not read", check, blind, (f"{add} --member={reader} --role={role}",), "May not read: mailmirror")
    shrunk = change(f"{h.IAM}/{role}", includedPermissions=["storage.objects.list"])
    mend = "gcloud iam roles update mailmirrorBodyReader --project=my-project --add-permissions=storage.objects.get"
    yield Disease("role for reading empty", check, shrunk, (mend,), "May not read")
    close = (f"{remove} --member=allUsers --role={viewer}",)
    yield Disease("bucket is public", check, publish(h.STORAGE, viewer), close, "Anybody")


def clocks() -> Iterator[Disease]:
    """Clocks."""
    fix = ("sudo timedatectl set-ntp true",)
    # A statement is signed with Google's time: a mailbox opens all the same.
    yield Disease("clock fast", "clocks.machine", ahead(90), fix, "90 s ahead of", mailbox=h.ADA)
    yield Disease("clock slow", "clocks.machine", ahead(-90), fix, "90 s behind", mailbox=h.ADA)

    def fast_worker(cloud: Cloud) -> None:
        h.lease(cloud, h.BOB, timedelta(seconds=75))

    yield Disease("a worker's clock fast", "clocks.workers", fast_worker, (), "75 s ahead of")


SUBJECTS = (
    *(project, functions, topics, pushes, calls, schedule, delegation, consent),
    *(mailboxes, firestore, bucket, clocks),
)
ALL = tuple(disease for subject in SUBJECTS for disease in subject())
