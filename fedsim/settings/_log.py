"""The keys of who else is told of a run."""

from __future__ import annotations

from pydantic import Field, field_validator

from fedsim.registry import check_trusted
from fedsim.settings._settings import Settings


class LogSettings(Settings):
    """Loggers and callbacks; they change no result, and need the extras of their names."""

    tensorboard: str | None = Field(None, description="folder of TensorBoard logs, in which each run has its own")
    mlflow: str | None = Field(None, description="MLflow tracking URI, such as http://host:5000 or sqlite:///mlflow.db")
    wandb: str | None = Field(None, description="Weights & Biases project")
    callbacks: tuple[str, ...] = Field(
        (), description="subclasses of fedsim.Callback to tell, each as package.module:Class"
    )

    @field_validator("callbacks")
    @classmethod
    def _names_of_classes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not all(name.partition(":")):
                raise ValueError(f"found {name!r}, allowed: package.module:Class")
            check_trusted(name, "log.callbacks")
        return value
