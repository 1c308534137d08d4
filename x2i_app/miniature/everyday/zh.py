"""Everyday Chinese. A noun's gender is its measure word."""

import random

from x2i_app.miniature.everyday.base import NounPhrase, Wording, choices, noun, nouns, phrases
from x2i_app.miniature.everyday.strangers import more_nouns

_KINDS = nouns(
    house="房子/房子/座|房子/房子/栋|屋子/屋子/间|房屋/房屋/座|别墅/别墅/栋|家/家/个",
    tree="树/树/棵|树/树/棵|苹果树/苹果树/棵|树木/树木/棵|松树/松树/棵",
    car="汽车/汽车/辆|车/车/辆|车子/车子/辆|轿车/轿车/辆",
    boat="船/船/艘|船/船/条|帆船/帆船/艘|轮船/轮船/艘",
    balloon="热气球/热气球/个|热气球/热气球/只|气球/气球/个",
    flower="花/花/朵|花/花/朵|花朵/花朵/朵|鲜花/鲜花/朵|玫瑰/玫瑰/朵",
    cat="猫/猫/只|猫/猫/只|猫咪/猫咪/只|喵星人/喵星人/只",
    fish="鱼/鱼/条|鱼/鱼/条|金鱼/金鱼/条|鱼儿/鱼儿/条",
    star="星星/星星/颗|星星/星星/个|五角星/五角星/颗",
    ball="球/球/个|球/球/个|皮球/皮球/个|沙滩球/沙滩球/个",
    rocket="火箭/火箭/枚|火箭/火箭/个|飞船/飞船/艘|宇宙飞船/宇宙飞船/艘",
    umbrella="雨伞/雨伞/把|伞/伞/把|遮阳伞/遮阳伞/把|太阳伞/太阳伞/把",
)
_COLOURS = phrases(
    red="红色|红|红色|大红色|鲜红色",
    orange="橙色|橙|橘色|橘黄色|橙黄色",
    yellow="黄色|黄|黄色|金黄色|金色",
    green="绿色|绿|绿色|翠绿色|深绿色",
    blue="蓝色|蓝|蓝色|天蓝色|深蓝色",
    purple="紫色|紫|紫色|紫罗兰色",
    pink="粉色|粉红色|粉红|粉",
    brown="棕色|褐色|咖啡色|棕",
    white="白色|白|白色|雪白",
    black="黑色|黑|黑色|漆黑",
)
_SIZES = phrases(small="小|小小的|很小的|小|迷你", large="大|大大的|很大的|巨大的|大")
_NUMBERS = {
    2: choices("两|两|2|二|一对"),
    3: choices("三|三|3|很多|好几|几"),
    4: choices("四|五|六|4|5|十|一百"),
}


def _noun_phrase(said: NounPhrase, rng: random.Random) -> str:
    colour = rng.choice(_COLOURS[said.colour]) if said.colour else ""
    if colour and (len(colour) > 1 or rng.random() < 0.3) and rng.random() < 0.75:
        colour += "的"
    size = rng.choice(_SIZES[said.size]) if said.size else ""
    adjective = said.adjective + ("的" if said.adjective[-1] != "的" else "") if said.adjective else ""
    parts = [colour, size] if rng.random() < 0.5 and not size.endswith("的") else [size, colour]
    text = adjective + "".join(parts) + said.noun.one
    if said.count > 1:
        if said.article == "the":
            return text
        number = rng.choice(_NUMBERS[said.count])
        return number + ("" if number in ("很多", "一对") else said.noun.gender or "个") + text
    if said.article == "a":
        measure = said.noun.gender or "个"
        return rng.choice((f"一{measure}", f"一{measure}", f"一{measure}", "一个", measure, "", "1" + measure)) + text
    return (
        rng.choice(("那" + (said.noun.gender or "个"), "这" + (said.noun.gender or "个"), ""))
        if said.article == "the" and rng.random() < 0.2
        else ""
    ) + text


