"""The Edit tab pressed for real: a picture in, an instruction, and the changed picture out."""

import numpy as np
import pytest
from PIL import Image

from modules.tasks import InstructEdit
from tests.ui.fake import EDITING, FakeEngine

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def engine():
    engine = FakeEngine(pace=0.01, catalog={"pocket": EDITING})
    engine.start()
    return engine


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("edit") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_picture_is_changed_as_told(visit, engine, photo):
    from playwright.sync_api import expect

    page = visit()
    page.get_by_role("tab", name="Edit").click()
    page.locator("button.generate:visible").click()
    expect(page.locator("#gallery .status")).to_contain_text("choose the picture")
    page.set_input_files("#edit-easel .file", photo)
    expect(page.locator("#edit-easel .easel")).to_have_attribute("data-state", "held")
    page.locator("#edit-prompt textarea").fill("make it winter")
    page.locator("button.generate:visible").click()
    expect(page.locator("#gallery .frame")).to_have_attribute("data-phase", "done")
    expect(page.locator("#gallery .said")).to_contain_text("make it winter")
    (task,) = [task for task in engine.runs if isinstance(task, InstructEdit)]
    assert task.prompt == "make it winter"
    with Image.open(photo) as own:
        assert (np.asarray(task.image.convert("RGB")) == np.asarray(own)).all()
