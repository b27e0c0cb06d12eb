"""Saving and loading: the same model comes back, and what is no model is refused with a sentence."""

from __future__ import annotations

import json
import lzma
import os
import tempfile
from pathlib import Path

import pytest
import torch

from chainrule import zoo
from chainrule.claims import Bounded
from chainrule.errors import DataError, ModelError
from chainrule.models import MADE, REGISTRY, ConditionalMLP, Histogram, PixelCNNMADE
from chainrule.zoo import CONFIG, MOST_UNPACKED, PACKED, WEIGHTS, load
from laws import events, randomised


@pytest.fixture
def folder(tmp_path):
    """A saved MADE."""
    MADE((3,), 4, (8, 6)).save_pretrained(tmp_path / "made")
    return tmp_path / "made"


def test_round_trip(case, tmp_path):
    """A loaded model has the saved one's class, configuration and likelihoods, bit for bit."""
    model = randomised(case.build(), dtype=torch.float32)
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    x = events(model, 20)
    assert type(again) is type(model)
    assert again.config == model.config
    assert not again.training
    assert torch.equal(again.log_prob(x), model.log_prob(x))
    assert torch.equal(again.sample(5, generator=torch.Generator().manual_seed(0)),
                       model.sample(5, generator=torch.Generator().manual_seed(0)))  # fmt: skip


def test_a_model_of_many_variables_loads(tmp_path):
    """Its ranks, a list of many numbers, are no claim on memory."""
    MADE((1, 12, 12), 2, (200,)).save_pretrained(tmp_path)
    assert load(tmp_path).dims == 144


def test_files_of_a_model(folder):
    """Configuration as JSON and weights without pickle, and nothing else."""
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]
    assert json.loads((folder / CONFIG).read_text()) == {"class": "MADE", "shape": [3], "levels": 4, "hidden": [8, 6]}


def test_run_folders_load(folder, tmp_path):
    """A run folder's model/ is taken, although the run has a config.json of its own."""
    run = tmp_path / "run"
    run.mkdir()
    (run / CONFIG).write_text('{"recipe": {}}')
    folder.rename(run / "model")
    assert load(run).shape == (3,)
    assert load(str(run)).shape == (3,)


def test_unknown_name():
    """Neither a folder nor a shipped model: the name is repeated."""
    with pytest.raises(ModelError, match=r"no model 'no-such-thing'"):
        load("no-such-thing")


@pytest.mark.parametrize("name", ["", "/dev/null", "x" * 5000, "a\0b"])
def test_odd_names(name):
    """Whatever the name, it is a ModelError."""
    with pytest.raises(ModelError):
        load(name)


def test_a_folder_without_a_model(tmp_path):
    """The folder is named."""
    with pytest.raises(ModelError, match="holds no model"):
        load(tmp_path)


def test_a_run_that_has_no_model_yet(tmp_path):
    """A run's own config.json is not taken for a model's."""
    (tmp_path / CONFIG).write_text('{"recipe": {}}')
    with pytest.raises(ModelError, match="holds no model"):
        load(tmp_path)


def test_missing_weights(folder):
    """The missing file is named."""
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=WEIGHTS):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"class": "MADE"', b"null", b"[1]", b'"class"', b"12"])
def test_damaged_config(folder, content):
    """Half a file, another encoding or another kind of JSON is a ModelError that names the file."""
    (folder / CONFIG).write_bytes(content)
    with pytest.raises(ModelError, match=r"config\.json|holds no model"):
        load(folder)


@pytest.mark.parametrize("name", ["Transformer", None, ["MADE"], 3, {"a": 1}])
def test_unknown_class(folder, name):
    """A class of a later version, or none, is named."""
    (folder / CONFIG).write_text(json.dumps({"class": name, "shape": [3], "levels": 4}))
    with pytest.raises(ModelError, match="names the class"):
        load(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"levels": 0},
        {"levels": "four"},
        {"levels": None},
        {"levels": 10**15},
        {"shape": 3},
        {"shape": []},
        {"shape": ["a"]},
        {"hidden": [-1]},
        {"hidden": [10**15]},
        {"hidden": [2.5]},
        {"hidden": "wide"},
        {"depth": 3},
    ],
)
def test_config_that_describes_no_model(folder, change):
    """Impossible or unknown arguments are a ModelError."""
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | change))
    with pytest.raises(ModelError):
        load(folder)


def test_negative_width_of_an_mlp(tmp_path):
    """The same for a model whose layers are PyTorch's own."""
    ConditionalMLP(4, "onehot", (8,)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | {"hidden": [-1]}))
    with pytest.raises(ModelError):
        load(tmp_path)


NOT_GIVEN = ("class", "scales", "exact", "pixel_values")


