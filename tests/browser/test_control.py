"""The pose editor as a person meets it: joints moved by mouse, finger and keys, and what the network gets."""

import json

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from modules.conditions import pose
from tests.ui.fake import CONTROLLED, FakeEngine

pytestmark = pytest.mark.browser

WRIST = '.joint[data-joint="4"]'


@pytest.fixture(scope="module")
def engine():
    engine = FakeEngine(pace=0.01, catalog={"pocket": CONTROLLED})
    engine.start()
    return engine


def opened(page):
    page.get_by_role("tab", name="ControlNet").click()
    settled(page)
    return page


def settled(page):
    """Waits until the map of the last change is on the page."""
    page.wait_for_function(
        """() => { const map = document.querySelector("#pose-editor .map"), frame = map.parentElement;
        return map.complete && map.naturalWidth > 0 && !frame.classList.contains("dirty"); }"""
    )


def people(page):
    """The people on the page, as the JSON box has them."""
    return pose.from_json(page.input_value("#pose-editor textarea"))


def until(page, joint, x, y):
    """Waits until the first person's joint is there, to the server's knowledge."""
    page.wait_for_function(
        """([joint, x, y]) => { const box = document.querySelector("#pose-editor textarea");
        const all = JSON.parse(box.value || '{"people": []}');
        if (!all.canvas_width || !all.people.length) return false;
        const [px, py] = all.people[0].pose_keypoints_2d.slice(3 * joint);
        return Math.hypot(px / all.canvas_width - x, py / all.canvas_height - y) < 0.012; }""",
        arg=[joint, x, y],
    )


def grip(page, joint):
    """The middle of a joint's handle, and the frame's box, on the screen."""
    page.locator(".map-frame").scroll_into_view_if_needed()
    middle = page.eval_on_selector(
        f'.joint[data-joint="{joint}"]',
        "one => { const r = one.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }",
    )
    return middle, page.locator(".joints").bounding_box()


def test_a_dragged_joint_is_in_the_map_that_the_network_gets(visit, engine):
    page = opened(visit())
    (x, y), box = grip(page, 4)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.3 * box["height"], steps=4)
    page.mouse.up()
    until(page, 4, 0.2, 0.3)
    settled(page)
    page.fill("#control-prompt textarea", "a person waving")
    page.click("button.generate:visible")
    page.wait_for_function("document.querySelector('.status').textContent.includes(' in ')")
    task = engine.runs[-1]
    assert (task.kind, task.prompt, task.control_type) == ("controlnet", "a person waving", "pose")
    with Image.open(task.control_image) as picture:
        given = np.asarray(picture.convert("RGB"), int)
    assert np.abs(given - np.asarray(pose.draw(people(page), 256, 256), int)).mean() < 0.05
    assert np.abs(given - np.asarray(pose.draw([pose.named_poses()["standing"]], 256, 256), int)).mean() > 0.2


def test_keys_tools_and_undo(visit):
    page = opened(visit())
    standing = pose.named_poses()["standing"]
    page.focus(WRIST)
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    until(page, 4, standing[4][0] + 0.05, standing[4][1])
    page.click(".tools .mirror")
    until(page, 7, 1 - standing[4][0] - 0.05, standing[4][1])
    page.click(".tools .add")
    page.wait_for_function(
        "JSON.parse(document.querySelector('#pose-editor textarea').value).people.length === 2"
    )
    page.click('.library [title="jumping"]')
    for _ in range(8):
        page.click(".tools .undo")
    until(page, 4, *standing[4])
    assert len(people(page)) == 1
    assert page.is_disabled(".tools .undo")
    page.click(".tools .remove")
    page.wait_for_function("document.querySelector('.told').textContent.startsWith('Add a person')")


