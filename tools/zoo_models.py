"""zoo_models.py - the models of tools/zoo.py: configurations of real model code, and their export.

Tiny, with no two sizes of a model alike by accident: 4 heads of 12, 80 channels, 3 labels. Beside each stand the heads
and FFN channels a layer that pare has to find.
"""
import contextlib
import io
import logging
import warnings

MODELS = {}  # name -> (build, heads a layer, FFN channels a layer)


def model(name, heads, ffn):
    def add(build):
        MODELS[name] = (build, heads, ffn)
        return build
    return add


TEXT = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80, vocab_size=101,
            max_position_embeddings=70)
IMAGE = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80, image_size=30,
             patch_size=6)
TWO = ([4, 4], [80, 80])


def ids(*names):
    """Token inputs of a batch of 2 and 9 tokens."""
    import torch
    g = torch.Generator().manual_seed(1)
    make = {"input_ids": lambda: torch.randint(1, 16, (2, 9), generator=g),
            "attention_mask": lambda: torch.cat([torch.ones(2, 7), torch.zeros(2, 2)], 1).long(),
            "token_type_ids": lambda: torch.zeros(2, 9).long(),
            "decoder_input_ids": lambda: torch.randint(1, 16, (2, 9), generator=g)}
    return {n: make[n]() for n in names}


def pixels(size=30, channels=3):
    import torch
    return {"pixel_values": torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))}


def hf(cls, config, **fields):
    import transformers
    return getattr(transformers, cls)(getattr(transformers, config)(**fields))


MASKED = ("input_ids", "attention_mask")


@model("bert", *TWO)
def bert():
    return hf("BertForSequenceClassification", "BertConfig", num_labels=3, **TEXT), ids(*MASKED, "token_type_ids")


@model("bert-relative", *TWO)
def bert_relative():
    return hf("BertModel", "BertConfig", position_embedding_type="relative_key_query", **TEXT), ids(*MASKED)


@model("roberta", *TWO)
def roberta():
    return hf("RobertaForTokenClassification", "RobertaConfig", num_labels=3, **TEXT), ids(*MASKED)


@model("distilbert", *TWO)
def distilbert():
    return hf("DistilBertForSequenceClassification", "DistilBertConfig", dim=48, n_layers=2, n_heads=4, hidden_dim=80,
              vocab_size=101, max_position_embeddings=70, num_labels=3), ids(*MASKED)


@model("albert-shared", [4], [80])
def albert():
    return hf("AlbertForSequenceClassification", "AlbertConfig", num_labels=3, embedding_size=20, **TEXT), ids(*MASKED)


@model("electra", *TWO)
def electra():
    return hf("ElectraForPreTraining", "ElectraConfig", embedding_size=20, **TEXT), ids(*MASKED)


@model("mpnet", *TWO)
def mpnet():
    return hf("MPNetForSequenceClassification", "MPNetConfig", num_labels=3, **TEXT), ids(*MASKED)


@model("deberta-v2", *TWO)
def deberta():
    return hf("DebertaV2ForSequenceClassification", "DebertaV2Config", num_labels=3, relative_attention=True,
              position_buckets=8, norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type=["p2c", "c2p"],
              position_biased_input=False, type_vocab_size=0, **TEXT), ids(*MASKED)


@model("deberta", *TWO)
def deberta_v1():
    return hf("DebertaModel", "DebertaConfig", relative_attention=True, pos_att_type=["p2c", "c2p"],
              position_biased_input=False, type_vocab_size=0, **TEXT), ids(*MASKED)


@model("mobilebert", [4, 4], [80] * 4)
def mobilebert():
    return hf("MobileBertForSequenceClassification", "MobileBertConfig", num_labels=3, embedding_size=20,
              intra_bottleneck_size=36, num_feedforward_networks=2, true_hidden_size=36, **TEXT), ids(*MASKED)


