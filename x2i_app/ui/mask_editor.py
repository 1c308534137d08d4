"""Paint or extend a picture: a canvas over it, on which the mask is painted, and room to add around it.

Gradio's own image editor sends its layers to a route of its components, which the gate keeps closed. This canvas is the
browser's own; its PNG goes through the ordinary upload, at the moment when the picture is asked for.
"""

from typing import Any

import gradio as gr

from x2i_app.limits import LIMITS
from x2i_app.request import GenerationRequest
from x2i_app.ui.i18n import texts

MARGINS = ("left", "top", "right", "bottom")
PAINTING = ("mask", "strength", *MARGINS)  # the painter's parameters, in the order of its components

_TEMPLATE = (
    """<div class="paint"><img alt=""><canvas tabindex="0" role="img" aria-label="${value}"></canvas><i></i></div>"""
)

# Runs once, with `element` and `upload` from Gradio. The template may be drawn anew, so parts are looked up each time.
_CANVAS = """
const part = name => element.querySelector(name);
const state = {picture: "", mask: "", painted: false, size: 15, at: null, last: null};
const COLOUR = "#6366f1", MOST = 2048;

const thick = () => state.size / 100 * Math.max(part("canvas").width, part("canvas").height);

function place(event) {
  const canvas = part("canvas"), box = canvas.getBoundingClientRect();
  return {x: (event.clientX - box.left) / box.width * canvas.width,
          y: (event.clientY - box.top) / box.height * canvas.height};
}

// A ring shows the brush, to the mouse and to the arrow keys.
function point(at) {
  const canvas = part("canvas"), ring = part("i").style;
  state.at = at;
  ring.left = `${at.x / canvas.width * 100}%`;
  ring.top = `${at.y / canvas.height * 100}%`;
  ring.width = `${thick() / canvas.width * 100}%`;
}

function stroke(to) {
  const pen = part("canvas").getContext("2d"), from = state.last ?? to;
  Object.assign(pen, {lineCap: "round", lineWidth: thick(), strokeStyle: COLOUR, fillStyle: COLOUR});
  pen.beginPath();
  pen.moveTo(from.x, from.y);
  pen.lineTo(to.x, to.y);
  pen.stroke();
  pen.beginPath();  // a canvas draws no line of no length, which a tap is
  pen.arc(to.x, to.y, thick() / 2, 0, 7);
  pen.fill();
  Object.assign(state, {last: to, painted: true});
}

function clear() {
  const canvas = part("canvas");
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  Object.assign(state, {mask: "", painted: false, last: null});
}

async function load(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

async function show(picture, mask) {
  if (picture === state.picture && mask === state.mask) return;
  clear();
  Object.assign(state, {picture, mask});
  part(".paint").classList.toggle("ready", Boolean(picture));
  if (!picture) return;
  const image = await load(picture), canvas = part("canvas");
  const shrink = Math.min(1, MOST / Math.max(image.naturalWidth, image.naturalHeight));
  canvas.width = Math.round(image.naturalWidth * shrink);
  canvas.height = Math.round(image.naturalHeight * shrink);
  part("img").src = picture;
  part(".paint").style.setProperty("--shape", canvas.width / canvas.height);
  point({x: canvas.width / 2, y: canvas.height / 2});
  if (!mask) return;
  const pen = canvas.getContext("2d");
  pen.drawImage(await load(mask), 0, 0, canvas.width, canvas.height);
  const pixels = pen.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < pixels.data.length; i += 4) pixels.data[i + 3] = pixels.data[i] > 127 ? 255 : 0;
  pen.putImageData(pixels, 0, 0);
  tint(pen, COLOUR, "source-in");
  state.painted = true;
}

function tint(pen, colour, how) {
  Object.assign(pen, {globalCompositeOperation: how, fillStyle: colour});
  pen.fillRect(0, 0, pen.canvas.width, pen.canvas.height);
  pen.globalCompositeOperation = "source-over";
}

// White where it was painted, black elsewhere, as an uploaded file; null if nothing was.
async function mask() {
  if (!state.painted) return null;
  const canvas = part("canvas"), copy = document.createElement("canvas");
  Object.assign(copy, {width: canvas.width, height: canvas.height});
  const pen = copy.getContext("2d");
  pen.drawImage(canvas, 0, 0);
  tint(pen, "white", "source-in");
  tint(pen, "black", "destination-over");
  const png = await new Promise(done => copy.toBlob(done, "image/png"));
  const {path} = await upload(new File([png], "mask.png", {type: "image/png"}));
  return {path, orig_name: "mask.png", meta: {_type: "gradio.FileData"}};
}

element.addEventListener("pointerdown", event => {
  if (event.target !== part("canvas") || event.button) return;
  event.target.setPointerCapture(event.pointerId);
  state.last = null;
  stroke(place(event));
});
element.addEventListener("pointermove", event => {
  if (event.target !== part("canvas")) return;
  point(place(event));
  if (event.target.hasPointerCapture(event.pointerId)) stroke(place(event));
});
element.addEventListener("keydown", event => {
  const ways = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}, way = ways[event.key];
  if (event.target !== part("canvas") || !(way || event.key === " ")) return;
  event.preventDefault();
  const {width, height} = part("canvas"), step = thick() / 3;
  state.last = null;
  if (way) point({x: Math.min(Math.max(state.at.x + way[0] * step, 0), width),
                  y: Math.min(Math.max(state.at.y + way[1] * step, 0), height)});
  else stroke(state.at);
});

window.x2iPainter = {
  clear,
  mask,
  size: percent => { state.size = percent; },
  show: (...given) => show(...given).catch(console.warn),  // not every file that is read here can be shown
};
window.x2iPainter.show(...(window.x2iPainted ?? ["", ""]));
"""

