"""What a network's last features mean: a distribution over the levels of one entry."""

from chainrule.heads.categorical import Categorical, log_pmf, log_prob, pmf
from chainrule.heads.logistic import LogisticMixture

__all__ = ["Categorical", "LogisticMixture", "log_pmf", "log_prob", "pmf"]