CHINESE = Wording(
    code="zh",
    kinds=_KINDS,
    colours=_COLOURS,
    sizes=_SIZES,
    adjectives=choices("可爱|漂亮|美丽|好看|老|旧|孤独|快乐|温馨|有趣|简单|神奇|胖胖|睡觉|安静|精致|新"),
    manners=choices(
        "坐着的|站着的|躺着的|飘着的|停着的|游来游去的|飞着的|远处的|近处的|孤零零的|正在休息的|等着的|"
        "闪闪发光的|盛开的|我喜欢的|随便什么|静静的|漂浮的|路过的|晒太阳的|没有人的|没有云的|空无一人的|"
        "并排的|排成一排的|成双的"
    ),
    noun_phrase=_noun_phrase,
    numbers=_NUMBERS,
    grounds=phrases(
        grass="草地上|草坪上|草原上|花园里|公园里|田野里|绿色的草地上|草丛里|山坡上|在草地上",
        snow="雪地里|雪地上|冬天里|雪中|冬天|雪上|冰上|在雪地里|白雪上",
        sand="沙滩上|海边|沙地上|沙漠里|海滩上|在沙滩上|沙子上",
        sea="海上|海面上|大海上|水上|水里|海里|湖上|在海上|海中|水面上",
        street="街上|马路上|街道上|路上|城市里|在街上|大街上|公路上",
    ),
    ground_nouns=phrases(
        grass="草地|草坪|草原|花园|公园|田野",
        snow="雪地|冬天|雪|冰雪|雪景",
        sand="沙滩|海滩|沙漠|海边|沙地",
        sea="大海|海|海洋|海面|水面|湖",
        street="街道|马路|城市|街|公路",
    ),
    skies=phrases(
        day="白天|阳光下|晴天|大白天|早上|中午|阳光明媚的日子|太阳下|夏天",
        night="晚上|夜晚|夜里|黑夜|月光下|星空下|半夜|深夜|夜空下|在晚上",
        sunset="日落时|黄昏|傍晚|夕阳下|日落|黄昏时|晚霞中|落日下",
        rain="雨中|下雨时|雨天|下雨天|大雨中|暴雨中|雨里|下着雨",
        snowfall="下雪时|下雪天|雪花飘落时|大雪纷飞|下着雪|暴风雪中|飘雪时",
    ),
    sky_nouns=phrases(
        day="白天|晴天|阳光|蓝天|太阳",
        night="夜晚|晚上|星空|夜空|月光|黑夜",
        sunset="日落|黄昏|夕阳|傍晚|晚霞",
        rain="下雨|雨|雨天|暴雨|大雨",
        snowfall="下雪|飘雪|雪花|暴风雪|大雪",
    ),
    clauses=phrases(
        day="现在是白天|阳光明媚|天气晴朗|太阳出来了",
        night="现在是晚上|天黑了|外面很黑|月亮出来了|夜深了",
        sunset="太阳下山了|太阳正在落山|现在是傍晚|天快黑了",
        rain="正在下雨|下雨了|外面下着雨|下大雨",
        snowfall="正在下雪|下雪了|外面下着雪|飘着雪花",
    ),
    sky_views=phrases(
        day="晴天|阳光明媚|蓝天|好天气|阳光灿烂的一天|白天",
        night="夜空|星空|有星星的夜空|夜晚|满天繁星|月亮和星星|漆黑的夜晚|晚上|夜晚的星空|月夜",
        sunset="日落|夕阳|黄昏|美丽的日落|晚霞|落日|傍晚",
        rain="下雨|雨|雨天|下大雨|暴雨|下雨天|下着雨",
        snowfall="下雪|飘雪|雪花|暴风雪|下大雪|雪花飘落",
    ),
    ground_views=phrases(
        grass="草地|一片草地|草原|绿色的田野|花园|公园",
        snow="雪地|雪景|冬天|一片雪地|冰天雪地|白雪皑皑",
        sand="沙滩|海滩|空荡荡的沙滩|沙漠|海边|一片沙滩",
        sea="大海|海洋|海|波浪|平静的大海|蓝色的大海|湖",
        street="街道|马路|一条空荡荡的街道|城市|一条街|一条路",
    ),
    over=choices(
        "{ground}{sky}|{sky}{ground}|{sky}的{ground}|{ground}的{sky}|{ground}上的{sky}|{sky},{ground}|"
        "{ground}和{sky}|{ground}，{sky}"
    ),
    joined=choices(
        "{a}和{b}|{a}和{b}|{a}、{b}|{a}，{b}|{a}与{b}|{a}还有{b}|{a}跟{b}|{a}旁边有{b}|{a}以及{b}|{a} {b}|"
        "{a}加{b}|{a}旁边的{b}"
    ),
    conjunction="和",
    places=phrases(left="左边|左侧|左|在左边|左面", middle="中间|正中间|中央|在中间", right="右边|右侧|右|在右边|右面"),
    left_of=choices("{a}在{b}左边|{b}左边有{a}|{b}的左边是{a}"),
    right_of=choices("{a}在{b}右边|{b}右边有{a}|{b}的右边是{a}"),
    between=choices("{b}中间有{a}|{a}在{b}之间|{b}之间的{a}"),
    with_things=choices("{s}，有{t}|{s}，{t}|{s}里有{t}|{s}和{t}|{s}：{t}"),
    requests=choices(
        "画{}|画一张{}|请画{}|给我画{}|帮我画{}|我想要{}|我想看{}|我要{}|来{}|能画{}吗？|可以画{}吗？|"
        "请帮我画{}，谢谢|生成{}|生成一张{}的图片|{}的图片|{}的画|一张{}的图|一幅画，画着{}|这里有{}|有{}|"
        "我看到{}|看，{}|想象{}|给我看{}|只要{}|就{}|只有{}|你好，画{}|请给我{}|麻烦画一下{}|{}怎么样？|"
        "女儿想要{}|能不能给我画{}|做{}|{}的照片|{}的插画|画个{}|画一画{}"
    ),
    stories=choices(
        "从前，{s}有{t}。|今天我们看到{s}有{t}。|请给我妹妹画{s}的{t}，她一定会很开心。|"
        "我一直想看{s}的{t}，请你帮我画出来。|我最喜欢的画是{s}的{t}。|生日贺卡：{s}有{t}，谢谢！|"
        "画里{s}有{t}，别的什么都没有。|{t}在{s}|{t}静静地在{s}|{s}站着{t}|{s}有{t}|{s}的{t}|{t}，{s}"
    ),
    negations=choices(
        "不要{x}，只要{t}|没有{x}，只有{t}|{t}，不要{x}|不是{x}，是{t}|{t}，没有{x}|别画{x}，画{t}|"
        "{t}代替{x}|我不要{x}，我要{t}|{t}而不是{x}|画{t}，不要画{x}"
    ),
    corrections=choices("不是{c}，是{v}|{v}，不是{c}|不要{c}，要{v}"),
    pronouns=choices(
        "{t}，它是{v}的|{t}。它是{v}的|{t}，{v}|{t}，颜色是{v}|{t}，要{v}的|{t}，把它画成{v}|{t}（{v}）|{t}是{v}的"
    ),
    pronoun_settings=choices("{t}，它在{s}|{t}。它在{s}|{t}就在{s}"),
    before=choices("你好，|请|嗯，|那个|麻烦你，|好，|现在|哈喽，|请问，|来，"),
    behind=choices(
        "谢谢|，谢谢|吧|，可爱|，好看一点|，卡通风格|！|。|…|，高清|，4k|，简单点|，拜托|哦|，送给女儿|"
        "，就这样|，杰作|，最好看的|啊|！！！"
    ),
    sky_edits=phrases(
        day="改成白天|变成白天|白天|换成白天|让太阳出来|要白天|现在是白天|天亮了|换成晴天|我想要白天的|"
        "应该是白天|阳光明媚",
        night="改成晚上|变成夜晚|晚上|夜晚|换成晚上|天黑了|应该是晚上|外面应该是黑的|让天黑|变成黑夜|"
        "一样的，但是在晚上|要夜景|换成星空|我想要晚上的",
        sunset="改成日落|变成黄昏|日落|换成日落|黄昏|傍晚|让太阳下山|应该是傍晚|要夕阳|一样的，但是在日落时|变成傍晚",
        rain="下雨|让它下雨|改成下雨|变成雨天|加点雨|换成雨天|应该下雨|要下雨|现在下雨了|一样的，但是在下雨|加上雨",
        snowfall="下雪|让它下雪|改成下雪|变成下雪|加点雪花|应该下雪|现在下雪了|飘点雪|换成下雪天|一样的，但是在下雪",
    ),
    ground_edits=choices(
        "放到{v}|改到{v}|换到{v}|{v}|移到{v}|改成{g}|换成{g}|背景换成{g}|地面改成{g}|背景：{g}|{g}|要在{v}|"
        "现在在{v}|一样的，但是在{v}|应该在{v}|把地面换成{g}"
    ),
    both_edits=choices("{s}|改成{s}|换成{s}|变成{s}|现在是{s}|一样的，但是{s}"),
    season_edits=phrases(
        snow="改成冬天|变成冬天|冬天|换成冬天|一样的，但是在冬天|应该是冬天|地上铺满雪|冬天的版本|地上要有雪",
        grass="地面变绿|长草|春天|铺上草地",
    ),
    colour_edits=choices(
        "把{the}变成{v}|把{the}改成{v}|{the}改成{v}|{the}要{v}的|把{the}涂成{v}|{the}换成{v}|"
        "{the}应该是{v}的|{v}的{n}|我要{v}的{n}|{the}{v}|将{the}变为{v}|{v}{n}"
    ),
    colour_it=choices("变成{v}|改成{v}|{v}|{v}的|要{v}的|把它变成{v}|换成{v}|应该是{v}的|涂成{v}"),
    size_edits=phrases(
        large="把{the}变大|{the}大一点|放大{the}|{the}要大|让{the}更大|{the}太小了|大{n}|把{the}画大点",
        small="把{the}变小|{the}小一点|缩小{the}|{the}要小|让{the}更小|{the}太大了|小{n}|把{the}画小点",
    ),
    size_it=phrases(large="大一点|变大|再大一点|更大|放大|太小了", small="小一点|变小|再小一点|更小|缩小|太大了"),
    swap_edits=choices(
        "把{the}换成{a}|用{a}代替{the}|{the}改成{a}|把{the}变成{a}|不要{the}，要{a}|{the}换成{a}|"
        "我要{a}，不要{the}|将{the}替换为{a}|{a}代替{the}"
    ),
    move_edits=choices("把{the}移到{p}|把{the}放到{p}|{the}放{p}|{the}移到{p}|{the}在{p}|{the}要在{p}|让{the}去{p}"),
    move_it=choices("移到{p}|放到{p}|{p}|放{p}|去{p}"),
    goals=phrases(left="左边|左侧|左", middle="中间|正中间|中央", right="右边|右侧|右"),
    add_edits=choices(
        "加{a}|添加{a}|再加{a}|再画{a}|还要{a}|加上{a}|和{a}|也画{a}|旁边加{a}|再来{a}|多{a}|放{a}|还有{a}|"
        "能加{a}吗？|给它加{a}|旁边放{a}"
    ),
    add_placed=choices("在{p}加{a}|{p}加{a}|{p}再画{a}|{p}放{a}|在{p}放{a}|{p}要有{a}|{p}{a}"),
    remove_edits=choices(
        "去掉{the}|删除{the}|不要{the}|把{the}去掉|拿走{the}|移除{the}|没有{the}|删掉{the}|把{the}删了|"
        "擦掉{the}|{the}不要了|别要{the}|让{the}消失"
    ),
    clear_edits=choices("全部去掉|什么都不要|清空|只留背景|把所有东西都去掉"),
    keep_edits=choices(
        "再来一次|一样的|不变|保持不变|就这样|再画一次|很好|不要改|同样的|这是什么？|你看到了什么？|描述一下"
    ),
    and_then=choices("{a}，{b}|{a}并且{b}|{a}，然后{b}|{a}。{b}|{a}，再{b}"),
    unknown_nouns=(
        *map(
            noun,
            choices(
                "狗/狗/只|小狗/小狗/只|马/马/匹|龙/龙/条|鸟/鸟/只|自行车/自行车/辆|火车/火车/列|飞机/飞机/架|"
                "雪人/雪人/个|蘑菇/蘑菇/个|灯/灯/盏|蛋糕/蛋糕/个|吉他/吉他/把|鸭子/鸭子/只|男人/男人/个|女人/女人/个|"
                "女孩/女孩/个|男孩/男孩/个|孩子/孩子/个|"
                "奶奶/奶奶/位|爷爷/爷爷/位|妈妈/妈妈/位|爸爸/爸爸/位|公主/公主/位|国王/国王/位|骑士/骑士/位|"
                "机器人/机器人/个|独角兽/独角兽/只|大象/大象/头|狮子/狮子/头|老虎/老虎/只|熊/熊/只|熊猫/熊猫/只|"
                "狼/狼/只|狐狸/狐狸/只|兔子/兔子/只|牛/牛/头|猪/猪/头|羊/羊/只|鸡/鸡/只|"
                "猴子/猴子/只|蛇/蛇/条|青蛙/青蛙/只|企鹅/企鹅/只|蝴蝶/蝴蝶/只|蜜蜂/蜜蜂/只|桌子/桌子/张|椅子/椅子/把|"
                "床/床/张|桥/桥/座|城堡/城堡/座|塔/塔/座|教堂/教堂/座|山/山/座|火山/火山/座|河/河/条|森林/森林/片|"
                "云/云/朵|彩虹/彩虹/道|苹果/苹果/个|香蕉/香蕉/根|书/书/本|手机/手机/部|"
                "帽子/帽子/顶|鞋子/鞋子/双|剑/剑/把|心/心/颗|鬼/鬼/个|女巫/女巫/个|海盗/海盗/个|卡车/卡车/辆|"
                "摩托车/摩托车/辆|公交车/公交车/辆|直升机/直升机/架|钢琴/钢琴/架|老鼠/老鼠/只|乌龟/乌龟/只|"
                "蜡烛/蜡烛/根|鸡蛋/鸡蛋/个|石头/石头/块|怪物/怪物/个|电脑/电脑/台|月饼/月饼/个|长城/长城/座|"
                "宇航员/宇航员/个"
            ),
        ),
        *more_nouns("zh"),
    ),
    unknown_tails=choices(
        "骑自行车|弹吉他|戴着帽子|吃披萨|看书|喝咖啡|长着翅膀|在森林里|在山上|戴眼镜|在厨房里|在太空|跳舞|打篮球"
    ),
    unknown_wholes=choices(
        "你好|你是谁|我的奶奶|讲个笑话|你会做什么|爱情|自由|春节|圣诞节|一个男人和他的狗|一位年轻女子的肖像|"
        "孩子们在踢足球|长城|北京|音乐|桌上的一杯咖啡|一个留胡子的老人|骑士与龙战斗|我的家人|狗骑自行车|"
        "随便画点什么|搞笑的|帮帮我|今天天气怎么样|写一首诗|孙悟空|山水画|太极"
    ),
    unknown_colours=choices("灰色|银色|彩虹色|透明|条纹|格子"),
    is_spaced=False,
    stop="。",
    comma="，",
)
