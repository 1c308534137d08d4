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

MASK_OPTIONS = ("mask_invert", "mask_grow", "mask_feather", "only_masked")  # the same, after all of these

_TEMPLATE = (
    '<div class="mask-view"><div class="mask-canvas"><img alt=""><canvas tabindex="0" role="img" '
    'aria-label="${value}"></canvas><i></i></div></div>'
)

# Runs once, with `element` and `upload` from Gradio. Gradio may render the template again: look elements up each time.
# The mask is what `steps` draw on `base`, a restored mask, so that each of them can be undone. `layer` has it at full
# size; the canvas on the page shows the layer, or all around it if the mask is inverted.
_CANVAS = """
const part = name => element.querySelector(name);
const state = {image: "", mask: "", base: null, steps: [], undone: [], layer: document.createElement("canvas"),
               erases: false, inverted: window.x2iMaskInverted ?? false, size: 15, zoom: 1, at: null};
const COLOR = "#6366f1", MAX_SIDE = 2048, MAX_ZOOM = 8;

const brush = () => state.size / 100 * Math.max(state.layer.width, state.layer.height);
const pen = () => state.layer.getContext("2d", {willReadFrequently: true});

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

function draw({clears, erases, width, points}, first = 0) {
  const {width: w, height: h} = state.layer, how = erases ? "destination-out" : "source-over";
  if (clears) return pen().clearRect(0, 0, w, h);
  Object.assign(pen(), {lineCap: "round", lineJoin: "round", lineWidth: width, strokeStyle: COLOR, fillStyle: COLOR,
                        globalCompositeOperation: how});
  pen().beginPath();
  for (const {x, y} of points.slice(Math.max(first - 1, 0))) pen().lineTo(x, y);
  pen().stroke();
  const last = points.at(-1);
  pen().beginPath();  // a tap is a line without length, which a canvas does not draw
  pen().arc(last.x, last.y, width / 2, 0, 7);
  pen().fill();
  pen().globalCompositeOperation = "source-over";
}

function showLayer() {
  const canvas = part("canvas"), screen = canvas.getContext("2d");
  screen.clearRect(0, 0, canvas.width, canvas.height);
  screen.drawImage(state.layer, 0, 0);
  if (state.inverted && isPainted()) tint(screen, COLOR, "source-out");
  document.querySelector("#mask-undo")?.setAttribute("aria-disabled", !state.steps.length);
  document.querySelector("#mask-redo")?.setAttribute("aria-disabled", !state.undone.length);
}

function redraw() {
  pen().clearRect(0, 0, state.layer.width, state.layer.height);
  if (state.base) pen().drawImage(state.base, 0, 0);
  for (const step of state.steps) draw(step);
  showLayer();
}

function add(step) {
  state.steps.push(step);
  state.undone = [];
  draw(step);
  showLayer();
}

const stroke = (at, erases) => add({erases, width: brush(), points: [at]});

function extend(to) {
  const step = state.steps.at(-1);
  step.points.push(to);
  draw(step, step.points.length - 1);
  showLayer();
}

function clear() {
  state.mask = "";
  if (isPainted()) add({clears: true});
}

function undo() {
  if (state.steps.length) state.undone.push(state.steps.pop());
  redraw();
}

function redo() {
  if (state.undone.length) state.steps.push(state.undone.pop());
  redraw();
}

function erase(on = !state.erases) {
  state.erases = on;
  const button = document.querySelector("#mask-erase");
  button?.setAttribute("aria-pressed", on);
}

// Around the middle of what is seen, or around a point of the window.
function zoom(factor, at) {
  const view = part(".mask-view"), box = view.getBoundingClientRect();
  const x = at ? at.x - box.left : box.width / 2, y = at ? at.y - box.top : box.height / 2;
  const before = state.zoom;
  state.zoom = Math.min(Math.max(before * factor, 1), MAX_ZOOM);
  part(".mask-canvas").style.setProperty("--zoom", state.zoom);
  view.scrollLeft = (view.scrollLeft + x) * state.zoom / before - x;
  view.scrollTop = (view.scrollTop + y) * state.zoom / before - y;
}

async function load(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

async function show(image, mask) {
  image = window.x2iPreviewOf?.(image) ?? image;
  if (image === state.image && mask === state.mask) return;
  const isOther = image !== state.image;
  Object.assign(state, {image, mask, base: null, steps: [], undone: []});
  part(".mask-canvas").classList.toggle("ready", Boolean(image));
  if (!image) return;
  const {naturalWidth, naturalHeight} = await load(image), canvas = part("canvas");
  const scale = Math.min(1, MAX_SIDE / Math.max(naturalWidth, naturalHeight));
  for (const each of [canvas, state.layer]) {
    each.width = Math.round(naturalWidth * scale);
    each.height = Math.round(naturalHeight * scale);
  }
  part("img").src = image;
  part(".mask-canvas").style.setProperty("--shape", canvas.width / canvas.height);
  if (isOther) zoom(1 / state.zoom);
  point({x: canvas.width / 2, y: canvas.height / 2});
  if (mask) state.base = await read(await load(mask));
  redraw();
}

// White of a mask in the brush's color, all else transparent.
async function read(mask) {
  const copy = document.createElement("canvas"), {width, height} = state.layer;
  Object.assign(copy, {width, height});
  const pen = copy.getContext("2d");
  pen.drawImage(mask, 0, 0, width, height);
  const pixels = pen.getImageData(0, 0, width, height);
  for (let i = 0; i < pixels.data.length; i += 4) pixels.data[i + 3] = pixels.data[i] > 127 ? 255 : 0;
  pen.putImageData(pixels, 0, 0);
  tint(pen, COLOR, "source-in");
  return copy;
}

function tint(pen, color, how) {
  Object.assign(pen, {globalCompositeOperation: how, fillStyle: color});
  pen.fillRect(0, 0, pen.canvas.width, pen.canvas.height);
  pen.globalCompositeOperation = "source-over";
}

// Whether anything can have been painted since the last time that all was cleared.
function isPainted() {
  const from = state.steps.findLastIndex(step => step.clears);
  return (from < 0 && state.base !== null) || state.steps.slice(from + 1).some(step => !step.erases);
}

// Upload the mask, white where the user has painted and black elsewhere; null if nothing is painted.
async function mask() {
  if (!isPainted()) return null;
  const {width, height} = state.layer, alphas = pen().getImageData(0, 0, width, height).data;
  if (!alphas.some((value, i) => i % 4 === 3 && value > 0)) return null;  // all of it was erased
  const copy = document.createElement("canvas");
  Object.assign(copy, {width, height});
  const copied = copy.getContext("2d");
  copied.drawImage(state.layer, 0, 0);
  tint(copied, "white", "source-in");
  tint(copied, "black", "destination-over");
  const png = await new Promise(done => copy.toBlob(done, "image/png"));
  const {path} = await upload(new File([png], "mask.png", {type: "image/png"}));
  return {path, orig_name: "mask.png", meta: {_type: "gradio.FileData"}};
}

// One finger, pen or mouse paints; two fingers move and enlarge the image.
const fingers = new Map();
let painting = null;  // the id of the pointer whose stroke is being drawn

function pinch(event) {
  const [one, two] = [...fingers.values()], view = part(".mask-view");
  const middle = ([a, b]) => ({x: (a.clientX + b.clientX) / 2, y: (a.clientY + b.clientY) / 2});
  const width = ([a, b]) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) || 1;
  fingers.set(event.pointerId, event);
  const now = [...fingers.values()], from = middle([one, two]), to = middle(now);
  zoom(width(now) / width([one, two]), to);
  view.scrollLeft += from.x - to.x;
  view.scrollTop += from.y - to.y;
}

element.addEventListener("pointerdown", event => {
  if (event.target !== part("canvas") || event.button > 0 && event.button !== 5) return;
  if (event.pointerType === "touch") fingers.set(event.pointerId, event);
  event.target.setPointerCapture(event.pointerId);
  if (fingers.size === 2 && painting !== null) undo(), state.undone.pop();  // the first finger did not mean to paint
  painting = fingers.size < 2 ? event.pointerId : null;
  if (painting !== null) stroke(position(event), state.erases || event.button === 5);  // 5: the other end of a pen
});
element.addEventListener("pointermove", event => {
  if (event.target !== part("canvas")) return;
  if (fingers.size > 1) return fingers.has(event.pointerId) && pinch(event);
  point(position(event));
  if (event.pointerId === painting) extend(position(event));
});
for (const name of ["pointerup", "pointercancel"]) {
  element.addEventListener(name, event => {
    if (event.pointerId === painting) painting = null;
    fingers.delete(event.pointerId);
  });
}
element.addEventListener("wheel", event => {
  if (!event.ctrlKey || event.target !== part("canvas")) return;
  event.preventDefault();
  zoom(event.deltaY < 0 ? 1.25 : 0.8, {x: event.clientX, y: event.clientY});
}, {passive: false});
element.addEventListener("keydown", event => {
  if (event.target !== part("canvas")) return;
  const directions = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  const direction = directions[event.key], {width, height} = part("canvas"), step = brush() / 3;
  const key = event.key.toLowerCase(), isCommand = event.ctrlKey || event.metaKey;
  if (isCommand && key === "z") event.shiftKey ? redo() : undo();
  else if (isCommand && key === "y") redo();
  else if (isCommand || event.altKey) return;
  else if (direction) point({x: Math.min(Math.max(state.at.x + direction[0] * step, 0), width),
                             y: Math.min(Math.max(state.at.y + direction[1] * step, 0), height)});
  else if (key === " ") stroke(state.at, state.erases);
  else if (key === "e") erase();
  else if (key === "+" || key === "=") zoom(1.25);
  else if (key === "-") zoom(0.8);
  else return;
  event.preventDefault();
});

window.x2iMaskEditor = {
  clear, undo, redo, erase, mask, zoom,
  invert: on => { state.inverted = on; showLayer(); },
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
# What each button calls in the editor.
_TOOLS = {
    "erase": "erase()",
    "undo": "undo()",
    "redo": "redo()",
    "zoom_in": "zoom(1.5)",
    "zoom_out": "zoom(1 / 1.5)",
}
_CLEAR = "() => { window.x2iMaskEditor?.clear(); return null; }"

MASK_EDITOR_CSS = """
.mask-view { max-height: 24.5rem; overflow: auto; }
.mask-canvas { display: none; position: relative; margin: 0 auto; overflow: hidden; border-radius: var(--radius-md);
  width: calc(min(100%, 24rem * var(--shape)) * var(--zoom, 1)); aspect-ratio: var(--shape); }
