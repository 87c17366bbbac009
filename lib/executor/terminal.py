"""Progress on the terminal: one line that is rewritten, or a plain line per step where the output is a file."""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

from lib.executor.fork_server import Forked
from lib.machine import patient

GRACE_S = 120.0  # the notebook ends itself at its limit; this is for one that cannot
HEARTBEAT_S = 30.0  # without a terminal: a sign of life from a long cell


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Terminal:
    """Shows which notebook runs, cell n of m, the time it has taken and the last line that it printed."""

    def __init__(self, stream: TextIO, num_jobs: int) -> None:
        self.stream, self.num_jobs = stream, num_jobs
        self.live = stream.isatty()
        self._deaf = False
        self._job = self._cell = self._text = ""
        self._started = self._spoken = time.monotonic()

    def begin(self, number: int, label: str) -> None:
        """A notebook starts."""
        self._job, self._cell, self._text = f"[{number}/{self.num_jobs}] {label}", "starting", ""
        self._started = time.monotonic()
        self._show()

    def end(self, label: str, status: str, reason: str) -> None:
        """A notebook has ended."""
        line = f"{self._job or label}: {status} after {_clock(time.monotonic() - self._started)}"
        self._write(line + (f" - {reason}" if reason else ""), last=True)
        self._job = ""

    def watch(self, events: Iterator[dict[str, Any]], process: Forked, limit_s: float) -> Iterator[dict[str, Any]]:
        """Pass a process's events on while showing them; kill the process where it outlives `limit_s`."""
        inbox: queue.Queue[dict[str, Any] | None] = queue.Queue()

        def read() -> None:
            for event in events:
                inbox.put(event)
            inbox.put(None)

        threading.Thread(target=read, daemon=True).start()
        deadline = time.monotonic() + limit_s + patient(GRACE_S)
        while True:
            if time.monotonic() > deadline:
                process.kill()
                yield {"event": "stopped", "reason": f"time limit of {limit_s:.0f} s for the notebook reached"}
                return
            try:
                event = inbox.get(timeout=1)
            except queue.Empty:
                self._tick()
                continue
            if event is None:
                return
            if event["event"] == "cell":
                self._cell, self._text = f"cell {event['number']}/{event['total']}", ""
                self._show()
            elif event["event"] == "print":
                self._text = str(event["text"])
                self._tick()
            yield event

    def _tick(self) -> None:
        if self.live or time.monotonic() - self._spoken > HEARTBEAT_S:
            self._show()

    def _show(self) -> None:
        elapsed = _clock(time.monotonic() - self._started)
        self._write(f"{self._job}  {self._cell}  {elapsed}" + (f"  {self._text}" if self._text else ""))

    def _write(self, line: str, last: bool = False) -> None:
        self._spoken = time.monotonic()
        if self._deaf:
            return
        try:
            self._put(line, last)
        except OSError:  # the reader is gone, as in `... | head`, or the disk is full; the notebooks go on
            self._deaf = True

    def _put(self, line: str, last: bool) -> None:
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            self.stream.write("\r\x1b[K" + (line if last else line[:width]) + ("\n" if last else ""))
        else:
            self.stream.write(line + "\n")
        self.stream.flush()
