"""Exact mode: fixed-point inference whose bits do not depend on the machine, the batch, or the order of summation."""

import sys
import types
from typing import Any

from chainrule.exact.arithmetic import ARITHMETIC_VERSION, exact_arithmetic
from chainrule.exact.calibration import calibrate
from chainrule.exact.head import TOTAL_BITS, ExactCategorical
from chainrule.exact.identity import Certified, certificate, fingerprint, probe
from chainrule.exact.logistic import ExactLogisticMixture
from chainrule.exact.making import exact
from chainrule.exact.scoring import frequencies, order_of
from chainrule.exact.twin import is_exact

__all__ = [
    "ARITHMETIC_VERSION",
    "TOTAL_BITS",
    "Certified",
    "ExactCategorical",
    "ExactLogisticMixture",
    "calibrate",
    "certificate",
    "exact",
    "exact_arithmetic",
    "fingerprint",
    "frequencies",
    "is_exact",
    "order_of",
    "probe",
]


class _Room(types.ModuleType):
    """`chainrule.exact` is this room and, called, its one entrance: `cr.exact(model)`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return exact(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
