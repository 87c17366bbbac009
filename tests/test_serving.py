"""Serving in this process: the answers that evaluation gives, one sentence for bad input, bounded queues and times."""

from __future__ import annotations

import asyncio
import io
import json
import re
import struct
import threading
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from PIL import Image

from lib.analysis.calibration import probabilities
from lib.data.images import read_image
from tests.served import made_release

pytest.importorskip("fastapi", reason="serving is not installed: make EXTRAS=serve .venv")

from lib.serving import app as routes
from lib.serving.app import create_app
from lib.serving.decoding import MAX_BYTES
from lib.serving.engine import MAX_BATCH, MAX_WAITING, Engine, Served
from lib.serving.metrics import Metrics
from tests.waiting import HANG_S

T = TypeVar("T")
Talk = Callable[[httpx.AsyncClient], Awaitable[T]]
Json = dict[str, Any]
JPEG, PNG, PPM = "image/jpeg", "image/png", "image/x-portable-pixmap"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served.load(made_release(tmp_path_factory.mktemp("run")), 1)


def talked(served: Served | Engine, talk: Talk[T]) -> T:
    """What a client gets of the application, in this process and without sockets."""

    async def run() -> T:
        app = create_app(Engine(served, Metrics()) if isinstance(served, Served) else served)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.routed.router.lifespan_context(app.routed),
            httpx.AsyncClient(transport=transport, base_url="http://sign.test", timeout=HANG_S) as client,
        ):
            return await talk(client)

    return asyncio.run(run())


def posted(served: Served, content: bytes, media_type: str = JPEG) -> httpx.Response:
    return talked(served, lambda client: client.post("/predict", content=content, headers={"Content-Type": media_type}))


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 50)) -> Image.Image:
    levels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    return Image.fromarray(levels).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def expected(served: Served, content: bytes, folder: Path) -> list[tuple[str, float]]:
    """The five best by the steps that evaluation takes."""
    path = folder / "image"
    path.write_bytes(content)
    logits = served.model(served.release.preprocessing.from_image(read_image(path).image))[0]
    shares = probabilities(logits, served.release.metadata.temperature)
    return [(served.release.labels[k], float(shares[k])) for k in np.argsort(-shares, kind="stable")[:5]]


def assert_answers(result: Json, wanted: list[tuple[str, float]]) -> None:
    assert [found["label"] for found in result["top"]] == [label for label, _ in wanted]
    assert [found["probability"] for found in result["top"]] == pytest.approx([share for _, share in wanted], abs=2e-6)


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(), "JPEG", exif=exif)


