// SPDX-License-Identifier: GPL-2.0-or-later
// The records on the socket; PROTOCOL.md describes them. Little-endian, no padding, version 1.
#pragma once

#include <cstdint>

namespace wire {
constexpr uint32_t VERSION = 1;
constexpr uint32_t MAGIC = 0x314e4350;  // "PCN1"
enum Request : uint32_t { ACT = 1, PLACE = 2, ROAD = 3, CAMERA = 4 };
enum Reply : uint32_t { HELLO = 1, STATE = 2, ROAD_POINTS = 3, FAILED = 4 };

#pragma pack(push, 1)
struct Header { uint32_t magic, type, count, size; };  // `size`: bytes that follow; `count`: records among them

// Python -> module
struct Act { uint32_t control_steps, picture; };                 // then one Command for every car; those of TORCS's own are ignored
struct Command { float steer, throttle, brake; };                // steer -1..1, + left; pedals 0..1
struct Place { uint32_t present; float distance, x, y, yaw, speed; };  // PLACE: one for every car; absent ones last
struct Camera { float x, y, z, pitch; };                         // from the centre of gravity, z from the ground

// module -> Python
struct Hello {
    uint32_t version;
    float track_length, control_period;
    char track[32];  // then `count` CarShape
};
struct CarShape {
    char name[32];
    float length, width, height, steer_lock, wheel_radius;
    float front_axle, rear_axle, front_end, rear_end;  // x from the centre of gravity
    int32_t gears;
    float gear_ratio[8];  // of engine to wheel, first gear first
};
struct State {
    double time;
    uint32_t control_steps, width, height;  // then `count` CarState, then width * height * 3 bytes RGB, bottom row first
};
struct CarState {  // floats only, so that the other side can read all cars as one table
    float present;
    float x, y, z, yaw, pitch, roll;  // of the centre of gravity
    float vx, vy, yaw_rate, ax;       // in the car's own frame
    float distance, to_middle;        // TORCS's own, metres
    float steer, rpm, gear, damage;
    float contact;  // sum of bits since the last State: 1 ground or wall, 2 scenery, 4 another car
};
struct RoadPoint { float distance, x, y, z, width, curvature; };  // on the middle line
#pragma pack(pop)

static_assert(sizeof(Header) == 16 && sizeof(Act) == 8 && sizeof(Command) == 12 && sizeof(Place) == 24, "wire");
static_assert(sizeof(Hello) == 44 && sizeof(CarShape) == 104 && sizeof(State) == 20 && sizeof(CarState) == 72, "wire");
static_assert(sizeof(RoadPoint) == 24 && sizeof(Camera) == 16, "wire");
}  // namespace wire
