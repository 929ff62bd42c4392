"""Where Toyland's drawings come from: npm packages, pinned by version and SHA-256."""

import hashlib
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """One npm package: its name, version, the tarball's SHA-256, and the licence of the drawings in it."""

    package: str
    version: str
    sha256: str
    licence: str

    @property
    def tarball(self) -> str:
        return f"{self.package.replace('@', '').replace('/', '-')}-{self.version}.tgz"


SOURCES = {
    "3d": Source(
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
        "MIT",
    ),
    "flat": Source(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        "MIT",
    ),
    "line": Source(
        "@iconify-json/fluent-emoji-high-contrast",
        "1.2.6",
        "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0",
        "MIT",
    ),
    "cartoon": Source(
        "@iconify-json/noto",
        "1.2.9",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        "Apache-2.0",
    ),
    "names": Source(
        "emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a", "MIT"
    ),
}


def fetch(folder: Path) -> dict[str, Path]:
    """Download and unpack every source that is not yet under `folder`, and return where each one lies.

    Needs the `npm` command. Raises ValueError when a tarball is not the one that was pinned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = {}
    for key, source in SOURCES.items():
        place, tarball = folder / source.tarball[: -len(".tgz")], folder / source.tarball
        places[key] = place
        if place.exists():
            continue
        if not tarball.exists():
            subprocess.run(
                ["npm", "pack", f"{source.package}@{source.version}", "--silent"], cwd=folder, check=True
            )
        found = hashlib.sha256(tarball.read_bytes()).hexdigest()
        if found != source.sha256:
            raise ValueError(f"{tarball.name} has SHA-256 {found}, expected {source.sha256}")
        with tarfile.open(tarball) as archive:
            archive.extractall(place.with_suffix(".part"), filter="data")
        place.with_suffix(".part").rename(place)
    return places
