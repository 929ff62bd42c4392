"""The named endpoints as an outside client meets them: by parameter name, over a real port."""

import dataclasses
import inspect
import json

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from modules import metadata
from modules.conditions import pose
from modules.settings import Settings
from modules.tasks import KINDS
from modules.ui import build, launch_options
from tests.ui.fake import CLASSES, CONTROLLED, EDITING, FakeEngine

OTHERS = ("snr_curve", "models", "submit", "job", "cancel", "replay", "compare", "script")
INFO = [
    *("seed", "seeds", "sampler", "schedule", "steps", "guidance_scale", "model", "model_hash"),
    *("width", "height", "timesteps", "snr", "seconds", "versions"),
]


@pytest.fixture(scope="module")
def engine():
    engine = FakeEngine(pace=0.002)
    engine.start()
    return engine


@pytest.fixture(scope="module")
def client(engine):
    blocks = build(engine, Settings())
    _, address, _ = blocks.launch(**launch_options(Settings()), prevent_thread_lock=True)
    yield Client(address, verbose=False)
    blocks.close()


@pytest.fixture(scope="module")
def endpoints(client):
    return client.view_api(return_format="dict")["named_endpoints"]


def refused(client, **values):
    with pytest.raises(AppError) as refusal:
        client.predict(**values)
    sentence = str(refusal.value)
    assert "Traceback" not in sentence
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize("name", list(KINDS))
def test_parameters_are_the_tasks_fields_with_their_defaults(endpoints, name):
    parameters = {p["parameter_name"]: p for p in endpoints[f"/{name}"]["parameters"]}
    fields = dataclasses.fields(KINDS[name])
    assert set(parameters) == {field.name for field in fields}
    for field in fields:
        assert parameters[field.name]["parameter_has_default"], field.name
        assert parameters[field.name]["parameter_default"] == field.default, field.name


def test_text_to_image_gives_files_and_info(client):
    files, info = client.predict(
        prompt="a red apple", steps=4, seed=11, batch_size=2, width=128, height=192, api_name="/text_to_image"
    )
    assert [info["seed"], info["seeds"]] == [11, [11, 12]]
    assert set(INFO) <= set(info)
    assert len(info["timesteps"]) == len(info["snr"]) == 4
    for file, seed in zip(files, info["seeds"], strict=True):
        with Image.open(file) as picture:
            assert (picture.format, picture.size) == ("PNG", (128, 192))
            assert metadata.read(picture).task.seed == seed


def test_everything_may_be_left_to_its_default(client):
    files, info = client.predict(api_name="/text_to_image")
    assert len(files) == 1
    assert (info["steps"], info["sampler"], info["prompt"]) == (20, "DPM++ 2M", "")
    assert info["seed"] >= 0


def test_class_conditional_takes_class_weight_and_prompt(client):
    _, info = client.predict(
        class_name=CLASSES[2], class_scale=4.5, prompt="on grass", steps=2, api_name="/class_conditional"
    )
    assert (info["class_name"], info["class_scale"], info["prompt"]) == (CLASSES[2], 4.5, "on grass")


def test_progress_comes_while_it_paints_and_the_result_last(client):
    job = client.submit(prompt="a star", steps=6, api_name="/text_to_image")
    heard = list(job)
    assert heard[0][1] == {"step": 1, "of": 6}
    assert heard[-1][1]["steps"] == 6


