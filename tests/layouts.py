"""Tensor names and axes of published files, written down from their descriptions, without any weights.

They are independent of the networks in this repository: a test that compares the two finds a renamed or
missing tensor.
"""

from __future__ import annotations

Layout = dict[str, tuple[int, ...]]

WAV2VEC2_AUDIO_IN = 4 * 14 * 768  # four video frames of 14 hidden states of wav2vec2-base


def linear(name: str, rows: int, columns: int) -> Layout:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def norm(name: str, width: int) -> Layout:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def attention(name: str, dim: int) -> Layout:
    layout: Layout = {}
    for part in ("q", "k", "v", "o"):
        layout |= linear(f"{name}.{part}", dim, dim)
    return layout | {f"{name}.norm_q.weight": (dim,), f"{name}.norm_k.weight": (dim,)}


def wan(*, dim: int, ffn_dim: int, layers: int, in_dim: int, text_dim: int = 4096) -> Layout:
    """A Wan 2.1 text-to-video network (LiveTalk, section 3.1: "the ordinary Wan names")."""
    layout: Layout = {"patch_embedding.weight": (dim, in_dim, 1, 2, 2), "patch_embedding.bias": (dim,)}
    layout |= linear("text_embedding.0", dim, text_dim) | linear("text_embedding.2", dim, dim)
    layout |= linear("time_embedding.0", dim, 256) | linear("time_embedding.2", dim, dim)
    layout |= linear("time_projection.1", 6 * dim, dim)
    for i in range(layers):
        layout[f"blocks.{i}.modulation"] = (1, 6, dim)
        layout |= attention(f"blocks.{i}.self_attn", dim) | attention(f"blocks.{i}.cross_attn", dim)
        layout |= norm(f"blocks.{i}.norm3", dim)
        layout |= linear(f"blocks.{i}.ffn.0", ffn_dim, dim) | linear(f"blocks.{i}.ffn.2", dim, ffn_dim)
    return layout | {"head.modulation": (1, 2, dim)} | linear("head.head", 64, dim)


