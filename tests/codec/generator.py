"""A folder of pictures of random sizes, kinds and names; python -m codec.generator DEST [COUNT] [SEED] packs it.

What an archive must take: 1-bit, gray of 1 to 8 bits, gray with alpha, RGB, RGBA with hidden colours, palettes of any
depth with and without transparency, tRNS keys, interlaced files, other lossless formats, and JPEGs. Sizes from 1×1 to
2,000×1,500, mostly small; drawings, photograph-like noise and plain noise. Everything follows from the seed.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from chainrule.codec import compress_files
from chainrule.codec.picture_files import read_file

KINDS = ["1", "L", "LA", "RGB", "RGBA", "P", "P transparent", "L key", "RGB key", "L2", "L4", "P4"]
SYLLABLES = ["ka", "lo", "mi", "ru", "te", "é", "日", "x y", "-", "_", "Ω", "photo", "2024"]
OTHERS = [".bmp", ".tiff", ".webp", ".gif", ".jpg"]


def samples(rand: np.random.RandomState, height: int, width: int, channels: int) -> np.ndarray:
    """A drawing, something smooth with a little noise, or noise: (H, W, C) uint8."""
    kind = rand.randint(4)
    if kind == 0:
        return rand.randint(0, 256, (height, width, channels)).astype(np.uint8)
    if kind == 1:
        y, x = np.mgrid[:height, :width]
        waves = [np.sin(y / rand.uniform(3, 60) + x / rand.uniform(3, 60)) for _ in range(channels)]
        return (
            (127 + 100 * np.stack(waves, 2) + rand.normal(0, 4, (height, width, channels)))
            .clip(0, 255)
            .astype(np.uint8)
        )
    image = np.empty((height, width, channels), np.uint8)
    image[:] = rand.randint(0, 256, channels)
    for _ in range(rand.randint(1, 12)):
        top, left = rand.randint(height), rand.randint(width)
        image[top : top + rand.randint(1, height + 1), left : left + rand.randint(1, width + 1)] = rand.randint(
            0, 256, channels
        )
    return image


def size(rand: np.random.RandomState, most: tuple[int, int]) -> tuple[int, int]:
    """Width and height: log-uniform from 1, mostly small."""
    if rand.rand() < 0.9:
        most = (min(most[0], 96), min(most[1], 96))
    width, height = (int(np.exp(rand.uniform(0, np.log(side + 1)))) for side in most)
    return min(max(width, 1), most[0]), min(max(height, 1), most[1])


def picture(rand: np.random.RandomState, kind: str, width: int, height: int) -> tuple[Image.Image, dict]:
    """A picture of a kind, and how it is to be saved as a PNG."""
    if kind == "1":
        return Image.fromarray(samples(rand, height, width, 1)[..., 0] > 127), {}
    if kind in ("L", "L key"):
        return Image.fromarray(samples(rand, height, width, 1)[..., 0]), {
            "transparency": int(rand.randint(256))
        } if kind[1:] else {}
    if kind in ("LA", "RGB", "RGBA"):
        return Image.fromarray(samples(rand, height, width, len(kind))), {}
    if kind == "RGB key":
        image = samples(rand, height, width, 3)
        return Image.fromarray(image), {"transparency": tuple(map(int, image[0, 0]))}
    bits = {"L2": 2, "L4": 4, "P4": 4}.get(kind, int(rand.choice([1, 2, 4, 8])))
    colors = int(rand.randint(2, 2**bits + 1))
    index = samples(rand, height, width, 1)[..., 0].astype(int) % colors
    image = Image.frombytes("P", (width, height), index.astype(np.uint8).tobytes())
    palette = rand.randint(0, 256, (colors, 3)) if kind[0] == "P" else np.arange(colors)[:, None].repeat(3, 1)
    image.putpalette(palette.astype(np.uint8).tobytes())
    keys = bytes(rand.randint(0, 256, rand.randint(1, colors + 1)).astype(np.uint8))
    return image, {"bits": bits, **({"transparency": keys} if kind == "P transparent" else {})}


def make(folder: Path, count: int, seed: int, most: tuple[int, int] = (2000, 1500)) -> Iterator[Path]:
    """Write pictures below a folder, one after the other."""
    rand = np.random.RandomState(seed)
    for number in range(count):
        kind, (width, height) = KINDS[rand.randint(len(KINDS))], size(rand, most)
        image, options = picture(rand, kind, width, height)
        name = "".join(SYLLABLES[rand.randint(len(SYLLABLES))] for _ in range(rand.randint(1, 6))).strip(" ")
        suffix = OTHERS[rand.randint(len(OTHERS))] if rand.rand() < 0.15 else ".png"
        path = folder / ("abc"[rand.randint(3)] if rand.rand() < 0.5 else ".") / f"{name}{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if suffix == ".png":
                image.save(path, optimize=bool(rand.rand() < 0.5), **options)
            else:
                image.save(path, **({"lossless": True, "exact": True} if suffix == ".webp" else {}))
        except (OSError, ValueError):  # a kind that the format does not have
            path.unlink(missing_ok=True)
            path = path.with_suffix(".png")
            image.save(path, **options)
        yield path


def check(folder: Path, count: int, seed: int) -> None:
    """Make, pack and unpack so many pictures by the command line, and hold it to what is promised."""
    folder.mkdir(parents=True)
    paths = list(make(folder / "given", count, seed))
    before, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    for words in (
        ["compress", folder / "given", "-o", folder / "a.crz"],
        ["decompress", folder / "a.crz", "-o", folder / "back"],
    ):
        subprocess.run([sys.executable, "-m", "chainrule", *map(str, words)], check=True)
        now, usage = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = usage.ru_utime - used.ru_utime
        print(
            f"{words[0]}: {now - before:.0f} s ({seconds:.0f} s of processors), at most {usage.ru_maxrss / 1e6:.2f} GB",
            flush=True,
        )
        before, used = now, usage
    back = {path.relative_to(folder / "back") for path in (folder / "back").rglob("*") if path.is_file()}
    assert back == {path.relative_to(folder / "given") for path in paths}
    for path in paths:
        assert read_file(folder / "back" / path.relative_to(folder / "given")).same(read_file(path)), path
    pngs = [path for path in paths if path.read_bytes()[1:4] == b"PNG"]
    sizes = sum(path.stat().st_size for path in paths)
    print(f"{len(paths):,} pictures are back; {sizes:,} bytes became {(folder / 'a.crz').stat().st_size:,}", flush=True)
    worst = 0
    total = sum(path.stat().st_size + 64 for path in paths)
    assert (folder / "a.crz").stat().st_size <= total
    for path in pngs[: min(len(pngs), 1000)]:
        compress_files(path, None, folder / "one.crz", overwrite=True)
        worst = max(worst, (folder / "one.crz").stat().st_size - path.stat().st_size - len(path.name.encode()))
    print(f"of {min(len(pngs), 1000):,} in archives of their own, the worst takes PNG + its name + {worst} bytes")
    assert worst <= 40


if __name__ == "__main__":
    destination, *numbers = sys.argv[1:]
    check(Path(destination), *([int(n) for n in numbers] + [10_000, 0][len(numbers) :]))
