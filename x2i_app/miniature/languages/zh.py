"""Chinese: every noun with its measure word; sky and ground stand before the things."""

from x2i_app.miniature.languages.base import Change, Language, Pick, Said, SaidThing

KINDS = {  # measure word and noun
    "house": (("座", "房子"), ("栋", "房子"), ("间", "屋子")),
    "tree": (("棵", "树"),),
    "car": (("辆", "汽车"), ("辆", "轿车")),
    "boat": (("艘", "船"), ("条", "船"), ("艘", "帆船")),
    "balloon": (("个", "热气球"), ("只", "热气球")),
    "flower": (("朵", "花"),),
    "cat": (("只", "猫"),),
    "fish": (("条", "鱼"),),
    "star": (("颗", "星星"),),
    "ball": (("个", "球"), ("个", "皮球")),
    "rocket": (("枚", "火箭"), ("支", "火箭")),
    "umbrella": (("把", "雨伞"), ("把", "伞")),
}
COLOURS = {
    "red": ("红色",),
    "orange": ("橙色", "橘黄色"),
    "yellow": ("黄色",),
    "green": ("绿色",),
    "blue": ("蓝色",),
    "purple": ("紫色",),
    "pink": ("粉色", "粉红色"),
    "brown": ("棕色", "褐色"),
    "white": ("白色",),
    "black": ("黑色",),
}
SIZES = {"small": ("小", "小小的"), "large": ("大", "巨大的")}  # before the noun, before the colour
PLACES = {
    "left": ("左边", "左侧"),
    "middle": ("中间", "正中间"),
    "right": ("右边", "右侧"),
}
GROUNDS = {
    "grass": ("草地上", "草坪上"),
    "snow": ("雪地上", "雪地里"),
    "sand": ("沙滩上", "沙地上"),
    "sea": ("海面上", "海上", "大海上"),
    "street": ("街道上", "马路上", "街上"),
}
_SKIES = {  # before a ground, and alone
    "day": (("白天的", "白天"), ("阳光下的", "阳光下")),
    "night": (("夜晚的", "夜晚"), ("夜里的", "夜里"), ("月光下的", "月光下")),
    "sunset": (("日落时的", "日落时"), ("夕阳下的", "夕阳下"), ("黄昏的", "黄昏时")),
    "rain": (("雨中的", "雨中"), ("下着雨的", "下雨时"), ("雨天的", "雨天")),
    "snowfall": (("下着雪的", "下雪时"), ("雪花飘落的", "雪花飘落时")),
}
_SKY_CLAUSES = {
    "day": ("现在是白天", "阳光明媚"),
    "night": ("现在是夜晚", "天黑了"),
    "sunset": ("太阳正在落山", "太阳快下山了"),
    "rain": ("正在下雨", "天在下雨"),
    "snowfall": ("正在下雪", "天在下雪"),
}
_SKY_ORDERS = {
    "day": ("改成白天", "变成白天", "让天亮起来"),
    "night": ("改成夜晚", "变成晚上", "让天黑下来"),
    "sunset": ("改成日落", "变成黄昏", "让太阳落山"),
    "rain": ("改成下雨", "让天下雨", "让天空下起雨来"),
    "snowfall": ("改成下雪", "让天下雪", "让天空飘起雪花"),
}
_GROUND_NAMES = {
    "grass": ("草地", "草坪"),
    "snow": ("雪地",),
    "sand": ("沙滩", "沙地"),
    "sea": ("海面", "大海"),
    "street": ("街道", "马路"),
}


def noun_phrase(thing: SaidThing, pick: Pick, *, counted: bool = True) -> str:
    """'一座红色的大房子'; not counted: '左边的红色的大房子' for a thing that is already there."""
    measure, noun = pick.of(KINDS[thing.kind])
    colour = pick.of(COLOURS[thing.colour]) if thing.colour else ""
    size, long_size = SIZES[thing.size] if thing.size else ("", "")
    # "小小的绿色树" limps: the long form wants a noun of two syllables.
    if long_size and counted and len(noun) > 1 and pick.chance(0.4):
        phrase = long_size + colour + noun
    else:
        phrase = (f"{colour}的" if colour else "") + size + noun
    if counted:
        return f"一{measure}{phrase}"
    return (f"{pick.of(PLACES[thing.place])}的" if thing.place else "") + phrase


