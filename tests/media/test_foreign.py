"""Images of other programs give back prompt, seed, steps and size, and say what is not used."""

import json
from dataclasses import replace
from xml.sax.saxutils import escape

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from x2i_app.errors import MediaError
from x2i_app.limits import LIMITS
from x2i_app.media import metadata, read_recipe
from x2i_app.media.foreign import read_foreign
from x2i_app.presets import FLUX_MODELS
from x2i_app.request import SETTINGS

FORGE = (
    "a red car, (night:1.2)\nin the rain <lora:cars:0.8>\nNegative prompt: blurry, text\nmore\nSteps: 20, "
    "Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 12345, Size: 896x1152, "
    'Model: flux1-dev, Lora hashes: "cars: 1a2b, other: 3c4d", Version: f2.0.1v1.10.1'
)
USER_COMMENT, EXIF = 0x9286, 0x8769


def save(path, exif=None, **texts):
    """An image whose PNG texts, or whose EXIF, are these."""
    image = Image.new("RGB", (8, 8))
    if path.suffix == ".png":
        chunks = PngInfo()
        for key, text in texts.items():
            chunks.add_itxt(key, text)
        image.save(path, pnginfo=chunks)
    else:
        stored = Image.Exif()
        for tag, value in (exif or {}).items():
            stored[tag] = value
        image.save(path, exif=stored)
    return path


def values_of(path, *names):
    return values_in(read_recipe(path), *names)


def values_in(recipe, *names):
    return tuple(getattr(recipe.request, SETTINGS.get(name, name)) for name in names)


def comment(text, code="utf-16-be", mark=b"UNICODE\0"):
    return {EXIF: {USER_COMMENT: mark + text.encode(code)}}


@pytest.mark.parametrize(
    ("name", "exif"),
    [
        ("a.png", None),
        ("a.jpg", comment(FORGE)),
        ("a.jpg", comment(FORGE, "utf-16-le")),
        ("a.jpg", comment(FORGE, "utf-16")),
        ("a.webp", comment(FORGE)),
        ("a.webp", comment(FORGE, "ascii", b"ASCII\0\0\0")),
        ("a.avif", comment(FORGE)),
        ("a.jpg", {USER_COMMENT: FORGE.encode()}),
        ("a.jpg", {0x010E: FORGE}),
    ],
)
def test_a1111_and_forge(tmp_path, name, exif):
    recipe = read_recipe(save(tmp_path / name, exif, parameters=FORGE))
    names = ("prompt", "seed", "steps", "guidance", "width", "height", "count")
    expected = ("a red car, (night:1.2)\nin the rain <lora:cars:0.8>", 12345, 20, 3.5, 896, 1152, 1)
    assert values_in(recipe, *names) == expected
    left_out = "Sampler, Schedule type, CFG scale, Model"
    assert recipe.notes == (f"These settings are from Forge. Not used here: {left_out}.",)
    assert (recipe.preset, recipe.missing(())) == (None, {})
    assert recipe.request.negative_prompt == ""  # it had no effect at a CFG scale of 1
    guided = read_recipe(save(tmp_path / "b.png", parameters=FORGE.replace("CFG scale: 1,", "CFG scale: 3,")))
    assert guided.request.negative_prompt == "blurry, text\nmore"


def test_a1111_in_any_language(tmp_path):
    text = "雪地上的红房子，夜晚\nSteps: 8, Sampler: Euler a, Seed: 7, Size: 512x512, Version: v1.10.1"
    for name, code in (("a.jpg", "utf-16-be"), ("b.jpg", "utf-16-le"), ("c.png", "")):
        path = save(tmp_path / name, comment(text, code) if code else None, parameters=text)
        assert values_of(path, "prompt", "seed") == ("雪地上的红房子，夜晚", 7)
        assert read_recipe(path).notes == ("These settings are from A1111. Not used here: Sampler.",)


