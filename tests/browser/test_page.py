"""The page as a person meets it, in a real browser."""

import re
import zipfile

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modules.engine.history import Query
from modules.settings import Settings
from modules.tasks import TextToImage
from modules.ui import build, launch_options
from tests.ui.fake import FakeEngine

pytestmark = pytest.mark.browser

FRAME = "#gallery .frame"
GENERATE = "button.generate:visible"
CANCEL = "button.cancel:visible"


def dots(page):
    """The levels that the panel's dots stand for, as text from the page."""
    return page.eval_on_selector_all(
        ".snr-plot .dots circle", "dots => dots.map(dot => Number(dot.dataset.logSnr))"
    )


def phase(page, name):
    page.wait_for_selector(f'{FRAME}[data-phase="{name}"]')


def generate(page, prompt="a red apple"):
    page.fill("#prompt textarea", prompt)
    page.click(GENERATE)


def finish(page):
    page.wait_for_function("document.querySelector('.status').textContent.includes(' in ')")
    phase(page, "done")


def options(page):
    return page.get_by_test_id("dropdown-option")


def choose(page, box, wanted):
    page.click(f"#{box} input")
    options(page).filter(has_text=re.compile(rf"^\W*{re.escape(wanted)}\s*$")).click()
    page.wait_for_function(
        "([box, wanted]) => document.querySelector(`#${box} input`).value === wanted", arg=[box, wanted]
    )
    # The list fades out, and a next one opened meanwhile would seem to offer what both do.
    options(page).first.wait_for(state="detached")


def type_number(page, box, value):
    """Types into a slider's number box, and waits until the slider itself has followed."""
    page.fill(f"#{box} input[type=number]", str(value))
    page.press(f"#{box} input[type=number]", "Tab")
    page.wait_for_function(
        "([box, value]) => Number(document.querySelector(`#${box} input[type=range]`).value) === value",
        arg=[box, value],
    )


def set_steps(page, count):
    type_number(page, "steps", count)
    page.wait_for_function(f"document.querySelectorAll('.snr-plot .dots circle').length === {count}")


def info(page):
    """The whole info of the picture on screen, by name."""
    names = page.eval_on_selector_all(".full dt", "all => all.map(one => one.textContent)")
    values = page.eval_on_selector_all(".full dd", "all => all.map(one => one.textContent)")
    return dict(zip(names, values, strict=True))


def no_sideways_scroll(page):
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_type_generate_watch_and_get_a_picture(visit, engine):
    page = visit()
    generate(page)
    phase(page, "running")
    first = page.get_attribute(".preview", "src")
    page.wait_for_function("before => document.querySelector('.preview').src !== before", arg=first)
    assert page.locator(".snr-plot .dots .lit").count() == 1
    page.wait_for_function("document.querySelector('.status').textContent.includes('left')")
    finish(page)
    assert engine.runs[-1].prompt == "a red apple"
    assert page.locator(".finals img").count() == 1
    assert page.evaluate("document.querySelector('.finals img').naturalWidth") == 256
    assert page.input_value("#prompt textarea") == "a red apple"


def test_the_dots_are_the_levels_of_that_very_run(visit, engine):
    page = visit()
    choose(page, "sampler", "Euler")
    choose(page, "schedule", "exponential")
    set_steps(page, 7)
    generate(page)
    finish(page)
    levels = engine.snr_curve("Euler", "exponential", 7)["visited"]
    assert dots(page) == pytest.approx(levels["log_snr"], abs=1e-6)
    told = info(page)
    assert [float(value) for value in told["log_snr"].split(", ")] == pytest.approx(dots(page), rel=1e-5)
    assert f"seed {told['seed']}" in page.inner_text(".snr-which")
    set_steps(page, 12)
    assert page.inner_text(".snr-which") == "next: Euler, exponential, 12 steps"
    page.click('.snr-source [data-value="picture"]')
    assert len(dots(page)) == 7


