"""The easel by hand: eraser, clear, a mask from a file, a larger view, and buttons that fingers can press."""

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.test_page import bring, stroke

pytestmark = pytest.mark.browser

EASEL = "#inpaint-easel .easel"


@pytest.fixture
def easel(visit, tmp_path):
    """Opens the Inpaint tab with a picture on it."""

    def opened(*size, **how):
        page = visit(*size, **how)
        page.get_by_role("tab", name="Inpaint").click()
        bring(page, "inpaint-easel", tmp_path)
        return page

    return opened


def painted(page, yes):
    expect(page.locator(EASEL)).to_have_attribute("data-painted", "true" if yes else "false")


def test_paint_comes_and_goes_and_says_first_what_to_do(easel):
    page = easel()
    expect(page.locator(".ask:visible")).to_have_text("Paint over what should change.")
    stroke(page, "inpaint-easel", (0.2, 0.5), (0.8, 0.5))
    painted(page, True)
    expect(page.locator(f"{EASEL} .ask")).to_be_hidden()
    page.click(f"{EASEL} .eraser")
    page.locator(f"{EASEL} .width input").fill("40")
    stroke(page, "inpaint-easel", (0.1, 0.5), (0.9, 0.5))
    painted(page, False)
    page.click(f"{EASEL} .undo")
    painted(page, True)
    page.click(f"{EASEL} .clear")
    painted(page, False)
    page.click(f"{EASEL} .larger")
    expect(page.locator(EASEL)).to_have_class("easel large")
    page.click(f"{EASEL} .larger")
    expect(page.locator(EASEL)).to_have_class("easel")


def test_a_mask_comes_from_a_file_of_the_same_shape_and_of_no_other(easel, tmp_path):
    page = easel()
    mask = Image.new("L", (160, 100))
    mask.paste(255, (40, 40, 80, 80))
    mask.save(tmp_path / "mask.png")
    mask.resize((90, 120)).save(tmp_path / "tall.png")
    page.set_input_files(f"{EASEL} .mask-file", tmp_path / "tall.png")
    expect(page.locator(f"{EASEL} .trouble")).to_contain_text("this one is 90 × 120")
    painted(page, False)
    page.set_input_files(f"{EASEL} .mask-file", tmp_path / "mask.png")
    painted(page, True)
    expect(page.locator(f"{EASEL} .trouble")).to_be_empty()


def test_a_finger_can_press_every_button_on_a_phone(easel):
    page = easel(390, 844, has_touch=True, is_mobile=True)
    for button in page.locator(f"{EASEL} button:visible").all():
        assert button.bounding_box()["height"] >= 40
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
