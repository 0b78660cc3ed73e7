"""The configuration under Terraform itself: in shape, valid, tested, and the same when it is applied again."""

import os
from pathlib import Path

import pytest

from tests.conftest import Require
from tests.terraform.configuration import ROOT, Configuration
from tests.terraform.conftest import VARIANTS, Initialise
from tests.terraform.tables import Block, blocks, text

TERRAFORM = ROOT / "terraform"
CONFIGURATIONS = sorted(str(file.parent.relative_to(ROOT)) for file in TERRAFORM.rglob("versions.tf"))
TESTS = sorted(file.name for file in (TERRAFORM / "tests").glob("*.tftest.hcl"))

# Terraform's registry may be slow the first time.
pytestmark = pytest.mark.timeout(600)


def test_the_configuration_is_in_shape(configuration: Configuration) -> None:
    """`terraform fmt` would change nothing, in any folder."""
    assert configuration.run("fmt", "-check", "-recursive", "-diff", accept=(0, 3)).stdout == ""


@pytest.mark.parametrize("which", CONFIGURATIONS)
def test_the_configuration_is_valid(initialise: Initialise, which: str) -> None:
    """Terraform has neither an error nor a warning to tell of any configuration there is."""
    told = initialise(which).run("validate", "-no-color", accept=(0, 1))
    assert told.stdout.strip() == "Success! The configuration is valid.", told.stdout + told.stderr


@pytest.mark.parametrize("file", TESTS)
def test_the_configuration_passes_its_own_tests(configuration: Configuration, file: str) -> None:
    """`terraform test` passes with every provider mocked."""
    done = configuration.run("test", f"-filter=tests/{file}", "-no-color", accept=(0, 1))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_validation_refuses_something() -> None:
    """Each variable with a validation is given a wrong value by `terraform test`, which expects it to be refused."""
    refused: set[str] = set()
    for run in blocks(TERRAFORM / "tests" / "variables.tftest.hcl", "run").values():
        expected = {each.strip("${}").removeprefix("var.") for each in run.get("expect_failures", [])}
        assert expected <= run["variables"][0].keys()
        refused |= expected
    declared = blocks(TERRAFORM / "variables.tf", "variable")
    assert refused == {name for name, variable in declared.items() if "validation" in variable}


@pytest.mark.parametrize("file", sorted(TERRAFORM.glob("*.tf")), ids=lambda file: file.name)
def test_every_variable_and_output_says_what_it_is(file: Path) -> None:
    """Variables have a type and a description, outputs a description: one that is a sentence."""
    variables, outputs = blocks(file, "variable"), blocks(file, "output")
    for name, block in {**variables, **outputs}.items():
        assert _is_sentence(block), name
    for name, variable in variables.items():
        assert "type" in variable, name


def _is_sentence(block: Block) -> bool:
    description = text(block.get("description", '""'))
    return description[:1].isupper() and description.endswith(".")


@pytest.mark.applies
@pytest.mark.parametrize(("variant", "functions"), [("oauth", 7), ("public", 8), ("everything", 7)])
def test_what_is_applied_stays_and_can_be_destroyed(
    configuration: Configuration, require: Require, variant: str, functions: int
) -> None:
    """A second plan right after apply is empty, and destroy leaves nothing in the state."""
    require(
        "TF_REATTACH_PROVIDERS" in os.environ,
        "Stand-ins for the providers are needed, attached by TF_REATTACH_PROVIDERS: the real ones would call Google.",
    )
    copy = configuration.copy(f"applied-{variant}")
    values = copy.variables(**VARIANTS[variant])
    copy.run("apply", "-auto-approve", "-input=false", "-no-color", values)
    assert copy.run("state", "list").stdout.count("google_cloudfunctions2_function.function") == functions
    again = copy.run("plan", "-detailed-exitcode", "-input=false", "-no-color", values, accept=(0, 2))
    assert again.returncode == 0, again.stdout
    copy.run("destroy", "-auto-approve", "-input=false", "-no-color", values)
    assert copy.run("state", "list").stdout == ""
