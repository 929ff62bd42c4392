"""The shelf: what is here, what an offer says, one download in the background, and who may start it."""

import gc
import shutil
import time
import weakref

import pytest

from modules.engine.shelf import DONE, FAILED, LOCKED, RUNNING, STOPPED, Shelf
from modules.engine.studio import Engine
from modules.models.catalog import AddOn, CatalogueError, ModelCard
from modules.models.hub import HubError
from modules.models.presence import HERE, MISSING, UNFINISHED
from modules.settings import Settings
from modules.tasks import TaskError, TextToImage
from tests.hub import hub_on_loopback

REPO = "someone/tiny"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository with a small Stable Diffusion, as someone may have pushed it."""
    from tests.tiny import write_tiny_stable_diffusion

    return write_tiny_stable_diffusion(tmp_path_factory.mktemp("repository") / "tiny")


@pytest.fixture
def hub(monkeypatch, repository):
    with hub_on_loopback(monkeypatch) as hub:
        hub.repos[REPO] = repository
        yield hub


def shelf(folder, **how) -> Shelf:
    """A shelf with one model that is here and one that a hub has."""
    cards = {
        "pocket": ModelCard(id="pocket", title="Pocket", family="pocket", folder=folder / "none"),
        "tiny": ModelCard(
            id="tiny", title="Tiny", family="stable-diffusion", folder=folder / "tiny", hub=REPO,
            licence="MIT", download=0.5, memory={"float32": 2},
        ),
    }  # fmt: skip
    return Shelf(cards, folder, **how)


def ended(shelf: Shelf):
    """How the download ended."""
    while (progress := shelf.progress()) is None or progress.phase == RUNNING:
        time.sleep(0.01)
    return progress


def test_the_shipped_catalogue_offers_what_is_not_here(tmp_path):
    shipped = Shelf(models=tmp_path)
    assert list(shipped.here) == ["pocket"]
    offer = shipped.offer("flux-dev")
    assert (offer.state, offer.may) == (MISSING, False)  # the tests are offline
    for words in ("is not on this machine", "about 33.7 GB", "Non-Commercial", "36 GB in bfloat16", "log in"):
        assert words in offer.told
    assert "offline" in offer.told
    assert shipped.offer("sd15-pose").title == "ControlNet 1.1 OpenPose"


def test_a_model_that_is_not_here_is_refused_with_what_helps(tmp_path):
    engine = Engine(Settings(models=tmp_path, output_dir=tmp_path))
    with pytest.raises(TaskError, match=r"Stable Diffusion XL is not on this machine\. Choose it under More"):
        engine.check(TextToImage(model="sdxl"))


def test_opening_with_a_model_that_is_not_here_opens_with_pocket_and_says_so(tmp_path):
    engine = Engine(Settings(models=tmp_path, output_dir=tmp_path, model="sdxl"))
    assert engine.default_model == "pocket"
    (note,) = engine.notes()
    assert "Stable Diffusion XL is not on this machine" in note
    assert note.endswith("Until then Pocket paints.")
    assert Engine(Settings(models=tmp_path, output_dir=tmp_path, model="a/b")).notes()
    assert Engine(Settings(models=tmp_path, output_dir=tmp_path)).notes() == ()


def test_a_download_on_the_shelf_becomes_a_model_that_paints(hub, tmp_path):
    engine = Engine(Settings(output_dir=tmp_path / "out", device="cpu"), shelf(tmp_path).cards)
    offer = engine.shelf.offer("tiny")
    assert (offer.state, offer.may) == (MISSING, True)
    engine.shelf.fetch("tiny")
    progress = ended(engine.shelf)
    assert (progress.phase, progress.told) == (DONE, "Tiny is here now.")
    assert progress.done == progress.total > 0
    assert engine.shelf.offer("tiny").state == HERE
    *_, result = engine.run(TextToImage(model="tiny", steps=2, width=64, height=64, seed=1))
    assert result.images[0].size == (64, 64)


def test_a_stopped_download_is_offered_as_unfinished_and_goes_on(hub, tmp_path):
    shelved = shelf(tmp_path)
    hub.stalls = 0.05
    shelved.fetch("tiny")
    with pytest.raises(HubError, match="one at a time"):
        shelved.fetch("tiny")
    shelved.stop()
    progress = ended(shelved)
    assert progress.phase == STOPPED
    assert progress.told.startswith("Stopped.")
    assert "tiny" not in shelved.here
    assert shelved.offer("tiny").state in (UNFINISHED, MISSING)
    hub.stalls = 0
    shelved.fetch("tiny")
    assert ended(shelved).phase == DONE


def test_a_repository_that_no_card_lists_is_met_by_name(hub, tmp_path):
    shelved = shelf(tmp_path)
    offer = shelved.offer(REPO)
    assert offer.state == MISSING
    assert "openrail" in offer.told
    shelved.fetch(REPO)
    assert ended(shelved).phase == DONE
    assert REPO in shelved.here
    for said in ("nobody/nothing", "nothing", "../../etc"):
        with pytest.raises((HubError, CatalogueError)):
            shelved.offer(said)


def test_a_hub_that_cannot_be_reached_leaves_the_shelf_as_it_was(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    shelved = shelf(tmp_path)
    shelved.fetch("tiny")
    progress = ended(shelved)
    assert progress.phase == FAILED
    assert "could not be reached" in progress.told
    assert list(shelved.here) == ["pocket"]


def test_visitors_may_neither_download_nor_name_folders(hub, tmp_path, repository):
    shelved = shelf(tmp_path, locked=True)
    assert shelved.offer("tiny").may is False
    assert LOCKED in shelved.offer("tiny").told
    with pytest.raises(HubError, match="Visitors"):
        shelved.fetch("tiny")
    for said in (REPO, str(repository)):
        with pytest.raises(CatalogueError, match="must be one of pocket"):
            shelved.offer(said)
    assert hub.asked == []


def test_a_folder_that_a_person_names_is_here_if_it_is_whole(tmp_path, repository):
    shelved = shelf(tmp_path)
    assert shelved.offer(str(repository)).state == HERE
    shutil.copytree(repository, tmp_path / "half")
    next((tmp_path / "half" / "unet").glob("*.safetensors")).unlink()
    with pytest.raises(CatalogueError, match="is not whole: "):
        shelved.offer(str(tmp_path / "half"))


def test_what_lies_in_the_models_folder_is_found(tmp_path, repository):
    shutil.copytree(repository, tmp_path / "mine")
    (tmp_path / "other").mkdir()
    assert list(shelf(tmp_path).here) == ["pocket", "mine"]


def test_a_controlnet_that_is_here_gives_its_models_the_tab(tmp_path, repository):
    shelved = shelf(tmp_path)
    net = tmp_path / "net"
    net.mkdir()
    (net / "config.json").write_text("{}")
    (net / "diffusion_pytorch_model.safetensors").write_bytes(b"x")
    shelved.addons["net"] = AddOn(
        id="net", title="Net", folder=net, hub="a/b", adds="controlnet", to=("pocket",), controls=("pose",)
    )
    shelved.refresh()
    assert shelved.here["pocket"].controls["pose"] == net
    assert "controlnet" in shelved.here["pocket"].tasks


def test_changing_the_model_lets_go_of_the_former(tmp_path, tiny_folder, repository):
    engine = Engine(Settings(model=str(tiny_folder), output_dir=tmp_path, device="cpu"))
    other = engine.shelf.add(str(repository))
    assert other == "tiny"  # both folders are called so: the later one has the name
    first = weakref.ref(engine._model_for("pocket").unet)
    engine._model_for("tiny")
    gc.collect()
    assert first() is None
