"""Frames and samples out of the engine: pictures as bytes, and the video file that grows while it is made."""
