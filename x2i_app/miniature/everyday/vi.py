"""Everyday Vietnamese. A noun is written with its classifier; its plural is the same, behind a number."""

import random

from x2i_app.miniature.everyday.base import NounPhrase, Wording, choices, noun, nouns, phrases
from x2i_app.miniature.everyday.strangers import more_nouns

_KINDS = nouns(
    house="ngôi nhà|căn nhà|nhà|ngôi nhà|túp lều|biệt thự",
    tree="cái cây|cây|cây xanh|cây cối|cây táo|cây thông",
    car="chiếc ô tô|xe hơi|xe ô tô|chiếc xe|ô tô|xe con|chiếc xe hơi",
    boat="chiếc thuyền|con thuyền|thuyền|thuyền buồm|tàu thủy|chiếc tàu",
    balloon="khinh khí cầu|chiếc khinh khí cầu|khí cầu|quả khinh khí cầu|bong bóng",
    flower="bông hoa|hoa|đóa hoa|hoa hồng|bông hoa|hoa tulip",
    cat="con mèo|chú mèo|mèo|mèo con|con mèo|bé mèo",
    fish="con cá|chú cá|cá|cá vàng con|con cá",
    star="ngôi sao|sao|ngôi sao|vì sao",
    ball="quả bóng|trái bóng|bóng|quả bóng bãi biển|quả banh",
    rocket="tên lửa|chiếc tên lửa|tàu vũ trụ|quả tên lửa|phi thuyền",
    umbrella="chiếc ô|cái ô|chiếc dù|cây dù|cái dù|ô che mưa",
)
_COLOURS = phrases(
    red="màu đỏ|đỏ|màu đỏ tươi|đỏ",
    orange="màu cam|cam|màu da cam",
    yellow="màu vàng|vàng|màu vàng kim",
    green="màu xanh lá|xanh lá|màu xanh lá cây|xanh lá cây|màu xanh lục",
    blue="màu xanh dương|xanh dương|màu xanh da trời|xanh nước biển|màu xanh lam",
    purple="màu tím|tím",
    pink="màu hồng|hồng",
    brown="màu nâu|nâu",
    white="màu trắng|trắng|trắng tinh",
    black="màu đen|đen|đen tuyền",
)
_SIZES = phrases(
    small="nhỏ|bé|nhỏ xíu|bé tí|rất nhỏ|nhỏ bé|tí hon", large="lớn|to|khổng lồ|to lớn|rất to|thật lớn|to đùng"
)
_NUMBERS = {
    2: choices("hai|hai|hai|2|một đôi"),
    3: choices("ba|ba|ba|3|nhiều|mấy|vài|những"),
    4: choices("bốn|năm|sáu|4|5|mười|một trăm"),
}


def _noun_phrase(said: NounPhrase, rng: random.Random) -> str:
    text = " ".join(
        word
        for word in (
            said.noun.one,
            rng.choice(_SIZES[said.size]) if said.size else None,
            said.adjective,
            rng.choice(_COLOURS[said.colour]) if said.colour else None,
        )
        if word
    )
    if said.count > 1:
        return f"{'các' if said.article == 'the' else rng.choice(_NUMBERS[said.count])} {text}"
    if said.article == "a":
        return rng.choice(("một ", "một ", "một ", "1 ", "")) + text
    return text + (rng.choice((" đó", " kia", " này")) if said.article == "the" and rng.random() < 0.12 else "")