@pytest.mark.parametrize(
    ("text", "prompt", "steps"),
    [
        ("only a prompt", "only a prompt", None),
        ("a: b, c: d, steps: up\nSteps: 5, Sampler: x, Seed: 1", "a: b, c: d, steps: up", 5),
        ("Steps: 30, Seed: 2, Size: 64x64", None, None),
        ("a cat\nSteps: many, Sampler: x, Seed: 1", "a cat", None),
        ("a cat\r\nSteps: 6, Sampler: x, Seed: 1\r\n", "a cat", 6),
        ("a cat\nSteps: 6, Sampler: x, Seed: 1\nTemplate: a {cat|dog}\nNegative Template: bad, worse", "a cat", 6),
        ("a cat\nSteps: 6, Hires upscale: 2, Hires upscaler: R-ESRGAN 4x+, Denoising strength: 0.4", "a cat", 6),
        ('a "b: c"\nSteps: 6, Note: "Steps: 9, x", Seed: 1', 'a "b: c"', 6),
    ],
)
def test_unusual_parameters(tmp_path, text, prompt, steps):
    path = save(tmp_path / "a.png", parameters=text)
    if prompt is None:
        with pytest.raises(MediaError, match=r"'a\.png' has settings of A1111, but no prompt"):
            read_recipe(path)
    else:
        assert values_of(path, "prompt", "steps") == (prompt, steps)


def test_rows_of_extensions_are_told(tmp_path):
    text = FORGE + "\nTemplate: a {red|blue} car\nNegative Template: bad"
    recipe = read_recipe(save(tmp_path / "a.png", parameters=text))
    assert recipe.request.seed == 12345
    assert recipe.notes[0].endswith("CFG scale, Model, Template, Negative Template.")


@pytest.mark.parametrize("text", ["Screenshot", "oplus_1048608", "a walk\nby the sea", '{"mode": 4, "seed": 1}'])
def test_comments_of_phones_are_no_settings(tmp_path, text, refused):
    """Those of an iPhone's screenshots are PNG files with EXIF."""
    image, exif = Image.new("RGB", (8, 8)), Image.Exif()
    exif[EXIF] = {USER_COMMENT: b"ASCII\0\0\0" + text.encode()}
    for name in ("a.png", "a.jpg"):
        image.save(tmp_path / name, exif=exif)
        refused(read_recipe, tmp_path / name, contains=["contains no settings"])
    refused(read_recipe, save(tmp_path / "b.png", parameters='{"c": "of another program"}'), contains=["no settings"])


def test_loras_of_swarmui(tmp_path):
    for names, weights in ((["styles/ink", "b"], ["0.5"]), ("styles/ink.safetensors,b", "0.5,1")):
        stored = {"prompt": "a bear", "seed": 5, "steps": 3, "loras": names, "loraweights": weights}
        path = save(tmp_path / "a.png", parameters=json.dumps({"sui_image_params": stored}))
        assert values_of(path, "prompt") == ("a bear <lora:ink:0.5> <lora:b:1>",)


@pytest.mark.parametrize(
    ("size", "used"), [("1000x1000", (1008, 1008)), ("4096x2048", (2048, 1024)), ("30x500", (64, 496)), ("0x5", None)]
)
def test_size_is_fitted(tmp_path, size, used):
    path = save(tmp_path / "a.png", parameters=f"a cat\nSteps: 500, Sampler: x, Seed: 5000000000, Size: {size}")
    recipe = read_recipe(path)
    assert values_of(path, "steps", "seed") == (100, 5000000000 % 2**32)
    assert values_of(path, "width", "height") == (used or (None, None))
    notes = " ".join(recipe.notes)
    assert "steps 500 was changed to 100" in notes
    assert "seed 5000000000 was changed to 705032704" in notes
    if used:
        assert f"The size {size.replace('x', ' x ')} was changed to {used[0]} x {used[1]}" in notes


# ComfyUI


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


