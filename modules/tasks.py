"""What a person asked for lives here: the Task kinds, with every default and every limit beside its field."""

from __future__ import annotations

import dataclasses
import difflib
import json
import numbers
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

LONGEST_TEXT = 10_000
LONGEST_NAME = 200
LARGEST_SEED = 2**63 - 1


class TaskError(ValueError):
    """A request that cannot be served; `field` names the culprit, the message is for its author."""

    def __init__(self, field: str, sentence: str):
        super().__init__(sentence)
        self.field = field


class Limits(NamedTuple):
    """The closed range of a number, and the grid that whole numbers keep to (counted from the minimum)."""

    minimum: float
    maximum: float
    step: float


def number(default: float, minimum: float, maximum: float, *, step: float, help: str) -> Any:
    """A number with its limits; a whole default makes a field of whole numbers, on the grid of `step`."""
    return dataclasses.field(
        default=default, metadata={"limits": Limits(minimum, maximum, step), "help": help}
    )


def text(default: str = "", *, longest: int = LONGEST_TEXT, help: str) -> Any:
    """A string of at most `longest` characters."""
    return dataclasses.field(default=default, metadata={"longest": longest, "help": help})


def choice(default: str, options: tuple[str, ...], *, help: str) -> Any:
    """A string out of a set that is closed for good; sets that grow belong to the room that owns them."""
    return dataclasses.field(default=default, metadata={"options": options, "help": help})


def switch(default: bool, *, help: str) -> Any:
    """A yes or a no."""
    return dataclasses.field(default=default, metadata={"switch": True, "help": help})


