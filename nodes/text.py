"""Load stage, texts: an encoded sentence kept in a file, so that its encoder need not stay in memory."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .host import paths


class SaveConditioning(io.ComfyNode):
    """A CONDITIONING to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamSaveConditioning",
            display_name="Save Conditioning",
            category="TalkStream/load",
            description="Keeps an encoded text in a file of a few megabytes. Students use one fixed sentence: encode "
            "it once, then use Load Conditioning, and the 11 GB text encoder is not needed any more.",
            search_aliases=["save text embedding", "umt5", "prompt cache"],
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="From CLIP Text Encode."),
                io.String.Input(
                    "filename_prefix",
                    default="conditioning/TalkStream",
                    tooltip="Folder and beginning of the file name under ComfyUI's output folder.",
                ),
                io.String.Input(
                    "note",
                    default="",
                    optional=True,
                    tooltip="The sentence, or what you like: Load Conditioning shows it.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, conditioning: io.Conditioning.Type, filename_prefix: str, note: str = ""
    ) -> io.NodeOutput:
        """Writes a new numbered file; a refused conditioning leaves none."""
        from ..model_loaders.conditioning_file import describe, write_conditioning

        file = paths.reserve_output(filename_prefix, width=0, height=0, suffix=".safetensors")
        try:
            write_conditioning(file.path, conditioning, text=note)
        except BaseException:
            file.path.unlink(missing_ok=True)
            raise
        return io.NodeOutput(ui=ui.PreviewText(f"{describe(conditioning)}\nin {file.path.name}"))


class LoadConditioning(io.ComfyNode):
    """A file of Save Conditioning to the CONDITIONING it was."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamLoadConditioning",
            display_name="Load Conditioning",
            category="TalkStream/load",
            description="Reads an encoded text that Save Conditioning wrote, without any text encoder.",
            search_aliases=["load text embedding", "umt5", "prompt cache"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=paths.conditioning_names(),
                    tooltip="A .safetensors file in ComfyUI's input folder, or in its output folder, marked [output].",
                ),
            ],
            outputs=[io.Conditioning.Output(tooltip="As it was saved, for Stream Chunks.")],
            has_intermediate_output=True,
        )

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        """Changes when the file does."""
        return paths.file_stamp(file)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        """Reads the file and shows its size and note."""
        from ..model_loaders.conditioning_file import describe, read_conditioning
        from .host import progress

        conditioning, note = read_conditioning(paths.conditioning_path(file))
        text = "\n".join(line for line in (describe(conditioning), note) if line)
        progress.show_text(text)
        return io.NodeOutput(conditioning, ui=ui.PreviewText(text))
