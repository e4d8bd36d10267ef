"""The published systems as data: what each needs, how it hears, how it is guided, and its defaults.

Sources: the systems' papers and code, named with each loader in this package. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import replace

from avatar.audio.front_end_settings import SpeechFrontEnd
from avatar.dit.published.preset import BaseModel, Download, GuidanceDefaults, PublishedPreset, ScheduleDefaults

ENGLISH_WAV2VEC2 = Download("facebook/wav2vec2-base-960h", ("config.json", "model.safetensors"), "Apache-2.0")
CHINESE_WAV2VEC2 = Download("TencentGameMate/chinese-wav2vec2-base", ("config.json", "pytorch_model.bin"), "MIT")
FUN_1_3B = BaseModel(
    Download(
        "alibaba-pai/Wan2.1-Fun-V1.1-1.3B-InP", ("config.json", "diffusion_pytorch_model.safetensors"), "Apache-2.0"
    ),
    components=Download(
        "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
        ("tokenizer/**", "text_encoder/**", "image_encoder/**", "vae/**"),
        "Apache-2.0",
    ),
)
FANTASYTALKING = PublishedPreset(
    name="fantasytalking",
    title="FantasyTalking",
    source="Fantasy-AMAP/fantasy-talking@8c2d0c9",
    base=BaseModel(Download("Wan-AI/Wan2.1-I2V-14B-720P-Diffusers", ("**",), "Apache-2.0")),
    adapter=Download("acvlab/FantasyTalking", ("fantasytalking_model.ckpt",), "Apache-2.0"),
    encoder=ENGLISH_WAV2VEC2,
    front_end=SpeechFrontEnd(ENGLISH_WAV2VEC2.repository, "last", at_video_rate=False, fps=23.0),
    guidance=GuidanceDefaults("text_then_audio", text_scale=5.0, audio_scale=5.0),
    schedule=ScheduleDefaults(num_inference_steps=30, shift=5.0),
    max_side_px=512,
)
ECHOMIMIC_PREVIEW = PublishedPreset(
    name="echomimic-v3",
    title="EchoMimicV3 preview",
    source="antgroup/echomimic_v3@7e89489",
    base=FUN_1_3B,
    adapter=Download("BadToBest/EchoMimicV3", ("transformer/diffusion_pytorch_model.safetensors",), "Apache-2.0"),
    encoder=ENGLISH_WAV2VEC2,
    front_end=SpeechFrontEnd(ENGLISH_WAV2VEC2.repository, "last", at_video_rate=False),
    guidance=GuidanceDefaults("text_then_audio", text_scale=4.0, audio_scale=2.9, kind="boosted"),
    schedule=ScheduleDefaults(num_inference_steps=25, shift=5.0),
    chunk_frames=113,
    overlap_frames=8,
    max_side_px=768,
    face_mask=True,
    long_video="chunks",
)
ECHOMIMIC_FLASH = PublishedPreset(
    name="echomimic-v3-flash",
    title="EchoMimicV3 flash",
    source="antgroup/echomimic_v3@7e89489",
    base=FUN_1_3B,
    adapter=Download(
        "BadToBest/EchoMimicV3",
        ("echomimicv3-flash-pro/transformer/diffusion_pytorch_model.safetensors",),
        "Apache-2.0",
    ),
    encoder=CHINESE_WAV2VEC2,
    front_end=SpeechFrontEnd(CHINESE_WAV2VEC2.repository, "stack", at_video_rate=True, loudness_lufs=-23.0),
    guidance=GuidanceDefaults("audio_only", text_scale=1.0, audio_scale=3.0),
    schedule=ScheduleDefaults(num_inference_steps=8, shift=5.0),
    max_side_px=768,
    long_video="chunks",
)
MULTITALK = PublishedPreset(
    name="multitalk",
    title="MultiTalk",
    source="MeiGen-AI/MultiTalk@c1ad840",
    base=BaseModel(Download("Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", ("**",), "Apache-2.0")),
    adapter=Download("MeiGen-AI/MeiGen-MultiTalk", ("multitalk.safetensors",), "Apache-2.0"),
    encoder=CHINESE_WAV2VEC2,
    front_end=SpeechFrontEnd(CHINESE_WAV2VEC2.repository, "stack", at_video_rate=True, loudness_lufs=-23.0),
    guidance=GuidanceDefaults("audio_then_text", text_scale=5.0, audio_scale=4.0),
    schedule=ScheduleDefaults(num_inference_steps=40, shift=7.0, spacing="to_one"),
    overlap_frames=25,
    max_speakers=2,
    long_video="chunks",
)
INFINITETALK = replace(
    MULTITALK,
    name="infinitetalk",
    title="InfiniteTalk",
    source="MeiGen-AI/InfiniteTalk@0107cd9",
    adapter=Download("MeiGen-AI/InfiniteTalk", ("single/infinitetalk.safetensors",), "Apache-2.0"),
    overlap_frames=9,
    whole_chunks=True,
    handover="latents",
    pinned_motion=True,
    front_end=replace(MULTITALK.front_end, after_end="mirrored"),
    colour_match=1.0,
)
INFINITETALK_MULTI = replace(
    INFINITETALK,
    name="infinitetalk-multi",
    title="InfiniteTalk for two speakers",
    adapter=Download("MeiGen-AI/InfiniteTalk", ("multi/infinitetalk.safetensors",), "Apache-2.0"),
)
OMNIAVATAR = PublishedPreset(
    name="omniavatar-14b",
    title="OmniAvatar",
    source="Omni-Avatar/OmniAvatar@1536bf3",
    base=BaseModel(
        Download("Wan-AI/Wan2.1-T2V-14B-Diffusers", ("**",), "Apache-2.0"), image_to_video=False, in_channels=16
    ),
    adapter=Download("OmniAvatar/OmniAvatar-14B", ("pytorch_model.pt", "config.json"), "not stated"),
    encoder=ENGLISH_WAV2VEC2,
    front_end=SpeechFrontEnd(ENGLISH_WAV2VEC2.repository, "all", at_video_rate=True),
    guidance=GuidanceDefaults("text_then_audio", text_scale=4.5, audio_scale=4.5),
    schedule=ScheduleDefaults(num_inference_steps=50, shift=5.0),
    overlap_frames=13,
    long_video="chunks",
)
OMNIAVATAR_1_3B = replace(
    OMNIAVATAR,
    name="omniavatar-1.3b",
    title="OmniAvatar 1.3 B",
    base=replace(OMNIAVATAR.base, download=Download("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", ("**",), "Apache-2.0")),
    adapter=Download("OmniAvatar/OmniAvatar-1.3B", ("pytorch_model.pt", "config.json"), "not stated"),
)
STABLEAVATAR = PublishedPreset(
    name="stableavatar",
    title="StableAvatar",
    source="Francis-Rings/StableAvatar@46c0492",
    base=FUN_1_3B,
    adapter=Download("FrancisRing/StableAvatar", ("StableAvatar-1.3B/transformer3d-square.pt",), "not stated"),
    encoder=ENGLISH_WAV2VEC2,
    front_end=SpeechFrontEnd(ENGLISH_WAV2VEC2.repository, "last", at_video_rate=False),
    guidance=GuidanceDefaults("audio_then_text", text_scale=3.0, audio_scale=5.0),
    schedule=ScheduleDefaults(num_inference_steps=50, shift=5.0),
    overlap_frames=17,
    long_video="windows",
)
PUBLISHED_PRESETS: dict[str, PublishedPreset] = {
    preset.name: preset
    for preset in (
        FANTASYTALKING,
        ECHOMIMIC_PREVIEW,
        ECHOMIMIC_FLASH,
        MULTITALK,
        INFINITETALK,
        INFINITETALK_MULTI,
        OMNIAVATAR,
        OMNIAVATAR_1_3B,
        STABLEAVATAR,
    )
}
