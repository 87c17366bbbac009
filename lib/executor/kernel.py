"""A kernel that is a fork of the process which executes the notebook, so that it has imported what that has."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

from ipykernel.kernelapp import IPKernelApp
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from lib.executor.fork_server import leave

PROVISIONER = "gtsrb-fork"


class Kernel:
    """Forked at once, while this process has neither threads nor sockets; a kernel as soon as `launch` is called.

    Has what a provisioner uses of `subprocess.Popen`.
    """

    stdin = stdout = stderr = None

    def __init__(self) -> None:
        orders, self._orders = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._orders)
            _become_kernel(orders)
        os.close(orders)
        self.returncode: int | None = None

    def launch(self, command: list[str], environ: dict[str, str], folder: str) -> None:
        """Let it be the kernel that this command would start."""
        with os.fdopen(self._orders, "w", encoding="utf-8") as orders:
            json.dump({"command": command, "environ": environ, "folder": folder}, orders)

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        """Its exit status, when it has ended."""
        return self._wait(0)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    terminate = kill


def _become_kernel(orders: int) -> None:
    os.setsid()  # signals for the kernel go to its whole group
    with os.fdopen(orders, encoding="utf-8") as given:
        text = given.read()
    if not text:  # the process that executes the notebook is gone
        sys.exit()
    order = json.loads(text)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environ"])
    command = order["command"]
    parent = f"--IPKernelApp.parent_handle={os.getppid()}"  # the kernel ends with it; by default read on import
    IPKernelApp.launch_instance(argv=[*command[command.index("-f") :], parent])
    leave()


class ForkProvisioner(LocalProvisioner):
    """Gives the first kernel that is asked for the fork of `hand_over`; others are started as usual."""

    waiting: ClassVar[list[Kernel]] = []
    process: Any

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """See `LocalProvisioner`."""
        if not self.waiting:
            return await super().launch_kernel(cmd, **kwargs)
        self.process = self.waiting.pop()
        self.pid = self.pgid = self.process.pid
        self.cwd = kwargs.get("cwd") or os.getcwd()
        self.process.launch(cmd, kwargs["env"], str(self.cwd))
        return self.connection_info


def hand_over(kernel: Kernel) -> None:
    """Let the next kernel of a spec with `PROVISIONER` be this one."""
    ForkProvisioner.waiting.append(kernel)
    place = EntryPoint(PROVISIONER, f"{__name__}:{ForkProvisioner.__name__}", KernelProvisionerFactory.GROUP_NAME)
    KernelProvisionerFactory.instance().provisioners[PROVISIONER] = place
