"""Our own calm look, light and dark, and the little style that Gradio's layout needs on wide and narrow screens."""

import gradio as gr

from x2i_app.ui.i18n import DEFAULT, LANGUAGES

# The one accent. Everything else is gray without a tint, so that images show their own colors.
LAGOON = gr.themes.Color(
    name="lagoon",
    c50="#eef8f8",
    c100="#d5eeef",
    c200="#addddf",
    c300="#7cc5c9",
    c400="#45a5ab",
    c500="#2a898f",
    c600="#1f7076",
    c700="#1c5a60",
    c800="#1b494e",
    c900="#1a3d42",
    c950="#0a262a",
)
# A scale of about 1.13 around a comfortable reading size.
SIZES = gr.themes.Size(name="x2i", xxs="11px", xs="12px", sm="13px", md="15px", lg="17px", xl="21px", xxl="28px")


class Theme(gr.themes.Base):
    """Flat surfaces, thin borders, one accent; system fonts, so that nothing is loaded from other hosts.

    All text has a contrast of at least 4.5 to 1 (WCAG 2 AA); tests/browser/test_looks.py runs axe-core.
    """

    def __init__(self) -> None:
        super().__init__(
            primary_hue=LAGOON,
            secondary_hue=LAGOON,
            neutral_hue=gr.themes.colors.neutral,
            radius_size=gr.themes.sizes.radius_lg,
            text_size=SIZES,
            font=("ui-sans-serif", "system-ui", "sans-serif"),
            font_mono=("ui-monospace", "monospace"),
        )
        self.name = "x2i"
        both = {
            "block_label_background_fill": "*block_background_fill",  # labels lie on images
            "block_label_text_color": "*body_text_color",
            "block_title_text_color": "*body_text_color",
            "button_primary_background_fill": "*primary_600",
            "button_primary_background_fill_hover": "*primary_700",
            "button_primary_border_color": "*primary_600",
            "color_accent": "*primary_600",
            "input_border_color_focus": "*primary_500",
            "slider_color": "*primary_500",
        }
        self.set(
            **both,
            **{f"{name}_dark": value for name, value in both.items() if name != "color_accent"},
            body_background_fill="*neutral_50",
            body_background_fill_dark="*neutral_950",
            body_text_color_subdued="*neutral_600",
            block_background_fill="white",
            block_background_fill_dark="*neutral_900",
            block_border_color_dark="*neutral_800",
            block_label_text_weight="500",
            block_title_text_weight="500",
            border_color_primary_dark="*neutral_800",
            button_secondary_background_fill="white",
            button_secondary_background_fill_hover="*primary_50",
            button_secondary_background_fill_dark="*neutral_800",
            button_secondary_background_fill_hover_dark="*neutral_700",
            button_secondary_border_color="*neutral_300",
            button_secondary_border_color_dark="*neutral_700",
            button_secondary_text_color="*neutral_800",
            button_border_width="1px",
            button_medium_text_weight="500",
            checkbox_border_color="*neutral_500",
            checkbox_border_color_dark="*neutral_500",
            checkbox_border_width="1px",
            input_background_fill="white",
            input_background_fill_dark="*neutral_900",
            input_border_color="*neutral_300",
            input_border_color_dark="*neutral_700",
            input_border_width="1px",
            input_placeholder_color="*neutral_500",
            input_placeholder_color_dark="*neutral_400",
        )


NARROW = 780  # pixels; up to this width the page has one column