.mask-canvas.ready { display: block; }
.mask-canvas img, .mask-canvas canvas { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; }
.mask-canvas canvas { opacity: .6; cursor: crosshair; touch-action: none; }
.mask-canvas:focus-within { outline: 3px solid var(--primary-500); }
.mask-canvas i { position: absolute; aspect-ratio: 1; translate: -50% -50%; border-radius: 50%; pointer-events: none;
  border: 2px solid white; outline: 1px solid black; opacity: 0; }
.mask-canvas:is(:hover, :focus-within) i { opacity: 1; }
#mask-tools { gap: .5rem; }
#mask-tools button { min-width: 0; flex: 1 1 auto; }
#mask-tools [aria-disabled=true] { opacity: .5; }
#mask-tools [aria-pressed=true] { background: var(--primary-600); color: white; }
"""


def build_mask_editor(image: gr.Image, mask: gr.Image) -> list[gr.components.Component]:
    """The folded editor; returns components in the order of INPAINT and MASK_OPTIONS.

    mask: is not shown, and holds a restored mask.
    """
    with gr.Accordion(Text("mask.section"), open=False, elem_id="inpaint"):
        gr.Markdown(Text("mask.hint"))
        gr.HTML(Text("mask.canvas"), html_template=_TEMPLATE, js_on_load=_CANVAS, label="mask", elem_id="mask-editor")
        with gr.Row(elem_id="mask-tools"):
            tools = {
                name: gr.Button(Text(f"mask.{name}"), size="sm", min_width=64, elem_id=f"mask-{name.replace('_', '-')}")
                for name in (*_TOOLS, "clear")
            }
        size = gr.Slider(1, 60, 15, step=1, label=Text("mask.brush"), interactive=True, elem_id="brush-size")
        options = _build_options()
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
    tools["clear"].click(None, None, mask, js=_CLEAR, api_visibility="private")
    for name, does in _TOOLS.items():
        tools[name].click(None, None, None, js=f"() => {{ window.x2iMaskEditor?.{does}; }}", api_visibility="private")
    invert = options[MASK_OPTIONS.index("mask_invert")]
    set_inverted = "on => { window.x2iMaskInverted = on; window.x2iMaskEditor?.invert(on); }"
    invert.change(None, invert, None, js=set_inverted, api_visibility="private")
    size.change(None, size, None, js=set_size, api_visibility="private")
    return [mask, strength, *margins, *options]


def _build_options() -> list[gr.components.Component]:
    """What is done with the mask; the components in the order of MASK_OPTIONS."""
    with gr.Row(elem_id="mask-options"):
        invert, only = (
            gr.Checkbox(False, label=Text(f"label.{name}"), min_width=160, interactive=True)
            for name in ("mask_invert", "only_masked")
        )
    with gr.Row(elem_id="mask-edge"):
        grow = gr.Slider(
            LIMITS.mask_grow.low,
            LIMITS.mask_grow.high,
            0,
            step=1,
            label=Text("label.mask_grow"),
            min_width=160,
            interactive=True,
        )
        feather = gr.Number(
            None,
            precision=0,
            minimum=LIMITS.mask_feather.low,
            maximum=LIMITS.mask_feather.high,
            label=Text("label.mask_feather"),
            info=Text("feather.hint"),
            min_width=160,
            interactive=True,
        )
    return [invert, grow, feather, only]


def inpaint_fields(
    mask: str | None,
    strength: float | None,
    left: int | None,
    top: int | None,
    right: int | None,
    bottom: int | None,
    mask_invert: bool | None = None,
    mask_grow: int | None = None,
    mask_feather: int | None = None,
    only_masked: bool | None = None,
) -> dict[str, object]:
    """Values of INPAINT and MASK_OPTIONS -> fields of a request.

    No mask, no margins and full strength is no inpainting. The options wait for a mask. `only_masked` that is off
    leaves the choice to the sizes of image and mask.
    """
    margins = (left, top, right, bottom)
    is_whole = strength is None or (strength == 1 and not isinstance(strength, bool))
    if mask is None and is_whole and not any(margins):
        strength = None
    fields = {"mask": mask, "strength": strength, "outpaint": tuple(0 if side is None else side for side in margins)}
    options = dict(zip(MASK_OPTIONS, (mask_invert, mask_grow, mask_feather, only_masked), strict=True))
    if mask is None and not any(margins):
        return fields
    return fields | {name: value for name, value in options.items() if value is not None and value is not False}


def inpaint_values(request: GenerationRequest) -> dict[str, object]:
    """The inverse: values of INPAINT, by name."""
    strength = LIMITS.strength.high if request.strength is None else request.strength
    return {"mask": request.mask, "strength": strength, **dict(zip(MARGINS, request.outpaint, strict=True))}


def mask_values(request: GenerationRequest) -> dict[str, object]:
    """The same for MASK_OPTIONS."""
    return {name: getattr(request, name) for name in MASK_OPTIONS} | {"only_masked": request.only_masked is True}