def test_tokens_are_counted_while_typing_and_improve_can_be_undone(visit):
    page = visit()
    page.fill("#prompt textarea", "a (red:1.2) star")
    count = page.locator(".token-count:visible").first
    count.filter(has_text="3 of 30 tokens").wait_for()
    button = page.locator("button.improve:visible")
    button.click()
    dressed = "a 3D render of a (red:1.2) star on a white background"
    typed = "wanted => document.querySelector('#prompt textarea').value === wanted"
    page.wait_for_function(typed, arg=dressed)
    count.filter(has_text="11 of 30 tokens").wait_for()
    button.filter(has_text="Undo").click()
    page.wait_for_function(typed, arg="a (red:1.2) star")
    button.filter(has_text="Improve").wait_for()


def test_a_preset_fills_the_controls_and_says_what_it_is_for(visit):
    page = visit()
    page.click("#more .label-wrap")
    choose(page, "preset", "Colour study")
    page.wait_for_function("document.querySelector('.status').textContent.includes('two new colours')")
    page.wait_for_function("document.querySelector('#prompt textarea').value.includes('__colour__')")
    page.wait_for_function("document.querySelectorAll('.snr-plot .dots circle').length === 12")


def test_cancel_stops_within_a_step_and_the_next_run_works(visit, engine):
    page = visit()
    generate(page)
    phase(page, "running")
    closed = engine.closed
    page.click(CANCEL)
    phase(page, "stopped")
    page.wait_for_selector(GENERATE)
    assert "Stopped" in page.inner_text(".status")
    page.wait_for_timeout(600)
    assert engine.closed == closed + 1
    assert engine.running == 0
    set_steps(page, 3)
    generate(page, "a star")
    finish(page)
    assert engine.runs[-1].prompt == "a star"
    assert page.locator(".strip img").count() == 1


def test_the_next_press_after_a_cancel_is_not_lost(visit, engine):
    page = visit()
    for prompt in ("first", "second", "third"):
        generate(page, prompt)
        phase(page, "running")
        page.click(CANCEL)
        phase(page, "stopped")
    generate(page, "last")
    finish(page)
    assert [task.prompt for task in engine.runs[-4:]] == ["first", "second", "third", "last"]


def settled(page, measured):
    """What a script measures, once two looks half a second apart are the same: the page has been filled."""
    before, now = None, page.evaluate(measured)
    while before != now:
        page.wait_for_timeout(500)
        before, now = now, page.evaluate(measured)
    return now


def test_nothing_jumps_while_it_generates(visit, hurry):
    page = visit()
    all_of_them = "[...document.querySelectorAll('.frame, #solver, #steps, #more, .history')]"
    where = f"{all_of_them}.map(one => one.getBoundingClientRect().y)"
    before = settled(page, where)
    generate(page)
    phase(page, "running")
    assert page.evaluate(where) == before
    page.click(CANCEL)
    phase(page, "stopped")
    assert page.evaluate(where) == before


def test_the_class_tab_searches_and_keeps_its_own_weight(visit, engine):
    page = visit()
    set_steps(page, 2)
    page.get_by_role("tab", name="Class").click()
    page.fill("#class_name input", "rock")
    options(page).filter(has_text="rocket").click()
    type_number(page, "class_scale", 4.5)
    page.fill("#class-prompt textarea", "on a green background")
    page.click(GENERATE)
    finish(page)
    task = engine.runs[-1]
    assert (task.kind, task.class_name, task.class_scale) == ("class_conditional", "rocket", 4.5)
    assert page.inner_text(".said") == "rocket, on a green background"
    page.get_by_role("tab", name="Text").click()
    assert page.is_visible("#prompt")
    assert page.is_visible(".finals img")


def test_only_possible_spacings_are_offered(visit, engine):
    page = visit()
    choose(page, "sampler", "DDPM")
    page.wait_for_function("document.querySelector('#schedule input').value === 'default'")
    page.click("#schedule input")
    offered = [text.strip("✓ \n") for text in options(page).all_inner_texts()]
    assert offered == engine.spacings("DDPM")
    page.keyboard.press("Escape")
    set_steps(page, 2)
    generate(page)
    finish(page)
    assert (engine.runs[-1].sampler, engine.runs[-1].schedule) == ("DDPM", "default")


