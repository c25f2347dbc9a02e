"""Whether two files of rounds say the same; prints both, and exits with 1 where they differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(simulated: Path, flower: Path) -> int:
    ours, theirs = (json.loads(path.read_text()) for path in (simulated, flower))
    print(f"{'round':>5} {'uplink bytes':>14} {'accuracy':>9} {'state':>17}  Flower's are")
    for index in sorted(ours.keys() | theirs.keys(), key=int):
        row, other = ours.get(index, {}), theirs.get(index, {})
        shown = f"{row.get('uplink_bytes', '-'):>14} {row.get('accuracy', 0):>9.4f} {row.get('state_digest', '-'):>17}"
        print(f"{index:>5} {shown}  {'the same' if row == other else other}")
    return int(ours != theirs or not ours)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
