"""What a checkpoint says about its weights. Read from the file's header alone, without torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import pydantic
import safetensors

from lib.data.images import WHOLE
from lib.data.preprocessing import Preprocessing
from lib.errors import UserError

FORMAT = "gtsrb-checkpoint-2"


@dataclass(frozen=True)
class CheckpointMetadata:
    """What the file says about its weights."""

    architecture: str
    recipe: str
    profile: str
    num_epochs: Annotated[int, pydantic.Field(ge=0)]
    seed: int
    data_source: str
    data_hash: str
    classes: Annotated[tuple[str, ...], pydantic.Field(min_length=2)]  # their names, by the index of their logit
    preprocessing: Preprocessing
    crop: str = WHOLE  # what of each image it was trained on, see `lib.data.images.crop_margin`
    extra_hash: str = ""  # of extra training images; empty: none
    temperature: Annotated[float, pydantic.Field(gt=0)] = 1.0  # that logits are divided by before the softmax
    least_confidence: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.0  # below which an answer is "no sign"

    @property
    def random_weights(self) -> bool:
        """True for a network that was not trained."""
        return self.num_epochs == 0


_METADATA = pydantic.TypeAdapter(CheckpointMetadata)  # made here: its time is none of loading a checkpoint


def written_header(metadata: CheckpointMetadata) -> str:
    """What `parse_header` reads. A `crop` of the whole image is left out, so that files stay equal to earlier ones."""
    fields = asdict(metadata)
    return json.dumps({name: value for name, value in fields.items() if (name, value) != ("crop", WHOLE)})


def parse_header(path: Path, header: dict[str, str], remedy: str) -> CheckpointMetadata:
    """The metadata in the header of a safetensors file.

    Args:
        remedy: what to do about a file that is not ours.

    Raises:
        UserError: not ours, or incomplete or out of range.
    """
    if FORMAT not in header:
        raise UserError(f"{path} is not a checkpoint of this project (no {FORMAT} in its metadata); {remedy}")
    try:
        return _METADATA.validate_json(header[FORMAT], strict=True, extra="forbid")
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path} has damaged checkpoint metadata at {place!r}: {first['msg']}; {remedy}") from None


def read_header(path: Path, remedy: str) -> CheckpointMetadata:
    """The metadata of a checkpoint file, without its weights.

    Raises:
        UserError: as `parse_header`, or a file that is not readable.
    """
    try:
        with safetensors.safe_open(path, framework="np") as file:
            header = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} is not a readable checkpoint ({error}); {remedy}") from None
    return parse_header(path, header, remedy)