def test_every_model_is_made_within_the_bounds_of_its_weights(case):
    """A model that could not be made so could not be loaded; most of what it may take is left."""
    model = case.build()
    bounds = Bounded(model.state_dict())
    calls, numbers = bounds.calls, bounds.numbers
    with bounds:
        REGISTRY[type(model).__name__](**{k: v for k, v in model.config.items() if k not in NOT_GIVEN})
    assert bounds.calls > calls / 2
    assert bounds.numbers > numbers / 2


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ({"hidden": [10**6] * 2}, "of this size"),
        ({"hidden": [8] * 10**6}, "of this size"),
        ({"levels": 10**9}, "of this size"),
        ({"shape": [10**6]}, "too narrow"),
    ],
)
def test_a_config_that_claims_sizes_takes_no_memory(folder, monkeypatch, claim, reason):
    """A stranger's folder of a few bytes asks for gigabytes, or for minutes: refused before the system has to."""
    config = json.loads((folder / CONFIG).read_text())
    assert claim.keys() <= config.keys()
    (folder / CONFIG).write_text(json.dumps(config | claim))
    made = []
    monkeypatch.setattr(MADE, "load_state_dict", lambda *given: made.append(given))
    with pytest.raises(ModelError, match=f"{CONFIG} .*{reason}"):
        load(folder)
    assert not made
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, "."])
def test_a_model_that_may_not_be_read(name):
    """It is there, and whole: the permissions are what is wrong."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "made"
        MADE((3,), 4).save_pretrained(folder)
        os.chmod(top, 0o755)
        (folder / name).chmod(0)
        if user == 0:  # nothing is closed to root
            os.seteuid(65534)
        try:
            with pytest.raises(DataError, match="may not be read: check its permissions"):
                load(folder)
        finally:
            os.seteuid(user)
            (folder / name).chmod(0o700)


@pytest.mark.parametrize("damage", ["empty", "truncated", "garbage", "header", "other model", "a folder"])
def test_damaged_weights(folder, damage, tmp_path):
    """Broken or foreign weights are a ModelError that names the file."""
    path = folder / WEIGHTS
    content = path.read_bytes()
    if damage == "other model":
        Histogram(4).save_pretrained(tmp_path / "other")
        (tmp_path / "other" / WEIGHTS).rename(path)
    elif damage == "a folder":
        path.unlink()
        path.mkdir()
    else:
        changed = {"empty": b"", "truncated": content[:-9], "garbage": b"x" * 100, "header": b"\xff" * 8 + content[8:]}
        path.write_bytes(changed[damage])
    with pytest.raises(ModelError, match=WEIGHTS):
        load(folder)


def packed(folder):
    """Pack a model's weights as those that ship are."""
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).unlink()
    (folder / PACKED).write_bytes(lzma.compress(content))
    return content


def test_packed_weights(folder):
    """They are the same weights; where both files are there, the plain one counts."""
    expected = load(folder).state_dict()
    content = packed(folder)
    assert all(torch.equal(value, expected[name]) for name, value in load(folder).state_dict().items())
    assert zoo.stored_weights(folder) == content
    (folder / WEIGHTS).write_bytes(content)
    (folder / PACKED).write_bytes(b"")
    assert load(folder).state_dict().keys() == expected.keys()


@pytest.mark.parametrize("damage", ["empty", "truncated", "longer", "garbage", "what is packed", "other model", "vast"])
def test_damaged_packed_weights(folder, damage, tmp_path):
    """As for those that are not packed; and what would fill the memory is not unpacked."""
    packed(folder)
    content = (folder / PACKED).read_bytes()
    Histogram(4).save_pretrained(tmp_path / "other")
    packed(tmp_path / "other")
    changed = {
        "empty": b"",
        "truncated": content[:-9],
        "longer": content + b"x",
        "garbage": b"x" * 100,
        "what is packed": lzma.compress(b"x"),
        "other model": (tmp_path / "other" / PACKED).read_bytes(),
        "vast": lzma.compress(bytes(MOST_UNPACKED + 1), preset=0),
    }
    (folder / PACKED).write_bytes(changed[damage])
    with pytest.raises(ModelError, match=PACKED):
        load(folder)


def test_shipped_models_have_versions_and_an_alias(folder, tmp_path, monkeypatch):
    """`name-2` is newer than `name-1`, `name-10` newer than both; the bare name is the newest; a folder wins."""
    root = tmp_path / "package"
    for version in (1, 2, 10):
        PixelCNNMADE((1, 2, 2), version + 1, 4, 1).save_pretrained(root / "shipped" / f"tiny-digits-{version}")
    monkeypatch.setattr(zoo.resources, "files", lambda package: root)
    assert set(zoo.shipped()) == {"tiny-digits-1", "tiny-digits-2", "tiny-digits-10", "tiny-digits"}
    assert load("tiny-digits-2").levels == 3
    assert load("tiny-digits").levels == 11
    with pytest.raises(ModelError, match=r"tiny-digits, tiny-digits-1"):
        load("tiny-digitz")
    monkeypatch.chdir(tmp_path)
    folder.rename(tmp_path / "tiny-digits")
    assert load("tiny-digits").shape == (3,)


def test_what_ships(monkeypatch, tmp_path):
    """One small model and one of each kind at full size: each loads, with the scales of its exact model, and a card."""
    monkeypatch.chdir(tmp_path)
    folders = set(zoo.shipped().values())
    assert {folder.name for folder in folders} == {
        "colored-mnist-2",
        "photo-5",
        "photo-gray-2",
        "photo-large-1",
        "pixelcnn-made-3",
        "pixelsnail-1",
    }
    for folder in folders:
        assert load(folder.name).scales
        card, record = (folder / "README.md").read_text(), json.loads((folder / "training.json").read_text())
        assert card.startswith(f"# {folder.name}\n")
        assert f"{record['result']['test_bits_per_dim']:.4f}" in card


def test_what_masks_hide_ships_as_zeros():
    """Nobody can tell, and zeros pack well: a wheel has at most 4 MB."""
    for name in zoo.shipped():
        masked = [layer for layer in load(name).modules() if isinstance(getattr(layer, "mask", None), torch.Tensor)]
        assert masked
        assert not any(layer.weight.masked_select(layer.mask == 0).any() for layer in masked)
