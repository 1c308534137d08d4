"""Several input images in the user's order: add images, select one, move it, remove it.

All of it happens in the browser: only the browser knows which image is selected, and the server gets the final list.
The numbers on the images come from theme.py.
"""

import gradio as gr

from x2i_app.ui.i18n import Text

IMAGE_TYPES = ["image", ".heic", ".heif", ".avif"]  # browsers may not know that the last ones are images
# Gradio marks the selected image with a class. For one output, JavaScript returns a list of one value.
_SELECTED = (
    "[...document.querySelectorAll('#input-images .thumbnail-item')].findIndex(e => e.classList.contains('selected'))"
)
_MOVE = f"""images => {{
  const from = {_SELECTED}, to = from + STEP;
  if (from < 0 || to < 0 || to >= images.length) return [images];
  setTimeout(() => document.querySelectorAll('#input-images .thumbnail-item')[to]?.click(), 50);
  return [images.toSpliced(from, 1).toSpliced(to, 0, images[from])];
}}"""
_REMOVE = f"images => [images.filter((_, i) => i !== {_SELECTED})]"
_ADD = "(images, files) => [[...(images ?? []), ...[files ?? []].flat().map(image => ({image, caption: null}))]]"


def build_image_gallery() -> gr.Gallery:
    """The gallery, with a row of buttons under it for the selected image."""
    gallery = gr.Gallery(
        label=Text("label.images"),
        type="filepath",
        file_types=IMAGE_TYPES,
        format="png",
        columns=4,
        height=280,
        object_fit="contain",
        allow_preview=False,  # a click selects
        buttons=[],
        elem_id="input-images",
    )
    with gr.Row(elem_id="image-order"):
        options = {"size": "sm", "min_width": 72}
        left = gr.Button(Text("images.left"), elem_classes="needs-selection", **options)
        right = gr.Button(Text("images.right"), elem_classes="needs-selection", **options)
        remove = gr.Button(Text("images.remove"), elem_classes="needs-selection", **options)
        # Gradio's own button is hidden while an image is selected.
        add = gr.UploadButton(Text("images.add"), file_count="multiple", file_types=IMAGE_TYPES, **options)
    left.click(None, gallery, gallery, js=_MOVE.replace("STEP", "-1"), api_visibility="private")
    right.click(None, gallery, gallery, js=_MOVE.replace("STEP", "1"), api_visibility="private")
    remove.click(None, gallery, gallery, js=_REMOVE, api_visibility="private")
    add.upload(None, [gallery, add], gallery, js=_ADD, api_visibility="private")
    return gallery
