"""Gmail's errors, as they look on the wire.

    ApiError            an answer in Google's error model: HTTP status, reason, message
    ConnectionDropped   no answer: the connection breaks
    Silence             no answer: nothing comes until the caller gives up

It knows the shapes practitioners recorded, and builds each by name. It does not decide when one is due: mailbox
semantics, quota and faults do.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

_STATUS_TEXT = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

# What each status says when nothing more precise is known: (reason, message).
_BY_STATUS = {
    400: ("badRequest", "Bad Request"),
    401: ("authError", "Invalid Credentials"),
    403: ("forbidden", "The caller does not have permission"),
    404: ("notFound", "Requested entity was not found."),
    409: ("aborted", "The operation was aborted."),
    412: ("conditionNotMet", "Precondition Failed"),
    429: ("rateLimitExceeded", "Resource has been exhausted (e.g. check quota)."),
    500: ("backendError", "Internal error encountered."),
    501: ("notImplemented", "Not Implemented"),
    502: ("backendError", "Bad Gateway"),
    503: ("backendError", "The service is currently unavailable."),
    504: ("backendError", "The request timed out."),
}

# Several 403s and 400s differ by reason only: (domain, message).
_BY_REASON = {
    (403, "rateLimitExceeded"): ("usageLimits", "Rate Limit Exceeded"),
    (403, "userRateLimitExceeded"): ("usageLimits", "User Rate Limit Exceeded"),
    (403, "dailyLimitExceeded"): ("usageLimits", "Daily Limit Exceeded"),
    (403, "domainPolicy"): ("global", "The domain administrators have disabled Gmail apps."),
    (403, "insufficientPermissions"): ("global", "Request had insufficient authentication scopes."),
    (400, "failedPrecondition"): ("global", "Precondition check failed."),
    (400, "invalidArgument"): ("global", "Request contains an invalid argument."),
}


class ApiError(Exception):
    """An answer of Gmail that is not a success."""

    def __init__(
        self, status: int, reason: str, message: str, domain: str = "global", status_text: str | None = None
    ) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.domain = domain
        self.status_text = status_text or _STATUS_TEXT.get(status, "UNKNOWN")

    def body(self) -> dict[str, Any]:
        """Google's error model, with the `errors` list that Gmail still fills."""
        detail: dict[str, Any] = {"message": self.message, "domain": self.domain, "reason": self.reason}
        if self.status == 401:
            detail |= {"location": "Authorization", "locationType": "header"}
        return {"error": {"code": self.status, "message": self.message, "errors": [detail], "status": self.status_text}}


class ConnectionDropped(ConnectionError):
    """The connection broke; `done` says whether the work was done before."""

    def __init__(self, *, done: bool) -> None:
        super().__init__("connection dropped " + ("after" if done else "before") + " the work was done")
        self.done = done


class Silence(TimeoutError):
    """Nothing was answered for `seconds`, and nothing was done."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:g} s")
        self.seconds = seconds


def of_status(status: int, reason: str | None = None) -> ApiError:
    """The usual error of an HTTP status, or of one of its reasons."""
    usual_reason, usual_message = _BY_STATUS.get(status, ("unknown", f"HTTP status {status}"))
    if reason is None:
        return queries_exceeded() if status == 403 else ApiError(status, usual_reason, usual_message)
    domain, message = _BY_REASON.get((status, reason), ("global", usual_message))
    text = "FAILED_PRECONDITION" if reason == "failedPrecondition" else None
    return ApiError(status, reason, message, domain, text)


def not_found() -> ApiError:
    """One body for a stale cursor and for a message that is gone: only the endpoint tells them apart."""
    return of_status(404)


def invalid_argument(message: str) -> ApiError:
    """The caller sent something that can never work."""
    return ApiError(400, "invalidArgument", message)


def mail_service_not_enabled() -> ApiError:
    """There is no mailbox of that address."""
    return ApiError(400, "failedPrecondition", "Mail service not enabled", status_text="FAILED_PRECONDITION")


def queries_exceeded() -> ApiError:
    """The per-minute quota as it is really seen: 403, and not the documented userRateLimitExceeded."""
    message = (
        "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute per user' "
        "of service 'gmail.googleapis.com' for consumer 'project_number:1'."
    )
    return ApiError(403, "rateLimitExceeded", message, "usageLimits")


def resource_exhausted() -> ApiError:
    """A burst."""
    return of_status(429)


def too_many_concurrent() -> ApiError:
    """More calls at a time than the unpublished limit of a user."""
    return ApiError(429, "rateLimitExceeded", "Too many concurrent requests for user")


def retry_after(moment: datetime) -> ApiError:
    """A punished user: the time is in the message text only, never in a header."""
    stamp = moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return ApiError(429, "rateLimitExceeded", f"User-rate limit exceeded.  Retry after {stamp}", "usageLimits")
