"""The shelf: which models are on this machine, which could be, and the one download that may be running."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules.models.catalog import (
    MODELS,
    AddOn,
    Card,
    CatalogueError,
    ModelCard,
    card_for_folder,
    family_of,
    read_addons,
    read_catalogue,
    runs,
    with_control,
)
from modules.models.fetching import Stopped, fetch
from modules.models.hub import HubError, Listing, look_up, offline
from modules.models.presence import HERE, MISSING, presence
from modules.tasks import Controlled

RUNNING, DONE, FAILED, STOPPED = "running", "done", "failed", "stopped"
LOCKED = "Visitors of a shared studio cannot start downloads; whoever runs it can, when it is not shared."
CANNOT = "This version of the studio cannot run models of its kind yet."
OFFLINE = "The studio is offline, so it cannot be fetched."


@dataclass(frozen=True)
class Offer:
    """What choosing a model or an addition would mean: here already, or how large, under which licence.

    `told` is that in words; `may` is whether a download may be started.
    """

    id: str
    title: str
    state: str
    told: str
    may: bool


@dataclass(frozen=True)
class Progress:
    """How a download stands: RUNNING, DONE, FAILED or STOPPED, with a sentence, and bytes of bytes."""

    id: str
    phase: str
    told: str
    done: int = 0
    total: int = 0


class Shelf:
    """The models that are here, `here`, by id, kept up to date in place; and ways to get the others.

    `locked` is for studios with visitors, who may neither start downloads nor name folders of this machine.
    CatalogueError as `read_catalogue`.
    """

    def __init__(
        self, catalog: Mapping[str, ModelCard] | None = None, models: Path = MODELS, *, locked: bool = False
    ):
        whole = catalog is None
        self.models = models
        self.locked = locked
        self.cards: dict[str, ModelCard] = read_catalogue(models=models) if whole else dict(catalog)
        self.addons: dict[str, AddOn] = read_addons(models=models) if whole else {}
        self.here: dict[str, ModelCard] = {}
        self.asked = ""
        self._progress: Progress | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Look again what is here: cards without a hub always are, others when their files are whole."""
        self._find_strangers()
        added = [each for each in self.addons.values() if presence(each.folder).state == HERE]
        for id, card in self.cards.items():
            if card.hub and presence(card.folder).state != HERE:
                self.here.pop(id, None)
            else:
                self.here[id] = _with(card, [each for each in added if id in each.to])

    def add(self, said: str) -> str:
        """The id of the model in a folder, which is here from now on; CatalogueError if it is none."""
        card = card_for_folder(Path(said).expanduser().resolve())
        self.cards[card.id] = self.here[card.id] = card
        return card.id

    def begin_with(self, said: str) -> str:
        """The id of the model to open with: the one that is meant, or Pocket while that one is not here.

        `asked` is then the one that is meant. CatalogueError if there is no such thing.
        """
        if said in self.here:
            return said
        if Path(said).expanduser().exists():
            return self.add(said)
        if said not in self.cards and not _like_a_repository(said):
            others = ", ".join(id for id in self.cards if id not in self.here)
            known = ", ".join(self.here) + (f"; to be downloaded: {others}" if others else "")
            raise CatalogueError(f"model is {said!r}, which is no folder and not in the catalogue ({known}).")
        self.asked = said
        return next(iter(self.here))

    def knows(self, said: str) -> bool:
        """Whether this is a model or an addition that is here or could be fetched."""
        return said in self.cards or said in self.addons

    def listing(self) -> list[dict[str, Any]]:
        """Every model: its id, what it serves, whether it is here, and if not, what it would take."""
        shown = []
        for id, card in {**self.cards, **self.here}.items():
            about = {"id": id, "title": card.title, "tasks": [*card.tasks], "licence": card.licence}
            if id not in self.here:
                about |= {"download_gb": card.download, "told": self.why_not(id)}
            shown.append(about | {"here": id in self.here})
        return shown

    def tasks(self) -> set[str]:
        """The kinds of tasks that any model serves, here or once fetched."""
        served = {kind for card in self.cards.values() for kind in card.tasks}
        nets = any(each.adds == Controlled.kind for each in self.addons.values())
        return served | ({Controlled.kind} if nets else set())

    def adds_to_one(self, addon: AddOn) -> bool:
        """Whether an addition is not here yet, and is for a model that is."""
        return any(id in self.here for id in addon.to) and presence(addon.folder).state != HERE

    def offer(self, said: str) -> Offer:
        """What choosing this id, folder or name of a repository means.

        A repository that no card lists is asked for, which takes seconds. CatalogueError or HubError, in
        words, for what is none of these, or may not be chosen here.
        """
        said = said.strip()
        if not self.knows(said):
            if self.locked:
                raise CatalogueError(f"model is {said!r}; it must be one of {', '.join(self.here)}.")
            if (path := Path(said).expanduser()).exists():
                if (lacking := presence(path)).state != HERE:
                    raise CatalogueError(f"{path} is not whole: {lacking.told} Copy or download it again.")
                said = self.add(said)
            elif _like_a_repository(said):
                self._meet(said)
            else:
                raise CatalogueError(f"{said!r} is no model, no folder, and no owner/name of a repository.")
        card = self.cards.get(said) or self.addons[said]
        state, told = presence(card.folder)
        if said in self.here or state == HERE:
            return Offer(said, card.title, HERE, card.about, False)
        cannot = isinstance(card, ModelCard) and not runs(card.family)
        refused = CANNOT if cannot else LOCKED if self.locked else OFFLINE if offline() else ""
        stands = f"{card.title} is not on this machine." if state == MISSING else f"{card.title}: {told}"
        return Offer(
            said, card.title, state, " ".join(filter(None, [stands, *_terms(card), refused])), not refused
        )

    def why_not(self, model: str) -> str:
        """Why a model that is known but not here cannot paint, and what helps."""
        card = self.cards[model]
        state, told = presence(card.folder)
        stands = "is not on this machine." if state == MISSING else f"is not whole: {told}"
        helps = "" if self.locked else f" Choose it under More to download it (about {card.download:g} GB)."
        return f"{card.title} {stands}{helps}"

    def fetch(self, id: str) -> None:
        """Begin to download, in the background; HubError if that is not allowed, or another one runs."""
        if self.locked:
            raise HubError(LOCKED)
        card = self.cards.get(id) or self.addons.get(id)
        if card is None or not card.hub:
            raise HubError(f"{id!r} is nothing that a hub has.")
        with self._lock:
            if self._progress and self._progress.phase == RUNNING:
                raise HubError(f"{self._progress.id} is being downloaded; one at a time.")
            self._stop.clear()
            self._progress = Progress(id, RUNNING, f"Asking for {card.title}…")
        threading.Thread(target=self._fetched, args=(card,), name=f"fetching {id}", daemon=True).start()

    def stop(self) -> None:
        """End the download that is running; what has arrived is kept."""
        self._stop.set()

    def progress(self) -> Progress | None:
        """How the last download stands; None if there was none."""
        return self._progress

    def _fetched(self, card: Card) -> None:
        try:
            listing = look_up(card)
            _refuse_unknown(card, listing)
            begun, first = time.monotonic(), None

            def report(done: int) -> None:
                nonlocal first
                first = done if first is None else first
                if self._stop.is_set():
                    raise Stopped
                told = _how_far(card, done, listing.bytes, (done - first) / (time.monotonic() - begun + 1e-9))
                self._progress = Progress(card.id, RUNNING, told, done, listing.bytes)

            fetch(card, listing, report)
            self.refresh()
            total = listing.bytes
            self._progress = Progress(card.id, DONE, f"{card.title} is here now.", total, total)
        except Stopped:
            self._progress = Progress(card.id, STOPPED, f"Stopped. {presence(card.folder).told}")
        except Exception as error:  # told on the page, which goes on with what is here
            self._progress = Progress(card.id, FAILED, str(error))

    def _meet(self, repo: str) -> None:
        """A card for a repository that no catalogue lists, with what the hub says of it."""
        folder = self.models / repo.replace("/", "--")
        card = Card(id=repo, title=repo, folder=folder, hub=repo, variant="fp16")
        listing = look_up(card)
        _refuse_unknown(card, listing)
        fields = {field.name: getattr(card, field.name) for field in dataclasses.fields(Card)}
        fields |= {"licence": listing.licence or "unknown", "download": round(listing.bytes / 1e9, 2)}
        self.cards[repo] = ModelCard(**fields, family=family_of(listing.pipeline))

    def _find_strangers(self) -> None:
        """Models that a person put into the folder, and those fetched by name in an earlier run."""
        known = {card.folder for card in (*self.cards.values(), *self.addons.values())}
        for path in sorted(self.models.glob("*")) if self.models.is_dir() else ():
            model = path.is_dir() or path.suffix == ".safetensors"
            if model and path not in known and presence(path).state == HERE:
                try:
                    card = card_for_folder(path)
                except CatalogueError:
                    continue
                self.cards.setdefault(card.id, card)


