"""The walks of `make rehearse`: what goes well, and what must go wrong in the right way."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lib.files import PROJECT_ROOT
from tests.rehearsal.mirror import serve_images
from tests.rehearsal.results import Event, Variation, Walk
from tests.rehearsal.runner import Runner
from tests.rehearsal.standins import FEW_TESTS
from tests.rehearsal.workflow import read_workflow

ARM, X86 = ".github/workflows/notebooks.yml", ".github/workflows/x86-64.yml"
WEEKLY, AUDIT = ".github/workflows/weekly.yml", ".github/workflows/audit.yml"
# The leg for the machine at hand: on the other one, `torch-blas` is refused as it should be.
NATIVE, ARCH = (X86, "x64") if platform.machine() in ("x86_64", "AMD64") else (ARM, "arm64")
BACKENDS = "torch-onednn,onnxruntime,null"
UNTIL_TRAIN = ("changes", "plan", "test (arm64)", "test (x64)", "train")
TRACE = Path(tempfile.gettempdir()) / f"rehearsal-was-here-{os.getpid()}"
HOSTILE = (
    '"; rm -rf "$GITHUB_WORKSPACE"; "',
    f"$(touch {TRACE})",
    f"`touch {TRACE}`",
    f"'; touch {TRACE} #",
    "torch-onednn\nprofile=full",
    "torch-onednn,\U0001f600",
    "${{ github.token }}",
    "::error::no",
    "../../etc/passwd",
    "tensorrt",
)


@dataclass(frozen=True)
class Scenario:
    """One walk and what is expected of it."""

    name: str
    title: str
    workflow: str
    event: Event
    expected: Mapping[str, str]  # results of jobs, by name; others may be anything
    variation: Callable[[dict[str, Walk]], Variation] = lambda walks: Variation()
    check: Callable[[Walk], None] = lambda walk: None
    after: str = ""  # the scenario whose walk the variation takes jobs from


def dispatch(backends: str, **inputs: str) -> Event:
    """Somebody pressed *Run workflow*."""
    return Event(inputs={"profile": "smoke", "dataset": "synthetic", "backends": backends, **inputs})


def _crash(job: str, workspace: Path) -> None:
    """A backend whose process dies, as a native library does that meets an instruction it should not."""
    if job.endswith("benchmark (null)"):
        file = workspace / "lib/backends/null.py"
        text, count = re.subn(
            r"(    def load\(.*\) -> None:\n)", r"\1        import os\n\n        os.abort()\n", file.read_text()
        )
        assert count == 1, "the crash found no place to be planted"
        file.write_text(text)


def _crashed(walk: Walk) -> None:
    job = walk.job("benchmark (null)")
    assert any(one.level == "error" and one.properties.get("file") for one in job.annotations), job.annotations
    assert f"03_benchmark.null.{ARCH}.html" in walk.artifacts.stored, "the page of what failed is missing"
    assert "null" in walk.job("compare").summary
    _judged(walk)


def _lost(*names: str) -> Callable[[Walk], None]:
    def check(walk: Walk) -> None:
        series = run_files(walk)["series.json"]
        jobs = {job["backend"]: job for job in json.loads(series)["notebooks"] if job["notebook"] == "03_benchmark"}
        for name in names:
            assert jobs[name]["status"] == "failed" and jobs[name]["reason"], jobs[name]
        _judged(walk)

    return check


def _judged(walk: Walk) -> None:
    """The gate failed because it judged, not because it broke."""
    (judge,) = [step for step in walk.job("gate").steps if step.outcome == "failure"]
    assert judge.error == "exit status 1", judge


def _fell_back(walk: Walk) -> None:
    warnings = [one.message for one in walk.job("train").annotations if one.level == "warning"]
    assert any("synthetic" in message for message in warnings), warnings
    assert "synthetic" in walk.job("compare").summary
    name = next(name for name in walk.artifacts.stored if name.startswith("04_compare."))
    assert walk.job("train").outputs["note"] in walk.artifacts.stored[name].path.read_text()


def _fail_training(job: str, workspace: Path) -> None:
    """02 ends with an error in the middle of the training."""
    if job.endswith("train"):
        file = workspace / "lib/training/loop.py"
        place = r"(\n            if on_step is not None:\n)"
        text, count = re.subn(place, r'\n            raise RuntimeError("planted")\1', file.read_text())
        assert count == 1, "the error found no place to be planted"
        file.write_text(text)


def _not_trained(walk: Walk) -> None:
    job = walk.job("train")
    assert any(one.properties.get("file") == "notebooks/02_train.ipynb" and "planted" in one.message
               for one in job.annotations), job.annotations  # fmt: skip
    assert "planted" in job.summary and f"02_train.{ARCH}.html" in walk.artifacts.stored
    assert [step.name for step in job.steps if step.outcome == "failure"] == ["Run 01 and 02"], "one reason is enough"
    _judged(walk)


def _not_set_up(walk: Walk) -> None:
    failed = [step.name for step in walk.job("train").steps if step.outcome == "failure"]
    assert failed == ["Set up"], f"one reason is enough: {failed}"
    _judged(walk)


def _real_images(walk: Walk) -> None:
    assert walk.job("train").outputs["dataset"] == "gtsrb" and not walk.job("train").outputs["note"]
    steps = {(job.name.split(" / ")[-1], step.name): step.outcome for job in walk.jobs for step in job.steps}
    assert steps["train", "Save the images"] == "success"
    for leg in walk.legs("benchmark"):
        log = leg.log.read_text() if leg.log else ""
        assert "found data-gtsrb-" in log and "is there and complete" in log, f"{leg.name} fetched the images again"
    records = {name: content for name, content in run_files(walk).items() if name.endswith(".json")}
    assert json.loads(records["results/02_train.json"])["data"]["source"] == "gtsrb"


def _refused(walk: Walk) -> None:
    errors = [one for one in walk.job("plan").annotations if one.level == "error"]
    assert len(errors) == 1, errors
    assert not TRACE.exists(), f"something typed into a form was executed: remove {TRACE}"
    _judged(walk)


def _deployed(walk: Walk) -> None:
    """The second attempt deploys what it uploaded itself, beside what the first had left; the index has the verdict."""
    assert {"github-pages-1", "github-pages-2"} <= set(walk.artifacts.stored)
    assert [step.outcome for step in walk.job("publish").steps] == ["success"] * 4
    site = zip_files(walk.artifacts.stored["github-pages-2"].path)["artifact.tar"]
    with tarfile.open(fileobj=io.BytesIO(site)) as files:
        index, verdict = (files.extractfile(f"./{name}") for name in ("index.html", "gate.json"))
        assert index is not None and verdict is not None
        assert json.loads(verdict.read())["words"].partition(": ")[2] in index.read().decode()


def _demanding(job: str, workspace: Path) -> None:
    """A floor that no training reaches."""
    if job.endswith("gate"):
        file = workspace / ".github/gate.toml"
        text, count = re.subn(
            r"top1 = \{.*\}", "top1 = { floor = 1.0, expected = 1.0, budget = 0.0 }", file.read_text()
        )
        assert count > 1, "there is no floor to raise"
        file.write_text(text)


def _not_published(walk: Walk) -> None:
    _judged(walk)
    assert not any(name.startswith(("github-pages", "verdict")) for name in walk.artifacts.stored)
    assert "pages are not published: the gate fails" in log_of(walk, "gate")


def _unshaken(_job: str, workspace: Path) -> None:
    """What else runs on this machine meanwhile is no reason not to judge."""
    file = workspace / "lib/analysis/judgement.py"
    text, count = re.subn(r"(?m)^(SAME_PACE|LIMIT_CORES) = [\d.]+", r"\1 = 99.0", file.read_text())
    assert count == 2, "there is no limit to lift"
    file.write_text(text)


def _slow(job: str, workspace: Path) -> None:
    """A backend that waits in every call, in its first measurement alone."""
    _unshaken(job, workspace)
    if job.endswith("benchmark (torch-blas)"):
        file = workspace / "lib/backends/torch_blas.py"
        waiting = "    def predict(self, images):\n        import time\n\n        time.sleep(0.05)\n"
        waiting += "        return super().predict(images)\n\n"
        text, count = re.subn(r"(    def broken_promise)", rf"{waiting}\1", file.read_text())
        assert count == 1, "the wait found no place to be planted"
        file.write_text(text)


def past_runs(walk: Walk, factors: Sequence[float]) -> dict[int, dict[str, bytes]]:
    """Earlier runs with the record of `torch-blas` of a walk, its times multiplied, a day apart from each other."""
    name = "03_benchmark.torch-blas.json"
    record: dict[str, Any] = json.loads(run_files(walk)[f"results/{name}"])
    started, runs = datetime.fromisoformat(record["started"]), {}
    for number, factor in enumerate(factors, start=1):
        earlier = json.loads(json.dumps(record)) | {"started": (started - timedelta(days=number)).isoformat()}
        for scenario in earlier["scenarios"]:
            scenario["latencies_s"] = [[factor * call for call in calls] for calls in scenario["latencies_s"]]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(name, json.dumps(earlier))
        runs[100 + number] = {f"records.{ARCH}": packed.getvalue()}
    return runs


def _changes_of(*verdicts: str) -> Callable[[Walk], None]:
    """Measured again, and the second 04 says `verdicts` of torch-blas; one confirmed slow-down is a warning."""

    def check(walk: Walk) -> None:
        assert walk.job("compare").outputs["suspects"] == '["torch-blas"]'
        assert f"03_benchmark.torch-blas.again.{ARCH}.html" in walk.artifacts.stored
        files = run_files(walk)
        assert "results/confirm/03_benchmark.torch-blas.json" in files
        found = set(json.loads(files["results/04_compare.json"])["history"]["torch-blas"].values())
        assert found & set(verdicts) and found <= {*verdicts, "no change"}, found
        page = walk.artifacts.stored[f"04_compare.{ARCH}.html"].path.read_text()
        assert any(f": {verdict}. " in page for verdict in verdicts)
        warned = [one.message for one in walk.job("gate").annotations if "confirmed slower" in one.message]
        assert bool(warned) == ("confirmed slower" in verdicts), warned

    return check


def _skip_told(walk: Walk) -> None:
    for leg in walk.legs("suite"):
        log = leg.log.read_text() if leg.log else ""
        assert "planted in the rehearsal" in log and "tests/skips.py" in log, log[-2000:]


def _planted_skip(_job: str, workspace: Path) -> None:
    file = workspace / FEW_TESTS
    file.write_text(file.read_text() + "\n\ndef test_planted() -> None:\n    pytest.skip('planted in the rehearsal')\n")


def _not_audited(walk: Walk) -> None:
    assert [step.outcome for step in walk.job("audit").steps] == ["success", "failure", "skipped", "skipped"]


def log_of(walk: Walk, name: str) -> str:
    """What the steps of a job printed."""
    job = walk.job(name)
    return job.log.read_text() if job.log else ""


def run_files(walk: Walk) -> dict[str, bytes]:
    """Files of the artifact that holds the whole run."""
    return zip_files(
        next(one.path for name, one in walk.artifacts.stored.items() if name.startswith("gtsrb-notebooks."))
    )


def zip_files(path: Path) -> dict[str, bytes]:
    """Files of a zip, by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


