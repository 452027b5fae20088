"""The built-in texts of the scenarios' commands, English and Chinese: instruction kind -> language -> texts."""

SAYINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "faster": {"en": ("speed up", "go faster", "drive faster"), "zh": ("加速", "开快一点", "快一点")},
    "slower": {"en": ("slow down", "go slower", "drive slower"), "zh": ("减速", "开慢一点", "慢一点")},
    "target_speed": {
        "en": ("drive at {speed:.1f} m/s", "go {speed:.1f} m/s", "set the speed to {speed:.1f} m/s"),
        "zh": ("以{speed:.1f}米每秒行驶", "速度设为{speed:.1f}米每秒"),
    },
    "stop": {"en": ("stop", "stop the car", "come to a stop"), "zh": ("停车", "停下来")},
    "change_left": {
        "en": ("change to the left lane", "move to the left lane", "switch to the left lane"),
        "zh": ("换到左车道", "向左变道"),
    },
    "change_right": {
        "en": ("change to the right lane", "move to the right lane", "switch to the right lane"),
        "zh": ("换到右车道", "向右变道"),
    },
    "keep_left": {"en": ("keep left", "keep to the left"), "zh": ("靠左行驶", "保持左侧")},
    "keep_right": {"en": ("keep right", "keep to the right"), "zh": ("靠右行驶", "保持右侧")},
    "overtake_left": {
        "en": ("overtake on the left", "pass the car on the left"),
        "zh": ("从左边超车", "从左侧超车"),
    },
    "overtake_right": {
        "en": ("overtake on the right", "pass the car on the right"),
        "zh": ("从右边超车", "从右侧超车"),
    },
    "follow_vehicle": {
        "en": ("follow the car ahead", "follow the car in front", "stay behind the car ahead"),
        "zh": ("跟着前车", "跟随前面的车"),
    },
    "avoid_obstacle": {
        "en": ("avoid the obstacle", "go around the obstacle"),
        "zh": ("避开障碍物", "绕过障碍物"),
    },
    "pull_over": {"en": ("pull over on the right", "pull over"), "zh": ("靠边停车", "靠右停车")},
}
