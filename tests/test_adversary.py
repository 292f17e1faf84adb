"""An averaged network, run by several threads at once."""

from threading import Barrier, Thread

import torch
from torch import Tensor, nn

from raysynth.adversary import Average


class Paused(nn.Module):
    """Two weights, and a wait between their use for a thread that is there as well."""

    def __init__(self, meet: Barrier) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        self.meet = [meet]

    def __deepcopy__(self, memo: dict[int, object]) -> "Paused":
        return Paused(*self.meet)  # a barrier cannot be copied, and all are to meet at one

    def forward(self, rows: Tensor) -> Tensor:
        """Rows times the first weight, plus the second."""
        scaled = rows * self.first
        self.meet[0].wait(timeout=30)
        return scaled + self.second


def test_threads_at_once_have_the_average_and_leave_the_network_alone() -> None:
    meet = Barrier(2)
    network = Paused(meet)
    average = Average(network, 0.5)
    with torch.no_grad():
        average.first.fill_(2.0)
        average.second.fill_(1.0)
    found: list[float] = []

    def draw(turns: int) -> None:
        found.extend(average.run(network, torch.ones(1)).item() for _ in range(turns))

    threads = [Thread(target=draw, args=(5,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [3.0] * 10
    assert (network.first.item(), network.second.item()) == (0.0, 0.0)


def test_a_changed_average_and_another_mode_are_seen() -> None:
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Dropout(0.5))
    average = Average(network, 0.5)
    rows = torch.ones(1_000, 1)
    for value in (1.0, 2.0):
        with torch.no_grad():
            average.get_buffer("0_weight").fill_(value)
        assert torch.equal(average.run(network.eval(), rows), value * rows)
        assert average.run(network.train(), rows).eq(0).any(), "dropout"
    average.load_state_dict({name: 3 * one for name, one in average.state_dict().items()})
    assert torch.equal(average.run(network.eval(), rows), 6 * rows)
