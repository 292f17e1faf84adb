"""Alerts: each is raised by what it is there for, and by nothing that is as it should be."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

INFRA = Path(__file__).parents[1] / "infra"
RULES = INFRA / "prometheus" / "alerts.yml"
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
}
# A minute apart for 80 minutes: what is well, and what is not.
WELL = {
    'ray_raysynth_train_alarm{run="a"}': "0x80",
    'ray_raysynth_train_steps_total{run="a"}': "0+600x80",
    'ray_raysynth_train_kept_time{run="a"}': "0+60x80",
    'ray_raysynth_train_seconds_total{run="a",part="compute"}': "0+50x80",
    'ray_raysynth_train_seconds_total{run="a",part="data"}': "0+5x80",
    'ray_raysynth_train_seconds_total{run="a",part="communicate"}': "0+5x80",
    'ray_node_mem_used{instance="n"}': "50x80",
    'ray_node_mem_total{instance="n"}': "100x80",
    'ray_node_disk_usage{instance="n"}': "50x80",
    'ray_node_disk_free{instance="n"}': "50x80",
    'ray_raysynth_model_gate{model="m"}': "1x80",
    'ray_raysynth_refused_total{why="unauthorised"}': "0+6x80",
    'ray_raysynth_refused_total{why="quota"}': "0+600x80",
    'ray_raysynth_seconds_bucket{le="1"}': "0+60x80",
    'ray_raysynth_seconds_bucket{le="30"}': "0+60x80",
    'ray_raysynth_seconds_bucket{le="100"}': "0+60x80",
    'ray_raysynth_seconds_bucket{le="+Inf"}': "0+60x80",
}
ILL = {
    "RaysynthModeCollapse": {'ray_raysynth_train_alarm{run="a"}': "1x80"},
    "RaysynthNoSteps": {'ray_raysynth_train_steps_total{run="a"}': "600x80"},
    "RaysynthOldCheckpoint": {'ray_raysynth_train_kept_time{run="a"}': "60x80"},
    "RaysynthStarved": {'ray_raysynth_train_seconds_total{run="a",part="data"}': "0+50x80"},
    "RaysynthTalking": {'ray_raysynth_train_seconds_total{run="a",part="communicate"}': "0+50x80"},
    "RaysynthMemory": {'ray_node_mem_used{instance="n"}': "95x80"},
    "RaysynthDisk": {'ray_node_disk_free{instance="n"}': "1x80"},
    "RaysynthFailedModelServed": {'ray_raysynth_model_gate{model="m"}': "2x80"},
    "RaysynthTokensTried": {'ray_raysynth_refused_total{why="unauthorised"}': "0+600x80"},
    "RaysynthServerFaults": {'ray_raysynth_refused_total{why="log"}': "0+1x80"},
    "RaysynthSlowAnswers": {
        'ray_raysynth_seconds_bucket{le="1"}': "0x80",
        'ray_raysynth_seconds_bucket{le="30"}': "0x80",
    },
}


def raised(series: dict[str, str], folder: Path) -> set[str]:
    """Alerts that are raised after 75 minutes, as `promtool test rules` has it."""
    if (program := shutil.which("promtool")) is None:
        pytest.skip("no promtool here; install Debian's prometheus")
    told: dict[str, Any] = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": k, "values": v} for k, v in series.items()],
                "alert_rule_test": [{"eval_time": "75m", "alertname": name} for name in ALERTS],
            }
        ],
    }
    (folder / "test.yml").write_text(json.dumps(told))
    done = subprocess.run(
        [program, "test", "rules", str(folder / "test.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    # It awaits none, and names those that there are.
    found = set(re.findall(r"alertname: (\w+)", done.stdout + done.stderr))
    assert bool(found) == bool(done.returncode), done.stderr
    return found


def test_nothing_is_raised_where_all_is_well(tmp_path: Path) -> None:
    assert raised(WELL, tmp_path) == set()


@pytest.mark.parametrize("name", ILL)
def test_each_is_raised_by_what_it_is_there_for_and_alone(name: str, tmp_path: Path) -> None:
    assert raised(WELL | ILL[name], tmp_path) == {name}


def test_every_alert_is_tried_and_says_what_to_do() -> None:
    assert set(ILL) == set(ALERTS)
    for rule in ALERTS.values():
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["action"]
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_what_prometheus_and_grafana_read_is_what_they_take() -> None:
    told = json.loads((INFRA / "grafana" / "raysynth.json").read_text())
    shown = [panel for panel in told["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in told["panels"]}) == len(told["panels"])
    assert all(panel["description"] and panel["targets"] for panel in shown)
    assert [panel["title"] for panel in told["panels"] if panel["type"] == "row"] == [
        "Is it learning?",
        "Is it starved?",
        "Is it safe?",
        "Does it answer?",
        "What does it cost?",
    ]
    for file in (INFRA / "grafana" / "provisioning").rglob("*.yaml"):
        assert yaml.safe_load(file.read_text())["apiVersion"] == 1
    config = yaml.safe_load((INFRA / "prometheus" / "prometheus.yml").read_text())
    assert config["rule_files"] == [RULES.name]