def test_a_second_sampler_and_every_measure(visit, engine):
    page = visit()
    choose(page, "compare", "DDIM, zero_snr")
    page.wait_for_selector(".snr-plot .compare circle", state="attached")
    assert page.locator(".snr-plot .compare circle").count() == 20
    for measure in ("snr", "sigma", "alphas_cumprod"):
        page.click(f'[data-group="measure"] [data-value="{measure}"]')
        for axis in ("linear", "log"):
            page.click(f'[data-group="axis"] [data-value="{axis}"]')
            assert "NaN" not in page.inner_html(".snr-plot")
    page.click(".snr-table summary")
    page.wait_for_selector(".snr-table tbody tr")  # filled when the browser says that it is open
    assert page.locator(".snr-table tbody tr").count() == 20


def test_seed_of_the_picture_is_kept_and_let_go(visit, engine):
    page = visit()
    set_steps(page, 2)
    generate(page)
    finish(page)
    seed = info(page)["seed"]
    assert f"seed {seed}" in page.inner_text(".facts")
    assert engine.runs[-1].seed == -1
    page.click("#more button")
    page.click(".actions .keep")
    page.wait_for_function(
        "seed => document.querySelector('#seed input, #seed textarea').value === seed", arg=seed
    )
    page.click(GENERATE)
    page.wait_for_function("document.querySelectorAll('.strip img').length === 2")
    assert info(page)["seed"] == seed
    assert str(engine.runs[-1].seed) == seed
    page.click("#dice")
    assert page.input_value("#seed input, #seed textarea") == ""


def test_settings_of_an_older_picture_come_back(visit, engine):
    page = visit()
    choose(page, "sampler", "Euler")
    choose(page, "schedule", "trailing")
    set_steps(page, 3)
    generate(page, "a heart")
    finish(page)
    choose(page, "sampler", "DDPM")
    page.fill("#prompt textarea", "something else")
    page.click(".actions .reuse")
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'a heart'")
    page.wait_for_function("document.querySelector('#schedule input').value === 'trailing'")
    assert page.input_value("#sampler input") == "Euler"
    page.click(GENERATE)
    page.wait_for_function("document.querySelectorAll('.strip img').length === 2")
    one, two = engine.runs[-2:]
    assert (one.prompt, one.sampler, one.schedule) == (two.prompt, two.sampler, two.schedule)
    assert two.seed >= 0


def test_a_batch_is_a_grid_and_each_picture_has_its_own_seed(visit):
    page = visit()
    set_steps(page, 2)
    page.click("#more button")
    type_number(page, "batch_size", 4)
    generate(page)
    finish(page)
    page.wait_for_function("document.querySelectorAll('.finals button').length === 4")
    first = int(info(page)["seed"])
    page.locator(".finals button").nth(2).click()
    assert int(info(page)["seed"]) == first + 2


def test_a_refusal_is_a_sentence_and_keeps_what_was_typed(visit, engine):
    page = visit()
    page.click("#more button")
    page.fill("#seed input, #seed textarea", "a number")
    count = len(engine.runs)
    generate(page, "kept")
    page.wait_for_selector('.status[data-kind="refused"]')
    assert "whole number" in page.inner_text(".status")
    assert page.input_value("#prompt textarea") == "kept"
    assert page.is_visible(GENERATE)
    assert len(engine.runs) == count


def test_odd_prompts_are_shown_as_text(visit):
    page = visit()
    set_steps(page, 1)
    prompt = "<img src=x onerror=alert(1)> ${alert(2)} {{value}} תפוח 🍎"
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    generate(page, prompt)
    finish(page)
    assert page.inner_text(".said") == prompt


def test_examples_fill_the_prompt(visit):
    page = visit()
    page.get_by_role("button", name="a red apple").click()
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'a red apple'")


