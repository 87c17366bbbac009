"""The model card, filled from what the records say. `verify` makes it again and compares."""

from __future__ import annotations

import json

from lib.data.images import WHOLE
from lib.header import CheckpointMetadata
from lib.records.schema import Accuracy
from lib.release.reader import FP32, Manifest, Speed

EXAMPLE = """\
import json, sys
import numpy, onnxruntime
from PIL import Image
config, prepare = (json.load(open(name)) for name in ("config.json", "preprocessor_config.json"))
image = Image.open(sys.argv[1]).convert("RGB").resize((config["image_size"],) * 2, prepare["resample"])
pixels = numpy.asarray(image, "float32").transpose(2, 0, 1)[None] / numpy.float32(255)
mean, std = (numpy.array(prepare[f"image_{name}"], "float32").reshape(3, 1, 1) for name in ("mean", "std"))
session = onnxruntime.InferenceSession("onnx/model.onnx")
(logits,) = session.run(["logits"], {"images": (pixels - mean) / std})
print(config["id2label"][str(logits.argmax())])
"""


def card_of(manifest: Manifest, network: CheckpointMetadata) -> str:
    """`README.md`."""
    sections = [_front_matter(manifest), _about(manifest, network), _accuracy(manifest, network), _speed(manifest)]
    return "\n".join([*sections, _use(manifest), _provenance(manifest)])


def _front_matter(manifest: Manifest) -> str:
    """What model hubs read: YAML, with every value as JSON writes it, which is YAML too."""
    lines = [
        "---",
        "license: apache-2.0",
        "library_name: onnx",
        "pipeline_tag: image-classification",
        "tags: [traffic-signs, gtsrb, onnx, onnxruntime]",
        "metrics: [accuracy]",
        "model-index:",
        f"- name: {json.dumps(manifest.name)}",
        "  results:",
    ]
    for split, found in manifest.figures.accuracy.items():
        lines += [
            "  - task: {type: image-classification}",
            f"    dataset: {{name: {json.dumps(manifest.figures.data)}, type: {json.dumps(manifest.figures.data)}, "
            f"split: {split}}}",
            f"    metrics: [{{type: accuracy, name: top-1, value: {found.top1!r}}}]",
        ]
    return "\n".join([*lines, "---", ""])


def _about(manifest: Manifest, network: CheckpointMetadata) -> str:
    smoke = manifest.profile == "smoke"
    warning = (
        "> **A smoke run made this. It shows that everything works; its figures mean nothing.**\n\n" if smoke else ""
    )
    cropped = f", cropped to the sign (`{network.crop}`): crop yours alike" if network.crop != WHOLE else ""
    return f"""# {manifest.name} {manifest.version}

{warning}Reads German traffic signs: one image of one sign in, one of {len(network.classes)} classes out.
The network is `{manifest.architecture}`, trained with the recipe `{manifest.recipe}` on images of
{network.preprocessing.image_size} x {network.preprocessing.image_size} pixels{cropped}.

## Intended use

Teaching, research, and comparing inference backends on CPUs. The input is a crop that holds one sign, as a detector
would cut it out. It is not a safety component: do not let it drive.

## Limits

- It always answers with one of its classes, also for a sign that is none of them, or for no sign at all.
  Below a probability of {manifest.least_confidence:.4g} (`least_confidence` in `release.json`; 0: not fitted), take an
  answer for "no sign". On validation, 1 % of the signs are below it. A picture of something else may be above it.
- It knows signs as its training images show them (`{manifest.figures.data}`), and nothing about other countries. If
  those images were drawn, its accuracy on photographs is not known.
- Its probabilities are a softmax of the logits divided by {manifest.temperature:.4g} (`temperature` in `release.json`,
  fitted on validation; 1: not fitted). A cropped, dirty or blurred sign may get a confident wrong answer.
"""


