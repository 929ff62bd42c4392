"""The icons of Toyland: about 1,300 things, each drawn in up to four styles, as 256-pixel RGBA pictures."""

import io
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from modules.training.toyland.sources import fetch

SIZE = 256
STYLES = ("3d", "flat", "cartoon", "line")
GROUPS = {0: "face", 1: "person", 3: "animal", 4: "food", 5: "place", 6: "activity", 7: "object"}
COLOUR_WORDS = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
    "grey",
)
LEFT_OUT = re.compile(
    r"o’clock|-thirty|keycap|skin|with arrow|banknote|moon face|Japanese .*(button)|mailbox with|oncoming"
)

# Everyday names for things whose official name nobody would type.
EVERYDAY = {
    "automobile": ("car",),
    "grinning face with big eyes": ("smiling face", "happy face", "smiley"),
    "grinning face": ("smiling face", "smiley"),
    "smiling face with heart-eyes": ("face in love", "heart eyes face"),
    "smiling face with sunglasses": ("face with sunglasses", "cool face"),
    "hamburger": ("burger",),
    "doughnut": ("donut",),
    "honeybee": ("bee",),
    "lady beetle": ("ladybug",),
    "hot beverage": ("cup of coffee", "coffee"),
    "soft ice cream": ("ice cream cone",),
    "flying saucer": ("ufo",),
    "airplane": ("plane",),
    "wrapped gift": ("gift", "present"),
    "jack-o-lantern": ("halloween pumpkin", "pumpkin"),
    "ear of corn": ("corn",),
    "birthday cake": ("cake",),
    "spouting whale": ("whale",),
    "T-Rex": ("t-rex", "dinosaur"),
    "sauropod": ("long-necked dinosaur",),
    "couch and lamp": ("sofa",),
    "laptop": ("laptop computer",),
    "mobile phone": ("phone", "smartphone"),
    "evergreen tree": ("pine tree", "fir tree"),
    "deciduous tree": ("tree",),
    "glass of milk": ("milk",),
    "french fries": ("fries",),
    "cheese wedge": ("cheese",),
    "running shoe": ("sneaker",),
    "gem stone": ("diamond", "gem"),
    "billed cap": ("cap",),
    "magnifying glass tilted left": ("magnifying glass",),
    "front-facing baby chick": ("chick",),
    "loudly crying face": ("sobbing face",),
    "sun behind cloud": ("sun and cloud",),
    "articulated lorry": ("truck",),
    "red heart": ("heart",),
    "pile of poo": ("poop",),
    "alien monster": ("space invader",),
    "fork and knife": ("cutlery",),
    "game die": ("die", "dice"),
    "musical keyboard": ("piano",),
    "beer mug": ("beer",),
    "locked": ("padlock", "lock"),
    "fire engine": ("fire truck",),
    "high voltage": ("lightning bolt",),
    "brown mushroom": ("champignon",),
    "tennis": ("tennis racket",),
    "hourglass done": ("hourglass",),
    "hourglass not done": ("hourglass",),
    "globe showing Americas": ("globe", "planet earth"),
    "globe showing Europe-Africa": ("globe",),
    "globe showing Asia-Australia": ("globe",),
}

# The classes of the class-conditional tab, by official name; chosen for how often people ask for them.
CLASSES = [
    name.strip()
    for name in """
grinning face with big eyes | smiling face with heart-eyes | smiling face with sunglasses | winking face |
face with tears of joy | loudly crying face | angry face | sleeping face | thinking face | nerd face |
cowboy hat face | partying face | skull | ghost | alien | robot | clown face | red heart | broken heart |
dog face | cat face | cat | dog | fox | lion | tiger face | horse face | unicorn | cow face | pig face |
mouse face | rabbit face | hamster | bear | panda | koala | polar bear | monkey face | frog | chicken |
penguin | owl | duck | eagle | flamingo | parrot | turtle | snake | crocodile | dragon face | sauropod |
T-Rex | spouting whale | dolphin | fish | tropical fish | shark | octopus | crab | snail | butterfly |
honeybee | lady beetle | elephant | giraffe | zebra | camel | hedgehog | front-facing baby chick | rose |
sunflower | tulip | cherry blossom | evergreen tree | deciduous tree | palm tree | cactus | mushroom |
four leaf clover | maple leaf | red apple | banana | pear | lemon | tangerine | strawberry | grapes |
watermelon | pineapple | cherries | peach | coconut | avocado | tomato | carrot | ear of corn | broccoli |
eggplant | potato | pizza | hamburger | french fries | hot dog | taco | bread | croissant | cheese wedge |
egg | doughnut | cookie | birthday cake | cupcake | lollipop | soft ice cream | hot beverage | teapot |
glass of milk | beer mug | automobile | bus | taxi | police car | ambulance | fire engine | tractor |
bicycle | motorcycle | airplane | helicopter | rocket | flying saucer | sailboat | ship | locomotive | house
| castle | tent | mountain | volcano | rainbow | cloud | sun | crescent moon | star | ringed planet |
snowflake | snowman | fire | droplet | umbrella | balloon | wrapped gift | Christmas tree | jack-o-lantern |
trophy | soccer ball | basketball | tennis | guitar | trumpet | drum | violin | camera | television | laptop
| mobile phone | light bulb | candle | key | locked | hammer | scissors | pencil | paintbrush |
artist palette | books | open book | backpack | crown | top hat | glasses | t-shirt | dress | running shoe |
ring | gem stone | bell | alarm clock | hourglass done | bomb | teddy bear | kite | couch and lamp | chair |
door | globe showing Americas
""".replace("\n", " ").split("|")
]