SAVE = {"8": node("VAEDecode", samples=["3", 0], vae=["4", 2]), "9": node("SaveImage", images=["8", 0])}
TEXTS = {"6": node("CLIPTextEncode", text="a fox in snow", clip=["4", 1]), "7": node("CLIPTextEncode", text="bad")}
CLASSIC = {
    **SAVE,
    **TEXTS,
    "3": node(
        "KSampler",
        seed=42,
        steps=25,
        cfg=7.0,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
        model=["10", 0],
        positive=["6", 0],
        negative=["7", 0],
        latent_image=["5", 0],
    ),
    "4": node("CheckpointLoaderSimple", ckpt_name="model.safetensors"),
    "5": node("EmptyLatentImage", width=768, height=512, batch_size=2),
    "10": node("LoraLoader", lora_name="styles\\ink.safetensors", strength_model=0.6, model=["4", 0], clip=["4", 1]),
}
FLUX = {
    "6": node("CLIPTextEncodeFlux", clip_l="fox", t5xxl=["40", 0], guidance=4.0, clip=["11", 0]),
    "8": node("VAEDecode", samples=["13", 0]),
    "9": node("SaveImage", images=["8", 0]),
    "12": node("UNETLoader", unet_name="flux1-dev.safetensors"),
    "13": node(
        "SamplerCustomAdvanced",
        noise=["25", 0],
        guider=["22", 0],
        sampler=["16", 0],
        sigmas=["17", 0],
        latent_image=["27", 0],
    ),
    "16": node("KSamplerSelect", sampler_name="euler"),
    "17": node("BasicScheduler", scheduler="simple", steps=["41", 0], denoise=1.0, model=["12", 0]),
    "22": node("BasicGuider", model=["28", 0], conditioning=["6", 0]),
    "25": node("RandomNoise", noise_seed=42),
    "27": node("EmptySD3LatentImage", width=["42", 0], height=["43", 0]),
    "28": node(
        "Power Lora Loader (rgthree)", model=["12", 0], lora_1={"on": True, "lora": "ink.safetensors", "strength": 0.6}
    ),
    "40": node("StringConcatenate", string_a="a fox", string_b=["44", 0], delimiter=" "),
    "41": node("PrimitiveInt", value=25),
    "42": node("PrimitiveInt", value=768),
    "43": node("PrimitiveInt", value=512),
    "44": node("PrimitiveString", value="in snow"),
}
TWO_PASSES = CLASSIC | {
    "8": node("VAEDecode", samples=["30", 0]),
    "30": node(
        "KSampler", seed=9, steps=3, positive=["6", 0], negative=["7", 0], latent_image=["31", 0], model=["10", 0]
    ),
    "31": node("LatentUpscale", samples=["3", 0], width=1536, height=1024),
}
LOADER = {  # of Efficiency Nodes: one node has both texts and the size
    **SAVE,
    "3": node("KSampler (Efficient)", **(CLASSIC["3"]["inputs"] | {"positive": ["4", 1], "negative": ["4", 2]})),
    "4": node(
        "Efficient Loader", ckpt_name="m", lora_name="None", lora_model_strength=1.0, positive="a fox in snow",
        negative="bad", empty_latent_width=768, empty_latent_height=512,
    ),
    "5": node("Reroute", x=["4", 3]),
    "10": CLASSIC["10"],
}  # fmt: skip
# Both conditionings go through one node: the prompt is behind its input `positive`.
CONTROLLED = CLASSIC | {
    "3": node("KSampler", **(CLASSIC["3"]["inputs"] | {"positive": ["20", 0], "negative": ["20", 1]})),
    "20": node("ControlNetApplyAdvanced", negative=["7", 0], positive=["6", 0], control_net=["21", 0], image=["22", 0]),
    "21": node("ControlNetLoader", control_net_name="c"),
    "22": node("LoadImage", image="a.png"),
}


GRAPHS = {"classic": CLASSIC, "flux": FLUX, "passes": TWO_PASSES, "loader": LOADER, "control": CONTROLLED}


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("place", ["png", "webp", "jpg"])
def test_comfyui(tmp_path, graph, place):
    """In PNG texts, and in EXIF as ComfyUI's nodes for WebP write it."""
    text = json.dumps(graph)
    exif = {0x010F: "workflow:{}", 0x0110: f"prompt:{text}"} if place == "webp" else comment(text)
    recipe = read_recipe(save(tmp_path / f"a.{place}", exif, prompt=text, workflow="{}"))
    names = ("prompt", "seed", "steps", "width", "height", "guidance")
    guidance = 4.0 if graph is FLUX else None
    expected = ("a fox in snow <lora:ink:0.6>", 42, 25, 768, 512, guidance)
    assert values_in(recipe, *names) == expected
    assert "from ComfyUI. Not used here: " in recipe.notes[0]
    assert "models" in recipe.notes[0]
    assert recipe.request.negative_prompt == ("" if graph is FLUX else "bad")
    assert ("further samplers" in recipe.notes[0]) is (graph is TWO_PASSES)
    assert ("ControlNet, input images" in recipe.notes[0]) is (graph is CONTROLLED)


