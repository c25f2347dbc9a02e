import numpy as np
import torch

from fedsim.features._resident import Resident


def test_rows_are_read_once_and_stay():
    stored = np.arange(24, dtype=np.float16).reshape(8, 3)
    read = []

    def reader(rows):
        read.append(rows.tolist())
        return stored[rows]

    resident = Resident(8, (3,), stored.dtype, torch.device("cpu"))
    for rows in ([5, 1], [1, 2, 5], [5, 2, 1]):
        found = resident(np.array(rows), reader)
        assert found.dtype == torch.float16
        assert np.array_equal(found.numpy(), stored[rows])
    assert read == [[5, 1], [2]]
