"""Files that commands write, also to object stores."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written(place: str) -> Iterator[Path]:
    """A local path to write a file or a folder to, which is copied to ``place`` where that is a URI.

    Raises:
        LocationError: the URI cannot be opened.
    """
    if "://" not in place:
        yield Path(place)
        return
    from pyarrow import fs

    from results import locations

    filesystem, path = locations.open_filesystem(place)
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / path.rpartition("/")[2]
        yield local
        sources = [local] if local.is_file() else [file for file in local.rglob("*") if file.is_file()]
        for source in sources:
            target = path if source == local else f"{path}/{source.relative_to(local).as_posix()}"
            if isinstance(filesystem, fs.LocalFileSystem):
                filesystem.create_dir(target.rpartition("/")[0], recursive=True)
            with filesystem.open_output_stream(target) as stream:
                stream.write(source.read_bytes())
