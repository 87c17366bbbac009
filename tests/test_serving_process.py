"""The server as a process: signals, sockets, clients that nobody here wrote, and a page in a browser."""

from __future__ import annotations

import hashlib
import http.client
import io
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lib.cli import main
from lib.files import sha256_file
from lib.release import Release
from tests.browser import CHROMIUM, browser, findings
from tests.served import Server, made_release, serving
from tests.waiting import HANG_S, until

pytest.importorskip("fastapi", reason="serving is not installed: make EXTRAS=serve .venv")

HEADERS = {"Content-Type": "image/png"}
MAIN = "import sys; from lib.cli import main; sys.exit(main())"


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


SIGN = png(Image.effect_noise((48, 48), 60).convert("RGB"))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_release(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def server(release: Path) -> Iterator[Server]:
    with serving(release) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(release: Path) -> Iterator[Server]:
    code = "import lib.serving.app as a, lib.serving.server as s; s.HEAD_S = a.LIMIT_S = a.LINGER_S = 0.5"
    with serving(release, command=(sys.executable, "-c", f"{code}; {MAIN}")) as running:
        yield running


def digest(server: Server) -> str:
    answer = httpx.post(f"{server.address}/predict", content=SIGN, headers=HEADERS, timeout=HANG_S)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["model"]["digest"])


def test_listens_on_this_machine_alone_and_loads_no_torch(server: Server) -> None:
    assert server.address.startswith("http://127.0.0.1:")
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "libtorch" not in maps and "onnxruntime" in maps


def test_no_part_of_an_answer_waits_for_an_acknowledgement(server: Server) -> None:
    """Linux delays one by 40 ms, once a connection is no longer new."""
    times = []
    with httpx.Client(timeout=HANG_S) as client:
        for _ in range(60):
            begun = time.perf_counter()
            client.post(f"{server.address}/predict", content=SIGN, headers=HEADERS)
            times.append(time.perf_counter() - begun)
    assert min(times[-20:]) < 0.03


def test_termination_answers_what_is_in_flight_and_ends_well(release: Path) -> None:
    with serving(release) as server, socket.create_connection(("127.0.0.1", server.port)) as half:
        half.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(SIGN)}"
                     "\r\n\r\n".encode() + SIGN[:20])  # fmt: skip
        digest(server)  # a later request has been answered: the half one has arrived
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not connects(server.port), "new clients are refused")
        half.sendall(SIGN[20:])
        response = http.client.HTTPResponse(half)
        response.begin()
        assert response.status == 200 and b"digest" in response.read()
        assert server.process.wait(HANG_S) == 0
        assert "what was in flight is answered" in server.line("ended")


def test_termination_before_the_event_loop_runs_is_not_lost(release: Path) -> None:
    early = "import os, signal, uvicorn; run = uvicorn.Server.run; uvicorn.Server.run = lambda *given, **named: "
    code = f"{early}(os.kill(os.getpid(), signal.SIGTERM), run(*given, **named))"
    with serving(release, command=(sys.executable, "-c", f"{code}; {MAIN}")) as server:
        assert server.process.wait(HANG_S) == 0
        server.line("ended")


@pytest.mark.parametrize(
    ("path", "length", "status"), [("predict", 1000, 408), ("predict", 20_000_000, 413), ("nowhere", 1000, 404)]
)
def test_connection_of_a_client_that_trickles_is_closed_after_its_answer(
    impatient: Server, path: str, length: int, status: int
) -> None:
    received = b""
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=0.05) as slow:
        slow.sendall(f"POST /{path} HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
                     f"Content-Length: {length}\r\n\r\n".encode())  # fmt: skip

        def closed() -> bool:
            nonlocal received
            try:
                slow.sendall(b"x")
                chunk = slow.recv(10_000)
            except TimeoutError:
                return False
            except ConnectionError:
                return True
            received += chunk
            return not chunk

        until(closed, "the connection is closed", pause=lambda: None)
    assert f" {status} ".encode() in received and b"connection: close" in received
    assert b"error" in received


