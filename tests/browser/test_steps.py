"""The folds under the frame and the schedule, in a real browser."""

import base64
import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from modules import metadata
from modules.engine.history import Query
from tests.browser.test_page import finish, generate, no_sideways_scroll, set_steps

pytestmark = pytest.mark.browser

STEPS, AGAIN, POUR, TRUTH = ".walked", ".replay", ".pour", ".truth"


def one_picture(page, steps=6, prompt="a red apple"):
    set_steps(page, steps)
    generate(page, prompt)
    finish(page)


def unfold(page, fold):
    page.click(f"{fold} summary")


def slide(page, selector, value):
    page.eval_on_selector(
        selector, "(range, value) => { range.value = value; range.dispatchEvent(new Event('input')); }", value
    )


def test_the_scrubber_shows_a_step_and_lights_its_dot(visit):
    page = visit()
    one_picture(page)
    unfold(page, STEPS)
    panes = page.locator(f"{STEPS} .panes img")
    expect(panes).to_have_count(2)
    expect(panes.nth(1)).to_have_attribute("src", re.compile("^data:"))
    expect(page.locator(f"{STEPS} .call")).to_have_text("call 6 of 6")
    last = panes.nth(1).get_attribute("src")
    slide(page, f"{STEPS} .scrub input", 2)
    expect(page.locator(f"{STEPS} .call")).to_have_text("call 3 of 6")
    expect(panes.nth(1)).not_to_have_attribute("src", last)
    expect(page.locator(".snr-plot .dots circle").nth(2)).to_have_class("lit")
    expect(page.locator(".snr-plot .dots .lit")).to_have_count(1)
    expect(page.locator(".snr-readout")).to_contain_text("3 of 6")
    page.click(f"{STEPS} [data-value=raw]")
    expect(panes.first).to_have_js_property("naturalWidth", 16)
    page.locator(f"{STEPS} .scrub input").press("ArrowRight")
    expect(page.locator(".snr-plot .dots circle").nth(3)).to_have_class("lit")
    with page.expect_download() as download:
        page.click(f"{STEPS} [data-how=gif]")
    with Image.open(download.value.path()) as book:
        assert book.n_frames == 6


def test_guidance_is_shown_with_its_size_and_without_a_prompt_there_is_none(visit):
    page = visit()
    one_picture(page)
    unfold(page, STEPS)
    page.click(f"{STEPS} [data-value=guidance]")
    expect(page.locator(f"{STEPS} .panes figcaption")).to_have_text(
        ["without the prompt", "with the prompt", "what guidance adds"]
    )
    expect(page.locator(f"{STEPS} .level")).to_contain_text("guidance adds")
    expect(page.locator(f"{STEPS} .norms path")).to_have_count(1)
    expect(page.locator(f"{STEPS} .why math").first).to_be_attached()
    one_picture(page, prompt="")
    expect(page.locator(f"{STEPS} .tell")).to_contain_text("leaves nothing to compare")
    expect(page.locator(f"{STEPS} .norms")).to_be_hidden()


def test_a_picture_is_replayed_and_found_identical(visit):
    page = visit()
    one_picture(page, 2)
    unfold(page, AGAIN)
    page.click(f"{AGAIN} .replay-this")
    expect(page.locator(f"{AGAIN} .verdict")).to_have_text("Identical: all 65,536 pixels, to the last bit.")
    expect(page.locator(f"{AGAIN} .heat")).to_be_hidden()
    expect(page.locator(".strip img")).to_have_count(2)


def test_a_file_from_elsewhere_is_replayed_and_what_differs_is_told(visit, engine, tmp_path):
    page = visit()
    one_picture(page, 2)
    entry = engine.history.search(Query())[0]
    kept = engine.history.read(entry.name)
    info = kept.info | {"model_hash": "feedfeed"}
    metadata.write(Image.new("RGB", (256, 256), "teal"), tmp_path / "other.png", info)
    unfold(page, AGAIN)
    page.set_input_files(f"{AGAIN} input[type=file]", tmp_path / "other.png")
    expect(page.locator(f"{AGAIN} .verdict")).to_contain_text("pixels differ")
    expect(page.locator(f"{AGAIN} .heat")).to_be_visible()
    expect(page.locator(f"{AGAIN} .fields tbody tr")).to_contain_text(["feedfeed"])


