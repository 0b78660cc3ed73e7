"""What is asked of Google, and what the fake answers, as Google's discovery documents describe it.

google-api-python-client brings the documents along. The two addresses of OAuth are in none of them.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any

import pytest

from tests.cli import healthy as h
from tests.cli.conftest import Run
from tests.cli.googleapis import SIGN_IN, Cloud

VERSIONS = {
    "cloudfunctions": "v2",
    "cloudresourcemanager": "v3",
    "cloudscheduler": "v1",
    "firestore": "v1",
    "gmail": "v1",
    "iam": "v1",
    "iamcredentials": "v1",
    "monitoring": "v3",
    "pubsub": "v1",
    "run": "v2",
    "secretmanager": "v1",
    "serviceusage": "v1",
    "storage": "v1",
}
OAUTH = {SIGN_IN, "oauth2.googleapis.com/token", "openidconnect.googleapis.com/v1/userinfo"}
# What is asked with a POST and changes nothing.
QUESTIONS = {"getIamPolicy", "runQuery", "runAggregationQuery", "signJwt"}


@cache
def document(service: str) -> dict[str, Any]:
    """The discovery document of an API."""
    folder = resources.files("googleapiclient.discovery_cache") / "documents"
    found: dict[str, Any] = json.loads((folder / f"{service}.{VERSIONS[service]}.json").read_text())
    return found


def methods(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every method of an API."""
    yield from part.get("methods", {}).values()
    for resource in part.get("resources", {}).values():
        yield from methods(resource)


def method(verb: str, address: str) -> dict[str, Any]:
    """The method that answers a request."""
    host, _, path = address.partition("/")
    api = document(host.removesuffix(".googleapis.com"))
    for each in methods(api):
        pattern = re.escape(api["servicePath"] + each["path"])
        for name, parameter in each.get("parameters", {}).items():
            # A colon begins a custom verb, which is another method's.
            whole = parameter.get("pattern", "[^/]+").strip("^$").replace("[^/]", "[^/:]")
            if name == "parent":
                # Patterns tell of documents beneath documents alone; descriptions, of the database's own as well.
                whole = whole.replace("/documents/[^/:]+/.*", "/documents(/.*)?")
            pattern = pattern.replace(re.escape(f"{{+{name}}}"), whole).replace(re.escape(f"{{{name}}}"), whole)
        if each["httpMethod"] == verb and re.fullmatch(pattern, path):
            return each
    raise AssertionError(f"No method of Google's answers {verb} {address}.")


def strangers(value: Any, schema: dict[str, Any], api: dict[str, Any], at: str) -> Iterator[str]:
    """Whatever in a value its schema does not know."""
    schema = api["schemas"][schema["$ref"]] if "$ref" in schema else schema
    match value:
        case dict():
            known = schema.get("properties", {})
            for name, each in value.items():
                inner = known.get(name, schema.get("additionalProperties"))
                if inner is None:
                    yield f"{at}.{name}"
                else:
                    yield from strangers(each, inner, api, f"{at}.{name}")
        case list():
            for each in value:
                yield from strangers(each, schema["items"], api, f"{at}[]")
        case str() if "enum" in schema and value not in schema["enum"]:
            yield f"{at}={value}"


def examined(run: Run, auth: str) -> Cloud:
    """A healthy deployment after it was looked at, with all that can be asked about it."""
    cloud = h.healthy(auth)
    del cloud.resources[f"{h.SCHEDULER}/europe-west1/jobs/mailmirror-renew-watches"]
    run(cloud, "doctor", "--project=my-project", f"--mailbox={h.ADA}")
    return cloud


@pytest.mark.parametrize("auth", ["delegation", "oauth"])
def test_every_question_is_one_that_google_answers(auth: str, run: Run) -> None:
    """Each request is a method of Google's, with parameters it knows, that changes nothing."""
    asked = [each for each in examined(run, auth).asked if each.address not in OAUTH]
    assert {each.address.partition(".")[0] for each in asked} >= VERSIONS.keys() - {
        *(("secretmanager",) if auth == "delegation" else ("iamcredentials", "gmail"))
    }
    for each in asked:
        found = method(each.method, each.address)
        assert each.method == "GET" or each.address.rpartition(":")[2] in QUESTIONS, each
        known = found.get("parameters", {}).keys() | {"pageToken"}
        assert set(each.query) <= known, (each, sorted(known))


@pytest.mark.parametrize("auth", ["delegation", "oauth"])
def test_every_answer_has_googles_shape(auth: str, run: Run) -> None:
    """What the fake answers has the fields, the nesting and the enumerated values of Google's schemas."""
    cloud = examined(run, auth)
    for address, resource in cloud.resources.items():
        api = document(address.partition(".")[0])
        schema = method("GET", address)["response"]
        for page in resource if isinstance(resource, list) else [resource]:
            assert list(strangers(page, schema, api, address)) == []
    for resource in cloud.policies:
        if resource.startswith("storage"):
            verb, address = "GET", f"{resource}/iam"
        else:
            posted = resource.startswith(("cloudresourcemanager", "iam."))
            verb, address = "POST" if posted else "GET", f"{resource}:getIamPolicy"
        api, schema = document(address.partition(".")[0]), method(verb, address)["response"]
        assert list(strangers(cloud._policy(resource), schema, api, resource)) == []