TAKEN = {
    "JPEG": (encoded(picture(), "JPEG"), JPEG),
    "PNG": (encoded(picture(), "PNG"), PNG),
    "PPM": (encoded(picture(), "PPM"), PPM),
    "turned by its EXIF data": (turned(), JPEG),
    "with alpha": (encoded(picture("RGBA"), "PNG"), PNG),
    "of a palette": (encoded(picture("P"), "PNG"), PNG),
    "of 16 bits": (encoded(sixteen_bits(), "PNG"), PNG),
    "of CMYK": (encoded(picture("CMYK"), "JPEG"), JPEG),
    "grey": (encoded(picture("L"), "JPEG"), JPEG),
    "declared with a parameter": (encoded(picture(), "JPEG"), "Image/JPEG; q=1"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_image_gets_the_answer_that_evaluation_gives(served: Served, tmp_path: Path, name: str) -> None:
    content, media_type = TAKEN[name]
    answer = posted(served, content, media_type)
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    assert_answers(result, expected(served, content, tmp_path))
    release = served.release
    assert answer.json()["model"] == {"name": "gtsrb", "version": release.version, "digest": release.digest}
    assert any("CMYK" in note for note in result["notes"]) == (name == "of CMYK")


def test_answer_of_which_the_network_is_too_unsure_is_no_sign(served: Served, tmp_path: Path) -> None:
    unsure = Served.load(made_release(tmp_path, least_confidence=0.9))
    found = [posted(each, TAKEN["PNG"][0], PNG).json()["results"][0] for each in (served, unsure)]
    assert [result["sign"] for result in found] == [True, False]
    assert found[0]["top"] == found[1]["top"], "what it would be"


def test_several_images_are_answered_in_their_order(served: Served, tmp_path: Path) -> None:
    contents = [encoded(picture().rotate(90 * turn), "PNG") for turn in range(3)]
    files = [("image", (f"{number}.png", content)) for number, content in enumerate(contents)]
    answer = talked(served, lambda client: client.post("/predict", files=files))
    assert len(answer.json()["results"]) == 3
    for result, content in zip(answer.json()["results"], contents, strict=True):
        assert_answers(result, expected(served, content, tmp_path))


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header claims a size; what follows could be unpacked for ever."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 99))]
    packed = [struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
              for kind, data in chunks]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


REFUSED = {
    "empty": (b"", JPEG, 400, "empty"),
    "truncated": (encoded(picture(), "JPEG")[:500], JPEG, 400, "damaged or truncated"),
    "only a header": (b"\x89PNG\r\n\x1a\n", PNG, 415, "not a JPEG, PNG or PPM"),
    "GIF": (encoded(picture("P"), "GIF"), JPEG, 415, "not a JPEG, PNG or PPM"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', PNG, 415, "not a JPEG, PNG or PPM"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), JPEG, 415, "HEIC of a phone"),
    "30,000 pixels a side": (png_header(30_000, 30_000), PNG, 413, "25,000,000 pixels"),
    "6,000 pixels a side": (png_header(6_000, 6_000), PNG, 413, "25,000,000 pixels"),
    "a PPM of 30,000 pixels a side": (b"P6 30000 30000 255\n" + bytes(99), PPM, 413, "25,000,000 pixels"),
    "20 MB": (bytes(20_000_000), JPEG, 413, "10,485,760 bytes"),
    "another format than declared": (encoded(picture(), "PNG"), JPEG, 415, "sent as image/jpeg, but it is a PNG"),
    "a type that is not taken": (encoded(picture(), "JPEG"), "text/plain", 415, "'text/plain' is not taken"),
    "no type": (encoded(picture(), "JPEG"), "", 415, "'' is not taken"),
    "levels without a white": (b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", -5, 1e9), PPM, 400, "grey levels"),
    "multipart without a boundary": (b"x", "multipart/form-data", 400, "multipart body cannot be read"),
    "multipart without a file": (b"--x--\r\n", "multipart/form-data; boundary=x", 400, "has no file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_image_is_refused_in_one_sentence(served: Served, name: str) -> None:
    content, media_type, status, words = REFUSED[name]
    answer = posted(served, content, media_type)
    assert answer.status_code == status and words in answer.json()["error"], answer.text
    assert list(answer.json()) == ["error"] and "\n" not in answer.json()["error"] and "Trace" not in answer.text


def test_bad_image_among_several_is_named(served: Served) -> None:
    files = [("image", ("a.png", encoded(picture(), "PNG"))), ("image", ("b.png", b"no image"))]
    answer = talked(served, lambda client: client.post("/predict", files=files))
    assert answer.status_code == 415 and answer.json()["error"].startswith("image 2 of 2: this is not")


def test_body_without_a_length_is_cut_at_the_limit(served: Served) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 20
            yield bytes(1 << 20)

    async def talk(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/predict", content=endless(), headers={"Content-Type": JPEG})

    assert talked(served, talk).status_code == 413
    assert sent <= 2 * MAX_BYTES + (2 << 20)  # as much again is dropped, so that the client can read the answer


class Gate:
    """A network that waits before it answers."""

    def __init__(self, served: Served) -> None:
        self.open, self.sizes = threading.Event(), list[int]()
        self._model = served.model

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.sizes.append(len(images))
        assert self.open.wait(HANG_S)
        return self._model(images)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_S):
        while not condition():
            await asyncio.sleep(0.01)


async def metric(client: httpx.AsyncClient, name: str) -> float:
    text = (await client.get("/metrics")).text
    return float(re.search(rf"^{name} (\S+)", text, re.MULTILINE)[1])  # type: ignore[index]


def test_first_image_is_computed_at_once_and_those_that_come_meanwhile_together(served: Served) -> None:
    gate = Gate(served)
    content, media_type = TAKEN["PNG"]

    async def talk(client: httpx.AsyncClient) -> str:
        async def post() -> None:
            (await client.post("/predict", content=content, headers={"Content-Type": media_type})).raise_for_status()

        async with asyncio.TaskGroup() as group:
            group.create_task(post())
            await until(lambda: gate.sizes == [1])
            for _ in range(40):
                group.create_task(post())
            while await metric(client, "gtsrb_decode_seconds_count") < 41:
                await asyncio.sleep(0.01)
            gate.open.set()
        return (await client.get("/metrics")).text

    text = talked(Served(served.release, gate), talk)  # type: ignore[arg-type]
    assert gate.sizes == [1, MAX_BATCH, 40 - MAX_BATCH]
    assert "gtsrb_batch_size_sum 41.0" in text and "gtsrb_batch_size_count 3.0" in text
    assert "gtsrb_waiting_images 0.0" in text


def test_thousand_clients_at_once_are_answered_or_told_to_come_again(served: Served) -> None:
    gate = Gate(served)
    content, media_type = TAKEN["PPM"]

    async def talk(client: httpx.AsyncClient) -> tuple[list[httpx.Response], httpx.Response, str]:
        async def post() -> httpx.Response:
            return await client.post("/predict", content=content, headers={"Content-Type": media_type})

        tasks = [asyncio.create_task(post()) for _ in range(1000)]
        await until(lambda: sum(task.done() for task in tasks) == 1000 - MAX_WAITING)
        live = await client.get("/v2/health/live")
        gate.open.set()
        answers = [await task for task in tasks]
        return answers, live, (await client.get("/metrics")).text

    answers, live, text = talked(Served(served.release, gate), talk)  # type: ignore[arg-type]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 1000 - MAX_WAITING and live.status_code == 200
    assert all(answer.headers["Retry-After"] == "1" and "try again" in answer.json()["error"] for answer in refused)
    assert {answer.status_code for answer in answers} == {200, 429}
    assert (
        f'gtsrb_refusals_total{{reason="full"}} {1000 - MAX_WAITING}.0' in text and "gtsrb_waiting_images 0.0" in text
    )


@pytest.mark.parametrize(("late", "status", "words"), [("body", 408, "did not arrive"), ("answer", 503, "later")])
def test_time_limits_end_a_request_and_free_its_place(
    served: Served, monkeypatch: pytest.MonkeyPatch, late: str, status: int, words: str
) -> None:
    gate = Gate(served)
    monkeypatch.setattr(routes, "LIMIT_S", 0.2)

    async def slow() -> AsyncIterator[bytes]:
        yield TAKEN["JPEG"][0][:100]
        await asyncio.sleep(HANG_S)

    async def talk(client: httpx.AsyncClient) -> httpx.Response:
        content = slow() if late == "body" else TAKEN["JPEG"][0]
        answer = await client.post("/predict", content=content, headers={"Content-Type": JPEG})
        gate.open.set()
        while await metric(client, "gtsrb_waiting_images") > 0:
            await asyncio.sleep(0.01)
        return answer

    answer = talked(Served(served.release, gate), talk)  # type: ignore[arg-type]
    assert answer.status_code == status and words in answer.json()["error"]


def test_fault_of_the_server_is_one_sentence_and_the_next_request_is_answered(served: Served) -> None:
    calls = 0

    def failing(images: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("secret detail")
        return served.model(images)

    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        headers = {"Content-Type": PNG}
        return [await client.post("/predict", content=TAKEN["PNG"][0], headers=headers) for _ in range(2)]

    broken, good = talked(Served(served.release, failing), talk)  # type: ignore[arg-type]
    assert broken.status_code == 500 and broken.json() == {"error": "the server failed; its log says why"}
    assert good.status_code == 200


def infer_request(shape: list[int], data: object, **more: Any) -> Json:
    return {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": shape, "data": data}], **more}


def test_tensors_get_the_logits_of_the_network(served: Served) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 32, 32), np.uint8)
    wanted = served.model(served.release.preprocessing.normalize(pixels))
    asked = infer_request([2, 3, 32, 32], pixels.tolist(), id="mine", outputs=[{"name": "logits"}])
    answer = talked(served, lambda client: client.post("/v2/models/gtsrb/infer", json=asked)).json()
    assert answer["id"] == "mine" and answer["model_version"] == served.release.version
    (logits,) = answer["outputs"]
    assert (logits["name"], logits["datatype"], logits["shape"]) == ("logits", "FP32", [2, 43])
    np.testing.assert_allclose(np.reshape(logits["data"], (2, 43)), wanted, rtol=1e-4, atol=1e-5)


ZEROS = [0] * 3 * 32 * 32
BAD_TENSORS = {
    "no JSON": (b"[", "not a request"),
    "no input": ({"inputs": []}, "not a request"),
    "too deep": (b"[" * 100_000, "not a request"),
    "another shape": (infer_request([1, 3, 33, 32], ZEROS), "shape"),
    "no image": (infer_request([0, 3, 32, 32], []), "shape"),
    "more than a batch": (infer_request([MAX_BATCH + 1, 3, 32, 32], ZEROS), f"1 to {MAX_BATCH}"),
    "fewer values": (infer_request([2, 3, 32, 32], ZEROS), "3,072 values"),
    "values above 255": (infer_request([1, 3, 32, 32], [256, *ZEROS[1:]]), "0 to 255"),
    "values of text": (infer_request([1, 3, 32, 32], ["x"]), "0 to 255"),
    "one long text among many": (infer_request([1, 3, 32, 32], ["x" * 100_000, *[""] * 100_000]), "0 to 255"),
    "unknown output": (infer_request([1, 3, 32, 32], ZEROS, outputs=[{"name": "boxes"}]), "'boxes'"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_bad_tensor_is_refused_in_one_sentence(served: Served, name: str) -> None:
    content, words = BAD_TENSORS[name]
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    answer = talked(served, lambda client: client.post("/v2/models/gtsrb/infer", content=body))
    assert answer.status_code == 400 and words in answer.json()["error"], answer.text


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "x", "99"])
def test_length_of_a_header_that_cannot_be_is_refused(served: Served, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length}
    answer = talked(served, lambda client: client.post("/v2/models/gtsrb/infer", content=b"{}", headers=headers))
    assert answer.status_code == 400 and "give the number of bytes" in answer.json()["error"]
    assert len(answer.json()["error"]) < 200


def test_tensors_larger_than_any_batch_are_refused_before_they_are_parsed(served: Served) -> None:
    largest = infer_request([MAX_BATCH, 3, 32, 32], np.full((MAX_BATCH, 3, 32, 32), 255).tolist())
    larger = infer_request([1, 3, 32, 32], [255] * 300_000)

    async def talk(client: httpx.AsyncClient) -> list[int]:
        bodies = [json.dumps(largest, indent=0), json.dumps(larger)]
        return [(await client.post("/v2/models/gtsrb/infer", content=body)).status_code for body in bodies]

    assert talked(served, talk) == [200, 413]


def test_others_are_answered_while_a_form_is_parsed(served: Served) -> None:
    looks_like_boundaries = b"\r\n--xx" * 400_000  # take long
    form = (
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n' + looks_like_boundaries + b"\r\n--x--"
    )

    async def talk(client: httpx.AsyncClient) -> tuple[int, int]:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        parsed = asyncio.create_task(client.post("/predict", content=form, headers=headers))
        others = 0
        while not parsed.done():
            await asyncio.sleep(0)
            others += (await client.get("/v2/health/live")).status_code == 200
        return parsed.result().status_code, others

    status, others = talked(served, talk)
    assert status == 415 and others > 30


def test_request_that_a_new_release_overtakes_is_judged_by_the_new_one(served: Served) -> None:
    pixels = {**vars(served.release.preprocessing), "image_size": 48}
    metadata = replace(served.release.metadata, preprocessing=type(served.release.preprocessing)(**pixels))
    other = Served(replace(served.release, metadata=metadata), lambda images: np.zeros((len(images), 43), np.float32))  # type: ignore[arg-type]
    engine = Engine(served, Metrics())

    async def overtaken() -> AsyncIterator[bytes]:
        engine.serve(other)
        yield json.dumps(infer_request([1, 3, 32, 32], ZEROS)).encode()

    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        asked = [infer_request([1, 3, size, size], [0] * 3 * size * size) for size in (32, 48)]
        answers = [await client.post("/v2/models/gtsrb/infer", json=asked[0])]
        answers.append(await client.post("/v2/models/gtsrb/infer", content=overtaken()))
        return [*answers, await client.post("/v2/models/gtsrb/infer", json=asked[1])]

    before, between, after = talked(engine, talk)
    assert (before.status_code, between.status_code, after.status_code) == (200, 400, 200)
    assert "48, 48" in between.json()["error"]


def test_unknown_names_are_errors_of_the_protocol(served: Served) -> None:
    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        version = served.release.version
        paths = [
            "models/gtsrb",
            f"models/gtsrb/versions/{version}/ready",
            "models/resnet",
            "models/gtsrb/versions/7",
            "x",
        ]
        return [await client.get(f"/v2/{path}") for path in paths]

    answers = talked(served, talk)
    assert [answer.status_code for answer in answers] == [200, 200, 404, 404, 404]
    assert all(list(answer.json()) == ["error"] for answer in answers[2:])


def test_metrics_name_the_release_and_openapi_every_way_to_ask(served: Served) -> None:
    async def talk(client: httpx.AsyncClient) -> tuple[str, Json]:
        return (await client.get("/metrics")).text, (await client.get("/openapi.json")).json()

    text, document = talked(served, talk)
    release = served.release
    assert (
        f'gtsrb_model_info{{digest="{release.digest}",name="{release.name}",version="{release.version}"}} 1.0' in text
    )
    predict = document["paths"]["/predict"]["post"]
    assert {JPEG, PNG, PPM, "multipart/form-data"} == set(predict["requestBody"]["content"])
    assert {"200", "400", "408", "413", "415", "429", "503"} <= set(predict["responses"])
    assert {"/v2", "/v2/health/live", "/v2/models/{name}/infer", "/metrics"} <= set(document["paths"])
