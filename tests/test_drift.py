"""Drift between a server's answers and those to the validation images, from the statistics to the command line."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from lib.analysis.drift import find_drift, is_drift
from lib.cli import main
from lib.records.network_outputs import Outputs
from lib.records.schema import RELEASE, Drift, Promotion, record_path, write_record
from lib.release import Release, verify
from tests.conftest import Refused
from tests.made_records import made_released, made_scenario
from tests.made_release import made_run, release_of
from tests.test_release import edit, rehash

CLASSES = [f"class {number}" for number in range(10)]


def made_outputs(seed: int, tracks: int = 60, often: int = 0, sure: float = 6.0, frames: int = 30) -> Outputs:
    """Frames of a track are alike: as sure, and as right. Args: often: tracks of class 0."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.where(np.arange(tracks) < often, 0, rng.integers(0, 10, tracks)), frames)
    margin = np.repeat(rng.normal(sure, 2.0, tracks), frames) + rng.normal(0, 0.3, tracks * frames)
    logits = rng.normal(0, 0.5, (len(labels), 10)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += margin
    return Outputs.of(logits, np.repeat(np.arange(tracks), frames), labels)


def found(window: Outputs) -> Drift:
    return find_drift(made_outputs(0), window, CLASSES)


def test_a_window_of_the_same_kind_is_no_drift_and_an_unsure_or_a_different_mix_is() -> None:
    alarms = [is_drift(found(made_outputs(seed, tracks=10))) for seed in range(1, 21)]
    assert sum(alarms) <= 4, "5 % of false alarms are 1 of 20; more than 4 are a chance of 0.3 %"
    unsure, mix = found(made_outputs(1, sure=3.0)), found(made_outputs(1, often=30))
    assert unsure.p_answers <= 0.01 < unsure.p_mix and is_drift(unsure)
    assert mix.p_mix <= 0.01 and is_drift(mix) and mix.shares[0].label == "class 0"


def test_many_images_of_one_unusual_sign_are_one_sequence_and_prove_nothing() -> None:
    one = made_outputs(3, tracks=1, sure=1.0, frames=600)
    assert not is_drift(found(one)) and found(one).interval is None
    apart = replace(one, sequences=np.arange(600))
    assert is_drift(found(apart)), "as 600 signs they would prove a lot"


def test_accuracy_without_labels_follows_the_confidence() -> None:
    same, worse = found(made_outputs(0)), made_outputs(5, sure=2.0)
    assert same.estimated_top1 == pytest.approx(same.top1, abs=0.01)
    estimate = found(worse)
    assert estimate.interval is not None and estimate.interval[0] <= worse.right.mean() <= estimate.interval[1]
    assert estimate.interval[1] < same.top1


def test_outputs_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    outputs = replace(made_outputs(0), digest="ab" * 32)
    (tmp_path / "window").write_bytes(outputs.to_bytes())
    back = Outputs.load(tmp_path / "window")
    assert back.digest == outputs.digest and np.array_equal(back.right, outputs.right)
    assert np.array_equal(back.log_probabilities, outputs.log_probabilities)


# --- a release and its server


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release_of(made_run(tmp_path_factory.mktemp("run"), ("onnxruntime",)))


def answered(release: Path, requests: list[tuple[int, str]], size: int = 100) -> httpx.Response:
    """`GET /window` after requests with so many images, and with the name of a sequence."""

    pytest.importorskip("fastapi", reason="serving is not installed: make EXTRAS=serve .venv")
    from lib.serving.app import create_app
    from lib.serving.engine import Engine, Served
    from lib.serving.metrics import Metrics

    async def talk() -> httpx.Response:
        app = create_app(Engine(Served.load(release, 1), Metrics()), size)
        transport = httpx.ASGITransport(app)
        async with (
            app.routed.router.lifespan_context(app.routed),
            httpx.AsyncClient(transport=transport, base_url="http://sign.test") as client,
        ):
            image = (release / "samples/00.png").read_bytes()
            for count, name in requests:
                headers = {"X-Sequence": name} if name else {}
                files = [("image", ("a.png", image, "image/png"))] * count
                one = {"content": image, "headers": {**headers, "Content-Type": "image/png"}}
                many = {"files": files, "headers": headers}
                (await client.post("/predict", **(one if count == 1 else many))).raise_for_status()
            return await client.get("/window")

    return asyncio.run(talk())


def test_server_keeps_no_window_unless_it_is_asked_to(release: Path) -> None:
    answer = answered(release, [(1, "")], size=0)
    assert answer.status_code == 404 and "--window" in answer.json()["error"]


def test_window_has_the_last_answers_by_sequence_and_the_command_compares_them(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    window = tmp_path / "window"
    window.write_bytes(answered(release, [(1, ""), (31, ""), (2, "car 7"), (1, "car 7")], 34).content)
    outputs = Outputs.load(window)
    _, sizes = np.unique(outputs.sequences, return_counts=True)
    assert sorted(sizes) == [2, 3, 29], "the oldest is gone; blocks of 30 without a name; a name is one sequence"
    assert main(["drift", str(window), str(release)]) in (0, 3)
    first, second, *shares = capsys.readouterr().out.splitlines()
    assert first.startswith(("drift (p ", "no drift seen (p ")) and "34 answers" in first and "3 sequences" in second
    assert len(shares) == 5


def test_window_that_cannot_be_compared_is_refused_in_one_line(release: Path, tmp_path: Path, refused: Refused) -> None:
    window, digest = tmp_path / "window", Release.load(release).digest
    whole = replace(made_outputs(0), digest=digest).to_bytes()
    none = replace(made_outputs(0, tracks=0), digest=digest).to_bytes()
    bad: dict[str, bytes] = {
        "cut off": whole[:-10],
        "is empty": none,
        "cannot be read": b"x",
        "is of release abababababab": replace(made_outputs(0), digest="ab" * 32).to_bytes(),
        "has 10 classes, and the release 43": whole,
    }
    assert "missing" in refused("drift", window, release)
    for words, content in bad.items():
        window.write_bytes(content)
        assert words in refused("drift", window, release)


def test_earlier_release_without_outputs_still_verifies_and_says_why_it_has_no_drift(
    release: Path, tmp_path: Path, refused: Refused
) -> None:
    earlier = Path(shutil.copytree(release, tmp_path / "earlier"))
    (earlier / "validation.safetensors").unlink()
    edit(earlier / "release.json", lambda manifest: manifest.update(schema_version=1))
    rehash(earlier)
    assert verify(earlier)
    assert "earlier version of this project made it" in refused("drift", tmp_path / "any", earlier)


# --- which release is served


def link_of(tmp_path: Path) -> tuple[Path, Callable[[object], int]]:
    link = tmp_path / "current"
    return link, lambda release: main(["promote", "--to", str(release), "--current", str(link)])


def test_promote_turns_the_link_there_and_back(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link, promote = link_of(tmp_path)
    link.symlink_to(link)  # a broken one is replaced
    other = release_of(made_run(tmp_path / "other", ("onnxruntime",), seed=1))
    assert promote(release) == 0 and link.resolve() == release and "back to" not in capsys.readouterr().out
    assert promote(other.parent) == 0 and link.resolve() == other
    assert capsys.readouterr().out.strip().endswith(f"promote --to {release}")
    assert promote(release) == 0 and link.resolve() == release
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_release_that_does_not_verify_is_not_promoted(
    release: Path, tmp_path: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    link, promote = link_of(tmp_path)
    assert promote(release) == 0
    broken = Path(shutil.copytree(release, tmp_path / "broken"))
    edit(broken / "config.json", lambda config: config.update(image_size=1))
    assert "config.json is not the file" in refused("promote", "--to", broken, "--current", link)
    rehash(broken)
    assert promote(broken) == 1 and "derived: config.json" in capsys.readouterr().err
    assert link.resolve() == release
    assert "is not a link" in refused("promote", "--to", release, "--current", tmp_path / "broken")


def test_a_challenger_that_lost_is_not_promoted_by_whatever_path_it_is_named(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link, promote = link_of(tmp_path)
    run = tmp_path / "run"
    shutil.copytree(release, run / "release")
    lost = Promotion("the old one", "ab" * 32, 900, 40, [], [], "keep", made_scenario("single_stream", 1.0))
    record = made_released(digest=Release.load(release).digest, promotion=lost)
    write_record(record, record_path(run, RELEASE))
    for path in (run, run / "release"):
        assert promote(path) == 1 and "05 decided to keep the old one" in capsys.readouterr().err
    write_record(replace(record, digest="cd" * 32), record_path(run, RELEASE))
    assert promote(run) == 0 and link.resolve() == run / "release", "another release was decided on"
