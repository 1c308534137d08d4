"""What the world does not have: sentences of languages that the miniature does not learn, and words of none."""

import random

_LETTERS = "bcdfghjklmnprstvwz"
_VOWELS = "aeiou"

# Language: templates of {n} a noun, {m} another, {c} a colour, {p} a place or time; nouns; colours; places.
_FOREIGN: dict[str, tuple[str, str, str, str]] = {
    "es": (
        "{n} {p}|{n} {c} {p}|dibuja {n} {c}|un dibujo de {n}|quiero {n} {p}|{n} y {m}|{n} y {m} {p}|{n}|"
        "hazme {n} por favor|{n} {c}|muéstrame {n} {p}|hazlo {p}|añade {n}|quita {n}|pinta {n} {p}|"
        "hay {n} {p}|ponlo {p}|"
        "un perro en bicicleta|buenos días|¿qué es esto?|mi abuela|puedes dibujar {n}?",
        "una casa|un árbol|un coche|un barco|un globo|una flor|un gato|un pez|una estrella|una pelota|"
        "un cohete|un paraguas|un perro|un caballo|una montaña|dos gatos|una mujer|un niño|casa|gato|el gato|"
        "la casa",
        "rojo|roja|verde|azul|amarillo|amarilla|blanco|negra|grande|pequeño|rosa|morado",
        "en la nieve|de noche|en la playa|bajo la lluvia|al atardecer|en la calle|en el mar|en el campo|"
        "por la noche|en invierno|de día|en la hierba",
    ),
    "it": (
        "{n} {p}|{n} {c} {p}|disegna {n} {c}|un disegno di {n}|vorrei {n} {p}|{n} e {m}|{n} e {m} {p}|{n}|"
        "fammi {n} per favore|{n} {c}|mostrami {n}|aggiungi {n}|togli {n}|buongiorno|cos'è questo?|mia nonna|"
        "puoi disegnare {n}?|rendilo {p}",
        "una casa|un albero|una macchina|una barca|una mongolfiera|un fiore|un gatto|un pesce|una stella|"
        "una palla|un razzo|un ombrello|un cane|un cavallo|una montagna|due gatti|gatto|casa|la casa|il gatto",
        "rosso|rossa|verde|blu|giallo|gialla|bianco|nera|grande|piccolo|rosa|viola",
        "sulla neve|di notte|sulla spiaggia|sotto la pioggia|al tramonto|per strada|sul mare|nel prato|"
        "in inverno|di giorno|in città",
    ),
    "pt": (
        "{n} {p}|{n} {c} {p}|desenhe {n} {c}|um desenho de {n}|quero {n} {p}|{n} e {m}|{n}|{n} {c}|"
        "mostre {n}|adicione {n}|remova {n}|bom dia|o que é isso?|minha avó|faça {n} por favor",
        "uma casa|uma árvore|um carro|um barco|um balão|uma flor|um gato|um peixe|uma estrela|uma bola|"
        "um foguete|um guarda-chuva|um cachorro|um cavalo|dois gatos|gato|casa|a casa",
        "vermelho|vermelha|verde|azul|amarelo|branca|preto|grande|pequeno|roxo",
        "na neve|à noite|na praia|na chuva|ao pôr do sol|na rua|no mar|no campo|de dia|no inverno",
    ),
    "nl": (
        "{n} {p}|{c} {n} {p}|teken {n}|een tekening van {n}|ik wil graag {n} {p}|{n} en {m}|{n} en {m} {p}|"
        "maak {n} alsjeblieft|laat {n} zien|voeg {n} toe|verwijder {n}|goedemorgen|wat is dit?|mijn oma|"
        "kun je {n} tekenen?|maak het {p}",
        "een huis|een boom|een auto|een boot|een luchtballon|een bloem|een kat|een vis|een ster|een bal|"
        "een raket|een paraplu|een hond|een paard|twee katten|het huis|de kat|een fiets",
        "rood|rode|groen|groene|blauw|blauwe|geel|gele|wit|zwarte|grote|kleine|roze|paars",
        "in de sneeuw|'s nachts|op het strand|in de regen|bij zonsondergang|op straat|op zee|in het gras|"
        "overdag|in de winter",
    ),
    "sv": (
        "{n} {p}|{n} och {m}|rita {n}|jag vill ha {n} {p}|{c} {n}|en bild av {n}|lägg till {n}|ta bort {n}|"
        "god morgon|vad är det här?|min mormor|gör det {p}",
        "ett hus|ett träd|en bil|en båt|en ballong|en blomma|en katt|en fisk|en stjärna|en boll|en raket|"
        "ett paraply|en hund|två katter",
        "rött|röd|grön|blå|gul|vit|svart|stor|liten|rosa|lila",
        "i snön|på natten|på stranden|i regnet|vid solnedgången|på gatan|på havet|i gräset|på vintern",
    ),
    "pl": (
        "{n} {p}|{c} {n} {p}|narysuj {n}|chcę {n} {p}|{n} i {m}|{n}|pokaż mi {n}|dodaj {n}|usuń {n}|"
        "dzień dobry|co to jest?|moja babcia|proszę {n}",
        "dom|drzewo|samochód|łódź|balon|kwiat|kot|ryba|gwiazda|piłka|rakieta|parasol|pies|koń|dwa koty|góra",
        "czerwony|czerwona|zielony|niebieski|żółty|biały|czarny|duży|mały|różowy",
        "na śniegu|w nocy|na plaży|w deszczu|o zachodzie słońca|na ulicy|na morzu|na trawie|zimą",
    ),
    "tr": (
        "{p} {n}|{c} {n}|{n} çiz|{n} ve {m}|{n} istiyorum|bana {n} göster|{n} ekle|{n} sil|günaydın|"
        "bu nedir?|büyükannem|{p} {c} {n} lütfen",
        "bir ev|bir ağaç|bir araba|bir tekne|bir balon|bir çiçek|bir kedi|bir balık|bir yıldız|bir top|"
        "bir roket|bir şemsiye|bir köpek|bir at|iki kedi|ev|kedi",
        "kırmızı|yeşil|mavi|sarı|beyaz|siyah|büyük|küçük|pembe|mor",
        "karda|gece|plajda|yağmurda|gün batımında|sokakta|denizde|çimlerde|kışın",
    ),
    "id": (
        "{n} {p}|{n} {c} {p}|gambar {n}|saya mau {n} {p}|{n} dan {m}|{n}|tambahkan {n}|hapus {n}|"
        "selamat pagi|apa ini?|nenek saya|tolong {n}",
        "rumah|pohon|mobil|perahu|balon udara|bunga|kucing|ikan|bintang|bola|roket|payung|anjing|kuda|dua kucing",
        "merah|hijau|biru|kuning|putih|hitam|besar|kecil",
        "di salju|di malam hari|di pantai|di bawah hujan|saat matahari terbenam|di jalan|di laut|di rumput",
    ),
    "fi": (
        "{n} {p}|{c} {n} {p}|piirrä {n}|haluan {n}|{n} ja {m}|hyvää huomenta|mikä tämä on?|isoäitini",
        "talo|puu|auto|vene|ilmapallo|kukka|kissa|kala|tähti|pallo|raketti|sateenvarjo|koira|hevonen",
        "punainen|vihreä|sininen|keltainen|valkoinen|musta|iso|pieni",
        "lumessa|yöllä|rannalla|sateessa|auringonlaskussa|kadulla|merellä|nurmikolla",
    ),
    "ru": (
        "{n} {p}|{c} {n} {p}|нарисуй {n}|я хочу {n} {p}|{n} и {m}|{n}|покажи {n}|добавь {n}|убери {n}|"
        "доброе утро|что это?|моя бабушка|картинка: {n}|сделай {p}",
        "дом|дерево|машина|лодка|воздушный шар|цветок|кошка|кот|рыба|звезда|мяч|ракета|зонт|собака|лошадь|"
        "две кошки|гора|привет",
        "красный|красная|зелёный|синий|жёлтый|белый|чёрный|большой|маленький|розовый",
        "на снегу|ночью|на пляже|под дождём|на закате|на улице|в море|на траве|зимой",
    ),
    "uk": (
        "{n} {p}|намалюй {n}|{c} {n}|я хочу {n}|{n} і {m}",
        "будинок|дерево|машина|човен|квітка|кіт|риба|зірка|собака",
        "червоний|зелений|синій|жовтий|білий",
        "на снігу|вночі|на пляжі|під дощем",
    ),
    "ar": (
        "{n} {p}|{n} {c} {p}|ارسم {n}|أريد {n} {p}|{n} و {m}|{n}|أضف {n}|احذف {n}|صباح الخير|ما هذا؟|جدتي",
        "بيت|شجرة|سيارة|قارب|بالون|زهرة|قطة|سمكة|نجمة|كرة|صاروخ|مظلة|كلب|حصان|قطتان",
        "أحمر|حمراء|أخضر|أزرق|أصفر|أبيض|أسود|كبير|صغير",
        "على الثلج|في الليل|على الشاطئ|تحت المطر|عند الغروب|في الشارع|في البحر|على العشب",
    ),
    "ko": (
        "{p} {n}|{p} {c} {n}|{n} 그려줘|{n}와 {m}|{n}|{n} 보여 줘|{n} 추가해|{n} 지워줘|안녕하세요|"
        "이게 뭐야?|우리 할머니|{c} {n}을 그려 주세요",
        "집|나무|자동차|배|열기구|꽃|고양이|물고기|별|공|로켓|우산|개|말|고양이 두 마리",
        "빨간|초록색|파란|노란|하얀|검은|큰|작은|분홍색",
        "눈 위의|밤에|해변의|비 오는 날|해 질 녘|거리의|바다 위의|잔디 위의",
    ),
    "hi": (
        "{p} {n}|{c} {n}|{n} बनाओ|{n} और {m}|मुझे {n} चाहिए|नमस्ते|यह क्या है?",
        "घर|पेड़|गाड़ी|नाव|गुब्बारा|फूल|बिल्ली|मछली|तारा|गेंद|छाता|कुत्ता",
        "लाल|हरा|नीला|पीला|सफेद|काला|बड़ा",
        "बर्फ पर|रात में|समुद्र तट पर|बारिश में|सड़क पर",
    ),
    "th": (
        "{n}{p}|{n}{c}|วาด{n}|{n}และ{m}|สวัสดี|นี่คืออะไร",
        "บ้าน|ต้นไม้|รถ|เรือ|บอลลูน|ดอกไม้|แมว|ปลา|ดาว|ลูกบอล|ร่ม|หมา",
        "สีแดง|สีเขียว|สีฟ้า|สีเหลือง|ขาว|ดำ",
        "บนหิมะ|ตอนกลางคืน|ที่ชายหาด|กลางสายฝน|บนถนน",
    ),
    "el": (
        "{n} {p}|{c} {n}|ζωγράφισε {n}|{n} και {m}|θέλω {n}|καλημέρα|τι είναι αυτό;",
        "ένα σπίτι|ένα δέντρο|ένα αυτοκίνητο|μια βάρκα|ένα λουλούδι|μια γάτα|ένα ψάρι|ένα αστέρι|μια μπάλα|μια ομπρέλα",
        "κόκκινο|πράσινο|μπλε|κίτρινο|λευκό|μαύρο",
        "στο χιόνι|τη νύχτα|στην παραλία|στη βροχή|στον δρόμο|στη θάλασσα",
    ),
    "he": (
        "{n} {p}|{n} {c}|צייר {n}|{n} ו{m}|אני רוצה {n}|בוקר טוב",
        "בית|עץ|מכונית|סירה|פרח|חתול|דג|כוכב|כדור|מטריה|כלב",
        "אדום|ירוק|כחול|צהוב|לבן|שחור",
        "בשלג|בלילה|בחוף|בגשם|ברחוב|בים",
    ),
    "la": (
        "{n} {p}|{n} et {m}|pinge {n}|{c} {n}",
        "domum|arborem|navem|florem|felem|piscem|stellam|canem|equum",
        "rubrum|viridem|caeruleum|album|nigrum",
        "in nive|nocte|in litore|in mari|in via",
    ),
}
_WEIGHTS = {"es": 4, "it": 3, "pt": 2, "nl": 3, "ru": 2, "ar": 1.5, "ko": 2, "pl": 1.5, "sv": 1.5, "tr": 1.5, "id": 1.2}
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm", "1234567890")


