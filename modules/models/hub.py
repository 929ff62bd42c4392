"""A hub is asked here what a model's download would be: which files, how large, under which licence.

Nothing here runs unless a person asked for it, and only then is huggingface_hub imported.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from modules.models.catalog import Card

TEXT = (".json", ".txt", ".jinja")
READABLE = (".safetensors", *TEXT)
"""What may be fetched: weights that cannot run anything, and text. Never a pickle."""

WEIGHTS = re.compile(
    r"(diffusion_pytorch_)?model(\.\w+)?(-\d{5}-of-\d{5})?(\.\w+)?\.safetensors(\.index(\.\w+)?\.json)?"
)
"""A network's weights in diffusers' layout, whole or in pieces with the index of these."""

VARIANT = re.compile(r"\.(fp16|fp32|bf16|non_ema|ema)[.-]")
NOT_NEEDED = {"safety_checker", "feature_extractor", "watermarker"}
TOP = ("model_index.json", "config.json")
PATIENCE = 10.0  # seconds that a hub may take to answer


class HubError(RuntimeError):
    """A download that cannot be; the message is a sentence that says why, and what helps."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: its name there, its size, and the hashes that the hub knows it by."""

    name: str
    bytes: int
    sha256: str = ""
    blob: str = ""

    @property
    def key(self) -> str:
        """What names its content."""
        return self.sha256 or self.blob or hashlib.sha1(self.name.encode()).hexdigest()


@dataclass(frozen=True)
class Listing:
    """What a download consists of, exactly, as the hub says."""

    repo: str
    commit: str
    licence: str
    pipeline: str
    files: tuple[RemoteFile, ...]

    @property
    def bytes(self) -> int:
        """The size of all files together."""
        return sum(file.bytes for file in self.files)


def look_up(card: Card) -> Listing:
    """Ask the hub which files a card's model consists of; HubError, within seconds, if that fails."""
    with spoken(card):
        from huggingface_hub import HfApi

        info = HfApi(endpoint=_endpoint()).model_info(card.hub, files_metadata=True, timeout=PATIENCE)
        known = {file.name: file for file in map(_remote, info.siblings or ())}
        index: dict[str, Any] = {}
        if TOP[0] in known and not card.files:
            index = json.loads(_small(card.hub, str(info.sha), TOP[0]))
        names = [*card.files] or wanted([*known], index, card.variant)
        if missing := [name for name in names if name not in known]:
            raise HubError(f"{card.hub} has no {missing[0]} any more, so {card.title} cannot be fetched.")
        for name in names:
            _refuse_strange(name)
        licence = (info.card_data or {}).get("license_name") or (info.card_data or {}).get("license") or ""
        return Listing(
            card.hub, str(info.sha), str(licence), str(index.get("_class_name", "")),
            tuple(known[name] for name in names),
        )  # fmt: skip


def wanted(names: Sequence[str], index: dict[str, Any], variant: str = "") -> list[str]:
    """The files out of `names` that a pipeline needs, or a lone network at the top, in one precision.

    `index` is the repository's model_index.json, or empty. HubError if a part has only pickled weights.
    """
    listed = [key for key, value in index.items() if isinstance(value, list) and value[-1] is not None]
    parts = [f"{part}/" for part in listed if part not in NOT_NEEDED] if index else [""]
    chosen = [name for name in names if name in TOP]
    for part in parts:
        inside = [name for name in names if name.startswith(part) and "/" not in name[len(part) :]]
        weights = [name for name in inside if WEIGHTS.fullmatch(name[len(part) :])]
        text = [name for name in inside if name.endswith(TEXT) and name not in weights] if part else []
        chosen += [name for name in text if ".index." not in name]
        chosen += [n for n in weights if _variant(n) == variant] or [n for n in weights if not _variant(n)]
        if not weights and any(name.endswith((".bin", ".pth", ".ckpt")) for name in inside):
            raise HubError(
                f"Its {part.strip('/') or 'network'} is there only as pickled weights, which can run any "
                "program when opened, so they are not fetched. If you trust them, load them once with "
                "diffusers elsewhere and pipeline.save_pretrained(folder), then choose that folder."
            )
    if not any(name.endswith(".safetensors") for name in chosen):
        raise HubError("It has no weights in diffusers' layout. A single .safetensors file is given by path.")
    return chosen


def offline() -> bool:
    """Whether the network is out of bounds, by --offline or by Hugging Face's own variable."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _small(repo: str, commit: str, name: str) -> bytes:
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, disable_progress_bars

    disable_progress_bars()
    into = io.BytesIO()
    http_get(
        address_of(repo, commit, name), into, headers=build_hf_headers() | {"Accept-Encoding": "identity"}
    )
    return into.getvalue()


def address_of(repo: str, commit: str, name: str) -> str:
    """Where a file of a repository is served."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repo, name, revision=commit, endpoint=_endpoint())


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _remote(sibling: Any) -> RemoteFile:
    lfs = sibling.lfs
    size = sibling.size if sibling.size is not None else (lfs.size if lfs else 0)
    return RemoteFile(sibling.rfilename, size, lfs.sha256 if lfs else "", sibling.blob_id or "")


def _refuse_strange(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or path.suffix not in READABLE:
        raise HubError(f"It lists a file {name!r}, which is of no kind that this studio fetches.")


def _variant(name: str) -> str:
    found = VARIANT.search(name.rpartition("/")[2])
    return found[1] if found else ""


@contextmanager
def spoken(card: Card) -> Iterator[None]:
    """What fails inside is a HubError, in words; no word of it is a traceback or an address with a token."""
    if offline():
        raise HubError(f"{card.title} is not on this machine, and the studio is offline, so it stays so.")
    try:
        yield
    except HubError as error:
        raise HubError(f"{card.title} ({card.hub}): {error}") from error
    except Exception as error:
        raise HubError(_why(card, error)) from error


def _why(card: Card, error: Exception) -> str:
    from huggingface_hub import errors

    page = f"{_endpoint() or 'https://huggingface.co'}/{card.hub}"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{card.title} is given only to those who accept its licence: do that at {page}, then log in on "
            "this machine (hf auth login, or the variable HF_TOKEN) and try again."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"The hub has no {card.hub}, or it is private: check the name at {page}, or log in."
    if isinstance(error, errors.HfHubHTTPError):
        code = getattr(error.response, "status_code", "an error")
        return f"The hub answered {code} for {card.hub}. Try again later; what has arrived is kept."
    if isinstance(error, errors.HFValidationError):
        return f"{card.hub!r} is no name of a model on the hub; such a name looks like owner/model."
    if isinstance(error, OSError):
        return f"{card.title} could not be written to {card.folder} ({error.strerror or error})."
    if isinstance(error, ValueError):
        return f"{card.hub} is not as expected: {error}"
    return (
        f"The hub could not be reached ({type(error).__name__}) for {card.title}. Check the network and try "
        "again; what has arrived is kept."
    )
