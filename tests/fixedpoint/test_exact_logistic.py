"""The mixture of logistics in integers: docs/format.md in Python's own, which never overflow, and the float head."""

from __future__ import annotations

import io
import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.codec import compress, decompress
from chainrule.codec.container import Reader
from chainrule.codec.event_coding import Encoding
from chainrule.errors import ModelError
from chainrule.fixedpoint import ExactSoftmax, calibrate, exact, fingerprint
from chainrule.fixedpoint.exact_logistic import MOST_COMPONENTS, ExactLogisticMixture, sigmoid_table
from chainrule.fixedpoint.exact_softmax import exp_table
from chainrule.heads import LogisticMixture
from chainrule.models import LogisticPixelCNN

SIZES = [(1, 2, 1), (1, 256, 10), (2, 3, 4), (3, 5, 2), (4, 17, 3), (2, 65536, 3)]
PREDICTED = [(3, 256, 2, 4), (4, 17, 5, 4, 2), (1, 256, 2, 3, 1)]
"""Heads behind predictions, some of which are copied."""

softmax = ExactSoftmax()


def parameters(head, n, spread=1.0, seed=0):
    return torch.randn(n, head.numbers, generator=torch.Generator().manual_seed(seed)) * spread


def random_levels(head, n):
    return torch.randint(0, head.levels, (n, head.channels), generator=torch.Generator().manual_seed(1))