@model("squeezebert", *TWO)
def squeezebert():
    return hf("SqueezeBertModel", "SqueezeBertConfig", embedding_size=48, q_groups=1, k_groups=1, v_groups=1,
              post_attention_groups=1, intermediate_groups=1, output_groups=1, **TEXT), ids(*MASKED)


@model("roformer", *TWO)
def roformer():
    return hf("RoFormerModel", "RoFormerConfig", embedding_size=48, **TEXT), ids(*MASKED)


@model("convbert", [2, 2], [80, 80])
def convbert():
    return hf("ConvBertModel", "ConvBertConfig", embedding_size=20, head_ratio=2, conv_kernel_size=3,
              **TEXT), ids(*MASKED)


@model("xlnet", *TWO)
def xlnet():
    return hf("XLNetModel", "XLNetConfig", d_model=48, n_layer=2, n_head=4, d_inner=80, vocab_size=101, mem_len=None,
              use_mems_eval=False), ids(*MASKED)


@model("funnel", [4] * 4, [80] * 4)
def funnel():
    return hf("FunnelBaseModel", "FunnelConfig", vocab_size=101, block_sizes=[2, 2], n_head=4, d_head=12, d_model=48,
              d_inner=80, max_position_embeddings=70), ids(*MASKED)


@model("torch-encoder", *TWO)
def torch_encoder():
    """nn.TransformerEncoder: packed q, k, v as the module stores them."""
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            layer = torch.nn.TransformerEncoderLayer(48, 4, 80, batch_first=True, norm_first=True)
            self.embed = torch.nn.Embedding(101, 48)
            self.body = torch.nn.TransformerEncoder(layer, 2)
            self.head = torch.nn.Linear(48, 3)

        def forward(self, input_ids):
            with torch.enable_grad():  # the fused fast path has no ONNX form
                return self.head(self.body(self.embed(input_ids)).mean(1))
    return Encoder(), ids("input_ids")


T5 = dict(vocab_size=101, d_model=48, d_kv=10, d_ff=80, num_layers=2, num_heads=4, decoder_start_token_id=0)


@model("t5-encoder", *TWO)
def t5_encoder():
    return hf("T5EncoderModel", "T5Config", feed_forward_proj="relu", **T5), ids(*MASKED)


@model("t5-gated", *TWO)
def t5_gated():
    return hf("T5EncoderModel", "T5Config", feed_forward_proj="gated-gelu", **T5), ids(*MASKED)


@model("t5-both", [4] * 6, [80] * 4)
def t5_both():
    return hf("T5Model", "T5Config", use_cache=False, **T5), ids(*MASKED, "decoder_input_ids")


@model("bart", [4] * 6, [80] * 4)
def bart():
    return hf("BartModel", "BartConfig", vocab_size=101, d_model=48, encoder_layers=2, decoder_layers=2,
              encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=80, decoder_ffn_dim=80,
              max_position_embeddings=70, use_cache=False), ids(*MASKED, "decoder_input_ids")


# decoders

@model("gpt2", *TWO)
def gpt2():
    return hf("GPT2LMHeadModel", "GPT2Config", n_embd=48, n_layer=2, n_head=4, n_inner=80, vocab_size=101,
              n_positions=70, use_cache=False), ids(*MASKED)


@model("gptj", *TWO)
def gptj():
    return hf("GPTJModel", "GPTJConfig", n_embd=48, n_layer=2, n_head=4, n_inner=80, rotary_dim=6, vocab_size=101,
              n_positions=70, use_cache=False), ids(*MASKED)


@model("codegen", [4, 4], [80, 80])
def codegen():
    return hf("CodeGenModel", "CodeGenConfig", n_embd=48, n_layer=2, n_head=4, n_inner=80, rotary_dim=6,
              vocab_size=101, n_positions=70, use_cache=False), ids(*MASKED)


@model("opt", *TWO)
def opt():
    return hf("OPTForCausalLM", "OPTConfig", hidden_size=48, num_hidden_layers=2, num_attention_heads=4, ffn_dim=80,
              vocab_size=101, max_position_embeddings=70, word_embed_proj_dim=20, use_cache=False), ids(*MASKED)


