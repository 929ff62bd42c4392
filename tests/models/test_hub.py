"""Downloads through the real huggingface_hub over loopback: chosen, resumed, checked, refused in words."""

import dataclasses
import json
import subprocess
import sys

import pytest

from modules.models.catalog import Card, read_addons, read_catalogue
from modules.models.fetching import Stopped, fetch
from modules.models.files import fingerprint
from modules.models.hub import HubError, look_up, wanted
from modules.models.presence import DAMAGED, FETCHING, HERE, MANIFEST, MISSING, UNFINISHED, presence
from tests.hub import COMMIT, hub_on_loopback

REPO = "someone/tiny"
PIPELINE = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "image_encoder": [None, None],
}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with hub_on_loopback(monkeypatch) as hub:
        hub.repos[REPO] = tmp_path / "repo"
        write_repo(hub.repos[REPO])
        yield hub


@pytest.fixture
def card(tmp_path) -> Card:
    return Card(id="tiny", title="Tiny", folder=tmp_path / "models" / "tiny", hub=REPO, variant="fp16")


def write_repo(folder):
    for name, content in {
        "model_index.json": json.dumps(PIPELINE),
        "README.md": "Hello",
        "tiny.safetensors": "an original checkpoint",
        "unet/config.json": "{}",
        "unet/diffusion_pytorch_model.safetensors": "full" * 50_000,
        "unet/diffusion_pytorch_model.fp16.safetensors": "half" * 25_000,
        "unet/diffusion_pytorch_model.bin": "a pickle",
        "tokenizer/vocab.json": "{}",
        "tokenizer/merges.txt": "",
        "safety_checker/model.safetensors": "large",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def quietly(count: int) -> None:
    pass


def test_a_download_is_looked_up_fetched_and_marked_whole(hub, card):
    assert presence(card.folder).state == MISSING
    listing = look_up(card)
    assert [file.name for file in listing.files] == [
        "model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors",
        "tokenizer/merges.txt", "tokenizer/vocab.json",
    ]  # fmt: skip
    assert (listing.licence, listing.pipeline) == ("openrail", "StableDiffusionPipeline")
    assert listing.bytes == sum((hub.repos[REPO] / file.name).stat().st_size for file in listing.files)
    seen = []
    fetch(card, listing, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == listing.bytes
    assert presence(card.folder) == (HERE, "")
    assert not (card.folder / FETCHING).exists()
    assert json.loads((card.folder / MANIFEST).read_text())["commit"] == COMMIT
    fingerprint(card.folder)  # every size and checksum that the manifest lists is right


def test_a_download_that_was_stopped_goes_on_where_it_was(hub, card):
    listing = look_up(card)

    def stop(count: int) -> None:
        if count > 50_000:
            raise Stopped

    with pytest.raises(Stopped):
        fetch(card, listing, stop)
    state, told = presence(card.folder)
    assert state == UNFINISHED
    assert "stopped at" in told
    assert not (card.folder / MANIFEST).exists()
    (part,) = [path for path in (card.folder / FETCHING).glob("*.part") if path.stat().st_size]
    held = part.stat().st_size
    assert 0 < held < 100_000
    hub.asked.clear()
    seen = []
    fetch(card, look_up(card), seen.append)
    assert min(seen[2:]) > 50_000  # what was there counts from the start
    asked = [(path.rpartition("/")[2], range) for _, path, range in hub.asked if "resolve" in path]
    assert ("diffusion_pytorch_model.fp16.safetensors", f"bytes={held}-") in asked
    assert "config.json" not in dict(asked)  # it was whole, and is not asked for again
    assert presence(card.folder).state == HERE
    fingerprint(card.folder)


def test_a_line_that_breaks_is_taken_up_again_in_the_same_download(hub, card):
    listing = look_up(card)
    hub.lies["unet/config.json"] = b"{}"
    large = next(file for file in listing.files if file.bytes > 50_000)
    only = dataclasses.replace(listing, files=(large,))
    hub.cut = 40_000
    fetch(card, only, quietly)
    assert [range for _, path, range in hub.asked if "resolve" in path][-1].startswith("bytes=")
    assert presence(card.folder).state == HERE


@pytest.mark.parametrize("lie", [b"half" * 20_000, b"lies" * 25_000])
def test_a_file_of_another_size_or_content_is_refused_and_thrown_away(lie, hub, card):
    listing = look_up(card)
    name = "unet/diffusion_pytorch_model.fp16.safetensors"
    hub.lies[name] = lie
    with pytest.raises(HubError, match="100,000 are right"):
        fetch(card, listing, quietly)
    assert presence(card.folder).state == UNFINISHED
    assert not (card.folder / name).exists()
    hub.lies.clear()
    fetch(card, listing, quietly)
    assert presence(card.folder).state == HERE


def test_a_hole_in_a_whole_download_is_seen_and_mended(hub, card):
    fetch(card, look_up(card), quietly)
    (card.folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_text("half")
    state, told = presence(card.folder)
    assert state == DAMAGED
    assert "has 4 bytes where 100,000 are right" in told
    fetch(card, look_up(card), quietly)
    assert presence(card.folder).state == HERE


@pytest.mark.parametrize(
    ("refuses", "words"),
    [
        ((401, "GatedRepo"), "given only to those who accept its licence"),
        ((404, "RepoNotFound"), "The hub has no someone/tiny"),
        ((503, ""), "answered 503"),
    ],
)
def test_a_hub_that_refuses_is_told_in_words(refuses, words, hub, card):
    hub.refuses = refuses
    with pytest.raises(HubError, match=words):
        look_up(card)


def test_a_hub_that_is_not_there_is_told_in_words(hub, card, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(HubError, match="could not be reached"):
        look_up(card)


def test_a_hub_that_says_nothing_is_given_up(hub, card, monkeypatch):
    monkeypatch.setattr("modules.models.hub.PATIENCE", 0.2)
    hub.stalls = 1.0
    with pytest.raises(HubError, match="could not be reached"):
        look_up(card)


def test_offline_nothing_is_asked(hub, card, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match="the studio is offline"):
        look_up(card)
    assert hub.asked == []


def test_a_full_disk_is_seen_beforehand(hub, card, monkeypatch):
    listing = look_up(card)
    monkeypatch.setattr("modules.models.fetching.SPARE", 10**15)
    with pytest.raises(HubError, match="Make room"):
        fetch(card, listing, quietly)


def test_a_repository_of_pickles_is_refused(hub, card):
    for path in (hub.repos[REPO] / "unet").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(HubError, match="only as pickled weights"):
        look_up(card)


def test_files_that_a_card_names_are_fetched_and_no_others(hub, card):
    named = dataclasses.replace(card, files=("tiny.safetensors",))
    assert [file.name for file in look_up(named).files] == ["tiny.safetensors"]
    with pytest.raises(HubError, match=r"no gone\.safetensors any more"):
        look_up(dataclasses.replace(card, files=("gone.safetensors",)))
    for name in ("unet/diffusion_pytorch_model.bin", "README.md"):
        with pytest.raises(HubError, match="of no kind that this studio fetches"):
            look_up(dataclasses.replace(card, files=(name,)))


def test_pieces_come_with_their_index_and_without_their_twins():
    index = {"text_encoder_3": ["transformers", "T5EncoderModel"]}
    names = [
        "text_encoder_3/config.json",
        "text_encoder_3/model-00001-of-00002.safetensors",
        "text_encoder_3/model-00002-of-00002.safetensors",
        "text_encoder_3/model.fp16-00001-of-00002.safetensors",
        "text_encoder_3/model.fp16-00002-of-00002.safetensors",
        "text_encoder_3/model.safetensors.index.fp16.json",
        "text_encoder_3/model.safetensors.index.json",
    ]
    assert wanted(names, index) == [*names[:3], names[6]]
    assert wanted(names, index, "fp16") == [names[0], *names[3:6]]


def test_a_lone_network_lies_at_the_top():
    names = [
        "README.md", "config.json", "config_promax.json", "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model_promax.safetensors", "images/x.json",
    ]  # fmt: skip
    assert wanted(names, {}) == ["config.json", "diffusion_pytorch_model.safetensors"]


def test_every_card_of_the_catalogue_that_is_not_here_can_be_asked_for():
    for card in [*read_catalogue().values(), *read_addons().values()]:
        if card.hub:
            assert card.licence != "unknown"
            assert card.download > 0
            assert card.memory
            assert all(name.endswith((".safetensors", ".json", ".txt")) for name in card.files)


def test_presence_tells_half_a_folder_from_a_whole_one(tmp_path):
    write_repo(tmp_path)
    assert presence(tmp_path).state == HERE
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "diffusion_pytorch_model-00002-of-00002.safetensors"}})
    )
    state, told = presence(tmp_path)
    assert state == DAMAGED
    assert "diffusion_pytorch_model-00002-of-00002.safetensors is missing" in told


def test_nothing_of_the_hub_is_imported_before_it_is_asked_for():
    code = "import sys, modules.models.fetching; print({'huggingface_hub', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
