"""The page in one file: it answers as the network does, in a browser, from a disk, and asks for nothing."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lib.analysis.calibration import probabilities
from lib.backends._onnx import export_onnx
from lib.cli import main
from lib.data import Split
from lib.data.images import as_image, read_image, resize_image
from lib.data.sets.synthetic import generate
from lib.errors import UserError
from lib.html.index import write_index
from lib.model import build_network, load_checkpoint
from lib.release import Release, demo, verify, write_release, writer
from lib.release.predicting import Model
from lib.release.writer import Written, plan_release
from lib.report.release import files
from lib.signs import NUM_CLASSES
from tests.browser import CHROMIUM, Browser, browser, findings
from tests.made_release import made_run, release_of, released_data
from tests.untrained import save_untrained, untrained

TEMPERATURE, LEAST = 0.8, 0.5
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt install chromium")
ANSWERS = """async (files) => {
    const found = [];
    for (const file of files) found.push(await answer(new Blob([bytes(file)])));
    return found;
}"""
PIXELS = """async (file) => {
    const picture = await createImageBitmap(new Blob([bytes(file)]), { colorSpaceConversion: "none" });
    return Array.from(resized(pixelsOf(picture, 0, 0, picture.width, picture.height), 32));
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with browser("--host-resolver-rules=MAP * ~NOTFOUND", *camera) as started:
        yield started


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release_of(made_run(tmp_path_factory.mktemp("run"), ("onnxruntime",)))


@pytest.fixture(scope="module")
def drawn() -> Split:
    """Drawn signs, 32 x 32, with the sizes that crops from a road have."""
    return generate(500)


def trained(architecture: str, drawn: Split) -> nn.Module:
    """A network after a few steps, so that it gives many different answers and its batch norms do something."""
    torch.manual_seed(0)
    network = build_network(architecture, NUM_CLASSES).train()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    images = torch.from_numpy(untrained(architecture).preprocessing.normalize(drawn.images))
    for rows in torch.randperm(len(images) * 8).reshape(-1, 50) % len(images):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images[rows]), torch.from_numpy(drawn.labels)[rows]).backward()
        optimizer.step()
    return network.eval()


def written(folder: Path, architecture: str, network: nn.Module, release: Path) -> tuple[Path, Path]:
    """The page of a network, and the ONNX file that it was made of."""
    checkpoint = save_untrained(folder, architecture, network, temperature=TEMPERATURE, least_confidence=LEAST)
    export_onnx(checkpoint, folder / "model.onnx")
    page, _ = demo.demo_of(folder / "model.onnx", Release.load(release).manifest, load_checkpoint(checkpoint).metadata)
    (folder / "demo.html").write_text(page, encoding="utf-8")
    return folder / "demo.html", folder / "model.onnx"


def network_in(page: str) -> dict[str, Any]:
    found = re.search(r'id="network">(.*?)</script>', page)
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


