"""The runtime of the demo, in a browser: the same numbers as the library's, for every kind of model that it takes."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import chainrule as cr
from browser import opened_browser
from chainrule import compiled as native
from chainrule.cli import main
from chainrule.codec.container import USUAL
from chainrule.errors import ModelError
from chainrule.fixedpoint import exact, frequencies
from chainrule.lab.demo import build_wasm
from chainrule.lab.demo.payload import payload
from chainrule.models import GatedPixelCNN, GrayscalePixelCNN, Histogram, LogisticPixelCNN
from compiled.test_walk import CLASSES, exact_model
from laws import randomised

pytestmark = pytest.mark.skipif(not native.available(), reason="chainrule was installed without a C compiler")

MODEL = "colored-mnist"
HELPERS = """
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const sha = async (array) => Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", array)),
  (byte) => byte.toString(16).padStart(2, "0")).join("");
const joined = (images) => Chainrule.container.joined(images);
const sentence = (error) => (error instanceof Chainrule.Problem ? error.message : "!" + error);
const refused = (promise) => promise.then(() => "", sentence);
const models = {};
const open = async (name, data) => (models[name] = await Chainrule.open(data), 1);
"""


def sha(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def nhwc(x):
    return x.permute(0, 2, 3, 1).numpy().astype(np.uint8)


def put(page, name, model, size=None):
    """Open a model in the page."""
    held = payload(model, name, size)
    data = json.dumps({"wasm": held.wasm, "program": held.program, "meta": held.meta})
    assert page.run(f"open({name!r}, {data})") == 1


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with the runtime alone, and a shipped model."""
    folder = tmp_path_factory.mktemp("runtime")
    model = cr.load(MODEL)
    scripts = "".join(f"<script>{text}</script>" for text in [*payload(model, MODEL).scripts, HELPERS])
    (folder / "page.html").write_text(f"<!doctype html><meta charset=utf-8>{scripts}", encoding="utf-8")
    with opened_browser(folder) as page:
        page.open(folder / "page.html")
        put(page, MODEL, model)
        yield page
        assert page.complaints == []


def test_samples_are_those_of_the_command_line(page, tmp_path):
    """The same SHA-256 for three seeds; side by side, alone, and pixel by pixel."""
    for seed in (0, 5, 2**40 + 1):
        out = tmp_path / f"{seed}.npy"
        assert main(["sample", MODEL, "-n", "5", "--seed", str(seed), "--exact", "-o", str(out)]) == 0
        x = np.load(out)
        assert page.run(f"sha(joined(models[{MODEL!r}].sample({{seed: {seed}n, count: 5}})))") == sha(x)
        for number in (0, 3):
            walk = f"models[{MODEL!r}].walk({{seed: {seed}n, number: {number}}})"
            assert page.run(f"sha({walk}.finish())") == sha(x[number])
            stepped = f"(() => {{ const walk = {walk}; while (!walk.next().done); return sha(walk.image); }})()"
            assert page.run(stepped) == sha(x[number])


@pytest.mark.parametrize("seed", [0, 1, -1, 2**32 + 5, 2**63, -(2**63)])
def test_uniforms_are_those_of_a_generator(page, seed):
    wanted = torch.rand(3, 2352, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).numpy()
    assert page.run(f"sha(models[{MODEL!r}].uniforms({seed}n, 0, 3))") == sha(wanted)
    assert page.run(f"sha(models[{MODEL!r}].uniforms({seed}n, 2))") == sha(wanted[2])


