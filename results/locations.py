"""Places of results: local paths, and URIs of object stores."""

from __future__ import annotations

import os

import pyarrow as pa
from pyarrow import fs

from results.errors import LocationError


def open_filesystem(location: str) -> tuple[fs.FileSystem, str]:
    """The filesystem and path of a local path or a URI such as ``s3://bucket/runs``.

    Raises:
        LocationError: the URI cannot be opened.
    """
    if "://" in location:
        try:
            filesystem, path = fs.FileSystem.from_uri(location)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise LocationError(
                f"found {location!r}, allowed: a local path or an s3://, gs:// or file:// URI ({error})"
            ) from error
        return filesystem, path
    return fs.LocalFileSystem(), location


def join(location: str, name: str) -> str:
    """A place below another; options of a URI (``?endpoint_override=...``) stay at its end."""
    folder, mark, options = location.partition("?") if "://" in location else (location, "", "")
    return f"{folder.rstrip('/')}/{name}{mark}{options}"


def split(location: str) -> tuple[str, str]:
    """The folder that a place is in, an absolute path where it is local, and its name there."""
    if "://" not in location:
        folder, name = os.path.split(os.path.abspath(location))
        return folder, name
    path, mark, options = location.partition("?")
    folder, _, name = path.rstrip("/").rpartition("/")
    return f"{folder}{mark}{options}", name


def write(filesystem: fs.FileSystem, path: str, data: bytes | memoryview, hidden: str) -> None:
    """Write or replace a file, atomically, and on a local filesystem so that it survives a loss of power.

    Args:
        filesystem: where.
        path: the file.
        data: all of it.
        hidden: on a local filesystem, the file to write first, in an existing folder or that of ``path``.
    """
    if not isinstance(filesystem, fs.LocalFileSystem):
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(hidden, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(hidden, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(filesystem: fs.FileSystem, path: str) -> bytes | None:
    """All of a file, or None when there is none."""
    try:
        with filesystem.open_input_stream(path, compression=None) as stream:
            return bytes(stream.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
