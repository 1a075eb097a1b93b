"""The student as training sees it: network, speech encoder, and where its loss looks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..networks.audio_pack import pack_vectors
from ..networks.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from ..networks.wan import WanConfig, WanModel
from .attention import trained_attention
from .initialisation import initialise


class TrainableStudent(nn.Module):
    """A network with its own speech encoder, or with none. A student hears a null text; a teacher may read captions."""

    def __init__(
        self,
        network: WanConfig,
        speech: SpeechEncoderConfig | None,
        generator: torch.Generator | None,
        *,
        reads_text: bool = False,
    ) -> None:
        """speech: None for a network that is given another encoder's vectors, as the released ones are.

        generator: of the first weights; None leaves them as they are made, for networks without data (meta).
        reads_text: the weights that only a text reaches start at random and are trained; else they are zeros. The null
        text, one row of zeros, gives the same whatever those weights are.
        """
        super().__init__()
        self.network = WanModel(network)
        self.encoder = nn.Identity() if speech is None else SpeechEncoder(speech)
        if generator is not None:
            self.network.initialize(generator)
            initialise(self.encoder, generator)
        if not reads_text:
            self._leave_text_out()

    @torch.no_grad()
    def _leave_text_out(self) -> None:
        """A null text is one zero row: these weights are never multiplied by anything else."""
        self.network.text_embedding[0].weight.zero_()
        for block in self.network.blocks:
            block.cross_attn.q.weight.zero_()
            block.cross_attn.k.weight.zero_()
        self.network.text_embedding[0].weight.requires_grad_(False)

    def learn_to_hear_alone(self) -> None:
        """Only AudioPack and the layers that add its tokens go on learning."""
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name.startswith(("audio_proj.", "audio_cond_projs.")))

    def features(self, mel_BAM: Tensor) -> Tensor:
        """Mel of a clip from its start, (B, 4 * (4T - 3), bins) -> packed speech features (B, T, V).

        Without a speech encoder vectors of frames (B, 4T - 3, V / 4) are expected instead.
        """
        return pack_vectors(self.encoder(mel_BAM))

    def forward(
        self,
        x_BCTHW: Tensor,
        *,
        timestep_BT: Tensor,
        speech_BTV: Tensor,
        text_BMD: Tensor | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Tensor:
        """Velocity (B, C, T, H, W). The one way in: what shards the weights hangs on this call.

        speech_BTV: of these latents, from ``features``; zeros say nothing. text_BMD: None is the null text. options are
        those of ``wan_forward``.
        """
        return self.network(
            x_BCTHW,
            timestep_BT=timestep_BT,
            text_BMD=self.null_text(x_BCTHW) if text_BMD is None else text_BMD,
            audio_tokens_BTE=self.network.audio_proj(speech_BTV),
            **{"attention": trained_attention, **options},
        )

    def null_text(self, like: Tensor) -> Tensor:
        """(1, 1, text width) of zeros, of the other tensor's type and on its device."""
        return like.new_zeros(1, 1, self.network.config.text_dim)


def make_student(
    network: WanConfig,
    speech: SpeechEncoderConfig | None,
    *,
    seed: int,
    device: torch.device,
    reads_text: bool = False,
) -> TrainableStudent:
    """A student with random weights on a device; on the meta device one that has sizes and no data."""
    if device.type == "meta":
        with device:
            return TrainableStudent(network, speech, None, reads_text=reads_text)
    generator = torch.Generator().manual_seed(seed)
    return TrainableStudent(network, speech, generator, reads_text=reads_text).to(device)


def widen_input(weights: dict[str, Tensor], in_dim: int) -> dict[str, Tensor]:
    """Weights of a TrainableStudent with more input channels: its own first, nothing comes from the others yet."""
    name = "network.patch_embedding.weight"
    own = weights[name]
    wide = own.new_zeros(own.shape[0], in_dim, *own.shape[2:])
    wide[:, : own.shape[1]] = own
    return {**weights, name: wide}


def importance(height: int, width: int, *, mouth: float, eyes: float) -> Tensor:
    """Weights (H, W) of latent positions, mean 1, more where the drawn world keeps mouth and eyes."""
    y = (torch.arange(height) + 0.5) / height
    x = (torch.arange(width) + 0.5) / width
    weight = torch.ones(height, width)
    weight[((y - 0.71).abs() < 0.14)[:, None] & ((x - 0.5).abs() < 0.22)[None]] = mouth
    weight[((y - 0.42).abs() < 0.09)[:, None] & ((x - 0.5).abs() < 0.24)[None]] = eyes
    return weight / weight.mean()
