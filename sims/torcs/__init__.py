"""TORCS, the racing simulator of the Debian package `torcs`, unpatched and in lock-step: real-size roads and cars.

`driver/` is a module that TORCS loads; it has its own licence. Everything else talks to it over a socket.
"""
