"""The fast C code beside the plain loops of reference.c: on random numbers, of sizes that fill no register.

Where sums are exact they agree bit for bit, elsewhere up to rounding.
"""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from chainrule import compiled
from chainrule.compiled.library import library
from chainrule.compiled.walk.records import (
    ACTIVATE,
    ADD,
    ATTEND,
    GATE,
    LANES,
    NORM,
    PRODUCT,
    WIDE_LANES,
    WIDE_PRODUCT,
    EntryRecord,
    OperationRecord,
    ProgramRecord,
    WindowRecord,
)
from chainrule.fixedpoint.exact_attention import ExactCausalAttention
from chainrule.fixedpoint.exact_gates import ExactGate
from chainrule.fixedpoint.exact_softmax import LARGEST, LOGIT_BITS, TOTAL_BITS, exp_table

pytestmark = pytest.mark.skipif(not compiled.available(), reason="chainrule was installed without a C compiler")

LENGTHS = [1, 8, 33, 130]
SHARES = [1, 5]


@pytest.fixture(params=[0, 1, 2], ids=["base", "avx2", "widest"], autouse=True)
def registers(request):
    library().chainrule_limit(request.param)
    yield
    library().chainrule_limit(2)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def call(name, *arguments, result=None):
    """A function of the library; of an array it is given the address."""
    function = ctypes.CDLL(library()._name)[name]
    function.restype = result
    convert = {int: ctypes.c_int64, float: ctypes.c_double, np.ndarray: lambda a: ctypes.c_void_p(a.ctypes.data)}
    return function(*(convert[type(a)](a) if type(a) in convert else a for a in arguments))


def reference(name, *arguments, **options):
    return call(f"chainrule_reference_{name}", *arguments, **options)


def floats(*shape):
    return np.zeros(shape, np.float32)


def normals(rng, *shape):
    return rng.standard_normal(shape, np.float32)


def close(a, b, tolerance=2e-6):
    assert np.isfinite(b).all()
    assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-3)


# ---------- walk