def by_the_page(head, raw, x, every=1):
    """The frequencies of one pixel's channels, (C, every so many of the levels), as docs/format.md has them."""
    C, L, K, N, M = head.channels, head.levels, head.components, head.predictions, head.copies
    clamp = lambda value, most: min(max(value, -most), most)  # noqa: E731
    S, T = sigmoid_table(), [*exp_table(), 0]

    def sigmoid(z):
        z = min(max(z, -23 * 2**20), 23 * 2**20 - 1)
        i = z >> 13
        low, high = S[i + 2944], S[i + 2945]
        return low + ((high - low) * (z - 2**13 * i) >> 13)

    numbers = [float(value) for value in raw]
    take = lambda n: [numbers.pop(0) for _ in range(n)]  # noqa: E731
    logits = [clamp(round(value * 2**10), 2**24) for value in take(K)]
    share = [T[min(max(logits) - value, len(T) - 1)] >> 11 for value in logits]
    b = 11 * (16 * (L - 1)).bit_length() * 2**16
    unit = 2**15 if N else (L - 1) * 2**10
    means = [[clamp(round(value * unit), 2**48) for value in take(K - M)] + [0] * M for _ in range(C)]
    scales = [[sigmoid(clamp(round(value * 2**20) - b, 16 * 2**20)) >> 1 for value in take(K)] for _ in range(C)]
    lean = {
        (c, j): [2 * sigmoid(clamp(round(value * 2**21), 23 * 2**20)) - 2**32 for value in take(K)]
        for c in range(C)
        for j in range(c)
    }
    mixing = [
        [((4 * sigmoid(clamp(round(b * 2**20), 23 * 2**20))) - 2**33) >> 8 for b in take(C)] for _ in range(N - 1)
    ]
    p = [take(C) for _ in range(N)]
    P = [[int(value * 2**10) for value in of] for of in p]
    if N:
        lean = {
            pair: [value + int(slope * 2**32) for value in of]
            for (pair, of), slope in zip(lean.items(), take(len(lean)), strict=True)
        }
    assert not numbers
    w, found = [2 * int(value) - (L - 1) for value in x], []
    start = [[0] * C] * K
    if N:
        sums = [sum(mixing[i - 1][c] * (P[i][c] - P[0][c]) for i in range(1, N)) for c in range(C)]
        most = 16 * (L - 1) * 2**10
        start = [[clamp(P[0][c] + (sums[c] >> 24), most) for c in range(C)]] * (K - M) + [
            [round(value) * 2**10 for value in of] for of in p[2 : 2 + M]
        ]
    for c in range(C):
        more = [sum(lean[c, j][k] * (2**10 * w[j] - start[k][j]) for j in range(c)) >> 32 for k in range(K)]
        mean = [clamp(means[c][k] + start[k][c] + more[k], 16 * (L - 1) * 2**10) for k in range(K)]
        F = lambda k, e, c=c, mean=mean: sigmoid((2**10 * e - mean[k]) * scales[c][k] >> 17)  # noqa: E731
        A = sum(share) * 2**32
        D = (A >> 40) + 1

        def g(v, share=share, A=A, D=D, F=F):
            if v in (0, L):
                return A // D if v else 0
            return sum(share[k] * F(k, 2 * v - L) for k in range(K)) // D

        cumulative = lambda v, g=g: g(v) * (2**22 - L) // g(L)  # noqa: E731
        found.append([1 + cumulative(v + 1) - cumulative(v) for v in range(0, L, every)])
        mass = []
        for k in range(K):
            above = 2**32 if x[c] == L - 1 else F(k, w[c] + 1)
            below = 0 if x[c] == 0 else F(k, w[c] - 1)
            mass.append(max(1, above - below))
        product = [s * m for s, m in zip(share, mass, strict=True)]
        share = [value // ((max(product) >> 20) + 1) for value in product]
    return found


def test_table_is_the_rounded_sigmoid():
    """Every entry is the nearest integer, against 60 digits of mpmath; beyond its ends it would be flat."""
    table = sigmoid_table()
    with mpmath.workdps(60):
        sigma = lambda z: 1 / (1 + mpmath.exp(-z))  # noqa: E731
        for i in [*range(-2944, 2945, 61), -2943, -1, 0, 1, 2944]:
            assert table[i + 2944] == int(mpmath.floor(sigma(mpmath.mpf(i) / 2**7) * 2**32 + 0.5))
        assert sigma(-mpmath.mpf(23)) * 2**32 < 0.5


def test_line_between_the_entries():
    """It never falls, and stays within 10^-5 of the sigmoid (of what it is apart from 0 or 1) and two units."""
    head = ExactLogisticMixture(LogisticMixture(1, 2, 1))
    z = torch.arange(-24 * 2**20, 24 * 2**20, 997)
    before = z.clone()
    found = head.sigmoid(z)
    assert torch.equal(z, before)
    assert int(found.diff().min()) >= 0
    assert found[[0, -1]].tolist() == [0, 2**32]
    error = (found.double() * 2.0**-32 - (z.double() * 2.0**-20).sigmoid()).abs()
    assert bool((error <= 1e-5 * (-(z.double() * 2.0**-20).abs()).sigmoid() + 2.0**-31).all())


@pytest.mark.parametrize(("channels", "levels", "components"), SIZES)
@pytest.mark.parametrize("spread", [1.0, 10.0])
def test_frequencies_follow_the_page(channels, levels, components, spread):
    float_head = LogisticMixture(channels, levels, components)
    head, raw, x = ExactLogisticMixture(float_head), parameters(float_head, 4, spread), random_levels(float_head, 4)
    x[0], x[1], every = 0, levels - 1, max(1, levels // 50)
    found = softmax.frequencies(head.logits(raw, x.float()))
    for row in range(4):
        assert found[row, :, ::every].tolist() == by_the_page(float_head, raw[row], x[row], every)


def predictions(head, n, seed=2):
    """Predictions on their grid, some beyond the levels, and slopes on theirs."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(n, head.predictions * head.channels, generator=generator) * head.levels
    found = found.mul(2.0**10).round().mul(2.0**-10).clamp(-16 * (head.levels - 1), 16 * (head.levels - 1))
    slopes = torch.randn(n, head.channels * (head.channels - 1) // 2, generator=generator)
    return torch.cat([found, slopes.mul(2.0**12).round().mul(2.0**-12).clamp(-4, 4)], 1)


@pytest.mark.parametrize("size", PREDICTED)
@pytest.mark.parametrize("spread", [1.0, 10.0])
def test_frequencies_behind_predictions_follow_the_page(size, spread):
    """And so do the edges that an encoder takes, and the walk."""
    float_head = LogisticMixture(*size)
    head, x = ExactLogisticMixture(float_head), random_levels(float_head, 6)
    x[0], x[1] = 0, float_head.levels - 1
    raw = torch.cat([parameters(float_head, 6, spread), predictions(float_head, 6)], 1)
    found, edges, walk = softmax.frequencies(head.logits(raw, x.float())), head.edges(raw, x), head.start(raw)
    for row in range(6):
        assert found[row].tolist() == by_the_page(float_head, raw[row], x[row])
    assert torch.equal(edges[..., 1], found.gather(-1, x[..., None])[..., 0])
    for channel in range(float_head.channels):
        assert torch.equal(head.step_logits(walk), found[:, channel])
        walk = head.observe(walk, x[:, channel])


FLOATS = st.floats(-(2.0**127), 2.0**127, width=32, allow_subnormal=False) | st.floats(-40, 40, width=32)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_no_parameters_break_them(data):
    """Any numbers at all: sums are kept, no level is lost, nothing overflows; and the walk meets the same integers."""
    float_head = LogisticMixture(*data.draw(st.sampled_from(SIZES)))
    n, levels, channels = float_head.numbers, float_head.levels, float_head.channels
    raw = torch.tensor([data.draw(st.lists(FLOATS, min_size=n, max_size=n))])
    x = torch.tensor([data.draw(st.lists(st.integers(0, levels - 1), min_size=channels, max_size=channels))])
    head, every = ExactLogisticMixture(float_head), max(1, levels // 20)
    found = softmax.frequencies(head.logits(raw, x.float()))
    assert found.dtype == torch.int64
    assert bool((found.sum(-1) == 2**22).all())
    assert int(found.min()) >= 1
    assert found[0, :, ::every].tolist() == by_the_page(float_head, raw[0], x[0].tolist(), every)
    walk = head.start(raw)
    for channel in range(channels):
        assert torch.equal(head.step_logits(walk), found[:, channel])
        walk = head.observe(walk, x[:, channel])


@pytest.mark.parametrize(("channels", "levels", "components"), SIZES[:-1])
@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_close_to_the_float_head(channels, levels, components, spread):
    """Within a millionth (a frequency counts 2^-22, and each level has one to begin with), for later channels too."""
    float_head = LogisticMixture(channels, levels, components)
    check_closeness(float_head, parameters(float_head, 200, spread))


@pytest.mark.parametrize("size", PREDICTED)
def test_close_to_the_float_head_behind_predictions(size):
    float_head = LogisticMixture(*size)
    whole = predictions(float_head, 200)
    places = float_head.predictions * float_head.channels
    whole[:, :places] = whole[:, :places].round()  # as neighbours are
    check_closeness(float_head, torch.cat([parameters(float_head, 200, 0.5), whole], 1))


def check_closeness(float_head, raw):
    head, levels = ExactLogisticMixture(float_head), float_head.levels
    wide = float_head.logits(raw.double(), x := random_levels(float_head, 200).double()).exp()
    few = softmax.pmf(head.logits(raw, x.float()))
    likely = wide.gather(-1, x.long()[..., None])[..., 0].cumprod(-1) > 1e-6  # else shares are rough: the pixel is odd
    likely = torch.cat([torch.ones(200, 1, dtype=torch.bool), likely[:, :-1]], 1)
    assert (few - wide)[likely].abs().max() < 2e-3
    assert (few - wide)[likely].abs().mean() < 2e-4 / levels
    expected = (wide * (wide.log() - few.log())).sum(-1)[likely]
    assert float(expected.max()) < 1e-3
    assert float(expected.mean()) < 1e-4 + levels * 2.0**-22


@pytest.mark.parametrize(("channels", "levels", "components"), SIZES)
def test_the_carrier_and_the_batch_do_not_matter(channels, levels, components):
    head = ExactLogisticMixture(float_head := LogisticMixture(channels, levels, components))
    raw, x = parameters(float_head, 6, 3.0), random_levels(float_head, 6).float()
    expected = head.logits(raw, x)
    assert torch.equal(head.logits(raw.double(), x.double()), expected)
    assert torch.equal(torch.cat([head.logits(raw[k : k + 1], x[k : k + 1]) for k in range(6)]), expected)


def test_what_is_too_large_is_refused():
    with pytest.raises(ModelError, match=r"1,025 components have no exact form"):
        ExactLogisticMixture(LogisticMixture(1, 2, MOST_COMPONENTS + 1))
    with pytest.raises(ModelError, match=r"1,025 components have no exact form"):
        exact(LogisticPixelCNN((1, 1, 1), 2, 4, 0, components=MOST_COMPONENTS + 1))
    for channels, levels, fine in ((2, 24_673, True), (2, 24_674, False), (4, 4096, True), (9, 4096, False)):
        mixture = LogisticMixture(channels, levels, 2, predictions=12)
        if fine:
            ExactLogisticMixture(mixture)
            continue
        with pytest.raises(ModelError, match="have no exact form: use fewer levels, or prediction=0"):
            ExactLogisticMixture(mixture)
    with pytest.raises(ModelError, match=r"65,537 levels are more"):
        exact(LogisticPixelCNN((1, 1, 1), 2**16 + 1, 4, 0, components=1))


def smooth_images(n, levels, size=6):
    """Ramps of two directions with a little noise, whose channels go together."""
    generator = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(n, *shape, generator=generator)  # noqa: E731
    ramp = torch.linspace(-1, 1, size)
    y = normal(3, 1, 1) * 0.3 + normal(1, 1, 1) * ramp / 2 + normal(1, 1, 1) * ramp[:, None] / 2
    y = y + normal(1, size, size) * 0.03 + normal(3, size, size) * 0.02
    return ((y + 1) / 2 * (levels - 1)).round().clamp(0, levels - 1).long()


@pytest.fixture(scope="module")
def trained():
    """A model of 256 levels, trained for a moment, and images that it has not seen."""
    x = smooth_images(700, 256)
    torch.manual_seed(0)
    model = LogisticPixelCNN((3, 6, 6), 256, 16, 1, components=3)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(120):
        loss = -model.log_prob(x[step * 5 % 600 :][:32]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval(), x[660:]


def test_costs_next_to_nothing_on_a_trained_model(trained):
    model, x = trained
    with torch.no_grad():
        bits = -float(model.log_prob(x).double().mean()) / 108 / math.log(2)
    assert bits < 6.5  # it has learned something: 8 bits at first
    for carrier, most in [("auto", 3e-3), ("float64", 3e-4)]:
        twin = exact(model, calibrate(model, x, carrier=carrier))
        assert abs(float(-twin.log_prob(x).mean()) / 108 / math.log(2) / bits - 1) < most


def test_archives(trained):
    """Encoded by the parallel pass, decoded by the walk, with the model inside; in about as many bits as promised."""
    model, x = trained
    twin = exact(model, calibrate(model, x))
    images = x[:9].permute(0, 2, 3, 1).numpy().astype(np.uint8)
    blob = compress(twin, images, embed_model=True, chunk=4)
    assert np.array_equal(decompress(None, blob), images)
    assert np.array_equal(decompress(twin, blob), images)
    reader = Reader(io.BytesIO(blob))
    reader.next()
    ((known, _),) = reader.models
    assert known.fingerprint == fingerprint(twin).hex()
    assert known.model == "LogisticPixelCNN"
    ideal = -float(twin.log_prob(x[:9]).sum()) / math.log(2)
    assert ideal < 8 * len(Encoding(twin, x[:9]).words()) < ideal * 1.001 + 64
