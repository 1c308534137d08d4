"""Several pictures in an order that the user gives them: add, choose one, move it, take it out.

All of it happens in the browser: which picture is chosen is known only there, and the server sees the list that comes
out. The numbers on the pictures are theme.py's, counted by the browser too.
"""

import gradio as gr

from x2i_app.ui.i18n import texts

# Gradio marks the chosen picture with a class, and takes what comes back for a list of outputs, here of one.
_CHOSEN = "[...document.querySelectorAll('#images .thumbnail-item')].findIndex(e => e.classList.contains('selected'))"
_MOVE = f"""pictures => {{
  const from = {_CHOSEN}, to = from + STEP;
  if (from < 0 || to < 0 || to >= pictures.length) return [pictures];
  setTimeout(() => document.querySelectorAll('#images .thumbnail-item')[to]?.click(), 50);
  return [pictures.toSpliced(from, 1).toSpliced(to, 0, pictures[from])];
}}"""
_REMOVE = f"pictures => [pictures.filter((_, place) => place !== {_CHOSEN})]"
_ADD = "(pictures, files) => [[...(pictures ?? []), ...[files ?? []].flat().map(image => ({image, caption: null}))]]"


def build_images() -> gr.Gallery:
    """The gallery, with a row of buttons under it that act on the chosen picture."""
    gallery = gr.Gallery(
        label=texts.LABELS["images"],
        type="filepath",
        file_types=["image"],
        format="png",
        columns=4,
        height=280,
        object_fit="contain",
        allow_preview=False,  # a click chooses
        buttons=[],
        elem_id="images",
    )
    with gr.Row(elem_id="arrange"):
        options = {"size": "sm", "min_width": 72}
        left = gr.Button(texts.MOVE_LEFT, elem_classes="of-chosen", **options)
        right = gr.Button(texts.MOVE_RIGHT, elem_classes="of-chosen", **options)
        remove = gr.Button(texts.REMOVE, elem_classes="of-chosen", **options)
        # Gradio's own way to add more goes away while a picture is chosen.
        add = gr.UploadButton(texts.ADD_IMAGES, file_count="multiple", file_types=["image"], **options)
    left.click(None, gallery, gallery, js=_MOVE.replace("STEP", "-1"), api_visibility="private")
    right.click(None, gallery, gallery, js=_MOVE.replace("STEP", "1"), api_visibility="private")
    remove.click(None, gallery, gallery, js=_REMOVE, api_visibility="private")
    add.upload(None, [gallery, add], gallery, js=_ADD, api_visibility="private")
    return gallery
