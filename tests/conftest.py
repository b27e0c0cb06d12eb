"""What all tests share: one thread, and small models of every class in the registry."""

from __future__ import annotations

import os

# Threads that wait, in the few tests that ask for two, leave the cores to the other processes rather than spin on them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when PyTorch is first imported

import pytest
import torch

from chainrule import compiled
from laws import CASES, CONDITIONAL_CASES, EXACT_CASES, randomised

torch.set_num_threads(1)


@pytest.fixture(params=[pytest.param(case, id=case.name) for case in CASES])
def case(request):
    """One small model's recipe: see `laws.Case`."""
    return request.param


@pytest.fixture(params=[pytest.param(case, id=case.name) for case in EXACT_CASES])
def exact_case(request):
    """One small model that has an exact form."""
    return request.param


@pytest.fixture(params=[pytest.param(case, id=case.name) for case in CONDITIONAL_CASES])
def conditional_case(request):
    """One small model that is conditional on a label."""
    return request.param


@pytest.fixture(params=["compiled", "torch"])
def engine(request, monkeypatch):
    """Who takes the steps of a walk over pixels; the compiled code is there wherever a compiler was."""
    if request.param == "compiled" and not compiled.available():
        pytest.skip("chainrule was installed without a C compiler")
    monkeypatch.setenv("CHAINRULE_COMPILED", str(int(request.param == "compiled")))
    return request.param


@pytest.fixture
def model(case):
    """A small model in float64 with random weights: every case in turn."""
    return randomised(case.build())
