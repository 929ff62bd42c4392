"""The scores as the table of the model card, so that the card and the JSON cannot disagree."""

from collections.abc import Callable, Iterator
from typing import Any

GOALS: tuple[tuple[str, str, str, str, float], ...] = (
    ("things", "thing", "a common thing by its name", "judge network", 0.75),
    ("painted", "thing", "a thing in a colour that nobody saw it in: the thing", "judge network", 0.75),
    ("painted", "colour", "the same: the colour", "commonest hue of what is not ground", 0.85),
    ("painted", "ground", "the same: the ground, of sixteen", "nearest fill at the border", 0.90),
    ("counts", "count", "one, two or three of a thing", "parts that stand apart", 0.70),
    ("places", "place", "a small thing in one of nine places", "middle of what is not ground", 0.70),
    (
        "relations",
        "relation",
        "two things never seen together: which is where (chance 50%)",
        "parts, told by the judge",
        0.70,
    ),
    ("relations", "both things, related", "the same: both named right, and in place", "parts and judge", 0),
    ("styles", "style", "one of four styles", "judge network", 0.90),
    ("classes", "thing", "a class by its token alone", "judge network", 0.80),
    ("classes and words", "all three", "class, colour and ground together", "all of these", 0.60),
    ("synonyms", "thing", "a word that no caption used (puppy, spud)", "judge network", 0.60),
)


def table(scores: dict[str, Any]) -> str:
    """Markdown: what was asked, how often it was seen, how often in true pictures, and the goal."""
    told = (line(scores["parts"][name]) for name, line in LINES.items() if name in scores["parts"])
    return "\n".join([*_attributes(scores), "", *told]) + "\n"


def _attributes(scores: dict[str, Any]) -> Iterator[str]:
    settings, true = scores["settings"], scores["judges, on true pictures"]
    yield (
        f"Guidance {settings['guidance_scale']:g}, {settings['steps']} steps of {settings['sampler']} "
        f"({settings['schedule']}), weights `{scores['model']}`, `python -m modules.training.evaluate"
        f"{' --quick' if scores['quick'] else ''}`:"
    )
    yield ""
    yield "| asked for | judged by | right | of pictures | judge on true pictures | goal |"
    yield "|---|---|---|---|---|---|"
    for part, measure, what, judge, goal in GOALS:
        if (score := scores["parts"].get(part, {}).get(measure)) is not None:
            own = f"{true[measure]['right']:.0%}" if measure in true else "-"
            wished = f"{goal:.0%}" if goal else "-"
            yield f"| {what} | {judge} | {score['right']:.0%} | {score['pictures']} | {own} | {wished} |"


def _guidance(found: dict[str, Any]) -> str:
    first, last = found["scales"][0], found["scales"][-1]
    best = max(found["scales"], key=lambda row: row["thing"]["right"])
    return (
        f"- Guidance {first['scale']:g} to {last['scale']:g}: things right {first['thing']['right']:.0%} "
        f"to {best['thing']['right']:.0%} (best at {best['scale']:g}), diversity 1 to "
        f"{last['diversity']:.2f}; {first['thing']['pictures']} pictures a scale."
    )


def _negative(found: dict[str, Any]) -> str:
    plain, without = (value for name, value in found.items() if "red" in name)
    return (
        f'- "red" as negative prompt: the share of red among coloured pixels goes from {plain:.0%} '
        f"to {without:.0%}; {found['pictures']} pictures each."
    )


def _weights(found: dict[str, Any]) -> str:
    def turned(rows: list[dict[str, Any]], weight: str, measure: str) -> str:
        told = ", ".join(f"{row[measure]['right']:.0%} at {row[weight]:g}" for row in rows)
        return f"{weight} turned up, the other kept: {measure} right {told}"

    return (
        f"- {turned(found['class turned'], 'class scale', 'class')}; "
        f"{turned(found['words turned'], 'guidance scale', 'ground')}; "
        f"{found['words turned'][0]['ground']['pictures']} pictures each."
    ).replace("- c", "- C", 1)


def _samplers(found: dict[str, Any]) -> str:
    reference = max(found["walks"], key=lambda row: row["calls"])
    return (
        f"- {reference['sampler']} in {reference['calls']} calls, without guidance: classes right "
        f"{reference['right']:.0%}, kernel distance {reference['beyond true pictures']:g} above that of true "
        f"pictures ({reference['pictures']} pictures; samplers.png has the rest)."
    )


def _autoencoder(found: dict[str, Any]) -> str:
    shown = {name: one for name, one in found.items() if name != "seconds"}
    told = [f"{one['dB']:.1f} dB on {one['pictures']} {name}" for name, one in shown.items()]
    return f"- Autoencoder, held-out pictures: {', '.join(told)}."


def _neighbours(found: dict[str, Any]) -> str:
    return (
        f"- Nearest training pictures of {found['pictures']}: {found['pixels off the closest, median']:.0f} "
        f"of 255 off (median; {found['least']:.0f} at least); true icons are "
        f"{found['true pictures off the closest but themselves, median']:.0f} off the closest other thing."
    )


def _inpainting(found: dict[str, Any]) -> str:
    return (
        f"- Inpainting, {found['cases']} masks: thing right {found['thing right']:.0%}, "
        f"colour {found['colour right']:.0%}, pixels outside untouched in "
        f"{found['unmasked pixels untouched']:.0%}, seam {found['seam, median']:g} (median)."
    )


LINES: dict[str, Callable[[dict[str, Any]], str]] = {
    "guidance": _guidance,
    "negative prompt": _negative,
    "two weights": _weights,
    "samplers": _samplers,
    "autoencoder": _autoencoder,
    "neighbours": _neighbours,
    "inpainting": _inpainting,
}
