"""System 1 learned by flow matching: teacher, data collection, network, training, export and checks."""
