"""The page in simplified Chinese."""

NAME = "中文"
TAG = "zh-CN"  # as Gradio calls it

_KNOWN = (
    "它能画房子、树、汽车、船、热气球、花、猫、鱼、星星、球、火箭和雨伞，能读懂英语、中文、德语、法语、日语和越南语。"
)

TEXTS = {
    # Top of the page
    "tagline": "输入文字、图片、视频或音频，生成一张图片。",
    "theme": "主题",
    "language": "语言",
    "preset.x2i-tiny": "任何 CPU 都能运行的小型演示模型。它只会画：房子、树、汽车、船、气球、花、猫、鱼、"
    "星星、球、火箭和雨伞，有十种颜色和五种天空。",
    "preset.qwen2.5-vl-3b": "文字、图片和视频；较小的 Qwen。",
    "preset.qwen2.5-vl-7b": "文字、图片和视频。",
    "preset.internvl2.5-1b": "文字、图片和视频；已发布模型中最小的一个。",
    "preset.internvl2.5-4b": "文字、图片和视频。",
    "preset.minicpm-o-2.6": "文字、图片、视频和音频。",
    **dict.fromkeys(
        ("preset.qwen2.5-omni-3b", "preset.qwen2.5-omni-7b"),
        "文字、图片、视频和音频；没有发布的 AlignNet：请自行训练（`python -m x2i_app train distill`），"
        "并用 `alignnet` 指定。",
    ),
    # Tabs
    "tab.text": "文字",
    "tab.image": "图片",
    "tab.image_text": "图片 + 文字",
    "tab.video": "视频",
    "tab.audio": "音频",
    "tab.fusion": "创意融合",
    "hint.text": "描述您想要的图片（x2i-tiny：可用英文、中文、德文、法文、日文或越南文）。",
    "hint.image": "添加一张或多张图片。模型会画出它们的共同之处，或把它们组合起来。",
    "hint.image_text": "添加一张图片，并描述要改什么。",
    "hint.video": "添加一段短视频，最长一分钟。",
    "hint.audio": "添加音频：音乐、雨声、人声；最长十分钟。",
    "hint.fusion": "任意组合：用回形针添加文件，也可以输入提示词。",
    "empty.text": "请先输入提示词。",
    "empty.image": "请先添加图片。",
    "empty.image_text": "请先添加图片并输入指令。",
    "empty.video": "请先添加视频。",
    "empty.audio": "请先添加音频。",
    "empty.fusion": "请先输入提示词或添加文件。",
    "generate": "生成",
    "examples": "示例（点击即用）",
    "label.prompt": "提示词",
    "label.optional_prompt": "提示词（可选）",
    "label.instruction": "指令",
    "label.images": "图片（可多张）",
    "label.image": "图片",
    "label.video": "视频",
    "label.audio": "音频",
    "label.message": "提示词、图片、视频和音频，任意组合",
    "images.left": "左移",
    "images.right": "右移",
    "images.remove": "移除",
    "images.add": "添加图片",
    # Image + Text: similarity, conversation, mask
    "label.control": "与原图的相似度",
    "control.hint": "1：保留指令没有提到的一切。0：画一张新图。",
    "label.history": "之前的对话",
    "conversation.continue": "继续编辑这张图片",
    "conversation.undo": "撤销",
    "conversation.restart": "重新开始",
    "conversation.hint": "先生成一张图片，再描述要改什么。您的提示词和结果会列在这里。",
    "label.edit": "编辑这张图片",
    "edit.hint": "开：只改变指令所说的部分。关：根据图片和指令画一张新图。",
    "label.reference": "要编辑的图片（代替上面的图片）",
    "label.mask_invert": "反转蒙版",
    "label.mask_grow": "扩大蒙版（像素）",
    "label.mask_feather": "柔化边缘（像素）",
    "feather.hint": "留空：自动",
    "label.only_masked": "只绘制蒙版周围，细节更多",
    "label.negative_prompt": "负面提示词：图片中不应出现的内容",
    "label.true_cfg_scale": "负面提示词强度",
    "true_cfg.hint": "1：忽略。越大：越避免。用时加倍。",
    "label.fast": "快速",
    "controlnet": "ControlNet（按图控制）",
    "label.controlnet_image": "ControlNet 图片",
    "label.controlnet_kind": "ControlNet 图片的内容",
    "controlnet_kind.hint": "留空：由 ControlNet 决定。canny 会从照片中提取边缘；edges 是现成的边缘图。",
    "label.controlnet_strength": "ControlNet 强度",
    "controlnet_strength.hint": "越高越贴近这张图片。0 为关闭，1 为训练时的强度。",
    "label.controlnet_start": "ControlNet 开始",
    "label.controlnet_end": "ControlNet 结束",
    "fast.hint": "大约一半时间；细节可能略有不同。",
    "mask.section": "替换局部或扩展图片",
    "mask.hint": "在上方添加图片。涂抹要替换的区域，再描述那里应该出现什么。",
    "mask.canvas": "您的图片：用鼠标或手指涂抹蒙版，也可以用方向键移动、空格键涂抹。"
    "E：橡皮擦。Ctrl+Z：撤销。加号和减号：缩放。",
    "mask.brush": "画笔大小（%）",
    "mask.erase": "橡皮擦",
    "mask.undo": "撤销",
    "mask.redo": "重做",
    "mask.zoom_in": "放大",
    "mask.zoom_out": "缩小",
    "mask.clear": "清除",
    "label.mask": "蒙版（白色：要替换的区域）",
    "label.strength": "重绘强度",
    "strength.hint": "1：完全重绘。越小：保留越多原图。没有蒙版时，重绘整张图片。",
    "mask.extend": "每一边要扩展的像素：",
    "label.left": "左",
    "label.top": "上",
    "label.right": "右",
    "label.bottom": "下",
    # What the model will see and hear of the input
    "input.video": "这段 {seconds} 秒的视频，模型会看到 {count} 帧：",
    "input.seconds": "{seconds} 秒",
    "label.video_start": "视频开始（秒）",
    "label.video_end": "视频结束（秒）",
    "input.unplayable": "此浏览器无法播放这段视频。下面显示模型看到的内容。",
    "input.video_audio": "不会使用视频的声音。如需使用，请把它添加为音频。",
    "input.heard": "模型会直接听这段音频：{seconds} 秒。",
    "input.transcribed": "这个模型听不到声音，由 Whisper 把这 {seconds} 秒里的语音转成文字。",
    "input.prompt_chip": "提示词",
    "input.image_chip": "图片 {number}：{width} x {height}",
    "input.video_chip": "视频 {number}：{count} 帧",
    "input.video_audio_chip": "不使用它的声音",
    "input.audio_chip": "音频 {number}：{seconds} 秒，直接听",
    "input.transcribed_chip": "音频 {number}：{seconds} 秒，转成文字",
    "input.chips": "您的输入以及如何使用",
    "input.other_presets": "支持的预设：{names}。",
    # Settings
    "settings": "设置",
    "label.width": "宽度",
    "label.height": "高度",
    "label.steps": "步数",
    "label.guidance": "引导强度",
    "label.seed": "种子",
    "label.format": "文件格式",
    "label.count": "图片数量",
    "label.reason": "让模型先回答，再画出它的回答",
    "seed.hint": "留空或输入 -1 则使用随机种子。种子和设置相同，图片就相同。",
    "size.shape": "宽高比",
    "size.swap": "宽高互换",
    "size.match": "与我的图片一致",
    "size.large": "这个模型按大约 {side} x {side} 像素的图片训练。更大的图片里，物体可能会重复。",
    "metadata": "把设置保存在图片文件中",
    # Restoring settings from a file
    "restore": "从图片恢复设置",
    "restore.file": "本应用、A1111、Forge、ComfyUI、InvokeAI 或 Fooocus 生成的图片",
    "restore.done": "提示词和设置已恢复。",
    "restore.found": "这张图片含有设置，提示词是“{prompt}”。",
    "restore.found_no_prompt": "这张图片含有设置。",
    "restore.use": "恢复这些设置",
    "restore.add_files": "请重新添加相同的文件：{files}。",
    "restore.images": "{count} 张图片",
    "restore.videos": "{count} 段视频",
    "restore.audios": "{count} 段音频",
    "restore.loras": "{count} 个 LoRA",
    "restore.masks": "蒙版（请重新涂抹）",
    "restore.controlnet_images": "ControlNet 图片",
    "restore.source_images": "生成这张图片时所用的结果图",
    # Model
    "model": "模型",
    "label.preset": "预设",
    "label.flux": "FLUX 模型",
    "label.profile": "内存方案",
    "flux.hint": "留空：预设自带的。也可填文件夹、文件或 Hugging Face 名称。",
    "model.change": "加载这个模型",
    "model.unload": "卸载",
    "model.finding": "正在获取文件",
    "model.loading": "正在加载模型",
    "model.state": "状态",
    "state.idle": "尚未加载",
    "state.loading": "正在加载。",
    "state.ready": "就绪",
    "state.unloaded": "已卸载。下一个任务会重新加载。",
    "state.failed": "失败。",
    "state.closed": "已关闭",
    "model.flux": "{name}：{steps} 步。许可证：{license}",
    "model.flux_guidance": "{name}：{steps} 步，引导强度 {guidance}。许可证：{license}",
    "model.needs_card": "{preset}，方案 {profile}：文件约 {files} GB，显存 {memory} GiB。",
    "model.needs_computer": "{preset}，方案 {profile}：文件约 {files} GB，内存 {memory} GiB。",
    "unsupported.text": "这个模型不支持文字。",
    "unsupported.image": "这个模型不支持图片。",
    "unsupported.video": "这个模型不支持视频。",
    "unsupported.audio": "这个模型不支持音频。",
    "model.load_other": "改为加载",
    # LoRAs
    "label.loras": "LoRA（可多个）",
    "label.lora_weight": "权重",
    "lora.hint": "**LoRA** 让 FLUX 学会一种风格或一样东西。最多可以组合四个，对所有标签页有效。",
    "lora.add": "添加 LoRA",
    "lora.upload": "上传 .safetensors 文件",
    "lora.remove": "移除",
    "lora.words": "{name} 训练时用的词：",
    # Memory
    "memory": "内存",
    "memory.later": "模型加载后显示。",
    "memory.in_use": "已用 {used} / {total} GiB，其中本应用 {own} GiB。",
    "memory.plan": "方案 {profile}，按 {size} 估算：",
    "memory.part": "部分",
    "memory.parameters": "参数量",
    "memory.size": "内存",
    "memory.peak": "模型工作时的峰值",
    "memory.encode": "编码：读取输入",
    "memory.denoise": "去噪：生成",
    "memory.decode": "解码：完成图片",
    # Result
    "result.images": "结果",
    "result.empty": "## 图片会出现在这里\n\n1. 点一个示例，或添加您自己的输入。\n2. 点“生成”，或按 Ctrl+Enter。\n"
    "3. 可以随时停止、修改提示词，或再生成四张。",
    "stop": "停止",
    "stopping": "这一步完成后停止",
    "answer": "模型的理解",
    "report": "生成详情",
    "report.seconds": "用时",
    "report.phases": "编码 {encode} 秒，去噪 {denoise} 秒，解码 {decode} 秒",
    "phase.queued": "正在排队",
    "phase.loading": "正在加载模型",
    "phase.encoding": "正在读取您的输入",
    "phase.denoising": "正在生成",
    "phase.decoding": "即将完成",
    "phase.saving": "正在保存图片",
    "phase.done": "完成",
    "phase.failed": "失败",
    "phase.cancelled": "已停止",
    "progress.ahead": "前面还有 {count} 个",
    "progress.image": "第 {image} 张，共 {images} 张",
    "progress.step": "第 {step} 步，共 {steps} 步",
    "progress.seconds_left": "大约还需 {seconds} 秒",
    "progress.minutes_left": "大约还需 {minutes} 分钟",
    "progress.unsure": "这可能不是您要的图片：请看“模型的理解”。",
    "progress.done": "用时 {seconds} 秒。种子 {seeds}",
    "progress.done_all": "用时 {seconds} 秒。各张种子 {seeds}",
    "progress.shown": "种子 {seed}，{width} x {height}，{steps} 步",
    "comma": "，",
    "stop_mark": "。",
    "note.mask_stretched": "蒙版（{mask}）与图片（{image}）形状不同，已被拉伸；"
    "如果改动的区域不对，请使用与图片同样大小的蒙版。",
    "note.controlnet_cropped": "ControlNet 图片（{image}）的形状与结果（{result}）不同，因此只使用中间部分。",
    "note.controlnet_left_out": "没有加载 ControlNet，因此去掉了 ControlNet 图片。",
    "note.few_steps": "“快速”对少于 {least} 步的生成没有作用，这次运行了 {steps} 步。",
    "note.nothing_said": "多模态模型没有给出回答，所以图片直接依照输入生成。",
    "note.size_snapped": "{name} 已从 {asked} 改为 {used}，即最接近的 {step} 的倍数。",
    "note.from_program": "这些设置来自 {program}。",
    "note.from_program_partly": "这些设置来自 {program}。这里不使用：{names}。",
    "note.scaled_down": "一张 {width} x {height} 像素的图片已缩小为 {new_width} x {new_height}。",
    "note.choices_filled": "填好选项后的提示词：{prompt}",
    "note.wildcard_missing": "通配符文件夹里没有列表 {name}，所以提示词在那里写作 “{used}”。",
    "note.lora_tagged": "已按权重 {weight} 使用提示词中的 LoRA {name}。",
    "note.lora_missing": "这台机器上没有 LoRA “{name}”，所以略去提示词中的这个标签。",
    "note.lora_too_many": "略去提示词中的 LoRA {name}；最多允许 {limit} 个。",
    "note.tag_left_out": "略去提示词中的 {tag}，它在这里没有意义。",
    "note.of_negative": "负面提示词：{note}",
    "note.signs_left_out": "提示词中的权重和步骤在这里不起作用，所以只使用其中的文字：{signs}",
    "note.long_prompt": "提示词有 {tokens} 个词元。模型训练时最多 {limit} 个，所以末尾可能被忽略：{end}",
    "note.size_fitted": "尺寸已从 {asked} 改为这里允许的 {used}。",
    "note.negative_left_out": "略去负面提示词，因为 {flux} 无法遵循：{negative}",
    "note.number_fitted": "{name} 已从 {asked} 改为这里允许的 {used}。",
    "note.prompt_cut": "提示词超过 {limit} 字节，末尾部分已省略：{left}",
    "note.settings_too_long": "设置太长，JPEG 文件放不下。要全部保留，请保存为 PNG 或 WebP。",
    "note.incomplete": "{modality} 文件不完整，使用其前 {seconds} 秒。",
    "note.silent_video": "不会使用视频的声音。如需使用，请把它添加为音频。",
    "note.cut_audio": "这段音频有 {seconds} 秒，这个模型只听前 {heard} 秒。",
    "note.heard": "模型直接听了这段音频，全部 {seconds} 秒。",
    "note.written_down": "{family} 听不到声音，所以由 Whisper 转成文字（{spoken}）：{said}",
    "note.lora_used": "LoRA {name}：改变了 FLUX 的 {count} 层。",
    "note.lora_text_encoders": "LoRA {name}：没有使用 CLIP 和 T5 的 {count} 个张量，因为 X2I 不含这两个模型。",
    "note.lora_embeddings": "LoRA {name}：没有使用为 CLIP 和 T5 训练的词（{count} 个张量），因为 X2I 不含这两个模型。",
    "note.lora_guidance": "LoRA {name}：没有使用引导层的 {count} 个张量，因为这个 FLUX 模型没有引导层。",
    "note.unknown": "这个模型不认识输入的一部分，或者做不到。" + _KNOWN,
    "note.unknown_terms": "这个模型不认识 {terms}，只画了它能理解的内容。" + _KNOWN,
    "note.unknown_language": "提示词似乎是这种语言：{spoken}，这个模型读不懂。" + _KNOWN,
    "note.guess": "这个模型不确定文件的内容，它的回答只是猜测。" + _KNOWN,
    "note.unknown_media": "这个模型在输入中没有找到它认识的东西。" + _KNOWN,
    # The queue
    "queue": "队列中还有 {count} 个",
    "queue.images": "{count} 张",
    "queue.fewer": "少生成一张",
    "queue.more": "多生成一张",
    "queue.up": "上移",
    "queue.down": "下移",
    "queue.edit": "取出并编辑",
    "queue.remove": "移除",
    "queue.kept": "应用重新启动前，您还有 {count} 个任务没有完成：",
    "queue.again": "重新排队",
    "queue.discard": "放弃",
    # Help with the prompt
    "prompts": "风格和灵感",
    "prompts.recent": "您之前的提示词",
    "prompts.recent_hint": "只保存在这个浏览器中。",
    "dice": "随机灵感",
    "dice.tiny": "{place}有一个{color}{thing}和一个{other}{second}，{time}",
    "dice.tiny_colors": "红色的|橙色的|黄色的|绿色的|蓝色的|紫色的|粉色的|白色的|棕色的|黑色的",
    "dice.tiny_things": "房子|树|汽车|船|气球|花|猫|鱼|星星|球|火箭|雨伞",
    "dice.tiny_places": "草地上|雪地上|沙滩上|海上|街道上",
    "dice.tiny_times": "白天|夜晚|日落|下雨|下雪",
    "dice.any": "{place}的{subject}，{manner}",
    "dice.any_subjects": "读书的狐狸|古老的灯塔|茶馆|机器人园丁|熟睡的龙|装满鲜花的自行车|两只跳舞的企鹅|小小的城堡|"
    "街头音乐家|热气球|图书馆|鲸鱼|山间小屋|集市摊位|有翅膀的鱼",
    "dice.any_places": "薄雾森林里|屋顶上|海底|沙漠中|雪山上|玻璃穹顶里|宁静湖边|狭窄老城里|云层之上|月球上|温室里|"
    "火车站里",
    "dice.any_manners": "柔和的晨光|星空之下|雨后|秋天的色彩|黄金时刻|月光下|浓雾中|长长的影子|明亮的春日阳光|飘雪",
    "style": "风格",
    "style.hint": "在当前标签页的提示词前后加上描述。x2i-tiny 不懂风格，更大的模型懂。",
    "style.remove": "去掉风格",
    "style.previews": "这个模型画出的各种风格（点击使用）",
    "style.draw": "为每种风格画一张预览",
    "style.drawn": "已画好 {number} / {count} 张预览。大家的图片优先。",
    "style.file": "您的风格（CSV、JSON）",
    "error.styles_large": "风格文件超过 {most} MB。请使用更小的文件。",
    "error.styles_form": "文件里没有风格。它必须是 A1111 的 CSV 或 JSON 列表，含 name、prompt 和 negative_prompt。",
    "style.photo": "照片",
    "style.portrait": "人像",
    "style.cinema": "电影画面",
    "style.analog": "胶片照片",
    "style.black_white": "黑白照片",
    "style.macro": "微距",
    "style.aerial": "俯瞰",
    "style.night": "夜景",
    "style.golden_hour": "黄金时刻",
    "style.neon": "霓虹",
    "style.watercolor": "水彩",
    "style.oil": "油画",
    "style.ink": "水墨",
    "style.pencil": "铅笔素描",
    "style.charcoal": "炭笔画",
    "style.line": "线描",
    "style.gouache": "水粉",
    "style.impression": "印象派",
    "style.woodcut": "木刻版画",
    "style.poster": "旅行海报",
    "style.comic": "漫画",
    "style.anime": "动漫",
    "style.storybook": "绘本",
    "style.pixel": "像素画",
    "style.low_poly": "低多边形",
    "style.clay": "黏土",
    "style.toy": "塑料玩具",
    "style.paper": "剪纸",
    "style.origami": "折纸",
    "style.felt": "毛毡",
    "style.glass": "彩色玻璃",
    "style.mosaic": "马赛克",
    "style.isometric": "等距视图",
    "style.blueprint": "蓝图",
    "style.sticker": "贴纸",
    "style.minimal": "极简",
    # A batch
    "batch": "批量提示词",
    "batch.hint": "每行输入一个提示词，或添加这样的文本文件，或含提示词和设置的 JSONL 文件。全部使用上面的设置。"
    "完成之前请保持页面打开。",
    "batch.prompts": "提示词，每行一个",
    "batch.file": "文本或 JSONL 文件",
    "batch.start": "全部生成",
    "batch.stop": "全部停止",
    "batch.progress": "第 {number} 个，共 {count} 个：{prompt}",
    "batch.done": "已完成 {count} 个提示词中的 {number} 个，共 {images} 张图片。",
    "batch.row": "第 {number} 个：{sentence}",
    "batch.noted": "其中 {count} 个有说明：",
    "batch.download": "下载 ZIP 文件",
    "error.no_prompts": "请至少输入一个提示词，或添加含提示词的文件。",
    "error.too_many_prompts": "有 {count} 个提示词，一次最多允许 {most} 个。请分批。",
    "error.batch_file_large": "提示词文件超过 {most} MB。请分批。",
    "error.batch_file_text": "提示词文件不是 UTF-8 文本。请保存为 UTF-8。",
    "error.batch_row": '文件的第 {number} 行必须是含 prompt 的 JSON 对象，例如 {{"prompt": "一座房子", "seed": 1}}。',
    "error.batch_field": "第 {number} 行有字段 {field}。允许的字段：{fields}。",
    # Actions under the result
    "seed.keep": "保留这个种子",
    "seed.new": "随机种子",
    "seed.kept": "恢复随机种子（现为 {seed}）",
    "result.download": "下载",
    "result.form": "下载图片的格式",
    "result.actual_size": "原始大小",
    "result.copy_image": "复制图片",
    "result.copy_prompt": "复制提示词",
    "more": "再来四张",
    "enlarge.2": "放大到 2 倍",
    "enlarge.4": "放大到 4 倍",
    "enlarge.running": "正在放大图片",
    "enlarge.redraw": "并轻微重绘",
    "enlarge.part": "正在重绘第 {number} 块，共 {count} 块",
    "use.image_text": "编辑这张图片",
    "use.image": "加到“图片”",
    "use.fusion": "加到“创意融合”",
    "original": "与原图对比",
    "original.hint": "左：原图。右：结果。",
    # Images of this session
    "history": "本次会话的图片",
    "history.hint": "您的图片会保留在这里，直到您关闭页面。",
    "history.search": "按提示词搜索",
    "history.favorites": "只看收藏",
    "history.favorite": "收藏（再点取消）",
    "history.delete": "删除这张图片",
    "history.delete_all": "删除全部图片",
    "history.keep": "关闭页面后保留我的图片",
    "history.kept": "这个浏览器最新的 {images} 张图片会保留 {hours} 小时，只要所有浏览器的图片总共不超过 {size} GB；"
    "排队的任务也会保留。空间不够时最后才删除收藏。别人看不到它们。",
    "history.reuse": "使用这些设置",
    "history.download": "全部下载",
    "history.compare": "对比最近选中的两张图片",
    # Errors
    "failed": "出错了",
    "file.wrong": "{files} 不能用在这里。请添加{kinds}，或换一个标签页。",
    "file.large": "{files} 超过 {most}。请使用更小或更短的文件。",
    "file.image": "图片（PNG、JPEG、WebP、GIF、HEIC、AVIF）",
    "file.video": "视频（MP4、WebM、MOV）",
    "file.audio": "音频（WAV、MP3、FLAC、OGG）",
    "file.or": "或",
    "error.no_job": "没有这个任务。",
    "error.no_image_in_tab": "请先在某个标签页中添加图片，再匹配它的形状。",
    "error.no_result": "还没有图片。请先生成一张。",
    "error.too_many_turns": "对话有 {turns} 轮，最多允许 {most} 轮。请重新开始。",
    "error.too_many_loras": "最多同时使用 {count} 个 LoRA。请先移除一个。",
    "error.listed_models_only": "请从列表中选择模型。文件夹、文件和 Hugging Face 名称只能在启动应用时设置。",
    "error.no_switch": "不能从浏览器更换模型。如需允许，请用 --switch yes 启动应用。",
    "error.internal": "发生了内部错误。应用的日志中有详细信息。",
    "error.disk_full": "磁盘已满，无法写入文件。请稍后再试，或告知应用的所有者。",
    "error.not_saved": "图片已生成，但无法写入（{reason}）。请腾出磁盘空间，然后重新加载页面。",
    "error.image_link": "图片是一个链接。请上传文件本身。",
    "error.strange_value": "页面发送了不允许的值。请重新加载页面后再试。",
}