@model("gpt-neox", *TWO)
def gpt_neox():
    return hf("GPTNeoXForCausalLM", "GPTNeoXConfig", rotary_pct=0.5, use_cache=False, **TEXT), ids(*MASKED)


@model("bloom", *TWO[:1], [192, 192])
def bloom():
    return hf("BloomForCausalLM", "BloomConfig", vocab_size=101, hidden_size=48, n_layer=2, n_head=4,
              use_cache=False), ids(*MASKED)


@model("llama", *TWO)
def llama():
    return hf("LlamaForCausalLM", "LlamaConfig", use_cache=False, **TEXT), ids(*MASKED)


@model("llama-gqa", [2, 2], [80, 80])
def llama_gqa():
    """Grouped-query attention, k and v repeated by expand: groups go whole."""
    import torch
    m = hf("LlamaForCausalLM", "LlamaConfig", use_cache=False, **TEXT)
    from transformers.models.llama import modeling_llama as code

    class Grouped(torch.nn.Module):
        def __init__(self, old):
            super().__init__()
            self.q, self.o, self.rope = old.q_proj, old.o_proj, old.rotary_emb
            self.k, self.v = torch.nn.Linear(48, 24, bias=False), torch.nn.Linear(48, 24, bias=False)

        def forward(self, hidden_states, attention_mask=None, position_ids=None, **_):
            b, n, _ = hidden_states.shape
            q = self.q(hidden_states).view(b, n, 4, 12).transpose(1, 2)
            k = self.k(hidden_states).view(b, n, 2, 12).transpose(1, 2)
            v = self.v(hidden_states).view(b, n, 2, 12).transpose(1, 2)
            cos, sin = self.rope(v, seq_len=n)
            q, k = code.apply_rotary_pos_emb(q, k, cos, sin, position_ids)
            k, v = (x[:, :, None].expand(b, 2, 2, n, 12).reshape(b, 4, n, 12) for x in (k, v))
            w = torch.softmax(q @ k.transpose(2, 3) / 12 ** 0.5 + attention_mask, -1)
            return self.o((w @ v).transpose(1, 2).reshape(b, n, 48)), None, None
    for layer in m.model.layers:
        layer.self_attn = Grouped(layer.self_attn)
    return m, ids(*MASKED)


@model("llama-cache", [], [80, 80])
def llama_cache():
    """Past keys and values are inputs: their heads are the caller's, and must stay."""
    import torch
    inner = hf("LlamaForCausalLM", "LlamaConfig", use_cache=True, **TEXT)

    class Step(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, input_ids, attention_mask, k0, v0, k1, v1):
            out = self.inner(input_ids=input_ids, attention_mask=attention_mask, past_key_values=((k0, v0), (k1, v1)))
            return (out.logits, *(x for pair in out.past_key_values for x in pair))
    past = {n: torch.randn(2, 4, 5, 12) for n in ("past_k0", "past_v0", "past_k1", "past_v1")}
    return Step(), {"input_ids": ids("input_ids")["input_ids"], "attention_mask": torch.ones(2, 14).long(), **past}


# images and sound

@model("vit", *TWO)
def vit():
    return hf("ViTForImageClassification", "ViTConfig", num_labels=3, **IMAGE), pixels()


@model("deit", *TWO)
def deit():
    return hf("DeiTForImageClassificationWithTeacher", "DeiTConfig", num_labels=3, **IMAGE), pixels()


@model("beit", *TWO)
def beit():
    return hf("BeitForImageClassification", "BeitConfig", num_labels=3, use_relative_position_bias=True,
              **IMAGE), pixels()


@model("beit-shared-bias", *TWO)
def beit_shared():
    return hf("BeitModel", "BeitConfig", use_shared_relative_position_bias=True, **IMAGE), pixels()


