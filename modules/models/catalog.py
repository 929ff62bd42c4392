"""The cards live here: what each model and each addition to one is, what it can do, where its files are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import modules
from modules.models.folders import PAINTING, PIPELINES, described, labels
from modules.models.originals import PICKLES, FileError, described_file
from modules.tasks import KINDS, Controlled, Limits, Task, TaskError, not_one_of

CATALOGUE = modules.HOME / "presets" / "models.yaml"
MODELS = modules.HOME / "models"
"""Where models are fetched to, and looked for, unless the settings say otherwise."""

UNETS = {
    "StableDiffusionPipeline": "stable-diffusion",
    "StableDiffusionInpaintPipeline": "stable-diffusion",
    "StableDiffusionInstructPix2PixPipeline": "stable-diffusion",
    "LatentConsistencyModelPipeline": "stable-diffusion",
    "StableDiffusionXLPipeline": "stable-diffusion-xl",
    "StableDiffusionXLInpaintPipeline": "stable-diffusion-xl",
}
"""The family of a pipeline whose U-Net our own loop walks, by the class that model_index.json names."""

CONTROLNETS = "controlnet"
"""The folder inside a model's folder that holds its ControlNets, folders and files named by their maps."""

CALLED = {
    **{kind: kind for kind in ("pose", "depth", "canny", "softedge", "normal", "segment")},
    **{kind: kind for kind in ("lineart", "scribble", "mlsd", "shuffle", "face")},
    "openpose": "pose", "dwpose": "pose", "hed": "softedge", "pidinet": "softedge", "seg": "segment",
    "normalbae": "normal", "midas": "depth",
}  # fmt: skip
"""The control type that a word in the name of a ControlNet's file means."""

SERVES_WITH: dict[int, tuple[str, ...]] = {4: ("instruct_edit",), 5: ("inpaint",)}
"""What a U-Net with so many channels beside its latents is for: a picture, or a mask and what it spares."""


class CatalogueError(ValueError):
    """A model that is not there, or a card that makes no sense; the message is a sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of weights before they are read: what they are, where they lie, where they can be had.

    `hub` is a repository that has them; `variant` is the precision to prefer there ("fp16"), `files` are the
    ones to fetch if not those of a diffusers pipeline or network; `download` is about how many GB that is,
    `memory` about how many GB a picture takes, by dtype, without offloading. `gated` weights are given to
    accounts that accepted the licence.
    """

    id: str
    title: str
    folder: Path
    licence: str = "unknown"
    about: str = ""
    hub: str = ""
    variant: str = ""
    files: tuple[str, ...] = ()
    download: float = 0.0
    memory: Mapping[str, float] = field(default_factory=dict)
    gated: bool = False


@dataclass(frozen=True, kw_only=True)
class AddOn(Card):
    """Weights that do nothing alone: a ControlNet or an IP-Adapter for the models whose ids are in `to`.

    `adds` is "controlnet" or "ip-adapter"; a ControlNet serves the control types in `controls`.
    """

    adds: str
    to: tuple[str, ...]
    controls: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelCard(Card):
    """What is known of a model before its weights are read.

    `width` and `height` are the size it was trained at, in pixels; `limits` narrow a task's own and
    `defaults` replace them; `tasks` are the kinds it serves, by endpoint name; `controls` are the folders of
    its ControlNets by control type, several types to one folder if it learned them all, and where there are
    any it serves "controlnet"; `ip_adapters` are folders that hold IP-Adapters for it; `configs` is the
    folder of its configurations where `folder` is a single file; `scheduler` is what the configuration of its
    noise schedule will say once it is here, and `noise` changes what it says.
    """

    family: str
    configs: Path | None = None
    width: int = 512
    height: int = 512
    tasks: tuple[str, ...] = ("text_to_image",)
    limits: Mapping[str, Limits] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    controls: Mapping[str, Path] = field(default_factory=dict)
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    noise: Mapping[str, Any] = field(default_factory=dict)
    ip_adapters: tuple[Path, ...] = ()

    def check(self, task: Task) -> None:
        """TaskError, with a sentence, if this model cannot serve the task."""
        if task.kind not in self.tasks:
            serves = ", ".join(self.tasks)
            raise TaskError("model", f"model is {self.id!r}, which cannot do {task.kind}; it does {serves}.")
        for name in ("control_type", "control_type_2") if isinstance(task, Controlled) else ():
            kind = getattr(task, name)
            if kind not in self.controls and (kind or name == "control_type"):
                raise TaskError(name, not_one_of(name, kind, [*self.controls]))

    def part(self, name: str) -> Path:
        """The folder of one component, such as "vae"; of a single file's, the one with its configuration."""
        return (self.configs or self.folder) / name

    def classes(self) -> list[str]:
        """The names of the classes it knows, in the order of its class embedding; empty if it knows none."""
        path = self.part("class_embedding") / "classes.json"
        return json.loads(path.read_text("utf-8")) if path.is_file() else labels(self.folder)

    def scheduler_config(self) -> dict[str, Any]:
        """The diffusers configuration of its noise schedule, read without touching the weights."""
        path = self.part("scheduler") / "scheduler_config.json"
        try:
            return json.loads(path.read_text("utf-8")) | dict(self.noise)
        except FileNotFoundError:
            return {**self.scheduler, **self.noise}
        except ValueError as error:
            raise CatalogueError(f"{path} is damaged: it is not JSON ({error}).") from error


def read_catalogue(path: Path = CATALOGUE, models: Path = MODELS) -> dict[str, ModelCard]:
    """The model cards of a catalogue file, by id; `models` is the folder for those that a hub has.

    CatalogueError names the card and the key that is wrong.
    """
    return {id: _card(id, entry, models) for id, entry in _entries(path) if "adds" not in entry}


