"""Large bodies and attachments in memory: `ports.Blobs` without Cloud Storage."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from gzip import decompress


@dataclass
class MemoryBlobs:
    """Large bodies and attachments, in a dictionary, as readers get them, and which write of all each of them is."""

    objects: dict[str, bytes] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    writes: int = 0

    def put(self, name: str, pieces: Iterable[bytes], content_type: str, *, gzip: bool = False) -> str:
        """Keep an object."""
        data = b"".join(pieces)
        self.writes += 1
        self.objects[name], self.types[name] = decompress(data) if gzip else data, content_type
        self.written[name] = self.writes
        return f"memory://{name}"

    def read(self, name: str) -> Iterator[bytes] | None:
        """Give an object in pieces."""
        data = self.objects.get(name)
        return None if data is None else (data[start : start + 1000] for start in range(0, len(data), 1000))

    def version(self, name: str) -> int | None:
        """Tell objects of one name apart."""
        return self.written.get(name)

    def versions(self, prefix: str, *, limit: int) -> dict[str, int]:
        """List objects by the beginning of their names."""
        names = [name for name in sorted(self.objects) if name.startswith(prefix)]
        return {name: self.written[name] for name in names[:limit]}

    def delete(self, name: str, version: int) -> None:
        """Forget an object if it is still that one."""
        if self.written.get(name) == version:
            del self.objects[name], self.types[name], self.written[name]
