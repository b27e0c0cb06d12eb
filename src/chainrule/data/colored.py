"""Coloured MNIST, "the Hopper set": digits printed in negative on random crops of the portrait, two bits a channel.

The assignment's recipe with another photograph: a random 28 × 28 crop in colour, inverted where the digit's pixel is
above 127, then reduced to its two highest bits. Its floor is about 0.042 bits/dim (14.2 bits for the crop's position
and 80 to 90 bits for the thresholded digit, over 2,352 dimensions). Backgrounds repeat between train and test by
construction (29,929 positions); digits do not.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch

from chainrule.data.dataset import Dataset
from chainrule.data.hopper import SIDE, portrait
from chainrule.data.mnist import load_mnist
from chainrule.data.pictures import to_nchw
from chainrule.data.reading import sha256
from chainrule.errors import DataError

# of the (N, 28, 28, 3) uint8 bytes; another JPEG decoder may give other backgrounds
TRAIN_SHA256 = "cde06396d5ebdbddbb6848e121f16ccab0a1eb765805b173999e124c1c7704ad"
TEST_SHA256 = "72056cfc51e250065b056051300d6125a632fec4ac452d339c8451c9e7e0a48a"


def color(digits: np.ndarray, seed: int) -> np.ndarray:
    """Print each digit on a random crop of the portrait: (N, H, W) uint8 → (N, H, W, 3) uint8 with levels 0…3.

    `RandomState(seed)` draws all rows of the crops' corners, then all columns: NumPy promises to keep that stream.
    Raises `DataError` for digits of another shape or type.

    >>> digit = np.zeros((1, 28, 28), np.uint8)
    >>> color(digit, seed=0)[0, 0, 0].tolist(), color(digit + 255, seed=0)[0, 0, 0].tolist()
    ([0, 0, 0], [3, 3, 3])
    """
    if digits.ndim != 3 or digits.dtype != np.uint8 or not 1 <= max(digits.shape[1:]) <= SIDE:
        raise DataError(
            f"digits to colour must be (N, H, W) uint8, at most {SIDE} a side, not {digits.shape} {digits.dtype}"
        )
    count, height, width = digits.shape
    rand = np.random.RandomState(seed)
    rows = rand.randint(0, SIDE - height + 1, count)
    columns = rand.randint(0, SIDE - width + 1, count)
    # (255 − v) >> 6 equals (v >> 6) ^ 3, so that the portrait can be reduced once, before it is inverted; rows are kept
    # flat (column, channel), since long rows are quick
    background = (portrait() >> 6).reshape(SIDE, SIDE * 3)
    images = np.where(digits > 127, np.uint8(3), np.uint8(0)).repeat(3, axis=2)
    for image, row, column in zip(images, rows.tolist(), columns.tolist(), strict=True):
        image ^= background[row : row + height, column * 3 : (column + width) * 3]
    return images.reshape(count, height, width, 3)


def crop_bits(picture: np.ndarray, height: int, width: int) -> float:
    """The entropy of a crop of a picture, in bits, when all its places are equally likely: (H, W, C) → a number.

    Places whose crops are the same are one outcome. On the Hopper set it is what any model has to pay for the
    background: log₂ 29,929 = 14.87 bits, less what flat parts of the portrait save, 14.23.

    >>> crop_bits(np.arange(8).reshape(2, 4, 1), 2, 1), crop_bits(np.zeros((2, 4, 1)), 2, 1)
    (2.0, 0.0)
    """
    windows = np.lib.stride_tricks.sliding_window_view(picture, (height, width), (0, 1))
    counts = np.array([*Counter(window.tobytes() for row in windows for window in row).values()])
    shares = counts / counts.sum()
    return abs(float((shares * np.log2(shares)).sum()))


@dataclass(frozen=True)
class FreshCrops:
    """Digits on fresh crops whenever they are asked for: `color` with PyTorch's generator in place of NumPy's.

    >>> digits = np.array([np.zeros((28, 28)), np.full((28, 28), 255)], np.uint8)
    >>> images = FreshCrops.of(digits)(torch.tensor([1, 0, 1]))
    >>> images.shape, images.dtype
    (torch.Size([3, 3, 28, 28]), torch.uint8)
    """

    ink: torch.Tensor  # (N, H, W) uint8: 3 where a digit inverts its background, 0 elsewhere
    background: torch.Tensor  # (SIDE, SIDE, 3) uint8 levels

    @classmethod
    def of(cls, digits: np.ndarray) -> FreshCrops:
        """(N, H, W) uint8, as `color` takes them."""
        ink = np.where(digits > 127, np.uint8(3), np.uint8(0))
        return cls(torch.from_numpy(ink), torch.from_numpy(portrait() >> 6))

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """The digits of these rows, (B,), on crops drawn anew: (B, 3, H, W) uint8."""
        rows = rows.cpu()
        _, height, width = self.ink.shape
        top = torch.randint(SIDE - height + 1, (len(rows), 1, 1)) + torch.arange(height)[:, None]
        left = torch.randint(SIDE - width + 1, (len(rows), 1, 1)) + torch.arange(width)
        return (self.background[top, left] ^ self.ink[rows][..., None]).permute(0, 3, 1, 2).contiguous()


def hopper_mnist(folder: str | os.PathLike | None = None, *, validation: int = 5_000) -> Dataset:
    """Coloured MNIST: train (55,000, 3, 28, 28), validation (5,000, …), test (10,000, …), uint8 with 4 levels.

    Labels are the digits. They and their pictures come from `load_mnist(folder)`; the last `validation` of the 60,000
    training images are held out. `redraw` prints training digits on fresh crops. A difference from the published bytes
    is said in `notes`. `masks` are the digits' pixels. Raises `DataError` when MNIST cannot be had.
    """
    digits = load_mnist(folder)
    if not 1 <= validation < len(digits.train_images):
        raise DataError(f"{validation} images cannot be held out for validation: choose from 1 to 59,999")
    notes, splits = [], []
    for name, images, seed, expected in (
        ("training", digits.train_images, 0, TRAIN_SHA256),
        ("test", digits.test_images, 1, TEST_SHA256),
    ):
        colored = color(images, seed)
        if (found := sha256(colored)) != expected:
            notes.append(
                f"The {name} images of the Hopper set differ from the published ones (SHA-256 {found[:12]}… instead of "
                f"{expected[:12]}…), probably by another JPEG decoder: figures are near the published ones, not equal."
            )
        splits.append(to_nchw(colored))
    train, test = splits
    numbers = torch.from_numpy(digits.train_labels.astype(np.int64))
    labels = {
        "train": numbers[:-validation],
        "validation": numbers[-validation:],
        "test": torch.from_numpy(digits.test_labels.astype(np.int64)),
    }
    fresh = FreshCrops.of(digits.train_images[:-validation])
    masks = {
        "train": fresh.ink,
        "validation": FreshCrops.of(digits.train_images[-validation:]).ink,
        "test": FreshCrops.of(digits.test_images).ink,
    }
    parts = train[:-validation], train[-validation:], test
    return Dataset("hopper-mnist", 4, *parts, notes=tuple(notes), labels=labels, redraw=fresh, masks=masks)
