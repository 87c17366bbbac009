"""A Ray cluster: `ray start` on each node, or one that is made on this machine for as long as the sweep runs.

Nothing has to be shared: the run folder of a combination travels to its node and back, and images of files are sent
once to each node. A node needs this project, at the same commit, in the environment that Ray was started in.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from lib.errors import UserError
from lib.files import cache_dir, locked
from lib.granted import CORES, num_cores
from lib.series.combination import LOG, Combination, Process, last_line, packed, unpack
from lib.series.engines import Engine, Event, Task, imported
from lib.series.preflight import image_caches

# Ray sends nothing; with the first alone, the head of a cluster would still report that it is switched off.
SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9"}
TOKEN = {"RAY_AUTH_MODE": "token"}
RETRIES = 3  # of a combination whose node is lost
POLL_S = 1.0
CONNECT_S = 5.0
Answer = tuple[str, str, bytes]  # node, reason, run folder


class Ray(Engine):
    """A task of Ray for each combination, placed by its cores."""

    name = "ray"

    def connect(self) -> None:
        """See `Engine`. Where no address is given, a cluster of this machine alone is made."""
        os.environ.update(SILENT)
        for name, mode in TOKEN.items():
            os.environ.setdefault(name, mode)
        ray = imported("ray", self.name)
        _reach(self.at)
        here = {} if self.at else {"num_cpus": num_cores(), "include_dashboard": False}
        try:
            ray.init(address=self.at or "local", log_to_driver=False, logging_level=logging.ERROR, **here)
        except Exception as error:  # of many kinds: no cluster, other versions, no token
            why = " ".join(str(error).split())[:300]
            raise UserError(
                f"no Ray cluster at {self.at or 'this machine'}: {why}; start one as docs/scale.md shows, or leave out "
                "--at for a cluster on this machine"
            ) from None

    def run(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """See `Engine`."""
        import ray

        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        try:
            board = ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()
            sent = _Sent()
            waiting = {self._submitted(task, board, sent): task for task in tasks}
            while waiting:
                ended, _ = ray.wait(list(waiting), timeout=POLL_S)
                for answer in ended:
                    yield _ended(waiting.pop(answer), answer)
                lines = ray.get(board.read.remote())
                for task in waiting.values():
                    if found := lines.get(task.combination.folder):
                        yield Event(task, *found)
                for answer in [answer for answer, task in waiting.items() if self._cores(task) > max(_nodes())]:
                    task = waiting.pop(answer)
                    ray.cancel(answer, force=True)
                    yield Event(task, "", reason=f"no node with {self._cores(task)} cores is left in the cluster; "
                                "start one, and run the sweep again")  # fmt: skip
        except ray.exceptions.RayError as error:
            raise UserError(
                f"the Ray cluster is gone ({str(error).splitlines()[0]}); what had finished is kept: start it again, "
                "and run the sweep again"
            ) from None
        finally:
            ray.shutdown()

    def _cores(self, task: Task) -> int:
        """That Ray must grant: for what measures those of the largest node, which has no room for others then."""
        if task.whole_node:
            return max(_nodes())
        return task.num_threads or max(1, min(cores for cores in _nodes() if cores) // self.jobs)

    def _submitted(self, task: Task, board: Any, sent: _Sent) -> Any:
        import ray

        caches = image_caches(task.jobs, task.run_dir)
        images = {name: sent.reference(packed(folder)) for name, folder in caches.items()}
        run = ray.remote(num_cpus=self._cores(task), max_retries=RETRIES)(on_node)
        folder = [sent.reference(packed(task.run_dir))]
        return run.remote(vars(task.combination), folder, images, self._cores(task), board)


class Board:
    """What each launch printed last, and on which node. An actor, on the node where the sweep was started."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[str, str]] = {}

    def put(self, folder: str, node: str, line: str) -> None:
        """Of the combination of this folder."""
        self._lines[folder] = node, line

    def read(self) -> dict[str, tuple[str, str]]:
        """Node and line by folder."""
        return self._lines


class _Sent:
    """What is in Ray's store already: equal content is there once."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def reference(self, content: bytes) -> tuple[str, Any]:
        """Its SHA-256, and the place in the store."""
        import ray

        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 not in self._known:
            self._known[sha256] = ray.put(content)
        return sha256, self._known[sha256]


def _reach(address: str) -> None:
    """Find out quickly that nothing answers; Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"nothing answers at {address} ({error}); give HOST:PORT as `ray start --head` printed it"
        ) from None


def _nodes() -> list[int]:
    """Cores of the nodes that are there."""
    import ray

    return [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]


def _ended(task: Task, answer: Any) -> Event:
    import ray

    try:
        node, reason, content = ray.get(answer)
        if content:
            unpack(content, task.run_dir)
        return Event(task, node, reason=reason)
    except UserError as error:
        return Event(task, "", reason=str(error))
    except ray.exceptions.RayError as error:  # the node is lost, has no such project, or no memory
        cause = getattr(error, "cause", None) or error
        first = next(iter(str(cause).strip().splitlines()), "")
        return Event(task, "", reason=f"its node did not run it ({type(cause).__name__}: {first}); see that this "
                     "project, at the same commit, is in the environment of its `ray start`")  # fmt: skip


def on_node(
    combination: dict[str, Any], folder: Sequence[Any], images: Mapping[str, Any], num_cores: int, board: Any
) -> Answer:
    """What a node does: take the run folder, fetch the images that it lacks, run, and give the run folder back."""
    import ray

    node = os.environ.get("RAY_NODE_NAME") or f"{socket.gethostname()} {ray.get_runtime_context().get_node_id()[:6]}"
    name = str(combination["folder"])
    try:
        with tempfile.TemporaryDirectory(prefix=".sweep-", dir=_made(cache_dir())) as place, _own(num_cores) as cores:
            run_dir = Path(place, name)
            unpack(ray.get(folder[0][1]), run_dir)
            sent = _received(images) if images else ""
            process = Process(Combination(**combination), run_dir, cores=cores, sent=sent)
            try:
                while process.runs():
                    board.put.remote(name, node, last_line(run_dir / LOG))
                    time.sleep(POLL_S)
            finally:
                process.stop()
            return node, process.reason(), packed(run_dir)
    except UserError as error:
        return node, str(error), b""
    except OSError as error:
        return node, f"{socket.gethostname()}: {error}; free space there or set GTSRB_CACHE to another folder", b""


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _received(images: Mapping[str, Any]) -> str:
    """The folder with these caches; those that are not there, or were damaged, come from Ray's store."""
    import ray

    together = hashlib.sha256("".join(sha256 for sha256, _ in images.values()).encode()).hexdigest()
    folder = _made(cache_dir() / "sent" / together[:16])
    with locked(folder.parent / f"{folder.name}.lock"):
        for name, (_, place) in images.items():
            if not (folder / name).is_dir():
                unpack(ray.get(place), folder / name)
    return str(folder)


@contextmanager
def _own(count: int) -> Iterator[str]:
    """Cores of this node that no other combination has, such as `0,1`: Ray counts them, and leaves it at that. Empty
    where the node has not as many as it was started with."""
    with ExitStack() as held:
        mine: list[int] = []
        for core in sorted(CORES):
            with suppress(BlockingIOError, UserError):
                lock = Path(tempfile.gettempdir(), f"gtsrb-{os.getuid()}-core-{core}.lock")
                held.enter_context(locked(lock, wait=False))
                mine.append(core)
            if len(mine) == count:
                break
        yield ",".join(map(str, mine)) if len(mine) == count else ""
