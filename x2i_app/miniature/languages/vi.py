"""Vietnamese: nouns with their classifiers, size and then colour after the noun, place and setting last."""

from x2i_app.miniature.languages.base import Change, Language, Pick, Said, SaidThing, enumerate_with, join

KINDS = {  # classifier and noun
    "house": ("ngôi nhà", "căn nhà"),
    "tree": ("cái cây",),
    "car": ("chiếc ô tô", "chiếc xe hơi"),
    "boat": ("chiếc thuyền", "con thuyền"),
    "balloon": ("khinh khí cầu", "chiếc khinh khí cầu"),
    "flower": ("bông hoa", "đóa hoa"),
    "cat": ("con mèo", "chú mèo"),
    "fish": ("con cá", "chú cá"),
    "star": ("ngôi sao",),
    "ball": ("quả bóng", "trái bóng"),
    "rocket": ("tên lửa", "chiếc tên lửa"),
    "umbrella": ("chiếc ô", "chiếc dù", "cái ô"),
}
COLOURS = {
    "red": ("màu đỏ",),
    "orange": ("màu cam",),
    "yellow": ("màu vàng",),
    "green": ("màu xanh lá", "màu xanh lá cây", "màu xanh lục"),
    "blue": ("màu xanh dương", "màu xanh nước biển", "màu xanh lam"),
    "purple": ("màu tím",),
    "pink": ("màu hồng",),
    "brown": ("màu nâu",),
    "white": ("màu trắng",),
    "black": ("màu đen",),
}
SIZES = {"small": ("nhỏ", "bé", "nhỏ xíu"), "large": ("lớn", "to", "khổng lồ")}
PLACES = {
    "left": ("ở bên trái", "bên trái", "ở phía bên trái"),
    "middle": ("ở giữa", "ở chính giữa"),
    "right": ("ở bên phải", "bên phải", "ở phía bên phải"),
}
_PLACE_GOALS = {
    "left": ("sang bên trái", "qua bên trái"),
    "middle": ("vào giữa", "ra giữa"),
    "right": ("sang bên phải", "qua bên phải"),
}
GROUNDS = {
    "grass": ("trên cỏ", "trên bãi cỏ", "trên đồng cỏ"),
    "snow": ("trên tuyết", "trên nền tuyết", "trên mặt đất phủ tuyết"),
    "sand": ("trên cát", "trên bãi cát", "trên bãi biển"),
    "sea": ("trên biển", "trên mặt biển", "trên mặt nước"),
    "street": ("trên đường phố", "trên đường", "trên phố"),
}
SKIES = {
    "day": ("vào ban ngày", "giữa ban ngày", "dưới trời nắng"),
    "night": ("vào ban đêm", "trong đêm", "dưới ánh trăng"),
    "sunset": ("lúc hoàng hôn", "khi mặt trời lặn", "trong ánh hoàng hôn"),
    "rain": ("dưới mưa", "trong mưa", "khi trời mưa"),
    "snowfall": ("khi tuyết rơi", "dưới trời tuyết rơi", "trong lúc tuyết rơi"),
}
SKY_CLAUSES = {
    "day": ("đang là ban ngày", "trời đang nắng"),
    "night": ("đang là ban đêm", "trời đã tối"),
    "sunset": ("mặt trời đang lặn", "đang lúc hoàng hôn"),
    "rain": ("trời đang mưa", "mưa đang rơi"),
    "snowfall": ("tuyết đang rơi", "trời đang có tuyết rơi"),
}
_SKY_ORDERS = {
    "day": ("đổi thành ban ngày", "chuyển sang ban ngày", "cho trời sáng lên"),
    "night": ("đổi thành ban đêm", "chuyển sang ban đêm", "cho trời tối đi"),
    "sunset": ("đổi thành hoàng hôn", "chuyển sang hoàng hôn", "cho mặt trời lặn"),
    "rain": ("cho trời mưa", "đổi thành trời mưa", "thêm mưa"),
    "snowfall": ("cho tuyết rơi", "đổi thành trời tuyết rơi", "thêm tuyết rơi"),
}