@model("yolos", *TWO)
def yolos():
    return hf("YolosModel", "YolosConfig", **{**IMAGE, "image_size": [30, 30]}, num_detection_tokens=7), pixels()


SWIN = dict(image_size=32, patch_size=2, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4, mlp_ratio=3.0)


@model("swin", [2, 2, 4, 4], [72, 72, 144, 144])
def swin():
    return hf("SwinForImageClassification", "SwinConfig", num_labels=3, **SWIN), pixels(32)


@model("swin-v2", [2, 2, 4, 4], [72, 72, 144, 144])
def swin_v2():
    return hf("Swinv2ForImageClassification", "Swinv2Config", num_labels=3, **SWIN), pixels(32)


@model("cvt", [2, 2, 4, 4], [72, 72, 144, 144])
def cvt():
    return hf("CvtForImageClassification", "CvtConfig", num_labels=3, patch_sizes=[7, 3], patch_stride=[4, 2],
              patch_padding=[2, 1], embed_dim=[24, 48], num_heads=[2, 4], depth=[2, 2], mlp_ratio=[3.0, 3.0],
              attention_drop_rate=[0.0, 0.0], drop_rate=[0.0, 0.0], drop_path_rate=[0.0, 0.0], qkv_bias=[True, True],
              cls_token=[False, True], qkv_projection_method=["dw_bn", "dw_bn"], kernel_qkv=[3, 3],
              padding_kv=[1, 1], stride_kv=[2, 2], padding_q=[1, 1], stride_q=[1, 1]), pixels(32)


@model("segformer", [2, 2], [72, 72, 144, 144])
def segformer():
    return hf("SegformerForImageClassification", "SegformerConfig", num_labels=3, num_encoder_blocks=2, depths=[2, 2],
              sr_ratios=[4, 2], hidden_sizes=[24, 48], patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2],
              mlp_ratios=[3, 3], decoder_hidden_size=36), pixels(32)


@model("levit", [2, 2, 3, 3, 4, 5, 5], [])
def levit():
    return hf("LevitForImageClassification", "LevitConfig", num_labels=3, image_size=64, hidden_sizes=[24, 36, 60],
              num_attention_heads=[2, 3, 5], depths=[2, 2, 2], key_dim=[6, 6, 6], mlp_ratio=[2, 2, 2],
              attention_ratio=[2, 2, 2], down_ops=[["Subsample", 6, 4, 4, 2, 2], ["Subsample", 6, 6, 4, 2, 2]]
              ), pixels(64)


@model("mobilevit", [4] * 9, [48] * 2 + [72] * 4 + [96] * 3)
def mobilevit():
    return hf("MobileViTForImageClassification", "MobileViTConfig", num_labels=3, image_size=64,
              hidden_sizes=[24, 36, 48], neck_hidden_sizes=[8, 12, 16, 20, 28, 36, 44], mlp_ratio=2.0), pixels(64)


@model("dpt", *TWO)
def dpt():
    return hf("DPTModel", "DPTConfig", **IMAGE, backbone_out_indices=[0, 1], is_hybrid=False), pixels()


CLIP_TEXT = {**TEXT, "hidden_size": 36, "num_attention_heads": 3, "intermediate_size": 66}


@model("clip", [3, 3, 4, 4], [66, 66, 80, 80])
def clip():
    import torch
    from transformers import CLIPConfig, CLIPModel
    inner = CLIPModel(CLIPConfig(text_config=CLIP_TEXT, vision_config=IMAGE, projection_dim=28))

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, input_ids, pixel_values, attention_mask):
            out = self.inner(input_ids, pixel_values, attention_mask)
            return out.logits_per_image, out.text_embeds, out.image_embeds
    i = ids(*MASKED)
    return Both(), {"input_ids": i["input_ids"], **pixels(), "attention_mask": i["attention_mask"]}


@model("clip-text", [3, 3], [66, 66])
def clip_text():
    return hf("CLIPTextModelWithProjection", "CLIPTextConfig", projection_dim=28, **CLIP_TEXT), ids(*MASKED)