def dequantised(page: Path) -> Path:
    """The network that a page holds, as an ONNX file with the weights that its levels stand for."""
    from onnx import TensorProto, helper, numpy_helper, save

    network, nodes, weights = network_in(page.read_text()), [], []
    for node in network["nodes"]:
        attributes = {name: node[name] for name in ("strides", "pads", "kernel_shape") if name in node}
        attributes |= {"transB": 1} if node["operation"] == "Gemm" else {}
        inputs, name = node["inputs"], node["output"]
        if "levels" in node:
            levels, scales, bias = (
                np.frombuffer(base64.b64decode(node[part]), kind)
                for part, kind in (("levels", np.int8), ("scales", np.float32), ("bias", np.float32))
            )
            kernel = np.multiply(levels.reshape(len(scales), -1), scales[:, None]).reshape(node["shape"])
            weights += [numpy_helper.from_array(kernel, f"{name} w"), numpy_helper.from_array(bias, f"{name} b")]
            inputs = [*inputs, f"{name} w", f"{name} b"]
        nodes.append(helper.make_node(node["operation"], inputs, [name], **attributes))
    size = network["pixels"]["size"]
    images = helper.make_tensor_value_info(network["input"], TensorProto.FLOAT, ["n", 3, size, size])
    logits = helper.make_tensor_value_info(network["output"], TensorProto.FLOAT, ["n", len(network["labels"])])
    graph = helper.make_graph(nodes, "demo", [images], [logits], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    save(model, page.with_name("dequantised.onnx"))
    return page.with_name("dequantised.onnx")


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def seen(content: bytes, folder: Path) -> Image.Image:
    """What the project's own reader makes of a file."""
    (folder / "image").write_bytes(content)
    return read_image(folder / "image").image


def photos(drawn: Split) -> list[Image.Image]:
    """Of other sizes than 32 x 32, and of other shapes than squares."""
    return [
        as_image(image).resize((width + index % 7, height), 3)
        for index, (image, (height, width)) in enumerate(zip(drawn.images, drawn.sizes.tolist(), strict=True))
    ]


# --- it computes what it should ---------------------------------------------------------------------------------------


@in_browser
@pytest.mark.parametrize(
    ("architecture", "num_images"), [pytest.param("signnet_tiny", 150, marks=pytest.mark.slow), ("learning_path", 50)]
)
def test_page_answers_as_its_network_with_weights_of_8_bits(
    chromium: Browser, release: Path, drawn: Split, tmp_path: Path, architecture: str, num_images: int
) -> None:
    page, model = written(tmp_path, architecture, trained(architecture, drawn), release)
    files = [encoded(image) for image in photos(drawn)[:num_images]]
    assert len({Image.open(io.BytesIO(file)).size for file in files}) > 40
    batch = np.concatenate([untrained(architecture).preprocessing.from_image(seen(file, tmp_path)) for file in files])
    expected = probabilities(Model(dequantised(page), 1)(batch), TEMPERATURE)
    labels = network_in(page.read_text())["labels"]
    assert len(set(expected.argmax(axis=1))) > 5 and expected.max() > LEAST > expected.max(axis=1).min()
    with chromium.open(page) as opened:
        found = opened.page.evaluate(ANSWERS, [text(file) for file in files])
        assert opened.requests == [page.as_uri()] and opened.complaints == []
    for answer, shares in zip(found, expected, strict=True):
        assert answer["top"][0]["label"] == labels[shares.argmax()]
        assert answer["sign"] == (shares.max() >= LEAST)
        by_label = dict(zip(labels, shares, strict=True))
        assert sorted(by_label.values())[-5:] == pytest.approx(
            [by_label[each["label"]] for each in answer["top"]][::-1]
        )
        assert all(abs(each["probability"] - by_label[each["label"]]) < 1e-3 for each in answer["top"])
    agreement = (Model(model, 1)(batch).argmax(axis=1) == expected.argmax(axis=1)).mean()
    assert agreement > 0.95, "8 bits change few answers"


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 4), np.uint8)).convert(mode)


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(noise(3, 2).resize((96, 64), 0), "JPEG", exif=exif, quality=95, subsampling=0)


SIZES = [(1, 1), (32, 32), (33, 31), (20, 90), (7, 300), (90, 20), (31, 64), (50, 64), (47, 64), (640, 480), (400, 30)]
FILES = {
    **{f"{width} x {height}": (encoded(noise(width, height)), 0) for width, height in SIZES},
    **{mode: (encoded(noise(40, 50, mode)), 3) for mode in ("RGBA", "LA", "L", "P")},
    "16 bits": (encoded(Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40)), 3),
    **{f"turned {number}": (turned(number), 3) for number in range(1, 9)},  # decoders of JPEG differ a little
}


@in_browser
def test_page_sees_files_as_the_project_does_and_resizes_to_the_pixel(
    chromium: Browser, release: Path, tmp_path: Path
) -> None:
    with chromium.open(release / "demo.html") as opened:
        for name, (content, tolerance) in FILES.items():
            found = np.array(opened.page.evaluate(PIXELS, text(content))).reshape(32, 32, 4)[..., :3]
            expected = resize_image(seen(content, tmp_path)).transpose(1, 2, 0)
            assert np.abs(found - expected.astype(int)).max() <= tolerance, name


# --- people use it ----------------------------------------------------------------------------------------------------


