"""The car: vehicles, drivers and the on-car program. Imports only `bridge` and `controller`; never torch."""
