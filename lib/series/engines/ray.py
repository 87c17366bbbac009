"""A Ray cluster: `ray start` on each node, or one that is made on this machine for as long as the sweep runs.

Nothing has to be shared: the run folder of a combination travels to its node and back, and images of files are sent
once to each node. A node needs this project, at the same commit, in the environment that Ray was started in.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lib.errors import UserError
from lib.files import cache_dir, locked, writing
from lib.granted import num_cores
from lib.series.combination import LOG, Combination, Process, last_line, packed, unpack
from lib.series.engines import AGAIN, Engine, Event, Task, first_line, imported
from lib.series.preflight import image_caches

# Ray reports nothing: with the first alone, the head of a cluster still reports that it is switched off.
SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9"}
USUAL = {
    "RAY_AUTH_MODE": "token",
    "RAY_gcs_rpc_server_connect_timeout_s": "5",
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_raylet_start_wait_time_s": "120",
}
ONE_TRY = {"RAY_gcs_server_port_wait_time_s": "1", "RAY_py_gcs_connect_timeout_s": "5"}  # else Ray tries for minutes
RETRIES = 3  # of a combination whose node is lost
POLL_S = 1.0
GONE_S = 30.0  # without an answer, a cluster is gone; after a minute without its head, Ray ends the whole process


class Ray(Engine):
    """A task of Ray for each combination, placed by its cores."""

    name = "ray"

    def connect(self) -> None:
        """See `Engine`. Where no address is given, a cluster of this machine alone is made."""
        if self.at:
            host, _, port = self.at.rpartition(":")
            try:
                socket.create_connection((host, int(port)), timeout=5).close()
            except (OSError, ValueError) as error:
                raise self._refusal(error) from None
        os.environ.update(SILENT)  # before Ray is imported
        for name, usual in (USUAL | ONE_TRY if self.at else USUAL).items():
            os.environ.setdefault(name, usual)
        self.ray = imported("ray", self.name)
        here = {} if self.at else {"num_cpus": num_cores(), "include_dashboard": False}
        try:
            self.ray.init(address=self.at or "local", log_to_driver=False, logging_level=logging.ERROR, **here)
        except Exception as error:  # of many kinds: nothing answers, other versions, no token
            raise self._refusal(error) from None

    def _refusal(self, error: Exception) -> UserError:
        why = " ".join(str(error).split())[:200]
        if not self.at:
            return UserError(f"Ray does not start here ({why}); see /tmp/ray/session_latest/logs")
        return UserError(
            f"no Ray cluster at {self.at} ({why}); give HOST:PORT as `ray start --head` printed it, or leave out --at "
            "for a cluster on this machine"
        )

    def run(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """See `Engine`."""
        ray, gone = self.ray, False
        try:
            where = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                ray.get_runtime_context().get_node_id(), soft=False
            )
            lines = ray.remote(num_cpus=0, scheduling_strategy=where)(Lines).remote()
            caches: dict[Path, Any] = {}
            known: dict[tuple[str, str, int, str], Path] = {}
            waiting: dict[Any, tuple[Task, int]] = {}
            for task in tasks:
                num_cores = self._cores(task)
                waiting[self._submitted(task, num_cores, lines, caches, known)] = task, num_cores
            ray.get(lines.read.remote())  # however long it takes to start
            while waiting:
                ended, _ = ray.wait(list(waiting), timeout=POLL_S)
                for answer in ended:
                    yield self._ended(waiting.pop(answer)[0], answer)
                last, cores = ray.get(lines.read.remote(), timeout=GONE_S)
                for answer, (task, num_cores) in list(waiting.items()):
                    if num_cores > max(cores):
                        ray.cancel(answer, force=True)
                        lost = f"no node with {num_cores} cores is left in the cluster; start one{AGAIN}"
                        yield Event(waiting.pop(answer)[0], "", reason=lost)
                    elif found := last.get(task.combination.folder):
                        yield Event(task, *found)
        except ray.exceptions.RayError as error:
            gone = True
            raise UserError(f"the Ray cluster is gone ({first_line(error)}); start it{AGAIN}") from None
        finally:
            if not gone:  # it would wait for the cluster
                ray.shutdown()

    def _cores(self, task: Task) -> int:
        """That Ray must grant: for what measures those of the largest node, which has no room for others then."""
        if task.whole_node:
            return max(1, *cores_of_nodes())
        return task.num_threads or max(1, min(cores_of_nodes()) // self.jobs)

    def _submitted(
        self,
        task: Task,
        num_cores: int,
        lines: Any,
        caches: dict[Path, Any],
        known: dict[tuple[str, str, int, str], Path],
    ) -> Any:
        """The answer to come, of a task that may run anywhere. Caches that were put into Ray's store are added."""
        images = image_caches(task.jobs, task.run_dir, known)
        for cache in images.values():
            if cache not in caches:
                content = packed(cache)
                caches[cache] = hashlib.sha256(content).hexdigest(), self.ray.put(content)
        sent = {name: caches[cache] for name, cache in images.items()}
        run = self.ray.remote(num_cpus=num_cores, max_retries=RETRIES)(on_node)
        return run.remote(vars(task.combination), packed(task.run_dir), sent, num_cores, lines)

    def _ended(self, task: Task, answer: Any) -> Event:
        try:
            node, reason, content = self.ray.get(answer)
        except self.ray.exceptions.RayError as error:  # the node is lost, has no such project, or no memory
            cause = getattr(error, "cause", None) or error
            why = f"its node did not run it ({type(cause).__name__}: {first_line(cause)}); start Ray there in the "
            return Event(task, "", reason=f"{why}environment of this project, at the same commit{AGAIN}")
        if content:
            unpack(content, task.run_dir)
        return Event(task, node, reason=f"{node}: {reason}" if reason else "")


