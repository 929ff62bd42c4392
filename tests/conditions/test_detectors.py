"""Detectors: the weight-free ones read, the others say what they need, none is imported before its time."""

import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modules.conditions import detectors
from modules.conditions.control import control_map, recognise
from modules.conditions.detectors import DETECTORS, Detector, DetectorError, lacks, read, reader, wanting
from modules.conditions.edges import edges
from modules.tasks import TaskError
from modules.training import sight
from modules.training.toyland.scenes import scene


@pytest.fixture(scope="module")
def photo():
    """A disc and a bar on a shaded ground, with grain."""
    y, x = np.mgrid[0:128, 0:192]
    shade = 120 + x / 4 + np.random.default_rng(0).integers(-20, 20, (128, 192))
    shade = np.where(np.hypot(x - 60, y - 64) < 30, 230, np.where(abs(x - 140) < 12, 40, shade))
    return Image.fromarray(np.stack([shade, shade * 0.8, shade * 0.6], 2).clip(0, 255).astype(np.uint8))


def test_every_detector_of_controlnet_aux_is_here():
    exported = Path(find_spec("controlnet_aux").origin).read_text()
    offered = {line.split()[-1] for line in exported.splitlines() if line.startswith("from ")}
    source = Path(detectors.__file__).read_text()
    assert {name for name in offered if name.lower().endswith("detector") and name not in source} == set()


@pytest.mark.parametrize("name", ["Edges", "LineartStandard", "ContentShuffle", "Canny"])
def test_what_needs_no_weights_reads_a_photograph(name, photo, tmp_path):
    assert lacks(name, tmp_path) == ""
    seen = read(name, photo, tmp_path)
    assert seen.size == photo.size
    assert np.asarray(seen).std() > 5
    assert seen.tobytes() == read(name, photo, tmp_path).tobytes()  # the map shown is the map used


def test_our_edges_come_before_the_others(photo):
    assert reader("canny") == "Edges"
    assert read("Edges", photo).tobytes() == edges(photo).tobytes()


@pytest.mark.parametrize("name", [name for name, each in DETECTORS.items() if each.files])
def test_each_says_which_file_or_package_it_needs(name, photo, tmp_path):
    told = lacks(name, tmp_path)
    assert told.startswith(f"{name} needs ")
    named = [*DETECTORS[name].files, *DETECTORS[name].packages]
    assert any(each in told for each in named)
    with pytest.raises(DetectorError, match=f"{name} needs"):
        read(name, photo, tmp_path)


def test_a_package_that_is_absent_or_too_new_is_named(monkeypatch):
    monkeypatch.setattr(detectors, "version", lambda name: "1.2")
    assert lacks("MediapipeFace") == "MediapipeFace needs a package: pip install 'mediapipe<1'."
    monkeypatch.setattr(detectors, "version", lambda name: "0.10.9")
    assert lacks("MediapipeFace") == ""


def test_a_file_that_is_no_weights_is_told_and_runs_nothing(photo, tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path(tmp_path / "ran").touch, ()

    (tmp_path / "ControlNetHED.pth").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DetectorError, match="HED could not read this picture"):
        read("HED", photo, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_kind_without_a_detector_is_told_with_what_would_help(photo):
    with pytest.raises(TaskError, match="set detect to never") as refusal:
        control_map(photo, "normal", "auto", 128, 128)
    assert "NormalBae needs scannet.pt from lllyasviel/Annotators" in str(refusal.value)
    assert wanting("no such kind") == ""


def test_a_person_is_read_as_a_skeleton_by_what_ships():
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert has no wheel for this machine")
    figure = Image.fromarray(scene(6).image)
    made = control_map(figure, "pose", "auto", 256, 256)
    assert made.told == "The pose map was read from the picture, by BlazePose."
    assert recognise(made.picture) == "pose"


def test_depth_is_seen_by_what_ships():
    one = scene(sight.HELD_OUT + 2, kind="objects")
    made = control_map(Image.fromarray(one.image), "depth", "auto", 256, 256)
    assert made.told == "The depth map was read from the picture, by Toyland's sight."
    assert recognise(made.picture) == "depth"
    read = np.asarray(made.picture.convert("L").resize((32, 32), Image.Resampling.BOX))
    assert sight.spearman(read, sight.nearness(one.depth)) > 0.85


def test_a_new_entry_is_used_at_once(monkeypatch, photo):
    grey = Detector(kind="tone", start=lambda folder: lambda picture: picture.convert("L"))
    monkeypatch.setitem(DETECTORS, "Grey", grey)
    made = control_map(photo, "tone", "auto", 192, 128)
    assert made.told == "The tone map was read from the picture, by Grey."
    assert made.picture.tobytes() == photo.convert("L").convert("RGB").tobytes()


def test_edges_serve_a_network_that_learned_drawings_of_lines(photo):
    drawing = edges(photo)
    assert "as it is" in control_map(drawing, "lineart", "auto", 192, 128).told
    assert "by LineartStandard" in control_map(photo, "lineart", "auto", 192, 128).told


def test_a_depth_estimator_of_transformers_reads_from_a_local_folder(photo, tmp_path):
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    config = DPTConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=32,
        patch_size=16, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8, is_hybrid=False,
    )  # fmt: skip
    folder = tmp_path / "dpt-hybrid-midas"
    DPTForDepthEstimation(config).save_pretrained(folder)
    DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    assert lacks("DPT", tmp_path) == ""
    assert read("DPT", photo, tmp_path).size == photo.size


def test_nothing_is_imported_before_a_detector_reads():
    code = (
        "import sys, modules.conditions.control; print({'controlnet_aux', 'torch', 'cv2'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
