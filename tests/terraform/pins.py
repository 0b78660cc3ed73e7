"""functions/requirements.txt out of a lock: the hashes of the files that a function, or who tests it, installs.

Knows: which wheels serve the Pythons that pyproject.toml allows where functions run; one for each is enough,
and where one serves all it is the only one. Does not know: how versions are chosen. The hashes of all files there are
would be a seventh of the bundle.

    python -m tests.terraform.pins LOCK
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

from tests.test_repository import ROOT, RUNTIME

# The newest Python that there are wheels for.
NEWEST = 14
# What the platform of a wheel looks like where functions run.
SYSTEM = r"manylinux.*_x86_64"


def serves(tag: Tag, python: str) -> bool:
    """Return whether a wheel of this tag can be installed by a Python, such as `cp311`."""
    stable = tag.abi == "abi3" and tag.interpreter.startswith("cp3") and int(tag.interpreter[3:]) <= int(python[3:])
    known = (tag.interpreter, tag.abi) in ((python, python), (python, "none"), ("py3", "none")) or stable
    return known and (tag.platform == "any" or re.fullmatch(SYSTEM, tag.platform) is not None)


def chosen(package: dict[str, Any], pythons: list[str]) -> list[str]:
    """Return the hashes of the files of a locked package to install, its source only where no wheel serves."""
    wheels = {wheel["url"].rpartition("/")[2]: wheel["hashes"]["sha256"] for wheel in package.get("wheels", ())}
    tags = {name: parse_wheel_filename(name)[3] for name in wheels}
    everywhere = [name for name in wheels if any(tag.platform == "any" and tag.abi == "none" for tag in tags[name])]
    found: dict[str, None] = {}
    for python in pythons:
        # Of several the oldest glibc is the least particular.
        fitting = [name for name in everywhere or sorted(wheels) if any(serves(tag, python) for tag in tags[name])]
        found.update(dict.fromkeys(fitting[:1]))
    return [wheels[name] for name in found] or [package["sdist"]["hashes"]["sha256"]]


def requirements(lock: Path) -> str:
    """Return the requirements of a lock in the format of PEP 751, in the order of their names."""
    wanted = SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    pythons = [f"cp3{minor}" for minor in range(NEWEST + 1) if f"3.{minor}" in wanted]
    lines = []
    for package in tomllib.loads(lock.read_text())["packages"]:
        hashes = [f"    --hash=sha256:{each}" for each in chosen(package, pythons)]
        lines.append(" \\\n".join([f"{package['name']}=={package['version']}", *hashes]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    RUNTIME.write_text(requirements(Path(sys.argv[1])))
