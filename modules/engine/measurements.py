"""What was measured on this machine is kept here, in one small JSON file that any process may write.

A write reads the file again, adds what this process knows and takes the file's place in one move: a reader
never sees half a file, and what another process's write left out comes back with the next one. A file that
cannot be read is begun anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

VERSION = 1  # of the file: one of another version is begun anew
KEPT = 12  # of the same kind of work
PLACES = 40


class Observation(NamedTuple):
    """One part of one run: what work, how much of it, how long it took, what memory it took beside weights.

    `part` is start, call or decode; `amount` is in megapixels. `bytes` is 0 where nobody counts.
    """

    at: float
    part: str
    kind: str
    amount: float
    seconds: float
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a measurement holds for: these weights on this device, so computed; `weights` are their bytes."""

    model: str
    hash: str
    device: str
    dtype: str
    threads: int
    weights: int = field(default=0, compare=False)

    @property
    def key(self) -> str:
        """Its name in the file."""
        return f"{self.hash} {self.device} {self.dtype} {self.threads}"


Known = dict[Place, list[Observation]]


class Measurements:
    """The measurements of one file; safe to use from many threads."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        self._known: Known | None = None
        self._mine: Known = {}

    def add(self, place: Place, observations: Iterable[Observation]) -> None:
        """Keep what was observed at a place; a disk that refuses it keeps it from the file alone."""
        with self._lock:
            mine = trimmed([*self._mine.pop(place, []), *observations])
            self._mine[place] = mine  # at the end, with its newest weights
            known = read(self.path)
            for one, seen in self._mine.items():
                merged = trimmed({*known.pop(one, []), *seen})
                known[one] = merged
            self._known = dict(sorted(known.items(), key=_newest)[-PLACES:])
            with contextlib.suppress(OSError):
                _write(self.path, self._known)

    def at(self, place: Place) -> list[Observation]:
        """All that is known of a place."""
        with self._lock:
            return self._all().get(place, [])

    def latest(self, model: str, device: str = "auto", dtype: str = "auto") -> Place | None:
        """Where a model was measured last, on that kind of device and in that precision."""
        with self._lock:
            fitting = [
                (place, seen)
                for place, seen in self._all().items()
                if place.model == model
                and (device == "auto" or place.device.partition(":")[0] == device.partition(":")[0])
                and dtype in ("auto", place.dtype)
            ]
        return max(fitting, key=_newest)[0] if fitting else None

    def _all(self) -> Known:
        if self._known is None:
            self._known = read(self.path)
        return self._known


def read(path: Path) -> Known:
    """What a file says; nothing of a file that is missing, damaged or of another version."""
    try:
        written = json.loads(path.read_text("utf-8"))
        if written["version"] != VERSION:
            return {}
        return dict(_place(entry) for entry in written["places"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def trimmed(observations: Iterable[Observation]) -> list[Observation]:
    """The newest few of every kind of work, in the order of time."""
    groups = defaultdict[tuple[Any, ...], list[Observation]](list)
    for one in sorted(observations):
        groups[one.part, one.kind, one.amount].append(one)
    return sorted(one for group in groups.values() for one in group[-KEPT:])[-20 * KEPT :]


def now() -> float:
    """The time that an observation is written down with."""
    return round(time.time(), 3)


def _place(entry: Mapping[str, Any]) -> tuple[Place, list[Observation]]:
    place = Place(**{name: kind(entry[name]) for name, kind in FIELDS.items()})
    return place, [_observation(*one) for one in entry["observations"]]


FIELDS = {"model": str, "hash": str, "device": str, "dtype": str, "threads": int, "weights": int}


def _observation(at: Any, part: Any, kind: Any, amount: Any, seconds: Any, bytes: Any) -> Observation:
    """ValueError for what cannot be: a forecast made from it would be nonsense."""
    found = Observation(float(at), str(part), str(kind), float(amount), float(seconds), int(bytes))
    if not (found.amount >= 0 and 0 <= found.seconds < float("inf") and found.bytes >= 0):
        raise ValueError("not a measurement")
    return found


def _newest(item: tuple[Place, list[Observation]]) -> float:
    return max((one.at for one in item[1]), default=0.0)


def _write(path: Path, known: Known) -> None:
    places = [asdict(place) | {"observations": seen} for place, seen in known.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        draft.write_text(json.dumps({"version": VERSION, "places": places}, allow_nan=False), "utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
