"""Every word on the page, in one place, in every language."""

from collections.abc import Mapping

from x2i_app.serving.jobs import Phase, Progress
from x2i_app.specs import FluxSpec, Modality
from x2i_app.ui.i18n.languages import Text

TITLE = "X2I Studio"
TAGLINE = Text(
    "Text, pictures, films, sounds: anything in, a picture out.", "文字、图片、视频、声音：给什么都行，出来一张图。"
)
_LOADED = Text("Model: **{preset}**.", "模型：**{preset}**。")
_KNOWS = {
    "x2i-tiny": Text(
        "A miniature for any CPU. It knows one cartoon world: houses, trees, cars, boats, balloons, flowers, cats, "
        "fish, stars, balls, rockets and umbrellas, in ten colours, five skies and six languages, and its sounds.",
        "任何 CPU 都能运行的迷你模型。它只认识一个卡通世界：房子、树、汽车、船、气球、花、猫、鱼、星星、球、"
        "火箭和雨伞，有十种颜色、五种天空、六种语言，还有这个世界的声音。",
    ),
}
MAKE = Text("Make the picture", "生成图片")
STOP = Text("Stop", "停止")
STOPPING = Text("Stopping after this step", "这一步完成后停止")
EMPTY = Text(
    "## Your picture appears here\n\n1. Pick an example, or bring your own.\n"
    "2. Make the picture, or press Ctrl+Enter.\n3. Stop it, change a word, make four more like it.",
    "## 图片会出现在这里\n\n1. 点一个示例，或用您自己的内容。\n2. 点“生成图片”，或按 Ctrl+Enter。\n"
    "3. 可以停止、改几个字，或再来四张。",
)
SETTINGS = Text("Settings", "设置")
IMAGES = Text("The pictures", "生成的图片")
WORDS = Text("In the model's words", "模型的描述")
USED = Text("How it was made", "生成过程")
EXAMPLES = Text("Examples, one click each", "示例，一点即用")
FAILED = Text("That did not work", "没有成功")
CONTROL_HINT = Text("1 keeps what your words leave alone; 0 draws it all anew.", "1 保留您没有提到的部分；0 全部重画。")
MODEL = Text("Model", "模型")
CHANGE = Text("Load this model", "加载这个模型")
UNLOAD = Text("Unload", "卸载")
FINDING = Text("Getting the files", "正在获取文件")
LOADING = Text("Loading the model", "正在加载模型")
STATE = Text("State", "状态")
STATES = {
    "idle": Text("Not loaded yet", "尚未加载"),
    "loading": Text("Loading.", "正在加载。"),
    "ready": Text("Ready", "就绪"),
    "unloaded": Text("Unloaded; the next picture loads it again", "已卸载；生成下一张图片时会重新加载"),
    "failed": Text("Failed.", "失败。"),
    "closed": Text("Closed", "已关闭"),
}
FLUX_HINT = Text(
    "Empty: the preset's own. Or a folder, a .safetensors file or a hub id of yours.",
    "留空：用预设自带的。也可以填文件夹、.safetensors 文件或 hub 上的名称。",
)
LORA_HINT = Text(
    "**LoRAs** teach FLUX a style or a thing. Up to four can be mixed, and every tab uses them.",
    "**LoRA** 让 FLUX 学会一种风格或一样东西。最多可以混合四个，每个标签页都会使用。",
)
LORA_ADD = Text("Add a LoRA", "添加 LoRA")
LORA_UPLOAD = Text("Upload one (.safetensors)", "上传（.safetensors）")
LORA_REMOVE = Text("Remove", "移除")
PAINT = Text("Paint or extend", "涂改或扩展")
PAINT_HINT = Text(
    "Paint over what shall be new; the rest stays as it is, to the pixel, and the picture keeps its size. Add the "
    "picture above, and say there what shall be seen.",
    "涂抹要重画的地方；其余部分一个像素都不变，图片尺寸也不变。请在上方添加图片，并说明要画什么。",
)
PAINT_CANVAS = Text(
    "The picture to paint on: draw with the mouse or a finger, or with the arrow keys and the space bar.",
    "要涂改的图片：用鼠标或手指涂抹，也可以用方向键移动、空格键涂抹。",
)
BRUSH = Text("Brush, % of the picture", "画笔大小（占图片的百分比）")
CLEAR = Text("Clear", "清除")
STRENGTH_HINT = Text(
    "1 draws it anew; less begins with what is there. Without paint it is about the whole picture.",
    "1 全部重画；更小则从原有内容开始。没有涂抹时，作用于整张图片。",
)
EXTEND_HINT = Text("Pixels to add on each side:", "每一边要扩展的像素：")
SEED_HINT = Text(
    "Leave it empty for a new one each time; the same seed and settings give the same picture.",
    "留空则每次都用新的种子；种子和设置相同，图片就相同。",
)
LIGHT_OR_DARK = Text("Light or dark", "浅色或深色")
MOVE_LEFT = Text("Move left", "左移")
MOVE_RIGHT = Text("Move right", "右移")
REMOVE = Text("Remove", "移除")
ADD_IMAGES = Text("Add pictures", "添加图片")
SHAPE = Text("Shape", "画幅")
SWAP = Text("Turn", "横竖互换")
MATCH = Text("Like my picture", "与我的图片相同")
METADATA = Text("Write the settings into the picture's file", "把设置写入图片文件")
KEEP_SEED = Text("Keep this seed", "保留这个种子")
NEW_SEED = Text("New seed each time", "每次换新种子")
MORE = Text("Four more like it", "再来四张")
RESTORE = Text("Settings from a picture", "从图片恢复设置")
RESTORE_FILE = Text("A PNG that was made here", "在这里生成的 PNG 图片")
SESSION = Text("Your pictures of this visit", "本次生成的图片")
SESSION_HINT = Text("What you make is kept here until you leave.", "您生成的图片会留在这里，直到您离开。")
REUSE = Text("Use its settings", "使用它的设置")
PACK = Text("Download all", "全部下载")
COMPARE = Text("Compare the last two that you picked", "比较最近选中的两张")
USE = {
    "image_text": Text("Start from this picture", "从这张图片开始"),
    "image": Text("Add it to Image", "加到“图像”"),
    "fusion": Text("Add it to Creative Fusion", "加到“创意融合”"),
}
BEFORE_AFTER = Text("Before and after", "前后对比")
BEFORE_AFTER_HINT = Text("Left: what you gave. Right: what came of it.", "左边是您给的图片，右边是生成的图片。")
MEMORY = Text("Memory", "内存")
WRONG_FILE = Text(
    "{files} does not fit here; add {kinds}, or use another tab.",
    "{files} 不能放在这里；请添加{kinds}，或换一个标签页。",
)
LARGE_FILE = Text(
    "{files} is larger than {most}; add a shorter or smaller file.", "{files} 超过 {most}；请添加更短或更小的文件。"
)
FILE_KINDS = {
    "image": Text("a picture (PNG, JPEG, WebP, GIF)", "图片（PNG、JPEG、WebP、GIF）"),
    "video": Text("a film (MP4, WebM, MOV)", "视频（MP4、WebM、MOV）"),
    "audio": Text("a sound (WAV, MP3, FLAC, OGG)", "声音（WAV、MP3、FLAC、OGG）"),
}
FILE_OR = Text(" or ", "或")
MEMORY_LATER = Text("Shown when the model is loaded.", "模型加载后显示。")

