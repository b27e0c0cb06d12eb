"""Round trips in memory: what comes out is what went in, however it is coded."""

from __future__ import annotations

import functools
import io

import numpy as np
import pytest
import torch

from chainrule import compiled as native
from chainrule import metrics, sampling
from chainrule.codec import chunks, compress, decompress, model_blocks
from chainrule.codec.coder import Decoder, edges_of, encode
from chainrule.codec.container import Chunk, Reader
from chainrule.codec.event_coding import Encoding
from chainrule.compiled.walk.compiled_walk import CompiledWalk
from chainrule.contract import Chooser
from chainrule.data import to_nhwc
from chainrule.errors import CodecError, DataError, ModelError
from chainrule.evaluation import bits_per_dim
from chainrule.fixedpoint import calibrate, exact
from chainrule.models import MADE, Histogram, PixelCNN, PixelCNNMADE
from codec.reference import AnsDecoder
from laws import events, exact_twin


def as_given(model, x):
    """Events as a person gives them: images channels last."""
    return to_nhwc(x) if x.ndim == 4 else x.numpy()


@functools.cache
def scales_of(*arguments):
    """Found once for each model."""
    return calibrate(new(*arguments))


def new(cls, *arguments):
    torch.manual_seed(0)
    return cls(*arguments)


def small(cls=PixelCNNMADE, shape=(3, 6, 5), levels=4, filters=12, blocks=2):
    model = new(cls, shape, levels, filters, blocks)
    model.scales = scales_of(cls, shape, levels, filters, blocks)
    return model


class InTurn(Chooser):
    """A decoder that is never asked for a whole walk."""

    def __init__(self, decoder):
        self.decoder = decoder

    def __call__(self, position, site, conditional):
        return self.decoder(position, site, conditional)


def test_every_model(exact_case):
    model = exact_twin(exact_case)
    given = as_given(model, events(model, 40)).astype(np.int16)
    for chunk in (None, 7):
        back = decompress(model, compress(model, given, chunk=chunk))
        assert back.dtype == given.dtype
        assert np.array_equal(back, given)


def test_a_hundred_thousand_symbols(engine, monkeypatch):
    """Encoded with two threads, decoded with one, by both engines, at once and in chunks of 1, 7 and 1000."""
    model = exact(small(shape=(3, 8, 8)))
    x = model.sample(540, generator=torch.Generator().manual_seed(0))
    torch.set_num_threads(2)
    try:
        blob = compress(model, to_nhwc(x))
    finally:
        torch.set_num_threads(1)
    assert x.numel() > 100_000
    for compiled in "01":
        monkeypatch.setenv("CHAINRULE_COMPILED", compiled)
        assert np.array_equal(decompress(model, blob), to_nhwc(x))
    for chunk in (1, 7, 1000):
        part = to_nhwc(x[:30])
        assert np.array_equal(decompress(model, compress(model, part, chunk=chunk)), part)


def test_size_is_that_of_the_likelihood():
    model = exact(small(PixelCNN, (1, 12, 12), 2))
    x = model.sample(3000, generator=torch.Generator().manual_seed(0))
    size = len(compress(model, to_nhwc(x)))
    ideal = bits_per_dim(model, x) * x.numel() / 8
    header = 300
    assert ideal < size < ideal * 1.0003 + header + 2 * 60


def test_the_coder_is_within_a_word_of_the_information():
    """100,000 symbols of skewed distributions: the coder adds its last word and nothing that could be seen."""
    generator = torch.Generator().manual_seed(0)
    f = torch.ones(100_000, 4, dtype=torch.long)
    f[:, 0] = 2**22 - 3 - torch.randint(0, 2**16, (100_000,), generator=generator)
    f[:, 1] += 2**22 - f.sum(1)
    uniform = torch.rand(100_000, generator=generator) * 2**22
    symbols = (f.cumsum(1) <= uniform[:, None]).sum(1)
    payload = encode([(symbols, edges_of(symbols, f), f.shape[1])])
    bits = metrics.bits(-float((f.gather(1, symbols[:, None]).double() / 2**22).log().sum()))
    assert bits < 8 * len(payload) < bits * 1.0001 + 64
    assert torch.equal(Decoder(payload).decode(f.double() / 2**22), symbols)


