# ruff: noqa: E501
"""Templates of what people say, English and Chinese: data for `phrasebook.py`, which also says how to read them.

A template holds alternatives as `(a|b|c)`, which nest; an empty alternative leaves the word out. `{n}` is the speed.
"""

_CAR_EN = (
    "(car|vehicle|car ahead|car in front|vehicle ahead|vehicle in front|other car|slow car|slower car|one in front)"
)
_THAT_CAR_EN = f"(the|that|this) {_CAR_EN}"
_THING_EN = "(obstacle|box|cone|object|thing|obstruction|hindrance|barrier|blockage)"


def _side_en(side: str) -> str:
    return f"(on the {side}|on its {side}|to the {side}|on the {side} side|from the {side}|via the {side}|{side}|on your {side}|using the {side} lane|by the {side} lane)"


def _change_en(side: str) -> tuple[str, ...]:
    lane = f"(the|) {side} lane"
    return (
        f"(change|switch|move|go|shift|merge|cross|get|steer) (over|) (to|into|onto) the {side} lane",
        f"(change|switch) lanes (to the|) {side}",
        f"(change|switch) (lane|lanes) (on|to|towards) the {side}",
        f"(make|do|perform|execute|start) a (lane change|{side} lane change) (to the|towards the) {side}",
        f"{side} lane (change|please|now|)",
        f"(take|use|enter|choose|occupy) {lane}",
        f"(move|go|shift|slide|hop|drift) (one|a) lane (over|) to the {side}",
        f"(move|shift|slide|merge|go) (over|) (to the|) {side}",
        f"(get|move|change) (in|into|over to) {lane}",
        f"lane change (to the|) {side}",
        f"(I want|I would like|I need) (you|us|to be|you to be) in the {side} lane",
        f"(drive|continue|go on|proceed) in the {side} lane",
        f"next lane (on|to) the {side}",
        f"(move|go) over one lane {side}",
    )


def _keep_en(side: str) -> tuple[str, ...]:
    far = f"(far|outer|outermost|extreme|) {side}"
    return (
        f"keep (to the|to your|on the|) {far}",
        f"stay (to the|on the|) {far}",
        f"(keep|stay|remain|hold) (on|to) the {far} (side|)",
        f"(keep|stay|remain) in the ({side}most|outermost {side}|far {side}) lane",
        f"(drive|go|run) (all the way|always|) on the (far|outer|) {side} (side|)",
        f"(hug|follow|stick to) the {side} (edge|side|line|)",
        f"(always|) (use|keep to|stick to) the {side}most lane",
        f"(stick|hold) (to the|) {side}",
        f"keep {side} (from now on|until I say otherwise|)",
        f"(go|move) all the way to the {side} and (stay|remain|keep) there",
        f"(be|travel|cruise) on the {side} side of the road",
    )


def _overtake_en(side: str) -> tuple[str, ...]:
    s = _side_en(side)
    return (
        f"(overtake|pass) {s}",
        f"(overtake|pass|get past|go past|drive past|get by|go by|go around|get around|get ahead of|move ahead of) {_THAT_CAR_EN} {s}",
        f"{s} (overtake|pass) {_THAT_CAR_EN}",
        f"(overtake|pass) (it|him|them|her) {s}",
        f"(do|make|perform|start|begin|try) (an overtake|a pass|overtaking|an overtaking manoeuvre|a passing manoeuvre) {s}",
        f"{side} (overtake|pass|overtaking)",
        f"(overtaking|passing) {s}",
        f"use the {side} lane to (overtake|pass|get past|get ahead) ({_THAT_CAR_EN}|)",
        f"(swing|pull|move|go) out (to the|) {side} and (overtake|pass) ({_THAT_CAR_EN}|)",
        f"(leave|put) {_THAT_CAR_EN} behind (you|us|) {s}",
        f"{_THAT_CAR_EN} is (too slow|slow|blocking us), (overtake|pass|get past) (it|) {s}",
    )


