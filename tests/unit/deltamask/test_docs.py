"""The code of the library's guide runs, block after block."""

import re
from pathlib import Path

import torch

GUIDE = Path(__file__).parents[3] / "docs" / "library.md"


def test_the_guide_runs():
    names, state = {}, torch.get_rng_state()
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    for block in blocks:
        exec(block, names)
    torch.set_rng_state(state)
    assert len(blocks) == 4
    assert names["server"].round == 3
    assert 0 < 8 * len(names["update"].payload) / names["net"].size < 1
