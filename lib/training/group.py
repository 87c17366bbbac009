"""Where a training runs: on which device, alone or as one of several processes that torchrun started."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil  # type: ignore[import-untyped]
import torch
import torch.distributed as dist
from torch import Tensor

from lib.errors import RefusedError, UserError

_INTERFACE = "GLOO_SOCKET_IFNAME"


def choose_device(name: str) -> torch.device:
    """`cpu`, `cuda`, or `auto` for a CUDA device where there is one.

    Raises:
        UserError: `cuda`, and there is none.
    """
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise UserError(
            f"device is cuda, and PyTorch {torch.__version__} finds no CUDA device here; install a PyTorch that is "
            "built for CUDA and its driver, or leave device at auto"
        )
    if name == "cpu" or not found:
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def device_name(device: torch.device) -> str:
    """What a page calls it."""
    return "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)


@dataclass(frozen=True)
class Group:
    """The processes that train one network together, by default this one alone."""

    rank: int = 0
    size: int = 1
    words: str = ""  # what a page adds to the name of the device

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """This tensor of each process, in their order."""
        if self.size == 1:
            return [tensor]
        tensors = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(tensors, tensor)
        return tensors

    def from_first(self, value: Any) -> Any:
        """What the first process has of plain data and tensors of the CPU."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]


ALONE = Group()


def under_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The group that torchrun has made, with gloo on CPUs and NCCL on GPUs.

    Raises:
        UserError: no network interface leads to the first process.
        RefusedError: another process was lost.
    """
    here, size = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    interface = os.environ.get(_INTERFACE) or _interface(os.environ["MASTER_ADDR"], one_host=here == size)
    for name in (_INTERFACE, "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, interface)
    kind = "nccl" if device.type == "cuda" else "gloo"
    if kind == "nccl":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(kind)
        yield Group(dist.get_rank(), size, f", {size} processes, {kind} over {interface}")
        dist.destroy_process_group()
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and kind not in str(error).lower():
            raise
        reason = str(error).splitlines()[0]
        raise RefusedError(f"a process was lost ({reason}); go on with -p resume true") from None


def _interface(first: str, *, one_host: bool) -> str:
    """The interface that leads to the first process: gloo would take that of the host name, which is often loopback.

    Args:
        first: address of its host.

    Raises:
        UserError: none does, or loopback although there are several hosts.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((first, 1))  # sends nothing
        except OSError as error:
            raise UserError(f"no network interface leads to {first} ({error}); set {_INTERFACE}") from None
        mine = probe.getsockname()[0]
    interfaces = psutil.net_if_addrs().items()
    name = next((name for name, addresses in interfaces if mine in [each.address for each in addresses]), "")
    if not name or (name == "lo" and not one_host):
        where = f"{first} is {mine} on {name or 'no interface'} here"
        raise UserError(f"{where}, and not all hosts reach that; set {_INTERFACE}")
    return str(name)
