// SPDX-License-Identifier: GPL-2.0-or-later
// TORCS robot module "pacenote": hands the race over to the process at the other end of a socket, in lock-step.
//
// Driver 0 is the ego, drivers 1-9 are its scripted traffic. TORCS calls `drive` every 20 ms of its own time; driver 0
// waits there for the next request, so that the simulation stands still until it is told to go on. The pedals and the
// wheel of all our cars come from the socket; this module only changes gears. It ends the process when the socket
// closes.
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "camera.h"
#include "link.h"
#include "protocol.h"
#include "torcs_abi.h"

using namespace link_to_python;

namespace {

constexpr double START_TIME = 8192.0;  // from 4096 s on TORCS's sum of 10 x 0.002 s is never below 0.02 s (see README)
constexpr int MAX_CARS = 20;
constexpr int OUR_CARS = 10;
const char OUR_NAME[] = "Pacenote";  // all our drivers' names begin so

Camera camera;
tTrack* circuit = nullptr;
std::vector<CarElt*> fleet;  // all cars by index; TORCS sorts its own list by race position at every step
wire::Command commands[MAX_CARS];
uint32_t contacts[MAX_CARS];
uint32_t steps_left = 0, steps_done = 0, wants_picture = 0;

// ---- cars --------------------------------------------------------------------------------------------------------

float* wheel(CarElt* c, int k) { return &at<float>(c, car::wheel + k * car::wheelSize); }

float wheel_radius(CarElt* c) { return at<float>(c, car::wheelSpec + 2 * car::wheelSpecSize + car::wheelSpecRadius); }

float ratio(CarElt* c, int gear) {
    return at<float>(c, car::gearRatio + 4 * (gear + at<int>(c, car::gearOffset)));
}

int choose_gear(CarElt* c) {
    int gear = at<int>(c, car::gear);
    if (gear <= 0) return 1;
    const float speed = at<DynPt>(c, car::dynGC).vel.x;
    auto shift_speed = [&](int g) { return 0.9f * at<float>(c, car::redLine) / ratio(c, g) * wheel_radius(c); };
    if (gear < at<int>(c, car::gearNb) - 1 && speed > shift_speed(gear)) return gear + 1;
    if (gear > 1 && speed < shift_speed(gear - 1) - 4.0f) return gear - 1;
    return gear;
}

bool is_ours(CarElt* c) { return std::strncmp(&at<char>(c, car::name), OUR_NAME, sizeof OUR_NAME - 1) == 0; }

void apply() {
    for (std::size_t k = 0; k < fleet.size(); ++k) {
        CarElt* c = fleet[k];
        if (!is_ours(c)) continue;  // one of TORCS's own drivers
        std::memset(&at<char>(c, car::ctrl), 0, car::ctrlSize);
        at<float>(c, car::steer) = commands[k].steer;
        at<float>(c, car::throttle) = commands[k].throttle;
        at<float>(c, car::brake) = commands[k].brake;
        at<int>(c, car::ctrlGear) = choose_gear(c);
    }
}

// ---- what is sent ------------------------------------------------------------------------------------------------

void plausible(Situation* s, CarElt* own) {
    auto check = [](bool ok, const char* what) {
        if (!ok) fail(std::string("this is not the TORCS that the module was made for: ") + what);
    };
    check(ReInfo && at<Situation*>(ReInfo, race::s) == s && at<tTrack*>(ReInfo, race::track) == circuit, "race record");
    const int ncars = at<int>(s, situation::ncars), nseg = at<int>(circuit, track::nseg);
    check(ncars >= 1 && ncars <= MAX_CARS && at<int>(own, car::index) == 0, "number of cars, or the ego is not first");
    check(is_ours(own), "name of the driver");
    const float length = at<float>(circuit, track::length), lock = at<float>(own, car::steerLock);
    check(length > 200 && length < 50000 && nseg > 3 && nseg < 20000, "track length");
    double sum = 0;
    trackSeg* first = at<trackSeg*>(circuit, track::seg);
    trackSeg* seg = first;
    for (int i = 0; i < nseg; ++i, seg = at<trackSeg*>(seg, segment::next)) {
        check(seg != nullptr, "track segments");
        sum += at<float>(seg, segment::length);
    }
    check(seg == first && std::fabs(sum - length) < 0.01 * length, "track segments");
    check(lock > 0.05 && lock < 1.2 && wheel_radius(own) > 0.2 && wheel_radius(own) < 0.6, "steering and wheels");
    check(at<int>(own, car::gearNb) >= 3 && at<int>(own, car::gearNb) <= 10 && ratio(own, 1) > 1, "gearbox");
    SimItf& sim = at<SimItf>(ReInfo, race::simItf);
    check(sim.init && sim.config && sim.update && sim.shutdown, "simulation interface");
    check(at<DynPt>(own, car::dynGC).pos.x == at<DynPt>(own, car::dynGCg).pos.x, "position of the car");
}

void send_hello() {
    std::vector<char> body;
    wire::Hello hello{};
    hello.version = wire::VERSION;
    hello.track_length = at<float>(circuit, track::length);
    hello.control_period = 0.02f;
    std::strncpy(hello.track, at<char*>(circuit, track::name), sizeof hello.track - 1);
    append(body, hello);
    for (CarElt* c : fleet) {
        wire::CarShape shape{};
        std::memcpy(shape.name, &at<char>(c, car::name), 31);
        const float* size = &at<float>(c, car::dimension);
        shape.length = size[0], shape.width = size[1], shape.height = size[2];
        shape.steer_lock = at<float>(c, car::steerLock);
        shape.wheel_radius = wheel_radius(c);
        const float gravity = at<float>(c, car::statGC);  // the wheels' places are kept in the body's frame
        shape.front_axle = wheel(c, 0)[0] - gravity, shape.rear_axle = wheel(c, 2)[0] - gravity;
        const Posd& pose = at<DynPt>(c, car::dynGCg).pos;
        for (int k = 0; k < 4; ++k) {
            const Posd& corner = at<Posd>(c, car::corner + 24 * k);
            const float ahead = (corner.ax - pose.x) * std::cos(pose.az) + (corner.ay - pose.y) * std::sin(pose.az);
            shape.front_end = std::fmax(shape.front_end, ahead), shape.rear_end = std::fmin(shape.rear_end, ahead);
        }
        shape.gears = at<int>(c, car::gearNb) - 1;  // neutral is counted
        for (int g = 0; g < 8 && g < shape.gears; ++g) shape.gear_ratio[g] = ratio(c, g + 1);
        append(body, shape);
    }
    reply(wire::HELLO, uint32_t(fleet.size()), body);
}

wire::CarState state_of(CarElt* c, int index) {
    const DynPt& body = at<DynPt>(c, car::dynGC);
    const DynPt& world = at<DynPt>(c, car::dynGCg);
    wire::CarState state{};
    state.present = at<int>(c, car::state) & 0xff ? 0.0f : 1.0f;
    state.x = world.pos.x, state.y = world.pos.y, state.z = world.pos.z;
    state.yaw = world.pos.az, state.pitch = world.pos.ay, state.roll = world.pos.ax;
    state.vx = body.vel.x, state.vy = body.vel.y, state.yaw_rate = world.vel.az, state.ax = body.acc.x;
    state.distance = at<float>(c, car::distFromStart);
    state.to_middle = at<tTrkLocPos>(c, car::trkPos).toMiddle;
    state.steer = at<float>(c, car::steer), state.rpm = at<float>(c, car::rpm) * 9.549297f;  // rad/s to rpm
    state.gear = float(at<int>(c, car::gear)), state.damage = float(at<int>(c, car::damage));
    state.contact = float(contacts[index]);
    return state;
}

void send_state(Situation* s, CarElt* own, bool picture) {
    std::vector<char> body;
    wire::State state{at<double>(s, situation::currentTime), steps_done, 0, 0};
    const std::vector<uint8_t>* pixels = nullptr;
    if (picture) {
        int& racing = at<int>(s, situation::ncars);
        const int kept = racing;
        racing = int(fleet.size());  // the renderer keeps every car; those that are out lie far below
        try {
            pixels = &camera.draw(own, s);
        } catch (const std::runtime_error& error) {
            fail(error.what());
        }
        racing = kept;
        state.width = camera.width(), state.height = camera.height();
    }
    append(body, state);
    for (std::size_t i = 0; i < fleet.size(); ++i) append(body, state_of(fleet[i], int(i)));
    reply(wire::STATE, uint32_t(fleet.size()), body, pixels ? pixels->size() : 0);
    if (pixels) send_all(pixels->data(), pixels->size());
    std::memset(contacts, 0, sizeof contacts);
}

void send_road() {
    std::vector<char> body;
    uint32_t count = 0;
    trackSeg* seg = at<trackSeg*>(circuit, track::seg);
    for (int i = 0; i < at<int>(circuit, track::nseg); ++i) {
        if (at<float>(seg, segment::fromStart) < 1e-3f) break;
        seg = at<trackSeg*>(seg, segment::next);
    }
    for (int i = 0; i < at<int>(circuit, track::nseg); ++i, seg = at<trackSeg*>(seg, segment::next)) {
        const float length = at<float>(seg, segment::length), radius = at<float>(seg, segment::radius);
        const int type = at<int>(seg, segment::type), steps = std::max(1, int(std::ceil(length)));
        for (int k = 0; k < steps; ++k, ++count) {
            const float along = length * k / steps, part = float(k) / steps;
            tTrkLocPos place{seg, 0, type == segment::straight ? along : along / radius, 0, 0, 0};
            wire::RoadPoint point{};
            RtTrackLocal2Global(&place, &point.x, &point.y, TO_MIDDLE);
            point.distance = at<float>(seg, segment::fromStart) + along;
            point.width = at<float>(seg, segment::startWidth) * (1 - part) + at<float>(seg, segment::endWidth) * part;
            place.toRight = point.width / 2;
            point.z = RtTrackHeightL(&place);
            point.curvature = type == segment::straight ? 0 : (type == segment::left ? 1 : -1) / radius;
            append(body, point);
        }
    }
    reply(wire::ROAD_POINTS, count, body);
}

// ---- placing -----------------------------------------------------------------------------------------------------

trackSeg* segment_at(float distance) {
    trackSeg* seg = at<trackSeg*>(circuit, track::seg);
    for (int i = 0; i < at<int>(circuit, track::nseg); ++i, seg = at<trackSeg*>(seg, segment::next)) {
        const float start = at<float>(seg, segment::fromStart);
        if (distance >= start && distance < start + at<float>(seg, segment::length)) return seg;
    }
    return seg;
}

void place_car(CarElt* c, const wire::Place& wanted, double now) {
    DynPt& body = at<DynPt>(c, car::dynGC);
    DynPt& world = at<DynPt>(c, car::dynGCg);
    tTrkLocPos& where = at<tTrkLocPos>(c, car::trkPos);
    std::memset(&body, 0, sizeof body);
    RtTrackGlobal2Local(segment_at(wanted.distance), wanted.x, wanted.y, &where, MAIN_SEGMENT);
    body.pos = {wanted.x, wanted.y, RtTrackHeightL(&where) + 0.2f, 0, 0, wanted.yaw};
    // World axes: `config` copies this into both frames, and the simulation's first step takes it for the world's.
    body.vel.x = wanted.speed * std::cos(wanted.yaw), body.vel.y = wanted.speed * std::sin(wanted.yaw);
    world = body;
    at<int>(c, car::state) = 0;
    at<int>(c, car::damage) = 0, at<int>(c, car::collision) = 0, at<int>(c, car::simCollision) = 0;
    at<int>(c, car::gear) = 0;
    at<float>(c, car::rpm) = 0;
    at<float>(c, car::fuel) = 50;
    std::memset(&at<char>(c, car::skid), 0, 16);
    std::memset(&at<char>(c, car::ctrl), 0, car::ctrlSize);
    for (int k = 0; k < 4; ++k) wheel(c, k)[car::wheelSpin / 4] = 0;
    at<SimItf>(ReInfo, race::simItf).config(c, ReInfo);
    world = body;
    body.vel.x = wanted.speed, body.vel.y = 0;
    at<float>(c, car::speed) = wanted.speed;
    ReCarInfo& info = at<ReCarInfo*>(ReInfo, race::carInfo)[at<int>(c, car::index)];
    info.prevTrkPos = where, info.sTime = float(now), info.lapFlag = 0;
    at<int>(c, car::laps) = 1;
    at<double>(c, car::curLapTime) = 0, at<double>(c, car::lastLapTime) = 0;
    at<float>(c, car::distFromStart) = wanted.distance, at<float>(c, car::distRaced) = 0;
}

void take_out(CarElt* c) {  // of the race and of sight
    at<int>(c, car::state) = car::stateOut;
    at<DynPt>(c, car::dynGC).pos.z = at<DynPt>(c, car::dynGCg).pos.z = -1000;
    at<float>(c, car::posMat + 4 * 14) = -1000;
}

void place(Situation* s, const std::vector<wire::Place>& wanted) {
    if (wanted.size() != fleet.size() || !wanted[0].present) fail("PLACE must name every car, and the ego be present");
    SimItf& sim = at<SimItf>(ReInfo, race::simItf);
    sim.shutdown();  // configuring a car again would leave a ghost of it behind, to collide with
    sim.init(int(fleet.size()), circuit, at<float>(ReInfo, race::fuelFactor), at<float>(ReInfo, race::damageFactor));
    at<double>(s, situation::currentTime) = START_TIME;
    srand(1);
    // Cars that are out, the last by index, are beyond the end of TORCS's list. In it, even unsimulated, they would stay
    // in the collision detection, one inside the other at the origin, and turn the next real contact into NaN.
    int racing = 0;
    for (int i = 0; i < int(fleet.size()); ++i) {
        if (wanted[i].present && racing < i) fail("PLACE: cars that are out must be the last ones");
        if (wanted[i].present) {
            place_car(fleet[i], wanted[i], START_TIME);
            ++racing;
        } else {
            take_out(fleet[i]);
        }
        at<CarElt**>(s, situation::cars)[i] = fleet[i];
    }
    at<int>(s, situation::ncars) = racing;
    steps_done = 0;
    std::memset(contacts, 0, sizeof contacts);
}

// ---- lock-step ---------------------------------------------------------------------------------------------------

template <class T> std::vector<T> receive_records(const wire::Header& header, std::size_t before) {
    if (header.count > 1000 || header.size != before + header.count * sizeof(T)) fail("request of a wrong size");
    std::vector<T> records(header.count);
    receive(records.data(), records.size() * sizeof(T));
    return records;
}

bool handle_request(Situation* s, CarElt* own) {  // true: let the simulation go on
    wire::Header header;
    receive(&header, sizeof header);
    if (header.magic != wire::MAGIC) fail("request without the magic number");
    if (header.type == wire::ACT) {
        wire::Act act;
        receive(&act, sizeof act);
        const auto wanted = receive_records<wire::Command>(header, sizeof act);
        if (wanted.size() != fleet.size()) fail("ACT must name every car");
        std::copy(wanted.begin(), wanted.end(), commands);
        steps_left = act.control_steps, wants_picture = act.picture;
        if (steps_left > 0) return true;
        send_state(s, own, wants_picture);
    } else if (header.type == wire::PLACE) {
        place(s, receive_records<wire::Place>(header, 0));
        send_state(s, own, false);
    } else if (header.type == wire::ROAD) {
        send_road();
    } else if (header.type == wire::CAMERA) {
        const auto pose = receive_records<wire::Camera>(header, 0);
        if (pose.size() != 1) fail("CAMERA takes one pose");
        camera.x = pose[0].x, camera.y = pose[0].y, camera.z = pose[0].z, camera.pitch = pose[0].pitch;
        send_state(s, own, false);
    } else {
        fail("request of unknown type " + std::to_string(header.type));
    }
    return false;
}

void connect_once(Situation* s, CarElt* own) {
    if (fd >= 0) return;
    const char* number = std::getenv("PACENOTE_TORCS_FD");
    if (!number) {
        std::fprintf(stderr, "pacenote: PACENOTE_TORCS_FD is not set; this robot is started by pacenote only\n");
        _exit(1);
    }
    fd = std::atoi(number);
    plausible(s, own);
    fleet.resize(at<int>(s, situation::ncars));
    for (std::size_t i = 0; i < fleet.size(); ++i) {
        CarElt* c = at<CarElt**>(s, situation::cars)[i];
        fleet.at(at<int>(c, car::index)) = c;
    }
    send_hello();
}

void drive(int index, CarElt* own, Situation* s) {
    if (index != 0 || at<double>(s, situation::currentTime) < 0) return;
    connect_once(s, own);
    for (std::size_t i = 0; i < fleet.size(); ++i) {
        contacts[i] |= uint32_t(at<int>(fleet[i], car::simCollision));
        // TORCS throws out a car whose lap takes longer than 84.5 s + length / (10 m/s); ours may stand as they like.
        if (is_ours(fleet[i])) at<ReCarInfo*>(ReInfo, race::carInfo)[i].sTime = float(at<double>(s, situation::currentTime));
    }
    if (steps_left > 0) {
        ++steps_done;
        if (--steps_left == 0) send_state(s, own, wants_picture);
    }
    while (steps_left == 0 && !handle_request(s, own)) {}
    apply();
}

// ---- what TORCS calls --------------------------------------------------------------------------------------------

void new_track(int, tTrack* t, void*, void** setup, Situation*) {
    circuit = t;
    *setup = nullptr;
}
void new_race(int, CarElt*, Situation*) {}
void end_race(int, CarElt*, Situation*) {}
int pit_command(int, CarElt*, Situation*) { return 0; }
void shutdown_robot(int) {}

int init_robot(int index, void* interface) {
    auto* robot = static_cast<RobotItf*>(interface);
    *robot = {new_track, new_race, end_race, drive, pit_command, shutdown_robot, index};
    return 0;
}

}  // namespace

extern "C" int pacenote(ModInfo* modules) {
    for (int i = 0; i < OUR_CARS; ++i) {
        modules[i].name = strdup((std::string(OUR_NAME) + " " + std::to_string(i)).c_str());  // TORCS frees both
        modules[i].desc = strdup("driven over a socket");
        modules[i].init = init_robot, modules[i].gfId = 0, modules[i].index = i;
    }
    return 0;
}
