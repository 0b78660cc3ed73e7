"""A Python environment with what one compiled requirements file pins and nothing else.

Knows: where it lies, and when it has to be built anew. Does not know: what is run in it. It lies in .venv, so that
`make clean` removes it, and is built once for each content of the file, whoever asks first.
"""

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

_VENV = Path(__file__).resolve().parents[2] / ".venv"


class CannotInstall(Exception):
    """The environment could not be built; the message says why, in pip's words."""


def environment(name: str, requirements: Path) -> Path:
    """Build an environment, unless it is there.

    Args:
        name: its folder in .venv.
        requirements: a compiled file, with the hashes of everything.

    Returns:
        Its Python interpreter. Run it with `-I`: then neither PYTHONPATH nor the working folder adds anything.

    Raises:
        CannotInstall: there is no way to what is pinned, or it is not what its hash says.
    """
    folder = _VENV / name
    python, built = folder / "bin" / "python", folder / "built"
    content = hashlib.sha256(sys.version.encode() + requirements.read_bytes()).hexdigest()
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (built.exists() and built.read_text() == content):
            _run([sys.executable, "-m", "venv", "--clear", str(folder)])
            # The file names everything there is to be, so nobody is asked what else that needs.
            exactly = ["--require-hashes", "--no-deps", "-r", str(requirements)]
            _run([str(python), "-I", "-m", "pip", "install", "-qq", *exactly])
            built.write_text(content)
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise CannotInstall(f"No environment for {command[-1]}: {said[-1]}")
