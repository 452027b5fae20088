"""Recorded driving on disk: the LeRobot v3.0 dataset format written, read and checked. Imports no simulator."""
