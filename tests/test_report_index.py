"""The index of a run and the summary in the terminal: also of broken and partial run folders."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from lib.analysis.statistics import Ratio
from lib.html.charts import NAME, VALUE, WIDTH, speed_chart
from lib.html.index import write_index
from lib.records.run import Job, load_run, write_jobs
from lib.records.schema import OLDEST_VERSION, SCHEMA_VERSION, Speed, record_path, write_record
from lib.report.environment import machine_facts
from lib.report.table import SMOKE_TEXT
from lib.series.summary import summary_lines
from tests.made_notebooks import text_of
from tests.made_records import (
    SPEEDUPS,
    listed_job,
    made_benchmark,
    made_environment,
    made_failed_benchmark,
    made_train,
    write_made_run,
)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A whole run in which one backend is unavailable and one failed."""
    write_made_run(tmp_path)
    failed = made_failed_benchmark("broken", "failed", "logits differ")
    write_record(failed, record_path(tmp_path, "03_benchmark", "broken"))
    jobs = [listed_job(tmp_path, "01_explore"), listed_job(tmp_path, "02_train")]
    jobs += [listed_job(tmp_path, "03_benchmark", name) for name in SPEEDUPS]
    jobs.append(Job("03_benchmark", "no-wheel", "unavailable", reason="no aarch64 wheel"))
    jobs.append(listed_job(tmp_path, "03_benchmark", "broken", "failed", reason="cell 5 of 9: logits differ"))
    write_jobs(tmp_path, [*jobs, listed_job(tmp_path, "04_compare")])
    return tmp_path


def index_of(run_dir: Path) -> BeautifulSoup:
    path = write_index(run_dir)
    assert path == run_dir / "index.html"
    return BeautifulSoup(path.read_text(), "html.parser")


def facts_of(run_dir: Path) -> dict[str, str]:
    facts = index_of(run_dir).select(".prov dl > div")
    return {fact.dt.get_text(): fact.dd.get_text() for fact in facts if fact.dt and fact.dd}


def test_index_shows_every_job_with_status_and_links_that_exist(run_dir: Path) -> None:
    soup = index_of(run_dir)
    rows = [row.get_text(" ", strip=True) for row in soup.select("table")[0].select("tbody tr")]
    assert len(rows) == 10
    assert any("torch-blas ✓ ok" in row and "offline 2." in row for row in rows)
    assert any("no-wheel ○ unavailable" in row and "no aarch64 wheel" in row for row in rows)
    assert any("broken ✗ failed" in row and "cell 5 of 9" in row for row in rows)
    links = [str(link["href"]) for link in soup.select("main a")]
    assert len(links) == 9 * 4, "name, page, notebook and record of each that ran"
    assert all((run_dir / link).is_file() for link in links)


def test_index_answers_first_and_has_the_accuracy_and_the_best_backends(run_dir: Path) -> None:
    soup = index_of(run_dir)
    assert "onnxruntime-int8, 1.94x faster" in text_of(soup, ".answer")
    assert text_of(soup, ".caveats") == "03_benchmark.broken failed: cell 5 of 9: logits differ"
    text = " ".join(soup.get_text(" ").split())
    assert "98.71 % top-1 on test [98.11, 99.21] %" in text
    assert SMOKE_TEXT not in text
    assert soup.title is not None and "24 Nov 2026, 14:50 UTC" in soup.title.get_text()


def test_index_says_behind_one_line_what_was_measured(run_dir: Path) -> None:
    line = text_of(index_of(run_dir), ".prov summary")
    assert line.startswith("8 of 10 notebook runs done in 1 min 51 s · synthetic, 10,600 images") and "Neo" in line
    facts = facts_of(run_dir)
    assert facts["Data"] == "synthetic, 10,600 images, abababababab" and facts["Profile"] == "fast"
    assert facts["Network"].startswith("resnet, recipe resnet-small") and facts["Checkpoint"] == "cdcdcdcdcdcd"
    other = made_benchmark("broken", environment=made_environment(git_commit="12" * 20))
    write_record(other, record_path(run_dir, "03_benchmark", "broken"))
    assert facts_of(run_dir)["Commit"] == "89f3f58c0b1d with changes; 121212121212"


def test_machine_has_what_any_of_its_records_knows_and_all_versions() -> None:
    facts = machine_facts(
        [
            made_environment(blas=None, versions={"numpy": "2.4.6"}),
            made_environment(blas="openblas", versions={"numpy": "2.4.6", "torch": "2.14.1"}),
            made_environment(versions={"numpy": "2.3.0", "ncnn": "1.0"}),
        ]
    )
    assert facts["BLAS"] == "openblas"
    assert facts["versions"] == "numpy 2.4.6 and 2.3.0, torch 2.14.1, ncnn 1.0"


