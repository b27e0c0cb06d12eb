"""The same archive whatever computes it: threads, compiled code or none, another kind of processor; and killed ones."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from chainrule.codec import compress, compress_files, decompress
from chainrule.codec.picture_files import read_file
from chainrule.data.listing import list_folder
from chainrule.fixedpoint import calibrate, exact
from chainrule.models import ImageModel, PixelCNNMADE

MODELS = {
    "of one size": lambda: (PixelCNNMADE((3, 6, 5), 4, 12, 2), (20, 6, 5, 3)),
    "by fronts": lambda: (ImageModel((3, None, None), 64, head="logistic", filters=9, blocks=2), (2, 5, 9, 3)),
    "by rows": lambda: (ImageModel((1, None, None), 20, "gated", "logistic", filters=6, blocks=1), (2, 6, 7, 1)),
}
ELSEWHERE = """
import sys, numpy as np, torch
torch.set_num_threads(2)
torch.backends.mkldnn.set_flags(False)
from chainrule import zoo
from chainrule.codec import compress, decompress
for top in sys.argv[1:]:
    model = zoo.load(top)
    x = decompress(model, open(top + "/a.crz", "rb").read())
    np.save(top + "/back.npy", x)
    open(top + "/again.crz", "wb").write(compress(model, x))
"""


def packed(kind, folder):
    """A model and what it packs, the same with every number of threads, in a folder; the pictures and the bytes."""
    torch.manual_seed(0)
    model, shape = MODELS[kind]()
    x = np.random.RandomState(0).randint(0, model.levels, shape).astype(np.uint8)
    model = exact(model, calibrate(model, torch.from_numpy(x).permute(0, 3, 1, 2).long()))
    model.save_pretrained(folder)
    try:
        blobs = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            blobs.append(compress(model, x))
            assert threads == 1 or np.array_equal(decompress(model, blobs[0]), x)
    finally:
        torch.set_num_threads(1)
    assert len(set(blobs)) == 1
    (folder / "a.crz").write_bytes(blobs[0])
    return x, blobs[0]


def test_another_process_on_another_processor(tmp_path, engine):
    """Packed with AVX, oneDNN and 1, 2, 3 threads; unpacked, and packed again, without either, by the other engine."""
    given = {tmp_path / kind: packed(kind, tmp_path / kind) for kind in MODELS}
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
    environment["CHAINRULE_COMPILED"] = "0" if engine == "compiled" else "1"
    subprocess.run([sys.executable, "-c", ELSEWHERE, *map(str, given)], env=environment, check=True)
    for folder, (x, blob) in given.items():
        assert np.array_equal(np.load(folder / "back.npy"), x)
        assert (folder / "again.crz").read_bytes() == blob


FOR_EVER = """
import itertools, sys
from chainrule.codec import compress_files, decompress_file
verb, top = sys.argv[1:]
for number in itertools.count():
    if verb == "compress":
        compress_files(top + "/in", [], f"{top}/out/{number}.crz")
    else:
        decompress_file(top + "/a.crz", f"{top}/out/{number}")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize("verb", ["compress", "decompress"])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.thorough) for seed in (1, 2, 3))])
def test_killed_at_a_random_moment(verb, seed, tmp_path):
    """What has a final name is whole; what is left beside it is hidden, and nobody takes it for a picture."""
    rand = np.random.RandomState(seed)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for number in range(12):
        x = rand.randint(0, 256, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(x).save(tmp_path / "in" / ("deep/" * (number % 2) + f"{number}.png"))
    compress_files(tmp_path / "in", [], tmp_path / "a.crz")
    out = tmp_path / "out"
    out.mkdir()
    process = subprocess.Popen([sys.executable, "-c", FOR_EVER, verb, str(tmp_path)])
    while process.poll() is None and not (out / ("1.crz" if verb == "compress" else "1")).exists():
        time.sleep(0.01)
    time.sleep(rand.uniform(0, 0.1))
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = [path for path in out.iterdir() if path.name.startswith(".")]
    assert len(left) <= 1
    assert all(re.fullmatch(r"\.[0-9a-f]{12}\.part(\.crz)?", path.name) for path in left)
    for path in out.glob("[0-9]*"):
        if verb == "compress":
            assert path.read_bytes() == (tmp_path / "a.crz").read_bytes()
        for file in list_folder(path).pictures if path.is_dir() else ():
            assert read_file(file).same(read_file(tmp_path / "in" / file.relative_to(path)))
    assert not any(".part" in str(path) for path in list_folder(out).pictures)
