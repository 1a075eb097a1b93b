"""The engine: what a stream is, its state and its order. No ComfyUI."""
