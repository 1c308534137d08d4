"""Every word on the page, in one place."""

from x2i_app.jobs import Phase, Progress
from x2i_app.specs import FluxSpec

TITLE = "X2I Studio"
TAGLINE = "Text, pictures, films, sounds: anything in, a picture out."
MAKE = "Make the picture"
STOP = "Stop"
STOPPING = "Stopping after this step"
EMPTY = "Your picture appears here. Pick an example, or bring your own."
SETTINGS = "Settings"
WORDS = "In the model's words"
USED = "How it was made"
EXAMPLES = "Examples, one click each"
FAILED = "That did not work"
CONTROL_HINT = "1 keeps what your words leave alone; 0 draws it all anew."
MODEL = "Model"
CHANGE = "Load this model"
UNLOAD = "Unload"
FINDING = "Getting the files"
LOADING = "Loading the model"
STATE = "State"
STATES = {
    "idle": "Not loaded yet",
    "loading": "Loading.",
    "ready": "Ready",
    "unloaded": "Unloaded; the next picture loads it again",
    "failed": "Failed.",
    "closed": "Closed",
}
FLUX_HINT = "Empty: the preset's own. Or a folder, a .safetensors file or a hub id of yours."
NO_SWITCH = "The model of this page cannot be changed from the browser; start the app with --switch yes to allow it."
SEED_HINT = "Leave it empty for a new one each time; the same seed and settings give the same picture."

NO_SHARE_LINK = (
    "x2i: there is no share link: Gradio's tunnel could not be downloaded or reached, or this is a Space, which is "
    "public already. The page is up on this machine; to show it to others, set --host, or put a web server in front of "
    "it and set --root-path."
)

MEMORY = "Memory"
MEMORY_LATER = "Shown when the model is loaded."
PARTS = {"mllm": "MLLM", "align_net": "AlignNet", "transformer": "FLUX", "vae": "VAE"}
PLANNED = {"encode": "to understand, up to", "denoise": "to draw, up to", "decode": "to develop, up to"}

LABELS = {
    "preset": "Preset",
    "flux": "FLUX model",
    "profile": "Memory profile",
    "prompt": "What should it show?",
    "words": "Words to go with it (optional)",
    "instruction": "What should change or happen?",
    "images": "Pictures",
    "image": "Picture",
    "video": "Film",
    "audio": "Sound",
    "message": "Words, pictures, films and sounds, in any mix",
    "width": "Width",
    "height": "Height",
    "steps": "Steps",
    "guidance": "Guidance",
    "seed": "Seed",
    "count": "How many",
    "control": "Keep to the picture",
    "reason": "Let the model answer first, and draw its answer",
}

HINTS = {
    "text": "Describe it in any language.",
    "image": "Show one or several pictures; the model draws what they have in common or together.",
    "image_text": "Show a picture and say what to do with it.",
    "video": "Show a short film, up to a minute.",
    "audio": "Play a sound: music, rain, a voice; up to ten minutes.",
    "fusion": "Mix anything: add files with the clip, and write if you like.",
}

TABS = {
    "text": "Text",
    "image": "Image",
    "image_text": "Image + Text",
    "video": "Video",
    "audio": "Audio",
    "fusion": "Creative Fusion",
}

_PHASES = {
    Phase.QUEUED: "Waiting in line",
    Phase.LOADING: "Loading the model",
    Phase.ENCODING: "Understanding what you gave",
    Phase.DENOISING: "Drawing",
    Phase.DECODING: "Developing the picture",
    Phase.DONE: "Done",
    Phase.FAILED: "It did not work",
    Phase.CANCELLED: "Stopped",
}


def say(progress: Progress) -> str:
    """A few words for a moment of a job."""
    words = _PHASES[progress.phase]
    if progress.phase is Phase.QUEUED and progress.place > 1:
        words += f", {progress.place - 1} before you"
    if progress.pictures > 1:
        words += f", picture {progress.picture} of {progress.pictures}"
    if progress.phase is Phase.LOADING and progress.detail:
        words += f". {progress.detail}"
    if progress.phase is Phase.DENOISING:
        words += f", step {progress.step} of {progress.steps}"
    return words


def about_flux(flux: FluxSpec) -> str:
    """A FLUX model's name, what suits it, and its licence."""
    guidance = f", guidance {flux.guidance_scale:g}" if flux.guidance_embeds else ""
    return f"{flux.name}: {flux.num_inference_steps} steps{guidance}. Licence: {flux.license}"


def done(seconds: float, seeds: tuple[int, ...]) -> str:
    """What is said of a finished picture."""
    return f"Done in {seconds:.1f} s. Seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def cannot_take(preset: str, modality: str, others: list[str]) -> str:
    """What a tab says when the loaded model cannot serve it."""
    return f"**{preset}** cannot take {modality}. Start the app with one of: {', '.join(others)}."


def memory_in_use(used: float, own: float, total: float) -> str:
    """What is in use of a device's memory, in GiB."""
    return f"{used:.1f} of {total:.1f} GiB are in use, {own:.1f} by this app."


def memory_profile(profile: str, size: str) -> str:
    """What the plan under it is for."""
    return f"Profile {profile}, planned for {size}:"
