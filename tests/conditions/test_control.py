"""A picture is recognised for what it is, and becomes a map or a sentence."""

import io

import numpy as np
import pytest
from PIL import Image

from modules.conditions import pose
from modules.conditions.control import control_map, recognise
from modules.conditions.depth import HORIZON, Shape, depth_map, draw_shapes, near_at
from modules.conditions.edges import edges
from modules.tasks import TaskError
from modules.training.toyland.scenes import scene

PEOPLE = list(pose.named_poses().values())
KINDS = ("pose", "depth", "canny")


@pytest.fixture(scope="module")
def scenes():
    return [scene(seed, size=128) for seed in range(8)]


@pytest.fixture(scope="module")
def pictures(scenes):
    """A picture of each kind."""
    stood = scenes[0]
    return {
        "pose": pose.draw(PEOPLE[:1], 256, 256),
        "depth": depth_map(stood.depth),
        "canny": edges(Image.fromarray(stood.image)),
        "photo": Image.fromarray(stood.image),
        "empty": Image.new("RGB", (64, 64)),
    }


def as_jpeg(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=70)
    return Image.open(buffer)


@pytest.mark.parametrize("size", [(128, 128), (512, 512), (768, 512)])
def test_every_skeleton_is_a_skeleton(size):
    drawn = [pose.draw([person], *size) for person in PEOPLE]
    assert {recognise(picture) for picture in drawn} == {"pose"}
    assert {recognise(as_jpeg(picture)) for picture in drawn} == {"pose"}


def test_a_small_person_and_a_crowd_are_skeletons_too():
    small = tuple((0.35 + 0.3 * x, 0.35 + 0.3 * y) for x, y in PEOPLE[0])
    crowd = [tuple((0.5 * x + 0.25 * i, y) for x, y in PEOPLE[i]) for i in range(3)]
    assert recognise(pose.draw([small], 512, 512)) == "pose"
    assert recognise(pose.draw(crowd, 512, 512)) == "pose"


def test_scenes_are_photographs_and_their_distances_are_depth_maps(scenes):
    assert {recognise(Image.fromarray(one.image)) for one in scenes} == {"photo"}
    maps = [depth_map(one.depth) for one in scenes]
    assert {recognise(picture) for picture in maps} == {recognise(as_jpeg(one)) for one in maps} == {"depth"}


def test_noise_grey_or_coloured_is_no_map():
    speckle = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    assert recognise(Image.fromarray(speckle)) == "photo"
    assert recognise(Image.fromarray(speckle[..., 0])) == "photo"
    assert recognise(Image.new("RGB", (96, 96), "red")) == "empty"


def test_near_is_white_and_the_order_of_distances_is_kept(scenes):
    stood = scenes[0]
    levels = np.asarray(depth_map(stood.depth), int)[..., 0]
    rows, columns = np.random.default_rng(0).integers(0, 128, (2, 500, 2))
    nearer = stood.depth[rows[:, 0], columns[:, 0]] < stood.depth[rows[:, 1], columns[:, 1]]
    brighter = levels[rows[:, 0], columns[:, 0]] - levels[rows[:, 1], columns[:, 1]]
    assert (brighter[nearer] >= 0).all()
    assert (brighter[~nearer] <= 0).all()
    assert (levels.min(), levels.max()) == (0, 255)
    assert np.asarray(depth_map(np.full((4, 4), 3.0))).max() == 128


def test_shapes_stand_on_the_floor_nearer_the_lower_and_hide_what_is_behind():
    assert near_at(np.array([0.0, HORIZON, 1.0])).tolist() == [0.25, 0.25, 1.0]
    empty = np.asarray(draw_shapes([], 128, 128), int)[..., 0]
    assert empty[10].tolist() == [0] * 128
    assert (np.diff(empty[64:].mean(1)) >= 0).all()
    back, front = Shape("box", 0.5, 0.6, 0.3), Shape("ball", 0.5, 0.9, 0.2)
    both = np.asarray(draw_shapes([front, back], 128, 128), int)[..., 0]
    assert np.array_equal(both, np.asarray(draw_shapes([back, front], 128, 128))[..., 0])
    near = float(near_at(np.float32(0.9)))
    centre = round((0.9 - 0.2 * near) * 128)
    assert both[centre, 64] == both[: round(0.9 * 128)].max()  # a ball's middle is its nearest point
    assert both[round((0.6 - 0.3 * 0.45 * 0.8) * 128), 64] > empty[round(0.5 * 128), 64]
    assert recognise(draw_shapes([front, back], 256, 256)) == "depth"


def test_edges_lie_on_the_outline():
    disc = np.hypot(*(np.mgrid[0:128, 0:128] - 64)) < 40
    found = np.asarray(edges(Image.fromarray((disc * 200).astype(np.uint8))))[..., 0] > 0
    rows, columns = np.nonzero(found)
    assert len(rows) > 200
    assert np.abs(np.hypot(rows - 64, columns - 64) - 40).max() < 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_of_the_right_kind_is_used_as_it_is(kind, pictures):
    made = control_map(pictures[kind], kind, "auto", *pictures[kind].size)
    assert np.array_equal(np.asarray(made.picture), np.asarray(pictures[kind]))
    assert "as it is" in made.told


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ("pose", "depth", "a drawn skeleton, which is no depth map"),
        ("depth", "pose", "a depth map, which is no pose map"),
        ("canny", "pose", "a drawing of edges, which is no pose map"),
        ("empty", "pose", "one even colour"),
        ("photo", "normal", "No detector is installed that could read a normal map"),
    ],
)
def test_what_does_not_fit_is_a_sentence(given, kind, words, pictures):
    with pytest.raises(TaskError, match=words) as refusal:
        control_map(pictures[given], kind, "auto", 64, 64)
    assert refusal.value.field == "control_image"
    assert str(refusal.value).endswith(".")


def test_never_asks_nothing_and_always_asks_the_detector(pictures):
    assert control_map(pictures["photo"], "pose", "never", 64, 64).picture.size == (64, 64)
    with pytest.raises(TaskError, match="found nobody"):
        control_map(pictures["pose"], "pose", "always", 64, 64)
    read = control_map(pictures["photo"], "canny", "auto", 128, 128)
    assert np.array_equal(np.asarray(read.picture), np.asarray(pictures["canny"]))


def test_another_shape_is_cropped_around_its_middle_not_squeezed():
    person = pose.draw(PEOPLE[:1], 256, 256)
    wide = control_map(person, "pose", "auto", 256, 128).picture
    assert np.array_equal(np.asarray(wide), np.asarray(person.crop((0, 64, 256, 192))))
