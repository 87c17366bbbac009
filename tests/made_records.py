"""Made-up records with plausible numbers, for tests of whatever reads records. Deterministic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lib.records import schema
from lib.records.run import Job, write_jobs
from lib.signs import CLASS_NAMES, NUM_CLASSES

REFERENCE = "torch-onednn"
STARTED = "2026-11-24T14:50:00+00:00"
# speedup of each backend over the reference: single stream, offline
SPEEDUPS = {
    "torch-onednn": (1.0, 1.0),
    "torch-blas": (0.94, 0.42),
    "torch-onednn-bf16": (0.81, 1.86),
    "onnxruntime": (2.31, 1.22),
    "onnxruntime-int8": (2.65, 1.94),
}
# the same for all that a full series may have: as many columns as a page must bear
MORE_SPEEDUPS = {
    "torch-nnpack": (0.88, 0.61), "torch-onednn-fastmath": (1.0, 1.0), "torch-compile": (1.42, 1.12),
    "torch-compile-bf16": (1.21, 2.05), "torch-aoti": (1.71, 1.15), "torch-int8": (1.18, 1.63),
    "onnxruntime-bf16": (0.72, 0.55), "openvino": (2.62, 1.31), "openvino-bf16": (2.4, 2.96),
    "openvino-int8": (3.1, 3.4), "executorch-xnnpack": (2.2, 1.04), "ncnn": (1.9, 0.93),
}  # fmt: skip
LAYERS = [
    ("stem.conv", "Conv2d", 0.88), ("stem.norm", "BatchNorm2d", 0.2), ("stage1.0.conv1", "Conv2d", 9.4),
    ("stage1.0.conv2", "Conv2d", 9.4), ("stage2.0.conv1", "Conv2d", 4.7), ("stage2.0.conv2", "Conv2d", 9.4),
    ("stage2.0.shortcut", "Conv2d", 0.5), ("stage3.0.conv1", "Conv2d", 4.7), ("stage3.0.conv2", "Conv2d", 9.4),
    ("pool", "AdaptiveAvgPool2d", 0.0), ("head", "Linear", 0.01),
]  # fmt: skip
FUSING = ("onnxruntime", "openvino", "torch-compile", "executorch", "ncnn")  # runtimes that run several layers as one
FUSED = ["stem.conv+stem.norm", "stage3.0.conv2+pool"]


def made_environment(**changes: Any) -> schema.Environment:
    made = schema.Environment(
        machine_id="5f2c90ab",
        cpu_model="Neoverse-N2",
        architecture="aarch64",
        emulated=False,
        isa_flags=["asimd", "sve", "sve2", "bf16", "i8mm"],
        num_cores=4,
        num_threads=4,
        memory_bytes=16 * 2**30,
        kernel="Linux 6.11.0-1018-azure",
        blas="openblas",
        onednn="3.9.1",
        acl=True,
        cpu_capability="SVE",
        versions={"python": "3.11.9", "torch": "2.14.1", "numpy": "2.4.6"},
        git_commit="89f3f58c0b1de0c3+",
        load_average=0.22,
    )
    return replace(made, **changes)


def _common() -> dict[str, Any]:
    num_images = {"train": 7200, "val": 800, "test": 2600}
    num_tracks: dict[str, int | None] = {"train": 240, "val": 43, "test": 90}
    return {
        "profile": "fast",
        "params": {"dataset": "synthetic", "profile": "fast", "num_threads": 0, "seed": 0},
        "environment": made_environment(),
        "data": schema.DataInfo("synthetic", "ab" * 32, num_images, num_tracks, list(CLASS_NAMES)),
        "checkpoint_sha256": "cd" * 32,
        "started": STARTED,
        "duration_s": 83.4,
    }


def made_accuracy(top1: float = 0.9871) -> dict[str, schema.Accuracy]:
    return {
        "val": schema.Accuracy(top1 + 0.004, (top1 - 0.003, min(1.0, top1 + 0.008)), 800, 43, 27, 0.903),
        "test": schema.Accuracy(top1, (top1 - 0.006, min(1.0, top1 + 0.005)), 2600, 90, 21, 0.885),
    }


def made_explore(**changes: Any) -> schema.ExploreRecord:
    tracks = [max(5, int(70 * np.exp(-((c * 7) % 43) / 14))) for c in range(NUM_CLASSES)]
    made = schema.ExploreRecord(
        **_common(),
        images_per_class=[30 * count for count in tracks],
        tracks_per_class=tracks,
        size_px_percentiles={"p5": 27.0, "p50": 44.0, "p95": 118.0},
        brightness_percentiles={"p5": 21.0, "p50": 76.0, "p95": 182.0},
        duplicates=[],
    )
    return replace(made, **changes)


def made_confusion(seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    confusion = np.diag(random.integers(30, 700, NUM_CLASSES))
    for true, predicted, count in ((1, 2, 14), (5, 3, 21), (27, 18, 6), (21, 31, 9), (30, 23, 4), (41, 32, 1)):
        confusion[true, predicted] = count
    found: list[list[int]] = confusion.tolist()
    return found


def made_history(num_epochs: int = 12) -> list[schema.Epoch]:
    def epoch(number: int) -> schema.Epoch:
        decay, lr = float(np.exp(-number / 3)), 0.01 * (1 - (number - 1) / num_epochs)
        return schema.Epoch(
            number, lr, 0.12 + 3.1 * decay, 0.97 - 0.9 * decay, 0.05 + 2.2 * decay, 0.989 - 0.6 * decay, 6.5
        )

    return [epoch(number) for number in range(1, num_epochs + 1)]


def made_train(**changes: Any) -> schema.TrainRecord:
    recall: list[float | None] = [1.0 - 0.004 * ((c * 11) % 29) if c % 3 else 1.0 for c in range(NUM_CLASSES)]
    examination = schema.Examination(
        schema.Confidence(1.3, 0.05, 0.01, 0.4, 0.99, 0.8, 500),
        slices={"mean level below 32": made_accuracy()["val"]},
        behaviour=[schema.BehaviourTest("mirrored", 0.03, 0.05)],
        corruptions={},
        saliency_correlation=None,
    )
    made = schema.TrainRecord(
        **_common(),
        recipe="resnet-small",
        architecture="resnet",
        num_weights=320_000,
        num_macs=48_000_000,
        num_epochs=12,
        train_s=78.2,
        estimated_s=80.1,
        precision="fp32",
        kernels=schema.StepKernels({"forward_training": {"onednn convolution brg_conv_fwd:avx512_core f32": 14}}),
        history=made_history(),
        accuracy=made_accuracy(),
        accuracy_without_duplicates={},
        per_class_recall={"val": [*recall[1:], None], "test": recall},
        confusion={"val": made_confusion(1), "test": made_confusion(0)},
        tracks=[schema.TrackResult("00014/00001", 14, 30, 30, None), schema.TrackResult("00027/00003", 27, 30, 9, 11)],
        examination=examination,
    )
    return replace(made, **changes)


def _latencies(random: np.random.Generator, centre: float, rounds: int, calls: int, drift: np.ndarray) -> Any:
    noise = random.gamma(2.0, 0.02, (rounds, calls))
    tail = (random.random((rounds, calls)) < 0.01) * random.random((rounds, calls))
    return (centre * drift[:, None] * (1 + noise + tail)).tolist()


def made_scenario(name: str, speedup: float, seed: int = 0, rounds: int = 15, **changes: Any) -> schema.Scenario:
    random = np.random.default_rng(seed)
    batch_size, reference_s, calls = (1, 0.0019, 60) if name == "single_stream" else (256, 0.118, 4)
    drift = 1 + 0.06 * random.random(rounds)
    apart = 1 + 0.004 * random.standard_normal(rounds)  # two processes with the same code differ too
    made = schema.Scenario(
        name,
        batch_size,
        _latencies(random, reference_s / speedup, rounds, calls, drift),
        _latencies(random, reference_s, rounds, calls, drift),
        _latencies(random, reference_s, rounds, calls, drift * apart),
        num_warmup=5,
    )
    return replace(made, **changes)


def made_layers(
    scenario: str, speedup: float, seed: int = 0, rounds: int = 10, *, fused: bool = False
) -> schema.LayerTable:
    """Args: fused: as of a runtime that runs some layers as one step and has steps of its own."""
    random = np.random.default_rng(seed + 100)
    batch_size, unit = (1, 4e-5) if scenario == "single_stream" else (256, 2.4e-3)
    known = {name: (kind, megamacs) for name, kind, megamacs in LAYERS}
    inside = {name for group in FUSED for name in group.split("+")}
    names = [*FUSED, *(name for name in known if name not in inside)] if fused else list(known)
    names.sort(key=lambda name: list(known).index(name.split("+")[0]))
    layers = []
    for index, name in enumerate(names):
        members = name.split("+")
        kinds, megamacs = [known[member][0] for member in members], sum(known[member][1] for member in members)
        is_conv = "Conv2d" in kinds
        factor = speedup ** (1.6 if is_conv else -0.4) * (1 + 0.25 * np.sin(index + seed))
        factor = 1.0 if speedup == 1.0 else factor
        reference_s = unit * (megamacs + 0.4 * len(members))
        drift = 1 + 0.05 * random.random(rounds)
        elsewhere = is_conv and speedup != 1.0  # another kernel than the reference's
        layers.append(
            schema.Layer(
                name=name,
                members=members,
                kind="+".join(kinds),
                num_macs=int(megamacs * 1e6),
                num_inputs=64 * 16 * 16,
                num_weights=64 * 64 * 9 if is_conv else 128,
                output_shape=[64, 16, 16] if is_conv else [128],
                latencies_s=_latencies(random, reference_s / factor, rounds, 5, drift),
                reference_latencies_s=_latencies(random, reference_s, rounds, 5, drift),
                control_latencies_s=_latencies(random, reference_s, rounds, 5, drift),
                kernels=["slow_conv2d_forward"] if elsewhere else ["addmm"],
                reference_kernels=["mkldnn_convolution"] if elsewhere else ["addmm"] * len(members),
            )
        )
    if not fused:
        return schema.LayerTable(scenario, batch_size, layers)
    runtime = _latencies(random, unit, rounds, 5, np.ones(rounds))
    return schema.LayerTable(scenario, batch_size, layers, runtime, ["ReorderInput", "ReorderOutput"])


def made_sweep(speedup: float, seed: int = 0, num_threads: int = 4) -> list[schema.SweepPoint]:
    """Batch sizes at all threads, two of them at fewer; the backend gains with the batch, so that curves may cross."""
    random = np.random.default_rng(seed + 200)

    def point(threads: int, batch_size: int) -> schema.SweepPoint:
        reference_s = 0.0015 + 0.00175 * batch_size / threads**0.8
        factor = speedup * (0.75 + 0.25 * np.log2(batch_size + 1) / 8)
        drift = 1 + 0.03 * random.random(5)
        sides = [_latencies(random, seconds, 5, 3, drift) for seconds in (reference_s / factor, reference_s)]
        return schema.SweepPoint(batch_size, threads, *sides)

    some, all_sizes = (1, 256), (1, 8, 32, 128, 256, 512)
    places = ((threads, size) for threads in (1, 2, num_threads) for size in (some, all_sizes)[threads == num_threads])
    failed = schema.SweepPoint(1024, num_threads, [], [], "the process was killed for memory")
    return [*(point(*place) for place in places), failed]


def made_peaks() -> schema.Peaks:
    matmul = {
        "fp32": schema.Peak(183e9, "torch.mm (mkl), 2048 x 2048 x 2048"),
        "bf16": schema.Peak(410e9, "torch.mm (oneDNN), 2048 x 2048 x 2048"),
        "int8": schema.Peak(720e9, "torch._int_mm, 4096 x 1024 x 1024"),
    }
    return schema.Peaks(matmul, copy=schema.Peak(52e9, "512 MiB, 4 threads"))


def made_preprocessing(seed: int = 0) -> schema.PreprocessingTime:
    random = np.random.default_rng(seed + 300)
    decode, resize, normalize = ((centre * (1 + 0.05 * random.random(5))).tolist() for centre in (9e-5, 6e-5, 2e-5))
    return schema.PreprocessingTime(decode, resize, normalize, 200, "PPM")


def precision_of(backend: str) -> str:
    return next((name for name in ("bf16", "int8") if backend.endswith(name)), "fp32")


def made_parity(drop: float = 0.0, **changes: Any) -> schema.Parity:
    made = schema.Parity(
        num_images=1000,
        num_tracks=34,
        error_max=0.31 if drop else 3.1e-05,
        error_mae=0.042 if drop else 4.2e-06,
        sqnr_db=31.3 if drop else 112.3,
        agreement=0.996 if drop else 1.0,
        top1=0.991 - drop,
        reference_top1=0.991,
        num_gained=1 if drop else 0,
        num_lost=1 + round(1000 * drop) if drop else 0,
        top1_drop_interval=(drop - 0.003, drop + 0.004) if drop else (0.0, 0.0),
        top1_drop_allowed=0.005 if drop else 0.0005,
        outcome="passed",
    )
    return replace(made, **changes)


def made_benchmark(backend: str = "torch-blas", *, sweep: bool = False, **changes: Any) -> schema.BenchmarkRecord:
    single, offline = {**SPEEDUPS, **MORE_SPEEDUPS}.get(backend, (1.1, 1.3))
    speedups = {"single_stream": single, "offline": offline}
    seed = sum(backend.encode())
    precision = precision_of(backend)
    drop = 0.0 if precision == "fp32" else 0.002
    fused = backend.startswith(FUSING)
    compile_s = 9.4 if "compile" in backend else 0.0
    num_bytes = int(1.3e6 * {"fp32": 1, "bf16": 0.5, "int8": 0.25}[precision])
    odd = "the same kernels as without the switch" if backend == "torch-onednn-fastmath" else ""
    made = replace(
        made_failed_benchmark(backend, "ok", ""),
        accuracy=made_accuracy(0.9871 - drop),
        parity=made_parity(drop),
        proof=schema.Proof(
            "convolutions run in oneDNN", {"aten::mkldnn_convolution": 9, "aten::addmm": 1}, True, investigate=odd
        ),
        preparation=schema.Preparation(1.8 * fused, num_bytes * fused, 512 if precision == "int8" else 0),
        cold_start=schema.ColdStart(0.9 if "torch" in backend else 0.15, 0.12, compile_s, 0.034, 412 * 2**20),
        reference_cold_start=schema.ColdStart(0.91, 0.11, 0.0, 0.041, 398 * 2**20),
        scenarios=[
            made_scenario(name, speedup, seed + (name == "offline"), compile_s=compile_s)
            for name, speedup in speedups.items()
        ],
        layers=[made_layers(name, speedup, seed, fused=fused) for name, speedup in speedups.items()],
        peaks=made_peaks(),
        preprocessing=made_preprocessing(seed),
        sweep=made_sweep(offline, seed) if sweep else [],
    )
    return replace(made, **changes)


def made_failed_benchmark(
    backend: str, status: schema.Status = "unavailable", error: str = "no aarch64 wheel"
) -> schema.BenchmarkRecord:
    return schema.BenchmarkRecord(
        **_common(),
        backend=backend,
        is_network=backend != "null",
        reference=REFERENCE,
        precision=precision_of(backend),
        storage=precision_of(backend),
        model="signnet",
        recipe="minute",
        random_weights=False,
        status=status,
        error=error,
    )


def made_common(**changes: Any) -> dict[str, Any]:
    """What a notebook describes of its run; `seed` and `profile` are parameters, the rest changes its environment."""
    params = {name: changes.pop(name) for name in ("seed", "profile") if name in changes}
    started = "2026-11-24T14:00:00+00:00"
    common = _common() | {"params": params, "environment": vars(made_environment(**changes)), "started": started}
    return common | {"profile": params.get("profile", "fast"), "data": None, "checkpoint_sha256": None}


def made_compare(**changes: Any) -> schema.CompareRecord:
    made = schema.CompareRecord(
        **_common(),
        headline="Offline: onnxruntime-int8, 1.94x faster [1.92, 1.96] than torch-onednn, at equal top-1.",
        layers="From torch-blas to torch-onednn at batch 256, 8 of 11 layers run another kernel: 7 run faster, 1 "
        "slower.",
        backends=list(SPEEDUPS),
        missing=[],
        speeds={},
    )
    return replace(made, **changes)


def made_released(**changes: Any) -> schema.ReleaseRecord:
    """Of a release that is in no folder."""
    made = schema.ReleaseRecord(
        **_common(),
        name="synthetic-minute",
        version="2026-11-24.cdcdcdcd",
        digest="ef" * 32,
        place="release",
        num_bytes=4_000_000,
        models=[
            schema.ReleasedModel("onnx/model.onnx", "01" * 32, 2_355_427, "onnxruntime"),
            schema.ReleasedModel("onnx/model_quantized.onnx", "02" * 32, 633_054, "onnxruntime-int8"),
            schema.ReleasedModel("onnx/model_uint8.onnx", "03" * 32, 2_355_834, "", "onnx/model.onnx"),
        ],
        links=["trained: model.safetensors is the checkpoint of the training", "samples: each model gives its logits"],
        notes=["consistent, not authentic: there is no signature"],
    )
    return replace(made, **changes)


def write_made_run(run_dir: Path, backends: Iterable[str] = SPEEDUPS, **changes: Any) -> Path:
    """All records of a run in their places; `changes` go into each of them."""
    measured = list(backends)
    records = {
        "01_explore": made_explore(**changes),
        "02_train": made_train(**changes),
        **{f"03_benchmark.{backend}": made_benchmark(backend, **changes) for backend in measured},
        "04_compare": made_compare(**{"backends": measured, **changes}),
        "05_release": made_released(**changes),
    }
    for label, record in records.items():
        schema.write_record(record, run_dir / "results" / f"{label}.json")
    return run_dir


def listed_job(run_dir: Path, notebook: str, backend: str = "", status: str = "ok", **changes: Any) -> Job:
    """A job as the list of a run has it, with its page and executed notebook, of 1,000 bytes, in the folder."""
    label = f"{notebook}.{backend}" if backend else notebook
    files: dict[str, Any] = {"page": f"pages/{label}.html", "executed": f"notebooks/{label}.ipynb"}
    for path in files.values():
        (run_dir / path).parent.mkdir(exist_ok=True, parents=True)
        (run_dir / path).write_text("x" * 1000)
    job = Job(notebook, backend, status, **files, record=f"results/{label}.json", seconds=12.3, started=STARTED)
    return replace(job, **changes)


def write_run_files(
    folder: Path, records: Mapping[str, schema.Record], statuses: Mapping[str, str] | None = None
) -> Path:
    """What the launcher leaves of jobs, by label: record, executed notebook and page; and their list."""
    jobs = []
    for label, record in records.items():
        notebook, _, backend = label.partition(".")
        schema.write_record(record, schema.record_path(folder, notebook, backend))
        status = (statuses or {}).get(label, getattr(record, "status", "ok"))
        jobs.append(listed_job(folder, notebook, backend, status, seconds=2.0, started=""))
    write_jobs(folder, jobs)
    return folder
