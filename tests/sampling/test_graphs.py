"""Recorded walks, on a machine without a GPU: a tape that keeps the rules of CUDA graphs stands in for them."""

from __future__ import annotations

import dataclasses
import functools
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from chainrule import plugins, sampling
from chainrule.codec.coder import Decoder, edges_of, encode
from chainrule.contract import Engine
from chainrule.fixedpoint import calibrate, exact
from chainrule.models import (
    GatedPixelCNN,
    GatedPixelCNNMADE,
    GrayscalePixelCNN,
    Histogram,
    LogisticPixelCNN,
    PixelCNN,
    PixelCNNMADE,
    PixelIQN,
)
from chainrule.models.image import ImageWalk
from chainrule.sampling import engines, graphs
from laws import events, randomised, some_known

WAITING = ("_local_scalar_dense", "equal", "is_nonzero", "nonzero", "lift_fresh", "item", "masked_select")
"""Operations for which the host waits for the device, or that copy from the host: no graph can hold them."""


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class Recording(TorchDispatchMode):
    """Notes every operation on the very tensors; what was there before is as it was when the recording ends."""

    def __init__(self):
        super().__init__()
        self.operations, self.before, self.made = [], {}, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in WAITING:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        written = [
            value
            for argument, value in zip(func._schema.arguments, args, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        for tensor in tensors(written):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.made:
                self.before.setdefault(storage.data_ptr(), (storage, storage.clone()))
        result = func(*args, **kwargs)
        aliases = any(value.alias_info is not None for value in func._schema.returns)
        if written or not aliases:
            self.operations.append((func, args, kwargs, None if written else tensors(result)))
        if not aliases:
            self.made |= {tensor.untyped_storage().data_ptr() for tensor in tensors(result)}
        return result


class Tape:
    """A recorder as a CUDA graph is one: nothing is done while it records, and replaying runs no Python of the model's.

    Everything is replayed on the memory that was there when it was recorded, whatever has taken its place since.
    """

    def __init__(self):
        self.recordings = []
        self.replays = 0

    def run(self, function):
        return function()

    def record(self, function):
        recording = Recording()
        with recording:
            result = function()
        for storage, content in recording.before.values():
            storage.copy_(content)
        for tensor in tensors([made for *_, made in recording.operations]):
            if tensor.untyped_storage().data_ptr() in recording.made and tensor.is_floating_point():
                tensor.fill_(torch.nan)
        self.recordings.append(recording)

        def replay():
            self.replays += 1
            for func, args, kwargs, made in recording.operations:
                again = func(*args, **kwargs)
                for old, new in zip(made or [], tensors(again), strict=False):
                    old.copy_(new)

        return result, replay


def recorded(model, batch, context=None):
    """A walk whose steps are recorded on a tape."""
    return graphs.RecordedWalk(functools.partial(model.start, batch, context), Tape(), batch, model.device)


class Tapes(Engine):
    """As `Graphs`, on a CPU: every walk that repeats is recorded."""

    name = "tapes"

    def __init__(self):
        self.made = []

    def walk(self, model, batch, context=None):
        if not model.start(1, model.example_context(1)).period:
            return None
        walk = recorded(model, batch, context)
        self.made.append(walk.recorder)
        return walk


@pytest.fixture
def tapes(monkeypatch):
    """Every model that repeats walks by recorded steps; the recorders of its walks, as they come."""
    plugins.load()
    engine = Tapes()
    monkeypatch.setattr(engines, "FASTER", {engine.name: engine})
    return engine.made


BUILDS = {
    "PixelCNN": lambda: PixelCNN((3, 6, 5), 4, 8, 2),
    "PixelCNN, no norm, many levels": lambda: PixelCNN((2, 5, 4), 18, 8, 1, False),
    "PixelCNN, no blocks": lambda: PixelCNN((1, 7, 3), 2, 8, 0),
    "PixelCNNMADE": lambda: PixelCNNMADE((3, 6, 5), 4, 8, 2),
    "GatedPixelCNN": lambda: GatedPixelCNN((2, 6, 5), 3, 8, 2),
    "GatedPixelCNNMADE": lambda: GatedPixelCNNMADE((3, 6, 5), 3, 8, 2),
    "GatedPixelCNN, classes": lambda: GatedPixelCNN((1, 6, 5), 3, 8, 2, classes=3),
    "LogisticPixelCNN": lambda: LogisticPixelCNN((3, 6, 4), 8, 8, 1, components=3),
    "PixelIQN": lambda: PixelIQN((3, 6, 4), 4, 8, 1),
}


@pytest.fixture(params=list(BUILDS))
def repeating(request):
    """A model whose walk does the same row after row."""
    torch.manual_seed(0)
    return randomised(BUILDS[request.param]())


def seeded():
    return torch.Generator().manual_seed(0)


def plain_sample(model, n):
    return sampling.sample(model, n, model.example_context(n), seeded(), method="steps")


def test_recorded_samples_are_those_of_the_steps(repeating, tapes):
    """All rows from the second on are replayed, and the samples are the same."""
    x = sampling.sample(repeating, 5, repeating.example_context(5), seeded())
    (tape,) = tapes
    period = repeating.start(1, repeating.example_context(1)).period
    assert len(tape.recordings) == period
    assert tape.replays == len(repeating.sites()) - period
    assert torch.equal(x, plain_sample(repeating, 5))
    assert len(x.unique()) > 1


def test_a_recorded_completion_keeps_what_is_known(repeating, tapes):
    """Known pixels reach the recorded steps as drawn ones do."""
    x, context = events(repeating, 4), repeating.example_context(4)
    known = some_known(repeating, x)
    y = repeating.complete(x, known, context, seeded())
    assert tapes[0].replays
    assert torch.equal(y[known], x[known])
    assert torch.equal(y, repeating.complete(x, known, context, seeded(), method="steps"))


def test_recorded_scores_are_the_parallel_pass(repeating, tapes):
    """A given image's recorded walk finds the probabilities of the parallel pass."""
    if isinstance(repeating, PixelIQN):
        pytest.skip("has no probabilities")
    x, context = events(repeating, 4), repeating.example_context(4)
    assert (sampling.score(repeating, x, context) - repeating.site_log_probs(x, context)).abs().max() < 1e-10
    assert tapes[0].replays


@pytest.mark.parametrize("name", [name for name in BUILDS if name != "PixelIQN"])
def test_recorded_steps_of_an_exact_twin_decode(name, tapes):
    """The integer path records, too: an entropy decoder gets back what the parallel pass wrote."""
    torch.manual_seed(0)
    model = randomised(BUILDS[name](), dtype=torch.float32)
    x, context = events(model, 3), model.example_context(3)
    twin = exact(model, calibrate(model, x, context))
    logits = twin._logits(twin._float(x), context)
    table = twin.softmax.frequencies(logits).permute(2, 3, 1, 0, 4).reshape(-1, twin.levels)
    symbols = x.permute(2, 3, 1, 0).reshape(-1)
    decoder = Decoder(encode([(symbols, edges_of(symbols, table), twin.levels)]))
    assert torch.equal(sampling.walk(twin, 3, decoder, context=context), x)
    decoder.finish()
    assert tapes[-1].replays


def test_what_recorded_steps_read_is_kept(repeating, tapes):
    """No graph reads memory that the state, the model or another graph does not hold: it would be given to others."""
    n = 3
    with torch.no_grad():
        walk = recorded(repeating, n, repeating.example_context(n))
        for site in repeating.sites()[: 2 * walk.period]:
            value = sampling.quantile(walk.conditional(), torch.full((n,), 0.5, dtype=torch.float64))
            assert value.shape == (n,), site
            walk.observe(value)
    made = set().union(*(recording.made for recording in walk.recorder.recordings))
    held = {tensor.untyped_storage().data_ptr() for tensor in reachable([walk.inner, walk.values, repeating])}
    for recording in walk.recorder.recordings:
        for _, args, kwargs, _ in recording.operations:
            for tensor in tensors([args, kwargs]):
                assert tensor.untyped_storage().data_ptr() in made | held


def reachable(root):
    """All tensors of an object's fields, and of theirs."""
    found, seen, waiting = [], set(), [root]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            found.append(item)
        elif isinstance(item, torch.nn.Module):
            found += [*item.parameters(), *item.buffers()]
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list | tuple | set):
            waiting += item
        elif dataclasses.is_dataclass(item) or type(item).__module__.startswith("chainrule"):
            waiting += vars(item).values()
    return found


def test_only_walks_that_repeat_have_a_period():
    """Rows of a colour image given its gray one differ, and other events have no rows."""
    gray = GrayscalePixelCNN((2, 2, 2), 3, 4, 1)
    assert Histogram(3).start(1).period == gray.start(1).period == 0
    assert gray.colors.start(1, torch.zeros(1, 2, 2)).period == 0
    assert PixelCNN((3, 5, 7), 2, 4, 1).start(1).period == 21
    assert GatedPixelCNN((3, 5, 7), 2, 4, 1, classes=2).start(1, torch.zeros(1)).period == 21


def walking(walk):
    """A small model with a walk of its own."""

    class Own(PixelCNN):
        def start(self, batch, context=None):
            return walk(self, batch, None)

    torch.manual_seed(0)
    return randomised(Own((2, 6, 4), 4, 8, 1))


def test_a_state_that_is_not_written_in_place_is_found_out(tapes):
    """The tape can fail: a walk that carries a new tensor from row to row does not repeat."""

    class Carrying(ImageWalk):
        def observe(self, value):
            self.values = self.values.clone()
            super().observe(value)

    model = walking(Carrying)
    assert not torch.equal(model.sample(20, generator=seeded()), plain_sample(model, 20))
    with torch.no_grad(), pytest.warns(UserWarning, match="other probabilities"):
        assert not graphs.agrees(model, Tape)


def test_graphs_are_trusted_after_a_trial(repeating):
    """The trial finds that recorded steps and plain ones agree."""
    with torch.no_grad():
        assert graphs.agrees(repeating, Tape)


def test_a_device_that_cannot_record_is_no_error():
    """A step that waits for the device is refused by it; the walk goes on without graphs, and says so."""

    class Waiting(ImageWalk):
        def conditional(self):
            assert float(self.values.sum()) >= 0
            return super().conditional()

    with torch.no_grad(), pytest.warns(UserWarning, match=r"CUDA graphs are of no use here.*not permitted"):
        assert not graphs.agrees(walking(Waiting), Tape)


def test_a_trial_without_memory_tells_nothing():
    """Too little memory is no disagreement: it is raised, and may be there the next time."""

    def large(model, batch, context):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        graphs.agrees(walking(large), Tape)


class OnGPU:
    """What the engine asks a model on a GPU."""

    device, period, rows = torch.device("cuda", 0), 3, 8

    def start(self, batch, context=None):
        return SimpleNamespace(period=self.period)

    def sites(self):
        return [None] * 3 * self.rows

    def example_context(self, n):
        return None


@pytest.fixture
def trials(monkeypatch):
    """The engine without a device: how its trials end is in `trials.outcome`, and `trials.seen` counts them."""

    def agrees(model, recorder):
        found.seen += 1
        return found.outcome

    found = SimpleNamespace(seen=0, outcome=True)
    monkeypatch.setattr(graphs, "agrees", agrees)
    monkeypatch.setattr(graphs, "CUDARecorder", lambda device: device)
    monkeypatch.setattr(graphs, "RecordedWalk", lambda start, recorder, n, device, release: release)
    return found


def others_may_walk():
    """Whether another thread could begin a recorded walk."""
    found = []

    def ask():
        if got := graphs.ONE_WALK.acquire(blocking=False):
            graphs.ONE_WALK.release()
        found.append(got)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return found[0]


def test_one_walk_is_recorded_at_a_time(trials, monkeypatch):
    """From its start to its end, however that comes; a model is tried once."""
    engine, model = graphs.Graphs(), OnGPU()
    for _ in range(2):
        release = engine.walk(model, 5)
        assert not others_may_walk()
        release()
        assert others_may_walk()
    assert trials.seen == 1

    def failing(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(graphs, "RecordedWalk", failing)
    with pytest.raises(torch.OutOfMemoryError):
        engine.walk(model, 5)
    assert others_may_walk()


def test_what_graphs_leave_to_others(trials):
    """Models that were found out (they are not tried again), that never repeat, that have few rows; and no events."""
    engine, model = graphs.Graphs(), OnGPU()
    assert engine.walk(model, 0) is None
    for name, value in (("period", 0), ("rows", graphs.WORTH_ROWS - 1)):
        other = OnGPU()
        setattr(other, name, value)
        assert engine.walk(other, 5) is None
    assert trials.seen == 0
    trials.outcome = False
    assert engine.walk(model, 5) is engine.walk(model, 5) is None
    assert trials.seen == 1
    assert others_may_walk()


class FakeGraph:
    """A CUDA graph whose recording may be broken by what is recorded, as a device breaks it."""

    calls: list[str]
    broken = False

    def capture_begin(self, pool, capture_error_mode):
        FakeGraph.calls.append(f"begin {pool} {capture_error_mode}")

    def capture_end(self):
        FakeGraph.calls.append("end")
        if FakeGraph.broken:
            raise RuntimeError("operation failed due to a previous error during capture")

    def replay(self):
        FakeGraph.calls.append("replay")


@pytest.fixture
def cuda(monkeypatch):
    """What a `CUDARecorder` asks of PyTorch, noted instead of done."""
    FakeGraph.calls, FakeGraph.broken = calls, _ = [], False

    class Stream:
        def __init__(self, name):
            self.name = name

        def wait_stream(self, other):
            calls.append(f"{self.name} waits for {other.name}")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("current"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("empty"))
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *_: calls.append("end pool"), raising=False)
    monkeypatch.setattr(graphs, "side_stream", lambda device: Stream("side"))
    return calls


def test_a_recorder_asks_for_one_graph_a_step(cuda):
    """Memory is given back first; eager steps are ordered with the current stream, recordings need no order."""
    recorder = graphs.CUDARecorder(torch.device("cuda", 0))
    assert recorder.run(lambda: 5) == 5
    result, replay = recorder.record(lambda: 7)
    replay()
    assert result == 7
    streams = ["side waits for current", "current waits for side"]
    assert cuda == ["empty", *streams, "begin pool thread_local", "end", "replay"]


def test_a_failed_recording_says_why(cuda):
    """Not that its end failed as well; and the pool is given up."""
    recorder = graphs.CUDARecorder(torch.device("cuda", 0))
    FakeGraph.broken = True
    with pytest.raises(ValueError, match="the cause"):
        recorder.record(lambda: (_ for _ in ()).throw(ValueError("the cause")))
    assert cuda[-2:] == ["end", "end pool"]
    with pytest.raises(ZeroDivisionError):
        recorder.run(lambda: 1 // 0)
    assert cuda[-1] == "current waits for side"


def test_on_a_cpu_nothing_is_recorded(repeating):
    """There the model walks itself."""
    assert graphs.Graphs().walk(repeating, 5, repeating.example_context(5)) is None


def test_too_little_memory_halves_the_batch(monkeypatch):
    """A GPU that has no room for all events together draws the same ones in parts."""
    model = randomised(PixelCNN((1, 3, 3), 3, 4, 1))
    sizes, start = [], model.start

    def small(batch, context=None):
        sizes.append(batch)
        if batch > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return start(batch, context)

    whole = model.sample(10, generator=seeded())
    x, known = events(model, 10), some_known(model, events(model, 10))
    completed = model.complete(x, known, generator=seeded())
    monkeypatch.setattr(model, "start", small)
    assert torch.equal(model.sample(10, generator=seeded()), whole)
    assert sizes == [10, 5, 2, 3, 5, 2, 3]
    assert torch.equal(model.complete(x, known, generator=seeded()), completed)
    monkeypatch.setattr(model, "start", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        model.sample(2)
