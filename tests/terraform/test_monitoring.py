"""Monitoring watches what there is: its filters name events and fields the code logs, its runbooks what can be called.

Cloud Monitoring cannot tell a metric that counts nothing because all is well from one whose event was renamed.
"""

import re
from pathlib import Path
from typing import Any

import hcl2
import pytest
from mailmirror import api

from tests import source

ROOT = Path(__file__).resolve().parents[2]
TERRAFORM = ROOT / "terraform"
RUNBOOKS = {file.stem: file.read_text() for file in sorted((TERRAFORM / "runbooks").iterdir())}
MONITORING = (TERRAFORM / "monitoring.tf").read_text()

# What `mailmirror.app.JsonLines` adds to each entry; Cloud Logging takes severity and time out of the payload.
EVERYWHERE = {"event"}
# What somebody has to be told of, whatever else changes.
ASKED_FOR = {
    "dead-letters",
    "oldest-unacknowledged",
    "sync-lag",
    "watch-expiring",
    "renewals-absent",
    "reauth-required",
    "coverage-missing",
    "announcing",
    "parked",
    "quota-rejections",
    "server-errors",
}


def plain(value: Any) -> Any:
    """Return what python-hcl2 read, strings without their quotes and escapes."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items() if not str(key).startswith("__")}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return value.removeprefix('"').removesuffix('"').replace('\\"', '"')
    return value


def terraform_locals(name: str) -> dict[str, Any]:
    """Return the local values of a file of terraform/."""
    blocks = plain(hcl2.loads((TERRAFORM / name).read_text()))["locals"]
    return {name: value for block in blocks for name, value in block.items()}


LOCALS = terraform_locals("monitoring.tf")
# The rows of the functions, by the names they are deployed under.
FUNCTIONS: dict[str, dict[str, Any]] = {
    "mailmirror-" + name.replace("_", "-"): row
    for name, row in terraform_locals("functions.tf")["every_function"].items()
}
METRICS: dict[str, dict[str, Any]] = LOCALS["metrics"]
ALERTS: dict[str, dict[str, Any]] = LOCALS["alerts"]


def logged() -> dict[str, set[str]]:
    """Return the events that the code logs, each with the fields that every one of its entries has."""
    found: dict[str, set[str]] = {}
    for event in source.events():
        found[event.name] = found.get(event.name, EVERYWHERE | event.fields) & (EVERYWHERE | event.fields)
    return found


EVENTS = logged()


def events_in(text: str) -> list[str]:
    """Return the events that a Logging filter names."""
    return re.findall(r'jsonPayload\.event="(\w+)"', text)


def fields_in(text: str) -> set[str]:
    """Return the fields that a Logging filter or a format names."""
    return set(re.findall(r"jsonPayload\.(\w+)", text))


def commands(runbook: str) -> list[str]:
    """Return the commands of a runbook, one of several lines as one."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", runbook, re.DOTALL):
        lines = re.sub(r"\\\n\s*", " ", block)
        # What begins a line within quotes belongs to the command above.
        found += [" ".join(part.split()) for part in re.split(r"\n(?=\s*(?:gcloud|curl|make|[A-Z_]+=))", lines)]
    return [command for command in found if command]


EVERY_COMMAND = [(name, command) for name, text in RUNBOOKS.items() for command in commands(text)]


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_counts_events_that_are_logged(name: str) -> None:
    """Each event of a metric's filter is logged by the code, with each field the metric filters by or takes out."""
    metric = METRICS[name]
    events = events_in(metric["filter"])
    assert events
    wanted = fields_in(metric["filter"]) | {metric[key] for key in ("value", "label") if key in metric}
    for event in events:
        assert event in EVENTS
        assert wanted <= EVENTS[event], event


def test_no_event_is_named_outside_the_tables() -> None:
    """What the tests above judge is all that monitoring.tf filters the log by."""
    assert len(events_in(MONITORING.replace('\\"', '"'))) == sum(len(events_in(m["filter"])) for m in METRICS.values())


def test_no_metric_has_a_series_for_each_mailbox() -> None:
    """No label holds a mailbox, a message or a sentence, of which there are too many."""
    assert {metric["label"] for metric in METRICS.values() if "label" in metric} <= {"status", "mode"}


def test_every_metric_is_looked_at() -> None:
    """Each log-based metric is on the dashboard or in an alert, and each of those named exists."""
    used = set(re.findall(r'local\.(?:logged|promql)\["(\w+)"\]', MONITORING))
    assert used == set(METRICS)


def test_every_alert_asked_for_is_there() -> None:
    """The alerts are those somebody has to be told of, and each has a condition and a severity."""
    assert set(ALERTS) == ASKED_FOR
    for alert in ALERTS.values():
        assert any(alert.get(kind) for kind in ("thresholds", "absences", "queries"))
        assert alert["severity"] in {"WARNING", "ERROR", "CRITICAL"}


