"""The codec's benchmark measures what it says, on a small model."""

import numpy as np
import pytest
import torch
from PIL import Image

from chainrule import codec
from chainrule.data import Dataset, to_nhwc
from chainrule.errors import DataError, ModelError
from chainrule.lab.bench import bench_codec, bench_pictures, bench_sampling, read_folder
from chainrule.lab.bench.codec import mosaic
from chainrule.models import MADE, PixelCNNMADE


@pytest.fixture
def dataset():
    x = torch.randint(0, 4, (40, 3, 6, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Dataset("noise", 4, x[:10], x[:10], x)


def test_figures_are_those_of_the_file(dataset):
    torch.manual_seed(0)
    model = PixelCNNMADE((3, 6, 5), 4, filters=8, blocks=1)
    figures, arrays = bench_codec(model, dataset, n=20)
    blob = codec.compress(model, to_nhwc(dataset.test[:20]))
    assert figures["file_bytes"] == len(blob)
    assert figures["file_bits_per_dim"] == pytest.approx(8 * len(blob) / (20 * 90))
    assert figures["exact_bits_per_dim"] < figures["file_bits_per_dim"]
    assert figures["times_smaller_than_best_other"] == pytest.approx(
        min(row["bytes"] for row in figures["others"]) / len(blob)
    )
    assert "xz -9e" in {row["codec"] for row in figures["others"]}
    assert arrays["heat_bits"].shape == (8, 6, 5)
    with torch.no_grad():
        bits = -model.log_prob(dataset.test[:8]).double().numpy() / np.log(2)
    assert arrays["heat_bits"].sum((1, 2)) == pytest.approx(bits, rel=0.02)


@pytest.mark.parametrize(("channels", "levels"), [(1, 17), (2, 4), (3, 256), (1, 300)])
def test_any_channels_and_levels(channels, levels):
    """The usual codecs get the same values, in two bytes where one does not hold them."""
    generator = torch.Generator().manual_seed(0)
    kind = torch.uint8 if levels <= 256 else torch.int16
    x = torch.randint(0, levels, (6, channels, 4, 4), generator=generator).to(kind)
    figures, _ = bench_codec(
        PixelCNNMADE((channels, 4, 4), levels, filters=8, blocks=1), Dataset("any", levels, x, x, x)
    )
    assert figures["raw_bytes"] == x.numel() * (1 if levels <= 256 else 2)
    assert all(row["bits_per_dim"] == 8 * row["bytes"] / x.numel() for row in figures["others"])
    # noise: whoever keeps all of it needs its bits
    assert min(row["bits_per_dim"] for row in figures["others"]) > np.log2(levels) * 0.95


def test_what_it_cannot_measure(dataset):
    with pytest.raises(ModelError, match="images"):
        bench_codec(MADE((2,), 4, (8,)), dataset)
    with pytest.raises(DataError, match="noise"):
        bench_codec(PixelCNNMADE((3, 4, 4), 4, filters=8, blocks=1), dataset)


def test_mosaic_keeps_every_image():
    images = np.arange(5 * 2 * 3 * 1).reshape(5, 2, 3, 1)
    sheet = mosaic(images)
    assert sheet.shape == (4, 9, 1)
    assert (sheet[2:4, 3:6] == images[4]).all()


def test_sampling_ratio_is_naive_over_cached():
    figures = bench_sampling(MADE((3,), 4, (8,)), n=3, repeats=2, passes=4)
    assert figures["naive_passes"] == 3
    assert figures["ratio"] == pytest.approx(3 * figures["pass_seconds"] / figures["cached_seconds"])


@pytest.mark.parametrize("kind", ["L", "RGB", "RGBA", "mixed"])
def test_a_folder_of_pictures(tmp_path, kind):
    """Ours and the others on the same pixels, a row each; one file a picture costs more than all in one."""
    rand = np.random.RandomState(0)
    for number in range(4):
        mode = ["L", "RGB", "RGBA", "RGB"][number] if kind == "mixed" else kind
        size = (16 + number * (kind == "mixed"), 20)
        shape = size if mode == "L" else (*size, len(mode))
        Image.fromarray(np.cumsum(rand.randint(0, 3, shape), 0).astype(np.uint8)).save(tmp_path / f"{number}.png")
    rows = {row["codec"]: row for row in bench_pictures(read_folder(tmp_path))}
    ours, png, xz = rows["chainrule"], rows["PNG, optimised"], rows["xz -9e"]
    assert ours["bits_all_in_one"] < ours["bits_per_subpixel"]
    assert ours["bytes"] < png["bytes"] + 4 * 64
    assert (png["bits_all_in_one"] is None) == (kind == "mixed")
    assert xz["bits_per_subpixel"] is None
    sizes = {round(r["bytes"] * 8 / r["bits_per_subpixel"]) for r in rows.values() if r["bits_per_subpixel"]}
    assert len(sizes) == 1  # the same sub-pixels
    assert next(bench_pictures(read_folder(tmp_path, 1)))["bits_all_in_one"] is None
    assert all(row["memory_MB"] is None or row["memory_MB"] >= 0 for row in rows.values())