# Texts of Gradio's own, by its keys, that it has not translated and that this page shows.
GRADIO = {
    "audio.recording_error": "无法开始录音。",
    "common.complete": "完成",
    "common.download_all": "全部下载",
    "common.progress": "进度",
    "upload_text.drop_gallery": "把图片拖放到这里",
}

# What Gradio says to screen readers in English everywhere; the page's own script replaces it. {} is what it names.
GRADIO_LABELS = {
    "Adjust playback speed to {}": "播放速度调到 {}",
    "Adjust volume": "调节音量",
    "Capture from camera": "拍照",
    "Clear": "清除",
    "Click to upload or drop files": "点击上传或拖放文件",
    "Close": "关闭",
    "Delete image": "删除图片",
    "Download": "下载",
    "Empty value": "还没有内容",
    "File thumbnail": "文件缩略图",
    "Fullscreen": "全屏",
    "Exit fullscreen mode": "退出全屏",
    "Gradio footer navigation": "页脚",
    "Multimedia input field": "文字和文件",
    "Paste from clipboard": "从剪贴板粘贴",
    "Record audio": "录音",
    "Remove Image": "移除图片",
    "Remove file": "移除文件",
    "Reset audio": "还原音频",
    "Reset to default value": "恢复默认值",
    "Reset video to initial value": "还原视频",
    "Skip backwards by {} seconds": "后退 {} 秒",
    "Skip forward by {} seconds": "前进 {} 秒",
    "Thumbnail {} of {}": "缩略图 {} / {}",
    "Trim audio to selection": "截取选中的音频",
    "Trim video to selection": "截取选中的视频",
    "Upload a file": "上传一个文件",
    "Upload file": "上传文件",
    "Uploaded files": "已上传的文件",
    "full-screen": "全屏",
    "number input for {}": "{}：输入数值",
    "play-pause-replay-button": "播放或暂停",
    "range slider for {}": "{}：滑块",
    "undo": "撤销",
}

