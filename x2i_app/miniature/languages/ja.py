"""Japanese: いる for what lives and ある for what does not, い and の adjectives, orders that end in て."""

from x2i_app.miniature.languages.base import Change, Language, Pick, Said, SaidThing

KINDS = {
    "house": ("家", "おうち"),
    "tree": ("木",),
    "car": ("車", "自動車"),
    "boat": ("船", "ヨット", "ボート"),
    "balloon": ("気球", "熱気球"),
    "flower": ("花", "お花"),
    "cat": ("猫", "ネコ"),
    "fish": ("魚", "お魚"),
    "star": ("星", "お星さま"),
    "ball": ("ボール",),
    "rocket": ("ロケット",),
    "umbrella": ("傘", "カサ"),
}
_ALIVE = {"cat", "fish"}
COLOURS = {  # before a noun, as an adverb ("make it ..."), as a noun
    "red": (("赤い", "赤く", "赤"), ("真っ赤な", "真っ赤に", "赤色")),
    "orange": (("オレンジ色の", "オレンジ色に", "オレンジ色"), ("オレンジの", "オレンジに", "オレンジ")),
    "yellow": (("黄色い", "黄色く", "黄色"), ("黄色の", "黄色に", "黄色")),
    "green": (("緑の", "緑に", "緑"), ("緑色の", "緑色に", "緑色")),
    "blue": (("青い", "青く", "青"), ("青色の", "青色に", "青色")),
    "purple": (("紫の", "紫に", "紫"), ("紫色の", "紫色に", "紫色")),
    "pink": (("ピンクの", "ピンクに", "ピンク"), ("ピンク色の", "ピンク色に", "ピンク色")),
    "brown": (("茶色い", "茶色く", "茶色"), ("茶色の", "茶色に", "茶色")),
    "white": (("白い", "白く", "白"), ("真っ白な", "真っ白に", "白色")),
    "black": (("黒い", "黒く", "黒"), ("真っ黒な", "真っ黒に", "黒色")),
}
SIZES = {"small": ("小さな", "小さい"), "large": ("大きな", "大きい")}
PLACES = {
    "left": ("左", "左側"),
    "middle": ("真ん中", "中央"),
    "right": ("右", "右側"),
}
GROUNDS = {
    "grass": ("草の上", "草原", "芝生の上"),
    "snow": ("雪の上", "雪原"),
    "sand": ("砂の上", "砂浜", "砂浜の上"),
    "sea": ("海の上", "海"),
    "street": ("道の上", "道路の上", "街の通り"),
}
_BACKGROUNDS = {
    "grass": ("草原", "芝生"),
    "snow": ("雪原", "雪景色"),
    "sand": ("砂浜",),
    "sea": ("海", "海の上"),
    "street": ("街の通り", "道路"),
}
_SKIES = {  # before a ground, and standalone
    "day": (("昼の", "昼"), ("晴れた日の", "晴れた日"), ("昼間の", "昼間")),
    "night": (("夜の", "夜"), ("月夜の", "月夜")),
    "sunset": (("夕焼けの", "夕焼けの中"), ("夕暮れの", "夕暮れ"), ("日没の", "日没")),
    "rain": (("雨の", "雨の中"), ("雨が降る", "雨の日"), ("雨の降る", "雨降りの中")),
    "snowfall": (("雪の降る", "雪の降る中"), ("雪が降る", "雪が降る中")),
}
_SKY_CLAUSES = {
    "day": ("昼です", "太陽が輝いています"),
    "night": ("夜です", "月夜です"),
    "sunset": ("夕焼けです", "日が沈んでいます"),
    "rain": ("雨が降っています", "外は雨です"),
    "snowfall": ("雪が降っています", "雪が舞っています"),
}
_SKY_ORDERS = {
    "day": ("昼にして", "昼間に変えて"),
    "night": ("夜にして", "夜に変えて"),
    "sunset": ("夕焼けにして", "夕暮れに変えて", "日の入りにして"),
    "rain": ("雨にして", "雨を降らせて"),
    "snowfall": ("雪を降らせて", "雪が降るようにして"),
}


def noun_phrase(thing: SaidThing, pick: Pick) -> str:
    """'大きな赤い家', with no article and no number."""
    size = pick.of(SIZES[thing.size]) if thing.size else ""
    colour = pick.of(COLOURS[thing.colour])[0] if thing.colour else ""
    return size + colour + pick.of(KINDS[thing.kind])


