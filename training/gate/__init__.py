"""The gate between simulation and the car: `pacenote validate`. See docs/gate.md."""