# Errors and what is printed: English, as everywhere outside the page.
NO_NAMES = "Only the models in the lists can be chosen from afar; files and hub names are given as the app is started."
NO_SWITCH = "The model of this page cannot be changed from the browser; start the app with --switch yes to allow it."
NO_SHARE_LINK = (
    "x2i: there is no share link: Gradio's tunnel could not be downloaded or reached, or this is a Space, which is "
    "public already. The page is up on this machine; to show it to others, set --host, or put a web server in front of "
    "it and set --root-path."
)

NO_IMAGE_YET = "There is no picture in a tab yet; add one first, then its shape can be taken."
NOTHING_YET = "There is no picture yet; make one first."

# Names of parts are names, in every language.
PARTS = {"mllm": "MLLM", "align_net": "AlignNet", "transformer": "FLUX", "vae": "VAE", "light_control": "LightControl"}
PLANNED = {
    "encode": Text("to understand, up to", "理解输入，最多"),
    "denoise": Text("to draw, up to", "绘制，最多"),
    "decode": Text("to develop, up to", "显影，最多"),
}

LABELS = {
    "preset": Text("Preset", "预设"),
    "flux": Text("FLUX model", "FLUX 模型"),
    "profile": Text("Memory profile", "内存方案"),
    "loras": Text("LoRAs", "LoRA（可多个）"),
    "lora_weight": Text("Weight", "权重"),
    "prompt": Text("What should it show?", "画面里要有什么？"),
    "words": Text("Words to go with it (optional)", "配上文字（可选）"),
    "instruction": Text("What should change or happen?", "要改变什么，或发生什么？"),
    "images": Text("Pictures", "图片（可多张）"),
    "image": Text("Picture", "图片"),
    "video": Text("Film", "视频"),
    "audio": Text("Sound", "声音"),
    "message": Text("Words, pictures, films and sounds, in any mix", "文字、图片、视频和声音，任意组合"),
    "width": Text("Width", "宽度"),
    "height": Text("Height", "高度"),
    "steps": Text("Steps", "步数"),
    "guidance": Text("Guidance", "引导强度"),
    "seed": Text("Seed", "种子"),
    "count": Text("How many", "张数"),
    "control": Text("Keep to the picture", "保持原图"),
    "history": Text("The conversation so far", "之前的对话"),
    "mask": Text("Mask: what is white is painted", "蒙版：白色部分会被重画"),
    "strength": Text("How much is drawn anew", "重画的程度"),
    "left": Text("Left", "左"),
    "top": Text("Top", "上"),
    "right": Text("Right", "右"),
    "bottom": Text("Bottom", "下"),
    "reason": Text("Let the model answer first, and draw its answer", "让模型先回答，再画出它的回答"),
}