class Lines:
    """What each launch printed last, and on which node. An actor, on the node where the sweep was started."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[str, str]] = {}

    def put(self, folder: str, node: str, line: str) -> None:
        """Of the combination of this folder."""
        self._lines[folder] = node, line

    def read(self) -> tuple[dict[str, tuple[str, str]], list[int]]:
        """Node and line by folder; and `cores_of_nodes`, for which the driver would wait forever without a head."""
        return self._lines, cores_of_nodes()


def cores_of_nodes() -> list[int]:
    """Of each node that is left, without those that have none to give; never empty."""
    cores = [int(node["Resources"].get("CPU", 0)) for node in imported("ray", Ray.name).nodes() if node["Alive"]]
    return [count for count in cores if count] or [0]


def on_node(
    combination: dict[str, Any], content: bytes, images: Mapping[str, Any], num_cores: int, lines: Any
) -> tuple[str, str, bytes]:
    """What a node does: take the run folder, fetch the images that it lacks, run.

    Returns:
        Its name, why it did not run (empty if it did), and the run folder.
    """
    ray = imported("ray", Ray.name)
    node, name = f"{platform.node()} {ray.get_runtime_context().get_node_id()[:6]}", str(combination["folder"])
    try:
        with writing(f"{platform.node()}:{cache_dir()}", "set GTSRB_CACHE to another folder there"), _place() as place:
            unpack(content, run_dir := place / name)
            sent = _received(images, ray.get)
            process = Process(Combination(**combination), run_dir, num_cores=num_cores, sent=sent)
            try:
                while process.runs():
                    lines.put.remote(name, node, last_line(run_dir / LOG))
                    time.sleep(POLL_S)
            finally:
                process.stop()
            return node, process.reason(), packed(run_dir)
    except UserError as error:
        return node, str(error), b""


@contextmanager
def _place() -> Iterator[Path]:
    """A temporary folder in the cache. Whatever comes next removes those of processes that were killed."""
    folder = cache_dir() / "sweeps"
    folder.mkdir(parents=True, exist_ok=True)
    for orphan in [path for path in folder.iterdir() if path.is_dir()]:
        with suppress(BlockingIOError), locked(orphan.with_suffix(".lock"), wait=False):
            shutil.rmtree(orphan, ignore_errors=True)
    with locked(folder / f"{(name := uuid.uuid4().hex)}.lock"):
        (place := folder / name).mkdir()
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _received(images: Mapping[str, tuple[str, Any]], fetch: Callable[[Any], bytes]) -> str:
    """The folder with these caches; what is not there is fetched. Their hashes are checked on reading."""
    together = hashlib.sha256("".join(sha256 for sha256, _ in images.values()).encode()).hexdigest()
    folder = cache_dir() / "sent" / together[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        for name, (_, place) in images.items():
            if not (folder / name).is_dir():
                unpack(fetch(place), folder / name)
    return str(folder)
