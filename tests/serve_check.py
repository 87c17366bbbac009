"""How well `python -m lib serve` holds: load, overload, soak, a kill, each beside the figure that is asked for.

    make serve-check                                 figures in build/serve-check/, also as a table for docs/serving.md
    make ARGS='--release runs/latest' serve-check    of another release; by default one with random weights is made

Load generator and server share the machine. Rates are compared per CPU-second of the server's process tree, so that the
generator costs the server nothing; latencies need a quiet machine with at least two cores.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import re
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil  # type: ignore[import-untyped]
from PIL import Image

from lib.data.images import as_photo, resize_image
from lib.files import PROJECT_ROOT, write_atomic
from lib.granted import num_cores
from lib.machine import collect_environment
from lib.release import Release
from lib.release.predicting import Model
from lib.serving.engine import default_threads
from tests.served import Server, made_release, serving

NUM_IMAGES = 500
LOST, REFUSED = 0, -1  # sent and never answered; not sent, as nothing listens
CONNECTIONS = 32  # of the closed loop: the server's largest batch
RETRY_S = 0.1  # until a client that nobody answered sends again
LATE_S = 0.1  # an image that is sent later than this after its arrival was not offered in time
OUT = PROJECT_ROOT / "build/serve-check"
TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "PPM": "image/x-portable-pixmap"}
FIGURES = re.compile(r"(?<=<!-- figures -->\n).*(?=<!-- end of figures -->)", re.DOTALL)


def images(seed: int = 0) -> list[tuple[bytes, str]]:
    """Different pictures of the sizes of GTSRB's, and their media types."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(NUM_IMAGES):
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        width, height = (int(side) for side in rng.integers(25, 120, 2))
        kind = list(TYPES)[number % len(TYPES)]
        buffer = io.BytesIO()
        small.resize((width, height), Image.Resampling.BICUBIC).save(buffer, kind)
        made.append((buffer.getvalue(), TYPES[kind]))
    return made


def raw_requests(path: str) -> list[bytes]:
    return [
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        + content
        for content, kind in images()
    ]