@in_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_page_answers_with_artwork_and_time_at_any_width_in_the_dark_and_by_keyboard(
    chromium: Browser, release: Path, drawn: Split, tmp_path: Path, width: int, dark: bool
) -> None:
    photos(drawn)[0].save(tmp_path / "sign.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "sign.png").read_bytes()[:60])
    with chromium.open(release / "demo.html", width=width, dark=dark) as opened:
        page = opened.page
        for field in ("file", "photo"):
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.id") == field
            outlined = "getComputedStyle(document.activeElement.parentElement).outlineStyle"
            assert page.evaluate(outlined) == "solid", "a person sees where the keyboard is"
        page.set_input_files("#file", tmp_path / "sign.png")
        page.wait_for_selector("#answers li:nth-child(5)")
        best = page.inner_text("#answers li:first-child span").strip()
        assert re.fullmatch(re.escape(best) + r"; \d+\.\d ms", page.inner_text("#status"))
        pictures = "[...document.querySelectorAll('#answers img, #given')]"
        opened.until(lambda: page.evaluate(f"{pictures}.every((i) => i.naturalWidth > 0)"), "all pictures are drawn")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert findings(opened) == []
        assert page.locator("input[capture]").count() == 1 and page.locator("button").count() == 0
        page.evaluate("network.least_confidence = 1")
        page.set_input_files("#file", tmp_path / "sign.png")
        opened.until(lambda: page.inner_text("#status").startswith("no sign; "), "the answer is rejected")
        assert page.locator("#answers li").count() == 5
        page.set_input_files("#photo", tmp_path / "broken.png")
        opened.until(lambda: "cannot read that file" in page.inner_text("#status"), "the refusal is shown")
        assert page.locator("#answers li").count() == 0 and not page.is_visible("#given")
        assert opened.requests == [(release / "demo.html").as_uri()] and opened.complaints == []


@in_browser
def test_page_offers_the_live_camera_where_it_comes_over_https(chromium: Browser, release: Path) -> None:
    address, html = "https://demo.test/", (release / "demo.html").read_text()
    with chromium.open("about:blank") as opened:
        page = opened.page
        page.route(address, lambda route: route.fulfill(body=html, content_type="text/html"))
        page.goto(address)
        page.click("text=Use the camera")
        page.wait_for_selector("#answers li:nth-child(5)")
        page.set_input_files("#file", release / "samples/00.png")
        opened.until(lambda: page.locator("video").count() == 0, "another image ends the camera")
        assert opened.requests == [address] and opened.complaints == []


@in_browser
def test_page_runs_nothing_that_was_put_into_it_and_connects_to_nothing(
    chromium: Browser, release: Path, tmp_path: Path
) -> None:
    (tmp_path / "demo.html").write_text(
        (release / "demo.html").read_text() + "<script>document.title = 'mine'</script>"
    )
    with chromium.open(tmp_path / "demo.html") as opened:
        assert opened.page.title() == "Which traffic sign is this?"
        assert opened.page.evaluate("fetch('https://demo.test/').catch(() => 'stopped')") == "stopped"
        assert len([line for line in opened.complaints if "Content Security Policy" in line]) >= 2


# --- it belongs to a release ------------------------------------------------------------------------------------------


def test_release_has_the_page_and_the_command_makes_the_same(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my.html"
    assert main(["demo", str(release), str(out)]) == 0 and capsys.readouterr().out.strip() == str(out)
    assert out.read_bytes() == (release / "demo.html").read_bytes() and out.stat().st_size < demo.MAX_BYTES
    assert "demo: demo.html has the network of onnx/model.onnx, and follows from it" in verify(release)[1]


def test_index_and_page_of_the_release_link_the_page(release: Path) -> None:
    shown = files(Written(Release.load(release), [])).to_html()
    assert 'href="../release/demo.html"' in shown and "weights of 8 bits" in shown
    assert '<a href="release/demo.html">try the network</a>' in write_index(release.parent).read_text()


def test_network_that_is_too_large_for_a_page_is_released_without_one_and_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_BYTES", 100_000)
    made = write_release(plan_release(made_run(tmp_path, ("onnxruntime",))), released_data())
    assert made.release is not None and verify(made.release.path)[1][-1] == "demo: there is no demo.html"
    assert made.notes[-1] == (
        "there is no demo.html: it would have 0.5 MB, more than 0.1; `python -m lib demo` makes it"
    )


def test_network_with_an_operation_that_the_page_does_not_compute_is_refused(release: Path, tmp_path: Path) -> None:
    import onnx

    found = Release.load(release)
    model = onnx.load(found.model())
    model.graph.node[1].op_type = "Sigmoid"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(UserError, match=r"does not compute .* \(Sigmoid\) of this network"):
        demo.demo_of(tmp_path / "model.onnx", found.manifest, found.metadata)
