// SPDX-License-Identifier: GPL-2.0-or-later
// The socket: whole messages in and out. When the other side has gone, so does this process.
#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "protocol.h"

namespace link_to_python {

inline int fd = -1;

inline void receive(void* into, std::size_t size) {
    for (char* p = static_cast<char*>(into); size > 0;) {
        ssize_t got = recv(fd, p, size, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) _exit(0);
        p += got;
        size -= got;
    }
}

inline void send_all(const void* from, std::size_t size) {
    for (const char* p = static_cast<const char*>(from); size > 0;) {
        ssize_t sent = send(fd, p, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) _exit(0);
        p += sent;
        size -= sent;
    }
}

inline void reply(uint32_t type, uint32_t count, const std::vector<char>& body, std::size_t more = 0) {
    const wire::Header header{wire::MAGIC, type, count, uint32_t(body.size() + more)};
    const char* bytes = reinterpret_cast<const char*>(&header);
    std::vector<char> message(bytes, bytes + sizeof header);
    message.insert(message.end(), body.begin(), body.end());
    send_all(message.data(), message.size());
}

[[noreturn]] inline void fail(const std::string& text) {
    reply(wire::FAILED, 0, std::vector<char>(text.begin(), text.end()));
    _exit(1);
}

template <class T> void append(std::vector<char>& body, const T& record) {
    const char* bytes = reinterpret_cast<const char*>(&record);
    body.insert(body.end(), bytes, bytes + sizeof record);
}

}  // namespace link_to_python