@pytest.mark.parametrize(
    ("later", "caveat"),
    [
        (made_benchmark("torch-blas", started="2026-11-24T18:00:00+00:00"), "is older than 1 record; run python"),
        (made_benchmark("ncnn"), "is older than 1 record; run"),
        (made_failed_benchmark("torch-blas", "failed"), "compares torch-blas, not measured here; run"),
    ],
)
def test_answer_of_04_is_not_repeated_once_the_records_are_others(tmp_path: Path, later: Any, caveat: str) -> None:
    write_made_run(tmp_path)
    answer = "1.94x faster [1.92, 1.96]"
    assert answer in index_of(tmp_path).get_text() and not load_run(tmp_path).stale_compare
    write_record(later, record_path(tmp_path, "03_benchmark", later.backend))
    soup = index_of(tmp_path)
    assert answer not in soup.get_text() and f"04_compare {caveat}" in text_of(soup, ".caveats")
    assert "Single stream: onnxruntime-int8" in text_of(soup, ".answer")
    assert "7 run faster, 1 slower" not in summary_lines(tmp_path)[1]


def test_index_draws_speeds_with_intervals_and_says_them_in_words(run_dir: Path) -> None:
    charts = index_of(run_dir).select("svg[role=img]")
    words = [str(chart["aria-label"]) for chart in charts]
    titles = ["Single stream", "Offline", "Top-1 on the validation images", "Training images by class"]
    assert [re.split("[,:]", text)[0] for text in words] == titles
    assert re.search(r"onnxruntime-int8 1\.9\d times faster.*torch-blas 2\.\d\d times slower", words[1]), words[1]
    assert "torch-onednn 1" not in words[1], "the reference is the line at 1"
    assert len(charts[1].select("circle")) == len(SPEEDUPS) - 1
    assert "from 55.9 % after epoch 1 to 97.8 %" in words[2] and "after epoch 12" in words[2]
    assert len(charts[3].select("rect")) == 43


@pytest.mark.parametrize("ratio", [Ratio(1e-9, 0.0, 1e9), Ratio(2.0, 1.9, 2.1), Ratio(900.0, 800.0, 1e4)])
def test_charts_stay_within_their_frame_whatever_was_measured(ratio: Ratio) -> None:
    soup, _ = drawn(Speed("one", ratio, "faster"), Speed("two", Ratio(1.0, 0.99, 1.01), "slower"))
    places = [float(circle["cx"]) for circle in soup.select("circle")]  # type: ignore[arg-type]
    ticks = [float(tick["x"]) for tick in soup.select(".c-tick[text-anchor=middle]")]  # type: ignore[arg-type]
    assert places and all(NAME < place < WIDTH - VALUE for place in [*places, *ticks])
    assert 1 <= len(ticks) <= 4 and soup.select(".c-one")


def drawn(*speeds: Speed) -> tuple[BeautifulSoup, list[str]]:
    """A chart, and the names in it from the top."""
    soup = BeautifulSoup(speed_chart("speed", speeds), "html.parser")
    return soup, [name.get_text() for name in soup.select(".c-name")]


def test_chart_shows_the_fastest_and_says_all_in_words() -> None:
    soup, names = drawn(*(Speed(f"b{number}", Ratio(number, number, number), "faster") for number in range(2, 9)))
    assert names == ["b8", "b7", "b6", "b5", "b4"]
    assert text_of(soup, "figcaption") == "speed; 5 of 7" and "b2 2.00 times faster" in str(soup.svg)


def test_what_is_not_ranked_is_hollow_and_follows_what_is() -> None:
    slow = Speed("slow host", Ratio(4.0, 3.9, 4.1), "faster", ranked=False)
    soup, names = drawn(slow, Speed("best", Ratio(2, 2, 2), "faster"))
    assert names == ["best", "slow host"]
    assert [circle["class"] for circle in soup.select("circle")] == [["c-up"], ["c-up", "c-open"]]
    assert "hollow: not ranked" in text_of(soup, "figcaption")
    assert "slow host 4.00 times faster (not ranked)" in str(soup)


