"""Modules as LyCORIS writes them, with their deltas worked out entry by entry in float64, without our code."""

import itertools

import torch

LINEAR = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
KERNEL = "lora_unet_down_blocks_0_resnets_0_conv1"
NORM = "lora_unet_down_blocks_0_resnets_0_norm1"
NAMES = {
    LINEAR: "denoiser.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    KERNEL: "denoiser.down_blocks.0.resnets.0.conv1",
    NORM: "denoiser.down_blocks.0.resnets.0.norm1",
}
OUT, IN, RANK, ALPHA = 12, 8, 3, 2.0


def module(method, *, kernel=False, tucker=False, seed=0, halves="", biased=False):
    """Return the tensors of one module by leaf, and its delta; `halves` says which matrices of LoKr are factored."""
    tensors, delta = _METHODS[method](_drawn(seed), (3, 3) if kernel else (), tucker, halves)
    return ({**tensors, "diff_b": _drawn(seed + 1)(OUT)} if biased else tensors), delta


def _drawn(seed):
    draw = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=draw)


def _side(kernel):
    return kernel[0] * kernel[1] if kernel else 1


def _loha(draw, kernel, tucker, halves):
    if tucker:
        tensors = {f"hada_w{i}_{half}": draw(RANK, OUT if half == "a" else IN) for i in (1, 2) for half in "ab"}
        tensors |= {f"hada_t{i}": draw(RANK, RANK, *kernel) for i in (1, 2)}
        one, two = (_tucker(*(tensors[f"hada_{k}"] for k in (f"w{i}_a", f"t{i}", f"w{i}_b"))) for i in (1, 2))
        delta = one * two
    else:
        wide = IN * _side(kernel)
        tensors = {
            f"hada_w{i}_{half}": draw(*((OUT, RANK) if half == "a" else (RANK, wide))) for i in (1, 2) for half in "ab"
        }
        one, two = (tensors[f"hada_w{i}_a"].double() @ tensors[f"hada_w{i}_b"].double() for i in (1, 2))
        delta = (one * two).reshape(OUT, IN, *kernel)
    return {**tensors, "alpha": torch.tensor(ALPHA)}, ALPHA / RANK * delta


def _lokr(draw, kernel, tucker, halves):
    """OUT = 3 * 4, IN = 2 * 4."""
    (a, c), (b, d), tensors = (3, 4), (2, 4), {}
    if "1" in halves:
        tensors |= {"lokr_w1_a": draw(a, RANK), "lokr_w1_b": draw(RANK, b)}
        first = tensors["lokr_w1_a"].double() @ tensors["lokr_w1_b"].double()
    else:
        tensors["lokr_w1"] = draw(a, b)
        first = tensors["lokr_w1"].double()
    if tucker:
        tensors |= {"lokr_w2_a": draw(RANK, c), "lokr_w2_b": draw(RANK, d), "lokr_t2": draw(RANK, RANK, *kernel)}
        second = _tucker(tensors["lokr_w2_a"], tensors["lokr_t2"], tensors["lokr_w2_b"])
    elif "2" in halves:
        tensors |= {"lokr_w2_a": draw(c, RANK), "lokr_w2_b": draw(RANK, d * _side(kernel))}
        second = (tensors["lokr_w2_a"].double() @ tensors["lokr_w2_b"].double()).reshape(c, d, *kernel)
    else:
        tensors["lokr_w2"] = draw(c, d, *kernel)
        second = tensors["lokr_w2"].double()
    delta = torch.zeros(a * c, b * d, *kernel, dtype=torch.float64)
    for i, j, k, m in itertools.product(range(a), range(b), range(c), range(d)):
        delta[i * c + k, j * d + m] = first[i, j] * second[k, m]
    scale = ALPHA / RANK if len(tensors) > 2 else 1.0  # two whole matrices: alpha says nothing
    return {**tensors, "alpha": torch.tensor(ALPHA)}, scale * delta


def _lora(draw, kernel, tucker, halves):
    ones = (1, 1) if kernel else ()
    inside = ones if tucker else kernel
    tensors = {"lora_down.weight": draw(RANK, IN, *inside), "lora_up.weight": draw(OUT, RANK, *ones)}
    up, down = (tensors[f"lora_{each}.weight"].double().flatten(1) for each in ("up", "down"))
    delta = (up @ down).reshape(OUT, IN, *inside) if not tucker else None
    if tucker:
        tensors["lora_mid.weight"] = draw(RANK, RANK, *kernel)
        delta = _tucker(up.T, tensors["lora_mid.weight"], down)
    return {**tensors, "alpha": torch.tensor(ALPHA)}, ALPHA / RANK * delta


def _full(draw, kernel, tucker, halves):
    diff = draw(OUT, IN, *kernel)
    return {"diff": diff, "diff_b": draw(OUT)}, diff.double()


def _tucker(a, t, b):
    """a [r, out], t [r, r, h, w], b [r, in]: each entry is a sum over both ranks."""
    a, t, b = a.double(), t.double(), b.double()
    result = torch.zeros(a.shape[1], b.shape[1], *t.shape[2:], dtype=torch.float64)
    for i, j in itertools.product(range(t.shape[0]), range(t.shape[1])):
        result += a[i][:, None, None, None] * t[i, j] * b[j][None, :, None, None]
    return result


_METHODS = {"lora": _lora, "loha": _loha, "lokr": _lokr, "full": _full}

CASES = {
    "lora": {"method": "lora"},
    "locon": {"method": "lora", "kernel": True},
    "locon, Tucker": {"method": "lora", "kernel": True, "tucker": True},
    "loha": {"method": "loha"},
    "loha of a kernel": {"method": "loha", "kernel": True},
    "loha of a kernel, Tucker": {"method": "loha", "kernel": True, "tucker": True},
    "lokr": {"method": "lokr"},
    "lokr, second factored": {"method": "lokr", "halves": "2"},
    "lokr, first factored": {"method": "lokr", "halves": "1"},
    "lokr, both factored": {"method": "lokr", "halves": "12"},
    "lokr of a kernel": {"method": "lokr", "kernel": True},
    "lokr of a kernel, factored": {"method": "lokr", "kernel": True, "halves": "2"},
    "lokr of a kernel, Tucker": {"method": "lokr", "kernel": True, "halves": "2", "tucker": True},
    "lora and a bias": {"method": "lora", "biased": True},
    "locon, Tucker, and a bias": {"method": "lora", "kernel": True, "tucker": True, "biased": True},
    "loha of a kernel and a bias": {"method": "loha", "kernel": True, "biased": True},
    "lokr and a bias": {"method": "lokr", "biased": True},
    "full": {"method": "full"},
    "full of a kernel": {"method": "full", "kernel": True},
}


def file_of(case, *, seed=0):
    """Return the tensors of a file of one module, its canonical name and its delta."""
    tensors, delta = module(**CASES[case], seed=seed)
    key = KERNEL if CASES[case].get("kernel") else LINEAR
    return {f"{key}.{leaf}": each for leaf, each in tensors.items()}, NAMES[key], delta
