"""Columns of tables: which is meant, the labels and classes in one, and whose samples are whose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.errors import DataError

#: What columns of labels are usually called, and the splits for testing.
LABEL_NAMES = ("label", "labels", "fine_label", "class")
TEST_NAMES = ("test", "validation", "valid", "val")

_MAX_CLASSES = 100_000
_SHOWN_CLASSES = 10  # in a message


def choose_column(key: str, given: str | None, usual: Sequence[str], columns: Sequence[str], place: object) -> str:
    """The column that is given, else the first of the usual ones that is there.

    Args:
        key: what gives it, such as ``"data.label_column"``.
        given: its name, if any.
        usual: names that are looked for without one.
        columns: those of the table.
        place: where the table is, for a message.

    Raises:
        DataError: there is no such column.
    """
    for name in [given] if given else usual:
        if name in columns:
            return name
    raise DataError(f"{key}: found {given or 'none'}, allowed: a column of {place}: {', '.join(columns)}")


def check_labels(labels: pa.ChunkedArray, column: str, place: object) -> pa.ChunkedArray:
    """The same labels. Raises DataError where they are neither whole numbers nor text."""
    kind = labels.type.value_type if pa.types.is_dictionary(labels.type) else labels.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(f"{column}: found labels of the type {kind} in {place}, allowed: whole numbers or text")
    return labels


def check_whole(values: pa.ChunkedArray, column: str, place: object) -> pa.ChunkedArray:
    """The same values. Raises DataError where some are empty."""
    if values.null_count:
        raise DataError(f"{column}: found {values.null_count} empty values in {place}, allowed: none")
    return values


def class_names(labels: pa.ChunkedArray, names: Sequence[str], column: str, place: object) -> Sequence[str]:
    """Names of the classes, in the order of the labels.

    Args:
        labels: of the training split, whole numbers or text.
        names: of numbered classes, where something names them.
        column: of the labels.
        place: where they are, for a message.

    Raises:
        DataError: a label is beyond the names, or beyond reason.
    """
    if not pa.types.is_integer(labels.type):
        return sorted(set(labels.cast(pa.string()).to_pylist()))
    count = int(pc.max(labels).as_py()) + 1
    if count > _MAX_CLASSES:
        row = pc.index(labels, count - 1).as_py()
        raise DataError(
            f"{column}: found label {count - 1} in row {row} of {place}, allowed: 0 to {_MAX_CLASSES - 1:,}"
        )
    if names and len(names) < count:
        raise DataError(f"{column}: found label {count - 1}, allowed: 0 to {len(names) - 1}, by class names")
    return names or [str(index) for index in range(count)]


def class_indices(labels: pa.ChunkedArray, classes: Sequence[str], column: str, place: object) -> np.ndarray:
    """Positions of labels among the classes, as int64 of shape ``(n,)``.

    Raises:
        DataError: a label is that of no class.
    """
    whole = pa.types.is_integer(labels.type)
    if whole:
        indices = labels.to_numpy(zero_copy_only=False).astype(np.int64)
    else:
        indices = pc.index_in(labels.cast(pa.string()), pa.array(classes)).fill_null(-1).to_numpy().astype(np.int64)
    bad = np.flatnonzero((indices < 0) | (indices >= len(classes)))
    if bad.size:
        allowed = f"0 to {len(classes) - 1}" if whole else ", ".join(map(str, classes[:_SHOWN_CLASSES]))
        raise DataError(
            f"{column}: found {labels[int(bad[0])].as_py()!r} in row {bad[0]} of {place}, allowed: {allowed}"
        )
    return indices


def group_indices(values: pa.ChunkedArray) -> np.ndarray:
    """Whose each sample is: values of a column, numbered in the order of their texts, as int64 of shape ``(n,)``."""
    texts = np.array(values.cast(pa.string()).to_pylist())
    return np.unique(texts, return_inverse=True)[1].astype(np.int64)
