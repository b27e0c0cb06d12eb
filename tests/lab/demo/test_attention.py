"""Models with attention on the page of `chainrule demo`: they draw, complete and count, and show where they looked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from browser import Page, opened_browser
from chainrule import compiled
from chainrule.cli import main
from chainrule.fixedpoint.exact_attention import ExactCausalAttention
from chainrule.models import ImageGPT, PixelSNAIL
from compiled.test_walk import image_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not compiled.available(), reason="chainrule was installed without a C compiler"),
]


SIDE = 14


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with opened_browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture(scope="module", params=[ImageGPT, PixelSNAIL])
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, browser: Page) -> Iterator:
    """The page of a small model, open, and the exact model."""
    folder = tmp_path_factory.mktemp("attention")
    image_model(request.param, (1, SIDE, SIDE), filters=16, blocks=2).save_pretrained(folder / "model")
    assert main(["demo", str(folder / "model"), "-o", str(folder / "demo.html")]) == 0
    browser.window(1200, 900)
    browser.open(folder / "demo.html")
    browser.wait("document.body.dataset.state === 'ready'")
    yield browser, cr.exact(cr.load(folder / "model"))
    assert browser.complaints == []


def shares(model: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """Of each block, how every place shares its attention out, averaged over heads: softmax(q · k / √d)."""
    found = []

    def note(layer: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        q, k, _ = (part.double() for part in given)
        scores = (q @ k.mT / q.shape[-1] ** 0.5)[0]
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        found.append(scores.masked_fill(~seen, -torch.inf).softmax(-1).mean(0))

    hooks = [m.register_forward_pre_hook(note) for m in model.modules() if isinstance(m, ExactCausalAttention)]
    with torch.no_grad():
        model._logits(model._float(x))  # all places at once
    for hook in hooks:
        hook.remove()
    return found


def test_it_draws_completes_and_counts(shown: tuple[Page, Any]) -> None:
    """The pixels of the command line, for a seed and for a completion, and the bits of the exact model."""
    page, exact = shown
    page.wait(f"demo.sheet.pictures[0].position === {SIDE**2}")
    x = exact.sample(1, generator=torch.Generator().manual_seed(0))
    assert page.run("Array.from(demo.sheet.pictures[0].image)") == x.flatten().tolist()
    page.run("document.querySelector('#complete').scrollIntoView({behavior: 'instant'})")
    page.wait("document.getElementById('completed').textContent.startsWith('6 completions')")
    known = torch.tensor(page.run("Array.from(demo.knownPixels())"), dtype=torch.bool).view(SIDE, SIDE)
    generator = torch.Generator().manual_seed(page.run("demo.editing.seed"))
    given = torch.tensor(page.run("Array.from(demo.editing.image)")).view(1, 1, SIDE, SIDE)
    wanted = exact.complete(given.expand(6, -1, -1, -1), known, generator=generator)
    assert page.run("demo.completions.map(one => Array.from(one.image))") == wanted.flatten(1).tolist()
    page.run("document.querySelector('#heat').focus()")
    page.wait("document.getElementById('bits').dataset.total")
    bits = -float(exact.log_prob(x)[0]) / np.log(2)
    assert page.run("Number(document.getElementById('bits').dataset.total)") == pytest.approx(bits, rel=1e-9)


def test_it_shows_where_attention_went(shown: tuple[Page, Any]) -> None:
    """Shares sum to 1, none is a later place's, they are the exact model's: of one block, or the mean of all."""
    page, exact = shown
    page.wait(f"demo.sheet.pictures[0].position === {SIDE**2}")
    x = exact.sample(1, generator=torch.Generator().manual_seed(0))
    wanted = shares(exact, x)
    assert len(wanted) == page.run("demo.MODEL.looks.length")
    image = f"Uint8Array.from({json.dumps(x.flatten().tolist())})"
    for block in [None, *range(len(wanted))]:
        mean = torch.stack(wanted).mean(0) if block is None else wanted[block]
        for row, column in ((0, 0), (9, 4), (SIDE - 1, SIDE - 1)):
            asked = f"{{image: {image}, row: {row}, column: {column}, block: {json.dumps(block)}}}"
            found = np.array(page.run(f"demo.engine.ask('look', {asked}).answer.then(one => Array.from(one.weights))"))
            at = row * SIDE + column
            assert found.sum() == pytest.approx(1, abs=1e-5)
            assert (found[at + 1 :] == 0).all()
            assert found == pytest.approx(mean[at].numpy(), abs=2e-3)
            assert (found[: at + 1] > 0).any()
    page.run("document.querySelector('#heat').focus()")
    page.wait("document.getElementById('pixel-at').textContent.includes('Attention went most to row')")
    if len(wanted) > 1:
        before = page.run("document.querySelector('#picture canvas').toDataURL()")
        page.run("document.getElementById('block').value = '1'")
        page.run("document.getElementById('block').dispatchEvent(new Event('change'))")
        page.wait(f"document.querySelector('#picture canvas').toDataURL() !== {before!r}")
