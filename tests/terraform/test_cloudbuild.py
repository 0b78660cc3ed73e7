"""cloudbuild.yaml and cloudbuild.apply.yaml: builds that Cloud Build would take, and a stored plan that is applied.

Nothing here runs a build: a file is judged as it is parsed, by rules that each have a test with a mistake in it. The
scripts of the steps that hand the plan over are run as they are, with a `gcloud` that copies to a folder.
"""

import copy
import os
import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import source
from tests.test_repository import ROOT

Build = dict[str, Any]
Step = dict[str, Any]

PLAN, APPLY = "cloudbuild.yaml", "cloudbuild.apply.yaml"

# https://cloud.google.com/build/docs/configuring-builds/substitute-variable-values#using_default_substitutions
BUILT_IN = {
    *("PROJECT_ID", "BUILD_ID", "PROJECT_NUMBER", "LOCATION", "TRIGGER_NAME", "TRIGGER_BUILD_CONFIG_PATH"),
    *("COMMIT_SHA", "REVISION_ID", "SHORT_SHA", "BRANCH_NAME", "TAG_NAME", "REF_NAME", "REPO_NAME", "REPO_FULL_NAME"),
    *("SERVICE_ACCOUNT", "SERVICE_ACCOUNT_EMAIL", "_HEAD_BRANCH", "_BASE_BRANCH", "_HEAD_REPO_URL", "_PR_NUMBER"),
}
REFERENCE = re.compile(r"\$\$|\$(?:\{(\w+)[^}]*\}|(\w+))")
IMAGE = re.compile(r"(?P<name>[^:@]+):(?P<tag>[^:@]+)(?:@sha256:[0-9a-f]{64})?")


def parsed(file: str) -> Build:
    """Return one of the two files as Cloud Build reads it."""
    build: Build = yaml.safe_load((ROOT / file).read_text())
    return build


def step(build: Build, name: str) -> Step:
    """Return the step with this id."""
    steps: list[Step] = build["steps"]
    (found,) = [each for each in steps if each.get("id") == name]
    return found


def texts(value: object) -> Iterator[str]:
    """Return every string in which Cloud Build substitutes: all but a step's script."""
    match value:
        case str():
            yield value
        case dict():
            for key, inner in value.items():
                if key != "script":
                    yield from texts(inner)
        case list():
            for inner in value:
                yield from texts(inner)


def references(text: str) -> list[str]:
    """Return the variables a text refers to, as `$NAME` or `${NAME}`; `$$` is a dollar sign."""
    return [braced or bare for braced, bare in REFERENCE.findall(text) if braced or bare]


def used_substitutions(build: Build) -> set[str]:
    """Return the substitutions that a build refers to."""
    return {name for text in texts(build) for name in references(text)}


def environment(step: Step, substitutions: dict[str, str]) -> dict[str, str]:
    """Return a step's environment with the substitutions put in, as its script finds it."""
    entries = [entry.split("=", 1) for entry in step.get("env", [])]
    return {name: REFERENCE.sub(lambda found: substitutions[found[1] or found[2]], value) for name, value in entries}


def commands(step: Step) -> list[list[str]]:
    """Return what a step runs, word by word: each line of its script, or its entry point with the arguments."""
    if "script" in step:
        return [shlex.split(line, comments=True) for line in step["script"].splitlines()]
    return [[step.get("entrypoint", step["name"]), *step.get("args", [])]]


def before(build: Build, name: str) -> set[str]:
    """Return the ids of the steps that have ended when a step starts."""
    direct = [each for each in step(build, name)["waitFor"] if each != "-"]
    return set(direct).union(*(before(build, each) for each in direct))


def wrong_order(build: Build) -> list[str]:
    """Steps without an id or with another's, and steps that wait for nothing said, or for what does not come before."""
    wrong, known = [], set[str]()
    for each in build["steps"]:
        name = each.get("id", "")
        if not name or name in known:
            wrong.append(f"id {name!r} is missing or used twice")
        if not each.get("waitFor"):
            wrong.append(f"{name} does not say what it waits for")
        wrong += [f"{name} waits for {other!r}" for other in each.get("waitFor", []) if other not in known | {"-"}]
        known.add(name)
    return wrong


