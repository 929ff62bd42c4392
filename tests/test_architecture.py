"""The house stands as designed: every import follows an arrow, and every library is new enough to be safe."""

import ast
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([ROOT / "app.py", *(ROOT / "modules").rglob("*.py")])

MAY_IMPORT = {  # room -> rooms that it may know; every room may know itself
    "lean": set(),
    "data": set(),
    "tasks": set(),
    "settings": {"tasks"},
    "presets": {"tasks", "data"},
    "images": set(),
    "metadata": {"tasks"},
    "diffusion": {"lean"},
    "conditions": {"tasks", "images", "data"},
    "models": {"lean", "tasks", "images", "diffusion", "conditions"},
    "engine": {"tasks", "settings", "presets", "images", "metadata", "diffusion", "conditions", "models"},
    "ui": {"lean", "tasks", "settings", "presets", "images", "metadata", "engine"},
    "training": {"tasks", "images", "diffusion", "conditions", "models", "engine"},
    "bench": {"tasks", "settings", "diffusion", "conditions", "models", "engine"},
    "app": {"settings", "images", "models", "engine", "ui"},
}
HEAVY = {"torch", "diffusers", "transformers", "gradio"}
LIBRARIES_KEPT_OUT = {
    "lean": HEAVY | {"PIL", "numpy"},
    "data": HEAVY | {"PIL", "numpy"},
    "tasks": HEAVY | {"PIL", "numpy"},
    "settings": HEAVY,
    "metadata": HEAVY,
    "presets": HEAVY | {"PIL", "numpy"},
    "diffusion": {"gradio", "PIL", "transformers"},
    "conditions": {"gradio"},
    "models": {"gradio"},
    "engine": {"gradio"},
    "ui": {"torch", "diffusers", "transformers"},
    "training": {"gradio"},
    "bench": {"gradio"},
}
FLOORS = {  # below these the code breaks, or a hole is known
    "gradio": "6.25",
    "torch": "2.10",
    "diffusers": "0.38",
    "transformers": "5.3",
    "pillow": "12.3",
    "starlette": "1.3.1",
    "python-multipart": "0.0.32",
    "safetensors": "0.6",
}


def room_of(path: Path, root: Path = ROOT) -> str:
    """The room that a source file belongs to; the package's own opening belongs to none."""
    parts = path.relative_to(root).with_suffix("").parts
    return parts[0] if len(parts) == 1 else parts[1]


def imports_of(path: Path, root: Path = ROOT) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, with the line: relative names made whole, type checking included."""
    package = path.relative_to(root).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            name = ".".join(part for part in (base, node.module or "") if part)
            yield node.lineno, name
            if name == "modules":
                yield from ((node.lineno, f"modules.{alias.name}") for alias in node.names)


def wrong_turns(path: Path, root: Path = ROOT) -> list[str]:
    """The imports of a file that lead where its room may not go."""
    room, file = room_of(path, root), path.relative_to(root)
    found = []
    for line, name in imports_of(path, root):
        top, *rest = name.split(".")
        target = rest[0] if rest else ""
        if top == "modules" and target in MAY_IMPORT and target not in MAY_IMPORT.get(room, set()) | {room}:
            found.append(f"{file}:{line}: {room} must not know {target}")
        if top in LIBRARIES_KEPT_OUT.get(room, set()):
            found.append(f"{file}:{line}: {top} is kept out of {room}")
        if top == "gradio" and room not in ("ui", "app"):
            found.append(f"{file}:{line}: gradio lives in ui alone")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_import_follows_an_arrow(path):
    assert wrong_turns(path) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_room_is_on_the_plan_and_says_who_lives_there(path):
    assert room_of(path) in MAY_IMPORT or path == ROOT / "modules" / "__init__.py"
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert docstring, f"{path} does not say who lives there"


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("tasks.py", "from modules.diffusion import schedule"),
        ("tasks.py", "import torch"),
        ("tasks.py", "from . import engine"),
        ("diffusion/x.py", "from ..models.latent import LatentModel"),
        ("diffusion/x.py", "import gradio as gr"),
        ("engine/x.py", "def f():\n    from modules.ui import tabs"),
        ("engine/x.py", "import modules.training.toyland"),
        ("ui/tabs/x.py", "from modules.diffusion.schedule import SAMPLERS"),
        ("ui/tabs/x.py", "from ...models import loading"),
    ],
)
def test_a_reversed_arrow_is_noticed(room, line, tmp_path):
    path = tmp_path / "modules" / room
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert len(wrong_turns(path, tmp_path)) >= 1


def test_no_file_of_an_address_that_only_one_machine_knows():
    names = [path for path in (ROOT / "modules").rglob("*") if path.suffix in (".py", ".js", ".css", ".yaml")]
    for path in [*names, *ROOT.glob("requirements*.txt"), ROOT / "pyproject.toml", ROOT / ".ci" / "run"]:
        text = path.read_text("utf-8")
        assert not re.search(r"--(extra-)?index-url|/(root|opt|work)/", text), path


@pytest.mark.parametrize("name", FLOORS)
def test_installed_libraries_are_new_enough(name):
    assert Version(version(name)) >= Version(FLOORS[name])


def test_requirements_ask_for_the_same_floors():
    asked = dict(re.findall(r"^([\w-]+)>=([\d.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    for name, floor in FLOORS.items():
        assert Version(asked[name]) >= Version(floor), name
