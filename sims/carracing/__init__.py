"""World `carracing`: Gymnasium's CarRacing-v3."""