@pytest.mark.parametrize(
    ("changes", "negative"),
    [
        ({}, "bad"),
        ({"7": node("ConditioningZeroOut", conditioning=["6", 0])}, ""),
        ({"3": node("KSampler", **CLASSIC["3"]["inputs"] | {"negative": ["6", 0]})}, ""),
        ({"3": node("KSampler", **CLASSIC["3"]["inputs"] | {"cfg": 1.0})}, ""),
        ({"3": node("KSampler", **CLASSIC["3"]["inputs"] | {"cfg": ["50", 0]}), "50": node("F", value=1)}, ""),
    ],
)
def test_negative_prompt_of_comfyui(tmp_path, changes, negative):
    """One that had no effect is left out."""
    recipe = read_recipe(save(tmp_path / "a.png", prompt=json.dumps(CLASSIC | changes)))
    assert recipe.request.negative_prompt == negative


def test_negative_prompt_of_a_model_without_one(tmp_path):
    """It is left out with a note for a FLUX model that cannot follow it, and kept for one that can."""
    recipe = read_recipe(save(tmp_path / "a.png", prompt=json.dumps(CLASSIC)))
    few_steps = recipe.for_flux(FLUX_MODELS["flux.1-schnell"])
    assert few_steps.request == replace(recipe.request, negative_prompt="")
    cannot = "The negative prompt is left out, as flux.1-schnell cannot follow one: 'bad'"
    assert few_steps.notes == (*recipe.notes, cannot)
    assert recipe.for_flux(FLUX_MODELS["flux.1-dev"]) == recipe
    assert few_steps.for_flux(FLUX_MODELS["flux.1-schnell"]) == few_steps


def test_editor_graph_without_prompt(tmp_path):
    path = save(tmp_path / "a.png", workflow=json.dumps({"nodes": [{"type": "KSampler", "widgets_values": [1]}]}))
    with pytest.raises(MediaError, match=r"^'a.png' has ComfyUI's graph for its editor, but not the prompt"):
        read_recipe(path)


@pytest.mark.parametrize(
    "nodes",
    [
        {"50": node("ImpactWildcardProcessor", wildcard_text="{a fox|b} in __x__", populated_text="a fox in snow")},
        {"50": node("SDXLPromptStyler", text_positive="a fox in snow", text_negative="bad", style="base")},
    ],
)
def test_texts_of_comfyuis_extensions(tmp_path, nodes):
    """What a wildcard became, and two texts of one node by its outputs."""
    negative = ["50", 1] if "text_negative" in nodes["50"]["inputs"] else "bad"
    texts = {"6": node("CLIPTextEncode", text=["50", 0]), "7": node("CLIPTextEncode", text=negative)}
    recipe = read_recipe(save(tmp_path / "a.png", prompt=json.dumps({**CLASSIC, **texts, **nodes})))
    assert recipe.request.prompt == "a fox in snow <lora:ink:0.6>"
    assert recipe.request.negative_prompt == "bad"


def test_comfyui_graphs_without_end(tmp_path):
    """Links in a circle, and to nodes that are not there, end the search."""
    graph = CLASSIC | {
        "6": node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["70", 0]),
        "70": node("CLIPTextEncode", text=["71", 0]),
        "71": node("Text", text=["70", 0]),
        "5": node("LatentBlend", samples1=["5", 0], samples2=["99", 0]),
    }
    with pytest.raises(MediaError, match="has settings of ComfyUI, but no prompt"):
        read_recipe(save(tmp_path / "a.png", prompt=json.dumps(graph)))


# InvokeAI, Fooocus, SwarmUI, NovelAI

