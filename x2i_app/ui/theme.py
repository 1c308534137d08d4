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
        block_title_text_weight="500",
        block_label_text_weight="500",
        **quiet,
    )


NARROW = 780  # pixels; a page that is no wider has one column

CSS = """
.gradio-container { width: 100%; max-width: 1320px !important; margin: 0 auto !important; }
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
#news { align-items: center; min-height: 3.25rem; }
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
#after, #sizes { gap: .5rem; align-items: end; }
#sizes button { height: 2.25rem; }
/* This visit's pictures: one row of thumbnails, however many. */
#strip { min-height: 7.5rem; }
#strip .grid-wrap { height: auto !important; max-height: none !important; overflow: hidden; }
#strip .grid-container { display: flex; overflow-x: auto; gap: .5rem; padding: .25rem; }
#strip .gallery-item { flex: 0 0 6.5rem; height: 6.5rem; aspect-ratio: 1; }
#strip .caption-label { font-size: .6875rem; max-width: 100%; }
#compare img { object-fit: contain !important; }
/* On a phone the picture comes first, and the page is one column. */
@media (max-width: NARROWpx) {
  #workbench { flex-direction: column; }
  #workbench > * { width: 100%; min-width: 0 !important; }
  #result { order: -1; position: static; }
  #words:has(textarea:placeholder-shown) { display: none; }
  #pictures { min-height: 0; height: 17rem !important; }
}
""".replace("NARROW", str(NARROW))
