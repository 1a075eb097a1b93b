"""Stream stage, teachers: whole clips through core's samplers, to compare a student with."""

from __future__ import annotations

from comfy_api.latest import io

from .types import Reference, ReferenceSocket, Speech, SpeechSocket


class TeacherClip(io.ComfyNode):
    """One clip on a teacher's MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamTeacherClip",
            display_name="Teacher Clip",
            category="TalkStream/stream",
            description="Prepares OmniAvatar or OmniAvatar-LS, the teachers of LiveTalk and Lip Forcing, for one short "
            "clip. They do not stream: run the MODEL with core's KSampler, about 50 steps, cfg 4.5.",
            search_aliases=["omniavatar", "lip sync teacher", "offline"],
            inputs=[
                io.Model.Input("model", tooltip="OmniAvatar or OmniAvatar-LS, from Load Student."),
                SpeechSocket.Input(
                    "speech", tooltip="From Encode Speech; short clips only, 81 frames as trained."
                ),
                io.Latent.Input(
                    "source",
                    optional=True,
                    tooltip="For OmniAvatar-LS: the aligned face video at 25 fps, from VAE Encode.",
                ),
                io.Latent.Input(
                    "masked",
                    optional=True,
                    tooltip="For OmniAvatar-LS: the same video with its mouth painted mid grey, from VAE Encode.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="For OmniAvatar-LS: white where the mouth was painted over.",
                ),
                ReferenceSocket.Input(
                    "reference", optional=True, tooltip="For OmniAvatar: the portrait, from Encode Reference."
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="For core's samplers, with this clip's pictures and voice."),
                io.Latent.Output(tooltip="An empty one of the clip's length."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        speech: Speech,
        source: io.Latent.Type | None = None,
        masked: io.Latent.Type | None = None,
        mask: io.Mask.Type | None = None,
        reference: Reference | None = None,
    ) -> io.NodeOutput:
        """Encodes the voice and joins everything to a clone of the MODEL."""
        from .lesson import plan_lesson

        return io.NodeOutput(
            *plan_lesson(model, speech, source=source, masked=masked, mask_BHW=mask, reference=reference)
        )
