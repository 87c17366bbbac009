"""What a run must reach: `.github/gate.toml`, read strictly. A name or a number that makes no sense is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import pydantic

from lib.errors import UserError
from lib.files import PROJECT_ROOT, project_path
from lib.records.schema import Profile

LIMITS = PROJECT_ROOT / ".github" / "gate.toml"
_Share = Annotated[float, pydantic.Field(ge=0, le=1)]
_Strict = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class AtLeast(pydantic.BaseModel):
    """Below `floor`: fail. More than `budget` below `expected`: investigate. All are shares, 0..1."""

    model_config = _Strict
    floor: _Share
    expected: _Share
    budget: _Share

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> AtLeast:
        if self.expected - self.budget < self.floor:
            raise ValueError("expected - budget is below the floor, so that nothing would ever be investigated")
        return self


class AtMost(pydantic.BaseModel):
    """Above `limit`: fail. Above `watch`: investigate."""

    model_config = _Strict
    limit: Annotated[float, pydantic.Field(ge=0)]
    watch: Annotated[float, pydantic.Field(ge=0)]

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> AtMost:
        if self.watch > self.limit:
            raise ValueError("watch is above the limit, so that nothing would ever be investigated")
        return self


class Accuracy(pydantic.BaseModel):
    """What one training must reach on one split."""

    model_config = _Strict
    top1: AtLeast
    worst_class: AtLeast | None = None  # none where one track of a class, or less, decides its recall


class Limits(pydantic.BaseModel):
    """The whole file."""

    model_config = _Strict
    accuracy: dict[str, dict[Profile, dict[str, dict[str, Accuracy]]]]  # by data set, profile, recipe and split
    page_bytes: AtMost  # of one page

    def accuracy_of(self, dataset: str, profile: Profile, recipe: str, split: str) -> Accuracy | None:
        """The entry of one training, None where nothing is stated."""
        return self.accuracy.get(dataset, {}).get(profile, {}).get(recipe, {}).get(split)


def load_limits(path: Path | None = None) -> Limits:
    """Read the limits; by default those of the project.

    Raises:
        UserError: no such file, not TOML, an unknown or missing name, or a number that makes no sense.
    """
    source = project_path(path) if path is not None else LIMITS
    try:
        content = tomllib.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no limits {source}; give a file with --limits") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{source} is not readable TOML: {error}") from None
    try:
        return Limits.model_validate(content)
    except pydantic.ValidationError as error:
        # a misspelt name comes before the one that is missing because of it
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(f"{source}: {place}: {first['msg']}") from None
