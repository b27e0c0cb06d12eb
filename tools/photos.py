"""Make the set that the photograph models are trained on: python tools/photos.py DEST [PACKAGES [MODE]]

Takes the pictures out of four Debian packages of wallpapers (`apt-get download` fetches them into PACKAGES, a folder
that may hold them already), one file a picture, the largest, and shrinks each by at least 2, which leaves no trace of
how it was compressed. DEST then holds train/, validation/ and test/ with PNG files, RGB or, if MODE is L, gray: a
training picture in three sizes, the others in one; all versions of a picture are in one split. Pictures to train and to
validate on lie as an archive would lay them, as least squares predict them best; test pictures as they are.
DEST/hashes.json lists the SHA-256 of every file.

Authors and licences stand in the packages' own copyright files and in the model cards.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from chainrule.codec.orienting import predicted_best
from chainrule.data.orientations import laid
from chainrule.models import LogisticPixelCNN

PACKAGES = ("plasma-workspace-wallpapers", "mate-backgrounds", "lomiri-wallpapers-16.04", "gnome-backgrounds")
SUFFIXES = {".jpg", ".png", ".webp"}
VALIDATION = ("Kite", "Storm", "free_by_Peter_Nerlich", "FallenLeaf")
TEST = ("Autumn", "Path", "Dune", "TwoWings", "life_by_Aitzol_Berasategi", "Bridge_by_Sander_Klootwijk")
SIZES = ((384, Image.Resampling.LANCZOS), (320, Image.Resampling.BOX), (448, Image.Resampling.LANCZOS))
"""Short sides, and what shrinks to them; validation and test have the first."""


def name_of(path: Path) -> str:
    """What a picture is called: sizes and variants of one have one name."""
    parts = path.parts
    name = parts[parts.index("wallpapers") + 1] if "wallpapers" in parts else path.stem.partition("_3840")[0]
    return name.partition("_5640")[0].removesuffix("-l").removesuffix("-d")


def pictures(folder: Path) -> dict[str, Path]:
    """The largest file of every picture below a folder, by name; "Wood", beside "wood", is called "Wood-2"."""
    found: dict[str, Path] = {}
    spelled: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix not in SUFFIXES or path.is_symlink() or "screenshot" in path.stem or not path.is_file():
            continue
        name = name_of(path)
        if spelled.setdefault(name.casefold(), name) != name:  # one file to systems that ignore case
            name += "-2"
        if name not in found or path.stat().st_size > found[name].stat().st_size:
            found[name] = path
    return found


def as_archives_lay(picture: Image.Image) -> Image.Image:
    """A picture laid as it is coded: transposed, mirrored, or as it is."""
    channels = len(picture.getbands())
    x = torch.from_numpy(np.array(picture)).view(1, picture.height, picture.width, channels).permute(0, 3, 1, 2)
    model = LogisticPixelCNN(
        (channels, None, None), 256, filters=1, blocks=0, layer_norm=False
    )  # predictions need no weights
    y = laid(x, predicted_best(model, x))[0].permute(1, 2, 0)
    return Image.fromarray(y.squeeze(2).numpy() if channels == 1 else y.numpy(), picture.mode)


def main(dest: Path, packages: Path, mode: str) -> None:
    """Fetch, unpack, shrink."""
    packages.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if not list(packages.glob(f"{package}_*.deb")):
            subprocess.run(["apt-get", "download", package], cwd=packages, check=True)
        (archive,) = packages.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(archive), str(packages / "unpacked")], check=True)
    hashes = {}
    for name, path in sorted(pictures(packages / "unpacked").items()):
        split = "validation" if name in VALIDATION else "test" if name in TEST else "train"
        with Image.open(path) as opened:
            picture = opened.convert("RGB").convert(mode)
        for short, resampling in SIZES if split == "train" else SIZES[:1]:
            factor = short / min(picture.size)
            if factor > 0.5:
                continue
            small = picture.resize((round(picture.width * factor), round(picture.height * factor)), resampling)
            small = small if split == "test" else as_archives_lay(small)
            to = dest / split / f"{name}-{short}.png"
            to.parent.mkdir(parents=True, exist_ok=True)
            small.save(to)
            hashes[f"{split}/{to.name}"] = hashlib.sha256(small.tobytes()).hexdigest()
    (dest / "hashes.json").write_text(json.dumps(hashes, indent=2) + "\n")
    counts = {split: sum(key.startswith(split) for key in hashes) for split in ("train", "validation", "test")}
    print(f"{dest}: {counts}, all SHA-256 {hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:16]}")


if __name__ == "__main__":
    dest, packages, mode = (*sys.argv[1:], *(None, "packages", "RGB")[len(sys.argv) - 1 :])[:3]
    if dest is None or mode not in ("RGB", "L") or len(sys.argv) > 4:
        raise SystemExit(__doc__)
    main(Path(dest), Path(packages), mode)
