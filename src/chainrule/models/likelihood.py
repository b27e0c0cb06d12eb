"""The contract that every likelihood model honours.

`p(x) = ∏ p(x_i | x_<i)`: the *parallel* side gives all conditionals of a whole event in one pass (`log_prob`,
`log_pmf`), the *stepwise* side gives them one by one (`start`, `conditional`, `observe`). They are two computations of
the same numbers, and the tests hold every model to that.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor

from chainrule import heads, sampling
from chainrule.compiled import Program
from chainrule.models.base import GenerativeModel, Site


class AutoregressiveModel(GenerativeModel):
    """Base of all likelihood models.

    A model implements `_logits` (parallel) and `start`, `conditional`, `observe` (stepwise); everything else follows.

    Args:
        shape: of one event: `(1,)`, `(D,)`, or `(C, H, W)` for images.
        levels: entries take the values 0 … levels - 1.
    """

    loss_unit = "bits/dim"

    def __init__(self, shape: tuple[int, ...], levels: int) -> None:
        super().__init__(shape, levels)
        self.head = heads.Categorical()
        self.scales: dict[str, Any] | None = None

    @property
    def config(self) -> dict[str, Any]:
        """That of every model, and the scales of its exact twin, once `chainrule.fixedpoint.calibrate` found them."""
        scales = {} if self.scales is None else {"scales": self.scales}
        return {**super().config, **scales}

    # -------------------------------------------------------------------------------------------------- the likelihood

    def log_prob(self, x: Tensor, context: Any = None) -> Tensor:
        """The exact log-likelihood of each event.

        Args:
            x: integers of shape (B, *shape), in [0, levels).
            context: what the model is conditioned on; None for models without.

        Returns:
            Nats, shape (B,).

        Raises:
            DataError: `x` has another shape, is not of an integer type, or holds values outside [0, levels).
        """
        x = self.checked(x)
        return self(x, self.checked_context(context, len(x)))

    def forward(self, x: Tensor, context: Any = None) -> Tensor:
        """`log_prob` without the checks: what data-parallel training and autocast hook."""
        return self._site_log_probs(self.with_auxiliaries(x), context).flatten(1).sum(1)

    def site_log_probs(self, x: Tensor, context: Any = None) -> Tensor:
        """log p of each entry given the earlier ones, in nats, (B, *walk_shape); their sum is `log_prob`."""
        x = self.checked(x)
        return self._site_log_probs(self.with_auxiliaries(x), self.checked_context(context, len(x)))

    def log_pmf(self, x: Tensor, context: Any = None) -> Tensor:
        """log p of every level of each entry given the earlier entries of `x`, in nats, (B, *walk_shape, levels)."""
        x = self.checked(x)
        return self._log_pmf(self.with_auxiliaries(x), self.checked_context(context, len(x)))

    def loss(self, x: Tensor, context: Any = None) -> Tensor:
        """What training minimises: the mean negative log-likelihood of a batch, a scalar in nats per dimension."""
        return -self(x, context).mean() / self.dims

    def _site_log_probs(self, y: Tensor, context: Any) -> Tensor:
        return self.head.log_prob(self._logits(self._float(y), context), y)

    def _log_pmf(self, y: Tensor, context: Any) -> Tensor:
        return self.head.log_pmf(self._logits(self._float(y), context))

    @abstractmethod
    def _logits(self, v: Tensor, context: Any = None) -> Tensor:
        """Unnormalised log-probabilities of all levels of all entries.

        Args:
            v: levels as floats, (B, *walk_shape): the one float entry, which receptive fields and Jacobians
                differentiate.

        Returns:
            (B, *walk_shape, levels); as many levels as the site with most has, -inf where a level cannot be.
        """

    # ------------------------------------------------------------------------------------------------------- the steps

    @abstractmethod
    def conditional(self, state: Any) -> Tensor:
        """Probabilities of the levels of the next site, float64 of shape (batch, site.levels)."""

    def full_conditional(self, y: Tensor, site: Site, context: Any = None) -> Tensor:
        return self._log_pmf(y, context)[sampling.at(site)][..., : site.levels].double().exp()

    def program(self) -> Program | None:
        """The walk's inner part for compiled code; None where PyTorch takes the steps.

        That is for models without one, on other devices than the CPU, in other types than float32, while gradients are
        recorded, and where chainrule was installed without a compiler.
        """
        return None