CSS = (
    """
/* Gradio's `overflow: hidden` would keep the result from staying in view. */
.gradio-container { width: 100%; max-width: 1320px !important; margin: 0 auto !important; overflow: clip !important; }
.gradio-container :focus-visible { outline: 2px solid var(--primary-500); outline-offset: 2px; }
/* Fields stand on the page without boxes, with their labels above them. */
.form { border: 0 !important; background: none !important; gap: 1rem !important; overflow: visible !important; }
.form > .block { padding: 0; border: 0 !important; background: none; overflow: visible !important; }
.multimodal-textbox { border: 0 !important; background: none; }
.multimodal-textbox .full-container { padding: 0; }
.multimodal-textbox .input-wrapper { border: 1px solid var(--input-border-color); border-radius: var(--input-radius);
  padding: var(--input-padding); }
.dark { color-scheme: dark; } /* for what the browser draws, such as players */
.dark input[type=range] { --neutral-200: var(--neutral-700); } /* the unfilled part of the track */
.gr-accordion > .label-wrap { font-weight: 500; text-align: left; }
.gr-accordion > .label-wrap .icon { font-size: .625rem; opacity: .6; }
#top { align-items: start; }
#theme { white-space: nowrap; }
/* The tabs may take two rows. */
#tabs .tab-container { gap: .25rem; height: auto; background: none; }
#tabs [role=tab] { border-radius: var(--radius-md); padding: .375rem .75rem; height: auto; }
#tabs .tab-container::after, #tabs .tab-container::before, #tabs [role=tab]::after { display: none; }
#tabs [role=tab][aria-selected=true] { background: var(--primary-100); color: var(--primary-800); font-weight: 500; }
.dark #tabs [role=tab][aria-selected=true] { background: var(--primary-900); color: var(--primary-100); }
#tabs [role=tabpanel] { border: 0; padding: 0; }
#model-description { min-height: 3.3rem; } /* two lines */
.gradio-container footer :is(.divider:last-child, img) { display: none; }
#title h1 { margin-bottom: 0; }
#title p, #model-description p { margin: .25rem 0 0; }
:is(#facts, #details) dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .75rem;
  font-size: .875rem; }
:is(#facts, #details) dt { opacity: .7; }
:is(#facts, #details) dd { margin: 0; overflow-wrap: anywhere; }
#workbench { flex-wrap: nowrap; align-items: flex-start; gap: 1.25rem; }
#result { position: sticky; top: .75rem; }
#result:has(.fullscreen) { z-index: 1000; } /* nothing lies over the image in full screen */
#result-images { min-height: 28rem; }
#result-images .empty > * { display: none; }
#empty-hint { position: absolute; inset: 0; z-index: 1; pointer-events: none; }
#empty-hint .md { display: grid; place-content: center; position: absolute; inset: 0; padding: 1rem; }
#empty-hint h2 { margin: 0 0 .5rem; font-size: var(--text-lg); }
#empty-hint ol { margin: 0; padding-left: 1.25rem; color: var(--body-text-color-subdued); }
#result-view:has(#result-images img, #preview img) #empty-hint { display: none; }
/* Images are never cropped: one fills the area, two stand side by side, four fill it in two rows. */
#result-images .grid-wrap { height: 100% !important; }
#result-images .grid-container { height: 100%; grid-auto-rows: calc(50% - var(--spacing-lg) / 2); }
#result-images .grid-container:not(:has(> :nth-child(3))) { grid-auto-rows: 100%; }
#result-images .gallery-item, #result-images .thumbnail-item { height: 100%; min-height: 0; aspect-ratio: auto; }
#result-images .thumbnail-item { border: 0; background: none; box-shadow: none; }
#result-images .thumbnail-item img { object-fit: contain; }
/* A single image is as large opened as it was before; there is nothing to choose and nothing to close. */
#result-images:not(:has(.thumbnail-small:nth-child(2))) .thumbnails { display: none; }
#result-images:not(:has(.thumbnail-small:nth-child(2))) .media-button { height: 100% !important; }
#result-images:not(:has(.thumbnail-small:nth-child(2))) .preview [aria-label=Close] { display: none; }
#result-images .preview { background: none; backdrop-filter: none; }
#result-images .media-button img { box-shadow: none; }
.paginate { font-size: 0; } /* hides "Pages:", which Gradio does not translate */
.paginate button { font-size: var(--text-sm); }
/* The preview covers the result, so that nothing moves. */
#result-view { position: relative; }
#preview { position: absolute; inset: 0; z-index: 2; pointer-events: none; background: var(--block-background-fill);
  border: 1px solid var(--block-border-color); border-radius: var(--block-radius); overflow: hidden; }
#preview:not(:has(img)) { display: none; }
#preview img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
#job { align-items: center; min-height: 4rem; } /* two rows, so that nothing moves */
:is(#progress, #facts, #memory, #details) .html-container { padding: 0; }
/* A click on a player selects its example. */
[id^="examples-"] :is(audio, video) { pointer-events: none; }
/* The conversation has its full height from the start, so that nothing moves when a turn is added. */
#conversation-actions { align-items: center; gap: .5rem; }
#conversation-actions > :first-child { flex: 1 1 13rem; }
#keep-editing { padding: 0; border: 0; background: none; }
[role=tabpanel]:not(:has(.turns)) .turn-action { display: none; }
[role=tabpanel]:not(:has(.turns li)) .turn-action { visibility: hidden; }
#conversation:not(:has(.turns)) { display: none; }
#conversation .html-container { padding: 0; }
#conversation .turns { display: flex; flex-direction: column-reverse; height: 10rem;
  padding: .5rem .75rem; overflow-y: auto;
  border: 1px solid var(--block-border-color); border-radius: var(--block-radius); /* reversed: scrolled to its end */
  background: var(--block-background-fill); }
#conversation .turns > * { margin: 0 0 auto !important; padding: 0; list-style: none; }
#conversation li { display: flex; align-items: center; gap: .75rem; margin: .25rem 0; font-size: .875rem; }
#conversation li span { flex: 1; min-width: 0; overflow-wrap: anywhere; }
#conversation img { width: 2.75rem; height: 2.75rem; margin: 0; object-fit: cover; border-radius: var(--radius-sm); }
#memory meter { width: 100%; }
#memory table { display: table; width: 100%; }
#memory table, #memory tr { border: 0 !important; }
#memory td { border-width: 0 0 1px !important; border-color: var(--block-border-color) !important; }
#memory th { text-align: left; font-weight: 500; opacity: .7; border: 0 !important; }
#memory :is(th, td):nth-child(n+2) { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
#progress p { margin: 0 0 .35rem; font-variant-numeric: tabular-nums; display: flex; gap: 1rem; }
#progress p span { margin-left: auto; white-space: nowrap; color: var(--body-text-color-subdued); }
#progress progress { width: 100%; height: .5rem; appearance: none; border: 0; border-radius: .25rem; }
#progress progress, #progress progress::-webkit-progress-bar { background: var(--neutral-300); border-radius: .25rem; }
#progress progress::-webkit-progress-value { background: var(--primary-500); border-radius: .25rem; }
#progress progress::-moz-progress-bar { background: var(--primary-500); border-radius: .25rem; }
/* Stop is shown with the progress bar; its space is always there, so that nothing moves. */
#stop { visibility: hidden; }
#result:has(#progress progress) #stop { visibility: visible; }
#result:not(:has(#result-images img)) .needs-result { visibility: hidden; }
.no-clipboard .needs-clipboard { display: none; }
/* Errors lie at the bottom, above which the page can be scrolled. */
.toast-wrap { top: auto !important; bottom: .75rem; }
body:has(.toast-body) { padding-bottom: 9rem !important; }
#progress .failed { color: var(--error-text-color); }
/* As high as its text. Gradio measures that too early on a phone, where it is hidden until there is a result. */
#answer textarea { field-sizing: content; min-height: max-content; }
.not-shown, .form:has(> .not-shown:only-child) { display: none; }
#queue:not(:has(li)), #batch-progress:not(:has(p)) { display: none; }
:is(#queue, #batch-progress) .html-container { padding: 0; }
#batch-progress p { margin: 0 0 .35rem; }
#batch-progress progress { width: 100%; accent-color: var(--primary-500); }
#batch-progress li { font-size: var(--text-sm); overflow-wrap: anywhere; }
#batch-progress .failed li { color: var(--error-text-color); }
#queue h3 { margin: 0 0 .25rem; font-size: var(--text-md); font-weight: 500; }
#queue ol { margin: 0; padding: 0; max-height: 14rem; overflow-y: auto; }
#queue li { display: flex; align-items: center; gap: .5rem; margin: 0; padding: .35rem 0; list-style: none;
  border-top: 1px solid var(--block-border-color); }
#queue li > div { flex: 1; min-width: 0; font-size: var(--text-sm); }
#queue li b { display: block; overflow: hidden; font-weight: 400; text-overflow: ellipsis; white-space: nowrap; }
#queue small { display: block; color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; }
#queue img { width: 2.25rem; height: 2.25rem; margin: 0; object-fit: cover; border-radius: var(--radius-sm); }
#queue i { font-size: var(--text-xs); font-style: normal; color: var(--body-text-color-subdued); }
#queue li span { display: flex; align-items: center; white-space: nowrap; font-size: var(--text-sm); }
#queue button { min-width: 1.75rem; min-height: 1.75rem; padding: .25rem .5rem !important; border: 0 !important;
  border-radius: var(--radius-sm) !important; background: none; font-size: var(--text-md); }
#queue button:hover:not(:disabled) { background: var(--primary-100); color: var(--primary-900); }
#queue button:disabled { opacity: .3; }
#seed-actions, #take-away, #use-as-input, #enlarge { gap: .5rem; align-items: stretch; }
#download-form { min-width: 5.5rem !important; }
#actual-size-view { max-width: 100vw; max-height: 100vh; padding: 0; border: 0; overflow: auto; background: none; }
#actual-size-view::backdrop { background: rgb(0 0 0 / .85); }
#actual-size-view img { display: block; max-width: none; cursor: zoom-out; }
#sizes { gap: .5rem; align-items: end; }
#sizes button { min-height: 2.25rem; }
#lora-add, .lora { align-items: center; }
#lora-words .html-container { padding: 0; }
#lora-words p { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem; margin: .25rem 0; }
#lora-words button { padding: .15rem .75rem !important; border: 1px solid var(--block-border-color) !important;
  border-radius: 1rem !important; background: var(--block-background-fill); }
#lora-words button:hover { background: var(--primary-100); color: var(--primary-900); }
#kept-jobs { padding: .5rem .75rem; border: 1px solid var(--block-border-color); border-radius: var(--block-radius); }
#kept-jobs ul { margin: .25rem 0; padding-left: 1.25rem; }
#style-gallery .caption-label { font-size: .6875rem; max-width: 100%; }
#style-gallery:not(:has(img)) { display: none; }
.found-settings { align-items: center; gap: .5rem; }
.found-settings p { margin: 0; overflow-wrap: anywhere; }
.found-settings .html-container { padding: 0; }
#history-find { align-items: center; }
#only-favorites { border: 0; background: none; min-width: max-content !important; }
/* This session's images: one row of thumbnails. */
#history-images { height: 8.5rem !important; min-height: 0; }
#history-images .grid-wrap { height: 100% !important; max-height: none !important; overflow: hidden; }
#history-images .grid-container { display: flex; height: 100%; overflow-x: auto; gap: .5rem; padding: .25rem; }
#history-images .gallery-item { flex: 0 0 7.25rem; height: 7.25rem; aspect-ratio: 1; }
#history-images .caption-label { font-size: .6875rem; max-width: 100%; }
#compare-history img, #compare-original img { object-fit: contain !important; }
/* Input images are numbered; the buttons for the selected image keep their space while none is selected. */
#input-images .grid-container { counter-reset: image; }
/* Up to four images are shown whole in one row, more in rows of half the height. */
#input-images .grid-wrap { height: 100% !important; }
#input-images .grid-container { height: 100%; grid-auto-rows: 100%; }
#input-images .grid-container:has(> :nth-child(5)) { grid-auto-rows: 48%; }
#input-images .gallery-item, #input-images .thumbnail-item { height: 100%; min-height: 0; aspect-ratio: auto; }
#input-images .thumbnail-item img { object-fit: contain; }
#input-images .gallery-item { counter-increment: image; }
#input-images .gallery-item::before { content: counter(image); position: absolute; z-index: 1;
  bottom: .35rem; left: .35rem;
  min-width: 1.5rem; padding: 0 .35rem; border-radius: .75rem; background: var(--neutral-800); color: white;
  font-size: .8125rem; line-height: 1.5rem; text-align: center; pointer-events: none; }
#input-images .selected { outline: 3px solid var(--primary-500); outline-offset: -1px; }
#image-order { gap: .5rem; flex-wrap: nowrap; }
#image-order button { flex: 1 1 auto; min-width: 0 !important; padding-inline: .25rem; white-space: nowrap; }
[role=tabpanel]:not(:has(#input-images .selected)) .needs-selection { visibility: hidden; }
/* What the model will see and hear of the input. */
.input-preview p { margin: 0 0 .35rem; }
.input-preview li { margin: 0 !important; }
.input-preview .frames { display: flex; gap: .5rem; overflow-x: auto; margin: 0 0 .35rem; padding: .25rem;
  list-style: none; }
.input-preview .frames li { flex: 0 0 auto; text-align: center; font-size: .75rem; font-variant-numeric: tabular-nums; }
.input-preview .frames img { display: block; height: 5rem; margin: 0 auto .15rem; border-radius: .35rem; }
.input-preview .chips { display: flex; flex-wrap: wrap; gap: .5rem; margin: 0; padding: 0; list-style: none; }
.input-preview .chips li { padding: .15rem .75rem; border-radius: 1rem; border: 1px solid var(--block-border-color);
  background: var(--block-background-fill); font-size: .8125rem; overflow-wrap: anywhere; }
/* The part of a video that is used: once there is a video. (Gradio splits selectors at commas, also within :has.) */
[role=tabpanel]:not(:has(#input-preview-video p)):not(:has(#input-preview-fusion [data-kind=video])) .video-part {
  display: none; }
.input-preview .unused { border-color: var(--error-border-color) !important; color: var(--error-text-color); }
#compare-history img { max-height: 24rem !important; }
:is(#restore, #batch-file, #style-file) button .wrap { flex-direction: row; gap: .75rem; padding-top: 1.5rem;
  font-size: var(--text-md); }
#restored:not(:has(p)) { display: none; }
#model .form { align-items: end; }
@media (prefers-reduced-motion: reduce) {
  *, ::before, ::after { animation-duration: 1ms !important; transition-duration: 0s !important; }
}
/* On a phone: the input until there is a result; then the result and its seed first, the input, and the rest. */
@media (max-width: NARROWpx) {
  .gradio-container > .main { padding: 1rem !important; }
  .gradio-container :is(input, textarea) { font-size: 16px; } /* below which a phone zooms in */
  #workbench { flex-direction: column; align-items: stretch; }
  #workbench > * { display: contents; }
  #workbench > * > * { width: 100%; }
  #workbench:not(:has(#result-images img)) :is(.needs-result, #result > .form, #report-section, #compare-original),
  #workbench:not(:has(#progress p)) #job { display: none; }
  #result-view, #job { order: -4; }
  #workbench:not(:has(#result-images img, #preview img, #progress p)) #result-view { order: 0; }
  #seed-actions { order: -3; }
  #tabs { order: -2; }
  #take-away, #use-as-input, #enlarge, #result > .form, #compare-original, #report-section { order: -1; }
  #job { min-height: 6.5rem; }
  #queue, #kept-jobs { order: -3; }
  #queue li { flex-wrap: wrap; }
  #queue li > div { flex-basis: 60%; }
  #progress p { display: block; font-size: var(--text-sm); }
  #conversation-actions > :first-child { flex-basis: 100%; }
  #conversation .turns { height: 13rem; }
  #restore button .wrap { white-space: nowrap; font-size: var(--text-sm); }
  #result-images { min-height: 0; }
  #result-images:not(.fullscreen) { height: 17rem !important; }
  #title p { display: none; }
  #title h1 { font-size: var(--text-xl); white-space: nowrap; }
  #top { flex-wrap: nowrap; gap: .5rem; }
  #top > #title { min-width: max-content; }
  #top > #theme { min-width: 4rem !important; padding-inline: .5rem; }
  #top > #language { min-width: 7rem !important; }
  #model-description p { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; }
}
""".replace("NARROW", str(NARROW))
    + "".join(
        # What is built once for each language is shown only in that one; DEFAULT in all languages that the page lacks.
        f"html:lang({language}) .only-{DEFAULT}, html:not(:lang({language})) .only-{language} {{ display: none; }}\n"
        for language in LANGUAGES
        if language != DEFAULT
    )
)
