"""The messages that CPython tests its own parser with: `test/test_email/data` of the Python that runs."""

import importlib.util
from pathlib import Path


def messages() -> dict[str, bytes]:
    """Return them by the names of their files, none where Python comes without its tests."""
    try:
        spec = importlib.util.find_spec("test.test_email")
    except ModuleNotFoundError:
        return {}
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "data"
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("msg_*.txt"))}