def foreign_text(rng: random.Random) -> str:
    """A sentence of another language, or letters, signs and numbers that mean nothing."""
    if rng.random() < 0.14:
        return _nonsense(rng)
    code = rng.choices(list(_FOREIGN), [_WEIGHTS.get(code, 0.7) for code in _FOREIGN])[0]
    templates, *tables = (part.split("|") for part in _FOREIGN[code])
    nouns, colours, places = tables
    template = rng.choice(templates)
    if "{" not in template and rng.random() < 0.5:
        template = rng.choice(templates)
    one, other = rng.sample(nouns, 2)
    text = template.format(n=one, m=other, c=rng.choice(colours), p=rng.choice(places))
    if rng.random() < 0.12:
        text += {"ar": "، ", "ko": " "}.get(code, ", ") + rng.choice(places)
    return text[0].upper() + text[1:] if rng.random() < 0.3 else text


def nonsense_word(rng: random.Random) -> str:
    """A word that no language has, pronounceable."""
    return "".join(
        rng.choice(_LETTERS) + rng.choice(_VOWELS) + (rng.choice(_LETTERS) if rng.random() < 0.4 else "")
        for _ in range(rng.choice((2, 2, 3)))
    )


def _nonsense(rng):
    kind = rng.random()
    if kind < 0.4:
        return " ".join(nonsense_word(rng) for _ in range(rng.choice((1, 1, 2, 3, 4))))
    if kind < 0.7:
        row = rng.choice(_KEYS)
        return "".join(rng.choice(row) for _ in range(rng.randint(3, 9)))
    if kind < 0.85:
        return "".join(rng.choice("!?.,;:-_#*+=/()[]{}0123456789") for _ in range(rng.randint(1, 7)))
    return " ".join(str(rng.randint(0, 9999)) for _ in range(rng.choice((1, 2, 3))))
