"""The one interface between models and whatever walks over their entries.

A model factorises `p(x) = ∏ p(x_i | x_<i)`. Sampling, completing, scoring and decoding are the same walk over its
sites: at each one the model gives the distribution of the next value, a chooser picks it, and the model is told. This
file names the parties, and knows none of them:

    Model    what is walked over: its sites, and a plain walk by its own steps
    Walk     one walk over a batch of events
    Chooser  who says which value each entry takes: a random number, a given event, an entropy decoder
    Engine   what runs walks: step by step, in compiled code, by CUDA graphs

Whatever is optional is declared here and returns None where it is not offered, so that nobody has to guess.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

InverseCDF = Callable[[Tensor], Tensor]
"""From uniforms (B,) to values (B,): the distribution of a model that has no table of probabilities."""

Conditional = Tensor | InverseCDF
"""The distribution of one entry: probabilities (B, levels) in float64, or its inverse CDF."""


@dataclass(frozen=True)
class Site:
    """One entry of an event: where it is and how many levels it has."""

    index: tuple[int, ...]
    levels: int


class Walk(ABC):
    """One walk over a batch of events, from the first site to the last. It belongs to whoever started it."""

    period = 0
    """Sites after which the walk repeats its steps on the same memory, with other numbers; 0 if it never does.

    Such a walk writes in place whatever it carries from one period to the next: CUDA graphs rely on it."""

    @abstractmethod
    def conditional(self) -> Conditional:
        """The distribution of the next site. Asking twice gives the same."""

    @abstractmethod
    def observe(self, value: Tensor) -> None:
        """Tell the walk that the next site took `value`, integers (batch,), and go on to the one after it."""

    def draw(self, u: Tensor, given: Tensor | None = None, known: Tensor | None = None) -> Tensor | None:
        """Optional: all sites at once, as if each value were drawn by the inverse CDF of its uniform.

        Args:
            u: uniforms, float64 (batch, sites).
            given, known: integers and booleans (batch, *walk_shape); known entries keep the given value.

        Returns:
            Integers (batch, *walk_shape); None if the walk can only go step by step.
        """
        return None

    def decode(self, words: np.ndarray) -> tuple[Tensor, np.ndarray] | None:
        """Optional: all sites at once, as if each value came from the entropy coder of docs/format.md.

        Args:
            words: the coder's, uint32 (n,), read from the end.

        Returns:
            Integers (batch, *walk_shape) and the words that are left; None if the walk can only go step by step.
        """
        return None

    def close(self) -> None:  # noqa: B027  there may be nothing to give back
        """Give back what the walk holds. Called once, however the walk ends."""


class Chooser(ABC):
    """Who says which value each entry takes."""

    @abstractmethod
    def __call__(self, position: int, site: Site, conditional: Conditional) -> Tensor:
        """The values of the site at `position` in the order of the walk: integers (batch,)."""

    def whole(self, walk: Walk) -> Tensor | None:
        """Optional: all values at once, integers (batch, *walk_shape), if this walk offers what is needed for it."""
        return None


class Model(Protocol):
    """What a model offers to those who walk over it."""

    softmax: Any

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def walk_shape(self) -> tuple[int, ...]: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def training(self) -> bool: ...

    def eval(self) -> Any: ...

    def train(self, mode: bool = True) -> Any: ...

    def parameters(self) -> Any: ...

    def arithmetic(self) -> AbstractContextManager[None]: ...

    def sites(self) -> list[Site]: ...

    def start(self, batch: int, context: Any = None) -> Walk: ...

    def full_conditional(self, y: Tensor, site: Site, context: Any = None) -> Conditional: ...

    def checked(self, x: Tensor) -> Tensor: ...

    def like(self, y: Tensor) -> Any: ...

    def checked_context(self, context: Any, n: int) -> Any: ...

    def example_context(self, n: int) -> Any: ...

    def with_auxiliaries(self, x: Tensor) -> Tensor: ...

    def without_auxiliaries(self, y: Tensor) -> Tensor: ...

    def known_sites(self, known: Tensor) -> Tensor: ...


class Engine(ABC):
    """What runs walks. Engines are found in `chainrule.sampling.engines`; what one cannot run it leaves to the next."""

    name: str

    @abstractmethod
    def walk(self, model: Model, batch: int, context: Any = None) -> Walk | None:
        """A walk over `batch` events; None where this engine cannot run this model."""

    def frequencies(self, model: Model, y: Tensor, context: Any = None) -> Tensor | None:
        """Optional: the integer conditionals of an exact model along given events, all at once.

        Args:
            y: integers (B, *walk_shape).

        Returns:
            int32 (sites, B, levels) on the CPU, sites in the order of the walk; None if this is not offered.
        """
        return None

    def fronts(self, model: Model, pictures: int, above: Tensor | None = None) -> Walk | None:
        """Optional: a walk over the fronts of pictures that offers `decode` or `draw`.

        `decode` takes entries in the order of the fronts (`chainrule.models.front_walk`), except those of the first
        rows, `above` (pictures, C, rows, W), which are known; `draw` takes uniforms in the order of the model's sites.
        None where this engine cannot run this model.
        """
        return None

    def edges(self, model: Model, y: Tensor, context: Any = None, *, fronts: bool = False) -> Tensor | None:
        """Optional: only what an encoder needs of these conditionals, for heads over many levels.

        Args:
            y: integers (B, *walk_shape).
            fronts: whether sites come in the order of the fronts, and not of the walk.

        Returns:
            int32 (sites, B, 2) on the CPU: the sum of the frequencies of all levels below the one that the entry takes,
            and that level's own. None if this is not offered.
        """
        return None

    def push(self, state: int, symbols: Tensor, edges: Tensor, levels: int) -> tuple[int, np.ndarray] | None:
        """Optional: put symbols on the stack of the entropy coder of docs/format.md, the last one first.

        Args:
            state: of the coder.
            symbols, edges: integers (N,) and (N, 2), as `edges` gives them.
            levels: how many values a symbol can take.

        Returns:
            The new state, and the words that were written, uint32.
        """
        return None
