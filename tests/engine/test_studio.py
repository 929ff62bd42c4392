"""The studio: refuses early and in words, loads behind the page, lets one job in at a time, saves safely."""

import dataclasses
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modules import metadata
from modules.diffusion.sampling import Step
from modules.engine.generation import Result
from modules.engine.studio import Engine
from modules.models.catalog import CatalogueError
from modules.models.files import LoadError
from modules.settings import PUBLIC_LIMITS, Settings
from modules.tasks import ClassConditional, Controlled, Inpaint, Limits, TaskError, TextToImage

TASK = TextToImage(prompt="a red apple", steps=3, seed=1, width=128, height=128, model="tiny")


@pytest.fixture(scope="module")
def engine(tiny_folder, tmp_path_factory) -> Engine:
    return Engine(
        Settings(model=str(tiny_folder), device="cpu", output_dir=tmp_path_factory.mktemp("outputs"))
    )


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = (
        "import sys; from modules.engine.studio import Engine; from modules.settings import Settings;"
        "engine = Engine(Settings()); engine.status(), engine.samplers(), engine.spacings('DDIM');"
        "from modules.tasks import TextToImage; engine.limits(TextToImage, 'steps');"
        "print([name for name in ('torch', 'diffusers', 'transformers', 'gradio') if name in sys.modules])"
    )
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"


def test_start_loads_and_status_says_what_runs_where(engine):
    ready, sentence = engine.status()
    assert not ready
    assert sentence.startswith("tiny is")
    engine.start()
    engine.start()  # once is enough
    engine._thread.join()
    ready, sentence = engine.status()
    assert ready
    assert sentence.startswith("tiny on the CPU (")
    assert "float32" in sentence
    assert "--device cuda" in sentence


@pytest.mark.parametrize("prompt", ["a __catt__", "a (cat:99)"])
def test_a_prompt_that_cannot_be_read_is_refused_before_its_turn(prompt, engine):
    for name in ("prompt", "negative_prompt"):
        with pytest.raises(TaskError, match="must be"):
            engine.check(dataclasses.replace(TASK, **{name: prompt}))


def test_tokens_are_counted_for_the_words_that_a_template_draws(engine):
    assert engine.count_tokens("a {red|blue} (cat:1.2)")[:2] == (3, 30)


def test_a_run_yields_steps_previews_and_a_result(engine):
    events = list(engine.run(TASK))
    assert [type(event) for event in events] == [Step, Step, Step, Result]
    assert engine.preview(events[0]).size == (256, 256)
    wide = list(engine.run(dataclasses.replace(TASK, width=256, batch_size=2)))
    assert engine.preview(wide[0]).size == (256, 128)


@pytest.mark.parametrize(
    ("task", "field", "words"),
    [
        (TextToImage(model="dall-e"), "model", "model is 'dall-e'; it must be one of pocket, tiny"),
        (TextToImage(model="../../etc"), "model", "must be one of"),
        (
            dataclasses.replace(TASK, sampler="Magic"),
            "sampler",
            "sampler is 'Magic'; it must be one of DDPM, DDIM",
        ),
        (dataclasses.replace(TASK, schedule="magic"), "schedule", "'magic'"),
        (dataclasses.replace(TASK, sampler="Euler a", schedule="karras"), "schedule", "Euler a"),
        (dataclasses.replace(TASK, sampler="LCM", schedule="default", steps=900), "steps", "steps is 900"),
        (Controlled(model="tiny"), "model", "cannot do controlnet"),
        (Inpaint(model="tiny"), "image", "image is missing"),
        (ClassConditional(model="tiny", class_name="aple"), "class_name", "class_name is 'aple'"),
        (ClassConditional(model="tiny"), "class_name", "class_name is ''"),
    ],
)
def test_what_cannot_be_served_is_refused_before_it_runs(task, field, words, engine):
    with pytest.raises(TaskError) as refusal:
        engine.run(task)
    assert refusal.value.field == field
    assert words in str(refusal.value)


