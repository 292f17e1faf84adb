"""What several workers train is what one would: every family, in real processes.

Two workers with half a batch each take the step of one with all of it, given the same rows and the
same noise: `Shared` draws the noise of the whole batch in each process and gives a worker that of
its own rows. Float64, so that what differs is not rounding.

Some of what a step computes is of a batch as a whole, by design, and then a worker's own batch is
what it is of. For the comparison it is put aside: batch norm is frozen at its running statistics,
and the weights of table-GAN's information loss and of TGAN's divergence of shares are 0. What
norms by its batch all the same, having no running statistics (the readers of the paper's table-GAN
and the discriminator of the paper's TGAN), cannot be compared so: of those families only the first
gradient is, with the mean of what each half gives alone.

Then epochs on shares that differ by a row, which are to leave the same weights everywhere, and
trainings: their losses lie among those that one worker comes to from seed to seed.
"""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from raysynth import models, parallel, probe, shards
from raysynth.draw import Batch, Draw
from raysynth.layout import Codes
from raysynth.learn import Best, Plan, Resident, capture, learn, restore
from raysynth.models import TableModel
from raysynth.shards import Share
from raysynth.storage import Place
from raysynth.table import TableCodec
from tests.conftest import SETTINGS, Fitted, fit_table, make_model, mixed_table
from tests.training import settings

FAMILIES = (*models.names(), *(name for name in SETTINGS if "-" in name))
PACK, PACKS = 3, 37
ROWS = PACK * PACKS  # of a worker's batch: no width of a network is this, nor twice this
STEPS = 3
# Weights of what is of a batch as a whole, see above.
APART = {"information": 0.0, "share": 0.0, "pack": PACK}
CPU = torch.device("cpu")


# -- the same rows and noise ---------------------------------------------------------------------


class Shared(TorchFunctionMode):
    """Has `torch.rand` and `torch.randn` draw for all workers' rows and give worker `rank` its own.

    A tensor of noise has one dimension of rows, or of packs of them, twice as long where it is of
    real ones and of drawn ones. `normed` tells whether anything was normed by the batch it was in.
    """

    def __init__(self, rank: int, workers: int) -> None:
        super().__init__()
        self.rank, self.workers, self.normed = rank, workers, False
        mine = 2 // workers
        self.parts = {mine * size * parts: parts for size in (ROWS, PACKS) for parts in (1, 2)}

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is functional.batch_norm and kwargs["training"]:
            self.normed = True
        if function not in (torch.rand, torch.randn):
            return function(*args, **kwargs)
        shape = list(args[0] if isinstance(args[0], list | tuple) else args)
        (place,) = (place for place, size in enumerate(shape) if size in self.parts)
        parts = self.parts[shape[place]]
        shape[place] *= self.workers
        pieces = function(shape, **kwargs).chunk(parts * self.workers, place)
        return torch.cat(pieces[self.rank :: self.workers], place)


def frozen(model: TableModel) -> TableModel:
    """`model`, its batch norm that has running statistics held in eval mode."""
    for norm in model.modules():
        if isinstance(norm, _BatchNorm) and norm.track_running_stats:
            norm.eval()
            norm.train = lambda mode=True, norm=norm: norm  # type: ignore[method-assign]
    return model


