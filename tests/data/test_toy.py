"""The warm-up, the portrait's joint distribution, and joint distributions of one's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chainrule.data import from_name, load_joint, portrait, portrait_joint, two_dimensional, warmup
from chainrule.errors import DataError


def entropy_bits(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def test_the_warmup_is_the_assignments_mixture() -> None:
    data = warmup()
    x = torch.cat([data.train, data.validation, data.test]).numpy()[:, 0] + data.offset
    assert x.shape == (10_000,)
    assert (x.min(), x.max()) == (1, 97)
    assert x[:6].tolist() == [48, 76, 88, 81, 79, 21]
    # a mixture of N(0.3, 0.1²) and N(0.8, 0.05²) in equal parts, in hundredths
    assert abs(x.mean() - 55) < 1
    assert abs((x < 60).mean() - 0.5) < 0.02


def test_the_portrait() -> None:
    assert portrait().shape == (200, 200, 3)
    joint = portrait_joint()
    assert joint.dtype == np.float64
    assert joint.sum() == pytest.approx(1, abs=1e-12)
    assert entropy_bits(joint) / 2 == pytest.approx(7.407, abs=5e-4)


def test_the_two_dimensional_data() -> None:
    data = two_dimensional()
    assert (data.name, data.levels, data.shape, data.offset) == ("portrait-2d", 200, (2,), 0)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [70_000, 10_000, 20_000]
    assert data.train.dtype == torch.uint8
    np.testing.assert_array_equal(data.truth, portrait_joint())
    x = torch.cat([data.train, data.validation, data.test]).long().numpy()
    # NumPy's own draw of the same cells
    cells = np.random.RandomState(0).choice(40_000, 100_000, p=data.truth.ravel())
    np.testing.assert_array_equal(x[:, 0] * 200 + x[:, 1], cells)
    # axis 0 of the joint is x₁
    first = np.bincount(x[:, 0], minlength=200) / len(x)
    assert np.abs(first - data.truth.sum(1)).max() < 6 * np.sqrt(data.truth.sum(1).max() / len(x))
    assert not torch.equal(two_dimensional(seed=1).train, data.train)


def test_cells_without_mass_are_never_drawn() -> None:
    joint = np.zeros((300, 300))
    joint[7, 299] = joint[299, 7] = 0.5
    data = two_dimensional(joint, name="corners", count=1_000)
    assert data.train.dtype == torch.int16
    assert {tuple(row) for row in data.train.tolist()} == {(7, 299), (299, 7)}


def test_a_joint_is_read_and_normalised_in_float64(tmp_path) -> None:
    joint = (portrait_joint() * 1.0005).astype(np.float32)
    np.save(tmp_path / "mine.npy", joint)
    found = load_joint(tmp_path / "mine.npy")
    assert found.dtype == np.float64
    assert found.sum() == pytest.approx(1, abs=1e-12)
    data = from_name(str(tmp_path / "mine.npy"), seed=3)
    assert (data.name, data.levels) == ("mine", 200)
    np.testing.assert_array_equal(data.truth, found)


def _with(value: float) -> np.ndarray:
    joint = np.full((4, 4), 1 / 16)
    joint[1, 2] = value
    return joint


@pytest.mark.parametrize(
    ("joint", "sentence"),
    [
        (_with(-0.1), r"holds a negative entry \(-0.1\)"),
        (_with(np.nan), "holds NaN or infinite"),
        (_with(np.inf), "holds NaN or infinite"),
        (_with(0.1), "sums to 1.0375"),
        (np.zeros((4, 4)), "sums to 0"),
        (np.full((4, 3), 1 / 12), r"has shape \(4, 3\)"),
        (np.full(16, 1 / 16), r"has shape \(16,\)"),
        (np.ones((1, 1)), r"has shape \(1, 1\)"),
        (np.eye(4, dtype=np.int64), "holds int64"),
        (np.eye(4, dtype=complex) / 4, "holds complex128"),
    ],
)
def test_what_is_no_joint_is_refused_with_its_path(tmp_path, joint: np.ndarray, sentence: str) -> None:
    np.save(tmp_path / "joint.npy", joint)
    with pytest.raises(DataError, match=sentence) as caught:
        load_joint(tmp_path / "joint.npy")
    assert str(tmp_path / "joint.npy") in str(caught.value)
    with pytest.raises(DataError, match=sentence):
        two_dimensional(joint, name="mine")


def test_damaged_files_are_refused(tmp_path) -> None:
    path = tmp_path / "joint.npy"
    np.save(path, portrait_joint())
    whole = path.read_bytes()
    for n in (0, 3, 6, 9, 40, 200, len(whole) - 1):
        path.write_bytes(whole[:n])
        with pytest.raises(DataError, match=r"joint\.npy is"):
            load_joint(path)
    np.save(path, np.array([{}], dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        load_joint(path)
    with pytest.raises(DataError, match="there is no"):
        load_joint(tmp_path / "nothing.npy")
    with pytest.raises(DataError, match="folder"):
        load_joint(tmp_path)


def test_too_few_points_are_refused() -> None:
    with pytest.raises(DataError, match="too few"):
        two_dimensional(count=9)


def test_names() -> None:
    assert from_name("warmup").name == "warmup"
    assert from_name("portrait-2d", levels=200).name == "portrait-2d"
    with pytest.raises(DataError, match="warmup, portrait-2d, hopper-mnist"):
        from_name("portrait")
    with pytest.raises(DataError, match="100 levels, not 4"):
        from_name("warmup", levels=4)
