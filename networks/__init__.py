"""Network definitions: weights and forward passes, with torch, einops and numpy as the only imports.

Axis letters used in names and docstrings of this pack:

====== ==========================================================
letter meaning
====== ==========================================================
B      batch
C      channels
T      latent frames
F      pixel frames
H, W   height, width
L      tokens (T * h * w, in this order)
D      model width
N      attention heads
K      width of one head
M      context tokens (text)
A      audio-feature frames
E      width of an audio token
S      audio samples
P      speakers, or their masks
R      tokens of the reference latent
====== ==========================================================
"""
