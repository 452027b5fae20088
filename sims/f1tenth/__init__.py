"""World `f1tenth`: the dynamics of f1tenth_gym on our roads."""
