#!/usr/bin/env python3
"""Write sbom.json: every package that requirements.txt locks, and its licence, as CycloneDX 1.6.

    python infra/sbom.py [--out FILE]

A package says its licence in what it installs, and the lock does not have it: so the lock is
installed, by hash and from wheels alone, into a folder that is gone afterwards (1 GB). Needs uv and
Python 3.11. The same lock gives the same bytes: no date, no serial number, no path.

It lists packages, not what their wheels hold of others: Ray's has an aiohttp and a psutil of its
own (ray/**/thirdparty_files), and numpy's and scipy's have OpenBLAS.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MAKER = "cyclonedx-bom==7.5.0"
# What these say of their licence is no SPDX identifier; read in the licence each installs.
READ = {"protobuf": "BSD-3-Clause", "ray": "Apache-2.0"}


def main() -> None:
    """Make the environment, have it described, and write the description."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "sbom.json")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as home:
        uv("venv", "--python=3.11", "--no-python-downloads", home + "/env")
        lock = ("--require-hashes", "--no-deps", "--no-build", f"-r={HERE / 'requirements.txt'}")
        uv("pip", "install", f"--python={home}/env", *lock)
        told = ("environment", "--output-reproducible", "--short-PURLs", home + "/env")
        bill = json.loads(uv("tool", "run", f"--from={MAKER}", "cyclonedx-py", *told))
    for package in (*bill["components"], *bill["metadata"]["tools"]["components"]):
        package.pop("externalReferences", None)
        if package["name"] in READ:
            if "licenses" in package:
                raise SystemExit(f"{package['name']} states its licence now: take it out of READ")
            licence = {"id": READ[package["name"]], "acknowledgement": "concluded"}
            package["licenses"] = [{"license": licence}]
    out.write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n")


def uv(*words: str) -> str:
    """Run uv by the settings here alone, and give what it says."""
    command = ["uv", "--quiet", "--no-config", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
