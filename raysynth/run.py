"""The folder a training leaves behind.

    config.toml          the settings
    schema.json          columns and types
    table.json           relations and fitted codecs; no value that fewer than `least` rows share
    weights.safetensors  the model
    losses.jsonl         mean losses of every epoch, and what was measured of the model after it
    manifest.json        sizes and hashes of the files above, written last

No manifest, no run. Nothing here is a pickle. While training goes on, `work/` holds what it needs
to resume (encoded rows among it); it is gone before the manifest is written, but for a copy of the
manifest itself, from which `finish` goes on if the moment between the two is where it stops.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from raysynth import models, relate
from raysynth.checkpoint import entry
from raysynth.config import TrainConfig, parse
from raysynth.draw import Draw
from raysynth.errors import AbsentError, RunError, StorageError
from raysynth.learn import Plan, load_weights
from raysynth.models import Encoding, TableModel
from raysynth.relate import Found
from raysynth.relations import Relation
from raysynth.storage import Place, write_bytes
from raysynth.summary import Summary
from raysynth.table import TableCodec

FORMAT = 3  # 2: table.json holds relations; 3: weights of points that lie along a scale
MANIFEST, WORK = "manifest.json", "work"


@dataclass(frozen=True)
class Run:
    """A finished training, verified: every file has the size and hash its manifest gives."""

    place: Place
    manifest: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The run folder on this machine. Raises `StorageError` where it is in a bucket."""
        return self.place.local

    @property
    def rows(self) -> int:
        """Rows trained on."""
        return int(self.manifest["rows"])

    @property
    def kept(self) -> int | None:
        """The epoch whose weights these are, from 1; None in a run that does not say."""
        found: int | None = self.manifest.get("kept")
        return found

    @property
    def gate(self) -> Mapping[str, Any] | None:
        """What the gate said when the run was last judged (`gate.Verdict`); None before."""
        found: Mapping[str, Any] | None = self.manifest.get("gate")
        return found

    @cached_property
    def losses(self) -> list[dict[str, float]]:
        """What was told of each epoch: its number, its losses, what was measured after it."""
        return [json.loads(line) for line in _read(self.place, "losses.jsonl").splitlines()]

    @cached_property
    def config(self) -> TrainConfig:
        """The settings it was trained with."""
        return settings_of(self.place)

    @cached_property
    def table(self) -> TableCodec:
        """The fitted codecs."""
        schema, table = (
            json.loads(_read(self.place, name)) for name in ("schema.json", "table.json")
        )
        return TableCodec.from_json({"schema": schema, **table})

    def model(self, device: torch.device | str = "cpu") -> TableModel:
        """The trained model, on `device`."""
        model = build(self.config, self.table, device)
        weights = load(_read(self.place, "weights.safetensors"))
        load_weights(model, weights, str(self.place))
        return model


def settings_of(place: Place) -> TrainConfig:
    """The settings in a run folder. Raises `RunError` where they cannot be read."""
    return parse(TrainConfig, tomllib.loads(_read(place, "config.toml").decode()))


def fit(config: TrainConfig, summary: Summary, relations: tuple[Relation, ...] = ()) -> TableCodec:
    """The codecs that the family asks for, fitted on a table's summary. Raises `TableError`."""
    encoding = encoding_of(config)
    options = {**encoding.options, "least": config.least, "relations": relations}
    if config.modes is not None:
        options["modes"] = config.modes
    return TableCodec.fit(summary, encoding.kinds, minimum=config.minimum_rows, **options)


def related(config: TrainConfig, summary: Summary) -> Found:
    """The relations that the settings ask for, and those found, where they do not say none.

    Raises `ConfigError`, `TableError`.
    """
    if config.relations is False:
        return Found(())
    wanted = [(one.kind, one.columns) for one in config.relations]
    apart = config.without_relations
    return relate.find(summary, least=config.least, wanted=wanted, apart=apart)


def encoding_of(config: TrainConfig) -> Encoding:
    """The codecs that the family asks for with its settings."""
    family = models.get(config.family)
    return family.encoding(parse(family.Config, config.model))


def drawing_of(config: TrainConfig) -> Draw:
    """How the family draws batches with its settings."""
    family = models.get(config.family)
    return family.drawing(parse(family.Config, config.model))


