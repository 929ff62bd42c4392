"""Finished pictures are kept and found again here: each a whole file, and an index that heals from the files.

The files are the truth and the index (SQLite, in the same folder) is a copy of what they say, so it may be
deleted at any time. A row is written before its file, unfinished, and again after it: a kill between any two
writes leaves a whole file with or without a row, or a row without a file, and `heal` mends both. Connections
live for one call each: any thread, any process and a forked one may use the same folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import secrets
import sqlite3
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from modules import metadata
from modules.images import FORMATS

log = logging.getLogger(__name__)

INDEX = ".history.sqlite"
SAVED_NAME = re.compile(r"\d{8}-\d{6}-\d+-[0-9a-f]{8}\.png")
THUMBNAIL_SIDE = 160
ABANDONED = 600  # seconds after which an unfinished file is surely nobody's any more
PATIENCE = 30  # seconds to wait for another writer of the index
TOLD = ("kind", "model", "sampler", "schedule", "steps", "width", "height", "prompt", "negative_prompt")
NEEDED = {*TOLD, "seeds", "seconds", "versions", "model_hash", "timesteps", "snr"}

VERSION = 1  # of the table below: an index of another version is made anew
TABLE = f"""
CREATE TABLE pictures (
    name TEXT PRIMARY KEY, at REAL, owner TEXT, finished INTEGER, seed INTEGER, words TEXT,
    kind TEXT, model TEXT, sampler TEXT, schedule TEXT, steps INTEGER, width INTEGER, height INTEGER,
    prompt TEXT, negative_prompt TEXT, info TEXT, thumbnail BLOB
);
CREATE INDEX by_time ON pictures (at, name);
PRAGMA user_version = {VERSION};
"""


class HistoryError(RuntimeError):
    """What history cannot do; the message is a sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is looked for: every word somewhere in the prompts, the rest exactly; times in Unix seconds."""

    words: str = ""
    kind: str = ""
    model: str = ""
    sampler: str = ""
    since: float | None = None
    until: float | None = None


class Entry(NamedTuple):
    """A picture as a search finds it; `thumbnail` is a JPEG."""

    name: str
    at: float
    seed: int
    title: str
    thumbnail: bytes


class Kept(NamedTuple):
    """One picture: its file, the whole info of its run, and its place in the batch."""

    path: Path
    info: dict[str, Any]
    index: int


class History:
    """The pictures of one folder.

    Where it is `shared`, everyone sees what carries their own owner's name and nothing else.
    """

    def __init__(self, folder: Path, *, shared: bool = False):
        self.folder = folder
        self.shared = shared
        self._healer: threading.Thread | None = None

    def start(self) -> None:
        """Heal in the background, once."""
        if self._healer is None:
            self._healer = threading.Thread(target=self._heal_quietly, name="healing history", daemon=True)
            self._healer.start()

    def add(self, picture: Image.Image, info: Mapping[str, Any], index: int = 0, owner: str = "") -> Path:
        """Write one finished picture, recipe inside, and its row. OSError if the disk refuses the picture.

        A picture is never lost to trouble with the index: it is logged, and the next start mends it.
        """
        at = time.time()
        stamp = datetime.fromtimestamp(at).strftime("%Y%m%d-%H%M%S")
        path = self.folder / f"{stamp}-{info['seeds'][index]}-{secrets.token_hex(4)}.png"
        row = _row(path.name, at, owner, info, index, _thumbnail(picture))
        self._write_row(row)
        metadata.write(picture, path, info, index)
        self._write_row(row | {"finished": 1})
        return path

    def search(
        self, query: Query, owner: str = "", after: tuple[float, str] | None = None, count: int = 24
    ) -> list[Entry]:
        """The newest `count` that fit, or the next ones after the (at, name) of the last one seen."""
        conditions, values = self._conditions(query, owner)
        if after is not None:
            conditions += " AND (at, name) < (?, ?)"
            values += after
        if not self.folder.is_dir():
            return []
        with self._index() as rows:
            found = rows.execute(
                "SELECT name, at, seed, prompt, info, thumbnail FROM pictures "
                f"WHERE {conditions} ORDER BY at DESC, name DESC LIMIT ?",
                [*values, count],
            ).fetchall()
            entries = []
            for name, at, seed, prompt, info, thumbnail in found:
                if thumbnail is None:
                    thumbnail = self._made_now(rows, name)
                if thumbnail is not None:
                    title = ", ".join(filter(None, (json.loads(info).get("class_name"), prompt)))
                    entries.append(Entry(name, at, seed, title, thumbnail))
        return entries

    def count(self, query: Query, owner: str = "") -> int:
        """How many fit."""
        conditions, values = self._conditions(query, owner)
        if not self.folder.is_dir():
            return 0
        with self._index() as rows:
            return rows.execute(f"SELECT count(*) FROM pictures WHERE {conditions}", values).fetchone()[0]

    def choices(self, owner: str = "") -> dict[str, list[str]]:
        """The kinds, models and samplers that this owner's pictures were made with."""
        conditions, values = self._conditions(Query(), owner)
        names = ("kind", "model", "sampler")
        if not self.folder.is_dir():
            return {name: [] for name in names}
        with self._index() as rows:
            return {
                name: [
                    row[0]
                    for row in rows.execute(
                        f"SELECT DISTINCT {name} FROM pictures WHERE {conditions} ORDER BY {name}", values
                    )
                ]
                for name in names
            }

    def read(self, name: str, owner: str = "") -> Kept:
        """The picture of that name; HistoryError if this owner has none."""
        row = next(iter(self._mine([name], owner)), None)
        if row is None:
            raise HistoryError("That picture is not in the history any more.")
        info = json.loads(row[1])
        index = info.pop("index")
        return Kept(self.folder / row[0], info, index)

    def delete(self, names: Sequence[str], owner: str = "") -> list[str]:
        """Delete files and rows of these pictures, as far as they are this owner's; the names of those."""
        gone = [name for name, _ in self._mine(names, owner)]
        for name in gone:
            (self.folder / name).unlink(missing_ok=True)
        if gone:
            self._forget(gone)
        return gone

    def export(self, names: Sequence[str], owner: str = "") -> Path:
        """A ZIP of these pictures in a new temporary folder, which is the caller's to delete."""
        mine = [name for name, _ in self._mine(names, owner)]
        if not mine:
            raise HistoryError("None of those pictures is in the history any more.")
        packed = Path(tempfile.mkdtemp(prefix="epsilon-")) / f"pictures-{datetime.now():%Y%m%d-%H%M%S}.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed already
            for name in mine:
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    archive.write(self.folder / name, name)
        return packed

    def sweep(self, keep_seconds: float) -> None:
        """Delete the pictures made here that are older than that."""
        if not self.folder.is_dir():
            return
        oldest, swept = time.time() - keep_seconds, []
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another job may have swept it
                if SAVED_NAME.fullmatch(path.name) and path.stat().st_mtime < oldest:
                    path.unlink()
                    swept.append(path.name)
        if swept:
            self._forget(swept)

    def heal(self) -> None:
        """Make the index say what the files say: rows without a file go, files without a row are read."""
        if not self.folder.is_dir():
            return
        self._mend_index()
        with self._index() as rows:
            known = dict(rows.execute("SELECT name, finished FROM pictures").fetchall())
        present = {path.name for path in self.folder.glob("*.png")}
        for unfinished in self.folder.glob(".*.png.*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if unfinished.stat().st_mtime < time.time() - ABANDONED:
                    unfinished.unlink()
        self._forget([name for name in known if name not in present])
        with self._index() as rows:
            whole = [(name,) for name, finished in known.items() if not finished and name in present]
            rows.executemany("UPDATE pictures SET finished = 1 WHERE name = ?", whole)
        for name in sorted(present - set(known), reverse=True):  # the newest first: they are looked for first
            if row := self._row_of(name):
                self._write_row(row | {"finished": 1}, "INSERT OR IGNORE")

    def _heal_quietly(self) -> None:
        try:
            self.heal()
        except (sqlite3.Error, OSError) as error:
            log.warning("The history of %s could not be brought up to date: %s", self.folder, error)

    @contextlib.contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        """The index inside one transaction; made if it is not there, or of another version."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(self.folder / INDEX, timeout=PATIENCE)) as rows, rows:
            # Waiting for the disk would cost 9 ms a write. A kill does no harm even so, and an index that a
            # power cut has damaged is made anew from the files, which are safe on the disk.
            rows.execute("PRAGMA synchronous = OFF")
            if rows.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                rows.execute("PRAGMA journal_mode = WAL")
                rows.execute("BEGIN IMMEDIATE")
                if rows.execute("PRAGMA user_version").fetchone()[0] != VERSION:  # no one was quicker
                    rows.execute("DROP TABLE IF EXISTS pictures")
                    for statement in filter(str.strip, TABLE.split(";")):
                        rows.execute(statement)
                rows.commit()
            yield rows

    def _mend_index(self) -> None:
        """Throw a damaged index away; it is made anew from the files."""
        try:
            with self._index() as rows:
                if rows.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok":
                    return
        except sqlite3.OperationalError:  # locked, or the disk refuses: that is no damage
            raise
        except sqlite3.DatabaseError as error:
            log.warning("The index of %s is damaged (%s) and is made anew.", self.folder, error)
        for suffix in ("", "-wal", "-shm"):
            (self.folder / f"{INDEX}{suffix}").unlink(missing_ok=True)

    def _conditions(self, query: Query, owner: str) -> tuple[str, list[Any]]:
        """The WHERE of a search, and its values."""
        parts, values = ["finished = 1"], list[Any]()
        if self.shared:
            parts.append("owner = ? AND owner != ''")
            values.append(owner)
        for word in query.words.casefold().split():
            parts.append("instr(words, ?) > 0")
            values.append(word)
        for name in ("kind", "model", "sampler"):
            if wanted := getattr(query, name):
                parts.append(f"{name} = ?")
                values.append(wanted)
        for name, sign, bound in (("at", ">=", query.since), ("at", "<", query.until)):
            if bound is not None:
                parts.append(f"{name} {sign} ?")
                values.append(bound)
        return " AND ".join(parts), values

    def _mine(self, names: Sequence[str], owner: str) -> list[tuple[str, str]]:
        """Name and info of those that are in the index and this owner's: no other name ever meets a path."""
        conditions, values = self._conditions(Query(), owner)
        if not self.folder.is_dir():
            return []
        with self._index() as rows:
            found = [
                rows.execute(
                    f"SELECT name, info FROM pictures WHERE name = ? AND {conditions}", [str(name), *values]
                ).fetchone()
                for name in names
            ]
        return [row for row in found if row is not None]

    def _write_row(self, row: Mapping[str, Any], how: str = "INSERT OR REPLACE") -> None:
        places = ", ".join(f":{column}" for column in row)
        try:
            with self._index() as rows:
                rows.execute(f"{how} INTO pictures ({', '.join(row)}) VALUES ({places})", row)
        except sqlite3.Error as error:
            log.warning("%s is not in the history until the next start: %s", row["name"], error)

    def _forget(self, names: Sequence[str]) -> None:
        with self._index() as rows:
            rows.executemany("DELETE FROM pictures WHERE name = ?", [(name,) for name in names])

    def _made_now(self, rows: sqlite3.Connection, name: str) -> bytes | None:
        """The thumbnail of a picture that had none yet; a file that is gone or damaged loses its row."""
        try:
            with Image.open(self.folder / name, formats=FORMATS) as picture:
                made = _thumbnail(picture)
        except (OSError, SyntaxError, ValueError):
            rows.execute("DELETE FROM pictures WHERE name = ?", (name,))
            return None
        rows.execute("UPDATE pictures SET thumbnail = ? WHERE name = ?", (made, name))
        return made

    def _row_of(self, name: str) -> dict[str, Any] | None:
        """The row that a file's own recipe gives; None if it is no picture of ours, or gone meanwhile."""
        path = self.folder / name
        try:
            at = path.stat().st_mtime
            with Image.open(path, formats=FORMATS) as picture:
                recipe = metadata.read(picture)
        except (OSError, SyntaxError, ValueError):
            return None
        if recipe.task is None or not set(recipe.info) >= NEEDED:
            return None
        info = {**recipe.info, **{key: getattr(recipe.task, key) for key in TOLD}}
        seeds, index = info["seeds"], info.get("index", 0)
        if not isinstance(seeds, list) or index not in range(len(seeds)) or seeds[index] != recipe.task.seed:
            return None  # not written by us
        return _row(name, at, "", info, index, None)


def _row(
    name: str, at: float, owner: str, info: Mapping[str, Any], index: int, thumbnail: bytes | None
) -> dict[str, Any]:
    """The row of a picture that is not finished yet."""
    words = " ".join(str(info.get(key) or "") for key in ("class_name", "prompt", "negative_prompt"))
    return {
        "name": name,
        "at": at,
        "owner": owner,
        "finished": 0,
        "seed": info["seeds"][index],
        "words": words.casefold(),
        **{key: info[key] for key in TOLD},
        "info": json.dumps({**info, "index": index}, ensure_ascii=False),
        "thumbnail": thumbnail,
    }


def _thumbnail(picture: Image.Image) -> bytes:
    small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