def test_a_cancelled_request_frees_the_engine(engine):
    # Straight on the engine's face, as gradio does it: GeneratorExit at a yield.
    from modules.ui.api import _painter

    names = [field.name for field in dataclasses.fields(KINDS["text_to_image"])]
    request = _painter(engine, KINDS["text_to_image"], names)(*[None] * len(names))
    next(request)
    before = engine.closed
    request.close()
    assert (engine.running, engine.closed) == (0, before + 1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"steps": 0}, "steps is 0; it must be a whole number from 1 to 1000"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"width": -64}, "width is -64"),
        ({"width": 100}, "in steps of 64"),
        ({"guidance_scale": 31}, "guidance_scale is 31"),
        ({"guidance_scale": "much"}, "guidance_scale is 'much'"),
        ({"seed": -2}, "seed is -2"),
        ({"batch_size": 17}, "batch_size is 17"),
        ({"prompt": "x" * 10_001}, "prompt has 10,001 characters"),
        ({"sampler": "Magic"}, "sampler is 'Magic'"),
        ({"sampler": "DDPM", "schedule": "karras"}, "karras"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_a_sentence(client, values, said):
    assert said in refused(client, **values, api_name="/text_to_image")


def test_an_unknown_class_is_refused_with_a_sentence(client):
    assert "dragon" in refused(client, class_name="dragon", api_name="/class_conditional")


@pytest.mark.parametrize(
    "prompt", ["", "\x00\x07bell", "<script>alert(1)</script>", "猫 🐈", "תפוח אדום", "${1+1} {{value}}"]
)
def test_odd_prompts_are_prompts(client, prompt):
    _, info = client.predict(prompt=prompt, steps=1, api_name="/text_to_image")
    assert info["prompt"] == prompt.replace("\x00", "").replace("\x07", "")


def test_what_no_model_serves_yet_is_refused_with_a_sentence(client, tmp_path):
    picture = tmp_path / "picture.png"
    Image.new("RGB", (64, 64)).save(picture)
    assert "controlnet" in refused(client, control_image=handle_file(picture), api_name="/controlnet")


def test_an_edit_by_instruction_is_an_endpoint_and_a_tab_where_a_model_serves_it(tmp_path):
    engine = FakeEngine(pace=0, catalog={"pocket": EDITING})
    blocks = build(engine, Settings())
    assert "Edit" in [tab.label for tab in blocks.blocks.values() if tab.get_block_name() == "tabitem"]
    _, address, _ = blocks.launch(**launch_options(Settings()), prevent_thread_lock=True)
    try:
        client, picture = Client(address, verbose=False), tmp_path / "picture.png"
        Image.new("RGB", (64, 48), "navy").save(picture)
        given = {"image": handle_file(picture), "prompt": "make it winter", "steps": 2}
        _, info = client.predict(**given, image_guidance_scale=2.0, api_name="/instruct_edit")
        assert (info["kind"], info["image_guidance_scale"]) == ("instruct_edit", 2.0)
        assert engine.runs[-1].image.getpixel((5, 5)) == (0, 0, 128)
        said = refused(client, **given, image_guidance_scale=11.0, api_name="/instruct_edit")
        assert "image_guidance_scale is 11.0; it must be a number from 0 to 10" in said
        assert "image is missing" in refused(client, api_name="/instruct_edit")
    finally:
        blocks.close()


@pytest.mark.parametrize("name", ["inpaint", "image_to_image"])
def test_pictures_travel_as_files(client, engine, name, tmp_path):
    picture, mask = tmp_path / "picture.png", tmp_path / "mask.png"
    Image.new("RGB", (64, 48), "teal").save(picture)
    strokes = Image.new("RGBA", (64, 48))
    strokes.paste((9, 9, 9, 255), (0, 0, 10, 10))
    strokes.save(mask)
    given = {"image": handle_file(picture)} | ({"mask": handle_file(mask)} if name == "inpaint" else {})
    _, info = client.predict(**given, steps=2, strength=0.5, api_name=f"/{name}")
    assert info["kind"] == name
    assert engine.runs[-1].image.getpixel((5, 5)) == (0, 128, 128)
    if name == "inpaint":
        assert engine.runs[-1].mask.getpixel((5, 5)) == 255
        assert engine.runs[-1].mask.getpixel((20, 20)) == 0
    assert "image is missing" in refused(client, api_name=f"/{name}")


def test_controlnet_takes_a_map_and_says_what_it_cannot_take(tmp_path):
    blocks = build(FakeEngine(pace=0, catalog={"pocket": CONTROLLED}), Settings())
    _, address, _ = blocks.launch(**launch_options(Settings()), prevent_thread_lock=True)
    try:
        client = Client(address, verbose=False)
        skeleton = tmp_path / "skeleton.png"
        pose.draw([pose.named_poses()["waving"]], 128, 128).save(skeleton)
        given = {"control_image": handle_file(skeleton), "api_name": "/controlnet"}
        files, info = client.predict(control_scale=0.5, steps=2, **given)
        assert (len(files), info["control_type"], info["control_scale"]) == (1, "pose", 0.5)
        assert "a drawn skeleton, which is no depth map" in refused(client, control_type="depth", **given)
        assert "control_image is missing" in refused(client, api_name="/controlnet")
        slope = tmp_path / "slope.png"
        Image.linear_gradient("L").save(slope)
        both = given | {"control_type_2": "depth", "control_image_2": handle_file(slope), "steps": 2}
        _, info = client.predict(control_scale_2=0.4, **both)
        assert (info["control_type_2"], info["control_scale_2"]) == ("depth", 0.4)
        said = refused(client, **(given | {"control_type_2": "depth"}))
        assert "control_image_2 is missing" in said
    finally:
        blocks.close()


def test_a_file_that_is_no_picture_is_refused_with_a_sentence(client, tmp_path):
    text = tmp_path / "notes.png"
    text.write_text("not a picture")
    sentence = refused(client, image=handle_file(text), api_name="/inpaint")
    assert "picture" in sentence
    assert str(tmp_path) not in sentence


def test_snr_curve_needs_no_model(client, engine):
    curve = client.predict(sampler="Euler", schedule="karras", steps=7, api_name="/snr_curve")
    assert set(curve) == {"train", "visited"}
    for levels in curve.values():
        assert set(levels) == {"t", "alpha", "sigma", "snr", "log_snr"}
    assert curve["visited"] == engine.snr_curve("Euler", "karras", 7)["visited"]
    assert len(curve["train"]["t"]) == 1000
    json.dumps(curve, allow_nan=False)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"sampler": "Magic"}, "Magic"),
        ({"strength": 2}, "strength is 2"),
        ({"sampler": "DDPM", "schedule": "karras"}, "karras"),
    ],
)
def test_snr_curve_refuses_in_words(client, values, said):
    assert said in refused(client, **values, api_name="/snr_curve")