def test_a_picture_is_taken_away_as_python_and_as_webp(visit):
    page = visit()
    one_picture(page, 2)
    unfold(page, AGAIN)
    page.click(f"{AGAIN} .python")
    expect(page.locator(f"{AGAIN} pre")).to_contain_text("seed = 'a red apple'")
    with page.expect_download() as download:
        page.click(f"{AGAIN} [data-form=webp]")
    with Image.open(download.value.path()) as saved:
        assert saved.format == "WEBP"
        assert metadata.read(saved).task.prompt == "a red apple"


def test_noise_is_poured_by_the_formula(visit):
    page = visit()
    unfold(page, POUR)
    expect(page.locator(f"{POUR} .end")).to_contain_text("0.0047")
    slide(page, f"{POUR} .t", 0)
    spread = """() => {
      const brush = document.querySelector('.pour canvas.mixed').getContext('2d');
      const { data } = brush.getImageData(0, 0, 40, 40);
      const reds = [...data].filter((_, i) => i % 4 === 0), mean = reds.reduce((a, b) => a + b) / reds.length;
      return [mean, Math.sqrt(reds.reduce((sum, red) => sum + (red - mean) ** 2, 0) / reds.length)];
    }"""
    mean, std = page.evaluate(spread)
    assert mean == pytest.approx(0xF4, abs=2)  # the paper that the disc lies on, almost clean
    assert std == pytest.approx(127.5 * 0.00085**0.5, abs=1)
    expect(page.locator(f"{POUR} .alpha")).to_have_text("1.000")
    slide(page, f"{POUR} .t", 999)
    expect(page.locator(f"{POUR} .sigma")).to_have_text("0.998")
    said = re.match(
        r".*: (\S+) · \(?(\S+?)\)? \+ (\S+) · \(?(\S+?)\)? = (\S+)", page.inner_text(f"{POUR} .pixel")
    )
    a, x, s, e, mixed = (float(number.replace("−", "-")) for number in said.groups())
    assert a * x + s * e == pytest.approx(mixed, abs=0.005)


def test_a_sampler_is_put_to_the_truth_and_follows_the_panel(visit):
    page = visit()
    unfold(page, TRUTH)
    expect(page.locator(f"{TRUTH} .reading")).to_contain_text("DPM++ 2M, karras: 0.300 at 1 step")
    page.select_option(f"{TRUTH} select.sampler", "Euler a")
    expect(page.locator(f"{TRUTH} .reading")).to_contain_text("In the other colour: DPM++ 2M, karras")
    expect(page.locator(".approach circle.now")).to_have_count(8)


@pytest.mark.parametrize("dark", [False, True])
def test_the_folds_fit_a_phone(visit, dark, tmp_path):
    page = visit(390, 844, dark=dark, has_touch=True)
    one_picture(page, 3)
    for fold in (STEPS, AGAIN, POUR, TRUTH):
        unfold(page, fold)
    page.click(f"{STEPS} [data-value=guidance]")
    page.click(f"{AGAIN} .python")
    expect(page.locator(f"{AGAIN} pre")).to_be_visible()
    expect(page.locator(".approach circle.now").first).to_be_visible()
    assert no_sideways_scroll(page)
    page.screenshot(path=tmp_path / "folds.png", full_page=True)


def test_a_picture_dropped_on_the_page_gives_its_settings(visit, tmp_path):
    chunks = "a cat\nSteps: 12, Sampler: Euler, Schedule type: Karras, CFG scale: 7, Seed: 5, Clip skip: 2"
    exif = Image.Exif()
    exif.get_ifd(metadata.files.EXIF)[metadata.files.USER_COMMENT] = b"UNICODE\0" + chunks.encode("utf-16-be")
    Image.new("RGB", (8, 8)).save(tmp_path / "theirs.jpg", exif=exif)
    page = visit()
    page.evaluate(
        """async (data) => {
          const blob = await (await fetch(`data:image/jpeg;base64,${data}`)).blob();
          const dataTransfer = new DataTransfer(), how = { dataTransfer, bubbles: true, cancelable: true };
          dataTransfer.items.add(new File([blob], "theirs.jpg", { type: "image/jpeg" }));
          document.body.dispatchEvent(new DragEvent("drop", how));
        }""",
        base64.b64encode((tmp_path / "theirs.jpg").read_bytes()).decode(),
    )
    expect(page.locator("#prompt textarea")).to_have_value("a cat")
    expect(page.locator("#sampler input")).to_have_value("Euler")
    expect(page.locator(".status")).to_contain_text("Left out: Clip skip")
