"""The control API: the hands of the user, and of whoever breaks things on purpose.

It knows JSON over HTTP under /control, and answers bad input with 400 and a sentence. It does not know Gmail's API:
nothing here exists at Google, and nothing here is charged.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, jsonify, request

from local.gmail.control_input import BadInput, Input, Unknown, read_delivery
from local.gmail.errors import ApiError
from local.gmail.labels import Color
from local.gmail.mailbox import Mailbox
from local.gmail.notifications import Notifier
from local.gmail.quota import SHAPES
from local.gmail.world import World

_LONGEST_WAIT = 3600.0
_MOST_UNITS = 10**9


def control_blueprint(world: World, notifier: Notifier | None) -> Blueprint:
    """All routes under /control."""
    blueprint = Blueprint("control", __name__, url_prefix="/control")
    _add_errors(blueprint)
    _add_mailboxes(blueprint, world)
    _add_acts(blueprint, world)
    _add_world(blueprint, world)
    _add_notifications(blueprint, notifier)
    return blueprint


def _add_errors(blueprint: Blueprint) -> None:
    @blueprint.errorhandler(ValueError)
    def bad_input(error: ValueError) -> tuple[Response, int]:
        return jsonify(ApiError(400, "badRequest", str(error)).body()), 400

    @blueprint.errorhandler(Unknown)
    def unknown(error: Unknown) -> tuple[Response, int]:
        return jsonify(ApiError(404, "notFound", str(error)).body()), 404


def _add_mailboxes(blueprint: Blueprint, world: World) -> None:
    @blueprint.post("/mailboxes")
    def create() -> dict[str, Any]:
        body = Input.of_request(request, "emailAddress")
        address = body.text("emailAddress")
        if "@" not in address or "/" in address:
            raise BadInput(f"{address!r} is no mail address.")
        return _summary(world, world.add(address))

    @blueprint.get("/mailboxes")
    def every() -> dict[str, Any]:
        return {"mailboxes": [_summary(world, mailbox) for mailbox in world.mailboxes()]}

    @blueprint.get("/mailboxes/<address>/state")
    def state(address: str) -> dict[str, Any]:
        mailbox = _mailbox(world, address)
        with world.lock(mailbox):
            return mailbox.truth()

    @blueprint.post("/mailboxes/<address>/revoke")
    def revoke(address: str) -> dict[str, Any]:
        world.revoke(_mailbox(world, address))
        return {}

    @blueprint.post("/mailboxes/<address>/restore")
    def restore(address: str) -> dict[str, Any]:
        world.restore(_mailbox(world, address))
        return {}


def _add_acts(blueprint: Blueprint, world: World) -> None:
    """What a user does to one mailbox: `POST /mailboxes/<address>/<act>`."""

    @blueprint.post("/mailboxes/<address>/<act>")
    def perform_act(address: str, act: str) -> dict[str, Any]:
        mailbox = _mailbox(world, address)
        if act not in _ACTS:
            raise Unknown(f"There is no act {act}; there are {', '.join(_ACTS)}.")
        fields, perform = _ACTS[act]
        body = Input.of_request(request, *fields)
        with world.lock(mailbox):
            return perform(mailbox, body) or {}


def _add_world(blueprint: Blueprint, world: World) -> None:
    @blueprint.post("/quota")
    def quota() -> dict[str, Any]:
        fields = ("unitsPerMinute", "prices", "shape", "concurrent", "punishAfter", "punishSeconds")
        body = Input.of_request(request, *fields)
        shape = body.text("shape", world.quota.shape)
        if shape not in SHAPES:
            raise BadInput(f"shape must be one of {', '.join(SHAPES)}.")
        units = body.whole("unitsPerMinute", world.quota.units_per_minute, 0, _MOST_UNITS)
        concurrent = body.whole("concurrent", world.quota.concurrent, 1, 10_000)
        punish_after = body.whole("punishAfter", world.quota.punish_after, 1, 10_000)
        punish_seconds = body.number("punishSeconds", world.quota.punish_seconds, 0, 86_400)
        if body.has("prices"):
            world.quota.set_prices(body.text("prices"))
        world.quota.units_per_minute, world.quota.shape, world.quota.concurrent = units, shape, concurrent
        world.quota.punish_after, world.quota.punish_seconds = punish_after, punish_seconds
        return {
            "unitsPerMinute": units,
            "prices": dict(world.quota.prices),
            "shape": shape,
            "concurrent": concurrent,
            "punishAfter": punish_after,
            "punishSeconds": punish_seconds,
        }

    @blueprint.get("/account")
    def account() -> dict[str, Any]:
        return world.quota.account()

    @blueprint.post("/latency")
    def latency() -> dict[str, Any]:
        world.latency = Input.of_request(request, "seconds").number("seconds", None, 0, _LONGEST_WAIT)
        return {"seconds": world.latency}

    @blueprint.post("/lag")
    def lag() -> dict[str, Any]:
        body = Input.of_request(request, "history", "get")
        history, get = (body.number(name, 0.0, 0, _LONGEST_WAIT) for name in ("history", "get"))
        world.set_lag(timedelta(seconds=history), timedelta(seconds=get))
        return {"history": history, "get": get}

    @blueprint.post("/faults")
    def add_faults() -> dict[str, Any]:
        world.faults.add(Input.of_request(request).fields)
        return world.faults.account()

    @blueprint.get("/faults")
    def faults() -> dict[str, Any]:
        return world.faults.account()

    @blueprint.delete("/faults")
    def clear_faults() -> dict[str, Any]:
        world.faults.clear()
        return {}


def _add_notifications(blueprint: Blueprint, notifier: Notifier | None) -> None:
    def existing() -> Notifier:
        if notifier is None:
            raise Unknown("This fake Gmail publishes no notifications: it was made without a notifier.")
        return notifier

    @blueprint.post("/notifications")
    def turn_knobs() -> dict[str, Any]:
        target = existing()
        body = Input.of_request(request, "lose", "duplicate", "shuffle", "coalesceSeconds", "off")
        changes: dict[str, Any] = {
            argument: body.number(name, None, 0, largest)
            for name, argument, largest in (
                ("lose", "lose", 1.0),
                ("duplicate", "duplicate", 1.0),
                ("shuffle", "shuffle", _LONGEST_WAIT),
                ("coalesceSeconds", "coalesce_seconds", _LONGEST_WAIT),
            )
            if body.has(name)
        }
        if body.has("off"):
            changes["off"] = body.flag("off")
        target.configure(changes)
        return target.account()

    @blueprint.get("/notifications")
    def notifications() -> dict[str, Any]:
        return existing().account()


def _mailbox(world: World, address: str) -> Mailbox:
    mailbox = world.find(address)
    if mailbox is None:
        raise Unknown(f"There is no mailbox {address}: create it with POST /control/mailboxes.")
    return mailbox


def _summary(world: World, mailbox: Mailbox) -> dict[str, Any]:
    with world.lock(mailbox):
        watch = mailbox.active_watch()
        profile = mailbox.get_profile()
    shown = None if watch is None else {"topicName": watch.topic, "expiresAt": watch.expires_at.isoformat()}
    return profile | {"revoked": world.is_revoked(mailbox), "watch": shown}


def _deliver(mailbox: Mailbox, body: Input) -> dict[str, Any]:
    deliveries = [read_delivery(item) for item in body.objects("messages")]
    # All are checked before the first is delivered: a wrong one changes nothing.
    for delivery in deliveries:
        mailbox.check_delivery(delivery.thread_id, delivery.label_ids)
    return {
        "ids": [
            mailbox.deliver(
                delivery.raw,
                thread_id=delivery.thread_id,
                label_ids=delivery.label_ids,
                internal_date=delivery.internal_date,
            )
            for delivery in deliveries
        ]
    }


def _modify(mailbox: Mailbox, body: Input) -> None:
    mailbox.modify(body.texts("ids"), body.texts("add", ()), body.texts("remove", ()))


def _trash(mailbox: Mailbox, body: Input) -> None:
    for message_id in body.texts("ids"):
        mailbox.trash(message_id)


def _untrash(mailbox: Mailbox, body: Input) -> None:
    for message_id in body.texts("ids"):
        mailbox.untrash(message_id)


def _expire_history(mailbox: Mailbox, body: Input) -> None:
    mailbox.expire_history(body.whole("before", None, 1, 2**63))


def _quirks(mailbox: Mailbox, body: Input) -> dict[str, Any]:
    mailbox.empty_page_chance = body.number("emptyPageChance", mailbox.empty_page_chance, 0, 1)
    mailbox.split_chance = body.number("splitChance", mailbox.split_chance, 0, 1)
    mailbox.inline_bytes = body.whole("inlineBytes", mailbox.inline_bytes, 0, 2**40)
    if body.has("listsColors"):
        mailbox.lists_colors = body.flag("listsColors")
    return {
        "emptyPageChance": mailbox.empty_page_chance,
        "splitChance": mailbox.split_chance,
        "inlineBytes": mailbox.inline_bytes,
        "listsColors": mailbox.lists_colors,
    }


def _label(mailbox: Mailbox, body: Input) -> dict[str, Any]:
    name, color = body.text("name"), body.object("color")
    if color is not None:
        # Before there is a label: what is wrong changes nothing.
        Color.parse(color)
    label_id = mailbox.ensure_label(name)
    if color is not None:
        mailbox.recolor_label(label_id, color)
    return {"id": label_id}


_Act = Callable[[Mailbox, Input], dict[str, Any] | None]

# act: (the fields it takes, what it does)
_ACTS: dict[str, tuple[tuple[str, ...], _Act]] = {
    "deliver": (("messages",), _deliver),
    "modify": (("ids", "add", "remove"), _modify),
    "trash": (("ids",), _trash),
    "untrash": (("ids",), _untrash),
    "delete": (("ids",), lambda mailbox, body: mailbox.delete(body.texts("ids"))),
    "draft": (
        ("raw", "id"),
        lambda mailbox, body: {"id": mailbox.save_draft(body.raw("raw"), body.optional_text("id"))},
    ),
    "send": (("id",), lambda mailbox, body: {"id": mailbox.send_draft(body.text("id"))}),
    "labels": (("name", "color"), _label),
    "rename-label": (("id", "name"), lambda mailbox, body: mailbox.rename_label(body.text("id"), body.text("name"))),
    "recolor-label": (
        ("id", "color"),
        lambda mailbox, body: mailbox.recolor_label(body.text("id"), body.object("color")),
    ),
    "delete-label": (("id",), lambda mailbox, body: mailbox.delete_label(body.text("id"))),
    "merge": (("into", "other"), lambda mailbox, body: mailbox.merge_threads(body.text("into"), body.text("other"))),
    "expire-history": (("before",), _expire_history),
    "expire-page-tokens": ((), lambda mailbox, _body: mailbox.expire_page_tokens()),
    "quirks": (("emptyPageChance", "splitChance", "inlineBytes", "listsColors"), _quirks),
}
