// SPDX-License-Identifier: GPL-2.0-or-later
// Pictures: an OpenGL context without a window (EGL, surfaceless), and TORCS's renderer ssggraph.so run in it.
#include "camera.h"

#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GL/gl.h>
#include <dlfcn.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace {

void need(bool ok, const char* what) {
    if (ok) return;
    char text[160];
    std::snprintf(text, sizeof text, "no camera: %s (EGL error 0x%x)", what, eglGetError());
    throw std::runtime_error(text);
}

template <class F> F symbol(const char* name) {
    void* found = dlsym(RTLD_DEFAULT, name);
    if (!found) throw std::runtime_error(std::string("no camera: TORCS has no function ") + name);
    return reinterpret_cast<F>(found);
}

void open_context(int width, int height) {
    auto display_of = reinterpret_cast<PFNEGLGETPLATFORMDISPLAYEXTPROC>(eglGetProcAddress("eglGetPlatformDisplayEXT"));
    need(display_of != nullptr, "EGL knows no platforms");
    EGLDisplay display = display_of(EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY, nullptr);
    need(display != EGL_NO_DISPLAY && eglInitialize(display, nullptr, nullptr), "EGL has no surfaceless display");
    need(eglBindAPI(EGL_OPENGL_API), "EGL has no desktop OpenGL");
    const EGLint wanted[] = {EGL_SURFACE_TYPE, EGL_PBUFFER_BIT, EGL_RENDERABLE_TYPE, EGL_OPENGL_BIT, EGL_RED_SIZE, 8,
                             EGL_GREEN_SIZE, 8, EGL_BLUE_SIZE, 8, EGL_ALPHA_SIZE, 8, EGL_DEPTH_SIZE, 24, EGL_NONE};
    EGLConfig config;
    EGLint found = 0;
    need(eglChooseConfig(display, wanted, &config, 1, &found) && found > 0, "no fitting pixel format");
    const EGLint size[] = {EGL_WIDTH, width, EGL_HEIGHT, height, EGL_NONE};
    EGLSurface surface = eglCreatePbufferSurface(display, config, size);
    EGLContext context = eglCreateContext(display, config, EGL_NO_CONTEXT, nullptr);
    need(surface != EGL_NO_SURFACE && context != EGL_NO_CONTEXT, "no surface or context");
    need(eglMakeCurrent(display, surface, surface, context), "the context cannot be used");
}

GraphicItf& load_renderer() {
    // The race engine loads its renderer only with a window; this does what it would do.
    const char* path = std::getenv("PACENOTE_TORCS_RENDERER");
    void* library = path ? dlopen(path, RTLD_NOW | RTLD_GLOBAL) : nullptr;
    if (!library) throw std::runtime_error(std::string("no camera: cannot load ssggraph.so: ") + (path ? dlerror() : "-"));
    auto entry = reinterpret_cast<int (*)(ModInfo*)>(dlsym(library, "ssggraph"));
    ModInfo modules[10] = {};
    if (!entry || entry(modules) != 0 || !modules[0].init) throw std::runtime_error("no camera: ssggraph.so is another one");
    GraphicItf& graphics = at<GraphicItf>(ReInfo, race::graphicItf);
    modules[0].init(modules[0].index, &graphics);
    return graphics;
}

}  // namespace

void Camera::open(Situation* situation) {
    width_ = std::atoi(std::getenv("PACENOTE_TORCS_WIDTH"));
    height_ = std::atoi(std::getenv("PACENOTE_TORCS_HEIGHT"));
    open_context(width_, height_);
    symbol<void (*)()>("_Z7ssgInitv")();
    symbol<void (*)()>("_Z15checkGLFeaturesv")();  // without it the largest texture is taken to be 0
    GraphicItf& graphics = load_renderer();
    static char screen[65536];  // key bindings are hung on it, nothing else
    graphics.initTrack(at<tTrack*>(ReInfo, race::track));
    graphics.initView(0, 0, width_, height_, 0, screen);
    graphics.initCars(situation);
    pixels_.resize(std::size_t(width_) * height_ * 3);
    ready_ = true;
}

const std::vector<uint8_t>& Camera::draw(CarElt* own, Situation* situation) {
    if (!ready_) open(situation);
    // TORCS looks along the car's x axis from the bonnet; turning the car's matrix for one picture turns the camera.
    float* matrix = &at<float>(own, car::posMat);  // rows: forward, left, up, position
    float* bonnet = &at<float>(own, car::bonnetPos);
    float kept_matrix[16], kept_bonnet[3];
    std::memcpy(kept_matrix, matrix, sizeof kept_matrix);
    std::memcpy(kept_bonnet, bonnet, sizeof kept_bonnet);
    const float c = std::cos(pitch), s = std::sin(pitch);
    for (int k = 0; k < 3; ++k) {
        const float forward = kept_matrix[k], up = kept_matrix[8 + k];
        matrix[k] = c * forward - s * up;
        matrix[8 + k] = c * up + s * forward;
    }
    bonnet[0] = c * x - s * z;
    bonnet[1] = y;
    bonnet[2] = c * z + s * x;
    at<GraphicItf>(ReInfo, race::graphicItf).refresh(situation);
    std::memcpy(matrix, kept_matrix, sizeof kept_matrix);
    std::memcpy(bonnet, kept_bonnet, sizeof kept_bonnet);
    glReadBuffer(GL_BACK);
    glPixelStorei(GL_PACK_ALIGNMENT, 1);
    glReadPixels(0, 0, width_, height_, GL_RGB, GL_UNSIGNED_BYTE, pixels_.data());
    return pixels_;
}
