"""Large pictures in bands: the conditionals are those of the whole picture, and what one writes every other reads."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule.codec import bands, event_coding
from chainrule.codec.event_coding import Encoding, decode_events, most_events
from chainrule.errors import CodecError
from chainrule.fixedpoint import edges
from chainrule.models import ImageModel
from chainrule.sampling import engines
from laws import randomised


@pytest.fixture(scope="module", params=[("logistic", 256), ("made", 4)], ids=str)
def model(request):
    head, levels = request.param
    torch.manual_seed(0)
    kinds = 2 if head == "logistic" else None
    found = ImageModel((3, None, None), levels, "masked", head, filters=6, blocks=2, layer_norm=False, prediction=kinds)
    return cr.exact(randomised(found, dtype=torch.float32))


def few(monkeypatch, pixels, rows):
    """Bands of few pixels."""
    monkeypatch.setattr(bands, "BAND_PIXELS", pixels)
    monkeypatch.setattr(bands, "BAND_ROWS", rows)
    monkeypatch.setattr(event_coding, "FRONT_PIXELS", pixels)
    monkeypatch.setattr(event_coding, "FRONT_ROWS", rows)


@pytest.mark.parametrize(
    ("size", "limits"), [((13, 9), (36, 99)), ((9, 16), (10**6, 5)), ((5, 1), (1, 1)), ((30, 3), (36, 99))]
)
def test_bands_cost_what_the_picture_costs(model, size, limits, monkeypatch):
    """All of its bits, and the same pixels back, by compiled and by plain steps."""
    sized = model.sized(*size)
    x = torch.randint(model.levels, (1, 3, *size), generator=torch.Generator().manual_seed(0))
    whole = Encoding(sized, x)
    few(monkeypatch, *limits)
    found = Encoding(sized, x.byte())
    assert len(bands.bands(sized)) > 1
    assert found.bits().item() == pytest.approx(whole.bits().item(), abs=64)  # the words of the end
    words = found.words()
    assert math.isclose(8 * len(words), found.bits().item())
    assert torch.equal(decode_events(sized, words, 1).long(), x)
    monkeypatch.setattr(engines, "FASTER", {})
    assert Encoding(sized, x).words() == words
    assert torch.equal(decode_events(sized, words, 1).long(), x)


def test_bands_have_the_conditionals_of_the_whole_picture(model, monkeypatch):
    """Each entry's, to the last of 22 bits."""
    sized, pushed = model.sized(40, 7), []
    x = sized.sample(1, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(bands.Encoder, "push", lambda _, symbols, edges, levels: pushed.append(edges.long()))
    few(monkeypatch, 35, 99)
    bands.encode_bands(sized, x)
    found, wanted = torch.cat(pushed), edges(sized, x).flatten(0, 1).long()
    assert len(pushed) == 8
    assert torch.equal((found @ torch.tensor([2**23, 1])).sort()[0], (wanted @ torch.tensor([2**23, 1])).sort()[0])


def test_every_row_is_in_one_band(model):
    """And each begins with the rows that its features know of."""
    for height, width in ((1, 1), (5000, 1), (4096, 512), (4097, 512), (3000, 6000), (1, bands.WIDEST)):
        found = bands.bands(model.sized(height, width))
        assert [band.top for band in found] == [0, *(band.end for band in found[:-1])]
        assert found[-1].end == height
        for band in found:
            rows = band.end - band.top
            assert rows == 1 or (rows * width <= bands.BAND_PIXELS and rows <= bands.BAND_ROWS)
            assert band.above == min(band.top, model.trunk.reach)
        assert len(found) == 1 or most_events(model.sized(height, width)) == 1


def test_archives_of_pictures_in_bands(model, monkeypatch):
    """With alpha planes beside them, and usual codecs where these are better."""
    few(monkeypatch, 60, 99)
    x = model.sized(20, 12).sample(2, generator=torch.Generator().manual_seed(1)).permute(0, 2, 3, 1).numpy()
    pictures = [(v * 255 // (model.levels - 1)).astype(np.uint8) for v in x]
    pictures += [np.dstack([pictures[0], np.full((20, 12), 7, np.uint8)]), np.zeros((30, 10, 3), np.uint8)]
    back = cr.decompress(cr.compress(pictures, model), model)
    assert all(np.array_equal(a, b) for a, b in zip(pictures, back, strict=True))
    if model.levels == 256:
        array = np.stack(pictures[:2])
        assert np.array_equal(cr.decompress(model, cr.compress(model, array)), array)


def test_wider_pictures_are_not_for_models(model, monkeypatch):
    """Memory for one row has a bound, too: a usual codec takes them, and what claims to be one is refused."""
    monkeypatch.setattr(bands, "WIDEST", 8)
    monkeypatch.setattr(event_coding, "WIDEST", 8)
    picture = np.zeros((2, 9, 3), np.uint8)
    assert np.array_equal(cr.decompress(cr.compress([picture], model))[0], picture)
    with pytest.raises(CodecError, match="more images than any has"):
        decode_events(model.sized(2, 9), b"", 1)
