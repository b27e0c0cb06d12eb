"""CUDA graphs: the steps of a walk over pixels, recorded in its second row and replayed in all later ones.

A pixel of the full-size PixelCNN-MADE takes some 140 small kernels, each finished by a GPU before Python asks for the
next. But every row asks for the same kernels on the same memory, since a walk's caches are written in place: only the
contents differ. So the first row is walked as usual, the steps of the second are recorded, a graph for each site, and
from then on a step is one launch. A recorded walk is a walk like any other: whoever chooses the values, a random number
or an entropy decoder, need not know of it.

Walks say themselves whether they repeat (`Walk.period`). A new model's first rows are walked both ways before its
graphs are trusted.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from chainrule.contract import Engine, Model, Walk
from chainrule.sampling import engines

T = TypeVar("T")
Replay = Callable[[], object]

WORTH_ROWS = 4
"""Fewer rows than these are walked step by step: two of them are not replayed anyway."""

TRIAL_ROWS = 3
"""One that is walked as ever, one that is recorded, one that is replayed."""

ONE_WALK = threading.RLock()
"""Held during a recorded walk: what another thread launched meanwhile on the stream would be recorded, too."""

TRUSTED: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
"""Models whose graphs were tried, and whether they did what the steps do."""


class Recorder(Protocol):
    """Runs functions, and records them so that they can be run again without Python."""

    def run(self, function: Callable[[], T]) -> T:
        """The function's result, as if it were called; the memory that it leaves behind may be recorded later."""

    def record(self, function: Callable[[], T]) -> tuple[T, Replay]:
        """Record the function without running it; returns where its result will lie, and what replays it."""


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


class RecordedWalk(Walk):
    """A walk of a model's own steps, with those from the second row on recorded and replayed.

    Args:
        start: starts the model's own walk, one with a `period`.
        recorder: records its steps.
        device: where the walk's values are.
        release: called when the walk is over.
    """

    def __init__(
        self,
        start: Callable[[], Walk],
        recorder: Recorder,
        batch: int,
        device: torch.device,
        release: Callable[[], object] = lambda: None,
    ) -> None:
        self.recorder, self.release, self.position = recorder, release, 0
        self.inner = recorder.run(start)  # of use until its second row is over
        self.period = self.inner.period
        self.values = torch.empty(
            batch, dtype=torch.long, device=device
        )  # where the recorded steps read what was chosen
        self.steps: list[tuple[Any, Replay]] = []
        self.current: Any = None  # the conditional of the site at hand, once it has been asked for

    def conditional(self) -> Any:
        """As the model's own; the tensor is overwritten by later steps."""
        if self.current is None:
            if self.position < self.period:
                self.current = self.recorder.run(self._step)
            else:
                if self.position < 2 * self.period:
                    self.steps.append(self.recorder.record(self._step))
                self.current, replay = self.steps[self.position % self.period]
                replay()
        return self.current

    def _step(self) -> Any:
        """Tell the model what was chosen, and ask it for the next site's distribution."""
        if self.position:
            self.inner.observe(self.values)
        return self.inner.conditional()

    def observe(self, value: Tensor) -> None:
        self.conditional()
        self.values.copy_(value)
        self.current = None
        self.position += 1

    def close(self) -> None:
        self.release()


class Graphs(Engine):
    """CUDA graphs, where they are faster and were found to be right."""

    name = "graphs"

    def walk(self, model: Model, batch: int, context: Any = None) -> Walk | None:
        if model.device.type != "cuda" or not batch:
            return None
        period = model.start(1, model.example_context(1)).period
        if not period or len(model.sites()) // period < WORTH_ROWS:
            return None
        recorder = functools.partial(CUDARecorder, model.device)
        ONE_WALK.acquire()
        try:
            if model not in TRUSTED:
                TRUSTED[model] = agrees(model, recorder)
            if not TRUSTED[model]:
                ONE_WALK.release()
                return None
            start = functools.partial(model.start, batch, context)
            return RecordedWalk(start, recorder(), batch, model.device, ONE_WALK.release)
        except BaseException:
            ONE_WALK.release()
            raise


def agrees(model: Model, recorder: Callable[[], Recorder], rows: int = TRIAL_ROWS) -> bool:
    """Whether the first rows of two events, walked with and without graphs, have the same distributions.

    Warns and says why if they do not, or if the device refuses to record.

    Raises:
        torch.OutOfMemoryError: there is no room even for two events, which tells nothing of graphs.
    """
    u = torch.tensor([0.25, 0.75], dtype=torch.float64, device=model.device)
    try:
        context = model.example_context(2)
        plain = model.start(2, context)
        recorded = RecordedWalk(functools.partial(model.start, 2, context), recorder(), 2, model.device)
        for site in model.sites()[: rows * plain.period]:
            found, expected = recorded.conditional(), plain.conditional()
            if not isinstance(expected, Tensor):
                found, expected = found(u), expected(u)
            if not torch.allclose(found, expected, rtol=1e-3, atol=1e-5):
                raise RuntimeError(f"they give other probabilities at {site.index}")
            value = torch.tensor([len(site.index), sum(site.index)], device=model.device) % site.levels
            recorded.observe(value)
            plain.observe(value)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        warnings.warn(f"CUDA graphs are of no use here, samples take longer without: {reason}", stacklevel=4)
        return False
    return True


engines.register(Graphs())
