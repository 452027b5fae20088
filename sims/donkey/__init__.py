"""The Donkey simulator's TCP protocol from both ends: a world that drives a server of it, and a server for our worlds.

`client` and `world` drive the Unity simulator or our own server; `server` puts any of our worlds behind the protocol.
`protocol` holds what both ends share. Importing this package imports no simulator and opens no socket.
"""