_GOOD = dict.fromkeys(("changes", "plan", "train", "compare"), "success")
_NOTHING = dict.fromkeys(("test", "train", "benchmark", "compare", "confirm", "conclude", "publish"), "skipped")


def scenarios(backends: str = BACKENDS, images: Path | None = None) -> list[Scenario]:
    """All of them, in an order in which later ones may take over jobs of earlier ones.

    Args:
        images: data_root of what the scenario of that name serves; default: tiny images that it makes.
    """
    here = backends.replace("onnxruntime", "torch-blas")  # which makes a promise that depends on the machine
    legs = {name: [f"benchmark ({one})" for one in name.split(",")] for name in (backends, here)}
    real = dispatch(here, dataset="gtsrb")
    weekly = read_workflow(PROJECT_ROOT, WEEKLY).jobs["suite"]["strategy"]["matrix"]["include"]
    suites = [f"suite ({leg['arch']}, Python {leg['python']})" for leg in weekly]
    to_main = Event("push", variables={"PAGES_ENABLED": "true"})
    measured, chosen = ("train", *legs[backends], "compare"), {"INPUT_BACKENDS": backends}
    found = [
        Scenario(
            "documents",
            "a pull request that changes README.md alone",
            ARM,
            Event("pull_request", changed=("README.md",)),
            {"changes": "success", "plan": "skipped", **_NOTHING, "gate": "success"},
        ),
        Scenario(
            "pull_request",
            f"a pull request; instead of all default backends {backends}",
            ARM,
            Event("pull_request"),
            {**_GOOD, **dict.fromkeys(legs[backends], "success"), "publish": "skipped", "gate": "success"},
            variation=lambda walks: Variation(env=chosen),
        ),
        Scenario(
            "merge_group",
            "a merge queue asks for the required check; with the jobs of `pull_request` but for changes, plan and gate",
            ARM,
            Event("merge_group"),
            {**_GOOD, "publish": "skipped", "gate": "success"},
            variation=lambda walks: Variation(env=chosen, earlier=walks["pull_request"], kept=measured),
            after="pull_request",
        ),
        Scenario(
            "gate_fails",
            "a push to main that the gate fails: nothing is published; with the jobs of `pull_request`",
            ARM,
            to_main,
            {"compare": "success", "gate": "failure", "publish": "skipped"},
            variation=lambda walks: Variation(
                env=chosen, earlier=walks["pull_request"], kept=measured, patch=_demanding
            ),
            check=_not_published,
            after="pull_request",
        ),
        Scenario(
            "deploy_fails",
            "a push to main that passes, and the deployment of its pages fails; with the jobs of `pull_request`",
            ARM,
            to_main,
            {"compare": "success", "gate": "success", "publish": "failure"},
            variation=lambda walks: Variation(
                env=chosen, earlier=walks["pull_request"], kept=measured, broken=["publish/Deploy"]
            ),
            after="pull_request",
        ),
        Scenario(
            "deploy_again",
            "*Re-run failed jobs*, after that",
            ARM,
            to_main,
            {"gate": "success", "publish": "success"},
            variation=lambda walks: Variation(
                earlier=walks["deploy_fails"], kept=(*UNTIL_TRAIN, *measured, "gate"), attempt=2
            ),
            check=_deployed,
            after="deploy_fails",
        ),
        Scenario(
            "dispatch",
            "*Run workflow* for real images, whose host is down",
            NATIVE,
            real,
            {**_GOOD, **dict.fromkeys(legs[here], "success"), "publish": "skipped", "gate": "success"},
            check=_fell_back,
        ),
        Scenario(
            "crash",
            "a backend kills its process in one job of the matrix",
            NATIVE,
            real,
            {"benchmark (null)": "failure", "compare": "success", "gate": "failure"},
            variation=lambda walks: Variation(
                patch=_crash,
                earlier=walks["dispatch"],
                kept=[name for name in (*UNTIL_TRAIN, *legs[here]) if name != "benchmark (null)"],
            ),
            check=_crashed,
            after="dispatch",
        ),
        Scenario(
            "lost",
            "the artifact of one job never arrives in compare",
            NATIVE,
            real,
            {"benchmark (null)": "success", "compare": "success", "gate": "failure"},
            variation=lambda walks: Variation(
                lost=[f"part.benchmark.null.{ARCH}"], earlier=walks["dispatch"], kept=(*UNTIL_TRAIN, *legs[here])
            ),
            check=_lost("null"),
            after="dispatch",
        ),
        Scenario(
            "all_lost",
            "no benchmark arrives: the pattern then matches one artifact, which gets no folder of its own",
            NATIVE,
            real,
            {"train": "success", "gate": "failure"},
            variation=lambda walks: Variation(
                lost=[f"part.benchmark.{name}.{ARCH}" for name in here.split(",")],
                earlier=walks["dispatch"],
                kept=(*UNTIL_TRAIN, *legs[here]),
            ),
            check=_lost(*here.split(",")),
            after="dispatch",
        ),
        Scenario(
            "schedule",
            "the weekly run, which nobody gave inputs; with the jobs of `dispatch` but for plan, compare and gate",
            NATIVE,
            Event("schedule"),
            {**_GOOD, "publish": "skipped", "gate": "success"},
            variation=lambda walks: Variation(
                env={"INPUT_BACKENDS": here}, earlier=walks["dispatch"], kept=("train", *legs[here])
            ),
            after="dispatch",
        ),
        Scenario(
            "slower",
            "three earlier runs were ten times as fast: measured again, and confirmed; with the jobs of `dispatch`",
            NATIVE,
            real,
            {**_GOOD, "confirm (torch-blas)": "success", "conclude": "success", "gate": "success"},
            variation=lambda walks: Variation(
                earlier=walks["dispatch"],
                patch=_unshaken,
                kept=(*UNTIL_TRAIN, *legs[here]),
                past=past_runs(walks["dispatch"], (0.1, 0.11, 0.12)),
            ),
            check=_changes_of("confirmed slower"),
            after="dispatch",
        ),
        Scenario(
            "slower_once",
            "a backend waits in its first measurement alone, so nothing is confirmed; with the jobs of `dispatch`",
            NATIVE,
            real,
            {**_GOOD, "confirm (torch-blas)": "success", "conclude": "success", "gate": "success"},
            variation=lambda walks: Variation(
                earlier=walks["dispatch"],
                patch=_slow,
                kept=[name for name in (*UNTIL_TRAIN, *legs[here]) if name != "benchmark (torch-blas)"],
                past=past_runs(walks["dispatch"], (0.8, 1.0, 1.25)),
            ),
            check=_changes_of("slower, not confirmed"),
            after="dispatch",
        ),
        Scenario(
            "images",
            "real images whose host is up: fetched once, and restored by every job of the matrix",
            NATIVE,
            dispatch("torch-onednn,null", dataset="gtsrb"),
            {**_GOOD, **dict.fromkeys(("benchmark (torch-onednn)", "benchmark (null)"), "success"), "gate": "success"},
            variation=lambda walks: Variation(
                patch=serve_images(Path(tempfile.mkdtemp(prefix="rehearsal-images-")), images)
            ),
            check=_real_images,
        ),
        Scenario(
            "not_trained",
            "02 fails: no benchmark, and the pages and the summary of what there is",
            NATIVE,
            dispatch("null"),
            {"train": "failure", **dict.fromkeys(("benchmark", "compare", "publish"), "skipped"), "gate": "failure"},
            variation=lambda walks: Variation(patch=_fail_training),
            check=_not_trained,
        ),
        Scenario(
            "not_set_up",
            "the packages cannot be installed in one job, which says so once",
            NATIVE,
            dispatch("null"),
            {"train": "failure", **dict.fromkeys(("benchmark", "compare", "publish"), "skipped"), "gate": "failure"},
            variation=lambda walks: Variation(broken=["train/Set up"]),
            check=_not_set_up,
        ),
        Scenario(
            "weekly",
            f"the weekly suite, of which {FEW_TESTS} alone runs here",
            WEEKLY,
            Event("schedule"),
            dict.fromkeys(suites, "success"),
        ),
        Scenario(
            "weekly_skip",
            "the weekly suite with a skip that is not on the list",
            WEEKLY,
            Event("schedule"),
            dict.fromkeys(suites, "failure"),
            variation=lambda walks: Variation(patch=_planted_skip),
            check=_skip_told,
        ),
        Scenario("audit", "the weekly audit", AUDIT, Event("schedule"), {"audit": "success"}),
        Scenario(
            "audit_not_installed",
            "the audit cannot be installed: it says so once",
            AUDIT,
            Event("schedule"),
            {"audit": "failure"},
            variation=lambda walks: Variation(broken=["audit/Install pip-audit"]),
            check=_not_audited,
        ),
    ]
    return found + [
        Scenario(
            f"hostile_{number}",
            f"the input backends is {text!r}",
            ARM,
            dispatch(text),
            {"plan": "failure", **_NOTHING, "gate": "failure"},
            check=_refused,
        )
        for number, text in enumerate(HOSTILE, start=1)
    ]


