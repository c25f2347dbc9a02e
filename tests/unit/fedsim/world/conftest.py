"""Tables as users have them."""

import pytest


@pytest.fixture(params=["parquet", "csv"])
def written(request, tmp_path):
    """Writes a frame in one of the formats that are read, and returns the path."""

    def write(frame):
        path = tmp_path / f"table.{request.param}"
        frame.to_parquet(path) if request.param == "parquet" else frame.to_csv(path, index=False)
        return str(path)

    return write
