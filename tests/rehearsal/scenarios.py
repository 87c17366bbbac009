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
from lib.release.verifying import broken_link
from tests.rehearsal.mirror import serve_images
from tests.rehearsal.results import Event, JobResult, Variation, Walk
from tests.rehearsal.runner import Runner, read_workflow
from tests.rehearsal.standins import FEW_TESTS

ARM, X86 = ".github/workflows/notebooks.yml", ".github/workflows/x86-64.yml"
WEEKLY, AUDIT = ".github/workflows/weekly.yml", ".github/workflows/audit.yml"
# The leg for the machine at hand: on the other one, `torch-blas` is refused as it should be.
NATIVE, ARCH = (X86, "x64") if platform.machine() in ("x86_64", "AMD64") else (ARM, "arm64")
BACKENDS = "torch-onednn,onnxruntime,null"
UNTIL_TRAIN = ("changes", "plan", "test (arm64)", "test (x64)", "train")
TRACE = Path(tempfile.gettempdir()) / f"rehearsal-was-here-{os.getpid()}"
HOSTILE = f"torch-onednn\nprofile=full\"; touch {TRACE}; $(touch {TRACE}) `touch {TRACE}` ' #"


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
    real: bool = False  # its notebooks run also where those of others are replayed


def dispatch(backends: str, **inputs: str) -> Event:
    """*Run workflow* was pressed."""
    return Event(inputs={"profile": "smoke", "dataset": "synthetic", "backends": backends, **inputs})


# --- what is planted in the checkout of a job


def _edit(file: Path, pattern: str, replacement: str, *, times: int = 1) -> None:
    text, count = re.subn(pattern, replacement, file.read_text())
    assert count >= times, f"{file.name} has no place to plant this in"
    file.write_text(text)


def _crash(job: str, workspace: Path) -> None:
    """A backend whose process dies, as a native library does that meets an instruction it should not."""
    if job == "benchmark (null)":
        _edit(
            workspace / "lib/backends/null.py",
            r"(    def load\(.*\) -> None:\n)",
            r"\1        import os\n\n        os.abort()\n",
        )


def _fail_training(job: str, workspace: Path) -> None:
    """02 ends with an error in the middle of the training."""
    if job == "train":
        place = r"(\n            if on_step is not None:\n)"
        _edit(workspace / "lib/training/loop.py", place, r'\n            raise RuntimeError("planted")\1')


def _demanding(job: str, workspace: Path) -> None:
    """A floor that no training reaches."""
    if job == "gate":
        unreachable = "top1 = { floor = 1.0, expected = 1.0, budget = 0.0 }"
        _edit(workspace / ".github/gate.toml", r"top1 = \{.*\}", unreachable, times=2)


def _unshaken(_job: str, workspace: Path) -> None:
    """Times are judged whatever else runs on this machine meanwhile."""
    file = workspace / "lib/analysis/judgement.py"
    _edit(file, r"(?m)^(SAME_PACE|LIMIT_CORES) = [\d.]+", r"\1 = 99.0", times=2)


def _slow(job: str, workspace: Path) -> None:
    """A backend that waits in every call, in its first measurement alone."""
    _unshaken(job, workspace)
    if job == "benchmark (torch-blas)":
        waiting = "    def predict(self, images):\n        import time\n\n        time.sleep(0.05)\n"
        waiting += "        return super().predict(images)\n\n"
        _edit(workspace / "lib/backends/torch_blas.py", r"(    def broken_promise)", rf"{waiting}\1")


def _planted_skip(_job: str, workspace: Path) -> None:
    file = workspace / FEW_TESTS
    file.write_text(file.read_text() + "\n\ndef test_planted() -> None:\n    pytest.skip('planted in the rehearsal')\n")


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


# --- what a walk must have left