HINTS = {
    "text": Text("Describe it in any language.", "用任何语言描述。"),
    "image": Text(
        "Show one or several pictures; the model draws what they have in common or together.",
        "放一张或几张图片；模型会画出它们的共同之处，或把它们画在一起。",
    ),
    "image_text": Text("Show a picture and say what to do with it.", "放一张图片，说说要怎么改。"),
    "video": Text("Show a short film, up to a minute.", "放一段短视频，最长一分钟。"),
    "audio": Text(
        "Play a sound: music, rain, a voice; up to ten minutes.", "放一段声音：音乐、雨声、人声；最长十分钟。"
    ),
    "fusion": Text(
        "Mix anything: add files with the clip, and write if you like.", "随意组合：用回形针添加文件，也可以写几句话。"
    ),
}

TABS = {
    "text": Text("Text", "文字"),
    "image": Text("Image", "图像"),
    "image_text": Text("Image + Text", "图像 + 文字"),
    "video": Text("Video", "影片"),
    "audio": Text("Audio", "音频"),
    "fusion": Text("Creative Fusion", "创意融合"),
}

_MODALITIES: dict[Modality, str] = {"text": "文字", "image": "图片", "video": "视频", "audio": "声音"}  # in Chinese

_PHASES = {
    Phase.QUEUED: Text("Waiting in line", "正在排队"),
    Phase.LOADING: Text("Loading the model", "正在加载模型"),
    Phase.ENCODING: Text("Understanding what you gave", "正在理解您给的内容"),
    Phase.DENOISING: Text("Drawing", "正在绘制"),
    Phase.DECODING: Text("Developing the picture", "正在显影"),
    Phase.SAVING: Text("Saving the picture", "正在保存图片"),
    Phase.DONE: Text("Done", "完成"),
    Phase.FAILED: Text("It did not work", "没有成功"),
    Phase.CANCELLED: Text("Stopped", "已停止"),
}
_RESTORED = Text("Its words and settings are back.", "文字和设置已恢复。")
_ADD_AGAIN = Text("Add the same files again: {files}.", "请重新添加原来的文件：{files}。")
_FILES = {
    "images": Text("{count} picture(s)", "{count} 张图片"),
    "videos": Text("{count} film(s)", "{count} 段视频"),
    "audios": Text("{count} sound(s)", "{count} 段声音"),
    "loras": Text("{count} LoRA(s)", "{count} 个 LoRA"),
    "masks": Text("what was painted over, by hand", "手动涂抹的区域"),
    "source_images": Text("the picture drawn before, beside the words", "之前画出的图片，与文字一起"),
}
_BEFORE = Text("{count} before you", "前面还有 {count} 个")
_IMAGE = Text("image {image} of {images}", "第 {image} 张，共 {images} 张")
_STEP = Text("step {step} of {steps}", "第 {step} 步，共 {steps} 步")
_SECONDS_LEFT = Text("about {seconds} s left", "大约还需 {seconds} 秒")
_MINUTES_LEFT = Text("about {minutes} min left", "大约还需 {minutes} 分钟")
_JOIN = Text(", ", "，")
_DONE = Text("Done in {seconds} s. Seed {seeds}", "用时 {seconds} 秒。种子 {seeds}")
_DONE_ALL = Text("Done in {seconds} s. Seeds {seeds}", "用时 {seconds} 秒。各张种子 {seeds}")
_SHOWN = Text("Seed {seed}, {width} x {height}, {steps} steps", "种子 {seed}，{width} x {height}，{steps} 步")
_ABOUT_FLUX = Text(
    "{name}: {steps} steps{guidance}. Licence: {licence}", "{name}：{steps} 步{guidance}。许可证：{licence}"
)
_ABOUT_GUIDANCE = Text(", guidance {guidance}", "，引导强度 {guidance}")
_IN_USE = Text("{used} of {total} GiB are in use, {own} by this app.", "已用 {used} / {total} GiB，其中本应用 {own}。")
_PLANNED_FOR = Text("Profile {profile}, planned for {size}:", "方案 {profile}，按 {size} 计划：")