def plan_of(config: TrainConfig, rows: int, workers: int = 1) -> Plan:
    """How long to train on a table of `rows` rows, and with how many of a step's a worker.

    The rows of a step are the settings' for any number of workers, so rates are as well; but whole
    packs, where a family has them, and at least one a worker.
    """
    family = models.get(config.family)
    settings = parse(family.Config, config.model)
    batch = family.batch_rows(max(1, settings.batch // workers), settings)
    epochs = config.epochs or family.epochs(rows, settings)
    return Plan(rows, batch, epochs, config.seed, config.patience, config.precision)


def build(config: TrainConfig, table: TableCodec, device: torch.device | str = "cpu") -> TableModel:
    """A fresh model for `table`, its weights drawn from the configuration's seed."""
    family = models.get(config.family)
    settings = parse(family.Config, config.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = family.Model(table.layout, table.shares, settings)
    return model.to(device)


def save_run(
    config: TrainConfig,
    table: TableCodec,
    model: TableModel,
    losses: str,
    rows: int,
    kept: int | None = None,
) -> Run:
    """Write the run folder, manifest last, and open it. The weights are those of epoch `kept`.

    Raises `StorageError` where it cannot be written; a training can then still resume.
    """
    value = table.to_json()
    weights = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    files = {
        "config.toml": config.to_toml().encode(),
        "schema.json": json.dumps(value.pop("schema"), indent=1).encode(),
        "table.json": json.dumps(value, indent=1).encode(),
        "weights.safetensors": save(weights),
        "losses.jsonl": losses.encode(),
    }
    for name, data in files.items():
        write_bytes(config.place / name, data)
    facts = {
        "format": FORMAT,
        "raysynth": version("raysynth"),
        "family": config.family,
        "rows": rows,
        "epochs": len(losses.splitlines()),
        "kept": kept,
        "files": {name: entry(data) for name, data in files.items()},
    }
    work = config.place / WORK
    data = _manifest(facts)
    # Safely kept and not yet in place: a full disk leaves `work` to resume from, and a published
    # run never has private rows beside it.
    write_bytes(work / MANIFEST, data)
    run = finish(config.place)
    assert run is not None, "its manifest was just written"
    return run


def finish(place: Place) -> Run | None:
    """Publish the run whose manifest is kept in its work folder; None where there is none there.

    Everything else that is there goes first.
    """
    pending = place / WORK / MANIFEST
    if not pending.exists():
        return None
    data = pending.read_bytes()
    (place / WORK).remove(but=pending)
    write_bytes(place / MANIFEST, data)
    (place / WORK).remove()
    return open_run(place)


def add_files(run: Run, files: Mapping[str, bytes], gate: Mapping[str, Any] | None = None) -> Run:
    """Put more files (a report) into a run and its manifest, and what the `gate` said.

    Files to be replaced leave the manifest first, and so does what the gate said of them, so the
    run stays sound wherever this is stopped.
    """
    facts = {key: value for key, value in run.manifest.items() if key not in ("digest", "gate")}
    entries = {name: told for name, told in facts["files"].items() if name not in files}
    if entries != facts["files"]:
        write_bytes(run.place / MANIFEST, _manifest({**facts, "files": entries}))
    for name, data in files.items():
        write_bytes(run.place / name, data)
        entries[name] = entry(data)
    said = {} if gate is None else {"gate": gate}
    write_bytes(run.place / MANIFEST, _manifest({**facts, "files": entries, **said}))
    return open_run(run.place)


def open_run(path: str | Path | Place) -> Run:
    """Open a run folder, on this machine or in a bucket, and verify every file.

    Raises `RunError` where there is no run, its training is unfinished, it is torn or altered, or
    its format is another.
    """
    place = Place.of(path)
    try:
        found = (place / MANIFEST).info().is_file
        working = not found and (place / WORK).exists()
    except StorageError as error:
        raise RunError(f"{place}: {_without(place / MANIFEST, error)}") from None
    if not found:
        if working:
            raise RunError(
                f"{place}: its training is not finished; repeat the train command to resume it"
            )
        raise RunError(f"{place}: not a run folder (no {MANIFEST}); train one first")
    manifest = _read_manifest(place)
    for name, told in manifest["files"].items():
        data = _read(place, name)
        if entry(data) != told:
            raise RunError(
                f"{place}: '{name}' is not what was saved ({len(data)} bytes, {told['bytes']} "
                "expected, or altered); copy the run again or train it again"
            )
    return Run(place, manifest)


def _read(place: Place, name: str) -> bytes:
    try:
        return (place / name).read_bytes()
    except AbsentError:
        raise RunError(f"{place}: the run is torn, '{name}' is missing; copy it again") from None
    except StorageError as error:
        raise RunError(f"{place}: '{name}' {_without(place / name, error)}") from None


def _without(place: Place, error: StorageError) -> str:
    """What an error says, without the place it begins with."""
    return str(error).removeprefix(f"{place}: ")


def _read_manifest(place: Place) -> dict[str, Any]:
    data = _read(place, MANIFEST)
    try:
        manifest: dict[str, Any] = json.loads(data)
        facts = {name: value for name, value in manifest.items() if name != "digest"}
        form, sound = manifest["format"], manifest["digest"] == _digest(facts)
    except (ValueError, KeyError, TypeError, AttributeError):
        form, sound, manifest = FORMAT, False, {}
    if form != FORMAT:
        raise RunError(
            f"{place}: the run has format {form}, and this raysynth reads format {FORMAT}; use the "
            f"raysynth that wrote it ({manifest.get('raysynth', 'unknown')}) or train it again"
        )
    if not sound:
        raise RunError(f"{place}: {MANIFEST} is damaged or altered; copy the run again")
    return manifest


def _manifest(facts: dict[str, Any]) -> bytes:
    return json.dumps({**facts, "digest": _digest(facts)}, indent=1).encode()


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
