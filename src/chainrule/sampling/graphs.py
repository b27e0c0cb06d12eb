"""CUDA graphs: the steps of a walk over pixels, recorded in its second row and replayed in all later ones.

A pixel of the full-size PixelCNN-MADE takes some 140 small kernels, each done by a GPU sooner than Python asks for the
next. But every row asks for the same kernels on the same memory, since a walk's caches are written in place: only what
stands there differs. So the first row is walked as ever, the steps of the second are recorded, a graph for each site,
and from then on a step is one launch. A recorded walk answers the same three calls as its model: whoever chooses the
values, a random number or an entropy decoder, need not know of it.

Which walks repeat is the model's to say (`GenerativeModel.period`). A new model's first rows are walked both ways
before its graphs are trusted.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from chainrule.models import GenerativeModel

T = TypeVar("T")
Replay = Callable[[], object]

WORTH_ROWS = 4
"""Fewer rows than these are walked step by step: two of them are not replayed anyway."""

TRIAL_ROWS = 3
"""One that is walked as ever, one that is recorded, one that is replayed."""

ONE_WALK = threading.RLock()
"""Held during a recorded walk: what another thread launched meanwhile on the stream would be recorded, too."""

TRUSTED: weakref.WeakKeyDictionary[torch.nn.Module, bool] = weakref.WeakKeyDictionary()
"""Models whose graphs were tried, and whether they did what the steps do."""


class Recorder(Protocol):
    """Runs functions, and records them so that they can be run again without Python."""

    def run(self, function: Callable[[], T]) -> T:
        """The function's result, as if it were called; the memory that it leaves behind may be recorded later."""

    def record(self, function: Callable[[], T]) -> tuple[T, Replay]:
        """Record what the function does, without doing it: where its result will lie, and what does it."""


class CUDARecorder:
    """A recorder of CUDA graphs. They share their memory, so they must be replayed in the order of recording."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, side_stream(device)
        # Nothing is given back to the device while a graph is recorded, and earlier walks' memory is no one else's.
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        self.pool = torch.cuda.graph_pool_handle()  # type: ignore[no-untyped-call]

    def run(self, function: Callable[[], T]) -> T:
        """Run on the stream that will record, so that libraries make their workspaces there beforehand."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        try:
            with torch.cuda.stream(self.stream):
                return function()
        finally:
            current.wait_stream(self.stream)

    def record(self, function: Callable[[], T]) -> tuple[T, Replay]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self.stream):
            graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
            try:
                result = function()
            except BaseException:
                self.give_up(graph)
                raise
            graph.capture_end()
        return result, graph.replay

    def give_up(self, graph: torch.cuda.CUDAGraph) -> None:
        """End a recording that failed. Ending it fails as well, which before PyTorch 2.12 kept the pool in use."""
        with contextlib.suppress(RuntimeError):
            graph.capture_end()
        with contextlib.suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(self.device.index, self.pool)


@functools.cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream that graphs are recorded on: one, since libraries keep a workspace for each stream they see."""
    return torch.cuda.Stream(device)


@dataclass
class RecordedState:
    """Where a recorded walk stands."""

    inner: Any  # the model's own state, of use until its second row is over
    recorder: Recorder
    batch: int
    values: Tensor | None = None  # (B,): what was chosen last, where the recorded steps read it
    steps: list[tuple[Any, Replay]] = field(default_factory=list)
    conditional: Any = None  # of the site at hand, once it has been asked for
    position: int = 0


class RecordedWalk:
    """The contract of a model, with the steps from the second row on recorded and replayed.

    Args:
        model: one with a `period`.
        recorder: makes a recorder for each walk.
    """

    def __init__(self, model: GenerativeModel, recorder: Callable[[], Recorder]) -> None:
        self.model, self.recorder = model, recorder

    def start(self, batch: int, context: Any = None) -> RecordedState:
        recorder = self.recorder()
        return RecordedState(recorder.run(lambda: self.model.start(batch, context)), recorder, batch)

    def conditional(self, state: RecordedState) -> Any:
        """As the model's own; the tensor is overwritten by later steps."""
        if state.conditional is None:
            step, period = functools.partial(self._step, state), self.model.period
            if state.position < period:
                state.conditional = state.recorder.run(step)
            else:
                if state.position < 2 * period:
                    state.steps.append(state.recorder.record(step))
                state.conditional, replay = state.steps[state.position % period]
                replay()
        return state.conditional

    def _step(self, state: RecordedState) -> Any:
        """Tell the model what was chosen, and ask it for the next site's distribution."""
        if state.values is not None:
            state.inner = self.model.observe(state.inner, state.values)
        return self.model.conditional(state.inner)

    def observe(self, state: RecordedState, value: Tensor) -> RecordedState:
        self.conditional(state)
        if state.values is None:
            state.values = torch.empty(state.batch, dtype=torch.long, device=self.model.device)
        state.values.copy_(value)
        state.conditional = None
        state.position += 1
        return state


@contextlib.contextmanager
def walker(model: GenerativeModel, batch: int) -> Iterator[Any]:
    """Who walks for a model: a `RecordedWalk` where that is faster and was found to be right, the model elsewhere."""
    rows = len(model.sites()) // model.period if model.period and batch else 0
    if model.device.type != "cuda" or rows < WORTH_ROWS or {"conditional", "observe"} & vars(model).keys():
        yield model
        return
    with ONE_WALK:
        recorded = RecordedWalk(model, functools.partial(CUDARecorder, model.device))
        if model not in TRUSTED:
            TRUSTED[model] = agrees(recorded)
        yield recorded if TRUSTED[model] else model


def agrees(recorded: RecordedWalk, rows: int = TRIAL_ROWS) -> bool:
    """Whether the first rows of two events, walked with and without graphs, have the same distributions.

    Warns and says why if they do not, or if the device refuses to record.

    Raises:
        torch.OutOfMemoryError: there is no room even for two events, which tells nothing of graphs.
    """
    model = recorded.model
    u = torch.tensor([0.25, 0.75], dtype=torch.float64, device=model.device)
    try:
        context = model.example_context(2)
        state, plain = recorded.start(2, context), model.start(2, context)
        for site in model.sites()[: rows * model.period]:
            found, expected = recorded.conditional(state), model.conditional(plain)
            if not isinstance(expected, Tensor):
                found, expected = found(u), expected(u)
            if not torch.allclose(found, expected, rtol=1e-3, atol=1e-5):
                raise RuntimeError(f"they give other probabilities at {site.index}")
            value = torch.tensor([len(site.index), sum(site.index)], device=model.device) % site.levels
            state, plain = recorded.observe(state, value), model.observe(plain, value)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        warnings.warn(f"CUDA graphs are of no use here, samples take longer without: {reason}", stacklevel=4)
        return False
    return True
