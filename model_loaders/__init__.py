"""Files on disk to plain modules: headers, families, key names, profiles, networks. No ComfyUI."""
