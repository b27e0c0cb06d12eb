"""Where a run computes: its device, its precision, and the processes that share it, which are accelerate's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator

from chainrule.errors import ModelError
from chainrule.training.config import TrainConfig


@dataclass(frozen=True)
class Machine:
    """What a run computes on.

    Accelerate fixes the device and the precision of a process once and for all, and a second run in it may ask for
    others: so the precision, and the device of a process that is alone, are kept here.
    """

    accelerator: Accelerator
    device: torch.device
    bfloat16: bool

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files."""
        return bool(self.accelerator.is_main_process)


def machine_for(config: TrainConfig) -> Machine:
    """The device, the precision and the processes that the settings ask for.

    Raises:
        ModelError: processes that were started on GPUs are to train on the CPU, or share a batch that they cannot.
    """
    on_cpu = config.device == "cpu" or not torch.cuda.is_available()
    try:
        accelerator = Accelerator(cpu=on_cpu)
    except ValueError:  # this process was the first time on a GPU
        accelerator = Accelerator()
        if accelerator.num_processes > 1:
            raise ModelError("--train.device cpu: these processes were started on GPUs: start new ones") from None
    processes = accelerator.num_processes
    if config.batch_size % processes:
        raise ModelError(f"a batch of {config.batch_size} cannot be shared by {processes} processes: use a multiple")
    device = accelerator.device if processes > 1 else torch.device("cpu" if on_cpu else "cuda")
    bfloat16 = native_bfloat16(on_cpu) if config.precision == "auto" else config.precision == "bfloat16"
    return Machine(accelerator, device, bfloat16)


def native_bfloat16(on_cpu: bool = True) -> bool:
    """Whether the processor multiplies bfloat16 itself, so that autocast makes it faster and not slower."""
    if not on_cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def anywhere(accelerator: Accelerator, requested: bool) -> bool:
    """Whether any process was interrupted: all must leave the loop after the same step."""
    if accelerator.num_processes == 1:
        return requested
    return bool(accelerator.reduce(torch.tensor(float(requested), device=accelerator.device), "sum") > 0)


def leave_processes() -> None:
    """Leave the group of processes, if there is one: the last thing of a program that trains in several.

    A process that ends without it is now and then aborted, since the group's threads are still running.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
