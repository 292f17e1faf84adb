"""Data parallelism from outside the model: two real processes against one."""

import contextlib
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing, nn

from raysynth import allreduce, capture, parallel
from raysynth.capture import WARM, RecordError, Steps
from raysynth.gradients import Watch
from tests.conftest import fit_table, make_model, mixed_table
from tests.test_capture import StandIn
from tests.training import batches

ROWS, WIDTH = 8, 5


def a_network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(WIDTH, 7), nn.Tanh(), nn.Linear(7, 1), nn.Linear(1, 1))


def a_step(network: nn.Sequential, rows: torch.Tensor) -> nn.Sequential:
    """Three Adam steps, with a gradient penalty, on all layers but the last."""
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    parallel.join(network, [optimizer])
    for _ in range(3):
        rows = rows.detach().requires_grad_()
        score = network[:3](rows)
        (slope,) = torch.autograd.grad(score.sum(), rows, create_graph=True)
        loss = score.square().mean() + slope.square().sum(1).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return network


def in_two(rank: int, folder: str) -> None:
    """Do all the work below as worker `rank` of two and leave what it gives."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    works = (train_half, train_half_apart, missing_on_one, count_alone, recorded_by_one)
    with TemporaryDirectory(dir=allreduce.MEMORY) as memory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(allreduce, "MEMORY", Path(memory))
        given = {work.__name__: work(rank) for work in works}
        given["left"] = [file.name for file in Path(memory).iterdir()]
    torch.save(given, Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()
    os._exit(0)  # the interpreter's own end may abort while gloo's threads still end


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Any]]]:
    """What each of two workers came to, by work: started once, since it takes seconds."""
    folder = tmp_path_factory.mktemp("workers")
    multiprocessing.spawn(in_two, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def all_rows() -> torch.Tensor:
    return torch.randn(2 * ROWS, WIDTH, generator=torch.Generator().manual_seed(9))


def train_half(rank: int) -> dict[str, torch.Tensor]:
    # Each starts from weights of its own: joining must make them those of worker 0.
    network = a_network(seed=rank)
    return a_step(network, all_rows()[rank * ROWS : (rank + 1) * ROWS]).state_dict()


def train_half_apart(rank: int) -> dict[str, torch.Tensor]:
    """The same, where worker 1 cannot open what worker 0 offers."""
    with pytest.MonkeyPatch.context() as patch:
        if rank:
            patch.setattr(parallel, "Shared", _unopened)
        return train_half(rank)


def _unopened(*_: object) -> None:
    raise FileNotFoundError


def missing_on_one(rank: int) -> dict[str, torch.Tensor]:
    """Worker 1 has no gradient for its second weight."""
    weights = nn.ParameterList([torch.zeros(2), torch.zeros(3)])
    optimizer = torch.optim.SGD(weights, lr=1.0)
    parallel.join(nn.Module(), [optimizer])
    loss = weights[0].sum() * (1 + rank)
    (loss + 4 * weights[1].sum() if rank == 0 else loss).backward()
    optimizer.step()
    return {"first": weights[0].detach(), "second": weights[1].detach()}


def count_alone(rank: int) -> dict[str, torch.Tensor]:
    norm = nn.BatchNorm1d(1, momentum=None)
    norm(torch.tensor([[0.0], [2.0]]) + 10 * rank)
    parallel.average_statistics(norm)
    flags = [parallel.agree(flag, torch.device("cpu")) for flag in (rank == 1, False)]
    return {"mean": norm.running_mean, "var": norm.running_var, "flags": torch.tensor(flags)}


def recorded_by_one(rank: int) -> dict[str, torch.Tensor]:
    """Worker 1 cannot record its steps: how many each took before that was told."""
    codec, codes = fit_table(mixed_table(200))
    model = make_model("independent", codec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture, "recorder", lambda _: StandIn("not permitted" if rank else ""))
        steps = Steps(model, Watch())
    steps.generator.manual_seed(0)
    rows, taken = batches("independent", model, codes, 50, 0), 0
    with contextlib.suppress(RecordError):
        while taken < 2 * WARM:
            steps(rows)
            taken += 1
    return {"taken": torch.tensor(taken)}


def test_two_workers_take_the_step_of_one_with_twice_the_rows(together: list[Any]) -> None:
    """Also where the last layer has no gradient at all, which counts as zero."""
    one = a_step(a_network(seed=0), all_rows()).state_dict()
    first, second = (worker["train_half"] for worker in together)
    start = a_network(seed=0).state_dict()
    for name, weights in one.items():
        torch.testing.assert_close(first[name], weights, rtol=1e-4, atol=1e-6)
        assert torch.equal(first[name], second[name])
        assert name.startswith("3.") or not torch.equal(weights, start[name])


def test_workers_that_share_no_memory_take_the_same_steps(together: list[Any]) -> None:
    for worker in together:
        for name, weights in worker["train_half"].items():
            assert torch.equal(worker["train_half_apart"][name], weights), "of two the same sum"
        assert worker["left"] == [], "the file was deleted"


def test_a_gradient_missing_on_one_worker_counts_as_zero(together: list[Any]) -> None:
    for found in (worker["missing_on_one"] for worker in together):
        assert found["first"].tolist() == [-1.5, -1.5]  # the mean of 1 and 2
        assert found["second"].tolist() == [-2.0, -2.0, -2.0]  # of 4 and nothing


def test_batch_norm_statistics_are_averaged_and_flags_shared(together: list[Any]) -> None:
    for found in (worker["count_alone"] for worker in together):
        assert found["mean"].item() == pytest.approx(6.0)  # of 1 and 11
        assert found["var"].item() == pytest.approx(2.0)
        assert found["flags"].tolist() == [True, False]


def test_one_worker_needs_no_process_group() -> None:
    network = a_network(seed=0)
    parallel.join(network, [torch.optim.Adam(network.parameters())])
    parallel.average_statistics(network)
    assert (parallel.workers(), parallel.rank()) == (1, 0)
    assert parallel.agree(True, torch.device("cpu"))


def test_steps_are_recorded_by_all_workers_or_by_none(together: list[Any]) -> None:
    assert [int(worker["recorded_by_one"]["taken"]) for worker in together] == [WARM, WARM]
