"""Command lines to paste: what mends a finding.

Knows: how a word is quoted for a shell and the lines that several checks end with. Does not know: when they are needed.
What terraform/ would make is made by `make deploy` alone: made by hand it would be in no state, and the next apply
refused.
"""

import shlex


def line(*words: str) -> str:
    """Return words as one command line; of a flag only the value is quoted, as people do."""
    return " ".join(_quoted(word) for word in words)


def deploy(project: str, region: str | None) -> str:
    """Return the line that makes a deployment what terraform/ says. Without a region it asks for one."""
    return f"make deploy PROJECT={shlex.quote(project)} REGION={shlex.quote(region) if region else ''}"


def grant(project: str, member: str | None, role: str) -> str:
    """Return the line that gives somebody a role in the project.

    Args:
        member: such as `user:ada@example.com`; None: whoever is signed in to gcloud.
    """
    words = line("gcloud", "projects", "add-iam-policy-binding", project, f"--role={role}", "--condition=None")
    return f"{words} {member_flag(member)}"


def member_flag(member: str | None) -> str:
    """Return the flag that names a member, or whoever is signed in to gcloud."""
    if member is None:
        return '--member="user:$(gcloud config get-value account)"'
    return line(f"--member={member}")


def _quoted(word: str) -> str:
    flag, equals, value = word.partition("=")
    return f"{flag}={shlex.quote(value)}" if equals and flag.startswith("--") else shlex.quote(word)