def test_a_picture_gives_its_settings_back(visit, tmp_path):
    page = visit()
    chunks = PngInfo()
    chunks.add_text(
        "parameters", "a cat\nSteps: 12, Sampler: Euler, Schedule type: Karras, CFG scale: 7, Seed: 5"
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "theirs.png", pnginfo=chunks)
    page.click("#more button")
    page.set_input_files("input[type=file]", tmp_path / "theirs.png")
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'a cat'")
    page.wait_for_selector('.status[data-kind="note"]')
    assert page.input_value("#sampler input") == "Euler"
    assert page.input_value("#seed input, #seed textarea") == "5"


def bring(page, easel, folder, size=(320, 200)):
    Image.new("RGB", size, "teal").save(folder / "brought.png")
    page.set_input_files(f"#{easel} .file", folder / "brought.png")
    page.wait_for_selector(f"#{easel} .easel[data-state=held]")


def stroke(page, easel, *places):
    """Draws through places given as shares of the picture's width and height; they may lie outside."""
    sheet = page.locator(f"#{easel} .sheet")
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
    page.mouse.move(*at[0])
    page.mouse.down()
    for place in at[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()


def test_a_mask_is_painted_and_what_is_kept_is_told(visit, engine, tmp_path):
    page = visit()
    set_steps(page, 2)
    page.get_by_role("tab", name="Inpaint").click()
    bring(page, "inpaint-easel", tmp_path)
    stroke(page, "inpaint-easel", (-0.02, -0.03), (0.3, 0.5))
    page.wait_for_selector("#inpaint-easel .easel[data-painted=true]")
    page.get_by_role("tab", name="Text").click()
    page.get_by_role("tab", name="Inpaint").click()
    page.fill("#inpaint-prompt textarea", "a star")
    page.click(GENERATE)
    finish(page)
    task = engine.runs[-1]
    assert (task.kind, task.prompt, task.image.size, task.mask.size) == (
        "inpaint",
        "a star",
        (320, 200),
        (320, 200),
    )
    assert task.mask.getpixel((0, 0)) == 255
    assert task.mask.getpixel((310, 190)) == 0
    page.click("#inpaint-easel .invert")
    page.click("#inpaint-easel .undo")
    page.click("#inpaint-easel .undo")
    page.wait_for_selector("#inpaint-easel .easel[data-painted=false]")


def test_a_picture_is_sent_on_with_one_press_and_the_panel_shows_the_cut(visit, engine):
    page = visit()
    set_steps(page, 10)
    generate(page)
    finish(page)
    page.click(".send[data-to=image_to_image]")
    page.wait_for_selector("#image-easel .easel[data-state=held]")
    type_number(page, "image-strength", 0.5)
    page.wait_for_function("document.querySelectorAll('.snr-plot .dots circle').length === 5")
    assert "begun at strength 0.5" in page.inner_text(".snr-which")
    page.click(GENERATE)
    page.wait_for_function("document.querySelectorAll('.strip img').length === 2")
    assert (engine.runs[-1].kind, engine.runs[-1].strength) == ("image_to_image", 0.5)
    assert engine.runs[-1].image.size == (256, 256)
    assert dots(page) == pytest.approx(
        engine.snr_curve("DPM++ 2M", "karras", 10, strength=0.5)["visited"]["log_snr"]
    )


def test_an_edit_without_a_picture_says_what_is_missing(visit, engine):
    page = visit()
    count = len(engine.runs)
    page.get_by_role("tab", name="Image").click()
    page.click(GENERATE)
    page.wait_for_selector('.status[data-kind="refused"]')
    assert "choose the picture" in page.inner_text(".status")
    assert len(engine.runs) == count


def test_keys_generate_and_cancel(visit, hurry):
    page = visit()
    page.fill("#prompt textarea", "a rocket")
    page.press("#prompt textarea", "Control+Enter")
    phase(page, "running")
    page.keyboard.press("Escape")
    phase(page, "stopped")


def test_the_plot_is_walked_by_keys(visit):
    page = visit()
    page.focus(".snr-plot")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".snr-plot .dots .lit").count() == 1
    assert "20" in page.inner_text(".snr-readout")


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_needs_no_sideways_scrolling(visit, dark, tmp_path):
    page = visit(390, 844, dark=dark, has_touch=True)
    assert no_sideways_scroll(page)
    set_steps(page, 2)
    generate(page)
    finish(page)
    page.click(".full summary")
    assert no_sideways_scroll(page)
    page.screenshot(path=tmp_path / "phone.png", full_page=True)


