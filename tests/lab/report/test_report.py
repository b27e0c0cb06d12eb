"""The report: every deliverable is there, says what the run folders say, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from browser import find_browser
from chainrule.errors import DataError
from chainrule.lab.report import build
from chainrule.lab.run_folder import save_arrays, write_json

from .page import Page, page_of
from .runs import MODELS, write_run

HEADINGS = [
    ("part-1", "Part 1 Warmup"),
    ("part-1-1", "Deliverable 1 Negative log-likelihood during training, and on the test set"),
    ("part-1-2", "Deliverable 2 Model probabilities and empirical frequencies of samples"),
    ("part-2", "Part 2 Two-dimensional data"),
    ("part-2-1", "Deliverable 1 Negative log-likelihood during training, and on the test set"),
    ("part-2-2", "Deliverable 2 Samples in a 2-D histogram"),
    ("part-3", "Part 3 High-dimensional data"),
    ("part-3-1", "Deliverable 1 Losses over time, and on the test set"),
    ("part-3-2", "Deliverable 2 100 samples"),
    ("part-3-3", "Deliverable 3 Receptive field of the conditional at (14, 14, 0)"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict]]:
    folder = tmp_path_factory.mktemp("runs")
    return {recipe: (folder / recipe, write_run(folder / recipe, recipe, jitter=1.5)) for recipe in MODELS}


@pytest.fixture(scope="module")
def out(runs: dict[str, tuple[Path, dict]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "new"
    assert build([folder for folder, _ in runs.values()], out) == out / "index.html"
    return out


def test_every_deliverable_has_its_heading_in_the_assignments_order(out: Path) -> None:
    page = page_of(out)
    for section, heading in HEADINGS:
        assert page.text(section).startswith(heading), section
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    places = [ids.index(section) for section, _ in HEADINGS]
    assert places == sorted(places)
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert all(str(link)[1:] in ids for link in links)


def test_both_models_of_a_part_stand_under_each_deliverable(out: Path) -> None:
    ids = {attributes.get("id") for _, attributes in page_of(out).tags}
    for recipe in ("2d-mlp", "2d-made"):
        assert {f"part-2-curves-{recipe}", f"part-2-samples-{recipe}"} <= ids
    for recipe in ("pixelcnn", "pixelcnn-made"):
        assert {f"part-3-{what}-{recipe}" for what in ("curves", "samples", "receptive-field")} <= ids


def test_the_numbers_are_those_of_the_run_folders(runs: dict[str, tuple[Path, dict]], out: Path) -> None:
    page = page_of(out)
    part = {"warmup": 1, "2d-mlp": 2, "2d-made": 2, "pixelcnn": 3, "pixelcnn-made": 3}
    for recipe, (_, result) in runs.items():
        curves = page.text(f"part-{part[recipe]}-curves-{recipe}")
        for name in (
            "test_bits_per_dim",
            "validation_bits_per_dim",
            "exact_bits_per_dim",
            "kl_bits",
            "entropy_bits_per_dim",
        ):
            if name in result:
                assert f"{result[name]:.4f}" in curves, (recipe, name)
        assert f"{result['test_bits_per_dim']:.4f}" in page.text("summary")
        assert f"{result['train_seconds']:.1f}" in page.text("summary")
        assert f"{result['parameters']:,}" in page.text("summary")
        assert result["command"] in page.text("runs")
    answer = page.text("part-1-bars-warmup")
    assert "How do both plots compare visually to the data distribution?" in answer
    assert all(figure in answer for figure in ("0.0217", "0.1361", "0.1313"))
    assert page.text("runs").count("Jitter 1.5 levels") == len(MODELS)


def test_results_json_maps_recipes_to_results(runs: dict[str, tuple[Path, dict]], out: Path) -> None:
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert list(results) == list(MODELS)
    for recipe, (_, result) in runs.items():
        assert results[recipe].items() >= result.items()
        assert results[recipe]["trained_beforehand"] is False
    assert {"exact_bits_per_dim", "kl_bits"} <= results["2d-made"].keys()
    assert {path.name for path in out.iterdir()} == {"index.html", "results.json"}


def test_the_page_is_one_offline_file_with_described_images(out: Path) -> None:
    page = page_of(out)
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed")
        assert str(attributes.get("src", "data:")).startswith("data:")
        assert str(attributes.get("href", "#")).startswith(("#", "data:"))
    html = (out / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import", html)
    assert len(page.images()) == 1 + 5 + 1 + 2 + 2 + 2  # strip, curves, bars, pairs, samples, receptive fields
    assert all(len(str(image["alt"])) > 20 for image in page.images())
    assert len(html) < 2_000_000


def test_a_demo_beside_the_report_is_linked_to(runs: dict[str, tuple[Path, dict]], tmp_path: Path) -> None:
    """Where `chainrule demo` has written its page into the report's folder, and only there."""
    (folder, _), *_ = runs.values()
    links = []
    for _ in range(2):
        build([folder], tmp_path)
        links.append([attributes["href"] for tag, attributes in page_of(tmp_path).tags if tag == "a"])
        (tmp_path / "demo.html").write_text("a page")
    assert "demo.html" not in links[0]
    assert links[1] == ["demo.html", *links[0]]