def _setting(said, pick, grounds=GROUNDS):
    attributive, standalone = pick.of(_SKIES[said.sky]) if said.sky else ("", "")
    return attributive + pick.of(grounds[said.ground]) if said.ground else standalone


def _list(phrases):
    return phrases[0] if len(phrases) == 1 else "、".join(phrases[:-1]) + "和" + phrases[-1]


def _things(said, pick, verb="有"):
    """'左边有…，右边有…', or '有…和…' where no place is said."""
    if not said.placed:
        return verb + _list([noun_phrase(thing, pick) for thing in said.things])
    return "，".join(f"{pick.of(PLACES[t.place])}{verb}{noun_phrase(t, pick)}" for t in said.things)


def describe(said: Said, pick: Pick) -> str:
    """The canonical wording is '夜晚的雪地上，左边有一座红色的大房子，右边有一棵绿色的小树'."""
    setting = _setting(said, pick)
    if not said.things:
        return setting
    lead = f"{setting}，" if setting else ""
    frame = pick("plain", "plain", "plain", "request", "picture", "clause", "background", "attribute")
    if frame == "request":
        verb = pick("画一画：", "请画：", "请帮我画：", "我想看：")
        return f"{verb}{lead}{_things(said, pick)}"
    if frame == "picture":
        verb = pick("有", "是") if said.placed else "有"
        return f"{pick('一幅画', '一张卡通画', '画面')}：{lead}{_things(said, pick, verb)}"
    if frame == "clause" and said.sky:
        ground = f"{pick.of(GROUNDS[said.ground])}，" if said.ground else ""
        return f"{pick.of(_SKY_CLAUSES[said.sky])}，{ground}{_things(said, pick)}"
    if frame == "background" and said.placed and setting:
        phrases = "，".join(f"{noun_phrase(t, pick)}在{pick.of(PLACES[t.place])}" for t in said.things)
        return f"{phrases}，{pick('背景是', '场景是')}{_setting(said, pick, _GROUND_NAMES)}"
    if frame == "attribute" and not said.placed and said.ground:
        verb = pick("", "画", "请画")
        return f"{verb}{setting}的{_list([noun_phrase(t, pick) for t in said.things])}"
    if not said.placed and not lead:
        return _list([noun_phrase(thing, pick) for thing in said.things])
    return f"{lead}{_things(said, pick)}"


def instruct(change: Change, pick: Pick) -> str:
    """An edit as an order, such as '把汽车变成蓝色'."""
    value = change.value
    if change.action == "sky":
        return pick.of(_SKY_ORDERS[value])
    if change.action == "ground":
        return pick("把地面改成{}", "把场景换成{}", "把背景改成{}").format(pick.of(_GROUND_NAMES[value]))
    if change.action == "add":
        place = pick.of(PLACES[change.addition.place])
        verb = pick("在{}加{}", "在{}添上{}", "{}再画{}", "在{}画{}")
        return verb.format(place, noun_phrase(change.addition, pick))
    thing = noun_phrase(change.target, pick, counted=False)
    if change.action == "remove":
        return pick("去掉{}", "把{}去掉", "把{}移走", "删掉{}", "不要{}").format(thing)
    if change.action == "colour":
        colour = pick.of(COLOURS[value])
        return pick("把{}变成{}", "把{}改成{}", "把{}涂成{}", "{}要{}的").format(thing, colour)
    if change.action == "size":
        if value == "large":
            return pick("把{}变大", "放大{}", "让{}大一点", "把{}画大一些").format(thing)
        return pick("把{}变小", "缩小{}", "让{}小一点", "把{}画小一些").format(thing)
    if change.action == "swap":
        other = noun_phrase(SaidThing(value), pick)
        return pick(f"把{thing}换成{other}", f"用{other}代替{thing}", f"把{thing}变成{other}")
    return pick("把{}移到{}", "把{}放到{}", "让{}到{}去").format(thing, pick.of(PLACES[value]))


CHINESE = Language("zh", describe, instruct, "。")