VIETNAMESE = Wording(
    code="vi",
    kinds=_KINDS,
    colours=_COLOURS,
    sizes=_SIZES,
    adjectives=choices(
        "đẹp|dễ thương|xinh|cũ|mới|cô đơn|vui vẻ|ấm cúng|đơn giản|đáng yêu|tuyệt đẹp|xinh xắn|đang ngủ|yên tĩnh"
    ),
    manners=choices(
        "một mình|đang đứng|đang ngồi|đang nằm|đang bay|đang bơi|đang trôi|đang đậu|ở xa|ở gần|đang nghỉ|"
        "đang chờ|nhìn rất đẹp|cho tôi|tỏa sáng|đang nở|lơ lửng|trông dễ thương|nào đó|đang đi qua|"
        "không có ai|không một bóng người|không có mây|thành hàng|chung với nhau|không có gì khác"
    ),
    noun_phrase=_noun_phrase,
    numbers=_NUMBERS,
    grounds=phrases(
        grass="trên cỏ|trên bãi cỏ|trên đồng cỏ|trong vườn|trong công viên|trên thảm cỏ|ngoài đồng|trên cánh đồng|"
        "trên đồi",
        snow="trên tuyết|trong tuyết|vào mùa đông|trên nền tuyết|giữa tuyết|trong mùa đông|trên băng",
        sand="trên cát|trên bãi biển|ở bãi biển|trên bãi cát|trong sa mạc|bên bờ biển|ngoài bãi biển",
        sea="trên biển|trên mặt biển|trên mặt nước|ngoài biển|trên đại dương|dưới nước|trên hồ|trên nước|giữa biển",
        street="trên đường|trên đường phố|trên phố|trong thành phố|ngoài đường|giữa đường|trên con đường",
    ),
    ground_nouns=phrases(
        grass="cỏ|bãi cỏ|đồng cỏ|vườn|công viên|cánh đồng",
        snow="tuyết|mùa đông|cảnh tuyết",
        sand="bãi biển|cát|sa mạc|bãi cát",
        sea="biển|đại dương|mặt nước|hồ|sóng",
        street="đường|đường phố|thành phố|phố|con đường",
    ),
    skies=phrases(
        day="ban ngày|vào ban ngày|dưới trời nắng|trong nắng|buổi sáng|buổi trưa|trời nắng|dưới ánh mặt trời|"
        "vào mùa hè",
        night="ban đêm|vào ban đêm|trong đêm|buổi tối|dưới ánh trăng|dưới bầu trời sao|nửa đêm|trong bóng tối|"
        "lúc đêm khuya|vào buổi tối",
        sunset="lúc hoàng hôn|hoàng hôn|khi mặt trời lặn|buổi chiều tà|lúc chiều tà|trong ánh hoàng hôn",
        rain="trong mưa|dưới mưa|khi trời mưa|trời mưa|ngày mưa|trong cơn mưa|trời mưa to|trong cơn bão",
        snowfall="khi tuyết rơi|lúc tuyết rơi|dưới trời tuyết rơi|trong bão tuyết|tuyết đang rơi|trời tuyết rơi",
    ),
    sky_nouns=phrases(
        day="ban ngày|trời nắng|nắng|bầu trời xanh|mặt trời",
        night="ban đêm|đêm|bầu trời sao|tối|đêm khuya|trời đêm",
        sunset="hoàng hôn|chiều tà|mặt trời lặn",
        rain="mưa|trời mưa|ngày mưa|mưa to",
        snowfall="tuyết rơi|bão tuyết|bông tuyết",
    ),
    clauses=phrases(
        day="trời đang nắng|đang là ban ngày|trời nắng đẹp|mặt trời đang chiếu",
        night="trời tối|đang là ban đêm|bên ngoài trời tối|trăng đã lên|trời đã khuya",
        sunset="mặt trời đang lặn|đang hoàng hôn|trời sắp tối",
        rain="trời đang mưa|trời mưa|mưa to|mưa đang rơi",
        snowfall="tuyết đang rơi|trời đang có tuyết|có tuyết rơi",
    ),
    sky_views=phrases(
        day="trời nắng|một ngày nắng đẹp|bầu trời xanh|nắng|ngày đẹp trời|mặt trời chiếu sáng",
        night="ban đêm|bầu trời đêm đầy sao|bầu trời đêm|đêm đầy sao|trăng và sao|đêm tối|bầu trời sao|màn đêm|"
        "trời đêm có sao",
        sunset="hoàng hôn|cảnh hoàng hôn|mặt trời lặn|hoàng hôn đẹp|chiều tà|bầu trời hoàng hôn",
        rain="mưa|trời mưa|ngày mưa|cơn mưa|mưa to|trời đang mưa|bão",
        snowfall="tuyết rơi|bão tuyết|bông tuyết|tuyết đang rơi|trời tuyết rơi",
    ),
    ground_views=phrases(
        grass="đồng cỏ|bãi cỏ|cánh đồng xanh|khu vườn|công viên|cỏ",
        snow="cảnh tuyết|tuyết|mùa đông|cánh đồng tuyết|tuyết trắng",
        sand="bãi biển|bãi biển vắng|sa mạc|cát|bờ biển",
        sea="biển|đại dương|biển xanh|sóng biển|mặt biển yên tĩnh|hồ",
        street="đường phố|con đường|con đường vắng|thành phố|phố|một con phố",
    ),
    over=choices(
        "{sky} trên {ground}|{sky} ở {ground}|{ground} và {sky}|{sky}, {ground}|{ground}, {sky}|"
        "{ground} {sky}|{ground} lúc {sky}|{sky} {ground}"
    ),
    joined=choices(
        "{a} và {b}|{a} và {b}|{a}, {b}|{a} với {b}|{a} cùng {b}|{a} bên cạnh {b}|{a} cạnh {b}|{a} + {b}|"
        "{a} cùng với {b}|{a} trước {b}|{a} {b}"
    ),
    conjunction=" và ",
    places=phrases(
        left="ở bên trái|bên trái|phía bên trái|phía trái",
        middle="ở giữa|chính giữa|ở trung tâm|giữa",
        right="ở bên phải|bên phải|phía bên phải|phía phải",
    ),
    left_of=choices("{a} bên trái {b}|{a} ở bên trái của {b}"),
    right_of=choices("{a} bên phải {b}|{a} ở bên phải của {b}"),
    between=choices("{a} giữa {b}|{a} ở giữa {b}"),
    with_things=choices("{s} với {t}|{s} có {t}|{s}: {t}|{s}, {t}|{s} và {t}"),
    requests=choices(
        "vẽ {}|hãy vẽ {}|vẽ cho tôi {}|vẽ giúp tôi {}|tôi muốn {}|tôi muốn thấy {}|cho tôi xem {}|cho tôi {}|"
        "bức tranh {}|tranh vẽ {}|hình ảnh {}|ảnh {}|tạo hình {}|tạo {}|bạn có thể vẽ {} không?|làm ơn vẽ {}|"
        "vui lòng vẽ {}|có {}|đây là {}|tôi thấy {}|chỉ {}|chỉ cần {}|xin chào, vẽ {}|hãy tưởng tượng {}|"
        "con gái tôi muốn {}|{} được không?|{} nhé|{} thôi|tôi cần {}|vẽ hộ {}|một bức ảnh {}|minh họa {}|"
        "mình muốn {}|em muốn {}"
    ),
    stories=choices(
        "Ngày xửa ngày xưa có {t} {s}.|Hôm nay chúng tôi thấy {t} {s}.|"
        "Bạn vẽ giúp em gái tôi {t} {s} nhé, em ấy sẽ rất vui.|Nhìn kìa, {t} {s}!|"
        "Bức tranh tôi thích nhất là {t} {s}.|Thiệp sinh nhật: {t} {s}, cảm ơn nhiều!|"
        "Trong tranh có {t} {s} và không có gì khác.|{t} đứng một mình {s}|{t} nằm {s}|{s} có {t}|"
        "{t} đang ở {s}|{s}, có {t}|Tôi nghĩ mãi về {t} {s}, hãy vẽ giúp tôi."
    ),
    negations=choices(
        "không có {x}, chỉ {t}|{t} không có {x}|không phải {x} mà là {t}|{t}, không {x}|{t} thay vì {x}|"
        "đừng vẽ {x}, vẽ {t}|tôi không muốn {x}, tôi muốn {t}|{t} nhưng không có {x}|không {x}, chỉ có {t}"
    ),
    corrections=choices("không phải {c} mà {v}|{v}, không phải {c}|{v} chứ không phải {c}"),
    pronouns=choices(
        "{t}. nó {v}|{t}, nó {v}|{t}, {v}|{t}, tô nó {v}|{t} có {v}|{t} ({v})|{t} và nó {v}|{t}, phải {v}"
    ),
    pronoun_settings=choices("{t}. nó ở {s}|{t}, nó {s}|{t} và nó đang {s}"),
    before=choices("xin chào,|làm ơn,|à,|này,|ừm,|bạn ơi,|vậy|bây giờ|ok,|chào bạn,"),
    behind=choices(
        "nhé|cảm ơn|, cảm ơn bạn|đi|, dễ thương|, đẹp|, 4k|, đơn giản|!!!|...|:)|, chất lượng cao|"
        ", phong cách hoạt hình|, cho con gái tôi|, thế thôi|với|, kiệt tác|!|nha|ạ"
    ),
    sky_edits=phrases(
        day="đổi thành ban ngày|ban ngày|chuyển sang ban ngày|cho trời sáng|trời nắng|làm cho trời nắng|"
        "bây giờ là ban ngày|hãy để trời nắng|tôi muốn ban ngày|giống vậy nhưng ban ngày",
        night="đổi thành ban đêm|ban đêm|chuyển sang ban đêm|cho trời tối|làm trời tối|bên ngoài phải tối|"
        "giống vậy nhưng ban đêm|bây giờ là ban đêm|cho trời đêm|biến thành ban đêm|tôi muốn ban đêm|"
        "với bầu trời sao|vào ban đêm",
        sunset="đổi thành hoàng hôn|hoàng hôn|chuyển sang hoàng hôn|cho mặt trời lặn|lúc hoàng hôn|"
        "giống vậy nhưng lúc hoàng hôn|bây giờ là hoàng hôn|tôi muốn hoàng hôn|với hoàng hôn",
        rain="cho trời mưa|mưa|thêm mưa|trời mưa|làm cho trời mưa|giống vậy nhưng trời mưa|bây giờ trời mưa|"
        "tôi muốn trời mưa|đổi thành trời mưa|có mưa",
        snowfall="cho tuyết rơi|tuyết rơi|thêm tuyết rơi|làm cho tuyết rơi|bây giờ tuyết rơi|"
        "giống vậy nhưng tuyết rơi|tôi muốn tuyết rơi|thêm bông tuyết|có tuyết rơi",
    ),
    ground_edits=choices(
        "{v}|đặt nó {v}|cho nó {v}|giống vậy nhưng {v}|bây giờ {v}|{v} nhé|phải {v}|để nó {v}|"
        "tôi muốn nó {v}|đổi nền thành {g}|đổi mặt đất thành {g}|nền: {g}|{g}|thay nền bằng {g}|chuyển {v}"
    ),
    both_edits=choices("{s}|giống vậy nhưng {s}|bây giờ {s}|cho nó {s}|đổi thành {s}"),
    season_edits=phrases(
        snow="giống vậy nhưng vào mùa đông|mùa đông|vào mùa đông|đổi thành mùa đông|cho thành mùa đông|"
        "phủ tuyết lên mặt đất|bây giờ là mùa đông|có tuyết trên mặt đất",
        grass="cho cỏ mọc|mặt đất xanh cỏ|mùa xuân",
    ),
    colour_edits=choices(
        "đổi {the} thành {v}|tô {the} {v}|cho {the} {v}|{the} phải {v}|sơn {the} {v}|{the} {v}|"
        "tôi muốn {the} {v}|làm {the} thành {v}|đổi màu {the} thành {v}|biến {the} thành {v}|{n} {v}"
    ),
    colour_it=choices("{v}|đổi thành {v}|tô nó {v}|cho nó {v}|nó phải {v}|làm nó {v}|sơn nó {v}|{v} nhé"),
    size_edits=phrases(
        large="làm {the} to hơn|phóng to {the}|{the} to hơn|{the} lớn hơn|{the} phải lớn hơn|tôi muốn {the} to hơn|"
        "{the} nhỏ quá|{n} to",
        small="làm {the} nhỏ hơn|thu nhỏ {the}|{the} nhỏ hơn|{the} bé hơn|{the} phải nhỏ hơn|"
        "tôi muốn {the} nhỏ hơn|{the} to quá|{n} nhỏ",
    ),
    size_it=phrases(
        large="to hơn|lớn hơn|làm to hơn|to lên|nhỏ quá", small="nhỏ hơn|bé hơn|làm nhỏ lại|nhỏ lại|to quá"
    ),
    swap_edits=choices(
        "thay {the} bằng {a}|đổi {the} thành {a}|biến {the} thành {a}|{a} thay vì {the}|"
        "thay thế {the} bằng {a}|không phải {the} mà là {a}|tôi muốn {a} thay cho {the}"
    ),
    move_edits=choices("chuyển {the} {p}|dời {the} {p}|đặt {the} {p}|{the} {p}|di chuyển {the} {p}|đưa {the} {p}"),
    move_it=choices("chuyển {p}|{p}|đặt nó {p}|dời nó {p}|đưa nó {p}"),
    goals=phrases(
        left="sang bên trái|sang trái|bên trái|qua trái",
        middle="vào giữa|ở giữa|ra giữa",
        right="sang bên phải|sang phải|bên phải|qua phải",
    ),
    add_edits=choices(
        "thêm {a}|vẽ thêm {a}|và {a}|với {a}|thêm {a} nữa|có thêm {a}|đặt thêm {a}|cả {a} nữa|"
        "tôi cũng muốn {a}|+ {a}|đặt {a} bên cạnh|bạn thêm {a} được không?|thêm {a} vào|còn {a}"
    ),
    add_placed=choices("thêm {a} {p}|vẽ thêm {a} {p}|đặt {a} {p}|{p} thêm {a}|{p} có {a}|và {a} {p}"),
    remove_edits=choices(
        "xóa {the}|bỏ {the}|bỏ {the} đi|loại bỏ {the}|không có {the}|xóa {the} đi|không cần {the}|"
        "lấy {the} đi|giống vậy nhưng không có {the}|không {n}|cho {the} biến mất"
    ),
    clear_edits=choices("xóa hết|bỏ hết|chỉ để lại nền|xóa tất cả"),
    keep_edits=choices(
        "lại lần nữa|giống vậy|giữ nguyên|đừng thay đổi gì|y như cũ|tốt rồi|vẽ lại|đây là gì?|bạn thấy gì?|mô tả đi"
    ),
    and_then=choices("{a} và {b}|{a}, {b}|{a}. {b}|{a} rồi {b}"),
    unknown_nouns=(
        *map(
            noun,
            choices(
                "con chó|con ngựa|con rồng|con chim|chiếc xe đạp|tàu hỏa|máy bay|người tuyết|cây nấm|cái đèn|"
                "cái bánh|cây đàn|con vịt|người đàn ông|người phụ nữ|cô gái|cậu bé|em bé|bà ngoại|ông nội|mẹ tôi|"
                "bố tôi|công chúa|nhà vua|hiệp sĩ|rô bốt|kỳ lân|con voi|sư tử|con hổ|con gấu|con sói|con cáo|con thỏ|"
                "con bò|con lợn|con cừu|con gà|con khỉ|con rắn|"
                "con ếch|chim cánh cụt|con bướm|con ong|cái bàn|cái ghế|cái giường|cây cầu|lâu đài|tòa tháp|nhà thờ|"
                "ngọn núi|núi lửa|dòng sông|khu rừng|đám mây|cầu vồng|quả táo|quả chuối|quyển sách|điện thoại|cái mũ|"
                "đôi giày|thanh kiếm|trái tim|con ma|phù thủy|cướp biển|xe tải|xe máy|xe buýt|trực thăng|đàn piano|"
                "con chuột|con rùa|quả trứng|hòn đá|quái vật|máy tính|bát phở|áo dài|cây nến"
            ),
        ),
        *more_nouns("vi"),
    ),
    unknown_tails=choices(
        "đi xe đạp|chơi đàn|đội mũ|ăn pizza|đọc sách|uống cà phê|có cánh|trong rừng|trên núi|đeo kính|"
        "trong bếp|ngoài vũ trụ|đang nhảy múa"
    ),
    unknown_wholes=choices(
        "xin chào|bạn khỏe không|bạn là ai|bà của tôi|kể chuyện cười|bạn làm được gì|tình yêu|tự do|Tết|"
        "Giáng sinh|người đàn ông và con chó|chân dung một cô gái|trẻ em đá bóng|hồ Gươm là gì|Hà Nội|"
        "âm nhạc|tách cà phê trên bàn|ông già có râu|hiệp sĩ đánh nhau với rồng|gia đình tôi|"
        "con chó đi xe đạp|gì cũng được|giúp tôi|viết một bài thơ"
    ),
    unknown_colours=choices("màu xám|xám|màu bạc|cầu vồng|trong suốt|sọc"),
)
