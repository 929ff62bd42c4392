"""Detectors read a control map out of a photograph; here is each by name, and what it needs before it can.

A new one is an entry in DETECTORS: the control type, a function that starts it, what it needs. Of one kind
the first that can read is the one that does. Nothing is imported before a detector is asked to read. Weights
lie in ANNOTATORS, where a person has put them: none is ever fetched. The `.pth` files of controlnet-aux go
through torch's restricted reader, which takes tensors and runs nothing.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from packaging.requirements import Requirement
from PIL import Image

import modules
from modules.conditions.depth import stretched
from modules.conditions.edges import edges

ANNOTATORS = modules.HOME / "models" / "annotators"
"""The folder for detectors' weights."""

Read = Callable[[Image.Image], Image.Image]


class DetectorError(RuntimeError):
    """A detector that cannot read; the message is a sentence on what it needs, or what went wrong."""


@dataclass(frozen=True, kw_only=True)
class Detector:
    """One way to read a map of a kind out of a photograph.

    `start` takes the folder of weights and gives a function from a picture to its map, of any size;
    `packages` are requirements such as "mediapipe<1"; `files` are names in that folder, which `origin` has.
    """

    kind: str
    start: Callable[[Path], Read]
    packages: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    origin: str = "lllyasviel/Annotators"


def auxiliary(module: str, name: str, file: str = "") -> Callable[[Path], Read]:
    """Starts a detector of controlnet-aux, from a file of weights where it has any."""

    def start(folder: Path) -> Read:
        made = getattr(_auxiliary(module), name)
        detector = made.from_pretrained(str(folder), filename=file) if file else made()
        return lambda picture: detector(picture, detect_resolution=min(picture.size), output_type="pil")

    return start


def dwpose(folder: Path) -> Read:
    """Starts controlnet-aux's DWPose on local files, which it would else fetch."""
    made = _auxiliary("dwpose").DWposeDetector
    detector = made(det_ckpt=str(folder / DWPOSE[0]), pose_ckpt=str(folder / DWPOSE[1]))
    return lambda picture: detector(picture, detect_resolution=min(picture.size), output_type="pil")


def transformer(name: str) -> Callable[[Path], Read]:
    """Starts a depth estimator of transformers out of a folder of that name."""

    def start(folder: Path) -> Read:
        import torch
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation

        prepare: Any = AutoImageProcessor.from_pretrained(folder / name, local_files_only=True)
        model: Any = AutoModelForDepthEstimation.from_pretrained(
            folder / name, local_files_only=True, use_safetensors=True
        )
        model.eval()

        def read(picture: Image.Image) -> Image.Image:
            with torch.no_grad():
                answer = model(**prepare(images=picture, return_tensors="pt"))
            return stretched(answer.predicted_depth[0].float().numpy())  # larger is nearer

        return read

    return start


def blazepose(folder: Path) -> Read:
    """Starts BlazePose, which ships with the studio."""
    from modules.conditions.blazepose import people_in
    from modules.conditions.pose import draw

    def read(picture: Image.Image) -> Image.Image:
        if not (people := people_in(picture)):
            raise DetectorError("BlazePose found nobody in this picture.")
        return draw(people, *picture.size)

    return read


def toyland(folder: Path) -> Read:
    """Starts the small network that sees depth, which ships with the studio."""
    from modules.conditions.sight import depth_of

    return depth_of


AUX = "controlnet-aux"
DWPOSE = ("yolox_l_8x8_300e_coco.pth", "dw-ll_ucoco_384.pth")
DEPTHS = {"Depth Anything V2": "Depth-Anything-V2-Small-hf", "DPT": "dpt-hybrid-midas"}
ORIGINS = {"Depth Anything V2": "depth-anything/Depth-Anything-V2-Small-hf", "DPT": "Intel/dpt-hybrid-midas"}

