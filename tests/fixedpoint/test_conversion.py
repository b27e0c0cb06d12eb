"""From a float model to its exact form: which layers become what, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from chainrule.errors import ModelError
from chainrule.fixedpoint import calibrate, exact
from chainrule.fixedpoint.conversion import OTHERS, PRODUCTS, groups, norms, refuse
from chainrule.heads import FactorisedHead, LogisticHead, LogisticMixture, MADEHead, Softmax
from chainrule.models import (
    MADE,
    ConditionalMLP,
    GatedPixelCNN,
    Histogram,
    ImageModel,
    LogisticPixelCNN,
    PixelCNN,
    PixelCNNMADE,
    PixelIQN,
)
from chainrule.nn import ChannelLayerNorm, Gate, GatedTrunk, MaskedConv2d, MaskedLinear, MaskedTrunk, ResidualBlock
from laws import CASES, EXACT_CASES, events, exact_twin, randomised


def image_model(cls=PixelCNNMADE, shape=(3, 6, 8), levels=4, filters=16, blocks=2):
    torch.manual_seed(0)
    return cls(shape, levels, filters, blocks)


def test_every_layer_has_its_exact_form(exact_case):
    """None of the float layers is left, and the float weights are, under their names."""
    model, found = randomised(exact_case.build(), dtype=torch.float32), exact_twin(exact_case)
    assert not {type(part) for part in found.modules()} & {*PRODUCTS, *OTHERS, ChannelLayerNorm}
    assert [name for name, _ in found.named_modules()] == [name for name, _ in model.named_modules()]
    weights, kept = model.state_dict(), found.state_dict()
    assert list(kept) == list(weights)
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights.items())
    assert all(getattr(found, name).exact for name in ("softmax",))


def test_scales_name_every_layer_once(exact_case):
    """Those that multiply and those that normalise."""
    model, scales = exact_case.build(), exact_twin(exact_case).scales
    names = [name for name, _ in norms(model)] + [name for group, _ in groups(model) for name in group]
    assert sorted(scales["layers"]) == sorted(names)
    parts = {name.rpartition(".")[0] for name, _ in model.named_parameters()}
    assert set(names) >= {part for part in parts if part.rpartition(".")[2] not in PARTS_WITHOUT_A_LAYER}


PARTS_WITHOUT_A_LAYER = {"", "first_input", "row_input", "column_input"}
"""Tables of logits and of vectors are parameters of the model itself, or of a module that looks them up."""


def test_what_has_no_likelihood_or_is_no_model_is_refused():
    for other in (nn.Linear(2, 2), PixelIQN((1, 2, 2), 2, 4, 1), ImageModel((1, 2, 2), 2, "gated", "quantile", 4, 1)):
        with pytest.raises(ModelError, match="no likelihood that goes entry by entry"):
            exact(other)


def test_the_exact_cases_are_those_that_are_not_refused():
    """A class or a head that does not say so has no exact form, and whatever says so has one."""
    for case in CASES:
        if case in EXACT_CASES:
            refuse(case.build())
        else:
            with pytest.raises(ModelError, match="no exact form"):
                refuse(case.build())


def test_a_part_without_an_exact_form_is_named():
    model = GatedPixelCNN((1, 3, 3), 2, 4, 1)
    model.trunk.norm = nn.BatchNorm2d(4)
    with pytest.raises(ModelError, match=r"trunk\.norm is a BatchNorm2d, which has none; use one of chainrule's own"):
        exact(model)


@pytest.mark.parametrize(
    ("build", "name", "kind"),
    [
        (lambda: Histogram(3), "", Histogram),
        (lambda: ConditionalMLP(3), "", ConditionalMLP),
        (lambda: ConditionalMLP(3), "mlp.0", nn.Linear),
        (lambda: MADE((2,), 3), "", MADE),
        (lambda: MADE((2,), 3), "network.output", MaskedLinear),
        (lambda: PixelCNN((1, 3, 3), 2, 4, 1), "", PixelCNN),
        (lambda: PixelCNN((1, 3, 3), 2, 4, 1), "head", FactorisedHead),
        (lambda: PixelCNN((1, 3, 3), 2, 4, 1), "trunk", MaskedTrunk),
        (lambda: PixelCNN((1, 3, 3), 2, 4, 1), "trunk.blocks.0", ResidualBlock),
        (lambda: PixelCNN((1, 3, 3), 2, 4, 1), "trunk.norm", ChannelLayerNorm),
        (lambda: PixelCNN((1, 3, 3), 2, 4, 1), "trunk.hidden", MaskedConv2d),
        (lambda: PixelCNN((1, 3, 3), 2, 4, 1), "softmax", Softmax),
        (lambda: PixelCNNMADE((2, 3, 3), 2, 4, 1), "head", MADEHead),
        (lambda: LogisticPixelCNN((2, 3, 3), 4, 4, 1), "head", LogisticHead),
        (lambda: LogisticPixelCNN((2, 3, 3), 4, 4, 1), "head.mixture", LogisticMixture),
        (lambda: GatedPixelCNN((1, 3, 3), 2, 4, 1), "trunk", GatedTrunk),
        (lambda: GatedPixelCNN((1, 3, 3), 2, 4, 1), "trunk.blocks.0.gate", Gate),
    ],
    ids=lambda value: None if callable(value) and not isinstance(value, type) else str(value),
)
def test_a_subclass_is_refused_until_it_speaks_for_itself(build, name, kind):
    """It may compute something else: what its base says of itself does not hold for it."""
    model = build()
    refuse(model)
    part = model.get_submodule(name)
    assert type(part) is kind
    part.__class__ = type("Other", (kind,), {})
    with pytest.raises(
        ModelError, match=rf"no exact form: its {f'part {name} is a Other' if name else 'class has none'}"
    ):
        exact(model)
    part.__class__ = type("Other", (kind,), {"composes_exactly": False})
    with pytest.raises(ModelError, match="no exact form"):
        exact(model)
    part.__class__ = type("Other", (kind,), {"composes_exactly": True})
    refuse(model)


def test_a_subclass_that_speaks_for_itself_is_converted():
    """Its own layers are those of its base: so are its frequencies."""

    class Own(PixelCNNMADE):
        composes_exactly = True

    plain, own = (image_model(cls, filters=6, blocks=1) for cls in (PixelCNNMADE, Own))
    x = events(plain, 3)
    assert torch.equal(exact(own).log_pmf(x), exact(plain).log_pmf(x))
    assert type(exact(own)) is Own


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "finite"), (float("inf"), "finite"), (1e30, "outgrow")])
def test_numbers_that_cannot_be_certified_are_refused_by_layer(value, said):
    model = image_model(PixelCNN)
    with torch.no_grad():
        model.trunk.blocks[1].spatial.weight[2, 3, 0, 1] = value
    with pytest.raises(ModelError, match=f"trunk.blocks.1.spatial.*{said}"):
        exact(model)


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s.pop("layers"),
        lambda s: s["layers"].pop("trunk.hidden"),
        lambda s: s["layers"]["trunk.hidden"].update(carrier="float16"),
        lambda s: s["layers"]["trunk.hidden"].update(levels=4),
        lambda s: s["layers"]["trunk.hidden"].update(bits="9"),
        lambda s: s["layers"]["trunk.input"].update(levels=2),
        lambda s: s["layers"]["trunk.norm"].update(high=2**27, low=-(2**27)),
        lambda s: s["layers"]["head.made.layers.0"].update(carrier="float64"),
    ],
)
def test_damaged_scales_are_refused(damage):
    model = image_model()
    scales = calibrate(model)
    exact(model, scales)
    damage(scales)
    with pytest.raises(ModelError):
        exact(model, scales)
