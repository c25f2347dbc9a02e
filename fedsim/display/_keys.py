"""The list of all keys. Making it imports every member of every kind, so it is kept until the code changes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.table import Table

from fedsim.config import Config, registries
from fedsim.display._tables import plain_table
from fedsim.registry import Registry
from fedsim.settings import Settings

#: Key, default and what it is; None between groups.
Row = tuple[str, str, str] | None


def list_keys() -> Table:
    """Every key once: those of a member of a registry below its name."""
    kept = Path(os.environ.get("FEDSIM_CACHE", "~/.cache/fedsim")).expanduser() / f"keys-{_source()}.json"
    try:
        rows = json.loads(kept.read_text())
    except (OSError, ValueError):
        rows = key_rows()
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            for older in kept.parent.glob("keys-*.json"):
                older.unlink(missing_ok=True)
            hidden = kept.with_suffix(f".{os.getpid()}")
            hidden.write_text(json.dumps(rows))
            hidden.replace(kept)
    table = plain_table("key", "default", "what it is")
    for row in rows:
        table.add_section() if row is None else table.add_row(*row)
    return table


def key_rows() -> list[Row]:
    """The rows of the list."""
    rows: list[Row] = []
    kinds = registries()
    for key, info in Config.model_fields.items():
        group = _settings_of(info.annotation)
        if group is None:
            rows.append((key, str(info.default), info.description or ""))
        for name, nested in group.model_fields.items() if group else ():
            rows.append((f"{key}.{name}", str(nested.default), nested.description or ""))
        for chooser, registry in kinds.items():
            if chooser.partition(".")[0] == key:
                rows += _member_rows(chooser, registry, group.model_fields if group else {})
        rows.append(None)
    return rows


def _member_rows(group: str, registry: Registry[Any], common: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = []
    if "." in group:  # a group or a key inside another one, whose own keys are listed here
        # A key that chooses a member has its own line already; the name in a group of keys does not.
        rows.append((f"{group}:" if registry.field == group else registry.field, "", "one of"))
        common = {"name": None}
    seen: set[str] = set()
    for member in registry:
        fields = getattr(member, "Params", Settings).model_fields
        own = {key: info for key, info in fields.items() if key not in common}
        again = [
            f"{key}={default}" if (default := own[key].get_default(call_default_factory=True)) is not None else key
            for key in own
            if key in seen
        ]
        rows.append((f"  {member.name}", "", member.summary + (f"; also {', '.join(again)}" if again else "")))
        for key, info in own.items():
            if key not in seen and key != "compressor":
                rows.append((f"    {group}.{key}", str(info.default), info.description or ""))
        seen |= own.keys() - {"compressor"}
    return rows


def _settings_of(annotation: Any) -> type[Settings] | None:
    """The group that a field holds, perhaps optionally."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((one for one in candidates if isinstance(one, type) and issubclass(one, Settings)), None)


def _source() -> str:
    """A digest of the state of this package's files."""
    state = hashlib.blake2b(digest_size=8)
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        found = file.stat()
        state.update(f"{file} {found.st_size} {found.st_mtime_ns}\n".encode())
    return state.hexdigest()