# The same classes as people see them; colour words are dropped where Toyland repaints the thing.
CLASS_NAMES = [
    EVERYDAY[label][0] if label in EVERYDAY else label.removeprefix("red ").lower() for label in CLASSES
]


@dataclass(frozen=True)
class Thing:
    """One thing of Toyland: `names` are what captions may call it, the first one the official name."""

    code: str
    label: str
    names: tuple[str, ...]
    group: str
    styles: tuple[str, ...]


def _names(label: str, shortcodes: dict[str, str | list[str]], code: str) -> tuple[str, ...]:
    # "red apple" is called "apple": Toyland repaints things, and a colour in a name would then be a lie.
    words = label.replace("grey", "gray").split()
    plain = " ".join(words[1:]) if len(words) > 1 and words[0] in COLOUR_WORDS else label
    aliases = shortcodes.get(code, [])
    aliases = [aliases] if isinstance(aliases, str) else aliases
    short = [a.replace("_", " ") for a in aliases if a.replace("_", "").isalpha() and len(a) > 2]
    short = [s for s in short if s.split()[0] not in COLOUR_WORDS and s != plain.lower()]
    names = [*EVERYDAY.get(label, ()), plain, *short[:2]]
    return tuple(dict.fromkeys(names))


def things(sources: dict[str, Path]) -> list[Thing]:
    """List what can be drawn, in a fixed order; a thing is kept when it has at least its 3D drawing."""
    root = {key: path / "package" for key, path in sources.items()}
    emojis = json.loads((root["names"] / "en" / "data.json").read_text())
    shortcodes = json.loads((root["names"] / "en" / "shortcodes" / "github.json").read_text())
    # Packages disagree on writing the variation selector FE0F, so every look-up is by the code without it.
    drawn = {path.stem.replace("-fe0f", ""): path.stem for path in (root["3d"] / "assets").glob("*.webp")}
    vector = {
        style: json.loads((root[style] / "chars.json").read_text()) for style in ("flat", "cartoon", "line")
    }
    found = []
    for emoji in sorted(emojis, key=lambda e: e.get("order", 0)):
        label, group = emoji["label"], emoji.get("group")
        if (
            group not in GROUPS
            or LEFT_OUT.search(label)
            or (group == 1 and re.search(r"\b(man|woman|men|women|boy|girl)\b", label))
        ):
            continue
        code = emoji["hexcode"].lower().replace("-fe0f", "")
        if code in drawn:
            styles = ["3d"] + [s for s, chars in vector.items() if code in chars]
            found.append(
                Thing(
                    drawn[code],
                    label,
                    _names(label, shortcodes, emoji["hexcode"]),
                    GROUPS[group],
                    tuple(styles),
                )
            )
    return found


def draw(thing: Thing, style: str, sources: dict[str, Path], icons: dict[str, dict]) -> np.ndarray:
    """Draw one thing as a (256, 256, 4) uint8 RGBA array; `icons` caches each style's parsed icon file."""
    root = sources[style] / "package"
    if style == "3d":
        picture = Image.open(root / "assets" / f"{thing.code}.webp").convert("RGBA")
        return np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
    import resvg_py

    if style not in icons:
        icons[style] = {
            "chars": json.loads((root / "chars.json").read_text()),
            **json.loads((root / "icons.json").read_text()),
        }
    book = icons[style]
    icon = book["icons"][book["chars"][thing.code.replace("-fe0f", "")]]
    width, height = icon.get("width", book.get("width", 16)), icon.get("height", book.get("height", 16))
    body = icon["body"].replace("currentColor", "#000000")
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}" width="{SIZE}" height="{SIZE}">{body}</svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))


def prepare(folder: Path) -> None:
    """Write `folder/icons.npy` (N, 256, 256, 4) uint8 and `folder/icons.json`, one row per (thing, style)."""
    sources = fetch(folder / "sources")
    listed, books = things(sources), {}
    rows = [(thing, style) for thing in listed for style in thing.styles]
    pixels = np.lib.format.open_memmap(
        folder / "icons.part.npy", mode="w+", dtype=np.uint8, shape=(len(rows), SIZE, SIZE, 4)
    )
    for i, (thing, style) in enumerate(rows):
        pixels[i] = draw(thing, style, sources, books)
    pixels.flush()
    (folder / "icons.json").write_text(
        json.dumps([{**asdict(thing), "style": style} for thing, style in rows])
    )
    (folder / "icons.part.npy").rename(folder / "icons.npy")
