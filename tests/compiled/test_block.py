"""The compiled residual block in both precisions: PyTorch's numbers and gradients, and causal."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from chainrule import compiled as native
from chainrule import plugins
from chainrule.compiled.library import library
from chainrule.compiled.training import block, known_passes
from chainrule.compiled.training import layer_passes as layers
from chainrule.models import PixelCNN, PixelCNNMADE
from chainrule.nn import MaskedConv2d, ResidualBlock
from laws import events

pytestmark = pytest.mark.skipif(not native.available(), reason="chainrule was installed without a C compiler")
multiplies = native.available() and bool(library().chainrule_multiplies())

SIZES = [(3, 64, 5, 7), (4, 128, 6, 6), (3, 192, 1, 1), (5, 64, 1, 9), (3, 64, 28, 28), (3, 64, 3, 200)]

plugins.load()


def takes(made, x):
    """Whether the whole block is one piece of compiled code for this input."""
    return known_passes.residual_block(made, x) is not None


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request):
    if request.param == "bfloat16" and not multiplies:
        pytest.skip("no bfloat16 in this processor")
    return getattr(torch, request.param)


@pytest.fixture(params=[0, 1, 2])
def registers(request):
    """None wider than the family's, AVX2, all that the processor has."""
    library().chainrule_limit(request.param)
    yield request.param
    library().chainrule_limit(2)


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def block_and_input(batch, filters, height, width, dtype=torch.float32):
    torch.manual_seed(0)
    made = ResidualBlock(filters).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    x = torch.randn(batch, filters, height, width).to(dtype)
    return made, x.contiguous(memory_format=torch.channels_last).requires_grad_()


def outcome(made, x, grad):
    """Its output and all gradients."""
    with torch.autocast("cpu", torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        y = made(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *made.parameters()], grad)]


def distance(a, b):
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_as_exact_as_pytorch(size, threads, dtype, monkeypatch):
    """Beside float64, the output and each gradient are about as near as PyTorch's in the same precision."""
    made, x = block_and_input(*size, dtype)
    assert takes(made, x)
    grad = torch.randn(x.shape).to(dtype)
    exact = outcome(copy.deepcopy(made).double(), x.detach().double().requires_grad_(), grad.double())
    ours = outcome(made, x, grad)
    monkeypatch.setenv("CHAINRULE_COMPILED", "0")
    usual = outcome(made, x, grad)
    for a, b, truth in zip(ours, usual, exact, strict=True):
        assert a.shape == truth.shape
        slack = (1.3, 2e-3) if dtype == torch.bfloat16 else (4.0, 1e-6)  # sums in another order
        assert distance(a, truth) <= slack[0] * distance(b, truth) + slack[1]


@pytest.mark.parametrize("size", [(3, 64, 5, 7), (2, 128, 3, 40)], ids=str)
def test_every_kind_of_processor(size, registers):
    """float32 whatever the registers: near float64."""
    made, x = block_and_input(*size)
    grad = torch.randn(x.shape)
    exact = outcome(copy.deepcopy(made).double(), x.detach().double().requires_grad_(), grad.double())
    for a, truth in zip(outcome(made, x, grad), exact, strict=True):
        assert distance(a, truth) < 5e-6


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_exact_where_nothing_is_rounded(size, threads, dtype):
    """Small whole numbers, which bfloat16 holds: forwards and back every sum is right, at every border."""
    made, x = block_and_input(*size, dtype)
    batch, filters, height, width = size
    signs = torch.arange(filters) % 2 * 2.0 - 1  # of mean 0 and variance 1, so that the norm leaves them alone
    flip = torch.randint(0, 2, (batch, 1, height, width)) * 2.0 - 1
    made.norm.eps = 0.0
    with torch.no_grad():
        x.copy_(signs[:, None, None] * flip)
        made.norm.weight.fill_(1.0), made.norm.bias.copy_(torch.randint(0, 2, (filters,)))
        for layer in (made.reduce, made.spatial, made.expand):
            layer.weight.copy_((torch.rand(layer.weight.shape) < 0.06) * torch.randn(layer.weight.shape).sign())
            layer.bias.copy_(torch.randint(-1, 2, layer.bias.shape))
    grad = (torch.rand(x.shape) < 0.1) * torch.randn(x.shape).sign()
    assert takes(made, x)
    ours = outcome(made, x, grad.to(dtype))
    exact = outcome(copy.deepcopy(made).double(), x.detach().double().requires_grad_(), grad.double())
    names = ["y", "x", *(name for name, _ in made.named_parameters())]
    assert float(exact[0].abs().max()) <= 256  # or y itself would be rounded
    for name, a, truth in zip(names, ours, exact, strict=True):
        if name == "x":  # the norm's way back divides
            assert distance(a, truth) < 5e-3
        else:
            assert torch.equal(a.double(), truth), name


