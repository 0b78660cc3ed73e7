"""README says what is so: what it names is compared with the code, with Terraform's files and with what is counted."""

import dataclasses
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from mailmirror import config, documents, model
from mailmirror.adapters.firestore import FirestoreStore

from tests import source
from tests.contract.counting import CountingFirestore
from tests.contract.worker import firestore_client
from tests.world import ADA, World, mail

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
TERRAFORM = {file.stem: file.read_text() for file in (ROOT / "terraform").glob("*.tf")}


def section(title: str) -> str:
    """Return the text below a heading, up to the next one."""
    found = re.search(rf"^###? {re.escape(title)}\n(.*?)(?=^##|\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found.group(1)


def table(title: str) -> list[list[str]]:
    """Return the cells of a section's table, without its head."""
    rows = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def test_the_quick_start_is_two_commands() -> None:
    """A newcomer is asked for `make demo` and `make test`, and nothing else."""
    first = re.search(r"```sh\n(.*?)```", README, re.DOTALL)
    assert first is not None
    assert first.group(1).split("\n")[:-1] == ["make demo", "make test"]


def test_every_make_target_named_exists() -> None:
    """Each `make` command is a target of the Makefile, and each target is named."""
    named = set(re.findall(r"`make ([a-z]+)", README)) | set(re.findall(r"^make ([a-z]+)", README, re.MULTILINE))
    assert named <= source.make_targets()
    assert source.make_targets() - named <= {"clean"}


def test_every_make_variable_named_exists() -> None:
    """The variables passed to make are those its recipes read."""
    makefile = (ROOT / "Makefile").read_text()
    for given in re.findall(r"make [a-z]+((?: [A-Z]+=\S+)+)", README):
        for variable in re.findall(r"([A-Z]+)=", given):
            assert f"$({variable})" in makefile or f"$({variable}" in makefile, variable


def tree() -> list[str]:
    """Return the paths of the project structure."""
    block = re.search(r"```text\n(.*?)```", section("Project structure"), re.DOTALL)
    assert block is not None
    paths, parents = [], [""]
    for line in block.group(1).splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        del parents[depth + 1 :]
        paths.append(parents[depth] + name)
        if name.endswith("/"):
            parents.append(parents[depth] + name)
    return paths


def test_the_tree_is_the_tree() -> None:
    """Each path of the structure exists, and each module of the functions, of local and of terraform is in it."""
    named = tree()
    for path in named:
        assert (ROOT / path).exists(), path
    for folder, kind in (("functions/mailmirror", "py"), ("local", "py"), ("terraform", "tf")):
        files = (file.name for file in (ROOT / folder).glob(f"*.{kind}") if not file.name.startswith("__"))
        assert {f"{folder}/{name}" for name in files if name != "backend.tf"} - set(named) == set()


def test_every_variable_is_documented() -> None:
    """The configuration table has exactly the variables that the code reads, with the code's defaults."""
    rows = {row[0].strip("`"): row[1].strip("`") for row in table("Configuration")}
    assert rows.keys() == source.variables().keys()
    for name, default in source.variables().items():
        assert default is None or rows[name] == (default or "none"), name
    assert rows["GMAIL_SCOPES"] == config.READONLY_SCOPE


@pytest.mark.parametrize("collection", ["messages", "threads", "labels", "deltas"])
def test_every_field_an_application_reads_is_documented(collection: str) -> None:
    """The fields README lists for a collection are those of a document that a sync wrote."""
    world = World()
    world.ada.deliver(mail())
    world.connect()
    document = next(iter(world.documents(collection).values()))
    (row,) = [row for row in table("What an application reads in Firestore") if f"/{collection}/" in row[0]]
    for field in document:
        assert re.search(rf"\b{field}\b", row[1]), field


@pytest.mark.parametrize(("collection", "value"), [("parked", model.Parked), ("mailboxes/{m}/runs", model.Run)])
def test_the_fields_named_for_parked_and_runs_exist(collection: str, value: Any) -> None:
    """What README names in these rows is a field of the value that is stored."""
    (row,) = [row for row in table("What an application reads in Firestore") if f"{collection}/" in row[0]]
    listed = re.findall(r"`([^`]*)`", row[1])[-1].split()
    assert set(listed) <= {documents.field_name(field.name) for field in dataclasses.fields(value)}


def test_the_phases_named_are_phases() -> None:
    """Each phase README lists for a mailbox is one of the model's."""
    (row,) = [row for row in table("What an application reads in Firestore") if row[0] == "`mailboxes/{m}`"]
    named = set(re.findall(r"`([a-z_]+)`", row[1].split("(")[1].split(")")[0]))
    assert named <= set(model.Phase.__args__)  # type: ignore[attr-defined]


def test_the_routes_are_the_routes() -> None:
    """Each route of the HTTP table is in the code, and the other way round."""
    coded = {(each.method, each.path.replace("([^/]+)", "{m}"), each.entry_point) for each in source.routes()}
    named = set()
    for row in table("HTTP"):
        method, path = row[0].strip("`").split(" ")
        named.add((method, path.split("?")[0], row[1].strip("`")))
    assert named == coded


def test_every_file_named_exists() -> None:
    """Each link and each path of a file that README names leads somewhere, but for what a deployment makes."""
    made = {f"terraform/{name}" for name in ("terraform.tfvars", "terraform.tfstate", "backend.tf")}
    named = set(re.findall(r"\]\((?!https?:|#)([^)]+)\)", README))
    named |= set(re.findall(r"`((?:terraform|functions|local|tests)/[\w./-]+|\w[\w.]*\.yaml)`", README))
    for path in named - made:
        assert (ROOT / path).exists(), path
    anchors = {re.sub(r"\W+", "-", title.lower()) for title in re.findall(r"^##+ (.*)$", README, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors


def test_every_terraform_output_named_exists() -> None:
    """What `terraform output` is asked for is an output of that folder."""
    commands = re.findall(r"terraform -chdir=(\S+) output (?:-raw )?([a-z_]+)", README)
    assert commands
    named = [*commands, *(("terraform", name) for name in re.findall(r"`([a-z_]+_uri)`", README))]
    for folder, name in named:
        assert f'output "{name}"' in (ROOT / folder / "outputs.tf").read_text(), name


def test_every_input_named_exists() -> None:
    """What the example sets, what the options name and what is set in passing are variables of Terraform."""
    (example,) = re.findall(r"```hcl\n(.*?)```", README, re.DOTALL)
    named = set(re.findall(r"^ *(\w+) +=", example, re.MULTILINE)) | set(re.findall(r"`([a-z_]+) = \w+`", README))
    for row in table("Options"):
        named |= set(re.findall(r"`([a-z]+_[a-z_]+)", row[1]))
    assert {"admins", "delete_protection", "body_bucket"} <= named
    assert named <= set(re.findall(r'^variable "(\w+)"', TERRAFORM["variables"], re.MULTILINE))


def test_the_names_in_google_cloud_are_terraforms() -> None:
    """Accounts, secrets and topics that README names are those that Terraform gives."""
    accounts = set(re.findall(r'account_id += "(mailmirror-[a-z]+)"', TERRAFORM["iam"]))
    accounts |= {f"mailmirror-{name.replace('_', '-')}" for name in source.entry_points()}
    rows = table("Who may do what")
    assert {name for row in rows for name in re.findall(r"`(mailmirror-[a-z-]+)`", row[0])} == accounts
    others = {name for row in rows for name in re.findall(r"`([a-z]+(?:-[a-z]+)+-?)…?`", row[2])} - accounts
    others |= set(re.findall(r"secrets versions add (\S+)", README))
    topics = {"gmail-notifications", "mailbox-work", "mailbox-deltas"}
    assert topics | {"mailmirror-oauth-client", "mailmirror-token-"} == others
    for name in others:
        assert f'"{name}"' in "\n".join(TERRAFORM.values()), name


def test_the_alerts_are_the_alerts() -> None:
    """The table names every alert, each with its runbook, which exists; and says how many are paid for."""
    named = [re.findall(r"\[(.+)\]\(terraform/runbooks/(.+)\.md\)", row[0]) for row in table("Alerts")]
    assert all(len(each) == 1 and each[0][0] == each[0][1] for each in named)
    alerts = {each[0][0] for each in named}
    assert alerts == {file.stem for file in (ROOT / "terraform/runbooks").glob("*.md")}
    assert f"{len(alerts)} alert policies" in section("Cost")


def test_the_log_events_are_the_log_events() -> None:
    """The table has every event that the code logs, with its level and its fields, and no other."""
    rows = {row[0].strip("`"): (row[1], frozenset(row[2].strip("`").split())) for row in table("Log events")}
    found = {event.name: (event.level or rows[event.name][0], event.fields) for event in source.events()}
    assert rows == found


def figures(title: str, beginning: str) -> list[int]:
    """Return the numbers of the row of a table that begins so."""
    (row,) = [row for row in table(title) if row[0].startswith(beginning)]
    return [int(number.replace(",", "")) for number in re.findall(r"\b[0-9][0-9,]*", " ".join(row[1:]))]


def test_the_costs_are_what_is_counted(firestore_emulator: str) -> None:
    """Documents read and written and quota units of the cost table are those counted on Google's Firestore emulator."""
    with firestore_client(firestore_emulator, f"readme-{uuid.uuid4().hex[:12]}") as client:
        world = World(store=FirestoreStore(client))
        counting = CountingFirestore(client)

        def paid() -> list[int]:
            figures = [counting.reads, counting.writes, world.accounts.spent]
            counting.reset()
            world.accounts.spent = 0
            return figures

        for number in range(1000):
            world.ada.deliver(mail(f"Number {number}"))
        world.connect()
        assert paid() == figures("Cost", "first sync of 1,000")
        world.app.trigger_sync(ADA, "audit", 300)
        assert paid() == figures("Cost", "audit of 1,000")
        message = world.ada.deliver(mail("New"))
        world.notify()
        assert paid() == figures("Cost", "a new message")
        world.ada.modify([message], ["STARRED"])
        world.notify()
        assert paid() == figures("Cost", "a change of labels")
        world.notify()
        assert paid() == figures("Cost", "the same")
        world.app.sweep_mailboxes()
        assert paid() == figures("Cost", "a sweep")
        world.sweep()
        look = paid()
        assert look == figures("Cost", "a quiet mailbox is")
        world.clock.advance(24 * 3600)
        world.app.renew_watches()
        world.work()
        renewal = paid()
        assert renewal == figures("Cost", "its watch")
    looks = figures("Cost", "a quiet mailbox, a day")[0]
    assert looks == 24 * 60 / 15
    day = [looks * once + daily for once, daily in zip(look, renewal, strict=True)]
    assert figures("Cost", "a quiet mailbox, a day")[1:4] == day

    def dollars(reads: float, writes: float, deletions: float = 0) -> str:
        return f"{(reads * 0.06 + writes * 0.18 + deletions * 0.02) / 100_000:.2g}"

    told = [row[2].split()[0] for row in table("Cost") if len(row) == 3 and row[2].startswith("0.")]
    new, first = figures("Cost", "a new message"), figures("Cost", "first sync of 1,000")
    assert told == [
        dollars(30 * day[0], 30 * day[1]),
        dollars(1_000 * new[0], 1_000 * new[1], 1_000),
        dollars(100 * first[0], 100 * first[1]),
    ]