def test_a_finger_drags_too_and_a_phone_needs_no_sideways_scrolling(visit):
    page = opened(visit(390, 844, dark=True, has_touch=True, is_mobile=True))
    (x, y), box = grip(page, 4)
    wanted = [box["x"] + 0.25 * box["width"], box["y"] + 0.2 * box["height"]]
    client = page.context.new_cdp_session(page)
    for kind, spot in (
        ("Start", (x, y)),
        ("Move", ((x + wanted[0]) / 2, y)),
        ("Move", wanted),
        ("End", None),
    ):
        points = [{"x": spot[0], "y": spot[1]}] if spot else []
        client.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    until(page, 4, 0.25, 0.2)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_picture_of_a_skeleton_is_the_map_and_json_leads_back(visit, engine, tmp_path):
    page = opened(visit())
    pose.draw([pose.named_poses()["running"]], 256, 256).save(tmp_path / "running.png")
    page.set_input_files('input[type="file"]', tmp_path / "running.png")
    page.wait_for_function("document.querySelector('.told').textContent.includes('a drawn skeleton')")
    assert not page.locator(WRIST).is_visible()
    page.click('#control_type label:has-text("Depth")')
    page.wait_for_function("document.querySelector('.told').textContent.includes('no depth map')")
    page.click('#control_type label:has-text("Pose")')
    page.wait_for_function("document.querySelector('.told').textContent.includes('a drawn skeleton')")
    page.click("#pose-editor .text summary")
    page.fill("#pose-editor textarea", "{")
    page.click(".text .use")
    page.wait_for_function("document.querySelector('.told').textContent.includes('not JSON')")
    sitting = pose.named_poses()["sitting on a box"]
    page.fill("#pose-editor textarea", json.dumps({"people": [sitting]}))
    page.click(".text .use")
    until(page, 4, *sitting[4])
    settled(page)
    assert page.locator(WRIST).is_visible()


def test_a_dragged_shape_is_in_the_depth_map(visit, engine):
    page = opened(visit())
    page.click('#control_type label:has-text("Depth")')
    page.wait_for_selector(".shapes rect")
    settled(page)
    page.click('.thing[data-shape="box"]')
    page.wait_for_function("document.querySelectorAll('.shapes rect').length === 3")
    settled(page)
    before = page.get_attribute("#pose-editor .map", "src")
    box = page.locator(".shapes rect").nth(2).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y + 20, steps=4)
    page.mouse.up()
    page.wait_for_function("old => document.querySelector('#pose-editor .map').src !== old", arg=before)
    settled(page)
    page.click("button.generate:visible")
    page.wait_for_function("document.querySelector('.status').textContent.includes(' in ')")
    assert engine.runs[-1].control_type == "depth"
    engine.control_map(engine.runs[-1])


def test_the_map_above_is_taken_as_the_second_and_the_first_may_become_another(visit, engine):
    page = opened(visit())
    page.click("#control-second > .label-wrap")
    page.click("#control-take")
    expect(page.locator("#control-map-2 img")).to_be_visible()
    expect(page.locator("#control-told-2")).to_contain_text("It is the second map now")
    page.click('#control_type label:has-text("Depth")')
    expect(page.locator("#pose-editor .control-map")).to_have_attribute("data-kind", "depth")
    settled(page)
    expect(page.locator("#control-map-2 img")).to_be_visible()
    page.click("button.generate:visible")
    expect(page.locator(".status")).to_contain_text(" in ")
    task = engine.runs[-1]
    assert (task.control_type, task.control_type_2) == ("depth", "pose")
    with Image.open(task.control_image_2) as second:
        standing = pose.draw([pose.named_poses()["standing"]], 256, 256)
        assert np.array_equal(np.asarray(second.convert("RGB")), np.asarray(standing))


@pytest.mark.parametrize("width", [1280, 390])
def test_the_tabs_stand_in_one_line(visit, width):
    page = visit(width, 844)
    tabs = page.locator('#tabs [role="tab"]:visible')
    expect(tabs).to_have_count(5)
    tops = tabs.evaluate_all("all => all.map((tab) => Math.round(tab.getBoundingClientRect().top))")
    assert len(set(tops)) == 1
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
