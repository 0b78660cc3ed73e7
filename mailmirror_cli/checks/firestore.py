"""Firestore: the database, its indexes and TTL policies, and what the functions may do in it."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from mailmirror_cli import commands, rights
from mailmirror_cli.expected import DATABASE_CONDITION, INDEXES, MIRROR_ROLES, ROLES, TTLS
from mailmirror_cli.google import Absent
from mailmirror_cli.report import Finding, ok, warning, wrong
from mailmirror_cli.site import Check, NotKnown, Site

SUBJECT = "Firestore"
VIEWER = "roles/datastore.viewer"
INDEX_ADMIN = "roles/datastore.indexAdmin"


def checks() -> Iterable[Check]:
    """Return the checks of this subject."""
    yield Check("firestore.database", "database", _database)
    yield Check("firestore.indexes", "indexes", _indexes)
    for collection, field in TTLS:
        yield Check(f"firestore.{collection}-ttl", f"TTL of {collection}", partial(_ttl, collection, field))
    yield Check("firestore.rights", "functions' rights", _rights)


def find_database(site: Site) -> dict[str, Any]:
    """Return the database. Raises `NotKnown` when there is none that is Firestore's."""
    found = _ask(site)
    if found is None or found.get("type") != "FIRESTORE_NATIVE":
        raise NotKnown("there is no Firestore database")
    return found


def _ask(site: Site) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = site.google.get("firestore", f"v1/{site.database}", role=VIEWER)
    except Absent:
        return None
    return found


def _database(site: Site) -> Finding:
    name, found = site.settings.firestore_database, _ask(site)
    if found is None:
        return wrong(f"There is no database {name}.", site.deploy)
    if found.get("type") != "FIRESTORE_NATIVE":
        words = "gcloud", "firestore", "databases", "update", f"--database={name}", f"--project={site.project}"
        return wrong(
            f"The database {name} is in Datastore mode, which can be changed only while it is empty.",
            commands.line(*words, "--type=firestore-native"),
        )
    return ok(f"{name} in {found.get('locationId')}.")


def _indexes(site: Site) -> Finding:
    find_database(site)
    states = {}
    for collection in sorted({index.collection for index in INDEXES}):
        path = f"v1/{site.database}/collectionGroups/{collection}/indexes"
        for row in site.google.listing("firestore", path, "indexes", role=INDEX_ADMIN):
            if row.get("queryScope") == "COLLECTION":
                states[collection, *_shape(row)] = row
    missing, building, broken = [], [], []
    for index in INDEXES:
        told, found = index.told, states.get((index.collection, *index.fields))
        state = found["state"] if found else None
        if found is None:
            missing.append(told)
        elif state == "CREATING":
            building.append(told)
        elif state != "READY":
            broken.append((told, found["name"].rpartition("/")[2]))
    if broken:
        delete = "gcloud", "firestore", "indexes", "composite", "delete"
        where = f"--database={site.settings.firestore_database}", f"--project={site.project}"
        lines = [commands.line(*delete, name, *where) for _, name in broken]
        return wrong(f"Needs repair: {', '.join(told for told, _ in broken)}.", *lines, site.deploy)
    if missing:
        return wrong(f"Missing: {', '.join(missing)}.", site.deploy)
    if building:
        return warning(f"Still being built: {', '.join(building)}.")
    return ok(f"All {len(INDEXES)} are ready.")


def _shape(row: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """The fields of an index; Firestore adds the document's name to those that were asked for."""
    fields = (each for each in row["fields"] if each["fieldPath"] != "__name__")
    return tuple((each["fieldPath"], each.get("order") or each.get("arrayConfig", "")) for each in fields)


def _ttl(collection: str, field: str, site: Site) -> Finding:
    find_database(site)
    path = f"v1/{site.database}/collectionGroups/{collection}/fields/{field}"
    found = site.google.get("firestore", path, role=INDEX_ADMIN)
    state = found.get("ttlConfig", {}).get("state")
    if state == "CREATING":
        return warning(f"The TTL policy of {collection} is still being made.")
    if state != "ACTIVE":
        words = "gcloud", "firestore", "fields", "ttls", "update", field, f"--collection-group={collection}"
        where = f"--database={site.settings.firestore_database}", f"--project={site.project}"
        return wrong(
            f"No TTL policy deletes {collection} by {field}: they are kept for ever.",
            commands.line(*words, "--enable-ttl", *where),
        )
    return ok(f"{collection} are deleted by {field}.")


def _rights(site: Site) -> Finding:
    find_database(site)
    database = rights.project(site, site.database)
    without, lines = [], []
    for entry_point in site.entry_points:
        role, member = MIRROR_ROLES[entry_point.mirror], site.member(entry_point.function)
        if rights.lacking(site, member, ROLES[role], database):
            without.append(entry_point.function)
            mend = rights.custom_role(site, role)
            full = f"projects/{site.project}/roles/{role}"
            only = f'resource.name == "{site.database}"'
            lines.append(mend or rights.conditional(site, member, full, DATABASE_CONDITION, only))
    if without:
        return wrong(f"May not work in the database: {', '.join(without)}.", *dict.fromkeys(lines))
    return ok("The functions may write or read, each what it is for.")
