"""The catalogue: what ships is well formed, and what is wrong is said by name."""

import pytest

from modules.engine import curves
from modules.models.catalog import CatalogueError, card_for_folder, read_addons, read_catalogue
from modules.tasks import KINDS, Limits, TaskError, TextToImage, default


def test_the_shipped_catalogue_has_pocket():
    card = read_catalogue()["pocket"]
    assert card.limits["width"] == Limits(128, 512, 64)
    assert set(card.tasks) <= set(KINDS)
    assert card.licence == "Apache-2.0"


def test_every_shipped_card_starts_with_a_task_that_it_can_serve():
    from modules import tasks

    for card in read_catalogue().values():
        for kind in card.tasks:
            start = {name: card.defaults.get(name, default(KINDS[kind], name)) for name in card.limits}
            task = KINDS[kind](model=card.id, **start)
            card.check(task)
            tasks.check(task, card.limits, "takes")


PROMISED = (
    "pocket sd15 sd21 sdxl sd-turbo sdxl-turbo lcm-dreamshaper sd15-inpaint sdxl-inpaint instruct-pix2pix "
    "dit-256 sd15-pose sd15-depth sd15-canny sdxl-union sd15-ip-adapter sdxl-ip-adapter sd3-medium "
    "flux-schnell flux-dev flux-kontext flux2-klein qwen-image qwen-image-edit z-image-turbo"
)


def test_what_was_promised_is_listed_with_defaults_that_its_noise_can_have():
    cards = read_catalogue()
    assert set(PROMISED.split()) <= {*cards, *read_addons()}
    for card in cards.values():
        if card.hub:
            kind = KINDS[card.tasks[0]]
            assert {"width", "height", "steps", "guidance_scale", "sampler", "schedule"} <= {*card.defaults}
            fields = {name: value for name, value in card.defaults.items() if hasattr(kind, name)}
            curves.noise_for(card, kind(model=card.id, **fields))


def test_a_card_refuses_what_it_cannot_serve():
    card = read_catalogue()["pocket"]
    with pytest.raises(TaskError, match="which cannot do instruct_edit; it does text_to_image"):
        card.check(KINDS["instruct_edit"](model="pocket"))
    card.check(TextToImage())


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("x: {title: X, family: pocket, tasks: []}", "'source'"),
        ("x: {title: X, family: pocket, source: a, tasks: [paint]}", "lists 'paint'"),
        ("x: {title: X, family: pocket, source: a, tasks: [], colour: red}", "colour"),
        ("x: {title: X, family: pocket, source: a, tasks: [], limits: {width: [1, 2]}}", "'x' is not right"),
    ],
)
def test_a_wrong_card_is_refused_in_words(entry, words, tmp_path):
    (tmp_path / "models.yaml").write_text(entry)
    with pytest.raises(CatalogueError, match="model 'x'") as refusal:
        read_catalogue(tmp_path / "models.yaml")
    assert words in str(refusal.value)


def test_a_folder_gets_a_card_of_its_own(tiny_folder, tmp_path):
    card = card_for_folder(tiny_folder)
    assert (card.id, card.family, card.width) == ("tiny", "pocket", 256)
    assert card.classes() == ["apple", "cat", "rocket", "star"]
    assert card.scheduler_config()["prediction_type"] == "epsilon"
    with pytest.raises(CatalogueError, match=r"no unet/config\.json"):
        card_for_folder(tmp_path)