def parts_of(batches: Iterator[Batch], rank: int, workers: int) -> Iterator[Batch]:
    """Worker `rank`'s rows of each of a few steps' batches."""
    cut = slice(rank * 2 * ROWS // workers, (rank + 1) * 2 * ROWS // workers)
    for _ in range(2 * STEPS):
        codes, given = next(batches)
        codes = Codes(codes.indices, codes.scalars.double()).take(cut)
        yield Batch(codes, None if given is None else given[cut])


def stepped(family: str, fitted: Fitted, rank: int, workers: int) -> dict[str, Any]:
    """What a few steps as worker `rank` of so many come to."""
    codec, codes = fitted
    torch.set_default_dtype(torch.float64)
    try:
        model = frozen(make_model(family, codec, seed=3, **settings(family, **APART)))
        parallel.join(model, model.optimizers)
        gradients = list[torch.Tensor]()
        for optimizer in model.optimizers:
            optimizer.register_step_pre_hook(lambda one, *_: gradients.append(flat(one)))
        draw = models.get(family.partition("-")[0]).drawing(model.config)
        batches = draw(codes, codec.layout, 2 * ROWS, torch.Generator().manual_seed(5))
        mine = iter(list(parts_of(batches, rank, workers)))
        generator = torch.Generator().manual_seed(7)
        losses = list[dict[str, float]]()
        with Shared(rank, workers) as noise:
            for number in range(STEPS):
                model.at((1 + number) / 10)
                told = model.step(mine, generator)
                losses.append({name: float(loss) for name, loss in told.items()})
    finally:
        torch.set_default_dtype(torch.float32)
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    return {
        "weights": weights,
        "gradient": gradients[0],
        "losses": losses,
        "normed": noise.normed,
    }


def flat(optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """All gradients that it is about to step by."""
    weights = [w for group in optimizer.param_groups for w in group["params"]]
    return torch.cat(
        [(w.new_zeros(w.shape) if w.grad is None else w.grad).flatten() for w in weights]
    )


# -- processes -----------------------------------------------------------------------------------

UNEVEN = 799  # rows: 399 and 400 of two workers, in two windows each


def fitted_in(folder: str) -> Fitted:
    codec = TableCodec.from_json(torch.load(Path(folder, "codec.pt"), weights_only=True))
    return codec, Codes(*torch.load(Path(folder, "codes.pt"), weights_only=True))


def working(rank: int, workers: int, folder: str, whole: bool) -> None:
    """As worker `rank` of so many, leave every family's curve, or the quick ones' and all else."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    store, patience = dist.FileStore(f"{folder}/store", workers), timedelta(seconds=60)
    dist.init_process_group("gloo", timeout=patience, store=store, rank=rank, world_size=workers)
    fitted = fitted_in(folder)
    given = {} if whole else steps_and_epochs(rank, folder, fitted)
    families = FAMILIES if whole else QUICK
    given["curves"] = {family: curve(family, fitted, SEEDS[0]) for family in families}
    torch.save(given, Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()
    os._exit(0)  # the interpreter's own end may abort while gloo's threads still end


def steps_and_epochs(rank: int, folder: str, fitted: Fitted) -> dict[str, Any]:
    """What two workers come to in a few steps, and on shares that differ by a row."""
    probe.figures = lambda table, held, drawn: {"fidelity": float(drawn.scalars.mean())}
    return {
        "steps": {family: stepped(family, fitted, rank, 2) for family in FAMILIES},
        "learned": {family: learned(family, fitted[0], folder, UNEVEN, 9) for family in FAMILIES},
        "few": learned("rnn", fitted[0], folder, 39, 1),
        "few probed": learned("ctgan-improved", fitted[0], folder, 399, 10),
    }


def learned(family: str, codec: TableCodec, folder: str, rows: int, fewest: int) -> dict[str, Any]:
    """What a worker's training comes to on its share, probed where `fewest` rows are held out."""
    probe.FEWEST = fewest
    place = Place.of(f"{folder}/{rows}")
    half = (codec.layout.row_bytes + 8 * len(codec.layout.categories)) * 300
    share = Share(place, codec.layout, parallel.rank(), parallel.workers(), half)
    model, best, steps = make_model(family, codec, seed=parallel.rank()), Best(), 0
    step = model.step

    def counted(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        return step(*arguments)

    model.step = counted  # type: ignore[method-assign]
    module = models.get(family.partition("-")[0])
    batch = module.batch_rows(50, model.config)
    draw, plan = module.drawing(model.config), Plan(rows, batch, 2, seed=4)
    told, counts = list[set[str]](), list[int]()
    for epoch in learn(model, codec.layout, draw, share.windows(CPU), plan, 0, best, codec):
        told.append(set(epoch.losses))
        counts.append(steps)
    return {
        "rows": sum(stop - start for start, stop in share.bounds),
        "steps": counts,
        "told": [sorted(names) for names in told],
        "weights": model.state_dict(),
        "best": best.weights,
        "mean": best.mean,
    }


EPOCHS, SEEDS, BATCH, SCORED = 3, range(5), 100, 200
QUICK = ("autoregressive", "ctgan", "tvae")  # one of each kind


def curve(family: str, fitted: Fitted, seed: int) -> list[dict[str, float]]:
    """Losses before a training and after each epoch of it, all on the same rows and noise.

    The weights that it starts from do not depend on the seed, the rows and noise do.
    """
    codec, codes = fitted
    rank, workers = parallel.rank(), parallel.workers()
    module = models.get(family.partition("-")[0])
    model = make_model(family, codec, seed=3, **settings(family, pack=5))  # 25 rows are whole packs
    batch = module.batch_rows(BATCH // workers, model.config)
    mine = codes.take(slice(codes.rows * rank // workers, codes.rows * (rank + 1) // workers))
    draw, plan = module.drawing(model.config), Plan(codes.rows, batch, EPOCHS, seed)
    epochs = learn(model, codec.layout, draw, Resident(mine), plan)
    return [losses_of(model, draw, codes), *(losses_of(model, draw, codes) for _ in epochs)]


def losses_of(model: TableModel, draw: Draw, codes: Codes) -> dict[str, float]:
    """Those of a step at no rate, which leaves the model as it was."""
    state, generator = capture(model, 0), torch.Generator().manual_seed(9)
    model.pace = 0.0
    model.at(0.5)
    told = model.step(draw(codes, model.layout, SCORED, generator), generator)
    restore(model, state, "here")
    return {name: float(loss) for name, loss in told.items()}


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return fit_table(mixed_table())


def started(
    workers: int, folder: Path, fitted: Fitted, whole: bool = False
) -> list[dict[str, Any]]:
    """What each of so many workers came to."""
    codec, codes = fitted
    torch.save(codec.to_json(), folder / "codec.pt")
    torch.save(tuple(codes), folder / "codes.pt")
    for rows in (UNEVEN, 39, 399):
        packed = shards.pack(codes.take(slice(0, rows)), np.arange(rows, dtype=np.uint64))
        place = Place.of(folder / str(rows))
        shards.publish(place, [shards.write(packed, place)])
    multiprocessing.spawn(working, (workers, str(folder), whole), nprocs=workers)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(workers)]


@pytest.fixture(scope="module")
def together(fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two workers came to: started once, since it takes seconds."""
    return started(2, tmp_path_factory.mktemp("two"), fitted)


# -- one step ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(fitted: Fitted) -> dict[str, dict[str, Any]]:
    """What one worker with all rows comes to, by family."""
    return {family: stepped(family, fitted, 0, 1) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_two_workers_with_half_the_rows_take_the_steps_of_one_with_all(
    family: str, fitted: Fitted, alone: dict[str, Any], together: list[dict[str, Any]]
) -> None:
    one, (first, second) = alone[family], (worker["steps"][family] for worker in together)
    assert torch.equal(first["gradient"], second["gradient"])
    halves = [stepped(family, fitted, rank, 2)["gradient"] for rank in (0, 1)]
    torch.testing.assert_close(first["gradient"], (halves[0] + halves[1]) / 2, rtol=1e-6, atol=1e-9)
    for name, weights in first["weights"].items():
        assert torch.equal(weights, second["weights"][name]), name
    if one["normed"]:
        return
    torch.testing.assert_close(first["gradient"], one["gradient"], rtol=1e-6, atol=1e-9)
    for name, weights in one["weights"].items():
        torch.testing.assert_close(first["weights"][name], weights, rtol=1e-6, atol=1e-9)
    for whole, *parts in zip(one["losses"], first["losses"], second["losses"], strict=True):
        for name, loss in whole.items():
            assert loss == pytest.approx((parts[0][name] + parts[1][name]) / 2, rel=1e-6), name


def test_what_norms_by_its_batch_is_told_from_what_does_not(alone: dict[str, Any]) -> None:
    """Else nothing were compared: a family that is taken to norm has its first gradient alone."""
    compared = {family for family, found in alone.items() if not found["normed"]}
    assert compared >= {"autoregressive", "ctgan", "independent", "rnn", "tvae"}


# -- an epoch ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_workers_take_as_many_steps_and_come_to_the_same_weights(
    family: str, together: list[dict[str, Any]]
) -> None:
    """Bit for bit, those that are kept and the statistics of batch norm too."""
    first, second = (worker["learned"][family] for worker in together)
    assert (first["rows"], second["rows"]) == (399, 400)
    assert first["steps"] == second["steps"]
    assert first["steps"][0] * 2 == first["steps"][1] > 0
    assert first["told"] == second["told"]
    assert all("fidelity" in names for names in first["told"])
    for kept in ("weights", "best", "mean"):
        assert first[kept].keys() == second[kept].keys()
        for name, tensor in first[kept].items():
            assert torch.equal(tensor, second[kept][name]), (kept, name)


@pytest.mark.parametrize("work", ["few", "few probed"])
def test_all_workers_hold_rows_out_or_none(work: str, together: list[dict[str, Any]]) -> None:
    """Where one has a row too few for it, and another would go on to wait for its score."""
    first, second = (worker[work] for worker in together)
    assert first["rows"] == second["rows"] - 1
    assert first["told"] == second["told"]
    assert not {"held", "fidelity"} & {name for names in first["told"] for name in names}


# -- a training ----------------------------------------------------------------------------------

SPREADS, LAG = 3, 0.05


def assert_among(found: list[dict[str, float]], curves: list[list[dict[str, float]]]) -> None:
    """Every loss after every epoch is near the mean of `curves`.

    That is within `SPREADS` of their standard deviations, and `LAG` of what the loss moved by.
    """
    for name in found[0]:
        told = np.array([[losses[name] for losses in one] for one in curves])
        means, spread = told.mean(0), told.std(0, ddof=1).max()
        bar = SPREADS * spread + LAG * abs(means - means[0]).max()
        apart = abs(np.array([losses[name] for losses in found]) - means)
        assert apart[0] <= 1e-4 * abs(means[0]), f"{name} starts elsewhere"
        assert (apart <= bar).all(), f"{name} is {apart} from {means}, more than {bar:.5f}"


@pytest.mark.parametrize("family", QUICK)
def test_two_workers_learn_as_one(
    family: str, fitted: Fitted, together: list[dict[str, Any]]
) -> None:
    curves = [curve(family, fitted, seed) for seed in SEEDS]
    assert_among(together[0]["curves"][family], curves)


@pytest.mark.operate
def test_two_and_four_workers_learn_as_one_whatever_the_family(
    fitted: Fitted, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = [
        started(workers, tmp_path_factory.mktemp("curves"), fitted, whole=True)[0]["curves"]
        for workers in (2, 4)
    ]
    for family in FAMILIES:
        curves = [curve(family, fitted, seed) for seed in SEEDS]
        for several in found:
            assert_among(several[family], curves)
