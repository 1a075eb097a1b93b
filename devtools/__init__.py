"""What dev.py is made of: the host, the environment, a running server, the demo. Standard library only.

The set-up is made once and kept in the user's cache folder (TALKSTREAM_CACHE overrides it), under a name made from
everything that is installed, so that clones, demo, test and CI share one. ComfyUI comes from COMFYUI_PATH, else from
the installation that this repository is cloned into, else from PyPI. Its folders are never written to: it runs with
a base directory of ours, whose custom_nodes holds a link to this repository. TALKSTREAM_PYTHON names an interpreter
to use as it is, with nothing installed.
"""
