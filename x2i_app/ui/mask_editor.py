"""The mask editor of Image + Text: a canvas over the image, on which the mask is painted, and margins to extend it.

Gradio's own image editor sends its layers to a component route, which RequestGuard keeps closed. This canvas runs in
the browser, and uploads its PNG the ordinary way when Generate is clicked.
"""

import gradio as gr

from x2i_app.limits import LIMITS
from x2i_app.request import GenerationRequest
from x2i_app.ui.i18n import Text

MARGINS = ("left", "top", "right", "bottom")
INPAINT = ("mask", "strength", *MARGINS)  # the endpoint's parameters, in the order of the components

_TEMPLATE = (
    '<div class="mask-canvas"><img alt=""><canvas tabindex="0" role="img" aria-label="${value}"></canvas><i></i></div>'
)

# Runs once, with `element` and `upload` from Gradio. Gradio may render the template again: look elements up each time.
_CANVAS = """
const part = name => element.querySelector(name);
const state = {image: "", mask: "", painted: false, size: 15, at: null, last: null};
const COLOUR = "#6366f1", MAX_SIDE = 2048;

const brush = () => state.size / 100 * Math.max(part("canvas").width, part("canvas").height);

function position(event) {
  const canvas = part("canvas"), box = canvas.getBoundingClientRect();
  return {x: (event.clientX - box.left) / box.width * canvas.width,
          y: (event.clientY - box.top) / box.height * canvas.height};
}

// A ring shows where the brush is, for the mouse and the arrow keys.
function point(at) {
  const canvas = part("canvas"), ring = part("i").style;
  state.at = at;
  ring.left = `${at.x / canvas.width * 100}%`;
  ring.top = `${at.y / canvas.height * 100}%`;
  ring.width = `${brush() / canvas.width * 100}%`;
}

function stroke(to) {
  const pen = part("canvas").getContext("2d"), from = state.last ?? to;
  Object.assign(pen, {lineCap: "round", lineWidth: brush(), strokeStyle: COLOUR, fillStyle: COLOUR});
  pen.beginPath();
  pen.moveTo(from.x, from.y);
  pen.lineTo(to.x, to.y);
  pen.stroke();
  pen.beginPath();  // a tap is a line without length, which a canvas does not draw
  pen.arc(to.x, to.y, brush() / 2, 0, 7);
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

async function show(image, mask) {
  if (image === state.image && mask === state.mask) return;
  clear();
  Object.assign(state, {image, mask});
  part(".mask-canvas").classList.toggle("ready", Boolean(image));
  if (!image) return;
  const {naturalWidth, naturalHeight} = await load(image), canvas = part("canvas");
  const scale = Math.min(1, MAX_SIDE / Math.max(naturalWidth, naturalHeight));
  canvas.width = Math.round(naturalWidth * scale);
  canvas.height = Math.round(naturalHeight * scale);
  part("img").src = image;
  part(".mask-canvas").style.setProperty("--shape", canvas.width / canvas.height);
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

// Upload the mask, white where the user has painted and black elsewhere; null if nothing is painted.
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
  stroke(position(event));
});
element.addEventListener("pointermove", event => {
  if (event.target !== part("canvas")) return;
  point(position(event));
  if (event.target.hasPointerCapture(event.pointerId)) stroke(position(event));
});
element.addEventListener("keydown", event => {
  const directions = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  const direction = directions[event.key];
  if (event.target !== part("canvas") || !(direction || event.key === " ")) return;
  event.preventDefault();
  const {width, height} = part("canvas"), step = brush() / 3;
  state.last = null;
  if (direction) point({x: Math.min(Math.max(state.at.x + direction[0] * step, 0), width),
                        y: Math.min(Math.max(state.at.y + direction[1] * step, 0), height)});
  else stroke(state.at);
});

window.x2iMaskEditor = {
  clear,
  mask,
  size: percent => { state.size = percent; },
  show: (...images) => show(...images).catch(console.warn),  // a browser cannot show every format that is accepted
};
window.x2iMaskEditor.show(...(window.x2iMaskImages ?? ["", ""]));
"""

