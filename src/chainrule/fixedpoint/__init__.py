"""Exact mode: fixed-point inference whose bits do not depend on the machine, the batch, or the order of summation."""

from chainrule.fixedpoint.arithmetic import ARITHMETIC_VERSION, exact_arithmetic
from chainrule.fixedpoint.calibration import calibrate
from chainrule.fixedpoint.exact_logistic import ExactLogisticMixture
from chainrule.fixedpoint.exact_model import exact, is_exact
from chainrule.fixedpoint.exact_softmax import TOTAL_BITS, ExactSoftmax
from chainrule.fixedpoint.identity import Certified, certificate, fingerprint, probe
from chainrule.fixedpoint.scoring import edges, frequencies, order_of

__all__ = [
    "ARITHMETIC_VERSION",
    "TOTAL_BITS",
    "Certified",
    "ExactLogisticMixture",
    "ExactSoftmax",
    "calibrate",
    "certificate",
    "edges",
    "exact",
    "exact_arithmetic",
    "fingerprint",
    "frequencies",
    "is_exact",
    "order_of",
    "probe",
]
