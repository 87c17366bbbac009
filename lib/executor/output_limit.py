"""How much of a cell's output an executed notebook keeps: a cell that prints 100 MB must leave a file that opens.

What is left out is named where it is missing. Prints keep their beginning and their end; anything else is kept whole or
replaced by a line that says how large it was.
"""

from __future__ import annotations

from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_output

CELL_LIMIT = 1_000_000  # characters of all that one cell shows; ours have at most 310,000
END = CELL_LIMIT // 4  # of prints, from the beginning, and as many from the end, where errors and results are
LEAST = CELL_LIMIT // 1000  # that each output counts for: a front end takes minutes to show many thousands of them
CUT = "\n[...]\n"
_SHOWN = ("display_data", "execute_result", "update_display_data")


class Kept:
    """Decides what a notebook keeps of the messages of its kernel. One for each execution of a notebook."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A cell begins."""
        self._left = CELL_LIMIT  # for figures, tables and values
        self._refused = 0  # of these
        self._printed = 0  # characters
        self._dropped = 0  # of these
        self._tail: NotebookNode | None = None

    def shorten(self, message: dict[str, Any]) -> None:
        """Cut what a message shows, unless it is printed text, to what is left of the limit. Changes `message`."""
        kind, content = message["msg_type"], message["content"]
        if kind in _SHOWN and (size := _size(content)) > (CELL_LIMIT if kind == "update_display_data" else self._left):
            content["data"] = {
                "text/plain": f"[{size / 1e6:,.1f} MB left out here: a cell keeps {CELL_LIMIT / 1e6:.0f} MB of output]"
            }
            content["metadata"] = {}
        elif kind == "error":
            content["evalue"] = _cut(str(content["evalue"]))
            content["traceback"] = [_cut(str(line)) for line in content["traceback"]]

    def takes(self, message: dict[str, Any]) -> bool:
        """Whether one more figure, table or value is kept; errors always are."""
        if message["msg_type"] not in _SHOWN:
            return True
        self._left -= max(LEAST, _size(message["content"]))
        self._refused += self._left < 0
        return self._left >= 0

    def print(self, outputs: list[NotebookNode], stream: str, text: str) -> NotebookNode:
        """Add printed text to the outputs of the cell; returns the output that it went into.

        Args:
            stream: stdout or stderr.
        """
        space = max(0, END - self._printed)
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
            if len(self._tail.text) > 2 * END:  # not at every print: that would copy it each time
                self._trim(self._tail)
        return self._tail or last or new_output("stream", name=stream, text="")

    def _trim(self, tail: NotebookNode) -> None:
        self._dropped += max(0, len(tail.text) - END)
        tail.text = tail.text[-END:]

    def end(self, outputs: list[NotebookNode]) -> None:
        """A cell has ended: say what was left out of it."""
        if self._tail is not None and self._tail in outputs:
            self._trim(self._tail)
            if self._dropped:
                self._tail.text = CUT + self._tail.text
                kept = f"the notebook keeps the first {END:,} and the last {END:,}"
                note = f"[{self._dropped:,} of {self._printed:,} printed characters were left out: {kept}]\n"
                outputs.insert(outputs.index(self._tail) + 1, new_output("stream", name="stderr", text=note))
        if self._refused:
            note = f"[{self._refused:,} outputs were left out: the cell shows too many]\n"
            before_error = next((i for i, output in enumerate(outputs) if output.output_type == "error"), len(outputs))
            outputs.insert(before_error, new_output("stream", name="stderr", text=note))


def _size(content: dict[str, Any]) -> int:
    return sum(len(str(value)) for value in content["data"].values())


def _cut(text: str) -> str:
    """Of an error's message, or of a line of its traceback."""
    half = 10 * LEAST
    return text if len(text) <= 2 * half else f"{text[:half]}{CUT}{text[-half:]}"
