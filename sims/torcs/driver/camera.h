// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "torcs_abi.h"

// TORCS's own renderer on a surface without a window.
class Camera {
  public:
    // Where the eye sits: metres from the centre of gravity (x ahead, y left), z above its ground point; pitch down.
    float x = 0, y = 0, z = 1, pitch = 0;

    // The picture as things stand, RGB, bottom row first. Throws std::runtime_error where there is no OpenGL.
    const std::vector<uint8_t>& draw(CarElt* own, Situation* situation);
    int width() const { return width_; }
    int height() const { return height_; }

  private:
    void open(Situation* situation);
    int width_ = 0, height_ = 0;
    bool ready_ = false;
    std::vector<uint8_t> pixels_;
};