def test_the_card_and_the_public_narrow_the_limits(tiny_folder):
    engine = Engine(Settings(model=str(tiny_folder), public=True, limits=PUBLIC_LIMITS))
    card = dataclasses.replace(engine.catalog["tiny"], limits={"width": Limits(128, 512, 64)})
    engine.catalog["tiny"] = card
    for task, words in (
        (dataclasses.replace(TASK, width=64), "width is 64; tiny takes 128 to 512."),
        (dataclasses.replace(TASK, steps=101), "steps is 101; this public studio takes 1 to 100."),
        (dataclasses.replace(TASK, batch_size=5), "batch_size is 5; this public studio takes 1 to 4."),
    ):
        with pytest.raises(TaskError, match=words.replace(".", r"\.")):
            engine.check(task)
    assert engine.limits(TextToImage, "width") == Limits(128, 512, 64)
    assert engine.limits(TextToImage, "height").maximum * 64 <= PUBLIC_LIMITS["pixels"].maximum
    assert engine.limits(TextToImage, "steps").maximum == 100
    assert engine.limits(TextToImage, "seed").minimum == -1


def test_defaults_come_from_the_card_and_then_the_task(engine):
    assert engine.default(TextToImage, "steps") == 20
    assert engine.default(TextToImage, "model") == "tiny"
    assert engine.default(TextToImage, "model", "pocket") == "pocket"
    assert engine.default(TextToImage, "width") == 256
    assert engine.classes("tiny") == ["apple", "cat", "rocket", "star"]


