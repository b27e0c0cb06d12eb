"""The network of MADE: a multilayer perceptron whose masks let each output see earlier inputs only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.masks import hidden_ranks, rank_mask
from chainrule.nn import passes
from chainrule.nn.encoding import one_hot
from chainrule.nn.linear import MaskedLinear, PreparedLinear


class MADENetwork(nn.Module):
    """Logits of `variables` entries, each from the entries before it and, if there is one, an auxiliary vector.

    Inputs have the ranks 1 … D in their order, the auxiliary vector has rank 0, and the hidden units share the ranks
    below D evenly among them. A unit sees units of at most its rank; the output of variable d sees ranks below d.

    Args:
        variables: D, the number of entries.
        levels: L, of each entry; they enter as one-hot vectors.
        hidden: widths of the hidden layers.
        auxiliary: length of the auxiliary vector; 0 for none.

    Reference: Germain et al., MADE, 2015, https://arxiv.org/abs/1502.03509
    """

    composes_exactly = True

    def __init__(self, variables: int, levels: int, hidden: Sequence[int], auxiliary: int = 0) -> None:
        super().__init__()
        self.variables, self.levels = variables, levels
        lowest = 0 if auxiliary or variables == 1 else 1
        ranks = range(lowest, variables) if variables > 1 else [0]
        inputs = torch.arange(1, variables + 1).repeat_interleave(levels)
        outputs = torch.arange(1, variables + 1).repeat_interleave(levels)
        below, hidden_layers = inputs, list[nn.Module]()
        for width in hidden:
            unit_ranks = hidden_ranks(width, ranks)
            hidden_layers.append(MaskedLinear(rank_mask(below, unit_ranks), one_hot=0 if hidden_layers else levels))
            below = unit_ranks
        self.layers = nn.ModuleList(hidden_layers)
        self.output = MaskedLinear(rank_mask(below, outputs, strict=True))
        self.output.weight.data.mul_(0.1)  # near uniform at first, yet with a gradient everywhere
        self.from_auxiliary: nn.Linear | None = nn.Linear(auxiliary, hidden[0], bias=False) if auxiliary else None
        # Units of rank up to r are the first ends[layer][r]: ranks ascend within a layer.
        self.ends = [[int((hidden_ranks(width, ranks) <= rank).sum()) for rank in range(variables)] for width in hidden]

    def forward(self, v: Tensor, auxiliary: Tensor | None = None) -> Tensor:
        """Levels as floats (..., D) and the auxiliary vector (..., A) → logits (..., D, L)."""
        h = self._first(v, auxiliary)
        for layer in self.layers[1:]:
            h = layer(h).relu_()
        return self.output(h).unflatten(-1, (self.variables, self.levels))

    def _first(self, v: Tensor, auxiliary: Tensor | None) -> Tensor:
        """The first hidden layer: levels (..., D) and the auxiliary vector (..., A) → (..., width)."""
        layer = self.layers[0]
        if self.from_auxiliary is None:
            return layer(one_hot(v, self.levels).flatten(-2)).relu_()
        plus = self.from_auxiliary(auxiliary)
        if (h := passes.of(self, "first")(self, v, plus)) is not None:
            return h
        return (layer(one_hot(v, self.levels).flatten(-2)) + plus).relu_()

    def start(self, batch: int, auxiliary: Tensor | None = None, weights: StepWeights | None = None) -> MADEWalk:
        """Begin a walk over the variables of `batch` events; `weights` spares many walks the masking."""
        weights = weights or self.step_weights()
        pre = weights.layers[0].bias.expand(batch, -1)
        if self.from_auxiliary is not None:
            pre = pre + self.from_auxiliary(auxiliary)
        return MADEWalk(pre, [layer.bias.new_zeros(batch, len(layer.bias)) for layer in weights.layers], weights)

    def logits(self, walk: MADEWalk) -> Tensor:
        """Logits of the walk's next variable, (B, L). Every hidden unit is computed once in a whole walk."""
        d, hidden = walk.variable, walk.hidden
        if not walk.ready:
            for k, layer in enumerate(walk.weights.layers):
                new = slice(self.ends[k][d - 1] if d else 0, self.ends[k][d])
                pre = walk.pre[:, new] if k == 0 else layer.part(hidden[k - 1][:, : self.ends[k - 1][d]], new)
                hidden[k][:, new] = F.relu(pre)
            walk.ready = True
        outputs = slice(d * self.levels, (d + 1) * self.levels)
        return walk.weights.output.part(hidden[-1][:, : self.ends[-1][d]], outputs)

    def observe(self, walk: MADEWalk, value: Tensor) -> MADEWalk:
        """Tell the walk its next variable's value, integers of shape (B,)."""
        if not walk.ready:
            self.logits(walk)
        if walk.variable + 1 < self.variables:
            walk.pre = walk.pre + walk.weights.table[walk.variable][value]
        walk.variable += 1
        walk.ready = False
        return walk

    def step_weights(self) -> StepWeights:
        """The masked weights in the form that a walk uses."""
        prepared = [layer.prepare() for layer in self.layers]  # type: ignore[operator]
        table = prepared[0].columns().unflatten(0, (self.variables, self.levels))
        return StepWeights(prepared, self.output.prepare(), table)


@dataclass
class StepWeights:
    """The layers as a walk uses them, and the first one's weights once more by variable and level."""

    layers: list[PreparedLinear]
    output: PreparedLinear
    table: Tensor  # (D, L, width of the first layer)


@dataclass
class MADEWalk:
    """What a walk over the variables remembers: the first layer's sums so far, and the hidden units already final."""

    pre: Tensor  # (B, width of the first layer)
    hidden: list[Tensor]
    weights: StepWeights
    variable: int = 0
    ready: bool = False
