"""Libraries are opened as far as they are used, and are the real ones as soon as they are used."""

import copy
import importlib
import json
import os
import pickle
import subprocess
import sys
import threading
import typing
from pathlib import Path

import pytest

from modules import lean

ROOT = Path(__file__).parents[1]
HEAVY = ["torch._dynamo", "sympy", "triton", "torchvision", "transformers", "accelerate", "scipy.stats"]
PAINTS = """
import sys
from modules.engine.generation import generate
from modules.models.catalog import card_for_folder
from modules.models.loading import load
from modules.tasks import TextToImage

card = card_for_folder(__import__("pathlib").Path(sys.argv[1]))
*_, result = generate(load(card, "cpu"), TextToImage(model=card.id, width=64, height=64, steps=2, seed=1))
heavy = [name for name in sys.argv[2:] if name in sys.modules]

import torch._dynamo
from diffusers.loaders import lora_base
from diffusers.models.unets import UNet2DConditionModel
from transformers import PreTrainedModel
from transformers.models.bert.modeling_bert import BertModel

told = {
    "heavy": heavy,
    "pictures": len(result.images),
    "real compiler": bool(torch._dynamo.__file__),
    "transformers known": issubclass(BertModel, lora_base.PreTrainedModel),
    "networks unknown": not issubclass(UNet2DConditionModel, lora_base.PreTrainedModel),
}
print(__import__("json").dumps(told))
"""


def test_painting_imports_nothing_that_it_does_not_use_and_breaks_nothing_for_who_does(tiny_folder):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    said = subprocess.run(
        [sys.executable, "-c", PAINTS, str(tiny_folder), *HEAVY],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert said.stdout, said.stderr
    told = json.loads(said.stdout.splitlines()[-1])
    assert told == {
        "heavy": [], "pictures": 1,
        "real compiler": True, "transformers known": True, "networks unknown": True,
    }  # fmt: skip


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A package that gathers names as diffusers does, and a library it imports; all log when they run."""
    log = "import shop_log\nshop_log.append(__name__)\n"
    files = {
        "shop/__init__.py": f"{log}from .bread import Bread\nfrom .tea import Tea\nSIGN = 'open'\n",
        "shop/bread.py": f"{log}from mill.flour import Flour, sieve\nclass Bread: pass\n",
        "shop/tea.py": f"{log}class Tea: pass\n",
        "mill/__init__.py": log,
        "mill/flour.py": "class Flour: pass\nclass Rye(Flour): pass\ndef sieve(x): return x + 1\n",
        "shop_log.py": "import sys\nsys.modules[__name__] = []\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(lean, "PACKAGES", ())
    monkeypatch.setattr(lean, "UNUSED", ("mill",))
    yield lambda: sys.modules["shop_log"]
    for name in [name for name in sys.modules if name.partition(".")[0] in ("shop", "mill", "shop_log")]:
        del sys.modules[name]


def test_a_library_stays_shut_until_it_is_used(shop):
    with lean.sparing():
        bread = importlib.import_module("shop.bread")
    assert shop() == ["shop", "shop.bread", "shop.tea"]
    assert "mill" not in sys.modules
    assert "mill.flour" not in sys.modules
    assert not isinstance("nothing of the mill", bread.Flour)
    assert shop() == ["shop", "shop.bread", "shop.tea"]  # it was answered without the mill
    assert bread.sieve(1) == 2
    assert shop()[-1] == "mill"


def test_what_stands_in_knows_the_real_classes(shop):
    with lean.sparing():
        bread = importlib.import_module("shop.bread")
    flour = importlib.import_module("mill.flour")
    assert isinstance(flour.Rye(), bread.Flour)
    assert issubclass(flour.Flour, (int, bread.Flour))
    assert type(bread.Flour()) is flour.Flour
    assert issubclass(type("Mine", (flour.Flour,), {}), flour.Flour)
    namespace = {"Flour": bread.Flour}
    exec("class Mine(Flour): pass", namespace)
    assert issubclass(namespace["Mine"], flour.Flour)


def test_outside_the_library_is_imported_as_ever(shop):
    with lean.sparing():
        pass
    importlib.import_module("shop.bread")
    assert shop() == ["shop", "shop.bread", "mill", "shop.tea"]


def test_a_package_gives_its_names_one_by_one(shop):
    importlib.import_module("mill.flour")
    del shop()[:]
    lean.shelve("shop")
    shelved = importlib.import_module("shop")
    assert shelved.Tea.__module__ == "shop.tea"
    assert shop() == ["shop.tea"]
    assert shelved.SIGN == "open"  # nothing but the whole package knows that
    assert shop() == ["shop.tea", "shop", "shop.bread"]


def test_a_library_may_be_used_while_another_thread_is_sparing(shop):
    """As when a page asks for a curve that needs scipy while the model behind it is being loaded."""
    with lean.sparing():
        bread = importlib.import_module("shop.bread")
        used = []
        other = threading.Thread(target=lambda: used.append(bread.sieve(1)))
        other.start()
        other.join()
        assert used == [2]
        assert sys.modules["mill"].__file__
        importlib.import_module("shop.tea")
    assert not any(isinstance(finder, lean.StandIns) for finder in sys.meta_path)


def test_what_was_imported_before_is_left_as_it_is(shop):
    flour = importlib.import_module("mill.flour")
    bread = importlib.import_module("shop.bread")
    with lean.sparing():
        assert importlib.import_module("shop.bread") is bread
        assert importlib.import_module("mill.flour") is flour
    assert bread.Flour is flour.Flour


def test_what_stands_in_is_annotated_with_copied_and_pickled_as_the_thing_itself(shop):
    with lean.sparing():
        bread = importlib.import_module("shop.bread")
    assert bread.Flour in typing.get_args(bread.Flour | None)
    assert bread.Flour in typing.get_args(None | bread.Flour)
    assert "mill" not in sys.modules
    assert copy.copy(bread.Flour) is sys.modules["mill.flour"].Flour
    assert copy.deepcopy(bread.Flour) is sys.modules["mill.flour"].Flour
    assert pickle.loads(pickle.dumps(bread.Flour())).__class__ is sys.modules["mill.flour"].Flour


def test_a_package_that_puts_another_in_its_place_gives_its_names(shop, tmp_path):
    """As diffusers' packages do that are lazy themselves."""
    (tmp_path / "shop" / "__init__.py").write_text(
        "import sys, types\nsys.modules[__name__] = types.SimpleNamespace(SIGN='lazy')\n"
    )
    lean.shelve("shop")
    assert importlib.import_module("shop").SIGN == "lazy"