def form_requests(path: str) -> list[bytes]:
    """The same images, as the forms that the plain server takes."""
    made = []
    for content, kind in images():
        head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: {kind}\r\n\r\n'
        body = head.encode() + content + b"\r\n--x--\r\n"
        made.append(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
    return made


@dataclass
class Load:
    """What clients saw."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)  # of HTTP, or LOST or REFUSED
    latencies_s: list[float] = field(default_factory=list)  # of answers with status 200
    offered: float = 0.0  # images per second that the open loop sent in time

    @property
    def goodput(self) -> float:
        """Images answered per second."""
        return self.statuses[200] / self.seconds

    def percentile(self, share: float) -> float:
        return float(np.quantile(self.latencies_s, share)) if self.latencies_s else math.nan


@dataclass
class _Exchange:
    """One request on its way, and what came back of its answer."""

    connection: socket.socket
    since: float
    to_send: memoryview
    was_sent: bool = False
    answer: bytearray = field(default_factory=bytearray)


class Clients:
    """Connections of many clients in one loop without threads: what they cost is taken from the server."""

    def __init__(self, port: int) -> None:
        self._port, self._poll = port, select.epoll()
        self._idle, self._busy = dict[int, socket.socket](), dict[int, _Exchange]()

    @property
    def num_waiting(self) -> int:
        return len(self._busy)

    def send(self, request: bytes, since: float) -> None:
        """Send on a connection that is idle, else on a new one."""
        known = bool(self._idle)
        exchange = _Exchange(self._idle.popitem()[1] if known else self._connect(), since, memoryview(request))
        self._busy[exchange.connection.fileno()] = exchange
        if known:
            with suppress(OSError):  # it ended just now; that is an event, too
                self._write(exchange)

    def answers(self, wait_s: float) -> Iterator[tuple[int, float]]:
        """What comes meanwhile: the status of each answer, or LOST or REFUSED, and its `since`."""
        for number, events in self._poll.poll(max(0.0, wait_s)):
            if (exchange := self._busy.get(number)) is None:  # the server ended an idle connection
                self._end(self._idle.pop(number))
            elif (status := self._proceed(exchange, events)) is not None:
                del self._busy[number]
                if status in (LOST, REFUSED) or b"\r\nconnection: close\r\n" in exchange.answer.lower():
                    self._end(exchange.connection)
                else:
                    self._idle[number] = exchange.connection
                yield status, exchange.since

    def close(self) -> None:
        for connection in (*self._idle.values(), *(exchange.connection for exchange in self._busy.values())):
            connection.close()
        self._poll.close()

    def _connect(self) -> socket.socket:
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connect_ex(("127.0.0.1", self._port))  # a refusal is an event, too
        self._poll.register(connection)
        return connection

    def _end(self, connection: socket.socket) -> None:
        self._poll.unregister(connection)  # closing is not enough while a process that is being started shares it
        connection.close()

    def _write(self, exchange: _Exchange) -> None:
        exchange.to_send = exchange.to_send[exchange.connection.send(exchange.to_send) :]
        exchange.was_sent = True
        self._poll.modify(exchange.connection, select.EPOLLIN | (select.EPOLLOUT if exchange.to_send else 0))

    def _proceed(self, exchange: _Exchange, events: int) -> int | None:
        try:
            if events & select.EPOLLOUT:
                self._write(exchange)
            if events & ~select.EPOLLOUT:
                received = exchange.connection.recv(65536)
                exchange.answer += received
                return _status(exchange.answer) if received else LOST
        except OSError:
            return LOST if exchange.was_sent else REFUSED
        return None


def _status(answer: bytearray) -> int | None:
    """Of an answer of HTTP, once all of it is there."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return None
    length = re.search(rb"content-length: (\d+)", answer[:end], re.IGNORECASE)
    return int(answer[9:12]) if len(answer) >= end + 4 + int(length[1] if length else 0) else None


def closed_loop(
    port: int, requests: list[bytes], seconds: float, load: Load | None = None, stop: threading.Event | None = None
) -> Load:
    """Each connection sends its next image when the last is answered.

    Args:
        load: gets the figures while it goes on.
        stop: ends it early, when it is set.
    """
    load, begun = load or Load(), time.perf_counter()
    with closing(Clients(port)) as clients:
        due = [begun] * CONNECTIONS
        while due or clients.num_waiting:
            now = time.perf_counter()
            if now >= begun + seconds or (stop is not None and stop.is_set()):
                due = []
            for _ in range(sum(moment <= now for moment in due)):
                clients.send(random.choice(requests), now)
            due = [moment for moment in due if moment > now]
            for status, since in clients.answers(RETRY_S):
                _note(load, status, since)
                # a server that was killed still takes connections for a moment
                due.append(time.perf_counter() + (RETRY_S if status in (LOST, REFUSED) else 0.0))
    load.seconds = time.perf_counter() - begun
    return load


def open_loop(port: int, requests: list[bytes], seconds: float, rate: float) -> Load:
    """Images arrive at random times at this mean rate, whatever the server does; latency counts from the arrival."""
    load, begun, num_in_time = Load(), time.perf_counter(), 0
    with closing(Clients(port)) as clients:
        arrival = begun
        while arrival < begun + seconds or clients.num_waiting:
            now = time.perf_counter()
            if arrival <= now and arrival < begun + seconds:
                clients.send(random.choice(requests), arrival)
                num_in_time += now < min(arrival + LATE_S, begun + seconds)
                arrival += random.expovariate(rate)
            more = arrival < begun + seconds
            for status, since in clients.answers(arrival - now if more else RETRY_S):
                _note(load, status, since)
    load.seconds, load.offered = time.perf_counter() - begun, num_in_time / seconds
    return load


def _note(load: Load, status: int, since: float) -> None:
    load.statuses[status] += 1
    if status == 200:
        load.latencies_s.append(time.perf_counter() - since)


def cpu_seconds(pid: int) -> float:
    """Of a process and all that it started."""
    parent = psutil.Process(pid)
    times = [process.cpu_times() for process in (parent, *parent.children(recursive=True))]
    return float(sum(used.user + used.system for used in times))


def bare(release: Release, num_threads: int, batch_size: int, seconds: float) -> tuple[float, float]:
    """Decode, resize, normalize and run in a loop: images per CPU-second, and median seconds of a batch."""
    model, made = Model(release.model(), num_threads), images()
    size, times = release.preprocessing.image_size, list[float]()

    def batch(number: int) -> None:
        pixels = []
        for index in range(batch_size):
            content, _ = made[(number * batch_size + index) % len(made)]
            with Image.open(io.BytesIO(content), formats=tuple(TYPES)) as opened:
                pixels.append(resize_image(as_photo(opened).image, size))
        model(release.preprocessing.normalize(np.stack(pixels)))

    for number in range(5):
        batch(number)
    used, begun = time.process_time(), time.perf_counter()
    while time.perf_counter() - begun < seconds:
        started = time.perf_counter()
        batch(len(times))
        times.append(time.perf_counter() - started)
    return len(times) * batch_size / (time.process_time() - used), float(np.median(times))


def batches(server: Server) -> tuple[float, float]:
    """Images and batches that the server has computed."""
    text = httpx.get(f"{server.address}/metrics").text
    found = [re.search(rf"^gtsrb_batch_size_{what} (\S+)", text, re.MULTILINE) for what in ("sum", "count")]
    return tuple(float(match[1]) for match in found if match)  # type: ignore[return-value]


@dataclass
class Figures:
    """All that is measured; seconds, images per second, bytes."""

    machine: str
    num_threads: int
    release: str
    capacity: float
    mean_batch: float
    per_cpu_second: float
    bare_per_cpu_second: float
    bare_single_s: float
    half_load_p50_s: float
    half_load_p99_s: float
    overload_offered: float
    overload_goodput: float
    overload_refused: int
    wrong_statuses: dict[int, int]  # of all phases but the kill: neither 200 nor 429
    soak_s: float
    soak_images: int
    soak_start_bytes: int
    soak_end_bytes: int
    killed_in_flight: int  # lost by the kill, while no server ran
    killed_lost: int  # before the kill, or after the restart
    restart_s: float
    plain_capacity: float = math.nan
    plain_per_cpu_second: float = math.nan
    plain_half_load_p99_s: float = math.nan

    @property
    def checks(self) -> list[tuple[str, str, str, bool]]:
        """What is asked, asked and measured figures, and whether it is met."""
        share = self.per_cpu_second / self.bare_per_cpu_second
        times = self.half_load_p99_s / self.bare_single_s
        kept, growth = self.overload_goodput / self.capacity, self.soak_end_bytes / self.soak_start_bytes - 1
        offered = self.overload_offered / self.capacity
        soak = f"{self.soak_s / 60:.1f} min, {self.soak_images:,} varying images"
        return [
            ("images per CPU-second, of the bare loop", ">= 70 %", f"{share:.0%}", share >= 0.7),
            ("p99 at half load, of the bare single-image time", "<= 10x", f"{times:.1f}x", times <= 10),
            (
                "goodput when twice the capacity is offered",
                ">= 90 % at >= 1.9x",
                f"{kept:.0%} at {offered:.1f}x",
                kept >= 0.9 and offered >= 1.9,
            ),
            (f"memory after a soak of {soak}", "+5 % at most", f"{growth:+.1%}", growth <= 0.05),
            ("requests lost before `kill -9` and after the restart", "0", f"{self.killed_lost}", not self.killed_lost),
            ("answers other than 200 and 429", "0", f"{sum(self.wrong_statuses.values())}", not self.wrong_statuses),
        ]


def measure(release: Release, num_threads: int, seconds: float, soak_s: float) -> Figures:
    """All phases but the plain server, one after the other."""
    requests = raw_requests("/predict")
    with serving(release.path, "--port", "0", "--num-threads", str(num_threads)) as server:
        _say("capacity")
        closed_loop(server.port, requests, min(2.0, seconds))  # warm-up
        before, used = batches(server), cpu_seconds(server.process.pid)
        peak = closed_loop(server.port, requests, seconds)
        used, after = cpu_seconds(server.process.pid) - used, batches(server)
        mean_batch = (after[0] - before[0]) / (after[1] - before[1])
        _say("the bare loop")
        bare_rate, _ = bare(release, num_threads, max(1, round(mean_batch)), seconds)
        _, single_s = bare(release, num_threads, 1, seconds)
        _say("half load")
        half = open_loop(server.port, requests, seconds, peak.goodput / 2)
        _say("overload")
        over = open_loop(server.port, requests, seconds, peak.goodput * 2)
        _say(f"soak of {soak_s:.0f} s")
        process = psutil.Process(server.process.pid)
        first = closed_loop(server.port, requests, soak_s / 10)  # until allocators have settled
        settled = process.memory_info().rss
        soak = closed_loop(server.port, requests, soak_s * 9 / 10)
        wrong = sum((load.statuses for load in (peak, half, over, first, soak)), Counter[int]())
        del wrong[200], wrong[429]
        grown = process.memory_info().rss
    _say("kill -9 and restart")
    in_flight, lost, restart_s = killed(release, num_threads, requests)
    return Figures(
        machine=f"{collect_environment().cpu_model or 'unknown CPU'}, {num_cores()} cores",
        num_threads=num_threads,
        release=f"{release.name} {release.version}",
        capacity=peak.goodput,
        mean_batch=mean_batch,
        per_cpu_second=peak.statuses[200] / used,
        bare_per_cpu_second=bare_rate,
        bare_single_s=single_s,
        half_load_p50_s=half.percentile(0.5),
        half_load_p99_s=half.percentile(0.99),
        overload_offered=over.offered,
        overload_goodput=over.goodput,
        overload_refused=over.statuses[429],
        wrong_statuses=dict(wrong),
        soak_s=soak_s,
        soak_images=first.statuses[200] + soak.statuses[200],
        soak_start_bytes=settled,
        soak_end_bytes=grown,
        killed_in_flight=in_flight,
        killed_lost=lost,
        restart_s=restart_s,
    )


def killed(release: Release, num_threads: int, requests: list[bytes]) -> tuple[int, int, float]:
    """Requests without a complete answer while no server ran, and at other times; seconds until a new one listens."""
    options, load, stop = ("--num-threads", str(num_threads)), Load(), threading.Event()
    with serving(release.path, "--port", "0", *options) as server:
        clients = threading.Thread(target=closed_loop, args=(server.port, requests, math.inf, load, stop))
        clients.start()
        try:
            time.sleep(1.0)
            server.process.kill()
            early = load.statuses[LOST]
            begun = time.perf_counter()
            server.process.wait()
            with serving(release.path, "--port", str(server.port), *options):
                restart_s = time.perf_counter() - begun
                in_flight = load.statuses[LOST] - early
                time.sleep(1.0)
                stop.set()
                clients.join()
        finally:
            stop.set()
    return in_flight, load.statuses[LOST] - in_flight, restart_s


@contextmanager
def plain_server(checkpoint: Path, num_threads: int) -> Iterator[tuple[int, int]]:
    """Process id and port of the server that tutorials write."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.plain_server", str(checkpoint), str(port), str(num_threads)]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT)
    try:
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            assert process.poll() is None, "the plain server does not start"
            time.sleep(0.2)
        yield process.pid, port
    finally:
        process.kill()
        process.wait()


def measure_plain(figures: Figures, checkpoint: Path, num_threads: int, seconds: float) -> None:
    """The same load on the plain server."""
    _say("the plain server")
    requests = form_requests("/predict")
    with plain_server(checkpoint, num_threads) as (pid, port):
        closed_loop(port, requests, min(2.0, seconds))
        used = cpu_seconds(pid)
        peak = closed_loop(port, requests, seconds)
        figures.plain_per_cpu_second = peak.statuses[200] / (cpu_seconds(pid) - used)
        figures.plain_capacity = peak.goodput
        half = open_loop(port, requests, seconds, peak.goodput / 2)
        figures.plain_half_load_p99_s = half.percentile(0.99)


def table(figures: Figures) -> str:
    """For docs/serving.md."""
    lines = [f"{figures.release}, threads of the network: {figures.num_threads}, {figures.machine}.", ""]
    lines += ["| asked | at least | measured | |", "|---|---|---|---|"]
    lines += [f"| {what} | {asked} | {found} | {'met' if met else '**not met**'} |"
              for what, asked, found, met in figures.checks]  # fmt: skip
    ours = (figures.capacity, figures.per_cpu_second, figures.half_load_p99_s)
    plain = (figures.plain_capacity, figures.plain_per_cpu_second, figures.plain_half_load_p99_s)
    lines += ["", "| | images/s | images per CPU-second | p99 at half load |", "|---|---|---|---|"]
    for name, (rate, per_cpu, p99) in (
        ("`python -m lib serve`", ours),
        ("FastAPI and PyTorch, as in tutorials", plain),
    ):
        lines.append(f"| {name} | {rate:,.0f} | {per_cpu:,.0f} | {p99 * 1000:.1f} ms |")
    lines += [
        f"| bare loop, batches of {figures.mean_batch:.0f} | | {figures.bare_per_cpu_second:,.0f} | |",
        "",
        f"The server used batches of {figures.mean_batch:.1f} images on average. A single image takes the bare loop "
        f"{figures.bare_single_s * 1000:.2f} ms. In overload {figures.overload_offered:,.0f} requests were sent "
        f"per second, and it refused {figures.overload_refused:,}. `kill -9` cost {figures.killed_in_flight} requests "
        f"in flight, and a new server listened within {figures.restart_s:.1f} s.",
    ]
    return "\n".join(lines) + "\n"


def _say(phase: str) -> None:
    print(f"serve-check: {phase}", flush=True)


def main() -> int:
    """Measure, write the figures, and say whether all that is asked is met."""
    parser = argparse.ArgumentParser(prog="python -m tests.serve_check")
    parser.add_argument("--release", default="", help="release or run folder; default: one with random weights is made")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each phase (default 30)")
    parser.add_argument("--soak", type=float, default=1800.0, help="seconds of the soak (default 1800)")
    parser.add_argument("--num-threads", type=int, default=0, help="default: as the server takes it")
    parser.add_argument("--document", action="store_true", help="also write the table into docs/serving.md")
    arguments = parser.parse_args()
    num_threads = arguments.num_threads or default_threads()
    with tempfile.TemporaryDirectory() as scratch:
        release = Release.load(arguments.release or made_release(Path(scratch)))
        figures = measure(release, num_threads, arguments.seconds, arguments.soak)
        measure_plain(figures, release.path / "model.safetensors", num_cores(), arguments.seconds)
    text = table(figures)
    write_atomic(OUT / "figures.json", json.dumps(asdict(figures), indent=1))
    write_atomic(OUT / "figures.md", text)
    if arguments.document:
        document = PROJECT_ROOT / "docs/serving.md"
        write_atomic(document, FIGURES.sub(lambda _: text, document.read_text(encoding="utf-8")))
    print(text)
    return 0 if all(met for *_, met in figures.checks) else 1


if __name__ == "__main__":
    sys.exit(main())
