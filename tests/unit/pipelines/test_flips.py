"""Flips of real rounds, which the benchmark of the codecs is about."""

from deltamask import codecs
from pipelines.benchmarks.flips import of_real_rounds


def test_flips_of_real_rounds_are_those_that_are_sent():
    flips = of_real_rounds("deltamask", {"name": "tiny-vit"}, rounds=1, samples=64, seed=0)
    body = codecs.get("range").encode_given(flips.indices, flips.theta_d, flips.key)
    assert 8 * len(body) < 0.4 * 8 * len(codecs.get("fuse8+png").encode(flips.indices, flips.theta_d.size))
