"""cluster.yaml: held to Ray's own schema and to what must never be; tests/ray/nodes.py runs it."""

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [  # of Ray's and pydantic's own doing, where they are imported
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*"),
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:pydantic\..*"),
]

ROOT = Path(__file__).parents[1]
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
TYPES = CONFIG["available_node_types"]
ENVIRONMENT = dict(
    one.removeprefix("--env=").split("=", 1)
    for one in CONFIG["docker"]["run_options"]
    if one.startswith("--env=")
)


def prepared(config: dict[str, Any]) -> Any:
    """What the cluster launcher makes of it. Raises what it would."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    found = prepare_config(copy.deepcopy(config))
    validate_config(found)
    return found


def test_the_launcher_takes_it_and_adds_no_start_of_its_own() -> None:
    found = prepared(CONFIG)
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert found[name] == CONFIG[name]
    assert (
        found["head_setup_commands"] == found["worker_setup_commands"] == CONFIG["setup_commands"]
    )
    assert found["max_workers"] >= sum(one["max_workers"] for one in TYPES.values())


@pytest.mark.parametrize(
    "path",
    [(), ("provider", "security_group"), ("docker",), ("available_node_types", "data")],
    ids=lambda path: ".".join(path) or "top",
)
def test_a_key_that_is_none_is_refused(path: tuple[str, ...]) -> None:
    from jsonschema import ValidationError

    config = copy.deepcopy(CONFIG)
    inside = config
    for name in path:
        inside = inside.setdefault(name, {})
    inside["misspelt"] = 1
    with pytest.raises(ValidationError, match="misspelt"):
        prepared(config)


def test_pools_are_those_that_stages_look_for_and_the_head_does_no_work() -> None:
    from raysynth.stages.cluster import POOL

    assert CONFIG["head_node_type"] == "head"
    assert {name: one["labels"] for name, one in TYPES.items()} == {
        name: {POOL: name} for name in ("head", "data", "train")
    }
    assert not any(TYPES["head"]["resources"].values())
    assert TYPES["head"]["max_workers"] == 0
    spot = {name for name, one in TYPES.items() if "InstanceMarketOptions" in one["node_config"]}
    assert spot == {"train"}, "what drives a job is not to be taken away"
    assert TYPES["train"]["resources"]["GPU"] > 0


def test_nothing_is_public_and_what_is_kept_is_encrypted() -> None:
    assert CONFIG["provider"]["use_internal_ips"] is True
    assert CONFIG["provider"]["cache_stopped_nodes"] is False
    for one in TYPES.values():
        node = one["node_config"]
        assert node["SecurityGroupIds"], "Ray would make one that opens SSH to the world"
        assert node["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in node["BlockDeviceMappings"])
    (head,) = (one for one in CONFIG["head_start_ray_commands"] if "--head" in one)
    assert "--dashboard-host=127.0.0.1" in head
    assert "0.0.0.0" not in (ROOT / "cluster.yaml").read_text()


def test_every_node_asks_for_the_token_which_is_no_part_of_the_file() -> None:
    assert ENVIRONMENT["RAY_AUTH_MODE"] == "token"
    assert ENVIRONMENT["RAY_AUTH_TOKEN_PATH"] == "/home/ray/.ray/auth_token"
    assert list(CONFIG["file_mounts"]) == ["~/.ray/auth_token"]
    assert "chmod 600 ~/.ray/auth_token" in CONFIG["setup_commands"]
    assert not {name for name in ENVIRONMENT if "SECRET" in name or name == "RAY_AUTH_TOKEN"}


def test_the_image_is_of_this_release() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name, _, tag = CONFIG["docker"]["image"].rpartition("/")[2].partition(":")
    assert (name, tag) == ("raysynth-cuda", project["version"])
    made = (ROOT / "infra" / "Dockerfile").read_text()
    assert f"-t {name}:{tag} " in made
    for variable in ("RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED", "RAYSYNTH_LOGS"):
        assert f"{variable}={ENVIRONMENT[variable]}" in made