# Run in the browser with the tab's values before they are sent. Without a canvas yet, the mask is what it was.
SEND_MASK = """async values => {
  if (window.x2iPainter) values[4] = await window.x2iPainter.mask();
  return values;
}"""
# Another picture wants another mask; but one that came back from a file may wait for its picture.
_NEXT_MASK = """mask => {
  const next = window.x2iMaskWaits ? mask : null;
  window.x2iMaskWaits = false;
  return next;
}"""
_SHOW = """(picture, mask) => {
  if (mask && !picture) window.x2iMaskWaits = true;
  window.x2iPainted = [picture?.url ?? "", mask?.url ?? ""];
  window.x2iPainter?.show(...window.x2iPainted);
}"""
_CLEAR = "() => { window.x2iPainter?.clear(); return null; }"

PAINTER_CSS = """
.paint { display: none; position: relative; margin: 0 auto; overflow: hidden; border-radius: var(--radius-md);
  width: min(100%, calc(24rem * var(--shape))); aspect-ratio: var(--shape); }
.paint.ready { display: block; }
.paint img, .paint canvas { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; }
.paint canvas { opacity: .6; cursor: crosshair; touch-action: none; }
.paint:focus-within { outline: 3px solid var(--primary-500); }
.paint i { position: absolute; aspect-ratio: 1; translate: -50% -50%; border-radius: 50%; pointer-events: none;
  border: 2px solid white; outline: 1px solid black; opacity: 0; }
.paint:is(:hover, :focus-within) i { opacity: 1; }
"""


def build_painter(image: gr.Image, mask: gr.Image) -> list[gr.components.Component]:
    """The folded section, for the picture in `image`; its components in the order of PAINTING.

    mask: a component without a place of its own, which holds the mask of a picture that is made again.
    """
    quiet: dict[str, Any] = {"api_visibility": "private"}
    with gr.Accordion(texts.PAINT, open=False, elem_id="paint"):
        gr.Markdown(texts.PAINT_HINT)
        gr.HTML(texts.PAINT_CANVAS, html_template=_TEMPLATE, js_on_load=_CANVAS, label="canvas", elem_id="painter")
        with gr.Row(elem_id="brush"):
            size = gr.Slider(2, 60, 15, step=1, label=texts.BRUSH, interactive=True, scale=4, elem_id="brush-size")
            clear = gr.Button(texts.CLEAR, size="sm", min_width=88, scale=0, elem_id="paint-clear")
        allowed = LIMITS.strength
        strength = gr.Slider(
            allowed.low,
            allowed.high,
            allowed.high,
            step=0.05,
            label=texts.LABELS["strength"],
            info=texts.STRENGTH_HINT,
            interactive=True,
            elem_id="strength",
        )
        gr.Markdown(texts.EXTEND_HINT)
        with gr.Row(elem_id="margins"):
            margins = [
                gr.Number(
                    0,
                    precision=0,
                    minimum=LIMITS.margin.low,
                    maximum=LIMITS.margin.high,
                    step=16,
                    label=texts.LABELS[side],
                    min_width=80,
                    interactive=True,
                )
                for side in MARGINS
            ]
    gr.on([image.change, mask.change], None, [image, mask], None, js=_SHOW, **quiet)
    image.input(None, mask, mask, js=_NEXT_MASK, **quiet)
    clear.click(None, None, mask, js=_CLEAR, **quiet)
    size.change(None, size, None, js="size => { window.x2iPainter?.size(size); }", **quiet)
    return [mask, strength, *margins]


def painting_fields(mask: str | None, strength: Any, *margins: Any) -> dict[str, Any]:
    """Values of PAINTING -> fields of a request. All of a picture drawn anew is not painting on it."""
    is_whole = strength is None or (strength == 1 and not isinstance(strength, bool))
    if mask is None and is_whole and not any(margins):
        strength = None
    return {"mask": mask, "strength": strength, "outpaint": tuple(0 if side is None else side for side in margins)}


def painting_values(request: GenerationRequest) -> dict[str, Any]:
    """The other way round: values of PAINTING, by name."""
    strength = LIMITS.strength.high if request.strength is None else request.strength
    return {"mask": request.mask, "strength": strength, **dict(zip(MARGINS, request.outpaint, strict=True))}
