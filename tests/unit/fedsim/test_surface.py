"""The public surface, frozen in a file: a new key, member or column is a line of the diff, and none goes unseen.

``python -m tests.unit.fedsim.test_surface`` writes the file anew.
"""

from pathlib import Path

import fedsim
from fedsim.config import Config, registries
from results.schema import PARTED, RUNS

FILE = Path(__file__).with_name("surface.txt")


def surface() -> list[str]:
    """A line for each name, key and column that users write or read."""
    lines = [f"fedsim.{name}" for name in fedsim.__all__]
    for group in ("train", "evaluate", "privacy", "log", "cluster"):
        settings = Config.model_fields[group].annotation
        [settings] = [one for one in (settings, *getattr(settings, "__args__", ())) if hasattr(one, "model_fields")]
        lines += [f"{group}.{key}" for key in settings.model_fields]
    lines += [key for key in Config.model_fields if key not in registries()]
    for field, registry in registries().items():
        for member in registry:
            lines += [f"{field} {member.name}"]
            keys = getattr(getattr(member, "Params", None), "model_fields", ())
            lines += [f"{field} {member.name}: {key}" for key in keys]
    for table, schema in {"runs": RUNS, **PARTED}.items():
        lines += [f"{table}.{name}" for name in schema.names]
    return sorted(lines)


def test_the_surface_is_that_of_the_file():
    assert surface() == FILE.read_text().splitlines()


if __name__ == "__main__":
    FILE.write_text("\n".join(surface()) + "\n")
