"""Elias omega codes of sparse levels."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedsim.compression.elias import read_sparse, write_sparse


@given(hnp.arrays(np.int32, st.integers(1, 400), elements=st.integers(-(2**16), 2**16)))
def test_elias_codes_round_trip(levels):
    data = np.frombuffer(write_sparse(levels), np.uint8)
    assert np.array_equal(read_sparse(data, np.count_nonzero(levels), levels.size, 2**16), levels)


def test_elias_codes_are_those_of_the_table():
    # omega(1) = 0, omega(2) = 100, omega(17) = 10100100010 (Elias 1975): gap, sign, level.
    for index, level, bits in ((0, 1, "000"), (1, -2, "1001100"), (16, 1, "1010010001000")):
        levels = np.zeros(20, np.int32)
        levels[index] = level
        padded = bits + "0" * (-len(bits) % 8)
        assert write_sparse(levels) == int(padded, 2).to_bytes(len(padded) // 8, "big")
