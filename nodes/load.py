"""Load stage: files to models, and the shipped examples to try them with."""

from __future__ import annotations

from comfy_api.latest import InputImpl, io, ui

from .host import paths

SEARCH_ALIASES = ["talking head", "avatar", "lip sync", "talking portrait"]
PROFILES = [
    "auto",
    "livetalk",
    "lipforcing",
    "avatarforcing",
    "omniavatar",
    "omniavatar_ls",
    "flashtalk",
    "infinitetalk",
    "echotorrent",
]
PRECISIONS = ["auto", "bf16", "fp16", "fp32"]
PROFILE_TOOLTIP = (
    "How the student was trained. auto reads it from the file; pick one only for a file whose tensors look alike, "
    "such as a fine-tune. A choice that the file contradicts is refused."
)


class LoadStudent(io.ComfyNode):
    """A student checkpoint to a MODEL that carries its profile."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamLoadStudent",
            display_name="Load Student",
            category="TalkStream/load",
            description="Loads a streaming talking-video student and shows what it recognised in the file.",
            search_aliases=[
                *SEARCH_ALIASES,
                "livetalk",
                "lip forcing",
                "flashtalk",
                "infinitetalk",
                "multitalk",
                "talkstream mini",
            ],
            inputs=[
                io.Combo.Input(
                    "student",
                    options=paths.student_names(),
                    default=paths.MINI_STUDENT,
                    tooltip="A file in models/diffusion_models, .safetensors or PyTorch's own; any shard of a split "
                    "one stands for all of it. talkstream_mini comes with this pack.",
                ),
                io.Combo.Input(
                    "profile",
                    options=PROFILES,
                    default="auto",
                    optional=True,
                    tooltip=PROFILE_TOOLTIP,
                ),
                io.Combo.Input(
                    "precision",
                    options=PRECISIONS,
                    default="auto",
                    optional=True,
                    advanced=True,
                    tooltip="Number format to compute in. auto takes bf16 where the device is fast at it, else what "
                    "ComfyUI picks.",
                ),
                io.Combo.Input(
                    "base",
                    options=[paths.NONE, *paths.student_names()],
                    default=paths.NONE,
                    optional=True,
                    advanced=True,
                    tooltip="The Wan network below a file that holds only a part: Wan2.1-T2V for an adapter in the "
                    "manner of OmniAvatar, Wan2.1-I2V-14B for InfiniteTalk.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The student. LoRA and quantised files work as with any MODEL.")
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls, student: str, profile: str = "auto", precision: str = "auto", base: str = paths.NONE
    ) -> io.NodeOutput:
        """Loads through the host's own loader and shows what was recognised on the node."""
        from .host import progress
        from .host.student import load_student

        under = None if base == paths.NONE else paths.student_path(base)
        model, summary = load_student(
            paths.student_path(student), profile=profile, precision=precision, base=under
        )
        progress.show_text(summary)
        return io.NodeOutput(model, ui=ui.PreviewText(summary))


class LoadVAERefiner(io.ComfyNode):
    """A VAE with a refined decoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamLoadVAERefiner",
            display_name="Load VAE Refiner",
            category="TalkStream/load",
            description="Puts another decoder into a VAE, for sharper pictures from the same latents. "
            "The encoder stays, and so does the VAE that comes in.",
            search_aliases=["vae decoder", "refined decoder", "echotorrent"],
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE that the student was trained with."),
                io.Combo.Input(
                    "refiner",
                    options=paths.vae_names(),
                    tooltip="A file in models/vae: decoder weights alone, or a whole VAE, of which only the decoder is "
                    "read.",
                ),
            ],
            outputs=[io.Vae.Output(tooltip="For Decode Stream or VAE Decode.")],
        )

    @classmethod
    def execute(cls, vae: io.Vae.Type, refiner: str) -> io.NodeOutput:
        """Builds the new VAE."""
        from .host.refiner import refine_vae

        return io.NodeOutput(refine_vae(vae, paths.vae_path(refiner)))


class UseModelAsStudent(io.ComfyNode):
    """A MODEL from any loader as a student."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamUseModelAsStudent",
            display_name="Use Model as Student",
            category="TalkStream/load",
            description="Lets a student stream that another loader opened: Load Diffusion Model, a GGUF loader, with "
            "or without LoRAs. Those loaders leave the audio tensors out; they are read from the file here.",
            search_aliases=[*SEARCH_ALIASES, "gguf", "fp8", "livetalk", "lip forcing", "infinitetalk"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The Wan network of a student. LoRAs may come before or after."
                ),
                io.Combo.Input(
                    "audio_weights",
                    options=paths.student_names(),
                    tooltip="The student's own file, or one with its audio tensors alone, in models/diffusion_models. "
                    "Only the audio tensors are read, 4 MB of a published student.",
                ),
                io.Combo.Input(
                    "profile", options=PROFILES, default="auto", optional=True, tooltip=PROFILE_TOOLTIP
                ),
                io.ModelPatch.Input(
                    "model_patch",
                    optional=True,
                    tooltip="For InfiniteTalk as ComfyUI splits it: its patch from Load Model Patch, beside the MODEL "
                    "of Wan 2.1 image-to-video. audio_weights is then not read.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The student, for Encode Speech and Stream Chunks.")],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        audio_weights: str,
        profile: str = "auto",
        model_patch: io.ModelPatch.Type | None = None,
    ) -> io.NodeOutput:
        """Checks that network and audio tensors belong together, and shows what they are."""
        from .host import progress
        from .host.adopt import use_as_student

        student, summary = use_as_student(
            model, paths.student_path(audio_weights), profile=profile, patch=model_patch
        )
        progress.show_text(summary)
        return io.NodeOutput(student, ui=ui.PreviewText(summary))


