"""Print the section of CHANGELOG.md that a tag releases, or say why it releases none.

python .github/release_notes.py v0.2.0
"""

from __future__ import annotations

import configparser
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def notes(tag: str, changelog: str, version: str) -> str:
    """The text below the changelog's heading of a tag's version.

    Raises:
        ValueError: the tag is not ``v`` and the version, or the changelog has no such section, or calls it unreleased.
    """
    if tag != f"v{version}":
        raise ValueError(f"tag: found {tag}, allowed: v{version}, the version of setup.cfg")
    sections = re.split(r"^## (.*)\n", changelog, flags=re.MULTILINE)[1:]
    for heading, text in zip(sections[::2], sections[1::2], strict=True):
        if heading.split()[0] == version:
            if "unreleased" in heading.lower():
                raise ValueError(f"CHANGELOG.md: found {heading!r}, allowed: a heading with a date")
            return text.strip() + "\n"
    raise ValueError(f"CHANGELOG.md: found no section {version}, allowed: one that begins with '## {version}'")


def main() -> None:
    """Write the notes of the tag that the command line names."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    try:
        found = notes(sys.argv[1], (ROOT / "CHANGELOG.md").read_text(), config["metadata"]["version"])
    except ValueError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(found)


if __name__ == "__main__":
    main()
