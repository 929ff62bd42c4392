"""A model's files are brought from a hub here: resumed, checked, and marked when they are whole.

`snapshot_download` of huggingface_hub throws away a file that was cut off; here every byte that arrived is
kept, and the next download goes on from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from modules.models.catalog import Card
from modules.models.hub import HubError, Listing, RemoteFile, address_of, spoken
from modules.models.presence import FETCHING, MANIFEST, PLAN

SPARE = 512 * 1024**2  # bytes that a download leaves free on the disk


class Stopped(BaseException):
    """Raised by a report of progress, to end a download; what arrived is kept."""


def fetch(card: Card, listing: Listing, report: Callable[[int], None]) -> None:
    """Bring a listing's files into the card's folder, then mark it whole; goes on from what is there already.

    `report` is told the bytes that are here, often; if it raises Stopped, all that arrived stays for the next
    time. HubError if the hub, the disk or a file is not as it should be.
    """
    place = card.folder / FETCHING
    with spoken(card):
        place.mkdir(parents=True, exist_ok=True)
        (card.folder / MANIFEST).unlink(missing_ok=True)
        _write_json(place / PLAN, {"repo": listing.repo, "commit": listing.commit, "bytes": listing.bytes})
        _keep_only(place, {PLAN, *(f"{file.key}.part" for file in listing.files)})
        _need_room(card, listing, place)
        done, sums = 0, {}
        for file in listing.files:
            sums[file.name] = _brought(card, listing, file, lambda n, done=done: report(done + n))
            done += file.bytes
            report(done)
        found = {file.name: {"bytes": file.bytes, "sha256": sums[file.name]} for file in listing.files}
        told = {"repo": listing.repo, "commit": listing.commit, "licence": listing.licence}
        _write_json(card.folder / MANIFEST, told | {"files": found})
        shutil.rmtree(place, ignore_errors=True)


def _brought(card: Card, listing: Listing, file: RemoteFile, report: Callable[[int], None]) -> str:
    """The sha256 of a file that is now in the folder, whole and checked; fetched only as far as it is not."""
    goal, part = card.folder / file.name, card.folder / FETCHING / f"{file.key}.part"
    if goal.is_file() and goal.stat().st_size == file.bytes and (sum := _sum_if_right(goal, file)):
        return sum
    goal.unlink(missing_ok=True)
    if part.is_file() and part.stat().st_size > file.bytes:
        part.unlink()
    with part.open("ab") as stream:
        report(stream.tell())
        _stream(address_of(listing.repo, listing.commit, file.name), Counted(stream, report), file.bytes)
    sum = _sum_if_right(part, file)
    if not sum:
        size = part.stat().st_size
        part.unlink()
        raise HubError(
            f"{file.name} arrived with {size:,} bytes where {file.bytes:,} are right, or with another "
            "content. It was thrown away; start the download again for a fresh copy."
        )
    goal.parent.mkdir(parents=True, exist_ok=True)
    part.replace(goal)
    return sum


class Counted:
    """A file that tells after every write how long it has become; what http_get needs of one, and no more."""

    def __init__(self, stream: BinaryIO, report: Callable[[int], None]):
        self._stream, self._report = stream, report
        self.seek, self.tell, self.truncate = stream.seek, stream.tell, stream.truncate

    def write(self, chunk: bytes) -> int:
        """Writes, and reports."""
        count = self._stream.write(chunk)
        self._report(self._stream.tell())
        return count


def _stream(address: str, into: Any, size: int) -> None:
    """Append what is missing of a file of `size` bytes to `into`, which holds its beginning."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, disable_progress_bars

    disable_progress_bars()
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    try:
        http_get(address, into, resume_size=into.tell(), headers=headers, expected_size=size)
    except OSError as error:  # a size that is not the promised one: what arrived is judged by the caller
        if "Consistency check failed" not in str(error):
            raise


def _sum_if_right(path: Path, file: RemoteFile) -> str:
    """The sha256 of a file if size and content are the promised ones, else nothing."""
    if path.stat().st_size != file.bytes:
        return ""
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if file.sha256:
        return found if found == file.sha256 else ""
    blob = hashlib.sha1(b"blob %d\0" % file.bytes + path.read_bytes()).hexdigest()  # as git names a file
    return found if not file.blob or file.blob == blob else ""


def _keep_only(place: Path, names: set[str]) -> None:
    for path in place.iterdir():
        if path.name not in names:
            path.unlink()


def _need_room(card: Card, listing: Listing, place: Path) -> None:
    here = sum(path.stat().st_size for path in place.glob("*.part"))
    here += sum(f.bytes for f in listing.files if (card.folder / f.name).is_file())
    needed, free = listing.bytes - here, shutil.disk_usage(place).free
    if needed + SPARE > free:
        raise HubError(
            f"{card.title} needs {needed / 1e9:.1f} GB more, and the disk of {card.folder.parent} has "
            f"{free / 1e9:.1f} GB left. Make room, or set --models to a folder on another disk."
        )


def _write_json(path: Path, values: Any) -> None:
    """Written beside and renamed, so that a power cut leaves the old file or the new one."""
    beside = path.with_suffix(".new")
    with beside.open("w", encoding="utf-8") as stream:
        json.dump(values, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)