@model("clip-vision", *TWO)
def clip_vision():
    return hf("CLIPVisionModelWithProjection", "CLIPVisionConfig", projection_dim=28, **IMAGE), pixels()


@model("whisper-encoder", *TWO)
def whisper():
    import torch
    m = hf("WhisperModel", "WhisperConfig", vocab_size=101, num_mel_bins=16, d_model=48, encoder_layers=2,
           decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=80,
           decoder_ffn_dim=80, max_source_positions=25, max_target_positions=30, pad_token_id=0, bos_token_id=1,
           eos_token_id=2, decoder_start_token_id=3, suppress_tokens=[], begin_suppress_tokens=[]).encoder
    return m, {"input_features": torch.randn(2, 16, 50)}


@model("wav2vec2", *TWO)
def wav2vec2():
    import torch
    m = hf("Wav2Vec2ForCTC", "Wav2Vec2Config", **{**TEXT, "vocab_size": 11}, conv_dim=(20, 20), conv_kernel=(5, 3),
           conv_stride=(3, 2), num_feat_extract_layers=2, num_conv_pos_embeddings=5, num_conv_pos_embedding_groups=2)
    return m, {"input_values": torch.randn(2, 200)}


@model("ast", *TWO)
def ast():
    import torch
    m = hf("ASTForAudioClassification", "ASTConfig", num_labels=3, max_length=40, num_mel_bins=16,
           frequency_stride=5, time_stride=5, **{**IMAGE, "patch_size": 6})
    return m, {"input_values": torch.randn(2, 40, 16)}


def timm(name, size=32, **args):
    import timm as lib
    return lib.create_model(name, pretrained=False, num_classes=3, **args), pixels(size)


TIMM = dict(embed_dim=48, depth=2, num_heads=4, patch_size=6, img_size=30)


@model("timm-vit", [4, 4], [144, 144])
def timm_vit():
    return timm("vit_tiny_patch16_224", 30, mlp_ratio=3, qk_norm=True, init_values=1e-2, **TIMM)


@model("timm-vit-gap-swiglu", [4, 4], [72, 72])
def timm_swiglu():
    from timm.layers import SwiGLUPacked
    return timm("vit_tiny_patch16_224", 30, mlp_ratio=3, mlp_layer=SwiGLUPacked, global_pool="avg", class_token=False,
                **TIMM)


@model("timm-vit-parallel", [4, 4], [144, 144])
def timm_parallel():
    from timm.models.vision_transformer import ParallelScalingBlock
    return timm("vit_tiny_patch16_224", 30, mlp_ratio=3, block_fn=ParallelScalingBlock, **TIMM)


@model("timm-vit-map", [4, 4, 4], [144, 144, 144])
def timm_map():
    """Pooling by attention with one learned query."""
    return timm("vit_tiny_patch16_224", 30, mlp_ratio=3, global_pool="map", class_token=False, **TIMM)


@model("timm-deit", [4, 4], [144, 144])
def timm_deit():
    return timm("deit_tiny_distilled_patch16_224", 30, mlp_ratio=3, **TIMM)


@model("timm-beit", [4, 4], [144, 144])
def timm_beit():
    return timm("beit_base_patch16_224", 30, mlp_ratio=3, **TIMM)


@model("timm-eva02", [4, 4], [96, 96])
def timm_eva():
    return timm("eva02_tiny_patch14_224", 30, mlp_ratio=2, **TIMM)


@model("timm-swin", [2, 2, 4, 4], [72, 72, 144, 144])
def timm_swin():
    return timm("swin_tiny_patch4_window7_224", embed_dim=24, depths=(2, 2), num_heads=(2, 4), patch_size=2,
                window_size=4, mlp_ratio=3, img_size=32)


