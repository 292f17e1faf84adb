"""Settings: from TOML and overrides, and told by name where they are wrong."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raysynth import models
from raysynth.config import TrainConfig, default_name, parse
from raysynth.errors import ConfigError


def test_settings_come_back_from_toml(tmp_path: Path) -> None:
    config = TrainConfig.load(
        overrides={
            "table": "a folder/t.parquet",
            "drop": ["x"],
            "cpus": 3,
            "model": {"pack": 5, "generator": [64, 64], "dropout": 0.25},
        }
    )
    (tmp_path / "c.toml").write_text(config.to_toml())
    assert TrainConfig.load(tmp_path / "c.toml") == config


def test_an_override_replaces_one_setting_and_keeps_the_others(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('table = "t.csv"\nepochs = 7\n[model]\npack = 5\nnoise = 16\n')
    config = TrainConfig.load(tmp_path / "c.toml", {"epochs": 9, "model": {"pack": 2}})
    assert (config.table, config.epochs) == ("t.csv", 9)
    assert config.model == {"pack": 2, "noise": 16}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epoch": 3}, "'epoch'.*did you mean 'epochs'"),
        ({"epochs": 0}, "epochs: .*greater than or equal to 1"),
        ({"workers": -1}, "workers"),
        ({"name": "../elsewhere"}, "name"),
        ({"name": ""}, "name"),
        ({"seed": -1}, "seed"),
        ({"epochs": 0, "nmae": "x"}, "epochs.*name|name.*epochs"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TrainConfig.load(overrides={"table": "t.parquet", **settings})


@pytest.mark.parametrize("family", models.names())
def test_a_wrong_setting_of_a_family_names_the_nearest(family: str) -> None:
    config = models.get(family).Config
    known = next(iter(config.model_fields))
    with pytest.raises(ConfigError, match=f"'{known}x'.*did you mean '{known}'"):
        parse(config, {f"{known}x": 1})


def test_settings_of_a_family_that_are_no_table_are_told(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('table = "t.csv"\nmodel = "ctgan"\n')
    with pytest.raises(ConfigError, match="model: expected a table of the family's own settings"):
        TrainConfig.load(tmp_path / "c.toml")
    with pytest.raises(ConfigError, match="model: expected a table"):
        TrainConfig.load(overrides={"table": "t.csv", "model": 3})


def test_settings_are_utf8_whatever_the_machines_language(tmp_path: Path) -> None:
    config = TrainConfig.load(overrides={"table": "Größe/表.parquet", "drop": ["Straße"]})
    (tmp_path / "c.toml").write_bytes(config.to_toml().encode())
    code = (
        "import sys; from pathlib import Path; from raysynth.config import TrainConfig;"
        "print(ascii(TrainConfig.load(Path(sys.argv[1])).table))"
    )
    call = [sys.executable, "-X", "utf8=0", "-c", code, str(tmp_path / "c.toml")]
    latin = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(call, env=latin, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ascii("Größe/表.parquet")


def test_a_file_that_is_no_toml_is_told(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("epochs = = 3")
    with pytest.raises(ConfigError, match=r"c\.toml: not a readable TOML"):
        TrainConfig.load(tmp_path / "c.toml")
    with pytest.raises(ConfigError, match="not a readable TOML"):
        TrainConfig.load(tmp_path / "none.toml")


def test_a_run_is_named_after_its_table_and_family() -> None:
    assert (
        default_name({"table": "/data/Kunden 2024.csv", "family": "ctgan"}) == "Kunden-2024-ctgan"
    )
    assert default_name({"table": "/data/äö.parquet"}) == "table-autoregressive"


def test_where_and_how_it_runs_does_not_decide_what_comes_out() -> None:
    one = TrainConfig.load(overrides={"table": "t.csv"})
    moved = one.model_copy(update={"storage": "/other", "workers": 4, "checkpoint_s": 1.0})
    assert one.meaning == moved.meaning
    others = ({"epochs": 2}, {"select": ("a",)}, {"where": "a > 1"}, {"fraction": 0.5})
    for other in (*others, {"precision": "tf32"}):
        assert one.meaning != one.model_copy(update=other).meaning


def test_relations_are_a_list_or_none_at_all(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"

    def loaded(text: str) -> TrainConfig:
        file.write_text(f'table = "t.parquet"\n{text}')
        return TrainConfig.load(file)

    assert loaded("").relations == loaded("relations = true").relations == ()
    assert loaded("relations = false").relations is False
    one = loaded('[[relations]]\nkind = "order"\ncolumns = ["a", "b"]')
    assert one.relations[0].columns == ("a", "b")
    for config in (loaded("relations = false"), one):
        file.write_text(config.to_toml())
        assert TrainConfig.load(file) == config
    for text, said in (
        ("relations = 3", "relations: input should be a valid tuple"),
        ('[[relations]]\nkind = "order"', "relations.0.columns: field required"),
        (
            '[[relations]]\nkind = "order"\ncolums = ["a"]\ncolumns = []',
            "no setting is called 'relations.0.colums'; did you mean 'columns'",
        ),
    ):
        with pytest.raises(ConfigError, match=said) as error:
            loaded(text)
        assert "literal" not in str(error.value)