def noun_phrase(thing: SaidThing, pick: Pick) -> str:
    """'ngôi nhà lớn màu đỏ', without a number."""
    return join(
        pick.of(KINDS[thing.kind]),
        pick.of(SIZES[thing.size]) if thing.size else None,
        pick.of(COLOURS[thing.colour]) if thing.colour else None,
    )


def _things(said, pick):
    return enumerate_with(
        [join("một", noun_phrase(t, pick), pick.of(PLACES[t.place]) if t.place else None) for t in said.things],
        "và",
    )


def _placed_first(said, pick):
    verb = pick("có", "là")
    phrases = [f"{pick.of(PLACES[t.place])} {verb} một {noun_phrase(t, pick)}" for t in said.things]
    return ", ".join(phrases)


def describe(said: Said, pick: Pick) -> str:
    """The canonical wording is '<things>, <ground>, <sky>'."""
    ground = pick.of(GROUNDS[said.ground]) if said.ground else None
    sky = pick.of(SKIES[said.sky]) if said.sky else None
    setting = ", ".join(word for word in pick((ground, sky), (ground, sky), (sky, ground)) if word)
    if not said.things:
        return setting
    tail = f", {setting}" if setting else ""
    frame = pick("plain", "plain", "plain", "setting first", "places first", "request", "picture", "clause")
    if frame == "setting first" and setting:
        return f"{setting}, có {_things(said, pick)}"
    if frame == "places first" and said.placed:
        return f"{setting + ', ' if setting else ''}{_placed_first(said, pick)}"
    if frame == "request":
        verb = pick("vẽ", "hãy vẽ", "vẽ cho tôi", "hãy cho tôi xem", "tôi muốn thấy")
        return f"{verb} {_things(said, pick)}{tail}"
    if frame == "picture":
        image = pick("bức tranh có", "một bức tranh vẽ", "hình vẽ", "khung cảnh có")
        return f"{image} {_things(said, pick)}{tail}"
    if frame == "clause" and said.sky:
        where = f" {ground}" if ground else ""
        return f"{pick.of(SKY_CLAUSES[said.sky])}, có {_things(said, pick)}{where}"
    things = _things(said, pick)
    if setting and not said.placed and pick.chance(0.5):
        return f"{things} {setting.replace(', ', ' ')}"
    return f"{things}{tail}"


def instruct(change: Change, pick: Pick) -> str:
    """An edit as an order, such as 'tô chiếc ô tô màu xanh dương'."""
    value = change.value
    if change.action == "sky":
        return pick.of(_SKY_ORDERS[value])
    if change.action == "ground":
        return pick("đặt mọi thứ {}", "đặt tất cả {}", "vẽ lại mọi thứ {}").format(pick.of(GROUNDS[value]))
    if change.action == "add":
        place = pick.of(PLACES[change.addition.place])
        return f"{pick('thêm', 'vẽ thêm', 'đặt thêm')} một {noun_phrase(change.addition, pick)} {place}"
    place = pick.of(PLACES[change.target.place]) if change.target.place else None
    thing = join(noun_phrase(change.target, pick), place)
    if change.action == "remove":
        return pick("xóa {}", "bỏ {} đi", "bỏ {}", "loại bỏ {}").format(thing)
    if change.action == "colour":
        colour = pick.of(COLOURS[value])
        return pick("tô {} {}", "đổi {} thành {}", "sơn {} {}", "cho {} thành {}").format(thing, colour)
    if change.action == "size":
        if value == "large":
            return pick("làm {} lớn hơn", "phóng to {}", "làm {} to lên", "vẽ {} lớn hơn").format(thing)
        return pick("làm {} nhỏ hơn", "thu nhỏ {}", "làm {} nhỏ lại", "vẽ {} nhỏ hơn").format(thing)
    if change.action == "swap":
        other = f"một {pick.of(KINDS[value])}"
        return pick("thay {} bằng {}", "đổi {} thành {}", "biến {} thành {}").format(thing, other)
    return pick("chuyển {} {}", "di chuyển {} {}", "dời {} {}").format(thing, pick.of(_PLACE_GOALS[value]))


VIETNAMESE = Language("vi", describe, instruct)