def test_one_job_paints_at_a_time(engine, monkeypatch):
    from modules.engine import rescue

    active, most, begin = [], [], threading.Barrier(3)

    def watched(model, task, rung, paint):
        active.append(task)
        most.append(len(active))
        for _ in range(4):
            time.sleep(0.02)
            yield task
        active.pop()

    monkeypatch.setattr(rescue, "rescued", watched)

    def paint() -> None:
        begin.wait()
        assert len(list(engine.run(TASK))) == 4

    threads = [threading.Thread(target=paint) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


def test_closing_a_job_lets_the_next_one_in(engine):
    first = engine.run(TASK)
    next(first)
    assert engine._painting.locked()
    first.close()
    assert not engine._painting.locked()
    assert isinstance(list(engine.run(TASK))[-1], Result)


def test_a_job_may_be_continued_and_closed_from_another_thread(engine):
    events = engine.run(TASK)
    for _ in range(2):
        thread = threading.Thread(target=next, args=(events,))
        thread.start()
        thread.join()
    thread = threading.Thread(target=events.close)
    thread.start()
    thread.join()
    assert isinstance(list(engine.run(TASK))[-1], Result)


def test_a_job_that_fails_lets_the_next_one_in(engine, monkeypatch):
    from modules.engine import generation

    with monkeypatch.context() as patched:
        patched.setattr(generation, "make_scheduler", lambda *_: (_ for _ in ()).throw(RuntimeError("no")))
        with pytest.raises(RuntimeError):
            list(engine.run(TASK))
    assert isinstance(list(engine.run(TASK))[-1], Result)


def test_a_broken_model_is_a_sentence_and_can_be_mended(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "tiny")
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.unlink()
    engine = Engine(Settings(model=str(folder), device="cpu", output_dir=tmp_path))
    engine.start()
    engine._thread.join()
    ready, sentence = engine.status()
    assert not ready
    assert "is missing: copy or download the model again" in sentence
    with pytest.raises(LoadError, match="is missing"):
        list(engine.run(TASK))
    weights.write_bytes(whole)
    assert isinstance(list(engine.run(TASK))[-1], Result)
    assert engine.status()[0]


def test_a_model_that_is_nowhere_is_a_sentence():
    with pytest.raises(
        CatalogueError, match=r"'nothing', which is no folder and not in the catalogue \(pocket; to be downl"
    ):
        Engine(Settings(model="nothing"))


def test_the_curve_needs_no_model_and_agrees_with_the_job(tiny_folder):
    engine = Engine(Settings(model=str(tiny_folder), device="cpu"))
    curve = engine.snr_curve("DPM++ 2M", "karras", 7)
    assert engine._model is None
    assert set(curve) == {"train", "visited"}
    for levels, length in ((curve["train"], 1000), (curve["visited"], 7)):
        assert set(levels) == {"t", "alpha", "sigma", "snr", "log_snr"}
        assert {len(column) for column in levels.values()} == {length}
    *_, result = engine.run(dataclasses.replace(TASK, steps=7))
    np.testing.assert_allclose(result.info["snr"], curve["visited"]["snr"], rtol=1e-6)
    np.testing.assert_allclose(result.info["timesteps"], curve["visited"]["t"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "values",
    [
        ("Magic", "karras", 5),
        ("DDIM", "magic", 5),
        ("DDIM", "default", 0),
        ("DDIM", "default", "x"),
        ("DDIM", "default", 5, "nothing"),
        ("DDIM", "default", 5, "tiny", 0.0),
        ("DDIM", "default", 5, "tiny", 2),
    ],
)
def test_a_curve_that_makes_no_sense_is_refused(values, engine):
    with pytest.raises(TaskError):
        engine.snr_curve(*values)


def test_pictures_are_saved_with_their_recipes(engine):
    *_, result = engine.run(dataclasses.replace(TASK, batch_size=2))
    paths = engine.save(result)
    assert len(set(paths)) == 2
    for path, seed, picture in zip(paths, result.info["seeds"], result.images):
        assert path.parent == engine.settings.output_dir
        with Image.open(path) as saved:
            assert np.array_equal(np.asarray(saved), np.asarray(picture))
            task = metadata.read(saved).task
        assert task is not None
        assert task.seed == seed


def test_strangers_pictures_are_swept_and_ones_own_are_kept(engine, tmp_path):
    *_, result = engine.run(TASK)
    public = Engine(dataclasses.replace(engine.settings, keep_seconds=60, output_dir=tmp_path))
    private = Engine(dataclasses.replace(engine.settings, output_dir=tmp_path))
    old, young = private.save(result)[0], private.save(result)[0]
    hour_ago = time.time() - 3600
    own = tmp_path / "holiday.png"
    own.write_bytes(b"not ours to delete")
    for path in (old, own):
        os.utime(path, (hour_ago, hour_ago))
    private.save(result)
    assert old.exists()
    public.save(result)
    assert not old.exists()
    assert young.exists()
    assert own.exists()


def test_offline_is_told_to_the_hub_client(tiny_folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    Engine(Settings(model=str(tiny_folder), offline=True))
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_what_a_run_cost_foretells_the_next(tiny_folder, tmp_path):
    settings = Settings(model=str(tiny_folder), device="cpu", output_dir=tmp_path)
    engine = Engine(settings)
    assert engine.forecast(TASK).seconds is None
    list(engine.run(TASK))
    found = engine.forecast(TASK)
    assert found.loaded
    assert found.fits
    assert found.weights > 100_000
    longer = dataclasses.replace(TASK, steps=300)
    assert engine.forecast(longer).seconds > 2 * found.seconds > 0
    again = Engine(settings)  # the next start of the studio, before anything is loaded
    assert again.forecast(TASK).seconds == pytest.approx(found.seconds)
    assert not again.forecast(TASK).loaded
    assert Engine(dataclasses.replace(settings, device="cuda")).forecast(TASK).seconds is None


def test_some_samplers_take_few_steps(engine):
    assert (engine.most_steps("LCM"), engine.most_steps("DDIM")) == (50, 1000)
    with pytest.raises(TaskError, match="sampler is 'Magic'"):
        engine.most_steps("Magic")


def test_a_lora_is_worn_for_one_job_and_unknown_ones_are_refused_at_once(engine, tmp_path, monkeypatch):
    from modules.models.wardrobe import Wardrobe
    from tests.models.test_adapters import weights, write_lora

    model = engine._model_for("tiny")
    before = weights(model)
    write_lora(tmp_path / "lora" / "soft.safetensors", {"unet": model.unet})
    monkeypatch.setattr(engine, "wardrobe", Wardrobe(tmp_path))
    object.__setattr__(model, "wardrobe", engine.wardrobe)
    asked = dataclasses.replace(TASK, prompt="a red apple <lora:{soft|soft}:1>")
    with pytest.raises(TaskError, match="'loud'; it must be one of soft"):
        engine.run(dataclasses.replace(TASK, prompt="<lora:loud:1>"))
    plain, dressed, after = ([*engine.run(one)][-1] for one in (TASK, asked, TASK))
    assert dressed.info["adapters"][0]["name"] == "soft"
    assert "adapters" not in plain.info
    assert plain.images[0].tobytes() == after.images[0].tobytes() != dressed.images[0].tobytes()
    assert weights(model) == before
    tokens = engine.count_tokens("a red apple").used
    assert engine.count_tokens("a red apple <lora:soft:1>").used == tokens
    assert engine.adapters() == [("soft (LoRA)", "<lora:soft:1>")]


def test_an_image_prompt_without_an_ip_adapter_is_refused_at_once(engine):
    assert not engine.sees("tiny")
    with pytest.raises(TaskError, match="tiny has no IP-Adapter here") as refusal:
        engine.run(dataclasses.replace(TASK, image_prompt=Image.new("RGB", (8, 8))))
    assert refusal.value.field == "image_prompt"