def wrong_substitutions(build: Build) -> list[str]:
    """Substitutions that nothing defines or nothing uses, and scripts that read what their step does not set."""
    used, defined = used_substitutions(build), set(build.get("substitutions", {}))
    wrong = [f"{name} is used and not defined" for name in sorted(used - defined - BUILT_IN)]
    wrong += [f"{name} is defined and not used" for name in sorted(defined - used)]
    for each in build["steps"]:
        given = {entry.partition("=")[0] for entry in each.get("env", [])} | {"PATH", "HOME"}
        read = {name for name in references(each.get("script", "")) if name.isupper()}
        wrong += [f"the script of {each['id']} reads {name}" for name in sorted(read - given)]
    return wrong


def wrong_images(build: Build) -> list[str]:
    """Images that may be another one tomorrow: without a version in three numbers."""
    names = [each["name"] for each in build["steps"]]
    found = [(name, IMAGE.fullmatch(name)) for name in names]
    return [name for name, image in found if image is None or not re.match(r"\d+\.\d+\.\d+(-|$)", image["tag"])]


def wrong_targets(build: Build, targets: Collection[str]) -> list[str]:
    """What is asked of make and is no target of the Makefile."""
    asked = [
        word
        for each in build["steps"]
        for program, *words in filter(None, commands(each))
        if program == "make"
        for word in words
        if "=" not in word and not word.startswith("-")
    ]
    return [f"make {target}" for target in asked if target not in targets]


def wrong_settings(build: Build) -> list[str]:
    """What a build as one's own account needs; what the API refuses: a script with arguments, a volume used once."""
    wanted = {"logging": "CLOUD_LOGGING_ONLY", "substitutionOption": "MUST_MATCH"}
    options = build.get("options", {})
    wrong = [f"{option} is not {value}" for option, value in wanted.items() if options.get(option) != value]
    if not re.fullmatch(r"projects/[^/]+/serviceAccounts/mailmirror-[a-z]+@.+", build.get("serviceAccount", "")):
        wrong.append("no service account of its own")
    if not re.fullmatch(r"[1-9]\d*s", build.get("timeout", "")):
        wrong.append("no timeout")
    wrong += [f"{each['id']} has a script and more" for each in build["steps"] if "script" in each and "args" in each]
    volumes = Counter(volume["name"] for each in build["steps"] for volume in each.get("volumes", []))
    return wrong + [f"only one step has the volume {name}" for name, steps in volumes.items() if steps < 2]


def mistakes(build: Build) -> list[str]:
    """Return everything that is wrong with a build, by all the rules."""
    rules = [wrong_order, wrong_substitutions, wrong_images, wrong_settings]
    return [mistake for rule in rules for mistake in rule(build)] + wrong_targets(build, source.make_targets())


@pytest.mark.parametrize("file", [PLAN, APPLY])
def test_a_build_has_no_mistake(file: str) -> None:
    """By every rule, Cloud Build would take the file as it is, and run what it says."""
    assert mistakes(parsed(file)) == []


def _same_id(build: Build) -> None:
    step(build, "check")["id"] = "test"


def _unknown_wait(build: Build) -> None:
    step(build, "plan")["waitFor"] = ["valeus"]


def _waits_for_a_later_step(build: Build) -> None:
    step(build, "check")["waitFor"] = ["store"]


def _no_wait(build: Build) -> None:
    del step(build, "store")["waitFor"]


def _undefined(build: Build) -> None:
    step(build, "check")["args"].append("ZONE=$_ZONE")


def _unused(build: Build) -> None:
    build["substitutions"]["_ZONE"] = "a"


def _substitution_in_a_script(build: Build) -> None:
    step(build, "plan")["script"] += 'echo "$_REGION"\n'


def _latest(build: Build) -> None:
    step(build, "check")["name"] = "python:latest"


def _no_tag(build: Build) -> None:
    step(build, "check")["name"] = "python"


def _moving_tag(build: Build) -> None:
    step(build, "check")["name"] = "python:3.13"


def _unknown_target(build: Build) -> None:
    step(build, "check")["args"][0] = "chekc"


def _unknown_target_in_a_script(build: Build) -> None:
    test = step(build, "test")
    test["script"] = test["script"].replace("make test", "make tset")


def _no_account(build: Build) -> None:
    del build["serviceAccount"]


def _default_account(build: Build) -> None:
    build["serviceAccount"] = "projects/p/serviceAccounts/1-compute@developer.gserviceaccount.com"


def _default_logging(build: Build) -> None:
    del build["options"]["logging"]


def _loose(build: Build) -> None:
    build["options"]["substitutionOption"] = "ALLOW_LOOSE"