INVOKE = {
    "positive_prompt": "a bear",
    "negative_prompt": "bad",
    "seed": 5,
    "steps": 30,
    "width": 1024,
    "height": 768,
    "guidance": 4,
    "cfg_scale": 3,
    "model": {"name": "FLUX Dev"},
    "loras": [{"model": {"name": "ink"}, "weight": 0.5}],
    "app_version": "5.6.0",
}
FOOOCUS = {
    "prompt": "a bear",
    "negative_prompt": "bad",
    "seed": "5",
    "steps": 30,
    "resolution": "(1024, 768)",
    "styles": "['Fooocus V2']",
    "performance": "Speed",
    "guidance_scale": 4.0,
    "lora_combined_1": "ink.safetensors : 0.5",
    "metadata_scheme": "fooocus",
    "version": "Fooocus v2.5.5",
}
FOOOCUS_A1111 = (
    "a bear\nNegative prompt: bad\nSteps: 30, Sampler: DPM++ 2M SDE Karras, Seed: 5, Size: 1024x768, "
    'CFG scale: 4, Sharpness: 2, ADM Guidance: "(1.5, 0.8, 0.3)", Base model: jug, Performance: Speed, '
    'Lora hashes: "ink: 1a2b: 0.5", Lora weights: "ink: 0.5", Version: Fooocus v2.5.5'
)


@pytest.mark.parametrize(
    ("program", "texts", "left_out"),
    [
        ("InvokeAI", {"invokeai_metadata": json.dumps(INVOKE)}, "CFG scale, model"),
        (
            "InvokeAI",
            {
                "sd-metadata": json.dumps(
                    {"model": "x", "image": INVOKE | {"prompt": [{"prompt": "a bear <lora:ink:0.5>"}]}}
                )
            },
            "CFG scale, model",
        ),
        (
            "InvokeAI",
            {"Dream": '"a bear <lora:ink:0.5>" -s 30 -S 5 -W 1024 -H 768 -C 7.5 -A k_lms'},
            "CFG scale, sampler",
        ),
        (
            "Fooocus",
            {"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"},
            "styles, guidance scale, performance",
        ),
        (
            "Fooocus",
            {"parameters": FOOOCUS_A1111, "fooocus_scheme": "a1111"},
            "Sampler, CFG scale, Sharpness, ADM Guidance, Base model, Performance",
        ),
        (
            "SwarmUI",
            {
                "parameters": json.dumps(
                    {"sui_image_params": INVOKE | {"prompt": "a bear <lora:ink:0.5>", "cfgscale": 3}}
                )
            },
            "CFG scale, model",
        ),
        (
            "NovelAI",
            {"Comment": json.dumps(INVOKE | {"prompt": "a bear <lora:ink:0.5>", "scale": 5})},
            "prompt guidance",
        ),
    ],
    ids=["invokeai", "invokeai-2", "invokeai-1", "fooocus", "fooocus-a1111", "swarmui", "novelai"],
)
def test_other_programs(tmp_path, program, texts, left_out):
    recipe = read_recipe(save(tmp_path / "a.png", **texts))
    names = ("prompt", "seed", "steps", "width", "height")
    assert values_in(recipe, *names) == ("a bear <lora:ink:0.5>", 5, 30, 1024, 768)
    assert recipe.notes == (f"These settings are from {program}. Not used here: {left_out}.",)
    assert recipe.request.negative_prompt == ("" if "Dream" in texts else "bad")


MFLUX = {
    "mflux_version": "0.9.0",
    "model": "dev",
    "quantize": 8,
    "guidance": 4.0,
    "lora_paths": ["/loras/ink.safetensors", "/loras/snow.safetensors"],
    "lora_scales": [0.5],
}
DRAW_THINGS = {
    "c": "a bear",
    "uc": "bad",
    "scale": 4.5,
    "sampler": "Euler A",
    "model": "flux",
    "size": "1024x768",
    "v2": {},
}


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_programs_of_macs_in_exif(tmp_path, name):
    """mflux and Draw Things."""
    size = {"prompt": "a bear", "seed": 5, "steps": 30, "width": 1024, "height": 768}
    path = save(tmp_path / name, {USER_COMMENT: json.dumps(MFLUX | size)})
    names = ("prompt", "seed", "steps", "width", "height", "guidance_scale")
    assert values_of(path, *names) == ("a bear <lora:ink:0.5> <lora:snow:1>", 5, 30, 1024, 768, 4)
    assert "from mflux. Not used here: model, quantization." in read_recipe(path).notes[0]
    path = save(tmp_path / f"b{name}", {USER_COMMENT: json.dumps(DRAW_THINGS | {"seed": 5, "steps": 30})})
    assert values_of(path, *names[:-1]) == ("a bear", 5, 30, 1024, 768)
    recipe = read_recipe(path)
    assert recipe.request.negative_prompt == "bad"
    assert "from Draw Things. Not used here: scale, sampler, model." in recipe.notes[0]


