"""A fake Directory API: the users and groups of one Workspace account, and the two methods that list them.

Knows: `members.list` and `users.list` as the discovery document `admin.directory_v1` and Google's guide to searching
users describe them: members of groups in a group are listed beside those groups, a member outside the account has no
status, an organisational unit includes those below it, users come by address where that order is asked for, and pages.
Whoever calls must be an administrator of the account; unless told otherwise, a bearer token is the caller's address. It
does not know any other search than for an organisational unit, nor what Google answers for a unit that does not exist:
here that is 400.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import flask

_QUERY = re.compile(r"orgUnitPath='((?:[^'\\]|\\.)*)'")


@dataclass
class User:
    """Somebody with an account."""

    address: str
    org_unit: str = "/"
    suspended: bool = False
    archived: bool = False
    mailbox: bool = True
    admin: bool = False


class Refused(Exception):
    """An answer in the error model of the older APIs: no canonical status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


@dataclass
class WorkspaceAccount:
    """An account's users and groups.

    Attributes:
        users: by address.
        groups: addresses of members by the group's; one that is no user and no group is outside the account, and `*` is
            everybody in it.
        refusals: what the next calls are refused with, (status, reason) each.
        asked: the parameters of each call that was answered.
        garbled: answer with something that is no JSON.
        whose: whom an access token is good for.
    """

    users: dict[str, User] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    refusals: list[tuple[int, str]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    garbled: bool = False
    whose: Callable[[str], str | None] = str

    def add(self, *users: User) -> None:
        """Give people an account."""
        self.users |= {user.address: user for user in users}

    def members(self, group: str) -> list[dict[str, str]]:
        """Return direct and indirect members, each once."""
        if group not in self.groups:
            raise Refused(404, "notFound", "Resource Not Found: groupKey")
        return [self._member(address) for address in dict.fromkeys(self._within(group, set()))]

    def _within(self, group: str, seen: set[str]) -> Iterator[str]:
        seen.add(group)
        for address in self.groups[group]:
            yield address
            if address == "*":
                yield from self.users
            elif address in self.groups and address not in seen:
                yield from self._within(address, seen)

    def _member(self, address: str) -> dict[str, str]:
        if address == "*":
            return {"id": "C0123", "type": "CUSTOMER", "role": "MEMBER"}
        if address in self.groups:
            return {"email": address, "type": "GROUP", "role": "MEMBER", "status": "ACTIVE"}
        member = {"email": address, "type": "USER", "role": "MEMBER"}
        user = self.users.get(address)
        if user is None:
            return member
        status = "SUSPENDED" if user.suspended else "ARCHIVED" if user.archived else "ACTIVE"
        return member | {"status": status}

    def within(self, org_unit: str) -> list[dict[str, Any]]:
        """Return the users of an organisational unit and of those below it."""
        below = org_unit.rstrip("/") + "/"
        found = [user for user in self.users.values() if f"{user.org_unit.rstrip('/')}/".startswith(below)]
        if not found and org_unit != "/":
            raise Refused(400, "invalid", "Invalid Input: INVALID_OU_ID")
        return [
            {
                "primaryEmail": user.address,
                "orgUnitPath": user.org_unit,
                "suspended": user.suspended,
                "archived": user.archived,
                "isMailboxSetup": user.mailbox,
            }
            for user in found
        ]


def blueprint(account: WorkspaceAccount) -> flask.Blueprint:
    """The API over HTTP."""
    http = flask.Blueprint("directory", __name__, url_prefix="/admin/directory/v1")

    @http.errorhandler(Refused)
    def refused(error: Refused) -> tuple[flask.Response, int]:
        detail = {"domain": "global", "reason": error.reason, "message": str(error)}
        return flask.jsonify(error={"code": error.code, "message": str(error), "errors": [detail]}), error.code

    @http.before_request
    def admit() -> None:
        if account.refusals:
            status, reason = account.refusals.pop(0)
            raise Refused(status, reason, "Refused as told.")
        caller = account.whose(flask.request.headers.get("Authorization", "").removeprefix("Bearer "))
        if caller not in account.users:
            raise Refused(401, "authError", "Invalid Credentials")
        if not account.users[caller].admin:
            raise Refused(403, "forbidden", "Not Authorized to access this resource/api")

    @http.get("/groups/<group>/members")
    def members(group: str) -> Any:
        asked = _asked(account)
        people = account.members(group)
        if asked.get("includeDerivedMembership") != "true":
            people = [person for person in people if person.get("email", "*") in account.groups[group]]
        return _page(account, "members", people, most=200, usual=200)

    @http.get("/users")
    def users() -> Any:
        asked = _asked(account)
        search = _QUERY.fullmatch(asked.get("query", ""))
        if asked.get("customer") != "my_customer" or search is None:
            raise Refused(400, "invalid", "Invalid Input")
        people = account.within(re.sub(r"\\(.)", r"\1", search[1]))
        if asked.get("orderBy") == "email":
            people.sort(key=lambda user: str(user["primaryEmail"]).lower())
        return _page(account, "users", people, most=500, usual=100)

    return http


def _asked(account: WorkspaceAccount) -> dict[str, str]:
    account.asked.append(dict(flask.request.args))
    return account.asked[-1]


def _page(account: WorkspaceAccount, name: str, people: Sequence[Any], *, most: int, usual: int) -> Any:
    """A page of a listing; its token is refused by any other listing."""
    size = flask.request.args.get("maxResults", default=usual, type=int)
    # Google refuses an empty token too.
    token = flask.request.args.get("pageToken", f"{name}-0")
    match = re.fullmatch(rf"{name}-(\d+)", token)
    if match is None or not 1 <= size <= most:
        raise Refused(400, "invalid", "Invalid Input")
    start = int(match[1])
    if account.garbled:
        return b"<html>"
    answer: dict[str, Any] = {"kind": f"admin#directory#{name}"}
    if people:
        answer[name] = people[start : start + size]
    if start + size < len(people):
        answer["nextPageToken"] = f"{name}-{start + size}"
    return answer
