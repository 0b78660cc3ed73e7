"""Documents as Firestore's REST API writes them.

Knows: how a value is written (`{"integerValue": "7"}`), and the two questions asked about many documents: a query and a
count. Does not know: what the fields mean.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from mailmirror_cli.google import Google

READER = "roles/datastore.viewer"


def values(document: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a document as plain values."""
    return {name: _value(each) for name, each in document.get("fields", {}).items()}


def _value(written: dict[str, Any]) -> Any:
    ((kind, value),) = written.items()
    match kind:
        case "integerValue":
            return int(value)
        case "timestampValue":
            return time(value)
        case "nullValue":
            return None
        case "mapValue":
            return values(value)
        case "arrayValue":
            return [_value(each) for each in value.get("values", ())]
    return value


def time(text: str) -> datetime:
    """Return a time as Google's APIs write it."""
    return datetime.fromisoformat(text)


def get(google: Google, database: str, *path: str) -> dict[str, Any]:
    """Return a document.

    Args:
        database: full name of the database.
        path: collection and id.
    """
    found: dict[str, Any] = google.get(
        "firestore", f"v1/{database}/documents/{'/'.join(quote(part, safe='') for part in path)}", role=READER
    )
    return found


def query(
    google: Google,
    database: str,
    collection: str,
    fields: Sequence[str],
    *,
    where: tuple[str, str, str | datetime] | None = None,
    by: str | None = None,
    limit: int,
) -> list[dict[str, Any]]:
    """Return documents of a collection, at the top of the database, with these fields alone.

    Args:
        where: a field, an operator such as `LESS_THAN`, and a value.
        by: what they are sorted by, the least first.
        limit: how many at most; each is billed as a read.
    """
    asked: dict[str, Any] = {
        "from": [{"collectionId": collection}],
        "select": {"fields": [{"fieldPath": field} for field in fields]},
        "limit": limit,
    }
    if where is not None:
        field, operator, value = where
        written = {"timestampValue": value.isoformat()} if isinstance(value, datetime) else {"stringValue": value}
        asked["where"] = {"fieldFilter": {"field": {"fieldPath": field}, "op": operator, "value": written}}
    if by is not None:
        asked["orderBy"] = [{"field": {"fieldPath": by}, "direction": "ASCENDING"}]
    rows = google.post("firestore", f"v1/{database}/documents:runQuery", {"structuredQuery": asked}, role=READER)
    return [row["document"] for row in rows if "document" in row]


def count(google: Google, database: str, collection: str) -> int:
    """Return how many documents a collection at the top of the database has."""
    asked = {
        "structuredAggregationQuery": {
            "structuredQuery": {"from": [{"collectionId": collection}]},
            "aggregations": [{"alias": "all", "count": {}}],
        }
    }
    rows = google.post("firestore", f"v1/{database}/documents:runAggregationQuery", asked, role=READER)
    return int(rows[0]["result"]["aggregateFields"]["all"]["integerValue"])