def test_what_comes_from_a_run_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    write_run(tmp_path / "warmup", "warmup", title=evil, device=evil, command=evil)
    write_run(tmp_path / "other", "mine", title=evil, data='"><img src=x onerror=alert(1)>')
    page = build([tmp_path / "warmup", tmp_path / "other"], tmp_path / "out").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img src=x" not in page
    assert page.count("&lt;script&gt;") >= 4
    assert evil in unescape(page)


def test_runs_of_one_recipe_keep_apart(tmp_path: Path) -> None:
    folders = {
        "mlp": {},
        "mlp-scalar": {"encoding": "scalar"},
        "seed-1": {"seed": 1},
        "turing": {"data": "distribution"},
    }
    for i, (name, changes) in enumerate(folders.items()):
        figures = {"validation_bits_per_dim": 4.1 + i / 10, "test_bits_per_dim": 5.01 + i}
        write_run(tmp_path / name, "2d-mlp", **figures, **changes)
    build([tmp_path / name for name in folders], tmp_path / "out")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results) == ["2d-mlp", "2d-mlp@mlp-scalar", "2d-mlp@seed-1", "2d-mlp@turing"]
    assert results["2d-mlp"]["test_bits_per_dim"] == 5.01
    page = page_of(tmp_path / "out")
    design = page.text("part-2-design")
    for row in ("one-hot vector portrait-2d 4.1000 5.0100", "real number portrait-2d 4.2000 6.0100"):
        assert f"MLP {row}" in design
    assert "MLP one-hot vector distribution 4.4000 8.0100" in design
    assert "MLP one-hot vector seed-1 portrait-2d 4.3000 7.0100" in design
    assert "compares no input encodings" not in design
    alts = [str(image["alt"]) for image in page.images()]
    assert sum("2-D histogram of samples of MLP on portrait-2d" in alt for alt in alts) == 1
    assert sum("2-D histogram of samples of MLP on distribution" in alt for alt in alts) == 1


def test_the_run_whose_folder_has_the_recipes_name_needs_no_other(tmp_path: Path) -> None:
    for name, figure in (("large", 4.25), ("2d-mlp", 4.5)):
        write_run(tmp_path / name, "2d-mlp", validation_bits_per_dim=figure, test_bits_per_dim=figure)
    build([tmp_path / "large", tmp_path / "2d-mlp"], tmp_path / "out")
    text = page_of(tmp_path / "out").text()
    assert "MLP one-hot vector large portrait-2d 4.2500" in text
    assert "MLP one-hot vector portrait-2d 4.5000" in text


def test_runs_trained_beforehand_are_labelled(tmp_path: Path) -> None:
    write_run(tmp_path / "quick", "pixelcnn-made", test_bits_per_dim=0.1666)
    write_run(tmp_path / "full", "pixelcnn-made", test_bits_per_dim=0.0888, steps=700)
    write_run(tmp_path / "factorised", "pixelcnn", test_bits_per_dim=0.1777)
    build([tmp_path / "quick"], tmp_path / "out", recorded=[tmp_path / "full", tmp_path / "factorised"])
    page = page_of(tmp_path / "out")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {key: value["trained_beforehand"] for key, value in results.items()} == {
        "pixelcnn-made": False,
        "pixelcnn-made@full": True,
        "pixelcnn": True,
    }
    made = page.text("part-3-curves-pixelcnn-made")
    assert made.index("0.1666") < made.index("700 steps, seed 0 trained beforehand") < made.index("0.0888")
    alone = page.text("part-3-curves-pixelcnn")
    assert "Not trained in this report. What follows was trained beforehand." in alone
    assert "0.1777" in alone


