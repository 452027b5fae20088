// SPDX-License-Identifier: GPL-2.0-or-later
// What this module uses of TORCS 1.3.7 (Debian, amd64), declared by offset; no TORCS header is needed or copied.
//
// TORCS installs no headers. The offsets below are facts of the compiled program, measured once; `plausible()` in
// bridge.cpp checks at start that what is found there makes sense, and the Python side checks the package's version.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if !defined(__x86_64__) || !defined(__LP64__)
#error "the offsets in torcs_abi.h are those of amd64; no other machine is supported"
#endif

// ---- opaque records of TORCS, reached through `at` ---------------------------------------------------------------
struct CarElt;
struct tTrack;
struct trackSeg;
struct Situation;
struct RmInfo;

template <class T> inline T& at(void* record, std::size_t offset) {
    return *reinterpret_cast<T*>(static_cast<char*>(record) + offset);
}

// ---- small records, in full ----------------------------------------------------------------------------------------
struct Posd { float x, y, z, ax, ay, az; };  // ax roll, ay pitch, az yaw [rad]
struct DynPt { Posd pos, vel, acc; };
struct tTrkLocPos {  // the name is part of the mangled names of the robot tools
    trackSeg* seg;
    int type;
    float toStart, toRight, toMiddle, toLeft;
};
struct ModInfo {
    char* name;
    char* desc;
    int (*init)(int index, void* itf);
    unsigned int gfId;
    int index, prio, magic;
};
struct RobotItf {
    void (*newTrack)(int index, tTrack*, void* carHandle, void** setup, Situation*);
    void (*newRace)(int index, CarElt*, Situation*);
    void (*endRace)(int index, CarElt*, Situation*);
    void (*drive)(int index, CarElt*, Situation*);
    int (*pitCommand)(int index, CarElt*, Situation*);
    void (*shutdown)(int index);
    int index;
};
struct SimItf {
    void (*init)(int cars, tTrack*, float fuelFactor, float damageFactor);
    void (*config)(CarElt*, RmInfo*);
    void (*reconfig)(CarElt*);
    void (*update)(Situation*, double dt, int telemetry);
    void (*shutdown)();
};
struct GraphicItf {
    int (*initTrack)(tTrack*);
    int (*initView)(int x, int y, int width, int height, int flag, void* screen);
    int (*initCars)(Situation*);
    int (*refresh)(Situation*);
    void (*shutdownCars)();
    void (*shutdownTrack)();
    void (*muteForMenu)();
};
struct ReCarInfo {
    tTrkLocPos prevTrkPos;
    float sTime;
    int lapFlag;
    char rest[40];
};

static_assert(sizeof(Posd) == 24 && sizeof(DynPt) == 72 && sizeof(tTrkLocPos) == 32, "TORCS records");
static_assert(sizeof(ModInfo) == 40 && offsetof(ModInfo, init) == 16 && offsetof(ModInfo, gfId) == 24, "tModInfo");
static_assert(offsetof(RobotItf, drive) == 24 && offsetof(RobotItf, index) == 48, "tRobotItf");
static_assert(sizeof(SimItf) == 40 && sizeof(GraphicItf) == 56 && sizeof(ReCarInfo) == 80, "TORCS interfaces");

// ---- offsets of fields of the big records ----------------------------------------------------------------------------
namespace car {
constexpr std::size_t index = 0, name = 4, dimension = 160, bonnetPos = 184, steerLock = 200, statGC = 204,
                      wheelSpec = 216;
constexpr std::size_t wheelSpecSize = 20, wheelSpecRadius = 16;
constexpr std::size_t dynGC = 328, dynGCg = 400, speed = 472, posMat = 476, trkPos = 544, state = 576, corner = 580;
constexpr std::size_t curLapTime = 704, lastLapTime = 712, laps = 736, racePos = 748, distRaced = 784,
                      distFromStart = 788;
constexpr std::size_t wheel = 896, wheelSize = 88, wheelSpin = 24;
constexpr std::size_t gear = 1344, fuel = 1348, rpm = 1352, redLine = 1356, gearRatio = 1380, gearNb = 1420,
                      gearOffset = 1424, skid = 1428;
constexpr std::size_t collision = 1460, simCollision = 1464, damage = 1496;
constexpr std::size_t ctrl = 1536, ctrlSize = 172, steer = 1536, throttle = 1540, brake = 1544, clutch = 1548,
                      ctrlGear = 1552;
constexpr int stateOut = 0x02;  // not simulated and not driven
}  // namespace car
namespace track {
constexpr std::size_t name = 0, nseg = 48, length = 56, width = 60, seg = 144;
}
namespace segment {
constexpr std::size_t type = 12, length = 24, width = 28, startWidth = 32, endWidth = 36, fromStart = 40, radius = 44,
                      next = 232;
constexpr int right = 1, left = 2, straight = 3;
}  // namespace segment
namespace situation {
constexpr std::size_t ncars = 0, currentTime = 40, cars = 56;
}
namespace race {
constexpr std::size_t s = 8, track = 16, graphicItf = 144, simItf = 200, carInfo = 280, fuelFactor = 380,
                      damageFactor = 384;
}

// ---- symbols of the TORCS process ------------------------------------------------------------------------------------
extern "C" RmInfo* ReInfo;  // libraceengine.so; C++ variables at namespace scope are not mangled
extern void RtTrackLocal2Global(tTrkLocPos*, float* x, float* y, int flag);
extern void RtTrackGlobal2Local(trackSeg*, float x, float y, tTrkLocPos*, int flag);
extern float RtTrackHeightL(tTrkLocPos*);
constexpr int TO_RIGHT = 0, TO_MIDDLE = 1;  // flags of RtTrackLocal2Global
constexpr int MAIN_SEGMENT = 0;             // flag of RtTrackGlobal2Local: never a side segment