def test_no_condition_looks_back_further_than_monitoring_does() -> None:
    """Window and duration are whole minutes and at most 25 hours together, an absence lasts at most 23.5 hours, and
    only with a duration may missing data be healthy (https://docs.cloud.google.com/monitoring/alerts/metric-absence).
    """
    for name, alert in ALERTS.items():
        for kind in ("thresholds", "absences"):
            for condition in alert.get(kind, []):
                window, hold = condition["window"], condition["hold"]
                if isinstance(window, str):
                    window = LOCALS[window.removeprefix("${local.").removesuffix("}")]
                assert window % 60 == hold % 60 == 0, name
                assert hold > 0, name
                assert window + hold <= 25 * 3600, name
                assert kind == "thresholds" or hold <= 23.5 * 3600, name


def test_every_compared_percentile_has_its_own_bucket_bound() -> None:
    """What an alert compares a percentile with is a bound of the metric's buckets: elsewhere it is an estimate."""
    for alert in ALERTS.values():
        for condition in alert.get("thresholds", []):
            if "PERCENTILE" not in condition["join"]:
                continue
            (metric,) = re.findall(r'local\.logged\["(\w+)"\]', condition["filter"])
            bounds = LOCALS[METRICS[metric]["bounds"].removeprefix("${local.").removesuffix("}")]
            assert condition["over"] in bounds


def test_no_share_counts_requests_of_everybody() -> None:
    """Whoever calls a public function again and again moves no share of all requests, and so hides no outage."""
    public = {name for name, row in FUNCTIONS.items() if row["callers"] == "browsers"}
    assert public
    shares = [each for alert in ALERTS.values() for each in alert.get("thresholds", []) if "of" in each]
    of_requests = [each for each in shares if "requests" in each["of"]]
    assert of_requests
    for share in of_requests:
        assert share["of"] == "${local.own_requests}"
        assert share["filter"].startswith(share["of"])
    for name in public:
        assert f'resource.labels.service_name!="{name}"' in LOCALS["own_requests"]


def test_every_alert_has_its_runbook() -> None:
    """Each alert has a runbook of its own and none is left over; none is empty or above the 8 KB that fit into an alert
    (https://docs.cloud.google.com/monitoring/alerts/doc-variables).
    """
    assert set(RUNBOOKS) == set(ALERTS)
    for name, text in RUNBOOKS.items():
        assert 200 < len(text.encode()) <= 8192, name
        assert text.startswith("# "), name
        for heading in ("## Look", "## Do", "## Ends"):
            assert heading in text, name


def test_runbooks_ask_the_log_for_what_is_logged() -> None:
    """Each event in a runbook is one the code logs, and each field that a command asks for is a field of its events."""
    for name, text in RUNBOOKS.items():
        assert set(events_in(text)) <= set(EVENTS), name
    for name, command in EVERY_COMMAND:
        known: set[str] = set().union(*(EVENTS[event] for event in events_in(command) or EVENTS))
        assert fields_in(command) <= known, f"{name}: {command}"


def test_runbooks_call_routes_that_exist() -> None:
    """Each HTTP call is to a route of the function it is sent to, with a mode and a wait that the function takes."""
    calls = 0
    for name, command in EVERY_COMMAND:
        if not command.startswith("curl"):
            continue
        method = re.search(r"-X (\w+)", command)
        url = re.search(r'"\$(\w+)(/[^"?]*)(?:\?([^"]*))?"', command)
        assert url is not None, command
        host = re.search(rf"\b{url[1]}=\$\(gcloud run services describe mailmirror-([a-z-]+) ", RUNBOOKS[name])
        assert host is not None, f"{name}: {url[1]} is not set"
        asked = (host[1].replace("-", "_"), method[1] if method else "GET")
        routes = [route for route in source.routes() if asked == (route.entry_point, route.method)]
        paths = [re.sub(r"\{\w+\}", "[^/]+", route.path) for route in routes]
        assert any(re.fullmatch(path, url[2]) for path in paths), f"{name}: {command}"
        parameters = dict(part.split("=") for part in url[3].split("&")) if url[3] else {}
        assert parameters.keys() <= ({"mailbox"} if url[2] == "/connect" else {"mode", "wait"}), command
        assert parameters.get("mode", "full") in api.MODES, command
        assert 0 <= float(parameters.get("wait", 0)) <= api.MAX_WAIT, command
        calls += 1
    assert calls > len(RUNBOOKS) / 2


def test_runbooks_name_resources_that_exist() -> None:
    """Each function, job, topic and subscription that a runbook names is one that terraform/ makes."""
    topics = set(terraform_locals("pubsub.tf")["pushes"])
    subscriptions = {topic + end for topic in topics for end in ("-push", "-dead-letters")}
    for name, text in RUNBOOKS.items():
        named = set(re.findall(r"mailmirror-[a-z-]*[a-z]\b", text))
        assert named - {"mailmirror-token"} <= FUNCTIONS.keys(), name
        assert set(re.findall(r"(?:gmail-notifications|mailbox-work)[a-z-]*", text)) <= topics | subscriptions, name


def test_runbooks_name_make_targets_that_exist() -> None:
    """Each `make` command of a runbook is a target of the Makefile."""
    for name, text in RUNBOOKS.items():
        assert set(re.findall(r"(?:`|^\s*)make ([a-z]+)", text, re.MULTILINE)) <= source.make_targets(), name