def test_missing_recipes_say_how_to_train_them(tmp_path: Path) -> None:
    build([], tmp_path)
    page = page_of(tmp_path)
    for section, heading in HEADINGS:
        assert page.text(section).startswith(heading)
    for recipe in MODELS:
        assert f"chainrule train {recipe} --out runs/{recipe}" in page.text()
    assert page.text().count("Not trained in this report.") == 12  # models × deliverables: 1·2 + 2·2 + 2·3
    assert json.loads((tmp_path / "results.json").read_text()) == {}


@pytest.mark.parametrize("missing", ["result.json", "metrics.jsonl", "arrays.npz"])
def test_a_broken_run_is_one_sentence_and_leaves_no_page(tmp_path: Path, missing: str) -> None:
    write_run(tmp_path / "run", "warmup")
    (tmp_path / "run" / missing).unlink()
    with pytest.raises(DataError, match="run holds no finished run"):
        build([tmp_path / "run"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_of_arrays_is_one_sentence(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "2d-made")
    arrays = tmp_path / "run" / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:300])
    with pytest.raises(DataError, match=r"arrays\.npz"):
        build([tmp_path / "run"], tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        {"levels": "four"},
        {"levels": 1},
        {"shape": None},
        {"shape": []},
        {"test_bits_per_dim": None},
        {"test_bits_per_dim": float("nan")},
        {"test_bits_per_dim": 0},
        {"parameters": "many"},
        {"steps": 0},
        {"train_seconds": float("inf")},
    ],
)
def test_a_result_that_lacks_figures_is_refused(tmp_path: Path, change: dict) -> None:
    write_run(tmp_path / "run", "warmup", **change)
    with pytest.raises(DataError, match="is damaged"):
        build([tmp_path / "run"], tmp_path / "out")


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
        {"truth": np.zeros((4, 5))},
        {"model_pmf": np.zeros(5)},
    ],
)
def test_arrays_of_another_shape_are_one_sentence(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    write_run(tmp_path / "run", "grayscale")
    np.savez(tmp_path / "run" / "arrays.npz", **arrays)
    with pytest.raises(DataError, match=r"arrays\.npz is damaged"):
        build([tmp_path / "run"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_figures_that_a_run_does_not_have_are_left_out(tmp_path: Path) -> None:
    for recipe in ("warmup", "2d-made", "pixelcnn"):
        write_run(tmp_path / recipe, recipe)
        np.savez(tmp_path / recipe / "arrays.npz", nothing=np.zeros(1))
        (tmp_path / recipe / "metrics.jsonl").write_text("")
        (tmp_path / recipe / "config.json").unlink()
    build([tmp_path / recipe for recipe in ("warmup", "2d-made", "pixelcnn")], tmp_path / "out")
    page = page_of(tmp_path / "out")
    assert "holds no receptive field" in page.text("part-3-receptive-field-pixelcnn")
    assert "holds no samples" in page.text("part-2-samples-2d-made")


def test_a_run_without_likelihood_is_shown_with_its_own_loss(tmp_path: Path) -> None:
    """No bits anywhere: the loss under its name, the samples, a dash in the table of bits, nothing in the strip."""
    write_run(tmp_path / "twin", "pixelcnn-made", test_bits_per_dim=9.0)
    result = write_run(tmp_path / "iqn", "iqn")
    losses = {"test_quantile_loss": 0.0123, "validation_quantile_loss": 0.0456}
    bits = {"test_bits_per_dim", "validation_bits_per_dim"}
    write_json(tmp_path / "iqn" / "result.json", {k: v for k, v in result.items() if k not in bits} | losses)
    arrays = np.load(tmp_path / "iqn" / "arrays.npz")
    save_arrays(tmp_path / "iqn" / "arrays.npz", {"samples": arrays["samples"]})
    build([tmp_path / "twin", tmp_path / "iqn"], tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "0.0123 <small>quantile loss</small>" in page
    assert "Quantile-Huber loss of PixelIQN" in page
    assert "20 samples of PixelCNN-MADE" in page
    assert "20 samples of PixelIQN" not in page
    assert json.loads((tmp_path / "out" / "results.json").read_text())["iqn"]["test_quantile_loss"] == 0.0123
    build([tmp_path / "iqn"], tmp_path / "alone")


@pytest.mark.slow
def test_a_browser_shows_the_page_and_complains_about_nothing(out: Path, tmp_path: Path) -> None:
    browser = find_browser()
    flags = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
    flags += " --disable-sync --no-first-run --enable-logging=stderr --v=0 --dump-dom"
    command = [browser, *flags.split(), f"--user-data-dir={tmp_path}", (out / "index.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    shown = Page(done.stdout)
    assert all(shown.text(section).startswith(heading) for section, heading in HEADINGS)
    assert "CONSOLE" not in done.stderr
