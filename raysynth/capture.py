"""Steps of a training: on a CPU each is taken, on a GPU one is recorded and then played again.

A step of small networks is hundreds of short kernels, and to ask a GPU for each of them takes the
host longer than they run. A recorded step (a CUDA graph, Nguyen et al., "Accelerating PyTorch with
CUDA Graphs", 2021) is asked for at once: every update of every network, gradients averaged over
workers and cut, and their lengths. What changes from step to step is written where the recording
reads it: rows, drawn before the step, all of its batches; rates of learning; and the generator's
seed, which may be set anew between steps.

The first `WARM` steps are taken, so that optimizers have their state, on the stream that records.
After what puts other tensors in the place of those that were recorded, which is `restore`, a
recording is let go of (`drop`), as it is where rows of another shape come. A step that cannot be
recorded raises `RecordError`; training goes back to where the epoch began and takes every step.

Nothing is compiled (`torch.compile`, 2.13): on one thread of a CPU ctgan's critic, forward and
backward, took 20 ms compiled and 15 as it is, the likelihood of `autoregressive` 137 and 77, after
26 and 44 s of compiling; and its graphs end at every draw from a generator of our own.

So that a step can be recorded, a family's `step` asks the device for no number, and no shape in it
depends on one (`tests/test_capture.py`). No GPU was at hand: what is known of one is from torch's
documentation, and `tests/cuda_capture.py` is to be run on one.
"""

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Protocol, TypeAlias

import torch
from torch import Generator, Tensor
from torch.autograd.graph import increment_version

from raysynth import parallel
from raysynth.draw import Batch
from raysynth.gradients import Watch
from raysynth.models import TableModel
from raysynth.precision import Precision, multiplied

WARM = 3

Losses: TypeAlias = dict[str, Tensor]
Work: TypeAlias = Callable[[], Losses]

log = logging.getLogger(__name__)


class RecordError(RuntimeError):
    """A step could not be recorded, and was not taken."""


class Recorder(Protocol):
    """What takes steps, or records them: a GPU's stream, or what stands in for it in a test."""

    def take(self, work: Work) -> Losses:
        """Do the work, as it will be recorded."""
        ...

    def record(self, work: Work, generator: Generator) -> tuple[Losses, Callable[[], None]]:
        """What has the work done, and the losses that this writes anew. Nothing is done yet.

        Raises `RuntimeError` for work that cannot be recorded.
        """
        ...


class Stream:
    """A stream of a GPU, to take steps on and to record them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def take(self, work: Work) -> Losses:
        """See `Recorder`."""
        usual = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            losses = work()
        usual.wait_stream(self._stream)
        return losses

    def record(self, work: Work, generator: Generator) -> tuple[Losses, Callable[[], None]]:
        """See `Recorder`."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(generator)
        # Other threads may use the device meanwhile: NCCL's does.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            losses = work()
        return losses, graph.replay


def recorder(device: torch.device) -> Recorder | None:
    """What records the steps of a model there; None where they are taken."""
    return Stream(device) if device.type == "cuda" else None


class Steps:
    """The steps of a training, by chances of `generator`, which is to be seeded."""

    def __init__(self, model: TableModel, watch: Watch, precision: Precision = "float32") -> None:
        self._model, self._watch, self._precision = model, watch, precision
        self._device = next(model.parameters()).device
        self._recorder = recorder(self._device)
        self.generator = Generator(self._device)
        self._rows = list[Batch]()
        self.drop()

    def drop(self) -> None:
        """Let go of what was recorded: it reads and writes tensors that are others by now."""
        self._taken = 0
        self._play: Callable[[], None] | None = None
        self._losses: Losses = {}
        optimizers = self._model.optimizers
        self._groups = [group for one in optimizers for group in one.param_groups]
        if self._recorder is not None:
            for group in self._groups:
                self._loosen(group)
        self._baked = self._fixed()

    def plainly(self) -> None:
        """Take every step from now on; by another generator, since none outlives a recording."""
        self._recorder = None
        self.generator = Generator(self._device)

    def __call__(self, batches: Iterator[Batch]) -> Losses:
        """Take a step, whose losses the next one may write over. Raises `RecordError`."""
        if self._recorder is None:
            return self._step(batches)
        self._put(list(islice(batches, self._model.takes)))
        if self._fixed() != self._baked:
            self.drop()
        if self._taken < WARM:
            self._taken += 1
            return self._recorder.take(self._work)
        if self._play is None:
            self._losses, self._play = self._recorded(self._recorder)
        self._play()
        return self._losses

    def settle(self) -> None:
        """Have copies of the weights be known as old: autograd does not see what is played."""
        if self._play is not None:
            increment_version([*self._model.parameters(), *self._model.buffers()])

    def _recorded(self, recorder: Recorder) -> tuple[Losses, Callable[[], None]]:
        flags = [(weight, weight.requires_grad) for weight in self._model.parameters()]
        # No step knows whether its gradients' lengths will be asked for: all of them tell.
        self._watch.due = True
        recorded, why = None, RuntimeError("another worker's cannot")
        try:
            recorded = recorder.record(self._work, self.generator)
        except RuntimeError as error:
            why = error
        # All of them or none: what one plays would wait for what others, gone back, do not ask for.
        if parallel.agree(recorded is None, self._device) or recorded is None:
            for weight, flag in flags:
                weight.requires_grad_(flag)
            log.warning("steps cannot be recorded, and each is taken: %s", why)
            raise RecordError(str(why)) from why
        return recorded

    def _work(self) -> Losses:
        return self._step(iter(self._rows))

    def _step(self, batches: Iterator[Batch]) -> Losses:
        with multiplied(self._precision, self._device):
            return self._model.step(batches, self.generator)

    def _put(self, drawn: list[Batch]) -> None:
        """Have the rows that are recorded be these, or these be recorded, of another shape."""
        if _shapes(drawn) != _shapes(self._rows):
            self.drop()
            self._rows = drawn
            return
        for mine, theirs in zip(_tensors(self._rows), _tensors(drawn), strict=True):
            mine.copy_(theirs)

    def _fixed(self) -> list[float]:
        """Rates that a recording has by their value."""
        return [group["lr"] for group in self._groups if not isinstance(group["lr"], Tensor)]

    def _loosen(self, group: dict[str, Any]) -> None:
        """Have an optimizer's group read its rate where it can be written."""
        if "capturable" in group and not isinstance(group["lr"], Tensor):
            group.setdefault("rate", group["lr"])
            group["lr"] = torch.tensor(group["lr"], device=self._device)
            group["capturable"] = self._device.type != "cpu"


def _tensors(batches: list[Batch]) -> list[Tensor]:
    found = [(*batch.codes, batch.given) for batch in batches]
    return [tensor for some in found for tensor in some if tensor is not None]


def _shapes(batches: list[Batch]) -> list[torch.Size]:
    return [tensor.shape for tensor in _tensors(batches)]
