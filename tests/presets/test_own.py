"""What people save is a file of their own: checked, whole, read again, never one of ours."""

import pytest

from modules.presets import own as room
from modules.presets.own import Own
from modules.presets.starts import Preset
from modules.tasks import TaskError


@pytest.fixture
def own(tmp_path):
    return Own(tmp_path / "own")


def test_a_preset_is_kept_and_forgotten(own):
    preset = Preset(
        name="Größe 2", about="", kind="text_to_image", fields={"steps": 7, "prompt": "ein Apfel"}
    )
    assert own.presets() == {}
    own.save_preset(preset)
    assert own.presets() == {"Größe 2": preset}
    own.save_preset(Preset(name="Größe 2", about="", fields={"steps": 8}))
    assert own.presets()["Größe 2"].fields == {"steps": 8}
    assert own.delete("presets", "Größe 2")
    assert not own.delete("presets", "Größe 2")
    assert own.presets() == {}


def test_a_style_is_wording_around_a_prompt(own):
    own.save_style("Mine", "on a wooden table, ", "blur")
    own.save_style("Other", "a drawing of {prompt}")
    styles = own.styles()
    assert (styles["Mine"].prompt, styles["Mine"].negative) == ("{prompt}, on a wooden table", "blur")
    assert styles["Other"].prompt == "a drawing of {prompt}"
    with pytest.raises(TaskError, match="needs words"):
        own.save_style("Empty", " ")


@pytest.mark.parametrize(
    "name",
    ["", " ", "../x", "a/b", "a\\b", "a.b", ".x", "CON", "x" * 61, "a\nb", "Quick sketch", "quick SKETCH"],
)
def test_a_bad_name_is_refused_and_nothing_is_written(own, name):
    with pytest.raises(TaskError, match="name"):
        own.save_preset(Preset(name=name, about="", fields={}))
    assert not own.folder.exists()
    assert not own.delete("presets", name)


@pytest.mark.parametrize(
    "text",
    ["", "[", "- 1", "fields: {steps: much}", "fields: {colour: red}", "kind: magic", "a: 1", "fields: 5"],
)
def test_a_file_that_makes_no_sense_is_skipped(own, text, caplog):
    own.save_preset(Preset(name="Good", about="", fields={"steps": 3}))
    (own.folder / "presets" / "Bad.yaml").write_text(text)
    assert list(own.presets()) == ["Good"]
    assert "Bad.yaml is skipped" in caplog.text


def test_a_write_that_fails_leaves_what_was_there(own, monkeypatch):
    own.save_preset(Preset(name="Mine", about="", fields={"steps": 3}))
    monkeypatch.setattr(room.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        own.save_preset(Preset(name="Mine", about="", fields={"steps": 4}))
    assert [path.name for path in (own.folder / "presets").iterdir()] == ["Mine.yaml"]
    assert own.presets()["Mine"].fields == {"steps": 3}