# What the layers below the page say in English: each template as it stands in the code, its values numbered, and its
# translation. tests/ui/test_sentences.py says which are missing.
SENTENCES = {
    "There is no template {0}; choose {1}.": "没有模板 {0}；请选择 {1}。",
    "padding is {0} and reason is {1}; padding must be padded, compact or None, and reason true or false.": (
        "padding 为 {0}，reason 为 {1}；padding 必须是 padded、compact 或 None，reason 必须是 true 或 false。"
    ),
    "No speech was found in the audio, and {0} can only use the text that is spoken; presets that support any "
    "audio: {1}.": "音频中没有找到语音，而 {0} 只能使用说出的文字；支持任何音频的预设：{1}。",
    "{0} does not support {1}, only {2}; presets that do: {3}.": "{0} 不支持{1}，只支持{2}；支持的预设：{3}。",
    "{0} contains a model of type {1}, not internvl2.5.": "{0} 里的模型类型是 {1}，不是 internvl2.5。",
    "The language model of {0} is {1}; only 'Qwen2ForCausalLM' is supported, so choose the 1B or 4B.": (
        "{0} 的语言模型是 {1}；只支持 'Qwen2ForCausalLM'，请选择 1B 或 4B。"
    ),
    "{0} has no *.safetensors; use the complete model.": "{0} 没有 *.safetensors；请使用完整的模型。",
    "{0} has embeddings for {1} tokens, but its tokenizer has ids up to {2}; use both from the same model.": (
        "{0} 的嵌入有 {1} 个词元，但它的分词器编号到 {2}；请使用同一个模型的两者。"
    ),
    "{0} has no tokenizer with {1}; use the complete model, with vocab.json, merges.txt, added_tokens.json and "
    "tokenizer_config.json.": (
        "{0} 没有含 {1} 的分词器；请使用完整的模型，包括 vocab.json、merges.txt、added_tokens.json 和 "
        "tokenizer_config.json。"
    ),
    "{0} has no readable config.json of internvl2.5 ({1}); choose a folder with an internvl2.5 model in "
    "OpenGVLab's own format.": (
        "{0} 没有可读的 internvl2.5 config.json（{1}）；请选择含 OpenGVLab 原始格式 internvl2.5 模型的文件夹。"
    ),
    "{0} of {1} is {2}; expected {3}, so choose an InternVL 2.5.": (
        "{1} 的 {0} 是 {2}，应为 {3}；请选择 InternVL 2.5。"
    ),
    "{0} has a damaged tokenizer; download it again.": "{0} 的分词器已损坏；请重新下载。",
    "{0} of {1} is damaged; download it again.": "{1} 的 {0} 已损坏；请重新下载。",
    "{0} has {1} in both {2} and {3}; delete one.": "{0} 的 {1} 同时在 {2} 和 {3} 中；请删除其中一个。",
    "The tokenizer of {0} has no {1}; use the complete model.": "{0} 的分词器没有 {1}；请使用完整的模型。",
    "{0} contains a model of type {1}, not minicpm-o.": "{0} 里的模型类型是 {1}，不是 minicpm-o。",
    "{0} has no readable config.json of minicpm-o ({1}); choose a folder with a minicpm-o model.": (
        "{0} 没有可读的 minicpm-o config.json（{1}）；请选择含 minicpm-o 模型的文件夹。"
    ),
    "{0} has no readable tokenizer or preprocessor_config.json ({1}); use the complete model.": (
        "{0} 没有可读的分词器或 preprocessor_config.json（{1}）；请使用完整的模型。"
    ),
    "The processor of {0} produces {1} {2}; the model expects {3}, so use both from the same model.": (
        "{0} 的处理器产生 {1} {2}，模型需要 {3}；请使用同一个模型的两者。"
    ),
    "The audio lasts {0} ms, which is too short for MiniCPM-o; use one of at least {1} ms.": (
        "音频只有 {0} 毫秒，对 MiniCPM-o 来说太短；请使用至少 {1} 毫秒的音频。"
    ),
    "{0} has {1} layers of width {2}; expected {3} of width {4}, so choose the matching preset.": (
        "{0} 有 {1} 层，宽度 {2}；应为 {3} 层，宽度 {4}；请选择匹配的预设。"
    ),
    "{0} contains a model of type {1}, not {2}.": "{0} 里的模型类型是 {1}，不是 {2}。",
    "{0} has no readable config.json of {1} ({2}); choose a folder with a {3} model.": (
        "{0} 没有可读的 {1} config.json（{2}）；请选择含 {3} 模型的文件夹。"
    ),
    "{0} has no readable {1} processor: {2}": "{0} 没有可读的 {1} 处理器：{2}",
    "The text contains {0}, which the MLLM reserves for itself; remove it.": (
        "文字中含有 {0}，它是多模态模型的保留字；请删除它。"
    ),
    "generation_config.json of {0} cannot be read: {1}": "无法读取 {0} 的 generation_config.json：{1}",
    "The {0} is {1} x {2} pixels; this MLLM accepts aspect ratios up to {3} : 1, so crop it.": (
        "{0}是 {1} x {2} 像素；这个模型接受的宽高比最大为 {3} : 1，请裁剪。"
    ),
    "{0} has no {1}, which is needed to answer; use the complete model, or turn reasoning off.": (
        "{0} 没有 {1}，而回答时需要它；请使用完整的模型，或关闭“先回答”。"
    ),
    "{0} lacks {1} weights, such as {2}; use the complete model.": (
        "{0} 缺少 {1} 个权重，例如 {2}；请使用完整的模型。"
    ),
    "{0} has {1} weights that are unknown to {2}, such as {3}; choose a {4} model.": (
        "{0} 有 {1} 个 {2} 不认识的权重，例如 {3}；请选择 {4} 模型。"
    ),
    "{0} is quantized by {1}, which cannot be read here; use the original model, which the memory profiles "
    "quantize to 4 bit, or one that bitsandbytes quantized.": (
        "{0} 由 {1} 量化，这里无法读取；请使用原始模型（内存方案会把它量化为 4 位），或由 bitsandbytes 量化的模型。"
    ),
    "{0} cannot be loaded as {1}: {2}": "无法把 {0} 作为 {1} 加载：{2}",
    "{0} of {1} has shape {2}; expected {3}.": "{1} 的 {0} 形状为 {2}，应为 {3}。",
    "{0} because of an internal error ({1}); see the log for details.": "{0}：发生了内部错误（{1}）；详情见日志。",
    "This FLUX model can only fill parts of an image; add an image with a mask, or extend an image.": (
        "这个 FLUX 模型只能填充图片的一部分；请添加带蒙版的图片，或扩展图片。"
    ),
    "{0} is {1}; it must be a number, {2}.": "{0} 为 {1}；它必须是数字，{2}。",
    "{0} is {1}; it must be {2}.": "{0} 为 {1}；它必须是 {2}。",
    "{0} is {1}; it must be a whole number, {2}.": "{0} 为 {1}；它必须是整数，{2}。",
    "profile is {0}; choose one of {1}.": "内存方案为 {0}；请从 {1} 中选择。",
    "{0} is a FLUX model that needs another image besides the prompt, as Depth and Canny do; load it with "
    "loading.load_transformer and give it to drawing_pipeline, or choose a text-to-image model, or FLUX.1 Fill.": (
        "{0} 是除提示词外还需要另一张图片的 FLUX 模型（如 Depth 和 Canny）；请用 loading.load_transformer 加载并"
        "交给 drawing_pipeline，或选择文生图模型或 FLUX.1 Fill。"
    ),
    "device is {0}, which does not work here ({1}); try cpu.": "设备为 {0}，在这里不可用（{1}）；请试试 cpu。",
    "{0}: conv.weight has a kernel of {1}; expected an odd number.": (
        "{0}：conv.weight 的卷积核大小为 {1}，应为奇数。"
    ),
    "{0} holds no dictionary of named tensors; use the released file.": (
        "{0} 不含带名称的张量字典；请使用发布的文件。"
    ),
    "{0} has compressed entries ({1}); save it with torch.save.": "{0} 含有压缩的条目（{1}）；请用 torch.save 保存。",
    "{0} has {1} bytes but its entries claim {2}; save it with torch.save.": (
        "{0} 有 {1} 字节，但其条目声称 {2}；请用 torch.save 保存。"
    ),
    "{0} has {1} bytes but its weights claim {2}: some share memory; save each whole.": (
        "{0} 有 {1} 字节，但其权重声称 {2}：有些共用内存；请分别完整保存。"
    ),
    "{0} lacks {1} {2}; use a file made for this model.": "{0} 缺少 {1} {2}；请使用为这个模型制作的文件。",
    "{0} has {1}, which this model does not have; use a file made for it.": (
        "{0} 含有这个模型没有的 {1}；请使用为它制作的文件。"
    ),
    "{0}: {1} is {2}, expected an ordinary tensor; save it again.": "{0}：{1} 是 {2}，应为普通张量；请重新保存。",
    "{0}: {1} repeats one number instead of storing each; save it whole.": (
        "{0}：{1} 重复同一个数而没有逐个保存；请完整保存。"
    ),
    "{0}: {1} has numbers that are not finite (NaN or infinite); train it again.": (
        "{0}：{1} 含有非有限的数（NaN 或无穷大）；请重新训练。"
    ),
    "{0} beside {1} is no dictionary of names and values; save it again, or remove it.": (
        "{1} 旁边的 {0} 不是名称和值的字典；请重新保存或删除它。"
    ),
    "{0} lacks {1}, or its shape is wrong; this is not an AlignNet.": "{0} 缺少 {1} 或其形状不对；这不是 AlignNet。",
    "{0} has sizes that no LightControl has ({1}); use the original.": (
        "{0} 的尺寸不属于任何 LightControl（{1}）；请使用原始文件。"
    ),
    "{0} lacks {1}, or its shape is wrong; this is no LightControl.": (
        "{0} 缺少 {1} 或其形状不对；这不是 LightControl。"
    ),
    "{0} has {1} twice, with different prefixes; keep one.": "{0} 里 {1} 以不同前缀出现两次；请保留一个。",
    "{0} is cut or damaged ({1}); download it again.": "{0} 不完整或已损坏（{1}）；请重新下载。",
    "{0} is damaged or holds more than tensors, and was not opened ({1}); use the released file.": (
        "{0} 已损坏，或不只含张量，因此没有打开（{1}）；请使用发布的文件。"
    ),
    "{0} has a weight with the key {1}, which is no text; use the original.": (
        "{0} 有一个权重的键是 {1}，不是文字；请使用原始文件。"
    ),
    "{0}: {1} is {2}, expected floating point numbers.": "{0}：{1} 是 {2}，应为浮点数。",
    "{0}: {1} has the shape {2}, expected {3}; use the matching file.": (
        "{0}：{1} 的形状是 {2}，应为 {3}；请使用匹配的文件。"
    ),
    "{0} beside {1} is not valid JSON ({2}); save it again.": "{1} 旁边的 {0} 不是有效的 JSON（{2}）；请重新保存。",
    "{0} says {1} is {2}, but {3} was made for {4}; keep the two files of one model together.": (
        "{0} 说 {1} 是 {2}，但 {3} 是为 {4} 制作的；请把同一个模型的两个文件放在一起。"
    ),
    "There is no file {0}; check the path.": "没有文件 {0}；请检查路径。",
    "{0} is no weights file; {1} can be read.": "{0} 不是权重文件；可以读取 {1}。",
    "{0} is empty; download it again.": "{0} 是空的；请重新下载。",
    "{0} is only a Git LFS pointer to the weights; fetch it with `git lfs pull`.": (
        "{0} 只是指向权重的 Git LFS 指针；请用 `git lfs pull` 获取。"
    ),
    "{0} is a web page instead of weights; download the file itself.": "{0} 是网页而不是权重；请下载文件本身。",
    "{0} has a header of {1} bytes and {2} are allowed; use the original file.": (
        "{0} 的文件头有 {1} 字节，最多允许 {2}；请使用原始文件。"
    ),
    "{0} is missing from {1}; download the complete model.": "{1} 缺少 {0}；请下载完整的模型。",
    "{0} of {1} is cut or damaged ({2}); download it again.": "{1} 的 {0} 不完整或已损坏（{2}）；请重新下载。",
    "{0}/{1} says {2} is {3}; at most {4} are allowed; download the original model again.": (
        "{0}/{1} 说 {2} 是 {3}，最多允许 {4}；请重新下载原始模型。"
    ),
    "The transformer of {0} has no .safetensors file; download the complete model.": (
        "{0} 的 transformer 没有 .safetensors 文件；请下载完整的模型。"
    ),
    "{0} {1} {2} weights, among them {3}; use the complete, original model.": (
        "{0} {1} {2} 个权重，其中有 {3}；请使用完整的原始模型。"
    ),
    "{0} is of the class {1}; FLUX.1 has {2}.": "{0} 的类是 {1}；FLUX.1 的是 {2}。",
    "{0} cannot be loaded as a FLUX.1 model in diffusers layout: {1}": (
        "无法把 {0} 作为 diffusers 布局的 FLUX.1 模型加载：{1}"
    ),
    "{0} has attention heads of {1} channels; its base model has {2}.": (
        "{0} 的注意力头有 {1} 个通道；它的基础模型有 {2}。"
    ),
    "{0} has neither img_in nor x_embedder; this is no FLUX.1 transformer.": (
        "{0} 既没有 img_in 也没有 x_embedder；这不是 FLUX.1 transformer。"
    ),
    "{0} has {1}, which no FLUX.1 transformer has; {2}.": "{0} 含有 FLUX.1 transformer 所没有的 {1}；{2}。",
    "{0}: {1} has {2} rows; expected 3 times {3} or more.": "{0}：{1} 有 {2} 行，应为 {3} 的 3 倍或更多。",
    "{0} has sizes that make no FLUX.1 transformer ({1}).": "{0} 的尺寸不能构成 FLUX.1 transformer（{1}）。",
    "{0} lacks {1}, or its shape is wrong; this is no FLUX.1 transformer.": (
        "{0} 缺少 {1} 或其形状不对；这不是 FLUX.1 transformer。"
    ),
    "There is no file {0}; a hub file's path has no '..' in it.": "没有文件 {0}；hub 文件的路径中没有 '..'。",
    "{0} is {1} to download, and the disk of the hub's cache has {2} free; make room, or set HF_HOME to a folder "
    "on another disk.": (
        "{0} 需要下载 {1}，而 hub 缓存所在的磁盘只剩 {2}；请腾出空间，或把 HF_HOME 设为另一个磁盘上的文件夹。"
    ),
    "{0} was damaged while its download was interrupted, and is removed; try again.": (
        "{0} 因下载中断而损坏，已被删除；请重试。"
    ),
    "There is no {0} {1}; give {2}.": "没有{0} {1}；请给出 {2}。",
    "{0} has no {1} on the hub; check the name.": "hub 上的 {0} 没有 {1}；请检查名称。",
    "{0} is not in the hub cache and cannot be downloaded: {1}.": "{0} 不在 hub 缓存中，也无法下载：{1}。",
    "There is no revision {0} in {1}; name a commit, a branch or a tag as in owner/name@main.": (
        "{1} 中的修订版 {0} 不存在；请指定提交、分支或标签，例如 owner/name@main。"
    ),
    "{0} is named without a commit, which {1} forbids; name one, as {2}@COMMIT with its 40 letters and digits, or give "
    "a local folder or file.": (
        "{0} 没有指定提交，而 {1} 不允许这样；请用 40 个字母和数字指定一个，例如 {2}@COMMIT，或给出本地文件夹或文件。"
    ),
    "There is no LoRA {0}; check its path.": "没有 LoRA {0}；请检查路径。",
    "{0} has {1} .safetensors files ({2}); name the one to use, as in {3}:FILE.": (
        "{0} 有 {1} 个 .safetensors 文件（{2}）；请指明要用哪一个，例如 {3}:FILE。"
    ),
    "{0} is no .safetensors file; other files may hold code; convert it first.": (
        "{0} 不是 .safetensors 文件；其他文件可能含有代码；请先转换。"
    ),
    "{0} has {1} tensors and {2} are allowed; use a LoRA for FLUX.1.": (
        "{0} 有 {1} 个张量，最多允许 {2}；请使用 FLUX.1 的 LoRA。"
    ),
    "{0} has {1}, which fits no layer of this FLUX model; use a LoRA made for it.": (
        "{0} 含有 {1}，它不适合这个 FLUX 模型的任何层；请使用为它制作的 LoRA。"
    ),
    "{0} cannot be opened; check its permissions.": "无法打开 {0}；请检查权限。",
    "{0} holds nothing for FLUX's transformer; use a LoRA for FLUX.1.": (
        "{0} 不含用于 FLUX transformer 的内容；请使用 FLUX.1 的 LoRA。"
    ),
    "{0}: {1} lacks the other matrices of its layer; download it again.": (
        "{0}：{1} 缺少同一层的其他矩阵；请重新下载。"
    ),
    "{0} has {1} without a matrix; train it again.": "{0} 的 {1} 没有矩阵；请重新训练。",
    "{0}: {1} has the shape {2}, expected two sizes; use a LoRA for FLUX.": (
        "{0}：{1} 的形状是 {2}，应有两个尺寸；请使用 FLUX 的 LoRA。"
    ),
    "{0}: {1} has the rank {2} and {3} is allowed; train it again with a smaller rank.": (
        "{0}：{1} 的秩是 {2}，最多允许 {3}；请用更小的秩重新训练。"
    ),
    "{0}: {1} has the rank {2} and {3} the rank {4}; they must be equal; use a LoRA made for this FLUX model.": (
        "{0}：{1} 的秩是 {2}，{3} 的秩是 {4}，两者必须相等；请使用为这个 FLUX 模型制作的 LoRA。"
    ),
    "{0}: {1} changes a layer of the shape {2}, and this FLUX model's has {3}; use a LoRA made for this FLUX "
    "model.": "{0}：{1} 改变的层形状是 {2}，而这个 FLUX 模型的是 {3}；请使用为这个 FLUX 模型制作的 LoRA。",
    "{0}: {1} has numbers of the type {2}; floating point numbers of 32, 16 or 8 bit can be read.": (
        "{0}：{1} 的数字类型是 {2}；可以读取 32、16 或 8 位浮点数。"
    ),
    "{0}: {1} must be one number above 0; train it again.": "{0}：{1} 必须是一个大于 0 的数；请重新训练。",
    "{0}: {1} has values that are not finite numbers; train it again.": "{0}：{1} 含有非有限的数；请重新训练。",
    "{0} is {1} (it has {2}), which cannot be read; use a LoRA, LoKr, LoHa or DoRA.": (
        "{0} 是 {1}（含有 {2}），无法读取；请使用 LoRA、LoKr、LoHa 或 DoRA。"
    ),
    "The configuration in the LoRA's metadata is damaged ({0}); save it again.": (
        "LoRA 元数据中的配置已损坏（{0}）；请重新保存。"
    ),
    "{0} has {1} and {2} for one layer; keep one.": "{0} 的同一层有 {1} 和 {2}；请保留一个。",
    "{0} has {1} for a norm, which cannot be used; remove it.": "{0} 有用于归一化层的 {1}，无法使用；请删除它。",
    "profile is {0}, for which loading takes {1} GiB of the computer's memory, and {2} are free; {3}.": (
        "内存方案为 {0}，加载需要 {1} GiB 内存，而可用 {2}；{3}。"
    ),
    "The memory of {0} is too small to {1} at {2} x {3} with the profile {4}; try {5}.": (
        "{0} 的内存太小，无法用方案 {4} 在 {2} x {3} 下{1}；请试试 {5}。"
    ),
    "profile is {0}, which needs {1} GiB, and {2} GiB are free on {3}; {4}.": (
        "内存方案为 {0}，需要 {1} GiB，而 {3} 上可用 {2} GiB；{4}。"
    ),
    "profile is {0}, which needs a CUDA or XPU card, or a CPU, and device is {1}; choose full.": (
        "内存方案为 {0}，需要 CUDA 或 XPU 显卡，或 CPU，而设备是 {1}；请选择 full。"
    ),
    "The sizes of {0} are not known; give its folder as `mllm`.": "{0} 的尺寸未知；请用 `mllm` 给出它的文件夹。",
    "{0} contains no language model; its memory cannot be planned.": "{0} 不含语言模型；无法规划它的内存。",
    "{0} came without {1}; give the folders of both.": "{0} 没有 {1}；请给出两者的文件夹。",
    "{0} is {1}, whose sizes are not known before it is downloaded; give a folder, or a name of the registry.": (
        "{0} 是 {1}，下载之前尺寸未知；请给出文件夹，或登记的名称。"
    ),
    "The sizes of the vae of {0} make no VAE of FLUX.1 ({1}).": "{0} 的 vae 尺寸不能构成 FLUX.1 的 VAE（{1}）。",
    "{0} has no readable {1}/config.json; give a FLUX.1 model in diffusers layout.": (
        "{0} 没有可读的 {1}/config.json；请给出 diffusers 布局的 FLUX.1 模型。"
    ),
    "{0} has no {1}, and none of its files fits {2}; it has {3}; give the right one as `alignnet`, e.g. {4}/FILE.": (
        "{0} 没有 {1}，其文件也都不适合 {2}；它有 {3}；请用 `alignnet` 指定正确的文件，例如 {4}/FILE。"
    ),
    "preset is {0}; give a name.": "预设为 {0}；请给出名称。",
    "{0} came without {1}; give all of mllm, flux and alignnet.": (
        "{0} 没有 {1}；请给出 mllm、flux 和 alignnet 全部三者。"
    ),
    "{0} is unpacked once, which needs {1} of disk, and the disk of the hub's cache has {2} free; make room, or set "
    "HF_HOME to a folder on another disk.": (
        "{0} 需要解包一次，占用 {1} 磁盘空间，而模型缓存所在磁盘只剩 {2}；"
        "请腾出空间，或把 HF_HOME 设为其他磁盘上的文件夹。"
    ),
    "{0} cannot be unpacked into {1} ({2}); make room, or set HF_HOME to a folder on another disk.": (
        "{0} 无法解包到 {1}（{2}）；请腾出空间，或把 HF_HOME 设为其他磁盘上的文件夹。"
    ),
    "{0} names {1}, which no MLLM needs, and was not opened; download it again from where its authors released it.": (
        "{0} 引用了 {1}，任何多模态大模型都不需要它，因此没有打开；请从作者发布处重新下载。"
    ),
    "{0} has {1} bytes but its weights claim {2}; use the released file.": (
        "{0} 只有 {1} 字节，但其权重声称有 {2} 字节；请使用发布的文件。"
    ),
    "The tokenizer of {0} is missing; download the file again.": "{0} 缺少分词器；请重新下载该文件。",
    "Unpacking {0}: {1} of {2}": "正在解包 {0}：{1} / {2}",
    "{0} is one file, and an MLLM needs its configuration, tokenizer and vision tower too; give the folder or "
    "the hub id of the model, such as Qwen/Qwen2.5-VL-3B-Instruct.": (
        "{0} 是单个文件，而多模态模型还需要配置、分词器和视觉部分；请给出模型的文件夹或 hub 名称，例如 "
        "Qwen/Qwen2.5-VL-3B-Instruct。"
    ),
    "No AlignNet is released for {0}; train your own, and give it as `alignnet`.": (
        "{0} 没有发布的 AlignNet；请自行训练，并用 `alignnet` 指定。"
    ),
    "{0} is not the file it was when first loaded: its SHA-256 is {1}..., and was {2}...; if you trust the new "
    "one, remove its entry from {3}.": (
        "{0} 已不是首次加载时的文件：它的 SHA-256 是 {1}...，原来是 {2}...；如果您信任新文件，请从 {3} 中删除它的条目。"
    ),
    "{0} is {1}; give a name or a path.": "{0} 为 {1}；请给出名称或路径。",
    "{0} cannot be read; correct it, or remove it to start again.": "无法读取 {0}；请改正，或删除它重新开始。",
    "There is no upscaler {0}; the upscalers here: {1}.": "没有放大器 {0}；这里的放大器：{1}。",
    "{0} is no upscaler for color images; use another file.": "{0} 不是彩色图片的放大器；请使用其他文件。",
    "scale is {0}; it must be {1}.": "放大倍数为 {0}；它必须是 {1}。",
    "{0} x {1} enlarged {2} times is {3} x {4}; up to {5} pixels and {6} on a side are allowed, so take a "
    "smaller image.": "{0} x {1} 放大 {2} 倍是 {3} x {4}；最多允许 {5} 像素、每边 {6}，请使用更小的图片。",
    "{0} is no upscaler of a known kind; use the file as it was released.": (
        "{0} 不是已知种类的放大器；请使用发布的原始文件。"
    ),
    "{0} is damaged or incomplete; download it again.": "{0} 已损坏或不完整；请重新下载。",
    "{0} is in the form of {1} (it has {2}), which cannot be read; {3}.": (
        "{0} 是 {1} 格式（含有 {2}），无法读取；{3}。"
    ),
    "{0}: {1} has numbers that are not finite (NaN or infinite); download the model again.": (
        "{0}：{1} 含有非有限的数（NaN 或无穷大）；请重新下载模型。"
    ),
    "{0}: {1} is damaged; download the model again.": "{0}：{1} 已损坏；请重新下载模型。",
    "{0}: the scale of {1} has the shape {2}; expected one number for each row.": (
        "{0}：{1} 的缩放形状是 {2}，应为每行一个数。"
    ),
    "{0} is a GGUF file of {1}, not of FLUX.1; use another file.": (
        "{0} 是 {1} 的 GGUF 文件，不是 FLUX.1 的；请使用其他文件。"
    ),
    "{0}: the 4-bit weight {1} is damaged ({2}); download the model again.": (
        "{0}：4 位权重 {1} 已损坏（{2}）；请重新下载模型。"
    ),
    "{0} is quantized in a form that cannot be read ({1} is {2}); {3}.": (
        "{0} 的量化形式无法读取（{1} 为 {2}）；{3}。"
    ),
    "The audio is {0}; it must be a file or a pair (samples, sampling rate in Hz).": (
        "音频为 {0}；它必须是文件，或一对（采样，采样率 Hz）。"
    ),
    "{0} is {1}; it must be a whole number of Hz, {2} to {3}.": "{0} 为 {1}；它必须是 {2} 到 {3} 的整数 Hz。",
    "{0} is an array of shape {1}; it must be (N,) or (N, channels), with up to {2} channels.": (
        "{0} 是形状为 {1} 的数组；它必须是 (N,) 或 (N, 声道)，最多 {2} 个声道。"
    ),
    "{0} is an array of {1}; it must be floats from -1 to 1, or int16.": (
        "{0} 是 {1} 数组；它必须是 -1 到 1 的浮点数，或 int16。"
    ),
    "{0} has rows of different lengths; it must be an array (N,) or (N, channels).": (
        "{0} 的行长度不同；它必须是数组 (N,) 或 (N, 声道)。"
    ),
    "{0} has floats outside -1 to 1; scale them, or use int16.": (
        "{0} 含有 -1 到 1 之外的浮点数；请缩放，或使用 int16。"
    ),
    "{0} takes longer than {1} s to read; use shorter audio.": "读取 {0} 需要超过 {1} 秒；请使用更短的音频。",
    "{0} has samples that are not finite (NaN or infinite); export it again.": (
        "{0} 含有非有限的采样（NaN 或无穷大）；请重新导出。"
    ),
    "{0} has no samples; use audio with a duration above 0.": "{0} 没有采样；请使用时长大于 0 的音频。",
    "{0} is damaged or cannot be decoded; convert it to WAV.": "{0} 已损坏或无法解码；请转换为 WAV。",
    "All files of the request together have more than {0} {1}; use fewer or smaller ones.": (
        "这次请求的全部文件合计超过 {0} {1}；请使用更少或更小的文件。"
    ),
    "All files of the request together take longer than {0} s to read; use fewer or smaller ones.": (
        "读取这次请求的全部文件需要超过 {0} 秒；请使用更少或更小的文件。"
    ),
    "The job was stopped while its files were read; start it again.": "读取文件时任务被停止；请重新开始。",
    "{0} is a {1} file; use a video or an audio file instead.": "{0} 是 {1} 文件；请改用视频或音频文件。",
    "{0} cannot be decoded; it may be damaged, so convert it to MP4 or WAV.": (
        "无法解码 {0}；它可能已损坏，请转换为 MP4 或 WAV。"
    ),
    "{0} decodes to more than {1} bytes; use a shorter or smaller one.": (
        "{0} 解码后超过 {1} 字节；请使用更短或更小的文件。"
    ),
    "{0} needs more than {1} GB or {2} s to read; use a shorter or smaller one.": (
        "读取 {0} 需要超过 {1} GB 或 {2} 秒；请使用更短或更小的文件。"
    ),
    "The {0} stream of {1} is empty or damaged; choose another file.": "{1} 的{0}流是空的或已损坏；请选择其他文件。",
    "{0} has no {1} stream; choose another file.": "{0} 没有{1}流；请选择其他文件。",
    "{0} is a Dolby Vision video of profile {1}, whose colors ffmpeg cannot read; export it as HDR10, HLG or SDR.": (
        "{0} 是杜比视界 Profile {1} 视频，ffmpeg 无法读取其颜色；请导出为 HDR10、HLG 或 SDR。"
    ),
    "{0} stores its pixels in a form that cannot be read; save it as PNG.": (
        "{0} 的像素存储形式无法读取；请另存为 PNG。"
    ),
    "{0} is damaged or incomplete; choose an undamaged copy.": "{0} 已损坏或不完整；请选择完好的副本。",
    "{0} cannot be read as {1}; it may be damaged, so convert it to {2}.": (
        "无法把 {0} 读取为 {1}；它可能已损坏，请转换为 {2}。"
    ),
    "A temporary file cannot be written ({0}); free some disk space.": "无法写入临时文件（{0}）；请腾出磁盘空间。",
    "{0} takes longer than {1} s to read; use a shorter or smaller one.": (
        "读取 {0} 需要超过 {1} 秒；请使用更短或更小的文件。"
    ),
    "ffmpeg cannot be started; reinstall imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE to a working ffmpeg.": (
        "无法启动 ffmpeg；请重新安装 imageio-ffmpeg，或把 IMAGEIO_FFMPEG_EXE 设为可用的 ffmpeg。"
    ),
    "{0} is {1}; use {2} instead.": "{0} 是{1}；请改用{2}。",
    "{0} is {1} {2}; use {3} instead.": "{0} 是{1}{2}；请改用{3}。",
    "{0} lasts {1} s; up to {2} s are allowed, so cut out a part of it.": (
        "{0} 长 {1} 秒；最多允许 {2} 秒，请截取其中一部分。"
    ),
    "{0} is {1} x {2} pixels; an image needs at least one pixel.": "{0} 是 {1} x {2} 像素；图片至少需要一个像素。",
    "{0} is {1} x {2} pixels; up to {3} per side are allowed, so scale it down.": (
        "{0} 是 {1} x {2} 像素；每边最多允许 {3}，请缩小。"
    ),
    "{0} is {1} x {2} pixels; up to {3} pixels are allowed, so scale it down.": (
        "{0} 是 {1} x {2} 像素；最多允许 {3} 像素，请缩小。"
    ),
    "{0} is a folder; choose one file.": "{0} 是文件夹；请选择一个文件。",
    "{0} is not a regular file; choose a regular file.": "{0} 不是普通文件；请选择普通文件。",
    "{0} is empty (0 bytes); choose another file.": "{0} 是空的（0 字节）；请选择其他文件。",
    "{0} has {1} bytes; up to {2} are allowed, so use a smaller file.": (
        "{0} 有 {1} 字节；最多允许 {2}，请使用更小的文件。"
    ),
    "There is no file called {0}; check its path.": "没有名为 {0} 的文件；请检查路径。",
    "{0} cannot be opened ({1}); check its path and permissions.": "无法打开 {0}（{1}）；请检查路径和权限。",
    "{0} cannot be opened ({1}); check its permissions.": "无法打开 {0}（{1}）；请检查权限。",
    "{0} cannot be read; check its path and permissions.": "无法读取 {0}；请检查路径和权限。",
    "{0} is {1}; it must be a file, a PIL image or an array.": "{0} 为 {1}；它必须是文件、PIL 图片或数组。",
    "{0} is an array of shape {1}; it must be (H, W), (H, W, 3) or (H, W, 4).": (
        "{0} 是形状为 {1} 的数组；它必须是 (H, W)、(H, W, 3) 或 (H, W, 4)。"
    ),
    "{0} is an array of {1}; it must be uint8, or floats from 0 to 1.": (
        "{0} 是 {1} 数组；它必须是 uint8，或 0 到 1 的浮点数。"
    ),
    "{0} needs too much memory to read; use a smaller one.": "读取 {0} 需要的内存太多；请使用更小的文件。",
    "{0} has floats outside 0 to 1; scale them, or use uint8.": (
        "{0} 含有 0 到 1 之外的浮点数；请缩放，或使用 uint8。"
    ),
    "The margins are {0}; each must be a whole number of pixels, 0 or more.": (
        "边距为 {0}；每个都必须是 0 或更大的整数像素。"
    ),
    "All margins are 0, so the image is not extended; set at least one.": (
        "所有边距都是 0，图片不会扩展；请至少设置一个。"
    ),
    "The inverted mask is black everywhere, so nothing would change; leave part of the mask unpainted.": (
        "反转后的蒙版全是黑色，不会有任何改变；请留出一部分不涂抹。"
    ),
    "The mask is black everywhere, so nothing would change; paint part of it white.": (
        "蒙版全是黑色，不会有任何改变；请把一部分涂成白色。"
    ),
    "{0} needs more than {1} GB or {2} s to read, or is damaged; use another file.": (
        "读取 {0} 需要超过 {1} GB 或 {2} 秒，或者它已损坏；请使用其他文件。"
    ),
    "The file cannot be read now ({0}); try again later.": "现在无法读取文件（{0}）；请稍后再试。",
    "The app is busy with other files; try again in a moment.": "应用正在处理其他文件；请稍后再试。",
    "The settings in {0} have {1} characters; up to {2} are allowed, so choose another file.": (
        "{0} 中的设置有 {1} 个字符；最多允许 {2}，请选择其他文件。"
    ),
    "they are from another version of X2I; generate the image again with this version.": (
        "它们来自另一个版本的 X2I；请用这个版本重新生成图片。"
    ),
    "{0} has settings of {1}, but no prompt; type one, or choose another image.": (
        "{0} 含有 {1} 的设置，但没有提示词；请输入提示词，或选择其他图片。"
    ),
    "their mask is not a text of up to {0} characters; choose another file.": (
        "其中的蒙版不是最多 {0} 个字符的文字；请选择其他文件。"
    ),
    "their mask is not a valid PNG; choose another file.": "其中的蒙版不是有效的 PNG；请选择其他文件。",
    "one of their hashes is not a SHA-256; choose another file.": "其中一个哈希不是 SHA-256；请选择其他文件。",
    "Files are missing that the image was made with: {0}; add them.": "缺少生成这张图片所用的文件：{0}；请添加它们。",
    "{0} contains no settings; choose an image that was saved by X2I, A1111, Forge, ComfyUI, InvokeAI or "
    "Fooocus, and not edited since.": (
        "{0} 不含设置；请选择由 X2I、A1111、Forge、ComfyUI、InvokeAI 或 Fooocus 保存、之后没有编辑过的图片。"
    ),
    "The settings in {0} are not valid: {1}": "{0} 中的设置无效：{1}",
    "The settings in {0} are damaged or not from X2I; choose another file.": (
        "{0} 中的设置已损坏或不是来自 X2I；请选择其他文件。"
    ),
    "{0} needs {1} GB of memory; up to {2} GB are allowed, so {3}.": (
        "{0} 需要 {1} GB 内存；最多允许 {2} GB，所以{3}。"
    ),
    "There is no file {0} for Whisper; check the path.": "没有 Whisper 的文件 {0}；请检查路径。",
    "{0} has no Whisper dimensions; use a .pt file of openai-whisper.": (
        "{0} 不含 Whisper 的尺寸；请使用 openai-whisper 的 .pt 文件。"
    ),
    "{0} has widths and heads that do not match; use a .pt file of openai-whisper.": (
        "{0} 的宽度和注意力头不匹配；请使用 openai-whisper 的 .pt 文件。"
    ),
    "{0} lacks {1}; use a complete file.": "{0} 缺少 {1}；请使用完整的文件。",
    "{0} has {1}, which is not in a Whisper of its dimensions; use another file.": (
        "{0} 含有同尺寸 Whisper 所没有的 {1}；请使用其他文件。"
    ),
    "Transcribing the audio takes longer than {0} s; use shorter audio.": (
        "转写音频需要超过 {0} 秒；请使用更短的音频。"
    ),
    "Whisper's {0} model is not in the cache and cannot be downloaded ({1}); connect to the internet, or set the "
    "path of its .pt file.": (
        "Whisper 的 {0} 模型不在缓存中，也无法下载（{1}）；请连接互联网，或设置其 .pt 文件的路径。"
    ),
    "{0} is damaged or not a Whisper checkpoint; use a .pt file of openai-whisper.": (
        "{0} 已损坏或不是 Whisper 检查点；请使用 openai-whisper 的 .pt 文件。"
    ),
    "{0} of {1} is {2}, which no multilingual Whisper has; use a .pt file of openai-whisper.": (
        "{1} 的 {0} 是 {2}，多语言 Whisper 中没有；请使用 openai-whisper 的 .pt 文件。"
    ),
    "{0} of {1} has shape {2}; expected {3}, so use another file.": (
        "{1} 的 {0} 形状为 {2}，应为 {3}；请使用其他文件。"
    ),
    "{0} of {1} has values that are not finite; use another file.": "{1} 的 {0} 含有非有限的数；请使用其他文件。",
    "There is no Whisper model {0}; choose {1}.": "没有 Whisper 模型 {0}；请选择 {1}。",
    "The video is {0}; it must be a file or a pair (frames, frames per second).": (
        "视频为 {0}；它必须是文件，或一对（帧，每秒帧数）。"
    ),
    "{0} has frames that cannot be decoded; it may be damaged, so convert it to MP4.": (
        "{0} 含有无法解码的帧；它可能已损坏，请转换为 MP4。"
    ),
    "{0} has {1} frames per second; it must be a number above 0 and up to {2}.": (
        "{0} 每秒 {1} 帧；它必须大于 0 且不超过 {2}。"
    ),
    "{0} has a duration of {1}; it must be a number of seconds above 0.": "{0} 的时长为 {1}；它必须是大于 0 的秒数。",
    "{0} has frames of different sizes; resize them to the same size.": "{0} 的帧尺寸不同；请调整为相同尺寸。",
    "fps is {0}; it must be a number above 0 and up to {1}.": "fps 为 {0}；它必须大于 0 且不超过 {1}。",
    "{0} cannot be read by moviepy; convert it to MP4.": "moviepy 无法读取 {0}；请转换为 MP4。",
    "{0} is an array of shape {1} and dtype {2}; it must be (T, H, W, 3) of uint8, with T from 1.": (
        "{0} 是形状为 {1}、类型为 {2} 的数组；它必须是 uint8 的 (T, H, W, 3)，T 至少为 1。"
    ),
    "{0} has no frames; it must be an array (T, H, W, 3) or a list of images.": (
        "{0} 没有帧；它必须是数组 (T, H, W, 3) 或图片列表。"
    ),
    "{0} is {1}; it must be a whole number, 1 or more.": "{0} 为 {1}；它必须是 1 或更大的整数。",
    "output_template is {0}; it must be a name in the output folder, as {1} is.": (
        "output_template 为 {0}；它必须是输出文件夹中的名称，例如 {1}。"
    ),
    "output_template is {0} ({1}); write fields as in {2}.": "output_template 为 {0}（{1}）；请像 {2} 那样写字段。",
    "output_template has the field {0}; choose from {1}.": "output_template 含有字段 {0}；请从 {1} 中选择。",
    "This AlignNet expects {0} states of width {1}, but the MLLM has {2} of width {3}; use the AlignNet trained "
    "for this MLLM.": (
        "这个 AlignNet 需要 {0} 个宽度为 {1} 的状态，而多模态模型有 {2} 个，宽度 {3}；请使用为它训练的 AlignNet。"
    ),
    "This AlignNet outputs embeddings of width {0} and {1}, but the FLUX model expects {2} and {3}; use matching "
    "parts.": "这个 AlignNet 输出宽度为 {0} 和 {1} 的嵌入，而 FLUX 模型需要 {2} 和 {3}；请使用匹配的部分。",
    "This LightControl is for {0} double blocks of width {1}, but the FLUX model has {2} of width {3}; use the "
    "LightControl trained for it.": (
        "这个 LightControl 用于 {0} 个宽度为 {1} 的双流块，而 FLUX 模型有 {2} 个，宽度 {3}；请使用为它训练的 "
        "LightControl。"
    ),
    "There is no {0} called {1}; choose one of {2}.": "没有名为 {1} 的{0}；请从 {2} 中选择。",
    "The prompt has more than {0} choices and wildcards; use fewer of them.": (
        "提示词中的选项和通配符超过 {0} 个；请减少。"
    ),
    "The prompt has more than {0} bytes once its choices and wildcards are filled in; shorten it.": (
        "提示词填好选项和通配符后超过 {0} 字节；请缩短。"
    ),
    "history contains {0}; each turn must be a Turn, or an object with only these fields: {1}.": (
        "对话中含有 {0}；每一轮必须是 Turn，或只含这些字段的对象：{1}。"
    ),
    "{0} is {1}; it must be text.": "{0} 为 {1}；它必须是文字。",
    "{0} is {1} bytes long; at most {2} are allowed. Shorten it.": "{0} 有 {1} 字节；最多允许 {2}。请缩短。",
    "{0} contains a control character; remove it. Tabs and line breaks are allowed.": (
        "{0} 含有控制字符；请删除它。制表符和换行可以使用。"
    ),
    "{0} contains an incomplete character (a lone surrogate); paste the text again.": (
        "{0} 含有不完整的字符（单独的代理项）；请重新粘贴文字。"
    ),
    "outpaint is {0}; it must be four numbers of pixels: left, top, right, bottom.": (
        "扩展像素为 {0}；它必须是四个像素数：左、上、右、下。"
    ),
    "outpaint is 0 on all four sides, so nothing would be added; set at least one side, or leave it out.": (
        "四边的扩展像素都是 0，不会增加任何内容；请至少设置一边，或不设置。"
    ),
    "{0} is {1}, but there is no {2}; give one, or leave {3} out.": "{0} 为 {1}，但没有 {2}；请给出一个，或去掉 {3}。",
    "Editing needs one image, and {0} were given; give one, or set source_image.": (
        "编辑需要一张图片，而给出了 {0} 张；请给出一张，或设置 source_image。"
    ),
    "strength redraws an image from a noisy copy of it, and reference keeps an image as it is; leave one of them "
    "out, or add a mask.": "重绘强度从加噪的图片重新绘制，而参考图保持图片原样；请去掉其中一个，或添加蒙版。",
    "loras contains {0}; each entry must be a file and a weight.": "loras 含有 {0}；每一项必须是文件和权重。",
    "{0} is {1}; it must be a list.": "{0} 为 {1}；它必须是列表。",
    "{0} {1} were given; at most {2} are allowed. Remove some.": "给出了 {0} 个{1}；最多允许 {2} 个。请移除一些。",
    "{0} contains an empty entry; remove it.": "{0} 含有空的一项；请删除它。",
    "reason is {0}; it must be true or false.": "reason 为 {0}；它必须是 true 或 false。",
    "fast is {0}; it must be true or false.": "fast 为 {0}；它必须是 true 或 false。",
    "fast skips the parts of FLUX that LightControl acts on; set control_strength to 0, or fast to false.": (
        "“快速”会跳过 LightControl 所作用的 FLUX 部分；请把相似度设为 0，或关闭“快速”。"
    ),
    "No ControlNet is loaded, so controlnet_image cannot be followed; leave it out, or load one with controlnet.": (
        "没有加载 ControlNet，不能使用 ControlNet 图片；请去掉它，或用 controlnet 加载一个。"
    ),
    "fast skips the parts of FLUX that a ControlNet acts on; set fast to false, or leave controlnet_image out.": (
        "“快速”会跳过 ControlNet 所作用的 FLUX 部分；请关闭“快速”，或去掉 ControlNet 图片。"
    ),
    "A result keeps to a reference or follows a ControlNet, not both; leave reference or controlnet_image out.": (
        "结果要么保持参考图，要么遵循 ControlNet，不能同时；请去掉参考图或 ControlNet 图片。"
    ),
    "A ControlNet cannot follow a negative prompt while an image is edited; leave negative_prompt or "
    "controlnet_image out.": "编辑图片时，ControlNet 不能与负面提示词一起使用；请去掉负面提示词或 ControlNet 图片。",
    "FLUX.1 Fill cannot follow a ControlNet; leave controlnet_image out, or load flux.1-dev.": (
        "FLUX.1 Fill 不能使用 ControlNet；请去掉 ControlNet 图片，或加载 flux.1-dev。"
    ),
    "controlnet_start is {0} and controlnet_end is {1}; the start must be before the end.": (
        "ControlNet 开始为 {0}，结束为 {1}；开始必须在结束之前。"
    ),
    "video_start is {0} and video_end is {1}; the start must be before the end.": (
        "视频开始时间为 {0}，结束时间为 {1}；开始必须在结束之前。"
    ),
    "{0} is {1} s long, so there is nothing from {2} s to {3} s; choose another start and end.": (
        "{0} 长 {1} 秒，从 {2} 秒到 {3} 秒没有内容；请选择其他开始和结束时间。"
    ),
    "controlnet_kind is {0}; choose one of {1}.": "ControlNet 图片的内容为 {0}；请从 {1} 中选择。",
    "{0} is set, but there is no controlnet_image; add the image that the ControlNet follows, or remove {1}.": (
        "设置了 {0}，但没有 ControlNet 图片；请添加 ControlNet 要遵循的图片，或去掉 {1}。"
    ),
    "The image was not redrawn, as the page was left; start it again.": "页面已关闭，图片没有重绘；请重新开始。",
    "{0} holds no depth model that can be read; take one in transformers layout, such as "
    "depth-anything/Depth-Anything-V2-Small-hf, with safetensors weights.": (
        "{0} 里没有可读取的深度模型；请使用 transformers 格式、带 safetensors 权重的模型，"
        "例如 depth-anything/Depth-Anything-V2-Small-hf。"
    ),
    "compile is for a CUDA or XPU card, and the device is {0}; leave compile out.": (
        "compile 只用于 CUDA 或 XPU 显卡，而现在的设备是 {0}；请去掉 compile。"
    ),
    "compile needs FLUX on the card as a whole, and the profile {0} moves it there block by block; leave compile out, "
    "or choose a smaller profile or model.": (
        "compile 需要把 FLUX 整个放在显卡上，而配置 {0} 是逐块移动的；请去掉 compile，或选择更小的配置或模型。"
    ),
    "This ControlNet is for several kinds of images; set controlnet_kind to one of {0}.": (
        "这个 ControlNet 可用于多种图片；请把 ControlNet 图片的内容设为 {0} 之一。"
    ),
    "This ControlNet has {0} as its {1}, but the FLUX model has {2}; use a ControlNet that was trained for it.": (
        "这个 ControlNet 的 {1} 为 {0}，而 FLUX 模型为 {2}；请使用为它训练的 ControlNet。"
    ),
    "{0} is a file, and a ControlNet is a folder with config.json and .safetensors files; give the folder, or a hub "
    "id such as owner/name.": (
        "{0} 是文件，而 ControlNet 是含有 config.json 和 .safetensors 文件的文件夹；请给出文件夹，"
        "或 owner/name 形式的 hub 名称。"
    ),
    "{0} has no readable config.json of a FLUX.1 ControlNet.": "{0} 没有可读取的 FLUX.1 ControlNet 的 config.json。",
    "{0} is {1}; it must be true or false.": "{0} 为 {1}；它必须是 true 或 false。",
    "{0} is set, but there is no mask; add a mask, or remove {1}.": (
        "设置了 {0}，但没有蒙版；请添加蒙版，或去掉 {1}。"
    ),
    "This model has no LightControl, so it cannot follow the original image; set control_strength to 0, or load "
    "a LightControl with light_control.": (
        "这个模型没有 LightControl，不能保持与原图相似；请把相似度设为 0，或用 light_control 加载 LightControl。"
    ),
    "This FLUX model cannot keep to a reference image; load FLUX.1 Kontext (flux: flux.1-kontext-dev), give the "
    "image as image instead, or, if this is a Kontext model, set kontext to yes.": (
        "这个 FLUX 模型不能保持参考图；请加载 FLUX.1 Kontext（flux: flux.1-kontext-dev），或改为作为图片输入；如"
        "果这就是 Kontext 模型，请把 kontext 设为 yes。"
    ),
    "The request is empty; write a prompt, or add an image, a video or an audio file.": (
        "请求是空的；请输入提示词，或添加图片、视频或音频文件。"
    ),
    "{0} cannot follow a negative prompt, as it is trained for few steps without one or for filling; leave "
    "negative_prompt out, or load flux.1-dev, flux.1-krea-dev or flux.1-kontext-dev.": (
        "{0} 不能使用负面提示词，因为它是为少步数或填充训练的；请去掉负面提示词，或加载 flux.1-dev、"
        "flux.1-krea-dev 或 flux.1-kontext-dev。"
    ),
    "true_cfg_scale is {0}, but there is no negative_prompt; say what the image should not show, or leave "
    "true_cfg_scale out.": "负面提示词强度为 {0}，但没有负面提示词；请写出图片中不应出现的内容，或不设置强度。",
    "{0} reference images were given, and FLUX.1 Kontext keeps to one; choose one as reference, and give the "
    "others as images, which are read but not kept.": (
        "给出了 {0} 张参考图，而 FLUX.1 Kontext 只用一张；请选一张作为参考，其余作为图片输入，只会被读取。"
    ),
    "This line is longer than {0} bytes; write one object in each line.": "这一行超过 {0} 字节；请每行写一个对象。",
    "This is {0}; write one object in each line.": "这是 {0}；请每行写一个对象。",
    "There is no field {0}; choose from id, {1}.": "没有字段 {0}；请从 id、{1} 中选择。",
    "The history is {0}; it must be a list of turns.": "对话为 {0}；它必须是各轮的列表。",
    "id is {0}; it must be a file name without a suffix, with up to {1} bytes, which every system allows.": (
        "id 为 {0}；它必须是不带后缀、最多 {1} 字节、各系统都允许的文件名。"
    ),
    "This is not JSON ({0}); write one object in each line.": "这不是 JSON（{0}）；请每行写一个对象。",
    "{0} is {1}; it must be a list of file names.": "{0} 为 {1}；它必须是文件名的列表。",
    "There is no file called {0} in {1}; paths are relative to the folder of the file that has them.": (
        "{1} 中没有名为 {0} 的文件；路径相对于所在文件的文件夹。"
    ),
    "loras is {0}; it must be a list.": "loras 为 {0}；它必须是列表。",
    "loras is {0}; it must be a list of file names, or of pairs [file name, weight].": (
        "loras 为 {0}；它必须是文件名的列表，或 [文件名, 权重] 的列表。"
    ),
    "The history {0} cannot be read ({1}); give a JSON list.": "无法读取对话 {0}（{1}）；请给出 JSON 列表。",
    "{0} are two prompts for one row; rename one of them.": "{0} 是同一行的两个提示词；请重命名其中一个。",
    "{0} is {1}; it must be a file name.": "{0} 为 {1}；它必须是文件名。",
    "{0}: {1}.": "{0}：{1}。",
    "Another model is being loaded; wait until it is ready.": "正在加载另一个模型；请等它就绪。",
    "This job would take about {0} s, and {1} s are allowed here; use fewer steps, fewer images or a smaller "
    "size.": "这个任务大约需要 {0} 秒，而这里允许 {1} 秒；请减少步数、图片数量或尺寸。",
    "The job made room for others, because nobody waited for it; start it again.": (
        "没有人等待这个任务，它已为其他任务让出位置；请重新开始。"
    ),
    "The job was removed from the queue; start it again if you want it.": "任务已从队列中移除；需要时请重新开始。",
    "The engine has stopped ({0}); restart the app.": "引擎已停止（{0}）；请重新启动应用。",
    "The queue is full: {0} waiting; try again later.": "队列已满：{0} 个在等待；请稍后再试。",
    "The app is shutting down; start the job again later.": "应用正在关闭；请稍后重新开始任务。",
    "{0} of your jobs are waiting; at most {1} are allowed. Wait for one of them.": (
        "您有 {0} 个任务在等待；最多允许 {1} 个。请等其中一个完成。"
    ),
    "{0} jobs from your address are waiting; at most {1} are allowed. Wait for one of them.": (
        "您的地址有 {0} 个任务在等待；最多允许 {1} 个。请等其中一个完成。"
    ),
    "The job was stopped before its image was finished; start it again.": "任务在图片完成前被停止；请重新开始。",
    "The job took longer than {0} s, which a job may take here; use fewer steps, fewer images or a smaller size.": (
        "任务用时超过这里允许的 {0} 秒；请减少步数、图片数量或尺寸。"
    ),
    "{0}: {1}": "{0}：{1}",
    "The model of a ZeroGPU Space cannot be changed or unloaded; start the Space with another one.": (
        "ZeroGPU Space 的模型不能更换或卸载；请用另一个模型启动 Space。"
    ),
    "{0} is {1}; choose one of {2}.": "{0} 为 {1}；请从 {2} 中选择。",
    "{0} has no LightControl; train one, or choose one of {1}.": (
        "{0} 没有 LightControl；请自行训练，或从 {1} 中选择。"
    ),
    "{0} has too many pixels for a mask; scale it down.": "{0} 的像素太多，不能作为蒙版；请缩小。",
    "{0} has ComfyUI's graph for its editor, but not the prompt of an image; choose one that ComfyUI saved when it "
    "generated it.": "{0} 含有 ComfyUI 编辑器的工作流，但没有图片的提示词；请选择 ComfyUI 生成时保存的图片。",
    "The model was unloaded while it was being loaded; start the job again to load it.": (
        "模型在加载时被卸载；请重新开始任务以加载它。"
    ),
    "There is a family {0} already; give yours another name.": "已有名为 {0} 的系列；请给您的取别的名称。",
    "{0} contains a model of type {1}; for internvl3 choose a folder whose name ends in -hf, and for OpenGVLab's own "
    "format the family internvl2.5.": (
        "{0} 里的模型类型是 {1}；internvl3 请选择名称以 -hf 结尾的文件夹，OpenGVLab 原始格式请选择 internvl2.5 系列。"
    ),
    "Downloading {0}: {1} of {2}": "正在下载 {0}：{1} / {2}",
    "{0} is no FLUX model that can be read; use a .safetensors, .sft or .gguf file, or a folder in diffusers layout.": (
        "{0} 不是可读取的 FLUX 模型；请使用 .safetensors、.sft 或 .gguf 文件，或 diffusers 格式的文件夹。"
    ),
    "Reading FLUX: {0} of {1} GB, about {2} s left": "正在读取 FLUX：{0} / {1} GB，大约还需 {2} 秒",
    "Reading the MLLM: {0} of {1} GB, about {2} s left": "正在读取 MLLM：{0} / {1} GB，大约还需 {2} 秒",
    "Quantizing the MLLM: {0} of {1} GB, about {2} s left": "正在量化 MLLM：{0} / {1} GB，大约还需 {2} 秒",
    "Reading {0} in 4 bit: {1} of {2} GB, about {3} s left": "正在读取 4 位的 {0}：{1} / {2} GB，大约还需 {3} 秒",
    "Keeping {0} in 4 bit: {1} of {2} GB, about {3} s left": "正在保存 4 位的 {0}：{1} / {2} GB，大约还需 {3} 秒",
    "The ZIP file cannot be written ({0}); try again later.": "无法写入 ZIP 文件（{0}）；请稍后再试。",
    "The disk is nearly full; try again later, or tell the owner of this app.": (
        "磁盘快满了；请稍后再试，或告知应用的所有者。"
    ),
    "format is {0}; choose one of {1}.": "文件格式为 {0}；请从 {1} 中选择。",
    "There is no LoRA {0} here; choose from {1}, or upload a {2} file.": (
        "这里没有 LoRA {0}；请从 {1} 中选择，或上传 {2} 文件。"
    ),
    "history contains the file {0}; upload it, and send the path that the upload returned.": (
        "对话中含有文件 {0}；请上传它，并发送上传后返回的路径。"
    ),
    "history is {0}; it must be a list of turns.": "对话为 {0}；它必须是各轮的列表。",
    "There is no folder for temporary files; set TMPDIR to one.": "没有临时文件夹；请设置 TMPDIR。",
    "No temporary files can be written to {0} ({1}); set TMPDIR to another folder.": (
        "无法在 {0} 写入临时文件（{1}）；请把 TMPDIR 设为其他文件夹。"
    ),
}

