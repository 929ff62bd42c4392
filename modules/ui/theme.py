"""How the page looks: gradio's theme variables pointed at the palette of studio.css, and the sheet itself."""

from __future__ import annotations

from pathlib import Path

from modules.ui.toolkit import gr

HERE = Path(__file__).parent
LOGO = HERE.parent.parent / "assets" / "epsilon.svg"

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Cascadia Mono", "Menlo", "Consolas", "monospace")

# Each variable of gradio's, and the custom property of studio.css that it follows in light and in dark.
PALETTE = {
    "body_background_fill": "paper",
    "body_text_color": "ink",
    "body_text_color_subdued": "ink-soft",
    "background_fill_primary": "surface",
    "background_fill_secondary": "paper",
    "border_color_primary": "line",
    "border_color_accent": "accent",
    "border_color_accent_subdued": "line",
    "color_accent": "accent",
    "color_accent_soft": "accent-wash",
    "link_text_color": "accent",
    "link_text_color_hover": "accent-strong",
    "link_text_color_active": "accent-strong",
    "link_text_color_visited": "accent",
    "code_background_fill": "sunken",
    "block_border_color": "line",
    "block_info_text_color": "ink-soft",
    "block_label_background_fill": "surface",
    "block_label_border_color": "line",
    "block_label_text_color": "ink-soft",
    "block_title_text_color": "ink",
    "panel_background_fill": "paper",
    "panel_border_color": "line",
    "accordion_text_color": "ink-soft",
    "input_background_fill": "surface",
    "input_background_fill_focus": "surface",
    "input_background_fill_hover": "surface",
    "input_border_color": "edge",
    "input_border_color_focus": "accent",
    "input_border_color_hover": "ink-soft",
    "input_placeholder_color": "ink-soft",
    "slider_color": "accent",
    "loader_color": "accent",
    "checkbox_background_color": "surface",
    "checkbox_background_color_selected": "accent",
    "checkbox_border_color": "edge",
    "checkbox_border_color_selected": "accent",
    "checkbox_border_color_focus": "accent",
    "checkbox_label_background_fill": "surface",
    "checkbox_label_background_fill_hover": "sunken",
    "checkbox_label_background_fill_selected": "accent-wash",
    "checkbox_label_border_color": "line",
    "checkbox_label_text_color": "ink",
    "checkbox_label_text_color_selected": "ink",
    "error_background_fill": "surface",
    "error_border_color": "accent",
    "error_text_color": "ink",
    "error_icon_color": "accent",
    "button_primary_background_fill": "accent",
    "button_primary_background_fill_hover": "accent-strong",
    "button_primary_border_color": "accent",
    "button_primary_border_color_hover": "accent-strong",
    "button_primary_text_color": "on-accent",
    "button_primary_text_color_hover": "on-accent",
    "button_secondary_background_fill": "surface",
    "button_secondary_background_fill_hover": "sunken",
    "button_secondary_border_color": "edge",
    "button_secondary_border_color_hover": "ink-soft",
    "button_secondary_text_color": "ink",
    "button_secondary_text_color_hover": "ink",
    "button_cancel_background_fill": "surface",
    "button_cancel_background_fill_hover": "sunken",
    "button_cancel_border_color": "edge",
    "button_cancel_border_color_hover": "ink-soft",
    "button_cancel_text_color": "ink",
    "button_cancel_text_color_hover": "ink",
    "table_even_background_fill": "surface",
    "table_odd_background_fill": "paper",
    "table_border_color": "line",
}

SHAPE = {
    "block_background_fill": "transparent",
    "block_border_width": "0px",
    "block_shadow": "none",
    "block_padding": "0px",
    "block_radius": "8px",
    "block_label_text_size": "13px",
    "block_title_text_size": "13px",
    "block_title_text_weight": "550",
    "block_info_text_size": "12.5px",
    "container_radius": "8px",
    "form_gap_width": "0px",
    "layout_gap": "18px",
    "panel_border_width": "0px",
    "input_border_width": "1px",
    "input_padding": "9px 12px",
    "input_radius": "8px",
    "input_shadow": "none",
    "input_shadow_focus": "0 0 0 3px var(--halo)",
    "input_text_size": "15px",
    "button_border_width": "1px",
    "button_primary_shadow": "none",
    "button_primary_shadow_hover": "none",
    "button_primary_shadow_active": "none",
    "button_secondary_shadow": "none",
    "button_secondary_shadow_hover": "none",
    "button_secondary_shadow_active": "none",
    "button_large_padding": "11px 18px",
    "button_large_radius": "8px",
    "button_large_text_size": "15.5px",
    "button_large_text_weight": "600",
    "button_small_radius": "6px",
    "button_small_text_weight": "500",
    "checkbox_border_radius": "4px",
    "checkbox_label_shadow": "none",
    "checkbox_label_padding": "5px 10px",
    "shadow_drop": "none",
    "shadow_drop_lg": "0 12px 32px rgb(0 0 0 / 0.14)",
}


def theme() -> gr.themes.Base:
    """The studio's theme: system fonts only, every colour a custom property of studio.css."""
    hues = {
        "primary_hue": "orange",
        "secondary_hue": "stone",
        "neutral_hue": "stone",
    }  # for what is not named above
    base = gr.themes.Base(font=SANS, font_mono=MONO, **hues)
    both = SHAPE | {name: f"var(--{colour})" for name, colour in PALETTE.items()}
    known = set(vars(base))
    return base.set(**both, **{f"{name}_dark": both[name] for name in both if f"{name}_dark" in known})


def css() -> str:
    """The style sheet of the whole page."""
    return "".join((HERE / name).read_text(encoding="utf-8") for name in ("studio.css", "steps.css"))


def javascript() -> str:
    """What the page does with keys: Ctrl+Enter generates, Escape cancels."""
    return (HERE / "studio.js").read_text(encoding="utf-8")
