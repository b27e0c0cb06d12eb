"""Every named experiment can be built, and says what is wrong with other data."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, fields, replace

import pytest

from chainrule.errors import ModelError
from chainrule.lab.fields import argument_texts, fields_of
from chainrule.lab.recipes import RECIPES, get_recipe
from chainrule.models import REGISTRY

EVENTS = {
    "warmup": ((1,), 100),
    "portrait-2d": ((2,), 200),
    "hopper-mnist": ((3, 28, 28), 4),
    "": ((4, None, None), 256),
}
"""Shape and levels of the data that recipes name."""


@pytest.mark.parametrize("preset", ["quick", "full"])
@pytest.mark.parametrize("name", RECIPES)
def test_recipe_constructs_its_model(name, preset):
    """Each recipe names known data and builds a registered model for it."""
    recipe = get_recipe(name, preset)
    shape, levels = EVENTS[recipe.data]
    model = recipe.model.build(shape, levels)
    assert (model.shape, model.levels) == (shape, levels)
    assert type(model).__name__ in REGISTRY
    assert recipe.name == name
    assert recipe.title


def test_the_full_preset_is_the_assignments():
    """7×7 type A, 12 blocks, 128 filters, Adam 1e-3, batch 128, 50 epochs of 55,000."""
    for name in ("pixelcnn", "pixelcnn-made"):
        recipe = get_recipe(name, "full")
        train = recipe.train
        assert (recipe.model.filters, recipe.model.blocks) == (128, 12)
        assert (train.optimizer, train.lr, train.batch_size) == ("adam", 1e-3, 128)
        assert train.steps * train.batch_size == pytest.approx(50 * 55_000, rel=0.01)


@pytest.mark.parametrize("preset", ["quick", "full"])
@pytest.mark.parametrize(
    ("other", "masked"),
    [
        ("gated", "pixelcnn"),
        ("gated-made", "pixelcnn-made"),
        ("pixelsnail", "pixelcnn-made"),
        ("image-gpt", "pixelcnn-made"),
    ],
)
def test_other_models_are_as_large_as_masked_ones(other, masked, preset):
    """Within a seventh of each other, and trained alike: what differs is the architecture."""
    recipes = [get_recipe(name, preset) for name in (other, masked)]
    counts = [sum(p.numel() for p in recipe.model.build((3, 28, 28), 4).parameters()) for recipe in recipes]
    assert counts[0] == pytest.approx(counts[1], rel=1 / 7)
    assert recipes[0].train == recipes[1].train
    assert recipes[0].validation == recipes[1].validation


def test_unknown_recipe():
    """The name and the choices are named."""
    with pytest.raises(ModelError, match=r"no recipe 'vae': choose one of warmup, .*pixelcnn-made"):
        get_recipe("vae")


@pytest.mark.parametrize("name", RECIPES)
def test_wrong_data_is_refused(name):
    """A recipe on events of another shape is a ModelError with that shape in it."""
    build = get_recipe(name).model.build
    wrong = [(4, 4), (1, 2, 3, 4)] if name != "2d-made" else []
    for shape in wrong:
        with pytest.raises(ModelError, match=re.escape(str(shape))):
            build(shape, 4)


def test_recipes_are_values():
    """Frozen, and a changed one leaves the other as it was."""
    recipe = get_recipe("warmup")
    with pytest.raises(FrozenInstanceError):
        recipe.name = "other"
    with pytest.raises(FrozenInstanceError):
        get_recipe("pixelcnn").model.filters = 3
    other = replace(recipe, train=replace(recipe.train, seed=7))
    assert (recipe.train.seed, other.train.seed) == (0, 7)
    assert replace(other, train=recipe.train) == get_recipe("warmup") == recipe


@pytest.mark.parametrize("name", REGISTRY)
def test_fields_are_the_constructors_arguments(name):
    """Every argument but shape and levels, with its default, is a field that is explained, and reaches the model."""
    parameters = list(inspect.signature(REGISTRY[name].__init__).parameters.values())[1:]
    wanted = {p.name: p.default for p in parameters if p.name not in ("shape", "levels")}
    made = fields_of(name)
    assert {field.name: field.default for field in fields(made)} == wanted
    texts = argument_texts(REGISTRY[name])
    assert all(texts.get(field) and texts[field] in made.__doc__ for field in wanted)
    small = {"filters": 8, "blocks": 1, "hidden": (16,), "embedding": 3, "classes": 2, "components": 2, "grays": 5}
    if name in ("ImageGPT", "PixelSNAIL"):
        small["head"] = "logistic"
    if name == "ImageModel":  # some arguments belong to one head or trunk alone
        small = {"trunk": "gated", "head": "logistic", "filters": 8, "blocks": 1, "classes": 2, "components": 2}
    chosen = made(**{field: small[field] for field in wanted if field in small})
    shape = (3, 2, 2) if "filters" in wanted else {"Histogram": (1,)}.get(name, (2,))
    config = chosen.build(shape, 4).config
    assert {field: config[field] for field in wanted} == asdict(chosen)


def test_recipes_are_listed_without_pytorch():
    """So that `chainrule train --help` takes no longer than Python itself."""
    code = "import sys, chainrule.cli, chainrule.lab.recipes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
