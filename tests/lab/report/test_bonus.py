"""The bonus section: there when its folder is given, with its figures."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chainrule.cli import main
from chainrule.errors import DataError
from chainrule.lab.report import build
from chainrule.lab.report.bonus_folder import read_bonus
from chainrule.lab.report.page import colorings

from .page import Page, page_of
from .runs import write_bonus, write_bonus_run, write_run

PARTS = ("steps", "time", "sight", "samples", "grayscale", "classes", "quality", "photos", "digits")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bonus(tmp_path_factory.mktemp("bonus") / "bonus")


@pytest.fixture(scope="module")
def out(folder: Path) -> Path:
    write_run(folder.parent / "pixelcnn-made", "pixelcnn-made")
    build([folder.parent / "pixelcnn-made"], folder.parent / "out", bonus=folder)
    return folder.parent / "out"


@pytest.fixture(scope="module")
def page(out: Path) -> Page:
    return page_of(out)


def test_the_section_has_its_headings_and_the_contents_lead_there(page: Page) -> None:
    assert page.text("bonus").startswith("Bonus Other models at the same budget")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [name for name in ids if str(name).startswith("bonus-")] == [f"bonus-{part}" for part in (*PARTS, "runs")]
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert {"#bonus", *(f"#bonus-{part}" for part in PARTS)} <= set(links)
    assert all(str(link)[1:] in ids for link in links)
    assert "make bonus" not in page.text()


ROWS = {
    "steps": [
        "PixelCNN hopper-mnist 1,000 3,200 0.2000 −23.5 108",
        "PixelCNN-MADE 3 seeds hopper-mnist 1,000 3,200 0.1620 ± 0.0020 – 114 ± 1",
        "Gated PixelCNN hopper-mnist 1,000 3,200 0.1900 −17.3 105",
        "Gated PixelCNN-MADE hopper-mnist 1,000 3,200 0.1440 11.1 110",
        "Logistic PixelCNN hopper-mnist 1,000 3,200 0.1700 −4.9 108",
        "Grayscale PixelCNN hopper-mnist 1,000 3,200 0.1500 7.4 109",
        "Class-conditional PixelCNN hopper-mnist 1,000 3,200 0.1420 12.3 117",
        "PixelIQN 3 seeds; quantile loss 0.0123 hopper-mnist 1,010 3,200 – – 104 ± 1",
    ],
    "time": [
        "PixelCNN hopper-mnist 1,000 2,000 0.1990 −22.8 108",
        "PixelCNN-MADE 3 seeds hopper-mnist 1,000 3,200 0.1620 ± 0.0020 – 114 ± 1",
        "Gated PixelCNN hopper-mnist 1,000 2,000 0.1950 −20.4 105",
        "Gated PixelCNN-MADE hopper-mnist 1,000 2,000 0.1520 6.2 110",
        "Class-conditional PixelCNN hopper-mnist 1,000 2,000 0.1505 7.1 117",
        "gated 99 31.2 30.5 40.2 1.60 2,000",
    ],
    "photos": ["PixelCNN photos 1,000 3,200 5.0000 −4.2 108", "Logistic PixelCNN photos 1,000 3,200 4.5600 5.0 108"],
    "digits": ["PixelCNN-MADE 2 seeds digits 1,000 3,200 1.8500 ± 0.0707 – 114 ± 1"],
    "quality": [
        "Fréchet distance Class entropy bits Share surer than 0.9 Share surer than 0.99 Marginal error",
        "PixelCNN-MADE 3 seeds 31.000 ± 1.000 3.300 ± 0.100 0.800",
        "PixelIQN 3 seeds 21.000 ± 1.000 3.200 0.710 ± 0.010",
        "Real images 1.500 3.300 0.990",
        "Calibration of the conditionals",
        "PixelCNN-MADE 3 seeds 0.0060 ± 0.0010 0.0500 0.0200 250",
        "PixelIQN 3 seeds 0.0210 ± 0.0010 0.0500 0.0800 250",
    ],
    "grayscale": ["The gray image 0.0500 bits/dim Colours, given gray 0.1000 bits/dim Both 0.1500 bits/dim"],
}


@pytest.mark.parametrize("part", ROWS)
def test_tables_hold_every_model_with_seeds_as_mean_and_spread(page: Page, part: str) -> None:
    text = page.text(f"bonus-{part}")
    places = [text.index(row) for row in ROWS[part]]
    assert places == sorted(places)


def test_the_best_of_a_table_is_marked_and_never_one_that_knows_the_class(out: Path) -> None:
    html = (out / "index.html").read_text(encoding="utf-8")
    strong = re.findall(r'<td class="n strong">([^<]*)</td>', html[html.index('id="bonus-steps"') :])
    assert strong == ["0.1440", "0.1520", "4.5600", "1.6650"]


def test_files_without_calibration_are_shown_without(folder: Path, tmp_path: Path) -> None:
    """Of a model with one such file the other seeds count; with none of another kind there is no table."""
    shutil.copytree(folder, tmp_path / "bonus")
    files = sorted((tmp_path / "bonus" / "quality").glob("*.json"))
    for path in files:
        content = json.loads(path.read_text())
        kept = {
            name: value for name, value in content.items() if "calibration" not in name and name != "uncertain_share"
        }
        if path.stem != "iqn-1":
            path.write_text(json.dumps(kept))
    build([], tmp_path / "out", bonus=tmp_path / "bonus")
    text = page_of(tmp_path / "out").text("bonus-quality")
    assert "PixelIQN 3 seeds 21.000 ± 1.000" in text
    assert "PixelIQN 0.0210 0.0500 0.0800" in text
    (tmp_path / "bonus" / "quality" / "iqn-1.json").unlink()
    build([], tmp_path / "out", bonus=tmp_path / "bonus")
    text = page_of(tmp_path / "out").text("bonus-quality")
    assert "PixelIQN 2 seeds" in text
    assert "alibration" not in text


def test_pictures_are_described_and_inside_the_page(page: Page, out: Path) -> None:
    alts = [str(image["alt"]) for image in page.images()]
    assert all(len(alt) > 20 for alt in alts)
    assert sum("25 samples of" in alt for alt in alts) == 10 + 3 + 3
    assert sum("colourings of it drawn by Grayscale PixelCNN" in alt for alt in alts) == 1
    assert sum("100 samples of Class-conditional PixelCNN" in alt for alt in alts) == 1
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed")
        assert str(attributes.get("src", "data:")).startswith("data:")
    assert not re.search(r"url\(|@import", (out / "index.html").read_text(encoding="utf-8"))


def test_a_masked_and_a_gated_network_show_what_they_see(folder: Path, tmp_path: Path, page: Page) -> None:
    """The stronger pair where both are there, else the other."""
    assert sum("Receptive field of pixel (4, 4), channel 0, of" in str(one["alt"]) for one in page.images()) == 3
    shutil.copytree(folder / "steps", tmp_path / "bonus" / "steps")
    for pair in (("PixelCNN-MADE", "gated-made"), ("PixelCNN", "pixelcnn")):
        build([], tmp_path / "out", bonus=tmp_path / "bonus")
        text = page_of(tmp_path / "out").text("bonus-sight")
        assert f"{pair[0]} before training. Masked convolutions" in text
        assert f"Gated {pair[0]} before training. Two stacks" in text
        shutil.rmtree(tmp_path / "bonus" / "steps" / pair[1])
    build([], tmp_path / "out", bonus=tmp_path / "bonus")
    assert "holds no receptive fields" in page_of(tmp_path / "out").text("bonus-sight")


def test_results_json_has_the_runs_and_the_measures(folder: Path, out: Path) -> None:
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert list(results) == ["pixelcnn-made", "bonus"]
    bonus = results["bonus"]
    assert list(bonus) == ["steps", "time", "photos", "digits", "quality", "bench_steps"]
    assert bonus["time"]["gated"] == json.loads((folder / "time" / "gated" / "result.json").read_text())
    assert "pixelcnn-made" not in bonus["time"]
    assert bonus["quality"]["iqn-2"]["samples"]["frechet_distance"] == 22
    assert "test_bits_per_dim" not in bonus["steps"]["iqn"]


def test_without_the_folder_there_is_no_section(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "pixelcnn-made")
    build([tmp_path / "run"], tmp_path / "out")
    page = page_of(tmp_path / "out")
    assert "bonus" not in {attributes.get("id") for _, attributes in page.tags}
    assert "same budget" not in page.text()
    assert "bonus" not in json.loads((tmp_path / "out" / "results.json").read_text())


def test_an_empty_folder_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "bonus").mkdir()
    build([], tmp_path / "out", bonus=tmp_path / "bonus")
    page = page_of(tmp_path / "out")
    for part in PARTS:
        assert "The bonus folder holds no" in page.text(f"bonus-{part}"), part
        assert "make bonus" in page.text(f"bonus-{part}")


@pytest.mark.parametrize("gone", ["steps", "time", "photos", "digits", "quality", "steps.json", "steps/iqn*"])
def test_any_part_may_be_missing(folder: Path, tmp_path: Path, gone: str) -> None:
    shutil.copytree(folder, tmp_path / "bonus")
    for path in (tmp_path / "bonus").glob(gone):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    build([], tmp_path / "out", bonus=tmp_path / "bonus")
    page = page_of(tmp_path / "out")
    text = page.text()
    assert ("How long a step takes" in text) == (tmp_path / "bonus" / "steps.json").exists()
    for part, said in (
        ("steps", "holds no runs at the same number of steps"),
        ("time", "holds no runs of the same training time"),
        ("quality", "holds no measures of samples"),
        ("photos", "holds no runs on 8-bit images"),
        ("digits", "holds no runs on small gray digits"),
    ):
        assert (said in text) == (gone == part)
    assert ("Left out, since the folder holds no runs of them: PixelIQN." in text) == (gone == "steps/iqn*")


def test_what_is_unequal_stands_in_the_table(tmp_path: Path) -> None:
    write_bonus(tmp_path / "bonus")
    write_bonus_run(tmp_path / "bonus" / "steps" / "gated", "gated", "steps", 0.19, steps=3000)
    write_bonus_run(tmp_path / "bonus" / "time" / "gated", "gated", "time", 0.19, train_seconds=216.0, data="other")
    build([], tmp_path / "out", bonus=tmp_path / "bonus")
    page = page_of(tmp_path / "out")
    assert "Gated PixelCNN hopper-mnist 1,000 3,000 0.1900" in page.text("bonus-steps")
    assert "Gated PixelCNN other 1,000 2,000 0.1900 −17.3 216" in page.text("bonus-time")


def test_the_full_preset_has_a_table_of_its_own(tmp_path: Path) -> None:
    for name, bits in (("pixelcnn-made", 0.08), ("gated-made", 0.06)):
        write_bonus_run(tmp_path / "bonus" / "full" / name, name, "full", bits, steps=21500)
    write_bonus_run(tmp_path / "bonus" / "full" / "wide", "gated-made", "full", 0.07, steps=21500)
    build([], tmp_path / "out", bonus=tmp_path / "bonus")
    text = page_of(tmp_path / "out").text("bonus-full")
    assert "Gated PixelCNN-MADE hopper-mnist 1,000 21,500 0.0600 25.0 " in text
    assert "Gated PixelCNN-MADE (wide) hopper-mnist 1,000 21,500 0.0700 12.5 " in text


def test_what_comes_from_a_folder_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    write_bonus(tmp_path / "bonus", device=evil, command=evil, title=evil, data='"><img src=x onerror=alert(1)>')
    write_bonus_run(tmp_path / "bonus" / "steps" / "<b>bold", "mine", "steps", 0.2, title=evil)
    quality = {"samples": {evil: 1.0}, "real": {}}
    (tmp_path / "bonus" / "quality" / "<i>zzz.json").write_text(json.dumps(quality))
    html = build([], tmp_path / "out", bonus=tmp_path / "bonus").read_text(encoding="utf-8")
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "<b>bold" not in html
    assert "<i>zzz" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("change", [{"test_bits_per_dim": None}, {"shape": [2]}])
def test_a_damaged_result_is_one_sentence(tmp_path: Path, change: dict[str, Any]) -> None:
    write_bonus_run(tmp_path / "bonus" / "time" / "gated", "gated", "time", 0.2, **change)
    with pytest.raises(DataError, match="gated is damaged"):
        build([], tmp_path / "out", bonus=tmp_path / "bonus")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["quality/iqn-0.json", "steps.json"])
@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"samples": {}, "rows": [{}]}', '"words"', "null"])
def test_a_damaged_measurement_is_one_sentence(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / "bonus" / "quality").mkdir(parents=True)
    (tmp_path / "bonus" / name).write_text(content)
    with pytest.raises(DataError, match=f"{Path(name).name} is damaged"):
        read_bonus(tmp_path / "bonus")


def test_a_folder_without_a_run_in_it_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bonus" / "photos" / "logistic").mkdir(parents=True)
    with pytest.raises(DataError, match="logistic holds no finished run"):
        read_bonus(tmp_path / "bonus")


def test_colourings_stand_between_gray_and_original(folder: Path) -> None:
    (run,) = (run for run in read_bonus(folder).runs if run.folder.name == "grayscale")
    image = colorings(run)
    assert image is not None
    assert image.alt.startswith("4 rows: a gray test image, colourings of it")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image.uri.split(",")[1]))))
    assert pixels.shape == (4 * 10 - 2, 5 * 10 - 2, 3)  # images of 8 × 8 with gaps of 2
    assert (pixels[:8, :8, 0] == run.arrays["gray_given"][0].astype(int) * 255 // 9).all()
    assert (pixels[:8, 40:48] == run.arrays["originals"][0].transpose(1, 2, 0).astype(int) * 255 // 3).all()


def test_the_command_line_takes_the_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--bonus", str(folder), "-o", str(tmp_path / "out")]) == 0
    assert page_of(tmp_path / "out").text("bonus")
    capsys.readouterr()
    assert main(["report", "--bonus", str(tmp_path / "none"), "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "there is no folder" in error
    assert error.count("\n") == 1