def test_no_pixel_sees_a_later_one(threads, dtype):
    made, x = block_and_input(3, 64, 4, 5, dtype)
    with torch.no_grad():
        before = made(x)
        for i in range(4):
            for j in range(5):
                other = x.clone()
                other[:, :, i, j] += 1.0
                changed = (made(other) != before).any(1).any(0).flatten()
                place = i * 5 + j
                assert changed[: place + 1].tolist() == [False] * place + [True]


def test_what_is_not_a_number_stays_none(dtype):
    made, x = block_and_input(3, 64, 3, 3, dtype)
    x.data[1, 5, 1, 1] = float("nan")
    y = made(x).isnan().any(1)
    assert y[1].tolist() == [[False, False, False], [False, True, True], [True, True, True]]
    assert not bool(y[[0, 2]].any())


def test_gradients_of_gradients(dtype):
    """They are PyTorch's own."""
    made, x = block_and_input(2, 64, 3, 4, dtype)
    torch.set_num_threads(1)

    def second(made, x):
        with torch.autocast("cpu", torch.bfloat16, enabled=x.dtype == torch.bfloat16):
            y = made(x)
        (g,) = torch.autograd.grad(y.float().square().sum(), x, create_graph=True)
        return torch.autograd.grad(g.float().square().sum(), list(made.parameters()), allow_unused=True)

    exact = second(copy.deepcopy(made).double(), x.detach().double().requires_grad_())
    for a, truth in zip(second(made, x), exact, strict=True):
        assert (a is None and truth is None) or distance(a, truth) < 0.05


def test_many_gradients_at_once(dtype):
    made, x = block_and_input(1, 64, 2, 2, dtype)
    torch.set_num_threads(1)
    y = made(x)[0, :3, 1, 1]
    at_once = torch.autograd.grad(y, x, torch.eye(3, dtype=dtype), is_grads_batched=True, retain_graph=True)[0]
    one_by_one = torch.stack([torch.autograd.grad(v, x, retain_graph=True)[0] for v in y])
    assert distance(at_once, one_by_one) < 0.02


def test_what_it_leaves_to_pytorch(threads, dtype):
    """Other numbers, other channels, other layers, fewer images than threads, an observer within."""
    made, x = block_and_input(3, 64, 2, 2, dtype)
    assert takes(made, x)
    assert not takes(copy.deepcopy(made).double(), x)
    assert not takes(made, x.detach().double())
    assert not takes(made, x.detach().half())
    assert not takes(made, x.detach().contiguous())
    assert takes(made, x[:1]) is (threads == 1)
    assert not takes(ResidualBlock(96), torch.zeros(3, 96, 2, 2).to(dtype).to(memory_format=torch.channels_last))
    assert not takes(ResidualBlock(64, layer_norm=False), x)
    with torch.autocast("cpu", torch.bfloat16):
        assert takes(made, x) is (dtype == torch.bfloat16)
    library().chainrule_limit(1)
    assert takes(made, x) is (dtype == torch.float32)
    library().chainrule_limit(2)
    seen = []
    hook = made.spatial.register_forward_hook(lambda *_: seen.append(1))
    assert not takes(made, x)
    hook.remove()
    assert takes(made, x)

    for other in (MaskedConv2d(32, 32, 5, "B"), MaskedConv2d(32, 32, 3, "A")):
        third = copy.deepcopy(made)
        third.spatial = other
        assert not takes(third, x)
    prune.l1_unstructured(pruned := copy.deepcopy(made).expand, "weight", 0.5)
    third = copy.deepcopy(made)
    third.expand = pruned  # its weight is made anew by a hook before each pass
    assert not takes(third, x)

    class Other(MaskedConv2d):
        pass

    made.spatial = Other(32, 32, 3, "B")
    assert not takes(made, x)