DETECTORS: dict[str, Detector] = {
    "Edges": Detector(kind="canny", start=lambda folder: edges),
    "LineartStandard": Detector(
        kind="lineart", packages=(AUX,), start=auxiliary("lineart_standard", "LineartStandardDetector")
    ),
    "ContentShuffle": Detector(
        kind="shuffle", packages=(AUX,), start=auxiliary("shuffle", "ContentShuffleDetector")
    ),
    "Canny": Detector(kind="canny", packages=(AUX,), start=auxiliary("canny", "CannyDetector")),
    "MediapipeFace": Detector(
        kind="face",
        packages=(AUX, "mediapipe<1"),  # from 1.0 on, importing it beside controlnet-aux fails
        start=auxiliary("mediapipe_face", "MediapipeFaceDetector"),
    ),
    **{
        name: Detector(
            kind="depth", packages=("transformers",), start=transformer(folder), origin=ORIGINS[name],
            files=tuple(f"{folder}/{file}" for file in (
                "config.json", "preprocessor_config.json", "model.safetensors",
            )),
        )
        for name, folder in DEPTHS.items()
    },
    "OpenPose": Detector(
        kind="pose",
        packages=(AUX, "matplotlib"),  # which it draws with, and does not declare
        files=("body_pose_model.pth", "hand_pose_model.pth", "facenet.pth"),
        start=auxiliary("open_pose", "OpenposeDetector", "body_pose_model.pth"),
    ),
    "DWPose": Detector(
        kind="pose", packages=(AUX, "matplotlib", "mmcv", "mmdet", "mmpose"), files=DWPOSE, start=dwpose,
        origin="yzd-v/DWPose",
    ),
    "BlazePose": Detector(kind="pose", packages=("ai-edge-litert",), start=blazepose),
    "MiDaS": Detector(
        kind="depth", packages=(AUX, "timm"), files=("dpt_hybrid-midas-501f0c75.pt",),
        start=auxiliary("midas", "MidasDetector", "dpt_hybrid-midas-501f0c75.pt"),
    ),
    "ZoeDepth": Detector(
        kind="depth", packages=(AUX, "timm"), files=("ZoeD_M12_N.pt",),
        start=auxiliary("zoe", "ZoeDetector", "ZoeD_M12_N.pt"),
    ),
    "LeReS": Detector(
        kind="depth", packages=(AUX,), files=("res101.pth", "latest_net_G.pth"),
        start=auxiliary("leres", "LeresDetector", "res101.pth"),
    ),
    "Toyland's sight": Detector(kind="depth", start=toyland),
    "NormalBae": Detector(
        kind="normal", packages=(AUX,), files=("scannet.pt",),
        start=auxiliary("normalbae", "NormalBaeDetector", "scannet.pt"),
    ),
    "HED": Detector(
        kind="softedge", packages=(AUX,), files=("ControlNetHED.pth",),
        start=auxiliary("hed", "HEDdetector", "ControlNetHED.pth"),
    ),
    "PidiNet": Detector(
        kind="softedge", packages=(AUX,), files=("table5_pidinet.pth",),
        start=auxiliary("pidi", "PidiNetDetector", "table5_pidinet.pth"),
    ),
    "TEED": Detector(
        kind="softedge", packages=(AUX,), files=("5_model.pth",), origin="fal-ai/teed",
        start=auxiliary("teed", "TEEDdetector", "5_model.pth"),
    ),
    "Lineart": Detector(
        kind="lineart", packages=(AUX,), files=("sk_model.pth", "sk_model2.pth"),
        start=auxiliary("lineart", "LineartDetector", "sk_model.pth"),
    ),
    "LineartAnime": Detector(
        kind="lineart", packages=(AUX,), files=("netG.pth",),
        start=auxiliary("lineart_anime", "LineartAnimeDetector", "netG.pth"),
    ),
    "Anyline": Detector(
        kind="lineart", packages=(AUX, "scikit-image"), files=("MTEED.pth",), origin="TheMistoAI/MistoLine",
        start=auxiliary("anyline", "AnylineDetector", "MTEED.pth"),
    ),
    "MLSD": Detector(
        kind="mlsd", packages=(AUX,), files=("mlsd_large_512_fp32.pth",),
        start=auxiliary("mlsd", "MLSDdetector", "mlsd_large_512_fp32.pth"),
    ),
    "SegmentAnything": Detector(
        kind="segment", packages=(AUX,), files=("sam_vit_h_4b8939.pth",), origin="ybelkada/segment-anything",
        start=auxiliary("segment_anything", "SamDetector", "sam_vit_h_4b8939.pth"),
    ),
}  # fmt: skip
"""By name; of one kind the first that can read is the one that does."""


def lacks(name: str, folder: Path | None = None) -> str:
    """What keeps a detector from reading, as a sentence; empty if nothing does."""
    detector, folder = DETECTORS[name], folder or ANNOTATORS
    if absent := [each for each in detector.packages if not _installed(each)]:
        return f"{name} needs a package: pip install {' '.join(repr(each) for each in absent)}."
    if missing := [file for file in detector.files if not (folder / file).is_file()]:
        return f"{name} needs {', '.join(missing)} from {detector.origin}, in {folder}."
    return ""


def reader(kind: str, folder: Path | None = None) -> str:
    """The name of the detector that reads this kind of map here; empty if none can."""
    fitting = [name for name, each in DETECTORS.items() if each.kind == kind]
    return next((name for name in fitting if not lacks(name, folder)), "")


def wanting(kind: str, folder: Path | None = None) -> str:
    """What would help to read this kind of map: a sentence for each detector that there is for it."""
    return " ".join(lacks(name, folder) for name, each in DETECTORS.items() if each.kind == kind)


def read(name: str, picture: Image.Image, folder: Path | None = None) -> Image.Image:
    """The map that a detector sees in a picture, at the picture's size; DetectorError if it cannot."""
    if lacking := lacks(name, folder):
        raise DetectorError(lacking)
    try:
        with _fenced():
            seen = _started(name, folder or ANNOTATORS)(picture.convert("RGB"))
    except DetectorError:
        raise
    except Exception as error:  # other people's code, on other people's files
        raise DetectorError(f"{name} could not read this picture: {type(error).__name__}: {error}") from error
    return seen.convert("RGB").resize(picture.size, Image.Resampling.BILINEAR)


@functools.lru_cache(maxsize=2)  # some weigh gigabytes
def _started(name: str, folder: Path) -> Read:
    return DETECTORS[name].start(folder)


def _installed(requirement: str) -> bool:
    wanted = Requirement(requirement)
    try:
        return wanted.specifier.contains(version(wanted.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _auxiliary(module: str) -> Any:
    """A module of controlnet-aux without its `__init__`, which imports all detectors and falls with one."""
    if "controlnet_aux" not in sys.modules and (spec := find_spec("controlnet_aux")):
        package = ModuleType("controlnet_aux")
        package.__path__ = list(spec.submodule_search_locations or ())
        sys.modules["controlnet_aux"] = package
    return importlib.import_module(f"controlnet_aux.{module}")


_fence = threading.Lock()
RESTRICTED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@contextmanager
def _fenced() -> Iterator[None]:
    """One detector at a time, with torch's restricted reader; what it draws by chance is always the same."""
    with _fence:
        drawn = np.random.get_state()
        os.environ[RESTRICTED] = "1"
        np.random.seed(0)  # ContentShuffle draws from here: the map shown must be the map used
        try:
            yield
        finally:
            np.random.set_state(drawn)
            del os.environ[RESTRICTED]
