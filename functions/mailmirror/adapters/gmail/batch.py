"""Batches: many requests in one, and its answer taken apart again.

Knows: multipart/mixed of application/http (https://developers.google.com/gmail/api/guides/batch). Does not know:
connections, what is asked, or what an answer means. What cannot be read is left out: the sender asks again.

The client library's cost twice the processor time of all the rest, and ask again after 401: a call nobody paid for.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httplib2

_BOUNDARY = "mailmirror"
CONTENT_TYPE = f"multipart/mixed; boundary={_BOUNDARY}"

_BOUNDARY_OF = re.compile(r'^\s*multipart/[^;]+;.*?\bboundary="?([^";\s]+)', re.IGNORECASE)
_NUMBER = re.compile(rb"^content-id:[^\n]*\bresponse-(\d{1,4})@", re.IGNORECASE | re.MULTILINE)
_STATUS = re.compile(rb"\s*HTTP/[\d.]+ +(\d{3})[ \t]*([^\r\n]*)")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


def write(requests: Sequence[Any]) -> bytes:
    """Return the body for googleapiclient's requests without a body, numbered from 0."""
    lines = []
    for number, request in enumerate(requests):
        url = urlsplit(request.uri)
        lines += [
            f"--{_BOUNDARY}",
            "Content-Type: application/http",
            f"Content-ID: <{number}@mailmirror>",
            "",
            f"{request.method} {url.path}?{url.query} HTTP/1.1",
            f"Host: {url.netloc}",
            "Accept: application/json",
            "",
            "",
        ]
    lines += [f"--{_BOUNDARY}--", ""]
    return "\r\n".join(lines).encode("ascii")


def read(content_type: str, body: bytes) -> Iterator[tuple[int, httplib2.Response, memoryview]]:
    """Yield each whole part's number, status and headers, and content, which is not copied."""
    boundary = _BOUNDARY_OF.search(content_type)
    if boundary is None:
        return
    delimiter = b"--" + boundary[1].encode("latin-1", "replace")
    start = 0 if body.startswith(delimiter) else body.find(b"\n" + delimiter) + 1
    # A part without a delimiter after it was cut off.
    while (end := body.find(b"\n" + delimiter, start)) >= 0:
        part = _part(body, start + len(delimiter), end - body.startswith(b"\r", end - 1))
        if part is not None:
            yield part
        start = end + 1


def _part(body: bytes, start: int, end: int) -> tuple[int, httplib2.Response, memoryview] | None:
    # By positions: content may be megabytes.
    head = _BLANK_LINE.search(body, start, end)
    number = head and _NUMBER.search(body, start, head.start())
    status = head and _STATUS.match(body, head.end(), end)
    if not (number and status):
        return None
    # Without content there may be no blank line.
    blank = _BLANK_LINE.search(body, status.end(), end)
    headers_end, content = (blank.start(), blank.end()) if blank else (end, end)
    headers = {}
    for line in body[status.end() : headers_end].decode("latin-1").splitlines():
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > end - content:
        return None
    answer = httplib2.Response(headers | {"status": status[1].decode()})
    answer.reason = status[2].decode("latin-1")
    return int(number[1]), answer, memoryview(body)[content:end]