@pytest.mark.parametrize("cls", [PixelCNN, PixelCNNMADE])
def test_models_learn_alike_with_and_without(cls, threads, dtype, monkeypatch):
    """A few steps of training, by compiled blocks and by PyTorch's operations."""
    torch.manual_seed(0)
    first = cls((3, 6, 5), 4, filters=64, blocks=2)
    x, losses = events(first, 12), {}
    for name, fits in (("compiled", block.fits), ("usual", lambda x, half: False)):
        monkeypatch.setattr(block, "fits", fits)
        model = copy.deepcopy(first)
        optimizer = torch.optim.Adam(model.parameters(), 2e-3)
        for _ in range(20):
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                loss = model.loss(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[name] = float(loss.detach())
    assert losses["compiled"] < 0.95 * float(first.loss(x).detach())
    assert abs(losses["compiled"] / losses["usual"] - 1) < (0.02 if dtype == torch.bfloat16 else 5e-3)


def test_kernels_in_any_memory_order(dtype):
    """Kernels are read as they lie, and gradients have their shapes."""
    made, x = block_and_input(3, 64, 4, 4, dtype)
    grad = torch.randn(x.shape).to(dtype)
    found = outcome(made, x, grad)
    for layer in (made.reduce, made.spatial, made.expand):
        layer.weight = nn.Parameter(layer.weight.detach().contiguous(memory_format=torch.contiguous_format))
    assert all(torch.equal(a, b) for a, b in zip(found, outcome(made, x, grad), strict=True))
    assert layers.fits(found[0])


FEWER_THREADS = """
import copy, os, torch
from chainrule import plugins
from chainrule.compiled.training.known_passes import residual_block
from chainrule.nn import ResidualBlock
plugins.load()
torch.get_num_threads = lambda: 3
before = len(os.listdir("/proc/self/task"))
torch.manual_seed(0)
made = ResidualBlock(64).to(memory_format=torch.channels_last)
x = torch.randn(7, 64, 5, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
assert residual_block(made, x) is not None
twice = copy.deepcopy(made).double()
found = torch.autograd.grad(made(x).square().sum(), [x, *made.parameters()])
wide = x.detach().double().requires_grad_()
truth = torch.autograd.grad(twice(wide).square().sum(), [wide, *twice.parameters()])
for a, b in zip(found, truth, strict=True):
    assert (a - b).norm() < 1e-5 * b.norm()
assert len(os.listdir("/proc/self/task")) == before
"""


def test_shares_that_get_no_thread():
    """The gradients are whole where OpenMP gives fewer threads than it is asked for."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1"}
    subprocess.run([sys.executable, "-c", FEWER_THREADS], env=environment, check=True, timeout=300)


NO_THREADS = """
import os, torch
from chainrule.models import PixelCNN
torch.manual_seed(0)
model = PixelCNN((1, 6, 5), 3, 8, 1).eval()
draw = lambda: model.sample(90, generator=torch.Generator().manual_seed(0))
wanted, before = draw(), len(os.listdir("/proc/self/task"))
torch.get_num_threads = lambda: 3
assert torch.equal(draw(), wanted)
assert len(os.listdir("/proc/self/task")) == before
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in /proc")
def test_a_walk_that_gets_no_thread():
    """The samples are the same where no thread is to be had: here because its stack would be larger than the memory."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if hard != resource.RLIM_INFINITY:
        pytest.skip("the size of stacks is limited")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-c", NO_THREADS],
        env=environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, (2**46, hard)),
        check=True,
        timeout=300,
    )