def read_addons(path: Path = CATALOGUE, models: Path = MODELS) -> dict[str, AddOn]:
    """The additions in a catalogue file, by id; as `read_catalogue`."""
    return {id: _addon(id, entry, models) for id, entry in _entries(path) if "adds" in entry}


def card_for_folder(folder: Path) -> ModelCard:
    """A card for a folder in diffusers layout, or a single file in an original one, that no catalogue lists.

    CatalogueError, in words, if it is neither.
    """
    if not folder.is_dir():
        return _card_for_file(folder)
    if fields := described(folder):
        return ModelCard(id=folder.name, title=folder.name, folder=folder, **fields)
    if not (folder / "unet" / "config.json").is_file():
        raise CatalogueError(
            f"{folder} is no model folder: it has no unet/config.json, which diffusers would have saved."
        )
    unet = json.loads((folder / "unet" / "config.json").read_text("utf-8"))
    beside = unet.get("in_channels", 4) - unet.get("out_channels", 4)
    tasks = SERVES_WITH.get(beside, PAINTING)
    if (folder / "class_embedding").is_dir():
        size, family, tasks = 16 * unet.get("sample_size", 16), "pocket", (*tasks, "class_conditional")
    else:
        large = unet.get("addition_embed_type") == "text_time"
        size, family = 8 * unet.get("sample_size", 64), "stable-diffusion" + "-xl" * large
    controls = controls_in(folder)
    return ModelCard(
        id=folder.name, title=folder.name, family=family, folder=folder, width=size,
        height=size, tasks=with_control(tasks, controls), defaults={"width": size, "height": size},
        controls=controls,
    )  # fmt: skip


def _card_for_file(path: Path) -> ModelCard:
    try:
        fields = described_file(path)
    except FileError as error:
        raise CatalogueError(str(error)) from error
    controls = controls_in(path.with_suffix(""))
    tasks = with_control(SERVES_WITH.get(fields.pop("beside"), PAINTING), controls)
    size = {"width": fields["width"], "height": fields["height"]}
    return ModelCard(
        id=path.stem, title=path.stem, folder=path, tasks=tasks, defaults=size, controls=controls, **fields
    )


def family_of(pipeline: str) -> str:
    """The family that a diffusers pipeline class belongs to; empty if the studio cannot run it."""
    return PIPELINES[pipeline].family if pipeline in PIPELINES else UNETS.get(pipeline, "")


def runs(family: str) -> bool:
    """Whether the studio can run any model of a family."""
    return family in {"pocket", *UNETS.values(), *(kind.family for kind in PIPELINES.values())}


def controls_in(folder: Path) -> dict[str, Path]:
    """The ControlNets that lie inside a model's folder, by control type.

    A folder "pose-depth" serves the two; a file serves what words of its name mean, as "pose" in
    pose.safetensors and "openpose" in control_v11p_sd15_openpose.safetensors. A pickled file stands for its
    kind too, so that whoever asks for it is told how to convert it.
    """
    folders = sorted(folder.glob(f"{CONTROLNETS}/*/config.json"))
    pickled = sorted(path for path in folder.glob(f"{CONTROLNETS}/*") if path.suffix in PICKLES)
    files = [*pickled, *sorted(folder.glob(f"{CONTROLNETS}/*.safetensors"), reverse=True)]
    found = {
        CALLED[word]: path for path in files for word in re.split(r"[\W_]+", path.stem) if word in CALLED
    }
    return found | {kind: path.parent for path in folders for kind in path.parent.name.split("-")}


def with_control(tasks: tuple[str, ...], controls: Mapping[str, Path]) -> tuple[str, ...]:
    """The tasks, and "controlnet" among them exactly where there are ControlNets."""
    return tuple(kind for kind in tasks if kind != Controlled.kind) + (Controlled.kind,) * bool(controls)


def _entries(path: Path) -> list[tuple[str, dict[str, Any]]]:
    entries = yaml.load(path.read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return [(id, dict(entry)) for id, entry in entries.items()]


def _card(id: str, entry: dict[str, Any], models: Path) -> ModelCard:
    try:
        folder = _folder(id, entry, models)
        limits = {name: Limits(*three) for name, three in entry.pop("limits", {}).items()}
        listed = {kind: modules.HOME / source for kind, source in entry.pop("controls", {}).items()}
        found = {kind: path for kind, path in controls_in(folder).items() if path not in listed.values()}
        controls = found | listed
        tasks = with_control(tuple(entry.pop("tasks")), controls)
        card = ModelCard(
            id=id, folder=folder, limits=limits, tasks=tasks, controls=controls,
            files=tuple(entry.pop("files", ())), **entry,
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise CatalogueError(f"The card of model {id!r} is not right: {error}.") from error
    if unknown := [kind for kind in tasks if kind not in KINDS]:
        raise CatalogueError(f"The card of model {id!r} lists {unknown[0]!r}; tasks are {', '.join(KINDS)}.")
    return card


def _addon(id: str, entry: dict[str, Any], models: Path) -> AddOn:
    try:
        tuples = {name: tuple(entry.pop(name, ())) for name in ("to", "controls", "files")}
        return AddOn(id=id, folder=_folder(id, entry, models), **tuples, **entry)
    except (KeyError, TypeError) as error:
        raise CatalogueError(f"The card of addition {id!r} is not right: {error}.") from error


def _folder(id: str, entry: dict[str, Any], models: Path) -> Path:
    """Where a card's files are, or would be once fetched."""
    if "hub" in entry and "source" not in entry:
        return models / id
    return modules.HOME / entry.pop("source")
