"""The checks of the harness that people run by hand, as small as they can be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lib.cli import main

pytestmark = pytest.mark.slow  # minutes


def test_selfcheck_measures_equal_code_and_planted_work_and_never_overwrites_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["selfcheck", "--neighbour", "--profile", "smoke", "--runs", "1", "--out", str(tmp_path)]
    assert main(command) == 0
    outcomes = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
    planted = {outcome["planted"] for outcome in outcomes}
    assert 0.0 in planted and len(planted) == 3 and len(outcomes) == 2 * len(planted)
    assert json.loads((tmp_path / "summary.json").read_text())["profile"] == "smoke"
    assert main(command) == 2 and "never overwritten" in capsys.readouterr().err


def test_loads_are_planted_beside_each_scenario(tmp_path: Path) -> None:
    assert main(["selfcheck", "--loads", "torch-blas", "--seconds", "1", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "loads.json").read_text())["shifts"]
    assert {row["scenario"] for row in found} == {"single_stream", "offline"}
    assert any(row["planted_cores"] > 0 for row in found) and all(row["num_cycles"] >= 1 for row in found)
