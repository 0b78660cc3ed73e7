"""Pub/Sub: the topics and who may publish, the push subscriptions, and the dead letters."""

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Any

from mailmirror_cli import commands, rights
from mailmirror_cli.expected import (
    ACK_DEADLINE_SECONDS,
    DELTA_TOPIC,
    GMAIL_PUBLISHER,
    GMAIL_TOPIC,
    MAX_DELIVERY_ATTEMPTS,
    PUSH_ACCOUNT,
    PUSHES,
    WORK_TOPIC,
    EntryPoint,
)
from mailmirror_cli.google import Absent
from mailmirror_cli.report import Finding, ok, warning, wrong
from mailmirror_cli.site import Check, NotKnown, Site

SUBJECT = "Pub/Sub"
VIEWER = "roles/pubsub.viewer"
PUBLISHER = "roles/pubsub.publisher"
SUBSCRIBER = "roles/pubsub.subscriber"
# A metric is written every minute and is there a few minutes later.
_LOOK_BACK = timedelta(minutes=15)


def checks() -> Iterable[Check]:
    """Return the checks of this subject."""
    for topic in PUSHES:
        yield Check(f"pubsub.{topic}", f"topic {topic}", partial(_topic, topic))
    yield Check("pubsub.gmail-publisher", "Gmail's right", _gmail_publisher)
    yield Check("pubsub.work-publishers", "functions' right", _work_publishers)
    yield Check(f"pubsub.{DELTA_TOPIC}", f"topic {DELTA_TOPIC}", _delta_topic)
    yield Check("pubsub.delta-publishers", "right to publish deltas", _delta_publishers)
    for topic in PUSHES:
        yield Check(f"pubsub.{topic}-push", f"push of {topic}", partial(_push, topic))
    for topic in PUSHES:
        yield Check(f"pubsub.{topic}-dead-letters", f"dead letters of {topic}", partial(_dead_letters, topic))
    yield Check("pubsub.agent", "Pub/Sub's right", _agent)
    yield Check("pubsub.waiting", "dead letters waiting", _waiting)


def _ask(site: Site, kind: str, name: str) -> dict[str, Any] | None:
    """A topic or a subscription, None if there is none."""
    try:
        found: dict[str, Any] = site.google.get("pubsub", f"v1/projects/{site.project}/{kind}/{name}", role=VIEWER)
    except Absent:
        return None
    return found


def _topic(topic: str, site: Site) -> Finding:
    if _ask(site, "topics", topic) is None:
        return wrong(f"There is no topic {topic}.", site.deploy)
    return ok(f"{topic} is there.")


def _gmail_publisher(site: Site) -> Finding:
    if _ask(site, "topics", GMAIL_TOPIC) is None:
        raise NotKnown(f"there is no topic {GMAIL_TOPIC}")
    account = GMAIL_PUBLISHER.partition(":")[2]
    if rights.lacking(site, GMAIL_PUBLISHER, ["pubsub.topics.publish"], rights.topic(site, GMAIL_TOPIC)):
        return wrong(
            f"Gmail ({account}) may not publish to {GMAIL_TOPIC}: no watch is accepted. If the command is refused "
            "because the account does not belong to a permitted customer, the organization restricts sharing to its "
            "domains: terraform/examples/org-policy-exception makes the exception.",
            _grant(site, "topics", GMAIL_TOPIC, GMAIL_PUBLISHER, PUBLISHER),
        )
    return ok(f"{account} may publish to {GMAIL_TOPIC}.")


def _work_publishers(site: Site) -> Finding:
    return _publishers(WORK_TOPIC, [each for each in site.entry_points if each.publishes], site)


def _delta_topic(site: Site) -> Finding | None:
    return _topic(DELTA_TOPIC, site) if site.settings.delta_topic else None


def _delta_publishers(site: Site) -> Finding | None:
    if not site.settings.delta_topic:
        return None
    return _publishers(DELTA_TOPIC, [each for each in site.entry_points if each.mirror == "write"], site)


def _publishers(topic: str, functions: Iterable[EntryPoint], site: Site) -> Finding:
    if _ask(site, "topics", topic) is None:
        raise NotKnown(f"there is no topic {topic}")
    members = [site.member(each.function) for each in functions]
    resource = rights.topic(site, topic)
    without = [each for each in members if rights.lacking(site, each, ["pubsub.topics.publish"], resource)]
    if without:
        lines = [_grant(site, "topics", topic, member, PUBLISHER) for member in without]
        return wrong(f"May not publish to {topic}: {_names(without)}.", *lines)
    return ok(f"All {len(members)} may publish to {topic}.")


def _push(topic: str, site: Site) -> Finding:
    name = f"{topic}-push"
    found = _ask(site, "subscriptions", name)
    if found is None:
        return wrong(f"There is no subscription {name}: nobody hears of what is published.", site.deploy)
    full = f"projects/{site.project}/topics/{topic}"
    if found.get("detached") or found.get("topic") != full:
        delete = commands.line("gcloud", "pubsub", "subscriptions", "delete", name, f"--project={site.project}")
        return wrong(f"{name} no longer gets what is published to {topic}, and never will again.", delete, site.deploy)
    faults = [*_address(site, topic, found), *_terms(site, topic, found)]
    if faults:
        return wrong(" ".join(fault for fault, _ in faults), *(command for _, command in faults))
    return ok(f"{name} calls {PUSHES[topic]} as {PUSH_ACCOUNT}.")


