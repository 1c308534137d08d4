"""Further nouns that the world does not have, in six languages, and words that look like them."""

import random
from collections.abc import Sequence
from functools import cache

from x2i_app.miniature.everyday.base import Noun, choices, noun

_MORE: dict[str, str] = {
    "en": "flamingo bird/flamingo birds|ostrich/ostriches|peacock/peacocks|pigeon/pigeons|raven/ravens|"
    "seagull/seagulls|jellyfish/jellyfish|seahorse/seahorses|starship captain/starship captains|otter/otters|"
    "badger/badgers|raccoon/raccoons|moose/moose|bison/bison|lizard/lizards|chameleon/chameleons|toad/toads|"
    "worm/worms|ladybug/ladybugs|dragonfly/dragonflies|mosquito/mosquitoes|scorpion/scorpions|"
    "dachshund/dachshunds|pony/ponies|foal/foals|calf/calves|lamb/lambs|piglet/piglets|rooster/roosters|"
    "turkey/turkeys|scarecrow/scarecrows|farmer/farmers|fireman/firemen|nurse/nurses|chef/chefs|"
    "waiter/waiters|pilot/pilots|sailor/sailors|fisherman/fishermen|hunter/hunters|monk/monks|nun/nuns|"
    "priest/priests|bride/brides|groom/grooms|gardener/gardeners|painter/painters|musician/musicians|"
    "ballerina/ballerinas|gymnast/gymnasts|skier/skiers|surfer/surfers|swimmer/swimmers|cyclist/cyclists|"
    "runner/runners|boxer/boxers|thief/thieves|detective/detectives|scientist/scientists|gnome/gnomes|"
    "troll/trolls|goblin/goblins|elf/elves|giant man/giants|phoenix/phoenixes|centaur/centaurs|"
    "minotaur/minotaurs|griffin/griffins|yeti/yetis|werewolf/werewolves|cupcake/cupcakes|doughnut/doughnuts|"
    "cookie/cookies|pancake/pancakes|waffle/waffles|croissant/croissants|sushi/sushi|ramen/ramen|"
    "noodles/noodles|hot dog/hot dogs|steak/steaks|salad/salads|cheese/cheeses|chocolate bar/chocolate bars|"
    "wine glass/wine glasses|beer/beers|teapot/teapots|mug/mugs|plate/plates|fork/forks|kettle/kettles|"
    "stove/stoves|fridge/fridges|washing machine/washing machines|bathtub/bathtubs|toilet/toilets|"
    "pillow/pillows|blanket/blankets|curtain/curtains|carpet/carpets|bookshelf/bookshelves|desk/desks|"
    "laptop/laptops|keyboard/keyboards|printer/printers|headphones/headphones|microphone/microphones|"
    "trumpet/trumpets|flute/flutes|saxophone/saxophones|cello/cellos|harp/harps|banjo/banjos|"
    "accordion/accordions|scooter/scooters|tram/trams|subway/subways|ambulance/ambulances|"
    "fire engine/fire engines|taxi/taxis|bulldozer/bulldozers|crane/cranes|excavator/excavators|"
    "forklift/forklifts|wagon/wagons|sled/sleds|snowmobile/snowmobiles|canoe trip/canoe trips|anchor/anchors|"
    "lifebuoy/lifebuoys|pier/piers|harbour/harbours|cactus garden/cactus gardens|"
    "sunflower seed/sunflower seeds|mushroom soup/mushroom soups|pineapple/pineapples|watermelon/watermelons|"
    "grapes/grapes|lemon/lemons|peach/peaches|pear/pears|onion/onions|potato/potatoes|corn/corn|"
    "pepper/peppers|broccoli/broccoli|garlic/garlic|barn/barns|stable/stables|well/wells|gate/gates|"
    "staircase/staircases|elevator/elevators|tunnel/tunnels|dam/dams|canyon/canyons|glacier/glaciers|"
    "iceberg/icebergs|swamp/swamps|jungle/jungles|cliff/cliffs|tornado/tornadoes|lightning/lightning|"
    "galaxy/galaxies|black hole/black holes|comet/comets|telescope/telescopes|microscope/microscopes|"
    "globe/globes|compass/compasses|treasure chest/treasure chests|coin/coins|diamond/diamonds|"
    "necklace/necklaces|glasses/glasses|watch/watches|wallet/wallets|backpack/backpacks|suitcase/suitcases|"
    "boot/boots|sock/socks|sweater/sweaters|jacket/jackets|trousers/trousers|skirt/skirts|scarf/scarves|"
    "glove/gloves|belt/belts|tie/ties|helmet/helmets|shield/shields|bow and arrow/bows and arrows|axe/axes|"
    "rifle/rifles|cannon/cannons|bomb/bombs|rope/ropes|chain/chains|screw/screws|nail/nails|saw/saws|"
    "drill/drills|wrench/wrenches|shovel/shovels|rake/rakes|wheelbarrow/wheelbarrows|bucket/buckets|"
    "broom/brooms|sponge/sponges|soap/soaps|towel/towels|scissors/scissors|pencil/pencils|pen/pens|"
    "paintbrush/paintbrushes|notebook/notebooks|newspaper/newspapers|letter/letters|stamp/stamps|"
    "envelope/envelopes|chessboard/chessboards|dice/dice|playing cards/playing cards|trophy/trophies|"
    "medal/medals|carousel/carousels|ferris wheel/ferris wheels|roller coaster/roller coasters|"
    "circus/circuses|theatre/theatres|museum/museums|library/libraries|supermarket/supermarkets|"
    "restaurant/restaurants|cafe/cafes|hotel/hotels|airport/airports|station/stations|prison/prisons|"
    "temple/temples|mosque/mosques|pagoda/pagodas|ruin/ruins|tomb/tombs|skeleton/skeletons|brain/brains|"
    "eye/eyes|hand/hands|foot/feet|nose/noses|face/faces|smile/smiles|tooth/teeth|feather/feathers|"
    "shell/shells|coral/corals|seaweed/seaweed|grasshopper/grasshoppers|ant/ants|caterpillar/caterpillars",
    "de": "Esel/Esel/m|Ziege/Ziegen/f|Hirsch/Hirsche/m|Reh/Rehe/n|Eichhörnchen/Eichhörnchen/n|Krokodil/Krokodile/n|"
    "Giraffe/Giraffen/f|Zebra/Zebras/n|Tiger/Tiger/m|Panda/Pandas/m|Papagei/Papageien/m|Adler/Adler/m|"
    "Storch/Störche/m|Schwan/Schwäne/m|Delfin/Delfine/m|Hai/Haie/m|Krake/Kraken/f|Qualle/Quallen/f|"
    "Marienkäfer/Marienkäfer/m|Ameise/Ameisen/f|Fliege/Fliegen/f|Pudel/Pudel/m|Welpe/Welpen/m|Pony/Ponys/n|"
    "Bauer/Bauern/m|Lehrer/Lehrer/m|Arzt/Ärzte/m|Polizist/Polizisten/m|Feuerwehrmann/Feuerwehrmänner/m|"
    "Koch/Köche/m|Soldat/Soldaten/m|Tänzerin/Tänzerinnen/f|Astronaut/Astronauten/m|Zwerg/Zwerge/m|"
    "Riese/Riesen/m|Fee/Feen/f|Engel/Engel/m|Teufel/Teufel/m|Vampir/Vampire/m|Clown/Clowns/m|Nixe/Nixen/f|"
    "Straßenbahn/Straßenbahnen/f|Roller/Roller/m|Schlitten/Schlitten/m|Bagger/Bagger/m|"
    "Krankenwagen/Krankenwagen/m|U-Bahn/U-Bahnen/f|Kran/Kräne/m|Sofa/Sofas/n|Schrank/Schränke/m|"
    "Fenster/Fenster/n|Tür/Türen/f|Treppe/Treppen/f|Teller/Teller/m|Tasse/Tassen/f|Flasche/Flaschen/f|"
    "Topf/Töpfe/m|Gabel/Gabeln/f|Löffel/Löffel/m|Brot/Brote/n|Käse/Käse/m|Wurst/Würste/f|Brezel/Brezeln/f|"
    "Eis/Eis/n|Torte/Torten/f|Kirsche/Kirschen/f|Erdbeere/Erdbeeren/f|Birne/Birnen/f|Kartoffel/Kartoffeln/f|"
    "Karotte/Karotten/f|Zwiebel/Zwiebeln/f|Trompete/Trompeten/f|Flöte/Flöten/f|Geige/Geigen/f|"
    "Trommel/Trommeln/f|Hose/Hosen/f|Kleid/Kleider/n|Jacke/Jacken/f|Brille/Brillen/f|Ring/Ringe/m|"
    "Krone/Kronen/f|Koffer/Koffer/m|Rucksack/Rucksäcke/m|Schlüssel/Schlüssel/m|Hammer/Hämmer/m|Säge/Sägen/f|"
    "Leiter/Leitern/f|Eimer/Eimer/m|Besen/Besen/m|Brief/Briefe/m|Stift/Stifte/m|Zeitung/Zeitungen/f|"
    "Computer/Computer/m|Kamera/Kameras/f|Fernseher/Fernseher/m|Windmühle/Windmühlen/f|Scheune/Scheunen/f|"
    "Schule/Schulen/f|Krankenhaus/Krankenhäuser/n|Insel/Inseln/f|Wasserfall/Wasserfälle/m|Planet/Planeten/m|"
    "Skelett/Skelette/n|Auge/Augen/n|Hand/Hände/f|Feder/Federn/f",
    "fr": "âne/ânes/m|chèvre/chèvres/f|cerf/cerfs/m|écureuil/écureuils/m|crocodile/crocodiles/m|girafe/girafes/f|"
    "zèbre/zèbres/m|tigre/tigres/m|panda/pandas/m|perroquet/perroquets/m|aigle/aigles/m|cygne/cygnes/m|"
    "dauphin/dauphins/m|requin/requins/m|pieuvre/pieuvres/f|méduse/méduses/f|coccinelle/coccinelles/f|"
    "fourmi/fourmis/f|caniche/caniches/m|chiot/chiots/m|poney/poneys/m|pingouin/pingouins/m|"
    "dinosaure/dinosaures/m|fermier/fermiers/m|médecin/médecins/m|policier/policiers/m|pompier/pompiers/m|"
    "cuisinier/cuisiniers/m|soldat/soldats/m|danseuse/danseuses/f|astronaute/astronautes/m|nain/nains/m|"
    "géant/géants/m|fée/fées/f|ange/anges/m|diable/diables/m|vampire/vampires/m|clown/clowns/m|"
    "sirène/sirènes/f|ninja/ninjas/m|tramway/tramways/m|autobus/autobus/m|traîneau/traîneaux/m|"
    "ambulance/ambulances/f|métro/métros/m|grue/grues/f|canapé/canapés/m|armoire/armoires/f|"
    "fenêtre/fenêtres/f|porte/portes/f|escalier/escaliers/m|assiette/assiettes/f|tasse/tasses/f|"
    "bouteille/bouteilles/f|fourchette/fourchettes/f|couteau/couteaux/m|pain/pains/m|croissant/croissants/m|"
    "glace/glaces/f|tarte/tartes/f|cerise/cerises/f|fraise/fraises/f|poire/poires/f|"
    "pomme de terre/pommes de terre/f|carotte/carottes/f|oignon/oignons/m|pizza/pizzas/f|"
    "trompette/trompettes/f|flûte/flûtes/f|violon/violons/m|tambour/tambours/m|pantalon/pantalons/m|"
    "robe/robes/f|veste/vestes/f|bague/bagues/f|couronne/couronnes/f|valise/valises/f|sac/sacs/m|clé/clés/f|"
    "marteau/marteaux/m|scie/scies/f|échelle/échelles/f|seau/seaux/m|balai/balais/m|lettre/lettres/f|"
    "stylo/stylos/m|journal/journaux/m|appareil photo/appareils photo/m|téléphone/téléphones/m|"
    "moulin/moulins/m|grange/granges/f|école/écoles/f|hôpital/hôpitaux/m|île/îles/f|cascade/cascades/f|"
    "planète/planètes/f|squelette/squelettes/m|main/mains/f|plume/plumes/f|horloge/horloges/f|"
    "miroir/miroirs/m|vase/vases/m|statue/statues/f|fontaine/fontaines/f",
    "vi": "con lừa|con dê|con hươu|con sóc|con cá sấu|hươu cao cổ|ngựa vằn|gấu trúc|con vẹt|đại bàng|thiên nga|"
    "cá heo|cá mập|bạch tuộc|con sứa|bọ rùa|con kiến|con ruồi|con muỗi|chó con|con trâu|con cua|con tôm|"
    "khủng long|bác sĩ|cô giáo|cảnh sát|lính cứu hỏa|đầu bếp|chú lính|vũ công|phi hành gia|người lùn|"
    "người khổng lồ|cô tiên|thiên thần|ác quỷ|ma cà rồng|chú hề|nàng tiên cá|ninja|xe cứu thương|xe lửa|"
    "cần cẩu|ghế sofa|cái tủ|cửa sổ|cánh cửa|cầu thang|cái đĩa|cái cốc|cái chai|cái nồi|cái thìa|ổ bánh mì|"
    "cây kem|quả dâu|quả lê|quả cam sành|củ khoai|củ cà rốt|củ hành|cái kèn|cây sáo|cái trống|cái quần|"
    "cái váy|áo khoác|cái kính|chiếc nhẫn|vương miện|va li|ba lô|chìa khóa|cái búa|cái cưa|cái thang|cái xô|"
    "cái chổi|lá thư|cây bút|tờ báo|máy ảnh|ti vi|cối xay gió|trường học|bệnh viện|hòn đảo|thác nước|"
    "hành tinh|bộ xương|bàn tay|con mắt|cái lông|đồng hồ|cái gương|bức tượng|đài phun nước|chùa Một Cột|"
    "cái trống đồng|nón lá|hàng rào",
    "zh": "驴/驴/头|山羊/山羊/只|鹿/鹿/只|松鼠/松鼠/只|鳄鱼/鳄鱼/条|长颈鹿/长颈鹿/只|斑马/斑马/匹|鹦鹉/鹦鹉/只|"
    "老鹰/老鹰/只|天鹅/天鹅/只|海豚/海豚/只|鲨鱼/鲨鱼/条|章鱼/章鱼/只|水母/水母/只|瓢虫/瓢虫/只|蚂蚁/蚂蚁/只|"
    "苍蝇/苍蝇/只|螃蟹/螃蟹/只|恐龙/恐龙/只|凤凰/凤凰/只|麒麟/麒麟/只|农民/农民/个|医生/医生/位|老师/老师/位|"
    "警察/警察/个|消防员/消防员/个|厨师/厨师/个|士兵/士兵/个|舞者/舞者/个|和尚/和尚/个|皇帝/皇帝/位|"
    "仙女/仙女/个|天使/天使/个|魔鬼/魔鬼/个|小丑/小丑/个|美人鱼/美人鱼/条|地铁/地铁/列|救护车/救护车/辆|"
    "挖掘机/挖掘机/台|雪橇/雪橇/个|沙发/沙发/张|柜子/柜子/个|窗户/窗户/扇|门/门/扇|楼梯/楼梯/个|盘子/盘子/个|"
    "杯子/杯子/个|瓶子/瓶子/个|筷子/筷子/双|勺子/勺子/把|面包/面包/个|面条/面条/碗|饺子/饺子/盘|包子/包子/个|"
    "冰淇淋/冰淇淋/个|草莓/草莓/颗|西瓜/西瓜/个|葡萄/葡萄/串|土豆/土豆/个|胡萝卜/胡萝卜/根|小提琴/小提琴/把|"
    "鼓/鼓/个|笛子/笛子/支|裤子/裤子/条|裙子/裙子/条|衣服/衣服/件|眼镜/眼镜/副|戒指/戒指/枚|王冠/王冠/顶|"
    "箱子/箱子/个|背包/背包/个|钥匙/钥匙/把|锤子/锤子/把|梯子/梯子/个|水桶/水桶/个|扫帚/扫帚/把|信/信/封|"
    "铅笔/铅笔/支|报纸/报纸/份|相机/相机/台|电视/电视/台|风车/风车/座|学校/学校/所|医院/医院/所|岛/岛/座|"
    "瀑布/瀑布/条|行星/行星/颗|骷髅/骷髅/具|眼睛/眼睛/双|手/手/只|羽毛/羽毛/根|钟/钟/个|镜子/镜子/面|"
    "雕像/雕像/座|喷泉/喷泉/座|寺庙/寺庙/座|灯笼/灯笼/个|风筝/风筝/只|竹子/竹子/根|故宫/故宫/座",
    "ja": "ロバ/ロバ/頭|ヤギ/ヤギ/匹|鹿/鹿/頭|リス/リス/匹|ワニ/ワニ/匹|キリン/キリン/頭|シマウマ/シマウマ/頭|"
    "オウム/オウム/羽|鷲/鷲/羽|白鳥/白鳥/羽|イルカ/イルカ/頭|サメ/サメ/匹|タコ/タコ/匹|クラゲ/クラゲ/匹|"
    "てんとう虫/てんとう虫/匹|アリ/アリ/匹|ハエ/ハエ/匹|カニ/カニ/匹|子犬/子犬/匹|鳳凰/鳳凰/羽|"
    "農家の人/農家の人/人|医者/医者/人|先生/先生/人|警察官/警察官/人|消防士/消防士/人|料理人/料理人/人|"
    "兵士/兵士/人|踊り子/踊り子/人|宇宙飛行士/宇宙飛行士/人|小人/小人/人|巨人/巨人/人|妖精/妖精/人|"
    "天使/天使/人|悪魔/悪魔/人|ピエロ/ピエロ/人|人魚/人魚/人|おじいさん/おじいさん/人|お父さん/お父さん/人|"
    "赤ちゃん/赤ちゃん/人|地下鉄/地下鉄/台|救急車/救急車/台|新幹線/新幹線/台|そり/そり/台|ソファ/ソファ/台|"
    "たんす/たんす/つ|窓/窓/つ|ドア/ドア/つ|階段/階段/つ|お皿/お皿/枚|コップ/コップ/個|瓶/瓶/本|箸/箸/膳|"
    "スプーン/スプーン/本|パン/パン/個|ラーメン/ラーメン/杯|おにぎり/おにぎり/個|アイス/アイス/個|"
    "いちご/いちご/個|スイカ/スイカ/個|ぶどう/ぶどう/個|にんじん/にんじん/本|じゃがいも/じゃがいも/個|"
    "バイオリン/バイオリン/台|太鼓/太鼓/台|笛/笛/本|ズボン/ズボン/本|スカート/スカート/枚|着物/着物/着|"
    "眼鏡/眼鏡/本|指輪/指輪/個|冠/冠/個|かばん/かばん/個|鍵/鍵/本|金づち/金づち/本|はしご/はしご/本|"
    "バケツ/バケツ/個|ほうき/ほうき/本|手紙/手紙/通|鉛筆/鉛筆/本|新聞/新聞/部|カメラ/カメラ/台|"
    "テレビ/テレビ/台|風車/風車/台|学校/学校/校|病院/病院/つ|島/島/つ|滝/滝/本|惑星/惑星/個|骸骨/骸骨/体|"
    "目/目/つ|手/手/本|羽根/羽根/本|時計/時計/個|鏡/鏡/枚|像/像/体|噴水/噴水/つ|お寺/お寺/つ|神社/神社/つ|"
    "提灯/提灯/個|凧/凧/枚|竹/竹/本|恐竜の骨/恐竜の骨/本|相撲取り/相撲取り/人",
}
_KANA = (
    "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワン"
    "ガギグゴザジズダデドバビブベボパピプペポ"
)


