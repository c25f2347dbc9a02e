import pytest

import results


@pytest.fixture
def store(tmp_path):
    return results.RunStore(str(tmp_path), "run-a")