def test_connection_stays_open_after_a_refusal_of_a_complete_body(server: Server) -> None:
    with httpx.Client(timeout=HANG_S) as client:
        answer = client.post(f"{server.address}/predict", content=SIGN, headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 415 and "connection" not in answer.headers


def connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_turned_link_or_hangup_changes_the_release_without_dropping_a_request_and_keeps_it_if_the_new_is_broken(
    release: Path, tmp_path: Path
) -> None:
    other = made_release(tmp_path / "other", seed=1)
    broken = tmp_path / "broken"
    shutil.copytree(release, broken)
    (broken / "onnx/model.onnx").write_bytes(b"tampered")
    damaged = tmp_path / "damaged"  # whole by its sums
    shutil.copytree(release, damaged)
    sums = (damaged / "SHA256SUMS").read_text()
    (damaged / "SHA256SUMS").write_text(
        sums.replace(sha256_file(damaged / "config.json"), hashlib.sha256(b"[").hexdigest())
    )
    (damaged / "config.json").write_bytes(b"[")
    current = tmp_path / "current"

    def turn(target: Path) -> None:
        (tmp_path / "next").symlink_to(target)
        (tmp_path / "next").rename(current)

    turn(release)
    with serving(current, "--port", "0") as server:
        seen: list[tuple[int, str]] = []
        ended = threading.Event()

        def ask() -> None:
            with httpx.Client(timeout=HANG_S) as client:
                while not ended.is_set():
                    answer = client.post(f"{server.address}/predict", content=SIGN, headers=HEADERS)
                    seen.append((answer.status_code, answer.json().get("model", {}).get("digest")))

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            old, new = Release.load(release).digest, Release.load(other).digest
            until(lambda: (200, old) in seen, "the first release answers")
            assert main(["promote", "--to", str(other), "--current", str(current)]) == 0  # and no signal
            until(lambda: (200, new) in seen, "the other release answers")
            turn(broken)
            server.process.send_signal(signal.SIGHUP)
            assert "model.onnx is not the file that SHA256SUMS names" in server.line("kept")
            turn(damaged)
            server.process.send_signal(signal.SIGHUP)
            server.line("kept")
            turn(release)
            server.process.send_signal(signal.SIGHUP)
            until(lambda: seen[-1] == (200, old), "a good release is taken after the bad ones")
        finally:
            ended.set()
            for client in clients:
                client.join()
        assert set(seen) == {(200, old), (200, new)}
        assert digest(server) == old
        assert f'digest="{old}"' in httpx.get(f"{server.address}/metrics").text


def test_killed_server_starts_again_on_its_port_which_another_cannot_take(
    release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(release) as server:
        digest(server)
        assert main(["serve", str(release), "--port", str(server.port)]) == 2
        told = capsys.readouterr().err.strip()
        assert "Address already in use" in told and "--port" in told and "\n" not in told
        server.process.kill()
        server.process.wait()
        with serving(release, "--port", str(server.port)) as again:
            digest(again)


def test_connection_whose_request_does_not_come_is_closed(impatient: Server) -> None:
    with (
        socket.create_connection(("127.0.0.1", impatient.port), timeout=HANG_S) as silent,
        socket.create_connection(("127.0.0.1", impatient.port), timeout=HANG_S) as half,
    ):
        half.sendall(b"POST /predict HTTP/1.1\r\nHost:")
        assert (silent.recv(1), half.recv(1)) == (b"", b"")


@pytest.mark.parametrize("name", ["", "onnx/model.onnx", "config.json", "release.json"])
def test_release_that_does_not_verify_is_not_served(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    copy = tmp_path / "copy"
    if name:
        shutil.copytree(release, copy)
        (copy / name).write_bytes((copy / name).read_bytes()[:-100])
    assert main(["serve", str(copy), "--port", "0"]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ") and name in told and "\n" not in told


@pytest.mark.parametrize("given", ["-1", "0", "x"])
def test_number_of_threads_that_cannot_be_is_refused(
    release: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    assert main(["serve", str(release), "--num-threads", given]) == 2
    assert "--num-threads" in capsys.readouterr().err


def test_unchanged_client_of_the_protocol_is_served(server: Server, release: Path) -> None:
    client_of = pytest.importorskip("tritonclient.http", reason="make EXTRAS='serve serve-test' .venv")
    client = client_of.InferenceServerClient(f"127.0.0.1:{server.port}")
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("gtsrb")
    metadata = client.get_model_metadata("gtsrb")
    assert metadata["inputs"][0] == {"name": "pixels", "datatype": "UINT8", "shape": [-1, 3, 32, 32]}
    pixels = np.random.default_rng(2).integers(0, 256, (3, 3, 32, 32), np.uint8)
    found = []
    for binary in (True, False):
        given = client_of.InferInput("pixels", [3, 3, 32, 32], "UINT8")
        given.set_data_from_numpy(pixels, binary_data=binary)
        outputs = [client_of.InferRequestedOutput("probabilities", binary_data=binary)]
        answer = client.infer("gtsrb", [given], model_version=Release.load(release).version, outputs=outputs)
        found.append(answer.as_numpy("probabilities"))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    np.testing.assert_allclose(found[0].sum(axis=1), 1, rtol=1e-5)
    with pytest.raises(Exception, match="no model 'resnet'"):
        client.get_model_metadata("resnet")
    client.close()


def test_requests_made_from_the_openapi_document_never_fail_the_server(server: Server, release: Path) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="make EXTRAS='serve serve-test' .venv")
    hypothesis = pytest.importorskip("hypothesis", reason="make EXTRAS='serve serve-test' .venv")
    document = schemathesis.openapi.from_url(f"{server.address}/openapi.json")
    every = hypothesis.settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )

    known = {"name": "gtsrb", "version": Release.load(release).version}
    statuses: dict[str, set[int]] = {}

    def answered(case: Any, fits: int) -> None:
        """Fits: from 1 on, what is made at random names the model; from 2 on, it also has the size of its input."""
        if fits >= 1:
            case.path_parameters = {name: known[name] for name in case.path_parameters}
        if fits >= 2 and case.path.endswith("/infer") and isinstance(case.body, dict):
            for tensor in case.body["inputs"]:
                number = 1 + len(tensor.get("data", [])) % 32
                tensor["shape"] = [number, 3, 32, 32]
                tensor["data"] = np.resize(tensor.get("data") or [0], number * 3 * 32 * 32).tolist()
        answer = case.call(base_url=server.address)
        assert answer.status_code < 500, f"{case.method} {case.path}: {answer.status_code}"
        statuses.setdefault(case.path, set()).add(answer.status_code)

    for operation in document.get_all_operations():
        every(hypothesis.given(operation.ok().as_strategy(), hypothesis.strategies.integers(0, 3))(answered))()
    inferred = set.union(*(found for path, found in statuses.items() if path.endswith("/infer")))
    assert {200, 400, 404} <= inferred, "the network answers, and the parser refuses"
    digest(server)


def test_images_made_to_need_memory_leave_it_bounded(server: Server) -> None:
    flat = Image.new("RGB", (4900, 5000))
    text = PngInfo()
    for number in range(50):
        text.add_text(f"key{number}", "x" * 1_000_000, zip=True)
    noted = io.BytesIO()
    Image.new("L", (9, 9)).save(noted, "PNG", pnginfo=text)
    crafted = [png(flat.convert("RGBA")), png(Image.new("I;16", flat.size)), noted.getvalue()]
    process = psutil.Process(server.process.pid)
    digest(server)
    before = process.memory_info().rss
    for content in crafted:
        files = {"image": ("a", content, "application/octet-stream")}
        answer = httpx.post(f"{server.address}/predict", files=files, timeout=HANG_S)
        assert answer.status_code in (200, 400, 503), answer.text
    assert process.memory_info().rss < before + 400_000_000
    digest(server)


GIVE = """async (kind) => {
    const canvas = new OffscreenCanvas(40, 40);
    canvas.getContext('2d').fillRect(0, 0, 20, 20);
    const data = new DataTransfer();
    data.items.add(new File([await canvas.convertToBlob()], 'given.png', {type: 'image/png'}));
    document.dispatchEvent(kind === 'paste'
        ? new ClipboardEvent(kind, {clipboardData: data}) : new DragEvent(kind, {dataTransfer: data}));
}"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt install chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_page_answers_files_and_pasted_and_dropped_images_and_asks_no_other_host(
    server: Server, tmp_path: Path, width: int
) -> None:
    (tmp_path / "sign.png").write_bytes(SIGN)
    (tmp_path / "text.png").write_bytes(b"no image")
    with browser() as chromium, chromium.open(server.address, width=width) as opened:
        page = opened.page
        page.set_input_files("#file", tmp_path / "sign.png")
        page.wait_for_selector("#answers li:nth-child(5)")
        best = page.inner_text("#answers li:first-child span")
        assert page.inner_text("#status").startswith(best.strip())
        drawn = "[...document.querySelectorAll('#answers img')].every((i) => i.naturalWidth && !i.style.visibility)"
        opened.until(lambda: page.evaluate(drawn), "the signs are drawn")
        assert findings(opened) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for kind in ("paste", "drop"):
            page.set_input_files("#photo", tmp_path / "text.png")
            opened.until(lambda: "not a JPEG" in page.inner_text("#status"), "the refusal is shown")
            assert page.locator("#answers li").count() == 0
            page.evaluate(GIVE, kind)
            page.wait_for_selector("#answers li:nth-child(5)")
        assert {httpx.URL(address).netloc for address in opened.requests} == {httpx.URL(server.address).netloc}
        assert opened.complaints == [] or all("415" in line for line in opened.complaints)
