"""Data files read the same by the quick reader as by yaml's own."""

import pytest
import yaml

import modules
from modules.data import read_yaml

FILES = sorted((modules.HOME / "presets").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_says_the_same_to_both_readers(path):
    assert read_yaml(path) == yaml.safe_load(path.read_text("utf-8"))


def test_nothing_is_built_from_a_file(tmp_path):
    (tmp_path / "odd.yaml").write_text("!!python/object/apply:os.getcwd []")
    with pytest.raises(yaml.YAMLError):
        read_yaml(tmp_path / "odd.yaml")
