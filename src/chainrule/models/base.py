"""What every model has: events, an exact likelihood where there is one, the walk over its entries, and storage.

`p(x) = ∏ p(x_i | x_<i)`: the *parallel* side gives all conditionals of a whole event in one pass (`log_prob`,
`log_pmf`), the *stepwise* side gives them one by one (`start`, a `Walk`). They are two computations of the same
numbers, and the tests hold every model to that.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from chainrule import forking, plugins, sampling
from chainrule.contract import Conditional, Site, Walk
from chainrule.errors import ModelError
from chainrule.heads import Softmax
from chainrule.models.events import EventModel


class AutoregressiveModel(EventModel):
    """Base of all models. A model implements `_logits` (parallel) and `start` (stepwise); everything else follows.

    Args:
        shape: of one event: `(1,)`, `(D,)`, or `(C, H, W)` for images; `(C, None, None)` for images of any size.
        levels: entries take the values 0 … levels - 1.

    Raises:
        ModelError: there is nothing to model.
    """

    has_likelihood = True
    """Whether there are probabilities: bits/dim, exact mode and compression need them."""

    loss_unit = "bits/dim"
    """What a loss is reported in."""

    needs_context = False
    """Whether every use of the model needs a `context`."""

    def __init__(self, shape: tuple[int | None, ...], levels: int) -> None:
        super().__init__(shape, levels)
        plugins.load()
        forking.let_children_compute()
        self.pixel_values: tuple[int, ...] | None = None
        self.scales: dict[str, Any] | None = None
        self.softmax: Softmax = Softmax()

    # ------------------------------------------------------------------------------------------------ about the model

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def config(self) -> dict[str, Any]:
        """The class's name and the arguments that made this model; with the weights, all there is to it.

        Where they exist, also: `pixel_values`, the bytes that show its levels in pictures if not
        v · 255 // (levels − 1); `scales`, the grids of its exact form; `exact`, if it is that form.
        """
        others: dict[str, Any] = {"pixel_values": self.pixel_values, "scales": self.scales}
        found = {name: value for name, value in others.items() if value is not None}
        return super().config | found | ({"exact": True} if self.softmax.exact else {})

    def outer_layers(self) -> Sequence[nn.Module]:
        """The layers that an optimiser should not treat as hidden: those of a trunk that read pixels or a context, and
        those that give logits. A MADE head's, which reads channels, and a MADE's or an MLP's first count as hidden."""
        return ()

    def hidden_parameters(self) -> list[nn.Parameter]:
        """The weight matrices and kernels inside the network, which an optimiser may treat as such."""
        outer = {id(parameter) for layer in self.outer_layers() for parameter in layer.parameters()}
        return [p for p in self.parameters() if p.ndim >= 2 and id(p) not in outer]

    def arithmetic(self) -> AbstractContextManager[None]:
        """What the model's computations have to run under."""
        return self.softmax.arithmetic()

    # ------------------------------------------------------------------------------------------------------ the context

    def checked_context(self, context: Any, n: int) -> Any:
        """`context` for `n` events, on the model's device, if it is what the model is conditioned on.

        Raises:
            ModelError: the model has no conditioning and is given some, or the reverse.
            DataError: the context is not one for `n` events.
        """
        self._refuse_context(context)
        return None

    def example_context(self, n: int) -> Any:
        """A context for `n` events that takes all there are in turn; None for models without one."""
        return None

    def rough_cost(self, x: Tensor) -> int | None:
        """A number that is smaller the better predictions alone fit events (B, *shape); None without predictions."""
        return None

    def _refuse_context(self, context: Any) -> None:
        if context is not None:
            raise ModelError(f"{type(self).__name__} has no conditioning: leave `context` out")

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
            ModelError: the model has no likelihood.
        """
        x = self.checked(x)
        context = self.checked_context(context, len(x))
        return self._site_log_probs(self.with_auxiliaries(x), context).flatten(1).sum(1)

    def forward(self, x: Tensor, context: Any = None) -> Tensor:
        """`log_prob` without the checks: what training and data-parallel wrappers call."""
        return self._site_log_probs(self.with_auxiliaries(x), context).flatten(1).sum(1)

    def site_log_probs(self, x: Tensor, context: Any = None) -> Tensor:
        """log p of each entry given the earlier ones, in nats, (B, *walk_shape); their sum is `log_prob`.

        Raises:
            DataError: as for `log_prob`.
            ModelError: the model has no likelihood.
        """
        x = self.checked(x)
        return self._site_log_probs(self.with_auxiliaries(x), self.checked_context(context, len(x)))

    def log_pmf(self, x: Tensor, context: Any = None) -> Tensor:
        """log p of every level of each entry given the earlier entries of `x`, in nats, (B, *walk_shape, levels).

        Raises:
            DataError: as for `log_prob`.
            ModelError: the model has no likelihood.
        """
        x = self.checked(x)
        return self._log_pmf(self.with_auxiliaries(x), self.checked_context(context, len(x)))

    def loss(self, x: Tensor, context: Any = None) -> Tensor:
        """What training minimises, a scalar: the mean negative log-likelihood of a batch, in nats per dimension."""
        return -self(x, context).mean() / x[0].numel()

    def _site_log_probs(self, y: Tensor, context: Any) -> Tensor:
        self._need_likelihood()
        with self.arithmetic():
            if self.softmax.exact and (table := self._frequencies(y, context)) is not None:
                return self.softmax.log_probs_of(table, y, self.like(y).sites())
            return self.softmax.log_prob(self._logits(self._float(y), context), y)

    def _frequencies(self, y: Tensor, context: Any) -> Tensor | None:
        return sampling.engines.frequencies(self.like(y), y, context)

    def _log_pmf(self, y: Tensor, context: Any) -> Tensor:
        self._need_likelihood()
        with self.arithmetic():
            return self.softmax.log_pmf(self._logits(self._float(y), context))

    def _need_likelihood(self) -> None:
        if not self.has_likelihood:
            raise ModelError(f"{type(self).__name__} has no likelihood: it is trained and compared by its own loss")

    def _float(self, x: Tensor) -> Tensor:
        return x.to(next(self.parameters()).dtype)

    @abstractmethod
    def _logits(self, v: Tensor, context: Any = None) -> Tensor:
        """Unnormalised log-probabilities of all levels of all entries.

        Args:
            v: levels as floats, (B, *walk_shape): the one float input, with respect to which receptive fields and
                Jacobians differentiate.

        Returns:
            (B, *walk_shape, levels); as many levels as the site with most has, -inf where a level cannot be.
        """

    def _run_layers(self, v: Tensor, context: Any = None) -> None:
        """Run every layer once, for whoever watches their inputs; arguments as for `_logits`."""
        self._logits(v, context)

    # ------------------------------------------------------------------------------------------------------- the walk

    @abstractmethod
    def start(self, batch: int, context: Any = None) -> Walk:
        """A walk over `batch` events by the model's own steps."""

    def full_conditional(self, y: Tensor, site: Site, context: Any = None) -> Conditional:
        """The conditional of any site by a full pass, given the entries before it in `y`, integers (B, *walk_shape)."""
        return self._log_pmf(y, context)[sampling.at(site)][..., : site.levels].double().exp()

    def sample(
        self,
        n: int,
        context: Any = None,
        generator: torch.Generator | None = None,
        method: str = "cached",
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Draw events from the model, exactly: one pass in all ("cached"), or one pass a site ("naive").

        Args:
            n: how many.
            context: conditioning of length n, for models that have one.
            generator: where the uniforms come from; the same seed gives the same samples.
            method: "cached", "naive", or the name of an engine (`chainrule.sampling.engines`).
            size: height and width, for a model of events of any size.

        Returns:
            Integers of shape (n, *shape).

        Raises:
            DataError: `n` is negative, or the context is not one for `n` events.
            ModelError: a distribution is not finite, or the size is missing or another than the model's.
        """
        if size is None:
            self._need_size()
        return sampling.sample(self if size is None else self.sized(*size), n, context, generator, method)

    def complete(
        self,
        x: Tensor,
        known: Tensor,
        context: Any = None,
        generator: torch.Generator | None = None,
        method: str = "cached",
    ) -> Tensor:
        """Keep what is known of `x` and draw the rest in order.

        Each unknown entry is drawn given everything *before* it, known or drawn. A known entry that comes after an
        unknown one is not looked at before its turn: the completion is a draw from p(x) in which the known entries are
        put in place as they come, not from p(unknown | known), unless all known entries come first.

        Args:
            x: integers of shape (B, *shape); unknown entries may hold any level.
            known: booleans that broadcast to that shape, True where the entry is given.

        Returns:
            Integers of shape (B, *shape), equal to `x` where known.

        Raises:
            DataError: `x` or `known` does not fit the model.
        """
        x = self.checked(x)
        return sampling.complete(self.like(x), x, known, context, generator, method)

    def train(self, mode: bool = True) -> Any:
        if mode and self.softmax.exact:
            raise ModelError("an exact model cannot be trained: train the float model, then make it exact again")
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        if self.softmax.exact and fn(torch.zeros((), dtype=torch.float32)).dtype != torch.float32:
            raise ModelError("an exact model's numbers are fixed: move it to another device, but not to another type")
        return super()._apply(fn, recurse)
