"""The contract between planner and car: messages, encoding, the ZeroMQ link, keys, clocks.

Knows nothing about how a plan is made or followed. Imports nothing else of Pacenote.
"""