XMP = (
    "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
    "<rdf:Description rdf:about=''><xmp:CreatorTool>Draw Things</xmp:CreatorTool>{}</rdf:Description></rdf:RDF>"
    "</x:xmpmeta>"
)
XMP_LIST = '<{0}>\n <rdf:Alt>\n  <rdf:li xml:lang="x-default">{1}</rdf:li>\n </rdf:Alt>\n</{0}>'


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    "loras", [{"lora": [{"model": "ink_f16.ckpt", "weight": 0.6}]}, {"v2": {"loras": [{"file": "ink_f16.ckpt"}]}}]
)
def test_draw_things_in_xmp(tmp_path, form, loras):
    """Draw Things writes PNG files with an XMP packet; its text for other programs is below that for itself."""
    stored = DRAW_THINGS | {"c": 'a "red" bear <3 & snow', "seed": 5, "steps": 30} | loras
    described = XMP_LIST.format("dc:description", "a bear&#xA;-bad&#xA;Steps: 9, Seed: 8, Size: 64x64")
    packet = XMP.format(described + XMP_LIST.format("exif:UserComment", escape(json.dumps(stored)))).encode()
    path, options = tmp_path / "a", {"xmp": packet}
    if form == "PNG":
        options = {"pnginfo": PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", packet.decode())
    Image.new("RGB", (8, 8)).save(path, form, **options)
    if "v2" in loras and form == "PNG":  # behind the pixels, where tools add it
        content = path.read_bytes()
        start = content.index(b"iTXt") - 4
        end = content.index(b"IDAT") - 4
        path.write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
    weight = 0.6 if "lora" in loras else 1
    expected = (f'a "red" bear <3 & snow <lora:ink_f16:{weight:g}>', 5, 30, 1024, 768)
    assert values_of(path, "prompt", "seed", "steps", "width", "height") == expected
    recipe = read_recipe(path)
    assert recipe.request.negative_prompt == "bad"
    assert "from Draw Things. Not used here: scale, sampler, model." in recipe.notes[0]


@pytest.mark.parametrize("written", ["<exif:UserComment>{}</exif:UserComment>", "<a exif:UserComment='{}'/>"])
def test_a1111_in_xmp(tmp_path, written):
    """Editors move a JPEG's comment to XMP, in one of the two forms of its properties."""
    text = escape(FORGE, {"\n": "&#10;", "'": "&apos;"})
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", xmp=XMP.format(written.format(text)).encode())
    assert values_of(tmp_path / "a.jpg", "seed", "steps") == values_of(
        save(tmp_path / "b.png", parameters=FORGE), "seed", "steps"
    )


def test_civitai_and_stable_diffusion_cpp(tmp_path):
    resources = '[{"type":"lora","weight":0.8,"modelName":"A, B: C"},{"type":"checkpoint","modelName":"D"}]'
    text = "a bear\nSteps: 30, Seed: 5, Size: 1024x768, Guidance: 4.0, Civitai resources: "
    path = save(tmp_path / "a.png", parameters=f"{text}{resources}, Civitai metadata: {{}}")
    assert values_of(path, "prompt", "steps", "seed", "width", "guidance_scale") == ("a bear", 30, 5, 1024, 4)
    assert read_recipe(path).notes[0].endswith("Not used here: Civitai resources, Civitai metadata.")
    text = "a bear\nSteps: 30, Seed: 5, workflow: txt2img, width: 832, height: 1216"
    path = save(tmp_path / "b.png", parameters=text)
    assert values_of(path, "steps", "seed", "width", "height") == (30, 5, 832, 1216)


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_fooocus_in_exif(tmp_path, name):
    path = save(tmp_path / name, {USER_COMMENT: json.dumps(FOOOCUS), 0x0131: "Fooocus v2.5.5", 0x927C: "fooocus"})
    assert values_of(path, "prompt", "seed", "width") == ("a bear <lora:ink:0.5>", 5, 1024)


@pytest.mark.parametrize(
    "texts",
    [
        {},
        {"prompt": "{}"},
        {"prompt": json.dumps({"3": {"class_type": "KSampler", "inputs": "x"}})},
        {"prompt": "[" * 100_000},
        {"invokeai_metadata": "null"},
        {"invokeai_metadata": json.dumps({"positive_prompt": ["a"]})},
        {"sd-metadata": json.dumps({"image": {"prompt": []}})},
        {"Comment": "made with a camera"},
        {"Dream": "x"},
    ],
)
def test_damaged_settings(tmp_path, texts, refused):
    refused(read_recipe, save(tmp_path / "a.png", **texts), contains=["'a.png' contains no settings", "A1111"])


def test_prompts_of_any_length_and_content(tmp_path):
    """Control characters go, and what is longer than a request allows is named."""
    recipe = read_recipe(save(tmp_path / "a.png", parameters="a\x1b[31m cat\n" + "猫" * 4000))
    prompt = recipe.request.prompt
    assert prompt.startswith("a[31m cat\n猫")
    assert LIMITS.prompt_bytes - 3 < len(prompt.encode()) <= LIMITS.prompt_bytes
    assert f"longer than {LIMITS.prompt_bytes} bytes" in " ".join(recipe.notes)


def test_texts_behind_the_pixels(tmp_path):
    """Some programs add their texts at the end of the file; a long text of another kind does not hide them."""
    save(tmp_path / "a.png", parameters=FORGE, workflow="x" * 3_000_000)
    whole = (tmp_path / "a.png").read_bytes()
    place = whole.index(b"IDAT") - 4
    size = 12 + int.from_bytes(whole[place : place + 4], "big")
    moved = whole[:33] + whole[place : place + size] + whole[33:place] + whole[place + size :]
    (tmp_path / "a.png").write_bytes(moved)
    assert values_of(tmp_path / "a.png", "seed") == (12345,)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "texts",
    [
        {"parameters": "a" * 300_000},
        {"parameters": "\t" * 300_000},
        {"parameters": "a b-c/" * 50_000 + "\nSteps: 1, Seed: 2, " + "a " * 150_000},
        {"parameters": json.dumps({"prompt": "a", "resolution": "1" * 300_000})},
        {"description": "\t" * 300_000},
        {"Dream": '"a" ' + "-a" * 150_000},
    ],
    ids=["letters", "tabs", "words", "digits", "description", "flags"],
)
def test_t21_the_time_grows_with_the_length(texts):
    read_foreign(texts)