def _accuracy(manifest: Manifest, network: CheckpointMetadata) -> str:
    figures = manifest.figures
    lines = [
        "## Accuracy",
        "",
        "| images | top-1 | 95 % interval | images, tracks | worst class |",
        "|---|---|---|---|---|",
    ]
    for split, found in figures.accuracy.items():
        worst = f"{network.classes[found.worst_class]}, {_percent(found.worst_class_recall)}"
        tracks = "tracks unknown" if found.num_tracks is None else f"{found.num_tracks:,} tracks"
        counted = f"{found.num_images:,}, {tracks}"
        lines.append(f"| {split} | {_percent(found.top1)} | {_interval(found)} | {counted} | {worst} |")
    lines += ["", "Intervals are bootstrapped over tracks: the frames of one sign are not independent.", ""]
    lines += [
        f"- `{path}`: {_percent(top1)} on the validation images" for path, top1 in figures.measured_accuracy.items()
    ]
    weak = "\n".join(f"- {found.label}: {_percent(found.recall)}" for found in figures.weak_classes)
    return "\n".join([*lines, "", "Weakest classes, by recall:", "", weak, ""])


def _speed(manifest: Manifest) -> str:
    lines = [
        "## Speed",
        "",
        "| backend | scenario | p50 | p99 | images/s | over the reference | machine |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_speed_line(speed) for speed in manifest.figures.speeds]
    return "\n".join(
        [*lines, "", "The speedup is the figure to compare: both sides ran in turn on the same machine.", ""]
    )


def _speed_line(speed: Speed) -> str:
    ratio = "disturbed, not judged"
    if speed.speedup is not None:
        value, low, high = speed.speedup
        ratio = f"{value:.2f}x [{low:.2f}, {high:.2f}] of `{speed.reference}`"
    times = f"{1000 * speed.p50_s:.3g} ms | {1000 * speed.p99_s:.3g} ms | {speed.images_per_s:,.0f}"
    where = f"{speed.cpu}, {speed.num_threads} threads"
    return f"| `{speed.backend}` | {speed.scenario}, batch {speed.batch_size} | {times} | {ratio} | {where} |"


def _use(manifest: Manifest) -> str:
    lines = ["## Files", ""]
    for model in manifest.models:
        how = f"measured with `{model.backend}`"
        if not model.backend:
            how = (
                f"made of `{model.made_of}`, not measured; takes `pixels`, uint8 (N, H, W, 3); largest difference of "
                f"logits {model.error_max:.2g}"
            )
        lines.append(f"- `{model.path}`: {how}")
    return "\n".join(
        [
            *lines,
            "",
            "## Use it",
            "",
            f"With onnxruntime, numpy and pillow alone, in this folder (`{FP32}` takes batches of any size):",
            "",
            "```python",
            EXAMPLE.rstrip(),
            "```",
            "",
        ]
    )


def _provenance(manifest: Manifest) -> str:
    figures = manifest.figures
    counts = ", ".join(f"{count:,} {split}" for split, count in figures.num_images.items())
    given = " ".join(f"-p {name} {value}" for name, value in manifest.parameters.items() if value)
    changed = " with changes that are in no commit" if manifest.commit.endswith("+") else ""
    extra = f" and of the extra training images `{figures.extra_hash}`" if figures.extra_hash else ""
    hashes = f"`{figures.data_hash}`{extra}"
    commit = f"commit `{manifest.commit.rstrip('+')}`{changed}" if manifest.commit else "a commit that is not known"
    return f"""## Where it comes from

- Data: `{figures.data}`, {counts}; SHA-256 of the manifest {hashes}. `training-images.sha256` has the
  SHA-256 of every training image.
- Checkpoint: `{manifest.checkpoint_sha256}`
- Trained by {commit}. To make it again, check that out and run
  `python -m lib run {given}`.
- `records/` has the records of the training and of the measurements.
- `python -m lib verify FOLDER` checks, from the files alone, that each file has its hash and that every figure here
  follows from `records/`.

## Licences

Code and weights: Apache-2.0. Where the data set is GTSRB, the images in `samples/` come from the Institut für
Neuroinformatik, Bochum (Stallkamp et al., IJCNN 2011), whose terms hold for them.
"""


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _interval(found: Accuracy) -> str:
    if found.top1_interval is None:
        return "unknown"
    low, high = found.top1_interval
    return f"{100 * low:.2f} to {100 * high:.2f} %"