def loaded(preset: str, about: str, language: str = "en") -> str:
    """Which model it is and what it knows, as Markdown; `about`: what there is to say of a preset that is not here."""
    knows = _KNOWS[preset].to(language) if preset in _KNOWS else about
    return f"{_LOADED.to(language, preset=preset)} {knows}".strip()


def say(progress: Progress, language: str = "en") -> str:
    """A few words for a moment of a job."""
    words = [_PHASES[progress.phase].to(language)]
    if progress.phase is Phase.QUEUED and progress.place > 1:
        words.append(_BEFORE.to(language, count=progress.place - 1))
    if progress.images > 1:
        words.append(_IMAGE.to(language, image=progress.image, images=progress.images))
    if progress.phase is Phase.DENOISING:
        words.append(_STEP.to(language, step=progress.step, steps=progress.steps))
    said = _JOIN.to(language).join(words)
    return f"{said}. {progress.detail}" if progress.phase is Phase.LOADING and progress.detail else said


def time_left(seconds: float, language: str = "en") -> str:
    """How long it still takes, as roughly as it is known."""
    if seconds < 100:
        return _SECONDS_LEFT.to(language, seconds=round(seconds))
    return _MINUTES_LEFT.to(language, minutes=round(seconds / 60))


def about_flux(flux: FluxSpec, language: str = "en") -> str:
    """A FLUX model's name, what suits it, and its licence."""
    guidance = _ABOUT_GUIDANCE.to(language, guidance=f"{flux.guidance_scale:g}") if flux.guidance_embeds else ""
    return _ABOUT_FLUX.to(
        language, name=flux.name, steps=flux.num_inference_steps, guidance=guidance, licence=flux.license
    )


def done(seconds: float, seeds: tuple[int, ...], language: str = "en") -> str:
    """What is said of a finished picture."""
    words = _DONE_ALL if len(seeds) > 1 else _DONE
    return words.to(language, seconds=f"{seconds:.1f}", seeds=", ".join(map(str, seeds)))


def shown_again(seed: int, width: int, height: int, steps: int, language: str = "en") -> str:
    """What is said of a picture of this visit that is looked at again."""
    return _SHOWN.to(language, seed=seed, width=width, height=height, steps=steps)


def cannot_take(preset: str, modality: Modality) -> Text:
    """What a tab says when the loaded model cannot serve it."""
    return Text(f"**{preset}** cannot take {modality}.", f"**{preset}** 不能处理{_MODALITIES[modality]}。")


def load_other(preset: str) -> Text:
    """The button beside it."""
    return Text(f"Load {preset}, which can", f"加载可以处理的 {preset}")


def restored(missing: Mapping[str, int], language: str = "en") -> str:
    """What is said of settings that came from a picture. missing: how many of its files are not here yet, by kind."""
    said = _RESTORED.to(language)
    if missing:
        files = [_FILES.get(kind, _FILES["images"]).to(language, count=count) for kind, count in missing.items()]
        said += " " + _ADD_AGAIN.to(language, files=_JOIN.to(language).join(files))
    return said


def memory_in_use(used: float, own: float, total: float, language: str = "en") -> str:
    """What is in use of a device's memory, in GiB."""
    return _IN_USE.to(language, used=f"{used:.1f}", own=f"{own:.1f}", total=f"{total:.1f}")


def memory_profile(profile: str, size: str, language: str = "en") -> str:
    """What the plan under it is for."""
    return _PLANNED_FOR.to(language, profile=profile, size=size)
