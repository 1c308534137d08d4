"""Every word about what the model will see and hear of what was given, in every language."""

from x2i_app.ui.i18n.languages import Text

VIDEO = Text(
    "Of this film of {seconds} s the model sees {count} picture(s):", "这段 {seconds} 秒的视频，模型会看到 {count} 帧："
)
MOMENT = Text("{seconds} s", "{seconds} 秒")
SILENT = Text(
    "Its sound is left out; give it as a sound of its own.", "视频里的声音不会用到；需要时请另外作为声音添加。"
)
HEARD = Text("The model hears the sound itself: {seconds} s.", "模型会直接听这段声音：{seconds} 秒。")
WRITTEN = Text(
    "This model cannot hear: Whisper writes down what is said in these {seconds} s, and the model reads it.",
    "这个模型听不见：Whisper 会写下这 {seconds} 秒里说的话，再给模型读。",
)
WORDS = Text("Words: read as they are", "文字：照原样阅读")
IMAGE_CHIP = Text("Picture {number}: seen, {width} x {height}", "图片 {number}：会看到，{width} x {height}")
VIDEO_CHIP = Text("Film {number}: {count} of its pictures seen", "视频 {number}：会看到其中 {count} 帧")
SILENT_CHIP = Text("its sound is not heard", "声音不会用到")
AUDIO_CHIP = Text("Sound {number}: {seconds} s, heard as it is", "声音 {number}：{seconds} 秒，直接听")
WRITTEN_CHIP = Text("Sound {number}: {seconds} s, its words written down", "声音 {number}：{seconds} 秒，写下其中的话")
GIVEN = Text("What was given, and how it is used", "添加的内容以及如何使用")
OTHERS = Text("Presets that can: {names}.", "可以处理的预设：{names}。")