@model("timm-swinv2", [2, 2, 4, 4], [72, 72, 144, 144])
def timm_swinv2():
    return timm("swinv2_tiny_window8_256", embed_dim=24, depths=(2, 2), num_heads=(2, 4), patch_size=2, window_size=4,
                mlp_ratio=3, img_size=32)


@model("timm-pvt-v2", [2, 2, 3, 3, 4, 4], [48, 48, 96, 96, 144, 144, 192, 192])
def timm_pvt():
    return timm("pvt_v2_b0", 64, depths=(2, 2, 2, 2), embed_dims=(12, 24, 36, 48), num_heads=(1, 2, 3, 4),
                mlp_ratios=(4, 4, 4, 4))


@model("timm-cait", [4, 4, 4], [144, 144, 192])
def timm_cait():
    """Talking heads: products mix the heads before and after softmax."""
    return timm("cait_xxs24_224", 30, mlp_ratio=3, depth_token_only=1, **TIMM)


@model("timm-xcit", [4, 4, 4], [144, 144, 144])
def timm_xcit():
    return timm("xcit_nano_12_p8_224", 32, embed_dim=48, depth=2, num_heads=4, patch_size=8, img_size=32, mlp_ratio=3,
                cls_attn_layers=1)


@model("timm-twins", [2, 2, 4, 4], [72, 72, 144, 144])
def timm_twins():
    return timm("twins_svt_small", 32, patch_size=2, embed_dims=(24, 48), num_heads=(2, 4), mlp_ratios=(3, 3),
                depths=(2, 2), sr_ratios=(4, 2), wss=(4, 4), img_size=32)


@model("timm-coat", [4] * 8, [])
def timm_coat():
    return timm("coat_lite_tiny", 64, img_size=64, embed_dims=(24, 36, 48, 60), serial_depths=(2, 2, 2, 2),
                mlp_ratios=(3, 3, 3, 3), num_heads=4, crpe_window={3: 1, 5: 1, 7: 2})


@model("timm-crossvit", None, None)
def timm_crossvit():
    return timm("crossvit_tiny_240", 48, img_size=48, img_scale=(1.0, 1.0), patch_size=(6, 8), embed_dim=(24, 48),
                depth=((1, 2, 0),), num_heads=(2, 4), mlp_ratio=(3, 3, 1))


@model("timm-maxvit", None, None)
def timm_maxvit():
    return timm("maxvit_tiny_rw_224", 64, embed_dim=(32, 64), depths=(1, 1), img_size=64, stem_width=16)


@model("timm-mixer", [], None)
def timm_mixer():
    from timm.models.mlp_mixer import MlpMixer
    return MlpMixer(num_classes=3, img_size=30, patch_size=6, num_blocks=2, embed_dim=48), pixels()


@model("timm-convit", [4, 4], [576, 576])
def timm_convit():
    return timm("convit_tiny", 30, img_size=30, patch_size=6, embed_dim=48, depth=2, num_heads=4, mlp_ratio=3,
                local_up_to_layer=1)


@model("timm-davit", None, None)
def timm_davit():
    return timm("davit_tiny", 64, depths=(1, 1, 1), embed_dims=(24, 36, 48), num_heads=(2, 3, 4), window_size=4,
                mlp_ratio=3)


@model("timm-pit", [2, 4], [72, 144])
def timm_pit():
    return timm("pit_ti_distilled_224", 30, img_size=30, patch_size=6, stride=4, base_dims=(12, 12), depth=(1, 1),
                heads=(2, 4), mlp_ratio=3)


@model("timm-visformer", None, None)
def timm_visformer():
    return timm("visformer_tiny", 64, img_size=64, init_channels=8, embed_dim=48, depth=(1, 1, 1), num_heads=4)


@model("timm-mvitv2", None, None)
def timm_mvit():
    from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg
    cfg = MultiScaleVitCfg(depths=(1, 1), embed_dim=(24, 48), num_heads=(1, 2), mlp_ratio=3.0)
    return MultiScaleVit(cfg, img_size=(64, 64), num_classes=3), pixels(64)


