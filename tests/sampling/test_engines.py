"""Which engine runs a walk: the first that can, or the one that was asked for; and what all of them agree on."""

from __future__ import annotations

import pytest
import torch

from chainrule import plugins, sampling
from chainrule.codec.coder import Decoder, encode
from chainrule.contract import Engine, Walk
from chainrule.errors import ModelError
from chainrule.fixedpoint import edges, exact, frequencies
from chainrule.models import MADE, GatedPixelCNN, Histogram, PixelCNNMADE
from chainrule.sampling import engines
from laws import events, randomised, some_known


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Offering(Engine):
    """An engine that offers a walk, and a table, or neither."""

    def __init__(self, name, found=None):
        self.name, self.found, self.asked = name, found, []

    def walk(self, model, batch, context=None):
        self.asked.append((model, batch, context))
        return self.found

    def frequencies(self, model, y, context=None):
        return self.found


@pytest.fixture
def faster(monkeypatch):
    """The plug-ins' engines: none, until a test registers some."""
    plugins.load()
    monkeypatch.setattr(engines, "FASTER", {})
    return engines.FASTER


class Marked(Walk):
    """A walk to be recognised."""

    def conditional(self):
        return torch.full((1, 3), 1 / 3).double()

    def observe(self, value):
        """Whatever comes."""


def test_an_engine_that_returns_none_is_followed_by_the_next(faster):
    """In the order of registration, and by the plain steps in the end; each is asked for the same walk."""
    model, given = Histogram(3), Marked()
    unable, able, never = Offering("unable"), Offering("able", given), Offering("never", Marked())
    for engine in (unable, able, never):
        engines.register(engine)
    assert list(faster) == ["unable", "able", "never"]
    assert engines.start(model, 5, "context") is given
    assert unable.asked == able.asked == [(model, 5, "context")]
    assert not never.asked
    able.found = never.found = None
    assert type(engines.start(model, 5)) is type(model.start(5))
    assert engines.frequencies(model, torch.zeros(1, 1)) is None


def test_the_first_table_is_taken(faster):
    table = torch.zeros(1)
    for engine in (Offering("none"), Offering("some", table), Offering("other", torch.ones(1))):
        engines.register(engine)
    assert engines.frequencies(Histogram(3), torch.zeros(1, 1)) is table


def test_an_engine_is_taken_by_name(faster):
    """Only that one is asked; "steps" and "naive" are always there."""
    model, given = Histogram(3), Marked()
    first, second = Offering("first", Marked()), Offering("second", given)
    engines.register(first)
    engines.register(second)
    assert engines.start(model, 2, method="second") is given
    assert not first.asked
    assert type(engines.start(model, 2, method="steps")) is type(model.start(2))
    assert isinstance(engines.start(model, 2, method="naive"), engines.NaiveWalk)


def test_an_engine_that_is_missing_or_unable_is_said_by_name(faster):
    engines.register(Offering("unable"))
    with pytest.raises(ModelError, match=r"'quick' does not exist: use one of cached, unable, steps, naive"):
        engines.start(Histogram(3), 2, method="quick")
    with pytest.raises(ModelError, match=r"engine 'unable' cannot run this model here: use 'cached'"):
        engines.start(Histogram(3), 2, method="unable")


def test_a_walk_is_closed_however_it_ends(faster):
    """Once: at its end, and where a choice fails."""

    class Closing(Marked):
        closed = 0

        def close(self):
            self.closed += 1

    class Failing(sampling.Draw):
        def __call__(self, *_):
            raise ZeroDivisionError

    walk, u = Closing(), torch.zeros(1, 1, dtype=torch.float64)
    engines.register(Offering("closing", walk))
    sampling.walk(Histogram(3), 1, sampling.Draw(u))
    assert walk.closed == 1
    with pytest.raises(ZeroDivisionError):
        sampling.walk(Histogram(3), 1, Failing(u))
    assert walk.closed == 2


def test_plugins_are_found():
    """chainrule's own in the same way as any other."""
    plugins.load()
    assert {"graphs", "compiled"} <= set(engines.FASTER)


BUILDS = {
    "masked": lambda: PixelCNNMADE((3, 5, 4), 4, 12, 2),
    "gated": lambda: GatedPixelCNN((2, 4, 4), 3, 6, 1, classes=2),
    "no image": lambda: MADE((4,), 5, (9,)),
}


@pytest.mark.parametrize("name", BUILDS)
def test_without_plugins_everything_gives_the_same(name, monkeypatch):
    """Bit for bit in exact mode: samples, completions, scores, likelihoods, frequencies, what a decoder reads."""
    torch.manual_seed(0)
    model = exact(randomised(BUILDS[name](), dtype=torch.float32))
    x, context = events(model, 9), model.example_context(9)
    known = some_known(model, x)

    def everything():
        table = frequencies(model, x, context)
        order = torch.stack([x[sampling.at(site)] for site in model.sites()])
        decoder = Decoder(encode([(order.flatten(), edges(model, x, context).flatten(0, 1), model.levels)]))
        decoded = sampling.walk(model, 9, decoder, context=context)
        decoder.finish()
        assert torch.equal(decoded, x)
        return [
            model.sample(30, model.example_context(30), seeded(3)),
            model.complete(x, known, context, seeded(1)),
            sampling.score(model, x, context),
            model.site_log_probs(x, context),
            table,
            edges(model, x, context),
        ]

    with torch.no_grad():
        found = everything()
        monkeypatch.setattr(engines, "FASTER", {})
        plain = everything()
        naive = [
            model.sample(30, model.example_context(30), seeded(3), "naive"),
            model.complete(x, known, context, seeded(1), "naive"),
            sampling.score(model, x, context, "naive"),
        ]
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(naive, plain, strict=False))


def test_float_models_without_plugins_agree_up_to_rounding(monkeypatch):
    torch.manual_seed(0)
    model = randomised(BUILDS["masked"](), dtype=torch.float32)
    x = events(model, 20)
    found = sampling.score(model, x)
    monkeypatch.setattr(engines, "FASTER", {})
    assert (sampling.score(model, x) - found).abs().max() < 1e-4
