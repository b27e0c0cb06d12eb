"""What a network's last features mean: a distribution over the levels of one entry."""

from chainrule.heads.categorical import Categorical, log_pmf, log_prob, pmf

__all__ = ["Categorical", "log_pmf", "log_prob", "pmf"]