def _like_a_repository(said: str) -> bool:
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", said))


def _refuse_unknown(card: Card, listing: Listing) -> None:
    """HubError unless the studio can run the pipeline that a repository holds; additions hold none."""
    if not isinstance(card, AddOn) and not family_of(listing.pipeline):
        what = listing.pipeline or "folder without a model_index.json"
        raise HubError(f"{card.title} is a {what}, which this version of the studio cannot run.")


def _with(card: ModelCard, added: list[AddOn]) -> ModelCard:
    """The card with the ControlNets and IP-Adapters that are here for it."""
    nets = {kind: each.folder for each in added if each.adds == "controlnet" for kind in each.controls}
    seeing = tuple(each.folder for each in added if each.adds == "ip-adapter")
    if not nets and not seeing:
        return card
    controls = nets | dict(card.controls)
    tasks = with_control(card.tasks, controls)
    return dataclasses.replace(card, controls=controls, tasks=tasks, ip_adapters=card.ip_adapters + seeing)


def _terms(card: Card) -> list[str]:
    """Size, licence and needs of a download, in sentences."""
    words = [f"The download is about {card.download:g} GB, from {card.hub}, under {card.licence}."]
    if card.memory:
        sizes = " or ".join(f"{size:g} GB in {dtype}" for dtype, size in card.memory.items())
        words.append(f"It takes about {sizes} of memory.")
    if card.gated:
        words.append("It is given to accounts that accepted its licence: log in first (hf auth login).")
    return words


def _how_far(card: Card, done: int, total: int, pace: float) -> str:
    told = f"{card.title}: {done / 1e9:.2f} of {total / 1e9:.2f} GB"
    if pace > 0 and done < total:
        minutes = (total - done) / pace / 60
        left = f"{minutes:.0f} min" if minutes >= 1 else "under a minute"
        told += f", {pace / 1e6:.1f} MB/s, {left} left"
    return told