def _setting(said, pick):
    attributive, standalone = pick.of(_SKIES[said.sky]) if said.sky else ("", "")
    return attributive + pick.of(GROUNDS[said.ground]) if said.ground else standalone


def _be(kind, *, last):
    """The verb of being there: ある for things, いる for what lives; between sentences あり and いて."""
    alive = kind in _ALIVE
    if last:
        return "います" if alive else "あります"
    return "いて" if alive else "あり"


def _listed(said, pick):
    """'左に大きな赤い家、右に小さな緑の木', or '…と…' where no place is said."""
    if not said.placed:
        return "と".join(noun_phrase(thing, pick) for thing in said.things)
    return "、".join(f"{pick.of(PLACES[t.place])}に{noun_phrase(t, pick)}" for t in said.things)


def _stated(said, pick):
    """A whole sentence with verbs: '左に…があり、右に…がいます'."""
    last = said.things[-1]
    if not said.placed:
        return f"{_listed(said, pick)}が{_be(last.kind, last=True)}"
    return "、".join(
        f"{pick.of(PLACES[t.place])}に{noun_phrase(t, pick)}が{_be(t.kind, last=t is last)}" for t in said.things
    )


def describe(said: Said, pick: Pick) -> str:
    """The canonical wording is '夜の雪の上、左に大きな赤い家、右に小さな緑の木'."""
    setting = _setting(said, pick)
    if not said.things:
        return setting
    frame = pick("plain", "plain", "plain", "stated", "stated", "request", "clause", "background")
    lead = f"{setting}、" if setting else ""
    if frame == "stated":
        if said.ground:
            lead = f"{setting}に" if not said.placed else pick(f"{setting}の", f"{setting}で、")
        return f"{lead}{_stated(said, pick)}"
    if frame == "request":
        please = pick("を描いて", "を描いてください", "の絵を描いて", "の絵を描いてください", "の絵")
        if not said.placed and said.ground:
            lead = f"{setting}の"
        return f"{lead}{_listed(said, pick)}{please}"
    if frame == "clause" and said.sky:
        ground = pick.of(GROUNDS[said.ground]) if said.ground else ""
        where = (f"{ground}の" if said.placed else f"{ground}に") if ground else ""
        return f"{pick.of(_SKY_CLAUSES[said.sky])}。{where}{_stated(said, pick)}"
    if frame == "background" and said.placed and said.ground:
        return f"{_listed(said, pick)}、{pick('背景は', '場所は')}{setting}"
    if not said.placed and said.ground and pick.chance(0.5):
        lead = f"{setting}の"
    return f"{lead}{_listed(said, pick)}"


def _reference(thing, pick):
    place = f"{pick.of(PLACES[thing.place])}の" if thing.place else ""
    return place + noun_phrase(thing, pick)


def instruct(change: Change, pick: Pick) -> str:
    """An edit as an order, such as '車を青くして'."""
    order = _order(change, pick)
    return order + "ください" if pick.chance(0.4) else order


def _order(change, pick):
    value = change.value
    if change.action == "sky":
        return pick.of(_SKY_ORDERS[value])
    if change.action == "ground":
        place, background = pick.of(GROUNDS[value]), pick.of(_BACKGROUNDS[value])
        return pick(f"場所を{place}に変えて", f"場所を{place}にして", f"背景を{background}に変えて")
    if change.action == "add":
        place, thing = pick.of(PLACES[change.addition.place]), noun_phrase(change.addition, pick)
        return pick("{}に{}を加えて", "{}に{}を追加して", "{}に{}も描いて", "{}に{}を足して").format(place, thing)
    thing = _reference(change.target, pick)
    if change.action == "remove":
        return pick("{}を消して", "{}を取り除いて", "{}をなくして").format(thing)
    if change.action == "colour":
        _, adverb, noun = pick.of(COLOURS[value])
        return pick(f"{thing}を{adverb}して", f"{thing}を{adverb}塗って", f"{thing}の色を{noun}に変えて")
    if change.action == "size":
        adverb = "大きく" if value == "large" else "小さく"
        return pick("{}を{}して", "{}をもっと{}して", "{}を{}描いて").format(thing, adverb)
    if change.action == "swap":
        other = pick.of(KINDS[value])
        return pick("{}を{}に変えて", "{}を{}に置き換えて", "{}の代わりに{}を描いて").format(thing, other)
    return pick("{}を{}に移して", "{}を{}に動かして", "{}を{}に移動して").format(thing, pick.of(PLACES[value]))


JAPANESE = Language("ja", describe, instruct, "。")