ENGLISH: dict[str, tuple[str, ...]] = {
    "follow_lane": (
        "(follow|keep|stay in|hold|remain in|stick to) (the|your|this|our|) lane",
        "(keep|stay|continue|carry on|go on|drive) (going|driving|) (straight|ahead|along|on|as you are|normally) (in your lane|on the road|)",
        "(just|simply|) (drive|follow the road|follow the track|cruise|keep driving|carry on|continue)",
        "(drive|go|run) (along|down) the (road|lane|track)",
        "(go|start|drive) (on|off|ahead|again|)",
        "(resume|continue) (driving|normal driving|your way|)",
        "(lane|road) (following|keeping)",
        "(never mind|forget that|cancel that|as you were), (follow your lane|drive on|carry on)",
    ),
    "faster": (
        "(speed up|go faster|drive faster|accelerate|faster|hurry up|hurry|step on it|more speed|pick up speed|quicker|go quicker|floor it|put your foot down|gain speed|get a move on|push it)",
        "(increase|raise|bump up|turn up) (the|your|our|) (speed|pace|velocity|tempo)",
        "(a bit|a little|slightly|somewhat|much|) (faster|quicker|more speed|more throttle|more gas)",
        "(you are|we are|this is|you're|that is) (too slow|going too slow|too slowly|driving too slowly), (speed up|go faster|accelerate|)",
        "(can|could) (you|we) (go|drive|move|run) (faster|quicker|a bit faster|any faster)",
        "(give it|add|use) (more|a bit more|some more) (gas|throttle|speed|power)",
        "(I am|I'm|we are) (late|in a hurry|running late), (speed up|go faster|faster|hurry)",
        "(make it|move|run|roll) (faster|quicker|more quickly)",
        "(higher|greater) speed (please|)",
    ),
    "slower": (
        "(slow down|go slower|drive slower|decelerate|slower|ease off|less speed|reduce speed|brake a little|brake a bit|take it easy|lose some speed|calm down|back off|go easy|take your time)",
        "(decrease|reduce|lower|cut|drop|turn down|bring down) (the|your|our|) (speed|pace|velocity|tempo)",
        "(a bit|a little|slightly|somewhat|much|) (slower|more slowly|less speed|less throttle|less gas)",
        "(you are|we are|this is|you're|that is) (too fast|going too fast|driving too fast|too quick), (slow down|go slower|)",
        "(can|could) (you|we) (go|drive|move) (slower|more slowly|a bit slower)",
        "(ease|lift|back) off (the|) (gas|throttle|speed|)",
        "(not so|don't go so|don't drive so) fast",
        "(make it|move|run|roll) (slower|more slowly)",
        "(lower|smaller) speed (please|)",
    ),
    "target_speed": (
        "(drive|go|run|travel|cruise|move|roll) (at|with|) (a speed of|) {n} (m/s|m/s|metres per second|meters per second|mps)",
        "(set|change|adjust|bring) (the|your|our|) (speed|pace|cruise|velocity) (to|at) {n} (m/s|metres per second|meters per second|mps|)",
        "(keep|hold|maintain) (a speed of|) {n} (m/s|metres per second|meters per second|mps)",
        "(target|desired|cruise|cruising) speed (is|of|:|) {n} (m/s|metres per second|)",
        "(speed|velocity) {n} (m/s|metres per second|meters per second|)",
        "{n} (m/s|metres per second|meters per second|mps) (please|now|)",
        "(go|accelerate|slow|get|speed up|slow down) to {n} (m/s|metres per second|meters per second)",
        "(I want|make it|let us do|let's do|do|give me) {n} (m/s|metres per second|meters per second|mps)",
        "(your|the|our) (speed|pace) should be {n} (m/s|metres per second|meters per second|)",
    ),
    "stop": (
        "(stop|halt|stop now|freeze|whoa|stand still|come to a stop|come to a halt|full stop|stop the car|brake|hit the brakes|stop right there|stop here|stop driving|wait here|hold it|cease)",
        "(stop|halt|brake) (immediately|at once|right away|right now|the vehicle|moving|)",
        "(make|bring the car to|come to) a (stop|halt|standstill|full stop|complete stop)",
        "(don't|do not) (move|drive|go) (any further|any more|on|)",
        "(stay|remain|stand) (where you are|put|still|here)",
        "(apply|use|hit|slam) the (brake|brakes)",
    ),
    "change_left": _change_en("left"),
    "change_right": _change_en("right"),
    "keep_left": _keep_en("left"),
    "keep_right": _keep_en("right"),
    # Without a side: the left, as road traffic has it.
    "overtake_left": (*_overtake_en("left"), f"(overtake|pass|get past|get ahead of) (it|{_THAT_CAR_EN}|)"),
    "overtake_right": _overtake_en("right"),
    "follow_vehicle": (
        f"(follow|tail|trail|shadow|chase|go after|drive behind|stay behind|keep behind|remain behind|track) {_THAT_CAR_EN}",
        f"(stay|keep|drive|remain|go|cruise) (right|close|) behind {_THAT_CAR_EN}",
        f"keep (your|a|a safe|some) (distance|gap) (to|from|behind) {_THAT_CAR_EN}",
        "(follow|tail) (it|him|them|her|that one|the leader|the lead car|the leading car)",
        f"(drive|go) (along|on) (behind|after) {_THAT_CAR_EN}",
        f"(let|have) {_THAT_CAR_EN} lead (the way|you|)",
        f"(do what|go where) {_THAT_CAR_EN} (does|goes)",
        f"(queue up|line up|fall in) behind {_THAT_CAR_EN}",
    ),
    "avoid_obstacle": (
        f"(avoid|dodge|evade|steer around|go around|drive around|get around|swerve around|steer clear of|bypass|circumvent|move around|pass around) (the|that|this) {_THING_EN} (ahead|in front|in the way|on the road|in your lane|)",
        f"(there is|there's|watch out for|look out for|mind|beware of|careful,) (a|an|the) {_THING_EN} (ahead|in front|in the way|on the road|), (go around it|avoid it|get around it|drive around it|)",
        f"(don't|do not) (hit|touch|run into|crash into|bump into) (the|that) {_THING_EN}",
        f"(get|go|drive) past (the|that|this) {_THING_EN}",
        "(avoid|dodge|go around|get around|drive around) (it|what is in the way|whatever is ahead)",
        f"{_THING_EN} (ahead|in front), (avoid|dodge|go around it|evade)",
    ),
    "pull_over": (
        "(pull over|pull over|pull up|park) (on the right|to the right|at the right|at the side|by the side of the road|on the right side|on the right hand side|at the right edge|there|here|)",
        "(stop|park|halt|stand) (on|at|by) the (right|right side|side|roadside|right edge|side of the road|right hand side|shoulder|kerb|curb)",
        "(go|move|drive|get|steer|pull) (over|) to the (right|right side|side|side of the road|right edge|roadside) and (stop|park|halt|wait)",
        "(park|parking) (the car|) (please|now|on the right|)",
        "(move|go|pull) (aside|over to the side) and (stop|halt|park|wait)",
        "(stop|park) (the car|) in the (right|rightmost) lane",
        "(take|bring) the car to the (right|side) and (stop|park)",
    ),
}

