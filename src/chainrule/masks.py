"""Who may see whom: boolean masks from ranks and orders. Pure functions, no modules.

An autoregressive network is an ordinary one whose connections have been thinned out until every output depends on
earlier inputs alone. Give every unit a *rank*, the position in the order up to which it has seen: then one rule builds
every mask, and composing masked layers composes the rule. `True` means "connected".

References:
    - Germain et al., MADE: Masked Autoencoder for Distribution Estimation, 2015, https://arxiv.org/abs/1502.03509
    - van den Oord et al., Pixel Recurrent Neural Networks, 2016, https://arxiv.org/abs/1601.06759
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

MaskType = Literal["A", "B"]


def rank_mask(in_ranks: Tensor, out_ranks: Tensor, *, strict: bool = False) -> Tensor:
    """Connect inputs to the outputs of at least their rank (of a higher rank, if `strict`).

    Args:
        in_ranks: integers of shape (I,).
        out_ranks: integers of shape (O,).
        strict: ask for `in_rank < out_rank` instead of `<=`.

    Returns:
        Booleans of shape (O, I), as `torch.nn.functional.linear` wants its weight.

    >>> rank_mask(torch.tensor([1, 2]), torch.tensor([0, 1, 2])).int().tolist()
    [[0, 0], [1, 0], [1, 1]]
    """
    rows, columns = out_ranks[:, None], in_ranks[None, :]
    return columns < rows if strict else columns <= rows


def hidden_ranks(width: int, ranks: Sequence[int]) -> Tensor:
    """Deal `width` hidden units out to `ranks`, evenly and in ascending order.

    Even and fixed, where the paper draws at random: random ranks can leave an input without any path to an output.

    Returns:
        Integers of shape (width,), ascending.

    Raises:
        ValueError: there are more ranks than units, so that some rank would get none.

    >>> hidden_ranks(5, [0, 1]).tolist()
    [0, 0, 0, 1, 1]
    """
    if width < len(ranks):
        raise ValueError(f"a hidden layer of width {width} is too narrow for {len(ranks)} ranks: make it wider")
    return torch.tensor(sorted(ranks))[torch.arange(width) * len(ranks) // width]


def kernel_mask(kernel: int, mask_type: MaskType) -> Tensor:
    """The taps that a masked convolution keeps: pixels earlier in raster order, and with type B the centre itself.

    Only the rows down to the centre are returned; below it, nothing is ever connected, so nothing need be multiplied.

    Args:
        kernel: the odd side of the full kernel.
        mask_type: "A" leaves the centre out (first layer), "B" keeps it (all later layers).

    Returns:
        Booleans of shape (kernel // 2 + 1, kernel).

    >>> kernel_mask(3, "B").int().tolist()
    [[1, 1, 1], [1, 1, 0]]
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"a masked kernel has an odd side, not {kernel}: its centre must be a pixel")
    radius = kernel // 2
    mask = torch.ones(radius + 1, kernel, dtype=torch.bool)
    mask[radius, radius + (mask_type == "B") :] = False
    return mask
