"""Heads: from a pixel's features to the distributions of its channels. `HEADS` maps their names to their classes."""

from chainrule.heads.factorised_head import FactorisedHead
from chainrule.heads.head import Head
from chainrule.heads.logistic_head import LogisticHead
from chainrule.heads.made_head import MADEHead
from chainrule.heads.mixture import LogisticMixture
from chainrule.heads.quantile_head import QuantileHead
from chainrule.heads.softmax import Softmax

HEADS: dict[str, type[Head]] = {
    "factorised": FactorisedHead,
    "made": MADEHead,
    "logistic": LogisticHead,
    "quantile": QuantileHead,
}

__all__ = [
    "HEADS",
    "FactorisedHead",
    "Head",
    "LogisticHead",
    "LogisticMixture",
    "MADEHead",
    "QuantileHead",
    "Softmax",
]