# Runs in the browser with the tab's values before they are sent. Until there is a canvas, the mask is unchanged.
SEND_MASK = """async values => {
  if (window.x2iMaskEditor) values[4] = await window.x2iMaskEditor.mask();
  return values;
}"""
# A new image removes the mask, unless the mask was restored from a file and waits for this image.
_NEXT_MASK = """mask => {
  const next = window.x2iMaskWaits ? mask : null;
  window.x2iMaskWaits = false;
  return next;
}"""
_SHOW = """(image, mask) => {
  if (mask && !image) window.x2iMaskWaits = true;
  window.x2iMaskImages = [image?.url ?? "", mask?.url ?? ""];
  window.x2iMaskEditor?.show(...window.x2iMaskImages);
}"""
_CLEAR = "() => { window.x2iMaskEditor?.clear(); return null; }"

MASK_EDITOR_CSS = """
.mask-canvas { display: none; position: relative; margin: 0 auto; overflow: hidden; border-radius: var(--radius-md);
  width: min(100%, calc(24rem * var(--shape))); aspect-ratio: var(--shape); }
.mask-canvas.ready { display: block; }
.mask-canvas img, .mask-canvas canvas { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; }
.mask-canvas canvas { opacity: .6; cursor: crosshair; touch-action: none; }
.mask-canvas:focus-within { outline: 3px solid var(--primary-500); }
.mask-canvas i { position: absolute; aspect-ratio: 1; translate: -50% -50%; border-radius: 50%; pointer-events: none;
  border: 2px solid white; outline: 1px solid black; opacity: 0; }
.mask-canvas:is(:hover, :focus-within) i { opacity: 1; }
"""


def build_mask_editor(image: gr.Image, mask: gr.Image) -> list[gr.components.Component]:
    """The folded editor; returns components in the order of INPAINT. `mask` is not shown and holds a restored mask."""
    with gr.Accordion(Text("mask.section"), open=False, elem_id="inpaint"):
        gr.Markdown(Text("mask.hint"))
        gr.HTML(Text("mask.canvas"), html_template=_TEMPLATE, js_on_load=_CANVAS, label="mask", elem_id="mask-editor")
        with gr.Row(elem_id="brush"):
            size = gr.Slider(
                2, 60, 15, step=1, label=Text("mask.brush"), interactive=True, scale=4, elem_id="brush-size"
            )
            clear = gr.Button(Text("mask.clear"), size="sm", min_width=88, scale=0, elem_id="mask-clear")
        allowed = LIMITS.strength
        strength = gr.Slider(
            allowed.low,
            allowed.high,
            allowed.high,
            step=0.05,
            label=Text("label.strength"),
            info=Text("strength.hint"),
            interactive=True,
            elem_id="strength",
        )
        gr.Markdown(Text("mask.extend"))
        with gr.Row(elem_id="margins"):
            margins = [
                gr.Number(
                    0,
                    precision=0,
                    minimum=LIMITS.margin.low,
                    maximum=LIMITS.margin.high,
                    step=16,
                    label=Text(f"label.{side}"),
                    min_width=120,
                    interactive=True,
                )
                for side in MARGINS
            ]
    set_size = "size => { window.x2iMaskEditor?.size(size); }"
    gr.on([image.change, mask.change], None, [image, mask], None, js=_SHOW, api_visibility="private")
    image.input(None, mask, mask, js=_NEXT_MASK, api_visibility="private")
    clear.click(None, None, mask, js=_CLEAR, api_visibility="private")
    size.change(None, size, None, js=set_size, api_visibility="private")
    return [mask, strength, *margins]


def inpaint_fields(mask: str | None, strength: float | None, *margins: int | None) -> dict[str, object]:
    """Values of INPAINT -> fields of a request. No mask, no margins and full strength is no inpainting."""
    is_whole = strength is None or (strength == 1 and not isinstance(strength, bool))
    if mask is None and is_whole and not any(margins):
        strength = None
    return {"mask": mask, "strength": strength, "outpaint": tuple(0 if side is None else side for side in margins)}


def inpaint_values(request: GenerationRequest) -> dict[str, object]:
    """The inverse: values of INPAINT, by name."""
    strength = LIMITS.strength.high if request.strength is None else request.strength
    return {"mask": request.mask, "strength": strength, **dict(zip(MARGINS, request.outpaint, strict=True))}
