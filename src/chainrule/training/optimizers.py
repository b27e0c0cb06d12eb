"""Optimisers by name. All are PyTorch's but one: Muon for convolution kernels, which `torch.optim.Muon` refuses."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from chainrule.errors import ModelError

ADAM_LR_RATIO = 0.1
"""With "muon", what is not a hidden matrix is trained by Adam at this fraction of the learning rate."""


def orthogonalised(m: Tensor, iterations: int = 5) -> Tensor:
    """A batch of matrices with their singular values brought near 1, by Newton-Schulz iteration.

    Args:
        m: shape (N, rows, columns).

    Reference: Jordan, Muon: an optimizer for hidden layers in neural networks, 2024,
    https://kellerjordan.github.io/posts/muon/ (the quintic's coefficients)
    """
    tall = m.shape[1] > m.shape[2]
    x = m.mT if tall else m
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for the matrices and kernels inside a network, Adam for everything else.

    A matrix's step has all singular values near 1, so that rare directions learn as fast as common ones. Kernels of a
    convolution count as matrices of (outputs, inputs · taps). Parameters of the same shape are orthogonalised together.
    Everything else (an image model's first layers, those that give logits, those that read a context, biases and gains)
    is left to Adam, at `ADAM_LR_RATIO` times the learning rate.

    Args:
        hidden: the matrices and kernels, as `model.hidden_parameters()` gives them.
        others: the rest.

    Reference: Jordan, Muon, 2024, https://kellerjordan.github.io/posts/muon/
    """

    def __init__(
        self,
        hidden: Iterable[Tensor],
        others: Iterable[Tensor],
        lr: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(hidden), "matrix": True, "scale": 1.0},
            {"params": list(others), "matrix": False, "scale": ADAM_LR_RATIO},
        ]
        super().__init__(
            [group for group in groups if group["params"]],
            {"lr": lr, "weight_decay": weight_decay, "betas": betas, "momentum": 0.95},
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["weight_decay"] and group["matrix"] and parameters:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            (self._matrix_step if group["matrix"] else self._adam_step)(parameters, group)

    def _matrix_step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for p in parameters:
            by_shape[p.shape].append(p)
        for same in by_shape.values():
            gradients = [p.grad for p in same if p.grad is not None]
            buffers = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in same]
            torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
            updates = torch._foreach_lerp(gradients, buffers, group["momentum"])  # Nesterov
            batch = orthogonalised(torch.stack([update.flatten(1) for update in updates]))
            scale = max(1.0, batch.shape[1] / batch.shape[2]) ** 0.5
            steps = [update.reshape(p.shape) for p, update in zip(same, batch, strict=True)]
            torch._foreach_add_(same, steps, alpha=-group["lr"] * scale)

    def _adam_step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        by_step: dict[float, list[Tensor]] = defaultdict(list)  # a parameter's steps are those with a gradient
        for p in parameters:
            state = self.state[p]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
            state["step"] = state["step"].cpu() + 1  # where a checkpoint was read it may be on a GPU
            by_step[float(state["step"])].append(p)
        first, second = group["betas"]
        for step, same in by_step.items():
            gradients = [p.grad for p in same if p.grad is not None]
            means, squares = ([self.state[p][name] for p in same] for name in ("mean", "square"))
            torch._foreach_lerp_(means, gradients, 1 - first)
            torch._foreach_mul_(squares, second)
            torch._foreach_addcmul_(squares, gradients, gradients, value=1 - second)
            denominators = torch._foreach_div(squares, 1 - second**step)
            torch._foreach_sqrt_(denominators)
            torch._foreach_add_(denominators, 1e-8)
            scale = -group["lr"] * group["scale"] / (1 - first**step)
            torch._foreach_addcdiv_(same, means, denominators, value=scale)


def fused(cls: Any, model: nn.Module, lr: float, weight_decay: float, betas: tuple[float, float]) -> Any:
    """Adam or AdamW, in one pass where there is one: a hundred small tensors one by one take milliseconds on a CPU."""
    parameters = list(model.parameters())
    fusible = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
    return cls(parameters, lr, betas=betas, weight_decay=weight_decay, fused=fusible)


def muon(model: Any, lr: float, weight_decay: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """Muon, on the model's hidden weights."""
    hidden = model.hidden_parameters()
    inside = {id(parameter) for parameter in hidden}
    return Muon(hidden, (p for p in model.parameters() if id(p) not in inside), lr, weight_decay, betas)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda model, lr, decay, betas: torch.optim.SGD(model.parameters(), lr, betas[0], weight_decay=decay),
    "adam": functools.partial(fused, torch.optim.Adam),
    "adamw": functools.partial(fused, torch.optim.AdamW),
    "muon": muon,
}
"""Each is made of (model, learning rate, weight decay, betas). A line here is all that a new one needs."""


def make_optimizer(
    name: str, model: nn.Module, lr: float, weight_decay: float, betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """The optimiser called `name` over all parameters of `model`.

    Raises:
        ModelError: there is none of that name.
    """
    if name not in OPTIMIZERS:
        raise ModelError(f"there is no optimiser {name!r}: use {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](model, lr, weight_decay, betas)
