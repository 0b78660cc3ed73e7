"""A small Cloud Storage in a folder: the JSON API's upload, download, list and delete, as google-cloud-storage calls
them.

Knows: uploads of the kinds media, multipart and (from some size on) resumable, checksums both ways, downloads by range,
objects that are stored gzip'ed and given out unpacked to whoever does not say that it takes gzip, lists by prefix in
pages, generations and `ifGenerationMatch` of a delete, Google's error model. Objects are kept in the folder and are
there again when it is started anew; every bucket exists from the start. One process serves a folder.

What it does not do: copy or compose objects, keep old generations or unfinished uploads, check any other precondition
or access, list by delimiter or glob, pick fields, sign URLs, or keep anything of an object's metadata but its name,
type, encoding, size, generation and hashes.

In the folder each object is two files: `….json` says what it is, and what it holds is beside it, as it was sent. Both
have a hash of bucket and name for their name. The first is put in place when the second is complete, so that an object
is written as a whole or not at all.
"""

import argparse
import base64
import gzip
import hashlib
import json
import logging
import re
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import flask
import google_crc32c
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

# The most objects in one answer to a list.
_PAGE = 1000
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Refused(Exception):
    """A request that cannot be served; rendered in Google's error model."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Stored:
    """What an object is; `content_encoding` is `gzip` or empty, the hashes are those of what was sent."""

    bucket: str
    name: str
    content_type: str
    content_encoding: str
    generation: int
    size: int
    crc32c: str
    md5: str

    def as_json(self) -> dict[str, Any]:
        """The object resource."""
        return {
            "kind": "storage#object",
            "bucket": self.bucket,
            "name": self.name,
            "contentType": self.content_type,
            **({"contentEncoding": self.content_encoding} if self.content_encoding else {}),
            "generation": str(self.generation),
            "size": str(self.size),
            "crc32c": self.crc32c,
            "md5Hash": self.md5,
        }


@dataclass(slots=True)
class _Upload:
    """A resumable upload under way."""

    metadata: dict[str, Any]
    data: bytearray


class Objects:
    """All objects in all buckets, and the uploads under way."""

    def __init__(self, folder: Path) -> None:
        """Go on with what is in a folder; it is made if need be."""
        self._folder = folder
        self._lock = threading.Lock()
        self._uploads: dict[str, _Upload] = {}
        folder.mkdir(parents=True, exist_ok=True)
        found = [Stored(**json.loads(file.read_text())) for file in folder.glob("*.json")]
        self._stored = {(stored.bucket, stored.name): stored for stored in found}
        self._generation = max((stored.generation for stored in found), default=0)
        # What a process left that ended in the middle of a write.
        whole = {path for stored in found for path in self._files(stored)}
        for file in folder.iterdir():
            if file not in whole:
                file.unlink()

    def put(self, bucket: str, metadata: dict[str, Any], data: bytes) -> Stored:
        """Store an object, replacing an older one.

        Raises:
            Refused: it has no name, or the data is not what the metadata's checksums say.
        """
        name = metadata.get("name")
        if not name:
            raise Refused(400, "Required object name.")
        hashes = _hashes(data)
        for key, value in hashes.items():
            if metadata.get(key, value) != value:
                raise Refused(400, f"Provided {key} {metadata[key]} doesn't match calculated {value}.")
        with self._lock:
            # The time in microseconds, as Google's look.
            self._generation = max(self._generation + 1, time.time_ns() // 1000)
            stored = Stored(
                bucket,
                name,
                metadata.get("contentType") or "application/octet-stream",
                metadata.get("contentEncoding") or "",
                self._generation,
                len(data),
                hashes["crc32c"],
                hashes["md5Hash"],
            )
            before = self._stored.get((bucket, name))
            description, content = self._files(stored)
            content.write_bytes(data)
            unfinished = description.with_suffix(".new")
            unfinished.write_text(json.dumps(asdict(stored)))
            unfinished.replace(description)
            self._stored[bucket, name] = stored
            if before is not None:
                self._files(before)[1].unlink()
        return stored

    def get(self, bucket: str, name: str) -> Stored:
        """Return what an object is.

        Raises:
            Refused: there is none of this name.
        """
        with self._lock:
            return self._there(bucket, name)

    def content(self, bucket: str, name: str) -> tuple[Stored, bytes]:
        """Return an object and what it holds, as it was sent.

        Raises:
            Refused: there is none of this name.
        """
        with self._lock:
            stored = self._there(bucket, name)
            return stored, self._files(stored)[1].read_bytes()

    def page(self, bucket: str, prefix: str, after: str, limit: int) -> tuple[list[Stored], bool]:
        """Return objects in the order of their names, those after `after`, and whether there are more."""
        with self._lock:
            found = [
                self._stored[place]
                for place in sorted(self._stored)
                if place[0] == bucket and place[1].startswith(prefix) and place[1] > after
            ]
        return found[:limit], len(found) > limit

    def delete(self, bucket: str, name: str, generation: int | None = None) -> None:
        """Delete an object; if a generation is given, only that one.

        Raises:
            Refused: there is none of this name, or it is of another generation.
        """
        with self._lock:
            stored = self._there(bucket, name)
            if generation not in (None, stored.generation):
                raise Refused(412, "At least one of the pre-conditions you specified did not hold.")
            for file in self._files(stored):
                file.unlink()
            del self._stored[bucket, name]

    def begin(self, metadata: dict[str, Any]) -> str:
        """Begin a resumable upload and return its id."""
        upload_id = uuid.uuid4().hex
        with self._lock:
            self._uploads[upload_id] = _Upload(metadata, bytearray())
        return upload_id

    def go_on(self, bucket: str, upload_id: str, content_range: str, chunk: bytes) -> Stored | int:
        """Take the next bytes of a resumable upload.

        Returns:
            The object when it is complete, else how many bytes there are so far.

        Raises:
            Refused: no such upload, or the range does not continue it.
        """
        with self._lock:
            upload = self._uploads.get(upload_id)
        if upload is None:
            raise Refused(404, "No such upload.")
        match = _CONTENT_RANGE.fullmatch(content_range)
        if match is None:
            raise Refused(400, f"Content-Range {content_range!r} is malformed.")
        first, _, total = match.groups()
        if first is not None:
            if int(first) != len(upload.data):
                raise Refused(400, f"The upload goes on at byte {len(upload.data)}, not {first}.")
            upload.data += chunk
        if total != str(len(upload.data)):
            return len(upload.data)
        stored = self.put(bucket, upload.metadata, bytes(upload.data))
        self.forget(upload_id)
        return stored

    def forget(self, upload_id: str) -> None:
        """Give a resumable upload up."""
        with self._lock:
            self._uploads.pop(upload_id, None)

    def _there(self, bucket: str, name: str) -> Stored:
        stored = self._stored.get((bucket, name))
        if stored is None:
            raise Refused(404, f"No such object: {bucket}/{name}")
        return stored

    def _files(self, stored: Stored) -> tuple[Path, Path]:
        """The files of an object: what it is, and what this generation of it holds."""
        # A name may be longer than that of a file, and have any characters.
        place = hashlib.sha256(f"{stored.bucket}/{stored.name}".encode()).hexdigest()
        return self._folder / f"{place}.json", self._folder / f"{place}.{stored.generation}"


def create_app(objects: Objects) -> flask.Flask:
    """Make the HTTP surface of some objects."""
    app = flask.Flask(__name__)

    @app.get("/")
    def ready() -> str:
        return "A small Cloud Storage.\n"

    @app.post("/upload/storage/v1/b/<bucket>/o")
    def upload(bucket: str) -> flask.Response:
        return _upload(objects, bucket, flask.request)

    @app.put("/upload/storage/v1/b/<bucket>/o")
    def go_on(bucket: str) -> flask.Response:
        request = flask.request
        content_range = request.headers.get("Content-Range", "")
        result = objects.go_on(bucket, request.args.get("upload_id", ""), content_range, request.get_data())
        if isinstance(result, Stored):
            return flask.jsonify(result.as_json())
        return flask.Response(status=308, headers={"Range": f"bytes=0-{result - 1}"} if result else {})

    @app.get("/storage/v1/b/<bucket>/o")
    def listed(bucket: str) -> flask.Response:
        return _page(objects, bucket, flask.request.args)

    @app.get("/storage/v1/b/<bucket>/o/<path:name>")
    @app.get("/download/storage/v1/b/<bucket>/o/<path:name>")
    def download(bucket: str, name: str) -> flask.Response:
        if flask.request.args.get("alt") != "media":
            return flask.jsonify(objects.get(bucket, name).as_json())
        return _download(*objects.content(bucket, name), flask.request)

    @app.delete("/storage/v1/b/<bucket>/o/<path:name>")
    def delete(bucket: str, name: str) -> flask.Response:
        objects.delete(bucket, name, _number(flask.request.args, "ifGenerationMatch"))
        return flask.Response(status=204)

    @app.errorhandler(Refused)
    def refused(error: Refused) -> tuple[flask.Response, int]:
        return _error(error.code, str(error))

    @app.errorhandler(HTTPException)
    def not_served(error: HTTPException) -> tuple[flask.Response, int]:
        return _error(error.code or 500, error.description or error.name)

    return app


def _hashes(data: bytes) -> dict[str, str]:
    """The checksums of some data, as the API spells them."""
    crc32c = google_crc32c.value(data).to_bytes(4, "big")
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    return {"crc32c": base64.b64encode(crc32c).decode(), "md5Hash": base64.b64encode(md5).decode()}


def _download(stored: Stored, data: bytes, request: flask.Request) -> flask.Response:
    """What an object holds, or a range of that; of one that is stored gzip'ed what it was made of, and all of it,
    unless gzip is taken (https://docs.cloud.google.com/storage/docs/transcoding).
    """
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(stored.name, safe='')}",
        "X-Goog-Hash": f"crc32c={stored.crc32c},md5={stored.md5}",
        "X-Goog-Stored-Content-Encoding": stored.content_encoding or "identity",
        "X-Goog-Generation": str(stored.generation),
    }
    if stored.content_encoding == "gzip" and "gzip" not in request.headers.get("Accept-Encoding", ""):
        return flask.Response(gzip.decompress(data), content_type=stored.content_type, headers=headers)
    if stored.content_encoding:
        headers["Content-Encoding"] = stored.content_encoding
    wanted = _RANGE.fullmatch(request.headers.get("Range", ""))
    if wanted is None:
        return flask.Response(data, content_type=stored.content_type, headers=headers)
    first = int(wanted[1])
    if first >= len(data):
        raise Refused(416, "The requested range cannot be satisfied.")
    part = data[first : int(wanted[2]) + 1 if wanted[2] else None]
    headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
    return flask.Response(part, status=206, content_type=stored.content_type, headers=headers)


def _page(objects: Objects, bucket: str, args: Mapping[str, str]) -> flask.Response:
    limit = min(_number(args, "maxResults") or _PAGE, _PAGE)
    found, more = objects.page(bucket, args.get("prefix", ""), args.get("pageToken", ""), limit)
    answer: dict[str, Any] = {"kind": "storage#objects"}
    if found:
        answer["items"] = [item.as_json() for item in found]
    if more:
        answer["nextPageToken"] = found[-1].name
    return flask.jsonify(answer)


def _upload(objects: Objects, bucket: str, request: flask.Request) -> flask.Response:
    kind = request.args.get("uploadType")
    if kind == "media":
        metadata = {"name": request.args.get("name"), "contentType": request.content_type}
        return flask.jsonify(objects.put(bucket, metadata, request.get_data()).as_json())
    if kind == "multipart":
        metadata, data = _multipart(request)
        return flask.jsonify(objects.put(bucket, metadata, data).as_json())
    if kind == "resumable":
        metadata = {"contentType": request.headers.get("X-Upload-Content-Type"), **request.args}
        upload_id = objects.begin(metadata | (request.get_json(silent=True) or {}))
        location = f"{request.base_url}?uploadType=resumable&upload_id={upload_id}"
        return flask.Response(status=200, headers={"Location": location})
    raise Refused(400, f"uploadType {kind!r} is not one of media, multipart, resumable.")


def _number(args: Mapping[str, str], name: str) -> int | None:
    """Return a parameter that has to be a number, None if it is not given."""
    value = args.get(name)
    if value is None:
        return None
    if not value.isdecimal():
        raise Refused(400, f"Invalid value for {name}: {value!r}.")
    return int(value)


def _error(code: int, message: str) -> tuple[flask.Response, int]:
    return flask.jsonify({"error": {"code": code, "message": message, "errors": [{"message": message}]}}), code


def _multipart(request: flask.Request) -> tuple[dict[str, Any], bytes]:
    """Take a `multipart/related` body apart: the metadata as JSON, then the data as it is."""
    boundary = request.mimetype_params.get("boundary", "").encode()
    parts = request.get_data().split(b"--" + boundary)
    if not boundary or len(parts) != 4:
        raise Refused(400, "The body is not two parts of multipart/related.")
    (_, metadata), (headers, data) = (part[2:-2].split(b"\r\n\r\n", 1) for part in parts[1:3])
    content_type = headers.decode().partition(":")[2].strip()
    return {"contentType": content_type, **json.loads(metadata)}, data


def serve(port: int, folder: Path) -> None:
    """Serve until the process ends, and say as one line of JSON where."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server("127.0.0.1", port, create_app(Objects(folder)), threaded=True)
    url = f"http://127.0.0.1:{server.server_port}"
    print(json.dumps({"event": "fake_storage_listening", "url": url}), flush=True)
    server.serve_forever()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m local.storage", description="A small Cloud Storage in a folder.")
    parser.add_argument("--folder", type=Path, required=True, help="where the objects are kept")
    parser.add_argument("--port", type=int, default=0, help="the loopback port; 0 takes a free one")
    arguments = parser.parse_args()
    serve(arguments.port, arguments.folder)


if __name__ == "__main__":
    main()