def _no_timeout(build: Build) -> None:
    del build["timeout"]


def _script_with_arguments(build: Build) -> None:
    step(build, "test")["args"] = ["-v"]


def _lonely_volume(build: Build) -> None:
    step(build, "check")["volumes"] = [{"name": "cache", "path": "/cache"}]


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (_same_id, ["id 'test' is missing or used twice", "values waits for 'check'"]),
        (_unknown_wait, ["plan waits for 'valeus'"]),
        (_waits_for_a_later_step, ["check waits for 'store'"]),
        (_no_wait, ["store does not say what it waits for"]),
        (_undefined, ["_ZONE is used and not defined"]),
        (_unused, ["_ZONE is defined and not used"]),
        (_substitution_in_a_script, ["the script of plan reads _REGION"]),
        (_latest, ["python:latest"]),
        (_no_tag, ["python"]),
        (_moving_tag, ["python:3.13"]),
        (_unknown_target, ["make chekc"]),
        (_unknown_target_in_a_script, ["make tset"]),
        (_no_account, ["no service account of its own"]),
        (_default_account, ["no service account of its own"]),
        (_default_logging, ["logging is not CLOUD_LOGGING_ONLY"]),
        (_loose, ["substitutionOption is not MUST_MATCH"]),
        (_no_timeout, ["no timeout"]),
        (_script_with_arguments, ["test has a script and more"]),
        (_lonely_volume, ["only one step has the volume cache"]),
    ],
)
def test_a_mistake_is_found(plant: Callable[[Build], None], found: list[str]) -> None:
    """The rules find a mistake that is planted in the real file, and say which it is."""
    build = copy.deepcopy(parsed(PLAN))
    plant(build)
    assert mistakes(build) == found


def test_an_escaped_dollar_is_no_substitution() -> None:
    """`$$` stands for a dollar sign, both forms of a reference are seen, and a script has no substitutions."""
    build = {"steps": [{"args": ["$$HOME ${_A} $_B-c $$$_D", "${_E//x/y}"], "script": "echo $_F"}]}
    assert used_substitutions(build) == {"_A", "_B", "_D", "_E"}


def test_what_is_planned_passed() -> None:
    """A plan is made after the checks and all tests have passed, in parallel, and stored after it is made."""
    build = parsed(PLAN)
    assert {"check", "test"} <= before(build, "plan")
    assert "plan" in before(build, "store")
    assert "check" not in before(build, "test")
    assert "test" not in before(build, "check")
    for name in ("check", "test", "plan"):
        asked = [words[1] for words in commands(step(build, name)) if words[:1] == ["make"]]
        assert asked == [name]
    assert "MAILMIRROR_REQUIRE=all" in step(build, "test")["env"]


def test_an_apply_plans_nothing() -> None:
    """Terraform is initialised with the plan's own providers and applies the saved plan; no plan is made."""
    build = parsed(APPLY)
    ran = [words for each in build["steps"] for words in commands(each) if words[:1] == [each["name"]]]
    assert all(words[0].startswith("hashicorp/terraform:") for words in ran)
    verbs = [[word for word in words[1:] if not word.startswith("-")] for words in ran]
    assert verbs == [["init"], ["apply", "tfplan"]]
    assert "-lockfile=readonly" in ran[0]
    assert any(word.startswith("-lock-timeout=") for word in ran[1])
    assert not {"-lock=false", "-auto-approve", "-refresh-only", "-replace", "-target"} & set(ran[1])
    assert before(build, "apply") == {"fetch", "init"}
    assert "make" not in {words[0] for each in build["steps"] for words in filter(None, commands(each))}


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str, str, Path, str], subprocess.CompletedProcess[str]]:
    """`run(file, step, workspace, plans)`: a step's script, with a bucket that is a folder; `plans` is _PLANS."""
    programs = tmp_path / "programs"
    programs.mkdir()
    gcloud = programs / "gcloud"
    gcloud.write_text(
        '#!/bin/sh\n[ "$1 $2" = "storage cp" ] || exit 2\n'
        'from=$(echo "$3" | sed "s,^gs:/,$BUCKETS,") to=$(echo "$4" | sed "s,^gs:/,$BUCKETS,")\n'
        'case "$to" in "$BUCKETS"*) mkdir -p "$(dirname "$to")" ;; esac\nexec cp "$from" "$to"\n'
    )
    gcloud.chmod(0o755)

    def run(file: str, name: str, workspace: Path, plans: str) -> subprocess.CompletedProcess[str]:
        found = step(parsed(file), name)
        given = {"_STATE_BUCKET": "state", "_PLANS": plans, "COMMIT_SHA": "c0ffee"}
        environ = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "BUCKETS": str(tmp_path / "buckets"),
            **environment(found, given),
        }
        # Cloud Build runs a script that names no interpreter with /bin/sh.
        return subprocess.run(
            ["sh", "-c", found["script"]], cwd=workspace, env=environ, capture_output=True, text=True, check=False
        )

    return run


