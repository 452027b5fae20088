"""World `mujoco`: the roads, scenarios and traffic of `track` with MuJoCo's physics and MuJoCo's pictures.

Nothing is imported here: the registry reads `spec` on machines without MuJoCo."""
