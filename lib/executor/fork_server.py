"""A process that imports what the notebooks of a launch need, once, and forks the processes that execute them.

Importing PyTorch, Matplotlib and this project takes a kernel seconds; a fork has them already. The server imports and
never computes: a fork has only the thread that forked it. OpenBLAS starts its threads on import, and again in a fork.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Self

LARGEST = 2**16  # bytes of a message


class Forked:
    """A process that the server has forked, as seen from the launcher."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.status: int | None = None  # exit status, or less than 0: the signal that killed it; None: not known yet
        _, descriptors, _, _ = socket.recv_fds(connection, LARGEST, 1)
        self._process: int | None = descriptors[0] if descriptors else None  # None: the server is gone

    def wait(self, timeout_s: float | None = None) -> int:
        """Its exit status; -SIGKILL where the server is gone, and it with it.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        if self.status is None:
            self._connection.settimeout(timeout_s)
            try:
                answer = self._connection.recv(LARGEST)
            except TimeoutError:
                raise subprocess.TimeoutExpired("notebook", timeout_s or 0.0) from None
            if not answer:
                self.kill()
            self.status = int(answer or -signal.SIGKILL)
            if self._process is not None:
                os.close(self._process)
        return self.status

    def terminate(self) -> None:
        """Ask it to end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.status is None and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, number)


class ForkServer:
    """Started with a launch and ended with it.

    Args:
        imports: lines of Python that import modules; one that fails is left to the notebook, which reports it.
        environ: of the server.
    """

    def __init__(self, imports: Sequence[str], environ: Mapping[str, str]) -> None:
        self._command = [sys.executable, "-P", "-m", "lib.executor.execute", *imports]
        self._environ = environ
        self._begin()

    def _begin(self) -> None:
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                self._command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=self._environ
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.terminate()  # it may still import
        self._process.wait()

    def start(self, spec: Mapping[str, Any], variables: Mapping[str, str], stdout: int, stderr: int) -> Forked:
        """Fork a process for one notebook, when all is imported. Only one runs at a time.

        Args:
            spec: what `next_request` returns in it.
            variables: of its environment, beside those of the server.
            stdout: file descriptor, as is `stderr`.
        """
        if self._process.poll() is not None:  # it was killed with the notebook before
            self.__exit__()
            self._begin()
        content = json.dumps({"spec": spec, "variables": dict(variables)}).encode()
        with contextlib.suppress(ConnectionError):  # it was killed while it imported; `Forked` has no process then
            socket.send_fds(self._connection, [content], [stdout, stderr])
        return Forked(self._connection)


def next_request() -> dict[str, Any]:
    """In the server: fork for each request, and return in the fork with its `spec`. The server itself never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the launcher decides
    connection = socket.socket(fileno=os.dup(0))
    for line in sys.argv[1:]:
        with contextlib.suppress(Exception):
            exec(line, {})  # noqa: S102  # an import of a notebook that is going to run
    while True:
        content, descriptors, _, _ = socket.recv_fds(connection, LARGEST, 2)
        if not content:
            sys.exit()
        pid = os.fork()
        if pid == 0:
            connection.close()
            return _begin(json.loads(content), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        process = os.pidfd_open(pid)
        socket.send_fds(connection, [b"forked"], [process])  # not its number, which may be another's by then
        connection.send(str(_status(pid, process, connection)).encode())


def leave() -> NoReturn:
    """End a fork with what was registered for the end. Taking all modules apart would take a second more, and copy what
    it shares with the server."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _begin(request: dict[str, Any], stdout: int, stderr: int) -> dict[str, Any]:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, place in ((os.open(os.devnull, os.O_RDONLY), 0), (stdout, 1), (stderr, 2)):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.environ.update(request["variables"])
    if drawing := sys.modules.get("numpy.random"):  # else all forks would draw the same where nothing is seeded
        drawing.seed()
    spec: dict[str, Any] = request["spec"]
    return spec


def _status(pid: int, process: int, connection: socket.socket) -> int:
    """Of the fork, when it has ended. Ends this process with the launcher, which the fork notices."""
    waiting: list[Any] = [process, connection]
    ended, _, _ = select.select(waiting, [], [])
    if process not in ended:
        os._exit(1)
    os.close(process)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