Run = Callable[[str, str, Path, str], subprocess.CompletedProcess[str]]


def workspace(folder: Path, files: dict[str, bytes]) -> Path:
    """Make a folder with terraform/ in it and these files."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "terraform").mkdir(parents=True, exist_ok=True)
    return folder


def planned_files() -> dict[str, bytes]:
    """What `make plan` leaves behind and an apply needs, where the Makefile and the configuration put it."""
    functions, makefile = (ROOT / "terraform" / "functions.tf").read_text(), (ROOT / "Makefile").read_text()
    bundle = re.search(r'output_path\s*=\s*"\$\{path\.module\}/(\S+)"', functions)
    plan, backend = re.search(r"-out=(\S+)", makefile), re.search(r"> (terraform/\S+\.tf) ?;", makefile)
    assert bundle is not None
    assert plan is not None
    assert backend is not None
    return {
        f"terraform/{plan[1]}": b"plan",
        "terraform/.terraform.lock.hcl": b"lock",
        backend[1]: b"backend",
        f"terraform/{bundle[1]}": b"bundle",
    }


def test_what_is_stored_is_what_is_applied(tmp_path: Path, run: Run) -> None:
    """The apply of a commit finds plan, provider versions, backend and bundle, byte by byte and each in its place."""
    files = planned_files()
    planned = workspace(tmp_path / "planned", {**files, "plan.txt": b"to read", "terraform/secret": b"left"})
    applied = workspace(tmp_path / "applied", {})
    assert run(PLAN, "store", planned, "plans").returncode == 0
    assert (tmp_path / "buckets/state/plans/c0ffee/plan.txt").read_bytes() == b"to read"
    assert run(APPLY, "fetch", applied, "").returncode == 0
    found = {str(path.relative_to(applied)): path for path in (applied / "terraform").rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == files


def test_nothing_half_is_stored(tmp_path: Path, run: Run) -> None:
    """Where the bundle is missing, the step fails and stores no plan."""
    files = {name: content for name, content in planned_files().items() if content != b"bundle"}
    planned = workspace(tmp_path / "planned", {**files, "plan.txt": b"to read"})
    assert run(PLAN, "store", planned, "plans").returncode != 0
    assert not (tmp_path / "buckets").exists()


@pytest.mark.parametrize("plans", ["plans", "reviews"])
def test_a_plan_of_a_pull_request_is_not_applied(plans: str, tmp_path: Path, run: Run) -> None:
    """An apply looks beneath plans/ alone; without a plan there it ends with a sentence that names the commit."""
    planned = workspace(tmp_path / "planned", {**planned_files(), "plan.txt": b"to read"})
    run(PLAN, "store", planned, plans)
    fetched = run(APPLY, "fetch", workspace(tmp_path / "applied", {}), "")
    assert (fetched.returncode == 0) == (plans == "plans")
    assert ("There is no saved plan for commit c0ffee" in fetched.stderr) == (plans == "reviews")


def test_a_plan_is_made_with_the_values_of_the_deployment(tmp_path: Path, run: Run) -> None:
    """The values come from the state bucket into terraform/; without them the build ends and says where they go."""
    build = workspace(tmp_path / "build", {})
    missing = run(PLAN, "values", build, "plans")
    assert missing.returncode == 1
    assert "gcloud storage cp terraform/terraform.tfvars gs://state/" in missing.stderr
    workspace(tmp_path / "buckets" / "state", {"terraform.tfvars": b"admins = []"})
    assert run(PLAN, "values", build, "plans").returncode == 0
    assert (build / "terraform/terraform.tfvars").read_bytes() == b"admins = []"
    assert "values" in before(parsed(PLAN), "plan")


def test_the_tests_do_not_see_the_deployment() -> None:
    """The deployment's values are fetched after the tests: a test of the configuration would take them for its own."""
    assert "test" in before(parsed(PLAN), "values")
