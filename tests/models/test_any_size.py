"""Models of pictures of any size: the same weights for each, whole pictures in strips, odd sizes."""

from __future__ import annotations

import pytest
import torch

import chainrule as cr
from chainrule import sampling
from chainrule.data import Dataset, Pictures
from chainrule.errors import DataError, ModelError
from chainrule.evaluation import bits_per_dim
from chainrule.models import ImageModel, image
from chainrule.training.config import TrainConfig
from chainrule.training.devices import machine_for
from chainrule.training.step import Training
from laws import randomised

KINDS = [
    ("masked", "factorised", 3),
    ("masked", "made", 3),
    ("masked", "logistic", 19),
    ("masked", "logistic", 19, 2),
    ("gated", "logistic", 3),
    ("gated", "factorised", 19),
    ("gated", "logistic", 19),
]


def build(trunk: str, head: str, levels: int, prediction: int | None = None) -> ImageModel:
    torch.manual_seed(0)
    model = ImageModel(
        (2, None, None), levels, trunk, head, filters=5, blocks=2, layer_norm=False, prediction=prediction
    )
    return randomised(model, dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 1), (4, 5)])
def test_as_the_model_of_one_size(kind, size) -> None:
    """Likelihoods and walks are those of the model of that size with the same weights."""
    model = build(*kind)
    trunk, head, levels, *prediction = kind
    options = {"filters": 5, "blocks": 2, "layer_norm": False, "prediction": prediction[0] if prediction else None}
    fixed = ImageModel((2, *size), levels, trunk, head, **options).double().eval()
    fixed.load_state_dict(model.state_dict())
    x = model.sample(2, generator=torch.Generator().manual_seed(0), size=size)
    assert torch.equal(x, fixed.sample(2, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(model.log_prob(x), fixed.log_prob(x))
    torch.testing.assert_close(sampling.score(model.like(x), x), model.site_log_probs(x).double())
    known = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    completed = model.complete(x, known, generator=torch.Generator().manual_seed(2))
    assert torch.equal(completed, fixed.complete(x, known, generator=torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exact", [False, True])
def test_strips(kind, exact, monkeypatch) -> None:
    """A picture's likelihood is the same in strips, each with as many rows above it as its features know of."""
    model = build(*kind)
    model = cr.exact(model.float()) if exact else model
    height = 50 if kind[3:] else 23  # more than farther samples' rows
    x = torch.randint(kind[2], (1, 2, height, 5), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model.site_log_probs(x)
        monkeypatch.setattr(image, "STRIP", 5 * (model.trunk.reach + 2))
        parts = model.site_log_probs(x)
    assert torch.equal(parts, whole) if exact else torch.allclose(parts, whole, rtol=0, atol=1e-9)
    model.trunk.reach = 1  # and with fewer rows above it is not
    with torch.no_grad():
        assert not torch.allclose(model.site_log_probs(x), whole, rtol=0, atol=1e-9)


def test_an_exact_model_has_one_identity() -> None:
    """Fingerprint and probe do not depend on the size at hand; frequencies sum to 2^22 at any size."""
    model = cr.exact(build("masked", "logistic", 19).float())
    assert len(cr.fixedpoint.probe(model)) == 32
    assert cr.fixedpoint.fingerprint(model) == cr.fixedpoint.fingerprint(cr.exact(model))
    x = torch.zeros(1, 2, 2, 3, dtype=torch.long)
    assert cr.fixedpoint.frequencies(model, x).sum(-1).unique().tolist() == [2**22]


def test_saved_and_loaded(tmp_path) -> None:
    """The shape (C, None, None) survives a folder."""
    model = build("masked", "logistic", 19).float()
    model.save_pretrained(tmp_path / "m")
    loaded = cr.load(str(tmp_path / "m"))
    assert loaded.shape == (2, None, None)
    assert loaded.any_size
    x = torch.zeros(1, 2, 3, 4, dtype=torch.long)
    assert torch.equal(loaded.log_prob(x), model.log_prob(x))


def test_bits_per_dim_of_mixed_sizes() -> None:
    """All entries count alike, whatever picture they are in."""
    model = build("masked", "factorised", 3)
    x = [torch.randint(3, (2, h, w), generator=torch.Generator().manual_seed(h)).byte() for h, w in ((2, 3), (5, 4))]
    bits = [-float(model.log_prob(picture[None]).sum()) / torch.tensor(2.0).log().item() for picture in x]
    assert bits_per_dim(model, Pictures(x)) == pytest.approx(sum(bits) / (12 + 40))


def test_training_on_crops_and_resuming(tmp_path) -> None:
    """A model of any size learns from crops; a resumed run is the uninterrupted one."""
    draw = torch.Generator().manual_seed(0)
    ramp = [torch.arange(w).expand(2, h, w).remainder(19).byte() for h, w in ((9, 30), (16, 17), (3, 8), (12, 12))]
    noise = [(p + torch.randint(2, p.shape, generator=draw).byte()).clamp(max=18) for p in ramp]
    data = Dataset("ramps", 19, train=Pictures(noise), validation=Pictures(noise[:1]), test=Pictures(noise[1:2]))

    def run(folder, steps, resume=False):
        torch.manual_seed(0)
        model = ImageModel((2, None, None), 19, "masked", "logistic", filters=6, blocks=1, layer_norm=False)
        settings = {"lr": 5e-3, "batch_size": 4, "crop": 8, "eval_every": 10, "schedule": "constant", "device": "cpu"}
        history = cr.fit(model, data, steps=steps, folder=folder, resume=resume, quiet=True, **settings)
        return model, history

    model, history = run(tmp_path / "a", 40)
    assert history.validation[-1][1] < history.validation[0][1] - 0.1
    from dataclasses import replace

    from chainrule.training import fitting

    real, seen = fitting.Run.save, []

    def stop(self):
        real(self)
        seen.append(self.training.done)
        if self.training.done == 20:
            raise KeyboardInterrupt

    fitting.Run.save = stop  # type: ignore[method-assign]
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "b", 40)
    finally:
        fitting.Run.save = real  # type: ignore[method-assign]
    again, _ = run(tmp_path / "b", 40, resume=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert replace(data, levels=19).shape == (2, None, None)


def test_pictures_without_pixels_are_refused() -> None:
    with pytest.raises(DataError, match="no pixels"):
        Pictures([torch.zeros(1, 2, 3, dtype=torch.uint8), torch.zeros(1, 0, 5, dtype=torch.uint8)])
    with pytest.raises(DataError, match="at least one pixel"):
        build("masked", "made", 3).log_prob(torch.zeros(2, 2, 0, 3, dtype=torch.long))


def test_crops_keep_their_labels() -> None:
    """Where a picture is too small and another takes its place in a batch, that one's label comes with it."""
    pictures = [torch.zeros(1, 9, 9, dtype=torch.uint8)] * 4 + [torch.ones(1, 3, 4, dtype=torch.uint8)] * 20
    data, labels = Pictures(pictures), torch.tensor([0] * 4 + [1] * 20)
    dataset = Dataset("two kinds", 2, data, data, data, labels={"train": labels})
    model = ImageModel((1, None, None), 2, "gated", "made", filters=4, blocks=1, classes=2)
    config = TrainConfig(steps=20, batch_size=8, crop=8, device="cpu")
    training, sizes = Training(model, dataset, config, machine_for(config)), set()
    for training.done in range(20):
        x, context = training.batch()
        assert context is not None
        sizes.add(tuple(x.shape[2:]))
        assert torch.equal(x[:, 0, 0, 0].long(), context)
    assert sizes == {(8, 8), (3, 4)}


@pytest.mark.parametrize("method", ["steps", "naive"])
def test_scored_at_their_own_size(method) -> None:
    model = build("masked", "made", 3)
    x = torch.randint(3, (4, 2, 3, 5), generator=torch.Generator().manual_seed(0))
    found = sampling.score(model, x, method=method)
    torch.testing.assert_close(found.flatten(1).sum(1), model.log_prob(x), rtol=0, atol=1e-9)


def test_crops_stay_inside() -> None:
    """Every crop is a piece of its picture, of the size that the first row settles."""
    pictures = Pictures([torch.arange(h * w).view(1, h, w).to(torch.int16) for h, w in ((5, 9), (3, 3), (40, 8))])
    torch.manual_seed(0)
    for rows in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        crops = pictures.crops(torch.tensor(rows), 4)
        first = pictures[rows[0]].shape
        assert crops.shape == (3, 1, min(4, first[1]), min(4, first[2]))
        steps = crops[:, 0, :, 1:] - crops[:, 0, :, :-1]
        assert (steps == 1).all()


def test_turned_crops_lie_in_all_eight_ways() -> None:
    """Each is a piece of the picture, read along its rows or columns, from either end."""
    height, width = 9, 40
    pictures = Pictures([torch.arange(height * width).view(1, height, width).to(torch.int16)])
    torch.manual_seed(0)
    seen = set()
    for _ in range(60):
        crop = pictures.crops(torch.tensor([0, 0]), 16, turned=True)[0, 0].int()
        down, right = (
            {int(step) for step in crop.diff(dim=0).unique()},
            {int(step) for step in crop.diff(dim=1).unique()},
        )
        assert sorted(crop.shape) == [9, 16]
        assert len(down) == len(right) == 1
        seen.add((*crop.shape, *down, *right))
    ways = {(9, 16, i * width, j) for i in (1, -1) for j in (1, -1)} | {
        (16, 9, j, i * width) for i in (1, -1) for j in (1, -1)
    }
    assert seen == ways


def test_an_epoch_covers_every_picture() -> None:
    """A picture has as many pieces as crops that cover it."""
    sizes = [(5, 9), (3, 3), (40, 8), (4, 4), (12, 4)]
    pictures = Pictures([torch.zeros(1, h, w, dtype=torch.uint8) for h, w in sizes])
    assert pictures.pieces(4).bincount().tolist() == [6, 1, 20, 1, 3]
    assert pictures.pieces(64).tolist() == [0, 1, 2, 3, 4]


def test_training_draws_pieces() -> None:
    """In one epoch each picture is drawn as often as it has pieces."""
    pictures = Pictures([torch.full((2, h, w), k, dtype=torch.uint8) for k, (h, w) in enumerate([(4, 4), (4, 16)])])
    data = Dataset("pieces", 19, pictures, pictures, pictures)
    config = TrainConfig(steps=5, batch_size=1, crop=4, device="cpu")
    training, seen = Training(build("masked", "logistic", 19), data, config, machine_for(config)), []
    for _ in range(5):
        seen.append(int(training.batch()[0][0, 0, 0, 0]))
        training.done += 1
    assert sorted(seen) == [0, 1, 1, 1, 1]


def test_refusals() -> None:
    """One sentence for what is asked of the wrong model."""
    model = build("masked", "logistic", 19)
    with pytest.raises(ModelError, match="say which, as in size"):
        model.sample(1)
    with pytest.raises(ModelError, match="any size"):
        model.sites()
    with pytest.raises(ModelError, match="leave the size 3×4 out"):
        cr.PixelCNN((1, 2, 2), 3, 4, 0).sample(1, size=(3, 4))
    with pytest.raises(ModelError, match="0×4"):
        model.sample(1, size=(0, 4))
    with pytest.raises(ModelError, match="MADE has no events of shape"):
        cr.MADE((1, None, None), 3)
    with pytest.raises(ModelError, match="no events of shape"):
        ImageModel((1, None, 4), 3)
    with pytest.raises(DataError, match=r"wants \(batch, 2, any, any\)"):
        model.log_prob(torch.zeros(1, 3, 4, 4).long())
    with pytest.raises(DataError, match="same number of channels"):
        Pictures([torch.zeros(1, 2, 2), torch.zeros(3, 2, 2)])
    with pytest.raises(DataError, match="no pictures"):
        Pictures([])
