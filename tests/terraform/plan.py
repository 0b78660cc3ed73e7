"""A plan of Terraform's as resources with values, in which what is only known after apply says where it comes from.

Knows: how `terraform show -json` splits a plan into values, unknown values and the expressions of the configuration.
Does not know: what any resource means. A `local` is not followed: the plan does not tell what it is made of.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_ADDRESS = re.compile(r"(?:data\.)?[a-z0-9_]+\.[A-Za-z0-9_-]+(?:\[[^]]+\])?")
_NOT_A_RESOURCE = ("each.", "count.", "path.", "var.", "local.")
# What one resource says to mean another.
_NAMES = ("id", "name", "email", "member", "account_id")


@dataclass(frozen=True, slots=True)
class Later:
    """A value that is known only after apply: it comes from the resources at these addresses, or from locals."""

    sources: frozenset[str]


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource as it will be. Blocks are lists, as in the plan.

    Attributes:
        address: such as `google_pubsub_topic.topic["mailbox-work"]`.
        type: such as `google_pubsub_topic`.
        values: attributes and blocks by name; what is not known yet is a `Later`.
        after: what it waits for besides what it is made of, such as `google_pubsub_subscription.push`.
    """

    address: str
    type: str
    values: dict[str, Any]
    after: frozenset[str] = frozenset()

    def __getitem__(self, path: str) -> Any:
        """Return what is at a path such as `push_config.oidc_token.audience`: None where it, or a block, is absent.

        Of blocks that may be repeated the first is meant.
        """
        value: Any = self.values
        for step in path.split("."):
            if isinstance(value, list):
                value = value[0] if value else None
            if isinstance(value, Later):
                return value
            value = value.get(step) if isinstance(value, dict) else None
        return value

    def strings(self) -> Iterator[str]:
        """Yield every string in the values, wherever it is."""
        waiting: list[Any] = [self.values]
        while waiting:
            value = waiting.pop()
            if isinstance(value, str):
                yield value
            elif isinstance(value, dict):
                waiting += value.values()
            elif isinstance(value, list):
                waiting += value


class Plan:
    """The resources that a plan leaves behind, and the variables it was made with."""

    def __init__(self, document: dict[str, Any]) -> None:
        """Take the plan as `terraform show -json` tells it."""
        self.variables: dict[str, Any] = {
            name: variable.get("value") for name, variable in document.get("variables", {}).items()
        }
        written = {each["address"]: each for each in document["configuration"]["root_module"]["resources"]}
        changes = [each for each in document["resource_changes"] if each["change"]["after"] is not None]
        addresses = {each["address"] for each in changes}
        self.resources: tuple[Resource, ...] = tuple(
            Resource(
                address=each["address"],
                type=each["type"],
                values=_values(
                    each["change"]["after"],
                    each["change"]["after_unknown"],
                    written[f"{each['type']}.{each['name']}"]["expressions"],
                    _Here(each.get("index"), addresses),
                ),
                after=frozenset(written[f"{each['type']}.{each['name']}"].get("depends_on", ())),
            )
            for each in changes
            if each["mode"] == "managed"
        )

    def of_type(self, *types: str) -> list[Resource]:
        """Return the resources of these types."""
        return [resource for resource in self.resources if resource.type in types]

    def meant(self, value: Any, type_: str) -> Resource | None:
        """Return the one resource of a type that a value names, by an address or by a name: None if there is none."""
        if isinstance(value, Later):
            found = [resource for resource in self.of_type(type_) if resource.address in value.sources]
        else:
            found = [resource for resource in self.of_type(type_) if _ends(value) & _names(resource)]
        return found[0] if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class _Here:
    """Where an expression stands: the key of its resource, and the addresses there are."""

    key: str | int | None
    addresses: set[str]

    def sources(self, references: list[str]) -> frozenset[str]:
        found = {reference for reference in references if reference.startswith("local.")}
        for reference in references:
            match = _ADDRESS.match(reference)
            if match is None or reference.startswith(_NOT_A_RESOURCE):
                continue
            address = match.group()
            of_this_key = f'{address}["{self.key}"]'
            found.add(of_this_key if "each.key" in references and of_this_key in self.addresses else address)
        return frozenset(found)


def _names(resource: Resource) -> set[str]:
    return set().union(*(_ends(resource[name]) for name in _NAMES))


def _ends(name: object) -> set[str]:
    """Return a name as it is and without the path before it: `projects/p/topics/t` is also `t`."""
    return {name, name.rpartition("/")[2]} if isinstance(name, str) else set()


def _values(after: Any, unknown: Any, written: Any, here: _Here) -> Any:
    """Put a value together from what is known of it, what is not, and the expression it is written as."""
    if unknown is True:
        return Later(here.sources(written.get("references", []) if isinstance(written, dict) else []))
    if isinstance(unknown, dict) and (isinstance(after, dict) or after is None):
        known = after or {}
        return {
            name: _values(known.get(name), unknown.get(name, False), _part(written, name), here)
            for name in known.keys() | unknown.keys()
        }
    if isinstance(unknown, list) and isinstance(after, list):
        return [
            _values(item, unknown[at] if at < len(unknown) else False, _part(written, at), here)
            for at, item in enumerate(after)
        ]
    return after


def _part(written: Any, step: str | int) -> Any:
    """Return the expression of a part: of a block its own, of a collection that of the whole."""
    if isinstance(written, dict):
        return written if "references" in written or "constant_value" in written else written.get(step)
    if isinstance(written, list) and isinstance(step, int):
        return written[step] if step < len(written) else None
    return None