def run_files(walk: Walk) -> dict[str, bytes]:
    """Files of the artifact that holds the whole run."""
    with zipfile.ZipFile(walk.artifacts.stored[f"gtsrb-notebooks.{ARCH}"].path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _judged(walk: Walk) -> JobResult:
    """The gate failed because it judged, not because it broke."""
    gate = walk.job("gate")
    (judge,) = [step for step in gate.steps if step.outcome == "failure"]
    assert judge.error == "exit status 1", judge
    return gate


def _crashed(walk: Walk) -> None:
    job = walk.job("benchmark (null)")
    assert any(one.level == "error" and one.properties.get("file") for one in job.annotations), job.annotations
    assert f"03_benchmark.null.{ARCH}.html" in walk.artifacts.stored, "the page of what failed is missing"
    assert "null" in walk.job("compare").summary
    _judged(walk)


def _released(walk: Walk) -> None:
    """The part of the benchmark brought the model that it measured, and the release holds without the run."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(walk.artifacts.stored["release.arm64"].path) as archive:
            archive.extractall(folder)
        assert broken_link(folder) == ""


def _lost(*names: str) -> Callable[[Walk], None]:
    def check(walk: Walk) -> None:
        listed = json.loads(run_files(walk)["series.json"])["notebooks"]
        jobs = {job["backend"]: job for job in listed if job["notebook"] == "03_benchmark"}
        for name in names:
            assert jobs[name]["status"] == "failed" and jobs[name]["reason"], jobs[name]
        _judged(walk)

    return check


def fell_back(walk: Walk) -> None:
    """The host of the images is down: the run warns, and all pages and the summary carry the note."""
    train = walk.job("train")
    note = train.outputs["note"]
    assert train.outputs["dataset"] == "synthetic" and [one.level for one in train.annotations] == ["warning"]
    assert note.split(" Reason: ")[0] in walk.job("compare").summary  # the reason has an address, which is escaped
    for name, one in walk.artifacts.stored.items():
        assert one.archived or note in one.path.read_text(), name


def _not_trained(walk: Walk) -> None:
    job = walk.job("train")
    assert any(one.properties.get("file") == "notebooks/02_train.ipynb" and "planted" in one.message
               for one in job.annotations), job.annotations  # fmt: skip
    assert "planted" in job.summary and f"02_train.{ARCH}.html" in walk.artifacts.stored
    assert job.failed_steps == ["Run 01 and 02"], "one reason is enough"
    _judged(walk)


def _not_set_up(walk: Walk) -> None:
    assert walk.job("train").failed_steps == ["Set up"], "one reason is enough"
    _judged(walk)


def _real_images(walk: Walk) -> None:
    train = walk.job("train")
    assert train.outputs["dataset"] == "gtsrb" and not train.outputs["note"]
    assert ("Save the images", "success") in [(step.name, step.outcome) for step in train.steps]
    for leg in (job for job in walk.jobs if job.id == "benchmark"):
        assert "-" in leg.log and "is there and complete" in leg.log, f"{leg.name} fetched the images again"
    assert json.loads(run_files(walk)["results/02_train.json"])["data"]["source"] == "gtsrb"


def _refused(walk: Walk) -> None:
    assert [one.level for one in walk.job("plan").annotations] == ["error"]
    assert not TRACE.exists(), f"something typed into a form was executed: remove {TRACE}"
    _judged(walk)


def _alone(walk: Walk) -> None:
    """One backend ran, and 04 and the gate name the others as left out."""
    assert [job.name for job in walk.jobs if job.id == "benchmark"] == ["benchmark (torch-nnpack)"]
    noted = "touches the files of torch-nnpack alone"
    assert noted in walk.artifacts.stored["04_compare.arm64.html"].path.read_bytes().decode(errors="ignore")
    assert "left out, the change touches torch-nnpack alone" in walk.job("gate").summary


def _not_published(walk: Walk) -> None:
    assert "pages are not published: the gate fails" in _judged(walk).log
    assert not any(name.startswith(("github-pages", "verdict")) for name in walk.artifacts.stored)


def _deployed(walk: Walk) -> None:
    """The second attempt deploys what it uploaded itself, beside what the first had left; the index has the verdict."""
    assert {"github-pages-1", "github-pages-2"} <= set(walk.artifacts.stored)
    with zipfile.ZipFile(walk.artifacts.stored["github-pages-2"].path) as archive:
        site = archive.read("artifact.tar")
    with tarfile.open(fileobj=io.BytesIO(site)) as files:
        index, verdict = (files.extractfile(f"./{name}") for name in ("index.html", "gate.json"))
        assert index is not None and verdict is not None
        assert json.loads(verdict.read())["words"].partition(": ")[2] in index.read().decode()


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


def _skip_named(walk: Walk) -> None:
    for leg in (job for job in walk.jobs if job.id == "suite"):
        assert "planted in the rehearsal" in leg.log and "tests/skips.py" in leg.log, leg.log[-2000:]


def _not_audited(walk: Walk) -> None:
    assert [step.outcome for step in walk.job("audit").steps] == ["success", "failure", "skipped", "skipped"]


# --- the walks


def scenarios(backends: str = BACKENDS) -> list[Scenario]:
    """All of them, in an order in which later ones may take over jobs of earlier ones."""
    here = backends.replace("onnxruntime", "torch-blas")  # which makes a promise that depends on the machine
    legs, native = ([f"benchmark ({one})" for one in names.split(",")] for names in (backends, here))
    good = dict.fromkeys(("changes", "plan", "train", "compare", "release", "gate"), "success")
    skipped = dict.fromkeys(
        ("test", "train", "benchmark", "compare", "confirm", "conclude", "release", "publish"), "skipped"
    )
    untrained = {
        "train": "failure",
        **dict.fromkeys(("benchmark", "compare", "release", "publish"), "skipped"),
        "gate": "failure",
    }
    again = {**good, "confirm (torch-blas)": "success", "conclude": "success"}
    weekly = read_workflow(PROJECT_ROOT, WEEKLY)["jobs"]["suite"]["strategy"]["matrix"]["include"]
    suites = [f"suite ({leg['arch']}, Python {leg['python']})" for leg in weekly]
    real, chosen = dispatch(here, dataset="gtsrb"), {"INPUT_BACKENDS": backends}
    to_main = Event("push", variables={"PAGES_ENABLED": "true"})
    scheduled = Event("schedule")

    def like(name: str, kept: Sequence[str], **changes: Any) -> Callable[[dict[str, Walk]], Variation]:
        """The walk `name` again, without running the jobs `kept`."""
        return lambda walks: Variation(earlier=walks[name], kept=kept, **changes)

    def slower(kept: Sequence[str], factors: Sequence[float], patch: Any) -> Callable[[dict[str, Walk]], Variation]:
        return lambda walks: Variation(
            earlier=walks["dispatch"], kept=kept, patch=patch, past=past_runs(walks["dispatch"], factors)
        )

    def but(name: str) -> list[str]:
        return [one for one in (*UNTIL_TRAIN, *native) if one != name]

    measured, parts = (
        ("train", *legs, "compare", "release"),
        [f"part.benchmark.{name}.{ARCH}" for name in here.split(",")],
    )
    return [
        Scenario("documents", "a pull request that changes README.md alone", ARM,
                 Event("pull_request", changed=("README.md",)),
                 {"changes": "success", "plan": "skipped", **skipped, "gate": "success"}),
        Scenario("pull_request", f"a pull request; instead of all default backends {backends}", ARM,
                 Event("pull_request"), {**good, **dict.fromkeys(legs, "success"), "publish": "skipped"},
                 lambda walks: Variation(env=chosen), _released),
        Scenario("merge_group", "a merge queue asks for the required check; with the jobs of `pull_request`", ARM,
                 Event("merge_group"), {**good, "publish": "skipped"},
                 like("pull_request", measured, env=chosen), after="pull_request"),
        Scenario("one_backend", "a pull request that touches one backend; with the training of `pull_request`", ARM,
                 Event("pull_request", changed=("lib/backends/torch_nnpack.py",)),
                 {**good, "benchmark (torch-nnpack)": "success", "publish": "skipped"},
                 like("pull_request", UNTIL_TRAIN[2:]), _alone, "pull_request", True),
        Scenario("gate_fails", "a push to main that the gate fails; with the jobs of `pull_request`", ARM, to_main,
                 {"compare": "success", "gate": "failure", "publish": "skipped"},
                 like("pull_request", measured, env=chosen, patch=_demanding), _not_published, "pull_request"),
        Scenario("deploy_fails", "a push to main that passes, and its deployment fails", ARM, to_main,
                 {"compare": "success", "gate": "success", "publish": "failure"},
                 like("pull_request", measured, env=chosen, broken=["publish/Deploy"]), after="pull_request"),
        Scenario("deploy_again", "*Re-run failed jobs*, after that", ARM, to_main,
                 {"gate": "success", "publish": "success"},
                 like("deploy_fails", (*UNTIL_TRAIN, *measured, "gate"), attempt=2), _deployed, "deploy_fails"),
        Scenario("dispatch", "*Run workflow* for real images, whose host is down", NATIVE, real,
                 {**good, **dict.fromkeys(native, "success"), "publish": "skipped"}, check=fell_back),
        Scenario("crash", "a backend kills its process in one job of the matrix", NATIVE, real,
                 {"benchmark (null)": "failure", "compare": "success", "gate": "failure"},
                 like("dispatch", but("benchmark (null)"), patch=_crash), _crashed, "dispatch", True),
        Scenario("lost", "the artifact of one job never arrives in compare", NATIVE, real,
                 {"compare": "success", "gate": "failure"},
                 like("dispatch", but(""), lost=[f"part.benchmark.null.{ARCH}"]), _lost("null"), "dispatch"),
        Scenario("all_lost", "no benchmark arrives: the pattern matches one artifact, which gets no folder", NATIVE,
                 real, {"train": "success", "gate": "failure"},
                 like("dispatch", but(""), lost=parts), _lost(*here.split(",")), "dispatch"),
        Scenario("schedule", "the weekly run, which has no inputs; with the jobs of `dispatch`", NATIVE, scheduled,
                 {**good, "publish": "skipped"},
                 like("dispatch", ("train", *native), env={"INPUT_BACKENDS": here}), after="dispatch"),
        Scenario("slower", "three earlier runs were ten times as fast: measured again, and confirmed", NATIVE, real,
                 again, slower(but(""), (0.1, 0.11, 0.12), _unshaken), _changes_of("confirmed slower"), "dispatch"),
        Scenario("slower_once", "a backend waits in its first measurement alone, so nothing is confirmed", NATIVE, real,
                 again, slower(but("benchmark (torch-blas)"), (0.8, 1.0, 1.25), _slow),
                 _changes_of("slower, not confirmed"), "dispatch", True),
        Scenario("images", "real images whose host is up: fetched once, and restored by every job of the matrix",
                 NATIVE, dispatch("torch-onednn,null", dataset="gtsrb"),
                 {**good, **dict.fromkeys(("benchmark (torch-onednn)", "benchmark (null)"), "success")},
                 lambda walks: Variation(patch=serve_images(Path(tempfile.mkdtemp()))), _real_images, real=True),
        Scenario("not_trained", "02 fails: no benchmark, and the pages and the summary of what there is", NATIVE,
                 dispatch("null"), untrained, lambda walks: Variation(patch=_fail_training), _not_trained, real=True),
        Scenario("not_set_up", "the packages cannot be installed in one job, which says so once", NATIVE,
                 dispatch("null"), untrained, lambda walks: Variation(broken=["train/Set up"]), _not_set_up),
        Scenario("weekly", f"the weekly suite, of which {FEW_TESTS} alone runs here", WEEKLY, scheduled,
                 dict.fromkeys((*suites, "serve"), "success")),
        Scenario("weekly_skip", "the weekly suite with a skip that is not on the list", WEEKLY, scheduled,
                 dict.fromkeys(suites, "failure"), lambda walks: Variation(patch=_planted_skip), _skip_named),
        Scenario("audit", "the weekly audit", AUDIT, scheduled, {"audit": "success"}),
        Scenario("audit_not_installed", "the audit cannot be installed: it says so once", AUDIT, scheduled,
                 {"audit": "failure"}, lambda walks: Variation(broken=["audit/Install pip-audit"]), _not_audited),
        Scenario("hostile", f"the input backends is {HOSTILE!r}", ARM, dispatch(HOSTILE),
                 {"plan": "failure", **skipped, "gate": "failure"}, check=_refused),
    ]  # fmt: skip


def rehearse(
    scenario: Scenario, out: Path, walks: dict[str, Walk], say: Callable[[str], None], parallel: int
) -> list[str]:
    """Walk one scenario; returns what was not as expected."""
    started = time.monotonic()
    variation = scenario.variation(walks)
    runner = Runner(PROJECT_ROOT, out / scenario.name, scenario.event, variation, say=say, parallel=parallel)
    walk = walks[scenario.name] = runner.run(scenario.workflow)
    say(report(walk))
    wrong = [
        f"{name}: expected {result}, was {walk.results.get(name, 'not there')}"
        for name, result in scenario.expected.items()
        if walk.results.get(name) != result
    ]
    wrong += [f"no step {name!r} ran" for name in {*variation.broken} - walk.broke]
    try:
        scenario.check(walk)
    except (AssertionError, KeyError, StopIteration, ValueError) as error:
        wrong.append(f"{type(error).__name__}: {error}")
    verdict = "NOT AS EXPECTED" if wrong else "as expected"
    say(f"{verdict} after {time.monotonic() - started:.0f} s: {scenario.title}")
    return wrong


def never_run(walks: Sequence[Walk]) -> set[tuple[str, str]]:
    """Steps of the workflows, by job and name, that no walk came to; a stand-in counts as the step."""
    steps = {
        (identity, step["name"])
        for path in (ARM, X86, WEEKLY, AUDIT)
        for identity, job in read_workflow(PROJECT_ROOT, path)["jobs"].items()
        for step in job.get("steps", [])
    }
    return steps - {(job.id, step.name) for walk in walks for job in walk.jobs for step in job.steps
                    if step.outcome != "skipped"}  # fmt: skip


def report(walk: Walk) -> str:
    """Jobs with times, steps that failed, annotations and artifacts, as lines."""
    lines: list[str] = []
    for job in walk.jobs:
        lines.append(f"  {job.seconds:6.1f} s  {job.result:9}  {job.name}  {job.reason}".rstrip())
        lines += [f"             step failed: {step.name}: {step.error}" for step in job.steps if step.error]
        lines += [f"             {one.level}: {one.message.splitlines()[0][:150]}" for one in job.annotations]
    lines += [f"  artifact {name}: {one.path.stat().st_size:,} bytes" for name, one in walk.artifacts.stored.items()]
    return "\n".join(lines)


def write_logs(walk: Walk, folder: Path) -> None:
    """The log of each job, and the summary of each that wrote one, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for job in walk.jobs:
        for suffix, text in (("log.txt", job.log), ("md", job.summary)):
            if text:
                (folder / f"{job.name.replace(' ', '')}.{suffix}").write_text(text)