_CAR_ZH = "(前车|前面的车|前面那辆车|那辆车|前方车辆|前方的车|它)"
_THING_ZH = "(障碍物|障碍|箱子|锥桶|路障|东西)"


def _lane_words_zh(side: str) -> tuple[str, ...]:
    return (
        f"(变道|换道|并线|变线)(到|去|至|往|向){side}(侧|边|)(车道|)",
        f"(换|变|切|移|并|走|开|挪)(到|去|入){side}(侧|边|)(的|)车道",
        f"向{side}(变道|换道|并线|变线|变更车道)",
        f"往{side}(边|)(变道|换道|并线|变一条道|换一条道)",
        f"(请|)(进入|使用|改走){side}(侧|边|)车道",
        f"{side}(侧|边|)(变道|换道)",
    )


def _keep_words_zh(side: str) -> tuple[str, ...]:
    return (
        f"靠{side}(行驶|走|开|边走|侧行驶|边行驶|)",
        f"(保持|一直|始终)(在|靠){side}(侧|边|)(行驶|走|开|)",
        f"(走|开|保持在)最{side}(边|侧|)(的|)车道",
        f"(贴|沿)(着|){side}(边|侧)(走|行驶|开)",
    )


def _overtake_words_zh(side: str) -> tuple[str, ...]:
    return (
        f"从{side}(边|侧|面|)(超车|超过{_CAR_ZH}|超过去|超越{_CAR_ZH}|绕过{_CAR_ZH})",
        f"(在|往|向|由){side}(边|侧|)超车",
        f"{side}(边|侧|)超车",
        f"(用|走){side}(边|侧|)车道(超车|超过{_CAR_ZH})",
        f"{_CAR_ZH}太慢了，(从|){side}(边|侧|)超(车|过去|过它)",
    )


