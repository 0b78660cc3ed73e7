"""The repository as a newcomer and a deployment meet it: nothing of one machine, all pinned, every target told."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import source

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = ROOT / "functions" / "requirements.txt"
DEVELOPMENT = ROOT / "requirements-dev.txt"
SCANNER = ROOT / "requirements-checkov.txt"
LIEER = ROOT / "requirements-lieer.txt"

REGISTRIES = re.compile(rb"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|debian\.org|crates\.io", re.IGNORECASE)
MACHINE_PATHS = re.compile(rb"(?<![\w.])/(?:home|root|work|Users)/")


def repository_files() -> list[Path]:
    """What is committed or could be: with git, what it does not ignore; from an archive, what is not a cache."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
        return [ROOT / name for name in names if name and (ROOT / name).is_file()]
    caches = re.compile(r"__pycache__|\.(?:venv|git|terraform|hypothesis|\w+_cache)")
    files = (path for path in ROOT.rglob("*") if path.is_file())
    return [path for path in files if not any(caches.fullmatch(part) for part in path.relative_to(ROOT).parts)]


def lines_matching(pattern: re.Pattern[bytes]) -> list[str]:
    """Each line of the repository that matches, as `file:line: text`."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.decode(errors='replace').strip()}"
        for path in repository_files()
        for number, line in enumerate(path.read_bytes().splitlines(), start=1)
        if pattern.search(line)
    ]


def pins(file: Path) -> dict[str, list[str]]:
    """A compiled requirements file: for each `name==version; marker` the hashes its files may have."""
    found: dict[str, list[str]] = {}
    for line in file.read_text().replace("\\\n", "").splitlines():
        if line and not line.lstrip().startswith("#"):
            requirement, *hashes = re.split(r"\s+--hash=", line.strip())
            found[requirement] = hashes
    return found


def versions(file: Path) -> dict[str, str]:
    """The pinned version of each distribution in a compiled requirements file."""
    requirements = [Requirement(pin) for pin in pins(file)]
    return {canonicalize_name(each.name): specifier.version for each in requirements for specifier in each.specifier}


def pyproject_ranges() -> dict[Path, list[Requirement]]:
    """What pyproject.toml asks for, by the file in which it is pinned."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime, groups = project["project"]["dependencies"], project["dependency-groups"]
    asked = {RUNTIME: runtime, DEVELOPMENT: runtime + groups["dev"], SCANNER: groups["checkov"], LIEER: groups["lieer"]}
    return {file: [Requirement(each) for each in requirements] for file, requirements in asked.items()}


def imports(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """Each import that happens at run time, as the module names of which one must exist."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                for other in node.orelse:
                    yield from imports(ast.Module(body=[other], type_ignores=[]))
            case ast.Import(names=names):
                yield from ((name.name,) for name in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from ((module, f"{module}.{name.name}") for name in names)
            case _:
                yield from imports(node)


def provided_modules(file: Path) -> set[str]:
    """The modules that the distributions pinned in a requirements file bring along."""
    provided: set[str] = set()
    for name in versions(file):
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:  # pinned for another platform
            continue
        for path in files:
            if path.suffix in {".py", ".so"}:
                parts = [*path.parent.parts, path.name.partition(".")[0]]
                provided.add(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return provided


def test_no_package_registry_is_named() -> None:
    """Everybody installs from the registry they have configured: no file names the host of one."""
    assert lines_matching(REGISTRIES) == []


def test_no_path_of_a_machine_is_written_down() -> None:
    """The project works wherever it is cloned: no file holds an absolute path of somebody's machine."""
    assert lines_matching(MACHINE_PATHS) == []


@pytest.mark.parametrize("file", [RUNTIME, DEVELOPMENT, SCANNER, LIEER], ids=lambda file: file.name)
def test_requirements_are_pinned_with_hashes(file: Path) -> None:
    """Every requirement is one exact version and the SHA-256 of each of its files, with no option line in between."""
    for pin, hashes in pins(file).items():
        assert [specifier.operator for specifier in Requirement(pin).specifier] == ["=="], pin
        assert hashes, pin
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), pin


def test_pins_are_within_the_ranges() -> None:
    """Every dependency in pyproject.toml is pinned to a version its range allows."""
    for file, wanted in pyproject_ranges().items():
        pinned = versions(file)
        for requirement in wanted:
            version = pinned.get(canonicalize_name(requirement.name))
            assert version, f"{requirement} is not pinned in {file.name}: run `make requirements`."
            assert version in requirement.specifier, f"{requirement} is pinned to {version} in {file.name}."


def allowed_files(file: Path) -> dict[str, set[str]]:
    """The hashes of the files that a compiled requirements file allows for each distribution and version."""
    return {pin.partition(";")[0].strip(): set(hashes) for pin, hashes in pins(file).items()}


def test_tests_run_against_what_is_deployed() -> None:
    """What is pinned for the functions is pinned for development, each of its files among those there."""
    deployed, developed = allowed_files(RUNTIME), allowed_files(DEVELOPMENT)
    assert deployed.keys() <= developed.keys()
    assert [pin for pin, hashes in deployed.items() if not hashes <= developed[pin]] == []


def test_functions_import_only_what_is_deployed_with_them() -> None:
    """Each run-time import under functions/ is the standard library, the functions' own or in their requirements."""
    provided = provided_modules(RUNTIME)
    own = {"mailmirror", "main"}
    strange = [
        f"{path.relative_to(ROOT)}: {candidates[-1]}"
        for path in (ROOT / "functions").rglob("*.py")
        for candidates in imports(ast.parse(path.read_text()))
        if candidates[0].partition(".")[0] not in own | sys.stdlib_module_names
        and not provided.intersection(candidates)
    ]
    assert strange == []


def test_every_make_target_has_a_help_text() -> None:
    """`make help` leaves out no target, and each of its lines says what the target does."""
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)[1].split())  # type: ignore[index]
    shown = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    helped = {match[1] for line in shown.splitlines() if (match := re.fullmatch(r" +make (\S+) +\S.*", line))}
    assert source.make_targets() == phony == helped


def test_ci_runs_the_checks_and_the_tests() -> None:
    """`.ci/run` can be executed, runs `make check` and `make test`, and allows no skip."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert "make check" in text
    assert "make test" in text
    assert "MAILMIRROR_REQUIRE=all" in text