def test_snr_curve_parameters(endpoints):
    names = [p["parameter_name"] for p in endpoints["/snr_curve"]["parameters"]]
    assert names == ["sampler", "schedule", "steps", "model", "strength", "width", "height"]


def test_a_job_is_submitted_looked_at_and_done(client):
    job = client.predict("text_to_image", {"prompt": "a cat", "steps": 3, "seed": 5}, api_name="/submit")
    state = {"state": ""}
    while state["state"] != "done":
        assert state["state"] in ("", "queued", "running")
        files, state = client.predict(job["id"], api_name="/job")
    assert (state["info"]["prompt"], state["info"]["seeds"], state["position"]) == ("a cat", [5], 0)
    with Image.open(files[0]) as picture:
        assert metadata.read(picture).task.seed == 5
    assert client.predict(job["id"], api_name="/cancel") == {"cancelled": False}


def test_a_job_is_cancelled(client, engine):
    closed = engine.closed
    job = client.predict("text_to_image", {"steps": 1000}, api_name="/submit")
    files, state = client.predict(job["id"], api_name="/job")
    assert (files, state["state"] in ("queued", "running")) == (None, True)
    assert client.predict(job["id"], api_name="/cancel") == {"cancelled": True}
    assert client.predict(job["id"], api_name="/job")[1]["state"] == "cancelled"
    client.predict(steps=1, api_name="/text_to_image")  # the engine is free again
    assert engine.closed <= closed + 1


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("magic", {}, "kind is 'magic'"),
        ("text_to_image", {"steps": 0}, "steps is 0"),
        ("text_to_image", {"colour": "red"}, "'colour' is not a field"),
        ("class_conditional", {"class_name": "dragon"}, "dragon"),
    ],
)
def test_a_job_that_cannot_be_is_refused_at_once(client, kind, fields, said):
    assert said in refused(client, kind=kind, fields=fields, api_name="/submit")


def test_an_unknown_job_is_a_sentence(client):
    assert "There is no such job" in refused(client, id="x", api_name="/job")


def test_a_failure_inside_is_one_sentence(client, engine):
    engine.breaks = ZeroDivisionError("secret")
    try:
        assert "secret" not in refused(client, api_name="/text_to_image")
    finally:
        engine.breaks = None


def test_the_pages_own_events_are_not_endpoints(endpoints):
    assert set(endpoints) == {f"/{name}" for name in [*KINDS, *OTHERS]}
    assert inspect.getdoc(KINDS["inpaint"]).split(".")[0] in endpoints["/inpaint"]["description"]


def test_a_picture_is_replayed_compared_and_written_as_python(client, tmp_path):
    files, _ = client.predict(prompt="a star", steps=2, seed=5, batch_size=2, api_name="/text_to_image")
    made, told = client.predict(handle_file(files[1]), api_name="/replay")
    assert (told["identical"], told["pixels_differing"], told["fields"]) == (True, 0, [])
    assert told["info"]["seeds"] == [5, 6]
    assert len(made) == 1
    other, _ = client.predict(prompt="a star", steps=3, seed=6, api_name="/text_to_image")
    heat, told = client.predict(handle_file(files[1]), handle_file(other[0]), api_name="/compare")
    assert told["same_size"]
    assert "steps" in {field["name"] for field in told["fields"]}
    assert len(heat) == (told["pixels_differing"] > 0)
    assert "seed = 'a star', 6" in client.predict(handle_file(files[1]), api_name="/script")
    Image.new("RGB", (64, 64)).save(tmp_path / "silent.png")
    for name in ("replay", "script"):
        with pytest.raises(AppError, match="say"):
            client.predict(handle_file(tmp_path / "silent.png"), api_name=f"/{name}")


def test_models_are_listed_with_what_they_serve(client):
    (pocket,) = client.predict(api_name="/models")
    assert pocket["id"] == "pocket"
    assert pocket["here"] is True
    assert "text_to_image" in pocket["tasks"]
