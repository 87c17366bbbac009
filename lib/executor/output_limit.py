"""How much of its output an executed notebook keeps: a cell that prints 100 MB must leave a file that opens.

What is left out is told where it is missing. Prints keep their beginning and their end; anything else is kept whole or
replaced by a line that says how large it was.
"""

from __future__ import annotations

from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_output

HEAD = 200_000  # characters of a cell's prints that are kept from the beginning
TAIL = 50_000  # and from the end, where errors and results stand
DISPLAYED = 20_000_000  # characters of figures, tables and values in a whole notebook; ours have less than 2 million
MESSAGE = 20_000  # characters of an error's message, and of each line of its traceback
PIECES = 1_000  # outputs of a cell: beyond it a front end takes minutes to show them
CUT = "\n[...]\n"


class Kept:
    """Decides what a notebook keeps of the messages of its kernel. One for each execution of a notebook."""

    def __init__(self) -> None:
        self._displayed = 0
        self.begin()

    def begin(self) -> None:
        """A cell begins."""
        self._printed = 0  # characters of this cell
        self._pieces = 0
        self._dropped = 0
        self._tail: NotebookNode | None = None

    def shorten(self, message: dict[str, Any]) -> None:
        """Cut what a message shows, unless it is printed text, to what is left of the limits. Changes `message`."""
        content = message["content"]
        if message["msg_type"] in ("display_data", "execute_result", "update_display_data"):
            size = sum(len(str(value)) for value in content["data"].values())
            if self._displayed + size > DISPLAYED:
                limit = f"a notebook keeps {DISPLAYED / 1e6:.0f} MB of figures, tables and values"
                content["data"] = {"text/plain": f"[{size / 1e6:,.1f} MB left out here: {limit}]"}
                content["metadata"] = {}
            else:
                self._displayed += size
        elif message["msg_type"] == "error":
            content["evalue"] = _cut(str(content["evalue"]))
            content["traceback"] = [_cut(str(line)) for line in content["traceback"]]

    def takes_another(self, message: dict[str, Any]) -> bool:
        """Whether one more figure, table or value is kept; errors always are."""
        if message["msg_type"] in ("display_data", "execute_result"):
            self._pieces += 1
        return self._pieces <= PIECES or message["msg_type"] == "error"

    def print(self, outputs: list[NotebookNode], stream: str, text: str) -> NotebookNode:
        """Add printed text to the outputs of the cell; returns the output that it went into.

        Args:
            stream: stdout or stderr.
        """
        space = max(0, HEAD - self._printed)
        self._printed += len(text)
        head, rest = text[:space], text[space:]
        last = outputs[-1] if outputs else None
        if self._tail is None and head:
            if last is None or last.output_type != "stream" or last.name != stream:
                last = new_output("stream", name=stream, text="")
                outputs.append(last)
            last.text += head
        if rest:
            if self._tail is None or self._tail not in outputs:  # the first time, or the cell cleared its outputs
                self._tail = new_output("stream", name=stream, text="")
                outputs.append(self._tail)
            self._tail.text += rest
            if len(self._tail.text) > 2 * TAIL:  # not at every print: that would copy it each time
                self._trim()
        return self._tail or last or new_output("stream", name=stream, text="")

    def _trim(self) -> None:
        assert self._tail is not None
        excess = len(self._tail.text) - TAIL
        if excess > 0:
            self._dropped += excess
            self._tail.text = self._tail.text[-TAIL:]

    def end(self, outputs: list[NotebookNode]) -> None:
        """A cell has ended: say what was left out of it."""
        position = next((i for i, output in enumerate(outputs) if output is self._tail), None)
        if position is not None and self._tail is not None:
            self._trim()
            if self._dropped:
                self._tail.text = CUT + self._tail.text.lstrip("\n")
                kept = f"the notebook keeps the first {HEAD:,} and the last {TAIL:,}"
                note = f"[{self._dropped:,} of {self._printed:,} printed characters were left out: {kept}]\n"
                outputs.insert(position + 1, new_output("stream", name="stderr", text=note))
        if self._pieces > PIECES:
            note = f"[{self._pieces - PIECES:,} outputs were left out: a cell keeps {PIECES:,}]\n"
            before_error = next((i for i, output in enumerate(outputs) if output.output_type == "error"), len(outputs))
            outputs.insert(before_error, new_output("stream", name="stderr", text=note))


def _cut(text: str) -> str:
    half = MESSAGE // 2
    return text if len(text) <= MESSAGE else f"{text[:half]}{CUT}{text[-half:]}"
