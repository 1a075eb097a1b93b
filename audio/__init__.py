"""Waveforms and time: rates, resampling, level checks, speech windows. Axes: C channels, S samples."""
