// SPDX-License-Identifier: GPL-2.0-or-later
// Loaded before TORCS (LD_PRELOAD). Ties its life to its parent's, and stands before five functions of libraries:
// three questions about a window that TORCS's console mode does not have (without an answer freeglut and PLIB end the
// process at the first picture), the field of view (TORCS resets it to its own), and the writing of parameter files
// (TORCS writes its camera settings back; ours are shared between processes and stay as they are).
#include <dlfcn.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdlib>

namespace {

__attribute__((constructor)) void die_with_parent() {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const char* parent = std::getenv("PACENOTE_PARENT");
    if (parent && getppid() != std::atoi(parent)) _exit(1);  // it died before the line above
}

float number(const char* name) {
    const char* text = std::getenv(name);
    return text ? float(std::atof(text)) : 0.0f;
}

}  // namespace

extern "C" int glutGet(unsigned int) { return 8; }  // asked for the bits of alpha only
extern "C" int glutExtensionSupported(const char*) { return 0; }
extern "C" void* glXGetCurrentContext() { return reinterpret_cast<void*>(1); }  // "is there a context at all?"

class ssgContext {  // of PLIB; only its name matters
  public:
    void setFOV(float horizontal_deg, float vertical_deg);
};

__attribute__((visibility("default"))) void ssgContext::setFOV(float horizontal_deg, float vertical_deg) {
    using Real = void (*)(ssgContext*, float, float);
    static const Real real = reinterpret_cast<Real>(dlsym(RTLD_NEXT, "_ZN10ssgContext6setFOVEff"));
    static const float fovy = number("PACENOTE_TORCS_FOVY");
    static const float aspect = number("PACENOTE_TORCS_WIDTH") / number("PACENOTE_TORCS_HEIGHT");
    if (fovy > 0) {
        vertical_deg = fovy;
        horizontal_deg = float(2 * std::atan(aspect * std::tan(fovy * M_PI / 360)) * 180 / M_PI);
    }
    real(this, horizontal_deg, vertical_deg);
}

__attribute__((visibility("default"))) int GfParmWriteFile(const char*, void*, const char*) { return 0; }
