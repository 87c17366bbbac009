"""Execute one notebook with papermill, in a fork of its own; report progress as JSON lines on standard output.

Papermill reports a killed kernel, a time-out or an early `sys.exit` poorly or as success. So nothing is decided here:
the notebook is written as far as it came, the reason is sent as an event, and `lib.executor.outcome` judges the cells.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import papermill
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from lib.executor.fork_server import leave, next_request
from lib.executor.kernel import PROVISIONER, Kernel, hand_over
from lib.executor.memory import PeakMemory, kernel_pid
from lib.executor.orphans import end_with_parent
from lib.executor.output_limit import Kept
from lib.machine import patient
from lib.report import LIMITS_VARIABLE

ENGINE = "gtsrb"
SOCKET_FOLDER, SOCKET = "gtsrb-kernel-", "socket"  # tempfile adds 8 characters, jupyter_client the number of a port
SOCKET_BYTES = 107  # of the path of a Unix socket: `sun_path` without its end
DRAIN_S = 60  # for what a cell printed to arrive after it has ended; more than the kernel can hold back
SHOW_EVERY_S = 0.2  # of printed lines, the last one is sent that often


def emit(event: str, **fields: Any) -> None:
    """Send the parent an event."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


class _Client(PapermillNotebookClient):  # type: ignore[misc]
    """Sends which cell starts, and the last line that it printed; keeps outputs within `lib.executor.output_limit`.

    nbclient calls `execute_cell` for each cell, `process_message` for each message of the kernel, and from there
    `output` for those that add an output to the cell.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._kept = Kept()
        self._sent = 0.0

    def create_kernel_manager(self) -> Any:
        """For a kernel of this interpreter, not of what a `python3` on the user's search path means."""
        manager = super().create_kernel_manager()
        manager.kernel_spec_manager = KernelSpecManager(kernel_dirs=[])
        manager.kernel_spec.metadata["kernel_provisioner"] = {"provisioner_name": PROVISIONER}
        return manager

    def execute_cell(self, cell: Any, cell_index: int, **arguments: Any) -> Any:
        is_code = [other.cell_type == "code" for other in self.nb.cells]
        if is_code[cell_index]:
            emit("cell", number=sum(is_code[: cell_index + 1]), total=sum(is_code))
        memory = PeakMemory(kernel_pid(self) if is_code[cell_index] else None)
        memory.begin()
        self._kept.begin()
        try:
            return super().execute_cell(cell, cell_index, **arguments)
        finally:
            memory.end(cell.metadata)
            self._kept.end(cell.get("outputs", []))

    def process_message(self, message: dict[str, Any], *arguments: Any, **named: Any) -> Any:
        self._kept.shorten(message)
        if message["msg_type"] == "stream" and time.monotonic() - self._sent > SHOW_EVERY_S:
            lines = message["content"]["text"][-2000:].strip().splitlines()
            if lines:
                self._sent = time.monotonic()
                emit("print", text=lines[-1][:200])
        return super().process_message(message, *arguments, **named)

    def output(self, outputs: list[Any], message: dict[str, Any], *arguments: Any) -> Any:
        if message["msg_type"] == "stream" and not self.clear_before_next_output:
            return self._kept.print(outputs, message["content"]["name"], message["content"]["text"])
        return super().output(outputs, message, *arguments) if self._kept.takes(message) else None


def _kernel_config(folder: str) -> Config:
    """Sockets in a folder of their own. The ports that a kernel would get are found by trying and then given up for a
    moment, so that two launches at once may get the same ones.
    """
    config = Config()
    config.KernelManager.transport = "ipc"
    config.KernelManager.ip = str(Path(folder) / SOCKET)
    return config


def _socket_parent() -> str:
    """Folder for the folder of the sockets: a temporary folder with a long path, as clusters have it, does not fit into
    the address of a Unix socket."""
    longest = Path(tempfile.gettempdir()) / f"{SOCKET_FOLDER}12345678" / f"{SOCKET}-12345"
    return tempfile.gettempdir() if len(os.fsencode(longest)) <= SOCKET_BYTES else "/tmp"  # noqa: S108  # private in it


class _Engine(NBClientEngine):  # type: ignore[misc]
    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, *, cell_limit_s: int, notebook_limit_s: int, **_: Any
    ) -> Any:
        ends = time.monotonic() + notebook_limit_s
        os.environ[LIMITS_VARIABLE] = f"{cell_limit_s} {time.time() + notebook_limit_s:.0f}"  # the kernel inherits it
        reached, cell_ends = "", ends

        def limit(_cell: Any) -> int:
            """The smaller of the cell's limit and what is left of the notebook's."""
            nonlocal reached, cell_ends
            left = math.ceil(ends - time.monotonic())
            seconds, which = min((cell_limit_s, "cell"), (left, "notebook"))
            reached = f"time limit of {cell_limit_s if which == 'cell' else notebook_limit_s} s for the {which} reached"
            cell_ends = time.monotonic() + max(1, seconds)
            return max(1, seconds)

        with tempfile.TemporaryDirectory(prefix=SOCKET_FOLDER, dir=_socket_parent()) as folder:
            try:
                return _Client(
                    nb_man,
                    timeout_func=limit,
                    startup_timeout=round(patient(120)),
                    iopub_timeout=round(patient(DRAIN_S)),
                    kernel_name=kernel_name,
                    log_output=False,
                    config=_kernel_config(folder),
                ).execute()
            except CellTimeoutError:
                lost = f"the cell's output did not arrive within {patient(DRAIN_S):.0f} s"
                emit("stopped", reason=lost if time.monotonic() < cell_ends - 1 else reached)
            except DeadKernelError:
                emit("stopped", reason="the kernel died (killed, out of memory, or crashed)")
        return nb_man.nb


def execute(notebook: Path, output: Path, parameters: dict[str, Any], cell_limit_s: int, notebook_limit_s: int) -> None:
    """Run a notebook from its own folder and write it, executed as far as it came, to `output`."""
    papermill_engines.register(ENGINE, _Engine)
    with contextlib.suppress(PapermillExecutionError):  # the failing cell is in the notebook
        papermill.execute_notebook(
            _literal(notebook),
            _literal(output),
            parameters,
            engine_name=ENGINE,
            kernel_name=NATIVE_KERNEL_NAME,
            cwd=notebook.parent,
            progress_bar=False,
            autosave_cell_every=5,
            cell_limit_s=cell_limit_s,
            notebook_limit_s=notebook_limit_s,
        )


def _literal(path: Path) -> str:
    """A path for papermill, which takes braces in it as placeholders."""
    return str(path).replace("{", "{{").replace("}", "}}")


def main() -> None:
    """Run what the launcher asks for, each in a fork."""
    spec = next_request()
    hand_over(Kernel())
    end_with_parent()  # the kernel notices without us
    execute(
        Path(spec["notebook"]),
        Path(spec["output"]),
        spec["parameters"],
        spec["cell_limit_s"],
        spec["notebook_limit_s"],
    )
    leave()


if __name__ == "__main__":
    main()
