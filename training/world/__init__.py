"""The drawn world: parametric portraits whose mouths follow the phoneme timings of synthetic speech."""
