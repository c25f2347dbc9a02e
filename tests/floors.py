"""Print the lowest versions that setup.cfg allows, as constraints for pip.

python tests/floors.py > floors.txt
"""

import configparser
import re
from pathlib import Path

_REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=([0-9.]+)$")


def floors(path: Path) -> list[str]:
    """A line ``name==version`` for each requirement of a setup.cfg that states a lowest version."""
    config = configparser.ConfigParser()
    config.read(path)
    lines = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    found = (_REQUIREMENT.match(line.strip()) for text in lines for line in text.splitlines())
    return sorted({f"{match[1]}=={match[2]}" for match in found if match})


if __name__ == "__main__":
    print("\n".join(floors(Path(__file__).parents[1] / "setup.cfg")))