class Steps:
    """A program of some operations, walked step by step over images in one group; `scratch` is (images, length)."""

    def __init__(self, images, operations=(), *, scratch=512, memory=LANES, shape=(1, 1), levels=2, exact=False):
        self.images, self.kept = images, [(OperationRecord * max(1, len(operations)))(*operations)]
        units, window = -(-levels // 8) * 8, WindowRecord(1, 0, 1, 1, shape[1])
        self.record = ProgramRecord(count=len(operations), operations=ctypes.addressof(self.kept[0]), memory=memory)
        seen = EntryRecord(place=0, seen=window, width=1, encoding=self.address(floats(levels)))
        self.entries = (EntryRecord * 1)(seen)
        for name, value in {
            "scratch": scratch,
            "room": 2 * units + 2 * levels,
            "entered": 1,
            "entries": ctypes.addressof(self.entries),
            "predicted": -1,
            "height": shape[0],
            "columns": shape[1],
            "channels": 1,
            "levels": levels,
            "units": units,
            "exact": int(exact),
        }.items():
            setattr(self.record, name, value)
        if exact:
            table = np.array([*exp_table(), 0], np.int64)
            self.record.exponentials, self.record.exponentials_count = self.address(table), len(table)
        self.memory, self.scratch = floats(images, memory), floats(images, scratch)
        self.heads, self.pmf = np.zeros((images, self.record.room)), np.zeros((images, levels))
        self.places = ctypes.byref(self.record), self.memory, self.scratch, self.heads, images, images, 1

    def address(self, array):
        self.kept.append(array)
        return array.ctypes.data

    def step(self, site=0):
        call("chainrule_advance", *self.places, site, None, self.pmf)
        return self.pmf


@pytest.mark.parametrize("images", [1, 2, 3, 7, 13])
@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize(("radius", "own"), [(1, 0), (1, 1), (3, 0), (3, 1)])
def test_masked_product_of_a_window(images, wide, radius, own, rng):
    """Whole numbers, whose sums are exact: at every pixel of an image, with kernels of both types."""
    height, width, channels, outputs, taps = 4, 5, 3, 20, radius + own
    lanes = WIDE_LANES if wide else LANES
    padded = -(-outputs // LANES) * LANES
    inputs = (radius * (2 * radius + 1) + taps) * channels
    weight = rng.integers(-3, 4, (padded, inputs)).astype(np.float32)
    bias = rng.integers(-3, 4, padded).astype(np.float32)
    x = rng.integers(-3, 4, (images, height, width, channels)).astype(np.float32)
    kind = np.float64 if wide else np.float32
    panels = np.ascontiguousarray(weight.reshape(-1, lanes, inputs).swapaxes(1, 2), kind)
    shift = bias.astype(kind)
    stride = (width + 2 * radius) * channels
    window = WindowRecord(radius + 1, radius, taps, channels, stride)
    enter = OperationRecord(kind=ACTIVATE, source=0, target=0, inputs=channels, to_window=window)
    product = OperationRecord(
        kind=WIDE_PRODUCT if wide else PRODUCT, source=0, target=LANES, inputs=inputs, outputs=padded
    )
    product.from_window, product.weight, product.bias = window, panels.ctypes.data, shift.ctypes.data
    walk = Steps(images, [enter, product], memory=(radius + 1) * stride, shape=(height, width))
    expected = np.zeros(outputs)
    for site in range(height * width):
        row, column = divmod(site, width)
        walk.scratch[:, :channels] = x[:, row, column]
        walk.step(site)
        for k in range(images):
            sizes = height, width, channels, radius, taps, outputs, row, column
            reference("product", *sizes, x[k], weight, bias, expected)
            assert np.array_equal(walk.scratch[k, LANES : LANES + outputs], expected)


@pytest.mark.parametrize("grid", [{}, {"scale": 16.0, "low": 0.0, "high": 40.0}], ids=["float", "grid"])
@pytest.mark.parametrize("n", LENGTHS)
def test_activation(n, grid, rng):
    operation = OperationRecord(kind=ACTIVATE, target=256, inputs=n, positive=1, whole=int(bool(grid)), **grid)
    walk, x, expected = Steps(2, [operation]), 3 * normals(rng, 2, n), floats(2, n)
    x[0, 0] = 2.5 / 16  # a tie, which goes to the even
    walk.scratch[:, :n] = x
    walk.step()
    reference("activate", 2 * n, *(grid.get(name, 0.0) for name in ("scale", "low", "high")), x, expected)
    assert np.array_equal(walk.scratch[:, 256 : 256 + n], expected)


@pytest.mark.parametrize("grid", [{}, {"scale": 256.0, "low": -600.0, "high": 600.0}], ids=["float", "grid"])
@pytest.mark.parametrize("n", LENGTHS)
def test_layer_norm_of_the_walk(n, grid, rng):
    """On a grid every sum is exact, and what is rounded is rounded in one order: the same bits."""
    x, gain, bias, expected = 2 * normals(rng, 3, n), normals(rng, n), normals(rng, n), floats(3, n)
    constant = 0.1 * n * n * grid.get("scale", 1.0) ** 2
    operation = OperationRecord(
        kind=NORM, target=256, inputs=n, whole=int(bool(grid)), constant=constant, weight=gain.ctypes.data, **grid
    )
    operation.bias = bias.ctypes.data
    walk = Steps(3, [operation])
    walk.scratch[:, :n] = x
    walk.step()
    ends = [grid.get(name, 0.0) for name in ("scale", "low", "high")]
    for k in range(3):
        reference("norm", n, *ends, constant, x[k], gain, bias, expected[k])
    found = walk.scratch[:, 256 : 256 + n]
    assert np.array_equal(found, expected) if grid else np.allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_residual_sum(rng):
    walk = Steps(3, [OperationRecord(kind=ADD, source=0, target=256, inputs=33)])
    walk.scratch[:] = normals(rng, *walk.scratch.shape)
    expected = walk.scratch[:, 256:289] + walk.scratch[:, :33]
    walk.step()
    assert np.array_equal(walk.scratch[:, 256:289], expected)


def logits_of(rng, images, levels, spread):
    """As float32, with ties and with what lies beyond the ends of the table and of the logits."""
    logits = spread * normals(rng, images, levels)
    logits[0, : levels // 2] = logits[0, 0]
    logits[1, 0] = -2.0 * LARGEST / 2**LOGIT_BITS
    logits[2, -1] = 2.0 * LARGEST / 2**LOGIT_BITS
    return logits


@pytest.mark.parametrize("spread", [0.001, 3.0, 1e5])
@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_frequencies(levels, spread, rng):
    walk, logits = Steps(5, levels=levels, exact=True), logits_of(rng, 5, levels, spread)
    walk.scratch[:, :levels] = logits
    found, expected = walk.step() * 2**TOTAL_BITS, np.zeros(levels, np.int64)
    for k in range(5):
        wide, table = logits[k].astype(np.float64), np.array(exp_table(), np.int64)
        reference("frequencies", levels, wide, table, len(table), expected)
        assert np.array_equal(found[k], expected)
        assert expected.sum() == 2**TOTAL_BITS


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_inverse_cdf(levels, rng):
    """Values without probability are never drawn, nor is one missed where rounding leaves the sum below a uniform."""
    images = 200
    walk = Steps(images, levels=levels)
    walk.scratch[:, :levels] = 3 * normals(rng, images, levels)
    walk.scratch[: images // 2, levels - 1 - levels // 3 :] = -1000.0
    u, x = rng.random(images), np.zeros(images, np.int64)
    u[::5], u[1::5] = 0.0, 1 - 2.0**-53
    pmf = walk.step().copy()
    assert (pmf[: images // 2, -1] == 0).all()
    call("chainrule_draw", *walk.places, u, None, x)
    expected = [reference("inverse_cdf", levels, pmf[k], float(u[k]), result=ctypes.c_int64) for k in range(images)]
    assert x.tolist() == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("exact", [False, True])
def test_gates(n, exact, rng):
    """By table, bit for bit; else up to rounding. Far beyond the table's ends too."""
    images = 3
    table = ExactGate().table.numpy() if exact else floats(1)
    gate = OperationRecord(kind=GATE, source=0, target=2 * n, inputs=n, whole=int(exact), high=len(table) // 2)
    gate.weight = table.ctypes.data
    walk = Steps(images, [gate], scratch=3 * n + LANES)
    walk.scratch[:, : 2 * n] = 5 * normals(rng, images, 2 * n)
    walk.scratch[:, 0] = [100, -100, 0]
    walk.step()
    for k in range(images):
        expected = floats(n)
        reference("open_gate", n, table, len(table) // 2, np.ascontiguousarray(walk.scratch[k, : 2 * n]), expected)
        found = walk.scratch[k, 2 * n : 3 * n]
        assert np.array_equal(found, expected) if exact else np.abs(found - expected).max() < 2e-6


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("heads", "depth"), [(1, 1), (3, 5), (2, 32)])
@pytest.mark.parametrize("images", [1, 3])
def test_attention(images, heads, depth, exact, rng):
    """At every pixel of several images, all heads beside each other: bit for bit in whole numbers, clamped ones too."""
    height, width, channels = 3, 5, heads * depth
    table = ExactCausalAttention().table.numpy().astype(np.float32)
    x = normals(rng, height * width, images, 3, heads, depth) * np.float32(4)
    x[4, 0, 1] *= 100
    op = OperationRecord(kind=ATTEND, inputs=channels, outputs=heads, constant=depth**-0.5, whole=int(exact))
    op.weight, op.high = (table.ctypes.data, len(table) - 1) if exact else (None, 0)
    steps = Steps(images, [op], memory=2 * channels * height * width, shape=(height, width))
    wanted = floats(depth)
    for at in range(height * width):
        steps.scratch[:, : 3 * channels] = x[at].reshape(images, -1)
        steps.step(at)
        for image in range(images):
            for head in range(heads):
                q, k, v = (x[: at + 1, image, part, head].copy() for part in range(3))
                entries = len(table) if exact else 0
                reference("attend", at + 1, depth, depth**-0.5, q[at].copy(), k, v, table, entries, wanted)
                found = steps.scratch[image, head * depth : (head + 1) * depth]
                if exact:
                    assert (found == wanted).all()
                else:
                    close(found, wanted, 2e-5)


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("words", [0, 1, 7, 40])
def test_decoded_symbols(levels, words, rng):
    """Whatever the words are, and when they run out."""
    images, sites = 5, 6
    walk = Steps(images, levels=levels, exact=True, shape=(2, 3))
    walk.scratch[:, :levels] = 3 * normals(rng, images, levels)
    frequencies = (walk.step() * 2**TOTAL_BITS).astype(np.int64)
    code = rng.integers(1, 2**32, words, np.uint32)
    x, values, rest = np.zeros((images, sites), np.int64), np.zeros(images, np.int64), np.zeros(2, np.uint64)
    call("chainrule_decode", *walk.places, code, words, values, x, rest)
    state, left, expected = np.zeros(1, np.uint64), np.array([words]), np.zeros((images, sites), np.int64)
    for site in range(sites):
        for k in range(images):
            row = np.ascontiguousarray(frequencies[k])
            expected[k, site] = reference("decode", levels, row, code, state, left, result=ctypes.c_int64)
    assert np.array_equal(x, expected)
    while int(state[0]) < 2**32 and left[0]:  # what the coder would do before the next symbol
        left[0] -= 1
        state[0] = int(state[0]) << 32 | int(code[left[0]])
    assert rest.tolist() == [int(state[0]), int(left[0])]


# ---------- training


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize("channels", LENGTHS)
def test_layer_norm(channels, relu, shares, rng):
    pixels, eps = 23, 0.1
    x, y_grad = normals(rng, pixels, channels) + 1, normals(rng, pixels, channels)
    gain, bias = normals(rng, channels), normals(rng, channels)
    y, moments, expected = floats(pixels, channels), floats(pixels, 2), floats(pixels, channels)
    call("chainrule_norm", shares, pixels, channels, 0, relu, eps, x, gain, bias, y, moments)
    reference("norm_forward", pixels, channels, relu, eps, x, gain, bias, expected)
    close(y, expected)
    x_grad, sums, x_expected = floats(pixels, channels), floats(shares, 2, channels), floats(pixels, channels)
    grads = np.zeros((2, channels))
    call("chainrule_norm_back", shares, pixels, channels, 0, relu, x, gain, bias, moments, y_grad, x_grad, sums)
    reference("norm_backward", pixels, channels, relu, eps, x, gain, bias, y_grad, x_expected, grads[0], grads[1])
    close(x_grad, x_expected, 1e-5)
    close(sums.sum(0), grads, 1e-5)


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("filters", LENGTHS)
def test_gate(filters, shares, rng):
    pixels = 23
    x, grad = 3 * normals(rng, pixels, 2 * filters), normals(rng, pixels, filters)
    for given, to in ((None, floats(pixels, filters)), (grad, floats(pixels, 2 * filters))):
        expected = np.zeros_like(to)
        call("chainrule_gate", shares, pixels, filters, 0, x, given, to)
        reference("gate", pixels, filters, x, given, expected)
        close(to, expected)


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("border", [1, 3])
@pytest.mark.parametrize("channels", LENGTHS)
def test_relu_and_border(channels, border, shares, rng):
    """Nothing is rounded."""
    sizes = images, height, width, _ = 3, 4, 5, channels
    outer = images, border + height, 2 * border + width, channels
    x, grad = normals(rng, *sizes), normals(rng, *outer)
    y, expected = normals(rng, *outer), normals(rng, *outer)
    call("chainrule_relu_pad", shares, *sizes, 0, border, x, None, y)
    reference("relu_pad", *sizes, border, x, None, expected)
    assert np.array_equal(y, expected)
    back, expected = normals(rng, *sizes), normals(rng, *sizes)
    call("chainrule_relu_pad", shares, *sizes, 0, border, grad, y, back)
    reference("relu_pad", *sizes, border, grad, y, expected)
    assert np.array_equal(back, expected)


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("variables", [1, 3, 4])
@pytest.mark.parametrize("units", LENGTHS)
def test_lookup(units, variables, shares, rng):
    """Whole numbers, whose sums are exact."""
    pixels, levels = 23, 5
    rows = variables * levels
    row = rng.integers(0, levels, (pixels, variables)) + levels * np.arange(variables)
    table, plus, grad = (rng.integers(-9, 9, s).astype("f4") for s in ((rows, units), (pixels, units), (pixels, units)))
    bias, y, expected = rng.integers(-9, 9, units).astype("f4"), floats(pixels, units), floats(pixels, units)
    sizes = shares, pixels, units, 0, variables, rows
    call("chainrule_lookup", *sizes, row, table, bias, plus, y)
    reference("lookup", pixels, units, variables, row, table, bias, plus, expected)
    assert np.array_equal(y, expected)
    plus_grad, sums, table_grad = floats(pixels, units), floats(shares, rows, units), np.zeros((rows, units))
    call("chainrule_lookup_back", *sizes, row, y, grad, plus_grad, sums)
    reference("lookup_back", pixels, units, variables, row, y, grad, expected, table_grad)
    assert np.array_equal(plus_grad, expected)
    assert np.array_equal(sums.sum(0), table_grad)


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("size", [(5, 64, 4, 5), (5, 64, 7, 40), (5, 128, 1, 3)], ids=str)
def test_residual_block(size, shares, rng):
    """Several strips, one line, more shares than the pool has workers for."""
    images, filters, height, width = size
    half, eps, shape = filters // 2, 0.01, (images, height, width, filters)
    shapes = [(filters,), (filters,), (half, filters), (half, 6, half), (filters, half), (half,), (half,), (filters,)]
    parameters = [0.3 * normals(rng, *s) for s in shapes]
    parameters[3][:, 5] = 0  # the tap behind the centre
    gain, shift, *weights = parameters
    x, y_grad = normals(rng, *shape), normals(rng, *shape)
    rooms = np.zeros(3, np.int64)
    call("chainrule_block_float_room", height, width, filters, half, rooms)
    sizes = shares, images, height, width, filters, half, eps
    packed = floats(sum(w.size for w in weights))
    narrow, scratch = floats(images, rooms[2]), floats(shares, rooms[:2].max())
    moments, y, x_grad = floats(images, height * width, 2), floats(*shape), floats(*shape)
    sums = floats(shares, sum(p.size for p in parameters))
    given = x, gain, shift, *weights, packed, moments, narrow
    call("chainrule_block_float", *sizes, *given, y, scratch)
    call("chainrule_block_float_back", *sizes, *given, y_grad, x_grad, sums, scratch)

    grads = [np.zeros(s) for s in shapes]
    pointers = [(ctypes.c_void_p * 8)(*(a.ctypes.data for a in arrays)) for arrays in (parameters, grads)]
    for k in range(images):
        wide, narrows = floats(2, *shape[1:]), floats(4, height, width, half)
        y_expected, x_expected = floats(*shape[1:]), floats(*shape[1:])
        sizes = height, width, filters, eps, x[k], pointers[0]
        reference("block", *sizes, wide[0], narrows[0], narrows[1], y_expected)
        close(y[k], y_expected, 1e-5)
        kept = wide[0], narrows[0], narrows[1], y_grad[k], wide[1], narrows[2], narrows[3]
        reference("block_back", *sizes, *kept, x_expected, pointers[1])
        close(x_grad[k], x_expected, 1e-4)
    found = np.split(sums[0], np.cumsum([p.size for p in parameters])[:-1])
    for part, grad in zip(found, grads, strict=True):
        close(part.reshape(grad.shape), grad, 1e-4)