def test_a_walk_says_how_far_it_is(page):
    """Rows, columns and values of each pixel, and the bits that scoring finds."""
    found = page.run(f"""(() => {{
        const model = models[{MODEL!r}], walk = model.walk({{seed: 3}}), steps = [];
        while (!walk.done) steps.push(walk.next());
        const bits = model.score(walk.image);
        const same = bits.every((value, entry) => value === walk.bits[entry]);
        return {{ steps, image: Array.from(walk.image), same, done: walk.done }};
    }})()""")
    assert found["done"]
    assert found["same"]
    assert [(step["row"], step["column"]) for step in found["steps"]] == list(np.ndindex(28, 28))
    assert [value for step in found["steps"] for value in step["values"]] == found["image"]
    assert [step["done"] for step in found["steps"]] == [False] * 783 + [True]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_kind_of_model(page, cls):
    """Samples, integer conditionals, completions and receptive fields of every trunk and head that is lowered."""
    model, name = exact_model(cls), cls.__name__
    put(page, name, model)
    x = model.sample(30, generator=torch.Generator().manual_seed(1))
    assert page.run(f"sha(joined(models.{name}.sample({{seed: 1, count: 30}})))") == sha(nhwc(x))
    table = frequencies(model, x[:1])[:, 0].numpy()
    assert page.run(f"sha(models.{name}.frequencies(models.{name}.sample({{seed: 1}})[0]))") == sha(table)
    known = torch.rand(5, 6) < 0.5
    given, mask = nhwc(x[:1]).flatten().tolist(), known.int().flatten().tolist()
    y = model.complete(x[:1].expand(4, -1, -1, -1), known, generator=torch.Generator().manual_seed(2))
    asked = f"{{image: Uint8Array.from({given}), known: Uint8Array.from({mask}), seed: 2, count: 4}}"
    assert page.run(f"sha(joined(models.{name}.complete({asked})))") == sha(nhwc(y))
    walk = f"models.{name}.walk({{...{asked}, number: 3}})"
    assert page.run(f"sha({walk}.finish())") == sha(nhwc(y[3:]))
    probabilities = page.run(f"Array.from(models.{name}.conditional(Uint8Array.from({given}), 2, 3, 1))")
    assert probabilities == (table[(2 * 6 + 3) * 3 + 1] / 2**22).tolist()
    assert page.run(f"Array.from(models.{name}.field(0, 1))") == [1] + [0] * 29


def test_many_levels(page):
    """A mixture over 256 levels, which is asked at few points."""
    model = exact(randomised(LogisticPixelCNN((3, 4, 5), 256, filters=8, blocks=1, components=3)))
    put(page, "photo", model)
    x = model.sample(3, generator=torch.Generator().manual_seed(0))
    assert page.run("sha(joined(models.photo.sample({count: 3})))") == sha(nhwc(x))
    assert page.run("sha(models.photo.frequencies(models.photo.sample()[0]))") == sha(frequencies(model, x[:1])[:, 0])


def test_pictures_of_any_size(page):
    """At a size that is chosen, behind local least squares, copies of neighbours among the components."""
    model = LogisticPixelCNN((4, None, None), 256, filters=8, blocks=1, components=3, prediction=2, copies=2)
    model = exact(randomised(model))
    put(page, "any", model, size=(5, 7))
    x = model.sample(3, generator=torch.Generator().manual_seed(0), size=(5, 7))
    assert page.run("sha(joined(models.any.sample({count: 3})))") == sha(nhwc(x))
    table = frequencies(model.sized(5, 7), x[:1])
    assert page.run("sha(models.any.frequencies(models.any.sample()[0]))") == sha(table[:, 0])


def test_archives(page, tmp_path):
    """What the command line packs is unpacked, what the page packs is the same bytes, and what is wrong is refused."""
    model = exact(cr.load(MODEL))
    x = nhwc(model.sample(6, generator=torch.Generator().manual_seed(0)))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k, image in enumerate(x[:3]):
        Image.fromarray(image * 85).save(folder / f"{k}.png")
    np.save(tmp_path / "x.npy", x)
    for name, what in {"png": folder, "npy": tmp_path / "x.npy"}.items():
        archive = tmp_path / f"{name}.crz"
        assert main(["compress", str(what), "-m", MODEL, "-o", str(archive), "--chunk", "4"]) == 0
        given = json.dumps(base64.b64encode(archive.read_bytes()).decode())
        found = page.run(f"""(async () => {{
            const model = models[{MODEL!r}], archive = bytes({given});
            const {{ images, names }} = await model.unpack(archive);
            const again = await model.pack(images, names);
            const wrong = [];
            for (let k = 0; k < archive.length; k += 37) {{
                wrong.push(await refused(model.unpack(archive.with(k, archive[k] ^ 1))));
                wrong.push(await refused(model.unpack(archive.subarray(0, k))));
            }}
            return {{ names, images: await sha(joined(images)), again: await sha(again), wrong }};
        }})()""")
        assert found["images"] == sha(x[: 3 if name == "png" else 6])
        assert all(sentence.endswith(".") and sentence[0] in "TU" for sentence in found["wrong"])
        if name == "png":
            assert found["names"] == ["0.png", "1.png", "2.png"]
            assert found["again"] == hashlib.sha256(archive.read_bytes()).hexdigest()


