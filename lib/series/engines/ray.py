"""A Ray cluster: `ray start` on each node, or one that is made on this machine for as long as the sweep runs.

Nothing has to be shared: the run folder of a combination travels to its node and back, and images of files are sent
once to each node. A node needs this project, at the same commit, in the environment that Ray was started in.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.errors import UserError
from lib.files import cache_dir, locked, writing
from lib.granted import num_cores
from lib.series.combination import LOG, Combination, Process, last_line, packed, unpack
from lib.series.engines import Engine, Event, Task, imported
from lib.series.preflight import image_caches

# Ray reports nothing: with the first alone, the head of a cluster still reports that it is switched off.
SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9"}
USUAL = {"RAY_AUTH_MODE": "token", "RAY_gcs_rpc_server_connect_timeout_s": "5", "RAY_raylet_start_wait_time_s": "120"}
RETRIES = 3  # of a combination whose node is lost
POLL_S = 1.0


class Ray(Engine):
    """A task of Ray for each combination, placed by its cores."""

    name = "ray"

    def connect(self) -> None:
        """See `Engine`. Where no address is given, a cluster of this machine alone is made."""
        os.environ.update(SILENT)
        for name, usual in USUAL.items():
            os.environ.setdefault(name, usual)
        ray = imported("ray", self.name)
        here = {} if self.at else {"num_cpus": num_cores(), "include_dashboard": False}
        try:
            ray.init(address=self.at or "local", log_to_driver=False, logging_level=logging.ERROR, **here)
        except Exception as error:  # of many kinds: nothing answers, other versions, no token
            raise UserError(
                f"no Ray cluster at {self.at or 'this machine'} ({' '.join(str(error).split())[:200]}); give HOST:PORT "
                "as `ray start --head` printed it, or leave out --at for a cluster on this machine"
            ) from None

    def run(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """See `Engine`."""
        ray = imported("ray", self.name)
        try:
            where = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                ray.get_runtime_context().get_node_id(), soft=False
            )
            board = ray.remote(num_cpus=0, scheduling_strategy=where)(Board).remote()
            caches: dict[Path, Any] = {}
            waiting = {self._submitted(task, board, caches): task for task in tasks}
            while waiting:
                ended, _ = ray.wait(list(waiting), timeout=POLL_S)
                for answer in ended:
                    yield _ended(waiting.pop(answer), answer)
                lines = ray.get(board.read.remote())
                for answer, task in list(waiting.items()):
                    if (needed := self._cores(task)) > max(_cores_of_nodes(), default=0):
                        ray.cancel(answer, force=True)
                        lost = f"no node with {needed} cores is left in the cluster; start one, and run the sweep again"
                        yield Event(waiting.pop(answer), "", reason=lost)
                    elif found := lines.get(task.combination.folder):
                        yield Event(task, *found)
        except ray.exceptions.RayError as error:
            first = str(error).splitlines()[0]
            raise UserError(f"the Ray cluster is gone ({first}); start it, and run the sweep again") from None
        finally:
            ray.shutdown()

    def _cores(self, task: Task) -> int:
        """That Ray must grant: for what measures those of the largest node, which has no room for others then."""
        if task.whole_node:
            return max(_cores_of_nodes(), default=1)
        return task.num_threads or max(1, min(_cores_of_nodes(), default=1) // self.jobs)

    def _submitted(self, task: Task, board: Any, caches: dict[Path, Any]) -> Any:
        ray = imported("ray", self.name)
        images = image_caches(task.jobs, task.run_dir)
        for cache in images.values():
            if cache not in caches:
                content = packed(cache)
                caches[cache] = hashlib.sha256(content).hexdigest(), ray.put(content)
        sent = {name: caches[cache] for name, cache in images.items()}
        run = ray.remote(num_cpus=self._cores(task), max_retries=RETRIES)(on_node)
        return run.remote(vars(task.combination), packed(task.run_dir), sent, self._cores(task), board)


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


def _cores_of_nodes() -> list[int]:
    ray = imported("ray", Ray.name)
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return [count for count in cores if count]


def _ended(task: Task, answer: Any) -> Event:
    ray = imported("ray", Ray.name)
    try:
        node, reason, content = ray.get(answer)
        if content:
            unpack(content, task.run_dir)
        return Event(task, node, reason=reason)
    except ray.exceptions.RayError as error:  # the node is lost, has no such project, or no memory
        cause = getattr(error, "cause", None) or error
        first = next(iter(str(cause).strip().splitlines()), "")
        why = f"its node did not run it ({type(cause).__name__}: {first}); start Ray there in the environment of this "
        return Event(task, "", reason=f"{why}project, at the same commit, and run the sweep again")


def on_node(
    combination: dict[str, Any], content: bytes, images: Mapping[str, Any], num_cores: int, board: Any
) -> tuple[str, str, bytes]:
    """What a node does: take the run folder, fetch the images that it lacks, run.

    Returns:
        Its name, why it did not run (empty if it did), and the run folder.
    """
    ray = imported("ray", Ray.name)
    node, name = f"{platform.node()} {ray.get_runtime_context().get_node_id()[:6]}", str(combination["folder"])
    try:
        with writing(f"{platform.node()}:{cache_dir()}", "set GTSRB_CACHE to another folder there"):
            cache_dir().mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".sweep-", dir=cache_dir()) as place:
                unpack(content, run_dir := Path(place, name))
                process = Process(Combination(**combination), run_dir, num_cores=num_cores, sent=_received(images))
                try:
                    while process.runs():
                        board.put.remote(name, node, last_line(run_dir / LOG))
                        time.sleep(POLL_S)
                finally:
                    process.stop()
                return node, process.reason(), packed(run_dir)
    except UserError as error:
        return node, str(error), b""


def _received(images: Mapping[str, tuple[str, Any]]) -> str:
    """The folder with these caches; what is not there comes from Ray's store. Their hashes are checked on reading."""
    ray = imported("ray", Ray.name)
    together = hashlib.sha256("".join(sha256 for sha256, _ in images.values()).encode()).hexdigest()
    folder = cache_dir() / "sent" / together[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        for name, (_, place) in images.items():
            if not (folder / name).is_dir():
                unpack(ray.get(place), folder / name)
    return str(folder)