@pytest.mark.parametrize("levels", [2, 3, 4, 100, 256, 3000])
def test_the_coder_is_the_one_in_the_specification(levels):
    """The plain decoder of docs/format.md reads what was written, for any frequencies."""
    generator = torch.Generator().manual_seed(levels)
    weight = torch.rand(400, levels, generator=generator, dtype=torch.float64) ** 8
    f = 1 + (weight / weight.sum(1, keepdim=True) * (2**22 - levels)).long()
    f[:, levels // 2] += 2**22 - f.sum(1)
    symbols = torch.randint(0, levels, (400,), generator=generator)
    decoder = AnsDecoder(encode([(symbols, edges_of(symbols, f), f.shape[1])]))
    assert [decoder.symbol(row) for row in f.tolist()] == symbols.tolist()
    assert decoder.state == 0
    assert not decoder.words


@pytest.mark.skipif(not native.available(), reason="chainrule was installed without a C compiler")
@pytest.mark.parametrize("levels", [2, 4, 200])
@pytest.mark.parametrize("cls", [PixelCNN, PixelCNNMADE])
def test_all_symbols_at_once_are_those_in_turn(cls, levels, monkeypatch):
    """Events, and the words left, for any number of events and threads: of an encoding, of parts of it, of noise."""
    model, random = exact(small(cls, (3, 4, 5), levels)), np.random.default_rng(0)
    for n, threads in ((0, 1), (1, 1), (7, 2), (60, 2)):
        x = events(model, n)
        payload = Encoding(model, x).words()
        noise = random.integers(1, 2**32, 3 * n + 1, dtype=np.uint32).tobytes()
        for words in (payload, payload[4:], noise + payload, noise, noise[:4], b""):
            at_once, in_turn = Decoder(words), Decoder(words)
            expected = sampling.walk(model, n, InTurn(in_turn))
            with monkeypatch.context() as patch:
                patch.setattr(CompiledWalk, "conditional", lambda self: pytest.fail("a step was taken by itself"))
                torch.set_num_threads(threads)
                try:
                    assert torch.equal(sampling.walk(model, n, at_once), expected)
                finally:
                    torch.set_num_threads(1)
            assert at_once._coder.get_compressed().tolist() == in_turn._coder.get_compressed().tolist()
            if words == payload:
                assert torch.equal(expected, x)
                at_once.finish()
            elif len(words) > len(payload):
                with pytest.raises(CodecError, match="damaged"):
                    at_once.finish()


def test_a_float_model_is_not_decoded_at_once():
    """Its probabilities are no integers; only the library of the coder knows what it makes of them."""
    assert Decoder(b"").whole(sampling.engines.start(small(), 3)) is None


@pytest.mark.parametrize("dtype", ["u1", "i2", "<u4", ">i4", "i8"])
def test_layouts_and_types(dtype):
    """Scaled pixels, one channel without its axis, any integer type, memory in any order."""
    model = small(PixelCNN, (1, 4, 5), 4)
    given = events(model, 9).numpy()[:, 0].astype(dtype)
    scaled = (given * 85).astype(dtype)
    for array in (given, scaled, np.asfortranarray(given), given[::-1], given[..., None]):
        back = decompress(model, compress(model, array))
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert np.array_equal(back, array)
    assert np.array_equal(decompress(model, compress(model, torch.from_numpy(given.astype("i8")))), given)


def test_nothing_is_rounded():
    model = small(PixelCNN, (1, 4, 5), 4)
    for value in (4, 84, 86, 256, -1):
        array = np.zeros((3, 4, 5), np.int64)
        array[2, 3, 4] = value
        with pytest.raises(DataError, match=f"value {value}, for which .* nothing is rounded"):
            compress(model, array)
    mixed = np.zeros((3, 4, 5), np.uint8)
    mixed[0, 0, 0], mixed[0, 0, 1] = 3, 85
    with pytest.raises(DataError, match="nothing is rounded"):
        compress(model, mixed)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 4, 5)), np.zeros((2, 5, 4), int), np.zeros((2, 1, 4, 5), int), np.array(3)]
)
def test_what_does_not_fit_is_refused(array):
    with pytest.raises(DataError):
        compress(small(PixelCNN, (1, 4, 5), 4), array)


def test_no_images():
    for model, shape in [(small(), (0, 6, 5, 3)), (Histogram(3), (0, 1)), (small(PixelCNN, (1, 4, 5)), (0, 4, 5))]:
        empty = np.zeros(shape, np.uint8)
        back = decompress(model, compress(model, empty))
        assert (back.shape, back.dtype) == (empty.shape, empty.dtype)


def test_float_and_exact_models_are_one():
    model = small()
    x = as_given(model, events(model, 5))
    twin = exact(model)
    assert compress(model, x) == compress(twin, x)
    assert np.array_equal(decompress(twin, compress(model, x)), x)
    assert np.array_equal(decompress(model, compress(twin, x)), x)


def test_an_archive_with_its_model_decodes_alone():
    for model in (small(), Histogram(5), MADE((4,), 3, (9,))):
        x = as_given(model, events(model, 5))
        assert np.array_equal(decompress(None, compress(model, x, embed_model=True)), x)
        with pytest.raises(CodecError, match="holds no model"):
            decompress(None, compress(model, x))


def test_another_model_is_refused():
    model = small()
    x = as_given(model, events(model, 5))
    blob = compress(model, x)
    other = small()
    with torch.no_grad():
        other.trunk.hidden.bias[0] += 2.0**-20
    for wrong in (other, small(levels=5), small(shape=(3, 5, 6)), Histogram(4)):
        with pytest.raises(CodecError, match="another model"):
            decompress(wrong, blob)
    with pytest.raises(ModelError, match="entry by entry"):
        decompress(torch.nn.Linear(1, 1), blob)


def test_arithmetic_that_breaks_its_promise_is_refused(monkeypatch):
    model = exact(small())
    blob = compress(model, as_given(model, events(model, 5)))
    reader = Reader(io.BytesIO(blob))
    reader.next()
    ((known, _),) = reader.models
    layer = model.trunk.hidden
    layer.forward = lambda x: type(layer).forward(layer, x) + 2.0**-8
    monkeypatch.setattr(model_blocks, "fingerprint", lambda _: bytes.fromhex(known.fingerprint))
    with pytest.raises(CodecError, match="arithmetic"):
        decompress(model, blob)


def test_a_wrong_symbol_is_noticed():
    """Even past all checksums: the events' own digest has the last word."""
    model = exact(small())
    x = events(model, 5)
    reader = Reader(io.BytesIO(compress(model, as_given(model, x))))
    chunk, models = reader.next(), model_blocks.Unpacking(reader, [model])
    payload, other = Encoding(model, x).words(), Encoding(model, (x + 1) % 4).words()
    assert chunk.payload == b"\0" + payload
    for payload_ in (other, payload[:-4], payload + bytes([1, 2, 3, 4] * 3), b"", bytes(len(payload)), b"\xff" * 400):
        with pytest.raises(CodecError, match="damaged"):
            chunks.decode_chunk(Chunk(chunk.member, 0, 5, chunk.digest, b"\0" + payload_), models)
    assert chunks.decode_chunk(chunk, models) == as_given(model, x).astype(chunk.member.dtype).tobytes()
