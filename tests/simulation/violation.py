"""What a judge says when something is wrong.

Knows: how a sentence becomes a failure, and how people call a worker. Does not know: what is right.
"""


class Violation(Exception):
    """The mirror, or what a worker did, is wrong; the text says how."""


def who(task: object) -> str:
    """Return what a worker is called in a sentence."""
    name = getattr(task, "name", None)
    return str(task) if name is None else f"{name} #{getattr(task, 'number', '')}"
