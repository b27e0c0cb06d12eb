"""Your own images from the command line: pictures → training → samples → archive → the same pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from chainrule.cli import main
from chainrule.errors import ModelError
from chainrule.fixedpoint import exact
from chainrule.models import GatedPixelCNN, GatedPixelCNNMADE, PixelCNN, PixelCNNMADE

TINY = ["--train.steps", "3", "--train.eval-every", "3", "--train.batch-size", "8"]
TINY += ["--model.filters", "8", "--model.blocks", "1"]
RECIPES = {"pixelcnn": PixelCNN, "pixelcnn-made": PixelCNNMADE, "gated": GatedPixelCNN, "gated-made": GatedPixelCNNMADE}


def run(*words) -> None:
    assert main([str(word) for word in words]) == 0


def fails(capsys, *words) -> str:
    """The one sentence that a command fails with."""
    assert main([str(word) for word in words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("chainrule:")]
    assert len(lines) == 1
    return lines[0]


def grays(folder, values, count=24, height=7, width=5, form="L"):
    """Gray pictures of these values; all of them occur."""
    folder.mkdir(parents=True)
    draw = np.random.RandomState(0).randint(0, len(values), (count, height, width))
    draw.flat[: len(values)] = range(len(values))
    for number, image in enumerate(np.array(values, np.uint8)[draw]):
        Image.fromarray(image).convert(form).save(folder / f"{number:02}.png")
    return folder


def pixels_of(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


def exact_or_skip(recipe) -> None:
    """The codec needs the exact form; that of the gated models may not be there yet."""
    try:
        exact(RECIPES[recipe]((1, 7, 5), 3, filters=8, blocks=1))
    except ModelError as error:
        if not recipe.startswith("gated"):
            raise
        pytest.skip(f"{recipe} trains and samples, and cannot compress yet: {error}")


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("values", "flags"),
    [((0, 128, 255), ["--levels", "3"]), ((0, 128, 255), []), ((0, 127, 255), []), ((0, 1, 2), ["--levels", "3"])],
    ids=["uneven-asked", "uneven", "even", "raw-levels"],
)
def test_there_and_back(tmp_path, capsys, recipe, values, flags) -> None:
    """Three gray levels stay three: in the model, in its samples, and through an archive, bit for bit."""
    folder, out = grays(tmp_path / "mine", values), tmp_path / "run"
    run("train", recipe, "--data", folder, "--out", out, *flags, *TINY)
    said = capsys.readouterr().err
    assert "24 images of 5×7 pixels (width × height) with 1 channel, in 3 levels" in said
    assert ", ".join(map(str, values)) in said or values == (0, 127, 255)
    result = json.loads((out / "result.json").read_text())
    assert (result["levels"], result["shape"]) == (3, [1, 7, 5])

    sheet = tmp_path / "samples.png"
    run("sample", out, "-n", "9", "-o", sheet)
    found = set(np.unique(pixels_of(sheet)).tolist())
    assert found == {*values, 128}  # 128 is the colour between the samples
    assert set(np.unique(pixels_of(out / "samples.png")).tolist()) == {*values, 128}

    exact_or_skip(recipe)
    pictures = sorted(folder.iterdir())
    run("compress", *pictures, "-m", out, "-o", tmp_path / "a.crz", "--verify", "--embed-model")
    run("decompress", tmp_path / "a.crz", "-o", tmp_path / "back")
    run("decompress", tmp_path / "a.crz", "-o", tmp_path / "again", "-m", out)
    for back in (tmp_path / "back", tmp_path / "again"):
        assert [path.name for path in sorted(back.iterdir())] == [path.name for path in pictures]
        for path in pictures:
            image = Image.open(back / path.name)
            assert image.mode == "L"
            assert np.asarray(image).tobytes() == pixels_of(path).tobytes()


def test_the_model_knows_its_pixel_values(tmp_path, capsys) -> None:
    """Other data are read, completed and refused by the model's own values, whatever they would be by themselves."""
    out = tmp_path / "run"
    run("train", "pixelcnn", "--data", grays(tmp_path / "a", (0, 128, 255)), "--out", out, *TINY)
    black = grays(tmp_path / "b", (0, 255))
    capsys.readouterr()
    run("evaluate", out, "--data", black, "--json")
    assert json.loads(capsys.readouterr().out)["events"] == 2
    run("complete", out, black / "00.png", "--keep-rows", "4", "-o", tmp_path / "c.png")
    whole, given = pixels_of(tmp_path / "c.png"), pixels_of(black / "00.png")
    assert (whole[:4] == given[:4]).all()
    assert set(np.unique(whole).tolist()) <= {0, 128, 255}
    other = grays(tmp_path / "d", (0, 127, 255))
    assert "holds the value 127: the model's levels are 0, 128, 255" in fails(capsys, "evaluate", out, "--data", other)
    run("compress", other, "-m", out, "-o", tmp_path / "x.crz", "--verify")
    assert "The models coded none of the pictures" in capsys.readouterr().err


