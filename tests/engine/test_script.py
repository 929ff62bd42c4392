"""A script of plain diffusers makes the picture that the studio made; where it cannot, it says why."""

import ast
import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modules.engine.generation import generate
from modules.engine.script import ScriptError, script
from modules.models.catalog import card_for_folder, read_catalogue
from modules.models.loading import load
from modules.tasks import ClassConditional, Inpaint, TextToImage
from tests.tiny import write_tiny_stable_diffusion

POCKET = read_catalogue()["pocket"]
SMALL = {"steps": 4, "seed": 11, "width": 64, "height": 64, "model": "tiny"}


@pytest.fixture(scope="module")
def tiny(tiny_folder):
    return load(card_for_folder(tiny_folder), "cpu")


def painted(model, task):
    *_, result = generate(model, task)
    return result


def run_here(code, folder, monkeypatch):
    """The picture that a script paints, run in this process."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["paint.py"])
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, "paint.py", "exec"), {"__name__": "__main__"})
    return Image.open(folder / "picture.png")


def apart(one, other):
    return int(np.abs(np.asarray(one, int) - np.asarray(other, int)).max())


@pytest.mark.parametrize(
    ("sampler", "schedule"),
    [("DPM++ 2M", "karras"), ("Euler", "ays"), ("Euler a", "trailing"), ("Heun", "exponential"),
     ("DPM++ SDE", "karras"), ("DDIM", "default"), ("PNDM", "default"), ("DEIS", "default")],
)  # fmt: skip
def test_it_paints_the_same_picture_with_every_sampler(tiny, sampler, schedule, tmp_path, monkeypatch):
    words = {"prompt": "a red apple", "negative_prompt": "blue"}
    task = TextToImage(sampler=sampler, schedule=schedule, **words, **SMALL)
    result = painted(tiny, task)
    again = run_here(script(result.info, tiny.card), tmp_path, monkeypatch)
    assert apart(result.images[0], again) <= 1


@pytest.mark.parametrize(
    "more",
    [{"class_scale": 4.0}, {"prompt": "on a red background"}, {"class_scale": 1.0}, {"class_scale": 0.0},
     {"variation_strength": 0.3, "variation_seed": 5}],
)  # fmt: skip
def test_it_paints_classes_and_variations(tiny, more, tmp_path, monkeypatch):
    task = ClassConditional(**{"class_name": "cat", **SMALL, **more})
    result = painted(tiny, task)
    assert apart(result.images[0], run_here(script(result.info, tiny.card), tmp_path, monkeypatch)) <= 1


def test_it_paints_any_picture_of_a_batch(tiny, tmp_path, monkeypatch):
    result = painted(tiny, TextToImage(prompt="a cat", batch_size=2, **SMALL))
    code = script(result.info, tiny.card, index=1)
    assert apart(result.images[1], run_here(code, tmp_path, monkeypatch)) <= 1


def test_it_paints_stable_diffusions(tmp_path, monkeypatch):
    folder = write_tiny_stable_diffusion(tmp_path / "sd")
    model = load(card_for_folder(folder), "cpu")
    result = painted(model, TextToImage(prompt="a cat", negative_prompt="a dog", **SMALL))
    assert apart(result.images[0], run_here(script(result.info, model.card), tmp_path, monkeypatch)) <= 1


def test_pocket_outside_the_app(tmp_path):
    """As a stranger runs it: another process, another folder, nothing of ours imported."""
    task = ClassConditional(class_name="apple", prompt="on a blue background", steps=3, seed=5)
    result = painted(load(POCKET, "cpu"), task)
    code = script(result.info, POCKET)
    assert "modules" not in {name.split(".")[0] for name in imports(code)}
    (tmp_path / "paint.py").write_text(code, "utf-8")
    home = Path(__file__).resolve().parents[2]
    told = subprocess.run(
        [sys.executable, "paint.py", str(home)], cwd=tmp_path, env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert apart(result.images[0], Image.open(tmp_path / "picture.png")) <= 1


def imports(code):
    """The modules that a source imports."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize(
    ("change", "why"),
    [({"prompt": "a (red:1.3) cat"}, "weights"), ({"prompt": "cat " * 60}, "longer"),
     ({"sampler": "DPM++ 3M SDE"}, "corrected"), ({"sampler": "DDIM", "steps": 3}, "divide"),
     ({"sampler": "DDIM", "schedule": "zero_snr"}, "more noise")],
)  # fmt: skip
def test_what_plain_diffusers_cannot_do_is_said(tiny, change, why):
    task = TextToImage(**{"prompt": "a cat", "schedule": "default", **SMALL, **change})
    info = painted(tiny, task).info
    with pytest.raises(ScriptError, match=why):
        script(info, tiny.card)


def test_a_picture_made_from_another_has_no_script(tiny):
    info = {"kind": Inpaint.kind, **Inpaint().scalars()}
    with pytest.raises(ScriptError, match="another picture"):
        script(info, tiny.card)


def test_words_cannot_become_code(tiny, tmp_path, monkeypatch):
    nasty = '\')]; exit()  # \\\' $seed """'
    result = painted(tiny, TextToImage(prompt=nasty, **SMALL))
    assert apart(result.images[0], run_here(script(result.info, tiny.card), tmp_path, monkeypatch)) <= 1
