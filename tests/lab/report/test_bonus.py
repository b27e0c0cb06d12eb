"""The bonus section: there when its folder is given, with its figures, and sentences that follow from them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.cli import main
from chainrule.errors import DataError
from chainrule.lab.report import bonus as section
from chainrule.lab.report import bonus_words as words
from chainrule.lab.report import build
from chainrule.lab.report.bonus_runs import read_bonus

from .page import Page, page_of
from .runs import write_bonus, write_bonus_run, write_run

PARTS = ("table", "sight", "samples", "grayscale", "classes", "quality", "photos", "digits")


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


def test_one_table_holds_every_model_by_steps_and_by_time(page: Page) -> None:
    text = page.text("bonus-table")
    rows = [
        "PixelCNN 1,000 0.2000 −23.5 108 2,000 0.1990 −22.8 108",
        "PixelCNN-MADE 3 seeds 1,000 0.1620 ± 0.0020 114 ± 1 3,200 0.1620 ± 0.0020 114 ± 1",
        "Gated PixelCNN 1,000 0.1900 −17.3 105 2,000 0.1950 −20.4 105",
        "Gated PixelCNN-MADE 1,000 0.1440 11.1 110 2,000 0.1520 6.2 110",
        "Logistic PixelCNN 1,000 0.1700 −4.9 108 not trained",
        "Grayscale PixelCNN 1,000 0.1500 7.4 109 not trained",
        "Class-conditional PixelCNN 1,000 0.1420 12.3 117 2,000 0.1505 7.1 117",
        "PixelIQN 3 seeds; no likelihood; quantile loss 0.0123 ± 0.0000 1,010 – – 104 ± 1 not trained",
    ]
    places = [text.index(row) for row in rows]
    assert places == sorted(places)
    assert "gated 99 31.2 30.5 to 40.2 1.60 2,000" in text


def test_sentences_follow_from_the_figures(page: Page) -> None:
    text = page.text("bonus-table")
    assert "At the same number of steps, compared with the 0.1620 ± 0.0020 bits/dim of PixelCNN-MADE" in text
    assert "Class-conditional PixelCNN needs 12.3 % fewer, Gated PixelCNN-MADE 11.1 % fewer" in text
    assert "In the same training time" in text
    assert "Gated PixelCNN-MADE 6.2 % fewer" in text
    assert "3 seeds of PixelCNN-MADE lie from 0.1600 to 0.1640 bits/dim, 2.5 % apart." in text
    assert "compared with PixelCNN, Gated PixelCNN needs 5.0 % fewer bits at the same number of steps and 2.0 %" in text
    assert "compared with Gated PixelCNN-MADE, Class-conditional PixelCNN needs 1.4 % fewer bits" in text
    assert f"log₂ 10 bits, {np.log2(10) / 192:.4f} bits/dim" in text
    assert "3,200 steps on batches of 100" in text
    assert "cannot be compared" not in text
    gray = page.text("bonus-grayscale")
    assert (
        "costs 0.0500 bits for each colour entry, the colours given the gray image 0.1000, both together 0.1500" in gray
    )
    assert "take 30.6 % fewer bits, and with the gray image counted in, 4.2 % more" in gray
    summary = page.text("summary")
    assert "Gated PixelCNN-MADE has the fewest bits, 0.1440 bits/dim (11.1 % fewer than PixelCNN-MADE)" in summary
    photos = page.text("bonus-photos")
    assert "256 levels of photos, Logistic PixelCNN needs 8.8 % fewer bits than PixelCNN and 5.0 % fewer" in photos
    assert "4 levels of hopper-mnist, Logistic PixelCNN needs 15.0 % fewer bits than PixelCNN, 4.9 % more" in photos
    digits = page.text("bonus-digits")
    assert "PixelCNN-MADE 2 seeds 1,000 1.8500 ± 0.0707" in digits
    assert "17 levels of digits, Logistic PixelCNN needs 10.0 % fewer bits than PixelCNN-MADE and 2.1 %" in digits
    assert "2 seeds of PixelCNN-MADE lie from 1.8000 to 1.9000 bits/dim, 5.6 % apart." in digits
    assert "4 of the 4 runs overfit: their validation loss was least after 40 of 3,200 steps" in digits
    assert "The training set has 1,257 images." in digits


def test_quality_is_compared_over_seeds(page: Page) -> None:
    text = page.text("bonus-quality")
    assert "Fréchet distance Class entropy (bits) Share surer than 0.9 Novelty" in text
    assert "PixelIQN 3 seeds 21.000 ± 1.000 3.200 ± 0.000 0.710 ± 0.010 0.500 ± 0.000" in text
    assert "Real images 1.500 3.300 0.990 0.500" in text
    assert "every seed of PixelIQN is nearer to real images than any of PixelCNN-MADE" in text
    assert "PixelCNN-MADE is nearer to real images on average, but the seeds overlap" in text
    assert "PixelIQN is the nearer on 1 and PixelCNN-MADE on 2 of these 3 measures" in text
    assert "1,010 parameters, 1.0 % more than PixelCNN-MADE with 1,000" in text


def test_calibration_is_compared_over_seeds(page: Page) -> None:
    text = page.text("bonus-quality")
    assert "Calibration of the conditionals on 250 test images" in text
    assert "PixelIQN 3 seeds 0.0210 ± 0.0010 0.0500 ± 0.0000 0.0800 ± 0.0000" in text
    assert "PixelCNN-MADE 3 seeds 0.0060 ± 0.0010 0.0500 ± 0.0000 0.0200 ± 0.0000" in text
    assert (
        "calibration error of its quantiles is 0.0210 ± 0.0010, 0.0800 ± 0.0000 among the entries of which it is not "
        "certain; that of PixelCNN-MADE's distributions is 0.0060 ± 0.0010, 0.0200 ± 0.0000 among such entries."
    ) in text


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
    assert "of its quantiles is 0.0210, 0.0800 among the entries of which it is not certain." in text
    (tmp_path / "bonus" / "quality" / "iqn-1.json").unlink()
    build([], tmp_path / "out", bonus=tmp_path / "bonus")
    text = page_of(tmp_path / "out").text("bonus-quality")
    assert "PixelIQN 2 seeds" in text
    assert "alibration" not in text


def test_pictures_are_described_and_inside_the_page(page: Page, out: Path) -> None:
    alts = [str(image["alt"]) for image in page.images()]
    assert all(len(alt) > 20 for alt in alts)
    assert sum("25 samples of" in alt for alt in alts) == 8 + 3 + 3
    assert sum("colourings of it drawn by Grayscale PixelCNN" in alt for alt in alts) == 1
    assert sum("one for each of the classes 0 to 9" in alt for alt in alts) == 1
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed")
        assert str(attributes.get("src", "data:")).startswith("data:")
    assert not re.search(r"url\(|@import", (out / "index.html").read_text(encoding="utf-8"))


def test_a_masked_and_a_gated_network_show_what_they_see(folder: Path, tmp_path: Path, page: Page) -> None:
    """By the sentences of part 3, each about its own picture."""
    assert sum("Receptive field of pixel (4, 4), channel 0, of" in str(one["alt"]) for one in page.images()) == 3
    shutil.copytree(folder / "steps", tmp_path / "bonus" / "steps")
    for name, seen in (("gated-made", 8), ("gated", 8), ("pixelcnn", 5)):
        field = np.zeros((8, 8))
        field[:4, :seen], field[4, :4] = 1e-3, 1e-2
        np.savez(tmp_path / "bonus" / "steps" / name / "arrays.npz", receptive_field=field)
    build([], tmp_path / "out", bonus=tmp_path / "bonus")
    text = page_of(tmp_path / "out").text("bonus-sight")
    masked, gated = text.split("PixelCNN-MADE before training.")[1:]
    assert "this is the blind spot" in masked
    assert gated.split(" Samples")[0].strip() == "All rows above are seen in full: there is no blind spot."
    shutil.rmtree(tmp_path / "bonus" / "steps" / "gated-made")
    build([], tmp_path / "out", bonus=tmp_path / "bonus")
    assert " PixelCNN before training." in page_of(tmp_path / "out").text("bonus-sight")
    shutil.rmtree(tmp_path / "bonus" / "steps" / "pixelcnn")
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
    assert "Other models at the same budget" not in page.text("summary")


@pytest.mark.parametrize(
    "gone", ["steps", "time", "photos", "digits", "quality", "steps.json", "steps/pixelcnn-made*", "steps/iqn*"]
)
def test_any_part_may_be_missing(folder: Path, tmp_path: Path, gone: str) -> None:
    shutil.copytree(folder, tmp_path / "bonus")
    for path in (tmp_path / "bonus").glob(gone):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    build([], tmp_path / "out", bonus=tmp_path / "bonus")
    page = page_of(tmp_path / "out")
    text = page.text()
    assert ("How long a step takes" in text) == (tmp_path / "bonus" / "steps.json").exists()
    assert ("By steps" in page.text("bonus-table")) == (gone != "steps")
    assert ("By time" in page.text("bonus-table")) == (gone != "time")
    assert ("holds no measures of samples" in text) == (gone == "quality")
    assert ("holds no runs on 8-bit images" in text) == (gone == "photos")
    assert ("holds no runs on small gray digits" in text) == (gone == "digits")
    if gone == "steps/iqn*":
        assert "holds no runs of it: PixelIQN." in text


def test_what_is_unequal_is_said(tmp_path: Path) -> None:
    write_bonus(tmp_path / "bonus")
    write_bonus_run(tmp_path / "bonus" / "steps" / "gated", "gated", "steps", 0.19, steps=3000)
    write_bonus_run(tmp_path / "bonus" / "time" / "gated", "gated", "time", 0.19, train_seconds=216.0, data="other")
    build([], tmp_path / "out", bonus=tmp_path / "bonus")
    text = page_of(tmp_path / "out").text("bonus-table")
    assert "3,000 to 3,200 steps" in text
    assert "no model has the same budget as all others" in text
    assert "The longest training took 100 % more time than the shortest" in text
    assert "different data, hopper-mnist and other, and cannot be compared" in text


def test_differences_within_the_seeds_are_called_so(tmp_path: Path) -> None:
    for name, bits in (("pixelcnn-made", 0.16), ("pixelcnn-made-1", 0.18), ("gated", 0.171), ("gated-made", 0.1)):
        write_bonus_run(tmp_path / "bonus" / "steps" / name, name, "steps", bits)
    build([], tmp_path / "out", bonus=tmp_path / "bonus")
    text = page_of(tmp_path / "out").text("bonus-table")
    assert "12.5 % apart; Gated PixelCNN differs from it by no more than that." in text


def test_the_full_preset_has_a_table_of_its_own(tmp_path: Path) -> None:
    for name, bits in (("pixelcnn-made", 0.08), ("gated-made", 0.06)):
        write_bonus_run(tmp_path / "bonus" / "full" / name, name, "full", bits, steps=21500)
    write_bonus_run(tmp_path / "bonus" / "full" / "wide", "gated-made", "full", 0.07, steps=21500)
    build([], tmp_path / "out", bonus=tmp_path / "bonus")
    text = page_of(tmp_path / "out").text("bonus-full")
    assert "Full preset 21,500 steps" in text
    assert "Gated PixelCNN-MADE (wide)" in text
    assert "Gated PixelCNN-MADE needs 25.0 % fewer" in text


@pytest.mark.parametrize(
    ("best", "said"),
    [((40, 50), "1 of the 2 runs overfit: their validation loss was least after 40 of 50 steps"), ((50, 50), "")],
)
def test_runs_overfit_when_their_last_weights_are_not_the_best(
    tmp_path: Path, best: tuple[int, int], said: str
) -> None:
    for name, step in zip(("pixelcnn-made", "logistic"), best, strict=True):
        write_bonus_run(tmp_path / "digits" / name, name, "digits", 1.7, steps=50, best_step=step)
    found = words.overfitting(read_bonus(tmp_path).budgets["digits"])
    assert found.startswith(said)
    assert bool(found) == bool(said)


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


@pytest.mark.parametrize(
    "change",
    [
        {"test_bits_per_dim": None},
        {"test_bits_per_dim": float("nan")},
        {"test_bits_per_dim": 0},
        {"parameters": "many"},
        {"steps": 0},
        {"shape": [2]},
        {"train_seconds": float("inf")},
    ],
)
def test_a_damaged_result_is_one_sentence(tmp_path: Path, change: dict[str, Any]) -> None:
    write_bonus_run(tmp_path / "bonus" / "time" / "gated", "gated", "time", 0.2, **change)
    with pytest.raises(DataError, match="gated is damaged"):
        build([], tmp_path / "out", bonus=tmp_path / "bonus")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arrays",
    [
        {"samples": np.zeros((5, 3, 8, 9), np.uint8)},
        {"samples": np.zeros((5, 3, 8, 8))},
        {"samples": np.zeros((0, 3, 8, 8), np.uint8)},
        {"gray_given": np.zeros((2, 8, 8), int), "colorings": np.zeros((3, 2, 3, 8, 8), int)},
        {"colorings": np.zeros((2, 3, 8, 8), int)},
        {"receptive_field": np.zeros((8, 9))},
        {"receptive_field": np.zeros((8, 8), int)},
        {"receptive_field": np.full((8, 8), np.nan)},
    ],
)
def test_pictures_of_another_shape_are_one_sentence(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    write_bonus_run(tmp_path / "bonus" / "steps" / "grayscale", "grayscale", "steps", 0.2)
    np.savez(tmp_path / "bonus" / "steps" / "grayscale" / "arrays.npz", **arrays)
    with pytest.raises(DataError, match=r"arrays\.npz is damaged"):
        read_bonus(tmp_path / "bonus")


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


def test_quality_files_may_be_flat(tmp_path: Path) -> None:
    (tmp_path / "quality").mkdir()
    content = {"samples": 2000, "frechet_distance": 3.5, "reference": {"frechet_distance": 1.25}}
    content |= {"calibration_images": 9, "calibration_error": 0.25, "uncertain_share": "much"}
    (tmp_path / "quality" / "iqn-0.json").write_text(json.dumps(content))
    (one,) = read_bonus(tmp_path).quality
    assert (one.key, one.seeds, one.real) == ("iqn", [{"frechet_distance": 3.5}], [{"frechet_distance": 1.25}])
    assert one.calibration == [{"calibration_images": 9, "calibration_error": 0.25}]
    assert words.quality([one]) == []


def test_colourings_stand_between_gray_and_original(folder: Path) -> None:
    (entry,) = (one for one in read_bonus(folder).budgets["steps"] if one.key == "grayscale")
    image = section.colorings(entry)
    assert image is not None
    assert image.alt.startswith("4 lines: a gray test image, 3 colourings of it")


def test_the_command_line_takes_the_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--bonus", str(folder), "-o", str(tmp_path / "out")]) == 0
    assert page_of(tmp_path / "out").text("bonus")
    capsys.readouterr()
    assert main(["report", "--bonus", str(tmp_path / "none"), "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "there is no folder" in error
    assert error.count("\n") == 1