def test_the_dark_sheet_follows_the_system(visit):
    grounds = []
    for dark in (False, True):
        page = visit(dark=dark)
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(250, 248, 244)", "rgb(22, 21, 19)"]


def history(page, count):
    """Opens the drawer of earlier pictures and waits until it shows that many."""
    if page.locator(".drawer[open]").count() == 0:
        page.click(".history summary")
    page.wait_for_function(f"document.querySelectorAll('.kept').length === {count}")


@pytest.fixture
def empty_history(engine):
    for entry in engine.history.search(Query(), count=1000):
        engine.history.delete([entry.name])
    return engine.history


def test_an_earlier_picture_is_found_opened_and_reused_after_a_reload(visit, empty_history):
    page = visit()
    set_steps(page, 2)
    for prompt in ("a red apple", "a blue star"):
        generate(page, prompt)
        page.wait_for_function("said => document.querySelector('.said').textContent === said", arg=prompt)
    page.reload()
    page.wait_for_selector(".snr-plot .dots circle", state="attached")
    history(page, 2)
    page.fill(".seek input", "RED")
    history(page, 1)
    page.click(".kept button")
    phase(page, "done")
    assert page.inner_text(".said") == "a red apple"
    page.wait_for_function("document.querySelector('.finals img').naturalWidth === 256")
    assert len(dots(page)) == 2
    page.click(".actions .reuse")
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'a red apple'")
    page.fill(".seek input", "nothing like it")
    history(page, 0)
    assert page.inner_text(".found") == "No picture fits."


def test_chosen_pictures_are_exported_and_deleted_after_a_question(visit, empty_history, tmp_path):
    page = visit()
    set_steps(page, 1)
    page.click("#more button")
    type_number(page, "batch_size", 3)
    generate(page, "stars")
    finish(page)
    history(page, 3)
    page.locator(".kept input").nth(0).check(force=True)
    page.locator(".kept input").nth(1).check(force=True)
    with page.expect_download() as download:
        page.click(".chosen .pack")
    with zipfile.ZipFile(download.value.path()) as archive:
        assert len(archive.namelist()) == 2
    page.click(".chosen .delete")
    assert page.inner_text(".chosen .delete") == "Delete 2 pictures for good?"
    assert len(empty_history.search(Query())) == 3
    page.click(".chosen .delete")
    history(page, 1)
    assert len(empty_history.search(Query())) == 1
    page.wait_for_function("document.querySelectorAll('.strip img').length === 1")


@pytest.mark.parametrize("width", [1366, 390])
def test_the_history_fits_the_page(visit, empty_history, width, tmp_path):
    for seed in range(30):
        empty_history.add(*painted(seed))
    page = visit(width, 844, dark=width == 390, has_touch=width == 390)
    history(page, 24)
    page.click(".history .further")
    history(page, 30)
    page.click(".narrow")
    page.locator(".kept input").nth(2).check(force=True)
    assert no_sideways_scroll(page)
    page.screenshot(path=tmp_path / "history.png", full_page=True)


@pytest.fixture
def hurry(engine):
    """Runs last as long as the test wants: a step takes a second until it is called."""
    usual, engine.pace = engine.pace, 1

    def hurry():
        engine.pace = 0.01

    yield hurry
    engine.pace = usual


