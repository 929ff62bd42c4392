"""Choosing a model in a real browser: the page follows it, and a download runs from a question to a model."""

import json

import pytest

from modules.tasks import Limits
from tests.hub import hub_on_loopback
from tests.ui.fake import Card, FakeEngine

pytestmark = pytest.mark.browser
LARGE = Card(
    id="large", title="Large", tasks=("text_to_image", "controlnet"), controls=("canny",),
    limits={"width": Limits(512, 1024, 64)}, defaults={"width": 1024, "steps": 4},
)  # fmt: skip
AFAR = {"title": "Afar", "hub": "someone/afar", "licence": "MIT", "download": 0.1, "tasks": ("inpaint",)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def engine(folder):
    afar = Card(id="afar", folder=folder / "afar", **AFAR)
    engine = FakeEngine(pace=0.01, catalog={"pocket": Card(), "large": LARGE, "afar": afar})
    engine.start()
    return engine


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with hub_on_loopback(monkeypatch) as hub:
        hub.repos["someone/afar"] = tmp_path
        index = {
            "_class_name": "StableDiffusionInpaintPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"],
        }
        (tmp_path / "model_index.json").write_text(json.dumps(index))
        (tmp_path / "unet").mkdir()
        (tmp_path / "unet" / "config.json").write_text("{}")
        (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"weights" * 10_000)
        yield hub


def choose(page, title):
    page.locator("#model input").click()
    page.get_by_role("option", name=title).click()


def test_the_page_follows_the_model_and_a_download_is_asked_for_first(visit, hub, engine):
    from playwright.sync_api import expect

    page = visit()
    tabs = page.get_by_role("tab")
    expect(tabs).to_have_text(["Text", "Class", "Inpaint", "Image"])
    page.get_by_role("button", name="More").click()
    choose(page, "Large")
    expect(tabs).to_have_text(["Text", "ControlNet"])
    expect(page.locator("#width input[type=number]")).to_have_value("1024")
    expect(page.locator("#steps input[type=number]")).to_have_value("4")

    choose(page, "Afar")
    expect(page.locator("#model-told")).to_contain_text("Afar is not on this machine.")
    expect(page.locator("#model-told")).to_contain_text("about 0.1 GB, from someone/afar, under MIT")
    expect(page.locator("#model input")).to_have_value("Large")
    page.locator("#model-no").click()
    expect(page.locator("#model-told p")).to_have_count(0)
    assert hub.asked == []

    choose(page, "Afar")
    hub.refuses = (503, "")
    page.locator("#model-yes").click()
    expect(page.locator("#model-told")).to_contain_text("The hub answered 503")
    hub.refuses = None
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#model-told")).to_contain_text("Afar is here now.")
    expect(page.locator("#model input")).to_have_value("Afar")
    expect(tabs).to_have_text(["Inpaint"])
    expect(page.locator("#generate-inpaint")).to_be_visible()
    assert (engine.shelf.here["afar"].folder / "manifest.json").is_file()


def test_a_pickle_is_refused_in_words_and_the_model_stays(visit, engine, tmp_path):
    from playwright.sync_api import expect

    (tmp_path / "old.ckpt").write_bytes(b"\x80\x04.")
    page = visit()
    page.get_by_role("button", name="More").click()
    box = page.locator("#model input")
    before = box.input_value()
    box.fill(str(tmp_path / "old.ckpt"))
    box.press("Enter")
    expect(page.locator("#model-told")).to_contain_text("pickled checkpoint, which can run any program")
    expect(page.locator("#model-told")).to_contain_text("Convert it once, safely: python -c")
    expect(page.locator("#model-yes")).to_be_hidden()
    expect(box).to_have_value(before)


def test_offline_a_download_is_a_sentence_and_pocket_goes_on(visit, engine, folder, monkeypatch):
    from playwright.sync_api import expect

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    gone = Card(id="gone", folder=folder / "gone", **AFAR | {"title": "Elsewhere"})
    monkeypatch.setitem(engine.shelf.cards, "gone", gone)
    page = visit()
    page.get_by_role("button", name="More").click()
    choose(page, "Elsewhere")
    expect(page.locator("#model-told")).to_contain_text("Elsewhere is not on this machine.")
    expect(page.locator("#model-told")).to_contain_text("The studio is offline, so it cannot be fetched.")
    expect(page.locator("#model-yes")).to_be_hidden()
    expect(page.locator("#model input")).to_have_value("Pocket (a stand-in)")
    page.locator("button.generate:visible").click()
    expect(page.locator("#gallery .frame")).to_have_attribute("data-phase", "done")
