"""A small Cloud Storage: the JSON API's upload, download, list and delete, as google-cloud-storage calls them.

Knows: uploads of the kinds media, multipart and (from 8 MiB on) resumable, checksums both ways, lists by prefix in
pages, generations and `ifGenerationMatch` of a delete, Google's error model. Objects are kept in memory and are gone
when it ends; every bucket exists from the start.

What it does not do: copy or compose objects, keep old generations, check any other precondition or access, list by
delimiter or glob, pick fields, sign URLs, or keep anything of an object's metadata but its name, type, size, generation
and hashes.
"""

import argparse
import base64
import hashlib
import json
import logging
import re
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import flask
import google_crc32c
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

# The most objects in one answer to a list.
_PAGE = 1000
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class Refused(Exception):
    """A request that cannot be served; rendered in Google's error model."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it was uploaded; its generation is given when it is stored."""

    bucket: str
    name: str
    content_type: str
    data: bytes
    generation: int = 0

    @property
    def hashes(self) -> dict[str, str]:
        """The checksums of the data, as the API spells them."""
        crc32c = google_crc32c.value(self.data).to_bytes(4, "big")
        md5 = hashlib.md5(self.data, usedforsecurity=False).digest()
        return {"crc32c": base64.b64encode(crc32c).decode(), "md5Hash": base64.b64encode(md5).decode()}

    def as_json(self) -> dict[str, Any]:
        """The object resource."""
        return {
            "kind": "storage#object",
            "bucket": self.bucket,
            "name": self.name,
            "contentType": self.content_type,
            "generation": str(self.generation),
            "size": str(len(self.data)),
            **self.hashes,
        }


@dataclass(slots=True)
class _Upload:
    """A resumable upload under way."""

    metadata: dict[str, Any]
    data: bytearray


class Objects:
    """All objects in all buckets, and the uploads under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stored: dict[tuple[str, str], Stored] = {}
        self._uploads: dict[str, _Upload] = {}
        self._generation = 0

    def put(self, bucket: str, metadata: dict[str, Any], data: bytes) -> Stored:
        """Store an object, replacing an older one.

        Raises:
            Refused: it has no name, or the data is not what the metadata's checksums say.
        """
        name = metadata.get("name")
        if not name:
            raise Refused(400, "Required object name.")
        stored = Stored(bucket, name, metadata.get("contentType") or "application/octet-stream", data)
        for key, value in stored.hashes.items():
            if metadata.get(key, value) != value:
                raise Refused(400, f"Provided {key} {metadata[key]} doesn't match calculated {value}.")
        with self._lock:
            # The time in microseconds, as Google's look: what a server before this one stored had a lower one.
            self._generation = max(self._generation + 1, time.time_ns() // 1000)
            stored = replace(stored, generation=self._generation)
            self._stored[bucket, name] = stored
        return stored

    def get(self, bucket: str, name: str) -> Stored:
        """Return an object.

        Raises:
            Refused: there is none of this name.
        """
        with self._lock:
            stored = self._stored.get((bucket, name))
        if stored is None:
            raise Refused(404, f"No such object: {bucket}/{name}")
        return stored

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
            stored = self._stored.get((bucket, name))
            if stored is None:
                raise Refused(404, f"No such object: {bucket}/{name}")
            if generation not in (None, stored.generation):
                raise Refused(412, "At least one of the pre-conditions you specified did not hold.")
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
        with self._lock:
            self._uploads.pop(upload_id, None)
        return stored


def create_app(objects: Objects | None = None) -> flask.Flask:
    """Make the HTTP surface; `objects` lets a test look at what is stored."""
    stored = objects or Objects()
    app = flask.Flask(__name__)

    @app.get("/")
    def ready() -> str:
        return "A small Cloud Storage.\n"

    @app.post("/upload/storage/v1/b/<bucket>/o")
    def upload(bucket: str) -> flask.Response:
        return _upload(stored, bucket, flask.request)

    @app.put("/upload/storage/v1/b/<bucket>/o")
    def go_on(bucket: str) -> flask.Response:
        request = flask.request
        content_range = request.headers.get("Content-Range", "")
        result = stored.go_on(bucket, request.args.get("upload_id", ""), content_range, request.get_data())
        if isinstance(result, Stored):
            return flask.jsonify(result.as_json())
        return flask.Response(status=308, headers={"Range": f"bytes=0-{result - 1}"} if result else {})

    @app.get("/storage/v1/b/<bucket>/o")
    def listed(bucket: str) -> flask.Response:
        return _page(stored, bucket, flask.request.args)

    @app.get("/storage/v1/b/<bucket>/o/<path:name>")
    @app.get("/download/storage/v1/b/<bucket>/o/<path:name>")
    def download(bucket: str, name: str) -> flask.Response:
        found = stored.get(bucket, name)
        if flask.request.args.get("alt") != "media":
            return flask.jsonify(found.as_json())
        hashes = found.hashes
        headers = {
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
            "X-Goog-Hash": f"crc32c={hashes['crc32c']},md5={hashes['md5Hash']}",
        }
        return flask.Response(found.data, content_type=found.content_type, headers=headers)

    @app.delete("/storage/v1/b/<bucket>/o/<path:name>")
    def delete(bucket: str, name: str) -> flask.Response:
        stored.delete(bucket, name, _number(flask.request.args, "ifGenerationMatch"))
        return flask.Response(status=204)

    @app.errorhandler(Refused)
    def refused(error: Refused) -> tuple[flask.Response, int]:
        return _error(error.code, str(error))

    @app.errorhandler(HTTPException)
    def not_served(error: HTTPException) -> tuple[flask.Response, int]:
        return _error(error.code or 500, error.description or error.name)

    return app


def _page(stored: Objects, bucket: str, args: Mapping[str, str]) -> flask.Response:
    limit = min(_number(args, "maxResults") or _PAGE, _PAGE)
    found, more = stored.page(bucket, args.get("prefix", ""), args.get("pageToken", ""), limit)
    answer: dict[str, Any] = {"kind": "storage#objects"}
    if found:
        answer["items"] = [item.as_json() for item in found]
    if more:
        answer["nextPageToken"] = found[-1].name
    return flask.jsonify(answer)


def _upload(stored: Objects, bucket: str, request: flask.Request) -> flask.Response:
    kind = request.args.get("uploadType")
    if kind == "media":
        metadata = {"name": request.args.get("name"), "contentType": request.content_type}
        return flask.jsonify(stored.put(bucket, metadata, request.get_data()).as_json())
    if kind == "multipart":
        metadata, data = _multipart(request)
        return flask.jsonify(stored.put(bucket, metadata, data).as_json())
    if kind == "resumable":
        metadata = {"contentType": request.headers.get("X-Upload-Content-Type"), **request.args}
        upload_id = stored.begin(metadata | (request.get_json(silent=True) or {}))
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


def serve(port: int) -> None:
    """Serve until the process ends, and say as one line of JSON where."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server("127.0.0.1", port, create_app(), threaded=True)
    url = f"http://127.0.0.1:{server.server_port}"
    print(json.dumps({"event": "fake_storage_listening", "url": url}), flush=True)
    server.serve_forever()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m local.storage", description="A small Cloud Storage, in memory.")
    parser.add_argument("--port", type=int, default=0, help="the loopback port; 0 takes a free one")
    serve(parser.parse_args().port)


if __name__ == "__main__":
    main()
