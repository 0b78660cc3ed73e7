"""What is deployed: functions/ but for the store of one machine, the same bytes wherever it is packed, and able to run
on what it pins alone.

The archive provider packs while Terraform plans, and its stand-in packs nothing. So the rules of the provider are
followed here, for the `archive_file` that functions.tf has: what is judged is that configuration.
"""

import fnmatch
import hashlib
import json
import os
import shutil
import stat
import subprocess
import tomllib
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2
import pytest
import requests
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from local.process import Process, free_ports
from tests import source
from tests.terraform.environment import CannotInstall, environment
from tests.test_repository import ROOT, RUNTIME, repository_files, versions

TERRAFORM = ROOT / "terraform"
FUNCTIONS = ROOT / "functions"
MAX_BYTES = 200_000
# What git knows in functions/ and nobody deploys.
LEFT_OUT = {"mailmirror/adapters/sqlite.py"}
# The provider gives every file Go's zero time, which is this one in the 32 bits that a zip file has for it.
STAMP = (2049, 1, 1, 0, 0, 0)
# What may lie in functions/ on somebody's machine.
STRAY = [
    ".DS_Store",
    ".env",
    ".mypy_cache/3.13/main.data.json",
    ".venv/bin/python",
    ".venv/lib/python3.13/site-packages/six.py",
    "__pycache__/main.cpython-313.pyc",
    "mailmirror/.DS_Store",
    "mailmirror/.engine.py.swp",
    "mailmirror/adapters/gmail/__pycache__/wire.cpython-313.pyc",
    "main.pyc",
    "mirror.sqlite",
    "mirror.sqlite-wal",
]
IMPORT_EVERYTHING = """
import importlib, json, pkgutil, sys
from importlib import metadata

sys.path.insert(0, sys.argv[1])
import mailmirror

for module in pkgutil.walk_packages(mailmirror.__path__, "mailmirror."):
    importlib.import_module(module.name)
print(json.dumps([distribution.name for distribution in metadata.distributions()]))
"""

SETTINGS = {
    "GOOGLE_CLOUD_PROJECT": "p",
    "GMAIL_TOPIC": "projects/p/topics/gmail-notifications",
    "WORK_TOPIC": "projects/p/topics/mailbox-work",
    "GMAIL_AUTH": "none",
}

# The environment is built within the first test that needs it, from the network.
pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Exchange:
    """What an entry point is asked, and what it must answer: the error's status or, without an error, all of it."""

    method: str
    path: str
    status: int
    says: object
    body: bytes = b""


EXCHANGES = {
    "sync_history": Exchange("POST", "/", 400, "INVALID_ARGUMENT", body=b"no envelope"),
    "run_work": Exchange("POST", "/", 400, "INVALID_ARGUMENT", body=b"no envelope"),
    "renew_watches": Exchange("POST", "/", 200, {"published": 0}),
    "sweep_mailboxes": Exchange("POST", "/", 200, {"published": 0}),
    "trigger_sync": Exchange("POST", "/mailboxes/nobody@example.com/sync", 404, "NOT_FOUND"),
    "manage_mailboxes": Exchange("GET", "/mailboxes", 200, {"mailboxes": []}),
    "oauth_callback": Exchange("GET", "/mailboxes", 404, "NOT_FOUND"),
    "read_mailboxes": Exchange("GET", "/mailboxes/nobody@example.com/messages/1/attachments/1", 404, "NOT_FOUND"),
}


def declared(kind: str, type_: str, name: str) -> dict[str, Any]:
    """A block of functions.tf, such as `data "archive_file" "functions"`; expressions stay text."""
    options = hcl2.SerializationOptions(with_comments=False, explicit_blocks=False, strip_string_quotes=True)
    with (TERRAFORM / "functions.tf").open() as file:
        blocks = hcl2.load(file, serialization_options=options)[kind]
    found: list[dict[str, Any]] = [block[type_][name] for block in blocks if name in block.get(type_, {})]
    assert len(found) == 1
    return found[0]