def test_index_links_to_the_hosted_run_and_carries_its_note(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert index_of(run_dir).select(".bar a") == []
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
    monkeypatch.setenv("GITHUB_REPOSITORY", "me/signs")
    monkeypatch.setenv("GITHUB_RUN_ID", "4711")
    monkeypatch.setenv("RUN_NOTE", "The download host was down.")
    soup = index_of(run_dir)
    links = ["https://github.com/me/signs/actions/runs/4711", "https://github.com/me/signs"]
    assert [link["href"] for link in soup.select(".bar a")] == links
    assert "The download host was down." in [item.get_text() for item in soup.select(".caveats li")]
    monkeypatch.delenv("RUN_NOTE")
    series = json.loads((run_dir / "series.json").read_text())
    (run_dir / "series.json").write_text(json.dumps({**series, "note": "synthetic images instead"}))
    assert "synthetic images instead" in text_of(index_of(run_dir), ".caveats")


def test_index_of_a_smoke_run_says_so(tmp_path: Path) -> None:
    write_made_run(tmp_path, profile="smoke")
    assert SMOKE_TEXT in text_of(index_of(tmp_path), ".caveats")
    assert "SMOKE RUN" in summary_lines(tmp_path)[0]


@pytest.mark.parametrize("path", ["../secret.html", "/etc/hostname", "https://example.org/x", "javascript:alert(1)"])
def test_links_never_lead_out_of_the_run(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.html").write_text("x")
    run_dir = tmp_path / "run"
    write_jobs(run_dir, [Job("01_explore", page=path)])
    assert index_of(run_dir).select("main a") == []


def test_without_the_launcher_list_the_folders_are_read(tmp_path: Path) -> None:
    write_made_run(tmp_path)
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "03_benchmark.torch-blas.html").write_text("x")
    (tmp_path / "pages" / "05_extra.html").write_text("x")
    for name in ("pages/._05_extra.html", "results/._02_train.json"):  # of macOS
        (tmp_path / name).write_bytes(b"\0\5\26\7")
    jobs = {job.label: job for job in load_run(tmp_path).jobs}
    assert jobs["03_benchmark.torch-blas"].status == "ok"
    assert jobs["03_benchmark.torch-blas"].page == "pages/03_benchmark.torch-blas.html"
    assert jobs["05_extra"].status == "unknown" and not [label for label in jobs if label.startswith(".")]
    assert "98.71 %" in index_of(tmp_path).get_text()


@pytest.mark.parametrize("content", ["", "null", '{"notebooks": [{}]}'])
def test_damaged_launcher_list_does_not_stop_the_index(tmp_path: Path, content: str) -> None:
    write_made_run(tmp_path, [])
    (tmp_path / "series.json").write_text(content)
    assert "02_train" in text_of(index_of(tmp_path), "table")
    assert len(summary_lines(tmp_path)) == 4


@pytest.mark.parametrize("content", ["", "{}", f'{{"kind": "x", "schema_version": {SCHEMA_VERSION}}}', "[1]"])
def test_damaged_record_is_named_and_the_rest_is_shown(run_dir: Path, content: str) -> None:
    record_path(run_dir, "02_train").write_text(content)
    text = index_of(run_dir).get_text(" ")
    assert "02_train.json" in text and "onnxruntime-int8" in text
    assert "no training record" in summary_lines(run_dir)[0]


def test_records_of_an_earlier_version_are_left_out_and_counted(run_dir: Path) -> None:
    for path in (record_path(run_dir, "01_explore"), record_path(run_dir, "03_benchmark", "torch-blas")):
        path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": OLDEST_VERSION - 1}))
    assert load_run(run_dir).num_older == 2
    soup = index_of(run_dir)
    assert "2 records of an earlier version of this project are left out" in text_of(soup, ".caveats")
    assert f"record schema {OLDEST_VERSION - 1}" in text_of(soup, "table") and "onnxruntime-int8" in soup.get_text()


def test_empty_folder_has_an_index_and_a_summary(tmp_path: Path) -> None:
    nothing = "Nothing has run yet: the folder has no pages or records"
    assert text_of(index_of(tmp_path), ".answer") == f"{nothing}."
    assert summary_lines(tmp_path) == [
        "Accuracy: no training record",
        "Speed: no benchmark",
        nothing,
        f"Open: {tmp_path / 'index.html'}",
    ]


def test_summary_has_five_lines_with_the_figures(run_dir: Path) -> None:
    accuracy, layers, speed, problems, path = summary_lines(run_dir)
    assert accuracy == "Accuracy: top-1 98.71 % [98.11, 99.21] % on test (synthetic, 10,600 images)"
    assert layers.startswith("Layers: From torch-blas to torch-onednn at batch 256, 8 of 11 layers run another")
    assert re.match(r"Speed: single stream: onnxruntime-int8, 2\.6.*; offline: onnxruntime-int8, 1\.9", speed)
    assert problems.startswith(
        "Not done: 03_benchmark.no-wheel unavailable (no aarch64 wheel); 03_benchmark.broken failed"
    )
    assert path == f"Open: {run_dir / 'index.html'}"


def test_without_04_the_summary_answers_for_records_of_one_network_only(run_dir: Path) -> None:
    record_path(run_dir, "04_compare").unlink()
    assert "8 of 11 layers run another kernel" in summary_lines(run_dir)[1]
    write_record(made_train(checkpoint_sha256="ee" * 32), record_path(run_dir, "02_train"))
    assert "different checkpoint hashes" in summary_lines(run_dir)[1]


def test_control_that_computes_nothing_is_no_candidate(tmp_path: Path) -> None:
    write_record(made_train(), record_path(tmp_path, "02_train"))
    write_record(made_benchmark("null", parity=None), record_path(tmp_path, "03_benchmark", "null"))
    assert summary_lines(tmp_path)[1] == "Speed: no benchmark", "and nothing about layers of a backend not asked for"
    write_record(made_failed_benchmark("torch-blas", "failed"), record_path(tmp_path, "03_benchmark", "torch-blas"))
    assert summary_lines(tmp_path)[1] == "Layers: torch-blas was not measured against torch-onednn"