CHINESE: dict[str, tuple[str, ...]] = {
    "follow_lane": ("(沿|顺)(着|)车道(行驶|走|开)", "保持(在|)(当前|本)车道(里|)", "(继续|接着)(往前|)(开|走|行驶|前进)", "(正常|)(行驶|往前开|直走)", "(出发|开车)(吧|)"),
    "faster": ("(加速|提速|开快点|快一点|快点|快些|再快一点|加快速度|提高速度|走快点|加油门)(吧|)", "(太慢了|速度太慢了)(，|)(快点|加速|开快些)", "(速度|)(再|)快(一点|一些|点)"),
    "slower": ("(减速|降速|开慢点|慢一点|慢点|慢些|再慢一点|放慢速度|降低速度|走慢点|松油门)(吧|)", "(太快了|速度太快了)(，|)(慢点|减速|开慢些)", "(速度|)(再|)慢(一点|一些|点)"),
    "target_speed": (
        "(以|用|按)(每秒|)(速度|){n}(米每秒|米|m/s)(行驶|的速度行驶|开|前进|)",
        "(速度|车速|把速度|把车速)(设为|调到|保持在|改成|提到|降到|控制在){n}(米每秒|m/s|)",
        "每秒{n}米",
        "(保持|开到|跑){n}(米每秒|m/s)",
    ),
    "stop": ("(停|停车|停下|停下来|马上停车|立即停车|刹车|站住|别动|不要动|停住|立刻停下|踩刹车|原地停车)(吧|)",),
    "change_left": _lane_words_zh("左"),
    "change_right": _lane_words_zh("右"),
    "keep_left": _keep_words_zh("左"),
    "keep_right": _keep_words_zh("右"),
    "overtake_left": (*_overtake_words_zh("左"), f"(超车|超过{_CAR_ZH}|超过去)"),
    "overtake_right": _overtake_words_zh("右"),
    "follow_vehicle": (f"(跟|跟着|跟随|跟住|尾随){_CAR_ZH}(走|开|行驶|)", f"(保持|开|走)在{_CAR_ZH}(后面|之后)", f"与{_CAR_ZH}保持(车距|距离)", "(跟着|跟住|跟随)(前车|前面的车|前方车辆)"),
    "avoid_obstacle": (f"(避开|绕开|绕过|躲开|避让|躲避)(前面的|前方的|前方|)(那个|){_THING_ZH}", f"(前面|前方)有{_THING_ZH}(，|)(绕过去|绕开|避开|小心|)", f"(别|不要)(撞|碰)(到|上)(那个|){_THING_ZH}"),
    "pull_over": ("(靠边|靠右|靠右边|靠路边|在路边|在右边)(停车|停下|停|停靠|停一下)", "(请|)(右侧|路边)停车", "(开|靠)到(路边|右边)(停下|停车)"),
}  # fmt: skip

POLITE_EN = (
    "",
    "",
    "",
    "please ",
    "now ",
    "ok, ",
    "hey, ",
    "could you ",
    "can you ",
    "you should ",
    "I want you to ",
    "let's ",
    "go ahead and ",
    "would you ",
)
TAIL_EN = (
    "",
    "",
    "",
    "",
    " please",
    " now",
    " when you can",
    ", thanks",
    " if possible",
    " if it is safe",
    " as soon as you can",
    " for me",
    " right now",
)
POLITE_ZH = ("", "", "", "请", "麻烦", "现在", "你", "请你", "帮我")
TAIL_ZH = ("", "", "", "", "吧", "，谢谢", "，好吗")