class ModelDoctor(io.ComfyNode):
    """What a model file is, and what it needs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamModelDoctor",
            display_name="Model Doctor",
            category="TalkStream/load",
            description="Says what a model file is, whether it is whole, what it lacks, what to get and where it goes. "
            "Reads headers only, so it answers at once.",
            search_aliases=["check model", "which model", "missing keys", "identify checkpoint"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=paths.model_file_names(),
                    tooltip="Any file in ComfyUI's model folders, as folder/name.",
                ),
                io.Combo.Input(
                    "base",
                    options=[paths.NONE, *paths.student_names()],
                    default=paths.NONE,
                    optional=True,
                    advanced=True,
                    tooltip="For an adapter: the Wan2.1-T2V network that it would be merged into.",
                ),
            ],
            outputs=[io.String.Output(display_name="report", tooltip="The answer, line by line.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, file: str, base: str = paths.NONE) -> io.NodeOutput:
        """Examines the file and shows the answer on the node."""
        from ..model_loaders.doctor import examine

        under = None if base == paths.NONE else paths.student_path(base)
        report = examine(paths.model_file_path(file), base=under)
        return io.NodeOutput(report, ui=ui.PreviewText(report))


class Examples(io.ComfyNode):
    """A shipped portrait and a shipped sentence, to try a workflow without looking for files."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamExamples",
            display_name="Example Portrait and Voice",
            category="TalkStream/load",
            description="A portrait and a spoken sentence that come with this pack. "
            "Replace it by Load Image and Load Audio to use your own.",
            search_aliases=["sample", "demo", "example portrait", "example voice"],
            inputs=[
                io.Combo.Input(
                    "portrait",
                    options=paths.asset_names("portraits", ".png"),
                    tooltip="One of the drawn portraits in the pack's assets/portraits folder.",
                ),
                io.Combo.Input(
                    "sentence",
                    options=paths.asset_names("sentences", ".wav"),
                    tooltip="One of the spoken sentences in the pack's assets/sentences folder.",
                ),
            ],
            outputs=[
                io.Image.Output(tooltip="The portrait."),
                io.Audio.Output(tooltip="The sentence."),
            ],
        )

    @classmethod
    def execute(cls, portrait: str, sentence: str) -> io.NodeOutput:
        """Reads both files."""
        from .host import examples

        image = examples.read_image(paths.asset_path("portraits", portrait, ".png"))
        return io.NodeOutput(image, examples.read_audio(paths.asset_path("sentences", sentence, ".wav")))


class ExampleVideo(io.ComfyNode):
    """A shipped video, to try lip sync without looking for files."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamExampleVideo",
            display_name="Example Video",
            category="TalkStream/load",
            description="A drawn person who says something, in a short video that comes with this pack. "
            "Replace it by Load Video to use your own.",
            search_aliases=["sample", "demo", "example video", "lip sync"],
            inputs=[
                io.Combo.Input(
                    "video",
                    options=paths.asset_names("videos", ".mp4"),
                    tooltip="One of the drawn videos in the pack's assets/videos folder.",
                ),
            ],
            outputs=[io.Video.Output(tooltip="The video, with its sound.")],
        )

    @classmethod
    def execute(cls, video: str) -> io.NodeOutput:
        """Opens the file."""
        return io.NodeOutput(InputImpl.VideoFromFile(str(paths.asset_path("videos", video, ".mp4"))))