def rehearse(
    scenario: Scenario, out: Path, walks: dict[str, Walk], say: Callable[[str], None], parallel: int
) -> list[str]:
    """Walk one scenario; returns what was not as expected."""
    started = time.monotonic()
    runner = Runner(
        PROJECT_ROOT, out / scenario.name, scenario.event, scenario.variation(walks), say=say, parallel=parallel
    )
    walk = walks[scenario.name] = runner.run(scenario.workflow)
    say(report(walk))
    wrong = [
        f"{name}: expected {result}, was {walk.results.get(name, 'not there')}"
        for name, result in scenario.expected.items()
        if walk.results.get(name) != result
    ]
    try:
        scenario.check(walk)
    except (AssertionError, KeyError, StopIteration, ValueError) as error:
        wrong.append(f"{type(error).__name__}: {error}")
    verdict = "NOT AS EXPECTED" if wrong else "as expected"
    say(f"{verdict} after {time.monotonic() - started:.0f} s: {scenario.title}")
    return wrong


def never_run(walks: Sequence[Walk]) -> set[tuple[str, str]]:
    """Steps of the workflow, by job and name, that no walk came to; a stand-in counts as the step."""
    steps = {
        (identity, step["name"])
        for path in (ARM, X86, WEEKLY, AUDIT)
        for identity, job in read_workflow(PROJECT_ROOT, path).jobs.items()
        for step in job.get("steps", [])
    }
    done = {(job.id, step.name) for walk in walks for job in walk.jobs for step in job.steps
            if step.outcome != "skipped"}  # fmt: skip
    return steps - done


def report(walk: Walk) -> str:
    """Jobs with times, steps that failed, annotations and artifacts, as lines."""
    lines: list[str] = []
    for job in walk.jobs:
        lines.append(f"  {job.seconds:6.1f} s  {job.result:9}  {job.name}  {job.reason}".rstrip())
        lines += [
            f"             step failed: {step.name}: {step.error}" for step in job.steps if step.outcome == "failure"
        ]
        lines += [f"             {one.level}: {one.message.splitlines()[0][:150]}" for one in job.annotations]
    lines += [f"  artifact {name}: {one.path.stat().st_size:,} bytes" for name, one in walk.artifacts.stored.items()]
    return "\n".join(lines)


def write_summaries(walk: Walk, folder: Path) -> Sequence[Path]:
    """The step summaries as files, one for each job that wrote one."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for job in walk.jobs:
        if job.summary:
            path = folder / f"{re.sub(r'[^a-z0-9.-]+', '_', job.name.lower()).strip('_')}.md"
            path.write_text(job.summary)
            written.append(path)
    return written
