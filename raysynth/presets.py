"""Settings whose defaults go by a preset: those of a family's paper, or better ones found since."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, model_validator


class Presets(BaseModel):
    """Settings of a family. Defaults of the fields are the paper's; `improved` replaces some."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    improved: ClassVar[Mapping[str, Any]]

    preset: Literal["paper", "improved"] = "improved"  # what all settings are that are not given

    @model_validator(mode="before")
    @classmethod
    def _chosen(cls, values: Any) -> Any:
        default = cls.model_fields["preset"].default
        if isinstance(values, Mapping) and values.get("preset", default) == "improved":
            return {**cls.improved, **values}
        return values