def _address(site: Site, topic: str, found: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """What is wrong with where a subscription pushes to, and the command."""
    address, account = site.function(PUSHES[topic]).address, site.account(PUSH_ACCOUNT)
    push = found.get("pushConfig", {})
    token = push.get("oidcToken", {})
    endpoint = str(push.get("pushEndpoint", ""))
    audience = str(token.get("audience") or endpoint)
    command = commands.line(
        *("gcloud", "pubsub", "subscriptions", "modify-push-config", f"{topic}-push", f"--project={site.project}"),
        *(f"--push-endpoint={address}", f"--push-auth-service-account={account}"),
        f"--push-auth-token-audience={address}",
    )
    if endpoint.rstrip("/") != address:
        yield f"It pushes to {endpoint or 'nobody'} and not to {address}.", command
    elif token.get("serviceAccountEmail") != account:
        yield f"It calls as {token.get('serviceAccountEmail', 'nobody')} and not as {account}.", command
    elif audience.rstrip("/") != address:
        yield f"Its tokens are for {audience} and not for {address}.", command


def _terms(site: Site, topic: str, found: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """What is wrong with how a subscription delivers, and the command."""
    update = "gcloud", "pubsub", "subscriptions", "update", f"{topic}-push", f"--project={site.project}"
    deadline = found.get("ackDeadlineSeconds")
    if deadline != ACK_DEADLINE_SECONDS:
        command = commands.line(*update, f"--ack-deadline={ACK_DEADLINE_SECONDS}")
        yield f"It waits {deadline} s for an answer and not {ACK_DEADLINE_SECONDS}.", command
    if not _for_ever(found):
        yield "It is deleted after a while without messages.", commands.line(*update, "--expiration-period=never")
    letters = f"projects/{site.project}/topics/{topic}-dead-letters"
    if found.get("deadLetterPolicy", {}).get("deadLetterTopic") != letters:
        more = f"--dead-letter-topic={letters}", f"--max-delivery-attempts={MAX_DELIVERY_ATTEMPTS}"
        yield f"What cannot be delivered does not go to {topic}-dead-letters.", commands.line(*update, *more)


def _for_ever(found: dict[str, Any]) -> bool:
    """Whether a subscription never expires: it has a policy, and that has no time."""
    return "expirationPolicy" in found and not found["expirationPolicy"].get("ttl")


def _dead_letters(topic: str, site: Site) -> Finding:
    name = f"{topic}-dead-letters"
    if _ask(site, "topics", name) is None:
        return wrong(f"There is no topic {name}.", site.deploy)
    found = _ask(site, "subscriptions", name)
    if found is None:
        return wrong(f"There is no subscription {name}: dead letters are lost.", site.deploy)
    if found.get("topic") != f"projects/{site.project}/topics/{name}":
        delete = commands.line("gcloud", "pubsub", "subscriptions", "delete", name, f"--project={site.project}")
        return wrong(f"The subscription {name} keeps nothing of the topic {name}.", delete, site.deploy)
    if not _for_ever(found):
        words = "gcloud", "pubsub", "subscriptions", "update", name, f"--project={site.project}"
        return wrong(
            f"The subscription {name} is deleted after a while without messages.",
            commands.line(*words, "--expiration-period=never"),
        )
    return ok(f"Kept in the subscription {name}.")


def _agent(site: Site) -> Finding:
    agent = site.pubsub_agent
    lines = []
    for topic in PUSHES:
        letters, push = f"{topic}-dead-letters", f"{topic}-push"
        if _ask(site, "topics", letters) is None or _ask(site, "subscriptions", push) is None:
            raise NotKnown(f"there is no topic {letters} or no subscription {push}")
        if rights.lacking(site, agent, ["pubsub.topics.publish"], rights.topic(site, letters)):
            lines.append(_grant(site, "topics", letters, agent, PUBLISHER))
        if rights.lacking(site, agent, ["pubsub.subscriptions.consume"], rights.subscription(site, push)):
            lines.append(_grant(site, "subscriptions", push, agent, SUBSCRIBER))
    if lines:
        return wrong("Pub/Sub's own account may not move dead letters: they are delivered again and again.", *lines)
    return ok("Pub/Sub's own account may move dead letters.")


def _waiting(site: Site) -> Finding:
    now = site.google.now
    names = [f"{topic}-dead-letters" for topic in PUSHES]
    either = " OR ".join(f'resource.labels.subscription_id = "{name}"' for name in names)
    params = {
        "filter": f'metric.type = "pubsub.googleapis.com/subscription/num_undelivered_messages" AND ({either})',
        "interval.startTime": (now - _LOOK_BACK).isoformat(timespec="seconds"),
        "interval.endTime": now.isoformat(timespec="seconds"),
    }
    path = f"v3/projects/{site.project}/timeSeries"
    series = site.google.get("monitoring", path, role="roles/monitoring.viewer", params=params).get("timeSeries", ())
    # The newest point is the first.
    waiting = {
        each["resource"]["labels"]["subscription_id"]: int(each["points"][0]["value"]["int64Value"]) for each in series
    }
    some = {name: waiting[name] for name in names if waiting.get(name)}
    if some:
        words = "gcloud", "pubsub", "subscriptions", "pull"
        more = f"--project={site.project}", "--limit=20", "--format=json"
        told = " and ".join(f"{number} in {name}" for name, number in some.items())
        return warning(
            f"{told}: see terraform/runbooks/dead-letters.md.", *(commands.line(*words, name, *more) for name in some)
        )
    return ok("None.")


def _grant(site: Site, kind: str, name: str, member: str, role: str) -> str:
    words = "gcloud", "pubsub", kind, "add-iam-policy-binding", name, f"--project={site.project}"
    return commands.line(*words, f"--member={member}", f"--role={role}")


def _names(members: Iterable[str]) -> str:
    return ", ".join(member.partition(":")[2].partition("@")[0] for member in members)
