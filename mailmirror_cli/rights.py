"""Who may do what, as IAM says of a resource and of its project.

Knows: how a policy is asked for, which permissions a role has, and the two kinds of condition that terraform/ writes.
Does not know: what a folder or an organization grants, or who is in a group: a right that comes from there is not seen,
and one under any other condition is taken for granted.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mailmirror_cli import commands
from mailmirror_cli.expected import ROLES
from mailmirror_cli.google import Absent
from mailmirror_cli.site import Site

REVIEWER = "roles/iam.securityReviewer"
PUBLIC = frozenset({"allUsers", "allAuthenticatedUsers"})

_IS = re.compile(r'resource\.name == "([^"]+)"')
_BEGINS = re.compile(r'resource\.name\.startsWith\("([^"]+)"\)')


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that has a policy.

    Attributes:
        service: whose API, such as `pubsub`.
        path: what asks for the policy.
        version: the parameter that says which conditions the answer may have; empty where it goes into a POST.
        name: how a condition names it; empty where none is meant to.
    """

    service: str
    path: str
    version: str = "options.requestedPolicyVersion"
    name: str = ""

    def bindings(self, site: Site) -> list[dict[str, Any]]:
        """Return the bindings of its policy. Raises `NoAnswer`."""
        if self.version:
            found = site.google.get(self.service, self.path, role=REVIEWER, params={self.version: "3"})
        else:
            body = {"options": {"requestedPolicyVersion": 3}}
            found = site.google.post(self.service, self.path, body, role=REVIEWER)
        return list(found.get("bindings", ()))


def project(site: Site, name: str = "") -> Resource:
    """Return the project; `name` is what in it is meant, as a condition names it."""
    return Resource("cloudresourcemanager", f"v3/projects/{site.project}:getIamPolicy", "", name)


def topic(site: Site, name: str) -> Resource:
    """Return a topic of the project."""
    return Resource("pubsub", f"v1/projects/{site.project}/topics/{name}:getIamPolicy")


def subscription(site: Site, name: str) -> Resource:
    """Return a subscription of the project."""
    return Resource("pubsub", f"v1/projects/{site.project}/subscriptions/{name}:getIamPolicy")


def service(site: Site, name: str) -> Resource:
    """Return a function as Cloud Run knows it. Raises `NotKnown`."""
    return Resource("run", f"v2/projects/{site.project}/locations/{site.region}/services/{name}:getIamPolicy")


def account(site: Site, address: str) -> Resource:
    """Return a service account of the project."""
    return Resource("iam", f"v1/projects/{site.project}/serviceAccounts/{address}:getIamPolicy", "")


def bucket(name: str) -> Resource:
    """Return a bucket."""
    return Resource("storage", f"storage/v1/b/{name}/iam", "optionsRequestedPolicyVersion")


def secret(name: str) -> Resource:
    """Return a secret by its full name."""
    return Resource("secretmanager", f"v1/{name}:getIamPolicy")


def lacking(site: Site, member: str, permissions: Iterable[str], resource: Resource) -> set[str]:
    """Return which of the permissions a member has neither on the resource nor in the project.

    Raises:
        NoAnswer: policies or roles are not told.
    """
    missing = set(permissions)
    for place in (resource, project(site, resource.name)):
        if missing:
            missing -= _permissions(site, member, place)
    return missing


def public(site: Site, resource: Resource) -> list[tuple[str, str]]:
    """Return each member that is everybody, with the role it has on the resource. Raises `NoAnswer`."""
    return [
        (member, binding["role"])
        for binding in resource.bindings(site)
        for member in binding.get("members", ())
        if member in PUBLIC
    ]


def custom_role(site: Site, role: str) -> str | None:
    """Return the command that mends one of the deployment's own roles, None if nothing is the matter with it.

    Raises:
        NoAnswer: the role is not told.
    """
    try:
        found = _role(site, f"projects/{site.project}/roles/{role}")
    except Absent:
        return site.deploy
    if found.get("deleted"):
        return f"gcloud iam roles undelete {role} --project={site.project}"
    missing = sorted(set(ROLES[role]) - set(found.get("includedPermissions", ())))
    if missing:
        return f"gcloud iam roles update {role} --project={site.project} --add-permissions={','.join(missing)}"
    return None


def conditional(site: Site, member: str, role: str, title: str, expression: str) -> str:
    """Return the command that gives a member a role in the project, under a condition with that title."""
    words = "gcloud", "projects", "add-iam-policy-binding", site.project, f"--member={member}", f"--role={role}"
    return commands.line(*words, f"--condition=expression={expression},title={title}")


def _permissions(site: Site, member: str, resource: Resource) -> set[str]:
    """What a member may do on a resource."""
    found: set[str] = set()
    for binding in resource.bindings(site):
        if member in binding.get("members", ()) and _holds(binding, resource.name):
            try:
                role = _role(site, binding["role"])
            except Absent:
                continue
            if not role.get("deleted"):
                found.update(role.get("includedPermissions", ()))
    return found


def _holds(binding: dict[str, Any], name: str) -> bool:
    """Whether a binding counts for a resource: without a condition, or under one that it fulfils or we cannot read."""
    expression = binding.get("condition", {}).get("expression", "")
    whole, beginnings = _IS.findall(expression), _BEGINS.findall(expression)
    return not (whole or beginnings) or name in whole or any(name.startswith(each) for each in beginnings)


def _role(site: Site, role: str) -> dict[str, Any]:
    found: dict[str, Any] = site.google.get("iam", f"v1/{role}", role="roles/iam.roleViewer")
    return found
