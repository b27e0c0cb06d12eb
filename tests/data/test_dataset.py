"""A dataset refuses splits that do not belong together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chainrule.data import Dataset
from chainrule.errors import DataError

GOOD = torch.tensor([[0, 1], [3, 2]], dtype=torch.uint8)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"test": GOOD.float()}, "test split of toy is torch.float32"),
        ({"test": GOOD.bool()}, "torch.bool"),
        ({"test": GOOD.numpy()}, "uint8: it must be a tensor"),
        ({"validation": GOOD[:0]}, "it must hold events"),
        ({"test": GOOD[:, 0]}, "it must hold events"),
        ({"test": GOOD[:, :1]}, "all splits must have one shape"),
        ({"test": GOOD + 1}, "from 1 to 4: with 4 levels"),
        ({"train": GOOD.short() - 1}, "from -1 to 2"),
        ({"levels": 1}, "has 1 levels"),
        ({"truth": np.eye(3)}, r"truth of toy has shape \(3, 3\)"),
    ],
)
def test_bad_parts_are_refused(change: dict, sentence: str) -> None:
    parts = {"levels": 4, "train": GOOD, "validation": GOOD, "test": GOOD} | change
    with pytest.raises(DataError, match=sentence):
        Dataset("toy", **parts)


def test_good_parts_are_kept() -> None:
    data = Dataset("toy", 4, GOOD, GOOD, GOOD, truth=np.eye(4) / 4)
    assert data.shape == (2,)
    assert data.train is GOOD
