"""What is said of a model that is chosen and not loaded yet."""

from x2i_app.ui.i18n.languages import Text

_NEEDS = {
    "card": Text(
        "{preset}, profile {profile}: about {files} GB of files, and {memory} GiB of the card's memory.",
        "{preset}，方案 {profile}：文件约 {files} GB，显存 {memory} GiB。",
    ),
    "computer": Text(
        "{preset}, profile {profile}: about {files} GB of files, and {memory} GiB of the computer's memory.",
        "{preset}，方案 {profile}：文件约 {files} GB，内存 {memory} GiB。",
    ),
}


def needs(preset: str, profile: str, files: int, memory: int, where: str, language: str = "en") -> str:
    """What a model that is chosen will need; files, memory: bytes; where: "card" or "computer"."""
    named = {"preset": preset, "profile": profile, "files": f"{files / 1e9:.3g}", "memory": f"{memory / 2**30:.1f}"}
    return _NEEDS[where].to(language, **named)