def picture(*, help: str) -> Any:
    """An image (PIL.Image.Image) or the path of one; pictures travel beside the JSON, never in it."""
    return dataclasses.field(default=None, hash=False, metadata={"picture": True, "help": help})


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every kind of request shares: the words, and how to sample.

    Validated when made; a value out of limits raises TaskError and is never clamped.
    """

    kind: ClassVar[str] = ""

    prompt: str = text(help="What to draw. Empty is fine: the model then draws what it likes.")
    negative_prompt: str = text(help="What to steer away from; it takes the place of the empty prompt.")
    guidance_scale: float = number(
        5.0,
        0.0,
        30.0,
        step=0.1,
        help="How hard to follow the prompt; 1 means no guidance (papers' w is this - 1).",
    )
    steps: int = number(20, 1, 1000, step=1, help="Denoising steps: more is slower and finer.")
    sampler: str = text("DPM++ 2M", longest=LONGEST_NAME, help="The solver that walks from noise to picture.")
    schedule: str = text("karras", longest=LONGEST_NAME, help="Where between noise and picture the steps go.")
    seed: int = number(
        -1,
        -1,
        LARGEST_SEED,
        step=1,
        help="Same seed, same picture; picture i uses seed + i. -1 draws a new one.",
    )
    variation_strength: float = number(
        0.0,
        0.0,
        1.0,
        step=0.01,
        help="How far the seed's noise is turned towards another's: 0 not at all, 1 is the other.",
    )
    variation_seed: int = number(
        -1,
        -1,
        LARGEST_SEED,
        step=1,
        help="The seed to turn to, for every picture of a batch alike. -1 draws a new one.",
    )
    width: int = number(256, 64, 2048, step=64, help="Pixels across.")
    height: int = number(256, 64, 2048, step=64, help="Pixels down.")
    batch_size: int = number(1, 1, 16, step=1, help="Pictures to make at once.")
    image_prompt: Any = picture(help="A picture to take after, where the model has an IP-Adapter.")
    image_prompt_scale: float = number(
        5.0, 0.0, 30.0, step=0.1, help="How hard to follow the image prompt, beside what else guides."
    )
    model: str = text("pocket", longest=LONGEST_NAME, help="The model that paints, by its name.")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))

    def to_json(self) -> str:
        """The task as JSON, its kind under "kind"; pictures are left out."""
        return json.dumps({"kind": self.kind, **self.scalars()}, ensure_ascii=False, allow_nan=False)

    def scalars(self) -> dict[str, Any]:
        """Every field that JSON can hold, by name; pictures are left out."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if "picture" not in field.metadata
        }

    @staticmethod
    def from_json(source: str) -> Task:
        """The task that `to_json` wrote; TaskError on anything else, unknown fields included."""
        try:
            values = json.loads(source)
        except (ValueError, RecursionError) as error:
            raise TaskError("json", f"This is not a task: it is not JSON ({error}).") from error
        if not isinstance(values, dict):
            raise TaskError("json", f"This is not a task: JSON object expected, not {_shown(values)}.")
        kind = KINDS.get(name) if isinstance(name := values.pop("kind", None), str) else None
        if kind is None:
            raise TaskError("kind", f"kind is {_shown(name)}; it must be one of {', '.join(KINDS)}.")
        return kind.from_dict(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Task:
        """A task of this kind from its fields by name; TaskError if a name is not one of them."""
        known = {field.name for field in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                fields = ", ".join(sorted(known))
                raise TaskError(
                    name, f"{_shown(name)} is not a field of {cls.kind}; its fields are {fields}."
                )
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class TextToImage(Task):
    """A picture from words."""

    kind: ClassVar[str] = "text_to_image"


@dataclass(frozen=True, kw_only=True)
class ClassConditional(Task):
    """A picture of one class, with its own guidance weight; a prompt may go beside it."""

    kind: ClassVar[str] = "class_conditional"

    class_name: str = text(longest=LONGEST_NAME, help="The class to draw, by name.")
    class_scale: float = number(
        3.0, 0.0, 30.0, step=0.1, help="How hard to follow the class. It adds to the prompt's own guidance."
    )


@dataclass(frozen=True, kw_only=True)
class Controlled(Task):
    """A picture that keeps to a pose, a depth map or another map."""

    kind: ClassVar[str] = "controlnet"

    control_image: Any = picture(help="A photo to read the map from, or the map itself.")
    control_type: str = text("pose", longest=LONGEST_NAME, help="What to take from it: pose, depth, ...")
    detect: str = choice(
        "auto",
        ("auto", "always", "never"),
        help="Whether to run the detector: auto recognises an image that is already a map.",
    )
    control_scale: float = number(1.0, 0.0, 2.0, step=0.05, help="How strictly to keep to the map.")
    control_start: float = number(0.0, 0.0, 1.0, step=0.05, help="Share of the steps before the map holds.")
    control_end: float = number(1.0, 0.0, 1.0, step=0.05, help="Share of the steps after which it lets go.")
    control_type_2: str = text(longest=LONGEST_NAME, help="What to take from a second map; empty for none.")
    control_image_2: Any = picture(help="A photo to read the second map from, or the map itself.")
    control_scale_2: float = number(
        1.0, 0.0, 2.0, step=0.05, help="How strictly to keep to the second map, beside the first."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.control_start > self.control_end:
            raise TaskError(
                "control_start",
                f"control_start is {self.control_start}; it must not pass control_end ({self.control_end}).",
            )


@dataclass(frozen=True, kw_only=True)
class ImageToImage(Task):
    """A picture painted over another, from a level part of the way up to noise.

    The result keeps the other picture's shape, at about width times height pixels.
    """

    kind: ClassVar[str] = "image_to_image"

    image: Any = picture(help="The picture to start from.")
    strength: float = number(
        0.6, 0.01, 1.0, step=0.01, help="1 starts from almost pure noise, less stays nearer to the picture."
    )


@dataclass(frozen=True, kw_only=True)
class InstructEdit(Task):
    """A picture changed as an instruction says ("make it winter"), all else kept.

    The result keeps the other picture's shape, at about width times height pixels.
    """

    kind: ClassVar[str] = "instruct_edit"

    image: Any = picture(help="The picture to change.")
    image_guidance_scale: float = number(
        1.5, 0.0, 10.0, step=0.1, help="How hard to keep to the picture; 1 means no guidance by it."
    )


@dataclass(frozen=True, kw_only=True)
class Inpaint(Task):
    """A picture repainted where the mask is white; width and height are the size at which it is worked on.

    The result has the picture's own size, and every pixel outside the mask as it was, to the last bit.
    """

    kind: ClassVar[str] = "inpaint"

    image: Any = picture(help="The picture to repaint.")
    mask: Any = picture(help="White means repaint, black means keep to the last bit.")
    strength: float = number(
        1.0, 0.01, 1.0, step=0.01, help="1 repaints from pure noise, less stays nearer to what was there."
    )
    start_from: str = choice(
        "blurred",
        ("original", "blurred", "noise"),
        help="What lies under the mask at the start: what was there, its blurred surroundings, or noise. "
        "At strength 1 it is hardly more than a tint.",
    )
    mask_feather: int = number(4, 0, 64, step=1, help="Pixels inside the mask over which its edge blends.")
    mask_grow: int = number(0, 0, 128, step=1, help="Pixels by which the mask is grown first.")
    only_masked: bool = switch(False, help="Work on the masked region alone, at full resolution.")
    padding: int = number(
        32, 0, 256, step=1, help="Pixels around the mask that are seen too when only_masked is set."
    )
    extend_left: int = number(0, 0, 1024, step=1, help="Pixels of new picture to add on the left.")
    extend_right: int = number(0, 0, 1024, step=1, help="Pixels of new picture to add on the right.")
    extend_up: int = number(0, 0, 1024, step=1, help="Pixels of new picture to add above.")
    extend_down: int = number(0, 0, 1024, step=1, help="Pixels of new picture to add below.")


KINDS: dict[str, type[Task]] = {
    kind.kind: kind
    for kind in (TextToImage, ClassConditional, Controlled, Inpaint, ImageToImage, InstructEdit)
}


def limits(kind: type[Task], name: str, *narrower: Mapping[str, Limits]) -> Limits:
    """The limits of a number field, tightened by each of `narrower` (a model card's, a public server's).

    KeyError if the kind has no such field, or if the field is not a number.
    """
    found: Limits = kind.__dataclass_fields__[name].metadata["limits"]
    for tighter in narrower:
        if name in tighter:
            found = Limits(
                max(found.minimum, tighter[name].minimum),
                min(found.maximum, tighter[name].maximum),
                max(found.step, tighter[name].step),
            )
    return found


def default(kind: type[Task], name: str) -> Any:
    """The default of a field."""
    return kind.__dataclass_fields__[name].default


def help_for(kind: type[Task], name: str) -> str:
    """One or two sentences on what a field does."""
    return kind.__dataclass_fields__[name].metadata["help"]


def check(task: Task, narrower: Mapping[str, Limits], whose: str) -> None:
    """TaskError if the task leaves limits tighter than its own; "pixels" there means width times height.

    `whose` begins the sentence's last part: "Pocket takes", "this public studio takes".
    """
    for name, tighter in narrower.items():
        value = task.width * task.height if name == "pixels" else getattr(task, name, None)
        if value is None or (name.endswith("seed") and value == -1):
            continue
        field = "width" if name == "pixels" else name
        said = f"{name} is {value}"
        if name == "pixels":
            said = f"width x height is {task.width} x {task.height} = {value} pixels"
        if not tighter.minimum <= value <= tighter.maximum:
            raise TaskError(field, f"{said}; {whose} {_plain(tighter.minimum)} to {_plain(tighter.maximum)}.")
        if isinstance(value, int) and name != "pixels" and (value - tighter.minimum) % tighter.step:
            raise TaskError(
                field,
                f"{said}; {whose} {_plain(tighter.minimum)} to {_plain(tighter.maximum)} "
                f"in steps of {_plain(tighter.step)}.",
            )


def _checked(field: dataclasses.Field[Any], value: Any) -> Any:
    if "limits" in field.metadata:
        whole = isinstance(field.default, int)
        return _checked_number(field.name, value, field.metadata["limits"], whole=whole)
    if "longest" in field.metadata:
        return _checked_text(field.name, value, field.metadata["longest"])
    if "options" in field.metadata and value not in field.metadata["options"]:
        options = ", ".join(field.metadata["options"])
        raise TaskError(field.name, f"{field.name} is {_shown(value)}; it must be one of {options}.")
    if "switch" in field.metadata and not isinstance(value, bool):
        raise TaskError(field.name, f"{field.name} is {_shown(value)}; it must be true or false.")
    return value


def _checked_number(name: str, given: Any, allowed: Limits, *, whole: bool) -> float:
    low, high = _plain(allowed.minimum), _plain(allowed.maximum)
    expected = f"a {'whole ' if whole else ''}number from {low} to {high}"
    refusal = TaskError(name, f"{name} is {_shown(given)}; it must be {expected}.")
    if isinstance(given, bool) or not isinstance(given, numbers.Real):
        raise refusal
    exact: Any = given  # compared before it is converted, so that huge whole numbers cannot overflow
    if not allowed.minimum <= exact <= allowed.maximum or (whole and exact != int(exact)):  # NaN fails too
        raise refusal
    value = int(exact) if whole else float(exact)
    if whole and (value - allowed.minimum) % allowed.step:
        grid = f"in steps of {_plain(allowed.step)}"
        raise TaskError(name, f"{name} is {value}; it must be {expected}, {grid}.")
    return value


def _checked_text(name: str, value: Any, longest: int) -> str:
    if not isinstance(value, str):
        raise TaskError(name, f"{name} is {_shown(value)}; it must be text.")
    if len(value) > longest:
        raise TaskError(name, f"{name} has {len(value):,} characters; it may have at most {longest:,}.")
    return clean(value)


def not_one_of(name: str, value: str, options: Sequence[str]) -> str:
    """The sentence for a value that is in no list of options: the nearest of many, all of few."""
    if len(options) <= 20:
        return f"{name} is {_shown(value)}; it must be one of {', '.join(options)}."
    nearest = difflib.get_close_matches(value, options, n=3) or options[:3]
    return f"{name} is {_shown(value)}; it must be one of {len(options)}, such as {', '.join(nearest)}."


def clean(value: str) -> str:
    """Text that every file format and tokenizer can hold.

    Surrogate pairs are joined, lone surrogates become U+FFFD, line ends become "\\n", and control
    characters other than line end and tab are dropped. Cleaning twice changes nothing more.
    """
    value = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(letter for letter in value if letter in "\n\t" or unicodedata.category(letter) != "Cc")


def _shown(value: Any) -> str:
    try:
        shown = ascii(value) if isinstance(value, str) else repr(value)
    except ValueError:  # Python refuses to print whole numbers of more than 4,300 digits
        shown = "a very large number"
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)
