"""The captions of scenes live here: true sentences about a scene's facts, in three lengths.

Every word comes from the facts, so a caption can leave something out but never say what is not there. "Left"
and "right" are always the picture's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

WEIGHTS = (0.6, 0.25, 0.15)  # how often to train on the long, the medium and the short caption
LONGEST = 30  # the text encoder reads 30 word pieces
HEAVY = {  # word pieces of the words that are more than one,
    "mannequin": 3, "lollipop": 3, "toadstool": 3, "donut": 2, "snowman": 2, "teal": 2, "strolling": 2,
    "jogging": 2, "sprinting": 2, "lunging": 2, "lunge": 3, "crouching": 2, "squatting": 2, "flexing": 3,
    "strongman": 2, "surrendering": 2, "shrugging": 2,
}
PEOPLE = ("a person", "a character", "a little figure", "a toy figure", "a clay figure", "a mannequin")
CLAY = ("a mannequin", "a clay figure", "a figure", "a toy figure", "a clay mannequin")
NOUNS = {
    "ball": ("ball", "sphere"), "cube": ("cube",), "block": ("block", "flat block"), "box": ("box", "block"),
    "cylinder": ("cylinder", "drum"), "pillar": ("pillar", "column"), "cone": ("cone",), "egg": ("egg",),
    "pill": ("capsule", "pill"), "ring": ("ring", "hoop"), "donut": ("donut",), "star": ("star",),
    "snowman": ("snowman",), "tree": ("tree", "fir tree"), "mushroom": ("mushroom", "toadstool"),
    "lollipop": ("lollipop",),
}
SIZES = {"small": ("small", "little", "tiny"), "": ("",), "big": ("big", "large")}
DOING = {
    "standing": ("standing", "standing upright", "standing still"),
    "waving": ("waving", "waving hello", "waving with one hand"),
    "walking": ("walking", "taking a walk", "strolling"),
    "running": ("running", "sprinting", "jogging"),
    "sitting on the floor": ("sitting on the floor", "sitting on the ground", "seated on the ground"),
    "sitting on a box": ("sitting", "sitting down", "seated"),
    "arms raised": ("with both arms raised", "raising both arms", "with both hands up"),
    "hand raised": ("raising one hand", "with one arm up", "with one hand in the air"),
    "lunging": ("lunging", "doing a lunge", "in a lunge"),
    "kicking": ("kicking", "doing a kick", "kicking with one leg"),
    "dancing": ("dancing", "doing a dance", "in a dance pose"),
    "pointing left": ("pointing to the left", "pointing left"),
    "pointing right": ("pointing to the right", "pointing right"),
    "hands on hips": ("with hands on hips", "with its hands on its hips"),
    "crouching": ("crouching", "squatting", "crouching down"),
    "jumping": ("jumping", "jumping up", "leaping into the air"),
    "t-pose": ("in a t-pose", "with arms stretched out to the sides", "with both arms held out sideways"),
    "bowing": ("bowing", "taking a bow", "bowing politely"),
    "thinking": ("thinking", "lost in thought", "with a hand on its chin"),
    "stretching": ("stretching", "stretching sideways", "doing a side stretch"),
    "balancing on one leg": ("balancing on one leg", "standing on one leg"),
    "star jump": ("doing a star jump", "jumping with arms and legs spread"),
    "kneeling": ("kneeling", "kneeling on both knees", "on its knees"),
    "kneeling on one knee": ("kneeling on one knee", "down on one knee"),
    "flexing": ("flexing its muscles", "showing its muscles", "in a strongman pose"),
    "hands up": ("with its hands up", "holding both hands up", "surrendering"),
    "reaching forward": ("reaching forward", "with both arms stretched forward"),
    "arms crossed": ("with its arms crossed", "with folded arms"),
    "shrugging": ("shrugging", "shrugging its shoulders"),
    "surfing": ("in a surfing pose", "balancing like a surfer"),
    "throwing": ("throwing", "about to throw", "winding up a throw"),
    "free": ("in a free pose", "striking a pose", "posing"),
    "lying down": ("lying on its back", "lying down", "lying on the floor"),
}
PLACES = {
    "to the right of": ("to the right of", "on the right of", "right of"),
    "to the left of": ("to the left of", "on the left of", "left of"),
    "in front of": ("in front of",), "behind": ("behind",), "next to": ("next to", "beside", "near"),
    "on top of": ("on top of", "on"),
}
OPENINGS = ("a 3D render of", "a soft 3D picture of", "a 3D clay scene of", "a 3D illustration of")
ENDINGS = ("3D clay style", "soft 3D style", "3D render", "3D")
SPELLINGS = {
    "grey": ("grey", "gray"), "light grey": ("light grey", "light gray"),
    "dark grey": ("dark grey", "dark gray"), "pale blue": ("pale blue", "light blue"),
    "pale pink": ("pale pink", "light pink"), "pale yellow": ("pale yellow", "light yellow"),
    "mint": ("mint", "light green"), "lavender": ("lavender", "light purple"),
}


def captions(facts: dict, rng: np.random.Generator) -> list[str]:
    """The long, the medium and the short caption of the facts, drawn with the generator."""
    return [_long(_Teller(facts, rng)), _medium(_Teller(facts, rng)), _short(_Teller(facts, rng))]


def pieces(text: str) -> int:
    """About how many word pieces the text encoder makes of a text."""
    return sum(HEAVY.get(word, 1) for word in re.findall(r"\w+|[^\w\s]", text))


def article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return ("an " if words[0] in "aeiou" else "a ") + words


class _Teller:
    """Words for one caption, in which a thing keeps its noun and a colour its spelling."""

    def __init__(self, facts: dict, rng: np.random.Generator):
        self.facts, self.rng = facts, rng
        self.nouns = [self.pick(NOUNS.get(thing["name"], ("figure",))) for thing in facts["things"]]
        self.spelling = {name: self.pick(ways) for name, ways in SPELLINGS.items()}

    def pick(self, options: Sequence):
        return options[int(self.rng.integers(len(options)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def colour(self, name: str) -> str:
        return self.spelling.get(name, name)

    def thing(self, index: int, plain: bool = False) -> str:
        """The thing when it first appears: "a small red ball", without its size when plain."""
        thing = self.facts["things"][index]
        size = "" if plain else self.pick(SIZES[thing["size"]])
        return article(f"{size} {self.colour(thing['colour'])} {self.nouns[index]}".strip())

    def again(self, index: int) -> str:
        """The thing when it was named before: "the ball", with its colour where two share the noun."""
        if self.facts["things"][index]["name"] == "figure":
            return self.pick(("it", "the figure"))
        twin = self.nouns.count(self.nouns[index]) > 1
        return f"the {self.colour(self.facts['things'][index]['colour'])} {self.nouns[index]}" if twin else \
            f"the {self.nouns[index]}"

    def who(self, dressed: bool = True) -> str:
        person = self.facts["person"]
        if "body" in person:
            return article(f"{self.colour(person['body'])} {self.pick(CLAY)[2:]}")
        who = self.pick(PEOPLE)
        if "hair" in person and self.chance(0.4 if dressed else 0.2):
            who = f"{who} with {person['hair']} hair"
        if not dressed:
            return who
        shirt, legs = self.colour(person["shirt"]), self.colour(person["trousers"])
        wearing, top = self.pick(("in", "wearing")), self.pick(("shirt", "top"))
        return f"{who} {wearing} {article(shirt)} {top} and {legs} {self.pick(('trousers', 'pants'))}"

    def doing(self, plain: bool = False) -> str:
        words = self.pick(DOING[self.facts["pose"]])
        seats = [i for i, relation, _ in self.facts["relations"] if relation == "under"]
        return f"{words} on {self.thing(seats[0], plain)}" if seats else words

    def facing(self) -> str:
        turn, pose = self.facts["turn"], self.facts["pose"]
        if pose in (None, "lying down"):
            return ""
        if abs(turn) > 135:
            return self.pick(("seen from behind", "from behind", "facing away"))
        if abs(turn) < 15:
            return self.pick(("facing us", "seen from the front", "facing forward", ""))
        if not 25 < abs(turn) < 120:
            return ""
        side = "right" if turn > 0 else "left"
        return self.pick((f"turned to the {side}", f"facing {side}", f"turned {side}"))

    def others(self, plain: bool = False) -> list[str]:
        """A phrase for each further thing, which says where it is."""
        return [f"{self.thing(i, plain)} {self.pick(PLACES[relation])} {self.again(j)}"
                for i, relation, j in self.facts["relations"] if relation != "under"]

    def background(self, whole: bool = True) -> str:
        """Where it all stands; a phrase that begins with "on", "against" or "in" can follow a noun."""
        floor, wall, top = (self.colour(self.facts[key]) for key in ("floor", "background", "top"))
        if self.facts["style"] == "room" and whole:
            return self.pick((f"on {article(floor)} floor in front of {article(wall)} wall",
                              f"{article(wall)} wall and {article(floor)} floor",
                              f"on {article(floor)} floor with {article(wall)} wall behind"))
        if self.facts["style"] == "gradient":
            return self.pick((f"on {article(wall)} to {top} gradient background",
                              f"{wall} and {top} gradient backdrop",
                              f"background fading from {wall} to {top}"))
        if self.facts["style"] == "room":
            return self.pick((f"{wall} wall", f"in front of {article(wall)} wall",
                              f"against {article(wall)} wall"))
        return self.pick((f"on {article(wall)} background", f"{wall} background", f"{wall} backdrop",
                          f"against {article(wall)} backdrop", f"in front of {article(wall)} backdrop"))

    def subject(self, plain: bool = False) -> str:
        if self.facts["kind"] == "objects":
            return self.thing(0, plain)
        return f"{self.who(not plain)} {self.doing(plain)}"


def _said(parts, longest: int = LONGEST) -> str:
    """The parts in one sentence, without those that would take it past `longest` word pieces.

    Commas part them, but a place ("on a blue background") follows the subject straight on.
    """
    said, subject_last = "", False
    for part in filter(None, parts):
        place = part.startswith(("on ", "against ", "in front of a"))
        text = f"{said}{' ' if place and subject_last else ', '}{part}" if said else part
        if not said or pieces(text) <= longest:
            said, subject_last = text, text == part
    return said


def _long(tell: _Teller) -> str:
    subject, rest, back, facing = tell.subject(), tell.others(), tell.background(), tell.facing()
    light = tell.pick(("soft light", f"light from the {tell.facts['light']}", ""))
    opened, ending = f"{tell.pick(OPENINGS)} {subject}", tell.pick(ENDINGS)
    return _said(tell.pick((
        [opened, *rest, back, facing, light],
        [opened, back, *rest, facing],
        [subject, facing, *rest, back, ending],
        [subject, back, *rest, facing, light, ending],
        [subject, *rest, back, facing, light, ending],
        [ending, subject, *rest, back, facing],
        [f"{subject} {facing}".strip(), back, *rest, ending],
    )))


def _medium(tell: _Teller) -> str:
    plain = tell.chance(0.4)
    subject, rest, back = tell.subject(plain), tell.others(plain), tell.background(whole=tell.chance(0.5))
    return _said(tell.pick((
        [subject, *rest, back], [subject, back, *rest], [f"{tell.pick(OPENINGS)} {subject}", *rest, back],
        [f"3D {subject.split(' ', 1)[1]}", *rest, back], [subject, tell.facing(), *rest],
    )), 22)


def _short(tell: _Teller) -> str:
    if tell.facts["kind"] == "objects":
        names = [tell.thing(i, plain=True) for i in range(len(tell.facts["things"]))]
        if len(names) == 4 and tell.chance(0.5):
            return tell.pick(("four objects", "four simple objects", "four clay shapes"))
        return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
    subject, rest = tell.subject(plain=True), tell.others(plain=True)
    wall = f"{tell.colour(tell.facts['background'])} background" if tell.facts["style"] == "plain" else ""
    return _said(tell.pick(([subject], [subject.split(" ", 1)[1]], [subject, wall], [subject, *rest[:1]])))
