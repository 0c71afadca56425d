"""What users and machines rely on: verbs, exit codes, pins, quiet."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flows.environment import QUIET
from flows.verbs import VERBS, markdown
from posttrain import errors
from posttrain.methods import methods_table
from tasks.workspace.keys import DECLARATIONS

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = sorted(set(re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, flags=re.MULTILINE)))
PINS = dict(line.split(" ;")[0].split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)


def dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]


@pytest.mark.parametrize("target", TARGETS)
def test_every_make_target_says_what_it_does(target):
    assert target in VERBS and VERBS[target].does, f"give {target} its line in flows/verbs.py"


def test_the_page_of_verbs_has_their_table():
    shown = "`python -m flows.verbs markdown` prints it"
    page = (ROOT / "docs" / "verbs.md").read_text(encoding="utf-8")
    assert markdown() in page, f"docs/verbs.md must hold the table of flows/verbs.py as it is: {shown}"


def test_every_make_target_is_phony():
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE).group(1).split()
    assert sorted(phony) == TARGETS, "a target that is no file belongs in .PHONY, and nothing else does"


@pytest.mark.parametrize("dependency", dependencies())
def test_every_dependency_is_pinned(dependency):
    needed = Requirement(dependency)
    pins = {canonicalize_name(name): version for name, version in PINS.items()}
    pinned = pins.get(canonicalize_name(needed.name))
    assert pinned, f"constraints.txt does not pin {needed.name}: make lock"
    assert needed.specifier.contains(pinned), (
        f"constraints.txt pins {needed.name} {pinned}, pyproject.toml wants {needed.specifier}"
    )


def test_exit_codes():
    codes = {kind.__name__: kind.exit_code for kind in errors.PosttrainError.__subclasses__()}
    assert codes == {"RequestError": 2, "DataError": 2, "StorageError": 2, "ContractError": 3}
    assert len(codes) <= 5, "five types of error at most"
    assert all(name in errors.__doc__ for name in codes), "the tree at the top of posttrain/errors.py lacks one"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DO_NOT_TRACK", "true"),
        ("DVC_NO_ANALYTICS", "1"),
        ("GX_ANALYTICS_ENABLED", "false"),
        ("HF_HUB_DISABLE_TELEMETRY", "1"),
        ("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("MLFLOW_MODEL_CATALOG_URI", ""),
        ("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false"),
        ("PREFECT_SERVER_ANALYTICS_ENABLED", "false"),
        ("RAY_USAGE_STATS_ENABLED", "0"),
    ],
)
def test_nothing_reports_home(name, value):
    assert QUIET.get(name) == value, f"flows/environment.py must set {name}={value!r}: libraries stay quiet by default"


def test_declarations_left_out_of_stage_keys_exist():
    paths = [ROOT / Path(*name.split(".")) for name in DECLARATIONS]
    assert all(place.is_dir() or place.with_suffix(".py").is_file() for place in paths), (
        "tasks/workspace/keys.py leaves a module out of the source digest that is not there"
    )


def test_the_page_of_methods_has_their_table():
    assert methods_table() in (ROOT / "docs" / "methods.md").read_text(encoding="utf-8"), (
        f"docs/methods.md must hold the table of posttrain/methods.py as it is:\n{methods_table()}"
    )
