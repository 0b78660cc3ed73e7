"""Cloud Scheduler's stand-in: calls URLs by POST, each every so many seconds.

Knows: when to call and that a call that fails is logged and made again next time. Does not know: what the URLs do.
A call that takes longer than its interval delays the next one, so that no two calls of one job overlap.
"""

import argparse
import json
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime

_DEADLINE_SECONDS = 60


def call(url: str) -> int | None:
    """POST once and return the status, or None when nobody answered."""
    request = urllib.request.Request(url, data=b"{}", headers={"Content-Type": "application/json"}, method="POST")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=_DEADLINE_SECONDS) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return None


def repeat(url: str, seconds: float, ended: threading.Event) -> None:
    """Call `url` every `seconds` until `ended`; one line of JSON for each call that did not succeed."""
    while not ended.wait(seconds):
        status = call(url)
        if status is None or status >= 300:
            line = {"event": "scheduled_call_failed", "url": url, "status": status, "at": datetime.now(UTC).isoformat()}
            print(json.dumps(line), flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m local.scheduler", description="Calls URLs again and again.")
    parser.add_argument("--every", nargs=2, action="append", required=True, metavar=("SECONDS", "URL"))
    ended = threading.Event()
    jobs = [
        threading.Thread(target=repeat, args=(url, float(seconds), ended), daemon=True)
        for seconds, url in parser.parse_args().every
    ]
    for job in jobs:
        job.start()
    print(json.dumps({"event": "scheduler_started", "jobs": len(jobs)}), flush=True)
    try:
        ended.wait()
    except KeyboardInterrupt:
        ended.set()


if __name__ == "__main__":
    main()
