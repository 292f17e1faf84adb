"""The folder a training leaves behind.

    config.toml          the settings
    schema.json          columns and types
    table.json           fitted codecs; no value that fewer than `least` rows share
    weights.safetensors  the model
    losses.jsonl         mean losses of every epoch
    manifest.json        sizes and hashes of the files above, written last

No manifest, no run. Nothing here is a pickle. While training goes on, `work/` holds what it needs
to resume (encoded rows among it); it is gone before the manifest is written.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from raysynth import models
from raysynth.config import TrainConfig, parse
from raysynth.errors import RunError
from raysynth.learn import load_weights
from raysynth.models import TableModel
from raysynth.storage import reason, whole, write_bytes
from raysynth.table import TableCodec

FORMAT = 1
MANIFEST, WORK = "manifest.json", "work"


@dataclass(frozen=True)
class Run:
    """A finished training, verified: every file has the size and hash its manifest gives."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """Rows trained on."""
        return int(self.manifest["rows"])

    @cached_property
    def config(self) -> TrainConfig:
        """The settings it was trained with."""
        return TrainConfig.load(self.path / "config.toml")

    @cached_property
    def table(self) -> TableCodec:
        """The fitted codecs."""
        schema, columns = (
            json.loads((self.path / name).read_text()) for name in ("schema.json", "table.json")
        )
        return TableCodec.from_json({"schema": schema, "columns": columns})

    def model(self, device: torch.device | str = "cpu") -> TableModel:
        """The trained model, on `device`."""
        model = build(self.config, self.table, device)
        weights = load((self.path / "weights.safetensors").read_bytes())
        load_weights(model, weights, str(self.path))
        return model


def build(config: TrainConfig, table: TableCodec, device: torch.device | str = "cpu") -> TableModel:
    """A fresh model for `table`, its weights drawn from the configuration's seed."""
    family = models.get(config.family)
    settings = parse(family.Config, config.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = family.Model(table.layout, table.shares, settings)
    return model.to(device)


def save_run(
    config: TrainConfig, table: TableCodec, model: TableModel, losses: str, rows: int
) -> Run:
    """Write the run folder, manifest last, and open it.

    Raises `StorageError` where it cannot be written; a training can then still resume.
    """
    value = table.to_json()
    weights = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    files = {
        "config.toml": config.to_toml().encode(),
        "schema.json": json.dumps(value["schema"], indent=1).encode(),
        "table.json": json.dumps(value["columns"], indent=1).encode(),
        "weights.safetensors": save(weights),
        "losses.jsonl": losses.encode(),
    }
    for name, data in files.items():
        write_bytes(config.path / name, data)
    facts = {
        "format": FORMAT,
        "raysynth": version("raysynth"),
        "family": config.family,
        "rows": rows,
        "files": {name: _entry(data) for name, data in files.items()},
    }
    _write_manifest(config.path, facts)
    return open_run(config.path)


def add_files(run: Run, files: Mapping[str, bytes]) -> Run:
    """Put more files (a report) into a run and its manifest.

    Files to be replaced leave the manifest first, so the run stays sound wherever this is stopped.
    """
    facts = {name: value for name, value in run.manifest.items() if name != "digest"}
    entries = {name: entry for name, entry in facts["files"].items() if name not in files}
    if entries != facts["files"]:
        _write_manifest(run.path, {**facts, "files": entries})
    for name, data in files.items():
        write_bytes(run.path / name, data)
        entries[name] = _entry(data)
    _write_manifest(run.path, {**facts, "files": entries})
    return open_run(run.path)


def open_run(path: str | Path) -> Run:
    """Open a run folder and verify every file.

    Raises `RunError` where there is no run, its training is unfinished, it is torn or altered, or
    its format is another.
    """
    path = Path(path)
    try:
        found, working = (path / MANIFEST).is_file(), (path / WORK).is_dir()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {reason(error)}") from None
    if not found:
        if working:
            raise RunError(
                f"{path}: its training is not finished; repeat the train command to resume it"
            )
        raise RunError(f"{path}: not a run folder (no {MANIFEST}); train one first")
    manifest = _read_manifest(path)
    for name, entry in manifest["files"].items():
        data = _read(path, name)
        if _entry(data) != entry:
            raise RunError(
                f"{path}: '{name}' is not what was saved ({len(data)} bytes, {entry['bytes']} "
                "expected, or altered); copy the run again or train it again"
            )
    return Run(path, manifest)


def _read(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except FileNotFoundError:
        raise RunError(f"{path}: the run is torn, '{name}' is missing; copy it again") from None
    except OSError as error:
        raise RunError(f"{path}: '{name}' cannot be read: {reason(error)}") from None


def _read_manifest(path: Path) -> dict[str, Any]:
    data = _read(path, MANIFEST)
    try:
        manifest: dict[str, Any] = json.loads(data)
        facts = {name: value for name, value in manifest.items() if name != "digest"}
        form, sound = manifest["format"], manifest["digest"] == _digest(facts)
    except (ValueError, KeyError, TypeError, AttributeError):
        form, sound, manifest = FORMAT, False, {}
    if form != FORMAT:
        raise RunError(
            f"{path}: the run has format {form}, and this raysynth reads format {FORMAT}; use the "
            f"raysynth that wrote it ({manifest.get('raysynth', 'unknown')}) or train it again"
        )
    if not sound:
        raise RunError(f"{path}: {MANIFEST} is damaged or altered; copy the run again")
    return manifest


def _write_manifest(path: Path, facts: dict[str, Any]) -> None:
    manifest = {**facts, "digest": _digest(facts)}
    with whole(path / MANIFEST) as file:
        file.write(json.dumps(manifest, indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
        # The manifest is safely on disk and not yet in place: a full disk leaves `work` to resume
        # from, and a published run never has private rows beside it.
        shutil.rmtree(path / WORK, ignore_errors=True)


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _entry(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