def test_palettes_of_grays(tmp_path, capsys) -> None:
    """Gray pictures that a program stored with a palette are gray, in training and in archives."""
    folder = grays(tmp_path / "mine", (0, 128, 255), form="P")
    run("train", "pixelcnn", "--data", folder, "--out", tmp_path / "run", *TINY)
    assert "24 pictures had a palette and became gray" in capsys.readouterr().err
    run("compress", folder, "-m", tmp_path / "run", "-o", tmp_path / "a.crz")
    run("decompress", tmp_path / "a.crz", "-o", tmp_path / "back", "-m", tmp_path / "run")
    for path in folder.iterdir():
        assert (pixels_of(tmp_path / "back" / path.name) == pixels_of(path)).all()


@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (2, 4), (3, 256), (5, 3), (1, 300)])
def test_arrays_of_any_channels_and_levels(tmp_path, capsys, channels, levels) -> None:
    """Training ends with a run folder whose sheet can be looked at, and the archive gives the array back."""
    out, path = tmp_path / "run", tmp_path / "mine.npy"
    array = np.random.RandomState(0).randint(0, levels, (20, 6, 5, channels)).astype(np.uint16)
    array.flat[0] = levels - 1
    np.save(path, array)
    run("train", "pixelcnn-made", "--data", path, "--levels", levels, "--out", out, *TINY)
    said = capsys.readouterr().err
    assert ("side by side" in said) == (channels not in (1, 3))
    assert ("highest 8 bits" in said) == (levels > 256)
    sheet = Image.open(out / "samples.png")
    panels = 1 if channels in (1, 3) else channels
    assert sheet.size == (10 * (3 * 5 * panels + 2) - 2, 10 * (3 * 6 + 2) - 2)
    run("sample", out, "-n", "3", "-o", tmp_path / "s.npy")
    assert np.load(tmp_path / "s.npy").shape == (3, 6, 5, channels)
    run("compress", path, "-m", out, "-o", tmp_path / "a.crz")
    run("decompress", tmp_path / "a.crz", "-m", out, "-o", tmp_path / "back")
    back = np.load(tmp_path / "back" / "mine.npy")
    assert back.dtype == array.dtype
    assert (back == array).all()


def test_data_that_cannot_be_used_leave_nothing_behind(tmp_path, capsys) -> None:
    """One sentence, and no run folder; one that was there stays."""
    (tmp_path / "empty").mkdir()
    out, there = tmp_path / "run", tmp_path / "there"
    there.mkdir()
    for folder, words in (
        (tmp_path / "empty", "holds no pictures"),
        (grays(tmp_path / "few", (0, 255), count=2), "too few"),
        (grays(tmp_path / "dark", (0, 1, 2, 3, 4)), "5, to have one for each value"),
    ):
        assert words in fails(capsys, "train", "pixelcnn", "--data", folder, "--levels", "3", "--out", out, *TINY)
        fails(capsys, "train", "pixelcnn", "--data", folder, "--levels", "3", "--out", there, *TINY)
    assert not out.exists()
    assert list(there.iterdir()) == []


def test_every_reject_is_named_before_training(tmp_path, capsys) -> None:
    """All pictures are looked at before the run is refused, each with its own reason."""
    folder = grays(tmp_path / "mine", (0, 128, 255))
    frames = [Image.fromarray(np.full((7, 5, 3), value, np.uint8)) for value in (0, 99, 200)]
    for name in ("a.gif", "b.png", "c.webp"):
        frames[0].save(folder / name, save_all=True, append_images=frames[1:])
    for name in ("d.png", "e.tif"):
        Image.fromarray(np.arange(35, dtype=np.uint16).reshape(7, 5) * 1000).save(folder / name)
    (folder / "f.png").write_bytes(b"")
    sentence = fails(capsys, "train", "pixelcnn", "--data", folder, "--out", tmp_path / "run", *TINY)
    assert "6 of 30 pictures" in sentence
    for name, reason in zip("abcdef", ["animated"] * 3 + ["more than 8 bits"] * 2 + ["does not decode"], strict=True):
        place = sentence.index(f"{name}.")
        assert reason in sentence[place : place + 60]
    assert not (tmp_path / "run").exists()