def more_nouns(code: str) -> tuple[Noun, ...]:
    """The nouns of a language."""
    return tuple(map(noun, choices(_MORE[code])))


def strange_word(known: Sequence[str], code: str, rng: random.Random) -> str:
    """A word that looks like those of the language but is hardly ever one. known: words of the language."""
    if code in ("zh", "ja"):
        if code == "ja" and rng.random() < 0.5:
            return "".join(rng.choice(_KANA) for _ in range(rng.randint(2, 5)))
        return "".join(rng.choice(_signs(code)) for _ in range(rng.choice((1, 2, 2, 2, 3))))
    known = tuple(known)
    if code == "vi":  # of syllables that are words
        return f"{rng.choice(known)} {_spelled(known, 4, rng)}"
    return _spelled(known, 6, rng)


def _spelled(known: tuple[str, ...], shortest: int, rng: random.Random) -> str:
    following = _following(known)
    while True:
        word = "^^"
        while not word.endswith("$") and len(word) < 16:
            word += rng.choice(following[word[-2:]])
        if shortest + 3 <= len(word) < 15 and word.endswith("$") and word[2:-1] not in known:
            return word[2:-1]


@cache
def _following(known: tuple[str, ...]) -> dict[str, str]:
    """After each two letters of the words all the letters that follow them, as often as they do; ^ begins, $ ends."""
    found: dict[str, str] = {}
    for word in known:
        text = f"^^{word}$"
        for index in range(len(text) - 2):
            found[text[index : index + 2]] = found.get(text[index : index + 2], "") + text[index + 2]
    return found


@cache
def _signs(code: str) -> str:
    """The commoner half of a language's characters, as its own encoding has them in its first rows."""
    encoding, rows = {"zh": ("gb2312", range(0xB0, 0xD8)), "ja": ("euc_jp", range(0xB0, 0xD0))}[code]
    signs = [bytes((row, cell)).decode(encoding, "ignore") for row in rows for cell in range(0xA1, 0xFF)]
    return "".join(signs)