def audio_pack(*, dim: int, layers: int, audio_in: int = WAV2VEC2_AUDIO_IN, hidden: int = 32) -> Layout:
    """The audio tensors of an AudioPack student (LiveTalk, section 2.2; Lip Forcing, section 2.2)."""
    layout = linear("audio_proj.proj", hidden, audio_in) | norm("audio_proj.norm_out", hidden)
    for i in range(layers // 2 - 1):
        layout |= linear(f"audio_cond_projs.{i}", dim, hidden)
    return layout


def student(
    *,
    dim: int,
    ffn_dim: int,
    layers: int,
    in_dim: int,
    text_dim: int = 4096,
    audio_in: int = WAV2VEC2_AUDIO_IN,
) -> Layout:
    """A whole AudioPack student."""
    trunk = wan(dim=dim, ffn_dim=ffn_dim, layers=layers, in_dim=in_dim, text_dim=text_dim)
    return trunk | audio_pack(dim=dim, layers=layers, audio_in=audio_in)


def livetalk(*, in_dim: int = 33) -> Layout:
    """LiveTalk 1.3B, 857 tensors; with 65 channels the layout of Lip Forcing 1.3B."""
    return student(dim=1536, ffn_dim=8960, layers=30, in_dim=in_dim)


def lip_forcing(*, in_dim: int = 65) -> Layout:
    """Lip Forcing 14B, 1137 tensors; with 33 channels the layout of the 14B OmniAvatar."""
    return student(dim=5120, ffn_dim=13824, layers=40, in_dim=in_dim)


def multitalk_audio(*, dim: int = 5120, layers: int = 40) -> Layout:
    """The 330 audio tensors of InfiniteTalk, a complement to Wan's image-to-video network."""
    layout = linear("audio_proj.proj1", 512, 46080) | linear("audio_proj.proj1_vf", 512, 73728)
    layout |= linear("audio_proj.proj2", 512, 512) | linear("audio_proj.proj3", 24576, 512)
    layout |= norm("audio_proj.norm", 768)
    for i in range(layers):
        layout |= linear(f"blocks.{i}.audio_cross_attn.q_linear", dim, dim)
        layout |= linear(f"blocks.{i}.audio_cross_attn.kv_linear", 2 * dim, 768)
        layout |= linear(f"blocks.{i}.audio_cross_attn.proj", dim, dim) | norm(f"blocks.{i}.norm_x", dim)
    return layout


def image_to_video(*, dim: int = 5120, ffn_dim: int = 13824, layers: int = 40) -> Layout:
    """Wan 2.1 I2V 14B: 36 channels and a CLIP branch, 1303 tensors."""
    layout = wan(dim=dim, ffn_dim=ffn_dim, layers=layers, in_dim=36)
    layout |= norm("img_emb.proj.0", 1280) | linear("img_emb.proj.1", 1280, 1280)
    layout |= linear("img_emb.proj.3", dim, 1280) | norm("img_emb.proj.4", dim)
    for i in range(layers):
        layout |= linear(f"blocks.{i}.cross_attn.k_img", dim, dim)
        layout |= linear(f"blocks.{i}.cross_attn.v_img", dim, dim)
        layout[f"blocks.{i}.cross_attn.norm_k_img.weight"] = (dim,)
    return layout


def lora(*, dim: int = 5120, layers: int = 40, rank: int = 32, infix: str = "") -> Layout:
    """LoRA matrices on the attention of a Wan network, as trainers save them."""
    layout: Layout = {}
    for i in range(layers):
        for part in ("q", "k", "v", "o"):
            name = f"blocks.{i}.self_attn.{part}"
            layout[f"{name}.lora_A{infix}.weight"] = (rank, dim)
            layout[f"{name}.lora_B{infix}.weight"] = (dim, rank)
    return layout


def conv(name: str, rows: int, columns: int, *kernel: int) -> Layout:
    return {f"{name}.weight": (rows, columns, *kernel), f"{name}.bias": (rows,)}


def vae_residual(name: str, inner: int, outer: int) -> Layout:
    layout: Layout = {
        f"{name}.residual.0.gamma": (inner, 1, 1, 1),
        f"{name}.residual.3.gamma": (outer, 1, 1, 1),
    }
    layout |= conv(f"{name}.residual.2", outer, inner, 3, 3, 3) | conv(
        f"{name}.residual.6", outer, outer, 3, 3, 3
    )
    return layout if inner == outer else layout | conv(f"{name}.shortcut", outer, inner, 1, 1, 1)


def vae_middle(name: str, width: int) -> Layout:
    layout = vae_residual(f"{name}.0", width, width) | vae_residual(f"{name}.2", width, width)
    layout |= {f"{name}.1.norm.gamma": (width, 1, 1)}
    return (
        layout | conv(f"{name}.1.to_qkv", 3 * width, width, 1, 1) | conv(f"{name}.1.proj", width, width, 1, 1)
    )


def vae_encoder(dim: int, channels: int) -> Layout:
    layout = conv("encoder.conv1", dim, 3, 3, 3, 3)
    index, inner = 0, dim
    for stage, outer in enumerate((dim, 2 * dim, 4 * dim, 4 * dim)):
        for width in (inner, outer):
            layout |= vae_residual(f"encoder.downsamples.{index}", width, outer)
            index += 1
        if stage < 3:
            layout |= conv(f"encoder.downsamples.{index}.resample.1", outer, outer, 3, 3)
            if stage > 0:
                layout |= conv(f"encoder.downsamples.{index}.time_conv", outer, outer, 3, 1, 1)
            index += 1
        inner = outer
    layout |= vae_middle("encoder.middle", inner) | {"encoder.head.0.gamma": (inner, 1, 1, 1)}
    return layout | conv("encoder.head.2", 2 * channels, inner, 3, 3, 3)


def vae_decoder(dim: int, channels: int) -> Layout:
    layout = conv("decoder.conv1", 4 * dim, channels, 3, 3, 3) | vae_middle("decoder.middle", 4 * dim)
    index, inner = 0, 4 * dim
    for stage, outer in enumerate((4 * dim, 4 * dim, 2 * dim, dim)):
        for width in (inner, outer, outer):
            layout |= vae_residual(f"decoder.upsamples.{index}", width, outer)
            index += 1
        if stage < 3:
            layout |= conv(f"decoder.upsamples.{index}.resample.1", outer // 2, outer, 3, 3)
            if stage < 2:
                layout |= conv(f"decoder.upsamples.{index}.time_conv", 2 * outer, outer, 3, 1, 1)
            index += 1
        inner = outer // 2
    return layout | {"decoder.head.0.gamma": (dim, 1, 1, 1)} | conv("decoder.head.2", 3, dim, 3, 3, 3)


def wan_vae(*, dim: int = 96, channels: int = 16) -> Layout:
    """The Wan 2.1 VAE, 194 tensors; dim 96 is the published width."""
    layout = vae_encoder(dim, channels) | vae_decoder(dim, channels)
    layout |= conv("conv1", 2 * channels, 2 * channels, 1, 1, 1)
    return layout | conv("conv2", channels, channels, 1, 1, 1)


def wav2vec2_base() -> Layout:
    """facebook/wav2vec2-base-960h without its word head, in the names of Hugging Face, 211 tensors."""
    layout: Layout = {
        "masked_spec_embed": (768,),
        "feature_extractor.conv_layers.0.conv.weight": (512, 1, 10),
    }
    layout |= norm("feature_extractor.conv_layers.0.layer_norm", 512)
    for i, kernel in enumerate((3, 3, 3, 3, 2, 2), start=1):
        layout[f"feature_extractor.conv_layers.{i}.conv.weight"] = (512, 512, kernel)
    layout |= norm("feature_projection.layer_norm", 512) | linear("feature_projection.projection", 768, 512)
    layout["encoder.pos_conv_embed.conv.bias"] = (768,)
    layout["encoder.pos_conv_embed.conv.parametrizations.weight.original0"] = (1, 1, 128)
    layout["encoder.pos_conv_embed.conv.parametrizations.weight.original1"] = (768, 48, 128)
    layout |= norm("encoder.layer_norm", 768)
    for i in range(12):
        name = f"encoder.layers.{i}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            layout |= linear(f"{name}.attention.{part}", 768, 768)
        layout |= norm(f"{name}.layer_norm", 768) | norm(f"{name}.final_layer_norm", 768)
        layout |= linear(f"{name}.feed_forward.intermediate_dense", 3072, 768)
        layout |= linear(f"{name}.feed_forward.output_dense", 768, 3072)
    return layout


def t5_encoder(*, layers: int = 24) -> Layout:
    """A UMT5-XXL encoder in the names that ComfyUI's files have."""
    layout: Layout = {"shared.weight": (256384, 4096), "encoder.final_layer_norm.weight": (4096,)}
    for i in range(layers):
        name = f"encoder.block.{i}.layer"
        for part in ("q", "k", "v", "o"):
            layout[f"{name}.0.SelfAttention.{part}.weight"] = (4096, 4096)
        layout[f"{name}.1.DenseReluDense.wi_0.weight"] = (10240, 4096)
        layout[f"{name}.1.DenseReluDense.wi_1.weight"] = (10240, 4096)
        layout[f"{name}.1.DenseReluDense.wo.weight"] = (4096, 10240)
    return layout
