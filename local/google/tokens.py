"""Whom an access token is good for, asked over HTTP: how the fake Gmail's process knows its callers.

Knows: `/tokeninfo` of `oauth`. Does not know: what a token is asked for.
"""

from __future__ import annotations

from collections.abc import Callable

import requests


def told_by(url: str) -> Callable[[str], str | None]:
    """Return what asks the process at `url`; None is told of a token that is not good, or not any more."""

    def whose(access_token: str) -> str | None:
        with requests.Session() as session:
            # What is on this machine is not behind its proxy.
            session.trust_env = False
            answer = session.get(f"{url}/tokeninfo", params={"access_token": access_token}, timeout=30)
        if answer.status_code != 200:
            return None
        address: str = answer.json()["email"]
        return address

    return whose
