"""The section on compression: there when it was measured, with the figures of the run folder, and not otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.errors import DataError
from chainrule.lab.report import build

from .page import page_of
from .runs import write_codec_run, write_run

HEADING = "Bonus Lossless compression"


def test_the_section_holds_the_figures_of_the_run_folder(tmp_path: Path) -> None:
    result = write_codec_run(tmp_path / "codec")
    write_run(tmp_path / "pixelcnn-made", "pixelcnn-made")
    build([tmp_path / "codec", tmp_path / "pixelcnn-made"], tmp_path / "out")
    page = page_of(tmp_path / "out")
    assert page.text("compression").startswith(HEADING)
    text = page.text("compression-1")
    for name in ("file", "exact", "model"):
        assert f"{result[name + '_bits_per_dim']:.4f} bits/dim" in text
    assert "Above the exact model’s count 33 bytes" in text
    for name, way in (("Compression", "compress"), ("Decompression", "decompress")):
        speed = f"Images {result[way + '_images_per_second']:.1f} per second"
        speed += f" Raw pixels {result[way + '_megabytes_per_second']:.3f} MB per second"
        alone = f"One image alone {result['single_image_' + way + '_seconds']:.4f} seconds"
        assert f"{name} {result[way + '_seconds']:.4f} seconds {speed} {alone}" in text
    assert f"One image in a file of its own {result['single_image_bytes']} bytes" in text
    rows = [f"chainrule (.crz) {result['file_bytes']:,} 1.00 {result['file_bits_per_dim']:.4f} 1.2345 2.3456"]
    for other in result["others"]:
        times = other["bytes"] / result["file_bytes"]
        seconds = f"{other['compress_seconds']:.4f} {other['decompress_seconds']:.4f}"
        rows.append(f"{other['codec']} {other['bytes']:,} {times:.2f} {other['bits_per_dim']:.4f} {seconds}")
    places = [text.index(row) for row in rows]
    assert places == sorted(places)
    assert "chainrule[bench]" not in text
    assert result["command"] in page.text("runs")
    assert "Lossless compression" in page.text("summary")
    assert "beforehand" not in page.text("compression-1")


def test_results_json_has_all_of_the_codecs_result(tmp_path: Path) -> None:
    result = write_codec_run(tmp_path / "a")
    write_codec_run(tmp_path / "b", images=10000)
    build([tmp_path / "a"], tmp_path / "out", recorded=[tmp_path / "b"])
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert list(results) == ["codec", "codec@b"]
    assert results["codec"] == {**result, "folder": "a", "trained_beforehand": False}
    assert results["codec@b"]["images"] == 10000


def test_without_a_benchmark_there_is_no_section(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "pixelcnn-made")
    build([tmp_path / "run"], tmp_path / "out")
    page = page_of(tmp_path / "out")
    assert "compression" not in {attributes.get("id") for _, attributes in page.tags}
    assert "ompression" not in page.text()


def test_a_benchmark_alone_makes_a_page(tmp_path: Path) -> None:
    write_codec_run(tmp_path / "codec")
    build([tmp_path / "codec"], tmp_path / "out")
    page = page_of(tmp_path / "out")
    assert "No training runs were given." in page.text("summary")
    assert page.text().count("Not trained in this report.") == 12
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert "#compression" in links
    assert all(str(link)[1:] in ids for link in links)
    assert [len(str(image["alt"])) > 20 for image in page.images()] == [True]  # where the bits go


def test_with_xz_alone_the_page_says_how_to_have_the_others(tmp_path: Path) -> None:
    others = [
        {"codec": "xz -9e", "bytes": 20000, "bits_per_dim": 0.22, "compress_seconds": 1.0, "decompress_seconds": 0.01}
    ]
    write_codec_run(tmp_path / "codec", others=others)
    build([tmp_path / "codec"], tmp_path / "out")
    text = page_of(tmp_path / "out").text("compression-1")
    assert "Codecs beyond xz need an extra" in text
    assert "pip install 'chainrule[bench]'" in text
    assert "xz -9e 20,000 1.83" in text


def test_a_benchmark_that_was_recorded_is_labelled(tmp_path: Path) -> None:
    write_codec_run(tmp_path / "new")
    write_codec_run(tmp_path / "old", images=10000, file_bits_per_dim=0.0987)
    build([tmp_path / "new"], tmp_path / "out", recorded=[tmp_path / "old"])
    page = page_of(tmp_path / "out")
    new, old = page.text("compression-1"), page.text("compression-2")
    assert "beforehand" not in new
    assert old.startswith("PixelCNN-MADE on 10,000 test images of hopper-mnist, 28,140 parameters measured beforehand")
    assert "0.0987 bits/dim" in old
    for section in ("summary", "runs"):
        assert page.text(section).count("measured beforehand") == 1
    assert "trained beforehand" not in page.text()


def test_an_exact_model_has_no_float_figures(tmp_path: Path) -> None:
    write_codec_run(tmp_path / "codec", model_bits_per_dim=None, others=[], times_smaller_than_best_other=None)
    np.savez(tmp_path / "codec" / "arrays.npz", nothing=np.zeros(1))
    build([tmp_path / "codec"], tmp_path / "out")
    text = page_of(tmp_path / "out").text("compression-1")
    assert "Float model" not in text
    assert "Bits of each pixel" not in text


@pytest.mark.parametrize(
    "change", [{"file_bytes": None}, {"others": None}, {"others": [{"codec": "PNG"}]}, {"images": "many"}]
)
def test_a_benchmark_that_lacks_figures_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    write_codec_run(tmp_path / "codec", **change)
    with pytest.raises(DataError, match="is damaged"):
        build([tmp_path / "codec"], tmp_path / "out")
