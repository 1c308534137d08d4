"""One calm theme for light and dark, and the little style that Gradio's layout needs on wide and narrow screens."""

import gradio as gr


def build_theme() -> gr.themes.Base:
    """Neutral surfaces and one accent; fonts of the system, so that nothing is fetched from elsewhere."""
    theme = gr.themes.Soft(
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        font=("ui-sans-serif", "system-ui", "sans-serif"),
        font_mono=("ui-monospace", "monospace"),
    )
    quiet = {}
    for mode in ("", "_dark"):
        quiet[f"block_label_background_fill{mode}"] = "*block_background_fill"  # labels lie on pictures
        quiet[f"block_title_background_fill{mode}"] = "transparent"
        for part in ("block_label", "block_title"):
            quiet[f"{part}_text_color{mode}"] = "*body_text_color"
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_border_width="1px",
        block_border_width_dark="1px",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        input_border_width="1px",
        input_border_color="*neutral_200",
        checkbox_border_width="1px",
        checkbox_border_color="*neutral_400",
        # Contrast of at least 4.5 to 1 for every word (WCAG 2 AA); tests/browser/test_looks.py runs axe-core.
        body_text_color_subdued="*neutral_500",
        block_info_text_color="*neutral_500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        block_title_text_weight="500",
        block_label_text_weight="500",
        **quiet,
    )


NARROW = 780  # pixels; a page that is no wider has one column

CSS = """
.gradio-container { width: 100%; max-width: 1320px !important; margin: 0 auto !important; }
#top { align-items: start; }
.dark [role=tab][aria-selected=true] { color: var(--primary-300); }
#title h1 { margin-bottom: 0; }
#title p, #heading p { margin: .25rem 0 0; }
#facts dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .75rem; font-size: .875rem; }
#facts dt { opacity: .7; }
#facts dd { margin: 0; overflow-wrap: anywhere; }
#workbench { flex-wrap: nowrap; align-items: flex-start; gap: 1.25rem; }
#result { position: sticky; top: .75rem; }
#pictures { min-height: 28rem; }
/* Every picture whole: one fills the place, two stand side by side, four fill it in two rows. */
#pictures .grid-wrap { height: 100% !important; }
#pictures .grid-container { height: 100%; grid-auto-rows: calc(50% - var(--spacing-lg) / 2); }
#pictures .grid-container:not(:has(> :nth-child(3))) { grid-auto-rows: 100%; }
#pictures .gallery-item, #pictures .thumbnail-item { height: 100%; min-height: 0; aspect-ratio: auto; }
#pictures .thumbnail-item img { object-fit: contain; }
/* The prediction lies over the place of the picture, so that nothing moves. */
#easel { position: relative; }
#preview { position: absolute; inset: 0; z-index: 2; pointer-events: none; background: var(--block-background-fill);
  border: 1px solid var(--block-border-color); border-radius: var(--block-radius); overflow: hidden; }
#preview:not(:has(img)) { display: none; }
#preview img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
#news { align-items: center; min-height: 4.25rem; }
/* A click on a player is a click on its example, as everywhere else on it. */
[id^="examples-"] :is(audio, video) { pointer-events: none; }
#memory meter { width: 100%; }
#memory td:nth-child(n+2) { text-align: right; font-variant-numeric: tabular-nums; }
#progress p { margin: 0 0 .35rem; font-variant-numeric: tabular-nums; }
#progress progress { width: 100%; height: .5rem; appearance: none; border: 0; border-radius: .25rem; }
#progress progress, #progress progress::-webkit-progress-bar { background: var(--neutral-300); border-radius: .25rem; }
#progress progress::-webkit-progress-value { background: var(--primary-500); border-radius: .25rem; }
#progress progress::-moz-progress-bar { background: var(--primary-500); border-radius: .25rem; }
/* There is something to stop only while a bar is shown; its place stays, so that nothing moves. */
#stop { visibility: hidden; }
#result:has(#progress progress) #stop { visibility: visible; }
.unseen { display: none; }
#after, #onward, #sizes { gap: .5rem; align-items: end; }
#sizes button { height: 2.25rem; }
#lora-add, .lora, #brush { align-items: center; }
/* This visit's pictures: one row of thumbnails, however many. */
#strip { height: 8.5rem !important; min-height: 0; }
#strip .grid-wrap { height: 100% !important; max-height: none !important; overflow: hidden; }
#strip .grid-container { display: flex; height: 100%; overflow-x: auto; gap: .5rem; padding: .25rem; }
#strip .gallery-item { flex: 0 0 7.25rem; height: 7.25rem; aspect-ratio: 1; }
#strip .caption-label { font-size: .6875rem; max-width: 100%; }
#compare img, #before-after img { object-fit: contain !important; }
/* Given pictures have an order, which numbers tell; the buttons wait for a chosen one in their places. */
#images .grid-container { counter-reset: picture; }
#images .gallery-item { counter-increment: picture; }
#images .gallery-item::before { content: counter(picture); position: absolute; z-index: 1; bottom: .35rem; left: .35rem;
  min-width: 1.5rem; padding: 0 .35rem; border-radius: .75rem; background: var(--neutral-800); color: white;
  font-size: .8125rem; line-height: 1.5rem; text-align: center; pointer-events: none; }
#images .selected { outline: 3px solid var(--primary-500); outline-offset: -1px; }
#arrange { gap: .5rem; flex-wrap: nowrap; }
#arrange button { flex: 1 1 auto; min-width: 0 !important; padding-inline: .25rem; white-space: nowrap; }
[role=tabpanel]:not(:has(#images .selected)) .of-chosen { visibility: hidden; }
/* What the model will see and hear of what was given. */
.seen p { margin: 0 0 .35rem; }
.seen li { margin: 0 !important; }
.seen .strip { display: flex; gap: .5rem; overflow-x: auto; margin: 0 0 .35rem; padding: .25rem; list-style: none; }
.seen .strip li { flex: 0 0 auto; text-align: center; font-size: .75rem; font-variant-numeric: tabular-nums; }
.seen .strip img { display: block; height: 5rem; margin: 0 auto .15rem; border-radius: .35rem; }
.seen .chips { display: flex; flex-wrap: wrap; gap: .5rem; margin: 0; padding: 0; list-style: none; }
.seen .chips li { padding: .15rem .75rem; border-radius: 1rem; border: 1px solid var(--block-border-color);
  background: var(--block-background-fill); font-size: .8125rem; overflow-wrap: anywhere; }
.seen .unused { border-color: var(--error-border-color) !important; color: var(--error-text-color); }
/* On a phone the picture comes first, and the page is one column. */
@media (max-width: NARROWpx) {
  #workbench { flex-direction: column; }
  #workbench > * { width: 100%; min-width: 0 !important; }
  #result { order: -1; position: static; }
  #news { min-height: 5.75rem; }
  #words textarea { height: 4.25rem !important; min-height: 0; }
  #pictures { min-height: 0; height: 17rem !important; }
  #title p { display: none; }
  #heading p { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; }
}
""".replace("NARROW", str(NARROW))