def test_t22_nodes_that_share_others(tmp_path):
    """A graph of a few KB with very many ways between its nodes takes neither memory nor time."""
    links = {f"text_{name}": ["6", 0] for name in "abc"} | {f"string_{name}": ["6", 0] for name in "ab"}
    chain = {str(i): node("Join", **{name: [str(i + 1), 0] for name in links}) for i in range(50, 70)}
    ends = {"70": node("Text", text="x" * 1_000_000)}
    texts = CLASSIC | chain | ends | {"6": node("CLIPTextEncode", text=["50", 0])}
    read_foreign({"prompt": json.dumps(texts)})
    held = {
        str(i): node("Number", value=[str(i + 1), 0], int=[str(i + 1), 0], seed=[str(i + 1), 0]) for i in range(50, 90)
    }
    values = CLASSIC | held | {"3": node("KSampler", **CLASSIC["3"]["inputs"] | {"seed": ["50", 0]})}
    read_foreign({"prompt": json.dumps(values)})


def test_t22_texts_are_interpreted_in_a_child(tmp_path, isolated, monkeypatch):
    """What is wrong with them ends the child and not the app."""
    monkeypatch.setattr(metadata, "read_foreign", lambda texts: 1 / 0)
    assert read_recipe(save(tmp_path / "a.png", parameters=FORGE)).request.seed == 12345
