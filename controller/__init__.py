"""System 1: follows the latest plan at 30 Hz and stays safe when none comes. Imports only `bridge`; never torch."""
