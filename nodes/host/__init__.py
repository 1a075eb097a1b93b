"""Every ComfyUI call that is not a schema, so that a new host version is met in one thin folder."""