def test_a_reload_in_the_middle_of_a_run_shows_the_run_and_then_the_picture(visit, engine, hurry):
    page = visit()
    set_steps(page, 90)
    generate(page, "a survivor")
    phase(page, "running")
    begun = len(engine.runs)
    page.reload()
    phase(page, "running")
    page.wait_for_function("document.querySelectorAll('.snr-plot .dots circle').length === 90")
    hurry()
    finish(page)
    assert page.inner_text(".said") == "a survivor"
    assert len(engine.runs) == begun
    page.reload()
    phase(page, "done")  # and again, once it is over
    assert page.inner_text(".said") == "a survivor"
    page.wait_for_function("document.querySelector('.finals img').naturalWidth === 256")


def test_a_lost_connection_costs_nothing(visit, hurry):
    page = visit()
    set_steps(page, 90)
    generate(page, "a survivor")
    phase(page, "running")
    page.context.set_offline(True)
    page.wait_for_function("document.querySelector('.status').textContent.includes('connection is lost')")
    page.context.set_offline(False)
    hurry()
    finish(page)
    assert page.inner_text(".said") == "a survivor"


@pytest.mark.parametrize("width", [1366, 390])
def test_more_presses_wait_in_line_and_can_be_removed(visit, engine, hurry, width, tmp_path):
    page = visit(width, 844, dark=width == 390, has_touch=width == 390)
    set_steps(page, 90)
    begun = len(engine.runs)
    for prompt in ("first", "second", "third", "fourth"):
        generate(page, prompt)
    page.wait_for_function("document.querySelectorAll('.queue li').length === 3")
    assert page.locator(".queue .waiting").all_inner_texts() == ["second", "third", "fourth"]
    assert page.inner_text(".queue li:first-child .place").startswith("next")
    phase(page, "running")
    assert no_sideways_scroll(page)
    page.screenshot(path=tmp_path / "queue.png")
    page.get_by_role("button", name="Paint fourth sooner").click()
    page.wait_for_function(
        "document.querySelector('.queue li:nth-child(2) .waiting').textContent === 'fourth'"
    )
    page.get_by_role("button", name="Remove third from the line").click()
    page.wait_for_function("document.querySelectorAll('.queue li').length === 2")
    page.click(CANCEL)  # the first one; the next begins
    hurry()
    page.wait_for_function("document.querySelectorAll('.strip img').length === 2")
    assert [task.prompt for task in engine.runs[begun:]] == ["first", "second", "fourth"]  # not "third"
    page.wait_for_selector(".under .cancel", state="hidden")
    assert page.locator(".queue li").count() == 0


def test_two_browsers_wait_for_each_other_and_see_their_own(visit, hurry):
    one, two = visit(), visit()
    for page, prompt in ((one, "mine"), (two, "yours")):
        set_steps(page, 12)
        generate(page, prompt)
        page.wait_for_selector(CANCEL)
    two.wait_for_function("document.querySelector('.status').textContent.startsWith('Waiting: next')")
    phase(one, "running")
    hurry()
    for page, prompt in ((one, "mine"), (two, "yours")):
        finish(page)
        assert page.inner_text(".said") == prompt
        assert page.locator(".strip img").count() == 1


@pytest.fixture
def lent(engine):
    """The page where a GPU is lent for one call: the press itself paints."""
    blocks = build(engine, Settings(where="zerogpu"))
    _, address, _ = blocks.launch(**launch_options(Settings()), prevent_thread_lock=True)
    yield address
    blocks.close()


def test_where_the_press_itself_paints(visit, engine, lent):
    page = visit()
    page.goto(lent)
    page.wait_for_selector(".snr-plot .dots circle", state="attached")
    generate(page)
    phase(page, "running")
    page.click(CANCEL)
    phase(page, "stopped")
    page.wait_for_selector(GENERATE)
    set_steps(page, 3)
    generate(page, "a star")
    finish(page)
    assert engine.runs[-1].prompt == "a star"
    assert len(dots(page)) == 3


def painted(seed):
    """A finished picture and its info, as FakeEngine makes them, without a run."""
    *_, result = FakeEngine(pace=0).run(TextToImage(prompt=f"thing {seed}", steps=1, seed=seed))
    return result.images[0], result.info