# What stands in those sentences in place of a value.
PHRASES = {
    "{0} to {1}": "{0} 到 {1}",
    "{0} to {1} in steps of {2}": "{0} 到 {1}，步长 {2}",
    "text": "文字",
    "image": "图片",
    "images": "图片",
    "video": "视频",
    "videos": "视频",
    "audio": "音频",
    "audios": "音频",
    "audio file": "音频文件",
    "prompt": "提示词",
    "width": "宽度",
    "height": "高度",
    "num_inference_steps": "步数",
    "steps": "步数",
    "guidance_scale": "引导强度",
    "guidance": "引导强度",
    "num_images_per_prompt": "图片数量",
    "count": "图片数量",
    "seed": "种子",
    "video_start": "视频开始时间",
    "video_end": "视频结束时间",
    "control_strength": "相似度",
    "strength": "重绘强度",
    "negative_prompt": "负面提示词",
    "true_cfg_scale": "负面提示词强度",
    "mask_grow": "扩大蒙版",
    "mask_feather": "柔化边缘",
    "preset": "预设",
    "profile": "内存方案",
    "The file": "文件",
    "The image": "图片",
    "The video": "视频",
    "The audio": "音频",
    "The mask": "蒙版",
    "The image could not be generated": "无法生成图片",
    "The image could not be enlarged": "无法放大图片",
    "The model could not be loaded": "无法加载模型",
    "The model could not be unloaded": "无法卸载模型",
    "The model could not be found": "找不到模型",
    "megapixels": "百万像素",
    "a PNG, JPEG, WebP, HEIC, AVIF, GIF, BMP or TIFF image": " PNG、JPEG、WebP、HEIC、AVIF、GIF、BMP 或 TIFF 图片",
    "an MP4, MOV, WebM, MKV, AVI, WMV, FLV, MPEG or TS video, or an animated GIF or WebP": (
        " MP4、MOV、WebM、MKV、AVI、WMV、FLV、MPEG 或 TS 视频，或动态 GIF 或 WebP"
    ),
    "a WAV, FLAC, OGG, MP3, M4A, AAC, AIFF, CAF, AMR, WMA or AC-3 audio file, or a video with audio": (
        " WAV、FLAC、OGG、MP3、M4A、AAC、AIFF、CAF、AMR、WMA 或 AC-3 音频文件，或有声音的视频"
    ),
    "a common image, video or audio file, such as PNG, MP4 or WAV": (
        "常见的图片、视频或音频文件，例如 PNG、MP4 或 WAV"
    ),
    "an HLS playlist": " HLS 播放列表",
    "an ffmpeg concat list": " ffmpeg 拼接列表",
    "an SDP session description": " SDP 会话描述",
    "a DASH manifest": " DASH 清单",
    "an SVG drawing": " SVG 图形",
    "a web page (HTML)": "网页（HTML）",
    "a Git LFS pointer instead of the file itself": " Git LFS 指针，而不是文件本身",
    "a Photoshop file (PSD)": " Photoshop 文件（PSD）",
    "a PostScript file (EPS)": " PostScript 文件（EPS）",
    "a FITS image": " FITS 图片",
    "a PDF document": " PDF 文档",
    "a ZIP archive": " ZIP 压缩包",
    "a HEIF image that is neither HEIC nor AVIF": " HEIF 图片，但不是 HEIC 或 AVIF",
    "a text file": "文本文件",
    "of an unknown kind": "未知类型的文件",
    "a {0} image": " {0} 图片",
    "an {0} image": " {0} 图片",
    "a {0} video": " {0} 视频",
    "an {0} video": " {0} 视频",
    "a {0} audio file": " {0} 音频文件",
    "an {0} audio file": " {0} 音频文件",
}