def test_deflate_is_that_of_zlib(page):
    """Byte for byte: tables, headers, and bytes of every kind, which take fixed codes, others, or none."""
    rng = np.random.default_rng(0)
    texts = [(bytes(np.repeat([1, 40, 8, 28, 28, 0, 1, 0, 0, 0], n).tolist()), b"") for n in (1, 2, 3, 9, 40, 300)]
    texts += [
        (bytes(np.minimum(rng.exponential(scale, 200), 255).astype(int).tolist()), b"") for scale in (0.2, 3, 900)
    ]
    for n, length in ((1, 1), (1, 5), (1, 30), (3, 6), (5, 9), (40, 20)):
        names = ["".join(rng.choice(list("ab-_ 01é"), length)) + f"{k}.png" for k in range(n)]
        header = json.dumps([{"kind": "pictures", "names": names}], separators=(",", ":"), ensure_ascii=False)
        texts.append((header.encode(), USUAL))
    for text, dictionary in texts:
        given = f"bytes({base64.b64encode(text).decode()!r}), bytes({base64.b64encode(dictionary).decode()!r})"
        packer = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=dictionary)
        wanted = packer.compress(text) + packer.flush()
        assert bytes(page.run(f"Array.from(Chainrule.deflated({given}))")) == wanted


def test_archives_of_others_are_refused(page, tmp_path):
    """Of another model, of usual codecs, of what is no picture: one sentence that says what helps."""
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).integers(0, 256, (2, 28, 28, 3), np.uint8))
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 28, 28, 3), np.uint8), labels=np.arange(2.0))
    np.save(tmp_path / "x.npy", np.zeros((2, 28, 28, 3), np.uint8))
    for name, other, saying in (
        ("noise.npy", MODEL, "Usual codecs"),
        ("x.npz", MODEL, "no picture"),
        ("x.npy", "pixelsnail", "another model (a PixelSNAIL, "),
    ):
        archive = tmp_path / f"{name}.crz"
        assert main(["compress", str(tmp_path / name), "-m", other, "-o", str(archive)]) == 0
        given = json.dumps(base64.b64encode(archive.read_bytes()).decode())
        sentence = page.run(f"refused(models[{MODEL!r}].unpack(bytes({given})))")
        assert saying in sentence
        assert "chainrule decompress" in sentence


def test_models_that_no_page_can_hold():
    for model, saying in (
        (Histogram(4), "no model of images"),
        (LogisticPixelCNN((3, None, None), 256, filters=4, blocks=1), "--size 32 48"),
        (GatedPixelCNN((1, 3, 3), 2, filters=4, blocks=1, classes=2), "compiled walks"),
        (GrayscalePixelCNN((2, 3, 3), 4, filters=4, blocks=1), "compiled walks"),
    ):
        with pytest.raises(ModelError, match=saying):
            payload(model, "it")
    with pytest.raises(ModelError, match="leave the size"):
        payload(cr.load(MODEL), "it", (32, 48))
    with pytest.raises(ModelError, match="has room for, 9,216"):
        payload(cr.load("photo"), "it", (96, 97))


def test_the_module_is_made_of_these_sources():
    """After a change of the C code: `python -m chainrule.lab.demo.build_wasm`, with ziglang."""
    assert build_wasm.WASM.read_bytes().endswith(build_wasm.section())


@pytest.mark.slow
def test_the_module_is_what_the_compiler_makes():
    if not build_wasm.has_compiler():
        pytest.skip("ziglang is not installed")
    assert build_wasm.build() == build_wasm.WASM.read_bytes()
