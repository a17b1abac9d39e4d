"""The words of OpenCLIP for a text encoder, beside those of transformers.

Both name the same layers. OpenCLIP keeps query, key and value of a layer as one tensor, on top of each other in this
order, names the position table and the projection without `.weight`, and multiplies by the projection from the right,
so that its matrix is the transpose of ours. Source: open_clip TextTransformer, torch.nn.MultiheadAttention.
"""

__all__ = ["fused", "names"]

_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_AROUND = {
    "text_model.embeddings.token_embedding": "token_embedding",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
}


def names(layers: int, *, projection: bool) -> dict[str, str]:
    """Return the path of each module or tensor that is one in both, transformers -> OpenCLIP."""
    found = dict(_AROUND)
    for layer in range(layers):
        ours, original = _layer(layer)
        found |= {f"{ours}.{one}": f"{original}.{other}" for one, other in _LAYER.items()}
    return {**found, "text_projection.weight": "text_projection"} if projection else found


def fused(layers: int) -> dict[tuple[str, str], int]:
    """Return which third of an OpenCLIP tensor each projection of transformers is, by (our path, its path)."""
    found = {}
    for layer in range(layers):
        ours, original = _layer(layer)
        for kind in ("weight", "bias"):
            for third, letter in enumerate("qkv"):
                found[f"{ours}.self_attn.{letter}_proj.{kind}", f"{original}.attn.in_proj_{kind}"] = third
    return found


def _layer(number: int) -> tuple[str, str]:
    return f"text_model.encoder.layers.{number}", f"transformer.resblocks.{number}"