@model("timm-efficientvit", None, None)
def timm_efficientvit():
    return timm("efficientvit_m0", 64, img_size=64, embed_dim=(32, 48, 64), key_dim=(8, 8, 8), depth=(1, 1, 1),
                num_heads=(2, 3, 4))


@model("timm-volo", None, None)
def timm_volo():
    from timm.models.volo import VOLO
    return VOLO(layers=(1, 1), img_size=32, num_classes=3, embed_dims=(24, 48), num_heads=(2, 4), mlp_ratio=3,
                downsamples=(True, False), outlook_attention=(True, False), patch_size=4,
                stem_hidden_dim=16), pixels(32)


@model("timm-tnt", None, None)
def timm_tnt():
    from timm.models.tnt import TNT
    return TNT(img_size=32, patch_size=16, num_classes=3, embed_dim=48, inner_dim=24, depth=2, num_heads_inner=2,
               num_heads_outer=4), pixels(32)


@model("timm-nest", None, None)
def timm_nest():
    from timm.models.nest import Nest
    return Nest(img_size=32, patch_size=2, num_classes=3, num_levels=2, embed_dims=(24, 48), num_heads=(2, 4),
                depths=(2, 2), mlp_ratio=3.0), pixels(32)


@model("timm-gcvit", None, None)
def timm_gcvit():
    from timm.models.gcvit import GlobalContextVit
    return GlobalContextVit(num_classes=3, img_size=(64, 64), window_size=(4, 4), embed_dim=24, depths=(1, 1),
                            num_heads=(2, 4)), pixels(64)


# --- exporting ---

FORMS = {  # opset, folding, which axes are dynamic
    "op17": (17, True, "all"),
    "op11-nofold": (11, False, "all"),
    "op13-static": (13, True, "none"),
}
AXIS = {"input_ids": ("batch", "seq"), "attention_mask": ("batch", "seq"), "token_type_ids": ("batch", "seq"),
        "decoder_input_ids": ("batch", "target"), "input_values": ("batch",), "pixel_values": ("batch",),
        "input_features": ("batch",)}


def dynamic_axes(inputs):
    axes = {}
    for name in inputs:
        names = ("batch", None, "past") if name.startswith("past") else AXIS[name]
        if name == "attention_mask" and any(n.startswith("past") for n in inputs):
            names = ("batch", "total")
        axes[name] = {d: n for d, n in enumerate(names) if n}
    return axes


def wrap(module, names):
    """Keyword inputs in the order of the names, results as plain tensors."""
    import torch

    def tensors(x):
        if isinstance(x, torch.Tensor):
            return [x]
        if hasattr(x, "to_tuple"):
            x = x.to_tuple()
        return [t for y in x for t in tensors(y)] if isinstance(x, (tuple, list)) else []

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, *args):
            if hasattr(module, "config"):
                return tuple(tensors(self.inner(**dict(zip(names, args)))))
            return tuple(tensors(self.inner(*args)))
    return Plain().eval()


def randomise(module):
    """Weights large enough that every part of the model shows in its results."""
    import torch
    g = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=g)
            p.copy_(p + 0.1 * noise if p.dim() < 2 else noise / max(1, p[0].numel()) ** 0.5)


def export(name, out):
    import torch
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    torch.manual_seed(0)
    module, inputs = MODELS[name][0]()
    randomise(module)
    module.requires_grad_(False)
    plain = wrap(module, list(inputs))
    for form, (opset, fold, dynamic) in FORMS.items():
        path = out / f"{name}.{form}.onnx"
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                torch.onnx.export(plain, tuple(inputs.values()), str(path), opset_version=opset,
                                  do_constant_folding=fold, input_names=list(inputs),
                                  dynamic_axes=dynamic_axes(inputs) if dynamic == "all" else None)
            print(f"{path.name}: exported")
        except Exception as e:
            path.unlink(missing_ok=True)
            print(f"{path.name}: not exported: {str(e).splitlines()[0][:110]}")
