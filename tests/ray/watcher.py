"""A real Prometheus that scrapes a cluster by infra/prometheus, and what it is asked."""

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ray.nodes import REPOSITORY
from tests.server import free, until

INFRA = REPOSITORY / "infra"
GRAFANA_S = "10s"  # what Grafana would make of $__rate_interval and the like
VARIABLES = {"$__rate_interval": GRAFANA_S, "$core_hour": "0.05", "$gpu_hour": "1.00"}


@dataclass
class Prometheus:
    port: int

    def query(self, asked: str, start: float, end: float) -> list[Any]:
        """The series that a query has had between two moments."""
        told = {"query": asked, "start": start, "end": end, "step": 1}
        url = f"http://127.0.0.1:{self.port}/api/v1/query_range?{urllib.parse.urlencode(told)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            found: list[Any] = json.load(answer)["data"]["result"]
            return found

    def targets(self) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{self.port}/api/v1/targets?state=active"
        with urllib.request.urlopen(url, timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["activeTargets"]
            return found


@contextmanager
def prometheus(home: Path, nodes: Path) -> Iterator[Prometheus]:
    """One that asks every other second the `nodes` that Ray's file names."""
    if (program := shutil.which("prometheus")) is None:
        pytest.skip("no Prometheus here; install Debian's prometheus")
    told = yaml.safe_load((INFRA / "prometheus" / "prometheus.yml").read_text())
    told["global"] = {"scrape_interval": "2s", "evaluation_interval": "2s"}
    (ray,) = told["scrape_configs"]
    ray["file_sd_configs"] = [{"files": [str(nodes)], "refresh_interval": "1s"}]
    told["rule_files"] = [str(INFRA / "prometheus" / "alerts.yml")]
    (home / "prometheus.yml").write_text(yaml.safe_dump(told))
    port = free()
    options = [f"--config.file={home / 'prometheus.yml'}", f"--storage.tsdb.path={home / 'tsdb'}"]
    command = [program, *options, f"--web.listen-address=127.0.0.1:{port}"]
    with (home / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    found = Prometheus(port)

    def answers() -> bool:
        try:
            return bool(found.targets())
        except OSError:
            return False

    try:
        until(answers, 60)
        yield found
    finally:
        process.kill()
        process.wait(30)


def panels() -> dict[str, list[str]]:
    """Queries of the dashboard by what they are shown as."""
    told = json.loads((INFRA / "grafana" / "raysynth.json").read_text())
    asked: dict[str, list[str]] = {}
    for panel in told["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            asked.setdefault(panel["title"], []).append(query)
    return asked


def alerts() -> dict[str, str]:
    """Queries of the alerts, each asked so that it has a value whether it would be raised or not.

    A comparison leaves nothing where it does not hold: here it is to give 0 or 1.
    """
    told = yaml.safe_load((INFRA / "prometheus" / "alerts.yml").read_text())
    rules = [rule for group in told["groups"] for rule in group["rules"]]
    return {rule["alert"]: re.sub(r" (>|==) ", r" \1 bool ", rule["expr"]) for rule in rules}