def pack(source: Path, target: Path) -> Path:
    """Pack a folder as the archive provider does with the arguments that `archive_file` has in functions.tf.

    https://github.com/hashicorp/terraform-provider-archive: zip_archiver.go, since 2.5.0.
    """
    arguments = declared("data", "archive_file", "functions")
    with zipfile.ZipFile(target, "w") as archive:
        for name, path in walk(source, ".", arguments.get("excludes", [])):
            mode = int(arguments["output_file_mode"], 8) if "output_file_mode" in arguments else path.stat().st_mode
            info = zipfile.ZipInfo(name, STAMP)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix
            info.external_attr = (stat.S_IFREG | stat.S_IMODE(mode)) << 16
            archive.writestr(info, path.read_bytes())
        assert archive.namelist(), "The provider refuses to pack nothing."
    return target


def walk(path: Path, name: str, excludes: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Each file to pack with its name, in the order of the names. An excluded folder is not looked into.

    The folder itself is asked for as well, as `.`: a pattern that this matches leaves nothing to pack.
    """
    if any(matches(exclude.split("/"), name.split("/")) for exclude in excludes):
        return
    if path.is_file():
        yield name, path
        return
    for inner in sorted(path.iterdir()):
        yield from walk(inner, inner.name if name == "." else f"{name}/{inner.name}", excludes)


def matches(pattern: Sequence[str], name: Sequence[str]) -> bool:
    """Whether a pattern is one for a name, both split at slashes: `**` stands for any number of parts, even none."""
    if not pattern:
        return not name
    first, *rest = pattern
    assert not set(first) & set("[]{}\\"), f"{first}: only * and ? mean the same here and there."
    if first == "**":
        return any(matches(rest, name[start:]) for start in range(len(name) + 1))
    return bool(name) and fnmatch.fnmatchcase(name[0], first) and matches(rest, name[1:])


def sha256(file: Path) -> str:
    """What Terraform names the bundle by."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """functions/ as somebody else has it who cloned the repository."""
    for file in reversed(repository_files()):
        if file.is_relative_to(FUNCTIONS):
            copy = tmp_path / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    return tmp_path / FUNCTIONS.name


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle, unpacked in a folder with nothing around it."""
    folder = tmp_path_factory.mktemp("bundle")
    zipfile.ZipFile(pack(FUNCTIONS, folder / "functions.zip")).extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture(scope="session")
def python() -> Path:
    """An interpreter that has what functions/requirements.txt pins and nothing else."""
    try:
        return environment("functions", RUNTIME)
    except CannotInstall as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def urls(
    unpacked: Path, python: Path, firestore_emulator: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Where each entry point of the bundle answers; none sees anything of the repository or of this machine's settings.

    A call to Gmail or Pub/Sub would go to a port on which nobody listens.
    """
    folder = tmp_path_factory.mktemp("functions")
    names = list(source.entry_points())
    ports = free_ports(len(names) + 1)
    nobody = f"127.0.0.1:{ports.pop()}"
    env = SETTINGS | {
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "GOOGLE_CLOUD_PROJECT": f"bundle-{uuid.uuid4().hex[:12]}",
        "GMAIL_API_ROOT": f"http://{nobody}/",
        "PUBSUB_EMULATOR_HOST": nobody,
        "FIRESTORE_EMULATOR_HOST": firestore_emulator,
        "THREADS": "1",
        "WORKERS": "1",
    }
    urls = {name: f"http://127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)}
    with ExitStack() as started, ThreadPoolExecutor() as pool:
        waiting = []
        for name, url in urls.items():
            command = [str(python), "-I", "-m", "functions_framework", "--target", name]
            command += ["--source", str(unpacked / "main.py"), "--host", "127.0.0.1", "--port", url.rpartition(":")[2]]
            process = Process(name, command, env=env, log=folder / f"{name}.log", ready_url=f"{url}/robots.txt")
            started.callback(process.kill)
            process.start()
            waiting.append(pool.submit(process.wait_until_ready))
        for each in waiting:
            each.result()
        yield urls


def test_it_is_a_zip_file_of_functions() -> None:
    """The folder that is packed is functions/, and the bundle does not lie in it."""
    arguments = declared("data", "archive_file", "functions")
    source, target = (
        Path(arguments[name].replace("${path.module}", str(TERRAFORM))).resolve()
        for name in ("source_dir", "output_path")
    )
    assert arguments["type"] == "zip"
    assert source == FUNCTIONS
    assert not target.is_relative_to(FUNCTIONS)


def test_it_is_exactly_what_git_knows(tmp_path: Path) -> None:
    """Every file of functions/ that git knows, but for one store, is in the bundle, byte for byte, and no other."""
    with zipfile.ZipFile(pack(FUNCTIONS, tmp_path / "functions.zip")) as bundle:
        packed = {name: bundle.read(name) for name in bundle.namelist()}
    known = [file for file in repository_files() if file.is_relative_to(FUNCTIONS)]
    files = {file.relative_to(FUNCTIONS).as_posix(): file.read_bytes() for file in known}
    assert files.keys() > LEFT_OUT
    assert packed == {name: data for name, data in files.items() if name not in LEFT_OUT}


@pytest.mark.parametrize("stray", STRAY)
def test_what_lies_around_is_not_packed(stray: str, copied: Path, tmp_path: Path) -> None:
    """Caches, editors' files, environments, secrets and local mirrors in functions/ do not change the bundle."""
    clean = sha256(pack(copied, tmp_path / "clean.zip"))
    (copied / stray).parent.mkdir(parents=True, exist_ok=True)
    (copied / stray).write_text("stray")
    assert sha256(pack(copied, tmp_path / "stray.zip")) == clean


def test_the_same_files_make_the_same_bundle(copied: Path, tmp_path: Path) -> None:
    """The hash is that of the content: packed again, or elsewhere with other times and modes, it is the same."""
    first = sha256(pack(FUNCTIONS, tmp_path / "first.zip"))
    assert sha256(pack(FUNCTIONS, tmp_path / "second.zip")) == first
    for file in copied.rglob("*"):
        file.chmod(0o700)
        os.utime(file, (1, 1))
    assert sha256(pack(copied, tmp_path / "elsewhere.zip")) == first
    (copied / "main.py").write_text("")
    assert sha256(pack(copied, tmp_path / "changed.zip")) != first


def test_it_is_small(tmp_path: Path) -> None:
    """The bundle stays below 200 kB."""
    assert pack(FUNCTIONS, tmp_path / "functions.zip").stat().st_size < MAX_BYTES


def test_the_runtime_is_one_the_code_is_for() -> None:
    """The Python that functions.tf names is within the versions that pyproject.toml allows."""
    runtime = declared("resource", "google_cloudfunctions2_function", "function")["build_config"][0]["runtime"]
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert runtime.startswith("python3")
    assert f"3.{runtime.removeprefix('python3')}" in SpecifierSet(wanted)


def test_every_module_imports_with_what_is_pinned(unpacked: Path, python: Path) -> None:
    """Each module of the bundle imports where only functions/requirements.txt is installed."""
    command = [str(python), "-I", "-c", IMPORT_EVERYTHING, str(unpacked)]
    done = subprocess.run(command, cwd=unpacked, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    installed = {canonicalize_name(name) for name in json.loads(done.stdout)}
    assert installed <= versions(RUNTIME).keys() | {"pip", "setuptools"}


def test_the_store_of_one_machine_does_not_start(unpacked: Path, python: Path, tmp_path: Path) -> None:
    """Who sets it for what is deployed is told so, before anything is mirrored where it would be lost."""
    store = f"sqlite:{tmp_path / 'mirror.sqlite'}"
    command = [str(python), "-I", "-m", "functions_framework", "--target", "read_mailboxes", "--source"]
    env = SETTINGS | {"MAILMIRROR_STORE": store, "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [*command, str(unpacked / "main.py")], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"Mailmirror cannot start: MAILMIRROR_STORE='{store}' is for one machine" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("entry_point", source.entry_points())
def test_every_entry_point_starts_and_answers(entry_point: str, urls: dict[str, str]) -> None:
    """Each function starts from the unpacked bundle with what is pinned, and answers what it is asked over HTTP."""
    exchange = EXCHANGES[entry_point]
    with requests.Session() as session:
        session.trust_env = False
        answer = session.request(exchange.method, urls[entry_point] + exchange.path, data=exchange.body, timeout=60)
    said = answer.json()
    assert (answer.status_code, said["error"]["status"] if "error" in said else said) == (
        exchange.status,
        exchange.says,
    )
